"""``ourodb.testing``: what a test may do to the nodes of a ring, and what a stock driver sees of it.

Were these to fail, tests that users write against a ring would wait for what doesn't come, or pass for the wrong
reason.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator

import pytest
from cassandra import ConsistencyLevel, Unavailable
from cassandra.cluster import Session
from cassandra.query import SimpleStatement

from ourodb.testing import cluster
from ourodb.testing.ring import Ring, RingError, RingNode

PATIENCE_S = 120


@pytest.fixture(scope="module")
def ring() -> Iterator[Ring]:
    with cluster(nodes=3) as ring:
        yield ring


@pytest.fixture
def session(ring: Ring) -> Iterator[Session]:
    """A session on a whole ring, and an empty table."""
    ring.make_whole()
    session = ring.session
    session.execute("DROP KEYSPACE IF EXISTS k")
    session.execute(
        "CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}"
    )
    session.execute("CREATE TABLE k.rows (id int PRIMARY KEY, value int)")
    yield session
    ring.make_whole()


def until(condition: Callable[[], object]) -> None:
    limit = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.05)


def state(ring: Ring, seen_by: int, number: int) -> str:
    members = ring.nodes[seen_by].status()["members"]
    (found,) = [member["state"] for member in members if member["address"] == ring.nodes[number].peer]
    return str(found)


def hints_waiting(ring: Ring) -> int:
    return sum(member["hints_waiting"] for node in ring.nodes for member in node.status()["members"])


def insert(session: Session, first: int, last: int, level: int = ConsistencyLevel.QUORUM) -> None:
    statement = SimpleStatement("INSERT INTO k.rows (id, value) VALUES (%s, %s)", consistency_level=level)
    for id in range(first, last):
        session.execute(statement, (id, id))


def ids(session: Session, level: int) -> set[int]:
    return {
        row.id for row in session.execute(SimpleStatement("SELECT id FROM k.rows", consistency_level=level))
    }


def test_every_node_has_an_address_of_its_own(ring: Ring, session: Session) -> None:
    assert len(set(ring.contact_points)) == 3
    assert {node.port for node in ring.nodes} == {ring.port}
    hosts = session.cluster.metadata.all_hosts()
    assert {host.address for host in hosts} == set(ring.contact_points)


def test_a_killed_node_comes_back_and_gets_what_it_missed(ring: Ring, session: Session) -> None:
    insert(session, 0, 10)
    ring.nodes[2].kill()
    assert not ring.nodes[2].is_running
    until(lambda: state(ring, 0, 2) == "DOWN")
    insert(session, 10, 40)
    assert ids(session, ConsistencyLevel.QUORUM) == set(range(40))
    assert ring.nodes[0].status()["members"]
    with pytest.raises(RingError, match="ended with -9"):
        ring.wait_until_all_up()
    ring.nodes[2].start()
    ring.wait_until_all_up()
    until(lambda: not hints_waiting(ring))
    # Alone it has nobody to ask.
    ring.split([2], [0, 1])
    assert ids(ring.connect(node=2), ConsistencyLevel.ONE) == set(range(40))


def test_a_paused_node_is_down_until_it_resumes(ring: Ring, session: Session) -> None:
    ring.nodes[1].pause()
    until(lambda: state(ring, 0, 1) == "DOWN")
    assert ring.nodes[1].is_running
    insert(ring.connect(node=0), 0, 5)
    ring.nodes[1].resume()
    ring.wait_until_all_up()
    assert state(ring, 0, 1) == "UP"
    assert ids(session, ConsistencyLevel.QUORUM) == set(range(5))


def test_a_node_that_is_stopped_ends_in_order(ring: Ring, session: Session) -> None:
    assert ring.nodes[1].stop() == 0
    until(lambda: state(ring, 0, 1) == "DOWN")
    ring.nodes[1].start()
    ring.wait_until_all_up()
    assert ring.nodes[1].log.count(" ready: ") >= 2


def test_a_partition_by_consistency_level(ring: Ring, session: Session) -> None:
    """What the README promises for each side."""
    larger, smaller = ring.connect(node=0), ring.connect(node=2)
    ring.split([0, 1], [2])
    until(lambda: state(ring, 2, 0) == state(ring, 2, 1) == state(ring, 0, 2) == "DOWN")
    insert(larger, 0, 10)
    insert(larger, 10, 20, ConsistencyLevel.ONE)
    insert(smaller, 20, 30, ConsistencyLevel.ONE)
    assert ids(larger, ConsistencyLevel.ONE) == set(range(20))
    assert ids(smaller, ConsistencyLevel.ONE) == set(range(20, 30))
    with pytest.raises(Exception) as refused:
        insert(smaller, 30, 31)
    reason = next(iter(getattr(refused.value, "errors", {}).values()), refused.value)
    assert isinstance(reason, Unavailable)
    assert (reason.required_replicas, reason.alive_replicas) == (2, 1)
    for other in (larger, smaller):
        with pytest.raises(Exception, match="Cannot achieve consistency level ALL"):
            insert(other, 31, 32, ConsistencyLevel.ALL)
    ring.heal()
    ring.wait_until_all_up()
    until(lambda: not hints_waiting(ring))
    assert ids(larger, ConsistencyLevel.ONE) == ids(smaller, ConsistencyLevel.ONE) == set(range(30))


def test_a_cut_that_makes_no_sense_is_refused(ring: Ring) -> None:
    with pytest.raises(RingError, match="'nonsense' isn't ADDRESS:PEER-PORT"):
        ring.nodes[0].status("/faults", {"cut": ["nonsense"]})


def test_without_a_driver_one_is_told_what_to_install(ring: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cassandra.cluster", None)
    with pytest.raises(RingError, match="pip install cassandra-driver"):
        ring.connect()


def test_locations_are_spread() -> None:
    plan = Ring(7, dcs=2, racks=2)
    try:
        places = [(node.plan.dc, node.plan.rack) for node in plan.nodes]
    finally:
        plan.close()
    assert places[:4] == [
        ("datacenter1", "rack1"),
        ("datacenter2", "rack1"),
        ("datacenter1", "rack2"),
        ("datacenter2", "rack2"),
    ]
    assert len({node.plan.host_id for node in plan.nodes}) == 7


def test_nodes_are_added_while_there_are_rows() -> None:
    with cluster(nodes=1) as ring:
        session = ring.session
        session.execute(
            "CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}"
        )
        session.execute("CREATE TABLE k.rows (id int PRIMARY KEY)")
        for id_ in range(100):
            session.execute("INSERT INTO k.rows (id) VALUES (%s)", [id_])
        added = ring.add(2)
        assert [node.number for node in added] == [1, 2]
        for number in range(3):
            there = ring.connect(node=number)
            assert len(list(there.execute("SELECT id FROM k.rows"))) == 100
            owns = ring.nodes[number].status()["members"][number]["owns"]
            assert 0.25 < owns < 0.42


def test_a_node_that_has_left_joins_afresh(ring: Ring) -> None:
    ring.make_whole()
    ring.session.execute("DROP KEYSPACE IF EXISTS k")
    gone = ring.nodes[2]
    before = {member["host_id"] for member in ring.nodes[0].status()["members"]}
    gone.kill()
    until(lambda: state(ring, 0, 2) == "DOWN")
    ring.nodes[0].status("/remove", {"node": number_of(ring, gone)})
    until(lambda: len(ring.nodes[0].status()["members"]) == 2)
    ring.make_whole()
    members = ring.nodes[0].status()["members"]
    assert len(members) == 3
    assert len(before & {member["host_id"] for member in members}) == 2
    assert gone.is_running


def number_of(ring: Ring, node: RingNode) -> int:
    members = ring.nodes[0].status()["members"]
    return next(member["id"] for member in members if member["address"] == node.peer)
