"""Encoding responses: bodies of ERROR, RESULT, EVENT and the handshake's answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ourodb.cql.wire.columns import ColumnSpec, RowsMetadata
from ourodb.errors import RequestError

VOID: bytes = b"\x00\x00\x00\x01"
"""Body of a RESULT Void."""


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
    raise NotImplementedError


def encode_authenticate(authenticator: str) -> bytes:
    raise NotImplementedError


def encode_auth_challenge(token: bytes | None) -> bytes:
    raise NotImplementedError


def encode_auth_success(token: bytes | None = None) -> bytes:
    raise NotImplementedError


def encode_supported(options: Mapping[str, Sequence[str]] | None = None) -> bytes:
    """Body of SUPPORTED: CQL_VERSION, COMPRESSION, PROTOCOL_VERSIONS."""
    raise NotImplementedError


def encode_set_keyspace(keyspace: str) -> bytes:
    """Body of a RESULT Set_keyspace."""
    raise NotImplementedError


def encode_schema_change(change: SchemaChange) -> bytes:
    """Body of a RESULT Schema_change."""
    raise NotImplementedError


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
    raise NotImplementedError


def encode_schema_change_event(change: SchemaChange) -> bytes:
    """Body of an EVENT SCHEMA_CHANGE."""
    raise NotImplementedError


def encode_status_change_event(change: str, address: bytes, port: int) -> bytes:
    """Body of an EVENT STATUS_CHANGE. ``change``: UP or DOWN; ``address``: packed."""
    raise NotImplementedError


def encode_topology_change_event(change: str, address: bytes, port: int) -> bytes:
    """Body of an EVENT TOPOLOGY_CHANGE. ``change``: NEW_NODE, REMOVED_NODE or MOVED_NODE; ``address``: packed."""
    raise NotImplementedError


def response_prefix(
    tracing_id: bytes | None = None,
    warnings: Sequence[str] = (),
    payload: Mapping[str, bytes | None] | None = None,
) -> tuple[int, bytes]:
    """Header flags, and the bytes before a body: trace id, warnings, custom payload (the latter two from v4 on)."""
    raise NotImplementedError
