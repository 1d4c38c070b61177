"""Apache's driver for Python: what an application does with it, in protocols v4 and v5, plain and compressed."""

from __future__ import annotations

import datetime as dt
import decimal
import itertools
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from cassandra import (
    AlreadyExists,
    ConsistencyLevel,
    InvalidRequest,
    SchemaChangeType,
    SchemaTargetType,
    Unauthorized,
    Unavailable,
)
from cassandra.cluster import Cluster, NoHostAvailable, Session
from cassandra.policies import ConstantReconnectionPolicy, FallthroughRetryPolicy
from cassandra.protocol import ConfigurationException, SyntaxException
from cassandra.query import (
    UNSET_VALUE,
    BatchStatement,
    BatchType,
    SimpleStatement,
    dict_factory,
    tuple_factory,
)
from cassandra.util import Date, Duration, OrderedMapSerializedKey, SortedSet, Time
from tests.clients import REPLICATION, cluster_of, new_keyspace
from tests.nodes import NodeProcess

WAIT_SECONDS_MAX = 10

tables = itertools.count()


@pytest.fixture
def table() -> str:
    """A name that no other table of the run has."""
    return f"t{next(tables)}"


def eventually(happened: Callable[[], Any]) -> Any:
    """What `happened` returns as soon as that is true; events come when they come."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not (outcome := happened()):
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)
    return outcome


# --- connections and metadata -----------------------------------------------------------------------------------


def test_connection_is_as_asked(cluster: Cluster, session: Session, way: tuple[int, str | None]) -> None:
    version, compression = way
    assert cluster.protocol_version == version
    connection = cluster.control_connection._connection
    assert (connection.compressor is not None) == (compression is not None)
    assert not connection.is_defunct
    host = cluster.metadata.get_host(connection.endpoint)
    assert host.is_up


def test_version_is_negotiated(node: NodeProcess) -> None:
    with Cluster([node.host], port=node.port) as cluster:
        cluster.connect()
        assert cluster.protocol_version == 5


def test_metadata_of_the_ring(cluster: Cluster, session: Session, keyspace: str) -> None:
    (host,) = cluster.metadata.all_hosts()
    assert host.datacenter
    assert host.rack
    assert host.host_id is not None
    assert int(host.release_version.split(".")[0]) >= 4
    assert cluster.metadata.cluster_name
    assert cluster.metadata.partitioner == "org.apache.cassandra.dht.Murmur3Partitioner"
    assert cluster.metadata.token_map is not None
    assert cluster.metadata.token_map.ring
    assert cluster.metadata.get_replicas(keyspace, b"\0\0\0\1") == [host]


def test_schema_metadata(cluster: Cluster, session: Session, keyspace: str, table: str) -> None:
    session.execute(f"CREATE TYPE address_{table} (street text, zip int)")
    session.execute(
        f"CREATE TABLE {table} (p int, q text, c timeuuid, d int, s text static, v map<text, frozen<list<int>>>,"
        f" a frozen<address_{table}>, e vector<float, 3>, PRIMARY KEY ((p, q), c, d))"
        " WITH CLUSTERING ORDER BY (c DESC, d ASC) AND comment = 'it''s a table' AND default_time_to_live = 9000"
    )
    meta = cluster.metadata.keyspaces[keyspace].tables[table]
    assert [column.name for column in meta.partition_key] == ["p", "q"]
    assert [column.name for column in meta.clustering_key] == ["c", "d"]
    assert meta.columns["c"].is_reversed
    assert not meta.columns["d"].is_reversed
    assert meta.columns["s"].is_static
    assert {name: column.cql_type for name, column in meta.columns.items()} == {
        "p": "int",
        "q": "text",
        "c": "timeuuid",
        "d": "int",
        "s": "text",
        "v": "map<text, frozen<list<int>>>",
        "a": f"frozen<address_{table}>",
        "e": "vector<float, 3>",
    }
    assert meta.options["comment"] == "it's a table"
    assert meta.options["default_time_to_live"] == 9000
    assert not meta.is_compact_storage
    udt = cluster.metadata.keyspaces[keyspace].user_types[f"address_{table}"]
    assert (udt.field_names, udt.field_types) == (["street", "zip"], ["text", "int"])
    session.execute(f"DROP TABLE {table}")
    assert table not in cluster.metadata.keyspaces[keyspace].tables
    # What the driver shows of the schema is CQL that makes it again.
    session.execute(meta.as_cql_query())
    assert cluster.metadata.keyspaces[keyspace].tables[table].as_cql_query() == meta.as_cql_query()


def test_schema_agreement(cluster: Cluster, session: Session, table: str) -> None:
    before = session.execute("SELECT schema_version FROM system.local").one().schema_version
    future = session.execute_async(f"CREATE TABLE {table} (k int PRIMARY KEY)")
    future.result()
    assert future.is_schema_agreed
    assert cluster.control_connection.wait_for_schema_agreement(wait_time=5)
    assert session.execute("SELECT schema_version FROM system.local").one().schema_version != before


def test_keyspace_metadata(cluster: Cluster, session: Session) -> None:
    name = new_keyspace(session)
    meta = cluster.metadata.keyspaces[name]
    assert meta.durable_writes
    assert meta.replication_strategy.name == "SimpleStrategy"
    assert meta.replication_strategy.replication_factor == 1
    session.execute(f"ALTER KEYSPACE {name} WITH durable_writes = false")
    assert not cluster.metadata.keyspaces[name].durable_writes
    session.execute(f"DROP KEYSPACE {name}")
    assert name not in cluster.metadata.keyspaces


def test_events_reach_other_sessions(
    node: NodeProcess, way: tuple[int, str | None], session: Session
) -> None:
    with cluster_of(node, *way) as other:
        other.connect()
        seen: list[tuple[str, str]] = []
        other.control_connection._connection.register_watchers(
            {"SCHEMA_CHANGE": lambda event: seen.append((event["change_type"], event["target_type"]))}
        )
        name = new_keyspace(session, "events")
        eventually(lambda: name in other.metadata.keyspaces)
        session.execute(f"CREATE TYPE {name}.u (a int)")
        eventually(lambda: "u" in other.metadata.keyspaces[name].user_types)
        session.execute(f"CREATE TABLE {name}.t (k int PRIMARY KEY)")
        eventually(lambda: "t" in other.metadata.keyspaces[name].tables)
        session.execute(f"ALTER TABLE {name}.t ADD v int")
        eventually(lambda: "v" in other.metadata.keyspaces[name].tables["t"].columns)
        session.execute(f"DROP TABLE {name}.t")
        eventually(lambda: "t" not in other.metadata.keyspaces[name].tables)
        session.execute(f"DROP KEYSPACE {name}")
        eventually(lambda: name not in other.metadata.keyspaces)
        assert seen == [
            (SchemaChangeType.CREATED, SchemaTargetType.KEYSPACE),
            (SchemaChangeType.CREATED, SchemaTargetType.TYPE),
            (SchemaChangeType.CREATED, SchemaTargetType.TABLE),
            (SchemaChangeType.UPDATED, SchemaTargetType.TABLE),
            (SchemaChangeType.DROPPED, SchemaTargetType.TABLE),
            (SchemaChangeType.DROPPED, SchemaTargetType.TYPE),  # with its keyspace, as Cassandra tells it
            (SchemaChangeType.DROPPED, SchemaTargetType.KEYSPACE),
        ]


# --- statements and their values ----------------------------------------------------------------------------------


def test_simple_and_named_values(session: Session, table: str) -> None:
    session.execute(f"CREATE TABLE {table} (k int PRIMARY KEY, v text)")
    session.execute(f"INSERT INTO {table} (k, v) VALUES (%s, %s)", (1, "o'one"))
    session.execute(f"INSERT INTO {table} (k, v) VALUES (%(k)s, %(v)s)", {"k": 2, "v": "zwei – 二"})
    assert {tuple(row) for row in session.execute(f"SELECT k, v FROM {table}")} == {
        (1, "o'one"),
        (2, "zwei – 二"),
    }
    prepared = session.prepare(f"UPDATE {table} SET v = :v WHERE k = :k")
    assert [column.name for column in prepared.column_metadata] == ["v", "k"]
    session.execute(prepared, {"k": 1, "v": "one"})
    assert session.execute(f"SELECT v FROM {table} WHERE k = 1").one().v == "one"


def test_prepared_values_null_and_unset(session: Session, table: str) -> None:
    session.execute(f"CREATE TABLE {table} (k int PRIMARY KEY, a int, b int)")
    insert = session.prepare(f"INSERT INTO {table} (k, a, b) VALUES (?, ?, ?)")
    assert insert.routing_key_indexes == [0]
    select = session.prepare(f"SELECT a, b FROM {table} WHERE k = ?")
    session.execute(insert, (1, 2, 3))
    session.execute(insert, (1, UNSET_VALUE, None))
    assert tuple(session.execute(select, (1,)).one()) == (2, None)
    session.execute(insert, (1,))  # what is missing at the end is unset
    assert tuple(session.execute(select, (1,)).one()) == (2, None)
    session.execute(insert, {"k": 1, "b": 5})
    assert tuple(session.execute(select, (1,)).one()) == (2, 5)
    with pytest.raises(InvalidRequest, match=r"(?i)unset value"):
        session.execute(session.prepare(f"SELECT * FROM {table} WHERE a = ? ALLOW FILTERING"), (UNSET_VALUE,))


def test_prepared_routing_key(session: Session, table: str) -> None:
    session.execute(f"CREATE TABLE {table} (p text, q int, c int, PRIMARY KEY ((p, q), c))")
    assert session.prepare(f"SELECT * FROM {table} WHERE c > ? AND q = ? AND p = ?").routing_key_indexes == [
        2,
        1,
    ]
    assert not session.prepare(f"SELECT * FROM {table} WHERE p = 'a' AND q = ?").routing_key_indexes
    bound = session.prepare(f"INSERT INTO {table} (c, q, p) VALUES (?, ?, ?)").bind((1, 2, "x"))
    session.execute(bound)
    driver_token = session.cluster.metadata.token_map.token_class.from_key(bound.routing_key)
    assert session.execute(f"SELECT token(p, q) FROM {table}").one()[0] == driver_token.value


def test_prepared_for_a_table_that_was_made_again(session: Session, table: str) -> None:
    session.execute(f"CREATE TABLE {table} (k int PRIMARY KEY, v int)")
    select = session.prepare(f"SELECT v FROM {table} WHERE k = ?")
    session.execute(f"DROP TABLE {table}")
    session.execute(f"CREATE TABLE {table} (k int PRIMARY KEY, v int)")
    session.execute(f"INSERT INTO {table} (k, v) VALUES (1, 10)")
    assert session.execute(select, (1,)).one().v == 10


def test_metadata_changed_after_alter(session: Session, way: tuple[int, str | None], table: str) -> None:
    session.execute(f"CREATE TABLE {table} (k int PRIMARY KEY, a int, c int)")
    session.execute(f"INSERT INTO {table} (k, a, c) VALUES (1, 2, 3)")
    select = session.prepare(f"SELECT * FROM {table} WHERE k = ?")
    assert session.execute(select, (1,)).one()._asdict() == {"k": 1, "a": 2, "c": 3}
    old_id = select.result_metadata_id
    session.execute(f"ALTER TABLE {table} ADD b text")
    session.execute(f"INSERT INTO {table} (k, b) VALUES (1, 'new')")
    if way[0] == 4:  # v4 has no way to tell; a client prepares anew, and then sees the column.
        select = session.prepare(f"SELECT * FROM {table} WHERE k = ?")
    for _ in range(2):
        assert session.execute(select, (1,)).one()._asdict() == {"k": 1, "a": 2, "b": "new", "c": 3}
    # This driver doesn't keep what it is told, so it is told again each time; who prepares anew gets the new id.
    if way[0] == 5:
        assert session.prepare(f"SELECT * FROM {table} WHERE k = ?").result_metadata_id != old_id
    session.execute(f"ALTER TABLE {table} DROP a")
    if way[0] == 4:
        select = session.prepare(f"SELECT * FROM {table} WHERE k = ?")
    assert session.execute(select, (1,)).one()._asdict() == {"k": 1, "b": "new", "c": 3}


def test_paging(session: Session, table: str) -> None:
    session.execute(f"CREATE TABLE {table} (p int, c int, v text, PRIMARY KEY (p, c))")
    insert = session.prepare(f"INSERT INTO {table} (p, c, v) VALUES (?, ?, ?)")
    expected = [(p, c, f"{p}/{c}") for p in range(3) for c in range(41)]
    for values in expected:
        session.execute_async(insert, values)
    eventually(lambda: session.execute(f"SELECT count(*) FROM {table}").one()[0] == len(expected))
    select = session.prepare(f"SELECT p, c, v FROM {table}")
    for statement in (SimpleStatement(f"SELECT p, c, v FROM {table}", fetch_size=10), select):
        statement.fetch_size = 10
        result = session.execute(statement)
        assert len(result.current_rows) == 10
        assert result.has_more_pages
        assert sorted(tuple(row) for row in result) == expected
    one = SimpleStatement(f"SELECT c FROM {table} WHERE p = 1 ORDER BY c DESC LIMIT 25", fetch_size=7)
    assert [row.c for row in session.execute(one)] == list(range(40, 15, -1))
    # A state may travel: another request goes on where this one ended.
    first = session.execute(one)
    head = [row.c for row in first.current_rows]
    tail = [row.c for row in session.execute(one, paging_state=first.paging_state)]
    assert head + tail == list(range(40, 15, -1))
    exact = session.execute(SimpleStatement(f"SELECT c FROM {table} WHERE p = 1", fetch_size=1000))
    assert not exact.has_more_pages


def test_large_messages(session: Session, table: str) -> None:
    """Rows and requests beyond one v5 segment (128 KiB), compressible or not."""
    session.execute(f"CREATE TABLE {table} (p int, c int, v blob, PRIMARY KEY (p, c))")
    insert = session.prepare(f"INSERT INTO {table} (p, c, v) VALUES (0, ?, ?)")
    flat = bytes(300_000)
    ragged = b"".join(uuid.uuid4().bytes for _ in range(20_000))
    session.execute(insert, (0, flat))
    session.execute(insert, (1, ragged))
    assert [row.v for row in session.execute(f"SELECT v FROM {table} WHERE p = 0")] == [flat, ragged]


def test_many_requests_at_once(session: Session, table: str) -> None:
    session.execute(f"CREATE TABLE {table} (k int PRIMARY KEY, v int)")
    insert = session.prepare(f"INSERT INTO {table} (k, v) VALUES (?, ?)")
    select = session.prepare(f"SELECT k, v FROM {table} WHERE k = ?")
    for future in [session.execute_async(insert, (k, k * k)) for k in range(300)]:
        future.result()
    answers = [session.execute_async(select, (k,)) for k in range(300)]
    assert [tuple(future.result().one()) for future in answers] == [(k, k * k) for k in range(300)]


def test_row_factories(session: Session, table: str) -> None:
    session.execute(f'CREATE TABLE {table} (k int PRIMARY KEY, "Mixed Case" int)')
    session.execute(f'INSERT INTO {table} (k, "Mixed Case") VALUES (1, 2)')
    result = session.execute(f'SELECT k, "Mixed Case", k AS alias, count(*) FROM {table}')
    assert result.column_names == ["k", "Mixed Case", "alias", "count"]
    session.execute(f"INSERT INTO {table} (k) VALUES (2)")
    result = session.execute(f'SELECT max(k), writetime("Mixed Case") FROM {table} WHERE k = 1')
    assert result.column_names == ["system.max(k)", "writetime(Mixed Case)"]


# --- batches, conditions, counters ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [BatchType.LOGGED, BatchType.UNLOGGED], ids=["logged", "unlogged"])
def test_batch(session: Session, table: str, kind: BatchType) -> None:
    session.execute(f"CREATE TABLE {table} (p int, c int, v text, PRIMARY KEY (p, c))")
    insert = session.prepare(f"INSERT INTO {table} (p, c, v) VALUES (?, ?, ?)")
    session.execute(insert, (9, 9, "goes"))
    batch = BatchStatement(kind)
    batch.add(insert, (1, 1, "a"))
    batch.add(insert, (2, 1, None))
    batch.add(f"INSERT INTO {table} (p, c, v) VALUES (%s, %s, %s)", (1, 2, "b"))
    batch.add(SimpleStatement(f"DELETE FROM {table} WHERE p = 9"))
    session.execute(batch)
    rows = sorted(tuple(row) for row in session.execute(f"SELECT p, c, v FROM {table}"))
    assert rows == [(1, 1, "a"), (1, 2, "b"), (2, 1, None)]


def test_batch_with_conditions(session: Session, table: str) -> None:
    session.execute(f"CREATE TABLE {table} (p int, c int, v int, PRIMARY KEY (p, c))")
    batch = BatchStatement()
    batch.add(f"INSERT INTO {table} (p, c, v) VALUES (1, 1, 1) IF NOT EXISTS")
    batch.add(f"INSERT INTO {table} (p, c, v) VALUES (1, 2, 2)")
    assert session.execute(batch).was_applied
    again = session.execute(batch)
    assert not again.was_applied
    assert len(session.execute(f"SELECT * FROM {table}").all()) == 2


def test_conditions(session: Session, table: str) -> None:
    session.execute(f"CREATE TABLE {table} (k int PRIMARY KEY, v int)")
    insert = session.prepare(f"INSERT INTO {table} (k, v) VALUES (?, ?) IF NOT EXISTS")
    assert session.execute(insert, (1, 1)).was_applied
    refused = session.execute(insert, (1, 2))
    assert not refused.was_applied
    assert refused.one()._asdict() == {"applied": False, "k": 1, "v": 1}
    update = session.prepare(f"UPDATE {table} SET v = ? WHERE k = ? IF v = ?")
    assert session.execute(update, (3, 1, 1)).was_applied
    refused = session.execute(update, (4, 1, 1))
    assert refused.one()._asdict() == {"applied": False, "v": 3}
    assert session.execute(f"DELETE FROM {table} WHERE k = 1 IF EXISTS").was_applied
    assert not session.execute(f"DELETE FROM {table} WHERE k = 1 IF EXISTS").was_applied
    serial = SimpleStatement(f"SELECT v FROM {table} WHERE k = 1", consistency_level=ConsistencyLevel.SERIAL)
    assert session.execute(serial).one() is None


def test_counters(session: Session, table: str) -> None:
    session.execute(f"CREATE TABLE {table} (k text PRIMARY KEY, n counter, m counter)")
    add = session.prepare(f"UPDATE {table} SET n = n + ? WHERE k = ?")
    for _ in range(5):
        session.execute(add, (3, "a"))
    session.execute(f"UPDATE {table} SET n = n - 1 WHERE k = 'a'")
    batch = BatchStatement(BatchType.COUNTER)
    batch.add(add, (10, "a"))
    batch.add(f"UPDATE {table} SET m = m + 7 WHERE k = 'a'")
    session.execute(batch)
    assert tuple(session.execute(f"SELECT n, m FROM {table} WHERE k = 'a'").one()) == (24, 7)
    with pytest.raises(InvalidRequest):
        session.execute(f"INSERT INTO {table} (k, n) VALUES ('a', 1)")
    wrong = BatchStatement(BatchType.LOGGED)
    wrong.add(add, (10, "a"))
    with pytest.raises(InvalidRequest, match=r"(?i)counter"):
        session.execute(wrong)


def test_client_timestamps_and_ttl(session: Session, table: str) -> None:
    session.execute(f"CREATE TABLE {table} (k int PRIMARY KEY, v int)")
    session.execute(f"INSERT INTO {table} (k, v) VALUES (1, 1) USING TIMESTAMP 5000 AND TTL 1000")
    session.execute(f"INSERT INTO {table} (k, v) VALUES (1, 2) USING TIMESTAMP 4000")
    v, ttl, written = session.execute(f"SELECT v, ttl(v), writetime(v) FROM {table}").one()
    assert (v, written) == (1, 5000)
    assert 900 < ttl <= 1000
    session.execute(f"INSERT INTO {table} (k, v) VALUES (1, 3)")
    v, ttl, written = session.execute(f"SELECT v, ttl(v), writetime(v) FROM {table}").one()
    assert (v, ttl) == (3, None)
    assert written > 1_600_000_000_000_000  # the client's clock in microseconds


# --- types ------------------------------------------------------------------------------------------------------

SCALARS: list[tuple[str, Any]] = [
    ("ascii", "plain"),
    ("bigint", -(2**63)),
    ("blob", b"\x00\xff\x10"),
    ("boolean", True),
    ("date", Date("1582-10-15")),
    ("decimal", decimal.Decimal("-12345678901234567890.000000001")),
    ("double", -1.5e300),
    ("duration", Duration(13, -0, 5_000_000_001)),
    ("float", 0.5),
    ("inet", "2001:db8::1"),
    ("int", -(2**31)),
    ("smallint", -32768),
    ("text", "ä – 二 \U0001f40d"),
    ("time", Time("23:59:59.999999999")),
    ("timestamp", dt.datetime(2031, 2, 3, 4, 5, 6, 789000)),
    ("timeuuid", uuid.UUID("50554d6e-29bb-11e5-b345-feff819cdc9f")),
    ("tinyint", -128),
    ("uuid", uuid.UUID("f47ac10b-58cc-4372-a567-0e02b2c3d479")),
    ("varint", -(10**40)),
]

COLLECTIONS: list[tuple[str, Any, Any]] = [
    ("list<int>", [3, 1, 3], [3, 1, 3]),
    ("set<text>", {"b", "a"}, SortedSet(["a", "b"])),
    ("map<int, text>", {2: "b", 1: "a"}, {1: "a", 2: "b"}),
    ("frozen<list<frozen<map<text, int>>>>", [{"x": 1}, {}], [{"x": 1}, {}]),
    ("map<frozen<tuple<int, text>>, frozen<set<int>>>", {(1, "a"): {2, 1}}, {(1, "a"): SortedSet([1, 2])}),
    ("tuple<int, text, list<int>>", (1, None, [5]), (1, None, [5])),
    ("vector<float, 3>", [0.5, -1.25, 3.0], [0.5, -1.25, 3.0]),
    ("vector<text, 2>", ["a", ""], ["a", ""]),
    ("list<frozen<vector<int, 2>>>", [[1, 2], [3, 4]], [[1, 2], [3, 4]]),
]


def test_scalars_round_trip(session: Session, table: str) -> None:
    columns = [f"c_{name}" for name, _ in SCALARS]
    spec = ", ".join(f"{column} {name}" for column, (name, _) in zip(columns, SCALARS, strict=True))
    session.execute(f"CREATE TABLE {table} (k int PRIMARY KEY, {spec})")
    values = [value for _, value in SCALARS]
    marks = ", ".join("?" for _ in columns)
    insert = session.prepare(f"INSERT INTO {table} (k, {', '.join(columns)}) VALUES (?, {marks})")
    session.execute(insert, [1, *values])
    session.execute(insert, [2, *(None for _ in values)])
    row = session.execute(f"SELECT {', '.join(columns)} FROM {table} WHERE k = 1").one()
    assert list(row) == values
    row = session.execute(f"SELECT {', '.join(columns)} FROM {table} WHERE k = 2").one()
    assert set(row) == {None}


@pytest.mark.parametrize("name", [name for name, _ in SCALARS if name != "duration"])
def test_scalars_are_partition_keys(session: Session, table: str, name: str) -> None:
    value = dict(SCALARS)[name]
    session.execute(f"CREATE TABLE {table} (p {name}, c {name}, PRIMARY KEY (p, c))")
    session.execute(session.prepare(f"INSERT INTO {table} (p, c) VALUES (?, ?)"), (value, value))
    select = session.prepare(f"SELECT p, c FROM {table} WHERE p = ? AND c >= ?")
    assert tuple(session.execute(select, (value, value)).one()) == (value, value)


def plain(value: Any) -> Any:
    """Driver's maps are equal to dicts only if made so."""
    if isinstance(value, OrderedMapSerializedKey):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


