"""Keys: their order is CQL's order, and bounds lie between rows where they should."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.storage.tables import KEY_VALUE, NORMALIZING, PLAIN, WIDE, table

from ourodb.cql.types.native import BIGINT, DECIMAL, INT, TEXT, VARINT
from ourodb.storage.keys import (
    FIRST,
    LAST,
    TableKeys,
    after_row,
    intersect,
    next_position,
    position_end,
    token_end,
    token_of,
    token_start,
    union,
)

MIXED = TableKeys(
    table([("p", TEXT)], [("a", INT, False), ("b", TEXT, True), ("c", VARINT, False)], [], [("v", INT)])
)
WORDS = st.text("ab\x00\xff", max_size=3)
NUMBERS = st.integers(-3, 3)
ROWS = st.tuples(NUMBERS, WORDS, NUMBERS)


def wire(row: tuple[object, ...]) -> list[bytes]:
    return [kind.encode(value) for kind, value in zip((INT, TEXT, VARINT), row, strict=False)]


def cql_order(row: tuple[int, str, int]) -> tuple[object, ...]:
    """b is DESC: invert its bytes, and let the longer of two with a common beginning come first."""
    return row[0], [255 - byte for byte in row[1].encode()] + [256], row[2]


@given(ROWS, ROWS)
def test_order_of_clustering_keys_is_clustering_order(
    left: tuple[int, str, int], right: tuple[int, str, int]
) -> None:
    assert (MIXED.clustering(wire(left)) < MIXED.clustering(wire(right))) == (
        cql_order(left) < cql_order(right)
    )


@given(ROWS)
def test_clustering_values_are_read_back(row: tuple[int, str, int]) -> None:
    key = MIXED.clustering(wire(row))
    assert MIXED.clustering_values(b"xx" + key + b"yy", 2) == (tuple(wire(row)), 2 + len(key))
    assert MIXED.clustering_end(b"xx" + key + b"yy", 2) == 2 + len(key)


@given(ROWS, ROWS, st.integers(0, 3), st.booleans())
def test_bound_of_a_prefix(
    row: tuple[int, str, int], other: tuple[int, str, int], length: int, after: bool
) -> None:
    """Before (after) every row with the prefix, and on the right side of all others."""
    key = MIXED.clustering(wire(other))
    bound = MIXED.bound(wire(row[:length]), after)
    if other[:length] == row[:length]:
        assert (key < bound) == after
    else:
        assert (key < bound) == (cql_order(other) < cql_order(row))
    assert FIRST <= bound <= LAST


@given(ROWS, st.integers(0, 2), ROWS, ROWS, st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_slice_holds_the_rows_of_the_restriction(
    row: tuple[int, str, int],
    length: int,
    lower: tuple[int, str, int],
    upper: tuple[int, str, int],
    has_lower: bool,
    has_upper: bool,
    lower_inclusive: bool,
    upper_inclusive: bool,
) -> None:
    equal = lower[:length]
    start, end = MIXED.slice(
        wire(equal),
        wire(lower)[length] if has_lower else None,
        lower_inclusive,
        wire(upper)[length] if has_upper else None,
        upper_inclusive,
    )
    value = row[length]
    wanted = row[:length] == equal
    if has_lower:
        wanted &= value > lower[length] or (lower_inclusive and value == lower[length])  # type: ignore[operator]
    if has_upper:
        wanted &= value < upper[length] or (upper_inclusive and value == upper[length])  # type: ignore[operator]
    assert (start <= MIXED.clustering(wire(row)) < end) == wanted


@given(ROWS, st.integers(0, 2), ROWS, ROWS, st.integers(1, 3), st.booleans(), st.booleans(), st.booleans())
def test_tuple_slices_hold_the_rows_of_the_relation(
    row: tuple[int, str, int],
    at: int,
    lower: tuple[int, str, int],
    upper: tuple[int, str, int],
    width: int,
    lower_inclusive: bool,
    upper_inclusive: bool,
    both: bool,
) -> None:
    """Lexicographic in CQL's order although ASC and DESC mix."""
    stop = min(3, at + width)
    equal = lower[:at]
    all_wire = wire(lower), wire(upper)
    slices = MIXED.tuple_slices(
        wire(equal),
        all_wire[0][at:stop],
        lower_inclusive,
        all_wire[1][at:stop] if both else None,
        upper_inclusive,
    )
    assert slices == sorted(slices)
    assert all(before[1] <= after[0] for before, after in pairwise(slices))
    value = row[at:stop]
    wanted = row[:at] == equal and (value > lower[at:stop] or (lower_inclusive and value == lower[at:stop]))
    if both:
        wanted &= value < upper[at:stop] or (upper_inclusive and value == upper[at:stop])
    key = MIXED.clustering(wire(row))
    assert any(start <= key < end for start, end in slices) == wanted


