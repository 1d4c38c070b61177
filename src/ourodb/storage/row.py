"""What a read gives: partitions and rows with what is live in them at the moment of reading.

Rows are lazy. Most are UNIFORM records that nothing shadows; of those only the bytes are kept, and an encoder that
finds ``UniformShape.values_at(row.record)`` copies a slice. Cells are parsed when they are first asked for.
"""

from __future__ import annotations

from typing import Final

from ourodb.storage.keys import TableKeys

LiveCell = tuple[bytes, int, int, int]
"""(value, timestamp in us, ttl in s or 0, expires_at in s or 0). A counter's value is its 8-byte sum."""

LiveElement = tuple[bytes, bytes, int, int, int]
"""(path, value, timestamp, ttl or 0, expires_at or 0). Path: a set's element (value b""), a map's key, a list's
timeuuid, a UDT field's index (u16); in the order of the collection."""

LiveMarker = tuple[int, int, int]
"""(timestamp, ttl or 0, expires_at or 0)."""


class Pause:
    """The one value (``PAUSE``) by which a long scan says: a slice of work is done; go on when you like."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "PAUSE"


PAUSE: Final = Pause()


class Wait:
    """A read or a write needs ``key`` of the DATA family, which isn't in memory: fetch it, then ask again."""

    __slots__ = ("key",)

    def __init__(self, key: bytes) -> None:
        self.key = key


class LivePartition:
    """The partition that a row belongs to.

    Attributes:
        deleted: timestamp of its deletion, NEVER when there is none.
        static: the static row, None when nothing in it is live.
        done: set it to True to skip the rest of this partition's rows in a scan (DISTINCT, PER PARTITION LIMIT).
    """

    __slots__ = ("_values", "deleted", "done", "has_ranges", "keys", "position", "static")

    def __init__(
        self,
        keys: TableKeys,
        position: bytes,
        deleted: int,
        static: LiveRow | None = None,
        has_ranges: bool = False,
    ) -> None:
        self.keys = keys
        self.position = position
        self.deleted = deleted
        self.static = static
        self.has_ranges = has_ranges
        self.done = False
        self._values: tuple[bytes, ...] | None = None

    @property
    def values(self) -> tuple[bytes, ...]:
        """The values of the partition key columns."""
        if self._values is None:
            self._values = self.keys.partition_values(self.position)
        return self._values


class LiveRow:
    """A live row (or a static row).

    Attributes:
        partition: whose.
        clustering_key: as in the store; None for a static row, and for the row that stands for a partition that has
            nothing but statics.
        record: the stored record where it is UNIFORM, live, and shadowed by nothing; else None.
        elements: by column id of multicell columns, those that are live, each list not empty.
    """

    __slots__ = ("_cells", "_clustering", "_marker", "clustering_key", "elements", "partition", "record")

    partition: LivePartition
    clustering_key: bytes | None
    record: bytes | None
    elements: dict[int, list[LiveElement]]

    @property
    def clustering(self) -> tuple[bytes, ...]:
        """The clustering values, as they were written; () of a static row."""
        raise NotImplementedError

    @property
    def cells(self) -> dict[int, LiveCell]:
        """The live simple columns by column id."""
        raise NotImplementedError

    @property
    def marker(self) -> LiveMarker | None:
        """The live row marker."""
        raise NotImplementedError
