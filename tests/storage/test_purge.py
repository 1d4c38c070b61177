"""Purge: what is over is physically gone when it should be, not before, and without looking at everything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest
from tests.storage.tables import GC_GRACE_S, PLAIN, WIDE

from ourodb import limits
from ourodb.cql.types.native import INT
from ourodb.errors import StoreDamaged, StoreReadOnly
from ourodb.schema.model import Table
from ourodb.storage.apply import UnknownIncarnation
from ourodb.storage.expiry import HOUR_S
from ourodb.storage.families import DATA, EXPIRY
from ourodb.storage.memory import MemoryStore
from ourodb.storage.mutation import MutationBuilder
from ourodb.storage.purge import purge
from ourodb.storage.record import decode_header, decode_row
from ourodb.storage.row import LiveRow, Pause
from ourodb.storage.rows import Rows, TableRows

NOW = 1_700_000_000 // HOUR_S * HOUR_S
ONE, TWO = INT.encode(1), INT.encode(2)
END = b"\xff" * 40


class Scene:
    """A store with one table, written to at a moment and purged at others."""

    def __init__(self, table: Table) -> None:
        self.store = MemoryStore()
        self.all_rows = Rows(self.store)
        self.table = table
        self.rows: TableRows = self.all_rows.register(table)
        self.position = self.rows.keys.position([ONE] * self.rows.keys.partition_columns)

    def builder(self, timestamp: int, now: int = NOW) -> MutationBuilder:
        return MutationBuilder(self.rows.keys, self.position, timestamp, now)

    def apply(self, builder: MutationBuilder, now: int = NOW) -> None:
        mutation = builder.build()
        assert mutation is not None
        assert self.rows.apply(mutation, now) is None

    def purge(self, now: int, keys_per_slice: int = 512) -> None:
        for _ in purge(self.all_rows, now, keys_per_slice=keys_per_slice):
            pass

    def data(self) -> dict[bytes, bytes]:
        """By what follows the partition's prefix."""
        size = 4 + len(self.position)
        return {key[size:]: value for key, value in self.store.scan(DATA, b"", END)}

    def due(self) -> list[int]:
        """The hours that have an entry, counted from now."""
        return [
            int.from_bytes(key[:4], "big") - NOW // HOUR_S for key, _ in self.store.scan(EXPIRY, b"", END)
        ]

    def live(self, now: int) -> int:
        return count(self.rows.read(self.position, now))


def count(stream: Iterable[LiveRow | Pause]) -> int:
    return sum(isinstance(row, LiveRow) for row in stream)


def test_expired_row_loses_its_value_and_later_itself() -> None:
    scene = Scene(PLAIN)
    builder = scene.builder(10)
    row = builder.row([ONE])
    row.marker(60)
    row.cell(PLAIN.columns["v"], b"long value", 60)
    scene.apply(builder)
    assert scene.due() == [1]
    scene.purge(NOW + HOUR_S - 1)
    (before,) = scene.data().values()
    assert b"long value" in before
    scene.purge(NOW + HOUR_S)
    (after,) = scene.data().values()
    assert b"long value" not in after
    assert decode_row(after).marker is not None
    (hour,) = scene.due()
    assert hour == (60 + GC_GRACE_S) // HOUR_S + 1
    scene.purge(NOW + hour * HOUR_S - 1)
    assert scene.data()
    scene.purge(NOW + hour * HOUR_S)
    assert not scene.data()
    assert not scene.due()


def test_expired_cell_still_shadows_what_is_older() -> None:
    """A hint that comes after the purge must not bring back what a write with TTL had replaced."""
    scene = Scene(PLAIN)
    builder = scene.builder(10)
    builder.row([ONE]).cell(PLAIN.columns["v"], b"new", 60)
    scene.apply(builder)
    scene.purge(NOW + HOUR_S)
    late = scene.builder(9)
    late.row([ONE]).cell(PLAIN.columns["v"], b"old")
    scene.apply(late, NOW + HOUR_S)
    assert scene.live(NOW + HOUR_S) == 0


def test_purge_does_not_change_how_a_tie_is_decided() -> None:
    """A write of the same timestamp with a later expiry wins, whether or not the purge was there first."""
    for purged in (False, True):
        scene = Scene(PLAIN)
        for ttl in (60, 10 * HOUR_S):
            builder = scene.builder(10)
            builder.row([ONE]).cell(PLAIN.columns["v"], b"x", ttl)
            scene.apply(builder, NOW + HOUR_S if ttl > 60 else NOW)
            if purged:
                scene.purge(NOW + HOUR_S)
        assert scene.live(NOW + HOUR_S) == 1


