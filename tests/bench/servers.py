"""Fake servers for the load generator, each on a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ourodb.bench.generator import Interval, Phase, clock
from ourodb.bench.histogram import Histogram
from ourodb.bench.options import Options
from ourodb.bench.responder import Interfere, Responder

MILLISECOND = 1_000_000


@contextmanager
def responder(row_bytes: int = 128, interfere: Interfere | None = None) -> Iterator[Responder]:
    """A responder that serves until the block ends."""
    server = Responder(row_bytes, interfere)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server
    finally:
        server.stopping = True
        thread.join()


def options_for(server: Responder, **changes: object) -> Options:
    """A small run against the responder."""
    given: dict[str, object] = {
        "hosts": (("127.0.0.1", server.port),),
        "keys": 100,
        "connections": 2,
        "in_flight": 4,
        "preload": False,
        "warm_up_s": 0.0,
        "duration_s": 0.0,
        "operations": 200,
    }
    options = Options(**(given | changes))  # type: ignore[arg-type]
    options.check()
    return options


def count_of(operations: int) -> Phase:
    """A phase at full speed that starts now."""
    return Phase("measure", clock(), operations=operations)


class Sums:
    """Adds up what a generator reports."""

    def __init__(self) -> None:
        self.intervals: list[Interval] = []

    def __call__(self, interval: Interval) -> None:
        self.intervals.append(interval)

    def histogram(self) -> Histogram:
        merged = Histogram()
        for interval in self.intervals:
            for sparse in interval.latencies.values():
                merged.add(sparse)
        return merged

    def errors(self) -> dict[str, int]:
        totals: dict[str, int] = {}
        for interval in self.intervals:
            for name, count in interval.errors.items():
                totals[name] = totals.get(name, 0) + count
        return totals
