"""What stored records mean: by what replicas are compared, and made equal.

Replicas that were told the same hold different bytes: one has purged, tombstones arrived here sooner than there, a
range was cut in two. The *meaning* of a record is what is left when all that is put aside: what a deletion above
shadows, what expired or was deleted longer ago than gc grace, the columns that were dropped, and when each tombstone
arrived. ``digest`` is a hash of meanings; ``lacking`` is what must be written to a replica so that it means what all
of them say together.

Tombstones within gc grace are part of the meaning, older ones aren't, as one replica may have purged them by then
and another not. So a tombstone that a replica is given only because another still has it must not grow young by that:
it would outlive the other's, be given back, and so live for ever. ``lacking`` therefore keeps when it arrived
elsewhere (``Mutation.stamped_at``), and all of them let it go together.

A replica that has rows which nobody else has any more, as it missed their deletion and gc grace is over, is given the
deletion too, as long as one of the others still has it. And nothing is sent that a deletion shadows: where that
deletion isn't sent along, it would come back to life.

Source: Cassandra's ``UnfilteredRowIterators.digest``, ``RowIteratorMergeListener``.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from ourodb.storage.keys import (
    HEADER_BYTE,
    RANGE_TOMBSTONE,
    RANGE_TOMBSTONE_BYTE,
    ROW,
    STATIC_ELEMENT,
    TableKeys,
)
from ourodb.storage.merge import counted_after, shadow
from ourodb.storage.mutation import KeyedRecord, Mutation
from ourodb.storage.ranges import Fragment, RangeCursor
from ourodb.storage.record import (
    COMPLEX_DELETION,
    COUNTER,
    ELEMENT_FORMAT,
    EXPIRING,
    HEADER_FORMAT,
    LIVE,
    NEVER,
    RANGE_FORMAT,
    ROW_FORMAT,
    TOMBSTONE,
    UNIFORM,
    Cell,
    Deletion,
    Header,
    Row,
    decode_element,
    decode_header,
    decode_range,
    decode_row,
    encode_element,
    encode_header,
    encode_range,
    encode_row,
    greatest_timestamp,
    is_plain,
)

DIGEST_BYTES: Final = 16

_NO_DELETIONS: Final[Mapping[int, int]] = MappingProxyType({})
_LENGTHS = struct.Struct(">II")
_END = struct.Struct(">QI?")
_least_timestamp = struct.Struct(">q").unpack_from


class Dropped:
    """The columns that a table had once: the purge removes them, at its own pace.

    Attributes:
        ids: theirs.
        clustering_end: of the table's keys.
    """

    __slots__ = ("clustering_end", "ids")

    def __init__(self, keys: TableKeys) -> None:
        table = keys.table
        self.ids = frozenset(range(1, table.next_column_id)) - table.by_id.keys()
        self.clustering_end = keys.clustering_end


def dropped_from(keys: TableKeys) -> Dropped | None:
    """The columns that were dropped from the table of these keys; None: none."""
    return Dropped(keys) if keys.table.dropped else None


def digest(
    partitions: Iterable[Mutation],
    end: tuple[bytes, bytes | None] | None,
    now_s: int,
    gc_grace_s: int,
    dropped: Dropped | None = None,
) -> bytes:
    """16 bytes that are equal where the records mean the same.

    Args:
        end: of the chunk.
        now_s: the coordinator's time, seconds.
        dropped: ``dropped_from`` the table.
    """
    parts: list[bytes] = []
    for partition in partitions:
        before = len(parts)
        for suffix, meaning in _meanings(partition, now_s, now_s - gc_grace_s, dropped):
            parts += (_LENGTHS.pack(len(suffix), len(meaning)), suffix, meaning)
        if len(parts) > before:
            # No suffix is empty, and no position.
            parts[before:before] = (_LENGTHS.pack(0, len(partition.position)), partition.position)
    if end is not None:
        position, bound = end
        parts += (_END.pack(0, len(position), bound is not None), position, bound or b"")
    return hashlib.blake2b(b"".join(parts), digest_size=DIGEST_BYTES).digest()


def lacking(
    merged: Mutation,
    held: Mutation | None,
    now_s: int,
    gc_grace_s: int,
    dropped: Dropped | None = None,
) -> Mutation | None:
    """What a replica must be given to mean what the merged records mean; None: nothing.

    Args:
        held: what the replica gave; None: it has nothing of the partition.
    Returns:
        Its deletions keep the times at which they arrived where they come from; ``stamped_at`` is ``now_s``.
    """
    gc_before_s = now_s - gc_grace_s
    known = {} if held is None else dict(_meanings(held, now_s, gc_before_s, dropped))
    wanted = dict(_meanings(merged, now_s, gc_before_s, dropped))
    missing = {suffix for suffix, meaning in wanted.items() if known.get(suffix) != meaning}
    surplus = [suffix for suffix, meaning in known.items() if wanted.get(suffix) != meaning]
    if not missing and not surplus:
        return None
    # What isn't so any more: whatever shadows it in the merged records must go along, also what means nothing by now.
    with_header = False
    ranges = any(suffix[0] == RANGE_TOMBSTONE for suffix in missing)
    fragments: list[Fragment] = []
    header: Header | None = None
    for suffix, record in merged.writes:
        if record[0] == HEADER_FORMAT:
            header = decode_header(record)
        elif record[0] == RANGE_FORMAT:
            fragments.append((suffix[1:], *decode_range(record)))
    if surplus:
        missing.update(surplus)
        missing.update(_rows_of_elements(merged.writes, surplus))
        with_header = header is not None and header.deletion is not None
        with_header = with_header or any(suffix[0] == STATIC_ELEMENT for suffix in surplus)
        ranges = ranges or _any_covered(fragments, surplus)
    writes: list[KeyedRecord] = []
    deleted = NEVER if header is None or header.deletion is None else header.deletion[0]
    cursor = RangeCursor(fragments) if fragments else None
    for suffix, record in merged.writes:
        kind = suffix[0]
        if kind == RANGE_TOMBSTONE:
            if ranges:
                writes.append((suffix, record))
        elif record[0] == HEADER_FORMAT:
            # Fragments mean something together only, and only where the header says that there are any.
            if with_header or ranges or suffix in missing:
                writes.append((suffix, record))
        elif suffix in missing:
            left = _unshadowed(suffix, record, deleted, cursor)
            if left is not None:
                writes.append((suffix, left))
    return Mutation(merged.incarnation, merged.position, writes, now_s) if writes else None


def _unshadowed(suffix: bytes, record: bytes, deleted: int, cursor: RangeCursor | None) -> bytes | None:
    """What is left of a row's record under the deletions above it."""
    if suffix[0] != ROW or record[0] != ROW_FORMAT or (deleted == NEVER and cursor is None):
        return record
    shadowed = deleted if cursor is None else max(deleted, cursor.covering(suffix[1:]))
    if record[1] & UNIFORM and _least_timestamp(record, 2)[0] > shadowed:
        return record
    row = decode_row(record)
    shadow(row, shadowed)
    if row.deletion is not None and row.deletion[0] <= shadowed:
        row.deletion = None
    return None if row.is_empty() else encode_row(row)


