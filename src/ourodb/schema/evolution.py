"""How a schema evolves: ``apply`` carries out one change.

A pure function of its arguments: no clock, no draw, no order of a set. Every node that applies the same changes to the
same schema gets an equal schema, epoch and incarnations included.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ourodb.schema import changes
from ourodb.schema.changes import Change, Outcome
from ourodb.schema.keyspaces import alter_keyspace, create_keyspace, drop_keyspace
from ourodb.schema.model import Schema
from ourodb.schema.restoration import restore_keyspace
from ourodb.schema.tables import (
    add_columns,
    alter_options,
    create_table,
    drop_columns,
    drop_table,
    rename_columns,
    truncate_table,
)
from ourodb.schema.user_types import add_field, create_type, drop_type, rename_fields

_APPLIERS: dict[type[Change], Callable[[Schema, Any], Outcome]] = {
    changes.CreateKeyspace: create_keyspace,
    changes.AlterKeyspace: alter_keyspace,
    changes.DropKeyspace: drop_keyspace,
    changes.RestoreKeyspace: restore_keyspace,
    changes.CreateTable: create_table,
    changes.AddColumns: add_columns,
    changes.DropColumns: drop_columns,
    changes.RenameColumns: rename_columns,
    changes.AlterTableOptions: alter_options,
    changes.DropTable: drop_table,
    changes.TruncateTable: truncate_table,
    changes.CreateType: create_type,
    changes.AddField: add_field,
    changes.RenameFields: rename_fields,
    changes.DropType: drop_type,
}


def apply(schema: Schema, change: Change) -> Outcome:
    """The schema after the change, and what clients are told, the statement's own event last.

    A change that has nothing to do (IF EXISTS, IF NOT EXISTS, options that are so already) gives ``schema`` itself and
    no events. Every other one grows the epoch by one.

    Raises:
        RequestError: the change doesn't fit the schema; with Cassandra's class and text.
    """
    after, events = _APPLIERS[type(change)](schema, change)
    if after is schema:
        return schema, ()
    return replace(after, epoch=schema.epoch + 1), events
