"""The rows of tables at rest, as mutations for a table elsewhere: how a snapshot comes into a running cluster.

A table's records are read in order of their keys from one or several stores at once (snapshots of the nodes of one
ring), and what they say of one key is merged (``merged``), so that a row with three copies travels once. A run of
records of one partition becomes one mutation, a long one several (``pieces``). Records are kept as they are:
timestamps, TTLs, deletions, column ids. Applying them again changes nothing, so whoever sends them may repeat what
wasn't acknowledged, or all of it.

What a deletion shadows is left out, the deletion isn't (``unshadowed``). Where gc grace is short the new owners may
purge a deletion before the last mutation of its partition arrives, and nothing would hold down what came after it.

Two kinds of records are changed. A row with more bytes than a message can hold is taken apart into several records of
the same row. And the shards of counters get owners of their own (``renamed_shards``): the nodes that owned them may be
counting in the new table while the old counts arrive, and of two shards of one owner only the newer one would stand.
Such an owner stays the same in every table into which the shard is restored from then on, so that what comes from
several snapshots counts once.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from heapq import merge as in_order
from itertools import groupby
from operator import itemgetter
from typing import Final

from ourodb.limits import RESTORE_MUTATION_BYTES, RESTORE_MUTATION_RECORDS, RESTORE_RECORD_BYTES
from ourodb.storage.counter import SHARD_BYTES
from ourodb.storage.keys import HEADER, HEADER_BYTE, RANGE_TOMBSTONE_BYTE, ROW, STATIC_ELEMENT, TableKeys
from ourodb.storage.merge import merge, shadow
from ourodb.storage.mutation import KeyedRecord, Mutation
from ourodb.storage.ranges import Fragment, RangeCursor, add
from ourodb.storage.record import (
    COMPLEX_DELETION,
    COUNTER,
    HEADER_FORMAT,
    NEVER,
    RANGE_FORMAT,
    ROW_FORMAT,
    Header,
    Row,
    decode_element,
    decode_header,
    decode_range,
    decode_row,
    encode_header,
    encode_row,
    greatest_timestamp,
    is_plain,
)

Record = tuple[bytes, bytes | None, int, int]
"""(key without the incarnation, record or None if nothing of it is to travel, how many stored records it stands for,
how many bytes)."""

_OWNER = struct.Struct(">16sI")
_COLUMN = struct.Struct(">H")
_SUFFIX_AT = 10
_VERSION_AT: Final = 6
"""Of a UUID's bytes, the one that begins with its version. Host ids have version 4."""
_RESTORED_VERSION: Final = 8
"""Of the owners that restored shards get: UUIDs of a making of one's own (RFC 9562)."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A mutation, and what it took to make it.

    Attributes:
        records: stored records that were read for it.
        bytes: their keys and values.
    """

    mutation: Mutation
    records: int
    bytes: int


def merged(sources: Sequence[Iterable[tuple[bytes, bytes]]]) -> Iterator[Record]:
    """The records of one table from several stores, each key once; of range tombstones, each one that differs in
    more than its age.

    Args:
        sources: each in order of key, keys without the incarnation.
    """
    if len(sources) == 1:
        for key, record in sources[0]:
            yield key, record, 1, len(key) + len(record)
        return
    for key, group in groupby(in_order(*sources), itemgetter(0)):
        records = [record for _, record in group]
        copies, size = len(records), sum(len(key) + len(record) for record in records)
        if records[0][0] == RANGE_FORMAT:
            for record in _distinct_ranges(records):
                yield key, record, copies, size
                copies = size = 0
        else:
            yield key, reduce(merge, records), copies, size


def _distinct_ranges(records: Iterable[bytes]) -> Iterable[bytes]:
    """Range tombstones of one start that differ in more than the second in which a node got them; of each the last."""
    found: dict[tuple[bytes, int], bytes] = {}
    for record in records:
        end, deletion = decode_range(record)
        known = found.get((end, deletion[0]))
        if known is None or decode_range(known)[1] < deletion:
            found[end, deletion[0]] = record
    return found.values()


def unshadowed(records: Iterable[Record], keys: TableKeys) -> Iterator[Record]:
    """The records without what deletions in them shadow; a deletion always comes before what it shadows.

    Args:
        records: of one table, as ``merged`` gives them.
        keys: of the table.
    """
    position = b""
    over = _Deletions(keys, b"")
    for key, record, copies, size in records:
        assert record is not None
        if not (position and key.startswith(position)):
            position = key[: _SUFFIX_AT + (key[8] << 8 | key[9])]
            over = _Deletions(keys, position)
        yield key, over.filtered(key, record), copies, size


