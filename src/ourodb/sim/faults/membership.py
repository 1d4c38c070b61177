"""Who belongs to the cluster: machines join, leave, die for good, are replaced.

Whole machines are gone for good one at a time: what was acknowledged is still with others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ourodb.sim.faults.hand import Hand, Script
from ourodb.sim.machine import HEAL_AFTER_S, Machine
from ourodb.sim.process import Mover

MACHINES_MIN: Final = 3
MACHINES_MAX: Final = 7
"""Machines leave only while there are more, and join only while there are fewer."""

MACHINES_FOR_MORE_COPIES: Final = 5

MOVE_SECONDS_MAX: Final = 150
"""A machine that joins or leaves does so within this time, or is found not to."""

OTHERS_BACK_SECONDS_MAX: Final = 3 * MOVE_SECONDS_MAX
"""What needs a machine that was to be gone for good, and couldn't be, has come to its end by then: it is back."""


def stranger(hand: Hand) -> Script:
    """A new machine joins, and is gone before it is done; the cluster forgets it."""
    members = hand.world.machines
    if any(mover.is_moving for mover in _movers(hand)):
        # Two that die are more than a quorum of their ranges can miss.
        return
    if not hand.may_take():
        return
    (guest,) = hand.world.add_machines(1, members[0].build, apart=True)
    guest.may_be_refused = True
    hand.take(guest)
    guest.start()
    yield hand.wait(500, 6_000)
    hand.world.remove(guest)
    hand.world.missed += 1
    yield from _forgotten(hand, guest)
    hand.world.missed -= 1
    hand.release(guest)


def _forgotten(hand: Hand, guest: Machine) -> Script:
    members = hand.world.machines
    for _ in range(OTHERS_BACK_SECONDS_MAX):
        yield hand.wait(1_000, 1_000)
        movers = _movers(hand)
        if not movers and any(machine.is_ready for machine in members):
            # Programs of a kind that knows no members.
            return
        if movers and not any(mover.knows(guest.address) for mover in movers):
            return
        if movers:
            # It had joined before it died, or is still about to: somebody has to say that it is gone for good.
            movers[0].send_away(guest.address, is_dead=True, is_forced=True)


def join(hand: Hand) -> Script:
    """A new machine joins, and gets its part of the data."""
    machines, chance = hand.world.machines, hand.chance
    if len(machines) >= MACHINES_MAX or not _movers(hand):
        return
    newcomer = _newcomer(hand, chance.choice(machines))
    newcomer.start()
    yield from _until(hand, lambda mover: mover.knows(newcomer.address) and not mover.is_moving)


def _newcomer(hand: Hand, like: Machine) -> Machine:
    """A machine that never ran, configured and placed as another one is."""
    (newcomer,) = hand.world.add_machines(1, like.build, sync_period_ms=like.sync_period_ms)
    newcomer.heal_after_s = like.heal_after_s
    newcomer.data_center, newcomer.rack = like.data_center, like.rack
    return newcomer


def replace(hand: Hand) -> Script:
    """A machine dies for good, and a new one takes its place, if the others don't give it up before."""
    victim = hand.take_victim() if _movers(hand) else None
    if victim is None:
        return
    victim.may_be_refused = True
    victim.lose_power()
    number = 0
    for _ in range(MOVE_SECONDS_MAX):
        yield hand.wait(1_000, 1_000)
        number = next((mover.number_of_dead(victim.address) for mover in _movers(hand)), 0)
        if number:
            break
    else:
        yield from _return(hand, victim)
        hand.release(victim)
        return
    newcomer = _newcomer(hand, victim)
    newcomer.replaces = number
    newcomer.may_be_refused = True
    newcomer.start()
    for _ in range(MOVE_SECONDS_MAX):
        yield hand.wait(1_000, 1_000)
        if any(not mover.knows(victim.address) for mover in _movers(hand, apart=newcomer)):
            break
    movers = _movers(hand, apart=newcomer)
    if any(not mover.knows(victim.address) for mover in movers):
        hand.world.remove(victim)
    else:
        yield from _return(hand, victim)
    if newcomer in hand.world.machines:
        if any(mover.knows(newcomer.address) for mover in movers):
            newcomer.may_be_refused = False
        else:
            hand.world.remove(newcomer)
    hand.release(victim)


