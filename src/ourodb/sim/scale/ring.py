"""A ring of any size of which only the gossip is real.

A thousand whole nodes are too much for one machine, and what doesn't scale in them, if anything, is what each
must know of all others. So each node here is one ``cluster.gossip.Gossip``, as production has it, with a clock of
its own that drifts and a stream of draws of its own, on the simulator's virtual time. What production's node does
around it is done here in a few lines: a round is a ``tick``, what is to be sent becomes a frame as the urgent
lane would send it, and after the latency of a data centre's network the other end receives it.

A message is lost whole, which is worse than what TCP makes of a lost packet. A process that is paused takes what
has arrived meanwhile when it wakes, in order, and only then its overdue round. Nothing is ever refused: a dead
node's machine is gone too, and answers nothing.

Nodes have run for up to half a year when the ring begins, and have changed what they say of themselves many
times: the numbers in digests are as wide as they get. Their load goes on to grow, so that each has news about
once a minute.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ourodb.cluster.gossip.gossip import Gossip, Output
from ourodb.cluster.gossip.state import APPROXIMATE_PARTS
from ourodb.limits import GOSSIP_ROUND_MS
from ourodb.peer.frames import FrameEncoder
from ourodb.peer.messages import HEADER, Verb
from ourodb.ports import URGENT, NodeId
from ourodb.sim.chance import Chance
from ourodb.sim.clock import MILLION, SimClock
from ourodb.sim.loop import Loop
from ourodb.sim.network import LAN
from ourodb.sim.tasks import MS, S

DRIFT_PPM_MAX: Final = 200
AGE_SECONDS_MAX: Final = 180 * 86_400
CHANGES_MAX: Final = 500
CHANGES_OF_FIRST: Final = 70_000
"""What nodes, and the first of them, have said of themselves before: versions need more than two bytes by that."""
LOAD_BYTES: Final = 1_000_000_000_000
LOAD_GROWTH_PARTS: Final = 4_000
"""A node's load grows by one part in so many each round."""
EPOCH: Final = 1_000
ADDRESS: Final = "192.168.100.100:7000"
ROUND_NS: Final = GOSSIP_ROUND_MS * MS


class Seat:
    """One node: its process, and its machine's clock.

    Attributes:
        gossip: None when it is dead.
        is_paused: what happens to it meanwhile is in ``waiting``.
        bytes_sent, bytes_received: of whole frames.
        messages_sent: how many.
    """

    __slots__ = (
        "bytes_received",
        "bytes_sent",
        "clock",
        "gossip",
        "is_paused",
        "load_bytes",
        "messages_sent",
        "node",
        "waiting",
    )

    def __init__(self, node: NodeId, clock: SimClock, load_bytes: int) -> None:
        self.node = node
        self.clock = clock
        self.load_bytes = load_bytes
        self.gossip: Gossip | None = None
        self.is_paused = False
        self.waiting: list[tuple[NodeId, bytes]] = []
        self.bytes_sent = 0
        self.bytes_received = 0
        self.messages_sent = 0

    def now_ms(self) -> int:
        return self.clock.monotonic_ns() // MS