class _Deletions:
    """What is deleted of one partition, as known from the records so far."""

    __slots__ = ("_complex", "_cursor", "_deleted", "_keys", "_ranges", "_row", "_row_deleted", "_suffix_at")

    def __init__(self, keys: TableKeys, position: bytes) -> None:
        self._keys = keys
        self._suffix_at = len(position)
        self._deleted = NEVER
        self._ranges: list[Fragment] = []
        self._cursor: RangeCursor | None = None
        self._row: bytes | None = None
        """What the keys of the present row begin with."""
        self._row_deleted = NEVER
        self._complex: dict[int, int] = {}

    def filtered(self, key: bytes, record: bytes) -> bytes | None:
        """The record, what is left of it, or None."""
        kind = key[self._suffix_at]
        if kind == ROW:
            return self._of_row(key, record)
        if kind == HEADER:
            header = decode_header(record)
            if header.deletion is not None:
                self._deleted = header.deletion[0]
            if header.static is not None:
                self._complex = _complex_deletions(header.static)
            return record
        if kind == STATIC_ELEMENT:
            (column_id,) = _COLUMN.unpack_from(key, self._suffix_at + 1)
            return self._of_element(column_id, record, self._deleted)
        end, deletion = decode_range(record)
        if deletion[0] <= self._deleted:
            return None
        start = key[self._suffix_at + 1 :]
        if not self._ranges or self._ranges[-1][1] <= start:
            self._ranges.append((start, end, deletion))
        else:
            # Another store's; those of one don't overlap.
            add(self._ranges, start, end, deletion)
        return record

    def _of_row(self, key: bytes, record: bytes) -> bytes | None:
        row_key = self._row
        if record[0] == ROW_FORMAT:
            self._begin_row(key)
            if is_plain(record) and self._row_deleted < greatest_timestamp(record):
                return record
            return self._of_record(record)
        if row_key is None or not key.startswith(row_key):
            row_key = key[: self._keys.clustering_end(key, self._suffix_at + 1)]
            self._begin_row(row_key)
        (column_id,) = _COLUMN.unpack_from(key, len(row_key) + 1)
        return self._of_element(column_id, record, self._row_deleted)

    def _begin_row(self, row_key: bytes) -> None:
        self._row = row_key
        self._complex = {}
        self._row_deleted = self._deleted
        if self._ranges:
            if self._cursor is None:
                self._cursor = RangeCursor(self._ranges)
            covering = self._cursor.covering(row_key[self._suffix_at + 1 :])
            self._row_deleted = max(self._deleted, covering)

    def _of_record(self, record: bytes) -> bytes | None:
        row = decode_row(record)
        self._complex = _complex_deletions(row)
        above = self._row_deleted
        if row.deletion is not None:
            self._row_deleted = max(above, row.deletion[0])
            if row.deletion[0] <= above:
                row.deletion = None
        shadow(row, self._row_deleted)
        if row.is_empty() and row.raw_clustering is None:
            return None
        return encode_row(row)

    def _of_element(self, column_id: int, record: bytes, deleted: int) -> bytes | None:
        cell, _ = decode_element(record)
        return record if cell[0] > max(deleted, self._complex.get(column_id, NEVER)) else None


def _complex_deletions(row: Row) -> dict[int, int]:
    """Timestamps of what multicell columns were overwritten with, by column id."""
    return {column_id: cell[0] for column_id, cell in row.cells.items() if cell[1] == COMPLEX_DELETION}


