"""Types whose values are integers of a fixed number of bytes: the integers themselves, counter, timestamp, date, time.

Their ordered form is the marker and the value, with the sign bit inverted where the order is signed. Tables of
marker and first byte make that two table look-ups and a concatenation.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Final

from ourodb.cql.types import civil
from ourodb.cql.types.base import MARSHAL, CqlType, Options, custom_option, not_a_value, quoted, short
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

_BYTES: Final = range(256)
_SIGN: Final = 0x80

# By first byte of the value: what the ordered form begins with. And back: by second byte of the ordered form.
_HEADS_SIGNED: Final = tuple(bytes((VALUE, byte ^ _SIGN)) for byte in _BYTES)
_HEADS_UNSIGNED: Final = tuple(bytes((VALUE, byte)) for byte in _BYTES)
_HEADS_SIGNED_DESC: Final = tuple(head.translate(COMPLEMENT) for head in _HEADS_SIGNED)
_HEADS_UNSIGNED_DESC: Final = tuple(head.translate(COMPLEMENT) for head in _HEADS_UNSIGNED)
_FIRSTS_SIGNED: Final = tuple(bytes((byte ^ _SIGN,)) for byte in _BYTES)
_FIRSTS_UNSIGNED: Final = tuple(bytes((byte,)) for byte in _BYTES)
_FIRSTS_SIGNED_DESC: Final = tuple(bytes((byte ^ 0x7F,)) for byte in _BYTES)
_FIRSTS_UNSIGNED_DESC: Final = tuple(bytes((byte ^ 0xFF,)) for byte in _BYTES)

_INTEGER: Final = re.compile(r"[+-]?[0-9]+", re.ASCII)
_NUMBER: Final = re.compile(r"-?[0-9]+", re.ASCII)
_DIGITS_MAX: Final = 40
"""More digits than this are out of any fixed range; ``int`` isn't asked to convert them."""


