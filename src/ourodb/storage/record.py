"""Records: the bytes in which rows, elements, headers and range tombstones are stored and travel.

All are big-endian and begin with a format byte, which tells the kind of record and its version. A row::

    u8 format = 1 | u8 flags | i64 least timestamp | i64 greatest timestamp
    marker: i64 timestamp, i32 ttl, i64 expires_at          if MARKER and not UNIFORM
    ttl of all: i32 ttl, i64 expires_at                     if UNIFORM and EXPIRING
    row deletion: i64 timestamp, i64 local time             if DELETION
    clustering as written: u16 n, n x (i32 length, bytes)   if RAW_CLUSTERING
    u16 n | n x u16 column id, ascending
    n x (u8 kind, i64 timestamp, i32 ttl, i64 local time)   unless UNIFORM
    n x (i32 length, bytes)                                 length -1: none

UNIFORM is what a plain INSERT or UPDATE makes: no tombstone, every cell (and the marker, if MARKER) has the greatest
timestamp, and all have the same TTL or none. Its values stand exactly as in the client's EXECUTE message and in a
result row, so that the fast paths copy slices and never look at a cell; ``UniformShape`` is for them.

In memory a cell is a tuple ``(timestamp, kind, local time, value, ttl)``, ordered so that the greater of two tuples
*is* Cassandra's reconciliation: newer timestamp, then tombstone over expiring over live, then the later expiry or
deletion, then the greater value. Markers and deletions are tuples of the same making. Times are in seconds, timestamps
in microseconds. A tombstone's value is b"", as is that of an expired cell that was purged.

Source: ``Cells.reconcile``, ``LivenessInfo.supersedes``, ``DeletionTime`` of Cassandra 5; CASSANDRA-14592.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from ourodb.errors import StoreError

ROW_FORMAT: Final = 1
ELEMENT_FORMAT: Final = 2
HEADER_FORMAT: Final = 3
RANGE_FORMAT: Final = 4

# Flags of a row
UNIFORM: Final = 0x01
MARKER: Final = 0x02
EXPIRING_ALL: Final = 0x04
DELETION: Final = 0x08
RAW_CLUSTERING: Final = 0x10

# Kinds of cells, in the order in which ties are decided
LIVE: Final = 0
EXPIRING: Final = 1
TOMBSTONE: Final = 2
COMPLEX_DELETION: Final = 3
"""What a multicell column was overwritten or deleted with: shadows elements up to its timestamp."""
COUNTER: Final = 4

RAW_PATH: Final = 0x80
"""Bit in an element's kind: its path as written follows."""

# Flags of a header
HEADER_DELETION: Final = 0x01
HEADER_RANGES: Final = 0x02
HEADER_STATIC: Final = 0x04

NEVER: Final = -(1 << 63)
"""Timestamp before all that shadow anything."""

Cell = tuple[int, int, int, bytes, int]
"""(timestamp, kind, local time: when it expires or was deleted, value, ttl)."""
Marker = tuple[int, int, int, int]
"""(timestamp, LIVE or EXPIRING, expires_at, ttl)."""
Deletion = tuple[int, int]
"""(timestamp, local time); shadows what has the same or an older timestamp."""

_HEAD = struct.Struct(">BBqq")
_MARKER = struct.Struct(">qiq")
_TTL = struct.Struct(">iq")
_DELETION = struct.Struct(">qq")
_COUNT = struct.Struct(">H")
_META = struct.Struct(">BqiQ")
_LENGTH = struct.Struct(">i")
_ELEMENT = struct.Struct(">BBqiq")
_TIMESTAMPS = struct.Struct(">qq")
_RANGE = struct.Struct(">Bqq")

_META_BYTES = 21
_NONE = b"\xff\xff\xff\xff"


class CorruptRecord(StoreError):
    """Stored bytes that this version can't read."""


class Row:
    """A parsed row record.

    Attributes:
        cells: by column id, in no particular order.
        raw_clustering: the clustering values as written, where they aren't the canonical ones.
    """

    __slots__ = ("cells", "deletion", "greatest", "marker", "raw_clustering")

    def __init__(
        self,
        marker: Marker | None = None,
        deletion: Deletion | None = None,
        cells: dict[int, Cell] | None = None,
        raw_clustering: tuple[bytes, ...] | None = None,
        greatest: int = NEVER,
    ) -> None:
        self.marker = marker
        self.deletion = deletion
        self.cells: dict[int, Cell] = {} if cells is None else cells
        self.raw_clustering = raw_clustering
        self.greatest = greatest

    def is_empty(self) -> bool:
        return not self.cells and self.marker is None and self.deletion is None


