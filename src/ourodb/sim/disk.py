"""A disk, and the store on it.

``Disk`` belongs to the machine and survives its processes; each process opens a ``SimStore`` on it. The content
is one map in memory. What isn't safe yet stands in a journal of how to take it back, one entry for each
``apply``:

    | synced ......... | settled, not synced ......... | applied, not settled |
      survives all       a crash of the machine keeps    dies with the process
                         a random prefix of these

So a sync or a crash costs what was written since the last one, however much the disk holds.

What isn't synced is the end of a log, one record for each settled batch. When the power goes a prefix of it is
there, to the byte: nothing, all, or a cut anywhere. A cut within a record tears it, and a record whose checksum
is wrong is dropped when the log is read, so batches are there or not. But a store may split what one pass wrote
into several records, though never an ``apply``: sometimes the cut is in the middle of a batch, between two of
them.

The disk is slow where its ``Conditions`` say so: a key that wasn't touched for a while is answered LATER, and
given by ``fetch`` after a delay; ``sync`` takes its time, one at a time, and whoever asks meanwhile shares the
next one. It may be full, or fail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

from ourodb.errors import OuroError, Overloaded, StoreError, StoreReadOnly
from ourodb.limits import SIM_ABSENT_KEYS_MAX, SIM_WARM_KEYS_MAX
from ourodb.ports import LATER, Later, Write
from ourodb.sim.chance import Chance
from ourodb.sim.loop import Loop
from ourodb.sim.trace import Kind, Trace
from ourodb.storage.memory import MemoryStore

Undo = list[Write]
"""What was there before, in the order in which it was overwritten."""

SyncDone = Callable[[Exception | None], None]
Fetch = tuple[int, bytes, Callable[[bytes | None | Exception], None]]

_RECORD_BYTES = 16
"""Of a record in the log, around the keys and values."""


ABSENT_LATER: Final = 8
"""So much more seldom is a key that isn't there answered LATER."""


@dataclass(slots=True)
class Conditions:
    """How well a disk does; faults change it.

    Attributes:
        sync_us, sync_jitter_us: an fsync takes between the first and the sum of both.
        sync_stall_one_in: so seldom does an fsync take ``sync_stall_us`` more; 0 is never.
        later_one_in: so seldom is a key that isn't warm answered LATER; 0 is never.
        fetch_us, fetch_jitter_us: as for syncs.
        is_full: writes are refused.
        fails_syncs: the next fsync fails, and the store is read-only from then on.
        refuses_settle_one_in: so seldom does the engine refuse a batch; 0 is never.
    """

    sync_us: int = 150
    sync_jitter_us: int = 400
    sync_stall_one_in: int = 500
    sync_stall_us: int = 30_000
    later_one_in: int = 4
    fetch_us: int = 80
    fetch_jitter_us: int = 500
    is_full: bool = False
    fails_syncs: bool = False
    refuses_settle_one_in: int = 0