@pytest.mark.parametrize(("cql_type", "value", "expected"), COLLECTIONS, ids=[c[0] for c in COLLECTIONS])
def test_collections_round_trip(
    session: Session, table: str, cql_type: str, value: Any, expected: Any
) -> None:
    session.execute(f"CREATE TABLE {table} (k int PRIMARY KEY, v {cql_type})")
    session.execute(session.prepare(f"INSERT INTO {table} (k, v) VALUES (?, ?)"), (1, value))
    assert plain(session.execute(f"SELECT v FROM {table}").one().v) == expected


def test_collections_change(session: Session, table: str) -> None:
    session.execute(f"CREATE TABLE {table} (k int PRIMARY KEY, l list<int>, s set<int>, m map<text, int>)")

    def change(what: str, *values: Any) -> tuple[Any, ...]:
        session.execute(session.prepare(f"UPDATE {table} SET {what} WHERE k = 1"), values)
        row = session.execute(f"SELECT l, s, m FROM {table}").one()
        return (row.l, row.s and set(row.s), row.m and plain(row.m)) if row else ()

    assert change("l = ?, s = ?, m = ?", [1], {1}, {"a": 1}) == ([1], {1}, {"a": 1})
    assert change("l = l + ?, s = s + ?, m = m + ?", [2], {2}, {"b": 2}) == ([1, 2], {1, 2}, {"a": 1, "b": 2})
    assert change("l = ? + l, m[?] = ?", [0], "a", 5) == ([0, 1, 2], {1, 2}, {"a": 5, "b": 2})
    assert change("l[1] = ?, s = s - ?, m = m - ?", 9, {1}, {"a"}) == ([0, 9, 2], {2}, {"b": 2})
    assert change("l = l - ?, s = ?", [9], {7}) == ([0, 2], {7}, {"b": 2})
    assert change("l = [], s = {}, m = {}") == ()


