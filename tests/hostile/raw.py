"""A blocking connection that sends what it is told to, right or wrong."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable, Sequence
from typing import Any

from ourodb.cql.wire.client import ClientConnection
from ourodb.cql.wire.client_messages import (
    Prepared,
    decode_response,
    encode_execute,
    encode_prepare,
    encode_query,
)
from ourodb.cql.wire.codes import EXECUTE, PREPARE, QUERY, READY, SUPPORTED, Consistency
from ourodb.cql.wire.connection import State
from ourodb.cql.wire.envelopes import Envelope
from ourodb.cql.wire.frames import pack_header
from ourodb.cql.wire.requests import Execute, QueryParameters
from ourodb.errors import RequestError

ANSWER_SECONDS_MAX = 60
"""A node that takes longer hangs."""

RECEIVE_BYTES = 1 << 18


def envelope(version: int, opcode: int, body: bytes, stream: int = 0, flags: int = 0) -> bytes:
    return pack_header(version, flags, stream, opcode, len(body)) + body


def bound(values: Sequence[Any] = (), keyspace: str | None = None) -> QueryParameters:
    return QueryParameters(Consistency.ONE, False, list(values), keyspace=keyspace)


class Raw:
    """One connection.

    Attributes:
        wire: its protocol; None of it has to be used.
        socket: for bytes that no protocol would send.
    """

    def __init__(
        self, address: tuple[str, int], version: int = 5, compression: str = "", start: bool = True
    ) -> None:
        self.wire = ClientConnection(version, compression)
        self.version = version
        self.socket = socket.create_connection(address, ANSWER_SECONDS_MAX)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received: list[Envelope] = []
        if start:
            self.wire.start(0)
            self.flush()
            assert self.next()[1] == READY
            assert self.wire.state is State.READY

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def flush(self) -> None:
        self.socket.sendall(self.wire.take_outgoing())

    def push(self, data: bytes) -> None:
        """Send bytes of which the node may have enough before it has read all."""
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(data)

    def next(self) -> Envelope:
        """The next response.

        Raises:
            ConnectionError: the node closed the connection.
        """
        while not self._received:
            data = self.socket.recv(RECEIVE_BYTES)
            if not data:
                raise ConnectionResetError("the node closed the connection")
            self._received = self.wire.receive(data)
            assert self.wire.error is None, f"the node broke the protocol: {self.wire.error}"
        return self._received.pop(0)

    def message(self) -> Any:
        """The next response, decoded."""
        _, opcode, flags, body, _ = self.next()
        return decode_response(self.version, opcode, flags, body).message

    def ask(self, opcode: int, body: bytes, flags: int = 0) -> Any:
        """Send one request; returns its response, decoded (an error is returned, not raised)."""
        self.wire.send(1, opcode, body, flags)
        self.flush()
        return self.message()

    def query(self, statement: str, values: Sequence[Any] = ()) -> Any:
        return self.ask(QUERY, encode_query(self.version, statement, bound(values)))

    def prepare(self, statement: str) -> Any:
        return self.ask(PREPARE, encode_prepare(self.version, statement))

    def execute(self, prepared: Prepared, values: Sequence[Any]) -> Any:
        request = Execute(prepared.statement_id, prepared.result_metadata_id or b"", bound(values))
        return self.ask(
            EXECUTE,
            encode_execute(
                self.version, request.statement_id, request.result_metadata_id, request.parameters
            ),
        )

    def run(self, statements: Iterable[str]) -> None:
        """Run statements that must succeed."""
        for statement in statements:
            answer = self.query(statement)
            assert not isinstance(answer, RequestError), f"{statement}: {answer}"

    def lives(self) -> bool:
        """Whether the connection still answers as it should."""
        self.wire.options(2)
        self.flush()
        return self.next()[1] == SUPPORTED

    def rest(self) -> bytes:
        """All that still comes, until the node closes the connection."""
        parts = []
        try:
            while data := self.socket.recv(RECEIVE_BYTES):
                parts.append(data)
        except ConnectionError:
            pass
        return b"".join(parts)

    def cut_off(self) -> bool:
        """Whether the node closes the connection; waits for it."""
        self.rest()
        return True
