"""Machines of a group with disks, queues of effects and a network that does what a test says; what must always hold.

A ``Machine`` is a driver in small: it carries out effects one at a time, only when told to, and a crash loses the queue
and the state machine, never the disk. Its state machine is a chain of hashes over what it applied, so that two that
applied the same in the same order, and only they, are equal.

``Laws`` watches everything that comes out of the machines, not what they think: leaders by what they wrote and sent,
votes by the replies, logs by the disks, commits by what was applied.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter, deque
from dataclasses import dataclass, field

from ourodb.cluster.raft.messages import (
    Append,
    AppendReply,
    Entry,
    EntryKind,
    InstallSnapshot,
    InstallSnapshotReply,
    Message,
    Snapshot,
    TimeoutNow,
    Vote,
    VoteReply,
    decode_message,
    decode_voters,
    encode_message,
)
from ourodb.cluster.raft.raft import (
    Apply,
    Effect,
    Output,
    Persist,
    Raft,
    Restore,
    Role,
    Send,
    Stored,
    Timing,
)
from ourodb.ports import NodeId, Random

TIMING = Timing(election_ms=1_000, heartbeat_ms=200)
START = b"\0" * 8

Letter = tuple[NodeId, NodeId, bytes]
"""(sender, receiver, message) under way."""


def chained(before: bytes, entry: Entry) -> bytes:
    text = repr((before, entry.index, entry.term, entry.kind, entry.payload))
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


class Draws:
    """``ports.Random`` of a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)

    def below(self, bound: int) -> int:
        return self._random.randrange(bound)


@dataclass
class Disk:
    """What survives a crash.

    Attributes:
        drops: what is deleted with a snapshot: all that may be ("keep_from"), all that it stands for ("snapshot"), or
            "nothing". A driver may do either.
    """

    term: int = 0
    vote: NodeId | None = None
    snapshot: Snapshot | None = None
    entries: dict[int, Entry] = field(default_factory=dict)
    drops: str = "keep_from"

    @classmethod
    def of(cls, stored: Stored) -> Disk:
        return cls(
            stored.term, stored.vote, stored.snapshot, {entry.index: entry for entry in stored.entries}
        )

    def stored(self) -> Stored:
        return Stored(self.term, self.vote, self.snapshot, tuple(self.entries.values()))

    @property
    def last_index(self) -> int:
        return max(self.entries, default=self.snapshot.index if self.snapshot else 0)

    @property
    def voters(self) -> tuple[NodeId, ...]:
        named = [entry for entry in self.entries.values() if entry.kind is EntryKind.VOTERS]
        if named and (self.snapshot is None or named[-1].index > self.snapshot.index):
            return decode_voters(named[-1].payload)
        return self.snapshot.voters if self.snapshot else ()

    def persist(self, effect: Persist) -> None:
        assert effect.term >= self.term, "a term goes back"
        assert effect.term > self.term or self.vote in (None, effect.vote), "a vote is changed"
        self.term, self.vote = effect.term, effect.vote
        if effect.truncate_from is not None:
            self.entries = {at: entry for at, entry in self.entries.items() if at < effect.truncate_from}
        if effect.snapshot is not None:
            self.snapshot = effect.snapshot
            if effect.keep_from is not None and self.drops != "nothing":
                first = effect.keep_from if self.drops == "keep_from" else effect.snapshot.index + 1
                self.entries = {at: entry for at, entry in self.entries.items() if at >= first}
        for entry in effect.entries:
            assert entry.index == self.last_index + 1, f"entry {entry.index} after {self.last_index}"
            self.entries[entry.index] = entry


