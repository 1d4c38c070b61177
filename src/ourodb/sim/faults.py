"""What goes wrong, and when: the nemesis of a run.

Each kind of fault is a script: it chooses its victims, does its harm, waits, and makes it good again. When the
nemesis's time is up it waits until all is healed.

When it strikes is data: strikes are numbered, and the moments of all follow from the seed, whatever comes of
them. Which kind a strike is, and whom it hits, and for how long, comes from a stream of its own. So a strike can
be left out, or a kind of fault forbidden, and the others stay what they were; ``shrink`` thins a failing run
that way. A strike for which there is no room, because as many as may be are under way, is left out too.

But for a blackout, no more than a minority of the machines is ever down or stopped at once; partitions and
slowness come on top.

What can go wrong depends on the layer. Peers and clients talk over streams, so within a connection nothing is
reordered, doubled or left out: a lost packet is a delay, and a broken connection when it lasts. Across
connections messages overtake each other; a broken one leaves its end in doubt; and what is then said again, by a
hint or a retry of the nodes, is doubled by them. So there is no fault that doubles or reorders: ``loss``,
``reset``, ``flap`` and ``kill`` make the nodes do it.

A disk that is gone for good takes the only copy of what was acknowledged with it, sooner or later, so ``new-disk``
gives the old one back in the end: what is tried is that a node which has forgotten who it was isn't taken for the one
that it was. Whole machines are gone for good in ``leave``, ``death`` and ``replace``, one at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

from ourodb.sim.chance import Chance
from ourodb.sim.disk import Conditions
from ourodb.sim.machine import HEAL_AFTER_S, Machine
from ourodb.sim.network import CLIENTS, Impairment, Latency, Path
from ourodb.sim.process import Mover
from ourodb.sim.tasks import Promise, Task, gather, sleep
from ourodb.sim.world import World

Script = Generator[Promise[Any], Any, None]

MACHINES_MIN: Final = 3
MACHINES_MAX: Final = 7
MACHINES_FOR_MORE_COPIES: Final = 5
"""Machines leave only while there are more, and join only while there are fewer."""

MOVE_SECONDS_MAX: Final = 150
"""A machine that joins or leaves does so within this time, or is found not to."""

CLOCK_JUMP_US: Final = 60_000_000
"""A clock is set by at most so much, forward or back."""

GAP_MS_MIN: Final = 100
GAP_MS_MAX: Final = 4_000
"""Between the moments of two strikes; the second is what a plan may change."""

UNDER_WAY_MAX: Final = 2
"""Strikes at a time."""

# --- Partitions: which paths are cut ---------------------------------------------------------------------------


def between(some: Sequence[int], others: Sequence[int]) -> list[Path]:
    """Both ways between each of some and each of the others."""
    return [path for one in some for other in others for path in ((one, other), (other, one))]


def halves(places: Sequence[int], chance: Chance) -> list[Path]:
    """Two halves that don't see each other."""
    shuffled = chance.shuffled(places)
    middle = len(shuffled) // 2
    return between(shuffled[:middle], shuffled[middle:])


def isolate(places: Sequence[int], chance: Chance) -> list[Path]:
    """One that sees nobody."""
    alone = chance.choice(places)
    return between([alone], [place for place in places if place != alone])


def bridge(places: Sequence[int], chance: Chance) -> list[Path]:
    """Two halves that don't see each other, and one in the middle that sees everybody."""
    shuffled = chance.shuffled(places)[1:]
    middle = len(shuffled) // 2
    return between(shuffled[:middle], shuffled[middle:])


