"""The metadata log over a store in memory that syncs when it is told to."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.schema.node import NODE

from ourodb import limits
from ourodb.cluster.metadata.log import ENTRY_PREFIX, Applied, MetadataLog, NodeView, entry_key, install
from ourodb.errors import AlreadyExists, OuroError, Overloaded, StoreDamaged, StoreError
from ourodb.ports import Write
from ourodb.schema.changes import (
    AddColumns,
    AlterTableOptions,
    ColumnSpec,
    CreateKeyspace,
    CreateTable,
    DropKeyspace,
    SchemaChangeEvent,
    TruncateTable,
)
from ourodb.schema.evolution import apply
from ourodb.schema.keyspaces import SIMPLE
from ourodb.schema.system import initial_schema, system_table_id
from ourodb.storage.families import LOG
from ourodb.storage.memory import MemoryStore

Outcome = Applied | OuroError


class SlowStore(MemoryStore):
    """Syncs when ``settle_now`` is called; keeps what a crash would leave."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Callable[[Exception | None], None]] = []
        self.refuses: OuroError | None = None
        self.unsynced: list[list[Write]] = []
        self.synced: list[list[Write]] = []

    def apply(self, writes: Iterable[Write]) -> None:
        if self.refuses is not None:
            raise self.refuses
        batch = list(writes)
        self.unsynced.append(batch)
        super().apply(batch)

    def sync(self, done: Callable[[Exception | None], None]) -> None:
        self.waiting.append(done)

    def settle_now(self, error: Exception | None = None) -> None:
        if error is None:
            self.synced += self.unsynced
            self.unsynced = []
        waiting, self.waiting = self.waiting, []
        for done in waiting:
            done(error)

    def after_crash(self) -> SlowStore:
        """A store that holds only what was synced."""
        left = SlowStore()
        for batch in self.synced:
            left.apply(batch)
        left.settle_now()
        return left


def opened(store: MemoryStore) -> MetadataLog:
    log = MetadataLog(store, NODE)
    log.recover()
    return log


def keyspace(name: str) -> CreateKeyspace:
    return CreateKeyspace(name, SIMPLE, {"replication_factor": "1"})


def table(name: str, holder: str = "app") -> CreateTable:
    columns = (ColumnSpec("k", "int"), ColumnSpec("v", "text"))
    return CreateTable(holder, name, system_table_id(holder, name), columns, partition_key=("k",))


def test_a_change_is_in_force_once_it_is_on_disk_and_not_before() -> None:
    """A client that was told of a table which a crash then takes back has lost its writes."""
    store = SlowStore()
    log = opened(store)
    seen: list[Outcome] = []
    told: list[tuple[NodeView, tuple[SchemaChangeEvent, ...]]] = []
    log.listen(lambda view, events: told.append((view, events)))
    log.submit(keyspace("app"), seen.append)
    assert not seen
    assert not told
    assert "app" not in log.view.schema.keyspaces
    store.settle_now()
    [outcome] = seen
    assert isinstance(outcome, Applied)
    assert outcome.view is log.view
    assert outcome.events == (SchemaChangeEvent("CREATED", "KEYSPACE", "app"),)
    assert told == [(log.view, outcome.events)]
    assert log.view.epoch == 1


def test_changes_that_wait_build_on_each_other() -> None:
    """CREATE KEYSPACE; CREATE TABLE sent at once by one client."""
    store = SlowStore()
    log = opened(store)
    order: list[str] = []
    log.submit(keyspace("app"), lambda _: order.append("keyspace"))
    log.submit(table("t"), lambda _: order.append("table"))
    log.submit(table("t"), lambda outcome: order.append(type(outcome).__name__))
    assert order == ["AlreadyExists"]
    store.settle_now()
    assert order == ["AlreadyExists", "keyspace", "table"]
    assert log.view.schema.table("app", "t") is not None


def test_a_change_that_does_not_fit_is_never_written() -> None:
    store = SlowStore()
    log = opened(store)
    log.submit(keyspace("app"), lambda _: None)
    store.settle_now()
    written = list(store.synced)
    seen: list[Outcome] = []
    log.submit(keyspace("app"), seen.append)
    assert isinstance(seen[0], AlreadyExists)
    assert store.synced == written
    assert not store.unsynced


def test_nothing_to_do_waits_for_what_it_relies_on() -> None:
    """IF NOT EXISTS must not say "it's there" while the table could still be lost."""
    store = SlowStore()
    log = opened(store)
    seen: list[Outcome] = []
    log.submit(keyspace("app"), lambda _: None)
    log.submit(DropKeyspace("nope", if_exists=True), seen.append)
    assert not seen
    store.settle_now()
    assert [type(outcome) for outcome in seen] == [Applied]
    log.submit(DropKeyspace("nope", if_exists=True), seen.append)
    assert len(seen) == 2
    assert log.view.epoch == 1


