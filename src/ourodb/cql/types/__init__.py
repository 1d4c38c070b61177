"""Values and their types: every CQL type, the bytes of its values, and their order.

A value is its serialized bytes, as on the wire; a ``CqlType`` (``base``) says what they mean. The types:

| module | types |
| --- | --- |
| ``fixed`` | tinyint, smallint, int, bigint, counter, timestamp, date, time; ``civil`` has their calendar text |
| ``floating`` | float, double, boolean |
| ``numbers`` | varint, decimal |
| ``text`` | text (varchar), ascii, blob, custom types |
| ``uuids`` | uuid, timeuuid; ``timeuuid`` makes and reads them |
| ``inet``, ``duration`` | what they are called |
| ``collection`` | list, set, map |
| ``composite`` | tuple, user-defined types |
| ``vector`` | vector |

``native`` gathers the simple types as constants. ``names`` turns names into types. ``ordered`` lays down the bytes by
which values are ordered in keys, and ``murmur3`` turns partition keys into tokens.

Promises: no valid value makes any method raise; ``validate`` raises ``InvalidRequest`` and nothing else on whatever
bytes a client sends, in time and memory bounded by their length; order is Cassandra's, value for value.
"""

from __future__ import annotations

from ourodb.cql.types.base import CqlType, Validator
from ourodb.cql.types.collection import (
    CollectionType,
    ListType,
    MapType,
    SetType,
    join_collection,
    join_map,
    split_collection,
    split_map,
)
from ourodb.cql.types.composite import TupleType, UserType
from ourodb.cql.types.duration import Duration
from ourodb.cql.types.murmur3 import TOKEN_MAX, TOKEN_MIN, token
from ourodb.cql.types.names import UdtResolver, build, native_type, parse_class_name, parse_type
from ourodb.cql.types.native import (
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
)
from ourodb.cql.types.text import CustomType
from ourodb.cql.types.timeuuid import (
    max_timeuuid,
    min_timeuuid,
    timeuuid,
    timeuuid_to_millis,
    timeuuid_to_ticks,
)
from ourodb.cql.types.vector import VectorType

__all__ = [
    "ASCII",
    "BIGINT",
    "BLOB",
    "BOOLEAN",
    "COUNTER",
    "DATE",
    "DECIMAL",
    "DOUBLE",
    "DURATION",
    "FLOAT",
    "INET",
    "INT",
    "NATIVE_TYPES",
    "SMALLINT",
    "TEXT",
    "TIME",
    "TIMESTAMP",
    "TIMEUUID",
    "TINYINT",
    "TOKEN_MAX",
    "TOKEN_MIN",
    "UUID",
    "VARINT",
    "CollectionType",
    "CqlType",
    "CustomType",
    "Duration",
    "ListType",
    "MapType",
    "SetType",
    "TupleType",
    "UdtResolver",
    "UserType",
    "Validator",
    "VectorType",
    "build",
    "join_collection",
    "join_map",
    "max_timeuuid",
    "min_timeuuid",
    "native_type",
    "parse_class_name",
    "parse_type",
    "split_collection",
    "split_map",
    "timeuuid",
    "timeuuid_to_millis",
    "timeuuid_to_ticks",
    "token",
]
