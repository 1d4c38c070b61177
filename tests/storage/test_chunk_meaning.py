"""Digests are equal where replicas mean the same, and one round of repairs makes all of them so.

If this fails, reads repair what needs no repair for ever, deletions never die, or replicas stay different.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.replication.mutations import START_S, TABLES, Changes, Copy, changes_of, scattered, without
from tests.storage.tables import GC_GRACE_S, PLAIN, WIDE
from tests.storage.test_chunk import contents, merged, room, world

from ourodb.storage.chunk import Chunk, cut, digest, lacking, read_range, read_slices, rows_of
from ourodb.storage.keys import ALL_ROWS
from ourodb.storage.meaning import Dropped, dropped_from
from ourodb.storage.mutation import Mutation, MutationBuilder
from ourodb.storage.record import is_plain
from ourodb.storage.rows import TableRows

seeds = st.integers(0, 1 << 32)
names = st.sampled_from([*TABLES])
ENDLESS = 1 << 40
LATER_S = [0, 5, 20, 6_000, GC_GRACE_S - 1, GC_GRACE_S, GC_GRACE_S + 1, 3 * GC_GRACE_S]


def everything(copy: Copy) -> Chunk:
    return read_range(copy.rows, b"", None, rows_max=ENDLESS, bytes_max=ENDLESS, keys_max=ENDLESS)


def digest_of(copy: Copy, chunk: Chunk) -> bytes:
    return digest(chunk.partitions, chunk.end, copy.now_s, GC_GRACE_S, dropped_from(copy.rows.keys))


def live(copy: Copy) -> list[Any]:
    """What a read of the whole table sees, but for how clustering values were written (1.0 or 1.00)."""
    return seen(copy.rows, copy.now_s)


def seen(rows: TableRows, now_s: int) -> list[Any]:
    return [
        (position, row and (row[0], *row[2:]), static)
        for position, row, static in contents([*rows.scan(now_s, static_alone=True)])
    ]


def repaired(copies: Sequence[Copy], chunks: Sequence[Chunk], *, reverse: bool = False) -> Chunk:
    """One round: each replica is written what it lacks. What they say together."""
    whole = merged(chunks, reverse=reverse)
    for copy, chunk in zip(copies, chunks, strict=True):
        held = {partition.position: partition for partition in cut(chunk, whole.end, reverse=reverse)}
        for partition in whole.partitions:
            missing = lacking(
                partition,
                held.get(partition.position),
                copy.now_s,
                GC_GRACE_S,
                dropped_from(copy.rows.keys),
            )
            if missing is not None:
                assert missing.position == partition.position
                suffixes = [suffix for suffix, _ in missing.writes]
                assert suffixes == sorted(set(suffixes))
                copy.repair(missing)
    return whole


def at_one_time(copies: Sequence[Copy], draw: Random, later: Sequence[int]) -> None:
    now_s = max(copy.now_s for copy in copies) + draw.choice(later)
    for copy in copies:
        copy.now_s = now_s


@settings(max_examples=300, deadline=None)
@given(seeds, names)
def test_the_same_changes_mean_the_same(seed: int, name: str) -> None:
    """In whichever order they came, at about the same time, and whether or not the purge was there."""
    draw = Random(seed)
    t = TABLES[name]
    changes = Changes(t, draw)
    copies = [Copy(t) for _ in range(3)]
    made = list(changes_of(changes, draw.choice([1, 3, 10, 40])))
    if t.is_counter and draw.random() < 0.5:
        made.append(changes.deletion(START_S))
    for copy in copies:
        copy.now_s += draw.choice([0, 1])
        for change in draw.sample(made, len(made)):
            copy.apply(change)
    if t.dropped or draw.random() < 0.5:
        at_one_time(copies, draw, [3_700, 4_000, 7_300])
        copies[0].purge()
    # Nobody is just about to let something go: that moment is another test's.
    at_one_time(copies, draw, [0, 5, 20, 6_000, GC_GRACE_S - 10_000, GC_GRACE_S + 2, 3 * GC_GRACE_S])
    for copy in copies[1:]:
        assert digest_of(copies[0], everything(copies[0])) == digest_of(copy, everything(copy))
    copies[1].purge()
    for copy in copies[1:]:
        assert digest_of(copies[0], everything(copies[0])) == digest_of(copy, everything(copy))


@settings(max_examples=300, deadline=None)
@given(seeds, names)
def test_what_reads_differently_has_another_digest(seed: int, name: str) -> None:
    _, _, copies, oracle = world(seed, name)
    known = {digest_of(copy, everything(copy)): live(copy) for copy in (*copies, oracle)}
    for copy in (*copies, oracle):
        assert known[digest_of(copy, everything(copy))] == live(copy)


@settings(max_examples=400, deadline=None)
@given(seeds, names)
def test_one_round_of_repairs_makes_replicas_equal(seed: int, name: str) -> None:
    """Whatever each of them got, when, and what the purge took."""
    draw = Random(seed)
    t = TABLES[name]
    changes = Changes(t, draw)
    copies = [Copy(t) for _ in range(draw.choice([2, 3]))]
    for _ in range(draw.choice([1, 2, 3])):
        made = list(changes_of(changes, draw.choice([1, 3, 20]), copies[0].now_s))
        if t.is_counter and draw.random() < 0.2:
            made.append(changes.deletion(copies[0].now_s))
        scattered(made, copies, draw, everything=False)
        at_one_time(copies, draw, LATER_S)
        for copy in copies:
            if draw.random() < 0.4:
                copy.purge()
    chunks = [everything(copy) for copy in copies]
    whole = repaired(copies, chunks)
    digests = {digest_of(copy, everything(copy)) for copy in copies}
    assert len(digests) == 1
    reads = [live(copy) for copy in copies]
    assert all(read == reads[0] for read in reads)
    rows = rows_of(copies[0].rows, whole.partitions)
    assert reads[0] == seen(rows, copies[0].now_s)
    stored = [copy.stored() for copy in copies]
    repaired(copies, [everything(copy) for copy in copies])
    assert [copy.stored() for copy in copies] == stored, "equal replicas are left alone"
    for copy in copies:
        if draw.random() < 0.5:
            copy.purge()
    assert {digest_of(copy, everything(copy)) for copy in copies} == digests


@settings(max_examples=300, deadline=None)
@given(seeds, names)
def test_repairs_of_a_slice_make_that_slice_equal(seed: int, name: str) -> None:
    draw, changes, copies, oracle = world(seed, name)
    position, slices, reverse = draw.choice(changes.positions), changes.slices(), draw.random() < 0.5
    limits = room(draw)
    chunks = [read_slices(copy.rows, position, slices, reverse=reverse, **limits) for copy in copies]
    whole = repaired(copies, chunks, reverse=reverse)
    bound = {"rows_max": ENDLESS, "bytes_max": ENDLESS, "keys_max": ENDLESS}
    after = []
    for copy in copies:
        chunk = read_slices(copy.rows, position, slices, reverse=reverse, **bound)
        after.append(
            digest(cut(chunk, whole.end, reverse=reverse), whole.end, copy.now_s, GC_GRACE_S)
            if whole.end is not None
            else digest_of(copy, chunk)
        )
    assert len(set(after)) == 1
    # And nobody was told anything that isn't so.
    for copy in copies:
        for change in read_range(copy.rows, b"", None, **bound).partitions:
            oracle.repair(change)
    expected = world(seed, name)[3]
    assert live(oracle) == live(expected)


@settings(max_examples=200, deadline=None)
@given(seeds)
def test_dropped_columns_mean_nothing(seed: int) -> None:
    draw = Random(seed)
    changes = Changes(WIDE, draw)
    copies = [Copy(WIDE) for _ in range(3)]
    made = list(changes_of(changes, 20))
    scattered(made, copies, draw, everything=True)
    t = without(WIDE, *draw.sample(["s", "sm", "v", "m", "e", "l", "u"], draw.randrange(1, 4)))
    for copy in copies:
        copy.drop_columns(t)
    at_one_time(copies, draw, [4_000, GC_GRACE_S + 10])
    copies[0].purge()
    assert len({digest_of(copy, everything(copy)) for copy in copies}) == 1
    copies[1].repair(made[0])
    chunks = [everything(copy) for copy in copies]
    repaired(copies, chunks)
    assert len({digest_of(copy, everything(copy)) for copy in copies}) == 1


def test_a_tombstone_that_is_passed_around_grows_old_all_the_same() -> None:
    """Three replicas got it at different times; each reads and repairs every hour. In the end it is gone."""
    copies = [Copy(PLAIN) for _ in range(3)]
    keys = copies[0].rows.keys
    builder = MutationBuilder(keys, keys.position([b"\0\0\0\1"]), 5, START_S)
    builder.row([b"\0\0\0\1"]).delete()
    builder.row([b"\0\0\0\2"]).tombstone(PLAIN.columns["v"])
    builder.delete_range(*keys.slice((), b"\0\0\0\3"))
    mutation = builder.build()
    assert mutation is not None
    for delay, copy in enumerate(copies):
        copy.now_s += 3_000 * delay
        copy.apply(mutation)
    start_s = max(copy.now_s for copy in copies)
    for hour in range(GC_GRACE_S // 3_600 + 4):
        for copy in copies:
            copy.now_s = start_s + hour * 3_600
            copy.purge()
        repaired(copies, [everything(copy) for copy in copies])
    assert [everything(copy).partitions for copy in copies] == [[], [], []]


def test_a_deletion_that_all_but_one_have_purged_reaches_the_one_that_missed_it() -> None:
    """As long as anybody still has it; and it doesn't begin a new life there."""
    copies = [Copy(PLAIN) for _ in range(3)]
    keys = copies[0].rows.keys
    position = keys.position([b"\0\0\0\1"])
    older = MutationBuilder(keys, position, 1, START_S)
    older.row([b"\0\0\0\1"]).cell(PLAIN.columns["v"], b"\0\0\0\1")
    deletion = MutationBuilder(keys, position, 2, START_S)
    deletion.delete_partition()
    row, gone = older.build(), deletion.build()
    assert row is not None
    assert gone is not None
    for copy in copies:
        copy.apply(row)
    copies[0].apply(gone)
    copies[1].apply(gone)
    for copy in copies:
        copy.now_s += GC_GRACE_S + 4_000
    copies[0].purge()
    assert live(copies[2]) != []
    repaired(copies, [everything(copy) for copy in copies])
    assert live(copies[2]) == []
    for copy in copies:
        copy.now_s += 4_000
        copy.purge()
    assert [copy.stored() for copy in copies] == [[], [], []]


