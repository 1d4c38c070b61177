"""A few nodes' replicated read path in one process: real peers, replicas and fetches over stores in memory.

Messages lie in a queue until the test delivers, loses or refuses them, one by one and in any order; time passes when
the test says so. Nothing else happens by itself.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from typing import Any
from uuid import UUID

from ourodb.cluster.ring.model import Member
from ourodb.cluster.ring.placement import Ring
from ourodb.errors import InvalidRequest, StoreError, StoreReadOnly
from ourodb.peer.messages import FAILED, HEADER, HEADER_BYTES, REPLY
from ourodb.ports import LATER, Address, Later, NodeId, Ports, Write
from ourodb.replication.coordinator.fetch import Fetch, FetchContext
from ourodb.replication.coordinator.rows import ReplicatedRows
from ourodb.replication.latency import Latencies
from ourodb.replication.messages import Reason
from ourodb.replication.peers import Peers
from ourodb.replication.replica.reads import ReadCommand
from ourodb.replication.replica.replica import Replica
from ourodb.replication.replica.writes import Writes
from ourodb.replication.routes import KeyspaceRoutes, Route, Routing
from ourodb.replication.timestamps import Timestamps
from ourodb.schema.keyspaces import NETWORK_TOPOLOGY, SIMPLE
from ourodb.schema.model import Keyspace, Replication, Table
from ourodb.storage.memory import MemoryStore
from ourodb.storage.mutation import Mutation, decode_mutation
from ourodb.storage.rows import Rows, TableRows

START_NS = 1_700_000_000 * 1_000_000_000


class Store(MemoryStore):
    """A store that answers late, or refuses to be written to, when a test says so.

    Attributes:
        is_cold: each key must be fetched once.
        is_broken: which fails.
        is_read_only: as with a full disk.
        fetches: those under way; call one to end it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_cold = False
        self.is_broken = False
        self.is_read_only = False
        self.fetches: list[Callable[[], None]] = []
        self._warm: dict[bytes, None] = {}

    def get(self, family: int, key: bytes) -> bytes | None | Later:
        if self.is_cold and family == 0 and key not in self._warm:
            return LATER
        return super().get(family, key)

    def fetch(self, family: int, key: bytes, done: Callable[[bytes | None | Exception], None]) -> None:
        def end() -> None:
            if self.is_broken:
                done(StoreError("the disk doesn't answer"))
                return
            self._warm[key] = None
            done(MemoryStore.get(self, family, key))  # type: ignore[arg-type]

        self.fetches.append(end)

    def apply(self, writes: Any) -> None:
        if self.is_read_only:
            raise StoreReadOnly("the disk is full")
        super().apply(list[Write](writes))


class Timer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class Link:
    """One direction between two nodes; ``is_connected`` False: nothing can be sent."""

    def __init__(self, net: Net, sender: NodeId, receiver: NodeId) -> None:
        self.address: Address = (f"127.0.0.{receiver}", 7000)
        self.is_connected = True
        self._net = net
        self._ends = (sender, receiver)

    def send(self, lane: int, message: bytes) -> bool:
        if self.is_connected:
            self._net.messages.append(Message(*self._ends, message))
        return self.is_connected


class Message:
    """On its way."""

    def __init__(self, sender: NodeId, receiver: NodeId, data: bytes) -> None:
        self.sender = sender
        self.receiver = receiver
        self.data = data
        self.verb, self.flags, self.request, _, self.epoch = HEADER.unpack_from(data)
        self.body = data[HEADER_BYTES:]

    @property
    def is_reply(self) -> bool:
        return bool(self.flags & REPLY)


