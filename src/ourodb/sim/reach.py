"""When a cluster can be expected to answer: whom clients could count on, at every moment of a run.

Consistency is easy for a cluster that answers nobody, so a run has to show that most operations succeed. But no
cluster answers when its disks are full or a partition leaves no majority anywhere. The rule that is drawn here
is strict, and asks nothing of the nodes themselves:

A machine is *sound* while its process runs and is ready for clients, at its usual speed, and its disk takes
writes. The *core* is the machines that are sound and all hear each other, provided that at most so many others
are missing that every key has a quorum of its replicas in the core; otherwise there is no core. An operation
is *expected* to succeed if there was a core when it was invoked, and its coordinator belonged to it and was heard
by its client; or if its client could reach nobody, although it was connected with one of the core. What asks for ALL
is expected to only if nobody is missing. Where clients
keep to one data centre each, at LOCAL_QUORUM, each has a core of its own, and doesn't need the others.

Which of the expected operations count, because nothing had just changed, is the availability checker's business;
changes of the core are changes like others.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from ourodb.sim.history import Operation
from ourodb.sim.machine import Machine
from ourodb.sim.network import Network, Path
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


@dataclass(frozen=True, slots=True)
class State:
    """What was found at one look.

    Attributes:
        core: indexes of its machines.
        is_whole: nobody is missing.
        severed: places of clients, and machines of the core, that don't hear each other.
    """

    core: tuple[int, ...] = ()
    is_whole: bool = False
    severed: tuple[Path, ...] = ()

    def serves(self, place: int, coordinator: int | None) -> bool:
        """Whether a client is served by this coordinator; None: by any."""
        if coordinator is None:
            return any((place, index) not in self.severed for index in self.core)
        return coordinator in self.core and (place, coordinator) not in self.severed


class Reach:
    """Follows the core through a run.

    Attributes:
        changes_ns: moments at which something was found changed, ascending.
        expected: operations that could be expected to succeed, in the order of their completion.
    """

    def __init__(
        self, world: World, replication_factor: int, machines: Callable[[], Sequence[Machine]]
    ) -> None:
        """
        Args:
            machines: that clients keep to, as they are when it is called: some come and go.
            replication_factor: among these.
        """
        self.changes_ns: list[int] = []
        self.expected: list[Operation] = []
        self._world = world
        self._machines = machines
        self._missing_max = (replication_factor - 1) // 2
        self._states = [State()]
        """The first is that before the first change."""

    def watch(self) -> None:
        """Look for the core from now on."""
        self._look(None)

    def on_complete(
        self, operation: Operation, place: int, coordinator: Machine | None, *, needs_all: bool = False
    ) -> None:
        """A client was told what came of an operation, or gave up.

        Args:
            place: the client's, in the network.
            coordinator: None: none could be reached.
            needs_all: it was at ALL.
        """
        state = self._states[bisect_right(self.changes_ns, operation.invoked_ns)]
        if needs_all and not state.is_whole:
            return
        if state.serves(place, None if coordinator is None else coordinator.index):
            self.expected.append(operation)

    def _look(self, _: object) -> None:
        world = self._world
        machines = self._machines()
        core = core_of(machines, world.network, self._missing_max - world.missed)
        is_whole = len(core) == len(machines) and not world.missed
        state = State(core, is_whole, tuple(self._severed(core)))
        if state != self._states[-1]:
            self._states.append(state)
            self.changes_ns.append(world.loop.now_ns)
        world.loop.after(LOOK_NS, self._look)

    def _severed(self, core: tuple[int, ...]) -> Iterator[Path]:
        network = self._world.network
        if network.is_whole and not network.is_impaired:
            return
        for place in self._world.client_places():
            for index in core:
                if not (network.is_good(place, index) and network.is_good(index, place)):
                    yield place, index
