"""Logged batches: all partitions in the end, or none.

Before a logged batch of several partitions writes anything, it is stored on two other nodes of the
coordinator's data centre, in other failure domains where there are any, and synced there. For one that can't be
reached, refuses, or is late, another one stands in, the coordinator itself at last. Then its mutations are written like
any others, and once all are acknowledged at the batch's level those who keep it forget it. Whoever finds that it has
kept a batch for longer than a write can take replays it: the coordinator died, or a partition had too few replicas. It
forgets the batch when each replica of each partition has its part, or a hint of it is on this node's disk. Mutations
carry their timestamps, so replaying one that was written does no harm.

A node that is alone in its data centre keeps its own batches.

A batch whose tables have dropped their tombstones since (``gc_grace_seconds``) is not replayed: it would bring back
what was deleted. A keeper that has applied less of the metadata log than the coordinator had waits: it may not know a
table of the batch yet. Tables that are gone drop out of a batch.

A batch is kept in the LOG family under ``batch/ | stored at (u64, us) | id (16)``; its value is
``epoch of the coordinator (u32) | mutations``.

Source: Cassandra's ``BatchlogManager``, CASSANDRA-4542; domains as in ``EndpointFilter`` (CASSANDRA-5137).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import structlog

from ourodb import limits
from ourodb.cql.wire.codes import Consistency
from ourodb.errors import UNDONE, OuroError, Overloaded, RequestError, WriteTimeout
from ourodb.peer.messages import FAILED, Verb
from ourodb.ports import DATA, Clock, Link, NodeId, Random, Scheduler, Store, Timer
from ourodb.replication.coordinator.write import WriteContext, WriteOperation, write_all
from ourodb.replication.messages import Reason, decode_failure, encode_failure
from ourodb.replication.peers import RequestClass
from ourodb.replication.replica.replica import Handler, decode_mutations, encode_mutations
from ourodb.replication.replica.writes import Done
from ourodb.replication.routes import Need, Route
from ourodb.storage.apply import UnknownIncarnation
from ourodb.storage.families import LOG
from ourodb.storage.mutation import Mutation
from ourodb.storage.rows import Rows

log = structlog.get_logger()

PREFIX: Final = b"batch/"
END: Final = b"batch0"
ID_BYTES: Final = 16
MICROS: Final = 1_000_000

_STORED_AT = struct.Struct(">Q")
_EPOCH = struct.Struct(">I")

ChooseKeepers = Callable[[], list[NodeId]]
"""Whom to give a batch, best first: all live nodes that may keep it, this one last."""

KEEPERS: Final = 2
"""Nodes that have a batch on disk before any of it is written, where so many others are up."""


class Kept(NamedTuple):
    """A batch that this node keeps.

    Attributes:
        size: bytes of the value.
    """

    key: bytes
    size: int

    @property
    def stored_at_us(self) -> int:
        return int(_STORED_AT.unpack_from(self.key, len(PREFIX))[0])


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
        self._choose_keepers = choose_keepers
        self._batches: dict[bytes, Kept] = {}
        """By id, oldest first."""
        self._replaying: dict[bytes, None] = {}
        self._timer: Timer | None = None

    def recover(self) -> None:
        """Find what is kept; it will be replayed."""
        for key, value in self._store.scan(LOG, PREFIX, END):
            self._batches[key[-ID_BYTES:]] = Kept(key, len(value))
            self.kept += len(value)
        self._arm()

    def handlers(self) -> dict[int, Handler]:
        """By verb."""
        return {Verb.BATCH_STORE: self._on_store, Verb.BATCH_REMOVE: self._on_remove}

    @property
    def waiting(self) -> int:
        """Batches kept now."""
        return len(self._batches)

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
            Unavailable, InvalidRequest, Overloaded: nothing was written.
        """
        context = self._context
        write_type = "SIMPLE" if len(mutations) < 2 else "BATCH"
        if len(mutations) < 2 or all(route.alone for route in routes):
            write_all(context, mutations, routes, level, write_type, now_s, done)
            return
        in_doubt = WriteTimeout(
            level, 0, max([route.write_need(level).required for route in routes]), write_type
        )
        context.peers.check_room()
        batch_id = self._random.bytes(ID_BYTES)
        keeping = _Keeping(context, level, self._choose_keepers())

        def stored(error: RequestError | None) -> None:
            if error is not None:
                done(error)
                return
            try:
                # Its rows may have moved while it was stored.
                now = context.routing.all_present(routes, mutations)
                write_all(context, mutations, now, level, write_type, now_s, written)
            except RequestError as error:
                written(error)

        def written(error: RequestError | None) -> None:
            if error is None:
                self._remove(batch_id, keeping.asked)
            # Its keepers will write it.
            done(in_doubt if isinstance(error, UNDONE) else error)

        keeping.start(batch_id + encode_mutations(list(mutations)), self._keep, stored)

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

    def _keep(self, body: bytes, epoch: int, done: Done) -> None:
        """Store a batch here.

        Args:
            epoch: which the coordinator has applied.
        """
        batch_id, value = body[:ID_BYTES], _EPOCH.pack(epoch) + body[ID_BYTES:]
        if self.kept + len(value) > limits.BATCH_LOG_BYTES_MAX:
            done(Overloaded("too many batches wait to be finished"))
            return
        key = b"%b%b%b" % (PREFIX, _STORED_AT.pack(self._clock.wall_us()), batch_id)

        def settled(error: RequestError | None) -> None:
            if error is not None:
                # It may be on disk all the same, after a failed sync; then the next run finds it.
                self._drop(batch_id)
            done(error)

        self._batches[batch_id] = Kept(key, len(value))
        self.kept += len(value)
        self._arm()
        self._context.writes.run(lambda: self._store.apply(((LOG, key, value),)), settled, sync=True)

    def _drop(self, batch_id: bytes) -> Kept | None:
        known = self._batches.pop(batch_id, None)
        if known is not None:
            self.kept -= known.size
        return known

    def _forget(self, batch_id: bytes) -> None:
        """It is over. What can't be deleted now is replayed by the next run, or is too old by then."""
        known = self._drop(batch_id)
        if known is None:
            return

        def settled(error: RequestError | None) -> None:
            if error is not None:
                log.warning("a batch that is over stays on disk", reason=str(error))

        self._context.writes.run(lambda: self._store.apply(((LOG, known.key, None),)), settled)

    def _on_store(self, link: Link, node: NodeId, request: int, epoch: int, body: bytes) -> None:
        peers = self._context.peers

        def done(error: RequestError | None) -> None:
            if error is None:
                peers.reply(link, Verb.BATCH_STORE, request)
            else:
                peers.fail(link, Verb.BATCH_STORE, request, encode_failure(error))

        self._keep(body, epoch, done)

    def _on_remove(self, link: Link, node: NodeId, request: int, epoch: int, body: bytes) -> None:
        self._forget(body)

    # Replaying

    def _arm(self) -> None:
        if self._timer is None and self._batches:
            self._timer = self._scheduler.after(limits.BATCH_LOG_REPLAY_MS // 2, self._look)

    def _look(self) -> None:
        self._timer = None
        self._arm()
        self._replay_next()

    def _replay_next(self) -> None:
        """Replay what is due, a few at a time."""
        now_us = self._clock.wall_us()
        for batch_id, kept in list(self._batches.items()):
            if len(self._replaying) >= limits.BATCH_REPLAYS_AT_ONCE_MAX:
                return
            # One from the future was stored before the clock was set back.
            is_due = abs(now_us - kept.stored_at_us) >= limits.BATCH_LOG_REPLAY_MS * 1000
            if is_due and batch_id not in self._replaying:
                try:
                    self._replay(batch_id, kept)
                except OuroError as error:
                    self._replaying.pop(batch_id, None)
                    log.warning("a batch can't be replayed yet", reason=str(error))

    def _replay(self, batch_id: bytes, kept: Kept) -> None:
        """Bring each replica its part of a batch, or leave it a hint.

        Raises:
            OuroError: not now.
        """
        value = next((value for _, value in self._store.scan(LOG, kept.key, kept.key + b"\x00")), None)
        if value is None:
            self._drop(batch_id)
            return
        if self._context.peers.epoch < _EPOCH.unpack_from(value)[0]:
            return
        parts = self._parts(decode_mutations(value[_EPOCH.size :]), kept.stored_at_us)
        self._replaying[batch_id] = None
        left = 1 + len(parts)
        is_complete = True

        def over(is_part_complete: bool) -> None:
            nonlocal left, is_complete
            left -= 1
            is_complete = is_complete and is_part_complete
            if left:
                return
            self._replaying.pop(batch_id, None)
            if is_complete:
                self.replayed += 1
                self._forget(batch_id)
                self._context.peers.later(self._replay_next)

        now_s = self._clock.wall_us() // MICROS
        for mutation, route, need in parts:
            operation = WriteOperation(
                self._context, mutation, route, need, "BATCH", _told_by_over, over, kept.stored_at_us
            )
            operation.start(now_s)
        over(True)

    def _parts(self, mutations: Sequence[Mutation], stored_at_us: int) -> list[tuple[Mutation, Route, Need]]:
        """What of a batch is still to be written.

        Raises:
            Unavailable: a partition has no replica that is up.
        """
        age_us = self._clock.wall_us() - stored_at_us
        parts = []
        for mutation in mutations:
            try:
                rows = self._rows.known(mutation.incarnation)
            except UnknownIncarnation:
                continue
            if age_us >= rows.use.gc_grace_s * MICROS and age_us >= limits.BATCH_LOG_GRACE_MS * 1000:
                continue
            route = self._context.routing.find(rows.table.keyspace, mutation.position)
            parts.append((mutation, route, route.write_need(Consistency.ONE)))
        return parts


def _told_by_over(error: RequestError | None) -> None:
    """A replay asks for more than one acknowledgement: it waits until the operation is over."""


class _Keeping:
    """The wait until as many keepers as are wanted have a batch on disk.

    The failure detector needs seconds to notice that a node is gone, and can't notice one that still speaks and no
    longer hears. So a keeper that can't be reached, refuses, or is late is replaced by the next candidate; the last of
    them is this node, which can always be reached.

    Attributes:
        asked: the keepers that have the batch, or may have it.
    """

    __slots__ = (
        "_body",
        "_candidates",
        "_context",
        "_full",
        "_is_done",
        "_keep_here",
        "_kept",
        "_level",
        "_message",
        "_request",
        "_stored",
        "_waiting",
        "_wanted",
        "asked",
        "started_ms",
    )

    def __init__(self, context: WriteContext, level: int, candidates: Sequence[NodeId]) -> None:
        self.started_ms = 0
        self.asked: list[NodeId] = []
        self._context = context
        self._level = level
        self._candidates = list(reversed(candidates))
        self._wanted = min(KEEPERS, max(1, len(candidates) - 1))
        self._waiting: dict[NodeId, None] = {}
        self._kept = 0
        self._full = 0
        self._is_done = False
        self._request = 0

    def start(self, body: bytes, keep_here: Callable[[bytes, int, Done], None], stored: Done) -> None:
        self._body = body
        self._keep_here = keep_here
        self._stored = stored
        request = self._request = self._context.peers.begin(RequestClass.BATCH, self)
        self._message = self._context.peers.message(Verb.BATCH_STORE, body, request)
        for _ in range(self._wanted):
            self._ask_next()

    def on_reply(self, node: NodeId, flags: int, body: bytes) -> bool:
        if flags & FAILED:
            self._refused(node, decode_failure(body)[0] in (Reason.OVERLOADED, Reason.READ_ONLY))
        else:
            self._kept_by(node)
        return self._is_done

    def on_expired(self) -> None:
        self._end(WriteTimeout(self._level, self._kept, self._wanted, "BATCH_LOG"))

    def on_lost(self, node: NodeId) -> bool:
        self._failed(node)
        return self._is_done

    def on_tick(self, waited_ms: int) -> bool:
        if waited_ms < limits.BATCH_KEEPER_LATE_MS:
            return False
        # One more for each that is late.
        while self._candidates and len(self._waiting) < 2 * (self._wanted - self._kept):
            self._ask_next()
        return True

    def _ask_next(self) -> None:
        peers = self._context.peers
        while self._candidates:
            node = self._candidates.pop()
            if node == peers.me:
                self._waiting[node] = None
                self.asked.append(node)
                self._keep_here(self._body, peers.epoch, self._kept_here)
                return
            link = peers.links.get(node)
            if link is not None and link.send(DATA, self._message):
                self._waiting[node] = None
                self.asked.append(node)
                return
        if not self._waiting:
            # It may have been found while the caller is still at work.
            peers.later(self._out_of_candidates)

    def _kept_here(self, error: RequestError | None) -> None:
        if error is not None:
            self._refused(self._context.peers.me, isinstance(error, Overloaded))
        else:
            self._kept_by(self._context.peers.me)

    def _kept_by(self, node: NodeId) -> None:
        if node not in self._waiting:
            return
        del self._waiting[node]
        self._kept += 1
        if self._kept == self._wanted:
            self._end(None)

    def _refused(self, node: NodeId, is_full: bool) -> None:
        self._full += is_full
        self._failed(node)

    def _failed(self, node: NodeId) -> None:
        if node in self._waiting:
            del self._waiting[node]
            self._ask_next()

    def _out_of_candidates(self) -> None:
        """One keeper is enough where there is no other. Where all said that they have no room, nothing will happen."""
        if self._waiting:
            return
        if self._kept:
            self._end(None)
        elif self._full and self._full == len(self.asked):
            self._end(Overloaded("the batch log takes no more batches"))
        else:
            self.on_expired()

    def _end(self, error: RequestError | None) -> None:
        if not self._is_done:
            self._is_done = True
            self._context.peers.end(self._request)
            self._stored(error)
