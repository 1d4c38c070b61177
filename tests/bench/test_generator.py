"""The loop against a responder that answers, stalls, forgets, refuses or leaves.

Were these to fail, a stalled server would look fast, or errors would look like answers.
"""

from __future__ import annotations

import os
import time

import pytest
from tests.bench.servers import MILLISECOND, Sums, count_of, options_for, responder

from ourodb.bench.generator import Generator, Phase, clock
from ourodb.bench.histogram import bounds_of
from ourodb.bench.options import BenchError, Options
from ourodb.bench.responder import Responder
from ourodb.bench.workload import statements_of
from ourodb.cql.wire.connection import Request
from ourodb.errors import Overloaded, RequestError

WAYS = [(3, "none"), (4, "none"), (4, "lz4"), (5, "none"), (5, "lz4")]


def generate(options: Options, phase: Phase, interrupt: int = -1) -> tuple[Sums, Generator]:
    sums = Sums()
    generator = Generator(options, 0, statements_of(options), sums, interrupt)
    generator.run(phase, generator.workload)
    generator.close()
    return sums, generator


@pytest.mark.parametrize(("protocol", "compression"), WAYS)
def test_every_request_is_sent_once_and_its_answer_counted(protocol: int, compression: str) -> None:
    with responder() as server:
        options = options_for(server, protocol=protocol, compression=compression, row_bytes=400)
        sums, generator = generate(options, count_of(503))
        assert server.executed == sums.histogram().total == 503
    assert sums.errors() == {}
    assert generator.failure == ""


@pytest.mark.parametrize("workload", ["wide", "range"])
def test_wide_rows(workload: str) -> None:
    with responder(row_bytes=128) as server:
        options = options_for(server, workload=workload, rows_per_partition=50, slice_rows=10)
        sums, _ = generate(options, count_of(100))
    assert sums.histogram().total == 100
    assert sum(interval.missing for interval in sums.intervals) == 0


def test_reads_that_find_nothing_are_told() -> None:
    with responder(row_bytes=1) as server:
        sums, _ = generate(options_for(server, reads=1.0), count_of(50))
    assert sum(interval.missing for interval in sums.intervals) == 50


def test_verification_catches_wrong_rows() -> None:
    with responder() as server:
        options = options_for(server, reads=1.0, verify=True, preload=True)
        sums, _ = generate(options, count_of(50))
    assert sums.errors() == {"WrongRow": 50}
    assert "read at row" in sums.intervals[0].examples[0]


def test_a_stall_at_a_fixed_rate_counts_for_all_that_was_due_in_it() -> None:
    """1000 a second, with the first answer held back for 400 ms: the 400 requests due meanwhile waited, on average,
    half of it, though the server was given but the few that the slots hold."""

    def stall_once(server: Responder, request: Request) -> None:
        if server.executed == 0:
            time.sleep(0.4)

    with responder(interfere=stall_once) as server:
        options = options_for(server, connections=1, in_flight=2, rate=1_000.0, operations=500)
        sums, _ = generate(options, Phase("measure", clock(), operations=500, rate=1_000.0))
    histogram = sums.histogram()
    assert histogram.total == 500
    waited = sum(
        sum(count for bucket, count in sparse[0].items() if bounds_of(bucket)[1] > 40 * MILLISECOND)
        for interval in sums.intervals
        for sparse in interval.latencies.values()
    )
    # Those due more than 40 ms before the end of the stall; from when they were sent, it would be two.
    assert waited >= 350


def test_what_is_due_at_the_end_of_a_stall_is_still_sent() -> None:
    def stall_once(server: Responder, request: Request) -> None:
        if server.executed == 0:
            time.sleep(0.3)

    with responder(interfere=stall_once) as server:
        options = options_for(server, connections=1, in_flight=2, rate=1_000.0)
        sums, _ = generate(options, Phase("measure", clock(), duration_ns=200 * MILLISECOND, rate=1_000.0))
    assert sums.histogram().total == 200
    assert sums.errors() == {}


def test_forgotten_statements_are_prepared_again() -> None:
    forgotten = []

    def forget(server: Responder, request: Request) -> None:
        if server.executed == 100 and not forgotten:
            forgotten.extend(server.prepared)
            server.prepared.clear()

    with responder(interfere=forget) as server:
        sums, _ = generate(options_for(server), count_of(300))
        assert forgotten
        assert server.prepared
    assert sums.histogram().total == 300
    assert sums.errors() == {}


def test_errors_are_counted_by_name_and_not_as_latencies() -> None:
    asked = []

    def refuse(server: Responder, request: Request) -> RequestError | None:
        asked.append(request)
        return Overloaded("too much") if len(asked) % 4 == 0 else None

    with responder(interfere=refuse) as server:
        sums, _ = generate(options_for(server), count_of(200))
    assert sums.errors() == {"Overloaded": 50}
    assert sums.histogram().total == 150


def test_a_lost_server_ends_the_phase() -> None:
    def leave(server: Responder, request: Request) -> None:
        server.stopping = server.executed >= 40

    with responder(interfere=leave) as server:
        options = options_for(server, timeout_s=5.0)
        sums, generator = generate(options, count_of(1_000_000))
    assert generator.failure == "all connections are lost"
    assert 0 < sums.errors()["ConnectionLost"] <= 8


def test_a_silent_server_is_given_up() -> None:
    with responder(interfere=lambda server, request: time.sleep(0.6)) as server:  # type: ignore[func-returns-value]
        options = options_for(server, connections=1, in_flight=3, timeout_s=0.2)
        sums, generator = generate(options, count_of(10))
    assert generator.failure == "nothing was answered for 0.2 s"
    assert sums.errors()["NoAnswer"] == 3


def test_an_interrupt_ends_the_phase_with_what_there_is() -> None:
    reading, writing = os.pipe()

    def interrupt(server: Responder, request: Request) -> None:
        if server.executed == 60:
            os.write(writing, b"!")

    with responder(interfere=interrupt) as server:
        sums, generator = generate(options_for(server), count_of(1 << 40), reading)
    os.close(reading)
    os.close(writing)
    assert generator.stopped
    assert generator.failure == ""
    assert sums.histogram().total >= 60
    assert sums.errors() == {}


def test_nobody_listens() -> None:
    with responder() as server:
        options = options_for(server)
    with pytest.raises(BenchError, match=r"can't connect to 127\.0\.0\.1:\d+: Connection refused"):
        generate(options, count_of(1))