class FixedIntegerType(CqlType):
    """Objects: int.

    Attributes:
        least, greatest: range of the objects.
    """

    __slots__ = (
        "_firsts",
        "_firsts_desc",
        "_heads",
        "_heads_desc",
        "_length",
        "_signed",
        "_size",
        "greatest",
        "least",
    )

    wrong_length: ClassVar[str] = "Expected {length} or 0 byte int ({found})"

    def __init__(
        self,
        cql_name: str,
        marshal_class: str,
        code: int,
        length: int,
        *,
        signed: bool = True,
        since: int = 3,
        allows_empty: bool = True,
        is_counter: bool = False,
    ) -> None:
        """
        Args:
            code: id of the type in the native protocol.
            since: the version in which the protocol got that id; before, the class is named.
        """
        class_name = MARSHAL + marshal_class
        super().__init__(
            (cql_name,),
            cql_name=cql_name,
            class_name=class_name,
            options=native_options(class_name, code, since),
            fixed_length=length,
            allows_empty=allows_empty,
            is_counter=is_counter,
            valid_by_length=True,
        )
        self._length: int = length
        self._size: int = length + 1
        self._signed = signed
        self._heads: tuple[bytes, ...] = _HEADS_SIGNED if signed else _HEADS_UNSIGNED
        self._heads_desc: tuple[bytes, ...] = _HEADS_SIGNED_DESC if signed else _HEADS_UNSIGNED_DESC
        self._firsts: tuple[bytes, ...] = _FIRSTS_SIGNED if signed else _FIRSTS_UNSIGNED
        self._firsts_desc: tuple[bytes, ...] = _FIRSTS_SIGNED_DESC if signed else _FIRSTS_UNSIGNED_DESC
        self.least: int = -(1 << (8 * length - 1)) if signed else 0
        self.greatest: int = (1 << (8 * length - signed)) - 1

    def validate(self, value: bytes) -> None:
        if len(value) != self._length and (value or not self.allows_empty):
            raise InvalidRequest(self.wrong_length.format(length=self._length, found=len(value)))

    def encode(self, obj: Any) -> bytes:
        try:
            return int(obj.__index__()).to_bytes(self._length, "big", signed=self._signed)
        except (AttributeError, OverflowError):
            raise not_a_value(self, obj) from None

    def decode(self, value: bytes) -> int | None:
        return int.from_bytes(value, "big", signed=self._signed) if value else None

    def encode_ordered(self, value: bytes) -> bytes:
        if value:
            return self._heads[value[0]] + value[1:]
        return EMPTY_BYTES

    def decode_ordered(self, buf: bytes, offset: int) -> tuple[bytes, int]:
        marker = buf[offset]
        if marker == VALUE:
            end = offset + self._size
            if end > len(buf):
                raise cut_short(buf, offset)
            return self._firsts[buf[offset + 1]] + buf[offset + 2 : end], end
        if marker == EMPTY:
            return b"", offset + 1
        raise bad_marker(buf, offset)

    def encode_ordered_desc(self, value: bytes) -> bytes:
        if value:
            return self._heads_desc[value[0]] + value[1:].translate(COMPLEMENT)
        return EMPTY_DESC_BYTES

    def decode_ordered_desc(self, buf: bytes, offset: int) -> tuple[bytes, int]:
        marker = buf[offset]
        if marker == VALUE_DESC:
            end = offset + self._size
            if end > len(buf):
                raise cut_short(buf, offset)
            return self._firsts_desc[buf[offset + 1]] + buf[offset + 2 : end].translate(COMPLEMENT), end
        if marker == EMPTY_DESC:
            return b"", offset + 1
        raise bad_marker(buf, offset)

    def compare(self, left: bytes, right: bytes) -> int:
        if left == right:
            return 0
        if not left or not right:
            return 1 if left else -1
        signed = self._signed
        a = int.from_bytes(left, "big", signed=signed)
        return -1 if a < int.from_bytes(right, "big", signed=signed) else 1

    def literal(self, value: bytes) -> str:
        return str(int.from_bytes(value, "big", signed=self._signed)) if value else "null"

    def parse(self, text: str) -> bytes:
        if not text:
            return b""
        number = bounded_integer(_INTEGER, text)
        if number is None or not self.least <= number <= self.greatest:
            raise InvalidRequest(f"Unable to make {self._java_name} from '{text}'")
        return number.to_bytes(self._length, "big", signed=self._signed)

    @property
    def _java_name(self) -> str:
        return {1: "byte", 2: "short", 4: "int", 8: "long"}[self._length]


class TinyIntType(FixedIntegerType):
    __slots__ = ()
    wrong_length = "Expected 1 byte for a tinyint ({found})"


class SmallIntType(FixedIntegerType):
    __slots__ = ()
    wrong_length = "Expected 2 bytes for a smallint ({found})"


class BigIntType(FixedIntegerType):
    """bigint and counter."""

    __slots__ = ()
    wrong_length = "Expected 8 or 0 byte long ({found})"


class TimestampType(FixedIntegerType):
    """Objects: milliseconds since the Unix epoch."""

    __slots__ = ()
    wrong_length = "Expected 8 or 0 byte long for date ({found})"

    def parse(self, text: str) -> bytes:
        if not text:
            return b""
        if _NUMBER.fullmatch(text):
            number = bounded_integer(_NUMBER, text)
            if number is None or not self.least <= number <= self.greatest:
                raise InvalidRequest(f"Unable to make long (for date) from: '{text}'")
            return number.to_bytes(8, "big", signed=True)
        millis = civil.parse_timestamp(text)
        if millis is None or not self.least <= millis <= self.greatest:
            raise InvalidRequest(f"Unable to parse a date/time from '{text}'")
        return millis.to_bytes(8, "big", signed=True)

    def literal(self, value: bytes) -> str:
        return quoted(civil.timestamp_text(int.from_bytes(value, "big", signed=True))) if value else "null"


