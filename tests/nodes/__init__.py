"""Real nodes for tests: processes of ``ouro serve``, ended by the id under which they were started.

``NodeProcess`` is one node, alone or of a ring: on loopback unless it is told another address, and in a namespace of
the network if it is given the words that run a program there. What a run of tests that is killed leaves behind is ended
by its guard.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.nodes.guard import GUARD

START_SECONDS_MAX = 60
ADMIN_SECONDS_MAX = 10


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class NodeProcess:
    """One node.

    Attributes:
        data: its folder; what it prints goes to a file beside it.
        host, port: where CQL clients connect.
        peer_port, admin_port: for other nodes, and of the admin API.
        options: others of ``ouro serve``; may be changed while it doesn't run.
        inside: the words before the command that let it run somewhere else.
        environment: variables beside those of this process.
    """

    def __init__(
        self,
        data: Path,
        *options: str,
        port: int | None = None,
        host: str = "127.0.0.1",
        peer_port: int | None = None,
        admin_port: int | None = None,
        inside: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.data = data
        self.host = host
        self.port = port or free_port()
        self.peer_port = peer_port or free_port()
        self.admin_port = admin_port or free_port()
        self.options: Sequence[str] = options
        self.inside = inside
        self.environment = dict(environment or {})
        self.log_path = data.with_name(data.name + ".log")
        self.process: subprocess.Popen[bytes] | None = None
        self.is_paused = False
        self._log_start = 0

    @property
    def command(self) -> list[str]:
        return [
            *self.inside,
            sys.executable,
            "-c",
            "from ourodb.cli import main; main()",
            "serve",
            "--data",
            str(self.data),
            "--listen",
            self.host,
            "--peer-port",
            str(self.peer_port),
            "--cql-port",
            str(self.port),
            "--admin-port",
            str(self.admin_port),
            *self.options,
        ]

    @property
    def output(self) -> str:
        """What it printed since it was started last, standard error included."""
        with self.log_path.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    @property
    def story(self) -> str:
        """What it printed since it was started first."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    @property
    def address(self) -> str:
        """For other nodes to join."""
        return f"{self.host}:{self.peer_port}"

    def start(self) -> NodeProcess:
        """Start it, and wait until it says that it is ready.

        Raises:
            RuntimeError: it ended, or didn't get ready; with what it printed.
        """
        self.launch()
        self.wait_until_ready()
        return self

    def launch(self) -> None:
        """Start it; it isn't ready yet."""
        environment = {
            name: value
            for name, value in os.environ.items()
            # Nodes are processes: they would compile all modules again at each start.
            if not name.startswith("OURO_") and name != "PYTHONDONTWRITEBYTECODE"
        }
        self._log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**environment, **self.environment},
                start_new_session=True,
            )
        self.is_paused = False
        GUARD.process(self.process.pid)

    def wait_until_ready(self) -> None:
        """Until it serves clients.

        Raises:
            RuntimeError: as for ``start``.
        """
        assert self.process is not None
        deadline = time.monotonic() + START_SECONDS_MAX
        while " ready: " not in self.output:
            if self.process.poll() is not None:
                raise RuntimeError(f"the node ended with {self.process.returncode}:\n{self.output}")
            if time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the node isn't ready:\n{self.output}")
            time.sleep(0.02)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.is_paused = False

    def pause(self) -> None:
        """SIGSTOP: it does nothing, and its kernel still takes what is sent to it."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        self.is_paused = True

    def resume(self) -> None:
        """SIGCONT."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)
        self.is_paused = False

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def memory_mib(self) -> int:
        """Resident memory now."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) // 1024
        raise RuntimeError("no VmRSS")

    # The admin API

    def admin(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """What it answers; POST when there is a body.

        Raises:
            OSError: it doesn't answer, or with an error.
        """
        return json.loads(self._ask(path, body))

    def metrics(self) -> dict[str, float]:
        """Its metrics by name."""
        found = re.findall(r"^(\w+) (\S+)$", self._ask("metrics", None).decode(), re.MULTILINE)
        return {name.removesuffix("_total"): float(value) for name, value in found}

    def _ask(self, path: str, body: Mapping[str, Any] | None) -> bytes:
        request = urllib.request.Request(
            f"http://{self.host}:{self.admin_port}/{path}",
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=ADMIN_SECONDS_MAX) as reply:
            return bytes(reply.read())
