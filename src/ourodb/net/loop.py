"""The ports of ``ports.py`` on a real event loop and the operating system's clock and randomness."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Callable


class SystemClock:
    """The machine's clocks."""

    __slots__ = ()

    def wall_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()


class SystemRandom:
    """The operating system's generator."""

    __slots__ = ()

    def bytes(self, count: int) -> bytes:
        return os.urandom(count)

    def below(self, bound: int) -> int:
        return secrets.randbelow(bound)


class LoopTimer:
    """A timer of the loop."""

    __slots__ = ("_handle",)

    def __init__(self, handle: asyncio.TimerHandle) -> None:
        self._handle = handle

    def cancel(self) -> None:
        self._handle.cancel()


class LoopScheduler:
    """``Scheduler`` on an asyncio loop; ``from_thread`` is the one door by which other threads come in."""

    __slots__ = ("_loop",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def soon(self, callback: Callable[[], None]) -> None:
        self._loop.call_soon(callback)

    def after(self, delay_ms: int, callback: Callable[[], None]) -> LoopTimer:
        return LoopTimer(self._loop.call_later(delay_ms / 1000, callback))

    def from_thread(self, callback: Callable[[], None]) -> None:
        """Run the callback on the loop; safe from any thread. Does nothing once the loop is closed."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback)


class Passes:
    """The end of a pass of the loop: all that arrived was handled, now it is settled once and answered once.

    There is one for a process. Whoever hears something, or wants to be flushed, arms it; ``settle`` runs before
    anything is flushed, so that nothing is acknowledged that the store hasn't got. It costs nothing while nobody
    speaks.

    Attributes:
        settle: the first thing at the end of each pass.
    """

    __slots__ = ("_armed", "_flushers", "_loop", "settle")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.settle: Callable[[], None] = lambda: None
        self._loop = loop
        self._flushers: list[Callable[[], None]] = []
        self._armed = False

    def add_flusher(self, flush: Callable[[], None]) -> None:
        """Call ``flush`` at the end of each armed pass, after ``settle`` and the flushers that were added before."""
        self._flushers.append(flush)

    def arm(self) -> None:
        """Make sure that this pass ends; armed by ``settle`` or a flusher, the next one ends as well."""
        if not self._armed:
            self._armed = True
            self._loop.call_soon(self._end)

    def _end(self) -> None:
        self._armed = False
        self.settle()
        for flush in self._flushers:
            flush()
