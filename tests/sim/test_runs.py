"""Whole runs, on toys: from a seed to a verdict.

If this fails, a failing seed can't be replayed, a cluster that is right is called wrong, or one that is wrong is called
right.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog
from tests.sim.toy import WORKLOADS, Bugs, build_toy, toy_world

from ourodb.cql.wire.codes import Consistency
from ourodb.errors import (
    CqlSyntaxError,
    InvalidRequest,
    ProtocolError,
    ServerError,
    StoreReadOnly,
    WriteTimeout,
)
from ourodb.sim.client import CqlClient
from ourodb.sim.faults.kinds import FAULTS, kinds_of
from ourodb.sim.faults.nemesis import Nemesis
from ourodb.sim.history import Outcome
from ourodb.sim.profiles import HARMLESS_TO_UNSYNCED
from ourodb.sim.run import NO_PROOF, TRIES_MIN, Plan, Verdict, run
from ourodb.sim.tasks import S
from ourodb.sim.workloads import WORKLOADS as ALL_WORKLOADS
from ourodb.sim.workloads import set as elements
from ourodb.sim.workloads.set import SetWorkload
from ourodb.sim.workloads.stage import NoAnswer, NotSent, Reply, Script, bigint, from_bigint

log = structlog.get_logger()

ALL = tuple(FAULTS)
MOVES = ("join", "leave", "copies", "death", "replace", "even")
"""Toys can't."""
NONSENSE = "SELECT nonsense"
NOBODY = 999
"""A process without a client."""
ROOT = Path(__file__).resolve().parents[2]


def short(seed: int, workload: str = "register", faults: tuple[str, ...] = ALL, **options: object) -> Plan:
    return Plan(seed, workload, seconds=5, quiet_seconds=2, clients=3, faults=faults, **options)  # type: ignore[arg-type]


def shown(verdict: Verdict) -> str:
    return "\n".join([*verdict.problems, verdict.line()])


# --- One seed, one run -----------------------------------------------------------------------------------------


def test_a_seed_gives_one_run_and_another_seed_another() -> None:
    first, again, other = (run(short(seed, story=True), build_toy(3)) for seed in (1, 1, 2))
    assert first.is_ok, shown(first)
    assert first.line() == again.line()
    assert first.story == again.story
    assert len(first.story) > 10
    assert first.trace != other.trace


def test_whether_the_story_is_told_makes_no_difference() -> None:
    assert run(short(3, story=True), build_toy(3)).trace == run(short(3), build_toy(3)).trace


def test_a_seed_gives_one_run_whatever_pythons_hash_seed() -> None:
    program = (
        "from tests.sim.test_runs import *\n"
        "for workload in WORKLOADS: print(run(short(5, workload), build_toy(3)).line())"
    )
    lines = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={
                **os.environ,
                "PYTHONHASHSEED": hash_seed,
                "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
            },
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("0", "4711")
    ]
    assert lines[0] == lines[1]
    assert lines[0].count("verdict: ok") == len(WORKLOADS), lines[0]


# --- What is right passes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("workload", sorted(WORKLOADS))
@pytest.mark.parametrize("seed", range(2))
def test_a_cluster_that_is_right_passes_under_all_faults(workload: str, seed: int) -> None:
    verdict = run(short(100 + seed, workload), build_toy(3))
    assert verdict.is_ok, shown(verdict)
    assert sum(verdict.struck.values()) > 0
    assert sum(verdict.done.values()) > 300


@pytest.mark.parametrize("fault", [fault for fault in ALL if fault not in MOVES])
def test_each_fault_alone_strikes_and_heals(fault: str) -> None:
    verdict = run(short(7, "register", (fault,)), build_toy(3))
    assert verdict.is_ok, shown(verdict)
    assert verdict.struck[fault] > 0


