"""DESCRIBE, as the server answers it: rows of (keyspace_name, type, name, create_statement), or of the first three.

cqlsh prints what it gets here; drivers and migration tools read it to recreate a schema elsewhere. The answer is made
whole; the session cuts it into pages.

Source: Apache Cassandra 5, ``DescribeStatement``, ``SchemaElement``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from ourodb.cql.syntax import ast
from ourodb.cql.syntax.format import quote_identifier
from ourodb.cql.types import TEXT, CqlType, ListType, MapType
from ourodb.errors import InvalidRequest
from ourodb.schema import cql_text
from ourodb.schema.model import Keyspace, Schema, Table
from ourodb.schema.names import is_system_keyspace
from ourodb.schema.node_info import NodeInfo
from ourodb.schema.types import in_dependency_order

_LIST_COLUMNS: Final[tuple[tuple[str, CqlType], ...]] = (
    ("keyspace_name", TEXT),
    ("type", TEXT),
    ("name", TEXT),
)
_ELEMENT_COLUMNS: Final[tuple[tuple[str, CqlType], ...]] = (*_LIST_COLUMNS, ("create_statement", TEXT))
_CLUSTER_COLUMNS: Final[tuple[tuple[str, CqlType], ...]] = (
    ("cluster", TEXT),
    ("partitioner", TEXT),
    ("snitch", TEXT),
)

SNITCH: Final = "DynamicEndpointSnitch"

_NOT_FOUND: Final = {
    ast.DescribeKind.INDEX: "Table for existing index '{name}' not found in '{keyspace}'",
    ast.DescribeKind.VIEW: "Materialized view '{name}' not found in '{keyspace}'",
    ast.DescribeKind.FUNCTION: "User defined function '{name}' not found in '{keyspace}'",
    ast.DescribeKind.AGGREGATE: "User defined aggregate '{name}' not found in '{keyspace}'",
}
"""What there is none of yet."""


@dataclass(frozen=True, slots=True)
class Description:
    """A result set, before it is cut into pages.

    Attributes:
        columns: (name, type) pairs; their table is ``system.describe``.
        rows: wire bytes, one value a column.
    """

    columns: tuple[tuple[str, CqlType], ...]
    rows: tuple[tuple[bytes | None, ...], ...]


class _Element(NamedTuple):
    keyspace: str
    type: str
    name: str
    create_statement: str = ""


def describe(statement: ast.Describe, schema: Schema, keyspace: str | None, node: NodeInfo) -> Description:
    """What DESCRIBE answers.

    Args:
        keyspace: the one in use, or None.
    Raises:
        InvalidRequest: with Cassandra's text; there is no such thing.
    """
    kind = statement.kind
    if kind is ast.DescribeKind.CLUSTER:
        return _cluster(keyspace, node)
    if kind is ast.DescribeKind.KEYSPACES:
        return _listed(_Element(name, "keyspace", name) for name in _sorted(schema.keyspaces))
    if kind in (ast.DescribeKind.TABLES, ast.DescribeKind.TYPES):
        return _listed(_listing(kind, schema, keyspace))
    if kind in (ast.DescribeKind.FUNCTIONS, ast.DescribeKind.AGGREGATES):
        if keyspace is not None:
            _keyspace(schema, keyspace)
        return _listed(())
    return _described(_elements(statement, schema, keyspace))


def _elements(statement: ast.Describe, schema: Schema, in_use: str | None) -> Iterable[_Element]:
    kind, internals = statement.kind, statement.internals
    if kind in (ast.DescribeKind.SCHEMA, ast.DescribeKind.FULL_SCHEMA):
        full = kind is ast.DescribeKind.FULL_SCHEMA
        return [
            element
            for name in _sorted(schema.keyspaces)
            if full or not is_system_keyspace(name)
            for element in _all_of(schema.keyspaces[name], internals)
        ]
    name = statement.name or ""
    if kind is ast.DescribeKind.GENERIC:
        return _generic(statement.keyspace, name, schema, in_use, internals)
    holder = statement.keyspace or in_use
    if holder is None:
        raise InvalidRequest("No keyspace specified and no current keyspace")
    keyspace = _keyspace(schema, holder)
    if kind is ast.DescribeKind.KEYSPACE:
        return _all_of(keyspace, internals)
    if kind is ast.DescribeKind.ONLY_KEYSPACE:
        return [_Element(keyspace.name, "keyspace", keyspace.name, cql_text.create_keyspace(keyspace))]
    if kind is ast.DescribeKind.TABLE:
        table = keyspace.tables.get(name)
        if table is None:
            raise InvalidRequest(f"Table '{name}' not found in keyspace '{keyspace.name}'")
        return [_table(keyspace, table, internals)]
    if kind is ast.DescribeKind.TYPE:
        user_type = keyspace.types.get(name)
        if user_type is None:
            raise InvalidRequest(f"User defined type '{name}' not found in '{keyspace.name}'")
        return [_Element(keyspace.name, "type", name, cql_text.create_type(user_type))]
    raise InvalidRequest(_NOT_FOUND[kind].format(name=name, keyspace=keyspace.name))


def _generic(
    qualifier: str | None, name: str, schema: Schema, in_use: str | None, internals: bool
) -> Iterable[_Element]:
    """A bare name: a keyspace, else a table of the keyspace in use."""
    if qualifier is None and name in schema.keyspaces:
        return _all_of(schema.keyspaces[name], internals)
    keyspace = _keyspace(schema, qualifier or in_use or name)
    table = keyspace.tables.get(name)
    if table is None:
        raise InvalidRequest(f"'{name}' not found in keyspace '{keyspace.name}'")
    return [_table(keyspace, table, internals)]


def _all_of(keyspace: Keyspace, internals: bool) -> list[_Element]:
    """The keyspace, its types, each after those that it is made of, and its tables."""
    elements = [_Element(keyspace.name, "keyspace", keyspace.name, cql_text.create_keyspace(keyspace))]
    elements += [
        _Element(keyspace.name, "type", user_type.name, cql_text.create_type(user_type))
        for user_type in in_dependency_order(keyspace.types)
    ]
    elements += [_table(keyspace, keyspace.tables[name], internals) for name in _sorted(keyspace.tables)]
    return elements


def _table(keyspace: Keyspace, table: Table, internals: bool) -> _Element:
    text = cql_text.create_table(table, virtual=keyspace.virtual, internals=internals)
    return _Element(keyspace.name, "table", table.name, text)


def _listing(kind: ast.DescribeKind, schema: Schema, in_use: str | None) -> Iterable[_Element]:
    names = _sorted(schema.keyspaces) if in_use is None else [_keyspace(schema, in_use).name]
    for holder in names:
        keyspace = schema.keyspaces[holder]
        if kind is ast.DescribeKind.TABLES:
            for name in _sorted(keyspace.tables):
                yield _Element(holder, "table", name)
        else:
            for name in _sorted(keyspace.types):
                yield _Element(holder, "type", name)


def _cluster(in_use: str | None, node: NodeInfo) -> Description:
    partitioner = node.partitioner.rpartition(".")[2]
    row = [node.cluster_name.encode(), partitioner.encode(), SNITCH.encode()]
    columns = _CLUSTER_COLUMNS
    if in_use is not None and not is_system_keyspace(in_use):
        ownership = MapType(TEXT, ListType(TEXT, frozen=True), frozen=True)
        columns = (*columns, ("range_ownership", ownership))
        endpoint = f"/{node.broadcast_address}:{node.broadcast_port}"
        row.append(ownership.encode([(token, [endpoint]) for token in sorted(node.tokens)]))
    return Description(columns, (tuple(row),))


def _keyspace(schema: Schema, name: str) -> Keyspace:
    found = schema.keyspaces.get(name)
    if found is None:
        raise InvalidRequest(f"'{name}' not found in keyspaces")
    return found


def _sorted(names: Iterable[str]) -> list[str]:
    """By name, whatever its case, as ``SchemaElement.NAME_COMPARATOR`` does."""
    return sorted(names, key=lambda name: (name.lower(), name))


def _listed(elements: Iterable[_Element]) -> Description:
    rows = tuple(
        (
            quote_identifier(element.keyspace).encode(),
            element.type.encode(),
            quote_identifier(element.name).encode(),
        )
        for element in elements
    )
    return Description(_LIST_COLUMNS, rows)


def _described(elements: Iterable[_Element]) -> Description:
    rows = tuple(
        (
            quote_identifier(element.keyspace).encode(),
            element.type.encode(),
            quote_identifier(element.name).encode(),
            element.create_statement.encode(),
        )
        for element in elements
    )
    return Description(_ELEMENT_COLUMNS, rows)
