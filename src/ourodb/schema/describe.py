"""DESCRIBE, as the server answers it."""

from __future__ import annotations

from dataclasses import dataclass

from ourodb.cql.syntax import ast
from ourodb.cql.types import CqlType
from ourodb.schema.model import Schema
from ourodb.schema.node_info import NodeInfo


@dataclass(frozen=True, slots=True)
class Description:
    """A result set, before it is cut into pages.

    Attributes:
        columns: (name, type) pairs; their table is ``system.describe``.
        rows: wire bytes, one value a column.
    """

    columns: tuple[tuple[str, CqlType], ...]
    rows: tuple[tuple[bytes | None, ...], ...]


def describe(statement: ast.Describe, schema: Schema, keyspace: str | None, node: NodeInfo) -> Description:
    """What DESCRIBE answers.

    Args:
        keyspace: the one in use, or None.
    Raises:
        InvalidRequest: with Cassandra's text; there is no such thing.
    """
    raise NotImplementedError
