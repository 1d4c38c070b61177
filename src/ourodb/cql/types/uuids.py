"""uuid and timeuuid.

A uuid sorts by version first; version 1 then by its time, others by their bytes, unsigned. Its ordered form keeps
the version in the marker, so that the bytes can follow as they are. A timeuuid sorts by its time, then by its last
eight bytes, each signed: an accident of Cassandra's that its users' data depend on.
"""

from __future__ import annotations

import re
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
    FLIP_SIGNS,
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
_FLIP_SIGNS_DESC: Final = FLIP_SIGNS.translate(COMPLEMENT)


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
            return marker + value[6:8] + value[4:6] + value[:4] + value[8:]
        return marker + value

    def decode_ordered(self, buf: bytes, offset: int) -> tuple[bytes, int]:
        marker = buf[offset]
        if marker & 0xF0 == VALUE:
            end = offset + _SIZE
            if end > len(buf):
                raise cut_short(buf, offset)
            if marker == _TIME_MARKER:
                time = buf[offset + 1 : offset + 9]
                return time[4:] + time[2:4] + time[:2] + buf[offset + 9 : end], end
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
        return b"\x20" + value[6:8] + value[4:6] + value[:4] + value[8:].translate(FLIP_SIGNS)

    def decode_ordered(self, buf: bytes, offset: int) -> tuple[bytes, int]:
        marker = buf[offset]
        if marker == VALUE:
            end = offset + _SIZE
            if end > len(buf):
                raise cut_short(buf, offset)
            time = buf[offset + 1 : offset + 9]
            return time[4:] + time[2:4] + time[:2] + buf[offset + 9 : end].translate(FLIP_SIGNS), end
        if marker == EMPTY:
            return b"", offset + 1
        raise bad_marker(buf, offset)

    def encode_ordered_desc(self, value: bytes) -> bytes:
        if not value:
            return EMPTY_DESC_BYTES
        time = value[:8].translate(COMPLEMENT)
        return b"\xdf" + time[6:] + time[4:6] + time[:4] + value[8:].translate(_FLIP_SIGNS_DESC)

    def decode_ordered_desc(self, buf: bytes, offset: int) -> tuple[bytes, int]:
        marker = buf[offset]
        if marker == VALUE_DESC:
            end = offset + _SIZE
            if end > len(buf):
                raise cut_short(buf, offset)
            time = buf[offset + 1 : offset + 9].translate(COMPLEMENT)
            return time[4:] + time[2:4] + time[:2] + buf[offset + 9 : end].translate(_FLIP_SIGNS_DESC), end
        if marker == EMPTY_DESC:
            return b"", offset + 1
        raise bad_marker(buf, offset)


UUID: Final = UuidType()
TIMEUUID: Final = TimeUuidType()
