"""Consensus at work on one node: it carries out what ``cluster.raft`` wants done, and applies what is committed.

``Consensus`` is the only one that writes the log and makes views. Events come in (a message, a deadline, a proposal),
raft answers with effects, and these are carried out strictly in order; whatever follows a ``Persist`` waits for its
fsync. One view follows the other, entry by entry; after each, listeners and the observer hear of it.

Voters run raft. Members that don't vote have the same log, and no machine: what is committed comes to them from other
members (``learn``, ``take_over``). They start a machine when a message of consensus reaches them, since the leader may
be making them voters, and let go of it when it turns out that they aren't. Two short cuts use that an index and a term
name one entry, and with it all before it:

- ``learn`` appends committed entries that others have applied, in place of whatever conflicts with them. A machine that
  exists is then made anew from what is on disk, as after a restart.
- ``note_committed`` applies what this node has in its log already, when it hears that it is committed.

Each message of consensus bears the number of times that a lost majority was given up. Those from before are ignored:
machines that were given up for lost and come back can't outvote those that went on.

A store that refuses a write (full disk, stalled engine) stops the machine: nothing of what followed was said or shown,
so it is as if it had crashed before the write. It begins again from what is on disk a little later. After a failed
fsync nobody knows what is on disk, and nothing goes on until the node is started again.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Protocol
from uuid import UUID

from ourodb import limits
from ourodb.cluster.metadata.entries import EntryLog
from ourodb.cluster.metadata.evolution import Outcome, apply, schema_events
from ourodb.cluster.metadata.peers import Peers
from ourodb.cluster.metadata.snapshot import decode_view, encode_view
from ourodb.cluster.metadata.view import ClusterView, blank_view
from ourodb.cluster.raft.effects import Apply, Effect, Output, Persist, Restore, Send
from ourodb.cluster.raft.log import Stored
from ourodb.cluster.raft.messages import (
    Entry,
    EntryKind,
    Snapshot,
    decode_message,
    decode_voters,
    encode_message,
)
from ourodb.cluster.raft.raft import Raft, Role, Timing
from ourodb.errors import OuroError, Overloaded, ProtocolError, StoreDamaged, StoreError
from ourodb.peer.messages import Verb
from ourodb.ports import NodeId, Ports, Timer, Write
from ourodb.schema.changes import SchemaChangeEvent

Listener = Callable[[ClusterView, tuple[SchemaChangeEvent, ...]], None]

_RECOVERIES: Final = struct.Struct(">I")


class Observer(Protocol):
    """Who waits for entries."""

    def on_applied(self, entry: Entry, outcome: Outcome) -> None:
        """The entry is in force on this node."""

    def on_restored(self) -> None:
        """The view jumped over entries."""

    def on_progress(self) -> None:
        """The epoch has grown, for now as far as it could."""

    def on_kept(self) -> None:
        """``Consensus.kept_epoch`` has grown."""

    def on_leader(self) -> None:
        """There is another leader, or none any more."""

    def on_refused(self, error: OuroError) -> None:
        """The store refused a write; what this node proposed as a voter by itself is not in the log."""


@dataclass(frozen=True, slots=True)
class _TakeOver:
    """An effect of our own: the view is what a snapshot says, also where raft isn't asked."""

    view: ClusterView


