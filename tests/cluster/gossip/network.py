"""Many ``Gossip``s in one process, on virtual time: a seeded network that delays, loses, doubles and cuts."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable

from ourodb.cluster.gossip.gossip import Gossip, Output
from ourodb.ports import NodeId

ROUND_MS = 1_000
LATENCY_MS_MAX = 20
DRIFT_PPM_MAX = 200
START_S = 1_700_000_000


class Draw:
    """``ports.Random`` from a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)

    def below(self, bound: int) -> int:
        return self._random.randrange(bound)


class Process:
    """One node's process, which may be paused: what arrives meanwhile waits.

    Attributes:
        drift_ppm: by how much its clock is too fast.
    """

    def __init__(self, node: NodeId, gossip: Gossip, born_ms: int, drift_ppm: int) -> None:
        self.drift_ppm = drift_ppm
        self.node = node
        self.gossip = gossip
        self.born_ms = born_ms
        self.is_paused = False
        self.waiting: list[Callable[[], None]] = []


class Network:
    """``nodes`` members, none of which runs yet.

    Attributes:
        changes: (now_ms, observer, node, is_up), all that any node found.
        cut: nodes that can't be reached and reach nobody.
        halves: groups that don't reach each other.
        apart: pairs that don't reach each other.
    """

    def __init__(self, nodes: int, seed: int, *, loss: float = 0.0, doubled: float = 0.0) -> None:
        self.now_ms = 0
        self.members = [NodeId(node) for node in range(1, nodes + 1)]
        self.processes: dict[NodeId, Process] = {}
        self.changes: list[tuple[int, NodeId, NodeId, bool]] = []
        self.cut: set[NodeId] = set()
        self.halves: list[list[NodeId]] = []
        self.apart: list[tuple[NodeId, NodeId]] = []
        self.refusing: set[NodeId] = set()
        self.loss = loss
        self.doubled = doubled
        self._seed = seed
        self._random = random.Random(seed)
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0

    def __getitem__(self, node: int) -> Gossip:
        return self.processes[NodeId(node)].gossip

    def start(self, node: int, *, generation: int | None = None) -> None:
        """A new process of the node, which ticks from now on, at first within a round."""
        me = NodeId(node)
        if generation is None:
            generation = START_S + self.now_ms // 1_000
        draw = Draw(self._seed * 100_003 + node * 31 + self.now_ms)
        # A process's monotonic clock has nothing to do with anybody else's.
        drift_ppm = self._random.randrange(-DRIFT_PPM_MAX, DRIFT_PPM_MAX)
        process = Process(me, Gossip(me, generation, 0, draw, round_ms=ROUND_MS), self.now_ms, drift_ppm)
        self.processes[me] = process
        self.take(process, process.gossip.set_members(0, self.members))
        self._after(self._random.randrange(1, ROUND_MS), lambda: self._tick(process))

    def start_all(self) -> None:
        for node in self.members:
            self.start(node)

    def kill(self, node: int, *, refuses: bool = False) -> None:
        """The process is gone; with ``refuses`` its machine still answers, so that others get resets."""
        del self.processes[NodeId(node)]
        if refuses:
            self.refusing.add(NodeId(node))
            for other in list(self.processes.values()):
                self.take(other, other.gossip.convict(self.time(other), NodeId(node)))

    def pause(self, node: int) -> None:
        self.processes[NodeId(node)].is_paused = True

    def resume(self, node: int, *, tick_first: bool = False) -> None:
        process = self.processes[NodeId(node)]
        process.is_paused = False
        waiting, process.waiting = process.waiting, []
        if tick_first:
            waiting.sort(key=lambda event: event.__name__ != "tick")
        for event in waiting:
            event()

    def run(self, rounds: float) -> None:
        until_ms = self.now_ms + int(rounds * ROUND_MS)
        while self._events and self._events[0][0] <= until_ms:
            self.now_ms, _, event = heapq.heappop(self._events)
            event()
        self.now_ms = until_ms

    def rounds_until(self, holds: Callable[[], bool], rounds_max: int) -> int:
        """Rounds until it holds, looked at once a round.

        Raises AssertionError: it doesn't within ``rounds_max``.
        """
        for rounds in range(rounds_max + 1):
            if holds():
                return rounds
            self.run(1)
        raise AssertionError(f"not within {rounds_max} rounds")

    def all_see_of(self, node: int) -> list[bool]:
        """Whether the node is UP, to each other that runs."""
        return [
            process.gossip.is_up(NodeId(node)) for other, process in self.processes.items() if other != node
        ]

    def all_see(self, node: int, is_up: bool) -> bool:
        """Whether all others that run hold the node to be so."""
        return all(seen == is_up for seen in self.all_see_of(node))

    def is_whole(self) -> bool:
        """Whether all members run and hold each other to be UP."""
        return len(self.processes) == len(self.members) and all(
            process.gossip.is_up(node) for process in self.processes.values() for node in self.members
        )

    def views(self) -> list[tuple[int, int]]:
        """(observer, node) of each that is held to be UP."""
        return [
            (observer, node)
            for observer, process in sorted(self.processes.items())
            for node in self.members
            if node != observer and process.gossip.is_up(node)
        ]

    def changes_since(
        self, at_ms: int, observers: Iterable[int] | None = None
    ) -> list[tuple[int, int, int, bool]]:
        return [
            change
            for change in self.changes
            if change[0] > at_ms and (observers is None or change[1] in observers)
        ]

    def time(self, process: Process) -> int:
        """What the process's monotonic clock shows."""
        age_ms = self.now_ms - process.born_ms
        return age_ms + age_ms * process.drift_ppm // 1_000_000

    def take(self, process: Process, output: Output) -> None:
        """Carry out what a call wants."""
        me = process.node
        self.changes += [(self.now_ms, me, node, is_up) for node, is_up in output.changes]
        for node, body in output.sends:
            copies = 1 + (self._random.random() < self.doubled)
            for _ in range(copies):
                if self._random.random() >= self.loss:
                    delay_ms = self._random.randrange(1, LATENCY_MS_MAX)
                    self._after(delay_ms, lambda node=node, body=body: self._deliver(me, node, body))

    # --- inside ----------------------------------------------------------------------------------------------

    def _after(self, delay_ms: int, event: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (self.now_ms + delay_ms, self._count, event))

    def _is_current(self, process: Process) -> bool:
        return self.processes.get(process.node) is process

    def _tick(self, process: Process) -> None:
        if not self._is_current(process):
            return

        def tick() -> None:
            self.take(process, process.gossip.tick(self.time(process)))
            self._after(ROUND_MS, lambda: self._tick(process))

        if process.is_paused:
            process.waiting.append(tick)
        else:
            tick()

    def _is_open(self, sender: NodeId, node: NodeId) -> bool:
        if sender in self.cut or node in self.cut:
            return False
        if (sender, node) in self.apart or (node, sender) in self.apart:
            return False
        return all((sender in half) == (node in half) for half in self.halves)

    def _deliver(self, sender: NodeId, node: NodeId, body: bytes) -> None:
        if not self._is_open(sender, node):
            return
        process = self.processes.get(node)
        if process is None:
            other = self.processes.get(sender)
            if other is not None and node in self.refusing and not other.is_paused:
                self.take(other, other.gossip.convict(self.time(other), node))
            return

        def receive() -> None:
            self.take(process, process.gossip.receive(self.time(process), sender, body))

        if process.is_paused:
            process.waiting.append(receive)
        else:
            receive()
