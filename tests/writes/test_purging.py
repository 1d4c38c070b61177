"""What replicas purge while clients go on.

If this fails, what was acknowledged by all replicas is found by none.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.writes.ring import Ring

from ourodb.cql.wire.codes import Consistency
from ourodb.storage.expiry import HOUR_S


@pytest.fixture
def ring() -> Iterator[Ring]:
    ring = Ring(4)
    ring.set_up("CREATE TABLE ks.t (k int PRIMARY KEY, v int)")
    yield ring
    ring.rest()


def test_a_column_added_during_a_purge_is_read_after_it(ring: Ring) -> None:
    stranger = ring.strangers("t", 1)[0]
    for key in range(60):
        ring.done(stranger, f"INSERT INTO ks.t (k, v) VALUES ({key}, 1) USING TTL 1", Consistency.ALL)
    nodes = [ring.node(index) for index in ring.replicas("t", 1)]
    runs = [node._purge(node.ports.clock.wall_us() // 1_000_000 + 2 * HOUR_S) for node in nodes]
    for run in runs:
        assert next(run, None) is not None
    ring.done(stranger, "ALTER TABLE ks.t ADD m map<int, int>")
    ring.done(stranger, "UPDATE ks.t SET m[5] = 7 WHERE k = 1", Consistency.ALL)
    for run in runs:
        for _ in run:
            pass
    ring.run_for(1)
    for level in (Consistency.ONE, Consistency.QUORUM, Consistency.ALL):
        assert len(ring.done(stranger, "SELECT m FROM ks.t WHERE k = 1", level).rows) == 1
