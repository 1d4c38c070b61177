"""``ports.Store`` on RocksDB, through the ``rocksdict`` wheel.

What one pass of the loop applies is gathered in an overlay, which reads look at first, and written at
``settle`` as
one batch: that halves the cost of a put. Acknowledgements wait for ``settle``, or under ``group`` durability
for the
fsync after it: one flusher thread syncs the write-ahead log, and everybody who came meanwhile shares the next
one. What nobody settles is settled by a timer a few milliseconds later.

RocksDB's calls hold the interpreter lock except a few: ``flush_wal``, ``flush``, ``compact_range``, ``close``
and reading a *list* of keys (measured: with an endless switch interval another thread runs during those and
no other). So these are what the threads call.

**Damage.** RocksDB is told to cut a torn tail of its log and to refuse damage elsewhere. A flipped bit in the
last part of the log looks like a torn tail to it, so the store remembers beside the log up to which sequence
number it has synced (``SYNCED``, written after each fsync): a log that ends before that has lost acknowledged
writes, and is refused. Blocks of data files carry checksums; a bad one fails the read that needs it with
``StoreDamaged``, is counted and logged, and costs no other read anything.

**Full disk.** The owner's timer tells ``check_disk`` how much is free. Below the bound the store is
read-only: writes are refused with a retryable error, reads go on, and it recovers when there is room. When
RocksDB has met the full disk itself, or an fsync failed, it takes no more writes until it is opened anew;
after a failed fsync the kernel has forgotten which pages it lost, so a later one that succeeds proves nothing.

**Cold reads.** While the data files are smaller than half of the machine's memory they are taken to be in the
page cache and read at once. Beyond that a key that the engine doesn't have in memory is answered LATER, and
read by a thread.
"""

from __future__ import annotations

import os
import queue
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Protocol

