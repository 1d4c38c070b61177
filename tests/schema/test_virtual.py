"""What clients read of the schema, read by the driver's own metadata parser.

If these fail, drivers see other tables than there are: wrong keys (so wrong routing), COMPACT STORAGE where there is
none, or no keyspace at all.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from cassandra.metadata import SchemaParserV4
from tests.schema.node import NODE
from tests.schema.script import SIMPLE, Script

from ourodb.cql.types import MapType, SetType
from ourodb.schema.model import ColumnKind, Schema, Table
from ourodb.schema.system import initial_schema
from ourodb.schema.virtual import ClientInfo, NodeState, Row, follows_schema_only, rows

STATE = NodeState(NODE)


def schema_with_tables() -> Schema:
    return script_with_tables().schema


def script_with_tables() -> Script:
    script = Script()
    for statement in (
        f"CREATE KEYSPACE app WITH replication = {SIMPLE} AND durable_writes = false",
        "USE app",
        'CREATE TYPE address (street text, "Zip" int)',
        "CREATE TABLE plain (k int PRIMARY KEY, v text)",
        (
            'CREATE TABLE wide (a int, b text, c int, d timeuuid, "S" int static, m map<text, frozen<address>>, '
            "PRIMARY KEY ((a, b), c, d)) WITH CLUSTERING ORDER BY (c DESC, d ASC) AND comment = 'it''s'"
        ),
        "CREATE TABLE counts (k int PRIMARY KEY, n counter)",
        "ALTER TABLE plain ADD gone frozen<address>",
        "ALTER TABLE plain DROP gone USING TIMESTAMP 1234567",
    ):
        script.execute(statement)
    return script


class Connection:
    """Answers the parser's queries, as the driver would have decoded them."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema

    def wait_for_responses(self, *messages: Any, timeout: float, fail_on_error: bool) -> list[Any]:
        assert not fail_on_error
        return [(True, self._answer(message.query)) for message in messages]

    def _answer(self, query: str) -> Any:
        keyspace, name = query.rpartition(" ")[2].split(".")
        table = self._schema.table(keyspace, name)
        assert table is not None, f"the driver reads {query}"
        columns = table.select_order
        found = [
            tuple(decoded(table, column.name, row.get(column.name)) for column in columns)
            for row in rows(table, self._schema, STATE)
        ]

        return SimpleNamespace(
            column_names=[column.name for column in columns], parsed_rows=found, paging_state=None
        )


def decoded(table: Table, name: str, value: bytes | None) -> Any:
    part = table.columns[name].type
    if value is None:
        return None
    found = part.decode(value)
    if isinstance(part, MapType):
        return dict(found)
    return set(found) if isinstance(part, SetType) else found


def test_driver_rebuilds_the_same_tables() -> None:
    schema = schema_with_tables()
    parsed = {
        keyspace.name: keyspace for keyspace in SchemaParserV4(Connection(schema), 5.0).get_all_keyspaces()
    }
    assert sorted(parsed) == sorted(schema.keyspaces)
    for keyspace in schema.keyspaces.values():
        seen = parsed[keyspace.name]
        assert seen._exc_info is None
        assert seen.virtual is keyspace.virtual
        assert sorted(seen.tables) == sorted(keyspace.tables)
        for table in keyspace.tables.values():
            found = seen.tables[table.name]
            assert found._exc_info is None
            assert [column.name for column in found.partition_key] == [c.name for c in table.partition_key]
            assert [column.name for column in found.clustering_key] == [c.name for c in table.clustering]
            assert {name: column.cql_type for name, column in found.columns.items()} == {
                name: column.type.cql_name for name, column in table.columns.items()
            }
            for name, column in table.columns.items():
                assert found.columns[name].is_static is (column.kind is ColumnKind.STATIC)
                assert found.columns[name].is_reversed is column.descending
            if not keyspace.virtual:
                assert found.is_cql_compatible
                assert not found.is_compact_storage
                assert found.options["comment"] == table.options.comment
    assert parsed["app"].durable_writes is False
    assert parsed["app"].replication_strategy.export_for_schema() == SIMPLE.replace("1", "'1'")
    assert parsed["app"].user_types["address"].field_names == ["street", "Zip"]


def test_driver_prints_a_table_that_can_be_created_again() -> None:
    """Tools that copy schemas print what the driver parsed."""
    script = script_with_tables()
    before = script.schema.table("app", "wide")
    parsed = SchemaParserV4(Connection(script.schema), 5.0).get_all_keyspaces()
    [text] = [keyspace.tables["wide"].as_cql_query() for keyspace in parsed if keyspace.name == "app"]
    script.execute("DROP TABLE app.wide")
    script.execute(text)
    after = script.schema.table("app", "wide")
    assert before is not None
    assert after is not None
    assert {c.name: (c.type, c.kind, c.position, c.descending) for c in after.columns.values()} == {
        c.name: (c.type, c.kind, c.position, c.descending) for c in before.columns.values()
    }


@pytest.mark.parametrize(
    "table",
    [
        table
        for keyspace in initial_schema().keyspaces.values()
        for table in keyspace.tables.values()
        if table.virtual
    ],
    ids=lambda table: f"{table.keyspace}.{table.name}",
)
def test_rows_are_valid_values_of_their_columns(table: Table) -> None:
    """A row with a value of the wrong type, or without its key, breaks whoever selects it."""
    state = NodeState(NODE, (NODE,), {"durability": "group"}, (ClientInfo("::1", 9, "localhost"),))
    found = rows(table, schema_with_tables(), state)
    for row in found:
        for name, value in row.items():
            if value is not None:
                table.columns[name].type.validate(value)
        assert all(row[column.name] is not None for column in table.partition_key + table.clustering)
    keys = [tuple(row[column.name] for column in table.partition_key + table.clustering) for row in found]
    assert len(set(keys)) == len(keys)


def only_row(keyspace: str, name: str, state: NodeState) -> Row:
    schema = initial_schema()
    table = schema.table(keyspace, name)
    assert table is not None
    [row] = rows(table, schema, state)
    return row


def test_local_says_what_drivers_connect_by() -> None:
    row = only_row("system", "local", STATE)
    assert row["key"] == b"local"
    assert row["rpc_address"] == bytes([127, 0, 0, 2])
    assert row["broadcast_address"] == bytes([127, 0, 0, 3])
    assert row["host_id"] == NODE.host_id.bytes
    assert row["schema_version"] == initial_schema().version.bytes
    assert row["partitioner"] == b"org.apache.cassandra.dht.Murmur3Partitioner"


def test_peers_have_what_drivers_insist_on() -> None:
    """A row of peers_v2 without one of these is ignored, and with it the node."""
    row = only_row("system", "peers_v2", NodeState(NODE, (NODE,)))
    for name in (
        "native_address",
        "native_port",
        "host_id",
        "data_center",
        "rack",
        "tokens",
        "schema_version",
    ):
        assert row[name], name


def test_dropped_columns_keep_their_kind_and_time() -> None:
    schema = schema_with_tables()
    table = schema.table("system_schema", "dropped_columns")
    assert table is not None
    [row] = rows(table, schema, STATE)
    assert row["kind"] == b"regular"
    assert row["type"] == b"frozen<tuple<text, int>>"
    assert row["dropped_time"] == (1234).to_bytes(8, "big")


def test_only_views_are_of_the_moment() -> None:
    """What is kept too long shows clients that are gone; what isn't kept makes every connect slow."""
    moment = {
        table.keyspace
        for keyspace in initial_schema().keyspaces.values()
        for table in keyspace.tables.values()
        if not follows_schema_only(table)
    }
    assert moment == {"system_views"}
