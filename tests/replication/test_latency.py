"""Near replicas are asked first, slow ones are found out and tried again later, and waits don't feed on themselves.

If this fails, a replica that became slow is asked for ever, one that was slow once is never asked again, or the wait
before another one is asked grows until it is none.
"""

from __future__ import annotations

import pytest

from ourodb import limits
from ourodb.ports import NodeId
from ourodb.replication.latency import DECAY_EVERY, NEVER_MS, READINGS_MIN, UNKNOWN_MS, Latencies

NEAR, FAR = NodeId(1), NodeId(2)


def measured(us: int, count: int = 1_000) -> Latencies:
    latencies = Latencies()
    for _ in range(count):
        latencies.observe_us(NEAR, us)
    return latencies


def test_the_unknown_are_tried_first() -> None:
    latencies = measured(500)
    assert latencies.of_us(FAR) < latencies.of_us(NEAR)


def test_a_node_that_keeps_others_waiting_is_far_though_it_never_answered() -> None:
    latencies = measured(500)
    latencies.observe_us(FAR, 20_000, False)
    assert latencies.of_us(FAR) > latencies.of_us(NEAR)


def test_waiting_does_not_make_the_wait_longer() -> None:
    latencies = measured(3_000)
    before = latencies.speculate_after_ms("99p")
    for _ in range(DECAY_EVERY):
        latencies.observe_us(NEAR, 3_000)
        latencies.observe_us(FAR, 1_000 * (before + limits.REQUEST_TICK_MS), False)
    assert latencies.speculate_after_ms("99p") == before


def test_who_was_slow_is_tried_again() -> None:
    latencies = measured(500)
    latencies.observe_us(FAR, 100_000, False)
    rounds = 0
    while latencies.of_us(FAR) > latencies.of_us(NEAR):
        for _ in range(DECAY_EVERY):
            latencies.observe_us(NEAR, 500)
        rounds += 1
        assert rounds < 20
    assert latencies.of_us(NEAR) == pytest.approx(500)


def test_a_percentile_is_at_least_what_so_many_took() -> None:
    latencies = Latencies()
    for step in range(10_000):
        latencies.observe_us(NEAR, step * 7_919 % 10_000 + 1)
    for percent in (50, 90, 99, 99.9):
        found = latencies.percentile_us(percent)
        assert found is not None
        assert percent * 100 * 0.95 <= found <= percent * 100 * 1.2


@pytest.mark.parametrize(
    ("policy", "wait_ms"),
    [
        ("NONE", NEVER_MS),
        ("never", NEVER_MS),
        ("ALWAYS", 0),
        ("25ms", 25),
        ("0.5ms", limits.SPECULATE_MS_MIN),
        ("99p", 8),
        ("99percentile", 8),
        ("99.9p", 8),
        ("MIN(99p,5ms)", 5),
        ("max(99p, 5ms)", 8),
        ("MAX(99p,50ms)", 50),
    ],
)
def test_policies(policy: str, wait_ms: int) -> None:
    """7 ms, rounded up within a doubling's eighth."""
    assert measured(7_000).speculate_after_ms(policy) == wait_ms


def test_before_much_was_measured_the_wait_is_a_guess() -> None:
    latencies = measured(7_000, READINGS_MIN - 1)
    assert latencies.speculate_after_ms("99p") == UNKNOWN_MS
    latencies.observe_us(NEAR, 7_000)
    assert latencies.speculate_after_ms("99p") == 8
