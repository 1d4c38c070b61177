"""Schema changes that race with each other and with writes: one schema everywhere, and rows belong to their table.

Clients create, alter, truncate and drop the same few tables, conflicting on purpose, while others, and they themselves,
write and read rows in them, through all nodes. A row is written once, into ``value`` or into a column that an ALTER
TABLE has added. Names are left behind after a while, so that the history of each stays short enough to be checked.

At the end every node that is asked shows the same tables and columns, all rows are read, and a table of its own goes
through every kind of statement once.
"""

from __future__ import annotations

from typing import Final

from ourodb.cql.wire.codes import Consistency
from ourodb.errors import (
    AlreadyExists,
    InvalidRequest,
    IsBootstrapping,
    Overloaded,
    ReadFailure,
    ReadTimeout,
    ServerError,
    Unavailable,
    WriteFailure,
    WriteTimeout,
)
from ourodb.sim.checkers.schema import EXISTS, MISSING, NO_COLUMN, check_schema
from ourodb.sim.history import Operation, Outcome
from ourodb.sim.workloads.stage import (
    KEYSPACE,
    NoAnswer,
    NotSent,
    Reply,
    Script,
    Stage,
    bigint,
    from_bigint,
    insist,
    read_all,
    set_up_tables,
)

COLUMNS: Final = (
    f"SELECT column_name FROM system_schema.columns WHERE keyspace_name = '{KEYSPACE}' AND table_name = ?"
)
CREATE_KEPT: Final = f"CREATE TABLE IF NOT EXISTS {KEYSPACE}.kept (id bigint PRIMARY KEY)"
"""A table that stays: without any, a stranger would be let into the cluster."""
TABLES: Final = 2
"""Under so many names tables come and go at a time."""
CHANGES_PER_TABLE: Final = 30
YOUNG_SECONDS: Final = 2.0
CHANGE_SECONDS: Final = 15.0
"""A change of the schema waits for all live nodes, for ten seconds at most."""

_IN_DOUBT = (NoAnswer, WriteTimeout, ReadTimeout, WriteFailure, ReadFailure, Overloaded)
_NOT_DONE = (NotSent, Unavailable, IsBootstrapping)
_STORE_FAILED = ("Restart the node", "the storage engine failed")
"""What a node says that can't write any more."""


