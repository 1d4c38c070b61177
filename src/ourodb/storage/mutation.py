"""What changes in one partition, in the form in which it is stored and travels.

A mutation is a list of (key suffix, record). Planners make it either directly, from a ``UniformShape`` (a plain
INSERT), or with a ``MutationBuilder``, which knows rows, cells, elements and deletions. Applying one is
``storage.rows``'s.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence

from ourodb.schema.model import Column
from ourodb.storage.keys import HEADER_BYTE, RANGE_TOMBSTONE_BYTE, TableKeys
from ourodb.storage.merge import reconcile, shadow
from ourodb.storage.ranges import Fragment, add
from ourodb.storage.record import (
    COMPLEX_DELETION,
    COUNTER,
    EXPIRING,
    LIVE,
    NEVER,
    TOMBSTONE,
    Cell,
    CorruptRecord,
    Deletion,
    Header,
    Row,
    encode_element,
    encode_header,
    encode_range,
    encode_row,
)

_HEAD = struct.Struct(">III")
_HEAD_BYTES = _HEAD.size
_LENGTH = struct.Struct(">I")

ROW_BYTES = 64
CELL_BYTES = 16
"""Of a row, and of each cell or element, besides its value and path: about what they take."""

KeyedRecord = tuple[bytes, bytes]
"""(what follows the partition's prefix in the key, record)."""


class Mutation:
    """Changes of one partition, applied all or nothing.

    Attributes:
        incarnation: of the table, as ``Table.incarnation``.
        position: of the partition.
        writes: in order of suffix, each suffix once.
        stamped_at: the local time (seconds) in its deletions; a node that applies it at another time puts in its
            own, since tombstones age from their arrival. -1: unknown.
    """

    __slots__ = ("incarnation", "position", "stamped_at", "writes")

    def __init__(
        self, incarnation: int, position: bytes, writes: list[KeyedRecord], stamped_at: int = -1
    ) -> None:
        self.incarnation = incarnation
        self.position = position
        self.writes = writes
        self.stamped_at = stamped_at

    def encode(self) -> bytes:
        """For hints, batch logs and peers: ``u32 incarnation | u32 writes | u32 length | position``, then for each
        write ``u32 length | suffix | u32 length | record``.
        """
        position = self.position
        if len(self.writes) == 1:
            ((suffix, record),) = self.writes
            head = _HEAD.pack(self.incarnation, 1, len(position))
            sizes = _LENGTH.pack(len(suffix)), _LENGTH.pack(len(record))
            return b"%b%b%b%b%b%b" % (head, position, sizes[0], suffix, sizes[1], record)
        parts = [_HEAD.pack(self.incarnation, len(self.writes), len(position)), position]
        for suffix, record in self.writes:
            parts.append(_LENGTH.pack(len(suffix)))
            parts.append(suffix)
            parts.append(_LENGTH.pack(len(record)))
            parts.append(record)
        return b"".join(parts)


def decode_mutation(buf: bytes, offset: int = 0) -> tuple[Mutation, int]:
    """Inverse of ``Mutation.encode``: the mutation at ``offset`` and the offset after it.

    Raises:
        CorruptRecord: the bytes are no mutation.
    """
    try:
        incarnation, count, length = _HEAD.unpack_from(buf, offset)
        offset += _HEAD_BYTES
        if count == 1:
            # What nearly all are: one row.
            suffix_at = offset + length + 4
            record_at = suffix_at + _LENGTH.unpack_from(buf, suffix_at - 4)[0] + 4
            end = record_at + _LENGTH.unpack_from(buf, record_at - 4)[0]
            if end > len(buf):
                raise CorruptRecord("a mutation ends too early")
            write = (buf[suffix_at : record_at - 4], buf[record_at:end])
            return Mutation(incarnation, buf[offset : suffix_at - 4], [write]), end
        position, offset = _slice(buf, offset, length)
        writes = []
        for _ in range(count):
            suffix, offset = _slice(buf, offset + 4, _LENGTH.unpack_from(buf, offset)[0])
            record, offset = _slice(buf, offset + 4, _LENGTH.unpack_from(buf, offset)[0])
            writes.append((suffix, record))
    except struct.error as error:
        raise CorruptRecord("a mutation ends too early") from error
    return Mutation(incarnation, position, writes), offset


def _slice(buf: bytes, start: int, length: int) -> tuple[bytes, int]:
    end = start + length
    if end > len(buf):
        raise CorruptRecord("a mutation ends too early")
    return buf[start:end], end


def in_pieces(mutations: Iterable[Mutation], records_max: int) -> Iterator[list[Mutation]]:
    """The same changes, so many records at a time, in order: for those who need not apply them all or none."""
    piece: list[Mutation] = []
    room = records_max
    for mutation in mutations:
        at = 0
        writes = mutation.writes
        while at < len(writes):
            taken = writes[at : at + room]
            if len(taken) == len(writes):
                piece.append(mutation)
            else:
                piece.append(Mutation(mutation.incarnation, mutation.position, taken, mutation.stamped_at))
            at += len(taken)
            room -= len(taken)
            if not room:
                yield piece
                piece, room = [], records_max
    if piece:
        yield piece


def row_suffix(clustering_key: bytes) -> bytes:
    """The suffix of a row's record."""
    return b"\x40" + clustering_key


class MutationBuilder:
    """Gathers the changes of one partition; what is set twice is reconciled.

    Attributes:
        timestamp: microseconds, of what is added from now on; may be changed between the statements of a batch.
        now_s: what TTLs count from, and the local time of deletions, seconds.
    """

    __slots__ = ("_deletion", "_ranges", "_rows", "_static", "keys", "now_s", "position", "timestamp")

    def __init__(self, keys: TableKeys, position: bytes, timestamp: int, now_s: int) -> None:
        self.keys = keys
        self.position = position
        self.timestamp = timestamp
        self.now_s = now_s
        self._deletion: Deletion | None = None
        self._ranges: list[Fragment] = []
        self._rows: dict[bytes, RowBuilder] = {}
        self._static: RowBuilder | None = None

    def row(self, values: Sequence[bytes]) -> RowBuilder:
        """The row with these clustering values (all of them); the same object when asked again."""
        keys = self.keys
        clustering_key = keys.clustering(values)
        known = self._rows.get(clustering_key)
        if known is not None:
            return known
        row = self._rows[clustering_key] = RowBuilder(self, clustering_key)
        if keys.normalizes and keys.canonical_clustering(clustering_key) != tuple(values):
            row.row.raw_clustering = tuple(values)
        return row

    def static_row(self) -> RowBuilder:
        """The static row; it takes neither marker nor deletion."""
        if self._static is None:
            self._static = RowBuilder(self, None)
        return self._static

    def row_bytes(self, values: Sequence[bytes] | None) -> int:
        """About how large a row (None: the static one) is so far."""
        row = self._static if values is None else self._rows.get(self.keys.clustering(values))
        return 0 if row is None else row.size()

    def delete_partition(self) -> None:
        """DELETE without clustering values; shadows the static row too."""
        deletion = (self.timestamp, self.now_s)
        if self._deletion is None or self._deletion < deletion:
            self._deletion = deletion

    def delete_range(self, start: bytes, end: bytes) -> None:
        """DELETE of the rows between two bounds (``TableKeys.slice``); nothing if start >= end."""
        add(self._ranges, start, end, (self.timestamp, self.now_s))

    def build(self) -> Mutation | None:
        """The mutation; None when nothing was added."""
        writes: list[KeyedRecord] = []
        static = self._static
        has_static = static is not None and not static.row.is_empty()
        if has_static or self._deletion is not None or self._ranges:
            header = Header(self._deletion, bool(self._ranges), static.row if static is not None else None)
            writes.append((HEADER_BYTE, encode_header(header)))
        if static is not None:
            static.add_elements_to(writes)
        for start, end, deletion in self._ranges:
            writes.append((RANGE_TOMBSTONE_BYTE + start, encode_range(end, deletion)))
        rows = self._rows
        for clustering_key in sorted(rows):
            builder = rows[clustering_key]
            row = builder.row
            if row.deletion is not None:
                shadow(row, row.deletion[0])
            if not row.is_empty():
                writes.append((b"\x40" + clustering_key, encode_row(row)))
            builder.add_elements_to(writes)
        if not writes:
            return None
        return Mutation(self.keys.table.incarnation, self.position, writes, self.now_s)


class RowBuilder:
    """The changes of one row. Values and paths are wire bytes, checked before; TTLs are seconds, 0 for none."""

    __slots__ = ("_elements", "builder", "clustering_key", "row")

    def __init__(self, builder: MutationBuilder, clustering_key: bytes | None) -> None:
        self.builder = builder
        self.clustering_key = clustering_key
        self.row = Row()
        self._elements: dict[bytes, tuple[Cell, bytes | None]] = {}

    def marker(self, ttl: int = 0) -> None:
        """The row marker that INSERT writes."""
        assert self.clustering_key is not None, "a static row has no marker"
        builder = self.builder
        marker = (
            (builder.timestamp, EXPIRING, builder.now_s + ttl, ttl)
            if ttl
            else (builder.timestamp, LIVE, 0, 0)
        )
        known = self.row.marker
        if known is None or known < marker:
            self.row.marker = marker

    def delete(self) -> None:
        """DELETE of the whole row."""
        assert self.clustering_key is not None, "a static row is deleted cell by cell"
        row = self.row
        deletion = (self.builder.timestamp, self.builder.now_s)
        if row.deletion is None or row.deletion < deletion:
            row.deletion = deletion

    def cell(self, column: Column, value: bytes, ttl: int = 0) -> None:
        """A simple column (frozen ones included)."""
        builder = self.builder
        if ttl:
            self._set(column.id, (builder.timestamp, EXPIRING, builder.now_s + ttl, value, ttl))
        else:
            self._set(column.id, (builder.timestamp, LIVE, 0, value, 0))

    def tombstone(self, column: Column) -> None:
        """A column set to null or deleted; of a multicell column this deletes all elements, as ``clear``."""
        if column.type.is_multicell:
            self.clear(column)
        else:
            self._set(column.id, (self.builder.timestamp, TOMBSTONE, self.builder.now_s, b"", 0))

    def counter(self, column: Column, shard: bytes) -> None:
        """The shard that ``counter.increment`` gave."""
        self._set(column.id, (self.builder.timestamp, COUNTER, 0, shard, 0))

    def clear(self, column: Column) -> None:
        """Delete all elements of a multicell column: ``DELETE c``, ``c = null``."""
        self._set(column.id, (self.builder.timestamp, COMPLEX_DELETION, self.builder.now_s, b"", 0))

    def overwrite(self, column: Column) -> None:
        """Delete the elements that a multicell column had before, and none that this mutation adds: ``c = {...}``.

        The deletion is one microsecond older than the elements, as in Cassandra.
        """
        timestamp = max(self.builder.timestamp - 1, NEVER)
        self._set(column.id, (timestamp, COMPLEX_DELETION, self.builder.now_s, b"", 0))

    def element(self, column: Column, path: bytes, value: bytes, ttl: int = 0) -> None:
        """An element of a multicell column.

        Args:
            path: a set's element (with value b""), a map's key, a list's timeuuid (16 bytes), a field's index (u16).
        """
        builder = self.builder
        if ttl:
            self._set_element(column.id, path, (builder.timestamp, EXPIRING, builder.now_s + ttl, value, ttl))
        else:
            self._set_element(column.id, path, (builder.timestamp, LIVE, 0, value, 0))

    def delete_element(self, column: Column, path: bytes) -> None:
        """``DELETE m[k]``, ``s = s - {x}``, a UDT field set to null."""
        self._set_element(column.id, path, (self.builder.timestamp, TOMBSTONE, self.builder.now_s, b"", 0))

    def size(self) -> int:
        """About how many bytes it is so far."""
        cells = [*self.row.cells.values(), *[cell for cell, _ in self._elements.values()]]
        return ROW_BYTES + sum([CELL_BYTES + len(cell[3]) for cell in cells]) + sum(map(len, self._elements))

    def add_elements_to(self, writes: list[KeyedRecord]) -> None:
        """Append the records of the elements, in order of suffix."""
        elements = self._elements
        writes.extend([(suffix, encode_element(*elements[suffix])) for suffix in sorted(elements)])

    def _set(self, column_id: int, cell: Cell) -> None:
        cells = self.row.cells
        known = cells.get(column_id)
        cells[column_id] = cell if known is None else reconcile(known, cell)

    def _set_element(self, column_id: int, path: bytes, cell: Cell) -> None:
        keys = self.builder.keys
        suffix = keys.element_suffix(self.clustering_key, column_id, path)
        raw_path = None
        if keys.path_normalizes(column_id) and keys.canonical_path(column_id, path) != path:
            raw_path = path
        known = self._elements.get(suffix)
        if known is None or (known[0], known[1] or b"") < (cell, raw_path or b""):
            self._elements[suffix] = (cell, raw_path)
