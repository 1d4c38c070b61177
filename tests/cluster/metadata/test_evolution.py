"""Entries applied one by one: what fits, what is refused, and that nothing else has a say in it.

If these failed, nodes that have the same log would disagree on the schema or the ring, or a node would be let in (or
out) at the price of rows.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cluster.metadata.changes import (
    applied,
    founded,
    keyspace,
    newcomer,
    ring_of,
    schema_change,
    table,
)

from ourodb import limits
from ourodb.cluster.metadata.commands import (
    AbortMove,
    AddMember,
    AdvanceMove,
    BeginMove,
    Command,
    FoundCluster,
    Heal,
    Leave,
    NodeCopied,
    PauseHealing,
    Rebalance,
    RemoveMember,
    Suspect,
    UpdateMember,
    summary,
)
from ourodb.cluster.metadata.evolution import Outcome, apply, schema_events
from ourodb.cluster.metadata.refusals import decode_refusal, encode_refusal
from ourodb.cluster.metadata.snapshot import decode_view, encode_view
from ourodb.cluster.metadata.view import ClusterView, node_info
from ourodb.cluster.raft.messages import Entry, EntryKind, encode_voters
from ourodb.cluster.ring.moves import Stage
from ourodb.cluster.ring.rebalancing import unevenness
from ourodb.errors import (
    AlreadyExists,
    ConfigurationException,
    InvalidRequest,
    NotSupported,
    Overloaded,
    StoreDamaged,
)
from ourodb.ports import NodeId
from ourodb.schema.changes import AlterKeyspace, DropKeyspace, SchemaChangeEvent, TruncateTable
from ourodb.schema.keyspaces import SIMPLE


def grown(view: ClusterView, *commands: Command) -> ClusterView:
    for command in commands:
        view, outcome = applied(view, command)
        assert outcome.error is None, outcome.error
    return view


def refused(view: ClusterView, command: Command, match: str) -> None:
    after, outcome = applied(view, command)
    assert outcome.error is not None
    assert isinstance(outcome.error, InvalidRequest)
    assert match in outcome.error.message
    assert replace(after, epoch=view.epoch, recent=view.recent) == view


def with_table(view: ClusterView, factor: int = 1) -> ClusterView:
    return grown(view, schema_change(keyspace("app", factor)), schema_change(table("t")))


def test_the_founder_is_the_first_member_and_votes() -> None:
    view = founded()
    assert view.cluster_name == "ring"
    assert list(view.members) == [1]
    assert view.voters == (1,)
    assert len(view.members[NodeId(1)].tokens) == 4
    assert view.epoch == 1
    refused(view, FoundCluster(UUID(int=1), "other", newcomer(2)), "was founded already")


def test_members_get_ids_once_and_tokens_of_their_own() -> None:
    """Two nodes with one id, or with a token in common, would each think that a range is theirs."""
    view = ring_of(5)
    assert list(view.members) == [1, 2, 3, 4, 5]
    tokens = [token for member in view.members.values() for token in member.tokens]
    assert len(set(tokens)) == len(tokens) == 20
    assert list(view.ring.members) == [1, 2, 3, 4, 5]
    view = grown(view, RemoveMember(newcomer(5).host_id), AddMember(newcomer(6)))
    assert list(view.members) == [1, 2, 3, 4, 6]


def test_a_member_that_asks_again_stays_as_it_is() -> None:
    """The answer to its first request may have got lost."""
    view = ring_of(2)
    after, outcome = applied(view, AddMember(newcomer(2)))
    assert outcome.error is None
    assert after.members is view.members
    assert after.ring is view.ring


def test_a_removed_node_is_refused_with_what_to_do() -> None:
    view = grown(ring_of(3), RemoveMember(newcomer(3).host_id))
    assert list(view.members) == [1, 2]
    refused(view, AddMember(newcomer(3)), "wipe its data folder and join afresh")


def test_no_two_members_have_one_address() -> None:
    """Messages and clients would reach one of them or the other, as it happens."""
    view = ring_of(2)
    twin = newcomer(3)
    refused(view, AddMember(msg(twin, peer=("10.0.0.2", 7000))), "belongs to node 2")
    refused(view, AddMember(msg(twin, native=("10.0.0.1", 9042))), "belongs to node 1")
    refused(view, UpdateMember(newcomer(1).host_id, ("10.0.0.2", 7000), ("10.0.0.1", 9042)), "node 2")
    refused(view, UpdateMember(UUID(int=5), ("10.0.0.9", 7000), ("10.0.0.9", 9042)), "no member")
    # Not bound yet: no address at all.
    unbound = grown(founded(msg(newcomer(1), native=("127.0.0.1", 0))))
    grown(unbound, AddMember(msg(newcomer(2), native=("127.0.0.1", 0))))


def msg(member: Any, **fields: Any) -> Any:
    return type(member)(**{name: getattr(member, name) for name in member.__struct_fields__} | fields)


def test_a_member_may_move() -> None:
    view = ring_of(2)
    after = grown(view, UpdateMember(newcomer(2).host_id, ("10.0.0.7", 7000), ("10.0.0.7", 9042)))
    moved = after.members[NodeId(2)]
    assert moved.peer == ("10.0.0.7", 7000)
    assert moved.tokens == view.members[NodeId(2)].tokens
    assert after.ring.members[NodeId(2)] is moved


def test_without_tables_nodes_come_and_go_at_once() -> None:
    view = grown(
        ring_of(3), AddMember(newcomer(4)), RemoveMember(newcomer(3).host_id), Leave(newcomer(2).host_id)
    )
    assert list(view.members) == [1, 4]
    assert all(member.tokens for member in view.members.values())
    assert (view.move, view.wishes) == (None, ())


def test_with_tables_who_joins_owns_nothing_until_it_has_copied() -> None:
    before = with_table(ring_of(3))
    waiting = grown(before, AddMember(newcomer(4)), AddMember(newcomer(5)))
    assert [waiting.members[NodeId(node)].tokens for node in (4, 5)] == [(), ()]
    assert [wish.node for wish in waiting.wishes] == [4, 5]
    begun = grown(waiting, BeginMove())
    move = begun.move
    assert move is not None
    assert (move.id, move.stage, move.copied, begun.wishes) == (begun.epoch, Stage.COPYING, (), ())
    assert list(move.tokens) == [4, 5]
    assert begun.copying == (4, 5)
    assert begun.members[NodeId(4)].tokens == ()
    # Nobody has copied yet.
    refused(begun, AdvanceMove(move.id, Stage.COPYING), "haven't copied")
    copied = grown(begun, NodeCopied(move.id, 5), NodeCopied(move.id, 4), NodeCopied(move.id, 4))
    assert copied.move is not None
    assert copied.move.copied == (4, 5)
    switched = grown(copied, AdvanceMove(move.id, Stage.COPYING))
    assert switched.move is not None
    assert (switched.move.stage, switched.move.since) == (Stage.SWITCHED, switched.epoch)
    refused(switched, AbortMove(move.id, "why"), "can't be undone")
    # A command that comes twice does nothing.
    assert grown(switched, AdvanceMove(move.id, Stage.COPYING)).move == switched.move
    after = grown(switched, AdvanceMove(move.id, Stage.SWITCHED))
    assert (after.move, after.moved, after.next_ring) == (None, after.epoch, None)
    assert after.members[NodeId(4)].tokens == move.tokens[NodeId(4)]
    assert switched.next_ring is not None
    assert after.ring.owners == switched.next_ring.owners


def test_a_move_that_is_undone_leaves_no_trace_of_the_newcomer() -> None:
    before = with_table(ring_of(3))
    begun = grown(before, AddMember(newcomer(4)), BeginMove())
    assert begun.move is not None
    after = grown(begun, AbortMove(begun.move.id, "it is down"))
    assert (after.move, after.next_ring, list(after.members)) == (None, None, [1, 2, 3])
    assert after.ring.owners == before.ring.owners
    refused(after, AddMember(newcomer(4)), "wipe its data folder")


def test_of_those_that_were_to_come_together_only_the_one_that_is_down_is_given_up() -> None:
    begun = grown(with_table(ring_of(3)), AddMember(newcomer(4)), AddMember(newcomer(5)), BeginMove())
    assert begun.move is not None
    after = grown(begun, AbortMove(begun.move.id, "it is down", blamed=4))
    assert list(after.members) == [1, 2, 3, 5]
    assert [(wish.kind, wish.node) for wish in after.wishes] == [("join", 5)]
    again = grown(after, BeginMove())
    assert again.move is not None
    assert [(node, len(tokens)) for node, tokens in again.move.tokens.items()] == [
        (5, len(begun.move.tokens[NodeId(5)]))
    ]
    replacing = grown(with_table(ring_of(4)), AddMember(msg(newcomer(5), replaces=4)), BeginMove())
    assert replacing.move is not None
    after = grown(replacing, AbortMove(replacing.move.id, "another one is down", blamed=2))
    assert [(wish.kind, wish.node, wish.replaces) for wish in after.wishes] == [("replace", 5, 4)]
    again = grown(after, BeginMove())
    assert again.move is not None
    assert again.move.tokens == replacing.move.tokens


@pytest.mark.parametrize("command", [Leave, RemoveMember])
def test_with_tables_who_leaves_is_a_member_until_others_have_copied(command: type[Leave]) -> None:
    waiting = grown(with_table(ring_of(4)), command(newcomer(4).host_id))
    assert [wish.node for wish in waiting.wishes] == [4]
    # Asking again changes nothing.
    assert grown(waiting, command(newcomer(4).host_id)).wishes == waiting.wishes
    begun = grown(waiting, BeginMove())
    assert begun.move is not None
    refused(begun, command(newcomer(4).host_id), "joining or leaving already")
    copied = grown(begun, *(NodeCopied(begun.move.id, node) for node in begun.copying))
    after = grown(copied, AdvanceMove(begun.move.id, 1), AdvanceMove(begun.move.id, 2))
    assert list(after.members) == [1, 2, 3]
    refused(after, AddMember(newcomer(4)), "wipe its data folder")


@pytest.mark.parametrize("command", [Leave, RemoveMember])
def test_who_joins_isn_t_sent_away_in_the_midst_of_it(command: type[Leave]) -> None:
    """The others that join would gain what they haven't copied. Whoever is dead is given up by the leader."""
    view = grown(with_table(ring_of(3), 2), AddMember(newcomer(4)), AddMember(newcomer(5)), BeginMove())
    assert view.move is not None
    view = grown(view, NodeCopied(view.move.id, 5))
    refused(view, command(newcomer(4).host_id), "joining or leaving already")
    after = grown(view, AbortMove(view.move.id, "node 4 is down", blamed=NodeId(4)))
    assert NodeId(4) not in after.members
    assert [wish.node for wish in after.wishes] == [5]