class Disk:
    """What stays when processes go.

    Attributes:
        conditions: how well it does.
        content: all that processes see.
        torn: records that a loss of power tore so far.
        boots: grows when the machine loses its power or the disk is replaced: what was under way then never ends.
    """

    def __init__(self, chance: Chance) -> None:
        self.conditions = Conditions()
        self.content = MemoryStore()
        self.boots = 0
        self.torn = 0
        self._chance = chance
        self._undo: list[Undo] = []
        self._first = 0
        """Number of the entry that ``_undo`` begins with: all before it are synced."""
        self._settled = 0
        self._records: list[tuple[int, int]] = []
        """Where the settled batches since the last sync end, and how many bytes each has in the log."""

    @property
    def applied(self) -> int:
        """Calls of ``apply`` so far, those taken back not counted."""
        return self._first + len(self._undo)

    @property
    def settled(self) -> int:
        """How many of them are settled."""
        return self._settled

    def record(self, undo: Undo) -> None:
        self._undo.append(undo)

    def settle(self, size: int = 0) -> None:
        """All that was applied has left the process.

        Args:
            size: bytes of its keys and values.
        """
        if self._settled < self.applied:
            self._settled = self.applied
            self._records.append((self._settled, _RECORD_BYTES + size))

    def synced(self, settled: int) -> None:
        """All that was settled up to there is safe."""
        if settled > self._first:
            del self._undo[: settled - self._first]
            self._first = settled
            records = self._records
            is_all = records[-1][0] <= settled
            self._records = [] if is_all else [record for record in records if record[0] > settled]

    def lose_unsettled(self) -> None:
        """The process is gone, or the engine refused the batch."""
        self._take_back_to(self._settled)

    def lose_unsynced(self) -> str:
        """The power is gone: a random prefix of what was settled is there. Says how much."""
        self.boots += 1
        settled = self._settled
        kept, is_torn = self._cut_log()
        told = f"{kept - self._first} of {settled - self._first} unsynced writes kept"
        if is_torn:
            self.torn += 1
            told += ", the record after them torn and dropped"
        self._take_back_to(kept)
        self._settled = kept
        self._undo.clear()
        self._records.clear()
        self._first = kept
        return told

    def _cut_log(self) -> tuple[int, bool]:
        """Where the log ends that is found when the power is back, and whether a record was torn there."""
        chance, kept = self._chance, self._first
        drawn = chance.below(4)
        if drawn == 0:
            return kept, False
        if drawn == 1:
            return self._settled, False
        if drawn == 2:
            return chance.between(kept, self._settled), False
        left = chance.below(sum(size for _, size in self._records) + 1)
        for end, size in self._records:
            if left < size:
                return kept, left > 0
            left -= size
            kept = end
        return kept, False

    def wipe(self) -> None:
        """A new disk."""
        self.boots += 1
        self.content = MemoryStore()
        self._undo.clear()
        self._records.clear()
        self._first = self._settled = 0

    def _take_back_to(self, number: int) -> None:
        while self.applied > number:
            self.content.apply(reversed(self._undo.pop()))

    def sync_ns(self) -> int:
        """How long an fsync takes that begins now."""
        conditions = self.conditions
        # One draw for both: its lower half is the jitter, its upper half tells a stall.
        word = self._chance.word()
        delay_us = conditions.sync_us + ((word & 0xFFFF_FFFF) * (conditions.sync_jitter_us + 1) >> 32)
        stall_one_in = conditions.sync_stall_one_in
        if stall_one_in and (word >> 32) * stall_one_in < 1 << 32:
            delay_us += conditions.sync_stall_us
        return delay_us * 1000

    def fetch_ns(self) -> int:
        """How long a read takes that begins now."""
        conditions = self.conditions
        return (conditions.fetch_us + self._chance.below(conditions.fetch_jitter_us + 1)) * 1000

    def is_late(self, *, is_there: bool) -> bool:
        """Whether a key that isn't warm has to be waited for. One that isn't there seldom has: filters know most."""
        one_in = self.conditions.later_one_in
        return self._chance.one_in(one_in if is_there else one_in * ABSENT_LATER)

    def refuses_settle(self) -> bool:
        return self._chance.one_in(self.conditions.refuses_settle_one_in)


class Owner(Protocol):
    """The process that opened a store."""

    def post(self, kind: int, action: Callable[[Any], None], argument: Any, data: bytes = b"") -> None:
        """Run it in a pass of the process's loop, if the process is still there."""
        ...

    def take(self, kind: int, action: Callable[[Any], None], argument: Any, data: bytes = b"") -> None:
        """Run it in a pass of the process's loop, if the process is still there."""
        ...


