"""Single rules of gossip that a story or a whole network would show only by luck."""

from __future__ import annotations

import pytest
from tests.cluster.gossip.network import Draw

from ourodb.cluster.gossip.gossip import Gossip, Output
from ourodb.cluster.gossip.messages import NOBODY, Ack, Ack2, Syn, decode, encode
from ourodb.cluster.gossip.state import Delta
from ourodb.limits import (
    GENERATION_AHEAD_SECONDS_MAX,
    GOSSIP_DIGEST_NODES_MAX,
    GOSSIP_PROBES_PER_ROUND,
    PHI_DOWN,
    PHI_MAX,
)
from ourodb.ports import NodeId

START_S = 1_700_000_000
ONE, TWO, THREE = NodeId(1), NodeId(2), NodeId(3)


def to(output: Output, node: NodeId) -> list[bytes]:
    return [body for target, body in output.sends if target == node]


class Pair:
    """Nodes one and two of a ring; what they send to each other is delivered by hand."""

    def __init__(self, nodes: int = 2) -> None:
        self.members = [NodeId(node) for node in range(1, nodes + 1)]
        self.one = Gossip(ONE, START_S, 0, Draw(1))
        self.two = Gossip(TWO, START_S, 0, Draw(2))
        self.one.set_members(0, self.members)
        self.two.set_members(0, self.members)
        self.exchange(0, self.one.connected(0, TWO))
        assert self.one.is_up(TWO)
        assert self.two.is_up(ONE)

    def exchange(self, now_ms: int, output: Output) -> list[tuple[NodeId, bool]]:
        """Deliver what one sends to two, and all that follows; what one found."""
        changes = list(output.changes)
        for body in to(output, TWO):
            for answer in to(self.two.receive(now_ms, ONE, body), ONE):
                changes += self.exchange(now_ms, self.one.receive(now_ms, TWO, answer))
        return changes

    def all_speak(self) -> None:
        """One has heard everybody else, too."""
        for node in self.members[2:]:
            own = Delta(node, START_S, 1, 0, 1, {"stopping": (1, 0)})
            self.one.receive(0, node, encode(Syn(node, 0, own, NOBODY)))
        assert all(self.one.is_up(node) for node in self.members)

    def silence(self) -> int:
        """Nothing of two arrives, until one finds it DOWN; the time of that."""
        for now_ms in range(1_000, 10_000, 1_000):
            if self.one.tick(now_ms).changes:
                assert not self.one.is_up(TWO)
                return now_ms
        raise AssertionError("still UP")


def test_an_answer_to_a_question_from_before_its_death_does_not_bring_a_node_back() -> None:
    """It may have lain in a queue of a machine that went away since; the node would be UP for some seconds again."""
    pair = Pair()
    (syn,) = to(pair.one.tick(500), TWO)
    (late,) = to(pair.two.receive(500, ONE, syn), ONE)
    down_ms = pair.silence()
    assert pair.one.receive(down_ms + 1, TWO, late).changes == []
    (syn,) = to(pair.one.connected(down_ms + 2, TWO), TWO)
    (answer,) = to(pair.two.receive(down_ms + 2, ONE, syn), ONE)
    message = decode(answer)
    assert isinstance(message, Ack)
    assert message.own.beat == 0, "it says nothing new: that it answers is what counts"
    assert pair.one.receive(down_ms + 3, TWO, answer).changes == [(TWO, True)]


def test_a_repeated_message_proves_nothing() -> None:
    pair = Pair()
    (syn,) = to(pair.two.tick(500), ONE)
    pair.one.receive(500, TWO, syn)
    for now_ms in range(1_000, 10_000, 1_000):
        pair.one.receive(now_ms, TWO, syn)
        pair.one.tick(now_ms)
    assert not pair.one.is_up(TWO)


def test_who_asks_is_told_what_it_lacks() -> None:
    """A node whose own rounds are the only ones that get through must learn all the same."""
    pair = Pair(3)
    pair.two.receive(1, THREE, encode(Ack2(3, [Delta(3, START_S, 5, 0, 2, {"epoch": (2, 7)})])))
    pair.exchange(1_000, pair.one.tick(1_000))
    assert pair.one.states[THREE].epoch == 7
    pair.two.receive(1_001, THREE, encode(Ack2(3, [Delta(3, START_S, 5, 2, 3, {"epoch": (3, 8)})])))
    (syn,) = to(pair.one.tick(2_000), TWO)
    (answer,) = to(pair.two.receive(2_000, ONE, syn), ONE)
    message = decode(answer)
    assert isinstance(message, Ack)
    assert [delta.since for delta in message.deltas if delta.node == THREE] == [2], "no more than what is new"
    pair.one.receive(2_000, TWO, answer)
    assert pair.one.states[THREE].epoch == 8


def test_requests_and_replies_are_signs_of_life() -> None:
    pair = Pair()
    for now_ms in range(1_000, 20_000, 1_000):
        pair.one.mark_seen(now_ms - 200, TWO)
        assert pair.one.tick(now_ms).changes == []
    assert pair.one.phi(TWO, 19_000) < 1
    assert pair.one.phi(TWO, 25_000) > PHI_DOWN


