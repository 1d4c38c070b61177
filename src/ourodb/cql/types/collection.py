"""Lists, sets and maps."""

from __future__ import annotations

from ourodb.cql.types.base import CqlType


class CollectionType(CqlType):
    """A list, set or map.

    On the wire: [int] count, then each element (for maps key, then value) as [int] length and bytes.
    """

    element: CqlType
    """Type of the elements of a list or set, of the values of a map: what a multicell collection's cells hold."""

    def frozen(self) -> CollectionType:
        raise NotImplementedError


class ListType(CollectionType):
    """Objects: any iterable in, list out."""

    def __init__(self, element: CqlType, *, frozen: bool = False) -> None:
        raise NotImplementedError

    def split(self, value: bytes) -> list[bytes]:
        """Elements of a serialized list (or set); raises InvalidRequest where the bytes aren't one. The elements
        themselves aren't validated.
        """
        raise NotImplementedError

    def join(self, elements: list[bytes]) -> bytes:
        """The serialized list (or set, whose elements must be in type order) of these elements."""
        raise NotImplementedError


class SetType(CollectionType):
    """Objects: any iterable in, list in type order out."""

    def __init__(self, element: CqlType, *, frozen: bool = False) -> None:
        raise NotImplementedError

    def split(self, value: bytes) -> list[bytes]:
        raise NotImplementedError

    def join(self, elements: list[bytes]) -> bytes:
        raise NotImplementedError


class MapType(CollectionType):
    """Objects: a mapping or an iterable of pairs in, a list of pairs in type order of the keys out."""

    key: CqlType

    def __init__(self, key: CqlType, value: CqlType, *, frozen: bool = False) -> None:
        raise NotImplementedError

    def split(self, value: bytes) -> list[tuple[bytes, bytes]]:
        raise NotImplementedError

    def join(self, entries: list[tuple[bytes, bytes]]) -> bytes:
        raise NotImplementedError


def split_collection(value: bytes) -> list[bytes]:
    """Elements of a serialized list or set; bounds checked, InvalidRequest."""
    raise NotImplementedError


def split_map(value: bytes) -> list[tuple[bytes, bytes]]:
    """Entries of a serialized map; bounds checked, InvalidRequest."""
    raise NotImplementedError


def join_collection(elements: list[bytes]) -> bytes:
    raise NotImplementedError


def join_map(entries: list[tuple[bytes, bytes]]) -> bytes:
    raise NotImplementedError
