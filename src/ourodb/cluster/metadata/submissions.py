"""Changes on their way: from the node that was asked for one, to the leader, into the log, to every live member.

    submit ─▶ PROPOSING ──── applied here ────▶ SPREADING ──── all live members have it ────▶ done(Applied)
                  │  ▲                              └───────── ten seconds have passed ─────▶ done(Applied, warnings)
                  │  └─ sent again, to another leader
                  ├─ refused by the log, or by this node's schema ─▶ done(that error)
                  └─ no majority in time ─▶ done(Unavailable), or done(InDoubt) if it may still happen

A proposal keeps its id however often it is sent, and the log carries it out once. It has failed for certain only when
nobody can have appended it: each one that was asked said so. Otherwise it is in doubt, and is told so.

``Proposals`` is the leader's side: it appends what members propose, and answers when that is applied.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ourodb import limits
from ourodb.cluster.metadata.catch_up import CatchUp
from ourodb.cluster.metadata.commands import (
    PROPOSAL_ID_BYTES,
    ChangeSchema,
    Command,
    Proposal,
    decode_proposal,
    encode_proposal,
)
from ourodb.cluster.metadata.consensus import Consensus
from ourodb.cluster.metadata.evolution import Outcome, carry_out, check_change
from ourodb.cluster.metadata.messages import AwaitEpoch, Propose, Settled, decode_body, encode_body
from ourodb.cluster.metadata.peers import Peers
from ourodb.cluster.metadata.refusals import decode_refusal, encode_refusal
from ourodb.cluster.metadata.view import ClusterView
from ourodb.cluster.raft.leadership import majority
from ourodb.cluster.raft.messages import Entry
from ourodb.cql.wire.codes import Consistency
from ourodb.errors import (
    InvalidRequest,
    OuroError,
    Overloaded,
    RequestError,
    StoreDamaged,
    Unavailable,
    WriteTimeout,
)
from ourodb.peer.messages import Verb
from ourodb.ports import Link, NodeId, Random
from ourodb.schema.changes import Change, SchemaChangeEvent, encode_change

_QUORUM: Final = int(Consistency.QUORUM)
_NOBODY: Final = NodeId(0)


@dataclass(frozen=True, slots=True)
class Applied:
    """A change is decided, on disk and in force on this node.

    Attributes:
        events: what clients are told, the statement's own event last; empty for a change that changed nothing, for
            TRUNCATE, and for a change of the ring.
        warnings: sentences for the client: which live nodes haven't applied the change yet.
    """

    view: ClusterView
    events: tuple[SchemaChangeEvent, ...]
    warnings: tuple[str, ...] = ()


Done = Callable[[Applied | OuroError], None]


class InDoubt(WriteTimeout):
    """A change that nobody confirmed in time. It may have happened, or may happen yet; drivers don't repeat it."""

    def __init__(self, required: int, message: str) -> None:
        super().__init__(_QUORUM, 0, required, "SIMPLE")
        self.message = message
        self.args = (message,)


@dataclass(slots=True)
class _Submission:
    """One change.

    Attributes:
        what: for messages; "Changing the schema".
        events: what the change leads to here, by the view when it was submitted; told when its entry was jumped over.
        proposed_term: this node's, when it led and appended it; 0 if it never did.
        may_be_in: somebody may have appended it, and said so.
        asked: the numbers of the PROPOSEs that have no answer yet; each may have been heeded.
        target: whom the last one went to.
        redirects: answers that named another leader, since it was last tried by the clock.
        is_settled: a leader said that it was applied.
        epoch: of the entry; 0 while it isn't applied here.
        waits_for: members that haven't told that they applied ``epoch``, and the number of their AWAIT_EPOCH.
    """

    payload: bytes
    what: str
    events: tuple[SchemaChangeEvent, ...]
    spreads: bool
    done: Done
    begun_ms: int
    until_ms: int
    next_ms: int = 0
    proposed_term: int = 0
    may_be_in: bool = False
    asked: set[int] = field(default_factory=set)
    target: NodeId = _NOBODY
    redirects: int = 0
    is_settled: bool = False
    epoch: int = 0
    waits_for: dict[NodeId, int] = field(default_factory=dict)


