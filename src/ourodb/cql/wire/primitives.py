"""The notations of the protocol, section 3 of the spec: [int], [string], [value], [string map], [vint], ...

``Reader`` is a cursor over one message's body for messages that are seldom: STARTUP, QUERY's tail, BATCH, everything
that a client decodes. Each method checks what it reads against what is there and raises ``ProtocolError``, so a length
in the message never allocates more than the message itself holds. Hot messages inline ``struct`` instead (see
``requests.decode_execute``).

Writers return bytes, to be joined by their caller. A string longer than its [short] length allows is the caller's
mistake, except where a client could have caused it: texts of errors are cut (``text``).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Final, final

from ourodb.cql.wire.codes import CONSISTENCY_MAX
from ourodb.errors import ProtocolError


@final
class UnsetType:
    """The type of ``UNSET``; there is one instance."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNSET"

    def __bool__(self) -> bool:
        return False


UNSET: Final = UnsetType()
"""A bound value that was not set (v4 and later): it changes nothing. None is null."""

Value = bytes | None | UnsetType
"""A bound value: bytes as on the wire, null, or not set."""

_SHORT = struct.Struct(">H")
_INT = struct.Struct(">i")
_LONG = struct.Struct(">q")

pack_short: Final[Callable[[int], bytes]] = _SHORT.pack
pack_int: Final[Callable[[int], bytes]] = _INT.pack
pack_long: Final[Callable[[int], bytes]] = _LONG.pack

NULL: Final = b"\xff\xff\xff\xff"
"""A null as [bytes] or [value]."""

NOT_SET: Final = b"\xff\xff\xff\xfe"
"""UNSET as [value]."""

STRING_BYTES_MAX: Final = 0xFFFF


class Reader:
    """A cursor over ``body``; every read advances it or raises ``ProtocolError``.

    Attributes:
        body: the message.
        offset: where the next read starts.
    """

    __slots__ = ("body", "offset")

    def __init__(self, body: bytes, offset: int = 0) -> None:
        self.body = body
        self.offset = offset

    def take(self, count: int, what: str) -> bytes:
        """The next ``count`` bytes; ``what`` they are is for the error."""
        start = self.offset
        end = start + count
        if count < 0 or end > len(self.body):
            raise ProtocolError(f"Not enough bytes to read {what}")
        self.offset = end
        return self.body[start:end]

    def remaining(self) -> int:
        return len(self.body) - self.offset

    def byte(self) -> int:
        offset = self.offset
        if offset >= len(self.body):
            raise ProtocolError("Not enough bytes to read a byte")
        self.offset = offset + 1
        return self.body[offset]

    def short(self) -> int:
        try:
            (number,) = _SHORT.unpack_from(self.body, self.offset)
        except struct.error:
            raise ProtocolError("Not enough bytes to read a short") from None
        self.offset += 2
        return int(number)

    def int32(self) -> int:
        try:
            (number,) = _INT.unpack_from(self.body, self.offset)
        except struct.error:
            raise ProtocolError("Not enough bytes to read an int") from None
        self.offset += 4
        return int(number)

    def int64(self) -> int:
        try:
            (number,) = _LONG.unpack_from(self.body, self.offset)
        except struct.error:
            raise ProtocolError("Not enough bytes to read a long") from None
        self.offset += 8
        return int(number)

    def string(self) -> str:
        """[string]"""
        count = self.short()
        return _utf8(
            self.take(count, "an UTF8 serialized string preceded by its 2 bytes length"),
        )

    def long_string(self) -> str:
        """[long string]"""
        count = self.int32()
        return _utf8(self.take(count, "an UTF8 serialized string preceded by its 4 bytes length"))

    def short_bytes(self) -> bytes:
        """[short bytes]"""
        count = self.short()
        return self.take(count, "a byte array preceded by its 2 bytes length")

    def nullable_bytes(self) -> bytes | None:
        """[bytes]: None when the length is negative."""
        count = self.int32()
        if count < 0:
            return None
        return self.take(count, "a byte array preceded by its 4 bytes length")

    def value(self, version: int) -> Value:
        """[value]: before v4 every negative length is null."""
        count = self.int32()
        if count >= 0:
            return self.take(count, "a value")
        if count == -1 or version < 4:
            return None
        if count == -2:
            return UNSET
        raise ProtocolError(f"Invalid ByteBuf length {count}")

    def consistency(self) -> int:
        """[consistency]"""
        code = self.short()
        if code > CONSISTENCY_MAX:
            raise unknown_consistency(code)
        return code

    def uuid(self) -> bytes:
        """[uuid], as its 16 bytes."""
        return self.take(16, "a uuid")

    def inet_address(self) -> bytes:
        """[inetaddr]: 4 or 16 bytes."""
        count = self.byte()
        if count != 4 and count != 16:
            raise ProtocolError(f"Invalid address length {count} while deserializing inet address")
        return self.take(count, "an inet address")

    def inet(self) -> tuple[bytes, int]:
        """[inet]: packed address and port."""
        return self.inet_address(), self.int32()

    def string_list(self, strings_max: int) -> list[str]:
        """[string list] of at most ``strings_max``."""
        count = self.short()
        if count > strings_max:
            raise ProtocolError(f"Too many strings in a list: {count}, at most {strings_max} are accepted")
        return [self.string() for _ in range(count)]

    def string_map(self, keys_max: int) -> dict[str, str]:
        """[string map] of at most ``keys_max`` entries."""
        count = self.short()
        if count > keys_max:
            raise ProtocolError(f"Too many keys in a map: {count}, at most {keys_max} are accepted")
        return {self.string(): self.string() for _ in range(count)}

    def string_multimap(self, keys_max: int) -> dict[str, list[str]]:
        """[string multimap] of at most ``keys_max`` keys, and as many values for each."""
        count = self.short()
        if count > keys_max:
            raise ProtocolError(f"Too many keys in a map: {count}, at most {keys_max} are accepted")
        return {self.string(): self.string_list(keys_max) for _ in range(count)}

    def bytes_map(self, keys_max: int) -> dict[str, bytes | None]:
        """[bytes map] of at most ``keys_max`` entries."""
        count = self.short()
        if count > keys_max:
            raise ProtocolError(f"Too many keys in a map: {count}, at most {keys_max} are accepted")
        return {self.string(): self.nullable_bytes() for _ in range(count)}

    def unsigned_vint(self) -> int:
        """[unsigned vint]: the leading ones of the first byte count the bytes that follow."""
        first = self.byte()
        if first < 0x80:
            return first
        extra = 8 - (~first & 0xFF).bit_length()
        tail = int.from_bytes(self.take(extra, "a vint"), "big")
        return (first & (0xFF >> extra)) << (8 * extra) | tail

    def vint(self) -> int:
        """[vint], zig-zag encoded."""
        number = self.unsigned_vint()
        return number >> 1 ^ -(number & 1)


