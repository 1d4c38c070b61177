"""Any one of three nodes is killed, stopped or cut off while clients write and read at QUORUM, on condition, in
counters and in batches. If this fails, the ring loses or invents data when a machine fails, or stops answering.

``OURO_FULL=1`` counts 50,000 operations; ``OURO_SEED`` chooses the order of faults.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.nodes import NodeProcess
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
    link_cut,
    seed_of_run,
)

from ourodb.sim.workloads.append import AppendWorkload
from ourodb.sim.workloads.batch import BatchWorkload
from ourodb.sim.workloads.counter import CounterWorkload
from ourodb.sim.workloads.deletion import DeletionWorkload
from ourodb.sim.workloads.monotonic import MonotonicWorkload
from ourodb.sim.workloads.register import RegisterWorkload
from ourodb.sim.workloads.set import SetWorkload
from ourodb.sim.workloads.settlement import SettlementWorkload
from ourodb.sim.workloads.table import TableWorkload

pytestmark = pytest.mark.timeout(TEST_SECONDS_MAX)

CREWS = [
    (MonotonicWorkload, 6),
    (SetWorkload, 6),
    (DeletionWorkload, 4),
    (RegisterWorkload, 4),
    (SettlementWorkload, 3),
    (CounterWorkload, 3),
    (BatchWorkload, 2),
    (AppendWorkload, 2),
    (TableWorkload, 3),
]


def play(ring: Ring, faults: list[Fault], *, quorum_is_up: bool = True) -> None:
    run = Run(ring, seed_of_run(), faults)
    run.play(CREWS)
    print(run.story())
    problems = run.problems(quorum_is_up=quorum_is_up)
    run.close()
    assert problems == []


def test_killed_or_stopped(make_ring: Callable[..., Ring]) -> None:
    play(make_ring().start(), [KILL, PAUSE])


def test_cut_off(network: Callable[[int], Network], make_ring: Callable[..., Ring]) -> None:
    ring = make_ring(network=network(3)).start()
    play(ring, [cut_off(ring), half_cut_off(ring), link_cut(ring)])


def test_more_than_a_quorum_can_miss(
    network: Callable[[int], Network], make_ring: Callable[..., Ring]
) -> None:
    """Two nodes die, or all, or nobody reaches anybody: much is refused, but nothing is lost, and nothing is wrong."""
    ring = make_ring(network=network(3)).start()
    assert ring.network is not None
    hosts = [node.host for node in ring.nodes]

    def kill(nodes: list[NodeProcess]) -> None:
        for node in nodes:
            node.process.kill()  # type: ignore[union-attr]
        for node in nodes:
            node.kill()

    def launch_dead(node: NodeProcess) -> None:
        for one in ring.nodes:
            if not one.alive():
                one.launch()

    def split(node: NodeProcess) -> None:
        ring.network.split(*([host] for host in hosts))

    faults = [
        Fault("two killed", lambda node: kill([one for one in ring.nodes if one is not node]), launch_dead),
        Fault("all killed", lambda node: kill(ring.nodes), launch_dead),
        Fault("all apart", split, lambda node: ring.network.heal()),
    ]
    play(ring, faults, quorum_is_up=False)
