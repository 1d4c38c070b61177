"""Decoding requests: QUERY, PREPARE, EXECUTE, BATCH, REGISTER, AUTH_RESPONSE, STARTUP."""

from __future__ import annotations

from ourodb.cql.wire.primitives import Value


class QueryParameters:
    """What a QUERY, EXECUTE or BATCH says besides its statement.

    Attributes:
        consistency: wire code, one of ``codes.Consistency``.
        skip_metadata: the client keeps the metadata of the result from the PREPARE.
        values: bound values, as they are on the wire; empty when none were sent.
        names: name of the marker of each of ``values``, or None when they are positional.
        page_size: rows a page; 0 or less means that the result isn't paged.
        paging_state: where to go on, or None.
        serial_consistency: wire code, SERIAL when the client didn't say.
        timestamp_us: the client's default timestamp, or None.
        keyspace: for this request instead of the connection's, or None (v5).
        now_s: the client's idea of now for TTLs, seconds since 1970, or None (v5).
    """

    __slots__ = (
        "consistency", "keyspace", "names", "now_s", "page_size", "paging_state", "serial_consistency",
        "skip_metadata", "timestamp_us", "values",
    )  # fmt: skip

    consistency: int
    skip_metadata: bool
    values: list[Value]
    names: list[str] | None
    page_size: int
    paging_state: bytes | None
    serial_consistency: int
    timestamp_us: int | None
    keyspace: str | None
    now_s: int | None


class Execute:
    """EXECUTE. ``result_metadata_id`` is b"" before v5."""

    __slots__ = ("parameters", "result_metadata_id", "statement_id")

    statement_id: bytes
    result_metadata_id: bytes
    parameters: QueryParameters


class Query:
    """QUERY."""

    __slots__ = ("parameters", "statement")

    statement: str
    parameters: QueryParameters


class Prepare:
    """PREPARE; ``keyspace`` for this statement, or None (v5)."""

    __slots__ = ("keyspace", "statement")

    statement: str
    keyspace: str | None


class BatchStatement:
    """One statement of a BATCH: either ``statement`` or ``statement_id``; the other is None."""

    __slots__ = ("statement", "statement_id", "values")

    statement: str | None
    statement_id: bytes | None
    values: list[Value]


class Batch:
    """BATCH; ``kind`` is one of ``codes.BATCH_LOGGED``, ``BATCH_UNLOGGED``, ``BATCH_COUNTER``."""

    __slots__ = ("kind", "parameters", "statements")

    kind: int
    statements: list[BatchStatement]
    parameters: QueryParameters


# Every decoder raises ProtocolError, and nothing else, for a malformed body.


def decode_execute(version: int, body: bytes) -> Execute:
    """EXECUTE, values collected as slices of ``body``."""
    raise NotImplementedError


def decode_query(version: int, body: bytes) -> Query:
    raise NotImplementedError


def decode_prepare(version: int, body: bytes) -> Prepare:
    raise NotImplementedError


def decode_batch(version: int, body: bytes) -> Batch:
    raise NotImplementedError


def decode_register(body: bytes) -> list[str]:
    """Event types of a REGISTER: TOPOLOGY_CHANGE, STATUS_CHANGE, SCHEMA_CHANGE."""
    raise NotImplementedError


def decode_auth_response(body: bytes) -> bytes | None:
    """The SASL token of an AUTH_RESPONSE."""
    raise NotImplementedError
