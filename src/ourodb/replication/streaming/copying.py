"""The side that gains ranges: copies them while a move is in its first stage, and says when all is here.

For each table and each range that this node gains, or merges, there is one *task*. It copies from the range's sources
(``cluster.ring.moves``), one after the other; from each, states of conditional statements first, then records, chunk by
chunk. Chunks are applied as repairs are: timestamps and the age of deletions stay, and whatever was written here
meanwhile is merged with. A few tasks run at a time, each with one question under way and one chunk being written, so
memory is bounded and the source reads no faster than this node writes, and no faster than it is told to; both do it
between what clients ask for (``pace``). A task whose source fails begins again where it was; when that source is dead,
with others, and from the start: how many it takes depends on whether the replica that is displaced lives. How far each
task has come is noted in the store after what it copied, so that a node that is started again goes on where it was:
whatever keeps a note keeps the rows before it, too. What travels is covered by the checksums of the peer protocol's
frames, each of which goes on from the one before (``peer.frames``): damage breaks the connection, and is copied anew.

What this node may still hold of a range from an earlier time is deleted as soon as the move is known, before anything
is written to it: deletions of that time may have been purged everywhere else. A mark in the store says that this was
done, since what a node has acknowledged during a move must survive its restarts. A node that can't do it, because its
disk is full or damaged, takes no writes until it can: they would be deleted with the rest.

When all tasks are done and synced, the node tells the metadata log. Tables that are made while a move is under way need
no copying: all their writes go to both sets.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import msgspec
import structlog

from ourodb import limits
from ourodb.cluster.metadata.view import ClusterView
from ourodb.cluster.ring.moves import Move, MovedRange, Stage, gone_for_good
from ourodb.errors import OuroError, RequestError, StoreReadOnly
from ourodb.peer.messages import FAILED, Verb
from ourodb.ports import BULK, Clock, NodeId, Scheduler, Store, Timer
from ourodb.replication.messages import decode_failure
from ourodb.replication.paxos.acceptor import Acceptor
from ourodb.replication.peers import Peers, RequestClass
from ourodb.replication.replica.writes import Writes
from ourodb.replication.streaming.pace import Pace
from ourodb.replication.streaming.source import (
    Question,
    StreamRows,
    StreamStates,
    decode_states,
    encode,
)
from ourodb.schema.keyspaces import LOCAL
from ourodb.schema.model import Table
from ourodb.schema.names import is_system_keyspace
from ourodb.storage.apply import UnknownIncarnation
from ourodb.storage.chunk import beyond, decode_chunk
from ourodb.storage.clearing import clear
from ourodb.storage.families import DATA, METADATA
from ourodb.storage.keys import ALL_ROWS, Slice, next_position
from ourodb.storage.record import CorruptRecord
from ourodb.storage.rows import Rows

log = structlog.get_logger()

MICROS: Final = 1_000_000
MARK: Final = b"move/"
"""In METADATA, followed by the move's id (u64): the ranges that are gained in it were emptied.

