"""Tuples and user-defined types: a fixed sequence of components, each of which may be null.

On the wire each component is an [int] length, -1 for null, and its bytes. Components at the end may be missing, and
are null: a value written before a field was added to its type stays valid. Such a value compares equal to the one
that has the nulls, so these types normalize.

Source: native_protocol_v5.spec, 6.x; Cassandra's ``TupleType`` and ``UserType``.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ourodb.cql.types.base import (
    MARSHAL,
    CqlType,
    Options,
    from_hex,
    not_a_value,
    options_of,
    short,
    string,
)
from ourodb.cql.types.identifiers import quote_identifier
from ourodb.cql.types.native import NATIVE_TYPES
from ourodb.cql.types.ordered import EMPTY, EMPTY_BYTES, NULL, NULL_BYTES, VALUE, VALUE_BYTES, bad_marker
from ourodb.errors import InvalidRequest

_INT: Final = struct.Struct(">i")
_pack_int: Final = _INT.pack
_unpack_int: Final = _INT.unpack_from

_NULL_LENGTH: Final = _INT.pack(-1)


class _ComponentsType(CqlType):
    """What tuples and user types share.

    Attributes:
        components: types of the components.
    """

    __slots__ = ("components",)

    components: tuple[CqlType, ...]

    def references_udt(self, keyspace: str, name: str) -> bool:
        return any(component.references_udt(keyspace, name) for component in self.components)

    def split(self, value: bytes) -> list[bytes | None]:
        """Components of a serialized value, as many as it has; they themselves aren't validated.

        Raises:
            InvalidRequest: the bytes aren't a value of this type.
        """
        components: list[bytes | None] = []
        length = len(value)
        start = 0
        for index in range(len(self.components)):
            if start == length:
                return components
            if start + 4 > length:
                raise InvalidRequest(f"Not enough bytes to read size of {self._component_name(index)}")
            size = _unpack_int(value, start)[0]
            start += 4
            if size < 0:
                components.append(None)
                continue
            end = start + size
            if end > length:
                raise InvalidRequest(f"Not enough bytes to read {self._component_name(index)}")
            components.append(value[start:end])
            start = end
        if start != length:
            raise InvalidRequest(f"Invalid remaining data after end of {self._kind_name()} value")
        return components

    def join(self, components: Sequence[bytes | None]) -> bytes:
        """The serialized value of these components."""
        return join_components(components)

    def validate(self, value: bytes) -> None:
        for component, part in zip(self.components, self.split(value), strict=False):
            if part is not None and component.validator is not None:
                component.validator(part)

    def parse(self, text: str) -> bytes:
        """Hex digits of the value's bytes."""
        value = from_hex(text)
        self.validate(value)
        return value

    def in_type_order(self, value: bytes) -> bytes:
        if not self.needs_ordering or not value:
            return value
        return join_components(
            [
                None if part is None else component.in_type_order(part)
                for component, part in zip(self.components, self.split(value), strict=False)
            ]
        )

    def encode_ordered(self, value: bytes) -> bytes:
        if not value:
            return EMPTY_BYTES
        parts = self.split(value)
        encoded = [VALUE_BYTES]
        for component, part in zip(self.components, parts, strict=False):
            encoded.append(NULL_BYTES if part is None else component.encode_ordered(part))
        encoded.append(NULL_BYTES * (len(self.components) - len(parts)))
        return b"".join(encoded)

    def decode_ordered(self, buf: bytes, offset: int) -> tuple[bytes, int]:
        marker = buf[offset]
        if marker == VALUE:
            offset += 1
            parts: list[bytes | None] = []
            for component in self.components:
                if buf[offset] == NULL:
                    parts.append(None)
                    offset += 1
                else:
                    part, offset = component.decode_ordered(buf, offset)
                    parts.append(part)
            return join_components(parts), offset
        if marker == EMPTY:
            return b"", offset + 1
        raise bad_marker(buf, offset)

    def _decode_components(self, value: bytes) -> list[Any]:
        parts = self.split(value)
        objects = [
            None if part is None else component.decode(part)
            for component, part in zip(self.components, parts, strict=False)
        ]
        return objects + [None] * (len(self.components) - len(parts))

    def _encode_components(self, obj: Any) -> bytes:
        if isinstance(obj, (str, bytes)) or not isinstance(obj, Sequence) or len(obj) > len(self.components):
            raise not_a_value(self, obj)
        return join_components(
            [
                None if part is None else component.encode(part)
                for component, part in zip(self.components, obj, strict=False)
            ]
        )

    def _component_name(self, index: int) -> str:
        raise NotImplementedError

    def _kind_name(self) -> str:
        raise NotImplementedError