import structlog
from rocksdict import (
    BlockBasedOptions,
    Cache,
    Checkpoint,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    ReadOptions,
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

BLOOM_BITS: Final = 10
BLOCK_BYTES: Final = 8 * 1024

_SEQUENCE = struct.Struct(">Q")
_MISSING: Final[Any] = object()


class ThreadScheduler(Scheduler, Protocol):
    """A loop that threads can reach."""

    def from_thread(self, callback: Callable[[], None]) -> None:
        """Run the callback on the loop; safe from any thread."""
        ...


class RocksStore:
    """One node's store.

    Attributes:
        read_only: why writes are refused, or None.
        damaged: reads that met damage, counted.
        gets, puts, syncs, laters: counted since it was opened.
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
        self.damaged = 0
        self.laters = 0
        self.puts = 0
        self.syncs = 0
        self.on_synced: Callable[[], None] | None = None
        self._scheduler = scheduler
        self._sync_period_ms = sync_period_ms
        self._sync_timer: Timer | None = None
        self._settle_timer: Timer | None = None
        self._budget = memtable_bytes, cache_bytes
        self._columns: list[Any] = []
        self._handles: list[Any] = []
        self._gets: list[Callable[[bytes], Any]] = []
        self._broken = False
        self._attach()
        self._pending: list[dict[bytes, bytes | None]] = [{} for _ in NAMES]
        self._dirty = False
        self._may_be_cold = False
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

    def _attach(self) -> None:
        """Open the engine."""
        _check_logs(self.path)
        self._db = _open(self.path, *self._budget)
        writes = WriteOptions()
        # A write that waits would freeze the node: it fails instead.
        writes.no_slowdown = True
        self._db.set_write_options(writes)
        self._columns = [self._db.get_column_family(name) for name in NAMES]
        self._handles = [self._db.get_column_family_handle(name) for name in NAMES]
        self._gets = [column.get for column in self._columns]

    # Reading

    def get(self, family: int, key: bytes) -> bytes | None | Later:
        value = self._pending[family].get(key, _MISSING)
        if value is not _MISSING:
            return value  # type: ignore[no-any-return]
        try:
            if self._may_be_cold:
                may_exist, found = self._columns[family].key_may_exist(key, True)
                if not may_exist:
                    return None
                if found is None:
                    self.laters += 1
                    return LATER
                return found  # type: ignore[no-any-return]
            return self._gets[family](key)  # type: ignore[no-any-return]
        except Exception as error:
            raise self._told(error) from error

    def fetch(self, family: int, key: bytes, done: Callable[[bytes | None | Exception], None]) -> None:
        def read() -> None:
            result: bytes | None | Exception
            try:
                (result,) = self._columns[family].get([key])
            except Exception as error:
                result = self._told(error)
            self._scheduler.from_thread(lambda: done(result))

        if self._reader is None:
            self._reader = threading.Thread(target=self._read_loop, name="ouro-reader", daemon=True)
            self._reader.start()
        self._fetches.put(read)

    def scan(
        self, family: int, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        pending = self._pending[family]
        if len(end) == len(start) + 1 and end[-1] == 0 and end.startswith(start):
            return self._scan_key(family, start)
        if pending and (
            len(pending) > limits.PENDING_KEYS_PER_SCAN_MAX or any(start <= key < end for key in pending)
        ):
            self._write_pending()
        options = ReadOptions()
        options.set_iterate_lower_bound(start)
        options.set_iterate_upper_bound(end)
        try:
            iterator = self._columns[family].iter(options)
        except Exception as error:
            raise self._told(error) from error
        if reverse:
            iterator.seek_for_prev(end)
            return self._rows(iterator, iterator.prev)
        iterator.seek(start)
        return self._rows(iterator, iterator.next)

    def _scan_key(self, family: int, key: bytes) -> Iterator[tuple[bytes, bytes]]:
        """A scan of one key; a seek costs three times as much as a get."""
        value = self._pending[family].get(key, _MISSING)
        if value is _MISSING:
            try:
                value = self._gets[family](key)
            except Exception as error:
                raise self._told(error) from error
        return iter(()) if value is None else iter(((key, value),))

    def _rows(self, iterator: Any, step: Callable[[], None]) -> Iterator[tuple[bytes, bytes]]:
        key_of, value_of = iterator.key, iterator.value
        while (key := key_of()) is not None:
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
        pending = self._pending
        for family, key, value in writes:
            pending[family][key] = value
        if self._dirty:
            if len(pending[DATA]) > limits.PENDING_WRITES_MAX:
                self._write_pending()
        else:
            self._dirty = True
            if self._settle_timer is None:
                self._settle_timer = self._scheduler.after(limits.SETTLE_WITHIN_MS, self._settle_on_time)
            if self._sync_period_ms is not None and self._sync_timer is None:
                self._sync_timer = self._scheduler.after(self._sync_period_ms, self._sync_on_time)

    def delete_range(self, family: int, start: bytes, end: bytes) -> None:
        if self.read_only is not None:
            raise StoreReadOnly(f"this node is read-only: {self.read_only}")
        if self._dirty:
            self._write_pending()
        try:
            self._columns[family].delete_range(start, end)
        except Exception as error:
            raise self._told(error) from error

    def settle(self) -> None:
        if not self._dirty:
            return
        try:
            self._write_pending()
        except OuroError:
            # Whoever applied it is told now that it failed; it must not turn up later.
            self._forget_pending()
            raise

    def _write_pending(self) -> None:
        """Hand what was applied to the engine; when that fails it is still to be settled.

        In the middle of a pass only this will do: those who applied something are told at its end what became
        of it.
        """
        batch = WriteBatch(raw_mode=True)
        for family, changed in enumerate(self._pending):
            if not changed:
                continue
            batch.set_default_column_family(self._handles[family])
            for key, value in changed.items():
                if value is None:
                    del batch[key]
                else:
                    batch[key] = value
            self.puts += len(changed)
        try:
            self._db.write(batch)
        except Exception as error:
            raise self._told(error) from error
        self._forget_pending()

    def _forget_pending(self) -> None:
        for family, changed in enumerate(self._pending):
            if changed:
                self._pending[family] = {}
        self._dirty = False

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

    def _settle_on_time(self) -> None:
        """What nobody settled. What fails is still to be settled, and tried again until somebody hears of
        it."""
        self._settle_timer = None
        if self._dirty:
            try:
                self._write_pending()
            except OuroError as error:
                log.warning("writes can't be settled", reason=str(error))
                self._settle_timer = self._scheduler.after(limits.SETTLE_RETRY_MS, self._settle_on_time)

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
                if self._broken:
                    raise StoreReadOnly(f"this node is read-only: {self.read_only}")
                self._flush()
            except Exception as error:
                failure = self._told(error)
                self._broken = True
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
        if failure is not None and self.read_only is None:
            # After a failed fsync nobody knows what is on disk.
            self.read_only = f"the write-ahead log can't be synced: {failure}"
            log.error("store read-only", reason=self.read_only)
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
        if self._broken:
            if free_bytes >= least and not self._flushing:
                self._reattach()
        elif self.read_only is None and free_bytes < least:
            self.read_only = (
                f"only {free_bytes >> 20} MiB are free on its disk, {least >> 20} are needed; make room"
            )
            log.error("store read-only", reason=self.read_only)
        elif self.read_only is not None and free_bytes >= least * 5 // 4 and "are free" in self.read_only:
            self.read_only = None
            log.warning("store writable again", free_mib=free_bytes >> 20)
        files = self._columns[DATA].property_int_value("rocksdb.total-sst-files-size") or 0
        self._may_be_cold = files > self._memory_bytes // 2

    def _reattach(self) -> None:
        """Open the engine anew, after it met an error that it doesn't recover from by itself."""
        log.warning("opening the store anew", reason=self.read_only)
        self._let_go()
        try:
            self._attach()
        except OuroError as error:
            self.read_only = str(error)
            log.error("store can't be opened", reason=str(error))
            return
        self._broken = False
        self.read_only = None
        log.warning("store writable again")

    def checkpoint(self, path: Path) -> None:
        """A copy of the store as it is now, in a folder that doesn't exist yet; files are linked, not
        copied."""
        if self._dirty:
            self._write_pending()
        self._db.flush_wal(True)
        Checkpoint(self._db).create_checkpoint(str(path))

    def close(self) -> None:
        """Write and sync what was applied, and let go of the folder."""
        if self._closed:
            return
        self._closed = True
        if self._sync_timer is not None:
            self._sync_timer.cancel()
        if self._settle_timer is not None:
            self._settle_timer.cancel()
        self._flush_wanted.put(False)
        self._flusher.join()
        if self._reader is not None:
            self._fetches.put(None)
            self._reader.join()
        failure: OuroError | None = None
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
            # What couldn't be written to data files is in the log.
            log.warning("store closed in disorder", reason=str(error))

    # Errors and formats

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
            self.read_only = "its disk is full; make room"
            self._broken = True
            log.error("store read-only", reason=text)
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
        raise StoreError(f"the store in {path} can't be opened: {text}") from error


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
    # One thread writes.
    options.set_allow_concurrent_memtable_write(False)
    options.set_enable_write_thread_adaptive_yield(False)
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
    # Without it RocksDB makes a new store and deletes the files of the old one.
    if not (path / "CURRENT").exists() and (synced or any(path.glob("*.sst"))):
        reason = f"{path / 'CURRENT'} is missing"
    else:
        walks = [wal.inspect(log_file) for log_file in wal.logs_of(path)]
        reason = wal.check(walks, synced)
        for walk in walks:
            if walk.torn:
                log.warning("torn tail of the log cut", file=walk.path.name, bytes=walk.size - walk.end)
    if reason:
        raise StoreDamaged(
            f"the store in {path} is damaged and won't be served: {reason}."
            " Restore it from a snapshot with 'ouro restore'"
        )


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
