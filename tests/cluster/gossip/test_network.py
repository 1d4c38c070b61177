"""Rings of 3, 30 and 300 nodes on virtual time, with lost messages, drifting clocks, deaths, pauses and cuts.

If one of these fails, a cluster learns of news too late, takes the living for dead (so that writes leave
hints and reads lack replicas for nothing), or the dead for living (so that requests wait for them).
"""

from __future__ import annotations

import pytest
from tests.cluster.gossip.network import Draw, Network

from ourodb.cluster.gossip.gossip import Gossip
from ourodb.cluster.gossip.messages import Ack2, encode
from ourodb.cluster.gossip.state import Delta
from ourodb.limits import GOSSIP_PEERS_MAX
from ourodb.ports import NodeId

NEWS_ROUNDS_MAX = 20
START_S = 1_700_000_000


def started(nodes: int, seed: int, *, loss: float = 0.01) -> Network:
    """A ring that has found itself."""
    network = Network(nodes, seed, loss=loss, doubled=0.01)
    network.start_all()
    network.rounds_until(network.is_whole, 10)
    return network


def test_three_nodes_that_start_together_see_each_other_before_their_first_round() -> None:
    network = Network(3, seed=1)
    network.start_all()
    network.run(0.2)
    assert len(network.views()) == 6


@pytest.mark.parametrize(("nodes", "death_rounds_max"), [(3, 5), (30, 6), (300, 12)])
def test_news_and_deaths_are_known_everywhere_in_bounded_rounds(nodes: int, death_rounds_max: int) -> None:
    network = started(nodes, seed=nodes)
    network[1].update(epoch=7)
    death_ms = network.now_ms
    network.kill(2)

    def is_known() -> bool:
        return all(process.gossip.states[NodeId(1)].epoch == 7 for process in network.processes.values())

    assert not is_known()
    news_rounds = network.rounds_until(is_known, NEWS_ROUNDS_MAX)
    network.rounds_until(lambda: network.all_see(2, False), death_rounds_max - news_rounds)
    network.start(2)
    network.rounds_until(lambda: network.all_see(2, True), 2)
    others = [change for change in network.changes if change[2] != 2 and not change[3]]
    assert not others, "somebody who lives was taken for dead"
    assert min(change[0] for change in network.changes_since(death_ms)) > death_ms + 2_000


@pytest.mark.parametrize(
    ("nodes", "loss", "rounds"), [(2, 0.01, 1_000), (3, 0.01, 1_000), (3, 0.05, 500), (30, 0.01, 60)]
)
def test_lost_messages_take_nobody_down(nodes: int, loss: float, rounds: int) -> None:
    network = started(nodes, seed=5, loss=loss)
    network.run(rounds)
    assert not [change for change in network.changes if not change[3]]


@pytest.mark.parametrize("tick_first", [True, False])
@pytest.mark.parametrize("nodes", [3, 30])
def test_an_observer_that_was_paused_takes_nobody_down(nodes: int, tick_first: bool) -> None:
    network = started(nodes, seed=6)
    network.run(10)
    pause_ms = network.now_ms
    network.pause(1)
    network.run(10)
    assert network.all_see(1, False), "ten seconds of silence are a death to others"
    network.resume(1, tick_first=tick_first)
    network.run(1)
    assert network.all_see(1, True)
    network.run(10)
    assert not network.changes_since(pause_ms, observers=[1])
    assert not [change for change in network.changes_since(pause_ms) if change[2] != 1]


def test_a_node_that_is_always_slow_sees_deaths_too() -> None:
    """Pauses one after the other must not excuse everybody for ever."""
    network = started(3, seed=7)
    network.kill(2)
    for _ in range(10):
        network.pause(1)
        network.run(2.5)
        network.resume(1)
        network.run(0.1)
    assert not network[1].is_up(NodeId(2))


@pytest.mark.parametrize("nodes", [3, 30])
def test_a_node_that_is_cut_off_and_returns(nodes: int) -> None:
    network = started(nodes, seed=8)
    network.cut.add(NodeId(3))
    network.rounds_until(lambda: network.all_see(3, False), 6)
    network.rounds_until(lambda: not any(network[3].is_up(node) for node in network.members if node != 3), 6)
    network.run(20)
    network.cut.clear()
    network.rounds_until(lambda: len(network.views()) == nodes * (nodes - 1), 2)


def test_both_halves_of_a_ring_find_each_other_again() -> None:
    network = started(30, seed=9)
    network.halves = [network.members[:15], network.members[15:]]
    network.rounds_until(lambda: len(network.views()) == 2 * 15 * 14, 8)
    network.run(10)
    assert len(network.views()) == 2 * 15 * 14, "a half lost sight of itself"
    network.halves = []
    network.rounds_until(lambda: len(network.views()) == 30 * 29, 3)


@pytest.mark.parametrize("nodes", [3, 30])
def test_refused_connections_tell_a_death_sooner(nodes: int) -> None:
    network = started(nodes, seed=10)
    network.kill(2, refuses=True)
    network.rounds_until(lambda: network.all_see(2, False), 2)