def even(hand: Hand) -> Script:
    """Tokens are given anew, so that each machine owns as much as the others."""
    movers = _movers(hand)
    if not movers:
        return
    movers[0].even()
    yield hand.wait(1_000, 1_000)
    yield from _until(hand, lambda mover: not mover.is_moving)


def leave(hand: Hand) -> Script:
    """A machine gives its data to others and is taken away; sometimes it is dead already."""
    staying = [machine for machine in hand.world.machines if not machine.may_be_refused]
    if len(staying) <= MACHINES_MIN:
        return
    is_dead = hand.chance.one_in(3)
    if is_dead:
        dying = hand.take_victim()
        if dying is None:
            return
        victim = dying
        victim.lose_power()
    else:
        # It lives, so whatever strikes others may strike it, too.
        victim = hand.chance.choice(staying)
    has_left = False
    for _ in range(MOVE_SECONDS_MAX):
        yield hand.wait(500, 1_000)
        movers = _movers(hand, apart=victim)
        has_left = any(not mover.knows(victim.address) for mover in movers)
        if has_left:
            break
        if movers and movers[0].send_away(victim.address, is_dead=is_dead):
            # From now on the cluster may refuse it; it isn't known whether what was asked for is decided.
            victim.may_be_refused = True
    if has_left:
        hand.world.remove(victim)
    elif is_dead:
        yield from _return(hand, victim)
    if is_dead:
        hand.release(victim)


def copies(hand: Hand) -> Script:
    """There are to be more copies of each row, and then as many as before.

    In one data centre: with more copies a quorum may be far away, and of conditional statements that contend over
    such a distance too few succeed to prove anything.
    """
    usual = next((mover.copies for mover in _movers(hand)), 0)
    machines = hand.world.machines
    centers = {machine.data_center for machine in machines}
    if not usual or len(machines) < MACHINES_FOR_MORE_COPIES or len(centers) > 1:
        return
    for count in (usual + 1 + hand.chance.below(2), usual):
        for _ in range(MOVE_SECONDS_MAX):
            movers = _movers(hand)
            if any(mover.copies == count and not mover.is_moving for mover in movers):
                break
            if movers and not movers[0].is_moving:
                movers[0].set_copies(count)
            yield hand.wait(500, 1_000)


def death(hand: Hand) -> Script:
    """A machine dies for good; the others give it up by themselves, if they do such things soon."""
    machines = hand.world.machines
    if len(machines) <= MACHINES_MIN or any(one.heal_after_s >= HEAL_AFTER_S for one in machines):
        return
    victim = hand.take_victim()
    if victim is None:
        return
    victim.may_be_refused = True
    victim.lose_power()
    has_left = False
    for _ in range(MOVE_SECONDS_MAX):
        yield hand.wait(1_000, 1_000)
        has_left = any(not mover.knows(victim.address) for mover in _movers(hand, apart=victim))
        if has_left:
            break
    if has_left:
        hand.world.remove(victim)
    else:
        yield from _return(hand, victim)
    hand.release(victim)


def _return(hand: Hand, victim: Machine) -> Script:
    """One that should have been given up, and couldn't be, returns; perhaps it is only now."""
    victim.start()
    for _ in range(MOVE_SECONDS_MAX):
        yield hand.wait(3_000, 3_000)
        movers = _movers(hand, apart=victim)
        if any(not mover.knows(victim.address) for mover in movers):
            hand.world.remove(victim)
            return
        if movers and not any(mover.is_moving for mover in movers):
            return


def _movers(hand: Hand, apart: Machine | None = None) -> list[Mover]:
    """The programs of machines that run.

    Args:
        apart: of all but this one.
    """
    machines = hand.world.machines
    running = [machine.program for machine in machines if machine is not apart and machine.is_ready]
    return [program for program in running if isinstance(program, Mover)]


def _until(hand: Hand, happened: Callable[[Mover], bool]) -> Script:
    """Wait until some program says so, but not for ever: what doesn't come to an end is found at the end."""
    for _ in range(MOVE_SECONDS_MAX):
        if any(happened(mover) for mover in _movers(hand)):
            return
        yield hand.wait(1_000, 1_000)
