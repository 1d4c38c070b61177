"""The immutable model of what the database holds: ``Schema`` > ``Keyspace`` > ``Table`` > ``Column``.

Every object here is frozen; a change of the schema builds new objects along the path that changed and shares the
rest, so a statement that was compiled against one ``Table`` can tell by identity (``is``) whether it's still current.

Two numbers tie a table to its rows. ``Table.incarnation`` begins each of its storage keys: DROP and TRUNCATE hand out
a new one, and whatever is addressed to the old one dies with it. ``Column.id`` names a cell inside a stored row: it is
never reused within a table, so DROP followed by ADD of the same name can't revive old cells.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import cached_property
from types import MappingProxyType
from typing import TypeVar
from uuid import UUID

from ourodb.cql.types import CqlType, UserType

EMPTY: Mapping[str, str] = MappingProxyType({})

T = TypeVar("T")


def frozen_map(entries: Mapping[str, T]) -> Mapping[str, T]:
    """An unchangeable copy, in the same order."""
    return MappingProxyType(dict(entries))


class ColumnKind(IntEnum):
    """What part of a row a column is."""

    PARTITION_KEY = 0
    CLUSTERING = 1
    STATIC = 2
    REGULAR = 3


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        position: index within the partition key or the clustering key; -1 for the others.
        id: names the column's cells in stored rows; 1 and up for static and regular columns, 0 for key columns.
        descending: the clustering order (clustering columns only).
    """

    name: str
    type: CqlType
    kind: ColumnKind
    position: int = -1
    id: int = 0
    descending: bool = False


@dataclass(frozen=True, slots=True)
class DroppedColumn:
    """What system_schema.dropped_columns shows, and what ADD of the same name must be compatible with.

    Attributes:
        dropped_at: microseconds since the epoch.
    """

    name: str
    type: CqlType
    kind: ColumnKind
    dropped_at: int


@dataclass(frozen=True, slots=True)
class TableOptions:
    """The WITH options of a table, by Cassandra's names; those that OuroDB doesn't act on are kept and shown."""

    comment: str = ""
    default_time_to_live: int = 0
    gc_grace_seconds: int = 864000
    speculative_retry: str = "99p"
    additional_write_policy: str = "99p"
    read_repair: str = "BLOCKING"
    bloom_filter_fp_chance: float = 0.01
    crc_check_chance: float = 1.0
    memtable_flush_period_in_ms: int = 0
    min_index_interval: int = 128
    max_index_interval: int = 2048
    memtable: str = "default"
    cdc: bool = False
    incremental_backups: bool = True
    allow_auto_snapshot: bool = True
    caching: Mapping[str, str] = field(
        default_factory=lambda: MappingProxyType({"keys": "ALL", "rows_per_partition": "NONE"})
    )
    compaction: Mapping[str, str] = field(
        default_factory=lambda: MappingProxyType(
            {
                "class": "org.apache.cassandra.db.compaction.SizeTieredCompactionStrategy",
                "max_threshold": "32",
                "min_threshold": "4",
            }
        )
    )
    compression: Mapping[str, str] = field(
        default_factory=lambda: MappingProxyType(
            {"chunk_length_in_kb": "16", "class": "org.apache.cassandra.io.compress.LZ4Compressor"}
        )
    )
    extensions: Mapping[str, str] = field(default_factory=lambda: EMPTY)


