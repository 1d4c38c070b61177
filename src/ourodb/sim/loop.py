"""Virtual time: a queue of events, each with its moment.

The loop takes the next event, sets the time to its moment and runs it, until nothing is left or time is up.
Events of one moment run in the order in which they were queued. An event is an action and one argument, so that
the frequent ones need no closure.

Nothing else in the simulator moves: a machine without events stands still for ever.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

Action = Callable[[Any], None]


class Loop:
    """The queue.

    Attributes:
        now_ns: virtual time since the beginning of the run.
        events: run so far.
    """

    __slots__ = ("_queue", "_sequence", "events", "now_ns")

    def __init__(self) -> None:
        self.now_ns = 0
        self.events = 0
        self._sequence = 0
        self._queue: list[tuple[int, int, Action, Any]] = []

    def at(self, time_ns: int, action: Action, argument: Any = None) -> None:
        """Run ``action(argument)`` at a moment that isn't past."""
        assert time_ns >= self.now_ns
        self._sequence += 1
        heapq.heappush(self._queue, (time_ns, self._sequence, action, argument))

    def after(self, delay_ns: int, action: Action, argument: Any = None) -> None:
        self.at(self.now_ns + delay_ns, action, argument)

    def run_until(self, time_ns: int) -> None:
        """Run what is due until then; afterwards it is then."""
        self.run_while(_always, time_ns)
        self.now_ns = max(self.now_ns, time_ns)

    def run_while(self, condition: Callable[[], bool], until_ns: int) -> None:
        """Run events while the condition holds and their moment isn't after ``until_ns``."""
        queue = self._queue
        pop = heapq.heappop
        while queue and queue[0][0] <= until_ns and condition():
            self.now_ns, _, action, argument = pop(queue)
            self.events += 1
            action(argument)


def _always() -> bool:
    return True
