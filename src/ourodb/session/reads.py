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
from ourodb.cql.plan.select import ReadCommand, SelectPlan
from ourodb.cql.syntax import ast
from ourodb.cql.wire.codes import Consistency
from ourodb.cql.wire.columns import RowsMetadata, encode_row
from ourodb.cql.wire.primitives import Value
from ourodb.errors import InvalidRequest, ProtocolError
from ourodb.ports import Scheduler, Store
from ourodb.replication.consistency import misuse, unavailable
from ourodb.replication.coordinator.coordinator import Coordinator
from ourodb.replication.coordinator.fetch import Fetch
from ourodb.replication.coordinator.paging import INVALID, PagingSeal
from ourodb.replication.coordinator.read import (
    Read,
    encoded_row,
    read_row,
    rows_wanted,
    tombstone_failure,
    tombstone_warnings,
)
from ourodb.replication.coordinator.rows import ReplicatedRows
from ourodb.replication.paxos.context import PaxosContext
from ourodb.replication.paxos.serial_fetch import SerialFetch
from ourodb.replication.replica.reads import RowCommand
from ourodb.replication.replica.writes import as_request_error
from ourodb.schema.describe import Description
from ourodb.schema.model import Table
from ourodb.session.answer import Answer
from ourodb.session.virtual_tables import VirtualTables
from ourodb.storage.chunk import live_row
from ourodb.storage.families import DATA
from ourodb.storage.row import Wait
from ourodb.storage.rows import Rows, TableRows
from ourodb.storage.tombstones import TooManyTombstones


