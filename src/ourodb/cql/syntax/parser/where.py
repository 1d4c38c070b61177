"""Relations of WHERE and conditions of IF."""

from __future__ import annotations

from collections.abc import Callable

from ourodb.cql.syntax.ast import (
    BetweenRelation,
    ColumnRef,
    Condition,
    ElementRef,
    FieldRef,
    IndexExpression,
    InRelation,
    Marker,
    NotNullRelation,
    Operator,
    Relation,
    Term,
    TokenRef,
    TupleRef,
    WhereItem,
)
from ourodb.cql.syntax.lexer import QMARK
from ourodb.cql.syntax.parser.cursor import (
    Cursor,
    column,
    column_ahead,
    columns_in_parentheses,
    index_name,
    marker,
    name,
)
from ourodb.cql.syntax.parser.terms import EXPRESSION_STARTS, comma_separated, term, tuple_literal

_COMPARISONS = {
    "=": Operator.EQ,
    "<": Operator.LT,
    "<=": Operator.LTE,
    ">": Operator.GT,
    ">=": Operator.GTE,
    "!=": Operator.NEQ,
}
_AFTER_CONDITION_COLUMN = frozenset((*_COMPARISONS, "[", ".", "K_IN", "K_CONTAINS"))


def where(c: Cursor) -> tuple[WhereItem, ...]:
    """Relations joined by AND; WHERE itself has been read."""
    read = [relation(c)]
    while c.accept("K_AND"):
        read.append(relation(c))
    return tuple(read)


def relation(c: Cursor) -> WhereItem:
    tag = c.tags[c.at]
    if tag == "K_TOKEN":
        c.at += 1
        return _token_relation(c, TokenRef(columns_in_parentheses(c)))
    if tag == "(":
        return _tuple_relation(c) if _tuple_ahead(c) else _in_parentheses(c)
    if tag == "IDENT" and c.tags[c.at + 1] == "(" and c.texts[c.at].lower() == "expr":
        return _index_expression(c)
    begun = c.at
    target = column(c)
    op = _COMPARISONS.get(c.tags[c.at])
    if op is not None:
        c.at += 1
        return Relation(ColumnRef(target), op, term(c))
    if c.accept("["):
        element = ElementRef(target, term(c))
        c.expect("]")
        return Relation(element, comparison(c), term(c))
    return _word_relation(c, ColumnRef(target), begun)


def _word_relation(c: Cursor, target: ColumnRef, begun: int) -> WhereItem:
    if c.accept("K_BETWEEN"):
        return _between(c, target, term)
    if c.accept("K_LIKE"):
        return Relation(target, Operator.LIKE, term(c))
    if c.accept("K_IS"):
        c.expect("K_NOT", "K_NULL")
        return NotNullRelation(target)
    negated = c.accept("K_NOT")
    if c.accept("K_IN"):
        return InRelation(target, _in_values(c, begun), negated)
    if c.accept("K_CONTAINS"):
        if c.accept("K_KEY"):
            return Relation(target, Operator.NOT_CONTAINS_KEY if negated else Operator.CONTAINS_KEY, term(c))
        return Relation(target, Operator.NOT_CONTAINS if negated else Operator.CONTAINS, term(c))
    raise c.no_viable(None if negated else begun)


def _token_relation(c: Cursor, target: TokenRef) -> WhereItem:
    return _between(c, target, term) if c.accept("K_BETWEEN") else Relation(target, comparison(c), term(c))


def _tuple_relation(c: Cursor) -> WhereItem:
    target = TupleRef(columns_in_parentheses(c))
    if c.accept("K_BETWEEN"):
        return _between(c, target, _tuple_or_marker)
    negated = c.accept("K_NOT")
    if negated or c.tags[c.at] == "K_IN":
        c.expect("K_IN")
        if c.tags[c.at] in (QMARK, ":"):
            return InRelation(target, marker(c), negated)
        c.expect("(")
        return InRelation(target, comma_separated(c, _tuple_or_marker, ")"), negated)
    return Relation(target, comparison(c), _tuple_or_marker(c))


def _tuple_ahead(c: Cursor) -> bool:
    """Whether ``(`` opens a tuple of columns rather than a relation."""
    tags, at = c.tags, c.at + 1
    while column_ahead(c, at):
        at += 1
        if tags[at] == ")":
            return True
        if tags[at] != ",":
            return False
        at += 1
    return False


def _in_parentheses(c: Cursor) -> WhereItem:
    c.expect("(")
    c.descend()
    read = relation(c)
    c.depth -= 1
    c.expect(")")
    return read


def _index_expression(c: Cursor) -> IndexExpression:
    c.at += 1
    c.expect("(")
    index = index_name(c)
    c.expect(",")
    read = IndexExpression(index, term(c))
    c.expect(")")
    return read


def _between(
    c: Cursor, target: ColumnRef | TokenRef | TupleRef, bound: Callable[[Cursor], Term]
) -> BetweenRelation:
    low = bound(c)
    c.expect("K_AND")
    return BetweenRelation(target, low, bound(c))


def comparison_ahead(c: Cursor) -> bool:
    return c.tags[c.at] in _COMPARISONS


def comparison(c: Cursor) -> Operator:
    op = _COMPARISONS.get(c.tags[c.at])
    if op is None:
        raise c.no_viable()
    c.at += 1
    return op


def _in_values(c: Cursor, begun: int) -> tuple[Term, ...] | Marker:
    if c.accept("("):
        return comma_separated(c, term, ")", EXPRESSION_STARTS)
    if c.tags[c.at] not in (QMARK, ":"):
        raise c.no_viable(begun)
    return marker(c)


def _tuple_or_marker(c: Cursor) -> Term:
    return tuple_literal(c) if c.tags[c.at] == "(" else marker(c)


def conditions(c: Cursor) -> tuple[tuple[Condition, ...], bool]:
    """The IF clause of an UPDATE or DELETE, if there is one: its conditions, and whether it is IF EXISTS."""
    if not c.accept("K_IF"):
        return (), False
    if c.tags[c.at] == "K_EXISTS" and c.tags[c.at + 1] not in _AFTER_CONDITION_COLUMN:
        c.at += 1
        return (), True
    read = [_condition(c)]
    while c.accept("K_AND"):
        read.append(_condition(c))
    return tuple(read), False


def _condition(c: Cursor) -> Condition:
    begun = c.at
    of = column(c)
    target: ColumnRef | ElementRef | FieldRef
    if c.accept("["):
        target = ElementRef(of, term(c))
        c.expect("]")
    elif c.accept("."):
        target = FieldRef(of, name(c))
    else:
        target = ColumnRef(of)
        if c.accept("K_CONTAINS"):
            return Relation(
                target, Operator.CONTAINS_KEY if c.accept("K_KEY") else Operator.CONTAINS, term(c)
            )
    if c.accept("K_IN"):
        return InRelation(target, _in_values(c, begun))
    return Relation(target, comparison(c), term(c))
