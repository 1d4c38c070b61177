"""The change by which a keyspace comes back, and whether rows of one keyspace mean the same in another."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.schema.script import Script
from tests.schema.test_evolution import played, statements

from ourodb import limits
from ourodb.cluster.metadata.commands import PROPOSAL_ID_BYTES, ChangeSchema, Proposal, encode_proposal
from ourodb.errors import AlreadyExists, ConfigurationException, InvalidRequest, StoreDamaged
from ourodb.schema.changes import RestoreKeyspace, decode_change, encode_change
from ourodb.schema.evolution import apply
from ourodb.schema.keyspaces import LOCAL
from ourodb.schema.model import Keyspace, Replication, Schema
from ourodb.schema.restoration import check_same, definition_of, keyspace_of
from ourodb.schema.snapshot import decode_schema, encode_schema
from ourodb.schema.system import initial_schema

LINES = [
    "CREATE TYPE x (a int, b frozen<map<text, int>>)",
    "CREATE TABLE t (k int, c text, s int static, v frozen<x>, w int, PRIMARY KEY (k, c))",
    "ALTER TABLE t DROP w",
    "ALTER TABLE t ADD w text",
    "CREATE TABLE u (k int PRIMARY KEY, n counter)",
    "TRUNCATE t",
]


def restored(schema: Schema, keyspace: Keyspace, name: str | None = None) -> Schema:
    change = RestoreKeyspace(name or keyspace.name, definition_of(keyspace, name))
    return apply(schema, decode_change(encode_change(change)))[0]


def app(*lines: str) -> Keyspace:
    return played([*LINES, *lines]).schema.keyspaces["app"]


@settings(max_examples=100, deadline=None)
@given(st.lists(statements, max_size=25))
def test_a_keyspace_comes_back_as_it_was_but_for_its_incarnations(lines: list[str]) -> None:
    """Broken, rows that come back are read with columns of other ids, or mix with those of another life of a table."""
    there = played(lines).schema
    keyspace = there.keyspaces["app"]
    here = Script()
    here._random.drawn = 10_000
    here.execute(
        "CREATE KEYSPACE other WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}"
    )
    here.execute("CREATE TABLE other.t (k int PRIMARY KEY)")
    after = restored(here.schema, keyspace)
    found = after.keyspaces["app"]
    used = {table.incarnation for table in found.tables.values()}
    assert len(used) == len(found.tables)
    assert all(here.schema.next_incarnation <= one < after.next_incarnation for one in used)
    assert after.epoch == here.schema.epoch + 1
    assert (found.types, found.replication, [*found.tables]) == (
        keyspace.types,
        keyspace.replication,
        [*keyspace.tables],
    )
    for name, table in keyspace.tables.items():
        twin = found.tables[name]
        assert (twin.id, twin.columns, twin.dropped, twin.next_column_id, twin.options, twin.is_counter) == (
            (table.id, table.columns, table.dropped, table.next_column_id, table.options, table.is_counter)
        )
    assert decode_schema(encode_schema(after)) == after
    check_same(found, keyspace)


def test_a_copy_has_ids_of_its_own_the_same_each_time() -> None:
    """Broken, a copy beside the original can't be made, or a second restore doesn't know the first one's tables."""
    schema = played(LINES).schema
    original = schema.keyspaces["app"]
    after = restored(schema, original, "copy")
    assert [table.keyspace for table in after.keyspaces["copy"].tables.values()] == ["copy", "copy"]
    assert after.keyspaces["copy"].types["x"].keyspace == "copy"
    assert after.keyspaces["app"] is original
    ids = {table.id for one in after.keyspaces.values() for table in one.tables.values()}
    assert len(ids) == sum(len(one.tables) for one in after.keyspaces.values())
    check_same(after.keyspaces["copy"], keyspace_of(definition_of(original, "copy")))


def test_what_clients_are_told() -> None:
    """Broken, a driver that was connected before doesn't know the tables."""
    _, events = apply(initial_schema(), RestoreKeyspace("app", definition_of(app())))
    assert [(event.change, event.target, event.name) for event in events] == [
        ("CREATED", "KEYSPACE", ""),
        ("CREATED", "TYPE", "x"),
        ("CREATED", "TABLE", "t"),
        ("CREATED", "TABLE", "u"),
    ]


def test_what_does_not_fit_is_refused() -> None:
    """Broken, a restore overwrites what is there, or makes a schema that no statement could."""
    schema = played(LINES).schema
    keyspace = schema.keyspaces["app"]
    with pytest.raises(AlreadyExists):
        restored(schema, keyspace)
    with pytest.raises(InvalidRequest, match="is that of"):
        apply(initial_schema(), RestoreKeyspace("other", definition_of(keyspace)))
    with pytest.raises(InvalidRequest, match="alphanumeric"):
        restored(initial_schema(), keyspace, "a b")
    with pytest.raises(InvalidRequest, match="LocalStrategy"):
        apply(
            initial_schema(),
            RestoreKeyspace("app", definition_of(keyspace, replication=Replication(LOCAL))),
        )
    renamed = keyspace_of(definition_of(keyspace, "copy"))
    tables = {name: keyspace.tables[name] for name in keyspace.tables}
    with pytest.raises(ConfigurationException, match="Table id"):
        restored(schema, Keyspace("copy", renamed.replication, True, tables, renamed.types))


