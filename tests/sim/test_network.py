"""Links between simulated nodes, as ``ports.Link`` promises them and sockets break them.

If this fails, the simulator either shows faults that can't happen or hides those that do.
"""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sim.talkers import Talker, send, talkers

from ourodb.limits import PEER_IDLE_PROBE_SECONDS, PEER_QUEUE_BYTES_MAX, PEER_UNACKNOWLEDGED_MS_MAX
from ourodb.ports import BULK, DATA, URGENT
from ourodb.sim.faults.paths import (
    PARTITIONS,
    between,
    bridge,
    halves,
    isolate,
    majorities_ring,
    one_way_paths,
)
from ourodb.sim.network import Latency
from ourodb.sim.tasks import MS, S
from ourodb.sim.world import World

LONG_S = 2 * PEER_UNACKNOWLEDGED_MS_MAX / 1000
"""Long enough for a connection to be given up."""


def number(index: int) -> bytes:
    return index.to_bytes(4, "big")


def connect(world: World) -> None:
    """Open the DATA lane both ways between the first two machines."""
    send(world, 0, 1, DATA, b"hello")
    send(world, 1, 0, DATA, b"hello")
    world.run_for(0.1)


def link_to(world: World, source: int, target: int):  # type: ignore[no-untyped-def]
    process = world.machines[source].process
    assert process is not None
    return process.transport.link(world.machines[target].address)


def test_messages_arrive_once_and_in_order_though_each_is_late_by_chance() -> None:
    world, (one, two) = talkers()
    world.network.set_latency(0, 1, Latency(10, 50_000))
    for index in range(200):
        assert send(world, 0, 1, DATA, number(index))
        world.run_for(0.001)
    world.run_for(5)
    assert two.messages(0) == [number(index) for index in range(200)]
    assert one.events == [("connected", 1)]


def test_lanes_and_pairs_overtake_each_other() -> None:
    world, (_, two, _) = talkers(count=3)
    for index in range(100):
        send(world, 0, 1, URGENT, b"u" + number(index))
        send(world, 0, 1, DATA, b"d" + number(index))
        send(world, 2, 1, DATA, b"x" + number(index))
        world.run_for(0.0002)
    world.run_for(1)
    together = [int.from_bytes(message[1:], "big") for _, _, message in two.heard]
    assert len(together) == 300
    assert together != sorted(together)
    for letter in b"udx":
        alone = [message for _, _, message in two.heard if message[0] == letter]
        assert alone == sorted(alone)


def test_a_link_connects_when_something_is_sent_and_tells_it() -> None:
    world, (one, two) = talkers()
    link = link_to(world, 0, 1)
    assert link is link_to(world, 0, 1)
    assert not link.is_connected
    assert link.send(DATA, b"a")
    assert not two.heard
    world.run_for(0.1)
    assert two.messages(0) == [b"a"]
    assert link.is_connected
    assert one.events == [("connected", 1)]
    assert two.events == [], "a link is one-way"
    link.send(BULK, b"b")
    world.run_for(0.1)
    assert one.events == [("connected", 1)], "only the first lane is told"


def test_a_short_partition_delays_and_loses_nothing() -> None:
    world, (one, two) = talkers()
    connect(world)
    paths = between([0], [1])
    world.network.cut(paths)
    for index in range(50):
        assert send(world, 0, 1, DATA, number(index))
        world.run_for(0.02)
    assert two.messages(0) == [b"hello"]
    world.network.heal(paths)
    world.run_for(LONG_S)
    assert two.messages(0) == [b"hello"] + [number(index) for index in range(50)]
    assert one.times("lost") == two.times("lost") == 0


def test_a_long_partition_is_noticed_and_then_messages_are_shed_until_it_heals() -> None:
    world, (one, two) = talkers()
    connect(world)
    paths = between([0], [1])
    world.network.cut(paths)
    assert send(world, 0, 1, DATA, b"into the void")
    world.run_for(LONG_S)
    assert one.times("lost") >= 1
    link = link_to(world, 0, 1)
    assert not link.is_connected
    taken = []
    for _ in range(50):
        # While a try to connect is under way messages wait for it.
        taken.append(send(world, 0, 1, DATA, b"vain"))
        world.run_for(0.1)
    assert False in taken
    assert two.messages(0) == [b"hello"]
    world.network.heal(paths)
    world.run_for(LONG_S)
    assert link.is_connected
    assert send(world, 0, 1, DATA, b"again")
    world.run_for(0.1)
    assert len(two.messages(0)) < 20, "what waited for a try that failed is lost"
    assert b"into the void" not in two.messages(0)
    assert two.messages(0)[-1] == b"again"


