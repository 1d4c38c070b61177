"""Measures what OuroDB promises, and writes ``reports/accept.md`` and ``reports/accept.json``.

    make accept
    python benchmarks/accept.py --runs 5 --seconds 20 --cassandra 127.0.0.1:9042

All of it, load generator and servers, runs on two cores of this machine, so on a machine that does something else
meanwhile the figures are low; the report says how busy it was at the start. A figure is the median of several runs,
each of which measures everything once. The bare engine is rocksdict by itself, in one process, with its default
options: the keys and records are the very bytes that the node stores for the load generator's rows, written over rows
that exist and read back in random order, as the load does it.

Nothing here is a test: it fails only when it can't measure.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import timeit
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from rocksdict import Options as EngineOptions
from rocksdict import Rdict

from ourodb.bench.client import Client
from ourodb.bench.options import BenchError, Options
from ourodb.bench.responder import respond
from ourodb.bench.run import environment, run
from ourodb.bench.workload import INSERT, Workload, statements_of
from ourodb.cql.analysis.ddl import analyse_ddl
from ourodb.cql.analysis.modifications import analyse_modification
from ourodb.cql.analysis.terms import Context
from ourodb.cql.plan.modification import ModificationPlan
from ourodb.cql.syntax.parser import parse
from ourodb.cql.wire.primitives import Reader
from ourodb.net.loop import SystemClock, SystemRandom
from ourodb.schema.evolution import apply
from ourodb.schema.model import Schema
from ourodb.schema.system import initial_schema
from ourodb.storage.keys import TableKeys
from ourodb.testing import cluster
from ourodb.testing.ring import Ring

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS_MAX = 60
IDLE_SECONDS = 2
JOIN_SECONDS = 10
"""A join is over by then."""

MOVED_ROWS = 300_000
LOAD = Options(keys=100_000, row_bytes=128, connections=4, in_flight=64, warm_up_s=2.0, drop=True)

LITERALS = (
    "INSERT INTO bench.ten (a, b, c, d, e, f, g, h, i, j)"
    " VALUES (1, 'two', 3.0, true, 0x05, 6, 'seven', 8, 9.5, 123e4567-e89b-12d3-a456-426614174000)"
)
TEN = (
    "CREATE TABLE bench.ten (a int PRIMARY KEY, b text, c double, d boolean, e blob, f bigint, g text, h int,"
    " i double, j uuid)"
)


class Figure(NamedTuple):
    """What is measured.

    Attributes:
        least, most: the target, where there is one.
    """

    name: str
    unit: str
    least: float | None = None
    most: float | None = None


FIGURES = {
    "inserts": Figure("Prepared single-row inserts, `periodic`", "/s", least=40_000),
    "reads": Figure("Prepared single-row reads", "/s", least=40_000),
    "group_inserts": Figure("Prepared single-row inserts, `group`", "/s", least=20_000),
    "insert_ratio": Figure("Inserts to puts of the bare engine", "", least=1 / 5),
    "read_ratio": Figure("Reads to gets of the bare engine", "", least=1 / 8),
    "parse_us": Figure("Parsing an INSERT of ten literals", "us", most=100),
    "first_query_s": Figure("From the start of a node to its first answer", "s", most=1),
    "idle_mib": Figure("Memory of an idle node", "MiB", most=80),
    "ring_inserts": Figure("Three nodes, RF 3: QUORUM inserts, `periodic`", "/s", least=18_000),
    "ring_reads": Figure("Three nodes, RF 3: QUORUM reads", "/s", least=18_000),
    "ring_group_inserts": Figure("Three nodes, RF 3: QUORUM inserts, `group`", "/s", least=12_000),
    "ring_start_s": Figure("From the start of three nodes until they agree", "s", most=3),
    "moved_rows": Figure("Rows of 200 bytes that move between two nodes", "/s", least=60_000),
    "join_p99_ratio": Figure("p99 at half of capacity while a fourth node joins, to that before", "", most=5),
    "p99_before_join_ms": Figure("p99 at half of capacity, three nodes", "ms"),
    "p99_during_join_ms": Figure("p99 at half of capacity while a fourth node joins", "ms"),
    "ring_insert_us": Figure("Processor time of a QUORUM insert, on each node", "us"),
    "ring_read_us": Figure("Processor time of a QUORUM read, on each node", "us"),
    "ring_insert_p99_ms": Figure("p99 of those inserts at full speed", "ms"),
    "ring_read_p99_ms": Figure("p99 of those reads at full speed", "ms"),
    "ring_idle_mib": Figure("Memory of an idle node of three", "MiB"),
    "compile_us": Figure("Parsing and compiling that INSERT", "us"),
    "restart_s": Figure("From a start with the rows of a load to the first answer", "s"),
    "insert_p99_ms": Figure("p99 of those inserts at full speed", "ms"),
    "read_p99_ms": Figure("p99 of those reads at full speed", "ms"),
    "bare_puts": Figure("Puts of the bare engine", "/s"),
    "bare_gets": Figure("Gets of the bare engine", "/s"),
    "generator": Figure("The load generator alone, per CPU second", "/s"),
    "cassandra_inserts": Figure("Inserts, the other server", "/s"),
    "cassandra_reads": Figure("Reads, the other server", "/s"),
    "cassandra_insert_p99_ms": Figure("p99 of its inserts", "ms"),
    "cassandra_read_p99_ms": Figure("p99 of its reads", "ms"),
}


# --- Nodes ---


@contextmanager
def node(data: Path, durability: str) -> Iterator[tuple[int, int, float]]:
    """A node that answers: its CQL port, its process id, and the seconds from its start to its first answer."""
    started = time.perf_counter()
    ports = ("--cql-port", "0", "--peer-port", "0", "--admin-port", "0")
    process = subprocess.Popen(
        [Path(sys.executable).with_name("ouro"), "serve", "--data", data, "--durability", durability, *ports],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        ready = process.stdout.readline()
        if "CQL on " not in ready:
            raise BenchError(f"the node didn't start: {ready.strip() or 'see above'}")
        port = int(ready.partition("CQL on ")[2].partition(",")[0].rpartition(":")[2])
        client = Client(("127.0.0.1", port))
        client.query("SELECT release_version FROM system.local")
        elapsed = time.perf_counter() - started
        client.close()
        yield port, process.pid, elapsed
    finally:
        process.terminate()
        try:
            process.wait(START_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def resident_mib(pid: int) -> float:
    """Memory of a process that is in use and in RAM."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS:"))


