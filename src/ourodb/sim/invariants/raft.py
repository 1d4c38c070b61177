"""The promises of the metadata log: Raft's own, and that one epoch means one view.

======================  ===============================================================================================
election safety         at most one node leads a term
log matching            entries with one index and term are one entry, and so are those before them
leader completeness     what was committed in earlier terms is in the log of whoever begins to lead
state-machine safety    no two nodes apply different entries at one index
one view an epoch       a node's view at an epoch is what the entries up to it amount to, and so is a snapshot
order                   term, commit index and epoch never go back in one life of a node
promises                what a node has told outlives it: the vote of a term, the term, the epoch that it keeps
======================  ===============================================================================================

Two remarks on what counts. *Committed* is what a node has applied: a leader counts an entry of its own before it is on
its disk, and may forget it in a crash, but nobody hears or sees anything of it before. *Told* is what a node holds
while nothing waits for its disk: all that a message may rest on is synced by then.

The views are checked against a reference, which is one more application of the production's ``apply`` to each entry,
the first time that any node applies it. So an entry that a node applies twice, or leaves out, is found in that step.

``ouro metadata recover`` gives up a majority, and with it what only that one knew: each ``recoveries`` has books of its
own.

Source: Ongaro & Ousterhout 2014, figure 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from ourodb.cluster.metadata.consensus import Consensus
from ourodb.cluster.metadata.evolution import apply
from ourodb.cluster.metadata.metadata import Metadata
from ourodb.cluster.metadata.snapshot import decode_view
from ourodb.cluster.metadata.view import ClusterView
from ourodb.cluster.raft.messages import Entry, Snapshot
from ourodb.cluster.raft.raft import Raft, Role
from ourodb.ports import NodeId
from ourodb.schema.model import Schema
from ourodb.sim.machine import InvariantBroken

VIEWS_MAX: Final = 256
"""Reference views that are kept; nodes that lag further are compared with each other only."""


@dataclass(slots=True)
class Promise:
    """What a node has told others, and must know in each later life.

    Attributes:
        term, vote: it voted for that one in this term.
        kept: recoveries and epoch that it has said that it keeps.
    """

    term: int = 0
    vote: NodeId | None = None
    kept: tuple[int, int] = (0, 0)


@dataclass(slots=True)
class Group:
    """What was ever seen of one log, on any node.

    Attributes:
        leaders: by term.
        entries: by index and term: the entry, and the term of the one before it, as far as that was known.
        applied: by index.
        committed: for each term, the last index that was first applied in it.
        views: after each entry, the newest of them.
        snapshots: that were found right, by index.
    """

    leaders: dict[int, NodeId] = field(default_factory=dict)
    entries: dict[tuple[int, int], tuple[Entry, int | None]] = field(default_factory=dict)
    applied: dict[int, Entry] = field(default_factory=dict)
    committed: dict[int, int] = field(default_factory=dict)
    views: dict[int, ClusterView] = field(default_factory=dict)
    snapshots: dict[int, bytes] = field(default_factory=dict)

    def reference(self, view: ClusterView) -> ClusterView:
        """The view that is right at this epoch; where none is known, this one is from now on."""
        known = self.views.setdefault(view.epoch, view)
        while len(self.views) > VIEWS_MAX:
            del self.views[next(iter(self.views))]
        return known


class Books:
    """What all nodes of a world have shown.

    Attributes:
        promises: by node.
    """

    def __init__(self) -> None:
        self.promises: dict[NodeId, Promise] = {}
        self._groups: dict[int, Group] = {}

    def group(self, recoveries: int) -> Group:
        """The log after so many recoveries."""
        found = self._groups.get(recoveries)
        if found is None:
            found = self._groups[recoveries] = Group()
        return found


class RaftWatch:
    """One life of one node. See the module."""

    def __init__(self, books: Books, name: str, metadata: Metadata) -> None:
        self._books = books
        self._name = name
        self._consensus: Consensus = metadata._consensus
        self._view: ClusterView | None = None
        self._expected: ClusterView | None = None
        self._kept = 0
        self._is_waiting = False
        self._has_synced = False
        self._snapshot: Snapshot | None = None
        self._seen: dict[int, Entry] = {}
        """Entries of this node's log that were looked at, by index."""
        # What the machine was after the last step.
        self._raft: Raft | None = None
        self._state: tuple[object, ...] = ()

    def look(self) -> ClusterView | None:
        """A step is over; the view, if it is another one than after the step before.

        Raises:
            InvariantBroken: something doesn't hold.
        """
        consensus = self._consensus
        raft, view = consensus._raft, consensus.view
        if (
            view is self._view
            and raft is self._raft
            and not self._is_waiting
            and consensus.kept_epoch == self._kept
            and (raft is None or _state(raft) == self._state)
        ) or not consensus.me:
            return None
        return self._look_closely(consensus, raft, view)

    def _look_closely(self, consensus: Consensus, raft: Raft | None, view: ClusterView) -> ClusterView | None:
        group = self._books.group(view.recoveries)
        promise = self._books.promises.setdefault(consensus.me, Promise())
        self._check_entries(group, raft, view)
        if raft is not None:
            self._check_machine(group, raft)
        if not consensus._is_stopped:
            self._check_promise(promise, *self._term_and_vote(raft))
        is_new_view = view is not self._view
        if is_new_view:
            self._check_view(group, promise, view)
        if consensus.log.snapshot is not self._snapshot:
            self._check_snapshot(group, consensus.log.snapshot)
        self._note_promise(promise, raft, view)
        self._view, self._raft = view, raft
        self._state = () if raft is None else _state(raft)
        return view if is_new_view else None

    def _broken(self, what: str) -> InvariantBroken:
        return InvariantBroken(f"{self._name} (node {self._consensus.me}): {what}")

    # --- the machine

    def _check_machine(self, group: Group, raft: Raft) -> None:
        """Order within one life of the machine, and whether it may lead."""
        if raft is self._raft:
            term, vote, commit, *_ = self._state
            assert isinstance(term, int)
            assert isinstance(commit, int)
            if raft.term < term:
                raise self._broken(f"its term goes back from {term} to {raft.term}")
            if raft.term == term and vote not in (None, raft._vote):
                raise self._broken(f"votes for node {raft._vote} in term {term}, after node {vote}")
            if raft.commit < commit:
                raise self._broken(f"its commit index goes back from {commit} to {raft.commit}")
        if raft.role is not Role.LEADER:
            return
        me = self._consensus.me
        leader = group.leaders.get(raft.term)
        if leader is None:
            self._check_completeness(group, raft)
            group.leaders[raft.term] = me
        elif leader != me:
            raise self._broken(f"leads term {raft.term}, which node {leader} leads, or led")

    def _check_completeness(self, group: Group, raft: Raft) -> None:
        """It begins to lead: all that was committed in terms before is in its log."""
        last = max((index for term, index in group.committed.items() if term < raft.term), default=0)
        log = raft._log
        if last <= log.base_index:
            return
        expected, found = group.applied[last].term, log.term_at(last)
        if found != expected:
            has = "no entry" if found is None else f"one of term {found}"
            raise self._broken(
                f"leads term {raft.term} without the entry {last} of term {expected}, which is committed: it has {has}"
            )

    def _term_and_vote(self, raft: Raft | None) -> tuple[int, NodeId | None]:
        if raft is not None:
            return raft.term, raft._vote
        return self._consensus.log.term, self._consensus.log.vote

    # --- promises

    def _check_promise(self, promise: Promise, term: int, vote: NodeId | None) -> None:
        if term < promise.term:
            raise self._broken(f"is in term {term}, after it has been in term {promise.term}")
        if term == promise.term and promise.vote not in (None, vote):
            raise self._broken(f"has voted for node {promise.vote} in term {term}, and now knows of {vote}")

    def _note_promise(self, promise: Promise, raft: Raft | None, view: ClusterView) -> None:
        """Nothing waits for the disk: all that this node is, others may know."""
        consensus = self._consensus
        if consensus.kept_epoch > self._kept:
            self._kept = consensus.kept_epoch
            self._has_synced = True
            promise.kept = max(promise.kept, (view.recoveries, self._kept))
        is_idle = consensus.is_idle
        if is_idle and not consensus._is_stopped:
            # What a restarted node found on its disk may not be synced before it has synced something itself.
            self._has_synced |= self._is_waiting
            if self._has_synced:
                promise.term, promise.vote = self._term_and_vote(raft)
        self._is_waiting = not is_idle

    # --- the log

    def _check_entries(self, group: Group, raft: Raft | None, view: ClusterView) -> None:
        """Log matching, of the entries that are new; all others were looked at when they were."""
        consensus = self._consensus
        log = consensus.log if raft is None else raft._log
        last = log.last_index
        if consensus.voters == (consensus.me,):
            # It alone decides, and what isn't on its disk yet was never told to anybody.
            last = min(last, view.epoch)
        floor = raft._log.base_index if raft is not None else last - len(consensus.log.between(0, last))
        seen = self._seen
        while last > floor:
            (entry,) = log.between(last, last) if raft is not None else log.between(last - 1, last)
            if seen.get(last) is entry:
                return
            seen[last] = entry
            self._check_entry(group, entry, log.term_at(last - 1))
            last -= 1

    def _check_entry(self, group: Group, entry: Entry, before: int | None) -> None:
        """
        Args:
            before: term of the entry before it, as far as it is known.
        """
        name = (entry.index, entry.term)
        known, known_before = group.entries.setdefault(name, (entry, before))
        if known is not entry and known != entry:
            raise self._broken(f"has {entry} in its log, where another has {known}")
        if known_before is None:
            group.entries[name] = (entry, before)
        elif before not in (None, known_before):
            raise self._broken(
                f"has an entry of term {before} before entry {entry.index} of term {entry.term}, where another has one"
                f" of term {known_before}"
            )

    # --- views

    def _check_view(self, group: Group, promise: Promise, view: ClusterView) -> None:
        consensus, before = self._consensus, self._view
        now = (view.recoveries, view.epoch)
        if before is None and now < promise.kept:
            raise self._broken(
                f"starts with epoch {view.epoch}, after it has told that it keeps {promise.kept[1]}"
            )
        if before is not None and now < (before.recoveries, before.epoch):
            raise self._broken(f"its epoch goes back from {before.epoch} to {view.epoch}")
        raft = consensus._raft
        after = 0 if before is None or before.recoveries != view.recoveries else before.epoch
        for entry in consensus.log.between(after, view.epoch):
            known = group.applied.get(entry.index)
            if known is None:
                group.applied[entry.index] = entry
                if raft is not None:
                    committed = group.committed
                    committed[raft.term] = max(committed.get(raft.term, 0), entry.index)
            elif known is not entry and known != entry:
                raise self._broken(f"applies {entry}, where another has applied {known}")
            if entry.index not in group.views and entry.index - 1 in group.views:
                group.reference(apply(group.views[entry.index - 1], entry)[0])
        expected = group.reference(view)
        pair = None if before is None or self._expected is None else (before, self._expected)
        if view is not expected:
            unlike = differences(view, expected, pair)
            if unlike:
                raise self._broken(f"its view at epoch {view.epoch} isn't the others': {'; '.join(unlike)}")
        self._expected = expected

    def _check_snapshot(self, group: Group, snapshot: Snapshot | None) -> None:
        self._snapshot = snapshot
        if snapshot is None or group.snapshots.get(snapshot.index) == snapshot.data:
            return
        view = decode_view(snapshot.data)
        unlike = []
        if view.epoch != snapshot.index:
            unlike.append(f"its view is of epoch {view.epoch}")
        if tuple(sorted(snapshot.voters)) != view.voters:
            unlike.append(f"voters {snapshot.voters}, not {view.voters}")
        expected = group.views.get(snapshot.index)
        if expected is not None:
            unlike += differences(view, expected, None)
        if unlike:
            raise self._broken(f"its snapshot of entry {snapshot.index} is wrong: {'; '.join(unlike)}")
        group.snapshots[snapshot.index] = snapshot.data


