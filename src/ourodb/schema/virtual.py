"""Rows of the tables that nothing stores: ``system``, ``system_schema``, ``system_views`` and the like.

``rows`` makes all the rows of one table from the schema and from what the node says of itself. They go through the
ordinary read path afterwards, so nothing here knows of conditions, order or pages. What Cassandra leaves null unless it
was set (cdc, memtable, allow_auto_snapshot, incremental_backups) is null here too: drivers take it as the default.

A table that has no maker is empty. That is the truth for as long as OuroDB has no indexes, views, roles or repairs.

Source: Apache Cassandra 5, ``SystemKeyspace``, ``SchemaKeyspace``, ``VirtualSchemaKeyspace``, ``ClientsTable``,
``SettingsTable``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from ourodb.cql.types import (
    BIGINT,
    BOOLEAN,
    DOUBLE,
    INET,
    INT,
    TEXT,
    TIMESTAMP,
    UUID,
    CqlType,
    ListType,
    MapType,
    SetType,
)
from ourodb.schema.model import Column, ColumnKind, Keyspace, Schema, Table
from ourodb.schema.node_info import NodeInfo

Row = dict[str, bytes | None]
"""Column name to wire bytes; a column that isn't there is null."""

EMPTY: Final[Mapping[str, str]] = MappingProxyType({})

_TEXTS: Final = ListType(TEXT, frozen=True)
_TEXT_SET: Final = SetType(TEXT, frozen=True)
_TEXT_MAP: Final = MapType(TEXT, TEXT, frozen=True)

_KINDS: Final = {
    ColumnKind.PARTITION_KEY: "partition_key",
    ColumnKind.CLUSTERING: "clustering",
    ColumnKind.STATIC: "static",
    ColumnKind.REGULAR: "regular",
}


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """A connected client, as ``system_views.clients`` shows it."""

    address: str
    port: int
    hostname: str
    username: str = "anonymous"
    connection_stage: str = "ready"
    protocol_version: int = 5
    driver_name: str | None = None
    driver_version: str | None = None
    keyspace_name: str | None = None
    request_count: int = 0
    client_options: Mapping[str, str] = field(default_factory=lambda: EMPTY)
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
    settings: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    clients: Sequence[ClientInfo] = ()


def rows(table: Table, schema: Schema, state: NodeState) -> list[Row]:
    """All rows of a virtual table, in no particular order.

    Rows of ``system``, ``system_schema`` and ``system_virtual_schema`` depend on schema, node and peers only, and may
    be kept as long as those stay; those of ``system_views`` are of this moment.
    """
    maker = _MAKERS.get((table.keyspace, table.name))
    return [] if maker is None else list(maker(schema, state))


def follows_schema_only(table: Table) -> bool:
    """Whether ``rows`` of the table may be kept until schema, node or peers change."""
    return table.keyspace != "system_views"


def _row(types: Mapping[str, CqlType], **values: Any) -> Row:
    """Wire bytes of Python objects, addresses as text; None stays null."""
    return {name: None if value is None else _encoded(types[name], value) for name, value in values.items()}


def _encoded(part: CqlType, value: Any) -> bytes:
    # Nodes and clients know addresses as text.
    return part.parse(value) if part is INET else part.encode(value)


# --- system --------------------------------------------------------------------------------------------------------

_NODE_TYPES: Final[Mapping[str, CqlType]] = {
    "key": TEXT,
    "bootstrapped": TEXT,
    "broadcast_address": INET,
    "broadcast_port": INT,
    "cluster_name": TEXT,
    "cql_version": TEXT,
    "data_center": TEXT,
    "gossip_generation": INT,
    "host_id": UUID,
    "listen_address": INET,
    "listen_port": INT,
    "native_address": INET,
    "native_port": INT,
    "native_protocol_version": TEXT,
    "partitioner": TEXT,
    "peer": INET,
    "peer_port": INT,
    "preferred_ip": INET,
    "preferred_port": INT,
    "rack": TEXT,
    "release_version": TEXT,
    "rpc_address": INET,
    "rpc_port": INT,
    "schema_version": UUID,
    "tokens": SetType(TEXT),
}


def _local(schema: Schema, state: NodeState) -> Iterator[Row]:
    node = state.node
    yield _row(
        _NODE_TYPES,
        key="local",
        bootstrapped="COMPLETED",
        broadcast_address=node.broadcast_address,
        broadcast_port=node.broadcast_port,
        cluster_name=node.cluster_name,
        cql_version=node.cql_version,
        data_center=node.data_center,
        gossip_generation=node.generation,
        host_id=node.host_id,
        listen_address=node.listen_address,
        listen_port=node.listen_port,
        native_protocol_version=node.native_protocol_version,
        partitioner=node.partitioner,
        rack=node.rack,
        release_version=node.release_version,
        rpc_address=node.native_address,
        rpc_port=node.native_port,
        schema_version=schema.version,
        tokens=sorted(node.tokens),
    )


