"""Encoding what clients are answered: bodies of ERROR, RESULT, EVENT and of the handshake's answers.

Rows are in ``columns``. Each function gives the body without the envelope's header, which ``ServerConnection.send``
puts before it. A text that came from a client, or was made of one, is cut to what a [string] holds, not refused.

An error that an older version doesn't know is sent as the nearest one that it knows, as Cassandra does: before v4,
Read_failure and Write_failure go as timeouts and Function_failure as Invalid; before v5, CAS_write_unknown goes as a
Write_timeout of type CAS, and the map of reasons as a number of failures.

Source: native_protocol_v5.spec, sections 4.2 and 8; org.apache.cassandra.transport.messages.ErrorMessage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from ourodb.cql.wire.codes import (
    CQL_VERSION,
    FLAG_CUSTOM_PAYLOAD,
    FLAG_TRACING,
    FLAG_WARNING,
    RESULT_PREPARED,
    RESULT_SCHEMA_CHANGE,
    RESULT_SET_KEYSPACE,
    VERSIONS,
)
from ourodb.cql.wire.columns import EMPTY_METADATA, EMPTY_METADATA_ID, ColumnSpec, RowsMetadata, encode_specs
from ourodb.cql.wire.primitives import (
    pack_int,
    pack_short,
    write_bytes,
    write_bytes_map,
    write_inet,
    write_inet_address,
    write_short_bytes,
    write_string,
    write_string_list,
    write_string_multimap,
    write_text,
    write_text_list,
)
from ourodb.errors import (
    AlreadyExists,
    CasWriteUnknown,
    ErrorCode,
    FunctionFailure,
    ReadFailure,
    ReadTimeout,
    RequestError,
    Unavailable,
    Unprepared,
    WriteFailure,
    WriteTimeout,
)

VOID: Final = b"\x00\x00\x00\x01"
"""Body of a RESULT Void."""

PROTOCOL_VERSIONS: Final = tuple(f"{version}/v{version}" for version in VERSIONS)
WARNINGS_MAX: Final = 0xFFFF


class SchemaChange(NamedTuple):
    """What a DDL statement did.

    Attributes:
        change: CREATED, UPDATED or DROPPED.
        target: KEYSPACE, TABLE, TYPE, FUNCTION or AGGREGATE.
        name: of the table, type, function or aggregate; "" for a keyspace.
        argument_types: CQL types, of a function or an aggregate.
    """

    change: str
    target: str
    keyspace: str
    name: str = ""
    argument_types: tuple[str, ...] = ()


def encode_error(version: int, error: RequestError) -> bytes:
    """Body of an ERROR."""
    code, fields = error.code, b""
    # A kind of WriteTimeout that says more in its text is a WriteTimeout to clients.
    encode_fields = next((_ERROR_FIELDS[kind] for kind in type(error).__mro__ if kind in _ERROR_FIELDS), None)
    if encode_fields is not None:
        code, fields = encode_fields(version, error)
    return pack_int(code) + write_text(error.message) + fields


def _replicas(consistency: int, first: int, second: int) -> bytes:
    return pack_short(consistency) + pack_int(first) + pack_int(second)


def _reasons(version: int, reasons: Mapping[bytes, int]) -> bytes:
    if version < 5:
        return pack_int(len(reasons))
    pairs = [write_inet_address(address) + pack_short(reason) for address, reason in reasons.items()]
    return pack_int(len(reasons)) + b"".join(pairs)


def _unavailable(version: int, error: Unavailable) -> tuple[ErrorCode, bytes]:
    return ErrorCode.UNAVAILABLE, _replicas(error.consistency, error.required, error.alive)


def _write_timeout(version: int, error: WriteTimeout) -> tuple[ErrorCode, bytes]:
    fields = _replicas(error.consistency, error.received, error.required) + write_string(error.write_type)
    if version >= 5 and error.write_type == "CAS":
        fields += pack_short(error.contentions)
    return ErrorCode.WRITE_TIMEOUT, fields


def _read_timeout(version: int, error: ReadTimeout) -> tuple[ErrorCode, bytes]:
    fields = _replicas(error.consistency, error.received, error.required)
    return ErrorCode.READ_TIMEOUT, fields + bytes((error.data_present,))


def _read_failure(version: int, error: ReadFailure) -> tuple[ErrorCode, bytes]:
    fields = _replicas(error.consistency, error.received, error.required)
    present = bytes((error.data_present,))
    if version < 4:
        return ErrorCode.READ_TIMEOUT, fields + present
    return ErrorCode.READ_FAILURE, fields + _reasons(version, error.reasons) + present


def _write_failure(version: int, error: WriteFailure) -> tuple[ErrorCode, bytes]:
    fields = _replicas(error.consistency, error.received, error.required)
    write_type = write_string(error.write_type)
    if version < 4:
        return ErrorCode.WRITE_TIMEOUT, fields + write_type
    return ErrorCode.WRITE_FAILURE, fields + _reasons(version, error.reasons) + write_type


def _function_failure(version: int, error: FunctionFailure) -> tuple[ErrorCode, bytes]:
    if version < 4:
        return ErrorCode.INVALID, b""
    names = write_text(error.keyspace) + write_text(error.function)
    return ErrorCode.FUNCTION_FAILURE, names + write_text_list(error.argument_types)


def _cas_write_unknown(version: int, error: CasWriteUnknown) -> tuple[ErrorCode, bytes]:
    fields = _replicas(error.consistency, error.received, error.required)
    if version < 5:
        return ErrorCode.WRITE_TIMEOUT, fields + write_string("CAS")
    return ErrorCode.CAS_WRITE_UNKNOWN, fields


def _already_exists(version: int, error: AlreadyExists) -> tuple[ErrorCode, bytes]:
    return ErrorCode.ALREADY_EXISTS, write_text(error.keyspace) + write_text(error.table)


def _unprepared(version: int, error: Unprepared) -> tuple[ErrorCode, bytes]:
    return ErrorCode.UNPREPARED, write_short_bytes(error.statement_id)


_ERROR_FIELDS: Final[dict[type[RequestError], Callable[[int, Any], tuple[ErrorCode, bytes]]]] = {
    AlreadyExists: _already_exists,
    CasWriteUnknown: _cas_write_unknown,
    FunctionFailure: _function_failure,
    ReadFailure: _read_failure,
    ReadTimeout: _read_timeout,
    Unavailable: _unavailable,
    Unprepared: _unprepared,
    WriteFailure: _write_failure,
    WriteTimeout: _write_timeout,
}
"""Class of an error to the encoder of its own fields; the others have none."""


def encode_authenticate(authenticator: str) -> bytes:
    """Body of AUTHENTICATE."""
    return write_string(authenticator)


def encode_auth_challenge(token: bytes | None) -> bytes:
    """Body of AUTH_CHALLENGE."""
    return write_bytes(token)


def encode_auth_success(token: bytes | None = None) -> bytes:
    """Body of AUTH_SUCCESS."""
    return write_bytes(token)


def encode_supported() -> bytes:
    """Body of SUPPORTED: CQL_VERSION, COMPRESSION, PROTOCOL_VERSIONS."""
    return write_string_multimap(
        {
            "COMPRESSION": ("snappy", "lz4"),
            "CQL_VERSION": (CQL_VERSION,),
            "PROTOCOL_VERSIONS": PROTOCOL_VERSIONS,
        }
    )


def encode_set_keyspace(keyspace: str) -> bytes:
    """Body of a RESULT Set_keyspace."""
    return pack_int(RESULT_SET_KEYSPACE) + write_text(keyspace)


def _change(change: SchemaChange) -> bytes:
    parts = [write_string(change.change), write_string(change.target), write_text(change.keyspace)]
    if change.target != "KEYSPACE":
        parts.append(write_text(change.name))
        if change.target in ("FUNCTION", "AGGREGATE"):
            parts.append(write_string_list(change.argument_types))
    return b"".join(parts)


def encode_schema_change(change: SchemaChange) -> bytes:
    """Body of a RESULT Schema_change."""
    return pack_int(RESULT_SCHEMA_CHANGE) + _change(change)


def encode_prepared(
    version: int,
    statement_id: bytes,
    markers: Sequence[ColumnSpec],
    partition_key_indexes: Sequence[int],
    result: RowsMetadata | None,
) -> bytes:
    """Body of a RESULT Prepared.

    Args:
        partition_key_indexes: position among ``markers`` of each partition key column, in the key's order; empty
            when the key isn't fully bound.
        result: None for a statement without rows.
    """
    flags, specs = encode_specs(markers, version)
    parts = [pack_int(RESULT_PREPARED), write_short_bytes(statement_id)]
    if version >= 5:
        parts.append(write_short_bytes(EMPTY_METADATA_ID if result is None else result.id))
    parts += (pack_int(flags), pack_int(len(markers)))
    if version >= 4:
        parts.append(pack_int(len(partition_key_indexes)))
        parts += map(pack_short, partition_key_indexes)
    parts += (specs, EMPTY_METADATA if result is None else result.prepared())
    return b"".join(parts)


def encode_schema_change_event(change: SchemaChange) -> bytes:
    """Body of an EVENT SCHEMA_CHANGE."""
    return write_string("SCHEMA_CHANGE") + _change(change)


def encode_status_change_event(change: str, address: bytes, port: int) -> bytes:
    """Body of an EVENT STATUS_CHANGE. ``change``: UP or DOWN; ``address``: packed."""
    return write_string("STATUS_CHANGE") + write_string(change) + write_inet(address, port)


def encode_topology_change_event(change: str, address: bytes, port: int) -> bytes:
    """Body of an EVENT TOPOLOGY_CHANGE. ``change``: NEW_NODE, REMOVED_NODE or MOVED_NODE; ``address``: packed."""
    return write_string("TOPOLOGY_CHANGE") + write_string(change) + write_inet(address, port)


def response_prefix(
    version: int,
    tracing_id: bytes | None = None,
    warnings: Sequence[str] = (),
    payload: Mapping[str, bytes | None] | None = None,
) -> tuple[int, bytes]:
    """Header flags, and the bytes before a body: trace id, warnings, custom payload (the latter two from v4 on)."""
    flags, prefix = 0, b""
    if tracing_id is not None:
        assert len(tracing_id) == 16
        flags |= FLAG_TRACING
        prefix += tracing_id
    if version >= 4:
        if warnings:
            flags |= FLAG_WARNING
            prefix += write_text_list(warnings[:WARNINGS_MAX])
        if payload:
            flags |= FLAG_CUSTOM_PAYLOAD
            prefix += write_bytes_map(payload)
    return flags, prefix
