"""Moments plus durations of months, days and nanoseconds.

Months are added on the calendar (the day is cut to the month's last), then days, then nanoseconds.

Source: Apache Cassandra 5, ``Duration.addTo``, ``TimestampType``, ``SimpleDateType``.
"""

from __future__ import annotations

import struct
from calendar import monthrange
from collections.abc import Callable, Mapping
from datetime import date

from ourodb.cql.analysis.functions.time import date_of_millis, millis_of_date

_LONG = struct.Struct(">q")
_DAY_MS = 86_400_000
_EPOCH = date(1970, 1, 1).toordinal()


def _add_months(days: int, months: int) -> int:
    """Days since 1970, ``months`` later.

    Raises:
        ValueError: before year 1 or after year 9999.
    """
    if not months:
        return days
    start = date.fromordinal(days + _EPOCH)
    month = start.year * 12 + start.month - 1 + months
    year, month = month // 12, month % 12 + 1
    return date(year, month, min(start.day, monthrange(year, month)[1])).toordinal() - _EPOCH


def _shift_millis(millis: int, months: int, days: int, nanos: int) -> int:
    day, within = divmod(millis, _DAY_MS)
    whole = abs(nanos) // 1_000_000
    return (_add_months(day, months) + days) * _DAY_MS + within + (whole if nanos >= 0 else -whole)


def _shift_timestamp(value: bytes, months: int, days: int, nanos: int) -> bytes:
    return _LONG.pack(_shift_millis(_LONG.unpack(value)[0], months, days, nanos))


def _shift_date(value: bytes, months: int, days: int, nanos: int) -> bytes:
    if nanos:
        raise ValueError("The duration must have a day precision. Was: a duration with hours or less")
    return date_of_millis(_shift_millis(millis_of_date(value), months, days, 0))


SHIFT: Mapping[str, Callable[[bytes, int, int, int], bytes]] = {
    "timestamp": _shift_timestamp,
    "date": _shift_date,
}
"""By the type's name: a (non-empty) value later by months, days and nanoseconds."""
