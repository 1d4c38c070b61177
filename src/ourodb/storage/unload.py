"""The rows of tables at rest, as mutations for a table elsewhere: how a snapshot comes into a running cluster.

A table's records are read in order of their keys from one or several stores at once (snapshots of the nodes of one
ring), and what they say of one key is merged, so that a row with three copies travels once. A run of records of one
partition becomes one mutation, a long one several. Records are kept as they are: timestamps, TTLs, deletions, column
ids. Applying them again changes nothing, so whoever sends them may repeat what wasn't acknowledged, or all of it.

Two kinds of records are changed. A row with more bytes than a message can hold is taken apart into several records of
the same row. And the shards of counters get owners of their own (``renamed_shards``): the nodes that owned them may be
counting in the new table while the old counts arrive, and of two shards of one owner only the newer one would stand.
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

from ourodb.limits import RESTORE_MUTATION_BYTES, RESTORE_MUTATION_RECORDS, RESTORE_RECORD_BYTES
from ourodb.storage.counter import SHARD_BYTES
from ourodb.storage.merge import merge
from ourodb.storage.mutation import KeyedRecord, Mutation
from ourodb.storage.record import (
    COUNTER,
    HEADER_FORMAT,
    RANGE_FORMAT,
    ROW_FORMAT,
    Header,
    Row,
    decode_header,
    decode_row,
    encode_header,
    encode_row,
)

Record = tuple[bytes, bytes, int]
"""(key without the incarnation, record, how many stored records it stands for)."""

_OWNER = struct.Struct(">16sI")
_SUFFIX_AT = 10


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
    """The records of one table from several stores, each key once; of range tombstones, each one that differs.

    Args:
        sources: each in order of key, keys without the incarnation.
    """
    if len(sources) == 1:
        for key, record in sources[0]:
            yield key, record, 1
        return
    for key, group in groupby(in_order(*sources), itemgetter(0)):
        records = [record for _, record in group]
        if records[0][0] == RANGE_FORMAT:
            distinct = dict.fromkeys(records)
            surplus = len(records) - len(distinct)
            for record in distinct:
                yield key, record, 1 + surplus
                surplus = 0
        else:
            yield key, reduce(merge, records), len(records)


def pieces(records: Iterable[Record], incarnation: int, *, rename_shards: bool) -> Iterator[Piece]:
    """Mutations of a bounded size, in order.

    Args:
        records: of one table, as ``merged`` gives them.
        incarnation: of the table that they are for.
        rename_shards: the table has counters, and is another one than that in which they were counted.
    """
    position = b""
    size = 0
    writes: list[KeyedRecord] = []
    read = read_bytes = written = 0
    for key, record, copies in records:
        if rename_shards:
            record = renamed_shards(record, incarnation)
        if not (size and key.startswith(position)):
            if writes:
                yield Piece(Mutation(incarnation, position, writes), read, read_bytes)
                writes, read, read_bytes, written = [], 0, 0, 0
            size = _SUFFIX_AT + (key[8] << 8 | key[9])
            position = key[:size]
        suffix = key[size:]
        bytes_read = len(key) + len(record)
        for part in (record,) if len(record) <= RESTORE_RECORD_BYTES else parts(record):
            is_full = written + len(part) > RESTORE_MUTATION_BYTES or len(writes) == RESTORE_MUTATION_RECORDS
            if writes and (is_full or writes[-1][0] == suffix):
                yield Piece(Mutation(incarnation, position, writes), read, read_bytes)
                writes, read, read_bytes, written = [], 0, 0, 0
            writes.append((suffix, part))
            written += len(suffix) + len(part)
            read += copies
            read_bytes += bytes_read * copies
            copies = 0
    if writes:
        yield Piece(Mutation(incarnation, position, writes), read, read_bytes)


def parts(record: bytes) -> list[bytes]:
    """A record as several which merge to it, so that each holds at most one cell of more than a few MiB.

    Only those of rows and headers, which hold many cells, are taken apart.
    """
    if record[0] == ROW_FORMAT:
        return [encode_row(row) for row in _parted(decode_row(record))]
    if record[0] == HEADER_FORMAT:
        header = decode_header(record)
        if header.static is not None:
            rows = _parted(header.static)
            first = encode_header(Header(header.deletion, header.has_ranges, rows[0]))
            return [first, *(encode_header(Header(None, False, row)) for row in rows[1:])]
    return [record]


def _parted(row: Row) -> list[Row]:
    """The row's deletion, marker and clustering as written are in the first part; each part has a cell."""
    found = [Row(row.marker, row.deletion, {}, row.raw_clustering)]
    size = 0
    for column_id, cell in sorted(row.cells.items()):
        if size and size + len(cell[3]) > RESTORE_RECORD_BYTES:
            found.append(Row(raw_clustering=row.raw_clustering))
            size = 0
        found[-1].cells[column_id] = cell
        size += len(cell[3])
    return found


def renamed_shards(record: bytes, incarnation: int) -> bytes:
    """The record, the shards of its counters under owners that are no nodes.

    An owner is made of the shard's own and the table's incarnation: a shard keeps it however often it is restored into
    this table, so that its later state replaces the earlier one.
    """
    if record[0] == ROW_FORMAT:
        row = decode_row(record)
        return encode_row(row) if _rename(row, incarnation) else record
    if record[0] == HEADER_FORMAT:
        header = decode_header(record)
        if header.static is not None and _rename(header.static, incarnation):
            return encode_header(header)
    return record


def _rename(row: Row, incarnation: int) -> bool:
    """Whether there was a counter."""
    found = False
    for column_id, (timestamp, kind, local_time, value, ttl) in row.cells.items():
        if kind == COUNTER:
            shards = [
                _renamed(value[at : at + SHARD_BYTES], incarnation)
                for at in range(0, len(value), SHARD_BYTES)
            ]
            row.cells[column_id] = (timestamp, kind, local_time, b"".join(sorted(shards)), ttl)
            found = True
    return found


def _renamed(shard: bytes, incarnation: int) -> bytes:
    owner = shard[: _OWNER.size]
    salt = incarnation.to_bytes(4, "big")
    renamed = hashlib.blake2b(owner, digest_size=16, salt=salt, person=b"restored shard").digest()
    return renamed + shard[16:]
