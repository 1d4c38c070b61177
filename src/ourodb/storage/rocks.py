"""``ports.Store`` on RocksDB, through the ``rocksdict`` wheel.

What one pass of the loop applies is gathered in an overlay, which reads look at first, and written at
``settle`` as one
batch: that halves the cost of a put. Acknowledgements wait for ``settle``, or under ``group`` durability for
the fsync
after it: one flusher thread syncs the write-ahead log (the only call that lets go of the interpreter for
long), and everybody who came meanwhile shares the next one.

**Damage.** RocksDB is told to cut a torn tail of its log and to refuse damage elsewhere. A flipped bit in the
last part of the log looks like a torn tail to it, so the store remembers beside the log up to which sequence
number it has synced (``SYNCED``, written after each fsync): a log that ends before that has lost acknowledged
writes, and is refused. Blocks of data files carry checksums; a bad one fails the read that needs it with
``StoreDamaged``, is counted and logged, and costs no other read anything.

**Full disk.** The owner's timer tells ``check_disk`` how much is free. Below the bound the store is
read-only: writes are refused with a retryable error, reads go on, and it recovers when there is room. Should
the disk fill up all the same in the midst of a write, the engine takes no more until it is opened anew: the store
is read-only until the node is restarted.

**Cold reads.** While the data files are smaller than half of the machine's memory they are taken to be in the
page cache and read at once. Beyond that a key that the engine doesn't have in memory is answered LATER, and
read by a thread. What the thread read is kept for a while, until it is written to: whoever waited for it finds it,
also where it is too large for the engine's cache, or where many others are waited for as well.
"""

from __future__ import annotations

import os
import queue
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol

import structlog
from rocksdict import (
    BlockBasedIndexType,
    BlockBasedOptions,
    Cache,
    Checkpoint,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    WriteBatch,
    WriteOptions,
)

from ourodb import limits
from ourodb.errors import OuroError, Overloaded, StoreDamaged, StoreError, StoreInUse, StoreReadOnly
from ourodb.ports import LATER, Later, Scheduler, Timer, Write
from ourodb.storage import wal
from ourodb.storage.families import DATA, METADATA, NAMES

log = structlog.get_logger()

FORMAT: Final = 1
FORMAT_KEY: Final = b"store/format"
SYNCED: Final = "SYNCED"
"""File beside RocksDB's own: the last sequence number that is known to be on disk (u64, big-endian)."""

COMPACTING_THREAD: Final = "rocksdb:low"
"""As the engine names them for the system."""

BLOOM_BITS: Final = 10
BLOCK_BYTES: Final = 8 * 1024

_SEQUENCE = struct.Struct(">Q")
_MISSING: Final[Any] = object()


class ThreadScheduler(Scheduler, Protocol):
    """A loop that threads can reach."""

    def from_thread(self, callback: Callable[[], None]) -> None:
        """Run the callback on the loop; safe from any thread."""
        ...


def _overlaid(
    stored: Iterator[tuple[bytes, bytes]], waiting: Sequence[tuple[bytes, bytes | None]], *, reverse: bool
) -> Iterator[tuple[bytes, bytes]]:
    """What is stored, with what waits to be written (None: deleted) in its place; both in the order of the scan."""
    at = 0
    for key, value in stored:
        while at < len(waiting) and (waiting[at][0] > key if reverse else waiting[at][0] < key):
            new_key, new_value = waiting[at]
            at += 1
            if new_value is not None:
                yield new_key, new_value
        if at < len(waiting) and waiting[at][0] == key:
            new_value = waiting[at][1]
            at += 1
            if new_value is not None:
                yield key, new_value
        else:
            yield key, value
    for key, last in waiting[at:]:
        if last is not None:
            yield key, last


