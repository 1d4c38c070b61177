"""If this fails, RocksDB gives back something else than CQL says, or loses something over a restart."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from tests.durability.folders import HandScheduler
from tests.storage.machine import RowsMachine

from ourodb.ports import Store
from ourodb.storage.rocks import RocksStore


class RowsOnDisk(RowsMachine):
    def open_store(self) -> Store:
        self.path = Path(tempfile.mkdtemp(prefix="ouro-rows-"))
        return self._open()

    def reopen_store(self, store: Store) -> Store:
        assert isinstance(store, RocksStore)
        store.close()
        return self._open()

    def close_store(self, store: Store) -> None:
        assert isinstance(store, RocksStore)
        store.close()
        shutil.rmtree(self.path)

    def wait_for(self, heard: list[Any]) -> None:
        self.scheduler.run_until(lambda: bool(heard))

    def _open(self) -> RocksStore:
        self.scheduler = HandScheduler()
        return RocksStore(self.path / "data", self.scheduler)


class ColdRowsOnDisk(RowsOnDisk):
    """After each restart nothing is in memory, so that all keys are answered later, once or more often."""

    def _open(self) -> RocksStore:
        store = super()._open()
        store.always_cold = True
        store.check_disk(1 << 40, 1 << 40)
        return store


EXAMPLES = settings(
    max_examples=20, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestRowsOnDisk = RowsOnDisk.TestCase
TestRowsOnDisk.settings = EXAMPLES
TestColdRowsOnDisk = ColdRowsOnDisk.TestCase
TestColdRowsOnDisk.settings = EXAMPLES