With more behind it (``_Task.key``): how far one task has come.
"""

TEXT_LENGTH_MAX: Final = 100

CLEANED: Final = b"cleaned"
"""In METADATA: the index of the entry (u64) that ended the last move whose lost ranges were deleted."""

_NOTE_KEY: Final = struct.Struct(">QI")

Copied = Callable[[int], None]
"""Told the id of a move when this node has all that it gains in it."""


@dataclass(slots=True)
class Progress:
    """How far this node has come in a move.

    Attributes:
        move: its id; 0: nothing to copy.
        ranges, ranges_done: of all tables.
        rows, bytes: copied so far.
        waits: why it doesn't get on; empty when it does.
    """

    move: int = 0
    ranges: int = 0
    ranges_done: int = 0
    rows: int = 0
    bytes: int = 0
    waits: str = ""

    def text(self) -> str:
        """For gossip: ``ranges done/ranges rows bytes why it waits``; empty when there is nothing to copy."""
        if not self.move:
            return ""
        return f"{self.ranges_done}/{self.ranges} {self.rows} {self.bytes} {self.waits}"[:TEXT_LENGTH_MAX]

    @staticmethod
    def of_text(text: str) -> Progress | None:
        """Inverse of ``text``, without the move."""
        parts = text.split(" ", 3)
        done, _, ranges = parts[0].partition("/")
        if len(parts) != 4 or not all(part.isdigit() for part in (done, ranges, parts[1], parts[2])):
            return None
        return Progress(0, int(ranges), int(done), int(parts[1]), int(parts[2]), parts[3])


class _Note(msgspec.Struct, array_like=True, frozen=True):
    """How far a task has come, for after a restart; attributes as in ``_Task``."""

    is_over: bool
    sources: tuple[int, ...]
    number: int
    are_states_here: bool
    start: bytes
    rows_copied: int
    bytes_copied: int


@dataclass(slots=True)
class _Task:
    """One range of one table.

    Attributes:
        sources: whom it is copied from, one after the other; none while too few live.
        number: of those, how many it has been copied from.
        start: what comes before it is here.
        slices: of the partition at ``start``, that are still to come; None: all of it.
        are_states_here: what is known of conditional statements was copied.
        rows_copied, bytes_copied: so far.
    """

    table: Table
    moved: MovedRange
    start: bytes
    sources: tuple[NodeId, ...] = ()
    number: int = 0
    slices: tuple[Slice, ...] | None = None
    states_start: bytes = b""
    are_states_here: bool = False
    is_over: bool = False
    rows_copied: int = 0
    bytes_copied: int = 0

    @property
    def source(self) -> NodeId:
        """Who is asked now."""
        return self.sources[self.number]

    def begin(self, sources: tuple[NodeId, ...], number: int = 0) -> None:
        """Copy all of it from the source with this number, and then from those behind it."""
        self.sources, self.number = sources, number
        self.start, self.slices = self.moved.start, None
        self.states_start, self.are_states_here = self.moved.start, False

    def key(self, move: int) -> bytes:
        """Of its note in METADATA."""
        return MARK + _NOTE_KEY.pack(move, self.table.incarnation) + self.moved.start

    def note(self) -> bytes:
        return encode(
            _Note(
                self.is_over,
                self.sources,
                self.number,
                self.are_states_here,
                self.start,
                self.rows_copied,
                self.bytes_copied,
            )
        )

    def resume(self, note: bytes) -> None:
        """Go on after a note; in the midst of a partition, with all of it."""
        found = _decode_note(note)
        self.begin(tuple(map(NodeId, found.sources)), found.number)
        self.is_over, self.are_states_here, self.start = found.is_over, found.are_states_here, found.start
        self.rows_copied, self.bytes_copied = found.rows_copied, found.bytes_copied


_decode_note = msgspec.msgpack.Decoder(_Note).decode


@dataclass(slots=True)
class _Session:
    """The copying of one move.

    Attributes:
        gone: whom nobody waits for.
    """

    move: int
    gone: tuple[NodeId, ...]
    waiting: list[_Task] = field(default_factory=list)
    running: int = 0
    is_told: bool = False


class Copying:
    """Attributes:
    progress: for operators.
    pace: of what comes in.
    """

    def __init__(
        self,
        rows: Rows,
        store: Store,
        writes: Writes,
        acceptor: Acceptor,
        peers: Peers,
        clock: Clock,
        scheduler: Scheduler,
        pace: Pace,
        begun: Callable[[], None],
        copied: Copied,
        bytes_per_second: int = 0,
    ) -> None:
        """
        Args:
            bytes_per_second: that are asked for; 0: as fast as they come.
            begun: told when this node begins to gain ranges, before any of them is written to.
        """
        self.progress = Progress()
        self.pace = pace
        self._rows = rows
        self._store = store
        self._writes = writes
        self._acceptor = acceptor
        self._peers = peers
        self._clock = clock
        self._scheduler = scheduler
        self._begun = begun
        self._copied = copied
        self._bytes_per_second = bytes_per_second
        self._free_ms = 0.0
        """When more may be asked for."""
        self._session: _Session | None = None
        self._view: ClusterView | None = None
        """Of the move that this node copies for."""
        self._is_marking = False
        """The mark of that move isn't in the store yet."""
        self._retry: Timer | None = None
        store.follow_batches(self._batch_ended)

    def view_changed(self, view: ClusterView) -> None:
        """The metadata log moved."""
        move, session = view.move, self._session
        if move is None or move.stage is not Stage.COPYING:
            self._end()
            if self.progress.move and move is None:
                self.progress = Progress()
        elif self._peers.me not in view.copying or self._peers.me in move.copied:
            self._end()
        elif session is None or session.move != move.id:
            self._begin(view, move)

    def _end(self) -> None:
        """This node has nothing to copy, or no more."""
        self._session = self._view = self._rows.refusal = None
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def _begin(self, view: ClusterView, move: Move) -> None:
        """Make room for what comes, and go on where this node was; if it can't be done now, later."""
        self._end()
        self._view = view
        tasks = list(self._tasks(view))
        self.progress = Progress(move.id, len(tasks))
        try:
            self._empty(move.id, [task for task in tasks if self._peers.me in task.moved.gaining])
            self._resume(move.id, tasks)
        except OuroError as error:
            self._put_off(error)
            return
        self._session = _Session(move.id, gone_for_good(move), [task for task in tasks if not task.is_over])
        self._scheduler.soon(self._go_on)

    def _put_off(self, error: OuroError) -> None:
        """What was here in earlier times may be here still."""
        log.warning("what was here of rows that move to this node can't be deleted yet", reason=str(error))
        self._session = None
        self.progress.waits = f"what was here before can't be deleted: {error}"
        self._rows.refusal = StoreReadOnly(
            f"this node takes no writes until it has deleted what it still holds of rows that move to it: {error}"
        )
        if self._retry is None:
            self._retry = self._scheduler.after(limits.STREAM_RETRY_MS, self._begin_again)

    def _begin_again(self) -> None:
        view = self._view
        assert view is not None
        assert view.move is not None
        self._begin(view, view.move)

    def _batch_ended(self, error: OuroError | None) -> None:
        """The store has written, or lost, what was applied: with the mark whatever was to be acknowledged after it."""
        was_marking, self._is_marking = self._is_marking, False
        if error is not None and was_marking and self._view is not None:
            self._put_off(error)

    def _tasks(self, view: ClusterView) -> list[_Task]:
        me = self._peers.me
        tasks = []
        for keyspace in view.schema.keyspaces.values():
            moved = [one for one in view.moved_ranges(keyspace) if me in (*one.gaining, *one.merging)]
            for table in keyspace.tables.values():
                if table.virtual:
                    continue
                tasks += [_Task(table, one, one.start) for one in moved if one.before.nodes]
        return tasks

    def _empty(self, move: int, tasks: list[_Task]) -> None:
        """Delete what may be left here of ranges that are gained; once for a move.

        Args:
            tasks: of these ranges.
        """
        mark = MARK + move.to_bytes(8, "big")
        if next(self._store.scan(METADATA, mark, mark + b"\x00"), None) is not None:
            return
        if tasks:
            self._begun()
        for task in tasks:
            drop_range(self._rows, self._store, self._acceptor, task.table, task.moved.start, task.moved.end)
        stale = [(METADATA, key, None) for key, _ in self._store.scan(METADATA, MARK, MARK + b"\xff" * 9)]
        self._is_marking = True
        self._store.apply((*stale, (METADATA, mark, b"")))

    def _resume(self, move: int, tasks: list[_Task]) -> None:
        """Go on where this node was when it stopped."""
        mark = MARK + move.to_bytes(8, "big")
        notes = dict(self._store.scan(METADATA, mark + b"\x00", MARK + (move + 1).to_bytes(8, "big")))
        for task in tasks:
            note = notes.get(task.key(move))
            if note is None:
                continue
            task.resume(note)
            self.progress.ranges_done += task.is_over
            self.progress.rows += task.rows_copied
            self.progress.bytes += task.bytes_copied

    # Tasks

    def _go_on(self) -> None:
        session = self._session
        if session is None:
            return
        put_off = []
        while session.waiting and session.running < limits.STREAMS_AT_ONCE_MAX:
            task = session.waiting.pop(0)
            if self._choose_source(session, task):
                session.running += 1
                self._ask(session, task)
            elif task.moved.is_lost(session.gone) or is_system_keyspace(task.table.keyspace):
                self.progress.ranges_done += 1
            else:
                put_off.append(task)
        session.waiting += put_off
        if put_off and not session.running:
            self.progress.waits = f"too few replicas of {put_off[0].table.keyspace} are up to copy from"
            self._scheduler.after(limits.STREAM_RETRY_MS, self._go_on)
        elif not session.waiting and not session.running and not session.is_told:
            session.is_told = True
            self._writes.run(lambda: None, partial(self._synced, session), sync=True)

    def _synced(self, session: _Session, error: RequestError | None) -> None:
        if error is None:
            if self._session is session:
                self._copied(session.move)
            return
        session.is_told = False
        self._scheduler.after(limits.STREAM_RETRY_MS, self._go_on)

    def _choose_source(self, session: _Session, task: _Task) -> bool:
        """Whom to ask now. When one that is still needed has died, others are chosen, and all begins again.

        How many there are depends on who lives: the one that is displaced stands for several others. Of the system's
        keyspaces what those that live have is enough.
        """
        peers = self._peers
        live = [node for node in task.moved.before.nodes if node == peers.me or peers.up.get(node)]
        left = task.sources[task.number :]
        if left and all(node in live for node in left):
            return True
        sources = task.moved.sources(peers.me, live, session.gone)
        if sources is None and is_system_keyspace(task.table.keyspace):
            sources = tuple(live)
        if not sources:
            return False
        task.begin(sources)
        return True

    def _ask(self, session: _Session, task: _Task) -> None:
        if session is not self._session:
            return
        wait_ms = self._free_ms - self._clock.monotonic_ns() / 1_000_000
        if wait_ms > 0:
            self._scheduler.after(int(wait_ms) + 1, partial(self._ask, session, task))
            return
        peers = self._peers
        incarnation = task.table.incarnation
        question: Question
        if not task.are_states_here:
            question = StreamStates(session.move, incarnation, task.states_start, task.moved.end)
        else:
            question = StreamRows(session.move, incarnation, task.start, task.moved.end, task.slices)
        request = peers.begin(RequestClass.STREAM, _Asked(self, session, task))
        link = peers.links.get(task.source)
        if link is None or not link.send(BULK, peers.message(Verb.STREAM, encode(question), request)):
            peers.end(request)
            peers.later(lambda: self.failed(session, task, "it can't be reached"))

    def failed(self, session: _Session, task: _Task, why: str) -> None:
        """A source doesn't answer, or can't: the task is tried again."""
        if session is not self._session:
            return
        log.info("a range has to be asked for again", source=task.source, reason=why)
        self.progress.waits = f"node {task.source} {why}"
        session.running -= 1
        session.waiting.append(task)
        self._scheduler.after(limits.STREAM_RETRY_MS, self._go_on)

    def answered(self, session: _Session, task: _Task, body: bytes) -> None:
        """A chunk, or states."""
        if session is not self._session:
            return
        self.progress.waits = ""
        self.progress.bytes += len(body)
        task.bytes_copied += len(body)
        if self._bytes_per_second:
            now_ms = self._clock.monotonic_ns() / 1_000_000
            self._free_ms = max(self._free_ms, now_ms) + len(body) * 1000 / self._bytes_per_second
        try:
            if task.are_states_here:
                self._take_rows(session, task, body)
            else:
                self._take_states(session, task, body)
        except CorruptRecord as error:
            self.failed(session, task, str(error))

    def _take_states(self, session: _Session, task: _Task, body: bytes) -> None:
        states = decode_states(body)
        if len(states) < limits.STREAM_STATES_MAX:
            after: Callable[[], None] = lambda: setattr(task, "are_states_here", True)  # noqa: E731
        else:
            after = lambda: setattr(task, "states_start", states[-1][0] + b"\x00")  # noqa: E731
        incarnation = task.table.incarnation
        self._writes.run(
            lambda: self._acceptor.take_over(incarnation, states),
            partial(self._written, session, task, after),
        )

    def _take_rows(self, session: _Session, task: _Task, body: bytes) -> None:
        chunk = decode_chunk(body)
        rows = sum([len(partition.writes) for partition in chunk.partitions])
        self.progress.rows += rows
        task.rows_copied += rows
        now_s = self._clock.wall_us() // MICROS
        for partition in chunk.partitions:
            partition.stamped_at = now_s
        end = chunk.end
        if end is not None and end[1] is not None:
            rest = tuple(beyond(task.slices or ALL_ROWS, end[1]))
            start = end[0] if rest else next_position(end[0])
            slices: tuple[Slice, ...] | None = rest or None
        elif end is not None:
            start, slices = next_position(end[0]), None
        elif task.slices is not None:
            # The rest of a partition; others follow.
            start, slices = next_position(task.start), None
        else:
            start, slices = b"", None
        is_over = not start or (task.moved.end is not None and start >= task.moved.end)

        def after() -> None:
            task.start, task.slices = start, slices

        self._writes.write_pieces(
            self._writes.in_pieces(chunk.partitions),
            now_s,
            partial(self._written, session, task, after, is_over=is_over),
        )

    def _written(
        self,
        session: _Session,
        task: _Task,
        after: Callable[[], None],
        error: RequestError | None,
        *,
        is_over: bool = False,
    ) -> None:
        if session is not self._session:
            return
        if error is not None and not self._is_gone(task):
            self.failed(session, task, f"gives what this node can't write now: {error}")
            return
        after()
        if is_over and error is None and task.number + 1 < len(task.sources):
            task.begin(task.sources, task.number + 1)
            self._note(session, task)
            session.running -= 1
            session.waiting.insert(0, task)
            self._go_on()
            return
        task.is_over = is_over or error is not None
        self._note(session, task)
        if not task.is_over:
            self._ask(session, task)
            return
        session.running -= 1
        self.progress.ranges_done += 1
        self._go_on()

    def _note(self, session: _Session, task: _Task) -> None:
        """Note how far a task has come: after what it has copied, so that it is lost before that is."""
        try:
            self._store.apply(((METADATA, task.key(session.move), task.note()),))
        except OuroError as error:
            log.info("a copy isn't noted, and would begin again after a restart", reason=str(error))

    def _is_gone(self, task: _Task) -> bool:
        try:
            self._rows.known(task.table.incarnation)
        except UnknownIncarnation:
            return True
        return False