class Submissions:
    """This node's changes."""

    __slots__ = ("_begun_ms", "_catch_up", "_consensus", "_peers", "_proposing", "_random", "_spreading")

    def __init__(self, consensus: Consensus, peers: Peers, catch_up: CatchUp, random: Random) -> None:
        self._consensus = consensus
        self._peers = peers
        self._catch_up = catch_up
        self._random = random
        self._begun_ms = consensus.now_ms
        self._proposing: dict[bytes, _Submission] = {}
        self._spreading: list[_Submission] = []

    def __bool__(self) -> bool:
        return bool(self._proposing) or bool(self._spreading)

    # What is asked of this node

    def submit_change(self, change: Change, done: Done) -> None:
        """See ``Metadata.submit``."""
        error = self._cannot_begin()
        if error is not None:
            done(error)
            return
        view = self._consensus.view
        try:
            after, events = check_change(view, change)
        except RequestError as refusal:
            done(refusal)
            return
        self._begin(
            ChangeSchema(encode_change(change)), "Changing the schema", after is view, events, True, done
        )

    def submit_command(self, command: Command, done: Done, *, spreads: bool = True) -> None:
        """See ``Metadata.submit_member``.

        Args:
            spreads: wait for the other members.
        """
        error = self._cannot_begin()
        if error is not None:
            done(error)
            return
        view = self._consensus.view
        try:
            after, events = carry_out(view, command)
        except RequestError as refusal:
            done(refusal)
            return
        self._begin(command, "Changing the ring", after is view, events, spreads, done)

    def _cannot_begin(self) -> OuroError | None:
        consensus = self._consensus
        if consensus.fault is not None:
            return consensus.fault
        if not consensus.me:
            return InvalidRequest("this node isn't a member of a cluster")
        if consensus.refusal is not None and self._is_alone:
            return consensus.refusal
        if len(self._proposing) + len(self._spreading) >= limits.METADATA_SUBMISSIONS_MAX:
            return Overloaded(
                f"{limits.METADATA_SUBMISSIONS_MAX} changes of the schema or the ring wait on this node already"
            )
        return None

    @property
    def _is_alone(self) -> bool:
        return self._consensus.voters == (self._consensus.me,)

    def _begin(
        self,
        command: Command,
        what: str,
        is_idle: bool,
        events: tuple[SchemaChangeEvent, ...],
        spreads: bool,
        done: Done,
    ) -> None:
        view, now_ms = self._consensus.view, self._consensus.now_ms
        proposal = Proposal(self._random.bytes(PROPOSAL_ID_BYTES), view.epoch, command)
        payload = b"" if is_idle else encode_proposal(proposal)
        if len(payload) > limits.RAFT_ENTRY_BYTES_MAX:
            done(InvalidRequest(f"a change of {len(payload)} bytes is too large"))
            return
        until_ms = now_ms + limits.METADATA_SUBMIT_MS
        submission = _Submission(payload, what, events, spreads, done, now_ms, until_ms)
        if is_idle:
            # Nothing to do, but others may not know yet that it is so.
            self._spread(submission, ())
            return
        self._proposing[proposal.id] = submission
        self._try(submission, now_ms)

    # To the leader

    def _try(self, submission: _Submission, now_ms: int) -> None:
        """Propose to whoever leads, or ask around."""
        consensus = self._consensus
        submission.next_ms = now_ms + limits.METADATA_RETRY_MS
        if consensus.is_leader:
            if submission.proposed_term != consensus.term and consensus.propose(submission.payload):
                submission.proposed_term = consensus.term
            return
        target = self._next_target(submission)
        if target:
            submission.target = target
            request = self._peers.ask(target, Verb.PROPOSE, encode_body(Propose(submission.payload)))
            if request:
                submission.asked.add(request)

    def _next_target(self, submission: _Submission) -> NodeId:
        """The leader; when nobody knows one, or it doesn't answer, the live voters in turn.

        Never one that is taken for dead: nobody could tell afterwards whether it heard.
        """
        consensus = self._consensus
        leader = consensus.leader
        if leader not in (_NOBODY, consensus.me, submission.target):
            if consensus.hears_leader or self._may_be_up(leader):
                return leader
        live = [voter for voter in consensus.view.voters if voter != consensus.me and self._may_be_up(voter)]
        if not live:
            return _NOBODY
        return next((voter for voter in live if voter > submission.target), live[0])

    def on_leader(self) -> None:
        """There is another leader: ask it at once."""
        now_ms = self._consensus.now_ms
        if self._consensus.leader:
            for submission in list(self._proposing.values()):
                if not submission.is_settled:
                    submission.target = _NOBODY
                    self._try(submission, now_ms)

    def on_propose_reply(self, sender: NodeId, request: int, body: bytes) -> None:
        """Whoever was asked says that it isn't the leader, or what became of the proposal.

        Raises:
            ProtocolError, StoreDamaged: the answer can't be read.
        """
        reply = decode_body(Settled, body)
        if reply.epoch:
            self._catch_up.on_seen(sender, reply.epoch)
            self._consensus.note_committed(reply.epoch, reply.term)
        found = next(
            ((key, submission) for key, submission in self._proposing.items() if request in submission.asked),
            None,
        )
        if found is None:
            return
        key, submission = found
        submission.asked.discard(request)
        submission.may_be_in = submission.may_be_in or reply.may_be_in
        if reply.refusal:
            del self._proposing[key]
            submission.done(decode_refusal(reply.refusal))
        elif reply.epoch:
            # Decided: it only has to come here, too.
            submission.is_settled = True
            submission.until_ms = submission.begun_ms + limits.METADATA_SPREAD_MS
        elif reply.leader and reply.leader not in (sender, self._consensus.me):
            self._consensus.hint_leader(NodeId(reply.leader))
            submission.redirects += 1
            if submission.redirects <= limits.METADATA_REDIRECTS_MAX:
                submission.target = _NOBODY
                self._try(submission, self._consensus.now_ms)

    # Into the log

    def on_applied(self, entry: Entry, outcome: Outcome) -> None:
        """An entry is in force here: perhaps one of ours."""
        submission = self._proposing.pop(outcome.proposal, None) if outcome.proposal else None
        if submission is None:
            return
        if outcome.error is not None:
            submission.done(outcome.error)
        else:
            self._spread(submission, outcome.events)

    def on_restored(self) -> None:
        """Entries were jumped over: ours may be among them."""
        recent = self._consensus.view.recent
        for key in [key for key in self._proposing if key in recent]:
            submission = self._proposing.pop(key)
            if recent[key]:
                submission.done(decode_refusal(recent[key]))
            else:
                self._spread(submission, submission.events)

    def on_refused(self, error: OuroError) -> None:
        """The store takes no writes. What only this node could have decided is decided: it didn't happen."""
        if self._consensus.fault is None and not self._is_alone:
            return
        proposing, self._proposing = self._proposing, {}
        for submission in proposing.values():
            submission.done(error)

    # To everyone

    def _spread(self, submission: _Submission, events: tuple[SchemaChangeEvent, ...]) -> None:
        consensus, now_ms = self._consensus, self._consensus.now_ms
        submission.events = events
        submission.epoch = consensus.view.epoch
        submission.until_ms = now_ms + limits.METADATA_SPREAD_MS
        if submission.spreads:
            for node in consensus.view.members:
                if node == consensus.me:
                    is_missing = consensus.kept_epoch < submission.epoch
                else:
                    is_missing = self._peers.is_up(node)
                if is_missing:
                    submission.waits_for[node] = 0
        if not submission.waits_for:
            self._finish(submission)
            return
        self._spreading.append(submission)
        self._ask_all(submission, now_ms)

    def _ask_all(self, submission: _Submission, now_ms: int) -> None:
        submission.next_ms = now_ms + limits.METADATA_SPREAD_RETRY_MS
        term = self._consensus.log.term_at(submission.epoch) or 0
        body = encode_body(AwaitEpoch(submission.epoch, term))
        for node in [node for node in submission.waits_for if node != self._consensus.me]:
            submission.waits_for[node] = self._peers.ask(node, Verb.AWAIT_EPOCH, body)

    def on_kept(self, node: NodeId, epoch: int) -> None:
        """The node has applied ``epoch`` and won't forget it."""
        for submission in [s for s in self._spreading if node in s.waits_for and s.epoch <= epoch]:
            self._is_there(submission, node)

    def _is_there(self, submission: _Submission, node: NodeId) -> None:
        del submission.waits_for[node]
        if not submission.waits_for:
            self._spreading.remove(submission)
            self._finish(submission)

    def _finish(self, submission: _Submission) -> None:
        members = self._consensus.view.members
        lag = [
            f"node {node} ({members[node].peer[0]}:{members[node].peer[1]})"
            for node in submission.waits_for
            if node in members
        ]
        warnings = (
            (f"Not every live node has applied the change yet; still to come: {', '.join(lag)}.",)
            if lag
            else ()
        )
        submission.done(Applied(self._consensus.view, submission.events, warnings))

    # Time

    def tick(self, now_ms: int) -> None:
        """Send again what got no answer; give up what took too long."""
        for key in list(self._proposing):
            submission = self._proposing.get(key)
            if submission is None:
                continue
            if now_ms >= submission.until_ms or self._is_hopeless(submission, now_ms):
                del self._proposing[key]
                self._give_up(submission)
            elif now_ms >= submission.next_ms and not submission.is_settled:
                submission.redirects = 0
                self._try(submission, now_ms)
        for submission in list(self._spreading):
            for node in [node for node in submission.waits_for if self._is_excused(node)]:
                self._is_there(submission, node)
            if not submission.waits_for:
                continue
            if now_ms >= submission.until_ms:
                self._spreading.remove(submission)
                self._finish(submission)
            elif now_ms >= submission.next_ms:
                self._ask_all(submission, now_ms)

    def _is_excused(self, node: NodeId) -> bool:
        """Whether a node isn't waited for any more: it went down, or isn't a member now."""
        consensus = self._consensus
        return node not in consensus.view.members or not (node == consensus.me or self._peers.is_up(node))

    def _is_hopeless(self, submission: _Submission, now_ms: int) -> bool:
        """Whether it is known already that nobody can decide."""
        if now_ms - submission.begun_ms < limits.METADATA_NO_MAJORITY_MS or submission.is_settled:
            return False
        voters = self._consensus.view.voters
        return not self.live((self._consensus.leader,)) and len(self.live(voters)) < majority(voters)

    def live(self, voters: tuple[NodeId, ...]) -> list[NodeId]:
        """Those of the voters that are alive as far as is known, this node included."""
        return [voter for voter in voters if voter == self._consensus.me or self._may_be_up(voter)]

    def _may_be_up(self, node: NodeId) -> bool:
        """Alive as far as is known; a node that has just begun to run knows nothing yet."""
        is_new = self._consensus.now_ms - self._begun_ms < limits.METADATA_UNKNOWN_MS
        return self._peers.is_up(node) or (is_new and node in self._consensus.view.members)

    def _give_up(self, submission: _Submission) -> None:
        if submission.is_settled:
            me = self._consensus.view.members[self._consensus.me]
            warning = (
                f"The change is decided, but node {me.id} ({me.peer[0]}:{me.peer[1]}), which was asked for it, hasn't"
                " applied it yet."
            )
            submission.done(Applied(self._consensus.view, submission.events, (warning,)))
            return
        voters = self._consensus.view.voters
        needed, live = majority(voters), self.live(voters)
        names = ", ".join(map(str, voters))
        if submission.may_be_in or submission.proposed_term or submission.asked:
            submission.done(
                InDoubt(
                    needed,
                    f"{submission.what} is in doubt: no majority of the metadata log's voters (nodes {names}) confirmed"
                    " it in time. It may have happened, or may happen yet; look before you try again.",
                )
            )
            return
        submission.done(
            Unavailable(
                _QUORUM,
                needed,
                len(live),
                f"{submission.what} is impossible now: the metadata log has no leader that can be reached from here. It"
                f" takes {needed} of its voters (nodes {names}); {len(live)} seem to be alive. Nothing was changed;"
                " reads and writes go on.",
            )
        )


