"""The hand of the nemesis: what every kind of fault needs to do its harm."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from ourodb.sim.machine import Machine
from ourodb.sim.tasks import Promise, sleep
from ourodb.sim.world import World

Script = Generator[Promise[Any], Any, None]


class Hand:
    """Attributes:
    chance: that of the strike whose script runs now.
    victims: machines that are down or stopped, by index.
    disturbances_ns: when something broke or healed, ascending.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.chance = world.chance.child("faults")
        self.victims: dict[int, None] = {}
        self.disturbances_ns: list[int] = []

    def disturb(self, _: object = None) -> None:
        """Something breaks, or heals, now."""
        self.disturbances_ns.append(self.world.loop.now_ns)

    def wait(self, least_ms: int, most_ms: int) -> Promise[None]:
        """For a time that is drawn."""
        return sleep(self.world.loop, self.chance.between(least_ms, most_ms) * 1_000_000)

    def take_victim(self) -> Machine | None:
        """A machine that runs, as long as only a minority is down; to be released again."""
        machines = self.world.machines
        running = [machine for machine in machines if machine.is_ready and machine.index not in self.victims]
        if not running or not self.may_take():
            return None
        victim = self.chance.choice(running)
        self.take(victim)
        return victim

    def may_take(self) -> bool:
        """Whether one more machine may be down."""
        return len(self.victims) < (len(self.world.machines) - 1) // 2

    def take(self, victim: Machine) -> None:
        """This one is, or soon will be."""
        self.victims[victim.index] = None

    def release(self, victim: Machine) -> None:
        """It runs again, or is gone for good."""
        del self.victims[victim.index]

    def places(self) -> list[int]:
        """Of all machines in the network."""
        return [machine.index for machine in self.world.machines]
