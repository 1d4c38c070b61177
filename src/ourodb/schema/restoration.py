"""Keyspaces that come back from a snapshot.

``restore_keyspace`` carries out the change (see ``evolution``): a keyspace with its types and tables as they were. What
names stored bytes within a table stays: column ids, the next of them, dropped columns; so the old rows mean what they
meant. What names the table in the store is new: each table gets an incarnation of its own, so that nothing addressed to
another life of it can reach it. Table ids stay as well, by which a later restore knows that these are its tables
(``check_same``); under another name the keyspace is a copy, and its tables get ids that are derived from theirs.

The definition travels as the encoding of a schema that holds this keyspace alone, deflated: as many tables as there
may be would be more than an entry of the metadata log can hold.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Final
from uuid import uuid5

from ourodb import limits
from ourodb.cql.types.composite import UserType
from ourodb.errors import AlreadyExists, ConfigurationException, InvalidRequest, StoreDamaged
from ourodb.schema.changes import Outcome, RestoreKeyspace, SchemaChangeEvent
from ourodb.schema.keyspaces import LOCAL
from ourodb.schema.model import Column, Keyspace, Replication, Schema, Table, frozen_map
from ourodb.schema.names import check_keyspace_name, is_system_keyspace, qualified
from ourodb.schema.snapshot import decode_schema, encode_schema

_DEFLATED: Final = b"\x78"
"""The first byte of what zlib makes; the encoding of a schema begins with its version."""


def definition_of(
    keyspace: Keyspace, name: str | None = None, replication: Replication | None = None
) -> bytes:
    """A keyspace as ``RestoreKeyspace`` and ``keyspace_of`` take it.

    Args:
        name: another one than it has.
        replication: another one than it has.
    """
    if name is not None and name != keyspace.name:
        tables = {table.name: replace(table, id=uuid5(table.id, name)) for table in keyspace.tables.values()}
        keyspace = replace(keyspace, name=name, tables=frozen_map(tables))
    if replication is not None:
        keyspace = replace(keyspace, replication=replication)
    return zlib.compress(encode_schema(Schema(keyspaces=frozen_map({keyspace.name: keyspace}))))


def keyspace_of(definition: bytes) -> Keyspace:
    """Inverse of ``definition_of``.

    Raises:
        StoreDamaged: the bytes are no definition, or one that a newer version of OuroDB made.
    """
    schema = decode_schema(_inflated(definition))
    found = [one for one in schema.keyspaces.values() if not is_system_keyspace(one.name)]
    if len(found) != 1:
        raise StoreDamaged(f"A definition of a keyspace holds {len(found)} of them")
    return found[0]


def _inflated(definition: bytes) -> bytes:
    """The encoding of the schema; entries of earlier versions have it as it is."""
    if definition[:1] != _DEFLATED:
        return definition
    inflater = zlib.decompressobj()
    try:
        encoded = inflater.decompress(definition, limits.RESTORE_UPLOAD_BYTES_MAX)
    except zlib.error as error:
        raise StoreDamaged(f"A definition of a keyspace can't be read: {error}") from error
    if not inflater.eof:
        raise StoreDamaged("A definition of a keyspace ends too early, or is too large")
    return encoded


def restore_keyspace(schema: Schema, change: RestoreKeyspace) -> Outcome:
    """Raises StoreDamaged, like every change that can't be read, when the definition can't be."""
    keyspace = keyspace_of(change.definition)
    if keyspace.name != change.keyspace:
        raise InvalidRequest(f"The definition of keyspace '{change.keyspace}' is that of '{keyspace.name}'")
    check_keyspace_name(keyspace.name, InvalidRequest)
    if keyspace.name in schema.keyspaces:
        raise AlreadyExists(keyspace.name)
    if keyspace.replication.strategy == LOCAL:
        raise InvalidRequest(
            "Unable to use given strategy class: LocalStrategy is reserved for internal use."
        )
    _check_room(schema, keyspace)
    incarnation = schema.next_incarnation
    tables = {}
    for table in keyspace.tables.values():
        _check_numbers(table)
        tables[table.name] = replace(table, incarnation=incarnation)
        incarnation += 1
    events = [SchemaChangeEvent("CREATED", "KEYSPACE", keyspace.name)]
    events += [SchemaChangeEvent("CREATED", "TYPE", keyspace.name, name) for name in keyspace.types]
    events += [SchemaChangeEvent("CREATED", "TABLE", keyspace.name, name) for name in sorted(tables)]
    grown = replace(schema, next_incarnation=incarnation)
    return grown.with_keyspace(replace(keyspace, tables=frozen_map(tables))), tuple(events)


def check_same(present: Keyspace, restored: Keyspace) -> None:
    """Whether rows written under ``restored`` mean the same under ``present``, which may have been altered since.

    Raises:
        InvalidRequest: they don't; the message says where.
    """
    for name, user_type in restored.types.items():
        current = present.types.get(name)
        if current is None:
            continue  # Dropped since, with all that used it.
        fields = _fields(user_type)
        if _fields(current)[: len(fields)] != fields:
            raise InvalidRequest(
                f"the user type {qualified(present.name, name)} isn't that of the snapshot: its fields have other"
                " names or types, or it has fewer"
            )
    for name, table in restored.tables.items():
        shown = qualified(present.name, name)
        there = present.tables.get(name)
        if there is None:
            raise InvalidRequest(f"the snapshot has a table {shown}, the cluster hasn't")
        if there.id != table.id:
            raise InvalidRequest(
                f"the table {shown} isn't the one of the snapshot, it was created by itself: its id is {there.id},"
                f" not {table.id}"
            )
        if there.next_column_id < table.next_column_id:
            raise InvalidRequest(
                f"the snapshot's table {shown} had columns added that the cluster's doesn't know; restore the newest"
                " snapshot first, or all of them in one command"
            )
        if _layout(there) != _layout(table):
            raise InvalidRequest(f"the table {shown} has columns of other types than the one of the snapshot")
        _check_columns(there, table, shown)


def _fields(user_type: UserType) -> list[tuple[str, str]]:
    types = [part.cql_name for part in user_type.components]
    return list(zip(user_type.field_names, types, strict=True))


def _check_columns(there: Table, table: Table, shown: str) -> None:
    """Refuse rows of ``table`` if a column id may mean another column in ``there``: two tables of one origin may have
    given the same id to different columns.
    """
    for id, column in table.by_id.items():
        current = there.by_id.get(id)
        if current is None:
            # Dropped since: its cells aren't seen, as those that were here.
            if column.name not in there.dropped:
                raise InvalidRequest(
                    f"the snapshot's table {shown} has a column {column.name}, the cluster's never had it"
                )
        elif _meaning(current) != _meaning(column):
            raise InvalidRequest(
                f"the table {shown} has {current.name} {current.type.cql_name} where that of the snapshot has"
                f" {column.name} {column.type.cql_name}: columns of other names or types"
            )
    for id, column in there.by_id.items():
        # The snapshot may still hold cells of what was dropped, and doesn't say what that was.
        if id < table.next_column_id and id not in table.by_id:
            raise InvalidRequest(
                f"the table {shown} has a column {column.name} in the place of one that the snapshot's has dropped;"
                " restore the newest snapshot first, or all of them in one command"
            )


def _meaning(column: Column) -> object:
    """What must be equal for the cells of two columns to be the same."""
    return column.name, column.kind, column.type.cql_name


def _layout(table: Table) -> object:
    """What keys are made of, and what cells are."""
    keys = [(column.kind, column.type.cql_name, column.descending) for column in table.partition_key]
    keys += [(column.kind, column.type.cql_name, column.descending) for column in table.clustering]
    return keys, table.is_counter


def _check_room(schema: Schema, keyspace: Keyspace) -> None:
    users = [one for one in schema.keyspaces.values() if not is_system_keyspace(one.name)]
    if len(users) >= limits.KEYSPACES_MAX:
        raise InvalidRequest(
            f"Cannot have more than {limits.KEYSPACES_MAX} keyspaces, aborting the creation of keyspace {keyspace.name}"
        )
    count = sum(len(one.tables) for one in users) + len(keyspace.tables)
    if count > limits.TABLES_MAX:
        raise InvalidRequest(
            f"Cannot have more than {limits.TABLES_MAX} tables, keyspace {keyspace.name} would make it {count}"
        )
    owners = {table.id: table for one in schema.keyspaces.values() for table in one.tables.values()}
    for table in keyspace.tables.values():
        owner = owners.setdefault(table.id, table)
        if owner is not table:
            raise ConfigurationException(
                f"Table id {table.id} is already that of {qualified(owner.keyspace, owner.name)}"
            )


def _check_numbers(table: Table) -> None:
    """Refuse what could never have come from a table of ours, since it would be refused by nobody later."""
    ids = [column.id for column in table.statics + table.regulars]
    fits = table.partition_key and len(set(ids)) == len(ids)
    if not fits or any(not 0 < id < table.next_column_id for id in ids):
        raise InvalidRequest(
            f"The definition of table {qualified(table.keyspace, table.name)} is inconsistent"
        )
