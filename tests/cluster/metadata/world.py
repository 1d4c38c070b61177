"""A small world for metadata logs: virtual time, a network and disks that misbehave by a seed, and no sockets.

Everything that happens is one heap of (time, number, callback). A message takes a while and may be lost, doubled or
overtaken; a sync takes a while; a crash takes what wasn't synced, save perhaps for the first part of it. Failure
detection is by hand: nodes that can reach each other hear of each other, and of their epochs, twice a second.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from random import Random as Draws
from uuid import UUID

from ourodb.cluster.metadata.commands import NewMember
from ourodb.cluster.metadata.metadata import Metadata
from ourodb.cluster.metadata.submissions import Applied
from ourodb.cluster.metadata.view import ClusterView
from ourodb.errors import OuroError
from ourodb.peer.messages import Verb
from ourodb.ports import URGENT, Address, Link, NodeId, Ports, Write
from ourodb.schema.changes import Change, SchemaChangeEvent
from ourodb.storage.families import NAMES
from ourodb.storage.memory import MemoryStore

Outcome = Applied | OuroError

GOSSIP_MS = 500
SILENCE_MS = 1_600
"""Silence after which a node is taken for dead."""

CLUSTER = UUID(int=77)


class Disk(MemoryStore):
    """Syncs take a while. ``after_crash`` is what a crash of the machine leaves."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self._unsynced: list[list[Write]] = []
        self._synced = MemoryStore()
        self.is_gone = False
        self.syncs = 0

    def apply(self, writes: Iterable[Write]) -> None:
        batch = list(writes)
        self._unsynced.append(batch)
        super().apply(batch)

    def sync(self, done: Callable[[Exception | None], None]) -> None:
        count = len(self._unsynced)
        self._world.after(self._world.draw(1, 4), lambda: self._on_synced(count, done))

    def _on_synced(self, count: int, done: Callable[[Exception | None], None]) -> None:
        if self.is_gone:
            return
        self.syncs += 1
        for batch in self._unsynced[:count]:
            self._synced.apply(batch)
        # Those who asked meanwhile counted from the same start.
        self._unsynced[:count] = [[] for _ in range(count)]
        done(None)

    def after_crash(self) -> Disk:
        """What was synced, and perhaps the first part of what wasn't."""
        self.is_gone = True
        left = Disk(self._world)
        for family in range(len(NAMES)):
            pairs = self._synced.scan(family, b"", b"\xff" * 64)
            left.apply([(family, key, value) for key, value in pairs])
        for batch in self._unsynced[: self._world.draw(0, len(self._unsynced))]:
            left.apply(batch)
        for batch in left._unsynced:
            left._synced.apply(batch)
        left._unsynced = []
        return left

    def after_stop(self) -> Disk:
        """Everything: the node ended in order."""
        self.is_gone = True
        left = Disk(self._world)
        for family in range(len(NAMES)):
            pairs = self.scan(family, b"", b"\xff" * 64)
            left._synced.apply([(family, key, value) for key, value in pairs])
            left.apply([(family, key, value) for key, value in self.scan(family, b"", b"\xff" * 64)])
        left._unsynced = []
        return left


class _Timer:
    def __init__(self) -> None:
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class WorldLink:
    """From one node to an address."""

    def __init__(self, node: WorldNode, address: Address) -> None:
        self.node = node
        self.address = address
        self.is_connected = True

    def send(self, lane: int, message: bytes) -> bool:
        raise AssertionError("messages go through WorldNode.send")


