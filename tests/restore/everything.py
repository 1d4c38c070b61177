"""A keyspace with a bit of everything that a store can hold, and the whole of it as clients see it."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from cassandra import ConsistencyLevel
from cassandra.cluster import Session
from cassandra.protocol import _ProtocolHandler
from cassandra.query import SimpleStatement

YEAR_S = 365 * 86_400
BIG = 3_000
"""Rows of the widest partition: several mutations."""
LARGE_BYTES = 2 << 20
"""A value of which three make a row that is taken apart."""

TABLES = (
    "CREATE TYPE {k}.address (street text, zip int)",
    "CREATE TABLE {k}.plain (k int PRIMARY KEY, v text)",
    (
        "CREATE TABLE {k}.kinds (a int, b text, c int, d decimal, s text static, ss set<text> static, v int, w text,"
        " l list<int>, st set<text>, m map<text, int>, u address, fu frozen<address>, f frozen<list<int>>,"
        " t tuple<int, text>, PRIMARY KEY ((a, b), c, d)) WITH CLUSTERING ORDER BY (c DESC, d ASC)"
    ),
    "CREATE TABLE {k}.wide (p int, c int, v text, PRIMARY KEY (p, c))",
    "CREATE TABLE {k}.large (k int PRIMARY KEY, a blob, b blob, c blob)",
    "CREATE TABLE {k}.counts (p int, c int, s counter static, n counter, PRIMARY KEY (p, c))",
    "CREATE TABLE {k}.short (k int PRIMARY KEY, v text) WITH default_time_to_live = 31536000",
    "CREATE TABLE {k}.altered (k int PRIMARY KEY, x int, y text, z set<int>)",
    'CREATE TABLE {k}."Quoted" ("K" int PRIMARY KEY, "V" text)',
    "CREATE TABLE {k}.emptied (k int PRIMARY KEY, v int)",
    "CREATE TABLE {k}.empty (k int PRIMARY KEY)",
)

KIND_ROWS = (
    "INSERT INTO kinds (a, b, c, d, s, v, w) VALUES (1, 'x', 1, 1.0, 'static', 1, 'one')",
    "INSERT INTO kinds (a, b, c, d, v, w) VALUES (1, 'x', 2, 1.50, 2, 'two') USING TIMESTAMP 1000 AND TTL 40000000",
    "UPDATE kinds USING TTL 50000000 SET w = 'kept for a while' WHERE a = 1 AND b = 'x' AND c = 1 AND d = 1.0",
    "UPDATE kinds SET ss = {'p', 'q', 'r'} WHERE a = 1 AND b = 'x'",
    "UPDATE kinds SET ss = ss - {'q'} WHERE a = 1 AND b = 'x'",
    "INSERT INTO kinds (a, b, c, d, l, st, m) VALUES (1, 'x', 3, 0, [1, 2, 3], {'a', 'b'}, {'one': 1, 'two': 2})",
    "UPDATE kinds SET l = l + [4, 5], m['three'] = 3 WHERE a = 1 AND b = 'x' AND c = 3 AND d = 0",
    "UPDATE kinds USING TTL 60000000 SET m['four'] = 4 WHERE a = 1 AND b = 'x' AND c = 3 AND d = 0",
    "DELETE m['one'], l[0] FROM kinds WHERE a = 1 AND b = 'x' AND c = 3 AND d = 0",
    "UPDATE kinds SET st = {'only elements, no row'} WHERE a = 2 AND b = 'y' AND c = 1 AND d = 7",
    (
        "INSERT INTO kinds (a, b, c, d, u, fu, f, t) VALUES (2, 'y', 2, 7, {street: 's', zip: 1},"
        " {street: 'f', zip: 2}, [7, 8], (9, 'nine'))"
    ),
    "UPDATE kinds SET u.zip = 10 WHERE a = 2 AND b = 'y' AND c = 2 AND d = 7",
    "INSERT INTO kinds (a, b, c, d, v) VALUES (3, 'gone', 1, 1, 1) USING TIMESTAMP 1000",
    "INSERT INTO kinds (a, b, c, d, s) VALUES (4, 'static alone', 1, 1, 'alone')",
    "DELETE FROM kinds WHERE a = 4 AND b = 'static alone' AND c = 1 AND d = 1",
    # Deletions of every kind, whose shadows must travel.
    "DELETE FROM kinds USING TIMESTAMP 5000 WHERE a = 3 AND b = 'gone'",
    "INSERT INTO kinds (a, b, c, d, v) VALUES (5, 'rows', 1, 1, 1) USING TIMESTAMP 1000",
    "DELETE FROM kinds USING TIMESTAMP 5000 WHERE a = 5 AND b = 'rows' AND c = 1 AND d = 1",
    "INSERT INTO kinds (a, b, c, d, v) VALUES (5, 'rows', 40, 1, 1) USING TIMESTAMP 1000",
    "INSERT INTO kinds (a, b, c, d, v) VALUES (5, 'rows', 60, 1, 1) USING TIMESTAMP 9000",
    "DELETE FROM kinds USING TIMESTAMP 5000 WHERE a = 5 AND b = 'rows' AND c >= 30 AND c < 100",
    "DELETE FROM kinds USING TIMESTAMP 6000 WHERE a = 5 AND b = 'rows' AND c >= 50 AND c < 70",
    "INSERT INTO kinds (a, b, c, d, v, w) VALUES (6, 'cells', 1, 1, 1, 'x') USING TIMESTAMP 1000",
    "DELETE v FROM kinds USING TIMESTAMP 5000 WHERE a = 6 AND b = 'cells' AND c = 1 AND d = 1",
    "UPDATE kinds USING TIMESTAMP 1000 SET m = {'a': 1, 'b': 2} WHERE a = 7 AND b = 'elements' AND c = 1 AND d = 1",
    "DELETE m['a'] FROM kinds USING TIMESTAMP 5000 WHERE a = 7 AND b = 'elements' AND c = 1 AND d = 1",
)

OLD_WRITES = (
    "INSERT INTO kinds (a, b, c, d, v) VALUES (3, 'gone', 1, 1, 13) USING TIMESTAMP 4000",
    "INSERT INTO kinds (a, b, c, d, v) VALUES (5, 'rows', 1, 1, 13) USING TIMESTAMP 4000",
    "INSERT INTO kinds (a, b, c, d, v) VALUES (5, 'rows', 99, 1, 13) USING TIMESTAMP 4999",
    "INSERT INTO kinds (a, b, c, d, v) VALUES (5, 'rows', 55, 1, 13) USING TIMESTAMP 5999",
    "UPDATE kinds USING TIMESTAMP 4000 SET v = 13 WHERE a = 6 AND b = 'cells' AND c = 1 AND d = 1",
    "UPDATE kinds USING TIMESTAMP 4000 SET m['a'] = 13 WHERE a = 7 AND b = 'elements' AND c = 1 AND d = 1",
)
"""Writes that are older than a deletion which covers them: if it has travelled, they don't show."""


