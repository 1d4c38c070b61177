"""OuroDB's node as a program for simulated machines: the production node on simulated ports, nothing left out.

The first machine founds the cluster, the others join it through any that is there. What ``daemon`` adds to a node in
production is left out: sockets, RocksDB, signals, the admin API.

After each step of each node the invariants are looked at. ``converge`` and ``inspect`` look at a healed cluster from
inside, with the nodes' own code: hints must be delivered, replicas be equal, and views agree.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ourodb.cluster.ring.placement import NOBODY
from ourodb.config import Config
from ourodb.cql.wire.codes import Consistency
from ourodb.cql.wire.connection import ServerConnection
from ourodb.errors import ConfigurationProblem, InvalidRequest, OuroError
from ourodb.node import REMOVED, Node
from ourodb.operations import rebalance
from ourodb.ports import Address, Link, NodeId, Ports
from ourodb.replication.consistency import replicas
from ourodb.schema.changes import AlterKeyspace
from ourodb.schema.keyspaces import SIMPLE
from ourodb.schema.model import Table
from ourodb.session.session import Session
from ourodb.sim.checkers.convergence import check_convergence
from ourodb.sim.clock import EPOCH_US
from ourodb.sim.invariants import Invariants
from ourodb.sim.machine import Machine
from ourodb.sim.process import Program
from ourodb.sim.tasks import S
from ourodb.sim.workloads.stage import KEYSPACE, Script, Stage, read_all
from ourodb.sim.world import World
from ourodb.storage.chunk import digest, read_range
from ourodb.storage.meaning import dropped_from

CLUSTER_NAME: Final = "simulated"
SECRET: Final = b"of the simulated cluster"
EVERYTHING: Final = 1 << 40
"""Rows, bytes or keys: no bound."""
AGREEMENT_SECONDS_MAX: Final = 10
"""On a healed cluster all know by then what one knows."""

CONVERGENCE_SECONDS_MAX: Final = 60
"""On a healed cluster hints are delivered by then."""


class Refused(Exception):
    """A node that should be a member is not taken by its cluster."""


class OuroProgram:
    """Implements ``process.Program`` with a ``Node``.

    Attributes:
        node: what runs.
    """

    def __init__(self, machine: Machine, ports: Ports) -> None:
        self._machine = machine
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

    def peer_lane_lost(self, address: Address, lane: int) -> None:
        self.node.peer_lane_lost(address, lane)

    def peer_refused(self, reason: str) -> None:
        if REMOVED in reason:
            # It was away when that was decided, or wasn't told, so its own log can't tell.
            self.node.on_refused(ConfigurationProblem(reason))

    def open_session(
        self, connection: ServerConnection, peer: tuple[str, int], wake: Callable[[], None]
    ) -> Session:
        return self.node.open_session(connection, peer, wake)

    @property
    def epoch(self) -> int:
        """Entries of the metadata log that the node has applied; only once it is a member."""
        return self.node.view.epoch

    @property
    def is_moving(self) -> bool:
        view = self.node.view
        return view.move is not None or bool(view.wishes)

    def knows(self, address: Address) -> bool:
        return any(member.peer == address for member in self.node.view.members.values())

    def _number(self, address: Address) -> NodeId:
        members = self.node.view.members
        return next((node for node, member in members.items() if member.peer == address), NOBODY)

    def number_of_dead(self, address: Address) -> int:
        number = self._number(address)
        return NOBODY if self.node.peers.up.get(number) else number

    def even(self) -> None:
        rebalance(self.node, lambda outcome: None)

    def send_away(self, address: Address, *, is_dead: bool, is_forced: bool = False) -> bool:
        leaver = self._number(address)
        if not leaver:
            return False
        try:
            self.node.send_away(leaver, is_dead=is_dead, is_forced=is_forced)
        except InvalidRequest:
            return False
        return True

    @property
    def copies(self) -> int:
        keyspace = self.node.view.schema.keyspaces.get(KEYSPACE)
        if keyspace is None or keyspace.replication.strategy != SIMPLE:
            return 0
        return replicas(keyspace)

    def set_copies(self, count: int) -> None:
        altered = AlterKeyspace(KEYSPACE, SIMPLE, {"replication_factor": str(count)})
        self.node.metadata.submit(altered, lambda outcome: None)

    def _refused(self, error: OuroError) -> None:
        if self._machine.may_be_refused or self._machine.is_stranger:
            self._machine.turn_away(str(error))
            return
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
        replace=machine.replaces,
        cluster_name=CLUSTER_NAME,
        dc=machine.data_center,
        rack=machine.rack,
        host_id=machine.host,
        heal_after=machine.heal_after_s,
        stream_bytes_per_s=machine.stream_bytes_per_s,
        durability="group" if machine.sync_period_ms is None else "periodic",
    )


def build_node(machine: Machine, ports: Ports) -> Program:
    """Makes the program of a machine, and has the invariants looked at after each of its steps."""
    program = OuroProgram(machine, ports)
    machine.refuses = refuses
    machine.witness = invariants_of(machine.world)
    machine.witness.begin(machine, program.node)
    return program


def build_unwatched(machine: Machine, ports: Ports) -> Program:
    """As ``build_node``, without invariants."""
    machine.refuses = refuses
    return OuroProgram(machine, ports)


def refuses(mine: OuroProgram, theirs: OuroProgram, address: Address) -> str | None:
    """What the handshake of ``net.peers`` asks of a node once both ends have proved that they know the secret."""
    one, other = mine.node, theirs.node
    if one.is_member and other.is_member and one.view.cluster_id != other.view.cluster_id:
        return "it belongs to another cluster"
    return one.admit(other.identity.host_id, address)


def invariants_of(world: World) -> Invariants:
    """What all nodes of a world have shown; one for all machines."""
    first = world.machines[0]
    if first.witness is None:
        invariants = Invariants(lambda: converge(world))
        for machine in world.machines:
            machine.witness = invariants
    assert isinstance(first.witness, Invariants)
    return first.witness


def inspect(world: World, stage: Stage) -> Script[list[str]]:
    """What is wrong with a healed cluster, seen from inside.

    Nodes that don't agree on what the cluster is; replicas that differ after everything was read at ALL.
    """
    problems = disagreements(world)
    for _ in range(AGREEMENT_SECONDS_MAX):
        if not problems:
            break
        # An entry of the log may be on its way to somebody.
        yield stage.sleep(1)
        problems = disagreements(world)
    for table in tables(world):
        yield from read_all(
            stage, f"SELECT * FROM {table.keyspace}.{table.name}", consistency=Consistency.ALL
        )
    yield stage.sleep(1)
    return problems + differences(world)


def converge(world: World) -> Script[list[str]]:
    """What is wrong with a healed cluster from which nobody has read: hints must be delivered, and replicas be equal.

    When may they not? A write is on each replica, or in a hint for it: so once all hints are delivered replicas are
    equal, without anything being read. Only a process that dies, or a store that refuses writes, may take with it what
    no replica was sent and no hint says. In a run in which that has happened they only have to be equal after
    everything was read at ALL, and here it is told how much wasn't.
    """
    for _ in range(CONVERGENCE_SECONDS_MAX):
        hints = {me: node.hints.total for me, node in nodes(world).items() if node.hints.total}
        if not hints:
            differing = differences(world)
            if not differing or has_lost_writes(world):
                shown = "; ".join(differing) or "all replicas are equal"
                world.tell("world", f"before anything is read at ALL: {shown}")
                return []
        yield world.sleep(1)
    if hints:
        return [
            f"node {me} still keeps {count} hints, {CONVERGENCE_SECONDS_MAX} s after all was healed"
            for me, count in hints.items()
        ]
    return [f"nothing is read, all hints are delivered: {problem}" for problem in differing]


def has_lost_writes(world: World) -> bool:
    """Whether a process has died, or a store refused writes, so that a replica may lack something without a hint."""
    witness = world.machines[0].witness
    if not isinstance(witness, Invariants) or witness.has_seen_refusals:
        return True
    return any(machine.deaths for machine in (*world.machines, *world.gone))


def differences(world: World) -> list[str]:
    """Partitions in which replicas differ."""
    return [
        problem
        for table in tables(world)
        for problem in check_convergence(copies(world, table), f"{table.name}, partition")
    ]


def nodes(world: World) -> dict[NodeId, Node]:
    """The nodes by their ids."""
    return {machine.program.node.peers.me: machine.program.node for machine in world.machines}


def tables(world: World) -> list[Table]:
    """The tables that workloads made."""
    node: Node = world.machines[0].program.node
    keyspace = node.view.schema.keyspaces.get(KEYSPACE)
    return [] if keyspace is None else list(keyspace.tables.values())


def disagreements(world: World) -> list[str]:
    """Nodes that see another cluster than the others, or take one that is up for down."""
    problems = []
    views = {me: node.view for me, node in nodes(world).items()}
    first = next(iter(views.values()))
    epochs = {me: view.epoch for me, view in views.items()}
    if len(set(epochs.values())) > 1:
        problems.append(f"nodes don't know the same epoch: {epochs}")
    elif any(view.schema.keyspaces != first.schema.keyspaces for view in views.values()):
        problems.append(f"at epoch {first.epoch} nodes have different schemas")
    for me, node in nodes(world).items():
        down = [other for other, is_up in node.peers.up.items() if not is_up]
        if down:
            problems.append(f"node {me} takes these for down: {down}")
    return problems


def copies(world: World, table: Table) -> dict[str, dict[bytes, bytes]]:
    """What each node's copies of the partitions that it is a replica of mean, by position.

    A partition that a replica doesn't have means the same as one without rows; values of columns that were dropped mean
    nothing, as for the replicas themselves.
    """
    now_s = world.loop.now_ns // S + EPOCH_US // 1_000_000
    found: dict[NodeId, dict[bytes, bytes]] = {}
    gc_grace_s = table.options.gc_grace_seconds
    empty = digest([], None, now_s, gc_grace_s)
    everybody = nodes(world)
    for me, node in everybody.items():
        rows = node.rows.of(table)
        dropped = dropped_from(rows.keys)
        chunk = read_range(rows, b"", None, rows_max=EVERYTHING, bytes_max=EVERYTHING, keys_max=EVERYTHING)
        found[me] = {
            partition.position: digest([partition], None, now_s, gc_grace_s, dropped)
            for partition in chunk.partitions
        }
    positions = sorted({position for held in found.values() for position in held})
    route_of = everybody[min(everybody)].coordinator.route_of
    owners = {position: route_of(table.keyspace, position).replicas.nodes for position in positions}
    return {
        f"node {me}": {
            position: held.get(position, empty) for position in positions if me in owners[position]
        }
        for me, held in found.items()
    }
