"""Production nodes of which one dies for good, under load: the others give it up, or know why they mustn't.

If this fails, rows have fewer copies than they should for ever, or are lost by the healing itself, or a node is given
up that is only cut off.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ourodb.cluster.metadata.commands import PauseHealing
from ourodb.cluster.ring.rebalancing import unevenness
from ourodb.errors import OuroError
from ourodb.limits import REBALANCE_RATIO_MAX
from ourodb.node import Node
from ourodb.operations import operations_report, rebalance
from ourodb.ports import NodeId
from ourodb.sim.client import CqlClient
from ourodb.sim.faults.paths import between
from ourodb.sim.machine import Machine
from ourodb.sim.ouro import build_node, inspect, nodes
from ourodb.sim.run import SimStage
from ourodb.sim.tasks import Promise, S
from ourodb.sim.workloads import WORKLOADS
from ourodb.sim.workloads.stage import Reply, Script, bigint, from_bigint
from ourodb.sim.world import World

HEAL_AFTER_S = 12


class Loaded:
    """A ring under load.

    Attributes:
        machines: as they were at first.
    """

    def __init__(
        self, count: int, *, racks: int = 1, centers: int = 1, workload: str = "set", seed: int = 1
    ) -> None:
        self.world = World(seed)
        self.machines = list(self.world.add_machines(count, build_node, racks=racks, data_centers=centers))
        for machine in self.machines:
            machine.heal_after_s = HEAL_AFTER_S
        self.world.start(self.machines)
        self.stage = SimStage(self.world)
        self.workload = WORKLOADS[workload](self.stage)
        self.world.carry_out(self.workload.set_up(), 20)
        self.clients = [self.world.spawn(self.workload.run_client(number)) for number in range(3)]
        self.world.run_for(3)

    def node(self, index: int) -> Node:
        program: Node = self.machines[index].program.node
        return program

    def until(self, happened: Callable[[], bool], seconds_max: float = 120) -> None:
        assert self.world.run_until(happened, seconds_max), self.node(0).metadata.prospects()

    def members(self, index: int = 0) -> list[int]:
        return list(self.node(index).view.members)

    def bury(self, machine: Machine) -> None:
        """It never comes back."""
        machine.may_be_refused = True
        self.world.remove(machine)

    def finish(self) -> None:
        """All that was acknowledged is there, and the nodes agree."""
        self.world.run_for(10)
        self.stage.is_over = True
        assert self.world.run_until(lambda: all(client.is_kept for client in self.clients), 30)
        self.world.carry_out(self.workload.finish(), 60)
        assert self.workload.problems() == []
        assert self.world.carry_out(inspect(self.world, self.stage), 60) == []
        views = [node.view for node in nodes(self.world).values()]
        assert all(view == views[0] for view in views)


@pytest.mark.parametrize(("workload", "seed"), [("set", 1), ("register", 2), ("counter", 3)])
def test_a_node_that_dies_for_good_is_given_up_and_nothing_is_lost(workload: str, seed: int) -> None:
    loaded = Loaded(4, workload=workload, seed=seed)
    dead = loaded.machines[3]
    number = loaded.node(3).peers.me
    loaded.bury(dead)
    loaded.world.run_for(HEAL_AFTER_S - 5)
    (prospect,) = loaded.node(0).metadata.prospects()
    assert (prospect.node, prospect.obstacle, prospect.is_under_way) == (number, "", False)
    loaded.until(lambda: number not in loaded.members())
    (operation,) = loaded.node(0).view.operations
    assert (operation.kind, operation.nodes, operation.is_done) == ("heal", (number,), True)
    assert 0 < operation.began_ms < operation.switched_ms < operation.ended_ms
    assert operation.rows > 0
    loaded.finish()


def test_the_leader_that_dies_for_good_is_given_up_too() -> None:
    loaded = Loaded(5)
    index = next(index for index in range(5) if loaded.node(index).metadata.leads)
    number = loaded.node(index).peers.me
    loaded.bury(loaded.machines[index])
    other = (index + 1) % 5
    loaded.until(lambda: number not in loaded.members(other))
    loaded.finish()


def test_three_nodes_of_which_each_has_a_copy_wait() -> None:
    loaded = Loaded(3)
    loaded.machines[2].lose_power()
    loaded.world.run_for(2 * HEAL_AFTER_S + 10)
    (prospect,) = loaded.node(0).metadata.prospects()
    assert "3 copies, and 2 nodes" in prospect.obstacle
    assert loaded.node(0).view.operations == ()
    # A fourth node makes it possible.
    (spare,) = loaded.world.add_machines(1, build_node)
    spare.heal_after_s = HEAL_AFTER_S
    spare.start()
    number = prospect.node
    loaded.until(lambda: number not in loaded.members())
    loaded.bury(loaded.machines[2])
    assert [one.kind for one in loaded.node(0).view.operations if one.is_done] == ["join", "heal"]
    loaded.finish()


def test_a_rack_that_is_cut_off_is_not_given_up() -> None:
    loaded = Loaded(6, racks=3)
    inside = [index for index in range(6) if loaded.machines[index].rack == "rack2"]
    paths = between(inside, [index for index in range(6) if index not in inside])
    loaded.world.network.cut(paths)
    loaded.world.run_for(3 * HEAL_AFTER_S)
    found = loaded.node(0).metadata.prospects()
    assert [prospect.obstacle for prospect in found] == [
        "all of rack rack2 is down: a partition rather than a death"
    ] * 2
    # It returns node by node: nothing becomes of the second while the first is there and it isn't.
    first = [path for path in paths if inside[0] in path]
    loaded.world.network.heal(first)
    loaded.world.run_for(HEAL_AFTER_S - 5)
    assert len(loaded.node(0).metadata.prospects()) == 1
    loaded.world.network.heal([path for path in paths if path not in first])
    loaded.world.run_for(10)
    assert len(loaded.members()) == 6
    assert loaded.node(0).view.operations == ()
    assert loaded.node(0).view.suspects == {}
    loaded.finish()


def test_a_node_that_is_back_in_time_stays() -> None:
    loaded = Loaded(4)
    loaded.machines[3].lose_power()
    loaded.world.run_for(HEAL_AFTER_S - 3)
    loaded.machines[3].start()
    loaded.world.run_for(2 * HEAL_AFTER_S)
    assert len(loaded.members()) == 4
    assert loaded.node(0).view.suspects == {}
    loaded.finish()


def test_paused_healing_waits_until_it_is_told_to_go_on() -> None:
    loaded = Loaded(4)
    number = loaded.node(3).peers.me
    loaded.node(1).metadata.submit_member(PauseHealing(True), lambda outcome: None)
    loaded.world.run_for(1)
    loaded.bury(loaded.machines[3])
    loaded.world.run_for(3 * HEAL_AFTER_S)
    assert number in loaded.members()
    assert loaded.node(0).metadata.prospects()[0].obstacle == "healing is paused"
    loaded.node(1).metadata.submit_member(PauseHealing(False), lambda outcome: None)
    loaded.until(lambda: number not in loaded.members())
    loaded.finish()


def test_one_after_the_other_dies() -> None:
    """The first is given up before the second is due; with five nodes there is room for both."""
    loaded = Loaded(5, workload="register")
    numbers = [loaded.node(index).peers.me for index in (3, 4)]
    loaded.bury(loaded.machines[3])
    loaded.until(lambda: numbers[0] not in loaded.members())
    loaded.bury(loaded.machines[4])
    loaded.until(lambda: numbers[1] not in loaded.members())
    loaded.finish()


def test_a_ring_that_is_uneven_is_evened_under_load() -> None:
    """A node of four that leaves makes three of which one owns a fifth too much."""
    loaded = Loaded(4, workload="set")
    order = sorted(range(4), key=lambda index: loaded.node(index).peers.me)
    third = order[2]
    number = loaded.node(third).peers.me
    loaded.machines[third].may_be_refused = True
    witness = order[0]
    loaded.node(witness).send_away(number, is_dead=False)
    loaded.until(lambda: number not in loaded.members(witness))
    loaded.world.remove(loaded.machines[third])
    before = loaded.node(witness).view
    assert unevenness(before.members.values()) > REBALANCE_RATIO_MAX
    told: list[dict[str, Any] | OuroError] = []
    rebalance(loaded.node(witness), told.append)
    loaded.until(lambda: bool(told))
    loaded.until(lambda: loaded.node(witness).view.move is None and not loaded.node(witness).view.wishes)
    after = loaded.node(witness).view
    (answer,) = told
    assert not isinstance(answer, OuroError)
    assert [node for node in after.members if after.members[node] != before.members[node]] == answer["nodes"]
    assert len(answer["nodes"]) == 1
    assert unevenness(after.members.values()) <= REBALANCE_RATIO_MAX
    ended = operations_report(loaded.node(witness))["ended"]
    assert [(one["kind"], one["is_done"]) for one in ended] == [("rebalance", True), ("leave", True)]
    loaded.finish()


def test_the_only_copy_of_a_data_centre_may_die() -> None:
    """With copies that don't care for data centres, the dead node had the only one there: nobody waits for it."""
    loaded = Loaded(5, centers=2)
    index = next(index for index in range(5) if loaded.machines[index].data_center == "dc2")
    number = loaded.node(index).peers.me
    loaded.bury(loaded.machines[index])
    loaded.until(lambda: number not in loaded.members())
    loaded.finish()


