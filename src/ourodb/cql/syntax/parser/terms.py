"""Terms: what stands where a value is needed. And the arithmetic that terms and selectables share.

``*``, ``/`` and ``%`` bind closer than ``+`` and ``-``; both associate to the left. A term in parentheses is a tuple of
one, because only the receiver's type can tell.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from ourodb.cql.syntax.ast import (
    Arithmetic,
    Cast,
    Constant,
    ConstantKind,
    FunctionCall,
    ListLiteral,
    MapLiteral,
    Marker,
    Negation,
    Null,
    Selectable,
    SetLiteral,
    Term,
    TupleLiteral,
    TypeHint,
    UdtLiteral,
)
from ourodb.cql.syntax.lexer import (
    BOOLEAN,
    DURATION,
    FLOAT,
    HEX,
    INTEGER,
    NAME_TAGS,
    QMARK,
    STRING,
    UUID,
    unquote_string,
)
from ourodb.cql.syntax.parser.cursor import Cursor, call_ahead, column_ahead, function_name, marker, name
from ourodb.cql.syntax.parser.types import after_type, native_type_name, type_name

_STRING = ConstantKind.STRING
_CONSTANT_KINDS = {
    STRING: _STRING,
    INTEGER: ConstantKind.INTEGER,
    FLOAT: ConstantKind.FLOAT,
    BOOLEAN: ConstantKind.BOOLEAN,
    DURATION: ConstantKind.DURATION,
    HEX: ConstantKind.HEX,
    UUID: ConstantKind.UUID,
}
_SPECIAL_FLOATS = {
    "K_POSITIVE_NAN": "NaN",
    "K_NEGATIVE_NAN": "NaN",
    "K_POSITIVE_INFINITY": "Infinity",
    "K_NEGATIVE_INFINITY": "-Infinity",
}
# What may follow a term in some statement, operators aside.
_AFTER_TERM = frozenset(
    """
    , ) ] } : ; = .. EOF K_ALLOW K_AND K_APPLY K_AS K_ASC K_DELETE K_DESC K_GROUP K_IF K_INSERT K_LIMIT K_ORDER K_PER
    K_PRIMARY K_UPDATE K_WHERE K_WITH
    """.split()
)

VALUE_TAGS: Final = frozenset((*_CONSTANT_KINDS, *_SPECIAL_FLOATS, "K_NULL", QMARK, "[", "{", "("))
"""What begins a term or selectable that is neither a name, a call, a named marker nor negative."""

EXPRESSION_STARTS: Final = VALUE_TAGS | NAME_TAGS | {"-", ":", "K_TOKEN"}
"""What begins a term or selectable."""

Expression = TypeVar("Expression", bound=Selectable)
Item = TypeVar("Item")


def term(c: Cursor) -> Term:
    """Any term."""
    # Nearly all terms are constants with a comma or a parenthesis behind them.
    at = c.at
    kind = _CONSTANT_KINDS.get(c.tags[at])
    if kind is not None and c.tags[at + 1] in _AFTER_TERM:
        c.at = at + 1
        piece = c.texts[at]
        return Constant(kind, unquote_string(piece) if kind is _STRING else piece)
    read = arithmetic(c, _operand)
    if c.tags[c.at] not in _AFTER_TERM:
        raise c.no_viable(c.at - 1 if c.tags[c.at - 1] == QMARK else c.at)
    return read


def term_before_column(c: Cursor) -> Term:
    """A term, in a place where ``+ column`` may follow: the plus sign is left."""
    return arithmetic(c, _operand, stop_at_column=True)


def arithmetic(
    c: Cursor, operand: Callable[[Cursor], Expression], *, stop_at_column: bool = False
) -> Expression | Arithmetic:
    """Operands joined by operators."""
    beside = c.operators
    c.operators = 0
    left = _product(c, operand)
    while (op := c.tags[c.at]) == "+" or op == "-":
        if stop_at_column and column_ahead(c, c.at + 1) and not call_ahead(c, c.at + 1):
            break
        c.at += 1
        left = Arithmetic(op, left, _product(c, operand))
        c.count_operator()
    c.operators = max(c.operators, beside)
    return left


def _product(c: Cursor, operand: Callable[[Cursor], Expression]) -> Expression | Arithmetic:
    left: Expression | Arithmetic = operand(c)
    while (op := c.tags[c.at]) == "*" or op == "/" or op == "%":
        c.at += 1
        left = Arithmetic(op, left, operand(c))
        c.count_operator()
    return left


def _operand(c: Cursor) -> Term:
    if c.tags[c.at] == "-":
        c.at += 1
        return Negation(simple_term(c))
    return simple_term(c)


def simple_term(c: Cursor) -> Term:
    """A term without operators."""
    tag = c.tags[c.at]
    if tag == "(":
        if hint_ahead(c):
            return hinted(c, simple_term)
        return tuple_literal(c)
    if tag == "[":
        c.at += 1
        return ListLiteral(comma_separated(c, term, "]", EXPRESSION_STARTS))
    if tag == "{":
        return _braces(c)
    if tag == "K_CAST" and c.tags[c.at + 1] == "(":
        c.at += 2
        c.descend()
        operand = simple_term(c)
        c.expect("K_AS")
        to = native_type_name(c)
        c.expect(")")
        c.depth -= 1
        return Cast(operand, to)
    if call_ahead(c, c.at):
        function = function_name(c)
        c.expect("(")
        return FunctionCall(function, comma_separated(c, term, ")"))
    return literal(c)


def literal(c: Cursor) -> Constant | Null | Marker:
    """A constant, null or a bind marker."""
    if c.accept("K_NULL"):
        return Null()
    value = constant(c)
    if value is not None:
        return value
    if c.tags[c.at] in NAME_TAGS:
        # A column can't stand here; what misses is seen only behind it.
        c.at += 1
        raise c.no_viable(c.at - 1)
    return marker(c)


def constant(c: Cursor) -> Constant | None:
    """A constant; None, without moving, when none comes."""
    tag = c.tags[c.at]
    kind = _CONSTANT_KINDS.get(tag)
    if kind is not None:
        piece = c.texts[c.at]
        c.at += 1
        return Constant(kind, unquote_string(piece) if kind is _STRING else piece)
    special = _SPECIAL_FLOATS.get(tag)
    if special is None:
        return None
    c.at += 1
    return Constant(ConstantKind.FLOAT, special)


def comma_separated(
    c: Cursor, item: Callable[[Cursor], Item], closing: str, starts: frozenset[str] | None = None
) -> tuple[Item, ...]:
    """Items, perhaps none, and the closing token; the opening one has been read.

    Args:
        starts: what an item may begin with; where nothing else can, the closing token was expected.
    """
    items: list[Item] = []
    if c.tags[c.at] != closing and (starts is None or c.tags[c.at] in starts):
        c.descend()
        items.append(item(c))
        while c.accept(","):
            items.append(item(c))
        c.depth -= 1
    c.expect(closing)
    return tuple(items)


def tuple_literal(c: Cursor) -> TupleLiteral:
    """``(a, b)``, with at least one element."""
    c.expect("(")
    if c.tags[c.at] == ")":
        raise c.no_viable()
    return TupleLiteral(comma_separated(c, term, ")"))


def _braces(c: Cursor) -> Term:
    if c.tags[c.at + 1] in NAME_TAGS and c.tags[c.at + 2] == ":":
        c.at += 1
        return UdtLiteral(comma_separated(c, _field, "}"))
    return set_or_map(c, term)


def _field(c: Cursor) -> tuple[str, Term]:
    field = name(c)
    c.expect(":")
    return field, term(c)


def set_or_map(c: Cursor, item: Callable[[Cursor], Selectable]) -> SetLiteral | MapLiteral:
    """``{}``, ``{a, b}`` or ``{a: b}``."""
    c.expect("{")
    if c.accept("}"):
        return SetLiteral(())
    c.descend()
    first = item(c)
    read: SetLiteral | MapLiteral
    if c.accept(":"):
        entries = [(first, item(c))]
        while c.accept(","):
            key = item(c)
            c.expect(":")
            entries.append((key, item(c)))
        read = MapLiteral(tuple(entries))
    else:
        elements = [first]
        while c.accept(","):
            elements.append(item(c))
        read = SetLiteral(tuple(elements))
    c.depth -= 1
    c.expect("}")
    return read


def hint_ahead(c: Cursor, *, of_column: bool = False) -> bool:
    """Whether ``(`` begins a type hint rather than a tuple: a type, ``)``, and something that can be its operand.

    Args:
        of_column: the operand may be a column.
    """
    end = after_type(c, c.at + 1)
    if end < 0 or c.tags[end] != ")":
        return False
    operand = c.tags[end + 1]
    if operand in VALUE_TAGS or call_ahead(c, end + 1) or (operand == "K_CAST" and c.tags[end + 2] == "("):
        return True
    if operand == ":":
        # ('a') : 1 is an entry of a map, (text) :a hints at a variable.
        return c.tags[c.at + 1] != STRING and c.tags[end + 2] in NAME_TAGS
    return of_column and (operand in NAME_TAGS and not (operand == "K_AS" and c.tags[end + 2] in NAME_TAGS))


def hinted(c: Cursor, operand: Callable[[Cursor], Selectable]) -> TypeHint:
    """``(type) operand``; ``hint_ahead`` has been asked."""
    c.expect("(")
    c.descend()
    of = type_name(c)
    c.expect(")")
    read = TypeHint(of, operand(c))
    c.depth -= 1
    return read
