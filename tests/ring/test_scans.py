"""Reading the whole ring, as applications and analytic connectors do. If these fail, an export misses rows, has some
twice, or comes out of order.
"""

from __future__ import annotations

import random
import threading
from itertools import pairwise

import pytest
from cassandra import ConsistencyLevel as Level
from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent_with_args
from cassandra.query import SimpleStatement
from tests.ring.ring import Ring, connect_to, new_keyspace

PARTITIONS = 700
TOKEN_MIN, TOKEN_MAX = -(1 << 63), (1 << 63) - 1
BIG_PARTITION_ROWS = 2_000


@pytest.fixture(scope="module")
def table(session: Session) -> str:
    """A table with partitions of none to five rows, one of very many, and some that are deleted."""
    name = f"{new_keyspace(session)}.scanned"
    session.execute(f"CREATE TABLE {name} (id int, c int, v text, s int static, PRIMARY KEY (id, c))")
    insert = session.prepare(f"INSERT INTO {name} (id, c, v) VALUES (?, ?, ?)")
    insert.consistency_level = Level.ALL
    rows = [(key, c, "x" * (key % 50)) for key in range(PARTITIONS) for c in range(key % 6)]
    rows += [(PARTITIONS, c, "big") for c in range(BIG_PARTITION_ROWS)]
    execute_concurrent_with_args(session, insert, rows)
    for key in range(1, PARTITIONS, 10):
        session.execute(f"DELETE FROM {name} WHERE id = {key}")
    return name


def expected_rows() -> set[tuple[int, int]]:
    rows = {(key, c) for key in range(PARTITIONS) for c in range(key % 6) if key % 10 != 1}
    return rows | {(PARTITIONS, c) for c in range(BIG_PARTITION_ROWS)}


def scan(
    session: Session, statement: str, page: int | None, level: int = Level.QUORUM
) -> list[tuple[object, ...]]:
    query = SimpleStatement(statement, consistency_level=level, fetch_size=page)
    return [tuple(row) for row in session.execute(query)]


@pytest.mark.parametrize(
    "level", [Level.ONE, Level.QUORUM, Level.ALL], ids=lambda level: Level.value_to_name[level]
)
@pytest.mark.parametrize("page", [3, 100, 5000, None])
def test_whole_table(session: Session, table: str, page: int | None, level: int) -> None:
    """Every row once, in order of tokens and then of clustering, whatever the size of pages."""
    rows = scan(session, f"SELECT token(id), id, c FROM {table}", page, level)
    assert rows == sorted(rows)
    assert len(rows) == len(expected_rows())
    assert {row[1:] for row in rows} == expected_rows()


def test_pages_are_full(session: Session, table: str) -> None:
    """All pages but the last have as many rows as were asked for."""
    result = session.execute(SimpleStatement(f"SELECT id FROM {table}", fetch_size=250))
    sizes = [len(result.current_rows)]
    while result.has_more_pages:
        result.fetch_next_page()
        sizes.append(len(result.current_rows))
    assert set(sizes[:-1]) == {250}
    assert sum(sizes) == len(expected_rows())


def test_pages_through_other_nodes(ring: Ring, session: Session, table: str) -> None:
    """A page may be asked for at another node than the one before, by nothing but its paging state."""
    sessions = [connect_to(node) for node in ring.nodes]
    rows: list[tuple[object, ...]] = []
    state = None
    for turn in range(10_000):
        query = SimpleStatement(f"SELECT id, c FROM {table}", fetch_size=37)
        result = sessions[turn % len(sessions)].execute(query, paging_state=state)
        rows += [tuple(row) for row in result.current_rows]
        state = result.paging_state
        if state is None:
            break
    assert len(rows) == len(expected_rows())
    assert set(rows) == expected_rows()
    for one in sessions:
        one.cluster.shutdown()


