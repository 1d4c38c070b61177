"""Metadata logs of one, three and seven nodes over a network and disks in virtual time.

If these failed, nodes could disagree on the schema, a change could be told as done that isn't, or a cluster that lost
nodes could stop changing for longer than it must.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import pytest
from tests.cluster.metadata.changes import keyspace
from tests.cluster.metadata.world import SILENCE_MS, Outcome, World, WorldNode

from ourodb import limits
from ourodb.cluster.metadata.commands import RemoveMember, UpdateMember
from ourodb.cluster.metadata.messages import Pull, encode_body
from ourodb.cluster.metadata.submissions import Applied, InDoubt
from ourodb.errors import (
    AlreadyExists,
    ConfigurationProblem,
    InvalidRequest,
    OuroError,
    StoreError,
    Unavailable,
)
from ourodb.peer.messages import FAILED, REPLY, Verb
from ourodb.ports import Address, NodeId
from ourodb.schema.changes import DropKeyspace, SchemaChangeEvent


def agreed(nodes: Sequence[WorldNode]) -> bool:
    """All that run have one view."""
    views = [node.running.view for node in nodes if node.metadata is not None]
    return all(view == views[0] for view in views)


def leader_of(nodes: Sequence[WorldNode]) -> WorldNode:
    """The one that leads and knows it, in the greatest term."""
    leading = [n for n in nodes if n.metadata is not None and n.running.leader == n.running.me != 0]
    return max(leading, key=lambda node: node.running.term)


def has_leader(nodes: Sequence[WorldNode]) -> bool:
    return any(n.metadata is not None and n.running.leader == n.running.me != 0 for n in nodes)


def test_three_nodes_started_at_once_agree_within_a_second() -> None:
    world = World()
    nodes = [world.node() for _ in range(3)]
    nodes[0].found()
    joined = [node.join(nodes[0]) for node in nodes[1:]]
    took_ms = world.until(lambda: all(joined) and all(len(n.running.view.members) == 3 for n in nodes))
    assert took_ms < 1_000
    assert all(not isinstance(outcome[0], OuroError) for outcome in joined)
    world.until(lambda: agreed(nodes) and nodes[0].running.voters == (1, 2, 3))
    assert sorted(node.running.me for node in nodes) == [1, 2, 3]


def test_many_joins_at_once_clash_nowhere() -> None:
    world = World(5)
    nodes = [world.node() for _ in range(7)]
    nodes[0].found()
    joined = [node.join(nodes[0]) for node in nodes[1:4]]
    # These begin before those that they ask are members themselves.
    joined += [node.join(nodes[1], nodes[2], nodes[0]) for node in nodes[4:]]
    world.until(lambda: all(joined))
    world.until(lambda: agreed(nodes) and len(nodes[0].running.voters) == 5)
    view = nodes[3].running.view
    assert len(view.members) == 7
    tokens = [token for member in view.members.values() for token in member.tokens]
    assert len(set(tokens)) == len(tokens)


def test_a_join_goes_through_though_seeds_are_away_and_answers_get_lost() -> None:
    world = World(2)
    world.loss = 0.4
    founder, node, dead = world.node(), world.node(), world.node()
    joined = node.join(dead, founder)
    world.run(2_000)
    founder.found()
    world.until(lambda: joined, limits.JOIN_MS_MAX)
    assert not isinstance(joined[0], OuroError)
    assert len(founder.running.view.members) == 2


def test_a_seed_whose_disk_has_failed_speaks_for_itself_alone() -> None:
    world = World(3)
    nodes = world.ring(3)
    world.until(lambda: has_leader(nodes) and agreed(nodes))
    broken = leader_of(nodes)
    broken.running._consensus._break(StoreError("fsync: input/output error"))
    others = [node for node in nodes if node is not broken]
    newcomer = world.node()
    joined = newcomer.join(broken, others[0])
    world.until(lambda: joined, limits.JOIN_MS_MAX)
    assert not isinstance(joined[0], OuroError), joined
    assert len(others[1].running.view.members) == 4


def refusal(outcome: list[object]) -> str:
    [error] = outcome
    assert isinstance(error, ConfigurationProblem)
    return str(error)


def test_joins_that_are_refused_say_why() -> None:
    world = World()
    founder, other, late, alone = (world.node() for _ in range(4))
    founder.found("ring")
    wrong = other.join(founder, name="bracelet")
    world.until(lambda: wrong)
    assert "called 'ring'" in refusal(list(wrong))
    outside = late.join(founder, name="bracelet")
    world.until(lambda: outside)
    assert "nobody to join" in refusal(list(alone.join(alone)))
    silent = alone.join(late)
    world.until(lambda: silent, 2 * limits.JOIN_MS_MAX)
    assert "isn't a member of a cluster itself" in refusal(list(silent))
    assert len(founder.running.view.members) == 1


def test_a_node_that_was_removed_is_told_to_come_afresh() -> None:
    world = World()
    nodes = world.ring(4)
    gone = nodes[3]
    outcome: list[Outcome] = []
    nodes[0].running.submit_member(RemoveMember(gone.host_id), outcome.append)
    world.until(lambda: outcome)
    assert isinstance(outcome[0], Applied)
    world.until(lambda: all(len(node.running.view.members) == 3 for node in nodes[:3]))
    # It hears so itself, and need not guess why nobody listens to it.
    world.until(lambda: gone.running.is_removed)
    gone.stop()
    assert gone.boot().is_removed
    gone.stop()
    gone.disk = type(gone.disk)(world)
    again = gone.join(nodes[0])
    world.until(lambda: again)
    assert "wipe its data folder" in refusal(list(again))


def test_a_restarted_member_tells_its_new_address() -> None:
    world = World()
    nodes = world.ring(3)
    nodes[2].stop()
    nodes[2].address = ("10.0.9.9", 7000)
    nodes[2].boot()
    outcome: list[Outcome] = []
    nodes[2].running.submit_member(
        UpdateMember(nodes[2].host_id, nodes[2].address, ("10.0.9.9", 9042)), outcome.append
    )
    world.until(lambda: outcome)
    assert isinstance(outcome[0], Applied)
    world.until(lambda: agreed(nodes))
    assert nodes[0].running.view.members[nodes[2].running.me].peer == ("10.0.9.9", 7000)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_a_change_is_done_when_every_live_node_has_it(count: int) -> None:
    """The next statement of the same client may go to any of them."""
    world = World(count)
    nodes = world.ring(count)
    world.run(1_000)
    for number, node in enumerate(nodes):
        outcome = node.submit(keyspace(f"k{number}"))
        took_ms = world.until(lambda outcome=outcome: outcome)
        [applied] = outcome
        assert isinstance(applied, Applied)
        assert applied.events == (SchemaChangeEvent("CREATED", "KEYSPACE", f"k{number}"),)
        assert applied.warnings == ()
        assert all(f"k{number}" in other.running.view.schema.keyspaces for other in nodes)
        assert took_ms < 200


def test_a_change_that_is_there_already_is_done_when_every_live_node_has_it() -> None:
    """CREATE IF NOT EXISTS of a second client, while the first one's is on its way."""
    world = World(1)
    nodes = world.ring(3)
    world.run(1_000)
    world.delay_ms = (20, 200)
    first = nodes[0].submit(keyspace("app"))
    world.until(lambda: any("app" in node.running.view.schema.keyspaces for node in nodes[1:]))
    early = next(node for node in nodes[1:] if "app" in node.running.view.schema.keyspaces)
    again = early.submit(type(keyspace("app"))("app", "x", {}, if_not_exists=True))
    world.until(lambda: again)
    assert isinstance(again[0], Applied)
    assert all("app" in node.running.view.schema.keyspaces for node in nodes)
    world.until(lambda: first)


