"""Programs that do nothing by themselves: what arrives is written down. For tests of the world below programs."""

from __future__ import annotations

from collections.abc import Callable

from ourodb.cql.wire.connection import Request, ServerConnection
from ourodb.ports import Address, Link, Ports
from ourodb.sim.machine import Machine
from ourodb.sim.world import World


class Silent:
    """A session that never answers."""

    def handle(self, request: Request) -> None:
        pass

    def close(self) -> None:
        pass


class Talker:
    """Attributes:
    heard: (virtual ns, from whom, message), as it arrived.
    events: ("connected" | "lost" | "refused", whom), in order, and "settle".
    """

    def __init__(self, machine: Machine, ports: Ports) -> None:
        self.is_ready = False
        self.machine = machine
        self.ports = ports
        self.heard: list[tuple[int, int, bytes]] = []
        self.events: list[tuple[str, int]] = []
        self.settled = 0
        self.on_settle: Callable[[], None] = lambda: None

    def start(self) -> None:
        self.is_ready = True

    def stop(self) -> None:
        self.is_ready = False

    def settle(self) -> None:
        self.settled += 1
        self.on_settle()
        self.ports.store.settle()

    def receive(self, link: Link, message: bytes) -> None:
        world = self.machine.world
        self.heard.append((world.loop.now_ns, self._index(link.address), message))

    def peer_connected(self, address: Address) -> None:
        self.events.append(("connected", self._index(address)))

    def peer_disconnected(self, address: Address, refused: bool) -> None:
        self.events.append(("refused" if refused else "lost", self._index(address)))

    def peer_lane_lost(self, address: Address, lane: int) -> None:
        self.events.append((f"lane {lane} lost", self._index(address)))

    def peer_refused(self, reason: str) -> None:
        self.events.append(("rebuffed", 0))

    def open_session(
        self, connection: ServerConnection, peer: tuple[str, int], wake: Callable[[], None]
    ) -> Silent:
        return Silent()

    def messages(self, sender: int) -> list[bytes]:
        return [message for _, index, message in self.heard if index == sender]

    def times(self, name: str) -> int:
        return sum(event == name for event, _ in self.events)

    def _index(self, address: Address) -> int:
        return self.machine.world.network.machines[address].index


def talkers(seed: int = 1, count: int = 2) -> tuple[World, list[Talker]]:
    """A world of machines with a talker each."""
    world = World(seed)
    world.start(world.add_machines(count, Talker))
    return world, [machine.program for machine in world.machines]


def send(world: World, source: int, target: int, lane: int, message: bytes) -> bool:
    """Have one machine's process send something to another."""
    process = world.machines[source].process
    assert process is not None
    return process.transport.link(world.machines[target].address).send(lane, message)