def _state(raft: Raft) -> tuple[object, ...]:
    log = raft._log
    return raft.term, raft._vote, raft.commit, raft.role, log.last_index, log.last_term


def differences(
    view: ClusterView, expected: ClusterView, before: tuple[ClusterView, ClusterView] | None
) -> list[str]:
    """In what two views differ.

    Args:
        before: two that are known to be equal, from which these two came: what they still share with these isn't
            compared again.
    """
    found = [
        f"{name} is {getattr(view, name)}, not {getattr(expected, name)}"
        for name in _names(ClusterView)
        if name != "schema" and getattr(view, name) != getattr(expected, name)
    ]
    older = None if before is None else (before[0].schema, before[1].schema)
    return found + _schema_differences(view.schema, expected.schema, older)


def _schema_differences(schema: Schema, expected: Schema, before: tuple[Schema, Schema] | None) -> list[str]:
    if schema is expected or (before is not None and schema is before[0] and expected is before[1]):
        return []
    found = [
        f"the schema's {name} is {getattr(schema, name)}, not {getattr(expected, name)}"
        for name in _names(Schema)
        if name != "keyspaces" and getattr(schema, name) != getattr(expected, name)
    ]
    keyspaces = None if before is None else (before[0].keyspaces, before[1].keyspaces)
    return found + [
        f"keyspace {name} is {schema.keyspaces.get(name)}, not {expected.keyspaces.get(name)}"
        for name in _unlike(schema.keyspaces, expected.keyspaces, keyspaces)
    ]


def _unlike(
    parts: Mapping[str, Any],
    expected: Mapping[str, Any],
    before: tuple[Mapping[str, Any], Mapping[str, Any]] | None,
) -> list[str]:
    """Names under which there are different things."""
    unlike = [] if parts.keys() == expected.keys() else sorted(parts.keys() ^ expected.keys())
    for name, part in parts.items():
        other = expected.get(name)
        if part is other or (
            before is not None and part is before[0].get(name) and other is before[1].get(name)
        ):
            continue
        if part != other:
            unlike.append(name)
    return unlike


def _names(kind: type) -> list[str]:
    return [one.name for one in fields(kind) if one.compare]
