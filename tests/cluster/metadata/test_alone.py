"""The metadata of a node alone, over a store in memory that syncs when it is told to.

If these failed, a client could be told of a table that a crash then takes back, or a node alone would not be ready.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cluster.metadata.changes import CLUSTER, keyspace, table
from tests.cluster.metadata.world import Outcome, World

from ourodb import limits
from ourodb.cluster.metadata.entries import ENTRY_PREFIX, entry_key
from ourodb.cluster.metadata.metadata import Metadata
from ourodb.cluster.metadata.submissions import Applied
from ourodb.cluster.metadata.view import ClusterView
from ourodb.errors import AlreadyExists, InvalidRequest, OuroError, Overloaded, StoreDamaged, StoreError
from ourodb.ports import Ports, Write
from ourodb.schema.changes import (
    AddColumns,
    AlterTableOptions,
    Change,
    ColumnSpec,
    DropKeyspace,
    SchemaChangeEvent,
    TruncateTable,
)
from ourodb.schema.model import Schema
from ourodb.storage.families import LOG
from ourodb.storage.memory import MemoryStore


class SlowStore(MemoryStore):
    """Syncs when ``settle_now`` is called; keeps what a crash would leave."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Callable[[Exception | None], None]] = []
        self.refuses: OuroError | None = None
        self.unsynced: list[list[Write]] = []
        self.synced: list[list[Write]] = []
        self.syncs = 0

    def apply(self, writes: Iterable[Write]) -> None:
        if self.refuses is not None:
            raise self.refuses
        batch = list(writes)
        self.unsynced.append(batch)
        super().apply(batch)

    def sync(self, done: Callable[[Exception | None], None]) -> None:
        self.waiting.append(done)
        self.syncs += 1

    def settle_now(self, error: Exception | None = None) -> None:
        """One fsync: those who asked until now are answered."""
        if error is None:
            self.synced += self.unsynced
            self.unsynced = []
        waiting, self.waiting = self.waiting, []
        for done in waiting:
            done(error)

    def settle_all(self) -> None:
        """Fsyncs until nobody waits."""
        while self.waiting:
            self.settle_now()

    def after_crash(self) -> SlowStore:
        """A store that holds only what was synced."""
        left = SlowStore()
        for batch in self.synced:
            left.apply(batch)
        left.settle_now()
        return left


class Alone:
    """One node over a store."""

    def __init__(self, store: MemoryStore) -> None:
        self.world = World()
        node = self.node = self.world.node()
        ports = Ports(node, node, node, store, node, lambda: None)
        self.metadata = Metadata(ports, node.host_id, lambda _: None, lambda _: False, node.send)
        self.metadata.recover()
        if self.metadata.me:
            self.metadata.start()
        else:
            self.metadata.found("ring", node.member, CLUSTER)
        if isinstance(store, SlowStore):
            store.settle_all()

    @property
    def schema(self) -> Schema:
        return self.metadata.view.schema

    def submit(self, change: Change) -> list[Outcome]:
        outcome: list[Outcome] = []
        self.metadata.submit(change, outcome.append)
        return outcome


def test_a_node_alone_is_ready_before_any_time_has_passed() -> None:
    """Waiting for an election would make each start a second longer."""
    alone = Alone(MemoryStore())
    begun_ms = alone.world.now_ms
    [outcome] = alone.submit(keyspace("app"))
    assert isinstance(outcome, Applied)
    assert alone.metadata.leader == alone.metadata.me == 1
    assert alone.world.now_ms == begun_ms


def test_a_change_is_in_force_once_it_is_on_disk_and_not_before() -> None:
    """A client that was told of a table which a crash then takes back has lost its writes."""
    store = SlowStore()
    alone = Alone(store)
    told: list[tuple[ClusterView, tuple[SchemaChangeEvent, ...]]] = []
    alone.metadata.listen(lambda view, events: told.append((view, events)))
    syncs, epoch = store.syncs, alone.metadata.epoch
    seen = alone.submit(keyspace("app"))
    assert not seen
    assert not told
    assert "app" not in alone.schema.keyspaces
    store.settle_now()
    [outcome] = seen
    assert isinstance(outcome, Applied)
    assert outcome.view is alone.metadata.view
    assert outcome.events == (SchemaChangeEvent("CREATED", "KEYSPACE", "app"),)
    assert outcome.warnings == ()
    assert told == [(alone.metadata.view, outcome.events)]
    assert alone.metadata.epoch == epoch + 1
    assert store.syncs == syncs + 1


