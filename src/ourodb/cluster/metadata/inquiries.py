"""Has this node missed something? Asked before a statement is refused because the schema doesn't have what it names.

A change is acknowledged when all live members have applied it. A node that was down, stopped or cut off at that moment
learns of it a little later, from the epochs in messages and gossip; until then clients that ask it would be told that a
table doesn't exist which another client has made. So a node that doesn't find what a statement names asks the voters
for their epochs first. As soon as a majority of them has answered, everything that was acknowledged before the question
is known to one of those; this node catches up with the highest epoch among the answers, and the statement is tried
once more. Right statements cost nothing by this, wrong ones a round trip.

One round of questions is under way at a time. Whoever comes while it is waits for the next one: the answers may be
older than what he knows.
"""

from __future__ import annotations

from collections.abc import Callable

from ourodb import limits
from ourodb.cluster.metadata.consensus import Consensus
from ourodb.cluster.metadata.messages import AwaitEpoch, encode_body
from ourodb.cluster.metadata.peers import Peers
from ourodb.cluster.raft.leadership import majority
from ourodb.peer.messages import Verb
from ourodb.ports import NodeId, Scheduler

Answered = Callable[[], None]

Live = Callable[[tuple[NodeId, ...]], list[NodeId]]
"""Those of some voters that are alive as far as is known, this node included."""


class Inquiries:
    """Questions of this node."""

    __slots__ = (
        "_asked",
        "_consensus",
        "_heard",
        "_live",
        "_next",
        "_peers",
        "_scheduler",
        "_until_ms",
        "_waiting",
    )

    def __init__(self, consensus: Consensus, peers: Peers, scheduler: Scheduler, live: Live) -> None:
        self._consensus = consensus
        self._peers = peers
        self._scheduler = scheduler
        self._live = live
        self._waiting: list[Answered] = []
        self._next: list[Answered] = []
        self._asked: dict[int, NodeId] = {}
        self._heard: dict[NodeId, int] = {}
        self._until_ms = 0

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def ask(self, done: Answered) -> bool:
        """Whether there is anybody to ask; then ``done`` is called once this node has caught up, or time is up.

        It isn't called before this returns.
        """
        if not self._can_be_answered():
            return False
        if self._waiting:
            self._next.append(done)
        else:
            self._waiting.append(done)
            self._begin()
        return True

    def on_reply(self, sender: NodeId, request: int, epoch: int) -> None:
        """A voter tells its epoch; what this node lacks of it is on its way."""
        if self._asked.pop(request, None) is not None:
            self._heard[sender] = epoch
            self.look()

    def look(self) -> None:
        """End the round if everything has come."""
        consensus = self._consensus
        if not self._waiting:
            return
        voters = consensus.view.voters
        epoch = consensus.view.epoch
        heard = sum(1 for voter in voters if voter == consensus.me or voter in self._heard)
        if heard >= majority(voters) and epoch >= max(self._heard.values(), default=0):
            self._end()

    def tick(self, now_ms: int) -> None:
        """Give up what takes too long; ask those who couldn't be reached before."""
        if self._waiting and now_ms >= self._until_ms:
            self._end()
        elif self._waiting:
            self._ask_voters()

    def stop(self) -> None:
        """Nobody is answered any more."""
        self._waiting, self._next = [], []

    def _can_be_answered(self) -> bool:
        consensus = self._consensus
        voters = consensus.view.voters
        return voters != (consensus.me,) and len(self._live(voters)) >= majority(voters)

    def _begin(self) -> None:
        self._until_ms = self._consensus.now_ms + limits.METADATA_INQUIRY_MS
        self._heard = {}
        self._asked = {}
        self._ask_voters()

    def _ask_voters(self) -> None:
        """Each once; a question that is lost on the way is one of a node that isn't counted on."""
        body = encode_body(AwaitEpoch(0))
        asked = (*self._asked.values(), *self._heard, self._consensus.me)
        for voter in self._consensus.view.voters:
            if voter not in asked:
                request = self._peers.ask(voter, Verb.AWAIT_EPOCH, body)
                if request:
                    self._asked[request] = voter

    def _end(self) -> None:
        waiting, self._waiting, self._next = self._waiting, self._next, []
        if self._waiting:
            self._begin()
        for done in waiting:
            # It may be in the midst of applying an entry.
            self._scheduler.soon(done)
