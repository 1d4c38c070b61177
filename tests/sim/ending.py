"""How a test of production nodes under load ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ourodb.sim.ouro import inspect
from ourodb.sim.tasks import Promise
from ourodb.sim.workloads.stage import Stage, Workload
from ourodb.sim.world import World


def assert_all_was_right(
    world: World, stage: Stage, workload: Workload, clients: Sequence[Promise[Any]]
) -> None:
    """The clients stop, everything is read, and nothing is wrong for clients or within nodes."""
    stage.is_over = True
    assert world.run_until(lambda: all(client.is_kept for client in clients), 60)
    world.carry_out(workload.finish(), 60)
    assert workload.problems() == []
    assert world.carry_out(inspect(world, stage), 60) == []
