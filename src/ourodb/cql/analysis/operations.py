"""What INSERT, UPDATE and DELETE do to single columns.

``prepare_assignment`` and ``prepare_deletion`` check one clause of a statement and give an *operation*,
which, executed with bound values, adds its cells to a row in the making. Operations on list elements by
index, and the removal of values from a list, need the row as it was before the statement (``reads``); the
others write blindly.

Source: Apache Cassandra 5: ``Operation``, ``Constants``, ``Lists``, ``Sets``, ``Maps``, ``UserTypes``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from ourodb.cql.analysis.terms import (
    BoundTerm,
    ColumnSpec,
    Context,
    Environment,
    Evaluate,
    column_spec,
    element_spec,
    prepare,
)
from ourodb.cql.syntax import ast
from ourodb.cql.syntax.format import quote_identifier
from ourodb.cql.types import INT, CqlType, ListType, MapType, SetType, UserType
from ourodb.cql.types.timeuuid import timeuuid
from ourodb.cql.wire.primitives import UNSET, Value
from ourodb.errors import InvalidRequest
from ourodb.ports import Clock
from ourodb.schema.model import Column, ColumnKind, Table
from ourodb.storage.mutation import RowBuilder
from ourodb.storage.row import LiveRow

_INT = struct.Struct(">i")
_LONG = struct.Struct(">q")
_FIELD = struct.Struct(">H")

LONG_MIN: Final = -(1 << 63)
PREPEND_EPOCH_TICKS: Final = 1_262_304_000_000 * 10_000
"""2010-01-01 in 100 ns: prepended elements count down from here. Source: Cassandra's
``Lists.PrecisionTime``."""
BALLOT_CELLS_MAX: Final = 1 << 42
"""List elements of one conditional statement: what six bytes of seven bits can tell apart."""


class ListCellIds:
    """Names of list elements: version 1 UUIDs that never go back on this node, whatever its clock does.

    A list is read in the order of its elements' names. Appended elements are named by the time of the append,
    prepended ones by a time that runs backwards, so that neither has to read the list.
    """

    __slots__ = ("_clock", "_clock_seq", "_last_ticks", "_node")

    def __init__(self, clock: Clock, node: int, clock_seq: int) -> None:
        """
        Args:
            node: 48 bits that no other node has.
            clock_seq: 14 bits that differ from one start of the node to the next.
        """
        self._clock = clock
        self._node = node
        self._clock_seq = clock_seq
        self._last_ticks = 0

    def appended(self, count: int) -> list[bytes]:
        """Names for ``count`` elements in order, after all that were ever appended here."""
        first = self._reserve(count)
        return [timeuuid(first + i, self._clock_seq, self._node) for i in range(count)]

    def prepended(self, count: int) -> list[bytes]:
        """Names for ``count`` elements in order, before all that were ever prepended here."""
        last = 2 * PREPEND_EPOCH_TICKS - self._reserve(count)
        return [timeuuid(last - count + 1 + i, self._clock_seq, self._node) for i in range(count)]

    def _reserve(self, count: int) -> int:
        first = max(self._clock.wall_us() * 10, self._last_ticks + 1)
        self._last_ticks = first + count - 1
        return first


class BallotCellIds:
    """Names of list elements that a conditional statement writes: by its ballot, so that they are in the order in which
    such statements took effect, whatever the clocks of their coordinators say.

    All have the ballot's time; what one statement writes is told apart, and kept in order, by a count.

    Source: Cassandra's ``CQL3CasRequest.CASUpdateParameters``.
    """

    __slots__ = ("_appended", "_prepended", "_ticks")

    def __init__(self, ballot_us: int) -> None:
        """
        Args:
            ballot_us: the ballot's time, which no other ballot of the partition has.
        """
        self._ticks = ballot_us * 10
        self._appended = 0
        self._prepended = BALLOT_CELLS_MAX

    def appended(self, count: int) -> list[bytes]:
        """Names for ``count`` elements in order, after all that were appended so far."""
        first, self._appended = self._appended, self._appended + count
        return [self._name(self._ticks, first + i) for i in range(count)]

    def prepended(self, count: int) -> list[bytes]:
        """Names for ``count`` elements in order, before all that were prepended so far."""
        self._prepended -= count
        return [self._name(2 * PREPEND_EPOCH_TICKS - self._ticks, self._prepended + i) for i in range(count)]

    def _name(self, ticks: int, number: int) -> bytes:
        # The last bytes of a timeuuid are compared as signed ones: seven bits of the count in each.
        node = sum((number >> 7 * place & 0x7F) << 8 * place for place in range(6))
        return timeuuid(ticks, 0, node)


CellIds = ListCellIds | BallotCellIds


class UpdateParameters:
    """What the operations of one statement have in common in one execution.

    Attributes:
        values: as bound.
        options: of the execution.
        ttl: seconds, 0 for none.
        prior: the row as it was before the statement, where some operation reads; None when it wasn't there.
        counters: where counter operations leave their deltas: (column, delta).
    """

    __slots__ = ("counters", "list_cell_ids", "options", "prior", "ttl", "values")

    def __init__(
        self, values: Sequence[Value], options: Environment, ttl: int, list_cell_ids: CellIds
    ) -> None:
        self.values = values
        self.options = options
        self.ttl = ttl
        self.list_cell_ids = list_cell_ids
        self.prior: LiveRow | None = None
        self.counters: list[tuple[Column, int]] = []


Execute: TypeAlias = Callable[[RowBuilder, UpdateParameters], None]


class Operation:
    """One checked assignment or deletion.

    Attributes:
        execute: adds the operation's cells to a row.
        reads: it needs ``UpdateParameters.prior``.
        term: the value of a plain ``column = value`` on a simple column, for plans that compile it further;
        else None.
    """

    __slots__ = ("column", "execute", "reads", "term")

    def __init__(
        self, column: Column, execute: Execute, *, reads: bool = False, term: BoundTerm | None = None
    ) -> None:
        self.column = column
        self.execute = execute
        self.reads = reads
        self.term = term


def prepare_assignment(assignment: ast.Assignment, table: Table, context: Context) -> Operation:
    """The operation of one item of SET.

    Raises:
        InvalidRequest: with Cassandra's text.
    """
    column = regular_column(table, assignment.column)
    return _ASSIGNMENTS[type(assignment)](assignment, column, column_spec(table, column), context)


def prepare_deletion(deletion: ast.Deletion, table: Table, context: Context) -> Operation:
    """The operation of one column of DELETE.

    Raises:
        InvalidRequest: with Cassandra's text.
    """
    column = column_of(table, deletion.column)
    if column.kind in (ColumnKind.PARTITION_KEY, ColumnKind.CLUSTERING):
        raise InvalidRequest(
            f"Invalid identifier {column.name} for deletion (should not be a PRIMARY KEY part)"
        )
    spec = column_spec(table, column)
    if isinstance(deletion, ast.DeleteColumn):
        return Operation(column, lambda row, parameters: row.tombstone(column))
    if isinstance(deletion, ast.DeleteElement):
        return _delete_element(deletion, column, spec, context)
    return _delete_field(deletion, column)


def column_of(table: Table, name: str) -> Column:
    """The column, or Cassandra's error that there is none."""
    column = table.columns.get(name)
    if column is None:
        raise InvalidRequest(f"Undefined column name {name} in table {table.keyspace}.{table.name}")
    return column


