"""What is acknowledged under ``group`` durability is on disk: a power cut takes only what came after the last fsync.

A killed process can't show a missing fsync, for the system still has the pages. So these tests watch the engine's own
``flush_wal(True)``: how long each part of the log was when it was called is how much of it is on disk once it returned.
Then the folder is copied as it stands at some later moment, every part of the log is cut at a random place past that
length, and the copy is opened as after a power cut.

``SYNCED``, the store's memory beside the log of how far it had synced, is written after each fsync and isn't synced by
itself: what a power cut leaves of it is never newer than the log. So it is copied before the lengths are read.
"""

from __future__ import annotations

import random
import shutil
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.durability.folders import HandScheduler, logs, open_store

from ourodb.errors import Overloaded, StoreDamaged
from ourodb.storage.families import DATA
from ourodb.storage.rocks import SYNCED, RocksStore

ROUNDS = 25
BURSTS = 60
KEYS = 200

VERSION = struct.Struct(">Q")


class WatchedEngine:
    """RocksDB, watched, or robbed of its fsync.

    Attributes:
        synced: bytes on disk of each part of the log, by file name.
    """

    def __init__(self, engine: Any, folder: Path, syncs: bool) -> None:
        self._engine = engine
        self._folder = folder
        self._syncs = syncs
        self.synced: dict[str, int] = {}

    def flush_wal(self, wait: bool) -> None:
        lengths = {path.name: path.stat().st_size for path in logs(self._folder)}
        if not self._syncs:
            return
        self._engine.flush_wal(wait)
        if wait:
            self.synced = lengths

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


class PowerCut:
    """A store that was written to, and what is left of it.

    Attributes:
        acknowledged: key to the version whose write was acknowledged last.
        left: the folder after the power cut.
        cut: bytes that the cut took from the log.
    """

    def __init__(self, folder: Path, seed: int, *, syncs: bool) -> None:
        draw = random.Random(seed)
        scheduler = HandScheduler()
        memtable_bytes = draw.choice([64 << 10, 256 << 10, 32 << 20])
        store = RocksStore(folder / "store", scheduler, memtable_bytes=memtable_bytes)
        store._db = self._engine = WatchedEngine(store._db, folder / "store", syncs)
        self.left = folder / "left"
        self.written: dict[bytes, int] = {}
        self.acknowledged: dict[bytes, int] = {}
        self.cut = 0
        for _ in range(BURSTS + draw.randrange(BURSTS)):
            burst = self._write_some(store, draw)
            heard: list[bool] = []
            store.sync(lambda error, burst=burst, heard=heard: self._hear(burst, heard, error))
            if draw.random() < 0.3:
                scheduler.run_until(lambda heard=heard: bool(heard))
            else:
                scheduler.run_waiting()
        for _ in range(draw.randrange(10)):
            self._write_some(store, draw)
            with suppress(Overloaded):
                store.settle()
        scheduler.run_waiting()
        self._copy(store, draw)
        store.close()

    def lost(self) -> list[bytes]:
        """Acknowledged writes that the copy doesn't have."""
        store = open_store(self.left)
        try:
            found = {key: store.get(DATA, key) for key in self.written}
        finally:
            store.close()
        lost = []
        for key, value in found.items():
            version = VERSION.unpack_from(value)[0] if value else 0
            assert version <= self.written[key], "a version that nobody wrote"
            if version < self.acknowledged.get(key, 0):
                lost.append(key)
        return lost

    def _write_some(self, store: RocksStore, draw: random.Random) -> dict[bytes, int]:
        burst = {}
        for _ in range(draw.randrange(1, 20)):
            key = b"key-%05d" % draw.randrange(KEYS)
            self.written[key] = burst[key] = self.written.get(key, 0) + 1
            store.apply([(DATA, key, VERSION.pack(burst[key]) + draw.randbytes(draw.randrange(400)))])
        return burst

    def _hear(self, burst: dict[bytes, int], heard: list[bool], error: Exception | None) -> None:
        heard.append(error is None)
        if error is not None:
            assert isinstance(error, Overloaded), error
            return
        for key, version in burst.items():
            self.acknowledged[key] = max(version, self.acknowledged.get(key, 0))

    def _copy(self, store: RocksStore, draw: random.Random) -> None:
        """The folder as it is now, while the flusher thread may be at work, with the log cut."""
        self.acknowledged = dict(self.acknowledged)
        while (synced := self._copied_whole(store)) is None:
            shutil.rmtree(self.left)
        for path in logs(self.left):
            length = path.stat().st_size
            kept = draw.randrange(min(synced.get(path.name, 0), length), length + 1)
            self.cut += length - kept
            with path.open("r+b") as file:
                file.truncate(kept)

    def _copied_whole(self, store: RocksStore) -> dict[str, int] | None:
        """Copy the folder; what was synced of each part of the log before it, None if a flush or compaction of the
        engine came in between: files copied one after another would then be of no one moment."""
        self.left.mkdir()
        try:
            before = _sizes(store.path)
            shutil.copyfile(store.path / SYNCED, self.left / SYNCED)
            synced = dict(self._engine.synced)
            for path in sorted(store.path.iterdir()):
                if path.name != SYNCED:
                    shutil.copyfile(path, self.left / path.name)
            return synced if _sizes(store.path) == before else None
        except FileNotFoundError:
            return None


def _sizes(folder: Path) -> dict[str, int]:
    """Size of each file that only grows or goes when the engine flushes or compacts, 0 for the parts of the log."""
    return {
        path.name: 0 if path.suffix == ".log" else path.stat().st_size
        for path in folder.iterdir()
        if not path.name.startswith((SYNCED, "LOG"))
    }


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_acknowledged_writes_survive_a_power_cut(seed: int, tmp_path: Path) -> None:
    """Broken, a client is told that its write is safe when it is not."""
    power_cut = PowerCut(tmp_path, seed, syncs=True)
    assert power_cut.acknowledged
    assert power_cut.lost() == []


def test_the_power_cut_takes_what_was_not_synced(tmp_path: Path) -> None:
    """The control of the test above: without the fsync the same cuts lose acknowledged writes, and it sees that."""
    lost = 0
    for seed in range(8):
        power_cut = PowerCut(tmp_path / str(seed), seed, syncs=False)
        (power_cut.left / SYNCED).unlink()
        lost += len(power_cut.lost())
        assert power_cut.cut
    assert lost > 0


def test_a_log_that_ends_before_what_was_synced_is_refused(tmp_path: Path) -> None:
    """Broken, a disk that lies about fsync, or damage that looks like a torn tail, takes acknowledged writes."""
    refusals = []
    for seed in range(8):
        power_cut = PowerCut(tmp_path / str(seed), seed, syncs=False)
        try:
            assert power_cut.lost() == [], "lost, and served all the same"
        except StoreDamaged as refusal:
            refusals.append(str(refusal))
    assert refusals
    assert all("acknowledged writes are lost" in refusal for refusal in refusals)
