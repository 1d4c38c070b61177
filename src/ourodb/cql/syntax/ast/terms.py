"""Terms and selectables: everything that has a value. The package's docstring tells who may hold whom."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from ourodb.cql.syntax.ast.names import NativeTypeName, QualifiedName, TypeName
from ourodb.cql.syntax.format import quote_function_name, quote_identifier, quote_string


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
        return f"{keyspace}{quote_function_name(self.name.name)}({', '.join(map(str, self.arguments))})"


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
    """``-operand``; of a number only when there is a blank between: ``-3`` is a constant, ``- 3`` a negation."""

    operand: Selectable

    def __str__(self) -> str:
        operand = str(self.operand)
        return f"- {operand}" if operand[0] == "-" or isinstance(self.operand, Constant) else f"-{operand}"


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
        low = "" if self.low is None else f"{self.low} "
        high = "" if self.high is None else f" {self.high}"
        return f"{self.operand}[{low}..{high}]"


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
        return (
            str(self.expression)
            if self.alias is None
            else f"{self.expression} AS {quote_identifier(self.alias)}"
        )
