"""What follows WITH: properties and maps of them; and the key and order of tables and views."""

from __future__ import annotations

from ourodb.cql.syntax.ast import Constant, Marker, PrimaryKey, Properties, Term
from ourodb.cql.syntax.lexer import UNRESERVED_TAGS
from ourodb.cql.syntax.parser.cursor import Cursor, name
from ourodb.cql.syntax.parser.terms import comma_separated, constant, term
from ourodb.errors import CqlSyntaxError


def properties(c: Cursor) -> Properties:
    """``name = value AND ...``."""
    read: Properties = {}
    property_into(c, read)
    while c.accept("K_AND"):
        property_into(c, read)
    return read


def property_into(c: Cursor, read: Properties) -> None:
    """One ``name = value``, added to those read before."""
    begun = c.at
    of = name(c)
    if not c.accept("="):
        raise c.no_viable(begun)
    value = constant_map(c) if c.tags[c.at] == "{" else _property_value(c, begun)
    if of in read:
        raise CqlSyntaxError(f"Multiple definitions for property '{of}'")
    read[of] = value


def _property_value(c: Cursor, begun: int) -> str:
    value = constant(c)
    if value is not None:
        return value.text
    if c.tags[c.at] not in UNRESERVED_TAGS:
        raise c.no_viable(begun)
    c.at += 1
    return c.texts[c.at - 1]


def constant_map(c: Cursor) -> dict[str, str]:
    """``{'name': constant, ...}``, perhaps empty; keys are constants of any kind."""
    c.expect("{")
    read: dict[str, str] = {}
    for key, value in comma_separated(c, _entry, "}"):
        if not isinstance(key, Constant):
            raise CqlSyntaxError(f"Invalid property name: {key}{_no_variables(key)}")
        if not isinstance(value, Constant):
            raise CqlSyntaxError(f"Invalid property value: {value} for property: {key}{_no_variables(value)}")
        if key.text in read:
            raise CqlSyntaxError(f"Multiple definition for property {key.text}")
        read[key.text] = value.text
    return read


def _entry(c: Cursor) -> tuple[Term, Term]:
    key = term(c)
    c.expect(":")
    return key, term(c)


def _no_variables(value: Term) -> str:
    return " (bind variables are not supported in DDL queries)" if isinstance(value, Marker) else ""


def primary_key(c: Cursor) -> PrimaryKey:
    """``PRIMARY KEY (partition key, clustering columns)``; the partition key may have parentheses of its own."""
    c.expect("K_PRIMARY", "K_KEY", "(")
    partition_key = [name(c)] if not c.accept("(") else list(comma_separated(c, name, ")"))
    if not partition_key:
        c.at -= 1
        raise c.no_viable()
    clustering: list[str] = []
    while c.accept(","):
        clustering.append(name(c))
    c.expect(")")
    return PrimaryKey(tuple(partition_key), tuple(clustering))


def clustering_order(c: Cursor) -> tuple[tuple[str, bool], ...]:
    """``CLUSTERING ORDER BY (column ASC, ...)``: (column, ascending) pairs."""
    c.expect("K_CLUSTERING", "K_ORDER", "K_BY", "(")
    read = [_order(c)]
    while c.accept(","):
        read.append(_order(c))
    c.expect(")")
    return tuple(read)


def _order(c: Cursor) -> tuple[str, bool]:
    of = name(c)
    if c.accept("K_ASC"):
        return of, True
    if not c.accept("K_DESC"):
        raise c.no_viable()
    return of, False
