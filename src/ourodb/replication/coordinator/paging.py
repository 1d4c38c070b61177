"""Paging states: where a read stopped, in a form that only this cluster can make.

A state is for the client to keep and hand back, so it is sealed: a keyed hash covers all of it, the hash of
the statement is in it, and whatever doesn't fit is refused before anything of it is used. It says after which
row to go on, and what is left of the limits; never how the page was made, so that a page of another size may
follow.

    u8 version = 1 | 8 bytes statement | i32 rows left | i32 rows left in the partition | u8 flags
    u32 length, position | [u32 length, clustering key] | 16 bytes keyed BLAKE2s of all before
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from typing import Final, NamedTuple

from ourodb import limits
from ourodb.errors import ProtocolError

VERSION: Final = 1
_TAG_BYTES: Final = 16
_HAS_CLUSTERING: Final = 0x01
_PARTITION_DONE: Final = 0x02
_HEAD = struct.Struct(">B8siiB")
_LENGTH = struct.Struct(">I")

INVALID: Final = "Invalid value for the paging state"


class PagingState(NamedTuple):
    """Where to go on.

    Attributes:
        position: of the partition of the last row given.
        clustering_key: of that row; None when it was the row of a partition that has only a static row.
        partition_done: nothing more is wanted of that partition.
        remaining: result rows that LIMIT still allows.
        remaining_in_partition: as PER PARTITION LIMIT does, in that partition.
    """

    position: bytes
    clustering_key: bytes | None
    partition_done: bool
    remaining: int
    remaining_in_partition: int


class PagingSeal:
    """Seals and opens paging states with one node's or cluster's key."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        """
        Args:
            key: secret; up to 32 bytes.
        """
        self._key = key

    def _tag(self, body: bytes) -> bytes:
        return hashlib.blake2s(body, key=self._key, digest_size=_TAG_BYTES).digest()

    def seal(self, state: PagingState, statement: bytes) -> bytes:
        """
        Args:
            statement: ``SelectPlan.hash``.
        """
        clustering = state.clustering_key
        flags = (_HAS_CLUSTERING if clustering is not None else 0) | (
            _PARTITION_DONE if state.partition_done else 0
        )
        body = b"".join(
            (
                _HEAD.pack(VERSION, statement, state.remaining, state.remaining_in_partition, flags),
                _LENGTH.pack(len(state.position)),
                state.position,
                b"" if clustering is None else _LENGTH.pack(len(clustering)) + clustering,
            )
        )
        return body + self._tag(body)

    def open(self, sealed: bytes, statement: bytes) -> PagingState:
        """
        Raises:
            ProtocolError: it wasn't sealed with this key, or is of another statement.
        """
        if not _HEAD.size + _TAG_BYTES <= len(sealed) <= limits.PAGING_STATE_BYTES_MAX:
            raise ProtocolError(INVALID)
        body = sealed[:-_TAG_BYTES]
        if not hmac.compare_digest(self._tag(body), sealed[-_TAG_BYTES:]):
            raise ProtocolError(INVALID)
        version, of_statement, remaining, remaining_in_partition, flags = _HEAD.unpack_from(body)
        if version != VERSION or of_statement != statement:
            raise ProtocolError(INVALID)
        offset = _HEAD.size
        position, offset = _take(body, offset)
        clustering = None
        if flags & _HAS_CLUSTERING:
            clustering, offset = _take(body, offset)
        return PagingState(
            position, clustering, bool(flags & _PARTITION_DONE), remaining, remaining_in_partition
        )


def _take(body: bytes, offset: int) -> tuple[bytes, int]:
    start = offset + _LENGTH.size
    end = start + int(_LENGTH.unpack_from(body, offset)[0])
    return body[start:end], end
