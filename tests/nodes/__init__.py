"""Real nodes for tests: processes of ``ouro serve`` on loopback, ended by the id under which they were started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

START_SECONDS_MAX = 60


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class NodeProcess:
    """One node.

    Attributes:
        host, port: where CQL clients connect.
        admin_port, peer_port: of the admin API, and for other nodes.
        output: what it printed, standard error included.
    """

    def __init__(self, data: Path, *options: str, port: int | None = None) -> None:
        self.data = data
        self.host = "127.0.0.1"
        self.port = port or free_port()
        self.admin_port = free_port()
        self.peer_port = free_port()
        self.options: Sequence[str] = options
        self.log_path = data.with_name(data.name + ".log")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def command(self) -> list[str]:
        return [
            sys.executable,
            "-c",
            "from ourodb.cli import main; main()",
            "serve",
            "--data",
            str(self.data),
            "--cql-port",
            str(self.port),
            "--admin-port",
            str(self.admin_port),
            "--peer-port",
            str(self.peer_port),
            *self.options,
        ]

    @property
    def output(self) -> str:
        return self.log_path.read_text(errors="replace")

    def start(self) -> NodeProcess:
        """Start it, and wait until it says that it is ready."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OURO_")}
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment
            )
        deadline = time.monotonic() + START_SECONDS_MAX
        while " ready: " not in self.output:
            if self.process.poll() is not None:
                raise RuntimeError(f"the node ended with {self.process.returncode}:\n{self.output}")
            if time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the node isn't ready:\n{self.output}")
            time.sleep(0.02)
        return self

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

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def memory_mib(self) -> int:
        """Resident memory now."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) // 1024
        raise RuntimeError("no VmRSS")
