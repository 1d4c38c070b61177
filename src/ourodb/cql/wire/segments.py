"""Segments: the outer framing of protocol v5.

After the handshake of v5, envelopes (``frames``) travel in segments, each protected by two checksums::

    uncompressed   length (17 bits) | self-contained (1) | padding (6) | CRC24 (3 bytes)   payload   CRC32 (4 bytes)
    LZ4            length (17) | uncompressed length (17) | self-contained (1) | padding (5) | CRC24   payload   CRC32

All little-endian. A self-contained segment holds one or more whole envelopes. An envelope that is larger than a payload
spans segments that aren't self-contained and hold nothing else. With LZ4, an uncompressed length of 0 says that the
payload is stored as it is, because compressing didn't pay; otherwise it is an LZ4 block.

A CRC is linear over XOR, so the CRC24 of a header of fixed length is the XOR of one table entry for each byte of it:
three lookups, where the bitwise loop of the spec takes 24 steps.

A segment whose checksum is wrong leaves no way to tell which requests are lost, so the connection ends, as in
Cassandra. Both lengths have 17 bits, so a payload expands to at most 128 KiB, whatever its header claims.

Source: native_protocol_v5.spec, section 2; CASSANDRA-15299; org.apache.cassandra.net.Crc.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Final

import lz4.block

from ourodb.errors import ProtocolError
from ourodb.limits import SEGMENT_PAYLOAD_BYTES_MAX

CRC24_INITIAL: Final = 0x875060
CRC24_POLYNOMIAL: Final = 0x1974F0B
assert SEGMENT_PAYLOAD_BYTES_MAX == (1 << 17) - 1

CRC32_INITIAL: Final = zlib.crc32(b"\xfa\x2d\x55\xca")

_LENGTH_BITS: Final = 17
_LENGTH_MASK: Final = SEGMENT_PAYLOAD_BYTES_MAX
_SELF_CONTAINED_PLAIN: Final = 1 << _LENGTH_BITS
_SELF_CONTAINED_LZ4: Final = 1 << 2 * _LENGTH_BITS
_HEADER_PLAIN_BYTES: Final = 6
_HEADER_LZ4_BYTES: Final = 8
_TRAILER_BYTES: Final = 4
_COMPRESS_BYTES_MIN: Final = 64

_header_plain = struct.Struct("<IH").unpack_from
_header_lz4 = struct.Struct("<Q").unpack_from
_pack_header_lz4 = struct.Struct("<Q").pack
_crc32_of = struct.Struct("<I").unpack_from
_pack_crc32 = struct.Struct("<I").pack
_crc32 = zlib.crc32

Payload = tuple[bytes, bool]
"""(payload, uncompressed; whether it is self-contained)"""


def crc24(header: bytes) -> int:
    """CRC24 of a header, bit by bit as the spec has it; the tables are made of it.

    Koopman's polynomial 0x1974F0B, which detects up to five flipped bits in headers this short.
    """
    crc = CRC24_INITIAL
    for byte in header:
        crc ^= byte << 16
        for _ in range(8):
            crc <<= 1
            if crc & 0x1000000:
                crc ^= CRC24_POLYNOMIAL
    return crc


def _crc24_tables(header_bytes: int) -> tuple[tuple[int, ...], ...]:
    """For each byte of the header, what each of its values adds; the first also adds that of an all-zero header."""
    zero = crc24(bytes(header_bytes))
    tables = []
    for position in range(header_bytes):
        table = [zero if position == 0 else 0]
        for bit in range(8):
            single = bytearray(header_bytes)
            single[position] = 1 << bit
            change = crc24(bytes(single)) ^ zero
            table += [entry ^ change for entry in table]
        tables.append(tuple(table))
    return tuple(tables)


_P0, _P1, _P2 = _crc24_tables(3)
_Z0, _Z1, _Z2, _Z3, _Z4 = _crc24_tables(5)


class SegmentDecoder:
    """Bytes in, payloads out.

    Attributes:
        error: what was wrong with the segment after the last payload given out; nothing is decoded after it.
    """

    __slots__ = ("_compressed", "_needed", "_partial", "error")

    def __init__(self, compressed: bool) -> None:
        self.error: ProtocolError | None = None
        self._compressed = compressed
        self._partial = bytearray()
        self._needed = 0

    @property
    def buffered_bytes(self) -> int:
        return len(self._partial)

    def decode(self, data: bytes) -> list[Payload]:
        """The payloads that ``data`` completes; sets ``error`` when what follows them is broken."""
        partial = self._partial
        if partial:
            partial += data
            if len(partial) < self._needed:
                return []
            data = bytes(partial)
            partial.clear()
        if self.error is not None:
            return []
        return self._decode_lz4(data) if self._compressed else self._decode_plain(data)

    def _decode_plain(self, data: bytes) -> list[Payload]:
        payloads: list[Payload] = []
        offset = 0
        size = len(data)
        needed = _HEADER_PLAIN_BYTES
        while offset + _HEADER_PLAIN_BYTES <= size:
            low, high = _header_plain(data, offset)
            crc = _P0[low & 0xFF] ^ _P1[low >> 8 & 0xFF] ^ _P2[low >> 16 & 0xFF]
            if crc != low >> 24 | high << 8:
                self.error = _crc_mismatch("header", low >> 24 | high << 8, crc)
                return payloads
            length = low & _LENGTH_MASK
            start = offset + _HEADER_PLAIN_BYTES
            end = start + length
            if end + _TRAILER_BYTES > size:
                needed = end + _TRAILER_BYTES - offset
                break
            payload = data[start:end]
            crc = _crc32(payload, CRC32_INITIAL)
            (expected,) = _crc32_of(data, end)
            if crc != expected:
                self.error = _crc_mismatch("body", expected, crc)
                return payloads
            payloads.append((payload, low & _SELF_CONTAINED_PLAIN != 0))
            offset = end + _TRAILER_BYTES
        self._keep(data, offset, needed)
        return payloads

    def _decode_lz4(self, data: bytes) -> list[Payload]:
        payloads: list[Payload] = []
        offset = 0
        size = len(data)
        needed = _HEADER_LZ4_BYTES
        while offset + _HEADER_LZ4_BYTES <= size:
            (header,) = _header_lz4(data, offset)
            crc = (
                _Z0[header & 0xFF]
                ^ _Z1[header >> 8 & 0xFF]
                ^ _Z2[header >> 16 & 0xFF]
                ^ _Z3[header >> 24 & 0xFF]
                ^ _Z4[header >> 32 & 0xFF]
            )
            if crc != header >> 40:
                self.error = _crc_mismatch("header", header >> 40, crc)
                return payloads
            length = header & _LENGTH_MASK
            uncompressed = header >> _LENGTH_BITS & _LENGTH_MASK
            start = offset + _HEADER_LZ4_BYTES
            end = start + length
            if end + _TRAILER_BYTES > size:
                needed = end + _TRAILER_BYTES - offset
                break
            payload = data[start:end]
            crc = _crc32(payload, CRC32_INITIAL)
            (expected,) = _crc32_of(data, end)
            if crc != expected:
                self.error = _crc_mismatch("body", expected, crc)
                return payloads
            if uncompressed:
                try:
                    payload = lz4.block.decompress(payload, uncompressed_size=uncompressed)
                except (lz4.block.LZ4BlockError, ValueError):
                    payload = b""
                if len(payload) != uncompressed:
                    self.error = ProtocolError("The payload of a segment can't be decompressed", fatal=True)
                    return payloads
            payloads.append((payload, header & _SELF_CONTAINED_LZ4 != 0))
            offset = end + _TRAILER_BYTES
        self._keep(data, offset, needed)
        return payloads

    def _keep(self, data: bytes, offset: int, needed: int) -> None:
        if offset < len(data):
            self._partial += data[offset:] if offset else data
            self._needed = needed


def _crc_mismatch(where: str, read: int, computed: int) -> ProtocolError:
    return ProtocolError(
        f"Invalid, unrecoverable CRC mismatch detected in segment {where}. Read {read}, Computed {computed}",
        fatal=True,
    )


def encode_segment(payload: bytes, self_contained: bool, compressed: bool) -> tuple[bytes, bytes, bytes]:
    """Header, payload and trailer of one segment; ``payload`` is at most ``SEGMENT_PAYLOAD_BYTES_MAX``."""
    length = len(payload)
    if compressed:
        uncompressed = 0
        if length >= _COMPRESS_BYTES_MIN:
            block = lz4.block.compress(payload, store_size=False)
            if len(block) < length:
                payload, uncompressed, length = block, length, len(block)
        bits = length | uncompressed << _LENGTH_BITS
        if self_contained:
            bits |= _SELF_CONTAINED_LZ4
        crc = (
            _Z0[bits & 0xFF]
            ^ _Z1[bits >> 8 & 0xFF]
            ^ _Z2[bits >> 16 & 0xFF]
            ^ _Z3[bits >> 24 & 0xFF]
            ^ _Z4[bits >> 32]
        )
        header = _pack_header_lz4(bits | crc << 40)
    else:
        bits = length
        if self_contained:
            bits |= _SELF_CONTAINED_PLAIN
        crc = _P0[bits & 0xFF] ^ _P1[bits >> 8 & 0xFF] ^ _P2[bits >> 16]
        header = (bits | crc << 24).to_bytes(6, "little")
    return header, payload, _pack_crc32(_crc32(payload, CRC32_INITIAL))


def encode_segments(envelopes: Sequence[bytes], compressed: bool) -> bytes:
    """All ``envelopes``, in order, in as few segments as their order allows."""
    parts: list[bytes] = []
    total = sum(map(len, envelopes))
    if total <= SEGMENT_PAYLOAD_BYTES_MAX:
        return b"".join(encode_segment(b"".join(envelopes), True, compressed))
    batch: list[bytes] = []
    batch_bytes = 0
    for envelope in envelopes:
        size = len(envelope)
        if batch_bytes + size > SEGMENT_PAYLOAD_BYTES_MAX and batch:
            parts += encode_segment(b"".join(batch), True, compressed)
            batch, batch_bytes = [], 0
        if size <= SEGMENT_PAYLOAD_BYTES_MAX:
            batch.append(envelope)
            batch_bytes += size
        else:
            for start in range(0, size, SEGMENT_PAYLOAD_BYTES_MAX):
                piece = envelope[start : start + SEGMENT_PAYLOAD_BYTES_MAX]
                parts += encode_segment(piece, False, compressed)
    if batch:
        parts += encode_segment(b"".join(batch), True, compressed)
    return b"".join(parts)
