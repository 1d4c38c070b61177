"""Sequences of changes: encoded, replayed, and what must hold after each of them."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.schema.script import SIMPLE, Script

from ourodb.errors import InvalidRequest, RequestError, StoreDamaged
from ourodb.schema import changes
from ourodb.schema.changes import AddColumns, ColumnSpec, CreateTable, decode_change, encode_change
from ourodb.schema.evolution import apply
from ourodb.schema.snapshot import decode_schema, encode_schema
from ourodb.schema.system import initial_schema
from ourodb.schema.types import type_parser

ROOT = Path(__file__).parents[2]

names = st.sampled_from(["a", "b", "c", "v", '"D d"'])
tables = st.sampled_from(["t", "u", '"V"'])
types = st.sampled_from(["x", "y", "z"])
field_types = st.sampled_from(
    [
        "int",
        "text",
        "blob",
        "set<int>",
        "map<text, frozen<list<int>>>",
        "frozen<x>",
        "tuple<int, frozen<y>>",
        "counter",
    ]
)
column_types = st.one_of(field_types, st.sampled_from(["x", "y", "list<frozen<z>>", "vector<float, 2>"]))

statements = st.one_of(
    st.builds(
        "CREATE TABLE {} (k int, c {}, s int static, v {}, PRIMARY KEY (k, c))".format,
        tables,
        field_types,
        column_types,
    ),
    st.builds("CREATE TABLE {} (k {} PRIMARY KEY, {} {})".format, tables, field_types, names, column_types),
    st.builds("ALTER TABLE {} ADD {} {}".format, tables, names, column_types),
    st.builds("ALTER TABLE {} ADD {} int static".format, tables, names),
    st.builds("ALTER TABLE {} DROP {}".format, tables, names),
    st.builds("ALTER TABLE {} RENAME {} TO {}".format, tables, names, names),
    st.builds("ALTER TABLE {} WITH gc_grace_seconds = {}".format, tables, st.integers(0, 3)),
    st.builds("DROP TABLE IF EXISTS {}".format, tables),
    st.builds("TRUNCATE {}".format, tables),
    st.builds("CREATE TYPE {} ({} {}, w int)".format, types, names, field_types),
    st.builds("ALTER TYPE {} ADD {} {}".format, types, names, field_types),
    st.builds("ALTER TYPE {} RENAME {} TO {}".format, types, names, names),
    st.builds("DROP TYPE {}".format, types),
)


def played(lines: list[str]) -> Script:
    script = Script()
    script.execute(f"CREATE KEYSPACE app WITH replication = {SIMPLE}")
    script.execute("USE app")
    for line in lines:
        script.run(line)
    return script


@settings(max_examples=150, deadline=None)
@given(st.lists(statements, max_size=25))
def test_replay_of_what_was_written_gives_the_same_schema(lines: list[str]) -> None:
    """Else a node that restarts, or another node of the ring, has other tables than those that clients were told of."""
    script = played(lines)
    schema = initial_schema()
    for change in script.changes:
        encoded = encode_change(change)
        assert encode_change(decode_change(encoded)) == encoded
        schema, _ = apply(schema, decode_change(encoded))
    assert schema == script.schema
    assert schema.epoch == len(script.changes)
    assert decode_schema(encode_schema(schema)) == schema


@settings(max_examples=150, deadline=None)
@given(st.lists(statements, max_size=25))
def test_numbers_that_name_stored_bytes_are_never_given_twice(lines: list[str]) -> None:
    """A column id or an incarnation that comes back brings old cells and rows back with it."""
    incarnations: dict[int, object] = {}
    owners: dict[tuple[int, int], str] = {}
    schema = initial_schema()
    for change in played(lines).changes:
        schema, _ = apply(schema, change)
        seen: list[int] = []
        for table in (table for keyspace in schema.keyspaces.values() for table in keyspace.tables.values()):
            assert incarnations.setdefault(table.incarnation, table.id) == table.id
            seen.append(table.incarnation)
            assert table.incarnation < schema.next_incarnation
            for column in table.statics + table.regulars:
                assert 0 < column.id < table.next_column_id
                key = (table.incarnation, column.id)
                assert owners.setdefault(key, column.name) == column.name
        assert len(set(seen)) == len(seen)


@settings(max_examples=100, deadline=None)
@given(st.lists(statements, max_size=25))
def test_user_types_inside_columns_are_those_of_the_keyspace(lines: list[str]) -> None:
    """A column that kept an old version of its type couldn't read what was written with the new one."""
    keyspace = played(lines).schema.keyspaces["app"]
    parse = type_parser(keyspace.types.get)
    for table in keyspace.tables.values():
        for column in table.columns.values():
            assert parse(column.type.cql_name) == column.type
    for user_type in keyspace.types.values():
        for part in user_type.components:
            assert parse(part.cql_name) == part


