"""A node that can't start as it was asked to says why in one line and ends with 2; SIGTERM ends it with 0."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from tests.nodes import NodeProcess

from ourodb.bench.client import Client


def _refused(command: list[str], **environment: str) -> str:
    """Run a node that should refuse to start; what it said."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OURO_")}
    done = subprocess.run(
        command, env={**inherited, **environment}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return done.stderr.strip()


def test_a_data_folder_in_use_is_refused(node: NodeProcess) -> None:
    """Broken, two nodes write one store."""
    said = _refused(NodeProcess(node.data).command)
    assert len(said.splitlines()) == 1
    assert "in use by another" in said
    assert node.alive()


@pytest.mark.parametrize("option", ["--cql-port", "--admin-port"])
def test_a_taken_port_is_refused(option: str, tmp_path: Path) -> None:
    """Broken, the operator gets a traceback, or a node that nobody can reach."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        said = _refused([*NodeProcess(tmp_path / "data").command, option, port])
    assert len(said.splitlines()) == 1
    assert port in said
    assert option in said


def test_an_unknown_option_is_refused(tmp_path: Path) -> None:
    """Broken, a misspelt option is ignored, and the node guesses."""
    command = NodeProcess(tmp_path / "data").command
    file = tmp_path / "ouro.toml"
    file.write_text("durabilty = 'group'\n")
    assert "'durabilty'" in _refused([*command, "--config", str(file)])
    assert "OURO_DURABILTY" in _refused(command, OURO_DURABILTY="group")
    assert "--durabilty" in _refused([*command, "--durabilty", "group"])
    file.write_text("durability = 'sometimes'\n")
    assert "sometimes" in _refused([*command, "--config", str(file)])
    file.write_text("cql-port = \n")
    assert "TOML" in _refused([*command, "--config", str(file)])
    assert "OURO_CQL_PORT" in _refused(NodeProcess(tmp_path / "data").command[:-4], OURO_CQL_PORT="many")
    assert not (tmp_path / "data").exists(), "it began to make a store all the same"


def test_a_data_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """Broken, a node whose disk isn't there ends with a traceback."""
    (tmp_path / "file").write_text("")
    said = _refused(NodeProcess(tmp_path / "file" / "data").command)
    assert len(said.splitlines()) == 1
    assert _refused(NodeProcess(tmp_path / "file").command)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_node_in_order(number: signal.Signals, own_node: NodeProcess) -> None:
    """Broken, supervisors take every stop for a crash; or what periodic durability still owes is lost."""
    own_node.options = ("--durability", "periodic", "--sync-period-ms", "3600000")
    client = Client((own_node.host, own_node.start().port))
    client.query("CREATE KEYSPACE s WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
    client.query("CREATE TABLE s.rows (n int PRIMARY KEY)")
    for n in range(100):
        client.query(f"INSERT INTO s.rows (n) VALUES ({n})")
    assert own_node.process is not None
    own_node.process.send_signal(number)
    assert own_node.process.wait(60) == 0
    client.close()
    assert "Traceback" not in own_node.output
    client = Client((own_node.host, own_node.start().port))
    assert client.query("SELECT count(*) FROM s.rows") == [[(100).to_bytes(8)]]
    client.close()
