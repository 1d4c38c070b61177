"""A state machine of hypothesis that runs a store beside the model and compares every read.

It is made for any implementation of ``ports.Store``: a subclass says how to open one and what a restart is. Writes are
random mutations of every kind, with timestamps that tie and clocks that move; the purge runs at random moments. Once
the purge may have let tombstones go, later writes are newer than all before, as gc grace asks of the real world.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from tests.storage.model import Clustering, Covers, Model, Written
from tests.storage.tables import COUNTERS, GC_GRACE_S, PLAIN, WIDE

from ourodb.cql.types.native import INT
from ourodb.ports import LATER, Later, Store
from ourodb.schema.model import Column, Table
from ourodb.storage import counter
from ourodb.storage.families import DATA
from ourodb.storage.keys import Slice, next_position, token_of, union
from ourodb.storage.memory import MemoryStore
from ourodb.storage.mutation import Mutation, MutationBuilder, RowBuilder, decode_mutation
from ourodb.storage.purge import purge
from ourodb.storage.row import LiveRow, Wait
from ourodb.storage.rows import Rows

NODE = bytes(range(16))
START_S = 1_700_000_000

TABLES = {"plain": PLAIN, "wide": WIDE, "counters": COUNTERS}

small = st.integers(0, 2)
ttls = st.sampled_from([0, 0, 0, 10, 5_000])


class LateStore:
    """Wraps a store: every third key that is asked for must be fetched first."""

    def __init__(self, store: Store, wait_for: Callable[[list[Any]], None]) -> None:
        """
        Args:
            wait_for: returns once there is something in the list.
        """
        self.inner = store
        self.wait_for = wait_for
        self.asked = 0
        self.fetched: set[bytes] = set()
        self.fetch = store.fetch
        self.scan = store.scan
        self.apply = store.apply
        self.delete_range = store.delete_range
        self.sync = store.sync
        self.follow_batches = store.follow_batches

    def get(self, family: int, key: bytes) -> bytes | None | Later:
        self.asked += 1
        if self.asked % 3 == 0 and key not in self.fetched:
            return LATER
        return self.inner.get(family, key)

    def complete(self, wait: Wait) -> None:
        self.fetched.add(wait.key)
        heard: list[Any] = []
        self.inner.fetch(DATA, wait.key, heard.append)
        self.wait_for(heard)


class RowsMachine(RuleBasedStateMachine):
    """See the module. Override ``open_store`` and ``reopen_store``, and ``close_store`` if there is something to do."""

    def open_store(self) -> Store:
        return MemoryStore()

    def reopen_store(self, store: Store) -> Store:
        """The store after a restart; a store in memory stays."""
        return store

    def close_store(self, store: Store) -> None:
        pass

    def wait_for(self, heard: list[Any]) -> None:
        """A store in memory answers at once."""

    @initialize()
    def open(self) -> None:
        self.store = self.open_store()
        self.late = LateStore(self.store, self.wait_for)
        self.rows = Rows(self.late)
        self.tables = {t.incarnation: t for t in TABLES.values()}
        self.models = {
            t.incarnation: Model(tuple(column.descending for column in t.clustering))
            for t in self.tables.values()
        }
        for t in self.tables.values():
            self.rows.register(t)
        self.now = START_S
        self.clock = 0
        self.least_timestamp = 0
        self.first_write_s = self.now

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.close_store(self.store)

    # Time

    @rule(seconds=st.sampled_from([1, 9, 10, 3_600, 5_000, GC_GRACE_S, 3 * GC_GRACE_S]))
    def pass_time(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def restart(self) -> None:
        self.store = self.reopen_store(self.store)
        self.late = LateStore(self.store, self.wait_for)
        self.rows = Rows(self.late)
        for t in self.tables.values():
            self.rows.register(t)

    @rule(keys_per_slice=st.sampled_from([1, 2, 512]))
    def run_purge(self, keys_per_slice: int) -> None:
        for _ in purge(self.rows, self.now, keys_per_slice=keys_per_slice):
            pass
        self.after_purge()
        for t in TABLES.values():
            self.check_scan(t, None)

    def after_purge(self) -> None:
        if self.now >= self.first_write_s + GC_GRACE_S:
            self.least_timestamp = self.clock + 10
            self.first_write_s = self.now

    # Writes

    @rule(data=st.data())
    def change_plain(self, data: st.DataObject) -> None:
        self.apply_all([self.change(PLAIN, data)])

    @rule(data=st.data())
    def change_wide(self, data: st.DataObject) -> None:
        self.apply_all([self.change(WIDE, data)])

    @rule(data=st.data(), name=st.sampled_from(["plain", "wide"]))
    def fill_and_cut(self, data: st.DataObject, name: str) -> None:
        """Every row of a partition, and ranges deleted out of it."""
        t = TABLES[name]
        rows, model = self.rows.register(t), self.models[t.incarnation]
        key = self.draw_key(t, data)
        partition = model.partition(key)
        builder = MutationBuilder(rows.keys, rows.keys.position(self.wire(key)), 0, self.now)
        timestamps = st.integers(0, 4).map(lambda offset: self.least_timestamp + offset)
        for row in product(range(3), repeat=len(t.clustering)):
            builder.timestamp = data.draw(timestamps)
            target = builder.row(self.wire(row))
            target.marker()
            partition.write(row, 0, None, self.written(builder, b"", 0))
        for _ in range(data.draw(st.integers(0, 3))):
            builder.timestamp = data.draw(timestamps)
            self.delete(t, builder, partition, "range", data)
        self.clock = max(self.clock, self.least_timestamp + 4)
        self.apply_all([builder.build()])

    @rule(data=st.data())
    def change_several(self, data: st.DataObject) -> None:
        self.apply_all([self.change(t, data) for t in (PLAIN, WIDE, WIDE)])

    @rule(data=st.data())
    def purge_beside_writes(self, data: st.DataObject) -> None:
        """Writes between the slices of a purge."""
        run = purge(self.rows, self.now, keys_per_slice=1)
        for _ in run:
            if data.draw(st.booleans()):
                # What is written meanwhile must not be shadowed by what the purge may let go.
                self.after_purge()
                self.apply_all([self.change(WIDE, data)])
        self.after_purge()

    @rule(data=st.data(), row=small, delta=st.integers(-3, 3), static=st.booleans())
    def count(self, data: st.DataObject, row: int, delta: int, static: bool) -> None:
        rows, model = self.rows.register(COUNTERS), self.models[COUNTERS.incarnation]
        key = (data.draw(small),)
        column = COUNTERS.columns["s" if static else "n"]
        position = rows.keys.position(self.wire(key))
        clustering_key = None if static else rows.keys.clustering(self.wire((row,)))
        timestamp = self.next_timestamp()
        while isinstance(shards := rows.get_shards(position, clustering_key, self.now), Wait):
            self.late.complete(shards)
        builder = MutationBuilder(rows.keys, position, timestamp, self.now)
        target = builder.static_row() if static else builder.row(self.wire((row,)))
        target.counter(column, counter.increment(shards.get(column.id), NODE, 1, timestamp, delta))
        at = None if static else (row,)
        model.partition(key).increments.setdefault((at, column.id), []).append((timestamp, delta))
        self.apply_all([builder.build()])

    @rule(data=st.data(), what=st.sampled_from(["row", "range", "partition"]))
    def delete_counters(self, data: st.DataObject, what: str) -> None:
        rows, model = self.rows.register(COUNTERS), self.models[COUNTERS.incarnation]
        key = (data.draw(small),)
        builder = MutationBuilder(
            rows.keys, rows.keys.position(self.wire(key)), self.next_timestamp(), self.now
        )
        self.delete(COUNTERS, builder, model.partition(key), what, data)
        self.apply_all([builder.build()])

    def next_timestamp(self) -> int:
        """Later than all before: the order of increments and deletions of counters matters."""
        self.clock = max(self.clock, self.least_timestamp) + 1
        return self.clock

    def change(self, t: Table, data: st.DataObject) -> Mutation | None:
        """A random mutation of one partition, noted in the model."""
        rows, model = self.rows.register(t), self.models[t.incarnation]
        key = self.draw_key(t, data)
        partition = model.partition(key)
        builder = MutationBuilder(rows.keys, rows.keys.position(self.wire(key)), 0, self.now)
        for _ in range(data.draw(st.integers(1, 4))):
            builder.timestamp = self.least_timestamp + data.draw(st.integers(0, 4))
            self.clock = max(self.clock, builder.timestamp)
            what = data.draw(
                st.sampled_from(
                    ["insert", "update", "insert", "update", "range", "row", "partition"]
                    + (["static"] if t.statics else [])
                )
            )
            if what in ("row", "range", "partition"):
                self.delete(t, builder, partition, what, data)
                continue
            ttl = data.draw(ttls)
            if what == "static":
                self.set_columns(t.statics, builder.static_row(), partition, None, ttl, data)
                continue
            row = self.draw_row(t, data)
            target = builder.row(self.wire(row))
            if what == "insert":
                target.marker(ttl)
                partition.write(row, 0, None, self.written(builder, b"", ttl))
            self.set_columns(t.regulars, target, partition, row, ttl, data)
        return builder.build()

    def set_columns(
        self,
        columns: tuple[Column, ...],
        target: RowBuilder,
        partition: Any,
        row: Clustering | None,
        ttl: int,
        data: st.DataObject,
    ) -> None:
        builder = target.builder
        chosen = data.draw(
            st.lists(st.sampled_from(columns), min_size=1, max_size=4, unique_by=lambda column: column.id)
        )
        for column in chosen:
            if not column.type.is_multicell:
                if data.draw(st.integers(0, 3)) == 0:
                    target.tombstone(column)
                    partition.write(row, column.id, None, Written(builder.timestamp, "tombstone"))
                else:
                    value = INT.encode(data.draw(small))
                    target.cell(column, value, ttl)
                    partition.write(row, column.id, None, self.written(builder, value, ttl))
                continue
            how = data.draw(st.sampled_from(["overwrite", "clear", "add", "add", "remove"]))
            deletions = partition.complex_deletions.setdefault((row, column.id), [])
            if how == "clear":
                target.clear(column)
                deletions.append(builder.timestamp)
                continue
            if how == "overwrite":
                target.overwrite(column)
                deletions.append(builder.timestamp - 1)
            for path in self.draw_paths(column, data):
                if how == "remove":
                    target.delete_element(column, path)
                    partition.write(row, column.id, path, Written(builder.timestamp, "tombstone"))
                else:
                    value = b"" if column.name == "e" else INT.encode(data.draw(small))
                    target.element(column, path, value, ttl)
                    partition.write(row, column.id, path, self.written(builder, value, ttl))

    def delete(
        self, t: Table, builder: MutationBuilder, partition: Any, what: str, data: st.DataObject
    ) -> None:
        if what == "partition":
            builder.delete_partition()
            partition.deletions.append(builder.timestamp)
        elif what == "row":
            row = self.draw_row(t, data)
            builder.row(self.wire(row)).delete()
            partition.row_deletions.setdefault(row, []).append(builder.timestamp)
        else:
            (start, end), covers = self.draw_slice(t, data)
            builder.delete_range(start, end)
            partition.ranges.append((covers, builder.timestamp))

    def written(self, builder: MutationBuilder, value: bytes, ttl: int) -> Written:
        if ttl:
            return Written(builder.timestamp, "expiring", builder.now_s + ttl, value, ttl)
        return Written(builder.timestamp, "live", 0, value)

    def apply_all(self, mutations: list[Mutation | None]) -> None:
        """Together, each as it would travel; whoever must wait asks again."""
        chosen = [decode_mutation(mutation.encode())[0] for mutation in mutations if mutation is not None]
        if len(chosen) == 1:
            while (wait := self.rows.apply(chosen[0], self.now)) is not None:
                self.late.complete(wait)
        elif chosen:
            while (wait := self.rows.apply_many(chosen, self.now)) is not None:
                self.late.complete(wait)

    # Reads

    @rule(data=st.data(), name=st.sampled_from([*TABLES]))
    def read_slices(self, data: st.DataObject, name: str) -> None:
        t = TABLES[name]
        rows, model = self.rows.register(t), self.models[t.incarnation]
        key = self.draw_key(t, data)
        slices, covers = self.draw_slices(t, data)
        position = rows.keys.position(self.wire(key))
        for reverse in (False, True):
            stream = rows.read(position, self.now, slices, reverse=reverse, pause_every=2)
            found = [(self.row_of(row), self.content(row)) for row in stream if isinstance(row, LiveRow)]
            assert found == model.read(key, self.now, covers, reverse)

    @rule(data=st.data(), name=st.sampled_from([*TABLES]))
    def read_each_row(self, data: st.DataObject, name: str) -> None:
        t = TABLES[name]
        rows, model = self.rows.register(t), self.models[t.incarnation]
        key = self.draw_key(t, data)
        position = rows.keys.position(self.wire(key))
        for row in product(range(3), repeat=len(t.clustering)):
            clustering_key = rows.keys.clustering(self.wire(row))
            while isinstance(found := rows.get_row(position, clustering_key, self.now), Wait):
                self.late.complete(found)
            assert (found and self.content(found)) == model.partition(key).row(row, self.now)
        while isinstance(partition := rows.get_partition(position, self.now), Wait):
            self.late.complete(partition)
        assert (partition.static and self.content(partition.static)) == model.static(key, self.now)

    @rule(data=st.data(), name=st.sampled_from([*TABLES]))
    def scan_table(self, data: st.DataObject, name: str) -> None:
        self.check_scan(TABLES[name], data)

    def check_scan(self, t: Table, data: st.DataObject | None) -> None:
        """The whole table, in pages when there is something to draw their sizes from."""
        rows, model = self.rows.register(t), self.models[t.incarnation]
        keys = rows.keys
        sliced = data is not None and data.draw(st.booleans())
        slices, covers = [keys.slice()], everything
        if data is not None and sliced:
            slices, covers = self.draw_slices(t, data)
        expected: list[Any] = []
        for key in sorted(model.partitions, key=lambda key: keys.position(self.wire(key))):
            partition_rows = model.read(key, self.now, covers)
            static = model.static(key, self.now)
            expected += [(key, static, row, content) for row, content in partition_rows]
            if static is not None and not partition_rows:
                expected.append((key, static, None, {}))

        found: list[Any] = []
        start, resume_after = b"", None
        while True:
            page = data.draw(st.integers(1, 4)) if data is not None else 1 << 30
            stream = rows.scan(
                self.now, start, None, slices, resume_after=resume_after, static_alone=True, pause_every=2
            )
            last = None
            for row in stream:
                if not isinstance(row, LiveRow):
                    continue
                last = row
                key = tuple(INT.decode(value) for value in row.partition.values)
                static = row.partition.static and self.content(row.partition.static)
                at = None if row.clustering_key is None else self.row_of(row)
                found.append((key, static, at, self.content(row) if at is not None else {}))
                page -= 1
                if page == 0:
                    break
            if page:
                break
            assert last is not None
            start = last.partition.position
            resume_after = last.clustering_key
            if resume_after is None:
                start = next_position(start)
        assert found == expected
        tokens = [token_of(keys.position(self.wire(entry[0]))) for entry in found]
        assert tokens == sorted(tokens)

    # What is drawn, and both forms of it

    def draw_key(self, t: Table, data: st.DataObject) -> tuple[int, ...]:
        """Few, so that what is written meets what was."""
        if len(t.partition_key) == 1:
            return (data.draw(small),)
        return (0, data.draw(st.integers(0, 1)))

    def draw_row(self, t: Table, data: st.DataObject) -> Clustering:
        if len(t.clustering) == 1:
            return (data.draw(small),)
        return (data.draw(small), data.draw(st.integers(0, 1)))

    def draw_paths(self, column: Column, data: st.DataObject) -> list[bytes]:
        names = data.draw(st.lists(small, min_size=1, max_size=3, unique=True))
        if column.name == "u":
            return [(name % 2).to_bytes(2, "big") for name in names[:1]]
        if column.name == "l":
            return [bytes((0, 0, 0, name)) + b"\x00\x00\x11\xec\x80\x00" + bytes(6) for name in names]
        if column.name == "e":
            return [INT.encode(name) for name in names]
        return [b"key%d" % name for name in names]

    def draw_slices(self, t: Table, data: st.DataObject) -> tuple[list[Slice], Covers]:
        """One or several."""
        chosen = [self.draw_slice(t, data) for _ in range(data.draw(st.integers(1, 3)))]
        return union([bounds for bounds, _ in chosen]), lambda row: any(covers(row) for _, covers in chosen)

    def draw_slice(self, t: Table, data: st.DataObject) -> tuple[Slice, Covers]:
        """A slice as bounds, and as a question to a row; limits are on the first column without equality."""
        keys = self.rows.register(t).keys
        equal = tuple(
            data.draw(small) for _ in range(data.draw(st.integers(0, max(0, len(t.clustering) - 1))))
        )
        lower = data.draw(st.none() | small)
        upper = data.draw(st.none() | small)
        lower_inclusive, upper_inclusive = data.draw(st.booleans()), data.draw(st.booleans())
        at = len(equal)

        def covers(row: Clustering) -> bool:
            if row[:at] != equal:
                return False
            if lower is not None and not (row[at] > lower or (lower_inclusive and row[at] == lower)):
                return False
            return upper is None or row[at] < upper or (upper_inclusive and row[at] == upper)

        bounds = keys.slice(
            self.wire(equal),
            None if lower is None else INT.encode(lower),
            lower_inclusive,
            None if upper is None else INT.encode(upper),
            upper_inclusive,
        )
        return bounds, covers

    def wire(self, values: tuple[int, ...]) -> list[bytes]:
        return [INT.encode(value) for value in values]

    def row_of(self, row: LiveRow) -> Clustering:
        return tuple(INT.decode(value) for value in row.clustering)

    def content(self, row: LiveRow) -> dict[Any, Any]:
        found: dict[Any, Any] = dict(row.cells)
        if row.marker is not None:
            timestamp, ttl, expires_at = row.marker
            found[0] = (b"", timestamp, ttl, expires_at)
        for column_id, elements in row.elements.items():
            assert elements
            paths = [element[0] for element in elements]
            assert paths == sorted(paths)
            for path, *rest in elements:
                found[column_id, path] = tuple(rest)
        return found


def everything(row: Clustering) -> bool:
    return True
