"""Random changes of all kinds, and replicas that get them in any order, at any time, or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from random import Random

from tests.storage.tables import COUNTERS, GC_GRACE_S, KEY_VALUE, NORMALIZING, PLAIN, UDT, WIDE, table

from ourodb.cql.types.base import CqlType
from ourodb.cql.types.collection import ListType, MapType, SetType
from ourodb.cql.types.native import COUNTER, DECIMAL, INT, TEXT
from ourodb.schema.model import Column, DroppedColumn, Table
from ourodb.storage import counter
from ourodb.storage.keys import Slice, TableKeys, union
from ourodb.storage.memory import MemoryStore
from ourodb.storage.mutation import Mutation, MutationBuilder, RowBuilder, decode_mutation
from ourodb.storage.purge import purge
from ourodb.storage.row import Wait
from ourodb.storage.rows import Rows, TableRows

START_S = 1_700_000_000

NARROW = table(
    [("p", INT)],
    [("c", INT, False)],
    [("s", INT), ("sm", MapType(INT, INT))],
    [("m", MapType(INT, INT))],
    1030,
)
"""Rows of which nothing but elements is stored."""


def without(t: Table, *names: str) -> Table:
    """The table once these columns are dropped."""
    columns = {name: column for name, column in t.columns.items() if name not in names}
    dropped = {name: DroppedColumn(name, t.columns[name].type, t.columns[name].kind, 0) for name in names}
    return replace(t, columns=columns, dropped=dropped)


TABLES = {
    "plain": PLAIN,
    "key-value": KEY_VALUE,
    "wide": WIDE,
    "narrow": NARROW,
    "counters": COUNTERS,
    "normalizing": NORMALIZING,
}


def values(kind: CqlType) -> list[bytes]:
    """A few values of a type; of decimals some that are equal in other bytes."""
    if kind is INT:
        return [INT.encode(number) for number in range(3)]
    if kind is TEXT:
        return [b"", b"a", b"ab"]
    assert kind is DECIMAL
    return [b"\0\0\0\0\x01", b"\0\0\0\x01\x0a", b"\0\0\0\0\x02"]


class Changes:
    """Makes random mutations of one table.

    Attributes:
        timestamp_max: the greatest timestamp so far.
    """

    def __init__(self, t: Table, draw: Random, partitions: int = 2) -> None:
        self.table = t
        self.draw = draw
        self.keys = TableKeys(t)
        choices = [values(column.type) for column in t.partition_key]
        self.positions = sorted(
            self.keys.position(key) for key in list(product(*choices))[: partitions + 1][-partitions:]
        )
        self.clusterings: list[tuple[bytes, ...]] = list(
            product(*(values(column.type) for column in t.clustering))
        )
        self.leaders = [Rows(MemoryStore()).register(t) for _ in range(2)] if t.is_counter else []
        self.timestamp_max = 0

    def random(self, now_s: int) -> Mutation:
        """A mutation of one partition, as its coordinator makes it."""
        while True:
            mutation = self._count(now_s) if self.table.is_counter else self._change(now_s)
            if mutation is not None:
                return mutation

    def slices(self) -> list[Slice]:
        """What a SELECT may ask for, at times nothing."""
        draw = self.draw
        if draw.random() < 0.4:
            return [(b"", b"\xff")]
        return union([self._slice() for _ in range(draw.randrange(4))])

    def bounds(self) -> list[bytes]:
        return sorted(bound for _ in range(4) for bound in self._slice())

    def _slice(self) -> Slice:
        draw, clustering = self.draw, self.table.clustering
        if not clustering:
            return (b"", b"\xff")
        equal = draw.randrange(len(clustering))
        choices = values(clustering[equal].type)
        return self.keys.slice(
            draw.choice(self.clusterings)[:equal],
            draw.choice([None, *choices]),
            draw.random() < 0.5,
            draw.choice([None, *choices]),
            draw.random() < 0.5,
        )

    def _change(self, now_s: int) -> Mutation | None:
        draw, t = self.draw, self.table
        builder = MutationBuilder(self.keys, draw.choice(self.positions), 0, now_s)
        for _ in range(draw.choice([1, 1, 2, 5])):
            builder.timestamp = draw.randrange(1, 8)
            self.timestamp_max = max(self.timestamp_max, builder.timestamp)
            what = draw.random()
            ttl = draw.choice([0, 0, 0, 10, 5_000, GC_GRACE_S])
            if what < 0.04:
                builder.delete_partition()
            elif what < 0.14 and t.clustering:
                builder.delete_range(*self._slice())
            elif what < 0.22:
                builder.row(draw.choice(self.clusterings)).delete()
            elif what < 0.35 and t.statics:
                self._set(builder.static_row(), t.statics, ttl)
            else:
                row = builder.row(draw.choice(self.clusterings))
                if draw.random() < 0.6:
                    row.marker(ttl)
                self._set(row, t.regulars, ttl)
        return builder.build()

    def _set(self, target: RowBuilder, columns: Sequence[Column], ttl: int) -> None:
        draw = self.draw
        for column in draw.sample(columns, draw.randrange(1, min(len(columns), 4) + 1)):
            if not column.type.is_multicell:
                if draw.random() < 0.2:
                    target.tombstone(column)
                else:
                    target.cell(column, draw.choice(values(column.type)), ttl)
                continue
            what = draw.random()
            if what < 0.15:
                target.clear(column)
                continue
            if what < 0.3:
                target.overwrite(column)
            for path, value in self._elements(column):
                if what < 0.45:
                    target.delete_element(column, path)
                else:
                    target.element(column, path, value, ttl)

    def _elements(self, column: Column) -> list[tuple[bytes, bytes]]:
        draw, kind = self.draw, column.type
        if kind is UDT:
            paths = [b"\0\0", b"\0\1"]
        elif isinstance(kind, ListType):
            paths = [bytes(6) + b"\x10" + bytes(8) + bytes([number]) for number in range(3)]
        elif isinstance(kind, SetType):
            return [(path, b"") for path in draw.sample(values(kind.element), 2)]
        else:
            assert isinstance(kind, MapType)
            paths = values(kind.key)
        return [(path, draw.choice(values(INT))) for path in draw.sample(paths, 2)]

    def _count(self, now_s: int) -> Mutation | None:
        """One increment by one of two leaders. Timestamps of counters only grow."""
        draw, t = self.draw, self.table
        self.timestamp_max += 1
        leader = draw.randrange(len(self.leaders))
        rows = self.leaders[leader]
        position = draw.choice(self.positions)
        clustering = draw.choice([None, *self.clusterings])
        clustering_key = None if clustering is None else self.keys.clustering(clustering)
        column = (t.statics if clustering is None else t.regulars)[0]
        assert column.type is COUNTER
        shards = rows.get_shards(position, clustering_key, now_s)
        assert not isinstance(shards, Wait)
        shard = counter.increment(
            shards.get(column.id), bytes([leader]) * 16, 1, self.timestamp_max, draw.randrange(-2, 3)
        )
        builder = MutationBuilder(self.keys, position, self.timestamp_max, now_s)
        row = builder.static_row() if clustering is None else builder.row(clustering)
        row.counter(column, shard)
        mutation = builder.build()
        assert mutation is not None
        assert rows.apply(mutation, now_s) is None
        return mutation

    def deletion(self, now_s: int) -> Mutation:
        """A deletion that is newer than all before."""
        self.timestamp_max += 1
        builder = MutationBuilder(self.keys, self.draw.choice(self.positions), self.timestamp_max, now_s)
        if self.table.clustering and self.draw.random() < 0.5:
            builder.delete_range(*self._slice())
        elif self.draw.random() < 0.5:
            builder.row(self.draw.choice(self.clusterings)).delete()
        else:
            builder.delete_partition()
        return builder.build() or self.deletion(now_s)


class Copy:
    """One replica of the table: a store, its rows, and its clock."""

    def __init__(self, t: Table, now_s: int = START_S) -> None:
        self.table = t
        self.all_rows = Rows(MemoryStore())
        self.rows: TableRows = self.all_rows.register(t)
        self.now_s = now_s

    def apply(self, mutation: Mutation) -> None:
        """As it arrives from elsewhere."""
        arrived = decode_mutation(mutation.encode())[0]
        assert self.rows.apply(arrived, self.now_s) is None

    def repair(self, mutation: Mutation) -> None:
        """What ``lacking`` found: deletions keep their age."""
        arrived = decode_mutation(mutation.encode())[0]
        arrived.stamped_at = self.now_s
        assert self.rows.apply(arrived, self.now_s) is None

    def purge(self) -> None:
        for _ in purge(self.all_rows, self.now_s):
            pass

    def drop_columns(self, t: Table) -> None:
        self.table = t
        self.rows = self.all_rows.register(t)

    def stored(self) -> list[tuple[bytes, bytes]]:
        return list(self.rows.store.scan(0, b"", b"\xff" * 8))


def scattered(changes: Sequence[Mutation], copies: Sequence[Copy], draw: Random, *, everything: bool) -> None:
    """Give every replica the changes in an order and at times of its own.

    Args:
        everything: all of them; else each change to one replica at least.
    """
    chosen: dict[int, list[Mutation]] = {index: [] for index in range(len(copies))}
    for change in changes:
        some = range(len(copies))
        if not everything:
            some = draw.sample(some, draw.randrange(1, len(copies) + 1))  # type: ignore[assignment]
        for index in some:
            chosen[index].append(change)
    for index, copy in enumerate(copies):
        mine = chosen[index]
        draw.shuffle(mine)
        for change in mine + mine[: draw.randrange(2)]:
            copy.now_s += draw.choice([0, 0, 1, 7])
            copy.apply(change)


def changes_of(changes: Changes, count: int, now_s: int = START_S) -> Iterator[Mutation]:
    for _ in range(count):
        yield changes.random(now_s)
