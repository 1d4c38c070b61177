"""Logged batches: all partitions in the end, or none.

Before a logged batch of several partitions writes anything, it is stored on two other nodes of the
coordinator's data centre, in other failure domains where there are any, and synced there. Then its mutations
are written like any others, and once all are acknowledged the two forget it. Whoever finds that it has kept a
batch for longer than a write can take replays it: the coordinator died, or a partition had no replica up.
Mutations carry their timestamps, so replaying one that was written does no harm.

A node that is alone in its data centre keeps its own batches.

A batch is kept in the LOG family under ``batch/ | stored at (u64, us) | id (16)``.

Source: Cassandra's ``BatchlogManager``, CASSANDRA-4542; domains as in ``EndpointFilter`` (CASSANDRA-5137).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from ourodb import limits
from ourodb.cql.wire.codes import Consistency
from ourodb.errors import OuroError, Overloaded, RequestError, WriteTimeout
from ourodb.peer.messages import FAILED, Verb
from ourodb.ports import DATA, Clock, Link, NodeId, Random, Scheduler, Store, Timer
from ourodb.replication.coordinator.write import WriteContext, write_all
from ourodb.replication.messages import encode_failure
from ourodb.replication.peers import RequestClass
from ourodb.replication.replica.replica import Handler, decode_mutations, encode_mutations
from ourodb.replication.replica.writes import Done, as_request_error
from ourodb.replication.routes import Route
from ourodb.storage.families import LOG
from ourodb.storage.mutation import Mutation
from ourodb.storage.record import CorruptRecord
from ourodb.storage.rows import Rows

log = structlog.get_logger()

PREFIX: Final = b"batch/"
END: Final = b"batch0"
ID_BYTES: Final = 16
MICROS: Final = 1_000_000

_STORED_AT = struct.Struct(">Q")

FindRoute = Callable[[str, bytes], Route]
ChooseKeepers = Callable[[], list[NodeId]]
"""Whom to give a batch: up to two live nodes, this one only where there is no other."""


class Batches:
    """The coordinator's and the keeper's side.

    Attributes:
        replayed: batches, counted since the start.
        kept: bytes of batches kept now.
    """

    def __init__(
        self,
        context: WriteContext,
        rows: Rows,
        store: Store,
        clock: Clock,
        random: Random,
        scheduler: Scheduler,
        find_route: FindRoute,
        choose_keepers: ChooseKeepers,
    ) -> None:
        self.replayed = 0
        self.kept = 0
        self._context = context
        self._rows = rows
        self._store = store
        self._clock = clock
        self._random = random
        self._scheduler = scheduler
        self._find_route = find_route
        self._choose_keepers = choose_keepers
        self._keys: dict[bytes, tuple[bytes, int]] = {}
        """Batch id to key and size."""
        self._replaying: dict[bytes, None] = {}
        self._timer: Timer | None = None

    def recover(self) -> None:
        """Find what is kept; it will be replayed."""
        for key, value in self._store.scan(LOG, PREFIX, END):
            self._keys[key[-ID_BYTES:]] = (key, len(value))
            self.kept += len(value)
        self._arm_replay()

    def handlers(self) -> dict[int, Handler]:
        """By verb."""
        return {Verb.BATCH_STORE: self._on_store, Verb.BATCH_REMOVE: self._on_remove}

    # Coordinating

    def write(
        self,
        mutations: Sequence[Mutation],
        routes: Sequence[Route],
        level: int,
        now_s: int,
        done: Done,
    ) -> None:
        """Write the partitions of a logged batch.

        Raises:
            Unavailable, InvalidRequest: nothing was written.
        """
        if len(mutations) < 2 or all(route.alone for route in routes):
            write_all(self._context, mutations, routes, level, "BATCH", now_s, done)
            return
        for route in routes:
            route.write_need(level)
        batch_id = self._random.bytes(ID_BYTES)
        keepers = self._choose_keepers()

        def stored(error: RequestError | None) -> None:
            if error is not None:
                done(error)
                return
            try:
                write_all(self._context, mutations, routes, level, "BATCH", now_s, written)
            except RequestError as failure:
                done(failure)

        def written(error: RequestError | None) -> None:
            if error is None:
                self._remove(batch_id, keepers)
            done(error)

        _Keeping(self._context, level, keepers, stored).start(
            batch_id + encode_mutations(list(mutations)), self._keep
        )

    def _remove(self, batch_id: bytes, keepers: Sequence[NodeId]) -> None:
        peers = self._context.peers
        message = peers.message(Verb.BATCH_REMOVE, batch_id)
        for node in keepers:
            if node == peers.me:
                self._forget(batch_id)
                continue
            link = peers.links.get(node)
            if link is not None:
                link.send(DATA, message)

    # Keeping

    def _keep(self, body: bytes, done: Done) -> None:
        """Store a batch here."""
        batch_id, value = body[:ID_BYTES], body[ID_BYTES:]
        if self.kept + len(value) > limits.BATCH_LOG_BYTES_MAX:
            done(Overloaded("too many batches wait to be finished"))
            return
        key = b"%b%b%b" % (PREFIX, _STORED_AT.pack(self._clock.wall_us()), batch_id)
        self._keys[batch_id] = (key, len(value))
        self.kept += len(value)
        self._context.writes.run(lambda: self._store.apply(((LOG, key, value),)), done, sync=True)
        self._arm_replay()

    def _forget(self, batch_id: bytes) -> None:
        known = self._keys.pop(batch_id, None)
        if known is None:
            return
        key, size = known
        self.kept -= size
        try:
            self._store.apply(((LOG, key, None),))
        except OuroError as error:
            log.warning("a batch that is over stays on disk", reason=str(error))

    def _on_store(self, link: Link, node: NodeId, request: int, epoch: int, body: bytes) -> None:
        peers = self._context.peers

        def done(error: RequestError | None) -> None:
            if error is None:
                peers.reply(link, Verb.BATCH_STORE, request)
            else:
                peers.fail(link, Verb.BATCH_STORE, request, encode_failure(error))

        self._keep(body, done)

    def _on_remove(self, link: Link, node: NodeId, request: int, epoch: int, body: bytes) -> None:
        self._forget(body)
        self._context.writes.run(lambda: None, lambda error: None)

    # Replaying

    def _arm_replay(self) -> None:
        if self._timer is None and self._keys:
            self._timer = self._scheduler.after(limits.BATCH_LOG_REPLAY_MS // 2, self._replay_due)

    def _replay_due(self) -> None:
        self._timer = None
        before_us = self._clock.wall_us() - limits.BATCH_LOG_REPLAY_MS * 1000
        for batch_id, (key, _) in list(self._keys.items()):
            if _STORED_AT.unpack_from(key, len(PREFIX))[0] <= before_us and batch_id not in self._replaying:
                self._replay(batch_id, key)
        self._arm_replay()

    def _replay(self, batch_id: bytes, key: bytes) -> None:
        value = next((value for _, value in self._store.scan(LOG, key, key + b"\x00")), None)
        if value is None:
            self._forget(batch_id)
            return
        try:
            mutations, routes = self._known(decode_mutations(value))
        except CorruptRecord as error:
            log.error("a batch that can't be read", reason=str(error))
            self._forget(batch_id)
            return
        self._replaying[batch_id] = None

        def done(error: RequestError | None) -> None:
            self._replaying.pop(batch_id, None)
            if error is None:
                self.replayed += 1
                self._forget(batch_id)
                self._context.writes.run(lambda: None, lambda error: None)

        try:
            now_s = self._clock.wall_us() // MICROS
            write_all(self._context, mutations, routes, Consistency.ONE, "BATCH", now_s, done)
        except OuroError as error:
            self._replaying.pop(batch_id, None)
            log.warning("a batch can't be replayed yet", reason=str(as_request_error(error)))

    def _known(self, mutations: Sequence[Mutation]) -> tuple[list[Mutation], list[Route]]:
        """Those whose tables still exist, and their routes."""
        kept: list[Mutation] = []
        routes: list[Route] = []
        for mutation in mutations:
            try:
                table = self._rows.known(mutation.incarnation).table
            except OuroError:
                continue
            kept.append(mutation)
            routes.append(self._find_route(table.keyspace, mutation.position))
        return kept, routes


class _Keeping:
    """The wait until all keepers have a batch on disk."""

    __slots__ = ("_context", "_done", "_keepers", "_level", "_stored", "_waiting", "started_ms")

    def __init__(self, context: WriteContext, level: int, keepers: Sequence[NodeId], stored: Done) -> None:
        self.started_ms = 0
        self._context = context
        self._level = level
        self._keepers = keepers
        self._stored = stored
        self._waiting = dict.fromkeys(keepers)
        self._done = False

    def start(self, body: bytes, keep_here: Callable[[bytes, Done], None]) -> None:
        peers = self._context.peers
        request = peers.begin(RequestClass.WRITE, self)
        message = peers.message(Verb.BATCH_STORE, body, request)
        for node in self._keepers:
            if node == peers.me:
                keep_here(body, self._kept_here)
                continue
            link = peers.links.get(node)
            if link is None or not link.send(DATA, message):
                peers.later(self.on_expired)

    def on_reply(self, node: NodeId, flags: int, body: bytes) -> bool:
        if flags & FAILED:
            self._end(Overloaded("the batch log takes no more batches"))
        else:
            self._waiting.pop(node, None)
            if not self._waiting:
                self._end(None)
        return self._done

    def on_expired(self) -> None:
        received = len(self._keepers) - len(self._waiting)
        self._end(WriteTimeout(self._level, received, len(self._keepers), "BATCH_LOG"))

    def on_lost(self, node: NodeId) -> bool:
        if node in self._waiting:
            self.on_expired()
        return self._done

    def on_tick(self, waited_ms: int) -> bool:
        return False

    def _kept_here(self, error: RequestError | None) -> None:
        if error is not None:
            self._end(error)
        else:
            self.on_reply(self._context.peers.me, 0, b"")

    def _end(self, error: RequestError | None) -> None:
        if not self._done:
            self._done = True
            self._stored(error)
