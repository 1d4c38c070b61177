"""One relation as a restriction on one or several columns, and several restrictions on the same columns as one.

Source: Apache Cassandra 5, ``SingleColumnRelation``, ``MultiColumnRelation``, ``SingleColumnRestriction``,
``MultiColumnRestriction``. BETWEEN, which Cassandra 5 lacks, is the two slices that it stands for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from typing import TypeAlias

from ourodb.cql.analysis.tables import find_column
from ourodb.cql.analysis.terms import (
    BoundTerm,
    ColumnSpec,
    Context,
    Environment,
    column_spec,
    element_spec,
    prepare,
)
from ourodb.cql.syntax import ast
from ourodb.cql.types import native
from ourodb.cql.types.collection import CollectionType, ListType, MapType
from ourodb.cql.types.composite import TupleType, UserType
from ourodb.cql.wire.primitives import UnsetType, Value
from ourodb.errors import InvalidRequest, NotSupported
from ourodb.schema.model import Column, ColumnKind, Table

ValueTuple: TypeAlias = tuple[Value, ...]
Evaluate: TypeAlias = Callable[[Sequence[Value], Environment], list[ValueTuple]]
"""Tuples of values, one for each of a restriction's columns (a slice's bound may have fewer)."""

Op = ast.Operator


class Kind(IntEnum):
    """What a restriction does."""

    EQ = 0
    IN = 1
    SLICE = 2
    CONTAINS = 3


class Bound:
    """One end of a slice."""

    __slots__ = ("evaluate", "inclusive", "is_upper")

    def __init__(self, evaluate: Evaluate, inclusive: bool, is_upper: bool) -> None:
        self.evaluate = evaluate
        self.inclusive = inclusive
        self.is_upper = is_upper


class Membership:
    """One CONTAINS, CONTAINS KEY or map entry: the key, the value, or both that a collection must hold."""

    __slots__ = ("key", "value")

    def __init__(self, key: BoundTerm | None, value: BoundTerm | None) -> None:
        self.key = key
        self.value = value


class Restriction:
    """What is demanded of one column, or of several taken together.

    Attributes:
        columns: in the order of the relation.
        is_multi: it was, or was merged with, a relation on ``(a, b)``.
        evaluate: the values of EQ (one tuple) and IN (some), not checked for null or unset.
        term: the one term of an EQ on one column, for fast paths.
        lower, upper: of SLICE.
        memberships: of CONTAINS.
    """

    __slots__ = ("columns", "evaluate", "is_multi", "kind", "lower", "memberships", "term", "upper")

    def __init__(
        self,
        columns: tuple[Column, ...],
        kind: Kind,
        *,
        is_multi: bool = False,
        evaluate: Evaluate | None = None,
        term: BoundTerm | None = None,
        bounds: Sequence[Bound] = (),
        memberships: tuple[Membership, ...] = (),
    ) -> None:
        self.columns = columns
        self.kind = kind
        self.is_multi = is_multi
        self.evaluate = evaluate
        self.term = term
        self.lower = next((bound for bound in bounds if not bound.is_upper), None)
        self.upper = next((bound for bound in bounds if bound.is_upper), None)
        self.memberships = memberships

    @property
    def first(self) -> Column:
        return self.columns[0]

    @property
    def last(self) -> Column:
        return self.columns[-1]


# --- from relations to restrictions -------------------------------------------------------------------------


def restrict(item: ast.WhereItem, table: Table, context: Context) -> Iterator[Restriction]:
    """The restrictions that a relation (not one on a token) stands for.

    Raises:
        InvalidRequest: it can't be applied to its columns, or its terms aren't of their types.
        NotSupported: Cassandra has it.
    """
    if isinstance(item, ast.IndexExpression):
        raise NotSupported("The restriction expr()")
    if isinstance(item, ast.NotNullRelation):
        raise InvalidRequest(f"Unsupported restriction: {item}")
    target = item.target
    if isinstance(target, ast.TupleRef):
        yield from _restrict_tuple(item, target, table, context)
        return
    if isinstance(target, ast.FieldRef):
        raise NotSupported("A restriction on a field of a user type")
    if isinstance(target, ast.ElementRef):
        yield _restrict_entry(item, target, table, context)
        return
    assert isinstance(target, ast.ColumnRef)
    column = find_column(table, target.name)
    if isinstance(item, ast.InRelation):
        yield _restrict_in(item, column, table, context)
    elif isinstance(item, ast.BetweenRelation):
        _check_operator(column, "BETWEEN")
        _check_slice(column)
        for term, op in ((item.low, Op.GTE), (item.high, Op.LTE)):
            yield _single_slice(column, op, prepare(term, column_spec(table, column), context))
    else:
        yield _restrict_single(item, column, table, context)


def _check_operator(column: Column, operator: str) -> None:
    type = column.type
    if isinstance(type, UserType) and type.is_multicell:
        raise InvalidRequest(
            f"Non-frozen UDT column '{column.name}' ({type}) cannot be restricted by any relation"
        )
    if isinstance(type, CollectionType) and type.is_multicell:
        raise InvalidRequest(
            f"Collection column '{column.name}' ({type}) cannot be restricted by a '{operator}' relation"
        )


def _check_slice(column: Column) -> None:
    type = column.type
    if type.references_duration:
        if isinstance(type, CollectionType):
            what = "collections containing durations"
        elif isinstance(type, UserType):
            what = "UDTs containing durations"
        elif isinstance(type, TupleType):
            what = "tuples containing durations"
        else:
            what = "duration columns"
        raise InvalidRequest(f"Slice restrictions are not supported on {what}")


def _one(term: BoundTerm) -> Evaluate:
    evaluate = term.evaluate
    return lambda values, environment: [(evaluate(values, environment),)]


def _restrict_single(relation: ast.Relation, column: Column, table: Table, context: Context) -> Restriction:
    op = relation.op
    if op is Op.CONTAINS or op is Op.CONTAINS_KEY:
        return _restrict_contains(relation, column, table, context)
    if op is Op.NEQ:
        raise InvalidRequest(f'Unsupported "!=" relation: {relation}')
    if op is Op.LIKE:
        prepare(relation.value, column_spec(table, column), context)
        raise InvalidRequest(
            f"LIKE restriction is only supported on properly indexed columns. {relation} is not valid."
        )
    if op is Op.NOT_CONTAINS or op is Op.NOT_CONTAINS_KEY:
        raise NotSupported(f"The operator {op} in WHERE")
    _check_operator(column, op)
    if op is not Op.EQ:
        _check_slice(column)
    term = prepare(relation.value, column_spec(table, column), context)
    if op is Op.EQ:
        return Restriction((column,), Kind.EQ, evaluate=_one(term), term=term)
    return _single_slice(column, op, term)


def _bound(op: Op, evaluate: Evaluate) -> Bound:
    return Bound(evaluate, op is Op.GTE or op is Op.LTE, op is Op.LT or op is Op.LTE)


def _single_slice(column: Column, op: Op, term: BoundTerm) -> Restriction:
    return Restriction((column,), Kind.SLICE, bounds=[_bound(op, _one(term))])


def _restrict_contains(relation: ast.Relation, column: Column, table: Table, context: Context) -> Restriction:
    type = column.type
    spec = column_spec(table, column)
    if relation.op is Op.CONTAINS_KEY:
        if not isinstance(type, MapType):
            raise InvalidRequest(f"Cannot use CONTAINS KEY on non-map column {column.name}")
        key = prepare(relation.value, element_spec(spec, f"key({column.name})", type.key), context)
        return Restriction((column,), Kind.CONTAINS, memberships=(Membership(key, None),))
    if not isinstance(type, CollectionType):
        raise InvalidRequest(f"Cannot use CONTAINS on non-collection column {column.name}")
    value = prepare(relation.value, element_spec(spec, f"value({column.name})", type.element), context)
    return Restriction((column,), Kind.CONTAINS, memberships=(Membership(None, value),))


def _restrict_entry(
    item: ast.WhereItem, target: ast.ElementRef, table: Table, context: Context
) -> Restriction:
    column = find_column(table, target.column)
    type = column.type
    if isinstance(type, ListType):
        raise InvalidRequest(
            f"Indexes on list entries ({column.name}[index] = value) are not currently supported."
        )
    if not isinstance(type, MapType):
        raise InvalidRequest(f"Column {column.name} cannot be used as a map")
    if not type.is_multicell:
        raise InvalidRequest(
            f"Map-entry equality predicates on frozen map column {column.name} are not supported"
        )
    if not isinstance(item, ast.Relation) or item.op is not Op.EQ:
        raise InvalidRequest("Only EQ relations are supported on map entries")
    spec = column_spec(table, column)
    key = prepare(target.key, element_spec(spec, f"key({column.name})", type.key), context)
    value = prepare(item.value, element_spec(spec, f"value({column.name})", type.element), context)
    return Restriction((column,), Kind.CONTAINS, memberships=(Membership(key, value),))


def _restrict_in(item: ast.InRelation, column: Column, table: Table, context: Context) -> Restriction:
    if item.negated:
        raise NotSupported("The operator NOT IN in WHERE")
    _check_operator(column, "IN")
    spec = column_spec(table, column)
    if isinstance(item.values, ast.Marker):
        list_type = ListType(column.type)
        marker = context.bind(item.values, element_spec(spec, f"in({column.name})", list_type))
        name = column.name

        def elements(values: Sequence[Value], environment: Environment) -> list[ValueTuple]:
            bound = marker.evaluate(values, environment)
            if bound is None:
                raise InvalidRequest(f"Invalid null value for column {name}")
            if isinstance(bound, UnsetType):
                raise InvalidRequest(f"Invalid unset value for column {name}")
            return [(element,) for element in list_type.split(bound)]

        return Restriction((column,), Kind.IN, evaluate=elements)
    terms = [prepare(term, spec, context) for term in item.values]
    if len(terms) == 1:
        return Restriction((column,), Kind.EQ, evaluate=_one(terms[0]), term=terms[0])
    evaluators = [term.evaluate for term in terms]
    return Restriction(
        (column,),
        Kind.IN,
        evaluate=lambda values, environment: [(evaluate(values, environment),) for evaluate in evaluators],
    )


# Several columns


def _tuple_columns(item: ast.WhereItem, target: ast.TupleRef, table: Table) -> tuple[Column, ...]:
    columns: list[Column] = []
    for name in target.columns:
        column = find_column(table, name)
        if column.kind is not ColumnKind.CLUSTERING:
            raise InvalidRequest(
                "Multi-column relations can only be applied to clustering columns but was applied to: "
                f"{column.name}"
            )
        if column in columns:
            raise InvalidRequest(f'Column "{column.name}" appeared twice in a relation: {item}')
        if columns and column.position != columns[-1].position + 1:
            raise InvalidRequest(
                f"Clustering columns must appear in the PRIMARY KEY order in multi-column relations: {item}"
            )
        columns.append(column)
    return tuple(columns)


def _tuple_spec(columns: Sequence[Column], table: Table) -> ColumnSpec:
    name = f"({','.join(column.name for column in columns)})"
    return ColumnSpec(table.keyspace, table.name, name, TupleType(tuple(column.type for column in columns)))


def _split_tuple(type: TupleType, value: bytes) -> ValueTuple:
    parts = type.split(value)
    return tuple(parts) + (None,) * (len(type.components) - len(parts))


def _tuple_value(
    term: ast.Term, columns: Sequence[Column], table: Table, context: Context
) -> Callable[[Sequence[Value], Environment], ValueTuple]:
    if isinstance(term, ast.TupleLiteral):
        if len(term.elements) != len(columns):
            raise InvalidRequest(
                f"Expected {len(columns)} elements in value tuple, but got {len(term.elements)}: {term}"
            )
        evaluators = [
            prepare(element, column_spec(table, column), context).evaluate
            for element, column in zip(term.elements, columns, strict=True)
        ]
        return lambda values, environment: tuple(evaluate(values, environment) for evaluate in evaluators)
    spec = _tuple_spec(columns, table)
    tuple_type = spec.type
    assert isinstance(tuple_type, TupleType)
    bound = prepare(term, spec, context)
    names = ", ".join(column.name for column in columns)

    def of_marker(values: Sequence[Value], environment: Environment) -> ValueTuple:
        value = bound.evaluate(values, environment)
        if value is None:
            raise InvalidRequest(f"Invalid null value for column {names}")
        if isinstance(value, UnsetType):
            raise InvalidRequest(f"Invalid unset value for tuple {spec.name}")
        return _split_tuple(tuple_type, value)

    return of_marker


def _restrict_tuple(
    item: ast.Relation | ast.InRelation | ast.BetweenRelation,
    target: ast.TupleRef,
    table: Table,
    context: Context,
) -> Iterator[Restriction]:
    columns = _tuple_columns(item, target, table)
    if isinstance(item, ast.InRelation):
        if item.negated:
            raise NotSupported("The operator NOT IN in WHERE")
        yield _restrict_tuple_in(item, columns, table, context)
        return
    pairs: list[tuple[ast.Term, Op]]
    if isinstance(item, ast.BetweenRelation):
        pairs = [(item.low, Op.GTE), (item.high, Op.LTE)]
    else:
        if item.op not in (Op.EQ, Op.LT, Op.LTE, Op.GT, Op.GTE):
            raise InvalidRequest(f"{item.op} cannot be used for multi-column relations")
        pairs = [(item.value, item.op)]
    for term, op in pairs:
        value = _tuple_value(term, columns, table, context)

        def evaluate(
            values: Sequence[Value],
            environment: Environment,
            value: Callable[[Sequence[Value], Environment], ValueTuple] = value,
        ) -> list[ValueTuple]:
            return [value(values, environment)]

        if op is Op.EQ:
            yield Restriction(columns, Kind.EQ, is_multi=True, evaluate=evaluate)
        else:
            for column in columns:
                _check_slice(column)
            yield Restriction(columns, Kind.SLICE, is_multi=True, bounds=[_bound(op, evaluate)])


def _restrict_tuple_in(
    item: ast.InRelation, columns: tuple[Column, ...], table: Table, context: Context
) -> Restriction:
    if isinstance(item.values, ast.Marker):
        spec = _tuple_spec(columns, table)
        tuple_type = spec.type
        assert isinstance(tuple_type, TupleType)
        list_type = ListType(tuple_type)
        marker = context.bind(item.values, element_spec(spec, f"in{spec.name}", list_type))

        def elements(values: Sequence[Value], environment: Environment) -> list[ValueTuple]:
            bound = marker.evaluate(values, environment)
            if bound is None:
                raise InvalidRequest("Invalid null value for IN restriction")
            if isinstance(bound, UnsetType):
                raise InvalidRequest(f"Invalid unset value for in{spec.name}")
            return [_split_tuple(tuple_type, element) for element in list_type.split(bound)]

        return Restriction(columns, Kind.IN, is_multi=True, evaluate=elements)
    tuples = [_tuple_value(term, columns, table, context) for term in item.values]

    def evaluate(values: Sequence[Value], environment: Environment) -> list[ValueTuple]:
        return [value(values, environment) for value in tuples]

    kind = Kind.EQ if len(tuples) == 1 else Kind.IN
    return Restriction(columns, kind, is_multi=True, evaluate=evaluate)


# --- merging ------------------------------------------------------------------------------------------------


def _common(left: Restriction, right: Restriction) -> str:
    return " ,".join(column.name for column in left.columns if column in right.columns)


def merge(left: Restriction, right: Restriction) -> Restriction:
    """Both, of which ``left`` was written first.

    Raises:
        InvalidRequest: they can't stand together.
    """
    names = _common(left, right)
    if left.kind is Kind.EQ:
        raise InvalidRequest(
            f"{names} cannot be restricted by more than one relation if it includes an Equal"
        )
    if left.kind is Kind.IN:
        raise InvalidRequest(f"{names} cannot be restricted by more than one relation if it includes a IN")
    if left.kind is Kind.CONTAINS:
        if right.kind is not Kind.CONTAINS:
            raise InvalidRequest(
                f"Collection column {names} can only be restricted by CONTAINS, CONTAINS KEY, "
                "or map-entry equality"
            )
        return Restriction(left.columns, Kind.CONTAINS, memberships=left.memberships + right.memberships)
    return _merge_slices(left, right, names)


def _merge_slices(left: Restriction, right: Restriction, names: str) -> Restriction:
    if right.kind is not Kind.SLICE:
        raise InvalidRequest(
            f'Column "{names}" cannot be restricted by both an equality and an inequality relation'
        )
    if left.first is not right.first:
        raise InvalidRequest(
            f'Column "{names}" cannot be restricted by two inequalities not starting with the same column'
        )
    if left.lower is not None and right.lower is not None:
        raise InvalidRequest(f"More than one restriction was found for the start bound on {names}")
    if left.upper is not None and right.upper is not None:
        raise InvalidRequest(f"More than one restriction was found for the end bound on {names}")
    bounds = [bound for bound in (left.lower, left.upper, right.lower, right.upper) if bound is not None]
    columns = max(left.columns, right.columns, key=len)
    return Restriction(columns, Kind.SLICE, is_multi=left.is_multi or right.is_multi, bounds=bounds)


class RestrictionSet:
    """Restrictions on columns of one kind, merged, at most one for each column."""

    __slots__ = ("_of",)

    def __init__(self) -> None:
        self._of: dict[str, Restriction] = {}

    def add(self, restriction: Restriction) -> None:
        for earlier in self.all():
            if any(column in earlier.columns for column in restriction.columns):
                restriction = merge(earlier, restriction)
                for column in earlier.columns:
                    del self._of[column.name]
        for column in restriction.columns:
            self._of[column.name] = restriction

    def of(self, column: Column) -> Restriction | None:
        return self._of.get(column.name)

    def all(self) -> list[Restriction]:
        """Each once, in order of their columns' positions (of name, where columns have none)."""
        found: dict[int, Restriction] = {id(restriction): restriction for restriction in self._of.values()}
        return sorted(found.values(), key=lambda each: (each.first.position, each.first.name.encode()))

    def columns(self) -> list[Column]:
        return [column for restriction in self.all() for column in restriction.columns]

    def __bool__(self) -> bool:
        return bool(self._of)


def token_spec(table: Table) -> ColumnSpec:
    """What ``token(...)`` on the left of a relation is compared with."""
    return ColumnSpec(table.keyspace, table.name, "partition key token", native.BIGINT)
