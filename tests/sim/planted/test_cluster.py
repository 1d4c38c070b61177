"""Mistakes planted in the metadata log, in gossip and in placement, which the simulator has to find.

If this fails, it is blind to nodes that disagree about who decides, what was decided, who is there or who holds what.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from tests.sim.planted.circumstances import with_joins_that_one_misses, with_leaders_that_die
from tests.sim.planted.hunt import hunt

from ourodb import limits
from ourodb.cluster.gossip.state import Delta, NodeState
from ourodb.cluster.metadata import consensus
from ourodb.cluster.metadata.consensus import Consensus
from ourodb.cluster.metadata.evolution import apply
from ourodb.cluster.metadata.snapshot import encode_view
from ourodb.cluster.metadata.submissions import Submissions
from ourodb.cluster.metadata.view import ClusterView
from ourodb.cluster.raft import leadership, raft
from ourodb.cluster.raft.messages import Entry, EntryKind, Message, PreVote, PreVoteReply, Vote
from ourodb.cluster.raft.raft import Output, Raft
from ourodb.cluster.ring import placement
from ourodb.cluster.ring.model import Member
from ourodb.cluster.ring.strategies import Zone, copies
from ourodb.ports import NodeId, Ports
from ourodb.replication.paxos.proposer import Proposer
from ourodb.replication.replica.fence import Fence
from ourodb.schema.model import Replication
from ourodb.sim.machine import Machine
from ourodb.sim.ouro import build_node
from ourodb.sim.process import Program
from ourodb.sim.workloads.schema import SchemaWorkload
from ourodb.sim.workloads.set import SetWorkload
from ourodb.sim.workloads.stage import KEYSPACE, Script, insist
from ourodb.storage.row import Wait

# --- The metadata log ------------------------------------------------------------------------------------------


def narrow_elections(patch: pytest.MonkeyPatch) -> None:
    """Leaders die, and the others campaign at nearly the same moment, before they hear of each other."""
    with_leaders_that_die(patch)

    def arm(self: Raft, now_ms: int) -> None:
        self._election_at_ms = None
        if self._may_campaign():
            self._election_at_ms = now_ms + self._timing.election_ms + self._random.below(2)

    patch.setattr(Raft, "_arm", arm)


def vote_given_twice(patch: pytest.MonkeyPatch) -> None:
    """Whoever's log is new enough gets a vote of the present term, whoever had it before."""
    would_vote = Raft._would_vote

    def again(self: Raft, sender: NodeId, message: PreVote | Vote) -> bool:
        given, self._vote = self._vote, None
        try:
            return would_vote(self, sender, message)
        finally:
            self._vote = given

    patch.setattr(Raft, "_would_vote", again)


def test_a_vote_that_is_given_twice() -> None:
    hunt(
        vote_given_twice,
        "votes for node",
        "set",
        ("kill",),
        circumstances=narrow_elections,
        nodes=5,
        clients=1,
        seconds=12,
        gap_ms_max=200,
    )


