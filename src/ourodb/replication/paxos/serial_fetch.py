"""A read at a serial level: a statement that proposes nothing, and so settles what was in doubt before it."""

from __future__ import annotations

from collections.abc import Callable

from ourodb.errors import RequestError
from ourodb.replication.paxos.context import PaxosContext
from ourodb.replication.paxos.proposer import Decision, Proposer
from ourodb.replication.replica.reads import SlicesCommand
from ourodb.replication.routes import Route
from ourodb.storage.chunk import Chunk


class SerialFetch:
    """A chunk read at a serial level; looks like a ``Fetch`` to whoever waits for it.

    Attributes: as there.
    """

    __slots__ = ("chunk", "error", "is_done", "wake")

    def __init__(
        self, context: PaxosContext, route: Route, command: SlicesCommand, serial_level: int
    ) -> None:
        """Begin.

        Raises:
            Unavailable: too few replicas are up.
            Overloaded: too many statements wait for this partition.
        """
        self.chunk: Chunk | None = None
        self.error: RequestError | None = None
        self.is_done = False
        self.wake: Callable[[], None] | None = None
        Proposer(
            context,
            route,
            command,
            lambda chunk, timestamp: Decision(None, chunk),
            self._ended,
            serial_level=serial_level,
            level=serial_level,
            is_read=True,
        ).start()

    def _ended(self, result: object, error: RequestError | None) -> None:
        self.is_done = True
        self.error = error
        if error is None:
            assert isinstance(result, Chunk)
            self.chunk = result
        if self.wake is not None:
            self.wake()
