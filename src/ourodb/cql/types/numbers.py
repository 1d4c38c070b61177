"""varint and decimal: numbers without bounds.

A varint is a two's complement number of any length; a decimal is a 32-bit scale and a varint, unscaled: its value
is ``unscaled * 10**-scale``. The same number can be written in several ways: redundant bytes before a varint, 1.0
and 1.00. These compare equal, so they have one ordered form, and what decodes from it is the shortest way.

Ordered form of a varint: a byte that tells sign and length, then the bytes. Of a decimal: a sign byte, then, for
``0.d1d2d3... * 10**exponent`` with d1 and the last digit not 0, the exponent as an ordered varint and two digits a
byte, each byte one more than the digits read as hex, closed by 0x00. All after the sign is complemented below zero.

Python refuses to convert between text and integers of thousands of digits, and would take quadratic time. What is
longer goes through ``_digits_of`` and ``_integer_of``, which divide and conquer.
"""

from __future__ import annotations

import re
import struct
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from typing import Any, Final

from ourodb.cql.types.base import MARSHAL, CqlType, not_a_value
from ourodb.cql.types.fixed import native_options
from ourodb.cql.types.ordered import (
    COMPLEMENT,
    EMPTY,
    EMPTY_BYTES,
    VALUE,
    VALUE_BYTES,
    bad_marker,
    cut_short,
)
from ourodb.errors import InvalidRequest

_SCALE: Final = struct.Struct(">i")
_SCALE_LEAST: Final = -(2**31)
_SCALE_GREATEST: Final = 2**31 - 1

_INTEGER: Final = re.compile(r"([+-]?)([0-9]+)", re.ASCII)
_DECIMAL: Final = re.compile(
    r"([+-]?)(?:([0-9]+)(?:\.([0-9]*))?|\.([0-9]+))(?:[eE]([+-]?[0-9]{1,10}))?", re.ASCII
)

_PLAIN_ZEROS_MAX: Final = 1000
"""A decimal whose plain notation would have more zeros than this that its digits don't contain is printed with an
exponent: nine bytes can stand for a number with two billion zeros."""

_TRAILING_ZEROS_MAX: Final = 1 << 26
"""More zeros than a value that a frame can carry ends with."""

# Length bytes of an ordered varint: 0x80 + length for what isn't negative, up to _SHORT_MAX bytes; then 0xF0 and
# four bytes of length. The complement of all that for negative numbers.
_SHORT_MAX: Final = 0x6F
_LONG: Final = 0xF0

_NEGATIVE: Final = 0x40
_ZERO: Final = 0x80
_POSITIVE: Final = 0xC0

_DIGITS_TO_BYTES: Final = bytes((byte + 1) & 0xFF for byte in range(256))
_BYTES_TO_DIGITS: Final = bytes((byte - 1) & 0xFF for byte in range(256))

_DIRECT_BITS_MAX: Final = 8_000
_DIRECT_DIGITS_MAX: Final = 2_000
_EXACT: Final = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)


class VarintType(CqlType):
    """Objects: int."""

    __slots__ = ()

    def __init__(self) -> None:
        class_name = MARSHAL + "IntegerType"
        super().__init__(
            (),
            cql_name="varint",
            class_name=class_name,
            options=native_options(class_name, 0x0E),
            normalizes=True,
            any_bytes=True,
        )

    def validate(self, value: bytes) -> None:
        pass

    def encode(self, obj: Any) -> bytes:
        try:
            return encode_varint(obj.__index__())
        except AttributeError:
            raise not_a_value(self, obj) from None

    def decode(self, value: bytes) -> int | None:
        return int.from_bytes(value, "big", signed=True) if value else None

    def parse(self, text: str) -> bytes:
        if not text:
            return b""
        match = _INTEGER.fullmatch(text)
        if match is None:
            raise InvalidRequest(f"unable to make int from '{text}'")
        number = _integer_of(match[2])
        return encode_varint(-number if match[1] == "-" else number)

    def literal(self, value: bytes) -> str:
        if not value:
            return "null"
        number = int.from_bytes(value, "big", signed=True)
        return "-" + _digits_of(-number) if number < 0 else _digits_of(number)

    def encode_ordered(self, value: bytes) -> bytes:
        if not value:
            return EMPTY_BYTES
        return VALUE_BYTES + _encode_ordered_integer(int.from_bytes(value, "big", signed=True))

    def decode_ordered(self, buf: bytes, offset: int) -> tuple[bytes, int]:
        marker = buf[offset]
        if marker == VALUE:
            number, end = _decode_ordered_integer(buf, offset + 1)
            return encode_varint(number), end
        if marker == EMPTY:
            return b"", offset + 1
        raise bad_marker(buf, offset)


