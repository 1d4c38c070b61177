"""What changes in one partition, in the form in which it is stored and travels.

A mutation is a list of (key suffix, record). Planners make it either directly, from a ``UniformShape`` (a plain
INSERT), or with a ``MutationBuilder``, which knows rows, cells, elements and deletions. Applying one is
``storage.rows``'s.
"""

from __future__ import annotations

from collections.abc import Sequence

from ourodb.schema.model import Column
from ourodb.storage.keys import TableKeys

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
        """For hints, batch logs and peers."""
        raise NotImplementedError


def decode_mutation(buf: bytes, offset: int = 0) -> tuple[Mutation, int]:
    """Inverse of ``Mutation.encode``: the mutation at ``offset`` and the offset after it.

    Raises:
        CorruptRecord: the bytes are no mutation.
    """
    raise NotImplementedError


def row_suffix(clustering_key: bytes) -> bytes:
    """The suffix of a row's record."""
    return b"\x40" + clustering_key


class MutationBuilder:
    """Gathers the changes of one partition; what is set twice is reconciled.

    Attributes:
        timestamp: microseconds, of what is added from now on; may be changed between statements of a batch.
        now_s: what TTLs count from, seconds; likewise.
    """

    __slots__ = ("keys", "now_s", "position", "timestamp")

    def __init__(self, keys: TableKeys, position: bytes, timestamp: int, now_s: int) -> None:
        self.keys = keys
        self.position = position
        self.timestamp = timestamp
        self.now_s = now_s

    def row(self, values: Sequence[bytes]) -> RowBuilder:
        """The row with these clustering values (all of them); the same object when asked again."""
        raise NotImplementedError

    def static_row(self) -> RowBuilder:
        """The static row; it takes neither marker nor deletion."""
        raise NotImplementedError

    def delete_partition(self) -> None:
        """DELETE without clustering values; shadows the static row too."""
        raise NotImplementedError

    def delete_range(self, start: bytes, end: bytes) -> None:
        """DELETE of the rows between two bounds (``TableKeys.bound``, ``TableKeys.slice``); nothing if start >= end."""
        raise NotImplementedError

    def build(self) -> Mutation | None:
        """The mutation; None when nothing was added."""
        raise NotImplementedError


class RowBuilder:
    """The changes of one row. Values and paths are wire bytes, checked before; TTLs are seconds, 0 for none."""

    __slots__ = ()

    def marker(self, ttl: int = 0) -> None:
        """The row marker that INSERT writes."""
        raise NotImplementedError

    def delete(self) -> None:
        """DELETE of the whole row."""
        raise NotImplementedError

    def cell(self, column: Column, value: bytes, ttl: int = 0) -> None:
        """A simple column (frozen ones included)."""
        raise NotImplementedError

    def tombstone(self, column: Column) -> None:
        """A column set to null or deleted; of a multicell column this deletes all elements (see ``clear``)."""
        raise NotImplementedError

    def counter(self, column: Column, shard: bytes) -> None:
        """The shard that ``counter.increment`` gave."""
        raise NotImplementedError

    def clear(self, column: Column) -> None:
        """Delete all elements of a multicell column: ``DELETE c``, ``c = null``."""
        raise NotImplementedError

    def overwrite(self, column: Column) -> None:
        """Delete the elements that a multicell column had before, and none that this mutation adds: ``c = {...}``.

        The deletion is one microsecond older than the elements, as in Cassandra.
        """
        raise NotImplementedError

    def element(self, column: Column, path: bytes, value: bytes, ttl: int = 0) -> None:
        """An element of a multicell column.

        Args:
            path: a set's element (with value b""), a map's key, a list's timeuuid (16 bytes), a field's index (u16).
        """
        raise NotImplementedError

    def delete_element(self, column: Column, path: bytes) -> None:
        """``DELETE m[k]``, ``s = s - {x}``, a UDT field set to null."""
        raise NotImplementedError