def test_who_is_to_be_replaced_isn_t_removed_as_well() -> None:
    view = grown(with_table(ring_of(4)), AddMember(msg(newcomer(5), replaces=4)))
    refused(view, RemoveMember(newcomer(4).host_id), "about to be replaced")


def test_as_many_stay_as_there_are_copies() -> None:
    view = with_table(ring_of(3), factor=3)
    refused(view, Leave(newcomer(3).host_id), "too few nodes for keyspace app: 3 copies, and 2 nodes")
    four = grown(with_table(ring_of(4), factor=3), Leave(newcomer(3).host_id))
    refused(four, Leave(newcomer(4).host_id), "too few nodes")


def test_moves_follow_one_another() -> None:
    view = grown(with_table(ring_of(4)), Leave(newcomer(4).host_id), AddMember(newcomer(5)), BeginMove())
    assert view.move is not None
    assert (view.move.kind, [wish.node for wish in view.wishes]) == ("leave", [5])
    again = grown(view, BeginMove())
    assert again.move == view.move


def voting(view: ClusterView, *voters: int) -> ClusterView:
    entry = Entry(view.epoch + 1, 1, EntryKind.VOTERS, encode_voters(tuple(map(NodeId, voters))))
    return apply(view, entry)[0]


def test_who_is_taken_for_dead_by_most_voters_is_given_up() -> None:
    view = voting(with_table(ring_of(5), factor=3), 1, 2, 3)
    view = grown(view, Suspect(5, 4), Suspect(5, 1), Suspect(9, 1))
    assert view.suspects == {5: (1, 4)}
    # The fourth doesn't vote.
    refused(view, Heal((5,)), "most voters don't take node 5 for dead")
    view = grown(view, Suspect(5, 3))
    refused(grown(view, Suspect(5, 1, is_down=False)), Heal((5,)), "most voters don't")
    begun = grown(view, Heal((5,)), BeginMove(7_000))
    assert begun.move is not None
    assert (begun.move.kind, begun.move.tokens) == ("heal", {5: ()})
    refused(begun, Heal((5,)), "nobody is given up at the moment")
    copied = grown(begun, *(NodeCopied(begun.move.id, node, 10, 500) for node in begun.copying))
    after = grown(copied, AdvanceMove(begun.move.id, 1, 8_000), AdvanceMove(begun.move.id, 2, 9_000))
    assert (list(after.members), after.suspects) == ([1, 2, 3, 4], {})
    refused(after, AddMember(newcomer(5)), "wipe its data folder")
    (told,) = after.operations
    assert (told.kind, told.nodes, told.began_ms, told.switched_ms, told.ended_ms) == (
        "heal", (5,), 7_000, 8_000, 9_000
    )  # fmt: skip
    assert (told.is_over, told.is_done, told.rows, told.bytes) == (
        True,
        True,
        10 * len(begun.copying),
        500 * len(begun.copying),
    )
    assert decode_view(encode_view(after)) == after