def majorities_ring(places: Sequence[int], chance: Chance) -> list[Path]:
    """Everybody sees a majority, but no two the same one; with fewer than four nobody is cut off."""
    shuffled = chance.shuffled(places)
    count = len(shuffled)
    reach = (count // 2 + 1) // 2
    return [
        path
        for first, second in combinations(range(count), 2)
        if min(second - first, count - (second - first)) > reach
        for path in between([shuffled[first]], [shuffled[second]])
    ]


def one_way(places: Sequence[int], chance: Chance) -> list[Path]:
    """One whose voice doesn't reach the others, or who doesn't hear them, or a single path."""
    alone = chance.choice(places)
    others = [place for place in places if place != alone]
    drawn = chance.below(3)
    if drawn == 0:
        return [(alone, other) for other in others]
    if drawn == 1:
        return [(other, alone) for other in others]
    return [(alone, chance.choice(others))]


def around(places: Sequence[int], chance: Chance) -> list[Path]:
    """What an impairment of the network is about: one machine's link, one way between two machines, or all."""
    one = chance.choice(places)
    others = [place for place in places if place != one]
    drawn = chance.below(4)
    if drawn == 0:
        return [(one, chance.choice(others))]
    if drawn == 1:
        return [path for pair in combinations(places, 2) for path in between(pair[:1], pair[1:])]
    return between([one], others)


PARTITIONS: Final = (halves, isolate, bridge, majorities_ring)

# --- The nemesis -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault that struck.

    Attributes:
        number: counted from 0 on, those that were left out included.
        at_ns: when.
        kind: of ``FAULTS``.
    """

    number: int
    at_ns: int
    kind: str

    def __str__(self) -> str:
        return f"strike {self.number}: {self.kind} at {self.at_ns / 1e9:.3f} s"


class Nemesis:
    """Brings faults over a world until its time is up.

    Attributes:
        strikes: those that struck, in order.
        disturbances_ns: when something broke or healed, ascending.
    """

    def __init__(
        self,
        world: World,
        kinds: Sequence[str],
        *,
        only: Collection[int] | None = None,
        gap_ms_max: int = GAP_MS_MAX,
    ) -> None:
        """
        Args:
            kinds: of ``FAULTS``.
            only: numbers of the strikes that may strike; None: all.
            gap_ms_max: between the moments of two strikes.
        """
        self.strikes: list[Strike] = []
        self.disturbances_ns: list[int] = []
        self._world = world
        self._kinds = list(kinds)
        self._only = only
        self._gap_ms_max = max(GAP_MS_MIN, gap_ms_max)
        self._chance = world.chance.child("faults")
        """That of the strike whose script runs now."""
        self._victims: dict[int, None] = {}

    @property
    def struck(self) -> dict[str, int]:
        """How many faults of each kind there were."""
        counts: dict[str, int] = {}
        for strike in self.strikes:
            counts[strike.kind] = counts.get(strike.kind, 0) + 1
        return counts

    def run(self, until_ns: int) -> Script:
        """Strike until then; ends when everything is healed."""
        under_way: list[Task[None]] = []
        loop, moments = self._world.loop, self._world.chance.child("moments of faults")
        number = 0
        while self._kinds:
            yield sleep(loop, moments.between(GAP_MS_MIN, self._gap_ms_max) * 1_000_000)
            if loop.now_ns >= until_ns:
                break
            under_way = [task for task in under_way if not task.is_kept]
            if len(under_way) < UNDER_WAY_MAX and (self._only is None or number in self._only):
                task = self._strike(number)
                if not task.is_kept:
                    under_way.append(task)
            number += 1
        yield gather(under_way)

    def _strike(self, number: int) -> Task[None]:
        chance = self._world.chance.child(f"strike {number}")
        kind = chance.bid(self._kinds)
        at_ns = self._world.loop.now_ns
        self._world.tell("nemesis", f"strike {number}: {kind}")
        task = Task(self._carried_out(FAULTS[kind](self), chance))
        if task.is_kept:
            self._world.tell("nemesis", f"strike {number} finds nothing to strike")
        else:
            self.strikes.append(Strike(number, at_ns, kind))
            self._disturb()
            task.then(self._disturb)
        return task

    def _carried_out(self, script: Script, chance: Chance) -> Script:
        """The script, which draws from this stream wherever others are in between."""
        value = None
        while True:
            self._chance = chance
            try:
                promise = script.send(value)
            except StopIteration:
                return
            value = yield promise

    def _disturb(self, _: object = None) -> None:
        self.disturbances_ns.append(self._world.loop.now_ns)

    # Waiting and choosing

    def _wait(self, least_ms: int, most_ms: int) -> Promise[None]:
        return sleep(self._world.loop, self._chance.between(least_ms, most_ms) * 1_000_000)

    def _take_victim(self) -> Machine | None:
        """A machine that runs, as long as only a minority is down; to be released again."""
        machines = self._world.machines
        if len(self._victims) >= (len(machines) - 1) // 2:
            return None
        running = [machine for machine in machines if machine.is_ready and machine.index not in self._victims]
        if not running:
            return None
        victim = self._chance.choice(running)
        self._victims[victim.index] = None
        return victim

    def _release(self, victim: Machine) -> None:
        del self._victims[victim.index]

    # What strikes

    def kill(self) -> Script:
        """A process dies in the midst of whatever it does."""
        yield from self._crash(Machine.kill, 50, 8_000)

    def power(self) -> Script:
        """A machine loses its power, and gets it back."""
        yield from self._crash(Machine.lose_power, 500, 10_000)

    def blackout(self) -> Script:
        """All machines lose their power at one moment: what isn't on disk is nowhere."""
        machines = self._world.machines
        if self._victims:
            return
        self._victims.update(dict.fromkeys(machine.index for machine in machines))
        for machine in machines:
            machine.lose_power()
        yield self._wait(100, 2_000)
        for machine in self._chance.shuffled(machines):
            machine.start()
            yield self._wait(1, 500)
            self._release(machine)

    def _crash(self, how: Callable[[Machine], None], least_ms: int, most_ms: int) -> Script:
        victim = self._take_victim()
        if victim is None:
            return
        process = victim.process
        assert process is not None
        process.die_after(self._chance.below(100), with_machine=how is Machine.lose_power)
        for _ in range(20):
            yield self._wait(10, 10)
            if not process.is_alive:
                break
        else:
            how(victim)
        yield self._wait(least_ms, most_ms)
        victim.start()
        self._release(victim)

    def restart(self) -> Script:
        """A process ends in order, and a new one begins."""
        victim = self._take_victim()
        if victim is None:
            return
        victim.stop()
        while victim.process is not None:
            yield self._wait(1, 10)
        yield self._wait(1, 3_000)
        victim.start()
        self._release(victim)

    def new_disk(self) -> Script:
        """A machine comes back with an empty disk, asks to be taken as a stranger; then it comes with its own."""
        victim = self._take_victim()
        if victim is None:
            return
        victim.lose_power()
        if victim is self._world.machines[0]:
            # It was told to found the cluster. With an empty disk it would found another one.
            yield self._wait(500, 3_000)
        else:
            yield self._wait(50, 1_000)
            victim.may_be_refused = True
            disk = victim.change_disk(victim.new_disk())
            victim.start()
            yield self._wait(1_000, 6_000)
            victim.lose_power()
            victim.change_disk(disk)
            victim.may_be_refused = False
            yield self._wait(50, 1_000)
        victim.start()
        self._release(victim)

    def stranger(self) -> Script:
        """A new machine joins, and is gone before it is done; the cluster forgets it."""
        members = self._world.machines
        if any(mover.is_moving for mover in self._movers()):
            # Two that die are more than a quorum of their ranges can miss.
            return
        (guest,) = self._world.add_machines(1, members[0].build, apart=True)
        guest.may_be_refused = True
        guest.start()
        yield self._wait(500, 6_000)
        self._world.remove(guest)
        self._world.missed += 1
        yield from self._forgotten(guest)
        self._world.missed -= 1

    def _forgotten(self, guest: Machine) -> Script:
        members = self._world.machines
        for _ in range(MOVE_SECONDS_MAX):
            yield self._wait(1_000, 1_000)
            movers = self._movers()
            if not movers and any(machine.is_ready for machine in members):
                # Programs of a kind that knows no members.
                return
            if movers and not any(mover.knows(guest.address) for mover in movers):
                return
            if movers:
                # It had joined before it died, or is still about to: somebody has to say that it is gone for good.
                movers[0].send_away(guest.address, is_dead=True, is_forced=True)

    def join(self) -> Script:
        """A new machine joins, and gets its part of the data."""
        machines, chance = self._world.machines, self._chance
        if len(machines) >= MACHINES_MAX or not self._movers():
            return
        newcomer = self._newcomer(chance.choice(machines))
        newcomer.start()
        yield from self._until(lambda mover: mover.knows(newcomer.address) and not mover.is_moving)

    def _newcomer(self, like: Machine) -> Machine:
        """A machine that never ran, configured and placed as another one is."""
        (newcomer,) = self._world.add_machines(1, like.build, sync_period_ms=like.sync_period_ms)
        newcomer.heal_after_s = like.heal_after_s
        newcomer.data_center, newcomer.rack = like.data_center, like.rack
        return newcomer

    def replace(self) -> Script:
        """A machine dies for good, and a new one takes its place, if the others don't give it up before."""
        victim = self._take_victim() if self._movers() else None
        if victim is None:
            return
        victim.may_be_refused = True
        victim.lose_power()
        number = 0
        for _ in range(MOVE_SECONDS_MAX):
            yield self._wait(1_000, 1_000)
            number = next((mover.number_of_dead(victim.address) for mover in self._movers()), 0)
            if number:
                break
        else:
            yield from self._return(victim)
            self._release(victim)
            return
        newcomer = self._newcomer(victim)
        newcomer.replaces = number
        newcomer.may_be_refused = True
        newcomer.start()
        for _ in range(MOVE_SECONDS_MAX):
            yield self._wait(1_000, 1_000)
            if any(not mover.knows(victim.address) for mover in self._movers(apart=newcomer)):
                break
        movers = self._movers(apart=newcomer)
        if any(not mover.knows(victim.address) for mover in movers):
            self._world.remove(victim)
        else:
            yield from self._return(victim)
        if newcomer in self._world.machines:
            if any(mover.knows(newcomer.address) for mover in movers):
                newcomer.may_be_refused = False
            else:
                self._world.remove(newcomer)
        self._release(victim)

    def even(self) -> Script:
        """Tokens are given anew, so that each machine owns as much as the others."""
        movers = self._movers()
        if not movers:
            return
        movers[0].even()
        yield self._wait(1_000, 1_000)
        yield from self._until(lambda mover: not mover.is_moving)

    def leave(self) -> Script:
        """A machine gives its data to others and is taken away; sometimes it is dead already."""
        staying = [machine for machine in self._world.machines if not machine.may_be_refused]
        if len(staying) <= MACHINES_MIN:
            return
        is_dead = self._chance.one_in(3)
        if is_dead:
            dying = self._take_victim()
            if dying is None:
                return
            victim = dying
            victim.lose_power()
        else:
            # It lives, so whatever strikes others may strike it, too.
            victim = self._chance.choice(staying)
        has_left = False
        for _ in range(MOVE_SECONDS_MAX):
            yield self._wait(500, 1_000)
            movers = self._movers(apart=victim)
            has_left = any(not mover.knows(victim.address) for mover in movers)
            if has_left:
                break
            if movers and movers[0].send_away(victim.address, is_dead=is_dead):
                # From now on the cluster may refuse it; it isn't known whether what was asked for is decided.
                victim.may_be_refused = True
        if has_left:
            self._world.remove(victim)
        elif is_dead:
            yield from self._return(victim)
        if is_dead:
            self._release(victim)

    def copies(self) -> Script:
        """There are to be more copies of each row, and then as many as before.

        In one data centre: with more copies a quorum may be far away, and of conditional statements that contend over
        such a distance too few succeed to prove anything.
        """
        usual = next((mover.copies for mover in self._movers()), 0)
        machines = self._world.machines
        centers = {machine.data_center for machine in machines}
        if not usual or len(machines) < MACHINES_FOR_MORE_COPIES or len(centers) > 1:
            return
        for count in (usual + 1 + self._chance.below(2), usual):
            for _ in range(MOVE_SECONDS_MAX):
                movers = self._movers()
                if any(mover.copies == count and not mover.is_moving for mover in movers):
                    break
                if movers and not movers[0].is_moving:
                    movers[0].set_copies(count)
                yield self._wait(500, 1_000)

    def death(self) -> Script:
        """A machine dies for good; the others give it up by themselves, if they do such things soon."""
        machines = self._world.machines
        if len(machines) <= MACHINES_MIN or any(one.heal_after_s >= HEAL_AFTER_S for one in machines):
            return
        victim = self._take_victim()
        if victim is None:
            return
        victim.may_be_refused = True
        victim.lose_power()
        has_left = False
        for _ in range(MOVE_SECONDS_MAX):
            yield self._wait(1_000, 1_000)
            has_left = any(not mover.knows(victim.address) for mover in self._movers(apart=victim))
            if has_left:
                break
        if has_left:
            self._world.remove(victim)
        else:
            yield from self._return(victim)
        self._release(victim)

    def _return(self, victim: Machine) -> Script:
        """One that should have been given up, and couldn't be, returns; perhaps it is only now."""
        victim.start()
        for _ in range(MOVE_SECONDS_MAX):
            yield self._wait(3_000, 3_000)
            movers = self._movers(apart=victim)
            if any(not mover.knows(victim.address) for mover in movers):
                self._world.remove(victim)
                return
            if movers and not any(mover.is_moving for mover in movers):
                return

    def _movers(self, apart: Machine | None = None) -> list[Mover]:
        """The programs of machines that run.

        Args:
            apart: of all but this one.
        """
        machines = self._world.machines
        running = [machine.program for machine in machines if machine is not apart and machine.is_ready]
        return [program for program in running if isinstance(program, Mover)]

    def _until(self, happened: Callable[[Mover], bool]) -> Script:
        """Wait until some program says so, but not for ever: what doesn't come to an end is found at the end."""
        for _ in range(MOVE_SECONDS_MAX):
            if any(happened(mover) for mover in self._movers()):
                return
            yield self._wait(1_000, 1_000)

    def pause(self) -> Script:
        """A process stands still for a while."""
        victim = self._take_victim()
        if victim is None:
            return
        victim.pause()
        yield self._wait(100, 8_000)
        victim.resume()
        self._release(victim)

    def partition(self) -> Script:
        """The network falls apart."""
        paths = self._chance.choice(PARTITIONS)(self._places(), self._chance)
        yield from self._cut(paths, 300, 8_000)

    def one_way(self) -> Script:
        """Paths are cut one way only."""
        yield from self._cut(one_way(self._places(), self._chance), 300, 8_000)

    def flap(self) -> Script:
        """A partition comes and goes."""
        paths = self._chance.choice(PARTITIONS)(self._places(), self._chance)
        for _ in range(self._chance.between(3, 10)):
            yield from self._cut(paths, 20, 1_500)
            yield self._wait(20, 1_500)

    def clients(self) -> Script:
        """Clients don't see a node that the other nodes see."""
        seen = self._world.client_places()
        victim = self._chance.choice(self._world.machines)
        some = self._chance.sample(seen, self._chance.between(1, len(seen))) if seen else []
        paths = between([victim.index], some)
        if self._chance.one_in(3):
            # Only the answers are lost.
            paths = [path for path in paths if path[0] == victim.index]
        yield from self._cut(paths, 300, 6_000)

    def dc(self) -> Script:
        """The link of a data centre is cut, or bad; of a machine, where there is only one data centre."""
        machines, chance = self._world.machines, self._chance
        here = chance.choice(sorted({machine.data_center for machine in machines}))
        inside = [machine.index for machine in machines if machine.data_center == here]
        outside = [machine.index for machine in machines if machine.data_center != here]
        if not outside:
            inside, outside = inside[:1], inside[1:]
        paths = between(inside, outside)
        drawn = chance.below(4)
        if drawn < 2:
            yield from self._cut(paths, 300, 8_000)
        elif drawn == 2:
            yield from self._impair(paths, self._slowness())
        else:
            yield from self._impair(paths, Impairment(lost_permille=chance.between(50, 400)))

    def slow(self) -> Script:
        """Paths become slow, and some messages very late."""
        paths = around(self._places(), self._chance)
        yield from self._impair(paths, self._slowness())

    def loss(self) -> Script:
        """Packets are lost, some or most: what they carried comes late, or not at all and the connection breaks."""
        lost = Impairment(lost_permille=self._chance.choice((10, 50, 200, 500, 800)))
        yield from self._impair(around(self._places(), self._chance), lost)

    def clog(self) -> Script:
        """Little passes: all stands behind what was sent before, whatever connection it is of."""
        narrow = Impairment(bytes_per_second=self._chance.choice((1_000, 5_000, 20_000, 100_000)))
        yield from self._impair(around(self._places(), self._chance), narrow)

    def reset(self) -> Script:
        """Connections break, now this one and then that one."""
        for _ in range(self._chance.between(1, 20)):
            connections = self._world.network.connections()
            if connections:
                self._chance.choice(connections).reset()
            yield self._wait(10, 500)

    def disk(self) -> Script:
        """A disk becomes slow."""
        chance = self._chance
        victim = chance.choice(self._world.machines)
        conditions = victim.disk.conditions
        slow = {
            "sync_us": chance.between(1_000, 100_000),
            "sync_jitter_us": chance.between(0, 200_000),
            "fetch_us": chance.between(1_000, 50_000),
            "fetch_jitter_us": chance.between(0, 100_000),
            "later_one_in": chance.between(1, 2),
        }
        for name, value in slow.items():
            setattr(conditions, name, value)
        self._world.tell(victim.name, f"has a slow disk: {slow}")
        yield self._wait(1_000, 10_000)
        usual = Conditions()
        for name in slow:
            setattr(conditions, name, getattr(usual, name))
        self._world.tell(victim.name, "has its disk's usual speed")

    def full(self) -> Script:
        """A disk is full, until there is room again."""
        victim = self._chance.choice(self._world.machines)
        # Its disk may be exchanged meanwhile.
        conditions = victim.disk.conditions
        if conditions.is_full:
            return
        conditions.is_full = True
        self._world.tell(victim.name, "has a full disk")
        yield self._wait(500, 5_000)
        conditions.is_full = False
        self._world.tell(victim.name, "has room on its disk")

    def fsync(self) -> Script:
        """An fsync fails, after which a node writes nothing more until it is started again."""
        victim = self._take_victim()
        if victim is None:
            return
        self._world.tell(victim.name, "has a disk whose syncs fail")
        victim.disk.conditions.fails_syncs = True
        yield self._wait(500, 4_000)
        victim.disk.conditions.fails_syncs = False
        victim.kill()
        yield self._wait(50, 1_000)
        victim.start()
        self._release(victim)

    def stall(self) -> Script:
        """A storage engine refuses what it would have to stall for, now and then."""
        victim = self._chance.choice(self._world.machines)
        conditions = victim.disk.conditions
        conditions.refuses_settle_one_in = self._chance.between(2, 20)
        self._world.tell(victim.name, "has a store that refuses writes now and then")
        yield self._wait(500, 5_000)
        conditions.refuses_settle_one_in = 0
        self._world.tell(victim.name, "has a store that takes writes")

    def cpu(self) -> Script:
        """A process gets little of its processor."""
        victim = self._chance.choice(self._world.machines)
        process = victim.process
        if process is None:
            return
        process.slowness = self._chance.between(2, 100)
        self._world.tell(victim.name, f"runs {process.slowness} times as slow")
        yield self._wait(500, 5_000)
        process.slowness = 1

    def clock(self) -> Script:
        """A clock is set wrong, or runs wrong from now on."""
        victim = self._chance.choice(self._world.machines)
        if self._chance.one_in(2):
            victim.jump(self._chance.between(-CLOCK_JUMP_US, CLOCK_JUMP_US))
        else:
            victim.clock.drift(self._chance.between(-500, 500))
            self._world.tell(victim.name, f"has a clock that drifts by {victim.clock.drift_ppm} ppm")
        yield self._wait(100, 3_000)

    def _slowness(self) -> Impairment:
        base_us = self._chance.choice((1_000, 20_000, 150_000))
        return Impairment(slowness=Latency(base_us, base_us, 20, 4 * base_us, 3))

    def _impair(self, paths: Sequence[Path], impairment: Impairment) -> Script:
        network = self._world.network
        self._world.tell("network", f"impaired: {_shown(paths)} by {impairment}")
        network.impair(paths, impairment)
        yield self._wait(500, 8_000)
        self._disturb()
        network.mend(paths, impairment)
        self._world.tell("network", f"mended: {_shown(paths)}")

    def _places(self) -> list[int]:
        return [machine.index for machine in self._world.machines]

    def _cut(self, paths: Sequence[Path], least_ms: int, most_ms: int) -> Script:
        if not paths:
            return
        network = self._world.network
        self._world.tell("network", f"cut: {_shown(paths)}")
        network.cut(paths)
        yield self._wait(least_ms, most_ms)
        self._disturb()
        network.heal(paths)
        self._world.tell("network", f"healed: {_shown(paths)}")


def _shown(paths: Sequence[Path]) -> str:
    """Nodes are counted from 1 on, and clients, with a c, too."""
    both = [path for path in paths if path[0] < path[1] and (path[1], path[0]) in paths]
    single = [path for path in paths if (path[1], path[0]) not in paths]
    return ", ".join(
        [f"{_number(a)}-{_number(b)}" for a, b in both] + [f"{_number(a)}>{_number(b)}" for a, b in single]
    )


def _number(place: int) -> str:
    return str(place + 1) if place < CLIENTS else f"c{place - CLIENTS + 1}"


FAULTS: Final[dict[str, Callable[[Nemesis], Script]]] = {
    "kill": Nemesis.kill,
    "power": Nemesis.power,
    "blackout": Nemesis.blackout,
    "restart": Nemesis.restart,
    "new-disk": Nemesis.new_disk,
    "stranger": Nemesis.stranger,
    "join": Nemesis.join,
    "leave": Nemesis.leave,
    "copies": Nemesis.copies,
    "death": Nemesis.death,
    "replace": Nemesis.replace,
    "even": Nemesis.even,
    "pause": Nemesis.pause,
    "partition": Nemesis.partition,
    "one-way": Nemesis.one_way,
    "flap": Nemesis.flap,
    "clients": Nemesis.clients,
    "dc": Nemesis.dc,
    "slow": Nemesis.slow,
    "loss": Nemesis.loss,
    "clog": Nemesis.clog,
    "reset": Nemesis.reset,
    "disk": Nemesis.disk,
    "full": Nemesis.full,
    "fsync": Nemesis.fsync,
    "stall": Nemesis.stall,
    "cpu": Nemesis.cpu,
    "clock": Nemesis.clock,
}
"""Kinds of faults by name."""


def kinds_of(text: str) -> tuple[str, ...]:
    """The kinds that "all", "none" or a list with commas names.

    Raises:
        ValueError: there is no such kind.
    """
    if text in ("all", "none"):
        return tuple(FAULTS) if text == "all" else ()
    kinds = tuple(part.strip() for part in text.split(","))
    for kind in kinds:
        if kind not in FAULTS:
            raise ValueError(f"no fault is called '{kind}'; there are {', '.join(FAULTS)}, all and none")
    return kinds
