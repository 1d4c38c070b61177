"""Circumstances in which mistakes show sooner than under the usual faults; production code has to stand them."""

from __future__ import annotations

import pytest

from ourodb.cluster.metadata.metadata import Metadata
from ourodb.ports import Link, NodeId, Ports
from ourodb.replication.replica.replica import Replica
from ourodb.sim.faults.hand import Hand, Script
from ourodb.sim.faults.kinds import FAULTS
from ourodb.sim.faults.paths import between
from ourodb.sim.machine import Machine
from ourodb.sim.network import Impairment, Latency
from ourodb.sim.ouro import build_node
from ourodb.sim.process import Program
from ourodb.sim.tasks import S, sleep

LATE_MS = 300


def on_slow_disks(machine: Machine, ports: Ports) -> Program:
    """Syncs take longer than answers to clients."""
    machine.disk.conditions.sync_us = 50_000
    return build_node(machine, ports)


def with_stalling_stores(patch: pytest.MonkeyPatch) -> None:
    """Each replica refuses some writes, so that many are on one replica alone for a while."""

    def stall(hand: Hand) -> Script:
        machines = hand.world.machines
        for machine in machines:
            machine.disk.conditions.refuses_settle_one_in = 4
        yield sleep(hand.world.loop, 2 * S)
        for machine in machines:
            machine.disk.conditions.refuses_settle_one_in = 0

    patch.setitem(FAULTS, "stall", stall)


def with_coordinators_that_die_in_a_part(patch: pytest.MonkeyPatch) -> None:
    """A node reaches only two others, and dies of that: what it coordinated meanwhile has reached nobody else."""

    def die(hand: Hand) -> Script:
        world = hand.world
        victim = hand.take_victim()
        if victim is None:
            return
        others = hand.chance.shuffled([place for place in hand.places() if place != victim.index])
        paths = between([victim.index, *others[:2]], others[2:])
        world.network.cut(paths)
        yield sleep(world.loop, S)
        victim.kill()
        yield sleep(world.loop, S // 2)
        world.network.heal(paths)
        victim.start()
        hand.release(victim)

    patch.setitem(FAULTS, "kill", die)


def with_leaders_that_die(patch: pytest.MonkeyPatch) -> None:
    """Whoever leads the metadata log is killed, and is back when another one leads."""

    def die(hand: Hand) -> Script:
        leader = _leader(hand)
        if leader is not None:
            leader.kill()
            yield sleep(hand.world.loop, 3 * S)
            leader.start()

    patch.setitem(FAULTS, "kill", die)


def with_joins_that_one_misses(patch: pytest.MonkeyPatch) -> None:
    """A node of the second data centre is cut off, but for its clients, while another one joins the first; when it is
    back, its messages take long at first.

    What it does until it has pulled what it missed goes to those who held the rows before.
    """

    def join(hand: Hand) -> Script:
        world = hand.world
        if hand.victims:
            return
        members = list(world.machines)
        behind = hand.chance.choice([machine for machine in members if machine.data_center == "dc2"])
        hand.victims[behind.index] = None
        (newcomer,) = world.add_machines(1, behind.build)
        newcomer.data_center = "dc1"
        paths = between([behind.index], [place for place in hand.places() if place != behind.index])
        world.network.cut(paths)
        newcomer.start()
        movers = [machine.program for machine in members if machine is not behind]
        while not all(mover.knows(newcomer.address) and not mover.is_moving for mover in movers):
            yield sleep(world.loop, S)
        late = Impairment(slowness=Latency(300_000, 0))
        world.network.impair(paths, late)
        world.network.heal(paths)
        yield sleep(world.loop, 4 * S)
        world.network.mend(paths, late)
        hand.release(behind)

    patch.setitem(FAULTS, "join", join)


def _leader(hand: Hand) -> Machine | None:
    for machine in hand.world.machines:
        if machine.is_ready:
            metadata: Metadata = machine.program.node.metadata
            if metadata.leader == metadata.me:
                return machine
    return None


def with_late_repairs(patch: pytest.MonkeyPatch) -> None:
    """What a read gives to replicas that lack it arrives after what was written later."""
    on_repair = Replica.on_repair

    def later(self: Replica, link: Link, node: NodeId, request: int, epoch: int, body: bytes) -> None:
        self._peers._scheduler.after(LATE_MS, lambda: on_repair(self, link, node, request, epoch, body))

    patch.setattr(Replica, "on_repair", later)
