"""Nodes come and go while clients write and read: rows move by themselves, and nobody notices.

If this fails, a ring that grows, or gives up a node, loses rows, brings deleted ones back, or stops serving.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from cassandra import ConsistencyLevel
from cassandra.query import SimpleStatement
from tests.nodes import NodeProcess
from tests.ring.ring import Ring, connect, connect_to, eventually, new_keyspace
from tests.ring.run import TEST_SECONDS_MAX, Run, seed_of_run
from tests.ring.test_faults import CREWS

from ourodb.sim.workloads.stage import Script
from ourodb.testing.stage import Pause

pytestmark = pytest.mark.timeout(TEST_SECONDS_MAX)

MOVE_SECONDS_MAX = 60
ROWS = 20_000


def members(node: NodeProcess) -> list[dict[str, object]]:
    found: list[dict[str, object]] = node.admin("status")["members"]
    return found


def number_of(ring: Ring, node: NodeProcess) -> int:
    """The node's number in its cluster."""
    return int(
        next(one["id"] for one in members(ring.live()[0]) if str(one["cql"]).startswith(f"{node.host}:"))
    )


class MovingRun(Run):
    """A run in which nodes come and go instead of failing."""

    def __init__(self, ring: Ring, spares: Sequence[NodeProcess]) -> None:
        super().__init__(ring, seed_of_run(), [])
        self.spares = list(spares)

    def _let_faults_strike(self, operations_min: int) -> Script[None]:
        ring = self.ring
        self._begin("before any move", is_fault=False)
        yield Pause(2)
        self._begin("join", is_fault=False)
        for spare in self.spares:
            spare.launch()
        count = len(ring.nodes) + len(self.spares)
        yield from self._until(lambda: self._owners() == count and self._is_calm())
        ring.nodes += self.spares
        self._begin("leave", is_fault=False)
        for _ in self.spares:
            leaver = ring.nodes.pop(0)
            ring.nodes[-1].admin("decommission", {"node": number_of(ring, leaver)})
            yield from self._until(lambda gone=leaver: self._is_calm() and not self._knows(gone))
            leaver.kill()
        self._begin("after", is_fault=False)
        yield Pause(2)
        self.phases[-1].end_ns = self.phases[-1].start_ns + 2_000_000_000
        self.player.is_over = True

    def _until(self, happened: Callable[[], bool]) -> Script[None]:
        for _ in range(MOVE_SECONDS_MAX * 2):
            if happened():
                return
            yield Pause(0.5)
        pytest.fail(
            f"not within {MOVE_SECONDS_MAX} s: {self.ring.nodes[-1].admin('moves')}\n{self.ring.output()}"
        )

    def _owners(self) -> int:
        return sum(bool(one["tokens"]) for one in members(self.ring.nodes[-1]))

    def _is_calm(self) -> bool:
        report = self.ring.nodes[-1].admin("moves")
        return report["move"] is None and not report["wishes"]

    def _knows(self, node: NodeProcess) -> bool:
        return any(str(one["cql"]).startswith(f"{node.host}:") for one in members(self.ring.nodes[-1]))


def test_nodes_join_and_leave_under_load(make_ring: Callable[..., Ring]) -> None:
    """One more at first, and then one of the first three less: all rows have moved, as all are on all three again."""
    ring = make_ring(4)
    spare = ring.nodes.pop()
    ring.start()
    try:
        run = MovingRun(ring, [spare])
        run.play(CREWS)
        print(run.story())
        problems = run.problems(quorum_is_up=False)
        run.close()
        assert problems == []
    finally:
        if spare.alive():
            spare.kill()


def test_rows_are_where_a_driver_looks_for_them(make_ring: Callable[..., Ring]) -> None:
    """With one copy of each row, the one that is read is the one that has moved; what left is deleted."""
    ring = make_ring(4)
    spare = ring.nodes.pop()
    ring.start()
    session = connect(ring.nodes)
    keyspace = new_keyspace(session, "'class': 'SimpleStrategy', 'replication_factor': 1")
    session.execute(f"CREATE TABLE {keyspace}.t (k int PRIMARY KEY, v text)")
    insert = session.prepare(f"INSERT INTO {keyspace}.t (k, v) VALUES (?, ?)")
    for start in range(0, ROWS, 500):
        for future in [session.execute_async(insert, (key, f"v{key}")) for key in range(start, start + 500)]:
            future.result()
    try:
        spare.launch()
        ring.nodes.append(spare)
        eventually(
            lambda: [bool(one["tokens"]) for one in members(ring.nodes[0])] == [True] * 4,
            "the fourth node has joined",
            MOVE_SECONDS_MAX,
        )
        rows = {row[0]: row[1] for row in session.execute(f"SELECT k, v FROM {keyspace}.t")}
        assert rows == {key: f"v{key}" for key in range(ROWS)}
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
    session.execute(f"CREATE TABLE {keyspace}.t (k int PRIMARY KEY, v text)")
    insert = session.prepare(f"INSERT INTO {keyspace}.t (k, v) VALUES (?, ?)")
    for start in range(0, ROWS, 500):
        for future in [session.execute_async(insert, (key, f"v{key}")) for key in range(start, start + 500)]:
            future.result()
    expected = {key: f"v{key}" for key in range(ROWS)}
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
