"""The simulator's workloads on real nodes: scripts of clients, played over Apache's driver.

    with cluster(nodes=3) as ring:
        problems = play(ring, SetWorkload, seconds=5, clients=4, seed=1)

With ``keeps_home`` clients keep to one data centre each, at LOCAL_QUORUM.

One thread plays all scripts: what a script yields is either a statement that was sent (the script goes on when the
driver has its outcome) or a pause. So the scripts may share variables, as they do on virtual time, and as many
statements are in flight as there are scripts. Times in the history are this thread's: an operation is invoked before
the driver has it and completed after the driver's answer, so an interval is longer than it was, never shorter.

Workloads speak in bytes, as on the wire, so the driver is kept from decoding what comes (``RawProtocol``).
"""

from __future__ import annotations

import heapq
import queue
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import cassandra
from cassandra.cluster import EXEC_PROFILE_DEFAULT, ExecutionProfile, ResponseFuture, Session
from cassandra.policies import (
    DCAwareRoundRobinPolicy,
    FallthroughRetryPolicy,
    LoadBalancingPolicy,
    RoundRobinPolicy,
)
from cassandra.protocol import ErrorMessage, ProtocolHandler, ResultMessage
from cassandra.query import BoundStatement, PreparedStatement, SimpleStatement, tuple_factory

from ourodb import errors
from ourodb.cql.wire.codes import Consistency
from ourodb.sim.chance import Chance
from ourodb.sim.history import History
from ourodb.sim.workloads.stage import NoAnswer, NotSent, Reply, Script, Stage, Workload
from ourodb.testing.ring import Ring

ANSWER_SECONDS_MAX = 60
"""The driver has long since given up by then."""

REQUEST_SECONDS_MAX = 10
"""Clients that are played by themselves give up after so long."""

Page = tuple[Iterable[Sequence[bytes | None]] | None, Iterable[str] | None, bytes | None]
"""Rows, names of columns and paging state, as the driver gives them."""


class RawRows(ResultMessage):  # type: ignore[misc]
    """A result whose cells are left as they came."""

    def recv_results_rows(
        self, f: BinaryIO, protocol_version: int, user_type_map: Any, result_metadata: Any, *policy: Any
    ) -> None:
        self.recv_results_metadata(f, user_type_map)
        columns = self.column_metadata or result_metadata
        self.column_names = [column[2] for column in columns]
        self.column_types = [column[3] for column in columns]
        count = int.from_bytes(f.read(4), "big")
        self.parsed_rows = [[_cell(f) for _ in columns] for _ in range(count)]


class RawProtocol(ProtocolHandler):  # type: ignore[misc]
    """The driver's protocol, with ``RawRows``."""

    message_types_by_opcode = {**ProtocolHandler.message_types_by_opcode, ResultMessage.opcode: RawRows}  # noqa: RUF012


def _cell(f: BinaryIO) -> bytes | None:
    length = int.from_bytes(f.read(4), "big", signed=True)
    return None if length < 0 else f.read(length)


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
            if is_prepared or values:
                # The driver sends no values with a statement that isn't prepared, so it is prepared for this once.
                prepared = self._prepared.get(statement) if is_prepared else None
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
            self._replies.put((sent, Reply(translated(error))))
            return sent
        put = self._replies.put
        sent.future = future
        future.add_callbacks(
            # Whoever is interested in the pages after this one asks for them.
            lambda rows: put((sent, (rows, future._col_names, future._paging_state))),
            lambda error: put((sent, Reply(translated(error)))),
        )
        return sent


def translated(error: Exception) -> errors.RequestError | NotSent | NoAnswer:
    """An error of the driver's as the node meant it; ``NoAnswer`` where the driver can't say what happened."""
    found = re.search(r'message="(.*)"', str(error), re.DOTALL)
    text = found[1] if found else str(error)
    level = getattr(error, "consistency", None) or 0
    received = getattr(error, "received_responses", None) or 0
    required = getattr(error, "required_responses", None) or 0
    if isinstance(error, cassandra.InvalidRequest):
        return errors.InvalidRequest(text)
    if isinstance(error, cassandra.AlreadyExists):
        return errors.AlreadyExists(error.keyspace, error.table or "", text)
    if isinstance(error, cassandra.Unavailable):
        return errors.Unavailable(level, error.required_replicas, error.alive_replicas, text)
    if isinstance(error, cassandra.WriteTimeout):
        return errors.WriteTimeout(level, received, required, str(error.write_type))
    if isinstance(error, cassandra.ReadTimeout):
        return errors.ReadTimeout(level, received, required, bool(error.data_retrieved))
    if isinstance(error, cassandra.WriteFailure):
        return errors.WriteFailure(level, received, required, {}, str(error.write_type), text)
    if isinstance(error, cassandra.ReadFailure):
        return errors.ReadFailure(level, received, required, {}, bool(error.data_retrieved), text)
    if isinstance(error, ErrorMessage) and error.code == errors.CasWriteUnknown.code:
        # The driver doesn't know it.
        return errors.CasWriteUnknown(level, received, required)
    if isinstance(error, ErrorMessage):
        plain = PLAIN_ERRORS.get(error.code)
        return errors.ServerError(text) if plain is None else plain(text)
    return NoAnswer(f"{type(error).__name__}: {error}")