def run(session: Session, statement: str, *values: Any, level: int = ConsistencyLevel.ALL) -> Any:
    """At ALL: afterwards every replica has it, or all were asked."""
    return session.execute(SimpleStatement(statement, consistency_level=level), values or None)


def fill(session: Session, keyspace: str, replication: str) -> None:
    """Make the keyspace and everything in it."""
    run(session, f"CREATE KEYSPACE {keyspace} WITH replication = {replication}")
    for statement in TABLES:
        run(session, statement.format(k=keyspace))
    session.set_keyspace(keyspace)
    for statement in KIND_ROWS:
        run(session, statement)
    run(session, "ALTER TYPE address ADD country text")
    run(
        session,
        "UPDATE kinds SET u.country = 'c', fu = {street: 'g', zip: 3, country: 'h'}"
        " WHERE a = 2 AND b = 'y' AND c = 3 AND d = 7",
    )
    plain = session.prepare("INSERT INTO plain (k, v) VALUES (?, ?)")
    wide = session.prepare("INSERT INTO wide (p, c, v) VALUES (1, ?, ?)")
    for statement in (plain, wide):
        statement.consistency_level = ConsistencyLevel.ALL
    waiting = [session.execute_async(plain, (number, f"value {number}")) for number in range(400)]
    waiting += [session.execute_async(wide, (number, "w" * (number % 90))) for number in range(BIG)]
    for one in waiting:
        one.result()
    large = [bytes([number]) * LARGE_BYTES for number in range(3)]
    session.execute(session.prepare("INSERT INTO large (k, a, b, c) VALUES (1, ?, ?, ?)"), large)
    session.execute(session.prepare("UPDATE large USING TIMESTAMP 77 SET a = ? WHERE k = 2"), large[:1])
    for number in range(60):
        run(session, "UPDATE counts SET n = n + %s WHERE p = 1 AND c = %s", number, number % 7)
        run(session, "UPDATE counts SET s = s + 1 WHERE p = 1")
    run(session, "INSERT INTO short (k, v) VALUES (1, 'by default')")
    run(session, "INSERT INTO altered (k, x, y, z) VALUES (1, 1, 'old', {1, 2})")
    for column in ("x", "y", "z"):
        run(session, f"ALTER TABLE altered DROP {column}")
    run(session, "ALTER TABLE altered ADD y text")
    run(session, "INSERT INTO altered (k, y) VALUES (2, 'new')")
    run(session, 'INSERT INTO "Quoted" ("K", "V") VALUES (1, %s)', "quoted")
    run(session, "INSERT INTO emptied (k, v) VALUES (1, 1)")
    run(session, "TRUNCATE emptied")
    run(session, "INSERT INTO emptied (k, v) VALUES (2, 2)")


