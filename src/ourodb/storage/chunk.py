"""What a replica gives for a read: the stored records of some rows, as they are.

A *chunk* covers a read up to where it says it ends: whatever the replica holds there is in it, deletions included. It
is a list of mutations, one for each partition, since that is the form in which records travel. So the coordinator can
merge the chunks of several replicas with the very ``merge`` that writes go through, cut them where the shortest ends,
resolve the result as if it were its own store's (``store_of``), and send each replica what it lacks (``lacking``) as a
write. A replica that holds fewer live rows than others needs no special care: its chunk says how far it went.

Replicas that hold the same data give the same *digest*, whatever their stores have purged and whenever tombstones
arrived there: it is taken over what the records mean at the coordinator's ``now``, without what a deletion above
shadows, what has expired long ago, and tombstones that gc grace lets go.

Source: Cassandra's ``ReadResponse``, ``DataResolver`` and short-read protection, which this replaces.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from ourodb.ports import LATER, Later
from ourodb.storage.apply import TableUse
from ourodb.storage.families import DATA
from ourodb.storage.keys import (
    ALL_ROWS,
    FIRST,
    HEADER_BYTE,
    LAST,
    RANGE_TOMBSTONE_BYTE,
    ROW,
    ROW_BYTE,
    STATIC_ELEMENT_BYTE,
    Slice,
    after_row,
    next_position,
    position_end,
)
from ourodb.storage.memory import MemoryStore
from ourodb.storage.merge import merge
from ourodb.storage.mutation import KeyedRecord, Mutation, decode_mutation
from ourodb.storage.ranges import Fragment, RangeCursor, add, overlapping
from ourodb.storage.record import (
    COMPLEX_DELETION,
    COUNTER,
    ELEMENT_FORMAT,
    EXPIRING,
    HEADER_FORMAT,
    LIVE,
    NEVER,
    RANGE_FORMAT,
    TOMBSTONE,
    CorruptRecord,
    Row,
    decode_element,
    decode_header,
    decode_range,
    decode_row,
    encode_range,
    greatest_timestamp,
    is_plain,
)
from ourodb.storage.row import LiveRow, Wait
from ourodb.storage.rows import TableRows

DIGEST_BYTES: Final = 16

_COUNT = struct.Struct(">I")
_SHORT = struct.Struct(">H")
_ENDLESS = b"\x00"

End = tuple[bytes, bytes | None]
"""(position, clustering key of the last row covered, None for the whole partition)."""


class Chunk:
    """Records of some rows.

    Attributes:
        partitions: in the order of the read, each with its records in order of key; empty ones are left out.
        end: up to where the read is covered; None: all of it.
    """

    __slots__ = ("end", "partitions")

    def __init__(self, partitions: list[Mutation], end: End | None = None) -> None:
        self.partitions = partitions
        self.end = end

    def encode(self) -> bytes:
        """``u8 ends early | u32 partitions | mutations | [u16 length, position | u8 has row | clustering key]``."""
        parts = [b"\x00" if self.end is None else b"\x01", _COUNT.pack(len(self.partitions))]
        parts += [partition.encode() for partition in self.partitions]
        if self.end is not None:
            position, clustering_key = self.end
            parts += [_SHORT.pack(len(position)), position]
            parts.append(b"\x00" if clustering_key is None else b"\x01" + clustering_key)
        return b"".join(parts)


def decode_chunk(buf: bytes) -> Chunk:
    """Inverse of ``Chunk.encode``.

    Raises:
        CorruptRecord: the bytes are no chunk.
    """
    try:
        (count,) = _COUNT.unpack_from(buf, 1)
        offset = 5
        partitions = []
        for _ in range(count):
            partition, offset = decode_mutation(buf, offset)
            partitions.append(partition)
        if not buf[0]:
            return Chunk(partitions)
        (length,) = _SHORT.unpack_from(buf, offset)
        offset += 2
        position = buf[offset : offset + length]
        offset += length
        return Chunk(partitions, (position, buf[offset + 1 :] if buf[offset] else None))
    except (struct.error, IndexError) as error:
        raise CorruptRecord("a chunk ends too early") from error


# Reading


def read_row(rows: TableRows, position: bytes, clustering_key: bytes) -> Mutation | Wait | None:
    """All that is stored about one row, the deletions above it included; None when nothing is."""
    incarnation = rows.use.incarnation
    base = incarnation + position
    key = b"%b\x40%b" % (base, clustering_key)
    if not rows.use.has_headers and not rows.is_multicell:
        record = rows.store.get(DATA, key)
        if record is None:
            return None
        if record is LATER:
            return Wait(key)
        assert not isinstance(record, Later)
        return Mutation(rows.table.incarnation, position, [(key[len(base) :], record)])
    writes = _above(rows, position, clustering_key, clustering_key + b"\x00")
    end = clustering_key + LAST if rows.is_multicell else clustering_key + b"\x00"
    start = base + ROW_BYTE
    writes += [(key[len(base) :], record) for key, record in rows.store.scan(DATA, key, start + end)]
    return Mutation(rows.table.incarnation, position, writes) if writes else None


def read_slices(
    rows: TableRows,
    position: bytes,
    slices: Sequence[Slice],
    *,
    reverse: bool = False,
    rows_max: int,
    bytes_max: int,
    keys_max: int,
) -> Chunk:
    """The rows of some slices of one partition, its static row and the deletions above them.

    Args:
        slices: in storage order; the rest of them after ``after_row`` for the next chunk.
        rows_max, bytes_max, keys_max: the chunk ends after the row that reaches one of them.
    """
    writes, last, complete = _read_slices(rows, position, slices, reverse, rows_max, bytes_max, keys_max)
    partitions = [Mutation(rows.table.incarnation, position, writes)] if writes else []
    return Chunk(partitions, None if complete else (position, last))


def read_range(
    rows: TableRows,
    start: bytes,
    end: bytes | None,
    slices: Sequence[Slice] = ALL_ROWS,
    *,
    resume_after: bytes | None = None,
    rows_max: int,
    bytes_max: int,
    keys_max: int,
) -> Chunk:
    """The same rows of every partition in [start, end).

    Args:
        resume_after: go on after this row in the partition whose position is ``start``.
    """
    store = rows.store
    incarnation = rows.use.incarnation
    stop = rows.keys.end if end is None else incarnation + end
    if (
        tuple(slices) == ALL_ROWS
        and resume_after is None
        and not rows.use.has_headers
        and not rows.is_multicell
    ):
        return _read_plain_range(rows, incarnation + start, stop, rows_max, bytes_max, keys_max)
    partitions: list[Mutation] = []
    cursor = incarnation + start
    while True:
        first = next(store.scan(DATA, cursor, stop), None)
        if first is None:
            return Chunk(partitions)
        position = first[0][4 : position_end(first[0])]
        wanted = slices
        if resume_after is not None and position == start:
            wanted = after_row(slices, resume_after)
        writes, last, complete = _read_slices(rows, position, wanted, False, rows_max, bytes_max, keys_max)
        if writes:
            partitions.append(Mutation(rows.table.incarnation, position, writes))
        if not complete:
            return Chunk(partitions, (position, last))
        rows_max -= sum(suffix[0] == ROW for suffix, _ in writes)
        bytes_max -= sum([len(suffix) + len(record) for suffix, record in writes])
        keys_max -= len(writes) + 2
        if rows_max <= 0 or bytes_max <= 0 or keys_max <= 0:
            return Chunk(partitions, (position, None))
        cursor = incarnation + next_position(position)


def _read_plain_range(
    rows: TableRows, start: bytes, stop: bytes, rows_max: int, bytes_max: int, keys_max: int
) -> Chunk:
    """As ``read_range``, where each key is a row and all are wanted."""
    partitions: list[Mutation] = []
    writes: list[KeyedRecord] = []
    left = min(rows_max, keys_max)
    prefix = stop
    size = 0
    for key, record in rows.store.scan(DATA, start, stop):
        if left <= 0 or bytes_max <= 0:
            position = partitions[-1].position
            return Chunk(partitions, (position, writes[-1][0][1:] if key.startswith(prefix) else None))
        if not key.startswith(prefix):
            size = position_end(key)
            prefix = key[:size]
            writes = []
            partitions.append(Mutation(rows.table.incarnation, prefix[4:], writes))
        writes.append((key[size:], record))
        left -= 1
        bytes_max -= len(key) + len(record)
    return Chunk(partitions)


def _read_slices(
    rows: TableRows,
    position: bytes,
    slices: Sequence[Slice],
    reverse: bool,
    rows_max: int,
    bytes_max: int,
    keys_max: int,
) -> tuple[list[KeyedRecord], bytes | None, bool]:
    """(records, clustering key of the last row, whether that was all)."""
    if not slices:
        return _above(rows, position, FIRST, FIRST), None, True
    size = 4 + len(position)
    base = rows.use.incarnation + position + ROW_BYTE
    found: list[KeyedRecord] = []
    multicell = rows.is_multicell
    clustering_end = rows.keys.clustering_end
    prefix: bytes | None = None
    complete = True
    for low, high in reversed(slices) if reverse else slices:
        for key, record in rows.store.scan(DATA, base + low, base + high, reverse=reverse):
            if prefix is None or not (multicell and key.startswith(prefix)):
                if prefix is not None and (rows_max <= 0 or bytes_max <= 0 or keys_max <= 0):
                    complete = False
                    break
                prefix = key[: clustering_end(key, size + 1)] if multicell else key
                rows_max -= 1
            found.append((key[size:], record))
            bytes_max -= len(key) + len(record)
            keys_max -= 1
        if not complete:
            break
    last = None if prefix is None else prefix[size + 1 :]
    covered_low, covered_high = slices[0][0], slices[-1][1]
    if not complete:
        assert last is not None
        if reverse:
            covered_low = last
        else:
            covered_high = last + LAST
    if reverse:
        found.reverse()
    return _above(rows, position, covered_low, covered_high) + found, last, complete


def _above(rows: TableRows, position: bytes, low: bytes, high: bytes) -> list[KeyedRecord]:
    """What stands above the rows between two bounds: header, static elements, range tombstones."""
    if not rows.use.has_headers:
        return []
    base = rows.use.incarnation + position
    size = len(base)
    scan = rows.store.scan(DATA, base + HEADER_BYTE, base + RANGE_TOMBSTONE_BYTE)
    found = [(key[size:], record) for key, record in scan]
    for start, end, deletion in overlapping(rows.store, base + RANGE_TOMBSTONE_BYTE, low, high):
        found.append((RANGE_TOMBSTONE_BYTE + start, encode_range(end, deletion)))
    return found


# Merging


def merge_partitions(partitions: Sequence[Mutation]) -> Mutation:
    """What several replicas' records of one partition say together."""
    if len(partitions) == 1:
        return partitions[0]
    records: dict[bytes, bytes] = {}
    fragments: list[Fragment] = []
    for partition in partitions:
        for suffix, record in partition.writes:
            if record[0] == RANGE_FORMAT:
                end, deletion = decode_range(record)
                fragments = add(fragments, suffix[1:], end, deletion)
                continue
            known = records.get(suffix)
            records[suffix] = record if known is None or known == record else merge(known, record)
    for start, end, deletion in fragments:
        records[RANGE_TOMBSTONE_BYTE + start] = encode_range(end, deletion)
    return Mutation(partitions[0].incarnation, partitions[0].position, sorted(records.items()))