def _peers_v2(schema: Schema, state: NodeState) -> Iterator[Row]:
    for peer in state.peers:
        yield _row(
            _NODE_TYPES,
            peer=peer.broadcast_address,
            peer_port=peer.broadcast_port,
            data_center=peer.data_center,
            host_id=peer.host_id,
            native_address=peer.native_address,
            native_port=peer.native_port,
            preferred_ip=peer.broadcast_address,
            preferred_port=peer.broadcast_port,
            rack=peer.rack,
            release_version=peer.release_version,
            schema_version=schema.version,
            tokens=sorted(peer.tokens),
        )


def _peers(schema: Schema, state: NodeState) -> Iterator[Row]:
    for peer in state.peers:
        yield _row(
            _NODE_TYPES,
            peer=peer.broadcast_address,
            data_center=peer.data_center,
            host_id=peer.host_id,
            preferred_ip=peer.broadcast_address,
            rack=peer.rack,
            release_version=peer.release_version,
            rpc_address=peer.native_address,
            schema_version=schema.version,
            tokens=sorted(peer.tokens),
        )


# --- system_schema and system_virtual_schema -----------------------------------------------------------------------

_SCHEMA_TYPES: Final[Mapping[str, CqlType]] = {
    "additional_write_policy": TEXT,
    "allow_auto_snapshot": BOOLEAN,
    "bloom_filter_fp_chance": DOUBLE,
    "caching": _TEXT_MAP,
    "clustering_order": TEXT,
    "column_name": TEXT,
    "comment": TEXT,
    "compaction": _TEXT_MAP,
    "compression": _TEXT_MAP,
    "crc_check_chance": DOUBLE,
    "dclocal_read_repair_chance": DOUBLE,
    "default_time_to_live": INT,
    "dropped_time": TIMESTAMP,
    "durable_writes": BOOLEAN,
    "extensions": _TEXT_MAP,
    "field_names": _TEXTS,
    "field_types": _TEXTS,
    "flags": _TEXT_SET,
    "gc_grace_seconds": INT,
    "id": UUID,
    "incremental_backups": BOOLEAN,
    "keyspace_name": TEXT,
    "kind": TEXT,
    "max_index_interval": INT,
    "memtable_flush_period_in_ms": INT,
    "min_index_interval": INT,
    "position": INT,
    "read_repair": TEXT,
    "read_repair_chance": DOUBLE,
    "replication": _TEXT_MAP,
    "speculative_retry": TEXT,
    "table_name": TEXT,
    "type": TEXT,
    "type_name": TEXT,
}


def _of_kind(schema: Schema, virtual: bool) -> Iterator[Keyspace]:
    for keyspace in schema.keyspaces.values():
        if keyspace.virtual is virtual:
            yield keyspace


def _keyspaces(schema: Schema, _: NodeState) -> Iterator[Row]:
    for keyspace in _of_kind(schema, virtual=False):
        replication = {"class": keyspace.replication.strategy, **keyspace.replication.options}
        yield _row(
            _SCHEMA_TYPES,
            keyspace_name=keyspace.name,
            durable_writes=keyspace.durable_writes,
            replication=replication,
        )


def _tables(schema: Schema, _: NodeState) -> Iterator[Row]:
    for keyspace in _of_kind(schema, virtual=False):
        for table in keyspace.tables.values():
            options = table.options
            yield _row(
                _SCHEMA_TYPES,
                keyspace_name=keyspace.name,
                table_name=table.name,
                additional_write_policy=options.additional_write_policy,
                allow_auto_snapshot=None if options.allow_auto_snapshot else False,
                bloom_filter_fp_chance=options.bloom_filter_fp_chance,
                caching=options.caching,
                comment=options.comment,
                compaction=options.compaction,
                compression=options.compression,
                crc_check_chance=options.crc_check_chance,
                dclocal_read_repair_chance=0.0,
                default_time_to_live=options.default_time_to_live,
                extensions=options.extensions,
                flags=["compound", "counter"] if table.is_counter else ["compound"],
                gc_grace_seconds=options.gc_grace_seconds,
                id=table.id,
                incremental_backups=None if options.incremental_backups else False,
                max_index_interval=options.max_index_interval,
                memtable_flush_period_in_ms=options.memtable_flush_period_in_ms,
                min_index_interval=options.min_index_interval,
                read_repair=options.read_repair,
                read_repair_chance=0.0,
                speculative_retry=options.speculative_retry,
            )


