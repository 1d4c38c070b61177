"""Every invariant can fail: each test plants a mistake in production nodes, and the step that makes it ends the run.

If this fails, a run that looks clean may have had two leaders, two views of one epoch, or copies in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from ourodb import limits
from ourodb.cluster.metadata import consensus as consensus_module
from ourodb.cluster.metadata.consensus import Consensus
from ourodb.cluster.metadata.entries import EntryLog
from ourodb.cluster.metadata.evolution import apply
from ourodb.cluster.metadata.snapshot import encode_view
from ourodb.cluster.raft.effects import Persist
from ourodb.cluster.raft.messages import Entry, EntryKind
from ourodb.cluster.raft.raft import Raft
from ourodb.cluster.ring import placement
from ourodb.cluster.ring.model import Member
from ourodb.cluster.ring.placement import Placement, Ring
from ourodb.cluster.ring.strategies import Zone
from ourodb.cluster.ring.strategies import zones_of as zones_of_production
from ourodb.ports import NodeId, Ports
from ourodb.replication.hints import Hints
from ourodb.schema.keyspaces import SIMPLE
from ourodb.schema.model import Replication
from ourodb.sim.client import CqlClient
from ourodb.sim.faults.kinds import FAULTS
from ourodb.sim.faults.paths import between
from ourodb.sim.invariants import InvariantBroken
from ourodb.sim.machine import Machine
from ourodb.sim.ouro import build_node, build_unwatched, disagreements, inspect
from ourodb.sim.process import Program
from ourodb.sim.run import Plan, SimStage, run
from ourodb.sim.workloads.stage import KEYSPACE, insist
from ourodb.sim.world import World

KEYSPACE_STATEMENT = (
    f"CREATE KEYSPACE {KEYSPACE} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 3}}"
)
TABLE_STATEMENT = f"CREATE TABLE {KEYSPACE}.t (id bigint PRIMARY KEY, value bigint)"


class Ring3:
    """Three nodes, with a voter each, and a client."""

    def __init__(self, seed: int = 1, nodes: int = 3) -> None:
        self.world = World(seed)
        self.world.add_machines(nodes, build_node)
        self.world.start(self.world.machines)
        self.stage = SimStage(self.world)
        assert self.world.run_until(self._is_settled, 30)

    def _is_settled(self) -> bool:
        machines = [self.consensus(machine.index) for machine in self.world.machines]
        return all(len(one.view.voters) == 3 and one._raft is not None and one.is_idle for one in machines)

    def consensus(self, index: int) -> Consensus:
        found: Consensus = self.world.machines[index].program.node.metadata._consensus
        return found

    def execute(self, *statements: str) -> None:
        for statement in statements:
            self.world.carry_out(insist(self.stage, statement, (), is_prepared=False), 60)

    @property
    def leader(self) -> Machine:
        return next(machine for machine in self.world.machines if self.consensus(machine.index).is_leader)

    @property
    def follower(self) -> Machine:
        return next(machine for machine in self.world.machines if not self.consensus(machine.index).is_leader)


# --- Raft


def campaign_at_one_moment(self: Raft, now_ms: int) -> None:
    """In place of ``Raft._arm``: without chance, all campaign together."""
    self._election_at_ms = now_ms + self._timing.election_ms if self._may_campaign() else None


def vote_again(self: Raft, sender: NodeId, message: Any) -> bool:
    """In place of ``Raft._would_vote``: whoever asks gets it."""
    return bool(message.term >= self.term)


def test_a_vote_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    rings = [Ring3(seed) for seed in range(1, 7)]
    monkeypatch.setattr(Raft, "_arm", campaign_at_one_moment)
    monkeypatch.setattr(Raft, "_would_vote", vote_again)
    with pytest.raises(InvariantBroken, match=r"votes for node \d in term \d+, after node \d"):
        for ring in rings:
            for _ in range(5):
                victim = ring.leader
                victim.kill()
                ring.world.run_for(5)
                victim.start()
                ring.world.run_for(5)


def test_two_leaders_of_one_term(monkeypatch: pytest.MonkeyPatch) -> None:
    """A majority that is one too small."""
    ring = Ring3()
    monkeypatch.setattr(Raft, "_has_won", lambda self: True)
    with pytest.raises(InvariantBroken, match=r"leads term \d+, which node \d leads, or led"):
        for number in range(20):
            ring.world.network.cut(between([number % 3], [(number + 1) % 3, (number + 2) % 3]))
            ring.world.run_for(4)
            ring.world.network.heal(between([number % 3], [(number + 1) % 3, (number + 2) % 3]))
            ring.world.run_for(2)


def test_a_vote_that_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    write = EntryLog.write
    monkeypatch.setattr(EntryLog, "write", lambda self, persist: write(self, replace(persist, vote=None)))
    ring = Ring3()
    victim = ring.leader
    victim.kill()
    with pytest.raises(InvariantBroken, match=r"has voted for node \d in term \d+, and now knows of None"):
        victim.start()
        ring.world.run_for(1)


def test_a_leader_without_what_was_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Votes for those whose log is older."""
    ring = Ring3()
    would_vote = Raft._would_vote

    def vote(self: Raft, sender: NodeId, message: Any) -> bool:
        newest = replaced(message, last_term=1 << 40)
        return would_vote(self, sender, newest)

    def replaced(message: Any, **fields: Any) -> Any:
        values = {name: getattr(message, name) for name in message.__struct_fields__}
        return type(message)(**{**values, **fields})

    monkeypatch.setattr(Raft, "_would_vote", vote)
    ring.execute(KEYSPACE_STATEMENT)
    network = ring.world.network
    with pytest.raises(InvariantBroken, match=r"without the entry \d+ of term \d+, which is committed"):
        for number in range(20):
            leader, late = ring.leader.index, ring.follower.index
            other = 3 - leader - late
            network.cut(between([late], [leader, other]))
            ring.world.run_for(0.1)
            statement = f"CREATE TABLE {KEYSPACE}.t{number} (id bigint PRIMARY KEY)"
            client = CqlClient(ring.world, [ring.world.machines[leader]], moves=False)
            client.execute(statement, is_prepared=False)
            ring.world.run_for(0.2)
            network.cut(between([leader], [other]))
            network.heal(between([late], [other]))
            ring.world.run_for(5)
            network.heal(between([leader], [late, other]))
            ring.world.run_for(5)


