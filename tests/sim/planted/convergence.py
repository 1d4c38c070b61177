"""Whether replicas have converged by themselves, before anybody reads.

Workloads, and ``ouro.inspect``, read everything at ALL in the end, which repairs what differs. But where no node dies
out of order, every write that a replica missed has left a hint, and hints alone must bring it.
"""

from __future__ import annotations

from ourodb.sim.checkers.convergence import check_convergence
from ourodb.sim.ouro import copies, inspect, tables
from ourodb.sim.workloads.set import SetWorkload
from ourodb.sim.workloads.stage import Script, Stage
from ourodb.sim.world import World


class UnreadSetWorkload(SetWorkload):
    """A set that isn't read in the end."""

    name = "unread set"

    def finish(self) -> Script[None]:
        yield self._stage.sleep(0)


def look_before_reading(world: World, stage: Stage) -> Script[list[str]]:
    """As ``ouro.inspect``; and replicas must be equal at once."""
    problems = [
        problem
        for table in tables(world)
        for problem in check_convergence(copies(world, table), f"{table.name} before it was read, partition")
    ]
    return problems + (yield from inspect(world, stage))
