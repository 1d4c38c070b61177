"""Bounds on what is dead in a partition. Broken, a queue kept in one partition takes the node's time until it stalls,
or reads fail that Cassandra would answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from tests.storage.tables import KEY_VALUE, PLAIN, WIDE

from ourodb import limits
from ourodb.config import Config
from ourodb.cql.types.native import INT
from ourodb.schema.model import Table
from ourodb.storage.memory import MemoryStore
from ourodb.storage.mutation import MutationBuilder
from ourodb.storage.row import LiveRow, Pause
from ourodb.storage.rows import Rows, TableRows
from ourodb.storage.tombstones import TombstoneWatch, TooManyTombstones

NOW = 1_700_000_000
ONE, TWO = INT.encode(1), INT.encode(2)
WARN, FAIL = 5, 19

Change = Callable[[MutationBuilder], None]


def opened(table: Table) -> TableRows:
    return Rows(MemoryStore(), tombstone_warn=WARN, tombstone_fail=FAIL).register(table)


def change(rows: TableRows, partition: int, timestamp: int, *changes: Change) -> None:
    key = [INT.encode(partition)] * rows.keys.partition_columns
    builder = MutationBuilder(rows.keys, rows.keys.position(key), timestamp, NOW)
    for one in changes:
        one(builder)
    mutation = builder.build()
    assert mutation is not None
    assert rows.apply(mutation, NOW) is None


def clustering(rows: TableRows, number: int) -> list[bytes]:
    return [INT.encode(number)] * len(rows.table.clustering)


def insert(rows: TableRows, partition: int, number: int, ttl: int = 0, timestamp: int = 10) -> None:
    def put(builder: MutationBuilder) -> None:
        row = builder.row(clustering(rows, number))
        row.marker(ttl)
        row.cell(rows.table.columns["v"], ONE, ttl)

    change(rows, partition, timestamp, put)


def delete_row(rows: TableRows, partition: int, number: int, timestamp: int = 10) -> None:
    change(rows, partition, timestamp, lambda builder: builder.row(clustering(rows, number)).delete())


def position(rows: TableRows, partition: int) -> bytes:
    return rows.keys.position([INT.encode(partition)] * rows.keys.partition_columns)


def live(stream: Iterable[LiveRow | Pause]) -> list[LiveRow]:
    return [row for row in stream if isinstance(row, LiveRow)]


def reads(rows: TableRows, partition: int, now_s: int = NOW) -> dict[str, Callable[[TombstoneWatch], object]]:
    """All the ways to read a partition whole."""
    at = position(rows, partition)
    middle = rows.keys.slice(upper=INT.encode(1_000))
    return {
        "read": lambda watch: live(rows.read(at, now_s, watch=watch)),
        "reverse": lambda watch: live(rows.read(at, now_s, reverse=True, watch=watch)),
        "scan": lambda watch: live(rows.scan(now_s, watch=watch)),
        "scan of slices": lambda watch: live(rows.scan(now_s, slices=[middle], watch=watch)),
    }


@pytest.mark.parametrize("how", ["read", "reverse", "scan", "scan of slices"])
@pytest.mark.parametrize("table", [PLAIN, WIDE], ids=["plain", "wide"])
@pytest.mark.parametrize("kind", ["rows", "expired", "ranges"])
def test_a_read_of_many_tombstones_fails(kind: str, table: Table, how: str) -> None:
    rows = opened(table)
    for number in range(FAIL):
        add_tombstone(rows, kind, number)
    insert(rows, 1, 500, timestamp=50)
    read = reads(rows, 1, NOW + 100)[how]
    watch = rows.watch()
    read(watch)
    assert watch.most == FAIL
    assert watch.worst == position(rows, 1)
    add_tombstone(rows, kind, FAIL)
    with pytest.raises(TooManyTombstones) as caught:
        read(rows.watch())
    assert caught.value.position == position(rows, 1)
    assert caught.value.tombstones == FAIL + 1
    named = "p = 1" if table is PLAIN else "p = 1 AND q = 1"
    assert str(caught.value) == f"{FAIL + 1} tombstones met in the partition {named}"


def add_tombstone(rows: TableRows, kind: str, number: int) -> None:
    if kind == "rows":
        delete_row(rows, 1, number)
    elif kind == "expired":
        # One cell beside the marker: one tombstone, as in Cassandra.
        insert(rows, 1, number, ttl=5)
    else:
        start, end = rows.keys.slice((), INT.encode(2 * number), True, INT.encode(2 * number), True)
        change(rows, 1, 10 + number, lambda builder: builder.delete_range(start, end))


def test_a_warning_is_due_before() -> None:
    rows = opened(PLAIN)
    for number in range(WARN):
        delete_row(rows, 1, number)
    watch = rows.watch()
    live(rows.read(position(rows, 1), NOW, watch=watch))
    assert (watch.met, watch.most) == (WARN, 0)
    delete_row(rows, 1, WARN)
    live(rows.read(position(rows, 1), NOW, watch=watch))
    assert watch.most == 2 * WARN + 1, "two streams of one read add up"
    watch = rows.watch()
    live(rows.read(position(rows, 1), NOW, watch=watch))
    assert watch.most == WARN + 1


def test_each_partition_counts_by_itself() -> None:
    rows = opened(PLAIN)
    for partition in range(5):
        for number in range(partition + WARN):
            delete_row(rows, partition, number)
    watch = rows.watch()
    assert live(rows.scan(NOW, watch=watch)) == []
    assert watch.most == WARN + 4
    assert watch.worst == position(rows, 4)


@pytest.mark.parametrize("table", [PLAIN, WIDE], ids=["plain", "wide"])
def test_what_a_deletion_above_shadows_is_no_tombstone(table: Table) -> None:
    """One deletes a large partition, or a large range of it, and must be able to read it afterwards."""
    rows = opened(table)
    for number in range(2 * FAIL):
        insert(rows, 1, number)
        insert(rows, 2, number, ttl=5)
        delete_row(rows, 3, number)
        insert(rows, 4, number)
    for partition in (1, 2, 3):
        change(rows, partition, 20, lambda builder: builder.delete_partition())
    start, end = rows.keys.slice()
    change(rows, 4, 20, lambda builder: builder.delete_range(start, end))
    for partition in (1, 2, 3, 4):
        for name, read in reads(rows, partition, NOW + 100).items():
            assert read(rows.watch()) == [], name


def test_rows_that_live_again_are_no_tombstones() -> None:
    """Each insert of a whole collection begins with a deletion of the old one; each row here was deleted before."""
    rows = opened(WIDE)
    path = b"key"

    def put(builder: MutationBuilder) -> None:
        row = builder.row(clustering(rows, number))
        row.marker()
        row.overwrite(rows.table.columns["m"])
        row.element(rows.table.columns["m"], path, ONE)

    for number in range(2 * FAIL):
        delete_row(rows, 1, number)
        change(rows, 1, 20, put)
    for name, read in reads(rows, 1).items():
        assert len(read(rows.watch())) == 2 * FAIL, name  # type: ignore[arg-type]


def test_elements_of_one_row() -> None:
    """A queue kept in a list: reading that one row must fail as well."""
    rows = opened(WIDE)
    column = rows.table.columns["e"]

    def remove(element: int) -> Change:
        return lambda builder: builder.row(clustering(rows, 1)).delete_element(column, INT.encode(element))

    change(rows, 1, 10, *map(remove, range(FAIL)))
    insert(rows, 1, 1)
    at, key = position(rows, 1), rows.keys.clustering(clustering(rows, 1))
    watch = rows.watch()
    assert isinstance(rows.get_row(at, key, NOW, watch), LiveRow)
    assert watch.most == FAIL
    change(rows, 1, 10, remove(FAIL))
    with pytest.raises(TooManyTombstones):
        rows.get_row(at, key, NOW)


def test_elements_of_the_static_row() -> None:
    rows = opened(WIDE)
    column = rows.table.columns["sm"]

    def remove(element: int) -> Change:
        return lambda builder: builder.static_row().delete_element(column, b"%d" % element)

    change(rows, 1, 10, *map(remove, range(FAIL + 1)))
    with pytest.raises(TooManyTombstones):
        rows.get_partition(position(rows, 1), NOW)
    with pytest.raises(TooManyTombstones):
        live(rows.read(position(rows, 1), NOW))


def test_deleted_keys_of_a_table_without_clustering_columns() -> None:
    """A cache whose keys come and go can be scanned, however many have gone."""
    rows = opened(KEY_VALUE)
    for number in range(3 * FAIL):
        change(rows, number, 10, lambda builder: builder.delete_partition())
    assert live(rows.scan(NOW)) == []


def test_long_keys_are_cut_in_messages() -> None:
    rows = opened(KEY_VALUE)
    text = rows.keys.partition_text(rows.keys.position([b"it's " * 1_000]))
    assert text.startswith("p = 'it''s it''s ")
    assert len(text) < 300


def test_bounds_are_those_of_cassandra() -> None:
    assert (limits.TOMBSTONES_WARN, limits.TOMBSTONES_FAIL) == (1_000, 100_000)
    assert (Config().tombstone_warn, Config().tombstone_fail) == (1_000, 100_000)
    watch = Rows(MemoryStore()).register(PLAIN).watch()
    assert (watch.warn_past, watch.fail_past) == (1_000, 100_000)
