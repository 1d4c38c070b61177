"""A node that missed a change of the schema while it was gone, and is asked as soon as it is back.

If this fails, a client is told that a table doesn't exist which another client was told has been made.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.writes.ring import Ring, as_int

from ourodb.errors import AlreadyExists, InvalidRequest
from ourodb.sim.tasks import S


@pytest.fixture
def ring() -> Iterator[Ring]:
    """Three nodes; what changes the schema happens while the third is dead. It has just been started again."""
    ring = Ring()
    ring.set_up("CREATE TABLE ks.old (k int PRIMARY KEY, v int)")
    ring.kill(2)
    ring.done(0, "CREATE TABLE ks.t (k int PRIMARY KEY, v int)")
    ring.done(0, "ALTER TABLE ks.old ADD w int")
    ring.done(0, "INSERT INTO ks.t (k, v) VALUES (1, 2)")
    ring.machines[2].start()
    assert ring.world.run_until(lambda: ring.machines[2].is_ready, 5)
    assert ring.node(2).view.schema.table("ks", "t") is None
    yield ring
    ring.rest()


def test_a_table_that_it_doesn_t_know_is_asked_for(ring: Ring) -> None:
    assert as_int(ring.done(2, "SELECT v FROM ks.t WHERE k = 1").cell("v")) == 2


def test_so_is_a_column(ring: Ring) -> None:
    ring.done(2, "INSERT INTO ks.old (k, v, w) VALUES (1, 2, 3)")
    assert as_int(ring.done(0, "SELECT w FROM ks.old WHERE k = 1").cell("w")) == 3


def test_a_table_is_made_once(ring: Ring) -> None:
    assert isinstance(ring.run(2, "CREATE TABLE ks.t (k int PRIMARY KEY)").error, AlreadyExists)


def test_what_was_dropped_can_be_made_again(ring: Ring) -> None:
    ring.kill(1)
    ring.done(0, "DROP TABLE ks.old")
    ring.machines[1].start()
    assert ring.world.run_until(lambda: ring.machines[1].is_ready, 5)
    ring.done(1, "CREATE TABLE ks.old (k int PRIMARY KEY)")


def test_what_nobody_knows_is_refused(ring: Ring) -> None:
    for _ in range(3):
        begun_ns = ring.world.loop.now_ns
        assert isinstance(ring.run(2, "SELECT * FROM ks.nowhere").error, InvalidRequest)
    # A round trip, once the node is up.
    assert ring.world.loop.now_ns - begun_ns < S // 10


def test_a_node_that_reaches_nobody_refuses_at_once(ring: Ring) -> None:
    ring.rest()
    ring.kill(0)
    ring.kill(1)
    begun_ns = ring.world.loop.now_ns
    assert isinstance(ring.run(2, "SELECT * FROM ks.nowhere").error, InvalidRequest)
    assert ring.world.loop.now_ns - begun_ns < S // 10