def test_a_request_from_a_node_that_was_refused_clears_it() -> None:
    pair = Pair()
    pair.one.convict(100, TWO)
    pair.one.mark_seen(200, TWO)
    assert pair.one.tick(1_200).changes == []


def test_nodes_that_refuse_are_asked_again_each_round() -> None:
    """The first question may be lost with the connection that was reset."""
    pair = Pair(30)
    pair.all_speak()
    refusing = pair.members[1:11]
    for node in refusing:
        assert to(pair.one.convict(900, node), node)
        assert to(pair.one.convict(950, node), node) == [], "once is enough"
    output = pair.one.tick(1_000)
    assert all(to(output, node) for node in refusing)
    assert pair.exchange(1_000, output) == []
    assert pair.one.tick(2_000).changes == [(node, False) for node in refusing[1:]]


def test_nobody_is_taken_for_dead_unasked() -> None:
    pair = Pair(30)
    pair.all_speak()
    asked: list[NodeId] = []
    for now_ms in range(1_000, 6_000, 1_000):
        output = pair.one.tick(now_ms)
        if output.changes:
            break
        asked = [node for node, _ in output.sends]
    assert output.changes == [(node, False) for node in pair.members[1:]]
    assert sorted(asked) == pair.members[1:], "in the round before"
    assert now_ms <= 4_000, "the question delays no conviction"


def test_who_answers_is_not_dead_whatever_phi_says() -> None:
    """A node that stood still, but too shortly to know it, finds all others silent for too long at once."""
    pair = Pair(30)
    pair.all_speak()
    asked = [node for node, _ in pair.one.tick(2_000).sends]
    output = pair.one.tick(4_000)
    assert max(pair.one.phi(node, 4_000) for node in pair.members[1:]) > PHI_DOWN
    assert output.changes == [(node, False) for node in sorted(asked)], "they had two seconds to answer"
    questioned = [node for node in pair.members[1:] if node not in asked]
    answering = questioned[::2]
    for node in questioned:
        message = decode(to(output, node)[0])
        assert isinstance(message, Syn)
        if node in answering:
            own = Delta(node, START_S, 1, 0, 1, {"stopping": (1, 0)})
            pair.one.receive(4_001, node, encode(Ack(node, message.asked_ms, own, NOBODY, [], NOBODY)))
    # An answer proves that the node lived when it was asked, even if it says nothing new.
    assert pair.one.tick(5_000).changes == [(node, False) for node in questioned if node not in answering]


def test_a_node_that_is_down_but_speaks_is_asked_first() -> None:
    nodes = [NodeId(node) for node in range(1, 4 * GOSSIP_PROBES_PER_ROUND)]
    gossip = Gossip(ONE, START_S, 0, Draw(1))
    gossip.set_members(0, nodes)
    last = nodes[-1]
    assert not to(gossip.tick(1_000), last)
    gossip.mark_seen(1_500, last)
    assert to(gossip.tick(2_000), last)


def test_all_who_are_down_are_asked_in_turn() -> None:
    nodes = [NodeId(node) for node in range(1, 4 * GOSSIP_PROBES_PER_ROUND)]
    gossip = Gossip(ONE, START_S, 0, Draw(1))
    gossip.set_members(0, nodes)
    asked: list[NodeId] = []
    for now_ms in range(1_000, 5_000, 1_000):
        sends = gossip.tick(now_ms).sends
        assert len(sends) <= GOSSIP_PROBES_PER_ROUND
        asked += [node for node, _ in sends]
    assert set(asked) == set(nodes[1:])


def test_after_a_pause_a_node_speaks_to_many() -> None:
    """Meanwhile others took it for dead; they must hear of it at once, not one by one."""
    pair = Pair(30)
    pair.all_speak()
    assert len(pair.one.tick(1_000).sends) < 10
    output = pair.one.tick(61_000)
    assert output.changes == []
    assert sorted(node for node, _ in output.sends) == pair.members[1:]


def test_who_left_the_ring_is_forgotten_and_does_not_walk_back_in() -> None:
    pair = Pair()
    left = pair.one.set_members(1_000, [ONE])
    assert left == Output()
    assert list(pair.one.states) == [ONE]
    assert not pair.one.is_up(TWO)
    assert pair.one.phi(TWO, 1_000) == PHI_MAX
    (syn,) = to(pair.two.tick(1_000), ONE)
    assert pair.one.receive(1_000, TWO, syn) == Output()
    assert pair.one.refusals["unknown sender"] == 1
    back = pair.one.set_members(2_000, [ONE, TWO])
    assert pair.one.states[TWO].generation == 0, "it is a stranger now"
    assert pair.exchange(2_000, back) == [(TWO, True)]


def test_a_node_knows_itself_whether_or_not_it_is_a_member() -> None:
    gossip = Gossip(ONE, START_S, 0, Draw(1))
    assert gossip.is_up(ONE)
    assert gossip.phi(ONE, 9) == 0
    gossip.update(epoch=3)
    gossip.set_members(0, [TWO])
    assert gossip.states[ONE].epoch == 3
    assert sorted(gossip.states) == [ONE, TWO]


