"""Mistakes planted in production nodes, which the simulator has to find.

If this fails, the simulator is blind to a kind of mistake, and a clean run says less than it seems to.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ourodb.replication.paxos import proposer
from ourodb.sim.disk import SimStore
from ourodb.sim.ouro import build_node, inspect
from ourodb.sim.run import Plan, run
from ourodb.sim.trace import Kind


def assert_found(workload: str, faults: tuple[str, ...], seeds: int = 20) -> None:
    for seed in range(seeds):
        plan = Plan(seed, workload, seconds=6, quiet_seconds=3, clients=4, faults=faults)
        if not run(plan, build_node, inspect).is_ok:
            return
    pytest.fail(f"not found in {seeds} seeds")


def test_a_quorum_of_paxos_that_is_one_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposer, "quorum", lambda electorate: max(1, electorate // 2))
    assert_found("register", ())


@pytest.mark.parametrize("workload", ["set", "register", "counter", "monotonic"])
def test_acknowledging_before_the_fsync(workload: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ballots, increments and rows that were acknowledged are gone after a blackout."""

    def sync(self: SimStore, done: Callable[[Exception | None], None]) -> None:
        self.settle()
        self._owner.post(Kind.SYNCED, done, None)

    monkeypatch.setattr(SimStore, "sync", sync)
    assert_found(workload, ("blackout",))