def regular_column(table: Table, name: str) -> Column:
    """A column that SET may name."""
    column = column_of(table, name)
    if column.kind in (ColumnKind.PARTITION_KEY, ColumnKind.CLUSTERING):
        raise InvalidRequest(f"PRIMARY KEY part {name} found in SET part")
    return column


def set_value(column: Column, spec: ColumnSpec, value: ast.Selectable, context: Context) -> Operation:
    """``column = value``."""
    kind = column.type
    if kind.is_counter:
        raise InvalidRequest(
            f"Cannot set the value of counter column {column.name} (counters can only be incremented/decremented,"
            " not set)"
        )
    term = prepare(value, spec, context)
    if not kind.is_multicell:
        return Operation(column, _set_simple(column, term.evaluate), term=term)
    put = _put_all(column)

    def overwrite(row: RowBuilder, parameters: UpdateParameters) -> None:
        value = term.evaluate(parameters.values, parameters.options)
        if value is UNSET:
            return
        row.overwrite(column)
        if value is not None:
            put(row, parameters, value)  # type: ignore[arg-type]

    return Operation(column, overwrite)


def _set_simple(column: Column, evaluate: Evaluate) -> Execute:
    def execute(row: RowBuilder, parameters: UpdateParameters) -> None:
        value = evaluate(parameters.values, parameters.options)
        if value is None:
            row.tombstone(column)
        elif value is not UNSET:
            row.cell(column, value, parameters.ttl)  # type: ignore[arg-type]

    return execute


