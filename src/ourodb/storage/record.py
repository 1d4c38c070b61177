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
_META = struct.Struct(">Bqiq")
_LENGTH = struct.Struct(">i")
_ELEMENT = struct.Struct(">BBqiq")
_TIMESTAMPS = struct.Struct(">qq")
_TIMESTAMP = struct.Struct(">q")
_RANGE = struct.Struct(">Bqq")

_SHORTS = tuple(struct.Struct(f">{count}H") for count in range(64))

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

    __slots__ = ("cells", "deletion", "marker", "raw_clustering")

    def __init__(
        self,
        marker: Marker | None = None,
        deletion: Deletion | None = None,
        cells: dict[int, Cell] | None = None,
        raw_clustering: tuple[bytes, ...] | None = None,
    ) -> None:
        self.marker = marker
        self.deletion = deletion
        self.cells: dict[int, Cell] = {} if cells is None else cells
        self.raw_clustering = raw_clustering

    def is_empty(self) -> bool:
        return not self.cells and self.marker is None and self.deletion is None


def encode_row(row: Row) -> bytes:
    """The record; UNIFORM where it can be. The row isn't empty."""
    cells = row.cells
    marker = row.marker
    deletion = row.deletion
    ids = sorted(cells)
    ordered = [cells[column_id] for column_id in ids]

    flags = 0
    least = greatest = timestamp = kind = expires_at = ttl = 0
    if marker is not None:
        flags = UNIFORM | MARKER
        timestamp, kind, expires_at, ttl = marker
    elif ordered:
        flags = UNIFORM
        timestamp, kind, expires_at, _, ttl = ordered[0]
    if flags:
        least = greatest = timestamp
        if kind > EXPIRING:
            flags &= ~UNIFORM
        for cell in ordered:
            at = cell[0]
            if at != timestamp:
                flags &= ~UNIFORM
                if at < least:
                    least = at
                elif at > greatest:
                    greatest = at
            elif cell[1] != kind or cell[2] != expires_at or cell[4] != ttl:
                flags &= ~UNIFORM
        if deletion is not None:
            least = min(least, deletion[0])
            if deletion[0] > greatest:
                greatest = deletion[0]
                flags &= ~UNIFORM
    elif deletion is not None:
        least = greatest = deletion[0]

    parts = [b""]
    if flags & UNIFORM:
        if kind == EXPIRING:
            flags |= EXPIRING_ALL
            parts.append(_TTL.pack(ttl, expires_at))
    elif marker is not None:
        parts.append(_MARKER.pack(timestamp, ttl, expires_at))
    if deletion is not None:
        flags |= DELETION
        parts.append(_DELETION.pack(*deletion))
    if row.raw_clustering is not None:
        flags |= RAW_CLUSTERING
        parts.append(_COUNT.pack(len(row.raw_clustering)))
        for value in row.raw_clustering:
            parts.append(_LENGTH.pack(len(value)))
            parts.append(value)
    count = len(ids)
    parts.append(_shorts(count + 1).pack(count, *ids))
    if flags & UNIFORM:
        for cell in ordered:
            value = cell[3]
            parts.append(_LENGTH.pack(len(value)))
            parts.append(value)
    else:
        for at, cell_kind, local_time, _, cell_ttl in ordered:
            parts.append(_META.pack(cell_kind, at, cell_ttl, local_time))
        for cell in ordered:
            if cell[1] == TOMBSTONE or cell[1] == COMPLEX_DELETION:
                parts.append(_NONE)
            else:
                value = cell[3]
                parts.append(_LENGTH.pack(len(value)))
                parts.append(value)
    parts[0] = _HEAD.pack(ROW_FORMAT, flags, least, greatest)
    return b"".join(parts)


