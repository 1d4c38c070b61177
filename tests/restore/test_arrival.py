"""Mutations of a snapshot where they arrive: which are taken, and how long what has expired is remembered."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.restore.test_unload import ONE, Partition, blank
from tests.storage.tables import GC_GRACE_S, NORMALIZING, WIDE

from ourodb.cql.types.native import DECIMAL, INT
from ourodb.storage.arrival import EXPIRED_AGO_S, arriving
from ourodb.storage.memory import MemoryStore
from ourodb.storage.mutation import KeyedRecord, Mutation, MutationBuilder
from ourodb.storage.purge import purge
from ourodb.storage.record import CorruptRecord
from ourodb.storage.row import LiveRow
from ourodb.storage.rows import Rows

TWO = INT.encode(2)
NOW_S = 100_000_000


def everything(builder: MutationBuilder) -> None:
    """Records of every kind."""
    columns = WIDE.columns
    builder.static_row().cell(columns["s"], ONE)
    builder.static_row().element(columns["sm"], b"k", ONE, ttl=10)
    builder.delete_range(*builder.keys.slice([INT.encode(9)]))
    plain, expiring, mixed = (builder.row([ONE, value]) for value in (ONE, TWO, INT.encode(3)))
    plain.marker()
    plain.cell(columns["v"], ONE)
    expiring.marker(10)
    expiring.cell(columns["v"], ONE, 10)
    mixed.cell(columns["v"], ONE, 10)
    mixed.tombstone(columns["w"])
    mixed.overwrite(columns["m"])
    mixed.element(columns["m"], b"k", ONE)
    mixed.element(columns["e"], ONE, b"")
    mixed.element(columns["u"], b"\x00\x01", b"text", ttl=10)
    mixed.delete_element(columns["u"], b"\x00\x00")
    builder.row([TWO, ONE]).delete()


def all_records() -> tuple[bytes, list[KeyedRecord]]:
    partition = Partition()
    partition.write(5, everything)
    partition.write(3, lambda builder: builder.delete_partition())
    return partition.position, [
        (key[len(partition.position) :], record) for key, record in partition.records()
    ]


POSITION, RECORDS = all_records()


def read(rows: Rows, now_s: int) -> list[object]:
    """All that is live in the partition, to the last cell."""
    found: list[object] = []
    for row in rows.register(WIDE).read(POSITION, now_s, static_alone=True):
        assert isinstance(row, LiveRow)
        static = row.partition.static
        found.append((row.clustering, row.cells, row.marker, row.elements, static and static.cells))
    return found


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(RECORDS),
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=3),
    st.integers(0, 3),
    st.binary(max_size=3),
)
def test_what_is_taken_can_be_read(
    write: KeyedRecord, in_key: bool, flips: list[tuple[int, int]], cut: int, more: bytes
) -> None:
    """Broken, one damaged record that was acknowledged makes all scans of its table fail, or its purge."""
    suffix, record = write
    damaged = bytearray(suffix if in_key else record)
    for at, value in flips:
        damaged[at % len(damaged)] = value
    changed = bytes(damaged[: len(damaged) - cut]) + more
    target = blank()
    mutation = Mutation(WIDE.incarnation, POSITION, [(changed, record) if in_key else (suffix, changed)])
    try:
        mutation = arriving(mutation, target.register(WIDE), NOW_S)
    except CorruptRecord:
        return
    rest = [one for one in RECORDS if one[0] != mutation.writes[0][0]]
    for writes in ([], rest):
        target = blank()
        assert target.apply(Mutation(WIDE.incarnation, POSITION, writes), NOW_S) is None
        assert target.apply(mutation, NOW_S) is None
        for now_s in (5, NOW_S):
            read(target, now_s)
        for _ in purge(target, NOW_S + GC_GRACE_S):
            pass
        read(target, NOW_S + GC_GRACE_S)


def test_what_was_written_is_taken_as_it_is() -> None:
    """Broken, a good snapshot can't be restored, or not to the byte."""
    now_s = EXPIRED_AGO_S
    mutation = Mutation(WIDE.incarnation, POSITION, RECORDS)
    assert arriving(mutation, blank().register(WIDE), now_s).writes == RECORDS
    rows = Rows(MemoryStore()).register(NORMALIZING)
    builder = MutationBuilder(rows.keys, rows.keys.position([ONE]), 5, 1)
    for text in ("1.00", "2"):
        row = builder.row([DECIMAL.parse(text)])
        row.marker()
        row.element(NORMALIZING.columns["e"], DECIMAL.parse(text), b"")
    built = builder.build()
    assert built is not None
    assert arriving(built, rows, now_s).writes == built.writes


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            lambda builder: builder.row([ONE, ONE]).cell(WIDE.columns["v"], ONE),
            lambda builder: builder.row([ONE, ONE]).cell(WIDE.columns["v"], TWO, 10),
        ),
        (
            lambda builder: builder.row([ONE, ONE]).element(WIDE.columns["m"], b"k", ONE),
            lambda builder: builder.row([ONE, ONE]).element(WIDE.columns["m"], b"k", TWO, 10),
        ),
        (
            lambda builder: builder.static_row().cell(WIDE.columns["s"], ONE),
            lambda builder: builder.static_row().cell(WIDE.columns["s"], TWO, 10),
        ),
        (
            lambda builder: builder.row([ONE, ONE]).marker(),
            lambda builder: builder.row([ONE, ONE]).marker(10),
        ),
    ],
    ids=["cell", "element", "static", "marker"],
)
def test_an_older_snapshot_after_the_newest_brings_nothing_back(
    old: Callable[[MutationBuilder], None], new: Callable[[MutationBuilder], None]
) -> None:
    """Broken, values that were replaced by others, which then expired, are there again: the newest snapshot is
    restored first, as ``check_same`` asks, and a purge comes before the older one.
    """
    older, newest, target = Partition(), Partition(), blank()
    older.write(5, old)
    newest.write(5, old)
    newest.write(6, new)
    rows = target.register(WIDE)
    for partition in (newest, older):
        writes = [(key[len(POSITION) :], record) for key, record in partition.records()]
        mutation = arriving(Mutation(WIDE.incarnation, POSITION, writes), rows, NOW_S)
        assert target.apply(mutation, NOW_S) is None
        for now_s in (NOW_S, NOW_S + 2 * EXPIRED_AGO_S):
            assert not read(target, now_s)
            for _ in purge(target, now_s):
                pass
