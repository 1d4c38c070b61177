"""The node of this folder, its well-behaved client, its memory, and the clients that need long to be caught."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.hostile.raw import Raw
from tests.hostile.slow_clients import SlowClients
from tests.nodes import NodeProcess

ROOT = Path(__file__).resolve().parents[2]
SAMPLE_SECONDS = 0.05
KEYSPACE_OPTIONS = "{'class': 'SimpleStrategy', 'replication_factor': 1}"


class Memory:
    """Watches how large the node gets. Attributes: mib_max."""

    def __init__(self, node: NodeProcess) -> None:
        self.mib_max = 0
        self._node = node
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            if not self._node.alive():
                return
            self.mib_max = max(self.mib_max, self._node.memory_mib())

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


class Neighbour:
    """The well-behaved client."""

    def __init__(self, node: NodeProcess) -> None:
        environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.neighbour", node.host, str(node.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
            cwd=ROOT,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n", "the well-behaved client didn't start"
        self._report: dict[str, Any] | None = None

    def report(self) -> dict[str, Any]:
        """Ends it; returns what it saw."""
        if self._report is None:
            self._report = json.loads(self._process.communicate(timeout=90)[0])
        return self._report

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@pytest.fixture(scope="package")
def many_files() -> None:
    """As many open files as this process may have; the node inherits it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@pytest.fixture(scope="package")
def hostile_node(many_files: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    process = NodeProcess(tmp_path_factory.mktemp("hostile") / "data").start()
    yield process
    if process.alive():
        process.stop()


@pytest.fixture(scope="package")
def memory(hostile_node: NodeProcess) -> Iterator[Memory]:
    watcher = Memory(hostile_node)
    yield watcher
    watcher.stop()


@pytest.fixture(scope="package")
def neighbour(hostile_node: NodeProcess) -> Iterator[Neighbour]:
    client = Neighbour(hostile_node)
    yield client
    client.stop()


@pytest.fixture(scope="package")
def address(hostile_node: NodeProcess) -> tuple[str, int]:
    return hostile_node.host, hostile_node.port


@pytest.fixture(scope="package")
def tables(address: tuple[str, int]) -> None:
    """What the tests of this folder read and write."""
    with Raw(address) as client:
        client.run(
            [
                f"CREATE KEYSPACE hostile WITH replication = {KEYSPACE_OPTIONS}",
                "CREATE TABLE hostile.t (k int PRIMARY KEY, v text, b blob, f frozen<list<int>>, s set<uuid>)",
                (
                    "CREATE TABLE hostile.types (k int PRIMARY KEY, ascii_ ascii, bigint_ bigint, boolean_ boolean, "
                    "date_ date, decimal_ decimal, double_ double, duration_ duration, float_ float, inet_ inet, "
                    "int_ int, smallint_ smallint, text_ text, time_ time, timestamp_ timestamp, "
                    "timeuuid_ timeuuid, tinyint_ tinyint, uuid_ uuid, list_ list<int>, set_ set<int>, "
                    "map_ map<int, int>, tuple_ tuple<int, int>, vector_ vector<float, 3>)"
                ),
                "CREATE TABLE hostile.large (k int, c int, b blob, PRIMARY KEY (k, c))",
            ]
        )
        for row in range(48):
            client.query(
                "INSERT INTO hostile.large (k, c, b) VALUES (0, ?, ?)", [row.to_bytes(4), bytes(65_000)]
            )


@pytest.fixture(scope="package")
def slow_clients(address: tuple[str, int], tables: None) -> Iterator[SlowClients]:
    clients = SlowClients(address)
    yield clients
    clients.stop()


@pytest.fixture(scope="package", autouse=True)
def surroundings(memory: Memory, neighbour: Neighbour, tables: None, slow_clients: SlowClients) -> None:
    """What goes on beside every test of this folder."""


@pytest.fixture(autouse=True)
def still_alive(hostile_node: NodeProcess) -> Iterator[None]:
    """After each test the node lives, has seen no error of its own, and answers."""
    yield
    assert hostile_node.alive(), f"the node died:\n{hostile_node.output[-10_000:]}"
    assert "internal error" not in hostile_node.output.lower(), hostile_node.output[-10_000:]
    with Raw((hostile_node.host, hostile_node.port)) as client:
        assert client.lives()
