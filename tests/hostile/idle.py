"""Ten thousand clients that shake hands and then say nothing."""

from __future__ import annotations

import resource
import select
import socket

from tests.hostile.raw import ANSWER_SECONDS_MAX, envelope

from ourodb.cql.wire.client_messages import encode_startup
from ourodb.cql.wire.codes import OPTIONS, STARTUP

IDLE_CONNECTIONS = 10_000
FILES_KEPT_BACK = 500
CONNECTIONS_AT_ONCE = 500
ASKED = 100
"""How many of them are asked in the end whether they are still there."""


class IdleClients:
    """All of them; fewer where this process may not open so many files.

    Attributes:
        count: how many there are.
    """

    def __init__(self, address: tuple[str, int]) -> None:
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.count = min(IDLE_CONNECTIONS, files - FILES_KEPT_BACK)
        self._connections: list[socket.socket] = []
        startup = envelope(4, STARTUP, encode_startup({}))
        try:
            for start in range(0, self.count, CONNECTIONS_AT_ONCE):
                some = [
                    socket.create_connection(address, ANSWER_SECONDS_MAX)
                    for _ in range(min(CONNECTIONS_AT_ONCE, self.count - start))
                ]
                self._connections += some
                for connection in some:
                    connection.sendall(startup)
                for connection in some:
                    assert len(connection.recv(64)) == 9
        except BaseException:
            self.close()
            raise

    def check(self) -> None:
        """None was cut off, and those that ask are answered."""
        poller = select.poll()
        for connection in self._connections:
            poller.register(connection, select.POLLIN | select.POLLRDHUP)
        assert not poller.poll(0), "idle clients were cut off"
        for connection in self._connections[:: self.count // ASKED]:
            connection.sendall(envelope(4, OPTIONS, b""))
            assert connection.recv(1024)

    def close(self) -> None:
        for connection in self._connections:
            connection.close()
