"""The system keyspaces, as clients of Cassandra 5 find them."""

from __future__ import annotations

from ourodb.schema.model import Schema


def initial_schema() -> Schema:
    """The schema of a new cluster, epoch 0: the system keyspaces and nothing else. Always the same object."""
    raise NotImplementedError
