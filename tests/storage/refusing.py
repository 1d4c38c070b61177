"""Stores that refuse what was applied to them, when a test says so: RocksDB, and the simulator's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.durability.folders import HandScheduler
from tests.sim.talkers import talkers

from ourodb.ports import Store
from ourodb.storage.rocks import RocksStore


class RefusingStore(NamedTuple):
    """Attributes:
    refuse: makes it refuse batches, or take them again.
    end_syncs: waits until all that were asked for are over.
    """

    store: Store
    refuse: Callable[[bool], None]
    end_syncs: Callable[[], None]


class StallingEngine:
    """RocksDB, which takes no writes while it stalls.

    Attributes:
        stalls: whether it does.
    """

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.stalls = False

    def write(self, *arguments: Any) -> None:
        if self.stalls:
            raise Exception("Result incomplete: Write stall")
        self._engine.write(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


@contextmanager
def on_disk(path: Path) -> Iterator[RefusingStore]:
    scheduler = HandScheduler()
    store = RocksStore(path / "store", scheduler)
    whole = store._db
    store._db = engine = StallingEngine(whole)

    def refuse(stalls: bool) -> None:
        engine.stalls = stalls

    yield RefusingStore(store, refuse, lambda: scheduler.run_until(lambda: not store._flushing))
    store._db = whole
    store.close()


@contextmanager
def simulated(path: Path) -> Iterator[RefusingStore]:
    world, _ = talkers(1, 1)
    (machine,) = world.machines
    assert machine.process is not None
    # Nothing waits for the disk here.
    machine.disk.conditions.later_one_in = 0

    def refuse(refuses: bool) -> None:
        machine.disk.conditions.refuses_settle_one_in = int(refuses)

    yield RefusingStore(machine.process.store, refuse, lambda: world.run_for(1))
