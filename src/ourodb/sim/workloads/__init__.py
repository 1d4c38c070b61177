"""What clients do to a cluster, and what they may conclude from its answers.

A workload is written once, against ``stage.Stage`` and ``stage.Client``, and runs wherever somebody implements
these: in the simulator, on an embedded cluster, on real processes. It says nothing about faults and knows
nothing of virtual time. What it sees goes into a history, which its checkers judge afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ourodb.sim.workloads.append import AppendWorkload
from ourodb.sim.workloads.batch import BatchWorkload
from ourodb.sim.workloads.counter import CounterWorkload
from ourodb.sim.workloads.deletion import DeletionWorkload
from ourodb.sim.workloads.monotonic import MonotonicWorkload
from ourodb.sim.workloads.register import RegisterWorkload
from ourodb.sim.workloads.schema import SchemaWorkload
from ourodb.sim.workloads.set import SetWorkload
from ourodb.sim.workloads.settlement import SettlementWorkload
from ourodb.sim.workloads.stage import Stage, Workload
from ourodb.sim.workloads.table import TableWorkload

WORKLOADS: Final[dict[str, Callable[[Stage], Workload]]] = {
    "set": SetWorkload,
    "register": RegisterWorkload,
    "settlement": SettlementWorkload,
    "monotonic": MonotonicWorkload,
    "counter": CounterWorkload,
    "deletion": DeletionWorkload,
    "batch": BatchWorkload,
    "append": AppendWorkload,
    "table": TableWorkload,
    "schema": SchemaWorkload,
}
"""By name."""
