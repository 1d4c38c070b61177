"""Decoding what clients ask: QUERY, PREPARE, EXECUTE, BATCH, REGISTER, AUTH_RESPONSE.

A body is decoded only when its request is dispatched, so that a dispatcher can look at the opcode first. Values stay
the bytes that the client sent: slices of the body, None for null, ``UNSET`` for a value that was not set.

EXECUTE is the hot one, and can be read in two ways. ``decode_execute`` takes every message and collects the values.
``scan_execute`` takes only the common form and doesn't touch the values at all: a decoder compiled for the statement
reads them in place. The fields after the values can be found without walking the values because in the common form
they have a fixed size, counted from the end of the body.

Every decoder raises ``ProtocolError``, and nothing else, for a malformed body. Bytes after the last field are ignored,
as Cassandra does. Whether a level is allowed as serial consistency, or a paging state is genuine, is for the session
to judge.

Source: native_protocol_v5.spec, sections 4.1.2 to 4.1.8; org.apache.cassandra.cql3.QueryOptions.Codec for the limits
and texts.
"""

from __future__ import annotations

import struct
from typing import Final

from ourodb.cql.wire.codes import (
    BATCH_COUNTER,
    CONSISTENCY_MAX,
    QUERY_KEYSPACE,
    QUERY_NAMES,
    QUERY_NOW,
    QUERY_PAGE_SIZE,
    QUERY_PAGING_STATE,
    QUERY_SERIAL_CONSISTENCY,
    QUERY_SKIP_METADATA,
    QUERY_TIMESTAMP,
    QUERY_VALUES,
    SERIAL,
)
from ourodb.cql.wire.primitives import UNSET, Reader, Value, unknown_consistency
from ourodb.errors import ProtocolError
from ourodb.limits import REGISTER_EVENTS_MAX

EVENT_TYPES: Final = ("TOPOLOGY_CHANGE", "STATUS_CHANGE", "SCHEMA_CHANGE")
TIMESTAMP_NONE: Final = -(1 << 63)
"""Not a timestamp: Cassandra keeps it for «none» and refuses it from clients."""

_short = struct.Struct(">H").unpack_from
_int = struct.Struct(">i").unpack_from
_long = struct.Struct(">q").unpack_from
_consistency_flags_v4 = struct.Struct(">HB").unpack_from
_consistency_flags_v5 = struct.Struct(">HI").unpack_from
_page_timestamp = struct.Struct(">iq").unpack_from
_execute_v4 = struct.Struct(">H16sHBH").unpack_from
_execute_v5 = struct.Struct(">H16sH16sHIH").unpack_from

_TAIL: Final = (
    QUERY_PAGE_SIZE
    | QUERY_PAGING_STATE
    | QUERY_SERIAL_CONSISTENCY
    | QUERY_TIMESTAMP
    | QUERY_KEYSPACE
    | QUERY_NOW
)
"""Flags of the fields after the values."""

_SCANNED: Final = QUERY_SKIP_METADATA | QUERY_PAGE_SIZE | QUERY_TIMESTAMP
"""Flags, besides QUERY_VALUES, of the form that ``scan_execute`` takes."""


class QueryParameters:
    """What a QUERY, EXECUTE or BATCH says besides its statement.

    Attributes:
        consistency: wire code, one of ``codes.Consistency``.
        skip_metadata: the client keeps the metadata of the result from the PREPARE.
        values: bound values, as they are on the wire; empty when none were sent.
        names: name of the marker of each of ``values``, or None when they are positional.
        page_size: rows a page; 0 or less means that the result isn't paged.
        paging_state: where to go on, or None.
        serial_consistency: wire code, SERIAL when the client didn't say; not checked to be a serial one.
        timestamp_us: the client's default timestamp, or None.
        keyspace: for this request instead of the connection's, or None (v5).
        now_s: the client's idea of now for TTLs, seconds since 1970, or None (v5).
    """

    __slots__ = (
        "consistency", "keyspace", "names", "now_s", "page_size", "paging_state", "serial_consistency",
        "skip_metadata", "timestamp_us", "values",
    )  # fmt: skip

    def __init__(
        self,
        consistency: int,
        skip_metadata: bool,
        values: list[Value],
        names: list[str] | None = None,
        page_size: int = -1,
        paging_state: bytes | None = None,
        serial_consistency: int = SERIAL,
        timestamp_us: int | None = None,
        keyspace: str | None = None,
        now_s: int | None = None,
    ) -> None:
        self.consistency = consistency
        self.skip_metadata = skip_metadata
        self.values = values
        self.names = names
        self.page_size = page_size
        self.paging_state = paging_state
        self.serial_consistency = serial_consistency
        self.timestamp_us = timestamp_us
        self.keyspace = keyspace
        self.now_s = now_s


