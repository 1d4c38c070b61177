"""What a replica gives for a read: the stored records of some rows, as they are.

A *chunk* covers a read up to where it says it ends: whatever the replica holds there is in it, deletions included. It
is a list of mutations, one for each partition, since that is the form in which records travel. So the coordinator can
merge the chunks of several replicas with the very ``merge`` that writes go through, cut them where the shortest ends,
resolve the result as if it were its own store's (``rows_of``), and send each replica what it lacks
(``storage.meaning``) as a write. A replica that holds fewer live rows than others needs no special care: its chunk
says how far it went.

A chunk ends at a bound between rows, never inside of one, and range tombstones are cut to what it covers. So chunks
of the same rows say the same, whatever a store holds beside them.

It ends for its rows, or for what a replica had to look at: partitions and slices without a wanted row count like keys.
So it may be empty, and there is more all the same.

Source: Cassandra's ``ReadResponse``, ``DataResolver`` and short-read protection, which this replaces.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import islice, pairwise
from typing import Final

from ourodb.ports import LATER, Later
from ourodb.storage.apply import TableUse
from ourodb.storage.families import DATA
from ourodb.storage.keys import (
    ALL_ROWS,
    FIRST,
    HEADER_BYTE,
    LAST,
    RANGE_TOMBSTONE,
    RANGE_TOMBSTONE_BYTE,
    ROW,
    ROW_BYTE,
    Slice,
    after_row,
    intersect,
    next_position,
    position_end,
)
from ourodb.storage.meaning import digest as digest
from ourodb.storage.meaning import lacking as lacking
from ourodb.storage.memory import MemoryStore
from ourodb.storage.merge import merge
from ourodb.storage.mutation import KeyedRecord, Mutation, decode_mutation
from ourodb.storage.ranges import Fragment, overlapping
from ourodb.storage.record import (
    HEADER_RANGES,
    RANGE_FORMAT,
    CorruptRecord,
    Deletion,
    decode_range,
    encode_range,
)
from ourodb.storage.row import LiveRow, Wait
from ourodb.storage.rows import TableRows
from ourodb.storage.scan import PartitionScan, ScanView
from ourodb.storage.tombstones import TombstoneWatch

_COUNT = struct.Struct(">I")
_ENDLESS: Final = 1 << 62

End = tuple[bytes, bytes | None]
"""(position, bound): the partition is covered up to that bound, or from it on when it is read in reverse; None: all of
it is. The partitions before it are covered wholly."""


class Chunk:
    """Records of some rows.

    Attributes:
        partitions: in the order of the read, each with its records in order of key; empty ones are left out.
        end: up to where the read is covered; None: all of it.
        visited: keys, and places without one, that this node looked at for it; 0 if it is another node's.
    """

    __slots__ = ("end", "partitions", "visited")

    def __init__(self, partitions: list[Mutation], end: End | None = None, visited: int = 0) -> None:
        self.partitions = partitions
        self.end = end
        self.visited = visited

    def encode(self) -> bytes:
        """``u8 ends early | u32 partitions | mutations | [u32 length, position | u8 has bound | bound]``."""
        partitions = self.partitions
        if len(partitions) == 1 and self.end is None:
            # A row that was read by its key, as a rule.
            return b"\x00\x00\x00\x00\x01" + partitions[0].encode()
        parts = [b"\x00" if self.end is None else b"\x01", _COUNT.pack(len(partitions))]
        parts += [partition.encode() for partition in partitions]
        if self.end is not None:
            position, bound = self.end
            parts += [_COUNT.pack(len(position)), position, b"\x00" if bound is None else b"\x01" + bound]
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
        (length,) = _COUNT.unpack_from(buf, offset)
        offset += 4
        position = buf[offset : offset + length]
        offset += length
        return Chunk(partitions, (position, buf[offset + 1 :] if buf[offset] else None))
    except (struct.error, IndexError) as error:
        raise CorruptRecord("a chunk ends too early") from error


def covered(slices: Sequence[Slice], bound: bytes | None, *, reverse: bool = False) -> Sequence[Slice]:
    """What of the slices a chunk that ends at this bound covers."""
    if bound is None:
        return slices
    return intersect(slices, ((bound, LAST),) if reverse else ((FIRST, bound),))


def beyond(slices: Sequence[Slice], bound: bytes | None, *, reverse: bool = False) -> Sequence[Slice]:
    """What it leaves for the next chunk."""
    if bound is None:
        return ()
    return intersect(slices, ((FIRST, bound),) if reverse else ((bound, LAST),))


# Reading


def read_row(rows: TableRows, position: bytes, clustering_key: bytes) -> Mutation | Wait | None:
    """All that is stored about one row, the deletions above it included; None when nothing is.

    Raises:
        TooManyTombstones: the row has too many elements to be read.
    """
    base = rows.use.incarnation + position
    key = b"%b\x40%b" % (base, clustering_key)
    if not rows.use.has_headers and not rows.is_multicell:
        record = rows.store.get(DATA, key)
        if record is None:
            return None
        if record is LATER:
            return Wait(key)
        assert not isinstance(record, Later)
        return Mutation(rows.table.incarnation, position, [(key[len(base) :], record)])
    slices = ((clustering_key, clustering_key + LAST),)
    writes = read_slices(rows, position, slices, rows_max=1, bytes_max=1, keys_max=_ENDLESS).partitions
    return writes[0] if writes else None


def read_slices(
    rows: TableRows,
    position: bytes,
    slices: Sequence[Slice],
    *,
    reverse: bool = False,
    now_s: int = 0,
    rows_max: int,
    bytes_max: int,
    keys_max: int,
) -> Chunk:
    """The rows of some slices of one partition, its static row and the deletions above them.

    Args:
        slices: in storage order and without overlaps; what is ``beyond`` the end for the next chunk.
        now_s: as of when, seconds: what has expired by then counts as a tombstone.
        rows_max, bytes_max, keys_max: the chunk ends after the row that reaches one of them. Range tombstones, and
            slices without a row, count as keys.
    Raises:
        TooManyTombstones: one row alone has too many.
    """
    room = _Room(rows_max, bytes_max, keys_max)
    writes, bound = _read_partition(rows, position, slices, reverse, now_s, room)
    partitions = [Mutation(rows.table.incarnation, position, writes)] if writes else []
    return Chunk(partitions, None if bound is None else (position, bound), room.visited)


def read_range(
    rows: TableRows,
    start: bytes,
    end: bytes | None,
    slices: Sequence[Slice] = ALL_ROWS,
    *,
    resume_after: bytes | None = None,
    now_s: int = 0,
    rows_max: int,
    bytes_max: int,
    keys_max: int,
) -> Chunk:
    """The same rows of every partition in [start, end).

    Args:
        resume_after: go on after this row in the partition whose position is ``start``.
        rows_max, bytes_max, keys_max: as for ``read_slices``; each partition counts as a key, too.
    Raises:
        TooManyTombstones: one row alone has too many.
    """
    store = rows.store
    incarnation = rows.use.incarnation
    stop = rows.keys.end if end is None else incarnation + end
    room = _Room(rows_max, bytes_max, keys_max)
    if (
        tuple(slices) == ALL_ROWS
        and resume_after is None
        and not rows.use.has_headers
        and not rows.is_multicell
    ):
        return _read_plain_range(rows, incarnation + start, stop, room)
    partitions: list[Mutation] = []
    cursor = incarnation + start
    while True:
        first = next(store.scan(DATA, cursor, stop), None)
        if first is None:
            return Chunk(partitions, None, room.visited)
        room.keys -= 1
        position = first[0][4 : position_end(first[0])]
        wanted = slices
        if resume_after is not None and position == start:
            wanted = after_row(slices, resume_after)
        writes, bound = _read_partition(rows, position, wanted, False, now_s, room)
        if writes:
            partitions.append(Mutation(rows.table.incarnation, position, writes))
        if bound is not None or room.is_used_up or room.is_used_up_above:
            return Chunk(partitions, (position, bound), room.visited)
        cursor = incarnation + next_position(position)


class _Room:
    """What may still go into a chunk.

    What stands above the rows of a partition goes into each of its chunks again. It takes half of the room at most, so
    that there are many rows beside it.

    Attributes:
        rows, bytes, keys: what rows may take.
        bytes_above, keys_above: what headers, elements of static columns and range tombstones may take of that.
    """

    __slots__ = ("_keys_max", "bytes", "bytes_above", "keys", "keys_above", "rows")

    def __init__(self, rows: int, bytes: int, keys: int) -> None:
        self.rows = rows
        self.bytes = bytes
        self.bytes_above = bytes // 2
        self.keys = keys
        self.keys_above = keys // 2
        self._keys_max = keys

    def take_above(self, keys: int, size: int) -> None:
        """So many keys with so many bytes stand above rows."""
        self.keys -= min(keys, max(self.keys_above, 0))
        self.keys_above -= keys
        self.bytes -= min(size, max(self.bytes_above, 0))
        self.bytes_above -= size

    @property
    def is_used_up(self) -> bool:
        return self.rows <= 0 or self.bytes <= 0 or self.keys <= 0

    @property
    def is_used_up_above(self) -> bool:
        """Another partition, with what stands above its rows, would be too much."""
        return self.bytes_above < 0 or self.keys_above < 0

    @property
    def ranges_max(self) -> int:
        """Range tombstones that one partition may give to the chunk."""
        return max(self._keys_max // 2, 1)

    @property
    def visited(self) -> int:
        """What was looked at so far, as it is counted."""
        return self._keys_max - self.keys - min(self.keys_above, 0)


def _read_plain_range(rows: TableRows, start: bytes, stop: bytes, room: _Room) -> Chunk:
    """As ``read_range``, where each key is a row and all are wanted."""
    partitions: list[Mutation] = []
    writes: list[KeyedRecord] = []
    left = begun_with = min(room.rows, room.keys)
    bytes_left = room.bytes
    prefix = stop
    size = 0
    for key, record in rows.store.scan(DATA, start, stop):
        if (left <= 0 or bytes_left <= 0) and writes:
            last = writes[-1][0][1:]
            end = partitions[-1].position, last + LAST if key.startswith(prefix) else None
            return Chunk(partitions, end, begun_with - left)
        if not key.startswith(prefix):
            size = position_end(key)
            prefix = key[:size]
            writes = []
            partitions.append(Mutation(rows.table.incarnation, prefix[4:], writes))
        writes.append((key[size:], record))
        left -= 1
        bytes_left -= len(key) + len(record)
    return Chunk(partitions, None, begun_with - left)


def _read_partition(
    rows: TableRows,
    position: bytes,
    slices: Sequence[Slice],
    reverse: bool,
    now_s: int,
    room: _Room,
) -> tuple[list[KeyedRecord], bytes | None]:
    """(records in order of key, the bound up to where they cover the slices; None: to their end)."""
    above: list[KeyedRecord] = []
    fragments: list[Fragment] = []
    bound = None
    base = rows.use.incarnation + position
    if rows.use.has_headers:
        scan = rows.store.scan(DATA, base + HEADER_BYTE, base + RANGE_TOMBSTONE_BYTE)
        above = [(key[len(base) :], record) for key, record in scan]
        room.take_above(len(above), _size(above))
        has_ranges = bool(above) and above[0][0] == HEADER_BYTE and above[0][1][1] & HEADER_RANGES
        if slices and has_ranges:
            fragments, bound = _read_ranges(
                rows, base + RANGE_TOMBSTONE_BYTE, slices[0][0], slices[-1][1], reverse, room.ranges_max
            )
            room.take_above(len(fragments), 0)
    wanted = covered(slices, bound, reverse=reverse)
    found, end_of_rows = _read_rows(rows, position, wanted, reverse, now_s, room)
    if end_of_rows is not None:
        bound = end_of_rows
    if not beyond(slices, bound, reverse=reverse):
        bound = None
    if fragments:
        low, high = slices[0][0], slices[-1][1]
        if bound is not None:
            low, high = (bound, high) if reverse else (low, bound)
        above += [
            (RANGE_TOMBSTONE_BYTE + start, encode_range(end, deletion))
            for start, end, deletion in _clipped(fragments, low, high)
        ]
    return above + found, bound


def _read_ranges(
    rows: TableRows, base: bytes, low: bytes, high: bytes, reverse: bool, most: int
) -> tuple[list[Fragment], bytes | None]:
    """(fragments that overlap [low, high), the bound where they stop as there are more than ``most``)."""
    if not reverse:
        found = list(islice(overlapping(rows.store, base, low, high), most + 1))
        return (found[:most], found[most][0]) if len(found) > most else (found, None)
    found = []
    for key, record in rows.store.scan(DATA, base, base + high, reverse=True):
        end, deletion = decode_range(record)
        if end <= low:
            break
        if len(found) == most:
            return found[::-1], end
        found.append((key[len(base) :], end, deletion))
    return found[::-1], None


def _read_rows(
    rows: TableRows,
    position: bytes,
    slices: Sequence[Slice],
    reverse: bool,
    now_s: int,
    room: _Room,
) -> tuple[list[KeyedRecord], bytes | None]:
    """(records in order of key, the bound where the chunk ends, if that is before there are no more)."""
    base = rows.use.incarnation + position + ROW_BYTE
    size = len(base)
    found: list[KeyedRecord] = []
    multicell = rows.is_multicell
    clustering_end = rows.keys.clustering_end
    elements_max = rows.watch().fail_past
    prefix: bytes | None = None
    begin = 0
    bound: bytes | None = None
    is_first = True
    for low, high in reversed(slices) if reverse else slices:
        if not is_first and room.is_used_up:
            bound = high if reverse else low
            break
        is_first = False
        known = len(found)
        for key, record in rows.store.scan(DATA, base + low, base + high, reverse=reverse):
            if prefix is None or not (multicell and key.startswith(prefix)):
                if prefix is not None and room.is_used_up:
                    bound = prefix[size:] if reverse else prefix[size:] + LAST
                    break
                if len(found) - begin > elements_max:
                    assert prefix is not None
                    rows.get_row(position, prefix[size:], now_s)
                begin = len(found)
                prefix = key[: clustering_end(key, size)] if multicell else key
                room.rows -= 1
            found.append((key[size - 1 :], record))
            room.bytes -= len(key) + len(record)
            room.keys -= 1
        if bound is not None:
            break
        if len(found) == known:
            room.keys -= 1
    if prefix is not None and len(found) - begin > elements_max:
        # It raises if they are tombstones.
        rows.get_row(position, prefix[size:], now_s)
    if reverse:
        found.reverse()
    return found, bound


def _size(records: Iterable[KeyedRecord]) -> int:
    """Bytes of records, with what of their keys is their own."""
    return sum([len(suffix) + len(record) for suffix, record in records])


def _clipped(fragments: Iterable[Fragment], low: bytes, high: bytes) -> list[Fragment]:
    """What of them lies in [low, high)."""
    return [
        (max(start, low), min(end, high), deletion)
        for start, end, deletion in fragments
        if start < high and end > low
    ]


# Merging


def merge_partitions(partitions: Sequence[Mutation]) -> Mutation:
    """What several replicas' records of one partition say together."""
    if len(partitions) == 1:
        return partitions[0]
    records: dict[bytes, bytes] = {}
    ranges: list[list[Fragment]] = []
    for partition in partitions:
        fragments: list[Fragment] = []
        for suffix, record in partition.writes:
            if record[0] == RANGE_FORMAT:
                end, deletion = decode_range(record)
                fragments.append((suffix[1:], end, deletion))
                continue
            known = records.get(suffix)
            records[suffix] = record if known is None or known == record else merge(known, record)
        if fragments:
            ranges.append(fragments)
    for start, end, deletion in _overlaid(ranges):
        records[RANGE_TOMBSTONE_BYTE + start] = encode_range(end, deletion)
    return Mutation(partitions[0].incarnation, partitions[0].position, sorted(records.items()))


