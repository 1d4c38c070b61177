"""Selectors that look into a cell: elements and slices of collections, fields of user types, write times and TTLs.

A column that isn't frozen is a cell for each element, each with a write time and a TTL of its own; a frozen one is a
single cell. ``writetime`` and ``ttl`` follow that: a list for a whole collection or user type, one value else.

Source: Apache Cassandra 5, ``ElementsSelector``, ``FieldSelector``, ``WritetimeOrTTLSelector``, ``ColumnTimestamps``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import TypeAlias

from ourodb.cql.analysis.row_values import elements_of
from ourodb.cql.analysis.selection.selectable import Bind, RowFunction, Selectable
from ourodb.cql.analysis.terms import BoundTerm, Environment
from ourodb.cql.syntax.ast import CellProperty
from ourodb.cql.types import native
from ourodb.cql.types.base import CqlType
from ourodb.cql.types.collection import CollectionType, ListType, MapType, SetType
from ourodb.cql.types.composite import UserType
from ourodb.cql.wire.primitives import UnsetType, Value
from ourodb.errors import InvalidRequest
from ourodb.schema.model import Column, ColumnKind
from ourodb.storage.row import LiveCell, LiveElement, LiveRow

_LONG = struct.Struct(">q")
_INT = struct.Struct(">i")

Moment: TypeAlias = tuple[int, int, int]
"""(timestamp, ttl or 0, expires_at or 0) of a cell."""


# --- elements, slices, fields -----------------------------------------------------------------------------------


def key_type(type: CollectionType) -> CqlType:
    """What ``c[...]`` of a set or map takes."""
    return type.key if isinstance(type, MapType) else type.element


def _entries(type: CollectionType, value: bytes) -> list[tuple[bytes, bytes]]:
    """(key, entry) of a map, (element, element) of a set."""
    if isinstance(type, MapType):
        return type.split(value)
    assert isinstance(type, SetType)
    return [(element, element) for element in type.split(value)]


def element(operand: Selectable, type: CollectionType, key: BoundTerm, key_text: str) -> Selectable:
    """``operand[key]`` of a map, or of a set (the element itself, if it is there)."""
    compare = key_type(type).compare
    name = f"{operand.name}[{key_text}]"

    def bind(values: Sequence[Value], environment: Environment) -> RowFunction:
        wanted = key.evaluate(values, environment)
        if wanted is None:
            raise InvalidRequest(f"Invalid null value for element selection on {operand.name}")
        if isinstance(wanted, UnsetType):
            raise InvalidRequest(f"Invalid unset value for element selection on {operand.name}")
        whole = operand.bind(values, environment)

        def on_row(row: LiveRow) -> bytes | None:
            value = whole(row)
            for path, entry in _entries(type, value) if value else ():
                if compare(path, wanted) == 0:
                    return entry
            return None

        return on_row

    return Selectable(type.element, name, operand.columns, bind)


def piece(
    operand: Selectable, type: CollectionType, low: BoundTerm | None, high: BoundTerm | None, text: str
) -> Selectable:
    """``operand[low..high]`` of a set or map: the part between, both ends included."""
    compare = key_type(type).compare

    def limit(term: BoundTerm | None, values: Sequence[Value], environment: Environment) -> bytes | None:
        if term is None:
            return None
        value = term.evaluate(values, environment)
        if value is None:
            raise InvalidRequest(f"Invalid null value for slice selection on {operand.name}")
        return None if isinstance(value, UnsetType) else value

    def bind(values: Sequence[Value], environment: Environment) -> RowFunction:
        least, greatest = limit(low, values, environment), limit(high, values, environment)
        whole = operand.bind(values, environment)

        def on_row(row: LiveRow) -> bytes | None:
            value = whole(row)
            if not value:
                return None
            found = [
                entry
                for entry in _entries(type, value)
                if (least is None or compare(entry[0], least) >= 0)
                and (greatest is None or compare(entry[0], greatest) <= 0)
            ]
            if not found and type.is_multicell:
                return None
            if isinstance(type, MapType):
                return type.join(found)
            assert isinstance(type, SetType)
            return type.join([path for path, _ in found])

        return on_row

    return Selectable(type, f"{operand.name}{text}", operand.columns, bind)


def field(operand: Selectable, type: UserType, name: str, index: int) -> Selectable:
    """``operand.field``."""

    def bind(values: Sequence[Value], environment: Environment) -> RowFunction:
        whole = operand.bind(values, environment)

        def on_row(row: LiveRow) -> bytes | None:
            value = whole(row)
            if value is None:
                return None
            parts = type.split(value)
            return parts[index] if index < len(parts) else None

        return on_row

    return Selectable(type.components[index], f"{operand.name}.{name}", operand.columns, bind)


# --- write times and TTLs ---------------------------------------------------------------------------------------


class PropertyTarget:
    """What ``writetime`` or ``ttl`` is asked of: a column, or an element, slice or field of one.

    Attributes:
        key: of an element; ``low`` and ``high``: of a slice; ``field``: index of a field.
    """

    __slots__ = ("column", "field", "high", "is_slice", "key", "low")

    def __init__(
        self,
        column: Column,
        *,
        key: BoundTerm | None = None,
        low: BoundTerm | None = None,
        high: BoundTerm | None = None,
        is_slice: bool = False,
        field: int | None = None,
    ) -> None:
        self.column = column
        self.key = key
        self.low = low
        self.high = high
        self.is_slice = is_slice
        self.field = field

    @property
    def is_one_cell(self) -> bool:
        return not self.column.type.is_multicell or self.key is not None or self.field is not None


def _cell_of(column: Column) -> Callable[[LiveRow], LiveCell | None]:
    column_id = column.id
    if column.kind is ColumnKind.STATIC:

        def of_static(row: LiveRow) -> LiveCell | None:
            static = row.partition.static
            return None if static is None else static.cells.get(column_id)

        return of_static
    return lambda row: row.cells.get(column_id)


def _bound_value(term: BoundTerm | None, values: Sequence[Value], environment: Environment) -> bytes | None:
    if term is None:
        return None
    value = term.evaluate(values, environment)
    return None if isinstance(value, UnsetType) else value


def _chosen(
    target: PropertyTarget, values: Sequence[Value], environment: Environment
) -> Callable[[LiveElement], bool]:
    """Whether an element is one that is asked for."""
    type = target.column.type
    if target.field is not None:
        path = target.field.to_bytes(2, "big")
        return lambda element: element[0] == path
    if not isinstance(type, (MapType, SetType)) or not (target.is_slice or target.key is not None):
        return lambda element: True
    compare = key_type(type).compare
    key = _bound_value(target.key, values, environment)
    if key is not None:
        return lambda element: compare(element[0], key) == 0
    low = _bound_value(target.low, values, environment)
    high = _bound_value(target.high, values, environment)
    return lambda element: (
        (low is None or compare(element[0], low) >= 0) and (high is None or compare(element[0], high) <= 0)
    )


def _moments(
    target: PropertyTarget, values: Sequence[Value], environment: Environment
) -> Callable[[LiveRow], list[Moment | None]]:
    column = target.column
    if not column.type.is_multicell:
        cell_of = _cell_of(column)

        def of_cell(row: LiveRow) -> list[Moment | None]:
            cell = cell_of(row)
            return [] if cell is None else [cell[1:4]]

        return of_cell
    elements = elements_of(column)
    chosen = _chosen(target, values, environment)
    type = column.type
    if isinstance(type, UserType) and target.field is None:
        count = len(type.field_names)

        def of_fields(row: LiveRow) -> list[Moment | None]:
            found = elements(row)
            if not found:
                return []
            by_field: list[Moment | None] = [None] * count
            for path, _, *moment in found:
                by_field[path[0] << 8 | path[1]] = (moment[0], moment[1], moment[2])
            return by_field

        return of_fields
    return lambda row: [each[2:5] for each in elements(row) or () if chosen(each)]


def _joined(list_type: ListType, parts: list[bytes | None]) -> bytes:
    """A list whose elements may be null: fields of a user type that aren't set."""
    if None not in parts:
        return list_type.join([part for part in parts if part is not None])
    body = [b"\xff\xff\xff\xff" if part is None else _INT.pack(len(part)) + part for part in parts]
    return _INT.pack(len(parts)) + b"".join(body)


