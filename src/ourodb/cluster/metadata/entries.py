"""The entries of the metadata log on disk, with what consensus must not forget.

``EntryLog`` keeps in memory what it keeps on disk: the snapshot and the entries after it, few by construction. It
writes what a ``Persist`` says in one batch; that the batch is synced before anything else happens is its caller's care.

On disk, for group 0 (other groups are to come):

===========================================  =====================================================================
METADATA ``raft/state/`` + group (u32)       format byte, [term, vote]
METADATA ``raft/snapshot/`` + group          format byte, [index, term, voters, data]: ``data`` is a view
METADATA ``raft/applied/`` + group           index (u64): entries up to it are known to be committed
LOG ``raft/`` + group + index (u64)          format byte, term (u64), kind (u8), payload
===========================================  =====================================================================

A store without a snapshot belongs to no cluster: founding and joining one begin with writing it. ``applied`` says what
consensus would tell again: when a crash of the machine takes it back, the node starts with an older view and catches
up. So an entry may be applied before ``applied`` is synced, but nobody may be told that this node has it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import islice
from typing import Final, TypeVar

import msgspec

from ourodb.cluster.raft.effects import Persist
from ourodb.cluster.raft.log import Stored
from ourodb.cluster.raft.messages import Entry, EntryKind, Snapshot
from ourodb.errors import OuroError, StoreDamaged
from ourodb.ports import NodeId, Store, Write
from ourodb.storage.families import LOG, METADATA

_GROUP: Final = struct.pack(">I", 0)
STATE_KEY: Final = b"raft/state/" + _GROUP
SNAPSHOT_KEY: Final = b"raft/snapshot/" + _GROUP
APPLIED_KEY: Final = b"raft/applied/" + _GROUP
ENTRY_PREFIX: Final = b"raft/" + _GROUP
ENTRY_FORMAT: Final = 2
"""Format 1 is that of a node alone: see ``first_format``."""

_FORMAT: Final = 1
_INDEX: Final = struct.Struct(">Q")
_ENTRY: Final = struct.Struct(">BQB")
_KINDS: Final = {int(kind): kind for kind in EntryKind}
_RESTORE: Final = "Restore a snapshot of this node's data."

T = TypeVar("T")

_encode = msgspec.msgpack.Encoder().encode
_state_decoder = msgspec.msgpack.Decoder(tuple[int, int])
_snapshot_decoder = msgspec.msgpack.Decoder(tuple[int, int, tuple[int, ...], bytes])


def entry_key(index: int) -> bytes:
    """Where an entry is kept."""
    return ENTRY_PREFIX + _INDEX.pack(index)


class EntryLog:
    """Snapshot, entries, term and vote of one node.

    Attributes:
        term, vote: of the last ``Persist``.
        applied: entries up to this index are committed for certain.
    """

    __slots__ = ("_applied_stored", "_entries", "_snapshot", "_store", "applied", "term", "vote")

    def __init__(self, store: Store) -> None:
        self._store = store
        self.term = 0
        self.vote: NodeId | None = None
        self._snapshot: Snapshot | None = None
        self._entries: list[Entry] = []
        self.applied = self._applied_stored = 0

    def batch_ended(self, error: OuroError | None) -> None:
        """For ``Store.follow_batches``: a mark that was lost hasn't been made."""
        if error is None:
            self._applied_stored = self.applied
        else:
            self.applied = self._applied_stored

    @property
    def snapshot(self) -> Snapshot | None:
        """None: this store belongs to no cluster."""
        return self._snapshot

    @property
    def last_index(self) -> int:
        """Of the last entry, committed or not."""
        return self._first + len(self._entries) - 1

    @property
    def stored(self) -> Stored:
        """What consensus starts from."""
        return Stored(self.term, self.vote, self._snapshot, tuple(self._entries))

    @property
    def _first(self) -> int:
        """Index of the first entry after the snapshot, whether it is there or not."""
        return self._snapshot.index + 1 if self._snapshot is not None else 1

    def term_at(self, index: int) -> int | None:
        """Term of the entry at ``index``; None when it isn't known (any more, or yet)."""
        if self._snapshot is not None and index == self._snapshot.index:
            return self._snapshot.term
        if self._first <= index <= self.last_index:
            return self._entries[index - self._first].term
        return None

    def between(self, after: int, last: int) -> Sequence[Entry]:
        """The entries with ``after`` < index <= ``last``; those from before the snapshot are gone."""
        return list(islice(self._entries, max(after + 1 - self._first, 0), max(last + 1 - self._first, 0)))

    def recover(self) -> None:
        """Read everything; the first thing to do, and again after a write that may have been lost.

        Raises:
            StoreDamaged: entries are missing or can't be read.
            Overloaded, StoreError: the store can't be read now. What was known is known still.
        """
        found = EntryLog(self._store)
        found._read_all()
        self.term, self.vote = found.term, found.vote
        self.applied = self._applied_stored = found.applied
        self._snapshot, self._entries = found._snapshot, found._entries

    def _read_all(self) -> None:
        state = self._read(STATE_KEY)
        if state is not None:
            self.term, vote = _decoded(_state_decoder, state, "The term and vote")
            self.vote = NodeId(vote) if vote else None
        encoded = self._read(SNAPSHOT_KEY)
        if encoded is not None:
            self._snapshot = decode_snapshot(encoded)
        applied = self._read(APPLIED_KEY)
        if applied is not None and len(applied) == _INDEX.size:
            (self.applied,) = _INDEX.unpack(applied)
        if self._snapshot is None and (state is not None or applied is not None):
            raise StoreDamaged(f"The snapshot that the metadata log starts from is missing. {_RESTORE}")
        start, end = entry_key(self._first), ENTRY_PREFIX + b"\xff" * 9
        for key, encoded in self._store.scan(LOG, start, end):
            self._entries.append(_replayed(self.last_index + 1, key, encoded))
        if self._snapshot is not None and self.last_index < self.applied:
            raise StoreDamaged(f"Entry {self.last_index + 1} of the metadata log is missing. {_RESTORE}")
        self.applied = max(self.applied, self._first - 1)

    def write(self, persist: Persist) -> None:
        """Write what consensus asks for, as one batch; not synced.

        Raises:
            StoreError, Overloaded: nothing was written.
        """
        writes: list[Write] = [
            (METADATA, STATE_KEY, bytes([_FORMAT]) + _encode((persist.term, persist.vote or 0)))
        ]
        entries, snapshot = self._entries, self._snapshot
        if persist.truncate_from is not None and persist.truncate_from <= self.last_index:
            cut = max(persist.truncate_from - self._first, 0)
            writes += [(LOG, entry_key(entry.index), None) for entry in entries[cut:]]
            entries = entries[:cut]
        if persist.snapshot is not None:
            writes.append((METADATA, SNAPSHOT_KEY, encode_snapshot(persist.snapshot)))
            writes += [(LOG, entry_key(e.index), None) for e in entries if e.index <= persist.snapshot.index]
            entries = [entry for entry in entries if entry.index > persist.snapshot.index]
            snapshot = persist.snapshot
        next_index = entries[-1].index + 1 if entries else (snapshot.index + 1 if snapshot is not None else 1)
        for entry in persist.entries:
            assert entry.index == next_index, f"entry {entry.index} where {next_index} is due"
            writes.append((LOG, entry_key(entry.index), encode_entry(entry)))
            next_index += 1
        self._store.apply(writes)
        self.term, self.vote = persist.term, persist.vote
        self._entries = [*entries, *persist.entries] if persist.entries else entries
        self._snapshot = snapshot

    def replace(self, stored: Stored, others: Sequence[Write] = ()) -> None:
        """Put a whole log in place of this one, as one batch with ``others``; not synced.

        Raises:
            StoreError, Overloaded: nothing was written.
        """
        assert stored.snapshot is not None, "a log begins with a snapshot"
        writes: list[Write] = [(LOG, entry_key(entry.index), None) for entry in self._entries]
        writes.append((METADATA, STATE_KEY, bytes([_FORMAT]) + _encode((stored.term, stored.vote or 0))))
        writes.append((METADATA, SNAPSHOT_KEY, encode_snapshot(stored.snapshot)))
        writes.append((METADATA, APPLIED_KEY, _INDEX.pack(stored.snapshot.index)))
        writes += [(LOG, entry_key(entry.index), encode_entry(entry)) for entry in stored.entries]
        self._store.apply([*writes, *others])
        self.term, self.vote = stored.term, stored.vote
        self._snapshot, self._entries = stored.snapshot, list(stored.entries)
        self.applied = stored.snapshot.index

    def mark_applied(self, index: int) -> None:
        """Remember that entries up to ``index`` are committed.

        Raises:
            StoreError, Overloaded: it wasn't written.
        """
        self._store.apply([(METADATA, APPLIED_KEY, _INDEX.pack(index))])
        self.applied = index

    def _read(self, key: bytes) -> bytes | None:
        """The value, by a scan, which never answers LATER."""
        return next((value for _, value in self._store.scan(METADATA, key, key + b"\x00")), None)


