"""A disk that fills up costs writes, and never what was written: the node says so, goes on reading, and recovers.

Nearly full: below ``limits.DISK_FREE_BYTES_MIN`` the node refuses writes by itself, and takes them again once there is
room. Really full, since something else on the machine took the rest: the engine fails in the midst of a write; the node
refuses writes until it is restarted with some room.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.durability.folders import HandScheduler, open_store, sync
from tests.durability.small_disk import SmallDisk, small_disk
from tests.nodes import NodeProcess

from ourodb import limits
from ourodb.bench.client import Client
from ourodb.bench.options import BenchError
from ourodb.errors import Overloaded, StoreError, StoreReadOnly
from ourodb.storage.families import DATA
from ourodb.storage.rocks import RocksStore

__all__ = ["small_disk"]

LEAST_KIB = limits.DISK_FREE_BYTES_MIN >> 10
ROOM_KIB = LEAST_KIB * 5 // 4 + (100 << 10)
VALUE_BYTES = 8_000
WAIT_SECONDS_MAX = 60


class Writer:
    """One client that inserts rows one by one until it is told to stop.

    Attributes:
        acknowledged: the rows n that are there for sure.
        refusals: what it was told instead.
        surprise: what it should not have met.
    """

    def __init__(self, node: NodeProcess) -> None:
        self.acknowledged: list[int] = []
        self.refusals: list[str] = []
        self.surprise: BaseException | None = None
        self._node = node
        self._next = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Writer:
        self._stop.clear()
        self._thread = threading.Thread(target=self._write)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        assert self._thread is not None
        self._thread.join()

    def _write(self) -> None:
        client = Client((self._node.host, self._node.port), timeout_s=WAIT_SECONDS_MAX)
        try:
            while not self._stop.is_set():
                n = self._next
                self._next += 1
                try:
                    client.query(f"INSERT INTO f.rows (n, v) VALUES ({n}, {value(n)})")
                    self.acknowledged.append(n)
                except Overloaded as error:
                    self.refusals.append(str(error))
                    self._stop.wait(0.1)
        except BenchError:
            assert not self._node.alive()
        except BaseException as error:
            self.surprise = error
        finally:
            client.close()


def value(n: int) -> str:
    return "0x" + n.to_bytes(8).hex() * (VALUE_BYTES // 8)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.05)


def check(node: NodeProcess, writer: Writer) -> None:
    """Every acknowledged row is there, and right."""
    assert writer.surprise is None, repr(writer.surprise)
    client = Client((node.host, node.port), timeout_s=WAIT_SECONDS_MAX)
    for n in list(writer.acknowledged):
        assert client.query(f"SELECT v FROM f.rows WHERE n = {n}") == [
            [n.to_bytes(8) * (VALUE_BYTES // 8)]
        ], n
    client.close()


def read_only(node: NodeProcess) -> str | None:
    """Why the node refuses writes, as its operator sees it."""
    with urllib.request.urlopen(f"http://127.0.0.1:{node.admin_port}/status") as answer:
        status: dict[str, Any] = json.load(answer)
    reason: str | None = status["read_only"]
    return reason


@pytest.fixture
def disk_node(small_disk: SmallDisk, tmp_path: Path) -> Iterator[NodeProcess]:
    """A node with a table, whose data are on the small disk and whose log isn't."""
    small_disk.leave_free(ROOM_KIB)
    node = NodeProcess(small_disk.path / "data")
    node.log_path = tmp_path / "node.log"
    node.start()
    client = Client((node.host, node.port))
    client.query("CREATE KEYSPACE f WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
    client.query("CREATE TABLE f.rows (n int PRIMARY KEY, v blob)")
    client.close()
    yield node
    if node.alive():
        node.kill()


def test_a_nearly_full_disk_is_read_only_until_there_is_room(
    disk_node: NodeProcess, small_disk: SmallDisk
) -> None:
    """Broken, a node writes until its engine fails, or stays read-only for ever."""
    node = disk_node
    small_disk.leave_free(LEAST_KIB + (20 << 10))
    with Writer(node) as writer:
        until(lambda: writer.refusals)
        reason = read_only(node)
        assert reason is not None
        assert "are free on its disk" in reason
        assert "store read-only" in node.output
        before = len(writer.acknowledged)
        assert before
        client = Client((node.host, node.port))
        for statement in (
            "DELETE FROM f.rows WHERE n = 0",
            "INSERT INTO f.rows (n) VALUES (-1) IF NOT EXISTS",
            "CREATE TABLE f.more (n int PRIMARY KEY)",
            "TRUNCATE f.rows",
            "DROP TABLE f.rows",
        ):
            with pytest.raises(Overloaded, match="read-only"):
                client.query(statement)
        client.close()
        check(node, writer)

        small_disk.leave_free(ROOM_KIB)
        until(lambda: len(writer.acknowledged) > before)
        assert read_only(node) is None
        assert "store writable again" in node.output
    assert all("this node is read-only: only" in refusal for refusal in writer.refusals)

    small_disk.leave_free(LEAST_KIB // 2)
    with writer:
        until(lambda: read_only(node) is not None)
        node.kill()
    node.start()
    assert read_only(node) is not None, "the disk is as full as before"
    check(node, writer)
    assert node.stop() == 0


def test_a_disk_that_is_really_full(disk_node: NodeProcess, small_disk: SmallDisk) -> None:
    """Broken, what else is on the machine's disk costs acknowledged writes; or a restart makes it worse."""
    node = disk_node
    with Writer(node) as writer:
        until(lambda: len(writer.acknowledged) > 1_000)
        small_disk.leave_free(0)
        until(lambda: writer.refusals)
        check(node, writer)
        node.kill()
    said = subprocess.run(node.command, capture_output=True, text=True, timeout=WAIT_SECONDS_MAX, check=False)
    assert said.returncode == 2, said
    assert "Traceback" not in said.stderr
    assert "its disk is full" in said.stderr.splitlines()[-1], said.stderr

    small_disk.leave_free(ROOM_KIB)
    node.start()
    check(node, writer)
    before = len(writer.acknowledged)
    with writer:
        until(lambda: len(writer.acknowledged) > before)
    check(node, writer)
    assert node.stop() == 0


@pytest.mark.parametrize("memtable_bytes", [256 << 10, 32 << 20], ids=["data file", "log"])
def test_the_engine_in_the_midst_of_a_write(small_disk: SmallDisk, memtable_bytes: int) -> None:
    """Broken, a full disk tears what was written, or the store goes on as if its engine could."""
    small_disk.leave_free(24 << 10)
    store = open_store(small_disk.path / "data", memtable_bytes=memtable_bytes)
    acknowledged: dict[bytes, bytes] = {}
    number = 0
    while store.read_only is None:
        written = {b"key-%06d" % n: os.urandom(1_000) for n in range(number, number + 20)}
        number += 20
        # Not always StoreReadOnly: memtables that can't be written out are full, too.
        with suppress(Overloaded):
            store.apply([(DATA, key, content) for key, content in written.items()])
            sync(store)
            acknowledged.update(written)
    assert acknowledged
    assert "its disk was full in the midst of a write" in store.read_only
    with pytest.raises(StoreReadOnly, match="restart the node"):
        store.apply([(DATA, b"one more", b"")])
    assert {key: store.get(DATA, key) for key in acknowledged} == acknowledged

    small_disk.leave_free(ROOM_KIB)
    store.check_disk(1 << 40, 1 << 40)
    assert store.read_only is not None, "the engine takes nothing more"
    store.close()
    # The engine keeps the folder until nothing refers to it: here the frames of the errors that were raised.
    gc.collect()

    store = open_store(small_disk.path / "data", memtable_bytes=memtable_bytes)
    assert {key: store.get(DATA, key) for key in acknowledged} == acknowledged
    store.apply([(DATA, b"one more", b"")])
    sync(store)
    store.close()


def test_a_store_cannot_be_opened_on_a_full_disk(small_disk: SmallDisk) -> None:
    """Broken, the operator is told something else than that the disk is full."""
    store = open_store(small_disk.path / "data")
    store.apply([(DATA, b"key", b"value")])
    sync(store)
    store.close()
    small_disk.leave_free(0)
    with pytest.raises(StoreError, match="its disk is full"):
        RocksStore(small_disk.path / "data", HandScheduler())
    small_disk.leave_free(32 << 10)
    store = open_store(small_disk.path / "data")
    assert store.get(DATA, b"key") == b"value"
    store.close()


def test_a_store_cannot_be_made_on_a_full_disk(small_disk: SmallDisk) -> None:
    """As above, for a new one."""
    (small_disk.path / "other").write_bytes(bytes(4096))
    small_disk.leave_free(0)
    with pytest.raises(StoreError, match="its disk is full"):
        open_store(small_disk.path / "data")
    small_disk.leave_free(32 << 10)
    open_store(small_disk.path / "data").close()