def test_tombstone_ages_from_its_arrival() -> None:
    """It was made long ago elsewhere and came as a hint: here it must stay a whole gc grace."""
    scene = Scene(PLAIN)
    builder = scene.builder(10, NOW - 10 * GC_GRACE_S)
    builder.row([ONE]).tombstone(PLAIN.columns["v"])
    scene.apply(builder, NOW)
    scene.purge(NOW + GC_GRACE_S)
    assert scene.data()
    scene.purge(NOW + GC_GRACE_S + HOUR_S)
    assert not scene.data()


def test_rows_under_a_deleted_partition_go_at_once_and_the_deletion_after_grace() -> None:
    scene = Scene(WIDE)
    builder = scene.builder(10)
    for number in range(20):
        row = builder.row([INT.encode(number), ONE])
        row.marker()
        row.element(WIDE.columns["m"], b"k", ONE)
    builder.static_row().element(WIDE.columns["sm"], b"k", ONE)
    scene.apply(builder)
    deletion = scene.builder(10)
    deletion.delete_partition()
    scene.apply(deletion)
    assert len(scene.data()) == 42
    scene.purge(NOW + HOUR_S, keys_per_slice=3)
    assert [*scene.data()] == [b"\x10"]
    scene.purge(NOW + GC_GRACE_S + HOUR_S)
    assert not scene.data()


def test_range_goes_only_when_nothing_was_written_meanwhile() -> None:
    """A row that arrived behind the purge's back is still shadowed by the range: it must outlive the row."""
    scene = Scene(WIDE)
    builder = scene.builder(10)
    for number in range(5):
        builder.row([INT.encode(number), ONE]).marker()
    scene.apply(builder)
    deletion = scene.builder(20)
    deletion.delete_range(*scene.rows.keys.slice())
    scene.apply(deletion)
    later = NOW + GC_GRACE_S + HOUR_S
    run = purge(scene.all_rows, later, keys_per_slice=1)
    next(run)
    next(run)
    late = scene.builder(15, later)
    late.row([INT.encode(0), ONE]).marker()
    scene.apply(late, later)
    for _ in run:
        pass
    assert scene.live(later) == 0
    assert decode_header(scene.data()[b"\x10"]).has_ranges
    scene.purge(later + HOUR_S)
    assert not scene.data()


def test_elements_of_an_overwritten_collection_go() -> None:
    scene = Scene(WIDE)
    m = WIDE.columns["m"]
    for timestamp, key in ((10, b"old"), (20, b"new")):
        builder = scene.builder(timestamp)
        row = builder.row([ONE, ONE])
        row.overwrite(m)
        row.element(m, key, ONE)
        scene.apply(builder)
    assert len(scene.data()) == 3
    scene.purge(NOW + HOUR_S)
    assert len(scene.data()) == 2
    scene.purge(NOW + GC_GRACE_S + HOUR_S)
    assert [*scene.data()] == [
        scene.rows.keys.element_suffix(scene.rows.keys.clustering([ONE, ONE]), m.id, b"new")
    ]
    assert scene.live(NOW) == 1


def test_newer_deletions_outlive_an_older_one_above_them() -> None:
    """Row and range deleted one microsecond after the partition: they still shadow a write of that microsecond."""
    scene = Scene(WIDE)
    builder = scene.builder(10)
    builder.delete_partition()
    builder.timestamp = 11
    builder.row([ONE, ONE]).delete()
    builder.delete_range(*scene.rows.keys.slice([TWO]))
    scene.apply(builder)
    scene.purge(NOW + HOUR_S)
    late = scene.builder(11)
    for first in (ONE, TWO):
        late.row([first, ONE]).marker()
    scene.apply(late)
    assert scene.live(NOW) == 0


def test_row_deletion_takes_the_elements_along() -> None:
    scene = Scene(WIDE)
    builder = scene.builder(10)
    builder.row([ONE, ONE]).element(WIDE.columns["m"], b"k", ONE)
    scene.apply(builder)
    deletion = scene.builder(10)
    deletion.row([ONE, ONE]).delete()
    scene.apply(deletion)
    scene.purge(NOW + GC_GRACE_S + HOUR_S)
    assert not scene.data()


def test_what_never_comes_due_is_never_visited() -> None:
    scene = Scene(PLAIN)
    builder = scene.builder(10)
    builder.row([ONE]).marker()
    scene.apply(builder)
    assert not scene.due()


