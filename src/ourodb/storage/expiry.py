"""The index that leads the purge: which partitions have something due, by hour.

An entry of the EXPIRY family is ``hour (u32) | incarnation (u32) | position`` with no value: in that hour, counted from
the Unix epoch, something of the partition will have expired, or a tombstone will have outlived its gc grace, or rows
or elements that a deletion shadows wait to be removed. One entry per partition and hour is enough, and one for the
earliest due time of a mutation: a purge that visits the partition enters it again for what remains.

An entry is always for a later hour than the one in which it is written, so a purge never meets entries that are still
being made, and the few last written can be remembered and not written again.
"""

from __future__ import annotations

import struct
from typing import Final

from ourodb.storage.record import (
    COMPLEX_DELETION,
    DELETION,
    ELEMENT_FORMAT,
    EXPIRING,
    EXPIRING_ALL,
    HEADER_FORMAT,
    ROW_FORMAT,
    TOMBSTONE,
    UNIFORM,
    Row,
    decode_element,
    decode_header,
    decode_row,
)

HOUR_S: Final = 3600

FAR: Final = 1 << 62
"""A due time that never comes."""

_HOUR = struct.Struct(">I")
_TTL = struct.Struct(">iq")
_HOUR_MAX = (1 << 32) - 1


def entry(due_s: int, now_s: int, incarnation: bytes, position: bytes) -> bytes:
    """The key for a partition with something due at ``due_s``."""
    hour = max(due_s, now_s) // HOUR_S + 1
    return b"%b%b%b" % (_HOUR.pack(min(hour, _HOUR_MAX)), incarnation, position)


def hour_key(now_s: int) -> bytes:
    """The end of the entries that are due: all keys of hours up to this one are less."""
    return _HOUR.pack(min(now_s // HOUR_S + 1, _HOUR_MAX))


def first_due(record: bytes, gc_grace_s: int, now_s: int) -> int:
    """When the purge should first look at what an arriving record brings; FAR when never."""
    record_format = record[0]
    if record_format == ROW_FORMAT:
        if record[1] & (UNIFORM | DELETION) == UNIFORM:
            if not record[1] & EXPIRING_ALL:
                return FAR
            expires_at: int = _TTL.unpack_from(record, 18)[1]
            return expires_at
        return _row_first_due(decode_row(record), gc_grace_s, now_s)
    if record_format == ELEMENT_FORMAT:
        (_, kind, local_time, _, _), _ = decode_element(record)
        if kind == EXPIRING:
            return local_time
        return local_time + gc_grace_s if kind == TOMBSTONE else FAR
    if record_format == HEADER_FORMAT:
        header = decode_header(record)
        if header.deletion is not None:
            return now_s
        return FAR if header.static is None else _row_first_due(header.static, gc_grace_s, now_s)
    return now_s


def _row_first_due(row: Row, gc_grace_s: int, now_s: int) -> int:
    if row.deletion is not None:
        return now_s
    due = FAR
    if row.marker is not None and row.marker[1] == EXPIRING:
        due = row.marker[2]
    for _, kind, local_time, _, _ in row.cells.values():
        if kind == EXPIRING:
            due = min(due, local_time)
        elif kind == TOMBSTONE:
            due = min(due, local_time + gc_grace_s)
        elif kind == COMPLEX_DELETION:
            return now_s
    return due