class GossipRing:
    """``nodes`` members that gossip.

    Attributes:
        loop: virtual time.
        seats: by id.
        loss_ppm: of a million messages so many are lost.
        on_change: called with (observer, node, True when it came UP there, False when it went DOWN).
        on_received: called with the seat that has just taken a message.
    """

    def __init__(self, nodes: int, seed: int) -> None:
        self.loop = Loop()
        self.loss_ppm = 0
        self.on_change: Callable[[NodeId, NodeId, bool], None] = _ignore_change
        self.on_received: Callable[[Seat], None] = _ignore_received
        self._chance = Chance.of_seed(seed).child("scale")
        self._network = self._chance.child("network")
        self._encoder = FrameEncoder(URGENT, 0)
        self._members = [NodeId(number) for number in range(1, nodes + 1)]
        self.seats: dict[NodeId, Seat] = {}
        for node in self._members:
            age_s = self._chance.below(AGE_SECONDS_MAX)
            drift_ppm = self._chance.between(-DRIFT_PPM_MAX, DRIFT_PPM_MAX)
            clock = SimClock(self.loop, drift_ppm=drift_ppm, uptime_ns=age_s * S)
            self.seats[node] = Seat(node, clock, LOAD_BYTES + self._chance.below(LOAD_BYTES))

    # What happens to nodes

    def start(self, node: NodeId) -> None:
        """The node's process, as old as its machine, appears among the others."""
        seat = self.seats[node]
        now_ms = seat.now_ms()
        generation = seat.clock.wall_us() // MILLION - now_ms // 1_000
        gossip = Gossip(node, generation, 0, self._chance.child(f"node {node}"))
        # By chance it told its load some time ago, so that not all have news of theirs in the same round.
        told_bytes = seat.load_bytes - self._chance.below(seat.load_bytes // APPROXIMATE_PARTS)
        gossip.update(epoch=EPOCH, hints=0, load_bytes=told_bytes, address=ADDRESS)
        changes = CHANGES_OF_FIRST if node == self._members[0] else self._chance.below(CHANGES_MAX)
        for number in range(changes):
            gossip.update(hints=(number + 1) % 2 * 1_000)
        seat.gossip = gossip
        self._take(seat, gossip.set_members(now_ms, self._members))
        self._round(seat)

    def start_all(self) -> None:
        """All start within one round."""
        for node in self._members:
            self.loop.after(self._chance.below(ROUND_NS), self._start, node)

    def kill(self, node: NodeId) -> None:
        """The node is gone, and its machine with it: nothing answers any more."""
        self.seats[node].gossip = None

    def pause(self, node: NodeId) -> None:
        self.seats[node].is_paused = True

    def resume(self, node: NodeId) -> None:
        """What has waited is taken now, then comes the round that is overdue."""
        seat = self.seats[node]
        seat.is_paused = False
        waiting, seat.waiting = seat.waiting, []
        for sender, body in waiting:
            self._receive(seat, sender, body)
        self._round(seat)

    # Time

    def run(self, rounds: int) -> None:
        self.loop.run_until(self.loop.now_ns + rounds * ROUND_NS)

    def run_until(self, holds: Callable[[], bool], rounds_max: int) -> bool:
        """Run until it holds, which is looked at after each event; whether it does."""
        self.loop.run_while(lambda: not holds(), self.loop.now_ns + rounds_max * ROUND_NS)
        return holds()

    # Knowledge

    def living(self) -> list[Seat]:
        """Those that run, paused or not."""
        return [seat for seat in self.seats.values() if seat.gossip is not None]

    def bytes_carried(self) -> int:
        """Frames so far, in bytes; each was sent once."""
        return sum(seat.bytes_sent for seat in self.seats.values())

    # Inside

    def _start(self, node: NodeId) -> None:
        self.start(node)

    def _round(self, seat: Seat) -> None:
        gossip = seat.gossip
        if gossip is None or seat.is_paused:
            return
        self.loop.after(ROUND_NS, self._round, seat)
        seat.load_bytes += seat.load_bytes // LOAD_GROWTH_PARTS
        gossip.update(load_bytes=seat.load_bytes)
        self._take(seat, gossip.tick(seat.now_ms(), seat.clock.wall_us()))

    def _take(self, seat: Seat, output: Output) -> None:
        """Do what a call of gossip wants done."""
        for node, is_up in output.changes:
            self.on_change(seat.node, node, is_up)
        chance = self._network
        now_us = seat.clock.wall_us()
        for node, body in output.sends:
            frame = self._encoder.encode([HEADER.pack(Verb.GOSSIP, 0, 0, now_us, EPOCH) + body])
            seat.bytes_sent += len(frame)
            seat.messages_sent += 1
            if self.loss_ppm and chance.below(MILLION) < self.loss_ppm:
                continue
            delay_us = LAN.base_us + chance.below(LAN.jitter_us + 1)
            if chance.one_in(LAN.spike_one_in):
                delay_us += chance.below(LAN.spike_us + 1)
            self.loop.after(delay_us * 1_000, self._arrive, (node, seat.node, body, len(frame)))

    def _arrive(self, message: tuple[NodeId, NodeId, bytes, int]) -> None:
        node, sender, body, frame_bytes = message
        seat = self.seats[node]
        if seat.gossip is None:
            return
        seat.bytes_received += frame_bytes
        if seat.is_paused:
            seat.waiting.append((sender, body))
        else:
            self._receive(seat, sender, body)

    def _receive(self, seat: Seat, sender: NodeId, body: bytes) -> None:
        assert seat.gossip is not None
        self._take(seat, seat.gossip.receive(seat.now_ms(), sender, body))
        self.on_received(seat)


def _ignore_change(observer: NodeId, node: NodeId, is_up: bool) -> None:
    pass


def _ignore_received(seat: Seat) -> None:
    pass
