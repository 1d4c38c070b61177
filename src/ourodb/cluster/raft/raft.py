"""Raft: how a few machines agree on one log although any of them may stop and any message may be lost.

Read this first, then ``leadership`` (what a leader knows of the others), ``log``, ``messages`` and ``effects``.

What Raft is
------------

Time is cut into *terms*. In each term the machines elect at most one *leader*: a candidate needs the votes of a
majority, and each machine votes once a term. Only the leader adds entries. It sends them to the others, who take an
entry only if they have the one before it; so two logs that share an entry share all before it. An entry of the leader's
term that a majority has is *committed*, and all before it are. A machine votes only for a candidate whose log is at
least as new as its own; so each later leader has every entry that was ever committed, and what is committed never
changes. Everyone applies the committed entries in order and comes to the same state.

From these follow the five promises that the tests check after each step: election safety, leader append-only, log
matching, leader completeness, state machine safety (Ongaro & Ousterhout 2014, figure 3).

The machine
-----------

``Raft`` knows no clock, disk or network. Each event (``tick``, ``step``, ``propose``, ...) returns an ``Output``: what
is to be written, said and applied, in that order; see ``effects`` for what its driver owes it. The machine counts an
entry of its own as stored when it appends it, since all that it says because of it comes out after the ``Persist``.

            no leader heard           a majority would         a majority votes
            for a while               vote for me              for me
  FOLLOWER ───────────────▶ PRE_CANDIDATE ───────────▶ CANDIDATE ───────────▶ LEADER
   ▲  │                       │  ▲  │ ▲                 │  │ ▲                   │
   │  │                       │  └──┘ └─────────────────┘  │ │                   │
   │  │                       │ time's up     time's up    │ │                   │
   │  └───────────────────────┼──── TimeoutNow ────────────┼─┘                   │
   └──────────────────────────┴────────────────────────────┴─────────────────────┘
       a leader of this term, a higher term; a leader also: no majority heard, removed

``MOVES`` says the same and is asserted at each move.

What this one does
------------------

- **Pre-vote** (thesis, 9.6). Before a campaign, a machine asks whether it could win one. One that was cut off
  doesn't come back with a higher term and drive out a leader whom the others hear well.
- **Leases for leaders** (4.2.3, 6.2). Whoever heard a leader within an election timeout refuses votes and pre-votes.
  So a machine that was removed, or hears badly, disturbs nobody.
- **Check-quorum** (6.2). A leader that hears no majority for an election timeout steps down.
- **Nudges.** Nothing above may lock out a voter whose term is higher than the leader's, from a campaign that failed: it
  answers the leader with its term, the leader steps down, and the next one has a term above both.
- **Transfer** (3.10). The leader brings a peer up to date and has it campaign at once; leases don't count then.
- **Voters change one at a time** (4.1), so that majorities before and after overlap; the newest voters in the log
  count, committed or not. Never while a change is uncommitted, and never before an entry of the leader's own term is
  committed: without the latter, two leaders in turn can make changes whose majorities don't overlap (Ongaro's note of
  July 2015 to the raft-dev list). A leader that removes itself leads until that is committed, without counting
  itself, then has the best of the others campaign. A machine that an uncommitted entry removes still campaigns: it may
  be the only one that can win (4.2.2). No other machine that isn't a voter ever does, whatever its log.
- **Old terms** (3.6.2). Only entries of the leader's own term are committed by counting; an empty one is its first.
- **Snapshots** (5), made by the driver's leave, one message each. A few entries before them are kept.
- **Fast back-off** (5.3 of the paper, as etcd does it): one message for each term in which two logs differ, not for
  each entry.
- **A group of one** elects itself at the first ``tick`` and commits within the event that proposes.

What it leaves out
------------------

Reads through the log or a lease (who reads the metadata log reads what is applied); joint consensus; learners that the
leader feeds (others pull with ``entries_after``); more than one message with entries under way to a peer; writing and
sending at the same time. The group is small and its writes are rare.

The commit index isn't stored: a machine that starts counts nothing beyond its snapshot as committed until a leader
says so. ``Apply`` then repeats what was applied in its life before; a driver that keeps its state goes by the index.

A voter that lost its disk must not come back under its id: it would vote again where it has voted.

Sources: Ongaro & Ousterhout 2014, "In search of an understandable consensus algorithm (extended version)"; Ongaro
2014, "Consensus: bridging theory and practice" (the thesis; sections above are its own); etcd-io/raft.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, Final

from ourodb import limits
from ourodb.cluster.raft.effects import Apply, Effect, Output, Persist, Restore, Send
from ourodb.cluster.raft.leadership import Leadership, Timing, majority
from ourodb.cluster.raft.log import Log, Stored, bootstrap, force_voters
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
    encode_voters,
)
from ourodb.ports import NodeId, Random

__all__ = [
    "MOVES",
    "Apply",
    "Effect",
    "Output",
    "Persist",
    "Raft",
    "Restore",
    "Role",
    "Send",
    "Stored",
    "Timing",
    "bootstrap",
    "force_voters",
]


class Role(Enum):
    """What a machine is at the moment."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