class Laws:
    """What Raft promises, checked on each effect as it is carried out. Source: the paper, figure 3.

    Attributes:
        seen: how often things happened that a run should have seen.
        forced: entries that a test put into a log.
    """

    def __init__(self) -> None:
        self.leaders: dict[int, NodeId] = {}
        self.votes: dict[tuple[NodeId, int], NodeId] = {}
        self.acknowledged: dict[tuple[NodeId, int], int] = {}
        self.entries: dict[tuple[int, int], tuple[Entry, int]] = {}
        self.committed: list[tuple[Entry, int, bytes]] = []
        self.seen: Counter[str] = Counter()
        self.forced: list[Entry] = []

    def chain_at(self, index: int) -> bytes:
        return self.committed[index - 1][2] if index else START

    def wrote(self, me: NodeId, disk: Disk, effect: Persist) -> None:
        """Log matching: an entry is the only one of its index and term, and so is the one before it.

        What a leader was told that a follower has, that leader doesn't take away from it: it may have counted it.
        """
        if effect.truncate_from is not None and effect.snapshot is None:
            self.seen["truncated"] += 1
            kept = self.acknowledged.get((me, effect.term), 0)
            assert effect.truncate_from > kept, f"{me} loses {effect.truncate_from}, has acknowledged {kept}"
        for entry in effect.entries:
            before = disk.entries.get(entry.index - 1)
            if before is not None:
                before_term = before.term
            elif disk.snapshot is not None and disk.snapshot.index == entry.index - 1:
                before_term = disk.snapshot.term
            else:
                assert entry.index == 1, f"nothing comes before entry {entry.index}"
                before_term = 0
            known = self.entries.setdefault((entry.index, entry.term), (entry, before_term))
            assert known == (entry, before_term), (
                f"log matching: {entry} after {before_term}; elsewhere {known}"
            )

    def leads(self, me: NodeId, term: int, disk: Disk) -> None:
        """Election safety, and leader completeness: what was committed in an earlier term is in the leader's log.

        And who leads has the votes of a majority.
        """
        if term in self.leaders:
            assert self.leaders[term] == me, f"{self.leaders[term]} and {me} lead in term {term}"
            return
        self.leaders[term] = me
        self.seen["elected"] += 1
        voters = disk.voters
        given = sum(voter == me or self.votes.get((voter, term)) == me for voter in voters)
        assert disk.vote == me
        assert given > len(voters) / 2, f"{me} leads in term {term} with {given} of the votes of {voters}"
        snapshot_index = disk.snapshot.index if disk.snapshot else 0
        for entry, by_term, _ in self.committed:
            if by_term < term and entry.index > snapshot_index:
                assert disk.entries.get(entry.index) == entry, f"leader {me} of term {term} lacks {entry}"

    def said(self, me: NodeId, to: NodeId, message: Message, disk: Disk) -> None:
        """One vote a term; nothing is said of what isn't on disk; only a leader speaks as one."""
        assert disk.term >= message.term or not isinstance(message, Vote | VoteReply | Append | AppendReply)
        match message:
            case VoteReply(term=term, is_granted=True):
                assert self.votes.setdefault((me, term), to) == to, f"{me} votes twice in term {term}"
                assert disk.term > term or disk.vote == to
            case Vote(term=term):
                assert self.votes.setdefault((me, term), me) == me, f"{me} votes twice in term {term}"
                self.seen["transferred"] += message.is_transfer
            case AppendReply(term, True, index) | InstallSnapshotReply(term, index):
                assert disk.last_index >= index, f"{me} says it has {index}; it has {disk.last_index}"
                self.acknowledged[me, term] = max(index, self.acknowledged.get((me, term), 0))
            case Append(term=term) | InstallSnapshot(term=term) | TimeoutNow(term=term):
                assert self.leaders.get(term) == me, f"{me} speaks as leader of term {term}"

    def applied(self, chain: bytes, entry: Entry, by_term: int, disk: Disk) -> bytes:
        """State machine safety: everyone applies the same entry at an index, after the same ones."""
        snapshot_index = disk.snapshot.index if disk.snapshot else 0
        assert entry.index <= snapshot_index or disk.entries[entry.index] == entry
        chain = chained(chain, entry)
        if entry.index > len(self.committed):
            assert entry.index == len(self.committed) + 1
            self.committed.append((entry, by_term, chain))
            self.seen[entry.kind.name] += 1
            self.check_change(entry)
        assert self.committed[entry.index - 1][2] == chain, (
            f"{self.committed[entry.index - 1][0]} and {entry} are both applied"
        )
        return chain

    def check_change(self, entry: Entry) -> None:
        """Voters change by one at a time, unless they were forced."""
        if entry.kind is EntryKind.VOTERS and entry.index > 1 and entry not in self.forced:
            before = next(e for e, _, _ in reversed(self.committed[:-1]) if e.kind is EntryKind.VOTERS)
            changed = set(decode_voters(before.payload)) ^ set(decode_voters(entry.payload))
            assert len(changed) == 1

    def restored(self, snapshot: Snapshot) -> None:
        assert snapshot.data == self.chain_at(snapshot.index), (
            f"snapshot {snapshot.index} is of another history"
        )
        self.seen["installed"] += 1


@dataclass
class Machine:
    """One machine, up or down (``raft`` is None)."""

    id: NodeId
    disk: Disk
    laws: Laws
    chance: Random
    raft: Raft | None = None
    queue: deque[tuple[Effect | None, int]] = field(default_factory=deque)
    index: int = 0
    chain: bytes = START

    @property
    def up(self) -> Raft:
        assert self.raft is not None
        return self.raft

    def start(self, now_ms: int) -> None:
        stored = self.disk.stored()
        self.raft = Raft(self.id, stored, self.chance, TIMING, now_ms)
        self.index, self.chain = 0, START
        if stored.snapshot is not None:
            self.index, self.chain = stored.snapshot.index, stored.snapshot.data

    def crash(self) -> None:
        self.raft = None
        self.queue.clear()

    def take(self, output: Output) -> None:
        """Queue the effects. None among them: from here on this machine is known to lead in a term."""
        kinds = [(Persist, Restore, Send, Apply).index(type(effect)) for effect in output.effects]
        assert kinds == sorted(kinds)
        assert kinds.count(0) <= 1
        assert kinds.count(3) <= 1
        effects: list[Effect | None] = list(output.effects)
        if self.up.role is Role.LEADER:
            effects.insert(kinds.count(0), None)
            for effect in output.effects:
                # The paper, 5.4.2: entries of earlier terms are committed along with one of the leader's own only.
                assert not isinstance(effect, Apply) or effect.entries[-1].term == self.up.term
        self.queue.extend((effect, self.up.term) for effect in effects)

    def carry_out(self) -> Effect | None:
        """The next effect; a letter is returned for the network to take."""
        effect, term = self.queue.popleft()
        match effect:
            case None:
                self.laws.leads(self.id, term, self.disk)
            case Persist():
                self.disk.persist(effect)
                self.laws.wrote(self.id, self.disk, effect)
            case Restore(snapshot):
                assert snapshot.index > self.index
                self.laws.restored(snapshot)
                self.index, self.chain = snapshot.index, snapshot.data
            case Send(to, message):
                self.laws.said(self.id, to, message, self.disk)
            case Apply(entries):
                for entry in entries:
                    assert entry.index == self.index + 1, f"{entry.index} is applied after {self.index}"
                    self.index += 1
                    self.chain = self.laws.applied(self.chain, entry, term, self.disk)
        return effect