def test_bytes_do_not_depend_on_the_seed_of_hashes() -> None:
    """Nodes that write the same schema as other bytes can't compare them."""
    program = "from tests.schema.test_evolution import fixed_digest\nprint(fixed_digest())\n"
    digests = set()
    for seed in ("0", "1", "4242"):
        environment = {
            **os.environ,
            "PYTHONHASHSEED": seed,
            "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
        }
        ran = subprocess.run(
            [sys.executable, "-c", program],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(ran.stdout)
    assert len(digests) == 1


def fixed_digest() -> str:
    """Digest of the schema and of the changes that a fixed script leads to."""
    script = played(
        [
            "CREATE TYPE x (a int, b frozen<map<text, int>>)",
            "CREATE TYPE y (a frozen<x>)",
            "CREATE TABLE t (k int, c text, s int static, v frozen<y>, PRIMARY KEY (k, c)) WITH comment = 'x'",
            "ALTER TABLE t WITH compaction = {'class': 'LeveledCompactionStrategy', 'fanout_size': 5}",
            "ALTER TABLE t DROP v",
            "ALTER TYPE x ADD c set<int>",
            "TRUNCATE t",
        ]
    )
    digest = hashlib.sha256(encode_schema(script.schema))
    for change in script.changes:
        digest.update(encode_change(change))
    for events in script.events:
        digest.update(repr(events).encode())
    return digest.hexdigest()


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_foreign_bytes_are_no_change(data: bytes) -> None:
    with suppress(StoreDamaged):
        decode_change(data)


def test_tags_and_fields_of_changes_stay() -> None:
    """Logs on disk were written with these names; a renamed one can't be read any more."""
    specs = {
        f"{change.__struct_config__.tag}({', '.join(change.__struct_fields__)})"
        for change in changes.Change.__args__
    }
    assert specs == {
        "create_keyspace(keyspace, strategy, replication, durable_writes, if_not_exists)",
        "alter_keyspace(keyspace, strategy, replication, durable_writes, if_exists)",
        "drop_keyspace(keyspace, if_exists)",
        "restore_keyspace(keyspace, definition)",
        (
            "create_table(keyspace, table, id, columns, partition_key, clustering, clustering_order, properties,"
            " if_not_exists)"
        ),
        "add_columns(keyspace, table, columns, if_exists, if_not_exists)",
        "drop_columns(keyspace, table, columns, dropped_at, if_exists, if_column_exists)",
        "rename_columns(keyspace, table, renames, if_exists)",
        "alter_table_options(keyspace, table, properties, if_exists)",
        "drop_table(keyspace, table, if_exists)",
        "truncate_table(keyspace, table)",
        "create_type(keyspace, type, fields, if_not_exists)",
        "add_field(keyspace, type, field, field_type, if_exists, if_not_exists)",
        "rename_fields(keyspace, type, renames, if_exists, if_field_exists)",
        "drop_type(keyspace, type, if_exists)",
    }


def test_a_change_that_came_too_late_is_refused_by_apply_itself() -> None:
    """Two nodes check CREATE and DROP against the same schema; the log orders them, and the second must not slip in."""
    script = played(["CREATE TABLE t (k int PRIMARY KEY)", "CREATE TYPE x (a int)"])
    dropped, _ = apply(script.schema, changes.DropTable("app", "t"))
    with pytest.raises(InvalidRequest, match=r"Table 'app\.t' doesn't exist"):
        apply(dropped, AddColumns("app", "t", (ColumnSpec("v", "int"),)))
    untyped, _ = apply(script.schema, changes.DropType("app", "x"))
    with pytest.raises(RequestError):
        apply(untyped, AddColumns("app", "t", (ColumnSpec("v", "frozen<x>"),)))


def test_events_of_a_dropped_keyspace_end_with_its_own() -> None:
    """Caches of drivers are cleared by these."""
    script = played(["CREATE TABLE t (k int PRIMARY KEY)", "CREATE TYPE x (a int)"])
    script.execute("DROP KEYSPACE app")
    assert [tuple(event) for event in script.events[-1]] == [
        ("DROPPED", "TABLE", "app", "t"),
        ("DROPPED", "TYPE", "app", "x"),
        ("DROPPED", "KEYSPACE", "app", ""),
    ]


def test_altering_a_type_tells_of_the_tables_that_use_it() -> None:
    """Prepared statements and metadata of those tables are stale."""
    script = played(
        [
            "CREATE TYPE x (a int)",
            "CREATE TYPE y (b frozen<x>)",
            "CREATE TABLE t (k int PRIMARY KEY, v list<frozen<y>>)",
            "CREATE TABLE u (k int PRIMARY KEY)",
        ]
    )
    before = script.schema.keyspaces["app"]
    script.execute("ALTER TYPE x ADD c int")
    assert [tuple(event) for event in script.events[-1]] == [
        ("UPDATED", "TABLE", "app", "t"),
        ("UPDATED", "TYPE", "app", "x"),
    ]
    after = script.schema.keyspaces["app"]
    assert after.tables["u"] is before.tables["u"]
    assert after.tables["t"].incarnation == before.tables["t"].incarnation


def test_create_and_truncate_make_new_incarnations() -> None:
    script = played(["CREATE TABLE t (k int PRIMARY KEY, v int)"])
    first = script.schema.table("app", "t")
    script.execute("TRUNCATE t")
    emptied = script.schema.table("app", "t")
    script.execute("DROP TABLE t")
    script.execute("CREATE TABLE t (k int PRIMARY KEY, v int)")
    again = script.schema.table("app", "t")
    assert first is not None
    assert emptied is not None
    assert again is not None
    assert first.incarnation < emptied.incarnation < again.incarnation
    assert first.id == emptied.id != again.id


def test_a_dropped_column_takes_its_id_with_it() -> None:
    """Cells of the dropped column are still in stored rows under that id."""
    script = played(["CREATE TABLE t (k int PRIMARY KEY, v int, w int)"])
    first = script.schema.table("app", "t")
    for statement in ("ALTER TABLE t DROP v", "ALTER TABLE t ADD v int", "ALTER TABLE t ADD x int"):
        script.execute(statement)
    table = script.schema.table("app", "t")
    assert first is not None
    assert table is not None
    assert {name: column.id for name, column in first.columns.items()} == {"k": 0, "v": 1, "w": 2}
    assert {name: column.id for name, column in table.columns.items()} == {"k": 0, "v": 3, "w": 2, "x": 4}
    assert table.next_column_id == 5


def test_a_table_id_is_given_once() -> None:
    script = played(["CREATE TABLE t (k int PRIMARY KEY) WITH id = 5b9f5ae0-e722-11f1-a0da-7370763e39a8"])
    answer = script.run("CREATE TABLE u (k int PRIMARY KEY) WITH id = 5b9f5ae0-e722-11f1-a0da-7370763e39a8")
    assert answer.startswith("error 2300")


def test_column_specs_are_checked_again_by_apply() -> None:
    schema = played([]).schema
    change = CreateTable(
        "app", "t", initial_schema().version, (ColumnSpec("k", "list<int>"),), partition_key=("k",)
    )
    with pytest.raises(InvalidRequest, match="Invalid non-frozen collection type"):
        apply(schema, change)
