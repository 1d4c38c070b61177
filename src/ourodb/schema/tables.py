"""Changes of tables. Each function takes (schema, change) and gives (schema, events); see ``evolution``.

Source: Apache Cassandra 5, ``CreateTableStatement``, ``AlterTableStatement``, ``TableMetadata.validate``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from ourodb import limits
from ourodb.cql.syntax.format import quote_identifier
from ourodb.cql.types import CqlType, UserType
from ourodb.errors import AlreadyExists, ConfigurationException, InvalidRequest
from ourodb.schema.changes import (
    AddColumns,
    AlterTableOptions,
    ColumnSpec,
    CreateTable,
    DropColumns,
    DropTable,
    Outcome,
    RenameColumns,
    SchemaChangeEvent,
    TruncateTable,
)
from ourodb.schema.model import Column, ColumnKind, DroppedColumn, Keyspace, Schema, Table, frozen_map
from ourodb.schema.names import check_keyspace_name, check_table_name, is_system_keyspace, qualified
from ourodb.schema.options import altered_options, new_options
from ourodb.schema.types import can_replace, check_nesting, statement_text, type_parser, without_user_types


def create_table(schema: Schema, change: CreateTable) -> Outcome:
    keyspace = schema.keyspaces.get(change.keyspace)
    if keyspace is None:
        raise InvalidRequest(f"Keyspace '{change.keyspace}' doesn't exist")
    if change.table in keyspace.tables:
        if change.if_not_exists:
            return schema, ()
        raise AlreadyExists(change.keyspace, change.table)
    _check_room(schema, change)
    table = _built(schema, keyspace, change)
    _validate(table)
    grown = replace(schema, next_incarnation=schema.next_incarnation + 1)
    return grown.with_keyspace(keyspace.with_table(table)), (_event("CREATED", table),)


def add_columns(schema: Schema, change: AddColumns) -> Outcome:
    found = _existing(schema, change.keyspace, change.table, change.if_exists)
    if found is None:
        return schema, ()
    keyspace, table = found
    parse = type_parser(keyspace.types.get)
    columns = dict(table.columns)
    next_id = table.next_column_id
    for spec in change.columns:
        if spec.name in columns:
            if change.if_not_exists:
                continue
            raise InvalidRequest(f"Column with name '{spec.name}' already exists")
        column = _added(table, spec, parse(spec.type), next_id)
        columns[spec.name] = column
        next_id += 1
    if len(columns) == len(table.columns):
        return schema, ()
    altered = replace(table, columns=_arranged(columns.values()), next_column_id=next_id)
    _check_column_count(altered)
    _validate(altered)
    return _updated(schema, keyspace, altered)


def drop_columns(schema: Schema, change: DropColumns) -> Outcome:
    found = _existing(schema, change.keyspace, change.table, change.if_exists)
    if found is None:
        return schema, ()
    keyspace, table = found
    columns = dict(table.columns)
    dropped = dict(table.dropped)
    for name in change.columns:
        column = table.columns.get(name)
        if column is None:
            if change.if_column_exists:
                continue
            raise InvalidRequest(
                f"Column {name} was not found in table '{qualified(table.keyspace, table.name)}'"
            )
        if column.kind in (ColumnKind.PARTITION_KEY, ColumnKind.CLUSTERING):
            raise InvalidRequest(f"Cannot drop PRIMARY KEY column {name}")
        if isinstance(column.type, UserType) and column.type.is_multicell:
            raise InvalidRequest(f"Cannot drop non-frozen column {name} of user type {column.type.cql_name}")
        columns.pop(name, None)
        dropped[name] = DroppedColumn(name, without_user_types(column.type), column.kind, change.dropped_at)
    if len(columns) == len(table.columns):
        return schema, ()
    return _updated(
        schema, keyspace, replace(table, columns=frozen_map(columns), dropped=frozen_map(dropped))
    )


def rename_columns(schema: Schema, change: RenameColumns) -> Outcome:
    found = _existing(schema, change.keyspace, change.table, change.if_exists)
    if found is None:
        return schema, ()
    keyspace, table = found
    shown = qualified(table.keyspace, table.name)
    columns = dict(table.columns)
    for old, new in change.renames:
        column = table.columns.get(old)
        if column is None:
            # Cassandra says so even with IF EXISTS.
            raise InvalidRequest(f"Undefined column name {quote_identifier(old)} in table {shown}")
        if column.kind not in (ColumnKind.PARTITION_KEY, ColumnKind.CLUSTERING):
            raise InvalidRequest(f"Cannot rename non PRIMARY KEY column {old}")
        if new in table.columns or new in columns:
            raise InvalidRequest(
                f"Cannot rename column {old} to {new} in table '{shown}'; another column with that name already exists"
            )
        columns.pop(old, None)
        columns[new] = replace(column, name=new)
    altered = replace(table, columns=_arranged(columns.values()))
    return _updated(schema, keyspace, altered)


def alter_options(schema: Schema, change: AlterTableOptions) -> Outcome:
    found = _existing(schema, change.keyspace, change.table, change.if_exists)
    if found is None:
        return schema, ()
    keyspace, table = found
    options = altered_options(change.properties, table.options)
    if table.is_counter and options.default_time_to_live > 0:
        raise InvalidRequest("Cannot set default_time_to_live on a table with counters")
    return _updated(schema, keyspace, replace(table, options=options))


def drop_table(schema: Schema, change: DropTable) -> Outcome:
    found = _existing(schema, change.keyspace, change.table, change.if_exists)
    if found is None:
        return schema, ()
    keyspace, table = found
    kept = {name: other for name, other in keyspace.tables.items() if name != table.name}
    after = schema.with_keyspace(replace(keyspace, tables=frozen_map(kept)))
    return after, (_event("DROPPED", table),)


def truncate_table(schema: Schema, change: TruncateTable) -> Outcome:
    """TRUNCATE: a new incarnation. Clients hear of no event."""
    keyspace = schema.keyspaces.get(change.keyspace)
    if keyspace is None:
        raise InvalidRequest(f"keyspace {change.keyspace} does not exist")
    table = keyspace.tables.get(change.table)
    if table is None:
        raise InvalidRequest(f"table {change.table} does not exist")
    if table.virtual:
        raise InvalidRequest(f"Truncation is not supported by table {qualified(table.keyspace, table.name)}")
    emptied = replace(table, incarnation=schema.next_incarnation)
    grown = replace(schema, next_incarnation=schema.next_incarnation + 1)
    return grown.with_keyspace(keyspace.with_table(emptied)), ()


# --- CREATE TABLE ------------------------------------------------------------------------------------------------


def _check_room(schema: Schema, change: CreateTable) -> None:
    tables = 0
    for keyspace in schema.keyspaces.values():
        tables += 0 if is_system_keyspace(keyspace.name) else len(keyspace.tables)
        for other in keyspace.tables.values():
            if other.id == change.id:
                raise ConfigurationException(
                    f"Table id {change.id} is already that of {qualified(other.keyspace, other.name)}"
                )
    if tables >= limits.TABLES_MAX:
        raise InvalidRequest(
            f"Cannot have more than {limits.TABLES_MAX} tables, aborting the creation of table {change.table}"
        )


def _built(schema: Schema, keyspace: Keyspace, change: CreateTable) -> Table:
    options = new_options(change.properties)
    parse = type_parser(keyspace.types.get)
    types = {spec.name: parse(spec.type) for spec in change.columns}
    statics = [spec.name for spec in change.columns if spec.static]
    for part in types.values():
        check_nesting(part, "Non-frozen UDTs with nested non-frozen collections are not supported")
    _check_primary_key(change, types, statics)
    _check_clustering_order(change)
    if statics and not change.clustering:
        raise InvalidRequest(
            "Static columns are only useful (and thus allowed) if the table has at least one clustering column"
        )
    keys = change.partition_key + change.clustering
    is_counter = any(part.is_counter for part in types.values())
    if is_counter:
        if any(not part.is_counter for name, part in types.items() if name not in keys):
            raise InvalidRequest("Cannot mix counter and non counter columns in the same table")
        if options.default_time_to_live > 0:
            raise InvalidRequest("Cannot set default_time_to_live on a table with counters")
    ascending = dict(change.clustering_order)
    columns = [
        Column(name, types[name], ColumnKind.PARTITION_KEY, position)
        for position, name in enumerate(change.partition_key)
    ]
    columns += [
        Column(name, types[name], ColumnKind.CLUSTERING, position, descending=not ascending.get(name, True))
        for position, name in enumerate(change.clustering)
    ]
    others = [spec for spec in change.columns if spec.name not in keys]
    columns += [
        Column(
            spec.name,
            types[spec.name],
            ColumnKind.STATIC if spec.static else ColumnKind.REGULAR,
            id=column_id,
        )
        for column_id, spec in enumerate(others, 1)
    ]
    table = Table(
        keyspace=keyspace.name,
        name=change.table,
        id=change.id,
        incarnation=schema.next_incarnation,
        columns=_arranged(columns),
        options=options,
        next_column_id=len(others) + 1,
        is_counter=is_counter,
    )
    _check_column_count(table)
    return table


def _check_primary_key(change: CreateTable, types: dict[str, CqlType], statics: list[str]) -> None:
    seen: list[str] = []
    for name in change.partition_key + change.clustering:
        part = types.get(name)
        if part is None:
            raise InvalidRequest(
                f"Unknown column '{name}' referenced in PRIMARY KEY for table '{change.table}'"
            )
        if name in seen:
            raise InvalidRequest(
                f"Duplicate column '{name}' in PRIMARY KEY clause for table '{change.table}'"
            )
        seen.append(name)
        if part.is_multicell:
            kind = "collection" if part.is_collection else "user-defined"
            shown = part.cql_name if part.is_collection else f'"{statement_text(part)}"'
            raise InvalidRequest(f"Invalid non-frozen {kind} type {shown} for PRIMARY KEY column '{name}'")
        if part.is_counter:
            raise InvalidRequest(f"counter type is not supported for PRIMARY KEY column '{name}'")
        if part.references_duration:
            raise InvalidRequest(f"duration type is not supported for PRIMARY KEY column '{name}'")
        if name in statics:
            raise InvalidRequest(f"Static column '{name}' cannot be part of the PRIMARY KEY")


def _check_clustering_order(change: CreateTable) -> None:
    ordered = [name for name, _ in change.clustering_order]
    strangers = [name for name in ordered if name not in change.clustering]
    if strangers:
        raise InvalidRequest(
            "Only clustering key columns can be defined in CLUSTERING ORDER directive: "
            f"[{', '.join(strangers)}] are not clustering columns"
        )
    for name, expected in zip(ordered, change.clustering, strict=False):
        if name == expected:
            continue
        if expected in ordered:
            raise InvalidRequest(
                "The order of columns in the CLUSTERING ORDER directive must match that of the clustering columns "
                f"({expected} must appear before {name})"
            )
        raise InvalidRequest(f"Missing CLUSTERING ORDER for column {expected}")


# --- shared ------------------------------------------------------------------------------------------------------


def _existing(schema: Schema, keyspace: str, name: str, if_exists: bool) -> tuple[Keyspace, Table] | None:
    holder = schema.keyspaces.get(keyspace)
    table = holder.tables.get(name) if holder is not None else None
    if holder is not None and table is not None:
        return holder, table
    if if_exists:
        return None
    raise InvalidRequest(f"Table '{keyspace}.{name}' doesn't exist")


def _added(table: Table, spec: ColumnSpec, part: CqlType, column_id: int) -> Column:
    if spec.static and not table.clustering:
        raise InvalidRequest(
            "Static columns are only useful (and thus allowed) if the table has at least one clustering column"
        )
    check_nesting(
        part, f"Non-frozen UDTs with nested non-frozen collections are not supported for column {spec.name}"
    )
    kind = ColumnKind.STATIC if spec.static else ColumnKind.REGULAR
    dropped = table.dropped.get(spec.name)
    if dropped is not None:
        if not can_replace(part, dropped.type):
            raise InvalidRequest(
                f"Cannot add a column '{spec.name}' of type {part.cql_name}, incompatible with previously dropped "
                f"column '{spec.name}' of type {dropped.type.cql_name}"
            )
        if dropped.kind is not kind:
            raise InvalidRequest(
                f"Cannot re-add previously dropped column '{spec.name}' of kind {kind.name}, incompatible with "
                f"previous kind {dropped.kind.name}"
            )
        if table.is_counter:
            raise InvalidRequest(f"Cannot re-add previously dropped counter column {spec.name}")
    return Column(spec.name, part, kind, id=column_id)


def _arranged(columns: Iterable[Column]) -> Mapping[str, Column]:
    """By name; partition key, clustering, statics, regulars, the last two by name."""
    ordered = sorted(columns, key=lambda column: (column.kind, column.position, column.name.encode()))
    return frozen_map({column.name: column for column in ordered})


def _check_column_count(table: Table) -> None:
    if len(table.columns) > limits.COLUMNS_PER_TABLE_MAX:
        raise InvalidRequest(
            f"Tables cannot have more than {limits.COLUMNS_PER_TABLE_MAX} columns, but {len(table.columns)} provided "
            f"for table {table.name}"
        )
    if table.next_column_id > limits.COLUMN_IDS_PER_TABLE_MAX:
        raise InvalidRequest(
            f"Table {table.name} has had {limits.COLUMN_IDS_PER_TABLE_MAX} columns, dropped ones included, and can't "
            "be given more"
        )


def _validate(table: Table) -> None:
    check_keyspace_name(table.keyspace, ConfigurationException)
    check_table_name(table.keyspace, table.name)
    for column in table.statics + table.regulars:
        if column.type.is_counter != table.is_counter:
            have, want = ("non counter", "counter") if table.is_counter else ("counter", "non counter")
            raise ConfigurationException(
                f'{table.keyspace}.{table.name}: Cannot have a {have} column ("{column.name}") in a {want} table'
            )


def _updated(schema: Schema, keyspace: Keyspace, table: Table) -> Outcome:
    if table == keyspace.tables[table.name]:
        return schema, ()
    return schema.with_keyspace(keyspace.with_table(table)), (_event("UPDATED", table),)


def _event(change: str, table: Table) -> SchemaChangeEvent:
    return SchemaChangeEvent(change, "TABLE", table.keyspace, table.name)
