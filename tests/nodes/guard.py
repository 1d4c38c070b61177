"""Ends what a run of tests leaves behind when it is killed itself: ``python guard.py``, fed with lines.

A run of tests ends its processes and removes its namespaces by itself, whatever a test does. It can't when it gets
SIGKILL. So it starts a guard, which does nothing but wait for the end of its standard input, which comes when whoever
holds the other end is gone; then it ends what is still there.

Lines: ``process PID START`` (start as in /proc, so that a number that was given out again is left alone),
``namespace NAME``, ``link NAME``; ``done`` before one of them takes it back.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

PARTS_BEFORE_START = 19
"""Of /proc/PID/stat, after the name of the program."""


class Guard:
    """The end of a guard's input that a run of tests holds; the guard is started with the first thing to be guarded."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def process(self, pid: int) -> None:
        started = start_of(pid)
        if started is not None:
            self._tell(f"process {pid} {started}")

    def namespace(self, name: str) -> None:
        self._tell(f"namespace {name}")

    def namespace_is_gone(self, name: str) -> None:
        self._tell(f"done namespace {name}")

    def link(self, name: str) -> None:
        self._tell(f"link {name}")

    def link_is_gone(self, name: str) -> None:
        self._tell(f"done link {name}")

    def _tell(self, line: str) -> None:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-S", __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            atexit.register(self._let_go)
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def _let_go(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def start_of(pid: int) -> str | None:
    """When a process was started, in the kernel's words; None when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[PARTS_BEFORE_START]


GUARD = Guard()
"""Of this run of tests."""


def main() -> None:
    """The guard."""
    guarded: dict[str, None] = {}
    for line in sys.stdin:
        word, _, rest = line.strip().partition(" ")
        if word == "done":
            guarded.pop(rest, None)
        else:
            guarded[line.strip()] = None
    for text in reversed(guarded):
        kind, *rest = text.split(" ")
        if kind == "process" and start_of(int(rest[0])) == rest[1]:
            with suppress(ProcessLookupError):
                os.kill(int(rest[0]), signal.SIGKILL)
        elif kind == "namespace":
            subprocess.run(["ip", "netns", "delete", rest[0]], check=False)
        elif kind == "link":
            subprocess.run(["ip", "link", "delete", rest[0]], check=False)


if __name__ == "__main__":
    main()
