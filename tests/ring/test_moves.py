"""Nodes come and go while clients write and read: rows move by themselves, and nobody notices.

If this fails, a ring that grows, or gives up a node, loses rows, brings deleted ones back, or stops serving.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from cassandra import ConsistencyLevel, WriteTimeout
from cassandra.cluster import Session
from cassandra.query import PreparedStatement, SimpleStatement
from tests.nodes import NodeProcess
from tests.ring.moving import MOVE_SECONDS_MAX, DisturbedRun, MovingRun, members
from tests.ring.ring import Ring, connect, connect_to, eventually, new_keyspace
from tests.ring.run import IS_FULL, TEST_SECONDS_MAX
from tests.ring.test_faults import CREWS

from ourodb.sim.workloads.stage import Script

pytestmark = pytest.mark.timeout(TEST_SECONDS_MAX)

ROWS = 20_000
BULK = 200_000
MILLION = 1_000_000
STALE_WRITES = 300


def test_nodes_join_and_leave_under_load(make_ring: Callable[..., Ring]) -> None:
    """One more at first, and then one of the first three less: all rows have moved, as all are on all three again.

    With ``OURO_FULL``, a million rows: a 4th node joins, a 5th and a 6th together, one leaves, a killed one is
    replaced, another one is healed away, tokens are evened, and one more leaves.
    """
    ring = make_ring(7 if IS_FULL else 4)
    spares = [ring.nodes.pop() for _ in ring.nodes[3:]]
    ring.start()
    try:
        run = MovingRun(ring, spares, MILLION if IS_FULL else ROWS)
        run.play_moves(CREWS, _everything(run, *spares) if IS_FULL else _one_each(run, *spares))
        print(run.story())
        problems = run.problems()
        run.close()
        assert problems == []
    finally:
        _end(spares)


def _one_each(run: MovingRun, fourth: NodeProcess) -> Script[None]:
    yield from run.join(fourth)
    yield from run.decommission(run.ring.nodes[0])


def _everything(
    run: MovingRun, fourth: NodeProcess, fifth: NodeProcess, sixth: NodeProcess, seventh: NodeProcess
) -> Script[None]:
    nodes = run.ring.nodes
    yield from run.join(fourth)
    run.check_evenness()
    yield from run.join(fifth, sixth)
    run.check_evenness()
    yield from run.decommission(nodes[0])
    yield from run.replace(nodes[0], seventh)
    yield from run.heal(nodes[0])
    yield from run.rebalance()
    run.check_evenness()
    yield from run.decommission(nodes[0])


@pytest.mark.parametrize("number", range(5 if IS_FULL else 1))
def test_operations_that_are_disturbed(make_ring: Callable[..., Ring], number: int) -> None:
    """A node that joins, one that it copies from, the metadata's leader, or a coordinator that misses what is decided
    is killed or stopped at some moment: the operation is done, or undone, and clients don't notice.

    With ``OURO_FULL`` fifty times in all.
    """
    ring = make_ring(6 if IS_FULL else 4)
    spares = [ring.nodes.pop() for _ in ring.nodes[3:]]
    ring.start()
    everybody = [*ring.nodes, *spares]
    try:
        run = DisturbedRun(ring, spares, BULK if IS_FULL else ROWS)
        run.play_moves(CREWS, run.disturbed(10 if IS_FULL else 1))
        print(run.story())
        problems = run.problems()
        run.close()
        assert problems == []
    finally:
        _end(everybody)


def _end(nodes: Sequence[NodeProcess]) -> None:
    for node in nodes:
        if node.alive():
            node.kill()


def test_rows_are_where_a_driver_looks_for_them(make_ring: Callable[..., Ring]) -> None:
    """With one copy of each row, the one that is read is the one that has moved; what left is deleted."""
    ring = make_ring(4)
    spare = ring.nodes.pop()
    ring.start()
    session = connect(ring.nodes)
    keyspace = new_keyspace(session, "'class': 'SimpleStrategy', 'replication_factor': 1")
    expected = filled(session, keyspace)
    try:
        spare.launch()
        ring.nodes.append(spare)
        eventually(
            lambda: [bool(one["tokens"]) for one in members(ring.nodes[0])] == [True] * 4,
            "the fourth node has joined",
            MOVE_SECONDS_MAX,
        )
        assert {row[0]: row[1] for row in session.execute(f"SELECT k, v FROM {keyspace}.t")} == expected
        owned = {one["id"]: one["owns"] for one in members(ring.nodes[0])}
        assert max(owned.values()) / (sum(owned.values()) / 4) < 1.15
        there = connect_to(spare)
        assert len(list(there.execute(f"SELECT k FROM {keyspace}.t"))) == ROWS
        there.cluster.shutdown()
    finally:
        session.cluster.shutdown()


def test_a_keyspace_gets_more_copies_and_then_fewer(make_ring: Callable[..., Ring]) -> None:
    """All rows are on each of three nodes in between, and what is on one alone in the end is all there is."""
    ring = make_ring(3)
    ring.start()
    session = connect(ring.nodes)
    keyspace = new_keyspace(session, "'class': 'SimpleStrategy', 'replication_factor': 1")
    expected = filled(session, keyspace)
    for factor, level in ((3, ConsistencyLevel.ALL), (1, ConsistencyLevel.ONE)):
        replication = f"{{'class': 'SimpleStrategy', 'replication_factor': {factor}}}"
        altered = session.execute_async(f"ALTER KEYSPACE {keyspace} WITH replication = {replication}")
        altered.result()
        assert [warning for warning in altered.warnings if "move in the background" in warning]
        known = f"SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = '{keyspace}'"
        eventually(
            lambda known=known, factor=factor: (
                session.execute(known).one()[0]["replication_factor"] == str(factor)
            ),
            f"there are {factor} copies",
            MOVE_SECONDS_MAX,
        )
        read = SimpleStatement(f"SELECT k, v FROM {keyspace}.t", consistency_level=level)
        assert {row[0]: row[1] for row in session.execute(read)} == expected
    session.cluster.shutdown()


def test_a_data_centre_gets_copies(make_ring: Callable[..., Ring]) -> None:
    """A second data centre is there without rows, until ALTER KEYSPACE gives it its own copies: then it needs the first
    one no longer.
    """
    ring = make_ring(4, locations=[("here", "r1"), ("here", "r2"), ("there", "r1"), ("there", "r2")])
    ring.start()
    session = connect_to(ring.nodes[0])
    keyspace = new_keyspace(session, "'class': 'NetworkTopologyStrategy', 'here': 2")
    expected = filled(session, keyspace)
    session.execute(
        f"ALTER KEYSPACE {keyspace} WITH replication ="
        " {'class': 'NetworkTopologyStrategy', 'here': 2, 'there': 2}"
    )
    known = f"SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = '{keyspace}'"
    eventually(
        lambda: session.execute(known).one()[0].get("there") == "2", "there are copies", MOVE_SECONDS_MAX
    )
    session.cluster.shutdown()
    for node in ring.nodes[:2]:
        node.kill()
    there = connect_to(ring.nodes[2])
    read = SimpleStatement(f"SELECT k, v FROM {keyspace}.t", consistency_level=ConsistencyLevel.LOCAL_QUORUM)
    assert {row[0]: row[1] for row in there.execute(read)} == expected
    there.cluster.shutdown()


def test_a_coordinator_that_missed_the_move(make_ring: Callable[..., Ring]) -> None:
    """It writes at ONE to those that it takes for the replicas. What it acknowledges is where it is looked for now, as
    soon as it has delivered its hints: it may have acknowledged a write as a replica that is none any more.
    """
    ring = make_ring(5)
    joiner = ring.nodes.pop()
    ring.start()
    stale, witness = ring.nodes[-1], ring.nodes[0]
    session = connect_to(stale)
    keyspace = new_keyspace(session)
    session.execute(f"CREATE TABLE {keyspace}.t (k int PRIMARY KEY, v text)")
    insert = session.prepare(f"INSERT INTO {keyspace}.t (k, v) VALUES (?, ?)")
    insert.consistency_level = ConsistencyLevel.ONE
    session.execute(insert, (-1, "before"))
    epoch = stale.admin("metadata")["epoch"]
    stale.pause()
    try:
        # They wait at its door, and are the first that it does when it goes on.
        futures = [
            session.execute_async(insert, (key, f"v{key}"), timeout=120) for key in range(STALE_WRITES)
        ]
        joiner.launch()
        eventually(
            lambda: (
                sum(bool(one["tokens"]) for one in members(witness)) == 5
                and witness.admin("moves")["move"] is None
            ),
            "the fifth node has joined",
            MOVE_SECONDS_MAX,
        )
        assert witness.admin("metadata")["epoch"] > epoch
        stale.resume()
        ring.nodes.append(joiner)
        acknowledged = []
        for key, future in enumerate(futures):
            try:
                future.result()
            except WriteTimeout:
                continue
            acknowledged.append(key)
        assert len(acknowledged) > STALE_WRITES / 2
        ring.wait_until_whole()
        for node in (witness, joiner):
            there = connect_to(node)
            read = there.prepare(f"SELECT v FROM {keyspace}.t WHERE k = ?")
            read.consistency_level = ConsistencyLevel.QUORUM
            eventually(
                lambda there=there, read=read: not missing(there, read, acknowledged),
                "all that was acknowledged is found",
            )
            there.cluster.shutdown()
    finally:
        session.cluster.shutdown()
        _end([joiner])


def missing(session: Session, read: PreparedStatement, keys: Sequence[int]) -> list[int]:
    """Keys whose row isn't there, or is another one."""
    found = [session.execute_async(read, (key,)) for key in keys]
    return [key for key, one in zip(keys, found, strict=True) if one.result().one() != (f"v{key}",)]


def filled(session: Session, keyspace: str) -> dict[int, str]:
    """A new table ``t`` with rows; gives them."""
    session.execute(f"CREATE TABLE {keyspace}.t (k int PRIMARY KEY, v text)")
    insert = session.prepare(f"INSERT INTO {keyspace}.t (k, v) VALUES (?, ?)")
    for start in range(0, ROWS, 500):
        for future in [session.execute_async(insert, (key, f"v{key}")) for key in range(start, start + 500)]:
            future.result()
    return {key: f"v{key}" for key in range(ROWS)}
