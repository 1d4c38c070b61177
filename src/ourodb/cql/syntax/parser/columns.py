"""What may follow a column's type in its definition: a mask, constraints."""

from __future__ import annotations

from ourodb.cql.syntax.ast import ColumnConstraint, ColumnMask, QualifiedName
from ourodb.cql.syntax.parser.cursor import Cursor, function_name, name
from ourodb.cql.syntax.parser.terms import comma_separated, simple_term, term
from ourodb.cql.syntax.parser.where import comparison, comparison_ahead


def column_mask(c: Cursor) -> ColumnMask | None:
    """``MASKED WITH ...``, if it comes."""
    if not c.accept("K_MASKED"):
        return None
    c.expect("K_WITH")
    if c.tags[c.at] == "K_DEFAULT" and c.tags[c.at + 1] not in ("(", "."):
        c.at += 1
        return ColumnMask(QualifiedName(None, "mask_default"))
    function = function_name(c)
    c.expect("(")
    return ColumnMask(function, comma_separated(c, term, ")"))


def constraints(c: Cursor) -> tuple[ColumnConstraint, ...]:
    """``CHECK ... AND ...``, if it comes."""
    if not c.accept("K_CHECK"):
        return ()
    read = [_constraint(c)]
    while c.accept("K_AND"):
        read.append(_constraint(c))
    return tuple(read)


def _constraint(c: Cursor) -> ColumnConstraint:
    first = name(c)
    if c.accept("("):
        of = name(c)
        c.expect(")")
        if not comparison_ahead(c):
            return ColumnConstraint(of, first)
        return ColumnConstraint(of, first, comparison(c), simple_term(c))
    return ColumnConstraint(first, None, comparison(c), simple_term(c))