def test_an_entry_that_reaches_a_follower_as_another(monkeypatch: pytest.MonkeyPatch) -> None:
    take = Raft._take

    def take_other(self: Raft, entries: tuple[Entry, ...]) -> None:
        others = [
            replace(entry, kind=EntryKind.NOOP, payload=b"") if entry.kind is EntryKind.COMMAND else entry
            for entry in entries
        ]
        take(self, tuple(others))

    ring = Ring3()
    monkeypatch.setattr(Raft, "_take", take_other)
    with pytest.raises(InvariantBroken, match="in its log, where another has"):
        ring.execute(KEYSPACE_STATEMENT)


def test_entries_that_follow_different_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Log matching fails at the entry before: a follower that takes the new ones whatever comes before them."""
    ring = Ring3()
    group = ring.world.machines[0].witness.books.group(0)  # type: ignore[union-attr]
    raft = ring.consensus(ring.follower.index)._raft
    assert raft is not None
    last = raft._log.last_index
    _, before = group.entries[last, raft._log.last_term]
    assert before is not None
    group.entries[last + 1, 99] = (Entry(last + 1, 99, EntryKind.NOOP, b""), raft._log.last_term + 1)
    raft._log.append((Entry(last + 1, 99, EntryKind.NOOP, b""),))
    with pytest.raises(InvariantBroken, match=r"has an entry of term \d+ before entry"):
        ring.world.run_for(1)


def test_an_entry_that_the_disk_gives_back_as_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """State-machine safety: the machine's log is right, and what is applied isn't."""
    ring = Ring3()
    victim = next(index for index in range(3) if not ring.consensus(index).is_leader)
    write = EntryLog.write
    store = ring.world.machines[victim].process.store  # type: ignore[union-attr]

    def write_other(self: EntryLog, persist: Persist) -> None:
        if self._store is store:
            others = [replace(entry, kind=EntryKind.NOOP, payload=b"") for entry in persist.entries]
            persist = replace(persist, entries=tuple(others))
        write(self, persist)

    monkeypatch.setattr(EntryLog, "write", write_other)
    with pytest.raises(InvariantBroken, match="where another has applied"):
        ring.execute(KEYSPACE_STATEMENT)


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (
            lambda consensus: setattr(consensus._raft, "commit", consensus._raft.commit - 1),
            "commit index goes back",
        ),
        (lambda consensus: setattr(consensus._raft, "term", consensus._raft.term - 1), "term goes back"),
        (
            lambda consensus: setattr(
                consensus, "view", replace(consensus.view, epoch=consensus.view.epoch - 1)
            ),
            "epoch goes back",
        ),
    ],
    ids=["commit", "term", "epoch"],
)
def test_what_never_goes_back(harm: Callable[[Any], None], told: str) -> None:
    ring = Ring3()
    harm(ring.consensus(ring.follower.index))
    with pytest.raises(InvariantBroken, match=told):
        ring.world.run_for(1)


def test_an_epoch_that_was_kept_and_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    def forget(self: EntryLog, index: int) -> None:
        self.applied = index

    monkeypatch.setattr(EntryLog, "mark_applied", forget)
    ring = Ring3()
    ring.execute(KEYSPACE_STATEMENT)
    victim = ring.follower
    victim.kill()
    with pytest.raises(InvariantBroken, match=r"starts with epoch \d+, after it has told that it keeps \d+"):
        victim.start()
        ring.world.run_for(1)


# --- Views


def test_an_entry_that_is_applied_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    def apply_twice(view: Any, entry: Entry) -> Any:
        after, outcome = apply(view, entry)
        if entry.kind is not EntryKind.COMMAND or outcome.error is not None:
            return after, outcome
        again = replace(after, epoch=entry.index - 1, recent=MappingProxyType({}))
        return replace(apply(again, entry)[0], recent=after.recent), outcome

    ring = Ring3()
    ring.execute(KEYSPACE_STATEMENT, TABLE_STATEMENT)
    monkeypatch.setattr(consensus_module, "apply", apply_twice)
    with pytest.raises(InvariantBroken, match=r"its view at epoch \d+ isn't the others': the schema's"):
        ring.execute(f"TRUNCATE {KEYSPACE}.t")


def test_two_views_of_one_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an entry leads to depends on the node."""
    count = 0

    def apply_with_chance(view: Any, entry: Entry) -> Any:
        nonlocal count
        count += 1
        after, outcome = apply(view, entry)
        return replace(after, next_node=NodeId(after.next_node + count)), outcome

    ring = Ring3()
    monkeypatch.setattr(consensus_module, "apply", apply_with_chance)
    with pytest.raises(InvariantBroken, match=r"isn't the others': next_node is \d+, not \d+"):
        ring.execute(KEYSPACE_STATEMENT)


