"""Types and values drawn for the property tests, and a plain model of how Cassandra compares values."""

from __future__ import annotations

import math
import struct
import zlib
from decimal import Decimal
from functools import cmp_to_key
from typing import Any

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
    ListType,
    MapType,
    SetType,
    TupleType,
    UserType,
    VectorType,
    join_collection,
    join_map,
    split_collection,
    split_map,
)
from ourodb.cql.types.composite import join_components

ORDERED_NATIVES = [
    ASCII,
    BIGINT,
    BLOB,
    BOOLEAN,
    DATE,
    DECIMAL,
    DOUBLE,
    FLOAT,
    INET,
    INT,
    SMALLINT,
    TEXT,
    TIME,
    TIMESTAMP,
    TIMEUUID,
    TINYINT,
    UUID,
    VARINT,
]

# Bytes that escapes, complements, signs and markers could stumble over.
_tricky = st.lists(
    st.sampled_from([0x00, 0x01, 0x0A, 0x0C, 0x10, 0x20, 0x7F, 0x80, 0xEF, 0xFE, 0xFF]), max_size=5
)
_bytes = st.binary(max_size=6) | _tricky.map(bytes)


def _fixed(length: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=length, max_size=length) | st.lists(
        st.sampled_from([0x00, 0x01, 0x7F, 0x80, 0xFF]), min_size=length, max_size=length
    ).map(bytes)


def _with_version(value: bytes, version: int) -> bytes:
    return value[:6] + bytes([version << 4 | value[6] & 0x0F]) + value[7:]


def _doubles() -> st.SearchStrategy[float]:
    return st.floats() | st.sampled_from([0.0, -0.0, math.inf, -math.inf, math.nan])


def _decimal(scale: int, unscaled: int, padding: int) -> bytes:
    size = unscaled.bit_length() // 8 + 1 + padding
    return struct.pack(">i", scale) + unscaled.to_bytes(size, "big", signed=True)


_integers = (
    st.integers(-1000, 1000) | st.integers(-(2**70), 2**70) | st.sampled_from([-129, -128, 127, 128, 10**40])
)
_scales = st.integers(-4, 4) | st.integers(-(2**31), 2**31 - 1)

_NATIVE_VALUES: dict[str, st.SearchStrategy[bytes]] = {
    "ascii": st.text("\x00\x01ab~\x7f", max_size=5).map(str.encode),
    "text": st.text("\x00\x01aé€😀\uffff", max_size=5).map(str.encode),
    "blob": _bytes,
    "boolean": _fixed(1),
    "tinyint": _fixed(1),
    "smallint": _fixed(2),
    "int": _fixed(4),
    "bigint": _fixed(8),
    "counter": _fixed(8),
    "timestamp": _fixed(8),
    "date": _fixed(4),
    "time": st.integers(0, 86_399_999_999_999).map(lambda nanos: nanos.to_bytes(8, "big")),
    "float": _fixed(4) | st.floats(width=32).map(lambda number: struct.pack(">f", number)),
    "double": _fixed(8) | _doubles().map(lambda number: struct.pack(">d", number)),
    "uuid": st.builds(_with_version, _fixed(16), st.sampled_from([1, 1, 4, 4, 7, 0, 15])),
    "timeuuid": st.builds(_with_version, _fixed(16), st.just(1)),
    "inet": _fixed(4) | _fixed(16),
    "varint": st.builds(
        lambda number, padding: number.to_bytes(number.bit_length() // 8 + 1 + padding, "big", signed=True),
        _integers,
        st.integers(0, 2),
    ),
    "decimal": st.builds(_decimal, _scales, _integers, st.integers(0, 1)),
    "duration": st.builds(
        lambda months, days, nanos, sign: DURATION.encode((sign * months, sign * days, sign * nanos)),
        st.integers(0, 2**31 - 1),
        st.integers(0, 2**31 - 1),
        st.integers(0, 2**63 - 1),
        st.sampled_from([1, -1]),
    ),
}


def types(natives: list[CqlType] | None = None) -> st.SearchStrategy[CqlType]:
    """Simple types and what can be made of them, a few levels deep."""
    leaves = st.sampled_from(natives or list(dict.fromkeys(NATIVE_TYPES.values())))
    return st.recursive(leaves, _parameterised, max_leaves=4)


def _parameterised(inner: st.SearchStrategy[CqlType]) -> st.SearchStrategy[CqlType]:
    frozen = st.booleans()
    few = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        st.builds(lambda element, f: ListType(element, frozen=f), inner, frozen),
        st.builds(lambda element, f: SetType(element, frozen=f), inner, frozen),
        st.builds(lambda key, value, f: MapType(key, value, frozen=f), inner, inner, frozen),
        st.builds(TupleType, few),
        st.builds(
            lambda fields, f: UserType(
                "ks", _name_of(fields), [f"f{i}" for i in range(len(fields))], fields, frozen=f
            ),
            few,
            frozen,
        ),
        st.builds(VectorType, inner, st.integers(1, 3)),
    )


