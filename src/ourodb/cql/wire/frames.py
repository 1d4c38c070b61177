"""Envelopes: the 9-byte header that every message has, and the compressed bodies of v3 and v4.

::

    version (1, with the bit of direction) | flags (1) | stream (2) | opcode (1) | length of the body (4)   body

In v3 and v4 a body may be compressed, when its header's flag says so, by the algorithm that STARTUP named: LZ4 (the
uncompressed length as a big-endian [int], then a block) or Snappy. In v5 the segments are compressed instead. What a
compressed body claims to expand to is checked before anything is allocated for it.

Source: native_protocol_v4.spec, sections 2 and 5.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

import cramjam
import lz4.block

from ourodb.errors import ProtocolError

HEADER_BYTES: Final = 9

unpack_header: Final = struct.Struct(">BBhBI").unpack_from
"""(version, flags, stream, opcode, length): a length below zero reads as one above 2**31."""

pack_header: Final = struct.Struct(">BBhBI").pack

_length = struct.Struct(">I").unpack_from
_pack_length = struct.Struct(">I").pack

_LZ4_RATIO_MAX: Final = 255
"""An LZ4 block grows at most this many times, so a greater claim is false."""

_SNAPPY_RATIO_MAX: Final = 64
"""The same for Snappy, whose elements give at most 64 bytes each."""


def compress_lz4(body: bytes) -> bytes:
    block: bytes = lz4.block.compress(body, store_size=False)
    return _pack_length(len(body)) + block


def decompress_lz4(body: bytes, bytes_max: int) -> bytes:
    """Raises ProtocolError for what isn't an LZ4 body of at most ``bytes_max``."""
    if not body:
        return b""
    if len(body) < 4:
        raise _undecompressable()
    (claimed,) = _length(body)
    if claimed > bytes_max:
        raise _too_large(claimed, bytes_max)
    if claimed > len(body) * _LZ4_RATIO_MAX:
        raise _undecompressable()
    if claimed == 0:
        return b""
    try:
        expanded: bytes = lz4.block.decompress(memoryview(body)[4:], uncompressed_size=claimed)
    except (lz4.block.LZ4BlockError, ValueError):
        raise _undecompressable() from None
    if len(expanded) != claimed:
        raise _undecompressable()
    return expanded


def compress_snappy(body: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(body))


def decompress_snappy(body: bytes, bytes_max: int) -> bytes:
    """Raises ProtocolError for what isn't a Snappy body of at most ``bytes_max``."""
    if not body:
        return b""
    try:
        claimed = cramjam.snappy.decompress_raw_len(body)
        if claimed > bytes_max:
            raise _too_large(claimed, bytes_max)
        if claimed > len(body) * _SNAPPY_RATIO_MAX:
            raise _undecompressable()
        return bytes(cramjam.snappy.decompress_raw(body))
    except cramjam.DecompressionError:
        raise _undecompressable() from None


Compress = Callable[[bytes], bytes]
Decompress = Callable[[bytes, int], bytes]

COMPRESSIONS: Final[dict[str, tuple[Compress, Decompress]]] = {
    "lz4": (compress_lz4, decompress_lz4),
    "snappy": (compress_snappy, decompress_snappy),
}
"""Name in STARTUP to the functions for a v3 or v4 body."""


def _undecompressable() -> ProtocolError:
    return ProtocolError("The body of a message can't be decompressed")


def _too_large(length: int, bytes_max: int) -> ProtocolError:
    return ProtocolError(f"Request is too big: length {length} exceeds maximum allowed length {bytes_max}.")
