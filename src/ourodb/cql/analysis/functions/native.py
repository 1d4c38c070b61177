"""All native functions by name, and the call of one.

``find`` is what analysis asks: which function does ``name(arguments)`` mean here? ``token`` depends on the table that
is read, so it is made for each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from ourodb.cql.analysis.functions import aggregates, blobs, casts, collections, math, time
from ourodb.cql.analysis.functions.core import (
    SYSTEM,
    AnyFunction,
    Argument,
    Candidate,
    Environment,
    Function,
    resolve,
)
from ourodb.cql.syntax.ast import QualifiedName
from ourodb.cql.types import native
from ourodb.cql.types.base import CqlType
from ourodb.cql.types.murmur3 import token
from ourodb.errors import InvalidRequest, NotSupported
from ourodb.schema.model import Table
from ourodb.storage.keys import composite

KNOWN_BUT_MISSING = frozenset(
    "floor from_json fromjson to_json tojson similarity_cosine similarity_euclidean similarity_dot_product "
    "mask_null mask_default mask_replace mask_inner mask_outer mask_hash".split()
)
"""Cassandra has them, OuroDB doesn't yet."""


@cache
def functions_by_name() -> Mapping[str, tuple[Candidate, ...]]:
    """Every native function but ``token``, ``writetime``, ``ttl``."""
    found: dict[str, list[Candidate]] = {}
    for subject in (time, blobs, casts, math, collections, aggregates):
        for candidate in subject.functions():
            found.setdefault(candidate.name, []).append(candidate)
    return {name: tuple(candidates) for name, candidates in found.items()}


def token_function(table: Table) -> Function:
    """``token(...)`` of a table's partition key."""

    def execute(arguments: Sequence[bytes | None], environment: Environment) -> bytes | None:
        components = [part for part in arguments if part is not None]
        if len(components) != len(arguments):
            return None
        return token(components[0] if len(components) == 1 else composite(components)).to_bytes(
            8, "big", signed=True
        )

    return Function("token", [column.type for column in table.partition_key], native.BIGINT, execute)


def find(
    name: QualifiedName, arguments: Sequence[Argument], receiver: CqlType | None, table: Table | None
) -> AnyFunction | None:
    """The function that a call means, or None when there is none of that name.

    Raises:
        InvalidRequest: there are some, but the arguments fit none or several.
        NotSupported: Cassandra has it.
    """
    if name.keyspace is not None and name.keyspace != SYSTEM:
        return None
    if name.name == "token":
        if table is None:
            raise InvalidRequest(f"No receiver table has been specified for function {SYSTEM}.token")
        return resolve("token", [token_function(table)], arguments, receiver)
    candidates = functions_by_name().get(name.name)
    if candidates is None:
        if name.name in KNOWN_BUT_MISSING:
            raise NotSupported(f"The function {name.name}()")
        return None
    return resolve(name.name, candidates, arguments, receiver)
