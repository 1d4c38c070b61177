"""Scripts for a group of machines: commands in, what the machines do out.

=================================  ================================================================================
``group 1 2 3``                    begin: these are the voters
``add 4``                          a machine that knows nothing
``learn 4 1``                      a machine that starts with what 1 has applied, pulled from it
``tick 1``                         time goes on to the moment for which 1 has set its timer; the others miss theirs
``wait 100``                       so many milliseconds pass; all miss their timers
``run 3000``                       so many milliseconds pass, all goes well; only what changes in the end is told
``deliver``, ``deliver 1>2 1>3``   letters arrive, and what they lead to, until there are none (of these)
``repeat 1>2``                     the oldest letter of these arrives, and isn't gone
``lose``, ``lose 1>2``             letters get lost
``hold 1``                         1 doesn't carry out its effects for now
``carry 1 2``                      1 carries out two effects
``release 1``                      1 carries out all it held, and goes on so
``crash 1``, ``start 1``           all but the disk is lost
``cut 1 | 2 3``, ``heal``          nothing passes between the sides
``propose 1 x``                    also: ``voters 1 1 2 3``, ``transfer 1 2``, ``compact 1 4``, ``entries 1 after 3``
``limit RAFT_APPEND_BYTES_MAX 1``  another bound, until the script ends
``force 1 1 2``                    1, which is down, gets 1 and 2 for voters
``send 2>1 Append(...)``           a letter of the test's own, built from the classes in ``messages``
``state``                          role, term, vote, commit, voters, timer and log of each machine
=================================  ================================================================================

Chance is none: machine n waits election_ms + 100 n for a leader, so that the lowest number campaigns first.
"""

from __future__ import annotations

from contextlib import ExitStack
from unittest.mock import patch

from tests.cluster.raft.group import Group, Letter, Machine

from ourodb import limits
from ourodb.cluster.raft import messages
from ourodb.cluster.raft.messages import (
    Append,
    AppendReply,
    Entry,
    EntryKind,
    InstallSnapshot,
    InstallSnapshotReply,
    Message,
    PreVote,
    PreVoteReply,
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
    Restore,
    Send,
    Stored,
    bootstrap,
    force_voters,
)
from ourodb.ports import NodeId


class Fixed:
    """No chance: always the same draw."""

    def __init__(self, draw: int) -> None:
        self._draw = draw

    def bytes(self, count: int) -> bytes:
        return bytes(count)

    def below(self, bound: int) -> int:
        return self._draw % bound


def show_entry(entry: Entry) -> str:
    match entry.kind:
        case EntryKind.COMMAND:
            what = entry.payload.decode()
        case EntryKind.NOOP:
            what = "-"
        case EntryKind.VOTERS:
            what = f"voters {show_ids(decode_voters(entry.payload))}"
    return f"{entry.index}/{entry.term} {what}"


def show_ids(ids: tuple[NodeId, ...]) -> str:
    return " ".join(map(str, ids)) or "none"


def show_entries(entries: tuple[Entry, ...]) -> str:
    return f"[{', '.join(map(show_entry, entries))}]"


def show_snapshot(snapshot: Snapshot) -> str:
    return f"{snapshot.index}/{snapshot.term} voters {show_ids(snapshot.voters)}"


def show_message(message: Message) -> str:
    match message:
        case PreVote(term, index, last_term):
            return f"PreVote for term {term}: my log ends with {index}/{last_term}"
        case PreVoteReply(term, campaign_term, granted):
            return f"PreVoteReply for term {campaign_term}: {'yes' if granted else 'no'}, I'm in {term}"
        case Vote(term, index, last_term, is_transfer):
            why = " (transfer)" if is_transfer else ""
            return f"Vote{why} in term {term}: my log ends with {index}/{last_term}"
        case VoteReply(term, granted):
            return f"VoteReply in term {term}: {'yes' if granted else 'no'}"
        case Append(term, prev_index, prev_term, entries, commit):
            return f"Append in term {term}: after {prev_index}/{prev_term} {show_entries(entries)} commit {commit}"
        case AppendReply(term, True, index):
            return f"AppendReply in term {term}: same up to {index}"
        case AppendReply(term, False, index, conflict, conflict_term):
            return f"AppendReply in term {term}: not after {index}, perhaps after {conflict}/{conflict_term}"
        case InstallSnapshot(term, snapshot):
            return f"InstallSnapshot in term {term}: {show_snapshot(snapshot)}"
        case InstallSnapshotReply(term, index):
            return f"InstallSnapshotReply in term {term}: same up to {index}"
        case TimeoutNow(term):
            return f"TimeoutNow in term {term}"


