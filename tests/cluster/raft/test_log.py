"""The log against a model that keeps everything, and what machines start from.

If this fails, a machine compares, sends or counts by entries or voters that it doesn't have.
"""

from __future__ import annotations

from unittest.mock import patch

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ourodb import limits
from ourodb.cluster.raft.log import Log, Stored, bootstrap, force_voters
from ourodb.cluster.raft.messages import Entry, EntryKind, Snapshot, decode_voters, encode_voters
from ourodb.ports import NodeId

A, B, C = NodeId(1), NodeId(2), NodeId(3)
GROUPS = [(A,), (A, B), (A, B, C), (B, C)]


@st.composite
def histories(draw: st.DrawFn) -> list[Entry]:
    """A whole log, from its first entry."""
    term = 1
    entries = [Entry(1, 1, EntryKind.VOTERS, encode_voters(draw(st.sampled_from(GROUPS))))]
    for index in range(2, draw(st.integers(2, 25))):
        term += draw(st.sampled_from([0, 0, 1, 2]))
        if draw(st.integers(0, 4)) == 0:
            payload = encode_voters(draw(st.sampled_from(GROUPS)))
            entries.append(Entry(index, term, EntryKind.VOTERS, payload))
        else:
            entries.append(Entry(index, term, EntryKind.COMMAND, b"x" * draw(st.integers(0, 9))))
    return entries


def voters_of(history: list[Entry]) -> tuple[NodeId, ...]:
    named = [entry for entry in history if entry.kind is EntryKind.VOTERS]
    return decode_voters(named[-1].payload) if named else ()


@st.composite
def stored(draw: st.DrawFn) -> tuple[list[Entry], Log]:
    """A history and a log that a driver may have on disk of it: from any snapshot, with any entries before its end."""
    history = draw(histories())
    snapshot_index = draw(st.integers(0, len(history)))
    if snapshot_index == 0:
        return history, Log(None, history)
    first = draw(st.integers(0, snapshot_index))
    term = history[snapshot_index - 1].term
    snapshot = Snapshot(snapshot_index, term, voters_of(history[:snapshot_index]), b"")
    return history, Log(snapshot, history[first:])


def check(log: Log, history: list[Entry], kept_from: int) -> None:
    assert log.last_index == len(history)
    assert log.last_term == history[-1].term
    assert log.base_index <= kept_from
    assert log.voters == voters_of(history)
    assert log.term_at(len(history) + 1) is None
    assert log.term_at(log.base_index - 1) is None
    for entry in history[log.base_index :]:
        assert log.term_at(entry.index) == entry.term
    if log.base_index:
        assert log.term_at(log.base_index) == history[log.base_index - 1].term
    assert log.between(log.base_index + 1, log.last_index) == tuple(history[log.base_index :])


@given(stored())
def test_a_log_is_as_it_was_stored(case: tuple[list[Entry], Log]) -> None:
    history, log = case
    check(log, history, kept_from=log.snapshot_index)


@given(stored(), st.integers(1, 25), st.integers(0, 5))
def test_truncation_brings_the_voters_before_back(case: tuple[list[Entry], Log], at: int, more: int) -> None:
    history, log = case
    assume(log.snapshot_index < at <= len(history))
    log.truncate_from(at)
    history = history[: at - 1]
    for _ in range(more):
        history.append(Entry(len(history) + 1, 99, EntryKind.NOOP, b""))
        log.append(history[-1:])
    assert log.voters == voters_of(history)
    assert log.last_index == len(history)
    assert log.voters_index <= log.last_index


@given(stored(), st.integers(1, 25), st.integers(0, 6), st.integers(0, 40))
def test_compaction_keeps_what_it_should(
    case: tuple[list[Entry], Log], index: int, entries_max: int, bytes_max: int
) -> None:
    history, log = case
    assume(log.snapshot_index < index <= len(history))
    base = log.base_index
    with (
        patch.object(limits, "RAFT_TRAILING_ENTRIES_MAX", entries_max),
        patch.object(limits, "RAFT_TRAILING_BYTES_MAX", bytes_max),
    ):
        snapshot = log.compact(index, b"state")
    assert snapshot == Snapshot(index, history[index - 1].term, voters_of(history[:index]), b"state")
    check(log, history, kept_from=index)
    trailing = history[log.base_index : index]
    assert len(trailing) <= entries_max
    assert sum(len(entry.payload) for entry in trailing) <= bytes_max
    if base < log.base_index and len(trailing) < entries_max:
        one_more = history[log.base_index - 1 : index]
        assert sum(len(entry.payload) for entry in one_more) > bytes_max
    # And from disk again, whatever of what may be deleted the driver deleted.
    check(Log(snapshot, history[log.base_index :]), history, kept_from=index)


@given(stored(), st.integers(0, 30), st.integers(0, 60))
def test_the_hint_is_the_last_entry_of_at_most_that_term(
    case: tuple[list[Entry], Log], index: int, term: int
) -> None:
    history, log = case
    found = log.last_at_most(index, term)
    wanted = max((e.index for e in history if e.index <= index and e.term <= term), default=0)
    # Below the base it only says that it is below.
    assert found == wanted if wanted >= log.base_index else found < log.base_index


@given(stored(), st.integers(1, 26), st.integers(1, 200))
def test_a_batch_is_bounded_and_never_empty(
    case: tuple[list[Entry], Log], first: int, bytes_max: int
) -> None:
    history, log = case
    assume(log.base_index < first <= len(history) + 1)
    with patch.object(limits, "RAFT_APPEND_BYTES_MAX", bytes_max):
        batch = log.batch(first)
    assert batch == tuple(history[first - 1 : first - 1 + len(batch)])
    assert batch or first > len(history)
    assert len(batch) <= 1 or sum(len(entry.payload) for entry in batch) <= bytes_max


def test_a_gap_in_what_is_stored_is_noticed() -> None:
    """A driver that lost entries must not start a machine on the rest."""
    entries = [Entry(index, 1, EntryKind.NOOP, b"") for index in range(1, 9)]
    snapshot = Snapshot(3, 1, (A,), b"")
    for bad in (entries[1:], entries[:2] + entries[3:]):
        with pytest.raises(AssertionError):
            Log(None, bad)
    for bad in (entries[4:], entries[:2]):
        with pytest.raises(AssertionError):
            Log(snapshot, bad)
    with pytest.raises(AssertionError):
        Log(Snapshot(3, 2, (A,), b""), entries)


def test_forced_voters_come_after_all_that_the_lost_machines_can_have_written() -> None:
    group = bootstrap((A, B, C))
    entries = (*group.entries, Entry(2, 7, EntryKind.COMMAND, b"x"))
    before = Stored(9, B, None, entries)
    after = force_voters(before, (A,))
    *old, forced = after.entries
    assert tuple(old) == entries
    assert forced == Entry(3, after.term, EntryKind.VOTERS, encode_voters((A,)))
    assert after.term >= before.term + limits.RAFT_FORCED_TERMS
    assert after.vote is None
    assert force_voters(after, (B,)).term > after.term


def test_forced_voters_on_a_snapshot_alone() -> None:
    snapshot = Snapshot(5, 4, (A, B, C), b"state")
    after = force_voters(Stored(4, None, snapshot, ()), (C,))
    assert after.snapshot == snapshot
    assert [entry.index for entry in after.entries] == [6]
    assert Log(after.snapshot, after.entries).voters == (C,)
