"""The restrictions of a whole WHERE clause: what each statement allows, and how rows are found.

Three sets are kept apart, as in Cassandra: those on the partition key (or its token), those on clustering columns,
and the rest. What can't be found by key must be filtered row by row, which a SELECT has to allow.

Source: Apache Cassandra 5, ``StatementRestrictions``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ourodb.cql.analysis.restrictions import keys as restriction_keys
from ourodb.cql.analysis.restrictions.filters import RowFilter, RowTest, compile_filter
from ourodb.cql.analysis.restrictions.keys import PositionRange
from ourodb.cql.analysis.restrictions.relations import (
    Bound,
    Kind,
    Restriction,
    RestrictionSet,
    ValueTuple,
    restrict,
    token_spec,
)
from ourodb.cql.analysis.tables import find_column
from ourodb.cql.analysis.terms import BoundTerm, Context, Environment, prepare
from ourodb.cql.syntax import ast
from ourodb.cql.wire.primitives import Value
from ourodb.errors import InvalidRequest
from ourodb.schema.model import Column, ColumnKind, Table
from ourodb.storage.keys import Slice, TableKeys

NEEDS_FILTERING = (
    "Cannot execute this query as it might involve data filtering and thus may have unpredictable performance. "
    "If you want to execute this query despite the performance unpredictability, use ALLOW FILTERING"
)


_MEMBERSHIP = (ast.Operator.CONTAINS, ast.Operator.CONTAINS_KEY)

SELECT = "SELECT"
UPDATE = "UPDATE"
DELETE = "DELETE"


class Restrictions:
    """A WHERE clause, checked.

    Attributes:
        table, keys: what it restricts.
        partition: restrictions on partition key columns.
        clustering: restrictions on clustering columns.
        others: restrictions on static and regular columns.
        token: the restriction on ``token(...)``, or None.
        is_range: partitions are not named one by one, but are a range of tokens or all.
        partition_key_has_in: some component of the partition key is restricted by IN.
        needs_filtering: some restriction is tested row by row.
        clustering_prefix: those restrictions on clustering columns by which rows are found.
        only_statics: the statement reads or changes nothing but static columns.
        position: (values, environment) -> position where the partition key is wholly given by ``=``, else None.
    """

    __slots__ = (
        "_filters",
        "clustering",
        "clustering_prefix",
        "is_range",
        "keys",
        "kind",
        "needs_filtering",
        "only_statics",
        "others",
        "partition",
        "partition_key_has_in",
        "position",
        "table",
        "token",
    )

    position: Callable[[Sequence[Value], Environment], bytes] | None

    def __init__(
        self,
        kind: str,
        table: Table,
        keys: TableKeys,
        where: Sequence[ast.WhereItem],
        context: Context,
        *,
        allow_filtering: bool = False,
        only_statics: bool = False,
    ) -> None:
        """
        Args:
            only_statics: the statement reads or changes nothing but static columns (and the partition key).
        Raises:
            InvalidRequest: with Cassandra's text.
        """
        self.kind = kind
        self.only_statics = only_statics
        self.table = table
        self.keys = keys
        self.partition = RestrictionSet()
        self.clustering = RestrictionSet()
        self.others = RestrictionSet()
        self.token: Restriction | None = None
        filtering = allow_filtering or table.virtual
        for item in where:
            if isinstance(item, (ast.Relation, ast.InRelation, ast.BetweenRelation)) and isinstance(
                item.target, ast.TokenRef
            ):
                self._add_token(item, item.target, context)
                continue
            if kind != SELECT and isinstance(item, ast.Relation) and item.op in _MEMBERSHIP:
                raise InvalidRequest(f"Cannot use {kind} with {item.op}")
            for restriction in restrict(item, table, context):
                self._add(restriction, filtering)
        self.is_range = False
        self._check_partition_key(filtering)
        if only_statics and self.clustering:
            if kind == SELECT:
                raise InvalidRequest("Cannot restrict clustering columns when selecting only static columns")
            raise InvalidRequest(
                "Invalid restrictions on clustering columns since the "
                f"{kind} statement modifies only static columns"
            )
        self._check_clustering(filtering, only_statics)
        self._check_others(filtering)
        self.clustering_prefix, clustering_filters = self._split_clustering()
        partition = self.partition.all()
        self.partition_key_has_in = any(restriction.kind is Kind.IN for restriction in partition)
        filtered = [] if not self._partition_needs_filtering() else partition
        filtered = [*filtered, *clustering_filters, *self.others.all()]
        self._filters: list[RowFilter] = [test for each in filtered for test in compile_filter(each)]
        self.needs_filtering = bool(self._filters)
        self.position = None
        if not self.is_range and not self.partition_key_has_in and self.token is None:
            self.position = restriction_keys.position_closure(keys, table.partition_key, partition)

    @classmethod
    def for_select(
        cls,
        table: Table,
        keys: TableKeys,
        where: Sequence[ast.WhereItem],
        context: Context,
        *,
        allow_filtering: bool,
        only_statics: bool = False,
    ) -> Restrictions:
        """Of a SELECT."""
        return cls(
            SELECT,
            table,
            keys,
            where,
            context,
            allow_filtering=allow_filtering,
            only_statics=only_statics,
        )

    @classmethod
    def for_modification(
        cls, kind: str, where: Sequence[ast.WhereItem], table: Table, only_statics: bool, context: Context
    ) -> Restrictions:
        """Of an UPDATE or DELETE: the partition key by ``=`` and IN; an UPDATE likewise names whole clustering keys,
        a DELETE may name a slice of rows.

        Args:
            kind: UPDATE or DELETE.
            only_statics: it changes nothing but static columns.
        """
        return cls(kind, table, TableKeys(table), where, context, only_statics=only_statics)

    # What was said

    @property
    def has_clustering(self) -> bool:
        """Whether clustering columns are restricted at all."""
        return bool(self.clustering)

    @property
    def has_regular(self) -> bool:
        return any(column.kind is ColumnKind.REGULAR for column in self.others.columns())

    @property
    def clustering_has_in(self) -> bool:
        return any(restriction.kind is Kind.IN for restriction in self.clustering.all())

    @property
    def names_rows(self) -> bool:
        """Whether every clustering column is restricted by ``=`` or IN, so that ``clusterings`` names the rows."""
        if any(restriction.kind not in (Kind.EQ, Kind.IN) for restriction in self.clustering_prefix):
            return False
        return sum(len(each.columns) for each in self.clustering_prefix) == len(self.table.clustering)

    @property
    def names_one_row(self) -> bool:
        """Whether partition key and clustering are wholly given by ``=``."""
        return (
            self.position is not None
            and self.names_rows
            and all(restriction.kind is Kind.EQ for restriction in self.clustering_prefix)
        )

    @property
    def partition_terms(self) -> list[BoundTerm] | None:
        """The terms of the partition key's columns, where each is restricted by ``=``."""
        return _terms(self.partition, self.table.partition_key)

    @property
    def clustering_terms(self) -> list[BoundTerm] | None:
        """The terms of all clustering columns, where each is restricted by a ``=`` of its own."""
        return _terms(self.clustering, self.table.clustering)

    def check_scan(self, allow_filtering: bool) -> None:
        """What a SELECT checks last: clustering keys in a range of partitions are looked for row by row.

        Raises:
            InvalidRequest: that needs ALLOW FILTERING.
        """
        if self.is_range and self.clustering and not allow_filtering and not self.table.virtual:
            raise InvalidRequest(NEEDS_FILTERING)

    # With bound values

    def positions(self, values: Sequence[Value], environment: Environment) -> list[bytes]:
        """The partitions named by ``=`` and IN, each once, in order of their keys' values; not for ranges.

        Raises:
            InvalidRequest: a value is null, unset, too long, or of the wrong type.
        """
        if self.position is not None:
            return [self.position(values, environment)]
        found = restriction_keys.positions(
            self.keys, self.table.partition_key, self.partition.all(), values, environment
        )
        if self.token is not None:
            wanted = restriction_keys.token_range(self.token, values, environment)
            found = [] if wanted is None else [each for each in found if _within(each, wanted)]
        return found

    def partition_keys(self, values: Sequence[Value], environment: Environment) -> list[tuple[bytes, ...]]:
        """As ``positions``, as the values of the partition key columns."""
        return [self.keys.partition_values(position) for position in self.positions(values, environment)]

    def position_range(self, values: Sequence[Value], environment: Environment) -> PositionRange | None:
        """The range to scan where ``is_range``; None when it is empty."""
        if self.token is None:
            return b"", None
        return restriction_keys.token_range(self.token, values, environment)

    def clustering_rows(
        self, values: Sequence[Value], environment: Environment
    ) -> Sequence[tuple[bytes, ...] | None] | None:
        """The clustering values of the rows that are named one by one, None when they aren't.

        For a statement on static columns it is the static row alone, which is None too.
        """
        if self.only_statics and not self.clustering:
            return (None,)
        if not self.names_rows:
            return None
        found = restriction_keys.combinations(self.clustering_prefix, values, environment)
        return list(dict.fromkeys(found)) if len(found) > 1 else found

    def slices(self, values: Sequence[Value], environment: Environment) -> Sequence[Slice] | None:
        """The slices of rows, in storage order, none of them empty; None: the whole partition."""
        if not self.clustering_prefix:
            return None
        return restriction_keys.slices(self.keys, self.clustering_prefix, values, environment)

    def row_test(self, values: Sequence[Value], environment: Environment) -> RowTest | None:
        """What a row must pass to be in the result, None when nothing is left to test."""
        if not self._filters:
            return None
        tests = [bind(values, environment) for bind in self._filters]
        if len(tests) == 1:
            return tests[0]
        return lambda row: all(test(row) for test in tests)

    # Adding

    def _add(self, restriction: Restriction, filtering: bool) -> None:
        kind = restriction.first.kind
        if kind is ColumnKind.PARTITION_KEY:
            self.partition.add(restriction)
        elif kind is ColumnKind.CLUSTERING:
            self._add_clustering(restriction, filtering)
        else:
            self.others.add(restriction)

    def _add_clustering(self, restriction: Restriction, filtering: bool) -> None:
        earlier = self.clustering.all()
        self.clustering.add(restriction)
        if not earlier or filtering:
            return
        last = earlier[-1]
        if last.kind is Kind.SLICE and restriction.first.position > last.first.position:
            raise InvalidRequest(
                f'Clustering column "{restriction.first.name}" cannot be restricted '
                f'(preceding column "{last.first.name}" is restricted by a non-EQ relation)'
            )
        if restriction.kind is Kind.SLICE and restriction.first.position < last.first.position:
            following = next(
                column.name
                for column in self.clustering.columns()
                if column.position > restriction.first.position
            )
            raise InvalidRequest(
                f'PRIMARY KEY column "{following}" cannot be restricted '
                f'(preceding column "{restriction.first.name}" is restricted by a non-EQ relation)'
            )

    def _add_token(
        self,
        item: ast.Relation | ast.InRelation | ast.BetweenRelation,
        target: ast.TokenRef,
        context: Context,
    ) -> None:
        columns = [find_column(self.table, name) for name in target.columns]
        _check_token_columns(columns, self.table)
        spec = token_spec(self.table)
        if isinstance(item, ast.InRelation):
            raise InvalidRequest("IN cannot be used with the token function")
        pairs: list[tuple[ast.Term, ast.Operator]]
        if isinstance(item, ast.BetweenRelation):
            pairs = [(item.low, ast.Operator.GTE), (item.high, ast.Operator.LTE)]
        else:
            if item.op is ast.Operator.NEQ:
                raise InvalidRequest(f'Unsupported "!=" relation: {item}')
            pairs = [(item.value, item.op)]
        for value, op in pairs:
            term = prepare(value, spec, context)
            restriction = _token_restriction(tuple(columns), op, term)
            self.token = restriction if self.token is None else _merge_tokens(self.token, restriction)

    # Checking

    def _partition_needs_filtering(self) -> bool:
        restrictions = self.partition.all()
        if not restrictions:
            return False
        restricted = len(self.partition.columns())
        return restricted < len(self.table.partition_key) or any(
            restriction.kind in (Kind.SLICE, Kind.CONTAINS) for restriction in restrictions
        )

    def _check_partition_key(self, filtering: bool) -> None:
        restricted = self.partition.columns()
        if self.kind != SELECT:
            if self.token is not None:
                raise InvalidRequest(
                    f"The token function cannot be used in WHERE clauses for {self.kind} statements"
                )
            missing = [column.name for column in self.table.partition_key if column not in restricted]
            if missing:
                raise InvalidRequest(f"Some partition key parts are missing: {', '.join(missing)}")
            if any(each.kind not in (Kind.EQ, Kind.IN) for each in self.partition.all()):
                raise InvalidRequest(
                    "Only EQ and IN relation are supported on the partition key "
                    f"(unless you use the token() function) for {self.kind} statements"
                )
            return
        if not restricted:
            self.is_range = True
        elif self._partition_needs_filtering():
            if not filtering:
                raise InvalidRequest(NEEDS_FILTERING)
            self.is_range = True

    def _check_clustering(self, filtering: bool, only_statics: bool) -> None:
        restrictions = self.clustering.all()
        if self.kind == UPDATE:
            if any(restriction.kind is Kind.SLICE for restriction in restrictions):
                raise InvalidRequest(
                    "Slice restrictions are not supported on the clustering columns in UPDATE statements"
                )
            restricted = self.clustering.columns()
            missing = [column.name for column in self.table.clustering if column not in restricted]
            if missing and not only_statics:
                raise InvalidRequest(f"Some clustering keys are missing: {', '.join(missing)}")
            return
        if any(restriction.kind is Kind.CONTAINS for restriction in restrictions) and not filtering:
            raise InvalidRequest(
                "Clustering columns can only be restricted with CONTAINS with a secondary index or filtering"
            )
        if not filtering:
            for wanted, column in zip(self.table.clustering, self.clustering.columns(), strict=False):
                if wanted is not column:
                    raise InvalidRequest(
                        f'PRIMARY KEY column "{column.name}" cannot be restricted as '
                        f'preceding column "{wanted.name}" is not restricted'
                    )

    def _check_others(self, filtering: bool) -> None:
        if not self.others:
            return
        if self.kind != SELECT:
            names = ", ".join(column.name for column in self.others.columns())
            raise InvalidRequest(f"Non PRIMARY KEY columns found in where clause: {names} ")
        if not filtering:
            raise InvalidRequest(NEEDS_FILTERING)

    def _split_clustering(self) -> tuple[list[Restriction], list[Restriction]]:
        """Those by which rows are found, and those for filtering."""
        prefix: list[Restriction] = []
        filtered: list[Restriction] = []
        position = 0
        for restriction in self.clustering.all():
            usable = restriction.kind is not Kind.CONTAINS and restriction.first.position == position
            if usable and (not prefix or prefix[-1].kind is not Kind.SLICE):
                prefix.append(restriction)
                if restriction.kind is not Kind.SLICE:
                    position = restriction.last.position + 1
            else:
                filtered.append(restriction)
        return prefix, filtered


