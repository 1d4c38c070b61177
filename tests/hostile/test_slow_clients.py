"""A client that takes its time holds memory and a socket for a bounded time only; ten thousand idle ones are fine."""

from __future__ import annotations

import resource
import select
import socket

import pytest
from tests.hostile.raw import ANSWER_SECONDS_MAX, Raw, envelope
from tests.hostile.slow_clients import NAMES, SlowClients

from ourodb.cql.wire.client_messages import encode_startup
from ourodb.cql.wire.codes import STARTUP

IDLE_CONNECTIONS = 10_000
FILES_KEPT_BACK = 200
CONNECTIONS_AT_ONCE = 500


def test_ten_thousand_idle_connections(address: tuple[str, int]) -> None:
    """All shake hands and then say nothing: they stay, and others are still served."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(IDLE_CONNECTIONS, files - FILES_KEPT_BACK)
    startup = envelope(4, STARTUP, encode_startup({}))
    idle: list[socket.socket] = []
    try:
        for start in range(0, count, CONNECTIONS_AT_ONCE):
            some = [
                socket.create_connection(address, ANSWER_SECONDS_MAX)
                for _ in range(min(CONNECTIONS_AT_ONCE, count - start))
            ]
            idle += some
            for connection in some:
                connection.sendall(startup)
            for connection in some:
                assert len(connection.recv(64)) == 9
        with Raw(address) as client:
            assert client.lives()
        poller = select.poll()
        for connection in idle:
            poller.register(connection, select.POLLIN | select.POLLRDHUP)
        assert not poller.poll(0), "idle clients were cut off"
        for connection in idle[:: count // 100]:
            connection.sendall(envelope(4, 5, b""))
            assert connection.recv(1024)
    finally:
        for connection in idle:
            connection.close()
    if count < IDLE_CONNECTIONS:
        pytest.skip(f"only {count} connections: this machine allows a process {files} open files")


@pytest.mark.parametrize("name", NAMES)
def test_cut_off(slow_clients: SlowClients, name: str) -> None:
    assert slow_clients.outcome(name) == "cut off"
