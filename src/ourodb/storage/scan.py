"""Reading a run of partitions from one pass over their keys.

A partition's keys come in the order in which they are needed: header, elements of static columns, range tombstones,
rows. ``PartitionScan`` takes them one by one and gives rows as they are complete; the loop around it seeks where many
keys aren't wanted, instead of stepping over them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence, Set
from typing import Final

from ourodb.ports import Store
from ourodb.storage.families import DATA
from ourodb.storage.keys import (
    FIRST,
    HEADER,
    LAST,
    RANGE_TOMBSTONE,
    ROW,
    ROW_BYTE,
    STATIC_ELEMENT,
    Slice,
    TableKeys,
    after_row,
    position_end,
)
from ourodb.storage.ranges import Fragment, RangeCursor
from ourodb.storage.record import decode_range
from ourodb.storage.resolve import StoredElement, open_partition, resolve_group, resolve_record
from ourodb.storage.row import PAUSE, LivePartition, LiveRow, Pause
from ourodb.storage.tombstones import TombstoneWatch
from ourodb.storage.tombstones import TooManyTombstones as TooManyTombstones

SKIP_KEYS_MAX: Final = 32
"""Keys that a scan steps over before it seeks past them."""

_COLUMN = struct.Struct(">H")


class ScanView:
    """What a scan must know of its table and its query."""

    __slots__ = ("keys", "known", "multicell", "now_s", "slices", "static_alone", "watch")

    def __init__(
        self,
        keys: TableKeys,
        known: Set[int] | None,
        multicell: bool,
        now_s: int,
        slices: Sequence[Slice],
        static_alone: bool,
        watch: TombstoneWatch,
    ) -> None:
        self.keys = keys
        self.known = known
        self.multicell = multicell
        self.now_s = now_s
        self.slices = slices
        self.static_alone = static_alone
        self.watch = watch


class PartitionScan:
    """One partition on its way through a scan.

    Attributes:
        prefix: what its keys begin with.
        skip_to: the last key wasn't wanted, nor is any before this one.
    """

    __slots__ = (
        "_any_row",
        "_clustering_key",
        "_elements",
        "_fragments",
        "_header",
        "_opened",
        "_ranges",
        "_record",
        "_row_prefix",
        "_size",
        "_slice_at",
        "_slices",
        "_static_alone",
        "_static_elements",
        "_view",
        "partition",
        "prefix",
        "skip_to",
    )

    def __init__(self, view: ScanView, prefix: bytes, resume_after: bytes | None) -> None:
        self._view = view
        self.prefix = prefix
        self.partition = LivePartition(view.keys, prefix[4:], view.watch)
        self.skip_to: bytes | None = None
        self._size = len(prefix)
        slices = view.slices
        if resume_after is not None:
            slices = after_row(slices, resume_after)
        self._slices = None if len(slices) == 1 and slices[0] == (FIRST, LAST) else slices
        self._slice_at = 0
        self._static_alone = view.static_alone and resume_after is None
        self._any_row = False
        self._opened = False
        self._header: bytes | None = None
        self._static_elements: list[StoredElement] = []
        self._fragments: list[Fragment] = []
        self._ranges: RangeCursor | None = None
        # The row whose keys are coming in, in a table with multicell columns.
        self._clustering_key: bytes | None = None
        self._row_prefix = b""
        self._record: bytes | None = None
        self._elements: list[StoredElement] = []

    def feed(self, key: bytes, value: bytes) -> LiveRow | None:
        """Take the next key; a row if that completes one that is live."""
        kind = key[self._size]
        if kind == ROW:
            return self._feed_row(key, value)
        after = self._size + 1
        if kind == HEADER:
            self._header = value
        elif kind == STATIC_ELEMENT:
            self._static_elements.append((_COLUMN.unpack_from(key, after)[0], key[after + 2 :], value))
        elif kind == RANGE_TOMBSTONE:
            end, deletion = decode_range(value)
            self._fragments.append((key[after:], end, deletion))
            self.partition.met(1)
        return None

    def finish(self) -> LiveRow | None:
        """No more keys: the last row, or the row that stands for the statics alone."""
        if not self._opened:
            self._open()
        if self.partition.done:
            return None
        row = self._complete_row()
        if row is None and self._static_alone and not self._any_row and self.partition.static is not None:
            return LiveRow(self.partition, None, None, {})
        return row

    def _feed_row(self, key: bytes, value: bytes) -> LiveRow | None:
        if not self._opened:
            self._open()
        place = key[self._size + 1 :]
        if self.partition.done or not self._is_wanted(place):
            return None
        self.skip_to = None
        view = self._view
        if not view.multicell:
            self._clustering_key = place
            self._record = value
            return self._complete_row()
        row = None
        if self._clustering_key is None or not key.startswith(self._row_prefix):
            row = self._complete_row()
            end = view.keys.clustering_end(key, self._size + 1)
            self._row_prefix = key[:end]
            self._clustering_key = key[self._size + 1 : end]
        at = len(self._row_prefix)
        if at == len(key):
            self._record = value
        else:
            self._elements.append((_COLUMN.unpack_from(key, at + 1)[0], key[at + 3 :], value))
        return row

    def _is_wanted(self, place: bytes) -> bool:
        """Whether a row's or element's place lies in a slice; if not, ``skip_to`` says where to go on."""
        slices = self._slices
        if slices is None:
            return True
        while self._slice_at < len(slices):
            start, end = slices[self._slice_at]
            if place < start:
                self.skip_to = self.prefix + ROW_BYTE + start
                return False
            if place < end:
                return True
            self._slice_at += 1
        self.skip_to = self.prefix + LAST
        return False

    def _complete_row(self) -> LiveRow | None:
        clustering_key = self._clustering_key
        if clustering_key is None:
            return None
        view = self._view
        partition = self.partition
        shadowed = partition.deleted
        if self._ranges is not None:
            shadowed = max(shadowed, self._ranges.covering(clustering_key))
        if view.multicell:
            row = resolve_group(
                partition, clustering_key, self._record, self._elements, shadowed, view.now_s, view.known
            )
            self._record = None
            self._elements = []
        else:
            assert self._record is not None
            row = resolve_record(partition, clustering_key, self._record, shadowed, view.now_s, view.known)
        self._clustering_key = None
        if row is not None:
            self._any_row = True
        return row

    def _open(self) -> None:
        self._opened = True
        if self._header is not None or self._static_elements:
            view = self._view
            open_partition(self.partition, self._header, self._static_elements, view.now_s, view.known)
        if self._fragments:
            self._ranges = RangeCursor(self._fragments)


def scan_partitions(
    store: Store, view: ScanView, first: bytes, stop: bytes, resume_after: bytes | None, pause_every: int
) -> Iterator[LiveRow | Pause]:
    """The live rows of all partitions with keys in [first, stop). See ``TableRows.scan``."""
    current: PartitionScan | None = None
    pause_in = pause_every
    seek: bytes | None = first
    while seek is not None:
        start, seek = seek, None
        skipped = 0
        for key, value in store.scan(DATA, start, stop):
            if current is None or not key.startswith(current.prefix):
                if current is not None:
                    row = current.finish()
                    if row is not None:
                        yield row
                prefix = key[: position_end(key)]
                current = PartitionScan(view, prefix, resume_after if prefix == first else None)
                skipped = 0
            row = current.feed(key, value)
            if row is not None:
                yield row
            if current.partition.done:
                current.skip_to = current.prefix + LAST
            if current.skip_to is not None:
                skipped += 1
                if skipped > SKIP_KEYS_MAX:
                    seek = current.skip_to
                    break
            if pause_every:
                pause_in -= 1
                if pause_in <= 0:
                    pause_in = pause_every
                    yield PAUSE
    if current is not None:
        row = current.finish()
        if row is not None:
            yield row