def test_steady_writes_enter_the_index_once_per_hour() -> None:
    scene = Scene(PLAIN)
    writes = 0
    apply = scene.store.apply

    def counting(batch: Iterable[tuple[int, bytes, bytes | None]]) -> None:
        nonlocal writes
        batch = list(batch)
        writes += sum(family == EXPIRY for family, _, _ in batch)
        apply(batch)

    scene.store.apply = counting  # type: ignore[method-assign]
    for number in range(50):
        builder = scene.builder(number)
        builder.row([INT.encode(number)]).marker(60)
        scene.apply(builder)
    assert writes == 1


def test_entry_is_made_again_after_a_purge_removed_it() -> None:
    """What is remembered of the index must not outlive the entry."""
    scene = Scene(PLAIN)
    for hour in range(3):
        builder = scene.builder(10 + hour, NOW + hour * HOUR_S)
        builder.row([ONE]).marker(60)
        scene.apply(builder, NOW + hour * HOUR_S)
        assert hour + 1 in scene.due()
        scene.purge(NOW + (hour + 1) * HOUR_S)


def test_entry_is_made_again_after_the_clock_went_back() -> None:
    scene = Scene(PLAIN)
    for timestamp in (10, 20):
        builder = scene.builder(timestamp)
        builder.row([ONE]).marker(60)
        scene.apply(builder)
        assert 1 in scene.due()
        scene.purge(NOW + HOUR_S)


def test_partition_with_several_entries_due_is_visited_once() -> None:
    """After a long stop most partitions have many."""
    scene = Scene(PLAIN)
    for hour in range(5):
        builder = scene.builder(10 + hour)
        builder.row([INT.encode(hour)]).marker(60 + hour * HOUR_S)
        scene.apply(builder)
    assert len(scene.due()) == 5
    scanned = 0
    scan = scene.store.scan

    def counting(family: int, start: bytes, end: bytes, **options: bool) -> Iterator[tuple[bytes, bytes]]:
        nonlocal scanned
        for pair in scan(family, start, end, **options):
            scanned += family == DATA
            yield pair

    scene.store.scan = counting  # type: ignore[method-assign, assignment]
    scene.purge(NOW + 5 * HOUR_S)
    assert scanned == 5


def test_entries_of_dropped_tables_are_removed() -> None:
    scene = Scene(PLAIN)
    builder = scene.builder(10)
    builder.row([ONE]).marker(60)
    scene.apply(builder)
    scene.all_rows.drop(PLAIN.incarnation)
    scene.purge(NOW + HOUR_S)
    assert not scene.due()


def test_partition_that_can_t_be_read_keeps_no_other_from_being_purged() -> None:
    """It is due first in every run."""
    scene = Scene(PLAIN)
    positions = sorted(scene.rows.keys.position([INT.encode(number)]) for number in range(5))
    for position in positions:
        scene.position = position
        builder = scene.builder(10)
        builder.row([ONE]).delete()
        scene.apply(builder)
    is_damaged = True
    scan = scene.store.scan

    def damaged(family: int, start: bytes, end: bytes, **options: bool) -> Iterator[tuple[bytes, bytes]]:
        if is_damaged and family == DATA and start[4:].startswith(positions[0]):
            raise StoreDamaged("damaged data on disk")
        return scan(family, start, end, **options)

    scene.store.scan = damaged  # type: ignore[method-assign, assignment]
    scene.purge(NOW + GC_GRACE_S + HOUR_S)
    is_damaged = False
    assert len(scene.data()) == 1
    scene.purge(NOW + GC_GRACE_S + HOUR_S)
    assert not scene.data()
    assert not scene.due()


def test_small_partitions_share_a_slice() -> None:
    """With one to a slice, those of a busy table would come due faster than they are purged."""
    scene = Scene(PLAIN)
    count = 100
    for number in range(count):
        scene.position = scene.rows.keys.position([INT.encode(number)])
        builder = scene.builder(10)
        builder.row([ONE]).marker(60)
        scene.apply(builder)
    slices = sum(1 for _ in purge(scene.all_rows, NOW + HOUR_S))
    assert len(scene.due()) == count
    assert min(scene.due()) > 1
    assert 1 < slices <= count // 10


