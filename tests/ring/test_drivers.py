"""What a stock driver learns of the ring. If these fail, it asks the wrong nodes, goes on asking dead ones, or never
finds those that came back.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator

import pytest
from cassandra import ConsistencyLevel as Level
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Session
from cassandra.policies import (
    DCAwareRoundRobinPolicy,
    HostStateListener,
    TokenAwarePolicy,
)
from cassandra.pool import Host
from cassandra.query import QueryTrace, SimpleStatement
from tests.ring.ring import Ring, connect, connect_to, eventually, new_keyspace, profile


def ouro_ring(ring: Ring, keyspace: str, table: str, *key: str) -> list[str]:
    """The hosts that hold a key, primary first, as ``ouro ring`` says."""
    node = ring.nodes[0]
    command = [sys.executable, "-c", "from ourodb.cli import main; main()", "ring", keyspace, table, *key]
    command += ["--admin", f"{node.host}:{node.admin_port}", "--json"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OURO_")}
    report = json.loads(subprocess.check_output(command, text=True, env=environment))
    names = report["nodes"]
    found = report["key"]
    return [names[str(one)]["cql"].rpartition(":")[0] for one in (found["primary"], *found["secondaries"])]


def admin_ring(ring: Ring, keyspace: str, table: str, key: list[str]) -> list[str]:
    """The same from the admin API, which is what the command asks."""
    report = ring.nodes[0].admin("ring", {"keyspace": keyspace, "table": table, "key": key})
    found = report["key"]
    return [
        report["nodes"][str(one)]["cql"].rpartition(":")[0]
        for one in (found["primary"], *found["secondaries"])
    ]


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_replicas_of_keys(ring: Ring, session: Session, factor: int) -> None:
    """The driver's replicas of a key are ours, in the same order."""
    keyspace = new_keyspace(session, f"'class': 'SimpleStrategy', 'replication_factor': {factor}")
    session.execute(f"CREATE TABLE {keyspace}.t (id int PRIMARY KEY)")
    session.execute(f"CREATE TABLE {keyspace}.u (a text, b uuid, c int, PRIMARY KEY ((a, b), c))")
    session.cluster.refresh_schema_metadata()
    metadata = session.cluster.metadata
    for key in range(100):
        driver = [host.address for host in metadata.get_replicas(keyspace, key.to_bytes(4, "big"))]
        assert len(driver) == factor
        assert driver == admin_ring(ring, keyspace, "t", [str(key)])
    prepared = session.prepare(f"SELECT c FROM {keyspace}.u WHERE a = ? AND b = ?")
    for key in range(20):
        name, id = f"name {key}", uuid.UUID(int=key)
        routing_key = prepared.bind((name, id)).routing_key
        driver = [host.address for host in metadata.get_replicas(keyspace, routing_key)]
        assert driver == admin_ring(ring, keyspace, "u", [name, str(id)])
    assert ouro_ring(ring, keyspace, "t", "7") == admin_ring(ring, keyspace, "t", ["7"])


def test_token_aware_reads_stay_on_replicas(ring: Ring, session: Session) -> None:
    """With one copy a token-aware driver sends each key to the one node that has it."""
    keyspace = new_keyspace(session, "'class': 'SimpleStrategy', 'replication_factor': 1")
    session.execute(f"CREATE TABLE {keyspace}.t (id int PRIMARY KEY, v int)")
    aware = connect(
        ring.nodes,
        keyspace,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile(TokenAwarePolicy(DCAwareRoundRobinPolicy()))},
    )
    insert = aware.prepare("INSERT INTO t (id, v) VALUES (?, ?)")
    asked = set()
    for key in range(60):
        (replica,) = aware.cluster.metadata.get_replicas(keyspace, key.to_bytes(4, "big"))
        result = aware.execute(insert, (key, key))
        assert result.response_future.coordinator_host == replica
        asked.add(replica.address)
    assert asked == {node.host for node in ring.nodes}
    aware.cluster.shutdown()
    # Whoever is asked, the row is found where it is.
    for node in ring.nodes:
        one = connect_to(node, keyspace)
        assert len(list(one.execute("SELECT id FROM t"))) == 60
        assert one.execute("SELECT v FROM t WHERE id = 33").one().v == 33
        one.cluster.shutdown()


def test_hosts(ring: Ring, session: Session) -> None:
    """Every node's own tables name it and all others, with all that drivers want to know."""
    for node in ring.nodes:
        one = connect_to(node)
        local = one.execute("SELECT * FROM system.local").one()
        peers = list(one.execute("SELECT * FROM system.peers_v2"))
        assert str(local.rpc_address) == node.host
        hosts = {other.host for other in ring.nodes}
        assert {str(row.native_address) for row in peers} == hosts - {node.host}
        assert {row.native_port for row in peers} == {node.port}
        assert {str(row.rpc_address) for row in one.execute("SELECT * FROM system.peers")} == hosts - {
            node.host
        }
        rows = [local, *peers]
        assert len({row.host_id for row in rows}) == 3
        assert len({row.schema_version for row in rows}) == 1
        assert {row.data_center for row in rows} == {"datacenter1"}
        tokens = [token for row in rows for token in row.tokens]
        assert len(tokens) == len(set(tokens)) == 48
        one.cluster.shutdown()


