"""Links that are cut without a word: two processes in network namespaces, a bridge between them that stops to forward.

A failure here means that a node goes on believing in a connection whose other end can't be reached, and that what it
sends waits for the ever longer pauses of TCP's retransmissions, long after the link has healed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

LONELY = Path(__file__).with_name("lonely.py")
SOURCES = Path(__file__).resolve().parents[2] / "src"
NUMBERS = (1, 2)


class Network:
    """Two namespaces and a bridge between them, and a process in each."""

    def __init__(self) -> None:
        self.hub = f"ouro{os.getpid()}h"
        self.homes = {number: f"ouro{os.getpid()}n{number}" for number in NUMBERS}
        self.processes: dict[int, subprocess.Popen[str]] = {}

    def build(self) -> None:
        for name in (self.hub, *self.homes.values()):
            ip("netns", "add", name)
        ip("-n", self.hub, "link", "add", "bridge", "type", "bridge")
        ip("-n", self.hub, "link", "set", "bridge", "up")
        for number, home in self.homes.items():
            port = f"port{number}"
            ip("-n", self.hub, *f"link add {port} type veth peer name wire netns {home}".split())
            ip("-n", self.hub, "link", "set", port, "master", "bridge", "up")
            ip("-n", home, "addr", "add", f"10.9.0.{number}/24", "dev", "wire")
            ip("-n", home, "link", "set", "wire", "up")

    def start(self, manner: str) -> None:
        for number, home in self.homes.items():
            own, peer = f"10.9.0.{number}", f"10.9.0.{3 - number}"
            self.processes[number] = subprocess.Popen(
                ["ip", "netns", "exec", home, sys.executable, LONELY, own, peer, manner],
                env={**os.environ, "PYTHONPATH": str(SOURCES)},
                stdout=subprocess.PIPE,
                text=True,
            )

    def cut(self) -> None:
        """The bridge forwards nothing more to or from the second; both still see their wire."""
        ip("-n", self.hub, "link", "set", "port2", "nomaster")

    def heal(self) -> None:
        ip("-n", self.hub, "link", "set", "port2", "master", "bridge")

    def wait_for(self, *words: str) -> None:
        """Read what each of them says until it has said all of these, in whatever order."""
        for process in self.processes.values():
            assert process.stdout is not None
            missing = set(words)
            for line in process.stdout:
                missing.discard(line.strip())
                if not missing:
                    break
            assert not missing, "a process ended"

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.communicate()
        for name in (self.hub, *self.homes.values()):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def network() -> Iterator[Network]:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")
    network = Network()
    try:
        try:
            network.build()
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
        yield network
    finally:
        network.close()


@pytest.mark.parametrize("manner", ["talkative", "quiet"])
def test_a_cut_is_noticed_and_the_link_comes_back(network: Network, manner: str) -> None:
    """With bytes under way, by their missing acknowledgement; without, by the kernel's probes."""
    network.start(manner)
    network.wait_for("connected", "heard")
    network.cut()
    network.wait_for("disconnected")
    network.heal()
    network.wait_for(*(["connected", "heard"] if manner == "talkative" else ["connected"]))
