"""Terms: literals, bind markers, casts and calls, each checked against the type that it is for.

``prepare(term, receiver, context)`` gives a *bound term*, which is one of three:

- ``Constant``: its bytes are known now (None is null).
- ``Marker``: one bound value; ``index`` and ``type`` let a plan read it straight from the list of values.
- ``Computed``: must be evaluated at each execution: tuples with markers inside, now(), ``? + 1``.

All three have ``type`` and ``evaluate(values, environment)``, which gives bytes, None for null, or UNSET, validated and
in the order in which frozen sets and maps are kept. Whether null or UNSET is allowed is for the place where the term
stands: ``evaluate`` refuses them only inside collections and calls, as Cassandra does.

``Context`` gathers what one statement's terms have in common; above all ``variables``, the bind markers in order, which a
client gets to see as the metadata of a PREPARED.

Source: Apache Cassandra 5, ``Constants``, ``Lists``, ``Sets``, ``Maps``, ``Tuples``, ``UserTypes``, ``Vectors``, ``TypeCast``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeAlias

from ourodb.cql.syntax import ast
from ourodb.cql.types.base import CqlType, Validator
from ourodb.cql.wire import columns as wire_columns
from ourodb.cql.wire.primitives import Value
from ourodb.errors import InvalidRequest
from ourodb.ports import Clock, Random
from ourodb.schema.model import Column, Schema, Table


class ColumnSpec(NamedTuple):
    """A place that a value is for, or comes from: a column, a bind marker, an element of a collection, ..."""

    keyspace: str
    table: str
    name: str
    type: CqlType

    def wire(self) -> wire_columns.ColumnSpec:
        """As clients see it."""
        return wire_columns.ColumnSpec(self.keyspace, self.table, self.name, self.type.option)


class Environment(Protocol):
    """What evaluating a term may ask for; ``ExecuteOptions`` has it."""

    clock: Clock
    random: Random


Evaluate: TypeAlias = Callable[[Sequence[Value], Environment], Value]


class Context:
    """One statement under analysis.

    Attributes:
        schema: to find tables, user types.
        keyspace: for names that have none, or None.
        variables: a spec for each marker met so far, named as clients see it; None where none was met yet.
        warnings: for the client.
    """

    __slots__ = ("_names", "_receivers", "keyspace", "schema", "variables", "warnings")

    def __init__(self, schema: Schema, keyspace: str | None = None, markers: ast.Markers = ()) -> None:
        self.schema = schema
        self.keyspace = keyspace
        self.variables: list[ColumnSpec | None] = [None] * len(markers)
        self.warnings: list[str] = []
        self._names = markers
        self._receivers: list[ColumnSpec | None] = [None] * len(markers)

    def bind(self, marker: ast.Marker, receiver: ColumnSpec) -> Marker:
        """Note that ``marker`` stands for ``receiver``."""
        ...

    def bound_variables(self) -> list[ColumnSpec]:
        """Every marker's spec, once the whole statement has been analysed."""
        ...

    def partition_key_indexes(self, table: Table) -> tuple[int, ...]:
        """Which markers make up the partition key, in its order; () when a component isn't a marker."""
        ...


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

    def __init__(self, type: CqlType, index: int) -> None: ...


class Computed:
    """A term that each execution computes anew."""

    __slots__ = ("evaluate", "type")

    def __init__(self, type: CqlType, evaluate: Evaluate) -> None:
        self.type = type
        self.evaluate = evaluate


BoundTerm: TypeAlias = Constant | Marker | Computed


def column_spec(table: Table, column: Column) -> ColumnSpec:
    """The spec of a column."""
    return ColumnSpec(table.keyspace, table.name, column.name, column.type)


def prepare(term: ast.Selectable, receiver: ColumnSpec, context: Context) -> BoundTerm:
    """The term checked and compiled as a value for ``receiver``.

    Raises:
        InvalidRequest: with Cassandra's text, when it can't be one.
    """
    raise InvalidRequest(f"{term} can't be assigned to {receiver.name} in {context.keyspace}")
