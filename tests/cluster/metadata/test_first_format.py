"""Stores of versions in which a node had a log to itself.

If these failed, an upgrade would lose the tables of whoever ran OuroDB before there were rings.
"""

from __future__ import annotations

import pytest
from tests.cluster.metadata.changes import CLUSTER, keyspace, newcomer, table
from tests.cluster.metadata.world import World

from ourodb.cluster.metadata.first_format import ENTRY_PREFIX, SCHEMA_KEY, entry_key, install, read_schema
from ourodb.errors import ConfigurationProblem, StoreDamaged
from ourodb.ports import Store
from ourodb.schema.changes import Change, encode_change
from ourodb.schema.evolution import apply
from ourodb.schema.model import Schema
from ourodb.schema.system import initial_schema
from ourodb.storage.families import LOG, METADATA
from ourodb.storage.memory import MemoryStore


def schema_after(*changes: Change) -> Schema:
    schema = initial_schema()
    for change in changes:
        schema, _ = apply(schema, change)
    return schema


def put(store: Store, epoch: int, change: Change) -> None:
    store.apply([(LOG, entry_key(epoch), b"\x01" + encode_change(change))])


def old_store(store: Store) -> Schema:
    """A snapshot as of the first change, and two entries."""
    install(store, schema_after(keyspace("app")))
    put(store, 2, table("t"))
    put(store, 3, table("u"))
    return schema_after(keyspace("app"), table("t"), table("u"))


def test_snapshot_and_entries_are_read() -> None:
    store = MemoryStore()
    assert read_schema(store) is None
    schema = old_store(store)
    assert read_schema(store) == schema
    fresh = MemoryStore()
    put(fresh, 1, keyspace("app"))
    assert read_schema(fresh) == schema_after(keyspace("app"))


def test_missing_unreadable_and_impossible_entries_are_told() -> None:
    """Starting with half a schema would drop tables, and purge what is in them."""
    store = MemoryStore()
    old_store(store)
    [entry] = [encoded for _, encoded in store.scan(LOG, entry_key(2), entry_key(3))]
    for damaged, match in (
        (None, "Entry 2 of the metadata log is missing"),
        (entry[:5], "can't be read"),
        (b"\x07" + entry[1:], "format 07"),
        (b"\x01" + encode_change(keyspace("app")), "Entry 2 of the metadata log can't be applied"),
    ):
        store.apply([(LOG, entry_key(2), damaged)])
        with pytest.raises(StoreDamaged, match=match):
            read_schema(store)


def test_the_cluster_that_is_founded_over_it_begins_with_its_tables() -> None:
    world = World()
    node = world.node()
    schema = old_store(node.disk)
    metadata = node.boot()
    assert metadata.view.schema == schema
    assert not metadata.me
    view = metadata.found("ring", node.member, CLUSTER)
    assert view.schema == schema
    assert view.cluster_id == CLUSTER
    assert not list(node.disk.scan(LOG, ENTRY_PREFIX, ENTRY_PREFIX + b"\xff" * 9))
    assert not list(node.disk.scan(METADATA, SCHEMA_KEY, SCHEMA_KEY + b"\x00"))
    outcome = node.submit(table("v"))
    world.until(lambda: outcome)
    node.stop()
    assert list(node.boot().view.schema.keyspaces["app"].tables) == ["t", "u", "v"]


def test_a_crash_while_it_is_taken_over_loses_nothing() -> None:
    for seed in range(8):
        world = World(seed)
        node = world.node()
        schema = old_store(node.disk)
        node.disk.sync(lambda error: None)
        world.run(50)
        node.boot().found("ring", node.member, CLUSTER)
        world.run(seed)
        node.crash()
        metadata = node.boot()
        assert metadata.view.schema == schema
        if not metadata.me:
            metadata.found("ring", node.member, CLUSTER)
        assert metadata.view.schema == schema


def test_a_node_with_tables_of_its_own_joins_nobody() -> None:
    """Its tables, or those of the cluster, would be lost."""
    world = World()
    founder, node = world.node(), world.node()
    founder.found()
    old_store(node.disk)
    outcome = node.join(founder)
    assert isinstance(outcome[0], ConfigurationProblem)
    assert "holds tables of its own" in str(outcome[0])


def test_a_node_with_an_empty_keyspace_of_its_own_may_join() -> None:
    world = World()
    founder, node = world.node(), world.node()
    founder.found()
    install(node.disk, schema_after(keyspace("app")))
    outcome = node.join(founder)
    world.until(lambda: outcome)
    assert node.running.view == founder.running.view
    assert "app" not in node.running.view.schema.keyspaces
    node.stop()
    assert "app" not in node.boot().view.schema.keyspaces
    assert newcomer(2).host_id == node.host_id
