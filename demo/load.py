"""Loading: prepared statements, rows of the same partition in one batch, several requests in flight.

A batch within one partition is one mutation for the server, so it is the cheap way to write many rows of it. Each of
the few loading processes takes some months of flights, and tells through a queue how many rows it has written.
"""

from __future__ import annotations

import itertools
import multiprocessing
import queue
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from typing import Any, NamedTuple

import dataset
from cassandra import ConsistencyLevel
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, Session
from cassandra.concurrent import execute_concurrent
from cassandra.policies import RoundRobinPolicy, TokenAwarePolicy
from cassandra.query import BatchStatement, BatchType, PreparedStatement

PROCESSES = 2
ROWS_PER_BATCH = 40
BATCHES_IN_FLIGHT = 64
LONG_DELAY_MIN = 60
ROWS_OF_FLIGHTS = 692_000
"""About as many rows do the flights of all months make in their tables."""
MONTHS = 12


class Place(NamedTuple):
    """The type ``place`` of the schema."""

    latitude: float
    longitude: float
    altitude_ft: int
    zone: str


class Aircraft(NamedTuple):
    """The type ``aircraft`` of the schema."""

    manufacturer: str
    model: str
    built: int | None
    seats: int | None
    engines: int | None


Told = Callable[[int], None]
"""Called with the number of rows that were just written."""


def connect(addresses: Sequence[str], port: int, consistency: int = ConsistencyLevel.LOCAL_ONE) -> Cluster:
    """The driver's way in; everything here goes through it."""
    profile = ExecutionProfile(
        load_balancing_policy=TokenAwarePolicy(RoundRobinPolicy()),
        consistency_level=consistency,
        request_timeout=30,
    )
    # Of all versions the driver spends the least on the fourth, whose frames have no checksums.
    return Cluster(
        addresses,
        port=port,
        protocol_version=4,
        compression=False,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
    )


def insert_into(session: Session, table: str, columns: str) -> PreparedStatement:
    """A prepared INSERT of these columns."""
    markers = ", ".join("?" for _ in columns.split(", "))
    return session.prepare(f"INSERT INTO flights.{table} ({columns}) VALUES ({markers})")


def write(session: Session, requests: Iterable[tuple[Any, Any]]) -> None:
    """Send requests with some of them in flight; raises what goes wrong with any."""
    execute_concurrent(session, requests, concurrency=BATCHES_IN_FLIGHT, raise_on_first_error=True)


def in_batches(
    insert: PreparedStatement, partitions: Iterable[Sequence[Sequence[Any]]], told: Told
) -> Iterator[tuple[BatchStatement, None]]:
    """The rows of each partition, a few dozen in each batch."""
    for rows in partitions:
        for start in range(0, len(rows), ROWS_PER_BATCH):
            some = rows[start : start + ROWS_PER_BATCH]
            batch = BatchStatement(BatchType.UNLOGGED)
            for row in some:
                batch.add(insert, row)
            yield batch, None
            told(len(some))


# --- The small tables ---


def load_small_tables(session: Session, told: Told) -> None:
    """Airlines, airports, planes, and the weather."""
    airline = insert_into(session, "airlines", "carrier, name")
    write(session, ((airline, (row["carrier"], row["name"])) for row in dataset.table("airlines")))
    airport = insert_into(session, "airports", "code, name, place")
    write(session, ((airport, (row["faa"], row["name"], _place(row))) for row in dataset.table("airports")))
    plane = insert_into(session, "planes", "tail_number, aircraft, engine")
    write(
        session,
        ((plane, (row["tailnum"], _aircraft(row), row["engine"])) for row in dataset.table("planes")),
    )
    _load_weather(session, told)