def shortest(chunks: Sequence[Chunk], *, reverse: bool = False) -> End | None:
    """Up to where all of the chunks cover the read; None: all cover all of it."""
    ends = [chunk.end for chunk in chunks if chunk.end is not None]
    if not ends:
        return None
    # A partition that is wholly covered ends after each of its rows.
    return min(ends, key=lambda end: (end[0], _row_order(end[1], reverse)))


def _row_order(clustering_key: bytes | None, reverse: bool) -> Any:
    if reverse:
        return bytes(255 - byte for byte in clustering_key or b"") + b"\xff"
    return LAST if clustering_key is None else clustering_key


def cut(chunk: Chunk, end: End | None, *, reverse: bool = False) -> list[Mutation]:
    """The partitions of a chunk without the rows after an end that lies before its own."""
    if end is None or chunk.end == end:
        return chunk.partitions
    position, last = end
    kept = []
    for partition in chunk.partitions:
        if partition.position < position or (partition.position == position and last is None):
            kept.append(partition)
        elif partition.position == position:
            assert last is not None
            if reverse:
                writes = [pair for pair in partition.writes if pair[0][0] != ROW or pair[0][1:] >= last]
            else:
                bound = last + LAST
                writes = [pair for pair in partition.writes if pair[0][0] != ROW or pair[0][1:] < bound]
            kept.append(Mutation(partition.incarnation, partition.position, writes))
    return kept


