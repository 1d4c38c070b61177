"""When pieces of a copy are run. Broken, clients wait while a node copies, or a copy never gets on."""

from __future__ import annotations

import heapq
from collections.abc import Callable

import pytest

from ourodb import limits
from ourodb.replication.streaming.pace import Pace

MS_NS = 1_000_000


class Never:
    def cancel(self) -> None: ...


class Loop:
    """Clock and scheduler; what is due runs when ``turn`` is called, one after the other."""

    def __init__(self) -> None:
        self.now_ms = 0
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0

    def wall_us(self) -> int:
        raise NotImplementedError

    def monotonic_ns(self) -> int:
        return self.now_ms * MS_NS

    def soon(self, callback: Callable[[], None]) -> None:
        self.after(0, callback)

    def after(self, delay_ms: int, callback: Callable[[], None]) -> Never:
        self._count += 1
        heapq.heappush(self._due, (self.now_ms + delay_ms, self._count, callback))
        return Never()

    def turn(self, late_ms: int = 0) -> int:
        """Run the next callback, so much later than it should; gives for how long there was nothing to do."""
        due_ms, _, callback = heapq.heappop(self._due)
        waited_ms = due_ms - self.now_ms
        self.now_ms = due_ms + late_ms
        callback()
        return waited_ms

    @property
    def is_idle(self) -> bool:
        return not self._due


@pytest.fixture
def loop() -> Loop:
    return Loop()


def test_one_piece_in_each_pass(loop: Loop) -> None:
    pace, done = Pace(loop, loop), []
    for number in range(3):
        pace.add(lambda number=number: done.append(number))
    for count in range(3):
        assert len(done) == count
        assert loop.turn() == 0
    assert done == [0, 1, 2]
    assert loop.is_idle


def test_a_busy_loop_gets_time_and_an_idle_one_gives_it_back(loop: Loop) -> None:
    pace = Pace(loop, loop)
    for _ in range(60):
        pace.add(lambda: None)
    gaps = [loop.turn(late_ms=8) for _ in range(20)]
    assert gaps == sorted(gaps)
    assert gaps[-1] == pytest.approx((8 - limits.PACE_LATE_MS) * limits.PACE_GAP_FACTOR, abs=1)
    assert [loop.turn() for _ in range(20)][-1] == 0


def test_a_copy_gets_on_however_busy_a_node_is(loop: Loop) -> None:
    pace = Pace(loop, loop)
    for _ in range(40):
        pace.add(lambda: None)
    assert max(loop.turn(late_ms=5_000) for _ in range(40)) == limits.PACE_GAP_MS_MAX


def test_a_piece_that_fails_costs_the_others_nothing(loop: Loop) -> None:
    pace, done = Pace(loop, loop), []

    def fail() -> None:
        raise ZeroDivisionError

    pace.add(fail)
    pace.add(lambda: done.append("the other"))
    with pytest.raises(ZeroDivisionError):
        loop.turn()
    loop.turn()
    assert done == ["the other"]


def test_a_piece_may_add_another_one(loop: Loop) -> None:
    pace, done = Pace(loop, loop), []
    pace.add(lambda: pace.add(lambda: done.append("the other")))
    loop.turn()
    loop.turn()
    assert done == ["the other"]
    assert loop.is_idle


def test_nothing_runs_once_the_node_has_stopped(loop: Loop) -> None:
    pace, done = Pace(loop, loop), []
    pace.add(lambda: done.append("before"))
    pace.stop()
    pace.add(lambda: done.append("after"))
    while not loop.is_idle:
        loop.turn()
    assert done == []