# --- Load ---


def load(options: Options) -> tuple[float, float]:
    """Operations a second of one kind, and its p99 in milliseconds. Raises BenchError when any of them failed."""
    outcome = run(options, lambda phase, second: None)
    measured = outcome.measured
    if measured is None or outcome.failures or measured.errors or measured.missing:
        problems = outcome.failures or [
            f"{count} x {name}" for name, count in (measured.errors if measured else {}).items()
        ]
        raise BenchError(f"the load failed: {', '.join(problems) or 'rows are missing'}")
    (histogram,) = measured.latencies.values()
    return measured.throughput, histogram.corrected(histogram.percentile(50)).percentile(99) / 1e6


def measure_server(hosts: tuple[tuple[str, int], ...], seconds: float, prefix: str) -> dict[str, float]:
    """Inserts over rows that exist, then reads of them."""
    options = replace(LOAD, hosts=hosts, duration_s=seconds)
    inserts, insert_p99 = load(replace(options, reads=0.0))
    reads, read_p99 = load(replace(options, reads=1.0, drop=False, preload=False))
    return {
        f"{prefix}inserts": inserts,
        f"{prefix}reads": reads,
        f"{prefix}insert_p99_ms": insert_p99,
        f"{prefix}read_p99_ms": read_p99,
    }


