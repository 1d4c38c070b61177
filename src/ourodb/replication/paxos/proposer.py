"""The coordinator's side of Paxos: one statement, from its first ballot to its answer.

=============  ==========================================================================================
PREPARING      a quorum promises the ballot and says what it has accepted, committed, and stored
FINISHING      an earlier proposal may have been chosen: it is proposed again under our ballot, then committed
PROPOSING      a quorum accepts what the statement decided on what was read; b"" where its condition failed, so
               that a refusal has its place in the order too
RESOLVING      our proposal lost while somebody may have accepted it: a new ballot finds out what became of it
COMMITTING     the replicas write it; the answer waits for as many as the statement's consistency level asks for
=============  ==========================================================================================

A statement is decided anew only when it is certain that what it proposed before was not and will not be
chosen. Where that can't be found out in time, the client is told that the outcome is unknown; it is never
told "not applied" of something that may have been.

Why RESOLVING is right: a quorum that has promised ballot C accepts nothing lower any more. If one of it
accepted our B last, it may have been chosen, and is finished. If the highest commit that one of it knows is
B, it was. If what it accepted and committed is all lower than B, then no quorum accepted B and none will.
Otherwise nobody can tell any more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Final, NamedTuple

import msgspec

from ourodb import limits
from ourodb.cql.wire.codes import Consistency
from ourodb.errors import CasWriteUnknown, OuroError, ReadTimeout, RequestError, WriteTimeout
from ourodb.peer.messages import FAILED, Verb
from ourodb.ports import DATA, Clock, NodeId, Random, Scheduler
from ourodb.replication.consistency import quorum, unavailable
from ourodb.replication.coordinator.write import WriteContext, WriteOperation
from ourodb.replication.paxos.acceptor import Acceptor
from ourodb.replication.paxos.ballots import (
    HISTORY_MAX,
    NO_BALLOT,
    Ballot,
    Commit,
    Prepare,
    Promise,
    Propose,
    decode_accepted,
    decode_promise,
    encode,
)
from ourodb.replication.peers import Peers, RequestClass
from ourodb.replication.replica.reads import SlicesCommand
from ourodb.replication.routes import Route
from ourodb.replication.timestamps import Timestamps
from ourodb.storage.chunk import Chunk, cut, decode_chunk, merge_partitions, shortest
from ourodb.storage.mutation import Mutation, decode_mutation
from ourodb.storage.record import CorruptRecord

BACKOFF_MS_MAX: Final = 50


class Phase(IntEnum):
    """Where a statement is."""

    PREPARING = 0
    FINISHING = 1
    PROPOSING = 2
    RESOLVING = 3
    COMMITTING = 4


class Decision(NamedTuple):
    """What a statement makes of the rows that it read.

    Attributes:
        mutation: to be written; None where the condition failed, and for a read.
        result: for the client, once the mutation is chosen.
    """

    mutation: Mutation | None
    result: object


Decide = Callable[[Chunk, int], Decision]
"""(what the replicas' records say together, timestamp for what is written) -> decision. May raise RequestError."""

Done = Callable[[object, RequestError | None], None]
"""(result, None), or (None, why there is none)."""


class PaxosContext:
    """What all proposers of a node share.

    Attributes:
        contentions: ballots lost to others, counted.
        unknown: statements whose outcome couldn't be told, counted.
    """

    __slots__ = (
        "_generation",
        "_last_us",
        "acceptor",
        "clock",
        "contentions",
        "peers",
        "random",
        "scheduler",
        "timestamps",
        "unknown",
        "writing",
    )

    def __init__(
        self,
        peers: Peers,
        acceptor: Acceptor,
        writing: WriteContext,
        clock: Clock,
        random: Random,
        scheduler: Scheduler,
        timestamps: Timestamps,
        generation: int,
    ) -> None:
        """
        Args:
            generation: of this run of the node: ballots of different runs differ, whatever the clock does.
        """
        self._last_us = 0
        self._generation = generation & 0xFFFF_FFFF
        self.peers = peers
        self.acceptor = acceptor
        self.writing = writing
        self.clock = clock
        self.random = random
        self.scheduler = scheduler
        self.timestamps = timestamps
        self.contentions = 0
        self.unknown = 0

    def next_ballot(self, above: Ballot) -> Ballot:
        """A ballot that nobody ever had, higher than ``above``."""
        self._last_us = max(self.timestamps.next_us(), above[0] + 1, self._last_us + 1)
        return self._last_us, self.peers.me << 32 | self._generation


class Proposer:
    """One conditional statement, or one serial read.

    Attributes:
        started_ms: see ``Operation``.
    """

    __slots__ = (
        "_answered",
        "_ballot",
        "_begun_ms",
        "_command",
        "_contentions",
        "_context",
        "_decide",
        "_decision",
        "_done",
        "_history",
        "_in_doubt",
        "_is_read",
        "_level",
        "_nodes",
        "_origin",
        "_phase",
        "_position",
        "_promises",
        "_proposal",
        "_refusals",
        "_refused_by",
        "_request",
        "_required",
        "_route",
        "_serial_level",
        "_waiting",
        "started_ms",
    )

    def __init__(
        self,
        context: PaxosContext,
        route: Route,
        command: SlicesCommand,
        decide: Decide,
        done: Done,
        *,
        serial_level: int,
        level: int,
        is_read: bool,
    ) -> None:
        """
        Args:
            command: what to read before deciding.
            level: how many replicas must have written before the client is answered.
            is_read: a read at a serial level.
        Raises:
            Unavailable: too few replicas are up.
        """
        self.started_ms = 0
        self._context = context
        self._route = route
        self._command = command
        self._position = command.position
        self._decide = decide
        self._done = done
        self._serial_level = serial_level
        self._level = level
        self._is_read = is_read
        local = serial_level == Consistency.LOCAL_SERIAL
        self._nodes = route.live_nodes(local_only=local)
        electorate = route.electorate(local_only=local)
        self._required = quorum(electorate)
        if len(self._nodes) < self._required:
            raise unavailable(serial_level, self._required, len(self._nodes))
        if not is_read:
            route.write_need(level)
        self._begun_ms = context.peers.now_ms()
        self._phase = Phase.PREPARING
        self._ballot: Ballot = NO_BALLOT
        self._request = 0
        self._waiting: dict[NodeId, None] = {}
        self._answered = 0
        self._promises: dict[NodeId, Promise] = {}
        self._refused_by: Ballot = NO_BALLOT
        self._refusals = 0
        self._proposal = b""
        self._decision: Decision | None = None
        self._origin: Ballot = NO_BALLOT
        """Of what is proposed now."""
        self._history: tuple[Ballot, ...] = ()
        self._in_doubt = False
        """Our proposal may have been accepted by somebody."""
        self._contentions = 0

    # Phases

    def prepare(self) -> None:
        """Begin with a new ballot, higher than any that was heard of."""
        context = self._context
        self._ballot = context.next_ballot(self._refused_by)
        request = Prepare(
            self._ballot,
            self._command.rows.table.incarnation,
            self._position,
            self._command.body(digest=False),
        )
        self._promises = {}
        self._ask(
            Verb.PAXOS_PREPARE, encode(request), lambda answer: context.acceptor.prepare(request, answer)
        )

    def _propose(self, proposal: bytes, phase: Phase) -> None:
        context = self._context
        self._phase = phase
        self._proposal = proposal
        request = Propose(
            self._ballot, self._command.rows.table.incarnation, self._position, proposal, self._origin
        )
        self._ask(
            Verb.PAXOS_PROPOSE, encode(request), lambda answer: context.acceptor.propose(request, answer)
        )

    def _ask(
        self,
        verb: Verb,
        body: bytes,
        ask_here: Callable[[Callable[[bytes | RequestError], None]], None],
    ) -> None:
        """Send one phase's message to everybody who votes."""
        peers = self._context.peers
        if self._request:
            peers.end(self._request)
        self._answered = 0
        self._refusals = 0
        self._waiting = dict.fromkeys(self._nodes)
        request = self._request = peers.begin(RequestClass.PAXOS, self)
        message = peers.message(verb, body, request)
        here = False
        for node in self._nodes:
            if node == peers.me:
                here = True
                continue
            link = peers.links.get(node)
            if link is None or not link.send(DATA, message):
                peers.later(lambda node=node, request=request: self._lost(node, request))  # type: ignore[misc]
        if here:
            ask_here(lambda outcome: self._answered_here(request, outcome))

    def _answered_here(self, request: int, outcome: bytes | RequestError) -> None:
        if request == self._request:
            if isinstance(outcome, bytes):
                self.on_reply(self._context.peers.me, 0, outcome)
            else:
                self._lost(self._context.peers.me, request)

    # The operation

    def on_reply(self, node: NodeId, flags: int, body: bytes) -> bool:
        if node not in self._waiting:
            return False
        del self._waiting[node]
        if flags & FAILED:
            self._check_possible()
            return False
        try:
            if self._phase in (Phase.PREPARING, Phase.RESOLVING):
                self._on_promise(node, decode_promise(body))
            else:
                self._on_accepted(decode_accepted(body).promised)
        except (msgspec.DecodeError, msgspec.ValidationError, CorruptRecord):
            self._check_possible()
        return False

    def on_expired(self) -> None:
        self._request = 0
        self._give_up()

    def on_lost(self, node: NodeId) -> bool:
        self._lost(node, self._request)
        return False

    def on_tick(self, waited_ms: int) -> bool:
        return False

    def _lost(self, node: NodeId, request: int) -> None:
        if request == self._request and node in self._waiting:
            del self._waiting[node]
            self._check_possible()

    def _check_possible(self) -> None:
        """Somebody won't answer, or refused: can a quorum still be had?"""
        if self._phase is Phase.COMMITTING or self._answered >= self._required:
            return
        if self._answered + len(self._waiting) < self._required:
            self._lost_ballot_to_others()

    # Prepare

    def _on_promise(self, node: NodeId, promise: Promise) -> None:
        if promise.promised != self._ballot:
            self._refused_by = max(self._refused_by, promise.promised)
            self._refusals += 1
            self._check_possible()
            return
        if self._answered >= self._required:
            return
        self._promises[node] = promise
        self._answered += 1
        if self._answered == self._required:
            self._waiting = {}
            self._promised()

    def _promised(self) -> None:
        promises = list(self._promises.values())
        committed = max(promise.committed for promise in promises)
        newest = max(promises, key=lambda promise: promise.accepted)
        unfinished = newest.proposal is not None and newest.accepted > committed
        self._history = max(promises, key=lambda promise: promise.committed).history
        if self._phase is Phase.RESOLVING:
            if self._origin in self._history:
                self._chosen_elsewhere()
                return
            if unfinished and newest.origin == self._origin:
                self._propose(self._proposal, Phase.PROPOSING)
                return
            if len(self._history) >= HISTORY_MAX and self._history[0] > self._origin:
                self._unknown()
                return
            self._in_doubt = False
            self._phase = Phase.PREPARING
        if unfinished:
            assert newest.proposal is not None
            self._origin = newest.origin
            self._propose(newest.proposal, Phase.FINISHING)
            return
        try:
            chunk = self._merged([decode_chunk(promise.chunk) for promise in promises])
            decision = self._decide(chunk, self._ballot[0])
        except OuroError as error:
            self._end(None, error if isinstance(error, RequestError) else RequestError(str(error)))
            return
        self._decision = decision
        self._origin = self._ballot
        proposal = b"" if decision.mutation is None else decision.mutation.encode()
        self._propose(proposal, Phase.PROPOSING)

    def _merged(self, chunks: Sequence[Chunk]) -> Chunk:
        reverse = self._command.reverse
        end = shortest(chunks, reverse=reverse)
        held = [partition for chunk in chunks for partition in cut(chunk, end, reverse=reverse)]
        return Chunk([merge_partitions(held)] if held else [], end)

    # Propose

    def _on_accepted(self, promised: Ballot) -> None:
        if promised != self._ballot:
            self._refused_by = max(self._refused_by, promised)
            self._refusals += 1
            self._check_possible()
            return
        self._answered += 1
        if self._answered == self._required:
            self._waiting = {}
            self._chosen()

    def _chosen(self) -> None:
        if self._phase is Phase.FINISHING:
            self._commit(self._level_of_finish(), self._begin_again)
            return
        decision = self._decision
        assert decision is not None
        if decision.mutation is None:
            # Nothing to write: nobody needs to wait for the mark that it is over.
            self._commit(None, None)
            self._end(decision.result, None)
            return
        self._commit(self._level, self._committed)

    def _level_of_finish(self) -> int | None:
        """What others proposed must be on a quorum before it is read again."""
        local = self._serial_level == Consistency.LOCAL_SERIAL
        return Consistency.LOCAL_QUORUM if local else Consistency.QUORUM

    def _committed(self, error: RequestError | None) -> None:
        decision = self._decision
        assert decision is not None
        if error is None:
            self._end(decision.result, None)
        else:
            # It is chosen, and will be written; only not by as many as were asked for in time.
            self._end(None, error)

    def _begin_again(self, error: RequestError | None) -> None:
        self._phase = Phase.PREPARING
        if error is not None:
            self._give_up()
        else:
            self.prepare()

    def _chosen_elsewhere(self) -> None:
        """Our proposal was chosen, and committed by somebody else."""
        decision = self._decision
        assert decision is not None
        self._end(decision.result, None)

    # Commit

    def _commit(self, level: int | None, then: Callable[[RequestError | None], None] | None) -> None:
        """Have all replicas write what was chosen.

        Args:
            level: how many must have before ``then`` is called; None: nobody waits.
        """
        context = self._context
        peers = context.peers
        if self._request:
            peers.end(self._request)
            self._request = 0
        self._phase = Phase.COMMITTING
        proposal = self._proposal
        history = (*self._history, self._origin)[-HISTORY_MAX:] if proposal else self._history
        incarnation = self._command.rows.table.incarnation
        commit = Commit(self._ballot, incarnation, self._position, proposal, history)
        body = encode(commit)
        if level is None or not proposal:
            message = peers.message(Verb.PAXOS_COMMIT, body)
            for _, link in self._route.remote:
                link.send(DATA, message)
            if self._route.local:
                context.acceptor.commit(commit, lambda outcome: None)
            if then is not None:
                then(None)
            return
        mutation, _ = decode_mutation(proposal)
        try:
            need = self._route.write_need(level)
        except RequestError as error:
            assert then is not None
            then(error)
            return
        assert then is not None
        operation = WriteOperation(context.writing, mutation, self._route, need, "CAS", then)
        operation.send_as(
            Verb.PAXOS_COMMIT,
            body,
            lambda done: context.acceptor.commit(
                commit, lambda outcome: done(None if isinstance(outcome, bytes) else outcome)
            ),
        )

    # When it doesn't go well

    def _lost_ballot_to_others(self) -> None:
        """No quorum for this ballot."""
        context = self._context
        if self._phase is Phase.PROPOSING and (self._answered or self._refusals < len(self._nodes)):
            # Not everybody refused it, so somebody may have accepted it.
            self._in_doubt = True
        if not self._refusals:
            # Nobody is ahead of us: replicas are gone.
            self._give_up()
            return
        context.contentions += 1
        self._contentions += 1
        if context.peers.now_ms() - self._begun_ms > limits.CAS_TIMEOUT_MS:
            self._give_up()
            return
        if self._request:
            context.peers.end(self._request)
            self._request = 0
        self._waiting = {}
        self._phase = Phase.RESOLVING if self._in_doubt else Phase.PREPARING
        most_ms = min(BACKOFF_MS_MAX, 4 << min(self._contentions, 4))
        context.scheduler.after(1 + context.random.below(most_ms), self.prepare)

    def _give_up(self) -> None:
        """The time is up, or too few replicas answer."""
        if self._phase is Phase.COMMITTING:
            return
        if self._phase in (Phase.PROPOSING, Phase.RESOLVING) and not self._proposed_nothing():
            self._unknown()
            return
        if self._is_read:
            self._end(None, ReadTimeout(self._serial_level, self._answered, self._required, False))
            return
        timeout = WriteTimeout(self._serial_level, self._answered, self._required, "CAS", self._contentions)
        self._end(None, timeout)

    def _proposed_nothing(self) -> bool:
        """What may have been chosen changes nothing: a read, or a condition that failed."""
        decision = self._decision
        return self._is_read or decision is None or decision.mutation is None

    def _unknown(self) -> None:
        if self._proposed_nothing():
            # Whatever became of the empty proposal, it changed nothing: decide anew, or run out of time.
            self._in_doubt = False
            self._phase = Phase.PREPARING
            if self._context.peers.now_ms() - self._begun_ms > limits.CAS_TIMEOUT_MS:
                self._give_up()
            else:
                self.prepare()
            return
        self._context.unknown += 1
        self._end(None, CasWriteUnknown(self._serial_level, self._answered, self._required))

    def _end(self, result: object, error: RequestError | None) -> None:
        if self._request:
            self._context.peers.end(self._request)
            self._request = 0
        self._waiting = {}
        self._phase = Phase.COMMITTING
        done, self._done = self._done, _ignore
        done(result, error)


def _ignore(result: object, error: RequestError | None) -> None:
    """Somebody was answered already."""


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
        ).prepare()

    def _ended(self, result: object, error: RequestError | None) -> None:
        self.is_done = True
        self.error = error
        if error is None:
            assert isinstance(result, Chunk)
            self.chunk = result
        if self.wake is not None:
            self.wake()
