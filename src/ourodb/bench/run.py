"""A run, seen from the parent: schema, processes, phases, and what they add up to.

The processes are started afresh (``spawn``) and pinned to nothing; the operating system places them. Their clocks are
the machine's monotonic clock, so one moment, a little in the future, starts a phase in all of them, and second n
means the same in all.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final

from ourodb.bench.client import Client
from ourodb.bench.generator import EXAMPLES_MAX, SECOND_NS, Interval, Phase
from ourodb.bench.histogram import Histogram
from ourodb.bench.options import BenchError, Options
from ourodb.bench.worker import MEASURE, PRELOAD, WARM_UP, Failed, Ready, work
from ourodb.bench.workload import statements_of
from ourodb.errors import RequestError

_HEAD_START_NS: Final = 50_000_000
_CONNECT_SECONDS_MAX: Final = 60.0


class Second:
    """What all processes counted in one second, as far as they have told."""

    __slots__ = ("errors", "latencies", "told")

    def __init__(self) -> None:
        self.latencies: dict[int, Histogram] = {}
        self.errors: Counter[str] = Counter()
        self.told = 0

    @property
    def operations(self) -> int:
        return sum(histogram.total for histogram in self.latencies.values())


class PhaseResult:
    """What a phase added up to.

    Attributes:
        latencies: by kind of operation.
        seconds: by number; what was answered after the end is in the last one.
        started_ns, ended_ns: the last answer's moment.
        cpu_s: processor time of all processes.
        failures: why processes ended early; each reason once.
    """

    def __init__(self, name: str, started_ns: int) -> None:
        self.name = name
        self.started_ns = started_ns
        self.ended_ns = started_ns
        self.latencies: dict[int, Histogram] = {}
        self.errors: Counter[str] = Counter()
        self.missing = 0
        self.verified = 0
        self.examples: list[str] = []
        self.cpu_s = 0.0
        self.seconds: dict[int, Second] = {}
        self.failures: dict[str, None] = {}

    @property
    def elapsed_s(self) -> float:
        return (self.ended_ns - self.started_ns) / SECOND_NS

    @property
    def operations(self) -> int:
        return sum(histogram.total for histogram in self.latencies.values())

    @property
    def throughput(self) -> float:
        return self.operations / self.elapsed_s if self.elapsed_s else 0.0

    def add(self, interval: Interval) -> Second:
        """Count what one process told; returns the second that it was about."""
        second = self.seconds.setdefault(interval.second, Second())
        second.told += 1
        for kind, sparse in interval.latencies.items():
            self.latencies.setdefault(kind, Histogram()).add(sparse)
            second.latencies.setdefault(kind, Histogram()).add(sparse)
        second.errors.update(interval.errors)
        self.errors.update(interval.errors)
        self.missing += interval.missing
        self.verified += interval.verified
        self.examples += interval.examples[: EXAMPLES_MAX - len(self.examples)]
        return second


class Outcome:
    """A run's results.

    Attributes:
        phases: by name, those that were begun.
        interrupted: Ctrl-C came before the end.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.phases: dict[str, PhaseResult] = {}
        self.server: dict[str, str] = {}
        self.interrupted = False

    @property
    def measured(self) -> PhaseResult | None:
        return self.phases.get(MEASURE)

    @property
    def failures(self) -> list[str]:
        return list(dict.fromkeys(reason for phase in self.phases.values() for reason in phase.failures))


Watch = Callable[[PhaseResult, Second], None]
"""Told of each second of each phase, once all processes have told theirs."""


def run(options: Options, watch: Watch) -> Outcome:
    """Do the whole run.

    Raises:
        BenchError: it can't begin, or a process left.
    """
    options.check()
    outcome = Outcome(options)
    outcome.server = prepare_schema(options)
    crew = Crew(options)
    try:
        crew.start()
        if options.preload:
            crew.phase(outcome, Phase(PRELOAD, 0), watch)
        if options.warm_up_s and not outcome.interrupted and not outcome.failures:
            crew.phase(outcome, Phase(WARM_UP, 0, int(options.warm_up_s * SECOND_NS), 0, options.rate), watch)
        if not outcome.interrupted and not outcome.failures:
            duration_ns = int(options.duration_s * SECOND_NS)
            crew.phase(outcome, Phase(MEASURE, 0, duration_ns, options.operations, options.rate), watch)
    except KeyboardInterrupt:
        outcome.interrupted = True
    finally:
        crew.leave()
    return outcome


