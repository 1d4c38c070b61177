"""Who reaches whom, and how late.

A *path* leads from one place to another, one way. Places are numbers: machines have theirs from 0 on, clients
from ``CLIENTS`` on. What travels on a path takes the path's latency, drawn anew each time, so messages of
different pairs and lanes overtake each other; order within a connection is the connection's business
(``connection``).

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


@dataclass(frozen=True, slots=True)
class Latency:
    """How long what is sent on a path takes.

    Attributes:
        base_us: at least.
        jitter_us: at most so much more, evenly spread.
        spike_one_in: so seldom (0: never) a packet was lost and sent again: at most ``spike_us`` more.
    """

    base_us: int
    jitter_us: int
    spike_one_in: int = 0
    spike_us: int = 0


LAN: Final = Latency(100, 300, 2_000, 40_000)
"""Within a data centre."""
WAN: Final = Latency(20_000, 5_000, 500, 250_000)
"""Between two data centres."""
LOOPBACK: Final = Latency(10, 20)
"""Within a machine."""


class Network:
    """All paths.

    Attributes:
        loop, trace, chance: the world's.
        machines: by the address at which they are found.
        between_data_centers: latency between two machines that are in different ones.
        resets: connections that were lost so far.
    """

    def __init__(self, loop: Loop, trace: Trace, chance: Chance) -> None:
        self.loop = loop
        self.trace = trace
        self.chance = chance
        self.machines: dict[Address, Machine] = {}
        self.between_data_centers = WAN
        self.resets = 0
        self._latencies: dict[Path, Latency] = {}
        self._cuts: dict[Path, int] = {}
        self._dark: dict[int, None] = {}
        self._troubled: dict[Connection, None] = {}
        self._connections: dict[Path, dict[Connection, None]] = {}
        """Those that are open, by where they lead."""

    # Latency

    def set_latency(self, source: int, target: int, latency: Latency) -> None:
        """Of one path, one way."""
        self._latencies[source, target] = latency

    def latency(self, source: int, target: int) -> Latency:
        found = self._latencies.get((source, target))
        if found is None:
            found = self._latencies[source, target] = self._usual(source, target)
        return found

    def delay_ns(self, source: int, target: int) -> int:
        """How long something takes that leaves now."""
        latency = self._latencies.get((source, target)) or self.latency(source, target)
        chance = self.chance
        delay_us = latency.base_us * 1000 + chance.below(latency.jitter_us * 1000 + 1)
        if latency.spike_one_in and chance.one_in(latency.spike_one_in):
            delay_us += chance.below(latency.spike_us + 1) * 1000
        return delay_us

    def _usual(self, source: int, target: int) -> Latency:
        if source == target:
            return LOOPBACK
        centers = [
            machine.data_center for machine in self.machines.values() if machine.index in (source, target)
        ]
        return LAN if len(set(centers)) <= 1 else self.between_data_centers

    # Cuts

    def is_open(self, source: int, target: int) -> bool:
        """Whether what is sent on a path now gets through."""
        if self._cuts and (source, target) in self._cuts:
            return False
        return not self._dark or (source not in self._dark and target not in self._dark)

    def cut(self, paths: Iterable[Path]) -> None:
        """Let what is sent on these paths vanish."""
        for path in paths:
            self._cuts[path] = self._cuts.get(path, 0) + 1
            self._tell_cut(*path)
            self.trace.note(self.loop.now_ns, WORLD, Kind.CUT, repr(path).encode())

    def heal(self, paths: Iterable[Path]) -> None:
        """Undo one ``cut`` of the same paths."""
        for path in paths:
            left = self._cuts.pop(path) - 1
            if left:
                self._cuts[path] = left
            self.trace.note(self.loop.now_ns, WORLD, Kind.HEALED, repr(path).encode())
        self._look_at_troubled()

    def power(self, place: int, *, on: bool) -> None:
        """A machine has got or lost its power."""
        if on:
            self._dark.pop(place, None)
            self._look_at_troubled()
        else:
            self._dark[place] = None
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
