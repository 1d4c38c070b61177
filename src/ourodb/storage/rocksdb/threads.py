"""The store's two threads: one waits for fsyncs, one for reads that aren't in memory.

RocksDB's calls hold the interpreter lock except a few: ``flush_wal``, ``flush``, ``compact_range``, ``close`` and
reading a *list* of keys let it go (measured: with an endless switch interval another thread runs during those and
no other). So these are what the threads call, and while they wait for the disk the loop goes on.

Both gather: what comes while a call runs goes into the next one. Answers go back through ``from_thread``, in order.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from time import perf_counter_ns

from rocksdict import Rdict

from ourodb import limits

Synced = Callable[[Exception | None], None]
Fetched = Callable[[bytes | None | Exception], None]
FromThread = Callable[[Callable[[], None]], None]


class Flusher:
    """Syncs the write-ahead log; one fsync serves all who asked before it began.

    Attributes:
        syncs, sync_ns: fsyncs done, and the time spent in them.
    """

    def __init__(
        self,
        sync: Callable[[], None],
        sequence: Callable[[], int],
        synced: Callable[[int, Exception | None], Exception | None],
        from_thread: FromThread,
    ) -> None:
        """
        Args:
            sync: called on the thread; returns when all that was written before is on disk.
            sequence: the number of the last write.
            synced: called on the loop, before those who asked, with the number that is now on disk, or the engine's
                error; returns the error to tell.
        """
        self.syncs = 0
        self.sync_ns = 0
        self._sync = sync
        self._sequence = sequence
        self._synced = synced
        self._from_thread = from_thread
        self._failure: Exception | None = None
        self._asked: SimpleQueue[Synced | None] = SimpleQueue()
        self.ask = self._asked.put
        self._thread = Thread(target=self._run, name="ourodb-sync", daemon=True)
        self._thread.start()

    def forgive(self) -> None:
        """The engine was opened anew, and what it recovered is on disk: syncs count again."""
        self._failure = None

    def stop(self) -> None:
        """Answer all who asked, then end."""
        self._asked.put(None)
        self._thread.join()

    def _run(self) -> None:
        asked = self._asked
        going_on = True
        while going_on:
            waiting = [asked.get()]
            try:
                while True:
                    waiting.append(asked.get_nowait())
            except Empty:
                pass
            if None in waiting:
                going_on = False
            waiters = [done for done in waiting if done is not None]
            if waiters:
                self._sync_for(waiters)

    def _sync_for(self, waiters: list[Synced]) -> None:
        sequence = 0
        # After a failed fsync the kernel forgets which pages it lost: a later one that succeeds proves nothing.
        if self._failure is None:
            began = perf_counter_ns()
            try:
                sequence = self._sequence()
                self._sync()
            except Exception as error:  # RocksDB raises nothing more precise.
                self._failure = error
            self.sync_ns += perf_counter_ns() - began
            self.syncs += 1
        failure = self._failure
        self._from_thread(lambda: self._deliver(waiters, sequence, failure))

    def _deliver(self, waiters: list[Synced], sequence: int, failure: Exception | None) -> None:
        error = self._synced(sequence, failure)
        for done in waiters:
            done(error)


class Reader:
    """Reads keys that are not in memory, several in one go."""

    def __init__(
        self,
        families: Callable[[], tuple[Rdict, ...]],
        translate: Callable[[Exception], Exception],
        from_thread: FromThread,
    ) -> None:
        """
        Args:
            families: the engine's families as they are now.
            translate: from an error of the engine to one of ours; called on the loop.
        """
        self._families = families
        self._translate = translate
        self._from_thread = from_thread
        self._asked: SimpleQueue[tuple[int, bytes, Fetched] | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="ourodb-read", daemon=True)
        self._thread.start()

    def ask(self, family: int, key: bytes, done: Fetched) -> None:
        self._asked.put((family, key, done))

    def stop(self) -> None:
        """Answer all who asked, then end."""
        self._asked.put(None)
        self._thread.join()

    def _run(self) -> None:
        asked = self._asked
        going_on = True
        while going_on:
            waiting = [asked.get()]
            try:
                while len(waiting) < limits.FETCHES_PER_READ_MAX:
                    waiting.append(asked.get_nowait())
            except Empty:
                pass
            if None in waiting:
                going_on = False
            by_family: dict[int, list[tuple[bytes, Fetched]]] = {}
            for request in waiting:
                if request is not None:
                    by_family.setdefault(request[0], []).append(request[1:])
            for family, requests in by_family.items():
                self._read(self._families()[family], requests)

    def _read(self, family: Rdict, requests: list[tuple[bytes, Fetched]]) -> None:
        answers: list[bytes | None | Exception]
        try:
            answers = family.get([key for key, _ in requests])  # type: ignore[assignment]
        except Exception as error:  # RocksDB raises nothing more precise.
            if len(requests) > 1:
                # One damaged block must not fail the others.
                for request in requests:
                    self._read(family, [request])
                return
            answers = [error]
        callbacks = [done for _, done in requests]

        def deliver() -> None:
            for done, answer in zip(callbacks, answers, strict=True):
                done(self._translate(answer) if isinstance(answer, Exception) else answer)

        self._from_thread(deliver)


def warm(paths: list[Path]) -> None:
    """Let the kernel read files into its cache; returns before it has."""

    def advise() -> None:
        for path in paths:
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
            os.close(descriptor)

    Thread(target=advise, name="ourodb-warm", daemon=True).start()