def _terms(restrictions: RestrictionSet, columns: Sequence[Column]) -> list[BoundTerm] | None:
    found = []
    for column in columns:
        restriction = restrictions.of(column)
        if restriction is None or restriction.kind is not Kind.EQ or restriction.term is None:
            return None
        found.append(restriction.term)
    return found


def _within(position: bytes, wanted: PositionRange) -> bool:
    start, end = wanted
    return start <= position and (end is None or position < end)


# --- tokens -------------------------------------------------------------------------------------------------


def _check_token_columns(columns: Sequence[Column], table: Table) -> None:
    key = table.partition_key
    if tuple(columns) == key:
        return
    if not all(column in columns for column in key):
        raise InvalidRequest(
            "The token() function must be applied to all partition key components or none of them"
        )
    if len({column.name for column in columns}) < len(columns):
        raise InvalidRequest("The token() function contains duplicate partition key components")
    if not all(column in key for column in columns):
        raise InvalidRequest("The token() function must contains only partition key components")
    raise InvalidRequest(
        "The token function arguments must be in the partition key order: "
        + ", ".join(column.name for column in key)
    )


def _token_restriction(columns: tuple[Column, ...], op: ast.Operator, term: BoundTerm) -> Restriction:
    def evaluate(values: Sequence[Value], environment: Environment) -> list[ValueTuple]:
        return [(term.evaluate(values, environment),)]

    if op is ast.Operator.EQ:
        return Restriction(columns, Kind.EQ, evaluate=evaluate)
    inclusive = op in (ast.Operator.GTE, ast.Operator.LTE)
    upper = op in (ast.Operator.LT, ast.Operator.LTE)
    if not upper and op not in (ast.Operator.GT, ast.Operator.GTE):
        raise InvalidRequest(f"{op} cannot be used with the token function")
    return Restriction(columns, Kind.SLICE, bounds=[Bound(evaluate, inclusive, upper)])


def _merge_tokens(left: Restriction, right: Restriction) -> Restriction:
    names = ", ".join(column.name for column in left.columns)
    if left.kind is Kind.EQ:
        raise InvalidRequest(
            f"{names} cannot be restricted by more than one relation if it includes an Equal"
        )
    if right.kind is Kind.EQ:
        raise InvalidRequest(
            f'Columns "{names}" cannot be restricted by both an equality and an inequality relation'
        )
    if left.lower is not None and right.lower is not None:
        raise InvalidRequest(f"More than one restriction was found for the start bound on {names}")
    if left.upper is not None and right.upper is not None:
        raise InvalidRequest(f"More than one restriction was found for the end bound on {names}")
    bounds = [bound for bound in (left.lower, left.upper, right.lower, right.upper) if bound is not None]
    return Restriction(left.columns, Kind.SLICE, bounds=bounds)