class WorldNode:
    """A node's process, its disk, and the ports that it sees; lives on through crashes.

    Attributes:
        metadata: None while it is down.
        told: what listeners heard in its present life.
    """

    def __init__(self, world: World, number: int, *, rack: str, data_center: str, host: str) -> None:
        self.world = world
        self.number = number
        self.address: Address = (f"10.0.0.{number}", 7000)
        self.host_id = UUID(int=1000 + number)
        self.member = NewMember(
            self.host_id, self.address, (f"10.0.0.{number}", 9042), data_center, rack, host, token_count=4
        )
        self.disk = Disk(world)
        self.metadata: Metadata | None = None
        self.life = 0
        self.told: list[tuple[ClusterView, tuple[SchemaChangeEvent, ...]]] = []
        self.heard_ms: dict[UUID, int] = {}
        self.links: dict[Address, WorldLink] = {}
        self.up: list[NodeId] = []

    # The ports

    def wall_us(self) -> int:
        return self.world.now_ms * 1000

    def monotonic_ns(self) -> int:
        return self.world.now_ms * 1_000_000

    def bytes(self, count: int) -> bytes:
        return self.world.draws.randbytes(count)

    def below(self, bound: int) -> int:
        return self.world.draws.randrange(bound)

    def soon(self, callback: Callable[[], None]) -> None:
        self.after(0, callback)

    def after(self, delay_ms: int, callback: Callable[[], None]) -> _Timer:
        timer, life = _Timer(), self.life

        def fire() -> None:
            if life == self.life and not timer.is_cancelled:
                callback()

        self.world.after(delay_ms, fire)
        return timer

    def link(self, address: Address) -> WorldLink:
        return self.links.setdefault(address, WorldLink(self, address))

    def forget(self, address: Address) -> None:
        self.links.pop(address, None)

    def send(self, link: Link, verb: Verb, flags: int, request: int, body: bytes) -> bool:
        assert isinstance(link, WorldLink)
        assert link.node is self
        return self.world.send(self, link.address, verb, flags, request, body)

    # What the node composition would know

    def _link_of(self, node: NodeId) -> WorldLink | None:
        member = self.running.view.members.get(node)
        return None if member is None else self.link(member.peer)

    def _is_up(self, node: NodeId) -> bool:
        member = self.running.view.members.get(node)
        if member is None:
            return False
        if member.host_id == self.host_id:
            return True
        heard_ms = self.heard_ms.get(member.host_id)
        return heard_ms is not None and self.world.now_ms - heard_ms < SILENCE_MS

    def look_around(self) -> None:
        """Tell the log when somebody went up or down."""
        if self.metadata is None:
            return
        up = [node for node in self.metadata.view.members if self._is_up(node)]
        if up != self.up:
            self.up = up
            self.metadata.on_reachable()

    @property
    def running(self) -> Metadata:
        assert self.metadata is not None, f"{self.number} is down"
        return self.metadata

    # Its life

    def boot(self) -> Metadata:
        """Begin a life: recover, and take part if it is a member."""
        assert self.metadata is None
        self.life += 1
        self.told = []
        self.heard_ms = {}
        ports = Ports(self, self, self, self.disk, self, lambda: None)
        self.metadata = Metadata(ports, self.host_id, self._link_of, self._is_up, self.send)
        self.metadata.listen(lambda view, events: self.told.append((view, events)))
        self.metadata.recover()
        if self.metadata.me:
            self.metadata.start()
        return self.metadata

    def found(self, name: str = "ring") -> None:
        self.boot().found(name, self.member, CLUSTER)

    def join(self, *seeds: WorldNode, name: str = "ring") -> list[ClusterView | OuroError]:
        """Begin to join; the list gets what became of it."""
        outcome: list[ClusterView | OuroError] = []
        metadata = self.metadata or self.boot()
        metadata.join([seed.address for seed in seeds], self.member, name, outcome.append)
        return outcome

    def crash(self) -> None:
        """The machine stops in the midst of it all."""
        self._end()
        self.disk = self.disk.after_crash()

    def stop(self) -> None:
        """End in order."""
        self.running.stop()
        self._end()
        self.disk = self.disk.after_stop()

    def _end(self) -> None:
        self.metadata = None
        self.life += 1

    def submit(self, change: Change) -> list[Outcome]:
        """Change the schema here; the list gets the outcome."""
        outcome: list[Outcome] = []
        self.running.submit(change, outcome.append)
        return outcome


