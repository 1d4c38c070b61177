"""Two data centres. If these fail, a broken link between them stops clients that asked for their own one only, or a
level that promises both gives less.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator

import pytest
from cassandra import ConsistencyLevel as Level
from cassandra import InvalidRequest, Unavailable
from cassandra.cluster import Session
from cassandra.query import SimpleStatement
from tests.nodes import NodeProcess
from tests.ring.namespaces import Network, need_namespaces
from tests.ring.ring import Ring, connect_to, eventually, new_keyspace, states

LOCATIONS = [("one", "r1"), ("two", "r1"), ("one", "r2"), ("two", "r2"), ("one", "r3"), ("two", "r3")]
REPLICATION = "'class': 'NetworkTopologyStrategy', 'one': 3, 'two': 3"
INSERT = "INSERT INTO t (id, v) VALUES ({}, {})"
INSERT_IF = "INSERT INTO t (id, v) VALUES ({}, 0) IF NOT EXISTS"
READ = "SELECT v FROM t WHERE id = {}"

READS = 400

keys = itertools.count(1)


class World:
    """Two data centres of three nodes, and a session with one node of each."""

    def __init__(self, ring: Ring, network: Network) -> None:
        self.ring = ring
        self.network = network
        self.sides = [ring.nodes[0::2], ring.nodes[1::2]]
        self.sessions = [connect_to(side[0]) for side in self.sides]
        self.keyspace = new_keyspace(self.sessions[0], REPLICATION)
        for session in self.sessions:
            session.set_keyspace(self.keyspace)
        self.sessions[0].execute("CREATE TABLE t (id int PRIMARY KEY, v int)")
        self.sessions[0].execute("CREATE TABLE c (id int PRIMARY KEY, v counter)")

    def cut(self) -> None:
        self.network.split(*([node.host for node in side] for side in self.sides))

    def wait_until_cut(self) -> None:
        for side, other in (self.sides, self.sides[::-1]):
            for node in side:
                eventually(
                    lambda node=node, other=other: knows_down(node, other), f"{node.host} knows the cut"
                )


def knows_down(node: NodeProcess, others: list[NodeProcess]) -> bool:
    up = states(node)
    return not any(up[other.host] for other in others)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    need_namespaces()
    with Network(len(LOCATIONS)) as network:
        folder = tmp_path_factory.mktemp("dcs")
        with Ring(folder, len(LOCATIONS), network=network, locations=LOCATIONS) as ring:
            world = World(ring.start(), network)
            yield world
            for session in world.sessions:
                session.cluster.shutdown()


@pytest.fixture
def world(shared: World) -> Iterator[World]:
    yield shared
    shared.ring.heal()


def run(session: Session, statement: str, level: int, serial: int | None = None) -> object:
    query = SimpleStatement(statement, consistency_level=level, serial_consistency_level=serial)
    return session.execute(query).one()


def unavailable(attempt: Callable[[], object]) -> tuple[int, int, int]:
    with pytest.raises(Unavailable) as caught:
        attempt()
    error = caught.value
    return error.consistency, error.required_replicas, error.alive_replicas


def test_the_link_is_cut(world: World) -> None:
    """LOCAL_* goes on in each centre, at once and later; EACH_QUORUM and QUORUM are refused; all are equal at last."""
    written: dict[int, int] = {}
    world.cut()
    started = time.monotonic()
    for number, session in enumerate(world.sessions):
        for _ in range(20):
            key = next(keys)
            run(session, INSERT.format(key, number), Level.LOCAL_QUORUM)
            assert run(session, READ.format(key), Level.LOCAL_QUORUM).v == number
            run(session, INSERT.format(key, 10 + number), Level.LOCAL_ONE)
            written[key] = 10 + number
    print(f"80 requests at LOCAL_* right after the cut took {time.monotonic() - started:.2f} s")
    world.wait_until_cut()
    for number, session in enumerate(world.sessions):
        other = ("one", "two")[1 - number]
        key = next(keys)
        run(session, INSERT.format(key, number), Level.LOCAL_QUORUM)
        written[key] = number
        assert run(session, READ.format(key), Level.LOCAL_QUORUM).v == number
        assert run(session, READ.format(key), Level.LOCAL_ONE).v == number
        run(session, INSERT_IF.format(1000 + key), Level.LOCAL_QUORUM, Level.LOCAL_SERIAL)
        assert run(session, READ.format(1000 + key), Level.LOCAL_SERIAL).v == 0
        written[1000 + key] = 0
        run(session, f"UPDATE c SET v = v + 1 WHERE id = {key}", Level.LOCAL_QUORUM)
        # Three of six are up, and four are a quorum; in the other centre there is none.
        with pytest.raises(Unavailable, match=f"in DC {other}") as caught:
            run(session, INSERT.format(key, 0), Level.EACH_QUORUM)
        assert (caught.value.required_replicas, caught.value.alive_replicas) == (2, 0)
        assert unavailable(lambda s=session, k=key: run(s, INSERT.format(k, 0), Level.QUORUM)) == (
            *(Level.QUORUM, 4, 3),
        )
        assert unavailable(lambda s=session, k=key: run(s, READ.format(k), Level.QUORUM)) == (
            Level.QUORUM,
            4,
            3,
        )
        assert unavailable(
            lambda s=session, k=key: run(s, INSERT_IF.format(k), Level.LOCAL_QUORUM, Level.SERIAL)
        ) == (Level.SERIAL, 4, 3)
        with pytest.raises(InvalidRequest):
            run(session, READ.format(key), Level.EACH_QUORUM)
    world.ring.heal()
    for node in world.ring.nodes:
        session = connect_to(node, world.keyspace)
        eventually(
            lambda session=session: all(
                (row := run(session, READ.format(key), Level.LOCAL_ONE)) is not None and row.v == value
                for key, value in written.items()
            ),
            f"{node.host} has all that was written in both centres",
        )
        session.cluster.shutdown()
    run(world.sessions[0], INSERT.format(next(keys), 0), Level.EACH_QUORUM)


def test_drivers_agree_on_replicas(world: World) -> None:
    """Three of each centre, in the driver's order."""
    metadata = world.sessions[0].cluster.metadata
    metadata_keyspace = world.keyspace
    for key in range(100):
        driver = [host.address for host in metadata.get_replicas(metadata_keyspace, key.to_bytes(4, "big"))]
        report = world.ring.nodes[0].admin(
            "ring", {"keyspace": metadata_keyspace, "table": "t", "key": [str(key)]}
        )
        found = report["key"]
        ours = [
            report["nodes"][str(one)]["cql"].rpartition(":")[0]
            for one in (found["primary"], *found["secondaries"])
        ]
        assert len(driver) == 6
        assert sorted(driver) == sorted(ours)
        # The driver has the replicas of one centre after the other, ours are in order of the ring.
        for side in world.sides:
            hosts = [node.host for node in side]
            assert [one for one in driver if one in hosts] == [one for one in ours if one in hosts]


