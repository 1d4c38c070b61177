"""Stores that refuse what was applied to them, when a test says so: RocksDB, and the simulator's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.durability.folders import open_store
from tests.sim.talkers import talkers

from ourodb.ports import Store


class RefusingStore(NamedTuple):
    """A store, and what makes it refuse batches, or take them again."""

    store: Store
    refuse: Callable[[bool], None]


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
    store = open_store(path / "store")
    whole = store._db
    store._db = engine = StallingEngine(whole)

    def refuse(stalls: bool) -> None:
        engine.stalls = stalls

    yield RefusingStore(store, refuse)
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

    yield RefusingStore(machine.process.store, refuse)
