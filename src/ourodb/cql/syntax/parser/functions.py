"""Functions and aggregates that users define."""

from __future__ import annotations

from ourodb.cql.syntax.ast import (
    CreateAggregate,
    CreateFunction,
    DropAggregate,
    DropFunction,
    TypeName,
)
from ourodb.cql.syntax.lexer import IDENT
from ourodb.cql.syntax.parser.cursor import (
    Cursor,
    function_name,
    if_exists,
    if_not_exists,
    local_function_name,
    name,
)
from ourodb.cql.syntax.parser.terms import comma_separated, term
from ourodb.cql.syntax.parser.types import type_name, types_in_parentheses


def create_or_replace(c: Cursor) -> CreateFunction | CreateAggregate:
    c.expect("K_OR", "K_REPLACE")
    if c.tags[c.at] == "K_FUNCTION":
        return create_function(c, or_replace=True)
    if c.tags[c.at] == "K_AGGREGATE":
        return create_aggregate(c, or_replace=True)
    raise c.no_viable()


def create_function(c: Cursor, *, or_replace: bool = False) -> CreateFunction:
    c.at += 1
    absent = if_not_exists(c)
    function = function_name(c)
    c.expect("(")
    parameters = comma_separated(c, _parameter, ")")
    called = c.accept("K_CALLED")
    if not called:
        c.expect("K_RETURNS", "K_NULL")
    c.expect("K_ON", "K_NULL", "K_INPUT", "K_RETURNS")
    returns = type_name(c)
    c.expect("K_LANGUAGE")
    language = c.take(IDENT).lower()
    c.expect("K_AS")
    return CreateFunction(function, parameters, returns, called, language, c.string(), or_replace, absent)


def _parameter(c: Cursor) -> tuple[str, TypeName]:
    return name(c), type_name(c)


def drop_function(c: Cursor) -> DropFunction:
    c.at += 1
    exists = if_exists(c)
    function = function_name(c)
    return DropFunction(function, types_in_parentheses(c) if c.tags[c.at] == "(" else None, exists)


def create_aggregate(c: Cursor, *, or_replace: bool = False) -> CreateAggregate:
    c.at += 1
    absent = if_not_exists(c)
    aggregate = function_name(c)
    argument_types = types_in_parentheses(c)
    c.expect("K_SFUNC")
    state_function = local_function_name(c)
    c.expect("K_STYPE")
    state_type = type_name(c)
    final_function = local_function_name(c) if c.accept("K_FINALFUNC") else None
    initial = term(c) if c.accept("K_INITCOND") else None
    return CreateAggregate(
        aggregate, argument_types, state_function, state_type, final_function, initial, or_replace, absent
    )


def drop_aggregate(c: Cursor) -> DropAggregate:
    c.at += 1
    exists = if_exists(c)
    aggregate = function_name(c)
    return DropAggregate(aggregate, types_in_parentheses(c) if c.tags[c.at] == "(" else None, exists)
