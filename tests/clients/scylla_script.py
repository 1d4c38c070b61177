"""What an application does with scylla-driver; run in the environment that has it.

    python scylla_script.py HOST PORT VERSION COMPRESSION KEYSPACE

COMPRESSION is a name or ``none``. Prints ``passed`` and how many things it asked for, or ends with what isn't as it
should be.
"""

import sys
import uuid

from cassandra import AlreadyExists, ConsistencyLevel, InvalidRequest, Unavailable
from cassandra.cluster import Cluster
from cassandra.policies import FallthroughRetryPolicy
from cassandra.protocol import SyntaxException
from cassandra.query import UNSET_VALUE, BatchStatement, BatchType, SimpleStatement, dict_factory

asked = 0


def same(got, expected):
    global asked
    asked += 1
    assert got == expected, f"{got!r} where {expected!r} is expected"


def refused(error, text, ask):
    global asked
    asked += 1
    try:
        ask()
    except error as refusal:
        if text in str(refusal):
            return refusal
        raise
    raise AssertionError(f"{error.__name__} is expected")


def connection(cluster, version, compression):
    same(cluster.protocol_version, version)
    same(cluster.control_connection._connection.compressor is not None, compression is not None)
    same(cluster.is_shard_aware(), False)
    (host,) = cluster.metadata.all_hosts()
    same(host.is_up, True)
    same(len(cluster.metadata.token_map.ring) > 0, True)


def statements(session):
    session.execute("CREATE TABLE s (k int PRIMARY KEY, a text, b int)")
    session.execute("INSERT INTO s (k, a) VALUES (%s, %s)", (1, "ä'"))
    session.execute("INSERT INTO s (k, a) VALUES (%(k)s, %(a)s)", {"k": 2, "a": "x"})
    insert = session.prepare("INSERT INTO s (k, a, b) VALUES (:k, :a, :b)")
    select = session.prepare("SELECT a, b FROM s WHERE k = ?")
    session.execute(insert, {"k": 1, "a": UNSET_VALUE, "b": 5})
    same(tuple(session.execute(select, (1,)).one()), ("ä'", 5))
    session.execute(insert, (1, None, UNSET_VALUE))
    same(tuple(session.execute(select, (1,)).one()), (None, 5))
    futures = [session.execute_async(insert, (k, str(k), k)) for k in range(200)]
    for future in futures:
        future.result()
    same(session.execute("SELECT count(*) FROM s").one()[0], 200)
    same(
        sorted(row.b for row in session.execute(SimpleStatement("SELECT b FROM s", fetch_size=7))),
        list(range(200)),
    )


def changed_metadata(session, version):
    session.execute("CREATE TABLE m (k int PRIMARY KEY, a int)")
    session.execute("INSERT INTO m (k, a) VALUES (1, 2)")
    select = session.prepare("SELECT * FROM m WHERE k = ?")
    same(session.execute(select, (1,)).one()._asdict(), {"k": 1, "a": 2})
    session.execute("ALTER TABLE m ADD A_FIRST text")
    session.execute("UPDATE m SET a_first = 'new' WHERE k = 1")
    if version == 4:
        select = session.prepare("SELECT * FROM m WHERE k = ?")
    same(session.execute(select, (1,)).one()._asdict(), {"k": 1, "a": 2, "a_first": "new"})


def types(session):
    session.execute("CREATE TYPE u (street text, zip int)")
    session.execute(
        "CREATE TABLE t (k uuid PRIMARY KEY, l list<int>, s set<text>, m map<text, frozen<list<int>>>,"
        " t tuple<int, text>, u u, b blob, v varint)"
    )
    key = uuid.uuid4()
    big = b"".join(uuid.uuid4().bytes for _ in range(20_000))
    insert = session.prepare("INSERT INTO t (k, l, s, m, t, u, b, v) VALUES (?, ?, ?, ?, ?, ?, ?, ?)")
    session.execute(insert, (key, [1, 2], {"b", "a"}, {"x": [1]}, (1, None), ("Main", 7), big, -(10**30)))
    row = session.execute("SELECT * FROM t").one()
    same((row.k, row.l, set(row.s), dict(row.m)), (key, [1, 2], {"a", "b"}, {"x": [1]}))
    same((row.t, tuple(row.u), row.b, row.v), ((1, None), ("Main", 7), big, -(10**30)))


