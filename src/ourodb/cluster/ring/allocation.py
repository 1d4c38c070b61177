"""Choosing the tokens of a node that joins, so that all nodes hold equal shares.

Tokens once given can't be moved without moving data, so evenness has to come from the choice. A new node's token
splits one range, at any point of it. Two measures say how even a ring is, each node's share set against its fair
one: the *primary* share, of what the node comes first for (all that counts at RF 1), and the *replicated* share, at
RF 3. A third keeps it even for those who come later: a node whose tokens are one long range and many slivers leaves
them little choice. So the choice makes as small as it can, token by token, the sum of the squares of all relative
deviations, in both measures, and of the lengths of all ranges, with a fair primary share as the unit:

- What a split moves is a whole part, the ranges before it that come to have a copy on the new node, and a part that
  grows with the point of the split. So for each range the sum of squares is a parabola over that point, and the best
  point is where it's lowest: no search. Of all ranges the one that gains most is split.
- While the new node has fewer than all its tokens, its fair share is that fraction of one.
- Afterwards each token in turn is taken back and placed again, now that the others are known.
- All ranges are looked at once; for all tokens but the first, only those that seemed most promising then.

Shares in a data centre depend on its own tokens alone, so other data centres are left out. Who comes to have a copy,
and who loses one, depends on which nodes may not hold copies together: *groups*, of which each copy goes to another.
Groups are the racks when there are several, else the hosts when some are shared, else the nodes; with fewer than
three, as many copies as groups are looked at. A group's fair share is what its nodes make up of all tokens, but
never more than one copy of everything; a node's is its part of that. Nodes weigh as much as they have tokens.

The first node's tokens are spread evenly, from a point that differs between data centres. There are no random draws,
so the same joins make the same ring.

How even it gets: with 16 tokens and from three nodes up, joined one after another, max/mean stays below 1.1 in both
measures, with one rack, with several that are equal, with hosts of several nodes, and per data centre.

Source: after Cassandra's ``ReplicationAwareTokenAllocator`` (CASSANDRA-7032), which splits ranges in the middle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import nsmallest
from typing import Final

from ourodb import limits
from ourodb.cluster.ring.model import Member
from ourodb.cluster.ring.strategies import Zone, place
from ourodb.cluster.ring.tokens import TOKENS, tokens_between, wrapped
from ourodb.cql.types import murmur3
from ourodb.ports import NodeId

COPIES: Final = 3
"""The replication factor for which the replicated share is evened."""

SPLIT_MIN: Final = 0.05
"""A range is split no nearer to its ends than this part of it."""

LENGTH_MIN: Final = 1_000
"""Tokens of the shortest range that is split."""


def choose_tokens(
    members: Iterable[Member], data_center: str, rack: str, host: str, count: int = limits.TOKENS_PER_NODE
) -> tuple[int, ...]:
    """The tokens of a node that joins, ascending; none of them is another's.

    For several nodes that join together, ask for one after the other, with those before among the members.

    Args:
        members: all that are in the ring, of all data centres, in an order that is the same on all nodes.
        data_center, rack, host: of the new node.
        count: how many.
    """
    assert 0 < count <= limits.TOKENS_PER_NODE_MAX
    members = [member for member in members if member.tokens]
    taken = {token for member in members for token in member.tokens}
    local = [member for member in members if member.data_center == data_center]
    if local:
        wanted = _Allocation(local, rack, host, count).run()
    else:
        first = murmur3.token(data_center.encode())
        wanted = [wrapped(first + index * (TOKENS // count)) for index in range(count)]
    chosen = []
    for free in wanted:
        # The least token is Cassandra's "before all tokens"; no node has it.
        while free in taken or free == murmur3.TOKEN_MIN:
            free = wrapped(free + 1)
        taken.add(free)
        chosen.append(free)
    return tuple(sorted(chosen))


def _grouping(members: Sequence[Member], rack: str, host: str) -> tuple[Callable[[Member], str], str, int]:
    """(member -> its group, the newcomer's group, how many copies go to as many groups)."""
    racks = {rack, *(member.rack for member in members)}
    if len(racks) > 1:
        return (lambda member: member.rack), rack, min(COPIES, len(racks))
    hosts = {host, *(member.host for member in members)}
    if 1 < len(hosts) <= len(members):
        return (lambda member: member.host), host, min(COPIES, len(hosts))
    return (lambda member: str(member.id)), "", COPIES


def _fair_shares(weights: Mapping[str, int], copies: int) -> dict[str, float]:
    """What part of all tokens each group holds a copy of when they are spread by weight, at most one copy each."""
    shares: dict[str, float] = {}
    left = dict(weights)
    while left:
        total = sum(left.values())
        full = [group for group, weight in left.items() if weight * copies >= total]
        if not full or copies <= 0:
            shares.update({group: max(copies, 0) * weight / total for group, weight in left.items()})
            break
        for group in full:
            shares[group] = 1.0
            del left[group]
        copies -= len(full)
    return shares


class _Allocation:
    """The choice of one node's tokens.

    The ring is a doubly linked list of places, each with a token and its owner; a place also stands for the range
    that ends there. Deviations are in one list, two for each node: primary at ``node``, replicated at ``node +
    nodes``, where a node is its index here and the newcomer has the last.
    """

    def __init__(self, members: Sequence[Member], rack: str, host: str, count: int) -> None:
        group_of, newcomers_group, self._copies = _grouping(members, rack, host)
        self._nodes = len(members) + 1
        self._newcomer = len(members)
        self._count = count
        groups = [*map(group_of, members), newcomers_group]
        numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
        self._group = [numbers[group] for group in groups]
        # While there are fewer groups than copies, everything gets a copy in the newcomer's: nothing to choose.
        self._is_replicated = len(set(groups[:-1])) >= self._copies

        weights = [*(len(member.tokens) for member in members), count]
        group_weights = dict.fromkeys(groups, 0)
        for group, weight in zip(groups, weights, strict=True):
            group_weights[group] += weight
        group_shares = _fair_shares(group_weights, self._copies)
        self._fair = [weight / sum(weights) for weight in weights]
        self._fair += [
            group_shares[group] * weight / group_weights[group]
            for group, weight in zip(groups, weights, strict=True)
        ]
        self._place_tokens(members, dict(zip([member.id for member in members], groups, strict=False)))

    def _place_tokens(self, members: Sequence[Member], group_of: Mapping[NodeId, str]) -> None:
        index_of = {member.id: index for index, member in enumerate(members)}
        owned = sorted((token, member.id) for member in members for token in member.tokens)
        owners = [owner for _, owner in owned]
        self._token = [token for token, _ in owned]
        self._owner = [index_of[owner] for owner in owners]
        self._next = [*range(1, len(owned)), 0]
        self._previous = [len(owned) - 1, *range(len(owned) - 1)]

        shares = [0.0] * (2 * self._nodes)
        replicas = place(owners, [Zone(members, self._copies, (group_of,))])
        for at, nodes in enumerate(replicas):
            part = self._part(at)
            shares[self._owner[at]] += part
            for node in nodes:
                shares[index_of[node] + self._nodes] += part
        self._deviation = [share / fair - 1.0 for share, fair in zip(shares, self._fair, strict=True)]

    def run(self) -> list[int]:
        """The tokens, not in order."""
        candidates = self._most_promising()
        added = [
            self._add(*self._best(candidates, 1 - number / self._count))
            for number in range(1, self._count + 1)
        ]
        for index, at in enumerate(added):
            self._remove(at)
            added[index] = self._add(*self._best(candidates, 0.0))
        return [self._token[at] for at in added]

    def _most_promising(self) -> list[int]:
        missing = 1 - 1 / self._count
        gains = [
            (self._split(at, missing)[0], at)
            for at in range(len(self._token))
            if tokens_between(self._token[self._previous[at]], self._token[at]) >= LENGTH_MIN
        ]
        return sorted(at for _, at in nsmallest(limits.ALLOCATION_CANDIDATES_MAX, gains))

    def _best(self, candidates: Sequence[int], missing: float) -> tuple[int, float]:
        """The range to be split, and at which part of it.

        Args:
            missing: what part of its tokens the newcomer will still lack then.
        """
        (_, point), at = min((self._split(at, missing), at) for at in candidates)
        return at, point

    def _part(self, at: int) -> float:
        """The part of all tokens that is in the range which ends at a place."""
        return tokens_between(self._token[self._previous[at]], self._token[at]) / TOKENS

    def _split(self, at: int, missing: float) -> tuple[float, float]:
        """(by how much the sum of squares grows when this range is split at its best point, that point)."""
        deviation = self._deviation
        newcomers = (self._newcomer, self._newcomer + self._nodes)
        # The split of x * x into p * p and (1 - p) * (1 - p) parts of it adds 2 (p - 1) p of it.
        length = self._part(at) * self._nodes
        constant, linear, square = 0.0, -length * length, 2 * length * length
        for key, (whole, part) in self._moves(at).items():
            before = deviation[key]
            if key in newcomers:
                before += missing
            after = before + whole
            constant += after * after - before * before
            linear += after * part
            square += part * part
        point = min(max(-linear / square, SPLIT_MIN), 1 - SPLIT_MIN)
        return constant + (2 * linear + point * square) * point, point

    def _moves(self, at: int) -> dict[int, tuple[float, float]]:
        """What a token of the newcomer in the range that ends at ``at`` changes.

        Returns:
            For each deviation that changes: by how much in any case, and by how much per part of the range that's
            split off.
        """
        fair, newcomer = self._fair, self._newcomer
        part = self._part(at)
        owner = self._owner[at]
        moves: dict[int, tuple[float, float]] = {}
        if owner != newcomer:
            moves[owner] = (0.0, -part / fair[owner])
            moves[newcomer] = (0.0, part / fair[newcomer])
        if not self._is_replicated:
            return moves
        gained_whole = gained_part = 0.0
        ahead = self._ahead(at)
        loser = self._loser(ahead, ())
        if loser != newcomer:
            gained_part = part
            moves[loser + self._nodes] = (0.0, -part / fair[loser + self._nodes])
        # Ranges before, as far as a walk from their end meets the new token before it has enough groups.
        behind: list[int] = []
        at = self._previous[at]
        for _ in range(min(len(self._token), limits.ALLOCATION_LOOK_TOKENS_MAX)):
            group = self._group[self._owner[at]]
            if group not in behind:
                behind.append(group)
                if group == self._group[newcomer] or len(behind) == self._copies:
                    break
                loser = self._loser(ahead, behind)
            if loser != newcomer:
                part = self._part(at)
                gained_whole += part
                key = loser + self._nodes
                whole, per_part = moves.get(key, (0.0, 0.0))
                moves[key] = (whole - part / fair[key], per_part)
            at = self._previous[at]
        key = newcomer + self._nodes
        moves[key] = (gained_whole / fair[key], gained_part / fair[key])
        return moves

    def _ahead(self, at: int) -> list[int]:
        """The nodes that a walk from a place on meets first in each group, as many as there are copies."""
        seen: list[int] = []
        nodes: list[int] = []
        for _ in range(min(len(self._token), limits.ALLOCATION_LOOK_TOKENS_MAX)):
            node = self._owner[at]
            group = self._group[node]
            if group not in seen:
                seen.append(group)
                nodes.append(node)
                if len(nodes) == self._copies:
                    break
            at = self._next[at]
        return nodes

    def _loser(self, ahead: Sequence[int], behind: Sequence[int]) -> int:
        """Whose copy goes to the newcomer: that of a node of its group, else the last one."""
        group = self._group
        loser = -1
        left = self._copies - len(behind)
        for node in ahead:
            if group[node] in behind:
                continue
            loser = node
            left -= 1
            if group[node] == group[self._newcomer] or not left:
                break
        return loser

    def _add(self, at: int, point: float) -> int:
        """Split the range that ends at a place; gives the new one."""
        self._move(at, point)
        previous = self._previous[at]
        length = tokens_between(self._token[previous], self._token[at])
        added = len(self._token)
        self._token.append(wrapped(self._token[previous] + int(length * point)))
        self._owner.append(self._newcomer)
        self._next.append(at)
        self._previous.append(previous)
        self._next[previous] = self._previous[at] = added
        return added

    def _remove(self, at: int) -> None:
        """Undo ``_add``."""
        previous, following = self._previous[at], self._next[at]
        part = self._part(at)
        self._next[previous] = following
        self._previous[following] = previous
        self._move(following, part / self._part(following), -1.0)

    def _move(self, at: int, point: float, sign: float = 1.0) -> None:
        for key, (whole, part) in self._moves(at).items():
            self._deviation[key] += sign * (whole + part * point)