def test_what_those_that_left_had_said_of_others_is_forgotten() -> None:
    view = grown(with_table(ring_of(5)), Suspect(4, 5), Suspect(4, 1), Suspect(3, 5))
    assert decode_view(encode_view(view)) == view
    begun = grown(view, Leave(newcomer(5).host_id), BeginMove())
    assert begun.move is not None
    copied = grown(begun, *(NodeCopied(begun.move.id, node) for node in begun.copying))
    after = grown(copied, AdvanceMove(begun.move.id, 1), AdvanceMove(begun.move.id, 2))
    assert after.suspects == {4: (1,)}


def test_nobody_is_given_up_at_the_price_of_copies_or_while_healing_is_paused() -> None:
    three = grown(voting(with_table(ring_of(3), factor=3), 1, 2, 3), Suspect(3, 1), Suspect(3, 2))
    refused(three, Heal((3,)), "too few nodes for keyspace app: 3 copies, and 2 nodes")
    refused(three, Heal((3,), is_asked=True), "too few nodes")
    five = grown(
        voting(with_table(ring_of(5), factor=3), 1, 2, 3), Suspect(5, 1), Suspect(5, 2), PauseHealing(True)
    )
    assert decode_view(encode_view(five)).is_healing_paused
    refused(five, Heal((5,)), "nobody is given up")
    assert grown(five, PauseHealing(False), Heal((5,))).wishes
    # An operator may, several at once, but never too many.
    both = grown(five, Heal((4, 5), is_asked=True), BeginMove())
    assert both.move is not None
    assert both.move.tokens == {4: (), 5: ()}
    refused(five, Heal((3, 4, 5), is_asked=True), "too few nodes")
    refused(ring_of(5), Heal((5,), is_asked=True), "no rows")


