"""Wire form. If these fail, clients read other values than were written, or can hurt the node with bad bytes."""

from __future__ import annotations

import datetime as dt
import ipaddress
import struct
import uuid
from decimal import Decimal
from typing import Any

import pytest
from cassandra.cqltypes import lookup_casstype
from cassandra.util import Date, OrderedMapSerializedKey, SortedSet, Time
from cassandra.util import Duration as DriverDuration
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cql.types.values import typed_values, types, values

from ourodb.cql.types import (
    ASCII,
    BIGINT,
    BLOB,
    BOOLEAN,
    COUNTER,
    DATE,
    DECIMAL,
    DOUBLE,
    DURATION,
    FLOAT,
    INET,
    INT,
    NATIVE_TYPES,
    SMALLINT,
    TEXT,
    TIME,
    TIMESTAMP,
    TIMEUUID,
    TINYINT,
    UUID,
    VARINT,
    CqlType,
    Duration,
    ListType,
    MapType,
    SetType,
    TupleType,
    UserType,
    VectorType,
    parse_type,
)
from ourodb.errors import InvalidRequest

DRIVER_EPOCH = dt.datetime(1970, 1, 1)


def as_driver_object(type_: CqlType, obj: Any) -> Any:
    """What the driver decodes where we decode ``obj``."""
    if obj is None:
        return None
    match type_:
        case SetType():
            return SortedSet([as_driver_object(type_.element, element) for element in obj])
        case ListType() | VectorType():
            return [as_driver_object(type_.element, element) for element in obj]
        case MapType():
            return [(as_driver_object(type_.key, k), as_driver_object(type_.element, v)) for k, v in obj]
        case UserType():
            return tuple(
                as_driver_object(c, obj[f]) for f, c in zip(type_.field_names, type_.components, strict=True)
            )
        case TupleType():
            return tuple(as_driver_object(c, part) for c, part in zip(type_.components, obj, strict=True))
    match type_.cql_name:
        case "timestamp":
            return DRIVER_EPOCH + dt.timedelta(milliseconds=obj)
        case "date":
            return Date(obj - 2**31)
        case "time":
            return Time(obj)
        case "inet":
            return str(obj)
        case "duration":
            return DriverDuration(*obj)
    return obj


def plain(obj: Any) -> Any:
    """Driver objects with comparable containers; NaNs as text."""
    if isinstance(obj, OrderedMapSerializedKey):
        return [(plain(k), plain(v)) for k, v in obj.items()]
    if isinstance(obj, (list, SortedSet)):
        return [plain(element) for element in obj]
    if isinstance(obj, tuple):
        return tuple(map(plain, obj))
    if isinstance(obj, dict):
        return {key: plain(value) for key, value in obj.items()}
    if isinstance(obj, (float, Decimal)):
        # Tells 1.0 from 1.00, 0.0 from -0.0, and knows NaN.
        return repr(obj)
    return obj


# What the driver's datetimes can hold; it loses milliseconds of far years.
_driver_values = {
    "timestamp": st.integers(-62_135_596_800, 253_402_300_799).map(
        lambda seconds: TIMESTAMP.encode(1000 * seconds)
    ),
    "date": st.integers(2**31 - 700_000, 2**31 + 2_900_000).map(lambda days: DATE.encode(days)),
}


@pytest.mark.parametrize("type_", list(dict.fromkeys(NATIVE_TYPES.values())), ids=str)
def test_simple_types_agree_with_the_driver(type_: CqlType) -> None:
    driver_type = lookup_casstype(type_.class_name)

    @given(_driver_values[type_.cql_name] if type_.cql_name in _driver_values else values(type_))
    @settings(max_examples=60, deadline=None)
    def check(value: bytes) -> None:
        obj = type_.decode(value)
        if value or type_.cql_name in ("text", "ascii", "blob"):
            assert plain(driver_type.deserialize(value, 5)) == plain(as_driver_object(type_, obj))
            assert driver_type.serialize(as_driver_object(type_, obj), 5) == type_.encode(obj)

    check()


_CONTAINED = [INT, TEXT, BLOB, DOUBLE, VARINT, DECIMAL, UUID, TINYINT, DATE, BOOLEAN, INET]


@given(types(_CONTAINED).flatmap(lambda type_: st.tuples(st.just(type_), values(type_))))
@settings(max_examples=300, deadline=None)
def test_nested_types_agree_with_the_driver(drawn: tuple[CqlType, bytes]) -> None:
    type_, value = drawn
    driver_type = lookup_casstype(type_.class_name)
    ours = type_.decode(value)
    if "None" in repr(ours):
        return  # the driver has several ideas of empty values inside others
    if "SetType" in type_.class_name:
        return  # and puts the elements of sets in an order of its own
    # It finds entries of maps by the bytes that it would have written.
    value = type_.encode(ours)
    theirs = driver_type.deserialize(value, 5)
    assert plain(theirs) == plain(as_driver_object(type_, ours))
    assert driver_type.serialize(theirs, 5) == value