@pytest.mark.parametrize("partitions", [1, 10, 500])
def test_slice_looks_at_few_keys_however_they_are_spread(partitions: int) -> None:
    """Requests wait for the end of a slice."""
    scene = Scene(PLAIN)
    for number in range(2000):
        scene.position = scene.rows.keys.position([INT.encode(number % partitions)])
        builder = scene.builder(10)
        builder.row([INT.encode(number)]).marker(60)
        scene.apply(builder)
    looked_at = 0
    scan = scene.store.scan

    def counting(family: int, start: bytes, end: bytes, **options: bool) -> Iterator[tuple[bytes, bytes]]:
        nonlocal looked_at
        for pair in scan(family, start, end, **options):
            looked_at += 1
            yield pair

    scene.store.scan = counting  # type: ignore[method-assign, assignment]
    for _ in purge(scene.all_rows, NOW + HOUR_S, keys_per_slice=200):
        assert looked_at <= 200 + limits.PURGE_ENTRIES_AT_ONCE + 1
        looked_at = 0


def test_what_a_run_removed_from_the_index_isn_t_passed_by_again() -> None:
    """In an engine that keeps tombstones for a while, each slice would take longer than the one before."""
    scene = Scene(PLAIN)
    for number in range(500):
        scene.position = scene.rows.keys.position([INT.encode(number)])
        builder = scene.builder(10)
        builder.row([ONE]).marker(60)
        scene.apply(builder)
    removed: list[bytes] = []
    apply, scan = scene.store.apply, scene.store.scan

    def noting(batch: Iterable[tuple[int, bytes, bytes | None]]) -> None:
        batch = list(batch)
        removed.extend(key for family, key, value in batch if family == EXPIRY and value is None)
        apply(batch)

    def checking(family: int, start: bytes, end: bytes, **options: bool) -> Iterator[tuple[bytes, bytes]]:
        if family == EXPIRY:
            assert not any(start <= key < end for key in removed)
        return scan(family, start, end, **options)

    scene.store.apply = noting  # type: ignore[method-assign]
    scene.store.scan = checking  # type: ignore[method-assign, assignment]
    for _ in purge(scene.all_rows, NOW + HOUR_S):
        pass
    assert len(removed) == 500


def test_store_that_takes_no_writes_ends_a_run() -> None:
    """Going on would only look at everything in vain."""
    scene = Scene(PLAIN)
    builder = scene.builder(10)
    builder.row([ONE]).delete()
    scene.apply(builder)
    apply = scene.store.apply

    def full(batch: Iterable[tuple[int, bytes, bytes | None]]) -> None:
        raise StoreReadOnly("the disk is full")

    scene.store.apply = full  # type: ignore[method-assign]
    with pytest.raises(StoreReadOnly):
        scene.purge(NOW + GC_GRACE_S + HOUR_S)
    scene.store.apply = apply  # type: ignore[method-assign]
    scene.purge(NOW + GC_GRACE_S + HOUR_S)
    assert not scene.data()


class Run:
    """A purge in the midst of its work: two rows were deleted a gc grace ago, and one has been looked at."""

    def __init__(self) -> None:
        self.scene = scene = Scene(PLAIN)
        for number in range(2):
            builder = scene.builder(10)
            builder.row([INT.encode(number)]).delete()
            scene.apply(builder)
        self._slices = purge(scene.all_rows, NOW + GC_GRACE_S + HOUR_S, keys_per_slice=1)
        assert next(self._slices, None) is not None

    def end(self) -> None:
        for _ in self._slices:
            pass


def test_table_altered_during_a_run_stays_as_it_is_now() -> None:
    """Put back, its new columns would be unknown to reads and to peers until the next change."""
    run = Run()
    altered = replace(PLAIN, next_column_id=PLAIN.next_column_id + 1)
    run.scene.all_rows.register(altered)
    run.end()
    assert run.scene.all_rows.known(PLAIN.incarnation).table is altered


def test_gc_grace_raised_during_a_run_counts() -> None:
    run = Run()
    left = run.scene.data()
    longer = replace(PLAIN.options, gc_grace_seconds=3 * GC_GRACE_S)
    run.scene.all_rows.register(replace(PLAIN, options=longer))
    run.end()
    assert run.scene.data() == left


def test_table_dropped_during_a_run_stays_unknown() -> None:
    """Known again, it would take late writes that nobody ever removes."""
    run = Run()
    run.scene.all_rows.drop(PLAIN.incarnation)
    run.end()
    with pytest.raises(UnknownIncarnation):
        run.scene.all_rows.known(PLAIN.incarnation)
    assert not run.scene.due()
