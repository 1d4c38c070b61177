"""From live rows to the bytes of result rows: for each column ``[int length][bytes]``, length -1 for null.

A SELECT of plain columns, which nearly all are, is compiled to copying. The values of a UNIFORM record stand in the
store exactly as they do in a result row, in the order of their column ids; a *layout* tells, for the column ids that a
record has, where the wanted ones are. When the wanted columns are all of a record's, in its order, a row is one slice
of it. The layouts of the few combinations of columns that a table's rows have are kept.

Sources: ``ourodb.storage.record``; native_protocol_v5.spec, section 4.2.5.2.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from ourodb.cql.analysis.row_values import row_value
from ourodb.cql.wire.primitives import NULL
from ourodb.schema.model import Column, ColumnKind
from ourodb.storage.record import DELETION, EXPIRING_ALL, RAW_CLUSTERING
from ourodb.storage.row import LiveRow

EncodeRow: TypeAlias = Callable[[LiveRow], bytes]

_INT: Final = struct.Struct(">i")
_pack_int = _INT.pack
_int_at = _INT.unpack_from

_VALUES_OF_IDS: Final = 18
"""Where a UNIFORM record without TTL has its column ids."""
_VALUES_OF_IDS_EXPIRING: Final = 30

_LAYOUTS_MAX: Final = 256


def encode_value(value: bytes | None) -> bytes:
    """``[bytes]``"""
    return NULL if value is None else _pack_int(len(value)) + value


def compile_values(functions: Sequence[Callable[[LiveRow], bytes | None]]) -> EncodeRow:
    """The row of these functions' values."""

    def encode(row: LiveRow) -> bytes:
        parts = []
        for function in functions:
            value = function(row)
            parts.append(NULL if value is None else _pack_int(len(value)) + value)
        return b"".join(parts)

    return encode


def compile_columns(columns: Sequence[Column]) -> EncodeRow:
    """The row of plain columns."""
    blocks: list[EncodeRow] = []
    run: list[Column] = []
    for column in (*columns, None):
        if column is not None and _is_simple_regular(column):
            run.append(column)
            continue
        if run:
            blocks.append(_regular_block(run))
            run = []
        if column is not None:
            blocks.append(_single(column))
    blocks = _merge_keys(columns, blocks)
    if len(blocks) == 1:
        return blocks[0]
    if len(blocks) == 2:
        first, second = blocks
        return lambda row: first(row) + second(row)
    return lambda row: b"".join([block(row) for block in blocks])


def _is_simple_regular(column: Column) -> bool:
    return column.kind is ColumnKind.REGULAR and not column.type.is_multicell


def _single(column: Column) -> EncodeRow:
    get = row_value(column)

    def encode(row: LiveRow) -> bytes:
        value = get(row)
        return NULL if value is None else _pack_int(len(value)) + value

    return encode


def _merge_keys(columns: Sequence[Column], blocks: list[EncodeRow]) -> list[EncodeRow]:
    """One block for a run of partition and clustering columns at the beginning, as most selections have."""
    partition: list[int] = []
    clustering: list[int] = []
    for column in columns:
        if column.kind is ColumnKind.PARTITION_KEY and not clustering:
            partition.append(column.position)
        elif column.kind is ColumnKind.CLUSTERING:
            clustering.append(column.position)
        else:
            break
    count = len(partition) + len(clustering)
    if count < 2:
        return blocks
    return [_key_block(partition, clustering), *blocks[count:]]


def _key_block(partition: list[int], clustering: list[int]) -> EncodeRow:
    nulls = NULL * len(clustering)
    last: list[object] = [None, b""]

    def encode(row: LiveRow) -> bytes:
        # Rows of one partition come together: its cells are made once.
        if row.partition is not last[0]:
            values = row.partition.values
            made = b"".join([_pack_int(len(values[index])) + values[index] for index in partition])
            last[0], last[1] = row.partition, made
        parts: bytes = last[1]  # type: ignore[assignment]
        if row.clustering_key is None:
            return parts + nulls
        found = row.clustering
        for index in clustering:
            value = found[index]
            parts += _pack_int(len(value)) + value
        return parts

    return encode


def _regular_block(columns: Sequence[Column]) -> EncodeRow:
    """Simple regular columns, from a record's bytes where it is UNIFORM."""
    wanted = [column.id for column in columns]
    layouts: dict[bytes, tuple[int, ...] | None] = {}

    def encode(row: LiveRow) -> bytes:
        record = row.record
        if record is None:
            return _from_cells(row, wanted)
        flags = record[1]
        if flags & (RAW_CLUSTERING | DELETION):
            return _from_cells(row, wanted)
        start = _VALUES_OF_IDS_EXPIRING if flags & EXPIRING_ALL else _VALUES_OF_IDS
        end = start + 2 + 2 * (record[start] << 8 | record[start + 1])
        ids = record[start:end]
        try:
            layout = layouts[ids]
        except KeyError:
            if len(layouts) >= _LAYOUTS_MAX:
                layouts.clear()
            layout = layouts[ids] = _layout(ids, wanted)
        if layout is None:
            return record[end:]
        return _rearranged(record, end, len(ids) // 2 - 1, layout)

    return encode


def _layout(ids: bytes, wanted: Sequence[int]) -> tuple[int, ...] | None:
    """For each wanted column its place in a record with these column ids, -1 where it has none; None when the wanted
    ones are all of the record's, in its order.
    """
    count = len(ids) // 2 - 1
    stored = struct.unpack(f">{count + 1}H", ids)[1:]
    if list(stored) == list(wanted):
        return None
    places = {column_id: place for place, column_id in enumerate(stored)}
    return tuple(places.get(column_id, -1) for column_id in wanted)


def _rearranged(record: bytes, start: int, count: int, layout: tuple[int, ...]) -> bytes:
    cells = []
    for _ in range(count):
        length = _int_at(record, start)[0]
        end = start + 4 + length if length > 0 else start + 4
        cells.append(record[start:end])
        start = end
    return b"".join([NULL if place < 0 else cells[place] for place in layout])


def _from_cells(row: LiveRow, wanted: Sequence[int]) -> bytes:
    cells = row.cells
    parts = []
    for column_id in wanted:
        cell = cells.get(column_id)
        parts.append(NULL if cell is None else _pack_int(len(cell[0])) + cell[0])
    return b"".join(parts)