def test_a_cut_is_noticed_even_when_nothing_is_sent() -> None:
    world, (one, two) = talkers()
    connect(world)
    world.network.cut(between([0], [1]))
    world.run_for(1 + LONG_S)
    assert one.times("lost") >= 1
    assert two.times("lost") >= 1


def test_what_a_sender_believes_to_be_lost_may_have_arrived() -> None:
    """Only acknowledgements are swallowed: the sender gives up what the receiver has handled."""
    world, (one, two) = talkers()
    connect(world)
    world.network.cut([(1, 0)])
    send(world, 0, 1, DATA, b"handled")
    world.run_for(0.1)
    assert two.messages(0) == [b"hello", b"handled"]
    world.run_for(LONG_S)
    assert one.times("lost") >= 1
    assert not link_to(world, 0, 1).is_connected, "nobody can connect when only one way is open"


def test_what_was_on_its_way_when_a_connection_broke_arrives_up_to_a_point() -> None:
    counts = set()
    for seed in range(40):
        world, (one, two) = talkers(seed)
        connect(world)
        world.network.set_latency(0, 1, Latency(10_000, 10_000))
        for index in range(5):
            send(world, 0, 1, DATA, number(index))
            world.run_for(0.001)
        assert world.machines[0].process is not None
        (connection,) = world.machines[0].process.transport.connections()
        connection.reset()
        world.run_for(1)
        got = two.messages(0)[1:]
        assert got == [number(index) for index in range(len(got))]
        assert one.times("lost") == 1
        counts.add(len(got))
    assert counts == set(range(6))


def test_a_killed_process_is_noticed_at_once_and_calls_are_refused() -> None:
    world, (one, _) = talkers()
    connect(world)
    world.run_for(2)
    world.machines[1].kill()
    world.run_for(0.1)
    assert one.events[1:] == [("lost", 1), *[("refused", 1)] * (len(one.events) - 2)]
    assert one.times("refused") >= 1
    assert not link_to(world, 0, 1).is_connected
    world.start([world.machines[1]])
    world.run_for(2)
    assert link_to(world, 0, 1).is_connected
    assert send(world, 0, 1, DATA, b"welcome back")
    world.run_for(0.1)
    assert world.machines[1].program.messages(0) == [b"welcome back"]


def test_a_machine_without_power_is_just_silent() -> None:
    world, (one, _) = talkers()
    connect(world)
    world.machines[1].lose_power()
    send(world, 0, 1, DATA, b"into the dark")
    world.run_for(PEER_UNACKNOWLEDGED_MS_MAX / 1000 - 0.1)
    assert one.times("lost") == one.times("refused") == 0
    world.run_for(LONG_S)
    assert one.times("lost") >= 1
    assert one.times("refused") == 0
    # Back within a moment, it doesn't know the connection.
    world.start([world.machines[1]])
    world.run_for(LONG_S)
    assert link_to(world, 0, 1).is_connected


def test_a_machine_that_was_back_soon_says_that_it_knows_no_connection() -> None:
    world, (one, _) = talkers()
    connect(world)
    world.machines[1].lose_power()
    send(world, 0, 1, DATA, b"into the dark")
    world.run_for(0.2)
    world.start([world.machines[1]])
    world.run_for(1.5)
    assert one.times("lost") == 1
    assert world.machines[1].program.messages(0) == []
    assert link_to(world, 0, 1).is_connected


def test_a_probe_of_an_idle_connection_finds_that_its_machine_was_away() -> None:
    world, (one, _) = talkers()
    connect(world)
    world.machines[1].lose_power()
    world.run_for(0.2)
    world.start([world.machines[1]])
    assert one.times("lost") == 0
    world.run_for(2 * PEER_IDLE_PROBE_SECONDS + 0.1)
    assert one.times("lost") == 1
    assert link_to(world, 0, 1).is_connected


def test_of_a_lane_that_is_lost_alone_is_told_too() -> None:
    world, (one, two) = talkers()
    connect(world)
    send(world, 0, 1, URGENT, b"hello")
    world.run_for(0.1)
    assert world.machines[0].process is not None
    for connection in world.machines[0].process.transport.connections():
        if connection.lane.number == DATA:
            connection.reset()
    world.run_for(1)
    assert one.times(f"lane {DATA} lost") == 1
    assert one.times("lost") == two.times("lost") == 0


def test_a_killed_sender_leaves_a_part_of_what_it_sent() -> None:
    counts = set()
    for seed in range(30):
        world, (_, two) = talkers(seed)
        connect(world)
        world.network.set_latency(0, 1, Latency(10_000, 0))
        for index in range(4):
            send(world, 0, 1, DATA, number(index))
            world.run_for(0.001)
        world.machines[0].kill()
        world.run_for(1)
        got = two.messages(0)[1:]
        assert got == [number(index) for index in range(len(got))]
        counts.add(len(got))
    assert counts == set(range(5))


