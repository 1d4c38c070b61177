"""Applying mutations: merge each record into what is stored, write everything in one atomic batch.

A mutation is applied all or nothing. With its records go the marks that later reads and the purge rely on: that the
table has headers at all (``TableUse.has_headers``), and the entries of the purge index. Both are written once and then
believed to be there, until the store loses a batch.

``apply_plain`` is the path of nearly all writes, one row without TTL or tombstones: a get, a merge when something is
there, a put. The rest goes through ``apply_all``, which takes mutations of any tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from ourodb.errors import StoreError
from ourodb.limits import FETCHES_AT_ONCE_MAX
from ourodb.ports import LATER, Later, Store, Write
from ourodb.storage.expiry import FAR, entry, first_due
from ourodb.storage.families import DATA, EXPIRY, METADATA, TABLE_USE
from ourodb.storage.keys import RANGE_TOMBSTONE_BYTE, ROW
from ourodb.storage.merge import merge
from ourodb.storage.mutation import Mutation
from ourodb.storage.ranges import Fragment, add, overlapping
from ourodb.storage.record import RANGE_FORMAT, decode_range, encode_range, restamp
from ourodb.storage.row import Wait

INDEXED_MAX: Final = 4096
"""Entries of the purge index remembered per table, so that steady writes to a partition don't write them again."""

HAS_HEADERS: Final = 0x01


class UnknownIncarnation(StoreError):
    """The mutation is for a table that was dropped or truncated, or that this node hasn't heard of."""


class TableUse:
    """What must be known of a table's stored keys, whichever version of its schema one looks through.

    Attributes:
        incarnation: the first four bytes of the table's keys.
        has_headers: a header, an element of a static column or a range tombstone was ever written. Reads don't look
            for them until then.
        is_marked: the store has been told so. It is, with the first of them.
        gc_grace_s: as in the newest version of the table.
        indexed: the entries of the purge index last written.
        watched: the partition that a purge is in the midst of; a write to it resets this to None.
    """

    __slots__ = ("gc_grace_s", "has_headers", "incarnation", "indexed", "is_marked", "watched")

    def __init__(self, store: Store, incarnation: bytes, gc_grace_s: int) -> None:
        self.incarnation = incarnation
        self.gc_grace_s = gc_grace_s
        self.indexed: dict[bytes, None] = {}
        self.watched: bytes | None = None
        key = TABLE_USE + incarnation
        # A scan, because it never answers LATER.
        flags = next((value for _, value in store.scan(METADATA, key, key + b"\x00")), b"\x00")
        self.has_headers = self.is_marked = bool(flags[0] & HAS_HEADERS)

    def batch_lost(self) -> None:
        """Any mark or entry of the index may have been in it: the next write that needs one stores it again."""
        self.is_marked = False
        self.indexed.clear()

    def remember(self, index_entry: bytes) -> None:
        """Note that an entry of the purge index is stored."""
        indexed = self.indexed
        if len(indexed) >= INDEXED_MAX:
            del indexed[next(iter(indexed))]
        indexed[index_entry] = None


def apply_plain(store: Store, use: TableUse, position: bytes, suffix: bytes, record: bytes) -> Wait | None:
    """Apply one row record that has neither TTL nor tombstones."""
    key = use.incarnation + position + suffix
    stored = store.get(DATA, key)
    if stored is not None:
        if stored is LATER:
            return Wait(key)
        assert not isinstance(stored, Later)
        record = merge(stored, record)
        if record is stored:
            return None
    if use.watched is not None and use.watched == position:
        use.watched = None
    store.apply(((DATA, key, record),))
    return None


def apply_all(store: Store, changes: Sequence[tuple[TableUse, Mutation]], now_s: int) -> Wait | None:
    """Apply mutations in one atomic batch.

    Args:
        now_s: this node's time, seconds.
    Returns:
        None: they are applied. Wait: nothing was; fetch the key and call again.
    """
    pending: dict[bytes, bytes] = {}
    ranges: dict[bytes, tuple[TableUse, bytes, list[Fragment]]] = {}
    entries: list[tuple[TableUse, bytes]] = []
    first_headers: list[TableUse] = []
    cold: dict[bytes, None] = {}
    for use, mutation in changes:
        prefix = use.incarnation + mutation.position
        foreign = mutation.stamped_at != now_s
        due_s = FAR
        for suffix, record in mutation.writes:
            if foreign:
                record = restamp(record, now_s)
            due_s = min(due_s, first_due(record, use.gc_grace_s, now_s))
            if suffix[0] != ROW and not use.is_marked and use not in first_headers:
                first_headers.append(use)
            if record[0] == RANGE_FORMAT:
                base = prefix + RANGE_TOMBSTONE_BYTE
                end, deletion = decode_range(record)
                gathered = ranges.setdefault(base, (use, mutation.position, []))
                gathered[2].append((suffix[1:], end, deletion))
                continue
            key = prefix + suffix
            stored = pending.get(key)
            if stored is None:
                found = store.get(DATA, key)
                if found is LATER:
                    cold[key] = None
                    if len(cold) == FETCHES_AT_ONCE_MAX:
                        return _wait_for(store, cold)
                    continue
                assert not isinstance(found, Later)
                stored = found
            if stored is None:
                pending[key] = record
            else:
                merged = merge(stored, record)
                if merged != stored:
                    pending[key] = merged
        if due_s != FAR:
            entries.append((use, entry(due_s, now_s, use.incarnation, mutation.position)))

    if cold:
        return _wait_for(store, cold)
    writes: list[Write] = [(DATA, key, record) for key, record in pending.items()]
    for base, (_, _, fragments) in ranges.items():
        writes.extend(_refragment(store, base, fragments))
    flags = bytes((HAS_HEADERS,))
    writes.extend([(METADATA, TABLE_USE + use.incarnation, flags) for use in first_headers])
    entries = [(use, index_entry) for use, index_entry in entries if index_entry not in use.indexed]
    writes.extend([(EXPIRY, index_entry, b"") for _, index_entry in entries])
    store.apply(writes)

    for use, mutation in changes:
        if use.watched is not None and use.watched == mutation.position:
            use.watched = None
    for use in first_headers:
        use.has_headers = use.is_marked = True
    for use, index_entry in entries:
        use.remember(index_entry)
    return None


def _wait_for(store: Store, cold: Mapping[bytes, None]) -> Wait:
    """Ask for all these keys at once, and wait for the last: it most likely comes last."""
    *others, last = cold
    for key in others:
        store.fetch(DATA, key, lambda value: None)
    return Wait(last)


def _refragment(store: Store, base: bytes, arriving: Sequence[Fragment]) -> list[Write]:
    """The writes by which the stored fragments also say what the arriving ones say."""
    start = min(fragment[0] for fragment in arriving)
    end = max(fragment[1] for fragment in arriving)
    before = list(overlapping(store, base, start, end))
    after = list(before)
    for low, high, deletion in arriving:
        add(after, low, high, deletion)
    kept = {fragment[0]: fragment for fragment in after}
    known = {fragment[0]: fragment for fragment in before}
    writes: list[Write] = [(DATA, base + low, None) for low in known if low not in kept]
    for low, high, deletion in after:
        if known.get(low) != (low, high, deletion):
            writes.append((DATA, base + low, encode_range(high, deletion)))
    return writes
