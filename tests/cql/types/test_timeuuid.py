"""Time-based UUIDs. If these fail, slices by minTimeuuid and maxTimeuuid miss rows."""

from __future__ import annotations

import uuid

from cassandra.util import min_uuid_from_time
from hypothesis import given, settings
from hypothesis import strategies as st

from ourodb.cql.types import (
    TIMEUUID,
    max_timeuuid,
    min_timeuuid,
    timeuuid,
    timeuuid_to_millis,
    timeuuid_to_ticks,
)

_ticks = st.integers(-(10**17), 5 * 10**17)


@given(_ticks, st.integers(0, 2**14 - 1), st.integers(0, 2**48 - 1))
@settings(max_examples=200, deadline=None)
def test_made_of_time_sequence_and_node(ticks: int, clock_seq: int, node: int) -> None:
    value = timeuuid(ticks, clock_seq, node)
    TIMEUUID.validate(value)
    read = uuid.UUID(bytes=value)
    assert (read.version, read.variant) == (1, uuid.RFC_4122)
    assert (read.clock_seq, read.node) == (clock_seq, node)
    assert timeuuid_to_ticks(value) == ticks
    assert timeuuid_to_millis(value) == ticks // 10_000


@given(st.integers(-(10**12), 5 * 10**12), st.integers(0, 9_999), st.binary(min_size=8, max_size=8))
@settings(max_examples=200, deadline=None)
def test_bounds_of_a_millisecond_hold_all_of_its_uuids(millis: int, ticks: int, rest: bytes) -> None:
    value = timeuuid(millis * 10_000 + ticks, 0, 0)[:8] + rest
    assert TIMEUUID.compare(min_timeuuid(millis), value) <= 0 <= TIMEUUID.compare(max_timeuuid(millis), value)
    assert (
        TIMEUUID.compare(max_timeuuid(millis - 1), value)
        < 0
        < TIMEUUID.compare(min_timeuuid(millis + 1), value)
    )


def test_bounds_are_the_drivers() -> None:
    millis = 1_296_705_900_000
    assert min_timeuuid(millis) == min_uuid_from_time(millis / 1000).bytes
    # The driver keeps the bits of the variant there, and so misses some; Cassandra doesn't.
    assert max_timeuuid(millis)[8:] == b"\x7f" * 8
    assert timeuuid_to_ticks(max_timeuuid(millis)) == millis * 10_000 + 9_999