def test_a_peer_that_is_stopped_fills_the_queue_and_then_is_shed() -> None:
    world, (one, two) = talkers()
    connect(world)
    world.machines[1].pause()
    message = bytes(1 << 20)
    sent = 0
    while send(world, 0, 1, DATA, message):
        sent += 1
        world.run_for(0.01)
    assert sent == PEER_QUEUE_BYTES_MAX[DATA] >> 20
    world.run_for(60)
    assert one.times("lost") == 0, "its machine still acknowledges"
    world.machines[1].resume()
    world.run_for(1)
    assert len(two.heard) == sent + 1
    assert send(world, 0, 1, DATA, message)


def test_nobody_shakes_hands_with_a_process_that_is_stopped() -> None:
    world, (one, _) = talkers()
    world.machines[1].pause()
    send(world, 0, 1, DATA, b"hello")
    world.run_for(4)
    assert one.times("connected") == 0
    assert one.times("lost") >= 1
    world.machines[1].resume()
    world.run_for(4)
    assert one.times("connected") == 1


def test_a_forgotten_link_is_closed_both_ways_and_silent() -> None:
    world, (one, two) = talkers()
    connect(world)
    world.run_for(2)
    old = link_to(world, 0, 1)
    assert world.machines[0].process is not None
    world.machines[0].process.transport.forget(world.machines[1].address)
    assert not old.send(DATA, b"x")
    before = list(one.events)
    world.run_for(0.1)
    assert one.events == before, "nothing is told of a link that was forgotten"
    assert two.times("lost") >= 1
    assert link_to(world, 0, 1) is not old
    assert send(world, 0, 1, DATA, b"anew")
    world.run_for(3)
    assert b"anew" in two.messages(0)


def test_a_peer_that_calls_is_tried_at_once() -> None:
    """It is alive: whoever gave up on it doesn't wait for the next try."""
    world, (one, two) = talkers()
    connect(world)
    paths = [(0, 1), (1, 0)]
    world.network.cut(paths)
    send(world, 0, 1, DATA, b"x")
    world.run_for(20)
    assert one.times("lost") > 2
    world.network.heal(paths)
    before = len(two.heard)
    world.run_until(lambda: link_to(world, 1, 0).is_connected, 5)
    world.run_for(0.01)
    assert link_to(world, 0, 1).is_connected
    assert len(two.heard) == before


@pytest.mark.parametrize("seed", range(10))
def test_a_connection_that_breaks_as_soon_as_it_is_there_is_not_taken_for_good(seed: int) -> None:
    world, _ = talkers(seed)
    send(world, 0, 1, DATA, b"hello")
    while not world.network.connections():
        world.run_for(0.00001)
    world.machines[1].kill()
    world.run_for(0.001)
    world.start([world.machines[1]])
    world.run_for(5)
    assert send(world, 0, 1, DATA, b"again")
    world.run_for(0.1)
    assert world.machines[1].program.messages(0)[-1:] == [b"again"]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1 << 32), data=st.data())