class DateType(FixedIntegerType):
    """Objects: days, unsigned, with the Unix epoch at 2**31."""

    __slots__ = ()
    wrong_length = "Expected 4 byte long for date ({found})"

    def parse(self, text: str) -> bytes:
        if _NUMBER.fullmatch(text):
            number = bounded_integer(_NUMBER, text)
            if number is None or not 0 <= number <= self.greatest:
                raise InvalidRequest(f"Unable to make unsigned int (for date) from: '{text}'")
            return number.to_bytes(4, "big")
        days = civil.parse_date(text)
        if days is None:
            raise InvalidRequest(f"Unable to coerce '{text}' to a formatted date (long)")
        number = days + civil.DATE_EPOCH
        if number < 0:
            least = civil.date_text(-civil.DATE_EPOCH)
            raise InvalidRequest(f"Input date {text} is less than min supported date {least}")
        if number > self.greatest:
            greatest = civil.date_text(self.greatest - civil.DATE_EPOCH)
            raise InvalidRequest(f"Input date {text} is greater than max supported date {greatest}")
        return number.to_bytes(4, "big")

    def literal(self, value: bytes) -> str:
        return quoted(civil.date_text(int.from_bytes(value, "big") - civil.DATE_EPOCH)) if value else "null"


class TimeType(FixedIntegerType):
    """Objects: nanoseconds since midnight."""

    __slots__ = ()
    wrong_length = "Expected 8 byte long for time ({found})"

    def encode(self, obj: Any) -> bytes:
        value = super().encode(obj)
        if obj >= civil.NANOS_PER_DAY:
            raise not_a_value(self, obj)
        return value

    def parse(self, text: str) -> bytes:
        if _NUMBER.fullmatch(text):
            number = bounded_integer(_NUMBER, text)
            if number is None or not 0 <= number < civil.NANOS_PER_DAY:
                raise InvalidRequest(f"Unable to make long (for time) from: '{text}'")
            return number.to_bytes(8, "big")
        nanos = civil.parse_time(text)
        if nanos is None:
            raise InvalidRequest(f"(TimeType) Unable to coerce '{text}' to a formatted time (long)")
        return nanos.to_bytes(8, "big")

    def literal(self, value: bytes) -> str:
        return quoted(civil.time_text(int.from_bytes(value, "big"))) if value else "null"


def bounded_integer(pattern: re.Pattern[str], text: str) -> int | None:
    """The number that ``text`` is under ``pattern``; None when it isn't one or is too long for any fixed type."""
    if pattern.fullmatch(text) is None:
        return None
    if len(text) > _DIGITS_MAX:
        sign = text[0] if text[0] in "+-" else ""
        text = sign + (text.removeprefix(sign).lstrip("0") or "0")
        if len(text) > _DIGITS_MAX:
            return None
    return int(text)


def native_options(class_name: str, code: int, since: int = 3) -> Options:
    """``[option]``s of a simple type that has an id from protocol version ``since`` on."""
    v3, v4, v5 = (short(code) if version >= since else custom_option(class_name) for version in (3, 4, 5))
    return v3, v4, v5


TINYINT: Final = TinyIntType("tinyint", "ByteType", 0x14, 1, since=4, allows_empty=False)
SMALLINT: Final = SmallIntType("smallint", "ShortType", 0x13, 2, since=4, allows_empty=False)
INT: Final = FixedIntegerType("int", "Int32Type", 0x09, 4)
BIGINT: Final = BigIntType("bigint", "LongType", 0x02, 8)
COUNTER: Final = BigIntType("counter", "CounterColumnType", 0x05, 8, is_counter=True)
TIMESTAMP: Final = TimestampType("timestamp", "TimestampType", 0x0B, 8)
DATE: Final = DateType("date", "SimpleDateType", 0x11, 4, signed=False, since=4, allows_empty=False)
TIME: Final = TimeType("time", "TimeType", 0x12, 8, signed=False, since=4, allows_empty=False)