class Listener(HostStateListener):
    """Notes what the driver is told."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []

    def on_up(self, host: Host) -> None:
        self.heard.append(("up", host.address))

    def on_down(self, host: Host) -> None:
        self.heard.append(("down", host.address))

    def on_add(self, host: Host) -> None:
        self.heard.append(("add", host.address))

    def on_remove(self, host: Host) -> None:
        self.heard.append(("remove", host.address))


class Events:
    """STATUS_CHANGE and TOPOLOGY_CHANGE events of one node, as they come."""

    def __init__(self, session: Session) -> None:
        self.heard: list[tuple[str, str]] = []
        connection = session.cluster.control_connection._connection
        for kind in ("STATUS_CHANGE", "TOPOLOGY_CHANGE"):
            connection.register_watcher(kind, self._note, register_timeout=5)

    def _note(self, event: dict[str, object]) -> None:
        self.heard.append((str(event["change_type"]), event["address"][0]))  # type: ignore[index]


@pytest.fixture
def witness(frail_ring: Ring) -> Iterator[Session]:
    session = connect_to(frail_ring.nodes[0])
    yield session
    session.cluster.shutdown()


@pytest.mark.parametrize("fault", ["kill", "stop", "pause"])
def test_status_events(frail_ring: Ring, witness: Session, fault: str) -> None:
    """A driver that is with another node hears that a node went, and that it is back, once each."""
    events = Events(witness)
    node = frail_ring.nodes[2]
    getattr(node, fault)()
    eventually(lambda: ("DOWN", node.host) in events.heard, "the driver hears of it")
    frail_ring.heal()
    eventually(lambda: ("UP", node.host) in events.heard, "the driver hears that it is back")
    assert [event for event in events.heard if event[1] == node.host] == [
        ("DOWN", node.host),
        ("UP", node.host),
    ]


def coordinators(session: Session) -> set[str]:
    """Whom the driver asks."""
    futures = [session.execute_async("SELECT key FROM system.local") for _ in range(30)]
    for future in futures:
        future.result()
    return {future.coordinator_host.address for future in futures}


def test_drivers_follow(frail_ring: Ring) -> None:
    """A driver stops asking a node that is gone, and asks it again when it is back; connections of its own included."""
    session = connect(frail_ring.nodes)
    listener = Listener()
    session.cluster.register_listener(listener)
    node = frail_ring.nodes[1]
    node.kill()
    eventually(lambda: ("down", node.host) in listener.heard, "the driver takes it for down")

    assert coordinators(session) == {other.host for other in frail_ring.nodes if other is not node}
    frail_ring.heal()
    eventually(lambda: len(coordinators(session)) == 3, "the driver asks it again")
    session.cluster.shutdown()


def test_a_node_that_joins(make_ring: Callable[..., Ring]) -> None:
    """A driver that knows of two nodes hears of the third, and asks it."""
    ring = make_ring(3)
    first, second, third = ring.nodes
    first.start()
    second.start()
    session = connect([first])
    events = Events(session)
    assert len(session.cluster.metadata.all_hosts()) == 2
    third.start()
    eventually(lambda: ("NEW_NODE", third.host) in events.heard, "the driver hears of a new node")
    eventually(lambda: ("UP", third.host) in events.heard, "the driver hears that it is up")
    eventually(lambda: len(session.cluster.metadata.all_hosts()) == 3, "the driver knows it")
    eventually(lambda: third.host in coordinators(session), "the driver asks it")
    session.cluster.shutdown()


def test_tracing(ring: Ring, session: Session, keyspace: str) -> None:
    """A trace is found whichever node is asked for it, and names the coordinator."""
    session.execute(f"CREATE TABLE {keyspace}.t (id int PRIMARY KEY, v int)")
    query = SimpleStatement(f"INSERT INTO {keyspace}.t (id, v) VALUES (1, 1)", consistency_level=Level.QUORUM)
    sessions = [connect_to(node) for node in ring.nodes]
    for node, one in zip(ring.nodes, sessions, strict=True):
        id = one.execute(query, trace=True).response_future.get_query_trace_ids()[0]
        for other in sessions:
            trace = QueryTrace(id, other)
            trace.populate(10)
            assert trace.coordinator == node.host
            assert trace.duration is not None
            assert trace.events
            assert trace.parameters["consistency_level"] == "QUORUM"
    for one in sessions:
        one.cluster.shutdown()