@given(typed_values(1))
@settings(max_examples=500, deadline=None)
def test_what_is_valid_can_be_read_printed_and_written_again(drawn: tuple[CqlType, list[bytes]]) -> None:
    type_, (value,) = drawn
    type_.validate(value)
    assert type_.literal(value) or type_ is DURATION
    obj = type_.decode(value)
    if value and "None" not in repr(obj) and not type_.normalizes:
        assert type_.encode(obj) == value
    assert type_.in_type_order(value) == value


@given(types(), st.binary(max_size=40))
@settings(max_examples=1500, deadline=None)
def test_arbitrary_bytes_are_refused_with_invalid_request_or_are_good(type_: CqlType, value: bytes) -> None:
    try:
        type_.validate(value)
    except InvalidRequest:
        return
    ordered = type_.in_type_order(value)
    type_.validate(ordered)
    assert isinstance(type_.literal(ordered), str)
    type_.decode(ordered)
    type_.decode_ordered(type_.encode_ordered(ordered), 0)


@given(types().flatmap(lambda t: st.tuples(st.just(t), values(t), st.data())))
@settings(max_examples=400, deadline=None)
def test_bytes_cut_or_changed_anywhere_are_refused_or_are_good(
    drawn: tuple[CqlType, bytes, st.DataObject],
) -> None:
    type_, value, data = drawn
    at = data.draw(st.integers(0, len(value)))
    for broken in (value[:at], value[:at] + b"\xff" + value[at + 1 :], value + b"\x00"):
        try:
            type_.validate(broken)
        except InvalidRequest:
            continue
        type_.decode(broken)
        type_.literal(broken)


def refused(type_: CqlType, value: bytes) -> str:
    with pytest.raises(InvalidRequest) as caught:
        type_.validate(value)
    return caught.value.message


def test_refusals_have_cassandras_texts() -> None:
    cases = [
        (INT, b"12345678", "Expected 4 or 0 byte int (8)"),
        (BIGINT, b"1234", "Expected 8 or 0 byte long (4)"),
        (COUNTER, b"1234", "Expected 8 or 0 byte long (4)"),
        (SMALLINT, b"", "Expected 2 bytes for a smallint (0)"),
        (TINYINT, b"12", "Expected 1 byte for a tinyint (2)"),
        (TIMESTAMP, b"1", "Expected 8 or 0 byte long for date (1)"),
        (DATE, b"", "Expected 4 byte long for date (0)"),
        (TIME, b"1234", "Expected 8 byte long for time (4)"),
        (FLOAT, b"1", "Expected 4 or 0 byte value for a float (1)"),
        (DOUBLE, b"1", "Expected 8 or 0 byte value for a double (1)"),
        (BOOLEAN, b"12", "Expected 1 or 0 byte value (2)"),
        (UUID, b"12345", "UUID should be 16 or 0 bytes (5)"),
        (TIMEUUID, b"12345", "UUID should be 16 or 0 bytes (5)"),
        (TIMEUUID, uuid.UUID(int=4 << 76).bytes, "Invalid version for TimeUUID type: 0x4"),
        (INET, b"123", "Expected 4 or 16 byte inetaddress; got 313233"),
        (TEXT, b"\xff", "String didn't validate."),
        (ASCII, b"a\xc3", "Invalid byte for ascii: -61"),
        (DECIMAL, b"12", "Expected 0 or at least 4 bytes (2)"),
        (DURATION, b"12", "Expected at least 3 bytes for a duration (2)"),
        (
            DURATION,
            bytes([1, 2, 2]),
            "The duration months, days and nanoseconds must be all of the same sign (-1, 1, 1)",
        ),
        (
            DURATION,
            b"\xf8" + b"\xff" * 5 + b"\0\0",
            "The duration months must be a 32 bits integer but was: -549755813888",
        ),
        (ListType(INT), b"", "Not enough bytes to read a list"),
        (SetType(INT), b"\0\0\0\1\0\0\0\4\0", "Not enough bytes to read a set"),
        (MapType(INT, INT), b"\0\0\0\0!", "Unexpected extraneous bytes after map value"),
        (ListType(INT), b"\0\0\0\1\xff\xff\xff\xff", "Null value read when not allowed"),
        (ListType(INT), b"\0\0\0\1\0\0\0\1!", "Expected 4 or 0 byte int (1)"),
        (TupleType([INT]), b"\0\0", "Not enough bytes to read size of 0th component"),
        (TupleType([INT]), b"\0\0\0\4", "Not enough bytes to read 0th component"),
        (TupleType([INT]), b"\0\0\0\0!", "Invalid remaining data after end of tuple value"),
        (UserType("k", "t", ["f"], [INT]), b"\0\0", "Not enough bytes to read size of 0th field f"),
        (UserType("k", "t", ["f"], [INT]), b"\0\0\0\4", "Not enough bytes to read 0th field f"),
        (UserType("k", "t", ["f"], [INT]), b"\0\0\0\0!", "Invalid remaining data after end of UDT value"),
        (VectorType(FLOAT, 2), b"", "Invalid empty vector value"),
        (VectorType(FLOAT, 2), b"1234567", "Not enough bytes to read a vector<float, 2>"),
        (VectorType(FLOAT, 2), b"123456789", "Unexpected 1 extraneous bytes after vector<float, 2> value"),
        (VectorType(TEXT, 2), b"\1a", "Not enough bytes to read a vector<text, 2>"),
        (VectorType(TEXT, 1), b"\1ab", "Unexpected 1 extraneous bytes after vector<text, 1> value"),
    ]
    for type_, value, text in cases:
        assert refused(type_, value) == text, type_


