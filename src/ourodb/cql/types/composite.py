"""Tuples and user-defined types: a fixed sequence of components, each of which may be null."""

from __future__ import annotations

from ourodb.cql.types.base import CqlType


class TupleType(CqlType):
    """Always frozen. On the wire: each component as [int] length (-1: null) and bytes; trailing ones may be missing.

    Objects: a sequence with None for nulls in, a tuple of full length out.
    """

    components: tuple[CqlType, ...]

    def __init__(self, components: tuple[CqlType, ...]) -> None:
        raise NotImplementedError

    def split(self, value: bytes) -> list[bytes | None]:
        """Components of a serialized value, as many as it has; bounds checked, InvalidRequest."""
        raise NotImplementedError

    def join(self, components: list[bytes | None]) -> bytes:
        raise NotImplementedError


class UserType(TupleType):
    """A user-defined type. Objects: a mapping by field name or a sequence in, a dict by field name out."""

    keyspace: str
    name: str
    field_names: tuple[str, ...]

    def __init__(
        self,
        keyspace: str,
        name: str,
        field_names: tuple[str, ...],
        field_types: tuple[CqlType, ...],
        *,
        frozen: bool = False,
    ) -> None:
        raise NotImplementedError

    def field_index(self, name: str) -> int:
        """Position of a field, -1 when there is none."""
        raise NotImplementedError