class Group:
    """Machines and the letters between them.

    Attributes:
        letters: under way, oldest first.
        cut: pairs (sender, receiver) between whom everything is lost.
    """

    def __init__(self) -> None:
        self.now_ms = 0
        self.laws = Laws()
        self.machines: dict[NodeId, Machine] = {}
        self.letters: list[Letter] = []
        self.cut: set[tuple[NodeId, NodeId]] = set()

    def add(self, me: NodeId, stored: Stored, chance: Random) -> Machine:
        machine = self.machines[me] = Machine(me, Disk.of(stored), self.laws, chance)
        before = 0
        for entry in stored.entries:
            self.laws.entries.setdefault((entry.index, entry.term), (entry, before))
            before = entry.term
        machine.start(self.now_ms)
        return machine

    def running(self) -> list[Machine]:
        return [machine for machine in self.machines.values() if machine.raft is not None]

    def leaders(self) -> list[Machine]:
        return [machine for machine in self.running() if machine.up.role is Role.LEADER]

    def due(self) -> list[Machine]:
        """Machines whose timer has run out."""
        return [
            machine
            for machine in self.running()
            if machine.up.next_deadline_ms is not None and machine.up.next_deadline_ms <= self.now_ms
        ]

    def carry_out(self, machine: Machine) -> Effect | None:
        effect = machine.carry_out()
        if isinstance(effect, Send) and (machine.id, effect.to) not in self.cut:
            self.letters.append((machine.id, effect.to, encode_message(effect.message)))
        return effect

    def tick(self, machine: Machine) -> None:
        machine.take(machine.up.tick(self.now_ms))

    def receive(self, letter: Letter) -> None:
        """The letter has arrived, if anyone is there."""
        sender, to, message = letter
        machine = self.machines.get(to)
        if machine is not None and machine.raft is not None:
            machine.take(machine.raft.step(self.now_ms, sender, decode_message(message)))

    def settle(self) -> None:
        """Carry out everything and deliver everything, in order, until nothing is under way; no time passes."""
        for _ in range(100_000):
            for machine in self.running():
                while machine.queue:
                    self.carry_out(machine)
            if not self.letters:
                return
            self.receive(self.letters.pop(0))
        raise AssertionError("machines never stop talking")

    def run(self, duration_ms: int) -> None:
        """Let time pass without faults: timers fire when they are due, letters arrive at once."""
        end_ms = self.now_ms + duration_ms
        self.settle()
        while True:
            deadlines = [m.up.next_deadline_ms for m in self.running() if m.up.next_deadline_ms is not None]
            self.now_ms = max(self.now_ms, min([end_ms, *deadlines]))
            for machine in self.due():
                self.tick(machine)
                self.settle()
            if self.now_ms == end_ms:
                return

    def recover(self) -> None:
        """The faults are over: within a while there is one leader, and everyone who votes applies the same.

        Which is what liveness comes to. The time allowed is generous; how long it takes is not what is tested.
        """
        self.cut.clear()
        for machine in self.machines.values():
            if machine.raft is None:
                machine.start(self.now_ms)
        for _ in range(60):
            self.run(1_000)
            # One that is on its way out may still believe in its term.
            for leader in sorted(self.leaders(), key=lambda machine: machine.up.term)[-1:]:
                index, output = leader.up.propose(self.now_ms, b"last")
                leader.take(output)
                self.settle()
                voters = [self.machines[voter] for voter in leader.up.voters]
                if index is not None and all(voter.index >= index for voter in voters):
                    assert len({voter.chain for voter in voters}) == 1
                    assert all(voter.up.leader == leader.id for voter in voters)
                    assert all(voter.up.voters == leader.up.voters for voter in voters)
                    return
        states = [
            (m.id, m.up.role.name, m.up.term, m.up.commit, m.up.last_index, m.up.voters)
            for m in self.running()
        ]
        raise AssertionError(
            f"no leader, or nothing is committed, a minute after all faults are over: {states}"
        )
