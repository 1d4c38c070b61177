"""The tables that nothing stores, put where the ordinary read path finds them.

Rows of ``system``, ``system_schema`` and ``system_views`` are made from the schema and the node's state. For
a SELECT they are written, like any rows, into a store in memory, and the executor that reads user tables
reads that. What follows from the schema alone is kept until the schema moves; the rest is made for each read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ourodb.cql.types import ListType, MapType, SetType
from ourodb.schema.model import Column, Schema, Table
from ourodb.schema.node_info import NodeInfo
from ourodb.schema.virtual import ClientInfo, NodeState, Row, follows_schema_only, rows
from ourodb.storage.memory import MemoryStore
from ourodb.storage.mutation import MutationBuilder, RowBuilder
from ourodb.storage.rows import Rows, TableRows


class VirtualTables:
    """Virtual tables of one node, ready to be read."""

    def __init__(
        self,
        schema: Schema,
        settings: Mapping[str, str],
        infos: Callable[[], tuple[NodeInfo, list[NodeInfo]]],
        clients: Callable[[], Sequence[ClientInfo]],
    ) -> None:
        """
        Args:
            infos: this node and the others, now.
            clients: who is connected now.
        """
        self._schema = schema
        self._infos = infos
        self._settings = settings
        self._clients = clients
        self._kept: dict[int, TableRows] = {}

    def schema_changed(self, schema: Schema) -> None:
        """The schema or the members have changed."""
        self._schema = schema
        self._kept.clear()

    def rows_of(self, table: Table, now_s: int) -> TableRows:
        """The table's present rows."""
        kept = self._kept.get(table.incarnation)
        if kept is not None and kept.table is table:
            return kept
        node, peers = self._infos()
        state = NodeState(node, peers, self._settings, tuple(self._clients()))
        made = materialise(table, rows(table, self._schema, state), now_s)
        if follows_schema_only(table):
            self._kept[table.incarnation] = made
        return made


def materialise(table: Table, made: Sequence[Row], now_s: int) -> TableRows:
    """The rows in a store of their own."""
    store = MemoryStore()
    result = Rows(store).of(table)
    keys = result.keys
    builders: dict[bytes, MutationBuilder] = {}
    for row in made:
        position = keys.position([row[column.name] or b"" for column in table.partition_key])
        builder = builders.get(position)
        if builder is None:
            builder = builders[position] = MutationBuilder(keys, position, 1, now_s)
        target = builder.row([row[column.name] or b"" for column in table.clustering])
        target.marker()
        for column in table.regulars:
            value = row.get(column.name)
            if value is not None:
                _put(target, column, value)
    for builder in builders.values():
        mutation = builder.build()
        if mutation is not None:
            result.apply(mutation, now_s)
    return result


def _put(row: RowBuilder, column: Column, value: bytes) -> None:
    kind = column.type
    if not kind.is_multicell:
        row.cell(column, value)
    elif isinstance(kind, MapType):
        for key, element in kind.split(value):
            row.element(column, key, element)
    elif isinstance(kind, SetType):
        for element in kind.split(value):
            row.element(column, element, b"")
    else:
        assert isinstance(kind, ListType)
        for index, element in enumerate(kind.split(value)):
            row.element(column, index.to_bytes(16, "big"), element)
