"""Clients that keep to one data centre each, at LOCAL_QUORUM: what is demanded of each side, and production nodes.

If this fails, reads at LOCAL_QUORUM miss what was written in their own data centre, or nobody would notice; or nodes
are blamed for what LOCAL_QUORUM doesn't promise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from tests.sim.ending import assert_all_was_right

from ourodb.cql.wire.codes import Consistency
from ourodb.sim.chance import Chance
from ourodb.sim.checkers.deletions import check_deletions
from ourodb.sim.checkers.monotonic import check_monotonic
from ourodb.sim.checkers.sets import check_set
from ourodb.sim.faults.paths import between
from ourodb.sim.history import History, Operation, Outcome
from ourodb.sim.ouro import build_node, inspect
from ourodb.sim.run import LOCAL_QUORUM, Plan, SimStage, run
from ourodb.sim.tasks import S
from ourodb.sim.workloads import WORKLOADS
from ourodb.sim.workloads.set import SetWorkload
from ourodb.sim.workloads.sides import TO_SIDES, final_reads, judged, level_of
from ourodb.sim.workloads.stage import Stage
from ourodb.sim.world import World
from ourodb.testing import cluster
from ourodb.testing.stage import play


class TwoSides:
    """A stage with a history and nothing else; even clients are in "near", odd ones in "far"."""

    def __init__(
        self, *operations: tuple[int, str, int, Any], sides: Sequence[str] = ("near", "far")
    ) -> None:
        """
        Args:
            operations: (client, kind, key, argument or result), one after the other, all of them acknowledged.
        """
        self.random = Chance.of_seed(1)
        self.replication_factor = 3
        self.data_centers = dict.fromkeys(sides, 3)
        self.is_over = True
        self.now_ns = 0
        self.history = History(lambda: self.now_ns)
        for client, kind, key, told in operations:
            operation = self.history.invoke(client, kind, key, told)
            self.now_ns += 1
            self.history.complete(operation, Outcome.DONE, told)
            self.now_ns += 1

    def client(self, number: int) -> Any:
        raise NotImplementedError

    def sleep(self, seconds: float) -> Any:
        raise NotImplementedError


def set_problems(stage: Stage, found: Mapping[str, set[int]]) -> list[str]:
    return judged(stage, check_set, found)


def test_what_the_own_side_has_acknowledged_must_be_seen_and_what_the_other_has_may_be() -> None:
    insert, foreign = (0, "insert", 1, None), (1, "insert", 1, None)
    for write, found, problems in (
        (insert, False, 1),
        (foreign, False, 0),
        (insert, True, 0),
        (foreign, True, 0),
    ):
        assert len(set_problems(TwoSides(write, (2, "look up", 1, found)), {})) == problems
    assert set_problems(TwoSides((0, "insert", 1, None), (2, "look up", 1, False)), {})[0].startswith(
        "in near: "
    )
    assert len(set_problems(TwoSides((0, "look up", 1, True)), {})) == 1, "nobody has inserted it"
    deleted = [(1, "put", 1, None), (1, "delete", 1, None)]
    for client, problems in ((0, 0), (3, 1)):
        stage = TwoSides(*deleted, (client, "look for", 1, True))
        assert len(judged(stage, check_deletions, {})) == problems


def test_in_the_end_everything_is_demanded_of_reads_at_all() -> None:
    stage = TwoSides((0, "insert", 1, None), (1, "insert", 2, None))
    assert [name for _, _, name in final_reads(stage)] == [
        "LOCAL_QUORUM in near", "LOCAL_QUORUM in far", "ALL in near", "ALL in far"
    ]  # fmt: skip
    right = {
        "LOCAL_QUORUM in near": {1},
        "LOCAL_QUORUM in far": {2},
        "ALL in near": {1, 2},
        "ALL in far": {1, 2},
    }
    assert set_problems(stage, right) == []
    assert len(set_problems(stage, right | {"LOCAL_QUORUM in far": {1}})) == 1
    assert len(set_problems(stage, right | {"ALL in near": {2}})) == 1
    assert len(set_problems(stage, right | {"ALL in far": {1}})) == 1


def test_once_seen_on_a_side_it_stays() -> None:
    def problems(*operations: tuple[int, str, int, Any]) -> list[str]:
        return judged(TwoSides(*operations), lambda seen, _: check_monotonic(seen), {})

    write = (1, "write", 1, 5)
    assert problems(write, (0, "read", 1, 0), (2, "read", 1, 5), (4, "read", 1, 5)) == []
    assert len(problems(write, (0, "read", 1, 5), (2, "read", 1, 0))) == 1
    assert problems(write, (0, "read", 1, 5), (1, "read", 1, 5), (2, "read", 1, 5)) == []
    assert len(problems(write, (3, "read", 1, 0))) == 1


def test_where_clients_keep_to_nothing_there_is_one_side() -> None:
    stage = TwoSides((0, "insert", 1, None), (1, "look up", 1, False), sides=())
    assert level_of(stage) is Consistency.QUORUM
    assert [name for _, _, name in final_reads(stage)] == ["QUORUM", "ALL"]
    assert set_problems(stage, {"QUORUM": {1}, "ALL": {1}}) == check_set(stage.history, {})
    assert len(check_set(stage.history, {})) == 1


# --- Production nodes


@pytest.mark.parametrize("workload", TO_SIDES)
def test_each_data_centre_keeps_its_promises(workload: str) -> None:
    """Whatever becomes of the link between them, and of nodes."""
    faults = ("dc", "partition", "kill", "pause", "loss", "full")
    plan = Plan(
        *(1, workload, 6, 2), clients=4, level=LOCAL_QUORUM, seconds=4, quiet_seconds=3, faults=faults
    )
    verdict = run(plan, build_node, inspect)
    assert verdict.is_ok, "\n".join([*verdict.problems, verdict.line()])
    assert verdict.calm[1] > 100


def test_data_centres_that_do_not_hear_each_other_go_on() -> None:
    world = World(1)
    world.start(world.add_machines(6, build_node, data_centers=2))
    stage = SimStage(world, LOCAL_QUORUM)
    assert stage.data_centers == {"dc1": 3, "dc2": 3}
    workload = SetWorkload(stage)
    world.carry_out(workload.set_up(), 10)
    # Until everybody has heard of the table.
    world.run_for(2)
    for reach in stage.reaches:
        reach.watch()
    link = between([0, 2, 4], [1, 3, 5])
    world.network.cut(link)
    clients = [world.spawn(workload.run_client(number)) for number in range(4)]
    world.run_for(5)

    def done(side: int) -> list[Operation]:
        return [one for one in stage.history if one.process % 2 == side and one.outcome is Outcome.DONE]

    expected = [len(reach.expected) for reach in stage.reaches]
    for side in range(2):
        assert len(done(side)) > 200
        assert expected[side] > 200, "and were expected to"
        assert {stage.client(one.process).coordinator.data_center for one in done(side)} == {f"dc{side + 1}"}
    # What has only just been asked may be under way.
    asked_ns = world.loop.now_ns - S
    assert all(one.outcome is Outcome.DONE for one in stage.history if one.invoked_ns < asked_ns)
    world.network.heal(link)
    world.run_for(5)
    assert_all_was_right(world, stage, workload, clients)


def test_real_nodes_keep_their_promises_too() -> None:
    with cluster(nodes=4, dcs=2) as ring:
        make = WORKLOADS["set"]
        problems, history = play(ring, make, seconds=2, clients=4, seed=1, keeps_home=True)
    assert problems == []
    assert all(history.done_by_kind().values())


def test_workloads_that_know_sides_are_workloads() -> None:
    assert set(TO_SIDES) < set(WORKLOADS)