def _name_of(fields: list[CqlType]) -> str:
    """One name for one structure, that needs quotes. (The driver takes hex without letters for a number.)"""
    return f"Odd {zlib.crc32(repr(fields).encode())}"


def values(type_: CqlType) -> st.SearchStrategy[bytes]:
    """Valid wire bytes, the empty value included where it is one. Sets and maps are in type order."""
    strategy = _values(type_)
    return strategy | st.just(b"") if type_.allows_empty else strategy


def _values(type_: CqlType) -> st.SearchStrategy[bytes]:
    match type_:
        case ListType():
            return st.lists(values(type_.element), max_size=3).map(join_collection)
        case SetType():
            return st.lists(values(type_.element), max_size=3).map(join_collection).map(type_.in_type_order)
        case MapType():
            entry = st.tuples(values(type_.key), values(type_.element))
            return st.lists(entry, max_size=3).map(join_map).map(type_.in_type_order)
        case TupleType() | UserType():
            full = st.tuples(*[st.none() | values(component) for component in type_.components])
            count = len(type_.components)
            return st.builds(
                lambda parts, cut: join_components(parts[:cut]), full, st.integers(0, count) | st.just(count)
            )
        case VectorType():
            # An element whose length the vector doesn't write can't be empty.
            element = values(type_.element) if type_._element_length is None else _values(type_.element)
            return st.lists(element, min_size=type_.dimension, max_size=type_.dimension).map(type_.join)
        case _:
            return _NATIVE_VALUES[type_.cql_name]


def typed_values(
    count: int, natives: list[CqlType] | None = None
) -> st.SearchStrategy[tuple[CqlType, list[bytes]]]:
    return types(natives).flatmap(
        lambda type_: st.tuples(st.just(type_), st.lists(values(type_), min_size=count, max_size=count))
    )


def model_compare(type_: CqlType, left: bytes, right: bytes) -> int:
    """Cassandra's ``AbstractType.compare``, written down plainly."""
    if not left or not right:
        return bool(left) - bool(right)
    match type_:
        case ListType() | SetType():
            return _model_sequence(type_.element, split_collection(left), split_collection(right))
        case MapType():
            a, b = split_map(left), split_map(right)
            for (key, value), (other_key, other_value) in zip(a, b, strict=False):
                order = model_compare(type_.key, key, other_key) or model_compare(
                    type_.element, value, other_value
                )
                if order:
                    return order
            return _sign(len(a) - len(b))
        case TupleType() | UserType():
            return _model_components(type_.components, type_.split(left), type_.split(right))
        case VectorType():
            return _model_sequence(type_.element, type_.split(left), type_.split(right))
    return _sign_of(*(_model_key(type_, value) for value in (left, right)))


def _model_sequence(element: CqlType, a: list[bytes], b: list[bytes]) -> int:
    for x, y in zip(a, b, strict=False):
        order = model_compare(element, x, y)
        if order:
            return order
    return _sign(len(a) - len(b))


def _model_components(components: tuple[CqlType, ...], a: list[bytes | None], b: list[bytes | None]) -> int:
    for component, x, y in zip(components, a, b, strict=False):
        if x is None or y is None:
            order = (x is not None) - (y is not None)
        else:
            order = model_compare(component, x, y)
        if order:
            return order
    rest_a, rest_b = a[len(b) :], b[len(a) :]
    return any(part is not None for part in rest_a) - any(part is not None for part in rest_b)


def _model_key(type_: CqlType, value: bytes) -> Any:
    match type_.cql_name:
        case "ascii" | "text" | "blob" | "inet" | "date" | "time":
            return value
        case "boolean":
            return value != b"\x00"
        case "float" | "double":
            number = struct.unpack(">f" if len(value) == 4 else ">d", value)[0]
            # NaN is greatest; -0.0 is less than 0.0.
            return (1, 0.0, 0) if math.isnan(number) else (0, number, math.copysign(1, number))
        case "decimal":
            scale, unscaled = (
                struct.unpack_from(">i", value)[0],
                int.from_bytes(value[4:], "big", signed=True),
            )
            return Decimal(f"{unscaled}E{-scale}")
        case "uuid":
            version = value[6] >> 4
            return (version, _uuid_time(value) if version == 1 else value[:8], value[8:])
        case "timeuuid":
            return _uuid_time(value), [byte - 256 if byte > 127 else byte for byte in value[8:]]
        case _:
            return int.from_bytes(value, "big", signed=True)


def _uuid_time(value: bytes) -> int:
    low, middle, high = struct.unpack_from(">IHH", value)
    return (high & 0xFFF) << 48 | middle << 32 | low


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)


def _sign_of(a: Any, b: Any) -> int:
    return (a > b) - (a < b)


def model_sorted(type_: CqlType, items: list[bytes]) -> list[bytes]:
    return sorted(items, key=cmp_to_key(lambda a, b: model_compare(type_, a, b)))