def encode_entry(entry: Entry) -> bytes:
    """An entry as kept under its index."""
    return _ENTRY.pack(ENTRY_FORMAT, entry.term, entry.kind) + entry.payload


def decode_entry(index: int, encoded: bytes) -> Entry:
    """Inverse of ``encode_entry``.

    Raises:
        StoreDamaged: the bytes are no entry, or one of another format.
    """
    if encoded[:1] != bytes([ENTRY_FORMAT]):
        raise StoreDamaged(
            f"Entry {index} of the metadata log has format {encoded[:1].hex()}; this version of OuroDB reads format "
            f"{ENTRY_FORMAT:02x}. Start the version that wrote it."
        )
    if len(encoded) < _ENTRY.size or encoded[_ENTRY.size - 1] not in _KINDS:
        raise StoreDamaged(f"Entry {index} of the metadata log can't be read. {_RESTORE}")
    _, term, kind = _ENTRY.unpack_from(encoded)
    return Entry(index, term, _KINDS[kind], encoded[_ENTRY.size :])


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """A snapshot as kept, and as sent to whom the entries wouldn't help."""
    return bytes([_FORMAT]) + _encode((snapshot.index, snapshot.term, snapshot.voters, snapshot.data))


def decode_snapshot(encoded: bytes) -> Snapshot:
    """Inverse of ``encode_snapshot``.

    Raises:
        StoreDamaged: the bytes are no snapshot, or one of a newer format.
    """
    index, term, voters, data = _decoded(_snapshot_decoder, encoded, "The snapshot of the metadata log")
    return Snapshot(index, term, tuple(NodeId(voter) for voter in voters), data)


def _decoded(decoder: msgspec.msgpack.Decoder[T], encoded: bytes, what: str) -> T:
    if encoded[:1] != bytes([_FORMAT]):
        raise StoreDamaged(
            f"{what} has format {encoded[:1].hex()}; this version of OuroDB reads format {_FORMAT:02x}. Start the "
            "version that wrote it."
        )
    try:
        return decoder.decode(encoded[1:])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise StoreDamaged(f"{what} can't be read: {error}. {_RESTORE}") from error


def _replayed(index: int, key: bytes, encoded: bytes) -> Entry:
    if key != entry_key(index):
        raise StoreDamaged(f"Entry {index} of the metadata log is missing. {_RESTORE}")
    return decode_entry(index, encoded)
