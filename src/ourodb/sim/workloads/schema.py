"""Schema changes that race with each other and with writes: one schema everywhere, and rows belong to their table.

Clients create, alter, truncate and drop the same few tables, conflicting on purpose, while others, and they themselves,
write and read rows in them, through all nodes. A row is written once, into ``value`` or into a column that an ALTER
TABLE has added. Keyspaces come and go as well: every other one is altered, to a replication factor that no other
statement names, and in the rest tables are made, which are gone with their keyspace. Names are left behind after a
while, so that the history of each stays short enough to be checked.

At the end every node that is asked shows the same keyspaces, tables and columns, all rows are read, and a table and
keyspaces of its own go through every kind of statement once.
"""

from __future__ import annotations

import re
from typing import Final

from ourodb.cql.wire.codes import Consistency
from ourodb.errors import (
    AlreadyExists,
    InvalidRequest,
    IsBootstrapping,
    Unavailable,
)
from ourodb.sim.checkers.schema import EXISTS, MISSING, NO_COLUMN, OF_KEYSPACES, check_schema
from ourodb.sim.history import Operation, Outcome
from ourodb.sim.workloads.stage import (
    KEYSPACE,
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
KEYSPACES: Final = 2
"""Under so many names tables and keyspaces come and go at a time."""
CHANGES_PER_NAME: Final = 30
YOUNG_SECONDS: Final = 2.0
CHANGE_SECONDS: Final = 15.0
"""A change of the schema waits for all live nodes, for ten seconds at most."""
ALTERS: Final = ("alter", "fill")
"""What is done to a keyspace that is there; the number of every other one is odd, and gets the second."""
LOOKERS: Final = 3

_FACTOR: Final = re.compile(r"'replication_factor': '(\d+)'")
_NOT_DONE = (NotSent, Unavailable, IsBootstrapping)


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
        self._keyspace_changes = 0
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
            table = self._changes // (TABLES * CHANGES_PER_NAME) * TABLES + random.below(TABLES)
            drawn = random.below(22)
            if drawn < 2:
                yield from self._change(number, "create", table)
            elif drawn == 2:
                yield from self._change(number, ("drop", "truncate")[random.below(2)], table)
            elif drawn == 3:
                yield from self._change(number, "alter", table)
            elif drawn < 12:
                yield from self._insert(number, table)
            elif drawn < 20:
                yield from self._read(number, table)
            else:
                generation = self._keyspace_changes // (KEYSPACES * CHANGES_PER_NAME)
                keyspace = generation * KEYSPACES + random.below(KEYSPACES)
                alter = ALTERS[keyspace % 2]
                kind = ("create", "create", alter, alter, "drop")[random.below(5)]
                yield from self._change_keyspace(number, kind, keyspace)
            yield stage.sleep(random.below(30) / 1000)

    def finish(self) -> Script[None]:
        yield from self._go_through_all()
        keys = {(operation.kind in OF_KEYSPACES, operation.key) for operation in self._stage.history}
        for is_keyspace, key in sorted(keys):
            for number in range(LOOKERS):
                yield from self._look_at_keyspace(number, key) if is_keyspace else self._look(number, key)
            if not is_keyspace:
                yield from self._scan(key)

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
        yield from self._carry_out(operation, statement, insists=insists)
        if column is not None and operation.outcome is Outcome.DONE and operation.result is None:
            self._known_columns.setdefault(table, []).append(column)

    def _change_keyspace(
        self, number: int, kind: str, keyspace: int, *, insists: bool = False
    ) -> Script[None]:
        """A change of a keyspace, or of what is in it; with ``insists`` as for tables."""
        self._keyspace_changes += 1
        argument = None
        if kind in ALTERS:
            self._columns += 1
            argument = f"factor={1 + self._columns}" if kind == "alter" else f"inside{self._columns}"
        statement = _changes_of_keyspace(kind, keyspace, argument, idempotent=insists)
        operation = self._stage.history.invoke(number, f"{kind} keyspace", keyspace, argument)
        yield from self._carry_out(operation, statement, insists=insists)

    def _carry_out(self, operation: Operation, statement: str, *, insists: bool) -> Script[None]:
        """The statement of a change; with ``insists`` as for tables."""
        if insists:
            reply: Reply = yield from insist(self._stage, statement, (), is_prepared=False)
        else:
            client = self._stage.client(operation.process)
            reply = yield client.execute(statement, timeout_s=CHANGE_SECONDS, is_prepared=False)
        self._complete(operation, reply)

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

    def _look_at_keyspace(self, number: int, keyspace: int) -> Script[None]:
        """Its replication factor, if it isn't that of the beginning, and its tables, as of one moment."""
        operation = self._stage.history.invoke(number, "look at keyspace", keyspace)
        statement = f"DESCRIBE KEYSPACE {_keyspace(keyspace)}"
        reply = yield from insist(
            self._stage,
            statement,
            (),
            number=number,
            is_prepared=False,
            is_answer=lambda reply: reply.error is None or _is_missing(reply),
        )
        shown = None if _is_missing(reply) else _described(reply)
        self._stage.history.complete(operation, Outcome.DONE, shown)

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
        for keyspace, kind in ((-1, "alter"), (-2, "fill")):
            yield from self._change_keyspace(0, "create", keyspace, insists=True)
            yield from self._change_keyspace(0, kind, keyspace, insists=True)
        yield from self._change_keyspace(0, "drop", keyspace, insists=True)

    # --- answers

    def _complete(self, operation: Operation, reply: Reply, result: object = None) -> None:
        """That a statement doesn't fit the schema is an answer as good as any: its result says why."""
        error = reply.error
        operation.epochs = reply.epochs
        outcome = Outcome.UNKNOWN
        if error is None:
            outcome = Outcome.DONE
        elif isinstance(error, _NOT_DONE):
            outcome, result = Outcome.REFUSED, None
        elif isinstance(error, AlreadyExists) and operation.kind in ("create", "create keyspace"):
            outcome, result = Outcome.DONE, EXISTS
        elif isinstance(error, InvalidRequest) and "exist" in str(error):
            outcome, result = Outcome.DONE, MISSING
        elif isinstance(error, InvalidRequest) and "Undefined column" in str(error):
            outcome, result = Outcome.DONE, NO_COLUMN
        elif not reply.is_explained:
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


def _keyspace(keyspace: int) -> str:
    return f"k{keyspace}" if keyspace >= 0 else f"last{-keyspace}"


def _changes_of_keyspace(kind: str, keyspace: int, argument: str | None, *, idempotent: bool) -> str:
    """The statement of a change; with IF (NOT) EXISTS if it may be repeated."""
    name = _keyspace(keyspace)
    missing, there = (" IF NOT EXISTS", " IF EXISTS") if idempotent else ("", "")
    factor = argument.partition("=")[2] if argument is not None else "1"
    replication = f"WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': {factor}}}"
    return {
        "create": f"CREATE KEYSPACE{missing} {name} {replication}",
        "drop": f"DROP KEYSPACE{there} {name}",
        "alter": f"ALTER KEYSPACE {name} {replication}",
        "fill": f"CREATE TABLE{missing} {name}.{argument} (id bigint PRIMARY KEY)",
    }[kind]


def _is_missing(reply: Reply) -> bool:
    """DESCRIBE says that there is none."""
    return isinstance(reply.error, InvalidRequest) and "not found" in str(reply.error)


def _described(reply: Reply) -> frozenset[str]:
    """What a DESCRIBE KEYSPACE has, in the words of the statements that made it."""
    shown = set()
    for number in range(len(reply.rows)):
        kind, name, text = (
            reply.cell(column, number) or b"" for column in ("type", "name", "create_statement")
        )
        if kind == b"table":
            shown.add(name.decode())
        elif (factor := _FACTOR.search(text.decode())) and factor[1] != "1":
            shown.add(f"factor={factor[1]}")
    return frozenset(shown)


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
