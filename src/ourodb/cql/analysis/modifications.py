"""INSERT, UPDATE and DELETE: from syntax and schema to a checked modification.

``analyse_modification`` resolves names, types and conditions and raises whatever can be said before values
are bound. What it gives is compiled by ``cql.plan.modification``.

Source: Apache Cassandra 5, ``ModificationStatement``, ``UpdateStatement``, ``DeleteStatement``, ``Attributes``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from ourodb.cql.analysis.conditions import Condition, prepare_condition
from ourodb.cql.analysis.operations import (
    Operation,
    column_of,
    prepare_assignment,
    prepare_deletion,
    set_value,
)
from ourodb.cql.analysis.restrictions import Restrictions
from ourodb.cql.analysis.tables import modifiable_table
from ourodb.cql.analysis.terms import BoundTerm, ColumnSpec, Context, column_spec, prepare
from ourodb.cql.syntax import ast
from ourodb.cql.types import BIGINT, INT
from ourodb.errors import InvalidRequest, NotSupported
from ourodb.schema.model import Column, ColumnKind, Table

ModificationStatement: TypeAlias = ast.Insert | ast.InsertJson | ast.Update | ast.Delete


class ModificationKind(StrEnum):
    INSERT = "INSERT"
    UPDATE = "UPDATE"
    DELETE = "DELETE"


@dataclass(frozen=True, slots=True)
class RowKey:
    """A statement whose key columns are each restricted to one value.

    Attributes:
        partition: a term for each partition key column.
        clustering: a term for each clustering column; None when the statement touches only static columns.
    """

    partition: tuple[BoundTerm, ...]
    clustering: tuple[BoundTerm, ...] | None


@dataclass(frozen=True, slots=True)
class Modification:
    """A statement that fits the schema.

    Attributes:
        key: the one row it is about, or None; then ``restrictions`` say which partitions and rows.
        operations: none in a DELETE of whole rows.
        timestamp, ttl: of USING.
        only_statics: it changes nothing but static columns.
    """

    kind: ModificationKind
    table: Table
    key: RowKey | None
    restrictions: Restrictions | None
    operations: tuple[Operation, ...]
    timestamp: BoundTerm | None
    ttl: BoundTerm | None
    conditions: tuple[Condition, ...]
    if_exists: bool
    if_not_exists: bool
    only_statics: bool

    @property
    def is_conditional(self) -> bool:
        return bool(self.conditions) or self.if_exists or self.if_not_exists


def analyse_modification(statement: ModificationStatement, context: Context) -> Modification:
    """Check a statement against the schema.

    Raises:
        RequestError: with Cassandra's class and text.
    """
    if isinstance(statement, ast.InsertJson):
        raise NotSupported("INSERT ... JSON")
    table = modifiable_table(statement.table, context)
    if isinstance(statement, ast.Insert):
        modification = _insert(statement, table, context)
    elif isinstance(statement, ast.Update):
        modification = _update(statement, table, context)
    else:
        modification = _delete(statement, table, context)
    _check_conditional(modification)
    return modification


def _insert(statement: ast.Insert, table: Table, context: Context) -> Modification:
    if table.is_counter:
        raise InvalidRequest("INSERT statements are not allowed on counter tables, use UPDATE instead")
    if not statement.columns:
        raise InvalidRequest("Column names for INSERT must be provided")
    if len(statement.columns) != len(statement.values):
        raise InvalidRequest("Unmatched column names/values")
    if len(set(statement.columns)) != len(statement.columns):
        raise InvalidRequest("The column names contains duplicates")
    keys: dict[str, BoundTerm] = {}
    operations = []
    for name, value in zip(statement.columns, statement.values, strict=True):
        column = column_of(table, name)
        spec = column_spec(table, column)
        if column.kind in (ColumnKind.PARTITION_KEY, ColumnKind.CLUSTERING):
            keys[name] = prepare(value, spec, context)
        else:
            operations.append(set_value(column, spec, value, context))
    missing = [column.name for column in table.partition_key if column.name not in keys]
    if missing:
        raise InvalidRequest(f"Some partition key parts are missing: {', '.join(missing)}")
    only_statics = (
        bool(operations)
        and all(operation.column.kind is ColumnKind.STATIC for operation in operations)
        and bool(table.clustering)
        and not any(column.name in keys for column in table.clustering)
    )
    clustering = None
    if not only_statics:
        missing = [column.name for column in table.clustering if column.name not in keys]
        if missing:
            raise InvalidRequest(f"Some clustering keys are missing: {', '.join(missing)}")
        clustering = tuple(keys[column.name] for column in table.clustering)
    timestamp, ttl = _attributes(statement.timestamp, statement.ttl, table, context)
    return Modification(
        ModificationKind.INSERT,
        table,
        RowKey(tuple(keys[column.name] for column in table.partition_key), clustering),
        None,
        tuple(operations),
        timestamp,
        ttl,
        (),
        False,
        statement.if_not_exists,
        only_statics,
    )


def _update(statement: ast.Update, table: Table, context: Context) -> Modification:
    # Markers are numbered by their place in the text, so the order of these calls doesn't matter.
    timestamp, ttl = _attributes(statement.timestamp, statement.ttl, table, context)
    operations = [prepare_assignment(assignment, table, context) for assignment in statement.assignments]
    conditions = tuple(prepare_condition(condition, table, context) for condition in statement.conditions)
    only_statics = _touches_only_statics(operations, conditions)
    return Modification(
        ModificationKind.UPDATE,
        table,
        *_where(ModificationKind.UPDATE, statement.where, table, only_statics, context),
        tuple(operations),
        timestamp,
        ttl,
        conditions,
        statement.if_exists,
        False,
        only_statics,
    )


def _delete(statement: ast.Delete, table: Table, context: Context) -> Modification:
    timestamp, _ = _attributes(statement.timestamp, None, table, context)
    operations = [prepare_deletion(deletion, table, context) for deletion in statement.deletions]
    conditions = tuple(prepare_condition(condition, table, context) for condition in statement.conditions)
    only_statics = _touches_only_statics(operations, conditions)
    key, restrictions = _where(ModificationKind.DELETE, statement.where, table, only_statics, context)
    whole_rows = restrictions is None or restrictions.names_rows
    if operations and not only_statics and not whole_rows and not statement.if_exists and not conditions:
        raise InvalidRequest("Range deletions are not supported for specific columns")
    return Modification(
        ModificationKind.DELETE,
        table,
        key,
        restrictions,
        tuple(operations),
        timestamp,
        None,
        conditions,
        statement.if_exists,
        False,
        only_statics,
    )


def _touches_only_statics(operations: Sequence[Operation], conditions: Sequence[Condition]) -> bool:
    """Whether the statement is about the static row alone, so that it needs no clustering values."""
    columns = [operation.column for operation in operations] + [condition.column for condition in conditions]
    return (
        bool(operations)
        and all(operation.column.kind is ColumnKind.STATIC for operation in operations)
        and all(column.kind is ColumnKind.STATIC for column in columns)
    )


def _where(
    kind: ModificationKind,
    where: tuple[ast.WhereItem, ...],
    table: Table,
    only_statics: bool,
    context: Context,
) -> tuple[RowKey | None, Restrictions | None]:
    key = _row_key(where, table, only_statics, context)
    if key is not None:
        return key, None
    return None, Restrictions.for_modification(kind, where, table, only_statics, context)


def _row_key(
    where: tuple[ast.WhereItem, ...], table: Table, only_statics: bool, context: Context
) -> RowKey | None:
    """The row key, when WHERE is one equality for each key column and nothing else."""
    wanted = table.partition_key if only_statics else table.partition_key + table.clustering
    if len(where) != len(wanted):
        return None
    names = {column.name for column in wanted}
    relations: dict[str, ast.Relation] = {}
    for item in where:
        if (
            not isinstance(item, ast.Relation)
            or item.op is not ast.Operator.EQ
            or not isinstance(item.target, ast.ColumnRef)
            or item.target.name not in names
            or item.target.name in relations
        ):
            return None
        relations[item.target.name] = item
    terms = {
        name: prepare(relation.value, column_spec(table, table.columns[name]), context)
        for name, relation in relations.items()
    }

    def of(columns: Sequence[Column]) -> tuple[BoundTerm, ...]:
        return tuple(terms[column.name] for column in columns)

    return RowKey(of(table.partition_key), None if only_statics else of(table.clustering))


def _attributes(
    timestamp: ast.Constant | ast.Marker | None,
    ttl: ast.Constant | ast.Marker | None,
    table: Table,
    context: Context,
) -> tuple[BoundTerm | None, BoundTerm | None]:
    keyspace, name = table.keyspace, table.name
    return (
        prepare(timestamp, ColumnSpec(keyspace, name, "[timestamp]", BIGINT), context) if timestamp else None,
        prepare(ttl, ColumnSpec(keyspace, name, "[ttl]", INT), context) if ttl else None,
    )


def _check_conditional(modification: Modification) -> None:
    if modification.table.is_counter:
        if modification.is_conditional:
            raise InvalidRequest("Conditional updates are not supported on counter tables")
        if modification.timestamp is not None:
            raise InvalidRequest("Cannot provide custom timestamp for counter updates")
        if modification.ttl is not None:
            raise InvalidRequest("Cannot provide custom TTL for counter updates")
    if not modification.is_conditional:
        return
    if modification.timestamp is not None:
        raise InvalidRequest("Cannot provide custom timestamp for conditional updates")
    if modification.key is not None:
        return
    assert modification.restrictions is not None
    if modification.restrictions.partition_key_has_in:
        raise InvalidRequest("IN on the partition key is not supported with conditional updates")
    if modification.restrictions.clustering_has_in:
        raise InvalidRequest("IN on the clustering key columns is not supported with conditional updates")
    if modification.kind is ModificationKind.DELETE:
        raise InvalidRequest(
            "DELETE statements must restrict all PRIMARY KEY columns with equality relations in order to delete non"
            " static columns"
        )
