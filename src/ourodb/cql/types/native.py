"""The simple types."""

from __future__ import annotations

from ourodb.cql.types.base import CqlType

ASCII: CqlType
BIGINT: CqlType
BLOB: CqlType
BOOLEAN: CqlType
COUNTER: CqlType
DATE: CqlType
DECIMAL: CqlType
DOUBLE: CqlType
DURATION: CqlType
FLOAT: CqlType
INET: CqlType
INT: CqlType
SMALLINT: CqlType
TEXT: CqlType
TIME: CqlType
TIMESTAMP: CqlType
TIMEUUID: CqlType
TINYINT: CqlType
UUID: CqlType
VARINT: CqlType
NATIVE_TYPES: dict[str, CqlType]
