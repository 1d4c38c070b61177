"""The simple types, all in one place: constants by name, and the name to the type."""

from __future__ import annotations

from typing import Final

from ourodb.cql.types.base import CqlType
from ourodb.cql.types.duration import DURATION
from ourodb.cql.types.fixed import BIGINT, COUNTER, DATE, INT, SMALLINT, TIME, TIMESTAMP, TINYINT
from ourodb.cql.types.floating import BOOLEAN, DOUBLE, FLOAT
from ourodb.cql.types.inet import INET
from ourodb.cql.types.numbers import DECIMAL, VARINT
from ourodb.cql.types.text import ASCII, BLOB, TEXT
from ourodb.cql.types.uuids import TIMEUUID, UUID

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
    "UUID",
    "VARINT",
]

_ALL: Final[tuple[CqlType, ...]] = (
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
    SMALLINT,
    TEXT,
    TIME,
    TIMESTAMP,
    TIMEUUID,
    TINYINT,
    UUID,
    VARINT,
)

NATIVE_TYPES: Final[dict[str, CqlType]] = {type_.cql_name: type_ for type_ in _ALL} | {"varchar": TEXT}
"""By CQL name; ``varchar`` is ``text``."""