def store_of(incarnation: bytes, partitions: Iterable[Mutation]) -> MemoryStore:
    """The records as a store, in order of position, for ``TableRows`` to read.

    Args:
        partitions: each position once.
    """
    ordered = sorted(partitions, key=lambda partition: partition.position)
    return MemoryStore.of(
        DATA,
        [
            (b"%b%b%b" % (incarnation, partition.position, suffix), record)
            for partition in ordered
            for suffix, record in partition.writes
        ],
    )


# Meaning


def digest(partitions: Iterable[Mutation], end: End | None, now_s: int, gc_grace_s: int) -> bytes:
    """16 bytes that are equal where the records mean the same.

    Args:
        now_s: the coordinator's time, seconds.
    """
    hashed = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for partition in partitions:
        first = True
        for suffix, meaning in _meanings(partition, now_s, now_s - gc_grace_s):
            if first:
                hashed.update(partition.position)
                first = False
            hashed.update(suffix)
            hashed.update(meaning)
    if end is not None:
        hashed.update(end[0])
        hashed.update(_ENDLESS if end[1] is None else end[1])
    return hashed.digest()


def lacking(merged: Mutation, held: Mutation | None, now_s: int, gc_grace_s: int) -> Mutation | None:
    """What a replica must be given to mean what the merged records mean; None: nothing.

    Args:
        held: what the replica gave.
    """
    gc_before_s = now_s - gc_grace_s
    known = {} if held is None else dict(_meanings(held, now_s, gc_before_s))
    wanted = dict(_meanings(merged, now_s, gc_before_s))
    missing = {suffix for suffix, meaning in wanted.items() if known.get(suffix) != meaning}
    if not missing:
        return None
    # Fragments mean something together only.
    ranges = any(suffix[:1] == RANGE_TOMBSTONE_BYTE for suffix in missing)
    writes = [
        (suffix, record)
        for suffix, record in merged.writes
        if suffix in missing or (ranges and record[0] == RANGE_FORMAT)
    ]
    return Mutation(merged.incarnation, merged.position, writes) if writes else None


