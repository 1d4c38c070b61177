"""``ouro serve --cores``: several members of a ring behind one command.

Were these to fail, a machine would serve with one core, lose a core for good when its process dies, or be left with
processes that nobody watches.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cassandra.cluster import Cluster
from tests.cli import COMMAND, environment, free_ports, ouro, refused, said

from ourodb.cli.local.process import started_at

PATIENCE_S = 120
OPTIONS = ("--durability=periodic", "--gossip-ms=200", "--memtable-mb=8", "--cache-mb=8", "--host-id=machine")


def until(condition: Callable[[], object]) -> None:
    limit = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.05)


class Served:
    """``ouro serve --cores 2`` in a folder."""

    def __init__(self, place: Path, ports: list[int], *options: str) -> None:
        self.place = place
        self.cql_port, peer_port, self.admin_port = ports
        self.peer = f":{peer_port}"
        self.arguments = [
            "serve", "--data=data", f"--cql-port={self.cql_port}", f"--peer-port={peer_port}",
            f"--admin-port={self.admin_port}", *OPTIONS, *options,
        ]  # fmt: skip
        self.errors = place / "errors"

    def start(self) -> Served:
        """Start it, and read the line that says ready."""
        with self.errors.open("a") as errors:
            self.process = subprocess.Popen(
                [*COMMAND, *self.arguments, "--cores=2"],
                cwd=self.place,
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        assert self.process.stdout is not None
        self.ready = self.process.stdout.readline()
        return self

    def status(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(said(ouro("status", "--data", "data", "--json", cwd=self.place)))
        return report

    def pid(self, number: int) -> int | None:
        """The process of a core, told by its command line."""
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().split(b"\0")
            except OSError:
                continue
            mine = f"--admin-port={self.admin_port + number - 1}".encode()
            if mine in words and f"--data=data/core{number}".encode() in words:
                return int(path.parent.name)
        return None

    def pids(self) -> list[int]:
        found = [self.pid(number) for number in (1, 2)]
        return [pid for pid in found if pid is not None]

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path, free_ports(addresses=1))
    yield served
    if served.process.poll() is None:
        served.stop(signal.SIGKILL)
    until(lambda: not served.pids())


def test_cores_are_members_on_one_machine(served: Served) -> None:
    served.start()
    port = served.cql_port
    assert re.search(rf" ready: 2 cores, CQL on 127\.0\.0\.1:{port}-{port + 1}, ", served.ready)
    members = served.status()["members"]
    assert [member["state"] for member in members] == ["UP", "UP"]
    assert {member["host"] for member in members} == {"machine"}
    assert {member["cql"] for member in members} == {f"127.0.0.1:{port}", f"127.0.0.1:{port + 1}"}
    cluster = Cluster(["127.0.0.1"], port=port, protocol_version=4)
    try:
        session = cluster.connect()
        assert {host.endpoint.port for host in cluster.metadata.all_hosts()} == {port, port + 1}
        session.execute(
            "CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 2}"
        )
    finally:
        cluster.shutdown()
    # Two copies on one machine are lost together; somebody should know.
    assert any("on one machine" in warning for warning in served.status()["warnings"])
    before = {member["cql"]: member["host_id"] for member in members}
    assert served.stop() == 0
    assert served.pids() == []
    served.start()
    assert {member["cql"]: member["host_id"] for member in served.status()["members"]} == before


def test_a_core_that_dies_is_told_and_started_again(served: Served) -> None:
    served.start()
    pid = served.pid(2)
    assert pid is not None
    subprocess.run(["kill", "-KILL", str(pid)], check=True)
    until(lambda: "core2 died (signal 9) and is started again at once" in served.errors.read_text())
    until(lambda: served.pid(2) not in (None, pid))
    until(lambda: [member["state"] for member in served.status()["members"]] == ["UP", "UP"])
    assert served.stop() == 0


def test_a_core_that_has_left_is_not_started_again(served: Served) -> None:
    served.start()
    (second,) = [one for one in served.status()["members"] if not one["address"].endswith(served.peer)]
    said(ouro("decommission", second["id"], "--data", "data", cwd=served.place))
    until(lambda: "core2 isn't started again" in served.errors.read_text())
    assert served.pid(2) is None
    assert served.stop() == 0
    served.start()
    assert "ready: 1 cores" in served.ready
    assert [one["id"] for one in served.status()["members"]] != [second["id"]]
    assert served.pid(2) is None


def test_cores_end_with_a_parent_that_is_killed(served: Served) -> None:
    served.start()
    pids = served.pids()
    assert len(pids) == 2
    served.stop(signal.SIGKILL)
    until(lambda: [started_at(pid) for pid in pids] == [None, None])


def test_what_cannot_be_started_is_said(tmp_path: Path) -> None:
    ports = free_ports(addresses=1)
    served = Served(tmp_path, ports, "--num-tokens=0")
    assert "--num-tokens: 0 is not between" in refused(ouro(*served.arguments, "--cores=2", cwd=tmp_path))
    served = Served(tmp_path, ports)
    assert "--cores: 0 is not between 1 and 64" in refused(ouro(*served.arguments, "--cores=0", cwd=tmp_path))
    data = tmp_path / "data"
    data.mkdir()
    (data / "CURRENT").touch()
    assert "data of a node that used one core" in refused(ouro(*served.arguments, "--cores=2", cwd=tmp_path))
    (data / "CURRENT").unlink()
    line = refused(ouro(*served.arguments, "--cores=2", "--cql-port=0", cwd=tmp_path))
    assert "--cores 2 takes as many ports" in line
    line = refused(ouro(*served.arguments, "--cores=2", "--join=127.0.0.1:1", cwd=tmp_path))
    assert "joining a cluster takes its secret" in line
    line = refused(ouro(*served.arguments, "--cores=2", "--listen=::1", cwd=tmp_path))
    assert "must have an IPv4 address, or a name" in line
    assert "--replace 3 takes --join" in refused(ouro(*served.arguments, "--replace=3", cwd=tmp_path))


def test_a_core_that_cannot_start_ends_all(tmp_path: Path) -> None:
    """Its port belongs to somebody else, who isn't going to give it up."""
    ports = free_ports(addresses=1)
    other = subprocess.Popen(
        [*COMMAND, "serve", "--data=other", f"--cql-port={ports[0] + 1}", "--peer-port=0", "--admin-port=0"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert other.stdout is not None
        assert " ready: " in other.stdout.readline()
        process = ouro(*Served(tmp_path, ports).arguments, "--cores=2", cwd=tmp_path)
        assert process.returncode == 2
        assert f"core2 | ouro serve: port {ports[0] + 1} on 127.0.0.1 is taken" in process.stderr
        assert process.stdout == ""
        line = refused(ouro(*Served(tmp_path, ports).arguments, cwd=tmp_path))
        assert "holds several nodes" in line
    finally:
        other.kill()
        other.communicate()