class Net:
    """All nodes, the messages between them, and time.

    Attributes:
        messages: on their way.
        is_keyspace_gone: it has been dropped.
    """

    def __init__(
        self,
        t: Table,
        nodes: int = 3,
        *,
        factor: int = 3,
        data_centers: int = 1,
    ) -> None:
        self.now_ns = START_NS
        self.messages: list[Message] = []
        self.is_keyspace_gone = False
        self._soon: list[Callable[[], None]] = []
        self._timers: list[tuple[int, int, Timer]] = []
        self._order = count()
        self._armed: dict[NodeId, None] = {}
        self.tokens = [(index * 37) % 251 * (1 << 56) - (1 << 63) for index in range(4 * nodes)]
        members = [
            Member(
                NodeId(number),
                UUID(int=number),
                (f"127.0.0.{number}", 7000),
                (f"127.0.0.{number}", 9042),
                f"dc{number % data_centers}",
                "r1",
                f"h{number}",
                tuple(sorted(self.tokens[number - 1 :: nodes])),
            )
            for number in range(1, nodes + 1)
        ]
        replication = Replication(SIMPLE, {"replication_factor": str(factor)})
        if data_centers > 1:
            replication = Replication(
                NETWORK_TOPOLOGY, {f"dc{index}": str(factor) for index in range(data_centers)}
            )
        self.ring = Ring(members)
        self.keyspace = Keyspace("ks", replication, tables={t.name: t})
        self.nodes = {member.id: Node(self, member, t) for member in members}
        for node in self.nodes.values():
            for member in members:
                node.peers.up[member.id] = True
                node.peers.addresses[member.id] = member.peer[0]
                if member.id != node.id:
                    node.peers.links[member.id] = Link(self, node.id, member.id)

    # Ports

    def wall_us(self) -> int:
        return self.now_ns // 1000

    def monotonic_ns(self) -> int:
        return self.now_ns

    def bytes(self, count: int) -> bytes:
        return bytes(range(count))

    def below(self, bound: int) -> int:
        return 0

    def soon(self, callback: Callable[[], None]) -> None:
        self._soon.append(callback)

    def after(self, delay_ms: int, callback: Callable[[], None]) -> Timer:
        timer = Timer(callback)
        heapq.heappush(self._timers, (self.now_ns + delay_ms * 1_000_000, next(self._order), timer))
        return timer

    # What a test does

    def settle(self) -> None:
        """The pass is over."""
        while self._soon or self._armed:
            soon, self._soon = self._soon, []
            for callback in soon:
                callback()
            armed, self._armed = self._armed, {}
            for node in armed:
                self.nodes[node].writes.settle()

    def arm(self, node: NodeId) -> None:
        self._armed[node] = None

    def deliver(self, message: Message) -> None:
        if message in self.messages:
            self.messages.remove(message)
        self.nodes[message.receiver].receive(message)
        self.settle()

    def deliver_all(self) -> None:
        """All that is on its way, and all that follows from it."""
        while self.messages:
            self.deliver(self.messages[0])

    def refuse(self, message: Message, reason: int = Reason.UNKNOWN) -> None:
        """The receiver of a request fails."""
        self.messages.remove(message)
        body = reason.to_bytes(2, "big") + b"it broke"
        header = HEADER.pack(message.verb, REPLY | FAILED, message.request, self.wall_us(), 0)
        self.messages.append(Message(message.receiver, message.sender, header + body))

    def lose(self, message: Message) -> None:
        self.messages.remove(message)

    def pass_ms(self, ms: int) -> None:
        """Timers run on the way."""
        end_ns = self.now_ns + ms * 1_000_000
        while self._timers and self._timers[0][0] <= end_ns:
            self.now_ns, _, timer = heapq.heappop(self._timers)
            if timer.callback is not None:
                timer.callback()
            self.settle()
        self.now_ns = end_ns

    def break_link(self, one: NodeId, other: NodeId) -> None:
        """The failure detector of ``one`` takes the other for down."""
        node = self.nodes[one]
        node.peers.up[other] = False
        node.peers.lost(other)
        self.settle()


class Node:
    """The replicated read path of one node.

    Attributes:
        heard: requests that reached it, counted.
    """

    def __init__(self, net: Net, member: Member, t: Table) -> None:
        self.net = net
        self.id = member.id
        self.member = member
        self.heard = 0
        self.store = Store()
        self.all_rows = Rows(self.store)
        self.rows: TableRows = self.all_rows.register(t)
        ports = Ports(net, net, net, self.store, None, lambda: net.arm(self.id))  # type: ignore[arg-type]
        self.peers = Peers(ports, Timestamps(net))
        self.peers.me = member.id
        self.writes = Writes(self.all_rows, self.store, group=False, arm=ports.arm)
        self.replica = Replica(self.all_rows, self.store, self.writes, self.peers, net)
        self._handlers = self.replica.handlers()
        self.latencies = Latencies()
        self.fetches = FetchContext(
            self.peers,
            Routing(lambda keyspace: self.routes()),
            self.store,
            self.writes,
            net,
            self.latencies.speculate_after_ms,
            self.latencies.observe_us,
        )

    def receive(self, message: Message) -> None:
        if message.flags & REPLY:
            self.peers.on_reply(message.sender, message.request, message.flags, message.body)
            return
        self.heard += 1
        link = self.peers.links[message.sender]
        self._handlers[message.verb](link, message.sender, message.request, message.epoch, message.body)

    def hold(self, *mutations: Mutation) -> None:
        """Have it stored here alone."""
        for mutation in mutations:
            arrived = decode_mutation(mutation.encode())[0]
            assert self.rows.apply(arrived, self.net.now_ns // 10**9) is None

    def routes(self) -> KeyspaceRoutes:
        if self.net.is_keyspace_gone:
            raise InvalidRequest("Keyspace ks does not exist")
        placement = self.net.ring.placement(self.net.keyspace.replication)
        return KeyspaceRoutes(
            self.net.keyspace, placement, self.peers, self.member.data_center, self._distance
        )

    def route(self, position: bytes) -> Route:
        return self.routes().find(position)

    def fetch(self, command: ReadCommand, position: bytes, level: int) -> Watched:
        route = self.route(position)
        return Watched(Fetch(self.fetches, command, route, level, route.read_nodes(level)))

    def replicated(self, level: int, rows_max: int = 5_000) -> ReplicatedRows:
        return ReplicatedRows(self.fetches, self.rows, level, rows_max)

    def _distance(self, node: NodeId) -> float:
        far = self.net.nodes[node].member.data_center != self.member.data_center
        return node + self.latencies.of_us(node) + far * 1e9


class Watched:
    """A fetch that counts how often it says that it is done."""

    def __init__(self, fetch: Fetch) -> None:
        self.fetch = fetch
        self.woken = 0
        fetch.wake = self._wake
        fetch.start()

    def _wake(self) -> None:
        assert self.fetch.is_done
        assert (self.fetch.chunk is None) != (self.fetch.error is None)
        self.woken += 1


def with_options(t: Table, **options: Any) -> Table:
    return replace(t, options=replace(t.options, **options))


def order_of(nodes: Sequence[NodeId]) -> list[int]:
    return [int(node) for node in nodes]
