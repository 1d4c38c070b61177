"""Conditional statements: what they must read, and what they make of it.

``decide`` is a pure function of the rows read. Where this node alone holds the partition, reading, deciding
and applying happen within one step, which makes them atomic; elsewhere ``replication.paxos`` brings the rows that
a quorum holds, and has a quorum accept what was decided. ``reads`` says which rows that takes.

Source for results: ``ModificationStatement.buildCasResultSet``, ``CQL3CasRequest`` of Apache Cassandra 5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from ourodb import limits
from ourodb.cql.analysis.modifications import Modification
from ourodb.cql.analysis.operations import BallotCellIds, CellIds, ListCellIds
from ourodb.cql.analysis.row_values import elements_joiner
from ourodb.cql.analysis.terms import ColumnSpec, column_spec
from ourodb.cql.plan.modification import Changes, ModificationPlan
from ourodb.cql.plan.options import ExecuteOptions
from ourodb.cql.types import BOOLEAN
from ourodb.cql.wire.primitives import Value
from ourodb.errors import InvalidRequest
from ourodb.schema.model import Column, ColumnKind, Table
from ourodb.storage.keys import ALL_ROWS, LAST, Slice, TableKeys, union
from ourodb.storage.mutation import Mutation
from ourodb.storage.row import LivePartition, LiveRow, Wait
from ourodb.storage.rows import Rows, TableRows

APPLIED = b"\x01"
NOT_APPLIED = b"\x00"


class Bound(NamedTuple):
    """A statement and the values bound to it."""

    plan: ModificationPlan
    values: Sequence[Value]


class CasResult(NamedTuple):
    """What a conditional statement answers: ``[applied]``, and after a failure the row that was in the way."""

    columns: list[ColumnSpec]
    rows: list[list[bytes | None]]


class CasDecision(NamedTuple):
    """Attributes: mutation, None where a condition failed; result, for the client."""

    mutation: Mutation | None
    result: CasResult


RowsOf: TypeAlias = Callable[[Table], TableRows]
"""Where the rows of a table are read: this node's store, or what replicas gave."""


class _RowNeeded(Exception):
    """A row that an operation reads isn't in memory."""

    def __init__(self, wait: Wait) -> None:
        super().__init__()
        self.wait = wait