def _put_all(column: Column) -> Callable[[RowBuilder, UpdateParameters, bytes], None]:
    """Adds every element of a serialized collection, or field of a user type."""
    kind = column.type
    if isinstance(kind, ListType):
        split_list = kind.split

        def put_list(row: RowBuilder, parameters: UpdateParameters, value: bytes) -> None:
            elements = split_list(value)
            for path, element in zip(parameters.list_cell_ids.appended(len(elements)), elements, strict=True):
                row.element(column, path, element, parameters.ttl)

        return put_list
    if isinstance(kind, SetType):
        split_set = kind.split

        def put_set(row: RowBuilder, parameters: UpdateParameters, value: bytes) -> None:
            for element in split_set(value):
                row.element(column, element, b"", parameters.ttl)

        return put_set
    if isinstance(kind, MapType):
        split_map = kind.split

        def put_map(row: RowBuilder, parameters: UpdateParameters, value: bytes) -> None:
            for key, element in split_map(value):
                row.element(column, key, element, parameters.ttl)

        return put_map
    assert isinstance(kind, UserType)
    split_udt = kind.split

    def put_udt(row: RowBuilder, parameters: UpdateParameters, value: bytes) -> None:
        for index, field in enumerate(split_udt(value)):
            if field is not None:
                row.element(column, _FIELD.pack(index), field, parameters.ttl)

    return put_udt


def _assign_set(assignment: ast.SetColumn, column: Column, spec: ColumnSpec, context: Context) -> Operation:
    return set_value(column, spec, assignment.value, context)


def _assign_add(assignment: ast.AddToColumn, column: Column, spec: ColumnSpec, context: Context) -> Operation:
    kind = column.type
    if not kind.is_collection:
        return _counter(assignment, column, spec, context, 1)
    if not kind.is_multicell:
        raise InvalidRequest(f"Invalid operation ({assignment}) for frozen collection column {column.name}")
    evaluate = prepare(assignment.value, spec, context).evaluate
    put = _put_all(column)

    def add(row: RowBuilder, parameters: UpdateParameters) -> None:
        value = evaluate(parameters.values, parameters.options)
        if value is not None and value is not UNSET:
            put(row, parameters, value)  # type: ignore[arg-type]

    return Operation(column, add)


def _assign_subtract(
    assignment: ast.SubtractFromColumn, column: Column, spec: ColumnSpec, context: Context
) -> Operation:
    kind = column.type
    if not kind.is_collection:
        return _counter(assignment, column, spec, context, -1)
    if not kind.is_multicell:
        raise InvalidRequest(f"Invalid operation ({assignment}) for frozen collection column {column.name}")
    if isinstance(kind, ListType):
        return _discard_from_list(kind, column, prepare(assignment.value, spec, context).evaluate)
    keys = kind
    if isinstance(kind, MapType):
        if isinstance(assignment.value, ast.MapLiteral):
            raise InvalidRequest(
                f"Value for a map substraction has to be a set, but was: '{assignment.value}'"
            )
        keys = SetType(kind.key, frozen=True)
        spec = spec._replace(type=keys)
    assert isinstance(keys, SetType)
    evaluate = prepare(assignment.value, spec, context).evaluate
    split = keys.split

    def discard(row: RowBuilder, parameters: UpdateParameters) -> None:
        value = evaluate(parameters.values, parameters.options)
        if value is not None and value is not UNSET:
            for element in split(value):  # type: ignore[arg-type]
                row.delete_element(column, element)

    return Operation(column, discard)


def _discard_from_list(kind: ListType, column: Column, evaluate: Evaluate) -> Operation:
    def discard(row: RowBuilder, parameters: UpdateParameters) -> None:
        value = evaluate(parameters.values, parameters.options)
        if value is None or value is UNSET or parameters.prior is None:
            return
        discarded = set(kind.split(value))  # type: ignore[arg-type]
        for path, element, *_ in parameters.prior.elements.get(column.id, ()):
            if element in discarded:
                row.delete_element(column, path)

    return Operation(column, discard, reads=True)


