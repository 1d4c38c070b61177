"""Every workload of the simulator on an embedded cluster, without faults.

If this fails, workloads run in the simulator only, or real nodes over real sockets break a promise that simulated ones
keep.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ourodb.sim.workloads import WORKLOADS
from ourodb.testing import cluster
from ourodb.testing.ring import Ring
from ourodb.testing.stage import play

SECONDS = 3.0


@pytest.fixture(scope="module")
def ring() -> Iterator[Ring]:
    with cluster(nodes=3) as ring:
        yield ring


@pytest.mark.parametrize("workload", sorted(WORKLOADS))
def test_a_workload_finds_nothing_wrong(ring: Ring, workload: str) -> None:
    problems, history = play(ring, WORKLOADS[workload], seconds=SECONDS, clients=3, seed=1)
    assert problems == []
    assert all(history.done_by_kind().values()), history.done_by_kind()
