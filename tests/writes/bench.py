"""One coordinator without a ring around it: production parts on ports that a test holds in its hand.

Time passes when the test says so, links take what they are told to take and keep it, and the store refuses writes while
the test wants it to.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from uuid import UUID

from tests.storage.tables import table

from ourodb.cluster.ring.model import Member
from ourodb.cluster.ring.placement import Placement, ReplicaSet
from ourodb.cql.types.native import INT
from ourodb.errors import OuroError, Overloaded
from ourodb.peer.messages import FAILED, HEADER, HEADER_BYTES, REPLY
from ourodb.ports import Address, NodeId, Ports, Write
from ourodb.replication.coordinator.write import WriteContext
from ourodb.replication.hints import Hints
from ourodb.replication.peers import Peers
from ourodb.replication.replica.writes import Writes
from ourodb.replication.routes import KeyspaceRoutes, Route, Routing
from ourodb.replication.timestamps import Timestamps
from ourodb.schema.model import Keyspace, Replication
from ourodb.storage.memory import MemoryStore
from ourodb.storage.mutation import Mutation, MutationBuilder
from ourodb.storage.rows import Rows

START_US = 1_700_000_000_000_000
TABLE = table([("k", INT)], [], [], [("v", INT)], 1900)
ME = NodeId(1)


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_us = START_US
        self.passed_ns = 0

    def wall_us(self) -> int:
        return self.now_us

    def monotonic_ns(self) -> int:
        return self.passed_ns


class Draws:
    def __init__(self) -> None:
        self._random = random.Random(1)

    def bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)

    def below(self, bound: int) -> int:
        return self._random.randrange(bound)


class Scheduler:
    """Implements ``ports.Scheduler`` for ``Bench.pass_ms``."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.ready: list[Callable[[], None]] = []
        self.timers: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0

    def soon(self, callback: Callable[[], None]) -> None:
        self.ready.append(callback)

    def after(self, delay_ms: int, callback: Callable[[], None]) -> Cancelled:
        self._count += 1
        timer = (self.now_ms + delay_ms, self._count, callback)
        self.timers.append(timer)
        return Cancelled(self, timer)


class Cancelled:
    """Implements ``ports.Timer``."""

    def __init__(self, scheduler: Scheduler, timer: tuple[int, int, Callable[[], None]]) -> None:
        self._scheduler = scheduler
        self._timer = timer

    def cancel(self) -> None:
        if self._timer in self._scheduler.timers:
            self._scheduler.timers.remove(self._timer)


class Store(MemoryStore):
    """A store in memory that writes what was applied when it is settled, unless it is told to refuse.

    Attributes:
        refuses_apply, refuses_settle: while set.
    """

    def __init__(self) -> None:
        super().__init__()
        self.refuses_apply = False
        self.refuses_settle = False
        self._unsettled: list[Write] = []
        self._ended: list[Callable[[OuroError | None], None]] = []

    def apply(self, writes: Iterable[Write]) -> None:
        if self.refuses_apply:
            raise Overloaded("no room")
        taken = list(writes)
        self._unsettled += [
            (family, key, self.get(family, key))  # type: ignore[misc]
            for family, key, _ in taken
        ]
        super().apply(taken)

    def settle(self) -> None:
        undo, self._unsettled = self._unsettled, []
        if self.refuses_settle and undo:
            super().apply(reversed(undo))
            error = Overloaded("the store can't take writes this fast")
            for ended in self._ended:
                ended(error)
            raise error

    def follow_batches(self, ended: Callable[[OuroError | None], None]) -> None:
        self._ended.append(ended)

    def sync(self, done: Callable[[Exception | None], None]) -> None:
        try:
            self.settle()
        except Overloaded as error:
            done(error)
            return
        done(None)


