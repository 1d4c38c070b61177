"""The layout of a ring on one machine: its nodes, their addresses and ports, where each is said to be.

It is decided once and kept in the ring's folder, so that the same nodes come back whenever the ring is started again::

    DIR/ring.json      this layout
    DIR/secret         the cluster's secret; only its owner can read it
    DIR/node1/         the data of a node
    DIR/node1.log      what it printed
    DIR/node1.pid      the process, while it runs

All of 127.0.0.0/8 is this machine, so each node has an address of its own and the same ports as the others: drivers
that know of one port reach them all. Nodes on one address have consecutive ports instead.

The first node founds the cluster and the others join through it. Once they have agreed (``is_formed``), each is told
to join through the others: a node that comes back with its data doesn't look at that, and one whose data was lost
doesn't found a second cluster.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

import msgspec

from ourodb import secret
from ourodb.cli.local.process import PYTHON

PLAN: Final = "ring.json"
SECRET: Final = "secret"

DEFAULT_FOLDER: Final = "ouro-ring"

FORMAT: Final = 1

NODES_MAX: Final = 200
"""Addresses from 127.0.0.1 on, without touching the next network."""


class LayoutError(Exception):
    """One line for whoever starts the ring."""


@dataclass(frozen=True, slots=True)
class NodePlan:
    """One node.

    Attributes:
        name: of its folder, its log and its pid file.
        host_id: its failure domain.
        has_left: it was a member of the cluster, and isn't any more: it is neither started nor waited for.
    """

    name: str
    address: str
    cql_port: int
    peer_port: int
    admin_port: int
    dc: str
    rack: str
    host_id: str
    has_left: bool = False

    @property
    def cql(self) -> str:
        return f"{self.address}:{self.cql_port}"

    @property
    def peer(self) -> str:
        return f"{self.address}:{self.peer_port}"

    @property
    def admin(self) -> str:
        return f"{self.address}:{self.admin_port}"

    @property
    def ports(self) -> dict[str, int]:
        """By the option that says it."""
        return {"--cql-port": self.cql_port, "--peer-port": self.peer_port, "--admin-port": self.admin_port}


@dataclass(frozen=True, slots=True)
class RingPlan:
    """All nodes.

    Attributes:
        options: what every node's ``ouro serve`` gets beside its own.
        dcs, racks: data centres, and racks in each, over which the nodes are spread.
        is_formed: all of them have agreed once.
    """

    nodes: tuple[NodePlan, ...]
    options: tuple[str, ...] = ()
    dcs: int = 1
    racks: int = 1
    is_formed: bool = False
    format: int = FORMAT

    @property
    def members(self) -> tuple[NodePlan, ...]:
        """Without those that have left."""
        return tuple(node for node in self.nodes if not node.has_left)

    def formed(self) -> RingPlan:
        return replace(self, is_formed=True)

    def without(self, left: Iterable[NodePlan]) -> RingPlan:
        """These have left as well."""
        names = {node.name for node in left}
        nodes = (replace(node, has_left=node.has_left or node.name in names) for node in self.nodes)
        return replace(self, nodes=tuple(nodes))

    def with_those_back(self, folder: Path) -> RingPlan:
        """Who has left, and was given an empty folder since, may come back as a new member."""
        nodes = (
            replace(node, has_left=node.has_left and (folder / node.name / "CURRENT").exists())
            for node in self.nodes
        )
        return replace(self, nodes=tuple(nodes))

    def grown(self, count: int) -> RingPlan:
        """With so many nodes more, at the addresses that follow.

        Raises:
            LayoutError: too many.
        """
        first = self.nodes[0]
        ports = (first.cql_port, first.peer_port, first.admin_port)
        plan = spread(
            len(self.nodes) + count,
            dcs=self.dcs,
            racks=self.racks,
            first_address=first.address,
            ports=ports,
        )
        return replace(self, nodes=(*self.nodes, *plan.nodes[len(self.nodes) :]))

    def command(self, folder: Path, node: NodePlan) -> list[str]:
        """What starts a node."""
        return [*PYTHON, "-m", "ourodb.cli", "serve", *self.options, *self.arguments(folder, node)]

    def arguments(self, folder: Path, node: NodePlan) -> list[str]:
        """A node's own options for ``ouro serve``."""
        first = self.nodes[0]
        others = [other.peer for other in self.members if other.name != node.name]
        seeds = others if self.is_formed else [] if node.name == first.name else [first.peer]
        own = {
            "--data": folder / node.name,
            "--listen": node.address,
            **node.ports,
            "--dc": node.dc,
            "--rack": node.rack,
            "--host-id": node.host_id,
            "--secret": f"@{folder / SECRET}",
            "--join": ",".join(seeds),
        }
        return [f"{option}={value}" for option, value in own.items()]


