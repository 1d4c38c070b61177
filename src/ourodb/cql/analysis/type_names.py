"""From a type as it is written to the type."""

from __future__ import annotations

from ourodb.cql.syntax import ast
from ourodb.cql.types import CqlType
from ourodb.schema.model import Schema


def resolve_type(name: ast.TypeName, keyspace: str | None, schema: Schema) -> CqlType:
    """The type that ``name`` means for something in ``keyspace``.

    Raises:
        InvalidRequest: with Cassandra's text: unknown, of another keyspace, wrongly frozen or nested.
    """
    raise NotImplementedError