def test_the_history_says_why_a_move_was_undone_and_forgets_the_oldest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "OPERATIONS_MAX", 2)
    view = with_table(ring_of(4))
    for number in range(3):
        view = grown(view, Leave(newcomer(4).host_id), BeginMove(number + 1))
        assert view.move is not None
        assert not view.operations[-1].is_over
        view = grown(view, AbortMove(view.move.id, f"reason {number}", 10))
    assert [(one.began_ms, one.ended_ms, one.is_done, one.reason) for one in view.operations] == [
        (2, 10, False, "reason 1"),
        (3, 10, False, "reason 2"),
    ]


def test_a_ring_is_evened_by_moving_few() -> None:
    """The same on all nodes: it is worked out when its turn comes."""
    view = ring_of(6)
    for number in (2, 3):
        view = grown(view, RemoveMember(newcomer(number).host_id))
    before = unevenness(view.members.values())
    assert before > limits.REBALANCE_RATIO_MAX
    at_once = grown(view, Rebalance())
    assert unevenness(at_once.members.values()) < before
    wished = grown(with_table(view), Rebalance(), Rebalance())
    assert [wish.kind for wish in wished.wishes] == ["rebalance"]
    assert decode_view(encode_view(wished)) == wished
    begun = grown(wished, BeginMove())
    assert begun.move is not None
    assert begun.wishes == ()
    moved = begun.move.tokens
    assert moved == {
        node: member.tokens for node, member in at_once.members.items() if member != view.members[node]
    }
    assert 0 < len(moved) < 4
    undone = grown(begun, AbortMove(begun.move.id, "why"))
    assert undone.members == wished.members
    copied = grown(begun, *(NodeCopied(begun.move.id, node) for node in begun.copying))
    after = grown(copied, AdvanceMove(begun.move.id, 1), AdvanceMove(begun.move.id, 2))
    assert after.members == at_once.members
    assert after.ring.owners == at_once.ring.owners
    # There is nothing to do now.
    even = ring_of(5)
    assert grown(with_table(even), Rebalance(), BeginMove()).move is None
    assert grown(even, Rebalance()).members is even.members