def prepare_schema(options: Options) -> dict[str, str]:
    """Make keyspace and table; returns what the server says of itself.

    Raises:
        BenchError: it can't be reached, or refuses.
    """
    client = Client(
        options.hosts[0],
        options.protocol,
        options.wire_compression,
        (options.user, options.password),
        options.timeout_s,
    )
    statements = statements_of(options)
    try:
        if options.drop:
            client.query(statements.drop)
        client.query(statements.keyspace)
        client.query(statements.table)
        rows = client.query("SELECT release_version, cluster_name, partitioner FROM system.local")
    except RequestError as error:
        raise BenchError(f"the server refused the schema: {error.message}") from error
    finally:
        client.close()
    names = ("release_version", "cluster_name", "partitioner")
    return {name: (cell or b"").decode() for row in rows for name, cell in zip(names, row, strict=True)}


class Crew:
    """The processes."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._pipes: list[Connection] = []
        self._processes: list[BaseProcess] = []

    def start(self) -> None:
        """Start all and wait until they are connected. Raises BenchError when one can't."""
        context = multiprocessing.get_context("spawn")
        for number in range(self._options.processes):
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(self._options, number, theirs), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        self._gather(lambda message: isinstance(message, Ready), _CONNECT_SECONDS_MAX)

    def phase(self, outcome: Outcome, phase: Phase, watch: Watch) -> None:
        """Let all run a phase; on Ctrl-C they end it, and ``outcome.interrupted`` is set."""
        count = len(self._pipes)
        start_ns = time.monotonic_ns() + _HEAD_START_NS
        result = outcome.phases[phase.name] = PhaseResult(phase.name, start_ns)
        for number, pipe in enumerate(self._pipes):
            rate = phase.rate / count
            operations = (phase.operations + count - 1 - number) // count
            if phase.operations and not operations:
                continue
            shift_ns = int(number * SECOND_NS / phase.rate) if rate else 0
            pipe.send(phase._replace(start_ns=start_ns + shift_ns, rate=rate, operations=operations))
        busy = min(count, phase.operations) if phase.operations else count

        def take(message: object) -> bool:
            if isinstance(message, Interval):
                second = result.add(message)
                if second.told == busy:
                    watch(result, second)
                return False
            assert isinstance(message, Ready)
            result.ended_ns = max(result.ended_ns, message.ended_ns)
            result.cpu_s += message.cpu_s
            if message.failure:
                result.failures[message.failure] = None
            return True

        try:
            self._gather(take, None, self._pipes[:busy])
        except KeyboardInterrupt:
            outcome.interrupted = True
            for pipe in self._pipes:
                with suppress(OSError):
                    pipe.send(None)
            with suppress(KeyboardInterrupt, BenchError):
                self._gather(take, self._options.timeout_s + 1, self._pipes[:busy])
            result.ended_ns = max(result.ended_ns, start_ns + 1)

    def leave(self) -> None:
        """Send all away; who doesn't go is ended."""
        for pipe in self._pipes:
            with suppress(OSError):
                pipe.send(None)
        for process in self._processes:
            process.join(2)
            if process.is_alive():
                process.kill()
                process.join()
        for pipe in self._pipes:
            pipe.close()

    def _gather(
        self,
        take: Callable[[object], bool],
        seconds_max: float | None,
        pipes: list[Connection] | None = None,
    ) -> None:
        """Take messages until ``take`` has said True to one of each process."""
        waiting = list(self._pipes if pipes is None else pipes)
        deadline = None if seconds_max is None else time.monotonic() + seconds_max
        while waiting:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise BenchError("a client process doesn't answer")
            for pipe in wait(waiting, left):
                assert isinstance(pipe, Connection)
                try:
                    message = pipe.recv()
                except (EOFError, OSError):
                    raise BenchError("a client process died") from None
                if isinstance(message, Failed):
                    raise BenchError(message.reason)
                if take(message):
                    waiting.remove(pipe)


def environment() -> dict[str, object]:
    """The machine that the generator runs on."""
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "cores_usable": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "cpu": cpu_model(),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
    }


def cpu_model() -> str:
    """What the processor calls itself; "" where the system doesn't say."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
