"""Circumstances in which mistakes show sooner than under the usual faults; production code has to stand them."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from ourodb.ports import Ports
from ourodb.sim.faults import FAULTS, Nemesis, between
from ourodb.sim.machine import Machine
from ourodb.sim.ouro import build_node
from ourodb.sim.process import Program
from ourodb.sim.tasks import Promise, S, sleep


def on_slow_disks(machine: Machine, ports: Ports) -> Program:
    """Syncs take longer than answers to clients."""
    machine.disk.conditions.sync_us = 50_000
    return build_node(machine, ports)


def with_stalling_stores(patch: pytest.MonkeyPatch) -> None:
    """Each replica refuses some writes, so that many are on one replica alone for a while."""

    def stall(self: Nemesis) -> Generator[Promise[Any], Any, None]:
        machines = self._world.machines
        for machine in machines:
            machine.disk.conditions.refuses_settle_one_in = 4
        yield sleep(self._world.loop, 2 * S)
        for machine in machines:
            machine.disk.conditions.refuses_settle_one_in = 0

    patch.setitem(FAULTS, "stall", stall)


def with_coordinators_that_die_in_a_minority(patch: pytest.MonkeyPatch) -> None:
    """A node reaches only one other, and dies of that: what it coordinated meanwhile is on two nodes, or on none."""

    def die(self: Nemesis) -> Generator[Promise[Any], Any, None]:
        world, chance = self._world, self._chance
        victim = self._take_victim()
        if victim is None:
            return
        together = [victim.index, chance.choice([i for i in self._places() if i != victim.index])]
        paths = between(together, [place for place in self._places() if place not in together])
        world.network.cut(paths)
        yield sleep(world.loop, S // 2)
        victim.kill()
        yield sleep(world.loop, S // 2)
        world.network.heal(paths)
        victim.start()
        self._release(victim)

    patch.setitem(FAULTS, "kill", die)