def test_a_node_that_lags_is_named_after_ten_seconds() -> None:
    world = World()
    nodes = world.ring(3)
    world.run(1_000)
    original = world.send
    lame = nodes[2]

    def send(source: WorldNode, to: tuple[str, int], *rest: object) -> bool:
        # It hears nothing of the log, and everybody takes it for alive.
        return True if to == lame.address else original(source, to, *rest)  # type: ignore[arg-type]

    world.send = send  # type: ignore[method-assign]
    outcome = nodes[0].submit(keyspace("app"))
    took_ms = world.until(lambda: outcome)
    [applied] = outcome
    assert isinstance(applied, Applied)
    assert limits.METADATA_SPREAD_MS <= took_ms <= limits.METADATA_SPREAD_MS + 500
    [warning] = applied.warnings
    assert "node 3 (10.0.0.3:7000)" in warning
    assert "app" in nodes[1].running.view.schema.keyspaces


def test_a_node_that_dies_meanwhile_is_not_waited_for() -> None:
    world = World()
    nodes = world.ring(3)
    world.run(1_000)
    nodes[2].crash()
    outcome = nodes[0].submit(keyspace("app"))
    took_ms = world.until(lambda: outcome)
    assert isinstance(outcome[0], Applied)
    assert outcome[0].warnings == ()
    assert took_ms < SILENCE_MS + 1_000


