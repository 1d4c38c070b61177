"""The ``ouro`` command, and snapshots made with it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from ourodb.cli.application import application
from ourodb.testing.ring import Ring


def ouro_here(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in this process, which is quicker."""
    done = CliRunner().invoke(application, arguments)
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


def ouro(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from ourodb.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def answer(done: subprocess.CompletedProcess[str]) -> Any:
    """What a command that succeeded says as JSON."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The one line by which a command says why it didn't."""
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("ouro restore: ")
    return line


def snapshots_of(ring: Ring, name: str, to: Path) -> list[str]:
    """A snapshot of every node, moved away from where it was made."""
    nodes = [argument for node in ring.nodes for argument in ("--admin", node.admin)]
    made = answer(ouro("snapshot", name, *nodes, "--json"))
    found = []
    for number, one in enumerate(made["snapshots"] if len(ring.nodes) > 1 else [made]):
        moved = to / f"{name}-{number}"
        Path(one["path"]).rename(moved)
        found.append(str(moved))
    return found


def into(ring: Ring, *nodes: int) -> list[str]:
    """The options that name these nodes, or all."""
    chosen = [ring.nodes[number] for number in nodes] if nodes else ring.nodes
    return [argument for node in chosen for argument in ("--into", node.admin)]