class _Asked:
    """One question under way."""

    __slots__ = ("_copying", "_session", "_source", "_task", "started_ms")

    def __init__(self, copying: Copying, session: _Session, task: _Task) -> None:
        self.started_ms = 0
        self._copying = copying
        self._session = session
        self._task = task
        self._source = task.source

    def on_reply(self, node: NodeId, flags: int, body: bytes) -> bool:
        if flags & FAILED:
            self._copying.failed(self._session, self._task, decode_failure(body)[1])
        else:
            copying = self._copying
            copying.pace.add(lambda: copying.answered(self._session, self._task, body))
        return True

    def on_expired(self) -> None:
        self._copying.failed(self._session, self._task, "doesn't answer")

    def on_lost(self, node: NodeId) -> bool:
        if node != self._source:
            return False
        self._copying.failed(self._session, self._task, "went down")
        return True

    def on_tick(self, waited_ms: int) -> bool:
        return False


def drop_range(
    rows: Rows, store: Store, acceptor: Acceptor, table: Table, start: bytes, end: bytes | None
) -> None:
    """Delete what this node holds of the partitions in [start, end)."""
    try:
        held = rows.known(table.incarnation)
    except UnknownIncarnation:
        return
    base = held.use.incarnation
    clear(store, DATA, base + start, held.keys.end if end is None else base + end)
    acceptor.forget(table.incarnation, start, end)


