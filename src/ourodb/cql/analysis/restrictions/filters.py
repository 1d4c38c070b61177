"""Restrictions that are tested row by row.

``compile_filter`` binds a restriction's values once per execution and gives a predicate on live rows. A column without
a value satisfies nothing.

Source: Apache Cassandra 5, ``RowFilter``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from ourodb.cql.analysis.restrictions.relations import Bound, Kind, Membership, Restriction, ValueTuple
from ourodb.cql.analysis.row_values import elements_of, row_value
from ourodb.cql.analysis.terms import Environment
from ourodb.cql.types.base import CqlType
from ourodb.cql.types.collection import CollectionType, ListType, MapType, SetType
from ourodb.cql.wire.primitives import UnsetType, Value
from ourodb.errors import InvalidRequest
from ourodb.schema.model import Column
from ourodb.storage.row import LiveElement, LiveRow

RowTest: TypeAlias = Callable[[LiveRow], bool]
RowFilter: TypeAlias = Callable[[Sequence[Value], Environment], RowTest]
"""(values, environment) -> the test of one row."""


def compile_filter(restriction: Restriction) -> list[RowFilter]:
    """The tests that stand for a restriction, all of which a row must pass."""
    if restriction.kind is Kind.CONTAINS:
        return [_contains(restriction.first, membership) for membership in restriction.memberships]
    if restriction.kind is Kind.SLICE:
        if len(restriction.columns) > 1:
            raise InvalidRequest("Multi-column slice restrictions cannot be used for filtering.")
        bounds = (restriction.lower, restriction.upper)
        return [_compares(restriction.first, bound) for bound in bounds if bound is not None]
    if restriction.kind is Kind.EQ:
        return [_equals(restriction, index, column) for index, column in enumerate(restriction.columns)]
    if len(restriction.columns) > 1:
        raise InvalidRequest("Multicolumn IN filters are not supported")
    return [_is_one_of(restriction)]


def _checked(value: Value, column: Column, what: str = "value") -> bytes:
    if value is None:
        raise InvalidRequest(f"Unsupported null {what} for column {column.name}")
    if isinstance(value, UnsetType):
        raise InvalidRequest(f"Unsupported unset {what} for column {column.name}")
    return value


def _equal_to(type: CqlType, wanted: bytes) -> Callable[[bytes], bool]:
    if not type.normalizes:
        return wanted.__eq__
    compare = type.compare
    return lambda value: compare(value, wanted) == 0


def _equals(restriction: Restriction, index: int, column: Column) -> RowFilter:
    get = row_value(column)
    evaluate = restriction.evaluate
    assert evaluate is not None

    def bind(values: Sequence[Value], environment: Environment) -> RowTest:
        wanted = _checked(evaluate(values, environment)[0][index], column)
        equal = _equal_to(column.type, wanted)

        def test(row: LiveRow) -> bool:
            value = get(row)
            return value is not None and equal(value)

        return test

    return bind


def _is_one_of(restriction: Restriction) -> RowFilter:
    column = restriction.first
    get = row_value(column)
    canonical = column.type.canonical
    evaluate = restriction.evaluate
    assert evaluate is not None

    def bind(values: Sequence[Value], environment: Environment) -> RowTest:
        found: list[ValueTuple] = evaluate(values, environment)
        wanted = frozenset(canonical(_checked(value, column)) for (value,) in found)

        def test(row: LiveRow) -> bool:
            value = get(row)
            return value is not None and canonical(value) in wanted

        return test

    return bind


def _compares(column: Column, bound: Bound) -> RowFilter:
    get = row_value(column)
    compare = column.type.compare
    sign = -1 if bound.is_upper else 1
    least = 0 if bound.inclusive else 1

    def bind(values: Sequence[Value], environment: Environment) -> RowTest:
        limit = _checked(bound.evaluate(values, environment)[0][0], column)

        def test(row: LiveRow) -> bool:
            value = get(row)
            return value is not None and compare(value, limit) * sign >= least

        return test

    return bind


def _contains(column: Column, membership: Membership) -> RowFilter:
    type = column.type
    assert isinstance(type, CollectionType)
    entries = _entries(column, type)
    key_term, value_term = membership.key, membership.value

    def bind(values: Sequence[Value], environment: Environment) -> RowTest:
        tests: list[Callable[[tuple[bytes, bytes]], bool]] = []
        if key_term is not None:
            assert isinstance(type, MapType)
            what = "value" if value_term is None else "map key"
            key_equal = _equal_to(type.key, _checked(key_term.evaluate(values, environment), column, what))
            tests.append(lambda entry: key_equal(entry[0]))
        if value_term is not None:
            what = "value" if key_term is None else "map value"
            value = _checked(value_term.evaluate(values, environment), column, what)
            value_equal = _equal_to(type.element, value)
            tests.append(lambda entry: value_equal(entry[1]))
        return lambda row: any(all(test(entry) for test in tests) for entry in entries(row))

    return bind


def _entries(column: Column, type: CollectionType) -> Callable[[LiveRow], list[tuple[bytes, bytes]]]:
    """(key, value) of each entry of a map, (b"", element) of each element of a list or set."""
    if type.is_multicell:
        found = elements_of(column)
        is_set = isinstance(type, SetType)
        is_map = isinstance(type, MapType)

        def of_element(element: LiveElement) -> tuple[bytes, bytes]:
            if is_map:
                return element[0], element[1]
            return b"", element[0] if is_set else element[1]

        return lambda row: [of_element(element) for element in found(row) or ()]
    get = row_value(column)

    def of_frozen(row: LiveRow) -> list[tuple[bytes, bytes]]:
        value = get(row)
        if not value:
            return []
        if isinstance(type, MapType):
            return type.split(value)
        assert isinstance(type, (ListType, SetType))
        return [(b"", element) for element in type.split(value)]

    return of_frozen
