"""Storage keys of one table: partition keys to positions, clustering values to bytes, and bounds between rows.

Everything here is compiled once per ``Table`` and speaks of three kinds of bytes:

- a *position* names a partition: ``token (8) | length (2) | partition key``. The token is Cassandra's, its sign bit
  flipped so that bytes compare as tokens do. A partition key of one column is that column's value; one of several is
  ``(length (2) | value | 0x00)*``, as in Cassandra, so that drivers compute the same token.
- a *clustering key* names a row in its partition: the ordered forms of the clustering values, one after another.
- a *bound* is a place between rows, to be compared with clustering keys as bytes: the encoding of some prefix of
  values sorts before everything that begins with it, the same + 0xFF after it. A slice of rows is ``[start, end)`` of
  two bounds; all rows are ``(FIRST, LAST)``.

Source: the composite format of Cassandra's ``CompositeType``; ``ourodb.cql.types.ordered``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Final

from ourodb.cql.types.base import CqlType
from ourodb.cql.types.collection import ListType, MapType, SetType
from ourodb.cql.types.composite import UserType
from ourodb.cql.types.murmur3 import token
from ourodb.cql.types.native import TIMEUUID
from ourodb.schema.model import Column, Table

HEADER: Final = 0x10
STATIC_ELEMENT: Final = 0x20
RANGE_TOMBSTONE: Final = 0x30
ROW: Final = 0x40

HEADER_BYTE: Final = b"\x10"
STATIC_ELEMENT_BYTE: Final = b"\x20"
RANGE_TOMBSTONE_BYTE: Final = b"\x30"
ROW_BYTE: Final = b"\x40"
ROW_END_BYTE: Final = b"\x41"

ELEMENT_MARK: Final = 0x01
"""Separates a row's clustering key from the column id of one of its elements."""

FIRST: Final = b""
"""The bound before all rows."""
LAST: Final = b"\xff"
"""The bound after all rows."""
ALL_ROWS: Final = ((FIRST, LAST),)
"""The slices of a whole partition."""

TEXT_LENGTH_MAX: Final = 200
"""Characters of a partition key in a message."""

Slice = tuple[bytes, bytes]
"""[start, end): two bounds."""

Decoder = Callable[[bytes, int], tuple[bytes, int]]

_INCARNATION = struct.Struct(">I")
_POSITION = struct.Struct(">QH")
_TOKEN = struct.Struct(">Q")
_SHORT = struct.Struct(">H")
_ELEMENT = struct.Struct(">BH")
_TOKEN_SHIFT = 1 << 63
_TOKEN_MAX = _TOKEN_SHIFT - 1


