"""What a table holds after some writes, by the rules of CQL and without regard to how it is stored.

A write is a number of *changes*: cells that are put, elements of collections, deletions of columns, rows, ranges and
partitions. Of each cell the newest version is kept, of each deletion the newest timestamp; a cell whose timestamp isn't
above those of all deletions over it isn't there. Timestamps within a partition are never used twice, so nothing depends
on how ties are broken, and writes may come in any order.

A cell that may have expired by now is both there and not: all that one statement made to expire soon lives and dies
together, and whoever asks says which of those he takes for dead (``Expiry``). A dead cell still shadows what is older.

Source: Cassandra's reconciliation, spelt out anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Final

from ourodb.cql.types.base import CqlType
from ourodb.cql.types.murmur3 import token
from ourodb.cql.types.names import parse_type
from ourodb.storage.keys import composite

Value = Any
"""Of a column: int, str, a tuple of elements or of (key, value) in order; None where there is none."""
Key = tuple[Any, ...]
"""Values of the columns of a partition key, or of the clustering columns."""

MARKER: Final = ""
"""Stands as a column for an inserted row's own existence."""
Expiry = tuple[int, int]
"""With what a cell expires: a write's number and, in that, the timestamp of a statement."""
FOREVER: Final = (0, 0)
"""The cell doesn't expire while anybody looks."""
NOT_DELETED: Final = -(1 << 63)
WRITES_KEPT: Final = 8
"""Of each partition."""

_types: dict[str, CqlType] = {}


def type_of(name: str) -> CqlType:
    """A type by its CQL name."""
    found = _types.get(name)
    if found is None:
        found = _types[name] = parse_type(name)
    return found


@dataclass(frozen=True, slots=True)
class Column:
    """A column; ``type`` is a CQL name of one."""

    name: str
    type: str

    @property
    def is_collection(self) -> bool:
        return self.type.startswith(("set", "map"))

    def decode(self, cell: bytes | None) -> Value:
        """A cell as on the wire."""
        if cell is None:
            return None
        value = type_of(self.type).decode(cell)
        # Of a map these are pairs.
        return tuple(sorted(value)) if self.is_collection else value


@dataclass(frozen=True, slots=True)
class Shape:
    """The columns of a table.

    Attributes:
        descending: of each clustering column, whether it is.
    """

    name: str
    partition: tuple[Column, ...]
    clustering: tuple[Column, ...] = ()
    descending: tuple[bool, ...] = ()
    statics: tuple[Column, ...] = ()
    regulars: tuple[Column, ...] = ()
    gc_grace_seconds: int = 864_000

    def create(self) -> str:
        """The statement that makes it."""
        columns = [f"{column.name} {column.type}" for column in (*self.partition, *self.clustering)]
        columns += [f"{column.name} {column.type} STATIC" for column in self.statics]
        columns += [f"{column.name} {column.type}" for column in self.regulars]
        names = ", ".join(column.name for column in self.partition)
        key = ", ".join([f"({names})", *(column.name for column in self.clustering)])
        options = [f"gc_grace_seconds = {self.gc_grace_seconds}"]
        if self.clustering:
            options.append(f"CLUSTERING ORDER BY ({self.order(False)})")
        return (
            f"CREATE TABLE IF NOT EXISTS {self.name} ({', '.join(columns)}, PRIMARY KEY ({key}))"
            f" WITH {' AND '.join(options)}"
        )

    def order(self, reverse: bool) -> str:
        """The clustering columns and how they are ordered, or the other way round."""
        return ", ".join(
            f"{column.name} {'DESC' if down != reverse else 'ASC'}"
            for column, down in zip(self.clustering, self.descending, strict=True)
        )

    def column(self, name: str) -> Column:
        return next(
            column
            for column in (*self.partition, *self.clustering, *self.statics, *self.regulars)
            if column.name == name
        )

    def token(self, key: Key) -> int:
        parts = [type_of(column.type).encode(part) for column, part in zip(self.partition, key, strict=True)]
        return token(parts[0] if len(parts) == 1 else composite(parts))

    def sorted(self, rows: Iterable[Key], reverse: bool) -> list[Key]:
        """Clustering keys in the table's order, or the other way round."""
        found = list(rows)
        # A sort keeps the order of equals: the last column first.
        for index in reversed(range(len(self.clustering))):
            found.sort(key=itemgetter(index), reverse=self.descending[index] != reverse)
        return found


# --- Writes ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Slice:
    """Rows whose first clustering columns have these values and whose next one is between bounds.

    Attributes:
        low, high: (value, whether it is in), or None.
        among: the next column is one of these, instead of bounds.
    """

    prefix: Key = ()
    low: tuple[Value, bool] | None = None
    high: tuple[Value, bool] | None = None
    among: tuple[Value, ...] | None = None

    def covers(self, row: Key) -> bool:
        count = len(self.prefix)
        if row[:count] != self.prefix:
            return False
        if self.among is not None:
            return row[count] in self.among
        if self.low is not None and not (
            row[count] > self.low[0] or (self.low[1] and row[count] == self.low[0])
        ):
            return False
        return self.high is None or row[count] < self.high[0] or (self.high[1] and row[count] == self.high[0])


@dataclass(frozen=True, slots=True)
class Put:
    """A cell.

    Attributes:
        row: None: the static row.
        column: a name, or ``MARKER``.
        path: of an element: itself in a set, its key in a map; None: the column is no collection.
        value: None: it is deleted.
        expires: soon.
    """

    row: Key | None
    column: str
    path: Value
    value: Value
    expires: bool = False