def measure_nodes(folder: Path, seconds: float) -> dict[str, float]:
    """Everything about nodes."""
    with node(folder / "periodic", "periodic") as (port, pid, first_query_s):
        time.sleep(IDLE_SECONDS)
        idle_mib = resident_mib(pid)
        figures = measure_server((("127.0.0.1", port),), seconds, "")
    with node(folder / "periodic", "periodic") as (_, _, restart_s):
        pass
    with node(folder / "group", "group") as (port, _, _):
        options = replace(LOAD, hosts=(("127.0.0.1", port),), duration_s=seconds, reads=0.0)
        group_inserts, _ = load(options)
    return figures | {
        "first_query_s": first_query_s,
        "idle_mib": idle_mib,
        "restart_s": restart_s,
        "group_inserts": group_inserts,
    }


def processor_s(pids: Sequence[int]) -> float:
    """Processor time that these processes have used, in all."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def measure_ring(seconds: float) -> dict[str, float]:
    """Three nodes on this machine, every row on all of them, every request at QUORUM."""
    figures: dict[str, float] = {}
    for durability in ("periodic", "group"):
        started = time.perf_counter()
        with cluster(nodes=3, options=["--durability", durability]) as ring:
            start_s = time.perf_counter() - started
            pids = [node.pid for node in ring.nodes]
            options = ring_options(ring, 3, duration_s=seconds, consistency="QUORUM")
            if durability == "group":
                figures["ring_group_inserts"], _ = load(replace(options, reads=0.0))
                continue
            time.sleep(IDLE_SECONDS)
            figures["ring_start_s"] = start_s
            figures["ring_idle_mib"] = max(resident_mib(pid) for pid in pids)
            load(replace(options, reads=0.0, duration_s=1.0))
            # Neither preloading nor warming up, which would count as processor time but not as operations.
            options = replace(options, drop=False, preload=False, warm_up_s=0.0)
            for kind, reads in (("insert", 0.0), ("read", 1.0)):
                before = processor_s(pids)
                throughput, p99 = load(replace(options, reads=reads))
                used_s = processor_s(pids) - before
                figures[f"ring_{kind}s"] = throughput
                figures[f"ring_{kind}_p99_ms"] = p99
                figures[f"ring_{kind}_us"] = used_s / (throughput * seconds) / len(pids) * 1e6
    return figures


def measure_moves(seconds: float) -> dict[str, float]:
    """How fast rows move, and what a steady load notices of it."""
    figures: dict[str, float] = {}
    with cluster(nodes=2, options=["--durability", "periodic"]) as ring:
        load(ring_options(ring, 1, keys=MOVED_ROWS, row_bytes=200, duration_s=0.1, reads=1.0))
        client = Client((ring.contact_points[0], ring.port))
        client.query(f"ALTER KEYSPACE {LOAD.keyspace} WITH replication = {replication(2)}")
        while (move := ring.nodes[0].status("/moves")["move"]) is None:
            time.sleep(0.02)
        begun = time.perf_counter()
        while not all(one["is_over"] for one in move["copying"].values()):
            time.sleep(0.02)
            move = ring.nodes[0].status("/moves")["move"]
        figures["moved_rows"] = MOVED_ROWS / (time.perf_counter() - begun)
        client.close()
    with cluster(nodes=3, options=["--durability", "periodic"]) as ring:
        options = ring_options(ring, 3, consistency="QUORUM", duration_s=seconds, reads=0.0)
        capacity, _ = load(options)
        steady = replace(options, rate=capacity / 2, drop=False, preload=False)
        _, before = load(steady)
        joins = threading.Thread(target=ring.add)
        joins.start()
        _, during = load(replace(steady, duration_s=max(seconds, JOIN_SECONDS), warm_up_s=0.0))
        joins.join()
    return figures | {
        "p99_before_join_ms": before,
        "p99_during_join_ms": during,
        "join_p99_ratio": during / before,
    }


def ring_options(ring: Ring, copies: int, **changed: Any) -> Options:
    """A load on all nodes of a ring."""
    hosts = tuple((host, ring.port) for host in ring.contact_points)
    return replace(LOAD, hosts=hosts, replication=replication(copies), **changed)


def replication(copies: int) -> str:
    return f"{{'class': 'SimpleStrategy', 'replication_factor': {copies}}}"


def measure_generator(seconds: float) -> dict[str, float]:
    """Operations for each second of processor time, against a server that only answers."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=respond, args=(LOAD.row_bytes, theirs), daemon=True)
    server.start()
    try:
        options = replace(
            LOAD, hosts=(("127.0.0.1", ours.recv()),), duration_s=seconds, preload=False, warm_up_s=0.5
        )
        measured = run(options, lambda phase, second: None).measured
    finally:
        server.terminate()
        server.join()
    assert measured is not None
    return {"generator": measured.operations / measured.cpu_s}