def _meanings(partition: Mutation, now_s: int, gc_before_s: int) -> Iterator[tuple[bytes, bytes]]:
    """(key suffix, what its record means now), in order, without what means nothing any more."""
    deleted = NEVER
    fragments: list[Fragment] = []
    static: Row | None = None
    first = partition.writes[0] if partition.writes else None
    if first is not None and first[1][0] == HEADER_FORMAT:
        header = decode_header(first[1])
        static = header.static
        if header.deletion is not None:
            deleted = header.deletion[0]
        kept = None if header.deletion is None or header.deletion[1] < gc_before_s else header.deletion[0]
        cells = None if static is None else _row_meaning(static, deleted, now_s, gc_before_s)
        if kept is not None or cells is not None:
            yield first[0], _packed((kept, cells))
    for suffix, record in partition.writes:
        if record[0] == RANGE_FORMAT:
            end, deletion = decode_range(record)
            if deletion[0] > deleted:
                fragments.append((suffix[1:], end, deletion))
    for start, end, (timestamp, arrived_s) in _joined(fragments):
        if arrived_s >= gc_before_s:
            yield RANGE_TOMBSTONE_BYTE + start, _packed((end, timestamp))
    cursor = RangeCursor(fragments) if fragments else None
    row_prefix = b""
    shadowed = deleted
    complex_deletions: dict[int, int] = {}
    if static is not None:
        complex_deletions = _complex_deletions(static)
    for suffix, record in partition.writes:
        record_format = record[0]
        if record_format in (HEADER_FORMAT, RANGE_FORMAT):
            continue
        if record_format == ELEMENT_FORMAT:
            if suffix[:1] == STATIC_ELEMENT_BYTE:
                column_id = suffix[1] << 8 | suffix[2]
                above = deleted
            else:
                if not row_prefix or not suffix.startswith(row_prefix):
                    # An element without a row record: it belongs to a row that has nothing else.
                    shadowed = deleted if cursor is None else max(deleted, cursor.covering(suffix[1:]))
                    complex_deletions = {}
                    row_prefix = b""
                    column_id, above = -1, shadowed
                else:
                    at = len(row_prefix)
                    column_id = suffix[at + 1] << 8 | suffix[at + 2]
                    above = shadowed
            above = max(above, complex_deletions.get(column_id, NEVER))
            meaning = _element_meaning(record, above, now_s, gc_before_s)
            if meaning is not None:
                yield suffix, meaning
            continue
        shadowed = deleted
        if cursor is not None:
            shadowed = max(deleted, cursor.covering(suffix[1:]))
        row_prefix = suffix
        if is_plain(record):
            complex_deletions = {}
            if greatest_timestamp(record) > shadowed:
                yield suffix, record
            continue
        row = decode_row(record)
        complex_deletions = _complex_deletions(row)
        cells = _row_meaning(row, shadowed, now_s, gc_before_s)
        if row.deletion is not None:
            shadowed = max(shadowed, row.deletion[0])
        if cells is not None:
            yield suffix, _packed(cells)


