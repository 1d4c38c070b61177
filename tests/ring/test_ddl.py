"""Twenty clients change the schema against each other on all nodes, while whoever leads the metadata log is killed over
and over. If this fails, nodes have different schemas, or lose a change that a client was told of.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable

import pytest
from cassandra import ConsistencyLevel as Level
from cassandra.cluster import Session
from cassandra.query import SimpleStatement
from tests.nodes import NodeProcess
from tests.ring.ring import SIMPLE_3, Ring, connect, connect_to, eventually
from tests.ring.run import IS_FULL, TEST_SECONDS_MAX, seed_of_run

pytestmark = pytest.mark.timeout(TEST_SECONDS_MAX)

CLIENTS = 20
KILLS = 12 if IS_FULL else 3
DEAD_SECONDS = 2.5
ALIVE_SECONDS = 1.5
AGREED_SECONDS_MAX = 10
REPLICATION = f"{{{SIMPLE_3}}}"
SCHEMA_TABLES = ("keyspaces", "tables", "columns", "types", "indexes", "views", "functions", "aggregates")


class Client:
    """One client: fights for names that all fight for, and makes tables that are its own.

    Attributes:
        made, dropped: of its own tables, what it was told of; each name is used once.
    """

    def __init__(self, number: int, sessions: list[Session], seed: int) -> None:
        self.outcomes: Counter[str] = Counter()
        self.done_s: list[float] = []
        self.made: dict[str, set[str]] = {}
        self.dropped: set[str] = set()
        self.in_doubt: set[str] = set()
        self._number = number
        self._sessions = sessions
        self._draw = random.Random(f"{seed} {number}")

    def work(self, stopped: threading.Event) -> None:
        count = 0
        while not stopped.is_set():
            if self._draw.random() < 0.5:
                self._fight()
            else:
                count += 1
                self._own(f"own_{self._number}_{count}")

    def _fight(self) -> None:
        draw = self._draw
        keyspace = f"fight_{draw.randrange(2)}"
        table = f"{keyspace}.t{draw.randrange(3)}"
        column = f"c{draw.randrange(4)} {draw.choice(['int', 'text', 'uuid'])}"
        self._run(
            draw.choice(
                [
                    f"CREATE KEYSPACE {keyspace} WITH replication = {REPLICATION}",
                    f"CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = {REPLICATION}",
                    f"CREATE TABLE {table} (id int PRIMARY KEY, {column}, who{self._number} int)",
                    f"CREATE TABLE IF NOT EXISTS {table} (id text, {column}, PRIMARY KEY (id))",
                    f"ALTER TABLE {table} ADD {column}",
                    f"ALTER TABLE {table} DROP c{draw.randrange(4)}",
                    f"ALTER TABLE {table} WITH comment = 'client {self._number}'",
                    f"CREATE TYPE {keyspace}.u{draw.randrange(2)} ({column})",
                    f"DROP TYPE {keyspace}.u{draw.randrange(2)}",
                    f"DROP TABLE {table}",
                    f"DROP KEYSPACE IF EXISTS {keyspace}"
                    if draw.random() < 0.2
                    else f"DROP TABLE IF EXISTS {table}",
                ]
            )
        )

    def _own(self, name: str) -> None:
        if not self._run(f"CREATE TABLE own.{name} (id int PRIMARY KEY)"):
            self.in_doubt.add(name)
            return
        self.made[name] = {"id"}
        if self._run(f"ALTER TABLE own.{name} ADD v int"):
            self.made[name].add("v")
        if self._draw.random() < 0.5:
            if self._run(f"DROP TABLE own.{name}"):
                self.dropped.add(name)
            else:
                self.in_doubt.add(name)

    def _run(self, statement: str) -> bool:
        session = self._draw.choice(self._sessions)
        try:
            session.execute(statement, timeout=15)
        except Exception as error:
            self.outcomes[type(error).__name__] += 1
            # A node that is dead says so at once.
            time.sleep(0.02)
            return False
        self.outcomes["done"] += 1
        self.done_s.append(time.monotonic())
        return True


def schema_of(node: NodeProcess) -> dict[str, list[str]]:
    """All that a node says of the schema: its version, its tables of the schema, and the CQL that makes it again."""
    session = connect_to(node, schema_metadata_enabled=False)
    try:
        found = {
            name: sorted(map(str, session.execute(f"SELECT * FROM system_schema.{name}")))
            for name in SCHEMA_TABLES
        }
        found["version"] = [str(session.execute("SELECT schema_version FROM system.local").one())]
        found["text"] = [str(row) for row in session.execute("DESCRIBE SCHEMA")]
        return found
    finally:
        session.cluster.shutdown()


def test_conflicting_changes(make_ring: Callable[..., Ring]) -> None:
    seed = seed_of_run()
    print(f"OURO_SEED={seed}")
    ring = make_ring(3).start()
    quiet = {"schema_metadata_enabled": False, "token_metadata_enabled": False}
    # One session goes to whoever is there, the others to one node each.
    sessions = [connect(ring.nodes, **quiet), *(connect_to(node, **quiet) for node in ring.nodes)]
    sessions[0].execute(f"CREATE KEYSPACE own WITH replication = {REPLICATION}")
    clients = [Client(number, sessions, seed) for number in range(CLIENTS)]
    stopped = threading.Event()
    threads = [threading.Thread(target=client.work, args=[stopped]) for client in clients]
    for thread in threads:
        thread.start()
    kills: list[tuple[float, float]] = []
    for _ in range(KILLS):
        leader = eventually(ring.leader, "somebody leads")
        leader.kill()
        killed_s = time.monotonic()
        time.sleep(DEAD_SECONDS)
        leader.start()
        kills.append((killed_s, time.monotonic()))
        time.sleep(ALIVE_SECONDS)
    stopped.set()
    for thread in threads:
        thread.join()
    ring.wait_until_whole()
    schemas = eventually(
        lambda: equal([schema_of(node) for node in ring.nodes]), "one schema", AGREED_SECONDS_MAX
    )
    outcomes = sum((client.outcomes for client in clients), Counter[str]())
    print(f"{sum(outcomes.values())} changes: {dict(outcomes)}")
    done_s = sorted(done for client in clients for done in client.done_s)
    for killed_s, back_s in kills:
        times = [done for done in done_s if killed_s < done < back_s]
        print(
            f"first success {times[0] - killed_s:.2f} s after the leader was killed"
            if times
            else "no success"
        )
        assert times, "nothing went on while the leader was dead"

    check_own_tables(clients, schemas["columns"])
    for session in sessions:
        session.cluster.shutdown()
    check_usable(ring)


def equal(schemas: list[dict[str, list[str]]]) -> dict[str, list[str]] | None:
    """The schema that all have, or None."""
    return schemas[0] if all(schema == schemas[0] for schema in schemas) else None


def check_own_tables(clients: list[Client], columns: list[str]) -> None:
    """What a client was told of its own tables is so: nobody else changes them."""
    there: dict[str, set[str]] = {}
    for row in columns:
        if "keyspace_name='own'" in row:
            table = row.partition("table_name='")[2].partition("'")[0]
            column = row.partition("column_name='")[2].partition("'")[0]
            there.setdefault(table, set()).add(column)
    for client in clients:
        for name, made in client.made.items():
            if name in client.in_doubt:
                continue
            if name in client.dropped:
                assert name not in there, f"{name} was dropped, and is there"
            else:
                assert made <= there.get(name, set()), f"{name} should have {made}, and has {there.get(name)}"


def check_usable(ring: Ring) -> None:
    """Every table takes writes through every node."""
    for node in ring.nodes:
        session = connect_to(node)
        for table in session.execute(
            "SELECT table_name FROM system_schema.tables WHERE keyspace_name = 'own' LIMIT 5"
        ):
            statement = f"INSERT INTO own.{table.table_name} (id) VALUES (1)"
            session.execute(SimpleStatement(statement, consistency_level=Level.ALL))
        session.cluster.shutdown()