def majority_off_by_one(patch: pytest.MonkeyPatch) -> None:
    for module in (raft, leadership):
        patch.setattr(module, "majority", lambda voters: max(1, len(voters) // 2))


def test_a_majority_that_is_one_too_small() -> None:
    hunt(majority_off_by_one, "leads term", "set", ("partition",), seconds=40, clients=1)


def stale_term_accepted(patch: pytest.MonkeyPatch) -> None:
    """What a leader of an older term says counts as much as what the present one says."""
    step = Raft.step

    def accept(self: Raft, now_ms: int, sender: NodeId, message: Message) -> Output:
        if not isinstance(message, PreVote | PreVoteReply) and message.term < self.term:
            message = msgspec.structs.replace(message, term=self.term)
        return step(self, now_ms, sender, message)

    patch.setattr(Raft, "step", accept)


def test_a_stale_term_that_is_accepted() -> None:
    hunt(stale_term_accepted, "lead in term", "set", ("partition",), seconds=40, clients=1)


def acknowledged_before_all_have_it(patch: pytest.MonkeyPatch) -> None:
    """A change counts as applied by the other nodes whatever epoch they have."""
    ask_all = Submissions._ask_all

    def take_their_word(self: Submissions, submission: Any, now_ms: int) -> None:
        ask_all(self, submission, now_ms)
        for node in [node for node in submission.waits_for if node != self._consensus.me]:
            self._is_there(submission, node)

    patch.setattr(Submissions, "_ask_all", take_their_word)


class UpToDateSchemaWorkload(SchemaWorkload):
    """Nobody is ever cut off: no node may be behind a change that was acknowledged."""

    name = "schema, up to date"

    def problems(self) -> list[str]:
        return super().problems() + [f"behind: {answer}" for answer in self.stale]


def test_a_change_that_is_acknowledged_before_all_have_it() -> None:
    hunt(
        acknowledged_before_all_have_it,
        ("behind: ", "has values in", "its table is gone"),
        UpToDateSchemaWorkload,
        ("slow",),
        seconds=8,
        gap_ms_max=500,
    )


def entry_applied_twice(patch: pytest.MonkeyPatch) -> None:
    def twice(view: ClusterView, entry: Entry) -> Any:
        after, outcome = apply(view, entry)
        if entry.kind is not EntryKind.COMMAND or outcome.error is not None:
            return after, outcome
        before = replace(after, epoch=view.epoch, recent=MappingProxyType({}))
        return replace(apply(before, entry)[0], recent=after.recent), outcome

    patch.setattr(consensus, "apply", twice)


def test_a_log_entry_that_is_applied_twice() -> None:
    hunt(entry_applied_twice, "isn't the others'", "schema")


def small_snapshots(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(limits, "METADATA_ENTRIES_PER_SNAPSHOT", 8)


def snapshot_without_its_last_entry(patch: pytest.MonkeyPatch) -> None:
    """When the log is compacted, the view before the last entry is written as if it were the one after it."""
    compact = Consensus._compact
    views: dict[int, ClusterView] = {}

    def one_short(self: Consensus) -> None:
        views[self.view.epoch] = self.view
        with pytest.MonkeyPatch.context() as within:
            within.setattr(
                consensus,
                "encode_view",
                lambda view: encode_view(replace(views.get(view.epoch - 1, view), epoch=view.epoch)),
            )
            compact(self)

    patch.setattr(Consensus, "_compact", one_short)


def test_a_snapshot_without_its_last_entry() -> None:
    hunt(snapshot_without_its_last_entry, "its snapshot of entry", "schema", circumstances=small_snapshots)


# --- Gossip ----------------------------------------------------------------------------------------------------


def generation_ignored(patch: pytest.MonkeyPatch) -> None:
    """News of a new process count as old news of the one before."""
    merge = NodeState.merge

    def regardless(self: NodeState, delta: Delta) -> bool:
        if self.generation:
            delta = msgspec.structs.replace(delta, generation=self.generation)
        return merge(self, delta)

    patch.setattr(NodeState, "merge", regardless)


def test_a_generation_that_is_ignored() -> None:
    hunt(generation_ignored, "takes these for down", "set", ("restart",), clients=1)


# --- Placement -------------------------------------------------------------------------------------------------


def four_on_three_hosts(machine: Machine, ports: Ports) -> Program:
    machine.host = f"host{machine.index % 3}"
    return build_node(machine, ports)


def hosts_ignored(patch: pytest.MonkeyPatch) -> None:
    def zones_of(replication: Replication, members: list[Member]) -> list[Zone]:
        return [Zone(members, copies(replication.options.get("replication_factor", "1")))]

    patch.setattr(placement, "zones_of", zones_of)


def test_two_replicas_on_one_host() -> None:
    hunt(hosts_ignored, "two copies on one host", "set", nodes=4, build=four_on_three_hosts, seconds=1)


# --- Moves -----------------------------------------------------------------------------------------------------


def stale_epoch_accepted(patch: pytest.MonkeyPatch) -> None:
    """Replicas serve coordinators that have missed where rows are now."""
    patch.setattr(Fence, "check", lambda *arguments: None)


class OneCenterSetWorkload(SetWorkload):
    """All rows are in the first data centre, each on one node; nodes of the second one only coordinate."""

    name = "set, one data centre"

    def set_up(self) -> Script[None]:
        replication = "{'class': 'NetworkTopologyStrategy', 'dc1': 1}"
        statement = f"CREATE KEYSPACE IF NOT EXISTS {KEYSPACE} WITH replication = {replication}"
        yield from insist(self._stage, statement, (), is_prepared=False)
        yield from super().set_up()


def test_a_stale_epoch_that_is_accepted() -> None:
    hunt(
        stale_epoch_accepted,
        "an acknowledged element",
        OneCenterSetWorkload,
        ("join",),
        circumstances=with_joins_that_one_misses,
        nodes=4,
        data_centers=2,
        clients=16,
        seconds=2,
        gap_ms_max=500,
    )


# --- Leaders ---------------------------------------------------------------------------------------------------


def serial_read_answered_alone(patch: pytest.MonkeyPatch) -> None:
    """A coordinator answers serial reads from its own rows, as a leader would that believes that it still leads.

    No read of the product goes by a lease: metadata is read as applied, and rows have no leader. This is the nearest.
    """
    prepare = Proposer.prepare

    def alone(self: Proposer) -> None:
        chunk = self._command.run() if self._is_read and self._route.local else None
        if chunk is None or isinstance(chunk, Wait):
            prepare(self)
        else:
            self._context.peers.later(lambda: self._end(chunk, None))

    patch.setattr(Proposer, "prepare", alone)


def test_a_paused_leader_that_serves_a_read() -> None:
    hunt(serial_read_answered_alone, "isn't linearizable", "register", ("partition", "pause"))