@pytest.mark.parametrize("how", ["kill", "power"])
def test_a_node_that_is_started_again_goes_on_copying_where_it_was(how: str) -> None:
    """And copies no faster than it was told to."""
    loaded = Loaded(3)
    loaded.world.run_for(5)
    (spare,) = loaded.world.add_machines(1, build_node)
    spare.stream_bytes_per_s = 20_000
    spare.start()
    start_ns = loaded.world.loop.now_ns
    loaded.until(lambda: spare.is_ready and spare.program.node.copying.progress.rows > 500)
    before = spare.program.node.copying.progress
    seconds = (loaded.world.loop.now_ns - start_ns) / S
    assert before.ranges_done < before.ranges
    assert before.bytes < 20_000 * seconds + 20_000
    if how == "kill":
        spare.kill()
    else:
        spare.lose_power()
    loaded.world.run_for(2)
    spare.start()
    assert loaded.world.run_until(
        lambda: spare.is_ready and bool(spare.program.node.copying.progress.move), 20
    )
    after = spare.program.node.copying.progress
    assert after.move == before.move
    # What the last moment brought may be gone with its notes.
    assert before.ranges_done - 8 <= after.ranges_done <= before.ranges_done
    assert 0 < after.rows <= before.rows
    loaded.until(lambda: loaded.node(0).view.move is None)
    (operation,) = loaded.node(0).view.operations
    assert operation.is_done
    loaded.finish()


