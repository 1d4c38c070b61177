"""uuid and timeuuid.

A uuid sorts by version first; version 1 then by its time, others by their bytes, unsigned. Its ordered form keeps
the version in the marker, so that the bytes can follow as they are. A timeuuid sorts by its time, then by its last
eight bytes, each signed: an accident of Cassandra's that its users' data depend on.
"""

from __future__ import annotations

import re
import struct
import uuid
from typing import Any, Final

from ourodb.cql.types.base import MARSHAL, CqlType, not_a_value
from ourodb.cql.types.fixed import native_options
from ourodb.cql.types.ordered import (
    COMPLEMENT,
    EMPTY,
    EMPTY_BYTES,
    EMPTY_DESC,
    EMPTY_DESC_BYTES,
    VALUE,
    VALUE_DESC,
    bad_marker,
    cut_short,
)
from ourodb.errors import InvalidRequest

_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_LENGTH: Final = 16
_SIZE: Final = 1 + _LENGTH

_TIME_VERSION: Final = 1
_TIME_MARKER: Final = VALUE | _TIME_VERSION
# By the byte of the value that holds the version.
_MARKERS: Final = tuple(bytes((VALUE | byte >> 4,)) for byte in range(256))

# The three fields of the time, from low to high, and the last eight bytes; reversed after a marker.
_WIRE: Final = struct.Struct(">IHHQ")
_ORDERED: Final = struct.Struct(">BHHIQ")
_split: Final = _WIRE.unpack
_joined: Final = _WIRE.pack
_ordered: Final = _ORDERED.pack
_split_ordered: Final = _ORDERED.unpack_from

_SIGNS: Final = 0x8080_8080_8080_8080
_SIGNS_DESC: Final = 0x7F7F_7F7F_7F7F_7F7F


class UuidType(CqlType):
    """Objects: uuid.UUID."""

    __slots__ = ()

    def __init__(self, cql_name: str = "uuid", marshal_class: str = "UUIDType", code: int = 0x0C) -> None:
        class_name = MARSHAL + marshal_class
        super().__init__(
            (),
            cql_name=cql_name,
            class_name=class_name,
            options=native_options(class_name, code),
            fixed_length=_LENGTH,
            valid_by_length=cql_name == "uuid",
        )

    def validate(self, value: bytes) -> None:
        if len(value) != _LENGTH and value:
            raise InvalidRequest(f"UUID should be 16 or 0 bytes ({len(value)})")

    def encode(self, obj: Any) -> bytes:
        if not isinstance(obj, uuid.UUID):
            raise not_a_value(self, obj)
        return obj.bytes

    def decode(self, value: bytes) -> uuid.UUID | None:
        return uuid.UUID(bytes=value) if value else None

    def parse(self, text: str) -> bytes:
        if not text:
            return b""
        if _UUID.fullmatch(text) is None:
            raise InvalidRequest(f"Unable to make UUID from '{text}'")
        return bytes.fromhex(text.replace("-", ""))

    def literal(self, value: bytes) -> str:
        if not value:
            return "null"
        text = value.hex()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def encode_ordered(self, value: bytes) -> bytes:
        if not value:
            return EMPTY_BYTES
        marker = _MARKERS[value[6]]
        if marker == b"\x21":
            low, middle, high, rest = _split(value)
            return _ordered(_TIME_MARKER, high, middle, low, rest)
        return marker + value

    def decode_ordered(self, buf: bytes, offset: int) -> tuple[bytes, int]:
        marker = buf[offset]
        if marker & 0xF0 == VALUE:
            end = offset + _SIZE
            if end > len(buf):
                raise cut_short(buf, offset)
            if marker == _TIME_MARKER:
                _, high, middle, low, rest = _split_ordered(buf, offset)
                return _joined(low, middle, high, rest), end
            return buf[offset + 1 : end], end
        if marker == EMPTY:
            return b"", offset + 1
        raise bad_marker(buf, offset)

    def decode_ordered_desc(self, buf: bytes, offset: int) -> tuple[bytes, int]:
        value, length = self.decode_ordered(buf[offset : offset + _SIZE].translate(COMPLEMENT), 0)
        return value, offset + length


class TimeUuidType(UuidType):
    """Objects: uuid.UUID of version 1."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("timeuuid", "TimeUUIDType", 0x0F)

    def validate(self, value: bytes) -> None:
        if len(value) != _LENGTH:
            if value:
                raise InvalidRequest(f"UUID should be 16 or 0 bytes ({len(value)})")
        elif value[6] & 0xF0 != 0x10:
            raise InvalidRequest(f"Invalid version for TimeUUID type: 0x{value[6] >> 4:x}")

    def encode(self, obj: Any) -> bytes:
        if not isinstance(obj, uuid.UUID) or obj.bytes[6] >> 4 != _TIME_VERSION:
            raise not_a_value(self, obj)
        return obj.bytes

    def parse(self, text: str) -> bytes:
        if not text:
            return b""
        if _UUID.fullmatch(text) is None:
            raise InvalidRequest(f"Unknown timeuuid representation: {text}")
        value = bytes.fromhex(text.replace("-", ""))
        if value[6] >> 4 != _TIME_VERSION:
            raise InvalidRequest("TimeUUID supports only version 1 UUIDs")
        return value

    def encode_ordered(self, value: bytes) -> bytes:
        if not value:
            return EMPTY_BYTES
        low, middle, high, rest = _split(value)
        return _ordered(VALUE, high, middle, low, rest ^ _SIGNS)

    def decode_ordered(self, buf: bytes, offset: int) -> tuple[bytes, int]:
        marker = buf[offset]
        if marker == VALUE:
            end = offset + _SIZE
            if end > len(buf):
                raise cut_short(buf, offset)
            _, high, middle, low, rest = _split_ordered(buf, offset)
            return _joined(low, middle, high, rest ^ _SIGNS), end
        if marker == EMPTY:
            return b"", offset + 1
        raise bad_marker(buf, offset)

    def encode_ordered_desc(self, value: bytes) -> bytes:
        if not value:
            return EMPTY_DESC_BYTES
        low, middle, high, rest = _split(value)
        return _ordered(VALUE_DESC, high ^ 0xFFFF, middle ^ 0xFFFF, low ^ 0xFFFF_FFFF, rest ^ _SIGNS_DESC)

    def decode_ordered_desc(self, buf: bytes, offset: int) -> tuple[bytes, int]:
        marker = buf[offset]
        if marker == VALUE_DESC:
            end = offset + _SIZE
            if end > len(buf):
                raise cut_short(buf, offset)
            _, high, middle, low, rest = _split_ordered(buf, offset)
            return _joined(low ^ 0xFFFF_FFFF, middle ^ 0xFFFF, high ^ 0xFFFF, rest ^ _SIGNS_DESC), end
        if marker == EMPTY_DESC:
            return b"", offset + 1
        raise bad_marker(buf, offset)


UUID: Final = UuidType()
TIMEUUID: Final = TimeUuidType()
