"""A ring of real nodes on virtual time, whose messages a test may lose or hold back, one by one.

The nodes, their peers, stores, links and clients are the production ones on the simulator's ports. What a test adds
stands before a node's door: ``Ring.fate`` sees each message of the data plane when it arrives, and says what becomes
of it. A message that is held back arrives when the test lets it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Final, NamedTuple

from ourodb.cql.wire.codes import Consistency
from ourodb.cql.wire.connection import ServerConnection
from ourodb.node import Node
from ourodb.peer.messages import FAILED, HEADER, HEADER_BYTES, REPLY, Verb
from ourodb.ports import Address, Link, NodeId, Ports
from ourodb.session.session import Session
from ourodb.sim.client import CqlClient
from ourodb.sim.disk import Conditions
from ourodb.sim.machine import Machine
from ourodb.sim.ouro import OuroProgram
from ourodb.sim.tasks import Promise
from ourodb.sim.trace import Kind
from ourodb.sim.workloads.stage import Reply
from ourodb.sim.world import World

PASS: Final = "pass"
LOSE: Final = "lose"
HOLD: Final = "hold"
TWICE: Final = "twice"

PATIENCE_S: Final = 30.0
"""Of virtual time: how long a client waits."""


class Message(NamedTuple):
    """A message that has arrived at a node's door.

    Attributes:
        sender, receiver: machines, counted from 0 on.
        is_reply, is_failure: of the header's flags.
    """

    sender: int
    receiver: int
    verb: int
    is_reply: bool
    is_failure: bool
    body: bytes


Fate = Callable[[Message], str]
"""PASS, LOSE, HOLD or TWICE."""


def everything_passes(message: Message) -> str:
    return PASS


class Doorkeeper:
    """A node as a program; asks the ring what becomes of each message that arrives."""

    def __init__(self, ring: Ring, machine: Machine, ports: Ports) -> None:
        self.program = OuroProgram(machine, ports)
        self.node = self.program.node
        self._ring = ring
        self._machine = machine

    @property
    def is_ready(self) -> bool:
        return self.program.is_ready

    def start(self) -> None:
        self.program.start()

    def stop(self) -> None:
        self.program.stop()

    def settle(self) -> None:
        self.program.settle()

    def receive(self, link: Link, message: bytes) -> None:
        verb, flags, _, _, _ = HEADER.unpack_from(message)
        if verb < Verb.GOSSIP:
            sender = self._ring.world.network.machines[link.address].index
            seen = Message(
                sender,
                self._machine.index,
                verb,
                bool(flags & REPLY),
                bool(flags & FAILED),
                message[HEADER_BYTES:],
            )
            fate = self._ring.fate(seen)
            self._ring.seen.append(seen)
            if fate == HOLD:
                self._ring.held.append((seen, message))
            if fate not in (PASS, TWICE):
                return
            if fate == TWICE:
                self.program.receive(link, message)
        self.program.receive(link, message)

    def peer_connected(self, address: Address) -> None:
        self.program.peer_connected(address)

    def peer_disconnected(self, address: Address, refused: bool) -> None:
        self.program.peer_disconnected(address, refused)

    def peer_lane_lost(self, address: Address, lane: int) -> None:
        self.program.peer_lane_lost(address, lane)

    def peer_refused(self, reason: str) -> None:
        self.program.peer_refused(reason)

    def open_session(
        self, connection: ServerConnection, peer: tuple[str, int], wake: Callable[[], None]
    ) -> Session:
        return self.program.open_session(connection, peer, wake)


class Ring:
    """The nodes.

    Attributes:
        world: where they live.
        fate: what becomes of messages; a test sets it.
        seen: all messages of the data plane that came to a node's door.
        held: those that wait to be let in.
    """

    def __init__(
        self,
        nodes: int = 3,
        *,
        seed: int = 1,
        data_centers: int = 1,
        racks: int = 1,
        sync_period_ms: int | None = None,
    ) -> None:
        self.fate: Fate = everything_passes
        self.seen: list[Message] = []
        self.held: list[tuple[Message, bytes]] = []
        self.world = World(seed)
        machines = self.world.add_machines(
            nodes,
            lambda machine, ports: Doorkeeper(self, machine, ports),
            data_centers=data_centers,
            racks=racks,
            sync_period_ms=sync_period_ms,
        )
        for machine in machines:
            # Nothing by chance: a test says what goes wrong.
            machine.disk.conditions = Conditions(sync_stall_one_in=0, later_one_in=0)
        self.world.start(machines)
        self._clients: dict[int, CqlClient] = {}
        assert self.world.run_until(lambda: self.is_whole() and self.has_voters(), 20)

    # What there is

    @property
    def machines(self) -> list[Machine]:
        return self.world.machines

    def node(self, index: int) -> Node:
        node: Node = self.machines[index].program.node
        return node

    def id(self, index: int) -> NodeId:
        return self.node(index).peers.me

    def is_whole(self) -> bool:
        """Whether each node knows all others and takes them for up."""
        running = [machine for machine in self.machines if machine.is_ready]
        return all(
            len(machine.program.node.peers.up) == len(self.machines)
            and sum(machine.program.node.peers.up.values()) == len(running)
            for machine in running
        )

    def has_voters(self) -> bool:
        """Whether the metadata log survives the loss of any one node, if there are enough of them for that."""
        count = 3 if len(self.machines) > 2 else 1
        return all(len(self.node(machine.index).metadata.voters) >= count for machine in self.machines)

    def in_flight(self) -> list[int]:
        """Operations that wait on each node."""
        return [machine.program.node.peers.in_flight for machine in self.machines if machine.is_ready]

    def position(self, table: str, key: int) -> bytes:
        """Of the partition with this key."""
        node = self._any()
        found = node.view.schema.table("ks", table)
        assert found is not None
        return node.rows.register(found).keys.position((key.to_bytes(4, "big", signed=True),))

    def replicas(self, table: str, key: int) -> list[int]:
        """The machines that hold a partition, in the order of the ring."""
        route = self._any().coordinator.route_of("ks", self.position(table, key))
        return [self.index(node) for node in route.replicas.nodes]

    def strangers(self, table: str, key: int) -> list[int]:
        """The machines that don't."""
        replicas = self.replicas(table, key)
        return [machine.index for machine in self.machines if machine.index not in replicas]

    def index(self, node: NodeId) -> int:
        """The machine of a node."""
        member = self._any().view.members[node]
        return self.world.network.machines[member.peer].index

    def _any(self) -> Node:
        return next(self.node(machine.index) for machine in self.machines if machine.is_ready)

    # Statements

    def ask(
        self,
        index: int,
        statement: str,
        consistency: int = Consistency.QUORUM,
        serial_consistency: int = Consistency.SERIAL,
        values: Sequence[bytes | None] = (),
    ) -> Promise[Reply]:
        """Have a node coordinate a statement."""
        client = self._clients.get(index)
        if client is None:
            client = self._clients[index] = CqlClient(self.world, [self.machines[index]], moves=False)
        return client.execute(
            statement,
            values,
            consistency=consistency,
            serial_consistency=serial_consistency,
            timeout_s=PATIENCE_S,
            is_prepared=False,
        )

    def reply(self, promise: Promise[Reply]) -> Reply:
        """Let time pass until it is answered."""
        assert self.world.run_until(lambda: promise.is_kept, PATIENCE_S + 5), "no answer"
        return promise.value

    def run(
        self,
        index: int,
        statement: str,
        consistency: int = Consistency.QUORUM,
        serial_consistency: int = Consistency.SERIAL,
    ) -> Reply:
        """Have a node coordinate a statement, and wait for its answer."""
        return self.reply(self.ask(index, statement, consistency, serial_consistency))

    def done(self, index: int, statement: str, consistency: int = Consistency.QUORUM) -> Reply:
        """As ``run``, for what must succeed."""
        reply = self.run(index, statement, consistency)
        assert reply.error is None, reply
        return reply

    def set_up(self, *statements: str, factor: int = 3, per_data_center: int = 0) -> None:
        """A keyspace ``ks`` and whatever else is said.

        Args:
            per_data_center: copies in each data centre, for NetworkTopologyStrategy.
        """
        replication = f"{{'class': 'SimpleStrategy', 'replication_factor': {factor}}}"
        if per_data_center:
            names = sorted({machine.data_center for machine in self.machines})
            factors = ", ".join(f"'{name}': {per_data_center}" for name in names)
            replication = f"{{'class': 'NetworkTopologyStrategy', {factors}}}"
        self.done(0, f"CREATE KEYSPACE ks WITH replication = {replication}")
        for statement in statements:
            self.done(0, statement)

    def here(self, index: int, table: str, key: int) -> dict[str, bytes | None] | None:
        """The first row of a partition as this node alone has it, by column; None: it has none."""
        node = self.node(index)
        found = node.view.schema.table("ks", table)
        assert found is not None
        now_s = node.ports.clock.wall_us() // 1_000_000
        for row in node.rows.register(found).read(self.position(table, key), now_s):
            cells = getattr(row, "cells", None)
            if cells is not None:
                return {
                    column.name: cells[column.id][0] if column.id in cells else None
                    for column in found.by_id.values()
                }
        return None

    # What goes wrong

    def see(self, index: int, up: Collection[int]) -> None:
        """The machine's node takes these for up, and all others for down."""
        node = self.node(index)
        for other in range(len(self.machines)):
            node.peers.up[self.id(other)] = other in up
        node.coordinator.view_changed(node.view)

    def kill(self, index: int, *, with_machine: bool = False) -> None:
        """A node dies, and the others have noticed.

        Args:
            with_machine: what its disk hadn't synced may be lost.
        """
        machine = self.machines[index]
        if with_machine:
            machine.lose_power()
        else:
            machine.kill()
        assert self.world.run_until(self.is_whole, 30)

    def start(self, index: int) -> None:
        """It is back, and the others have noticed."""
        self._clients.pop(index, None)
        self.machines[index].start()
        assert self.world.run_until(lambda: self.machines[index].is_ready and self.is_whole(), 30)

    def rest(self) -> None:
        """Nothing goes wrong any more, and all that waits comes to an end."""
        self.fate = everything_passes
        self.held.clear()
        self.run_for(8)
        assert not any(self.in_flight()), self.in_flight()

    def let_in(self) -> None:
        """All messages that were held back arrive, at whatever runs there now."""
        held, self.held = self.held, []
        for seen, message in held:
            process = self.machines[seen.receiver].process
            assert process is not None
            link = process.transport.link(self.machines[seen.sender].address)
            process.post(Kind.RECEIVE, partial(self.node(seen.receiver).receive, link), message, message)

    def run_for(self, seconds: float) -> None:
        self.world.run_for(seconds)


def as_int(value: bytes | None) -> int | None:
    """A cell of type int or bigint."""
    return None if value is None else int.from_bytes(value, "big", signed=True)
