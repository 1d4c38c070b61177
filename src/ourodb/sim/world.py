"""Everything that one run consists of, made from its seed.

The machines stand in data centres and racks, joined by the network; nothing runs on them until they are started.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeVar

from ourodb.sim.chance import Chance
from ourodb.sim.loop import Loop
from ourodb.sim.machine import Build, Machine
from ourodb.sim.network import CLIENTS, Network
from ourodb.sim.process import Process
from ourodb.sim.tasks import Promise, S, Task, sleep
from ourodb.sim.trace import Trace

T = TypeVar("T")


class World:
    """All that there is.

    Attributes:
        seed: from which all chance comes.
        loop, trace, chance, network: see their modules.
        machines: those of the cluster, in order of their indexes; by index as long as none was removed.
        gone: machines that were taken away.
        missed: how many machines are gone that weren't among ``machines``, and that the cluster may still count on.
        running: the process in whose pass we are, or None.
    """

    def __init__(self, seed: int, *, story: bool = False) -> None:
        self.seed = seed
        self.loop = Loop()
        self.trace = Trace(story=story)
        self.chance = Chance.of_seed(seed)
        self.network = Network(self.loop, self.trace, self.chance.child("network"))
        self.machines: list[Machine] = []
        self.running: Process | None = None
        self.gone: list[Machine] = []
        self.missed = 0
        self._clients = 0
        self._indexes = 0

    def add_machines(
        self,
        count: int,
        build: Build,
        *,
        data_centers: int = 1,
        racks: int = 1,
        sync_period_ms: int | None = None,
        apart: bool = False,
    ) -> list[Machine]:
        """Machines, in turn in one data centre and then the next, and so for the racks in each; at any time of a run.

        Args:
            sync_period_ms: see ``disk.SimStore``.
            apart: they don't count among ``machines``, though they are in the network and may know all of these.
        """
        added = []
        for _ in range(count):
            index, self._indexes = self._indexes, self._indexes + 1
            assert index < CLIENTS, "more places are those of clients"
            data_center = f"dc{index % data_centers + 1}"
            rack = f"rack{index // data_centers % racks + 1}"
            machine = Machine(self, index, build, data_center, rack, sync_period_ms)
            if not apart:
                self.machines.append(machine)
            added.append(machine)
        return added

    def remove(self, machine: Machine) -> None:
        """A machine is taken away, with all that is on it, if it wasn't yet."""
        if machine.is_gone:
            return
        machine.is_gone = True
        self.gone.append(machine)
        if machine.is_powered:
            machine.lose_power()
        del self.network.machines[machine.address]
        if machine in self.machines:
            self.machines.remove(machine)

    def new_place(self) -> int:
        """A place in the network for a client."""
        self._clients += 1
        return CLIENTS + self._clients - 1

    def client_places(self) -> list[int]:
        """Of all clients so far."""
        return list(range(CLIENTS, CLIENTS + self._clients))

    def tell(self, who: str, text: str) -> None:
        """A line of the story."""
        self.trace.tell(self.loop.now_ns, who, text)

    # Time

    def run_for(self, seconds: float) -> None:
        """Let so much virtual time pass."""
        self.loop.run_until(self.loop.now_ns + round(seconds * S))

    def run_until(self, condition: Callable[[], bool], seconds_max: float) -> bool:
        """Let time pass until the condition holds; whether it does."""
        self.loop.run_while(lambda: not condition(), self.loop.now_ns + round(seconds_max * S))
        return condition()

    def spawn(self, script: Generator[Promise[Any], Any, T]) -> Task[T]:
        """Begin a script."""
        return Task(script)

    def carry_out(self, script: Generator[Promise[Any], Any, T], seconds_max: float) -> T:
        """Run a script to its end.

        Raises:
            TimeoutError: it didn't end within ``seconds_max`` of virtual time.
        """
        task = Task(script)
        if not self.run_until(lambda: task.is_kept, seconds_max):
            raise TimeoutError(
                f"{getattr(script, '__qualname__', 'a script')} took more than {seconds_max} s"
            )
        return task.value

    def sleep(self, seconds: float) -> Promise[None]:
        return sleep(self.loop, round(seconds * S))

    def start(self, machines: Iterable[Machine], seconds_max: float = 60) -> None:
        """Start machines and wait until all of them are ready.

        Raises:
            TimeoutError: they weren't within ``seconds_max``.
        """
        started = list(machines)
        for machine in started:
            machine.start()
        if not self.run_until(lambda: all(machine.is_ready for machine in started), seconds_max):
            late = [machine.name for machine in started if not machine.is_ready]
            raise TimeoutError(f"not ready after {seconds_max} s: {', '.join(late)}")