class World:
    """Attributes:
    loss, doubling: of messages, as parts of 1.
    delay_ms: of messages: least and greatest.
    cuts: pairs of nodes (by number) that can't reach each other.
    """

    def __init__(self, seed: int = 0) -> None:
        self.draws = Draws(seed)
        self.now_ms = 1_000
        self.loss = 0.0
        self.doubling = 0.0
        self.delay_ms = (1, 3)
        self.nodes: list[WorldNode] = []
        self.cuts: set[tuple[int, int]] = set()
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self._gossip()

    def draw(self, least: int, greatest: int) -> int:
        return self.draws.randint(least, greatest)

    def node(self, rack: str = "r1", data_center: str = "dc1", host: str | None = None) -> WorldNode:
        """One more node; it isn't started."""
        number = len(self.nodes) + 1
        made = WorldNode(self, number, rack=rack, data_center=data_center, host=host or f"h{number}")
        self.nodes.append(made)
        return made

    def ring(self, count: int) -> list[WorldNode]:
        """A ring of so many nodes, whose ids are their numbers, with the voters that it is to have."""
        nodes = [self.node() for _ in range(count)]
        nodes[0].found()
        for node in nodes[1:]:
            joined = node.join(nodes[0])
            self.until(lambda joined=joined: joined)
        wanted = 1 if count < 3 else 3 if count < 7 else 5
        self.until(lambda: all(len(node.running.voters) == wanted for node in nodes), 60_000)
        self.until(lambda: len({node.running.epoch for node in nodes}) == 1)
        return nodes

    # Time

    def after(self, delay_ms: int, callback: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._heap, (self.now_ms + delay_ms, self._count, callback))

    def step(self) -> None:
        at_ms, _, callback = heapq.heappop(self._heap)
        self.now_ms = max(self.now_ms, at_ms)
        callback()

    def run(self, duration_ms: int) -> None:
        end_ms = self.now_ms + duration_ms
        while self._heap and self._heap[0][0] <= end_ms:
            self.step()
        self.now_ms = end_ms

    def until(self, condition: Callable[[], object], limit_ms: int = 20_000) -> int:
        """Run until the condition holds, and fail if it doesn't in time; milliseconds that it took."""
        begun_ms = self.now_ms
        while not condition():
            assert self._heap, "nothing will happen any more"
            assert self.now_ms - begun_ms < limit_ms, f"not within {limit_ms} ms"
            self.step()
        return self.now_ms - begun_ms

    # The network

    def cut(self, some: Iterable[WorldNode], others: Iterable[WorldNode]) -> None:
        """Nothing passes between these and those."""
        far = list(others)
        for a in some:
            self.cuts |= {(a.number, b.number) for b in far} | {(b.number, a.number) for b in far}

    def heal(self) -> None:
        self.cuts.clear()

    def can_reach(self, a: WorldNode, b: WorldNode) -> bool:
        return a.metadata is not None and b.metadata is not None and (a.number, b.number) not in self.cuts

    def send(self, source: WorldNode, to: Address, verb: Verb, flags: int, request: int, body: bytes) -> bool:
        target = next((node for node in self.nodes if node.address == to), None)
        if target is None or source.metadata is None:
            return False
        epoch = source.metadata.epoch
        for _ in range(2 if self.draws.random() < self.doubling else 1):
            if self.draws.random() >= self.loss:
                self.after(
                    self.draw(*self.delay_ms),
                    lambda: self._deliver(source, target, epoch, verb, flags, request, body),
                )
        return True

    def _deliver(
        self,
        source: WorldNode,
        target: WorldNode,
        epoch: int,
        verb: Verb,
        flags: int,
        request: int,
        body: bytes,
    ) -> None:
        if target.metadata is None or (source.number, target.number) in self.cuts:
            return
        metadata = target.metadata
        member = metadata.view.member_of_host(source.host_id)
        sender = None if member is None else member.id
        if sender is not None and epoch > metadata.epoch:
            metadata.on_epoch_seen(sender, epoch)
        metadata.receive(target.link(source.address), sender, verb, request, flags, body)

    def _gossip(self) -> None:
        for a in self.nodes:
            a.look_around()
            for b in self.nodes:
                if a is not b and self.can_reach(a, b):
                    assert b.metadata is not None
                    b.heard_ms[a.host_id] = self.now_ms
                    member = b.metadata.view.member_of_host(a.host_id)
                    if member is not None:
                        b.metadata.on_epoch_seen(member.id, a.running.epoch)
        self.after(GOSSIP_MS, self._gossip)


assert URGENT == 0
