"""Statements that change the schema: from syntax to a checked change.

A statement is checked in two steps. Here what it says is resolved (keyspace in use, types, data centres, a new
table's id, the time of a DROP) and made a change, which is plain data. Then the change is applied to the schema at
hand, only to see whether it fits: that is where everything that depends on the schema is checked, and the metadata log
applies it once more when its turn comes.

Source: Apache Cassandra 5, the classes in ``cql3.statements.schema``, and ``ClientState``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias
from uuid import UUID

from ourodb.cql.analysis.ddl_keyspaces import alter_keyspace, create_keyspace, drop_keyspace
from ourodb.cql.analysis.type_names import check_frozen, is_plain, is_unfrozen_user_type, resolve_type
from ourodb.cql.syntax import ast
from ourodb.cql.types.timeuuid import timeuuid
from ourodb.errors import ConfigurationException, InvalidRequest, NotSupported, Unauthorized
from ourodb.ports import Clock, Random
from ourodb.schema import changes
from ourodb.schema.changes import Change
from ourodb.schema.evolution import apply
from ourodb.schema.model import Schema
from ourodb.schema.names import (
    REPLICATED_KEYSPACES,
    check_keyspace_name,
    is_local_keyspace,
)
from ourodb.schema.options import new_options
from ourodb.schema.properties import Properties, text_of

DdlStatement: TypeAlias = (
    ast.CreateKeyspace
    | ast.AlterKeyspace
    | ast.DropKeyspace
    | ast.CreateTable
    | ast.CreateTableLike
    | ast.AlterTable
    | ast.DropTable
    | ast.CreateType
    | ast.AlterType
    | ast.DropType
    | ast.Truncate
    | ast.CreateIndex
    | ast.DropIndex
    | ast.CreateView
    | ast.AlterView
    | ast.DropView
    | ast.CreateTrigger
    | ast.DropTrigger
    | ast.CreateFunction
    | ast.DropFunction
    | ast.CreateAggregate
    | ast.DropAggregate
)

NO_KEYSPACE: Final = (
    "No keyspace has been specified. USE a keyspace, or explicitly specify keyspace.tablename"
)

UNSUPPORTED: Final[dict[type, str]] = {
    ast.CreateTableLike: "CREATE TABLE LIKE",
    ast.CreateIndex: "CREATE INDEX",
    ast.CreateView: "CREATE MATERIALIZED VIEW",
    ast.AlterView: "ALTER MATERIALIZED VIEW",
    ast.CreateTrigger: "CREATE TRIGGER",
    ast.CreateFunction: "CREATE FUNCTION",
    ast.CreateAggregate: "CREATE AGGREGATE",
}


@dataclass(frozen=True, slots=True)
class CheckedChange:
    """A statement that fits the schema it was checked against.

    Attributes:
        change: what to append to the metadata log; None when there is nothing to do (the result is void).
        warnings: for the client.
    """

    change: Change | None
    warnings: tuple[str, ...] = ()


def analyse_ddl(
    statement: DdlStatement,
    schema: Schema,
    keyspace: str | None,
    datacenters: Mapping[str, int],
    clock: Clock,
    random: Random,
) -> CheckedChange:
    """Check a statement against the schema.

    Args:
        keyspace: the one in use, or None.
        datacenters: number of nodes in each DC of the cluster, in order of name.
    Raises:
        RequestError: with Cassandra's class and text.
    """
    unsupported = UNSUPPORTED.get(type(statement))
    if unsupported is not None:
        raise NotSupported(unsupported)
    warnings: list[str] = []
    change: Change | None
    match statement:
        case ast.CreateKeyspace():
            change, warnings = create_keyspace(statement, schema, datacenters)
        case ast.AlterKeyspace():
            _authorize_keyspace(statement.name, "ALTER")
            change, warnings = alter_keyspace(statement, schema, datacenters)
        case ast.DropKeyspace():
            _authorize_keyspace(statement.name, "DROP")
            change = drop_keyspace(statement)
        case ast.CreateTable():
            change = _create_table(statement, schema, keyspace, clock, random)
        case ast.AlterTable():
            change = _alter_table(statement, schema, keyspace, clock)
        case ast.DropTable(table, if_exists):
            holder = _authorized_table(table, keyspace, "DROP")
            change = changes.DropTable(holder, table.name, if_exists)
        case ast.CreateType():
            change = _create_type(statement, schema, keyspace)
        case ast.AlterType():
            change = _alter_type(statement, schema, keyspace)
        case ast.DropType(name, if_exists):
            holder = _authorized_in(name, keyspace, "DROP")
            change = changes.DropType(holder, name.name, if_exists)
        case ast.Truncate(table):
            change = changes.TruncateTable(table.keyspace or _in_use(keyspace), table.name)
        case _:
            change = None
            _drop_of_what_cannot_exist(statement, keyspace)
    if change is None or apply(schema, change)[0] is schema:
        return CheckedChange(None, tuple(warnings))
    return CheckedChange(change, tuple(warnings))


# --- tables --------------------------------------------------------------------------------------------------------


def _create_table(
    statement: ast.CreateTable, schema: Schema, in_use: str | None, clock: Clock, random: Random
) -> Change:
    table = statement.table
    written = table.name if table.keyspace is None else f"{table.keyspace}.{table.name}"
    _check_written(statement, written)
    keyspace = table.keyspace or _in_use(in_use)
    if not statement.primary_keys:
        raise InvalidRequest(f"No PRIMARY KEY specifed for table '{written}' (exactly one required)")
    _authorize_in(keyspace, "CREATE")
    new_options(statement.properties)
    check_keyspace_name(keyspace, InvalidRequest)
    holder = schema.keyspaces.get(keyspace)
    if statement.compact_storage:
        raise NotSupported("COMPACT STORAGE")
    for column in statement.columns:
        _check_column(column)
    columns: tuple[changes.ColumnSpec, ...] = ()
    if holder is not None and (table.name not in holder.tables):
        # Resolved in the order of their names, as Cassandra does: of several errors it tells the first.
        types = {
            column.name: resolve_type(column.type, keyspace, schema)
            for column in sorted(statement.columns, key=lambda column: column.name.encode())
        }
        columns = tuple(
            changes.ColumnSpec(column.name, types[column.name].cql_name, column.static)
            for column in statement.columns
        )
    [primary_key] = statement.primary_keys
    return changes.CreateTable(
        keyspace=keyspace,
        table=table.name,
        id=_table_id(statement.properties, clock, random),
        columns=columns,
        partition_key=primary_key.partition_key,
        clustering=primary_key.clustering,
        clustering_order=statement.clustering_order,
        properties={name: value for name, value in statement.properties.items() if name != "id"},
        if_not_exists=statement.if_not_exists,
    )


def _check_written(statement: ast.CreateTable, written: str) -> None:
    """What Cassandra finds while it parses."""
    names: list[str] = []
    for column in statement.columns:
        check_frozen(column.type)
        if column.name in names:
            raise InvalidRequest(f"Duplicate column '{column.name}' declaration for table '{written}'")
        names.append(column.name)
    if len(statement.primary_keys) > 1:
        raise InvalidRequest(f"Multiple PRIMARY KEY specified for table '{written}' (exactly one required)")
    ordered: list[str] = []
    for name, _ in statement.clustering_order:
        if name in ordered:
            raise InvalidRequest(
                f"Duplicate column '{name}' in CLUSTERING ORDER BY clause for table '{written}'"
            )
        ordered.append(name)


def _check_column(column: ast.ColumnDefinition) -> None:
    if column.mask is not None:
        raise NotSupported("MASKED WITH")
    if column.constraints:
        raise NotSupported("CHECK")


def _table_id(properties: Properties, clock: Clock, random: Random) -> UUID:
    text = text_of(properties, "id")
    if text is None:
        sequence = int.from_bytes(random.bytes(2), "big")
        node = int.from_bytes(random.bytes(6), "big") | 1 << 40
        return UUID(bytes=timeuuid(clock.wall_us() * 10, sequence, node))
    try:
        return UUID(text)
    except ValueError:
        raise ConfigurationException("Invalid table id") from None


def _alter_table(
    statement: ast.AlterTable, schema: Schema, in_use: str | None, clock: Clock
) -> Change | None:
    table, if_exists = statement.table, statement.if_exists
    alteration = statement.alteration
    if isinstance(alteration, ast.AddColumns):
        for column in alteration.columns:
            check_frozen(column.type)
    keyspace = _authorized_table(table, in_use, "ALTER")
    where = (keyspace, table.name)
    exists = schema.table(*where) is not None
    if not exists and if_exists:
        return None
    if not exists:
        raise InvalidRequest(f"Table '{keyspace}.{table.name}' doesn't exist")
    match alteration:
        case ast.AddColumns(columns, if_not_exists):
            for column in columns:
                _check_column(column)
            specs = tuple(
                changes.ColumnSpec(
                    column.name, resolve_type(column.type, keyspace, schema).cql_name, column.static
                )
                for column in columns
            )
            return changes.AddColumns(*where, specs, if_exists, if_not_exists)
        case ast.DropColumns(names, if_column_exists, timestamp):
            dropped_at = clock.wall_us() if timestamp is None else timestamp
            return changes.DropColumns(*where, names, dropped_at, if_exists, if_column_exists)
        case ast.RenameColumns(renames):
            return changes.RenameColumns(*where, renames, if_exists)
        case ast.SetTableProperties(properties):
            return changes.AlterTableOptions(*where, dict(properties), if_exists)
        case ast.AlterColumnType():
            raise InvalidRequest("Altering column types is no longer supported")
        case ast.AlterColumnMask():
            raise NotSupported("MASKED WITH")
        case ast.AlterColumnConstraints():
            raise NotSupported("CHECK")
        case ast.DropCompactStorage():
            raise InvalidRequest("DROP COMPACT STORAGE is disabled. Enable in cassandra.yaml to use.")


# --- user types ----------------------------------------------------------------------------------------------------


def _create_type(statement: ast.CreateType, schema: Schema, in_use: str | None) -> Change:
    name = statement.name
    for _, field_type in statement.fields:
        check_frozen(field_type)
    keyspace = _authorized_in(name, in_use, "CREATE")
    holder = schema.keyspaces.get(keyspace)
    fields: tuple[tuple[str, str], ...] = ()
    if holder is not None and name.name not in holder.types:
        _check_fields(name.name, statement.fields)
        fields = tuple(
            (field, resolve_type(field_type, keyspace, schema).cql_name)
            for field, field_type in statement.fields
        )
    return changes.CreateType(keyspace, name.name, fields, statement.if_not_exists)


def _check_fields(type_name: str, fields: tuple[tuple[str, ast.TypeName], ...]) -> None:
    names: list[str] = []
    for field, _ in fields:
        if field in names:
            raise InvalidRequest(f"Duplicate field name '{field}' in type '{type_name}'")
        names.append(field)
    for _, field_type in fields:
        _check_field_type(field_type)


def _check_field_type(field_type: ast.TypeName) -> None:
    if is_plain(field_type, "counter"):
        raise InvalidRequest("A user type cannot contain counters")
    if is_unfrozen_user_type(field_type):
        raise InvalidRequest("A user type cannot contain non-frozen UDTs")


def _alter_type(statement: ast.AlterType, schema: Schema, in_use: str | None) -> Change | None:
    name, if_exists = statement.name, statement.if_exists
    alteration = statement.alteration
    if isinstance(alteration, ast.AddField):
        check_frozen(alteration.type)
    keyspace = _authorized_in(name, in_use, "ALTER")
    holder = schema.keyspaces.get(keyspace)
    found = holder.types.get(name.name) if holder is not None else None
    if found is None and if_exists:
        return None
    if found is None:
        raise InvalidRequest(f"Type {keyspace}.{name.name} doesn't exist")
    match alteration:
        case ast.AddField(field, field_type, if_not_exists):
            _check_field_type(field_type)
            if field in found.field_names:
                resolved = ""
            else:
                resolved = resolve_type(field_type, keyspace, schema).cql_name
            return changes.AddField(keyspace, name.name, field, resolved, if_exists, if_not_exists)
        case ast.RenameFields(renames, if_field_exists):
            return changes.RenameFields(keyspace, name.name, renames, if_exists, if_field_exists)
        case ast.AlterFieldType():
            raise InvalidRequest("Altering field types is no longer supported")


# --- whose keyspace it is --------------------------------------------------------------------------------------------


def _in_use(keyspace: str | None) -> str:
    if keyspace is None:
        raise InvalidRequest(NO_KEYSPACE)
    return keyspace


def _authorize_keyspace(keyspace: str, permission: str) -> None:
    if is_local_keyspace(keyspace):
        raise Unauthorized(f"{keyspace} keyspace is not user-modifiable.")
    if keyspace.lower() in REPLICATED_KEYSPACES and permission != "ALTER":
        raise Unauthorized(f"Cannot {permission} <keyspace {keyspace}>")


def _authorize_in(keyspace: str, permission: str) -> None:
    if is_local_keyspace(keyspace):
        raise Unauthorized(f"{keyspace} keyspace is not user-modifiable.")
    if keyspace.lower() in REPLICATED_KEYSPACES:
        raise Unauthorized(f"Cannot {permission} <all tables in {keyspace}>")


def _authorized_in(name: ast.QualifiedName, in_use: str | None, permission: str) -> str:
    keyspace = name.keyspace or _in_use(in_use)
    _authorize_in(keyspace, permission)
    return keyspace


def _authorized_table(name: ast.QualifiedName, in_use: str | None, permission: str) -> str:
    keyspace = name.keyspace or _in_use(in_use)
    if keyspace.lower() in REPLICATED_KEYSPACES:
        raise Unauthorized(f"Cannot {permission} <table {keyspace}.{name.name}>")
    _authorize_in(keyspace, permission)
    return keyspace


def _drop_of_what_cannot_exist(statement: DdlStatement, in_use: str | None) -> None:
    """DROP of indexes, views, functions and the like: there are none."""
    match statement:
        case ast.DropIndex(name, if_exists):
            keyspace = _authorized_in(name, in_use, "DROP")
            message = f"Index '{keyspace}.{name.name}' doesn't exist'"
        case ast.DropView(name, if_exists):
            keyspace = _authorized_in(name, in_use, "DROP")
            message = f"Materialized view '{keyspace}.{name.name}' doesn't exist"
        case ast.DropTrigger(trigger, table, if_exists):
            keyspace = _authorized_in(table, in_use, "DROP")
            message = f"Trigger '{trigger}' on '{keyspace}.{table.name}' doesn't exist"
        case ast.DropFunction(name, arguments, if_exists):
            message = f"Function '{_signature(name, arguments, in_use)}' doesn't exist"
        case ast.DropAggregate(name, arguments, if_exists):
            message = f"Aggregate '{_signature(name, arguments, in_use)}' doesn't exist"
        case _:
            raise NotSupported(type(statement).__name__)
    if not if_exists:
        raise InvalidRequest(message)


def _signature(
    name: ast.QualifiedName, arguments: tuple[ast.TypeName, ...] | None, in_use: str | None
) -> str:
    keyspace = _authorized_in(name, in_use, "DROP")
    shown = f"{keyspace}.{name.name}"
    return shown if arguments is None else f"{shown}({', '.join(map(str, arguments))})"
