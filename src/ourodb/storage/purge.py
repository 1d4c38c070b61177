"""Removes what expired, what deletions shadow, and the tombstones that gc grace lets go; no read can tell.

Led by the EXPIRY index (``storage.expiry``): a partition is visited only in an hour in which something of it is due.
A visit goes through the partition's keys once, in slices; each slice is read and rewritten without a pause between,
so no write can be lost, and begins by reading the deletions above the rows anew. A partition that can't be read, or
of which the store has lost what an earlier slice wrote, keeps its entry for the next run.

- A cell, marker or element that has expired loses its value and stays, as what shadows older data elsewhere, for gc
  grace after its expiry. Cassandra makes a tombstone of it; here it stays what it is, so that a tie with a write that
  arrives later is decided as it would have been before.
- A tombstone goes gc grace after it arrived at this node.
- A deletion of a row, collection, range or partition goes likewise, but only once what it shadows here is gone: for
  ranges and partitions at the end of a visit during which nothing else was written to the partition.

What remains is entered into the index for the hour in which it is due next, in the batch that removes the old entry.

Source: Cassandra's purging (``DeletionPurger``, CASSANDRA-14592), without its compaction: one store, so nothing older
can hide in another file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice
from typing import Final

import structlog

from ourodb import limits
from ourodb.errors import StoreError
from ourodb.ports import Store, Write
from ourodb.storage.apply import UnknownIncarnation
from ourodb.storage.expiry import FAR, entry, hour_key
from ourodb.storage.families import DATA, EXPIRY
from ourodb.storage.keys import (
    FIRST,
    HEADER_BYTE,
    LAST,
    RANGE_TOMBSTONE_BYTE,
    ROW_BYTE,
    ROW_END_BYTE,
    STATIC_ELEMENT_BYTE,
)
from ourodb.storage.merge import counted_after
from ourodb.storage.ranges import RangeCursor, overlapping
from ourodb.storage.record import (
    COMPLEX_DELETION,
    COUNTER,
    EXPIRING,
    LIVE,
    NEVER,
    TOMBSTONE,
    Cell,
    Header,
    Row,
    decode_element,
    decode_header,
    decode_row,
    encode_element,
    encode_header,
    encode_row,
    greatest_timestamp,
    is_plain,
)
from ourodb.storage.row import PAUSE, Pause
from ourodb.storage.rows import Rows

log = structlog.get_logger()

VISITED_MAX: Final = 65_536
"""Partitions that a run remembers, to visit each once however many entries are due."""

_COLUMN = struct.Struct(">H")
_INCARNATION = struct.Struct(">I")

StoredKeys = list[tuple[int, bytes, bytes]]
"""(column id, key, record) of elements."""


def purge(rows: Rows, now_s: int, *, keys_per_slice: int = limits.PURGE_SLICE_KEYS) -> Iterator[Pause]:
    """Visit all partitions that are due; gives PAUSE after each slice of work.

    Tables change, and go, between slices: each is asked for anew. Index entries of tables that are gone are removed.

    Args:
        now_s: this node's time, seconds.
        keys_per_slice: stored keys looked at between pauses, of one partition or of many (a row with its elements
            isn't divided).
    Raises:
        Overloaded: while iterating; the store takes no writes now.
        StoreError: the index can't be read.
    """
    store = rows.store
    visited: dict[bytes, None] = {}
    end = hour_key(now_s)
    left = keys_per_slice
    for due in _entries(store, end):
        try:
            if due[4:] in visited:
                store.apply(((EXPIRY, due, None),))
            else:
                visit = _Visit(rows, due, now_s)
                while not visit.run(left):
                    yield PAUSE
                    left = keys_per_slice
                left -= visit.keys
                if len(visited) >= VISITED_MAX:
                    visited.clear()
                visited[due[4:]] = None
        except UnknownIncarnation:
            store.apply(((EXPIRY, due, None),))
        except StoreError as error:
            log.warning("partition not purged", reason=str(error))
        left -= limits.PURGE_PARTITION_KEYS
        if left <= 0:
            yield PAUSE
            left = keys_per_slice


def _entries(store: Store, end: bytes) -> Iterator[bytes]:
    """The entries before ``end``, each once, whatever becomes of it meanwhile.

    Each look at the index goes on where the one before ended, and doesn't pass by all that was removed since.
    """
    start = b""
    while entries := [key for key, _ in islice(store.scan(EXPIRY, start, end), limits.PURGE_ENTRIES_AT_ONCE)]:
        yield from entries
        start = entries[-1] + b"\x00"


class _Visit:
    """One partition being purged.

    Attributes:
        rows: of its table, as it was when the last slice began.
        next_due: when something of what remains will be due.
        keys: stored keys that the last slice looked at.
    """

    def __init__(self, rows: Rows, due: bytes, now_s: int) -> None:
        """
        Raises:
            UnknownIncarnation: the table is gone.
        """
        (self.incarnation,) = _INCARNATION.unpack_from(due, 4)
        self.all_rows = rows
        self.rows = rows.known(self.incarnation)
        self.store: Store = rows.store
        self.use = self.rows.use
        self.due = due
        self.position = due[8:]
        self.prefix = due[4:]
        self.now_s = now_s
        self.next_due = FAR
        self.keys = 0
        self.writes: list[Write] = []
        self._cursor: bytes = FIRST
        self._batches_lost = rows.batches_lost
        # Reset by whoever writes to the partition meanwhile.
        self.use.watched = self.position

    def run(self, keys_max: int) -> bool:
        """One slice of work; True when the visit is over.

        Raises:
            UnknownIncarnation: the table is gone.
            StoreError: it can't be read, or what an earlier slice wrote is lost.
        """
        self.rows = self.all_rows.known(self.incarnation)
        if self.all_rows.batches_lost != self._batches_lost:
            raise StoreError("the store lost what may have been a part of it")
        base = self.prefix + ROW_BYTE
        header = self._header()
        deleted = header.deletion[0] if header.deletion is not None else NEVER
        ranges = None
        if header.has_ranges:
            fragments = overlapping(self.store, self.prefix + RANGE_TOMBSTONE_BYTE, self._cursor, LAST)
            ranges = RangeCursor(fragments)

        size = len(base)
        clustering_end = self.rows.keys.clustering_end
        clustering_key: bytes | None = None
        row_prefix = b""
        record: bytes | None = None
        elements: StoredKeys = []
        self.keys = 0
        for key, value in self.store.scan(DATA, base + self._cursor, self.prefix + ROW_END_BYTE):
            if clustering_key is None or not key.startswith(row_prefix):
                if clustering_key is not None:
                    shadowed = deleted if ranges is None else max(deleted, ranges.covering(clustering_key))
                    self._purge_group(row_prefix, record, elements, shadowed)
                    if self.keys >= keys_max:
                        self._cursor = clustering_key + LAST
                        self._write()
                        return False
                    record = None
                    elements = []
                end = clustering_end(key, size)
                row_prefix = key[:end]
                clustering_key = key[size:end]
            self.keys += 1
            at = len(row_prefix)
            if at == len(key):
                record = value
            else:
                elements.append((_COLUMN.unpack_from(key, at + 1)[0], key, value))
        if clustering_key is not None:
            shadowed = deleted if ranges is None else max(deleted, ranges.covering(clustering_key))
            self._purge_group(row_prefix, record, elements, shadowed)
        self._finish(header, deleted)
        return True

    def _header(self) -> Header:
        key = self.prefix + HEADER_BYTE
        for _, record in self.store.scan(DATA, key, key + b"\x00"):
            return decode_header(record)
        return Header()

    def _purge_group(self, key: bytes, record: bytes | None, elements: StoredKeys, shadowed: int) -> None:
        """One row: its record and its elements."""
        if not elements and record is not None and is_plain(record) and shadowed < greatest_timestamp(record):
            return
        row = decode_row(record) if record is not None else Row()
        left = self._purge_row(row, elements, shadowed)
        if record is None:
            return
        if row.is_empty() and not (left and row.raw_clustering is not None):
            self.writes.append((DATA, key, None))
        else:
            kept = encode_row(row)
            if kept != record:
                self.writes.append((DATA, key, kept))

    def _purge_row(self, row: Row, elements: StoredKeys, shadowed: int) -> int:
        """Remove from a row and its elements what isn't needed; returns how many elements are left."""
        if row.deletion is not None:
            timestamp, local_time = row.deletion
            if timestamp <= shadowed:
                row.deletion = None
            else:
                shadowed = timestamp
                if not self._stays(local_time):
                    row.deletion = None
        marker = row.marker
        if marker is not None:
            expired = marker[1] == EXPIRING and not self._stays_expiring(marker[2])
            if expired or marker[0] <= shadowed:
                row.marker = None

        known = self.rows.table.by_id
        next_column_id = self.rows.table.next_column_id
        complex_deletions: dict[int, int] = {}
        cells: dict[int, Cell] = {}
        for column_id, cell in row.cells.items():
            if cell[1] == COMPLEX_DELETION:
                complex_deletions[column_id] = cell[0]
            if column_id not in known and column_id < next_column_id:
                continue
            kept = self._purge_cell(cell, shadowed)
            if kept is not None:
                cells[column_id] = kept
        row.cells = cells

        left = 0
        for column_id, key, record in elements:
            cell, raw_path = decode_element(record)
            kept = None
            if column_id in known or column_id >= next_column_id:
                kept = self._purge_cell(cell, max(shadowed, complex_deletions.get(column_id, NEVER)))
            if kept is None:
                self.writes.append((DATA, key, None))
                continue
            left += 1
            if kept is not cell:
                self.writes.append((DATA, key, encode_element(kept, raw_path)))
        return left

    def _purge_cell(self, cell: Cell, shadowed: int) -> Cell | None:
        timestamp, kind, local_time, value, ttl = cell
        if timestamp <= shadowed:
            return None
        if kind == LIVE:
            return cell
        if kind == COUNTER:
            return counted_after(cell, shadowed)
        if kind == EXPIRING:
            if not self._stays_expiring(local_time):
                return None
            if local_time <= self.now_s and value:
                return (timestamp, EXPIRING, local_time, b"", ttl)
            return cell
        assert kind in (TOMBSTONE, COMPLEX_DELETION)
        return cell if self._stays(local_time) else None

    def _stays(self, local_time: int) -> bool:
        """Whether a tombstone is still within gc grace."""
        due = local_time + self.use.gc_grace_s
        if due <= self.now_s:
            return False
        self.next_due = min(self.next_due, due)
        return True

    def _stays_expiring(self, expires_at: int) -> bool:
        if expires_at > self.now_s:
            self.next_due = min(self.next_due, expires_at)
            return True
        return self._stays(expires_at)

    def _finish(self, header: Header, deleted: int) -> None:
        """The header, what hangs on it, and the index, in one batch."""
        undisturbed = self.use.watched == self.position
        self.use.watched = None
        writes = self.writes
        self._purge_ranges(header, deleted, undisturbed)
        self._purge_static(header, deleted)
        if header.deletion is not None and not self._stays(header.deletion[1]):
            if undisturbed:
                header.deletion = None
            else:
                self.next_due = self.now_s

        key = self.prefix + HEADER_BYTE
        stored = next((record for _, record in self.store.scan(DATA, key, key + b"\x00")), None)
        if stored is not None:
            if header.deletion is None and not header.has_ranges and header.static is None:
                writes.append((DATA, key, None))
            else:
                kept = encode_header(header)
                if kept != stored:
                    writes.append((DATA, key, kept))

        writes.append((EXPIRY, self.due, None))
        again = None
        if self.next_due != FAR:
            again = entry(self.next_due, self.now_s, self.prefix[:4], self.position)
            writes.append((EXPIRY, again, b""))
        self._write()
        self.use.indexed.pop(self.due, None)
        if again is not None:
            self.use.remember(again)

    def _purge_ranges(self, header: Header, deleted: int, undisturbed: bool) -> None:
        if not header.has_ranges:
            return
        base = self.prefix + RANGE_TOMBSTONE_BYTE
        left = False
        for start, _, (timestamp, local_time) in overlapping(self.store, base, FIRST, LAST):
            if timestamp > deleted:
                if self._stays(local_time):
                    left = True
                    continue
                if not undisturbed:
                    self.next_due = self.now_s
                    left = True
                    continue
            self.writes.append((DATA, base + start, None))
        header.has_ranges = left

    def _purge_static(self, header: Header, deleted: int) -> None:
        base = self.prefix + STATIC_ELEMENT_BYTE
        size = len(base)
        elements = [
            (_COLUMN.unpack_from(key, size)[0], key, record)
            for key, record in self.store.scan(DATA, base, base + LAST)
        ]
        if header.static is None and not elements:
            return
        static = header.static or Row()
        self._purge_row(static, elements, deleted)
        header.static = None if static.is_empty() else static

    def _write(self) -> None:
        if self.writes:
            self.store.apply(self.writes)
            self.writes = []