def _column(table: Table, column: Column) -> Row:
    order = "none"
    if column.kind is ColumnKind.CLUSTERING:
        order = "desc" if column.descending else "asc"
    row = _row(
        _SCHEMA_TYPES,
        keyspace_name=table.keyspace,
        table_name=table.name,
        column_name=column.name,
        clustering_order=order,
        kind=_KINDS[column.kind],
        position=column.position,
        type=column.type.cql_name,
    )
    row["column_name_bytes"] = column.name.encode()
    return row


def _columns(schema: Schema, _: NodeState) -> Iterator[Row]:
    for keyspace in _of_kind(schema, virtual=False):
        for table in keyspace.tables.values():
            for column in table.columns.values():
                yield _column(table, column)


def _dropped_columns(schema: Schema, _: NodeState) -> Iterator[Row]:
    for keyspace in _of_kind(schema, virtual=False):
        for table in keyspace.tables.values():
            for dropped in table.dropped.values():
                row = _row(
                    _SCHEMA_TYPES,
                    keyspace_name=keyspace.name,
                    table_name=table.name,
                    column_name=dropped.name,
                    kind=_KINDS[dropped.kind],
                    type=dropped.type.cql_name,
                )
                row["dropped_time"] = BIGINT.encode(dropped.dropped_at // 1_000)
                yield row


def _types(schema: Schema, _: NodeState) -> Iterator[Row]:
    for keyspace in _of_kind(schema, virtual=False):
        for user_type in keyspace.types.values():
            yield _row(
                _SCHEMA_TYPES,
                keyspace_name=keyspace.name,
                type_name=user_type.name,
                field_names=user_type.field_names,
                field_types=[part.cql_name for part in user_type.components],
            )


def _virtual_keyspaces(schema: Schema, _: NodeState) -> Iterator[Row]:
    for keyspace in _of_kind(schema, virtual=True):
        yield _row(_SCHEMA_TYPES, keyspace_name=keyspace.name)


def _virtual_tables(schema: Schema, _: NodeState) -> Iterator[Row]:
    for keyspace in _of_kind(schema, virtual=True):
        for table in keyspace.tables.values():
            yield _row(
                _SCHEMA_TYPES,
                keyspace_name=keyspace.name,
                table_name=table.name,
                comment=table.options.comment,
            )


def _virtual_columns(schema: Schema, _: NodeState) -> Iterator[Row]:
    for keyspace in _of_kind(schema, virtual=True):
        for table in keyspace.tables.values():
            for column in table.columns.values():
                yield _column(table, column)


# --- system_views --------------------------------------------------------------------------------------------------

_VIEW_TYPES: Final[Mapping[str, CqlType]] = {
    "address": INET,
    "client_options": _TEXT_MAP,
    "connection_stage": TEXT,
    "driver_name": TEXT,
    "driver_version": TEXT,
    "hostname": TEXT,
    "keyspace_name": TEXT,
    "name": TEXT,
    "port": INT,
    "protocol_version": INT,
    "request_count": BIGINT,
    "ssl_cipher_suite": TEXT,
    "ssl_enabled": BOOLEAN,
    "ssl_protocol": TEXT,
    "username": TEXT,
    "value": TEXT,
}


def _clients(_: Schema, state: NodeState) -> Iterator[Row]:
    for client in state.clients:
        yield _row(
            _VIEW_TYPES,
            address=client.address,
            port=client.port,
            client_options=client.client_options,
            connection_stage=client.connection_stage,
            driver_name=client.driver_name,
            driver_version=client.driver_version,
            hostname=client.hostname,
            keyspace_name=client.keyspace_name,
            protocol_version=client.protocol_version,
            request_count=client.request_count,
            ssl_cipher_suite=client.ssl_cipher_suite,
            ssl_enabled=client.ssl_enabled,
            ssl_protocol=client.ssl_protocol,
            username=client.username,
        )


def _settings(_: Schema, state: NodeState) -> Iterator[Row]:
    for name, value in state.settings.items():
        yield _row(_VIEW_TYPES, name=name, value=value)


_MAKERS: Final[Mapping[tuple[str, str], Callable[[Schema, NodeState], Iterator[Row]]]] = {
    ("system", "local"): _local,
    ("system", "peers"): _peers,
    ("system", "peers_v2"): _peers_v2,
    ("system_schema", "columns"): _columns,
    ("system_schema", "dropped_columns"): _dropped_columns,
    ("system_schema", "keyspaces"): _keyspaces,
    ("system_schema", "tables"): _tables,
    ("system_schema", "types"): _types,
    ("system_virtual_schema", "columns"): _virtual_columns,
    ("system_virtual_schema", "keyspaces"): _virtual_keyspaces,
    ("system_virtual_schema", "tables"): _virtual_tables,
    ("system_views", "clients"): _clients,
    ("system_views", "settings"): _settings,
}
