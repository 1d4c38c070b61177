"""A machine: the home of a process, with a clock, a disk and a place in the network of its own.

What can befall it, and what each leaves:

    kill         the process dies; the machine tells its peers, and the disk has what was settled
    lose_power   the machine dies with it: nobody is told, and of what wasn't synced a random part is on the disk
    pause        the process stands still, and its machine keeps up appearances, until it resumes
    stop         the process ends in order
    start        a new process, on the same disk; one that says that it can't run is started again after a while
    change_disk  another disk is put in, an empty one perhaps, or the one that was there before
    turn_away    the others won't have the program, which may well be: it ends

A new process finds the disk and the clock as they are; all else begins anew.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Final, Protocol

from ourodb.errors import OuroError
from ourodb.ports import Address, Ports
from ourodb.sim.clock import SimClock
from ourodb.sim.disk import Disk
from ourodb.sim.process import Process, Program
from ourodb.sim.tasks import Promise, S
from ourodb.sim.trace import Kind

if TYPE_CHECKING:
    from ourodb.sim.world import World

START_AGAIN_NS: Final = 1 * S

HEAL_AFTER_S: Final = 600
"""Longer than any run: nobody is given up."""

Build = Callable[["Machine", Ports], Program]
"""Makes the program of a new process; it isn't started yet."""


class InvariantBroken(Exception):
    """Something doesn't hold that must hold after every step: what, on which node, and what was found instead."""


class Witness(Protocol):
    """Looks at programs from outside, and changes nothing."""

    def after_step(self, index: int) -> None:
        """The process on the machine with this index has taken a step: handled one thing, or settled.

        Raises:
            InvariantBroken: something is wrong; the run ends there.
        """
        ...

    def on_healed(self) -> Generator[Promise[Any], Any, list[str]]:
        """All is healed, quiet time has passed, and nobody has read anything since; gives what is wrong."""
        ...


Refuses = Callable[[Any, Any, Address], str | None]
"""Whether the first program, when they shake hands, speaks with the second, which runs at that address."""


