"""Carrying out INSERT, UPDATE, DELETE and BATCH: from bound statements to the coordinator that fits them.

Plain statements become mutations and are written. Those that must know rows first (an element of a list by index) read
them from the replicas, at the statement's own level. Counters go to a leader, logged batches through the batch log,
conditional statements through Paxos; where this node alone holds what a statement is about, each of these is one step
on its own rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from ourodb import limits
from ourodb.cql.plan.modification import Changes
from ourodb.cql.plan.options import ExecuteOptions
from ourodb.cql.wire import codes
from ourodb.cql.wire.codes import Consistency
from ourodb.cql.wire.columns import RowsMetadata, encode_row
from ourodb.errors import CasWriteUnknown, InvalidRequest, OuroError, RequestError, WriteTimeout
from ourodb.ports import Clock
from ourodb.replication.batches import Batches
from ourodb.replication.consistency import misuse_of_commit, misuse_of_counter, unavailable
from ourodb.replication.coordinator.cas import Bound, CasResult, ConditionalWrites, RowsOf
from ourodb.replication.coordinator.coordinator import Coordinator, read_level_of
from ourodb.replication.counters import Counters
from ourodb.replication.paxos.context import PaxosContext
from ourodb.replication.paxos.proposer import Decision, Proposer
from ourodb.replication.replica.reads import SlicesCommand
from ourodb.replication.replica.writes import Writes, as_request_error
from ourodb.schema.model import Table
from ourodb.session.answer import Answer
from ourodb.storage.chunk import Chunk, beyond, merge_partitions, rows_of
from ourodb.storage.keys import LAST, Slice, union
from ourodb.storage.mutation import Mutation
from ourodb.storage.row import Wait
from ourodb.storage.rows import Rows, TableRows

MICROS = 1_000_000


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
        clock: Clock,
    ) -> None:
        self._rows = rows
        self._writes = writes
        self._coordinator = coordinator
        self._conditional = conditional
        self._paxos = paxos
        self._counters = counters
        self._batches = batches
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
        is_counter = bound[0].plan.is_counter
        if is_counter:
            misuse = misuse_of_counter(level, bound[0].plan.table)
            if misuse is not None:
                raise misuse
        if not written and not changes.counters:
            for plan, values in bound:
                coordinator.check_write(plan.table.keyspace, plan.positions(values, options), level)
            answer(None)
            return
        if is_counter:
            deltas = [(delta.keys.table.keyspace, delta) for delta in changes.counters]
            self._counters.add(deltas, written, level, options.timestamp_us, now_s, answer)
            return
        if batch_kind == codes.BATCH_LOGGED:
            routes = [coordinator.route_of(keyspace, mutation.position) for keyspace, mutation in written]
            self._batches.write([mutation for _, mutation in written], routes, level, now_s, answer)
            return
        write_type = "SIMPLE" if len(written) < 2 else "UNLOGGED_BATCH"
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

            unknown = WriteTimeout(options.consistency, 0, 1, "SIMPLE")
            again = partial(self._read_first, bound, options, timestamp, answer, batch_kind)
            self._writes.run_once(step, answer, unknown, again)
            return
        level = read_level_of(options.consistency)
        parts: dict[int, list[Mutation]] = {}
        left = 1 + len(wanted)
        failure: RequestError | None = None

        def fetched(table: Table, partitions: list[Mutation], error: RequestError | None) -> None:
            nonlocal left, failure
            parts.setdefault(table.incarnation, []).extend(partitions)
            failure = failure or error
            one_less()

        def one_less() -> None:
            nonlocal left
            left -= 1
            if left:
                return
            try:
                if failure is not None:
                    raise failure
                changes = self._conditional.changes(bound, options, timestamp, self._over(parts))
                assert isinstance(changes, Changes)
                self._write(bound, changes, options, answer, batch_kind)
            except Exception as error:
                answer.error(as_request_error(error))

        for table, position, slices in wanted:
            command = SlicesCommand(self._rows.of(table), position, union(slices), options.now_s)
            self._fetch_whole(table, command, level, [], partial(fetched, table))
        one_less()

    def _fetch_whole(
        self,
        table: Table,
        command: SlicesCommand,
        level: int,
        before: list[Mutation],
        done: Callable[[list[Mutation], RequestError | None], None],
    ) -> None:
        """Read all of a partition's slices, chunk after chunk.

        Args:
            before: what was read already.
            done: given the partition, if there is anything, or why it can't be read.
        """
        try:
            fetch = self._coordinator.fetch(table, command, command.position, level)
        except OuroError as error:
            done([], as_request_error(error))
            return

        def look() -> None:
            if fetch.error is not None:
                done([], fetch.error)
                return
            chunk = fetch.chunk
            assert chunk is not None
            held = [*before, *chunk.partitions]
            partitions = [merge_partitions(held)] if held else []
            rest = () if chunk.end is None else beyond(command.slices, chunk.end[1])
            if not rest:
                done(partitions, None)
            elif (
                sum(len(record) for one in partitions for _, record in one.writes) > limits.CAS_READ_BYTES_MAX
            ):
                done([], InvalidRequest("The rows that the statement must know first are too large"))
            else:
                command.slices = rest
                self._fetch_whole(table, command, level, partitions, done)

        if fetch.is_done:
            look()
        else:
            fetch.wake = look

    def _rows_wanted(
        self, bound: Sequence[Bound], options: ExecuteOptions
    ) -> list[tuple[Table, bytes, list[Slice]]]:
        """(table, position, slices) of the rows that the statements must know."""
        wanted: dict[tuple[int, bytes], tuple[Table, bytes, list[Slice]]] = {}
        for plan, values in bound:
            if not plan.reads:
                continue
            named = [plan.keys.clustering(row) for row in plan.rows(values, options) or () if row is not None]
            slices = [(clustering_key, clustering_key + LAST) for clustering_key in named]
            for position in plan.positions(values, options):
                key = (plan.table.incarnation, position)
                wanted.setdefault(key, (plan.table, position, []))[2].extend(slices)
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
        misuse = misuse_of_commit(options.consistency, route.keyspace)
        if misuse is not None:
            raise misuse
        if route.alone:
            required = route.electorates(local_only=serial == Consistency.LOCAL_SERIAL)[0].required
            if required > 1:
                raise unavailable(serial, required, 1)
            route.write_need(options.consistency)
            unknown = CasWriteUnknown(serial, 0, 1)
            self._compare_and_set_here(bound, options, answer, table, position, unknown, in_batch=in_batch)
            return
        rows = self._rows.of(table)
        command = SlicesCommand(rows, position, slices, options.now_s, rows_max=rows_max)

        def decide(chunk: Chunk, timestamp: int) -> Decision:
            if chunk.end is not None and rows_max > 1:
                raise InvalidRequest("The rows that the conditions are about are too many, or too large")
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
        proposer.start()

    def _compare_and_set_here(
        self,
        bound: Sequence[Bound],
        options: ExecuteOptions,
        answer: Answer,
        table: Table,
        position: bytes,
        unknown: RequestError,
        *,
        in_batch: bool,
    ) -> None:
        result: CasResult | None = None
        paxos = self._paxos

        def decide(timestamp: int) -> Mutation | Wait | None:
            nonlocal result
            decision = self._conditional.decide(bound, options, timestamp, in_batch=in_batch)
            if isinstance(decision, Wait):
                return decision
            result = decision.result
            return decision.mutation

        def step() -> Wait | None:
            return paxos.acceptor.decide_alone(table.incarnation, position, paxos.next_ballot, decide)

        def done(error: RequestError | None) -> None:
            if error is not None:
                answer.error(error)
                return
            assert result is not None
            _answer_cas(result, options, answer)

        answer.will_come()
        again = partial(self._compare_and_set, bound, options, answer, in_batch=in_batch)
        self._writes.run_once(step, done, unknown, again)


def _answer_cas(result: CasResult, options: ExecuteOptions, answer: Answer) -> None:
    metadata = RowsMetadata([column.wire() for column in result.columns], options.version)
    rows = [encode_row(row) for row in result.rows]
    answer.result(metadata.rows(len(rows), rows))
