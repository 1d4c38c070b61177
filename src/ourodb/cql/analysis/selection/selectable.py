"""What every selector is: something with a type and a name that can be evaluated on a row, or over a group of rows.

A selector that contains an aggregate is evaluated over a group: ``group(values, environment)`` makes states that are
fed each row of a group and then asked for the result. All others have ``bind(values, environment)``, a function of one
row; beside an aggregate they give their value on the group's first row.

Source: Apache Cassandra 5, ``Selector``, ``SimpleSelector``, ``AbstractFunctionSelector``,
``AggregateFunctionSelector``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from ourodb.cql.analysis.functions.core import Aggregate, AggregateState, Function
from ourodb.cql.analysis.terms import BoundTerm, Environment
from ourodb.cql.types.base import CqlType
from ourodb.cql.wire.primitives import UnsetType, Value
from ourodb.errors import InvalidRequest
from ourodb.schema.model import Column
from ourodb.storage.row import LiveRow

RowFunction: TypeAlias = Callable[[LiveRow], bytes | None]
Bind: TypeAlias = Callable[[Sequence[Value], Environment], RowFunction]


class GroupState(Protocol):
    """A selector over the rows of one group."""

    def add(self, row: LiveRow) -> None: ...

    def result(self) -> bytes | None: ...


NewGroup: TypeAlias = Callable[[], GroupState]


class Selectable:
    """A selector.

    Attributes:
        name: of the result column.
        columns: those that it reads.
        is_aggregate: an aggregate is inside.
        column: the column that it is, when it is nothing else.
    """

    __slots__ = ("_bind", "_group", "column", "columns", "is_aggregate", "name", "type")

    def __init__(
        self,
        type: CqlType,
        name: str,
        columns: Sequence[Column],
        bind: Bind | None = None,
        group: Callable[[Sequence[Value], Environment], NewGroup] | None = None,
        column: Column | None = None,
    ) -> None:
        self.type = type
        self.name = name
        self.columns = tuple(columns)
        self.is_aggregate = group is not None
        self.column = column
        self._bind = bind
        self._group = group

    def bind(self, values: Sequence[Value], environment: Environment) -> RowFunction:
        """The value on one row; only where ``is_aggregate`` is false."""
        assert self._bind is not None
        return self._bind(values, environment)

    def group(self, values: Sequence[Value], environment: Environment) -> NewGroup:
        """States for groups of rows."""
        if self._group is not None:
            return self._group(values, environment)
        on_row = self.bind(values, environment)
        constant = not self.columns
        return lambda: _OnFirstRow(on_row, constant)


class _OnFirstRow:
    __slots__ = ("_constant", "_on_row", "_seen", "_value")

    def __init__(self, on_row: RowFunction, constant: bool) -> None:
        self._on_row = on_row
        self._constant = constant
        self._seen = False
        self._value: bytes | None = None

    def add(self, row: LiveRow) -> None:
        if not self._seen:
            self._seen = True
            self._value = self._on_row(row)

    def result(self) -> bytes | None:
        if not self._seen and self._constant:
            # Without columns the row isn't looked at.
            return self._on_row(_NO_ROW)
        return self._value


_NO_ROW = LiveRow.__new__(LiveRow)


def of_term(term: BoundTerm, name: str) -> Selectable:
    """A literal, a marker, or a call without columns."""

    def bind(values: Sequence[Value], environment: Environment) -> RowFunction:
        value = term.evaluate(values, environment)
        if isinstance(value, UnsetType):
            raise InvalidRequest("Invalid unset value in the selection clause")
        return lambda row: value

    return Selectable(term.type, name, (), bind)


# --- calls ---------------------------------------------------------------------------------------------------------


def _columns_of(arguments: Sequence[Selectable]) -> list[Column]:
    return list(dict.fromkeys(column for argument in arguments for column in argument.columns))


def call(function: Function, arguments: Sequence[Selectable]) -> Selectable:
    """A scalar function of other selectors."""
    name = function.column_name([argument.name for argument in arguments])
    columns = _columns_of(arguments)
    if any(argument.is_aggregate for argument in arguments):
        return Selectable(
            function.return_type,
            name,
            columns,
            group=lambda values, environment: _call_over_group(function, arguments, values, environment),
        )
    execute = function.execute

    def bind(values: Sequence[Value], environment: Environment) -> RowFunction:
        on_row = [argument.bind(values, environment) for argument in arguments]
        if len(on_row) == 1:
            only = on_row[0]
            return lambda row: execute((only(row),), environment)
        return lambda row: execute([argument(row) for argument in on_row], environment)

    return Selectable(function.return_type, name, columns, bind)


def _call_over_group(
    function: Function, arguments: Sequence[Selectable], values: Sequence[Value], environment: Environment
) -> NewGroup:
    groups = [argument.group(values, environment) for argument in arguments]
    return lambda: _CallState(function, [new_state() for new_state in groups], environment)


class _CallState:
    __slots__ = ("_arguments", "_environment", "_function")

    def __init__(self, function: Function, arguments: list[GroupState], environment: Environment) -> None:
        self._function = function
        self._arguments = arguments
        self._environment = environment

    def add(self, row: LiveRow) -> None:
        for argument in self._arguments:
            argument.add(row)

    def result(self) -> bytes | None:
        return self._function.execute([argument.result() for argument in self._arguments], self._environment)


def aggregate(function: Aggregate, arguments: Sequence[Selectable]) -> Selectable:
    """An aggregate over other selectors.

    Raises:
        InvalidRequest: one of them is an aggregate itself.
    """
    if any(argument.is_aggregate for argument in arguments):
        raise InvalidRequest("aggregate functions cannot be used as arguments of aggregate functions")
    name = function.column_name([argument.name for argument in arguments])

    def group(values: Sequence[Value], environment: Environment) -> NewGroup:
        on_row = [argument.bind(values, environment) for argument in arguments]
        new_state = function.new_state
        return lambda: _AggregateOverRows(new_state(), on_row)

    return Selectable(function.return_type, name, _columns_of(arguments), group=group)


class _AggregateOverRows:
    __slots__ = ("_arguments", "_state")

    def __init__(self, state: AggregateState, arguments: list[RowFunction]) -> None:
        self._state = state
        self._arguments = arguments

    def add(self, row: LiveRow) -> None:
        self._state.add([argument(row) for argument in self._arguments])

    def result(self) -> bytes | None:
        return self._state.result()