def _assign_prepend(
    assignment: ast.PrependToColumn, column: Column, spec: ColumnSpec, context: Context
) -> Operation:
    kind = column.type
    # Cassandra's own text of a prepending has a minus.
    text = f"{quote_identifier(column.name)} = {assignment.value} - {quote_identifier(column.name)}"
    if not isinstance(kind, ListType):
        raise InvalidRequest(f"Invalid operation ({text}) for non list column {column.name}")
    if not kind.is_multicell:
        raise InvalidRequest(f"Invalid operation ({text}) for frozen list column {column.name}")
    evaluate = prepare(assignment.value, spec, context).evaluate
    split = kind.split

    def prepend(row: RowBuilder, parameters: UpdateParameters) -> None:
        value = evaluate(parameters.values, parameters.options)
        if value is None or value is UNSET:
            return
        elements = split(value)  # type: ignore[arg-type]
        for path, element in zip(parameters.list_cell_ids.prepended(len(elements)), elements, strict=True):
            row.element(column, path, element, parameters.ttl)

    return Operation(column, prepend)


def _counter(
    assignment: ast.AddToColumn | ast.SubtractFromColumn,
    column: Column,
    spec: ColumnSpec,
    context: Context,
    sign: int,
) -> Operation:
    if not column.type.is_counter:
        raise InvalidRequest(f"Invalid operation ({assignment}) for non counter column {column.name}")
    evaluate = prepare(assignment.value, spec, context).evaluate

    def add(row: RowBuilder, parameters: UpdateParameters) -> None:
        value = evaluate(parameters.values, parameters.options)
        if value is None:
            raise InvalidRequest("Invalid null value for counter increment")
        if value is UNSET:
            return
        if len(value) != _LONG.size:  # type: ignore[arg-type]
            raise InvalidRequest("Invalid value for counter increment")
        delta = _LONG.unpack(value)[0]  # type: ignore[arg-type]
        if sign < 0 and delta == LONG_MIN:
            raise InvalidRequest(
                f"The negation of {delta} overflows supported counter precision (signed 8 bytes integer)"
            )
        parameters.counters.append((column, sign * delta))

    return Operation(column, add)


def _assign_element(
    assignment: ast.SetElement, column: Column, spec: ColumnSpec, context: Context
) -> Operation:
    kind = column.type
    if not kind.is_collection:
        raise InvalidRequest(f"Invalid operation ({assignment}) for non collection column {column.name}")
    if not kind.is_multicell:
        raise InvalidRequest(f"Invalid operation ({assignment}) for frozen collection column {column.name}")
    if isinstance(kind, SetType):
        raise InvalidRequest(f"Invalid operation ({assignment}) for set column {column.name}")
    if isinstance(kind, ListType):
        index = prepare(assignment.key, element_spec(spec, f"idx({spec.name})", INT), context).evaluate
        value_of = prepare(
            assignment.value, element_spec(spec, f"value({spec.name})", kind.element), context
        ).evaluate

        def set_index(row: RowBuilder, parameters: UpdateParameters) -> None:
            value = value_of(parameters.values, parameters.options)
            path = _path_at(column, index, parameters, "set an element on")
            if value is None:
                row.delete_element(column, path)
            elif value is not UNSET:
                row.element(column, path, value, parameters.ttl)  # type: ignore[arg-type]

        return Operation(column, set_index, reads=True)
    assert isinstance(kind, MapType)
    key_of = prepare(assignment.key, element_spec(spec, f"key({spec.name})", kind.key), context).evaluate
    entry_of = prepare(
        assignment.value, element_spec(spec, f"value({spec.name})", kind.element), context
    ).evaluate

    def set_key(row: RowBuilder, parameters: UpdateParameters) -> None:
        key = _required(key_of(parameters.values, parameters.options), "map key")
        value = entry_of(parameters.values, parameters.options)
        if value is None:
            row.delete_element(column, key)
        elif value is not UNSET:
            row.element(column, key, value, parameters.ttl)  # type: ignore[arg-type]

    return Operation(column, set_key)


