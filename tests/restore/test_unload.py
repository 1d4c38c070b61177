"""Rows of stores at rest as mutations: whatever was written, a store that gets them reads the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import reduce

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.storage.machine import NODE, TABLES, RowsMachine
from tests.storage.records import header_records, rows
from tests.storage.tables import COUNTERS, GC_GRACE_S, WIDE

from ourodb.cql.types.native import INT
from ourodb.ports import Store
from ourodb.schema.model import Table, TableOptions
from ourodb.storage.arrival import arriving
from ourodb.storage.counter import SHARD_BYTES, increment, total
from ourodb.storage.families import DATA, EXPIRY, METADATA
from ourodb.storage.keys import TableKeys
from ourodb.storage.memory import MemoryStore
from ourodb.storage.merge import merge
from ourodb.storage.mutation import Mutation, MutationBuilder, decode_mutation, row_suffix
from ourodb.storage.purge import purge
from ourodb.storage.record import Row, decode_row, encode_range, encode_row
from ourodb.storage.rows import Rows
from ourodb.storage.unload import merged, parts, pieces, renamed_shards, unshadowed

ONE = INT.encode(1)
OTHER_NODE = NODE[::-1]
END = b"\xff" * 40
ORDINARY = {table.incarnation: table for table in TABLES.values()}
FORGETFUL = {
    incarnation: replace(table, options=TableOptions(gc_grace_seconds=0))
    for incarnation, table in ORDINARY.items()
}
"""The tables where nothing that is deleted is remembered for longer than it must."""


def records_of(store: Store, incarnation: int) -> list[tuple[bytes, bytes]]:
    """What ``SnapshotStore.scan`` gives."""
    prefix = incarnation.to_bytes(4, "big")
    return [(key[4:], record) for key, record in store.scan(DATA, prefix, prefix + END)]


def moved(stores: list[Store], target: Rows, now: int, records_max: int) -> list[Mutation]:
    """Unload all tables into other rows; gives what was sent, in order."""
    sent = []
    for incarnation, table in FORGETFUL.items():
        scans = [records_of(store, incarnation) for store in stores]
        records = unshadowed(merged(scans), TableKeys(table))
        counted = 0
        for piece in pieces(
            records,
            incarnation,
            counted_in=incarnation if table.is_counter else None,
            records_max=records_max,
            record_bytes_max=1,
        ):
            counted += piece.records
            if piece.mutation.writes:
                mutation, _ = decode_mutation(piece.mutation.encode())
                assert len(mutation.writes) <= records_max + 1, "more than so many, and a header"
                mutation = arriving(mutation, target.known(incarnation), now)
                assert target.apply(mutation, now) is None
                sent.append(mutation)
        assert counted == sum(map(len, scans)), "what was read isn't what was counted"
    return sent


def purge_at_once(rows: Rows, now: int) -> None:
    """As if gc grace were over as soon as something is deleted, and the hour as well."""
    for key, _ in list(rows.store.scan(EXPIRY, b"", END)):
        rows.store.apply(((EXPIRY, key, None), (EXPIRY, bytes(4) + key[4:], b"")))
    for _ in purge(rows, now):
        pass


class MovingMachine(RowsMachine):
    """Two replicas, each of which misses some of what is written; the store itself has it all.

    At a restart all goes from the two replicas into a new store, which the machine goes on with: every other time one
    that purges after each mutation whatever it may.
    """

    def open_store(self) -> Store:
        self.moves = 0
        self.writes = 0
        self.replicas = [blank(), blank()]
        return MemoryStore()

    def apply_all(self, mutations: list[Mutation | None]) -> None:
        super().apply_all(mutations)
        for mutation in mutations:
            self.writes += 1
            if mutation is not None:
                for number, replica in enumerate(self.replicas):
                    if self.writes % 3 != number:
                        assert replica.apply(decode_mutation(mutation.encode())[0], self.now) is None

    def after_purge(self) -> None:
        """What the store has let go a replica may not keep: in a ring a repair comes first."""
        super().after_purge()
        self.align()

    def align(self) -> None:
        self.replicas = [blank(self.store), blank(self.store)]

    def reopen_store(self, store: Store) -> Store:
        self.moves += 1
        target = blank(tables=FORGETFUL)
        sent = moved(
            [replica.store for replica in self.replicas], target, self.now, records_max=1 + self.moves % 3
        )
        if self.moves % 2:
            # The same into one that forgets, each mutation twice, which must make no difference.
            target = blank(tables=FORGETFUL)
            for mutation in sent:
                for _ in range(2):
                    assert target.apply(mutation, self.now) is None
                purge_at_once(target, self.now)
            self.first_write_s = 0
            super().after_purge()
        self.store = target.store
        self.align()
        return target.store


def blank(store: Store | None = None, tables: Mapping[int, Table] = ORDINARY) -> Rows:
    """Rows of the tables in a store of their own, which has what another one has."""
    made = MemoryStore()
    if store is not None:
        for family in (DATA, METADATA, EXPIRY):
            made.apply([(family, key, value) for key, value in store.scan(family, b"", END)])
    rows = Rows(made)
    for table in tables.values():
        rows.register(table)
    return rows


MovingMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


class TestMoving(MovingMachine.TestCase):
    """Broken, rows of a snapshot are lost, come back from the dead, or are seen half."""


class Partition:
    """One partition of WIDE in a store of its own."""

    def __init__(self) -> None:
        self.rows = blank()
        self.keys = self.rows.register(WIDE).keys
        self.position = self.keys.position([ONE, ONE])

    def write(self, timestamp: int, write: Callable[[MutationBuilder], None]) -> None:
        builder = MutationBuilder(self.keys, self.position, timestamp, 1)
        write(builder)
        mutation = builder.build()
        assert mutation is not None
        assert self.rows.apply(mutation, 1) is None

    def records(self) -> list[tuple[bytes, bytes]]:
        return records_of(self.rows.store, WIDE.incarnation)


def travelling(*partitions: Partition) -> list[bytes]:
    """The suffixes of what is sent."""
    records = unshadowed(merged([one.records() for one in partitions]), TableKeys(WIDE))
    sent = pieces(records, WIDE.incarnation, counted_in=None)
    return [suffix for piece in sent for suffix, _ in piece.mutation.writes]


def add(row: int, path: bytes = b"k") -> Callable[[MutationBuilder], None]:
    """An element of a row, without the row's marker."""
    return lambda builder: builder.row([INT.encode(row), ONE]).element(WIDE.columns["m"], path, ONE)


