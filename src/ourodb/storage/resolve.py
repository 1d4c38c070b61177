"""From stored records to what is live in them at a given moment.

Resolving never depends on anything but the records, the deletions above them and ``now``: an expired cell is dead
whether or not the purge has been there.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence, Set

from ourodb.storage.counter import surviving, total
from ourodb.storage.record import (
    COMPLEX_DELETION,
    COUNTER,
    EXPIRING,
    EXPIRING_ALL,
    LIVE,
    MARKER,
    TOMBSTONE,
    UNIFORM,
    Row,
    decode_element,
    decode_header,
    decode_row,
    uniform_cells,
)
from ourodb.storage.row import NO_ELEMENTS, LiveCell, LiveElement, LivePartition, LiveRow

StoredElement = tuple[int, bytes, bytes]
"""(column id, ordered form of the path, record)."""

_timestamp_at = struct.Struct(">q").unpack_from
_expires_at = struct.Struct(">q").unpack_from


def resolve_record(
    partition: LivePartition,
    clustering_key: bytes,
    record: bytes,
    shadowed: int,
    now_s: int,
    known: Set[int] | None,
) -> LiveRow | None:
    """A row without elements; None when nothing in it is live.

    Args:
        shadowed: timestamp of the newest deletion above the row (partition, range); NEVER when there is none.
        known: the column ids that the table has, when some were dropped: others don't make a row live.
    """
    flags = record[1]
    if flags & UNIFORM:
        if shadowed >= _timestamp_at(record, 10)[0]:
            return None
        if flags & EXPIRING_ALL and _expires_at(record, 22)[0] <= now_s:
            partition.met(len(uniform_cells(record)) or 1)
            return None
        if known is not None and not flags & MARKER and known.isdisjoint(uniform_cells(record)):
            return None
        return LiveRow(partition, clustering_key, record)
    return resolve_row(partition, clustering_key, decode_row(record), (), shadowed, now_s, known)


def resolve_row(
    partition: LivePartition,
    clustering_key: bytes | None,
    row: Row | None,
    elements: Sequence[StoredElement],
    shadowed: int,
    now_s: int,
    known: Set[int] | None,
) -> LiveRow | None:
    """A row with its elements; None when nothing in it is live. Arguments as for ``resolve_record``.

    Args:
        row: None where only elements are stored.
        elements: in order of key.
    """
    cells: dict[int, LiveCell] = {}
    marker = None
    raw_clustering = None
    complex_deletions: dict[int, int] = {}
    dead = 0
    has_deletion = False
    if row is not None:
        raw_clustering = row.raw_clustering
        if row.deletion is not None and row.deletion[0] > shadowed:
            has_deletion = True
            shadowed = row.deletion[0]
        if row.marker is not None:
            timestamp, kind, expires_at, ttl = row.marker
            if timestamp > shadowed:
                if kind == LIVE or expires_at > now_s:
                    marker = (timestamp, ttl, expires_at)
                else:
                    has_deletion = True
        for column_id, (timestamp, kind, local_time, value, ttl) in row.cells.items():
            if timestamp <= shadowed or (known is not None and column_id not in known):
                continue
            if kind == LIVE:
                cells[column_id] = (value, timestamp, 0, 0)
            elif kind == EXPIRING:
                if local_time > now_s:
                    cells[column_id] = (value, timestamp, ttl, local_time)
                else:
                    dead += 1
            elif kind == COUNTER:
                left = surviving(value, shadowed)
                if left:
                    cells[column_id] = (total(left), timestamp, 0, 0)
            elif kind == COMPLEX_DELETION:
                has_deletion = True
                complex_deletions[column_id] = timestamp
            else:
                dead += 1

    live: dict[int, list[LiveElement]] = {}
    for column_id, encoded_path, record in elements:
        if known is not None and column_id not in known:
            continue
        (timestamp, kind, local_time, value, ttl), path = decode_element(record)
        if timestamp <= complex_deletions.get(column_id, shadowed):
            continue
        if kind == TOMBSTONE or (kind == EXPIRING and local_time <= now_s):
            dead += 1
            continue
        if path is None:
            path = partition.keys.element_path(column_id, encoded_path)
        found = live.get(column_id)
        if found is None:
            found = live[column_id] = []
        found.append((path, value, timestamp, ttl, local_time))
    gone = marker is None and not cells and not live
    if dead or (gone and has_deletion):
        partition.met(dead or 1)
    if gone:
        return None
    return LiveRow(partition, clustering_key, None, cells, marker, live or NO_ELEMENTS, raw_clustering)


def resolve_group(
    partition: LivePartition,
    clustering_key: bytes,
    record: bytes | None,
    elements: Sequence[StoredElement],
    shadowed: int,
    now_s: int,
    known: Set[int] | None,
) -> LiveRow | None:
    """A row of a table that has multicell columns: its record, if there is one, and its elements."""
    if record is None:
        return resolve_row(partition, clustering_key, None, elements, shadowed, now_s, known)
    if not elements:
        return resolve_record(partition, clustering_key, record, shadowed, now_s, known)
    return resolve_row(partition, clustering_key, decode_row(record), elements, shadowed, now_s, known)


def open_partition(
    partition: LivePartition,
    record: bytes | None,
    elements: Sequence[StoredElement],
    now_s: int,
    known: Set[int] | None,
) -> None:
    """Put into the partition what its header and the elements of its static columns say."""
    static = None
    if record is not None:
        header = decode_header(record)
        if header.deletion is not None:
            partition.deleted = header.deletion[0]
        partition.has_ranges = header.has_ranges
        static = header.static
    if static is not None or elements:
        partition.static = resolve_row(partition, None, static, elements, partition.deleted, now_s, known)


def live_shards(row: Row | None, shadowed: int) -> dict[int, bytes]:
    """The shards of the live counters of a row by column id."""
    if row is None:
        return {}
    if row.deletion is not None:
        shadowed = max(shadowed, row.deletion[0])
    return {
        column_id: left
        for column_id, cell in row.cells.items()
        if cell[1] == COUNTER and cell[0] > shadowed and (left := surviving(cell[3], shadowed))
    }
