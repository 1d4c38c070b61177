"""Real transports on loopback, all in the test's own loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import uvloop

from ourodb.net.loop import Passes, SystemRandom
from ourodb.net.peers import PeerTransport
from ourodb.peer.connection import PeerConnection, State
from ourodb.peer.faults import PeerFault
from ourodb.peer.handshake import NONCE_BYTES, PeerIdentity, Role
from ourodb.ports import Address, Link

SECRET = b"a secret of the cluster's"
PATIENCE_S = 60
"""After which a test has failed: far more than anything takes, on however busy a machine."""


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test on the loop that nodes run on."""
    uvloop.run(test())


async def until(condition: Callable[[], object]) -> None:
    """Wait until it is so."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - it may be about anything
            await asyncio.sleep(0.002)


class Node:
    """A transport, and what came to its ears.

    Attributes:
        received: (link, message), in order.
        events: ("connected", address) and ("disconnected", address, refused), in order.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        *,
        secret: bytes = SECRET,
        cluster: str = "flights",
        host_id: UUID | None = None,
        bind: bool = True,
    ) -> None:
        self.host = host
        self.passes = Passes(asyncio.get_running_loop())
        self.received: list[tuple[Link, bytes]] = []
        self.events: list[tuple[Any, ...]] = []
        self.faults: list[PeerFault] = []
        self.transport = PeerTransport(
            asyncio.get_running_loop(),
            self.passes,
            SystemRandom(),
            secret,
            PeerIdentity(host_id or uuid4(), (host, 1), cluster),
            bind_address=host if bind else None,
        )
        self.transport.receive = lambda link, message: self.received.append((link, message))
        self.transport.on_connected = lambda address: self.events.append(("connected", address))
        self.transport.on_disconnected = lambda address, refused: self.events.append(
            ("disconnected", address, refused)
        )
        self.transport.on_lane_lost = lambda address, lane: self.events.append(("lane lost", address, lane))
        self.transport.on_fault = lambda address, fault: self.faults.append(fault)

    async def start(self, port: int = 0) -> Node:
        port = await self.transport.start(self.host, port)
        self.transport.identity = replace(self.transport.identity, address=(self.host, port))
        return self

    @property
    def address(self) -> Address:
        return self.transport.identity.address

    @property
    def messages(self) -> list[bytes]:
        return [message for _, message in self.received]

    async def stop(self) -> None:
        await self.transport.stop()


class RawPeer:
    """A peer that reads when the test says so: the responder's end on plain sockets.

    Attributes:
        received: messages, by lane.
        sources: addresses from which it was called.
    """

    def __init__(self, host: str = "127.0.0.9") -> None:
        self.identity = PeerIdentity(uuid4(), (host, 1), "flights")
        self.received: dict[int, list[bytes]] = {}
        self.sources: list[str] = []
        self._ends: dict[int, tuple[PeerConnection, asyncio.StreamReader]] = {}
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> RawPeer:
        # A small buffer, so that little is read ahead.
        self._server = await asyncio.start_server(self._accept, self.identity.address[0], 0, limit=1024)
        port = self._server.sockets[0].getsockname()[1]
        self.identity = replace(self.identity, address=(self.identity.address[0], port))
        return self

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = PeerConnection(Role.RESPONDER, self.identity, SECRET, SystemRandom().bytes(NONCE_BYTES))
        self._writers.append(writer)
        self.sources.append(writer.get_extra_info("peername")[0])
        while connection.state < State.READY:
            connection.receive(await reader.read(1024))
            writer.write(connection.take_outgoing())
        self._ends[connection.lane] = connection, reader
        self.received.setdefault(connection.lane, [])

    async def read(self, lane: int, count: int) -> None:
        """Read until so many messages have come on that lane."""
        connection, reader = self._ends[lane]
        async with asyncio.timeout(PATIENCE_S):
            while len(self.received[lane]) < count:
                data = await reader.read(1 << 20)
                assert data, "the connection was closed"
                self.received[lane] += connection.receive(data)
                assert connection.error is None

    def break_lane(self, lane: int) -> None:
        """Its connection ends without a word; the others go on."""
        self._writers[list(self._ends).index(lane)].transport.abort()

    def stop(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()


class RawCaller:
    """A node that connects by hand: the initiator's end on a plain socket."""

    def __init__(self, to: Address, identity: PeerIdentity, lane: int, secret: bytes = SECRET) -> None:
        self.to = to
        self.connection = PeerConnection(
            Role.INITIATOR, identity, secret, SystemRandom().bytes(NONCE_BYTES), lane=lane
        )

    async def connect(self) -> RawCaller:
        self.reader, self.writer = await asyncio.open_connection(*self.to)
        while self.connection.state < State.READY:
            self.writer.write(self.connection.take_outgoing())
            self.connection.receive(await self.reader.read(1024))
        return self

    def send(self, *messages: bytes) -> None:
        self.writer.write(self.connection.encode(messages))

    async def closed(self) -> None:
        """Wait until the other end has closed the connection."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                while await self.reader.read(1024):
                    pass
            except ConnectionError:
                pass

    def stop(self) -> None:
        self.writer.transport.abort()
