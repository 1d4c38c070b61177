"""Requests and replies of the data plane as bytes: what follows the header.

What travels for every request is packed by hand; the rest is msgpack, in which fields can be added.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import Final

import msgspec

from ourodb.errors import OuroError, Overloaded, RequestError, StoreReadOnly
from ourodb.storage.apply import UnknownIncarnation
from ourodb.storage.keys import Slice
from ourodb.storage.record import CorruptRecord
from ourodb.storage.scan import TooManyTombstones

DIGEST: Final = 0x01
"""Flag of a read: the digest is enough."""
REVERSE: Final = 0x02

_ROW = struct.Struct(">BqII")
_REASON = struct.Struct(">H")


class Reason(IntEnum):
    """Why a replica failed; below 0x40 the codes that clients see.

    Source: Cassandra's ``RequestFailureReason``.
    """

    UNKNOWN = 0
    TOO_MANY_TOMBSTONES = 1
    TIMEOUT = 2
    INCOMPATIBLE_SCHEMA = 3
    READ_SIZE = 4
    NODE_DOWN = 5
    COORDINATOR_BEHIND = 10
    OVERLOADED = 0x40
    READ_ONLY = 0x41
    LEADER_ALONE = 0x42


_CLIENT_CODES_MAX: Final = 0x3F


class OversizedRow(OuroError):
    """A row is too large to travel."""


class CoordinatorBehind(OuroError):
    """The sender of a request doesn't know yet that what it is about has other replicas now."""


class LeaderAlone(OuroError):
    """Who was to lead increments reaches too few replicas, and has done nothing: another one may lead."""


def reason_of(error: Exception) -> Reason:
    """The reason of a failure."""
    if isinstance(error, CoordinatorBehind):
        return Reason.COORDINATOR_BEHIND
    if isinstance(error, LeaderAlone):
        return Reason.LEADER_ALONE
    if isinstance(error, StoreReadOnly):
        return Reason.READ_ONLY
    if isinstance(error, Overloaded):
        return Reason.OVERLOADED
    if isinstance(error, TooManyTombstones):
        return Reason.TOO_MANY_TOMBSTONES
    if isinstance(error, OversizedRow):
        return Reason.READ_SIZE
    if isinstance(error, UnknownIncarnation):
        return Reason.INCOMPATIBLE_SCHEMA
    return Reason.UNKNOWN


def client_code(reason: int) -> int:
    """As it stands in the reasons of a READ_FAILURE or WRITE_FAILURE."""
    return reason if reason <= _CLIENT_CODES_MAX else Reason.UNKNOWN


def encode_failure(error: Exception) -> bytes:
    """``u16 reason | text``: the body of a failed reply."""
    text = str(error) if isinstance(error, OuroError | RequestError) else type(error).__name__
    return _REASON.pack(reason_of(error)) + text.encode()[:1024]


def decode_failure(body: bytes) -> tuple[int, str]:
    """(reason, text)."""
    if len(body) < 2:
        return Reason.UNKNOWN, ""
    return _REASON.unpack_from(body)[0], body[2:].decode(errors="replace")


# READ_ROW: u8 flags | i64 now (s) | u32 incarnation | u32 length, position | clustering key


def encode_row_read(
    flags: int, now_s: int, incarnation: int, position: bytes, clustering_key: bytes
) -> bytes:
    return b"%b%b%b" % (_ROW.pack(flags, now_s, incarnation, len(position)), position, clustering_key)


def decode_row_read(body: bytes) -> tuple[int, int, int, bytes, bytes]:
    """(flags, now_s, incarnation, position, clustering key). Raises CorruptRecord."""
    try:
        flags, now_s, incarnation, length = _ROW.unpack_from(body)
    except struct.error as error:
        raise CorruptRecord("a read ends too early") from error
    at = _ROW.size + length
    return flags, now_s, incarnation, body[_ROW.size : at], body[at:]


class SlicesRead(msgspec.Struct, array_like=True):
    """READ_SLICES: some slices of one partition."""

    flags: int
    now_s: int
    incarnation: int
    position: bytes
    slices: Sequence[Slice]
    rows_max: int


class RangeRead(msgspec.Struct, array_like=True):
    """READ_RANGE: some slices of each partition between two positions."""

    flags: int
    now_s: int
    incarnation: int
    start: bytes
    end: bytes | None
    slices: Sequence[Slice]
    rows_max: int
    resume_after: bytes | None = None


encode = msgspec.msgpack.Encoder().encode
decode_slices_read = msgspec.msgpack.Decoder(SlicesRead).decode
decode_range_read = msgspec.msgpack.Decoder(RangeRead).decode
