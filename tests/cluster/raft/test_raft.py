"""One machine by itself: timers, bounds, what it refuses.

If this fails, nodes campaign all at once, keep timers that nobody waits for, or take more than they can hold.
"""

from __future__ import annotations

from itertools import product
from unittest.mock import patch

import pytest
from tests.cluster.raft.group import TIMING, Draws, Group
from tests.cluster.raft.script import Fixed

from ourodb import limits
from ourodb.cluster.raft.messages import Append, Entry, EntryKind, Snapshot, encode_voters
from ourodb.cluster.raft.raft import MOVES, Apply, Persist, Raft, Role, Stored, Timing, bootstrap
from ourodb.ports import NodeId

A, B, C = NodeId(1), NodeId(2), NodeId(3)


def alone() -> Raft:
    raft = Raft(A, bootstrap((A,)), Fixed(0), TIMING, 0)
    raft.tick(0)
    return raft


def test_followers_wait_for_different_times() -> None:
    """In [election, 2 election), by chance: else they would all campaign at once, for ever."""
    deadlines = {
        Raft(A, bootstrap((A, B, C)), Draws(seed), TIMING, 0).next_deadline_ms for seed in range(200)
    }
    assert len(deadlines) > 100
    assert all(deadline is not None and 1_000 <= deadline < 2_000 for deadline in deadlines)


def test_nothing_comes_of_a_tick_before_its_time() -> None:
    raft = Raft(A, bootstrap((A, B, C)), Fixed(500), TIMING, 0)
    assert raft.next_deadline_ms == 1_500
    assert raft.tick(1_499).effects == []
    assert raft.tick(1_500).effects
    assert raft.role is Role.PRE_CANDIDATE


@pytest.mark.parametrize(
    "stored",
    [
        Stored(0, None, None, ()),
        Stored(5, B, None, bootstrap((B, C)).entries),
        Stored(5, B, Snapshot(4, 3, (B, C), b""), ()),
        # It was a voter once; that it is none any more has been followed by another change, so it is committed.
        Stored(
            5,
            None,
            None,
            (
                *bootstrap((A, B, C)).entries,
                Entry(2, 1, EntryKind.VOTERS, encode_voters((B, C))),
                Entry(3, 1, EntryKind.VOTERS, encode_voters((B,))),
            ),
        ),
    ],
    ids=["nothing", "a log", "a snapshot", "removed"],
)
def test_who_is_no_voter_waits_for_nothing(stored: Stored) -> None:
    raft = Raft(A, stored, Fixed(0), TIMING, 0)
    assert raft.next_deadline_ms is None
    assert raft.tick(100_000).effects == []
    assert raft.role is Role.FOLLOWER
    heartbeat = Append(9, 0, 0, (), 0)
    raft.step(100_000, B, heartbeat)
    assert raft.leader == B
    assert raft.next_deadline_ms is None


def test_a_leader_takes_no_more_than_it_can_hold() -> None:
    group = Group()
    for me in (A, B, C):
        group.add(me, bootstrap((A, B, C)), Fixed(100 * me))
    group.run(1_500)
    raft = group.machines[A].up
    assert raft.role is Role.LEADER
    with patch.object(limits, "RAFT_UNCOMMITTED_ENTRIES_MAX", 3):
        assert [raft.propose(1_500, b"x")[0] for _ in range(4)] == [3, 4, 5, None]
    with patch.object(limits, "RAFT_UNCOMMITTED_BYTES_MAX", 10):
        assert raft.propose(1_500, b"x" * 8)[0] is None
        assert raft.propose(1_500, b"x" * 7)[0] == 6
    index, output = raft.propose(1_500, bytes(limits.RAFT_ENTRY_BYTES_MAX))
    assert index == 7
    assert any(isinstance(effect, Persist) for effect in output.effects)
    with pytest.raises(AssertionError):
        raft.propose(1_500, bytes(limits.RAFT_ENTRY_BYTES_MAX + 1))


def test_a_group_of_one_is_never_full() -> None:
    """What it proposes is committed at once."""
    raft = alone()
    with patch.object(limits, "RAFT_UNCOMMITTED_ENTRIES_MAX", 1):
        for expected in range(3, 20):
            index, output = raft.propose(0, b"x")
            assert index == expected
            assert [type(effect) for effect in output.effects] == [Persist, Apply]
    assert raft.next_deadline_ms is None


def test_snapshots_are_of_what_was_applied_and_bounded() -> None:
    raft = alone()
    with pytest.raises(AssertionError):
        raft.compact(3, b"")
    with pytest.raises(AssertionError):
        raft.compact(2, bytes(limits.RAFT_SNAPSHOT_BYTES_MAX + 1))
    (persist,) = raft.compact(2, b"state").effects
    assert isinstance(persist, Persist)
    assert persist.snapshot == Snapshot(2, 2, (A,), b"state")
    assert raft.compact(2, b"state").effects == []
    assert raft.compact(1, b"older").effects == []


def test_entries_are_committed_ones_only() -> None:
    """Others pull with this; what isn't committed may yet be replaced."""
    group = Group()
    for me in (A, B):
        group.add(me, bootstrap((A, B)), Fixed(100 * me))
    group.run(1_500)
    raft = group.machines[A].up
    raft.propose(1_500, b"x")
    assert raft.last_index == 3
    for after, expected in ((0, [1, 2]), (1, [2]), (2, []), (3, []), (99, [])):
        entries = raft.entries_after(after)
        assert entries is not None
        assert [entry.index for entry in entries] == expected


@pytest.mark.parametrize(("before", "after"), list(product(Role, Role)))
def test_roles_follow_each_other_as_the_table_says(before: Role, after: Role) -> None:
    raft = Raft(A, bootstrap((A, B, C)), Fixed(0), TIMING, 0)
    raft.role = before
    if after in MOVES[before]:
        raft._move(after)
        assert raft.role is after
    else:
        with pytest.raises(AssertionError):
            raft._move(after)


def test_two_leaders_of_one_term_are_noticed() -> None:
    """It can't be; if it is, going on would make it worse."""
    raft = Raft(C, bootstrap((A, B, C)), Fixed(0), TIMING, 0)
    raft.step(0, A, Append(2, 1, 1, (), 0))
    with pytest.raises(AssertionError):
        raft.step(0, B, Append(2, 1, 1, (), 0))


def test_heartbeats_must_be_much_more_frequent_than_elections() -> None:
    with pytest.raises(AssertionError):
        Timing(election_ms=1_000, heartbeat_ms=500)