def _rows_of_elements(writes: Sequence[KeyedRecord], suffixes: Sequence[bytes]) -> list[bytes]:
    """The suffixes of the rows to which these elements belong, where the rows have records."""
    elements = [suffix for suffix in suffixes if suffix[0] == ROW]
    if not elements:
        return []
    found = []
    at = 0
    for suffix, record in writes:
        if suffix[0] != ROW or record[0] == ELEMENT_FORMAT:
            continue
        while at < len(elements) and elements[at] < suffix:
            at += 1
        if at < len(elements) and elements[at].startswith(suffix):
            found.append(suffix)
    return found


def _any_covered(fragments: Sequence[Fragment], suffixes: Sequence[bytes]) -> bool:
    """Whether a fragment covers a row or an element, or overlaps a range."""
    if not fragments:
        return False
    if any(suffix[0] == RANGE_TOMBSTONE for suffix in suffixes):
        return True
    cursor = RangeCursor(fragments)
    return any(suffix[0] == ROW and cursor.covering(suffix[1:]) != NEVER for suffix in suffixes)


def _meanings(
    partition: Mutation, now_s: int, gc_before_s: int, dropped: Dropped | None
) -> Iterator[tuple[bytes, bytes]]:
    """(key suffix, what its record means now), in order, without what means nothing any more."""
    writes = partition.writes
    deleted = shadowed = NEVER
    cursor: RangeCursor | None = None
    complex_deletions: Mapping[int, int] = _NO_DELETIONS
    if writes and writes[0][0][0] != ROW:
        if writes[0][1][0] == HEADER_FORMAT:
            header = decode_header(writes[0][1])
            if header.deletion is not None:
                deleted = shadowed = header.deletion[0]
            if header.static is not None:
                complex_deletions = _complex_deletions(header.static)
            meaning = _header_meaning(header, now_s, gc_before_s, dropped)
            if meaning is not None:
                yield HEADER_BYTE, meaning
        fragments = _fragments(writes, deleted)
        if fragments:
            cursor = RangeCursor(fragments)
            for start, end, timestamp in _lasting(fragments, gc_before_s):
                yield RANGE_TOMBSTONE_BYTE + start, encode_range(end, (timestamp, 0))
    # Static elements come first, then each row's record before its elements.
    row_suffix = b""
    for suffix, record in writes:
        record_format = record[0]
        if record_format == ELEMENT_FORMAT:
            if suffix[0] == STATIC_ELEMENT:
                at = 1
            elif row_suffix and suffix.startswith(row_suffix):
                at = len(row_suffix) + 1
            else:
                # Of a row without a record. It lies where its row does, seen from any bound.
                row_suffix = b""
                shadowed = deleted if cursor is None else max(deleted, cursor.covering(suffix[1:]))
                complex_deletions = _NO_DELETIONS
                at = 0 if dropped is None else dropped.clustering_end(suffix, 1) + 1
            column_id = suffix[at] << 8 | suffix[at + 1] if at else 0
            if dropped is not None and column_id in dropped.ids:
                continue
            meaning = _element_meaning(
                record, max(shadowed, complex_deletions.get(column_id, NEVER)), now_s, gc_before_s
            )
            if meaning is not None:
                yield suffix, meaning
        elif suffix[0] == ROW:
            row_suffix = suffix
            shadowed = deleted if cursor is None else max(deleted, cursor.covering(suffix[1:]))
            complex_deletions = _NO_DELETIONS
            if dropped is None and is_plain(record):
                if greatest_timestamp(record) > shadowed:
                    yield suffix, record
                continue
            row = decode_row(record)
            complex_deletions = _complex_deletions(row)
            left = _row_meaning(row, shadowed, now_s, gc_before_s, dropped)
            if row.deletion is not None:
                shadowed = max(shadowed, row.deletion[0])
            if left is not None:
                yield suffix, encode_row(left)