class Reads:
    """Runs the reads of all sessions."""

    def __init__(
        self,
        rows: Rows,
        store: Store,
        virtual: VirtualTables,
        scheduler: Scheduler,
        seal: PagingSeal,
        coordinator: Coordinator,
        paxos: PaxosContext,
        address: bytes,
    ) -> None:
        """
        Args:
            address: this node's, packed; a failure names it.
        """
        self._coordinator = coordinator
        self._paxos = paxos
        self._address = address
        self._rows = rows
        self._store = store
        self._virtual = virtual
        self._scheduler = scheduler
        self._seal = seal
        self._under_way: dict[Read, int] = {}
        """Reads that take several steps, with the epoch in which they chose whose rows they read."""

    def began_before(self, epoch: int) -> bool:
        """Whether a read is still under way that doesn't know of this epoch."""
        return any(begun < epoch for begun in self._under_way.values())

    def compile(self, statement: ast.Select, text: str, context: Context) -> SelectPlan:
        """The plan of a SELECT.

        Raises:
            RequestError: it doesn't fit the schema.
        """
        table = find_table(statement.table, context)
        return SelectPlan(statement, table, self._rows_of(table, 0).keys, context, text)

    def schema_changed(self, view: ClusterView) -> None:
        self._virtual.schema_changed(view.schema)

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
        table = plan.table
        level = options.consistency
        serial = level in (Consistency.SERIAL, Consistency.LOCAL_SERIAL)
        if plan.point is not None and options.paging_state is None and not serial:
            if table.virtual:
                error = misuse(level, write=False)
                if error is not None:
                    raise error
                row = read_row(plan, values, options, self._rows_of(table, options.now_s))
            else:
                position, clustering_key = plan.point.key(values, options)
                rows = self._rows.of(table)
                if not self._coordinator.reads_here(table, level, position):
                    command = RowCommand(rows, position, clustering_key, options.now_s)
                    fetch = self._coordinator.fetch(table, command, position, level)
                    answer.will_come()

                    def fetched() -> None:
                        self._answer_point(plan, command, fetch, options, answer, skip_metadata, changed)

                    if fetch.is_done:
                        fetched()
                    else:
                        fetch.wake = fetched
                    return
                row = self._read_point(plan, rows, position, clustering_key, options, answer)
            if isinstance(row, Wait):
                answer.will_come()
                self._fetch_and_run_again(row, plan, values, options, answer, skip_metadata, changed)
                return
            self._answer_row(plan, row, options, answer, skip_metadata, changed)
            return
        read = Read(
            plan,
            values,
            options,
            lambda command: self._choose_rows(plan, command, options),
            self._seal,
            self._address,
        )
        if read.step() is None:
            self._answer_page(plan, read, options, answer, skip_metadata, changed)
            return
        answer.will_come(limits.LONG_READ_WEIGHT if read.waiting is None else 1)
        self._under_way[read] = self._coordinator.peers.epoch

        def go_on() -> None:
            try:
                if not answer.is_wanted:
                    del self._under_way[read]
                    return
                if read.step() is None:
                    del self._under_way[read]
                    self._answer_page(plan, read, options, answer, skip_metadata, changed)
                    return
            except Exception as error:
                self._under_way.pop(read, None)
                answer.error(as_request_error(error))
                return
            wait()

        def wait() -> None:
            waiting = read.waiting
            if waiting is None or waiting.is_done:
                self._scheduler.soon(go_on)
            else:
                waiting.wake = go_on

        wait()

    def _choose_rows(
        self, plan: SelectPlan, command: ReadCommand, options: ExecuteOptions
    ) -> TableRows | ReplicatedRows:
        """This node's rows where it alone answers, else those of the replicas."""
        table = plan.table
        level = options.consistency
        if table.virtual:
            error = misuse(level, write=False)
            if error is not None:
                raise error
            return self._rows_of(table, options.now_s)
        coordinator = self._coordinator
        rows = self._rows.of(table)
        if level in (Consistency.SERIAL, Consistency.LOCAL_SERIAL):
            return self._serial_rows(rows, command, level)
        positions = command.positions
        if positions is not None:
            here = all(coordinator.reads_here(table, level, position) for position in positions)
        elif command.range is not None:
            ranges = coordinator.routes(table.keyspace).between(*command.range)
            here = all(route.read_nodes(level) == (coordinator.peers.me,) for _, _, route in ranges)
        else:
            here = True
        return rows if here else coordinator.rows(rows, level, rows_wanted(command))

    def _serial_rows(self, rows: TableRows, command: ReadCommand, level: int) -> TableRows | ReplicatedRows:
        positions = command.positions
        if positions is None or len(positions) != 1:
            raise InvalidRequest(
                "SERIAL/LOCAL_SERIAL consistency may only be requested for one partition at a time"
            )
        coordinator = self._coordinator
        route = coordinator.route_of(rows.table.keyspace, positions[0])
        local = level == Consistency.LOCAL_SERIAL
        if route.alone:
            required = route.electorates(local_only=local)[0].required
            if required > 1:
                raise unavailable(level, required, 1)
            return rows
        return coordinator.rows(
            rows,
            Consistency.LOCAL_QUORUM if local else Consistency.QUORUM,
            rows_wanted(command),
            lambda command, route: SerialFetch(self._paxos, route, command, level),
        )

    def _answer_point(
        self,
        plan: SelectPlan,
        command: RowCommand,
        fetch: Fetch,
        options: ExecuteOptions,
        answer: Answer,
        skip_metadata: bool,
        changed: bool,
    ) -> None:
        """The replicas have given the one row, or haven't."""
        if fetch.error is not None:
            answer.error(fetch.error)
            return
        assert fetch.chunk is not None
        rows = command.rows
        watch = rows.watch() if rows.is_multicell else None
        try:
            found = live_row(
                rows, fetch.chunk, command.position, command.clustering_key, options.now_s, watch
            )
            row = encoded_row(plan, found)
            assert not isinstance(row, Wait)
            if watch is not None:
                _warn(answer, tombstone_warnings(rows.keys, watch))
            self._answer_row(plan, row, options, answer, skip_metadata, changed)
        except TooManyTombstones as error:
            answer.error(tombstone_failure(plan.table, error, options.consistency, self._address))
        except Exception as error:
            answer.error(as_request_error(error))

    def _read_point(
        self,
        plan: SelectPlan,
        rows: TableRows,
        position: bytes,
        clustering_key: bytes,
        options: ExecuteOptions,
        answer: Answer,
    ) -> bytes | Wait | None:
        """The one row, which this node has."""
        if not rows.is_multicell:
            return encoded_row(plan, rows.get_row(position, clustering_key, options.now_s))
        watch = rows.watch()
        try:
            row = rows.get_row(position, clustering_key, options.now_s, watch)
        except TooManyTombstones as error:
            raise tombstone_failure(plan.table, error, options.consistency, self._address) from None
        _warn(answer, tombstone_warnings(rows.keys, watch))
        return encoded_row(plan, row)

    def _answer_row(
        self,
        plan: SelectPlan,
        row: bytes | None,
        options: ExecuteOptions,
        answer: Answer,
        skip_metadata: bool,
        changed: bool,
    ) -> None:
        found = () if row is None else (row,)
        metadata = plan.metadata(options.version)
        if changed:
            page = metadata.rows_page(len(found), found, skip_metadata=skip_metadata, changed=True)
            answer.result(page)
        else:
            answer.result(metadata.rows(len(found), found, skip_metadata))

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
        _warn(answer, read.warnings)
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
            except Exception as error:
                answer.error(as_request_error(error))

        self._store.fetch(DATA, wait.key, fetched)


def _warn(answer: Answer, warnings: Sequence[str]) -> None:
    """Have the client told, with the answer."""
    if warnings:
        answer.warnings = [*answer.warnings, *warnings]


def outdated(plan: SelectPlan, version: int, metadata_id: bytes) -> bool:
    """Whether a v5 client that names this result metadata id needs the new metadata."""
    return version >= 5 and bool(metadata_id) and metadata_id != plan.metadata(version).id
