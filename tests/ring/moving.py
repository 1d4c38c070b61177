"""Runs in which nodes come and go while workloads play: in a sequence of their own, or disturbed in the middle.

Every answer is checked, that of reads at ONE included (``bulk``); clients may see timeouts and nothing worse, and no
second may pass without successes but the one after a node was killed or stopped.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from tests.nodes import NodeProcess
from tests.ring.bulk import BulkWorkload
from tests.ring.ring import Ring
from tests.ring.run import IS_FULL, SECOND_NS, WATCHED, Run, seed_of_run

from ourodb.limits import REBALANCE_RATIO_MAX
from ourodb.sim.checkers.availability import silent_seconds
from ourodb.sim.workloads.stage import Script
from ourodb.testing.stage import Pause, RingStage

MOVE_SECONDS_MAX = 120
"""An operation ends within that, whatever happens in the middle of it."""

BULK_CLIENTS = 6
STEADY = {"bulk": ["look up at ONE", "look up at QUORUM"]}
"""What must go on in every second besides ``WATCHED``."""
TIMEOUTS = {"ReadTimeout", "WriteTimeout", "CasWriteUnknown", "NoAnswer"}
"""What clients may be told: to try again."""
NOTHING_DONE = {"Overloaded (the leader of a counter can't be reached)"}
"""Likewise."""
AT_ALL = {"Unavailable"}
"""The random tables are written at ALL as well, and that fails while somebody is down."""


def members(node: NodeProcess) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = node.admin("status")["members"]
    return found


def number_of(ring: Ring, node: NodeProcess) -> int:
    """The node's number in its cluster."""
    return int(
        next(one["id"] for one in members(ring.live()[0]) if str(one["cql"]).startswith(f"{node.host}:"))
    )


def _sees_down(node: NodeProcess, number: int) -> bool:
    return any(one["id"] == number and one["state"] == "DOWN" for one in members(node))


