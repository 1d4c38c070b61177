"""Other tokens for members of a ring whose shares have become uneven: after nodes have left, above all.

Whoever is furthest from its fair share takes all its tokens back and chooses anew (``ring.allocation``), as if it
joined the ring that the others make: what it had too much of goes to its neighbours, and what it takes it takes from
those who have too much. Then the next one, until nobody has more than REBALANCE_RATIO_MAX times its fair share. Each
of them moves about twice its share of the data, so as few as will do are moved: of those that are furthest off, the one
whose new tokens leave the ring the most even. In most rings that one or two nodes have left, one member is enough.

There are no random draws: the same ring is evened in the same way on all nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from ourodb import limits
from ourodb.cluster.ring.allocation import choose_tokens, fair_shares, grouping
from ourodb.cluster.ring.model import Member
from ourodb.cluster.ring.placement import NOBODY
from ourodb.cluster.ring.strategies import Zone, place
from ourodb.cluster.ring.tokens import TOKENS, tokens_between
from ourodb.ports import NodeId

CANDIDATES: Final = 2
"""Members of which the best one is moved next."""


def unevenness(members: Iterable[Member]) -> float:
    """The greatest share of a member as a multiple of its fair one, of all data centres; 1 for one that is even."""
    by_dc = _by_dc(members)
    return max((max(_ratios(local).values()) for local in by_dc.values()), default=1.0)


@lru_cache(maxsize=4)
def evened(members: tuple[Member, ...]) -> Mapping[NodeId, tuple[int, ...]]:
    """New tokens for as few members as will do, by id, ascending; none when the shares are even, or can't be.

    Remembered for the rings that were asked about last: it takes a second in a ring of a hundred.
    """
    everybody = {member.id: member for member in members}
    moved: dict[NodeId, tuple[int, ...]] = {}
    for data_center in sorted(_by_dc(everybody.values())):
        for node in _evened_center(everybody, data_center):
            moved[node] = everybody[node].tokens
    return MappingProxyType({node: moved[node] for node in sorted(moved)})


def _evened_center(everybody: dict[NodeId, Member], data_center: str) -> list[NodeId]:
    """Change members of one data centre; gives those that were changed."""
    changed: list[NodeId] = []
    for _ in range(limits.REBALANCE_STEPS_MAX):
        ratios = _ratios(_by_dc(everybody.values())[data_center])
        if max(ratios.values()) <= limits.REBALANCE_RATIO_MAX:
            break
        off = sorted(ratios, key=lambda node: (-abs(ratios[node] - 1.0), node))
        best: tuple[float, NodeId, Member] = (_squares(ratios), NOBODY, everybody[off[0]])
        if len(changed) == limits.REBALANCE_MEMBERS_MAX:
            off = [node for node in off if node in changed]
        for node in off[:CANDIDATES]:
            member = everybody[node]
            others = [other for other in everybody.values() if other.id != node]
            tokens = choose_tokens(others, member.data_center, member.rack, member.host, len(member.tokens))
            moved = replace(member, tokens=tokens)
            found = _squares(_ratios(_by_dc([*others, moved])[data_center]))
            if found < best[0]:
                best = found, node, moved
        _, node, moved = best
        if node == NOBODY:
            break
        everybody[node] = moved
        if node not in changed:
            changed.append(node)
    return changed


def _squares(ratios: Mapping[NodeId, float]) -> float:
    return sum((ratio - 1.0) ** 2 for ratio in ratios.values())


def _by_dc(members: Iterable[Member]) -> dict[str, list[Member]]:
    found: dict[str, list[Member]] = {}
    for member in sorted(members, key=lambda member: member.id):
        if member.tokens:
            found.setdefault(member.data_center, []).append(member)
    return found


def _ratios(local: Sequence[Member]) -> dict[NodeId, float]:
    """Each member's share as a multiple of its fair one: as primary or with all copies, whichever is further off."""
    group_of, _, copies = grouping(local, local[0].rack, local[0].host)
    weights = {member.id: len(member.tokens) for member in local}
    total = sum(weights.values())
    numbers: dict[str, int] = {}
    groups = {member.id: numbers.setdefault(group_of(member), len(numbers)) for member in local}
    group_weights = dict.fromkeys(numbers.values(), 0)
    for node, weight in weights.items():
        group_weights[groups[node]] += weight
    shares = fair_shares(group_weights, min(copies, len(numbers)))
    owned = sorted((token, member.id) for member in local for token in member.tokens)
    primary, replicated = dict.fromkeys(weights, 0), dict.fromkeys(weights, 0)
    zone = Zone(local, copies, ({member.id: group_of(member) for member in local},))
    for at, nodes in enumerate(place([owner for _, owner in owned], [zone])):
        tokens = tokens_between(owned[at - 1][0], owned[at][0])
        primary[owned[at][1]] += tokens
        for node in nodes:
            replicated[node] += tokens
    ratios = {}
    for node, weight in weights.items():
        own = primary[node] / TOKENS / (weight / total)
        all_copies = replicated[node] / TOKENS / (shares[groups[node]] * weight / group_weights[groups[node]])
        ratios[node] = own if abs(own - 1) >= abs(all_copies - 1) else all_copies
    return ratios
