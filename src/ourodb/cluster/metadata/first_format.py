"""The schema of a node that ran alone, as versions before the ring kept it; nothing writes its entries any more.

=========================================  ==================================================
METADATA ``cluster/schema``                a schema (``schema.snapshot``)
LOG ``metadata/`` + epoch (u64)            0x01, a change (``schema.changes``) on top of it
=========================================  ==================================================

A cluster that is founded over such a store begins with that schema, and the old keys go away in the same batch. The
first of them alone is also how a schema is put into an empty store (``install``).
"""

from __future__ import annotations

import struct
from typing import Final

from ourodb.errors import RequestError, StoreDamaged
from ourodb.ports import Store, Write
from ourodb.schema.changes import decode_change
from ourodb.schema.evolution import apply
from ourodb.schema.model import Schema
from ourodb.schema.snapshot import decode_schema, encode_schema
from ourodb.schema.system import initial_schema
from ourodb.storage.families import LOG, METADATA

SCHEMA_KEY: Final = b"cluster/schema"
ENTRY_PREFIX: Final = b"metadata/"
ENTRY_FORMAT: Final = 1

_EPOCH: Final = struct.Struct(">Q")


def entry_key(epoch: int) -> bytes:
    """Where the entry that leads to ``epoch`` was kept."""
    return ENTRY_PREFIX + _EPOCH.pack(epoch)


def install(store: Store, schema: Schema) -> None:
    """Write a schema into a store that belongs to no cluster; the one that is founded over it begins with it."""
    store.apply([(METADATA, SCHEMA_KEY, encode_schema(schema))])


def read_schema(store: Store) -> Schema | None:
    """The schema that the store holds; None when it holds none.

    Raises:
        StoreDamaged: entries are missing, can't be read or can't be applied.
    """
    schema = initial_schema()
    found = False
    for _, encoded in store.scan(METADATA, SCHEMA_KEY, SCHEMA_KEY + b"\x00"):
        schema, found = decode_schema(encoded), True
    for key, encoded in store.scan(LOG, entry_key(schema.epoch + 1), ENTRY_PREFIX + b"\xff" * 9):
        schema, found = _replayed(schema, key, encoded), True
    return schema if found else None


def removal(store: Store) -> list[Write]:
    """Deletes what ``read_schema`` reads."""
    writes: list[Write] = [(METADATA, SCHEMA_KEY, None)]
    writes += [(LOG, key, None) for key, _ in store.scan(LOG, ENTRY_PREFIX, ENTRY_PREFIX + b"\xff" * 9)]
    return writes


def _replayed(schema: Schema, key: bytes, encoded: bytes) -> Schema:
    if key != entry_key(schema.epoch + 1):
        raise StoreDamaged(
            f"Entry {schema.epoch + 1} of the metadata log is missing. Restore a snapshot of this node's data."
        )
    if encoded[:1] != bytes([ENTRY_FORMAT]):
        raise StoreDamaged(
            f"Entry {schema.epoch + 1} of the metadata log has format {encoded[:1].hex()}; this version of OuroDB "
            f"reads format {ENTRY_FORMAT:02x}. Start the version that wrote it."
        )
    try:
        after, _ = apply(schema, decode_change(encoded[1:]))
    except RequestError as error:
        raise StoreDamaged(
            f"Entry {schema.epoch + 1} of the metadata log can't be applied: {error}"
        ) from error
    if after is schema:
        raise StoreDamaged(f"Entry {schema.epoch + 1} of the metadata log changes nothing")
    return after
