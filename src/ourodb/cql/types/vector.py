"""Vectors: a fixed number of elements, none of them null.

On the wire elements of fixed length are concatenated; others are each preceded by their length as an unsigned vint.
The protocol has no id for vectors: they are sent as a custom type, with Cassandra's class.

Source: Cassandra's ``VectorType``; CEP-30.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ourodb.cql.types.base import MARSHAL, CqlType, custom_option, from_hex, not_a_value
from ourodb.cql.types.ordered import EMPTY, EMPTY_BYTES, VALUE, VALUE_BYTES, bad_marker
from ourodb.cql.types.vint import decode_unsigned_vint, encode_unsigned_vint
from ourodb.errors import InvalidRequest

_DIMENSION_MAX: Final = 2**31 - 1
"""An int in Cassandra."""

_VARIABLE_IN_VECTORS: Final = frozenset(("tinyint", "smallint", "date", "time", "counter"))
"""Their values all have one length, but their classes in Cassandra don't say so."""


class VectorType(CqlType):
    """Objects: a sequence of ``dimension`` elements in, a list out.

    Attributes:
        element: type of the elements, frozen.
        dimension: their number.
    """

    __slots__ = ("_element_length", "dimension", "element")

    def __init__(self, element: CqlType, dimension: int) -> None:
        if dimension <= 0:
            raise InvalidRequest(f"vectors may only have positive dimensions; given {dimension}")
        if dimension > _DIMENSION_MAX:
            raise InvalidRequest(f"vectors may have at most {_DIMENSION_MAX} dimensions; given {dimension}")
        self.element = element.frozen()
        self.dimension = dimension
        element = self.element
        self._element_length = element.fixed_length if element.cql_name not in _VARIABLE_IN_VECTORS else None
        class_name = f"{MARSHAL}VectorType({element.class_name} , {dimension})"
        option = custom_option(class_name)
        super().__init__(
            (element, dimension),
            cql_name=f"vector<{element.cql_name}, {dimension}>",
            class_name=class_name,
            bare_class_name=f"{MARSHAL}VectorType({element.bare_class_name} , {dimension})",
            options=(option, option, option),
            fixed_length=None if self._element_length is None else self._element_length * dimension,
            allows_empty=False,
            valid_by_length=self._element_length is not None and element.valid_by_length,
            parts=(element,),
        )

    def references_udt(self, keyspace: str, name: str) -> bool:
        return self.element.references_udt(keyspace, name)

    def split(self, value: bytes) -> list[bytes]:
        """Elements of a serialized value; they themselves aren't validated.

        Raises:
            InvalidRequest: the bytes aren't a vector of this dimension.
        """
        if not value:
            raise InvalidRequest("Invalid empty vector value")
        size = self._element_length
        length = len(value)
        if size is not None:
            expected = size * self.dimension
            if length < expected:
                raise InvalidRequest(f"Not enough bytes to read a {self.cql_name}")
            if length > expected:
                raise self._extraneous(length - expected)
            return [value[start : start + size] for start in range(0, length, size)]
        elements = []
        start = 0
        for _ in range(self.dimension):
            try:
                count, start = decode_unsigned_vint(value, start)
            except ValueError:
                raise InvalidRequest(f"Not enough bytes to read a {self.cql_name}") from None
            end = start + count
            if end > length:
                raise InvalidRequest(f"Not enough bytes to read a {self.cql_name}")
            elements.append(value[start:end])
            start = end
        if start != length:
            raise self._extraneous(length - start)
        return elements

    def join(self, elements: Sequence[bytes]) -> bytes:
        """The serialized vector of these elements.

        Raises:
            InvalidRequest: there aren't ``dimension`` of them.
        """
        if len(elements) != self.dimension:
            raise InvalidRequest(f"Required {self.dimension} elements, but saw {len(elements)}")
        if self._element_length is not None:
            return b"".join(elements)
        return b"".join([encode_unsigned_vint(len(element)) + element for element in elements])

    def validate(self, value: bytes) -> None:
        if self.valid_by_length and len(value) == self.fixed_length:
            return
        elements = self.split(value)
        validator = self.element.validator
        if validator is not None:
            for element in elements:
                validator(element)

    def encode(self, obj: Any) -> bytes:
        if isinstance(obj, (str, bytes)) or not isinstance(obj, Sequence):
            raise not_a_value(self, obj)
        for index, element in enumerate(obj):
            if element is None:
                raise InvalidRequest(
                    f"Element at index {index} is null (expected type {self.element.cql_name}); given {obj!r:.80}"
                )
        encode = self.element.encode
        return self.join([encode(element) for element in obj])

    def decode(self, value: bytes) -> list[Any] | None:
        if not value:
            return None
        decode = self.element.decode
        return [decode(element) for element in self.split(value)]

    def parse(self, text: str) -> bytes:
        """Hex digits of the value's bytes."""
        value = from_hex(text)
        self.validate(value)
        return value

    def literal(self, value: bytes) -> str:
        if not value:
            return "null"
        literal = self.element.literal
        return "[" + ", ".join([literal(element) for element in self.split(value)]) + "]"

    def in_type_order(self, value: bytes) -> bytes:
        if not self.needs_ordering or not value:
            return value
        return self.join([self.element.in_type_order(element) for element in self.split(value)])

    def encode_ordered(self, value: bytes) -> bytes:
        if not value:
            return EMPTY_BYTES
        encode = self.element.encode_ordered
        return VALUE_BYTES + b"".join([encode(element) for element in self.split(value)])

    def decode_ordered(self, buf: bytes, offset: int) -> tuple[bytes, int]:
        marker = buf[offset]
        if marker == VALUE:
            decode = self.element.decode_ordered
            elements = []
            offset += 1
            for _ in range(self.dimension):
                element, offset = decode(buf, offset)
                elements.append(element)
            return self.join(elements), offset
        if marker == EMPTY:
            return b"", offset + 1
        raise bad_marker(buf, offset)

    def _extraneous(self, count: int) -> InvalidRequest:
        return InvalidRequest(f"Unexpected {count} extraneous bytes after {self.cql_name} value")
