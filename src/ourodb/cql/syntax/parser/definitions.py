"""Keyspaces, tables and user types; and where CREATE, ALTER and DROP part."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ourodb.cql.syntax.ast import (
    AddColumns,
    AddField,
    AlterColumnConstraints,
    AlterColumnMask,
    AlterColumnType,
    AlterFieldType,
    AlterKeyspace,
    AlterTable,
    AlterType,
    ColumnDefinition,
    CreateKeyspace,
    CreateTable,
    CreateTableLike,
    CreateType,
    DropColumns,
    DropCompactStorage,
    DropKeyspace,
    DropTable,
    DropType,
    PrimaryKey,
    QualifiedName,
    RenameColumns,
    RenameFields,
    SetTableProperties,
    Statement,
    TableAlteration,
    TypeAlteration,
    TypeName,
)
from ourodb.cql.syntax.parser import access, dependents, functions
from ourodb.cql.syntax.parser.columns import column_mask, constraints
from ourodb.cql.syntax.parser.cursor import (
    Cursor,
    column,
    if_exists,
    if_not_exists,
    keyspace_name,
    name,
    table_name,
)
from ourodb.cql.syntax.parser.properties import clustering_order, primary_key, properties, property_into
from ourodb.cql.syntax.parser.types import type_name, user_type_name

Item = TypeVar("Item")


def create(c: Cursor) -> Statement:
    return _dispatch(c, "K_CREATE", _CREATE)


def alter(c: Cursor) -> Statement:
    return _dispatch(c, "K_ALTER", _ALTER)


def drop(c: Cursor) -> Statement:
    return _dispatch(c, "K_DROP", _DROP)


def _dispatch(c: Cursor, verb: str, readers: dict[str, Callable[[Cursor], Statement]]) -> Statement:
    """Read on by what follows the verb. Readers begin at that word."""
    c.expect(verb)
    reader = readers.get(c.tags[c.at])
    if reader is None:
        raise c.no_viable(c.at - 1)
    return reader(c)


def _create_keyspace(c: Cursor) -> CreateKeyspace:
    c.at += 1
    absent = if_not_exists(c)
    keyspace = keyspace_name(c)
    c.expect("K_WITH")
    return CreateKeyspace(keyspace, properties(c), absent)


def _alter_keyspace(c: Cursor) -> AlterKeyspace:
    c.at += 1
    exists = if_exists(c)
    keyspace = keyspace_name(c)
    c.expect("K_WITH")
    return AlterKeyspace(keyspace, properties(c), exists)


def _drop_keyspace(c: Cursor) -> DropKeyspace:
    c.at += 1
    exists = if_exists(c)
    return DropKeyspace(keyspace_name(c), exists)


def _create_table(c: Cursor) -> CreateTable | CreateTableLike:
    c.at += 1
    absent = if_not_exists(c)
    table = table_name(c)
    if c.accept("K_LIKE"):
        return _create_table_like(c, table, absent)
    c.expect("(")
    columns: list[ColumnDefinition] = []
    keys: list[PrimaryKey] = []
    _column_or_key(c, columns, keys)
    while c.accept(","):
        if c.tags[c.at] not in (",", ")"):
            _column_or_key(c, columns, keys)
    c.expect(")")
    options, order, compact = _table_options(c)
    return CreateTable(table, tuple(columns), tuple(keys), order, compact, options, absent)


def _column_or_key(c: Cursor, columns: list[ColumnDefinition], keys: list[PrimaryKey]) -> None:
    if c.tags[c.at] == "K_PRIMARY":
        keys.append(primary_key(c))
        return
    defined = ColumnDefinition(name(c), type_name(c), c.accept("K_STATIC"), column_mask(c), constraints(c))
    columns.append(defined)
    if c.accept("K_PRIMARY"):
        c.expect("K_KEY")
        keys.append(PrimaryKey((defined.name,)))


def _table_options(c: Cursor) -> tuple[dict[str, str | dict[str, str]], tuple[tuple[str, bool], ...], bool]:
    """What WITH says of a new table: properties, clustering order, and whether COMPACT STORAGE."""
    options: dict[str, str | dict[str, str]] = {}
    order: list[tuple[str, bool]] = []
    compact = False
    if c.accept("K_WITH"):
        while True:
            if c.tags[c.at] == "K_COMPACT" and c.tags[c.at + 1] == "K_STORAGE":
                c.at += 2
                compact = True
            elif c.tags[c.at] == "K_CLUSTERING" and c.tags[c.at + 1] == "K_ORDER":
                order.extend(clustering_order(c))
            else:
                property_into(c, options)
            if not c.accept("K_AND"):
                break
    return options, tuple(order), compact


def _create_table_like(c: Cursor, table: QualifiedName, absent: bool) -> CreateTableLike:
    source = table_name(c)
    options: dict[str, str | dict[str, str]] = {}
    with_indexes = False
    if c.accept("K_WITH"):
        while True:
            if c.tags[c.at] == "K_INDEXES" and c.tags[c.at + 1] != "=":
                c.at += 1
                with_indexes = True
            else:
                property_into(c, options)
            if not c.accept("K_AND"):
                break
    return CreateTableLike(table, source, with_indexes, options, absent)


def _alter_table(c: Cursor) -> AlterTable:
    c.at += 1
    exists = if_exists(c)
    return AlterTable(table_name(c), _table_alteration(c), exists)


def _table_alteration(c: Cursor) -> TableAlteration:
    if c.accept("K_ALTER"):
        return _alter_column(c)
    if c.accept("K_ADD"):
        absent = if_not_exists(c)
        return AddColumns(_one_or_in_parentheses(c, _added_column), absent)
    if c.accept("K_DROP"):
        if c.tags[c.at] == "K_COMPACT" and c.tags[c.at + 1] == "K_STORAGE":
            c.at += 2
            return DropCompactStorage()
        return _drop_columns(c)
    if c.accept("K_RENAME"):
        exists = if_exists(c)
        return RenameColumns(_renames(c), exists)
    if c.accept("K_WITH"):
        return SetTableProperties(properties(c))
    raise c.no_viable()


def _alter_column(c: Cursor) -> TableAlteration:
    exists = if_exists(c)
    altered = column(c)
    if not exists and c.accept("K_TYPE"):
        return AlterColumnType(altered, type_name(c))
    if c.accept("K_DROP"):
        if c.accept("K_CHECK"):
            return AlterColumnConstraints(altered, (), exists)
        c.expect("K_MASKED")
        return AlterColumnMask(altered, None, exists)
    mask = column_mask(c)
    if mask is not None:
        return AlterColumnMask(altered, mask, exists)
    checks = constraints(c)
    if not checks:
        raise c.no_viable()
    return AlterColumnConstraints(altered, checks, exists)


def _added_column(c: Cursor) -> ColumnDefinition:
    return ColumnDefinition(name(c), type_name(c), c.accept("K_STATIC"), column_mask(c))


def _drop_columns(c: Cursor) -> DropColumns:
    exists = if_exists(c)
    dropped = _one_or_in_parentheses(c, name)
    timestamp = None
    if c.accept("K_USING"):
        c.expect("K_TIMESTAMP")
        timestamp = c.integer(64)
    return DropColumns(dropped, exists, timestamp)


def _one_or_in_parentheses(c: Cursor, item: Callable[[Cursor], Item]) -> tuple[Item, ...]:
    if not c.accept("("):
        return (item(c),)
    read = [item(c)]
    while c.accept(","):
        read.append(item(c))
    c.expect(")")
    return tuple(read)


def _renames(c: Cursor) -> tuple[tuple[str, str], ...]:
    """``old TO new AND ...``."""
    read = [_rename(c)]
    while c.accept("K_AND"):
        read.append(_rename(c))
    return tuple(read)


def _rename(c: Cursor) -> tuple[str, str]:
    old = name(c)
    c.expect("K_TO")
    return old, name(c)


def _drop_table(c: Cursor) -> DropTable:
    c.at += 1
    exists = if_exists(c)
    return DropTable(table_name(c), exists)


def _create_type(c: Cursor) -> CreateType:
    c.at += 1
    absent = if_not_exists(c)
    user_type = user_type_name(c)
    c.expect("(")
    fields = [_field(c)]
    while c.accept(","):
        if c.tags[c.at] not in (",", ")"):
            fields.append(_field(c))
    c.expect(")")
    return CreateType(user_type, tuple(fields), absent)


def _field(c: Cursor) -> tuple[str, TypeName]:
    return name(c), type_name(c)


def _alter_type(c: Cursor) -> AlterType:
    c.at += 1
    exists = if_exists(c)
    return AlterType(user_type_name(c), _type_alteration(c), exists)


def _type_alteration(c: Cursor) -> TypeAlteration:
    if c.accept("K_ALTER"):
        field = name(c)
        c.expect("K_TYPE")
        return AlterFieldType(field, type_name(c))
    if c.accept("K_ADD"):
        absent = if_not_exists(c)
        return AddField(*_field(c), absent)
    if c.accept("K_RENAME"):
        exists = if_exists(c)
        return RenameFields(_renames(c), exists)
    raise c.no_viable()


def _drop_type(c: Cursor) -> DropType:
    c.at += 1
    exists = if_exists(c)
    return DropType(user_type_name(c), exists)


_CREATE: dict[str, Callable[[Cursor], Statement]] = {
    "K_KEYSPACE": _create_keyspace,
    "K_COLUMNFAMILY": _create_table,
    "K_TYPE": _create_type,
    "K_INDEX": dependents.create_index,
    "K_CUSTOM": dependents.create_index,
    "K_MATERIALIZED": dependents.create_view,
    "K_TRIGGER": dependents.create_trigger,
    "K_OR": functions.create_or_replace,
    "K_FUNCTION": functions.create_function,
    "K_AGGREGATE": functions.create_aggregate,
    "K_ROLE": access.create_role,
    "K_USER": access.create_user,
}

_ALTER: dict[str, Callable[[Cursor], Statement]] = {
    "K_KEYSPACE": _alter_keyspace,
    "K_COLUMNFAMILY": _alter_table,
    "K_TYPE": _alter_type,
    "K_MATERIALIZED": dependents.alter_view,
    "K_ROLE": access.alter_role,
    "K_USER": access.alter_user,
}

_DROP: dict[str, Callable[[Cursor], Statement]] = {
    "K_KEYSPACE": _drop_keyspace,
    "K_COLUMNFAMILY": _drop_table,
    "K_TYPE": _drop_type,
    "K_INDEX": dependents.drop_index,
    "K_MATERIALIZED": dependents.drop_view,
    "K_TRIGGER": dependents.drop_trigger,
    "K_FUNCTION": functions.drop_function,
    "K_AGGREGATE": functions.drop_aggregate,
    "K_ROLE": access.drop_role,
    "K_USER": access.drop_user,
    "K_IDENTITY": access.drop_identity,
}
