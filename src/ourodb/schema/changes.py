"""The changes that a schema can go through: commands that are plain data.

A change is an entry of the metadata log. It holds all that a statement said once names and types were resolved, and
whatever was drawn or read from a clock (a table's id, the time of a DROP), so that carrying it out is a pure function:
every node that applies the same changes to the same schema has the same schema.

``evolution.apply`` checks everything that depends on the schema, with the errors of Apache Cassandra 5. A statement is
checked by applying its change to the schema at hand before it is appended; an entry that no longer fits when its turn
comes (another one came before it) is refused by every node alike.

Encoding: msgpack maps, keys by name, defaults left out, so that fields can be added. Tags and field names are for ever.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias
from uuid import UUID

import msgspec

from ourodb.errors import StoreDamaged
from ourodb.schema.model import Schema

Properties: TypeAlias = dict[str, str | dict[str, str]]
"""What WITH said, as in ``cql.syntax.ast``."""


class SchemaChangeEvent(NamedTuple):
    """What clients are told.

    Attributes:
        change: CREATED, UPDATED or DROPPED.
        target: KEYSPACE, TABLE or TYPE.
        name: of the table or type; empty for a keyspace.
    """

    change: str
    target: str
    keyspace: str
    name: str = ""


class ColumnSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """A column to be made; type as in ``system_schema.columns``."""

    name: str
    type: str
    static: bool = False


class _Command(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="change"):
    """What the encodings of all changes have in common."""


class CreateKeyspace(_Command, frozen=True, tag="create_keyspace"):
    """Replication is complete: full class name, DCs expanded."""

    keyspace: str
    strategy: str
    replication: dict[str, str]
    durable_writes: bool = True
    if_not_exists: bool = False


class AlterKeyspace(_Command, frozen=True, tag="alter_keyspace"):
    """None leaves as it is."""

    keyspace: str
    strategy: str | None = None
    replication: dict[str, str] | None = None
    durable_writes: bool | None = None
    if_exists: bool = False


class DropKeyspace(_Command, frozen=True, tag="drop_keyspace"):
    keyspace: str
    if_exists: bool = False


class RestoreKeyspace(_Command, frozen=True, tag="restore_keyspace"):
    """A keyspace comes back from a snapshot, with its types and tables.

    Attributes:
        definition: of this keyspace, under this name (``schema.restoration``).
    """

    keyspace: str
    definition: bytes


class CreateTable(_Command, frozen=True, tag="create_table"):
    """CREATE TABLE.

    Attributes:
        columns: in the order of the statement.
        clustering_order: (column, ascending), as written.
    """

    keyspace: str
    table: str
    id: UUID
    columns: tuple[ColumnSpec, ...]
    partition_key: tuple[str, ...]
    clustering: tuple[str, ...] = ()
    clustering_order: tuple[tuple[str, bool], ...] = ()
    properties: Properties = {}
    if_not_exists: bool = False


class AddColumns(_Command, frozen=True, tag="add_columns"):
    keyspace: str
    table: str
    columns: tuple[ColumnSpec, ...]
    if_exists: bool = False
    if_not_exists: bool = False


class DropColumns(_Command, frozen=True, tag="drop_columns"):
    """Attributes: dropped_at, microseconds since the epoch; if_column_exists, of each column."""

    keyspace: str
    table: str
    columns: tuple[str, ...]
    dropped_at: int
    if_exists: bool = False
    if_column_exists: bool = False


class RenameColumns(_Command, frozen=True, tag="rename_columns"):
    """(old, new) pairs."""

    keyspace: str
    table: str
    renames: tuple[tuple[str, str], ...]
    if_exists: bool = False


class AlterTableOptions(_Command, frozen=True, tag="alter_table_options"):
    keyspace: str
    table: str
    properties: Properties
    if_exists: bool = False


class DropTable(_Command, frozen=True, tag="drop_table"):
    keyspace: str
    table: str
    if_exists: bool = False


class TruncateTable(_Command, frozen=True, tag="truncate_table"):
    keyspace: str
    table: str


class CreateType(_Command, frozen=True, tag="create_type"):
    """(field, type) pairs; types as in ``system_schema.types``."""

    keyspace: str
    type: str
    fields: tuple[tuple[str, str], ...]
    if_not_exists: bool = False


class AddField(_Command, frozen=True, tag="add_field"):
    keyspace: str
    type: str
    field: str
    field_type: str
    if_exists: bool = False
    if_not_exists: bool = False


class RenameFields(_Command, frozen=True, tag="rename_fields"):
    """(old, new) pairs."""

    keyspace: str
    type: str
    renames: tuple[tuple[str, str], ...]
    if_exists: bool = False
    if_field_exists: bool = False


class DropType(_Command, frozen=True, tag="drop_type"):
    keyspace: str
    type: str
    if_exists: bool = False


Change: TypeAlias = (
    CreateKeyspace
    | AlterKeyspace
    | DropKeyspace
    | RestoreKeyspace
    | CreateTable
    | AddColumns
    | DropColumns
    | RenameColumns
    | AlterTableOptions
    | DropTable
    | TruncateTable
    | CreateType
    | AddField
    | RenameFields
    | DropType
)


Outcome: TypeAlias = tuple[Schema, tuple[SchemaChangeEvent, ...]]
"""What a change leads to: the schema after it, and what clients are told."""

_encoder = msgspec.msgpack.Encoder(order="deterministic")
_decoder = msgspec.msgpack.Decoder(Change)


def encode_change(change: Change) -> bytes:
    """The change as kept in the log: equal changes give equal bytes."""
    return _encoder.encode(change)


def decode_change(encoded: bytes) -> Change:
    """Inverse of ``encode_change``.

    Raises:
        StoreDamaged: the bytes are no change.
    """
    try:
        change: Change = _decoder.decode(encoded)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise StoreDamaged(f"An entry of the metadata log can't be read: {error}") from error
    return change
