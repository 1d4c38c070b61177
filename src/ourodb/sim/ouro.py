"""OuroDB's node as a program for simulated machines: the production node on simulated ports, nothing left out.

The first machine founds the cluster, the others join it through any that is there. What ``daemon`` adds to a node in
production is left out: sockets, RocksDB, signals, the admin API.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ourodb.config import Config
from ourodb.cql.wire.connection import ServerConnection
from ourodb.errors import OuroError
from ourodb.node import Node
from ourodb.ports import Address, Link, Ports
from ourodb.session.session import Session
from ourodb.sim.machine import Machine
from ourodb.sim.process import Program
from ourodb.sim.world import World

CLUSTER_NAME: Final = "simulated"
SECRET: Final = b"of the simulated cluster"


class Refused(Exception):
    """A node that should be a member is not taken by its cluster."""


class OuroProgram:
    """Implements ``process.Program`` with a ``Node``.

    Attributes:
        node: what runs.
    """

    def __init__(self, machine: Machine, ports: Ports) -> None:
        config = config_of(machine)
        self.node = Node(config, ports, machine.address, machine.native, SECRET)
        self.node.on_refused = self._refused

    @property
    def is_ready(self) -> bool:
        return self.node.is_member

    def start(self) -> None:
        self.node.start()

    def stop(self) -> None:
        self.node.stop()

    def settle(self) -> None:
        self.node.settle()

    def receive(self, link: Link, message: bytes) -> None:
        self.node.receive(link, message)

    def peer_connected(self, address: Address) -> None:
        self.node.peer_connected(address)

    def peer_disconnected(self, address: Address, refused: bool) -> None:
        self.node.peer_disconnected(address, refused)

    def open_session(
        self, connection: ServerConnection, peer: tuple[str, int], wake: Callable[[], None]
    ) -> Session:
        return self.node.open_session(connection, peer, wake)

    def _refused(self, error: OuroError) -> None:
        raise Refused(str(error)) from error


def config_of(machine: Machine) -> Config:
    """How a node on this machine is configured."""
    others = [other for other in machine.world.machines if other is not machine]
    seeds = ",".join(f"{other.address[0]}:{other.address[1]}" for other in others)
    host, port = machine.address
    return Config(
        listen=host,
        cql_port=machine.native[1],
        peer_port=port,
        join=seeds if machine.index else "",
        cluster_name=CLUSTER_NAME,
        dc=machine.data_center,
        rack=machine.rack,
        host_id=machine.name,
        durability="group" if machine.sync_period_ms is None else "periodic",
    )


def build_node(machine: Machine, ports: Ports) -> Program:
    """Makes the program of a machine."""
    return OuroProgram(machine, ports)


def inspect(world: World) -> list[str]:
    """What is wrong with a healed cluster, seen from inside."""
    return []