def test_a_view_with_a_move_can_be_written_down() -> None:
    view = grown(with_table(ring_of(4)), Leave(newcomer(4).host_id), AddMember(newcomer(5)), BeginMove())
    read = decode_view(encode_view(view))
    assert read == view
    assert view.next_ring is not None
    assert read.next_ring is not None
    assert read.next_ring.owners == view.next_ring.owners


def test_the_only_voter_and_the_last_member_stay() -> None:
    refused(founded(), RemoveMember(newcomer(1).host_id), "last member")
    refused(ring_of(2), RemoveMember(newcomer(1).host_id), "alone decides")
    refused(ring_of(2), RemoveMember(UUID(int=9)), "no member has the host id")


def test_replication_changes_at_once_where_no_rows_have_to_move() -> None:
    alter = schema_change(AlterKeyspace("app", SIMPLE, {"replication_factor": "3"}))
    same = schema_change(AlterKeyspace("app", SIMPLE, {"replication_factor": "1"}, durable_writes=False))
    traces = schema_change(AlterKeyspace("system_traces", SIMPLE, {"replication_factor": "3"}))
    ring = ring_of(2)
    for view in (
        grown(with_table(founded()), alter),
        grown(with_table(ring), same),
        grown(ring, schema_change(keyspace("app")), alter),
        grown(ring, traces),
    ):
        assert (view.wishes, view.move) == ((), None)


def test_another_replication_shows_when_the_rows_have_moved() -> None:
    """Before, the copies that the new factor promises aren't there."""
    alter = schema_change(AlterKeyspace("app", SIMPLE, {"replication_factor": "3"}, durable_writes=False))
    view = grown(with_table(ring_of(4)), alter)
    assert factor_of(view) == "1"
    assert not view.schema.keyspaces["app"].durable_writes
    refused(view, alter, "getting another replication already")
    view = grown(view, BeginMove())
    assert view.move is not None
    assert decode_view(encode_view(view)) == view
    assert view.next_ring is not None
    refused(view, alter, "getting another replication already")
    refused(view, AdvanceMove(view.move.id, Stage.COPYING), "haven't copied")
    for node in view.copying:
        view = grown(view, NodeCopied(view.move.id, node))
    view = grown(view, AdvanceMove(view.move.id, Stage.COPYING))
    assert factor_of(view) == "1"
    view, outcome = applied(view, AdvanceMove(view.move.id, Stage.SWITCHED))
    assert factor_of(view) == "3"
    assert [event.change for event in outcome.events] == ["UPDATED"]
    assert (view.move, view.moved) == (None, view.epoch)


def test_another_replication_can_be_undone_and_dies_with_its_keyspace() -> None:
    alter = schema_change(AlterKeyspace("app", SIMPLE, {"replication_factor": "3"}))
    begun = grown(with_table(ring_of(4)), alter, BeginMove())
    undone = grown(begun, AbortMove(begun.move.id, "no reason"))
    assert (factor_of(undone), undone.move, undone.members) == ("1", None, begun.members)
    again = grown(begun, schema_change(DropKeyspace("app")), schema_change(keyspace("app")))
    assert again.copying == ()
    done = grown(again, AdvanceMove(begun.move.id, Stage.COPYING), AdvanceMove(begun.move.id, Stage.SWITCHED))
    assert (factor_of(done), done.move) == ("1", None)
    waiting = grown(with_table(ring_of(4)), alter, schema_change(DropKeyspace("app")))
    assert waiting.wishes == ()


def factor_of(view: ClusterView) -> str:
    return view.schema.keyspaces["app"].replication.options["replication_factor"]


def test_bounds_of_a_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MEMBERS_MAX", 2)
    refused(ring_of(2), AddMember(newcomer(3)), "more than 2 members")
    refused(
        founded(),
        AddMember(msg(newcomer(2), token_count=limits.TOKENS_PER_NODE_MAX + 1)),
        "a member has between 1 and",
    )
    refused(founded(), AddMember(msg(newcomer(2), token_count=0)), "a member has between 1 and")