class DecimalType(CqlType):
    """Objects: Decimal; also int in."""

    __slots__ = ()

    def __init__(self) -> None:
        class_name = MARSHAL + "DecimalType"
        super().__init__(
            (),
            cql_name="decimal",
            class_name=class_name,
            options=native_options(class_name, 0x06),
            normalizes=True,
        )

    def validate(self, value: bytes) -> None:
        if 0 < len(value) < 4:
            raise InvalidRequest(f"Expected 0 or at least 4 bytes ({len(value)})")
        if len(value) == 4:
            raise InvalidRequest("Expected at least one byte of unscaled value after the scale of a decimal")

    def encode(self, obj: Any) -> bytes:
        if isinstance(obj, int):
            return _SCALE.pack(0) + encode_varint(obj)
        if not isinstance(obj, Decimal) or not obj.is_finite():
            raise not_a_value(self, obj)
        sign, digits, exponent = obj.as_tuple()
        assert isinstance(exponent, int)
        if not _SCALE_LEAST <= -exponent <= _SCALE_GREATEST:
            raise not_a_value(self, obj)
        unscaled = _integer_of("".join(map(str, digits)))
        return _SCALE.pack(-exponent) + encode_varint(-unscaled if sign else unscaled)

    def decode(self, value: bytes) -> Decimal | None:
        if not value:
            return None
        scale, unscaled = _split_decimal(value)
        sign = "-" if unscaled < 0 else ""
        return Decimal(f"{sign}{_digits_of(abs(unscaled))}E{-scale}")

    def parse(self, text: str) -> bytes:
        if not text:
            return b""
        match = _DECIMAL.fullmatch(text)
        if match is not None:
            sign, whole, fraction, only_fraction, exponent = match.groups()
            fraction = only_fraction or fraction or ""
            scale = len(fraction) - int(exponent or 0)
            if _SCALE_LEAST <= scale <= _SCALE_GREATEST:
                unscaled = _integer_of((whole or "") + fraction)
                return _SCALE.pack(scale) + encode_varint(-unscaled if sign == "-" else unscaled)
        raise InvalidRequest(f"unable to make BigDecimal from '{text}'")

    def literal(self, value: bytes) -> str:
        if not value:
            return "null"
        scale, unscaled = _split_decimal(value)
        digits = _digits_of(abs(unscaled))
        sign = "-" if unscaled < 0 else ""
        if scale == 0:
            return sign + digits
        if -scale > _PLAIN_ZEROS_MAX or scale - len(digits) > _PLAIN_ZEROS_MAX:
            return f"{sign}{digits}E{-scale}"
        if scale < 0:
            return sign + digits + "0" * -scale if unscaled else "0"
        digits = digits.rjust(scale + 1, "0")
        return f"{sign}{digits[:-scale]}.{digits[-scale:]}"

    def encode_ordered(self, value: bytes) -> bytes:
        if not value:
            return EMPTY_BYTES
        scale, unscaled = _split_decimal(value)
        if not unscaled:
            return bytes((VALUE, _ZERO))
        all_digits = _digits_of(abs(unscaled))
        exponent = _encode_ordered_integer(len(all_digits) - scale)
        digits = all_digits.rstrip("0")
        if len(digits) & 1:
            digits += "0"
        magnitude = exponent + bytes.fromhex(digits).translate(_DIGITS_TO_BYTES) + b"\x00"
        if unscaled < 0:
            return bytes((VALUE, _NEGATIVE)) + magnitude.translate(COMPLEMENT)
        return bytes((VALUE, _POSITIVE)) + magnitude

    def decode_ordered(self, buf: bytes, offset: int) -> tuple[bytes, int]:
        marker = buf[offset]
        if marker == EMPTY:
            return b"", offset + 1
        if marker != VALUE:
            raise bad_marker(buf, offset)
        sign = buf[offset + 1]
        start = offset + 2
        if sign == _ZERO:
            return b"\x00\x00\x00\x00\x00", start
        if sign == _NEGATIVE:
            end, exponent, digits = _decode_magnitude(buf[start:].translate(COMPLEMENT), 0)
            end += start
        elif sign == _POSITIVE:
            end, exponent, digits = _decode_magnitude(buf, start)
        else:
            raise bad_marker(buf, offset + 1)
        scale = len(digits) - exponent
        unscaled = _integer_of(digits)
        if scale > _SCALE_GREATEST or scale < _SCALE_LEAST - _TRAILING_ZEROS_MAX:
            raise ValueError(f"the ordered form at offset {offset} has scale {scale}")
        if scale < _SCALE_LEAST:
            # Zeros that the digits had, and the scale has no room for.
            unscaled *= 10 ** (_SCALE_LEAST - scale)
            scale = _SCALE_LEAST
        return _SCALE.pack(scale) + encode_varint(unscaled if sign == _POSITIVE else -unscaled), end


