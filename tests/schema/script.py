"""Runs definitions and DESCRIBE without a server: CQL in, the answers out, in the text form of the golden scripts."""

from __future__ import annotations

from tests.schema.node import NODE

from ourodb.cql.analysis.ddl import analyse_ddl
from ourodb.cql.syntax import ast
from ourodb.cql.syntax.format import quote_string
from ourodb.cql.syntax.parser import parse
from ourodb.cql.types import TEXT, CqlType
from ourodb.errors import (
    AlreadyExists,
    ConfigurationException,
    CqlSyntaxError,
    InvalidRequest,
    NotSupported,
    RequestError,
    Unauthorized,
)
from ourodb.schema.changes import Change, SchemaChangeEvent
from ourodb.schema.describe import describe
from ourodb.schema.evolution import apply
from ourodb.schema.model import Schema
from ourodb.schema.system import initial_schema

SIMPLE = "{'class': 'SimpleStrategy', 'replication_factor': 1}"

NAMES = {
    CqlSyntaxError: "SyntaxException",
    InvalidRequest: "InvalidRequestException",
    NotSupported: "InvalidRequestException",
    ConfigurationException: "ConfigurationException",
    AlreadyExists: "AlreadyExistsException",
    Unauthorized: "UnauthorizedErrorMessage",
}


class SteppingClock:
    """A clock that each reading moves on by a millisecond."""

    def __init__(self) -> None:
        self.now_us = 1_700_000_000_000_000

    def wall_us(self) -> int:
        self.now_us += 1_000
        return self.now_us

    def monotonic_ns(self) -> int:
        return self.now_us * 1_000


class CountingRandom:
    """Draws that only differ from each other."""

    def __init__(self) -> None:
        self.drawn = 0

    def bytes(self, count: int) -> bytes:
        self.drawn += 1
        return self.drawn.to_bytes(count, "big")

    def below(self, bound: int) -> int:
        self.drawn += 1
        return self.drawn % bound


class Script:
    """A session of a client that only defines and describes.

    Attributes:
        schema: as it is now.
        keyspace: the one in use.
        changes: those that were made, in order.
    """

    def __init__(self, schema: Schema | None = None, keyspace: str | None = None) -> None:
        self.schema = initial_schema() if schema is None else schema
        self.keyspace = keyspace
        self.datacenters = {"datacenter1": 1}
        self.changes: list[Change] = []
        self.events: list[tuple[SchemaChangeEvent, ...]] = []
        self._clock = SteppingClock()
        self._random = CountingRandom()

    def run(self, text: str) -> str:
        """One statement's answer, errors included."""
        try:
            return self.execute(text)
        except RequestError as error:
            where = ""
            if isinstance(error, AlreadyExists):
                where = f" keyspace={error.keyspace} table={error.table}"
            return f"error {error.code:04x} {NAMES[type(error)]}{where}: {error.message}"

    def execute(self, text: str) -> str:
        """One statement's answer; errors are raised."""
        statement = parse(text)
        if isinstance(statement, ast.Use):
            self.keyspace = statement.keyspace
            return f"keyspace: {statement.keyspace}"
        if isinstance(statement, ast.Describe):
            found = describe(statement, self.schema, self.keyspace, NODE)
            return table_text(found.columns, found.rows)
        checked = analyse_ddl(
            statement, self.schema, self.keyspace, self.datacenters, self._clock, self._random
        )
        lines = ["ok"]
        if checked.change is not None:
            self.schema, events = apply(self.schema, checked.change)
            self.changes.append(checked.change)
            self.events.append(events)
            if events:
                lines = [event_text(events[-1])]
        return "\n".join(lines + [f"warning: {warning}" for warning in checked.warnings])


def event_text(event: SchemaChangeEvent) -> str:
    name = f".{event.name}" if event.name else ""
    return f"schema change: {event.change} {event.target} {event.keyspace}{name}"


def table_text(columns: tuple[tuple[str, CqlType], ...], rows: tuple[tuple[bytes | None, ...], ...]) -> str:
    lines = [" | ".join(f"{name} {part.cql_name.replace('text', 'varchar')}" for name, part in columns)]
    lines += [
        " | ".join(value_text(part, value) for (_, part), value in zip(columns, row, strict=True))
        for row in rows
    ]
    return "\n".join([*lines, f"({len(rows)} row{'s' if len(rows) != 1 else ''})"])


def value_text(part: CqlType, value: bytes | None) -> str:
    if value is None:
        return "null"
    if part == TEXT:
        return quote_string(value.decode()).replace("\n", "\\n")
    return part.literal(value)