@dataclass(frozen=True)
class Table:
    """One table, frozen; derived tuples are computed once.

    Attributes:
        id: what clients see as the table's id; kept by TRUNCATE.
        incarnation: first four bytes of each storage key (u32); new at DROP + CREATE and at TRUNCATE.
        columns: by name, in definition order (partition key, clustering, then the others by name as Cassandra
            shows them: see ``select_order``).
        next_column_id: the id that the next added column gets; only grows.
        virtual: rows are made on the fly (system views); nothing is stored.
    """

    keyspace: str
    name: str
    id: UUID
    incarnation: int
    columns: Mapping[str, Column]
    options: TableOptions = field(default_factory=TableOptions)
    dropped: Mapping[str, DroppedColumn] = field(default_factory=lambda: MappingProxyType({}))
    next_column_id: int = 1
    is_counter: bool = False
    virtual: bool = False

    @cached_property
    def partition_key(self) -> tuple[Column, ...]:
        """In order of position."""
        return self._of_kind(ColumnKind.PARTITION_KEY)

    @cached_property
    def clustering(self) -> tuple[Column, ...]:
        """In order of position."""
        return self._of_kind(ColumnKind.CLUSTERING)

    @cached_property
    def statics(self) -> tuple[Column, ...]:
        """In order of name (UTF-8 bytes), as Cassandra orders them."""
        return self._of_kind(ColumnKind.STATIC)

    @cached_property
    def regulars(self) -> tuple[Column, ...]:
        """In order of name (UTF-8 bytes), as Cassandra orders them."""
        return self._of_kind(ColumnKind.REGULAR)

    @cached_property
    def select_order(self) -> tuple[Column, ...]:
        """The columns of SELECT *: partition key, clustering, statics, regulars."""
        return self.partition_key + self.clustering + self.statics + self.regulars

    @cached_property
    def by_id(self) -> Mapping[int, Column]:
        """Static and regular columns by column id."""
        return {column.id: column for column in self.statics + self.regulars}

    @cached_property
    def has_multicell(self) -> bool:
        """Whether a regular column is a non-frozen collection or UDT: its rows then have element keys."""
        return any(column.type.is_multicell for column in self.regulars)

    @cached_property
    def has_static_multicell(self) -> bool:
        return any(column.type.is_multicell for column in self.statics)

    def _of_kind(self, kind: ColumnKind) -> tuple[Column, ...]:
        chosen = [column for column in self.columns.values() if column.kind is kind]
        if kind in (ColumnKind.PARTITION_KEY, ColumnKind.CLUSTERING):
            chosen.sort(key=lambda column: column.position)
        else:
            chosen.sort(key=lambda column: column.name.encode())
        return tuple(chosen)


@dataclass(frozen=True)
class Replication:
    """How a keyspace's copies are placed.

    Attributes:
        strategy: the full class name, as system_schema.keyspaces shows it.
        options: without the class; e.g. replication_factor or DC names, values as strings.
    """

    strategy: str
    options: Mapping[str, str] = field(default_factory=lambda: EMPTY)


@dataclass(frozen=True)
class Keyspace:
    """One keyspace, frozen. ``tables`` and ``types`` are in creation order; list them sorted by name to clients."""

    name: str
    replication: Replication
    durable_writes: bool = True
    tables: Mapping[str, Table] = field(default_factory=lambda: MappingProxyType({}))
    types: Mapping[str, UserType] = field(default_factory=lambda: MappingProxyType({}))
    virtual: bool = False

    def with_table(self, table: Table) -> Keyspace:
        """With a table added, or put in place of the one of the same name."""
        return replace(self, tables=frozen_map({**self.tables, table.name: table}))

    def with_type(self, user_type: UserType) -> Keyspace:
        """With a user type added, or put in place of the one of the same name. Nothing that uses it is rebuilt."""
        return replace(self, types=frozen_map({**self.types, user_type.name: user_type}))


@dataclass(frozen=True)
class Schema:
    """All user and system keyspaces at one epoch.

    Attributes:
        epoch: index of the last change applied; grows by one per change.
        next_incarnation: the u32 that the next table (or truncation) gets; only grows.
    """

    epoch: int = 0
    next_incarnation: int = 1024
    keyspaces: Mapping[str, Keyspace] = field(default_factory=lambda: MappingProxyType({}))

    def with_keyspace(self, keyspace: Keyspace) -> Schema:
        """With a keyspace added, or put in place of the one of the same name. The epoch stays."""
        return replace(self, keyspaces=frozen_map({**self.keyspaces, keyspace.name: keyspace}))

    def table(self, keyspace: str, name: str) -> Table | None:
        """The table, or None when the keyspace or the table doesn't exist."""
        found = self.keyspaces.get(keyspace)
        return found.tables.get(name) if found is not None else None

    @cached_property
    def version(self) -> UUID:
        """schema_version: equal on all nodes that have applied the same changes."""
        return UUID(bytes=hashlib.md5(f"ourodb schema {self.epoch}".encode()).digest(), version=3)
