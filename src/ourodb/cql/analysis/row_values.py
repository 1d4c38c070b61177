"""From a live row to the value of a column, as wire bytes.

Collections and user types that aren't frozen lie in the store element by element; here they become one value again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from ourodb.cql.types.base import CqlType
from ourodb.cql.types.collection import ListType, MapType, SetType
from ourodb.cql.types.composite import UserType
from ourodb.schema.model import Column, ColumnKind
from ourodb.storage.row import LiveElement, LiveRow

RowValue: TypeAlias = Callable[[LiveRow], bytes | None]


def elements_joiner(type: CqlType) -> Callable[[list[LiveElement]], bytes]:
    """The value that live elements (not none of them) make together."""
    if isinstance(type, ListType):
        return lambda elements: type.join([element[1] for element in elements])
    if isinstance(type, SetType):
        return lambda elements: type.join([element[0] for element in elements])
    if isinstance(type, MapType):
        return lambda elements: type.join([(element[0], element[1]) for element in elements])
    assert isinstance(type, UserType)
    count = len(type.field_names)

    def fields(elements: list[LiveElement]) -> bytes:
        values: list[bytes | None] = [None] * count
        for path, value, *_ in elements:
            values[path[0] << 8 | path[1]] = value
        return type.join(values)

    return fields


def elements_of(column: Column) -> Callable[[LiveRow], list[LiveElement] | None]:
    """The live elements of a multicell column, None when there are none."""
    column_id = column.id
    if column.kind is ColumnKind.STATIC:

        def of_static(row: LiveRow) -> list[LiveElement] | None:
            static = row.partition.static
            return None if static is None else static.elements.get(column_id)

        return of_static
    return lambda row: row.elements.get(column_id)


def row_value(column: Column) -> RowValue:
    """The column's value in a row."""
    column_id = column.id
    index = column.position
    if column.kind is ColumnKind.PARTITION_KEY:
        return lambda row: row.partition.values[index]
    if column.kind is ColumnKind.CLUSTERING:
        # The row that stands for a partition of nothing but statics has no clustering.
        return lambda row: None if row.clustering_key is None else row.clustering[index]
    if column.type.is_multicell:
        elements = elements_of(column)
        join = elements_joiner(column.type)

        def multicell(row: LiveRow) -> bytes | None:
            found = elements(row)
            return join(found) if found else None

        return multicell
    if column.kind is ColumnKind.STATIC:

        def static(row: LiveRow) -> bytes | None:
            static_row = row.partition.static
            if static_row is None:
                return None
            cell = static_row.cells.get(column_id)
            return None if cell is None else cell[0]

        return static

    def regular(row: LiveRow) -> bytes | None:
        cell = row.cells.get(column_id)
        return None if cell is None else cell[0]

    return regular
