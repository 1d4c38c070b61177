"""Carrying out INSERT, UPDATE, DELETE and BATCH: from bound statements to the coordinator that fits them.

Plain statements become mutations and are written. Those that must know rows first (an element of a list by index) read
them from the replicas, at the statement's own level. Counters go to a leader, logged batches through the batch log,
conditional statements through Paxos; where this node alone holds what a statement is about, each of these is one step
on its own rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ourodb.cql.plan.modification import Changes
from ourodb.cql.plan.options import ExecuteOptions
from ourodb.cql.wire import codes
from ourodb.cql.wire.codes import Consistency
from ourodb.cql.wire.columns import RowsMetadata, encode_row
from ourodb.errors import InvalidRequest, OuroError, RequestError
from ourodb.ports import Clock
from ourodb.replication.batches import Batches
from ourodb.replication.consistency import quorum, unavailable
from ourodb.replication.coordinator.cas import Bound, CasResult, ConditionalWrites, RowsOf
from ourodb.replication.coordinator.coordinator import Coordinator, read_level_of
from ourodb.replication.coordinator.fetch import Fetch
from ourodb.replication.counters import Counters
from ourodb.replication.paxos.proposer import Decision, PaxosContext, Proposer
from ourodb.replication.replica.reads import SlicesCommand
from ourodb.replication.replica.writes import Writes, as_request_error
from ourodb.replication.timestamps import Timestamps
from ourodb.schema.model import Table
from ourodb.session.answer import Answer
from ourodb.storage.chunk import Chunk, rows_of
from ourodb.storage.keys import LAST, Slice, union
from ourodb.storage.mutation import Mutation
from ourodb.storage.row import Wait
from ourodb.storage.rows import Rows, TableRows

MICROS = 1_000_000

WRITE_TYPES: Mapping[int, str] = {
    codes.BATCH_LOGGED: "BATCH",
    codes.BATCH_UNLOGGED: "UNLOGGED_BATCH",
    codes.BATCH_COUNTER: "COUNTER",
}


class Modifications:
    """Runs the modifications of all sessions of one node."""

    def __init__(
        self,
        rows: Rows,
        writes: Writes,
        coordinator: Coordinator,
        conditional: ConditionalWrites,
        paxos: PaxosContext,
        counters: Counters,
        batches: Batches,
        timestamps: Timestamps,
        clock: Clock,
    ) -> None:
        self._rows = rows
        self._writes = writes
        self._coordinator = coordinator
        self._conditional = conditional
        self._paxos = paxos
        self._counters = counters
        self._batches = batches
        self._timestamps = timestamps
        self._clock = clock

    def run(
        self,
        bound: Sequence[Bound],
        options: ExecuteOptions,
        timestamp: int | None,
        answer: Answer,
        batch_kind: int | None = None,
    ) -> None:
        """Carry out one statement, or the statements of a batch.

        Args:
            timestamp: of the whole batch, or None.
            batch_kind: as on the wire; None for a statement by itself.
        Raises:
            RequestError: nothing was done.
        """
        if not bound:
            answer(None)
            return
        if any(plan.is_conditional for plan, _ in bound):
            self._compare_and_set(bound, options, answer, in_batch=batch_kind is not None)
            return
        if any(plan.reads for plan, _ in bound):
            self._read_first(bound, options, timestamp, answer, batch_kind)
            return
        changes = self._conditional.changes(bound, options, timestamp)
        assert isinstance(changes, Changes)
        answer.will_come()
        self._write(bound, changes, options, answer, batch_kind)

    # Plain writes

    def _write(
        self,
        bound: Sequence[Bound],
        changes: Changes,
        options: ExecuteOptions,
        answer: Answer,
        batch_kind: int | None,
    ) -> None:
        now_s = self._clock.wall_us() // MICROS
        level = options.consistency
        keyspaces = {plan.table.incarnation: plan.table.keyspace for plan, _ in bound}
        written = [(keyspaces[mutation.incarnation], mutation) for mutation in changes.mutations()]
        coordinator = self._coordinator
        if changes.counters or bound[0].plan.is_counter:
            deltas = [(delta.keys.table.keyspace, delta) for delta in changes.counters]
            for plan, _ in bound:
                # Also where nothing is left to be written: a level that can't be had is refused.
                coordinator.routes(plan.table.keyspace)
            self._counters.add(deltas, written, level, options.timestamp_us, now_s, answer)
            return
        if not written:
            for plan, values in bound:
                coordinator.check_write(plan.table.keyspace, plan.positions(values, options), level)
            answer(None)
            return
        if batch_kind == codes.BATCH_LOGGED:
            routes = [coordinator.route_of(keyspace, mutation.position) for keyspace, mutation in written]
            self._batches.write([mutation for _, mutation in written], routes, level, now_s, answer)
            return
        write_type = "SIMPLE" if batch_kind is None else WRITE_TYPES[batch_kind]
        coordinator.write_all(written, level, write_type, now_s, answer)

    # Writes that read first

    def _read_first(
        self,
        bound: Sequence[Bound],
        options: ExecuteOptions,
        timestamp: int | None,
        answer: Answer,
        batch_kind: int | None,
    ) -> None:
        coordinator = self._coordinator
        wanted = self._rows_wanted(bound, options)
        routes = [
            coordinator.route_of(plan.table.keyspace, position)
            for plan, values in bound
            for position in plan.positions(values, options)
        ]
        answer.will_come()
        if all(route.alone for route in routes):
            for plan, values in bound:
                positions = plan.positions(values, options)
                coordinator.check_write(plan.table.keyspace, positions, options.consistency)
            now_s = self._clock.wall_us() // MICROS

            def step() -> Wait | None:
                changes = self._conditional.changes(bound, options, timestamp)
                if isinstance(changes, Wait):
                    return changes
                return self._rows.apply_many(changes.mutations(), now_s)

            self._writes.run(step, answer)
            return
        level = read_level_of(options.consistency)
        fetches: list[tuple[Table, Fetch]] = []
        for table, position, slices in wanted:
            command = SlicesCommand(self._rows.of(table), position, union(slices), options.now_s)
            fetches.append((table, coordinator.fetch(table, command, position, level)))

        def look() -> None:
            if not all(fetch.is_done for _, fetch in fetches):
                return
            try:
                parts: dict[int, list[Mutation]] = {}
                for table, fetch in fetches:
                    if fetch.error is not None:
                        raise fetch.error
                    assert fetch.chunk is not None
                    parts.setdefault(table.incarnation, []).extend(fetch.chunk.partitions)
                changes = self._conditional.changes(bound, options, timestamp, self._over(parts))
                assert isinstance(changes, Changes)
                self._write(bound, changes, options, answer, batch_kind)
            except OuroError as error:
                answer.error(as_request_error(error))

        _when_all_done([fetch for _, fetch in fetches], look)

    def _rows_wanted(
        self, bound: Sequence[Bound], options: ExecuteOptions
    ) -> list[tuple[Table, bytes, list[Slice]]]:
        """(table, position, slices) of the rows that the statements must know."""
        wanted: dict[tuple[int, bytes], tuple[Table, bytes, list[Slice]]] = {}
        for plan, values in bound:
            if not plan.reads:
                continue
            for position in plan.positions(values, options):
                key = (plan.table.incarnation, position)
                _, _, slices = wanted.setdefault(key, (plan.table, position, []))
                row = None if plan.modification.key is None else plan.row(values, options)
                if row is not None:
                    clustering_key = plan.keys.clustering(row)
                    slices.append((clustering_key, clustering_key + LAST))
        return list(wanted.values())

    def _over(self, parts: Mapping[int, list[Mutation]]) -> RowsOf:
        """The rows of tables as replicas gave them."""

        def rows(table: Table) -> TableRows:
            return rows_of(self._rows.of(table), parts.get(table.incarnation, []))

        return rows

    # Conditions

    def _compare_and_set(
        self, bound: Sequence[Bound], options: ExecuteOptions, answer: Answer, *, in_batch: bool
    ) -> None:
        serial = options.serial_consistency
        if serial not in (Consistency.SERIAL, Consistency.LOCAL_SERIAL):
            raise InvalidRequest(
                "Invalid consistency for conditional update. Must be one of SERIAL or LOCAL_SERIAL"
            )
        table, position, slices, rows_max = self._conditional.reads(bound, options)
        route = self._coordinator.route_of(table.keyspace, position)
        if route.alone:
            required = quorum(route.electorate(local_only=serial == Consistency.LOCAL_SERIAL))
            if required > 1:
                raise unavailable(serial, required, 1)
            route.write_need(options.consistency)
            self._compare_and_set_here(bound, options, answer, in_batch=in_batch)
            return
        rows = self._rows.of(table)
        command = SlicesCommand(rows, position, slices, options.now_s, rows_max=rows_max)

        def decide(chunk: Chunk, timestamp: int) -> Decision:
            source = self._over({table.incarnation: chunk.partitions})
            decision = self._conditional.decide(bound, options, timestamp, source, in_batch=in_batch)
            assert not isinstance(decision, Wait)
            return Decision(decision.mutation, decision.result)

        def done(result: object, error: RequestError | None) -> None:
            if error is not None:
                answer.error(error)
            else:
                assert isinstance(result, CasResult)
                _answer_cas(result, options, answer)

        proposer = Proposer(
            self._paxos,
            route,
            command,
            decide,
            done,
            serial_level=serial,
            level=options.consistency,
            is_read=False,
        )
        answer.will_come()
        proposer.prepare()

    def _compare_and_set_here(
        self, bound: Sequence[Bound], options: ExecuteOptions, answer: Answer, *, in_batch: bool
    ) -> None:
        result: CasResult | None = None

        def step() -> Wait | None:
            nonlocal result
            outcome = self._conditional.compare_and_set(
                bound, options, self._timestamps.next_us(), in_batch=in_batch
            )
            if isinstance(outcome, Wait):
                return outcome
            result = outcome
            return None

        def done(error: RequestError | None) -> None:
            if error is not None:
                answer.error(error)
                return
            assert result is not None
            _answer_cas(result, options, answer)

        answer.will_come()
        self._writes.run(step, done, sync=True)


def _answer_cas(result: CasResult, options: ExecuteOptions, answer: Answer) -> None:
    metadata = RowsMetadata([column.wire() for column in result.columns], options.version)
    rows = [encode_row(row) for row in result.rows]
    answer.result(metadata.rows(len(rows), rows))


def _when_all_done(fetches: Sequence[Fetch], look: Callable[[], None]) -> None:
    """Call ``look`` when the last of them is done."""
    waiting = [fetch for fetch in fetches if not fetch.is_done]
    if not waiting:
        look()
        return
    for fetch in waiting:
        fetch.wake = look