def test_a_node_that_comes_back_catches_up() -> None:
    world = World()
    nodes = world.ring(5)
    nodes[4].stop()
    world.run(3_000)
    for number in range(5):
        outcome = nodes[number % 4].submit(keyspace(f"k{number}"))
        world.until(lambda outcome=outcome: outcome)
    nodes[4].boot()
    world.until(lambda: agreed(nodes), 2_000)
    # Entry by entry: nobody's drivers miss an event.
    created = [event for _, events in nodes[4].told for event in events]
    assert [event.keyspace for event in created] == [f"k{number}" for number in range(5)]


@pytest.mark.parametrize("away", [2, 4])
def test_a_node_that_comes_back_late_gets_a_snapshot(away: int) -> None:
    """A voter from the leader, another member from anyone: the entries that they lack are gone."""
    world = World()
    nodes = world.ring(5)
    late = nodes[away]
    assert (late.running.me in late.running.voters) == (away == 2)
    late.stop()
    world.run(3_000)
    for number in range(7 * limits.METADATA_ENTRIES_PER_SNAPSHOT):
        change = DropKeyspace("k") if number % 2 else keyspace("k")
        outcome = nodes[0].submit(change)
        world.until(lambda outcome=outcome: outcome)
    outcome = nodes[0].submit(keyspace("last"))
    world.until(lambda: outcome)
    assert late.boot().epoch < nodes[0].running.last_entries(1)[0].index - 100
    world.until(lambda: agreed(nodes), 5_000)
    told = [event for _, events in late.told for event in events]
    assert SchemaChangeEvent("CREATED", "KEYSPACE", "last") in told
    assert len(late.told) < 2 * limits.METADATA_ENTRIES_PER_SNAPSHOT
    outcome = late.submit(keyspace("more"))
    world.until(lambda: outcome)
    assert isinstance(outcome[0], Applied)
    late.stop()
    assert "last" in late.boot().view.schema.keyspaces


def test_two_changes_that_clash_have_one_winner_everywhere() -> None:
    world = World(4)
    nodes = world.ring(7)
    world.run(1_000)
    outcomes = [node.submit(keyspace("app", factor)) for factor, node in enumerate(nodes, 1)]
    world.until(lambda: all(outcomes))
    applied = [n for n, outcome in enumerate(outcomes, 1) if isinstance(outcome[0], Applied)]
    assert len(applied) == 1
    assert all(isinstance(o[0], AlreadyExists) for n, o in enumerate(outcomes, 1) if n not in applied)
    world.until(lambda: agreed(nodes))
    replication = nodes[0].running.view.schema.keyspaces["app"].replication
    assert replication.options["replication_factor"] == str(applied[0])


def test_the_leader_dies_with_a_change_under_way() -> None:
    """Whoever asked a node that lives gets an answer that is true, soon."""
    for seed in range(10):
        world = World(seed)
        nodes = world.ring(3)
        world.run(1_000)
        leader = leader_of(nodes)
        other = next(node for node in nodes if node is not leader)
        outcome = other.submit(keyspace("app"))
        world.run(seed)
        leader.crash()
        world.until(lambda outcome=outcome: outcome, limits.METADATA_SPREAD_MS)
        survivors = [node for node in nodes if node is not leader]
        world.until(lambda survivors=survivors: has_leader(survivors), 10_000)
        world.run(2_000)
        assert agreed(survivors)
        there = "app" in other.running.view.schema.keyspaces
        assert there if isinstance(outcome[0], Applied) else isinstance(outcome[0], InDoubt)


