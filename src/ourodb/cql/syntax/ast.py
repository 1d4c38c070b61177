"""The syntax tree of CQL: what a statement says, before anyone asks whether it makes sense.

``parse`` in ``ourodb.cql.syntax.parser`` builds these nodes; nothing in them is resolved against a schema. Conventions:

- Names are plain ``str`` with their case already resolved: lower-cased unless they were quoted.
- Sequences are tuples, absent clauses are ``None`` or ``()``.
- ``str(node)`` of an expression, relation, assignment or type is CQL again, in the form that Cassandra's messages use;
  parsing it gives an equal node.
- Terms and selectables share nodes. A *term* stands where a value is needed (VALUES, WHERE, SET, USING) and never holds
  columns; a *selectable* stands in a SELECT clause, and may hold ``ColumnRef`` and the other selection nodes anywhere
  inside. The grammar guarantees it: whoever checks a term may treat selection nodes as unreachable.
- Bind markers are numbered from 0 in order of appearance; ``statement.markers`` holds their names (None for ``?``).
  A name that appears twice is two variables.
- Nodes that every statement builds many of are slotted but not frozen, because a frozen dataclass costs twice as
  much to make. Nobody changes a node after the parser let go of it.

Source: Apache Cassandra 5, ``src/antlr/Parser.g`` and ``Lexer.g``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from ourodb.cql.syntax.format import quote_identifier, quote_string

# --- names and types -------------------------------------------------------------------------------------------


@dataclass(slots=True, unsafe_hash=True)
class QualifiedName:
    """A table, index, view, function or user type, with its keyspace if one was written."""

    keyspace: str | None
    name: str

    def __str__(self) -> str:
        name = quote_identifier(self.name)
        return name if self.keyspace is None else f"{quote_identifier(self.keyspace)}.{name}"


@dataclass(frozen=True, slots=True)
class NativeTypeName:
    """``int``, ``text``, ...; name is lower case, as written (``varchar`` stays ``varchar``)."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class ListTypeName:
    element: TypeName

    def __str__(self) -> str:
        return f"list<{self.element}>"


@dataclass(frozen=True, slots=True)
class SetTypeName:
    element: TypeName

    def __str__(self) -> str:
        return f"set<{self.element}>"


@dataclass(frozen=True, slots=True)
class MapTypeName:
    key: TypeName
    value: TypeName

    def __str__(self) -> str:
        return f"map<{self.key}, {self.value}>"


@dataclass(frozen=True, slots=True)
class TupleTypeName:
    elements: tuple[TypeName, ...]

    def __str__(self) -> str:
        return f"tuple<{', '.join(map(str, self.elements))}>"


@dataclass(frozen=True, slots=True)
class VectorTypeName:
    """``vector<element, dimension>``; the dimension may be zero or negative here."""

    element: TypeName
    dimension: int

    def __str__(self) -> str:
        return f"vector<{self.element}, {self.dimension}>"


@dataclass(frozen=True, slots=True)
class FrozenTypeName:
    """``frozen<inner>``; inner may be of any kind, also one that can't be frozen."""

    inner: TypeName

    def __str__(self) -> str:
        return f"frozen<{self.inner}>"


@dataclass(frozen=True, slots=True)
class UserTypeName:
    """A user-defined type."""

    keyspace: str | None
    name: str

    def __str__(self) -> str:
        return str(QualifiedName(self.keyspace, self.name))


@dataclass(frozen=True, slots=True)
class CustomTypeName:
    """A type given by the name of its Java class, in quotes."""

    class_name: str

    def __str__(self) -> str:
        return quote_string(self.class_name)


TypeName: TypeAlias = (
    NativeTypeName
    | ListTypeName
    | SetTypeName
    | MapTypeName
    | TupleTypeName
    | VectorTypeName
    | FrozenTypeName
    | UserTypeName
    | CustomTypeName
)


# --- terms -----------------------------------------------------------------------------------------------------


