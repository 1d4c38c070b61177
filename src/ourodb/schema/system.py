"""The system keyspaces as schema objects: what a new cluster starts with.

To clients ``system``, ``system_schema``, ``system_auth``, ``system_distributed`` and ``system_traces`` are ordinary
keyspaces, and ``system_views`` and ``system_virtual_schema`` are virtual ones, as in Cassandra. Of all their tables
only those of ``system_traces`` are stored; the rows of the others are made when they are asked for
(``Table.virtual``, ``schema.virtual``).

Ids are Cassandra's. Incarnations are below 1024: those of stored tables are fixed for ever, since they begin keys on
disk.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache
from types import MappingProxyType
from typing import Final
from uuid import UUID

from ourodb.cql.types import parse_type
from ourodb.schema.compaction import TIME_WINDOW, build_compaction
from ourodb.schema.keyspaces import LOCAL, SIMPLE
from ourodb.schema.model import (
    Column,
    ColumnKind,
    Keyspace,
    Replication,
    Schema,
    Table,
    TableOptions,
    frozen_map,
)
from ourodb.schema.system_tables import (
    SYSTEM,
    SYSTEM_AUTH,
    SYSTEM_DISTRIBUTED,
    SYSTEM_SCHEMA,
    SYSTEM_TRACES,
    SYSTEM_VIEWS,
    SYSTEM_VIRTUAL_SCHEMA,
    Definition,
)

HOUR_MS: Final = 3_600_000
DAY_SECONDS: Final = 86_400

_STORED: Final = {("system_traces", "events"): 1, ("system_traces", "sessions"): 2}
"""Incarnations of the stored tables."""

_FIRST_UNSTORED: Final = 64

_LOCAL_OPTIONS: Final = TableOptions(gc_grace_seconds=0, memtable_flush_period_in_ms=HOUR_MS)

_KEYSPACES: Final[tuple[tuple[str, tuple[Definition, ...], Replication, TableOptions], ...]] = (
    ("system", SYSTEM, Replication(LOCAL), _LOCAL_OPTIONS),
    (
        "system_schema",
        SYSTEM_SCHEMA,
        Replication(LOCAL),
        replace(_LOCAL_OPTIONS, gc_grace_seconds=7 * DAY_SECONDS),
    ),
    (
        "system_auth",
        SYSTEM_AUTH,
        Replication(SIMPLE, MappingProxyType({"replication_factor": "1"})),
        TableOptions(gc_grace_seconds=90 * DAY_SECONDS),
    ),
    (
        "system_distributed",
        SYSTEM_DISTRIBUTED,
        Replication(SIMPLE, MappingProxyType({"replication_factor": "3"})),
        TableOptions(),
    ),
    (
        "system_traces",
        SYSTEM_TRACES,
        Replication(SIMPLE, MappingProxyType({"replication_factor": "2"})),
        TableOptions(gc_grace_seconds=0),
    ),
    ("system_virtual_schema", SYSTEM_VIRTUAL_SCHEMA, Replication(LOCAL), TableOptions()),
    ("system_views", SYSTEM_VIEWS, Replication(LOCAL), TableOptions()),
)

_COMPACTION: Final = {
    ("system", "batches"): {"class": "SizeTieredCompactionStrategy", "min_threshold": "2"},
    ("system", "paxos"): {"class": "LeveledCompactionStrategy"},
    ("system_distributed", "parent_repair_history"): {
        "class": TIME_WINDOW,
        "compaction_window_size": "1",
        "compaction_window_unit": "DAYS",
    },
    ("system_distributed", "repair_history"): {
        "class": TIME_WINDOW,
        "compaction_window_size": "1",
        "compaction_window_unit": "DAYS",
    },
}

_TIME_TO_LIVE: Final = {
    ("system", "compaction_history"): 7 * DAY_SECONDS,
    ("system_distributed", "parent_repair_history"): 30 * DAY_SECONDS,
    ("system_distributed", "repair_history"): 30 * DAY_SECONDS,
}


@cache
def initial_schema() -> Schema:
    """The schema of a new cluster, epoch 0: the system keyspaces and nothing else. Always the same object."""
    keyspaces = {}
    unstored = _FIRST_UNSTORED
    for name, definitions, replication, options in _KEYSPACES:
        tables = {}
        for definition in definitions:
            incarnation = _STORED.get((name, definition.name))
            if incarnation is None:
                incarnation = unstored
                unstored += 1
            tables[definition.name] = _table(name, definition, options, incarnation)
        virtual = name in ("system_views", "system_virtual_schema")
        keyspaces[name] = Keyspace(name, replication, tables=frozen_map(tables), virtual=virtual)
    return Schema(keyspaces=frozen_map(keyspaces))


def system_table_id(keyspace: str, table: str) -> UUID:
    """The id that Cassandra gives to a table of its own."""
    return UUID(bytes=hashlib.md5(f"{keyspace}{table}".encode()).digest(), version=3)


def _table(keyspace: str, definition: Definition, options: TableOptions, incarnation: int) -> Table:
    key = definition.key
    partition_key, clustering = key[1:].split(")") if key.startswith("(") else [*key.split(",", 1), ""][:2]
    names = [name.strip() for name in partition_key.split(",")]
    clustering_names = [name.strip() for name in clustering.split(",") if name.strip()]
    columns = {}
    next_id = 1
    for part in definition.columns.split(";"):
        name, _, type_text = part.strip().partition(" ")
        if name in names:
            column = Column(name, parse_type(type_text), ColumnKind.PARTITION_KEY, names.index(name))
        elif name in clustering_names:
            position = clustering_names.index(name)
            column = Column(name, parse_type(type_text), ColumnKind.CLUSTERING, position)
        else:
            column = Column(name, parse_type(type_text), ColumnKind.REGULAR, id=next_id)
            next_id += 1
        columns[name] = column
    where = (keyspace, definition.name)
    if where in _COMPACTION:
        options = replace(options, compaction=frozen_map(build_compaction(_COMPACTION[where])))
    return Table(
        keyspace=keyspace,
        name=definition.name,
        id=system_table_id(keyspace, definition.name),
        incarnation=incarnation,
        columns=frozen_map(columns),
        options=replace(
            options, comment=definition.comment, default_time_to_live=_TIME_TO_LIVE.get(where, 0)
        ),
        next_column_id=next_id,
        virtual=where not in _STORED,
    )
