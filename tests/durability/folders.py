"""Stores in this process, and what can happen to their folders: copies, torn logs, flipped bytes."""

from __future__ import annotations

import queue
import random
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ourodb.storage.rocks import RocksStore

WAIT_SECONDS_MAX = 60


class NeverTimer:
    def cancel(self) -> None: ...


class HandScheduler:
    """A loop that is turned by hand: what threads hand over runs when the test asks for it."""

    def __init__(self) -> None:
        self._handed: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def soon(self, callback: Callable[[], None]) -> None:
        self._handed.put(callback)

    def after(self, delay_ms: int, callback: Callable[[], None]) -> NeverTimer:
        return NeverTimer()

    def from_thread(self, callback: Callable[[], None]) -> None:
        self._handed.put(callback)

    def wait_for_handed(self, count: int) -> None:
        """Until threads have handed over so much, none of which is run."""
        while self._handed.qsize() < count:
            time.sleep(0.001)

    def run_waiting(self) -> None:
        """Run what was handed over until now."""
        with suppress(queue.Empty):
            while True:
                self._handed.get_nowait()()

    def run_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._handed.get(timeout=WAIT_SECONDS_MAX)()


def open_store(path: Path, **options: int) -> RocksStore:
    return RocksStore(path, HandScheduler(), **options)


def sync(store: RocksStore) -> None:
    """Wait until all that was applied is on disk.

    Raises:
        Exception: what the store reported instead.
    """
    heard: list[Exception | None] = []
    store.sync(heard.append)
    store._scheduler.run_until(lambda: bool(heard))
    if heard[0] is not None:
        raise heard[0]


def logs(folder: Path) -> list[Path]:
    """The parts of the write-ahead log, oldest first. (``LOG`` is the engine's diary, not this.)"""
    return sorted(folder.glob("*.log"))


def data_files(folder: Path) -> list[Path]:
    """The data files, largest first."""
    return sorted(folder.glob("*.sst"), key=lambda path: path.stat().st_size, reverse=True)


def flip(path: Path, offset: int, bit: int = 0) -> None:
    """Flip one bit."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ (1 << bit)]))


def flip_somewhere(path: Path, draw: random.Random, first: float = 0.0, last: float = 1.0) -> int:
    """Flip a random bit between two parts of the file; returns where."""
    size = path.stat().st_size
    offset = draw.randrange(int(size * first), max(int(size * last), int(size * first) + 1))
    flip(path, offset, draw.randrange(8))
    return offset


def copy(folder: Path, to: Path) -> Path:
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(folder, to)
    return to
