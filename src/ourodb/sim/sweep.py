"""Many seeds on all cores.

Each worker is a process, forked from this one, that is handed one plan after the other and gives back its
verdict; which worker runs what, and when, has no influence on any of them. The first failure ends the sweep, unless it
is to go on. Workers don't hear Ctrl-C: who interrupts gets what was found so far, and where to go on.

The trace of a sweep is made of those of its runs in such a way that their order doesn't matter: two machines that ran
one range of seeds must have the same.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import secrets
import signal
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ourodb.sim.run import QUORUM, Plan, Verdict

FRESH_SEED_MAX = 10**12
"""Fresh seeds are below: long enough to be new, short enough to be typed."""

Judge = Callable[[Plan], Verdict]
"""Carries a plan out."""

OnVerdict = Callable[[Verdict], None]


@dataclass(slots=True)
class Swept:
    """What came of a sweep.

    Attributes:
        runs: that came to a verdict.
        failures: verdicts that aren't ok, in the order in which they were found.
        operations: by outcome. struck: faults by kind. workloads: runs by workload, and level where it isn't QUORUM.
        virtual_seconds: of all runs together.
        is_interrupted: by Ctrl-C.
        pending_seed: the first seed, in the order of the plans, that has no verdict; None: there is none.
    """

    runs: int = 0
    failures: list[Verdict] = field(default_factory=list)
    operations: Counter[str] = field(default_factory=Counter)
    struck: Counter[str] = field(default_factory=Counter)
    workloads: Counter[str] = field(default_factory=Counter)
    virtual_seconds: float = 0
    is_interrupted: bool = False
    pending_seed: int | None = None
    _traces: int = 0

    @property
    def is_ok(self) -> bool:
        return not self.failures

    @property
    def trace(self) -> str:
        return f"{self._traces:016x}"

    def add(self, verdict: Verdict) -> None:
        """One more run."""
        self.runs += 1
        self.operations.update(verdict.operations)
        self.struck.update(verdict.struck)
        at_level = "" if verdict.plan.level == QUORUM else f" at {verdict.plan.level}"
        self.workloads[verdict.plan.workload + at_level] += 1
        self.virtual_seconds += verdict.virtual_seconds
        one = f"{verdict.plan.seed} {verdict.trace}".encode()
        self._traces ^= int.from_bytes(hashlib.blake2b(one, digest_size=8).digest(), "big")
        if not verdict.is_ok:
            self.failures.append(verdict)

    def line(self) -> str:
        """One line: the verdict over all."""
        return (
            f"verdict: {'ok' if self.is_ok else 'VIOLATION'} runs={self.runs} failures={len(self.failures)}"
            f" operations={self.operations.total()} faults={self.struck.total()}"
            f" hours={self.virtual_seconds / 3600:.2f} trace={self.trace}"
        )


def seeds_of(text: str) -> Iterable[int]:
    """The seeds that ``1000..2000`` (both included), ``1000..`` (without end) or ``7`` means.

    Raises:
        ValueError: it means none.
    """
    first, dots, last = text.partition("..")
    if not first.isdigit() or not (last or "0").isdigit():
        raise ValueError(f"'{text}' is no range of seeds: 1000..2000, 1000.. or 7")
    if not dots:
        return range(int(first), int(first) + 1)
    if not last:
        return count(int(first))
    seeds = range(int(first), int(last) + 1)
    if not seeds:
        raise ValueError(f"there are no seeds in {text}")
    return seeds


def fresh_seeds(number: int | None) -> Iterator[int]:
    """Seeds that nobody had before; None: without end."""
    for _ in count() if number is None else range(number):
        yield secrets.randbelow(FRESH_SEED_MAX)


def sweep(
    plans: Iterable[Plan],
    judge: Judge,
    *,
    workers: int | None = None,
    goes_on: bool = False,
    on_verdict: OnVerdict = lambda verdict: None,
) -> Swept:
    """Run plans until there are no more, one fails, or somebody interrupts.

    Args:
        judge: runs in the workers, as this process knows it now.
        workers: processes; None: one a core.
        goes_on: don't stop at a failure.
        on_verdict: is called with each, as they come.
    """
    swept = Swept()
    left = iter(plans)
    with Workers(judge, workers or os.cpu_count() or 1) as crew:
        try:
            while True:
                while crew.idle and (plan := next(left, None)) is not None:
                    crew.hand_out(plan)
                if not crew.under_way:
                    break
                for verdict in crew.collect():
                    swept.add(verdict)
                    on_verdict(verdict)
                if swept.failures and not goes_on:
                    break
        except KeyboardInterrupt:
            swept.is_interrupted = True
        pending = [plan.seed for plan in crew.under_way]
    if not pending and (swept.failures or swept.is_interrupted):
        pending = [plan.seed for plan in [next(left, None)] if plan is not None]
    swept.pending_seed = pending[0] if pending else None
    return swept


class Workers:
    """Processes that judge plans; gone, whatever they do, when the block ends."""

    def __init__(self, judge: Judge, number: int) -> None:
        self._judge = judge
        self._number = number
        self._context = multiprocessing.get_context("fork")
        self._processes: dict[Connection, BaseProcess] = {}
        self._plans: dict[Connection, Plan] = {}
        """What each that isn't idle has, in the order in which it was handed out."""

    def __enter__(self) -> Workers:
        for _ in range(self._number):
            self._start_one()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection, process in self._processes.items():
            process.kill()
            process.join()
            connection.close()

    @property
    def idle(self) -> bool:
        """Whether somebody has nothing to do."""
        return len(self._plans) < len(self._processes)

    @property
    def under_way(self) -> list[Plan]:
        return list(self._plans.values())

    def hand_out(self, plan: Plan) -> None:
        """Somebody who is idle carries it out."""
        connection = next(one for one in self._processes if one not in self._plans)
        self._plans[connection] = plan
        connection.send(plan)

    def collect(self) -> list[Verdict]:
        """Wait for one verdict, or several."""
        verdicts = []
        for ready in wait(list(self._plans)):
            assert isinstance(ready, Connection)
            try:
                verdict = ready.recv()
            except (EOFError, ConnectionResetError):
                verdict = self._on_death(ready)
            else:
                del self._plans[ready]
            verdicts.append(verdict)
        return verdicts

    def _start_one(self) -> None:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(theirs, self._judge), daemon=True)
        process.start()
        theirs.close()
        self._processes[ours] = process

    def _on_death(self, connection: Connection) -> Verdict:
        plan, process = self._plans.pop(connection), self._processes.pop(connection)
        process.join()
        connection.close()
        self._start_one()
        return Verdict(plan, problems=[f"the process that ran it died with the exit code {process.exitcode}"])


def _work(connection: Connection, judge: Judge) -> None:
    """A worker's life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            plan = connection.recv()
        except EOFError:
            return
        try:
            verdict = judge(plan)
        except Exception:
            verdict = Verdict(plan, problems=[f"the simulator raised:\n{traceback.format_exc()}"])
        try:
            connection.send(verdict)
        except BrokenPipeError:
            return


class Bar:
    """Progress of whatever runs many plans; on a terminal only. It is there from the first verdict on."""

    def __init__(self, title: str, total: int | None, console: Console) -> None:
        """
        Args:
            total: runs; None: nobody knows.
        """
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task(title, total=total, figures="")
        self._operations = self._faults = 0

    def __enter__(self) -> Bar:
        # Not started yet: it has a thread, and workers are to be forked from a process that has none.
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def on_verdict(self, verdict: Verdict) -> None:
        """One more run."""
        self._progress.start()
        self._operations += sum(verdict.operations.values())
        self._faults += sum(verdict.struck.values())
        figures = f"{self._operations:,} ops, {self._faults:,} faults"
        self._progress.update(self._task, advance=1, figures=figures)

    def tell(self, line: str) -> None:
        """A line above the bar."""
        self._progress.console.print(line, markup=False, soft_wrap=True)
