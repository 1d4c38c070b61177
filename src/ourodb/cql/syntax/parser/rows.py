"""Statements that read and write rows, USE and TRUNCATE."""

from __future__ import annotations

from ourodb.cql.syntax.ast import (
    AddToColumn,
    Assignment,
    Batch,
    BatchKind,
    Constant,
    ConstantKind,
    Delete,
    DeleteColumn,
    DeleteElement,
    DeleteField,
    Deletion,
    Insert,
    InsertJson,
    Marker,
    Ordering,
    PrependToColumn,
    Select,
    Selectable,
    SetColumn,
    SetElement,
    SetField,
    SubtractFromColumn,
    Term,
    Truncate,
    Update,
    Use,
)
from ourodb.cql.syntax.lexer import IDENT, INTEGER, STRING
from ourodb.cql.syntax.parser.cursor import (
    Cursor,
    column,
    column_ahead,
    if_not_exists,
    integer_or_marker,
    keyspace_name,
    marker,
    name,
    table_name,
)
from ourodb.cql.syntax.parser.selection import selectable, selectors, selectors_ahead
from ourodb.cql.syntax.parser.terms import term, term_before_column
from ourodb.cql.syntax.parser.where import conditions, where
from ourodb.errors import CqlSyntaxError


def use(c: Cursor) -> Use:
    c.expect("K_USE")
    return Use(keyspace_name(c))


def truncate(c: Cursor) -> Truncate:
    c.expect("K_TRUNCATE")
    c.accept("K_COLUMNFAMILY")
    return Truncate(table_name(c))


def select(c: Cursor) -> Select:
    c.expect("K_SELECT")
    json = distinct = False
    if c.tags[c.at] == "K_JSON" and selectors_ahead(c, c.at + 1):
        json = c.accept("K_JSON")
    if c.tags[c.at] == "K_DISTINCT" and selectors_ahead(c, c.at + 1):
        distinct = c.accept("K_DISTINCT")
    selected = selectors(c)
    c.expect("K_FROM")
    read = Select(table_name(c), selected, where(c) if c.accept("K_WHERE") else (), distinct, json)
    if c.accept("K_GROUP"):
        c.expect("K_BY")
        read.group_by = _grouping(c)
    if c.accept("K_ORDER"):
        c.expect("K_BY")
        read.order_by = _orderings(c)
    if c.accept("K_PER"):
        c.expect("K_PARTITION", "K_LIMIT")
        read.per_partition_limit = integer_or_marker(c)
    if c.accept("K_LIMIT"):
        read.limit = integer_or_marker(c)
    if c.accept("K_ALLOW"):
        c.expect("K_FILTERING")
        read.allow_filtering = True
    return read


def _grouping(c: Cursor) -> tuple[Selectable, ...]:
    read = [selectable(c)]
    while c.accept(","):
        read.append(selectable(c))
    return tuple(read)


def _orderings(c: Cursor) -> tuple[Ordering, ...]:
    read = [_ordering(c)]
    while c.accept(","):
        read.append(_ordering(c))
    return tuple(read)


def _ordering(c: Cursor) -> Ordering:
    read = Ordering(column(c))
    if c.accept("K_ANN"):
        c.expect("K_OF")
        read.ann_of = term(c)
    if not c.accept("K_ASC"):
        read.ascending = not c.accept("K_DESC")
    return read


def insert(c: Cursor) -> Insert | InsertJson:
    c.expect("K_INSERT", "K_INTO")
    table = table_name(c)
    if c.accept("K_JSON"):
        return _insert_json(c, InsertJson(table, _json_value(c)))
    if not c.accept("("):
        raise c.no_viable()
    read = Insert(table, _inserted_columns(c), _inserted_values(c))
    read.if_not_exists = if_not_exists(c)
    if c.accept("K_USING"):
        read.timestamp, read.ttl = _using(c)
    return read


def _inserted_columns(c: Cursor) -> tuple[str, ...]:
    tags, texts = c.tags, c.texts
    columns = []
    while True:
        if tags[c.at] == IDENT:
            columns.append(texts[c.at].lower())
            c.at += 1
        else:
            columns.append(column(c))
        if tags[c.at] != ",":
            c.expect(")")
            return tuple(columns)
        c.at += 1


def _inserted_values(c: Cursor) -> tuple[Term, ...]:
    c.expect("K_VALUES", "(")
    tags = c.tags
    values = [term(c)]
    while tags[c.at] == ",":
        c.at += 1
        values.append(term(c))
    c.expect(")")
    return tuple(values)


def _insert_json(c: Cursor, read: InsertJson) -> InsertJson:
    if c.accept("K_DEFAULT"):
        if c.accept("K_UNSET"):
            read.default_unset = True
        else:
            c.expect("K_NULL")
    read.if_not_exists = if_not_exists(c)
    if c.accept("K_USING"):
        read.timestamp, read.ttl = _using(c)
    return read