def test_user_types_round_trip(cluster: Cluster, session: Session, keyspace: str, table: str) -> None:
    session.execute(f"CREATE TYPE u_{table} (street text, zip int, tags frozen<set<text>>)")
    session.execute(f"CREATE TABLE {table} (k int PRIMARY KEY, u u_{table}, many list<frozen<u_{table}>>)")

    class Address:
        def __init__(self, street: str | None, zip: int | None, tags: Any = None) -> None:
            self.street, self.zip, self.tags = street, zip, tags

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Address) and vars(self) == vars(other)

        __hash__ = None  # type: ignore[assignment]

    cluster.register_user_type(keyspace, f"u_{table}", Address)
    home = Address("Main – 1", 12345, SortedSet(["a"]))
    insert = session.prepare(f"INSERT INTO {table} (k, u, many) VALUES (?, ?, ?)")
    session.execute(insert, (1, home, [home, Address(None, 1)]))
    row = session.execute(f"SELECT u, many FROM {table}").one()
    assert row.u == home
    assert row.many == [home, Address(None, 1)]
    session.execute(f"UPDATE {table} SET u.zip = 7 WHERE k = 1")
    assert session.execute(f"SELECT u.zip FROM {table}").one()[0] == 7
    session.execute(f"ALTER TYPE u_{table} ADD country text")
    assert session.execute(f"SELECT u.country, u.street FROM {table}").one()[1] == "Main – 1"


