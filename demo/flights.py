"""OuroDB with real data: a year of flights from New York City, and a dozen questions about them.

    python demo/flights.py                        starts a node of its own, with a data folder that goes away afterwards
    python demo/flights.py --data DIR             keeps the data there
    python demo/flights.py --connect HOST:PORT    uses a server that runs already, Cassandra included

On a terminal the node goes on after the questions until Ctrl-C, so that `cqlsh` can look around.
"""

from __future__ import annotations

import argparse
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import dataset
import load
from cassandra.cluster import Cluster, NoHostAvailable, Session
from cassandra.util import Time
from questions import QUESTIONS, Question
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

READY = re.compile(r"CQL on (\S+):(\d+)")

console = Console(highlight=False)


class DemoError(Exception):
    """One line for whoever runs the demo."""


def main() -> int:
    arguments = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if arguments.connect:
            host, _, port = arguments.connect.rpartition(":")
            run(host, int(port), stay=False)
        else:
            with node(arguments.data) as (host, port):
                terminal = sys.stdin.isatty() and sys.stdout.isatty()
                run(host, port, stay=terminal)
                console.print(
                    "The node stops." if terminal else "This isn't a terminal, so the node stops now."
                )
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
    parser.add_argument("--data", metavar="DIR", help="keep the node's data in this folder")
    parser.add_argument("--connect", metavar="HOST:PORT", help="use a server that runs already")
    return parser.parse_args()


@contextmanager
def node(data: str | None) -> Iterator[tuple[str, int]]:
    """A node on free ports, for as long as the block runs; gives its address and CQL port."""
    with tempfile.TemporaryDirectory(prefix="ouro-demo-") as temporary:
        ouro = Path(sys.executable).with_name("ouro")
        ports = ("--cql-port", "0", "--peer-port", "0", "--admin-port", "0")
        started = time.perf_counter()
        process = subprocess.Popen(
            [ouro, "serve", "--data", data or temporary, *ports],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C is for the demo, which then stops the node
        )
        try:
            host, port = wait_until_ready(process)
            console.print(
                f"OuroDB listens on {host}:{port}, {time.perf_counter() - started:.2f} s after its start."
            )
            yield host, port
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_until_ready(process: subprocess.Popen[str]) -> tuple[str, int]:
    """The address in the node's one line. Raises DemoError with what it said instead."""
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line.strip())
        if found := READY.search(line):
            return found[1], int(found[2])
    raise DemoError(f"the node stopped: {' '.join(said) or 'without a word'}")


def run(host: str, port: int, stay: bool) -> None:
    """Schema, data, questions, and how to go on."""
    cluster = load.connect(host, port)
    try:
        session = cluster.connect()
        create_schema(cluster, session)
        load_everything(session, host, port)
        for number, question in enumerate(QUESTIONS, 1):
            ask(session, number, question)
    finally:
        cluster.shutdown()
    cqlsh = Path(sys.executable).with_name("cqlsh")
    command = cqlsh.relative_to(Path.cwd()) if cqlsh.is_relative_to(Path.cwd()) else cqlsh
    console.print(f"\nConnect with:  [bold]{command} {host} {port} -k flights[/]")
    if stay:
        console.print("The node runs until Ctrl-C.")
        with suppress(KeyboardInterrupt):
            while True:
                time.sleep(3600)


def create_schema(cluster: Cluster, session: Session) -> None:
    """Run schema.cql, afresh."""
    text = Path(__file__).with_name("schema.cql").read_text()
    session.execute("DROP KEYSPACE IF EXISTS flights", timeout=60)
    for statement in re.sub(r"(?m)^--.*$", "", text).split(";"):
        if statement.strip():
            session.execute(statement)
    cluster.register_user_type("flights", "place", load.Place)
    cluster.register_user_type("flights", "aircraft", load.Aircraft)


def load_everything(session: Session, host: str, port: int) -> None:
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
        title = f"{dataset.FLIGHT_COUNT:,} flights in three tables"
        flights = progress.add_task(title, total=load.ROWS_OF_FLIGHTS)
        load.load_flights(host, port, advance(progress, flights))
        progress.update(flights, total=progress.tasks[flights].completed)
        rows = int(sum(task.completed for task in progress.tasks))
    seconds = time.perf_counter() - started
    console.print(f"{rows:,} rows written in {seconds:.1f} s, {rows / seconds:,.0f} a second.")


def advance(progress: Progress, task: TaskID) -> Callable[[int], None]:
    return lambda rows: progress.advance(task, rows)


def ask(session: Session, number: int, question: Question) -> None:
    """Print a question, its CQL, its answer and how long that took."""
    statement = session.prepare(question.cql)
    started = time.perf_counter()
    answer = question.finish(session.execute(statement, question.values))
    milliseconds = (time.perf_counter() - started) * 1000
    if not answer:
        raise DemoError(f"nothing was found for: {question.text}")
    console.print(f"\n[bold]{number}. {question.text}[/]")
    console.print(Padding(with_values(question), (0, 3)), style="cyan", markup=False)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in answer[0]._fields:
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