def pieces(
    records: Iterable[Record],
    incarnation: int,
    *,
    counted_in: int | None,
    records_max: int = RESTORE_MUTATION_RECORDS,
    bytes_max: int = RESTORE_MUTATION_BYTES,
    record_bytes_max: int = RESTORE_RECORD_BYTES,
) -> Iterator[Piece]:
    """Mutations of a bounded size, in order; those with more than ``bytes_max`` hold one record. A header that ranges
    need isn't counted.

    What isn't to travel is counted with what does; the last piece may hold no mutation but a count.

    Args:
        records: of one table, as ``merged`` and ``unshadowed`` give them.
        incarnation: of the table that they are for.
        counted_in: for a table with counters that is another one than that in which they were counted: the incarnation
            that the latter had where the records are from. None: shards stay as they are.
        record_bytes_max: longer ones are taken apart.
    """
    position = b""
    writes: list[KeyedRecord] = []
    read = read_bytes = written = 0
    for key, record, copies, size in records:
        if not (position and key.startswith(position)):
            if writes:
                yield Piece(_mutation(incarnation, position, writes), read, read_bytes)
                writes, read, read_bytes, written = [], 0, 0, 0
            position = key[: _SUFFIX_AT + (key[8] << 8 | key[9])]
        read += copies
        read_bytes += size
        if record is None:
            continue
        if counted_in is not None:
            record = renamed_shards(record, counted_in)
        suffix = key[len(position) :]
        for part in (record,) if len(record) <= record_bytes_max else parts(record, record_bytes_max):
            is_full = written + len(part) > bytes_max or len(writes) == records_max
            if writes and (is_full or writes[-1][0] == suffix):
                yield Piece(_mutation(incarnation, position, writes), read, read_bytes)
                writes, read, read_bytes, written = [], 0, 0, 0
            writes.append((suffix, part))
            written += len(suffix) + len(part)
    if writes or read:
        yield Piece(_mutation(incarnation, position, writes), read, read_bytes)


def _mutation(incarnation: int, position: bytes, writes: list[KeyedRecord]) -> Mutation:
    """With a header where there are ranges: the one that an earlier mutation brought may have been purged since, and
    without one nobody looks for them.
    """
    if writes and writes[0][0] != HEADER_BYTE:
        if any(suffix.startswith(RANGE_TOMBSTONE_BYTE) for suffix, _ in writes):
            writes = [(HEADER_BYTE, encode_header(Header(has_ranges=True))), *writes]
    return Mutation(incarnation, position, writes)


def parts(record: bytes, bytes_max: int) -> list[bytes]:
    """A record as several which merge to it, none with values of more than ``bytes_max`` unless it is one value.

    Only those of rows and headers, which hold many cells, are taken apart.
    """
    if record[0] == ROW_FORMAT:
        return [encode_row(row) for row in _parted(decode_row(record), bytes_max)]
    if record[0] == HEADER_FORMAT:
        header = decode_header(record)
        if header.static is not None:
            rows = _parted(header.static, bytes_max)
            first = encode_header(Header(header.deletion, header.has_ranges, rows[0]))
            return [first, *(encode_header(Header(None, False, row)) for row in rows[1:])]
    return [record]


def _parted(row: Row, bytes_max: int) -> list[Row]:
    """The row's deletion and marker are in the first part; each part has a cell."""
    found = [Row(row.marker, row.deletion, {}, row.raw_clustering)]
    size = 0
    for column_id, cell in sorted(row.cells.items()):
        if size and size + len(cell[3]) > bytes_max:
            found.append(Row(raw_clustering=row.raw_clustering))
            size = 0
        found[-1].cells[column_id] = cell
        size += len(cell[3])
    return found


def renamed_shards(record: bytes, counted_in: int) -> bytes:
    """The record, the shards of its counters under owners that are no nodes.

    An owner is made of the shard's own and the incarnation of the table in which that counted, and is kept from then
    on: whichever tables a shard has come through, its later state replaces the earlier one.
    """
    if record[0] == ROW_FORMAT:
        row = decode_row(record)
        return encode_row(row) if _rename(row, counted_in) else record
    if record[0] == HEADER_FORMAT:
        header = decode_header(record)
        if header.static is not None and _rename(header.static, counted_in):
            return encode_header(header)
    return record


def _rename(row: Row, counted_in: int) -> bool:
    """Whether there was a counter."""
    found = False
    for column_id, (timestamp, kind, local_time, value, ttl) in row.cells.items():
        if kind == COUNTER:
            shards = [
                _renamed(value[at : at + SHARD_BYTES], counted_in) for at in range(0, len(value), SHARD_BYTES)
            ]
            row.cells[column_id] = (timestamp, kind, local_time, b"".join(sorted(shards)), ttl)
            found = True
    return found


def _renamed(shard: bytes, counted_in: int) -> bytes:
    if shard[_VERSION_AT] >> 4 == _RESTORED_VERSION:
        return shard
    owner = shard[: _OWNER.size]
    salt = counted_in.to_bytes(4, "big")
    renamed = bytearray(hashlib.blake2b(owner, digest_size=16, salt=salt, person=b"restored shard").digest())
    renamed[_VERSION_AT] = _RESTORED_VERSION << 4 | renamed[_VERSION_AT] & 0x0F
    return bytes(renamed) + shard[16:]
