"""Merging records: replicas that got the same in any order hold the same, and ties are decided as in Cassandra."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.storage.records import cells, counter_records, element_records, header_records, row_records

from ourodb.storage.merge import merge, reconcile
from ourodb.storage.record import (
    COMPLEX_DELETION,
    COUNTER,
    EXPIRING,
    LIVE,
    TOMBSTONE,
    Cell,
    CorruptRecord,
    Header,
    Row,
    UniformShape,
    decode_row,
    encode_element,
    encode_header,
    encode_row,
)

THREE_OF_A_KIND = st.one_of(
    st.tuples(row_records(), row_records(), row_records()),
    st.tuples(counter_records(), counter_records(), counter_records()),
    st.tuples(element_records(), element_records(), element_records()),
    st.tuples(header_records(), header_records(), header_records()),
)


@given(THREE_OF_A_KIND)
def test_order_and_repetition_do_not_matter(records: tuple[bytes, bytes, bytes]) -> None:
    a, b, c = records
    assert merge(a, b) == merge(b, a)
    assert merge(merge(a, b), c) == merge(a, merge(b, c))
    assert merge(a, a) == a
    assert merge(merge(a, b), b) == merge(a, b)


@given(st.lists(row_records(), min_size=1, max_size=4))
def test_all_orders_agree(records: list[bytes]) -> None:
    found = set()
    for order in permutations(records):
        merged = order[0]
        for record in order[1:]:
            merged = merge(merged, record)
        found.add(merged)
    assert len(found) == 1


LIVE_A: Cell = (5, LIVE, 0, b"a", 0)


@pytest.mark.parametrize(
    ("winner", "loser"),
    [
        ((6, LIVE, 0, b"", 0), (5, TOMBSTONE, 200, b"", 0)),
        ((5, TOMBSTONE, 100, b"", 0), (5, LIVE, 0, b"z", 0)),
        ((5, TOMBSTONE, 100, b"", 0), (5, EXPIRING, 900, b"z", 9)),
        ((5, EXPIRING, 100, b"a", 9), (5, LIVE, 0, b"z", 0)),
        ((5, EXPIRING, 101, b"a", 9), (5, EXPIRING, 100, b"z", 9)),
        ((5, EXPIRING, 100, b"b", 9), (5, EXPIRING, 100, b"a", 9)),
        ((5, LIVE, 0, b"b", 0), LIVE_A),
        ((5, LIVE, 0, b"\x80", 0), (5, LIVE, 0, b"\x7f", 0)),
        ((5, LIVE, 0, b"aa", 0), LIVE_A),
        ((5, TOMBSTONE, 101, b"", 0), (5, TOMBSTONE, 100, b"", 0)),
    ],
)
def test_ties(winner: Cell, loser: Cell) -> None:
    """As ``Cells.reconcile`` of Cassandra 5."""
    assert reconcile(winner, loser) == winner
    assert reconcile(loser, winner) == winner


@given(cells(), cells())
def test_one_of_two_cells_stands(left: Cell, right: Cell) -> None:
    assert reconcile(left, right) in (left, right)


def test_tombstone_of_a_counter_wins_whatever_its_timestamp() -> None:
    counter: Cell = (9, COUNTER, 0, bytes(36), 0)
    tombstone: Cell = (1, TOMBSTONE, 100, b"", 0)
    assert reconcile(counter, tombstone) == tombstone
    assert reconcile(tombstone, counter) == tombstone


def joined(*values: bytes) -> bytes:
    return b"".join(len(value).to_bytes(4, "big") + value for value in values)


def test_newer_insert_of_the_same_columns_is_the_record_itself() -> None:
    """The fast path: nothing is parsed."""
    shape = UniformShape([1, 2])
    old, new = shape.record(5, joined(b"a", b"b")), shape.record(6, joined(b"c", b"d"))
    assert merge(old, new) is new
    assert merge(new, old) is new


def test_newer_update_does_not_take_the_marker_away() -> None:
    """Else a row would vanish with its last cell though it was inserted."""
    old = UniformShape([1]).record(5, joined(b"a"))
    new = UniformShape([1], marker=False).record(6, joined(b"b"))
    row = decode_row(merge(old, new))
    assert row.marker == (5, LIVE, 0, 0)
    assert row.cells == {1: (6, LIVE, 0, b"b", 0)}


def test_insert_of_fewer_columns_keeps_the_others() -> None:
    old = UniformShape([1, 2]).record(5, joined(b"a", b"b"))
    new = UniformShape([2]).record(6, joined(b"c"))
    row = decode_row(merge(old, new))
    assert row.cells == {1: (5, LIVE, 0, b"a", 0), 2: (6, LIVE, 0, b"c", 0)}


def test_row_deletion_removes_what_is_not_newer() -> None:
    old = encode_row(
        Row((5, LIVE, 0, 0), None, {1: LIVE_A, 2: (7, LIVE, 0, b"b", 0), 3: (6, COMPLEX_DELETION, 1, b"", 0)})
    )
    row = decode_row(merge(old, encode_row(Row(None, (6, 100), {}))))
    assert row.marker is None
    assert row.deletion == (6, 100)
    assert row.cells == {2: (7, LIVE, 0, b"b", 0)}


def test_partition_deletion_removes_older_statics() -> None:
    old = encode_header(Header(None, False, Row(None, None, {1: LIVE_A})))
    merged = merge(old, encode_header(Header((5, 100), False, None)))
    assert merged == encode_header(Header((5, 100), False, None))


def test_records_of_different_kinds_are_never_merged() -> None:
    """Such a pair under one key means that the store is damaged."""
    with pytest.raises(CorruptRecord):
        merge(encode_element(LIVE_A), encode_header(Header()))
