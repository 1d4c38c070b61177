"""Any one of three nodes is killed, stopped or cut off while clients write and read at QUORUM, on condition, in
counters and in batches. If this fails, the ring loses or invents data when a machine fails, or stops answering.

``OURO_FULL=1`` counts 50,000 operations; ``OURO_SEED`` chooses the order of faults.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.ring.namespaces import Network
from tests.ring.ring import Ring
from tests.ring.run import (
    KILL,
    PAUSE,
    TEST_SECONDS_MAX,
    Fault,
    Run,
    cut_off,
    half_cut_off,
    seed_of_run,
)
from tests.ring.workloads import BatchWorkload, DeletionWorkload

from ourodb.sim.workloads.counter import CounterWorkload
from ourodb.sim.workloads.monotonic import MonotonicWorkload
from ourodb.sim.workloads.register import RegisterWorkload
from ourodb.sim.workloads.set import SetWorkload

pytestmark = pytest.mark.timeout(TEST_SECONDS_MAX)

CREWS = [
    (MonotonicWorkload, 6),
    (SetWorkload, 6),
    (DeletionWorkload, 4),
    (RegisterWorkload, 4),
    (CounterWorkload, 3),
    (BatchWorkload, 2),
]


def play(ring: Ring, faults: list[Fault]) -> None:
    run = Run(ring, seed_of_run(), faults)
    run.play(CREWS)
    print(run.story())
    problems = run.problems()
    run.close()
    assert problems == []


def test_killed_or_stopped(make_ring: Callable[..., Ring]) -> None:
    play(make_ring().start(), [KILL, PAUSE])


def test_cut_off(network: Callable[[int], Network], make_ring: Callable[..., Ring]) -> None:
    ring = make_ring(network=network(3)).start()
    play(ring, [cut_off(ring), half_cut_off(ring)])
