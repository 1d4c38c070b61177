"""Production nodes in the simulator: every workload, under all faults.

If this fails, acknowledged writes are lost, reads go back in time, compare-and-sets aren't linearizable,
or counters are wrong.
"""

from __future__ import annotations

import pytest
from tests.sim.ending import assert_all_was_right

from ourodb.sim.checkers.availability import silent_seconds
from ourodb.sim.faults.kinds import FAULTS
from ourodb.sim.faults.paths import between
from ourodb.sim.ouro import build_node, inspect
from ourodb.sim.run import Plan, SimStage, run
from ourodb.sim.workloads import WORKLOADS
from ourodb.sim.workloads.set import SetWorkload
from ourodb.sim.world import World


@pytest.mark.parametrize("workload", sorted(WORKLOADS))
@pytest.mark.parametrize("seed", range(2))
def test_nodes_keep_their_promises_under_all_faults(workload: str, seed: int) -> None:
    plan = Plan(seed, workload, seconds=8, quiet_seconds=5, clients=3, faults=tuple(FAULTS))
    verdict = run(plan, build_node, inspect)
    assert verdict.is_ok, "\n".join([*verdict.problems, verdict.line()])


@pytest.mark.parametrize("fault", ["kill", "power", "pause", "isolate"])
def test_no_second_passes_in_silence_when_one_of_three_is_gone(fault: str) -> None:
    """Reads and writes at QUORUM go on, in every second after the first."""
    world = World(1)
    world.start(world.add_machines(3, build_node))
    stage = SimStage(world)
    workload = SetWorkload(stage)
    world.carry_out(workload.set_up(), 10)
    clients = [world.spawn(workload.run_client(number)) for number in range(6)]
    world.run_for(2)
    machine = world.machines[1]
    paths = between([1], [0, 2])
    start_ns = world.loop.now_ns
    {"kill": machine.kill, "power": machine.lose_power, "pause": machine.pause, "isolate": lambda: None}[
        fault
    ]()
    if fault == "isolate":
        world.network.cut(paths)
    world.run_for(12)
    assert set(silent_seconds(stage.history, start_ns, world.loop.now_ns)) <= {0}
    if fault == "isolate":
        world.network.heal(paths)
    elif fault == "pause":
        machine.resume()
    else:
        machine.start()
    world.run_for(5)
    assert_all_was_right(world, stage, workload, clients)


@pytest.mark.parametrize(("workload", "is_kept"), [("set", False), ("register", True), ("counter", True)])
def test_periodic_durability_loses_plain_writes_in_a_blackout_and_nothing_else(
    workload: str, is_kept: bool
) -> None:
    """As it promises: conditional writes and counters are synced before they are acknowledged all the same."""
    problems = []
    # Sometimes the logs are whole up to the end by luck.
    for seed in range(1) if is_kept else range(10):
        plan = Plan(
            seed, workload, seconds=8, quiet_seconds=4, clients=3, faults=("blackout",), sync_period_ms=1_000
        )
        problems = run(plan, build_node, inspect).problems
        if problems:
            break
    assert bool(problems) != is_kept, "\n".join(problems)
    if not is_kept:
        assert "an acknowledged element" in problems[0]


def test_two_data_centres_without_faults() -> None:
    plan = Plan(1, "set", nodes=4, data_centers=2, seconds=3, quiet_seconds=1, clients=3)
    verdict = run(plan, build_node, inspect)
    assert verdict.is_ok, "\n".join([*verdict.problems, verdict.line()])
    assert set(verdict.operations) == {"done"}


def test_a_voter_that_hears_no_leader_knows_of_none() -> None:
    """What gossip said of the last one is no leader: whoever asks for a change now waits for an election."""
    world = World(1)
    world.start(world.add_machines(4, build_node))
    nodes = [machine.program.node for machine in world.machines]
    assert world.run_until(lambda: all(len(node.metadata.voters) == 3 for node in nodes), 10)
    world.run_for(3)
    assert len({node.metadata.leader for node in nodes}) == 1
    voters = [node for node in nodes if node.peers.me in node.metadata.voters]
    follower = next(node for node in voters if not node.metadata.leads)
    for machine, node in zip(list(world.machines), nodes, strict=True):
        if node in voters and node is not follower:
            machine.kill()
    world.run_for(15)
    assert follower.metadata.leader == 0