class TableKeys:
    """The keys of one table.

    Attributes:
        incarnation: the first four bytes of every key.
        end: the first key that is no longer the table's.
        position: (partition key values in order) -> position.
        clustering: (all clustering values in order) -> clustering key.
        normalizes: some clustering column has values that compare equal but differ in bytes; rows then keep the
            bytes written beside the key.
    """

    __slots__ = (
        "_clustering_decoders",
        "_clustering_encoders",
        "_columns",
        "_paths",
        "clustering",
        "end",
        "incarnation",
        "normalizes",
        "partition_columns",
        "position",
        "table",
    )

    def __init__(self, table: Table) -> None:
        self.table = table
        self.incarnation = _INCARNATION.pack(table.incarnation)
        self.end = _INCARNATION.pack(table.incarnation + 1)
        self.partition_columns = len(table.partition_key)
        self.position: Callable[[Sequence[bytes]], bytes] = (
            single_position if self.partition_columns == 1 else composite_position
        )
        columns = table.clustering
        self._columns = columns
        self._clustering_encoders = tuple(
            column.type.encode_ordered_desc if column.descending else column.type.encode_ordered
            for column in columns
        )
        self._clustering_decoders: tuple[Decoder, ...] = tuple(
            column.type.decode_ordered_desc if column.descending else column.type.decode_ordered
            for column in columns
        )
        self.clustering = _clustering_encoder(self._clustering_encoders)
        self.normalizes = any(column.type.normalizes for column in columns)
        self._paths = {
            column.id: _path_codec(column) for column in table.by_id.values() if column.type.is_multicell
        }

    # Partitions

    def prefix(self, position: bytes) -> bytes:
        """What every key of the partition begins with; a kind byte follows."""
        return self.incarnation + position

    def partition_key(self, values: Sequence[bytes]) -> bytes:
        """The serialized partition key, of which the token is taken."""
        return values[0] if self.partition_columns == 1 else composite(values)

    def partition_values(self, position: bytes) -> tuple[bytes, ...]:
        """The values of the partition key columns."""
        if self.partition_columns == 1:
            return (position[10:],)
        return composite_values(position, 10)

    def partition_text(self, position: bytes) -> str:
        """The partition key as a WHERE clause has it, cut where it is long: for messages."""
        columns = zip(self.table.partition_key, self.partition_values(position), strict=True)
        text = " AND ".join(f"{column.name} = {column.type.literal(value)}" for column, value in columns)
        return text if len(text) <= TEXT_LENGTH_MAX else text[:TEXT_LENGTH_MAX] + "..."

    # Rows

    def row_key(self, position: bytes, clustering_key: bytes) -> bytes:
        """The DATA key of a row."""
        return b"%b%b\x40%b" % (self.incarnation, position, clustering_key)

    def clustering_values(self, buf: bytes, offset: int = 0) -> tuple[tuple[bytes, ...], int]:
        """The (canonical) clustering values whose clustering key starts at ``offset``, and the offset after it."""
        values = []
        for decode in self._clustering_decoders:
            value, offset = decode(buf, offset)
            values.append(value)
        return tuple(values), offset

    def clustering_end(self, buf: bytes, offset: int) -> int:
        """The offset after the clustering key that starts at ``offset``."""
        for decode in self._clustering_decoders:
            _, offset = decode(buf, offset)
        return offset

    def canonical_clustering(self, clustering_key: bytes) -> tuple[bytes, ...]:
        return self.clustering_values(clustering_key)[0]

    # Bounds

    def bound(self, values: Sequence[bytes], after: bool) -> bytes:
        """The bound just before, or just after, every row that begins with these clustering values."""
        encoded = b"".join(
            [encode(value) for encode, value in zip(self._clustering_encoders, values, strict=False)]
        )
        return encoded + b"\xff" if after else encoded

    def slice(
        self,
        equal: Sequence[bytes] = (),
        lower: bytes | None = None,
        lower_inclusive: bool = True,
        upper: bytes | None = None,
        upper_inclusive: bool = True,
    ) -> Slice:
        """The rows with ``equal`` as first clustering values and the next column between ``lower`` and ``upper``.

        The column is compared in CQL's order, whichever way it is clustered. None means no limit on that side.
        Start >= end means: no row.
        """
        encoded = self.bound(equal, False)
        if lower is None and upper is None:
            return encoded, encoded + b"\xff"
        index = len(equal)
        encode = self._clustering_encoders[index]
        if self._columns[index].descending:
            lower, lower_inclusive, upper, upper_inclusive = upper, upper_inclusive, lower, lower_inclusive
        start = encoded
        if lower is not None:
            start += encode(lower) if lower_inclusive else encode(lower) + b"\xff"
        if upper is None:
            end = encoded + b"\xff"
        else:
            end = encoded + (encode(upper) + b"\xff" if upper_inclusive else encode(upper))
        return start, end

    def tuple_slices(
        self,
        equal: Sequence[bytes] = (),
        lower: Sequence[bytes] | None = None,
        lower_inclusive: bool = True,
        upper: Sequence[bytes] | None = None,
        upper_inclusive: bool = True,
    ) -> list[Slice]:
        """As ``slice`` for a multi-column relation such as ``(c2, c3) > (1, 2)``: lexicographic in CQL's order.

        Where ASC and DESC mix, the rows aren't one run; the slices are in storage order and don't overlap.
        """
        rows = [self.slice(equal)]
        if lower is not None:
            rows = intersect(rows, self._beyond(equal, lower, lower_inclusive, above=True))
        if upper is not None:
            rows = intersect(rows, self._beyond(equal, upper, upper_inclusive, above=False))
        return rows

    def _beyond(
        self, equal: Sequence[bytes], limit: Sequence[bytes], inclusive: bool, above: bool
    ) -> list[Slice]:
        """x > limit is: x1 > l1, or x1 = l1 and x2 > l2, or ...; each is one slice."""
        slices = []
        prefix = list(equal)
        for value in limit:
            if above:
                slices.append(self.slice(prefix, lower=value, lower_inclusive=False))
            else:
                slices.append(self.slice(prefix, upper=value, upper_inclusive=False))
            prefix.append(value)
        if inclusive:
            slices.append(self.slice(prefix))
        return union(slices)

    # Elements

    def element_suffix(self, clustering_key: bytes | None, column_id: int, path: bytes) -> bytes:
        """What follows the partition's prefix in the key of an element.

        Args:
            clustering_key: None for a static column.
            path: wire form: a set's element, a map's key, a list's 16-byte timeuuid, a field's index (u16).
        """
        encoded = self._paths[column_id].encode(path)
        if clustering_key is None:
            return b"\x20%b%b" % (_SHORT.pack(column_id), encoded)
        return b"\x40%b%b%b" % (clustering_key, _ELEMENT.pack(ELEMENT_MARK, column_id), encoded)

    def element_path(self, column_id: int, encoded: bytes) -> bytes:
        """The (canonical) wire form of a path."""
        codec = self._paths.get(column_id)
        return encoded if codec is None else codec.decode(encoded)

    def canonical_path(self, column_id: int, path: bytes) -> bytes:
        codec = self._paths[column_id]
        return codec.decode(codec.encode(path))

    def path_normalizes(self, column_id: int) -> bool:
        """Whether equal paths may differ in bytes; elements then keep the bytes written."""
        return self._paths[column_id].normalizes