class SchemaWorkload:
    """See the module.

    Attributes:
        stale: answers by which a node showed that it hadn't heard of a change that was acknowledged before; known once
            ``problems`` was called.
    """

    name = "schema"

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._rows = 0
        self._columns = 0
        self._changes = 0
        self._known_columns: dict[int, list[str]] = {}
        """By table: those that an acknowledged ALTER TABLE has added, under this name at any time."""
        self._known_rows: dict[int, list[int]] = {}
        self._undocumented: list[str] = []
        self.stale: list[str] = []

    def set_up(self) -> Script[None]:
        yield from set_up_tables(self._stage, [CREATE_KEPT])
        # A young cluster has one voter for a second, without which nothing can be changed.
        yield self._stage.sleep(YOUNG_SECONDS)

    def run_client(self, number: int) -> Script[None]:
        stage, random = self._stage, self._stage.random
        while not stage.is_over:
            table = self._changes // (TABLES * CHANGES_PER_TABLE) * TABLES + random.below(TABLES)
            drawn = random.below(20)
            if drawn < 2:
                yield from self._change(number, "create", table)
            elif drawn == 2:
                yield from self._change(number, ("drop", "truncate")[random.below(2)], table)
            elif drawn == 3:
                yield from self._change(number, "alter", table)
            elif drawn < 12:
                yield from self._insert(number, table)
            else:
                yield from self._read(number, table)
            yield stage.sleep(random.below(30) / 1000)

    def finish(self) -> Script[None]:
        yield from self._go_through_all()
        for table in sorted({operation.key for operation in self._stage.history}):
            for number in range(3):
                yield from self._look(number, table)
            yield from self._scan(table)

    def problems(self) -> list[str]:
        problems, self.stale = check_schema(self._stage.history)
        return self._undocumented[:3] + problems

    # --- statements

    def _change(self, number: int, kind: str, table: int, *, insists: bool = False) -> Script[None]:
        """A change of the schema.

        Args:
            insists: the cluster is healed: it has to succeed, and may be tried again.
        """
        self._changes += 1
        column = None
        if kind == "alter":
            self._columns += 1
            column = f"c{self._columns}"
        statement = _changes(kind, table, column, idempotent=insists)
        operation = self._stage.history.invoke(number, kind, table, column)
        if insists:
            reply: Reply = yield from insist(self._stage, statement, (), is_prepared=False)
        else:
            reply = yield self._stage.client(number).execute(
                statement, timeout_s=CHANGE_SECONDS, is_prepared=False
            )
        self._complete(operation, reply)
        if column is not None and operation.outcome is Outcome.DONE and operation.result is None:
            self._known_columns.setdefault(table, []).append(column)

    def _insert(self, number: int, table: int, *, insists: bool = False) -> Script[None]:
        """A row, into a column that was added lately, or into the one that was there from the first."""
        random = self._stage.random
        columns = self._known_columns.get(table, [])
        column = columns[-1 - random.below(min(2, len(columns)))] if columns and random.below(2) else "value"
        self._rows += 1
        row = self._rows
        statement = f"INSERT INTO {_named(table)} (id, {column}) VALUES (?, ?)"
        operation = self._stage.history.invoke(number, "insert", table, (row, column))
        values = (bigint(row), bigint(row))
        if insists:
            reply: Reply = yield from insist(self._stage, statement, values)
        else:
            # A statement with markers can be run without being prepared as well.
            is_prepared = random.below(4) > 0
            reply = yield self._stage.client(number).execute(statement, values, is_prepared=is_prepared)
        self._complete(operation, reply)
        if operation.outcome is not Outcome.REFUSED and operation.result is None:
            self._known_rows.setdefault(table, []).append(row)

    def _read(self, number: int, table: int) -> Script[None]:
        """A row that was written lately, or a while ago."""
        rows = self._known_rows.get(table)
        if not rows:
            return
        random = self._stage.random
        row = (
            rows[-1 - random.below(min(10, len(rows)))] if random.below(2) else rows[random.below(len(rows))]
        )
        operation = self._stage.history.invoke(number, "read", table, row)
        statement = f"SELECT * FROM {_named(table)} WHERE id = ?"
        reply: Reply = yield self._stage.client(number).execute(statement, (bigint(row),))
        self._complete(operation, reply, _found(reply.columns, reply.rows))

    def _look(self, number: int, table: int) -> Script[None]:
        """What columns a table has, by the node that the client is connected to; None: there is no such table."""
        operation = self._stage.history.invoke(number, "look", table)
        reply = yield from insist(self._stage, COLUMNS, (f"t{table}".encode(),), number=number)
        columns = frozenset(row[0].decode() for row in reply.rows if row[0] is not None)
        self._complete(operation, reply, columns - {"id", "value"} if columns else None)

    def _scan(self, table: int) -> Script[None]:
        """All rows, once all is healed."""
        last = self._stage.history.operations[-1]
        assert last.kind == "look"
        if last.result is None:
            return
        operation = self._stage.history.invoke(0, "scan", table)
        names, rows = yield from read_all(
            self._stage, f"SELECT * FROM {_named(table)}", consistency=Consistency.QUORUM
        )
        self._stage.history.complete(operation, Outcome.DONE, _found(names, rows))

    def _go_through_all(self) -> Script[None]:
        """Each kind of statement has to succeed now."""
        table = -1
        yield from self._change(0, "create", table, insists=True)
        for _ in range(3):
            yield from self._change(0, "alter", table, insists=True)
            yield from self._insert(0, table, insists=True)
        yield from self._change(0, "truncate", table, insists=True)
        yield from self._insert(0, table, insists=True)
        yield from self._read(0, table)
        yield from self._change(0, "drop", table, insists=True)

    # --- answers

    def _complete(self, operation: Operation, reply: Reply, result: object = None) -> None:
        """That a statement doesn't fit the schema is an answer as good as any: its result says why."""
        error = reply.error
        outcome = Outcome.UNKNOWN
        if error is None:
            outcome = Outcome.DONE
        elif isinstance(error, _NOT_DONE):
            outcome, result = Outcome.REFUSED, None
        elif isinstance(error, AlreadyExists) and operation.kind == "create":
            outcome, result = Outcome.DONE, EXISTS
        elif isinstance(error, InvalidRequest) and "exist" in str(error):
            outcome, result = Outcome.DONE, MISSING
        elif isinstance(error, InvalidRequest) and "Undefined column" in str(error):
            outcome, result = Outcome.DONE, NO_COLUMN
        elif not isinstance(error, _IN_DOUBT) and not (
            isinstance(error, ServerError) and any(text in str(error) for text in _STORE_FAILED)
        ):
            self._undocumented.append(
                f"an error that isn't documented: {operation}: {reply.error_name}: {error}"
            )
        self._stage.history.complete(operation, outcome, result, reply.error_name)


def _named(table: int) -> str:
    return f"{KEYSPACE}.t{table}" if table >= 0 else f"{KEYSPACE}.last"


def _changes(kind: str, table: int, column: str | None, *, idempotent: bool) -> str:
    """The statement of a change; with IF (NOT) EXISTS if it may be repeated."""
    name = _named(table)
    missing, there = (" IF NOT EXISTS", " IF EXISTS") if idempotent else ("", "")
    return {
        "create": f"CREATE TABLE{missing} {name} (id bigint PRIMARY KEY, value bigint)",
        "drop": f"DROP TABLE{there} {name}",
        "truncate": f"TRUNCATE {name}",
        "alter": f"ALTER TABLE {name} ADD{missing} {column} bigint",
    }[kind]


def _found(names: tuple[str, ...], rows: list[list[bytes | None]]) -> dict[int, tuple[str, ...]]:
    """The columns that have a value, by row; a value that isn't the row's is told as a column of its own."""
    found = {}
    for cells in rows:
        row = dict(zip(names, map(from_bigint, cells), strict=True))
        number = row.pop("id")
        assert number is not None
        found[number] = tuple(
            name if value == number else f"{name} = {value}"
            for name, value in sorted(row.items())
            if value is not None
        )
    return found
