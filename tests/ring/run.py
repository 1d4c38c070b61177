"""A run under faults: workloads play on a ring while nodes are killed, stopped, cut off, or told another time.

A run goes on until every fault has struck and enough operations were counted. Afterwards everything is healed, the
workloads look at what there is, and all replicas are compared. ``Run.problems`` says what was wrong, and what makes a
run worthless: consistency is easy for a cluster that answers nobody.

Faults come in the order and strike the nodes that the seed says; when things happen to the millisecond is up to the
machine, so the same seed gives a similar run, not the same.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cassandra import ConsistencyLevel
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Session
from cassandra.query import SimpleStatement, tuple_factory
from tests.nodes import NodeProcess
from tests.ring.ring import Ring, connect, connect_to, profile

from ourodb.sim.chance import Chance
from ourodb.sim.checkers.availability import silent_seconds, success_share
from ourodb.sim.history import Operation, Outcome
from ourodb.sim.workloads.stage import KEYSPACE, Script, Workload
from ourodb.testing.stage import Pause, Player, RingStage

IS_FULL = bool(os.environ.get("OURO_FULL"))
OPERATIONS_MIN = 50_000 if IS_FULL else 10_000
FAULT_SECONDS = 5.0
CALM_SECONDS = 2.0
RUN_SECONDS_MAX = 1_200 if IS_FULL else 150
"""A run that hasn't got its operations by then is over."""
TEST_SECONDS_MAX = RUN_SECONDS_MAX + 150
"""With all that comes before and after it."""

EQUAL_SECONDS_MAX = 30
REQUEST_SECONDS_MAX = 0.8
"""Clients that want to go on within a second wait for less."""
LAST_LOOK_SECONDS_MAX = 10
"""The same once nobody hurries any more."""
GRACE_NS = 2_000_000_000
SUCCESS_SHARE_MIN = 0.95
SECOND_NS = 1_000_000_000
WATCHED = {
    "reads": {"monotonic": ["read"], "set": ["look up"], "deletion": ["look for"]},
    "writes": {"monotonic": ["write"], "set": ["insert"], "deletion": ["put", "delete"]},
}
"""By workload, what must go on at QUORUM in every second."""
RARE = {"table scan"}
"""What needn't succeed in every phase: a scan waits until no write is under way, and some phases are short."""
SOMETIMES_AT_ALL = {"table read", "table write"}
"""Nor these while somebody is gone: a third of the random tables are written at ALL."""


