"""The replica's side of Paxos.

What is promised or accepted is on disk before it is answered for, under either durability. A commit applies its
mutation, and then marks the ballot: a replica that says that it has seen a commit has its data. Seen twice, or late,
it does no harm.

State is kept in METADATA under ``paxos/ | incarnation | position``: it dies with the table's incarnation and
moves with the partition's range.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from ourodb import limits
from ourodb.errors import RequestError
from ourodb.peer.messages import Verb
from ourodb.ports import Clock, Link, NodeId, Store, Write
from ourodb.replication.messages import encode_failure
from ourodb.replication.paxos.ballots import (
    HISTORY_MAX,
    Accepted,
    Ballot,
    Commit,
    PaxosState,
    Prepare,
    Promise,
    Propose,
    decode_commit,
    decode_prepare,
    decode_propose,
    decode_state,
    encode,
    merge_states,
    settled_before,
)
from ourodb.replication.peers import Peers
from ourodb.replication.replica.reads import SlicesCommand, decode_command
from ourodb.replication.replica.replica import Handler, Replica
from ourodb.replication.replica.writes import Writes
from ourodb.storage.chunk import Chunk, read_slices
from ourodb.storage.clearing import clear
from ourodb.storage.families import METADATA, PAXOS
from ourodb.storage.mutation import Mutation, decode_mutation
from ourodb.storage.row import Wait
from ourodb.storage.rows import Rows

MICROS: Final = 1_000_000

Answer = Callable[[bytes | RequestError], None]
"""Called with the reply's body, or the reason why there is none."""


