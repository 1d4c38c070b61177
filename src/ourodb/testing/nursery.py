"""Processes that die with this one.

The kernel ends them when the *thread* that started them ends, so all are started by one thread that lasts as long as
the process, whichever thread a test runs in.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from ourodb.cli.local.offspring import command

_Answer = queue.SimpleQueue[subprocess.Popen[bytes] | Exception]


class Nursery:
    """Starts processes."""

    def __init__(self) -> None:
        self._orders: queue.SimpleQueue[tuple[Sequence[str], Path, Mapping[str, str], _Answer]]
        self._orders = queue.SimpleQueue()
        self._pid = 0

    def start(
        self, arguments: Sequence[str], log: Path, environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        """Start ``ouro`` with these arguments; what it prints is added to the log.

        Raises:
            OSError: it can't be started.
        """
        if self._pid != os.getpid():
            # The first time, or the first time after a fork, which takes no thread along.
            self._pid = os.getpid()
            self._orders = queue.SimpleQueue()
            threading.Thread(target=self._serve, args=(self._orders,), name="nursery", daemon=True).start()
        answer: _Answer = queue.SimpleQueue()
        self._orders.put((arguments, log, environment, answer))
        started = answer.get()
        if isinstance(started, Exception):
            raise started
        return started

    def _serve(
        self, orders: queue.SimpleQueue[tuple[Sequence[str], Path, Mapping[str, str], _Answer]]
    ) -> None:
        while True:
            arguments, log, environment, answer = orders.get()
            try:
                with log.open("ab") as output:
                    process = subprocess.Popen(
                        command(signal.SIGKILL, list(map(str, arguments))),
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        env=environment,
                        # Ctrl-C is for the tests, which then end the nodes.
                        start_new_session=True,
                    )
            except Exception as error:
                # Somebody waits for it, and others will come.
                answer.put(error)
            else:
                answer.put(process)


NURSERY = Nursery()
"""There is one for a process: its thread costs something, and nothing depends on who uses it."""
