"""Strategies for arbitrary records: of every kind, with timestamps and times that tie."""

from __future__ import annotations

from hypothesis import strategies as st

from ourodb.storage.counter import increment, merge_shards
from ourodb.storage.record import (
    COMPLEX_DELETION,
    COUNTER,
    EXPIRING,
    LIVE,
    TOMBSTONE,
    Cell,
    Deletion,
    Header,
    Marker,
    Row,
    UniformShape,
    encode_element,
    encode_header,
    encode_row,
)

timestamps = st.integers(-2, 4)
times = st.integers(100, 103)
values = st.sampled_from([b"", b"a", b"b", b"\x00\xff"])


def cells() -> st.SearchStrategy[Cell]:
    """Of one simple column."""
    live = st.builds(lambda timestamp, value: (timestamp, LIVE, 0, value, 0), timestamps, values)
    expiring = st.builds(
        lambda timestamp, at, value, ttl: (timestamp, EXPIRING, at, value, ttl),
        timestamps,
        times,
        values,
        st.integers(1, 2),
    )
    tombstone = st.builds(lambda timestamp, at: (timestamp, TOMBSTONE, at, b"", 0), timestamps, times)
    return st.one_of(live, expiring, tombstone)


def complex_deletions() -> st.SearchStrategy[Cell]:
    return st.builds(lambda timestamp, at: (timestamp, COMPLEX_DELETION, at, b"", 0), timestamps, times)


def counters() -> st.SearchStrategy[Cell]:
    shard = st.builds(
        lambda node, clock, count: increment(None, bytes([node]) * 16, node, clock, count),
        st.integers(0, 2),
        st.integers(0, 2),
        st.integers(-5, 5),
    )
    shards = st.builds(merge_shards, shard, shard)
    counter = st.builds(lambda timestamp, value: (timestamp, COUNTER, 0, value, 0), timestamps, shards)
    tombstone = st.builds(lambda timestamp, at: (timestamp, TOMBSTONE, at, b"", 0), timestamps, times)
    return st.one_of(counter, counter, tombstone)


def markers() -> st.SearchStrategy[Marker]:
    live = st.builds(lambda timestamp: (timestamp, LIVE, 0, 0), timestamps)
    expiring = st.builds(
        lambda timestamp, at, ttl: (timestamp, EXPIRING, at, ttl), timestamps, times, st.integers(1, 2)
    )
    return live | expiring


deletions: st.SearchStrategy[Deletion] = st.tuples(timestamps, times)


def rows(*, with_deletion: bool = True, with_marker: bool = True) -> st.SearchStrategy[Row]:
    """Columns 1 and 2 are simple, 3 is a collection; what the row's deletion shadows isn't in it."""

    def build(
        marker: Marker | None,
        deletion: Deletion | None,
        found: dict[int, Cell],
        raw: tuple[bytes, ...] | None,
    ) -> Row:
        if deletion is not None:
            found = {column_id: cell for column_id, cell in found.items() if cell[0] > deletion[0]}
            if marker is not None and marker[0] <= deletion[0]:
                marker = None
        return Row(marker, deletion, found, raw)

    return st.builds(
        build,
        st.none() | markers() if with_marker else st.none(),
        st.none() | deletions if with_deletion else st.none(),
        st.fixed_dictionaries({}, optional={1: cells(), 2: cells(), 3: complex_deletions()}),
        st.none() | st.sampled_from([(b"1.0",), (b"1.00", b"")]),
    )


def uniform_records() -> st.SearchStrategy[bytes]:
    """As the fast path of INSERT and UPDATE makes them."""

    def build(ids: list[int], marker: bool, timestamp: int, ttl: int, value: bytes) -> bytes:
        shape = UniformShape(sorted(ids), marker)
        joined = (len(value).to_bytes(4, "big") + value) * len(ids)
        if ttl:
            return shape.expiring_record(timestamp, ttl, 100 + ttl, joined)
        return shape.record(timestamp, joined)

    return st.builds(
        build,
        st.lists(st.sampled_from([1, 2]), min_size=1, unique=True),
        st.booleans(),
        timestamps,
        st.integers(0, 2),
        values,
    )


def row_records() -> st.SearchStrategy[bytes]:
    return uniform_records() | rows().filter(lambda row: not row.is_empty()).map(encode_row)


def counter_records() -> st.SearchStrategy[bytes]:
    """Rows of counters without row deletions, the order of which matters."""
    return st.dictionaries(st.integers(1, 2), counters(), min_size=1).map(
        lambda found: encode_row(Row(None, None, found))
    )


def element_records() -> st.SearchStrategy[bytes]:
    return st.builds(encode_element, cells(), st.none() | st.sampled_from([b"1.0", b"1.00"]))


def header_records() -> st.SearchStrategy[bytes]:
    def build(deletion: Deletion | None, has_ranges: bool, static: Row | None) -> bytes:
        if static is not None:
            static.raw_clustering = None
            if deletion is not None:
                static.cells = {
                    column_id: cell for column_id, cell in static.cells.items() if cell[0] > deletion[0]
                }
        return encode_header(Header(deletion, has_ranges, static))

    return st.builds(
        build,
        st.none() | deletions,
        st.booleans(),
        st.none() | rows(with_deletion=False, with_marker=False),
    )
