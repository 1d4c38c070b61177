"""When a cluster can be expected to answer.

If this fails, runs in which hardly anything succeeds pass, or clusters are blamed that nobody could have made answer.
"""

from __future__ import annotations

import pytest
from tests.sim.toy import build_toy, toy_world

from ourodb.cql.wire.codes import Consistency
from ourodb.errors import WriteTimeout
from ourodb.sim.checkers.availability import success_share
from ourodb.sim.faults.paths import between
from ourodb.sim.history import History, Outcome
from ourodb.sim.reach import Reach, core_of
from ourodb.sim.run import NO_PROOF, Plan, run
from ourodb.sim.world import World


@pytest.fixture
def world() -> World:
    return toy_world(1, 5)


def core(world: World, missing_max: int = 1) -> tuple[int, ...]:
    return core_of(world.machines, world.network, missing_max)


def test_all_are_the_core_of_a_cluster_that_is_well(world: World) -> None:
    assert core(world) == (0, 1, 2, 3, 4)
    assert core(world, 0) == (0, 1, 2, 3, 4)


@pytest.mark.parametrize("harm", ["kill", "lose_power", "pause", "is_full", "fails_syncs", "slow", "refuses"])
def test_a_machine_that_is_unsound_is_left_out_and_two_are_too_many(world: World, harm: str) -> None:
    def do(index: int) -> None:
        machine = world.machines[index]
        assert machine.process is not None
        if harm == "slow":
            machine.process.slowness = 50
        elif harm == "refuses":
            machine.disk.conditions.refuses_settle_one_in = 10
        elif harm in ("is_full", "fails_syncs"):
            setattr(machine.disk.conditions, harm, True)
        else:
            getattr(machine, harm)()

    do(2)
    assert core(world) == (0, 1, 3, 4)
    assert core(world, 0) == ()
    do(4)
    assert core(world) == ()


def test_the_core_hears_each_other_both_ways(world: World) -> None:
    one_way = [(3, 0), (3, 1)]
    world.network.cut(one_way)
    assert core(world) == (0, 1, 2, 4)
    world.network.heal(one_way)
    halves = between([0, 1], [2, 3, 4])
    world.network.cut(halves)
    assert core(world) == ()
    world.network.heal(halves)
    alone = between([4], [0, 1, 2, 3])
    world.network.cut(alone)
    assert core(world) == (0, 1, 2, 3)
    world.machines[4].kill()
    assert core(world) == (0, 1, 2, 3)
    world.machines[1].kill()
    assert core(world) == ()


def test_operations_are_expected_of_the_core_alone(world: World) -> None:
    history, reach = History(lambda: world.loop.now_ns), Reach(world, 3, lambda: world.machines)

    client, other = world.new_place(), world.new_place()

    def ask(coordinator: int | None, place: int = client, needs_all: bool = False) -> bool:
        operation = history.invoke(1, "read", 1)
        history.complete(operation, Outcome.DONE)
        before = len(reach.expected)
        asked = None if coordinator is None else world.machines[coordinator]
        reach.on_complete(operation, place, asked, needs_all=needs_all)
        return len(reach.expected) > before

    assert not ask(0), "nobody has looked yet"
    reach.watch()
    assert ask(0)
    assert ask(None)
    assert ask(0, needs_all=True)
    world.network.cut(between([0], [1, 2, 3, 4]))
    world.run_for(1)
    assert not ask(0)
    assert ask(1)
    assert not ask(1, needs_all=True)
    assert ask(None), "a client that can reach nobody should have reached the core"
    world.network.cut([(2, client)])
    world.run_for(1)
    assert not ask(2)
    assert ask(1)
    assert ask(None)
    assert ask(2, other)
    world.network.cut([(client, 1), (client, 3), (client, 4)])
    world.run_for(1)
    assert not ask(None)
    assert ask(None, other)
    world.machines[1].kill()
    world.run_for(1)
    assert not ask(2, other)
    assert not ask(None, other)
    assert len(reach.changes_ns) == 5


def test_who_has_come_since_counts_as_well(world: World) -> None:
    """Of two copies one may be on it, and then its death is a quorum's."""
    history, present = History(lambda: world.loop.now_ns), world.machines[:2]
    reach = Reach(world, 2, lambda: present)
    reach.watch()

    def ask() -> bool:
        operation = history.invoke(1, "read", 1)
        history.complete(operation, Outcome.DONE)
        before = len(reach.expected)
        reach.on_complete(operation, world.new_place(), present[0])
        return len(reach.expected) > before

    assert ask()
    present.append(world.machines[2])
    world.run_for(1)
    assert ask()
    world.machines[2].kill()
    world.run_for(1)
    assert not ask()


def test_what_is_caught_by_a_change_does_not_count() -> None:
    history = History(lambda: now_ns)
    for now_ns in range(0, 100, 10):
        operation = history.invoke(1, "read", 1)
        history.complete(operation, Outcome.DONE if now_ns != 50 else Outcome.UNKNOWN)
    assert success_share(history, [], 20) == (9, 10)
    assert success_share(history, [51], 20) == (7, 8)
    assert success_share(history, [51], 20, flight_ns=2) == (7, 7)
    assert success_share(history, [51], 20, flight_ns=22) == (5, 5)


# --- What a run makes of it ------------------------------------------------------------------------------------


def test_a_run_in_which_one_operation_in_ten_fails_proves_nothing() -> None:
    def build(machine, ports):  # type: ignore[no-untyped-def]
        toy = build_toy(3)(machine, ports)
        propose = toy.propose

        def often(key, change, done):  # type: ignore[no-untyped-def]
            if ports.random.below(10) == 0:
                done(WriteTimeout(Consistency.QUORUM, 0, 2, "CAS"))
            else:
                propose(key, change, done)

        toy.propose = often
        return toy

    plan = Plan(1, "set", seconds=4, quiet_seconds=1, clients=3)
    verdict = run(plan, build)
    assert [problem.split(":")[0] for problem in verdict.problems] == [NO_PROOF]
    assert 80 < verdict.success_percent < 95
    lenient = run(Plan(1, "set", seconds=4, quiet_seconds=1, clients=3, success_percent_min=50), build)
    assert lenient.is_ok, lenient.problems


def test_a_run_without_enough_operations_proves_nothing() -> None:
    plan = Plan(1, "set", seconds=1, quiet_seconds=1, clients=1, operations_min=100_000)
    verdict = run(plan, build_toy(3))
    operations, (_, expected) = sum(verdict.operations.values()), verdict.calm
    assert verdict.problems == [
        f"{NO_PROOF}: {operations} operations are fewer than 100000",
        f"{NO_PROOF}: only {expected} operations could be expected to succeed",
    ]


def test_a_kind_of_operation_that_never_succeeds_in_a_phase_proves_nothing() -> None:
    """Here inserts, from half of the time on: what they tell their client is nothing."""

    def build(machine, ports):  # type: ignore[no-untyped-def]
        toy = build_toy(3)(machine, ports)
        propose = toy.propose

        def at_first(key, change, done):  # type: ignore[no-untyped-def]
            if machine.world.loop.now_ns > 4_000_000_000 and change(None)[1] is None:
                done(WriteTimeout(Consistency.QUORUM, 0, 2, "CAS"))
            else:
                propose(key, change, done)

        toy.propose = at_first
        return toy

    plan = Plan(1, "set", seconds=5, quiet_seconds=5, clients=4, faults=("clock",), success_percent_min=0)
    verdict = run(plan, build)
    assert any("of the kind 'insert' succeeded after the last" in problem for problem in verdict.problems), (
        verdict.problems
    )