def decode_row(record: bytes, offset: int = 0) -> Row:
    """Inverse of ``encode_row``; the record may stand at ``offset`` of a longer one, up to its end."""
    record_format, flags, _, greatest = _HEAD.unpack_from(record, offset)
    if record_format != ROW_FORMAT:
        raise CorruptRecord(f"row format {record_format} is unknown")
    offset += 18
    marker: Marker | None = None
    kind = LIVE
    ttl = expires_at = 0
    if flags & UNIFORM:
        if flags & EXPIRING_ALL:
            ttl, expires_at = _TTL.unpack_from(record, offset)
            offset += 12
            kind = EXPIRING
        if flags & MARKER:
            marker = (greatest, kind, expires_at, ttl)
    elif flags & MARKER:
        timestamp, marker_ttl, marker_expires_at = _MARKER.unpack_from(record, offset)
        offset += 20
        marker = (timestamp, EXPIRING if marker_ttl else LIVE, marker_expires_at, marker_ttl)
    deletion: Deletion | None = None
    if flags & DELETION:
        deletion = _DELETION.unpack_from(record, offset)
        offset += 16
    raw_clustering = None
    if flags & RAW_CLUSTERING:
        raw_clustering, offset = _decode_raw_clustering(record, offset)
    (count,) = _COUNT.unpack_from(record, offset)
    ids = _shorts(count).unpack_from(record, offset + 2)
    offset += 2 + 2 * count

    cells: dict[int, Cell] = {}
    length_at = _LENGTH.unpack_from
    if flags & UNIFORM:
        for column_id in ids:
            start = offset + 4
            offset = start + length_at(record, offset)[0]
            cells[column_id] = (greatest, kind, expires_at, record[start:offset], ttl)
    else:
        meta_at = offset
        offset += _META_BYTES * count
        for column_id in ids:
            cell_kind, timestamp, cell_ttl, local_time = _META.unpack_from(record, meta_at)
            meta_at += _META_BYTES
            start = offset + 4
            (length,) = length_at(record, offset)
            if length < 0:
                offset = start
                cells[column_id] = (timestamp, cell_kind, local_time, b"", cell_ttl)
            else:
                offset = start + length
                cells[column_id] = (timestamp, cell_kind, local_time, record[start:offset], cell_ttl)
    return Row(marker, deletion, cells, raw_clustering)


def is_plain(record: bytes) -> bool:
    """Whether a row record is UNIFORM without TTL, deletion or raw clustering: nothing in it will ever be due."""
    return record[0] == ROW_FORMAT and (record[1] == UNIFORM | MARKER or record[1] == UNIFORM)


def greatest_timestamp(record: bytes) -> int:
    """Of a row record."""
    timestamp: int = _TIMESTAMP.unpack_from(record, 10)[0]
    return timestamp


def uniform_cells(record: bytes) -> dict[int, tuple[bytes, int, int, int]]:
    """The cells of a UNIFORM record as a read gives them: (value, timestamp, ttl, expires_at) by column id."""
    flags = record[1]
    (greatest,) = _TIMESTAMP.unpack_from(record, 10)
    offset = 18
    ttl = expires_at = 0
    if flags & EXPIRING_ALL:
        ttl, expires_at = _TTL.unpack_from(record, offset)
        offset += 12
    if flags & DELETION:
        offset += 16
    if flags & RAW_CLUSTERING:
        _, offset = _decode_raw_clustering(record, offset)
    (count,) = _COUNT.unpack_from(record, offset)
    ids = _shorts(count).unpack_from(record, offset + 2)
    offset += 2 + 2 * count
    length_at = _LENGTH.unpack_from
    cells = {}
    for column_id in ids:
        start = offset + 4
        offset = start + length_at(record, offset)[0]
        cells[column_id] = (record[start:offset], greatest, ttl, expires_at)
    return cells


def uniform_marker(record: bytes) -> tuple[int, int, int] | None:
    """The marker of a UNIFORM record as a read gives it: (timestamp, ttl, expires_at)."""
    flags = record[1]
    if not flags & MARKER:
        return None
    (greatest,) = _TIMESTAMP.unpack_from(record, 10)
    if flags & EXPIRING_ALL:
        return greatest, *_TTL.unpack_from(record, 18)
    return greatest, 0, 0


def raw_clustering(record: bytes) -> tuple[bytes, ...] | None:
    """The clustering values as written, where the record of a row keeps them."""
    flags = record[1]
    if not flags & RAW_CLUSTERING:
        return None
    offset = 18
    if flags & UNIFORM:
        offset += 12 if flags & EXPIRING_ALL else 0
    elif flags & MARKER:
        offset += 20
    return _decode_raw_clustering(record, offset + 16 if flags & DELETION else offset)[0]


def _decode_raw_clustering(record: bytes, offset: int) -> tuple[tuple[bytes, ...], int]:
    (count,) = _COUNT.unpack_from(record, offset)
    offset += 2
    values = []
    for _ in range(count):
        start = offset + 4
        offset = start + _LENGTH.unpack_from(record, offset)[0]
        values.append(record[start:offset])
    return tuple(values), offset


