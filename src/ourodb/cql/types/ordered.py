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

EMPTY = 0x10
VALUE = 0x20
END = 0x0A
NULL = 0x0C

EMPTY_DESC = 0xFF - EMPTY
VALUE_DESC = 0xFF - VALUE

EMPTY_BYTES = bytes([EMPTY])
VALUE_BYTES = bytes([VALUE])
END_BYTES = bytes([END])
NULL_BYTES = bytes([NULL])
EMPTY_DESC_BYTES = bytes([EMPTY_DESC])
VALUE_DESC_BYTES = bytes([VALUE_DESC])

COMPLEMENT = bytes(0xFF - byte for byte in range(256))
"""Table for ``bytes.translate`` that complements every byte."""

FLIP_SIGNS = bytes(byte ^ 0x80 for byte in range(256))
"""Table for ``bytes.translate`` under which signed bytes compare as unsigned ones."""


def bad_marker(buf: bytes, offset: int) -> ValueError:
    """For bytes that no ordered form begins with."""
    found = f"0x{buf[offset]:02x}" if offset < len(buf) else "the end"
    return ValueError(f"no ordered form starts at offset {offset}: found {found}")


def encode_bytes(value: bytes) -> bytes:
    """Ordered form of bytes of variable length under unsigned comparison."""
    if not value:
        return EMPTY_BYTES
    if 0 in value:
        value = value.replace(b"\x00", b"\x00\xff")
    return b"\x20%b\x00\x01" % value


def decode_bytes(buf: bytes, offset: int) -> tuple[bytes, int]:
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
    if not value:
        return EMPTY_DESC_BYTES
    if 0 in value:
        value = value.replace(b"\x00", b"\x00\xff")
    return b"\xdf%b\xff\xfe" % value.translate(COMPLEMENT)


def decode_bytes_desc(buf: bytes, offset: int) -> tuple[bytes, int]:
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
