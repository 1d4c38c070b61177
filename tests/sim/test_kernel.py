"""Time, chance, clocks, passes, and the death of processes.

If this fails, a seed no longer gives one run, or effects of a process outlive it.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.sim.talkers import Talker, send, talkers

from ourodb.ports import DATA
from ourodb.sim.chance import Chance
from ourodb.sim.clock import EPOCH_US, SimClock
from ourodb.sim.loop import Loop
from ourodb.sim.tasks import MS, Promise, S, Task, gather, kept, sleep
from ourodb.sim.trace import Trace
from ourodb.storage import families


def test_events_run_in_order_of_time_and_then_of_queueing() -> None:
    loop = Loop()
    ran: list[object] = []
    loop.at(5, ran.append, "b")
    loop.at(3, ran.append, "a")
    loop.at(5, ran.append, "c")
    loop.at(9, ran.append, "late")
    loop.run_until(5)
    assert ran == ["a", "b", "c"]
    assert loop.now_ns == 5
    loop.run_until(8)
    assert loop.now_ns == 8


@given(st.integers(), st.text(max_size=5), st.integers(min_value=1, max_value=1 << 80))
def test_chance_comes_from_the_seed_and_stays_in_bounds(seed: int, name: str, bound: int) -> None:
    one, other = Chance.of_seed(seed), Chance.of_seed(seed)
    assert len({other.word() for _ in range(3)}) == 3
    first, second = one.child(name), other.child(name)
    drawn = [first.below(bound) for _ in range(5)]
    assert drawn == [second.below(bound) for _ in range(5)], "a child must not depend on what its parent drew"
    assert all(0 <= number < bound for number in drawn)
    assert first.bytes(13) == second.bytes(13)
    assert sorted(first.shuffled(range(20))) == list(range(20))


def test_chance_is_spread_over_its_bounds() -> None:
    chance = Chance.of_seed(7)
    counts = [0] * 6
    for _ in range(6_000):
        counts[chance.below(6)] += 1
    assert all(800 < count < 1_200 for count in counts)
    assert not chance.one_in(0)


def test_clocks_drift_jump_and_boot() -> None:
    loop = Loop()
    clock = SimClock(loop, drift_ppm=1_000, offset_us=500, uptime_ns=7 * S)
    assert clock.wall_us() == EPOCH_US + 500
    loop.run_until(clock.real_ns(1 * S))
    assert clock.monotonic_ns() >= 8 * S
    assert clock.monotonic_ns() - 8 * S < 10
    assert loop.now_ns < 1 * S, "a fast clock's second is shorter"
    before = clock.monotonic_ns(), clock.wall_us()
    clock.jump(-60_000_000)
    assert clock.monotonic_ns() == before[0]
    assert clock.wall_us() == before[1] - 60_000_000
    clock.drift(-500)
    assert clock.monotonic_ns() == before[0], "a change of speed isn't a jump"
    wall_us = clock.wall_us()
    clock.reboot(3)
    assert clock.monotonic_ns() == 3
    assert abs(clock.wall_us() - wall_us) <= 1


def test_the_hash_tells_every_event_apart() -> None:
    def digest(*events: tuple[int, int, int, bytes]) -> str:
        trace = Trace()
        for event in events:
            trace.note(*event)
        return trace.digest()

    digests = [
        digest(),
        digest((1, 2, 3, b"")),
        digest((2, 2, 3, b"")),
        digest((1, 1, 3, b"")),
        digest((1, 2, 4, b"")),
        digest((1, 2, 3, b"x")),
        digest((1, 2, 3, b""), (1, 2, 3, b"")),
        digest((1, 2, 3, b"ab"), (1, 2, 3, b"c")),
        digest((1, 2, 3, b"a"), (1, 2, 3, b"bc")),
    ]
    assert len(set(digests)) == len(digests)


def test_scripts_wait_and_are_waited_for() -> None:
    loop = Loop()

    def inner(delay_ns: int) -> object:
        yield sleep(loop, delay_ns)
        return delay_ns

    def outer() -> object:
        values = yield gather([Task(inner(30)), Task(inner(10)), kept(5)])  # type: ignore[arg-type]
        assert loop.now_ns == 30
        for _ in range(5_000):
            values.append((yield kept(1)))
        return sum(values)

    task: Task[int] = Task(outer())  # type: ignore[arg-type]
    assert not task.is_kept
    loop.run_until(100)
    assert task.value == 45 + 5_000
    promise: Promise[int] = Promise()
    promise.keep(1)
    with pytest.raises(AssertionError):
        promise.keep(2)


def test_what_comes_up_together_is_settled_once() -> None:
    world, (one, _) = talkers()
    order: list[str] = []
    one.on_settle = lambda: order.append("settle")
    process = world.machines[0].process
    assert process is not None
    scheduler = one.ports.scheduler

    def first() -> None:
        order.append("first")
        one.ports.arm()
        one.ports.arm()
        scheduler.soon(lambda: order.append("soon"))

    scheduler.soon(first)
    scheduler.soon(lambda: order.append("second"))
    world.run_for(1)
    assert order == ["first", "second", "settle", "soon"]


def test_a_cancelled_timer_does_not_run_even_when_it_is_due() -> None:
    world, (one, _) = talkers()
    ran: list[int] = []
    timers = [one.ports.scheduler.after(10, lambda: ran.append(0))]
    one.ports.scheduler.after(10, lambda: (ran.append(1), timers[1].cancel()))  # type: ignore[func-returns-value]
    timers.append(one.ports.scheduler.after(10, lambda: ran.append(2)))
    timers[0].cancel()
    world.run_for(1)
    assert ran == [1]


def test_nothing_of_a_process_outlives_it() -> None:
    world, (one, _) = talkers()
    ran: list[str] = []
    machine = world.machines[0]
    store = one.ports.store
    one.ports.scheduler.after(100, lambda: ran.append("timer"))
    one.ports.scheduler.soon(lambda: ran.append("soon"))
    store.fetch(families.DATA, b"k", lambda value: ran.append("fetched"))
    store.sync(lambda error: ran.append("synced"))
    machine.kill()
    world.run_for(0.05)
    machine.start()
    world.run_for(5)
    assert ran == []
    assert machine.program is not one


def test_a_paused_process_misses_nothing_and_does_nothing() -> None:
    world, (one, two) = talkers()
    machine = world.machines[1]
    machine.pause()
    ran: list[int] = []
    two.ports.scheduler.after(50, lambda: ran.append(world.loop.now_ns))
    for number in range(5):
        send(world, 0, 1, DATA, bytes([number]))
        world.run_for(0.3)
    assert not two.heard
    assert not ran
    machine.resume()
    world.run_for(3)
    assert two.messages(0) == [bytes([number]) for number in range(5)]
    assert len(ran) == 1
    assert one.times("lost") == 0


@pytest.mark.parametrize("with_machine", [False, True])
@pytest.mark.parametrize("steps", range(7))
def test_what_has_left_a_dying_process_was_settled_before(steps: int, with_machine: bool) -> None:
    """A write and two messages of one pass: whoever got a message may rely on the write, wherever the process died."""
    world, (one, two, three) = talkers(count=3)
    for target in (1, 2):
        send(world, 0, target, DATA, b"hello")
    world.run_for(0.1)
    process = world.machines[0].process
    assert process is not None

    def work() -> None:
        one.ports.store.apply([(families.DATA, b"k", b"v")])
        for target in (1, 2):
            send(world, 0, target, DATA, b"done")
        one.ports.arm()

    one.ports.scheduler.soon(lambda: None)
    one.ports.scheduler.soon(work)
    machine = world.machines[0]
    process.die_after(steps, with_machine=with_machine)
    world.run_until(lambda: machine.process is None, 0.1)
    assert machine.is_powered == (machine.process is not None or not with_machine)
    world.run_for(0.1)
    got = [b"done" in talker.messages(0) for talker in (two, three)]
    kept_on_disk = machine.disk.content.get(families.DATA, b"k")
    # Item, item, settle, one lane, the other: then it lives on.
    assert (machine.process is None) == (steps < 5)
    if not with_machine or steps >= 5:
        # Without a sync it is only safe from the death of the process.
        assert (kept_on_disk is not None) == (steps >= 3)
        assert kept_on_disk == b"v" or not any(got)
    if steps >= 5:
        assert got == [True, True]
    if steps <= 3:
        assert got == [False, False]


def test_timers_go_with_the_clock_of_their_machine() -> None:
    world, (one, two) = talkers()
    world.machines[0].clock.drift(100_000)
    world.machines[1].clock.drift(-100_000)
    fired: list[str] = []
    two.ports.scheduler.after(1_000, lambda: fired.append("slow"))
    one.ports.scheduler.after(1_000, lambda: fired.append("fast"))
    start_ns = world.loop.now_ns
    world.run_until(lambda: len(fired) == 2, 5)
    assert fired == ["fast", "slow"]
    assert world.loop.now_ns - start_ns > 1_100 * MS


def test_a_machine_stops_in_order_and_keeps_everything() -> None:
    world, (one, two) = talkers()
    send(world, 1, 0, DATA, b"hello")
    world.run_for(0.1)
    one.ports.store.apply([(families.DATA, b"k", b"v")])
    world.machines[0].stop()
    world.run_for(0.1)
    assert world.machines[0].process is None
    world.machines[0].lose_power()
    assert world.machines[0].disk.content.get(families.DATA, b"k") == b"v"
    assert two.times("lost") == 1
    assert isinstance(one, Talker)
    assert not one.is_ready
