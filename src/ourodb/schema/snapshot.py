"""A whole schema as bytes, for the metadata store and for snapshots."""

from __future__ import annotations

from ourodb.schema.model import Schema


def encode_schema(schema: Schema) -> bytes:
    """Equal schemas give equal bytes."""
    raise NotImplementedError


def decode_schema(encoded: bytes) -> Schema:
    """Inverse of ``encode_schema``. The system keyspaces are those of this version of OuroDB.

    Raises:
        StoreDamaged: the bytes are no schema, or one of a newer format.
    """
    raise NotImplementedError
