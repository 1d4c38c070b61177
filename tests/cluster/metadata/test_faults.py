"""Metadata logs under everything at once, by seed: lost, doubled and overtaken messages, cuts, crashes that lose what
wasn't synced, leaders killed over and over, and clients that change the schema on every node all the while.

If these failed, a change that a client was told of could be lost, or carried out twice, or nodes that have applied the
same epoch could have different schemas.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from tests.cluster.metadata.changes import keyspace, table
from tests.cluster.metadata.test_ring import agreed, has_leader, leader_of
from tests.cluster.metadata.world import Outcome, World, WorldNode

from ourodb.cluster.metadata.submissions import Applied, InDoubt
from ourodb.cluster.metadata.view import ClusterView
from ourodb.errors import Unavailable
from ourodb.schema.changes import SchemaChangeEvent, TruncateTable


@dataclass
class Clients:
    """Clients that create keyspaces with names of their own, and truncate one table, on nodes by chance.

    Attributes:
        created, doubtful: names that were told as there, or as perhaps there.
        truncated, perhaps_truncated: how often.
    """

    world: World
    nodes: list[WorldNode]
    period_ms: int = 120
    number: int = 0
    created: list[str] = field(default_factory=list)
    doubtful: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    truncated: int = 0
    perhaps_truncated: int = 0
    open: int = 0
    is_running: bool = True

    def go(self) -> None:
        """One more change, and the next one in a while."""
        if not self.is_running:
            return
        running = [node for node in self.nodes if node.metadata is not None]
        if running:
            node = running[self.world.draw(0, len(running) - 1)]
            life, begun_ms = node.life, self.world.now_ms
            self.number += 1
            self.open += 1
            name = f"k{self.number}"
            is_truncation = self.number % 3 == 0
            change = TruncateTable("app", "t") if is_truncation else keyspace(name)

            def done(outcome: Outcome) -> None:
                self.open -= 1
                if not isinstance(outcome, Applied):
                    assert self.world.now_ms - begun_ms <= 2_000
                self._note(name, is_truncation, outcome)

            node.running.submit(change, done)
            self.world.after(15_000, lambda: self._orphaned(node, life, name, is_truncation))
        self.world.after(self.world.draw(1, 2 * self.period_ms), self.go)

    def _note(self, name: str, is_truncation: bool, outcome: Outcome) -> None:
        # Names are used once: any other error would mean that a change was carried out twice.
        assert isinstance(outcome, Applied | InDoubt | Unavailable), repr(outcome)
        if isinstance(outcome, Applied):
            if is_truncation:
                self.truncated += 1
            else:
                self.created.append(name)
                assert outcome.events == (SchemaChangeEvent("CREATED", "KEYSPACE", name),)
        elif isinstance(outcome, InDoubt):
            self.perhaps_truncated += is_truncation
            if not is_truncation:
                self.doubtful.append(name)
        elif not is_truncation:
            self.failed.append(name)

    def _orphaned(self, node: WorldNode, life: int, name: str, is_truncation: bool) -> None:
        """A client whose node died never hears."""
        known = {*self.created, *self.doubtful, *self.failed}
        if node.life != life and name not in known:
            if is_truncation:
                self.perhaps_truncated += 1
            else:
                self.doubtful.append(name)


class Historian:
    """Checks, millisecond by millisecond, that nodes that have applied the same epoch have the same view."""

    def __init__(self, world: World, nodes: list[WorldNode]) -> None:
        self.world = world
        self.views: dict[tuple[int, int], ClusterView] = {}
        self.seen: dict[int, ClusterView] = {}
        self.nodes = nodes
        self._watch()

    def _watch(self) -> None:
        self.look()
        self.world.after(1, self._watch)

    def look(self) -> None:
        for node in self.nodes:
            if node.metadata is not None:
                view = node.running.view
                if self.seen.get(node.number) is not view:
                    self.seen[node.number] = view
                    assert self.views.setdefault((view.recoveries, view.epoch), view) == view


def begin(world: World, count: int) -> tuple[list[WorldNode], Clients, Historian]:
    nodes = world.ring(count)
    for change in (keyspace("app"), table("t")):
        outcome = nodes[0].submit(change)
        world.until(lambda outcome=outcome: outcome)
    clients = Clients(world, nodes)
    historian = Historian(world, nodes)
    clients.go()
    return nodes, clients, historian


def end(world: World, nodes: list[WorldNode], clients: Clients, historian: Historian) -> None:
    """After the faults stop: one schema everywhere, soon, and in it all that was acknowledged."""
    world.heal()
    world.loss = world.doubling = 0.0
    world.delay_ms = (1, 3)
    for node in nodes:
        if node.metadata is None:
            node.boot()
    world.until(lambda: has_leader(nodes), 10_000)
    clients.is_running = False
    world.run(16_000)
    world.until(lambda: agreed(nodes), 10_000)
    historian.look()
    view = nodes[0].running.view
    names = set(view.schema.keyspaces)
    assert set(clients.created) <= names
    assert not set(clients.failed) & names
    ours = {name for name in names if name.startswith("k")}
    assert ours <= {*clients.created, *clients.doubtful}
    used = view.schema.next_incarnation - first_incarnation(view)
    assert clients.truncated <= used <= clients.truncated + clients.perhaps_truncated
    # A run in which nothing was changed proves nothing.
    assert len(clients.created) > 20
    for node in nodes:
        node.stop()
        assert node.boot().view.schema == view.schema


def first_incarnation(view: ClusterView) -> int:
    """What the first table got, plus one: from there on each truncation takes one."""
    return 1024 + 1


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("count", [3, 7])
def test_acknowledged_changes_survive_everything(count: int, seed: int) -> None:
    world = World(seed)
    nodes, clients, historian = begin(world, count)
    for _ in range(12):
        world.loss = world.draws.choice([0.0, 0.02, 0.15])
        world.doubling = world.draws.choice([0.0, 0.1])
        world.delay_ms = world.draws.choice([(1, 3), (1, 30), (5, 120)])
        fault = world.draw(0, 3)
        victim = nodes[world.draw(0, count - 1)]
        if fault == 0 and victim.metadata is not None:
            victim.crash()
        elif fault == 1:
            world.cut([victim], [node for node in nodes if node is not victim])
        elif fault == 2:
            part = world.draws.sample(nodes, count // 2)
            world.cut(part, [node for node in nodes if node not in part])
        world.run(world.draw(200, 4_000))
        historian.look()
        if world.draw(0, 1):
            world.heal()
        for node in nodes:
            if node.metadata is None and world.draw(0, 2):
                node.boot()
    end(world, nodes, clients, historian)


@pytest.mark.parametrize("seed", range(6))
def test_the_leader_is_killed_over_and_over(seed: int) -> None:
    world = World(100 + seed)
    nodes, clients, historian = begin(world, 5)
    for _ in range(10):
        world.until(lambda: has_leader(nodes), 10_000)
        world.run(world.draw(0, 400))
        if not has_leader(nodes):
            continue
        leader = leader_of(nodes)
        leader.crash()
        world.run(world.draw(100, 3_000))
        leader.boot()
        historian.look()
    end(world, nodes, clients, historian)


@pytest.mark.parametrize("seed", range(6))
def test_joins_go_through_while_nodes_die(seed: int) -> None:
    world = World(200 + seed)
    nodes = world.ring(3)
    world.loss, world.doubling, world.delay_ms = 0.05, 0.05, (1, 40)
    joined = []
    for _ in range(4):
        newcomer = world.node()
        joined.append(newcomer.join(*nodes))
        nodes.append(newcomer)
        world.run(world.draw(0, 300))
        victim = nodes[world.draw(0, 2)]
        if victim.metadata is not None:
            victim.crash()
            world.run(world.draw(100, 3_000))
            victim.boot()
    world.until(lambda: all(joined), 70_000)
    assert all(isinstance(outcome[0], ClusterView) for outcome in joined), joined
    world.until(lambda: agreed(nodes) and len(nodes[0].running.view.voters) == 5, 60_000)
    view = nodes[0].running.view
    assert len(view.members) == 7
    assert [node.running.me for node in nodes if node.running.me not in view.members] == []
