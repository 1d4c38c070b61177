"""Lists, batches and deletions on production nodes without faults: everything succeeds and nothing is wrong.

If this fails, a workload or its checker takes right answers for wrong ones, or nodes break promises even where nothing
goes wrong. The same under all faults is in ``test_nodes``; that wrong histories are found, in ``test_checkers``.
"""

from __future__ import annotations

import pytest

from ourodb.sim.history import Outcome
from ourodb.sim.ouro import build_node, inspect
from ourodb.sim.run import Plan, SimStage, run
from ourodb.sim.workloads.append import AppendWorkload
from ourodb.sim.world import World


@pytest.mark.parametrize("workload", ["append", "batch", "deletion"])
def test_nodes_without_faults_do_everything_right(workload: str) -> None:
    verdict = run(Plan(1, workload, seconds=3, quiet_seconds=1, clients=3), build_node, inspect)
    assert verdict.is_ok, "\n".join([*verdict.problems, verdict.line()])
    assert set(verdict.operations) == {"done"}
    assert min(verdict.done.values()) > 30


def test_serial_lists_keep_the_order_of_time_while_clocks_jump() -> None:
    """Plain ones don't: their order is that of their coordinators' clocks."""
    world = World(3)
    world.start(world.add_machines(3, build_node))
    stage = SimStage(world)
    workload = AppendWorkload(stage)
    world.carry_out(workload.set_up(), 20)
    clients = [world.spawn(workload.run_client(number)) for number in range(3)]
    for step in range(20):
        world.machines[step % 3].jump((step * 37 % 120 - 60) * 1_000_000)
        world.run_for(0.2)
    stage.is_over = True
    assert world.run_until(lambda: all(client.is_kept for client in clients), 10)
    world.carry_out(workload.finish(), 60)
    assert workload.problems() == []
    longest = max((one for one in stage.history if one.kind == "read"), key=lambda one: len(one.result or ()))
    assert longest.outcome is Outcome.DONE
    assert list(longest.result) != sorted(longest.result)