def _shorts(count: int) -> struct.Struct:
    return _SHORTS[count] if count < len(_SHORTS) else struct.Struct(f">{count}H")


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


def encode_element(cell: Cell, raw_path: bytes | None = None) -> bytes:
    """``format, kind, timestamp, ttl, local time, [raw path: i32 length, bytes], value``.

    Args:
        raw_path: the path as written, where it isn't the canonical one.
    """
    timestamp, kind, local_time, value, ttl = cell
    if raw_path is None:
        return _ELEMENT.pack(ELEMENT_FORMAT, kind, timestamp, ttl, local_time) + value
    return b"%b%b%b%b" % (
        _ELEMENT.pack(ELEMENT_FORMAT, kind | RAW_PATH, timestamp, ttl, local_time),
        _LENGTH.pack(len(raw_path)),
        raw_path,
        value,
    )


def decode_element(record: bytes) -> tuple[Cell, bytes | None]:
    """(cell, raw path); inverse of ``encode_element``."""
    record_format, kind, timestamp, ttl, local_time = _ELEMENT.unpack_from(record)
    if record_format != ELEMENT_FORMAT:
        raise CorruptRecord(f"element format {record_format} is unknown")
    if kind & RAW_PATH:
        end = 26 + _LENGTH.unpack_from(record, 22)[0]
        return (timestamp, kind & ~RAW_PATH, local_time, record[end:], ttl), record[26:end]
    return (timestamp, kind, local_time, record[22:], ttl), None


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
    flags = HEADER_RANGES if header.has_ranges else 0
    deletion = static = b""
    if header.deletion is not None:
        flags |= HEADER_DELETION
        deletion = _DELETION.pack(*header.deletion)
    if header.static is not None and not header.static.is_empty():
        flags |= HEADER_STATIC
        static = encode_row(header.static)
    return b"%c%c%b%b" % (HEADER_FORMAT, flags, deletion, static)


def decode_header(record: bytes) -> Header:
    """Inverse of ``encode_header``."""
    if record[0] != HEADER_FORMAT:
        raise CorruptRecord(f"header format {record[0]} is unknown")
    flags = record[1]
    offset = 2
    deletion = static = None
    if flags & HEADER_DELETION:
        deletion = _DELETION.unpack_from(record, offset)
        offset += 16
    if flags & HEADER_STATIC:
        static = decode_row(record, offset)
    return Header(deletion, bool(flags & HEADER_RANGES), static)


def encode_range(end: bytes, deletion: Deletion) -> bytes:
    """``format, timestamp, local time, end bound``; the start bound is the key."""
    return _RANGE.pack(RANGE_FORMAT, *deletion) + end


def decode_range(record: bytes) -> tuple[bytes, Deletion]:
    """(end bound, deletion)."""
    _, timestamp, local_time = _RANGE.unpack_from(record)
    return record[17:], (timestamp, local_time)


def restamp(record: bytes, now_s: int) -> bytes:
    """The record with ``now_s`` as local time of its deletions: they age from their arrival at this node.

    Source: a tombstone that came late (a hint, a repair) must stay for a whole gc grace here too.
    """
    record_format = record[0]
    if record_format == ROW_FORMAT:
        if record[1] & (UNIFORM | DELETION) == UNIFORM:
            return record
        row = decode_row(record)
        _restamp_row(row, now_s)
        return encode_row(row)
    if record_format == ELEMENT_FORMAT:
        cell, raw_path = decode_element(record)
        if cell[1] != TOMBSTONE:
            return record
        return encode_element((cell[0], TOMBSTONE, now_s, b"", 0), raw_path)
    if record_format == HEADER_FORMAT:
        header = decode_header(record)
        if header.deletion is not None:
            header.deletion = (header.deletion[0], now_s)
        if header.static is not None:
            _restamp_row(header.static, now_s)
        return encode_header(header)
    if record_format == RANGE_FORMAT:
        end, (timestamp, _) = decode_range(record)
        return encode_range(end, (timestamp, now_s))
    raise CorruptRecord(f"record format {record_format} is unknown")


def _restamp_row(row: Row, now_s: int) -> None:
    if row.deletion is not None:
        row.deletion = (row.deletion[0], now_s)
    for column_id, (timestamp, kind, _, value, ttl) in row.cells.items():
        if kind in (TOMBSTONE, COMPLEX_DELETION):
            row.cells[column_id] = (timestamp, kind, now_s, value, ttl)
