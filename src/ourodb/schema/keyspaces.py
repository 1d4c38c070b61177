"""Changes of keyspaces. Each function takes (schema, change) and gives (schema, events); see ``evolution``."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ourodb import limits
from ourodb.errors import AlreadyExists, InvalidRequest
from ourodb.schema.changes import AlterKeyspace, CreateKeyspace, DropKeyspace, Outcome, SchemaChangeEvent
from ourodb.schema.model import Keyspace, Replication, Schema, frozen_map
from ourodb.schema.names import check_keyspace_name, is_system_keyspace

SIMPLE: Final = "org.apache.cassandra.locator.SimpleStrategy"
NETWORK_TOPOLOGY: Final = "org.apache.cassandra.locator.NetworkTopologyStrategy"
LOCAL: Final = "org.apache.cassandra.locator.LocalStrategy"


def create_keyspace(schema: Schema, change: CreateKeyspace) -> Outcome:
    check_keyspace_name(change.keyspace, InvalidRequest)
    if change.keyspace in schema.keyspaces:
        if change.if_not_exists:
            return schema, ()
        raise AlreadyExists(change.keyspace)
    if sum(not is_system_keyspace(name) for name in schema.keyspaces) >= limits.KEYSPACES_MAX:
        raise InvalidRequest(
            f"Cannot have more than {limits.KEYSPACES_MAX} keyspaces, aborting the creation of keyspace "
            f"{change.keyspace}"
        )
    replication = Replication(change.strategy, frozen_map(change.replication))
    created = Keyspace(change.keyspace, replication, durable_writes=change.durable_writes)
    return schema.with_keyspace(created), (SchemaChangeEvent("CREATED", "KEYSPACE", change.keyspace),)


def alter_keyspace(schema: Schema, change: AlterKeyspace) -> Outcome:
    keyspace = schema.keyspaces.get(change.keyspace)
    if keyspace is None:
        if change.if_exists:
            return schema, ()
        raise InvalidRequest(f"Keyspace '{change.keyspace}' doesn't exist")
    altered = keyspace
    if change.strategy is not None and change.replication is not None:
        altered = replace(altered, replication=Replication(change.strategy, frozen_map(change.replication)))
    if change.durable_writes is not None:
        altered = replace(altered, durable_writes=change.durable_writes)
    if altered == keyspace:
        return schema, ()
    return schema.with_keyspace(altered), (SchemaChangeEvent("UPDATED", "KEYSPACE", change.keyspace),)


def drop_keyspace(schema: Schema, change: DropKeyspace) -> Outcome:
    keyspace = schema.keyspaces.get(change.keyspace)
    if keyspace is None:
        if change.if_exists:
            return schema, ()
        raise InvalidRequest(f"Keyspace '{change.keyspace}' doesn't exist")
    events = [SchemaChangeEvent("DROPPED", "TABLE", keyspace.name, name) for name in sorted(keyspace.tables)]
    events += [SchemaChangeEvent("DROPPED", "TYPE", keyspace.name, name) for name in sorted(keyspace.types)]
    events.append(SchemaChangeEvent("DROPPED", "KEYSPACE", keyspace.name))
    kept = {name: other for name, other in schema.keyspaces.items() if name != keyspace.name}
    return replace(schema, keyspaces=frozen_map(kept)), tuple(events)