def test_a_change_that_no_longer_fits_is_refused_with_cassandras_error() -> None:
    view = grown(founded(), schema_change(keyspace("app")))
    after, outcome = applied(view, schema_change(keyspace("app")), proposal=b"x" * 16)
    assert isinstance(outcome.error, AlreadyExists)
    assert after.schema is view.schema
    assert after.epoch == view.epoch + 1
    again = decode_refusal(after.recent[b"x" * 16])
    assert isinstance(again, AlreadyExists)
    assert (again.keyspace, again.message) == ("app", outcome.error.message)


def test_a_proposal_that_comes_twice_is_carried_out_once() -> None:
    """Its submitter sent it again to the next leader; both copies were committed."""
    view = with_table(founded())
    truncate = schema_change(TruncateTable("app", "t"))
    once, first = applied(view, truncate, proposal=b"y" * 16)
    twice, second = applied(once, truncate, proposal=b"y" * 16)
    assert first.proposal == b"y" * 16
    assert second == Outcome()
    assert twice == replace(once, epoch=once.epoch + 1)
    # A refusal stands, too: its submitter was told.
    no, refusal = applied(view, schema_change(keyspace("app")), proposal=b"z" * 16)
    gone = grown(no, schema_change(DropKeyspace("app")))
    after, outcome = applied(gone, schema_change(keyspace("app")), proposal=b"z" * 16)
    assert refusal.error is not None
    assert outcome == Outcome()
    assert "app" not in after.schema.keyspaces


def test_a_proposal_that_comes_when_its_first_copy_may_be_forgotten_is_refused() -> None:
    """Else a message that was late by hours would carry a change out a second time."""
    view, _ = applied(founded(), schema_change(keyspace("app")), proposal=b"y" * 16)
    for _ in range(limits.METADATA_RECENT_MAX):
        view, _ = applied(view, UpdateMember(newcomer(1).host_id, ("10.0.0.1", 7000), ("10.0.0.1", 9042)))
    assert len(view.recent) == limits.METADATA_RECENT_MAX
    assert b"y" * 16 not in view.recent
    view = grown(view, schema_change(DropKeyspace("app")))
    after, outcome = applied(view, schema_change(keyspace("app")), proposal=b"y" * 16, since=1)
    assert isinstance(outcome.error, Overloaded)
    assert "app" not in after.schema.keyspaces


def test_entries_of_consensus_change_the_epoch_and_the_voters_alone() -> None:
    view = ring_of(3)
    noop, outcome = apply(view, Entry(view.epoch + 1, 2, EntryKind.NOOP, b""))
    assert outcome == Outcome()
    assert noop == replace(view, epoch=view.epoch + 1)
    voters = encode_voters((NodeId(3), NodeId(1), NodeId(2)))
    after, _ = apply(noop, Entry(noop.epoch + 1, 2, EntryKind.VOTERS, voters))
    assert after == replace(view, epoch=view.epoch + 2, voters=(1, 2, 3))
    assert after.ring is view.ring


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (EntryKind.COMMAND, b"\xc1"),
        (EntryKind.COMMAND, b"\x83\xa2id\xc4\x01x\xa5since\x00\xa7command\x81\xa7command\xa5grow?"),
        (EntryKind.VOTERS, b"\x80"),
    ],
)
def test_an_entry_that_cant_be_read_stops_the_node(kind: EntryKind, payload: bytes) -> None:
    """Skipping it would make this node's view another one than that of the nodes that can read it."""
    with pytest.raises(StoreDamaged, match="Entry 2 of the metadata log can't be applied"):
        apply(founded(), Entry(2, 1, kind, payload))


def test_refusals_keep_their_class_and_text() -> None:
    """A driver tells an application by the class whether its table is there already."""
    for error in (
        InvalidRequest("no"),
        ConfigurationException("bad"),
        AlreadyExists("app", "t"),
        AlreadyExists("app"),
        Overloaded("full"),
        NotSupported("this"),
    ):
        again = decode_refusal(encode_refusal(error))
        assert isinstance(error, type(again))
        assert (again.code, again.message) == (error.code, error.message)
    with pytest.raises(StoreDamaged):
        decode_refusal(b"\xc1")


