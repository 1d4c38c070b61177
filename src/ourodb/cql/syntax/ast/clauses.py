"""What WHERE, IF, SET and DELETE are made of: relations, conditions, assignments, deletions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from ourodb.cql.syntax.ast.terms import ColumnRef, Marker, Term
from ourodb.cql.syntax.format import quote_identifier


class Operator(StrEnum):
    """Operators of a ``Relation``; the value is their CQL. IN, BETWEEN and IS NOT NULL have nodes of their own."""

    EQ = "="
    LT = "<"
    LTE = "<="
    GT = ">"
    GTE = ">="
    NEQ = "!="
    LIKE = "LIKE"
    CONTAINS = "CONTAINS"
    CONTAINS_KEY = "CONTAINS KEY"
    NOT_CONTAINS = "NOT CONTAINS"
    NOT_CONTAINS_KEY = "NOT CONTAINS KEY"


@dataclass(slots=True, unsafe_hash=True)
class TokenRef:
    """``token(a, b)`` on the left of a relation."""

    columns: tuple[str, ...]

    def __str__(self) -> str:
        return f"token({', '.join(map(quote_identifier, self.columns))})"


@dataclass(slots=True, unsafe_hash=True)
class TupleRef:
    """``(a, b)`` on the left of a relation."""

    columns: tuple[str, ...]

    def __str__(self) -> str:
        return f"({', '.join(map(quote_identifier, self.columns))})"


@dataclass(slots=True, unsafe_hash=True)
class ElementRef:
    """``column[key]`` on the left of a relation or condition."""

    column: str
    key: Term

    def __str__(self) -> str:
        return f"{quote_identifier(self.column)}[{self.key}]"


@dataclass(slots=True, unsafe_hash=True)
class FieldRef:
    """``column.field`` on the left of a condition."""

    column: str
    field: str

    def __str__(self) -> str:
        return f"{quote_identifier(self.column)}.{quote_identifier(self.field)}"


RelationTarget: TypeAlias = ColumnRef | TokenRef | TupleRef | ElementRef | FieldRef


@dataclass(slots=True, unsafe_hash=True)
class Relation:
    """``target op value``.

    Only a column takes LIKE and the CONTAINS family; a ``TupleRef`` compares with a tuple or a marker.
    """

    target: RelationTarget
    op: Operator
    value: Term

    def __str__(self) -> str:
        return f"{self.target} {self.op} {self.value}"


@dataclass(slots=True, unsafe_hash=True)
class InRelation:
    """``target IN (a, b)`` or ``target IN ?``, or NOT IN.

    Attributes:
        target: never a ``TokenRef``.
        values: the terms, or the one marker that stands for the whole list; for a ``TupleRef`` each term is a
            ``TupleLiteral`` or a marker.
    """

    target: RelationTarget
    values: tuple[Term, ...] | Marker
    negated: bool = False

    def __str__(self) -> str:
        values = (
            str(self.values) if isinstance(self.values, Marker) else f"({', '.join(map(str, self.values))})"
        )
        return f"{self.target} {'NOT IN' if self.negated else 'IN'} {values}"


@dataclass(slots=True, unsafe_hash=True)
class BetweenRelation:
    """``target BETWEEN low AND high``; the target is a column, a token or a tuple."""

    target: RelationTarget
    low: Term
    high: Term

    def __str__(self) -> str:
        return f"{self.target} BETWEEN {self.low} AND {self.high}"


@dataclass(slots=True, unsafe_hash=True)
class NotNullRelation:
    """``column IS NOT NULL``."""

    target: ColumnRef

    def __str__(self) -> str:
        return f"{self.target} IS NOT NULL"


@dataclass(slots=True, unsafe_hash=True)
class IndexExpression:
    """``expr(index, value)``, a custom index's own language."""

    index: str
    value: Term

    def __str__(self) -> str:
        return f"expr({quote_identifier(self.index)}, {self.value})"


WhereItem: TypeAlias = Relation | InRelation | BetweenRelation | NotNullRelation | IndexExpression
"""One of the parts that AND joins in a WHERE clause."""

Condition: TypeAlias = Relation | InRelation
"""One of the parts that AND joins in an IF clause; its target is a ``ColumnRef``, ``ElementRef`` or ``FieldRef``."""


# --- assignments and deletions -----------------------------------------------------------------------------------


@dataclass(slots=True, unsafe_hash=True)
class SetColumn:
    """``column = value``."""

    column: str
    value: Term

    def __str__(self) -> str:
        return f"{quote_identifier(self.column)} = {self.value}"


@dataclass(slots=True, unsafe_hash=True)
class AddToColumn:
    """``column = column + value`` or ``column += value``; also ``column = column -3``, which adds the constant -3."""

    column: str
    value: Term

    def __str__(self) -> str:
        column = quote_identifier(self.column)
        return f"{column} = {column} + {self.value}"


@dataclass(slots=True, unsafe_hash=True)
class SubtractFromColumn:
    """``column = column - value`` or ``column -= value``."""

    column: str
    value: Term

    def __str__(self) -> str:
        column = quote_identifier(self.column)
        return f"{column} = {column} - {self.value}"


@dataclass(slots=True, unsafe_hash=True)
class PrependToColumn:
    """``column = value + column``."""

    column: str
    value: Term

    def __str__(self) -> str:
        column = quote_identifier(self.column)
        return f"{column} = {self.value} + {column}"


@dataclass(slots=True, unsafe_hash=True)
class SetElement:
    """``column[key] = value``."""

    column: str
    key: Term
    value: Term

    def __str__(self) -> str:
        return f"{quote_identifier(self.column)}[{self.key}] = {self.value}"


@dataclass(slots=True, unsafe_hash=True)
class SetField:
    """``column.field = value``."""

    column: str
    field: str
    value: Term

    def __str__(self) -> str:
        return f"{quote_identifier(self.column)}.{quote_identifier(self.field)} = {self.value}"


Assignment: TypeAlias = SetColumn | AddToColumn | SubtractFromColumn | PrependToColumn | SetElement | SetField


@dataclass(slots=True, unsafe_hash=True)
class DeleteColumn:
    """``DELETE column``."""

    column: str

    def __str__(self) -> str:
        return quote_identifier(self.column)


@dataclass(slots=True, unsafe_hash=True)
class DeleteElement:
    """``DELETE column[key]``."""

    column: str
    key: Term

    def __str__(self) -> str:
        return f"{quote_identifier(self.column)}[{self.key}]"


@dataclass(slots=True, unsafe_hash=True)
class DeleteField:
    """``DELETE column.field``."""

    column: str
    field: str

    def __str__(self) -> str:
        return f"{quote_identifier(self.column)}.{quote_identifier(self.field)}"


Deletion: TypeAlias = DeleteColumn | DeleteElement | DeleteField