def seed_of_run() -> int:
    """``OURO_SEED``, or one that no run had yet."""
    return int(os.environ.get("OURO_SEED") or time.time_ns() % 1_000_000)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that happens to a node.

    Attributes:
        strike, heal: do it, undo it.
    """

    name: str
    strike: Callable[[NodeProcess], None]
    heal: Callable[[NodeProcess], None]


@dataclass(slots=True)
class Phase:
    """A part of a run; ``end_ns`` counts when it is over."""

    name: str
    is_fault: bool
    start_ns: int
    end_ns: int = 0


KILL = Fault("kill", NodeProcess.kill, NodeProcess.launch)
PAUSE = Fault("pause", NodeProcess.pause, NodeProcess.resume)


def cut_off(ring: Ring) -> Fault:
    """Off from the other nodes and from the clients."""
    network = ring.network
    assert network is not None
    return Fault("cut", lambda node: network.isolate(node.host), lambda node: network.heal())


def half_cut_off(ring: Ring) -> Fault:
    """It hears nobody, and what it says arrives."""
    network = ring.network
    assert network is not None

    def strike(node: NodeProcess) -> None:
        network.cut([*network.hosts, network.client], [node.host], one_way=True)

    return Fault("half a cut", strike, lambda node: network.heal())


def link_cut(ring: Ring) -> Fault:
    """From the next node only: both still reach the third one, and clients reach all."""
    network = ring.network
    assert network is not None

    def strike(node: NodeProcess) -> None:
        other = ring.nodes[ring.nodes.index(node) - 1]
        network.split([node.host], [other.host])

    return Fault("a link", strike, lambda node: network.heal())


class Run:
    """One run.

    Attributes:
        phases: it went through so far.
    """

    def __init__(self, ring: Ring, seed: int, faults: Sequence[Fault]) -> None:
        self.ring = ring
        self.seed = seed
        self.faults = faults
        self.phases: list[Phase] = []
        self._operations_min = 0
        chance = Chance.of_seed(seed)
        self._chance = chance
        self.session = workload_session(ring)
        self.player = Player(self.session)
        self.stages: dict[str, RingStage] = {}
        self.workloads: list[Workload] = []
        self._clients: list[Script[None]] = []
        print(f"OURO_SEED={seed}")

    def play(
        self,
        crews: Sequence[tuple[type[Any], int]],
        operations_min: int = OPERATIONS_MIN,
    ) -> None:
        """All of it: make tables, let faults strike while clients work, heal, look at the outcome.

        Args:
            crews: workloads, and how many clients each has.
            operations_min: the run goes on until so many were counted.
        """
        player = self.player
        self._operations_min = operations_min
        clients = self._clients
        for make, count in crews:
            name = make.name
            stage = self.stages[name] = RingStage(player, self._chance.child(name))
            workload = make(stage)
            self.workloads.append(workload)
            player.play([workload.set_up()])
            clients += [workload.run_client(number) for number in range(1, count + 1)]
        player.play([*clients, self._let_faults_strike(operations_min)])
        self.ring.wait_until_whole()
        # All rows are read, of some tables by one statement.
        self.session.get_execution_profile(EXEC_PROFILE_DEFAULT).request_timeout = LAST_LOOK_SECONDS_MAX
        player.play([workload.finish() for workload in self.workloads])

    @property
    def operation_count(self) -> int:
        return sum(len(stage.history) for stage in self.stages.values())

    def _operations(self) -> Iterator[Operation]:
        return (operation for stage in self.stages.values() for operation in stage.history)

    def close(self) -> None:
        self.session.cluster.shutdown()

    def problems(self, *, quorum_is_up: bool = True) -> list[str]:
        """What was wrong; empty when all was right and the run proves it.

        Args:
            quorum_is_up: the faults left a quorum of every replica set in touch, so clients had to be served.
        """
        found = [problem for workload in self.workloads for problem in workload.problems()]
        if quorum_is_up:
            found += self._unavailability()
        return [*found, *self._too_little(), *self._lasting_differences()]

    def _lasting_differences(self) -> list[str]:
        """A batch that was left half done may still be on its way, so what differs gets a while to become equal.

        A write whose coordinator was killed in its midst may have come to some replicas, and nobody has a hint for the
        others: they are made equal by whoever reads it.
        """
        tables = tables_of(self.session)
        deadline = time.monotonic() + EQUAL_SECONDS_MAX
        while found := differences(self.ring, tables):
            if time.monotonic() > deadline:
                break
            time.sleep(1)
        if found and self._has_killed():
            for table in tables:
                list(
                    self.session.execute(
                        SimpleStatement(
                            f"SELECT * FROM {table}", consistency_level=ConsistencyLevel.ALL, fetch_size=500
                        )
                    )
                )
            found = differences(self.ring, tables)
        return found

    def _has_killed(self) -> bool:
        return any("kill" in fault.name for fault in self.faults)

    def story(self) -> str:
        """What happened, for people."""
        start_ns = self.phases[0].start_ns
        lines = [f"seed {self.seed}: {self.operation_count} operations"]
        for name, stage in self.stages.items():
            lines.append(f"{name}: {dict(stage.history.counts())}, errors {dict(stage.history.errors())}")
        for phase in self.phases:
            done, tried = self._in_phase(phase)
            lines.append(
                f"{(phase.start_ns - start_ns) / 1e9:7.2f} s, {(phase.end_ns - phase.start_ns) / 1e9:5.2f} s long:"
                f" {phase.name:24} {sum(done.values())} of {sum(tried.values())}"
                f" { ({kind: (done.get(kind, 0), count) for kind, count in tried.items()}) }"
            )
        return "\n".join(lines)

    # What happens

    def _let_faults_strike(self, operations_min: int) -> Script[None]:
        player, chance = self.player, self._chance.child("faults")
        deadline = time.monotonic() + RUN_SECONDS_MAX
        self._begin("before any fault", is_fault=False)
        yield Pause(CALM_SECONDS)
        struck = 0
        order: list[Fault] = []
        while (
            struck < len(self.faults) or self.operation_count < operations_min
        ) and time.monotonic() < deadline:
            if not order:
                order = shuffled(chance, self.faults)
            fault = order.pop()
            victim = self.ring.nodes[chance.below(len(self.ring.nodes))]
            self._begin(f"{fault.name} {victim.host}", is_fault=True)
            fault.strike(victim)
            struck += 1
            yield Pause(FAULT_SECONDS)
            self._begin(f"after {fault.name}", is_fault=False)
            fault.heal(victim)
            while not self.ring.is_whole():
                yield Pause(0.2)
                assert time.monotonic() < deadline, f"not whole after {fault.name} {victim.host}"
            yield Pause(CALM_SECONDS)
        self.phases[-1].end_ns = time.monotonic_ns()
        player.is_over = True

    def _begin(self, name: str, *, is_fault: bool) -> None:
        now_ns = time.monotonic_ns()
        if self.phases:
            self.phases[-1].end_ns = now_ns
        self.phases.append(Phase(name, is_fault, now_ns))

    # What was wrong

    def _too_little(self) -> Iterator[str]:
        """What makes a run worthless whatever its faults."""
        if self.operation_count < self._operations_min:
            yield f"{self.operation_count} operations only"
        for phase in self.phases:
            if not phase.is_fault:
                yield from self._kinds_without_success(phase)

    def _kinds_without_success(self, phase: Phase) -> Iterator[str]:
        end_ns = self.phases[-1].end_ns
        kinds = {
            f"{name} {one.kind}"
            for name, stage in self.stages.items()
            for one in stage.history
            if one.invoked_ns < end_ns
        }
        done, _ = self._in_phase(phase)
        for kind in sorted(kinds):
            if not done.get(kind) and kind not in RARE and not (phase.is_fault and kind in SOMETIMES_AT_ALL):
                yield f"no {kind} succeeded in the phase {phase.name}"

    def _unavailability(self) -> Iterator[str]:
        history = sorted(self._operations(), key=lambda one: one.invoked_ns)
        faults_ns = [phase.start_ns for phase in self.phases if phase.is_fault]
        succeeded, counted = success_share(history, faults_ns, GRACE_NS)
        if succeeded < SUCCESS_SHARE_MIN * counted:
            yield f"{succeeded} of {counted} succeeded outside the two seconds after faults"
        for number, phase in enumerate(self.phases):
            if phase.is_fault:
                yield from self._kinds_without_success(phase)
                healed = self.phases[number + 1]
                for what, watched in WATCHED.items():
                    operations = [
                        one
                        for name, stage in self.stages.items()
                        for one in stage.history
                        if one.kind in watched.get(name, ())
                    ]
                    silent = silent_seconds(operations, phase.start_ns + SECOND_NS, healed.end_ns)
                    if silent:
                        seconds = [second + 1 for second in silent]
                        yield f"{phase.name}: no {what} in these seconds after it: {seconds}"

    def _in_phase(self, phase: Phase) -> tuple[dict[str, int], dict[str, int]]:
        """Successes and attempts by workload and kind."""
        done: dict[str, int] = {}
        tried: dict[str, int] = {}
        for name, stage in self.stages.items():
            for one in stage.history:
                if phase.start_ns <= one.invoked_ns < phase.end_ns:
                    kind = f"{name} {one.kind}"
                    tried[kind] = tried.get(kind, 0) + 1
                    done[kind] = done.get(kind, 0) + (one.outcome is Outcome.DONE)
        return done, tried


def workload_session(ring: Ring) -> Session:
    """A session for workloads: nothing is tried twice, and nobody waits long."""
    impatient = profile(request_timeout=REQUEST_SECONDS_MAX, row_factory=tuple_factory)
    return connect(ring.nodes, execution_profiles={EXEC_PROFILE_DEFAULT: impatient})


def shuffled(chance: Chance, faults: Sequence[Fault]) -> list[Fault]:
    left = list(faults)
    order = []
    while left:
        order.append(left.pop(chance.below(len(left))))
    return order


def tables_of(session: Session) -> list[str]:
    """Those that workloads have made."""
    rows = session.execute(f"SELECT table_name FROM system_schema.tables WHERE keyspace_name = '{KEYSPACE}'")
    # The player's session gives bytes.
    return [f"{KEYSPACE}.{row[0].decode()}" for row in rows]


def differences(ring: Ring, tables: Sequence[str]) -> list[str]:
    """Where nodes differ when each is asked for what it has itself, all replicas of everything being on all nodes."""
    problems = []
    contents: dict[str, dict[str, dict[object, str]]] = {table: {} for table in tables}
    for node in ring.nodes:
        session = connect_to(node)
        try:
            for table in tables:
                statement = SimpleStatement(
                    f"SELECT * FROM {table}", consistency_level=ConsistencyLevel.ONE, fetch_size=500
                )
                partitions: dict[object, str] = {}
                for row in session.execute(statement):
                    partitions[row[0]] = partitions.get(row[0], "") + repr(tuple(row))
                contents[table][node.host] = partitions
        finally:
            session.cluster.shutdown()
    for table, by_host in contents.items():
        keys = {key for rows in by_host.values() for key in rows}
        different = [key for key in keys if len({rows.get(key) for rows in by_host.values()}) > 1]
        problems += [
            f"replicas of {table} differ in {key}: { {host: rows.get(key) for host, rows in by_host.items()} }"
            for key in different[:5]
        ]
        if len(different) > 5:
            problems.append(f"and in {len(different) - 5} more")
    return problems
