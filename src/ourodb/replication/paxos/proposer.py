"""The coordinator's side of Paxos: one statement, from its first ballot to its answer.

=============  ==========================================================================================
PREPARING      a quorum promises the ballot and says what it has accepted, committed, and stored
FINISHING      an earlier proposal may have been chosen: it is proposed again under our ballot, then committed
REFRESHING     some of the quorum missed the last commit: they get it before anything new is proposed
PROPOSING      a quorum accepts what the statement decided on what was read; b"" where its condition failed, so
               that a refusal has its place in the order too
COMMITTING     the replicas write it; the answer waits for as many as the statement's consistency level asks for
=============  ==========================================================================================

**What has been chosen stays seen.** Before anything is proposed, all that was chosen before is written on a quorum:
FINISHING and REFRESHING see to it. So whatever quorum is asked next, one of it holds each of these writes, and the
highest commit that one of it knows names them all. Without REFRESHING a write that reached a single replica would be
read once, and then be hidden by a later ballot in a quorum without that replica (CASSANDRA-5062).

**Empty proposals** give reads and refusals their place in the order: once a quorum has accepted one, no older proposal
can be chosen any more. There is nothing to write, so they are neither committed nor finished for others; an empty
proposal that was accepted last says that all before it is settled (CASSANDRA-12126).

**A proposal that lost its ballot** while somebody may have accepted it can still be finished by others, under ballots
of theirs, until a quorum has accepted something later. So the proposer remembers each that it made. When its next
ballot finds one of them accepted last, it finishes that; when the history of what was chosen names one, that one was
chosen; when that history goes on without it, it is dead. A statement is decided anew only after a quorum that has
promised a higher ballot knows of neither, and what is decided then is chosen only together with the death of all before
it. Where the history doesn't reach back far enough, or time runs out, the client is told that the outcome is unknown;
it is never told "not applied", or an error that means it, of something that may have been, or may yet be, applied.

**Where rows move** meanwhile, others vote: a message goes out only to those who vote as of now, and says as of when
that is, so that whoever knows better refuses it. What waited, for its turn or for answers, and finds the voters changed
begins again with a new ballot among these. What has been chosen is committed to all who hold it by then.

**What is old is settled.** A proposal or a commit that is older than deletions are kept is neither finished nor
brought to those who lack it: what it wrote may have been deleted since, and the deletion forgotten.

**One at a time.** Statements about one partition that came to the same coordinator would only take the ballots from
each other, so they form a queue there, and one of them is under way. Those of other coordinators contend with it.

LOCAL_SERIAL takes its quorums from one data centre. As in Cassandra it is no protection against statements on the same
partition that use SERIAL, or LOCAL_SERIAL in another one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Final, NamedTuple

import msgspec

from ourodb import limits
from ourodb.cql.wire.codes import Consistency
from ourodb.errors import (
    UNDONE,
    CasWriteUnknown,
    OuroError,
    ReadFailure,
    ReadTimeout,
    RequestError,
    ServerError,
    Unavailable,
    WriteFailure,
    WriteTimeout,
)
from ourodb.peer.messages import FAILED, Verb
from ourodb.ports import DATA, NodeId
from ourodb.replication.consistency import unavailable
from ourodb.replication.coordinator.write import WriteOperation
from ourodb.replication.messages import Reason, client_code, decode_failure, reason_of
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
    settled_before,
)
from ourodb.replication.paxos.context import PaxosContext
from ourodb.replication.peers import RequestClass
from ourodb.replication.replica.reads import SlicesCommand
from ourodb.replication.replica.writes import as_request_error
from ourodb.replication.routes import Route
from ourodb.storage.chunk import Chunk, cut, decode_chunk, merge_partitions, shortest
from ourodb.storage.mutation import Mutation, decode_mutation
from ourodb.storage.record import CorruptRecord

MICROS: Final = 1_000_000

BACKOFF_MS_MAX: Final = 50


class Phase(IntEnum):
    """Where a statement is."""

    PREPARING = 0
    FINISHING = 1
    REFRESHING = 2
    PROPOSING = 3
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


class Proposer:
    """One conditional statement, or one serial read.

    Attributes:
        started_ms: see ``Operation``.
    """

    __slots__ = (
        "_answered",
        "_ballot",
        "_begun_ms",
        "_chunk",
        "_command",
        "_contentions",
        "_context",
        "_decide",
        "_decision",
        "_done",
        "_electorates",
        "_failures",
        "_history",
        "_is_over",
        "_is_read",
        "_key",
        "_level",
        "_nodes",
        "_origin",
        "_phase",
        "_position",
        "_promises",
        "_proposal",
        "_proposed",
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
            Overloaded: too much is under way.
        """
        self.started_ms = 0
        self._context = context
        self._route = route
        self._command = command
        self._position = command.position
        self._key = command.rows.table.incarnation.to_bytes(4, "big") + command.position
        self._decide = decide
        self._done = done
        self._serial_level = serial_level
        self._level = level
        self._is_read = is_read
        self._is_over = False
        self._elect()
        if not is_read:
            route.write_need(level)
        context.peers.check_room()
        self._begun_ms = context.peers.now_ms()
        self._phase = Phase.PREPARING
        self._ballot: Ballot = NO_BALLOT
        self._request = 0
        self._waiting: dict[NodeId, None] = {}
        self._answered: list[NodeId] = []
        self._failures: dict[NodeId, tuple[int, str]] = {}
        """(reason, text) of those who can't do what they are asked in this phase."""
        self._promises: dict[NodeId, Promise] = {}
        self._refused_by: Ballot = NO_BALLOT
        self._refusals = 0
        self._chunk: Chunk | None = None
        """What the quorum has stored."""
        self._proposal = b""
        self._origin: Ballot = NO_BALLOT
        """Of what is proposed now."""
        self._decision: Decision | None = None
        """That it came of, if it is ours."""
        self._proposed: dict[Ballot, tuple[bytes, Decision]] = {}
        """What we proposed and somebody may have accepted, by its origin; ascending."""
        self._history: tuple[Ballot, ...] = ()
        self._contentions = 0

    def start(self) -> None:
        """Begin as soon as no other statement about this partition is under way here.

        Raises:
            Overloaded: too many wait already.
        """
        self._context.turns.take(self._key, self._begin)

    def _begin(self) -> None:
        """Those who came before are done."""
        if self._is_late:
            self._give_up()
        else:
            self.prepare()

    @property
    def _is_late(self) -> bool:
        return self._context.peers.now_ms() - self._begun_ms > limits.CAS_TIMEOUT_MS

    def _elect(self) -> None:
        """Who votes: the replicas, and while the range changes hands also those who will be, each set by itself.

        Raises:
            Unavailable: too few are up.
        """
        local = self._serial_level == Consistency.LOCAL_SERIAL
        self._electorates = self._route.electorates(local_only=local)
        self._required = self._electorates[0].required
        for one in self._electorates:
            if len(one.live) < one.required:
                raise unavailable(self._serial_level, one.required, len(one.live))
        self._nodes = list(dict.fromkeys(node for one in self._electorates for node in one.live))

    def _is_quorum(self, nodes: Sequence[NodeId]) -> bool:
        return all(sum([node in one.live for node in nodes]) >= one.required for one in self._electorates)

    # Phases

    def prepare(self) -> None:
        """Begin with a new ballot, higher than any that was heard of."""
        context = self._context
        try:
            if self._has_moved():
                self._route = context.writing.routing.present(self._route, self._position)
                self._elect()
        except RequestError:
            self._give_up()
            return
        self._phase = Phase.PREPARING
        self._ballot = context.next_ballot(self._refused_by)
        request = Prepare(
            self._ballot,
            self._command.rows.table.incarnation,
            self._position,
            self._command.body(digest=False),
            not self._is_read,
        )
        self._promises = {}
        self._ask(
            self._nodes,
            Verb.PAXOS_PREPARE,
            encode(request),
            lambda answer: context.acceptor.prepare(request, answer),
        )

    def _propose(self, proposal: bytes, origin: Ballot, phase: Phase) -> None:
        context = self._context
        self._phase = phase
        self._proposal = proposal
        self._origin = origin
        request = Propose(
            self._ballot, self._command.rows.table.incarnation, self._position, proposal, origin
        )
        self._ask(
            self._nodes,
            Verb.PAXOS_PROPOSE,
            encode(request),
            lambda answer: context.acceptor.propose(request, answer),
        )

    def _refresh(self, lagging: Sequence[NodeId], commit: Commit) -> None:
        context = self._context
        self._phase = Phase.REFRESHING
        self._ask(
            lagging,
            Verb.PAXOS_COMMIT,
            encode(commit),
            lambda answer: context.acceptor.commit(commit, answer),
        )

    def _ask(
        self,
        nodes: Sequence[NodeId],
        verb: Verb,
        body: bytes,
        ask_here: Callable[[Callable[[bytes | RequestError], None]], None],
    ) -> None:
        """Send one phase's message to some of those who vote, if these are still they."""
        peers = self._context.peers
        if self._has_moved():
            if self._origin == self._ballot:
                # Nobody has it yet.
                self._proposed.pop(self._ballot, None)
            self._try_again()
            return
        if self._request:
            peers.end(self._request)
        self._answered = []
        self._refusals = 0
        self._failures = {}
        self._waiting = dict.fromkeys(nodes)
        request = self._request = peers.begin(RequestClass.PAXOS, self)
        message = peers.message(verb, body, request, epoch=self._route.epoch)
        here = False
        for node in nodes:
            if node == peers.me:
                here = True
                continue
            link = peers.links.get(node)
            if link is None or not link.send(DATA, message):
                peers.later(lambda node=node, request=request: self._lost(node, request))  # type: ignore[misc]
        if here:
            ask_here(lambda outcome: self._answered_here(request, outcome))

    def _has_moved(self) -> bool:
        """Whether others vote now. If not, who votes is as of now."""
        try:
            now = self._context.writing.routing.present(self._route, self._position)
        except RequestError:
            return True
        if not now.has_nodes_of(self._route):
            return True
        self._route = now
        return False

    def _answered_here(self, request: int, outcome: bytes | RequestError) -> None:
        if request == self._request:
            if isinstance(outcome, bytes):
                self.on_reply(self._context.peers.me, 0, outcome)
            else:
                self._failed(self._context.peers.me, reason_of(outcome), str(outcome))

    # The operation

    def on_reply(self, node: NodeId, flags: int, body: bytes) -> bool:
        if node not in self._waiting:
            return False
        if flags & FAILED:
            self._failed(node, *decode_failure(body))
            return False
        del self._waiting[node]
        try:
            if self._phase is Phase.PREPARING:
                self._on_promise(node, decode_promise(body))
            elif self._phase is Phase.REFRESHING:
                self._on_refreshed()
            else:
                self._on_accepted(node, decode_accepted(body).promised)
        except (msgspec.DecodeError, CorruptRecord):
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

    def _failed(self, node: NodeId, reason: int, text: str) -> None:
        self._waiting.pop(node, None)
        if reason == Reason.COORDINATOR_BEHIND:
            # Whoever else votes now: a new ballot, once this node knows.
            self._try_again()
            return
        self._failures[node] = reason, text
        self._check_possible()

    def _check_possible(self) -> None:
        """Somebody won't answer, or refused: can a quorum still be had?"""
        if self._phase is Phase.REFRESHING:
            # Others may do without those who lag.
            self._try_again()
        elif not self._is_quorum(self._answered) and not self._is_quorum([*self._answered, *self._waiting]):
            self._lost_ballot()

    # Prepare

    def _on_promise(self, node: NodeId, promise: Promise) -> None:
        if promise.promised != self._ballot:
            self._refused(promise.promised)
            return
        self._promises[node] = promise
        self._answered.append(node)
        if self._is_quorum(self._answered):
            self._waiting = {}
            self._promised()

    def _refused(self, promised: Ballot) -> None:
        self._refused_by = max(self._refused_by, promised)
        self._refusals += 1
        self._check_possible()

    def _promised(self) -> None:
        promises = self._promises
        newest = max(promises.values(), key=lambda promise: promise.accepted)
        latest = max(promises.values(), key=lambda promise: (promise.committed, promise.accepted))
        history = self._history = latest.history
        if self._proposed:
            chosen = next((origin for origin in history if origin in self._proposed), None)
            if chosen is not None:
                self._chosen_elsewhere(*self._proposed[chosen])
                return
            if len(history) >= HISTORY_MAX and history[0] > next(iter(self._proposed)):
                self._unknown()
                return
            # What was chosen under a later ballot has killed those that it doesn't name.
            self._proposed = {
                origin: ours for origin, ours in self._proposed.items() if origin > latest.committed
            }
        lagging = [node for node, promise in promises.items() if promise.committed < latest.committed]
        oldest = settled_before(self._ballot, self._command.rows.use.gc_grace_s)
        if max(newest.origin, latest.committed) < oldest:
            lagging = []
        elif newest.accepted > latest.committed and newest.origin not in history:
            if newest.proposal:
                ours = self._proposed.get(newest.origin)
                self._decision = None if ours is None else ours[1]
                phase = Phase.FINISHING if ours is None else Phase.PROPOSING
                self._propose(newest.proposal, newest.origin, phase)
                return
            # An empty one: whatever was chosen before it is on a quorum.
            lagging = []
        # Else what was accepted last is what was committed last, maybe once more: two that finish it at the same time
        # would else do so for ever.
        missed = newest.proposal if lagging else None
        try:
            chunks = [decode_chunk(promise.chunk) for promise in promises.values()]
            if missed:
                # Who gains the range may know of a commit before it has the rows.
                chunks.append(Chunk([decode_mutation(missed)[0]], None))
            self._chunk = self._merged(chunks)
        except CorruptRecord as error:
            self._refuse(ServerError(str(error)))
            return
        if missed:
            incarnation = self._command.rows.table.incarnation
            commit = Commit(latest.committed, incarnation, self._position, missed, history)
            self._refresh(lagging, commit)
        else:
            self._decide_now()

    def _on_refreshed(self) -> None:
        if not self._waiting:
            self._decide_now()

    def _decide_now(self) -> None:
        assert self._chunk is not None
        try:
            decision = self._decide(self._chunk, self._ballot[0])
        except Exception as error:
            self._refuse(as_request_error(error))
            return
        self._decision = decision
        proposal = b"" if decision.mutation is None else decision.mutation.encode()
        if proposal:
            self._proposed[self._ballot] = proposal, decision
        self._propose(proposal, self._ballot, Phase.PROPOSING)

    def _refuse(self, error: RequestError) -> None:
        """The statement can't be carried out."""
        if not self._proposed:
            self._end(None, error)
            return
        # What we proposed before must be dead before we say so.
        self._decision = Decision(None, error)
        self._propose(b"", self._ballot, Phase.PROPOSING)

    def _merged(self, chunks: Sequence[Chunk]) -> Chunk:
        reverse = self._command.reverse
        end = shortest(chunks, reverse=reverse)
        held = [partition for chunk in chunks for partition in cut(chunk, end, reverse=reverse)]
        return Chunk([merge_partitions(held)] if held else [], end)

    # Propose

    def _on_accepted(self, node: NodeId, promised: Ballot) -> None:
        if promised != self._ballot:
            self._refused(promised)
            return
        self._answered.append(node)
        if self._is_quorum(self._answered):
            self._waiting = {}
            self._chosen()

    def _chosen(self) -> None:
        decision = self._decision
        if self._phase is Phase.FINISHING:
            # What others proposed must be on a quorum before it is read again.
            local = self._serial_level == Consistency.LOCAL_SERIAL
            self._commit(Consistency.LOCAL_QUORUM if local else Consistency.QUORUM, self._finished)
            return
        assert decision is not None
        if not self._proposal:
            error = decision.result if isinstance(decision.result, RequestError) else None
            self._end(decision.result if error is None else None, error)
        else:
            self._commit(self._level, self._committed)

    def _committed(self, error: RequestError | None) -> None:
        decision = self._decision
        assert decision is not None
        # An error: it is chosen, and will be written; only not by as many as were asked for in time.
        if isinstance(error, UNDONE):
            error = WriteTimeout(self._level, 0, 1, "CAS")
        self._end(decision.result if error is None else None, error)

    def _finished(self, error: RequestError | None) -> None:
        if error is None and not self._is_late:
            self.prepare()
        else:
            self._phase = Phase.FINISHING
            self._give_up()

    def _chosen_elsewhere(self, proposal: bytes, decision: Decision) -> None:
        """Ours was chosen, and committed by somebody else: on as many replicas as he wanted, not as we do."""
        self._decision = decision
        self._stop_asking()
        self._phase = Phase.COMMITTING
        try:
            operation = self._operation(proposal, self._level, self._committed)
        except OuroError as error:
            self._committed(as_request_error(error))
            return
        operation.start(self._context.clock.wall_us() // MICROS)

    # Commit

    def _commit(self, level: int, then: Callable[[RequestError | None], None]) -> None:
        """Have all replicas write what was chosen.

        Args:
            level: how many must have before ``then`` is called.
        """
        context = self._context
        self._stop_asking()
        self._phase = Phase.COMMITTING
        proposal = self._proposal
        try:
            operation = self._operation(proposal, level, then)
        except OuroError as error:
            then(as_request_error(error))
            return
        history = self._history
        if self._origin not in history:
            history = (*history, self._origin)[-HISTORY_MAX:]
        incarnation = self._command.rows.table.incarnation
        commit = Commit(self._ballot, incarnation, self._position, proposal, history)
        operation.send_as(
            Verb.PAXOS_COMMIT,
            encode(commit),
            lambda done: context.acceptor.commit(
                commit, lambda outcome: done(None if isinstance(outcome, bytes) else outcome)
            ),
        )

    def _operation(
        self, proposal: bytes, level: int, then: Callable[[RequestError | None], None]
    ) -> WriteOperation:
        """The write of what was chosen. Where the level can't be had, whoever is up gets it all the same, and the
        others a hint.

        Raises:
            OuroError: it can't even begin.
        """
        writing = self._context.writing
        mutation, _ = decode_mutation(proposal)
        route = writing.routing.present(self._route, self._position)
        try:
            need, done = route.write_need(level), then
        except Unavailable as unavailable:
            unmet = WriteTimeout(level, 0, unavailable.required, "CAS")
            need, done = route.write_need(Consistency.ANY), lambda error: then(unmet)
        return WriteOperation(writing, mutation, route, need, "CAS", done)

    # When it doesn't go well

    def _lost_ballot(self) -> None:
        """No quorum for this ballot."""
        if (
            self._phase is Phase.PROPOSING
            and self._refusals == len(self._nodes)
            and self._origin == self._ballot
        ):
            # Everybody has refused it, so nobody will ever accept it.
            self._proposed.pop(self._origin, None)
        if not self._refusals:
            # Nobody is ahead of us: replicas are gone.
            self._give_up()
            return
        self._context.contentions += 1
        self._contentions += 1
        self._try_again()

    def _try_again(self) -> None:
        """With a new ballot, a little later."""
        context = self._context
        if self._is_late:
            self._give_up()
            return
        self._stop_asking()
        self._phase = Phase.PREPARING
        most_ms = min(BACKOFF_MS_MAX, 4 << min(self._contentions, 4))
        context.scheduler.after(1 + context.random.below(most_ms), self.prepare)

    def _give_up(self) -> None:
        """The time is up, or too few replicas answer."""
        if self._proposed:
            self._unknown()
        elif self._failures:
            self._end(None, self._failure())
        elif self._is_read:
            self._end(None, ReadTimeout(self._serial_level, len(self._answered), self._required, False))
        else:
            timeout = WriteTimeout(
                self._serial_level, len(self._answered), self._required, "CAS", self._contentions
            )
            self._end(None, timeout)

    def _failure(self) -> RequestError:
        """Replicas can't do what they are asked; nothing of ours was proposed."""
        peers = self._context.peers
        reasons = {
            peers.packed_address(node): client_code(reason) for node, (reason, _) in self._failures.items()
        }
        message = next(text for _, text in self._failures.values()) or None
        level, received, required = self._serial_level, len(self._answered), self._required
        if self._is_read:
            return ReadFailure(level, received, required, reasons, False, message)
        return WriteFailure(level, received, required, reasons, "CAS", message)

    def _unknown(self) -> None:
        self._context.unknown += 1
        self._end(None, CasWriteUnknown(self._serial_level, len(self._answered), self._required))

    def _stop_asking(self) -> None:
        if self._request:
            self._context.peers.end(self._request)
            self._request = 0
        self._waiting = {}

    def _end(self, result: object, error: RequestError | None) -> None:
        self._stop_asking()
        self._phase = Phase.COMMITTING
        if not self._is_over:
            self._is_over = True
            self._context.turns.leave(self._key)
            self._done(result, error)
