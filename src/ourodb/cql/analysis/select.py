"""A SELECT checked against its table: the clause, WHERE, DISTINCT, GROUP BY, ORDER BY, limits.

Source: Apache Cassandra 5, ``SelectStatement.RawStatement``.
"""

from __future__ import annotations

from collections.abc import Sequence

from ourodb.cql.analysis.restrictions.relations import Kind
from ourodb.cql.analysis.restrictions.statement import Restrictions
from ourodb.cql.analysis.selection.clause import SelectClause
from ourodb.cql.analysis.tables import find_column
from ourodb.cql.analysis.terms import BoundTerm, ColumnSpec, Context, prepare
from ourodb.cql.syntax import ast
from ourodb.cql.types import native
from ourodb.errors import InvalidRequest, NotSupported
from ourodb.schema.model import Column, ColumnKind, Table
from ourodb.storage.keys import TableKeys

_WRONG_GROUP_ORDER = (
    "Group by currently only support groups of columns following their declared order in the PRIMARY KEY"
)


class CheckedSelect:
    """What a SELECT means.

    Attributes:
        is_distinct: one row for each partition.
        group_prefix: rows with the same partition and so many first clustering values are one group; -1: no GROUP BY.
        is_reversed: rows come in the reverse of storage order.
        sort_columns: what rows of several partitions are sorted by after they were read, with whether descending.
        limit, per_partition_limit: terms, or None.
    """

    __slots__ = (
        "clause",
        "group_prefix",
        "is_distinct",
        "is_reversed",
        "limit",
        "per_partition_limit",
        "restrictions",
        "sort_columns",
        "table",
    )

    def __init__(self, statement: ast.Select, table: Table, keys: TableKeys, context: Context) -> None:
        """
        Raises:
            InvalidRequest: with Cassandra's text.
            NotSupported: Cassandra has it.
        """
        if statement.json:
            raise NotSupported("SELECT JSON")
        if any(ordering.ann_of is not None for ordering in statement.order_by):
            raise NotSupported("ORDER BY ... ANN OF")
        self.table = table
        self.is_distinct = statement.distinct
        self.clause = SelectClause(statement.selectors, table, context)
        # A column that is named twice counts where it was named first, with the order named last.
        ordered_by_name = {each.column: not each.ascending for each in statement.order_by}
        ordered = [(find_column(table, name), descending) for name, descending in ordered_by_name.items()]
        self.restrictions = Restrictions.for_select(
            table,
            keys,
            statement.where,
            context,
            allow_filtering=statement.allow_filtering,
            only_statics=self.clause.only_statics,
        )
        self.limit = _limit(statement.limit, "[limit]", table, context)
        self.per_partition_limit = _limit(
            statement.per_partition_limit, "[per_partition_limit]", table, context
        )
        if self.is_distinct:
            self._check_distinct()
        self.group_prefix = self._group_prefix(statement.group_by)
        if self.per_partition_limit is not None and self.is_aggregate and self.group_prefix < 0:
            raise InvalidRequest("PER PARTITION LIMIT is not allowed with aggregate queries.")
        self.is_reversed = self._reversed(ordered)
        by_keys = self.restrictions.partition_key_has_in and not self.restrictions.is_range
        self.sort_columns = ordered if by_keys else []
        self.restrictions.check_scan(statement.allow_filtering)

    @property
    def is_aggregate(self) -> bool:
        """Whether rows are put together: an aggregate in the clause, or GROUP BY."""
        return self.clause.is_aggregate or self.group_prefix >= 0

    def _check_distinct(self) -> None:
        if self.per_partition_limit is not None:
            raise InvalidRequest("PER PARTITION LIMIT is not allowed with SELECT DISTINCT queries")
        restrictions = self.restrictions
        if restrictions.has_clustering or restrictions.has_regular:
            raise InvalidRequest(
                "SELECT DISTINCT with WHERE clause only supports restriction by partition key and/or static columns."
            )
        for column in self.clause.columns:
            if column.kind not in (ColumnKind.PARTITION_KEY, ColumnKind.STATIC):
                raise InvalidRequest(
                    "SELECT DISTINCT queries must only request partition key columns and/or static columns "
                    f"(not {column.name})"
                )
        if restrictions.is_range:
            for column in self.table.partition_key:
                if column not in self.clause.columns:
                    raise InvalidRequest(
                        "SELECT DISTINCT queries must request all the partition key columns "
                        f"(missing {column.name})"
                    )

    def _restricted_by_eq(self, column: Column) -> bool:
        kind = column.kind
        restrictions = self.restrictions
        chosen = restrictions.partition if kind is ColumnKind.PARTITION_KEY else restrictions.clustering
        restriction = chosen.of(column)
        return restriction is not None and restriction.kind is Kind.EQ

    def _group_prefix(self, group_by: Sequence[ast.Selectable]) -> int:
        if not group_by:
            return -1
        primary_key = iter(self.table.partition_key + self.table.clustering)
        prefix = 0
        for selectable in group_by:
            if not isinstance(selectable, ast.ColumnRef):
                raise NotSupported("GROUP BY on a function")
            wanted = find_column(self.table, selectable.name)
            if wanted.kind not in (ColumnKind.PARTITION_KEY, ColumnKind.CLUSTERING):
                raise InvalidRequest(
                    f"Group by is currently only supported on the columns of the PRIMARY KEY, got {wanted.name}"
                )
            while True:
                column = next(primary_key, None)
                if column is None:
                    raise InvalidRequest(_WRONG_GROUP_ORDER)
                if column.kind is ColumnKind.CLUSTERING:
                    prefix += 1
                if column is wanted:
                    break
                if not self._restricted_by_eq(column):
                    raise InvalidRequest(_WRONG_GROUP_ORDER)
        following = next(primary_key, None)
        if following is not None and following.kind is ColumnKind.PARTITION_KEY:
            raise InvalidRequest("Group by is not supported on only a part of the partition key")
        if prefix and self.is_distinct:
            raise InvalidRequest("Grouping on clustering columns is not allowed for SELECT DISTINCT queries")
        return prefix

    def _reversed(self, ordered: Sequence[tuple[Column, bool]]) -> bool:
        if not ordered:
            return False
        if self.restrictions.is_range:
            raise InvalidRequest(
                "ORDER BY is only supported when the partition key is restricted by an EQ or an IN."
            )
        position = 0
        reversed_columns: list[bool] = []
        for column, descending in ordered:
            if column.kind is not ColumnKind.CLUSTERING:
                raise InvalidRequest(
                    "Order by is currently only supported on the clustered columns of the PRIMARY KEY, "
                    f"got {column.name}"
                )
            while position != column.position:
                if position >= len(self.table.clustering) or not self._restricted_by_eq(
                    self.table.clustering[position]
                ):
                    raise InvalidRequest(
                        "Order by currently only supports the ordering of columns following their declared "
                        "order in the PRIMARY KEY"
                    )
                position += 1
            position += 1
            reversed_columns.append(descending != column.descending)
        if len(set(reversed_columns)) > 1:
            raise InvalidRequest("Unsupported order by relation")
        return reversed_columns[0]


def _limit(
    limit: ast.Constant | ast.Marker | None, name: str, table: Table, context: Context
) -> BoundTerm | None:
    if limit is None:
        return None
    return prepare(limit, ColumnSpec(table.keyspace, table.name, name, native.INT), context)
