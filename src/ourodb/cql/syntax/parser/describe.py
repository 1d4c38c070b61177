"""DESCRIBE."""

from __future__ import annotations

from ourodb.cql.syntax.ast import (
    Describe,
    DescribeKind,
)
from ourodb.cql.syntax.lexer import NAME_TAGS
from ourodb.cql.syntax.parser.cursor import (
    Cursor,
    function_name,
    keyspace_name,
    table_name,
)
from ourodb.cql.syntax.parser.types import user_type_name

_DESCRIBED_ALONE = {
    "K_CLUSTER": DescribeKind.CLUSTER,
    "K_SCHEMA": DescribeKind.SCHEMA,
    "K_KEYSPACES": DescribeKind.KEYSPACES,
    "K_TABLES": DescribeKind.TABLES,
    "K_TYPES": DescribeKind.TYPES,
    "K_FUNCTIONS": DescribeKind.FUNCTIONS,
    "K_AGGREGATES": DescribeKind.AGGREGATES,
}

_DESCRIBED_BY_NAME = {
    "K_COLUMNFAMILY": (DescribeKind.TABLE, table_name),
    "K_INDEX": (DescribeKind.INDEX, table_name),
    "K_TYPE": (DescribeKind.TYPE, user_type_name),
    "K_FUNCTION": (DescribeKind.FUNCTION, function_name),
    "K_AGGREGATE": (DescribeKind.AGGREGATE, function_name),
}


def describe(c: Cursor) -> Describe:
    """The first token, DESCRIBE or DESC, has been looked at."""
    c.at += 1
    kind, keyspace, described = _described(c)
    internals = c.accept("K_WITH")
    if internals:
        c.expect("K_INTERNALS")
    return Describe(kind, keyspace, described, internals)


def _described(c: Cursor) -> tuple[DescribeKind, str | None, str | None]:
    tag = c.tags[c.at]
    kind = _DESCRIBED_ALONE.get(tag)
    if kind is not None:
        c.at += 1
        return kind, None, None
    if c.accept("K_FULL"):
        c.expect("K_SCHEMA")
        return DescribeKind.FULL_SCHEMA, None, None
    if tag == "K_KEYSPACE" or (tag == "K_ONLY" and c.tags[c.at + 1] == "K_KEYSPACE"):
        only = c.accept("K_ONLY")
        c.expect("K_KEYSPACE")
        keyspace = None if c.tags[c.at] in ("EOF", ";", "K_WITH") else keyspace_name(c)
        return DescribeKind.ONLY_KEYSPACE if only else DescribeKind.KEYSPACE, keyspace, None
    if c.accept("K_MATERIALIZED"):
        c.expect("K_VIEW")
        view = table_name(c)
        return DescribeKind.VIEW, view.keyspace, view.name
    may_be_a_name = tag in NAME_TAGS and c.tags[c.at + 1] in ("EOF", ";", ".", "K_WITH")
    if tag in _DESCRIBED_BY_NAME and not may_be_a_name:
        kind, reader = _DESCRIBED_BY_NAME[tag]
        c.at += 1
    else:
        kind, reader = DescribeKind.GENERIC, table_name
    described = reader(c)
    return kind, described.keyspace, described.name
