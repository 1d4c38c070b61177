"""What counts towards the end of a chunk.

If this fails, a read of what isn't there goes through all of a table in one pass, while clients and gossip wait; or a
partition with many static elements or range tombstones takes a round trip for each of its rows.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.storage.tables import PLAIN, WIDE

from ourodb import limits
from ourodb.cql.types.native import INT
from ourodb.schema.model import Table
from ourodb.storage.chunk import Chunk, beyond, read_range, read_slices
from ourodb.storage.keys import ALL_ROWS, Slice, TableKeys, next_position, union
from ourodb.storage.memory import MemoryStore
from ourodb.storage.mutation import MutationBuilder
from ourodb.storage.rows import Rows, TableRows

NOW_S = 1_700_000_000
ONE = INT.encode(1)


class CountingStore(MemoryStore):
    """Counts scans, and the keys that these give."""

    def __init__(self) -> None:
        super().__init__()
        self.scans = 0
        self.keys = 0

    def scan(
        self, family: int, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        self.scans += 1
        for pair in super().scan(family, start, end, reverse=reverse):
            self.keys += 1
            yield pair


def rows_in(store: MemoryStore, table: Table) -> TableRows:
    return Rows(store).register(table)


def put(rows: TableRows, builder: MutationBuilder) -> None:
    mutation = builder.build()
    assert mutation is not None
    assert rows.apply(mutation, NOW_S) is None


def range_chunks(rows: TableRows, slices: list[Slice], keys_max: int) -> Iterator[Chunk]:
    """Those of a scan; none ends amid a partition."""
    start: bytes | None = b""
    while start is not None:
        chunk = read_range(
            rows, start, None, slices, now_s=NOW_S, rows_max=5_000, bytes_max=1 << 20, keys_max=keys_max
        )
        yield chunk
        assert chunk.end is None or chunk.end[1] is None
        start = None if chunk.end is None else next_position(chunk.end[0])


def slice_chunks(
    rows: TableRows, position: bytes, slices: list[Slice], *, reverse: bool = False, bytes_max: int = 1 << 20
) -> Iterator[Chunk]:
    left: list[Slice] = slices
    while left:
        chunk = read_slices(
            rows,
            position,
            left,
            reverse=reverse,
            now_s=NOW_S,
            rows_max=limits.CHUNK_ROWS_MAX,
            bytes_max=bytes_max,
            keys_max=limits.CHUNK_KEYS_PER_PASS,
        )
        yield chunk
        left = list(beyond(left, None if chunk.end is None else chunk.end[1], reverse=reverse))


def single_rows(keys: TableKeys) -> list[Slice]:
    """``c IN (...) AND d IN (...)`` of 64 values each."""
    numbers = range(64)
    return union([keys.slice([INT.encode(c), INT.encode(d)]) for c in numbers for d in numbers])


@pytest.mark.parametrize("table", [PLAIN, WIDE], ids=["plain", "wide"])
def test_partitions_without_a_wanted_row_end_a_chunk(table: Table) -> None:
    """``WHERE c = 7 ALLOW FILTERING``, and only the last partition has such a row."""
    store = CountingStore()
    rows = rows_in(store, table)
    width = len(table.partition_key)
    positions = sorted(rows.keys.position([INT.encode(number)] * width) for number in range(500))
    for position in positions:
        builder = MutationBuilder(rows.keys, position, 5, NOW_S)
        for c in (1, 7) if position == positions[-1] else (1,):
            builder.row([INT.encode(c), ONE][: len(table.clustering)]).marker()
        put(rows, builder)
    found, count = [], 0
    store.scans = store.keys = 0
    for chunk in range_chunks(rows, [rows.keys.slice([INT.encode(7)])], 100):
        assert store.scans + store.keys <= 4 * 100
        store.scans = store.keys = 0
        assert chunk.visited <= 100 + 2
        found += [partition.position for partition in chunk.partitions]
        count += 1
    assert found == positions[-1:]
    assert count > 4


@pytest.mark.parametrize("reverse", [False, True])
def test_slices_without_a_row_end_a_chunk(reverse: bool) -> None:
    store = CountingStore()
    rows = rows_in(store, WIDE)
    position = rows.keys.position([ONE, ONE])
    builder = MutationBuilder(rows.keys, position, 5, NOW_S)
    there = [[INT.encode(c), INT.encode(c)] for c in (0, 31, 63)]
    for values in there:
        builder.row(values).marker()
    put(rows, builder)
    found = []
    store.scans = 0
    for chunk in slice_chunks(rows, position, single_rows(rows.keys), reverse=reverse):
        assert store.scans <= limits.CHUNK_KEYS_PER_PASS + 10
        store.scans = 0
        found += [suffix[1:] for partition in chunk.partitions for suffix, _ in partition.writes]
    assert sorted(found) == sorted(rows.keys.clustering(values) for values in there)


def test_slices_with_a_row_each_count_no_more_than_their_rows() -> None:
    """As many rows as conditions may be about are read in one chunk."""
    rows = rows_in(MemoryStore(), WIDE)
    position = rows.keys.position([ONE, ONE])
    builder = MutationBuilder(rows.keys, position, 5, NOW_S)
    for number in range(limits.CHUNK_KEYS_PER_PASS):
        builder.row([INT.encode(number), ONE]).marker()
    put(rows, builder)
    slices = [rows.keys.slice([INT.encode(number), ONE]) for number in range(limits.CHUNK_KEYS_PER_PASS)]
    assert len(list(slice_chunks(rows, position, slices))) == 1


@pytest.mark.parametrize("elements", [10, 1_000, 1_100, 5_000])
def test_static_elements_leave_room_for_rows(elements: int) -> None:
    rows = rows_in(MemoryStore(), WIDE)
    position = rows.keys.position([ONE, ONE])
    builder = MutationBuilder(rows.keys, position, 5, NOW_S)
    for number in range(elements):
        builder.static_row().element(WIDE.columns["sm"], b"%d" % number, ONE)
    for number in range(2_000):
        builder.row([INT.encode(number), ONE]).marker()
    put(rows, builder)
    assert len(list(slice_chunks(rows, position, list(ALL_ROWS)))) <= 4


def test_a_large_static_value_leaves_room_for_rows() -> None:
    rows = rows_in(MemoryStore(), WIDE)
    position = rows.keys.position([ONE, ONE])
    builder = MutationBuilder(rows.keys, position, 5, NOW_S)
    builder.static_row().element(WIDE.columns["sm"], b"k", bytes(20_000))
    for number in range(200):
        builder.row([INT.encode(number), ONE]).cell(WIDE.columns["v"], ONE)
    put(rows, builder)
    assert len(list(slice_chunks(rows, position, list(ALL_ROWS), bytes_max=10_000))) <= 4


def test_static_rows_of_many_partitions_end_a_chunk() -> None:
    rows = rows_in(MemoryStore(), WIDE)
    for number in range(20):
        builder = MutationBuilder(rows.keys, rows.keys.position([INT.encode(number), ONE]), 5, NOW_S)
        builder.static_row().element(WIDE.columns["sm"], b"k", bytes(1_000))
        put(rows, builder)
    sizes = []
    start = b""
    while True:
        chunk = read_range(rows, start, None, rows_max=5_000, bytes_max=6_000, keys_max=5_000)
        sizes.append(len(chunk.partitions))
        if chunk.end is None:
            break
        start = next_position(chunk.end[0])
    assert sum(sizes) == 20
    assert max(sizes) <= 5


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("ranges", [10, 900, 2_000])
def test_range_tombstones_leave_room_for_rows(ranges: int, reverse: bool) -> None:
    rows = rows_in(MemoryStore(), PLAIN)
    position = rows.keys.position([ONE])
    for first in range(0, 2_000, 50):
        builder = MutationBuilder(rows.keys, position, 5, NOW_S)
        for number in range(first, first + 50):
            builder.row([INT.encode(2 * number)]).marker()
            if number < ranges:
                builder.delete_range(*rows.keys.slice([INT.encode(2 * number + 1)]))
        put(rows, builder)
    assert len(list(slice_chunks(rows, position, list(ALL_ROWS), reverse=reverse))) <= 5