def _overlaid(ranges: Sequence[list[Fragment]]) -> list[Fragment]:
    """Several lists of fragments as one: what ``ranges.add`` makes of them one by one, in one go."""
    if not ranges:
        return []
    if all(fragments == ranges[0] for fragments in ranges):
        return ranges[0]
    bounds = sorted({bound for fragments in ranges for fragment in fragments for bound in fragment[:2]})
    at = [0] * len(ranges)
    found: list[Fragment] = []
    for low, high in pairwise(bounds):
        newest: Deletion | None = None
        for index, fragments in enumerate(ranges):
            while at[index] < len(fragments) and fragments[at[index]][1] <= low:
                at[index] += 1
            if at[index] < len(fragments):
                start, _, deletion = fragments[at[index]]
                if start <= low and (newest is None or deletion > newest):
                    newest = deletion
        if newest is None:
            continue
        if found and found[-1][1] == low and found[-1][2] == newest:
            found[-1] = (found[-1][0], high, newest)
        else:
            found.append((low, high, newest))
    return found


def shortest(chunks: Sequence[Chunk], *, reverse: bool = False) -> End | None:
    """Up to where all of the chunks cover the read; None: all cover all of it."""
    ends = [chunk.end for chunk in chunks if chunk.end is not None]
    if not ends:
        return None
    position = min(position for position, _ in ends)
    bounds = [bound for at, bound in ends if at == position and bound is not None]
    if not bounds:
        return position, None
    return position, max(bounds) if reverse else min(bounds)