@dataclass(frozen=True, slots=True)
class Clear:
    """All elements of a collection go; ``before`` those that the same write puts."""

    row: Key | None
    column: str
    before: bool = False


@dataclass(frozen=True, slots=True)
class Delete:
    """A row, or a range of rows, or the partition (None)."""

    what: Key | Slice | None


Change = Put | Clear | Delete


@dataclass(frozen=True, slots=True)
class Write:
    """What one statement does to one partition.

    Attributes:
        number: different for each write of a run, from 1 on.
        changes: each with its timestamp.
        text: for people.
    """

    number: int
    table: str
    key: Key
    changes: tuple[tuple[int, Change], ...]
    text: str = ""

    def __str__(self) -> str:
        return self.text


# --- What is there ---------------------------------------------------------------------------------------------

Version = tuple[int, Value, Expiry]
"""Timestamp, value, and with what it expires, or ``FOREVER``."""


@dataclass(slots=True)
class Row:
    """What was written to a row; deletions above it are its partition's."""

    deleted_at: int = NOT_DELETED
    cells: dict[tuple[str, Value], Version] = field(default_factory=dict)
    cleared_at: dict[str, int] = field(default_factory=dict)

    def put(self, change: Put, timestamp: int, number: int) -> None:
        at = (change.column, change.path)
        found = self.cells.get(at)
        if found is None or timestamp > found[0]:
            expires_with = (number, timestamp) if change.expires and change.value is not None else FOREVER
            self.cells[at] = (timestamp, change.value, expires_with)

    def live(self, shadow: int) -> Iterator[tuple[tuple[str, Value], Version]]:
        """The cells that no deletion hides; expired ones are among them."""
        shadow = max(shadow, self.deleted_at)
        for at, version in self.cells.items():
            if version[1] is not None and version[0] > max(shadow, self.cleared_at.get(at[0], NOT_DELETED)):
                yield at, version

    def columns(
        self, shadow: int, dead: AbstractSet[Expiry], collections: AbstractSet[str]
    ) -> dict[str, Version] | None:
        """The columns that have a value; None when the row isn't there."""
        found: dict[str, Version] = {}
        elements: dict[str, list[Value]] = {}
        for (name, path), version in self.live(shadow):
            if version[2] in dead:
                continue
            if name in collections:
                elements.setdefault(name, []).append(path if version[1] is True else (path, version[1]))
            else:
                found[name] = version
        for name, values in elements.items():
            found[name] = (NOT_DELETED, tuple(sorted(values)), FOREVER)
        return found or None


@dataclass(slots=True)
class Partition:
    """What was written to a partition.

    Attributes:
        writes: the last of those that were applied, for people.
    """

    deleted_at: int = NOT_DELETED
    static: Row = field(default_factory=Row)
    rows: dict[Key, Row] = field(default_factory=dict)
    ranges: dict[Slice, int] = field(default_factory=dict)
    writes: deque[Write] = field(default_factory=lambda: deque(maxlen=WRITES_KEPT))

    def apply(self, write: Write) -> None:
        self.writes.append(write)
        for timestamp, change in write.changes:
            if isinstance(change, Delete):
                self._delete(change.what, timestamp)
                continue
            row = self.static if change.row is None else self.rows.setdefault(change.row, Row())
            if isinstance(change, Put):
                row.put(change, timestamp, write.number)
            else:
                at = timestamp - change.before
                row.cleared_at[change.column] = max(row.cleared_at.get(change.column, NOT_DELETED), at)

    def _delete(self, what: Key | Slice | None, timestamp: int) -> None:
        if what is None:
            self.deleted_at = max(self.deleted_at, timestamp)
        elif isinstance(what, Slice):
            self.ranges[what] = max(self.ranges.get(what, NOT_DELETED), timestamp)
        else:
            row = self.rows.setdefault(what, Row())
            row.deleted_at = max(row.deleted_at, timestamp)

    def shadow(self, row: Key | None) -> int:
        """The newest deletion over a row."""
        newest = self.deleted_at
        if row is not None:
            for covered, timestamp in self.ranges.items():
                if timestamp > newest and covered.covers(row):
                    newest = timestamp
        return newest

    def expiring(self) -> set[Expiry]:
        """Of the cells that may expire and that nothing hides."""
        found = {version[2] for _, version in self.static.live(self.shadow(None))}
        for key, row in self.rows.items():
            found.update(version[2] for _, version in row.live(self.shadow(key)))
        found.discard(FOREVER)
        return found


class RowModel:
    """One table."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.partitions: dict[Key, Partition] = {}
        columns = (*shape.statics, *shape.regulars)
        self._collections = frozenset(column.name for column in columns if column.is_collection)

    def apply(self, write: Write) -> None:
        partition = self.partitions.get(write.key)
        if partition is None:
            partition = self.partitions[write.key] = Partition()
        partition.apply(write)

    def static(self, key: Key, dead: AbstractSet[Expiry]) -> dict[str, Version] | None:
        """The static columns that have a value, or None."""
        partition = self.partitions.get(key)
        if partition is None:
            return None
        return partition.static.columns(partition.shadow(None), dead, self._collections)

    def rows(
        self, key: Key, dead: AbstractSet[Expiry], reverse: bool
    ) -> Iterator[tuple[Key, dict[str, Version]]]:
        """The rows that are there, in order, with the columns that have a value."""
        partition = self.partitions.get(key)
        if partition is None:
            return
        for row in self.shape.sorted(partition.rows, reverse):
            columns = partition.rows[row].columns(partition.shadow(row), dead, self._collections)
            if columns is not None:
                yield row, columns