class Proposals:
    """What members proposed to this node while it led."""

    __slots__ = ("_consensus", "_peers", "_waiting")

    def __init__(self, consensus: Consensus, peers: Peers) -> None:
        self._consensus = consensus
        self._peers = peers
        # By proposal: whom to tell, and the term in which it was appended.
        self._waiting: dict[bytes, tuple[Link, int, int]] = {}

    def on_propose(self, link: Link, request: int, body: bytes) -> None:
        """A member proposes.

        Raises:
            ProtocolError: the request can't be read.
        """
        payload = decode_body(Propose, body).payload
        consensus = self._consensus
        if not consensus.is_leader:
            self._answer(link, request, Settled(leader=consensus.leader))
            return
        try:
            proposal = decode_proposal(payload)
        except StoreDamaged as error:
            refusal = InvalidRequest(f"the metadata log's leader doesn't know this change: {error}")
            self._answer(link, request, Settled(refusal=encode_refusal(refusal)))
            return
        settled = consensus.view.recent.get(proposal.id)
        if settled is not None:
            self._answer(link, request, self._settled(settled))
            return
        before = self._waiting.get(proposal.id)
        if before is None and len(self._waiting) >= limits.METADATA_WAITERS_MAX:
            self._answer(link, request, Settled())
            return
        self._waiting[proposal.id] = (link, request, consensus.term)
        is_in = before is not None and before[2] == consensus.term
        if not is_in and not consensus.propose(payload):
            # It is handing over, or full: let it be tried again.
            self._waiting.pop(proposal.id, None)
            self._answer(link, request, Settled(may_be_in=before is not None))

    def on_applied(self, entry: Entry, outcome: Outcome) -> None:
        """An entry is in force here: perhaps a member waits for it."""
        waiting = self._waiting.pop(outcome.proposal, None) if outcome.proposal else None
        if waiting is not None:
            refusal = b"" if outcome.error is None else encode_refusal(outcome.error)
            self._answer(waiting[0], waiting[1], self._settled(refusal))

    def on_leader(self) -> None:
        """Once this node leads no more, the members find out what became of their proposals elsewhere."""
        if not self._consensus.is_leader and self._waiting:
            waiting, self._waiting = self._waiting, {}
            for link, request, _ in waiting.values():
                self._answer(link, request, Settled(leader=self._consensus.leader, may_be_in=True))

    def _settled(self, refusal: bytes) -> Settled:
        epoch = self._consensus.view.epoch
        term = self._consensus.log.term_at(epoch) or 0
        return Settled(epoch, term, refusal, self._consensus.leader)

    def _answer(self, link: Link, request: int, settled: Settled) -> None:
        self._peers.answer(link, Verb.PROPOSE, request, encode_body(settled))
