"""Clients that take their time. Each must be cut off within its bound, so all start early and wait side by side."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable

from tests.hostile.raw import Raw, bound, envelope

from ourodb import limits
from ourodb.cql.wire.client_messages import encode_query, encode_startup
from ourodb.cql.wire.codes import OPTIONS, QUERY, STARTUP

GRACE_SECONDS = 60
"""How much later than its bound a client may be cut off, on a busy machine."""


class SlowClients:
    """One thread for each of them.

    Attributes:
        cut_off: by name, whether the node closed the connection in time; filled as it happens.
    """

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._stop = threading.Event()
        self._reasons: dict[str, str] = {}
        self._threads = {
            name: threading.Thread(target=self._run, args=(name, client), name=name, daemon=True)
            for name, client in _CLIENTS.items()
        }
        for thread in self._threads.values():
            thread.start()

    def outcome(self, name: str) -> str:
        """How a client ended: "cut off", or what happened instead."""
        self._threads[name].join()
        return self._reasons[name]

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads.values():
            thread.join()

    def _run(self, name: str, client: Callable[[tuple[str, int], threading.Event], str]) -> None:
        try:
            self._reasons[name] = client(self._address, self._stop)
        except ConnectionError:
            self._reasons[name] = "cut off"
        except Exception as error:
            self._reasons[name] = f"{type(error).__name__}: {error}"


def _closed(connection: socket.socket) -> bool:
    """Whether the node closed the connection, seen without reading from it."""
    poller = select.poll()
    poller.register(connection, select.POLLRDHUP)
    return bool(poller.poll(0))


def _dribble(connection: socket.socket, data: bytes, seconds_max: int, stop: threading.Event) -> str:
    """Send a byte a second."""
    deadline = time.monotonic() + seconds_max + GRACE_SECONDS
    for byte in data:
        if _closed(connection):
            return "cut off"
        connection.sendall(bytes((byte,)))
        if stop.wait(1) or time.monotonic() > deadline:
            break
    return "still connected"


def dribbles_handshake(address: tuple[str, int], stop: threading.Event) -> str:
    startup = envelope(4, STARTUP, encode_startup({"DRIVER_NAME": "x" * 200}))
    with Raw(address, start=False) as client:
        return _dribble(client.socket, startup, limits.HANDSHAKE_SECONDS_MAX, stop)


def _dribbles_query(address: tuple[str, int], stop: threading.Event, version: int) -> str:
    text = "SELECT " + "x" * 500
    with Raw(address, version) as client:
        client.wire.send(0, QUERY, encode_query(version, text, bound()))
        return _dribble(client.socket, client.wire.take_outgoing(), limits.PARTIAL_MESSAGE_SECONDS_MAX, stop)


def dribbles_query_v4(address: tuple[str, int], stop: threading.Event) -> str:
    return _dribbles_query(address, stop, 4)


def dribbles_query_v5(address: tuple[str, int], stop: threading.Event) -> str:
    return _dribbles_query(address, stop, 5)


def says_nothing(address: tuple[str, int], stop: threading.Event) -> str:
    deadline = time.monotonic() + limits.HANDSHAKE_SECONDS_MAX + GRACE_SECONDS
    with Raw(address, start=False) as client:
        while not _closed(client.socket):
            if stop.wait(0.5) or time.monotonic() > deadline:
                return "still connected"
    return "cut off"


def _never_reads(address: tuple[str, int], stop: threading.Event, request: bytes) -> str:
    """Send requests as fast as they are taken, and leave the answers unread."""
    deadline = time.monotonic() + limits.STUCK_CLIENT_SECONDS_MAX + GRACE_SECONDS
    with Raw(address, 4) as client:
        client.socket.setblocking(False)
        pending = b""
        while time.monotonic() < deadline:
            if _closed(client.socket):
                return "cut off"
            with contextlib.suppress(BlockingIOError):
                pending = pending or request * 1000
                pending = pending[client.socket.send(pending) :]
                continue
            if stop.wait(0.1):
                break
    return "still connected"


def never_reads_large_results(address: tuple[str, int], stop: threading.Event) -> str:
    body = encode_query(4, "SELECT * FROM hostile.large WHERE k = 0", bound())
    return _never_reads(address, stop, envelope(4, QUERY, body))


def never_reads_options(address: tuple[str, int], stop: threading.Event) -> str:
    return _never_reads(address, stop, envelope(4, OPTIONS, b""))


def never_reads_errors(address: tuple[str, int], stop: threading.Event) -> str:
    return _never_reads(address, stop, envelope(4, QUERY, encode_query(4, "SELECT", bound())))


_CLIENTS = {
    client.__name__: client
    for client in (
        dribbles_handshake,
        dribbles_query_v4,
        dribbles_query_v5,
        says_nothing,
        never_reads_large_results,
        never_reads_options,
        never_reads_errors,
    )
}
NAMES = list(_CLIENTS)
