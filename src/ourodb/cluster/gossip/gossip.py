"""Gossip: what every node knows of every other, and whether it lives.

Once a round a node raises its beat and sends a digest of all that it knows to a few live peers (SYN); each
answers with what is newer on its side (ACK) and gets what is newer on the other (ACK2). So news, heartbeats
above all, double their hearers each round and are everywhere after a few. Who belongs to the ring is not
spread this way: the metadata log decides it, and ``set_members`` tells; states of others are dropped and
rumours of them refused.

**Who lives** is told in ``liveness``. It comes UP only when it is heard directly, so whoever hears a rumour
that something new is known of a node that is DOWN asks it at once. Nodes that are DOWN are asked in turn each
round, too, with a SYN so small that it may cost nothing, and so is whoever has been silent for suspiciously
long, before it is taken for dead; a node that starts, or comes back from a pause, speaks to many at once. At
its start a node holds all others to be DOWN.

**Lies and accidents.** Refused and counted: messages of nodes that aren't members or that say another sender
than their link's, rumours of nodes that aren't members, generations from the future, leaps of beats and
versions that can't be. A rumour about this node itself that is newer than the truth (it was restarted within
the same second, its clock was set back, or somebody lies) can't be ended by refusing it, since others may
believe it: the node takes a greater generation than the rumour's, which overrides it everywhere. And a node whose clock
was ahead when it started, and is right since, takes its generation back once it hears that others know nothing of it:
they would refuse it for as long as it runs.

Everything is a plain call with the time in it; what is to be sent comes back in an ``Output``.

Sources: van Renesse et al. 2008 (see ``state``); Apache Cassandra, ``gms/Gossiper``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, cast

from ourodb.cluster.gossip.liveness import Liveness, Peer
from ourodb.cluster.gossip.messages import (
    Ack,
    Ack2,
    Digest,
    Entry,
    MalformedGossip,
    Message,
    Syn,
    decode,
    encode,
    encoded_bytes,
)
from ourodb.cluster.gossip.state import STOPPING, Delta, NodeState, Value
from ourodb.limits import (
    GENERATION_AHEAD_SECONDS_MAX,
    GOSSIP_BEAT_MS,
    GOSSIP_BURST_MAX,
    GOSSIP_DELTA_BYTES_MAX,
    GOSSIP_DIGEST_NODES_MAX,
    GOSSIP_DOUBTED_PER_ROUND,
    GOSSIP_ENTRIES_PER_ROUND,
    GOSSIP_LEAP_MAX,
    GOSSIP_PEERS_MAX,
    GOSSIP_PROBES_PER_ROUND,
    GOSSIP_ROUND_MS,
    PHI_MAX,
)
from ourodb.ports import NodeId, Random

REFUSALS: Final = (
    "malformed",
    "unknown kind",
    "wrong sender",
    "unknown sender",
    "unknown node",
    "future generation",
    "leap",
    "rumour about me",
)


@dataclass(slots=True)
class Output:
    """What a call wants done, in order: the changes first, then the messages.

    Attributes:
        changes: (node, True when it came UP, False when it went DOWN).
        sends: (node, body), for the urgent lane.
    """

    changes: list[tuple[NodeId, bool]] = field(default_factory=list)
    sends: list[tuple[NodeId, bytes]] = field(default_factory=list)


class Gossip:
    """One node's part.

    Attributes:
        generation: of this process, as others know it; grows when somebody claims a greater one.
        rounds: ticks so far.
        messages_sent, bytes_sent, messages_received, bytes_received: bodies only.
        refusals: reason to how often; each of ``REFUSALS`` is there.
    """

    __slots__ = (
        "_asked_last",
        "_born_ms",
        "_born_s",
        "_generation_max",
        "_is_burst_due",
        "_is_stopping",
        "_liveness",
        "_me",
        "_own",
        "_random",
        "_round_ms",
        "_states",
        "_wall_s",
        "bytes_received",
        "bytes_sent",
        "messages_received",
        "messages_sent",
        "refusals",
        "rounds",
        "states",
    )

    def __init__(
        self,
        me: NodeId,
        generation: int,
        now_ms: int,
        random: Random,
        *,
        round_ms: int = GOSSIP_ROUND_MS,
    ) -> None:
        """A node that has just started.

        Args:
            generation: seconds since the epoch at its start; greater than that of its last run if that is known.
            now_ms: monotonic, as everywhere here.
            round_ms: from one call of ``tick`` to the next.
        """
        self._me = me
        self._own = NodeState.of_new_process(generation)
        self._born_s = generation
        self._born_ms = now_ms
        self._generation_max = generation + GENERATION_AHEAD_SECONDS_MAX
        self._wall_s = 0
        self._random = random
        self._round_ms = round_ms
        self._liveness = Liveness(now_ms, round_ms)
        self._states: dict[NodeId, NodeState] = {me: self._own}
        self.states: Mapping[NodeId, NodeState] = MappingProxyType(self._states)
        self._asked_last = 0
        self._is_burst_due = False
        self._is_stopping = False
        self.rounds = 0
        self.messages_sent = 0
        self.bytes_sent = 0
        self.messages_received = 0
        self.bytes_received = 0
        self.refusals = dict.fromkeys(REFUSALS, 0)

    @property
    def generation(self) -> int:
        return self._own.generation

    def is_up(self, node: NodeId) -> bool:
        """Whether the node is held to live; this one always is, whoever is no member never."""
        peer = self._liveness.peers.get(node)
        return peer.is_up if peer is not None else node == self._me

    def phi(self, node: NodeId, now_ms: int) -> float:
        """Suspicion against the node, in [0, PHI_MAX]; PHI_MAX when it is DOWN or no member."""
        peer = self._liveness.peers.get(node)
        if peer is None:
            return 0.0 if node == self._me else PHI_MAX
        return self._liveness.phi(peer, now_ms)

    def update(self, **changes: Value) -> None:
        """What this node says of itself from now on: ``epoch``, ``load_bytes``, ``hints``, and texts for display.

        It leaves with the next round. Small changes of ``load_bytes`` and ``hints`` are not told.

        Raises:
            OversizedState: it is more than gossip carries; nothing was changed.
        """
        self._own.change(changes)

    def set_members(self, now_ms: int, nodes: Sequence[NodeId]) -> Output:
        """Who belongs to the ring, as of the latest epoch; this node need not be among them yet.

        New members are asked at once. Those who left are forgotten, without a change.
        """
        output = Output()
        self._listen(now_ms)
        others = sorted({*nodes} - {self._me})
        news = self._liveness.set_members(now_ms, others, self._peers_per_round(len(others) + 1))
        self._states.clear()
        for node in sorted((*others, self._me)):
            self._states[node] = self._own if node == self._me else self._liveness.peers[node].state
        self._burst(now_ms, news, output)
        return output

    def tick(self, now_ms: int, wall_us: int = 0) -> Output:
        """One round.

        Args:
            wall_us: this node's clock, microseconds since the epoch, by which generations from the future are
                told; without it, this node's own generation and the time since then serve.
        """
        output = Output()
        self._listen(now_ms)
        if self._is_stopping:
            return output
        self.rounds += 1
        self._beat(now_ms)
        self._wall_s = wall_us // 1_000_000
        expected_s = max(self._born_s + (now_ms - self._born_ms) // 1_000, self._wall_s)
        self._generation_max = expected_s + GENERATION_AHEAD_SECONDS_MAX
        doubted = self._liveness.judge(now_ms, output.changes)
        live = [peer for peer in self._liveness.peers.values() if peer.is_up]
        if self._is_burst_due:
            self._is_burst_due = False
            self._burst(now_ms, live, output)
        else:
            self._exchange(now_ms, self._draw(live, self._peers_per_round(len(self._states))), output)
        for peer in doubted[:GOSSIP_DOUBTED_PER_ROUND]:
            if peer.asked_ms != now_ms:
                self._ask(now_ms, peer, output)
        self._ask_down(now_ms, output)
        return output

    def receive(self, now_ms: int, sender: NodeId, body: bytes) -> Output:
        """A message came over the link to ``sender``.

        Raises:
            MalformedGossip: it is no gossip message; nothing of it was taken.
        """
        self.messages_received += 1
        self.bytes_received += len(body)
        output = Output()
        try:
            message = decode(body)
            if message is None:
                self.refusals["unknown kind"] += 1
                return output
            peer = self._liveness.peers.get(sender)
            if peer is None:
                self.refusals["unknown sender"] += 1
                return output
            if message.sender != sender or (not isinstance(message, Ack2) and message.own.node != sender):
                self.refusals["wrong sender"] += 1
                return output
            self._listen(now_ms)
            rumoured: list[Peer] = []
            if isinstance(message, Syn):
                self._on_syn(now_ms, peer, message, rumoured, output)
            elif isinstance(message, Ack):
                self._on_ack(now_ms, peer, message, rumoured, output)
            else:
                self._take_deltas(now_ms, message.deltas, rumoured, output)
        except (MalformedGossip, ValueError) as error:
            self.refusals["malformed"] += 1
            raise MalformedGossip(f"from node {sender}: {error}") from error
        for news in rumoured[:GOSSIP_BURST_MAX]:
            if not news.is_up and 2 * (now_ms - news.asked_ms) >= self._round_ms:
                self._ask(now_ms, news, output)
        return output

    def mark_seen(self, now_ms: int, node: NodeId) -> None:
        """Some other message came straight from the node: it lives. If it is DOWN, the next round asks it first."""
        peer = self._liveness.peers.get(node)
        if peer is None:
            return
        if peer.is_up:
            peer.window.alive_ms = now_ms
            peer.refused_ms = None
        else:
            peer.is_speaking = True

    def convict(self, now_ms: int, node: NodeId) -> Output:
        """The node's connections are refused or reset: it is asked, and is DOWN unless it speaks within a round.

        May be called for each failed attempt; only the first counts.
        """
        output = Output()
        peer = self._liveness.peers.get(node)
        if peer is not None and peer.is_up and peer.refused_ms is None:
            peer.refused_ms = now_ms
            self._ask(now_ms, peer, output)
        return output

    def connected(self, now_ms: int, node: NodeId) -> Output:
        """There is a connection to the node: if it is DOWN or suspect it is asked at once, rather than in its turn."""
        output = Output()
        peer = self._liveness.peers.get(node)
        if peer is not None and (not peer.is_up or peer.refused_ms is not None):
            self._ask(now_ms, peer, output)
        return output

    def stop(self, now_ms: int) -> Output:
        """This node goes down in order: tell peers, who hold it to be DOWN from now on. It gossips no more."""
        output = Output()
        self._beat(now_ms)
        self._own.change({STOPPING: 1})
        self._is_stopping = True
        live = [peer for peer in self._liveness.peers.values() if peer.is_up]
        for peer in self._draw(live, GOSSIP_BURST_MAX):
            self._ask(now_ms, peer, output)
        return output

    # --- time ------------------------------------------------------------------------------------------------

    def _listen(self, now_ms: int) -> None:
        if self._liveness.listen(now_ms):
            self._is_burst_due = True

    def _beat(self, now_ms: int) -> None:
        self._own.beat = max(self._own.beat + 1, (now_ms - self._born_ms) // GOSSIP_BEAT_MS)

    # --- speaking --------------------------------------------------------------------------------------------

    def _peers_per_round(self, nodes: int) -> int:
        return max(1, min(GOSSIP_PEERS_MAX, GOSSIP_ENTRIES_PER_ROUND // nodes))

    def _draw(self, peers: list[Peer], count: int) -> list[Peer]:
        """So many of them, by chance."""
        peers = list(peers)
        for at in range(min(count, len(peers) - 1)):
            other = at + self._random.below(len(peers) - at)
            peers[at], peers[other] = peers[other], peers[at]
        return peers[:count]

    def _burst(self, now_ms: int, peers: list[Peer], output: Output) -> None:
        """Speak to many at once: a whole exchange with a few, a question to the others."""
        drawn = self._draw(peers, GOSSIP_BURST_MAX)
        whole = self._peers_per_round(len(self._states))
        self._exchange(now_ms, drawn[:whole], output)
        for peer in drawn[whole:]:
            self._ask(now_ms, peer, output)

    def _exchange(self, now_ms: int, peers: list[Peer], output: Output) -> None:
        """Begin a whole exchange."""
        if not peers:
            return
        entries: list[Entry] = [
            (node, state.generation, state.beat, state.version) for node, state in self._states.items()
        ]
        if len(entries) > GOSSIP_DIGEST_NODES_MAX:
            first = self._random.below(len(entries))
            entries = (entries[first:] + entries[:first])[:GOSSIP_DIGEST_NODES_MAX]
        body = encode(Syn(self._me, now_ms, self._own.delta(self._me, 0), Digest.of(entries)))
        for peer in peers:
            peer.asked_ms = now_ms
            self._send(peer.node, body, output)

    def _ask(self, now_ms: int, peer: Peer, output: Output) -> None:
        """Begin an exchange about nobody but the two of us: whether the other is there."""
        peer.asked_ms = now_ms
        entries: list[Entry] = [
            (node, state.generation, state.beat, state.version)
            for node, state in ((self._me, self._own), (peer.node, peer.state))
        ]
        self._say(peer, Syn(self._me, now_ms, self._own.delta(self._me, 0), Digest.of(entries)), output)

    def _ask_down(self, now_ms: int, output: Output) -> None:
        """Ask some of those who are DOWN; those first who were heard, then each in turn."""
        down = [peer for peer in self._liveness.peers.values() if not peer.is_up]
        turn = [peer for peer in down if peer.node > self._asked_last]
        turn += [peer for peer in down if peer.node <= self._asked_last]
        turn.sort(key=lambda peer: not peer.is_speaking)
        for peer in turn[:GOSSIP_PROBES_PER_ROUND]:
            if not peer.is_speaking:
                self._asked_last = peer.node
            peer.is_speaking = False
            if peer.asked_ms != now_ms:
                self._ask(now_ms, peer, output)

    def _say(self, peer: Peer, message: Message, output: Output) -> None:
        self._send(peer.node, encode(message), output)

    def _send(self, node: NodeId, body: bytes, output: Output) -> None:
        self.messages_sent += 1
        self.bytes_sent += len(body)
        output.sends.append((node, body))

    # --- listening -------------------------------------------------------------------------------------------

    def _on_syn(self, now_ms: int, peer: Peer, syn: Syn, rumoured: list[Peer], output: Output) -> None:
        entries = syn.digest.entries()
        if not self._hear(now_ms, peer, syn.own, None, output):
            return
        newer: list[Entry] = []
        wanted: list[Entry] = []
        lacking = self._contradictions(peer, syn.own)
        peers = cast(Mapping[int, Peer], self._liveness.peers)
        for node, generation, beat, version in entries:
            other = peers.get(node)
            if other is None:
                if node == self._me:
                    self._hear_of_me(generation, beat, version)  # The answer says all of us anyhow.
                else:
                    self.refusals["unknown node"] += 1
                continue
            state = other.state
            if generation == state.generation:
                if beat > state.beat:
                    self._take_beat(now_ms, other, beat, rumoured)
                elif beat < state.beat:
                    newer.append((node, generation, state.beat, 0))
                if version > state.version:
                    wanted.append((node, generation, 0, state.version))
                elif version < state.version:
                    lacking.append((node, version))
            elif generation < state.generation:
                lacking.append((node, 0))
            elif generation > self._generation_max:
                self.refusals["future generation"] += 1
            else:
                wanted.append((node, generation, 0, 0))
        ack = Ack(
            self._me,
            syn.asked_ms,
            self._own.delta(self._me, 0),
            Digest.of(newer),
            self._deltas(lacking),
            Digest.of(wanted),
        )
        self._say(peer, ack, output)

    def _on_ack(self, now_ms: int, peer: Peer, ack: Ack, rumoured: list[Peer], output: Output) -> None:
        newer, wanted = ack.newer.entries(), ack.wanted.entries()
        generation = self._own.generation
        if not self._hear(now_ms, peer, ack.own, ack.asked_ms, output):
            return
        for node, of_generation, beat, _ in newer:
            self._hear_beat(now_ms, node, of_generation, beat, rumoured)
        self._take_deltas(now_ms, ack.deltas, rumoured, output)
        lacking = self._contradictions(peer, ack.own)
        for node, of_generation, _, version in wanted:
            state = self._states.get(NodeId(node))
            if state is not None and state.generation >= of_generation:
                lacking.append((node, version if state.generation == of_generation else 0))
        deltas = self._deltas(lacking)
        if deltas:
            self._say(peer, Ack2(self._me, deltas), output)
        if self._own.generation != generation:
            # Until the peer hears what overrides the rumour, it may hold us to be DOWN.
            self._ask(now_ms, peer, output)

    def _contradictions(self, peer: Peer, own: Delta) -> list[tuple[int, int]]:
        """The peer itself, if it doesn't say what is known of it under the same numbers: another process of it had them
        before, and it must hear of that to end the confusion."""
        state = peer.state
        is_same = own.generation == state.generation and own.version == state.version
        return [(peer.node, 0)] if is_same and own.fields != state.fields else []

    def _deltas(self, lacking: list[tuple[int, int]]) -> list[Delta]:
        """What changed of these nodes since these versions, as far as it fits; who goes first is left to chance."""
        if not lacking:
            return []
        first = self._random.below(len(lacking))
        deltas = []
        room_bytes = GOSSIP_DELTA_BYTES_MAX
        for node, since in lacking[first:] + lacking[:first]:
            state = self._states[NodeId(node)]
            if since > state.version:
                continue
            delta = state.delta(node, since)
            room_bytes -= encoded_bytes(delta)
            if room_bytes < 0:
                break
            deltas.append(delta)
        return deltas

    def _hear(self, now_ms: int, peer: Peer, own: Delta, asked_ms: int | None, output: Output) -> bool:
        """What a peer says of itself, and so that it lives.

        Args:
            asked_ms: when we asked, if this is an answer: it lived at that time at least.
        Returns:
            False: it is refused, and all that it says with it.
        """
        if not self._is_possible(peer.state, own.generation, own.beat, own.version):
            return False
        if own.generation < peer.state.generation:
            return True  # An older process, or one that doesn't know yet that its clock was set back.
        is_news = self._merge(now_ms, peer, own, output)
        if peer.state.is_stopping:
            return True
        if is_news:
            lived_ms = now_ms
        elif asked_ms is not None and asked_ms <= now_ms:
            lived_ms = asked_ms
        else:
            return True
        self._liveness.spoke(now_ms, peer, lived_ms, output.changes)
        return True

    def _take_deltas(self, now_ms: int, deltas: list[Delta], rumoured: list[Peer], output: Output) -> None:
        for delta in deltas:
            if delta.node == self._me:
                own = self._own
                is_same = delta.generation == own.generation and delta.version == own.version
                if is_same and not delta.since and delta.fields != own.fields:
                    self._override(delta.generation)
                else:
                    self._hear_of_me(delta.generation, delta.beat, delta.version)
                continue
            peer = self._liveness.peers.get(NodeId(delta.node))
            if peer is None:
                self.refusals["unknown node"] += 1
            elif self._is_possible(peer.state, delta.generation, delta.beat, delta.version):
                if self._merge(now_ms, peer, delta, output) and not peer.is_up:
                    rumoured.append(peer)

    def _merge(self, now_ms: int, peer: Peer, delta: Delta, output: Output) -> bool:
        """Take what is new of a peer, from whomever; it may go DOWN by that, not come UP."""
        state = peer.state
        generation, beat = state.generation, state.beat
        if not state.merge(delta):
            return False
        if state.generation != generation:
            if generation:
                self._liveness.has_new_process(now_ms, peer, output.changes)
        elif state.beat != beat and peer.is_up:
            peer.window.beat(now_ms, state.beat * GOSSIP_BEAT_MS)
        if state.is_stopping and peer.is_up:
            self._liveness.went_down(now_ms, peer, output.changes)
        return True

    def _hear_beat(self, now_ms: int, node: int, generation: int, beat: int, rumoured: list[Peer]) -> None:
        """A rumour of a beat."""
        peer = self._liveness.peers.get(NodeId(node))
        if peer is None:
            if node == self._me:
                self._hear_of_me(generation, beat, 0)
            else:
                self.refusals["unknown node"] += 1
            return
        if generation == peer.state.generation and beat > peer.state.beat:
            self._take_beat(now_ms, peer, beat, rumoured)

    def _take_beat(self, now_ms: int, peer: Peer, beat: int, rumoured: list[Peer]) -> None:
        """A rumour of a greater beat of the process that is known."""
        state = peer.state
        if beat - state.beat > GOSSIP_LEAP_MAX:
            self.refusals["leap"] += 1
            return
        state.beat = beat
        if peer.is_up:
            peer.window.beat(now_ms, beat * GOSSIP_BEAT_MS)
        else:
            rumoured.append(peer)

    def _is_possible(self, state: NodeState, generation: int, beat: int, version: int) -> bool:
        if generation > self._generation_max:
            self.refusals["future generation"] += 1
            return False
        if (
            generation == state.generation
            and max(beat - state.beat, version - state.version) > GOSSIP_LEAP_MAX
        ):
            self.refusals["leap"] += 1
            return False
        return True

    def _hear_of_me(self, generation: int, beat: int, version: int) -> None:
        """A rumour of this node."""
        own = self._own
        if generation > own.generation or (
            generation == own.generation and (beat > own.beat or version > own.version)
        ):
            self._override(generation)
        elif generation < own.generation and 0 < self._wall_s < own.generation - GENERATION_AHEAD_SECONDS_MAX:
            self._come_back(generation)

    def _come_back(self, known: int) -> None:
        """By this node's own clock it started more than a day from now, and somebody knows only an older process."""
        self._own.generation = max(known + 1, self._wall_s)
        self._born_s = 0
        self._generation_max = self._wall_s + GENERATION_AHEAD_SECONDS_MAX
        for peer in self._liveness.peers.values():
            if peer.state.generation > self._generation_max:
                # Its clock was ahead as well; it comes back, too.
                peer.state.forget()

    def _override(self, generation: int) -> None:
        """A rumour of this node isn't true: say everything anew under a greater generation."""
        self.refusals["rumour about me"] += 1
        if generation <= self._generation_max:
            self._own.generation = generation + 1
