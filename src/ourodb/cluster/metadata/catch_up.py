"""How a member that lags catches up, and how others wait for it.

Epochs are seen in the header of each message between nodes, and in gossip. A node that sees a higher one than its own
pulls what it lacks from a live member that is ahead: one request at a time, bounded, asked again of another when no
answer comes. A voter that hears its leader gets the entries anyway, and pulls only when they are late.

``Waiters`` are requests of others that are answered when an epoch has been applied here.
"""

from __future__ import annotations

from dataclasses import dataclass

from ourodb import limits
from ourodb.cluster.metadata.consensus import Consensus
from ourodb.cluster.metadata.entries import decode_snapshot, encode_snapshot
from ourodb.cluster.metadata.messages import AwaitEpoch, Pull, Pulled, decode_body, encode_body
from ourodb.cluster.metadata.peers import Peers
from ourodb.cluster.metadata.view import ClusterView
from ourodb.cluster.raft.messages import Entry
from ourodb.peer.messages import Verb
from ourodb.ports import Link, NodeId


class CatchUp:
    """Pulls entries while others are ahead; serves those who lag."""

    __slots__ = (
        "_asked",
        "_consensus",
        "_epochs",
        "_not_before_ms",
        "_peers",
        "_since_ms",
        "_snapshot",
        "_source",
    )

    def __init__(self, consensus: Consensus, peers: Peers) -> None:
        self._consensus = consensus
        self._peers = peers
        self._epochs: dict[NodeId, int] = {}
        # The pull under way: the number of its request (0: none), of whom, and when the next one may begin.
        self._asked = 0
        self._source = NodeId(0)
        self._not_before_ms = 0
        # Since when this node has been behind without a pause.
        self._since_ms: int | None = None
        self._snapshot: tuple[ClusterView, bytes] | None = None

    @property
    def is_needed(self) -> bool:
        """Whether a live member is ahead."""
        return bool(self._sources(None))

    def epoch_of(self, node: NodeId) -> int:
        """The last epoch that the node is known to have applied."""
        return self._epochs.get(node, 0)

    def on_seen(self, node: NodeId, epoch: int) -> None:
        """The node has applied ``epoch``."""
        if epoch > self._epochs.get(node, 0) and node in self._consensus.view.members:
            self._epochs[node] = epoch
            self.look(self._consensus.now_ms, prefer=node)

    def look(self, now_ms: int, prefer: NodeId | None = None) -> None:
        """Pull, if it is time to.

        Args:
            prefer: a member that has just been heard, so it is alive whatever the failure detector thinks.
        """
        sources = self._sources(prefer)
        if not sources:
            self._since_ms = None
            return
        if self._since_ms is None:
            self._since_ms = now_ms
        if now_ms < self._not_before_ms:
            return
        consensus = self._consensus
        if consensus.hears_leader and now_ms - self._since_ms < limits.METADATA_PULL_GRACE_MS:
            return
        self._pull(now_ms, prefer if prefer in sources else _next(sources, self._source))

    def _sources(self, heard: NodeId | None) -> list[NodeId]:
        """Live members that are ahead, ascending."""
        view, me = self._consensus.view, self._consensus.me
        return [
            node
            for node in sorted(self._epochs)
            if self._epochs[node] > view.epoch
            and node != me
            and node in view.members
            and (node == heard or self._peers.is_up(node))
        ]

    def _pull(self, now_ms: int, source: NodeId) -> None:
        view = self._consensus.view
        term = self._consensus.log.term_at(view.epoch) or 0
        self._source = source
        self._not_before_ms = now_ms + limits.METADATA_PULL_RETRY_MS
        body = encode_body(Pull(view.epoch, term, view.cluster_id, view.recoveries))
        self._asked = self._peers.ask(source, Verb.PULL, body)

    def on_reply(self, sender: NodeId, request: int, body: bytes) -> None:
        """What was asked for has come.

        Raises:
            ProtocolError, StoreDamaged: it can't be read.
        """
        if request != self._asked:
            return
        self._asked = 0
        pulled = decode_body(Pulled, body)
        self._epochs[sender] = pulled.epoch
        if pulled.leader:
            self._consensus.hint_leader(NodeId(pulled.leader))
        if pulled.snapshot:
            self._consensus.take_over(decode_snapshot(pulled.snapshot))
        else:
            self._consensus.learn(pulled.entries)

    def on_progress(self) -> None:
        """Entries were applied: go on at once, if there are more."""
        if not self._asked:
            self._not_before_ms = 0
            self.look(self._consensus.now_ms, prefer=self._source)

    def on_pull(self, link: Link, request: int, body: bytes) -> None:
        """Somebody lags. He need not be a member any more: this is how he gets to know.

        Raises:
            ProtocolError: the request can't be read.
        """
        pull = decode_body(Pull, body)
        view, log = self._consensus.view, self._consensus.log
        leader = self._consensus.leader
        if pull.cluster_id != view.cluster_id or not self._consensus.me:
            self._peers.refuse(link, Verb.PULL, request, "this is another cluster")
            return
        if pull.recoveries == view.recoveries and pull.after >= view.epoch:
            answer = Pulled(view.epoch, leader)
        elif pull.recoveries == view.recoveries and log.term_at(pull.after) == pull.term:
            last = min(view.epoch, pull.after + limits.METADATA_PULL_ENTRIES_MAX)
            entries: list[Entry] = []
            room = limits.METADATA_PULL_BYTES_MAX
            for entry in log.between(pull.after, last):
                room -= len(entry.payload)
                if room < 0 and entries:
                    break
                entries.append(entry)
            answer = Pulled(view.epoch, leader, tuple(entries))
        else:
            answer = Pulled(view.epoch, leader, (), self.snapshot())
        self._peers.answer(link, Verb.PULL, request, encode_body(answer))

    def snapshot(self) -> bytes:
        """The present view for those who start from it; kept, since several may ask."""
        view = self._consensus.view
        if self._snapshot is None or self._snapshot[0] is not view:
            self._snapshot = view, encode_snapshot(self._consensus.snapshot())
        return self._snapshot[1]


