"""The network on which rings are cut apart. If one of these fails, no test of a partition proves anything."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.ring.namespaces import Network, need_namespaces

ECHO = """
import socket, sys, threading
def serve(one):
    while data := one.recv(100):
        one.send(data)
server = socket.create_server((sys.argv[1], 5000))
print("ready", flush=True)
while True:
    threading.Thread(target=serve, args=[server.accept()[0]], daemon=True).start()
"""
ASK = """
import socket, sys
socket.create_connection((sys.argv[1], 5000), timeout=float(sys.argv[2])).close()
"""


@pytest.fixture
def network() -> Iterator[Network]:
    need_namespaces()
    with Network(3) as network:
        servers = []
        for host in network.hosts:
            command = [*network.inside(host), sys.executable, "-c", ECHO, host]
            server = subprocess.Popen(command, stdout=subprocess.PIPE)
            servers.append(server)
            assert server.stdout is not None
            assert server.stdout.readline() == b"ready\n"
        yield network
        for server in servers:
            server.kill()
            server.wait()


def echoes(connection: socket.socket, seconds: float = 5) -> bool:
    connection.settimeout(seconds)
    connection.send(b"x")
    try:
        return bool(connection.recv(100))
    except TimeoutError:
        return False


def reaches(network: Network, host: str, other: str, seconds: float = 5) -> bool:
    command = [*network.inside(host), sys.executable, "-c", ASK, other, str(seconds)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def test_cuts_and_heals(network: Network) -> None:
    """A connection that stands falls silent on a cut, without an error, and goes on when it is healed."""
    one, two, three = network.hosts
    connection = socket.create_connection((one, 5000))
    witness = socket.create_connection((one, 5000), source_address=(network.witness, 0))
    assert echoes(connection)
    network.isolate(one)
    assert not echoes(connection, 0.5)
    assert echoes(witness)
    assert not reaches(network, one, two, 0.5)
    assert not reaches(network, two, one, 0.5)
    assert reaches(network, two, three)
    network.heal()
    assert reaches(network, two, one)
    connection.settimeout(5)
    assert connection.recv(100)
    connection.close()
    witness.close()


def test_one_way(network: Network) -> None:
    """Only one direction is cut: neither can connect, and others still can."""
    one, two, three = network.hosts
    network.cut([one], [two], one_way=True)
    assert not reaches(network, one, two, 0.5)
    assert not reaches(network, two, one, 0.5)
    assert reaches(network, one, three)
    network.heal()
    network.split([one, two], [three])
    assert reaches(network, one, two)
    assert not reaches(network, one, three, 0.5)


def test_delay(network: Network) -> None:
    """What a host sends comes late; it is lost for good neither then nor when the delay ends."""
    if not Path("/dev/net/tun").exists():
        pytest.skip("no tun devices here")
    one, two, _ = network.hosts
    connection = socket.create_connection((one, 5000))
    network.delay(one, 200)
    before = time.monotonic()
    assert echoes(connection)
    assert time.monotonic() - before > 0.19
    assert reaches(network, two, one)
    network.heal()
    assert echoes(connection)
    connection.close()


def test_nothing_is_left() -> None:
    """After all of it there are no namespaces and no routes any more."""
    need_namespaces()
    with Network(2) as network:
        tag = network.client.rpartition(".")[0]
        assert tag in subprocess.check_output(["ip", "route"], text=True)
        names = [network.inside(host)[-1] for host in network.hosts]
    assert tag not in subprocess.check_output(["ip", "route"], text=True)
    left = subprocess.check_output(["ip", "netns"], text=True)
    assert not any(name in left for name in names)
