"""The demo's ring: three nodes in the background, as `ouro up` starts them, and later a fourth.

Its nodes sync their log to disk every second, as Cassandra does by default, and may be cut off from each other over
their admin API, which is how the demo makes a partition without being root.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cassandra import ConsistencyLevel
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.policies import (
    ConstantReconnectionPolicy,
    RoundRobinPolicy,
    TokenAwarePolicy,
    WhiteListRoundRobinPolicy,
)
from console import console, heading

from ourodb.cli.admin import call
from ourodb.cli.local import layout
from ourodb.cli.local.process import who_listens
from ourodb.cli.local.ring import LocalRing, shown
from ourodb.cli.ring import drawn
from ourodb.cli.status import rendered
from ourodb.cli.up import bring_up, cqlsh

NODES = 3
FOLDER = "ouro-demo"
HEAL_AFTER_S = 8
OPTIONS = ("--durability=periodic", "--faults=on", "--cluster-name=demo", f"--heal-after={HEAL_AFTER_S}")
PORTS = (9042, 7000, 7070)
PORT_STEPS = 50
STOP_SECONDS_MAX = 30


class DemoRing:
    """Some nodes, and what the demo does with them.

    Nodes are numbered from 1 on, and called by their addresses: the ids that they have in the ring come in the order in
    which they happened to join.
    """

    def __init__(self, local: LocalRing) -> None:
        self.local = local
        self.is_left = False

    @property
    def addresses(self) -> Sequence[str]:
        return [node.address for node in self.local.nodes]

    @property
    def port(self) -> int:
        return self.local.nodes[0].cql_port

    @property
    def numbers(self) -> Sequence[int]:
        return range(1, len(self.local.nodes) + 1)

    def named(self, *numbers: int) -> str:
        """What to call these nodes."""
        return " and ".join(self.local.nodes[number - 1].address for number in numbers)

    def connect(self, *numbers: int, consistency: int = ConsistencyLevel.QUORUM) -> Cluster:
        """A stock driver that talks to these nodes only, or to all."""
        points = [self.local.nodes[number - 1].address for number in numbers] or list(self.addresses)
        policy = WhiteListRoundRobinPolicy(points) if numbers else TokenAwarePolicy(RoundRobinPolicy())
        profile = ExecutionProfile(policy, consistency_level=consistency, request_timeout=15)
        return Cluster(
            points,
            port=self.port,
            protocol_version=4,
            execution_profiles={EXEC_PROFILE_DEFAULT: profile},
            reconnection_policy=ConstantReconnectionPolicy(0.5, None),
        )

    def ask(self, number: int, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """A node's admin API."""
        return call(self.local.nodes[number - 1].admin, path, body)

    def draw(self, keyspace: str) -> None:
        """The ring, as `ouro ring` draws it."""
        console.print(f"[cyan]ouro ring {keyspace}[/]\n")
        console.print(drawn(self.ask(1, "/ring", {"keyspace": keyspace}), console.width))

    def show_status(self, number: int) -> None:
        """The nodes, as `ouro status` shows them on one of them."""
        console.print("\n[cyan]ouro status[/]\n")
        console.print(rendered(self.ask(number, "/status"), console.width))

    def sees(self, number: int, other: int) -> bool:
        """Whether a node holds another one to be up."""
        wanted = self.local.nodes[other - 1].peer
        members = self.ask(number, "/status")["members"]
        return any(member["address"] == wanted and member["state"] == "UP" for member in members)

    def hints_for(self, number: int) -> int:
        """What the other nodes keep for one."""
        wanted = self.local.nodes[number - 1].peer
        return sum(
            member["hints_waiting"]
            for other in self.numbers
            if other != number
            for member in self.ask(other, "/status")["members"]
            if member["address"] == wanted
        )

    def kill(self, number: int) -> None:
        """SIGKILL."""
        self.local.stop([self.local.nodes[number - 1]], kill=True, timeout_s=STOP_SECONDS_MAX)

    def start(self, number: int) -> None:
        """Start a node again, without waiting for it."""
        self.local.start(self.local.nodes[number - 1])

    def split(self, *sides: Sequence[int]) -> None:
        """Nothing passes between the sides any more."""
        for side in sides:
            others = [number for other in sides if other is not side for number in other]
            peers = [self.local.nodes[number - 1].peer for number in others]
            for number in side:
                self.ask(number, "/faults", {"cut": peers})

    def heal(self) -> None:
        for number in self.numbers:
            self.ask(number, "/faults", {"cut": []})

    def leave(self, *, stay: bool) -> None:
        """The demo is over; the ring goes on, or not."""
        if not stay:
            console.print("\nThis isn't a terminal, so the ring stops now.")
            return
        self.is_left = True
        first, folder = self.local.nodes[0], shown(self.local.folder)
        heading("The ring goes on")
        console.print(f"Connect with     [bold]{cqlsh()} {first.address} {first.cql_port} -k flights[/]")
        ouro = shown(Path(sys.executable).with_name("ouro")) if shutil.which("ouro") is None else "ouro"
        console.print(f"Look at it with  [bold]{ouro} status --data {folder}[/]")
        console.print(f"Stop it with     [bold]{ouro} down --data {folder}[/]")


@contextmanager
def started(data: str | None) -> Iterator[DemoRing]:
    """A ring for the demo; stopped afterwards, unless it was left running.

    Raises:
        LayoutError, UpError: it couldn't be started.
    """
    folder = Path(data or FOLDER).absolute()
    if data is None and (folder / layout.PLAN).exists():
        old = LocalRing.load(folder)
        old.stop(old.nodes, kill=True, timeout_s=STOP_SECONDS_MAX)
        shutil.rmtree(folder)
    if (folder / layout.PLAN).exists():
        local = LocalRing.load(folder)
    else:
        local = LocalRing(folder, layout.spread(NODES, ports=free_ports(), options=OPTIONS))
    demo_ring = DemoRing(local)
    try:
        began = time.perf_counter()
        with local.held():
            bring_up(local)
        console.print(
            f"{len(local.nodes)} nodes are up and agreed after {time.perf_counter() - began:.1f} s:"
            f" {', '.join(node.cql for node in local.nodes)}"
        )
        yield demo_ring
    finally:
        if not demo_ring.is_left:
            local.stop(local.nodes, kill=False, timeout_s=STOP_SECONDS_MAX)
            if data is None:
                shutil.rmtree(folder, ignore_errors=True)


def free_ports() -> tuple[int, int, int]:
    """CQL, peers and admin: the usual ones, or the first after them that nobody has."""
    # One more joins later.
    places = layout.spread(NODES + 1).nodes
    for step in range(PORT_STEPS):
        ports = (PORTS[0] + 10 * step, PORTS[1] + 10 * step, PORTS[2] + 10 * step)
        if not any(who_listens(node.address, port) for node in places for port in ports):
            return ports
    return PORTS
