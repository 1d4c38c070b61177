"""One run, from a seed to a verdict.

The machines start, the workload makes its tables, clients work while the nemesis strikes; then all is healed,
the cluster has a while to recover, the workload looks at what there is, and the checkers judge. A run in which
nothing succeeded proves nothing, and fails as well; so does one in which a program raises, or logs an
exception, or in which the healed cluster doesn't answer.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from ourodb.sim.chance import Chance
from ourodb.sim.checkers.availability import success_share
from ourodb.sim.checkers.linearizability import TooTangled
from ourodb.sim.client import CqlClient
from ourodb.sim.faults import Nemesis
from ourodb.sim.history import History, Operation, Outcome
from ourodb.sim.logs import captured
from ourodb.sim.machine import Build
from ourodb.sim.tasks import Promise, S
from ourodb.sim.trace import WORLD, Kind
from ourodb.sim.workloads import WORKLOADS
from ourodb.sim.workloads.stage import NeverDone, Script, Stage, Workload
from ourodb.sim.world import World

START_SECONDS_MAX = 120
SET_UP_SECONDS_MAX = 120
FINISH_SECONDS_MAX = 300
"""Of virtual time: for the machines to be ready, for the tables, for the last reads."""

GRACE_NS = 2 * S
"""So long after something broke or healed a cluster may fail to answer."""

Inspect = Callable[[World, Stage], Script[list[str]]]
"""Looks at the healed cluster from inside; gives what is wrong."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run.

    Attributes:
        seed: of all chance.
        workload: of ``WORKLOADS``.
        nodes, data_centers, clients: how many.
        seconds: of virtual time, with faults.
        quiet_seconds: after that, healed.
        faults: kinds, of ``faults.FAULTS``.
        sync_period_ms: the stores sync this often by themselves; None: only when asked.
        story: keep it.
    """

    seed: int
    workload: str = "register"
    nodes: int = 3
    data_centers: int = 1
    clients: int = 8
    seconds: float = 60
    quiet_seconds: float = 15
    faults: tuple[str, ...] = ()
    sync_period_ms: int | None = None
    story: bool = False


@dataclass(slots=True)
class Verdict:
    """What came of it.

    Attributes:
        problems: what was wrong. operations: by outcome. done: successes of each kind of operation. errors: by
        name. struck: faults by kind. calm: of the operations that were invoked while nothing had changed for
        ``GRACE_NS``: how many succeeded, how many
            there were.
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
    calm: tuple[int, int] = (0, 0)
    trace: str = ""
    events: int = 0
    virtual_seconds: float = 0
    story: list[str] = field(default_factory=list)

    @property
    def is_ok(self) -> bool:
        return not self.problems

    def line(self) -> str:
        """One line: the verdict, and what it takes to have it again."""
        counts = " ".join(f"{name}={count}" for name, count in sorted(self.operations.items()))
        return (
            f"verdict: {'ok' if self.is_ok else 'VIOLATION'} seed={self.plan.seed} workload={self.plan.workload}"
            f" nodes={self.plan.nodes} operations={sum(self.operations.values())} {counts} events={self.events}"
            f" trace={self.trace}"
        )


class SimStage:
    """Implements ``workloads.stage.Stage`` on a world."""

    def __init__(self, world: World) -> None:
        self.random: Chance = world.chance.child("workload")
        self.history = History(lambda: world.loop.now_ns)
        self.history.on_complete = self._tell
        self.replication_factor = min(3, len(world.machines))
        self.is_over = False
        self._world = world
        self._clients: dict[int, CqlClient] = {}

    def client(self, number: int) -> CqlClient:
        client = self._clients.get(number)
        if client is None:
            client = self._clients[number] = CqlClient(self._world, self._world.machines)
        return client

    def sleep(self, seconds: float) -> Promise[None]:
        return self._world.sleep(seconds)

    def _tell(self, operation: Operation) -> None:
        if operation.outcome is not Outcome.DONE:
            self._world.tell("client", f"{operation} {operation.error}")


def run(plan: Plan, build: Build, inspect: Inspect | None = None) -> Verdict:
    """Carry a plan out.

    Args:
        build: makes the programs of the machines.
        inspect: is called at the end.
    """
    world = World(plan.seed, story=plan.story)
    world.add_machines(plan.nodes, build, data_centers=plan.data_centers, sync_period_ms=plan.sync_period_ms)
    verdict = Verdict(plan)
    stage = SimStage(world)
    workload = WORKLOADS[plan.workload](stage)
    nemesis = Nemesis(world, plan.faults)
    with captured(world) as bugs:
        try:
            _play(world, plan, stage, workload, nemesis)
            verdict.problems += workload.problems()
            if inspect is not None:
                verdict.problems += world.carry_out(inspect(world, stage), FINISH_SECONDS_MAX)
        except (TimeoutError, NeverDone) as error:
            verdict.problems.append(f"the cluster doesn't get anywhere: {error}")
        except TooTangled as error:
            verdict.problems.append(f"the history can't be judged: {error}")
        except Exception:
            verdict.problems.append(f"something raised:\n{traceback.format_exc()}")
    verdict.problems += bugs
    history = stage.history
    verdict.done = history.done_by_kind()
    for kind, count in verdict.done.items():
        if not count:
            verdict.problems.append(f"nothing is proved: no operation of the kind '{kind}' succeeded")
    if not history.operations and not verdict.problems:
        verdict.problems.append("nothing is proved: there were no operations")
    verdict.operations = dict(history.counts())
    verdict.errors = dict(history.errors())
    verdict.struck = dict(nemesis.struck)
    verdict.calm = success_share(history, nemesis.disturbances_ns, GRACE_NS)
    for operation in history:
        # So that the hash also tells what clients concluded.
        world.trace.note(operation.completed_ns, WORLD, Kind.OPERATION, str(operation).encode())
    verdict.trace = world.trace.digest()
    verdict.events = world.loop.events
    verdict.virtual_seconds = world.loop.now_ns / S
    verdict.story = list(world.trace.lines or ())
    return verdict


def _play(world: World, plan: Plan, stage: SimStage, workload: Workload, nemesis: Nemesis) -> None:
    world.start(world.machines, START_SECONDS_MAX)
    world.tell("world", "all nodes are ready")
    world.carry_out(workload.set_up(), SET_UP_SECONDS_MAX)
    world.tell("world", "the tables are made")
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
    world.carry_out(workload.finish(), FINISH_SECONDS_MAX)