class Machine:
    """Where one node lives.

    Attributes:
        index: its place in the network, from 0 on.
        name: for people.
        address: where its process listens for peers.
        native: where it listens for clients.
        data_center, rack: where it stands.
        clock, disk: its own.
        process: what runs now, or None.
        is_powered: whether anything of it works.
        is_gone: it was taken away, and never starts again.
        host: what it fails together with; itself, unless somebody says otherwise.
        build: makes its programs.
        sync_period_ms: see ``disk.SimStore``.
        runs: processes so far.
        deaths: of these, how many were killed or lost their power.
        witness: is told of each step; set by whoever builds the programs.
        refuses: is asked by handshakes with its programs, and says why not; None: they speak with everybody.
        heal_after_s: how long others are down before this one takes them for gone for good.
        stream_bytes_per_s: that it copies when it gains rows; 0: as many as come.
        replaces: number of the node whose place it takes; 0: nobody's.
        may_be_refused: it isn't wrong when a program of its isn't taken by the others.
        is_stranger: for now it has an empty disk in the place of its own, so that nor is that.
    """

    def __init__(
        self, world: World, index: int, build: Build, data_center: str, rack: str, sync_period_ms: int | None
    ) -> None:
        self.world = world
        self.index = index
        self.name = f"node{index + 1}"
        host = f"10.0.{(index + 1) >> 8}.{(index + 1) & 255}"
        self.address: Address = (host, 7000)
        self.native: Address = (host, 9042)
        self.data_center = data_center
        self.rack = rack
        self.host = self.name
        self.build = build
        self.sync_period_ms = sync_period_ms
        chance = world.chance.child(f"machine {index}")
        self._chance = chance
        self.clock = SimClock(
            world.loop,
            drift_ppm=chance.between(-50, 50),
            offset_us=chance.between(-2_000, 2_000),
            uptime_ns=chance.between(10 * S, 1_000_000 * S),
        )
        self.disk = Disk(chance.child("disk"))
        self.process: Process | None = None
        self.is_powered = True
        self.is_gone = False
        self.runs = 0
        self.deaths = 0
        self.witness: Witness | None = None
        self.refuses: Refuses | None = None
        self.heal_after_s = HEAL_AFTER_S
        self.stream_bytes_per_s = 0
        self.replaces = 0
        self.may_be_refused = self.is_stranger = False
        world.network.machines[self.address] = self

    @property
    def program(self) -> Any:
        """What runs now; there is something running."""
        assert self.process is not None
        return self.process.program

    @property
    def is_ready(self) -> bool:
        """Whether clients can be served, as far as this machine is concerned."""
        process = self.process
        return process is not None and not process.is_paused and process.is_ready

    def start(self) -> None:
        """Run the program on what the disk has; the power comes back if it was gone."""
        if self.is_gone:
            return
        assert self.process is None
        if not self.is_powered:
            self.is_powered = True
            self.clock.reboot(self._chance.between(5 * S, 60 * S))
            self.world.network.power(self.index, on=True)
        self.runs += 1
        self._happens(Kind.START, f"starts, run {self.runs}")
        self.process = Process(self, self.runs)

    def kill(self) -> None:
        """SIGKILL."""
        process = self.process
        assert process is not None
        self.process = None
        self.deaths += 1
        process.end(with_machine=False)
        self.disk.lose_unsettled()
        self._happens(Kind.KILL, "is killed")

    def on_start_failed(self, error: OuroError) -> None:
        """The program refuses to run; whoever looks after the machine tries again, and again."""
        self.world.tell(self.name, f"can't start: {error}")
        self.kill()
        self.world.loop.after(START_AGAIN_NS, self._start_again, self.runs)

    def _start_again(self, runs: int) -> None:
        if runs == self.runs and self.is_powered and self.process is None:
            self.start()

    def lose_power(self) -> None:
        """The machine dies at once, whether anything runs on it or not."""
        process, self.process = self.process, None
        self.is_powered = False
        self.world.network.power(self.index, on=False)
        if process is not None:
            self.deaths += 1
            process.end(with_machine=True)
        self.disk.lose_unsettled()
        told = self.disk.lose_unsynced()
        self._happens(Kind.POWER_LOSS, f"loses its power; {told}")

    def wipe(self) -> None:
        """The disk is replaced by an empty one; nothing may run."""
        assert self.process is None
        self.disk.wipe()
        self._happens(Kind.STOP, "gets a new disk")

    def change_disk(self, disk: Disk) -> Disk:
        """Put another disk in, and give back the one that was in; there is no power."""
        assert not self.is_powered
        before, self.disk = self.disk, disk
        self._happens(Kind.STOP, "gets another disk")
        return before

    def new_disk(self) -> Disk:
        """An empty one, for ``change_disk``."""
        return Disk(self._chance.child(f"disk of run {self.runs + 1}"))

    def turn_away(self, reason: str) -> None:
        """The others don't take the program that runs: it says so and ends."""
        assert self.may_be_refused or self.is_stranger
        if self.process is None:
            # It has said so already.
            return
        self.world.tell(self.name, f"is refused: {reason}")
        self.kill()

    def pause(self) -> None:
        """SIGSTOP."""
        assert self.process is not None
        self.process.pause()
        self._happens(Kind.PAUSE, "is paused")

    def resume(self) -> None:
        """SIGCONT."""
        assert self.process is not None
        self.process.resume()
        self._happens(Kind.RESUME, "resumes")

    def stop(self) -> None:
        """SIGTERM: in its next pass the process says goodbye, and in the one after that it ends in order."""
        process = self.process
        assert process is not None
        process.post(Kind.STOP, self._stop, process)

    def _stop(self, process: Process) -> None:
        process.program.stop()
        process.post(Kind.STOP, self._end, process)

    def _end(self, process: Process) -> None:
        process.store.close()
        self.process = None
        process.end(with_machine=False)
        self._happens(Kind.STOP, "stops")

    def jump(self, by_us: int) -> None:
        """Set its clock on the wall."""
        self.clock.jump(by_us)
        self._happens(Kind.CLOCK, f"has its clock set by {by_us / 1e6:+.3f} s")

    def _happens(self, kind: Kind, text: str) -> None:
        world = self.world
        world.trace.note(world.loop.now_ns, self.index, kind)
        world.trace.tell(world.loop.now_ns, self.name, text)