def test_refused_connections_to_a_node_that_lives_change_nothing() -> None:
    """Every link of it is reset once; what it says and answers still arrives."""
    network = started(3, seed=11)
    since_ms = network.now_ms
    for _ in range(20):
        for observer in (1, 3):
            process = network.processes[NodeId(observer)]
            network.take(process, process.gossip.convict(network.time(process), NodeId(2)))
        network.run(1)
    assert not network.changes_since(since_ms)


def test_rumours_do_not_vouch_for_a_node_that_refuses_us() -> None:
    """Node 1 can't reach 2 any more, while 3 tells it that 2 lives: DOWN once, and no flapping."""
    network = started(3, seed=12)
    since_ms = network.now_ms
    network.apart = [(NodeId(1), NodeId(2))]
    process = network.processes[NodeId(1)]
    network.take(process, process.gossip.convict(network.time(process), NodeId(2)))
    network.run(30)
    assert [change[1:] for change in network.changes_since(since_ms)] == [(1, 2, False)]
    network.apart = []
    network.run(1)
    assert [change[1:] for change in network.changes_since(since_ms)] == [(1, 2, False), (1, 2, True)]


def test_a_node_that_stops_in_order_is_down_at_once() -> None:
    network = started(30, seed=13)
    process = network.processes[NodeId(2)]
    network.take(process, process.gossip.stop(network.time(process)))
    network.kill(2)
    network.run(0.1)
    assert sum(network.all_see_of(2)) <= 1, "all but those whose message was lost"
    network.rounds_until(lambda: network.all_see(2, False), 4)
    network.start(2)
    network.rounds_until(lambda: network.all_see(2, True), 2)


def test_one_seed_gives_one_run() -> None:
    """Else no failure of a simulated cluster could be looked at twice."""
    runs = []
    for _ in range(2):
        network = Network(10, seed=14, loss=0.1, doubled=0.1)
        network.start_all()
        network.run(10)
        network.kill(2)
        network.run(10)
        runs.append((network.changes, [network[node].bytes_sent for node in (1, 3, 10)]))
    assert runs[0] == runs[1]


def test_a_thousand_nodes_cost_each_less_than_50_kb_a_second() -> None:
    """One whole exchange of two nodes, half of whose knowledge is newer on either side, is what a node begins each
    round and what another begins with it. The nodes started in the course of months, most are DOWN and asked in turn,
    and the state of every 49th changes each round."""
    nodes = [NodeId(node) for node in range(1, 1_001)]
    draw = Draw(15)
    one, two = (Gossip(me, START_S, 0, Draw(me)) for me in nodes[:2])
    for gossip in (one, two):
        gossip.update(epoch=1_234, load_bytes=10**12, hints=0, address="192.168.100.100:7000")
        gossip.set_members(0, nodes)
    told = []
    for node in nodes[2:]:
        age_s = draw.below(180 * 86_400)
        fields = {"epoch": (1, 1_234), "load_bytes": (2, 10**12), "address": (3, "192.168.100.100:7000")}
        told.append(Delta(node, START_S - age_s, age_s * 20, 0, draw.below(1 << 20) + 10, fields))
    for first in range(0, len(told), 100):
        one.receive(1, NodeId(2), encode(Ack2(2, told[first : first + 100])))
        two.receive(1, NodeId(1), encode(Ack2(1, told[first : first + 100])))
    for number, delta in enumerate(told):
        version, fields = delta.version, {}
        if number % 49 == 0:
            version, fields = version + 1, {"load_bytes": (version + 1, 10**12 + number)}
        newer = Delta(delta.node, delta.generation, delta.beat + 20, delta.version, version, fields)
        knows, source = (one, 2) if number % 2 else (two, 1)
        knows.receive(2, NodeId(source), encode(Ack2(source, [newer])))
    (ask,) = [body for node, body in one.connected(500, NodeId(2)).sends if node == 2]
    (answer,) = [body for node, body in two.receive(500, NodeId(1), ask).sends if node == 1]
    assert one.receive(500, NodeId(2), answer).changes == [(2, True)]

    before = one.bytes_sent
    output = one.tick(1_000)
    (syn,) = [body for node, body in output.sends if node == 2]
    probes_bytes = one.bytes_sent - before - len(syn)
    (ack,) = [body for node, body in two.receive(1_000, NodeId(1), syn).sends if node == 1]
    ack2 = [body for node, body in one.receive(1_000, NodeId(2), ack).sends if node == 2]
    exchange_bytes = len(syn) + len(ack) + sum(map(len, ack2))
    assert len(ack) > 3_000, "the second node knew nothing newer"
    assert ack2, "the first node knew nothing newer"
    assert sum(one.states[node].beat > delta.beat for node, delta in zip(nodes[2:], told, strict=True)) == 998
    assert 2 * exchange_bytes + 2 * probes_bytes < 50_000
    assert GOSSIP_PEERS_MAX > 1, "a thousand nodes gossip with one peer a round, three with all"