def batches_and_conditions(session):
    session.execute("CREATE TABLE b (p int, c int, v int, PRIMARY KEY (p, c))")
    insert = session.prepare("INSERT INTO b (p, c, v) VALUES (?, ?, ?)")
    batch = BatchStatement()
    batch.add(insert, (1, 1, 1))
    batch.add("INSERT INTO b (p, c, v) VALUES (1, 2, 2)")
    session.execute(batch)
    same([tuple(row) for row in session.execute("SELECT c, v FROM b WHERE p = 1")], [(1, 1), (2, 2)])
    update = session.prepare("UPDATE b SET v = ? WHERE p = 1 AND c = 1 IF v = ?")
    same(session.execute(update, (5, 1)).was_applied, True)
    result = session.execute(update, (6, 1))
    same((result.was_applied, result.one().v), (False, 5))
    session.execute("CREATE TABLE n (k int PRIMARY KEY, n counter)")
    batch = BatchStatement(BatchType.COUNTER)
    for _ in range(3):
        batch.add("UPDATE n SET n = n + 2 WHERE k = 1")
    session.execute(batch)
    same(session.execute("SELECT n FROM n").one().n, 6)


def metadata(session, cluster, keyspace):
    session.execute("CREATE TABLE md (p int, q text, c int, s int static, PRIMARY KEY ((p, q), c))")
    table = cluster.metadata.keyspaces[keyspace].tables["md"]
    same([column.name for column in table.partition_key], ["p", "q"])
    same(table.columns["s"].is_static, True)
    same(cluster.metadata.keyspaces[keyspace].user_types["u"].field_names, ["street", "zip"])
    session.execute("DROP TABLE md")
    same("md" in cluster.metadata.keyspaces[keyspace].tables, False)


def answers(session, cluster):
    trace = session.execute("SELECT * FROM s WHERE k = 1", trace=True).get_query_trace(max_wait_sec=10)
    same((trace.coordinator, len(trace.events) > 0), ("127.0.0.1", True))
    future = session.execute_async("SELECT sum(b) FROM s")
    future.result()
    same("Aggregation query used without partition key" in future.warnings[0], True)
    refused(SyntaxException, "no viable alternative at input 'SELEC'", lambda: session.execute("SELEC"))
    refused(InvalidRequest, "table nothing does not exist", lambda: session.execute("SELECT * FROM nothing"))
    refused(AlreadyExists, "", lambda: session.execute("CREATE TABLE s (k int PRIMARY KEY)"))
    two = SimpleStatement(
        "SELECT * FROM s WHERE k = 1",
        consistency_level=ConsistencyLevel.TWO,
        retry_policy=FallthroughRetryPolicy(),
    )
    refusal = refused(Unavailable, "", lambda: session.execute(two))
    same((refusal.required_replicas, refusal.alive_replicas), (2, 1))
    other = cluster.connect()
    other.row_factory = dict_factory
    same(other.execute("SELECT key FROM system.local").one(), {"key": "local"})
    refused(InvalidRequest, "No keyspace has been specified", lambda: other.execute("SELECT * FROM s"))


def main(host, port, version, compression, keyspace):
    version, compression = int(version), None if compression == "none" else compression
    cluster = Cluster(
        [host], port=int(port), protocol_version=version, compression=compression or False,
        schema_event_refresh_window=0,
    )  # fmt: skip
    with cluster:
        session = cluster.connect()
        session.execute(
            f"CREATE KEYSPACE {keyspace} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"
        )
        session.set_keyspace(keyspace)
        connection(cluster, version, compression)
        statements(session)
        changed_metadata(session, version)
        types(session)
        batches_and_conditions(session)
        metadata(session, cluster, keyspace)
        answers(session, cluster)
    print(f"passed {asked}")


if __name__ == "__main__":
    main(*sys.argv[1:])
