"""duration: months, days and nanoseconds, kept apart, because neither months nor days have a fixed length.

So durations have no order, and CQL doesn't let them be keys. Where bytes must be told apart (in a frozen list that
is compared for equality) their bytes are compared.

Source: Cassandra's ``Duration`` and ``DurationSerializer``; native_protocol_v5.spec, 6.x ``duration``.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from ourodb.cql.types.base import MARSHAL, not_a_value
from ourodb.cql.types.fixed import native_options
from ourodb.cql.types.text import BytesOrderedType
from ourodb.cql.types.vint import decode_vint, encode_vint
from ourodb.errors import InvalidRequest

_INT_MAX: Final = 2**31 - 1
_LONG_MAX: Final = 2**63 - 1

_MONTHS, _DAYS, _NANOS = range(3)
_TOTALS: Final = ("months", "days", "nanoseconds")
_GREATEST: Final = (_INT_MAX, _INT_MAX, _LONG_MAX)


class _Unit(NamedTuple):
    symbol: str
    name: str
    total: int
    size: int


# In the order in which they may be written.
_UNITS: Final = (
    _Unit("y", "years", _MONTHS, 12),
    _Unit("mo", "months", _MONTHS, 1),
    _Unit("w", "weeks", _DAYS, 7),
    _Unit("d", "days", _DAYS, 1),
    _Unit("h", "hours", _NANOS, 3_600_000_000_000),
    _Unit("m", "minutes", _NANOS, 60_000_000_000),
    _Unit("s", "seconds", _NANOS, 1_000_000_000),
    _Unit("ms", "milliseconds", _NANOS, 1_000_000),
    _Unit("us", "microseconds", _NANOS, 1_000),
    _Unit("ns", "nanoseconds", _NANOS, 1),
)
_UNIT_INDEX: Final = {unit.symbol: index for index, unit in enumerate(_UNITS)} | {"µs": 8}

_PART: Final = re.compile(r"([0-9]+)(mo|ms|us|µs|ns|y|w|d|h|m|s)", re.ASCII | re.IGNORECASE)
_ISO: Final = re.compile(
    r"P(?:([0-9]+)Y)?(?:([0-9]+)M)?(?:([0-9]+)D)?(?:T(?:([0-9]+)H)?(?:([0-9]+)M)?(?:([0-9]+)S)?)?", re.ASCII
)
_ISO_WEEK: Final = re.compile(r"P([0-9]+)W", re.ASCII)
_ISO_ALTERNATIVE: Final = re.compile(
    r"P([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})", re.ASCII
)
_ISO_SYMBOLS: Final = ("y", "mo", "d", "h", "m", "s")
_DIGITS_MAX: Final = 19
"""Of a 64-bit number."""


class Duration(NamedTuple):
    """All three have the same sign, or are 0."""

    months: int
    days: int
    nanoseconds: int


class DurationType(BytesOrderedType):
    """Objects: Duration, or any such triple in."""

    __slots__ = ()

    def __init__(self) -> None:
        class_name = MARSHAL + "DurationType"
        super().__init__(
            (),
            cql_name="duration",
            class_name=class_name,
            options=native_options(class_name, 0x15, since=5),
            allows_empty=False,
            is_duration=True,
        )

    def validate(self, value: bytes) -> None:
        if len(value) < 3:
            raise InvalidRequest(f"Expected at least 3 bytes for a duration ({len(value)})")
        try:
            months, offset = decode_vint(value, 0)
            days, offset = decode_vint(value, offset)
            nanoseconds, offset = decode_vint(value, offset)
        except ValueError:
            raise InvalidRequest("Not enough bytes to read a duration") from None
        if offset != len(value):
            raise InvalidRequest("Unexpected extraneous bytes after duration value")
        if not -_INT_MAX - 1 <= months <= _INT_MAX:
            raise InvalidRequest(f"The duration months must be a 32 bits integer but was: {months}")
        if not -_INT_MAX - 1 <= days <= _INT_MAX:
            raise InvalidRequest(f"The duration days must be a 32 bits integer but was: {days}")
        if not _same_sign(months, days, nanoseconds):
            raise InvalidRequest(
                "The duration months, days and nanoseconds must be all of the same sign "
                f"({months}, {days}, {nanoseconds})"
            )

    def encode(self, obj: Any) -> bytes:
        try:
            months, days, nanoseconds = obj
            fits = (
                -_INT_MAX - 1 <= months <= _INT_MAX
                and -_INT_MAX - 1 <= days <= _INT_MAX
                and -_LONG_MAX - 1 <= nanoseconds <= _LONG_MAX
                and _same_sign(months, days, nanoseconds)
            )
        except (TypeError, ValueError):
            fits = False
        if not fits:
            raise not_a_value(self, obj)
        return encode_vint(months) + encode_vint(days) + encode_vint(nanoseconds)

    def decode(self, value: bytes) -> Duration | None:
        if not value:
            return None
        months, offset = decode_vint(value, 0)
        days, offset = decode_vint(value, offset)
        return Duration(months, days, decode_vint(value, offset)[0])

    def parse(self, text: str) -> bytes:
        return self.encode(parse_duration(text))

    def literal(self, value: bytes) -> str:
        duration = self.decode(value)
        return "null" if duration is None else duration_text(duration)


def parse_duration(text: str) -> Duration:
    """A duration in one of three notations: 1y2mo3d4h, ISO 8601 (P1Y2M3DT4H5M6S, P7W), its alternative
    (P0001-02-03T04:05:06); a - before it negates all.

    Raises:
        InvalidRequest: with Cassandra's text.
    """
    source = text.removeprefix("-")
    totals = [0, 0, 0]
    previous = -1
    for digits, symbol in _parts(source):
        index = _UNIT_INDEX[symbol.lower()]
        unit = _UNITS[index]
        if index == previous:
            raise InvalidRequest(f"Invalid duration. The {unit.name} are specified multiple times")
        if index < previous:
            raise InvalidRequest(f"Invalid duration. The {_UNITS[previous].name} should be after {unit.name}")
        previous = index
        digits = digits.lstrip("0") or "0"
        room = (_GREATEST[unit.total] - totals[unit.total]) // unit.size
        if len(digits) > _DIGITS_MAX or int(digits) > room:
            # Cassandra names this limit for nanoseconds too.
            raise InvalidRequest(
                f"Invalid duration. The total number of {_TOTALS[unit.total]} must be less or equal to {_INT_MAX}"
            )
        totals[unit.total] += int(digits) * unit.size
    sign = -1 if source != text else 1
    return Duration(*(sign * total for total in totals))


def duration_text(duration: Duration) -> str:
    """As Cassandra prints it: -1y2mo3d4h5m6s7ms8us9ns, without what is 0; nothing at all for no time."""
    remainders = [abs(total) for total in duration]
    text = "-" if min(duration) < 0 else ""
    for unit in _UNITS:
        if unit.symbol == "w":
            continue
        count, remainders[unit.total] = divmod(remainders[unit.total], unit.size)
        if count:
            text += f"{count}{unit.symbol}"
    return text


def _parts(source: str) -> list[tuple[str, str]]:
    """Numbers and their units, in the order written."""
    if source.startswith("P"):
        if source.endswith("W"):
            week = _ISO_WEEK.fullmatch(source)
            if week is not None:
                return [(week[1], "w")]
        else:
            match = (_ISO_ALTERNATIVE if "-" in source else _ISO).fullmatch(source)
            if match is not None:
                return [
                    (n, symbol)
                    for n, symbol in zip(match.groups(), _ISO_SYMBOLS, strict=True)
                    if n is not None
                ]
    else:
        parts = []
        offset = 0
        while offset < len(source) and (part := _PART.match(source, offset)) is not None:
            parts.append((part[1], part[2]))
            offset = part.end()
        if parts and offset == len(source):
            return parts
    raise InvalidRequest(f"Unable to convert '{source}' to a duration")


def _same_sign(months: int, days: int, nanoseconds: int) -> bool:
    return (months >= 0 and days >= 0 and nanoseconds >= 0) or (
        months <= 0 and days <= 0 and nanoseconds <= 0
    )


DURATION: Final = DurationType()
