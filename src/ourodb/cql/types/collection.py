"""Lists, sets and maps.

On the wire: an [int] count, then each element, of a map key and value in turn, as [int] length and bytes. Sets and
maps are kept in the order of their elements and keys; clients may send them in any (``in_type_order``).

A *multicell* collection keeps each element in a cell of its own and has no wire form in the store; a frozen one is
one value. The bytes are the same for both.

Source: native_protocol_v5.spec, 6.x; Cassandra's ``CollectionSerializer`` and its children.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from ourodb.cql.types.base import MARSHAL, CqlType, Options, from_hex, not_a_value, options_of, short
from ourodb.cql.types.ordered import (
    EMPTY,
    EMPTY_BYTES,
    END,
    END_BYTES,
    VALUE,
    VALUE_BYTES,
    bad_marker,
)
from ourodb.errors import InvalidRequest

_INT: Final = struct.Struct(">i")
_pack_int: Final = _INT.pack
_unpack_int: Final = _INT.unpack_from

EMPTY_COLLECTION: Final = b"\x00\x00\x00\x00"


class CollectionType(CqlType):
    """A list, set or map.

    Attributes:
        element: type of the elements of a list or set, of the values of a map: what its cells hold.
    """

    __slots__ = ("element",)

    def __init__(
        self, kind: str, marshal_class: str, parts: tuple[CqlType, ...], options: Options, frozen: bool
    ) -> None:
        if frozen:
            parts = tuple(part.frozen() for part in parts)
        names = ", ".join(part.cql_name for part in parts)
        bare = f"{MARSHAL}{marshal_class}({','.join(part.bare_class_name for part in parts)})"
        full = f"{MARSHAL}{marshal_class}({','.join(part.class_name for part in parts)})"
        super().__init__(
            (parts, frozen),
            cql_name=f"frozen<{kind}<{names}>>" if frozen else f"{kind}<{names}>",
            class_name=f"{MARSHAL}FrozenType({bare})" if frozen else full,
            bare_class_name=bare,
            options=options,
            is_multicell=not frozen,
            is_collection=True,
            allows_empty=False,
            needs_ordering=kind != "list",
            parts=parts,
        )
        self.element: CqlType = parts[-1]

    def frozen(self) -> CollectionType:
        raise NotImplementedError

    def parse(self, text: str) -> bytes:
        """Hex digits: there is no other way to write a collection in a string."""
        value = from_hex(text)
        self.validate(value)
        return value


class _SequenceType(CollectionType):
    """What lists and sets share."""

    __slots__ = ()

    _kind: str
    _brackets: str

    def references_udt(self, keyspace: str, name: str) -> bool:
        return self.element.references_udt(keyspace, name)

    def split(self, value: bytes) -> list[bytes]:
        """Elements of a serialized value; they themselves aren't validated.

        Raises:
            InvalidRequest: the bytes aren't a collection.
        """
        return split_collection(value, self._kind)

    def join(self, elements: Sequence[bytes]) -> bytes:
        """The serialized value with these elements, which for a set are in type order."""
        return join_collection(elements)

    def validate(self, value: bytes) -> None:
        elements = split_collection(value, self._kind)
        validator = self.element.validator
        if validator is not None:
            for element in elements:
                validator(element)

    def decode(self, value: bytes) -> list[Any] | None:
        if not value:
            return None
        decode = self.element.decode
        return [decode(element) for element in split_collection(value, self._kind)]

    def literal(self, value: bytes) -> str:
        if not value:
            return "null"
        literal = self.element.literal
        inside = ", ".join([literal(element) for element in split_collection(value, self._kind)])
        return f"{self._brackets[0]}{inside}{self._brackets[1]}"

    def encode_ordered(self, value: bytes) -> bytes:
        if not value:
            return EMPTY_BYTES
        encode = self.element.encode_ordered
        elements = [encode(element) for element in split_collection(value, self._kind)]
        return VALUE_BYTES + b"".join(elements) + END_BYTES

    def decode_ordered(self, buf: bytes, offset: int) -> tuple[bytes, int]:
        marker = buf[offset]
        if marker == VALUE:
            decode = self.element.decode_ordered
            elements = []
            offset += 1
            while buf[offset] != END:
                element, offset = decode(buf, offset)
                elements.append(element)
            return join_collection(elements), offset + 1
        if marker == EMPTY:
            return b"", offset + 1
        raise bad_marker(buf, offset)

    def _encode_elements(self, obj: Any) -> list[bytes]:
        if isinstance(obj, (str, bytes, Mapping)) or not isinstance(obj, Iterable):
            raise not_a_value(self, obj)
        return [_encode_part(self.element, element) for element in obj]


class ListType(_SequenceType):
    """Objects: any iterable in, list out."""

    __slots__ = ()

    _kind = "list"
    _brackets = "[]"

    def __init__(self, element: CqlType, *, frozen: bool = False) -> None:
        super().__init__("list", "ListType", (element,), options_of(short(0x20), (element,)), frozen)

    def frozen(self) -> ListType:
        return ListType(self.element, frozen=True) if self.is_multicell else self

    def encode(self, obj: Any) -> bytes:
        return join_collection(self._encode_elements(obj))

    def in_type_order(self, value: bytes) -> bytes:
        if not self.needs_ordering or not value:
            return value
        return join_collection([self.element.in_type_order(element) for element in split_collection(value)])


class SetType(_SequenceType):
    """Objects: any iterable in, list in type order out."""

    __slots__ = ()

    _kind = "set"
    _brackets = "{}"

    def __init__(self, element: CqlType, *, frozen: bool = False) -> None:
        super().__init__("set", "SetType", (element,), options_of(short(0x22), (element,)), frozen)

    def frozen(self) -> SetType:
        return SetType(self.element, frozen=True) if self.is_multicell else self

    def encode(self, obj: Any) -> bytes:
        return join_collection(self.sort(self._encode_elements(obj)))

    def sort(self, elements: Iterable[bytes]) -> list[bytes]:
        """Elements in type order, each once; of those that compare equal, the first."""
        by_order: dict[bytes, bytes] = {}
        encode = self.element.encode_ordered
        for element in elements:
            by_order.setdefault(encode(element), element)
        return [by_order[order] for order in sorted(by_order)]

    def in_type_order(self, value: bytes) -> bytes:
        if not value:
            return value
        elements = split_collection(value, "set")
        if self.element.needs_ordering:
            elements = [self.element.in_type_order(element) for element in elements]
        return join_collection(self.sort(elements))


class MapType(CollectionType):
    """Objects: a mapping or an iterable of pairs in, a list of pairs in type order of the keys out.

    Attributes:
        key: type of the keys. That of the values is ``element``.
    """

    __slots__ = ("key",)

    def __init__(self, key: CqlType, value: CqlType, *, frozen: bool = False) -> None:
        super().__init__("map", "MapType", (key, value), options_of(short(0x21), (key, value)), frozen)
        self.key: CqlType = key.frozen() if frozen else key

    def frozen(self) -> MapType:
        return MapType(self.key, self.element, frozen=True) if self.is_multicell else self

    def references_udt(self, keyspace: str, name: str) -> bool:
        return self.key.references_udt(keyspace, name) or self.element.references_udt(keyspace, name)

    def split(self, value: bytes) -> list[tuple[bytes, bytes]]:
        """Entries of a serialized value; they themselves aren't validated.

        Raises:
            InvalidRequest: the bytes aren't a map.
        """
        return split_map(value)

    def join(self, entries: Sequence[tuple[bytes, bytes]]) -> bytes:
        """The serialized value with these entries, in type order of their keys."""
        return join_map(entries)

    def sort(self, entries: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """Entries in type order of the keys, the last value of each key."""
        by_order: dict[bytes, tuple[bytes, bytes]] = {}
        encode = self.key.encode_ordered
        for key, value in entries:
            order = encode(key)
            by_order[order] = (by_order[order][0] if order in by_order else key, value)
        return [by_order[order] for order in sorted(by_order)]

    def validate(self, value: bytes) -> None:
        validate_key, validate_value = self.key.validator, self.element.validator
        for key, element in split_map(value):
            if validate_key is not None:
                validate_key(key)
            if validate_value is not None:
                validate_value(element)

    def encode(self, obj: Any) -> bytes:
        items = obj.items() if isinstance(obj, Mapping) else obj
        try:
            pairs = [(key, value) for key, value in items]
        except (TypeError, ValueError):
            raise not_a_value(self, obj) from None
        return join_map(
            self.sort((_encode_part(self.key, k), _encode_part(self.element, v)) for k, v in pairs)
        )

    def decode(self, value: bytes) -> list[tuple[Any, Any]] | None:
        if not value:
            return None
        decode_key, decode_value = self.key.decode, self.element.decode
        return [(decode_key(key), decode_value(element)) for key, element in split_map(value)]

    def literal(self, value: bytes) -> str:
        if not value:
            return "null"
        key_literal, value_literal = self.key.literal, self.element.literal
        inside = [f"{key_literal(key)}: {value_literal(element)}" for key, element in split_map(value)]
        return "{" + ", ".join(inside) + "}"

    def in_type_order(self, value: bytes) -> bytes:
        if not value:
            return value
        entries = split_map(value)
        if self.key.needs_ordering or self.element.needs_ordering:
            entries = [(self.key.in_type_order(k), self.element.in_type_order(v)) for k, v in entries]
        return join_map(self.sort(entries))

    def encode_ordered(self, value: bytes) -> bytes:
        if not value:
            return EMPTY_BYTES
        encode_key, encode_value = self.key.encode_ordered, self.element.encode_ordered
        entries = [encode_key(key) + encode_value(element) for key, element in split_map(value)]
        return VALUE_BYTES + b"".join(entries) + END_BYTES

    def decode_ordered(self, buf: bytes, offset: int) -> tuple[bytes, int]:
        marker = buf[offset]
        if marker == VALUE:
            decode_key, decode_value = self.key.decode_ordered, self.element.decode_ordered
            entries = []
            offset += 1
            while buf[offset] != END:
                key, offset = decode_key(buf, offset)
                element, offset = decode_value(buf, offset)
                entries.append((key, element))
            return join_map(entries), offset + 1
        if marker == EMPTY:
            return b"", offset + 1
        raise bad_marker(buf, offset)


def split_collection(value: bytes, kind: str = "list") -> list[bytes]:
    """Elements of a serialized list or set.

    Work and memory are bounded by the length of ``value``, whatever count it claims to have.

    Raises:
        InvalidRequest: the bytes aren't a collection.
    """
    if len(value) < 4:
        raise InvalidRequest(f"Not enough bytes to read a {kind}")
    count = _unpack_int(value)[0]
    return _read_elements(value, count, count, kind)


def split_map(value: bytes) -> list[tuple[bytes, bytes]]:
    """Entries of a serialized map; as ``split_collection``."""
    if len(value) < 4:
        raise InvalidRequest("Not enough bytes to read a map")
    count = _unpack_int(value)[0]
    parts = _read_elements(value, count, 2 * count, "map")
    return list(zip(parts[::2], parts[1::2], strict=True))


def join_collection(elements: Sequence[bytes]) -> bytes:
    """The serialized list or set of these elements."""
    parts = [_pack_int(len(elements))]
    for element in elements:
        parts.append(_pack_int(len(element)))
        parts.append(element)
    return b"".join(parts)


def join_map(entries: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The serialized map of these entries."""
    parts = [_pack_int(len(entries))]
    for key, value in entries:
        parts += (_pack_int(len(key)), key, _pack_int(len(value)), value)
    return b"".join(parts)


def _read_elements(value: bytes, count: int, parts: int, kind: str) -> list[bytes]:
    if count < 0:
        raise InvalidRequest(f"The data cannot be deserialized as a {kind}")
    length = len(value)
    if parts > (length - 4) // 4:
        raise InvalidRequest(f"Not enough bytes to read a {kind}")
    elements = []
    start = 4
    for _ in range(parts):
        if start + 4 > length:
            raise InvalidRequest(f"Not enough bytes to read a {kind}")
        size = _unpack_int(value, start)[0]
        if size < 0:
            raise InvalidRequest("Null value read when not allowed")
        start += 4
        end = start + size
        if end > length:
            raise InvalidRequest(f"Not enough bytes to read a {kind}")
        elements.append(value[start:end])
        start = end
    if start != length:
        raise InvalidRequest(f"Unexpected extraneous bytes after {kind} value")
    return elements


def _encode_part(type_: CqlType, obj: Any) -> bytes:
    if obj is None:
        raise InvalidRequest("null is not supported inside collections")
    return type_.encode(obj)
