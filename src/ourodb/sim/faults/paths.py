"""Which paths of the network a fault is about."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Final

from ourodb.sim.chance import Chance
from ourodb.sim.network import CLIENTS, Path


def between(some: Sequence[int], others: Sequence[int]) -> list[Path]:
    """Both ways between each of some and each of the others."""
    return [path for one in some for other in others for path in ((one, other), (other, one))]


def halves(places: Sequence[int], chance: Chance) -> list[Path]:
    """Two halves that don't see each other."""
    shuffled = chance.shuffled(places)
    middle = len(shuffled) // 2
    return between(shuffled[:middle], shuffled[middle:])


def isolate(places: Sequence[int], chance: Chance) -> list[Path]:
    """One that sees nobody."""
    alone = chance.choice(places)
    return between([alone], [place for place in places if place != alone])


def bridge(places: Sequence[int], chance: Chance) -> list[Path]:
    """Two halves that don't see each other, and one in the middle that sees everybody."""
    shuffled = chance.shuffled(places)[1:]
    middle = len(shuffled) // 2
    return between(shuffled[:middle], shuffled[middle:])


def majorities_ring(places: Sequence[int], chance: Chance) -> list[Path]:
    """Everybody sees a majority, but no two the same one; with fewer than four nobody is cut off."""
    shuffled = chance.shuffled(places)
    count = len(shuffled)
    reach = (count // 2 + 1) // 2
    return [
        path
        for first, second in combinations(range(count), 2)
        if min(second - first, count - (second - first)) > reach
        for path in between([shuffled[first]], [shuffled[second]])
    ]


def one_way_paths(places: Sequence[int], chance: Chance) -> list[Path]:
    """One whose voice doesn't reach the others, or who doesn't hear them, or a single path."""
    alone = chance.choice(places)
    others = [place for place in places if place != alone]
    drawn = chance.below(3)
    if drawn == 0:
        return [(alone, other) for other in others]
    if drawn == 1:
        return [(other, alone) for other in others]
    return [(alone, chance.choice(others))]


def around(places: Sequence[int], chance: Chance) -> list[Path]:
    """What an impairment of the network is about: one machine's link, one way between two machines, or all."""
    one = chance.choice(places)
    others = [place for place in places if place != one]
    drawn = chance.below(4)
    if drawn == 0:
        return [(one, chance.choice(others))]
    if drawn == 1:
        return [path for pair in combinations(places, 2) for path in between(pair[:1], pair[1:])]
    return between([one], others)


PARTITIONS: Final = (halves, isolate, bridge, majorities_ring)


def shown(paths: Sequence[Path]) -> str:
    """Nodes are counted from 1 on, and clients, with a c, too."""
    both = [path for path in paths if path[0] < path[1] and (path[1], path[0]) in paths]
    single = [path for path in paths if (path[1], path[0]) not in paths]
    return ", ".join(
        [f"{_number(a)}-{_number(b)}" for a, b in both] + [f"{_number(a)}>{_number(b)}" for a, b in single]
    )


def _number(place: int) -> str:
    return str(place + 1) if place < CLIENTS else f"c{place - CLIENTS + 1}"
