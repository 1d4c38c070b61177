"""DESCRIBE: what it prints can be run, and what it can't print it says."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.schema.node import NODE
from tests.schema.script import Script
from tests.schema.test_evolution import played, statements

from ourodb.cql.syntax import ast
from ourodb.cql.syntax.parser import parse
from ourodb.errors import InvalidRequest
from ourodb.schema.describe import Description, describe
from ourodb.schema.model import Keyspace, Schema
from ourodb.schema.system import initial_schema


def described(text: str, schema: Schema, keyspace: str | None = None) -> Description:
    statement = parse(text)
    assert isinstance(statement, ast.Describe)
    return describe(statement, schema, keyspace, NODE)


def essence(keyspace: Keyspace) -> object:
    """What DESCRIBE WITH INTERNALS tells of a keyspace."""
    tables = {
        table.name: (
            table.id,
            table.options,
            table.is_counter,
            {c.name: (c.type, c.kind, c.position, c.descending) for c in table.columns.values()},
            {d.name: (d.type, d.kind, d.dropped_at) for d in table.dropped.values()},
        )
        for table in keyspace.tables.values()
    }
    return keyspace.replication, keyspace.durable_writes, dict(keyspace.types), tables


@settings(max_examples=100, deadline=None)
@given(st.lists(statements, max_size=20))
def test_what_describe_prints_makes_the_same_keyspace_again(lines: list[str]) -> None:
    """People move schemas, and restore them, by running what DESCRIBE printed."""
    before = played(lines).schema
    found = described("DESCRIBE KEYSPACE app WITH INTERNALS", before)
    script = Script()
    for row in found.rows:
        assert row[3] is not None
        for statement in re.split(r"(?<=;)\n", row[3].decode()):
            script.execute(statement)
    assert essence(script.schema.keyspaces["app"]) == essence(before.keyspaces["app"])


def test_full_schema_has_what_schema_leaves_out() -> None:
    schema = played(["CREATE TABLE t (k int PRIMARY KEY)"]).schema

    def keyspaces(text: str) -> list[bytes | None]:
        return [row[2] for row in described(text, schema).rows if row[1] == b"keyspace"]

    assert keyspaces("DESCRIBE SCHEMA") == [b"app"]
    assert keyspaces("DESCRIBE FULL SCHEMA") == [name.encode() for name in sorted(schema.keyspaces)]


def test_cluster_tells_who_owns_which_range_of_a_user_keyspace() -> None:
    schema = played([]).schema
    alone = described("DESCRIBE CLUSTER", schema)
    assert [name for name, _ in alone.columns] == ["cluster", "partitioner", "snitch"]
    assert alone.rows[0][:2] == (b"Test Cluster", b"Murmur3Partitioner")
    assert described("DESCRIBE CLUSTER", schema, "system").columns == alone.columns
    owned = described("DESCRIBE CLUSTER", schema, "app")
    name, part = owned.columns[3]
    assert name == "range_ownership"
    assert owned.rows[0][3] is not None
    assert part.decode(owned.rows[0][3]) == [
        (token, ["/127.0.0.3:7000"]) for token in ("-4611686018427387904", "0", "4611686018427387904")
    ]


def test_without_a_keyspace_in_use_lists_cover_all_of_them() -> None:
    schema = played(["CREATE TABLE t (k int PRIMARY KEY)", "CREATE TYPE x (a int)"]).schema
    tables = described("DESCRIBE TABLES", schema).rows
    assert (b"app", b"table", b"t") in tables
    assert (b"system", b"table", b'"IndexInfo"') in tables
    assert described("DESCRIBE TABLES", schema, "app").rows == ((b"app", b"table", b"t"),)
    assert described("DESCRIBE TYPES", schema).rows == ((b"app", b"type", b"x"),)
    assert described("DESCRIBE FUNCTIONS", schema).rows == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("DESCRIBE KEYSPACE", "No keyspace specified and no current keyspace"),
        ("DESCRIBE TABLE t", "No keyspace specified and no current keyspace"),
        ("DESCRIBE nope", "'nope' not found in keyspaces"),
        ("DESCRIBE system.nope", "'nope' not found in keyspace 'system'"),
    ],
)
def test_what_is_not_there_is_told(text: str, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        described(text, initial_schema())
    assert str(caught.value) == message