def test_token_ranges(ring: Ring, session: Session, table: str) -> None:
    """An analytic connector reads each range of the driver's token map from a replica of its own, side by side; the
    ranges together are the table."""
    keyspace = table.partition(".")[0]
    token_map = session.cluster.metadata.token_map
    tokens = [token.value for token in token_map.ring]
    assert len(tokens) == len(set(tokens)) == 16 * len(ring.nodes)
    sessions = {node.host: connect_to(node) for node in ring.nodes}
    ranges = [(TOKEN_MIN, tokens[0]), *pairwise(tokens), (tokens[-1], TOKEN_MAX)]
    found: list[tuple[object, ...]] = []
    lock = threading.Lock()

    def read(some: list[tuple[int, int]]) -> None:
        for start, end in some:
            replicas = token_map.get_replicas(keyspace, token_map.token_class(end))
            one = sessions[replicas[0].address]
            statement = f"SELECT id, c FROM {table} WHERE token(id) > {start} AND token(id) <= {end}"
            rows = scan(one, statement, 50, Level.LOCAL_ONE)
            with lock:
                found.extend(rows)

    threads = [threading.Thread(target=read, args=[ranges[number::4]]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in sessions.values():
        one.cluster.shutdown()
    assert len(found) == len(expected_rows())
    assert set(found) == expected_rows()


def test_any_bounds(session: Session, table: str) -> None:
    """Ranges that begin and end anywhere, across those of nodes, at tokens of rows and beside them."""
    rows = scan(session, f"SELECT token(id), id, c FROM {table}", 5000)
    tokens = sorted({row[0] for row in rows})
    draw = random.Random(7)
    bounds = sorted(draw.choice(tokens) + draw.choice((-1, 0, 0, 1)) for _ in range(40))
    for low, high in pairwise(bounds):
        for above, below in ((">", "<="), (">=", "<")):
            where = f"token(id) {above} {low} AND token(id) {below} {high}"
            expected = [
                row
                for row in rows
                if (row[0] > low or (above == ">=" and row[0] == low))
                and (row[0] < high or (below == "<=" and row[0] == high))
            ]
            assert scan(session, f"SELECT token(id), id, c FROM {table} WHERE {where}", 11) == expected
    assert scan(session, f"SELECT token(id), id, c FROM {table} WHERE token(id) > {TOKEN_MAX}", 11) == []


def test_limits_and_counts(session: Session, table: str) -> None:
    """LIMIT, PER PARTITION LIMIT, DISTINCT, filters and aggregates over all nodes."""
    rows = scan(session, f"SELECT token(id), id, c FROM {table}", 5000)
    assert scan(session, f"SELECT token(id), id, c FROM {table} LIMIT 333", 50) == rows[:333]
    assert session.execute(f"SELECT count(*) FROM {table}").one()[0] == len(rows)
    partitions = {row[1] for row in rows}
    assert {row[0] for row in scan(session, f"SELECT DISTINCT id FROM {table}", 50)} == partitions
    first = scan(session, f"SELECT id, c FROM {table} PER PARTITION LIMIT 1", 50)
    assert sorted(first) == sorted((key, 0) for key in partitions)
    filtered = scan(session, f"SELECT id, c FROM {table} WHERE c = 3 ALLOW FILTERING", 50)
    assert sorted(filtered) == sorted((key, c) for _, key, c in rows if c == 3)
    groups = scan(session, f"SELECT id, count(*) FROM {table} GROUP BY id", 50)
    assert sorted(groups) == sorted((key, sum(row[1] == key for row in rows)) for key in partitions)


def test_a_long_partition(session: Session, table: str) -> None:
    """Pages within one partition, both ways, at QUORUM."""
    for order, expected in (
        ("ASC", range(BIG_PARTITION_ROWS)),
        ("DESC", range(BIG_PARTITION_ROWS - 1, -1, -1)),
    ):
        statement = f"SELECT c FROM {table} WHERE id = {PARTITIONS} ORDER BY c {order}"
        assert [row[0] for row in scan(session, statement, 99)] == list(expected)
