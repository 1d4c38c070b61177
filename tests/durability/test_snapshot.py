"""Snapshots of a running node, and what comes back from them."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cassandra.cluster import Cluster
from tests.durability.folders import open_store
from tests.nodes import NodeProcess, free_port

from ourodb import daemon
from ourodb.config import Config
from ourodb.errors import InvalidRequest, StoreError
from ourodb.storage.snapshot import read_manifest, verify


def ouro(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from ourodb.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def admin(node: NodeProcess) -> str:
    return f"127.0.0.1:{node.admin_port}"


def write_until(
    node: NodeProcess, enough: threading.Event, stop: threading.Event, written: list[int]
) -> None:
    with Cluster([node.host], port=node.port) as cluster:
        session = cluster.connect()
        session.execute(
            "CREATE KEYSPACE s WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}"
        )
        session.execute("CREATE TABLE s.t (k int PRIMARY KEY, v text)")
        insert = session.prepare("INSERT INTO s.t (k, v) VALUES (?, ?)")
        while not stop.is_set():
            session.execute(insert, (len(written), f"value {len(written)}"))
            written.append(len(written))
            if len(written) == 500:
                enough.set()


def test_a_snapshot_of_a_busy_node_comes_back(own_node: NodeProcess, tmp_path: Path) -> None:
    """Broken, a backup lacks what was acknowledged before it, or can't be read."""
    own_node.start()
    enough, stop, written = threading.Event(), threading.Event(), []
    writer = threading.Thread(target=write_until, args=(own_node, enough, stop, written))
    writer.start()
    assert enough.wait(60)
    before = len(written)
    made = ouro("snapshot", "monday", "--admin", admin(own_node), "--json")
    after = len(written)
    stop.set()
    writer.join()
    assert made.returncode == 0, made.stderr
    path = Path(json.loads(made.stdout)["path"])
    again = ouro("snapshot", "monday", "--admin", admin(own_node))
    assert again.returncode == 2
    assert "already" in again.stderr
    listed = ouro("snapshots", "--admin", admin(own_node), "--json")
    assert [one["name"] for one in json.loads(listed.stdout)["snapshots"]] == ["monday"]
    assert "CREATE TABLE s.t" in (path / "schema.cql").read_text()
    own_node.kill()

    restored = ouro("restore", str(path), "--data", str(tmp_path / "restored"))
    assert restored.returncode == 0, restored.stderr
    refused = ouro("restore", str(path), "--data", str(tmp_path / "restored"))
    assert refused.returncode == 2
    assert "isn't empty" in refused.stderr
    node = NodeProcess(tmp_path / "restored").start()
    try:
        with Cluster([node.host], port=node.port) as cluster:
            rows = {row.k: row.v for row in cluster.connect().execute("SELECT k, v FROM s.t")}
    finally:
        node.kill()
    assert before <= len(rows) <= after + 1
    assert rows == {k: f"value {k}" for k in range(len(rows))}


def test_a_damaged_snapshot_is_refused(own_node: NodeProcess, tmp_path: Path) -> None:
    """Broken, damage in a backup becomes damage in the database."""
    own_node.start()
    made = ouro("snapshot", "x", "--admin", admin(own_node), "--json")
    path = Path(json.loads(made.stdout)["path"])
    victim = max((path / "store").iterdir(), key=lambda file: file.stat().st_size)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.unlink()
    victim.write_bytes(content)
    refused = ouro("restore", str(path), "--data", str(tmp_path / "restored"))
    assert refused.returncode == 2
    assert "damaged" in refused.stderr
    assert not (tmp_path / "restored").exists()


def test_a_snapshot_of_every_node_of_a_ring(node: NodeProcess, own_node: NodeProcess) -> None:
    """Broken, one node that can't make its snapshot hides those that did, or is taken for done."""
    own_node.start()
    several = ["--admin", admin(node), "--admin", admin(own_node)]
    made = ouro("snapshot", "both", *several, "--json")
    assert made.returncode == 0, made.stderr
    found = json.loads(made.stdout)["snapshots"]
    assert [one["admin"] for one in found] == [admin(node), admin(own_node)]
    assert all((Path(one["path"]) / "schema.bin").exists() for one in found)
    own_node.kill()
    again = ouro("snapshot", "rest", *several)
    assert again.returncode == 2
    assert "rest" in again.stdout
    (line,) = again.stderr.splitlines()
    assert admin(own_node) in line


