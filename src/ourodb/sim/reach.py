"""When a cluster can be expected to answer: whom clients could count on, at every moment of a run.

Consistency is easy for a cluster that answers nobody, so a run has to show that most operations succeed. But no
cluster answers when its disks are full or a partition leaves no majority anywhere. The rule that is drawn here
is strict, and asks nothing of the nodes themselves:

A machine is *sound* while its process runs and is ready for clients, at its usual speed, and its disk takes
writes. The *core* is the machines that are sound and all hear each other, provided that at most so many others
are missing that every key has a quorum of its replicas in the core; otherwise there is no core. An operation
is *expected* to succeed if there was a core when it was invoked, and its coordinator belonged to it, or none
could be reached.

Which of the expected operations count, because nothing had just changed, is the availability checker's business;
changes of the core are changes like others.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import combinations
from typing import Final

from ourodb.sim.history import Operation
from ourodb.sim.machine import Machine
from ourodb.sim.network import Network
from ourodb.sim.world import World

LOOK_NS: Final = 50_000_000
"""So often the core is looked for."""

SLOWNESS_MAX: Final = 5
"""A process that is slower than that isn't sound."""


def is_sound(machine: Machine) -> bool:
    """Whether a machine does what machines have to do."""
    process, conditions = machine.process, machine.disk.conditions
    return (
        process is not None
        and machine.is_ready
        and process.slowness <= SLOWNESS_MAX
        and not conditions.is_full
        and not conditions.fails_syncs
        and not conditions.refuses_settle_one_in
    )


def core_of(machines: Sequence[Machine], network: Network, missing_max: int) -> tuple[int, ...]:
    """Indexes of the machines that are sound and all hear each other; none if more than ``missing_max`` aren't."""
    sound = [machine.index for machine in machines if is_sound(machine)]
    for missing in range(len(machines) - len(sound), missing_max + 1):
        for core in combinations(sound, len(machines) - missing):
            if all(
                network.is_good(one, other) and network.is_good(other, one)
                for one, other in combinations(core, 2)
            ):
                return core
    return ()


class Reach:
    """Follows the core through a run.

    Attributes:
        changes_ns: moments at which the core was found changed, ascending.
        expected: operations that could be expected to succeed, in the order of their completion.
    """

    def __init__(self, world: World, replication_factor: int) -> None:
        self.changes_ns: list[int] = []
        self.expected: list[Operation] = []
        self._world = world
        self._missing_max = (replication_factor - 1) // 2
        self._cores: list[tuple[int, ...]] = [()]
        """The first is that before the first change."""

    def watch(self) -> None:
        """Look for the core from now on."""
        self._look(None)

    def on_complete(self, operation: Operation, coordinator: Machine | None) -> None:
        """An operation's client was told what came of it, or gave up."""
        core = self._cores[bisect_right(self.changes_ns, operation.invoked_ns)]
        if core and (coordinator is None or coordinator.index in core):
            self.expected.append(operation)

    def _look(self, _: object) -> None:
        core = core_of(self._world.machines, self._world.network, self._missing_max)
        if core != self._cores[-1]:
            self._cores.append(core)
            self.changes_ns.append(self._world.loop.now_ns)
        self._world.loop.after(LOOK_NS, self._look)