# --- The engine alone, and the language alone ---


def schema_of(*definitions: str) -> Schema:
    """The schema that these statements make."""
    schema = initial_schema()
    for definition in definitions:
        checked = analyse_ddl(parse(definition), schema, None, {"dc1": 1}, SystemClock(), SystemRandom())
        assert checked.change is not None
        schema, _ = apply(schema, checked.change)
    return schema


def compile_modification(text: str, schema: Schema) -> ModificationPlan:
    """From text to what is executed."""
    statement = parse(text)
    context = Context(schema, None, statement.markers)
    modification = analyse_modification(statement, context)
    return ModificationPlan(modification, TableKeys(modification.table), context)


def stored_rows(count: int) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
    """The engine's keys and values for every row of the load, and ``count`` keys as the load draws them."""
    statements = statements_of(LOAD)
    schema = schema_of(statements.keyspace, statements.table)
    plan = compile_modification(statements.by_kind[INSERT], schema)
    assert plan.fast is not None
    workload = Workload(replace(LOAD, reads=1.0), 0)
    now_us = time.time_ns() // 1000

    def stored(key: int) -> tuple[bytes, bytes]:
        reader = Reader(workload.insert(key)[2])
        values = []
        while reader.remaining():
            values.append(reader.nullable_bytes())
        mutation = plan.fast(values, now_us, now_us // 1_000_000)
        ((suffix, record),) = mutation.writes
        return plan.keys.prefix(mutation.position) + suffix, record

    rows = [stored(key) for key in range(LOAD.keys)]
    return rows, [rows[key][0] for _, key, _ in workload.draw(count)]


def measure_engine(folder: Path, rows: list[tuple[bytes, bytes]], drawn: list[bytes]) -> dict[str, float]:
    """Puts and gets a second, in random order, of rows that exist."""
    engine = Rdict(str(folder), EngineOptions(raw_mode=True))
    for key, record in rows:
        engine[key] = record
    record = rows[0][1]
    put, get = engine.put, engine.get

    started = time.perf_counter()
    for key in drawn:
        put(key, record)
    puts = len(drawn) / (time.perf_counter() - started)

    started = time.perf_counter()
    for key in drawn:
        get(key)
    gets = len(drawn) / (time.perf_counter() - started)
    engine.close()
    return {"bare_puts": puts, "bare_gets": gets}


def measure_language() -> dict[str, float]:
    """Microseconds for a statement that nobody has seen before."""
    schema = schema_of(
        "CREATE KEYSPACE bench WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}", TEN
    )

    def microseconds(what: Callable[[], object]) -> float:
        return min(timeit.repeat(what, number=1000, repeat=5)) / 1000 * 1e6

    return {
        "parse_us": microseconds(lambda: parse(LITERALS)),
        "compile_us": microseconds(lambda: compile_modification(LITERALS, schema)),
    }


# --- The report ---


def measure(arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Every figure of every run."""
    rows, drawn = stored_rows(500_000)
    gathered: dict[str, list[float]] = {}
    for number in range(1, arguments.runs + 1):
        print(f"run {number} of {arguments.runs}", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="ouro-accept-") as temporary:
            folder = Path(temporary)
            figures = measure_nodes(folder, arguments.seconds)
            if not arguments.no_ring:
                figures |= measure_ring(arguments.seconds)
                figures |= measure_moves(arguments.seconds)
            figures |= measure_engine(folder / "bare", rows, drawn)
            figures |= measure_language()
            figures |= measure_generator(min(arguments.seconds, 5))
        figures["insert_ratio"] = figures["inserts"] / figures["bare_puts"]
        figures["read_ratio"] = figures["reads"] / figures["bare_gets"]
        if arguments.cassandra:
            host, _, port = arguments.cassandra.rpartition(":")
            figures |= measure_server(((host, int(port)),), arguments.seconds, "cassandra_")
        for name, value in figures.items():
            gathered.setdefault(name, []).append(value)
    return gathered


def verdict(figure: Figure, value: float) -> str:
    """Whether the target is met, or by how much it isn't."""
    if figure.least is not None:
        return "PASS" if value >= figure.least else f"short by {1 - value / figure.least:.0%}"
    if figure.most is not None:
        return "PASS" if value <= figure.most else f"over by {value / figure.most - 1:.0%}"
    return ""


def shown(value: float, unit: str) -> str:
    digits = 0 if value >= 1000 else 1 if value >= 10 else 3
    return f"{value:,.{digits}f}" + (unit if unit.startswith("/") else f" {unit}" if unit else "")


def report(gathered: dict[str, list[float]], facts: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The report, as text and as JSON."""
    machine = (
        f"{facts['cpu']}, {facts['cores_used']} of {facts['cores']} cores, {facts['memory_mib']:,} MiB;"
        f" {facts['system']}; Python {facts['python']}. Load average at the start: {facts['load_average']:.2f}."
    )
    lines = [
        "# Acceptance",
        "",
        machine,
        f"Medians of {facts['runs']} runs of {facts['seconds']:g} s; in brackets the least and the greatest.",
        "",
        "| figure | measured | | target | |",
        "| --- | ---: | --- | ---: | --- |",
    ]
    figures: dict[str, Any] = {}
    for key, figure in FIGURES.items():
        if key not in gathered:
            continue
        values = gathered[key]
        median = statistics.median(values)
        target = ""
        if figure.least is not None:
            target = "at least " + shown(figure.least, figure.unit)
        elif figure.most is not None:
            target = "at most " + shown(figure.most, figure.unit)
        spread = f"({shown(min(values), '')} to {shown(max(values), '')})"
        met = verdict(figure, median)
        lines.append(f"| {figure.name} | {shown(median, figure.unit)} | {spread} | {target} | {met} |")
        figures[key] = {"name": figure.name, "unit": figure.unit, "median": median, "runs": values}
        if met:
            figures[key] |= {"least": figure.least, "most": figure.most, "met": met == "PASS", "verdict": met}
    return "\n".join(lines) + "\n", {"format": 1, "environment": facts, "figures": figures}


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure what OuroDB promises.")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="length of each load")
    parser.add_argument("--no-ring", action="store_true", help="leave out what three nodes do")
    parser.add_argument("--cassandra", metavar="HOST:PORT", help="measure this server too, for comparison")
    parser.add_argument("--reports", type=Path, default=ROOT / "reports", help="where the report goes")
    arguments = parser.parse_args()

    two = sorted(os.sched_getaffinity(0))[:2]
    os.sched_setaffinity(0, two)
    facts = environment() | {
        "cores_used": len(two),
        "load_average": os.getloadavg()[0],
        "runs": arguments.runs,
        "seconds": arguments.seconds,
    }
    try:
        gathered = measure(arguments)
    except BenchError as error:
        print(f"accept: {error}", file=sys.stderr)
        return 1
    text, as_json = report(gathered, facts)
    arguments.reports.mkdir(parents=True, exist_ok=True)
    (arguments.reports / "accept.md").write_text(text)
    (arguments.reports / "accept.json").write_text(json.dumps(as_json, indent=1) + "\n")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