def test_a_repaired_range_is_seen_by_reads() -> None:
    """A replica that never heard of range tombstones must look for them from then on."""
    copies = [Copy(PLAIN) for _ in range(2)]
    keys = copies[0].rows.keys
    position = keys.position([b"\0\0\0\1"])
    older = MutationBuilder(keys, position, 1, START_S)
    older.row([b"\0\0\0\1"]).cell(PLAIN.columns["v"], b"\0\0\0\1")
    deletion = MutationBuilder(keys, position, 2, START_S)
    deletion.delete_range(*keys.slice((), b"\0\0\0\1"))
    row, gone = older.build(), deletion.build()
    assert row is not None
    assert gone is not None
    for copy in copies:
        copy.apply(row)
    copies[0].apply(gone)
    repaired(copies, [everything(copy) for copy in copies])
    assert [live(copy) for copy in copies] == [[], []]


def test_a_range_beyond_the_slice_is_no_difference() -> None:
    """Two replicas have cut one range in different places; in what is read they are equal."""
    copies = [Copy(PLAIN) for _ in range(2)]
    keys = copies[0].rows.keys
    position = keys.position([b"\0\0\0\1"])
    wide = MutationBuilder(keys, position, 1, START_S)
    wide.delete_range(*keys.slice((), b"\0\0\0\1", True, b"\0\0\0\x09"))
    newer = MutationBuilder(keys, position, 2, START_S)
    newer.delete_range(*keys.slice((), b"\0\0\0\5", True, b"\0\0\0\6"))
    for change in (wide.build(), newer.build()):
        assert change is not None
        copies[0].apply(change)
        if change.writes[-1][1] != b"" and copies[1].stored() == []:
            copies[1].apply(change)
    slices = [keys.slice((), b"\0\0\0\1", True, b"\0\0\0\3")]
    bound = {"rows_max": ENDLESS, "bytes_max": ENDLESS, "keys_max": ENDLESS}
    chunks = [read_slices(copy.rows, position, slices, **bound) for copy in copies]
    assert digest_of(copies[0], chunks[0]) == digest_of(copies[1], chunks[1])


def test_a_plain_row_is_its_own_meaning() -> None:
    """The fast way, on which most rows are compared, agrees with the long one."""
    draw = Random(3)
    changes, copy = Changes(PLAIN, draw), Copy(PLAIN)
    plain = 0
    nothing_dropped = Dropped(copy.rows.keys)
    assert not nothing_dropped.ids
    for change in changes_of(changes, 200):
        for suffix, record in change.writes:
            partition = Mutation(change.incarnation, change.position, [(suffix, record)])
            fast = digest([partition], None, copy.now_s, GC_GRACE_S)
            assert fast == digest([partition], None, copy.now_s, GC_GRACE_S, nothing_dropped)
            plain += is_plain(record)
    assert plain > 50


def test_digests_keep_apart_what_stands_side_by_side() -> None:
    """Where one value ends and the next begins is part of it."""
    ends = [None, (b"p", None), (b"p", b""), (b"pq", None), (b"p", b"q"), (b"", b"pq")]
    assert len({digest([], end, 0, 0) for end in ends}) == len(ends)
    chunk = Chunk([], (b"p", b"\xff"))
    assert digest(chunk.partitions, chunk.end, 0, 0) != digest([], None, 0, 0)
    assert ALL_ROWS
