"""Column specifications and the metadata of results.

A SELECT's columns don't change between two executions, so their metadata are encoded once, when the statement is
prepared, and a result is that prefix, the number of rows and the rows, joined. ``RowsMetadata`` holds the prefix with
the full metadata and the one for clients that asked to skip them; a paging state, or a new metadata id for a client
whose own is outdated, goes between.

Types that an older version of the protocol doesn't know (date, time, smallint and tinyint before v4, duration before
v5) are sent to it as custom types with the class name that Cassandra gives them.

Source: native_protocol_v5.spec, section 4.2.5.2; org.apache.cassandra.transport.DataType for the replacements.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from ourodb.cql.wire.codes import (
    RESULT_ROWS,
    ROWS_GLOBAL_SPEC,
    ROWS_METADATA_CHANGED,
    ROWS_MORE_PAGES,
    ROWS_NO_METADATA,
)
from ourodb.cql.wire.primitives import NULL, Reader, pack_int, write_short_bytes, write_text
from ourodb.errors import ProtocolError

_three_ints = struct.Struct(">iii").pack

_CUSTOM: Final = 0x0000
_LIST: Final = 0x0020
_MAP: Final = 0x0021
_SET: Final = 0x0022
_UDT: Final = 0x0030
_TUPLE: Final = 0x0031
_TYPES_NESTED_MAX: Final = 64

_REPLACED: Final = {
    0x0011: (4, "org.apache.cassandra.db.marshal.SimpleDateType"),
    0x0012: (4, "org.apache.cassandra.db.marshal.TimeType"),
    0x0013: (4, "org.apache.cassandra.db.marshal.ShortType"),
    0x0014: (4, "org.apache.cassandra.db.marshal.ByteType"),
    0x0015: (5, "org.apache.cassandra.db.marshal.DurationType"),
}
"""Id of a type: the version that brought it, its name as a custom type before."""


class ColumnSpec(NamedTuple):
    """One column of a result, or one bind marker.

    Attributes:
        type_option: the [option] of its type as v5 has it; older versions get theirs by ``type_option_for``.
    """

    keyspace: str
    table: str
    name: str
    type_option: bytes


def encode_specs(columns: Sequence[ColumnSpec], version: int) -> tuple[int, bytes]:
    """Flags (ROWS_GLOBAL_SPEC or none) and the table and column specifications."""
    if not columns:
        return 0, b""
    keyspace, table = columns[0].keyspace, columns[0].table
    shared = all(column.keyspace == keyspace and column.table == table for column in columns)
    parts = [write_text(keyspace), write_text(table)] if shared else []
    for column in columns:
        if not shared:
            parts += (write_text(column.keyspace), write_text(column.table))
        parts += (write_text(column.name), type_option_for(version, column.type_option))
    return (ROWS_GLOBAL_SPEC if shared else 0), b"".join(parts)


class RowsMetadata:
    """The metadata of a result for one protocol version, encoded once.

    Attributes:
        columns: what it describes.
        id: 16 bytes that change when the columns do (v5's result metadata id).
    """

    __slots__ = ("_flags", "_full", "_skipped", "_specs", "columns", "id")

    def __init__(self, columns: Sequence[ColumnSpec], version: int) -> None:
        self.columns = tuple(columns)
        self.id = result_metadata_id(columns)
        self._flags, self._specs = encode_specs(columns, version)
        self._full = _three_ints(RESULT_ROWS, self._flags, len(columns)) + self._specs
        self._skipped = _three_ints(RESULT_ROWS, self._flags | ROWS_NO_METADATA, len(columns))

    def prepared(self) -> bytes:
        """The metadata as they stand in a RESULT Prepared."""
        return self._full[4:]

    def rows(self, row_count: int, rows: Iterable[bytes], skip_metadata: bool = False) -> bytes:
        """Body of a RESULT Rows, last page. ``rows``: encoded rows (each cell a [bytes]), in any grouping."""
        return b"".join((self._skipped if skip_metadata else self._full, pack_int(row_count), *rows))

    def rows_page(
        self,
        row_count: int,
        rows: Iterable[bytes],
        *,
        skip_metadata: bool = False,
        paging_state: bytes | None = None,
        changed: bool = False,
    ) -> bytes:
        """As ``rows``, with a paging state when there are more pages.

        ``changed`` (v5): the client's metadata id was another one, so it gets the new id and the full metadata,
        whatever ``skip_metadata`` says.
        """
        flags = self._flags
        paging = new_id = b""
        specs = self._specs
        if paging_state is not None:
            flags |= ROWS_MORE_PAGES
            paging = pack_int(len(paging_state)) + paging_state
        if changed:
            flags |= ROWS_METADATA_CHANGED
            new_id = write_short_bytes(self.id)
        elif skip_metadata:
            flags |= ROWS_NO_METADATA
            specs = b""
        head = _three_ints(RESULT_ROWS, flags, len(self.columns))
        return b"".join((head, paging, new_id, specs, pack_int(row_count), *rows))


def encode_row(cells: Iterable[bytes | None]) -> bytes:
    """One row of a RESULT Rows: each cell as a [bytes]."""
    return b"".join([NULL if cell is None else pack_int(len(cell)) + cell for cell in cells])


def result_metadata_id(columns: Sequence[ColumnSpec]) -> bytes:
    """16 bytes that are the same on every node and change when the columns change."""
    digest = hashlib.md5(usedforsecurity=False)
    for column in columns:
        for field in (
            column.keyspace.encode("utf-8", "replace"),
            column.table.encode("utf-8", "replace"),
            column.name.encode("utf-8", "replace"),
            column.type_option,
        ):
            digest.update(pack_int(len(field)))
            digest.update(field)
    return digest.digest()


EMPTY_METADATA: Final = pack_int(ROWS_NO_METADATA) + pack_int(0)
"""Result metadata, in a RESULT Prepared, of a statement without rows."""

EMPTY_METADATA_ID: Final = result_metadata_id(())


def type_option_for(version: int, type_option: bytes) -> bytes:
    """The [option] as ``version`` knows it: types that came later become custom types, at any depth."""
    if version >= 5:
        return type_option
    return read_type_option(Reader(type_option), version)


def read_type_option(reader: Reader, version: int, depth: int = _TYPES_NESTED_MAX) -> bytes:
    """The next [option] of ``reader``, as ``version`` knows it; with version 5, unchanged."""
    if not depth:
        raise ProtocolError("A type is nested too deeply")
    start = reader.offset
    option = reader.short()
    if option in _REPLACED:
        since, class_name = _REPLACED[option]
        if version < since:
            return b"\x00\x00" + write_text(class_name)
    elif option == _CUSTOM:
        reader.short_bytes()
    elif option in (_LIST, _SET):
        return reader.body[start : start + 2] + read_type_option(reader, version, depth - 1)
    elif option == _MAP:
        keys = read_type_option(reader, version, depth - 1)
        return reader.body[start : start + 2] + keys + read_type_option(reader, version, depth - 1)
    elif option == _TUPLE:
        count = reader.short()
        head = reader.body[start : reader.offset]
        return head + b"".join([read_type_option(reader, version, depth - 1) for _ in range(count)])
    elif option == _UDT:
        reader.short_bytes()
        reader.short_bytes()
        count = reader.short()
        parts = [reader.body[start : reader.offset]]
        for _ in range(count):
            parts.append(write_short_bytes(reader.short_bytes()))
            parts.append(read_type_option(reader, version, depth - 1))
        return b"".join(parts)
    return reader.body[start : reader.offset]
