"""From the name of a type to the type."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ourodb.cql.types.base import CqlType
from ourodb.cql.types.composite import UserType

UdtResolver = Callable[[str | None, str], UserType | None]
"""(keyspace or None where the name isn't qualified, name of the type) -> the type, not frozen, or None."""


def quote_identifier(name: str) -> str:
    """A name as CQL reads it back: bare when it is lower case and no reserved word, else in double quotes."""
    raise NotImplementedError


def native_type(name: str) -> CqlType | None:
    """The simple type of that (lower case) name; ``varchar`` is ``text``."""
    raise NotImplementedError


def build(name: str, arguments: Sequence[CqlType], dimension: int | None = None) -> CqlType:
    """The type ``name<arguments>``, for list, set, map, tuple, vector (with ``dimension``) and frozen.

    Raises:
        InvalidRequest: there is no such parameterised type, or its arguments are wrong.
    """
    raise NotImplementedError


def parse_type(text: str, udt_resolver: UdtResolver | None = None) -> CqlType:
    """The type that reads ``text``, as kept in ``system_schema``.

    Raises:
        InvalidRequest: the text isn't a type, or names one that isn't known.
    """
    raise NotImplementedError