def test_under_all_faults_each_lane_is_in_order_and_at_most_once(seed: int, data: st.DataObject) -> None:
    """Also across connections, and across runs of either process. And all is well again once the faults are over."""
    world, _ = talkers(seed, 2)
    heard: list[tuple[Talker, int]] = []

    def deliver(machine, ports):  # type: ignore[no-untyped-def]
        program = Talker(machine, ports)
        heard.append((program, machine.index))
        return program

    for machine in world.machines:
        machine.kill()
        machine.build = deliver
    world.run_for(0.1)
    world.start(world.machines)
    faults = st.sampled_from(
        ["send"] * 10 + ["wait", "cut", "one way", "kill", "power", "pause", "reset", "slow"]
    )
    healing: list[tuple[int, int]] = []
    sent = 0
    for _ in range(data.draw(st.integers(1, 60))):
        fault = data.draw(faults)
        if fault == "send":
            for source, target in ((0, 1), (1, 0)):
                for lane in (URGENT, DATA):
                    if world.machines[source].process is not None:
                        send(world, source, target, lane, bytes([lane]) + number(sent))
                        sent += 1
        elif fault == "wait":
            world.run_for(data.draw(st.sampled_from([0.01, 0.5, 3])))
        elif fault in ("cut", "one way") and not healing:
            healing = [(0, 1), (1, 0)][: 2 if fault == "cut" else 1]
            world.network.cut(healing)
        elif fault == "reset":
            for machine in world.machines:
                if machine.process is not None:
                    for connection in machine.process.transport.connections():
                        connection.reset()
        elif fault in ("kill", "power", "pause"):
            machine = world.machines[data.draw(st.integers(0, 1))]
            if machine.process is not None and not machine.process.is_paused:
                {"kill": machine.kill, "power": machine.lose_power, "pause": machine.pause}[fault]()
        elif fault == "slow":
            world.network.set_latency(0, 1, Latency(10, data.draw(st.sampled_from([10, 5_000, 500_000]))))
        world.run_for(data.draw(st.sampled_from([0, 0.0003, 0.02])))
        if data.draw(st.integers(0, 4)) == 0:
            if healing:
                world.network.heal(healing)
                healing = []
            for machine in world.machines:
                if machine.process is None:
                    machine.start()
                elif machine.process.is_paused:
                    machine.resume()
    if healing:
        world.network.heal(healing)
    for machine in world.machines:
        if machine.process is None:
            machine.start()
        elif machine.process.is_paused:
            machine.resume()
    for source, target in ((0, 1), (1, 0)):
        send(world, source, target, DATA, bytes([DATA]) + number(sent))
    world.run_for(20)
    for source, target in ((0, 1), (1, 0)):
        assert send(world, source, target, DATA, bytes([DATA]) + b"last")
    world.run_for(5)
    for index in range(2):
        for lane in (URGENT, DATA):
            messages = [
                message
                for program, place in heard
                if place == index
                for _, _, message in program.heard
                if message[0] == lane and not message.endswith(b"last")
            ]
            assert all(one < other for one, other in itertools.pairwise(messages)), messages
        assert bytes([DATA]) + b"last" in world.machines[index].program.messages(1 - index)


@pytest.mark.parametrize("count", [3, 4, 5, 6, 7])
def test_partitions_are_what_they_are_called(count: int) -> None:
    world = World(count)
    places = list(range(count))

    def seen(paths: list[tuple[int, int]], place: int) -> set[int]:
        return {other for other in places if (place, other) not in paths or (other, place) not in paths}

    for seed in range(20):
        chance = world.chance.child(f"partition {seed}")
        for partition in PARTITIONS:
            paths = partition(places, chance)
            assert all((target, source) in paths for source, target in paths)
        sizes = sorted(len(seen(halves(places, chance), place)) for place in places)
        assert sizes == sorted(sizes)
        paths = halves(places, chance)
        assert {len(seen(paths, place)) for place in places} == {count // 2, count - count // 2}
        paths = isolate(places, chance)
        assert sorted(len(seen(paths, place)) for place in places) == [1] + [count - 1] * (count - 1)
        paths = bridge(places, chance)
        assert sum(len(seen(paths, place)) == count for place in places) == 1
        paths = majorities_ring(places, chance)
        majorities = [seen(paths, place) for place in places]
        assert all(len(majority) > count // 2 for majority in majorities)
        if count >= 5:
            assert len({frozenset(majority) for majority in majorities}) == count
        paths = one_way_paths(places, chance)
        assert all((target, source) not in paths for source, target in paths)


def test_cuts_that_overlap_are_healed_one_by_one() -> None:
    world, (_, two) = talkers()
    world.network.cut([(0, 1)])
    world.network.cut([(0, 1), (1, 0)])
    world.network.heal([(0, 1), (1, 0)])
    assert not world.network.is_open(0, 1)
    assert world.network.is_open(1, 0)
    world.network.heal([(0, 1)])
    assert world.network.is_open(0, 1)
    send(world, 0, 1, DATA, b"hello")
    world.run_for(1)
    assert two.messages(0) == [b"hello"]


def test_latency_is_drawn_within_its_bounds() -> None:
    world, _ = talkers()
    world.network.set_latency(0, 1, Latency(100, 50, spike_one_in=10, spike_us=1_000_000))
    delays = [world.network.delay_ns(0, 1) for _ in range(2_000)]
    assert min(delays) >= 100_000
    usual = sorted(delays)[:1_600]
    assert max(usual) <= 150_000
    assert 0.5 * S < max(delays) <= 1_000 * MS + 150_000


def test_data_centres_are_far_apart() -> None:
    world = World(1)
    world.add_machines(4, Talker, data_centers=2)
    assert [machine.data_center for machine in world.machines] == ["dc1", "dc2", "dc1", "dc2"]
    assert world.network.delay_ns(0, 1) > 10 * MS > world.network.delay_ns(0, 2) - 40 * MS
    assert world.network.latency(0, 2).base_us < 1_000 < world.network.latency(0, 3).base_us
