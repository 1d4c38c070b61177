"""Running ``ouro`` as somebody at a terminal does, and ports for the rings that it starts."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

from ourodb.cli.local.process import clean_environment, who_listens

COMMAND = (sys.executable, "-m", "ourodb.cli")
SECONDS_MAX = 200
WIDTH = "160"


def environment() -> dict[str, str]:
    return {**clean_environment(os.environ), "COLUMNS": WIDTH}


def ouro(*arguments: object, cwd: Path, answer: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        env=environment(),
        input=answer,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )


def said(process: subprocess.CompletedProcess[str]) -> str:
    """What a command printed; it has to have succeeded."""
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def refused(process: subprocess.CompletedProcess[str], code: int = 2) -> str:
    """The one line by which a command said no."""
    assert process.returncode == code, process.stdout + process.stderr
    (line,) = process.stderr.splitlines()
    return line


def free_ports(count: int = 3, addresses: int = 3) -> list[int]:
    """Ports that are free on 127.0.0.1, 127.0.0.2, ...: below those that the system hands out by itself."""
    found: list[int] = []
    while len(found) < count:
        first = random.SystemRandom().randrange(20_000, 30_000)
        wanted = range(first, first + 4)
        taken = [
            port
            for port in wanted
            for number in range(addresses)
            if who_listens(f"127.0.0.{number + 1}", port)
        ]
        if not taken and not set(wanted) & {port + more for port in found for more in range(4)}:
            found.append(first)
    return found
