"""One blocking connection, for all that isn't load: the handshake, the schema, preparing statements.

The generator takes over the socket and the wire state of a connected ``Client`` and goes on without blocking.
"""

from __future__ import annotations

import itertools
import socket
from typing import Any

from ourodb.bench.options import BenchError
from ourodb.cql.wire.client import ClientConnection
from ourodb.cql.wire.client_messages import (
    Prepared,
    Rows,
    decode_response,
    encode_auth_response,
    encode_prepare,
    encode_query,
)
from ourodb.cql.wire.codes import AUTH_RESPONSE, AUTHENTICATE, ERROR, PREPARE, QUERY, READY, Consistency
from ourodb.cql.wire.connection import State
from ourodb.cql.wire.envelopes import Envelope
from ourodb.cql.wire.requests import QueryParameters
from ourodb.errors import RequestError

RECEIVE_BYTES = 1 << 18
DRIVER_NAME = "OuroDB bench"


class Client:
    """A connection that is ready for requests, one at a time.

    Attributes:
        socket, wire: for whoever takes the connection over.
    """

    def __init__(
        self,
        address: tuple[str, int],
        version: int = 5,
        compression: str = "",
        credentials: tuple[str, str] = ("", ""),
        timeout_s: float = 10.0,
    ) -> None:
        """Connect and shake hands.

        Args:
            compression: "lz4", "snappy" or "".
            credentials: user and password, used when the server asks for them.
        Raises:
            BenchError: nobody listens, or the server doesn't take us in.
        """
        self.address = address
        self._streams = itertools.cycle(range(1 << 15))
        try:
            self.socket = socket.create_connection(address, timeout_s)
        except OSError as error:
            raise BenchError(f"can't connect to {self._named()}: {error.strerror or error}") from error
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.wire = ClientConnection(version, compression)
        try:
            self._shake_hands(credentials)
        except BaseException:
            self.close()
            raise

    def query(self, statement: str) -> list[list[bytes | None]]:
        """Run a statement; the rows that it gives, cells as on the wire.

        Raises:
            RequestError: the server refused it.
            BenchError: the connection is lost.
        """
        parameters = QueryParameters(Consistency.ONE, False, [])
        message = self._ask(QUERY, encode_query(self.wire.version, statement, parameters))
        return message.rows if isinstance(message, Rows) else []

    def prepare(self, statement: str) -> Prepared:
        """Prepare a statement; raises as ``query``."""
        message = self._ask(PREPARE, encode_prepare(self.wire.version, statement))
        assert isinstance(message, Prepared)
        return message

    def close(self) -> None:
        self.wire.close()
        self.socket.close()

    def _shake_hands(self, credentials: tuple[str, str]) -> None:
        wire = self.wire
        wire.start(0, {"DRIVER_NAME": DRIVER_NAME})
        opcode, message = self._answer(0)
        if opcode == ERROR and wire.server_version not in (0, wire.version):
            raise BenchError(
                f"{self._named()} doesn't speak protocol version {wire.version}, but {wire.server_version}"
            )
        if opcode == AUTHENTICATE:
            user, password = credentials
            if not user:
                raise BenchError(f"{self._named()} asks for a user and a password")
            token = f"\0{user}\0{password}".encode()
            wire.send(0, AUTH_RESPONSE, encode_auth_response(token))
            opcode, message = self._answer(0)
        if isinstance(message, RequestError):
            raise BenchError(f"{self._named()} refused the connection: {message.message}")
        if wire.state is not State.READY:
            raise BenchError(
                f"{self._named()} answered the handshake with message {opcode}, expected {READY}"
            )

    def _ask(self, opcode: int, body: bytes) -> Any:
        stream = next(self._streams)
        self.wire.send(stream, opcode, body)
        _, message = self._answer(stream)
        if isinstance(message, RequestError):
            raise message
        return message

    def _answer(self, stream: int) -> tuple[int, Any]:
        wire = self.wire
        try:
            self.socket.sendall(wire.take_outgoing())
            while True:
                data = self.socket.recv(RECEIVE_BYTES)
                envelopes: list[Envelope] = wire.receive(data) if data else []
                for answered, opcode, flags, body, _ in envelopes:
                    if answered == stream:
                        return opcode, decode_response(wire.version, opcode, flags, body).message
                if wire.error is not None:
                    raise BenchError(f"{self._named()} broke the protocol: {wire.error.message}")
                if not data:
                    raise BenchError(f"{self._named()} closed the connection")
        except TimeoutError as error:
            raise BenchError(f"{self._named()} doesn't answer") from error
        except OSError as error:
            raise BenchError(
                f"the connection to {self._named()} is lost: {error.strerror or error}"
            ) from error

    def _named(self) -> str:
        host, port = self.address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
