"""Range tombstones: fragments never overlap and say the same as the ranges they came from."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ourodb.storage.families import DATA
from ourodb.storage.memory import MemoryStore
from ourodb.storage.ranges import Fragment, RangeCursor, add, covering, overlapping
from ourodb.storage.record import NEVER, encode_range

POINTS = [bytes([at]) for at in range(8)]
points = st.sampled_from(POINTS)
ranges = st.lists(st.tuples(points, points, st.tuples(st.integers(1, 4), st.integers(100, 102))), max_size=6)


def added(chosen: list[Fragment]) -> list[Fragment]:
    fragments: list[Fragment] = []
    for start, end, deletion in chosen:
        add(fragments, start, end, deletion)
    return fragments


@given(ranges, st.randoms())
def test_fragments_say_what_the_ranges_say(chosen: list[Fragment], random: object) -> None:
    fragments = added(chosen)
    assert all(start < end for start, end, _ in fragments)
    assert all(before[1] <= after[0] for before, after in pairwise(fragments))
    for point in POINTS:
        expected = [deletion for start, end, deletion in chosen if start <= point < end]
        found = [deletion for start, end, deletion in fragments if start <= point < end]
        assert found == ([max(expected)] if expected else [])
    shuffled = list(chosen)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert added(shuffled) == fragments


@given(ranges, points, points)
def test_stored_fragments_are_found(chosen: list[Fragment], start: bytes, end: bytes) -> None:
    fragments = added(chosen)
    store = MemoryStore()
    store.apply([(DATA, b"base" + low, encode_range(high, deletion)) for low, high, deletion in fragments])
    store.apply([(DATA, b"bas", b"x"), (DATA, b"basf", b"x")])
    for point in POINTS:
        over = [deletion[0] for low, high, deletion in fragments if low <= point < high]
        assert covering(store, b"base", point) == (over[0] if over else NEVER)
    if start < end:
        found = list(overlapping(store, b"base", start, end))
        assert found == [fragment for fragment in fragments if fragment[0] < end and fragment[1] > start]
        inside = [point for point in POINTS if start <= point < end]
        for reverse in (False, True):
            cursor = RangeCursor(found[::-1] if reverse else found, reverse)
            for point in inside[::-1] if reverse else inside:
                assert cursor.covering(point) == covering(store, b"base", point)
