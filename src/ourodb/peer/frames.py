"""Frames: all messages that one pass of the loop sends to a peer on one lane, under one checksum.

    u32 body length | u32 expanded length | u32 CRC of these two | u32 CRC of the body | body

All little-endian. The body is (u32 length, message)*, at least one. An expanded length other than 0 says that the body
is an LZ4 block which expands to so many bytes; compressing is tried on frames that are large enough for their lane, and
kept where it saves an eighth.

Both checksums are CRC-32, and each continues the one before it: that of the body goes on from that of its header,
that of a header from the last body's, and the first from a value that both ends drew from their handshake. So a frame
that is damaged, lost, repeated, swapped with another or taken from another connection is noticed. That guards against
broken networks; against an enemy on the wire there is TLS.

Lengths are believed only after their checksum, a body is expanded only when it claims no more than its lane allows and
than LZ4 can make of its bytes. One message may be larger than a frame should be; its frame is then just as large.

This is the data plane: what it costs is one join and one checksum for a frame, a tenth of a microsecond for a message.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Final

import lz4.block

from ourodb.limits import PEER_COMPRESS_BYTES_MIN, PEER_FRAME_BYTES, PEER_MESSAGE_BYTES_MAX
from ourodb.peer.faults import BrokenBytes

HEADER_BYTES: Final = 16
LENGTH_BYTES: Final = 4

_EXPANSION_MAX: Final = 255
"""LZ4 can't make more than this of one byte."""
_SAVED_MIN: Final = 8
"""A compressed body is kept when it is at least the eighth part smaller."""

_pack_header = struct.Struct("<IIII").pack
_header = struct.Struct("<IIII").unpack_from
_pack_lengths = struct.Struct("<II").pack
_pack_length = struct.Struct("<I").pack
_length = struct.Struct("<I").unpack_from
_crc32 = zlib.crc32


class FrameEncoder:
    """Messages in, bytes out."""

    __slots__ = ("_chain", "_compress_bytes_min")

    def __init__(self, lane: int, chain: int) -> None:
        """``chain``: the checksum to go on from; the other end's ``FrameDecoder`` has the same."""
        self._chain = chain
        self._compress_bytes_min = PEER_COMPRESS_BYTES_MIN[lane]

    def encode(self, messages: Sequence[bytes]) -> bytes:
        """One frame of at least one message; none may be larger than ``PEER_MESSAGE_BYTES_MAX`` allows on this lane."""
        parts: list[bytes] = []
        append = parts.append
        for message in messages:
            append(_pack_length(len(message)))
            append(message)
        body = b"".join(parts)
        expanded = 0
        if len(body) >= self._compress_bytes_min:
            block = lz4.block.compress(body, store_size=False)
            if len(block) <= len(body) - len(body) // _SAVED_MIN:
                expanded = len(body)
                body = block
        length = len(body)
        header_crc = _crc32(_pack_lengths(length, expanded), self._chain)
        self._chain = body_crc = _crc32(body, header_crc)
        return _pack_header(length, expanded, header_crc, body_crc) + body


def frame_end(messages: Sequence[bytes], start: int) -> int:
    """Where the frame ends that begins with ``messages[start]``, so that it isn't larger than it should be."""
    room = PEER_FRAME_BYTES
    for index in range(start, len(messages)):
        room -= LENGTH_BYTES + len(messages[index])
        if room < 0:
            return max(index, start + 1)
    return len(messages)


class FrameDecoder:
    """Bytes in, messages out.

    Attributes:
        error: what was wrong with the frame after the last message given out; nothing is decoded after it.
    """

    __slots__ = ("_body_bytes_max", "_chain", "_needed", "_partial", "error")

    def __init__(self, lane: int, chain: int) -> None:
        """``chain``: the checksum to go on from; the other end's ``FrameEncoder`` has the same."""
        self.error: BrokenBytes | None = None
        self._chain = chain
        self._body_bytes_max = max(PEER_MESSAGE_BYTES_MAX[lane] + LENGTH_BYTES, PEER_FRAME_BYTES)
        self._partial = bytearray()
        self._needed = 0

    @property
    def buffered_bytes(self) -> int:
        """Bytes received that don't yet make a frame."""
        return len(self._partial)

    def decode(self, data: bytes | memoryview) -> list[bytes]:
        """The messages that ``data`` completes; sets ``error`` when what follows them is broken."""
        messages: list[bytes] = []
        if self.error is not None:
            return messages
        partial = self._partial
        if partial:
            partial += data
            if len(partial) < self._needed:
                return messages
            data = memoryview(partial)
            self._partial = bytearray()
        offset = 0
        size = len(data)
        needed = HEADER_BYTES
        while offset + HEADER_BYTES <= size:
            length, expanded, header_crc, body_crc = _header(data, offset)
            if _crc32(data[offset : offset + 8], self._chain) != header_crc:
                return self._break(messages, "the checksum of a frame's header is wrong")
            limit = self._body_bytes_max
            if length > limit or expanded > limit or expanded > length * _EXPANSION_MAX:
                return self._break(messages, f"a frame of {length} bytes, {expanded} expanded, is too large")
            start = offset + HEADER_BYTES
            end = start + length
            if end > size:
                needed = HEADER_BYTES + length
                break
            body = data[start:end]
            if _crc32(body, header_crc) != body_crc:
                return self._break(messages, "the checksum of a frame's body is wrong")
            if expanded:
                try:
                    body = lz4.block.decompress(body, uncompressed_size=expanded)
                except lz4.block.LZ4BlockError:
                    return self._break(messages, "a frame's body doesn't expand")
                if len(body) != expanded:
                    return self._break(messages, "a frame's body doesn't expand to what it claims")
            if not _split(bytes(body), messages):
                return self._break(messages, "a frame's messages don't fill it")
            self._chain = body_crc
            offset = end
        if offset < size:
            self._partial += data[offset:] if offset else data
            self._needed = needed
        return messages

    def _break(self, messages: list[bytes], reason: str) -> list[bytes]:
        self.error = BrokenBytes(reason)
        self._partial = bytearray()
        return messages


def _split(body: bytes, messages: list[bytes]) -> bool:
    """Append the messages of a body; none of them, and False, when they don't fill it exactly."""
    before = len(messages)
    append = messages.append
    offset = 0
    size = len(body)
    last = size - LENGTH_BYTES
    while offset <= last:
        start = offset + LENGTH_BYTES
        offset = start + _length(body, offset)[0]
        append(body[start:offset])
    if offset == size and size:
        return True
    del messages[before:]
    return False
