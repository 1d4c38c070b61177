"""From a stream of bytes to envelopes, for both ends of a connection and for all versions.

``EnvelopeDecoder`` walks over what arrived with one offset, and copies nothing but the bodies. An envelope that is what
its owner expects (version, opcode, no flags, size) becomes a tuple right in the loop. Everything else is put to the
owner, who knows the state of the connection: first the header, as soon as it is there, then the whole envelope.

In v3 and v4 the bytes are envelopes. In v5 they become segments after the handshake (``begin_segments``, which may
happen in the middle of a chunk): a self-contained segment is walked over like a chunk that must end with an envelope;
the pieces of a large envelope are gathered first.

Whatever the order in which bytes arrive, memory is bounded: by one body of ``body_bytes_max``, or one segment.
"""

from __future__ import annotations

from typing import Protocol

from ourodb.cql.wire.frames import HEADER_BYTES, unpack_header
from ourodb.cql.wire.segments import SegmentDecoder
from ourodb.errors import ProtocolError
from ourodb.limits import SEGMENT_PAYLOAD_BYTES_MAX

Envelope = tuple[int, int, int, bytes, dict[str, bytes | None] | None]
"""(stream, opcode, header flags, body, custom payload or None)"""

VERSION_OPEN = -1
"""As ``EnvelopeDecoder.version_byte``: every header is put to the owner."""

_LEGACY_VERSIONS = (1, 2)
_LEGACY_HEADER_BYTES = 8


class Owner(Protocol):
    """Who judges what the decoder doesn't expect. Any method may call ``stop``, or change what is expected."""

    def on_header(self, version: int, flags: int, stream: int, opcode: int, length: int) -> bool:
        """A header whose version, length or stream isn't expected: whether to take the envelope all the same.

        When not, its body is skipped, unless the decoder was stopped.
        """
        ...

    def on_envelope(self, version: int, flags: int, stream: int, opcode: int, body: bytes) -> Envelope | None:
        """An envelope with flags, or with an opcode that isn't expected: what to deliver for it."""
        ...

    def on_broken(self, error: ProtocolError) -> None:
        """The stream can't be followed any more; the decoder has stopped."""
        ...