def encode_varint(number: int) -> bytes:
    """The shortest two's complement bytes of a number."""
    length = ((number if number >= 0 else ~number).bit_length() >> 3) + 1
    return number.to_bytes(length, "big", signed=True)


def _split_decimal(value: bytes) -> tuple[int, int]:
    return _SCALE.unpack_from(value)[0], int.from_bytes(value[4:], "big", signed=True)


def _encode_ordered_integer(number: int) -> bytes:
    data = encode_varint(number)
    length = len(data)
    if number >= 0:
        if length <= _SHORT_MAX:
            return bytes((0x80 + length,)) + data
        return bytes((_LONG,)) + length.to_bytes(4, "big") + data
    # Two's complement bytes of a negative number already are the complement of those of -1 - number.
    if length <= _SHORT_MAX:
        return bytes((0x7F - length,)) + data
    return bytes((0xFF - _LONG,)) + length.to_bytes(4, "big").translate(COMPLEMENT) + data


def _decode_ordered_integer(buf: bytes, offset: int) -> tuple[int, int]:
    head = buf[offset]
    magnitude = head if head & 0x80 else 0xFF - head
    start = offset + 1
    if magnitude == _LONG:
        size = buf[start : start + 4]
        length = int.from_bytes(size if head & 0x80 else size.translate(COMPLEMENT), "big")
        start += 4
    elif 0x80 < magnitude < _LONG:
        length = magnitude - 0x80
    else:
        raise bad_marker(buf, offset)
    end = start + length
    if end > len(buf):
        raise cut_short(buf, offset)
    return int.from_bytes(buf[start:end], "big", signed=True), end


def _decode_magnitude(buf: bytes, offset: int) -> tuple[int, int, str]:
    """The offset after the magnitude of a decimal, its exponent, and its digits."""
    exponent, start = _decode_ordered_integer(buf, offset)
    end = buf.index(0, start)
    digits = buf[start:end].translate(_BYTES_TO_DIGITS).hex().rstrip("0")
    if not digits.isdecimal() or digits[0] == "0":
        raise ValueError(f"the ordered form at offset {offset} has no digits")
    return end + 1, exponent, digits


def _digits_of(number: int) -> str:
    """Decimal digits of a number that isn't negative."""
    if number.bit_length() <= _DIRECT_BITS_MAX:
        return str(number)
    powers: dict[int, Decimal] = {}

    def power_of_two(bits: int) -> Decimal:
        power = powers.get(bits)
        if power is None:
            if bits <= _DIRECT_BITS_MAX:
                power = Decimal(1 << bits)
            else:
                power = _EXACT.multiply(power_of_two(bits >> 1), power_of_two(bits - (bits >> 1)))
            powers[bits] = power
        return power

    def convert(part: int, bits: int) -> Decimal:
        if bits <= _DIRECT_BITS_MAX:
            return Decimal(part)
        half = bits >> 1
        high = part >> half
        return _EXACT.fma(
            convert(high, bits - half), power_of_two(half), convert(part - (high << half), half)
        )

    return format(convert(number, number.bit_length()), "f")


def _integer_of(digits: str) -> int:
    """The number of decimal digits."""
    if len(digits) <= _DIRECT_DIGITS_MAX:
        return int(digits)
    powers: dict[int, int] = {}

    def convert(start: int, end: int) -> int:
        if end - start <= _DIRECT_DIGITS_MAX:
            return int(digits[start:end])
        middle = (start + end + 1) >> 1
        low_length = end - middle
        power = powers.get(low_length)
        if power is None:
            power = powers[low_length] = 10**low_length
        return convert(start, middle) * power + convert(middle, end)

    return convert(0, len(digits))


VARINT: Final = VarintType()
DECIMAL: Final = DecimalType()
