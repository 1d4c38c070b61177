"""If this fails, RocksDB gives back something else than CQL says, or loses something over a restart."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, settings
from tests.storage.machine import RowsMachine

from ourodb.ports import Store
from ourodb.storage.rocks import RocksStore


class NoTimer:
    def cancel(self) -> None:
        pass


class CallingThread:
    """A scheduler without a loop: what a thread hands over is run by that thread."""

    def soon(self, callback: Callable[[], None]) -> None:
        callback()

    def after(self, delay_ms: int, callback: Callable[[], None]) -> NoTimer:
        return NoTimer()

    def from_thread(self, callback: Callable[[], None]) -> None:
        callback()


class RowsOnDisk(RowsMachine):
    def open_store(self) -> Store:
        self.path = Path(tempfile.mkdtemp(prefix="ouro-rows-"))
        return RocksStore(self.path / "data", CallingThread())

    def reopen_store(self, store: Store) -> Store:
        assert isinstance(store, RocksStore)
        store.close()
        return RocksStore(self.path / "data", CallingThread())

    def close_store(self, store: Store) -> None:
        assert isinstance(store, RocksStore)
        store.close()
        shutil.rmtree(self.path)


TestRowsOnDisk = RowsOnDisk.TestCase
TestRowsOnDisk.settings = settings(
    max_examples=20, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
