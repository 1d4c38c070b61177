"""Who is UP and who is DOWN, as this node sees it.

A peer goes DOWN

- when phi passes ``PHI_DOWN`` and it doesn't answer: after three to four rounds of silence where heartbeats are
  regular;
- when the transport says that its connections are refused or reset and it doesn't speak to us within a round
  although it is asked: meanwhile rumours don't vouch for it;
- when it says that it stops in order;
- when it is heard to have a new generation: its old process is gone.

**Nobody is taken for dead unasked.** In a large ring news of a node come by rumour, some rounds late. A death is
certain only after ten rounds among a thousand nodes, and news that one lives after all takes rounds, too: whoever
went by rumours alone would take a node for dead that has just woken from a pause of such a length. So from
``PHI_SUSPECT`` on a silent node is asked itself, each round, and it is DOWN only when it was asked and has not
answered for half a round. Questions wait in front of a process that stands still; when it wakes it answers all who
had begun to doubt, and for those who doubt later an answer takes no longer than a message. There is a round between
the two thresholds at least, so the question delays no conviction, and where rounds are too irregular for that, by
one round. It costs a few hundred bytes for each node that is doubted.

It comes UP only when it is heard *directly*: by a message that says something new, or by an answer to a SYN
that was sent after it went down. So a rumour that lags behind can't bring a dead node back for a moment, and
a node that others hear but we can't reach doesn't flap.

**A pause of our own** (a stopped process, a busy machine) looks from here as if everybody else had been
silent. It shows in the time between two events, which is no more than a round. What is more is not counted as
silence, and for one round nobody goes DOWN, since the messages of meanwhile may still wait to be read; but
not again and again, or a node that is always slow would never see a death. What else is overdue by then is
asked for, as always.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ourodb.cluster.gossip.phi import ArrivalWindow, expected_silence_ms
from ourodb.cluster.gossip.state import NodeState
from ourodb.limits import GOSSIP_BEAT_MS, LOCAL_GRACE_ROUNDS, LOCAL_PAUSE_ROUNDS, PHI_DOWN, PHI_MAX
from ourodb.ports import NodeId

NEVER_MS: Final = -(1 << 62)
Changes = list[tuple[NodeId, bool]]
"""(node, True when it came UP, False when it went DOWN), in order."""


@dataclass(slots=True)
class Peer:
    """Another member.

    Attributes:
        down_ms: since when it is DOWN.
        refused_ms: since when its connections are refused without a word from it.
        asked_ms: when it was last sent a SYN.
        is_speaking: it is DOWN, yet sends messages that are no gossip.
    """

    node: NodeId
    state: NodeState
    window: ArrivalWindow
    down_ms: int
    is_up: bool = False
    refused_ms: int | None = None
    asked_ms: int = NEVER_MS
    is_speaking: bool = False


class Liveness:
    """The peers of one node.

    Attributes:
        peers: by id, in order.
    """

    __slots__ = ("_expected_ms", "_grace_until_ms", "_no_grace_until_ms", "_now_ms", "_round_ms", "peers")

    def __init__(self, now_ms: int, round_ms: int) -> None:
        self.peers: dict[NodeId, Peer] = {}
        self._now_ms = now_ms
        self._round_ms = round_ms
        self._expected_ms = round_ms
        self._grace_until_ms = NEVER_MS
        self._no_grace_until_ms = NEVER_MS

    def phi(self, peer: Peer, now_ms: int) -> float:
        return peer.window.phi(now_ms) if peer.is_up else PHI_MAX

    def set_members(self, now_ms: int, nodes: list[NodeId], peers_per_round: int) -> list[Peer]:
        """Keep these, in this order, and forget all others.

        Returns:
            Those who are new; they are DOWN.
        """
        self._expected_ms = expected_silence_ms(self._round_ms, len(nodes) + 1, peers_per_round)
        known = self.peers
        self.peers = {}
        news = []
        for node in nodes:
            peer = known.get(node)
            if peer is None:
                peer = Peer(node, NodeState(), self._window(now_ms), now_ms)
                news.append(peer)
            self.peers[node] = peer
        return news

    def listen(self, now_ms: int) -> bool:
        """There is an event: whether this process was paused since the last one."""
        gap_ms = now_ms - self._now_ms
        self._now_ms = now_ms
        if gap_ms <= LOCAL_PAUSE_ROUNDS * self._round_ms:
            return False
        pause_ms = gap_ms - self._round_ms
        for peer in self.peers.values():
            peer.window.excuse(now_ms, pause_ms)
            if peer.refused_ms is not None:
                peer.refused_ms = min(now_ms, peer.refused_ms + pause_ms)
        if now_ms >= self._no_grace_until_ms:
            self._grace_until_ms = now_ms + self._round_ms
            self._no_grace_until_ms = now_ms + LOCAL_GRACE_ROUNDS * self._round_ms
        return True

    def judge(self, now_ms: int, changes: Changes) -> list[Peer]:
        """Once a round: who is DOWN by now?

        Returns:
            Those who are UP, and to be asked whether they live; those first who have waited longest.
        """
        is_grace = now_ms < self._grace_until_ms
        asked_until_ms = now_ms - self._round_ms // 2
        doubted = []
        for peer in self.peers.values():
            if not peer.is_up:
                continue
            suspicion = peer.window.suspicion(now_ms)
            is_down = suspicion > PHI_DOWN and peer.window.alive_ms < peer.asked_ms <= asked_until_ms
            if peer.refused_ms is not None:
                is_down = is_down or now_ms - peer.refused_ms >= self._round_ms
            if is_down and not is_grace:
                self.went_down(now_ms, peer, changes)
            elif suspicion or peer.refused_ms is not None:
                doubted.append(peer)
        doubted.sort(key=lambda peer: peer.asked_ms)
        return doubted

    def has_new_process(self, now_ms: int, peer: Peer, changes: Changes) -> None:
        """Its state is of a new generation: the process that we knew is gone."""
        if peer.is_up:
            self.went_down(now_ms, peer, changes)
        peer.window = self._window(now_ms)

    def spoke(self, now_ms: int, peer: Peer, lived_ms: int, changes: Changes) -> None:
        """A message straight from it shows that it was alive at ``lived_ms``."""
        if peer.is_up:
            peer.window.alive_ms = max(peer.window.alive_ms, lived_ms)
            peer.refused_ms = None
        elif lived_ms >= peer.down_ms:
            peer.is_up = True
            peer.is_speaking = False
            peer.window.resume(now_ms, peer.state.beat * GOSSIP_BEAT_MS)
            changes.append((peer.node, True))

    def went_down(self, now_ms: int, peer: Peer, changes: Changes) -> None:
        peer.is_up = False
        peer.is_speaking = False
        peer.refused_ms = None
        peer.down_ms = now_ms
        changes.append((peer.node, False))

    def _window(self, now_ms: int) -> ArrivalWindow:
        return ArrivalWindow(now_ms, self._round_ms, self._expected_ms)
