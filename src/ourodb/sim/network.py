"""Who reaches whom, and how late.

A *path* leads from one place to another, one way. Places are numbers: machines have theirs from 0 on, clients
from ``CLIENTS`` on. What travels on a path takes the path's latency, drawn anew each time, so messages of
different pairs and lanes overtake each other; order within a connection is the connection's business
(``connection``).

How late that is depends on how far it is: latencies have a base, a jitter and a long tail. A path may be impaired
for a while (``Impairment``): slower, losing packets, or letting little through. What it carries are streams, so a
lost packet isn't a lost message but a late one, or else the end of its connection; nothing is doubled on the way.

A path may be cut: what is sent on it vanishes until it is healed. Cuts are counted, so that faults may overlap.
A machine without power is cut off from everybody. Connections that have something under way while a path of
theirs is cut are *troubled*: they are told when something heals, and else give up by themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ourodb.ports import Address
from ourodb.sim.chance import Chance
from ourodb.sim.loop import Loop
from ourodb.sim.trace import WORLD, Kind, Trace

if TYPE_CHECKING:
    from ourodb.sim.connection import Connection
    from ourodb.sim.machine import Machine

CLIENTS: Final = 1_000
"""Places of clients begin here."""

Path = tuple[int, int]
"""(from, to)"""

PACKET_BYTES: Final = 60
"""Of headers, around whatever is sent."""


@dataclass(frozen=True, slots=True)
class Latency:
    """How long what is sent on a path takes.

    Attributes:
        base_us: at least.
        jitter_us: at most so much more, evenly spread.
        spike_one_in: so seldom (0: never) it stood in a queue somewhere: at most ``spike_us`` more.
        spike_doublings: of the spikes every other one is up to twice as long, of these again every other one, and so
            on, so many times: a long tail, in which something twice as late is half as likely.
    """

    base_us: int
    jitter_us: int
    spike_one_in: int = 0
    spike_us: int = 0
    spike_doublings: int = 0


RACK: Final = Latency(50, 150, 4_000, 5_000, 3)
"""Within a rack."""
LAN: Final = Latency(100, 300, 2_000, 10_000, 4)
"""Between two racks of a data centre, and from clients."""
WAN: Final = Latency(20_000, 5_000, 500, 60_000, 4)
"""Between two data centres."""
LOOPBACK: Final = Latency(10, 20)
"""Within a machine."""


@dataclass(frozen=True, slots=True)
class Impairment:
    """What makes a path worse for a while.

    Attributes:
        slowness: comes on top of the path's own latency, or None.
        lost_permille: of all packets. What is lost is sent again after ``RESEND_US``, then after twice that, and so
            on.
        bytes_per_second: what passes at most, one after the other whatever connection it is of; None: no bound.
    """

    slowness: Latency | None = None
    lost_permille: int = 0
    bytes_per_second: int | None = None

    @property
    def is_mild(self) -> bool:
        """Whether a cluster may be expected to serve in spite of it."""
        return (
            (self.slowness is None or self.slowness.base_us <= 5_000)
            and self.lost_permille <= 10
            and self.bytes_per_second is None
        )


RESEND_US: Final = (10_000, 200_000)
"""A lost packet is first sent again after a time between these: when later ones arrive without it, or a timer ends."""
CLOGGED_NS_MAX: Final = 3_000_000_000
"""What stands before a path that lets little through waits no longer: its queue is full, the rest counts as lost. By
then connections were given up."""


class Network:
    """All paths.

    Attributes:
        loop, trace, chance: the world's.
        machines: by the address at which they are found.
        between_data_centers: latency between two machines that are in different ones.
        resets: connections that were lost so far.
        is_whole: nothing is cut, and all machines have power.
        is_impaired: some path is.
        impaired: packets that were lost, or stood in a queue, because of an ``Impairment``.
    """

    def __init__(self, loop: Loop, trace: Trace, chance: Chance) -> None:
        self.loop = loop
        self.trace = trace
        self.chance = chance
        self.machines: dict[Address, Machine] = {}
        self.between_data_centers = WAN
        self.resets = 0
        self.is_whole = True
        self.is_impaired = False
        self.impaired = 0
        self._latencies: dict[Path, Latency] = {}
        self._quick: dict[Path, tuple[int, int, int]] = {}
        """What ``delay_ns`` needs of a latency: base and jitter in nanoseconds, how seldom it spikes."""
        self._impairments: dict[Path, list[Impairment]] = {}
        self._clogged_until_ns: dict[Path, int] = {}
        self._cuts: dict[Path, int] = {}
        self._dark: dict[int, None] = {}
        self._troubled: dict[Connection, None] = {}
        self._connections: dict[Path, dict[Connection, None]] = {}
        """Those that are open, by where they lead."""

    # Latency

    def set_latency(self, source: int, target: int, latency: Latency) -> None:
        """Of one path, one way."""
        self._latencies[source, target] = latency
        self._quick[source, target] = (
            latency.base_us * 1000,
            latency.jitter_us * 1000 + 1,
            latency.spike_one_in,
        )

    def latency(self, source: int, target: int) -> Latency:
        if (source, target) not in self._latencies:
            self.set_latency(source, target, self._usual(source, target))
        return self._latencies[source, target]

    def delay_ns(self, source: int, target: int, size: int = 0) -> int:
        """How long something of ``size`` bytes takes that leaves now."""
        path = (source, target)
        quick = self._quick.get(path)
        if quick is None:
            self.latency(source, target)
            quick = self._quick[path]
        base_ns, jitter_ns, spike_one_in = quick
        # One draw for both: its lower half is the jitter, its upper half tells a spike.
        word = self.chance.word()
        delay_ns = base_ns + ((word & 0xFFFF_FFFF) * jitter_ns >> 32)
        if spike_one_in and (word >> 32) * spike_one_in < 1 << 32:
            delay_ns += self._spike_ns(self._latencies[path])
        if self.is_impaired and path in self._impairments:
            delay_ns += self._impaired_ns(path, size)
        return delay_ns

    def _spike_ns(self, latency: Latency) -> int:
        spike_us = latency.spike_us
        for _ in range(latency.spike_doublings):
            if self.chance.below(2):
                break
            spike_us *= 2
        return self.chance.below(spike_us + 1) * 1000

    def _usual(self, source: int, target: int) -> Latency:
        if source == target:
            return LOOPBACK
        places = [
            (machine.data_center, machine.rack)
            for machine in self.machines.values()
            if machine.index in (source, target)
        ]
        if len(places) < 2:
            return LAN
        one, other = places
        if one[0] != other[0]:
            return self.between_data_centers
        return RACK if one == other else LAN

    # Impairments

    def impair(self, paths: Iterable[Path], impairment: Impairment) -> None:
        """Make these paths worse; impairments of a path add up."""
        for path in paths:
            self.is_impaired = True
            self._impairments.setdefault(path, []).append(impairment)
            self.trace.note(self.loop.now_ns, WORLD, Kind.IMPAIRED, repr((path, impairment)).encode())

    def mend(self, paths: Iterable[Path], impairment: Impairment) -> None:
        """Undo one ``impair``; connections soon make good for what is late."""
        for path in paths:
            left = self._impairments[path]
            left.remove(impairment)
            if not left:
                del self._impairments[path]
                self.is_impaired = bool(self._impairments)
                self._clogged_until_ns.pop(path, None)
                for connection in list(self._connections.get(path, ())):
                    connection.on_mended()
            self.trace.note(self.loop.now_ns, WORLD, Kind.MENDED, repr((path, impairment)).encode())

    def is_good(self, source: int, target: int) -> bool:
        """Whether a path is open, and what makes it worse is mild."""
        return self.is_open(source, target) and all(
            impairment.is_mild for impairment in self._impairments.get((source, target), ())
        )

    def is_path_impaired(self, source: int, target: int) -> bool:
        return (source, target) in self._impairments

    def _impaired_ns(self, path: Path, size: int) -> int:
        chance = self.chance
        delay_ns = 0
        for impairment in self._impairments[path]:
            slowness = impairment.slowness
            if slowness is not None:
                delay_ns += slowness.base_us * 1000 + chance.below(slowness.jitter_us * 1000 + 1)
                if chance.one_in(slowness.spike_one_in):
                    delay_ns += self._spike_ns(slowness)
            if impairment.bytes_per_second is not None:
                delay_ns += self._queueing_ns(path, size, impairment.bytes_per_second)
            resend_ns = chance.between(*RESEND_US) * 1000
            while chance.below(1000) < impairment.lost_permille and delay_ns < CLOGGED_NS_MAX:
                self.impaired += 1
                delay_ns += resend_ns
                resend_ns *= 2
        return delay_ns

    def _queueing_ns(self, path: Path, size: int, bytes_per_second: int) -> int:
        """It stands behind what was sent before on this path."""
        now_ns = self.loop.now_ns
        begin_ns = max(now_ns, self._clogged_until_ns.get(path, 0))
        end_ns = begin_ns + (size + PACKET_BYTES) * 1_000_000_000 // bytes_per_second
        if end_ns - now_ns > CLOGGED_NS_MAX:
            return CLOGGED_NS_MAX
        self._clogged_until_ns[path] = end_ns
        self.impaired += begin_ns > now_ns
        return end_ns - now_ns

    # Cuts

    def is_open(self, source: int, target: int) -> bool:
        """Whether what is sent on a path now gets through."""
        if self.is_whole:
            return True
        if (source, target) in self._cuts:
            return False
        return not self._dark or (source not in self._dark and target not in self._dark)

    def cut(self, paths: Iterable[Path]) -> None:
        """Let what is sent on these paths vanish."""
        for path in paths:
            self._cuts[path] = self._cuts.get(path, 0) + 1
            self.is_whole = False
            self._tell_cut(*path)
            self.trace.note(self.loop.now_ns, WORLD, Kind.CUT, repr(path).encode())

    def heal(self, paths: Iterable[Path]) -> None:
        """Undo one ``cut`` of the same paths."""
        for path in paths:
            left = self._cuts.pop(path) - 1
            if left:
                self._cuts[path] = left
            self.trace.note(self.loop.now_ns, WORLD, Kind.HEALED, repr(path).encode())
        self.is_whole = not self._cuts and not self._dark
        self._look_at_troubled()

    def power(self, place: int, *, on: bool) -> None:
        """A machine has got or lost its power."""
        if on:
            self._dark.pop(place, None)
            self.is_whole = not self._cuts and not self._dark
            self._look_at_troubled()
        else:
            self._dark[place] = None
            self.is_whole = False
            for source, target in list(self._connections):
                if place in (source, target):
                    self._tell_cut(source, target)

    def register(self, connection: Connection, source: int, target: int) -> None:
        """A connection was opened."""
        self._connections.setdefault((source, target), {})[connection] = None

    def unregister(self, connection: Connection, source: int, target: int) -> None:
        """It is open no more."""
        self._connections[source, target].pop(connection, None)

    def connections(self) -> list[Connection]:
        """Those that are open."""
        return [connection for path in self._connections.values() for connection in path]

    def _tell_cut(self, source: int, target: int) -> None:
        for path in ((source, target), (target, source)):
            for connection in list(self._connections.get(path, ())):
                connection.on_cut()

    def trouble(self, connection: Connection) -> None:
        """Something of the connection is under way and can't arrive, or can't be acknowledged."""
        self._troubled[connection] = None

    def _look_at_troubled(self) -> None:
        troubled, self._troubled = self._troubled, {}
        for connection in troubled:
            connection.look_again()