def test_elements_under_a_deletion_stay_behind() -> None:
    """Broken, they come back where the deletion is purged before they arrive."""
    column = WIDE.columns["m"].id
    deletions: dict[str, Callable[[MutationBuilder], None]] = {
        "row": lambda builder: builder.row([ONE, ONE]).delete(),
        "column": lambda builder: builder.row([ONE, ONE]).clear(WIDE.columns["m"]),
        "range": lambda builder: builder.delete_range(*builder.keys.slice([ONE])),
        "partition": lambda builder: builder.delete_partition(),
    }
    for what, delete in deletions.items():
        partition = Partition()
        partition.write(5, add(1, b"old"))
        partition.write(6, delete)
        partition.write(7, add(1, b"new"))
        partition.write(5, add(2, b"old"))
        key = partition.keys.clustering([ONE, ONE])
        other = partition.keys.clustering([INT.encode(2), ONE])
        sent = travelling(partition)
        assert partition.keys.element_suffix(key, column, b"new") in sent, what
        assert partition.keys.element_suffix(key, column, b"old") not in sent, what
        assert (partition.keys.element_suffix(other, column, b"old") in sent) == (what != "partition"), what


def test_elements_of_static_columns_under_a_deletion_stay_behind() -> None:
    """As above."""
    static = WIDE.columns["sm"]

    def add_static(path: bytes) -> Callable[[MutationBuilder], None]:
        return lambda builder: builder.static_row().element(static, path, ONE)

    for delete in (
        lambda builder: builder.delete_partition(),
        lambda builder: builder.static_row().clear(static),
    ):
        partition = Partition()
        partition.write(5, add_static(b"old"))
        partition.write(6, delete)
        partition.write(7, add_static(b"new"))
        sent = travelling(partition)
        assert partition.keys.element_suffix(None, static.id, b"new") in sent
        assert partition.keys.element_suffix(None, static.id, b"old") not in sent


def test_ranges_that_begin_alike_are_all_sent() -> None:
    """Broken, one replica's deletion of a range hides another's that reaches farther."""
    short, long = Partition(), Partition()
    keys = short.keys
    start, middle = keys.slice([ONE])
    _, end = keys.slice([INT.encode(9)])
    short.write(6, lambda builder: builder.delete_range(start, middle))
    long.write(5, lambda builder: builder.delete_range(start, end))
    for partition in (short, long):
        for row in (1, 9):
            partition.write(4, add(row))
    target = blank()
    assert travelling(short, long).count(b"\x30" + start) == 2
    moved([short.rows.store, long.rows.store], target, 1, records_max=10)
    assert not list(target.register(WIDE).read(short.position, 1))
    assert list(short.rows.register(WIDE).read(short.position, 1)), (
        "row 9 is deleted in the other store alone"
    )


def test_ranges_that_came_to_each_node_at_another_time_are_one() -> None:
    """Broken, what is sent of several copies depends on whether a second has passed between them; the younger stays."""
    keys = Partition().keys
    start, _ = keys.slice([ONE])
    _, end = keys.slice([INT.encode(9)])
    key = b"position" + start
    early, late, other = (encode_range(end, deletion) for deletion in ((6, 100), (6, 101), (7, 100)))
    found = [
        (record, copies) for _, record, copies, _ in merged([[(key, one)] for one in (late, early, other)])
    ]
    assert found == [(late, 3), (other, 0)]


