"""One client's connection, from the server's end: framing, negotiation, order of messages. No socket.

The owner feeds what arrived to ``receive``, handles the requests that it returns, answers each with one ``send...``
(in any order, at any time), and writes what ``take_outgoing`` gives. OPTIONS and STARTUP are answered here, and so
is whatever breaks the protocol. After ``closing`` has become true, nothing more is received, and the owner closes
the socket when the last of ``take_outgoing`` is written.

The states, and the messages that each takes::

    STARTING        OPTIONS, STARTUP                          STARTUP accepted -> READY, or AUTHENTICATING
    AUTHENTICATING  AUTH_RESPONSE                             authenticated()  -> READY
    READY           OPTIONS, QUERY, PREPARE, EXECUTE, BATCH, REGISTER
    CLOSED          nothing                                   from every state, by a fatal error or close()

What is wrong with one message alone (an unknown opcode, one out of order, a custom payload cut short, a body too large)
gets an ERROR on its stream and the connection goes on, as in Cassandra. What makes the rest of the stream doubtful
(another version, the wrong direction, a length below zero, a checksum) is fatal. So is a message above
``UNAUTHENTICATED_MESSAGE_BYTES_MAX`` before the client is let in.

A version that isn't ours is refused on its own stream with our highest version in the header, from which drivers
learn to try a lower one. With v5 the answer to STARTUP is the last envelope outside a segment, in both directions.

Source: native_protocol_v5.spec, sections 2.3 and 4.1; org.apache.cassandra.transport for what closes, and the texts.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, TypeAlias

from ourodb.cql.wire.codes import (
    AUTH_RESPONSE,
    AUTHENTICATE,
    BATCH,
    DIRECTION_RESPONSE,
    ERROR,
    EVENT,
    EXECUTE,
    FLAG_COMPRESSED,
    FLAG_CUSTOM_PAYLOAD,
    OPCODE_NAMES,
    OPTIONS,
    PREPARE,
    QUERY,
    READY,
    REGISTER,
    REQUEST_OPCODES,
    RESULT,
    RESULT_VOID,
    STARTUP,
    SUPPORTED,
    VERSION_MAX,
    VERSIONS,
)
from ourodb.cql.wire.envelopes import Envelope, EnvelopeDecoder
from ourodb.cql.wire.frames import COMPRESSIONS, Compress, Decompress, pack_header
from ourodb.cql.wire.primitives import Reader
from ourodb.cql.wire.responses import (
    PROTOCOL_VERSIONS,
    encode_authenticate,
    encode_error,
    encode_supported,
)
from ourodb.cql.wire.segments import encode_segments
from ourodb.errors import InvalidRequest, ProtocolError, RequestError
from ourodb.limits import (
    COMPRESS_BYTES_MIN,
    CUSTOM_PAYLOAD_KEYS_MAX,
    FRAME_BYTES_MAX,
    STARTUP_KEYS_MAX,
    UNAUTHENTICATED_MESSAGE_BYTES_MAX,
)

Request: TypeAlias = Envelope
"""(stream, opcode, header flags, body, custom payload or None). Opcode is never STARTUP or OPTIONS; the body is not yet
decoded (``requests``); flags matter only for ``codes.FLAG_TRACING``."""

EVENT_STREAM: Final = -1
_LENGTH_NEGATIVE: Final = 1 << 31

_pack_legacy_header = struct.Struct(">BBbBI").pack
_pack_void = struct.Struct(">BBhBII").pack


class State(IntEnum):
    """Where a connection stands."""

    STARTING = 0
    AUTHENTICATING = 1
    READY = 2
    CLOSED = 3


class Step(IntEnum):
    """What moves a connection from one state to another."""

    ADMITTED = 0
    CHALLENGED = 1
    AUTHENTICATED = 2
    CLOSED = 3


TRANSITIONS: Final[dict[tuple[State, Step], State]] = {
    (State.STARTING, Step.ADMITTED): State.READY,
    (State.STARTING, Step.CHALLENGED): State.AUTHENTICATING,
    (State.AUTHENTICATING, Step.AUTHENTICATED): State.READY,
    (State.STARTING, Step.CLOSED): State.CLOSED,
    (State.AUTHENTICATING, Step.CLOSED): State.CLOSED,
    (State.READY, Step.CLOSED): State.CLOSED,
    (State.CLOSED, Step.CLOSED): State.CLOSED,
}

_DELIVERED: Final[dict[State, frozenset[int]]] = {
    State.STARTING: frozenset(),
    State.AUTHENTICATING: frozenset((AUTH_RESPONSE,)),
    State.READY: frozenset((QUERY, PREPARE, EXECUTE, BATCH, REGISTER)),
    State.CLOSED: frozenset(),
}
"""Requests that the owner gets in each state."""

_ANSWERED: Final[dict[State, frozenset[int]]] = {
    State.STARTING: frozenset((OPTIONS, STARTUP)),
    State.AUTHENTICATING: frozenset(),
    State.READY: frozenset((OPTIONS,)),
    State.CLOSED: frozenset(),
}
"""Requests that are answered here in each state."""

_SUPPORTED_BODY: Final = encode_supported()


class ServerConnection:
    """The protocol of one connection.

    Attributes:
        version: of the protocol, 0 until the client's first message told it.
        state: see ``State``.
        closing: the protocol was broken beyond repair, or the owner called ``close``: write what is outgoing, then
            close the socket.
        outgoing_bytes: about as much as waits for ``take_outgoing``; acknowledgements aren't counted.
        options: what STARTUP said, keys in upper case (DRIVER_NAME, ...); empty before.
        compression: "lz4", "snappy" or "".
    """

    __slots__ = (
        "_authenticator", "_compress", "_decoder", "_decompress", "_outgoing", "_segmented", "_unframed",
        "_version_byte", "closing", "compression", "options", "outgoing_bytes", "state", "version",
    )  # fmt: skip

    def __init__(self, *, authenticator: str | None = None) -> None:
        """``authenticator``: class name to announce in AUTHENTICATE; None lets everybody in."""
        self.version = 0
        self.state = State.STARTING
        self.closing = False
        self.options: dict[str, str] = {}
        self.compression = ""
        self._authenticator = authenticator
        self._compress: Compress | None = None
        self._decompress: Decompress | None = None
        self._decoder = EnvelopeDecoder(self, UNAUTHENTICATED_MESSAGE_BYTES_MAX, stream_min=0)
        self._outgoing: list[bytes] = []
        self.outgoing_bytes = 0
        self._segmented = False
        self._unframed = b""
        self._version_byte = DIRECTION_RESPONSE | VERSION_MAX

    # --- What arrives ---

    def receive(self, data: bytes) -> list[Request]:
        """Take in bytes; returns the requests that they complete. Never raises: breaches are answered here."""
        return self._decoder.decode(data)

    @property
    def buffered_bytes(self) -> int:
        """Bytes received that don't yet make a message."""
        return self._decoder.buffered_bytes

    def authenticated(self) -> None:
        """The SASL exchange succeeded (the owner has sent AUTH_SUCCESS): requests are let through from now on."""
        self._move(Step.AUTHENTICATED)

    def close(self) -> None:
        """Receive nothing more."""
        self._move(Step.CLOSED)

    def on_header(self, version: int, flags: int, stream: int, opcode: int, length: int) -> bool:
        """The decoder's question; see ``envelopes.Owner``."""
        error = self._judge_header(version, stream, opcode, length)
        if error is None:
            return True
        self.send_error(stream, error)
        return False

    def on_envelope(self, version: int, flags: int, stream: int, opcode: int, body: bytes) -> Request | None:
        """The decoder's question; see ``envelopes.Owner``."""
        try:
            self._check_opcode(opcode)
            payload = None
            if flags & FLAG_COMPRESSED and self.version < 5:
                body = self._expand(body)
            if flags & FLAG_CUSTOM_PAYLOAD:
                if self.version < 4:
                    raise ProtocolError(
                        "Received frame with CUSTOM_PAYLOAD flag for native protocol version < 4"
                    )
                reader = Reader(body)
                payload = reader.bytes_map(CUSTOM_PAYLOAD_KEYS_MAX)
                body = body[reader.offset :]
            if opcode == OPTIONS:
                self.send(stream, SUPPORTED, _SUPPORTED_BODY)
                return None
            if opcode == STARTUP:
                self._start_up(stream, body)
                return None
            return stream, opcode, flags, body, payload
        except ProtocolError as error:
            self.send_error(stream, error)
            return None

    def on_broken(self, error: ProtocolError) -> None:
        """The decoder's news; see ``envelopes.Owner``."""
        self.send_error(0, error)

    def _judge_header(self, version: int, stream: int, opcode: int, length: int) -> RequestError | None:
        """What is wrong with a header; sets ``version`` when nothing is and the connection hasn't started."""
        number = version & ~DIRECTION_RESPONSE
        if self.state is State.STARTING:
            if number not in VERSIONS:
                self._adopt(number if number in (1, 2) else VERSION_MAX)
                supported = ", ".join(PROTOCOL_VERSIONS)
                return ProtocolError(
                    f"Invalid or unsupported protocol version ({number}); supported versions are ({supported})",
                    fatal=True,
                )
            self._adopt(number)
        elif number != self.version:
            return ProtocolError(
                f"Invalid message version. Got {number}/v{number} but previous messages on this connection had "
                f"version {self.version}/v{self.version}",
                fatal=True,
            )
        if version & DIRECTION_RESPONSE:
            name = OPCODE_NAMES.get(opcode, "unknown")
            return ProtocolError(
                f"Wrong protocol direction (expected REQUEST, got RESPONSE) for opcode {opcode} ({name})",
                fatal=True,
            )
        if length >= _LENGTH_NEGATIVE:
            negative = length - (_LENGTH_NEGATIVE << 1)
            return ProtocolError(
                f"Invalid value for envelope header body length field: {negative}", fatal=True
            )
        if length > self._decoder.body_bytes_max:
            message = (
                f"Request is too big: length {length} exceeds maximum allowed length "
                f"{self._decoder.body_bytes_max}."
            )
            if self.state is State.READY:
                return InvalidRequest(message)
            return ProtocolError(message, fatal=True)
        if stream < 0:
            return ProtocolError(f"Invalid stream id {stream}: those below 0 are the server's")
        return None

    def _check_opcode(self, opcode: int) -> None:
        if opcode in _DELIVERED[self.state] or opcode in _ANSWERED[self.state]:
            return
        name = OPCODE_NAMES.get(opcode)
        if name is None:
            raise ProtocolError(f"Unknown opcode {opcode}")
        if opcode not in REQUEST_OPCODES:
            raise ProtocolError(
                f"Wrong protocol direction (expected RESPONSE, got REQUEST) for opcode {opcode} ({name})"
            )
        if self.state is State.STARTING:
            raise ProtocolError(f"Unexpected message {name}, expecting STARTUP or OPTIONS")
        if self.state is State.AUTHENTICATING:
            raise ProtocolError(f"Unexpected message {name}, expecting SASL_RESPONSE")
        raise ProtocolError(f"Unexpected message {name}, the connection is already initialized")

    def _expand(self, body: bytes) -> bytes:
        if self._decompress is None:
            raise ProtocolError("A message is compressed, but STARTUP asked for no compression")
        return self._decompress(body, self._decoder.body_bytes_max)

    def _start_up(self, stream: int, body: bytes) -> None:
        read = Reader(body).string_map(STARTUP_KEYS_MAX)
        options = {key.upper(): value for key, value in read.items()}
        _check_cql_version(options.get("CQL_VERSION"))
        compression = options.get("COMPRESSION")
        if compression is not None:
            compression = compression.lower()
            if compression not in COMPRESSIONS:
                raise ProtocolError(f"Unknown compression algorithm: {compression}")
            if compression == "snappy" and self.version >= 5:
                raise ProtocolError("Snappy compression is not supported in protocol V5")
            self.compression = compression
            self._compress, self._decompress = COMPRESSIONS[compression]
        self.options = options
        if self._authenticator is None:
            self.send(stream, READY, b"")
            self._move(Step.ADMITTED)
        else:
            self.send(stream, AUTHENTICATE, encode_authenticate(self._authenticator))
            self._move(Step.CHALLENGED)
        if self.version >= 5:
            self._unframed = b"".join(self._outgoing)
            self._outgoing.clear()
            self._segmented = True
            self._compress = self._decompress = None
            self._decoder.begin_segments(bool(self.compression))

    def _adopt(self, version: int) -> None:
        self.version = version
        self._version_byte = DIRECTION_RESPONSE | version

    def _move(self, step: Step) -> None:
        """Follow ``TRANSITIONS``; a KeyError is a bug of the owner."""
        state = self.state = TRANSITIONS[self.state, step]
        decoder = self._decoder
        decoder.opcodes = _DELIVERED[state]
        if state is State.CLOSED:
            self.closing = True
            decoder.stop()
            return
        decoder.version_byte = self.version
        if state is State.READY:
            decoder.body_bytes_max = FRAME_BYTES_MAX

    # --- What leaves ---

    def send(self, stream: int, opcode: int, body: bytes, flags: int = 0) -> None:
        """Answer with any message. ``flags`` and the start of ``body`` may come from ``responses.response_prefix``."""
        if self._compress is not None and len(body) >= COMPRESS_BYTES_MIN:
            compressed = self._compress(body)
            if len(compressed) < len(body):
                body = compressed
                flags |= FLAG_COMPRESSED
        self.outgoing_bytes += len(body)
        self._outgoing.append(pack_header(self._version_byte, flags, stream, opcode, len(body)) + body)

    def send_result(self, stream: int, body: bytes) -> None:
        """Answer with a RESULT without prefix: the hot path."""
        if self._compress is not None and len(body) >= COMPRESS_BYTES_MIN:
            self.send(stream, RESULT, body)
            return
        self.outgoing_bytes += len(body)
        self._outgoing.append(pack_header(self._version_byte, 0, stream, RESULT, len(body)) + body)

    def send_void(self, stream: int) -> None:
        """Answer with a RESULT Void: the hot path of writes."""
        self._outgoing.append(_pack_void(self._version_byte, 0, stream, RESULT, 4, RESULT_VOID))

    def send_error(self, stream: int, error: RequestError, flags: int = 0, prefix: bytes = b"") -> None:
        """Answer with an ERROR; a fatal ``ProtocolError`` also sets ``closing``."""
        if 0 < self.version < VERSIONS[0]:
            body = encode_error(VERSIONS[0], error)
            header = _pack_legacy_header(self._version_byte, 0, stream >> 8, ERROR, len(body))
            self._outgoing.append(header + body)
        else:
            self.send(stream, ERROR, prefix + encode_error(self.version or VERSION_MAX, error), flags)
        if isinstance(error, ProtocolError) and error.fatal:
            self.close()

    def send_event(self, body: bytes) -> None:
        """Push an EVENT (stream -1)."""
        self.send(EVENT_STREAM, EVENT, body)

    def take_outgoing(self) -> bytes:
        """All that is to be written, packed as tightly as the protocol allows; b"" when there is nothing."""
        outgoing = self._outgoing
        if not outgoing:
            unframed, self._unframed = self._unframed, b""
            return unframed
        if self._segmented:
            data = encode_segments(outgoing, bool(self.compression))
            if self._unframed:
                data = self._unframed + data
                self._unframed = b""
        else:
            data = outgoing[0] if len(outgoing) == 1 else b"".join(outgoing)
        outgoing.clear()
        self.outgoing_bytes = 0
        return data


def _check_cql_version(asked: str | None) -> None:
    if asked is None:
        raise ProtocolError("Missing value CQL_VERSION in STARTUP message")
    major = asked.partition(".")[0]
    if not (major.isascii() and major.isdigit() and len(major) < 10):
        raise ProtocolError(f"Invalid version value: {asked[:64]}")
    if int(major) < 3:
        raise ProtocolError(
            f"CQL version {asked[:64]} is not supported by the binary protocol "
            "(supported version are >= 3.0.0)"
        )