def _json_value(c: Cursor) -> Constant | Marker:
    return Constant(ConstantKind.STRING, c.string()) if c.tags[c.at] == STRING else marker(c)


def _using(c: Cursor) -> tuple[Constant | Marker | None, Constant | Marker | None]:
    """Timestamp and TTL of a USING clause, whose keyword has been read. The last of several counts."""
    timestamp = ttl = None
    while True:
        if c.accept("K_TIMESTAMP"):
            timestamp = integer_or_marker(c)
        elif c.accept("K_TTL"):
            ttl = integer_or_marker(c)
        else:
            raise c.no_viable()
        if not c.accept("K_AND"):
            return timestamp, ttl


def update(c: Cursor) -> Update:
    c.expect("K_UPDATE")
    table = table_name(c)
    timestamp, ttl = _using(c) if c.accept("K_USING") else (None, None)
    c.expect("K_SET")
    assignments = _assignments(c)
    c.expect("K_WHERE")
    relations = where(c)
    required, exists = conditions(c)
    return Update(table, assignments, relations, required, exists, timestamp, ttl)


def _assignments(c: Cursor) -> tuple[Assignment, ...]:
    """What SET lists. A column that is set as a whole can't be changed in any other way beside."""
    read: list[Assignment] = []
    set_whole: dict[str, bool] = {}
    while True:
        added = _assignment(c)
        whole = isinstance(added, SetColumn)
        if added.column in set_whole and (whole or set_whole[added.column]):
            raise CqlSyntaxError(f"Multiple incompatible setting of column {added.column}")
        set_whole[added.column] = whole
        read.append(added)
        if not c.accept(","):
            return tuple(read)


def _assignment(c: Cursor) -> Assignment:
    target = column(c)
    if c.accept("="):
        return _new_value(c, target)
    if c.accept("+="):
        return AddToColumn(target, term(c))
    if c.accept("-="):
        return SubtractFromColumn(target, term(c))
    if c.accept("["):
        key = term(c)
        c.expect("]", "=")
        return SetElement(target, key, term(c))
    if c.accept("."):
        field = name(c)
        c.expect("=")
        return SetField(target, field, term(c))
    raise c.no_viable()


def _new_value(c: Cursor, target: str) -> Assignment:
    """What follows ``target =``."""
    following = c.tags[c.at + 1]
    if column_ahead(c, c.at) and following in ("+", "-", INTEGER):
        source = column(c)
        if following == INTEGER:
            # `c = c -3` is the name and the number -3.
            added = c.take(INTEGER)
            _check_same(source, target, f"X = X {'-' if added[0] == '-' else '+'} <value>")
            return AddToColumn(target, Constant(ConstantKind.INTEGER, added))
        c.at += 1
        _check_same(source, target, f"X = X {following}<value>")
        return AddToColumn(target, term(c)) if following == "+" else SubtractFromColumn(target, term(c))
    value = term_before_column(c)
    if c.accept("+"):
        _check_same(column(c), target, "X = <value> + X")
        return PrependToColumn(target, value)
    return SetColumn(target, value)


def _check_same(source: str, target: str, form: str) -> None:
    if source != target:
        raise CqlSyntaxError(f"Only expressions of the form {form} are supported.")


def delete(c: Cursor) -> Delete:
    c.expect("K_DELETE")
    deletions: list[Deletion] = []
    if column_ahead(c, c.at):
        deletions.append(_deletion(c))
        while c.accept(","):
            deletions.append(_deletion(c))
    c.expect("K_FROM")
    table = table_name(c)
    timestamp = None
    if c.accept("K_USING"):
        c.expect("K_TIMESTAMP")
        timestamp = integer_or_marker(c)
    c.expect("K_WHERE")
    relations = where(c)
    required, exists = conditions(c)
    return Delete(table, tuple(deletions), relations, required, exists, timestamp)


def _deletion(c: Cursor) -> Deletion:
    target = column(c)
    if c.accept("["):
        key = term(c)
        c.expect("]")
        return DeleteElement(target, key)
    if c.accept("."):
        return DeleteField(target, name(c))
    if c.tags[c.at] not in (",", "K_FROM", "EOF"):
        raise c.no_viable(c.at - 1)
    return DeleteColumn(target)


_IN_BATCH = {"K_INSERT": insert, "K_UPDATE": update, "K_DELETE": delete}


def batch(c: Cursor) -> Batch:
    c.expect("K_BEGIN")
    kind = BatchKind.LOGGED
    if c.accept("K_UNLOGGED"):
        kind = BatchKind.UNLOGGED
    elif c.accept("K_COUNTER"):
        kind = BatchKind.COUNTER
    c.expect("K_BATCH")
    timestamp, ttl = _using(c) if c.accept("K_USING") else (None, None)
    statements: list[Insert | InsertJson | Update | Delete] = []
    while (read := _IN_BATCH.get(c.tags[c.at])) is not None:
        statements.append(read(c))
        c.accept(";")
    c.expect("K_APPLY", "K_BATCH")
    return Batch(kind, tuple(statements), timestamp, ttl)
