"""New tokens for a ring that nodes have left: how even it gets, and how little has to move for that.

If this fails, nodes own too much after others have left and nothing can be done about it, or far more data moves than
has to.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.cluster.ring.rings import joined, member, simple
from tests.cluster.ring.test_allocation import (
    Location,
    four_cores,
    one_rack,
    rack_after_rack,
    three_racks,
    two_centers,
)

from ourodb.cluster.ring.model import Member
from ourodb.cluster.ring.placement import Ring
from ourodb.cluster.ring.rebalancing import evened, unevenness
from ourodb.limits import REBALANCE_RATIO_MAX


def moved(members: list[Member]) -> list[Member]:
    """The members with their new tokens."""
    tokens = evened(tuple(members))
    return [replace(one, tokens=tokens.get(one.id, one.tokens)) for one in members]


@pytest.mark.parametrize("location", [one_rack, three_racks, rack_after_rack, two_centers, four_cores])
@pytest.mark.parametrize("count", [4, 6, 8, 12])
def test_one_or_two_that_left_are_made_up_for_by_few(location: Location, count: int) -> None:
    members = joined(count, location)
    for gone in ({0}, {count // 2}, {1, 2}):
        left = [one for index, one in enumerate(members) if index not in gone]
        tokens = evened(tuple(left))
        after = moved(left)
        assert bool(tokens) == (unevenness(left) > REBALANCE_RATIO_MAX)
        assert unevenness(after) <= REBALANCE_RATIO_MAX
        assert len(tokens) <= 2
        assert all(len(one.tokens) == 16 for one in after)
        everything = [token for one in after for token in one.tokens]
        assert len(set(everything)) == len(everything)


def test_what_status_shows_is_even() -> None:
    """Of one data centre and one rack: each node's share as the primary replica."""
    left = [one for index, one in enumerate(joined(12, one_rack)) if index not in (1, 2)]
    owned = Ring(tuple(moved(left))).primary_ownership(simple(1))
    assert max(owned.values()) * len(owned) <= REBALANCE_RATIO_MAX


def test_a_ring_of_tokens_by_hand_is_evened() -> None:
    """All next to each other: whoever has the gap before its token owns nearly everything."""
    crowded = [member(number, [number * 16 + index for index in range(16)]) for number in range(1, 6)]
    assert unevenness(crowded) > 4
    assert unevenness(moved(crowded)) <= REBALANCE_RATIO_MAX


def test_nothing_is_to_be_done_for_nobody_or_one() -> None:
    assert evened(()) == {}
    assert unevenness(()) == 1.0
    alone = joined(1, one_rack)
    assert evened(tuple(alone)) == {}
    # One that owns nothing yet doesn't count.
    waiting = replace(member(9, [1]), tokens=())
    assert evened((*joined(3, one_rack), waiting)) == {}