class Consensus:
    """The log of one node and its part in deciding on it.

    Attributes:
        view: after the last entry applied.
        kept_epoch: up to here it will be applied when the node starts again, whatever happens.
        me: this node's id; 0 while it is no member.
        fault: why nothing can be decided on or applied any more until the node is started again.
        refusal: why the store took no writes when it was last tried.
    """

    __slots__ = (
        "_carrying", "_checkpoint", "_heard_leader", "_hint", "_host_id", "_is_keeping", "_listeners",
        "_observer", "_peers", "_ports", "_queue", "_raft", "_resume", "_run", "_timer", "_timer_ms",
        "_timing", "_told_epoch", "_writing", "fault", "kept_epoch", "log", "me", "refusal", "view",
    )  # fmt: skip

    def __init__(
        self, ports: Ports, host_id: UUID, peers: Peers, observer: Observer, timing: Timing | None
    ) -> None:
        self._ports = ports
        self._host_id = host_id
        self._peers = peers
        self._observer = observer
        self._timing = timing or Timing()
        self._listeners: list[Listener] = []
        self.log = EntryLog(ports.store)
        ports.store.follow_batches(self.log.batch_ended)
        self.view = blank_view()
        self.kept_epoch = 0
        self.me = NodeId(0)
        self.fault: OuroError | None = None
        self.refusal: OuroError | None = None
        self._raft: Raft | None = None
        self._hint = NodeId(0)
        self._heard_leader: tuple[NodeId, int] = (NodeId(0), 0)
        self._told_epoch = 0
        self._is_keeping = False
        self._checkpoint: ClusterView | None = None
        # What is to be done, in order. While ``_writing``, the rest waits for an fsync; ``_run`` tells those of the
        # machine that was stopped from those of the present one.
        self._queue: deque[Effect | _TakeOver] = deque()
        self._writing = False
        self._carrying = False
        self._run = 0
        self._timer: Timer | None = None
        self._timer_ms = 0
        self._resume: Timer | None = None

    # What others read

    @property
    def now_ms(self) -> int:
        return self._ports.clock.monotonic_ns() // 1_000_000

    @property
    def wall_ms(self) -> int:
        """Milliseconds since 1970, for people; may jump."""
        return self._ports.clock.wall_us() // 1000

    @property
    def is_leader(self) -> bool:
        return self._raft is not None and self._raft.role is Role.LEADER

    @property
    def hears_leader(self) -> bool:
        """Whether a leader sends this node what is decided."""
        return self._raft is not None and bool(self._raft.leader)

    @property
    def leader(self) -> NodeId:
        """Who leads, as far as this node knows; 0 when it doesn't."""
        if self._raft is not None and self._raft.leader:
            return self._raft.leader
        return self._hint if self._hint in self.view.members else NodeId(0)

    @property
    def voters(self) -> tuple[NodeId, ...]:
        """By the newest entry of this node's log that names them, committed or not."""
        if self._raft is not None:
            return self._raft.voters
        for entry in reversed(self.log.between(self.view.epoch, self.log.last_index)):
            if entry.kind is EntryKind.VOTERS:
                return decode_voters(entry.payload)
        return self.view.voters

    @property
    def term(self) -> int:
        return self.log.term if self._raft is None else self._raft.term

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits for the disk."""
        return not self._queue and not self._writing

    def hint_leader(self, node: NodeId) -> None:
        """Somebody said who leads; believed while nothing better is known."""
        if node != self.me:
            self._hint = node

    def listen(self, listener: Listener) -> None:
        """Call ``listener`` with each view that differs from the one before in more than its epoch."""
        self._listeners.append(listener)

    # The beginning and the end

    def recover(self) -> ClusterView:
        """Read what is on disk; nothing is decided on before ``start``.

        Raises:
            StoreDamaged: entries are missing, can't be read or can't be applied.
        """
        self.log.recover()
        snapshot = self.log.snapshot
        if snapshot is None:
            return self.view
        view = decode_view(snapshot.data)
        # A sole voter decides by writing: all that is on its disk is committed.
        alone = self._configured() == (self._id_in(view),)
        last = self.log.last_index if alone else self.log.applied
        for entry in self.log.between(view.epoch, last):
            view, _ = apply(view, entry)
        self._checkpoint = None
        self._make_current(view)
        self._told_epoch = view.epoch
        return self.view

    def start(self) -> None:
        """Take part, if this node is to."""
        if self._votes:
            self._make_machine()
        self._keep()

    def stop(self) -> None:
        """Carry out nothing more."""
        self._halt()
        for timer in (self._timer, self._resume):
            if timer is not None:
                timer.cancel()
        self._timer = self._resume = None

    def begin(self, stored: Stored, view: ClusterView, others: Sequence[Write] = ()) -> None:
        """Put a log in place of the one on disk, make its view the current one, and start.

        Args:
            others: to be written with it, all or nothing.

        Raises:
            StoreError, Overloaded: it couldn't be written.
        """
        self._halt()
        self.log.replace(stored, others)
        self._checkpoint = None
        self._ports.store.settle()
        before = self.view
        self._make_current(view)
        self._tell(before, schema_events(before.schema, view.schema))
        self._told_epoch = view.epoch
        self._observer.on_restored()
        self.start()

    # Events

    def step(self, sender: NodeId, body: bytes) -> None:
        """A message of consensus came from a member.

        Raises:
            ProtocolError: it isn't one.
        """
        if len(body) < _RECOVERIES.size:
            raise ProtocolError("a message of consensus is cut short")
        (recoveries,) = _RECOVERIES.unpack_from(body)
        message = decode_message(body[_RECOVERIES.size :])
        if recoveries != self.view.recoveries or not self.me or self._is_stopped or self._is_clogged:
            return
        raft = self._raft = self._raft or self._new_machine()
        self._feed(raft.step(self.now_ms, sender, message))

    def propose(self, payload: bytes) -> bool:
        """Append a command, if this node leads and has room for it; ``Observer.on_applied`` tells what became of it."""
        if self._raft is None or self._is_stopped or self._is_clogged:
            return False
        index, output = self._raft.propose(self.now_ms, payload)
        self._feed(output)
        return index is not None

    def change_voters(self, voters: tuple[NodeId, ...]) -> bool:
        """Append the voters that are to be, if this node leads and no other such change is under way."""
        if self._raft is None or self._is_stopped:
            return False
        index, output = self._raft.change_voters(self.now_ms, voters)
        self._feed(output)
        return index is not None

    def hand_over(self) -> None:
        """If this node leads: let another live voter lead, so that nobody waits for an election once it has stopped."""
        live = [voter for voter in self.voters if voter != self.me and self._peers.is_up(voter)]
        if self._raft is not None and self.is_leader and live and not self._is_stopped:
            self._feed(self._raft.transfer(self.now_ms, live[0]))

    def note_committed(self, index: int, term: int) -> None:
        """Somebody has applied the entry at ``index``; what is in this node's log up to it needs no asking."""
        if index > self.view.epoch and self.log.term_at(index) == term and not self._is_stopped:
            self._queue.append(Apply(tuple(self.log.between(self.view.epoch, index))))
            self._carry_out()

    def learn(self, entries: Sequence[Entry]) -> None:
        """Entries that another member has applied, gapless, beginning no later than after this node's epoch."""
        if not entries or self._is_stopped or not self.is_idle:
            return
        new = [entry for entry in entries if self.log.term_at(entry.index) != entry.term]
        new = [entry for entry in new if entry.index > self.view.epoch]
        last = entries[-1]
        if not new:
            self.note_committed(last.index, last.term)
            return
        if self.hears_leader or new[0].index > self.log.last_index + 1:
            return
        self._drop_machine()
        term, vote = self._term_with(last.term)
        cut = new[0].index if new[0].index <= self.log.last_index else None
        self._queue.append(Persist(term, vote, cut, tuple(new), None))
        committed = [*self.log.between(self.view.epoch, new[0].index - 1), *new]
        self._queue.append(Apply(tuple(committed)))
        self._carry_out()

    def take_over(self, snapshot: Snapshot) -> None:
        """A view that another member has, for a node whose entries end too early, or are from before a recovery.

        Raises:
            StoreDamaged: it can't be read.
        """
        view = decode_view(snapshot.data)
        ours = (self.view.recoveries, self.view.epoch)
        if (view.recoveries, view.epoch) <= ours or self._is_stopped or not self.is_idle:
            return
        if view.cluster_id != self.view.cluster_id:
            raise StoreDamaged("a view of another cluster")
        if self.log.term_at(snapshot.index) == snapshot.term:
            self.note_committed(snapshot.index, snapshot.term)
            return
        if self.hears_leader and view.recoveries == self.view.recoveries:
            return
        self._drop_machine()
        term, vote = self._term_with(snapshot.term)
        self._queue.append(Persist(term, vote, 0, (), snapshot))
        self._queue.append(_TakeOver(view))
        self._carry_out()

    def snapshot(self) -> Snapshot:
        """The present view, for a node that can't be helped with entries."""
        view = self.view
        term = self.log.term_at(view.epoch)
        assert term is not None, "what was applied is in the log"
        return Snapshot(view.epoch, term, view.voters, encode_view(view))

    # The machine

    @property
    def _is_stopped(self) -> bool:
        return self.fault is not None or self.refusal is not None

    @property
    def _votes(self) -> bool:
        """Whether this node is a voter, or will be one until its removal is committed."""
        return bool(self.me) and (self.me in self.voters or self.me in self.view.voters)

    @property
    def _is_clogged(self) -> bool:
        """Whether the disk is so far behind that nothing more should be asked of the machine."""
        return len(self._queue) > limits.METADATA_EFFECTS_MAX

    def _id_in(self, view: ClusterView) -> NodeId:
        member = view.member_of_host(self._host_id)
        return NodeId(0) if member is None else member.id

    def _configured(self) -> tuple[NodeId, ...]:
        """Who votes, by what is on disk."""
        snapshot = self.log.snapshot
        if snapshot is None:
            return ()
        for entry in reversed(self.log.between(snapshot.index, self.log.last_index)):
            if entry.kind is EntryKind.VOTERS:
                return decode_voters(entry.payload)
        return snapshot.voters

    def _term_with(self, term: int) -> tuple[int, NodeId | None]:
        """Term and vote for a log that has an entry of ``term``."""
        return (self.log.term, self.log.vote) if self.log.term >= term else (term, None)

    def _new_machine(self) -> Raft:
        return Raft(self.me, self.log.stored, self._ports.random, self._timing, self.now_ms)

    def _make_machine(self) -> None:
        self._raft = self._new_machine()
        self._feed(self._raft.tick(self.now_ms))

    def _drop_machine(self) -> None:
        """It can be made again from what is on disk; nothing of it may wait to be carried out."""
        assert self.is_idle
        self._raft = None

    def _halt(self) -> None:
        """Forget the machine and whatever it wanted done."""
        self._raft = None
        self._run += 1
        self._queue.clear()
        self._writing = False

    def _feed(self, output: Output) -> None:
        self._queue.extend(output.effects)
        self._carry_out()

    def _carry_out(self) -> None:
        if self._carrying:
            return
        self._carrying = True
        try:
            while True:
                while self._queue and not self._writing:
                    self._carry_out_one(self._queue.popleft())
                if self.view.epoch != self._told_epoch:
                    self._told_epoch = self.view.epoch
                    self._observer.on_progress()
                    self._keep()
                    continue
                if self._writing or self._is_stopped:
                    break
                self._look_round()
                if not self._queue:
                    break
        except StoreDamaged as error:
            self._break(error)
        finally:
            self._carrying = False
        self._arm()

    def _carry_out_one(self, effect: Effect | _TakeOver) -> None:
        if isinstance(effect, Persist):
            self._persist(effect)
        elif isinstance(effect, Send):
            body = _RECOVERIES.pack(self.view.recoveries) + encode_message(effect.message)
            self._peers.send(effect.to, Verb.RAFT, body)
        elif isinstance(effect, Apply):
            self._apply(effect.entries)
        elif isinstance(effect, Restore):
            self._restore(decode_view(effect.snapshot.data))
        else:
            self._restore(effect.view)

    def _look_round(self) -> None:
        """Everything is done for now: may the machine go, or must there be one? Is it time for a snapshot?"""
        if self._raft is None and self._votes:
            self._make_machine()
        elif self._raft is not None and not self._votes and self._raft.role is not Role.LEADER:
            self._raft = None
        leader = (self.leader, self.term)
        if leader != self._heard_leader:
            self._heard_leader = leader
            self._observer.on_leader()
        self._compact()

    def _persist(self, persist: Persist) -> None:
        run = self._run
        try:
            self.log.write(persist)
        except OuroError as error:
            self._on_refused(error)
            return
        self._writing = True
        self._ports.store.sync(lambda error: self._on_synced(run, error))

    def _on_synced(self, run: int, error: Exception | None) -> None:
        if run != self._run:
            return
        self._writing = False
        if error is None:
            self._carry_out()
        else:
            self._on_refused(error)

    def _on_refused(self, error: Exception) -> None:
        """A write failed: this is as if the machine had crashed before it."""
        self._halt()
        if not isinstance(error, Overloaded):
            self._break(error)
            return
        self.refusal = error
        self._resume = self._ports.scheduler.after(limits.METADATA_RESUME_MS, self._begin_again)
        self._observer.on_refused(error)

    def _break(self, error: Exception) -> None:
        self._halt()
        self.fault = StoreError(
            f"The cluster's metadata may or may not have changed: writing or applying it failed ({error}). Restart the"
            " node."
        )
        self._observer.on_refused(self.fault)

    def _begin_again(self) -> None:
        self._resume = None
        try:
            self.log.recover()
        except Overloaded:
            self._resume = self._ports.scheduler.after(limits.METADATA_RESUME_MS, self._begin_again)
            return
        except OuroError as error:
            self.refusal = None
            self._break(error)
            return
        self.refusal = None
        self._checkpoint = None
        self.start()

    def _arm(self) -> None:
        """One timer for the machine's next deadline; one that fires too early is armed again."""
        due_ms = None if self._raft is None or self._is_clogged else self._raft.next_deadline_ms
        if self._timer is not None:
            if due_ms is not None and self._timer_ms <= due_ms:
                return
            self._timer.cancel()
            self._timer = None
        if due_ms is not None:
            self._timer_ms = due_ms
            self._timer = self._ports.scheduler.after(max(due_ms - self.now_ms, 0), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        raft, now_ms = self._raft, self.now_ms
        due_ms = None if raft is None else raft.next_deadline_ms
        if raft is not None and due_ms is not None and due_ms <= now_ms:
            self._feed(raft.tick(now_ms))
        else:
            self._arm()

    def _keep(self) -> None:
        """See to it that what was applied will be known as committed after a crash of the machine, too."""
        epoch, run = self.view.epoch, self._run
        if self.kept_epoch >= epoch or self._is_keeping or self._is_stopped:
            return
        if self.voters == (self.me,):
            # For a sole voter, being on disk is being committed.
            self._on_kept(epoch)
            return
        if self.log.applied < epoch:
            try:
                self.log.mark_applied(epoch)
            except OuroError as error:
                self._on_refused(error)
                return
        self._is_keeping = True
        self._ports.store.sync(lambda error: self._on_mark_synced(run, epoch, error))

    def _on_mark_synced(self, run: int, epoch: int, error: Exception | None) -> None:
        self._is_keeping = False
        if error is not None and run == self._run:
            self._on_refused(error)
            return
        if error is None:
            self._on_kept(epoch)
        self._keep()

    def _on_kept(self, epoch: int) -> None:
        if epoch > self.kept_epoch:
            self.kept_epoch = epoch
            self._observer.on_kept()

    # Views

    def _apply(self, entries: Iterable[Entry]) -> None:
        due = [entry for entry in entries if entry.index > self.view.epoch]
        if not due:
            return
        # It says what consensus would tell again: see ``entries``.
        with suppress(OuroError):
            self.log.mark_applied(due[-1].index)
        run = self._run
        for entry in due:
            before = self.view
            view, outcome = apply(before, entry)
            self._make_current(view)
            self._tell(before, outcome.events)
            self._observer.on_applied(entry, outcome)
            if run != self._run:
                return

    def _restore(self, view: ClusterView) -> None:
        before = self.view
        if (view.recoveries, view.epoch) <= (before.recoveries, before.epoch):
            return
        with suppress(OuroError):
            self.log.mark_applied(view.epoch)
        self._checkpoint = None
        self._make_current(view)
        self._tell(before, schema_events(before.schema, view.schema))
        self._observer.on_restored()

    def _make_current(self, view: ClusterView) -> None:
        if view.members is not self.view.members:
            self.me = self._id_in(view)
        self.view = view

    def _tell(self, before: ClusterView, events: tuple[SchemaChangeEvent, ...]) -> None:
        after = self.view
        if replace(before, epoch=after.epoch, recent=after.recent) == after:
            return
        for listener in self._listeners:
            try:
                listener(after, events)
            except Exception as error:
                # The others hear of the view all the same, the log goes on, and the loop hears of the mistake.
                self._ports.scheduler.soon(partial(_raise, error))

    def _compact(self) -> None:
        """From time to time the view is written whole, and the entries that led to it are dropped.

        Always a view of some time ago, so that those who lag a little get entries rather than the whole.
        """
        view, mark = self.view, self._checkpoint
        if mark is None:
            self._checkpoint = view
            return
        if view.epoch - mark.epoch < limits.METADATA_ENTRIES_PER_SNAPSHOT:
            return
        snapshot = self.log.snapshot
        assert snapshot is not None
        self._checkpoint = view
        if mark.epoch <= snapshot.index or (self._raft is not None and self._raft.commit < mark.epoch):
            return
        data = encode_view(mark)
        if len(data) > limits.RAFT_SNAPSHOT_BYTES_MAX:
            return
        if self._raft is not None:
            self._queue.extend(self._raft.compact(mark.epoch, data).effects)
            return
        term = self.log.term_at(mark.epoch)
        assert term is not None
        made = Snapshot(mark.epoch, term, mark.voters, data)
        self._queue.append(Persist(self.log.term, self.log.vote, None, (), made))


def _raise(error: Exception) -> None:
    raise error
