"""Rows of a snapshot where they arrive: what couldn't be read isn't written, and what has expired ages from now on.

Mutations of a snapshot come in through a port to which anybody may speak by mistake, and one record that is none makes
every later scan of its table fail. So before a mutation is written its keys and records are read once, as a scan reads
them. Values are taken as they are.

Deletions age from their arrival (``record.restamp``). So must what has expired, which shadows older data like a
deletion: a snapshot that is older than the one of which it comes may still be to come, with what it replaced.
"""

from __future__ import annotations

import struct
from typing import Final

from ourodb.errors import InvalidRequest
from ourodb.storage.counter import SHARD_BYTES
from ourodb.storage.expiry import HOUR_S
from ourodb.storage.keys import (
    ELEMENT_MARK,
    HEADER,
    HEADER_BYTE,
    RANGE_TOMBSTONE,
    ROW,
    STATIC_ELEMENT,
    TableKeys,
)
from ourodb.storage.mutation import KeyedRecord, Mutation
from ourodb.storage.record import (
    COUNTER,
    DELETION,
    ELEMENT_FORMAT,
    EXPIRING,
    EXPIRING_ALL,
    HEADER_FORMAT,
    MARKER,
    RANGE_FORMAT,
    ROW_FORMAT,
    TOMBSTONE,
    UNIFORM,
    Cell,
    CorruptRecord,
    Row,
    decode_element,
    decode_header,
    decode_range,
    decode_row,
    encode_element,
    encode_header,
    encode_row,
    is_plain,
)
from ourodb.storage.rows import TableRows

EXPIRED_AGO_S: Final = HOUR_S
"""When what has expired is said to have done so: long enough ago for scans that began before, and for clocks that are
slow, not to see it; and as late as that allows, since gc grace counts from then.
"""

_COLUMN = struct.Struct(">H")
_LENGTH = struct.Struct(">i")


def arriving(mutation: Mutation, rows: TableRows, now_s: int) -> Mutation:
    """The mutation as it is to be written.

    Args:
        rows: of the table that it is for.
        now_s: this node's time, seconds.
    Raises:
        CorruptRecord: it can't be of a snapshot of this table.
    """
    try:
        _check_position(rows.keys, mutation.position)
        writes = [_arriving(suffix, record, rows, now_s) for suffix, record in mutation.writes]
    except (struct.error, IndexError, ValueError, InvalidRequest) as error:
        raise CorruptRecord(f"a key or a record ends too early, or is none: {error}") from error
    return Mutation(mutation.incarnation, mutation.position, writes)


def _check_position(keys: TableKeys, position: bytes) -> None:
    values = keys.partition_values(position)
    _require(len(values) == keys.partition_columns, "a partition key has too many columns, or too few")
    _require(keys.position(values) == position, "a position isn't that of its partition key")
    for column, value in zip(keys.table.partition_key, values, strict=True):
        column.type.validate(value)


def _arriving(suffix: bytes, record: bytes, rows: TableRows, now_s: int) -> KeyedRecord:
    expired_s = now_s - EXPIRED_AGO_S
    expected = _format_under(suffix, rows)
    _require(record[0] == expected, f"a record of format {record[0]} is under a key for format {expected}")
    if expected == ROW_FORMAT:
        row = decode_row(record)
        _check_row(row, record, 0, len(rows.table.clustering))
        if not is_plain(record) and _age(row, expired_s):
            record = encode_row(row)
    elif expected == ELEMENT_FORMAT:
        cell, raw_path = decode_element(record)
        _require(cell[1] <= TOMBSTONE, f"an element is of kind {cell[1]}")
        if cell[1] == EXPIRING:
            record = encode_element(_aged(cell, expired_s), raw_path)
    elif expected == HEADER_FORMAT:
        header = decode_header(record)
        offset = 2 if header.deletion is None else 18
        if header.static is None:
            _require(len(record) == offset, "a header ends too late")
        else:
            _check_row(header.static, record, offset, 0)
            if _age(header.static, expired_s):
                record = encode_header(header)
    else:
        end, _ = decode_range(record)
        _require(suffix[1:] < end, "a range ends before it begins")
    return suffix, record


def _format_under(suffix: bytes, rows: TableRows) -> int:
    """The format of the record that belongs under a key."""
    kind = suffix[0]
    if kind == ROW:
        end = rows.keys.clustering_end(suffix, 1)
        if end == len(suffix):
            return ROW_FORMAT
        _require(suffix[end] == ELEMENT_MARK, "something follows a clustering key")
        _check_element(suffix, end + 1, rows)
        return ELEMENT_FORMAT
    if kind == STATIC_ELEMENT:
        _check_element(suffix, 1, rows)
        return ELEMENT_FORMAT
    if kind == HEADER:
        _require(suffix == HEADER_BYTE, "something follows the key of a header")
        return HEADER_FORMAT
    _require(kind == RANGE_TOMBSTONE, f"a key is of kind {kind}")
    return RANGE_FORMAT


def _check_element(suffix: bytes, offset: int, rows: TableRows) -> None:
    """The column id and path that begin at ``offset``."""
    (column_id,) = _COLUMN.unpack_from(suffix, offset)
    column = rows.table.by_id.get(column_id)
    if column is None:
        # Dropped, or added just now.
        is_multicell = rows.is_multicell or column_id >= rows.table.next_column_id
    else:
        is_multicell = column.type.is_multicell
        rows.keys.element_path(column_id, suffix[offset + _COLUMN.size :])
    _require(is_multicell, f"column {column_id} has no elements")


def _check_row(row: Row, record: bytes, offset: int, clustering_columns: int) -> None:
    """Whether the record at ``offset`` ends where its row does, and what is in it can be resolved."""
    flags = record[offset + 1]
    count = len(row.cells)
    at = offset + 20 + 2 * count + (16 if flags & DELETION else 0)
    if flags & UNIFORM:
        at += 12 if flags & EXPIRING_ALL else 0
    else:
        at += 21 * count + (20 if flags & MARKER else 0)
        for _, kind, _, value, _ in row.cells.values():
            _require(kind <= COUNTER, f"a cell is of kind {kind}")
            if kind == COUNTER:
                _require(value and not len(value) % SHARD_BYTES, "a counter has part of a shard")
    if row.raw_clustering is not None:
        _require(
            len(row.raw_clustering) == clustering_columns, "a row lacks clustering values, or has too many"
        )
        at += 2 + sum([4 + len(value) for value in row.raw_clustering])
    for _ in range(count):
        (length,) = _LENGTH.unpack_from(record, at)
        _require(length >= 0 or not flags & UNIFORM, "a value has no length")
        at += 4 + max(length, 0)
    _require(at == len(record), "a row doesn't end where its record does")


def _age(row: Row, expired_s: int) -> bool:
    """Make what expired before that expire then; whether there was any."""
    found = False
    marker = row.marker
    if marker is not None and marker[1] == EXPIRING and marker[2] < expired_s:
        row.marker = (marker[0], EXPIRING, expired_s, marker[3])
        found = True
    for column_id, cell in row.cells.items():
        if cell[1] == EXPIRING and cell[2] < expired_s:
            row.cells[column_id] = _aged(cell, expired_s)
            found = True
    return found


def _aged(cell: Cell, expired_s: int) -> Cell:
    """An expiring cell."""
    timestamp, kind, local_time, value, ttl = cell
    return timestamp, kind, max(local_time, expired_s), value, ttl


def _require(is_so: object, what_not: str) -> None:
    if not is_so:
        raise CorruptRecord(what_not)
