"""Counters: no increment is lost or counted twice, whatever is merged with whatever."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from ourodb.storage.counter import SHARD_BYTES, increment, merge_shards, total

NODES = [bytes([number]) * 16 for number in range(3)]


def sum_of(value: bytes) -> int:
    count: int = struct.unpack(">q", total(value))[0]
    return count


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(-5, 5), st.booleans()), max_size=20))
def test_replicas_agree_on_the_sum(steps: list[tuple[int, int, bool]]) -> None:
    """Each node adds to what it has seen of itself; exchanges happen at any time and more than once."""
    stored: dict[int, bytes | None] = dict.fromkeys(range(3))
    for clock, (node, delta, exchange) in enumerate(steps):
        shard = increment(stored[node], NODES[node], 1, clock, delta)
        known = stored[node]
        stored[node] = shard if known is None else merge_shards(known, shard)
        if exchange:
            stored[(node + 1) % 3] = merged(stored[(node + 1) % 3], stored[node])
    all_of_them = merged(merged(stored[0], stored[1]), stored[2])
    again = merged(stored[2], merged(stored[1], merged(stored[0], stored[1])))
    assert all_of_them == again
    if all_of_them is not None:
        assert sum_of(all_of_them) == sum(delta for _, delta, _ in steps)


def merged(left: bytes | None, right: bytes | None) -> bytes | None:
    if left is None or right is None:
        return right if left is None else left
    return merge_shards(left, right)


def test_new_incarnation_begins_a_shard_of_its_own() -> None:
    """After an unclean stop the old shard stays as the others know it."""
    old = increment(None, NODES[0], 1, 10, 5)
    both = merge_shards(old, increment(old, NODES[0], 2, 11, 3))
    assert len(both) == 2 * SHARD_BYTES
    assert sum_of(both) == 8


def test_clock_of_a_shard_always_grows() -> None:
    """Also when the wall clock went back: else the new count would lose against the old."""
    first = increment(None, NODES[0], 1, 100, 5)
    second = increment(first, NODES[0], 1, 50, 2)
    assert sum_of(merge_shards(first, second)) == 7


def test_sum_wraps_around_like_a_bigint() -> None:
    value = increment(None, NODES[0], 1, 1, (1 << 63) - 1)
    assert sum_of(increment(value, NODES[0], 1, 2, 1)) == -(1 << 63)
    other = merge_shards(value, increment(None, NODES[1], 1, 1, 1))
    assert sum_of(other) == -(1 << 63)
