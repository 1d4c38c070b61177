"""What a leader knows of the others, and what it tells them. It ends with the leadership.

Of each peer the leader knows up to where their logs are the same (``match``) and guesses what to send next. A wrong
guess is refused with a hint, and the next one is better by a whole term at least. There is at most one message with
entries under way to a peer; what is proposed meanwhile goes with the next one. A heartbeat forgets what is under way
and sends it anew, so nothing else need notice losses. What a peer lacks may be no longer kept: then it gets the
snapshot, and heartbeats without consequence until it has it.

Check-quorum: a leader that hasn't heard a majority for an election timeout gives up, since by then the others may have
another one, and whoever waits for it had better know. Source: Ongaro's thesis, section 6.2; etcd raft.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ourodb import limits
from ourodb.cluster.raft.log import Log
from ourodb.cluster.raft.messages import Append, AppendReply, InstallSnapshot, Message, TimeoutNow
from ourodb.ports import NodeId


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds.

    Attributes:
        election_ms: a follower campaigns after [1, 2) of it, by chance, without a leader.
        heartbeat_ms: less than half of it.
    """

    election_ms: int = limits.RAFT_ELECTION_MS
    heartbeat_ms: int = limits.RAFT_HEARTBEAT_MS

    def __post_init__(self) -> None:
        assert 0 < 2 * self.heartbeat_ms < self.election_ms


@dataclass(slots=True)
class Peer:
    """One of the others, as the leader sees it.

    Attributes:
        next: index of the first entry to send; always beyond ``match``.
        heard_ms: when it last answered; at first, when the leader began to count on it.
        match: its log is the leader's up to here.
        told: the commit index that it has been sent and can act upon.
        is_awaited: entries or a snapshot are under way.
        snapshot_due_ms: when a snapshot may be sent (again).
    """

    next: int
    heard_ms: int
    match: int = 0
    told: int = 0
    is_awaited: bool = False
    snapshot_due_ms: int | None = None


def majority(voters: tuple[NodeId, ...]) -> int:
    """How many of them decide."""
    return len(voters) // 2 + 1