def test_local_levels_count_the_own_centre_only(world: World) -> None:
    """With two of three local replicas dead, LOCAL_QUORUM is refused though there are three more elsewhere."""
    near, far = world.sessions
    gone = world.sides[0][1:]
    for node in gone:
        node.kill()
    world.ring.wait_until_down(*gone)
    key = next(keys)
    run(far, INSERT.format(key, 1), Level.LOCAL_QUORUM)
    for level in (Level.LOCAL_QUORUM, Level.EACH_QUORUM):
        assert unavailable(lambda level=level: run(near, INSERT.format(key, 2), level))[1:] == (2, 1)
    assert unavailable(lambda: run(near, READ.format(key), Level.LOCAL_QUORUM)) == (Level.LOCAL_QUORUM, 2, 1)
    assert unavailable(lambda: run(near, INSERT_IF.format(key), Level.LOCAL_QUORUM, Level.LOCAL_SERIAL)) == (
        *(Level.LOCAL_SERIAL, 2, 1),
    )
    # All that is left of this centre, and the whole other one, are a quorum.
    run(near, INSERT.format(key, 3), Level.QUORUM)
    assert run(near, READ.format(key), Level.QUORUM).v == 3
    assert run(near, READ.format(key), Level.LOCAL_ONE).v == 3


def requests_to(nodes: list[NodeProcess]) -> int:
    """How many requests of peers about rows came to these nodes so far."""
    return sum(int(node.metrics()["ouro_peer_requests_in"]) for node in nodes)


@pytest.mark.parametrize("number", [0, 1])
def test_local_reads_stay_at_home(world: World, number: int) -> None:
    """Reads at LOCAL_* ask nobody in the other centre."""
    session, far = world.sessions[number], world.sides[1 - number]
    key = next(keys)
    run(session, INSERT.format(key, 0), Level.ALL)
    for node in (*world.sides[0], *world.sides[1]):
        eventually(lambda node=node: not node.metrics()["ouro_hints"], f"{node.host} has delivered its hints")

    def asked(level: int) -> int:
        before = requests_to(far)
        for _ in range(READS):
            run(session, READ.format(key), level)
        if level != Level.LOCAL_SERIAL:
            run(session, "SELECT v FROM t", level)
        return requests_to(far) - before

    assert asked(Level.ALL) >= READS * len(far)
    for level in (Level.LOCAL_ONE, Level.LOCAL_QUORUM, Level.LOCAL_SERIAL):
        assert asked(level) == 0, Level.value_to_name[level]


def test_local_levels_wait_for_nobody_else(world: World) -> None:
    """While the whole other centre is stopped, and not known to be, LOCAL_* answers as always."""
    session = world.sessions[0]
    key = next(keys)
    run(session, INSERT.format(key, 0), Level.ALL)
    for node in world.sides[1]:
        node.pause()
    for value in range(20):
        run(session, INSERT.format(key, value), Level.LOCAL_QUORUM)
        assert run(session, READ.format(key), Level.LOCAL_QUORUM).v == value
        assert run(session, "SELECT v FROM t", Level.LOCAL_QUORUM) is not None
        run(session, INSERT_IF.format(next(keys)), Level.LOCAL_QUORUM, Level.LOCAL_SERIAL)
    assert all(states(world.sides[0][0])[node.host] for node in world.sides[0])
