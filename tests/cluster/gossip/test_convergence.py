"""Whatever the network does to messages: nobody forgets or invents anything, and in the end all know the
same.

If this fails, a node may for ever hold another's epoch or load for what it isn't, or a deposed process for a
live one.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cluster.gossip.network import Draw

from ourodb.cluster.gossip.gossip import Gossip, Output
from ourodb.limits import GOSSIP_BODY_BYTES_MAX, GOSSIP_STATE_BYTES_MAX
from ourodb.ports import NodeId

ROUND_MS = 1_000
NODES = [NodeId(node) for node in (1, 2, 3, 4)]
NODE = st.sampled_from(NODES)
PICK = st.integers(0, 1 << 16)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("tick"), NODE, PICK),
        st.tuples(st.just("deliver"), NODE, PICK),
        st.tuples(st.just("deliver"), NODE, PICK),
        st.tuples(st.just("double"), NODE, PICK),
        st.tuples(st.just("lose"), NODE, PICK),
        st.tuples(st.just("update"), NODE, PICK),
        st.tuples(st.just("restart"), NODE, PICK),
        st.tuples(st.just("wait"), NODE, PICK),
        st.tuples(st.just("convict"), NODE, PICK),
    ),
    max_size=80,
)


class World:
    """Four nodes, and the messages between them in no order."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.flying: list[tuple[NodeId, NodeId, bytes]] = []
        self.up: dict[tuple[NodeId, NodeId], bool] = {}
        self.nodes: dict[NodeId, Gossip] = {}
        for node in NODES:
            self.start(node, 1_000)

    def start(self, me: NodeId, generation: int) -> None:
        for other in NODES:
            self.up[me, other] = False
        self.nodes[me] = Gossip(me, generation, self.now_ms, Draw(me), round_ms=ROUND_MS)
        self.take(me, self.nodes[me].set_members(self.now_ms, NODES))

    def take(self, me: NodeId, output: Output) -> None:
        for node, is_up in output.changes:
            assert self.up[me, node] != is_up, "told twice"
            self.up[me, node] = is_up
        for node, body in output.sends:
            assert len(body) <= GOSSIP_BODY_BYTES_MAX
            assert node != me
            self.flying.append((me, node, body))

    def deliver(self, at: int, *, keeps: bool = False) -> None:
        sender, node, body = self.flying[at] if keeps else self.flying.pop(at)
        self.take(node, self.nodes[node].receive(self.now_ms, sender, body))

    def step(self, kind: str, node: NodeId, pick: int) -> None:
        gossip = self.nodes[node]
        if kind == "tick":
            self.take(node, gossip.tick(self.now_ms))
        elif kind == "update":
            gossip.update(**{("epoch", "words")[pick % 2]: pick})
        elif kind == "restart":
            # Sometimes within the same second, sometimes with the clock set back.
            self.start(node, gossip.generation + pick % 4 - 1)
        elif kind == "wait":
            self.now_ms += pick % (3 * ROUND_MS)
        elif kind == "convict":
            self.take(node, gossip.convict(self.now_ms, NODES[pick % 4]))
        elif self.flying:
            at = pick % len(self.flying)
            if kind == "lose":
                del self.flying[at]
            else:
                self.deliver(at, keeps=kind == "double")

    def settle(self, rounds: int) -> None:
        """A network without faults."""
        for _ in range(rounds):
            self.now_ms += ROUND_MS
            for node in NODES:
                self.take(node, self.nodes[node].tick(self.now_ms))
            while self.flying:
                self.deliver(0)

    def numbers(self) -> dict[tuple[NodeId, NodeId], tuple[int, int, int]]:
        return {
            (observer, node): (state.generation, state.beat, state.version)
            for observer, gossip in self.nodes.items()
            for node, state in gossip.states.items()
        }


@settings(max_examples=300)
@given(STEPS)
def test_all_end_at_the_same_and_nothing_goes_back(steps: list[tuple[str, NodeId, int]]) -> None:
    world = World()
    before = world.numbers()
    for kind, node, pick in steps:
        world.step(kind, node, pick)
        after = world.numbers()
        for (observer, of), (generation, beat, version) in before.items():
            now = after[observer, of]
            if kind == "restart" and observer == node:
                continue
            assert now[0] >= generation
            assert now[0] > generation or (now[1] >= beat and now[2] >= version)
        before = after
        for observer, gossip in world.nodes.items():
            assert gossip.is_up(observer)
            assert all(gossip.is_up(of) == world.up[observer, of] for of in NODES if of != observer)
    world.settle(6)
    for observer, gossip in world.nodes.items():
        for node in NODES:
            assert gossip.is_up(node), f"{observer} does not see {node}"
            own = world.nodes[node].states[node]
            known = gossip.states[node]
            assert (known.generation, known.version, known.fields) == (
                own.generation,
                own.version,
                own.fields,
            )


def test_large_states_arrive_in_bounded_messages() -> None:
    """A node that starts among many who have much to say gets it in parts, each a message of bounded size."""
    nodes = [NodeId(node) for node in range(1, 101)]
    old, new = Gossip(nodes[0], 1_000, 0, Draw(1)), Gossip(nodes[1], 1_000, 0, Draw(2))
    old.set_members(0, nodes)
    for node in nodes[2:]:
        other = Gossip(node, 1_000, 0, Draw(node))
        other.update(**{f"words{number}": "x" * 200 for number in range(GOSSIP_STATE_BYTES_MAX // 250)})
        (syn,) = [body for to, body in other.set_members(0, nodes[:1]).sends if to == nodes[0]]
        old.receive(0, node, syn)
    new.set_members(0, nodes)
    most, exchanges, now_ms = 0, 0, 0
    while any(state.version == 0 for state in new.states.values()):
        now_ms += 1_000
        exchanges += 1
        assert exchanges < 100, "some never arrive"
        (syn,) = [body for to, body in new.connected(now_ms, nodes[0]).sends] or [None]
        if syn is None:
            syn = next((body for to, body in new.tick(now_ms).sends if to == nodes[0]), None)
        if syn is not None:
            (ack,) = [body for to, body in old.receive(now_ms, nodes[1], syn).sends if to == nodes[1]]
            most = max(most, len(ack))
            for to, body in new.receive(now_ms, nodes[0], ack).sends:
                if to == nodes[0]:
                    old.receive(now_ms, nodes[1], body)
    assert exchanges > 5, "it all fitted into a few messages: nothing was tested"
    assert most <= GOSSIP_BODY_BYTES_MAX
