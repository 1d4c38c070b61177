"""The log on disk.

If these failed, a node could start with half a log and not say so, or vote twice in one term.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ourodb.cluster.metadata.entries import (
    APPLIED_KEY,
    SNAPSHOT_KEY,
    STATE_KEY,
    EntryLog,
    decode_snapshot,
    encode_entry,
    encode_snapshot,
    entry_key,
)
from ourodb.cluster.raft.effects import Persist
from ourodb.cluster.raft.log import Stored
from ourodb.cluster.raft.messages import Entry, EntryKind, Snapshot
from ourodb.errors import StoreDamaged
from ourodb.ports import NodeId
from ourodb.storage.families import LOG, METADATA
from ourodb.storage.memory import MemoryStore

ME = NodeId(1)


def entry(index: int, term: int = 1) -> Entry:
    return Entry(index, term, EntryKind.COMMAND, b"%d of %d" % (index, term))


def snapshot(index: int, term: int = 1) -> Snapshot:
    return Snapshot(index, term, (ME, NodeId(4)), b"view %d" % index)


def begun(store: MemoryStore) -> EntryLog:
    log = EntryLog(store)
    log.recover()
    log.replace(Stored(1, None, snapshot(1), ()))
    return log


def reopened(store: MemoryStore) -> EntryLog:
    log = EntryLog(store)
    log.recover()
    return log


def test_what_was_written_is_what_is_read() -> None:
    store = MemoryStore()
    log = begun(store)
    assert reopened(MemoryStore()).snapshot is None
    log.write(Persist(2, ME, None, (entry(2), entry(3, 2)), None))
    log.mark_applied(2)
    for seen in (log, reopened(store)):
        assert seen.stored == Stored(2, ME, snapshot(1), (entry(2), entry(3, 2)))
        assert (seen.last_index, seen.applied) == (3, 2)
        assert [seen.term_at(index) for index in range(5)] == [None, 1, 1, 2, None]
        assert seen.between(0, 9) == [entry(2), entry(3, 2)]
        assert seen.between(2, 2) == []


def test_entries_that_lost_their_place_are_gone_from_the_disk() -> None:
    """An uncommitted entry that turned up again after a restart would take the place of a committed one."""
    store = MemoryStore()
    log = begun(store)
    log.write(Persist(1, None, None, (entry(2), entry(3), entry(4)), None))
    log.write(Persist(2, None, 3, (entry(3, 2),), None))
    assert reopened(store).stored.entries == (entry(2), entry(3, 2))
    assert log.stored == reopened(store).stored


def test_a_snapshot_takes_the_place_of_the_entries_before_it() -> None:
    store = MemoryStore()
    log = begun(store)
    log.write(Persist(1, None, None, tuple(entry(index) for index in range(2, 8)), None))
    log.write(Persist(1, None, None, (), snapshot(5), 3))
    assert reopened(store).stored == log.stored == Stored(1, None, snapshot(5), (entry(6), entry(7)))
    assert [key for key, _ in store.scan(LOG, b"", b"\xff")] == [entry_key(6), entry_key(7)]
    # A leader's, which says that all entries here are others than its own.
    log.write(Persist(3, None, 1, (), snapshot(20, 3)))
    assert reopened(store).stored == log.stored == Stored(3, None, snapshot(20, 3), ())
    assert reopened(store).applied == 20


def test_a_whole_log_is_replaced_at_once() -> None:
    store = MemoryStore()
    log = begun(store)
    log.write(Persist(1, None, None, (entry(2), entry(3)), None))
    log.replace(Stored(7, None, snapshot(50, 7), (entry(51, 7),)), [(METADATA, b"other", b"x")])
    assert reopened(store).stored == log.stored == Stored(7, None, snapshot(50, 7), (entry(51, 7),))
    assert store.get(METADATA, b"other") == b"x"


def damage(store: MemoryStore) -> list[tuple[Callable[[], None], str]]:
    def put(family: int, key: bytes, value: bytes | None) -> Callable[[], None]:
        return lambda: store.apply([(family, key, value)])

    encoded = encode_entry(entry(3))
    snapped = encode_snapshot(snapshot(1))
    return [
        (put(LOG, entry_key(3), None), "Entry 3 of the metadata log is missing"),
        (put(LOG, entry_key(3), encoded[:9]), "Entry 3 of the metadata log can't be read"),
        (put(LOG, entry_key(3), encoded[:9] + b"\x77" + encoded[10:]), "Entry 3 .* can't be read"),
        (put(LOG, entry_key(3), b"\x07" + encoded[1:]), "Entry 3 of the metadata log has format 07"),
        (put(METADATA, SNAPSHOT_KEY, None), "snapshot that the metadata log starts from is missing"),
        (put(METADATA, SNAPSHOT_KEY, snapped[:6]), "snapshot of the metadata log can't be read"),
        (put(METADATA, SNAPSHOT_KEY, b"\x07" + snapped[1:]), "snapshot of the metadata log has format 07"),
        (put(METADATA, STATE_KEY, b"\x01\xc1"), "term and vote can't be read"),
        (put(METADATA, STATE_KEY, b""), "term and vote has format"),
        (put(METADATA, APPLIED_KEY, bytes(7) + b"\x09"), "Entry 5 of the metadata log is missing"),
    ]


@pytest.mark.parametrize("which", range(10))
def test_missing_and_unreadable_parts_are_told(which: int) -> None:
    """Starting with half a log would drop tables, and purge what is in them."""
    store = MemoryStore()
    log = begun(store)
    log.write(Persist(1, ME, None, (entry(2), entry(3), entry(4)), None))
    log.mark_applied(4)
    act, match = damage(store)[which]
    act()
    with pytest.raises(StoreDamaged, match=match):
        reopened(store)


def test_a_snapshot_from_a_peer_that_cant_be_read_is_told() -> None:
    assert decode_snapshot(encode_snapshot(snapshot(9))) == snapshot(9)
    for bytes_ in (b"", b"\x01", b"\x01\x94\x01"):
        with pytest.raises(StoreDamaged):
            decode_snapshot(bytes_)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("aatsc"), st.integers(0, 6)), max_size=30))
def test_memory_and_disk_agree_whatever_consensus_asks_for(steps: list[tuple[str, int]]) -> None:
    store = MemoryStore()
    log = begun(store)
    term = 1
    for kind, number in steps:
        assert log.snapshot is not None
        first = log.snapshot.index + 1
        if kind == "a":
            new = tuple(entry(log.last_index + 1 + at, term) for at in range(number))
            log.write(Persist(term, ME, None, new, None))
        elif kind == "t":
            term += 1
            cut = first + number
            new = (entry(cut, term),) if cut <= log.last_index else ()
            log.write(Persist(term, None, cut, new, None))
        elif kind == "s":
            index = min(first + number, log.last_index)
            at_term = log.term_at(index)
            assert at_term is not None
            log.write(Persist(term, ME, None, (), snapshot(index, at_term)))
        else:
            log.write(Persist(term, None, 1, (), snapshot(log.last_index + number, term)))
        again = reopened(store)
        assert again.stored == log.stored
        indexes = [kept.index for kept in again.stored.entries]
        assert indexes == list(range(log.snapshot.index + 1, log.last_index + 1))
