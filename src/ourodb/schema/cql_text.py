"""Schema objects as CQL: the CREATE statements that DESCRIBE prints, to the letter of Apache Cassandra 5.

Source: Apache Cassandra 5, ``CqlBuilder`` and the ``toCqlString`` of ``KeyspaceMetadata``, ``UserType``,
``TableMetadata`` and ``TableParams``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ourodb.cql.syntax.format import quote_identifier, quote_string
from ourodb.cql.types import CqlType, UserType
from ourodb.schema.model import Column, ColumnKind, DroppedColumn, Keyspace, Table, TableOptions
from ourodb.schema.names import qualified
from ourodb.schema.properties import show_double

INDENT: Final = "    "
_LOCATOR: Final = "org.apache.cassandra.locator."


def create_keyspace(keyspace: Keyspace) -> str:
    name = quote_identifier(keyspace.name)
    if keyspace.virtual:
        return (
            f"/*\nWarning: Keyspace {name} is a virtual keyspace and cannot be recreated with CQL.\n"
            f"Structure, for reference:\nVIRTUAL KEYSPACE {name};\n*/"
        )
    strategy = keyspace.replication.strategy.removeprefix(_LOCATOR)
    options = "".join(
        f", {quote_string(option)}: {quote_string(value)}"
        for option, value in keyspace.replication.options.items()
    )
    return (
        f"CREATE KEYSPACE {name} WITH replication = {{'class': {quote_string(strategy)}{options}}}  "
        f"AND durable_writes = {_boolean(keyspace.durable_writes)};"
    )


def create_type(user_type: UserType) -> str:
    fields = zip(user_type.field_names, user_type.components, strict=True)
    lines = [f"{INDENT}{quote_identifier(name)} {part.cql_name}" for name, part in fields]
    return f"CREATE TYPE {qualified(user_type.keyspace, user_type.name)} (\n" + ",\n".join(lines) + "\n);"


def create_table(table: Table, *, virtual: bool, internals: bool) -> str:
    """
    Args:
        virtual: the keyspace is; such a table can't be created.
        internals: with the id, and what recreates the dropped columns.
    """
    name = qualified(table.keyspace, table.name)
    text = f"{'VIRTUAL' if virtual else 'CREATE'} TABLE {name} (\n{_body(table, internals)}) WITH "
    clauses = [f"ID = {table.id}"] if internals else []
    if table.clustering:
        order = ", ".join(
            f"{quote_identifier(column.name)} {'DESC' if column.descending else 'ASC'}"
            for column in table.clustering
        )
        clauses.append(f"CLUSTERING ORDER BY ({order})")
    if virtual:
        clauses.append(f"comment = {quote_string(table.options.comment)}")
    else:
        clauses += _options(table.options)
    text += f"\n{INDENT}AND ".join(clauses) + ";"
    if virtual:
        text = (
            f"/*\nWarning: Table {name} is a virtual table and cannot be recreated with CQL.\n"
            f"Structure, for reference:\n{text}\n*/"
        )
    return text + _drops(table, name) if internals else text


def _body(table: Table, internals: bool) -> str:
    single = len(table.partition_key) == 1 and not table.clustering
    dropped = _dropped(table) if internals else []
    # A column that was dropped and added again is first shown as it was; ALTER TABLE then makes it what it is.
    shown = [
        _column(column.name, column.type, column.kind)
        + (" PRIMARY KEY" if single and column.kind is ColumnKind.PARTITION_KEY else "")
        for column in _in_create_order(table)
        if not (internals and column.name in table.dropped)
    ]
    shown += [_column(column.name, column.type, column.kind) for column in dropped]
    if not single:
        shown.append(f"PRIMARY KEY ({_primary_key(table)})")
    return ",\n".join(INDENT + line for line in shown) + "\n"


def _primary_key(table: Table) -> str:
    partition_key = ", ".join(quote_identifier(column.name) for column in table.partition_key)
    if len(table.partition_key) > 1:
        partition_key = f"({partition_key})"
    return ", ".join([partition_key, *(quote_identifier(column.name) for column in table.clustering)])


def _in_create_order(table: Table) -> list[Column]:
    """Key columns, statics, regulars; of the last two first those that are one cell, then those that are many."""
    others = [*table.statics, *table.regulars]
    others.sort(key=lambda column: (column.kind, column.type.is_multicell))
    return [*table.partition_key, *table.clustering, *others]


def _column(name: str, part: CqlType, kind: ColumnKind) -> str:
    return f"{quote_identifier(name)} {part.cql_name}{' static' if kind is ColumnKind.STATIC else ''}"


def _dropped(table: Table) -> list[DroppedColumn]:
    return [table.dropped[name] for name in sorted(table.dropped)]


def _drops(table: Table, name: str) -> str:
    text = ""
    for dropped in _dropped(table):
        text += f"\nALTER TABLE {name} DROP {quote_identifier(dropped.name)} USING TIMESTAMP {dropped.dropped_at};"
        column = table.columns.get(dropped.name)
        if column is not None:
            text += f"\nALTER TABLE {name} ADD {_column(column.name, column.type, column.kind)};"
    return text


def _options(options: TableOptions) -> list[str]:
    extensions = ", ".join(
        f"{quote_string(name)}: {options.extensions[name]}" for name in sorted(options.extensions)
    )
    return [
        f"additional_write_policy = {quote_string(options.additional_write_policy)}",
        f"allow_auto_snapshot = {_boolean(options.allow_auto_snapshot)}",
        f"bloom_filter_fp_chance = {show_double(options.bloom_filter_fp_chance)}",
        f"caching = {_map(options.caching)}",
        f"cdc = {_boolean(options.cdc)}",
        f"comment = {quote_string(options.comment)}",
        f"compaction = {_map(options.compaction)}",
        f"compression = {_map(options.compression)}",
        f"memtable = {quote_string(options.memtable)}",
        f"crc_check_chance = {show_double(options.crc_check_chance)}",
        f"default_time_to_live = {options.default_time_to_live}",
        f"extensions = {{{extensions}}}",
        f"gc_grace_seconds = {options.gc_grace_seconds}",
        f"incremental_backups = {_boolean(options.incremental_backups)}",
        f"max_index_interval = {options.max_index_interval}",
        f"memtable_flush_period_in_ms = {options.memtable_flush_period_in_ms}",
        f"min_index_interval = {options.min_index_interval}",
        f"read_repair = {quote_string(options.read_repair)}",
        f"speculative_retry = {quote_string(options.speculative_retry)}",
    ]


def _map(entries: Mapping[str, str]) -> str:
    shown = ", ".join(f"{quote_string(name)}: {quote_string(entries[name])}" for name in sorted(entries))
    return f"{{{shown}}}"


def _boolean(value: bool) -> str:
    return "true" if value else "false"