class Execute:
    """EXECUTE. ``result_metadata_id`` is b"" before v5."""

    __slots__ = ("parameters", "result_metadata_id", "statement_id")

    def __init__(self, statement_id: bytes, result_metadata_id: bytes, parameters: QueryParameters) -> None:
        self.statement_id = statement_id
        self.result_metadata_id = result_metadata_id
        self.parameters = parameters


class Query:
    """QUERY."""

    __slots__ = ("parameters", "statement")

    def __init__(self, statement: str, parameters: QueryParameters) -> None:
        self.statement = statement
        self.parameters = parameters


class Prepare:
    """PREPARE; ``keyspace`` for this statement, or None (v5)."""

    __slots__ = ("keyspace", "statement")

    def __init__(self, statement: str, keyspace: str | None) -> None:
        self.statement = statement
        self.keyspace = keyspace


class BatchStatement:
    """One statement of a BATCH: either ``statement`` or ``statement_id``; the other is None."""

    __slots__ = ("statement", "statement_id", "values")

    def __init__(self, statement: str | None, statement_id: bytes | None, values: list[Value]) -> None:
        self.statement = statement
        self.statement_id = statement_id
        self.values = values


class Batch:
    """BATCH; ``kind`` is one of ``codes.BATCH_LOGGED``, ``BATCH_UNLOGGED``, ``BATCH_COUNTER``."""

    __slots__ = ("kind", "parameters", "statements")

    def __init__(self, kind: int, statements: list[BatchStatement], parameters: QueryParameters) -> None:
        self.kind = kind
        self.statements = statements
        self.parameters = parameters


ScannedExecute = tuple[bytes, bytes, int, bool, int, int, int, int, int | None]
"""(statement id, result metadata id, consistency, skip metadata, offset of the first value, number of values, end of
the values, page size, timestamp in µs or None)"""


def scan_execute(version: int, body: bytes) -> ScannedExecute | None:
    """The common EXECUTE without its values, which remain in ``body``; None when the message isn't of that form.

    The common form has positional values, a 16-byte id, and at most page size and timestamp besides. Where its values
    end is derived from the end of the body, so whoever reads them must arrive exactly there; if not, or if this
    returned None, ``decode_execute`` has the last word.
    """
    try:
        if version >= 5:
            id_bytes, statement_id, metadata_id_bytes, metadata_id, consistency, flags, count = _execute_v5(
                body
            )
            offset = 44
            if metadata_id_bytes != 16:
                return None
        else:
            id_bytes, statement_id, consistency, flags, count = _execute_v4(body)
            metadata_id = b""
            offset = 23
    except struct.error:
        return None
    if id_bytes != 16 or not flags & QUERY_VALUES or consistency > CONSISTENCY_MAX:
        return None
    page_size = -1
    timestamp = None
    end = len(body)
    rest = flags & ~(QUERY_VALUES | QUERY_SKIP_METADATA)
    if rest == QUERY_TIMESTAMP | QUERY_PAGE_SIZE:
        end -= 12
        if end < offset:
            return None
        page_size, timestamp = _page_timestamp(body, end)
    elif rest == QUERY_TIMESTAMP:
        end -= 8
        if end < offset:
            return None
        (timestamp,) = _long(body, end)
    elif rest == QUERY_PAGE_SIZE:
        end -= 4
        if end < offset:
            return None
        (page_size,) = _int(body, end)
    elif rest:
        return None
    if timestamp == TIMESTAMP_NONE:
        return None
    skip_metadata = flags & QUERY_SKIP_METADATA != 0
    return statement_id, metadata_id, consistency, skip_metadata, offset, count, end, page_size, timestamp


def decode_execute(version: int, body: bytes) -> Execute:
    """EXECUTE, values collected as slices of ``body``."""
    scanned = scan_execute(version, body)
    if scanned is not None:
        statement_id, metadata_id, consistency, skip, offset, count, end, page_size, timestamp = scanned
        try:
            values, offset = read_values(version, body, offset, count)
        except struct.error:
            offset = -1
        if offset == end:
            parameters = QueryParameters(
                consistency, skip, values, None, page_size, None, SERIAL, timestamp, None, None
            )
            return Execute(statement_id, metadata_id, parameters)
    try:
        (size,) = _short(body)
        offset = 2 + size
        statement_id = body[2:offset]
        metadata_id = b""
        if version >= 5:
            (size,) = _short(body, offset)
            start = offset + 2
            offset = start + size
            metadata_id = body[start:offset]
    except struct.error:
        raise ProtocolError("Not enough bytes to read a byte array preceded by its 2 bytes length") from None
    return Execute(statement_id, metadata_id, read_parameters(version, body, offset))