def test_a_jump_over_entries_is_told_as_the_changes_that_it_amounts_to() -> None:
    """Drivers would keep a schema that is no more."""
    before = grown(with_table(founded()), schema_change(keyspace("old")), schema_change(keyspace("same")))
    after = grown(
        before,
        schema_change(DropKeyspace("old")),
        schema_change(keyspace("new")),
        schema_change(table("u", "new")),
        schema_change(TruncateTable("app", "t")),
        schema_change(AlterKeyspace("same", durable_writes=False)),
    )
    assert schema_events(before.schema, after.schema) == (
        SchemaChangeEvent("UPDATED", "TABLE", "app", "t"),
        SchemaChangeEvent("CREATED", "KEYSPACE", "new"),
        SchemaChangeEvent("CREATED", "TABLE", "new", "u"),
        SchemaChangeEvent("DROPPED", "KEYSPACE", "old"),
        SchemaChangeEvent("UPDATED", "KEYSPACE", "same"),
    )
    assert schema_events(after.schema, after.schema) == ()


def test_commands_in_a_few_words() -> None:
    for command, text in (
        (FoundCluster(UUID(int=1), "ring", newcomer(1)), "found_cluster ring"),
        (AddMember(newcomer(2)), "add_member 10.0.0.2:7000"),
        (UpdateMember(UUID(int=1), ("10.0.0.9", 7000), ("10.0.0.9", 9042)), "update_member 10.0.0.9:7000"),
        (RemoveMember(UUID(int=1)), "remove_member 00000000-0000-0000-0000-000000000001"),
        (schema_change(TruncateTable("app", "t")), "truncate_table app.t"),
        (schema_change(DropKeyspace("app")), "drop_keyspace app"),
    ):
        assert summary(command) == text


def test_what_clients_see_of_a_member() -> None:
    view = ring_of(2)
    member = view.members[NodeId(2)]
    info = node_info(view, member, generation=7, listen=("0.0.0.0", 7001))
    assert info.cluster_name == "ring"
    assert (info.host_id, info.data_center, info.rack) == (member.host_id, "dc1", "r1")
    assert info.tokens == tuple(str(token) for token in member.tokens)
    assert (info.native_address, info.native_port) == ("10.0.0.2", 9042)
    assert (info.broadcast_address, info.broadcast_port) == ("10.0.0.2", 7000)
    assert (info.listen_address, info.listen_port, info.generation) == ("0.0.0.0", 7001, 7)


def commands() -> st.SearchStrategy[Command]:
    """Commands of which some fit, depending on what came before."""
    numbers = st.integers(2, 5)
    names = st.sampled_from(["a", "b"])
    changes = st.one_of(
        names.map(keyspace),
        names.map(DropKeyspace),
        st.tuples(st.sampled_from("tu"), names).map(lambda pair: table(*pair)),
        names.map(lambda name: TruncateTable(name, "t")),
        names.map(lambda name: AlterKeyspace(name, SIMPLE, {"replication_factor": "3"})),
    )
    return st.one_of(
        changes.map(schema_change),
        numbers.map(lambda number: AddMember(newcomer(number, rack=f"r{number % 3}"))),
        numbers.map(lambda number: RemoveMember(newcomer(number).host_id)),
        st.tuples(numbers, numbers).map(
            lambda pair: UpdateMember(
                newcomer(pair[0]).host_id, newcomer(pair[1]).peer, newcomer(pair[1]).native
            )
        ),
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(commands(), max_size=25), st.integers(0, 25))
def test_a_snapshot_stands_for_the_entries_before_it(steps: list[Command], at: int) -> None:
    """A node that began from a snapshot must not come to differ from one that applied every entry."""
    view = other = founded()
    for number, command in enumerate(steps):
        if number == at:
            other = decode_view(encode_view(view))
            assert other == view
            assert other.ring.tokens == view.ring.tokens
        view, outcome = applied(view, command)
        other, same = applied(other, command)
        assert other == view
        assert (outcome.events, str(outcome.error)) == (same.events, str(same.error))
    assert encode_view(view) == encode_view(other)
    assert decode_view(encode_view(view)) == view


def test_a_snapshot_that_cant_be_read_is_told() -> None:
    encoded = encode_view(ring_of(2))
    foreign = b"\x01" + zlib.compress(b"\x93\x01\x02\x03")
    for damaged, match in (
        (b"", "format nothing"),
        (b"\x09" + encoded[1:], "format 9"),
        (encoded[:40], "cut short"),
        (encoded[:20] + b"\x00" + encoded[21:], "can't be read"),
        (foreign, "can't be read"),
    ):
        with pytest.raises(StoreDamaged, match=match):
            decode_view(damaged)
