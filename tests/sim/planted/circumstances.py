"""Circumstances in which mistakes show sooner than under the usual faults; production code has to stand them."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from ourodb.cluster.metadata.metadata import Metadata
from ourodb.ports import Ports
from ourodb.sim.faults import FAULTS, Nemesis, between, isolate
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


def with_coordinators_that_die_in_a_part(patch: pytest.MonkeyPatch) -> None:
    """A node reaches only two others, and dies of that: what it coordinated meanwhile has reached nobody else."""

    def die(self: Nemesis) -> Generator[Promise[Any], Any, None]:
        world = self._world
        victim = self._take_victim()
        if victim is None:
            return
        others = self._chance.shuffled([place for place in self._places() if place != victim.index])
        paths = between([victim.index, *others[:2]], others[2:])
        world.network.cut(paths)
        yield sleep(world.loop, S)
        victim.kill()
        yield sleep(world.loop, S // 2)
        world.network.heal(paths)
        victim.start()
        self._release(victim)

    patch.setitem(FAULTS, "kill", die)


def with_leaders_that_die(patch: pytest.MonkeyPatch) -> None:
    """Whoever leads the metadata log is killed, and is back when another one leads."""

    def die(self: Nemesis) -> Generator[Promise[Any], Any, None]:
        leader = _leader(self)
        if leader is not None:
            leader.kill()
            yield sleep(self._world.loop, 3 * S)
            leader.start()

    patch.setitem(FAULTS, "kill", die)


def with_short_isolation(patch: pytest.MonkeyPatch) -> None:
    """One node is cut off, long enough for it to notice, not for the others."""

    def isolate_shortly(self: Nemesis) -> Generator[Promise[Any], Any, None]:
        network = self._world.network
        paths = isolate(self._places(), self._chance)
        network.cut(paths)
        yield sleep(self._world.loop, 3 * S // 2)
        network.heal(paths)

    patch.setitem(FAULTS, "partition", isolate_shortly)


def _leader(nemesis: Nemesis) -> Machine | None:
    for machine in nemesis._world.machines:
        if machine.is_ready:
            metadata: Metadata = machine.program.node.metadata
            if metadata.leader == metadata.me:
                return machine
    return None
