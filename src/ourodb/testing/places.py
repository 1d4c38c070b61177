"""Places on this machine that nobody uses: loopback addresses with free ports, and folders that don't pile up.

All of 127.0.0.0/8 is this machine, so every ring gets a network of its own, drawn by chance, and its nodes the usual
ports there.

A folder's name says which process made it. When that process is gone and its folder isn't (it was killed), the next
ring removes it.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import tempfile
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from ourodb.cli.local.process import started_at

PREFIX: Final = "ouro-testing-"
PORTS: Final = (9042, 7000, 7070)
TRIES: Final = 50


class NoPlaceError(Exception):
    """There are no free addresses, or no way to use them."""


def free_network(nodes: int) -> tuple[str, tuple[int, int, int]]:
    """The first of so many addresses in a row, and ports that are free on all of them.

    Raises:
        NoPlaceError: none were found.
    """
    # Not the seeded generator of a test that wants to be repeatable: two processes would draw the same.
    chance = random.SystemRandom()
    for number in range(TRIES):
        first = IPv4Address("127.1.0.0") + 256 * chance.randrange(256 * 254) + 1
        # Something that listens on all addresses takes a port from all of them.
        ports = (PORTS[0] + 10 * number, PORTS[1] + 10 * number, PORTS[2] + 10 * number)
        if all(_is_free(str(first + node), port) for node in range(nodes) for port in ports):
            return str(first), ports
    raise NoPlaceError("no loopback addresses with free ports were found")


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def new_folder() -> Path:
    """A temporary folder; those of processes that are gone are removed."""
    parent = Path(tempfile.gettempdir())
    for folder in parent.glob(f"{PREFIX}*"):
        if _is_abandoned(folder):
            shutil.rmtree(folder, ignore_errors=True)
    own = f"{PREFIX}{os.getpid()}-{started_at(os.getpid())}-"
    return Path(tempfile.mkdtemp(prefix=own, dir=parent))


def _is_abandoned(folder: Path) -> bool:
    pid, _, rest = folder.name.removeprefix(PREFIX).partition("-")
    ticks = rest.partition("-")[0]
    if not pid.isdigit() or not ticks.isdigit():
        return False
    try:
        return folder.stat().st_uid == os.getuid() and started_at(int(pid)) != int(ticks)
    except OSError:
        return False