def cell_property(
    property: CellProperty, target: PropertyTarget, operand_name: str, now_s: Callable[[Environment], int]
) -> Selectable:
    """``writetime(...)``, ``maxwritetime(...)``, ``ttl(...)``.

    Args:
        now_s: the moment at which TTLs are counted.
    """
    name = f"{property}({operand_name})"
    is_ttl = property is CellProperty.TTL
    element_type = native.INT if is_ttl else native.BIGINT

    def bind_moments(
        values: Sequence[Value], environment: Environment
    ) -> Callable[[LiveRow], list[bytes | None]]:
        moments = _moments(target, values, environment)
        if not is_ttl:
            return lambda row: [None if each is None else _LONG.pack(each[0]) for each in moments(row)]
        now = now_s(environment)
        return lambda row: [
            None if each is None or not each[1] else _INT.pack(each[2] - now) for each in moments(row)
        ]

    bind: Bind
    type: CqlType = element_type
    if property is CellProperty.MAXWRITETIME:

        def bind(values: Sequence[Value], environment: Environment) -> RowFunction:
            packed = bind_moments(values, environment)

            def greatest(row: LiveRow) -> bytes | None:
                found = [_LONG.unpack(each)[0] for each in packed(row) if each is not None]
                return _LONG.pack(max(found)) if found else None

            return greatest

    elif target.is_one_cell:

        def bind(values: Sequence[Value], environment: Environment) -> RowFunction:
            packed = bind_moments(values, environment)

            def only(row: LiveRow) -> bytes | None:
                found = packed(row)
                return found[0] if found else None

            return only

    else:
        list_type = ListType(element_type)
        type = list_type

        def bind(values: Sequence[Value], environment: Environment) -> RowFunction:
            packed = bind_moments(values, environment)

            def each_one(row: LiveRow) -> bytes | None:
                found = packed(row)
                return _joined(list_type, found) if found else None

            return each_one

    return Selectable(type, name, (target.column,), bind)
