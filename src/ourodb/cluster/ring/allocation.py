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

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import nsmallest
from itertools import islice
from typing import Final

from ourodb import limits
from ourodb.cluster.ring.model import Member
from ourodb.cluster.ring.strategies import Zone, place
from ourodb.cluster.ring.tokens import TOKENS, tokens_between, wrapped
from ourodb.cql.types import murmur3

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
        wanted = Allocation(local, rack, host, count).run()
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


def grouping(members: Sequence[Member], rack: str, host: str) -> tuple[Callable[[Member], str], str, int]:
    """(member -> its group, the newcomer's group, how many copies go to as many groups)."""
    racks = {rack, *(member.rack for member in members)}
    if len(racks) > 1:
        return (lambda member: member.rack), rack, min(COPIES, len(racks))
    hosts = {host, *(member.host for member in members)}
    if 1 < len(hosts) <= len(members):
        return (lambda member: member.host), host, min(COPIES, len(hosts))
    return (lambda member: str(member.id)), "", COPIES


def fair_shares(weights: Mapping[int, int], copies: int) -> dict[int, float]:
    """What part of all tokens each group holds a copy of when they are spread by weight, at most one copy each."""
    shares: dict[int, float] = {}
    left = dict(weights)
    while left:
        total = sum(left.values())
        full = [group for group, weight in left.items() if weight * copies >= total]
        if not full:
            shares.update({group: copies * weight / total for group, weight in left.items()})
            break
        for group in full:
            shares[group] = 1.0
            del left[group]
        copies -= len(full)
    return shares


