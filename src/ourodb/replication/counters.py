"""Counters: increments led by one replica, which adds them to its own shard.

An increment isn't idempotent, so nothing inside repeats one. The coordinator sends it once to a leader, the
nearest live replica (itself, where it is one). The leader reads its shard, adds, writes and syncs, all in one
step; only then does it send the shard's new value, which may be merged any number of times, to the other
replicas, and answers when as many have it as the consistency level asks for. Where the answer doesn't come, or the
leader doesn't know whether its disk has the increment, the client is told that nobody knows: never OVERLOADED, which
drivers take for leave to repeat it, unless certainly nothing was done.

A node leads only partitions that it is a replica of, and has wholly: its shard must be where reads find it, and it must
know the last value that it gave that shard. So a node that gains ranges begins new shards: what it led of them in an
earlier time may be known to others better than to whom it copies them from.

Source: ``storage.counter``; Cassandra's ``CounterMutation``, CASSANDRA-6504.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec
import structlog

from ourodb import limits
from ourodb.cql.plan.modification import CounterDelta
from ourodb.errors import (
    OuroError,
    Overloaded,
    RequestError,
    Unavailable,
    WriteFailure,
    WriteTimeout,
)
from ourodb.peer.messages import FAILED, Verb
from ourodb.ports import DATA, Clock, Link, NodeId
from ourodb.replication.coordinator.write import Together, WriteContext, WriteOperation
from ourodb.replication.messages import (
    CoordinatorBehind,
    LeaderAlone,
    Reason,
    client_code,
    decode_failure,
    encode_failure,
)
from ourodb.replication.peers import RequestClass
from ourodb.replication.replica.replica import Handler, Replica
from ourodb.replication.replica.writes import Done, as_request_error, attempt
from ourodb.replication.routes import Route
from ourodb.schema.model import Column
from ourodb.storage.counter import increment
from ourodb.storage.keys import TableKeys
from ourodb.storage.mutation import Mutation, MutationBuilder
from ourodb.storage.row import Wait
from ourodb.storage.rows import Rows

log = structlog.get_logger()

MICROS = 1_000_000

_TIMED_OUT = struct.Struct(">HI")
"""A failed reply: ``u16 reason | u32 acknowledgements`` of a leader that waited in vain."""


class Shards:
    """The shards that one incarnation of this node adds to."""

    def __init__(self, rows: Rows, clock: Clock, node: bytes, incarnation: int) -> None:
        """
        Args:
            node: 16 bytes, the host id.
            incarnation: grows after each unclean stop, since the shard's last value may be lost.
        """
        self._rows = rows
        self._clock = clock
        self._node = node
        self._incarnation = incarnation

    def renew(self, incarnation: int) -> None:
        """Add to new shards from now on."""
        self._incarnation = incarnation

    def add(
        self, deltas: Sequence[CounterDelta], others: Sequence[Mutation], timestamp: int, now_s: int
    ) -> list[Mutation] | Wait:
        """Add all deltas and apply the other mutations in one atomic write.

        Returns:
            What was written, or what it waits for, having done nothing.
        """
        rows: dict[tuple[bytes, bytes, tuple[bytes, ...] | None], dict[int, tuple[Column, int]]] = {}
        keys: dict[bytes, TableKeys] = {}
        for delta in deltas:
            keys[delta.keys.incarnation] = delta.keys
            row = rows.setdefault((delta.keys.incarnation, delta.position, delta.clustering), {})
            _, sum_so_far = row.get(delta.column.id, (delta.column, 0))
            row[delta.column.id] = (delta.column, sum_so_far + delta.delta)
        builders: dict[tuple[bytes, bytes], MutationBuilder] = {}
        for (incarnation, position, clustering), columns in rows.items():
            table_keys = keys[incarnation]
            clustering_key = None if clustering is None else table_keys.clustering(clustering)
            shards = self._rows.of(table_keys.table).get_shards(position, clustering_key, now_s)
            if isinstance(shards, Wait):
                return shards
            builder = builders.get((incarnation, position))
            if builder is None:
                builder = builders[incarnation, position] = MutationBuilder(
                    table_keys, position, timestamp, now_s
                )
            built = builder.static_row() if clustering is None else builder.row(clustering)
            clock = max(self._clock.wall_us(), timestamp)
            for column, sum_of_deltas in columns.values():
                stored = shards.get(column.id)
                built.counter(column, increment(stored, self._node, self._incarnation, clock, sum_of_deltas))
        made = [builder.build() for builder in builders.values()]
        mutations = [*others, *(mutation for mutation in made if mutation is not None)]
        wait = self._rows.apply_many(mutations, now_s)
        return mutations if wait is None else wait


class _Delta(msgspec.Struct, array_like=True):
    incarnation: int
    clustering: tuple[bytes, ...] | None
    column: int
    delta: int


class _Increments(msgspec.Struct, array_like=True):
    """COUNTER: increments of one partition.

    Attributes:
        timestamp: microseconds, of the cells.
    """

    level: int
    timestamp: int
    keyspace: str
    position: bytes
    deltas: list[_Delta]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Increments).decode


@dataclass(frozen=True, slots=True)
class _Addition:
    """Increments of one partition of one table, to be carried out as one.

    Attributes:
        timestamp: microseconds, of the cells.
    """

    keyspace: str
    deltas: Sequence[CounterDelta]
    level: int
    timestamp: int

    @property
    def position(self) -> bytes:
        return self.deltas[0].position

    def encode(self) -> bytes:
        deltas = [
            _Delta(delta.keys.table.incarnation, delta.clustering, delta.column.id, delta.delta)
            for delta in self.deltas
        ]
        return _encode(_Increments(self.level, self.timestamp, self.keyspace, self.position, deltas))


class Counters:
    """The coordinator's and the leader's side."""

    def __init__(self, shards: Shards, context: WriteContext, rows: Rows, replica: Replica) -> None:
        self._shards = shards
        self._context = context
        self._routing = context.routing
        self._rows = rows
        self._replica = replica

    def handlers(self) -> dict[int, Handler]:
        """By verb."""
        return {Verb.COUNTER: self._on_increments}

    def add(
        self,
        deltas: Sequence[tuple[str, CounterDelta]],
        others: Sequence[tuple[str, Mutation]],
        level: int,
        timestamp: int,
        now_s: int,
        done: Done,
    ) -> None:
        """Carry out the increments, of (keyspace, delta), and the deletions of a counter statement or batch.

        Raises:
            Unavailable, InvalidRequest: nothing was done.
        """
        by_partition: dict[tuple[str, int, bytes], list[CounterDelta]] = {}
        for keyspace, delta in deltas:
            key = keyspace, delta.keys.table.incarnation, delta.position
            by_partition.setdefault(key, []).append(delta)
        routes = {key: self._routing.find(key[0], key[2]) for key in by_partition}
        other_routes = [self._routing.find(keyspace, mutation.position) for keyspace, mutation in others]
        needs = [route.write_need(level) for route in other_routes]
        for route in routes.values():
            route.write_need(level)
        unknown = WriteTimeout(level, 0, 1, "COUNTER")
        if all(route.alone for route in (*routes.values(), *other_routes)):

            def step() -> Wait | None:
                outcome = self._shards.add(
                    [delta for _, delta in deltas], [one for _, one in others], timestamp, now_s
                )
                return outcome if isinstance(outcome, Wait) else None

            again = partial(self.add, deltas, others, level, timestamp, now_s, done)
            self._context.writes.run_once(step, done, unknown, again)
            return
        self._context.peers.check_room()
        together = Together(len(by_partition) + len(others), done, unknown)
        for (_, mutation), route, need in zip(others, other_routes, needs, strict=True):
            WriteOperation(self._context, mutation, route, need, "COUNTER", together).start(now_s)
        for key, partition in by_partition.items():
            self._add(_Addition(key[0], partition, level, timestamp), routes[key], together)

    def _add(self, addition: _Addition, route: Route, done: Done) -> None:
        if not route.reads_here:
            self._have_led(addition, route, done)
            return

        def led(error: RequestError | None) -> None:
            # This node has done nothing; another one may still have room.
            if isinstance(error, Overloaded) and _leaders(route):
                self._have_led(addition, route, done)
            else:
                done(error)

        self._lead(addition, route, led, lambda: self._add_again(addition, done))

    def _add_again(self, addition: _Addition, done: Done) -> None:
        """Nothing was done. Raises why nothing can be."""
        self._add(addition, self._routing.find(addition.keyspace, addition.position), done)

    def _have_led(self, addition: _Addition, route: Route, done: Done) -> None:
        """Another node is to add them."""
        begun_ms = self._context.peers.now_ms()

        def again() -> None:
            if self._context.peers.now_ms() - begun_ms > limits.COUNTER_TIMEOUT_MS:
                done(Overloaded("this node doesn't learn who holds the counter now"))
            else:
                attempt(lambda: self._add_again(addition, done), done)

        _Led(self._context, route, addition.level, done, again).start(addition.encode())

    def _lead(self, addition: _Addition, route: Route, done: Done, again: Callable[[], None]) -> None:
        """Add here, then replicate. If this node can't take them, and has done nothing, ``done`` is told Overloaded.

        Args:
            again: begun instead of this, after a wait; may raise why it can't be.
        """
        level, position = addition.level, addition.position
        required = route.write_need(level).required
        unknown = WriteTimeout(level, 0, required, "COUNTER")
        now_s = self._context.clock.wall_us() // MICROS
        written: list[Mutation] = []

        def step() -> Wait | None:
            outcome = self._shards.add(addition.deltas, (), addition.timestamp, now_s)
            if isinstance(outcome, Wait):
                return outcome
            written.extend(outcome)
            return None

        def added(error: RequestError | None) -> None:
            if error is not None:
                done(error)
                return
            (mutation,) = written
            try:
                now = self._routing.present(route, position)
                need = now.write_need(level)
            except RequestError:
                # It has been added here, at least.
                done(WriteTimeout(level, 1, required, "COUNTER"))
                return
            operation = WriteOperation(self._context, mutation, now, need, "COUNTER", done)
            operation.send_as(Verb.WRITE, mutation.encode(), lambda written_here: written_here(None))

        self._context.writes.run_once(step, added, unknown, again)

    def _on_increments(self, link: Link, node: NodeId, request: int, epoch: int, body: bytes) -> None:
        peers = self._context.peers

        def done(error: Exception | None) -> None:
            if error is None:
                peers.reply(link, Verb.COUNTER, request)
            elif isinstance(error, WriteTimeout):
                peers.fail(link, Verb.COUNTER, request, _TIMED_OUT.pack(Reason.TIMEOUT, error.received))
            else:
                peers.fail(link, Verb.COUNTER, request, encode_failure(error))

        again = lambda: self._on_increments(link, node, request, epoch, body)  # noqa: E731
        increments = _decode(body)
        deltas = []
        for one in increments.deltas:
            if not self._replica.knows(one.incarnation, epoch, again, done, increments.position):
                return
            keys = self._rows.known(one.incarnation).keys
            column = keys.table.by_id.get(one.column)
            if column is None:
                done(OuroError(f"no column {one.column}"))
                return
            deltas.append(CounterDelta(keys, increments.position, one.clustering, column, one.delta))
        addition = _Addition(increments.keyspace, deltas, increments.level, increments.timestamp)
        try:
            route = self._routing.find(increments.keyspace, increments.position)
            if not route.reads_here:
                self._not_read_here(epoch, again, done)
                return
            self._lead(addition, route, done, again)
        except Unavailable as error:
            done(LeaderAlone(str(error)))
        except OuroError as error:
            done(as_request_error(error))

    def _not_read_here(
        self, epoch: int, again: Callable[[], None], done: Callable[[Exception | None], None]
    ) -> None:
        """The range moves, and one of both nodes doesn't know yet who reads it now: who leads is one of these."""
        if epoch > self._context.peers.epoch:
            self._replica.park(epoch, again, done)
        elif epoch < self._context.peers.epoch:
            done(CoordinatorBehind("the coordinator has missed that reads go elsewhere"))
        else:
            done(OuroError("the leader of a counter must be one of its replicas"))