# --- what comes with an answer --------------------------------------------------------------------------------------


def test_tracing(session: Session, way: tuple[int, str | None], table: str) -> None:
    session.execute(f"CREATE TABLE {table} (k int PRIMARY KEY)")
    result = session.execute(f"SELECT * FROM {table} WHERE k = 1", trace=True)
    trace = result.get_query_trace(max_wait_sec=10)
    assert trace.request_type
    assert trace.duration is not None
    assert trace.coordinator == "127.0.0.1"
    assert table in str(trace.parameters)
    assert trace.events
    assert all(event.description for event in trace.events)
    insert = session.prepare(f"INSERT INTO {table} (k) VALUES (?)")
    assert session.execute(insert, (1,), trace=True).get_query_trace(max_wait_sec=10).events
    assert session.execute(insert, (1,)).response_future._query_traces is None


def test_warnings(session: Session, table: str) -> None:
    session.execute(f"CREATE TABLE {table} (p int, c int, v int, PRIMARY KEY (p, c))")
    future = session.execute_async(f"SELECT sum(v) FROM {table}")
    future.result()
    assert future.warnings
    assert "Aggregation query used without partition key" in future.warnings[0]
    future = session.execute_async(f"SELECT * FROM {table} WHERE p = 1")
    future.result()
    assert not future.warnings


