"""``python -m ourodb.sim``, with production nodes.

If this fails, a failing seed can't be replayed from what was printed, or a profile says something that no run can keep.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from ourodb.replication import routes
from ourodb.sim.__main__ import main, told
from ourodb.sim.chance import Chance
from ourodb.sim.faults.kinds import FAULTS
from ourodb.sim.history import History, Outcome
from ourodb.sim.profiles import HARMFUL_TO_UNSYNCED, HARMLESS_TO_UNSYNCED, command, drawn
from ourodb.sim.run import LOCAL_QUORUM, QUORUM, Plan, Verdict
from ourodb.sim.workloads import WORKLOADS
from ourodb.sim.workloads.sides import TO_SIDES

SHORT = ["--workload", "set", "--seconds", "2", "--clients", "2", "--nodes", "3", "--faults", "none"]


def output_of(*options: str, hash_seed: str = "random") -> str:
    return subprocess.run(
        [sys.executable, "-m", "ourodb.sim", *options],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


# --- One seed --------------------------------------------------------------------------------------------------


def test_a_seed_tells_its_story_and_ends_with_the_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "2", *SHORT]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "node1    starts, run 1" in lines[0]
    assert any("all is healed" in line for line in lines)
    assert "faults: none" in lines
    assert lines[-2].startswith("again: python -m ourodb.sim --seed 2 ")
    assert lines[-1].startswith("verdict: ok seed=2 workload=set nodes=3 operations=")
    assert "trace=" in lines[-1]
    assert main(["--seed", "2", "--no-story", *SHORT]) == 0
    assert capsys.readouterr().out.splitlines() == lines[-6:]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--faults flood", "no fault is called 'flood'; there are kill"),
        ("--workload golf", "no workload is called 'golf'"),
        ("--seeds 2..1", "there are no seeds in 2..1"),
        ("--seeds few", "'few' is no range of seeds"),
        ("--nodes 0", "1 at least, not 0"),
        ("--nodes 501", "--nodes: 500 at most, not 501"),
        ("--success-percent-min 200", "--success-percent-min: 100 at most, not 200"),
        ("--success-percent-min -1", "--success-percent-min: 0 at least, not -1"),
        ("--hours -1", "--hours: half a second at least, not -1"),
        ("--seconds -3", "0.5 at least, not -3"),
        ("--seconds nan", "0.5 at least, not nan"),
        ("--hours x", "--hours: 'x' is no number"),
        ("--strikes 1,x", "--strikes: 'x' is no number"),
        ("--level LOCAL_QUORUM --workload register", "at LOCAL_QUORUM there are the workloads set, "),
        ("--level ONE", "invalid choice: 'ONE'"),
    ],
)
def test_what_is_no_option_is_refused(options: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(options.split())
    assert exit.value.code == 2
    assert told in capsys.readouterr().err


def test_a_violation_is_told_made_smaller_and_can_be_had_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(routes, "quorum", lambda factor: max(1, factor // 2))
    monkeypatch.setattr("ourodb.sim.__main__.TRIES_MAX", 6)
    options = [
        "--workload",
        "register",
        "--nodes",
        "3",
        "--seconds",
        "2",
        "--quiet-seconds",
        "1",
        "--faults",
        "clock,cpu",
    ]
    assert main(["--seeds", "0..20", "--workers", "2", *options]) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[-1].startswith("verdict: VIOLATION runs=")
    assert told[-2].startswith("to go on: --seeds ")
    again = next(line for line in told if line.startswith("again: "))
    verdict = told[told.index(again) + 1]
    assert verdict.startswith("verdict: VIOLATION seed=")
    assert main([*again.split()[4:], "--no-story"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == verdict

    assert main([*again.split()[4:], "--shrink"]) == 1
    smaller = capsys.readouterr().out.splitlines()
    assert smaller[-2] != again
    assert smaller[-2].startswith(" ".join(again.split()[:6]))
    assert "starts, run 1" in smaller[0]
    assert main([*smaller[-2].split()[4:], "--no-story"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == smaller[-1]


# --- What a seed stands for ------------------------------------------------------------------------------------


def test_seeds_bring_every_workload_fault_and_layout() -> None:
    plans = [drawn(seed) for seed in range(400)]
    assert {plan.workload for plan in plans} == set(WORKLOADS)
    assert {kind for plan in plans for kind in plan.faults} == set(FAULTS)
    assert {plan.nodes for plan in plans} == {3, 4, 5, 6}
    assert {plan.data_centers for plan in plans} == {1, 2}
    assert {plan.racks for plan in plans} == {1, 2, 3}
    assert {plan.sync_period_ms is None for plan in plans} == {True, False}
    assert any(not plan.faults for plan in plans)
    local = [plan for plan in plans if plan.level == LOCAL_QUORUM]
    assert {plan.workload for plan in local} == set(TO_SIDES)
    assert {plan.data_centers for plan in local} == {2}
    assert {plan.nodes for plan in local} == {4, 5, 6}
    assert {plan.level for plan in plans if plan.data_centers == 2 and plan.workload in TO_SIDES} == {
        QUORUM, LOCAL_QUORUM
    }  # fmt: skip


def test_a_level_that_is_said_is_kept() -> None:
    for seed in range(50):
        plan = drawn(seed, level=LOCAL_QUORUM)
        assert plan.workload in TO_SIDES
        assert plan.data_centers == 2
        assert drawn(seed, level=QUORUM).level == QUORUM
    with pytest.raises(ValueError, match="at LOCAL_QUORUM there are"):
        drawn(1, workloads=["register"], level=LOCAL_QUORUM)


def test_nodes_that_sync_by_themselves_never_lose_their_power() -> None:
    """They lose what they acknowledged then, as they say they do."""
    assert set(HARMFUL_TO_UNSYNCED) <= set(FAULTS)
    assert {*HARMFUL_TO_UNSYNCED, *HARMLESS_TO_UNSYNCED} == set(FAULTS)
    for seed in range(200):
        assert set(drawn(seed, sync_period_ms=1_000).faults) <= set(HARMLESS_TO_UNSYNCED)


def test_what_is_said_leaves_the_rest_as_it_was() -> None:
    for seed in range(20):
        usual = drawn(seed)
        assert drawn(seed, nodes=7) == replace(usual, nodes=7)
        assert drawn(seed, workloads=[usual.workload]) == usual


def test_a_name_more_takes_some_draws_over_and_leaves_the_others() -> None:
    draws = [Chance.of_seed(seed) for seed in range(200)]
    before = [chance.bid(["a", "b", "c"]) for chance in draws]
    after = [chance.bid(["d", "c", "b", "a"]) for chance in draws]
    assert {one for one, other in zip(after, before, strict=True) if one != other} == {"d"}
    assert 20 < after.count("d") < 90


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"nodes": 4, "racks": 9, "clients": 7, "data_centers": 2, "seconds": 2.5, "quiet_seconds": 1.0},
        {"faults": ()},
        {"faults": ("kill", "flap")},
        {"faults": tuple(FAULTS), "strikes": (3, 5), "gap_ms_max": 700},
        {"strikes": (), "workload": "counter", "operations_min": 5, "success_percent_min": 50},
        {"sync_period_ms": 50},
        {"sync_period_ms": None},
        {"workload": "set", "level": "LOCAL_QUORUM", "data_centers": 2},
        {"workload": "monotonic", "level": "LOCAL_QUORUM", "data_centers": 1, "nodes": 5},
        {"workload": "register", "level": "QUORUM"},
    ],
)
def test_the_command_line_of_a_plan_means_that_plan(
    changes: dict[str, object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plans: list[Plan] = []
    monkeypatch.setattr("ourodb.sim.__main__.judged", lambda plan: plans.append(plan) or Verdict(plan))
    for seed in range(5):
        plan = replace(drawn(seed), **changes)  # type: ignore[arg-type]
        line = command(plan)
        assert line.startswith(f"python -m ourodb.sim --seed {seed}")
        main([*line.split()[3:], "--no-story"])
        assert plans.pop() == plan
        assert f"again: {line}" in capsys.readouterr().out


def test_a_verdict_is_told_with_all_that_counts() -> None:
    verdict = Verdict(drawn(1), problems=["oh"], struck={"kill": 2}, done={"read": 7}, calm=(9, 10))
    lines = told(verdict)
    assert "faults: kill 2" in lines
    assert "errors: none" in lines
    assert "expected to succeed: 10 operations; 9 did, 90.00 %" in lines
    assert "problem: oh" in lines
    assert "VIOLATION" in lines[-1]
    verdict.problems *= 500
    assert len(told(verdict)) < 40
    assert "problem: and 480 more" in told(verdict)


# --- The same everywhere ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", ["5", "6"])
def test_a_seed_gives_one_run_whatever_pythons_hash_seed(seed: str) -> None:
    told = [output_of("--seed", seed, "--seconds", "2", hash_seed=hash_seed) for hash_seed in ("0", "4711")]
    assert told[0] == told[1]
    assert told[0].splitlines()[-1].startswith(f"verdict: ok seed={seed} ")


def test_results_that_are_sets_are_told_in_one_order() -> None:
    """Their own order depends on PYTHONHASHSEED, and the trace has them."""
    history = History(lambda: 0)
    operation = history.invoke(1, "look", 0)
    history.complete(operation, Outcome.DONE, frozenset(f"c{number}" for number in range(9)))
    assert str(operation).endswith(f"-> {[f'c{number}' for number in range(9)]}")


def test_a_sweep_gives_one_trace_whatever_pythons_hash_seed_and_number_of_workers() -> None:
    options = ["--seeds", "20..24", "--seconds", "1.5", "--quiet-seconds", "1"]
    lines = [
        output_of(*options, "--workers", workers, hash_seed=hash_seed).splitlines()[-1]
        for workers, hash_seed in (("1", "0"), ("2", "4711"))
    ]
    assert lines[0] == lines[1]
    assert lines[0].startswith("verdict: ok runs=5 ")
