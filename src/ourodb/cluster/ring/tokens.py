"""Tokens, the ranges between them, and where both lie among positions.

Tokens are signed 64-bit numbers on a circle: after the greatest comes the least. A *token range* ``(start, end]``
holds the tokens after ``start`` up to and including ``end``; where ``start >= end`` it wraps around, and one that
begins and ends at the same token is the whole circle. The range that ends at a token belongs to the token's node.

Data has *positions*: opaque bytes whose first eight are the token, sign bit flipped, big-endian, so that bytes
compare as tokens do; the rest tells apart the partitions that share a token. So the place after all partitions of a
token is eight bytes: the token plus one. The greatest token has no such bound, since nothing comes after it; there
``None`` stands for the end of all positions, and ``b""`` is the beginning. A token range is one slice ``[start
bound, end bound)`` of positions, or two when it wraps.

Source: Karger et al. 1997, "Consistent Hashing and Random Trees"; Cassandra's ``Murmur3Partitioner``.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from ourodb.cql.types.murmur3 import TOKEN_MAX, TOKEN_MIN

TOKENS: Final = 1 << 64
"""How many tokens there are."""

FIRST_BOUND: Final = b""
"""Before all positions."""

PositionRange = tuple[bytes, bytes | None]
"""[start, end) of positions; an end of None is the end of all."""

_BOUND = struct.Struct(">Q")


def bound_of(token: int) -> bytes | None:
    """The first bound after every partition of this token; None for the greatest token, after which nothing comes."""
    return None if token == TOKEN_MAX else _BOUND.pack(token + 1 - TOKEN_MIN)


def token_of(position: bytes) -> int:
    """The token that a position begins with."""
    shifted: int = _BOUND.unpack_from(position)[0]
    return shifted + TOKEN_MIN


def tokens_between(start: int, end: int) -> int:
    """How many tokens are in ``(start, end]``: 1 to ``TOKENS``."""
    return (end - start) % TOKENS or TOKENS


def wrapped(token: int) -> int:
    """A sum or difference of tokens, brought back on the circle."""
    return (token - TOKEN_MIN) % TOKENS + TOKEN_MIN


def positions_of(start: int, end: int) -> Sequence[PositionRange]:
    """The token range ``(start, end]`` as slices of positions, in position order: one, or two when it wraps around."""
    after_start, after_end = bound_of(start), bound_of(end)
    if start < end:
        assert after_start is not None
        return ((after_start, after_end),)
    if after_start is None:
        return ((FIRST_BOUND, after_end),)
    return ((FIRST_BOUND, after_end), (after_start, None))
