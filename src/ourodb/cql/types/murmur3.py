"""Tokens of Cassandra's Murmur3Partitioner.

The token of a partition key is the first half of MurmurHash3 x64 128 with seed 0, as a signed 64-bit number, with two
particularities. Cassandra sign-extends the bytes of the tail (the last ``length % 16`` bytes) before it mixes them,
so that keys with a byte above 0x7F there hash otherwise than everywhere else. And the least number is no token (it
means "before the first token"), so a key that hashes to it gets the greatest.

The C library does all keys whose tail is plain; the short tails of int keys, and the rest, are done here.

Source: Cassandra's ``MurmurHash.hash3_x64_128`` and ``Murmur3Partitioner``; Austin Appleby's MurmurHash3.
"""

from __future__ import annotations

import struct
from typing import Final

from mmh3 import hash64

TOKEN_MIN: Final = -(2**63)
"""No key has this token; it stands before all of them."""

TOKEN_MAX: Final = 2**63 - 1

_MASK: Final = 0xFFFF_FFFF_FFFF_FFFF
_C1: Final = 0x87C3_7B91_1142_53D5
_C2: Final = 0x4CF5_AD43_2745_937F
_FMIX1: Final = 0xFF51_AFD7_ED55_8CCD
_FMIX2: Final = 0xC4CE_B9FE_1A85_EC53

_LOW_BITS: Final = 0x0101_0101_0101_0101
_SUM_BELOW: Final = 0x0101_0101_0101_0100

_unpack_block = struct.Struct("<QQ").unpack_from


def token(partition_key: bytes) -> int:
    """The signed 64-bit token of a serialized partition key, ``TOKEN_MIN`` for the empty one."""
    tail_length = len(partition_key) & 15
    if not tail_length or partition_key[-tail_length:].isascii():
        if not partition_key:
            return TOKEN_MIN
        h1 = hash64(partition_key)[0]
        return h1 if h1 != TOKEN_MIN else TOKEN_MAX
    if tail_length == 8:
        # Sign extension changes these eight bytes, and nothing else, so the C library can hash the changed ones.
        h1 = hash64(partition_key[:-8] + _sign_extended(partition_key[-8:]).to_bytes(8, "little"))[0]
        return h1 if h1 != TOKEN_MIN else TOKEN_MAX
    return _token_of_signed_tail(partition_key, tail_length)


def _sign_extended(tail: bytes) -> int:
    """At most eight bytes of tail, little-endian, each sign-extended to 64 bits before they are XORed together."""
    k = int.from_bytes(tail, "little")
    # A byte comes out inverted when an odd number of the bytes below it are negative. The multiplication counts them.
    negative = (k >> 7) & _LOW_BITS
    return k ^ ((negative * _SUM_BELOW) & _LOW_BITS) * 0xFF


def _token_of_signed_tail(key: bytes, tail_length: int) -> int:
    """The token of a key that has bytes above 0x7F among its last ``tail_length`` ones."""
    length = len(key)
    h1 = h2 = 0
    body_length = length - tail_length
    for offset in range(0, body_length, 16):
        k1, k2 = _unpack_block(key, offset)
        k1 = k1 * _C1 & _MASK
        h1 ^= ((k1 << 31 | k1 >> 33) & _MASK) * _C2 & _MASK
        h1 = (h1 << 27 | h1 >> 37) + h2 & _MASK
        h1 = h1 * 5 + 0x52DC_E729 & _MASK
        k2 = k2 * _C2 & _MASK
        h2 ^= ((k2 << 33 | k2 >> 31) & _MASK) * _C1 & _MASK
        h2 = (h2 << 31 | h2 >> 33) + h1 & _MASK
        h2 = h2 * 5 + 0x3849_5AB5 & _MASK
    if tail_length > 8:
        k2 = _sign_extended(key[body_length + 8 :]) * _C2 & _MASK
        h2 ^= ((k2 << 33 | k2 >> 31) & _MASK) * _C1 & _MASK
    k1 = _sign_extended(key[body_length : body_length + 8]) * _C1 & _MASK
    h1 ^= ((k1 << 31 | k1 >> 33) & _MASK) * _C2 & _MASK
    h1 = (h1 ^ length) + (h2 ^ length) & _MASK
    h2 = h1 + (h2 ^ length) & _MASK
    h1 = (h1 ^ h1 >> 33) * _FMIX1 & _MASK
    h1 = (h1 ^ h1 >> 33) * _FMIX2 & _MASK
    h2 = (h2 ^ h2 >> 33) * _FMIX1 & _MASK
    h2 = (h2 ^ h2 >> 33) * _FMIX2 & _MASK
    h1 = (h1 ^ h1 >> 33) + (h2 ^ h2 >> 33) & _MASK
    if h1 > TOKEN_MAX:
        h1 -= 1 << 64
        if h1 == TOKEN_MIN:
            return TOKEN_MAX
    return h1
