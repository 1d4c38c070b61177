"""Names and types as they are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from ourodb.cql.syntax.format import quote_identifier, quote_string, quote_type_name


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
    """``frozen<inner>``; inner is neither native nor custom."""

    inner: TypeName

    def __str__(self) -> str:
        return f"frozen<{self.inner}>"


@dataclass(frozen=True, slots=True)
class UserTypeName:
    """A user-defined type."""

    keyspace: str | None
    name: str

    def __str__(self) -> str:
        name = quote_type_name(self.name)
        return name if self.keyspace is None else f"{quote_identifier(self.keyspace)}.{name}"


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
