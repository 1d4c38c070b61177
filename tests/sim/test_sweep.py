"""Many seeds on all cores, on toys.

If this fails, a sweep misses failures, hangs, leaves processes behind, or says something else than its runs one by
one would.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from itertools import count, islice

import pytest
from tests.sim.toy import WORKLOADS, Bugs, build_toy

from ourodb.sim.profiles import drawn
from ourodb.sim.run import Plan, Verdict, run
from ourodb.sim.sweep import FRESH_SEED_MAX, fresh_seeds, seeds_of, sweep


def with_toys(plan: Plan) -> Verdict:
    return run(plan, build_toy(plan.nodes))


def plans(number: int) -> list[Plan]:
    return [drawn(seed, workloads=WORKLOADS, seconds=2, quiet_seconds=1) for seed in range(number)]


def fails_at(*seeds: int):  # type: ignore[no-untyped-def]
    def judge(plan: Plan) -> Verdict:
        return Verdict(plan, problems=["oh"] if plan.seed in seeds else [], trace=f"{plan.seed:016x}")

    return judge


# --- What is run -----------------------------------------------------------------------------------------------


def test_seeds_are_written_as_ranges() -> None:
    assert list(seeds_of("1000..1002")) == [1000, 1001, 1002]
    assert list(seeds_of("7")) == [7]
    assert list(islice(seeds_of("5.."), 3)) == [5, 6, 7]
    for text in ("2..1", "a..b", "1...2", ""):
        with pytest.raises(ValueError):
            seeds_of(text)


def test_fresh_seeds_are_new() -> None:
    seeds = list(fresh_seeds(50))
    assert len(set(seeds)) == 50
    assert all(0 <= seed < FRESH_SEED_MAX for seed in seeds)
    assert len(list(islice(fresh_seeds(None), 100))) == 100


# --- Sweeping --------------------------------------------------------------------------------------------------


def test_a_sweep_says_what_its_runs_say_one_by_one() -> None:
    traces = {plan.seed: with_toys(plan).trace for plan in plans(4)}
    seen: dict[int, str] = {}
    swept = sweep(
        plans(4),
        with_toys,
        workers=3,
        on_verdict=lambda verdict: seen.update({verdict.plan.seed: verdict.trace}),
    )
    assert swept.is_ok, swept.failures
    assert seen == traces
    assert swept.runs == 4
    assert swept.operations["done"] > 0
    assert swept.virtual_seconds > 4 * 3
    assert swept.pending_seed is None
    assert swept.trace == sweep(reversed(plans(4)), with_toys, workers=1).trace
    assert swept.trace != sweep(plans(3), with_toys, workers=2).trace
    assert swept.line().startswith("verdict: ok runs=4 failures=0 operations=")


def test_a_sweep_stops_at_the_first_failure_even_one_without_end() -> None:
    swept = sweep((Plan(seed) for seed in count(100)), fails_at(123, 130), workers=2)
    assert [verdict.plan.seed for verdict in swept.failures] == [123]
    assert swept.runs >= 2
    assert swept.pending_seed is not None
    assert swept.line().startswith("verdict: VIOLATION runs=")


def test_a_sweep_may_go_on_after_a_failure() -> None:
    swept = sweep((Plan(seed) for seed in range(10)), fails_at(2, 7), workers=2, goes_on=True)
    assert swept.runs == 10
    assert sorted(verdict.plan.seed for verdict in swept.failures) == [2, 7]


def test_a_mistake_is_found_by_workers_too() -> None:
    swept = sweep(
        (Plan(seed, seconds=3, quiet_seconds=1, clients=3) for seed in count()),
        lambda plan: run(plan, build_toy(3, Bugs(quorum_off_by_one=True))),
        workers=2,
    )
    assert not swept.is_ok
    again = run(swept.failures[0].plan, build_toy(3, Bugs(quorum_off_by_one=True)))
    assert again.line() == swept.failures[0].line()


def test_a_run_that_raises_or_dies_fails_and_the_others_go_on() -> None:
    def judge(plan: Plan) -> Verdict:
        if plan.seed == 3:
            os._exit(9)
        if plan.seed == 5:
            raise KeyError("oh")
        return Verdict(plan)

    swept = sweep((Plan(seed) for seed in range(12)), judge, workers=2, goes_on=True)
    assert swept.runs == 12
    told = {verdict.plan.seed: verdict.problems[0] for verdict in swept.failures}
    assert sorted(told) == [3, 5]
    assert "exit code 9" in told[3]
    assert "KeyError: 'oh'" in told[5]


def test_ctrl_c_ends_a_sweep_in_order_and_says_where_to_go_on() -> None:
    command = [sys.executable, "-m", "ourodb.sim", "--seeds", "40..", "--workers", "2", "--keep-going"]
    options = ["--workload", "set", "--seconds", "1", "--nodes", "3", "--faults", "none"]
    # Fails always, so that a line tells of each run.
    process = subprocess.Popen(
        [*command, *options, "--operations-min", "1000000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith("verdict: VIOLATION seed=4")
    os.killpg(process.pid, signal.SIGINT)
    told, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors
    assert process.returncode == 1
    lines = told.splitlines()
    assert lines[-2].startswith("to go on: --seeds 4")
    assert lines[-1].startswith("verdict: VIOLATION runs=")
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
