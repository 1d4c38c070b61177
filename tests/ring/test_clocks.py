"""Clocks that are wrong: nodes whose clocks jump by a minute, there and back, while others are killed and stopped. If
this fails, statements on condition are right only as long as NTP is.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.nodes import NodeProcess
from tests.ring.clocks import Clocks
from tests.ring.ring import Ring, eventually
from tests.ring.run import IS_FULL, KILL, PAUSE, TEST_SECONDS_MAX, Fault, Run, seed_of_run

from ourodb.sim.workloads.counter import CounterWorkload
from ourodb.sim.workloads.monotonic import MonotonicWorkload
from ourodb.sim.workloads.register import RegisterWorkload

pytestmark = pytest.mark.timeout(TEST_SECONDS_MAX)

STEP_S = 60
CREWS = [(RegisterWorkload, 8), (CounterWorkload, 3), (MonotonicWorkload, 3)]
OPERATIONS_MIN = 50_000 if IS_FULL else 4_000


def test_clocks_that_jump(make_ring: Callable[..., Ring], tmp_path: Path) -> None:
    clocks = Clocks(tmp_path)
    ring = make_ring(environment=clocks.environment).start()

    def set_clock(node: NodeProcess, ahead_s: int) -> None:
        clocks.set(ring.nodes.index(node) + 1, ahead_s)

    def killed_and_set_back(node: NodeProcess) -> None:
        node.kill()
        set_clock(node, -STEP_S)

    faults = [
        KILL,
        PAUSE,
        Fault("clock ahead", lambda node: set_clock(node, STEP_S), lambda node: set_clock(node, 0)),
        Fault("clock behind", lambda node: set_clock(node, -STEP_S), lambda node: set_clock(node, 0)),
        # It starts in a time in which it was already running, and stays there.
        Fault("killed, clock behind", killed_and_set_back, NodeProcess.launch),
    ]
    run = Run(ring, seed_of_run(), faults if IS_FULL else [*faults[2:]])
    run.play(CREWS, OPERATIONS_MIN)
    print(run.story())
    problems = run.problems()
    run.close()
    assert problems == []


def test_skew_is_told(make_ring: Callable[..., Ring], tmp_path: Path) -> None:
    """An operator sees that a clock is wrong, and by how much."""
    clocks = Clocks(tmp_path)
    ring = make_ring(environment=clocks.environment).start()
    clocks.set(2, STEP_S)
    wrong, right = ring.nodes[1], ring.nodes[0]

    def told() -> bool:
        status = right.admin("status")
        (member,) = (member for member in status["members"] if member["address"] == wrong.address)
        warned = any(f"clock of node {member['id']} " in warning for warning in status["warnings"])
        return warned and abs((member["skew_ms"] or 0) - STEP_S * 1000) < 1000

    eventually(told, "the skew is in the status")
