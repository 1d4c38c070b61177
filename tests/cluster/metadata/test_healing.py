"""Which of the nodes that are down are given up, and why the others aren't.

If this fails, a cluster gives up nodes that are only cut off, or loses the last copies of rows; or it leaves ranges
with too few copies for ever, and nobody knows why.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from tests.cluster.metadata.changes import applied, founded, keyspace, newcomer, schema_change, table
from tests.cluster.metadata.test_evolution import grown
from tests.cluster.metadata.world import World, WorldNode

from ourodb.cluster.metadata.commands import AddMember, Heal, Leave, NodeCopied, PauseHealing, RemoveMember
from ourodb.cluster.metadata.healing import Plan, lost_with, plan, whole_domains
from ourodb.cluster.metadata.view import ClusterView
from ourodb.ports import NodeId
from ourodb.schema.changes import CreateKeyspace
from ourodb.schema.keyspaces import NETWORK_TOPOLOGY


def ring(count: int, *, racks: int = 1, centers: int = 1, factor: int = 3) -> ClusterView:
    """Nodes in turn in the centres, and in the racks of each; a table with so many copies of its rows, or none."""
    members = [
        newcomer(
            number + 1, rack=f"r{number // centers % racks + 1}", data_center=f"dc{number % centers + 1}"
        )
        for number in range(count)
    ]
    view = founded(members[0])
    for member in members[1:]:
        view = applied(view, AddMember(member))[0]
    return grown(view, schema_change(keyspace("app", factor)), schema_change(table("t"))) if factor else view


def planned(
    view: ClusterView, down: Sequence[int], due: Sequence[int] | None = None, *, is_asked: bool = False
) -> Plan:
    nodes: Callable[[Collection[int]], list[NodeId]] = lambda some: [NodeId(one) for one in some]  # noqa: E731
    return plan(view, nodes(down), nodes(down if due is None else due), is_asked=is_asked)


def test_one_that_is_dead_is_given_up() -> None:
    assert planned(ring(4), [4]) == Plan((NodeId(4),), {})
    # Not before it is due: nothing else is in its way.
    assert planned(ring(4), [4], []) == Plan((), {})


def test_too_few_would_remain() -> None:
    found = planned(ring(3), [3])
    assert found.nodes == ()
    assert "keyspace app: 3 copies, and 2 nodes" in found.obstacles[NodeId(3)]
    assert planned(ring(3), [3], is_asked=True) == found


def test_the_last_copies_stay() -> None:
    """What one node alone holds is there again when it returns."""
    found = planned(ring(4, factor=1), [4])
    assert found.nodes == ()
    assert "nobody else has a copy of some of its rows of keyspace app" in found.obstacles[NodeId(4)]
    assert planned(ring(4, factor=1), [4], is_asked=True).nodes == ()
    assert planned(ring(4, factor=2), [4]).nodes == (4,)
    two_gone = planned(ring(6), [5, 6])
    assert two_gone.nodes == ()
    assert all("too few other copies" in text for text in two_gone.obstacles.values())


def test_what_is_lost_with_a_node_that_is_removed() -> None:
    assert lost_with(ring(4, factor=1), NodeId(4)) == ["app"]
    assert lost_with(ring(4, factor=2), NodeId(4)) == []
    assert lost_with(ring(4, factor=0), NodeId(4)) == []


def test_who_gets_ranges_must_live() -> None:
    """Two nodes of one rack have no range in common, but the one would get ranges of the other."""
    view = ring(9, racks=3, factor=0)
    view = grown(view, schema_change(CreateKeyspace("net", NETWORK_TOPOLOGY, {"dc1": "3"})))
    view = grown(view, schema_change(table("t", "net")))
    waiting = planned(view, [2, 5], [2])
    assert waiting.nodes == ()
    assert (
        waiting.obstacles[NodeId(2)]
        == "node 5 would get some of its ranges, or has the only other copy, and is down, too"
    )
    # Not even at once: each in its turn would wait for the other.
    assert planned(view, [2, 5]) == Plan((NodeId(2), NodeId(5)), {})
    assert planned(view, [2, 5], is_asked=True).nodes == (2, 5)


def test_a_rack_that_is_gone_as_a_whole_is_cut_off_rather_than_dead() -> None:
    view = ring(6, racks=3)
    assert whole_domains(view, [NodeId(1)]) == {}
    found = planned(view, [2, 5])
    assert found.nodes == ()
    assert found.obstacles == dict.fromkeys((2, 5), "all of rack r2 is down: a partition rather than a death")
    # One node is no rack that could be cut off.
    assert planned(ring(4, racks=4), [2]).nodes == (2,)


def test_a_data_centre_that_is_gone_is_cut_off() -> None:
    found = planned(ring(6, centers=2, factor=1), [2, 4, 6])
    assert set(found.obstacles.values()) == {
        "all of data centre dc2 is down: a partition rather than a death"
    }
    assert found.nodes == ()


def test_nobody_while_healing_is_paused_or_others_come_and_go() -> None:
    paused = grown(ring(5), PauseHealing(True))
    assert planned(paused, [5]) == Plan((), {NodeId(5): "healing is paused"})
    assert planned(paused, [5], is_asked=True).nodes == (5,)
    busy = grown(ring(6), Leave(newcomer(6).host_id))
    assert planned(busy, [5]).obstacles == {5: "nodes come or go at the moment"}
    removed = grown(ring(5), RemoveMember(newcomer(5).host_id))
    assert planned(removed, [5]).obstacles == {5: "it is about to be removed or replaced"}
    bare = founded()
    for number in range(2, 5):
        bare = grown(bare, AddMember(newcomer(number)))
    assert "no rows" in planned(bare, [4]).obstacles[NodeId(4)]


# The log, in virtual time


HEAL_AFTER_S = 20


def healing_world(count: int, factor: int = 3) -> tuple[World, list[WorldNode]]:
    world = World(3)
    nodes = [world.node(host=f"h{number}") for number in range(count)]
    nodes[0].found()
    joined = [node.join(nodes[0]) for node in nodes[1:]]
    world.until(lambda: all(joined) and all(len(node.running.view.members) == count for node in nodes))
    world.until(lambda: len(nodes[0].running.voters) == 3)
    for change in (keyspace("app", factor), table("t")):
        outcome = nodes[0].submit(change)
        world.until(lambda told=outcome: bool(told))
    for node in nodes:
        node.running.heal_after(HEAL_AFTER_S)
        node.running.follow_moves(lambda _: 1 << 60, lambda _: 0)
    return world, nodes


def copy(nodes: Sequence[WorldNode]) -> None:
    """Those that gain ranges say that they have copied them."""
    for node in nodes:
        if node.metadata is None:
            continue
        view = node.running.view
        if (
            view.move is not None
            and node.running.me in view.copying
            and node.running.me not in view.move.copied
        ):
            node.running.submit_member(NodeCopied(view.move.id, node.running.me), lambda outcome: None)


def test_a_node_that_dies_is_given_up_by_the_others_alone() -> None:
    world, nodes = healing_world(4)
    dead = nodes[3]
    number = dead.running.me
    dead.crash()
    world.run(HEAL_AFTER_S * 1000 - 5_000)
    (prospect,) = nodes[0].running.prospects()
    assert prospect.node == number
    assert prospect.due_ms is not None
    assert 0 < prospect.due_ms < HEAL_AFTER_S * 1000
    assert (prospect.obstacle, prospect.is_under_way) == ("", False)
    assert nodes[0].running.view.suspects == {}
    world.run(15_000)
    view = nodes[0].running.view
    assert view.move is not None
    assert view.move.kind == "heal"
    assert nodes[0].running.prospects()[0].is_under_way
    copy(nodes)
    world.run(15_000)
    assert all(sorted({1, 2, 3, 4} - {number}) == list(node.running.view.members) for node in nodes[:3])
    assert nodes[0].running.prospects() == []
    assert nodes[0].running.view == nodes[1].running.view == nodes[2].running.view
    assert [one.is_done for one in nodes[0].running.view.operations] == [True]


def test_one_that_is_back_in_time_stays() -> None:
    world, nodes = healing_world(4)
    nodes[3].crash()
    world.run(HEAL_AFTER_S * 1000 - 8_000)
    nodes[3].boot()
    world.run(60_000)
    assert all(len(node.running.view.members) == 4 for node in nodes)
    assert nodes[0].running.view.suspects == {}
    assert nodes[0].running.view.operations == ()


def test_suspicions_are_taken_back() -> None:
    """With three copies on three nodes nobody can be given up, so one may be suspected for as long as it is away."""
    world, nodes = healing_world(3)
    number = nodes[2].running.me
    nodes[2].crash()
    world.run(HEAL_AFTER_S * 1000 + 10_000)
    assert nodes[0].running.view.suspects == {number: (1, 2)}
    (prospect,) = nodes[0].running.prospects()
    assert "too few nodes for keyspace app" in prospect.obstacle
    nodes[2].boot()
    world.run(10_000)
    assert nodes[0].running.view.suspects == {}
    assert len(nodes[0].running.view.members) == 3


def test_the_next_leader_goes_on() -> None:
    world, nodes = healing_world(5)
    for node in nodes:
        node.running.heal_after(0)
    dead = nodes[4].running.me
    nodes[4].crash()
    world.run(HEAL_AFTER_S * 1000)
    leader = next(node for node in nodes[:4] if node.running.leads)
    for node in nodes[:4]:
        node.running.heal_after(HEAL_AFTER_S)
    leader.crash()
    world.run(10_000)
    view = next(node for node in nodes[:4] if node.metadata is not None).running.view
    assert view.is_taken_for_dead(dead) or view.move is not None


def test_whoever_waits_for_ever_suspects_nobody() -> None:
    world, nodes = healing_world(4)
    for node in nodes[1:3]:
        node.running.heal_after(0)
    dead = nodes[3].running.me
    nodes[3].crash()
    world.run(60_000)
    assert nodes[0].running.view.suspects == {dead: (1,)}
    assert len(nodes[0].running.view.members) == 4
    assert nodes[1].running.prospects()[0].due_ms is None


def test_a_command_says_what_it_is_about() -> None:
    from ourodb.cluster.metadata.commands import Suspect, summary

    assert summary(Suspect(4, 1)) == "suspect 4 by 1: down"
    assert summary(Heal((NodeId(4), NodeId(5)))) == "heal 4, 5"
    assert summary(PauseHealing(True)) == "pause_healing"
    assert summary(PauseHealing(False)) == "resume_healing"
