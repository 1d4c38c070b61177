"""Variable-length integers of durations and vectors.

The number of leading one bits of the first byte is the number of bytes that follow; what remains of it, and they,
are the number, big-endian. Signed numbers are zigzag-encoded first.

Source: Cassandra's ``VIntCoding``; native_protocol_v5.spec, section 3, ``[unsigned vint]`` and ``[vint]``.
"""

from __future__ import annotations


def encode_unsigned_vint(number: int) -> bytes:
    """Bytes of a number of at most 64 bits."""
    if number < 0x80:
        return bytes((number,))
    # A byte more adds seven bits, up to eight more, which hold all 64.
    extra = min((number.bit_length() - 1) // 7, 8)
    head = (0xFF00 >> extra) & 0xFF
    if extra == 8:
        return b"\xff" + number.to_bytes(8, "big")
    return (head << 8 * extra | number).to_bytes(extra + 1, "big")


def decode_unsigned_vint(buf: bytes, offset: int) -> tuple[int, int]:
    """The number at ``offset``, and the offset after it.

    Raises:
        ValueError: the bytes end before the number does.
    """
    if offset >= len(buf):
        raise ValueError("not enough bytes to read a vint")
    first = buf[offset]
    if first < 0x80:
        return first, offset + 1
    extra = 8 - (0xFF - first).bit_length()
    end = offset + 1 + extra
    if end > len(buf):
        raise ValueError("not enough bytes to read a vint")
    number = int.from_bytes(buf[offset + 1 : end], "big")
    return (first & (0xFF >> extra)) << 8 * extra | number, end


def encode_vint(number: int) -> bytes:
    """Bytes of a signed number of at most 64 bits."""
    return encode_unsigned_vint(number << 1 if number >= 0 else (~number << 1) | 1)


def decode_vint(buf: bytes, offset: int) -> tuple[int, int]:
    """As ``decode_unsigned_vint``, signed."""
    zigzag, end = decode_unsigned_vint(buf, offset)
    return (~(zigzag >> 1) if zigzag & 1 else zigzag >> 1), end