class RocksStore:
    """One node's store.

    Attributes:
        read_only: why writes are refused, or None.
        damaged: reads that met damage, counted.
        puts, syncs, laters: counted since it was opened.
        always_cold: take the data files to be out of the page cache, however small they are; for tests.
        on_synced: called on the flusher thread after each fsync; for tests.
    """

    def __init__(
        self,
        path: Path,
        scheduler: ThreadScheduler,
        *,
        memtable_bytes: int = limits.MEMTABLE_BYTES,
        cache_bytes: int = limits.BLOCK_CACHE_BYTES,
        sync_period_ms: int | None = None,
    ) -> None:
        """Open the store, or make it.

        Args:
            sync_period_ms: fsync this often while there is something to sync; None: only when asked.
        Raises:
            StoreInUse, StoreDamaged, StoreError: it can't be opened; the message says what to do.
        """
        self.path = path
        self.read_only: str | None = None
        self._low_on_disk = False
        self.damaged = 0
        self.laters = 0
        self.puts = 0
        self.syncs = 0
        self.always_cold = False
        self.on_synced: Callable[[], None] | None = None
        self._scheduler = scheduler
        self._sync_period_ms = sync_period_ms
        self._sync_timer: Timer | None = None
        _check_logs(path)
        self._db = _open(path, memtable_bytes, cache_bytes)
        _step_back()
        columns = [self._db.get_column_family(name) for name in NAMES]
        writes = WriteOptions()
        writes.no_slowdown = True
        self._write_options = writes
        self._columns = columns
        self._handles = [self._db.get_column_family_handle(name) for name in NAMES]
        self._gets = [column.get for column in columns]
        self._pending: list[dict[bytes, bytes | None]] = [{} for _ in NAMES]
        self._ranges: list[tuple[int, bytes, bytes]] = []
        self._dirty = False
        self._batch_followers: list[Callable[[OuroError | None], None]] = []
        self._may_be_cold = False
        self._fetching: dict[tuple[int, bytes], int] = {}
        """Keys that the reader thread is asked for, and how often."""
        self._overtaken: dict[tuple[int, bytes], None] = {}
        """Those of them that were written to since: what the thread read may be out of date."""
        self._fetched: dict[tuple[int, bytes], bytes | None] = {}
        self._fetched_bytes = 0
        self._memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        try:
            self._check_format()
            self._synced_file = _open_synced(path, self._db)
        except BaseException:
            self._let_go()
            raise
        self._waiting: list[Callable[[Exception | None], None]] = []
        self._flush_wanted: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._flushing = False
        self._closed = False
        self._flusher = threading.Thread(target=self._flush_loop, name="ouro-flusher", daemon=True)
        self._flusher.start()
        self._fetches: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._reader: threading.Thread | None = None

    # Reading

    def get(self, family: int, key: bytes) -> bytes | None | Later:
        value = self._pending[family].get(key, _MISSING)
        if value is not _MISSING:
            return value  # type: ignore[no-any-return]
        try:
            if self._may_be_cold:
                value = self._fetched.get((family, key), _MISSING)
                if value is not _MISSING:
                    return value  # type: ignore[no-any-return]
                may_exist, found = self._columns[family].key_may_exist(key, True)
                if not may_exist:
                    return None
                if not found:
                    # Empty is what the engine says as well where not even the index of a data file is in memory.
                    self.laters += 1
                    return LATER
                return found  # type: ignore[no-any-return]
            return self._gets[family](key)  # type: ignore[no-any-return]
        except Exception as error:
            raise self._told(error) from error

    def fetch(self, family: int, key: bytes, done: Callable[[bytes | None | Exception], None]) -> None:
        named = (family, key)
        self._fetching[named] = self._fetching.get(named, 0) + 1
        if key in self._pending[family]:
            self._overtaken[named] = None

        def read() -> None:
            result: bytes | None | Exception
            try:
                result = self._gets[family](key)
            except Exception as error:
                result = self._told(error)
            self._scheduler.from_thread(lambda: deliver(result))

        def deliver(result: bytes | None | Exception) -> None:
            if named not in self._overtaken and not isinstance(result, Exception):
                self._keep(named, result)
            self._fetching[named] -= 1
            if not self._fetching[named]:
                del self._fetching[named]
                self._overtaken.pop(named, None)
            done(result)

        if self._reader is None:
            self._reader = threading.Thread(target=self._read_loop, name="ouro-reader", daemon=True)
            self._reader.start()
        self._fetches.put(read)

    def _keep(self, named: tuple[int, bytes], value: bytes | None) -> None:
        """Keep what was fetched; what was fetched first goes first."""
        self._forget_fetched(named)
        self._fetched[named] = value
        self._fetched_bytes += len(named[1]) + len(value or b"")
        while self._fetched_bytes > limits.FETCHED_BYTES_MAX and len(self._fetched) > 1:
            self._forget_fetched(next(iter(self._fetched)))

    def _forget_fetched(self, named: tuple[int, bytes]) -> None:
        value = self._fetched.pop(named, _MISSING)
        if value is not _MISSING:
            self._fetched_bytes -= len(named[1]) + len(value or b"")

    def _overtake(self, writes: Iterable[Write]) -> None:
        """What was fetched of these keys, or is being fetched, is out of date."""
        for family, key, _ in writes:
            named = (family, key)
            self._forget_fetched(named)
            if named in self._fetching:
                self._overtaken[named] = None

    def scan(
        self, family: int, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        waiting: list[tuple[bytes, bytes | None]] = []
        if self._dirty:
            try:
                self._write_pending()
            except Overloaded:
                # It is written, or lost, when it is settled; until then it is read from here.
                changed = self._pending[family]
                waiting = [
                    (key, changed[key]) for key in sorted(changed, reverse=reverse) if start <= key < end
                ]
        iterator = self._columns[family].iter()
        stored = self._backward(iterator, start, end) if reverse else self._forward(iterator, start, end)
        return _overlaid(stored, waiting, reverse=reverse) if waiting else stored

    def _forward(self, iterator: Any, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        valid, key_of, value_of, step = iterator.valid, iterator.key, iterator.value, iterator.next
        iterator.seek(start)
        while valid():
            key = key_of()
            if key >= end:
                return
            yield key, value_of()
            step()
        self._check_status(iterator)

    def _backward(self, iterator: Any, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        valid, key_of, value_of, step = iterator.valid, iterator.key, iterator.value, iterator.prev
        iterator.seek_for_prev(end)
        if valid() and key_of() == end:
            step()
        while valid():
            key = key_of()
            if key < start:
                return
            yield key, value_of()
            step()
        self._check_status(iterator)

    def _check_status(self, iterator: Any) -> None:
        """An iterator that ends may have met damage instead of the end."""
        try:
            iterator.status()
        except Exception as error:
            raise self._told(error) from error

    # Writing

    def apply(self, writes: Iterable[Write]) -> None:
        if self.read_only is not None:
            raise StoreReadOnly(f"this node is read-only: {self.read_only}")
        if self._fetched or self._fetching:
            writes = tuple(writes)
            self._overtake(writes)
        pending = self._pending
        for family, key, value in writes:
            pending[family][key] = value
        if not self._dirty:
            self._dirty = True
            if self._sync_period_ms is not None and self._sync_timer is None:
                self._sync_timer = self._scheduler.after(self._sync_period_ms, self._sync_on_time)

    def delete_range(self, family: int, start: bytes, end: bytes) -> None:
        changed = self._pending[family]
        for key in [key for key in changed if start <= key < end]:
            del changed[key]
        self._overtake([(*named, None) for named in (*self._fetched, *self._fetching)])
        self._columns[family].delete_range(start, end)

    def settle(self) -> None:
        if not self._dirty:
            return
        try:
            self._write_pending()
        except OuroError as error:
            # Whoever applied it is told now that it failed; it must not turn up later.
            self._end_batch(error)
            raise

    def follow_batches(self, ended: Callable[[OuroError | None], None]) -> None:
        self._batch_followers.append(ended)

    def _write_pending(self) -> None:
        """Hand what was applied to the engine; when that fails it is still to be settled.

        In the middle of a pass only this will do: those who applied something are told at its end what became
        of it.
        """
        batch = WriteBatch(raw_mode=True)
        for family, changed in enumerate(self._pending):
            if not changed:
                continue
            handle = self._handles[family]
            put, delete = batch.put, batch.delete
            for key, value in changed.items():
                if value is None:
                    delete(key, handle)
                else:
                    put(key, value, handle)
            self.puts += len(changed)
        try:
            self._db.write(batch, self._write_options)
        except Exception as error:
            raise self._told(error) from error
        self._end_batch(None)

    def _end_batch(self, error: OuroError | None) -> None:
        """What was pending is written, or (with the reason) lost."""
        for family, changed in enumerate(self._pending):
            if changed:
                self._pending[family] = {}
        self._dirty = False
        for ended in self._batch_followers:
            ended(error)

    def sync(self, done: Callable[[Exception | None], None]) -> None:
        try:
            self.settle()
        except OuroError as error:
            done(error)
            return
        self._waiting.append(done)
        if not self._flushing:
            self._flushing = True
            self._flush_wanted.put(True)

    def _sync_on_time(self) -> None:
        self._sync_timer = None
        self.sync(lambda error: None)

    def _flush_loop(self) -> None:
        """The flusher thread."""
        while self._flush_wanted.get():
            # What is appended to ``_waiting`` after this line was settled after it, and waits for the next round.
            waiting, self._waiting = self._waiting, []
            failure: Exception | None = None
            try:
                self._flush()
            except Exception as error:
                failure = self._told(error)
            self._scheduler.from_thread(lambda w=waiting, f=failure: self._flushed(w, f))  # type: ignore[misc]

    def _flush(self) -> None:
        sequence = self._db.latest_sequence_number()
        self._db.flush_wal(True)
        os.pwrite(self._synced_file, _SEQUENCE.pack(sequence), 0)
        if self.on_synced is not None:
            self.on_synced()

    def _flushed(self, waiting: list[Callable[[Exception | None], None]], failure: Exception | None) -> None:
        """Back on the loop."""
        self.syncs += 1
        if failure is not None:
            # After a failed fsync nobody knows what is on disk.
            self._refuse_writes(f"the write-ahead log can't be synced: {failure}")
        if self._waiting and not self._closed:
            self._flush_wanted.put(True)
        else:
            self._flushing = False
        for done in waiting:
            done(failure)

    def _read_loop(self) -> None:
        """The reader thread."""
        while (read := self._fetches.get()) is not None:
            read()

    # Upkeep

    def check_disk(self, free_bytes: int, total_bytes: int) -> None:
        """Look at the room that is left; called every few seconds."""
        least = max(limits.DISK_FREE_BYTES_MIN, int(total_bytes * limits.DISK_FREE_FRACTION_MIN))
        if self.read_only is None and free_bytes < least:
            self._low_on_disk = True
            self.read_only = (
                f"only {free_bytes >> 20} MiB are free on its disk, {least >> 20} are needed; make room"
            )
            log.error("store read-only", reason=self.read_only)
        elif self._low_on_disk and free_bytes >= least * 5 // 4:
            self._low_on_disk = False
            self.read_only = None
            log.warning("store writable again", free_mib=free_bytes >> 20)
        files = self._columns[DATA].property_int_value("rocksdb.total-sst-files-size") or 0
        self._may_be_cold = self.always_cold or files > self._memory_bytes // 2

    def size_bytes(self) -> int:
        """Rows in data files and in memory, as the engine counts them."""
        data = self._columns[DATA]
        files: int = data.property_int_value("rocksdb.total-sst-files-size") or 0
        memory: int = data.property_int_value("rocksdb.cur-size-all-mem-tables") or 0
        return files + memory

    def checkpoint(self, path: Path) -> None:
        """A copy of the store as it is now, in a folder that doesn't exist yet; files are linked, not
        copied.

        Raises:
            OuroError: it can't be made.
        """
        if self._dirty:
            self._write_pending()
        try:
            self._db.flush_wal(True)
            Checkpoint(self._db).create_checkpoint(str(path))
        except Exception as error:
            raise self._told(error) from error

    def close(self) -> None:
        """Write and sync what was applied, and let go of the folder."""
        if self._closed:
            return
        self._closed = True
        if self._sync_timer is not None:
            self._sync_timer.cancel()
        self._flush_wanted.put(False)
        self._flusher.join()
        if self._reader is not None:
            self._fetches.put(None)
            self._reader.join()
        failure: Exception | None = None
        try:
            self.settle()
            self._flush()
        except Exception as error:
            failure = self._told(error)
            log.error("the store's last writes failed", reason=str(failure))
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done(failure)
        os.close(self._synced_file)
        self._let_go()

    def _let_go(self) -> None:
        """Close the engine. It keeps the folder locked for as long as anything refers to one of its
        families."""
        self._columns.clear()
        self._handles.clear()
        self._gets.clear()
        try:
            self._db.close()
        except Exception as error:
            # An engine whose log couldn't be written says so once more; what was synced is on disk.
            log.error("the store couldn't be closed in order", reason=str(error))
        del self._db

    # Errors and formats

    def _refuse_writes(self, reason: str) -> None:
        """For good: the engine's state can't be trusted until it is opened anew."""
        if self.read_only is None or self._low_on_disk:
            self._low_on_disk = False
            self.read_only = f"{reason}; restart the node"
            log.error("store read-only", reason=self.read_only)

    def _told(self, error: Exception) -> OuroError:
        """What an exception of the engine means."""
        if isinstance(error, OuroError):
            return error
        text = str(error)
        if "Corruption" in text or "checksum" in text:
            self.damaged += 1
            log.error("damage on disk", reason=text, path=str(self.path))
            return StoreDamaged(f"damaged data on disk: {text}; restore this node from a snapshot")
        if "No space left" in text:
            self._refuse_writes("its disk was full in the midst of a write; make room")
            return StoreReadOnly(f"this node is read-only: {self.read_only}")
        if "Incomplete" in text or "stall" in text.lower():
            return Overloaded("the store can't take writes this fast; try again")
        return StoreError(f"the storage engine failed: {text}")

    def _check_format(self) -> None:
        column = self._columns[METADATA]
        found = column.get(FORMAT_KEY)
        if found is None:
            column.put(FORMAT_KEY, str(FORMAT).encode())
        elif not found.isdigit() or int(found) > FORMAT:
            raise StoreError(
                f"{self.path} has the store format {found.decode('ascii', 'replace')}, this version of OuroDB reads"
                f" up to {FORMAT}; start it with the version that wrote it, or a newer one"
            )


def _open(path: Path, memtable_bytes: int, cache_bytes: int) -> Any:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"the data folder {path} can't be made: {error.strerror}") from error
    cache = Cache(cache_bytes)
    main = _options(memtable_bytes, cache)
    small = _options(limits.SMALL_FAMILY_MEMTABLE_BYTES, cache)
    families = {name: main if number == DATA else small for number, name in enumerate(NAMES)}
    try:
        return Rdict(str(path), main, column_families=families)
    except Exception as error:
        text = str(error)
        if "lock" in text.lower() and ("LOCK" in text or "Resource temporarily" in text):
            raise StoreInUse(
                f"the data folder {path} is in use by another node; stop it, or choose another folder with --data"
            ) from error
        if "Corruption" in text or "checksum" in text or "missing" in text.lower():
            raise StoreDamaged(
                f"the store in {path} is damaged and won't be served: {text}."
                " Restore it from a snapshot with 'ouro restore'"
            ) from error
        if "No space left" in text:
            raise StoreError(
                f"the store in {path} can't be opened: its disk is full. Make room, and start the node again"
            ) from error
        raise StoreError(f"the store in {path} can't be opened: {text}") from error


def _step_back() -> None:
    """Have the engine's compactions leave the processor to whom clients wait for, where there isn't enough of it.

    What writes memory out keeps its share: writes wait for it.
    """
    with suppress(OSError):
        # Where there is no such folder, threads have no priorities of their own.
        for task in Path("/proc/self/task").iterdir():
            if (task / "comm").read_text().startswith(COMPACTING_THREAD):
                os.setpriority(
                    os.PRIO_PROCESS, int(task.name), min(os.nice(0) + limits.COMPACTION_NICENESS, 19)
                )


def _options(memtable_bytes: int, cache: Any) -> Any:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.create_missing_column_families(True)
    options.set_wal_recovery_mode(DBRecoveryMode.tolerate_corrupted_tail_records())
    options.set_paranoid_checks(True)
    options.set_write_buffer_size(memtable_bytes)
    options.set_max_write_buffer_number(limits.MEMTABLES_MAX)
    options.set_max_total_wal_size(limits.WAL_BYTES_MAX)
    options.set_max_open_files(limits.OPEN_DATA_FILES_MAX)
    options.set_max_background_jobs(2)
    options.set_max_log_file_size(limits.ENGINE_LOG_BYTES_MAX)
    options.set_keep_log_file_num(limits.ENGINE_LOGS_MAX)
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_memtable_prefix_bloom_ratio(0.02)
    options.set_memtable_whole_key_filtering(True)
    table = BlockBasedOptions()
    table.set_block_cache(cache)
    table.set_block_size(BLOCK_BYTES)
    table.set_bloom_filter(BLOOM_BITS, False)
    table.set_format_version(5)
    table.set_cache_index_and_filter_blocks(True)
    table.set_pin_l0_filter_and_index_blocks_in_cache(True)
    # In pieces: the cache is divided into shards of half a MiB, and what is larger than a shard is never in it. The
    # filter of a large data file as a whole would be read, and its checksum computed, for every single key.
    table.set_index_type(BlockBasedIndexType.two_level_index_search())
    table.set_partition_filters(True)
    table.set_metadata_block_size(BLOCK_BYTES)
    table.set_pin_top_level_index_and_filter(True)
    options.set_block_based_table_factory(table)
    return options


def _check_logs(path: Path) -> None:
    """What RocksDB would not notice, or not survive, in the logs that it is about to replay: see
    ``storage.wal``.

    Raises:
        StoreDamaged: the logs can't be trusted.
    """
    if not path.is_dir():
        return
    mark = path / SYNCED
    known = mark.read_bytes()[:8] if mark.exists() else b""
    synced = _SEQUENCE.unpack(known)[0] if len(known) == 8 else 0
    if not (path / "CURRENT").exists() and (synced or _has_rows(path)):
        reason = f"{path / 'CURRENT'} is missing"
    else:
        reason = wal.check([wal.inspect(log_file) for log_file in wal.logs_of(path)], synced)
    if reason:
        raise StoreDamaged(
            f"the store in {path} is damaged and won't be served: {reason}."
            " Restore it from a snapshot with 'ouro restore'"
        )


def _has_rows(path: Path) -> bool:
    """Whether the engine ever began to write here. A first start that was cut short hasn't come to that, while a
    restore that was has copied such a file before all others."""
    return bool(wal.logs_of(path)) or any(path.glob("*.sst"))


def _open_synced(path: Path, db: Any) -> int:
    """The file that tells what was synced, its word held against what the log gave back."""
    descriptor = os.open(path / SYNCED, os.O_RDWR | os.O_CREAT, 0o644)
    known = os.pread(descriptor, 8, 0)
    if len(known) == 8:
        promised = _SEQUENCE.unpack(known)[0]
        found = db.latest_sequence_number()
        if found < promised:
            os.close(descriptor)
            raise StoreDamaged(
                f"the write-ahead log in {path} ends at change {found}, but {promised} were on disk:"
                " acknowledged writes are lost, and the node won't serve without them. Restore it from a snapshot"
                " with 'ouro restore'"
            )
    return descriptor