def _fragments(writes: Sequence[KeyedRecord], deleted: int) -> list[Fragment]:
    """The fragments that the partition's deletion doesn't shadow."""
    found: list[Fragment] = []
    for suffix, record in writes:
        kind = suffix[0]
        if kind == RANGE_TOMBSTONE:
            end, deletion = decode_range(record)
            if deletion[0] > deleted:
                found.append((suffix[1:], end, deletion))
        elif kind == ROW:
            break
    return found


def _lasting(fragments: Sequence[Fragment], gc_before_s: int) -> list[tuple[bytes, bytes, int]]:
    """(start, end, timestamp) of those within gc grace; neighbours of one timestamp made one."""
    found: list[tuple[bytes, bytes, int]] = []
    for start, end, (timestamp, arrived_s) in fragments:
        if arrived_s <= gc_before_s:
            continue
        if found and found[-1][1] == start and found[-1][2] == timestamp:
            found[-1] = (found[-1][0], end, timestamp)
        else:
            found.append((start, end, timestamp))
    return found


def _complex_deletions(row: Row) -> dict[int, int]:
    return {column_id: cell[0] for column_id, cell in row.cells.items() if cell[1] == COMPLEX_DELETION}


def _header_meaning(header: Header, now_s: int, gc_before_s: int, dropped: Dropped | None) -> bytes | None:
    deletion = header.deletion
    shadowed = NEVER if deletion is None else deletion[0]
    kept = None if deletion is None or deletion[1] <= gc_before_s else (deletion[0], 0)
    static = None
    if header.static is not None:
        static = _row_meaning(header.static, shadowed, now_s, gc_before_s, dropped)
    if kept is None and static is None:
        return None
    return encode_header(Header(kept, False, static))


def _row_meaning(
    row: Row, shadowed: int, now_s: int, gc_before_s: int, dropped: Dropped | None
) -> Row | None:
    """What is left of a row; None: nothing."""
    kept: Deletion | None = None
    deletion = row.deletion
    if deletion is not None and deletion[0] > shadowed:
        shadowed = deletion[0]
        if deletion[1] > gc_before_s:
            kept = (shadowed, 0)
    marker = row.marker
    if marker is not None and (marker[0] <= shadowed or (marker[1] != LIVE and marker[2] <= gc_before_s)):
        marker = None
    cells: dict[int, Cell] = {}
    for column_id, cell in row.cells.items():
        if dropped is None or column_id not in dropped.ids:
            left = _cell_meaning(cell, shadowed, now_s, gc_before_s)
            if left is not None:
                cells[column_id] = left
    if kept is None and marker is None and not cells:
        return None
    return Row(marker, kept, cells, row.raw_clustering)


def _element_meaning(record: bytes, shadowed: int, now_s: int, gc_before_s: int) -> bytes | None:
    cell, raw_path = decode_element(record)
    left = _cell_meaning(cell, shadowed, now_s, gc_before_s)
    if left is None:
        return None
    is_live = left[1] == LIVE or left[3] or left[4]
    return encode_element(left, raw_path if is_live else None)


def _cell_meaning(cell: Cell, shadowed: int, now_s: int, gc_before_s: int) -> Cell | None:
    timestamp, kind, local_s, _, _ = cell
    if timestamp <= shadowed:
        return None
    if kind == LIVE:
        return cell
    if kind == COUNTER:
        return counted_after(cell, shadowed)
    if kind == EXPIRING and local_s > now_s:
        return cell
    if local_s <= gc_before_s:
        return None
    if kind == EXPIRING:
        # The purge has taken its value, or will.
        return (timestamp, EXPIRING, local_s, b"", 0)
    assert kind in (TOMBSTONE, COMPLEX_DELETION)
    return (timestamp, kind, 0, b"", 0)