def test_without_a_majority_a_change_fails_in_time_and_says_so() -> None:
    world = World()
    nodes = world.ring(3)
    world.run(1_000)
    leader = leader_of(nodes)
    rest = [node for node in nodes if node is not leader]
    survivor = rest[0]
    rest[1].crash()
    leader.crash()
    # Nobody has noticed yet: it may have gone through to a leader that answers no more.
    outcome = survivor.submit(keyspace("app"))
    assert world.until(lambda: outcome) <= 2_000
    assert isinstance(outcome[0], InDoubt)
    assert "is in doubt" in str(outcome[0])
    assert "look before you try again" in str(outcome[0])
    world.run(5_000)
    # Now it is known.
    sooner = survivor.submit(keyspace("app"))
    assert world.until(lambda: sooner) <= 1_000
    error = sooner[0]
    assert isinstance(error, Unavailable)
    assert (error.required, error.alive) == (2, 1)
    assert "no leader that can be reached" in error.message
    assert "reads and writes go on" in error.message
    ring: list[Outcome] = []
    survivor.running.submit_member(RemoveMember(nodes[2].host_id), ring.append)
    assert world.until(lambda: ring) <= 1_000
    assert "Changing the ring" in str(ring[0])
    # The view is there all the same, also after a restart.
    survivor.stop()
    assert len(survivor.boot().view.members) == 3
    assert survivor.running.view.schema.keyspaces


def test_a_leader_cut_off_from_the_others_doubts() -> None:
    world = World()
    nodes = world.ring(3)
    world.run(1_000)
    leader = leader_of(nodes)
    rest = [node for node in nodes if node is not leader]
    world.cut([leader], rest)
    outcome = leader.submit(keyspace("lost"))
    assert world.until(lambda: outcome) <= 2_000
    assert isinstance(outcome[0], InDoubt)
    world.until(lambda: has_leader(rest))
    won = rest[0].submit(keyspace("won"))
    world.until(lambda: won)
    assert isinstance(won[0], Applied)
    world.heal()
    world.until(lambda: agreed(nodes))
    assert "lost" not in leader.running.view.schema.keyspaces


def test_a_minority_of_members_that_do_not_vote_says_unavailable() -> None:
    world = World()
    nodes = world.ring(6)
    world.run(1_000)
    world.cut(nodes[:3], nodes[3:])
    world.run(5_000)
    outcome = nodes[5].submit(keyspace("app"))
    assert world.until(lambda: outcome) <= 1_000
    assert isinstance(outcome[0], Unavailable)
    fine = nodes[0].submit(keyspace("app"))
    world.until(lambda: fine)
    assert isinstance(fine[0], Applied)
    world.heal()
    world.until(lambda: agreed(nodes))


def test_a_dead_voter_is_replaced() -> None:
    """Else the second death would stop all changes, though five of seven live."""
    world = World()
    nodes = world.ring(5)
    nodes[1].crash()
    world.until(lambda: nodes[0].running.view.voters == (1, 3, 4), 2 * limits.VOTER_DOWN_MS)
    nodes[2].crash()
    world.until(lambda: has_leader(nodes))
    outcome = leader_of(nodes).submit(keyspace("app"))
    world.until(lambda: outcome)
    assert isinstance(outcome[0], Applied)
    for node in (nodes[1], nodes[2]):
        node.boot()
    world.until(lambda: agreed(nodes))


def test_a_dead_leader_is_replaced_as_voter_too() -> None:
    world = World()
    nodes = world.ring(4)
    nodes[0].crash()
    world.until(lambda: nodes[1].running.view.voters == (2, 3, 4), 3 * limits.VOTER_DOWN_MS)


def test_voters_move_into_other_data_centres() -> None:
    world = World()
    nodes = [world.node(data_center=f"dc{number % 3}") for number in (0, 0, 0, 1, 2)]
    nodes[0].found()
    for group in (nodes[1:3], nodes[3:]):
        joined = [node.join(nodes[0]) for node in group]
        world.until(lambda joined=joined: all(joined))
        world.run(3_000)
    world.until(lambda: nodes[0].running.view.voters == (1, 4, 5), 60_000)


def test_a_majority_that_is_gone_for_good_is_given_up() -> None:
    world = World()
    nodes = world.ring(3)
    for node, name in zip(nodes, "abc", strict=True):
        outcome = node.submit(keyspace(name))
        world.until(lambda outcome=outcome: outcome)
    with pytest.raises(InvalidRequest, match="has a leader"):
        nodes[2].running.recover_majority()
    nodes[0].crash()
    nodes[1].crash()
    world.run(5_000)
    with pytest.raises(InvalidRequest, match="aren't members of which this node"):
        nodes[2].running.recover_majority((NodeId(1),))
    nodes[2].running.recover_majority()
    world.until(lambda: has_leader(nodes))
    outcome = nodes[2].submit(keyspace("after"))
    world.until(lambda: outcome)
    assert isinstance(outcome[0], Applied)
    assert {"a", "b", "c", "after"} <= set(nodes[2].running.view.schema.keyspaces)
    assert nodes[2].running.voters == (3,)
    view = nodes[2].running.view
    nodes[2].stop()
    assert nodes[2].boot().view.schema == view.schema