def _leaders(route: Route) -> list[tuple[NodeId, Link]]:
    """Who else may lead, nearest first: those that have all there is."""
    return [remote for remote in route.remote if remote[0] in route.replicas.nodes]


class _Led:
    """Increments that another node leads, and the wait for its answer.

    The nearest replica leads to which they can be sent. One whose link takes nothing hasn't got them, and one that
    reaches too few others or has no room has done nothing, so the next may.
    """

    __slots__ = (
        "_again",
        "_body",
        "_context",
        "_done",
        "_epoch",
        "_leader",
        "_level",
        "_replicas",
        "_required",
        "started_ms",
    )

    def __init__(
        self, context: WriteContext, route: Route, level: int, done: Done, again: Callable[[], None]
    ) -> None:
        """
        Args:
            again: begins anew, once this node has learnt that the range has moved.
        """
        self.started_ms = 0
        self._again = again
        self._context = context
        self._epoch = route.epoch
        self._level = level
        self._done = done
        self._required = route.write_need(level).required
        self._replicas = _leaders(route)
        """Who may still be asked to lead."""
        self._leader = self._replicas[0][0]
        self._body = b""

    def start(self, body: bytes) -> None:
        self._body = body
        self._ask(Overloaded("the leader of a counter can't be reached"))

    def _ask(self, failure: RequestError) -> None:
        """Ask the next one.

        Args:
            failure: what the client is told if there is none.
        """
        peers = self._context.peers
        request = peers.begin(RequestClass.COUNTER, self)
        message = peers.message(Verb.COUNTER, self._body, request, epoch=self._epoch)
        while self._replicas:
            self._leader, link = self._replicas.pop(0)
            if link.send(DATA, message):
                return
        peers.end(request)
        peers.later(lambda: self._done(failure))

    def on_reply(self, node: NodeId, flags: int, body: bytes) -> bool:
        if not flags & FAILED:
            self._done(None)
            return True
        reason, text = decode_failure(body)
        if reason == Reason.TIMEOUT:
            received = _TIMED_OUT.unpack_from(body)[1] if len(body) >= _TIMED_OUT.size else 0
            self._done(WriteTimeout(self._level, received, self._required, "COUNTER"))
            return True
        if reason == Reason.COORDINATOR_BEHIND:
            # It has done nothing.
            self._context.peers.when_caught_up(self._epoch, self._again)
            return True
        if reason == Reason.LEADER_ALONE:
            self._ask(Unavailable(self._level, self._required, 1, text))
            return True
        if reason in (Reason.OVERLOADED, Reason.READ_ONLY):
            self._ask(Overloaded(text))
            return True
        reasons = {self._context.peers.packed_address(node): client_code(reason)}
        log.warning("a counter's leader failed", leader=node, reason=text)
        self._done(WriteFailure(self._level, 0, self._required, reasons, "COUNTER"))
        return True

    def on_expired(self) -> None:
        self._done(self._unknown())

    def _unknown(self) -> WriteTimeout:
        return WriteTimeout(self._level, 0, self._required, "COUNTER")

    def on_lost(self, node: NodeId) -> bool:
        if node != self._leader:
            return False
        self.on_expired()
        return True

    def on_tick(self, waited_ms: int) -> bool:
        return False