MOVES: Final[dict[Role, tuple[Role, ...]]] = {
    Role.FOLLOWER: (Role.PRE_CANDIDATE, Role.CANDIDATE),
    Role.PRE_CANDIDATE: (Role.FOLLOWER, Role.PRE_CANDIDATE, Role.CANDIDATE),
    Role.CANDIDATE: (Role.FOLLOWER, Role.PRE_CANDIDATE, Role.LEADER),
    Role.LEADER: (Role.FOLLOWER,),
}
"""From each role, those that may follow it."""


class Raft:
    """One machine of a group. See the module.

    Attributes:
        role, term: now.
        leader: of this term, as far as known; may be the machine itself. A voter that hears nothing of him for an
            election timeout, up to twice that, forgets him; a machine that doesn't vote has no timer and keeps him.
        commit: index of the last entry known to be committed.
    """

    __slots__ = (
        "_applied",
        "_election_at_ms",
        "_handlers",
        "_heard_ms",
        "_installed",
        "_leadership",
        "_log",
        "_me",
        "_random",
        "_saved",
        "_sends",
        "_timing",
        "_truncate_from",
        "_unsaved",
        "_vote",
        "_votes",
        "commit",
        "leader",
        "role",
        "term",
    )

    def __init__(self, me: NodeId, stored: Stored, random: Random, timing: Timing, now_ms: int) -> None:
        """Start, or start again.

        Args:
            now_ms: monotonic, here and everywhere.
        """
        self._me = me
        self._random = random
        self._timing = timing
        self._log = Log(stored.snapshot, stored.entries)
        assert stored.term >= self._log.last_term
        self.term = stored.term
        self._vote = stored.vote
        self.role = Role.FOLLOWER
        self.leader: NodeId | None = None
        self.commit = self._applied = self._log.snapshot_index
        self._heard_ms = now_ms
        self._votes: set[NodeId] = set()
        self._leadership: Leadership | None = None
        self._election_at_ms: int | None = None
        # What the event under way has changed; ``_output`` makes effects of it.
        self._saved = (self.term, self._vote)
        self._truncate_from: int | None = None
        self._unsaved: list[Entry] = []
        self._installed: Snapshot | None = None
        self._sends: list[Effect] = []
        self._handlers: dict[type, Callable[[int, NodeId, Any], None]] = {
            Vote: self._on_vote,
            VoteReply: self._on_vote_reply,
            Append: self._on_append,
            AppendReply: self._on_append_reply,
            InstallSnapshot: self._on_install_snapshot,
            InstallSnapshotReply: self._on_install_snapshot_reply,
            TimeoutNow: self._on_timeout_now,
        }
        if self.voters == (me,):
            self._election_at_ms = now_ms
        else:
            self._arm(now_ms)

    # --- what the driver asks

    @property
    def voters(self) -> tuple[NodeId, ...]:
        """The newest in the log, committed or not; () while the machine has never heard of any."""
        return self._log.voters

    @property
    def last_index(self) -> int:
        return self._log.last_index

    @property
    def next_deadline_ms(self) -> int | None:
        """When ``tick`` is due; None: nothing is waited for. May change with each event."""
        if self._leadership is None:
            return self._election_at_ms
        return self._leadership.heartbeat_at_ms if self._leadership.peers else None

    def entries_after(self, index: int) -> list[Entry] | None:
        """The committed entries after ``index``; None when some of them are kept no longer."""
        if index < self._log.base_index:
            return None
        return list(self._log.between(index + 1, self.commit)) if index < self.commit else []

    # --- events

    def tick(self, now_ms: int) -> Output:
        """Time has passed. Nothing comes of it before ``next_deadline_ms``."""
        leadership = self._leadership
        if leadership is not None:
            if leadership.peers and now_ms >= leadership.heartbeat_at_ms:
                if leadership.hears_majority(now_ms):
                    leadership.beat(now_ms, self.commit)
                else:
                    self._follow(self.term, None)
        elif self._election_at_ms is not None and now_ms >= self._election_at_ms:
            self._pre_campaign(now_ms)
        return self._output(now_ms)

    def step(self, now_ms: int, sender: NodeId, message: Message) -> Output:
        """A message, well-formed (``decode_message``), has come from ``sender``, who is who he says."""
        if isinstance(message, PreVote):
            self._on_pre_vote(now_ms, sender, message)
        elif isinstance(message, PreVoteReply):
            self._on_pre_vote_reply(now_ms, sender, message)
        elif message.term < self.term:
            self._answer_past(sender, message)
        elif not self._is_refused_unread(now_ms, message):
            if message.term > self.term:
                self._follow(message.term, None)
            self._handlers[type(message)](now_ms, sender, message)
        return self._output(now_ms)

    def propose(self, now_ms: int, payload: bytes) -> tuple[int | None, Output]:
        """Append a command.

        Returns:
            Its index; it is committed when ``Apply`` has an entry of this term there, and lost when it has another.
            None: the machine isn't the leader, is handing leadership over, or has too much that is uncommitted.
        """
        assert len(payload) <= limits.RAFT_ENTRY_BYTES_MAX
        leadership = self._leadership
        if leadership is None or leadership.transfer_to is not None or self._is_full(len(payload)):
            return None, Output([])
        index = self._append(EntryKind.COMMAND, payload)
        self._advance(now_ms, leadership)
        return index, self._output(now_ms)

    def change_voters(self, now_ms: int, voters: tuple[NodeId, ...]) -> tuple[int | None, Output]:
        """Append a change of the voters: one more, or one less, of whom the leader itself may be one.

        It counts from now on; so a voter should be added only while it can be reached.

        Returns:
            As ``propose``. None also: the change is of more or less than one voter, the change before it isn't
            committed, or nothing of this term is.
        """
        leadership = self._leadership
        if (
            leadership is None
            or leadership.transfer_to is not None
            or self._log.voters_index > self.commit
            or self._log.term_at(self.commit) != self.term
            or not 0 < len(voters) <= limits.RAFT_VOTERS_MAX
            or len(set(voters)) != len(voters)
            or len(set(voters) ^ set(self.voters)) != 1
        ):
            return None, Output([])
        index = self._append(EntryKind.VOTERS, encode_voters(voters))
        leadership.voters_changed(now_ms)
        self._advance(now_ms, leadership)
        return index, self._output(now_ms)

    def transfer(self, now_ms: int, to: NodeId) -> Output:
        """Hand leadership to another voter.

        No proposals are taken until that is done, or an election timeout has passed. Nothing comes of it when the
        machine isn't the leader, or ``to`` isn't another voter.
        """
        leadership = self._leadership
        if leadership is not None and to in leadership.peers:
            leadership.transfer(now_ms, to, self.commit)
        return self._output(now_ms)

    def compact(self, index: int, data: bytes) -> Output:
        """Take a snapshot: ``data`` is the state after the entry at ``index``, which has been applied."""
        assert index <= self._applied
        assert len(data) <= limits.RAFT_SNAPSHOT_BYTES_MAX
        if index <= self._log.snapshot_index:
            return Output([])
        snapshot = self._log.compact(index, data)
        keep_from = self._log.base_index + 1
        return Output([Persist(self.term, self._vote, None, (), snapshot, keep_from)])

    # --- elections

    def _pre_campaign(self, now_ms: int) -> None:
        """Ask whether a campaign could be won."""
        self._move(Role.PRE_CANDIDATE)
        self.leader = None
        self._votes = {self._me}
        self._arm(now_ms)
        if self._has_won():
            self._campaign(now_ms, is_transfer=False)
            return
        self._ask(PreVote(self.term + 1, self._log.last_index, self._log.last_term))

    def _campaign(self, now_ms: int, *, is_transfer: bool) -> None:
        self._move(Role.CANDIDATE)
        self.leader = None
        self.term += 1
        self._vote = self._me
        self._votes = {self._me}
        self._arm(now_ms)
        if self._has_won():
            self._lead(now_ms)
            return
        self._ask(Vote(self.term, self._log.last_index, self._log.last_term, is_transfer))

    def _ask(self, message: Message) -> None:
        for voter in self.voters:
            if voter != self._me:
                self._send(voter, message)

    def _has_won(self) -> bool:
        return sum(voter in self._votes for voter in self.voters) >= majority(self.voters)

    def _lead(self, now_ms: int) -> None:
        self._move(Role.LEADER)
        self.leader = self._me
        self._election_at_ms = None
        self._leadership = Leadership(self._me, self.term, self._log, self._timing, now_ms, self._send)
        self._append(EntryKind.NOOP, b"")
        self._advance(now_ms, self._leadership)

    def _follow(self, term: int, leader: NodeId | None) -> None:
        assert term >= self.term
        if self.role is not Role.FOLLOWER:
            self._move(Role.FOLLOWER)
        self._leadership = None
        if term > self.term:
            self.term = term
            self._vote = None
        self.leader = leader

    def _on_pre_vote(self, now_ms: int, sender: NodeId, message: PreVote) -> None:
        granted = not self._hears_leader(now_ms) and self._would_vote(sender, message)
        self._send(sender, PreVoteReply(self.term, message.term, granted))

    def _on_pre_vote_reply(self, now_ms: int, sender: NodeId, message: PreVoteReply) -> None:
        if message.term > self.term:
            self._follow(message.term, None)
        elif (
            self.role is Role.PRE_CANDIDATE and message.campaign_term == self.term + 1 and message.is_granted
        ):
            self._votes.add(sender)
            if self._has_won():
                self._campaign(now_ms, is_transfer=False)

    def _on_vote(self, now_ms: int, sender: NodeId, message: Vote) -> None:
        granted = self._would_vote(sender, message)
        if granted:
            self._vote = sender
            self._arm(now_ms)
        self._send(sender, VoteReply(self.term, granted))

    def _on_vote_reply(self, now_ms: int, sender: NodeId, message: VoteReply) -> None:
        if self.role is Role.CANDIDATE and message.is_granted:
            self._votes.add(sender)
            if self._has_won():
                self._lead(now_ms)

    def _on_timeout_now(self, now_ms: int, sender: NodeId, message: TimeoutNow) -> None:
        if self.role in (Role.FOLLOWER, Role.PRE_CANDIDATE) and self._may_campaign():
            self._campaign(now_ms, is_transfer=True)

    def _would_vote(self, sender: NodeId, message: PreVote | Vote) -> bool:
        """The vote of that term is free, or the sender's, and its log is at least as new as this one."""
        is_free = message.term > self.term or (
            message.term == self.term and self.leader is None and self._vote in (None, sender)
        )
        newest = self._log.last_term, self._log.last_index
        return is_free and (message.last_term, message.last_index) >= newest

    def _hears_leader(self, now_ms: int) -> bool:
        """The leader's lease: it was heard within the least election timeout."""
        if self.role is Role.LEADER:
            return True
        return self.leader is not None and now_ms - self._heard_ms < self._timing.election_ms

    def _is_refused_unread(self, now_ms: int, message: Message) -> bool:
        """A vote for a later term while there is a leader: not even its term is taken over."""
        if not isinstance(message, Vote) or message.term == self.term or message.is_transfer:
            return False
        return self._hears_leader(now_ms)

    def _answer_past(self, sender: NodeId, message: Message) -> None:
        """Whoever leads or campaigns in a term that is over learns so; all else from it is void."""
        if isinstance(message, Vote):
            self._send(sender, VoteReply(self.term, False))
        elif isinstance(message, Append):
            self._send(sender, AppendReply(self.term, False, message.prev_index))
        elif isinstance(message, InstallSnapshot):
            self._send(sender, AppendReply(self.term, False, message.snapshot.index))

    # --- following

    def _hear(self, now_ms: int, sender: NodeId) -> None:
        """A message of this term's leader."""
        assert self.role is not Role.LEADER, f"{self._me} and {sender} lead in term {self.term}"
        assert self.leader in (None, sender), f"{self.leader} and {sender} lead in term {self.term}"
        self._follow(self.term, sender)
        self._heard_ms = now_ms
        self._arm(now_ms)

    def _on_append(self, now_ms: int, sender: NodeId, message: Append) -> None:
        self._hear(now_ms, sender)
        log = self._log
        last = message.prev_index + len(message.entries)
        if message.prev_index > self.commit and log.term_at(message.prev_index) != message.prev_term:
            conflict = log.last_at_most(message.prev_index, message.prev_term)
            conflict_term = log.term_at(conflict)
            assert conflict_term is not None, "all leaders agree on what is committed"
            self._send(sender, AppendReply(self.term, False, message.prev_index, conflict, conflict_term))
            return
        for at, entry in enumerate(message.entries):
            # What is committed is the same everywhere, and may be kept here no longer.
            if entry.index > self.commit and log.term_at(entry.index) != entry.term:
                self._take(message.entries[at:])
                break
        self._commit(max(self.commit, min(message.commit, last)))
        self._send(sender, AppendReply(self.term, True, max(self.commit, last)))

    def _take(self, entries: tuple[Entry, ...]) -> None:
        """Append the leader's entries, the first of which this log lacks, or has another one in its place."""
        first = entries[0].index
        assert first > self.commit, f"entry {first} is committed and can't be replaced"
        if first <= self._log.last_index:
            self._log.truncate_from(first)
            self._truncate_from = first
        self._log.append(entries)
        self._unsaved.extend(entries)

    def _on_install_snapshot(self, now_ms: int, sender: NodeId, message: InstallSnapshot) -> None:
        self._hear(now_ms, sender)
        snapshot = message.snapshot
        if snapshot.index > self.commit:
            if self._log.term_at(snapshot.index) == snapshot.term:
                self._commit(snapshot.index)
            else:
                self._log.replace(snapshot)
                self._installed = snapshot
                self._truncate_from = 1
                self.commit = self._applied = snapshot.index
        self._send(sender, InstallSnapshotReply(self.term, self.commit))

    # --- leading

    def _on_append_reply(self, now_ms: int, sender: NodeId, message: AppendReply) -> None:
        if self._leadership is not None:
            self._leadership.on_append_reply(now_ms, sender, message)
            self._advance(now_ms, self._leadership)

    def _on_install_snapshot_reply(self, now_ms: int, sender: NodeId, message: InstallSnapshotReply) -> None:
        if self._leadership is not None:
            self._leadership.on_snapshot_reply(now_ms, sender, message.index)
            self._advance(now_ms, self._leadership)

    def _append(self, kind: EntryKind, payload: bytes) -> int:
        entry = Entry(self._log.last_index + 1, self.term, kind, payload)
        self._log.append((entry,))
        self._unsaved.append(entry)
        return entry.index

    def _is_full(self, payload_bytes: int) -> bool:
        return (
            self._log.last_index - self.commit >= limits.RAFT_UNCOMMITTED_ENTRIES_MAX
            or self._log.bytes_after(self.commit) + payload_bytes > limits.RAFT_UNCOMMITTED_BYTES_MAX
        )

    def _advance(self, now_ms: int, leadership: Leadership) -> None:
        """Commit what a majority has, say so, and send what is new."""
        index = leadership.majority_match()
        if index > self.commit and self._log.term_at(index) == self.term:
            self._commit(index)
            if self._log.voters_index <= self.commit:
                leadership.voters_committed(self.commit)
        leadership.replicate(now_ms, self.commit)
        if self._me not in self.voters and self._log.voters_index <= self.commit:
            leadership.abdicate()
            self._follow(self.term, None)

    # --- all

    def _move(self, role: Role) -> None:
        assert role in MOVES[self.role], f"{self.role} to {role}"
        self.role = role

    def _may_campaign(self) -> bool:
        log = self._log
        if self._me in log.voters:
            return True
        return log.voters_index > self.commit and self._me in log.voters_at(log.voters_index - 1)[0]

    def _arm(self, now_ms: int) -> None:
        """Wait for a leader anew, for a time that chance makes different on each machine."""
        self._election_at_ms = None
        if self._may_campaign():
            election_ms = self._timing.election_ms
            self._election_at_ms = now_ms + election_ms + self._random.below(election_ms)

    def _commit(self, index: int) -> None:
        assert self.commit <= index <= self._log.last_index
        self.commit = index

    def _send(self, to: NodeId, message: Message) -> None:
        self._sends.append(Send(to, message))

    def _output(self, now_ms: int) -> Output:
        """The event is over: set the timer right, and say what is to be done."""
        if self._leadership is None:
            if not self._may_campaign():
                self._election_at_ms = None
                if self.role is not Role.FOLLOWER:
                    self._follow(self.term, None)
            elif self._election_at_ms is None:
                self._arm(now_ms)
        effects: list[Effect] = []
        state = self.term, self._vote
        if state != self._saved or self._unsaved or self._truncate_from is not None:
            assert state[0] >= self._saved[0]
            entries = tuple(self._unsaved)
            effects.append(Persist(*state, self._truncate_from, entries, self._installed))
            self._saved = state
        if self._installed is not None:
            effects.append(Restore(self._installed))
        effects += self._sends
        if self.commit > self._applied:
            effects.append(Apply(self._log.between(self._applied + 1, self.commit)))
            self._applied = self.commit
        self._truncate_from = self._installed = None
        self._unsaved = []
        self._sends = []
        return Output(effects)
