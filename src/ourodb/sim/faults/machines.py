"""What befalls machines and their processes: they die, stand still, are slow, or are wrong about the time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ourodb.sim.faults.hand import Hand, Script
from ourodb.sim.machine import Machine

CLOCK_JUMP_US: Final = 60_000_000
"""A clock is set by at most so much, forward or back."""


def kill(hand: Hand) -> Script:
    """A process dies in the midst of whatever it does."""
    yield from _crash(hand, Machine.kill, 50, 8_000)


def power(hand: Hand) -> Script:
    """A machine loses its power, and gets it back."""
    yield from _crash(hand, Machine.lose_power, 500, 10_000)


def blackout(hand: Hand) -> Script:
    """All machines lose their power at one moment: what isn't on disk is nowhere."""
    machines = hand.world.machines
    if hand.victims:
        return
    hand.victims.update(dict.fromkeys(machine.index for machine in machines))
    for machine in machines:
        machine.lose_power()
    yield hand.wait(100, 2_000)
    for machine in hand.chance.shuffled(machines):
        machine.start()
        yield hand.wait(1, 500)
        hand.release(machine)


def _crash(hand: Hand, how: Callable[[Machine], None], least_ms: int, most_ms: int) -> Script:
    victim = hand.take_victim()
    if victim is None:
        return
    process = victim.process
    assert process is not None
    process.die_after(hand.chance.below(100), with_machine=how is Machine.lose_power)
    for _ in range(20):
        yield hand.wait(10, 10)
        if not process.is_alive:
            break
    else:
        how(victim)
    yield hand.wait(least_ms, most_ms)
    victim.start()
    hand.release(victim)


def restart(hand: Hand) -> Script:
    """A process ends in order, and a new one begins."""
    victim = hand.take_victim()
    if victim is None:
        return
    victim.stop()
    while victim.process is not None:
        yield hand.wait(1, 10)
    yield hand.wait(1, 3_000)
    victim.start()
    hand.release(victim)


def new_disk(hand: Hand) -> Script:
    """A machine comes back with an empty disk, asks to be taken as a stranger; then it comes with its own."""
    victim = hand.take_victim()
    if victim is None:
        return
    victim.lose_power()
    if victim is hand.world.machines[0]:
        # It was told to found the cluster. With an empty disk it would found another one.
        yield hand.wait(500, 3_000)
    else:
        yield hand.wait(50, 1_000)
        victim.is_stranger = True
        disk = victim.change_disk(victim.new_disk())
        victim.start()
        yield hand.wait(1_000, 6_000)
        victim.lose_power()
        victim.change_disk(disk)
        victim.is_stranger = False
        yield hand.wait(50, 1_000)
    victim.start()
    hand.release(victim)


def pause(hand: Hand) -> Script:
    """A process stands still for a while."""
    victim = hand.take_victim()
    if victim is None:
        return
    victim.pause()
    yield hand.wait(100, 8_000)
    victim.resume()
    hand.release(victim)


def cpu(hand: Hand) -> Script:
    """A process gets little of its processor."""
    victim = hand.chance.choice(hand.world.machines)
    process = victim.process
    if process is None:
        return
    process.slowness = hand.chance.between(2, 100)
    hand.world.tell(victim.name, f"runs {process.slowness} times as slow")
    yield hand.wait(500, 5_000)
    process.slowness = 1


def clock(hand: Hand) -> Script:
    """A clock is set wrong, or runs wrong from now on."""
    victim = hand.chance.choice(hand.world.machines)
    if hand.chance.one_in(2):
        victim.jump(hand.chance.between(-CLOCK_JUMP_US, CLOCK_JUMP_US))
    else:
        victim.clock.drift(hand.chance.between(-500, 500))
        hand.world.tell(victim.name, f"has a clock that drifts by {victim.clock.drift_ppm} ppm")
    yield hand.wait(100, 3_000)