class Sent:
    """Implements ``ports.Link``; keeps what is sent.

    Attributes:
        takes: whether it takes messages.
        messages: (lane, verb, request, body).
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self.is_connected = True
        self.takes = True
        self.messages: list[tuple[int, int, int, bytes]] = []

    def send(self, lane: int, message: bytes) -> bool:
        if self.takes:
            verb, _, request, _, _ = HEADER.unpack_from(message)
            self.messages.append((lane, verb, request, message[HEADER_BYTES:]))
        return self.takes


class NoTransport:
    def link(self, address: Address) -> Sent:
        return Sent(address)

    def forget(self, address: Address) -> None:
        pass


class Bench:
    """A coordinator, node 1, among others.

    Attributes:
        links: to the others.
    """

    def __init__(self, nodes: Sequence[int] = (1, 2, 3), store: Store | None = None) -> None:
        self.clock = Clock()
        self.scheduler = Scheduler()
        self.store = store or Store()
        self.armed = False
        self.ports = Ports(self.clock, Draws(), self.scheduler, self.store, NoTransport(), self._arm)
        self.peers = Peers(self.ports, Timestamps(self.clock))
        self.peers.me = ME
        self.links: dict[NodeId, Sent] = {}
        for node in map(NodeId, nodes):
            self.peers.up[node] = True
            self.peers.addresses[node] = f"10.0.0.{node}"
            if node != ME:
                self.links[node] = self.peers.links[node] = Sent((f"10.0.0.{node}", 7000))  # type: ignore[assignment]
        self.rows = Rows(self.store)
        self.keys = self.rows.register(TABLE).keys
        self.writes = Writes(self.rows, self.store, group=True, arm=self._arm)
        self.hints = Hints(self.store, self.peers, self.clock, self._arm)
        self.hints.recover()
        routing = Routing(lambda keyspace: self._routes({ME: "dc1"}))
        self.context = WriteContext(self.peers, routing, self.writes, self.hints, self.clock)

    def _arm(self) -> None:
        self.armed = True

    # Time

    def settle(self) -> None:
        """The pass of the loop ends, and those after it that it leads to."""
        while self.armed or self.scheduler.ready:
            ready, self.scheduler.ready = self.scheduler.ready, []
            for callback in ready:
                callback()
            self.armed = False
            self.writes.settle()

    def pass_ms(self, ms: int) -> None:
        """Let time pass; timers run."""
        self.settle()
        end_ms = self.scheduler.now_ms + ms
        while self.scheduler.timers and min(self.scheduler.timers)[0] <= end_ms:
            timer = min(self.scheduler.timers)
            self.scheduler.timers.remove(timer)
            self._set_time(timer[0])
            timer[2]()
            self.settle()
        self._set_time(end_ms)

    def _set_time(self, ms: int) -> None:
        passed_ms = ms - self.scheduler.now_ms
        self.scheduler.now_ms = ms
        self.clock.passed_ns += passed_ms * 1_000_000
        self.clock.now_us += passed_ms * 1_000

    # What there is

    def mutation(self, key: int = 1, value: int = 1, timestamp: int = START_US) -> Mutation:
        position = self.keys.position((key.to_bytes(4, "big"),))
        builder = MutationBuilder(self.keys, position, timestamp, self.clock.now_us // 1_000_000)
        builder.row(()).cell(TABLE.columns["v"], value.to_bytes(4, "big"))
        built = builder.build()
        assert built is not None
        return built

    def route(
        self, nodes: Mapping[int, str], here: str = "dc1", factors: Mapping[str, int] | None = None
    ) -> Route:
        """The route of a partition that these nodes hold.

        Args:
            nodes: with their data centres.
            here: this node's data centre.
            factors: of NetworkTopologyStrategy; None: SimpleStrategy with as many copies as there are nodes.
        """
        return self._routes(nodes, here, factors).find(b"")

    def _routes(
        self, nodes: Mapping[int, str], here: str = "dc1", factors: Mapping[str, int] | None = None
    ) -> KeyspaceRoutes:
        members = {NodeId(node): member(node, name) for node, name in nodes.items()}
        if factors is None:
            replication = Replication("SimpleStrategy", {"replication_factor": str(len(nodes))})
        else:
            replication = Replication(
                "NetworkTopologyStrategy", {name: str(factor) for name, factor in factors.items()}
            )
        replicas = ReplicaSet(tuple(members), members)
        placement = Placement([], [replicas], [])
        keyspace = Keyspace("ks", replication)
        epoch = self.peers.epoch
        return KeyspaceRoutes(keyspace, placement, self.peers, here, lambda node: node, epoch=epoch)

    def answer(self, node: int, request: int, failure: bytes | None = None, body: bytes = b"") -> None:
        """A node answers."""
        flags = REPLY if failure is None else REPLY | FAILED
        self.peers.on_reply(NodeId(node), request, flags, body if failure is None else failure)


def member(node: int, data_center: str) -> Member:
    return Member(
        id=NodeId(node),
        host_id=UUID(int=node),
        peer=(f"10.0.0.{node}", 7000),
        native=(f"10.0.0.{node}", 9042),
        data_center=data_center,
        rack="r1",
        host=f"host{node}",
        tokens=(node,),
    )
