"""Virtual time: a queue of events, each with its moment.

The loop takes the next event, sets the time to its moment and runs it, until nothing is left or time is up.
Events of one moment run in the order in which they were queued. An event is an action and one argument, so that
the frequent ones need no closure.

Nothing else in the simulator moves: a machine without events stands still for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

Action = Callable[[Any], None]


class Loop:
    """The queue.

    Attributes:
        now_ns: virtual time since the beginning of the run.
        events: begun so far.
    """

    __slots__ = ("_queue", "_sequence", "now_ns")

    def __init__(self) -> None:
        self.now_ns = 0
        self._sequence = 0
        self._queue: list[tuple[int, int, Action, Any]] = []

    @property
    def events(self) -> int:
        return self._sequence - len(self._queue)

    def at(self, time_ns: int, action: Action, argument: Any = None) -> None:
        """Run ``action(argument)`` at a moment that isn't past."""
        assert time_ns >= self.now_ns
        self._sequence = sequence = self._sequence + 1
        heappush(self._queue, (time_ns, sequence, action, argument))

    def after(self, delay_ns: int, action: Action, argument: Any = None) -> None:
        assert delay_ns >= 0
        self._sequence = sequence = self._sequence + 1
        heappush(self._queue, (self.now_ns + delay_ns, sequence, action, argument))

    def run_until(self, time_ns: int) -> None:
        """Run what is due until then; afterwards it is then."""
        queue = self._queue
        while queue and queue[0][0] <= time_ns:
            self.now_ns, _, action, argument = heappop(queue)
            action(argument)
        self.now_ns = max(self.now_ns, time_ns)

    def run_while(self, condition: Callable[[], bool], until_ns: int) -> None:
        """Run events while the condition holds and their moment isn't after ``until_ns``."""
        queue = self._queue
        while queue and queue[0][0] <= until_ns and condition():
            self.now_ns, _, action, argument = heappop(queue)
            action(argument)
