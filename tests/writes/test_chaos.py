"""Every workload while single messages of the data plane are lost, late, or repeated by chance.

Whole links that fail are the simulator's; here quorums overlap in ways that no partition makes. If this fails, some
order of messages breaks a promise.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from tests.writes.ring import HOLD, LOSE, PASS, TWICE, Message, Ring

from ourodb.peer.messages import Verb
from ourodb.sim.run import SimStage
from ourodb.sim.workloads import WORKLOADS

ONCE = (Verb.COUNTER, Verb.BATCH_STORE)
"""Links promise that a message arrives once at most; whoever is asked to add relies on it."""


def run(
    workload_name: str, seed: int, nodes: int, seconds: float, clients: int, factor: int = 3
) -> tuple[list[str], SimStage]:
    """Play; what was wrong."""
    draws = random.Random(seed)
    ring = Ring(nodes, seed=seed)
    for machine in ring.machines:
        machine.disk.conditions.later_one_in = 4
    stage = SimStage(ring.world)
    stage.replication_factor = factor
    workload = WORKLOADS[workload_name](stage)
    ring.world.carry_out(workload.set_up(), 20)
    ring.run_for(0.5)
    lost, held, twice = (
        draws.choice((0.0, 0.01, 0.05)),
        draws.choice((0.0, 0.05, 0.2)),
        draws.choice((0.0, 0.1)),
    )

    def fate(message: Message) -> str:
        drawn = draws.random()
        if drawn < lost:
            return LOSE
        if drawn < lost + held:
            return HOLD
        return TWICE if drawn < lost + held + twice and message.verb not in ONCE else PASS

    def releasing() -> Any:
        while not stage.is_over:
            yield stage.sleep(draws.random() / 10)
            waiting, ring.held = ring.held, []
            later = [one for one in waiting if draws.random() < 0.5]
            ring.held = [one for one in waiting if one not in later]
            ring.let_in()
            ring.held += later

    ring.fate = fate
    tasks = [ring.world.spawn(workload.run_client(number)) for number in range(clients)]
    ring.world.spawn(releasing())
    ring.run_for(seconds)
    stage.is_over = True
    ring.rest()
    assert ring.world.run_until(lambda: all(task.is_kept for task in tasks), 60)
    ring.world.carry_out(workload.finish(), 120)
    ring.rest()
    return workload.problems(), stage


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("workload", "nodes", "factor"),
    [
        ("register", 3, 3),
        ("register", 5, 3),
        ("register", 3, 1),
        ("register", 3, 2),
        ("counter", 4, 3),
        ("settlement", 3, 3),
        ("settlement", 5, 3),
        ("set", 4, 3),
    ],
)
def test_messages_that_go_astray_one_by_one(workload: str, nodes: int, factor: int, seed: int) -> None:
    problems, stage = run(workload, seed, nodes, seconds=6, clients=4, factor=factor)
    assert problems == []
    assert stage.history.counts()["done"] > 20