class ConstantKind(StrEnum):
    """Lexical kind of a constant; the value is the word that Cassandra's messages use."""

    STRING = "STRING"
    INTEGER = "INTEGER"
    FLOAT = "FLOAT"
    BOOLEAN = "BOOLEAN"
    DURATION = "DURATION"
    UUID = "UUID"
    HEX = "HEX"


@dataclass(slots=True, unsafe_hash=True)
class Constant:
    """A literal.

    Attributes:
        text: a string's contents, unquoted and unescaped; anything else as it was written (``-3``, ``1.5e3``, ``TRUE``,
            ``0xCAFE``, ``1h30m``), but the special floats are always ``NaN``, ``Infinity`` or ``-Infinity``.
    """

    kind: ConstantKind
    text: str

    def __str__(self) -> str:
        return quote_string(self.text) if self.kind is ConstantKind.STRING else self.text


@dataclass(slots=True, unsafe_hash=True)
class Null:
    """The literal ``null``."""

    def __str__(self) -> str:
        return "NULL"


@dataclass(slots=True, unsafe_hash=True)
class Marker:
    """A bind marker, ``?`` or ``:name``.

    Attributes:
        index: its place among the statement's markers, from 0.
    """

    index: int
    name: str | None = None

    def __str__(self) -> str:
        return "?" if self.name is None else f":{quote_identifier(self.name)}"


@dataclass(slots=True, unsafe_hash=True)
class ListLiteral:
    """``[a, b]``: a list or a vector, as the receiver's type will tell."""

    elements: tuple[Selectable, ...]

    def __str__(self) -> str:
        return f"[{', '.join(map(str, self.elements))}]"


@dataclass(slots=True, unsafe_hash=True)
class SetLiteral:
    """``{a, b}``; with no elements, ``{}``, it may be an empty map as well."""

    elements: tuple[Selectable, ...]

    def __str__(self) -> str:
        return f"{{{', '.join(map(str, self.elements))}}}"


@dataclass(slots=True, unsafe_hash=True)
class MapLiteral:
    """``{k: v}``, never empty; keys may repeat."""

    entries: tuple[tuple[Selectable, Selectable], ...]

    def __str__(self) -> str:
        return f"{{{', '.join(f'{key}: {value}' for key, value in self.entries)}}}"


@dataclass(slots=True, unsafe_hash=True)
class UdtLiteral:
    """``{field: v}``, never empty; the last of repeated fields counts.

    In a SELECT clause it may also be a map whose keys are all bare columns.
    """

    fields: tuple[tuple[str, Selectable], ...]

    def __str__(self) -> str:
        return f"{{{', '.join(f'{quote_identifier(name)}: {value}' for name, value in self.fields)}}}"


@dataclass(slots=True, unsafe_hash=True)
class TupleLiteral:
    """``(a, b)``; with one element it may be just that element in parentheses, as the receiver's type will tell."""

    elements: tuple[Selectable, ...]

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.elements))})"


@dataclass(slots=True, unsafe_hash=True)
class FunctionCall:
    """``f(a)``, ``ks.f(a)``, ``token(a)``, ``count(1)``; ``count(*)`` is ``CountRows``."""

    name: QualifiedName
    arguments: tuple[Selectable, ...]

    def __str__(self) -> str:
        keyspace = "" if self.name.keyspace is None else f"{quote_identifier(self.name.keyspace)}."
        name = self.name.name if self.name.name == "token" else quote_identifier(self.name.name)
        return f"{keyspace}{name}({', '.join(map(str, self.arguments))})"


@dataclass(slots=True, unsafe_hash=True)
class TypeHint:
    """``(type) operand``: tells the type, converts nothing."""

    type: TypeName
    operand: Selectable

    def __str__(self) -> str:
        return f"({self.type}){self.operand}"


@dataclass(slots=True, unsafe_hash=True)
class Cast:
    """``CAST(operand AS type)``: converts."""

    operand: Selectable
    type: NativeTypeName

    def __str__(self) -> str:
        return f"CAST({self.operand} AS {self.type})"


