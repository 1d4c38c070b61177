"""float, double and boolean.

Floating-point numbers are ordered as Java's ``Double.compare`` does: -0.0 before 0.0, NaN after everything, all
NaNs equal. Their ordered form inverts the sign bit of what is positive and all bits of what is negative.
"""

from __future__ import annotations

import math
import re
import struct
from typing import Any, Final

from ourodb.cql.types.base import MARSHAL, CqlType, not_a_value
from ourodb.cql.types.fixed import native_options
from ourodb.cql.types.ordered import COMPLEMENT, EMPTY, EMPTY_BYTES, VALUE, bad_marker, cut_short
from ourodb.errors import InvalidRequest

_NUMBER: Final = re.compile(
    r"\s*([+-]?)(?:(NaN)|(Infinity)|((?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)[fd]?)\s*", re.ASCII | re.IGNORECASE
)

# By first byte of a positive value: what the ordered form begins with. And back.
_POSITIVE_HEADS: Final = tuple(bytes((VALUE, byte | 0x80)) for byte in range(0x80))
_POSITIVE_FIRSTS: Final = tuple(bytes((byte,)) for byte in range(0x80))


class FloatingType(CqlType):
    """Objects: float."""

    __slots__ = ("_digits_max", "_java_name", "_length", "_nan", "_struct")

    def __init__(
        self, cql_name: str, marshal_class: str, code: int, format_: str, java_name: str, digits_max: int
    ) -> None:
        """
        Args:
            format_: of ``struct``.
            java_name: how Cassandra's errors call it.
            digits_max: decimal digits that tell any two numbers apart.
        """
        self._struct = struct.Struct(format_)
        self._length = self._struct.size
        self._java_name = java_name
        self._digits_max = digits_max
        self._nan: bytes = self._struct.pack(math.nan)
        class_name = MARSHAL + marshal_class
        super().__init__(
            (cql_name,),
            cql_name=cql_name,
            class_name=class_name,
            options=native_options(class_name, code),
            fixed_length=self._length,
            normalizes=True,
            valid_by_length=True,
        )

    def validate(self, value: bytes) -> None:
        if len(value) != self._length and value:
            raise InvalidRequest(
                f"Expected {self._length} or 0 byte value for a {self._java_name} ({len(value)})"
            )

    def encode(self, obj: Any) -> bytes:
        try:
            return self._struct.pack(obj)
        except OverflowError:
            return self._struct.pack(math.copysign(math.inf, obj))
        except struct.error:
            raise not_a_value(self, obj) from None

    def decode(self, value: bytes) -> float | None:
        if not value:
            return None
        number: float = self._struct.unpack(value)[0]
        return number

    def parse(self, text: str) -> bytes:
        if not text:
            return b""
        match = _NUMBER.fullmatch(text)
        if match is None:
            raise InvalidRequest(f"Unable to make {self._java_name} from '{text}'")
        sign, nan, infinity, digits = match.groups()
        if nan:
            return self._nan
        return self.encode(float(sign + ("inf" if infinity else digits)))

    def literal(self, value: bytes) -> str:
        """As Java prints it: 1.0, 1.0E10, NaN, -Infinity."""
        if not value:
            return "null"
        number = self._struct.unpack(value)[0]
        if not math.isfinite(number):
            return "NaN" if number != number else ("Infinity" if number > 0 else "-Infinity")
        for digits in range(1, self._digits_max + 1):
            text = f"{number:.{digits - 1}e}"
            if self.encode(float(text)) == value:
                return _java_notation(text)
        raise AssertionError(f"{self._digits_max} digits don't tell {number!r} from its neighbours")

    def encode_ordered(self, value: bytes) -> bytes:
        if not value:
            return EMPTY_BYTES
        first = value[0]
        # Infinities and NaNs, and the greatest of the numbers, begin with these seven bits.
        if first & 0x7F == 0x7F:
            number = self._struct.unpack(value)[0]
            if number != number:
                value = self._nan
                first = value[0]
        if first & 0x80:
            return b"\x20" + value.translate(COMPLEMENT)
        return _POSITIVE_HEADS[first] + value[1:]

    def decode_ordered(self, buf: bytes, offset: int) -> tuple[bytes, int]:
        marker = buf[offset]
        if marker == VALUE:
            start = offset + 1
            end = start + self._length
            if end > len(buf):
                raise cut_short(buf, offset)
            first = buf[start]
            if first & 0x80:
                return _POSITIVE_FIRSTS[first & 0x7F] + buf[start + 1 : end], end
            return buf[start:end].translate(COMPLEMENT), end
        if marker == EMPTY:
            return b"", offset + 1
        raise bad_marker(buf, offset)


class BooleanType(CqlType):
    """Objects: bool. On the wire one byte; all but 0 are true."""

    __slots__ = ()

    def __init__(self) -> None:
        class_name = MARSHAL + "BooleanType"
        super().__init__(
            (),
            cql_name="boolean",
            class_name=class_name,
            options=native_options(class_name, 0x04),
            fixed_length=1,
            normalizes=True,
            valid_by_length=True,
        )

    def validate(self, value: bytes) -> None:
        if len(value) > 1:
            raise InvalidRequest(f"Expected 1 or 0 byte value ({len(value)})")

    def encode(self, obj: Any) -> bytes:
        if obj is True or obj is False:
            return b"\x01" if obj else b"\x00"
        raise not_a_value(self, obj)

    def decode(self, value: bytes) -> bool | None:
        return value != b"\x00" if value else None

    def parse(self, text: str) -> bytes:
        lower = text.lower()
        if lower == "true":
            return b"\x01"
        if lower in ("false", ""):
            return b"\x00"
        raise InvalidRequest(f"Unable to make boolean from '{text}'")

    def literal(self, value: bytes) -> str:
        return ("false" if value == b"\x00" else "true") if value else "null"

    def encode_ordered(self, value: bytes) -> bytes:
        if not value:
            return EMPTY_BYTES
        return b"\x20\x00" if value == b"\x00" else b"\x20\x01"

    def decode_ordered(self, buf: bytes, offset: int) -> tuple[bytes, int]:
        marker = buf[offset]
        if marker == VALUE:
            truth = buf[offset + 1]
            if truth > 1:
                raise bad_marker(buf, offset + 1)
            return (b"\x01" if truth else b"\x00"), offset + 2
        if marker == EMPTY:
            return b"", offset + 1
        raise bad_marker(buf, offset)


def _java_notation(text: str) -> str:
    """Java's notation of a number given as ``-d.ddde+xx``: plain from 0.001 up to below 10,000,000."""
    mantissa, _, exponent_text = text.partition("e")
    exponent = int(exponent_text)
    sign = "-" if mantissa[0] == "-" else ""
    digits = mantissa.lstrip("-").replace(".", "").rstrip("0") or "0"
    if digits == "0":
        return sign + "0.0"
    if 0 <= exponent < 7:
        whole = digits[: exponent + 1].ljust(exponent + 1, "0")
        return f"{sign}{whole}.{digits[exponent + 1 :] or '0'}"
    if -3 <= exponent < 0:
        return f"{sign}0.{'0' * (-exponent - 1)}{digits}"
    return f"{sign}{digits[0]}.{digits[1:] or '0'}E{exponent}"


FLOAT: Final = FloatingType("float", "FloatType", 0x08, ">f", "float", 9)
DOUBLE: Final = FloatingType("double", "DoubleType", 0x07, ">d", "double", 17)
BOOLEAN: Final = BooleanType()