class TupleType(_ComponentsType):
    """Always frozen. Objects: a sequence with None for nulls in, a tuple of full length out."""

    __slots__ = ()

    def __init__(self, components: Sequence[CqlType]) -> None:
        self.components = tuple(component.frozen() for component in components)
        if not self.components:
            raise InvalidRequest("A tuple type needs at least one component")
        names = ", ".join(component.cql_name for component in self.components)
        bare_names = ",".join(component.bare_class_name for component in self.components)
        super().__init__(
            self.components,
            cql_name=f"frozen<tuple<{names}>>",
            class_name=f"{MARSHAL}TupleType({bare_names})",
            options=options_of(short(0x31) + short(len(self.components)), self.components),
            normalizes=True,
            parts=self.components,
        )

    def encode(self, obj: Any) -> bytes:
        return self._encode_components(obj)

    def decode(self, value: bytes) -> tuple[Any, ...] | None:
        return tuple(self._decode_components(value)) if value else None

    def literal(self, value: bytes) -> str:
        parts = [
            "null" if part is None else component.literal(part)
            for component, part in zip(self.components, self.split(value), strict=False)
        ]
        return "(" + ", ".join(parts) + ")"

    def _component_name(self, index: int) -> str:
        return f"{index}th component"

    def _kind_name(self) -> str:
        return "tuple"


class UserType(_ComponentsType):
    """A user-defined type. Objects: a mapping by field name or a sequence in, a dict by field name out.

    Attributes:
        keyspace, name: whose. ``cql_name`` has only the name: a type can only be used in its keyspace.
        field_names: of the components, in order.
    """

    __slots__ = ("_field_indexes", "field_names", "keyspace", "name")

    def __init__(
        self,
        keyspace: str,
        name: str,
        field_names: Sequence[str],
        field_types: Sequence[CqlType],
        *,
        frozen: bool = False,
    ) -> None:
        if len(field_names) != len(field_types):
            raise ValueError(f"{len(field_names)} field names for {len(field_types)} types")
        self.keyspace = keyspace
        self.name = name
        self.field_names: tuple[str, ...] = tuple(field_names)
        self._field_indexes = {field: index for index, field in enumerate(self.field_names)}
        self.components = tuple(type_.frozen() if frozen else type_ for type_ in field_types)
        parts = self.components
        bare = _class_name(keyspace, name, self.field_names, [part.bare_class_name for part in parts])
        full = _class_name(keyspace, name, self.field_names, [part.class_name for part in parts])
        # Bare, the name of a simple type means that one.
        quoted_name = f'"{name}"' if name in NATIVE_TYPES else quote_identifier(name)
        super().__init__(
            (keyspace, name, self.field_names, parts, frozen),
            cql_name=f"frozen<{quoted_name}>" if frozen else quoted_name,
            class_name=f"{MARSHAL}FrozenType({bare})" if frozen else full,
            bare_class_name=bare,
            options=_user_options(keyspace, name, self.field_names, parts),
            is_multicell=not frozen,
            normalizes=True,
            parts=parts,
        )

    def frozen(self) -> UserType:
        if not self.is_multicell:
            return self
        return UserType(self.keyspace, self.name, self.field_names, self.components, frozen=True)

    def references_udt(self, keyspace: str, name: str) -> bool:
        return (self.keyspace == keyspace and self.name == name) or super().references_udt(keyspace, name)

    def field_index(self, name: str) -> int:
        """Position of a field, -1 when there is none."""
        return self._field_indexes.get(name, -1)

    def encode(self, obj: Any) -> bytes:
        if isinstance(obj, Mapping):
            for field in obj:
                if field not in self._field_indexes:
                    raise InvalidRequest(f"Unknown field '{field}' in value of user defined type {self.name}")
            obj = [obj.get(field) for field in self.field_names]
        return self._encode_components(obj)

    def decode(self, value: bytes) -> dict[str, Any] | None:
        return dict(zip(self.field_names, self._decode_components(value), strict=True)) if value else None

    def literal(self, value: bytes) -> str:
        fields = [
            f"{quote_identifier(field)}: {'null' if part is None else component.literal(part)}"
            for field, component, part in zip(
                self.field_names, self.components, self.split(value), strict=False
            )
        ]
        return "{" + ", ".join(fields) + "}"

    def _component_name(self, index: int) -> str:
        return f"{index}th field {self.field_names[index]}"

    def _kind_name(self) -> str:
        return "UDT"


def join_components(components: Sequence[bytes | None]) -> bytes:
    """The serialized tuple or user type value of these components."""
    parts = []
    for component in components:
        if component is None:
            parts.append(_NULL_LENGTH)
        else:
            parts.append(_pack_int(len(component)))
            parts.append(component)
    return b"".join(parts)


def _class_name(keyspace: str, name: str, field_names: Sequence[str], class_names: Sequence[str]) -> str:
    fields = [
        f"{field.encode().hex()}:{type_}" for field, type_ in zip(field_names, class_names, strict=True)
    ]
    return f"{MARSHAL}UserType({','.join([keyspace, name.encode().hex(), *fields])})"


def _user_options(keyspace: str, name: str, field_names: Sequence[str], types: Sequence[CqlType]) -> Options:
    head = short(0x30) + string(keyspace) + string(name) + short(len(field_names))
    fields = list(zip(field_names, types, strict=True))
    v3, v4, v5 = (
        head + b"".join(string(field) + type_.option_for(version) for field, type_ in fields)
        for version in (3, 4, 5)
    )
    return v3, v4, v5