def show_effect(effect: Effect) -> str:
    match effect:
        case Persist(term, vote, truncate_from, entries, snapshot, keep_from):
            parts = [f"term {term}", f"vote {vote or '-'}"]
            if truncate_from is not None:
                parts.append(f"truncate from {truncate_from}")
            if snapshot is not None:
                parts.append(f"snapshot {show_snapshot(snapshot)}")
            if keep_from is not None:
                parts.append(f"keep from {keep_from}")
            if entries:
                parts.append(show_entries(entries))
            return f"persist {', '.join(parts)}"
        case Restore(snapshot):
            return f"restore {show_snapshot(snapshot)}"
        case Send(to, message):
            return f"send {to} {show_message(message)}"
        case Apply(entries):
            return f"apply {show_entries(entries)}"


class Script:
    """Runs commands; each returns the lines that it leads to."""

    def __init__(self) -> None:
        self.group = Group()
        self.held: set[NodeId] = set()
        self.bounds = ExitStack()

    def run(self, command: str) -> list[str]:
        name, *words = command.split()
        return getattr(self, f"do_{name}")(*words)  # type: ignore[no-any-return]

    # --- machines

    def do_group(self, *ids: str) -> list[str]:
        voters = _ids(ids)
        for me in voters:
            self.group.add(me, bootstrap(voters), Fixed(100 * me))
        return []

    def do_add(self, me: str) -> list[str]:
        self._add(me, Stored(0, None, None, ()))
        return []

    def do_learn(self, me: str, source: str) -> list[str]:
        teacher = self._machine(source)
        disk = teacher.disk
        entries = tuple(entry for entry in disk.entries.values() if entry.index <= teacher.index)
        self._add(me, Stored(disk.term, None, disk.snapshot, entries))
        return []

    def do_force(self, me: str, *ids: str) -> list[str]:
        machine = self._machine(me)
        stored = machine.disk.stored()
        forced = force_voters(stored, _ids(ids))
        self._add(me, forced)
        self._machine(me).crash()
        self.group.laws.forced.append(forced.entries[-1])
        return []

    def do_limit(self, name: str, bound: str) -> list[str]:
        self.bounds.enter_context(patch.object(limits, name, int(bound)))
        return []

    def do_crash(self, *ids: str) -> list[str]:
        for me in ids:
            self._machine(me).crash()
        return []

    def do_start(self, *ids: str) -> list[str]:
        for me in ids:
            self._machine(me).start(self.group.now_ms)
        return []

    # --- time

    def do_tick(self, me: str) -> list[str]:
        machine = self._machine(me)
        deadline_ms = machine.up.next_deadline_ms
        if deadline_ms is None:
            return [f"{me} waits for nothing"]
        self.group.now_ms = max(self.group.now_ms, deadline_ms)
        return self._event(f"{me} at {self.group.now_ms} ms", machine, machine.up.tick(self.group.now_ms))

    def do_wait(self, duration_ms: str) -> list[str]:
        self.group.now_ms += int(duration_ms)
        return []

    def do_run(self, duration_ms: str) -> list[str]:
        before = self._roles()
        self.group.run(int(duration_ms))
        after = self._roles()
        return [f"{me} {after[me]}" for me in after if after[me] != before[me]] or ["nothing changes"]

    # --- letters

    def do_deliver(self, *pairs: str) -> list[str]:
        lines: list[str] = []
        while True:
            letter = self._oldest(pairs)
            if letter is None:
                return lines or ["nothing is under way"]
            self.group.letters.remove(letter)
            lines += self._arrive(letter)

    def do_repeat(self, pair: str) -> list[str]:
        letter = self._oldest((pair,))
        assert letter is not None
        return self._arrive(letter)

    def do_lose(self, *pairs: str) -> list[str]:
        lost = []
        while (letter := self._oldest(pairs)) is not None:
            self.group.letters.remove(letter)
            lost.append(letter)
        return [f"lost: {sender}>{to} {_shown(text)}" for sender, to, text in lost] or [
            "nothing is under way"
        ]

    def do_send(self, pair: str, *words: str) -> list[str]:
        sender, to = _pair(pair)
        message = eval(" ".join(words), dict(vars(messages)))
        self.group.letters.append((sender, to, encode_message(message)))
        if isinstance(message, VoteReply) and message.is_granted:
            self.group.laws.votes[sender, message.term] = to
        return []

    def do_cut(self, *words: str) -> list[str]:
        at = words.index("|")
        for a in _ids(words[:at]):
            for b in _ids(words[at + 1 :]):
                self.group.cut |= {(a, b), (b, a)}
        return []

    def do_heal(self) -> list[str]:
        self.group.cut.clear()
        return []

    # --- effects

    def do_hold(self, me: str) -> list[str]:
        self.held.add(NodeId(int(me)))
        return []

    def do_carry(self, me: str, count: str) -> list[str]:
        machine = self._machine(me)
        lines: list[str] = []
        while machine.queue and len(lines) < int(count):
            effect = self.group.carry_out(machine)
            if effect is not None:
                lines.append(f"{me} carries out: {show_effect(effect)}")
        return lines

    def do_release(self, me: str) -> list[str]:
        self.held.discard(NodeId(int(me)))
        return self.do_carry(me, "1000")

    # --- requests

    def do_propose(self, me: str, payload: str) -> list[str]:
        machine = self._machine(me)
        return self._asked(me, machine, *machine.up.propose(self.group.now_ms, payload.encode()))

    def do_voters(self, me: str, *ids: str) -> list[str]:
        machine = self._machine(me)
        return self._asked(me, machine, *machine.up.change_voters(self.group.now_ms, _ids(ids)))

    def do_transfer(self, me: str, to: str) -> list[str]:
        machine = self._machine(me)
        output = machine.up.transfer(self.group.now_ms, NodeId(int(to)))
        return self._event(f"{me} hands over", machine, output)

    def do_compact(self, me: str, index: str) -> list[str]:
        machine = self._machine(me)
        data = self.group.laws.chain_at(int(index))
        return self._event(f"{me} compacts", machine, machine.up.compact(int(index), data))

    def do_entries(self, me: str, after: str, index: str) -> list[str]:
        entries = self._machine(me).up.entries_after(int(index))
        return ["kept no longer" if entries is None else show_entries(tuple(entries))]

    def do_state(self) -> list[str]:
        lines = []
        for me, machine in self.group.machines.items():
            raft, disk = machine.raft, machine.disk
            log = show_entries(tuple(disk.entries.values()))
            if disk.snapshot is not None:
                log = f"snapshot {show_snapshot(disk.snapshot)}, {log}"
            if raft is None:
                lines.append(f"{me} down: term {disk.term}, vote {disk.vote or '-'}, {log}")
                continue
            leader = f" of {raft.leader}" if raft.leader not in (None, me) else ""
            due = "-" if raft.next_deadline_ms is None else f"{raft.next_deadline_ms} ms"
            lines.append(
                f"{me} {raft.role.value}{leader}: term {raft.term}, vote {disk.vote or '-'}, commit {raft.commit}, "
                f"voters {show_ids(raft.voters)}, timer {due}, {log}"
            )
        return lines

    # --- how

    def _machine(self, me: str) -> Machine:
        return self.group.machines[NodeId(int(me))]

    def _add(self, me: str, stored: Stored) -> None:
        self.group.add(NodeId(int(me)), stored, Fixed(100 * int(me)))

    def _oldest(self, pairs: tuple[str, ...]) -> Letter | None:
        wanted = [_pair(pair) for pair in pairs]
        return next((letter for letter in self.group.letters if not pairs or letter[:2] in wanted), None)

    def _arrive(self, letter: Letter) -> list[str]:
        sender, to, text = letter
        title = f"{sender}>{to} {_shown(text)}"
        machine = self.group.machines.get(to)
        if machine is None or machine.raft is None:
            return [f"{title}: nobody is there"]
        output = machine.raft.step(self.group.now_ms, sender, decode_message(text))
        return self._event(title, machine, output)

    def _asked(self, me: str, machine: Machine, index: int | None, output: Output) -> list[str]:
        return self._event(f"{me} takes it as {index}" if index else f"{me} refuses", machine, output)

    def _event(self, title: str, machine: Machine, output: Output) -> list[str]:
        machine.take(output)
        lines = [title, *(f"  {show_effect(effect)}" for effect in output.effects)]
        if machine.id not in self.held:
            while machine.queue:
                self.group.carry_out(machine)
        return lines

    def _roles(self) -> dict[NodeId, str]:
        return {
            machine.id: f"{machine.up.role.value}, term {machine.up.term}, commit {machine.up.commit}"
            for machine in self.group.running()
        }


def _shown(text: bytes) -> str:
    return show_message(decode_message(text))


def _ids(words: tuple[str, ...]) -> tuple[NodeId, ...]:
    return tuple(NodeId(int(word)) for word in words)


def _pair(word: str) -> tuple[NodeId, NodeId]:
    sender, to = word.split(">")
    return NodeId(int(sender)), NodeId(int(to))