class SimStore:
    """Implements ``ports.Store`` for one run of a process.

    Attributes:
        read_only: why writes are refused, or None.
        laters, syncs: counted since it was opened.
    """

    def __init__(
        self,
        disk: Disk,
        owner: Owner,
        loop: Loop,
        trace: Trace,
        index: int,
        *,
        sync_period_ms: int | None = None,
    ) -> None:
        """
        Args:
            index: the machine's, for the trace.
            sync_period_ms: sync this often while there is something to sync; None: only when asked.
        """
        self.read_only: str | None = None
        self.laters = 0
        self.syncs = 0
        self._disk = disk
        self._owner = owner
        self._loop = loop
        self._trace = trace
        self._index = index
        self._sync_period_ns = sync_period_ms * 1_000_000 if sync_period_ms is not None else None
        self._is_period_running = False
        self._boot = disk.boots
        self._warm: dict[tuple[int, bytes], None] = {}
        self._absent: dict[tuple[int, bytes], None] = {}
        """Keys of which the store has said at once that they aren't there; it says so again."""
        self._unsettled: list[bytes] = []
        self._has_applied = False
        """Since the last settle."""
        self._batch_followers: list[Callable[[OuroError | None], None]] = []
        self._waiting: list[SyncDone] = []
        self._is_syncing = False

    # Reading

    def get(self, family: int, key: bytes) -> bytes | None | Later:
        value = self._disk.content.get(family, key)
        if (family, key) in (self._absent if value is None else self._warm):
            return value
        if self._disk.is_late(is_there=value is not None):
            self.laters += 1
            return LATER
        self._touch(family, key, value)
        return value

    def fetch(self, family: int, key: bytes, done: Callable[[bytes | None | Exception], None]) -> None:
        self._loop.after(self._disk.fetch_ns(), self._fetched, (family, key, done))

    def _fetched(self, fetch: Fetch) -> None:
        if self._boot == self._disk.boots:
            self._owner.take(Kind.FETCHED, self._hand_over, fetch, fetch[1])

    def _hand_over(self, fetch: Fetch) -> None:
        family, key, done = fetch
        value = self._disk.content.get(family, key)
        self._touch(family, key, value)
        assert not isinstance(value, Later)
        done(value)

    def scan(
        self, family: int, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        if self._has_applied:
            # If it can't be written now, it is read all the same.
            with suppress(Overloaded):
                self._write()
        return self._disk.content.scan(family, start, end, reverse=reverse)

    def _touch(self, family: int, key: bytes, value: bytes | Later | None) -> None:
        known = self._absent if value is None else self._warm
        known.pop((family, key), None)
        known[family, key] = None
        if len(known) > (SIM_ABSENT_KEYS_MAX if value is None else SIM_WARM_KEYS_MAX):
            del known[next(iter(known))]

    # Writing

    def apply(self, writes: Iterable[Write]) -> None:
        self._check_writable()
        self._has_applied = True
        content = self._disk.content
        undo: Undo = []
        noted = self._unsettled
        for write in writes:
            family, key, value = write
            before: Any = content.get(family, key)
            undo.append((family, key, before))
            content.apply((write,))
            self._touch(family, key, value)
            noted.append(key)
            if value is not None:
                noted.append(value)
        self._disk.record(undo)
        if self._sync_period_ns is not None and not self._is_period_running:
            self._is_period_running = True
            self._loop.after(self._sync_period_ns, self._period_over)

    def delete_range(self, family: int, start: bytes, end: bytes) -> None:
        self._has_applied = True
        content = self._disk.content
        self._disk.record([(family, key, value) for key, value in content.scan(family, start, end)])
        content.delete_range(family, start, end)
        self._unsettled += (start, end)

    def settle(self) -> None:
        if not self._has_applied:
            return
        try:
            self._check_writable()
            self._write()
        except Overloaded as error:
            self._disk.lose_unsettled()
            self._end_batch(error)
            raise

    def follow_batches(self, ended: Callable[[OuroError | None], None]) -> None:
        self._batch_followers.append(ended)

    def _write(self) -> None:
        """Hand what was applied to the engine, which a scan asks for too; when that fails it is still to be settled."""
        if self._disk.refuses_settle():
            raise Overloaded("the store can't take writes this fast; try again")
        written = b"".join(self._unsettled)
        self._trace.note(self._loop.now_ns, self._index, Kind.APPLY, written)
        self._disk.settle(len(written))
        self._end_batch(None)

    def _end_batch(self, error: OuroError | None) -> None:
        """What wasn't settled is written, or (with the reason) lost."""
        self._unsettled.clear()
        self._has_applied = False
        for ended in self._batch_followers:
            ended(error)

    def sync(self, done: Callable[[Exception | None], None]) -> None:
        try:
            self.settle()
        except Overloaded as error:
            done(error)
            return
        self._waiting.append(done)
        if not self._is_syncing:
            self._begin_sync()

    def _begin_sync(self) -> None:
        self._is_syncing = True
        waiting, self._waiting = self._waiting, []
        self._loop.after(self._disk.sync_ns(), self._synced, (self._disk.settled, waiting))

    def _synced(self, sync: tuple[int, list[SyncDone]]) -> None:
        """The disk is done, whatever has become of the process meanwhile."""
        if self._boot != self._disk.boots:
            return
        settled, waiting = sync
        failure: StoreError | None = None
        if self._disk.conditions.fails_syncs:
            failure = StoreError("the storage engine failed: fsync: input/output error")
        else:
            self._disk.synced(settled)
        self._owner.take(Kind.SYNCED, self._tell_synced, (waiting, failure))

    def _tell_synced(self, sync: tuple[list[SyncDone], StoreError | None]) -> None:
        waiting, failure = sync
        self.syncs += 1
        if failure is not None and self.read_only is None:
            # After a failed fsync nobody knows what is on disk.
            self.read_only = f"the write-ahead log can't be synced: {failure}"
        if self._waiting:
            self._begin_sync()
        else:
            self._is_syncing = False
        for done in waiting:
            done(failure)

    def _period_over(self, _: object) -> None:
        self._owner.take(Kind.TIMER, self._sync_on_time, None)

    def _sync_on_time(self, _: object) -> None:
        self._is_period_running = False
        self.sync(_ignore)

    def close(self) -> None:
        """The process ends in order: all that it applied is on disk."""
        self._disk.settle()
        self._disk.synced(self._disk.settled)

    def _check_writable(self) -> None:
        if self.read_only is not None:
            raise StoreReadOnly(f"this node is read-only: {self.read_only}")
        if self._disk.conditions.is_full:
            raise StoreReadOnly("this node is read-only: its disk is full; make room")


def _ignore(_: Exception | None) -> None:
    pass