def test_a_node_that_returns_while_its_rows_are_copied_stays() -> None:
    loaded = Loaded(4)
    for machine in loaded.machines:
        machine.stream_bytes_per_s = 2_000
    for machine in loaded.machines[1:3]:
        machine.kill()
        machine.start()
        loaded.world.run_for(5)
    number = loaded.node(3).peers.me
    loaded.machines[3].lose_power()
    loaded.until(lambda: loaded.node(1).view.move is not None)
    loaded.world.run_for(3)
    loaded.machines[3].start()
    loaded.until(lambda: loaded.node(1).view.move is None, 30)
    assert number in loaded.members(1)
    (operation,) = loaded.node(1).view.operations
    assert (operation.is_done, operation.reason) == (False, f"node {number} is back")
    loaded.world.run_for(2 * HEAL_AFTER_S)
    assert len(loaded.members(1)) == 4
    loaded.finish()


KEYS = 200


def test_what_only_the_dead_node_and_one_other_had_is_read_by_every_quorum_after() -> None:
    """A third replica was away when it was written, and the hint for that one died with the coordinator."""
    world = World(5)
    machines = list(world.add_machines(4, build_node))
    for machine in machines:
        machine.heal_after_s = HEAL_AFTER_S
    world.start(machines)
    first, other, absent, dying = machines
    number = dying.program.node.peers.me

    def run(client: CqlClient, statement: str, *values: int) -> Reply:
        reply = world.carry_out(waited(client.execute(statement, [bigint(value) for value in values])), 20)
        assert reply.error is None, (statement, values, reply.error)
        return reply

    witness, doomed = CqlClient(world, [first], moves=False), CqlClient(world, [dying], moves=False)
    replication = "{'class': 'SimpleStrategy', 'replication_factor': 3}"
    run(witness, f"CREATE KEYSPACE ks WITH replication = {replication}")
    run(witness, "CREATE TABLE ks.t (k bigint PRIMARY KEY, v bigint)")
    world.run_for(2)
    absent.lose_power()
    assert world.run_until(lambda: not dying.program.node.peers.up[absent_number(first, absent)], 10)
    for key in range(KEYS):
        run(doomed, "INSERT INTO ks.t (k, v) VALUES (?, ?)", key, key + 1)
    dying.may_be_refused = True
    world.remove(dying)
    absent.start()
    assert world.run_until(lambda: number not in first.program.node.view.members, 120)
    other.kill()
    world.run_for(5)
    for key in range(KEYS):
        reply = run(witness, "SELECT v FROM ks.t WHERE k = ?", key)
        assert [from_bigint(row[0]) for row in reply.rows] == [key + 1]


def waited(promise: Promise[Reply]) -> Script[Reply]:
    return (yield promise)


def absent_number(witness: Machine, machine: Machine) -> NodeId:
    """The number of a machine that may be off."""
    members = witness.program.node.view.members
    return next(node for node, member in members.items() if member.peer == machine.address)


def test_a_node_that_dies_while_another_joins_holds_up_neither() -> None:
    """The join waits for majorities of data centres, and the healing for the join."""
    loaded = Loaded(5, centers=2)
    (spare,) = loaded.world.add_machines(1, build_node)
    spare.heal_after_s = HEAL_AFTER_S
    spare.data_center = "dc1"
    spare.stream_bytes_per_s = 30_000
    spare.start()
    loaded.until(lambda: loaded.node(0).view.move is not None)
    index = next(index for index in range(5) if loaded.machines[index].data_center == "dc2")
    number = loaded.node(index).peers.me
    loaded.bury(loaded.machines[index])
    loaded.until(lambda: number not in loaded.members())
    assert [(one.kind, one.is_done) for one in loaded.node(0).view.operations] == [
        ("join", True),
        ("heal", True),
    ]
    loaded.finish()
