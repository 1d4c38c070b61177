"""What stands in a SELECT clause, and after GROUP BY."""

from __future__ import annotations

from ourodb.cql.syntax.ast import (
    Cast,
    CellProperty,
    CellPropertySelection,
    ColumnRef,
    CountRows,
    ElementSelection,
    FieldSelection,
    FunctionCall,
    ListLiteral,
    MapLiteral,
    Negation,
    Selectable,
    Selector,
    SliceSelection,
    TupleLiteral,
    UdtLiteral,
)
from ourodb.cql.syntax.lexer import NAME_TAGS
from ourodb.cql.syntax.parser.cursor import Cursor, call_ahead, function_name, name
from ourodb.cql.syntax.parser.terms import (
    EXPRESSION_STARTS,
    arithmetic,
    comma_separated,
    hint_ahead,
    hinted,
    literal,
    set_or_map,
    term,
)
from ourodb.cql.syntax.parser.types import native_type_name

_CELL_PROPERTIES = {
    "K_WRITETIME": CellProperty.WRITETIME,
    "K_MAXWRITETIME": CellProperty.MAXWRITETIME,
    "K_TTL": CellProperty.TTL,
}
# What may follow a selectable. Anything else behind a bare column is blamed on the column.
_AFTER_SELECTABLE = frozenset(
    """
    , ) ] } : . [ + - * / % ; EOF K_FROM K_AS K_ORDER K_PER K_LIMIT K_ALLOW
    """.split()
)


def selectors(c: Cursor) -> tuple[Selector, ...]:
    """``*`` (then empty) or selectors with commas."""
    if c.accept("*"):
        return ()
    read = [_selector(c)]
    while c.accept(","):
        read.append(_selector(c))
    return tuple(read)


def selectors_ahead(c: Cursor, at: int) -> bool:
    """Whether selectors begin at this token, behind a word that may be a keyword or a column itself."""
    tag = c.tags[at]
    if tag == "K_AS" and c.tags[at + 1] in NAME_TAGS:
        return False
    return tag in EXPRESSION_STARTS or tag == "*"


def _selector(c: Cursor) -> Selector:
    expression = selectable(c)
    return Selector(expression, name(c)) if c.accept("K_AS") else Selector(expression)


def selectable(c: Cursor) -> Selectable:
    """One selector, without its alias."""
    if c.tags[c.at] in NAME_TAGS and c.tags[c.at + 1] in _ENDS:
        return ColumnRef(name(c))
    read = arithmetic(c, _operand)
    if c.tags[c.at] not in _AFTER_SELECTABLE:
        raise c.no_viable()
    return read


_ENDS = frozenset((",", "K_FROM", "K_AS", ")"))


def _operand(c: Cursor) -> Selectable:
    if c.tags[c.at] == "-":
        c.at += 1
        c.descend()
        read = Negation(_operand(c))
        c.depth -= 1
        return read
    return _modified(c, _simple(c))


def _modified(c: Cursor, operand: Selectable) -> Selectable:
    """The operand with the fields, elements and slices taken from it."""
    while True:
        if c.accept("."):
            operand = FieldSelection(operand, name(c))
        elif c.accept("["):
            operand = _element_or_slice(c, operand)
            c.expect("]")
        else:
            return operand
        c.count_operator()


def _element_or_slice(c: Cursor, operand: Selectable) -> Selectable:
    if c.accept(".."):
        return SliceSelection(operand, None, term(c))
    low = term(c)
    if c.accept(".."):
        return SliceSelection(operand, low, None if c.tags[c.at] == "]" else term(c))
    return ElementSelection(operand, low)


def _simple(c: Cursor) -> Selectable:
    tag = c.tags[c.at]
    if tag == "(":
        if hint_ahead(c, of_column=True):
            return hinted(c, _simple)
        c.at += 1
        if c.tags[c.at] == ")":
            raise c.no_viable()
        return TupleLiteral(comma_separated(c, selectable, ")"))
    if tag == "[":
        c.at += 1
        return ListLiteral(comma_separated(c, selectable, "]", EXPRESSION_STARTS))
    if tag == "{":
        return _set_map_or_udt(c)
    if c.tags[c.at + 1] == "(":
        if tag in _CELL_PROPERTIES:
            return _cell_property(c)
        if tag == "K_CAST":
            return _cast(c)
        if tag == "K_COUNT" and c.tags[c.at + 2] == "*":
            c.expect("K_COUNT", "(", "*", ")")
            return CountRows()
    if call_ahead(c, c.at):
        function = function_name(c)
        c.expect("(")
        return FunctionCall(function, comma_separated(c, selectable, ")", EXPRESSION_STARTS))
    if tag not in NAME_TAGS:
        return literal(c)
    column = ColumnRef(name(c))
    if c.tags[c.at] not in _AFTER_SELECTABLE:
        raise c.no_viable(c.at - 1)
    return column


def _cell_property(c: Cursor) -> CellPropertySelection:
    asked = _CELL_PROPERTIES[c.tags[c.at]]
    c.at += 1
    c.expect("(")
    operand = _modified(c, ColumnRef(name(c)))
    c.expect(")")
    return CellPropertySelection(asked, operand)


def _cast(c: Cursor) -> Cast:
    c.expect("K_CAST", "(")
    c.descend()
    operand = selectable(c)
    c.expect("K_AS")
    to = native_type_name(c)
    c.expect(")")
    c.depth -= 1
    return Cast(operand, to)


def _set_map_or_udt(c: Cursor) -> Selectable:
    read = set_or_map(c, selectable)
    if isinstance(read, MapLiteral):
        fields = [(key.name, value) for key, value in read.entries if isinstance(key, ColumnRef)]
        if len(fields) == len(read.entries):
            return UdtLiteral(tuple(fields))
    return read
