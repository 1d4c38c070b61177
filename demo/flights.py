"""OuroDB with real data: three nodes, a year of flights from New York City, a dozen questions about them; then a node
dies and comes back, the ring is cut in two, a fourth node joins, and one is gone for good.

    python demo/flights.py                        starts a ring of its own in ./ouro-demo, afresh each time
    python demo/flights.py --data DIR             in this folder, whose ring is used again if it has one
    python demo/flights.py --connect HOST:PORT    data and questions only, on any CQL server
    python demo/flights.py --months 1             loads January only

On a terminal the ring goes on afterwards, so that `cqlsh` and `ouro` can look around; else it is stopped.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import dataset
import death
import growth
import load
import partition
from cassandra import ConsistencyLevel
from cassandra.cluster import Cluster, NoHostAvailable, Session
from cassandra.util import Time
from console import console, heading
from questions import QUESTIONS, Question
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

import ring


class DemoError(Exception):
    """One line for whoever runs the demo."""


def main() -> int:
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if arguments.connect:
            host, _, port = arguments.connect.rpartition(":")
            flights([host], int(port), arguments.months)
        else:
            with ring.started(arguments.data) as demo_ring:
                flights(demo_ring.addresses, demo_ring.port, arguments.months, demo_ring)
                death.act(demo_ring)
                partition.act(demo_ring)
                growth.act(demo_ring)
                demo_ring.leave(stay=sys.stdin.isatty() and sys.stdout.isatty())
    except KeyboardInterrupt:
        console.print()
        return 130
    except NoHostAvailable as error:
        reason = "; ".join(f"{host}: {problem}" for host, problem in error.errors.items()) or str(error)
        console.print(f"demo: no server answered: {reason}", style="red", markup=False)
        return 1
    except Exception as error:  # whatever it is, the demo failed, and that is the reason
        console.print(f"demo: {error}", style="red", markup=False)
        return 1
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A year of flights in OuroDB.")
    parser.add_argument("--data", metavar="DIR", help="keep the ring in this folder")
    parser.add_argument("--connect", metavar="HOST:PORT", help="use a server that runs already")
    parser.add_argument(
        "--months", metavar="N", type=int, default=load.MONTHS, choices=range(1, load.MONTHS + 1),
        help="load the first months of the year only",
    )  # fmt: skip
    return parser.parse_args()


def flights(addresses: Sequence[str], port: int, months: int, demo_ring: ring.DemoRing | None = None) -> None:
    """Schema, data, the ring that holds them, questions."""
    heading("A year of flights")
    cluster = load.connect(addresses, port, ConsistencyLevel.QUORUM)
    try:
        session = cluster.connect()
        create_schema(cluster, session)
        load_everything(session, addresses, port, months)
        if demo_ring is not None:
            heading("The ring")
            demo_ring.draw("flights")
        heading("Questions")
        for number, question in enumerate(QUESTIONS, 1):
            ask(session, number, question, must_answer=months == load.MONTHS)
    finally:
        cluster.shutdown()


def create_schema(cluster: Cluster, session: Session) -> None:
    """Run schema.cql, afresh; with fewer copies where there are fewer nodes."""
    text = Path(__file__).with_name("schema.cql").read_text()
    copies = min(3, len(cluster.metadata.all_hosts()))
    text = text.replace("'replication_factor': 3", f"'replication_factor': {copies}")
    session.execute("DROP KEYSPACE IF EXISTS flights", timeout=60)
    for statement in re.sub(r"(?m)^--.*$", "", text).split(";"):
        if statement.strip():
            session.execute(statement)
    cluster.register_user_type("flights", "place", load.Place)
    cluster.register_user_type("flights", "aircraft", load.Aircraft)


def load_everything(session: Session, addresses: Sequence[str], port: int, months: int) -> None:
    """All tables, behind a progress bar."""
    started = time.perf_counter()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    ) as progress:
        weather = progress.add_task("Airlines, airports, planes, weather", total=None)
        load.load_small_tables(session, advance(progress, weather))
        progress.update(weather, total=progress.tasks[weather].completed)
        whole_year = months == load.MONTHS
        title = (
            f"{dataset.FLIGHT_COUNT:,} flights in three tables" if whole_year else "Flights in three tables"
        )
        flights = progress.add_task(title, total=load.ROWS_OF_FLIGHTS * months // load.MONTHS)
        consistency = ConsistencyLevel.QUORUM
        load.load_flights(addresses, port, consistency, months, advance(progress, flights))
        progress.update(flights, total=progress.tasks[flights].completed)
        rows = int(sum(task.completed for task in progress.tasks))
    seconds = time.perf_counter() - started
    console.print(
        f"{rows:,} rows written at QUORUM in {seconds:.1f} s, {rows / seconds:,.0f} a second. "
        "[dim]Nodes of this demo sync to disk every second (--durability periodic).[/]"
    )


def advance(progress: Progress, task: TaskID) -> Callable[[int], None]:
    return lambda rows: progress.advance(task, rows)


def ask(session: Session, number: int, question: Question, *, must_answer: bool = True) -> None:
    """Print a question, its CQL, its answer and how long that took."""
    statement = session.prepare(question.cql)
    started = time.perf_counter()
    answer = question.finish(session.execute(statement, question.values))
    milliseconds = (time.perf_counter() - started) * 1000
    if not answer and must_answer:
        raise DemoError(f"nothing was found for: {question.text}")
    console.print(f"\n[bold]{number}. {question.text}[/]")
    console.print(Padding(with_values(question), (0, 3)), style="cyan", markup=False)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in answer[0]._fields if answer else ("nothing",):
        table.add_column(name.strip("_").replace("_", " "))
    for row in answer:
        table.add_row(*map(shown, row))
    console.print(Padding(table, (0, 3)))
    console.print(f"   [dim]{milliseconds:.1f} ms[/]")


def with_values(question: Question) -> str:
    """The CQL as one would type it."""
    text = " ".join(question.cql.split())
    for value in question.values:
        text = text.replace("?", f"'{value}'", 1)
    return text


def shown(value: Any) -> str:
    """A value for people."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.2f}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, Time):
        return str(value)[:5]
    if hasattr(value, "_asdict"):
        return ", ".join(f"{name.replace('_', ' ')} {part}" for name, part in value._asdict().items())
    if hasattr(value, "__iter__") and not isinstance(value, str):
        return ", ".join(map(str, value))
    return str(value)


if __name__ == "__main__":
    sys.exit(main())
