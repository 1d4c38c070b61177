"""Tracing: what happened to one request, written to ``system_traces``.

A client that sets the tracing flag gets an id with its answer and polls ``system_traces.sessions`` until the
duration is there. The rows are written when the answer is made, to whichever nodes keep them, and live for a day (the
tables' default TTL).
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from ourodb.cql.types import INET, INT, TEXT, TIMESTAMP
from ourodb.cql.types.timeuuid import timeuuid
from ourodb.cql.wire import codes
from ourodb.cql.wire.requests import QueryParameters
from ourodb.schema.model import Table
from ourodb.storage.mutation import Mutation, MutationBuilder, RowBuilder

if TYPE_CHECKING:
    from ourodb.session.processor import QueryProcessor

STATEMENT_CHARACTERS_MAX = 1000
THREAD = "loop"


class Trace:
    """One traced request.

    Attributes:
        id: 16 bytes, a version 1 UUID.
    """

    __slots__ = (
        "_client",
        "_command",
        "_events",
        "_finished",
        "_parameters",
        "_processor",
        "_started_ns",
        "_started_us",
        "id",
    )

    def __init__(self, processor: QueryProcessor, command: str, client: str) -> None:
        self._processor = processor
        self._command = command
        self._client = client
        self._started_us = processor.clock.wall_us()
        self._started_ns = processor.clock.monotonic_ns()
        random = processor.random
        self.id = timeuuid(self._started_us * 10, random.below(1 << 14), random.below(1 << 48))
        self._parameters: dict[str, str] = {}
        self._events: list[tuple[int, str]] = []
        self._finished = False

    def about(self, statement: str, parameters: QueryParameters) -> None:
        """What is traced."""
        self._parameters["query"] = statement[:STATEMENT_CHARACTERS_MAX]
        self._parameters["consistency_level"] = codes.CONSISTENCY_NAMES[parameters.consistency]
        self._parameters["serial_consistency_level"] = codes.CONSISTENCY_NAMES[parameters.serial_consistency]
        self._parameters["page_size"] = str(parameters.page_size)
        self.note("Compiled the statement")

    def note(self, activity: str) -> None:
        """Something happened just now."""
        self._events.append((self._elapsed_us(), activity))

    def finish(self) -> None:
        """The answer is on its way: write down what happened."""
        if self._finished:
            return
        self._finished = True
        self.note("Request complete")
        schema = self._processor.schema
        sessions = schema.table("system_traces", "sessions")
        events = schema.table("system_traces", "events")
        if sessions is None or events is None:
            return
        now_s = self._started_us // 1_000_000
        for mutation in (self._session_row(sessions, now_s), self._event_rows(events, now_s)):
            if mutation is not None:
                self._processor.keep_trace(mutation, now_s)

    def _session_row(self, table: Table, now_s: int) -> Mutation | None:
        builder = self._builder(table, now_s)
        row = builder.row(())
        ttl = table.options.default_time_to_live
        row.marker(ttl)
        coordinator, port = self._processor.address
        values = {
            "client": _inet(self._client),
            "command": TEXT.encode("QUERY" if self._command != "BATCH" else "BATCH"),
            "coordinator": _inet(coordinator),
            "coordinator_port": INT.encode(port),
            "duration": INT.encode(self._elapsed_us()),
            "request": TEXT.encode(f"Execute CQL3 {'batch' if self._command == 'BATCH' else 'query'}"),
            "started_at": TIMESTAMP.encode(self._started_us // 1000),
        }
        _put(row, table, values, ttl)
        parameters = table.columns["parameters"]
        for name, text in self._parameters.items():
            row.element(parameters, name.encode(), text.encode(), ttl)
        return builder.build()

    def _event_rows(self, table: Table, now_s: int) -> Mutation | None:
        builder = self._builder(table, now_s)
        ttl = table.options.default_time_to_live
        random = self._processor.random
        address, port = self._processor.address
        node = random.below(1 << 48)
        for i, (elapsed_us, activity) in enumerate(self._events):
            event_id = timeuuid((self._started_us + elapsed_us) * 10 + i, 0, node)
            row = builder.row((event_id,))
            row.marker(ttl)
            values = {
                "activity": TEXT.encode(activity),
                "source": _inet(address),
                "source_elapsed": INT.encode(elapsed_us),
                "source_port": INT.encode(port),
                "thread": TEXT.encode(THREAD),
            }
            _put(row, table, values, ttl)
        return builder.build()

    def _builder(self, table: Table, now_s: int) -> MutationBuilder:
        keys = self._processor.rows.of(table).keys
        return MutationBuilder(keys, keys.position((self.id,)), self._started_us, now_s)

    def _elapsed_us(self) -> int:
        return (self._processor.clock.monotonic_ns() - self._started_ns) // 1000


def _put(row: RowBuilder, table: Table, values: dict[str, bytes], ttl: int) -> None:
    for name, value in values.items():
        row.cell(table.columns[name], value, ttl)


def _inet(address: str) -> bytes:
    try:
        return INET.encode(ipaddress.ip_address(address))
    except ValueError:
        return INET.encode(ipaddress.ip_address("0.0.0.0"))
