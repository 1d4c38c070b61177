"""The questions, each as CQL that its table was made for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date
from typing import Any, NamedTuple

Row = Any


class Question(NamedTuple):
    """A question and its CQL.

    Attributes:
        values: for the markers of the CQL, which is prepared.
        finish: what the client does with the rows before it shows them, where CQL's answer isn't yet the answer.
    """

    text: str
    cql: str
    values: tuple[Any, ...] = ()
    finish: Callable[[Iterable[Row]], list[Row]] = list


QUESTIONS = (
    Question(
        "Which planes were to leave JFK first on Independence Day?",
        """SELECT planned, departed, carrier, number, destination FROM flights.by_day
            WHERE origin = ? AND day = ? LIMIT 5""",
        ("JFK", date(2013, 7, 4)),
    ),
    Question(
        "A blizzard came on 8 February: what was to leave LaGuardia between five and six, and did it?",
        """SELECT planned, carrier, number, destination, departed, cancelled FROM flights.by_day
            WHERE origin = 'LGA' AND day = '2013-02-08' AND planned >= '17:00:00' AND planned < '18:00:00' LIMIT 6""",
    ),
    Question(
        "How many flights left Newark on the day before Thanksgiving, and how late were they?",
        """SELECT count(departed) AS left, avg(departure_delay) AS average_delay, max(departure_delay) AS worst
             FROM flights.by_day WHERE origin = 'EWR' AND day = '2013-11-27'""",
    ),
    Question(
        "How many flights were cancelled at JFK on 9 February, after the blizzard?",
        """SELECT count(*) AS cancelled FROM flights.by_day
            WHERE origin = 'JFK' AND day = '2013-02-09' AND cancelled = true ALLOW FILTERING""",
    ),
    Question(
        "Which days were the wettest? (reads the static row of all 1,095 partitions, in pages)",
        "SELECT DISTINCT origin, day, rain_in, strongest_wind_mph, warmest_f FROM flights.by_day",
        finish=lambda rows: sorted(rows, key=lambda row: -(row.rain_in or 0))[:5],
    ),
    Question(
        "Where was the plane N14228 on its last trips of the year?",
        "SELECT departure, carrier, number, origin, destination FROM flights.by_plane WHERE tail_number = ? LIMIT 5",
        ("N14228",),
    ),
    Question(
        "What kind of plane is that?",
        "SELECT DISTINCT tail_number, aircraft FROM flights.by_plane WHERE tail_number = ?",
        ("N14228",),
    ),
    Question(
        "How far did it fly in 2013, and for how long?",
        """SELECT count(*) AS flights, sum(distance_mi) AS miles, sum(minutes_in_air) AS minutes
             FROM flights.by_plane WHERE tail_number = ?""",
        ("N14228",),
    ),
    Question(
        "What were the worst delays of Hawaiian Airlines in January?",
        """SELECT departure_delay, departure, number, origin, destination FROM flights.long_delays
            WHERE carrier = 'HA' AND month = 1 LIMIT 3""",
    ),
    Question(
        "How many flights of United in July left more than two hours late?",
        """SELECT count(*) AS very_late FROM flights.long_delays
            WHERE carrier = 'UA' AND month = 7 AND departure_delay > 120""",
    ),
    Question(
        "Who flies from JFK to Los Angeles, and how reliably? (counters)",
        """SELECT carrier, flights, cancelled, minutes_late FROM flights.routes
            WHERE origin = 'JFK' AND destination = 'LAX'""",
    ),
    Question(
        "Who are they? (several keys at once)",
        "SELECT carrier, name, bases FROM flights.airlines WHERE carrier IN ('AA', 'B6', 'DL', 'UA', 'VX')",
    ),
    Question(
        "Who serves LaGuardia, and where does it lie? (a set and a user-defined type)",
        "SELECT name, place, carriers FROM flights.airports WHERE code = 'LGA'",
    ),
    Question(
        "How did the storm of 31 January pass over Newark, hour by hour? (times in UTC)",
        """SELECT hour, wind_mph, gust_mph, rain_in, visibility_mi FROM flights.weather
            WHERE origin = 'EWR' AND month = 1 AND hour >= '2013-01-31 04:00:00Z' AND hour < '2013-01-31 10:00:00Z'""",
    ),
    Question(
        "Can somebody else have the code UA? (a conditional write)",
        "INSERT INTO flights.airlines (carrier, name) VALUES ('UA', 'Ouroboros Air') IF NOT EXISTS",
    ),
)
