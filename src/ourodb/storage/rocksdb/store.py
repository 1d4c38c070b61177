"""``RocksStore``: RocksDB as the store of a node.

Writes
------
``apply`` puts a mutation into an overlay, a dict for each family, where ``get`` finds it first; ``settle`` writes
the overlay as one batch at the end of the loop's pass. A batch of many rows costs less than half of as many single
writes. A scan that meets keys of the overlay has it written first. Whenever that fails, the next ``settle`` raises,
so that nothing that was lost is acknowledged; what nobody settles is settled by a timer a few milliseconds later.

Under ``group`` durability the owner calls ``sync`` after ``settle`` and acknowledges when it is done; under
``periodic`` it acknowledges after ``settle``, and the store syncs by itself within ``sync_period_ms`` of a write.

Reads
-----
A plain ``get`` takes 2 µs from memory and from the kernel's page cache 5, but waits for the disk, with the
interpreter lock held, when the block is in neither. RocksDB can tell at the same cost whether an answer is in its
own memory (``key_may_exist``), which says nothing about the page cache. So as long as the data files fit into the
page cache they are read ahead at the start and ``get`` is plain; once they don't, ``get`` asks ``key_may_exist``
and answers LATER for what isn't there. Scans always read on the loop.

Trouble
-------
``check_disk`` is called every few seconds. It makes the store read-only before the disk is full and lifts that when
there is room; when RocksDB has already met an error it probes with an empty write, and opens the engine anew if
that fails.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, NoReturn, Protocol

import structlog
from rocksdict import Rdict, RdictIter, WriteBatch

from ourodb import limits
from ourodb.errors import OuroError, Overloaded, StoreDamaged, StoreError, StoreInUse, StoreReadOnly
from ourodb.ports import LATER, Later, Scheduler, Timer, Write
from ourodb.storage.families import DATA, METADATA
from ourodb.storage.rocksdb import wal
from ourodb.storage.rocksdb.faults import damaged, damaged_file, missing_file, translate
from ourodb.storage.rocksdb.folder import ENGINE_FOLDER, FolderLock, SyncMark, check_format, make_folder
from ourodb.storage.rocksdb.options import ENGINE_NAMES, Budget, engine_options, write_options
from ourodb.storage.rocksdb.threads import Flusher, Reader, warm

log = structlog.get_logger()

DISK_FREE_AGAIN: Final = 1.25
"""Times the least free space: with that much a read-only store takes writes again."""

_PROBE_KEY: Final = b"probe"
_ABSENT: Final = object()


class EngineScheduler(Scheduler, Protocol):
    """A scheduler that other threads can reach."""

    def from_thread(self, callback: Callable[[], None]) -> None:
        """Run the callback on the loop; safe from any thread."""
        ...


def sync_wal(engine: Rdict) -> None:
    """Sync all write-ahead logs."""
    engine.flush_wal(True)


class RocksStore:
    """Implements ``ports.Store``. All methods belong to the loop's thread.

    Attributes:
        gets, later, fetches, scans: reads asked for, those answered LATER, those read off the loop, ranges read.
        writes, batches, bytes_written: keys written, writes to the engine they were gathered into, and their bytes.
        stalls, damages: writes refused because compaction lags, and reads that met damage.
    """

    __slots__ = (
        "_budget",
        "_damage",
        "_disk_free_bytes_min",
        "_disk_free_fraction_min",
        "_disk_full",
        "_engine",
        "_engine_failed",
        "_failure",
        "_failure_is_old",
        "_families",
        "_flusher",
        "_gets",
        "_handles",
        "_lock",
        "_mark",
        "_overlays",
        "_page_cache_bytes",
        "_pending",
        "_reader",
        "_refusal",
        "_scheduler",
        "_sync",
        "_sync_failure",
        "_sync_failure_told",
        "_sync_period_ms",
        "_sync_timer",
        "_tidy_timer",
        "batches",
        "bytes_written",
        "cautious",
        "damages",
        "fetches",
        "gets",
        "later",
        "path",
        "scans",
        "stalls",
        "writes",
    )

    def __init__(
        self,
        path: Path,
        scheduler: EngineScheduler,
        *,
        memtable_bytes: int = limits.MEMTABLE_BYTES,
        cache_bytes: int = limits.BLOCK_CACHE_BYTES,
        sync_period_ms: int | None = None,
        page_cache_bytes: int | None = None,
        disk_free_bytes_min: int = limits.DISK_FREE_BYTES_MIN,
        disk_free_fraction_min: float = limits.DISK_FREE_FRACTION_MIN,
        sync: Callable[[Rdict], None] = sync_wal,
    ) -> None:
        """Open the store in a folder; make one if there is none.

        Args:
            sync_period_ms: sync by itself this long after a write; None when the owner syncs what it acknowledges.
            page_cache_bytes: memory that the kernel may use for data files; None for half of the machine's.
            disk_free_bytes_min, disk_free_fraction_min: with less free space the store is read-only.
            sync: how the log is synced, for tests.
        Raises:
            StoreInUse: another process has it open.
            StoreDamaged: it can't be trusted, or this version can't read it.
            StoreError: the folder can't be used.
        """
        self.path = path
        self.gets = self.later = self.fetches = self.scans = 0
        self.writes = self.batches = self.bytes_written = self.stalls = self.damages = 0
        self.cautious = False
        self._scheduler = scheduler
        self._budget = Budget(memtable_bytes, cache_bytes)
        self._sync_period_ms = sync_period_ms
        self._page_cache_bytes = _page_cache_bytes() if page_cache_bytes is None else page_cache_bytes
        self._disk_free_bytes_min = disk_free_bytes_min
        self._disk_free_fraction_min = disk_free_fraction_min
        self._sync = sync
        self._overlays: tuple[dict[bytes, bytes | None], ...] = tuple({} for _ in ENGINE_NAMES)
        self._pending = False
        self._failure: OuroError | None = None
        self._failure_is_old = False
        self._sync_failure: OuroError | None = None
        self._sync_failure_told = False
        self._refusal: Callable[[], OuroError] | None = None
        self._disk_full = False
        self._engine_failed = ""
        self._damage = ""
        self._tidy_timer: Timer | None = None
        self._sync_timer: Timer | None = None
        self._reader: Reader | None = None
        self._engine: Rdict | None = None
        self._close_engine()
        make_folder(path)
        self._lock = FolderLock(path)
        try:
            check_format(path)
            self._mark = SyncMark(path)
            try:
                self._open_engine()
            except BaseException:
                self._mark.close()
                raise
        except BaseException:
            self._lock.release()
            raise
        self._flusher = Flusher(
            self._sync_engine, self._last_sequence, self._on_synced, scheduler.from_thread
        )

    # Reads

    def get(self, family: int, key: bytes) -> bytes | None | Later:
        self.gets += 1
        value = self._overlays[family].get(key, _ABSENT)
        if value is not _ABSENT:
            return value  # type: ignore[return-value]
        try:
            value = self._gets[family](key)
        except Exception as error:  # RocksDB raises nothing more precise.
            raise self._met(error) from error
        if value is LATER:
            self.later += 1
        return value  # type: ignore[return-value]

    def fetch(self, family: int, key: bytes, done: Callable[[bytes | None | Exception], None]) -> None:
        self.fetches += 1
        value = self._overlays[family].get(key, _ABSENT)
        if value is not _ABSENT:
            self._scheduler.soon(lambda: done(value))  # type: ignore[arg-type]
            return
        if self._reader is None:
            self._reader = Reader(lambda: self._families, self._met, self._scheduler.from_thread)
        self._reader.ask(family, key, done)

    def scan(
        self, family: int, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        self.scans += 1
        if len(end) == len(start) + 1 and end[-1] == 0 and end.startswith(start):
            return self._rows_of_key(family, start)
        overlay = self._overlays[family]
        if overlay and (
            len(overlay) > limits.PENDING_KEYS_PER_SCAN_MAX or any(start <= key < end for key in overlay)
        ):
            self._write_early()
        try:
            # Bounds are looked at here, not by RocksDB: rocksdict's ReadOptions frees the bytes of a bound while the
            # iterator still compares with them, and a read would run on into other partitions.
            rows = self._families[family].iter()
            if reverse:
                rows.seek_for_prev(end)
                if rows.key() == end:
                    rows.prev()
            else:
                rows.seek(start)
        except Exception as error:  # RocksDB raises nothing more precise.
            raise self._met(error) from error
        return self._rows(rows, rows.prev if reverse else rows.next, start, end)

    def _rows_of_key(self, family: int, key: bytes) -> Iterator[tuple[bytes, bytes]]:
        """A scan of one key: a seek would cost three times as much."""
        value = self._overlays[family].get(key, _ABSENT)
        if value is _ABSENT:
            try:
                value = self._families[family].get(key)
            except Exception as error:  # RocksDB raises nothing more precise.
                raise self._met(error) from error
        return iter(()) if value is None else iter(((key, value),))  # type: ignore[arg-type]

    def _rows(
        self, rows: RdictIter, step: Callable[[], None], start: bytes, end: bytes
    ) -> Iterator[tuple[bytes, bytes]]:
        key, value = rows.key, rows.value
        while (at := key()) is not None:
            if not start <= at < end:
                return
            yield at, value()
            step()
        try:
            # Where a block is damaged the iterator ends as if there was nothing more.
            rows.status()
        except Exception as error:  # RocksDB raises nothing more precise.
            raise self._met(error) from error

    # Writes

    def apply(self, writes: Iterable[Write]) -> None:
        if self._refusal is not None:
            raise self._refusal()
        overlays = self._overlays
        for family, key, value in writes:
            overlays[family][key] = value
        if not self._pending:
            self._pending = True
            if self._tidy_timer is None:
                self._tidy_timer = self._scheduler.after(limits.SETTLE_WITHIN_MS, self._tidy)
        elif len(overlays[DATA]) > limits.PENDING_WRITES_MAX:
            self._write_early()

    def delete_range(self, family: int, start: bytes, end: bytes) -> None:
        if self._refusal is not None:
            raise self._refusal()
        self._write_early()
        try:
            self._families[family].delete_range(start, end)
        except Exception as error:  # RocksDB raises nothing more precise.
            raise self._met(error) from error
        self._wrote()

    def settle(self) -> None:
        if self._pending:
            self._write_early()
        failure = self._failure
        if failure is not None:
            self._failure = self._sync_failure = None
            raise failure

    def sync(self, done: Callable[[Exception | None], None]) -> None:
        if self._pending:
            self._write_early()
        failure = self._sync_failure
        if failure is not None:
            self._sync_failure_told = True
            self._scheduler.soon(lambda: done(failure))
        else:
            self._flusher.ask(done)

    def _write_early(self) -> None:
        """Write the overlay; what goes wrong is told by the next ``settle``."""
        if not self._pending:
            return
        batch = WriteBatch(True)
        for family, overlay in enumerate(self._overlays):
            if overlay:
                if family != DATA:
                    batch.set_default_column_family(self._handles[family])
                for key, value in overlay.items():
                    if value is None:
                        del batch[key]
                    else:
                        batch[key] = value
                overlay.clear()
        self._pending = False
        self.writes += len(batch)
        self.bytes_written += batch.size_in_bytes()
        self.batches += 1
        try:
            if self._engine is None:
                raise self._closed()
            self._engine.write(batch)
        except Exception as error:  # RocksDB raises nothing more precise.
            self._failure = self._sync_failure = self._met(error)
            self._failure_is_old = self._sync_failure_told = False
            if isinstance(self._failure, StoreDamaged) and not self._damage:
                # Compaction met damage: RocksDB takes no more writes, whatever they are.
                self._damage = str(error)
                self._decide()
        else:
            if self._sync_failure_told:
                self._sync_failure = None
            self._wrote()

    def _wrote(self) -> None:
        if self._sync_timer is None and self._sync_period_ms is not None:
            self._sync_timer = self._scheduler.after(self._sync_period_ms, self._sync_periodically)

    def _sync_periodically(self) -> None:
        self._sync_timer = None
        self._flusher.ask(lambda error: None)

    def _tidy(self) -> None:
        """Settle what nobody settled; forget a failure that nobody asked for in a whole pass of the loop."""
        self._tidy_timer = None
        if self._failure is not None and self._failure_is_old:
            self._failure = self._sync_failure = None
        self._failure_is_old = True
        self._write_early()
        if self._failure is not None:
            self._tidy_timer = self._scheduler.after(limits.SETTLE_WITHIN_MS, self._tidy)

    # Durability

    def _last_sequence(self) -> int:
        if self._engine is None:
            raise self._closed()
        return self._engine.latest_sequence_number()

    def _sync_engine(self) -> None:
        if self._engine is None:
            raise self._closed()
        self._sync(self._engine)

    def _on_synced(self, sequence: int, error: Exception | None) -> Exception | None:
        if error is None:
            self._mark.advance(sequence)
            return None
        failure = self._met(error)
        if not self._engine_failed:
            self._fail(f"the write-ahead log can't be synced: {error}")
        return failure

    @property
    def syncs(self) -> int:
        """Fsyncs of the log."""
        return self._flusher.syncs

    @property
    def sync_ns(self) -> int:
        """Time spent in them."""
        return self._flusher.sync_ns

    # Trouble

    @property
    def read_only(self) -> bool:
        """Whether writes are refused."""
        return self._refusal is not None

    def check_disk(self, free_bytes: int, total_bytes: int) -> None:
        """Look after the store: called every few seconds with the space on its disk."""
        least = max(self._disk_free_bytes_min, int(total_bytes * self._disk_free_fraction_min))
        full = free_bytes < least * (DISK_FREE_AGAIN if self._disk_full else 1)
        if full != self._disk_full:
            self._disk_full = full
            if full:
                log.error("disk nearly full: read-only", free_bytes=free_bytes, needed_bytes=least)
            else:
                log.warning("disk has room again", free_bytes=free_bytes)
        if self._engine_failed and not full and not self._damage:
            self._recover_engine()
        if self._engine is not None:
            self._choose_gets()
        self._decide()

    def _decide(self) -> None:
        """Whether to take writes."""
        if self._damage:
            reason = self._damage
            self._refusal = lambda: damaged(self.path, reason)
        elif self._engine_failed:
            text = f"The node is read-only: {self._engine_failed}"
            self._refusal = lambda: StoreReadOnly(text)
        elif self._disk_full:
            self._refusal = lambda: StoreReadOnly("The node is read-only: its disk is nearly full")
        else:
            self._refusal = None

    def _fail(self, reason: str) -> None:
        self._engine_failed = reason
        log.error("storage engine failed: read-only", reason=reason)
        self._decide()

    def _met(self, error: Exception) -> OuroError:
        """Draw the conclusions from an error of the engine, and put it in our words."""
        known = translate(error, self.path)
        if isinstance(known, StoreReadOnly):
            if not self._engine_failed:
                self._fail(str(error))
        elif isinstance(known, Overloaded):
            self.stalls += 1
        elif isinstance(known, StoreDamaged):
            self.damages += 1
            log.error("damage on disk", file=damaged_file(str(error)), reason=str(error))
        return known

    def _recover_engine(self) -> None:
        """After an error: go on if the engine takes writes again, else open it anew."""
        try:
            if self._engine is None:
                raise self._closed()
            probe = WriteBatch(True)
            probe.delete(_PROBE_KEY, self._handles[METADATA])
            self._engine.write(probe)
            sync_wal(self._engine)
        except Exception as error:  # RocksDB raises nothing more precise.
            log.warning("opening the storage engine anew", reason=str(error))
            self._close_engine()
            try:
                self._open_engine()
            except OuroError as failure:
                self._engine_failed = str(failure)
                log.error("storage engine can't be opened", reason=str(failure))
                return
        self._flusher.forgive()
        self._engine_failed = ""
        log.warning("storage engine takes writes again")

    # Opening and closing

    def _open_engine(self) -> None:
        folder = self.path / ENGINE_FOLDER
        data_files = sorted(folder.glob("*.sst"))
        if not (folder / "CURRENT").exists() and (data_files or self._mark.sequence):
            raise damaged(self.path, f"{folder / 'CURRENT'} is missing")
        walks = [wal.inspect(path) for path in wal.logs_of(folder)]
        wrong = wal.check(walks, self._mark.sequence)
        if wrong:
            raise damaged(self.path, wrong)
        options, families = engine_options(self._budget)
        try:
            engine = Rdict(str(folder), options, families)
            engine.set_write_options(write_options())
            self._families = tuple(engine.get_column_family(name) for name in ENGINE_NAMES)
            self._handles = tuple(engine.get_column_family_handle(name) for name in ENGINE_NAMES)
        except Exception as error:  # RocksDB raises nothing more precise.
            raise _cannot_open(error, self.path) from error
        self._engine = engine
        reached = engine.latest_sequence_number()
        if reached < self._mark.sequence:
            self._close_engine()
            raise damaged(
                self.path,
                f"it holds writes up to {reached}, but those up to {self._mark.sequence} were synced:"
                " acknowledged writes are lost",
            )
        for walk in walks:
            if walk.torn:
                log.warning(
                    "torn tail of the write-ahead log cut", file=walk.path.name, bytes=walk.size - walk.end
                )
        self._choose_gets()
        if data_files and not self.cautious:
            warm(data_files)

    def _close_engine(self) -> None:
        engine, families = self._engine, self._families if self._engine is not None else ()
        self._engine = None
        self._families = ()
        self._handles = ()

        def refuse(key: bytes) -> NoReturn:
            raise self._closed()

        self._gets: tuple[Callable[[bytes], object], ...] = (refuse,) * len(ENGINE_NAMES)
        for opened in (*families, engine):
            if opened is not None:
                try:
                    opened.close()
                except Exception as error:  # RocksDB raises nothing more precise.
                    # What couldn't be written to data files is in the log.
                    log.warning("storage engine closed in disorder", reason=str(error))

    def _choose_gets(self) -> None:
        size = sum(
            family.property_int_value("rocksdb.total-sst-files-size") or 0 for family in self._families
        )
        self.cautious = size > self._page_cache_bytes
        self._gets = tuple(
            _get_from_memory(family) if self.cautious else family.get for family in self._families
        )

    def _closed(self) -> OuroError:
        return StoreError(f"The store in {self.path} is closed")

    def flush(self) -> None:
        """Write all memtables to data files. Blocks, but lets other threads run; safe from any thread."""
        for family in self._families:
            family.flush()

    def checkpoint_source(self) -> Rdict:
        """The engine, for ``snapshot``.

        Raises:
            StoreError: the store is closed.
        """
        if self._engine is None:
            raise self._closed()
        return self._engine

    def close(self) -> None:
        """Write and sync what there is, then let go of the folder. The store is of no use afterwards."""
        for timer in (self._tidy_timer, self._sync_timer):
            if timer is not None:
                timer.cancel()
        self._tidy_timer = self._sync_timer = None
        try:
            self.settle()
        except OuroError as error:
            log.error("last writes are lost", reason=str(error))
        if self._reader is not None:
            self._reader.stop()
        if self._engine is not None and not self._engine_failed:
            self._flusher.ask(lambda error: None)
        self._flusher.stop()
        if self._engine is not None:
            try:
                if self._refusal is None:
                    self.flush()
                sync_wal(self._engine)
                self._mark.advance(self._last_sequence())
                self._mark.sync()
            except Exception as error:  # RocksDB raises nothing more precise.
                log.warning("storage engine closed in disorder", reason=str(error))
        self._close_engine()
        self._mark.close()
        self._lock.release()


def _get_from_memory(family: Rdict) -> Callable[[bytes], object]:
    key_may_exist = family.key_may_exist

    def get(key: bytes) -> object:
        may_exist, value = key_may_exist(key, True)  # type: ignore[misc]
        return LATER if may_exist and value is None else value

    return get


def _cannot_open(error: Exception, path: Path) -> OuroError:
    text = str(error)
    if "lock" in text.lower() and text.startswith("IO error"):
        return StoreInUse(f"the data folder {path} is in use: {text}")
    if text.startswith("IO error") and not missing_file(text):
        return StoreError(f"the store in {path} can't be opened: {text}")
    return damaged(path, text)


def _page_cache_bytes() -> int:
    """Half of the memory that this process may use."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        limit = "max"
    return (min(memory, int(limit)) if limit.isdecimal() else memory) // 2