def test_a_count_of_two_billion_costs_nothing() -> None:
    hostile = struct.pack(">i", 2**31 - 1) + b"\0\0\0\0" * 4
    for type_ in (ListType(INT), SetType(INT), MapType(INT, INT)):
        assert refused(type_, hostile).startswith("Not enough bytes to read a")
        assert refused(type_, struct.pack(">i", -1)).startswith("The data cannot be deserialized as a")


def test_types_nested_too_deep_or_multiplied_too_often_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="nested more than"):
        parse_type("frozen<list<" * 1000 + "int" + ">>" * 1000)
    type_: CqlType = INT
    with pytest.raises(InvalidRequest, match="too large"):
        for level in range(30):
            type_ = UserType("ks", f"t{level}", ["a", "b"], [type_, type_], frozen=True)
    deep: CqlType = INT
    with pytest.raises(InvalidRequest, match="nested more than"):
        for _ in range(100):
            deep = ListType(deep, frozen=True)
    value = INT.encode(1)
    for _ in range(deep.nesting):
        value = struct.pack(">ii", 1, len(value)) + value
    deep.validate(value)
    assert deep.literal(value).count("[") == deep.nesting
    assert deep.decode_ordered(deep.encode_ordered(value), 0)[0] == value


def test_objects() -> None:
    udt = UserType("ks", "address", ["street", "zip"], [TEXT, INT])
    cases = [
        (INT, -5, -5),
        (TEXT, "é", "é"),
        (DECIMAL, Decimal("1.00"), Decimal("1.00")),
        (DECIMAL, 7, Decimal(7)),
        (BOOLEAN, True, True),
        (INET, ipaddress.ip_address("::1"), ipaddress.ip_address("::1")),
        (DURATION, (1, 2, 3), Duration(1, 2, 3)),
        (SetType(INT), [3, 1, 2, 1], [1, 2, 3]),
        (MapType(TEXT, INT), {"b": 1, "a": 2}, [("a", 2), ("b", 1)]),
        (TupleType([INT, TEXT]), (1,), (1, None)),
        (udt, {"zip": 12}, {"street": None, "zip": 12}),
        (VectorType(FLOAT, 2), (1, 2.5), [1.0, 2.5]),
        (VectorType(TEXT, 2), ["", "é" * 100], ["", "é" * 100]),
    ]
    for type_, obj, back in cases:
        value = type_.encode(obj)
        type_.validate(value)
        assert type_.decode(value) == back
        assert repr(type_.decode(value)) == repr(back)


def test_objects_that_cannot_be_values_are_refused() -> None:
    cases: list[tuple[CqlType, Any]] = [
        (INT, 2**31),
        (INT, "1"),
        (INT, 1.5),
        (TINYINT, 128),
        (DATE, -1),
        (TIME, 86_400_000_000_000),
        (TEXT, 1),
        (TEXT, "\ud800"),
        (ASCII, "é"),
        (BLOB, "x"),
        (BOOLEAN, 1),
        (FLOAT, "x"),
        (DECIMAL, Decimal("NaN")),
        (DECIMAL, 1.5),
        (VARINT, "1"),
        (UUID, "x"),
        (TIMEUUID, uuid.UUID(int=0)),
        (INET, "::1"),
        (DURATION, (1, -1, 0)),
        (DURATION, (2**31, 0, 0)),
        (DURATION, None),
        (ListType(INT), [None]),
        (ListType(INT), "ab"),
        (ListType(INT), 3),
        (MapType(INT, INT), [1]),
        (MapType(INT, INT), 1),
        (TupleType([INT]), (1, 2)),
        (UserType("k", "t", ["a"], [INT]), {"b": 1}),
        (VectorType(INT, 2), [1]),
        (VectorType(INT, 2), [1, None]),
    ]
    for type_, obj in cases:
        with pytest.raises(InvalidRequest):
            type_.encode(obj)


def test_empty_values_where_cassandra_has_them() -> None:
    never = ["tinyint", "smallint", "date", "time", "duration"]
    assert [name for name, type_ in NATIVE_TYPES.items() if not type_.allows_empty] == sorted(
        never, key=list(NATIVE_TYPES).index
    )
    for type_ in NATIVE_TYPES.values():
        if type_.allows_empty:
            type_.validate(b"")
            assert type_.decode(b"") in (None, "", b"")
        else:
            assert refused(type_, b"")


def test_no_validator_means_that_all_bytes_are_good() -> None:
    assert BLOB.validator is None
    assert VARINT.validator is None
    assert ListType(BLOB).validator is not None
