"""What a read gives: partitions and rows with what is live in them at the moment of reading.

Rows are lazy. Most are UNIFORM records that nothing shadows; of those only the bytes are kept, and an encoder that
finds ``UniformShape.values_at(row.record)`` copies a slice. Cells are parsed when they are first asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from ourodb.storage.keys import TableKeys
from ourodb.storage.record import NEVER, RAW_CLUSTERING, raw_clustering, uniform_cells, uniform_marker
from ourodb.storage.tombstones import UNWATCHED, TombstoneWatch

LiveCell = tuple[bytes, int, int, int]
"""(value, timestamp in us, ttl in s or 0, expires_at in s or 0). A counter's value is its 8-byte sum."""

LiveElement = tuple[bytes, bytes, int, int, int]
"""(path, value, timestamp, ttl or 0, expires_at or 0). Path: a set's element (value b""), a map's key, a list's
timeuuid, a UDT field's index (u16); in the order of the collection."""

LiveMarker = tuple[int, int, int]
"""(timestamp, ttl or 0, expires_at or 0)."""

NO_ELEMENTS: Final[Mapping[int, list[LiveElement]]] = MappingProxyType({})


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
        keys, position: whose.
        deleted: timestamp of its deletion, NEVER when there is none.
        static: the static row, None when nothing in it is live.
        has_ranges: it may have range tombstones.
        done: set it to True to skip the rest of this partition's rows in a scan (DISTINCT, PER PARTITION LIMIT).
    """

    __slots__ = ("_values", "_watch", "deleted", "done", "has_ranges", "keys", "position", "static")

    def __init__(self, keys: TableKeys, position: bytes, watch: TombstoneWatch = UNWATCHED) -> None:
        self.keys = keys
        self.position = position
        self.deleted = NEVER
        self.static: LiveRow | None = None
        self.has_ranges = False
        self.done = False
        self._values: tuple[bytes, ...] | None = None
        self._watch = watch

    def met(self, tombstones: int) -> None:
        """The read met so many tombstones in it.

        Raises:
            TooManyTombstones: they are too many by now.
        """
        self._watch.meet(self.keys, self.position, tombstones)

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
        clustering_key: as in the store; None for a static row, and for the row that stands for a partition in which
            nothing but statics is live.
        record: the stored record where it is UNIFORM, live, and shadowed by nothing; else None.
        elements: by column id of multicell columns, those that are live, each list not empty.
    """

    __slots__ = ("_cells", "_clustering", "_marker", "clustering_key", "elements", "partition", "record")

    def __init__(
        self,
        partition: LivePartition,
        clustering_key: bytes | None,
        record: bytes | None,
        cells: dict[int, LiveCell] | None = None,
        marker: LiveMarker | None = None,
        elements: Mapping[int, list[LiveElement]] = NO_ELEMENTS,
        clustering: tuple[bytes, ...] | None = None,
    ) -> None:
        """
        Args:
            cells, marker: ignored where there is a record, which has them.
            clustering: the values as written, where they aren't the canonical ones.
        """
        self.partition = partition
        self.clustering_key = clustering_key
        self.record = record
        self.elements = elements
        self._cells = cells
        self._marker = marker
        self._clustering = clustering

    @property
    def clustering(self) -> tuple[bytes, ...]:
        """The clustering values, as they were written; () of a static row."""
        values = self._clustering
        if values is None:
            if self.clustering_key is None:
                return ()
            if self.record is not None and self.record[1] & RAW_CLUSTERING:
                values = raw_clustering(self.record)
            if values is None:
                values = self.partition.keys.clustering_values(self.clustering_key)[0]
            self._clustering = values
        return values

    @property
    def cells(self) -> dict[int, LiveCell]:
        """The live simple columns by column id."""
        cells = self._cells
        if cells is None:
            assert self.record is not None
            cells = self._cells = uniform_cells(self.record)
        return cells

    @property
    def marker(self) -> LiveMarker | None:
        """The live row marker."""
        return self._marker if self.record is None else uniform_marker(self.record)