PLAIN_ERRORS: dict[int, Callable[[str], errors.RequestError]] = {
    one.code: one
    for one in (
        errors.Overloaded,
        errors.IsBootstrapping,
        errors.TruncateError,
        errors.CqlSyntaxError,
        errors.Unauthorized,
        errors.ConfigurationException,
    )
}
"""Those with nothing but a message, which the driver leaves as they came."""


def _reply(
    rows: Iterable[Sequence[bytes | None]] | None, columns: Iterable[str] | None, paging_state: bytes | None
) -> Reply:
    return Reply(None, tuple(columns or ()), [list(row) for row in rows or ()], paging_state)


class Player:
    """Plays scripts, all of them in the thread that asks for it.

    Attributes:
        clients: one for each session.
        is_over: scripts of clients end when they see it.
    """

    def __init__(self, *sessions: Session) -> None:
        """
        Args:
            sessions: with rows as tuples; they give bytes from now on. They should try nothing twice.
        """
        self._replies: queue.SimpleQueue[tuple[Sent, Reply | Page]] = queue.SimpleQueue()
        for session in sessions:
            session.client_protocol_handler = RawProtocol
        self.clients = [Client(session, self._replies) for session in sessions]
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

    def __init__(
        self,
        player: Player,
        chance: Chance,
        replication_factor: int = 3,
        data_centers: Mapping[str, int] | None = None,
    ) -> None:
        """
        Args:
            data_centers: see ``Stage``; the player has a session for each, in their order. None: clients keep to none.
        """
        self._player = player
        self.random = chance
        self.data_centers: Mapping[str, int] = data_centers or {}
        self.history = History(time.monotonic_ns)
        self.replication_factor = replication_factor

    @property
    def is_over(self) -> bool:
        return self._player.is_over

    @is_over.setter
    def is_over(self, is_over: bool) -> None:
        self._player.is_over = is_over

    def client(self, number: int) -> Client:
        """Clients share sessions: which node coordinates is the driver's choice."""
        return self._player.clients[number % len(self._player.clients)]

    def sleep(self, seconds: float) -> Pause:
        return Pause(seconds)


def play(
    ring: Ring,
    make: Callable[[Stage], Workload],
    *,
    seconds: float,
    clients: int,
    seed: int,
    keeps_home: bool = False,
) -> tuple[list[str], History]:
    """Play one workload, from its tables to its last reads.

    Args:
        seconds: clients work so long.
        seed: of what they draw; what happens when is up to the machine.
        keeps_home: clients keep to one data centre each; for workloads that know ``sides``.
    Returns:
        what was wrong, and what clients saw.
    """
    sizes = Counter(node.plan.dc for node in ring.nodes) if keeps_home else {}
    policies = [DCAwareRoundRobinPolicy(name) for name in sizes] or [RoundRobinPolicy()]
    sessions = [ring.connect(execution_profiles={EXEC_PROFILE_DEFAULT: _profile(one)}) for one in policies]
    player = Player(*sessions)
    factors = {name: min(3, size) for name, size in sizes.items()}
    stage = RingStage(player, Chance.of_seed(seed), min(3, len(ring.nodes)), factors)
    workload = make(stage)

    def end() -> Script[None]:
        yield Pause(seconds)
        player.is_over = True

    try:
        player.play([workload.set_up()])
        player.play([*(workload.run_client(number) for number in range(clients)), end()])
        player.play([workload.finish()])
    finally:
        for session in sessions:
            session.cluster.shutdown()
    return workload.problems(), stage.history


def _profile(policy: LoadBalancingPolicy) -> ExecutionProfile:
    return ExecutionProfile(
        load_balancing_policy=policy,
        retry_policy=FallthroughRetryPolicy(),
        request_timeout=REQUEST_SECONDS_MAX,
        row_factory=tuple_factory,
    )
