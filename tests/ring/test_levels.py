"""Consistency levels while replicas are missing or silent. If these fail, a client is promised more copies than there
are, is refused what could be had, or is told the wrong numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from cassandra import ConsistencyLevel as Level
from cassandra import InvalidRequest, ReadTimeout, Unavailable, WriteTimeout, WriteType
from cassandra.cluster import Session
from cassandra.query import SimpleStatement
from tests.ring.ring import Ring, connect_to, eventually, new_keyspace

REQUIRED = {
    Level.ANY: 1,
    Level.ONE: 1,
    Level.LOCAL_ONE: 1,
    Level.TWO: 2,
    Level.QUORUM: 2,
    Level.LOCAL_QUORUM: 2,
    Level.EACH_QUORUM: 2,
    Level.THREE: 3,
    Level.ALL: 3,
}
"""Of three replicas."""

INSERT = "INSERT INTO t (id, v) VALUES ({}, 0)"
INSERT_IF = "INSERT INTO t (id, v) VALUES ({}, 0) IF NOT EXISTS"
BATCH = (
    "BEGIN BATCH INSERT INTO t (id, v) VALUES ({0}, 0); INSERT INTO t (id, v) VALUES (1{0}, 0); APPLY BATCH"
)
COUNT = "UPDATE c SET v = v + 1 WHERE id = {}"
READ = "SELECT v FROM t WHERE id = 1"


@pytest.fixture
def coordinator(frail_ring: Ring) -> Iterator[Session]:
    """A session that asks the first node only, in a keyspace with three copies."""
    session = connect_to(frail_ring.nodes[0])
    session.set_keyspace(new_keyspace(session))
    session.execute("CREATE TABLE t (id int PRIMARY KEY, v int)")
    session.execute("CREATE TABLE c (id int PRIMARY KEY, v counter)")
    session.execute(SimpleStatement(INSERT.format(1), consistency_level=Level.ALL))
    yield session
    session.cluster.shutdown()


def run(session: Session, statement: str, level: int, serial: int | None = None) -> Any:
    query = SimpleStatement(statement, consistency_level=level, serial_consistency_level=serial)
    return session.execute(query)


def refused(session: Session, statement: str, level: int, serial: int | None = None) -> tuple[int, int, int]:
    """Level, required and alive, as the error has them."""
    with pytest.raises(Unavailable) as caught:
        run(session, statement, level, serial)
    error = caught.value
    return error.consistency, error.required_replicas, error.alive_replicas


@pytest.mark.parametrize("gone", [1, 2])
def test_replicas_that_are_down(frail_ring: Ring, coordinator: Session, gone: int) -> None:
    """Each level is had as long as enough replicas are up, and refused with the true numbers where not."""
    down = frail_ring.nodes[3 - gone :]
    for node in down:
        node.kill()
    frail_ring.wait_until_down(*down)
    alive = 3 - gone
    for level, required in REQUIRED.items():
        if required <= alive:
            run(coordinator, INSERT.format(2), level)
            run(coordinator, BATCH.format(3), level)
        else:
            assert refused(coordinator, INSERT.format(2), level) == (level, required, alive)
            assert refused(coordinator, BATCH.format(3), level) == (level, required, alive)
        if level == Level.ANY:
            continue
        if required <= alive:
            run(coordinator, COUNT.format(1), level)
        else:
            assert refused(coordinator, COUNT.format(1), level) == (level, required, alive)
        if level == Level.EACH_QUORUM:
            continue
        if required <= alive:
            assert run(coordinator, READ, level).one().v == 0
            assert run(coordinator, "SELECT v FROM t", level).one().v == 0
        else:
            assert refused(coordinator, READ, level) == (level, required, alive)
            assert refused(coordinator, "SELECT v FROM t", level) == (level, required, alive)
    for serial in (Level.SERIAL, Level.LOCAL_SERIAL):
        if alive >= 2:
            run(coordinator, INSERT_IF.format(4), Level.QUORUM, serial)
            assert run(coordinator, READ, serial).one().v == 0
        else:
            assert refused(coordinator, INSERT_IF.format(4), Level.ONE, serial) == (serial, 2, alive)
            assert refused(coordinator, READ, serial) == (serial, 2, alive)


def test_levels_that_make_no_sense(coordinator: Session) -> None:
    for statement, level in (
        (READ, Level.ANY),
        (READ, Level.EACH_QUORUM),
        (INSERT.format(2), Level.SERIAL),
        (COUNT.format(1), Level.SERIAL),
        (COUNT.format(1), Level.ANY),
    ):
        with pytest.raises(InvalidRequest):
            run(coordinator, statement, level)


def test_replicas_that_are_silent(frail_ring: Ring, coordinator: Session) -> None:
    """What is waited for and doesn't come is told as a timeout, with how many did answer."""
    frail_ring.nodes[2].pause()
    write = SimpleStatement(INSERT.format(2), consistency_level=Level.ALL)
    read = SimpleStatement(READ, consistency_level=Level.ALL)
    writing, reading = coordinator.execute_async(write), coordinator.execute_async(read)
    with pytest.raises(WriteTimeout) as caught:
        writing.result()
    error = caught.value
    assert (error.consistency, error.required_responses, error.received_responses, error.write_type) == (
        *(Level.ALL, 3, 2),
        WriteType.SIMPLE,
    )
    with pytest.raises(ReadTimeout) as caught:
        reading.result()
    error = caught.value
    assert (error.consistency, error.required_responses, error.received_responses) == (Level.ALL, 3, 2)
    assert error.data_retrieved


def test_most_replicas_are_silent(frail_ring: Ring, coordinator: Session) -> None:
    """The same with a quorum that is missing, for every kind of write."""
    statements = {
        WriteType.SIMPLE: INSERT.format(2),
        WriteType.COUNTER: COUNT.format(1),
        WriteType.CAS: INSERT_IF.format(5),
        WriteType.BATCH_LOG: BATCH.format(6),
    }
    frail_ring.nodes[1].pause()
    frail_ring.nodes[2].pause()
    futures = {
        kind: coordinator.execute_async(SimpleStatement(statement, consistency_level=Level.QUORUM))
        for kind, statement in statements.items()
    }
    for kind, future in futures.items():
        with pytest.raises(WriteTimeout) as caught:
            future.result()
        error = caught.value
        assert error.write_type == kind, (WriteType.value_to_name[kind], vars(error))
        # Two others were to keep the batch; the coordinator stands in for one of them.
        assert (error.required_responses, error.received_responses) == (2, 1), vars(error)


def test_silent_replicas_are_given_up(frail_ring: Ring, coordinator: Session) -> None:
    """Once a silent node is known to be down, nobody waits for it any more."""
    frail_ring.nodes[2].pause()
    frail_ring.wait_until_down(frail_ring.nodes[2])
    assert refused(coordinator, INSERT.format(2), Level.ALL) == (Level.ALL, 3, 2)
    frail_ring.nodes[2].resume()
    frail_ring.wait_until_whole()

    def all_answer() -> bool:
        try:
            run(coordinator, INSERT.format(2), Level.ALL)
        except (Unavailable, WriteTimeout):
            return False
        return run(coordinator, READ, Level.ALL).one() is not None

    eventually(all_answer, "ALL is had again")
