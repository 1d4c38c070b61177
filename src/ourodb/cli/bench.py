"""``ouro bench``: options, live progress, and the report.

Exit codes: 0, also when requests failed (they are counted); 1 when the run ended early or verification found something
wrong; 2 when it couldn't begin; 130 after Ctrl-C, once what there is has been reported.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ourodb.bench.histogram import Histogram
from ourodb.bench.options import BenchError, Options
from ourodb.bench.report import milliseconds, render, report
from ourodb.bench.run import PhaseResult, Second, run
from ourodb.bench.worker import MEASURE, PRELOAD
from ourodb.cli.admin import PORT
from ourodb.cli.console import console


def bench(options: Options, json_file: str, quiet: bool) -> int:
    """Run, show, report; returns the exit code."""
    out = console(sys.stderr if json_file == "-" else sys.stdout)
    try:
        if json_file and json_file != "-":
            # Found out before the run rather than after it.
            Path(json_file).open("a").close()
        with _Live(options, out, quiet) as live:
            outcome = run(options, live.watch)
    except (BenchError, OSError) as error:
        print(f"ouro bench: {error}", file=sys.stderr)
        return 2
    if not quiet or json_file != "-":
        out.print(render(outcome))
    if json_file:
        text = json.dumps(report(outcome), indent=1) + "\n"
        if json_file == "-":
            sys.stdout.write(text)
        else:
            Path(json_file).write_text(text)
    for failure in outcome.failures:
        print(f"ouro bench: the run ended early: {failure}", file=sys.stderr)
    if outcome.interrupted:
        return 130
    errors = [name for phase in outcome.phases.values() for name in phase.errors]
    return 1 if outcome.failures or {"MissingRow", "WrongRow"} & set(errors) else 0


def parse_hosts(text: str) -> tuple[tuple[str, int], ...]:
    """``host[:port],...``; IPv6 addresses with a port in brackets. Raises BenchError."""
    hosts = []
    for part in text.split(","):
        host, port = part.strip(), "9042"
        if host.startswith("["):
            host, bracket, port = host[1:].partition("]")
            port = port.removeprefix(":") or "9042"
            host = host if bracket else ""
        elif host.count(":") == 1:
            host, port = host.split(":")
        if not host or not PORT.fullmatch(port) or int(port) > 65535:
            raise BenchError(f"{part!r} isn't host or host:port")
        hosts.append((host, int(port)))
    return tuple(hosts)


def parse_replication(text: str) -> str:
    """The replication map; a plain number is SimpleStrategy's factor."""
    if text.isdigit():
        return f"{{'class': 'SimpleStrategy', 'replication_factor': {text}}}"
    return text


class _Live:
    """Progress while the run goes on; on a terminal only."""

    def __init__(self, options: Options, out: Console, quiet: bool) -> None:
        self._options = options
        self._progress = Progress(
            TextColumn("{task.description:>8}"),
            BarColumn(30),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            console=out,
            disable=quiet or not out.is_terminal,
            refresh_per_second=2,
        )
        self._tasks: dict[str, int] = {}

    def __enter__(self) -> _Live:
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()

    def watch(self, phase: PhaseResult, second: Second) -> None:
        """See ``run.Watch``."""
        progress = self._progress
        if phase.name not in self._tasks:
            self._tasks[phase.name] = progress.add_task(phase.name, total=self._total(phase.name), figures="")
        task = progress.tasks[self._tasks[phase.name]]
        merged = Histogram()
        for histogram in second.latencies.values():
            merged.add(histogram.sparse())
        figures = f"{second.operations:>9,} op/s   p99 {milliseconds(merged.percentile(99) / 1000):>9}"
        if phase.errors:
            figures += f"   [red]{sum(phase.errors.values()):,} errors[/]"
        done = phase.operations if self._by_operations(phase.name) else len(phase.seconds)
        progress.update(task.id, completed=done, figures=figures)

    def _by_operations(self, phase: str) -> bool:
        return phase == PRELOAD or (phase == MEASURE and not self._options.duration_s)

    def _total(self, phase: str) -> float:
        if phase == PRELOAD:
            return self._options.keys
        if phase == MEASURE:
            return self._options.duration_s or self._options.operations
        return self._options.warm_up_s
