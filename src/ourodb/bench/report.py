"""What a run's outcome looks like: as JSON for programs, as tables for people.

The JSON's ``format`` is its version. Latencies are in microseconds. For each kind of operation, ``latency`` is
corrected for coordinated omission and ``latency_measured`` is as it was recorded; at a fixed rate the two are the
same, because there latency counts from the moment at which a request was due. ``latency_is`` says it in words.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ourodb import __version__
from ourodb.bench.histogram import Histogram
from ourodb.bench.run import Outcome, PhaseResult, environment
from ourodb.bench.workload import KIND_NAMES

FORMAT: Final = 1
PERCENTILES: Final = (50.0, 99.0, 99.9)

FROM_DUE: Final = "from the moment at which the request was due by the fixed rate, so a stall counts in full"
FROM_FREE: Final = (
    "from the moment at which the stream's previous answer arrived (closed loop); corrected for coordinated omission by"
    " adding what each stream would have sent during a stall, at its median pace"
)


def report(outcome: Outcome) -> dict[str, Any]:
    """The outcome as JSON."""
    options = asdict(outcome.options)
    options["hosts"] = [f"{host}:{port}" for host, port in outcome.options.hosts]
    del options["password"]
    measured = outcome.measured
    return {
        "format": FORMAT,
        "generator": f"ouro bench {__version__}",
        "configuration": options,
        "environment": environment(),
        "server": outcome.server,
        "interrupted": outcome.interrupted,
        "failures": outcome.failures,
        "phases": {name: _phase(phase) for name, phase in outcome.phases.items()},
        "latency_is": FROM_DUE if outcome.options.rate else FROM_FREE,
        "kinds": {} if measured is None else _kinds(outcome, measured),
        "series": [] if measured is None else _series(measured),
    }


def _phase(phase: PhaseResult) -> dict[str, Any]:
    return {
        "operations": phase.operations,
        "seconds": round(phase.elapsed_s, 3),
        "throughput": round(phase.throughput, 1),
        "errors": dict(phase.errors),
        "rows_missing": phase.missing,
        "verified": phase.verified,
        "wrong_answers": phase.examples,
        "generator_cpu_seconds": round(phase.cpu_s, 3),
        "operations_per_generator_cpu_second": round(phase.operations / phase.cpu_s) if phase.cpu_s else 0,
    }


def _kinds(outcome: Outcome, measured: PhaseResult) -> dict[str, Any]:
    kinds = {}
    for kind, histogram in sorted(measured.latencies.items()):
        corrected = histogram if outcome.options.rate else histogram.corrected(histogram.percentile(50))
        kinds[KIND_NAMES[kind]] = {
            "operations": histogram.total,
            "throughput": round(histogram.total / measured.elapsed_s, 1),
            "latency": latency(corrected),
            "latency_measured": latency(histogram),
        }
    return kinds


def latency(histogram: Histogram) -> dict[str, float]:
    """Mean, percentiles and maximum in microseconds."""
    named = {f"p{percent:g}_us": histogram.percentile(percent) / 1000 for percent in PERCENTILES}
    return {"mean_us": round(histogram.mean() / 1000, 1), **named, "max_us": histogram.greatest / 1000}


def _series(measured: PhaseResult) -> list[dict[str, Any]]:
    return [
        {
            "second": number,
            "operations": second.operations,
            "errors": sum(second.errors.values()),
            "kinds": {
                KIND_NAMES[kind]: {
                    "operations": histogram.total,
                    "p50_us": histogram.percentile(50) / 1000,
                    "p99_us": histogram.percentile(99) / 1000,
                    "max_us": histogram.greatest / 1000,
                }
                for kind, histogram in sorted(second.latencies.items())
            },
        }
        for number, second in sorted(measured.seconds.items())
    ]


def render(outcome: Outcome) -> RenderableType:
    """The outcome for people."""
    lines: list[RenderableType] = []
    measured = outcome.measured
    if measured is not None and measured.latencies:
        table = Table()
        for heading in ("", "op/s", "mean", "p50", "p99", "p99.9", "max"):
            table.add_column(heading, justify="right" if heading else "left")
        for name, kind in _kinds(outcome, measured).items():
            times = [milliseconds(value) for value in kind["latency"].values()]
            table.add_row(name, f"{kind['throughput']:,.0f}", *times)
        lines += [
            Text(_title(outcome, measured)),
            table,
            Text("Latency " + (FROM_DUE if outcome.options.rate else FROM_FREE) + ".", style="dim"),
        ]
    for phase in outcome.phases.values():
        lines += _remarks(phase)
    if outcome.interrupted:
        lines.append(Text("Interrupted: this is what was measured until then.", style="yellow"))
    return Group(*lines)


def _title(outcome: Outcome, measured: PhaseResult) -> str:
    options = outcome.options
    per_cpu = (
        f", {measured.operations / measured.cpu_s:,.0f} op per CPU second of the generator"
        if measured.cpu_s
        else ""
    )
    return (
        f"{options.workload}: {measured.operations:,} operations in {measured.elapsed_s:.1f} s,"
        f" {measured.throughput:,.0f} op/s{per_cpu}"
    )


def _remarks(phase: PhaseResult) -> list[RenderableType]:
    remarks: list[RenderableType] = []
    if phase.verified:
        remarks.append(Text(f"{phase.name}: {phase.verified:,} answers verified"))
    if phase.missing and "MissingRow" not in phase.errors:
        remarks.append(
            Text(f"{phase.name}: {phase.missing:,} reads found less than they asked for", style="yellow")
        )
    for name, count in phase.errors.most_common():
        remarks.append(Text(f"{phase.name}: {count:,} x {name}", style="red"))
    remarks += [Text(f"{phase.name}: {example}", style="red") for example in phase.examples]
    return remarks


def milliseconds(microseconds: float) -> str:
    """For tables: three significant digits."""
    value = microseconds / 1000
    return f"{value:.2f} ms" if value < 10 else f"{value:.1f} ms" if value < 100 else f"{value:,.0f} ms"
