"""How fast the simulator is: seconds of virtual time in a second of this machine's.

Two figures, each the best of a few rounds, because whatever else runs can only slow them down::

    three idle nodes                                  at least 300
    five nodes under 200 operations a second in all   at least  20

The operations are prepared, at QUORUM on three copies, half of them writes and half reads, from ten clients that
keep to their schedule. Besides: what one short run costs from its seed to its verdict, as sweeps are made of these.

    python benchmarks/sim.py [--rounds 3]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Generator
from typing import Any, Final

import structlog

from ourodb.sim.client import CqlClient
from ourodb.sim.faults.kinds import FAULTS
from ourodb.sim.ouro import build_node, inspect
from ourodb.sim.run import Plan, SimStage, run
from ourodb.sim.tasks import Promise
from ourodb.sim.workloads.set import INSERT, LOOK_UP, SetWorkload
from ourodb.sim.workloads.stage import bigint
from ourodb.sim.world import World

IDLE_SECONDS: Final = 300
LOADED_SECONDS: Final = 20
CLIENTS: Final = 10
OPERATIONS_PER_SECOND: Final = 200

IDLE_LEAST: Final = 300
LOADED_LEAST: Final = 20


def idle(seed: int) -> float:
    """Virtual seconds per second, three nodes with nothing to do."""
    world = World(seed)
    world.start(world.add_machines(3, build_node))
    return _ratio(world, IDLE_SECONDS)


def loaded(seed: int) -> float:
    """Virtual seconds per second, five nodes that have something to do."""
    world = World(seed)
    world.start(world.add_machines(5, build_node))
    stage = SimStage(world)
    world.carry_out(SetWorkload(stage).set_up(), 60)
    done: list[int] = []
    for number in range(CLIENTS):
        world.spawn(_work(world, stage.client(number), number, done))
    world.run_for(1)
    before = len(done)
    ratio = _ratio(world, LOADED_SECONDS)
    rate = (len(done) - before) / LOADED_SECONDS
    assert abs(rate - OPERATIONS_PER_SECOND) <= OPERATIONS_PER_SECOND / 100, f"{rate} operations a second"
    return ratio


def _work(
    world: World, client: CqlClient, number: int, done: list[int]
) -> Generator[Promise[Any], Any, None]:
    """One client: a write, a read of it, and so on, each at its time."""
    period_s = CLIENTS / OPERATIONS_PER_SECOND
    begin_s = world.loop.now_ns / 1e9 + number / OPERATIONS_PER_SECOND
    turn = 0
    while True:
        yield world.sleep(max(0.0, begin_s + turn * period_s - world.loop.now_ns / 1e9))
        element = bigint(turn // 2 * CLIENTS + number)
        if turn % 2:
            reply = yield client.execute(LOOK_UP, (element,))
        else:
            reply = yield client.execute(INSERT, (element, bigint(number)))
        assert reply.error is None, reply.error
        done.append(turn)
        turn += 1


def _ratio(world: World, seconds: float) -> float:
    begin = time.perf_counter()
    world.run_for(seconds)
    return seconds / (time.perf_counter() - begin)


def short_run(seed: int) -> float:
    """Seconds that one short run under all faults takes."""
    begin = time.perf_counter()
    verdict = run(
        Plan(seed, "set", seconds=6, quiet_seconds=3, clients=4, faults=tuple(FAULTS)), build_node, inspect
    )
    assert verdict.is_ok, verdict.line()
    return time.perf_counter() - begin


def main() -> int:
    parser = argparse.ArgumentParser(prog="python benchmarks/sim.py", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    idle_best = max(idle(seed) for seed in range(rounds))
    loaded_best = max(loaded(seed) for seed in range(rounds))
    short_best = min(short_run(seed) for seed in range(rounds))
    sys.stdout.write(
        f"three idle nodes: {idle_best:.0f} virtual seconds a second (at least {IDLE_LEAST})\n"
        f"five nodes, {OPERATIONS_PER_SECOND} operations a second: {loaded_best:.1f} (at least {LOADED_LEAST})\n"
        f"a run of 6 s under all faults, healed for 3 s: {short_best:.2f} s\n"
    )
    return 0 if idle_best >= IDLE_LEAST and loaded_best >= LOADED_LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