class MovingRun(Run):
    """A run in which nodes come and go.

    Args:
        spares: nodes that don't run yet.
        rows: of ``bulk``.
    """

    def __init__(self, ring: Ring, spares: Sequence[NodeProcess], rows: int) -> None:
        super().__init__(ring, seed_of_run(), [])
        self.spares = list(spares)
        self._subject: NodeProcess | None = None
        """Who is about to leave, and may end at any moment."""
        self.strikes_ns: list[int] = []
        """When a node was killed or stopped: whoever has asked it waits in vain for REQUEST_SECONDS_MAX."""
        self.kills = 0
        self._moves: Script[None] = iter(())  # type: ignore[assignment]
        stage = self.stages["bulk"] = RingStage(self.player, self._chance.child("bulk"))
        self.bulk = BulkWorkload(stage, rows)
        self.workloads.append(self.bulk)
        self.player.play([self.bulk.set_up()])
        self.player.play(self.bulk.loaders())

    def play_moves(self, crews: Sequence[tuple[type[Any], int]], moves: Script[None]) -> None:
        """Let clients work while the moves are made."""
        self._moves = moves
        self._clients += [self.bulk.run_client(number) for number in range(BULK_CLIENTS)]
        self.play(crews, operations_min=0)

    def _let_faults_strike(self, operations_min: int) -> Script[None]:
        self._begin("before any move", is_fault=False)
        yield Pause(2)
        yield from self._moves
        self._begin("after", is_fault=False)
        yield Pause(2)
        self.phases[-1].end_ns = time.monotonic_ns()
        self.player.is_over = True

    def problems(self, *, quorum_is_up: bool = False) -> list[str]:
        found = [*super().problems(quorum_is_up=False), *self._silence(), *self._errors()]
        print("\n".join(found))
        return found

    def _has_killed(self) -> bool:
        return self.kills > 0

    # Moves

    def join(self, *newcomers: NodeProcess) -> Script[None]:
        self._begin(f"{len(newcomers)} join", is_fault=False)
        for newcomer in newcomers:
            self.launch(newcomer)
        count = len(self.ring.nodes) + len(newcomers)
        yield from self.until(lambda: self._owners() == count and self.is_calm())
        self.ring.nodes += newcomers

    def launch(self, newcomer: NodeProcess, *options: str) -> None:
        """Have a node join that never ran, through one that runs: the first of all may be gone."""
        plain = list(newcomer.options)
        if "--join" in plain:
            at = plain.index("--join")
            del plain[at : at + 2]
        newcomer.options = (*plain, "--join", self.ring.live()[0].address, *options)
        newcomer.launch()

    def decommission(self, leaver: NodeProcess) -> Script[None]:
        self._begin("leave", is_fault=False)
        self.ring.nodes.remove(leaver)
        self.ring.nodes[-1].admin("decommission", {"node": number_of(self.ring, leaver)})
        yield from self.until(lambda: self.is_calm() and not self.knows(leaver))
        leaver.kill()

    def replace(self, dead: NodeProcess, newcomer: NodeProcess) -> Script[None]:
        """One is killed, and another one takes its place."""
        number = yield from self.lose(dead)
        self._begin("replace", is_fault=False)
        self.launch(newcomer, "--replace", str(number))
        count = len(self.ring.nodes) + 1
        yield from self.until(lambda: not self.knows(dead) and self._owners() == count and self.is_calm())
        self.ring.nodes.append(newcomer)

    def heal(self, dead: NodeProcess) -> Script[None]:
        """One is killed, and given up."""
        yield from self.lose(dead)
        self._begin("heal", is_fault=False)
        self.ring.nodes[-1].admin("heal", {"now": True})
        yield from self.until(lambda: not self.knows(dead) and self.is_calm())

    def rebalance(self) -> Script[None]:
        """Even tokens out, if that makes a difference."""
        if self.ring.nodes[-1].admin("rebalance", {})["nodes"]:
            self._begin("rebalance", is_fault=False)
            yield from self.until(self.is_calm)

    def lose(self, dead: NodeProcess) -> Script[int]:
        """Kill one for good; gives its number."""
        number = number_of(self.ring, dead)
        self._begin("kill", is_fault=True)
        self.ring.nodes.remove(dead)
        self.strikes_ns.append(time.monotonic_ns())
        self.kills += 1
        dead.kill()
        # All of them: whoever is told that another one takes its place refuses that while it takes it for alive.
        yield from self.until(lambda: all(_sees_down(node, number) for node in self.ring.live()))
        return number

    def check_evenness(self) -> None:
        owned = [one["owns"] for one in self._members() if one["tokens"]]
        ratio = max(owned) * len(owned) / sum(owned)
        print(f"{len(owned)} nodes own {ratio:.3f} times the mean at most")
        assert ratio <= REBALANCE_RATIO_MAX

    def until(self, happened: Callable[[], bool]) -> Script[None]:
        deadline = time.monotonic() + MOVE_SECONDS_MAX
        while time.monotonic() < deadline:
            if happened():
                return
            yield Pause(0.5)
        pytest.fail(f"not within {MOVE_SECONDS_MAX} s: {self._told('moves')}")

    def is_calm(self) -> bool:
        """Whether nothing moves, nor wants to."""
        report = self._told("moves")
        return report["move"] is None and not report["wishes"]

    def knows(self, node: NodeProcess) -> bool:
        return any(str(one["cql"]).startswith(f"{node.host}:") for one in self._members())

    def _members(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._told("status")["members"]
        return found

    def _owners(self) -> int:
        return sum(bool(one["tokens"]) for one in self._members())

    def _told(self, path: str) -> Any:
        """What the admin API of some node tells: not of one that leaves, nor of one that is just starting."""
        witnesses = [node for node in reversed(self.ring.live()) if node is not self._subject]
        for node in witnesses[:-1]:
            with suppress(OSError):
                return node.admin(path)
        return witnesses[-1].admin(path)

    # What was wrong

    def _silence(self) -> Iterator[str]:
        start_ns, end_ns = self.phases[0].start_ns, self.phases[-1].end_ns
        kinds = {**WATCHED, **{f"reads of bulk {kind}": {"bulk": [kind]} for kind in STEADY["bulk"]}}
        for what, watched in kinds.items():
            operations = [
                one
                for name, stage in self.stages.items()
                for one in stage.history
                if one.kind in watched.get(name, ())
            ]
            for second in silent_seconds(operations, start_ns, end_ns):
                second_ns = start_ns + second * SECOND_NS
                if not any(-SECOND_NS < second_ns - strike_ns <= SECOND_NS for strike_ns in self.strikes_ns):
                    yield f"no {what} in second {second} of the run"

    def _errors(self) -> Iterator[str]:
        for name, stage in self.stages.items():
            for error, count in stage.history.errors().items():
                if error not in TIMEOUTS | NOTHING_DONE and not (name == "table" and error in AT_ALL):
                    yield f"{count} clients of {name} were told {error}"


@dataclass(frozen=True, slots=True)
class Disturbance:
    """What happens in the middle of an operation.

    Attributes:
        whom: "joiner", "source", "leader", "coordinator".
        is_kill: SIGKILL and a start, instead of SIGSTOP and SIGCONT.
        after_s: since the operation began.
        for_s: until it is started again, or goes on.
    """

    whom: str
    is_kill: bool
    after_s: float
    for_s: float

    def __str__(self) -> str:
        return f"{'kill' if self.is_kill else 'stop'} the {self.whom} after {self.after_s:.1f} s for {self.for_s:.1f} s"


class DisturbedRun(MovingRun):
    """Operations one after the other, each of which is disturbed once.

    Attributes:
        ends: how each operation ended, for people.
    """

    SIZE_MAX = 5
    AFTER_S_MAX = 7
    LONG_S = 38
    """Longer than a node that copies is waited for."""

    def __init__(self, ring: Ring, spares: Sequence[NodeProcess], rows: int) -> None:
        super().__init__(ring, spares, rows)
        self.ends: list[str] = []

    def disturbed(self, count: int) -> Script[None]:
        """So many operations; afterwards as many nodes leave as are too many for each to have everything."""
        for _ in range(count):
            yield from self._disturb()
        while len(self.ring.nodes) > 3:
            leaver = self.ring.nodes[0]
            yield from self.decommission(leaver)

    def _disturb(self) -> Script[None]:
        chance, ring = self._chance, self.ring
        grows = len(ring.nodes) == 3 or (len(ring.nodes) < self.SIZE_MAX and chance.below(2) == 0)
        subject = self.spares[0] if grows else ring.nodes[chance.below(len(ring.nodes))]
        self._subject = subject
        disturbance = self._drawn(grows)
        victim = self._victim(disturbance, subject)
        self._begin(f"{'join' if grows else 'leave'}, and {disturbance}", is_fault=True)
        began = time.monotonic()
        if disturbance.whom == "coordinator":
            # It misses what is decided, and comes back with what it knew.
            self._strike(victim, disturbance)
        if grows:
            self.launch(subject)
        else:
            self._asked(subject).admin("decommission", {"node": number_of(ring, subject)})
        yield Pause(disturbance.after_s)
        if disturbance.whom != "coordinator":
            victim = self._victim(disturbance, subject)
            self._strike(victim, disturbance)
        yield Pause(disturbance.for_s)
        self._end_strike(victim, disturbance, subject)
        yield Pause(1)
        yield from self.until(lambda: self._has_ended(subject, grows))
        took = time.monotonic() - began
        assert took < MOVE_SECONDS_MAX + disturbance.for_s, took
        outcome = self._settle(subject, grows)
        self._subject = None
        self.ends.append(f"{'join' if grows else 'leave'}, {disturbance}: {outcome} after {took:.1f} s")
        print(self.ends[-1])
        yield from self.until(ring.is_whole)

    def _drawn(self, grows: bool) -> Disturbance:
        chance = self._chance
        whom = ("joiner" if grows else "source", "source", "leader", "coordinator")[chance.below(4)]
        is_long = IS_FULL and whom in ("joiner", "source") and chance.below(4) == 0
        return Disturbance(
            whom,
            is_kill=whom != "coordinator" and chance.below(2) == 0,
            after_s=chance.below(self.AFTER_S_MAX * 1000) / 1000,
            for_s=self.LONG_S if is_long else chance.below(6_000) / 1000,
        )

    def _victim(self, disturbance: Disturbance, subject: NodeProcess) -> NodeProcess:
        others = [node for node in self.ring.nodes if node is not subject]
        if disturbance.whom == "joiner":
            return subject
        if disturbance.whom == "leader":
            return self.ring.leader() or others[0]
        return others[self._chance.below(len(others))]

    def _strike(self, victim: NodeProcess, disturbance: Disturbance) -> None:
        if not victim.alive():
            return
        self.strikes_ns.append(time.monotonic_ns())
        if disturbance.is_kill:
            self.kills += 1
            victim.kill()
        else:
            victim.pause()

    def _end_strike(self, victim: NodeProcess, disturbance: Disturbance, subject: NodeProcess) -> None:
        if victim.is_paused:
            victim.resume()
        elif not victim.alive() and (victim is not subject or disturbance.is_kill):
            # A joiner that was given up meanwhile is refused, and ends.
            victim.launch()

    def _asked(self, subject: NodeProcess) -> NodeProcess:
        return next(node for node in self.ring.live() if node is not subject)

    def _has_ended(self, subject: NodeProcess, grows: bool) -> bool:
        return self.is_calm() and (not grows or self._owns(subject) or not subject.alive())

    def _owns(self, subject: NodeProcess) -> bool:
        return any(
            one["tokens"] and str(one["cql"]).startswith(f"{subject.host}:") for one in self._members()
        )

    def _settle(self, subject: NodeProcess, grows: bool) -> str:
        """Say who belongs to the ring now; whoever doesn't is wiped, to join afresh another time."""
        if self._owns(subject):
            if subject in self.spares:
                self.spares.remove(subject)
                self.ring.nodes.append(subject)
            return "done" if grows else "undone"
        if subject in self.ring.nodes:
            self.ring.nodes.remove(subject)
            self.spares.append(subject)
        if subject.alive():
            subject.kill()
        shutil.rmtree(subject.data, ignore_errors=True)
        return "undone" if grows else "done"