def _next(sources: list[NodeId], before: NodeId) -> NodeId:
    """The first one after ``before``, around the circle."""
    return next((node for node in sources if node > before), sources[0])


@dataclass(frozen=True, slots=True)
class _Waiter:
    epoch: int
    link: Link
    request: int
    until_ms: int


class Waiters:
    """Peers that want to know when this node has applied an epoch, and won't forget it."""

    __slots__ = ("_consensus", "_peers", "_waiting")

    def __init__(self, consensus: Consensus, peers: Peers) -> None:
        self._consensus = consensus
        self._peers = peers
        self._waiting: list[_Waiter] = []

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def on_await(self, link: Link, request: int, asked: AwaitEpoch) -> None:
        """Answer now or later; not at all when too many wait, or it takes too long: they ask again."""
        if self._consensus.kept_epoch >= asked.epoch:
            self._answer(link, request)
        elif len(self._waiting) < limits.METADATA_WAITERS_MAX:
            until_ms = self._consensus.now_ms + limits.METADATA_SPREAD_MS
            self._waiting.append(_Waiter(asked.epoch, link, request, until_ms))

    def on_kept(self) -> None:
        """What this node has for certain has grown."""
        if not self._waiting:
            return
        epoch = self._consensus.kept_epoch
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if waiter.epoch <= epoch:
                self._answer(waiter.link, waiter.request)
            else:
                self._waiting.append(waiter)

    def tick(self, now_ms: int) -> None:
        """Forget those that waited too long."""
        self._waiting = [waiter for waiter in self._waiting if now_ms < waiter.until_ms]

    def _answer(self, link: Link, request: int) -> None:
        self._peers.answer(
            link, Verb.AWAIT_EPOCH, request, encode_body(AwaitEpoch(self._consensus.kept_epoch))
        )