@pytest.mark.parametrize("name", ["", "..", "a/b", "../x", ".hidden", "x" * 65, "a b", "a\nb"])
def test_names_that_could_leave_the_folder_are_refused(node: NodeProcess, name: str) -> None:
    """Broken, a client of the admin port writes wherever it likes."""
    made = ouro("snapshot", "--admin", admin(node), "--", name)
    assert made.returncode == 2
    assert "snapshot's name" in made.stderr


def test_no_node_is_told_in_one_line() -> None:
    """Broken, a typing error in an address costs the operator a traceback."""
    made = ouro("snapshot", "x", "--admin", "127.0.0.1:1")
    assert made.returncode == 2
    assert len(made.stderr.strip().splitlines()) == 1


def test_what_is_left_of_others_is_not_listed(own_node: NodeProcess) -> None:
    """Broken, one damaged snapshot hides all the others, or half of one is taken for a backup."""
    own_node.start()
    made = ouro("snapshot", "good", "--admin", admin(own_node), "--json")
    good = Path(json.loads(made.stdout)["path"])
    partial = shutil.copytree(good, good.with_name(".half.partial"))
    damaged = shutil.copytree(good, good.with_name("damaged"))
    (damaged / "snapshot.json").write_bytes(b'{"format": 1, "na')
    listed = ouro("snapshots", "--admin", admin(own_node), "--json")
    first, second = json.loads(listed.stdout)["snapshots"]
    assert (first["name"], "is damaged" in first["error"]) == ("damaged", True)
    assert (second["name"], "error" in second) == ("good", False)
    shown = ouro("snapshots", "--admin", admin(own_node)).stdout
    assert "good" in shown
    assert f"! the snapshot {damaged} is damaged" in shown
    own_node.kill()
    own_node.start()
    assert not partial.exists()
    assert good.exists()


@asynccontextmanager
async def running(data: Path) -> AsyncIterator[Callable[[str], Awaitable[Any]]]:
    """A node in this process; gives what makes a snapshot of it, by name."""
    config = Config(data=str(data), cql_port=free_port(), peer_port=free_port(), admin_port=free_port())
    node = daemon.Daemon(config, asyncio.get_running_loop())
    try:
        await node.start()
        yield lambda name: node.admin.routes["POST", "/snapshot"]({"name": name})
    finally:
        await node.stop()


def test_one_that_is_being_made_is_left_alone(tmp_path: Path) -> None:
    """Broken, an impatient operator who asks twice is told that a snapshot is made, and it is damaged."""

    async def ask_twice() -> list[Any]:
        async with running(tmp_path / "data") as make:
            return await asyncio.gather(make("x"), make("x"), make("y"), return_exceptions=True)

    first, again, other = asyncio.run(ask_twice())
    assert isinstance(again, InvalidRequest)
    assert "is being made" in again.message
    for made in (first, other):
        folder = Path(made["path"])
        verify(folder, read_manifest(folder))


def test_one_that_failed_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken, a snapshot for which there was no room keeps the room that it took, and nobody sees it."""

    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def try_twice() -> None:
        async with running(tmp_path / "data") as make:
            with monkeypatch.context() as patch:
                patch.setattr(daemon, "seal", fail)
                with pytest.raises(StoreError, match="No space left"):
                    await make("x")
            assert list((tmp_path / "data" / daemon.SNAPSHOTS).iterdir()) == []
            await make("x")

    asyncio.run(try_twice())


def test_what_the_engine_says_is_told(tmp_path: Path) -> None:
    """Broken, whoever asks for a snapshot hears of a full or a bad disk as an error 500 without a reason."""
    store = open_store(tmp_path / "store")
    (tmp_path / "there").mkdir()
    with pytest.raises(StoreError, match="exists"):
        store.checkpoint(tmp_path / "there")
    store.close()