class ConditionalWrites:
    """Makes changes of statements that must know rows first."""

    def __init__(self, rows: Rows, list_cell_ids: ListCellIds) -> None:
        self._rows = rows
        self._list_cell_ids = list_cell_ids

    def changes(
        self,
        statements: Sequence[Bound],
        options: ExecuteOptions,
        timestamp: int | None = None,
        rows_of: RowsOf | None = None,
        list_cell_ids: CellIds | None = None,
    ) -> Changes | Wait:
        """What the statements change; or what it waits for.

        Args:
            timestamp: instead of the statements' own.
            rows_of: where rows that they need are read; None: in this node's store.
            list_cell_ids: names of new list elements; None: by this node's clock.
        """
        changes = Changes()
        source = rows_of or self._rows.of
        ids = list_cell_ids or self._list_cell_ids

        def read_row(keys: TableKeys, position: bytes, clustering_key: bytes | None) -> LiveRow | None:
            return _read(source, keys.table, position, clustering_key, options.now_s)

        try:
            for plan, values in statements:
                plan.add_to(changes, values, options, ids, read_row, timestamp)
        except _RowNeeded as needed:
            return needed.wait
        return changes

    def reads(
        self, statements: Sequence[Bound], options: ExecuteOptions
    ) -> tuple[Table, bytes, list[Slice], int]:
        """(table, position, slices, most rows) that must be read before the statements can be decided.

        Raises:
            InvalidRequest: the statements aren't about one partition of one table, or a value is wrong.
        """
        table, position = self.one_partition(statements, options)
        slices: list[Slice] = []
        for plan, values in statements:
            if not (plan.is_conditional or plan.reads):
                continue
            for row in plan.rows(values, options) or ():
                if row is not None:
                    clustering_key = plan.keys.clustering(row)
                    slices.append((clustering_key, clustering_key + LAST))
        if slices:
            return table, position, union(slices), limits.BATCH_STATEMENTS_MAX
        # Statics alone: a refusal shows the partition's first row.
        return table, position, list(ALL_ROWS), 1

    def decide(
        self,
        statements: Sequence[Bound],
        options: ExecuteOptions,
        timestamp: int,
        rows_of: RowsOf | None = None,
        *,
        in_batch: bool,
    ) -> CasDecision | Wait:
        """Whether all conditions hold, and what is to be written then.

        Args:
            timestamp: of what is written, list elements included: the ballot's.
            rows_of: as for ``changes``.
        Returns:
            The decision, or what it waits for; nothing was changed.
        Raises:
            InvalidRequest: the statements aren't about one partition of one table, or a value is wrong.
        """
        source = rows_of or self._rows.of
        table, position = self.one_partition(statements, options)
        try:
            partition = _partition(source, table, position, options.now_s)
            conditioned: dict[bytes, LiveRow | None] = {}
            asked: dict[bytes | None, str] = {}
            holds = True
            for plan, values in statements:
                if plan.is_conditional:
                    _check_mix(asked, plan, plan.row(values, options))
                    if not _holds(source, plan, values, options, partition, conditioned):
                        holds = False
            shown = {key: row for key, row in conditioned.items() if row is not None}
            if not holds and not conditioned:
                # Only statics were asked about: the partition's first row that was inserted shows that it exists.
                row = _first_row(source, table, position, options.now_s)
                shown = {} if row is None else {row.clustering_key or b"": row}
        except _RowNeeded as needed:
            return needed.wait
        if not holds:
            refused = _refused(table, statements, partition, shown, bool(conditioned), in_batch)
            return CasDecision(None, refused)
        changes = self.changes(statements, options, timestamp, rows_of, BallotCellIds(timestamp))
        if isinstance(changes, Wait):
            return changes
        mutations = changes.mutations()
        assert len(mutations) < 2, "one partition of one table"
        applied = CasResult([applied_spec(table)], [[APPLIED]])
        return CasDecision(mutations[0] if mutations else None, applied)

    def one_partition(self, statements: Sequence[Bound], options: ExecuteOptions) -> tuple[Table, bytes]:
        """The partition that all statements are about. Raises InvalidRequest."""
        table = statements[0].plan.table
        positions: dict[bytes, None] = {}
        for plan, values in statements:
            if plan.table is not table:
                raise InvalidRequest("Batch with conditions cannot span multiple tables")
            positions.update(dict.fromkeys(plan.positions(values, options)))
        if len(positions) != 1:
            raise InvalidRequest("Batch with conditions cannot span multiple partitions")
        return table, next(iter(positions))


def _holds(
    source: RowsOf,
    plan: ModificationPlan,
    values: Sequence[Value],
    options: ExecuteOptions,
    partition: LivePartition,
    conditioned: dict[bytes, LiveRow | None],
) -> bool:
    clustering = plan.row(values, options)
    modification = plan.modification
    about_row = clustering is not None and (
        not modification.conditions
        or any(condition.column.kind is ColumnKind.REGULAR for condition in modification.conditions)
    )
    row = partition.static
    if about_row:
        assert clustering is not None
        clustering_key = plan.keys.clustering(clustering)
        row = _read(source, plan.table, partition.position, clustering_key, options.now_s)
        conditioned[clustering_key] = row
    if modification.if_exists:
        return row is not None
    if modification.if_not_exists:
        return row is None
    return all(
        condition.holds(
            partition.static if condition.column.kind is ColumnKind.STATIC else row, values, options
        )
        for condition in modification.conditions
    )


def _partition(source: RowsOf, table: Table, position: bytes, now_s: int) -> LivePartition:
    partition = source(table).get_partition(position, now_s)
    if isinstance(partition, Wait):
        raise _RowNeeded(partition)
    return partition


