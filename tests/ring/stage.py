"""The simulator's workloads on a real ring: scripts of clients, played over Apache's driver.

One thread plays all scripts: what a script yields is either a statement that was sent (the script goes on when the
driver has its outcome) or a pause. So the scripts may share variables, as they do on virtual time, and as many
statements are in flight as there are scripts. Times in the history are this thread's: an operation is invoked before
the driver has it and completed after the driver's answer, so an interval is longer than it was, never shorter.
"""

from __future__ import annotations

import heapq
import queue
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from cassandra import InvalidRequest, Unavailable
from cassandra.cluster import ResponseFuture, Session
from cassandra.protocol import IsBootstrappingErrorMessage
from cassandra.query import BoundStatement, PreparedStatement, SimpleStatement

from ourodb.cql.wire.codes import Consistency
from ourodb.sim.chance import Chance
from ourodb.sim.history import History, Outcome
from ourodb.sim.workloads.stage import Script

REFUSALS = (Unavailable, InvalidRequest, IsBootstrappingErrorMessage)
"""Errors before anything was done."""
ANSWER_SECONDS_MAX = 60
"""The driver has long since given up by then."""

Page = tuple[Iterable[Sequence[Any]] | None, Iterable[str] | None, bytes | None]
"""Rows, names of columns and paging state, as the driver gives them."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a statement got; has all that the simulator's replies have."""

    error: Exception | None = None
    columns: tuple[str, ...] = ()
    rows: list[list[bytes | None]] = field(default_factory=list)
    paging_state: bytes | None = None

    @property
    def outcome(self) -> Outcome:
        if self.error is None:
            return Outcome.DONE
        return Outcome.REFUSED if isinstance(self.error, REFUSALS) else Outcome.UNKNOWN

    @property
    def error_name(self) -> str:
        return "" if self.error is None else type(self.error).__name__

    def cell(self, column: str, row: int = 0) -> bytes | None:
        return self.rows[row][self.columns.index(column)] if column in self.columns else None


@dataclass(frozen=True, slots=True)
class Pause:
    """A script waits."""

    seconds: float


class Sent:
    """A statement that was sent; a script goes on when it has its outcome."""

    __slots__ = ("at_s", "future")

    def __init__(self) -> None:
        self.at_s = time.monotonic()
        self.future: ResponseFuture | None = None


class Client:
    """A client of a ring, on a session that it shares with others. It never sends a statement twice."""

    def __init__(self, session: Session, replies: queue.SimpleQueue[tuple[Sent, Reply | Page]]) -> None:
        self._session = session
        self._replies = replies
        self._prepared: dict[str, PreparedStatement] = {}

    def execute(
        self,
        statement: str,
        values: Sequence[bytes | None] = (),
        *,
        consistency: int = Consistency.QUORUM,
        serial_consistency: int = Consistency.SERIAL,
        timeout_s: float | None = None,
        page_size: int = 0,
        paging_state: bytes | None = None,
        is_prepared: bool = True,
    ) -> Sent:
        """Send a statement; to be yielded, gives a ``Reply``. Without a timeout the session's own counts."""
        sent = Sent()
        query: BoundStatement | SimpleStatement
        try:
            if is_prepared:
                prepared = self._prepared.get(statement)
                if prepared is None:
                    prepared = self._prepared[statement] = self._session.prepare(statement)
                query = BoundStatement(prepared)
                query.values = list(values)
            else:
                query = SimpleStatement(statement)
            query.consistency_level = int(consistency)
            query.serial_consistency_level = int(serial_consistency)
            query.fetch_size = page_size or None
            options = {} if timeout_s is None else {"timeout": timeout_s}
            future = self._session.execute_async(query, paging_state=paging_state, **options)
        except Exception as error:
            self._replies.put((sent, Reply(error)))
            return sent
        put = self._replies.put
        sent.future = future
        future.add_callbacks(
            # Whoever is interested in the pages after this one asks for them.
            lambda rows: put((sent, (rows, future._col_names, future._paging_state))),
            lambda error: put((sent, Reply(error))),
        )
        return sent


def _reply(
    rows: Iterable[Sequence[Any]] | None, columns: Iterable[str] | None, paging_state: bytes | None
) -> Reply:
    return Reply(
        None, tuple(columns or ()), [[_cell(value) for value in row] for row in rows or ()], paging_state
    )


def _cell(value: Any) -> bytes | None:
    """As it came over the wire; workloads have no types but these."""
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, bool):
        return bytes([value])
    assert isinstance(value, int), value
    return value.to_bytes(8, "big", signed=True)


class Player:
    """Plays scripts, all of them in the thread that asks for it.

    Attributes:
        is_over: scripts of clients end when they see it.
    """

    def __init__(self, session: Session) -> None:
        self._replies: queue.SimpleQueue[tuple[Sent, Reply | Page]] = queue.SimpleQueue()
        self.client = Client(session, self._replies)
        self.is_over = False
        self._parked: list[tuple[float, int, Script[None]]] = []
        self._waiting: dict[Sent, Script[None]] = {}
        self._parks = 0

    def play(self, scripts: Iterable[Script[None]]) -> None:
        """Play until every script has ended.

        Raises:
            AssertionError: the driver never said what became of a statement.
        """
        for script in scripts:
            self._go_on(script, None)
        while self._waiting or self._parked:
            now = time.monotonic()
            while self._parked and self._parked[0][0] <= now:
                self._go_on(heapq.heappop(self._parked)[2], None)
            if self._parked:
                self._take_replies(self._parked[0][0] - time.monotonic())
            elif self._waiting:
                self._take_replies(ANSWER_SECONDS_MAX)

    def _take_replies(self, wait_s: float) -> None:
        replies = self._replies
        try:
            taken = replies.get(timeout=wait_s) if wait_s > 0 else replies.get_nowait()
            while True:
                sent, reply = taken
                # The driver may give an answer after it has given up; the first word counts.
                script = self._waiting.pop(sent, None)
                if script is not None:
                    self._go_on(script, _reply(*reply) if isinstance(reply, tuple) else reply)
                taken = replies.get_nowait()
        except queue.Empty:
            oldest_s = time.monotonic() - ANSWER_SECONDS_MAX
            stuck = [sent for sent in self._waiting if sent.at_s < oldest_s]
            assert not stuck, [vars(sent.future) for sent in stuck]

    def _go_on(self, script: Script[None], value: Reply | None) -> None:
        try:
            wanted = script.send(value)
        except StopIteration:
            return
        if isinstance(wanted, Pause):
            self._parks += 1
            heapq.heappush(self._parked, (time.monotonic() + wanted.seconds, self._parks, script))
        else:
            self._waiting[wanted] = script


class RingStage:
    """Where one workload plays, beside others; see the simulator's ``Stage``.

    Attributes:
        history: of this workload alone.
    """

    def __init__(self, player: Player, chance: Chance, replication_factor: int = 3) -> None:
        self._player = player
        self.random = chance
        self.history = History(time.monotonic_ns)
        self.replication_factor = replication_factor

    @property
    def is_over(self) -> bool:
        return self._player.is_over

    def client(self, number: int) -> Client:
        """All clients share one session: which node coordinates is the driver's choice."""
        return self._player.client

    def sleep(self, seconds: float) -> Pause:
        return Pause(seconds)
