"""SELECT over replicas of which none has everything gives what a naive evaluation of the data gives.

If this fails, reads at a quorum find too much, too little or the wrong order: where chunks end in the midst of
partitions, where deleted rows lie between, where statics stand alone, or where one page ends and the next begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import chain, product
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cql.plan.selecting import SEAL, int_bytes, ints, options, schema_of, split_row
from tests.replication.ring import Net
from tests.replication.test_read_model import TABLE, Data, Query, data, queries

from ourodb import limits
from ourodb.cql.analysis.terms import Context
from ourodb.cql.plan.select import SelectPlan
from ourodb.cql.syntax.parser import parse
from ourodb.cql.wire.codes import Consistency
from ourodb.errors import ReadFailure
from ourodb.ports import NodeId
from ourodb.replication.coordinator.read import Read, rows_wanted
from ourodb.storage.keys import union
from ourodb.storage.mutation import Mutation, MutationBuilder
from ourodb.storage.row import PAUSE, LiveRow

GARBAGE, DELETION, DATA = 1, 2, 3
"""Timestamps."""


@contextmanager
def small_chunks(draw: Random) -> Iterator[None]:
    """Chunks of a few rows, keys, bytes or slices."""
    before = (
        limits.CHUNK_KEYS_PER_PASS,
        limits.CHUNK_ROWS_MAX,
        limits.CHUNK_BYTES_MAX,
        limits.CHUNK_SLICES_MAX,
    )
    limits.CHUNK_KEYS_PER_PASS = draw.choice([1, 2, 5, before[0]])  # type: ignore[misc]
    limits.CHUNK_ROWS_MAX = draw.choice([2, 3, before[1]])  # type: ignore[misc]
    limits.CHUNK_BYTES_MAX = draw.choice([1, 200, before[2]])  # type: ignore[misc]
    limits.CHUNK_SLICES_MAX = draw.choice([1, 2, before[3]])  # type: ignore[misc]
    try:
        yield
    finally:
        (
            limits.CHUNK_KEYS_PER_PASS,  # type: ignore[misc]
            limits.CHUNK_ROWS_MAX,  # type: ignore[misc]
            limits.CHUNK_BYTES_MAX,  # type: ignore[misc]
            limits.CHUNK_SLICES_MAX,  # type: ignore[misc]
        ) = before


class Replicated:
    """A ring that holds the rows of a model, each on a quorum, among what was deleted."""

    def __init__(self, model: Data, draw: Random, nodes: int) -> None:
        self.net = Net(TABLE, nodes)
        self.draw = draw
        self.keys = self.net.nodes[NodeId(1)].rows.keys
        self.pauses = 0
        for key in product(range(3), range(2)):
            self._fill(key, *model.get(key, (None, {})))

    def _fill(
        self, key: tuple[int, ...], static: int | None, rows: dict[tuple[int, ...], dict[str, int]]
    ) -> None:
        draw = self.draw
        everywhere = list(product(range(3), repeat=3))
        deletes_all = draw.random() < 0.5
        for clustering in draw.sample(everywhere, draw.choice([0, 3, 20])):
            self._put(key, clustering, {"v": 1, "w": 2}, GARBAGE, draw.randrange(1, 4))
            if not deletes_all:
                builder = self._builder(key, DELETION)
                if draw.random() < 0.5:
                    builder.row([int_bytes(part) for part in clustering]).delete()
                else:
                    a, b, c = [int_bytes(part) for part in clustering]
                    builder.delete_range(*self.keys.slice((a, b), c, True, c))
                self._hold(builder.build(), 2)
        if deletes_all:
            builder = self._builder(key, DELETION)
            builder.delete_partition()
            self._hold(builder.build(), 2)
        if static is not None:
            builder = self._builder(key, DATA)
            builder.static_row().cell(TABLE.columns["s"], int_bytes(static))
            self._hold(builder.build(), 2)
        for clustering, values in rows.items():
            self._put(key, clustering, values, DATA, 2)

    def _builder(self, key: tuple[int, ...], timestamp: int) -> MutationBuilder:
        position = self.keys.position([int_bytes(part) for part in key])
        return MutationBuilder(self.keys, position, timestamp, options().now_s)

    def _put(
        self,
        key: tuple[int, ...],
        clustering: tuple[int, ...],
        values: dict[str, int],
        timestamp: int,
        copies: int,
    ) -> None:
        builder = self._builder(key, timestamp)
        row = builder.row([int_bytes(part) for part in clustering])
        row.marker()
        for name, value in values.items():
            row.cell(TABLE.columns[name], int_bytes(value))
        self._hold(builder.build(), copies)

    def _hold(self, mutation: Mutation | None, copies: int) -> None:
        assert mutation is not None
        replicas = self.net.nodes[NodeId(1)].route(mutation.position).replicas.nodes
        for number in self.draw.sample(replicas, copies):
            self.net.nodes[number].hold(mutation)

    def select(self, text: str, page_size: int = 0) -> list[list[bytes | None]]:
        """All rows; each page is asked of any node."""
        statement = parse(text)
        context = Context(schema_of(TABLE), "ks", statement.markers)
        plan = SelectPlan(statement, TABLE, self.keys, context, text)  # type: ignore[arg-type]
        found: list[list[bytes | None]] = []
        state = None
        while True:
            read = self._page(plan, page_size, state)
            rows = [split_row(row) for row in read.rows]
            assert not page_size or len(rows) <= page_size
            found += rows
            state = read.paging_state
            if state is None:
                return found
            assert page_size

    def _page(self, plan: SelectPlan, page_size: int, state: bytes | None) -> Read:
        node = self.net.nodes[self.draw.choice(list(self.net.nodes))]
        read = Read(
            plan,
            [],
            options(page_size, state),
            lambda command: node.replicated(Consistency.QUORUM, rows_wanted(command)),
            SEAL,
        )
        while read.step() is not None:
            self.pauses += 1
            self.net.settle()
            waiting = read.waiting
            while waiting is not None and not waiting.is_done:
                self.net.deliver(self.draw.choice(self.net.messages))
        self.net.deliver_all()
        return read


@settings(max_examples=150, deadline=None)
@given(data, queries(), st.integers(0, 1 << 32))
def test_select_is_what_it_means(model: Data, query: Query, seed: int) -> None:
    draw = Random(seed)
    ring = Replicated(model, draw, draw.choice([3, 5]))
    text = query.text()
    expected = query.answer(model)
    with small_chunks(draw):
        assert [ints(row) for row in ring.select(text)] == expected, text
        if query.key_is_in and query.order:
            return  # such a statement can't be paged
        for page_size in (1, 2, 7):
            paged = [ints(row) for row in ring.select(text, page_size=page_size)]
            assert paged == expected, (text, page_size)
    assert all(node.peers.in_flight == 0 for node in ring.net.nodes.values())


def test_what_this_node_has_is_read_in_steps_too() -> None:
    """A scan of ranges that need nobody else must not hold the loop either."""
    net = Net(TABLE, 1, factor=1)
    node = net.nodes[NodeId(1)]
    keys = node.rows.keys
    for p in range(60):
        builder = MutationBuilder(keys, keys.position([int_bytes(p), int_bytes(0)]), 1, options().now_s)
        for c in range(100):
            row = builder.row([int_bytes(0), int_bytes(0), int_bytes(c)])
            row.cell(TABLE.columns["v"], int_bytes(c))
        mutation = builder.build()
        assert mutation is not None
        node.hold(mutation)
    stream = [*node.replicated(Consistency.ONE, 100).scan(options().now_s)]
    assert len(stream) - stream.count(PAUSE) == 6_000
    longest = max(len(run) for run in "".join("p" if row is PAUSE else "r" for row in stream).split("p"))
    assert longest <= limits.CHUNK_KEYS_PER_PASS + limits.ROWS_PER_STEP


def test_what_this_node_looks_at_in_vain_is_read_in_steps_too() -> None:
    """None of its partitions has a wanted row, so its chunks are empty."""
    net = Net(TABLE, 1, factor=1)
    node = net.nodes[NodeId(1)]
    keys = node.rows.keys
    for p in range(4_000):
        builder = MutationBuilder(keys, keys.position([int_bytes(p), int_bytes(0)]), 1, options().now_s)
        builder.row([int_bytes(0)] * 3).marker()
        mutation = builder.build()
        assert mutation is not None
        node.hold(mutation)
    slices = [keys.slice([int_bytes(7)])]
    rows = node.replicated(Consistency.ONE)
    before = rows.fetched
    for row in rows.scan(options().now_s, slices=slices):
        assert row is PAUSE
        assert rows.fetched - before <= 1 + limits.ROWS_PER_STEP
        before = rows.fetched
    stream = [*node.replicated(Consistency.ONE).scan(options().now_s, slices=slices)]
    assert len(stream) >= 4_000 // (limits.CHUNK_KEYS_PER_PASS + limits.ROWS_PER_STEP)


@pytest.mark.parametrize("reverse", [False, True])
def test_replicas_get_differently_far_through_slices_and_partitions_without_rows(reverse: bool) -> None:
    """One holds what nobody wants between the rows that the others have, so that its chunks end sooner."""
    net = Net(TABLE, 3)
    keys = net.nodes[NodeId(1)].rows.keys
    now_s = options().now_s
    wanted = [[int_bytes(c), int_bytes(c), int_bytes(c)] for c in (0, 9, 13, 19)]
    for p in range(30):
        position = keys.position([int_bytes(p), int_bytes(0)])
        for number, node in net.nodes.items():
            builder = MutationBuilder(keys, position, 1, now_s)
            if number == 3:
                for c in range(p % 4):
                    builder.row([int_bytes(50), int_bytes(0), int_bytes(c)]).marker()
            elif p % 5 == 0:
                for clustering in wanted:
                    builder.row(clustering).marker()
            mutation = builder.build()
            if mutation is not None:
                node.hold(mutation)
    numbers = range(20)
    slices = union([keys.slice([int_bytes(a), int_bytes(b)]) for a in numbers for b in numbers])
    in_order = sorted(keys.clustering(clustering) for clustering in wanted)
    draw = Random(1)
    for keys_per_chunk in (1, 7, 100, 1_024):
        with small_chunks(draw):
            limits.CHUNK_KEYS_PER_PASS = keys_per_chunk  # type: ignore[misc]
            node = net.nodes[NodeId(3)]
            positions = sorted(keys.position([int_bytes(p), int_bytes(0)]) for p in range(0, 30, 5))
            rows = node.replicated(Consistency.ALL)
            if reverse:
                stream = chain.from_iterable(rows.read(at, now_s, slices, reverse=True) for at in positions)
            else:
                stream = rows.scan(now_s, slices=slices)
            found = []
            for row in stream:
                net.deliver_all()
                if isinstance(row, LiveRow):
                    found.append((row.partition.position, row.clustering_key))
            clustering_keys = in_order[::-1] if reverse else in_order
            assert found == [(at, key) for at in positions for key in clustering_keys]


@pytest.mark.parametrize("keys_per_chunk", [1, 2, 3, 100])
def test_a_static_row_stands_alone_only_where_no_chunk_has_a_live_row(keys_per_chunk: int) -> None:
    """The last chunks of a partition hold nothing but what was deleted."""
    net = Net(TABLE, 3)
    node = net.nodes[NodeId(1)]
    keys = node.rows.keys
    now_s = options().now_s
    for p, live in ((1, True), (2, False)):
        builder = MutationBuilder(keys, keys.position([int_bytes(p), int_bytes(0)]), 1, now_s)
        builder.static_row().cell(TABLE.columns["s"], int_bytes(7))
        for c in range(5):
            row = builder.row([int_bytes(0), int_bytes(0), int_bytes(c)])
            if live and c == 0:
                row.marker()
            else:
                row.delete()
        mutation = builder.build()
        assert mutation is not None
        for holder in net.nodes.values():
            holder.hold(mutation)
    draw = Random(1)
    with small_chunks(draw):
        limits.CHUNK_KEYS_PER_PASS = keys_per_chunk  # type: ignore[misc]
        rows = node.replicated(Consistency.QUORUM)
        positions = sorted(keys.position([int_bytes(p), int_bytes(0)]) for p in (1, 2))
        streams = [rows.scan(now_s, static_alone=True)]
        streams.append(chain.from_iterable(rows.read(at, now_s, static_alone=True) for at in positions))
        for stream in streams:
            found = []
            for row in stream:
                if isinstance(row, LiveRow):
                    found.append((row.partition.values[0], row.clustering_key is None))
                net.deliver_all()
            assert sorted(found) == [(int_bytes(1), False), (int_bytes(2), True)]


def test_rows_that_are_gone_do_not_cost_a_round_each() -> None:
    """The next chunk is longer than the one in which nothing was found."""
    net = Net(TABLE, 3)
    node = net.nodes[NodeId(1)]
    keys = node.rows.keys
    position = keys.position([int_bytes(1), int_bytes(0)])
    for c in range(900):
        builder = MutationBuilder(keys, position, 1, options().now_s)
        builder.row([int_bytes(0), int_bytes(0), int_bytes(c)]).delete()
        if c == 0:
            builder.row([int_bytes(1), int_bytes(0), int_bytes(0)]).marker()
        mutation = builder.build()
        assert mutation is not None
        for holder in net.nodes.values():
            holder.hold(mutation)
    for read in ("read", "scan"):
        rows = node.replicated(Consistency.QUORUM, 2)
        now_s = options().now_s
        stream = rows.read(position, now_s) if read == "read" else rows.scan(now_s)
        found = 0
        for row in stream:
            found += row is not PAUSE
            net.deliver_all()
        assert found == 1
        assert rows.fetched < 10


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("rows", "SELECT v FROM t WHERE p = 1 AND q = 1"),
        ("rows", "SELECT v FROM t WHERE p = 1 AND q = 1 ORDER BY a DESC"),
        ("rows", "SELECT count(*) FROM t"),
        ("rows", "SELECT DISTINCT p, q FROM t"),
        ("ranges", "SELECT v FROM t WHERE p = 1 AND q = 1"),
        ("ranges", "SELECT v FROM t WHERE p = 1 AND q = 1 ORDER BY a DESC"),
        ("ranges", "SELECT count(*) FROM t"),
    ],
)
def test_tombstones_are_counted_over_all_chunks_and_replicas(how: str, text: str) -> None:
    """Past one bound the client is warned, past the other the read fails; both name the partition."""
    for count, warned, fails in ((900, False, False), (1_300, True, False), (2_600, True, True)):
        net = Net(TABLE, 3)
        for node in net.nodes.values():
            node.all_rows._tombstone_fail = 2_000
            node.rows = node.rows.__class__(node.store, TABLE, node.rows.use, 1_000, 2_000)
            node.all_rows._tables[TABLE.incarnation] = node.rows
        keys = net.nodes[NodeId(1)].rows.keys
        position = keys.position([int_bytes(1), int_bytes(1)])
        for c in range(count):
            builder = MutationBuilder(keys, position, 1, options().now_s)
            if how == "rows":
                builder.row([int_bytes(c), int_bytes(0), int_bytes(0)]).delete()
            else:
                builder.delete_range(*keys.slice((), int_bytes(c), True, int_bytes(c)))
            mutation = builder.build()
            assert mutation is not None
            net.nodes[NodeId(1 + c % 3)].hold(mutation)
            net.nodes[NodeId(1 + (c + 1) % 3)].hold(mutation)
        # The last row is live, so that every read must go through all of them.
        builder = MutationBuilder(keys, position, 2, options().now_s)
        for c in (-1, count + 1):
            builder.row([int_bytes(c), int_bytes(0), int_bytes(0)]).marker()
        mutation = builder.build()
        assert mutation is not None
        for node in net.nodes.values():
            node.hold(mutation)
        check_tombstones(
            net, text, warned="DISTINCT" not in text and warned, fails="DISTINCT" not in text and fails
        )


def check_tombstones(net: Net, text: str, *, warned: bool, fails: bool) -> None:
    statement = parse(text)
    context = Context(schema_of(TABLE), "ks", statement.markers)
    plan = SelectPlan(statement, TABLE, net.nodes[NodeId(1)].rows.keys, context, text)  # type: ignore[arg-type]
    read = Read(
        plan,
        [],
        options(),
        lambda command: net.nodes[NodeId(1)].replicated(Consistency.QUORUM, rows_wanted(command)),
        SEAL,
    )
    with pytest.raises(ReadFailure, match="p = 1 AND q = 1") if fails else nullcontext():
        while read.step() is not None:
            net.settle()
            net.deliver_all()
        assert ["p = 1 AND q = 1" in warning for warning in read.warnings] == [True] * warned
