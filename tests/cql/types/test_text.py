"""Values as text. If these fail, a literal means something else than in Cassandra, or is refused in other words."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ourodb.cql.types import (
    ASCII,
    BIGINT,
    BLOB,
    BOOLEAN,
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
    CustomType,
    Duration,
    ListType,
    MapType,
    SetType,
    TupleType,
    UserType,
    VectorType,
)
from ourodb.errors import InvalidRequest


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("1296705900000", "2011-02-03T04:05:00.000Z"),
        ("-1", "1969-12-31T23:59:59.999Z"),
        ("2011-02-03 04:05+0000", "2011-02-03T04:05:00.000Z"),
        ("2011-02-03 04:05:00+0000", "2011-02-03T04:05:00.000Z"),
        ("2011-02-03 04:05:00.000+0000", "2011-02-03T04:05:00.000Z"),
        ("2011-02-03T04:05+0000", "2011-02-03T04:05:00.000Z"),
        ("2011-02-03T04:05:00.123+01:30", "2011-02-03T02:35:00.123Z"),
        ("2011-02-03T04:05:00.123456789Z", "2011-02-03T04:05:00.123Z"),
        ("2011-02-03T04:05:00.5-08", "2011-02-03T12:05:00.500Z"),
        ("2011-02-03 04:05:06 UTC", "2011-02-03T04:05:06.000Z"),
        ("2011-02-03 04:05:06 GMT", "2011-02-03T04:05:06.000Z"),
        ("2011-02-03 04:05:06 +0100", "2011-02-03T03:05:06.000Z"),
        ("2011-02-03 04:05", "2011-02-03T04:05:00.000Z"),
        ("2011-2-3 4:5", "2011-02-03T04:05:00.000Z"),
        ("2011-02-03", "2011-02-03T00:00:00.000Z"),
        ("2011-02-03+0000", "2011-02-03T00:00:00.000Z"),
        ("2011-02-03Z", "2011-02-03T00:00:00.000Z"),
        ("2011-02-31", "2011-02-28T00:00:00.000Z"),
        ("2012-02-30", "2012-02-29T00:00:00.000Z"),
        ("2011-02-03 24:00", "2011-02-04T00:00:00.000Z"),
        ("0001-01-01", "0001-01-01T00:00:00.000Z"),
        ("9223372036854775807", "+292278994-08-17T07:12:55.807Z"),
        ("-9223372036854775808", "-292275055-05-16T16:47:04.192Z"),
    ],
)
def test_timestamps(text: str, printed: str) -> None:
    value = TIMESTAMP.parse(text)
    assert TIMESTAMP.literal(value) == f"'{printed}'"
    if printed[0] not in "+-":
        assert TIMESTAMP.parse(printed) == value


@pytest.mark.parametrize(
    "text",
    [
        "2011-13-03",
        "2011-02-32",
        "2011-02-03 25:00",
        "2011-02-03 24:01",
        "2011-02-03 04:60",
        "yesterday",
        "2011-02-03 04",
        "2011-02-03 04:05 Europe/Nowhere",
        "2011-02-03 04:05+1900",
        "2011-2-3",
        "9999999999-01-01 00:00",
        "²011-02-03",
    ],
)
def test_timestamps_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        TIMESTAMP.parse(text)
    assert caught.value.message == f"Unable to parse a date/time from '{text}'"


@given(st.integers(-(2**63), 2**63 - 1))
@settings(max_examples=200, deadline=None)
def test_every_timestamp_can_be_printed_and_read(millis: int) -> None:
    text = TIMESTAMP.literal(TIMESTAMP.encode(millis)).strip("'")
    if text[0] != "+":
        assert TIMESTAMP.decode(TIMESTAMP.parse(text)) == millis


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=200, deadline=None)
def test_every_date_can_be_printed_and_read(days: int) -> None:
    text = DATE.literal(DATE.encode(days)).strip("'")
    assert DATE.decode(DATE.parse(text)) == days


PARSED = [
    (DATE, "1970-01-01", "80000000"),
    (DATE, "2147483648", "80000000"),
    (DATE, "1969-12-31", "7fffffff"),
    (DATE, "-5877641-06-23", "00000000"),
    (DATE, "+5881580-07-11", "ffffffff"),
    (TIME, "00:00:00", "0000000000000000"),
    (TIME, "23:59:59.999999999", "00004e94914effff"),
    (TIME, "8:12:54.123", ((8 * 3600 + 12 * 60 + 54) * 10**9 + 123 * 10**6).to_bytes(8, "big").hex()),
    (TIME, "54", "0000000000000036"),
    (INT, "-1", "ffffffff"),
    (INT, "+7", "00000007"),
    (INT, "", ""),
    (INT, "0" * 5000 + "1", "00000001"),
    (TINYINT, "-128", "80"),
    (SMALLINT, "32767", "7fff"),
    (BIGINT, "9223372036854775807", "7fffffffffffffff"),
    (VARINT, "-129", "ff7f"),
    (DECIMAL, "-1.50", "00000002ff6a"),
    (DECIMAL, "1e3", "fffffffd01"),
    (DECIMAL, ".5", "0000000105"),
    (FLOAT, "1.5", "3fc00000"),
    (FLOAT, "1e39", "7f800000"),
    (FLOAT, "NaN", "7fc00000"),
    (DOUBLE, "-Infinity", "fff0000000000000"),
    (DOUBLE, "1e1f", "4024000000000000"),
    (BOOLEAN, "TRUE", "01"),
    (BOOLEAN, "", "00"),
    (TEXT, "é'", "c3a927"),
    (BLOB, "00ff", "00ff"),
    (INET, "127.0.0.1", "7f000001"),
    (INET, "::ffff:10.0.0.1", "0a000001"),
    (INET, "fe80::1", "fe800000000000000000000000000001"),
    (UUID, "00112233-4455-6677-8899-AABBCCDDEEFF", "00112233445566778899aabbccddeeff"),
    (TIMEUUID, "", ""),
    (ListType(INT), "00000000", "00000000"),
]


def test_parsed_literals() -> None:
    for type_, text, value in PARSED:
        assert type_.parse(text).hex() == value, (type_, text[:40])


REFUSED = [
    (INT, "2147483648", "Unable to make int from '2147483648'"),
    (INT, "1_0", "Unable to make int from '1_0'"),
    (INT, "٣", "Unable to make int from '٣'"),
    (BIGINT, "x", "Unable to make long from 'x'"),
    (SMALLINT, "99999", "Unable to make short from '99999'"),
    (TINYINT, "200", "Unable to make byte from '200'"),
    (VARINT, "1.5", "unable to make int from '1.5'"),
    (DECIMAL, "abc", "unable to make BigDecimal from 'abc'"),
    (DECIMAL, "1e9999999999", "unable to make BigDecimal from '1e9999999999'"),
    (FLOAT, "x", "Unable to make float from 'x'"),
    (DOUBLE, "1__0", "Unable to make double from '1__0'"),
    (BOOLEAN, "yes", "Unable to make boolean from 'yes'"),
    (
        ASCII,
        "grüße",
        (
            "Invalid ASCII character in string literal: "
            "java.nio.charset.UnmappableCharacterException: Input length = 1"
        ),
    ),
    (BLOB, "0g", "cannot parse '0g' as hex bytes"),
    (BLOB, "00 11", "cannot parse '00 11' as hex bytes"),
    (INET, "localhost", "Unable to make inet address from 'localhost'"),
    (UUID, "1234", "Unable to make UUID from '1234'"),
    (TIMEUUID, "1234", "Unknown timeuuid representation: 1234"),
    (TIMEUUID, "00112233-4455-6677-8899-aabbccddeeff", "TimeUUID supports only version 1 UUIDs"),
    (TIMESTAMP, "9223372036854775808", "Unable to make long (for date) from: '9223372036854775808'"),
    (DATE, "4294967296", "Unable to make unsigned int (for date) from: '4294967296'"),
    (DATE, "-1", "Unable to make unsigned int (for date) from: '-1'"),
    (DATE, "2011-02-29", "Unable to coerce '2011-02-29' to a formatted date (long)"),
    (DATE, "+5881580-07-12", "Input date +5881580-07-12 is greater than max supported date +5881580-07-11"),
    (DATE, "-5877641-06-22", "Input date -5877641-06-22 is less than min supported date -5877641-06-23"),
    (TIME, "24:00:00", "(TimeType) Unable to coerce '24:00:00' to a formatted time (long)"),
    (TIME, "10:00", "(TimeType) Unable to coerce '10:00' to a formatted time (long)"),
    (TIME, "86400000000000", "Unable to make long (for time) from: '86400000000000'"),
    (DURATION, "", "Unable to convert '' to a duration"),
    (DURATION, "1x", "Unable to convert '1x' to a duration"),
    (DURATION, "1d1d", "Invalid duration. The days are specified multiple times"),
    (DURATION, "1d1y", "Invalid duration. The days should be after years"),
    (
        DURATION,
        "2147483648mo",
        "Invalid duration. The total number of months must be less or equal to 2147483647",
    ),
    (
        DURATION,
        "9" * 9999 + "s",
        "Invalid duration. The total number of nanoseconds must be less or equal to 2147483647",
    ),
]


def test_refused_literals() -> None:
    for type_, text, message in REFUSED:
        with pytest.raises(InvalidRequest) as caught:
            type_.parse(text)
        assert caught.value.message == message


@given(st.sampled_from([t for t in NATIVE_TYPES.values() if t is not TEXT]), st.text(max_size=12))
@settings(max_examples=500, deadline=None)
def test_arbitrary_text_is_parsed_or_refused(type_: CqlType, text: str) -> None:
    with contextlib.suppress(InvalidRequest):
        type_.validate(type_.parse(text))


def test_durations() -> None:
    for text, duration in [
        ("1y2mo3w4d5h6m7s8ms9us10ns", Duration(14, 25, 18_367_008_009_010)),
        ("1Y2MO", Duration(14, 0, 0)),
        ("5µs", Duration(0, 0, 5000)),
        ("-3d", Duration(0, -3, 0)),
        ("P1Y2M3DT4H5M6S", Duration(14, 3, 14_706_000_000_000)),
        ("-P2W", Duration(0, -14, 0)),
        ("P0001-02-03T04:05:06", Duration(14, 3, 14_706_000_000_000)),
        ("PT30M", Duration(0, 0, 1_800_000_000_000)),
    ]:
        value = DURATION.parse(text)
        assert DURATION.decode(value) == duration
        assert DURATION.parse(DURATION.literal(value)) == value
    assert DURATION.literal(DURATION.parse("14mo25d90061s")) == "1y2mo25d25h1m1s"


def test_literals() -> None:
    udt = UserType("ks", "t", ["a", "B"], [INT, TEXT])
    cases = [
        (INT, INT.encode(-5), "-5"),
        (INT, b"", "null"),
        (TEXT, b"it's", "'it''s'"),
        (TEXT, b"", "''"),
        (ASCII, b"a", "'a'"),
        (BLOB, b"", "0x"),
        (BLOB, b"\x00\xff", "0x00ff"),
        (BOOLEAN, b"\x01", "true"),
        (INET, bytes(15) + b"\x01", "'0:0:0:0:0:0:0:1'"),
        (INET, b"\x7f\0\0\1", "'127.0.0.1'"),
        (TIME, TIME.encode(3_723_000_000_004), "'01:02:03.000000004'"),
        (DATE, DATE.encode(2**31), "'1970-01-01'"),
        (UUID, bytes(16), "00000000-0000-0000-0000-000000000000"),
        (DECIMAL, DECIMAL.parse("-0.0010"), "-0.0010"),
        (DECIMAL, DECIMAL.parse("12e3"), "12000"),
        (DECIMAL, struct.pack(">i", -(2**31)) + b"\x01", "1E2147483648"),
        (VARINT, VARINT.encode(-(10**30)), "-1" + "0" * 30),
        (ListType(TEXT), ListType(TEXT).encode(["a", "b"]), "['a', 'b']"),
        (SetType(INT), SetType(INT).encode([2, 1]), "{1, 2}"),
        (MapType(TEXT, INT), MapType(TEXT, INT).encode({"k": 1}), "{'k': 1}"),
        (MapType(TEXT, INT), b"\0\0\0\0", "{}"),
        (TupleType([INT, TEXT]), TupleType([INT, TEXT]).encode((None, "x")), "(null, 'x')"),
        (udt, udt.encode((1, None)), '{a: 1, "B": null}'),
        (VectorType(FLOAT, 2), VectorType(FLOAT, 2).encode([1, 0.1]), "[1.0, 0.1]"),
        (CustomType("com.example.Odd"), b"\x01", "0x01"),
    ]
    for type_, value, literal in cases:
        assert type_.literal(value) == literal


@pytest.mark.parametrize(
    ("type_", "number", "text"),
    [
        (DOUBLE, 0.0, "0.0"),
        (DOUBLE, -0.0, "-0.0"),
        (DOUBLE, 1.0, "1.0"),
        (DOUBLE, 100.0, "100.0"),
        (DOUBLE, 9_999_999.0, "9999999.0"),
        (DOUBLE, 1e7, "1.0E7"),
        (DOUBLE, 1.25e10, "1.25E10"),
        (DOUBLE, 0.001, "0.001"),
        (DOUBLE, 0.000123, "1.23E-4"),
        (DOUBLE, -123.456, "-123.456"),
        (DOUBLE, 5e-324, "5.0E-324"),
        (DOUBLE, 1.7976931348623157e308, "1.7976931348623157E308"),
        (FLOAT, 0.1, "0.1"),
        (FLOAT, 3.4028235e38, "3.4028235E38"),
        (FLOAT, 16777216.0, "1.6777216E7"),
        (DOUBLE, float("nan"), "NaN"),
        (DOUBLE, float("-inf"), "-Infinity"),
    ],
)
def test_floats_print_as_in_java(type_: CqlType, number: float, text: str) -> None:
    value = type_.encode(number)
    assert type_.literal(value) == text
    assert type_.parse(text) == value


@given(st.floats(allow_nan=False), st.floats(width=32, allow_nan=False))
@settings(max_examples=200, deadline=None)
def test_floats_read_back_what_they_print(double: float, single: float) -> None:
    for type_, number in ((DOUBLE, double), (FLOAT, single)):
        value = type_.encode(number)
        assert type_.parse(type_.literal(value)) == value


@given(st.integers(-(2**40), 2**40), st.integers(-5, 5))
@settings(max_examples=200, deadline=None)
def test_decimals_read_back_what_they_print(unscaled: int, scale: int) -> None:
    value = DECIMAL.parse(f"{unscaled}E{-scale}")
    assert DECIMAL.compare(DECIMAL.parse(DECIMAL.literal(value)), value) == 0


def test_numbers_too_long_for_pythons_own_conversion() -> None:
    for digits in (4_301, 20_000, 100_001):
        text = "-" + ("1234567890" * (digits // 10 + 1))[:digits]
        assert VARINT.literal(VARINT.parse(text)) == text
        assert DECIMAL.literal(DECIMAL.parse(text + "e-2")) == text[:-2] + "." + text[-2:]
        assert DECIMAL.encode(DECIMAL.decode(DECIMAL.parse(text))) == DECIMAL.parse(text)
