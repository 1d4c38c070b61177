"""What hangs on a table: indexes, materialized views, triggers."""

from __future__ import annotations

from ourodb.cql.syntax.ast import (
    AlterView,
    CreateIndex,
    CreateTrigger,
    CreateView,
    DropIndex,
    DropTrigger,
    DropView,
    IndexTarget,
    IndexTargetKind,
    Properties,
)
from ourodb.cql.syntax.parser.cursor import (
    Cursor,
    column,
    if_exists,
    if_not_exists,
    index_name,
    name,
    qualified_name,
    table_name,
)
from ourodb.cql.syntax.parser.properties import clustering_order, primary_key, properties, property_into
from ourodb.cql.syntax.parser.selection import selectors
from ourodb.cql.syntax.parser.terms import comma_separated
from ourodb.cql.syntax.parser.where import where
from ourodb.errors import CqlSyntaxError

_INDEX_TARGET_KINDS = {
    "K_VALUES": IndexTargetKind.VALUES,
    "K_KEYS": IndexTargetKind.KEYS,
    "K_ENTRIES": IndexTargetKind.ENTRIES,
    "K_FULL": IndexTargetKind.FULL,
}


def create_index(c: Cursor) -> CreateIndex:
    custom = c.accept("K_CUSTOM")
    c.expect("K_INDEX")
    absent = if_not_exists(c)
    named = None if c.tags[c.at] == "K_ON" else index_name(c)
    c.expect("K_ON")
    table = table_name(c)
    c.expect("(")
    targets = comma_separated(c, _index_target, ")")
    custom_class = c.string() if c.accept("K_USING") else None
    options = properties(c) if c.accept("K_WITH") else {}
    return CreateIndex(named, table, targets, custom, custom_class, options, absent)


def _index_target(c: Cursor) -> IndexTarget:
    kind = _INDEX_TARGET_KINDS.get(c.tags[c.at])
    if kind is None or c.tags[c.at + 1] != "(":
        return IndexTarget(column(c))
    c.at += 2
    read = IndexTarget(column(c), kind)
    c.expect(")")
    return read


def drop_index(c: Cursor) -> DropIndex:
    c.at += 1
    exists = if_exists(c)
    return DropIndex(qualified_name(c, "index"), exists)


def create_view(c: Cursor) -> CreateView:
    c.expect("K_MATERIALIZED", "K_VIEW")
    absent = if_not_exists(c)
    view = table_name(c)
    c.expect("K_AS", "K_SELECT")
    selected = selectors(c)
    c.expect("K_FROM")
    base = table_name(c)
    relations = where(c) if c.accept("K_WHERE") else ()
    key = primary_key(c)
    options: Properties = {}
    order: list[tuple[str, bool]] = []
    if c.accept("K_WITH"):
        while True:
            if c.tags[c.at] == "K_COMPACT" and c.tags[c.at + 1] == "K_STORAGE":
                raise CqlSyntaxError("COMPACT STORAGE tables are not allowed starting with version 4.0")
            if c.tags[c.at] == "K_CLUSTERING" and c.tags[c.at + 1] == "K_ORDER":
                order.extend(clustering_order(c))
            else:
                property_into(c, options)
            if not c.accept("K_AND"):
                break
    return CreateView(view, base, selected, relations, key, tuple(order), options, absent)


def alter_view(c: Cursor) -> AlterView:
    c.expect("K_MATERIALIZED", "K_VIEW")
    exists = if_exists(c)
    view = table_name(c)
    c.expect("K_WITH")
    return AlterView(view, properties(c), exists)


def drop_view(c: Cursor) -> DropView:
    c.expect("K_MATERIALIZED", "K_VIEW")
    exists = if_exists(c)
    return DropView(table_name(c), exists)


def create_trigger(c: Cursor) -> CreateTrigger:
    c.at += 1
    absent = if_not_exists(c)
    trigger = name(c)
    c.expect("K_ON")
    table = table_name(c)
    c.expect("K_USING")
    return CreateTrigger(trigger, table, c.string(), absent)


def drop_trigger(c: Cursor) -> DropTrigger:
    c.at += 1
    exists = if_exists(c)
    trigger = name(c)
    c.expect("K_ON")
    return DropTrigger(trigger, table_name(c), exists)