def test_those_given_up_for_lost_follow_when_they_come_back() -> None:
    """They are a majority by their own reckoning, and went on; what they did then is undone."""
    world = World(3)
    nodes = world.ring(3)
    survivor, lost = nodes[2], nodes[:2]
    world.cut([survivor], lost)
    world.run(5_000)
    apart = lost[0].submit(keyspace("apart"))
    world.until(lambda: apart)
    assert isinstance(apart[0], Applied)
    survivor.running.recover_majority()
    outcome = survivor.submit(keyspace("after"))
    world.until(lambda: outcome)
    assert isinstance(outcome[0], Applied)
    world.heal()
    world.until(lambda: agreed(nodes) and len(survivor.running.view.voters) == 3)
    names = set(nodes[0].running.view.schema.keyspaces)
    assert "after" in names
    assert "apart" not in names
    told = [event for _, events in lost[0].told for event in events]
    assert SchemaChangeEvent("DROPPED", "KEYSPACE", "apart") in told
    for node in nodes:
        node.stop()
    for node in nodes:
        node.boot()
    world.until(lambda: has_leader(nodes) and agreed(nodes))
    assert "after" in nodes[0].running.view.schema.keyspaces


def test_recovery_is_refused_where_less_is_known() -> None:
    world = World()
    nodes = world.ring(5)
    world.run(1_000)
    behind, ahead = nodes[3], nodes[4]
    world.cut([behind], [node for node in nodes if node is not behind])
    outcome = nodes[0].submit(keyspace("app"))
    world.until(lambda: outcome)
    world.until(lambda: "app" in ahead.running.view.schema.keyspaces)
    for node in nodes[:3]:
        node.crash()
    world.heal()
    # It has just heard of what it lacks, and hasn't got it yet.
    original = world.send
    world.send = lambda source, to, verb, *rest: (  # type: ignore[method-assign]
        True if verb is Verb.PULL else original(source, to, verb, *rest)
    )
    world.run(4_000)
    with pytest.raises(InvalidRequest, match="node 5 has applied entry"):
        behind.running.recover_majority()
    ahead.running.recover_majority()
    world.send = original  # type: ignore[method-assign]
    world.until(lambda: agreed([behind, ahead]) and has_leader([ahead]))
    assert "app" in behind.running.view.schema.keyspaces


def test_strangers_are_not_heard() -> None:
    """A removed node, or one of another ring, must not vote or propose, nor take over the log of a foreign one."""
    world = World()
    nodes = world.ring(3)
    stranger = world.node()
    stranger.boot()
    world.run(2_000)
    before = nodes[0].running.view
    answers: list[tuple[Verb, int, bytes]] = []
    original = world.send

    def send(source: WorldNode, to: Address, verb: Verb, flags: int, request: int, body: bytes) -> bool:
        if to == stranger.address:
            answers.append((verb, flags, body))
        return original(source, to, verb, flags, request, body)

    world.send = send  # type: ignore[method-assign]
    link = stranger.link(nodes[0].address)
    asked = [Verb.RAFT, Verb.PROPOSE, Verb.AWAIT_EPOCH]
    for verb in asked:
        stranger.send(link, verb, 0, 7, b"\x81\xa5epoch\x01")
        world.run(10)
    stranger.send(link, Verb.PULL, 0, 7, encode_body(Pull(0, 0, UUID(int=3))))
    world.run(10)
    assert nodes[0].running.view == before
    assert [verb for verb, _, _ in answers] == [*asked, Verb.PULL]
    assert all(flags == REPLY | FAILED for _, flags, _ in answers)
    assert all(b"aren't a member" in body for _, _, body in answers[:3])
    assert answers[3][2] == b"this is another cluster"


def test_a_node_that_stops_in_order_leaves_a_leader_behind() -> None:
    """Else each restart of a leader would stop changes for an election."""
    world = World()
    nodes = world.ring(3)
    world.run(1_000)
    leader = leader_of(nodes)
    rest = [node for node in nodes if node is not leader]
    leader.running.hand_over()
    world.run(30)
    leader.stop()
    assert has_leader(rest)
    outcome = rest[0].submit(keyspace("app"))
    world.until(lambda: outcome)
    assert isinstance(outcome[0], Applied)
