"""Clock skew and round trips: if they are wrong, operators are warned of nothing or for nothing, and reads go
far away."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ourodb.cluster.gossip.skew import Skews
from ourodb.limits import (
    CLOCK_PING_MS,
    CLOCK_PINGS_PER_ROUND,
    CLOCK_SAMPLE_MS_MAX,
    CLOCK_SAMPLES_MAX,
    CLOCK_SKEW_WARNING_MS,
)
from ourodb.ports import NodeId

PEER, OTHER = NodeId(2), NodeId(3)
START_US = 1_700_000_000_000_000


def ping(
    skews: Skews,
    ahead_us: int,
    there_us: int,
    back_us: int,
    *,
    now_ms: int = 0,
    node: NodeId = PEER,
    held_us: int = 0,
) -> int | None:
    """A PING whose ways take so long, to a peer that answers after ``held_us``."""
    t0_us = START_US + now_ms * 1_000
    t1_us = t0_us + there_us + ahead_us
    t2_us = t1_us + held_us
    return skews.measured(node, now_ms, t0_us, t1_us, t2_us, t2_us - ahead_us + back_us)


@given(
    st.integers(-(10**12), 10**12),
    st.lists(
        st.tuples(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6)),
        min_size=1,
        max_size=20,
    ),
)
def test_the_offset_is_never_farther_off_than_it_says(
    ahead_us: int, trips: list[tuple[int, int, int]]
) -> None:
    skews = Skews()
    for there_us, back_us, held_us in trips:
        ping(skews, ahead_us, there_us, back_us, held_us=held_us)
    offset = skews.offset(PEER)
    assert offset is not None
    assert abs(offset.ahead_us - ahead_us) <= offset.error_us
    recent = trips[-CLOCK_SAMPLES_MAX:]
    assert offset.error_us <= (min(there + back for there, back, _ in recent) + 1) // 2 + 1


def test_the_shortest_round_trip_counts() -> None:
    skews = Skews()
    ping(skews, 0, 50_000, 1_000)
    ping(skews, 0, 100, 100)
    ping(skews, 0, 1_000, 90_000)
    offset = skews.offset(PEER)
    assert offset is not None
    assert (offset.ahead_us, offset.error_us) == (0, 100)


@pytest.mark.parametrize("step_us", [-60_000_000, 60_000_000])
def test_a_step_of_a_clock_shows_at_once(step_us: int) -> None:
    """Ours or theirs: old measurements with shorter round trips must not hide it."""
    skews = Skews()
    for _ in range(CLOCK_SAMPLES_MAX):
        ping(skews, 0, 100, 100)
    ping(skews, step_us, 5_000, 5_000)
    offset = skews.offset(PEER)
    assert offset is not None
    assert offset.ahead_us == step_us


def test_a_clock_that_was_stepped_under_way_tells_nothing() -> None:
    skews = Skews()
    assert skews.measured(PEER, 0, START_US, START_US + 50, START_US + 50, START_US - 60_000_000) is None
    assert skews.measured(PEER, 0, START_US, START_US + 50, START_US - 60_000_000, START_US + 100) is None
    assert skews.offset(PEER) is None
    assert skews.latency_ms(PEER) == 0


def test_old_measurements_are_forgotten() -> None:
    """Clocks drift; a short round trip of an hour ago proves nothing."""
    skews = Skews()
    ping(skews, 0, 10, 10)
    ping(skews, 3_000, 5_000, 5_000, now_ms=CLOCK_SAMPLE_MS_MAX + 1)
    offset = skews.offset(PEER)
    assert offset is not None
    assert offset.error_us == 5_000


def test_a_clock_far_off_is_warned_about_once() -> None:
    """And again when it went wrong again; a slow network alone is no reason."""
    skews = Skews()
    far_us = (CLOCK_SKEW_WARNING_MS + 100) * 1_000
    assert ping(skews, 0, 10_000_000, 0) is None
    assert ping(skews, far_us, 100, 100, node=OTHER) == far_us
    assert ping(skews, far_us, 100, 100, node=OTHER) is None
    assert [node for node, _ in skews.warnings()] == [OTHER]
    assert ping(skews, 0, 100, 100, node=OTHER) is None
    assert skews.warnings() == []
    assert ping(skews, -far_us, 100, 100, node=OTHER) == -far_us


def test_everybody_is_asked_in_turn_and_often_at_first() -> None:
    skews = Skews()
    nodes = [NodeId(node) for node in range(1, 3 * CLOCK_PINGS_PER_ROUND + 1)]
    asked: list[NodeId] = []
    for round_number in range(3):
        due = skews.due(round_number * 1_000, nodes)
        assert len(due) == CLOCK_PINGS_PER_ROUND
        asked += due
    assert sorted(asked) == nodes
    for _ in range(CLOCK_SAMPLES_MAX):
        ping(skews, 0, 100, 100)
    assert skews.due(3_000, [PEER]) == []
    assert skews.due(3_000 + CLOCK_PING_MS, [PEER]) == [PEER]


def test_nearness_is_learnt_and_follows_changes() -> None:
    skews = Skews()
    assert skews.latency_ms(PEER) == 0, "who was never measured is worth a try"
    for _ in range(50):
        ping(skews, 0, 500, 500)
        ping(skews, 0, 5_000, 5_000, node=OTHER)
    assert skews.latency_ms(PEER) == pytest.approx(1)
    assert skews.latency_ms(OTHER) == pytest.approx(10)
    for _ in range(50):
        ping(skews, 0, 50_000, 50_000)
    assert skews.latency_ms(PEER) > 90


def test_percentiles() -> None:
    skews = Skews()
    assert skews.percentile_us(99) is None
    for time_us in range(10, 510, 10):
        ping(skews, 0, time_us, 0)
    ping(skews, 0, 10_000, 0, node=OTHER)
    assert skews.percentile_us(50, PEER) == 250
    assert skews.percentile_us(100, PEER) == 500
    assert skews.percentile_us(100) == 10_000
    assert skews.percentile_us(50, NodeId(9)) is None


def test_who_left_is_forgotten() -> None:
    skews = Skews()
    ping(skews, 0, 100, 100)
    ping(skews, 0, 100, 100, node=OTHER)
    skews.keep([OTHER, NodeId(9)])
    assert skews.offset(PEER) is None
    assert skews.offset(OTHER) is not None
