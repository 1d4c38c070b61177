"""The client's side of the messages: encoding requests, decoding responses. For the load generator, and tests.

``ExecuteTemplate`` is the hot one: of an EXECUTE only the stream and the values change, so all the rest is encoded
once and a request is one concatenation. On the way back a generator needs only the opcode, and the code of an error
(``error_code``); whoever wants more decodes the body with ``decode_response``.

A server is trusted as little as a client: what is malformed raises ``ProtocolError``, lengths are checked against what
is there.

Source: native_protocol_v5.spec, section 4.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from ourodb.cql.wire.codes import (
    AUTH_CHALLENGE,
    AUTH_SUCCESS,
    AUTHENTICATE,
    CQL_VERSION,
    ERROR,
    EVENT,
    EXECUTE,
    FLAG_CUSTOM_PAYLOAD,
    FLAG_TRACING,
    FLAG_WARNING,
    QUERY_KEYSPACE,
    QUERY_NAMES,
    QUERY_NOW,
    QUERY_PAGE_SIZE,
    QUERY_PAGING_STATE,
    QUERY_SERIAL_CONSISTENCY,
    QUERY_SKIP_METADATA,
    QUERY_TIMESTAMP,
    QUERY_VALUES,
    RESULT,
    RESULT_PREPARED,
    RESULT_ROWS,
    RESULT_SCHEMA_CHANGE,
    RESULT_SET_KEYSPACE,
    RESULT_VOID,
    ROWS_GLOBAL_SPEC,
    ROWS_METADATA_CHANGED,
    ROWS_MORE_PAGES,
    ROWS_NO_METADATA,
    SERIAL,
    SUPPORTED,
)
from ourodb.cql.wire.columns import ColumnSpec, read_type_option
from ourodb.cql.wire.frames import pack_header
from ourodb.cql.wire.primitives import (
    NULL,
    Reader,
    pack_int,
    pack_long,
    pack_short,
    write_bytes,
    write_long_string,
    write_short_bytes,
    write_string,
    write_string_list,
    write_string_map,
    write_value,
)
from ourodb.cql.wire.requests import Batch, QueryParameters
from ourodb.cql.wire.responses import SchemaChange
from ourodb.errors import (
    AlreadyExists,
    BadCredentials,
    CasWriteUnknown,
    ConfigurationException,
    CqlSyntaxError,
    ErrorCode,
    FunctionFailure,
    InvalidRequest,
    IsBootstrapping,
    Overloaded,
    ProtocolError,
    ReadFailure,
    ReadTimeout,
    RequestError,
    ServerError,
    TruncateError,
    Unauthorized,
    Unavailable,
    Unprepared,
    WriteFailure,
    WriteTimeout,
)

_LISTED_MAX: Final = 0xFFFF

_result_kind = struct.Struct(">i").unpack_from


# --- Requests ---


def encode_startup(options: Mapping[str, str]) -> bytes:
    """Body of STARTUP; CQL_VERSION is added."""
    return write_string_map({"CQL_VERSION": CQL_VERSION, **options})


def encode_auth_response(token: bytes | None) -> bytes:
    """Body of AUTH_RESPONSE."""
    return write_bytes(token)


def encode_register(event_types: Sequence[str]) -> bytes:
    """Body of REGISTER."""
    return write_string_list(event_types)


def encode_prepare(version: int, statement: str, keyspace: str | None = None) -> bytes:
    """Body of PREPARE; ``keyspace`` needs v5."""
    body = write_long_string(statement)
    if version < 5:
        return body
    return body + (pack_int(0) if keyspace is None else pack_int(1) + write_string(keyspace))


def encode_query(version: int, statement: str, parameters: QueryParameters) -> bytes:
    """Body of QUERY."""
    return write_long_string(statement) + encode_parameters(version, parameters)


def encode_execute(
    version: int, statement_id: bytes, result_metadata_id: bytes, parameters: QueryParameters
) -> bytes:
    """Body of EXECUTE."""
    ids = write_short_bytes(statement_id)
    if version >= 5:
        ids += write_short_bytes(result_metadata_id)
    return ids + encode_parameters(version, parameters)


def encode_batch(version: int, batch: Batch) -> bytes:
    """Body of BATCH; the values of ``batch.parameters`` are left out."""
    parts = [bytes((batch.kind,)), pack_short(len(batch.statements))]
    for statement in batch.statements:
        if statement.statement_id is not None:
            parts += (b"\x01", write_short_bytes(statement.statement_id))
        else:
            assert statement.statement is not None
            parts += (b"\x00", write_long_string(statement.statement))
        parts.append(pack_short(len(statement.values)))
        parts += map(write_value, statement.values)
    parts.append(encode_parameters(version, batch.parameters, with_values=False))
    return b"".join(parts)


def encode_parameters(version: int, parameters: QueryParameters, with_values: bool = True) -> bytes:
    """The parameters of QUERY, EXECUTE and BATCH; keyspace and now need v5."""
    flags = 0
    parts: list[bytes] = []
    if with_values and parameters.values:
        flags |= QUERY_VALUES
        parts.append(pack_short(len(parameters.values)))
        if parameters.names is None:
            parts += map(write_value, parameters.values)
        else:
            flags |= QUERY_NAMES
            for name, value in zip(parameters.names, parameters.values, strict=True):
                parts += (write_string(name), write_value(value))
    if parameters.skip_metadata:
        flags |= QUERY_SKIP_METADATA
    if parameters.page_size > 0:
        flags |= QUERY_PAGE_SIZE
        parts.append(pack_int(parameters.page_size))
    if parameters.paging_state is not None:
        flags |= QUERY_PAGING_STATE
        parts.append(write_bytes(parameters.paging_state))
    if parameters.serial_consistency != SERIAL:
        flags |= QUERY_SERIAL_CONSISTENCY
        parts.append(pack_short(parameters.serial_consistency))
    if parameters.timestamp_us is not None:
        flags |= QUERY_TIMESTAMP
        parts.append(pack_long(parameters.timestamp_us))
    if parameters.keyspace is not None:
        flags |= QUERY_KEYSPACE
        parts.append(write_string(parameters.keyspace))
    if parameters.now_s is not None:
        flags |= QUERY_NOW
        parts.append(parameters.now_s.to_bytes(4, "big"))
    head = pack_short(parameters.consistency) + (pack_int(flags) if version >= 5 else bytes((flags,)))
    return head + b"".join(parts)


class ExecuteTemplate:
    """An EXECUTE of which all but the stream and the values is encoded beforehand.

    Only for a connection whose bodies aren't compressed one by one (v5, or no compression).
    """

    __slots__ = ("_fixed_bytes", "_head", "_tail", "_version")

    def __init__(
        self,
        version: int,
        statement_id: bytes,
        result_metadata_id: bytes,
        value_count: int,
        parameters: QueryParameters,
    ) -> None:
        """``parameters``: their values are left out; ``value_count`` go into each request."""
        body = encode_execute(version, statement_id, result_metadata_id, parameters)
        flags_end = 2 + len(statement_id) + 2 + 1
        if version >= 5:
            flags_end += 2 + len(result_metadata_id) + 3
        assert not parameters.values
        flags = bytes((body[flags_end - 1] | QUERY_VALUES,))
        self._version = version
        self._head = body[: flags_end - 1] + flags + pack_short(value_count)
        self._tail = body[flags_end:]
        self._fixed_bytes = len(self._head) + len(self._tail)

    def envelope(self, stream: int, values: bytes) -> bytes:
        """The whole envelope; ``values`` are the joined [value]s (``encode_values``)."""
        header = pack_header(self._version, 0, stream, EXECUTE, self._fixed_bytes + len(values))
        return b"".join((header, self._head, values, self._tail))


def encode_values(values: Iterable[bytes | None]) -> bytes:
    """[value]s, joined."""
    return b"".join([NULL if value is None else pack_int(len(value)) + value for value in values])


# --- Responses ---


class ResultMetadata(NamedTuple):
    """Metadata of a RESULT Rows or Prepared.

    Attributes:
        columns: None when the server left them out.
        paging_state: where the next page starts, or None on the last one.
        new_id: the new result metadata id, b"" when it hasn't changed.
    """

    column_count: int
    columns: tuple[ColumnSpec, ...] | None
    paging_state: bytes | None
    new_id: bytes


class Rows(NamedTuple):
    """RESULT Rows, cells as they are on the wire."""

    metadata: ResultMetadata
    rows: list[list[bytes | None]]


class Prepared(NamedTuple):
    """RESULT Prepared; ``result_metadata_id`` is b"" and ``partition_key_indexes`` empty where the version has none."""

    statement_id: bytes
    result_metadata_id: bytes
    markers: tuple[ColumnSpec, ...]
    partition_key_indexes: tuple[int, ...]
    result: ResultMetadata


class SetKeyspace(NamedTuple):
    """RESULT Set_keyspace."""

    keyspace: str


class NodeChange(NamedTuple):
    """EVENT TOPOLOGY_CHANGE or STATUS_CHANGE; ``address`` is packed."""

    event_type: str
    change: str
    address: bytes
    port: int


class Response(NamedTuple):
    """A decoded response.

    Attributes:
        message: by opcode: a ``RequestError`` for ERROR; None (Void), ``Rows``, ``SetKeyspace``, ``Prepared`` or
            ``SchemaChange`` for RESULT; ``NodeChange`` or ``SchemaChange`` for EVENT; a dict for SUPPORTED; the class
            name for AUTHENTICATE; the token for AUTH_CHALLENGE and AUTH_SUCCESS; None for READY.
        tracing_id: 16 bytes, or None.
    """

    message: Any
    tracing_id: bytes | None
    warnings: list[str]
    payload: dict[str, bytes | None]


def error_code(body: bytes) -> int:
    """Code of an ERROR without prefix (its header's flags were 0)."""
    return Reader(body).int32()


def decode_response(version: int, opcode: int, flags: int, body: bytes) -> Response:
    """Decode any response. Raises ProtocolError when it is malformed; an ERROR is returned, not raised."""
    reader = Reader(body)
    tracing_id = reader.uuid() if flags & FLAG_TRACING else None
    warnings = reader.string_list(_LISTED_MAX) if flags & FLAG_WARNING else []
    payload = reader.bytes_map(_LISTED_MAX) if flags & FLAG_CUSTOM_PAYLOAD else {}
    message: Any = None
    if opcode == RESULT:
        message = _read_result(version, reader)
    elif opcode == ERROR:
        message = _read_error(version, reader)
    elif opcode == EVENT:
        message = _read_event(reader)
    elif opcode == SUPPORTED:
        message = reader.string_multimap(_LISTED_MAX)
    elif opcode == AUTHENTICATE:
        message = reader.string()
    elif opcode in (AUTH_CHALLENGE, AUTH_SUCCESS):
        message = reader.nullable_bytes()
    return Response(message, tracing_id, warnings, payload)


def _read_result(version: int, reader: Reader) -> Rows | Prepared | SetKeyspace | SchemaChange | None:
    kind = reader.int32()
    if kind == RESULT_VOID:
        return None
    if kind == RESULT_ROWS:
        metadata = _read_metadata(reader)
        row_count = reader.int32()
        if row_count < 0 or row_count * max(metadata.column_count, 1) * 4 > reader.remaining():
            raise ProtocolError(f"Invalid number of rows {row_count}")
        columns = range(metadata.column_count)
        return Rows(metadata, [[reader.nullable_bytes() for _ in columns] for _ in range(row_count)])
    if kind == RESULT_SET_KEYSPACE:
        return SetKeyspace(reader.string())
    if kind == RESULT_PREPARED:
        return _read_prepared(version, reader)
    if kind == RESULT_SCHEMA_CHANGE:
        return _read_schema_change(reader)
    raise ProtocolError(f"Unknown kind of result {kind}")


def _read_count(reader: Reader, item_bytes_min: int, what: str) -> int:
    count = reader.int32()
    if count < 0 or count * item_bytes_min > reader.remaining():
        raise ProtocolError(f"Invalid number of {what} {count}")
    return count


def _read_specs(reader: Reader, flags: int, count: int) -> tuple[ColumnSpec, ...]:
    shared = flags & ROWS_GLOBAL_SPEC != 0
    keyspace, table = (reader.string(), reader.string()) if shared else ("", "")
    columns = []
    for _ in range(count):
        if not shared:
            keyspace, table = reader.string(), reader.string()
        columns.append(ColumnSpec(keyspace, table, reader.string(), read_type_option(reader, 5)))
    return tuple(columns)


def _read_metadata(reader: Reader) -> ResultMetadata:
    flags = reader.int32()
    column_count = reader.int32()
    if not 0 <= column_count <= _LISTED_MAX:
        raise ProtocolError(f"Invalid number of columns {column_count}")
    paging_state = reader.nullable_bytes() if flags & ROWS_MORE_PAGES else None
    new_id = reader.short_bytes() if flags & ROWS_METADATA_CHANGED else b""
    columns = None
    if not flags & ROWS_NO_METADATA:
        columns = _read_specs(reader, flags, column_count)
    return ResultMetadata(column_count, columns, paging_state, new_id)


def _read_prepared(version: int, reader: Reader) -> Prepared:
    statement_id = reader.short_bytes()
    metadata_id = reader.short_bytes() if version >= 5 else b""
    flags = reader.int32()
    marker_count = _read_count(reader, 4, "markers")
    key_indexes: tuple[int, ...] = ()
    if version >= 4:
        key_count = _read_count(reader, 2, "partition key indexes")
        key_indexes = tuple(reader.short() for _ in range(key_count))
    markers = _read_specs(reader, flags, marker_count)
    return Prepared(statement_id, metadata_id, markers, key_indexes, _read_metadata(reader))


def _read_schema_change(reader: Reader) -> SchemaChange:
    change, target, keyspace = reader.string(), reader.string(), reader.string()
    name = "" if target == "KEYSPACE" else reader.string()
    types = reader.string_list(_LISTED_MAX) if target in ("FUNCTION", "AGGREGATE") else []
    return SchemaChange(change, target, keyspace, name, tuple(types))


def _read_event(reader: Reader) -> NodeChange | SchemaChange:
    event_type = reader.string()
    if event_type == "SCHEMA_CHANGE":
        return _read_schema_change(reader)
    change = reader.string()
    address, port = reader.inet()
    return NodeChange(event_type, change, address, port)


_PLAIN_ERRORS: Final[dict[int, type[RequestError]]] = {
    ErrorCode.SERVER_ERROR: ServerError,
    ErrorCode.PROTOCOL_ERROR: ProtocolError,
    ErrorCode.BAD_CREDENTIALS: BadCredentials,
    ErrorCode.OVERLOADED: Overloaded,
    ErrorCode.IS_BOOTSTRAPPING: IsBootstrapping,
    ErrorCode.TRUNCATE_ERROR: TruncateError,
    ErrorCode.SYNTAX_ERROR: CqlSyntaxError,
    ErrorCode.UNAUTHORIZED: Unauthorized,
    ErrorCode.INVALID: InvalidRequest,
    ErrorCode.CONFIG_ERROR: ConfigurationException,
}


def _read_error(version: int, reader: Reader) -> RequestError:
    code = reader.int32()
    message = reader.string()
    plain = _PLAIN_ERRORS.get(code)
    if plain is not None:
        return plain(message)
    error = _read_error_fields(version, code, reader)
    error.message = message
    error.args = (message,)
    return error


def _read_error_fields(version: int, code: int, reader: Reader) -> RequestError:
    if code == ErrorCode.UNAVAILABLE:
        return Unavailable(reader.short(), reader.int32(), reader.int32())
    if code == ErrorCode.WRITE_TIMEOUT:
        replicas = reader.short(), reader.int32(), reader.int32()
        write_type = reader.string()
        contended = version >= 5 and write_type == "CAS" and reader.remaining() >= 2
        return WriteTimeout(*replicas, write_type, reader.short() if contended else 0)
    if code == ErrorCode.READ_TIMEOUT:
        return ReadTimeout(reader.short(), reader.int32(), reader.int32(), reader.byte() != 0)
    if code == ErrorCode.READ_FAILURE:
        replicas = reader.short(), reader.int32(), reader.int32()
        reasons = _read_reasons(version, reader)
        return ReadFailure(*replicas, reasons, reader.byte() != 0)
    if code == ErrorCode.WRITE_FAILURE:
        replicas = reader.short(), reader.int32(), reader.int32()
        reasons = _read_reasons(version, reader)
        return WriteFailure(*replicas, reasons, reader.string())
    if code == ErrorCode.FUNCTION_FAILURE:
        keyspace, function = reader.string(), reader.string()
        return FunctionFailure(keyspace, function, reader.string_list(_LISTED_MAX), "")
    if code == ErrorCode.CAS_WRITE_UNKNOWN:
        return CasWriteUnknown(reader.short(), reader.int32(), reader.int32())
    if code == ErrorCode.ALREADY_EXISTS:
        return AlreadyExists(reader.string(), reader.string())
    if code == ErrorCode.UNPREPARED:
        return Unprepared(reader.short_bytes())
    return ServerError("")


def _read_reasons(version: int, reader: Reader) -> dict[bytes, int]:
    """Reasons by address; before v5 only their number is known, and the addresses are numbered."""
    if version < 5:
        count = reader.int32()
        return {number.to_bytes(4, "big"): 0 for number in range(min(max(count, 0), _LISTED_MAX))}
    count = _read_count(reader, 7, "failures")
    return {reader.inet_address(): reader.short() for _ in range(count)}
