"""Measures what ``make accept`` promises, and writes ``reports/accept.md`` and ``reports/accept.json``.

Everything runs on this machine, the load generator included, so on a busy machine the figures are low. Each figure is
the median of ``RUNS`` runs; the bare engine is measured in the same run, with the same rows as the node stores.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import timeit
from pathlib import Path
from typing import Any

from cassandra.cluster import Cluster
from rocksdict import Options, Rdict

from ourodb.cql.syntax.parser import parse
from ourodb.storage.record import UniformShape

RUNS = 3
SECONDS = 8
ROWS = 100_000
ROW_BYTES = 128
OURO = str(Path(sys.executable).with_name("ouro"))
INSERT = "INSERT INTO k.t (a, b, c, d, e, f, g, h, i, j) VALUES (1, 'two', 3.0, true, 0x05, 6, 'seven', 8, 9.5, 'ten')"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Node:
    """A node of the acceptance run."""

    def __init__(self, data: str, durability: str) -> None:
        self.port = free_port()
        started = time.perf_counter()
        command = [
            OURO,
            "serve",
            "--data",
            data,
            "--cql-port",
            str(self.port),
            "--admin-port",
            str(free_port()),
        ]
        self.process = subprocess.Popen(
            [*command, "--durability", durability], stdout=subprocess.PIPE, text=True
        )
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                break
            except OSError:
                time.sleep(0.005)
        with Cluster(["127.0.0.1"], port=self.port) as cluster:
            cluster.connect().execute("SELECT release_version FROM system.local").one()
        self.first_query_s = time.perf_counter() - started

    def memory_mib(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
        return int(line.split()[1]) / 1024

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)


def throughput(port: int, reads: int) -> float:
    """Operations a second of one run of the load generator."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [OURO, "bench", "kv", "--hosts", f"127.0.0.1:{port}", "--reads", str(reads), "--quiet"]
        command += [
            "--duration",
            str(SECONDS),
            "--warm-up",
            "2",
            "--keys",
            str(ROWS),
            "--row-size",
            str(ROW_BYTES),
        ]
        subprocess.run([*command, "--json", str(report)], check=True, stdout=subprocess.DEVNULL)
        (kind,) = json.loads(report.read_text())["kinds"].values()
    return float(kind["throughput"])


def bare_engine() -> tuple[float, float]:
    """Puts and gets a second of the engine alone."""
    shape = UniformShape([1])
    value = len(bytes(ROW_BYTES)).to_bytes(4, "big") + os.urandom(ROW_BYTES)
    record = shape.record(time.time_ns() // 1000, value)
    keys = [b"\0\0\4\0" + os.urandom(8) + b"\0\x08" + i.to_bytes(8, "big") + b"\x40" for i in range(ROWS)]
    with tempfile.TemporaryDirectory() as folder:
        engine = Rdict(folder, Options(raw_mode=True))
        started = time.perf_counter()
        for key in keys:
            engine[key] = record
        puts = ROWS / (time.perf_counter() - started)
        get = engine.get
        started = time.perf_counter()
        for key in keys:
            get(key)
        gets = ROWS / (time.perf_counter() - started)
        engine.close()
    return puts, gets


def measure() -> dict[str, float]:
    """All figures, medians."""
    gathered: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        gathered.setdefault(name, []).append(value)

    for _ in range(RUNS):
        with tempfile.TemporaryDirectory() as folder:
            for durability in ("periodic", "group"):
                node = Node(f"{folder}/{durability}", durability)
                try:
                    note("first query, s", node.first_query_s)
                    time.sleep(2)
                    note("idle memory, MiB", node.memory_mib())
                    note(f"inserts/s, {durability}", throughput(node.port, 0))
                    if durability == "periodic":
                        note("reads/s", throughput(node.port, 1))
                finally:
                    node.stop()
        puts, gets = bare_engine()
        note("bare engine puts/s", puts)
        note("bare engine gets/s", gets)
        note(
            "parsing an INSERT, us",
            min(timeit.repeat(lambda: parse(INSERT), number=2000, repeat=3)) / 2000 * 1e6,
        )
    figures = {name: statistics.median(values) for name, values in gathered.items()}
    figures["inserts / bare puts"] = figures["inserts/s, periodic"] / figures["bare engine puts/s"]
    figures["reads / bare gets"] = figures["reads/s"] / figures["bare engine gets/s"]
    return figures


TARGETS = {
    "inserts/s, periodic": (">=", 40_000),
    "reads/s": (">=", 40_000),
    "inserts/s, group": (">=", 20_000),
    "inserts / bare puts": (">=", 1 / 5),
    "reads / bare gets": (">=", 1 / 8),
    "parsing an INSERT, us": ("<=", 100),
    "first query, s": ("<=", 1),
    "idle memory, MiB": ("<=", 80),
}


def main() -> int:
    machine = f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores"
    figures = measure()
    lines = ["# Acceptance", "", machine, "", "| figure | measured | target | |", "| --- | --- | --- | --- |"]
    results: dict[str, Any] = {}
    for name, value in figures.items():
        sign, target = TARGETS.get(name, ("", 0))
        met = not sign or (value >= target if sign == ">=" else value <= target)
        verdict = "" if not sign else ("met" if met else f"short by {abs(value / target - 1):.0%}")
        lines.append(f"| {name} | {value:,.2f} | {f'{sign} {target:,.2f}' if sign else ''} | {verdict} |")
        results[name] = {"value": value, "target": f"{sign} {target}" if sign else None, "met": met}
    reports = Path("reports")
    reports.mkdir(exist_ok=True)
    text = "\n".join(lines) + "\n"
    (reports / "accept.md").write_text(text)
    (reports / "accept.json").write_text(
        json.dumps({"machine": machine, "figures": results}, indent=2) + "\n"
    )
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