def _first_row(source: RowsOf, table: Table, position: bytes, now_s: int) -> LiveRow | None:
    for row in source(table).read(position, now_s):
        if isinstance(row, LiveRow) and row.marker is not None:
            return row
    return None


def _read(
    source: RowsOf, table: Table, position: bytes, clustering_key: bytes | None, now_s: int
) -> LiveRow | None:
    if clustering_key is None:
        return _partition(source, table, position, now_s).static
    row = source(table).get_row(position, clustering_key, now_s)
    if isinstance(row, Wait):
        raise _RowNeeded(row)
    return row


def applied_spec(table: Table) -> ColumnSpec:
    """The column that tells whether a conditional statement was applied."""
    return ColumnSpec(table.keyspace, table.name, "[applied]", BOOLEAN)


def _check_mix(asked: dict[bytes | None, str], plan: ModificationPlan, row: tuple[bytes, ...] | None) -> None:
    """One row can't be asked both to exist and not to, nor for its existence and its values."""
    modification = plan.modification
    if modification.conditions:
        kind = "IF conditions"
    else:
        kind = "IF EXISTS" if modification.if_exists else "IF NOT EXISTS"
    key = None if row is None else plan.keys.clustering(row)
    before = asked.setdefault(key, kind)
    if before == kind:
        return
    kinds = {before, kind}
    if "IF conditions" in kinds:
        other = (kinds - {"IF conditions"}).pop()
        raise InvalidRequest(f"Cannot mix IF conditions and {other} for the same row")
    raise InvalidRequest("Cannot mix IF EXISTS and IF NOT EXISTS conditions for the same row")


def _refused(
    table: Table,
    statements: Sequence[Bound],
    partition: LivePartition,
    shown: dict[bytes, LiveRow],
    about_rows: bool,
    in_batch: bool,
) -> CasResult:
    """``[applied]`` = false with the rows that the conditions were about, or alone where there are none.

    Args:
        shown: rows by clustering key.
        about_rows: some condition was about a row, so that a static row alone shows only what was asked of it.
    """
    modifications = [plan.modification for plan, _ in statements if plan.is_conditional]
    about_existence = any(
        modification.if_exists or modification.if_not_exists for modification in modifications
    )
    columns = _shown_columns(table, modifications, about_existence, in_batch)
    rows: list[list[bytes | None]] = []
    for key in sorted(shown):
        values = [
            _value(column, shown[key], partition)
            if about_rows or column.kind is not ColumnKind.REGULAR
            else None
            for column in columns
        ]
        rows.append([NOT_APPLIED, *values])
    if not rows and partition.static is not None and not (about_existence and about_rows):
        rows.append([NOT_APPLIED, *(_value(column, None, partition) for column in columns)])
    if not rows:
        return CasResult([applied_spec(table)], [[NOT_APPLIED]])
    return CasResult([applied_spec(table), *(column_spec(table, column) for column in columns)], rows)


def _shown_columns(
    table: Table, modifications: Sequence[Modification], about_existence: bool, in_batch: bool
) -> list[Column]:
    if about_existence:
        return list(table.select_order)
    columns = list(table.partition_key + table.clustering) if in_batch else []
    for modification in modifications:
        asked = [condition.column for condition in modification.conditions]
        columns += [column for column in asked if column.kind is ColumnKind.REGULAR]
        columns += [column for column in asked if column.kind is ColumnKind.STATIC]
    return list({column.name: column for column in columns}.values())


def _value(column: Column, row: LiveRow | None, partition: LivePartition) -> bytes | None:
    if column.kind is ColumnKind.PARTITION_KEY:
        return partition.values[column.position]
    if column.kind is ColumnKind.CLUSTERING:
        if row is None or row.clustering_key is None:
            return None
        return row.clustering[column.position]
    source = partition.static if column.kind is ColumnKind.STATIC else row
    if source is None or (column.kind is ColumnKind.REGULAR and source.clustering_key is None):
        return None
    if column.type.is_multicell:
        elements = source.elements.get(column.id)
        return elements_joiner(column.type)(elements) if elements else None
    cell = source.cells.get(column.id)
    return cell[0] if cell is not None else None
