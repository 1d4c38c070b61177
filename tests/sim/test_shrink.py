"""Failing runs made smaller.

If this fails, a run that is shrunk isn't the one that failed, or it stays as large as it was.
"""

from __future__ import annotations

from dataclasses import replace

from tests.sim.toy import Bugs, build_toy, toy_world

from ourodb.sim.faults.kinds import FAULTS
from ourodb.sim.faults.nemesis import Nemesis, Strike
from ourodb.sim.run import NO_PROOF, Plan, Verdict, run
from ourodb.sim.shrink import kinds_of_problems, shrink, thinned
from ourodb.sim.tasks import S

ALL = tuple(FAULTS)


def strikes(only: tuple[int, ...] | None, kinds: tuple[str, ...] = ALL) -> list[Strike]:
    world = toy_world(5, 5)
    nemesis = Nemesis(world, kinds, only=only)
    task = world.spawn(nemesis.run(world.loop.now_ns + 60 * S))
    assert world.run_until(lambda: task.is_kept, 200)
    return nemesis.strikes


def test_strikes_that_are_left_out_leave_the_others_as_they_were() -> None:
    every = strikes(None)
    assert len(every) > 8
    kept = every[::2]
    assert strikes(tuple(strike.number for strike in kept)) == kept
    assert strikes(()) == []


def test_a_kind_that_is_forbidden_changes_only_its_own_strikes() -> None:
    every = strikes(None)
    kind = every[0].kind
    others = [strike for strike in every if strike.kind != kind]
    numbers = tuple(strike.number for strike in others)
    assert strikes(numbers, tuple(name for name in ALL if name != kind)) == others


def test_the_smallest_run_that_fails_alike_is_found() -> None:
    def judge(plan: Plan) -> Verdict:
        numbers = range(12) if plan.strikes is None else plan.strikes
        struck = [Strike(number, number * S, ALL[number % 3]) for number in numbers if plan.faults]
        verdict = Verdict(plan, strikes=struck, struck={strike.kind: 1 for strike in struck})
        if {3, 7} <= {strike.number for strike in struck} and plan.clients >= 2 and plan.seconds >= 4:
            verdict.problems.append(f"client {plan.clients} saw {plan.seconds}")
        elif plan.clients == 1:
            verdict.problems.append("another problem")
        return verdict

    plan = Plan(1, nodes=5, data_centers=2, racks=2, clients=8, seconds=60, faults=ALL, sync_period_ms=1_000)
    failed = judge(plan)
    smallest = shrink(failed, judge)
    assert smallest.problems[0].startswith("client 2 saw 4.")
    assert smallest.plan == Plan(
        1, nodes=1, clients=2, seconds=smallest.plan.seconds, faults=(ALL[0], ALL[1]), strikes=(3, 7)
    )
    assert smallest.plan.seconds < 5
    assert shrink(failed, judge, tries_max=0) is failed


def test_thinning_tries_halves_first_and_single_ones_last() -> None:
    assert list(thinned((1, 2))) == [(1,), (2,)]
    assert list(thinned((1, 2, 3, 4))) == [
        *[(1, 2), (3, 4)],
        *[(1,), (2,), (3,), (4,)],
        *[(2, 3, 4), (1, 3, 4), (1, 2, 4), (1, 2, 3)],
    ]
    assert list(thinned((1,))) == []


def test_problems_of_one_kind_differ_in_numbers_and_names_alone() -> None:
    def kinds(*problems: str) -> frozenset[str]:
        return kinds_of_problems(Verdict(Plan(1), problems=list(problems)))

    assert kinds("key 5 went from 7 to 6 at 3.25 s") == kinds("key 1 went from 12 to 11 at 8.5 s")
    assert kinds("key 5 went back") != kinds("key 5 is gone")
    raised = "something raised:\nTraceback (most recent call last):\n  File {}, line {}\nKeyError: {}"
    assert kinds(raised.format("a", 1, "'x'")) == kinds(raised.format("b", 2, "'y'"))
    assert kinds(f"{NO_PROOF}: 3 of 400", "key 5 is gone") == kinds("key 4 is gone")
    assert kinds(f"{NO_PROOF}: 3 of 400") == kinds(f"{NO_PROOF}: 5 of 700")


def test_a_real_mistake_stays_in_the_smaller_run() -> None:
    def judge(plan: Plan) -> Verdict:
        return run(plan, build_toy(plan.nodes, Bugs(reads_locally=True)))

    plan = Plan(
        0, "set", nodes=3, clients=4, seconds=6, quiet_seconds=1, faults=("partition", "clock", "cpu")
    )
    failed = next(verdict for seed in range(40) if not (verdict := judge(replace(plan, seed=seed))).is_ok)
    smallest = shrink(failed, judge, tries_max=20)
    assert kinds_of_problems(smallest) & kinds_of_problems(failed)
    assert len(smallest.strikes) < len(failed.strikes) or smallest.plan.seconds < failed.plan.seconds
    assert judge(smallest.plan).line() == smallest.line()
