"""The log of one machine: entries in memory, a snapshot in place of what came before them, and who votes.

    base     the entry before the first one that is kept; of it only index and term are known (0 and 0 at the start)
    entries  base + 1 .. last, gapless, with terms that never go back
    snapshot of some entry from base to last: some entries before it are kept for those who lag a little

A machine goes by the newest voters in its log, committed or not (thesis, section 4.1). Truncating the log can take them
away again; then those before them count.

``Stored`` is what the driver found on disk, ``bootstrap`` what it puts there for the first machines of a group, and
``force_voters`` the way out when a majority is gone for good.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ourodb import limits
from ourodb.cluster.raft.messages import Entry, EntryKind, Snapshot, decode_voters, encode_voters
from ourodb.ports import NodeId

ENTRY_BYTES: Final = 64
"""What an entry costs beside its payload, in memory and in a message."""


@dataclass(frozen=True, slots=True)
class Stored:
    """All that a machine needs to know from its life before.

    Attributes:
        term, vote: of the last ``Persist``; 0 and None for a new machine.
        entries: none, or gapless from one that the snapshot includes, or from the one after it, to at least the
            snapshot's.
    """

    term: int
    vote: NodeId | None
    snapshot: Snapshot | None
    entries: Sequence[Entry]


def bootstrap(voters: tuple[NodeId, ...]) -> Stored:
    """What the first machines of a new group start from, each the same; the driver puts it on disk first."""
    return Stored(1, None, None, (Entry(1, 1, EntryKind.VOTERS, encode_voters(voters)),))


def force_voters(stored: Stored, voters: tuple[NodeId, ...]) -> Stored:
    """What a survivor starts from when the majority of its group is gone for good. Unsafe.

    Entries that only the lost machines had are lost, also if they were committed; entries that no majority had are
    committed. Whoever calls this has made sure that the lost machines never come back, chose the survivor that has
    the most, and runs it on that one alone. The others of ``voters`` either start empty, or have nothing committed that
    the chosen one lacks.

    The term is raised by so much that no entry written from here on shares index and term with one that the lost
    machines have.
    """
    log = Log(stored.snapshot, stored.entries)
    term = max(stored.term, log.last_term) + limits.RAFT_FORCED_TERMS
    forced = Entry(log.last_index + 1, term, EntryKind.VOTERS, encode_voters(voters))
    return Stored(term, None, stored.snapshot, (*stored.entries, forced))


class Log:
    """See the module.

    Attributes:
        snapshot: None at the start of a group.
        voters: those that count now; () while the machine has never heard who votes.
        voters_index: of the entry that names them, or of a snapshot that includes it.
    """

    __slots__ = ("_base_index", "_base_term", "_entries", "snapshot", "voters", "voters_index")

    def __init__(self, snapshot: Snapshot | None, entries: Sequence[Entry]) -> None:
        self.snapshot = snapshot
        self._base_index = self._base_term = 0
        if snapshot is not None:
            self._base_index, self._base_term = snapshot.index, snapshot.term
        self._entries: list[Entry] = []
        if entries and snapshot is not None and entries[0].index <= snapshot.index <= entries[-1].index:
            assert entries[snapshot.index - entries[0].index].term == snapshot.term
            # The term of the entry before the first isn't known, unless it is the very first.
            first = entries[0]
            if first.index == 1:
                self._base_index = self._base_term = 0
            else:
                self._base_index, self._base_term = first.index, first.term
                entries = entries[1:]
        self.voters: tuple[NodeId, ...] = ()
        self.voters_index = 0
        self.append(entries)
        self._find_voters()

    @property
    def base_index(self) -> int:
        return self._base_index

    @property
    def last_index(self) -> int:
        return self._base_index + len(self._entries)

    @property
    def last_term(self) -> int:
        return self._entries[-1].term if self._entries else self._base_term

    @property
    def snapshot_index(self) -> int:
        return 0 if self.snapshot is None else self.snapshot.index

    def term_at(self, index: int) -> int | None:
        """Term of the entry at ``index``; None when it is no longer, or not yet, known."""
        if index == self._base_index:
            return self._base_term
        if self._base_index < index <= self.last_index:
            return self._entries[index - self._base_index - 1].term
        return None

    def between(self, first: int, last: int) -> tuple[Entry, ...]:
        """The entries at [first, last], all of which are kept."""
        assert self._base_index < first
        assert last <= self.last_index
        return tuple(self._entries[first - self._base_index - 1 : last - self._base_index])

    def batch(self, first: int) -> tuple[Entry, ...]:
        """Entries from ``first`` on, as many as go into one message, at least one if there is one."""
        last = first - 1
        room = limits.RAFT_APPEND_BYTES_MAX
        for entry in self._entries[first - self._base_index - 1 :]:
            room -= len(entry.payload) + ENTRY_BYTES
            if room < 0 and last >= first:
                break
            last = entry.index
        return self.between(first, last)

    def bytes_after(self, index: int) -> int:
        """Payloads of the entries after ``index``."""
        return sum(len(entry.payload) for entry in self._entries[max(0, index - self._base_index) :])

    def last_at_most(self, index: int, term: int) -> int:
        """The last entry at or before ``index`` whose term is at most ``term``.

        Logs that share an entry share all before it, and terms never go back. So if another log has an entry of
        ``term`` at ``index``, nothing of this log between the answer and ``index`` can be in it. An answer below
        ``base_index`` says: somewhere in what isn't kept. Source: etcd raft, ``findConflictByTerm``.
        """
        index = min(index, self.last_index)
        while index >= self._base_index:
            found = self.term_at(index)
            assert found is not None
            if found <= term:
                break
            index -= 1
        return index

    def append(self, entries: Iterable[Entry]) -> None:
        """Continue the log."""
        for entry in entries:
            assert entry.index == self.last_index + 1, f"entry {entry.index} after {self.last_index}"
            assert entry.term >= self.last_term, (
                f"entry {entry.index}: term {entry.term} after {self.last_term}"
            )
            self._entries.append(entry)
            if entry.kind is EntryKind.VOTERS:
                self.voters, self.voters_index = decode_voters(entry.payload), entry.index

    def truncate_from(self, index: int) -> None:
        """Drop the entries from ``index`` on, and the voters with them."""
        assert self.snapshot_index < index
        del self._entries[index - self._base_index - 1 :]
        if index <= self.voters_index:
            self._find_voters()

    def replace(self, snapshot: Snapshot) -> None:
        """Forget all entries: the snapshot stands for them."""
        self._entries.clear()
        self.snapshot = snapshot
        self._base_index, self._base_term = snapshot.index, snapshot.term
        self._find_voters()

    def compact(self, index: int, data: bytes) -> Snapshot:
        """Make a snapshot as of the entry at ``index``; of those up to it, keep only a few."""
        term = self.term_at(index)
        assert term is not None
        assert index > self.snapshot_index
        snapshot = Snapshot(index, term, self.voters_at(index)[0], data)
        kept = 0
        base = index
        room = limits.RAFT_TRAILING_BYTES_MAX
        while base > self._base_index and kept < limits.RAFT_TRAILING_ENTRIES_MAX:
            room -= len(self._entries[base - self._base_index - 1].payload)
            if room < 0:
                break
            base -= 1
            kept += 1
        base_term = self.term_at(base)
        assert base_term is not None
        del self._entries[: base - self._base_index]
        self._base_index, self._base_term = base, base_term
        self.snapshot = snapshot
        return snapshot

    def voters_at(self, index: int) -> tuple[tuple[NodeId, ...], int]:
        """The voters as of ``index``, which isn't before the snapshot, and the index of what names them."""
        for at in range(index, self.snapshot_index, -1):
            entry = self._entries[at - self._base_index - 1]
            if entry.kind is EntryKind.VOTERS:
                return decode_voters(entry.payload), at
        return (() if self.snapshot is None else self.snapshot.voters), self.snapshot_index

    def _find_voters(self) -> None:
        self.voters, self.voters_index = self.voters_at(self.last_index)
