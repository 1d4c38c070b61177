"""Processes on this machine: started so that they outlive who started them, or die with him; and found again.

A process that outlives its parent is known by a file with its id and when it started, in the kernel's ticks since the
machine's start. Ids are used again; the pair is not, so nothing else is ever sent a signal.

Everything is read from ``/proc`` (Linux: proc(5)).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Final

PYTHON: Final = (sys.executable, "-P")
"""This interpreter; ``-P``: whatever lies in the working directory is not imported."""

POLL_S: Final = 0.01
TAIL_BYTES: Final = 8192
LISTENING: Final = "0A"


def started_at(pid: int) -> int | None:
    """When a process started, in ticks since the machine's start; None when it doesn't run (any more)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field is the name in parentheses, in which anything may stand.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def start_detached(command: Sequence[str], log: Path, pid_file: Path) -> subprocess.Popen[bytes]:
    """Start a process that goes on without us, in a session of its own, and note which it is."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    pid_file.write_text(f"{process.pid} {started_at(process.pid) or 0}\n")
    return process


def running(pid_file: Path) -> int | None:
    """The id of the process that was noted there, if it still is that one and runs."""
    try:
        pid, ticks = map(int, pid_file.read_text().split())
    except (OSError, ValueError):
        return None
    return pid if started_at(pid) == ticks else None


def end(pid_file: Path, number: int) -> bool:
    """Send a signal to the process that was noted there. False: it doesn't run any more."""
    pid = running(pid_file)
    if pid is None:
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def wait_for_end(pid_files: Sequence[Path], timeout_s: float) -> list[Path]:
    """Wait until these have ended; returns those that haven't."""
    until = time.monotonic() + timeout_s
    while left := [path for path in pid_files if running(path) is not None]:
        if time.monotonic() >= until:
            return left
        time.sleep(POLL_S)
    return []


def last_lines(log: Path, count: int = 5, *, start: int = 0) -> list[str]:
    """What a process said last.

    Args:
        start: offset in the file before which nothing counts.
    """
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(start, size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-count:]


def who_listens(address: str, port: int) -> str | None:
    """Who has a TCP port of this machine, for a message; None when nobody has.

    Who it is can be told of processes of the same user only; of others that somebody is there.
    """
    inode = _listening_inode(address, port)
    if inode is None:
        return None
    wanted = f"socket:[{inode}]"
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            if any(str(file.readlink()) == wanted for file in (process / "fd").iterdir()):
                words = (process / "cmdline").read_bytes().split(b"\0")
                command = b" ".join(words).decode(errors="replace").strip()
                return f"process {process.name} ({command[:200]})"
        except OSError:
            continue
    # It is another user's, unless it has ended since.
    return "another user's process" if _listening_inode(address, port) == inode else None


def _listening_inode(address: str, port: int) -> str | None:
    """The socket that listens there, or on that port of all addresses; see proc_net_tcp in the kernel's documents."""
    packed = ip_address(address).packed
    own = "".join(
        f"{int.from_bytes(packed[at : at + 4], sys.byteorder):08X}" for at in range(0, len(packed), 4)
    )
    places = {f"{own}:{port:04X}", f"{'0' * 8}:{port:04X}", f"{'0' * 32}:{port:04X}"}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[1] in places and fields[3] == LISTENING:
                return fields[9]
    return None


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without options of nodes in it."""
    return {name: value for name, value in environment.items() if not name.startswith("OURO_")}