@pytest.mark.parametrize("fault", [fault for fault in HARMLESS_TO_UNSYNCED if fault not in MOVES])
def test_faults_that_are_called_harmless_lose_nothing_that_is_not_synced(fault: str) -> None:
    """Each of these toys acknowledges at once and syncs every three seconds."""
    for seed in range(2):
        plan = short(seed, "set", (fault,), sync_period_ms=3_000)
        verdict = run(plan, build_toy(3, Bugs(acknowledges_before_sync=True)))
        assert verdict.is_ok, shown(verdict)
        assert verdict.struck[fault] > 0


def test_two_data_centres() -> None:
    verdict = run(short(1, "set", data_centers=2, nodes=4), build_toy(4))
    assert verdict.is_ok, shown(verdict)


def test_the_nemesis_heals_all() -> None:
    world = toy_world(11, 5)
    nemesis = Nemesis(world, ALL)
    task = world.spawn(nemesis.run(world.loop.now_ns + 300 * S))
    assert world.run_until(lambda: task.is_kept, 600)
    assert len(nemesis.struck) > len(ALL) // 2
    for machine in world.machines:
        assert machine.is_powered
        assert machine.process is not None
        assert not machine.process.is_paused
        assert not machine.disk.conditions.is_full
    indexes = range(5)
    assert all(world.network.is_open(one, other) for one in indexes for other in indexes)
    with pytest.raises(ValueError, match="no fault is called 'flood'"):
        kinds_of("kill, flood")
    assert kinds_of("all") == ALL
    assert kinds_of("none") == ()


# --- What is wrong is found ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bug", "workload", "faults"),
    [
        ("quorum_off_by_one", "register", ()),
        ("quorum_off_by_one", "set", ALL),
        ("acknowledges_before_sync", "set", ("blackout",)),
        ("forgets_promises", "register", ()),
        ("reads_locally", "register", ("partition",)),
        ("reads_locally", "set", ("partition",)),
        ("reads_locally", "monotonic", ("partition",)),
        ("retries_unknown", "register", ()),
        ("retries_unknown", "counter", ()),
    ],
)
def test_a_mistake_is_found_within_a_few_seeds(bug: str, workload: str, faults: tuple[str, ...]) -> None:
    for seed in range(40):
        verdict = run(short(seed, workload, faults), build_toy(3, Bugs(**{bug: True})))
        if not verdict.is_ok:
            assert "VIOLATION" in verdict.line()
            return
    pytest.fail(f"{bug} was never found by {workload}")


