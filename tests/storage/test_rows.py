"""Rows: what the state machine doesn't ask of them: waiting, laziness, skipping, dropped columns, dropped tables."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from types import MappingProxyType

import pytest
from tests.storage.tables import NORMALIZING, PLAIN, WIDE

from ourodb.cql.types.native import DECIMAL, INT
from ourodb.errors import Overloaded
from ourodb.ports import LATER, Later, Write
from ourodb.schema.model import DroppedColumn, Table
from ourodb.storage.apply import UnknownIncarnation
from ourodb.storage.families import DATA, EXPIRY, METADATA
from ourodb.storage.keys import next_position
from ourodb.storage.memory import MemoryStore
from ourodb.storage.mutation import Mutation, MutationBuilder, row_suffix
from ourodb.storage.record import UniformShape
from ourodb.storage.row import PAUSE, LivePartition, LiveRow, Pause, Wait
from ourodb.storage.rows import Rows, TableRows
from ourodb.storage.scan import SKIP_KEYS_MAX

NOW = 1_700_000_000
ONE, TWO, THREE = (INT.encode(number) for number in (1, 2, 3))
END = b"\xff" * 40


class ColdStore(MemoryStore):
    """Answers LATER until a key was fetched, counts what is scanned, and refuses writes when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.warm: set[bytes] = set()
        self.scanned = 0
        self.full = False

    def get(self, family: int, key: bytes) -> bytes | None | Later:
        return super().get(family, key) if key in self.warm else LATER

    def fetch(self, family: int, key: bytes, done: Callable[[bytes | None | Exception], None]) -> None:
        self.warm.add(key)
        super().fetch(family, key, done)

    def scan(
        self, family: int, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        for pair in super().scan(family, start, end, reverse=reverse):
            self.scanned += 1
            yield pair

    def apply(self, writes: Iterable[Write]) -> None:
        if self.full:
            raise Overloaded("full")
        super().apply(writes)


def insert(rows: TableRows, p: bytes, *clustering: bytes, timestamp: int = 10, ttl: int = 0) -> Mutation:
    builder = MutationBuilder(
        rows.keys, rows.keys.position([p] * rows.keys.partition_columns), timestamp, NOW
    )
    row = builder.row(clustering)
    row.marker(ttl)
    row.cell(rows.table.columns["v"], ONE, ttl)
    mutation = builder.build()
    assert mutation is not None
    return mutation


def live(stream: Iterable[LiveRow | Pause]) -> list[LiveRow]:
    return [row for row in stream if isinstance(row, LiveRow)]


def opened(table: Table) -> TableRows:
    return Rows(MemoryStore()).register(table)


def test_write_that_must_wait_writes_nothing() -> None:
    """Half of a mutation in the store would be half a mutation after a crash."""
    store = ColdStore()
    rows = Rows(store).register(WIDE)
    builder = MutationBuilder(rows.keys, rows.keys.position([ONE, ONE]), 10, NOW)
    builder.static_row().cell(WIDE.columns["s"], ONE)
    builder.row([ONE, ONE]).marker()
    mutation = builder.build()
    assert mutation is not None
    waits = 0
    while (wait := rows.apply(mutation, NOW)) is not None:
        assert isinstance(wait, Wait)
        assert not list(MemoryStore.scan(store, DATA, b"", END))
        assert not rows.use.has_headers
        store.fetch(DATA, wait.key, lambda value: None)
        waits += 1
    assert waits == 1, "what it needs is fetched in one go"
    assert len(list(MemoryStore.scan(store, DATA, b"", END))) == 2


def test_read_that_must_wait_says_for_what() -> None:
    store = ColdStore()
    rows = Rows(store).register(PLAIN)
    position, clustering_key = rows.keys.position([ONE]), rows.keys.clustering([ONE])
    wait = rows.get_row(position, clustering_key, NOW)
    assert isinstance(wait, Wait)
    assert wait.key == rows.keys.row_key(position, clustering_key)
    store.fetch(DATA, wait.key, lambda value: None)
    assert rows.get_row(position, clustering_key, NOW) is None


def test_refused_write_leaves_no_belief_behind() -> None:
    """Flags and index entries count as stored only once they are: else later writes would leave them out."""
    store = ColdStore()
    rows = Rows(store).register(WIDE)
    mutation = insert(rows, ONE, ONE, ONE, ttl=10)
    builder = MutationBuilder(rows.keys, mutation.position, 10, NOW)
    builder.delete_partition()
    deletion = builder.build()
    assert deletion is not None
    for key, _ in [(mutation.writes[0][0], 0), (b"\x10", 0)]:
        store.warm.add(rows.keys.prefix(mutation.position) + key)
    store.full = True
    for refused in (mutation, deletion):
        with pytest.raises(Overloaded):
            rows.apply(refused, NOW)
    assert not rows.use.has_headers
    store.full = False
    rows.apply(mutation, NOW)
    rows.apply(deletion, NOW)
    assert rows.use.has_headers
    assert len(list(store.scan(EXPIRY, b"", END))) == 1
    assert len(list(store.scan(METADATA, b"", END))) == 1


def test_plain_table_reads_one_key_for_one_row() -> None:
    store = ColdStore()
    rows = Rows(store).register(PLAIN)
    mutation = insert(rows, ONE, ONE)
    store.warm.add(rows.keys.prefix(mutation.position) + mutation.writes[0][0])
    rows.apply(mutation, NOW)
    store.scanned = 0
    assert isinstance(rows.get_row(mutation.position, rows.keys.clustering([ONE]), NOW), LiveRow)
    assert store.scanned == 0


@pytest.mark.parametrize("what", ["static", "static element", "range", "partition"])
def test_headers_are_found_after_a_restart(what: str) -> None:
    """Reads skip headers until the table's first; that must be as durable as the header."""
    store = MemoryStore()
    rows = Rows(store).register(WIDE)
    rows.apply(insert(rows, ONE, ONE, ONE), NOW)
    builder = MutationBuilder(rows.keys, rows.keys.position([ONE, ONE]), 20, NOW)
    if what == "static":
        builder.static_row().cell(WIDE.columns["s"], ONE)
    elif what == "static element":
        builder.static_row().element(WIDE.columns["sm"], b"k", ONE)
    elif what == "range":
        builder.delete_range(*rows.keys.slice())
    else:
        builder.delete_partition()
    mutation = builder.build()
    assert mutation is not None
    rows.apply(mutation, NOW)
    for reopened in (rows, Rows(store).register(WIDE)):
        row = reopened.get_row(mutation.position, rows.keys.clustering([ONE, ONE]), NOW)
        partition = reopened.get_partition(mutation.position, NOW)
        assert isinstance(partition, LivePartition)
        scanned = live(reopened.scan(NOW))
        if what.startswith("static"):
            assert isinstance(row, LiveRow)
            assert partition.static is not None
            assert scanned[0].partition.static is not None
        else:
            assert row is None
            assert not scanned


def test_two_versions_of_a_table_share_what_is_known_of_its_keys() -> None:
    """A statement compiled before an ALTER must see a deletion that one compiled after it wrote."""
    all_rows = Rows(MemoryStore())
    old = all_rows.register(WIDE)
    new = all_rows.register(replace(WIDE, name="t"))
    assert new is not old
    old.apply(insert(old, ONE, ONE, ONE), NOW)
    builder = MutationBuilder(new.keys, new.keys.position([ONE, ONE]), 20, NOW)
    builder.delete_partition()
    deletion = builder.build()
    assert deletion is not None
    new.apply(deletion, NOW)
    assert old.get_row(deletion.position, old.keys.clustering([ONE, ONE]), NOW) is None


def test_uniform_row_keeps_its_bytes_for_the_encoder() -> None:
    rows = opened(PLAIN)
    mutation = insert(rows, ONE, ONE)
    rows.apply(mutation, NOW)
    row = rows.get_row(mutation.position, rows.keys.clustering([ONE]), NOW)
    assert isinstance(row, LiveRow)
    assert row.record == mutation.writes[0][1]
    assert row.cells == {1: (ONE, 10, 0, 0)}
    assert row.marker == (10, 0, 0)
    assert row.clustering == (ONE,)
    assert row.partition.values == (ONE,)


def test_values_come_back_as_they_were_written() -> None:
    """decimal 1.00 and 1.0 are one row, and the newer insert's bytes are shown."""
    rows = opened(NORMALIZING)
    written = [DECIMAL.parse("1.00"), DECIMAL.parse("1.000"), DECIMAL.parse("1.0")]
    for timestamp, value in zip((10, 30, 20), written, strict=True):
        builder = MutationBuilder(rows.keys, rows.keys.position([ONE]), timestamp, NOW)
        row = builder.row([value])
        row.marker()
        row.element(NORMALIZING.columns["e"], value, b"")
        mutation = builder.build()
        assert mutation is not None
        rows.apply(mutation, NOW)
    (found,) = live(rows.read(rows.keys.position([ONE]), NOW))
    assert found.clustering == (written[1],)
    assert [element[0] for element in found.elements[2]] == [written[1]]


def test_rest_of_a_partition_can_be_skipped() -> None:
    """DISTINCT over wide partitions seeks; it doesn't step through their rows."""
    store = ColdStore()
    for table in (PLAIN, WIDE):
        rows = Rows(store).register(table)
        if table is WIDE:
            rows.use.has_headers = True
        for p in (ONE, TWO, THREE):
            for number in range(200):
                clustering = [INT.encode(number)] * len(table.clustering)
                mutation = insert(rows, p, *clustering)
                store.warm.add(rows.keys.prefix(mutation.position) + mutation.writes[0][0])
                rows.apply(mutation, NOW)
        store.scanned = 0
        found = []
        for row in rows.scan(NOW):
            if isinstance(row, LiveRow):
                found.append(row.partition.values[0])
                row.partition.done = True
        assert sorted(found) == sorted([ONE, TWO, THREE])
        assert store.scanned < 200


def test_scan_of_slices_seeks_to_them() -> None:
    store = ColdStore()
    rows = Rows(store).register(PLAIN)
    for number in range(500):
        mutation = insert(rows, ONE, INT.encode(number))
        store.warm.add(rows.keys.prefix(mutation.position) + mutation.writes[0][0])
        rows.apply(mutation, NOW)
    store.scanned = 0
    found = live(rows.scan(NOW, slices=[rows.keys.slice((), INT.encode(400), True, INT.encode(402))]))
    assert [row.clustering[0] for row in found] == [INT.encode(number) for number in (400, 401, 402)]
    assert store.scanned < 200


def test_scan_between_positions() -> None:
    rows = opened(PLAIN)
    positions = sorted(rows.keys.position([INT.encode(number)]) for number in range(9))
    for number in range(9):
        rows.apply(insert(rows, INT.encode(number), ONE), NOW)
    stream = rows.scan(NOW, positions[2], positions[5])
    assert [row.partition.position for row in live(stream)] == positions[2:5]
    stream = rows.scan(NOW, next_position(positions[6]), None)
    assert [row.partition.position for row in live(stream)] == positions[7:]


@pytest.mark.parametrize("token_byte", [0x00, 0x7F, 0x80, 0xFE, 0xFF])
def test_scan_begins_with_whatever_token_comes_first(token_byte: int) -> None:
    """In a table of few rows that may be any, up to the greatest."""
    rows = opened(PLAIN)
    keys = (INT.encode(number) for number in itertools.count())
    found = itertools.islice((key for key in keys if rows.keys.position([key])[0] == token_byte), 3)
    written = sorted(found, key=lambda key: rows.keys.position([key]))
    for key in written:
        rows.apply(insert(rows, key, ONE), NOW)
    scanned = live(rows.scan(NOW))
    assert [(row.partition.values, row.clustering) for row in scanned] == [
        ((key,), (ONE,)) for key in written
    ]


def test_long_reads_pause() -> None:
    rows = opened(PLAIN)
    for number in range(10):
        rows.apply(insert(rows, ONE, INT.encode(number)), NOW)
    position = rows.keys.position([ONE])
    assert [row is PAUSE for row in rows.read(position, NOW, pause_every=5)].count(True) == 2
    assert [row is PAUSE for row in rows.scan(NOW, pause_every=5)].count(True) == 2
    assert all(row is not PAUSE for row in rows.read(position, NOW))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("table", [PLAIN, WIDE], ids=["plain", "wide"])
def test_reads_of_many_slices_pause(table: Table, reverse: bool) -> None:
    """``c IN (...)``: hardly a slice has a row, and none has as many as a pause takes."""
    rows = opened(table)
    position = rows.keys.position([ONE] * len(table.partition_key))
    builder = MutationBuilder(rows.keys, position, 5, NOW)
    for number in (100, 101, 399):
        builder.row([INT.encode(number), ONE][: len(table.clustering)]).marker()
    mutation = builder.build()
    assert mutation is not None
    rows.apply(mutation, NOW)
    slices = [rows.keys.slice([INT.encode(number)]) for number in range(400)]
    stream = list(rows.read(position, NOW, slices, reverse=reverse, pause_every=20))
    assert len(stream) - stream.count(PAUSE) == 3
    assert stream.count(PAUSE) == (400 + 3) // 20
    assert PAUSE not in list(rows.read(position, NOW, slices, reverse=reverse))


@pytest.mark.parametrize("count", [SKIP_KEYS_MAX // 2, 2 * SKIP_KEYS_MAX])
def test_a_scan_that_wants_one_row_of_each_partition_pauses_too(count: int) -> None:
    rows = opened(PLAIN)
    for partition in range(20):
        for number in range(count):
            rows.apply(insert(rows, INT.encode(partition), INT.encode(number)), NOW)
    pauses, found = 0, 0
    for row in rows.scan(NOW, pause_every=2 * SKIP_KEYS_MAX):
        if row is PAUSE:
            pauses += 1
        else:
            found += 1
            row.partition.done = True
    assert found == 20
    assert 3 <= pauses <= 20


@pytest.mark.parametrize("table", [PLAIN, WIDE])
def test_holes_cut_by_ranges(table: Table) -> None:
    """Several ranges in one partition, read by row, in both directions, and in several slices."""
    rows = opened(table)
    keys = rows.keys
    for number in range(12):
        rows.apply(insert(rows, ONE, *[INT.encode(number)] * len(table.clustering)), NOW)
    position = keys.position([ONE] * keys.partition_columns)
    builder = MutationBuilder(keys, position, 20, NOW)
    for first, last in ((2, 3), (6, 6), (9, 10)):
        builder.delete_range(*keys.slice((), INT.encode(first), True, INT.encode(last)))
    mutation = builder.build()
    assert mutation is not None
    rows.apply(mutation, NOW)

    left = [0, 1, 4, 5, 7, 8, 11]
    for number in range(12):
        row = rows.get_row(position, keys.clustering([INT.encode(number)] * len(table.clustering)), NOW)
        assert (row is not None) == (number in left)
    for reverse in (False, True):
        found = [INT.decode(row.clustering[0]) for row in live(rows.read(position, NOW, reverse=reverse))]
        assert found == (left[::-1] if reverse else left)
        slices = [keys.slice((), INT.encode(low), True, INT.encode(low + 3)) for low in (1, 5, 9)]
        found = [
            INT.decode(row.clustering[0]) for row in live(rows.read(position, NOW, slices, reverse=reverse))
        ]
        assert found == ([11, 8, 7, 5, 4, 1] if reverse else [1, 4, 5, 7, 8, 11])


def test_cell_of_a_dropped_column_makes_no_row_live() -> None:
    """UPDATE of a column, DROP of it: the row is gone, but an inserted one stays."""
    store = MemoryStore()
    rows = Rows(store).register(PLAIN)
    shape = UniformShape([1], marker=False)
    position = rows.keys.position([ONE])
    record = shape.record(10, b"\x00\x00\x00\x04" + ONE)
    rows.apply(
        Mutation(PLAIN.incarnation, position, [(row_suffix(rows.keys.clustering([ONE])), record)]), NOW
    )
    rows.apply(insert(rows, ONE, TWO), NOW)
    columns = {name: column for name, column in PLAIN.columns.items() if name != "v"}
    old = PLAIN.columns["v"]
    dropped = {"v": DroppedColumn("v", old.type, old.kind, 20)}
    after = Rows(store).register(replace(PLAIN, columns=columns, dropped=MappingProxyType(dropped)))
    assert [row.clustering for row in live(after.read(position, NOW))] == [(TWO,)]
    assert [row.clustering for row in live(after.scan(NOW))] == [(TWO,)]
    assert after.get_row(position, rows.keys.clustering([ONE]), NOW) is None


def test_dropped_table_is_gone_and_takes_no_writes() -> None:
    store = MemoryStore()
    all_rows = Rows(store)
    rows, other = all_rows.register(WIDE), all_rows.register(PLAIN)
    mutation = insert(rows, ONE, ONE, ONE)
    all_rows.apply(mutation, NOW)
    all_rows.apply(insert(other, ONE, ONE), NOW)
    all_rows.drop(WIDE.incarnation)
    assert [key[:4] for key, _ in store.scan(DATA, b"", END)] == [other.keys.incarnation]
    with pytest.raises(UnknownIncarnation):
        all_rows.apply(mutation, NOW)
    with pytest.raises(UnknownIncarnation):
        all_rows.apply_many([insert(other, TWO, TWO), mutation], NOW)
    assert other.get_row(other.keys.position([TWO]), other.keys.clustering([TWO]), NOW) is None


def test_same_key_twice_in_one_batch_is_merged() -> None:
    """A logged batch may hold two mutations of one partition."""
    all_rows = Rows(MemoryStore())
    rows = all_rows.register(PLAIN)
    first, second = insert(rows, ONE, ONE, timestamp=20), insert(rows, ONE, ONE, timestamp=10)
    second.writes[0] = (second.writes[0][0], UniformShape([2]).record(10, b"\x00\x00\x00\x01w"))
    all_rows.apply_many([first, second], NOW)
    row = rows.get_row(first.position, rows.keys.clustering([ONE]), NOW)
    assert isinstance(row, LiveRow)
    assert row.cells == {1: (ONE, 20, 0, 0), 2: (b"w", 10, 0, 0)}
