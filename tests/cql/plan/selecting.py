"""Statements against a store in memory, without a session: what the tests of SELECT share."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

from ourodb.cql.analysis.terms import Context
from ourodb.cql.plan.options import ExecuteOptions
from ourodb.cql.plan.select import SelectPlan
from ourodb.cql.syntax.parser import parse
from ourodb.replication.coordinator.paging import PagingSeal
from ourodb.replication.coordinator.read import Read, read_row
from ourodb.schema.model import Keyspace, Replication, Schema, Table
from ourodb.storage.memory import MemoryStore
from ourodb.storage.mutation import MutationBuilder
from ourodb.storage.rows import Rows

NOW_S = 1_000_000
SEAL = PagingSeal(b"a key for tests".ljust(32))


class FixedClock:
    def wall_us(self) -> int:
        return 1_700_000_000_123_456

    def monotonic_ns(self) -> int:
        return 0


class CountingRandom:
    """Draws that never repeat."""

    def __init__(self) -> None:
        self.drawn = 0

    def bytes(self, count: int) -> bytes:
        self.drawn += 1
        return self.drawn.to_bytes(count, "big")

    def below(self, bound: int) -> int:
        self.drawn += 1
        return self.drawn % bound


def int_bytes(number: int) -> bytes:
    return struct.pack(">i", number)


def schema_of(*tables: Table) -> Schema:
    keyspace = Keyspace("ks", Replication("SimpleStrategy"), tables={table.name: table for table in tables})
    return Schema(keyspaces={"ks": keyspace})


def options(page_size: int = 0, paging_state: bytes | None = None) -> ExecuteOptions:
    return ExecuteOptions(
        FixedClock(), CountingRandom(), 1, NOW_S, page_size=page_size, paging_state=paging_state
    )


class Bench:
    """One table with its rows."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.rows = Rows(MemoryStore()).register(table)
        self.schema = schema_of(table)
        self.timestamp = 0

    def plan(self, text: str) -> SelectPlan:
        statement = parse(text)
        context = Context(self.schema, "ks", statement.markers)
        return SelectPlan(statement, self.table, self.rows.keys, context, text)

    def put(
        self,
        partition: Sequence[bytes],
        clustering: Sequence[bytes] | None,
        values: Mapping[str, bytes] = {},
        *,
        elements: Mapping[str, Sequence[tuple[bytes, bytes]]] = {},
        marker: bool = True,
        timestamp: int | None = None,
        ttl: int = 0,
    ) -> None:
        """Insert a row; without clustering values its statics."""
        self.timestamp += 1
        at = self.timestamp if timestamp is None else timestamp
        builder = MutationBuilder(self.rows.keys, self.rows.keys.position(partition), at, NOW_S)
        row = builder.static_row() if clustering is None else builder.row(clustering)
        if clustering is not None and marker:
            row.marker(ttl)
        for name, value in values.items():
            row.cell(self.table.columns[name], value, ttl)
        for name, cells in elements.items():
            for path, value in cells:
                row.element(self.table.columns[name], path, value, ttl)
        mutation = builder.build()
        assert mutation is not None
        assert self.rows.apply(mutation, NOW_S) is None

    def page(
        self, plan: SelectPlan, values: Sequence[Any], page_size: int = 0, state: bytes | None = None
    ) -> tuple[list[list[bytes | None]], bytes | None]:
        """One page: its rows and the paging state."""
        read = Read(plan, values, options(page_size, state), lambda command: self.rows, SEAL)
        while read.step() is not None:
            pass
        return [split_row(row) for row in read.rows], read.paging_state

    def select(self, text: str, values: Sequence[Any] = (), page_size: int = 0) -> list[list[bytes | None]]:
        """All rows, gathered page by page."""
        plan = self.plan(text)
        found, state = self.page(plan, values, page_size)
        while state is not None:
            assert page_size > 0
            more, state = self.page(plan, values, page_size, state)
            assert len(more) <= page_size
            found += more
        return found

    def point(self, text: str, values: Sequence[Any] = ()) -> list[bytes | None] | None:
        """The row that the fast path finds."""
        row = read_row(self.plan(text), values, options(), self.rows)
        assert row is None or isinstance(row, bytes)
        return None if row is None else split_row(row)


def split_row(row: bytes) -> list[bytes | None]:
    """The values of an encoded result row."""
    found: list[bytes | None] = []
    offset = 0
    while offset < len(row):
        (length,) = struct.unpack_from(">i", row, offset)
        offset += 4
        found.append(None if length < 0 else row[offset : offset + length])
        offset += max(length, 0)
    assert offset == len(row)
    return found


def ints(row: Sequence[bytes | None]) -> tuple[int | None, ...]:
    """Integers of whatever width."""
    return tuple(None if value is None else int.from_bytes(value, "big", signed=True) for value in row)