def test_truncate_is_told_to_listeners_though_clients_hear_of_no_event() -> None:
    """Who deletes the rows of old incarnations listens for it."""
    store = SlowStore()
    log = opened(store)
    for change in (keyspace("app"), table("t")):
        log.submit(change, lambda _: None)
    store.settle_now()
    told: list[tuple[SchemaChangeEvent, ...]] = []
    log.listen(lambda _, events: told.append(events))
    log.submit(TruncateTable("app", "t"), lambda _: None)
    store.settle_now()
    assert told == [()]


def test_a_store_that_refuses_leaves_everything_as_it_was() -> None:
    store = SlowStore()
    log = opened(store)
    seen: list[Outcome] = []
    store.refuses = Overloaded("stalled")
    log.submit(keyspace("app"), seen.append)
    assert seen == [store.refuses]
    store.refuses = None
    log.submit(keyspace("app"), seen.append)
    store.settle_now()
    assert isinstance(seen[1], Applied)
    assert log.view.epoch == 1


def test_after_a_failed_sync_nothing_more_is_promised() -> None:
    """After a failed fsync the kernel may have dropped the pages: a later success would say nothing."""
    store = SlowStore()
    log = opened(store)
    seen: list[Outcome] = []
    log.submit(keyspace("app"), seen.append)
    log.submit(keyspace("other"), seen.append)
    store.settle_now(OSError("disk on fire"))
    assert [type(outcome) for outcome in seen] == [StoreError, StoreError]
    assert "app" not in log.view.schema.keyspaces
    log.submit(keyspace("third"), seen.append)
    assert isinstance(seen[2], StoreError)


def test_snapshots_replace_the_entries_that_led_to_them() -> None:
    """Without them the log and the time to start grow for ever."""
    store = SlowStore()
    log = opened(store)
    log.submit(keyspace("app"), lambda _: None)
    log.submit(table("t"), lambda _: None)
    for number in range(3 * limits.METADATA_ENTRIES_PER_SNAPSHOT):
        log.submit(AlterTableOptions("app", "t", {"gc_grace_seconds": str(number)}), lambda _: None)
        store.settle_now()
        entries = list(store.scan(LOG, ENTRY_PREFIX, ENTRY_PREFIX + b"\xff" * 9))
        assert len(entries) < limits.METADATA_ENTRIES_PER_SNAPSHOT
        if number % 17 == 0:
            assert opened(store).view == log.view


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=90))
def test_a_crash_leaves_what_was_acknowledged(steps: list[tuple[int, bool]]) -> None:
    """The schema after a crash is the one of the last acknowledged change, or a later one; never another."""
    store = SlowStore()
    log = opened(store)
    acknowledged = [initial_schema()]
    for number, (kind, sync) in enumerate(steps):
        change = [
            keyspace("app"),
            table(f"t{number % 7}"),
            TruncateTable("app", "t1"),
            AddColumns("app", "t2", (ColumnSpec(f"c{number}", "int"),)),
            AlterTableOptions("app", "t3", {"comment": str(number)}),
            DropKeyspace("app") if number % 10 == 9 else table("t1"),
        ][kind]
        log.submit(change, lambda _: acknowledged.append(log.view.schema))
        if sync:
            store.settle_now()
    assert opened(store.after_crash()).view.schema == acknowledged[-1]


def damaged(log_store: MemoryStore, match: str) -> None:
    with pytest.raises(StoreDamaged, match=match):
        opened(log_store)


def test_missing_unreadable_and_impossible_entries_are_told() -> None:
    """Starting with half a schema would drop tables, and purge what is in them."""
    store = MemoryStore()
    log = opened(store)
    for change in (keyspace("app"), table("t"), table("u")):
        log.submit(change, lambda _: None)
    [entry] = [encoded for _, encoded in store.scan(LOG, entry_key(2), entry_key(3))]
    store.apply([(LOG, entry_key(2), None)])
    damaged(store, "Entry 2 of the metadata log is missing")
    store.apply([(LOG, entry_key(2), entry[:5])])
    damaged(store, "can't be read")
    store.apply([(LOG, entry_key(2), b"\x07" + entry[1:])])
    damaged(store, "format 07")
    store.apply([(LOG, entry_key(2), entry), (LOG, entry_key(3), entry)])
    damaged(store, "Entry 3 of the metadata log can't be applied")


def test_a_restored_schema_is_where_the_log_starts() -> None:
    schema, _ = apply(initial_schema(), keyspace("app"))
    store = MemoryStore()
    install(store, schema)
    log = opened(store)
    assert log.view.schema == schema
    log.submit(table("t"), lambda _: None)
    assert opened(store).view == log.view


def test_what_a_node_says_of_itself_can_change() -> None:
    """The port is known only once it is bound."""
    log = opened(MemoryStore())
    told: list[NodeView] = []
    log.listen(lambda view, _: told.append(view))
    moved = type(NODE)(
        NODE.cluster_name, NODE.data_center, NODE.rack, NODE.host_id, NODE.tokens, native_port=1
    )
    log.update_node(moved)
    assert [view.node for view in told] == [moved]
    log.submit(keyspace("app"), lambda _: None)
    assert log.view.node == moved