def test_a_program_that_raises_fails_the_run() -> None:
    def build(machine, ports):  # type: ignore[no-untyped-def]
        toy = build_toy(3)(machine, ports)
        ports.scheduler.after(2_000, lambda: 1 // 0)
        return toy

    verdict = run(short(1, faults=()), build)
    assert any("ZeroDivisionError" in problem for problem in verdict.problems)


def test_a_program_that_says_that_it_cannot_start_is_started_again() -> None:
    tries = []

    def build(machine, ports):  # type: ignore[no-untyped-def]
        tries.append(machine.index)
        if len(tries) < 3:
            raise StoreReadOnly("not now")
        return build_toy(3)(machine, ports)

    verdict = run(short(1, "set", faults=(), story=True), build)
    assert verdict.is_ok, shown(verdict)
    assert tries == [0, 1, 2, 0, 1]
    assert sum("can't start: not now" in line for line in verdict.story) == 2


def test_a_bug_that_is_logged_fails_the_run() -> None:
    def complain() -> None:
        try:
            raise KeyError("oh")
        except KeyError:
            log.exception("internal error", what="x")

    def build(machine, ports):  # type: ignore[no-untyped-def]
        toy = build_toy(3)(machine, ports)
        ports.scheduler.after(2_000, complain)
        ports.scheduler.after(2_000, lambda: log.warning("nothing to worry about"))
        return toy

    verdict = run(short(1, faults=(), story=True), build)
    assert len(verdict.problems) == 3
    assert "node1 has a bug: internal error what=x" in "\n".join(verdict.problems)
    assert any("nothing to worry about" in line for line in verdict.story)


def test_a_run_in_which_nothing_succeeds_proves_nothing() -> None:
    def build(machine, ports):  # type: ignore[no-untyped-def]
        toy = build_toy(3)(machine, ports)
        toy.propose = lambda key, change, done: done(WriteTimeout(Consistency.QUORUM, 0, 2, "CAS"))
        return toy

    verdict = run(short(1, "counter", faults=()), build)
    assert not verdict.is_ok


@pytest.mark.parametrize(
    ("tries", "operations_min", "is_proof"), [(1, 0, True), (TRIES_MIN, 0, False), (1, 10, False)]
)
def test_what_was_hardly_tried_may_have_failed(
    monkeypatch: pytest.MonkeyPatch, tries: int, operations_min: int, is_proof: bool
) -> None:
    class RarelyWorkload(SetWorkload):
        """One kind of operation never succeeds, and could never be expected to."""

        name = "rarely"

        def run_client(self, number: int) -> Script[None]:
            history = self._stage.history
            for _ in range(tries * (number == 0)):
                history.complete(history.invoke(NOBODY, "rare", 0), Outcome.UNKNOWN)
            yield from super().run_client(number)

    monkeypatch.setitem(ALL_WORKLOADS, "rarely", RarelyWorkload)
    verdict = run(short(1, "rarely", faults=(), operations_min=operations_min), build_toy(3))
    assert verdict.is_ok == is_proof, shown(verdict)
    assert verdict.problems == (
        [] if is_proof else [f"{NO_PROOF}: no operation of the kind 'rare' succeeded"]
    )


def asking_nonsense(taken: Callable[[Reply], Outcome | None]) -> type[SetWorkload]:
    class NonsenseWorkload(SetWorkload):
        """Each client asks what nobody knows, and says what came of it; None: it asks for another thing first."""

        name = "nonsense"

        def run_client(self, number: int) -> Script[None]:
            client = self._stage.client(number)
            operation = self._stage.history.invoke(number, "nonsense", 0)
            reply = yield client.execute(NONSENSE)
            outcome = taken(reply)
            if outcome is None:
                yield client.execute(elements.LOOK_UP, (bigint(1),))
            self._stage.history.complete(operation, outcome or Outcome.DONE)
            yield from super().run_client(number)

    return NonsenseWorkload


@pytest.mark.parametrize(
    ("taken", "is_problem"),
    [
        (lambda reply: Outcome.DONE, False),
        (lambda reply: reply.outcome, True),
        (lambda reply: None, True),
    ],
)
def test_an_error_that_no_fault_explains_fails_the_run_unless_it_was_expected(
    monkeypatch: pytest.MonkeyPatch, taken: Callable[[Reply], Outcome | None], is_problem: bool
) -> None:
    monkeypatch.setitem(ALL_WORKLOADS, "nonsense", asking_nonsense(taken))
    verdict = run(short(1, "nonsense", faults=()), build_toy(3))
    violations = [problem for problem in verdict.problems if not problem.startswith(NO_PROOF)]
    told = f"an error that no fault explains: {NONSENSE}: InvalidRequest: I don't know: {NONSENSE} (3 times)"
    assert violations == [told] * is_problem


def test_errors_that_faults_explain() -> None:
    assert Reply().is_explained
    assert Reply(NoAnswer("the connection was lost")).is_explained
    assert Reply(StoreReadOnly("the disk is full")).is_explained
    assert Reply(ServerError("the storage engine failed: fsync: input/output error")).is_explained
    assert not Reply(ServerError("Internal error: KeyError; see the node's log")).is_explained
    for wrong in (InvalidRequest, CqlSyntaxError, ProtocolError):
        assert not Reply(wrong("it is wrong")).is_explained


def test_a_cluster_that_does_not_start_fails_the_run() -> None:
    def build(machine, ports):  # type: ignore[no-untyped-def]
        toy = build_toy(3)(machine, ports)
        toy.start = lambda: None
        return toy

    verdict = run(short(1), build)
    assert "not ready after" in verdict.problems[0]


# --- The client ------------------------------------------------------------------------------------------------


def test_a_client_prepares_once_and_decodes() -> None:
    world = toy_world(1)
    for version, compression in ((5, ""), (5, "lz4"), (4, ""), (3, "snappy")):
        client = CqlClient(world, world.machines[:1], version=version, compression=compression)
        reply = world.carry_out(_wait(client.execute(elements.INSERT, (bigint(1), bigint(2)))), 10)
        assert reply.error is None
        assert reply.rows == []
        reply = world.carry_out(_wait(client.execute(elements.LOOK_UP, (bigint(1),))), 10)
        assert reply.columns == ("id",)
        assert from_bigint(reply.cell("id")) == 1
        assert reply.cell("no such column") is None
        reply = world.carry_out(_wait(client.execute("SELECT nonsense")), 10)
        assert isinstance(reply.error, InvalidRequest)
        assert reply.outcome is Outcome.REFUSED
        assert client.wire is not None
        assert sorted(client.wire.prepared) == sorted([elements.INSERT, elements.LOOK_UP, "SELECT nonsense"])


def test_a_client_goes_to_another_node_when_its_own_dies() -> None:
    world = toy_world(1)
    client = CqlClient(world, world.machines, moves=False)
    world.carry_out(_wait(client.execute(elements.INSERT, (bigint(1), bigint(2)))), 10)
    assert client.wire is not None
    first = client.wire.machine
    promise = client.execute(elements.INSERT, (bigint(2), bigint(2)))
    first.kill()
    assert world.run_until(lambda: promise.is_kept, 1), "the client hears of it at once"
    assert isinstance(promise.value.error, NoAnswer)
    assert promise.value.outcome is Outcome.UNKNOWN
    reply = world.carry_out(_wait(client.execute(elements.INSERT, (bigint(3), bigint(2)))), 10)
    assert reply.error is None
    assert client.wire is not None
    assert client.wire.machine is not first


def test_a_client_gives_up_in_time_and_late_answers_harm_nobody() -> None:
    world = toy_world(1)
    client = CqlClient(world, world.machines[:1], moves=False)
    world.carry_out(_wait(client.execute(elements.INSERT, (bigint(1), bigint(2)))), 10)
    world.machines[0].pause()
    start_ns = world.loop.now_ns
    reply = world.carry_out(_wait(client.execute(elements.INSERT, (bigint(2), bigint(2)), timeout_s=0.5)), 10)
    assert isinstance(reply.error, NoAnswer)
    assert world.loop.now_ns - start_ns == S // 2
    world.machines[0].resume()
    world.run_for(1)
    reply = world.carry_out(_wait(client.execute(elements.LOOK_UP, (bigint(2),))), 10)
    assert reply.rows, "what the client gave up has happened"


def test_a_client_without_nodes_says_so() -> None:
    world = toy_world(1)
    for machine in world.machines:
        machine.kill()
    client = CqlClient(world, world.machines)
    reply = world.carry_out(_wait(client.execute(elements.LOOK_UP, (bigint(1),))), 60)
    assert isinstance(reply.error, NotSent)
    assert reply.outcome is Outcome.REFUSED
    for machine in world.machines:
        machine.lose_power()
    reply = world.carry_out(_wait(client.execute(elements.LOOK_UP, (bigint(1),))), 60)
    assert isinstance(reply.error, NotSent)


def test_a_session_is_closed_when_its_client_hangs_up() -> None:
    world = toy_world(1)
    sessions = []
    toy = world.machines[0].program
    open_session = toy.open_session
    toy.open_session = lambda *arguments: sessions.append(open_session(*arguments)) or sessions[-1]
    client = CqlClient(world, world.machines[:1])
    world.carry_out(_wait(client.execute(elements.INSERT, (bigint(1), bigint(2)))), 10)
    assert not sessions[0].is_closed
    client.close()
    world.run_for(0.1)
    assert sessions[0].is_closed


def _wait(promise):  # type: ignore[no-untyped-def]
    return (yield promise)