def test_damaged_definitions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken, they make half a keyspace, or take all the memory of every node that reads the log."""
    definition = definition_of(app())
    flipped = definition[:-1] + bytes([definition[-1] ^ 1])
    for damaged in (
        b"", b"\x01", b"\x02" + definition[1:], definition[:1], definition[:-1], flipped,
        encode_schema(initial_schema()),
    ):  # fmt: skip
        with pytest.raises(StoreDamaged):
            apply(initial_schema(), RestoreKeyspace("app", damaged))
    monkeypatch.setattr(limits, "RESTORE_UPLOAD_BYTES_MAX", 100)
    with pytest.raises(StoreDamaged, match="too large"):
        apply(initial_schema(), RestoreKeyspace("app", definition))


def test_a_keyspace_with_as_many_tables_as_there_may_be_fits_an_entry() -> None:
    """Broken, what statements have made can't be restored: the metadata log doesn't take it."""
    columns = ", ".join(f"column_number_{number} text" for number in range(20))
    keyspace = app(f"CREATE TABLE many (k int PRIMARY KEY, {columns})")
    table = keyspace.tables["many"]
    tables = {
        f"table_{number}": replace(table, name=f"table_{number}", id=UUID(int=number))
        for number in range(limits.TABLES_MAX)
    }
    change = RestoreKeyspace("app", definition_of(replace(keyspace, tables=tables)))
    proposal = Proposal(bytes(PROPOSAL_ID_BYTES), 1, ChangeSchema(encode_change(change)))
    assert len(encode_proposal(proposal)) <= limits.RAFT_ENTRY_BYTES_MAX


def test_a_definition_of_an_earlier_version_is_read() -> None:
    """Broken, a node that restored a keyspace before it was brought up to date can't read its metadata log."""
    schema = played(LINES).schema
    keyspace = schema.keyspaces["app"]
    alone = encode_schema(Schema(keyspaces={"app": keyspace}))
    assert apply(initial_schema(), RestoreKeyspace("app", alone)) == apply(
        initial_schema(), RestoreKeyspace("app", definition_of(keyspace))
    )


def test_there_is_room_or_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken, a restore goes past the bound of tables that clients can bear."""
    keyspace = app()
    monkeypatch.setattr(limits, "TABLES_MAX", 1)
    with pytest.raises(InvalidRequest, match="more than 1 tables"):
        restored(initial_schema(), keyspace)
    monkeypatch.setattr(limits, "TABLES_MAX", 2)
    restored(initial_schema(), keyspace)


@pytest.mark.parametrize(
    "later",
    [
        [],
        ["ALTER TABLE t ADD z int"],
        ["ALTER TABLE t DROP w"],
        ["ALTER TABLE t DROP w", "ALTER TABLE t ADD w text"],
        ["ALTER TABLE t DROP w", "ALTER TABLE t ADD w text", "ALTER TABLE t DROP w"],
        ["ALTER TABLE t RENAME c TO d"],
        ["ALTER TYPE x ADD z int"],
        ["CREATE TABLE more (k int PRIMARY KEY)"],
        ["TRUNCATE t"],
        ["ALTER TABLE t WITH gc_grace_seconds = 5"],
    ],
)
def test_rows_of_before_fit_a_table_that_was_altered(later: list[str]) -> None:
    """Broken, a restore that was interrupted can't be taken up once anything else was changed."""
    check_same(app(*later), app())


@pytest.mark.parametrize(
    ("here", "there", "why"),
    [
        ([], ["CREATE TABLE more (k int PRIMARY KEY)"], "has a table app.more"),
        ([], ["ALTER TABLE t ADD z int"], "newest"),
        ([], ["ALTER TABLE t ADD z int", "ALTER TABLE t DROP z"], "newest"),
        ([], ["ALTER TYPE x ADD z int"], "user type"),
        (["ALTER TYPE x ADD z int"], ["ALTER TYPE x ADD y int"], "user type"),
        (["ALTER TABLE t ADD price int"], ["ALTER TABLE t ADD stock int"], "price int where .* stock int"),
        (["ALTER TABLE t ADD price int"], ["ALTER TABLE t ADD price text"], "price int where .* price text"),
        (
            ["ALTER TABLE t ADD price int", "ALTER TABLE t DROP price"],
            ["ALTER TABLE t ADD stock int"],
            "column stock, the cluster's never had it",
        ),
        (
            ["ALTER TABLE t ADD price int"],
            ["ALTER TABLE t ADD note text", "ALTER TABLE t DROP note"],
            "column price in the place of one that the snapshot's has dropped",
        ),
        (["DROP TABLE u", "CREATE TABLE u (k int PRIMARY KEY, n counter)"], [], "created by itself"),
    ],
)
def test_rows_that_would_mean_something_else_are_refused(here: list[str], there: list[str], why: str) -> None:
    """Broken, cells turn up in another column, or field, to which the same place was given anew."""
    with pytest.raises(InvalidRequest, match=why):
        check_same(app(*here), app(*there))