def _load_weather(session: Session, told: Told) -> None:
    hour = insert_into(
        session,
        "weather",
        "origin, month, hour, temperature_f, wind_mph, gust_mph, rain_in, visibility_mi",
    )
    day = insert_into(session, "by_day", "origin, day, warmest_f, strongest_wind_mph, rain_in")
    rows = sorted(
        dataset.table("weather"), key=lambda row: (row["origin"], int(row["month"]), row["time_hour"])
    )
    months = itertools.groupby(rows, lambda row: (row["origin"], row["month"]))
    write(session, in_batches(hour, ([_hour(row) for row in group] for _, group in months), told))
    days: dict[tuple[str, date], list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        days[row["origin"], date(2013, int(row["month"]), int(row["day"]))].append(row)
    write(
        session,
        (
            (
                day,
                (
                    *key,
                    max(known(hours, "temp"), default=None),
                    max(known(hours, "wind_speed"), default=None),
                    round(sum(known(hours, "precip")), 2),
                ),
            )
            for key, hours in days.items()
        ),
    )


def known(rows: Iterable[dict[str, str]], column: str) -> list[float]:
    """The values that aren't NA."""
    return [value for row in rows if (value := dataset.number(row[column])) is not None]


def _hour(row: dict[str, str]) -> tuple[Any, ...]:
    measures = (dataset.number(row[name]) for name in ("temp", "wind_speed", "wind_gust", "precip", "visib"))
    return row["origin"], int(row["month"]), dataset.moment(row["time_hour"]), *measures


def _place(row: dict[str, str]) -> Place:
    return Place(float(row["lat"]), float(row["lon"]), int(row["alt"]), row["tzone"])


def _aircraft(row: dict[str, str]) -> Aircraft:
    numbers = (dataset.whole(row[name]) for name in ("year", "seats", "engines"))
    return Aircraft(row["manufacturer"].title(), row["model"], *numbers)


# --- The flights ---


def load_flights(addresses: Sequence[str], port: int, consistency: int, months: int, told: Told) -> None:
    """The flights of the first months into all their tables, by several processes.

    Raises:
        RuntimeError: one of them failed.
    """
    context = multiprocessing.get_context("spawn")
    news = context.Queue()
    shares = [tuple(range(1 + number, 1 + months, PROCESSES)) for number in range(PROCESSES)]
    processes = [
        context.Process(
            target=_load_months, args=(addresses, port, consistency, shares[number], news), daemon=True
        )
        for number in range(PROCESSES)
        if shares[number]
    ]
    for process in processes:
        process.start()
    left = len(processes)
    while left:
        try:
            message = news.get(timeout=1)
        except queue.Empty:
            if any(process.exitcode for process in processes):
                raise RuntimeError("a loading process died") from None
            continue
        if isinstance(message, str):
            raise RuntimeError(message)
        if message is None:
            left -= 1
        else:
            told(message)
    for process in processes:
        process.join()


def _load_months(
    addresses: Sequence[str], port: int, consistency: int, months: tuple[int, ...], news: Any
) -> None:
    """The life of a loading process."""
    try:
        cluster = connect(addresses, port, consistency)
        session = cluster.connect()
        cluster.register_user_type("flights", "aircraft", Aircraft)
        _load(session, list(dataset.flights(months)), news.put)
        cluster.shutdown()
        news.put(None)
    except KeyboardInterrupt:
        pass
    except Exception as error:  # whatever it is, the parent is to know
        news.put(f"loading failed: {error}")


def _load(session: Session, flights: list[dataset.Flight], told: Told) -> None:
    planes = {row["tailnum"]: _aircraft(row) for row in dataset.table("planes")}

    by_day = insert_into(
        session,
        "by_day",
        "origin, day, planned, carrier, number, destination, tail_number, departed, departure_delay,"
        " arrival_delay, cancelled",
    )
    days = grouped(
        (
            (f.origin, f.day),
            (
                f.origin, f.day, f.planned, f.carrier, f.number, f.destination, f.tail_number, f.departed,
                f.departure_delay, f.arrival_delay, f.departed is None,
            ),
        )
        for f in flights
    )  # fmt: skip
    write(session, in_batches(by_day, days, told))

    by_plane = insert_into(
        session,
        "by_plane",
        "tail_number, departure, carrier, number, origin, destination, distance_mi, minutes_in_air, aircraft",
    )
    lives = grouped(
        (
            f.tail_number,
            (
                f.tail_number, f.departure, f.carrier, f.number, f.origin, f.destination, f.distance_mi,
                f.minutes_in_air, planes.get(f.tail_number),
            ),
        )
        for f in flights
        if f.tail_number is not None and f.departed is not None
    )  # fmt: skip
    write(session, in_batches(by_plane, lives, told))

    long_delays = insert_into(
        session, "long_delays", "carrier, month, departure_delay, departure, number, origin, destination"
    )
    delays = grouped(
        (
            (f.carrier, f.day.month),
            (f.carrier, f.day.month, f.departure_delay, f.departure, f.number, f.origin, f.destination),
        )
        for f in flights
        if f.departure_delay is not None and f.departure_delay >= LONG_DELAY_MIN
    )
    write(session, in_batches(long_delays, delays, told))

    _count_routes(session, flights)


def grouped(keyed_rows: Iterable[tuple[Any, tuple[Any, ...]]]) -> Iterable[list[tuple[Any, ...]]]:
    """The rows by their partition."""
    partitions: dict[Any, list[tuple[Any, ...]]] = defaultdict(list)
    for key, row in keyed_rows:
        partitions[key].append(row)
    return partitions.values()


def _count_routes(session: Session, flights: list[dataset.Flight]) -> None:
    """Counters go up by what a month adds; sets and maps grow by what it saw."""
    count = session.prepare(
        "UPDATE flights.routes SET flights = flights + ?, cancelled = cancelled + ?,"
        " minutes_late = minutes_late + ? WHERE origin = ? AND destination = ? AND carrier = ?"
    )
    planned: Counter[tuple[str, str, str]] = Counter()
    cancelled: Counter[tuple[str, str, str]] = Counter()
    minutes_late: Counter[tuple[str, str, str]] = Counter()
    miles: dict[str, dict[str, int]] = defaultdict(dict)
    for flight in flights:
        route = flight.origin, flight.destination, flight.carrier
        planned[route] += 1
        cancelled[route] += flight.departed is None
        minutes_late[route] += max(flight.arrival_delay or 0, 0)
        miles[flight.origin][flight.destination] = flight.distance_mi
    write(
        session,
        ((count, (planned[route], cancelled[route], minutes_late[route], *route)) for route in planned),
    )

    seen_at = session.prepare(
        "UPDATE flights.airports SET carriers = carriers + ?, destinations = destinations + ? WHERE code = ?"
    )
    carriers_at = {origin: {carrier for at, _, carrier in planned if at == origin} for origin in miles}
    write(session, ((seen_at, (carriers_at[origin], miles[origin], origin)) for origin in miles))
    based = session.prepare("UPDATE flights.airlines SET bases = bases + ? WHERE carrier = ?")
    write(session, ((based, ({origin}, carrier)) for origin, _, carrier in planned))