def unknown_consistency(code: int) -> ProtocolError:
    return ProtocolError(f"Unknown code {code} for a consistency level")


def _utf8(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        shown = raw[:64].hex() + ("..." if len(raw) > 64 else "")
        raise ProtocolError(f"Cannot decode string as UTF8: '{shown}'; {error.reason}") from None


def write_string(string: str) -> bytes:
    """[string]"""
    raw = string.encode()
    return _SHORT.pack(len(raw)) + raw


def write_text(string: str) -> bytes:
    """[string] of a text for people, cut to what a [string] can hold; what isn't valid Unicode is replaced."""
    raw = string.encode("utf-8", "replace")
    if len(raw) > STRING_BYTES_MAX:
        raw = raw[:STRING_BYTES_MAX].decode("utf-8", "ignore").encode()
    return _SHORT.pack(len(raw)) + raw


def write_long_string(string: str) -> bytes:
    """[long string]"""
    raw = string.encode()
    return _INT.pack(len(raw)) + raw


def write_short_bytes(raw: bytes) -> bytes:
    """[short bytes]"""
    return _SHORT.pack(len(raw)) + raw


def write_bytes(raw: bytes | None) -> bytes:
    """[bytes]"""
    return NULL if raw is None else _INT.pack(len(raw)) + raw


def write_value(value: Value) -> bytes:
    """[value]"""
    if value is None:
        return NULL
    if isinstance(value, UnsetType):
        return NOT_SET
    return _INT.pack(len(value)) + value


def write_inet_address(address: bytes) -> bytes:
    """[inetaddr] of a packed address."""
    return bytes((len(address),)) + address


def write_inet(address: bytes, port: int) -> bytes:
    """[inet] of a packed address."""
    return bytes((len(address),)) + address + _INT.pack(port)


def write_string_list(strings: Sequence[str]) -> bytes:
    """[string list]"""
    return _SHORT.pack(len(strings)) + b"".join(map(write_string, strings))


def write_text_list(strings: Sequence[str]) -> bytes:
    """[string list] of texts for people, each cut as in ``write_text``."""
    return _SHORT.pack(len(strings)) + b"".join(map(write_text, strings))


def write_string_map(entries: Mapping[str, str]) -> bytes:
    """[string map]"""
    pairs = (write_string(key) + write_string(value) for key, value in entries.items())
    return _SHORT.pack(len(entries)) + b"".join(pairs)


def write_string_multimap(entries: Mapping[str, Sequence[str]]) -> bytes:
    """[string multimap]"""
    pairs = (write_string(key) + write_string_list(values) for key, values in entries.items())
    return _SHORT.pack(len(entries)) + b"".join(pairs)


def write_bytes_map(entries: Mapping[str, bytes | None]) -> bytes:
    """[bytes map]"""
    pairs = (write_string(key) + write_bytes(value) for key, value in entries.items())
    return _SHORT.pack(len(entries)) + b"".join(pairs)


def write_unsigned_vint(number: int) -> bytes:
    """[unsigned vint] of a number below 2**64."""
    extra = min((max(number.bit_length(), 1) - 1) // 7, 8)
    lead = 0xFF00 >> extra & 0xFF
    return (number | lead << (8 * extra)).to_bytes(extra + 1, "big")


def write_vint(number: int) -> bytes:
    """[vint] of a signed 64-bit number."""
    return write_unsigned_vint((number >> 63 ^ number << 1) & 0xFFFFFFFFFFFFFFFF)
