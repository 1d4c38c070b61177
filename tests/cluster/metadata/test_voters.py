"""Who votes, as a pure choice.

If these failed, the loss of one rack could stop all changes of the schema though most nodes live, or the voters would
never come to rest.
"""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ourodb.cluster.metadata.voters import crowding, next_voters, voters_wanted
from ourodb.cluster.ring.model import Member
from ourodb.ports import NodeId


def member(number: int, place: str = "dc1/r1") -> Member:
    data_center, _, rest = place.partition("/")
    rack, _, host = rest.partition("/")
    address = (f"10.0.0.{number}", 7000)
    return Member(
        NodeId(number), UUID(int=number), address, address, data_center, rack, host or f"h{number}", (number,)
    )


def ring(*places: str) -> dict[NodeId, Member]:
    return {NodeId(n): member(n, place) for n, place in enumerate(places, 1)}


def settled(
    members: dict[NodeId, Member], voters: tuple[int, ...], lost: tuple[int, ...] = (), leader: int = 1
) -> tuple[int, ...]:
    """The voters once nothing changes any more; each change is of one voter."""
    now = tuple(map(NodeId, voters))
    for _ in range(20):
        after = next_voters(members, now, tuple(map(NodeId, lost)), NodeId(leader))
        if after is None:
            return now
        assert len(set(after) ^ set(now)) == 1
        assert list(after) == sorted(after)
        now = after
    raise AssertionError("the voters don't come to rest")


def test_an_odd_number_of_voters_for_any_ring() -> None:
    assert [voters_wanted(members) for members in range(10)] == [0, 1, 1, 3, 3, 3, 3, 5, 5, 5]


@pytest.mark.parametrize(
    ("places", "voters"),
    [
        (["dc1/r1"], (1,)),
        (["dc1/r1"] * 2, (1,)),
        (["dc1/r1"] * 3, (1, 2, 3)),
        (["dc1/r1"] * 6, (1, 2, 3)),
        (["dc1/r1"] * 7, (1, 2, 3, 4, 5)),
        (["dc1/r1", "dc1/r1", "dc1/r2", "dc1/r2", "dc1/r3"], (1, 3, 5)),
        (["dc1/r1", "dc1/r2", "dc1/r3", "dc2/r1", "dc2/r2", "dc3/r1"], (1, 4, 6)),
        (["dc1/r1/a", "dc1/r1/a", "dc1/r1/a", "dc1/r1/b", "dc1/r1/c"], (1, 4, 5)),
    ],
)
def test_voters_are_spread_over_failure_domains(places: list[str], voters: tuple[int, ...]) -> None:
    assert settled(ring(*places), (1,)) == voters


def test_a_ring_that_grew_into_other_data_centres_spreads_its_voters() -> None:
    """Else all that the first data centre's three nodes decided stops with it."""
    members = ring("dc1/r1", "dc1/r2", "dc1/r3", "dc2/r1", "dc3/r1")
    assert settled(members, (1, 2, 3), leader=2) == (2, 4, 5)


def test_a_lost_voter_is_replaced_before_it_leaves() -> None:
    """Dropping it first would leave two voters, of which none can be lost."""
    members = ring(*["dc1/r1"] * 5)
    assert next_voters(members, (NodeId(1), NodeId(2), NodeId(3)), (NodeId(2),), NodeId(1)) == (1, 2, 3, 4)
    assert settled(members, (1, 2, 3), lost=(2,)) == (1, 3, 4)
    assert settled(members, (1, 2, 3), lost=(2, 4)) == (1, 3, 5)


def test_a_lost_voter_stays_when_nobody_could_replace_it() -> None:
    assert settled(ring(*["dc1/r1"] * 3), (1, 2, 3), lost=(2,)) == (1, 2, 3)
    assert settled(ring(*["dc1/r1"] * 4), (1, 2, 3), lost=(2, 4)) == (1, 2, 3)


def test_a_removed_voter_leaves() -> None:
    members = ring(*["dc1/r1"] * 4)
    del members[NodeId(2)]
    assert settled(members, (1, 2, 3)) == (1, 3, 4)
    del members[NodeId(3)]
    assert settled(members, (1, 3, 4)) == (1,)


def test_two_voters_are_worse_than_one() -> None:
    """Three members of which one is down: with two voters the loss of either would stop changes."""
    members = ring(*["dc1/r1"] * 3)
    assert settled(members, (1,), lost=(3,)) == (1,)
    assert settled(members, (1, 2), lost=(3,)) == (1,)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4)), min_size=1, max_size=9),
    st.sets(st.integers(1, 9)),
    st.sets(st.integers(1, 11), min_size=1, max_size=6),
    st.data(),
)
def test_from_anything_the_voters_come_to_rest(
    places: list[tuple[int, int, int]], lost: set[int], voters: set[int], data: st.DataObject
) -> None:
    """Voters that move for ever would fill the log, and each change is a chance to lose a majority."""
    members = ring(*(f"dc{d}/r{r}/h{d}{r}{h}" for d, r, h in places))
    leader = data.draw(st.sampled_from(list(members)))
    gone = tuple(sorted(node for node in lost if node in members and node != leader))
    end = settled(members, tuple(sorted({*voters, leader})), gone, leader)
    assert leader in end
    live = [voter for voter in end if voter in members and voter not in gone]
    able = len(members) - len(gone)
    assert len(end) % 2 or len(live) < len(end)
    assert len(live) >= min(voters_wanted(len(members)), able if able % 2 else able - 1)
    if not gone:
        assert len(end) == voters_wanted(len(members))
        swaps = [
            crowding(members[v] for v in (*(o for o in end if o != out), new))
            for out in end
            if out != leader
            for new in members
            if new not in end
        ]
        best = crowding(members[v] for v in end)
        assert best <= min(swaps, default=best)


def test_one_that_was_removed_leaves_before_another_comes() -> None:
    """Beside it a newcomer would be one more that has to live: its death would end all decisions."""
    members = ring(*["dc1/r1"] * 4)
    del members[NodeId(3)]
    first = next_voters(members, (NodeId(1), NodeId(2), NodeId(3)), (), NodeId(1))
    assert first == (1, 2)
    assert settled(members, (1, 2, 3)) == (1, 2, 4)
