"""Counters: no increment is lost or counted twice, whatever is merged with whatever."""

from __future__ import annotations

import struct
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.storage.tables import COUNTERS, GC_GRACE_S

from ourodb.cql.types.native import INT
from ourodb.storage.chunk import Chunk, digest, read_slices
from ourodb.storage.counter import SHARD_BYTES, increment, merge_shards, total
from ourodb.storage.keys import ALL_ROWS
from ourodb.storage.memory import MemoryStore
from ourodb.storage.mutation import Mutation, MutationBuilder
from ourodb.storage.row import LiveRow
from ourodb.storage.rows import Rows, TableRows

KEY = INT.encode(1)
NOW = 1_700_000_000

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


@pytest.mark.parametrize("what", ["row", "range", "partition"])
def test_a_deletion_takes_what_was_counted_before_it_in_whichever_order_one_hears_of_it(what: str) -> None:
    """Else replicas differ for ever, and with each read repair the deleted counts come back."""

    def mutation(rows: TableRows, timestamp: int) -> MutationBuilder:
        return MutationBuilder(rows.keys, rows.keys.position((KEY,)), timestamp, NOW)

    def counted(rows: TableRows, node: bytes, timestamp: int, delta: int) -> Mutation | None:
        builder = mutation(rows, timestamp)
        shard = increment(None, node, 1, timestamp, delta)
        builder.row((KEY,)).counter(COUNTERS.columns["n"], shard)
        return builder.build()

    def deleted(rows: TableRows) -> Mutation | None:
        builder = mutation(rows, 12)
        if what == "row":
            builder.row((KEY,)).delete()
        elif what == "range":
            builder.delete_range(*builder.keys.slice(()))
        else:
            builder.delete_partition()
        return builder.build()

    seen = set()
    for order in permutations(range(4)):
        store = MemoryStore()
        all_rows = Rows(store)
        rows = all_rows.register(COUNTERS)
        mutations = [
            counted(rows, b"a" * 16, 5, 10),
            counted(rows, b"b" * 16, 6, 20),
            deleted(rows),
            counted(rows, b"b" * 16, 13, 3),
        ]
        for index in order:
            made = mutations[index]
            assert made is not None
            assert rows.apply(made, NOW) is None
        position = rows.keys.position((KEY,))
        shards = rows.get_shards(position, rows.keys.clustering((KEY,)), NOW)
        assert isinstance(shards, dict)
        (value,) = shards.values()
        (row,) = rows.read(position, NOW)
        assert isinstance(row, LiveRow)
        chunk = read_slices(rows, position, ALL_ROWS, now_s=NOW, rows_max=9, bytes_max=9999, keys_max=99)
        assert isinstance(chunk, Chunk)
        seen.add(
            (
                int.from_bytes(total(value), "big"),
                row.cells[COUNTERS.columns["n"].id][0],
                digest(chunk.partitions, chunk.end, NOW, GC_GRACE_S, None),
            )
        )
    assert len(seen) == 1, seen
    ((count, shown, _),) = seen
    assert count == int.from_bytes(shown, "big") == 3
