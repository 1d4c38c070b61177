"""IF: what a conditional statement asks of the row that it is about to change.

A condition is compiled into a predicate over the row as it is. The existence conditions (IF EXISTS, IF NOT
EXISTS) need no
predicate: the plan asks whether there is a row.

Source: Apache Cassandra 5, ``ColumnCondition`` and ``Operator``; null follows its rules: a null value on
either side satisfies only = null and != something, any other operator refuses a null in the condition.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import TypeAlias

from ourodb.cql.analysis.operations import column_of
from ourodb.cql.analysis.row_values import elements_joiner
from ourodb.cql.analysis.terms import (
    ColumnSpec,
    Context,
    Environment,
    Evaluate,
    column_spec,
    element_spec,
    prepare,
)
from ourodb.cql.syntax import ast
from ourodb.cql.syntax.ast import Operator
from ourodb.cql.types import INT, CqlType, ListType, MapType, SetType, UserType
from ourodb.cql.wire.primitives import UNSET, Value
from ourodb.errors import InvalidRequest
from ourodb.schema.model import Column, ColumnKind, Table
from ourodb.storage.row import LiveRow

_INT = struct.Struct(">i")

ReadColumn: TypeAlias = Callable[[LiveRow | None, Sequence[Value], Environment], bytes | None]
"""The left side of a condition in the present row: wire bytes, or None for null."""

_COMPARISONS: dict[Operator, Callable[[int], bool]] = {
    Operator.EQ: lambda order: order == 0,
    Operator.NEQ: lambda order: order != 0,
    Operator.LT: lambda order: order < 0,
    Operator.LTE: lambda order: order <= 0,
    Operator.GT: lambda order: order > 0,
    Operator.GTE: lambda order: order >= 0,
}


class Condition:
    """One part of an IF clause.

    Attributes:
        column: what it is about; the result of a failed statement shows it.
        holds: whether the row (the static row for a static column; None where there is none) satisfies it.
    """

    __slots__ = ("column", "holds")

    def __init__(
        self, column: Column, holds: Callable[[LiveRow | None, Sequence[Value], Environment], bool]
    ) -> None:
        self.column = column
        self.holds = holds


def prepare_condition(condition: ast.Condition, table: Table, context: Context) -> Condition:
    """A part of an IF clause, checked and compiled.

    Raises:
        InvalidRequest: with Cassandra's text.
    """
    target = condition.target
    assert isinstance(target, ast.ColumnRef | ast.ElementRef | ast.FieldRef)
    column = column_of(table, target.name if isinstance(target, ast.ColumnRef) else target.column)
    if column.kind in (ColumnKind.PARTITION_KEY, ColumnKind.CLUSTERING):
        raise InvalidRequest(f"PRIMARY KEY column '{column.name}' cannot have IF conditions")
    if column.type.is_counter:
        raise InvalidRequest("Conditions on counters are not supported")
    read, spec = _target(target, column, column_spec(table, column), context)
    if isinstance(condition, ast.InRelation):
        return Condition(column, _in(condition, read, spec, context))
    if condition.op in (Operator.CONTAINS, Operator.CONTAINS_KEY):
        return Condition(column, _contains(condition, read, spec, context))
    if condition.op not in _COMPARISONS:
        raise InvalidRequest(f"Unsupported condition operator {condition.op}")
    if spec.type.references_duration and condition.op not in (Operator.EQ, Operator.NEQ):
        raise InvalidRequest("Slice conditions are not supported on durations")
    return Condition(
        column, _compare(condition.op, read, prepare(condition.value, spec, context).evaluate, spec)
    )


def _target(
    target: ast.ColumnRef | ast.ElementRef | ast.FieldRef, column: Column, spec: ColumnSpec, context: Context
) -> tuple[ReadColumn, ColumnSpec]:
    """How to read the left side, and what its right side is for."""
    whole = _whole_reader(column)
    kind = column.type
    if isinstance(target, ast.ColumnRef):
        return whole, spec._replace(type=kind.frozen())
    if isinstance(target, ast.FieldRef):
        if not isinstance(kind, UserType):
            raise InvalidRequest(f"Cannot refer to a field of non-UDT column {column.name}")
        if target.field not in kind.field_names:
            raise InvalidRequest(f"Unknown field {target.field} for column {column.name}")
        index = kind.field_names.index(target.field)
        split_udt = kind.split

        def read_field(
            row: LiveRow | None, values: Sequence[Value], environment: Environment
        ) -> bytes | None:
            value = whole(row, values, environment)
            fields = split_udt(value) if value is not None else []
            return fields[index] if index < len(fields) else None

        return read_field, element_spec(spec, f"{spec.name}.{target.field}", kind.components[index])
    if isinstance(kind, ListType):
        index_of = prepare(target.key, element_spec(spec, f"idx({spec.name})", INT), context).evaluate
        split_list = kind.split

        def read_index(
            row: LiveRow | None, values: Sequence[Value], environment: Environment
        ) -> bytes | None:
            bound = _access(index_of(values, environment), "list")
            if len(bound) != _INT.size:
                raise InvalidRequest("Invalid value for list index")
            index = _INT.unpack(bound)[0]
            if index < 0:
                raise InvalidRequest(f"Invalid negative list index {index}")
            value = whole(row, values, environment)
            elements = split_list(value) if value is not None else []
            return elements[index] if index < len(elements) else None

        return read_index, element_spec(spec, f"value({spec.name})", kind.element)
    if isinstance(kind, MapType):
        key_of = prepare(target.key, element_spec(spec, f"key({spec.name})", kind.key), context).evaluate
        split_map, compare = kind.split, kind.key.compare

        def read_key(row: LiveRow | None, values: Sequence[Value], environment: Environment) -> bytes | None:
            wanted = _access(key_of(values, environment), "map")
            value = whole(row, values, environment)
            for key, element in split_map(value) if value is not None else ():
                if compare(key, wanted) == 0:
                    return element
            return None

        return read_key, element_spec(spec, f"value({spec.name})", kind.element)
    if isinstance(kind, SetType):
        raise InvalidRequest(f"Invalid element access syntax for set column {column.name}")
    raise InvalidRequest(f"Invalid element access syntax for non-collection column {column.name}")


def _access(key: Value, what: str) -> bytes:
    if key is None:
        raise InvalidRequest(f"Invalid null value for {what} element access")
    if key is UNSET:
        raise InvalidRequest(f"Invalid unset value for {what} element access")
    return key  # type: ignore[return-value]


def _whole_reader(column: Column) -> ReadColumn:
    if column.type.is_multicell:
        join = elements_joiner(column.type)
        id = column.id

        def read_elements(
            row: LiveRow | None, values: Sequence[Value], environment: Environment
        ) -> bytes | None:
            elements = row.elements.get(id) if row is not None else None
            return join(elements) if elements else None

        return read_elements

    def read_cell(row: LiveRow | None, values: Sequence[Value], environment: Environment) -> bytes | None:
        cell = row.cells.get(column.id) if row is not None else None
        return cell[0] if cell is not None else None

    return read_cell


def _satisfies(op: Operator, kind: CqlType, present: bytes | None, wanted: Value) -> bool:
    if wanted is UNSET:
        raise InvalidRequest("Invalid 'unset' value in condition")
    if wanted is None:
        if op is Operator.EQ:
            return present is None
        if op is Operator.NEQ:
            return present is not None
        raise InvalidRequest(f'Invalid comparison with null for operator "{op}"')
    if present is None:
        return op is Operator.NEQ
    return _COMPARISONS[op](kind.compare(present, wanted))  # type: ignore[arg-type]


def _compare(
    op: Operator, read: ReadColumn, evaluate: Evaluate, spec: ColumnSpec
) -> Callable[[LiveRow | None, Sequence[Value], Environment], bool]:
    kind = spec.type
    empty = _empty_collection(kind)

    def holds(row: LiveRow | None, values: Sequence[Value], environment: Environment) -> bool:
        present = read(row, values, environment)
        wanted = evaluate(values, environment)
        if present is None and wanted is not None and wanted is not UNSET:
            # A collection that isn't there has no elements.
            present = empty
        return _satisfies(op, kind, present, wanted)

    return holds


def _empty_collection(kind: CqlType) -> bytes | None:
    return b"\x00\x00\x00\x00" if kind.is_collection else None


def _in(
    condition: ast.InRelation, read: ReadColumn, spec: ColumnSpec, context: Context
) -> Callable[[LiveRow | None, Sequence[Value], Environment], bool]:
    if condition.negated:
        raise InvalidRequest("NOT IN is not supported in IF conditions")
    kind = spec.type
    if isinstance(condition.values, ast.Marker):
        list_type = ListType(kind, frozen=True)
        in_spec = spec._replace(name=f"in({spec.name})", type=list_type)
        evaluate = prepare(condition.values, in_spec, context).evaluate

        def among_bound(row: LiveRow | None, values: Sequence[Value], environment: Environment) -> bool:
            wanted = evaluate(values, environment)
            if wanted is None:
                raise InvalidRequest(f"Invalid null list in IN condition on {spec.name}")
            if wanted is UNSET:
                raise InvalidRequest("Invalid 'unset' value in condition")
            present = read(row, values, environment)
            return any(
                _satisfies(Operator.EQ, kind, present, one)
                for one in list_type.split(wanted)  # type: ignore[arg-type]
            )

        return among_bound
    terms = [prepare(value, spec, context).evaluate for value in condition.values]

    def among(row: LiveRow | None, values: Sequence[Value], environment: Environment) -> bool:
        present = read(row, values, environment)
        # An unset value in the list counts for nothing.
        wanted = [value for term in terms if (value := term(values, environment)) is not UNSET]
        return any(_satisfies(Operator.EQ, kind, present, value) for value in wanted)

    return among


def _contains(
    condition: ast.Relation, read: ReadColumn, spec: ColumnSpec, context: Context
) -> Callable[[LiveRow | None, Sequence[Value], Environment], bool]:
    kind = spec.type
    keys = condition.op is Operator.CONTAINS_KEY
    if keys and not isinstance(kind, MapType):
        raise InvalidRequest(f"Cannot use CONTAINS KEY on non-map column {spec.name}")
    if isinstance(kind, MapType):
        part = kind.key if keys else kind.element
    elif isinstance(kind, ListType | SetType):
        part = kind.element
    else:
        raise InvalidRequest(f"Cannot use CONTAINS on non-collection column {spec.name}")
    name = "key" if keys else "value"
    evaluate = prepare(condition.value, element_spec(spec, f"{name}({spec.name})", part), context).evaluate

    def holds(row: LiveRow | None, values: Sequence[Value], environment: Environment) -> bool:
        wanted = evaluate(values, environment)
        if wanted is None:
            raise InvalidRequest(f'Invalid comparison with null for operator "{condition.op}"')
        if wanted is UNSET:
            raise InvalidRequest("Invalid 'unset' value in condition")
        present = read(row, values, environment)
        if present is None:
            return False
        elements = (
            [entry[0 if keys else 1] for entry in kind.split(present)]
            if isinstance(kind, MapType)
            else kind.split(present)
        )
        return any(part.compare(element, wanted) == 0 for element in elements)  # type: ignore[arg-type]

    return holds
