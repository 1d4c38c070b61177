"""Terms that have been checked, and what one statement's terms have in common.

A *bound term* is one of three:

- ``Constant``: its bytes are known now (None is null).
- ``Marker``: one bound value; ``index`` and ``type`` let a plan read it straight from the list of values.
- ``Computed``: must be evaluated at each execution: tuples with markers inside, now(), ``? + 1``.

All three have ``type`` and ``evaluate(values, environment)``, which gives bytes, None for null, or UNSET, validated and
in the order in which frozen sets and maps are kept. Whether null or UNSET is allowed is for the place where the term
stands: ``evaluate`` refuses them only inside collections and calls, as Cassandra does.

``Context`` gathers what one statement's terms have in common; above all ``variables``, the bind markers in order, which
a client gets to see as the metadata of a PREPARED.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from ourodb.cql.analysis.functions.core import AnyFunction, Environment
from ourodb.cql.syntax import ast
from ourodb.cql.types.base import CqlType, Validator
from ourodb.cql.wire import columns as wire_columns
from ourodb.cql.wire.primitives import UnsetType, Value
from ourodb.errors import InvalidRequest
from ourodb.schema.model import Column, ColumnKind, Schema, Table


class ColumnSpec(NamedTuple):
    """A place that a value is for, or comes from: a column, a bind marker, an element of a collection, ..."""

    keyspace: str
    table: str
    name: str
    type: CqlType

    def wire(self) -> wire_columns.ColumnSpec:
        """As clients see it."""
        return wire_columns.ColumnSpec(self.keyspace, self.table, self.name, self.type.option)


Evaluate: TypeAlias = Callable[[Sequence[Value], Environment], Value]


class Context:
    """One statement under analysis.

    Attributes:
        schema: to find tables, user types.
        keyspace: for names that have none, or None.
        variables: a spec for each marker met so far, named as clients see it; None where none was met yet.
        warnings: for the client.
        calls: what each call was found to mean for a type that it is for, so that calls inside of calls aren't
            resolved again for each overload of the outer ones. By the identity of the call's node.
    """

    __slots__ = ("_receivers", "calls", "keyspace", "schema", "variables", "warnings")

    def __init__(self, schema: Schema, keyspace: str | None = None, markers: ast.Markers = ()) -> None:
        self.schema = schema
        self.keyspace = keyspace
        self.variables: list[ColumnSpec | None] = [None] * len(markers)
        self.warnings: list[str] = []
        self.calls: dict[tuple[int, CqlType | None], AnyFunction | InvalidRequest | None] = {}
        self._receivers: list[ColumnSpec | None] = [None] * len(markers)

    def bind(self, marker: ast.Marker, receiver: ColumnSpec) -> Marker:
        """Note that ``marker`` stands for ``receiver``."""
        missing = marker.index + 1 - len(self.variables)
        if missing > 0:
            self.variables.extend([None] * missing)
            self._receivers.extend([None] * missing)
        self._receivers[marker.index] = receiver
        self.variables[marker.index] = (
            receiver if marker.name is None else receiver._replace(name=marker.name)
        )
        return Marker(receiver.type, marker.index)

    def bound_variables(self) -> list[ColumnSpec]:
        """Every marker's spec, once the whole statement has been analysed."""
        variables = [spec for spec in self.variables if spec is not None]
        assert len(variables) == len(self.variables)
        return variables

    def partition_key_indexes(self, table: Table) -> tuple[int, ...]:
        """Which markers make up the partition key, in its order; () when a component isn't a marker."""
        found: dict[str, int] = {}
        for index, receiver in enumerate(self._receivers):
            if receiver is not None and receiver.table == table.name and receiver.keyspace == table.keyspace:
                column = table.columns.get(receiver.name)
                if column is not None and column.kind is ColumnKind.PARTITION_KEY:
                    found[column.name] = index
        if len(found) < len(table.partition_key):
            return ()
        return tuple(found[column.name] for column in table.partition_key)


class Constant:
    """A term whose bytes are known; None is null."""

    __slots__ = ("evaluate", "type", "value")

    def __init__(self, type: CqlType, value: bytes | None) -> None:
        self.type = type
        self.value = value
        self.evaluate: Evaluate = lambda values, environment: value


class Marker:
    """A bind marker.

    Attributes:
        index: into the list of values.
        validator: to call with bytes that were bound, or None when any are fine.
        ordered: ``type.in_type_order`` where what is bound may have to be put in order, else None.
    """

    __slots__ = ("evaluate", "index", "ordered", "type", "validator")

    def __init__(self, type: CqlType, index: int) -> None:
        self.type = type
        self.index = index
        self.validator: Validator | None = type.validator
        self.ordered: Callable[[bytes], bytes] | None = type.in_type_order if type.needs_ordering else None
        self.evaluate: Evaluate = _marker_evaluator(index, self.validator, self.ordered)


def _marker_evaluator(
    index: int, validator: Validator | None, ordered: Callable[[bytes], bytes] | None
) -> Evaluate:
    def unchecked(values: Sequence[Value], environment: Environment) -> Value:
        return values[index]

    if validator is None and ordered is None:
        return unchecked

    def checked(values: Sequence[Value], environment: Environment) -> Value:
        value = values[index]
        if value is None or isinstance(value, UnsetType):
            return value
        if validator is not None:
            validator(value)
        return value if ordered is None else ordered(value)

    return checked


class Computed:
    """A term that each execution computes anew."""

    __slots__ = ("evaluate", "type")

    def __init__(self, type: CqlType, evaluate: Evaluate) -> None:
        self.type = type
        self.evaluate = evaluate


BoundTerm: TypeAlias = Constant | Marker | Computed

NO_VALUES: Sequence[Value] = ()


class _NoEnvironment:
    """For constants, which ask nothing of it."""

    clock: Any = None
    random: Any = None
    now_s: Any = None


NO_ENVIRONMENT = _NoEnvironment()


def column_spec(table: Table, column: Column) -> ColumnSpec:
    """The spec of a column."""
    return ColumnSpec(table.keyspace, table.name, column.name, column.type)


def element_spec(receiver: ColumnSpec, name: str, type: CqlType) -> ColumnSpec:
    """The spec of a part of ``receiver``: ``value(l)``, ``key(m)``, ``idx(l)``, ``t[0]``, ``u.field``."""
    return ColumnSpec(receiver.keyspace, receiver.table, name, type)