def encode_row(row: Row) -> bytes:
    """The record; UNIFORM where it can be."""
    raise NotImplementedError


def decode_row(record: bytes, offset: int = 0) -> Row:
    """Inverse of ``encode_row``; the record may stand at ``offset`` of a longer one, up to its end."""
    raise NotImplementedError


class UniformShape:
    """The constant parts of UNIFORM rows with these columns, and how to recognise such a row.

    A writer that has the values of exactly these columns, joined as ``[i32 length][bytes]`` in ascending order of
    column id, makes the record by joining bytes. A reader that wants exactly these columns finds them joined at
    ``values_at(record)``.

    Attributes:
        ids: ``u16 n | n x u16 column id``.
        head, head_expiring: format and flags.
        values_offset, values_offset_expiring: where the values begin.
    """

    __slots__ = (
        "_flags_without_marker",
        "head",
        "head_expiring",
        "ids",
        "values_offset",
        "values_offset_expiring",
    )

    def __init__(self, column_ids: Sequence[int], marker: bool = True) -> None:
        assert list(column_ids) == sorted(set(column_ids))
        flags = UNIFORM | MARKER if marker else UNIFORM
        self.head = bytes((ROW_FORMAT, flags))
        self.head_expiring = bytes((ROW_FORMAT, flags | EXPIRING_ALL))
        self.ids = struct.pack(f">{len(column_ids) + 1}H", len(column_ids), *column_ids)
        self.values_offset = 18 + len(self.ids)
        self.values_offset_expiring = 30 + len(self.ids)

    def record(self, timestamp: int, values: bytes) -> bytes:
        """The row without TTL.

        Args:
            values: ``[i32 length][bytes]`` of each column, ascending by column id; none of them null.
        """
        return b"%b%b%b%b" % (self.head, _TIMESTAMPS.pack(timestamp, timestamp), self.ids, values)

    def expiring_record(self, timestamp: int, ttl: int, expires_at: int, values: bytes) -> bytes:
        """The row with a TTL."""
        return b"%b%b%b%b%b" % (
            self.head_expiring,
            _TIMESTAMPS.pack(timestamp, timestamp),
            _TTL.pack(ttl, expires_at),
            self.ids,
            values,
        )

    def values_at(self, record: bytes) -> int:
        """Where the joined values begin, when the record is UNIFORM with exactly these columns; else 0."""
        flags = record[1]
        if flags == 3 or flags == 1:
            offset = self.values_offset
            return offset if record[18:offset] == self.ids else 0
        if flags == 7 or flags == 5:
            offset = self.values_offset_expiring
            return offset if record[30:offset] == self.ids else 0
        return 0


class Element:
    """A parsed element record. ``raw_path`` is the path as written, where it isn't the canonical one."""

    __slots__ = ("cell", "raw_path")

    def __init__(self, cell: Cell, raw_path: bytes | None = None) -> None:
        self.cell = cell
        self.raw_path = raw_path


def encode_element(cell: Cell, raw_path: bytes | None = None) -> bytes:
    """``format, kind, timestamp, ttl, local time, [raw path: i32 length, bytes], value``."""
    raise NotImplementedError


def decode_element(record: bytes) -> Element:
    raise NotImplementedError


class Header:
    """A parsed header record.

    Attributes:
        has_ranges: the partition has, or had, range tombstones.
        static: the static row.
    """

    __slots__ = ("deletion", "has_ranges", "static")

    def __init__(
        self, deletion: Deletion | None = None, has_ranges: bool = False, static: Row | None = None
    ) -> None:
        self.deletion = deletion
        self.has_ranges = has_ranges
        self.static = static


def encode_header(header: Header) -> bytes:
    """``format, flags, [deletion: timestamp, local time], [static row record]``."""
    raise NotImplementedError


def decode_header(record: bytes) -> Header:
    raise NotImplementedError


def encode_range(end: bytes, deletion: Deletion) -> bytes:
    """``format, timestamp, local time, end bound``; the start bound is the key."""
    return _RANGE.pack(RANGE_FORMAT, *deletion) + end


def decode_range(record: bytes) -> tuple[bytes, Deletion]:
    """(end bound, deletion)."""
    _, timestamp, local_time = _RANGE.unpack_from(record)
    return record[17:], (timestamp, local_time)
