"""A store that stalls just when a voter begins again after a write that was refused.

If this fails, a voter goes on as if it knew nothing, and helps to decide against what it has decided before, or never
decides anything any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from tests.cluster.metadata.changes import keyspace
from tests.cluster.metadata.test_alone import Alone, SlowStore
from tests.cluster.metadata.test_ring import agreed, has_leader, leader_of
from tests.cluster.metadata.world import World

from ourodb import limits
from ourodb.cluster.metadata.entries import EntryLog
from ourodb.cluster.metadata.submissions import Applied
from ourodb.cluster.metadata.view import ClusterView
from ourodb.errors import OuroError, Overloaded
from ourodb.ports import Write
from ourodb.storage.memory import MemoryStore


class Stalls:
    """Makes a store take nothing and give nothing, for as long as it is on.

    Attributes:
        scans: refused, counted.
    """

    def __init__(self, store: Any) -> None:
        self.is_on = True
        self.scans = 0
        self._apply, self._scan = store.apply, store.scan
        store.apply, store.scan = self._applied, self._scanned

    def _check(self) -> None:
        if self.is_on:
            raise Overloaded("the store can't take writes this fast; try again")

    def _applied(self, writes: Iterable[Write]) -> None:
        self._check()
        self._apply(writes)

    def _scanned(self, *arguments: Any, **options: Any) -> Iterator[tuple[bytes, bytes]]:
        self.scans += self.is_on
        self._check()
        found: Iterator[tuple[bytes, bytes]] = self._scan(*arguments, **options)
        return found


def test_who_votes_alone_decides_again_after_a_stall() -> None:
    store = SlowStore()
    alone = Alone(store)
    stalls = Stalls(store)
    alone.submit(keyspace("app"))
    alone.world.run(limits.METADATA_RESUME_MS + 50)
    assert stalls.scans
    stalls.is_on = False
    alone.world.run(5_000)
    seen = alone.submit(keyspace("late"))
    for _ in range(100):
        store.settle_all()
        alone.world.run(50)
    assert isinstance(seen[0], Applied)


def test_what_was_decided_stays_though_a_voter_can_t_read_its_log_for_a_while() -> None:
    world = World(3)
    nodes = world.ring(3)
    world.until(lambda: has_leader(nodes) and agreed(nodes))
    one = leader_of(nodes)
    two, three = (node for node in nodes if node is not one)
    world.run(2_000)
    # Three misses a change that one and two decide on.
    for other in (one, two):
        world.cuts |= {(three.number, other.number), (other.number, three.number)}
    told = one.submit(keyspace("decided"))
    world.until(lambda: told and "decided" in two.running.view.schema.keyspaces, 20_000)
    assert isinstance(told[0], Applied)
    world.run(3_000)
    stalls = Stalls(two.disk)
    one.submit(keyspace("more"))
    world.until(lambda: two.running._consensus.refusal is not None, 5_000)
    world.cuts |= {(one.number, two.number), (two.number, one.number)}
    world.run(limits.METADATA_RESUME_MS + 10)
    assert stalls.scans
    stalls.is_on = False
    world.cuts -= {(three.number, two.number), (two.number, three.number)}
    world.run(10_000)
    three.submit(keyspace("late"))
    world.run(12_000)
    assert "decided" in three.running.view.schema.keyspaces
    assert two.running.view == three.running.view


class LosingStore(SlowStore):
    """Takes what is applied, and loses it when its batch ends, as an engine that stalls does.

    Attributes:
        loses: whether it does now.
    """

    def __init__(self) -> None:
        super().__init__()
        self.loses = False
        self._followers: list[Callable[[OuroError | None], None]] = []

    def follow_batches(self, ended: Callable[[OuroError | None], None]) -> None:
        self._followers.append(ended)

    def apply(self, writes: Iterable[Write]) -> None:
        if not self.loses:
            super().apply(writes)

    def settle(self) -> None:
        for ended in self._followers:
            ended(Overloaded("the store can't take writes this fast; try again") if self.loses else None)


def test_a_mark_that_the_engine_refused_hasnt_been_made() -> None:
    """Or a node would say that it keeps what a crash takes back."""
    store = LosingStore()
    entries = EntryLog(store)
    store.follow_batches(entries.batch_ended)
    entries.mark_applied(3)
    store.settle()
    store.loses = True
    entries.mark_applied(5)
    assert entries.applied == 5
    store.settle()
    assert entries.applied == 3


def test_who_can_t_take_in_a_view_keeps_it_from_nobody_else() -> None:
    alone = Alone(MemoryStore())
    told: list[int] = []

    def fails(view: ClusterView, events: object) -> None:
        raise ZeroDivisionError

    alone.metadata.listen(fails)
    alone.metadata.listen(lambda view, events: told.append(view.epoch))
    for name in ("one", "two"):
        [outcome] = alone.submit(keyspace(name))
        assert isinstance(outcome, Applied)
        with pytest.raises(ZeroDivisionError):
            alone.world.run(10)
    assert told == [alone.metadata.epoch - 1, alone.metadata.epoch]
