"""When a node does what no client waits for.

Copying a range is as much work as a client can ask for in seconds, and would keep all others waiting for just as long.
So it is done in small pieces, one in each pass of the loop, between what clients have asked for meanwhile: the more
they ask for, the longer a pass, and the less often comes a piece.

That alone isn't enough where processors are short, for other programs or other nodes on the machine. A piece that runs
later than it should tells that the loop, or its processor, had other things to do, and the next one comes as much later
(``PACE_GAP_FACTOR``); but it comes, at the latest after ``PACE_GAP_MS_MAX``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from ourodb import limits
from ourodb.ports import Clock, Scheduler

MS_NS: Final = 1_000_000
WEIGHT: Final = 1 / 4
"""Of the last piece in the mean lateness."""


class Pace:
    """Pieces of work, run in order.

    Attributes:
        late_ns: by how much the last pieces came late on the average, nanoseconds.
    """

    def __init__(self, clock: Clock, scheduler: Scheduler) -> None:
        self.late_ns = 0.0
        self._clock = clock
        self._scheduler = scheduler
        self._waiting: deque[Callable[[], None]] = deque()
        self._due_ns = 0
        self._is_stopped = False

    def add(self, piece: Callable[[], None]) -> None:
        """Run it when its turn has come."""
        if self._is_stopped:
            return
        self._waiting.append(piece)
        if len(self._waiting) == 1:
            self._schedule()

    def stop(self) -> None:
        """Run nothing more."""
        self._is_stopped = True
        self._waiting.clear()

    def _schedule(self) -> None:
        late_ms = self.late_ns / MS_NS - limits.PACE_LATE_MS
        gap_ms = min(int(late_ms * limits.PACE_GAP_FACTOR), limits.PACE_GAP_MS_MAX)
        self._due_ns = self._clock.monotonic_ns()
        if gap_ms > 0:
            self._due_ns += gap_ms * MS_NS
            self._scheduler.after(gap_ms, self._run)
        else:
            self._scheduler.soon(self._run)

    def _run(self) -> None:
        if self._is_stopped:
            return
        late_ns = self._clock.monotonic_ns() - self._due_ns
        self.late_ns += (late_ns - self.late_ns) * WEIGHT
        try:
            self._waiting[0]()
        finally:
            if self._waiting:
                self._waiting.popleft()
            if self._waiting:
                self._schedule()
