"""SELECT and DESCRIBE for sessions: which rows to read, in how many steps, and the RESULT message.

A read of one row by its key is answered at once. Others are stepped; one that isn't done after its first step
goes on in later passes of the loop, a slice in each, so that nobody else waits for it.
"""

from __future__ import annotations

from collections.abc import Sequence

from ourodb import limits
from ourodb.cluster.metadata.view import ClusterView
from ourodb.cql.analysis.tables import find_table
from ourodb.cql.analysis.terms import ColumnSpec, Context
from ourodb.cql.plan.options import ExecuteOptions
from ourodb.cql.plan.select import SelectPlan
from ourodb.cql.syntax import ast
from ourodb.cql.wire.columns import RowsMetadata, encode_row
from ourodb.cql.wire.primitives import Value
from ourodb.errors import OuroError, ProtocolError
from ourodb.ports import Scheduler, Store
from ourodb.replication.coordinator.paging import INVALID, PagingSeal
from ourodb.replication.coordinator.read import Read, read_row
from ourodb.replication.replica.writes import as_request_error
from ourodb.schema.describe import Description
from ourodb.schema.model import Table
from ourodb.session.answer import Answer
from ourodb.session.virtual_tables import VirtualTables
from ourodb.storage.families import DATA
from ourodb.storage.row import Wait
from ourodb.storage.rows import Rows, TableRows


class Reads:
    """Runs the reads of all sessions."""

    def __init__(
        self, rows: Rows, store: Store, virtual: VirtualTables, scheduler: Scheduler, seal: PagingSeal
    ) -> None:
        self._rows = rows
        self._store = store
        self._virtual = virtual
        self._scheduler = scheduler
        self._seal = seal

    def compile(self, statement: ast.Select, text: str, context: Context) -> SelectPlan:
        """The plan of a SELECT.

        Raises:
            RequestError: it doesn't fit the schema.
        """
        table = find_table(statement.table, context)
        return SelectPlan(statement, table, self._rows_of(table, 0).keys, context, text)

    def schema_changed(self, view: ClusterView) -> None:
        self._virtual.schema_changed(view)

    def run(
        self,
        plan: SelectPlan,
        values: Sequence[Value],
        options: ExecuteOptions,
        answer: Answer,
        *,
        skip_metadata: bool,
        changed: bool,
    ) -> None:
        """Read a page and answer it.

        Args:
            skip_metadata: the client has the metadata.
            changed: the client's metadata is outdated (v5): it gets the new one.
        """
        rows = self._rows_of(plan.table, options.now_s)
        if plan.point is not None and options.paging_state is None:
            row = read_row(plan, values, options, rows)
            if isinstance(row, Wait):
                answer.will_come()
                self._fetch_and_run_again(row, plan, values, options, answer, skip_metadata, changed)
                return
            found = () if row is None else (row,)
            metadata = plan.metadata(options.version)
            if changed:
                answer.result(
                    metadata.rows_page(len(found), found, skip_metadata=skip_metadata, changed=True)
                )
            else:
                answer.result(metadata.rows(len(found), found, skip_metadata))
            return
        read = Read(plan, values, options, rows, self._seal)
        if read.step() is None:
            self._answer_page(plan, read, options, answer, skip_metadata, changed)
            return
        answer.will_come(limits.LONG_READ_WEIGHT)

        def go_on() -> None:
            try:
                if read.step() is None:
                    self._answer_page(plan, read, options, answer, skip_metadata, changed)
                else:
                    self._scheduler.soon(go_on)
            except OuroError as error:
                answer.error(as_request_error(error))

        self._scheduler.soon(go_on)

    def answer_description(
        self,
        description: Description,
        page_size: int,
        paging_state: bytes | None,
        version: int,
        answer: Answer,
    ) -> None:
        """Answer DESCRIBE, a page at a time; its paging state is the number of rows that were given."""
        start = 0
        if paging_state is not None:
            if len(paging_state) != 4:
                raise ProtocolError(INVALID)
            start = int.from_bytes(paging_state, "big")
        end = start + page_size if page_size > 0 else len(description.rows)
        rows = [encode_row(row) for row in description.rows[start:end]]
        specs = [ColumnSpec("system", "describe", name, kind).wire() for name, kind in description.columns]
        state = end.to_bytes(4, "big") if end < len(description.rows) else None
        answer.result(RowsMetadata(specs, version).rows_page(len(rows), rows, paging_state=state))

    def _rows_of(self, table: Table, now_s: int) -> TableRows:
        return self._virtual.rows_of(table, now_s) if table.virtual else self._rows.of(table)

    def _answer_page(
        self,
        plan: SelectPlan,
        read: Read,
        options: ExecuteOptions,
        answer: Answer,
        skip_metadata: bool,
        changed: bool,
    ) -> None:
        if answer.trace is not None:
            answer.trace.note(f"Read {read.row_count} rows")
        answer.result(
            plan.metadata(options.version).rows_page(
                read.row_count,
                read.rows,
                skip_metadata=skip_metadata,
                paging_state=read.paging_state,
                changed=changed,
            )
        )

    def _fetch_and_run_again(
        self,
        wait: Wait,
        plan: SelectPlan,
        values: Sequence[Value],
        options: ExecuteOptions,
        answer: Answer,
        skip_metadata: bool,
        changed: bool,
    ) -> None:
        def fetched(value: bytes | None | Exception) -> None:
            if isinstance(value, Exception):
                answer.error(as_request_error(value))
                return
            try:
                self.run(plan, values, options, answer, skip_metadata=skip_metadata, changed=changed)
            except OuroError as error:
                answer.error(as_request_error(error))

        self._store.fetch(DATA, wait.key, fetched)


def outdated(plan: SelectPlan, version: int, metadata_id: bytes) -> bool:
    """Whether a v5 client that names this result metadata id needs the new metadata."""
    return version >= 5 and bool(metadata_id) and metadata_id != plan.metadata(version).id