class EnvelopeDecoder:
    """Bytes in, envelopes out.

    Attributes:
        version_byte: the first byte of an expected header, or ``VERSION_OPEN``.
        opcodes: those that are delivered without asking the owner.
        body_bytes_max: bound of an expected body.
        stream_min: the lowest stream that may occur; those below 0 are put to the owner as whole envelopes.
        stopped: nothing more is decoded.
    """

    __slots__ = (
        "_large", "_large_bytes", "_large_seen", "_needed", "_owner", "_partial", "_segments", "_skip",
        "body_bytes_max", "opcodes", "stopped", "stream_min", "version_byte",
    )  # fmt: skip

    def __init__(self, owner: Owner, body_bytes_max: int, stream_min: int) -> None:
        self.version_byte = VERSION_OPEN
        self.opcodes: frozenset[int] = frozenset()
        self.body_bytes_max = body_bytes_max
        self.stream_min = stream_min
        self.stopped = False
        self._owner: Owner | None = owner
        self._segments: SegmentDecoder | None = None
        self._partial = bytearray()
        self._needed = 0
        self._skip = 0
        self._large = bytearray()
        self._large_bytes = 0
        self._large_seen = 0

    @property
    def buffered_bytes(self) -> int:
        """Bytes received that don't yet make an envelope."""
        segments = 0 if self._segments is None else self._segments.buffered_bytes
        return len(self._partial) + len(self._large) + segments

    def begin_segments(self, compressed: bool) -> None:
        """From the next byte on, the stream is segments."""
        self._segments = SegmentDecoder(compressed)

    def stop(self) -> None:
        """Decode nothing more, forget what is buffered and the owner."""
        self.stopped = True
        self._owner = None
        self._partial = bytearray()
        self._large = bytearray()

    def decode(self, data: bytes) -> list[Envelope]:
        """The envelopes that ``data`` completes."""
        envelopes: list[Envelope] = []
        if self.stopped:
            return envelopes
        if self._segments is None:
            partial = self._partial
            if partial:
                partial += data
                if len(partial) < self._needed:
                    return envelopes
                data = bytes(partial)
                partial.clear()
            elif self._skip:
                skipped = min(self._skip, len(data))
                self._skip -= skipped
                data = data[skipped:]
            offset = self._walk(data, envelopes)
            if self.stopped:
                return envelopes
            if self._segments is None:
                if offset < len(data):
                    self._partial += data[offset:] if offset else data
                return envelopes
            data = data[offset:]
        segments = self._segments
        for payload, self_contained in segments.decode(data):
            if not self_contained:
                self._gather(payload, envelopes)
            elif self._large_seen:
                self._break("A self-contained segment interrupts a message that spans segments")
            elif self._walk(payload, envelopes) != len(payload) or self._skip:
                if not self.stopped:
                    self._break("A self-contained segment ends in the middle of a message")
            if self.stopped:
                return envelopes
        if segments.error is not None:
            self._fail(segments.error)
        return envelopes

    def _walk(self, data: bytes, envelopes: list[Envelope]) -> int:
        """Deliver the envelopes in ``data``; returns where the first incomplete one starts."""
        append = envelopes.append
        version_byte, opcodes, body_bytes_max = self.version_byte, self.opcodes, self.body_bytes_max
        segments = self._segments
        offset = 0
        size = len(data)
        length: int
        while True:
            start = offset + HEADER_BYTES
            if start > size:
                self._needed = HEADER_BYTES
                if version_byte == VERSION_OPEN and size - offset == _LEGACY_HEADER_BYTES:
                    self._judge_legacy(data, offset)
                return offset
            version, flags, stream, opcode, length = unpack_header(data, offset)
            end = start + length
            if (
                version == version_byte
                and opcode in opcodes
                and not flags
                and stream >= 0
                and length <= body_bytes_max
            ):
                if end > size:
                    self._needed = HEADER_BYTES + length
                    return offset
                append((stream, opcode, 0, data[start:end], None))
                offset = end
                continue
            owner = self._owner
            assert owner is not None
            if version != version_byte or length > body_bytes_max or stream < self.stream_min:
                if not owner.on_header(version, flags, stream, opcode, length):
                    if self.stopped:
                        return offset
                    self._skip = max(end - size, 0)
                    offset = min(end, size)
                    continue
            if end > size:
                self._needed = HEADER_BYTES + length
                return offset
            envelope = owner.on_envelope(version, flags, stream, opcode, data[start:end])
            if envelope is not None:
                append(envelope)
            if self.stopped or self._segments is not segments:
                return end
            version_byte, opcodes, body_bytes_max = self.version_byte, self.opcodes, self.body_bytes_max
            offset = end

    def _judge_legacy(self, data: bytes, offset: int) -> None:
        """v1 and v2 had headers of 8 bytes; a message without a body would be waited for in vain."""
        version, flags, stream, opcode, length = unpack_header(data[offset:] + b"\0")
        if version in _LEGACY_VERSIONS and self._owner is not None:
            self._owner.on_header(version, flags, stream, opcode, length)

    def _gather(self, payload: bytes, envelopes: list[Envelope]) -> None:
        """Take in one piece of an envelope that spans segments."""
        self._large_seen += len(payload)
        if self._large_bytes == 0:
            self._large += payload
            if self._large_seen < HEADER_BYTES:
                return
            version, flags, stream, opcode, length = unpack_header(self._large)
            if version != self.version_byte or length > self.body_bytes_max or stream < self.stream_min:
                owner = self._owner
                assert owner is not None
                if not owner.on_header(version, flags, stream, opcode, length):
                    if self.stopped:
                        return
                    self._large.clear()
            self._large_bytes = HEADER_BYTES + length
        elif self._large:
            self._large += payload
        if self._large_seen < self._large_bytes:
            return
        if self._large_seen > self._large_bytes:
            self._break("A message that spans segments is followed by another in its last segment")
            return
        whole = bytes(self._large)
        self._large = bytearray()
        self._large_bytes = self._large_seen = 0
        if whole:
            self._walk(whole, envelopes)

    def _break(self, message: str) -> None:
        self._fail(ProtocolError(message, fatal=True))

    def _fail(self, error: ProtocolError) -> None:
        owner = self._owner
        self.stop()
        if owner is not None:
            owner.on_broken(error)


assert HEADER_BYTES < SEGMENT_PAYLOAD_BYTES_MAX