def test_a_snapshot_without_its_last_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "METADATA_ENTRIES_PER_SNAPSHOT", 4)
    ring = Ring3()
    before = ring.consensus(0).view

    def encode_older(view: Any) -> bytes:
        nonlocal before
        older, before = before, view
        return encode_view(replace(older, epoch=view.epoch))

    ring.execute(KEYSPACE_STATEMENT)
    monkeypatch.setattr(consensus_module, "encode_view", encode_older)
    with pytest.raises(InvariantBroken, match=r"its snapshot of entry \d+ is wrong: "):
        for number in range(20):
            ring.execute(f"CREATE TABLE {KEYSPACE}.t{number} (id bigint PRIMARY KEY)")


# --- Placement


@pytest.mark.parametrize("domain", ["host", "rack"])
def test_two_replicas_in_one_domain(domain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Placement that takes any node that is next on the ring."""

    def build(machine: Machine, ports: Ports) -> Program:
        if domain == "host":
            machine.host = f"host{machine.index % 2}"
        return build_node(machine, ports)

    def zones_of(replication: Replication, members: Sequence[Member]) -> list[Zone]:
        zones = zones_of_production(replication, members)
        return zones if replication.strategy == SIMPLE else [Zone(members, 2)]

    monkeypatch.setattr(placement, "zones_of", zones_of)
    world = World(1)
    world.start(world.add_machines(4, build, racks=2 if domain == "rack" else 1))
    statement = (
        f"CREATE KEYSPACE {KEYSPACE} WITH replication = {{'class': 'NetworkTopologyStrategy', 'dc1': 2}}"
    )
    with pytest.raises(InvariantBroken, match=f"has two copies (on|in) one {domain} though another is free"):
        world.carry_out(insist(SimStage(world), statement, (), is_prepared=False), 60)


def place_wrongly(harm: Callable[[Placement], Placement]) -> Callable[[Ring, Replication], Placement]:
    place = Ring._place
    return lambda ring, replication: harm(place(ring, replication))


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (
            lambda right: Placement(
                right.bounds, [type(right.sets[0])((), {})] * len(right.sets), right.tokens
            ),
            "isn't first with its owner",
        ),
        (
            lambda right: Placement(right.bounds, right.sets[1:] + right.sets[:1], right.tokens),
            "isn't first with its owner",
        ),
        (lambda right: Placement(right.bounds[::-1], right.sets, right.tokens), "have two owners"),
        (
            lambda right: Placement(
                right.bounds, [type(one)(one.nodes[:2], {}) for one in right.sets], right.tokens
            ),
            "has 2 copies where there should be 3",
        ),
        (
            lambda right: Placement(
                right.bounds, [type(one)(one.nodes[:1] * 3, {}) for one in right.sets], right.tokens
            ),
            "has nodes twice",
        ),
    ],
    ids=["none", "shifted", "backwards", "too few", "twice"],
)
def test_ranges_that_are_placed_wrongly(
    harm: Callable[[Placement], Placement], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = Ring3()
    monkeypatch.setattr(Ring, "_place", place_wrongly(harm))
    statement = (
        f"CREATE KEYSPACE {KEYSPACE} WITH replication = {{'class': 'NetworkTopologyStrategy', 'dc1': 3}}"
    )
    with pytest.raises(InvariantBroken, match=told):
        ring.execute(statement)


def test_a_ring_with_tokens_of_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = Ring3()
    consensus = ring.consensus(0)
    members = [replace(member, tokens=member.tokens[:-1]) for member in consensus.view.members.values()]
    consensus.view = replace(consensus.view, ring=Ring(tuple(members)))
    with pytest.raises(InvariantBroken, match="the ring's tokens aren't those of the members"):
        ring.world.run_for(1)


# --- Convergence


def test_replicas_are_equal_without_being_read_as_long_as_nobody_dies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Hints alone make them equal; hints that aren't kept are missed, though the last reads would mend it."""
    plan = Plan(1, "set", seconds=10, quiet_seconds=3, clients=1, faults=("partition",))
    assert run(plan, build_node, inspect).problems == []
    monkeypatch.setattr(Hints, "add", lambda self, node, mutation, written_at_us=0: True)
    problems = run(plan, build_node, inspect).problems
    assert problems
    assert all(problem.startswith("nothing is read, all hints are delivered: ") for problem in problems)


def test_hints_that_are_never_delivered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hints, "deliver", lambda self: None)
    plan = Plan(1, "set", seconds=6, quiet_seconds=3, clients=2, faults=("partition", "one-way", "pause"))
    assert "hints, 60 s after all was healed" in run(plan, build_node, inspect).problems[0]


