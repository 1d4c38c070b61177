"""Mutations: what a builder gathers, and that it travels unharmed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.storage.tables import NORMALIZING, PLAIN, WIDE

from ourodb.cql.types.native import DECIMAL, INT
from ourodb.storage.keys import TableKeys
from ourodb.storage.mutation import Mutation, MutationBuilder, decode_mutation, row_suffix
from ourodb.storage.record import (
    COMPLEX_DELETION,
    EXPIRING,
    LIVE,
    TOMBSTONE,
    CorruptRecord,
    UniformShape,
    decode_element,
    decode_header,
    decode_row,
)

KEYS = TableKeys(WIDE)
POSITION = KEYS.position([INT.encode(1), INT.encode(1)])
ROW = [INT.encode(1), INT.encode(2)]
ONE = INT.encode(1)


def wide(timestamp: int = 10) -> MutationBuilder:
    return MutationBuilder(KEYS, POSITION, timestamp, 100)


def built(builder: MutationBuilder) -> dict[bytes, bytes]:
    mutation = builder.build()
    assert mutation is not None
    suffixes = [suffix for suffix, _ in mutation.writes]
    assert suffixes == sorted(set(suffixes))
    return dict(mutation.writes)


@given(st.integers(0, (1 << 32) - 1), st.binary(), st.lists(st.tuples(st.binary(), st.binary()), max_size=3))
def test_mutation_travels(incarnation: int, position: bytes, writes: list[tuple[bytes, bytes]]) -> None:
    encoded = b"xx" + Mutation(incarnation, position, writes, 100).encode() + b"yy"
    found, end = decode_mutation(encoded, 2)
    assert (found.incarnation, found.position, found.writes) == (incarnation, position, writes)
    assert found.stamped_at == -1
    assert encoded[end:] == b"yy"


def test_cut_mutation_is_refused() -> None:
    encoded = Mutation(7, b"position", [(b"suffix", b"record")]).encode()
    for end in range(len(encoded)):
        with pytest.raises(CorruptRecord):
            decode_mutation(encoded[:end])


def test_insert_by_builder_is_the_uniform_record() -> None:
    """Both ways into the store give the same bytes."""
    keys = TableKeys(PLAIN)
    builder = MutationBuilder(keys, keys.position([ONE]), 10, 100)
    row = builder.row([ONE])
    row.marker(30)
    row.cell(PLAIN.columns["w"], b"bb", 30)
    row.cell(PLAIN.columns["v"], b"a", 30)
    values = b"\x00\x00\x00\x01a\x00\x00\x00\x02bb"
    expected = UniformShape([1, 2]).expiring_record(10, 30, 130, values)
    assert built(builder) == {row_suffix(keys.clustering([ONE])): expected}


def test_nothing_added_is_no_mutation() -> None:
    builder = wide()
    builder.row(ROW)
    builder.static_row()
    builder.delete_range(b"b", b"a")
    assert builder.build() is None


def test_same_row_of_several_statements_is_one_record() -> None:
    """A batch: the later timestamp wins, whichever statement came first."""
    builder = wide(10)
    builder.row(ROW).cell(WIDE.columns["v"], b"new")
    builder.timestamp = 9
    builder.row(ROW).cell(WIDE.columns["v"], b"old")
    builder.row(ROW).cell(WIDE.columns["w"], b"w")
    (record,) = built(builder).values()
    v, w = WIDE.columns["v"].id, WIDE.columns["w"].id
    assert decode_row(record).cells == {v: (10, LIVE, 0, b"new", 0), w: (9, LIVE, 0, b"w", 0)}


def test_deletion_of_the_row_in_the_same_mutation_shadows_it() -> None:
    builder = wide(10)
    row = builder.row(ROW)
    row.marker()
    row.cell(WIDE.columns["v"], b"x")
    row.delete()
    (record,) = built(builder).values()
    found = decode_row(record)
    assert (found.marker, found.deletion, found.cells) == (None, (10, 100), {})


def test_overwritten_collection_is_deleted_just_before() -> None:
    """The elements of the same statement must survive its deletion."""
    builder = wide(10)
    row = builder.row(ROW)
    m = WIDE.columns["m"]
    row.overwrite(m)
    row.element(m, b"k", ONE, 7)
    clustering_key = KEYS.clustering(ROW)
    found = built(builder)
    assert decode_row(found[row_suffix(clustering_key)]).cells == {m.id: (9, COMPLEX_DELETION, 100, b"", 0)}
    element = found[KEYS.element_suffix(clustering_key, m.id, b"k")]
    assert decode_element(element) == ((10, EXPIRING, 107, ONE, 7), None)


def test_null_of_a_collection_deletes_its_elements() -> None:
    builder = wide(10)
    builder.row(ROW).tombstone(WIDE.columns["m"])
    builder.row(ROW).tombstone(WIDE.columns["v"])
    (record,) = built(builder).values()
    assert {cell[:2] for cell in decode_row(record).cells.values()} == {
        (10, COMPLEX_DELETION),
        (10, TOMBSTONE),
    }


def test_statics_ranges_and_partition_deletion_meet_in_the_header() -> None:
    builder = wide(10)
    builder.delete_partition()
    builder.delete_range(*KEYS.slice([ONE]))
    builder.timestamp = 11
    builder.static_row().cell(WIDE.columns["s"], ONE)
    builder.static_row().element(WIDE.columns["sm"], b"k", ONE)
    found = built(builder)
    header = decode_header(found[b"\x10"])
    assert header.deletion == (10, 100)
    assert header.has_ranges
    assert header.static is not None
    assert header.static.cells == {1: (11, LIVE, 0, ONE, 0)}
    assert sorted({suffix[0] for suffix in found}) == [0x10, 0x20, 0x30]


def test_overlapping_ranges_are_fragmented_as_they_come() -> None:
    builder = wide(10)
    builder.delete_range(b"\x20", b"\x40")
    builder.timestamp = 11
    builder.delete_range(b"\x30", b"\x50")
    builder.delete_range(b"\x30", b"\x50")
    assert [suffix for suffix in built(builder) if suffix[0] == 0x30] == [b"\x30\x20", b"\x30\x30"]


def test_bytes_of_equal_values_are_kept_as_written() -> None:
    keys = TableKeys(NORMALIZING)
    canonical, other = sorted([DECIMAL.parse("1.0"), DECIMAL.parse("1.00"), DECIMAL.parse("1")], key=len)[::2]
    if keys.canonical_clustering(keys.clustering([other])) == (other,):
        canonical, other = other, canonical
    builder = MutationBuilder(keys, keys.position([ONE]), 10, 100)
    row = builder.row([other])
    row.marker()
    e = NORMALIZING.columns["e"]
    row.element(e, other, b"")
    found = built(builder)
    assert decode_row(found[row_suffix(keys.clustering([other]))]).raw_clustering == (other,)
    assert decode_element(found[keys.element_suffix(keys.clustering([other]), e.id, other)])[1] == other
