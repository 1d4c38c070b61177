"""What a store needs done beside requests: purging what is due, and watching the disk.

Both run in small slices on the node's loop. A purge looks at the index of what is due once a minute; while it
finds work, it takes a slice of it every few milliseconds, so that requests hardly notice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import structlog

from ourodb.errors import OuroError
from ourodb.ports import Clock, Scheduler, Timer
from ourodb.storage.row import Pause

log = structlog.get_logger()

PURGE_EVERY_MS: Final = 60_000
PURGE_SLICE_GAP_MS: Final = 5
DISK_EVERY_MS: Final = 2_000

MICROS: Final = 1_000_000


class Upkeep:
    """The two timers.

    Attributes:
        purge_slices: done since the start.
    """

    def __init__(
        self,
        purge: Callable[[int], Iterator[Pause]],
        check_disk: Callable[[], None],
        scheduler: Scheduler,
        clock: Clock,
    ) -> None:
        """
        Args:
            purge: begins a purge as of a moment in seconds.
            check_disk: looks at the free space and tells the store.
        """
        self.purge_slices = 0
        self._purge = purge
        self._check_disk = check_disk
        self._scheduler = scheduler
        self._clock = clock
        self._running: Iterator[Pause] | None = None
        self._timers: dict[str, Timer] = {}

    def start(self) -> None:
        self._watch_disk()
        self._timers["purge"] = self._scheduler.after(PURGE_EVERY_MS, self._begin_purge)

    def stop(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _watch_disk(self) -> None:
        self._check_disk()
        self._timers["disk"] = self._scheduler.after(DISK_EVERY_MS, self._watch_disk)

    def _begin_purge(self) -> None:
        self._running = self._purge(self._clock.wall_us() // MICROS)
        self._purge_on()

    def _purge_on(self) -> None:
        assert self._running is not None
        try:
            more = next(self._running, None) is not None
        except OuroError as error:
            log.error("purge stopped", reason=str(error))
            more = False
        if more:
            self.purge_slices += 1
            self._timers["purge"] = self._scheduler.after(PURGE_SLICE_GAP_MS, self._purge_on)
        else:
            self._running = None
            self._timers["purge"] = self._scheduler.after(PURGE_EVERY_MS, self._begin_purge)
