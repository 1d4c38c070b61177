"""Restrictions as keys: partition positions, ranges of tokens, slices of rows.

Everything is checked where it is bound: null and unset values, empty and oversized partition keys, and how many keys
the lists of IN multiply to.

Source: Apache Cassandra 5, ``PartitionKeySingleRestrictionSet``, ``ClusteringColumnRestrictions``,
``StatementRestrictions`` (token bounds), ``QueryProcessor.validateKey``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import TypeAlias

from ourodb import limits
from ourodb.cql.analysis.restrictions.relations import Bound, Kind, Restriction, ValueTuple
from ourodb.cql.analysis.terms import Constant, Environment, Marker
from ourodb.cql.wire.primitives import UnsetType, Value
from ourodb.errors import InvalidRequest
from ourodb.schema.model import Column
from ourodb.storage.keys import Slice, TableKeys, token_end, token_start, union

PositionRange: TypeAlias = tuple[bytes, bytes | None]
"""[start, end) in positions; end None is the end of the table."""

PARTITION_KEY_BYTES_MAX = 0xFFFF
_TOKEN_MINIMUM = -(1 << 63)


def checked(value: Value, column: Column) -> bytes:
    """A value of a key column, which can be neither null nor unset."""
    if value is None:
        raise InvalidRequest(f"Invalid null value in condition for column {column.name}")
    if isinstance(value, UnsetType):
        raise InvalidRequest(f"Invalid unset value for column {column.name}")
    return value


def _checked_tuple(values: ValueTuple, columns: Sequence[Column]) -> tuple[bytes, ...]:
    return tuple(checked(value, column) for value, column in zip(values, columns, strict=False))


def tuples_of(
    restriction: Restriction, values: Sequence[Value], environment: Environment
) -> list[tuple[bytes, ...]]:
    """The values of an EQ or IN."""
    evaluate = restriction.evaluate
    assert evaluate is not None
    return [_checked_tuple(found, restriction.columns) for found in evaluate(values, environment)]


def combinations(
    restrictions: Sequence[Restriction], values: Sequence[Value], environment: Environment
) -> list[tuple[bytes, ...]]:
    """Every way to take one value tuple of each restriction.

    Raises:
        InvalidRequest: there are more than ``limits.KEYS_PER_SELECT_MAX`` ways.
    """
    choices = [tuples_of(restriction, values, environment) for restriction in restrictions]
    count = 1
    for choice in choices:
        count *= len(choice)
    if count > limits.KEYS_PER_SELECT_MAX:
        raise InvalidRequest(
            f"The IN restrictions of this query multiply to {count} keys; "
            f"at most {limits.KEYS_PER_SELECT_MAX} are allowed"
        )
    return [sum(parts, ()) for parts in product(*choices)]


# --- partition keys -----------------------------------------------------------------------------------------


def check_partition_key(components: Sequence[bytes]) -> None:
    """
    Raises:
        InvalidRequest: no partition can have this key.
    """
    if len(components) == 1:
        length = len(components[0])
        if length == 0:
            raise InvalidRequest("Key may not be empty")
    else:
        length = sum(map(len, components)) + 3 * len(components)
    if length > PARTITION_KEY_BYTES_MAX:
        raise InvalidRequest(f"Key length of {length} is longer than maximum of {PARTITION_KEY_BYTES_MAX}")


def position_closure(
    keys: TableKeys, columns: Sequence[Column], restrictions: Sequence[Restriction]
) -> Callable[[Sequence[Value], Environment], bytes]:
    """(values, environment) -> position, for a partition key that is wholly restricted by ``=``; made for hot paths."""
    position = keys.position
    terms = [restriction.term for restriction in restrictions]
    if len(terms) == 1 and isinstance(terms[0], Marker) and terms[0].ordered is None:
        marker, column = terms[0], columns[0]
        index, validator = marker.index, marker.validator

        def of_one_marker(values: Sequence[Value], environment: Environment) -> bytes:
            value = values[index]
            if not value or isinstance(value, UnsetType) or len(value) > PARTITION_KEY_BYTES_MAX:
                value = checked(value, column)
                check_partition_key((value,))
            if validator is not None:
                validator(value)
            return position((value,))

        return of_one_marker
    if all(isinstance(term, Constant) for term in terms):
        constants = [checked(term.value, column) for term, column in zip(terms, columns, strict=True)
                     if isinstance(term, Constant)]  # fmt: skip
        check_partition_key(constants)
        fixed = position(constants)
        return lambda values, environment: fixed
    evaluators = [term.evaluate for term in terms if term is not None]

    def of_terms(values: Sequence[Value], environment: Environment) -> bytes:
        components = [
            checked(evaluate(values, environment), column)
            for evaluate, column in zip(evaluators, columns, strict=True)
        ]
        check_partition_key(components)
        return position(components)

    return of_terms


def positions(
    keys: TableKeys,
    columns: Sequence[Column],
    restrictions: Sequence[Restriction],
    values: Sequence[Value],
    environment: Environment,
) -> list[bytes]:
    """The partitions of a partition key restricted by ``=`` and IN, each once, in the order of their values."""
    found: dict[tuple[bytes, ...], bytes] = {}
    encoders = [column.type.encode_ordered for column in columns]
    for components in combinations(restrictions, values, environment):
        check_partition_key(components)
        order = tuple(encode(value) for encode, value in zip(encoders, components, strict=True))
        found[order] = keys.position(components)
    return [found[order] for order in sorted(found)]


# --- tokens -------------------------------------------------------------------------------------------------


def _token(bound: Bound | None, values: Sequence[Value], environment: Environment) -> int:
    if bound is None:
        return _TOKEN_MINIMUM
    value = bound.evaluate(values, environment)[0][0]
    if value is None:
        raise InvalidRequest("Invalid null token value")
    if isinstance(value, UnsetType):
        raise InvalidRequest("Invalid unset value for column partition key token")
    return int.from_bytes(value, "big", signed=True)


def token_range(
    restriction: Restriction, values: Sequence[Value], environment: Environment
) -> PositionRange | None:
    """The positions of a restriction on ``token(...)``; None where there can be none.

    As in Cassandra, the least token of all is no token but stands for "no bound", also after ``<=``.
    """
    if restriction.kind is Kind.EQ:
        assert restriction.evaluate is not None
        only = Bound(restriction.evaluate, True, False)
        lower = upper = _token(only, values, environment)
        lower_inclusive = upper_inclusive = True
    else:
        lower = _token(restriction.lower, values, environment)
        upper = _token(restriction.upper, values, environment)
        lower_inclusive = restriction.lower is None or restriction.lower.inclusive
        upper_inclusive = restriction.upper is None or restriction.upper.inclusive
    if upper == _TOKEN_MINIMUM:
        end = None
    else:
        end = token_end(upper) if upper_inclusive else token_start(upper)
    if lower == _TOKEN_MINIMUM:
        return b"", end
    start = token_start(lower) if lower_inclusive else token_end(lower)
    if start is None or (end is not None and start >= end):
        return None
    return start, end


# --- clustering ---------------------------------------------------------------------------------------------


def slices(
    keys: TableKeys, restrictions: Sequence[Restriction], values: Sequence[Value], environment: Environment
) -> list[Slice]:
    """The slices of rows that restrictions on leading clustering columns leave, in storage order, none empty.

    Args:
        restrictions: in order of columns, each beginning where the one before ends; only the last may be a SLICE.
    """
    if not restrictions:
        return [keys.slice()]
    last = restrictions[-1]
    if last.kind is not Kind.SLICE:
        return union([keys.slice(equal) for equal in combinations(restrictions, values, environment)])
    lower = _bound_values(last, last.lower, values, environment)
    upper = _bound_values(last, last.upper, values, environment)
    lower_inclusive = last.lower is None or last.lower.inclusive
    upper_inclusive = last.upper is None or last.upper.inclusive
    found: list[Slice] = []
    for equal in combinations(restrictions[:-1], values, environment):
        found += keys.tuple_slices(equal, lower, lower_inclusive, upper, upper_inclusive)
    return union(found)


def _bound_values(
    restriction: Restriction, bound: Bound | None, values: Sequence[Value], environment: Environment
) -> tuple[bytes, ...] | None:
    if bound is None:
        return None
    return _checked_tuple(bound.evaluate(values, environment)[0], restriction.columns)
