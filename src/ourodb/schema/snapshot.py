"""A whole schema as bytes, for the metadata store and for snapshots of the database.

User keyspaces are written in full. System keyspaces belong to the version of OuroDB that reads the bytes; of them only
what users can change is kept: replication, ``durable_writes``, and the incarnations that TRUNCATE gave to their tables.

Format: one byte of version, then msgpack. Types are texts, as in ``system_schema``. Fields may be added with defaults;
anything else is a new version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, Final
from uuid import UUID

import msgspec

from ourodb.cql.types import UserType
from ourodb.errors import InvalidRequest, StoreDamaged
from ourodb.schema.model import (
    Column,
    ColumnKind,
    DroppedColumn,
    Keyspace,
    Replication,
    Schema,
    Table,
    TableOptions,
    frozen_map,
)
from ourodb.schema.names import is_system_keyspace
from ourodb.schema.system import initial_schema
from ourodb.schema.types import type_parser

VERSION: Final = 1

_MAPS: Final = ("caching", "compaction", "compression", "extensions")
_KIND_OF: Final = {int(kind): kind for kind in ColumnKind}


class _Column(msgspec.Struct, array_like=True, frozen=True):
    name: str
    type: str
    kind: int
    position: int
    id: int
    descending: bool


class _Dropped(msgspec.Struct, array_like=True, frozen=True):
    name: str
    type: str
    kind: int
    dropped_at: int


class _Type(msgspec.Struct, array_like=True, frozen=True):
    name: str
    fields: list[tuple[str, str]]


class _Table(msgspec.Struct, frozen=True):
    name: str
    id: UUID
    incarnation: int
    columns: list[_Column]
    options: dict[str, Any]
    dropped: list[_Dropped]
    next_column_id: int
    is_counter: bool


class _Keyspace(msgspec.Struct, frozen=True):
    name: str
    strategy: str
    replication: dict[str, str]
    durable_writes: bool
    types: list[_Type]
    tables: list[_Table]


class _System(msgspec.Struct, frozen=True):
    """What differs from the system keyspace of this version."""

    name: str
    strategy: str
    replication: dict[str, str]
    durable_writes: bool
    incarnations: dict[str, int]


class _Schema(msgspec.Struct, frozen=True):
    epoch: int
    next_incarnation: int
    keyspaces: list[_Keyspace]
    system: list[_System] = []


_encoder = msgspec.msgpack.Encoder(order="deterministic")
_decoder = msgspec.msgpack.Decoder(_Schema)


def encode_schema(schema: Schema) -> bytes:
    """Schemas that the same changes led to give equal bytes."""
    users = [keyspace for keyspace in schema.keyspaces.values() if not is_system_keyspace(keyspace.name)]
    system = [
        _system(keyspace) for keyspace in schema.keyspaces.values() if is_system_keyspace(keyspace.name)
    ]
    written = _Schema(
        schema.epoch,
        schema.next_incarnation,
        [_keyspace(keyspace) for keyspace in users],
        [changed for changed in system if changed is not None],
    )
    return bytes([VERSION]) + _encoder.encode(written)


def decode_schema(encoded: bytes) -> Schema:
    """Inverse of ``encode_schema``. The system keyspaces are those of this version of OuroDB.

    Raises:
        StoreDamaged: the bytes are no schema, or one of a newer format.
    """
    if not encoded or encoded[0] != VERSION:
        found = encoded[0] if encoded else "nothing"
        raise StoreDamaged(
            f"The schema on disk has format {found}; this version of OuroDB reads format {VERSION}. "
            "Start the version that wrote it, or restore a snapshot."
        )
    try:
        read = _decoder.decode(encoded[1:])
        keyspaces = dict(initial_schema().keyspaces)
        for changed in read.system:
            if changed.name in keyspaces:
                keyspaces[changed.name] = _with_changes(keyspaces[changed.name], changed)
        for written in read.keyspaces:
            keyspaces[written.name] = _built(written)
    except (
        msgspec.DecodeError,
        msgspec.ValidationError,
        InvalidRequest,
        ValueError,
        KeyError,
        TypeError,
    ) as error:
        raise StoreDamaged(f"The schema on disk can't be read: {error}. Restore a snapshot.") from error
    return Schema(read.epoch, read.next_incarnation, frozen_map(keyspaces))


def _system(keyspace: Keyspace) -> _System | None:
    first = initial_schema().keyspaces[keyspace.name]
    incarnations = {
        name: table.incarnation
        for name, table in keyspace.tables.items()
        if table.incarnation != first.tables[name].incarnation
    }
    if (
        not incarnations
        and keyspace.replication == first.replication
        and keyspace.durable_writes == first.durable_writes
    ):
        return None
    return _System(
        keyspace.name,
        keyspace.replication.strategy,
        dict(keyspace.replication.options),
        keyspace.durable_writes,
        incarnations,
    )


def _with_changes(keyspace: Keyspace, changed: _System) -> Keyspace:
    tables = {
        name: replace(table, incarnation=changed.incarnations.get(name, table.incarnation))
        for name, table in keyspace.tables.items()
    }
    return replace(
        keyspace,
        replication=Replication(changed.strategy, frozen_map(changed.replication)),
        durable_writes=changed.durable_writes,
        tables=frozen_map(tables),
    )


def _keyspace(keyspace: Keyspace) -> _Keyspace:
    types = [
        _Type(
            user_type.name,
            [
                (name, part.cql_name)
                for name, part in zip(user_type.field_names, user_type.components, strict=True)
            ],
        )
        for user_type in keyspace.types.values()
    ]
    return _Keyspace(
        keyspace.name,
        keyspace.replication.strategy,
        dict(keyspace.replication.options),
        keyspace.durable_writes,
        types,
        [_table(table) for table in keyspace.tables.values()],
    )


def _table(table: Table) -> _Table:
    columns = [
        _Column(column.name, column.type.cql_name, column.kind, column.position, column.id, column.descending)
        for column in table.columns.values()
    ]
    dropped = [
        _Dropped(column.name, column.type.cql_name, column.kind, column.dropped_at)
        for column in table.dropped.values()
    ]
    return _Table(
        table.name,
        table.id,
        table.incarnation,
        columns,
        _options(table.options),
        dropped,
        table.next_column_id,
        table.is_counter,
    )


def _options(options: TableOptions) -> dict[str, Any]:
    values = {field.name: getattr(options, field.name) for field in fields(options)}
    return values | {name: dict(values[name]) for name in _MAPS}


def _built(written: _Keyspace) -> Keyspace:
    types = _built_types(written)
    parse = type_parser(types.get)
    tables = {}
    for table in written.tables:
        columns = {
            column.name: Column(
                column.name,
                parse(column.type),
                _KIND_OF[column.kind],
                column.position,
                column.id,
                column.descending,
            )
            for column in table.columns
        }
        dropped = {
            column.name: DroppedColumn(
                column.name, parse(column.type), _KIND_OF[column.kind], column.dropped_at
            )
            for column in table.dropped
        }
        tables[table.name] = Table(
            keyspace=written.name,
            name=table.name,
            id=table.id,
            incarnation=table.incarnation,
            columns=frozen_map(columns),
            options=_built_options(table.options),
            dropped=frozen_map(dropped),
            next_column_id=table.next_column_id,
            is_counter=table.is_counter,
        )
    replication = Replication(written.strategy, frozen_map(written.replication))
    return Keyspace(written.name, replication, written.durable_writes, frozen_map(tables), types)


def _built_types(written: _Keyspace) -> Mapping[str, UserType]:
    """The user types, which may be written before those that they are made of."""
    waiting = {user_type.name: user_type for user_type in written.types}
    built: dict[str, UserType] = {}

    def resolve(name: str) -> UserType | None:
        if name not in built:
            # Taken out first, so that a type inside itself isn't found.
            user_type = waiting.pop(name, None)
            if user_type is None:
                return None
            names = tuple(field for field, _ in user_type.fields)
            parts = tuple(parse(text) for _, text in user_type.fields)
            built[name] = UserType(written.name, name, names, parts)
        return built[name]

    parse = type_parser(resolve)
    for user_type in written.types:
        resolve(user_type.name)
    return frozen_map({user_type.name: built[user_type.name] for user_type in written.types})


def _built_options(values: dict[str, Any]) -> TableOptions:
    known = {field.name for field in fields(TableOptions)}
    kept = {name: value for name, value in values.items() if name in known}
    return TableOptions(**kept | {name: frozen_map(kept[name]) for name in _MAPS if name in kept})