def test_many_changes_at_once_share_their_waiting_but_not_their_fate() -> None:
    store = SlowStore()
    alone = Alone(store)
    alone.submit(keyspace("app"))
    store.settle_all()
    outcomes = [alone.submit(table(name)) for name in ("t", "u", "t")]
    store.settle_all()
    assert [type(outcome[0]) for outcome in outcomes] == [Applied, Applied, AlreadyExists]
    assert list(alone.schema.keyspaces["app"].tables) == ["t", "u"]


def test_a_change_that_does_not_fit_is_never_written() -> None:
    store = SlowStore()
    alone = Alone(store)
    alone.submit(keyspace("app"))
    store.settle_all()
    written = list(store.synced)
    [outcome] = alone.submit(keyspace("app"))
    assert isinstance(outcome, AlreadyExists)
    assert store.synced == written
    assert not any(family == LOG for batch in store.unsynced for family, _, _ in batch)


def test_nothing_to_do_is_answered_without_an_entry() -> None:
    alone = Alone(MemoryStore())
    epoch = alone.metadata.epoch
    [outcome] = alone.submit(DropKeyspace("nope", if_exists=True))
    assert isinstance(outcome, Applied)
    assert outcome.events == ()
    assert alone.metadata.epoch == epoch


def test_truncate_is_told_to_listeners_though_clients_hear_of_no_event() -> None:
    """Who deletes the rows of old incarnations listens for it."""
    alone = Alone(MemoryStore())
    for change in (keyspace("app"), table("t")):
        alone.submit(change)
    told: list[tuple[SchemaChangeEvent, ...]] = []
    alone.metadata.listen(lambda _, events: told.append(events))
    alone.submit(TruncateTable("app", "t"))
    assert told == [()]


def test_a_store_that_refuses_leaves_everything_as_it_was() -> None:
    """A disk that is full for a moment must not end the life of the log."""
    store = SlowStore()
    alone = Alone(store)
    epoch = alone.metadata.epoch
    store.refuses = Overloaded("stalled")
    assert alone.submit(keyspace("app")) == [store.refuses]
    assert alone.submit(keyspace("app")) == [store.refuses]
    alone.world.run(3 * limits.METADATA_RESUME_MS)
    assert alone.submit(keyspace("app")) == [store.refuses]
    store.refuses = None
    alone.world.run(2 * limits.METADATA_RESUME_MS)
    store.settle_all()
    assert alone.metadata.leader
    seen = alone.submit(keyspace("app"))
    store.settle_all()
    assert isinstance(seen[0], Applied)
    # The leader of each new term begins with an entry of its own.
    assert alone.metadata.epoch > epoch
    reopened = Alone(store.after_crash())
    assert reopened.schema == alone.schema


def test_a_write_that_was_refused_at_the_sync_is_as_if_it_was_never_made() -> None:
    """The store forgets what it couldn't settle, and says so only then."""
    store = SlowStore()
    alone = Alone(store)
    forgotten = list(store.scan(LOG, b"", b"\xff" * 32))
    seen = alone.submit(keyspace("app"))
    for key, _ in list(store.scan(LOG, b"", b"\xff" * 32)):
        if key not in dict(forgotten):
            store.apply([(LOG, key, None)])
    error = Overloaded("stalled")
    store.settle_now(error)
    assert seen == [error]
    alone.world.run(2 * limits.METADATA_RESUME_MS)
    store.settle_all()
    again = alone.submit(keyspace("app"))
    store.settle_all()
    assert isinstance(again[0], Applied)