def _assign_field(assignment: ast.SetField, column: Column, spec: ColumnSpec, context: Context) -> Operation:
    kind = column.type
    if not isinstance(kind, UserType):
        raise InvalidRequest(f"Invalid operation ({assignment}) for non-UDT column {column.name}")
    if not kind.is_multicell:
        raise InvalidRequest(f"Invalid operation ({assignment}) for frozen UDT column {column.name}")
    index, field_type = _field(kind, assignment.field, column)
    evaluate = prepare(
        assignment.value, element_spec(spec, f"{spec.name}.{assignment.field}", field_type), context
    ).evaluate
    path = _FIELD.pack(index)

    def set_field(row: RowBuilder, parameters: UpdateParameters) -> None:
        value = evaluate(parameters.values, parameters.options)
        if value is None:
            row.delete_element(column, path)
        elif value is not UNSET:
            row.element(column, path, value, parameters.ttl)  # type: ignore[arg-type]

    return Operation(column, set_field)


def _delete_element(
    deletion: ast.DeleteElement, column: Column, spec: ColumnSpec, context: Context
) -> Operation:
    kind = column.type
    if not kind.is_collection:
        raise InvalidRequest(f"Invalid deletion operation for non collection column {column.name}")
    if not kind.is_multicell:
        raise InvalidRequest(f"Invalid deletion operation for frozen collection column {column.name}")
    if isinstance(kind, ListType):
        index = prepare(deletion.key, element_spec(spec, f"idx({spec.name})", INT), context).evaluate

        def delete_index(row: RowBuilder, parameters: UpdateParameters) -> None:
            row.delete_element(column, _path_at(column, index, parameters, "delete an element from"))

        return Operation(column, delete_index, reads=True)
    if isinstance(kind, SetType):
        what, receiver = "set element", element_spec(spec, f"value({spec.name})", kind.element)
    else:
        assert isinstance(kind, MapType)
        what, receiver = "map key", element_spec(spec, f"key({spec.name})", kind.key)
    evaluate = prepare(deletion.key, receiver, context).evaluate

    def delete_key(row: RowBuilder, parameters: UpdateParameters) -> None:
        row.delete_element(column, _required(evaluate(parameters.values, parameters.options), what))

    return Operation(column, delete_key)


def _delete_field(deletion: ast.DeleteField, column: Column) -> Operation:
    kind = column.type
    if not isinstance(kind, UserType):
        raise InvalidRequest(f"Invalid deletion operation for non-UDT column {column.name}")
    if not kind.is_multicell:
        raise InvalidRequest(f"Frozen UDT column {column.name} does not support field-level deletes")
    path = _FIELD.pack(_field(kind, deletion.field, column)[0])
    return Operation(column, lambda row, parameters: row.delete_element(column, path))


def _field(kind: UserType, name: str, column: Column) -> tuple[int, CqlType]:
    if name not in kind.field_names:
        raise InvalidRequest(f"UDT column {column.name} does not have a field named {name}")
    index = kind.field_names.index(name)
    return index, kind.components[index]


def _required(value: Value, what: str) -> bytes:
    if value is None:
        raise InvalidRequest(f"Invalid null {what}")
    if value is UNSET:
        raise InvalidRequest(f"Invalid unset {what}")
    return value  # type: ignore[return-value]


def _path_at(column: Column, index_of: Evaluate, parameters: UpdateParameters, doing: str) -> bytes:
    """The name of the list element at an index, in the list as it was before the statement."""
    bound = _required(index_of(parameters.values, parameters.options), "value for list index")
    if len(bound) != _INT.size:
        raise InvalidRequest("Invalid value for list index")
    index = _INT.unpack(bound)[0]
    prior = parameters.prior
    elements: Sequence[Any] = prior.elements.get(column.id, ()) if prior is not None else ()
    if not elements:
        raise InvalidRequest(f"Attempted to {doing} a list which is null")
    if not 0 <= index < len(elements):
        raise InvalidRequest(f"List index {index} out of bound, list has size {len(elements)}")
    path: bytes = elements[index][0]
    return path


_ASSIGNMENTS: dict[type, Callable[[Any, Column, ColumnSpec, Context], Operation]] = {
    ast.SetColumn: _assign_set,
    ast.AddToColumn: _assign_add,
    ast.SubtractFromColumn: _assign_subtract,
    ast.PrependToColumn: _assign_prepend,
    ast.SetElement: _assign_element,
    ast.SetField: _assign_field,
}
