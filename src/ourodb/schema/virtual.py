"""Rows of the tables that nothing stores: ``system``, ``system_schema``, ``system_views`` and the like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from ourodb.schema.model import Schema, Table
from ourodb.schema.node_info import NodeInfo

Row = dict[str, bytes | None]
"""Column name to wire bytes; a column that isn't there is null."""

EMPTY: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """A connected client, as ``system_views.clients`` shows it."""

    address: str
    port: int
    hostname: str
    username: str = "anonymous"
    connection_stage: str = "READY"
    protocol_version: int = 5
    driver_name: str | None = None
    driver_version: str | None = None
    keyspace_name: str | None = None
    request_count: int = 0
    client_options: Mapping[str, str] = EMPTY
    ssl_enabled: bool = False
    ssl_protocol: str | None = None
    ssl_cipher_suite: str | None = None


@dataclass(frozen=True, slots=True)
class NodeState:
    """What the rows are made from, beside the schema.

    Attributes:
        settings: the node's configuration, name to text.
    """

    node: NodeInfo
    peers: Sequence[NodeInfo] = ()
    settings: Mapping[str, str] = EMPTY
    clients: Sequence[ClientInfo] = ()


def rows(table: Table, schema: Schema, state: NodeState) -> list[Row]:
    """All rows of a virtual table, in no particular order.

    Rows of ``system``, ``system_schema`` and ``system_virtual_schema`` depend on schema, node and peers only, and may
    be kept as long as those stay; those of ``system_views`` are of this moment.
    """
    raise NotImplementedError


def follows_schema_only(table: Table) -> bool:
    """Whether ``rows`` of the table may be kept until schema, node or peers change."""
    raise NotImplementedError