class View(NamedTuple):
    """What a client sees.

    Attributes:
        rows: by table; all columns, with the write times of those that have one.
        ttls: by table, row for row; None where nothing expires.
        began_s, ended_s: when it was read.
    """

    rows: dict[str, list[Any]]
    ttls: dict[str, list[Any]]
    began_s: float
    ended_s: float


def view(session: Session, keyspace: str, level: int = ConsistencyLevel.ALL) -> View:
    """All rows of all tables; at ALL every replica is compared."""
    # The faster one can't read nulls within lists, as TTL() of collections gives them.
    session.client_protocol_handler = _ProtocolHandler
    rows, ttls = {}, {}
    began_s = time.time()
    for table, columns in tables_of(session, keyspace).items():
        timed = [name for name, is_timed in columns.items() if is_timed]
        selected = [*columns, *(f"WRITETIME({name})" for name in timed)]
        rows[table] = ordered(
            run(session, f"SELECT {', '.join(selected)} FROM {keyspace}.{table}", level=level)
        )
        if timed:
            keys = [name for name, is_timed in columns.items() if not is_timed]
            lived = ", ".join([*keys, *(f"TTL({name})" for name in timed)])
            ttls[table] = ordered(run(session, f"SELECT {lived} FROM {keyspace}.{table}", level=level))
    return View(rows, ttls, began_s, time.time())


def ordered(rows: Any) -> list[Any]:
    """Token order is the same everywhere: nothing to do but to make values comparable."""
    return [tuple(_plain(value) for value in row) for row in rows]


def _flat(row: tuple[Any, ...]) -> list[Any]:
    """The row, with the members of lists as values of their own."""
    return [one for value in row for one in (value if isinstance(value, list) else [value])]


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, UUID | bytes | str | int | float | list) or value is None:
        return value
    return repr(value)


def tables_of(session: Session, keyspace: str) -> dict[str, dict[str, bool]]:
    """Columns of each table, and whether they have a write time."""
    found: dict[str, dict[str, bool]] = {}
    query = "SELECT * FROM system_schema.columns WHERE keyspace_name = %s"
    for row in run(session, query, keyspace, level=ConsistencyLevel.ONE):
        is_timed = row.kind in ("static", "regular") and row.type != "counter"
        found.setdefault(f'"{row.table_name}"', {})[f'"{row.column_name}"'] = is_timed
    return found


def assert_same(before: View, after: View) -> None:
    """Rows and write times are equal; what is left to live has shrunk by the time between the two views."""
    assert before.rows == after.rows
    assert before.ttls.keys() == after.ttls.keys()
    longest_s = after.ended_s - before.began_s + 1
    for table, rows in before.ttls.items():
        assert len(rows) == len(after.ttls[table])
        for left, right in zip(rows, after.ttls[table], strict=True):
            for one, other in zip(_flat(left), _flat(right), strict=True):
                if isinstance(one, int) and one > YEAR_S // 2:
                    assert 0 <= one - other <= longest_s, table
                else:
                    assert one == other, table


def definition(session: Session, keyspace: str) -> str:
    """DESCRIBE KEYSPACE, without what belongs to the cluster."""
    text = "\n".join(row.create_statement for row in run(session, f"DESCRIBE KEYSPACE {keyspace}"))
    return text[text.index("\n") :].replace(keyspace, "keyspace")
