"""One connection from the client's end. No socket.

A client sends STARTUP with ``start`` and then any request; ``receive`` gives the responses that arrived, the
handshake's included, and ``take_outgoing`` what is to be written. It waits for READY, or for AUTHENTICATE and what
follows, by itself::

    STARTING        OPTIONS, STARTUP may be sent          READY -> READY; AUTHENTICATE -> AUTHENTICATING
    AUTHENTICATING  AUTH_RESPONSE may be sent             AUTH_SUCCESS -> READY
    READY           all requests may be sent
    CLOSED          nothing

An ERROR in another version than asked for, as a server sends that doesn't know ours, is delivered and sets
``server_version``; connect again with that one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ourodb.cql.wire.client_messages import encode_startup
from ourodb.cql.wire.codes import (
    AUTH_CHALLENGE,
    AUTH_SUCCESS,
    AUTHENTICATE,
    DIRECTION_RESPONSE,
    ERROR,
    EVENT,
    FLAG_COMPRESSED,
    OPTIONS,
    READY,
    RESULT,
    STARTUP,
    SUPPORTED,
    VERSION_MAX,
)
from ourodb.cql.wire.connection import State
from ourodb.cql.wire.envelopes import Envelope, EnvelopeDecoder
from ourodb.cql.wire.frames import COMPRESSIONS, Compress, Decompress, pack_header
from ourodb.cql.wire.segments import encode_segments
from ourodb.errors import ProtocolError
from ourodb.limits import COMPRESS_BYTES_MIN, RESPONSE_BYTES_MAX

_RESPONSES: Final = frozenset((ERROR, SUPPORTED, RESULT, EVENT, AUTH_CHALLENGE))
"""Responses that change nothing about the connection."""


class ClientConnection:
    """The protocol of one connection.

    Attributes:
        version: asked for.
        server_version: of the first response's header, 0 before.
        state: as in ``connection``.
        error: why the connection is closed, when the server broke the protocol.
    """

    __slots__ = (
        "_compress", "_compression", "_decoder", "_decompress", "_outgoing", "_segmented", "error",
        "server_version", "state", "version",
    )  # fmt: skip

    def __init__(self, version: int = VERSION_MAX, compression: str = "") -> None:
        """``compression``: "lz4", "snappy" (before v5) or ""."""
        assert not compression or compression in COMPRESSIONS
        self.version = version
        self.server_version = 0
        self.state = State.STARTING
        self.error: ProtocolError | None = None
        self._compression = compression
        self._compress: Compress | None = None
        self._decompress: Decompress | None = None
        self._segmented = False
        self._outgoing: list[bytes] = []
        self._decoder = EnvelopeDecoder(self, RESPONSE_BYTES_MAX, stream_min=-1)

    def options(self, stream: int) -> None:
        """Ask what the server supports."""
        self.send(stream, OPTIONS, b"")

    def start(self, stream: int, options: Mapping[str, str] | None = None) -> None:
        """Send STARTUP, with what the connection needs added to ``options``."""
        wanted = {"COMPRESSION": self._compression} if self._compression else {}
        if self._compression and self.version < 5:
            # Cassandra compresses from the answer to STARTUP on.
            self._decompress = COMPRESSIONS[self._compression][1]
        self.send(stream, STARTUP, encode_startup({**(options or {}), **wanted}))

    def send(self, stream: int, opcode: int, body: bytes, flags: int = 0) -> None:
        """Send any request."""
        if self._compress is not None and len(body) >= COMPRESS_BYTES_MIN:
            body = self._compress(body)
            flags |= FLAG_COMPRESSED
        self._outgoing.append(pack_header(self.version, flags, stream, opcode, len(body)) + body)

    def send_envelope(self, envelope: bytes) -> None:
        """Send a request that is encoded as a whole, by ``client_messages.ExecuteTemplate``: the hot path."""
        self._outgoing.append(envelope)

    def take_outgoing(self) -> bytes:
        """All that is to be written; b"" when there is nothing."""
        outgoing = self._outgoing
        if not outgoing:
            return b""
        if self._segmented:
            data = encode_segments(outgoing, bool(self._compression))
        else:
            data = outgoing[0] if len(outgoing) == 1 else b"".join(outgoing)
        outgoing.clear()
        return data

    def receive(self, data: bytes) -> list[Envelope]:
        """Take in bytes; returns the responses that they complete: (stream, opcode, header flags, body, None).

        Never raises; when the server broke the protocol, ``error`` is set and the connection is closed.
        """
        return self._decoder.decode(data)

    def close(self) -> None:
        """Receive nothing more."""
        self.state = State.CLOSED
        self._decoder.stop()

    def on_header(self, version: int, flags: int, stream: int, opcode: int, length: int) -> bool:
        """The decoder's question; see ``envelopes.Owner``."""
        number = version & ~DIRECTION_RESPONSE
        if not version & DIRECTION_RESPONSE:
            self.on_broken(ProtocolError("The server sent a request", fatal=True))
        elif number != self.version and opcode != ERROR:
            self.on_broken(ProtocolError(f"The server answered in protocol version {number}", fatal=True))
        elif length > self._decoder.body_bytes_max:
            self.on_broken(ProtocolError(f"The server sent {length} bytes in one response", fatal=True))
        elif stream < -1:
            self.on_broken(ProtocolError(f"The server answered on stream {stream}", fatal=True))
        else:
            self.server_version = number
            return True
        return False

    def on_envelope(self, version: int, flags: int, stream: int, opcode: int, body: bytes) -> Envelope | None:
        """The decoder's question; see ``envelopes.Owner``."""
        if flags & FLAG_COMPRESSED and self.version < 5:
            try:
                if self._decompress is None:
                    raise ProtocolError("The server compressed a response without being asked to", fatal=True)
                body = self._decompress(body, RESPONSE_BYTES_MAX)
            except ProtocolError as error:
                self.on_broken(error)
                return None
            flags &= ~FLAG_COMPRESSED
        if opcode in (READY, AUTHENTICATE) and self.state is State.STARTING:
            self._begin(State.READY if opcode == READY else State.AUTHENTICATING)
        elif opcode == AUTH_SUCCESS and self.state is State.AUTHENTICATING:
            self.state = State.READY
        return stream, opcode, flags, body, None

    def on_broken(self, error: ProtocolError) -> None:
        """The decoder's news; see ``envelopes.Owner``."""
        self.error = error
        self.close()

    def _begin(self, state: State) -> None:
        self.state = state
        self._decoder.version_byte = DIRECTION_RESPONSE | self.version
        self._decoder.opcodes = _RESPONSES
        if self.version >= 5:
            self._segmented = True
            self._decoder.begin_segments(bool(self._compression))
        elif self._compression:
            self._compress = COMPRESSIONS[self._compression][0]