def test_consistency_levels(session: Session, table: str) -> None:
    session.execute(f"CREATE TABLE {table} (k int PRIMARY KEY)")
    for level in ("ONE", "QUORUM", "ALL", "LOCAL_ONE", "LOCAL_QUORUM", "EACH_QUORUM"):
        at = getattr(ConsistencyLevel, level)
        session.execute(SimpleStatement(f"INSERT INTO {table} (k) VALUES (1)", consistency_level=at))
        if level != "EACH_QUORUM":
            assert (
                session.execute(SimpleStatement(f"SELECT k FROM {table}", consistency_level=at)).one().k == 1
            )
    session.execute(
        SimpleStatement(f"INSERT INTO {table} (k) VALUES (2)", consistency_level=ConsistencyLevel.ANY)
    )


# --- errors -----------------------------------------------------------------------------------------------------


def test_unavailable_counts(session: Session) -> None:
    name = f"unavailable_{next(tables)}"
    replication = "{'class': 'SimpleStrategy', 'replication_factor': 3}"
    session.execute(f"CREATE KEYSPACE {name} WITH replication = {replication}")
    session.execute(f"CREATE TABLE {name}.t (k int PRIMARY KEY)")
    # The driver's default policy asks other hosts, of which there are none.
    once = FallthroughRetryPolicy()
    for cql in (f"INSERT INTO {name}.t (k) VALUES (1)", f"SELECT * FROM {name}.t WHERE k = 1"):
        with pytest.raises(Unavailable) as refusal:
            session.execute(SimpleStatement(cql, consistency_level=ConsistencyLevel.ALL, retry_policy=once))
        assert refusal.value.consistency == ConsistencyLevel.ALL
        assert refusal.value.required_replicas == 3
        assert refusal.value.alive_replicas == 1
        with pytest.raises(Unavailable) as refusal:
            session.execute(
                SimpleStatement(cql, consistency_level=ConsistencyLevel.QUORUM, retry_policy=once)
            )
        assert (refusal.value.required_replicas, refusal.value.alive_replicas) == (2, 1)
        session.execute(SimpleStatement(cql, consistency_level=ConsistencyLevel.ONE))


