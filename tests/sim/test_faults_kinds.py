"""Each kind of fault by itself: that it does its harm, and that it heals.

If this fails, runs claim to have survived what never befell them, or go on under harm that should be over.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from tests.sim.ending import assert_all_was_right
from tests.sim.talkers import Talker, send, talkers
from tests.sim.toy import toy_world

from ourodb.cql.wire.codes import Consistency
from ourodb.limits import PEER_UNACKNOWLEDGED_MS_MAX
from ourodb.ports import BULK, DATA, URGENT
from ourodb.sim.client import CqlClient
from ourodb.sim.faults.kinds import FAULTS
from ourodb.sim.faults.nemesis import Nemesis
from ourodb.sim.faults.paths import between
from ourodb.sim.machine import Machine
from ourodb.sim.network import CLIENTS, LAN, RACK, WAN, Impairment, Latency
from ourodb.sim.ouro import build_node, inspect
from ourodb.sim.run import Plan, SimStage, run
from ourodb.sim.tasks import MS, S, Task
from ourodb.sim.workloads.counter import CounterWorkload
from ourodb.sim.workloads.set import SetWorkload
from ourodb.sim.world import World
from ourodb.storage.families import DATA as DATA_FAMILY


def number(index: int) -> bytes:
    return index.to_bytes(4, "big")


def strike(world: World, kind: str) -> Task[None]:
    """One fault of this kind, now."""
    return world.spawn(FAULTS[kind](Nemesis(world, [])))


def healed(world: World, task: Task[Any]) -> None:
    assert world.run_until(lambda: task.is_kept, 60)
    assert not world.network.is_impaired
    places = [machine.index for machine in world.machines] + world.client_places()
    assert all(world.network.is_open(one, other) for one in places for other in places)
    assert all(machine.process is not None for machine in world.machines)


# --- The network: how late -------------------------------------------------------------------------------------


def test_the_further_the_later_and_tails_are_long() -> None:
    world = World(1)
    # In turn: dc1 rack1, dc2 rack1, dc1 rack2, dc2 rack2, dc1 rack1, ...
    world.add_machines(6, Talker, data_centers=2, racks=2)
    network = world.network
    assert network.latency(0, 4) is RACK
    assert network.latency(0, 2) is LAN
    assert network.latency(0, 1) is network.latency(4, 3) is WAN
    assert network.latency(0, CLIENTS) is LAN
    for target, latency in ((4, RACK), (2, LAN), (1, WAN)):
        delays = sorted(network.delay_ns(0, target) for _ in range(40_000))
        most = (latency.base_us + latency.jitter_us) * 1000
        late = [delay for delay in delays if delay > most]
        assert delays[0] >= latency.base_us * 1000
        assert 0 < len(late) < 3 * len(delays) / latency.spike_one_in
        assert max(late) > most + latency.spike_us * 1000, "some are later than the first spike explains"
        assert max(late) <= most + (latency.spike_us << latency.spike_doublings) * 1000


def test_what_is_twice_as_late_is_half_as_likely() -> None:
    world, _ = talkers()
    world.network.set_latency(0, 1, Latency(0, 0, 1, 1_000, 6))
    delays = [world.network.delay_ns(0, 1) for _ in range(20_000)]
    above = [sum(delay > doubled * MS for delay in delays) for doubled in (1, 2, 4, 8)]
    for one, next_one in itertools.pairwise(above):
        assert 1.5 < one / next_one < 3


def test_lost_packets_are_late_and_nothing_else() -> None:
    world, (one, two) = talkers()
    send(world, 0, 1, DATA, b"hello")
    world.run_for(1)
    lossy = Impairment(lost_permille=50)
    world.network.impair([(0, 1)], lossy)
    for index in range(300):
        send(world, 0, 1, DATA, number(index))
        world.run_for(0.01)
    world.network.mend([(0, 1)], lossy)
    assert world.network.impaired > 5
    world.run_for(5)
    assert two.messages(0) == [b"hello"] + [number(index) for index in range(300)]
    assert one.times("lost") == 0


def test_when_all_packets_are_lost_the_connection_is_lost_as_well() -> None:
    world, (one, two) = talkers()
    send(world, 0, 1, DATA, b"hello")
    world.run_for(1)
    lossy = Impairment(lost_permille=1000)
    paths = between([0], [1])
    world.network.impair(paths, lossy)
    send(world, 0, 1, DATA, b"into the void")
    world.run_for(2 * PEER_UNACKNOWLEDGED_MS_MAX / 1000)
    assert one.times("lost") >= 1
    world.network.mend(paths, lossy)
    world.run_for(5)
    send(world, 0, 1, DATA, b"again")
    world.run_for(1)
    assert two.messages(0)[-1] == b"again"


def test_what_is_urgent_waits_behind_the_bulk_on_a_clogged_path() -> None:
    world, (_, two) = talkers()
    for lane in (URGENT, DATA, BULK):
        send(world, 0, 1, lane, b"hello")
    world.run_for(1)
    narrow = Impairment(bytes_per_second=100_000)
    world.network.impair([(0, 1)], narrow)
    begin_ns = world.loop.now_ns
    send(world, 0, 1, BULK, bytes(100_000))
    world.run_for(0.001)
    send(world, 0, 1, URGENT, b"urgent")
    world.run_for(0.5)
    assert b"urgent" not in two.messages(0)
    world.run_for(1)
    (arrived_ns,) = [time_ns for time_ns, _, message in two.heard if message == b"urgent"]
    assert 1 * S <= arrived_ns - begin_ns < 1.1 * S
    world.network.mend([(0, 1)], narrow)
    send(world, 0, 1, BULK, bytes(100_000))
    send(world, 0, 1, URGENT, b"urgent again")
    world.run_for(0.1)
    assert two.messages(0)[-2:].count(b"urgent again") == 1


def test_impairments_add_up_and_are_mended_one_by_one() -> None:
    world, _ = talkers()
    network = world.network
    network.set_latency(0, 1, Latency(100, 0))
    slow, slower = (Impairment(slowness=Latency(base_us, 0)) for base_us in (1_000, 10_000))
    network.impair([(0, 1)], slow)
    network.impair([(0, 1)], slower)
    network.impair([(0, 1)], slow)
    assert network.delay_ns(0, 1) == (100 + 1_000 + 10_000 + 1_000) * 1000
    assert network.delay_ns(1, 0) < 1 * MS, "a path has one way"
    network.mend([(0, 1)], slow)
    network.mend([(0, 1)], slower)
    assert network.is_impaired
    assert network.delay_ns(0, 1) == 1_100_000
    network.mend([(0, 1)], slow)
    assert network.delay_ns(0, 1) == 100_000
    assert not network.is_impaired


def test_a_mended_path_makes_good_for_what_is_late() -> None:
    world, (one, two) = talkers()
    send(world, 0, 1, DATA, b"hello")
    world.run_for(1)
    narrow = Impairment(bytes_per_second=200)
    world.network.impair([(0, 1)], narrow)
    for index in range(10):
        send(world, 0, 1, DATA, number(index))
        world.run_for(0.01)
    world.run_for(0.5)
    before = len(two.messages(0))
    assert before < 8
    world.network.mend([(0, 1)], narrow)
    world.run_for(0.05)
    assert two.messages(0) == [b"hello"] + [number(index) for index in range(10)]
    world.run_for(10)
    assert len(two.messages(0)) == 11, "each arrives once"
    assert one.times("lost") == 0


# --- Disks -----------------------------------------------------------------------------------------------------


def test_a_torn_record_is_dropped_as_a_whole() -> None:
    torn = 0
    for seed in range(60):
        world, _ = talkers(seed, 1)
        machine = world.machines[0]
        assert machine.process is not None
        store = machine.process.store
        for batch in range(4):
            store.apply([(DATA_FAMILY, bytes([batch, key]), bytes(100)) for key in range(3)])
            store.settle()
        machine.lose_power()
        torn += machine.disk.torn
        keys = [key for key, _ in machine.disk.content.scan(DATA_FAMILY, b"", b"\xff")]
        assert keys == [bytes([batch, key]) for batch in range(len(keys) // 3) for key in range(3)]
    assert torn > 5


def test_a_machine_with_another_disk_has_nothing_and_gets_back_what_it_had() -> None:
    world, _ = talkers(1, 1)
    (machine,) = world.machines

    def keys() -> list[bytes]:
        return [key for key, _ in machine.disk.content.scan(DATA_FAMILY, b"", b"\xff")]

    assert machine.process is not None
    store = machine.process.store
    store.apply([(DATA_FAMILY, b"kept", b"x")])
    synced: list[object] = []
    store.sync(synced.append)
    world.run_for(1)
    assert synced == [None]
    machine.lose_power()
    disk = machine.change_disk(machine.new_disk())
    machine.start()
    world.run_for(1)
    assert keys() == []
    assert machine.process is not None
    machine.process.store.apply([(DATA_FAMILY, b"of the other", b"x")])
    machine.lose_power()
    machine.change_disk(disk)
    machine.start()
    world.run_for(1)
    assert keys() == [b"kept"]


# --- The kinds of the nemesis ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["slow", "loss", "clog"])
def test_paths_between_nodes_are_impaired_and_mended(kind: str) -> None:
    for seed in range(8):
        world = toy_world(seed, 4)
        task = strike(world, kind)
        assert world.network.is_impaired
        healed(world, task)


def test_data_centres_are_cut_off_or_badly_linked_and_whole_inside() -> None:
    cut = impaired = 0
    for seed in range(12):
        world = World(seed)
        world.start(world.add_machines(4, Talker, data_centers=2))
        network = world.network
        task = strike(world, "dc")
        assert network.is_open(0, 2)
        assert network.is_open(2, 0)
        assert network.is_open(1, 3)
        if network.is_impaired:
            impaired += 1
        else:
            cut += 1
            for here, there in ((0, 1), (0, 3), (2, 1), (2, 3)):
                assert not network.is_open(here, there)
                assert not network.is_open(there, here)
        healed(world, task)
    assert cut
    assert impaired


def test_clients_lose_sight_of_a_node_that_the_others_see() -> None:
    world = toy_world(3, 3)
    clients = [CqlClient(world, world.machines) for _ in range(3)]
    task = strike(world, "clients")
    places = world.client_places()
    assert places == [client.place for client in clients]
    deaf = [
        (machine.index, place)
        for machine in world.machines
        for place in places
        if not world.network.is_open(machine.index, place)
    ]
    assert len({machine for machine, _ in deaf}) == 1
    assert all(world.network.is_open(one, other) for one in range(3) for other in range(3))
    healed(world, task)


def test_a_restart_ends_in_order() -> None:
    world, (one, *_) = talkers(5, 3)
    stopped: list[int] = []
    for machine in world.machines:
        program = machine.program

        def stop(index: int = machine.index) -> None:
            stopped.append(index)

        program.stop = stop
    runs = sum(machine.runs for machine in world.machines)
    task = strike(world, "restart")
    healed(world, task)
    assert len(stopped) == 1
    assert sum(machine.runs for machine in world.machines) == runs + 1
    assert all(machine.deaths == 0 for machine in world.machines)
    assert one.machine.world is world


def test_goodbyes_are_heard() -> None:
    world, (one, two) = talkers(1, 2)
    send(world, 0, 1, DATA, b"hello")
    world.run_for(1)
    one.stop = lambda: send(world, 0, 1, DATA, b"goodbye")  # type: ignore[method-assign, assignment, return-value]
    world.machines[0].stop()
    world.run_for(1)
    assert two.messages(0) == [b"hello", b"goodbye"]
    assert world.machines[0].process is None


# --- With production nodes -------------------------------------------------------------------------------------


def busy_ring(seed: int, nodes: int = 3) -> tuple[World, SimStage, Callable[[], None]]:
    """A ring under load; what is returned last ends the load and looks whether all is right."""
    world = World(seed)
    world.start(world.add_machines(nodes, build_node))
    stage = SimStage(world)
    workload = SetWorkload(stage)
    world.carry_out(workload.set_up(), 60)
    clients = [world.spawn(workload.run_client(index)) for index in range(3)]

    def finish() -> None:
        world.run_for(5)
        assert_all_was_right(world, stage, workload, clients)

    return world, stage, finish


def members(machine: Machine) -> list[Any]:
    return list(machine.program.node.view.members.values())


def test_a_node_that_forgot_who_it_was_is_not_taken_for_itself() -> None:
    world, _, finish = busy_ring(1)
    world.run_for(1)
    before = members(world.machines[0])
    victim = world.machines[2]
    victim.lose_power()
    victim.may_be_refused = True
    disk = victim.change_disk(victim.new_disk())
    victim.start()
    world.run_for(8)
    assert not victim.is_ready
    assert members(world.machines[0]) == members(world.machines[1]) == before
    nodes = [machine.program.node for machine in world.machines[:2]]
    lost = next(member.id for member in before if member.peer == victim.address)
    assert [node.peers.up[lost] for node in nodes] == [False, False], "nobody takes it for the member"
    victim.lose_power()
    victim.change_disk(disk)
    victim.may_be_refused = False
    victim.start()
    world.run_for(5)
    assert victim.is_ready
    assert members(victim) == before
    finish()


def test_a_stranger_that_dies_while_it_joins_leaves_no_trace() -> None:
    world, stage, finish = busy_ring(2)
    world.run_for(1)
    before = members(world.machines[0])
    (guest,) = world.add_machines(1, build_node, apart=True)
    guest.may_be_refused = True
    guest.start()
    assert world.run_until(lambda: len(members(world.machines[0])) == 4, 5)
    move = world.machines[0].program.node.view.move
    assert move is None or not move.copied, "it has no rows yet"
    world.remove(guest)
    assert world.run_until(lambda: members(world.machines[0]) == before, 60)
    done = stage.history.counts()
    world.run_for(2)
    assert sum(stage.history.counts().values()) > sum(done.values())
    finish()


def test_a_machine_added_in_the_midst_of_a_run_joins_while_there_are_no_tables() -> None:
    world = World(3)
    world.start(world.add_machines(3, build_node))
    world.run_for(2)
    world.start(world.add_machines(1, build_node))
    world.run_for(2)
    assert [machine.index for machine in world.machines] == [0, 1, 2, 3]
    assert {len(members(machine)) for machine in world.machines} == {4}
    stage = SimStage(world)
    workload = SetWorkload(stage)
    world.carry_out(workload.set_up(), 60)
    reply = world.carry_out(_insert_at_all(stage), 60)
    assert reply.error is None


def _insert_at_all(stage: SimStage):  # type: ignore[no-untyped-def]
    return (
        yield stage.client(0).execute(
            "INSERT INTO sim.elements (id, writer) VALUES (1, 1)",
            consistency=Consistency.ALL,
            is_prepared=False,
        )
    )


def test_increments_go_to_another_leader_while_the_first_is_not_yet_known_to_be_down() -> None:
    """A link that was lost takes nothing any more; the failure detector needs some seconds more."""
    world = World(6)
    world.start(world.add_machines(5, build_node))
    stage = SimStage(world)
    workload = CounterWorkload(stage)
    world.carry_out(workload.set_up(), 60)
    for index in range(4):
        world.spawn(workload.run_client(index))
    world.run_for(1)
    world.machines[4].lose_power()
    # Until links are given up, what was sent to it is in doubt.
    world.run_for(1.25 * PEER_UNACKNOWLEDGED_MS_MAX / 1000)
    begin_ns = world.loop.now_ns
    nodes = [machine.program.node for machine in world.machines[:4]]
    assert any(list(node.peers.up.values()).count(False) == 0 for node in nodes)
    world.run_for(1)
    after = [operation for operation in stage.history if operation.invoked_ns > begin_ns]
    refused = [operation for operation in after if "Overloaded" in operation.error]
    assert len(after) > 50
    assert not refused, str(refused[0])


@pytest.mark.parametrize("kind", ["slow", "loss", "clog", "dc", "clients", "restart", "new-disk", "stranger"])
def test_production_nodes_under_one_kind(kind: str) -> None:
    plan = Plan(
        11,
        "register",
        seconds=5,
        quiet_seconds=3,
        clients=3,
        faults=(kind,),
        data_centers=2 if kind == "dc" else 1,
        nodes=4 if kind == "dc" else 3,
    )
    verdict = run(plan, build_node, inspect)
    assert verdict.is_ok, "\n".join([*verdict.problems, verdict.line()])
    assert verdict.struck[kind] > 0
