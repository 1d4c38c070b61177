"""One client's connection, from the server's end: framing, negotiation, order of messages. No socket.

The owner feeds what arrived to ``receive``, handles the requests that it returns, answers each with one ``send...``
(in any order, at any time), and writes what ``take_outgoing`` gives. OPTIONS and STARTUP are answered here, and so
is whatever breaks the protocol. After ``closing`` has become true, nothing more is received, and the owner closes
the socket when the last of ``take_outgoing`` is written.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TypeAlias

from ourodb.errors import RequestError

Request: TypeAlias = tuple[int, int, int, bytes, dict[str, bytes | None] | None]
"""(stream, opcode, header flags, body, custom payload or None). Opcode is never STARTUP or OPTIONS; the body is not yet
decoded (``requests``); flags matter only for ``codes.FLAG_TRACING``."""


class State(IntEnum):
    """Where a connection stands."""

    STARTING = 0
    AUTHENTICATING = 1
    READY = 2
    CLOSED = 3


class ServerConnection:
    """The protocol of one connection.

    Attributes:
        version: of the protocol, 0 until the client's first message told it.
        state: see ``State``.
        closing: the protocol was broken beyond repair, or the owner called ``close``: write what is outgoing, then
            close the socket.
        options: what STARTUP said, keys in upper case (DRIVER_NAME, ...); empty before.
        compression: "lz4", "snappy" or "".
    """

    __slots__ = ("closing", "compression", "options", "state", "version")

    def __init__(self, *, authenticator: str | None = None) -> None:
        """``authenticator``: class name to announce in AUTHENTICATE; None lets everybody in."""
        raise NotImplementedError

    def receive(self, data: bytes) -> list[Request]:
        """Take in bytes; returns the requests that they complete. Never raises: breaches are answered here."""
        raise NotImplementedError

    def authenticated(self) -> None:
        """The SASL exchange succeeded (the owner has sent AUTH_SUCCESS): requests are let through from now on."""
        raise NotImplementedError

    def send(self, stream: int, opcode: int, body: bytes, flags: int = 0) -> None:
        """Answer with any message. ``flags`` and the start of ``body`` may come from ``responses.response_prefix``."""
        raise NotImplementedError

    def send_result(self, stream: int, body: bytes) -> None:
        """Answer with a RESULT without prefix: the hot path."""
        raise NotImplementedError

    def send_void(self, stream: int) -> None:
        """Answer with a RESULT Void: the hot path of writes."""
        raise NotImplementedError

    def send_error(self, stream: int, error: RequestError, flags: int = 0, prefix: bytes = b"") -> None:
        """Answer with an ERROR; a fatal ``ProtocolError`` also sets ``closing``."""
        raise NotImplementedError

    def send_event(self, body: bytes) -> None:
        """Push an EVENT (stream -1)."""
        raise NotImplementedError

    def take_outgoing(self) -> bytes:
        """All that is to be written, packed as tightly as the protocol allows; b"" when there is nothing."""
        raise NotImplementedError

    def close(self) -> None:
        """Receive nothing more."""
        raise NotImplementedError

    @property
    def buffered_bytes(self) -> int:
        """Bytes received that don't yet make a message."""
        raise NotImplementedError