class Acceptor:
    """Of all partitions of one node."""

    def __init__(
        self, rows: Rows, store: Store, writes: Writes, peers: Peers, clock: Clock, replica: Replica
    ) -> None:
        self._rows = rows
        self._store = store
        self._writes = writes
        self._peers = peers
        self._clock = clock
        self._replica = replica

    def handlers(self) -> dict[int, Handler]:
        """By verb."""
        return {
            Verb.PAXOS_PREPARE: self._on_prepare,
            Verb.PAXOS_PROPOSE: self._on_propose,
            Verb.PAXOS_COMMIT: self._on_commit,
        }

    def prepare(self, request: Prepare, answer: Answer) -> None:
        """Promise a ballot, and read as of that moment."""
        reply = b""

        def step() -> Wait | None:
            nonlocal reply
            self._rows.check_open()
            key = _key(request.incarnation, request.position)
            state = self._load(key)
            if request.ballot[0] <= state.promised[0] and request.ballot != state.promised:
                reply = encode(Promise(state.promised))
                return None
            chunk = _read(request, self._rows)
            if isinstance(chunk, Wait):
                return chunk
            state.promised = request.ballot
            self._store.apply(((METADATA, key, encode(state)),))
            reply = encode(
                Promise(
                    request.ballot,
                    state.accepted,
                    state.proposal,
                    state.committed,
                    chunk.encode(),
                    state.origin,
                    state.history,
                )
            )
            return None

        self._run(step, lambda: reply, answer)

    def propose(self, request: Propose, answer: Answer) -> None:
        """Accept a proposal, unless a higher ballot was promised."""
        reply = b""

        def step() -> None:
            nonlocal reply
            self._rows.check_open()
            self._rows.known(request.incarnation)
            key = _key(request.incarnation, request.position)
            state = self._load(key)
            if not _may_accept(request.ballot, state):
                reply = encode(Accepted(max(state.promised, state.committed)))
                return
            state.promised = state.accepted = request.ballot
            state.proposal = request.proposal
            state.origin = request.origin
            self._store.apply(((METADATA, key, encode(state)),))
            reply = encode(Accepted(request.ballot))

        self._run(step, lambda: reply, answer)

    def commit(self, request: Commit, answer: Answer, again: Callable[[], None] | None = None) -> None:
        """Write what was agreed; ``again`` as of ``Writes.write``."""

        def step() -> Wait | None:
            self._rows.check_open()
            key = _key(request.incarnation, request.position)
            state = self._load(key)
            if request.proposal:
                mutation, _ = decode_mutation(request.proposal)
                wait = self._rows.apply(mutation, self._clock.wall_us() // MICROS)
                if wait is not None:
                    return wait
            if request.ballot > state.committed:
                _mark(state, request)
                self._store.apply(((METADATA, key, encode(state)),))
            return None

        self._run(step, lambda: b"", answer, again)

    def decide_alone(
        self,
        incarnation: int,
        position: bytes,
        ballot_above: Callable[[Ballot], Ballot],
        decide: Callable[[int], Mutation | Wait | None],
    ) -> Wait | None:
        """A whole round in one step, where this node is the only replica: a step of ``Writes.run_once``.

        Others may coordinate statements about the same partition; so it goes by the same ballots.

        Args:
            ballot_above: a ballot that nobody ever had, higher than another one.
            decide: given the timestamp; what is to be written, or None.
        """
        self._rows.check_open()
        now_s = self._clock.wall_us() // MICROS
        key = _key(incarnation, position)
        state = self._load(key)
        ballot = ballot_above(state.promised)
        oldest = settled_before(ballot, self._rows.known(incarnation).use.gc_grace_s)
        if state.proposal and state.accepted > state.committed and state.origin >= oldest:
            # Accepted by the only replica, it is chosen.
            mutation, _ = decode_mutation(state.proposal)
            wait = self._rows.apply(mutation, now_s)
            if wait is not None:
                return wait
            history = _with(state.history, state.origin)
            _mark(state, Commit(state.accepted, incarnation, position, state.proposal, history))
        decided = decide(ballot[0])
        if isinstance(decided, Wait):
            return decided
        if decided is None:
            state.promised = state.accepted = state.origin = ballot
            state.proposal = b""
        else:
            wait = self._rows.apply(decided, now_s)
            if wait is not None:
                return wait
            _mark(
                state, Commit(ballot, incarnation, position, decided.encode(), _with(state.history, ballot))
            )
        self._store.apply(((METADATA, key, encode(state)),))
        return None

    # Rows on the move

    def states(self, incarnation: int, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """(position, state) of the partitions in [start, end) of which there is any, in order; for a node that gains
        them.
        """
        prefix = _key(incarnation, b"")
        first = prefix + start
        last = (prefix[:-4] + (incarnation + 1).to_bytes(4, "big")) if end is None else prefix + end
        for key, value in self._store.scan(METADATA, first, last):
            yield key[len(prefix) :], value

    def take_over(self, incarnation: int, states: Sequence[tuple[bytes, bytes]]) -> None:
        """Know what other replicas know, besides what this node was told itself. Called in a step of ``Writes.run``."""
        writes: list[Write] = []
        for position, value in states:
            key = _key(incarnation, position)
            merged = merge_states(self._load(key), decode_state(value))
            writes.append((METADATA, key, encode(merged)))
        self._store.apply(writes)

    def forget(self, incarnation: int, start: bytes, end: bytes | None) -> None:
        """Drop what is known of partitions that this node holds no more."""
        prefix = _key(incarnation, b"")
        last = (prefix[:-4] + (incarnation + 1).to_bytes(4, "big")) if end is None else prefix + end
        clear(self._store, METADATA, prefix + start, last)

    def _run(
        self,
        step: Callable[[], Wait | None],
        reply: Callable[[], bytes],
        answer: Answer,
        again: Callable[[], None] | None = None,
    ) -> None:
        done = lambda error: answer(reply() if error is None else error)  # noqa: E731
        self._writes.run(step, done, sync=True, again=again)

    def _load(self, key: bytes) -> PaxosState:
        # A scan, because it never answers LATER.
        found = next((value for _, value in self._store.scan(METADATA, key, key + b"\x00")), None)
        return PaxosState() if found is None else decode_state(found)

    # Messages

    def _on_prepare(self, link: Link, node: NodeId, request: int, epoch: int, body: bytes) -> None:
        prepare = decode_prepare(body)
        answer = self._answer(link, Verb.PAXOS_PREPARE, request)
        again = lambda: self._on_prepare(link, node, request, epoch, body)  # noqa: E731
        if self._replica.knows(prepare.incarnation, epoch, again, answer, prepare.position):
            self.prepare(prepare, answer)

    def _on_propose(self, link: Link, node: NodeId, request: int, epoch: int, body: bytes) -> None:
        propose = decode_propose(body)
        answer = self._answer(link, Verb.PAXOS_PROPOSE, request)
        again = lambda: self._on_propose(link, node, request, epoch, body)  # noqa: E731
        if self._replica.knows(propose.incarnation, epoch, again, answer, propose.position):
            self.propose(propose, answer)

    def _on_commit(self, link: Link, node: NodeId, request: int, epoch: int, body: bytes) -> None:
        commit = decode_commit(body)
        answer = self._answer(link, Verb.PAXOS_COMMIT, request)
        again = lambda: self._on_commit(link, node, request, epoch, body)  # noqa: E731
        if self._replica.knows(commit.incarnation, epoch, again, answer, commit.position):
            self.commit(commit, answer, again)

    def _answer(self, link: Link, verb: Verb, request: int) -> Callable[[bytes | Exception | None], None]:
        def answer(outcome: bytes | Exception | None) -> None:
            if isinstance(outcome, bytes):
                self._peers.reply(link, verb, request, outcome)
            elif outcome is not None:
                self._peers.fail(link, verb, request, encode_failure(outcome))

        return answer


def _read(request: Prepare, rows: Rows) -> Chunk | Wait:
    """What a proposer wants to know."""
    command, _ = decode_command(Verb.READ_SLICES, request.read, rows)
    if not request.is_whole or not isinstance(command, SlicesCommand):
        return command.run()
    return read_slices(
        command.rows,
        command.position,
        command.slices,
        reverse=command.reverse,
        now_s=command.now_s,
        rows_max=command.rows_max,
        bytes_max=limits.CAS_READ_BYTES_MAX,
        keys_max=limits.CAS_READ_KEYS_MAX,
    )


def _mark(state: PaxosState, commit: Commit) -> None:
    """A commit was seen that is newer than all before."""
    state.committed = commit.ballot
    state.history = commit.history
    state.promised = max(state.promised, commit.ballot)
    if state.accepted <= commit.ballot:
        state.accepted = commit.ballot
        state.proposal = commit.proposal
        state.origin = commit.history[-1] if commit.history else commit.ballot


def _with(history: tuple[Ballot, ...], origin: Ballot) -> tuple[Ballot, ...]:
    return history if origin in history else (*history, origin)[-HISTORY_MAX:]


def _may_accept(ballot: Ballot, state: PaxosState) -> bool:
    """Ballots promised later have other microseconds, so an equal one is this very ballot's."""
    return ballot >= state.promised and ballot > state.committed


def _key(incarnation: int, position: bytes) -> bytes:
    return b"%b%b%b" % (PAXOS, incarnation.to_bytes(4, "big"), position)
