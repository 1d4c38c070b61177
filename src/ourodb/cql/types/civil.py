"""Calendar text: what CQL accepts for timestamps, dates and times, and how it prints them.

All in the proleptic Gregorian calendar and UTC; a timestamp without a zone is in UTC too (Cassandra takes the time
zone of the server there). Of named zones only those that mean UTC are known: what a name stands for depends on a
database that two nodes may have in different versions.

Source: Cassandra's ``TimestampSerializer``, ``SimpleDateSerializer`` and ``TimeSerializer``; days to dates and back
after Howard Hinnant, "chrono-compatible low-level date algorithms".
"""

from __future__ import annotations

import re
from typing import Final

DATE_EPOCH: Final = 1 << 31
"""The wire value of the Unix epoch's day."""

MILLIS_PER_DAY: Final = 86_400_000
NANOS_PER_DAY: Final = 86_400_000_000_000

_DAYS_PER_ERA: Final = 146_097
_EPOCH_FROM_MARCH_0: Final = 719_468

_ZONE: Final = (
    r"(?P<zone>\ ?(?:Z|UTC|GMT|UT|Coordinated\ Universal\ Time|Greenwich\ Mean\ Time)"
    r"|\ ?[+-]\d\d(?::?\d\d)?)?"
)
_TIMESTAMP: Final = re.compile(
    r"(?P<year>-?\d{1,10})-(?P<month>\d\d?)-(?P<day>\d\d?)"
    r"[T\ ](?P<hour>\d\d?):(?P<minute>\d\d?)(?::(?P<second>\d\d?))?(?:\.(?P<fraction>\d{0,9}))?" + _ZONE,
    re.ASCII | re.IGNORECASE,
)
_DAY: Final = re.compile(r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)" + _ZONE, re.ASCII | re.IGNORECASE)
_DATE: Final = re.compile(r"(\d{4}|[+-]\d{4,10})-(\d\d)-(\d\d)", re.ASCII)
_TIME: Final = re.compile(r"\+?(\d{1,10}):\+?(\d{1,10}):\+?(\d{1,10})(?:\.(\d{1,9}))?", re.ASCII)


def days_from_civil(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01; ``day`` isn't checked."""
    year -= month <= 2
    era, year_of_era = divmod(year, 400)
    day_of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    return era * _DAYS_PER_ERA + day_of_era - _EPOCH_FROM_MARCH_0


def civil_from_days(days: int) -> tuple[int, int, int]:
    """Year, month and day of a number of days since 1970-01-01."""
    era, day_of_era = divmod(days + _EPOCH_FROM_MARCH_0, _DAYS_PER_ERA)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    months = (5 * day_of_year + 2) // 153
    month = months + 3 if months < 10 else months - 9
    return era * 400 + year_of_era + (month <= 2), month, day_of_year - (153 * months + 2) // 5 + 1


def parse_timestamp(text: str) -> int | None:
    """Milliseconds since the epoch of ``yyyy-mm-dd[(T| )HH:MM[:SS[.fffffffff]]][zone]``, None for other text.

    Months, days, hours, minutes and seconds may have one digit where a time follows. As in Cassandra a day past the
    end of its month is the last of the month, and 24:00 is the end of the day.
    """
    match = _TIMESTAMP.fullmatch(text) or _DAY.fullmatch(text)
    if match is None:
        return None
    fields = match.groupdict()
    month, day = int(fields["month"]), int(fields["day"])
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return None
    year = int(fields["year"])
    hour, minute = int(fields.get("hour") or 0), int(fields.get("minute") or 0)
    second = int(fields.get("second") or 0)
    millis = int((fields.get("fraction") or "")[:3].ljust(3, "0"))
    end_of_day = hour == 24 and not (minute or second or millis)
    if minute > 59 or second > 59 or (hour > 23 and not end_of_day):
        return None
    offset_minutes = _zone_minutes(match["zone"])
    if offset_minutes is None:
        return None
    days = days_from_civil(year, month, min(day, _month_length(year, month)))
    return ((days * 24 + hour) * 60 + minute - offset_minutes) * 60_000 + second * 1000 + millis


def parse_date(text: str) -> int | None:
    """Days since the epoch of ``yyyy-mm-dd``, with a sign for years outside 0000-9999; None for other text."""
    match = _DATE.fullmatch(text)
    if match is None:
        return None
    year, month, day = int(match[1]), int(match[2]), int(match[3])
    if not (1 <= month <= 12 and 1 <= day <= _month_length(year, month)):
        return None
    return days_from_civil(year, month, day)


def parse_time(text: str) -> int | None:
    """Nanoseconds since midnight of ``hh:mm:ss[.fffffffff]``, None for other text."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        return None
    hour, minute, second = int(match[1]), int(match[2]), int(match[3])
    if hour > 23 or minute > 59 or second > 59:
        return None
    return ((hour * 60 + minute) * 60 + second) * 1_000_000_000 + int((match[4] or "").ljust(9, "0"))


def timestamp_text(millis: int) -> str:
    """``2011-02-03T04:05:06.789Z``."""
    days, millis = divmod(millis, MILLIS_PER_DAY)
    seconds, millis = divmod(millis, 1000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return f"{date_text(days)}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z"


def date_text(days: int) -> str:
    """``2011-02-03`` of days since the epoch; years outside 0000-9999 have a sign, as in ISO 8601."""
    year, month, day = civil_from_days(days)
    if 0 <= year <= 9999:
        return f"{year:04}-{month:02}-{day:02}"
    return f"{year:+05}-{month:02}-{day:02}"


def time_text(nanos: int) -> str:
    """``04:05:06.789000000``."""
    seconds, nanos = divmod(nanos, 1_000_000_000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:02}:{minute:02}:{second:02}.{nanos:09}"


def _month_length(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


def _zone_minutes(zone: str | None) -> int | None:
    """Minutes east of UTC; None when it's out of range."""
    if not zone or zone.lstrip()[0] not in "+-":
        return 0
    digits = zone.strip().replace(":", "")
    hours, minutes = int(digits[1:3]), int(digits[3:5] or 0)
    if hours > 18 or minutes > 59 or (hours == 18 and minutes):
        return None
    return (hours * 60 + minutes) * (-1 if digits[0] == "-" else 1)
