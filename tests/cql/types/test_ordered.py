"""The ordered form. If these fail, rows come back in the wrong order, or one row shadows or swallows another."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.cql.types.values import ORDERED_NATIVES, model_compare, typed_values, types, values

from ourodb.cql.types import (
    BLOB,
    BOOLEAN,
    DECIMAL,
    DOUBLE,
    FLOAT,
    INT,
    TEXT,
    TIMEUUID,
    UUID,
    VARINT,
    CqlType,
    ListType,
    MapType,
    SetType,
    TupleType,
    parse_type,
)
from ourodb.cql.types.ordered import COMPLEMENT

pairs = typed_values(2, ORDERED_NATIVES)


def sign(a: bytes, b: bytes) -> int:
    return (a > b) - (a < b)


@given(pairs)
@settings(max_examples=600, deadline=None)
def test_bytes_compare_as_values_do_and_none_is_a_prefix_of_another(
    drawn: tuple[CqlType, list[bytes]],
) -> None:
    type_, (a, b) = drawn
    order = model_compare(type_, a, b)
    assert sign(type_.encode_ordered(a), type_.encode_ordered(b)) == order
    assert sign(type_.encode_ordered_desc(a), type_.encode_ordered_desc(b)) == -order
    assert type_.compare(a, b) == order
    if order:
        assert not type_.encode_ordered(a).startswith(type_.encode_ordered(b))
        assert not type_.encode_ordered_desc(a).startswith(type_.encode_ordered_desc(b))


@pytest.mark.parametrize("type_", ORDERED_NATIVES, ids=str)
def test_every_simple_type_compares_as_cassandra_does(type_: CqlType) -> None:
    # The mixed test above spends most of its examples on nested types.
    @given(st.tuples(values(type_), values(type_)))
    @settings(max_examples=150, deadline=None)
    def check(pair: tuple[bytes, bytes]) -> None:
        a, b = pair
        order = model_compare(type_, a, b)
        assert sign(type_.encode_ordered(a), type_.encode_ordered(b)) == order
        assert sign(type_.encode_ordered_desc(a), type_.encode_ordered_desc(b)) == -order
        assert type_.compare(a, b) == order

    check()


@given(typed_values(1, ORDERED_NATIVES), st.binary(max_size=5), st.binary(max_size=5))
@settings(max_examples=400, deadline=None)
def test_decoding_gives_the_canonical_value_and_the_next_offset(
    drawn: tuple[CqlType, list[bytes]], before: bytes, after: bytes
) -> None:
    type_, (value,) = drawn
    for encode, decode in (
        (type_.encode_ordered, type_.decode_ordered),
        (type_.encode_ordered_desc, type_.decode_ordered_desc),
    ):
        form = encode(value)
        decoded, end = decode(before + form + after, len(before))
        assert end == len(before) + len(form)
        assert encode(decoded) == form
        assert decoded == type_.canonical(value)
        type_.validate(decoded)
        if not type_.normalizes:
            assert decoded == value


@given(typed_values(1, ORDERED_NATIVES))
@settings(max_examples=200, deadline=None)
def test_desc_is_the_complement(drawn: tuple[CqlType, list[bytes]]) -> None:
    type_, (value,) = drawn
    assert type_.encode_ordered_desc(value) == type_.encode_ordered(value).translate(COMPLEMENT)


@given(typed_values(1, ORDERED_NATIVES))
@settings(max_examples=200, deadline=None)
def test_forms_leave_room_for_bounds(drawn: tuple[CqlType, list[bytes]]) -> None:
    # A slice of clustering prefixes uses prefix + 0x00 and prefix + 0xFF as its ends.
    type_, (value,) = drawn
    assert 0x08 < type_.encode_ordered(value)[0] < 0xF0
    assert 0x08 < type_.encode_ordered_desc(value)[0] < 0xF0


@given(
    st.lists(types(ORDERED_NATIVES), min_size=2, max_size=3).flatmap(
        lambda columns: st.tuples(
            st.just(columns),
            st.lists(st.booleans(), min_size=len(columns), max_size=len(columns)),
            *[st.tuples(*[values(column) for column in columns]) for _ in range(2)],
        )
    )
)
@settings(max_examples=200, deadline=None)
def test_clusterings_of_several_columns_compare_column_by_column(
    drawn: tuple[list[CqlType], list[bool], tuple[bytes, ...], tuple[bytes, ...]],
) -> None:
    columns, descending, a, b = drawn

    def key(row: tuple[bytes, ...]) -> bytes:
        return b"".join(
            column.encode_ordered_desc(value) if desc else column.encode_ordered(value)
            for column, desc, value in zip(columns, descending, row, strict=True)
        )

    order = 0
    for column, desc, x, y in zip(columns, descending, a, b, strict=True):
        order = order or model_compare(column, x, y) * (-1 if desc else 1)
    assert sign(key(a), key(b)) == order


@given(types(ORDERED_NATIVES), st.binary(max_size=24))
@example(DECIMAL, b"\x20\xc0\x88" + b"\x7f" * 8 + b"\x13\x00")
@example(DECIMAL, b"\x20\xc0\x88" + b"\x80" * 8 + b"\x13\x00")
@example(VARINT, b"\x20\xf0\xff\xff\xff\xff")
@settings(max_examples=1000, deadline=None)
def test_foreign_bytes_are_refused_or_decoded_but_never_worse(type_: CqlType, buf: bytes) -> None:
    # A forged paging state is decoded too.
    for decode in (type_.decode_ordered, type_.decode_ordered_desc):
        try:
            _, end = decode(buf, 0)
        except (ValueError, IndexError):
            continue
        assert 0 < end <= len(buf)


def ordered(type_: CqlType, *items: bytes) -> bool:
    forms = [type_.encode_ordered(item) for item in items]
    return all(a < b for a, b in itertools.pairwise(forms))


def test_floats_follow_java() -> None:
    for type_ in (FLOAT, DOUBLE):
        numbers = [-float("inf"), -1.5, -1e-30, -0.0, 0.0, 1e-30, 1.5, float("inf"), float("nan")]
        assert ordered(type_, b"", *map(type_.encode, numbers))
    negative_nan = struct.pack(">I", 0xFFC00001)
    assert FLOAT.encode_ordered(negative_nan) == FLOAT.encode_ordered(FLOAT.encode(float("nan")))


def test_decimals_of_equal_value_are_one_key() -> None:
    one, one_point_zero, ten = DECIMAL.parse("1"), DECIMAL.parse("1.00"), DECIMAL.parse("1e1")
    assert one != one_point_zero
    assert DECIMAL.encode_ordered(one) == DECIMAL.encode_ordered(one_point_zero)
    assert DECIMAL.canonical(one_point_zero) == one
    assert ordered(
        DECIMAL,
        *map(DECIMAL.parse, ["-1e9", "-10", "-1.01", "-1", "-0.99", "0", "1e-9", "0.5", "1.0", "1.01"]),
    )
    assert DECIMAL.encode_ordered(ten) == DECIMAL.encode_ordered(DECIMAL.parse("10"))


def test_a_decimal_at_the_end_of_its_scale_keeps_its_zeros() -> None:
    value = struct.pack(">i", -(2**31)) + (1200).to_bytes(2, "big")
    assert DECIMAL.canonical(value) == value


def test_numbers_of_thousands_of_digits() -> None:
    # Python refuses to print them; a key may hold them.
    huge = 7**20_000
    items = [VARINT.encode(n) for n in (-huge, -huge + 1, -1, 0, huge - 1, huge)]
    assert ordered(VARINT, *items)
    assert all(VARINT.decode_ordered(VARINT.encode_ordered(item), 0)[0] == item for item in items)
    decimals = [struct.pack(">i", 3) + item for item in items]
    assert ordered(DECIMAL, *decimals)
    assert [DECIMAL.compare(DECIMAL.canonical(item), item) for item in decimals] == [0] * len(decimals)


def test_true_is_true_however_it_is_written() -> None:
    assert BOOLEAN.encode_ordered(b"\x02") == BOOLEAN.encode_ordered(b"\x01")
    assert BOOLEAN.canonical(b"\x02") == b"\x01"


def test_uuid_sorts_by_version_and_timeuuid_by_signed_bytes() -> None:
    time_early = bytes.fromhex("ffffffff000011d0" + "80" * 8)
    time_late = bytes.fromhex("00000000000111d0" + "80" * 8)
    random = bytes.fromhex("00000000000040008000000000000000")
    assert ordered(UUID, time_early, time_late, random)
    assert ordered(TIMEUUID, time_early, time_late)
    negative, positive = time_early[:8] + b"\x80" * 8, time_early[:8] + b"\x7f" * 8
    assert ordered(TIMEUUID, negative, positive)
    assert ordered(UUID, positive, negative)


def test_nested_order() -> None:
    list_ = ListType(INT, frozen=True)
    assert ordered(list_, *map(list_.encode, [[], [-1], [-1, 5], [0], [0, -9], [1]]))
    map_ = MapType(TEXT, INT, frozen=True)
    assert ordered(map_, *map(map_.encode, [{}, {"a": 1}, {"a": 1, "b": 0}, {"a": 2}, {"b": -5}]))
    tuple_ = TupleType([INT, TEXT])
    assert ordered(
        tuple_, *map(tuple_.encode, [(None, None), (None, "a"), (1,), (1, ""), (1, "a"), (2, None)])
    )
    assert tuple_.encode_ordered(tuple_.encode((1,))) == tuple_.encode_ordered(tuple_.encode((1, None)))


def test_the_layout_is_what_stores_hold() -> None:
    # Changing any of these is a new storage format.
    golden = [
        ("int", "00000005", "2080000005"),
        ("int", "fffffffb", "207ffffffb"),
        ("int", "", "10"),
        ("date", "80000000", "2080000000"),
        ("text", "6100620063", "206100ff6200ff630001"),
        ("uuid", "00112233445546778899aabbccddeeff", "2400112233445546778899aabbccddeeff"),
        ("uuid", "0011223344551677b899aabbccddeeff", "211677445500112233b899aabbccddeeff"),
        ("timeuuid", "0011223344551677b899aabbccddee7f", "20167744550011223338192a3b4c5d6eff"),
        ("boolean", "01", "2001"),
        ("double", "3ff0000000000000", "20bff0000000000000"),
        ("double", "bff0000000000000", "20400fffffffffffff"),
        ("varint", "0080", "20820080"),
        ("varint", "80", "207e80"),
        ("decimal", "0000000104d2", "20c08103133500"),
        ("decimal", "00000001fb2e", "20407efceccaff"),
        ("inet", "7f000001", "207f00000101"),
        ("frozen<list<int>>", "000000010000000400000001", "2020800000010a"),
        ("frozen<tuple<int, int>>", "ffffffff0000000400000001", "200c2080000001"),
        ("vector<float, 1>", "3f800000", "2020bf800000"),
    ]
    for name, value, form in golden:
        type_ = parse_type(name)
        assert type_.encode_ordered(bytes.fromhex(value)).hex() == form, name


def test_order_of_what_clients_send() -> None:
    set_ = SetType(TEXT)
    unsorted = set_.join([b"b", b"a", b"b"])
    assert set_.in_type_order(unsorted) == set_.join([b"a", b"b"])
    map_ = MapType(INT, BLOB)
    keys = [INT.encode(n) for n in (3, -1, 3)]
    entries = list(zip(keys, [b"first", b"x", b"last"], strict=True))
    assert map_.in_type_order(map_.join(entries)) == map_.join([(keys[1], b"x"), (keys[0], b"last")])
    nested = TupleType([ListType(set_)])
    value = nested.join([nested.components[0].join([unsorted])])  # type: ignore[attr-defined]
    assert nested.needs_ordering
    assert nested.decode(nested.in_type_order(value)) == ([["a", "b"]],)