@dataclass(slots=True, unsafe_hash=True)
class Arithmetic:
    """``left op right``; op is one of ``+ - * / %``. Parentheses survive as one-element tuples."""

    op: str
    left: Selectable
    right: Selectable

    def __str__(self) -> str:
        return f"{self.left} {self.op} {self.right}"


@dataclass(slots=True, unsafe_hash=True)
class Negation:
    """``-operand``, where the operand isn't a number literal (``-3`` is a constant)."""

    operand: Selectable

    def __str__(self) -> str:
        return f"-{self.operand}" if not isinstance(self.operand, Negation) else f"- {self.operand}"


Term: TypeAlias = (
    Constant
    | Null
    | Marker
    | ListLiteral
    | SetLiteral
    | MapLiteral
    | UdtLiteral
    | TupleLiteral
    | FunctionCall
    | TypeHint
    | Cast
    | Arithmetic
    | Negation
)


# --- columns, and what stands in a SELECT clause ---------------------------------------------------------------


@dataclass(slots=True, unsafe_hash=True)
class ColumnRef:
    """A column by its name; the empty name can only come from ``""``."""

    name: str

    def __str__(self) -> str:
        return quote_identifier(self.name)


@dataclass(slots=True, unsafe_hash=True)
class FieldSelection:
    """``operand.field``."""

    operand: Selectable
    field: str

    def __str__(self) -> str:
        return f"{self.operand}.{quote_identifier(self.field)}"


@dataclass(slots=True, unsafe_hash=True)
class ElementSelection:
    """``operand[key]``."""

    operand: Selectable
    key: Term

    def __str__(self) -> str:
        return f"{self.operand}[{self.key}]"


@dataclass(slots=True, unsafe_hash=True)
class SliceSelection:
    """``operand[low..high]``; one bound may be missing."""

    operand: Selectable
    low: Term | None
    high: Term | None

    def __str__(self) -> str:
        low = "" if self.low is None else str(self.low)
        high = "" if self.high is None else str(self.high)
        return f"{self.operand}[{low} .. {high}]" if low else f"{self.operand}[.. {high}]"


@dataclass(slots=True, unsafe_hash=True)
class CountRows:
    """``count(*)``."""

    def __str__(self) -> str:
        return "COUNT(*)"


class CellProperty(StrEnum):
    """What can be asked about a cell besides its value."""

    WRITETIME = "writetime"
    MAXWRITETIME = "maxwritetime"
    TTL = "ttl"


@dataclass(slots=True, unsafe_hash=True)
class CellPropertySelection:
    """``writetime(c)``, ``maxwritetime(c)``, ``ttl(c)``.

    Attributes:
        operand: a column, or fields, elements or slices of one.
    """

    property: CellProperty
    operand: Selectable

    def __str__(self) -> str:
        return f"{self.property}({self.operand})"


Selectable: TypeAlias = (
    Constant
    | Null
    | Marker
    | ListLiteral
    | SetLiteral
    | MapLiteral
    | UdtLiteral
    | TupleLiteral
    | FunctionCall
    | TypeHint
    | Cast
    | Arithmetic
    | Negation
    | ColumnRef
    | FieldSelection
    | ElementSelection
    | SliceSelection
    | CountRows
    | CellPropertySelection
)


@dataclass(slots=True, unsafe_hash=True)
class Selector:
    """One item of a SELECT clause."""

    expression: Selectable
    alias: str | None = None

    def __str__(self) -> str:
        return str(self.expression) if self.alias is None else f"{self.expression} AS {quote_identifier(self.alias)}"


# --- relations (WHERE) and conditions (IF) -----------------------------------------------------------------------


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
    """``target op value``. Only a column takes LIKE and the CONTAINS family; ``TupleRef`` compares with a tuple or a marker."""

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
            ``TupleLiteral`` or all are markers.
    """

    target: RelationTarget
    values: tuple[Term, ...] | Marker
    negated: bool = False

    def __str__(self) -> str:
        values = str(self.values) if isinstance(self.values, Marker) else f"({', '.join(map(str, self.values))})"
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