@given(st.lists(st.tuples(ROWS, ROWS), max_size=3), ROWS, ROWS, st.booleans())
def test_rest_of_slices_after_a_row(
    limits: list[tuple[tuple[int, str, int], tuple[int, str, int]]],
    last: tuple[int, str, int],
    row: tuple[int, str, int],
    reverse: bool,
) -> None:
    slices = union([(MIXED.bound(wire(low), False), MIXED.bound(wire(high), True)) for low, high in limits])
    key, last_key = MIXED.clustering(wire(row)), MIXED.clustering(wire(last))
    inside = any(start <= key < end for start, end in slices)
    rest = after_row(slices, last_key, reverse)
    beyond = key < last_key if reverse else key > last_key
    assert any(start <= key < end for start, end in rest) == (inside and beyond)


def test_union_joins_what_touches_and_drops_what_is_empty() -> None:
    assert union([(b"c", b"d"), (b"a", b"c"), (b"x", b"x"), (b"f", b"e")]) == [(b"a", b"d")]
    assert intersect([(b"a", b"d"), (b"f", b"h")], [(b"b", b"g")]) == [(b"b", b"d"), (b"f", b"g")]


def test_token_of_a_position_is_that_of_cassandra() -> None:
    """Drivers route by it. Tokens as cqlsh shows them for Cassandra's Murmur3Partitioner."""
    single = TableKeys(PLAIN).position([INT.encode(1)])
    assert token_of(single) == -4069959284402364209
    assert token_of(TableKeys(PLAIN).position([INT.encode(2)])) == -3248873570005575792


def test_composite_partition_key_is_cassandras() -> None:
    keys = TableKeys(WIDE)
    values = (INT.encode(1), INT.encode(2))
    position = keys.position(values)
    assert position[10:] == b"\x00\x04\x00\x00\x00\x01\x00\x00\x04\x00\x00\x00\x02\x00"
    assert keys.partition_key(values) == position[10:]
    assert keys.partition_values(position) == values


@given(st.binary(max_size=5), st.binary(max_size=5))
def test_positions_sort_by_token_and_delimit_themselves(left: bytes, right: bytes) -> None:
    keys = TableKeys(KEY_VALUE)
    a, b = keys.position([left]), keys.position([right])
    assert keys.partition_values(a) == (left,)
    if token_of(a) < token_of(b):
        assert a < next_position(a) <= b
    if left != right:
        assert not b.startswith(a)
    assert token_start(token_of(a)) <= a
    end = token_end(token_of(a))
    assert end is None or next_position(a) <= end
    row = keys.row_key(a, b"clustering")
    assert position_end(row) == 4 + len(a)
    assert keys.prefix(a) == row[: position_end(row)]


def test_token_bounds_reach_both_ends() -> None:
    assert token_start(-(1 << 63)) == bytes(8)
    assert token_end((1 << 63) - 1) is None


@pytest.mark.parametrize(("name", "path"), [("m", b"key"), ("e", b"\x80\x00\x00\x01"), ("u", b"\x00\x01")])
def test_path_of_an_element_is_read_back(name: str, path: bytes) -> None:
    keys = TableKeys(WIDE)
    column_id = WIDE.columns[name].id
    clustering_key = keys.clustering([INT.encode(1), INT.encode(2)])
    suffix = keys.element_suffix(clustering_key, column_id, path)
    head = b"\x40" + clustering_key + b"\x01" + column_id.to_bytes(2, "big")
    assert suffix.startswith(head)
    assert keys.element_path(column_id, suffix[len(head) :]) == path


def test_elements_of_a_row_come_after_it_and_before_the_next() -> None:
    keys = TableKeys(WIDE)
    column_id = WIDE.columns["m"].id
    for first, second in ((1, 2), (-5, 1)):
        row = keys.clustering([INT.encode(first), INT.encode(0)])
        following = keys.clustering([INT.encode(second), INT.encode(0)])
        element = keys.element_suffix(row, column_id, b"\xff\xff")
        assert b"\x40" + row < element < b"\x40" + row + b"\xff" < b"\x40" + following


def test_equal_decimals_are_one_key() -> None:
    keys = TableKeys(NORMALIZING)
    assert keys.normalizes
    assert keys.clustering([DECIMAL.parse("1.0")]) == keys.clustering([DECIMAL.parse("1.00")])
    assert not TableKeys(PLAIN).normalizes


def test_bigint_column_of_a_table_without_clustering() -> None:
    keys = TableKeys(table([("p", BIGINT)], [], [], [("v", INT)]))
    assert keys.clustering([]) == b""
    assert keys.slice() == (FIRST, LAST)
