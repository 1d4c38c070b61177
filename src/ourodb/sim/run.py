"""One run, from a seed to a verdict.

The machines start, the workload makes its tables, clients work while the nemesis strikes; then all is healed,
the cluster has a while to recover, the workload looks at what there is, and the checkers judge. A run in which
a program raises, or logs an exception, or in which the healed cluster doesn't answer, fails as well. And so does one in
which a client gets an error that no fault explains, unless its workload takes that for a result.

So does a run that proves nothing, because the cluster was right by answering hardly anybody. Of the operations
that could be expected to succeed (``reach``) while nothing had just changed, at least ``success_percent_min``
must have; of every kind of operation that was tried often, or could be expected to succeed, some, while faults struck
and after; and a plan may ask for a number of operations in all.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ourodb.cql.wire.codes import Consistency
from ourodb.sim.chance import Chance
from ourodb.sim.checkers.availability import success_share, undisturbed
from ourodb.sim.checkers.linearizability import TooTangled
from ourodb.sim.client import CqlClient
from ourodb.sim.faults.nemesis import GAP_MS_MAX, Nemesis, Strike
from ourodb.sim.history import NEVER, History, Operation, Outcome
from ourodb.sim.logs import captured
from ourodb.sim.machine import HEAL_AFTER_S, Build, InvariantBroken, Machine
from ourodb.sim.reach import Reach
from ourodb.sim.tasks import Promise, S
from ourodb.sim.trace import WORLD, Kind
from ourodb.sim.workloads import WORKLOADS
from ourodb.sim.workloads.stage import NeverDone, Reply, Script, Stage, Workload
from ourodb.sim.world import World

START_SECONDS_MAX = 120
SET_UP_SECONDS_MAX = 120
FINISH_SECONDS_MAX = 300
"""Of virtual time: for the machines to be ready, for the tables, for the last reads."""

GRACE_NS = 2 * S
"""So long after something broke or healed a cluster may fail to answer."""

FLIGHT_NS = S // 2
"""An operation that was invoked so shortly before may be caught by it."""

EXPECTED_MIN = 100
"""Of fewer operations no share is taken; a plan that asks for a number of operations must have more."""

TRIES_MIN = 50
"""A kind of operation that was tried less often, in a phase or in all, may have failed every time."""

QUORUM, LOCAL_QUORUM = Consistency.QUORUM.name, Consistency.LOCAL_QUORUM.name

NO_PROOF = "nothing is proved"
"""With this begins a problem that is no violation: the run was too poor to find one."""

STRUCK = "while faults struck"
"""The phase in which there may be nothing to hope for."""

Inspect = Callable[[World, Stage], Script[list[str]]]
"""Looks at the healed cluster from inside; gives what is wrong."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run.

    Attributes:
        seed: of all chance.
        workload: of ``WORKLOADS``.
        nodes, data_centers, racks (in each), clients: how many.
        level: "QUORUM"; or "LOCAL_QUORUM", at which clients keep to one data centre each, for workloads that know how.
        seconds: of virtual time, with faults.
        quiet_seconds: after that, healed.
        faults: kinds, of ``faults.FAULTS``.
        strikes: numbers of the strikes that may strike; None: all.
        gap_ms_max: between the moments of two strikes.
        sync_period_ms: the stores sync this often by themselves; None: only when asked.
        heal_after_s: how long a node is down before the others give it up.
        success_percent_min: of the operations that could be expected to succeed.
        operations_min: fewer prove nothing.
        story: keep it.
    """

    seed: int
    workload: str = "register"
    nodes: int = 3
    data_centers: int = 1
    racks: int = 1
    clients: int = 8
    level: str = QUORUM
    seconds: float = 60
    quiet_seconds: float = 15
    faults: tuple[str, ...] = ()
    strikes: tuple[int, ...] | None = None
    gap_ms_max: int = GAP_MS_MAX
    sync_period_ms: int | None = None
    heal_after_s: int = HEAL_AFTER_S
    success_percent_min: int = 95
    operations_min: int = 0
    story: bool = False


@dataclass(slots=True)
class Verdict:
    """What came of it.

    Attributes:
        problems: what was wrong. operations: by outcome. done: successes of each kind of operation. errors: by
        name. struck: faults by kind. strikes: each of them. calm: of the operations that could be expected to
        succeed: how many did, how many there were.
        trace: hash of all that happened.
        events: of the kernel.
        virtual_seconds: how long the run was.
        story: its lines, if it was kept.
    """

    plan: Plan
    problems: list[str] = field(default_factory=list)
    operations: dict[str, int] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    struck: dict[str, int] = field(default_factory=dict)
    strikes: list[Strike] = field(default_factory=list)
    calm: tuple[int, int] = (0, 0)
    trace: str = ""
    events: int = 0
    virtual_seconds: float = 0
    story: list[str] = field(default_factory=list)

    @property
    def is_ok(self) -> bool:
        return not self.problems

    @property
    def success_percent(self) -> float:
        """Of the operations that could be expected to succeed; 100 if there were none."""
        succeeded, expected = self.calm
        return 100 * succeeded / expected if expected else 100.0

    def line(self) -> str:
        """One line: the verdict, and what it takes to have it again."""
        counts = " ".join(f"{name}={count}" for name, count in sorted(self.operations.items()))
        return (
            f"verdict: {'ok' if self.is_ok else 'VIOLATION'} seed={self.plan.seed} workload={self.plan.workload}"
            f" nodes={self.plan.nodes} operations={sum(self.operations.values())} {counts}"
            f" expected={self.calm[1]} succeeded={self.success_percent:.2f}% events={self.events}"
            f" trace={self.trace}"
        )


@dataclass(frozen=True, slots=True)
class WatchedClient:
    """Implements ``workloads.stage.Client``: whoever watches sees a reply before the workload does.

    Attributes:
        client: whose replies are watched.
        on_reply: is given statements and what they got.
    """

    client: CqlClient
    on_reply: Callable[[str, Reply], None]

    @property
    def coordinator(self) -> Machine | None:
        """See ``CqlClient``."""
        return self.client.coordinator

    def execute(self, statement: str, values: Sequence[bytes | None] = (), **options: Any) -> Promise[Reply]:
        promise = self.client.execute(statement, values, **options)
        promise.then(lambda reply: self.on_reply(statement, reply))
        return promise


class SimStage:
    """Implements ``workloads.stage.Stage`` on a world.

    A workload that expects an error which no fault explains, because its clients are in each other's way, takes it for
    a result: it completes its operation as done at once, when it is given that reply. Else the error is a problem.

    Attributes:
        reaches: one for each set of nodes that clients keep to.
    """

    def __init__(self, world: World, level: str = QUORUM) -> None:
        """
        Args:
            level: see ``Plan``.
        """
        self.random: Chance = world.chance.child("workload")
        self.history = History(lambda: world.loop.now_ns)
        self.history.on_complete = self._tell
        self.replication_factor = min(3, len(world.machines))
        self.is_over = False
        self._homes: list[Callable[[], Sequence[Machine]]] = [lambda: world.machines]
        self.data_centers: Mapping[str, int] = {}
        if level == LOCAL_QUORUM:
            names = sorted({machine.data_center for machine in world.machines})
            self._homes = [partial(_machines_in, world, name) for name in names]
            self.data_centers = {
                name: min(3, len(home())) for name, home in zip(names, self._homes, strict=True)
            }
        self.reaches = [Reach(world, min(3, len(home())), home) for home in self._homes]
        self._world = world
        self._clients: dict[int, CqlClient] = {}
        self._unexplained: Counter[str] = Counter()
        self._newest: tuple[int, str] | None = None
        """Who got the last of all replies, and what was wrong with it; None if nothing was, or that is known by now."""

    @property
    def problems(self) -> list[str]:
        """Errors that nothing explains, with their statements."""
        self._keep_newest()
        return [f"{told} ({count} times)" for told, count in self._unexplained.items()]

    def client(self, number: int) -> WatchedClient:
        client = self._clients.get(number)
        if client is None:
            home = self._homes[number % len(self._homes)]
            client = self._clients[number] = CqlClient(self._world, home())
        return WatchedClient(client, lambda statement, reply: self._look(number, statement, reply))

    def sleep(self, seconds: float) -> Promise[None]:
        return self._world.sleep(seconds)

    def _look(self, number: int, statement: str, reply: Reply) -> None:
        self._keep_newest()
        if not reply.is_explained:
            name = type(reply.error).__name__
            self._newest = number, f"an error that no fault explains: {statement}: {name}: {reply.error}"

    def _keep_newest(self) -> None:
        if self._newest is not None:
            self._unexplained[self._newest[1]] += 1
            self._newest = None

    def _tell(self, operation: Operation) -> None:
        if operation.outcome is Outcome.DONE and self._newest and self._newest[0] == operation.process:
            self._newest = None
        client = self._clients.get(operation.process)
        if client is not None:
            reach = self.reaches[operation.process % len(self.reaches)]
            needs_all = client.consistency == Consistency.ALL
            reach.on_complete(operation, client.place, client.coordinator, needs_all=needs_all)
        if operation.outcome is not Outcome.DONE:
            self._world.tell("client", f"{operation} {operation.error}")


def run(plan: Plan, build: Build, inspect: Inspect | None = None) -> Verdict:
    """Carry a plan out.

    Args:
        build: makes the programs of the machines.
        inspect: is called at the end.
    """
    world = World(plan.seed, story=plan.story)
    world.add_machines(
        plan.nodes,
        build,
        data_centers=plan.data_centers,
        racks=plan.racks,
        sync_period_ms=plan.sync_period_ms,
    )
    for machine in world.machines:
        machine.heal_after_s = plan.heal_after_s
    verdict = Verdict(plan)
    stage = SimStage(world, plan.level)
    workload = WORKLOADS[plan.workload](stage)
    nemesis = Nemesis(world, plan.faults, only=plan.strikes, gap_ms_max=plan.gap_ms_max)
    with captured(world) as bugs:
        try:
            _play(world, plan, stage, workload, nemesis, verdict.problems)
            verdict.problems += workload.problems()
            if inspect is not None:
                verdict.problems += world.carry_out(inspect(world, stage), FINISH_SECONDS_MAX)
        except (TimeoutError, NeverDone) as error:
            verdict.problems.append(f"the cluster doesn't get anywhere: {error}")
        except InvariantBroken as error:
            verdict.problems.append(f"an invariant is broken: {error}")
        except TooTangled as error:
            verdict.problems.append(f"the history can't be judged: {error}")
        except Exception:
            verdict.problems.append(f"something raised:\n{traceback.format_exc()}")
    verdict.problems += stage.problems
    verdict.problems += bugs
    history = stage.history
    verdict.done = history.done_by_kind()
    verdict.operations = dict(history.counts())
    verdict.errors = dict(history.errors())
    verdict.struck = nemesis.struck
    verdict.strikes = nemesis.strikes
    changes_ns = sorted(
        [*nemesis.disturbances_ns, *(at for reach in stage.reaches for at in reach.changes_ns)]
    )
    expected = [operation for reach in stage.reaches for operation in reach.expected]
    verdict.calm = success_share(expected, changes_ns, GRACE_NS, FLIGHT_NS)
    hopeful = list(undisturbed(expected, changes_ns, GRACE_NS, FLIGHT_NS))
    verdict.problems += _too_poor(verdict, history, hopeful, nemesis.disturbances_ns)
    for operation in history:
        # So that the hash also tells what clients concluded.
        world.trace.note(operation.completed_ns, WORLD, Kind.OPERATION, str(operation).encode())
    verdict.trace = world.trace.digest()
    verdict.events = world.loop.events
    verdict.virtual_seconds = world.loop.now_ns / S
    verdict.story = list(world.trace.lines or ())
    return verdict


def _machines_in(world: World, data_center: str) -> list[Machine]:
    return [machine for machine in world.machines if machine.data_center == data_center]


def _too_poor(
    verdict: Verdict, history: History, hopeful: Sequence[Operation], disturbances_ns: Sequence[int]
) -> list[str]:
    """Why a run proves nothing, if so.

    Args:
        hopeful: the operations that could be expected to succeed, as nothing had just changed either. While faults
            struck there may be none in a run that isn't asked for a number of operations.
    """
    plan = verdict.plan
    tries = Counter(operation.kind for operation in history)
    hopes = Counter(operation.kind for operation in hopeful)
    problems = [
        f"{NO_PROOF}: no operation of the kind '{kind}' succeeded"
        for kind, count in verdict.done.items()
        if not count and (hopes[kind] or tries[kind] >= TRIES_MIN or plan.operations_min)
    ]
    operations = len(history)
    if not operations and not verdict.problems:
        problems.append(f"{NO_PROOF}: there were no operations")
    if operations < plan.operations_min:
        problems.append(f"{NO_PROOF}: {operations} operations are fewer than {plan.operations_min}")
    succeeded, expected = verdict.calm
    if expected < EXPECTED_MIN:
        if plan.operations_min:
            problems.append(f"{NO_PROOF}: only {expected} operations could be expected to succeed")
    elif succeeded * 100 < expected * plan.success_percent_min:
        problems.append(
            f"{NO_PROOF}: {succeeded} of {expected} operations that could be expected to succeed did,"
            f" {verdict.success_percent:.2f} %"
        )
    first_ns, last_ns = (disturbances_ns[0], disturbances_ns[-1]) if disturbances_ns else (NEVER, NEVER)
    phases = {
        "before the first fault": (0, first_ns),
        STRUCK: (first_ns, last_ns),
        "after the last fault": (last_ns + GRACE_NS, NEVER),
    }
    for phase, (start_ns, end_ns) in phases.items():
        of_phase = [operation for operation in history if start_ns <= operation.invoked_ns < end_ns]
        tries = Counter(operation.kind for operation in of_phase)
        done = Counter(operation.kind for operation in of_phase if operation.outcome is Outcome.DONE)
        hopes = Counter(operation.kind for operation in hopeful if start_ns <= operation.invoked_ns < end_ns)
        problems += [
            f"{NO_PROOF}: none of {count} operations of the kind '{kind}' succeeded {phase}"
            for kind, count in tries.items()
            if count >= TRIES_MIN
            and not done[kind]
            and verdict.done[kind]
            and (hopes[kind] or plan.operations_min or phase != STRUCK)
        ]
    return problems


def _play(
    world: World, plan: Plan, stage: SimStage, workload: Workload, nemesis: Nemesis, problems: list[str]
) -> None:
    world.start(world.machines, START_SECONDS_MAX)
    world.tell("world", "all nodes are ready")
    world.carry_out(workload.set_up(), SET_UP_SECONDS_MAX)
    world.tell("world", "the tables are made")
    for reach in stage.reaches:
        reach.watch()
    until_ns = world.loop.now_ns + round(plan.seconds * S)
    clients = [world.spawn(workload.run_client(number)) for number in range(plan.clients)]
    faults = world.spawn(nemesis.run(until_ns))
    world.loop.run_until(until_ns)
    world.run_until(lambda: faults.is_kept, FINISH_SECONDS_MAX)
    world.tell("world", "all is healed")
    world.run_for(plan.quiet_seconds)
    stage.is_over = True
    if not world.run_until(lambda: all(client.is_kept for client in clients), FINISH_SECONDS_MAX):
        raise TimeoutError("clients don't come to an end")
    witness = world.machines[0].witness
    if witness is not None:
        problems += world.carry_out(witness.on_healed(), FINISH_SECONDS_MAX)
    world.carry_out(workload.finish(), FINISH_SECONDS_MAX)