def spread(
    count: int,
    *,
    dcs: int = 1,
    racks: int = 1,
    first_address: str = "127.0.0.1",
    ports: tuple[int, int, int] = (9042, 7000, 7070),
    options: Sequence[str] = (),
) -> RingPlan:
    """A ring of nodes with an address each, in turn in each data centre and in each rack of it.

    Args:
        ports: CQL, peers, admin.
    Raises:
        LayoutError: too many.
    """
    if not 0 < count <= NODES_MAX:
        raise LayoutError(f"a ring on one machine has 1 to {NODES_MAX} nodes, not {count}")
    if dcs < 1 or racks < 1:
        raise LayoutError("a ring has at least one data centre and one rack")
    nodes = tuple(
        NodePlan(
            name=f"node{number + 1}",
            address=str(IPv4Address(first_address) + number),
            cql_port=ports[0],
            peer_port=ports[1],
            admin_port=ports[2],
            dc=f"datacenter{number % dcs + 1}",
            rack=f"rack{number // dcs % racks + 1}",
            host_id=f"host{number + 1}",
        )
        for number in range(count)
    )
    return RingPlan(nodes, tuple(options), dcs, racks)


def is_there(folder: Path) -> bool:
    """Whether a folder holds a ring.

    Raises:
        LayoutError: that can't be seen.
    """
    try:
        return (folder / PLAN).exists()
    except OSError as error:
        raise LayoutError(f"can't read {folder}: {error.strerror}") from error


def all_left(folder: Path) -> str:
    """What is said of a ring without members."""
    return f"the cluster has gone on without all nodes in {folder}; empty it, and begin anew or join afresh"


def load(folder: Path) -> RingPlan:
    """The layout of the ring in a folder.

    Raises:
        LayoutError: there is none, or it can't be read.
    """
    path = folder / PLAN
    try:
        plan = msgspec.json.decode(path.read_bytes(), type=RingPlan)
    except FileNotFoundError:
        raise LayoutError(f"there is no ring in {folder}: {path} doesn't exist") from None
    except OSError as error:
        raise LayoutError(f"can't read {path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise LayoutError(f"{path} isn't the layout of a ring: {error}") from error
    if plan.format != FORMAT or not plan.nodes:
        raise LayoutError(f"{path} is of format {plan.format}; this version of OuroDB reads format {FORMAT}")
    return plan


def save(folder: Path, plan: RingPlan) -> None:
    """Keep the layout; in one step, so that a crash leaves the one before or this one.

    Raises:
        LayoutError: it can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        new = folder / f".{PLAN}.new"
        new.write_bytes(msgspec.json.format(msgspec.json.encode(plan), indent=2) + b"\n")
        new.replace(folder / PLAN)
    except OSError as error:
        raise LayoutError(f"can't write to {folder}: {error.strerror}") from error


def make_secret(folder: Path) -> None:
    """A secret for the ring, unless it has one.

    Raises:
        LayoutError: it can't be written.
    """
    try:
        secret.make_secret(folder / SECRET)
    except FileExistsError:
        return
    except OSError as error:
        raise LayoutError(f"can't write to {folder}: {error.strerror}") from error