class Leadership:
    """One term's. See the module.

    Attributes:
        peers: all voters but the leader itself.
        leaving: the voter that an entry not yet committed removes.
        heartbeat_at_ms: when ``beat`` is due.
        transfer_to: whom leadership is being handed to.
    """

    __slots__ = (
        "_log",
        "_me",
        "_send",
        "_term",
        "_timing",
        "_transfer_until_ms",
        "heartbeat_at_ms",
        "leaving",
        "peers",
        "transfer_to",
    )

    def __init__(
        self,
        me: NodeId,
        term: int,
        log: Log,
        timing: Timing,
        now_ms: int,
        send: Callable[[NodeId, Message], None],
    ) -> None:
        self._me = me
        self._term = term
        self._log = log
        self._timing = timing
        self._send = send
        self._transfer_until_ms = now_ms
        self.heartbeat_at_ms = now_ms + timing.heartbeat_ms
        self.leaving: tuple[NodeId, Peer] | None = None
        self.transfer_to: NodeId | None = None
        self.peers = {voter: Peer(log.last_index + 1, now_ms) for voter in log.voters if voter != me}

    # --- quorums

    def majority_match(self) -> int:
        """The highest index that a majority of the voters has; the leader counts what it appended at once."""
        matches = [
            self._log.last_index if voter == self._me else self.peers[voter].match
            for voter in self._log.voters
        ]
        matches.sort(reverse=True)
        return matches[majority(self._log.voters) - 1]

    def hears_majority(self, now_ms: int) -> bool:
        """A majority answered within the last election timeout."""
        heard = sum(
            voter == self._me or now_ms - self.peers[voter].heard_ms < self._timing.election_ms
            for voter in self._log.voters
        )
        return heard >= majority(self._log.voters)

    # --- voters

    def voters_changed(self, now_ms: int) -> None:
        """The log has just got an entry that adds or removes one voter."""
        if not self.peers:
            self.heartbeat_at_ms = now_ms + self._timing.heartbeat_ms
        for voter in self._log.voters:
            if voter != self._me and voter not in self.peers:
                self.peers[voter] = Peer(self._log.last_index, now_ms)
        for voter in list(self.peers):
            if voter not in self._log.voters:
                self.leaving = voter, self.peers.pop(voter)

    def voters_committed(self, commit: int) -> None:
        """Tell the one who was removed, once and if it isn't far behind, so that it doesn't campaign."""
        if self.leaving is not None:
            voter, peer = self.leaving
            self.leaving = None
            if self._log.term_at(peer.next - 1) is not None:
                self._send_append(voter, peer, commit)

    # --- transfer

    def transfer(self, now_ms: int, to: NodeId, commit: int) -> None:
        """Hand leadership to a peer as soon as it has all entries; try for an election timeout."""
        self.transfer_to = to
        self._transfer_until_ms = now_ms + self._timing.election_ms
        self._hand_over()
        self.replicate(now_ms, commit)

    def abdicate(self) -> None:
        """The leader isn't a voter any more: whoever has most campaigns at once."""
        best = max(self._log.voters, key=lambda voter: self.peers[voter].match)
        self._send(best, TimeoutNow(self._term))

    def _hand_over(self) -> None:
        if self.transfer_to is not None and self.peers[self.transfer_to].match == self._log.last_index:
            self._send(self.transfer_to, TimeoutNow(self._term))

    # --- replication

    def beat(self, now_ms: int, commit: int) -> None:
        """Say to everyone that the leader is alive, and again what may have been lost."""
        if self.transfer_to is not None and now_ms >= self._transfer_until_ms:
            self.transfer_to = None
        self.heartbeat_at_ms = now_ms + self._timing.heartbeat_ms
        for to, peer in self.peers.items():
            peer.is_awaited = False
            self._tell(now_ms, to, peer, commit)

    def replicate(self, now_ms: int, commit: int) -> None:
        """Send to everyone what is new for him."""
        for to, peer in self.peers.items():
            is_news = peer.next <= self._log.last_index or peer.told < min(commit, peer.match)
            if is_news and not peer.is_awaited:
                self._tell(now_ms, to, peer, commit)

    def on_append_reply(self, now_ms: int, sender: NodeId, reply: AppendReply) -> None:
        """Learn how far the sender is; ``replicate`` goes on from there."""
        peer = self.peers.get(sender)
        if peer is None:
            return
        peer.heard_ms = now_ms
        if reply.is_accepted:
            self._matched(peer, reply.index)
        elif reply.index == peer.next - 1 > peer.match:
            # Anything else answers an old message.
            peer.next = max(
                self._log.last_at_most(reply.conflict_index, reply.conflict_term) + 1, peer.match + 1
            )
            peer.is_awaited = False
        if sender == self.transfer_to:
            self._hand_over()

    def on_snapshot_reply(self, now_ms: int, sender: NodeId, index: int) -> None:
        """As ``on_append_reply``."""
        peer = self.peers.get(sender)
        if peer is not None:
            peer.heard_ms = now_ms
            self._matched(peer, index)

    def _matched(self, peer: Peer, index: int) -> None:
        assert index <= self._log.last_index, f"a follower has entry {index}, the leader has not"
        if index > peer.match:
            peer.match = index
            peer.next = index + 1
            peer.is_awaited = False
            peer.snapshot_due_ms = None

    def _tell(self, now_ms: int, to: NodeId, peer: Peer, commit: int) -> None:
        if self._log.term_at(peer.next - 1) is not None:
            self._send_append(to, peer, commit)
            return
        snapshot = self._log.snapshot
        assert snapshot is not None, "entries are dropped for a snapshot only"
        peer.is_awaited = True
        if peer.snapshot_due_ms is None or now_ms >= peer.snapshot_due_ms:
            peer.snapshot_due_ms = now_ms + self._timing.election_ms
            self._send(to, InstallSnapshot(self._term, snapshot))
        else:
            self._send(to, Append(self._term, 0, 0, (), 0))

    def _send_append(self, to: NodeId, peer: Peer, commit: int) -> None:
        prev_index = peer.next - 1
        prev_term = self._log.term_at(prev_index)
        assert prev_term is not None
        entries = self._log.batch(peer.next)
        peer.is_awaited = bool(entries)
        peer.told = max(peer.told, min(commit, prev_index + len(entries)))
        self._send(to, Append(self._term, prev_index, prev_term, entries, commit))