def test_generations_of_the_future_are_told_by_the_wall_clock() -> None:
    """A machine that was suspended for months must not refuse everybody who started meanwhile, nor believe all."""
    pair = Pair()
    wall_s = START_S + 100 * 86_400

    def tell(generation: int) -> int:
        pair.one.receive(1_500, TWO, encode(Ack2(2, [Delta(2, generation, 1, 0, 1, {})])))
        return pair.one.states[TWO].generation

    assert tell(wall_s) == START_S
    pair.one.tick(1_000, wall_s * 1_000_000)
    assert tell(wall_s + GENERATION_AHEAD_SECONDS_MAX + 1) == START_S
    assert tell(wall_s + GENERATION_AHEAD_SECONDS_MAX) == wall_s + GENERATION_AHEAD_SECONDS_MAX
    assert pair.one.refusals["future generation"] == 2


def test_a_forged_generation_in_a_message_refuses_all_of_it() -> None:
    pair = Pair(3)
    own = Delta(2, START_S + 10**9, 1, 0, 1, {})
    rumour = Delta(3, START_S, 5, 0, 1, {})
    pair.one.receive(1, TWO, encode(Ack(2, 0, own, NOBODY, [rumour], NOBODY)))
    assert pair.one.states[THREE].generation == 0
    assert pair.one.states[TWO].generation == START_S


def test_bytes_and_messages_are_counted() -> None:
    pair = Pair()
    before = pair.two.bytes_received, pair.two.messages_received, pair.one.bytes_sent
    (syn,) = to(pair.one.tick(1_000), TWO)
    pair.two.receive(1_000, ONE, syn)
    assert pair.two.bytes_received - before[0] == len(syn) == pair.one.bytes_sent - before[2]
    assert pair.two.messages_received - before[1] == 1
    assert pair.one.rounds == 1


def test_a_stopped_node_is_silent() -> None:
    pair = Pair()
    assert to(pair.one.stop(1_000), TWO)
    assert pair.one.tick(2_000) == Output()


@pytest.mark.parametrize("nodes", [GOSSIP_DIGEST_NODES_MAX + 200])
def test_a_ring_larger_than_a_digest_is_told_of_in_parts(nodes: int) -> None:
    pair = Pair(nodes)
    listed: dict[int, int] = {}
    for now_ms in range(1_000, 12_000, 1_000):
        pair.two.tick(now_ms)
        pair.one.mark_seen(now_ms, TWO)
        for body in to(pair.one.tick(now_ms), TWO):
            message = decode(body)
            assert isinstance(message, Syn)
            assert message.digest.count <= GOSSIP_DIGEST_NODES_MAX
            for node, *_ in message.digest.entries():
                listed[node] = listed.get(node, 0) + 1
    assert sorted(listed) == pair.members


class Trio:
    """Three nodes whose clocks are all right by now, and whose messages all arrive.

    Attributes:
        nodes: by id.
    """

    def __init__(self, *ahead: NodeId) -> None:
        """
        Args:
            ahead: nodes whose clocks were three days ahead when they started.
        """
        self.now_ms = 0
        self.nodes: dict[NodeId, Gossip] = {}
        for node in (ONE, TWO, THREE):
            self.start(node, START_S + 3 * 86_400 * (node in ahead))

    def start(self, node: NodeId, generation: int) -> None:
        self.nodes[node] = Gossip(node, generation, self.now_ms, Draw(node))
        self.nodes[node].set_members(self.now_ms, [ONE, TWO, THREE])

    def run(self, rounds: int) -> None:
        for _ in range(rounds):
            self.now_ms += 1_000
            sent = []
            for node, gossip in self.nodes.items():
                wall_us = START_S * 1_000_000 + self.now_ms * 1_000
                sent += [(node, *send) for send in gossip.tick(self.now_ms, wall_us).sends]
            for sender, receiver, body in sent:
                output = self.nodes[receiver].receive(self.now_ms, sender, body)
                sent += [(receiver, *send) for send in output.sends]

    @property
    def is_whole(self) -> bool:
        return all(gossip.is_up(node) for gossip in self.nodes.values() for node in self.nodes)


@pytest.mark.parametrize("ahead", [(ONE,), (ONE, TWO), (ONE, TWO, THREE)])
def test_a_clock_that_was_ahead_at_the_start_and_is_right_since_costs_a_node_nothing(
    ahead: tuple[NodeId, ...],
) -> None:
    """It would be DOWN for as long as it runs, and be given up at last though it lives."""
    trio = Trio(*ahead)
    trio.run(10)
    assert trio.is_whole
    trio.start(ONE, START_S + trio.now_ms // 1_000)
    trio.run(20)
    assert trio.is_whole
    trio.run(100)
    assert trio.is_whole
    assert all(gossip.generation < START_S + 86_400 for gossip in trio.nodes.values())
