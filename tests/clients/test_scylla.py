"""Scylla's driver for Python. It installs the same module as Apache's, so it runs in an environment of its own."""

from __future__ import annotations

import subprocess

import pytest
from tests.clients import ROOT, WAYS
from tests.nodes import NodeProcess

PYTHON = ROOT / ".venv-scylla" / "bin" / "python"
SCRIPT = ROOT / "tests" / "clients" / "scylla_script.py"


@pytest.mark.parametrize("way", WAYS)
def test_scylla_driver(node: NodeProcess, way: tuple[int, str | None]) -> None:
    if not PYTHON.exists():
        pytest.fail("The environment of scylla-driver is missing: run `make setup`.")
    version, compression = way
    keyspace = f"scylla_{version}_{compression or 'plain'}"
    command = [PYTHON, SCRIPT, node.host, str(node.port), str(version), compression or "none", keyspace]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("passed "), done.stdout + done.stderr
    assert int(done.stdout.split()[1]) == 30