def test_after_a_failed_sync_nothing_more_is_promised() -> None:
    """After a failed fsync the kernel may have dropped the pages: a later success would say nothing."""
    store = SlowStore()
    alone = Alone(store)
    seen = [alone.submit(keyspace("app")), alone.submit(keyspace("other"))]
    store.settle_now(OSError("disk on fire"))
    assert [type(outcome[0]) for outcome in seen] == [StoreError, StoreError]
    assert "app" not in alone.schema.keyspaces
    assert isinstance(alone.submit(keyspace("third"))[0], StoreError)
    alone.world.run(10 * limits.METADATA_RESUME_MS)
    assert isinstance(alone.submit(keyspace("third"))[0], StoreError)
    assert alone.metadata.fault is not None


def test_snapshots_replace_the_entries_that_led_to_them() -> None:
    """Without them the log and the time to start grow for ever."""
    store = SlowStore()
    alone = Alone(store)
    for change in (keyspace("app"), table("t")):
        alone.submit(change)
        store.settle_all()
    for number in range(5 * limits.METADATA_ENTRIES_PER_SNAPSHOT):
        alone.submit(AlterTableOptions("app", "t", {"gc_grace_seconds": str(number)}))
        store.settle_all()
        entries = list(store.scan(LOG, ENTRY_PREFIX, ENTRY_PREFIX + b"\xff" * 9))
        assert len(entries) <= 2 * limits.METADATA_ENTRIES_PER_SNAPSHOT
        if number % 37 == 0:
            assert Alone(store.after_crash()).schema == alone.schema


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=90))
def test_a_crash_leaves_what_was_acknowledged(steps: list[tuple[int, bool]]) -> None:
    """The schema after a crash is the one of the last acknowledged change, or a later one; never another."""
    store = SlowStore()
    alone = Alone(store)
    store.synced += store.unsynced
    store.unsynced = []
    acknowledged = [alone.schema]

    def keep(outcome: Outcome) -> None:
        if isinstance(outcome, Applied):
            acknowledged.append(outcome.view.schema)

    for number, (kind, sync) in enumerate(steps):
        change = [
            keyspace("app"),
            table(f"t{number % 7}"),
            TruncateTable("app", "t1"),
            AddColumns("app", "t2", (ColumnSpec(f"c{number}", "int"),)),
            AlterTableOptions("app", "t3", {"comment": str(number)}),
            DropKeyspace("app") if number % 10 == 9 else table("t1"),
        ][kind]
        alone.metadata.submit(change, keep)
        if sync:
            store.settle_now()
    after = Alone(store.after_crash())
    assert after.schema == acknowledged[-1]


def test_an_entry_that_was_cut_out_is_told() -> None:
    store = MemoryStore()
    alone = Alone(store)
    for change in (keyspace("app"), table("t"), table("u")):
        alone.submit(change)
    store.apply([(LOG, entry_key(3), None)])
    with pytest.raises(StoreDamaged, match="Entry 3 of the metadata log is missing"):
        Alone(store)


def test_operators_see_the_last_entries() -> None:
    alone = Alone(MemoryStore())
    alone.submit(keyspace("app"))
    alone.submit(table("t"))
    shown = alone.metadata.last_entries(3)
    epoch = alone.metadata.epoch
    assert [info.index for info in shown] == [epoch - 2, epoch - 1, epoch]
    assert [info.text for info in shown] == ["new leader", "create_keyspace app", "create_table app.t"]
    assert all(info.is_applied for info in shown)
    assert len(alone.metadata.last_entries(10_000)) <= limits.METADATA_ENTRIES_SHOWN_MAX


def test_a_node_that_is_in_no_cluster_changes_nothing() -> None:
    node = World().node()
    node.boot()
    [outcome] = node.submit(keyspace("app"))
    assert isinstance(outcome, InvalidRequest)


def test_a_node_alone_that_is_asked_for_nothing_has_no_timer() -> None:
    """A hundred idle nodes on one machine must cost nothing."""
    alone = Alone(MemoryStore())
    alone.submit(keyspace("app"))
    alone.world.run(5_000)
    calls: list[int] = []
    alone.world.after = lambda delay_ms, callback: calls.append(delay_ms)  # type: ignore[method-assign]
    alone.world.run(60_000)
    # The world's own heartbeat is scheduled once more, and never fires again.
    assert len(calls) <= 1