class Allocation:
    """The choice of one node's tokens.

    A *place* is a token that was there before; it stands for what is left of the range that ends there. Since only
    the newcomer's group gets new tokens, what each place has around it of the other groups is known from the start,
    and the group's own tokens are in a sorted list.

    Shares are in lists with two for each node: primary at ``node``, replicated at ``node + nodes``, where a node is
        its
    index here and the newcomer has the last.

    Attributes:
        fair: the part of all tokens that a node should hold.
        deviations: share / fair - 1, as of the tokens added so far.
        is_replicated: whether the replicated shares are looked at.
    """

    def __init__(self, members: Sequence[Member], rack: str, host: str, count: int) -> None:
        group_of, newcomers_group, self._copies = grouping(members, rack, host)
        # Groups are numbers, 0 the newcomer's.
        numbers = {newcomers_group: 0}
        groups = [numbers.setdefault(group_of(member), len(numbers)) for member in members]
        groups.append(0)
        # While there are fewer groups than copies, everything gets a copy in the newcomer's: nothing to choose.
        self.is_replicated = len(set(groups[:-1])) >= self._copies
        self._count = count
        self._nodes = len(groups)
        self._newcomer = len(members)

        weights = [*(len(member.tokens) for member in members), count]
        group_weights = dict.fromkeys(groups, 0)
        for group, weight in zip(groups, weights, strict=True):
            group_weights[group] += weight
        group_shares = fair_shares(group_weights, self._copies)
        self.fair = [weight / sum(weights) for weight in weights]
        self.fair += [
            group_shares[group] * weight / group_weights[group]
            for group, weight in zip(groups, weights, strict=True)
        ]

        index_of = {member.id: index for index, member in enumerate(members)}
        owned = sorted((token, member.id) for member in members for token in member.tokens)
        self._tokens = [token for token, _ in owned]
        self._owners = [index_of[owner] for _, owner in owned]
        self._lengths = [tokens_between(self._tokens[at - 1], token) for at, token in enumerate(self._tokens)]
        self._own_tokens: list[int] = []
        self._own_nodes: list[int] = []
        for token, node in zip(self._tokens, self._owners, strict=True):
            if groups[node] == 0:
                self._own_tokens.append(token)
                self._own_nodes.append(node)
        self._look_around(groups)

        shares = [0.0] * (2 * self._nodes)
        zone = Zone(members, self._copies, ({member.id: group_of(member) for member in members},))
        for at, nodes in enumerate(place([owner for _, owner in owned], [zone])):
            part = self._lengths[at] / TOKENS
            shares[self._owners[at]] += part
            for member_id in nodes:
                shares[index_of[member_id] + self._nodes] += part
        self.deviations = [share / fair - 1.0 for share, fair in zip(shares, self.fair, strict=True)]

    def _look_around(self, groups: Sequence[int]) -> None:
        """Find, for each place, the nearest nodes of other groups than the newcomer's, one of each group.

        ``_behind`` has (distance, group) of those before the place, ``_ahead`` (distance, group, node) of those from
        the place on, the nearest first, as many as there are copies.
        """
        places = len(self._tokens)
        met: dict[int, int] = {}
        self._behind: list[list[tuple[int, int]]] = []
        for at in range(-places, places):
            if at >= 0:
                here = self._tokens[at]
                self._behind.append(
                    [
                        (tokens_between(self._tokens[before], here), group)
                        for group, before in islice(reversed(met.items()), self._copies)
                    ]
                )
            self._meet(met, groups, at)
        met = {}
        self._ahead: list[list[tuple[int, int, int]]] = []
        for at in range(places - 1, -places - 1, -1):
            self._meet(met, groups, at)
            if at < 0:
                here = self._tokens[at]
                self._ahead.append(
                    [
                        ((self._tokens[after] - here) % TOKENS, group, self._owners[after])
                        for group, after in islice(reversed(met.items()), self._copies)
                    ]
                )
        self._ahead.reverse()

    def _meet(self, met: dict[int, int], groups: Sequence[int], at: int) -> None:
        group = groups[self._owners[at]]
        if group:
            met.pop(group, None)
            met[group] = at

    def run(self) -> list[int]:
        """The tokens, not in order."""
        candidates = self._most_promising()
        added = [
            self._add(*self._best(candidates, 1 - number / self._count))
            for number in range(1, self._count + 1)
        ]
        for index, token in enumerate(added):
            self._remove(token)
            added[index] = self._add(*self._best(candidates, 0.0))
        return added

    def _most_promising(self) -> list[int]:
        missing = 1 - 1 / self._count
        gains = [
            (self._split(at, missing)[0], at)
            for at, length in enumerate(self._lengths)
            if length >= LENGTH_MIN
        ]
        count = self._count * limits.ALLOCATION_CANDIDATES_PER_TOKEN
        return sorted(at for _, at in nsmallest(count, gains))

    def _best(self, candidates: Sequence[int], missing: float) -> tuple[int, float]:
        """The range to be split, and at which part of it.

        Args:
            missing: what part of its tokens the newcomer will still lack then.
        """
        (_, point), at = min((self._split(at, missing), at) for at in candidates)
        return at, point

    def _split(self, at: int, missing: float) -> tuple[float, float]:
        """(by how much the sum of squares grows when this range is split at its best point, that point)."""
        deviations = self.deviations
        newcomers = (self._newcomer, self._newcomer + self._nodes)
        # The split of x * x into p * p and (1 - p) * (1 - p) parts of it adds 2 (p - 1) p of it.
        length = self._length(at) / TOKENS * self._nodes
        constant, linear, square = 0.0, -length * length, 2 * length * length
        for key, (whole, part) in self._moves(at).items():
            before = deviations[key]
            if key in newcomers:
                before += missing
            after = before + whole
            constant += after * after - before * before
            linear += after * part
            square += part * part
        point = min(max(-linear / square, SPLIT_MIN), 1 - SPLIT_MIN)
        return constant + (2 * linear + point * square) * point, point

    def _length(self, at: int) -> int:
        """Tokens of the range that ends at a place, as far as the newcomer hasn't taken its beginning."""
        return min(self._lengths[at], self._own_behind(at))

    def _own_behind(self, at: int) -> int:
        """How far before a place the newcomer's group has a token; past the whole circle when it has none."""
        here = self._tokens[at]
        if not self._own_tokens:
            return 2 * TOKENS
        return tokens_between(self._own_tokens[bisect_left(self._own_tokens, here) - 1], here)

    def _moves(self, at: int) -> dict[int, tuple[float, float]]:
        """What a token of the newcomer in the range that ends at ``at`` changes.

        Returns:
            For each deviation that changes: by how much in any case, and by how much per part of the range that's
            split off.
        """
        fair, newcomer, nodes = self.fair, self._newcomer, self._nodes
        own_behind = self._own_behind(at)
        part = min(self._lengths[at], own_behind) / TOKENS
        owner = self._owners[at]
        moves = {owner: (0.0, -part / fair[owner]), newcomer: (0.0, part / fair[newcomer])}
        if not self.is_replicated:
            return moves
        gained_whole = gained_part = 0.0
        ahead = self._in_order_from(at)
        loser = self._loser(ahead, ())
        if loser != newcomer:
            gained_part = part
            moves[loser + nodes] = (0.0, -part / fair[loser + nodes])
        # Ranges before, as far as a walk from their end meets the new token before it has enough groups.
        behind = self._behind[at]
        groups: list[int] = []
        for index in range(self._copies - 1):
            near, group = behind[index]
            if own_behind < near:
                break
            far = min(behind[index + 1][0], own_behind) if index + 1 < len(behind) else own_behind
            groups.append(group)
            loser = self._loser(ahead, groups)
            if loser != newcomer:
                whole = (far - near) / TOKENS
                gained_whole += whole
                key = loser + nodes
                before = moves.get(key, (0.0, 0.0))
                moves[key] = (before[0] - whole / fair[key], before[1])
        key = newcomer + nodes
        moves[key] = (gained_whole / fair[key], gained_part / fair[key])
        return moves

    def _in_order_from(self, at: int) -> list[tuple[int, int, int]]:
        """(distance, group, node) of the nodes met first in each group from a place on."""
        ahead = self._ahead[at]
        if not self._own_tokens:
            return ahead
        here = self._tokens[at]
        index = bisect_left(self._own_tokens, here) % len(self._own_tokens)
        return sorted([*ahead, ((self._own_tokens[index] - here) % TOKENS, 0, self._own_nodes[index])])

    def _loser(self, ahead: Sequence[tuple[int, int, int]], behind: Sequence[int]) -> int:
        """Whose copy goes to the newcomer: that of a node of its group, else the last one."""
        loser = -1
        left = self._copies - len(behind)
        for _, group, node in ahead:
            if group in behind:
                continue
            loser = node
            left -= 1
            if not group or not left:
                break
        return loser

    def _add(self, at: int, point: float) -> int:
        """Split the range that ends at a place; gives the new token."""
        self._change(at, point, 1.0)
        length = self._length(at)
        token = wrapped(self._tokens[at] - length + int(length * point))
        index = bisect_left(self._own_tokens, token)
        self._own_tokens.insert(index, token)
        self._own_nodes.insert(index, self._newcomer)
        return token

    def _remove(self, token: int) -> None:
        """Undo ``_add``."""
        at = bisect_left(self._tokens, token) % len(self._tokens)
        after = tokens_between(token, self._tokens[at])
        changes_nothing = self._own_behind(at) < after
        index = bisect_left(self._own_tokens, token)
        del self._own_tokens[index], self._own_nodes[index]
        # Between two tokens of the newcomer, the second takes over what the first leaves.
        if not changes_nothing:
            self._change(at, 1 - after / self._length(at), -1.0)

    def _change(self, at: int, point: float, sign: float) -> None:
        for key, (whole, part) in self._moves(at).items():
            self.deviations[key] += sign * (whole + part * point)