class PathCodec:
    """The ordered form of the paths of one multicell column."""

    __slots__ = ("decode", "encode", "normalizes")

    def __init__(
        self, encode: Callable[[bytes], bytes], decode: Callable[[bytes], bytes], normalizes: bool
    ) -> None:
        self.encode = encode
        self.decode = decode
        self.normalizes = normalizes


def _path_codec(column: Column) -> PathCodec:
    kind = column.type
    if isinstance(kind, UserType):
        return PathCodec(bytes, bytes, False)
    path: CqlType
    if isinstance(kind, ListType):
        path = TIMEUUID
    elif isinstance(kind, SetType):
        path = kind.element
    else:
        assert isinstance(kind, MapType)
        path = kind.key
    decode = path.decode_ordered
    return PathCodec(path.encode_ordered, lambda encoded: decode(encoded, 0)[0], path.normalizes)


def _clustering_encoder(
    encoders: tuple[Callable[[bytes], bytes], ...],
) -> Callable[[Sequence[bytes]], bytes]:
    if not encoders:
        return lambda values: b""
    if len(encoders) == 1:
        (one,) = encoders
        return lambda values: one(values[0])
    if len(encoders) == 2:
        first, second = encoders
        return lambda values: first(values[0]) + second(values[1])
    return lambda values: b"".join([encode(value) for encode, value in zip(encoders, values, strict=True)])


# Positions, which are the same for every hash table


def single_position(values: Sequence[bytes]) -> bytes:
    """The position of a partition key of one column."""
    key = values[0]
    return _POSITION.pack(token(key) + _TOKEN_SHIFT, len(key)) + key


def composite_position(values: Sequence[bytes]) -> bytes:
    """The position of a partition key of several columns."""
    key = composite(values)
    return _POSITION.pack(token(key) + _TOKEN_SHIFT, len(key)) + key


def composite(values: Sequence[bytes]) -> bytes:
    """Cassandra's composite of several values."""
    return b"".join([b"%b%b\x00" % (_SHORT.pack(len(value)), value) for value in values])


def composite_values(buf: bytes, offset: int) -> tuple[bytes, ...]:
    """Inverse of ``composite``, from ``offset`` to the end."""
    values = []
    while offset < len(buf):
        start = offset + 2
        end = start + (buf[offset] << 8 | buf[offset + 1])
        values.append(buf[start:end])
        offset = end + 1
    return tuple(values)


def token_of(position: bytes) -> int:
    """The token of a position."""
    shifted: int = _TOKEN.unpack_from(position)[0]
    return shifted - _TOKEN_SHIFT


def token_start(token: int) -> bytes:
    """The least position bound with this token: sorts before every partition of the token and after all lesser."""
    return _TOKEN.pack(token + _TOKEN_SHIFT)


def token_end(token: int) -> bytes | None:
    """The bound after every partition of this token; None is the end of the table."""
    return None if token == _TOKEN_MAX else _TOKEN.pack(token + _TOKEN_SHIFT + 1)


def next_position(position: bytes) -> bytes:
    """The bound just after this partition."""
    return position + b"\xff"


def position_end(key: bytes) -> int:
    """The offset of the kind byte in a DATA key."""
    return 14 + (key[12] << 8 | key[13])


# Slices


def intersect(left: Sequence[Slice], right: Sequence[Slice]) -> list[Slice]:
    """What is in both; each list is in order and without overlaps, and so is the result."""
    found = []
    i = j = 0
    while i < len(left) and j < len(right):
        start = max(left[i][0], right[j][0])
        end = min(left[i][1], right[j][1])
        if start < end:
            found.append((start, end))
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    return found


def union(slices: Sequence[Slice]) -> list[Slice]:
    """What is in any: in order, without overlaps, empty ones left out."""
    found: list[Slice] = []
    for start, end in sorted(slices):
        if start >= end:
            continue
        if found and start <= found[-1][1]:
            if end > found[-1][1]:
                found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found


def after_row(slices: Sequence[Slice], clustering_key: bytes, reverse: bool = False) -> list[Slice]:
    """What is left of the slices once the row was read: where the next page begins."""
    if reverse:
        return intersect(slices, ((FIRST, clustering_key),))
    return intersect(slices, ((clustering_key + b"\xff", LAST),))
