"""Vectors: a fixed number of elements, none of them null."""

from __future__ import annotations

from ourodb.cql.types.base import CqlType


class VectorType(CqlType):
    """Elements of fixed length are concatenated; others are each preceded by their length as an unsigned vint.

    Objects: a sequence of ``dimension`` elements in, a list out.
    """

    element: CqlType
    dimension: int

    def __init__(self, element: CqlType, dimension: int) -> None:
        raise NotImplementedError

    def split(self, value: bytes) -> list[bytes]:
        raise NotImplementedError

    def join(self, elements: list[bytes]) -> bytes:
        raise NotImplementedError