def test_ranges_delete_whatever_was_purged_between_two_mutations() -> None:
    """Broken, what a range deleted comes back: an hour's purge took away the header that says that there are ranges."""
    deleted, target = Partition(), Partition()
    target.write(4, add(1))
    deleted.write(2, lambda builder: builder.delete_partition())
    deleted.write(9, lambda builder: builder.delete_range(*builder.keys.slice([ONE])))
    records = unshadowed(merged([deleted.records()]), TableKeys(WIDE))
    sent = list(pieces(records, WIDE.incarnation, counted_in=None, records_max=1))
    assert len(sent) == 2
    for piece in sent:
        assert target.rows.apply(piece.mutation, 1) is None
        purge_at_once(target.rows, 1 + GC_GRACE_S)
    assert not list(target.rows.register(WIDE).read(target.position, 1 + GC_GRACE_S))


@given(rows(), st.integers(1, 3))
def test_the_parts_of_a_row_make_the_row(row: Row, bytes_max: int) -> None:
    """Broken, a row that is too long for one message comes back as another one."""
    record = encode_row(row)
    taken = parts(record, bytes_max)
    assert merge_all(taken) == merge_all([record])
    assert merge_all(taken[::-1]) == merge_all([record])
    for part in taken:
        values = [len(cell[3]) for cell in decode_row(part).cells.values()]
        assert sum(values) <= bytes_max or len([one for one in values if one]) <= 1


@given(header_records(), st.integers(1, 3))
def test_the_parts_of_a_header_make_the_header(record: bytes, bytes_max: int) -> None:
    """Broken, long static columns are lost."""
    assert merge_all(parts(record, bytes_max)) == merge_all([record])


def merge_all(records: list[bytes]) -> bytes:
    return reduce(merge, [*records, records[0]])


def counted(shard: bytes, timestamp: int) -> bytes:
    """The record of a row with this shard of its counter."""
    keys = TableKeys(COUNTERS)
    builder = MutationBuilder(keys, keys.position([ONE]), timestamp, 1)
    builder.row([ONE]).counter(COUNTERS.columns["n"], shard)
    mutation = builder.build()
    assert mutation is not None
    return mutation.writes[0][1]


def value(record: bytes) -> bytes:
    return decode_row(record).cells[COUNTERS.columns["n"].id][3]


def test_counts_add_up_with_what_was_counted_meanwhile() -> None:
    """Broken, an increment that arrives before the old count takes its place: counts are lost in a restore into the
    cluster that made the snapshot.
    """
    old = counted(increment(None, NODE, 1, 10, 100), 10)
    new = counted(increment(None, NODE, 1, 20, 3), 20)
    for order in ([old, new], [new, old]):
        records = [renamed_shards(record, 7) if record is old else record for record in order]
        assert total(value(reduce(merge, records))) == (103).to_bytes(8, "big")
    # Restored twice, and then from a later snapshot of the same node: it counts once, as it was last.
    later = counted(increment(value(old), NODE, 1, 15, 20), 15)
    records = [renamed_shards(record, 7) for record in (old, old, later, old)]
    merged_record = reduce(merge, records)
    assert total(value(merged_record)) == (120).to_bytes(8, "big")
    assert len(value(merged_record)) == SHARD_BYTES
    # Counted by the same node, but in another table.
    assert renamed_shards(old, 8) != renamed_shards(old, 7) != old


def test_a_count_that_comes_by_two_ways_counts_once() -> None:
    """Broken, a snapshot of a cluster that was restored from another one's counts twice what that one's says too."""
    first = counted(increment(None, NODE, 1, 10, 100), 10)
    here = renamed_shards(first, 7)
    second = merge(here, counted(increment(None, OTHER_NODE, 1, 20, 3), 20))
    for order in ([second, first], [first, second]):
        arrived = [renamed_shards(record, 7 if record is first else 9) for record in order]
        assert total(value(reduce(merge, arrived))) == (103).to_bytes(8, "big")


def test_what_was_restored_and_what_was_counted_then_are_two() -> None:
    """Broken, one of the two is lost by the next restore: a node counted in a table, and again since it was truncated
    and came back from a snapshot.
    """
    first = counted(increment(None, NODE, 1, 10, 100), 10)
    again = merge(renamed_shards(first, 7), counted(increment(None, NODE, 1, 20, 3), 20))
    records = [(TableKeys(COUNTERS).position([ONE]) + row_suffix(b""), again, 1, 1)]
    (piece,) = pieces(records, 7, counted_in=8)
    ((_, arrived),) = piece.mutation.writes
    assert total(value(arrived)) == (103).to_bytes(8, "big")
    assert len(value(arrived)) == 2 * SHARD_BYTES
