"""A SELECT compiled: once for each prepared statement, then bound to the values of each execution.

``bind`` gives a ``ReadCommand``: what to read (partitions one by one, or a range of positions), which slices of their
rows, what each row must pass, and how rows become result rows. It knows nothing of stores or replicas; the
coordinator carries it out, page by page.

The usual SELECT of one row by its whole key has a way of its own that makes no command at all: ``point.key`` gives the
position and the clustering key, ``point.encode`` the result row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TypeAlias

from ourodb.cql.analysis.restrictions.filters import RowTest
from ourodb.cql.analysis.restrictions.keys import PositionRange, checked
from ourodb.cql.analysis.select import CheckedSelect
from ourodb.cql.analysis.selection.selectable import NewGroup
from ourodb.cql.analysis.terms import BoundTerm, ColumnSpec, Constant, Context, Marker
from ourodb.cql.plan.options import ExecuteOptions
from ourodb.cql.plan.row_encoding import EncodeRow, compile_columns, compile_values, encode_value
from ourodb.cql.syntax import ast
from ourodb.cql.types.base import CqlType
from ourodb.cql.wire.columns import RowsMetadata
from ourodb.cql.wire.primitives import UnsetType, Value
from ourodb.errors import InvalidRequest
from ourodb.schema.model import Table
from ourodb.storage.keys import ALL_ROWS, Slice, TableKeys
from ourodb.storage.row import LiveRow

UNLIMITED = (1 << 31) - 1
"""Rows, where there is no limit: as in Cassandra no result is longer."""

STATEMENT_HASH_BYTES = 8

RowKey: TypeAlias = Callable[[Sequence[Value], ExecuteOptions], tuple[bytes, bytes]]


class SortKey:
    """Orders rows of several partitions: ORDER BY where the partition key is restricted by IN.

    Attributes:
        of: the key of a row; rows sort by it. A row without clustering sorts last.
    """

    __slots__ = ("of",)

    def __init__(self, columns: Sequence[tuple[int, CqlType, bool]]) -> None:
        """
        Args:
            columns: position among the clustering columns, type, descending.
        """
        encoders = [
            (position, type.encode_ordered_desc if descending else type.encode_ordered)
            for position, type, descending in columns
        ]

        def of(row: LiveRow) -> bytes:
            if row.clustering_key is None:
                return b"\xff"
            values = row.clustering
            return b"".join([encode(values[position]) for position, encode in encoders])

        self.of = of


class ReadCommand:
    """One execution of a SELECT.

    Attributes:
        positions: the partitions to read, or None for ``range``.
        range: positions to scan; None (and no positions): nothing can be found.
        slices: the rows wanted of each partition, in storage order, none empty.
        reverse: rows come in reverse of storage order.
        static_alone: a partition that has only a static row gives one row.
        test: what a row must pass, or None.
        encode: a row of the result, where rows aren't grouped.
        groups: for each selector the maker of its states, where rows are grouped.
        group_prefix: rows are one group while the partition and so many clustering values stay the same; -1: all are.
        one_per_partition: DISTINCT.
        limit, per_partition_limit: of result rows; ``UNLIMITED``.
        page_size: result rows a page, 0 for no paging.
        sort: orders the whole result before it is limited, or None.
        now_s: as of when to read, seconds.
        paging_state: where to go on, still sealed, or None.
    """

    __slots__ = (
        "encode",
        "group_prefix",
        "groups",
        "limit",
        "now_s",
        "one_per_partition",
        "page_size",
        "paging_state",
        "per_partition_limit",
        "positions",
        "range",
        "reverse",
        "slices",
        "sort",
        "static_alone",
        "test",
    )

    encode: EncodeRow | None
    group_prefix: int
    groups: list[NewGroup] | None
    limit: int
    now_s: int
    one_per_partition: bool
    page_size: int
    paging_state: bytes | None
    per_partition_limit: int
    positions: list[bytes] | None
    range: PositionRange | None
    reverse: bool
    slices: Sequence[Slice]
    sort: SortKey | None
    static_alone: bool
    test: RowTest | None


class PointPlan:
    """The read of one row by its whole key.

    Attributes:
        key: (values, options) -> (position, clustering key).
        encode: the result row.
    """

    __slots__ = ("encode", "key")

    def __init__(self, key: RowKey, encode: EncodeRow) -> None:
        self.key = key
        self.encode = encode


class SelectPlan:
    """A compiled SELECT.

    Attributes:
        table: as it was when the plan was made; the plan is good while the schema still holds this very object.
        variables: the bind markers.
        partition_key_indexes: the markers that make up the partition key; () when it isn't wholly bound.
        specs: the result's columns.
        warnings: for the client, at each execution.
        hash: of the statement; paging states of other statements are refused.
        point: the fast way to one row, or None.
    """

    __slots__ = (
        "_encode",
        "_metadata",
        "checked",
        "hash",
        "keys",
        "partition_key_indexes",
        "point",
        "specs",
        "table",
        "variables",
        "warnings",
    )

    def __init__(
        self, statement: ast.Select, table: Table, keys: TableKeys, context: Context, text: str
    ) -> None:
        """
        Args:
            keys: of the table.
            text: of the statement, by which paging states are told apart.
        Raises:
            InvalidRequest: the statement doesn't fit the table; with Cassandra's text.
        """
        self.table = table
        self.keys = keys
        self.checked = CheckedSelect(statement, table, keys, context)
        self.variables = context.bound_variables()
        self.partition_key_indexes = context.partition_key_indexes(table)
        clause = self.checked.clause
        self.specs: list[ColumnSpec] = clause.specs
        self.hash = hashlib.blake2s(
            f"{table.keyspace}.{table.name}/{table.id}/{table.incarnation}\0{text}".encode(),
            digest_size=STATEMENT_HASH_BYTES,
        ).digest()
        self._metadata: dict[int, RowsMetadata] = {}
        self._encode = None if clause.plain is None else compile_columns(clause.plain)
        self.warnings = [*context.warnings, *_aggregation_warnings(self.checked)]
        self.point = self._point()

    def metadata(self, version: int) -> RowsMetadata:
        """Of the result, for a version of the protocol."""
        found = self._metadata.get(version)
        if found is None:
            found = self._metadata[version] = RowsMetadata([spec.wire() for spec in self.specs], version)
        return found

    def bind(self, values: Sequence[Value], options: ExecuteOptions) -> ReadCommand:
        """The command with these values.

        Raises:
            InvalidRequest: a value is missing or wrong.
        """
        checked = self.checked
        restrictions = checked.restrictions
        command = ReadCommand()
        command.now_s = options.now_s
        command.paging_state = options.paging_state
        command.page_size = max(options.page_size, 0)
        command.limit = _bind_limit(checked.limit, values, options)
        command.per_partition_limit = _bind_limit(checked.per_partition_limit, values, options)
        command.range = None
        command.positions = None
        if restrictions.is_range:
            command.range = restrictions.position_range(values, options)
        else:
            command.positions = restrictions.positions(values, options)
        slices = restrictions.slices(values, options)
        command.slices = ALL_ROWS if slices is None else slices
        command.reverse = checked.is_reversed
        command.static_alone = not restrictions.has_clustering and not restrictions.has_regular
        command.test = restrictions.row_test(values, options)
        command.one_per_partition = checked.is_distinct
        command.group_prefix = checked.group_prefix
        command.groups = None
        command.encode = None
        command.sort = None
        if checked.is_aggregate:
            command.groups = [each.group(values, options) for each in checked.clause.selectables]
            if checked.group_prefix < 0:
                # LIMIT counts result rows, of which there is just one.
                command.limit = UNLIMITED
        else:
            command.encode = self._encode or compile_values(
                [each.bind(values, options) for each in checked.clause.selectables]
            )
        if checked.sort_columns:
            if 0 < command.page_size < command.limit and not checked.is_aggregate:
                raise InvalidRequest(
                    "Cannot page queries with both ORDER BY and a IN restriction on the partition key; you must "
                    "either remove the ORDER BY or the IN and sort client side, or disable paging for this query"
                )
            command.sort = SortKey(
                [(column.position, column.type, descending) for column, descending in checked.sort_columns]
            )
        return command

    def _point(self) -> PointPlan | None:
        checked = self.checked
        restrictions = checked.restrictions
        if (
            self._encode is None
            or not restrictions.names_one_row
            or restrictions.needs_filtering
            or checked.is_aggregate
            or checked.is_distinct
            or not _is_harmless_limit(checked.limit)
            or not _is_harmless_limit(checked.per_partition_limit)
        ):
            return None
        terms = restrictions.clustering_terms
        if terms is None:
            return None
        position = restrictions.position
        assert position is not None
        return PointPlan(_row_key(position, terms, self.keys, self.table), self._encode)


def _row_key(
    position: Callable[[Sequence[Value], ExecuteOptions], bytes],
    terms: Sequence[BoundTerm],
    keys: TableKeys,
    table: Table,
) -> RowKey:
    columns = table.clustering
    clustering = keys.clustering
    if not terms:
        return lambda values, options: (position(values, options), b"")
    if len(terms) == 1 and isinstance(terms[0], Marker) and terms[0].ordered is None:
        index, validator, column = terms[0].index, terms[0].validator, columns[0]

        def of_one_marker(values: Sequence[Value], options: ExecuteOptions) -> tuple[bytes, bytes]:
            value = values[index]
            if value is None or isinstance(value, UnsetType):
                value = checked(value, column)
            if validator is not None:
                validator(value)
            return position(values, options), clustering((value,))

        return of_one_marker
    evaluators = [term.evaluate for term in terms]

    def of_terms(values: Sequence[Value], options: ExecuteOptions) -> tuple[bytes, bytes]:
        found = [
            checked(evaluate(values, options), column)
            for evaluate, column in zip(evaluators, columns, strict=True)
        ]
        return position(values, options), clustering(found)

    return of_terms


def _is_harmless_limit(limit: BoundTerm | None) -> bool:
    """Whether one row always is within it."""
    return limit is None or (isinstance(limit, Constant) and _positive(limit.value))


def _positive(value: bytes | None) -> bool:
    return value is not None and int.from_bytes(value, "big", signed=True) > 0


def _bind_limit(limit: BoundTerm | None, values: Sequence[Value], options: ExecuteOptions) -> int:
    if limit is None:
        return UNLIMITED
    try:
        value = limit.evaluate(values, options)
    except InvalidRequest:
        raise InvalidRequest("Invalid limit value") from None
    if value is None:
        raise InvalidRequest("Invalid null value of limit")
    if isinstance(value, UnsetType):
        return UNLIMITED
    if not value:
        raise InvalidRequest("Invalid limit value")
    found = int.from_bytes(value, "big", signed=True)
    if found <= 0:
        raise InvalidRequest("LIMIT must be strictly positive")
    return found


def _aggregation_warnings(checked: CheckedSelect) -> list[str]:
    if not checked.is_aggregate:
        return []
    restrictions = checked.restrictions
    if restrictions.is_range and not restrictions.partition and restrictions.token is None:
        return ["Aggregation query used without partition key"]
    if restrictions.partition_key_has_in:
        return ["Aggregation query used on multiple partition keys (IN restriction)"]
    return []


def encode_group(results: Sequence[bytes | None]) -> bytes:
    """A result row of a group."""
    return b"".join([encode_value(value) for value in results])
