"""Merging two records of one key: Cassandra's reconciliation.

``merge`` is the one seam through which every change of stored data passes: (what is stored, what came) -> what is
stored from now on. It is commutative, associative and idempotent, so replicas that got the same mutations in any
order, any number of times, hold the same rows.

The one exception is Cassandra's too: a counter cell's timestamp is the greatest of its increments, so whether a row
deletion removes older increments depends on which came first. Deleted counters aren't to be used again.

Range tombstones are no single key's matter; they are in ``storage.ranges``.
"""

from __future__ import annotations

import struct
from typing import TypeVar

from ourodb.storage.counter import merge_shards, surviving
from ourodb.storage.record import (
    COUNTER,
    ELEMENT_FORMAT,
    EXPIRING_ALL,
    HEADER_FORMAT,
    MARKER,
    ROW_FORMAT,
    TOMBSTONE,
    UNIFORM,
    Cell,
    CorruptRecord,
    Header,
    Row,
    decode_element,
    decode_header,
    decode_row,
    encode_header,
    encode_row,
)

_timestamp_at = struct.Struct(">q").unpack_from
_T = TypeVar("_T", bound=tuple[int, ...])

_SHAPE_MASK = ~(MARKER | EXPIRING_ALL)


def merge(stored: bytes, incoming: bytes) -> bytes:
    """The record that holds what both say; one of the two objects themselves where it says it all."""
    record_format = incoming[0]
    if record_format != stored[0]:
        raise CorruptRecord(f"records of formats {stored[0]} and {record_format} under one key")
    if record_format == ROW_FORMAT:
        return merge_rows(stored, incoming)
    if record_format == ELEMENT_FORMAT:
        return merge_elements(stored, incoming)
    if record_format == HEADER_FORMAT:
        return merge_headers(stored, incoming)
    raise CorruptRecord(f"record format {record_format} can't be merged")


def merge_rows(stored: bytes, incoming: bytes) -> bytes:
    stored_flags = stored[1]
    flags = incoming[1]
    if flags & _SHAPE_MASK == UNIFORM and stored_flags & _SHAPE_MASK == UNIFORM:
        # Two plain rows with the same columns: the newer one says it all, unless it lacks the other's marker.
        start = 30 if flags & EXPIRING_ALL else 18
        stored_start = 30 if stored_flags & EXPIRING_ALL else 18
        end = start + 2 + 2 * (incoming[start] << 8 | incoming[start + 1])
        if incoming[start:end] == stored[stored_start : stored_start + end - start]:
            timestamp = _timestamp_at(incoming, 10)
            stored_timestamp = _timestamp_at(stored, 10)
            if timestamp > stored_timestamp:
                if flags & MARKER >= stored_flags & MARKER:
                    return incoming
            elif timestamp < stored_timestamp and stored_flags & MARKER >= flags & MARKER:
                return stored
    if incoming == stored:
        return stored
    left = decode_row(stored)
    right = decode_row(incoming)
    if left.raw_clustering != right.raw_clustering:
        # Equal values, different bytes: the newer record's are shown.
        left_raw = (_timestamp_at(stored, 10), left.raw_clustering or ())
        right_raw = (_timestamp_at(incoming, 10), right.raw_clustering or ())
        left.raw_clustering = max(left_raw, right_raw)[1] or None
    merge_row_into(left, right)
    return encode_row(left)


def merge_row_into(left: Row, right: Row) -> None:
    """Add to ``left`` what ``right`` says; raw clustering aside."""
    left.marker = _later(left.marker, right.marker)
    deletion = left.deletion = _later(left.deletion, right.deletion)
    cells = left.cells
    for column_id, cell in right.cells.items():
        known = cells.get(column_id)
        cells[column_id] = cell if known is None else reconcile(known, cell)
    if deletion is not None:
        shadow(left, deletion[0])


def shadow(row: Row, timestamp: int) -> None:
    """Remove the marker and the cells of a row that a deletion with this timestamp shadows."""
    if row.marker is not None and row.marker[0] <= timestamp:
        row.marker = None
    cells = row.cells
    touched = [
        (column_id, cell) for column_id, cell in cells.items() if cell[0] <= timestamp or cell[1] == COUNTER
    ]
    for column_id, cell in touched:
        left = counted_after(cell, timestamp)
        if left is None:
            del cells[column_id]
        else:
            cells[column_id] = left


def counted_after(cell: Cell, deleted: int) -> Cell | None:
    """What a deletion with this timestamp leaves of a cell: of a counter the shards that are newer; None: nothing."""
    timestamp, kind, local_time, value, ttl = cell
    if timestamp <= deleted:
        return None
    if kind != COUNTER:
        return cell
    left = surviving(value, deleted)
    if left is value:
        return cell
    return (timestamp, COUNTER, local_time, left, ttl) if left else None


def reconcile(left: Cell, right: Cell) -> Cell:
    """Which of two cells of one column stands; counters are merged shard by shard.

    Source: ``Cells.reconcile`` of Cassandra 5; a counter's tombstone wins whatever its timestamp (CASSANDRA-7346).
    """
    if left[1] == COUNTER or right[1] == COUNTER:
        if left[1] == right[1]:
            return (max(left[0], right[0]), COUNTER, 0, merge_shards(left[3], right[3]), 0)
        if left[1] == TOMBSTONE:
            return left
        if right[1] == TOMBSTONE:
            return right
    return max(left, right)


def merge_elements(stored: bytes, incoming: bytes) -> bytes:
    left, left_raw = decode_element(stored)
    right, right_raw = decode_element(incoming)
    if (left, left_raw or b"") >= (right, right_raw or b""):
        return stored
    return incoming


def merge_headers(stored: bytes, incoming: bytes) -> bytes:
    if incoming == stored:
        return stored
    header = decode_header(stored)
    merge_header_into(header, decode_header(incoming))
    return encode_header(header)


def merge_header_into(left: Header, right: Header) -> None:
    left.deletion = _later(left.deletion, right.deletion)
    left.has_ranges |= right.has_ranges
    if left.static is None:
        left.static = right.static
    elif right.static is not None:
        merge_row_into(left.static, right.static)
    if left.static is not None and left.deletion is not None:
        shadow(left.static, left.deletion[0])


def _later(left: _T | None, right: _T | None) -> _T | None:
    """Which of two markers or deletions supersedes the other."""
    if left is None:
        return right
    if right is None:
        return left
    return max(left, right)