# --- In a run


def test_a_run_ends_where_an_invariant_breaks_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def lead(self: Raft) -> bool:
        return True

    monkeypatch.setattr(Raft, "_has_won", lead)
    plan = Plan(1, "set", seconds=30, quiet_seconds=3, clients=2, faults=("partition", "flap"))
    verdict = run(plan, build_node, inspect)
    assert not verdict.is_ok
    assert "an invariant is broken: node" in verdict.problems[0]
    assert verdict.virtual_seconds < 35


def test_invariants_change_nothing() -> None:
    plan = Plan(3, "set", seconds=4, quiet_seconds=3, clients=2, faults=tuple(FAULTS))
    watched, unwatched = run(plan, build_node, inspect), run(plan, build_unwatched, inspect)
    assert watched.is_ok, watched.problems
    assert watched.trace == unwatched.trace


def test_a_world_without_production_nodes_has_no_witness() -> None:
    world = World(1)
    world.add_machines(2, build_unwatched)
    world.start(world.machines)
    assert all(machine.witness is None for machine in world.machines)


def test_a_healed_cluster_with_two_schemas_at_one_epoch_is_told() -> None:
    """That is what is looked for where no invariants are."""
    world = World(1)
    world.start(world.add_machines(3, build_unwatched))
    statement = f"CREATE KEYSPACE {KEYSPACE} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 3}}"
    world.carry_out(insist(SimStage(world), statement, (), is_prepared=False), 60)
    world.run_for(3)
    assert disagreements(world) == []
    consensus = world.machines[1].program.node.metadata._consensus
    schema = replace(consensus.view.schema, keyspaces=MappingProxyType({}))
    consensus.view = replace(consensus.view, schema=schema)
    assert [problem for problem in disagreements(world) if "have different schemas" in problem]
