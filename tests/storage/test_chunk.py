"""Replicas' chunks, merged and chained to the end, give what one store with all the changes gives.

If this fails, a replicated read finds too much, too little or something else than was written, in some order of
arrival, at some length of its chunks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.replication.mutations import TABLES, Changes, Copy, changes_of, scattered
from tests.storage.tables import COUNTERS, KEY_VALUE, PLAIN, WIDE

from ourodb.storage.chunk import (
    Chunk,
    beyond,
    covered,
    cut,
    decode_chunk,
    live_row,
    merge_partitions,
    read_range,
    read_row,
    read_slices,
    rows_of,
    shortest,
)
from ourodb.storage.keys import ALL_ROWS, Slice, next_position
from ourodb.storage.mutation import Mutation
from ourodb.storage.record import CorruptRecord
from ourodb.storage.row import LiveRow, Wait
from ourodb.storage.rows import TableRows

seeds = st.integers(0, 1 << 32)
names = st.sampled_from([*TABLES])
ENDLESS = 1 << 40


def content(row: LiveRow | None) -> Any:
    """All that a read can tell of a row."""
    if row is None:
        return None
    return row.clustering_key, row.clustering, row.cells, row.marker, dict(row.elements)


def contents(found: Sequence[Any]) -> list[Any]:
    return [
        (row.partition.position, content(row), content(row.partition.static))
        for row in found
        if isinstance(row, LiveRow)
    ]


def world(seed: int, name: str, *, everything: bool = False) -> tuple[Random, Changes, list[Copy], Copy]:
    """Three replicas that got some changes each, and one that got all of them."""
    draw = Random(seed)
    t = TABLES[name]
    changes = Changes(t, draw)
    copies = [Copy(t) for _ in range(3)]
    oracle = Copy(t)
    made = list(changes_of(changes, draw.choice([1, 3, 10, 40])))
    scattered(made, copies, draw, everything=everything)
    if t.is_counter and draw.random() < 0.5:
        made.append(changes.deletion(oracle.now_s))
        draw.choice(copies).apply(made[-1])
    for change in made:
        oracle.apply(change)
    now_s = max(copy.now_s for copy in copies) + draw.choice([0, 5, 20, 6_000, 40_000])
    for copy in (*copies, oracle):
        copy.now_s = now_s
    return draw, changes, copies, oracle


def room(draw: Random) -> dict[str, int]:
    """Limits of one chunk: mostly small ones."""
    return {
        "rows_max": draw.choice([1, 1, 2, 5, ENDLESS]),
        "bytes_max": draw.choice([1, 100, 1000, ENDLESS]),
        "keys_max": draw.choice([1, 2, 3, 10, ENDLESS]),
    }


def travelled(chunk: Chunk) -> Chunk:
    arrived = decode_chunk(chunk.encode())
    assert arrived.end == chunk.end
    assert [(p.incarnation, p.position, p.writes) for p in arrived.partitions] == [
        (p.incarnation, p.position, p.writes) for p in chunk.partitions
    ]
    return arrived


def check_form(chunk: Chunk) -> None:
    positions = [partition.position for partition in chunk.partitions]
    assert positions == sorted(set(positions))
    for partition in chunk.partitions:
        suffixes = [suffix for suffix, _ in partition.writes]
        assert suffixes
        assert suffixes == sorted(set(suffixes))


def merged(chunks: Sequence[Chunk], *, reverse: bool = False) -> Chunk:
    """What a coordinator makes of them."""
    end = shortest(chunks, reverse=reverse)
    held: dict[bytes, list[Mutation]] = {}
    for chunk in chunks:
        for partition in cut(chunk, end, reverse=reverse):
            held.setdefault(partition.position, []).append(partition)
    whole = Chunk([merge_partitions(held[position]) for position in sorted(held)], end)
    check_form(whole)
    return whole


def read_chained(
    draw: Random,
    copies: Sequence[TableRows],
    position: bytes,
    slices: Sequence[Slice],
    now_s: int,
    reverse: bool,
) -> tuple[list[Any], Any]:
    """All rows that the replicas have together, and the static row."""
    found: list[Any] = []
    left = slices
    static: Any = None
    while True:
        chunks = []
        for copy in copies:
            chunk = read_slices(copy, position, left, reverse=reverse, now_s=now_s, **room(draw))
            check_form(chunk)
            chunks.append(travelled(chunk))
        whole = merged(chunks, reverse=reverse)
        bound = None if whole.end is None else whole.end[1]
        rows = rows_of(copies[0], whole.partitions)
        opened = rows.get_partition(position, now_s)
        assert not isinstance(opened, Wait)
        static = content(opened.static)
        here = covered(left, bound, reverse=reverse)
        found += contents([*rows.read(position, now_s, here, reverse=reverse)])
        if whole.end is None:
            return found, static
        assert whole.end[0] == position
        rest = beyond(left, bound, reverse=reverse)
        assert rest
        assert rest != list(left), "no chunk may stand still"
        left = rest


@settings(max_examples=300, deadline=None)
@given(seeds, names)
def test_slices(seed: int, name: str) -> None:
    draw, changes, copies, oracle = world(seed, name)
    rows = [copy.rows for copy in copies]
    for position in changes.positions:
        slices = changes.slices()
        reverse = draw.random() < 0.5
        now_s = oracle.now_s
        found, static = read_chained(draw, rows, position, slices, now_s, reverse)
        assert found == contents([*oracle.rows.read(position, now_s, slices, reverse=reverse)])
        opened = oracle.rows.get_partition(position, now_s)
        assert not isinstance(opened, Wait)
        assert static == content(opened.static)


@settings(max_examples=200, deadline=None)
@given(seeds, names)
def test_one_replica_alone(seed: int, name: str) -> None:
    """A chunk covers what it says: all of it, and nothing else."""
    draw, changes, copies, _ = world(seed, name)
    copy = copies[0]
    for position in changes.positions:
        slices = changes.slices()
        reverse = draw.random() < 0.5
        found, _ = read_chained(draw, [copy.rows], position, slices, copy.now_s, reverse)
        assert found == contents([*copy.rows.read(position, copy.now_s, slices, reverse=reverse)])


@settings(max_examples=200, deadline=None)
@given(seeds, names)
def test_single_rows(seed: int, name: str) -> None:
    _, changes, copies, oracle = world(seed, name)
    now_s = oracle.now_s
    for position in changes.positions:
        for clustering in changes.clusterings:
            key = changes.keys.clustering(clustering)
            held = []
            for copy in copies:
                found = read_row(copy.rows, position, key)
                assert not isinstance(found, Wait)
                held += [] if found is None else [found]
            row = rows_of(oracle.rows, [merge_partitions(held)] if held else []).get_row(position, key, now_s)
            expected = oracle.rows.get_row(position, key, now_s)
            assert not isinstance(row, Wait)
            assert not isinstance(expected, Wait)
            assert content(row) == content(expected)
            chunk = Chunk([merge_partitions(held)] if held else [])
            found_row = live_row(oracle.rows, chunk, position, key, now_s)
            assert content(found_row) == content(expected)
            assert found_row is None or (
                content(found_row.partition.static) == content(expected.partition.static)
            )


def scan_chained(
    draw: Random,
    copies: Sequence[TableRows],
    start: bytes,
    end: bytes | None,
    slices: Sequence[Slice],
    now_s: int,
) -> list[Any]:
    """All rows of a range. What is left of a partition in whose midst a chunk ends is read as slices."""
    found: list[Any] = []
    while True:
        chunks = [
            travelled(read_range(copy, start, end, slices, now_s=now_s, **room(draw))) for copy in copies
        ]
        whole = merged(chunks)
        rows = rows_of(copies[0], whole.partitions)
        if whole.end is None:
            return found + contents([*rows.scan(now_s, start, end, slices)])
        position, bound = whole.end
        assert start <= position
        after = next_position(position)
        if bound is None:
            found += contents([*rows.scan(now_s, start, after, slices)])
        else:
            found += contents([*rows.scan(now_s, start, position, slices)])
            found += contents([*rows.read(position, now_s, covered(slices, bound))])
            rest = beyond(slices, bound)
            assert rest
            found += read_chained(draw, copies, position, rest, now_s, False)[0]
        start = after


@settings(max_examples=300, deadline=None)
@given(seeds, names)
def test_ranges(seed: int, name: str) -> None:
    draw, changes, copies, oracle = world(seed, name)
    bounds = sorted([b"", *changes.positions, *map(next_position, changes.positions)])
    start = draw.choice(bounds)
    end = draw.choice([None, *[bound for bound in bounds if bound >= start]])
    slices = draw.choice([list(ALL_ROWS), changes.slices()])
    rows = [copy.rows for copy in copies]
    found = scan_chained(draw, rows, start, end, slices, oracle.now_s)
    assert found == contents([*oracle.rows.scan(oracle.now_s, start, end, slices)])


@settings(max_examples=100, deadline=None)
@given(seeds, names)
def test_a_range_goes_on_after_a_row(seed: int, name: str) -> None:
    draw, changes, _, oracle = world(seed, name)
    position, slices = draw.choice(changes.positions), changes.slices()
    after = changes.keys.clustering(draw.choice(changes.clusterings))
    chunk = read_range(
        oracle.rows,
        position,
        None,
        slices,
        resume_after=after,
        rows_max=ENDLESS,
        bytes_max=ENDLESS,
        keys_max=ENDLESS,
    )
    assert chunk.end is None
    found = rows_of(oracle.rows, chunk.partitions).scan(
        oracle.now_s, position, None, slices, resume_after=after
    )
    expected = oracle.rows.scan(oracle.now_s, position, None, slices, resume_after=after)
    assert contents([*found]) == contents([*expected])


@pytest.mark.parametrize(
    "t", [PLAIN, WIDE, KEY_VALUE, COUNTERS], ids=["plain", "wide", "key-value", "counters"]
)
def test_no_room_at_all_still_gives_a_row(t: Any) -> None:
    """What a peer asks for is not to be trusted: no limit may make a chunk that never gets on."""
    draw = Random(1)
    changes, copy = Changes(t, draw), Copy(t)
    for change in changes_of(changes, 30):
        copy.apply(change)
    for limit in (0, -5):
        chunk = read_range(copy.rows, b"", None, rows_max=limit, bytes_max=limit, keys_max=limit)
        assert chunk.partitions
        part = read_slices(
            copy.rows, chunk.partitions[0].position, ALL_ROWS, rows_max=limit, bytes_max=limit, keys_max=limit
        )
        assert part.partitions


@settings(max_examples=200, deadline=None)
@given(seeds, names)
def test_bytes_that_are_no_chunk_are_told(seed: int, name: str) -> None:
    draw, changes, copies, _ = world(seed, name)
    whole = read_slices(copies[0].rows, changes.positions[0], ALL_ROWS, **room(draw)).encode()
    for _ in range(10):
        damaged = bytearray(whole[: draw.randrange(len(whole) + 1)])
        if damaged:
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        with contextlib.suppress(CorruptRecord):
            decode_chunk(bytes(damaged))
    for length in range(min(len(whole), 5)):
        with pytest.raises(CorruptRecord):
            decode_chunk(whole[:length])