@pytest.mark.parametrize(
    ("cql", "error", "text"),
    [
        ("SELEC * FROM t", SyntaxException, "line 1:0 no viable alternative at input 'SELEC'"),
        ("SELECT * FROM nothing_here", InvalidRequest, "table nothing_here does not exist"),
        ("SELECT * FROM no_such_keyspace.t", InvalidRequest, "keyspace no_such_keyspace does not exist"),
        (
            "SELECT nothing FROM system.local",
            InvalidRequest,
            "Undefined column name nothing in table system.local",
        ),
        (
            "INSERT INTO system.local (key) VALUES ('x')",
            Unauthorized,
            "system keyspace is not user-modifiable",
        ),
        (
            "CREATE KEYSPACE bad WITH replication = {'class': 'NoSuchStrategy'}",
            ConfigurationException,
            "NoSuchStrategy",
        ),
        ("USE no_such_keyspace", InvalidRequest, "'no_such_keyspace' does not exist"),
    ],
)
def test_error_classes(session: Session, cql: str, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as refusal:
        session.execute(cql)
    assert text in str(refusal.value)


def test_already_exists(session: Session, keyspace: str, table: str) -> None:
    session.execute(f"CREATE TABLE {table} (k int PRIMARY KEY)")
    with pytest.raises(AlreadyExists) as refusal:
        session.execute(f"CREATE TABLE {table} (k int PRIMARY KEY)")
    assert (refusal.value.keyspace, refusal.value.table) == (keyspace, table)
    with pytest.raises(AlreadyExists) as refusal:
        session.execute(f"CREATE KEYSPACE {keyspace} WITH replication = {REPLICATION}")
    assert (refusal.value.keyspace, refusal.value.table) == (keyspace, "")
    session.execute(f"CREATE TABLE IF NOT EXISTS {table} (k int PRIMARY KEY)")


def test_bad_values_are_refused(session: Session, table: str) -> None:
    session.execute(f"CREATE TABLE {table} (k text PRIMARY KEY, v int)")
    with pytest.raises(InvalidRequest, match="Key may not be empty"):
        session.execute(session.prepare(f"INSERT INTO {table} (k) VALUES (?)"), ("",))
    with pytest.raises(InvalidRequest, match="Invalid STRING constant"):
        session.execute(f"INSERT INTO {table} (k, v) VALUES ('a', 'text')")
    with pytest.raises(SyntaxException):
        session.prepare(f"SELECT FROM {table} WHERE")


# --- keyspaces --------------------------------------------------------------------------------------------------


def test_use(node: NodeProcess, way: tuple[int, str | None]) -> None:
    with cluster_of(node, *way) as cluster:
        session = cluster.connect()
        first, second = new_keyspace(session), new_keyspace(session)
        for name in (first, second):
            session.execute(f"CREATE TABLE {name}.t (k text PRIMARY KEY)")
            session.execute(f"INSERT INTO {name}.t (k) VALUES ('{name}')")
        with pytest.raises(InvalidRequest, match="No keyspace has been specified"):
            session.execute("SELECT k FROM t")
        session.execute(f"USE {first}")
        assert session.keyspace == first
        assert session.execute("SELECT k FROM t").one().k == first
        session.set_keyspace(second)
        assert session.execute("SELECT k FROM t").one().k == second
        # A prepared statement stays with the keyspace in which it was prepared.
        prepared = session.prepare("SELECT k FROM t")
        session.set_keyspace(first)
        assert session.execute(prepared).one().k == second
        with cluster_of(node, *way) as other:
            assert other.connect(second).execute("SELECT k FROM t").one().k == second


def test_keyspace_per_request(node: NodeProcess, way: tuple[int, str | None]) -> None:
    with cluster_of(node, *way) as cluster:
        session = cluster.connect()
        first, second = new_keyspace(session), new_keyspace(session)
        for name in (first, second):
            session.execute(f"CREATE TABLE {name}.t (k text PRIMARY KEY)")
            session.execute(f"INSERT INTO {name}.t (k) VALUES ('{name}')")
        session.set_keyspace(first)
        statement = SimpleStatement("SELECT k FROM t", keyspace=second)
        if way[0] == 4:  # v4 has no place for it, and the driver leaves it out
            assert session.execute(statement).one().k == first
            return
        assert session.execute(statement).one().k == second
        assert session.execute("SELECT k FROM t").one().k == first
        prepared = session.prepare("SELECT k FROM t", keyspace=second)
        assert session.execute(prepared).one().k == second
        batch = BatchStatement()
        batch.keyspace = second
        batch.add("INSERT INTO t (k) VALUES ('batched')")
        session.execute(batch)
        assert {row.k for row in session.execute(f"SELECT k FROM {second}.t")} == {second, "batched"}
        assert {row.k for row in session.execute(f"SELECT k FROM {first}.t")} == {first}


def test_rows_as_dicts_and_tuples(session: Session, cluster: Cluster) -> None:
    other = cluster.connect()
    other.row_factory = dict_factory
    assert other.execute("SELECT key FROM system.local").one() == {"key": "local"}
    other.row_factory = tuple_factory
    assert other.execute("SELECT key FROM system.local").one() == ("local",)
    other.shutdown()


def test_partitions_are_apart(session: Session, table: str) -> None:
    """Forward and in reverse, a partition gives its own rows only, whatever its neighbours in the store are."""
    session.execute(f"CREATE TABLE {table} (p int, c int, PRIMARY KEY (p, c))")
    for p in range(30):
        session.execute(f"INSERT INTO {table} (p, c) VALUES ({p}, {p})")
    for order in ("ASC", "DESC"):
        select = session.prepare(f"SELECT p, c FROM {table} WHERE p = ? ORDER BY c {order}")
        assert [session.execute(select, (p,)).all() for p in range(30)] == [[(p, p)] for p in range(30)]
        assert session.execute(select, (99,)).all() == []


def test_restart(own_node: NodeProcess, way: tuple[int, str | None]) -> None:
    """A node that comes back: rows and schema are there; what it has no longer prepared, the driver prepares."""
    own_node.start()
    with cluster_of(own_node, *way, reconnection_policy=ConstantReconnectionPolicy(0.1, None)) as cluster:
        session = cluster.connect()
        name = new_keyspace(session)
        session.execute(f"CREATE TABLE {name}.t (k int PRIMARY KEY, v text)")
        insert = session.prepare(f"INSERT INTO {name}.t (k, v) VALUES (?, ?)")
        select = session.prepare(f"SELECT v FROM {name}.t WHERE k = ?")
        session.execute(insert, (1, "before"))
        assert own_node.stop() == 0
        with pytest.raises(NoHostAvailable):
            session.execute(select, (1,))
        own_node.start()

        def answered() -> str | None:
            try:
                return str(session.execute(select, (1,)).one().v)
            except NoHostAvailable:
                return None

        assert eventually(answered) == "before"
        session.execute(insert, (2, "after"))
        assert {tuple(row) for row in session.execute(f"SELECT k, v FROM {name}.t")} == {
            (1, "before"),
            (2, "after"),
        }
        assert own_node.stop() == 0