def read_parameters(version: int, body: bytes, offset: int) -> QueryParameters:
    """The parameters that start at ``offset``, which may lie beyond the body's end."""
    try:
        if version >= 5:
            consistency, flags = _consistency_flags_v5(body, offset)
            offset += 6
        else:
            consistency, flags = _consistency_flags_v4(body, offset)
            offset += 3
        if consistency > CONSISTENCY_MAX:
            raise unknown_consistency(consistency)
        values: list[Value] = []
        names = None
        if flags & QUERY_VALUES:
            (count,) = _short(body, offset)
            offset += 2
            if flags & QUERY_NAMES:
                values, names, offset = _named_values(version, body, offset, count)
            else:
                values, offset = read_values(version, body, offset, count)
        parameters = QueryParameters(consistency, flags & QUERY_SKIP_METADATA != 0, values, names)
        tail = flags & _TAIL
        if tail:
            _read_tail(parameters, flags, Reader(body, offset))
        elif offset > len(body):
            raise ProtocolError("Not enough bytes to read a value")
    except struct.error:
        raise ProtocolError("Not enough bytes to read the parameters of a query") from None
    return parameters


def read_values(version: int, body: bytes, offset: int, count: int) -> tuple[list[Value], int]:
    """``count`` [value]s from ``offset`` on, and where they end, which may lie beyond the body's end.

    Raises:
        struct.error: there are fewer.
    """
    values: list[Value] = []
    while count:
        (size,) = _int(body, offset)
        start = offset + 4
        if size >= 0:
            offset = start + size
            values.append(body[start:offset])
        else:
            offset = start
            values.append(_no_value(version, size))
        count -= 1
    return values, offset


def _no_value(version: int, size: int) -> Value:
    if size == -1 or version < 4:
        return None
    if size == -2:
        return UNSET
    raise ProtocolError(f"Invalid ByteBuf length {size}")


def _named_values(version: int, body: bytes, offset: int, count: int) -> tuple[list[Value], list[str], int]:
    reader = Reader(body, offset)
    values: list[Value] = []
    names: list[str] = []
    for _ in range(count):
        names.append(reader.string())
        values.append(reader.value(version))
    return values, names, reader.offset


def _read_tail(parameters: QueryParameters, flags: int, reader: Reader) -> None:
    if flags & QUERY_PAGE_SIZE:
        parameters.page_size = reader.int32()
    if flags & QUERY_PAGING_STATE:
        parameters.paging_state = reader.nullable_bytes()
    if flags & QUERY_SERIAL_CONSISTENCY:
        parameters.serial_consistency = reader.consistency()
    if flags & QUERY_TIMESTAMP:
        timestamp = reader.int64()
        if timestamp == TIMESTAMP_NONE:
            raise _timestamp_out_of_bound(timestamp)
        parameters.timestamp_us = timestamp
    if flags & QUERY_KEYSPACE:
        parameters.keyspace = reader.string()
    if flags & QUERY_NOW:
        parameters.now_s = reader.int32() & 0xFFFFFFFF


def _timestamp_out_of_bound(timestamp: int) -> ProtocolError:
    least, greatest = -(1 << 63) + 1, (1 << 63) - 1
    return ProtocolError(f"Out of bound timestamp, must be in [{least}, {greatest}] (got {timestamp})")


def decode_query(version: int, body: bytes) -> Query:
    """QUERY."""
    reader = Reader(body)
    statement = reader.long_string()
    return Query(statement, read_parameters(version, body, reader.offset))


def decode_prepare(version: int, body: bytes) -> Prepare:
    """PREPARE."""
    reader = Reader(body)
    statement = reader.long_string()
    keyspace = None
    if version >= 5 and reader.int32() & 1:
        keyspace = reader.string()
    return Prepare(statement, keyspace)


def decode_batch(version: int, body: bytes) -> Batch:
    """BATCH. Values with names can't be told apart from positional ones here, so they aren't supported.

    Source: CASSANDRA-10246.
    """
    reader = Reader(body)
    kind = reader.byte()
    if kind > BATCH_COUNTER:
        raise ProtocolError(f"Invalid BATCH message type {kind}")
    count = reader.short()
    statements = []
    for _ in range(count):
        statement: str | None = None
        statement_id: bytes | None = None
        form = reader.byte()
        if form == 1:
            statement_id = reader.short_bytes()
        elif form == 0:
            statement = reader.long_string()
        else:
            raise ProtocolError(f"Invalid query kind in BATCH messages. Must be 0 or 1 but got {form}")
        values = [reader.value(version) for _ in range(reader.short())]
        statements.append(BatchStatement(statement, statement_id, values))
    return Batch(kind, statements, read_parameters(version, body, reader.offset))


def decode_register(body: bytes) -> list[str]:
    """Event types of a REGISTER, each one of ``EVENT_TYPES``."""
    types = [name.upper() for name in Reader(body).string_list(REGISTER_EVENTS_MAX)]
    for name in types:
        if name not in EVENT_TYPES:
            raise ProtocolError(f"Invalid value '{name}' for Type")
    return types


def decode_auth_response(body: bytes) -> bytes | None:
    """The SASL token of an AUTH_RESPONSE."""
    return Reader(body).nullable_bytes()
