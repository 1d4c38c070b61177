"""Who is next: statements about one partition that came to the same coordinator are carried out one after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ourodb import limits
from ourodb.errors import Overloaded

Begin = Callable[[], None]


class Turns:
    """A queue for each partition that somebody is at work on."""

    __slots__ = ("_later", "_queues")

    def __init__(self, later: Callable[[Begin], None]) -> None:
        """
        Args:
            later: runs something after the present pass.
        """
        self._later = later
        self._queues: dict[bytes, deque[Begin]] = {}
        """By partition: who is at work, and who waits for him."""

    def take(self, key: bytes, begin: Begin) -> None:
        """Have ``begin`` called now, or when those who came before have left.

        Raises:
            Overloaded: too many wait.
        """
        queue = self._queues.get(key)
        if queue is None:
            self._queues[key] = deque((begin,))
            begin()
        elif len(queue) < limits.CAS_QUEUE_MAX:
            queue.append(begin)
        else:
            raise Overloaded("too many conditional statements wait for the same partition")

    def leave(self, key: bytes) -> None:
        """Whoever is at work is done."""
        queue = self._queues[key]
        queue.popleft()
        if queue:
            self._later(queue[0])
        else:
            del self._queues[key]