def _joined(fragments: Sequence[Fragment]) -> list[Fragment]:
    """Neighbours of one timestamp made one, whenever each arrived."""
    found: list[Fragment] = []
    for start, end, (timestamp, arrived_s) in fragments:
        if found and found[-1][1] == start and found[-1][2][0] == timestamp:
            before = found[-1]
            found[-1] = (before[0], end, (timestamp, max(before[2][1], arrived_s)))
        else:
            found.append((start, end, (timestamp, arrived_s)))
    return found


def _complex_deletions(row: Row) -> dict[int, int]:
    return {column_id: cell[0] for column_id, cell in row.cells.items() if cell[1] == COMPLEX_DELETION}


def _row_meaning(row: Row, shadowed: int, now_s: int, gc_before_s: int) -> list[Any] | None:
    """What is left of a row that isn't plain, in a form that can be packed; None: nothing."""
    deletion = row.deletion
    kept_deletion = None
    if deletion is not None and deletion[0] > shadowed:
        shadowed = deletion[0]
        if deletion[1] >= gc_before_s:
            kept_deletion = deletion[0]
    marker = row.marker
    kept_marker = None
    if marker is not None and marker[0] > shadowed and (marker[1] == LIVE or marker[2] >= gc_before_s):
        kept_marker = marker
    cells: list[Any] = []
    for column_id in sorted(row.cells):
        timestamp, kind, local_s, value, ttl = row.cells[column_id]
        if timestamp <= shadowed and kind != COUNTER:
            continue
        if kind in (LIVE, COUNTER):
            cells.append((column_id, timestamp, kind, value))
        elif kind == EXPIRING:
            if local_s > now_s:
                cells.append((column_id, timestamp, kind, local_s, value, ttl))
            elif local_s >= gc_before_s:
                cells.append((column_id, timestamp, kind, local_s))
        elif local_s >= gc_before_s:
            cells.append((column_id, timestamp, kind))
    if kept_deletion is None and kept_marker is None and not cells:
        return None
    return [kept_deletion, kept_marker, cells, row.raw_clustering]


def _element_meaning(record: bytes, shadowed: int, now_s: int, gc_before_s: int) -> bytes | None:
    (timestamp, kind, local_s, value, ttl), raw_path = decode_element(record)
    if timestamp <= shadowed:
        return None
    if kind == TOMBSTONE:
        return _packed((timestamp, kind)) if local_s >= gc_before_s else None
    if kind == EXPIRING and local_s <= now_s:
        return _packed((timestamp, kind, local_s)) if local_s >= gc_before_s else None
    return _packed((timestamp, kind, local_s, value, ttl, raw_path))


_packed = msgspec.msgpack.Encoder().encode


def rows_of(rows: TableRows, partitions: Sequence[Mutation]) -> TableRows:
    """The table's rows as they would be if nothing but these records were stored."""
    store = store_of(rows.use.incarnation, partitions)
    use = TableUse(store, rows.use.incarnation, rows.use.gc_grace_s)
    use.has_headers = any(suffix[0] != ROW for partition in partitions for suffix, _ in partition.writes[:1])
    return rows.over(store, use)


def live_row(
    rows: TableRows, chunk: Chunk, position: bytes, clustering_key: bytes, now_s: int
) -> LiveRow | None:
    """The row that a chunk of ``read_row`` holds; None when nothing in it is live."""
    if not chunk.partitions:
        return None
    writes = chunk.partitions[0].writes
    if len(writes) == 1 and writes[0][0][0] == ROW and not rows.is_multicell:
        return rows.resolve(position, clustering_key, writes[0][1], now_s)
    row = rows_of(rows, chunk.partitions).get_row(position, clustering_key, now_s)
    assert not isinstance(row, Wait)
    return row
