"""Ordered form: bytes whose unsigned comparison is Cassandra's comparison of values.

An ordered form begins with a marker byte and delimits itself:

| marker | what follows |
| --- | --- |
| 0x10 | nothing: the empty value, which sorts before all others |
| 0x20..0x2F | a value (uuid keeps its version in the low four bits, other types use 0x20) |

Markers, and their complements 0xEF and 0xDF..0xD0, lie strictly between 0x08 and 0xF0, so that for any run of
ordered forms ``prefix`` in a key, ``prefix + 0x00`` sorts before and ``prefix + 0xFF`` after every longer key that
begins with it.

Values of fixed length follow their marker in as many bytes. Bytes of variable length have each 0x00 written as
0x00 0xFF and end with 0x00 0x01. No ordered form is a prefix of another of the same type; for such codes
complementing every byte inverts the order exactly and keeps them free of prefixes, which is how DESC is done.

Inside lists, sets, maps and tuples, ordered forms of the elements follow one another; ``END`` closes a list, set or
map, and ``NULL`` stands for a null component. Both sort before every marker.
"""

from __future__ import annotations

from typing import Final

EMPTY: Final = 0x10
VALUE: Final = 0x20
END: Final = 0x0A
NULL: Final = 0x0C

EMPTY_DESC: Final = 0xFF - EMPTY
VALUE_DESC: Final = 0xFF - VALUE

EMPTY_BYTES: Final = bytes([EMPTY])
VALUE_BYTES: Final = bytes([VALUE])
END_BYTES: Final = bytes([END])
NULL_BYTES: Final = bytes([NULL])
EMPTY_DESC_BYTES: Final = bytes([EMPTY_DESC])
VALUE_DESC_BYTES: Final = bytes([VALUE_DESC])

COMPLEMENT: Final = bytes(0xFF - byte for byte in range(256))
"""Table for ``bytes.translate`` that complements every byte."""


def bad_marker(buf: bytes, offset: int) -> ValueError:
    """For bytes that no ordered form begins with."""
    return ValueError(f"no ordered form starts at offset {offset}: found 0x{buf[offset]:02x}")


def cut_short(buf: bytes, offset: int) -> ValueError:
    """For an ordered form whose end is missing."""
    return ValueError(f"the ordered form at offset {offset} is longer than the {len(buf)} bytes")


def encode_bytes(value: bytes) -> bytes:
    """Ordered form of bytes of variable length under unsigned comparison."""
    if not value:
        return EMPTY_BYTES
    if 0 in value:
        value = value.replace(b"\x00", b"\x00\xff")
    return b"\x20%b\x00\x01" % value


def decode_bytes(buf: bytes, offset: int) -> tuple[bytes, int]:
    """Inverse of ``encode_bytes``: the value, and the offset after it."""
    marker = buf[offset]
    if marker == VALUE:
        # Every 0x00 of the value is followed by 0xFF, so the first 0x00 0x01 is the end.
        end = buf.index(b"\x00\x01", offset + 1)
        value = buf[offset + 1 : end]
        if 0 in value:
            value = value.replace(b"\x00\xff", b"\x00")
        return value, end + 2
    if marker == EMPTY:
        return b"", offset + 1
    raise bad_marker(buf, offset)


def encode_bytes_desc(value: bytes) -> bytes:
    """Complement of ``encode_bytes``."""
    if not value:
        return EMPTY_DESC_BYTES
    if 0 in value:
        value = value.replace(b"\x00", b"\x00\xff")
    return b"\xdf%b\xff\xfe" % value.translate(COMPLEMENT)


def decode_bytes_desc(buf: bytes, offset: int) -> tuple[bytes, int]:
    """Inverse of ``encode_bytes_desc``."""
    marker = buf[offset]
    if marker == VALUE_DESC:
        end = buf.index(b"\xff\xfe", offset + 1)
        value = buf[offset + 1 : end].translate(COMPLEMENT)
        if 0 in value:
            value = value.replace(b"\x00\xff", b"\x00")
        return value, end + 2
    if marker == EMPTY_DESC:
        return b"", offset + 1
    raise bad_marker(buf, offset)