def cut(chunk: Chunk, end: End | None, *, reverse: bool = False) -> list[Mutation]:
    """The partitions of a chunk up to an end that isn't beyond its own."""
    if end is None or chunk.end == end:
        return chunk.partitions
    position, bound = end
    kept = []
    for partition in chunk.partitions:
        if partition.position < position or (partition.position == position and bound is None):
            kept.append(partition)
        elif partition.position == position:
            assert bound is not None
            writes = _cut_writes(partition.writes, *((bound, LAST) if reverse else (FIRST, bound)))
            if writes:
                kept.append(Mutation(partition.incarnation, position, writes))
    return kept


def _cut_writes(writes: Sequence[KeyedRecord], low: bytes, high: bytes) -> list[KeyedRecord]:
    """The records that stand above the rows between two bounds, and the rows."""
    kept = []
    for suffix, record in writes:
        kind = suffix[0]
        if kind == RANGE_TOMBSTONE:
            end, deletion = decode_range(record)
            start, end = max(suffix[1:], low), min(end, high)
            if start < end:
                kept.append((RANGE_TOMBSTONE_BYTE + start, encode_range(end, deletion)))
        elif kind != ROW or low <= suffix[1:] < high:
            kept.append((suffix, record))
    return kept


# As a store


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


def rows_of(rows: TableRows, partitions: Sequence[Mutation]) -> TableRows:
    """The table's rows as they would be if nothing but these records were stored."""
    store = store_of(rows.use.incarnation, partitions)
    use = TableUse(store, rows.use.incarnation, rows.use.gc_grace_s)
    use.has_headers = any(suffix[0] != ROW for partition in partitions for suffix, _ in partition.writes[:1])
    return rows.over(store, use)


def live_row(
    rows: TableRows,
    chunk: Chunk,
    position: bytes,
    clustering_key: bytes,
    now_s: int,
    watch: TombstoneWatch | None = None,
) -> LiveRow | None:
    """The row that a chunk of ``read_row`` holds; None when nothing in it is live.

    Args:
        clustering_key: of the row that was asked for.
    Raises:
        TooManyTombstones: as ``TableRows.get_row``.
    """
    if not chunk.partitions:
        return None
    writes = chunk.partitions[0].writes
    if len(writes) == 1 and writes[0][0][0] == ROW and not rows.is_multicell:
        return rows.resolve(position, clustering_key, writes[0][1], now_s)
    table = rows.table
    known = table.by_id.keys() if table.dropped else None
    view = ScanView(rows.keys, known, rows.is_multicell, now_s, ALL_ROWS, False, watch or rows.watch())
    prefix = rows.use.incarnation + position
    scan = PartitionScan(view, prefix, None)
    for suffix, record in writes:
        row = scan.feed(prefix + suffix, record)
        if row is not None:
            return row
    return scan.finish()
