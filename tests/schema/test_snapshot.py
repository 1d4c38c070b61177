"""Schemas written and read back."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.schema.script import SIMPLE, Script
from tests.schema.test_virtual import schema_with_tables

from ourodb.errors import StoreDamaged
from ourodb.schema.changes import TruncateTable
from ourodb.schema.evolution import apply
from ourodb.schema.snapshot import decode_schema, encode_schema
from ourodb.schema.system import initial_schema


def test_a_schema_comes_back_as_it_was() -> None:
    """Else a restart changes tables, and with column ids or incarnations lost, their rows."""
    schema = schema_with_tables()
    encoded = encode_schema(schema)
    assert decode_schema(encoded) == schema
    assert encode_schema(decode_schema(encoded)) == encoded


def test_the_order_in_which_options_were_written_does_not_show() -> None:
    """Nodes compare schemas by their bytes."""
    spellings = [
        "{'class': 'SizeTieredCompactionStrategy', 'bucket_low': 0.4, 'enabled': true}",
        "{'enabled': true, 'bucket_low': 0.4, 'class': 'SizeTieredCompactionStrategy'}",
    ]
    found = []
    for spelling in spellings:
        script = Script()
        script.execute(f"CREATE KEYSPACE app WITH replication = {SIMPLE}")
        script.execute(f"CREATE TABLE app.t (k int PRIMARY KEY) WITH compaction = {spelling}")
        found.append(encode_schema(script.schema))
    assert found[0] == found[1]


def test_types_come_back_whatever_the_order_they_were_made_in() -> None:
    """ALTER TYPE can make an old type hold a younger one."""
    script = Script()
    for statement in (
        f"CREATE KEYSPACE app WITH replication = {SIMPLE}",
        "USE app",
        "CREATE TYPE first (a int)",
        "CREATE TYPE second (b set<text>)",
        "CREATE TABLE t (k int PRIMARY KEY, f frozen<first>, l list<frozen<first>>)",
        "ALTER TYPE first ADD s frozen<second>",
    ):
        script.execute(statement)
    assert decode_schema(encode_schema(script.schema)) == script.schema


def test_what_users_change_in_system_keyspaces_is_kept() -> None:
    script = Script()
    script.execute(
        "ALTER KEYSPACE system_traces WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}"
    )
    schema, _ = apply(script.schema, TruncateTable("system_traces", "events"))
    read = decode_schema(encode_schema(schema))
    assert read == schema
    before, after = initial_schema().table("system_traces", "events"), read.table("system_traces", "events")
    assert before is not None
    assert after is not None
    assert before.incarnation != after.incarnation


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_bytes_are_told_as_damage(data: st.DataObject) -> None:
    """Anything else than StoreDamaged would be a traceback at start."""
    encoded = bytearray(encode_schema(schema_with_tables()))
    cut = data.draw(st.integers(0, len(encoded)))
    if data.draw(st.booleans()) and cut < len(encoded):
        encoded[cut] ^= data.draw(st.integers(1, 255))
    else:
        del encoded[cut:]
    with suppress(StoreDamaged):
        decode_schema(bytes(encoded))


def test_a_newer_format_is_refused_with_what_to_do() -> None:
    encoded = encode_schema(initial_schema())
    with pytest.raises(StoreDamaged, match="format 2"):
        decode_schema(b"\x02" + encoded[1:])
