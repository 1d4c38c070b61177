"""Who holds what: the ring of all members' tokens, and for each way of replicating the nodes behind each position.

A ``Ring`` is made anew from the members whenever these change and never changes itself, so whoever holds one sees
one state of the cluster. Its ``placement`` for a keyspace's replication is computed when first asked for and kept;
keyspaces that replicate alike share one. A ``Placement`` answers in one bisection which nodes hold a position, and
lists the ranges of positions in order for scans, repair and streaming. Ranges with the same nodes in the same order
share one ``ReplicaSet``, so that callers can compare and remember sets by identity.

A ring has one range of positions more than it has tokens: the token range that wraps around is cut in two, at the
first and at the last position. (Only a token that is the greatest number of all leaves nothing to cut.)
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from ourodb import limits
from ourodb.cluster.ring.model import Member
from ourodb.cluster.ring.strategies import place, zones_of
from ourodb.cluster.ring.tokens import (
    FIRST_BOUND,
    TOKENS,
    PositionRange,
    bound_of,
    positions_of,
    tokens_between,
)
from ourodb.ports import NodeId
from ourodb.schema.model import Replication

NOBODY = NodeId(0)


class ReplicaSet:
    """The nodes that hold the copies of a range; equal only to itself.

    Attributes:
        nodes: in ring order; the first is the primary.
        total: how many.
        by_dc: the same nodes by data centre, in ring order within each; data centres without a copy aren't in it.
    """

    __slots__ = ("_by_dc", "_members", "nodes", "total")

    def __init__(self, nodes: tuple[NodeId, ...], members: Mapping[NodeId, Member]) -> None:
        self.nodes = nodes
        self.total = len(nodes)
        self._members = members
        self._by_dc: Mapping[str, tuple[NodeId, ...]] | None = None

    @property
    def by_dc(self) -> Mapping[str, tuple[NodeId, ...]]:
        if self._by_dc is None:
            found: dict[str, tuple[NodeId, ...]] = {}
            for node in self.nodes:
                data_center = self._members[node].data_center
                found[data_center] = (*found.get(data_center, ()), node)
            self._by_dc = MappingProxyType(found)
        return self._by_dc

    @property
    def primary(self) -> NodeId:
        """The first replica; 0 when there is none."""
        return self.nodes[0] if self.nodes else NOBODY

    @property
    def secondaries(self) -> tuple[NodeId, ...]:
        """The replicas that take over, in this order, when the primary is down."""
        return self.nodes[1:]

    def __repr__(self) -> str:
        return f"ReplicaSet{self.nodes!r}"


@dataclass(frozen=True, slots=True)
class TokenRange:
    """The tokens ``(start, end]`` and who holds them; wraps around when ``start >= end``."""

    start: int
    end: int
    replicas: ReplicaSet

    @property
    def primary(self) -> NodeId:
        return self.replicas.primary

    @property
    def secondaries(self) -> tuple[NodeId, ...]:
        return self.replicas.secondaries

    @property
    def share(self) -> float:
        """The part of all tokens that is in it, 0 to 1."""
        return tokens_between(self.start, self.end) / TOKENS

    @property
    def positions(self) -> Sequence[PositionRange]:
        """Where its partitions are: one slice of positions, or two when it wraps around."""
        return positions_of(self.start, self.end)


class Placement:
    """Which nodes hold which positions, for one way of replicating.

    Attributes:
        bounds: ascending; where one range of positions ends and the next begins.
        sets: who holds the positions before ``bounds[0]``, from there to ``bounds[1]``, and so on; one more than
            bounds.
        tokens: ascending; where the token ranges end. ``sets[i]`` holds the range that ends at ``tokens[i]``.
    """

    __slots__ = ("bounds", "sets", "tokens")

    def __init__(self, bounds: list[bytes], sets: list[ReplicaSet], tokens: Sequence[int]) -> None:
        assert len(sets) == len(bounds) + 1 >= len(tokens)
        self.bounds = bounds
        self.sets = sets
        self.tokens = tokens

    def replicas_of(self, position: bytes) -> ReplicaSet:
        """The nodes that hold a partition."""
        return self.sets[bisect_right(self.bounds, position)]

    def primary_of(self, position: bytes) -> NodeId:
        """The first of the nodes that hold a partition; 0 when none does."""
        return self.sets[bisect_right(self.bounds, position)].primary

    def ranges(self) -> Iterator[tuple[bytes, bytes | None, ReplicaSet]]:
        """(start, end, who holds [start, end)) in position order, without gaps; the last end is None."""
        return self.ranges_between(FIRST_BOUND, None)

    def ranges_between(
        self, start: bytes, end: bytes | None
    ) -> Iterator[tuple[bytes, bytes | None, ReplicaSet]]:
        """As ``ranges``, cut to the positions [start, end); an end of None is the end of all positions."""
        index = bisect_right(self.bounds, start)
        while end is None or start < end:
            bound = self.bounds[index] if index < len(self.bounds) else None
            if bound is None or (end is not None and end <= bound):
                yield start, end, self.sets[index]
                return
            yield start, bound, self.sets[index]
            start = bound
            index += 1

    def token_ranges(self) -> list[TokenRange]:
        """All token ranges in ring order; the first wraps around."""
        return [
            TokenRange(self.tokens[index - 1], token, self.sets[index])
            for index, token in enumerate(self.tokens)
        ]

    def token_range_of(self, token: int) -> TokenRange | None:
        """The range that holds a token; None on a ring without tokens."""
        if not self.tokens:
            return None
        index = bisect_left(self.tokens, token) % len(self.tokens)
        return TokenRange(self.tokens[index - 1], self.tokens[index], self.sets[index])


class Ring:
    """All members and their tokens. Never changes.

    Args:
        members: in an order that is the same on all nodes; no two with an id or a token in common.

    Attributes:
        members: by id, in that order.
        tokens: of all members, ascending.
        owners: whose token each is.
    """

    __slots__ = ("_bounds", "_placements", "_sets", "_with_tokens", "members", "owners", "tokens")

    def __init__(self, members: Sequence[Member] = ()) -> None:
        self.members: Mapping[NodeId, Member] = MappingProxyType({member.id: member for member in members})
        owned = sorted((token, member.id) for member in members for token in member.tokens)
        self.tokens = tuple(token for token, _ in owned)
        self.owners = tuple(owner for _, owner in owned)
        assert len(self.members) == len(members), "two members with one id"
        assert len(set(self.tokens)) == len(self.tokens), "two members with one token"
        self._with_tokens = [member for member in members if member.tokens]
        self._bounds = [bound for bound in map(bound_of, self.tokens) if bound is not None]
        self._sets: dict[tuple[NodeId, ...], ReplicaSet] = {}
        self._placements: dict[tuple[str, tuple[tuple[str, str], ...]], Placement] = {}

    def placement(self, replication: Replication) -> Placement:
        """Where the copies of a keyspace are; computed once for all keyspaces that replicate alike.

        Keep it for as long as the ring and the keyspace stay: finding it again costs more than asking it.
            LocalStrategy
        has no copies anywhere here, since each node's are its own: see ``local``.

        Raises:
            ValueError: no such strategy, or a replication factor that isn't a number.
        """
        key = (replication.strategy, tuple(sorted(replication.options.items())))
        found = self._placements.get(key)
        if found is None:
            if len(self._placements) >= limits.PLACEMENTS_PER_RING_MAX:
                del self._placements[next(iter(self._placements))]
            found = self._placements[key] = self._place(replication)
        return found

    def local(self, node: NodeId) -> Placement:
        """LocalStrategy as one node sees it: everything is its own."""
        return Placement([], [self._set((node,))], ())

    def ownership(self, replication: Replication) -> dict[NodeId, float]:
        """The share of all tokens that each member holds a copy of, 0 to 1; the sum is the number of copies."""
        owned = dict.fromkeys(self.members, 0)
        for token_range in self.placement(replication).token_ranges():
            tokens = tokens_between(token_range.start, token_range.end)
            for node in token_range.replicas.nodes:
                owned[node] += tokens
        return {node: tokens / TOKENS for node, tokens in owned.items()}

    def primary_ownership(self, replication: Replication) -> dict[NodeId, float]:
        """The share of all tokens that each member is the primary replica of, 0 to 1; the sum is 1."""
        owned = dict.fromkeys(self.members, 0)
        for token_range in self.placement(replication).token_ranges():
            if token_range.replicas.nodes:
                owned[token_range.primary] += tokens_between(token_range.start, token_range.end)
        return {node: tokens / TOKENS for node, tokens in owned.items()}

    def _place(self, replication: Replication) -> Placement:
        zones = zones_of(replication, self._with_tokens)
        sets = [self._set(nodes) for nodes in place(self.owners, zones)]
        if len(self._bounds) == len(sets):
            # What comes after the last token belongs to the first one's range.
            sets.append(sets[0] if sets else self._set(()))
        return Placement(self._bounds, sets, self.tokens)

    def _set(self, nodes: tuple[NodeId, ...]) -> ReplicaSet:
        found = self._sets.get(nodes)
        if found is None:
            found = self._sets[nodes] = ReplicaSet(nodes, self.members)
        return found