class Cleaning:
    """Deletes what this node has lost in a move, a little after its end; a mark in the store says up to which one."""

    def __init__(
        self,
        rows: Rows,
        store: Store,
        acceptor: Acceptor,
        peers: Peers,
        scheduler: Scheduler,
        is_read: Callable[[int], bool],
    ) -> None:
        """
        Args:
            is_read: whether somebody still reads this node's rows who began before an epoch.
        """
        self._rows = rows
        self._store = store
        self._acceptor = acceptor
        self._peers = peers
        self._scheduler = scheduler
        self._is_read = is_read
        self._view: ClusterView | None = None
        self._is_armed = False

    def view_changed(self, view: ClusterView) -> None:
        """The metadata log moved."""
        self._view = view
        if view.move is None and view.moved > self._cleaned():
            self._arm()

    def _arm(self) -> None:
        if not self._is_armed:
            self._is_armed = True
            self._scheduler.after(limits.MOVE_CLEAN_MS, self._clean)

    def _cleaned(self) -> int:
        """The end of the last move whose ranges were deleted."""
        found = next(self._store.scan(METADATA, CLEANED, CLEANED + b"\x00"), None)
        return 0 if found is None else int.from_bytes(found[1], "big")

    def _clean(self) -> None:
        self._is_armed = False
        view, me = self._view, self._peers.me
        if view is None or view.move is not None or me not in view.members:
            # What a move is about isn't touched; its end cleans.
            return
        if self._is_read(view.moved):
            self._arm()
            return
        try:
            for keyspace in view.schema.keyspaces.values():
                if keyspace.replication.strategy == LOCAL:
                    continue
                tables = [table for table in keyspace.tables.values() if not table.virtual]
                for start, end, replicas in view.placements(keyspace)[0].ranges():
                    if me in replicas.nodes:
                        continue
                    for table in tables:
                        drop_range(self._rows, self._store, self._acceptor, table, start, end)
            self._store.apply(((METADATA, CLEANED, view.moved.to_bytes(8, "big")),))
        except OuroError as error:
            log.warning("rows that have moved stay on disk", reason=str(error))
