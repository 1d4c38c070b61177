"""The judges. If this fails, a run may end with "ok" though a write was lost, or fail though all was well."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ourodb.sim.chance import Chance
from ourodb.sim.checkers.availability import silent_seconds, success_share
from ourodb.sim.checkers.batches import check_batches
from ourodb.sim.checkers.convergence import check_convergence
from ourodb.sim.checkers.counters import check_counter_reads, check_counters
from ourodb.sim.checkers.deletions import check_deletions
from ourodb.sim.checkers.linearizability import check_registers, first_unexplained
from ourodb.sim.checkers.lists import check_lists
from ourodb.sim.checkers.monotonic import check_monotonic
from ourodb.sim.checkers.sets import check_set
from ourodb.sim.checkers.settlement import check_settled
from ourodb.sim.history import NEVER, Operation, Outcome

DONE, REFUSED, UNKNOWN = Outcome.DONE, Outcome.REFUSED, Outcome.UNKNOWN


def op(
    kind: str, argument: Any, start: int, end: int, result: Any = None, outcome: Outcome = DONE, key: int = 0
) -> Operation:
    return Operation(0, kind, key, argument, start, NEVER if outcome is UNKNOWN else end, outcome, result)


# --- Linearizability -------------------------------------------------------------------------------------------


def by_brute_force(operations: Sequence[Operation]) -> bool:
    """Whether some order of the completed operations and some of the unknown ones explains everything."""
    done = [one for one in operations if one.outcome is DONE]
    unknown = [one for one in operations if one.outcome is UNKNOWN and one.kind != "read"]
    return any(
        _is_explained(order)
        for count in range(len(unknown) + 1)
        for chosen in combinations(unknown, count)
        for order in permutations([*done, *chosen])
    )


def _is_explained(order: Sequence[Operation]) -> bool:
    for index, one in enumerate(order):
        if any(later.completed_ns < one.invoked_ns for later in order[index + 1 :]):
            return False
    held = None
    for one in order:
        if one.kind == "read":
            if one.result != held:
                return False
        elif one.kind == "write":
            held = one.argument
        else:
            expected, value = one.argument
            applied = held == expected
            if one.outcome is DONE and (one.result[0] != applied or (not applied and one.result[1] != held)):
                return False
            if applied:
                held = value
    return True


VALUES = st.none() | st.integers(1, 3)
WRITTEN = st.integers(1, 3)


@st.composite
def operations(draw: st.DrawFn) -> Operation:
    start = draw(st.integers(0, 12))
    end = start + draw(st.integers(0, 6))
    outcome = draw(st.sampled_from([DONE, DONE, DONE, UNKNOWN, REFUSED]))
    kind = draw(st.sampled_from(["read", "write", "cas"]))
    if kind == "read":
        return op(kind, None, start, end, draw(VALUES), outcome)
    if kind == "write":
        return op(kind, draw(WRITTEN), start, end, None, outcome)
    result = draw(st.sampled_from([(True, None), (False, draw(VALUES))]))
    return op(kind, (draw(VALUES), draw(WRITTEN)), start, end, result, outcome)


@settings(max_examples=600, deadline=None)
@given(st.lists(operations(), max_size=6))
def test_it_judges_as_trying_all_orders_does(history: list[Operation]) -> None:
    assert (first_unexplained(history) is None) == by_brute_force(history)


def played(seed: int, count: int, clients: int) -> list[Operation]:
    """What clients of a register that is right would see, with some of their answers lost."""
    chance = Chance.of_seed(seed)
    moments = []
    free_at = [0] * clients
    for _ in range(count):
        client = chance.below(clients)
        start = free_at[client] + chance.below(10)
        moment = start + chance.below(20)
        end = moment + chance.below(20)
        free_at[client] = end + 1
        moments.append((moment, start, end))
    moments.sort()
    held: int | None = None
    history = []
    for number, (moment, start, end) in enumerate(moments):
        kind = chance.choice(["read", "write", "cas"])
        outcome = UNKNOWN if chance.one_in(8) else REFUSED if chance.one_in(10) else DONE
        happens = outcome is DONE or (outcome is UNKNOWN and chance.one_in(2))
        if kind == "read":
            history.append(op(kind, None, start, end, held, outcome))
        elif kind == "write":
            history.append(op(kind, number, start, end, None, outcome))
            held = number if happens else held
        else:
            expected = held if chance.one_in(2) else number - 1
            applied = expected == held
            history.append(
                op(kind, (expected, number), start, end, (applied, None if applied else held), outcome)
            )
            held = number if happens and applied else held
        assert moment <= end
    return history


@pytest.mark.parametrize("seed", range(30))
def test_what_is_right_is_accepted_however_tangled(seed: int) -> None:
    assert check_registers(played(seed, 300, 3 + seed % 8)) == []


@pytest.mark.parametrize("seed", range(30))
def test_one_wrong_answer_among_many_is_found(seed: int) -> None:
    history = played(seed, 300, 5)
    chance = Chance.of_seed(seed).child("which")
    reads = [one for one in history if one.kind == "read" and one.outcome is DONE and one.invoked_ns > 100]
    wrong = chance.choice(reads)
    values = {
        one.argument for one in history if one.kind == "write" and one.completed_ns < wrong.invoked_ns - 200
    }
    overwritten = sorted(values - {wrong.result})
    wrong.result = overwritten[0] if overwritten else 10_000
    assert check_registers(history) != []


def test_a_lost_write_is_found() -> None:
    history = [op("write", 1, 0, 1), op("write", 2, 2, 3), op("read", None, 4, 5, 1)]
    (problem,) = check_registers(history)
    assert "read key 0 -> 1" in problem
    assert "can only hold 2" in problem


def test_a_stale_read_is_found_and_a_concurrent_one_is_not() -> None:
    assert check_registers([op("write", 1, 0, 1), op("write", 2, 2, 6), op("read", None, 4, 5, 1)]) == []
    stale = [op("write", 1, 0, 1), op("write", 2, 2, 9), op("read", None, 4, 5, 2), op("read", None, 6, 7, 1)]
    assert check_registers(stale) != []


def test_two_winners_of_one_comparison_are_found() -> None:
    split = [
        op("write", 1, 0, 1),
        op("cas", (1, 2), 2, 5, (True, None)),
        op("cas", (1, 3), 2, 5, (True, None)),
    ]
    assert check_registers(split) != []
    assert check_registers([*split[:2], op("cas", (1, 3), 2, 5, (False, 2))]) == []


def test_unknown_outcomes_may_come_late_or_never_but_only_once() -> None:
    unknown = op("write", 1, 0, 0, None, UNKNOWN)
    assert check_registers([unknown, op("read", None, 100, 101, None), op("read", None, 200, 201, 1)]) == []
    assert check_registers([unknown, op("read", None, 200, 201, None)]) == []
    twice = [unknown, op("read", None, 1, 2, 1), op("write", 2, 3, 4), op("read", None, 5, 6, 1)]
    assert check_registers(twice) != []
    assert check_registers([op("write", 1, 5, 0, None, UNKNOWN), op("read", None, 1, 2, 1)]) != []


def test_an_unknown_comparison_need_not_happen() -> None:
    unknown = op("cas", (2, 1), 0, 0, None, UNKNOWN)
    assert check_registers([op("write", 1, 1, 2), unknown, op("read", None, 3, 4, 1)]) == []


def test_what_was_refused_must_not_happen() -> None:
    assert check_registers([op("write", 1, 0, 1, None, REFUSED), op("read", None, 2, 3, 1)]) != []


def test_keys_are_judged_apart() -> None:
    history = [op("write", 1, 0, 1, key=1), op("read", None, 2, 3, None, key=2)]
    assert check_registers(history) == []


def test_many_unknown_writes_that_nobody_saw_cost_nothing() -> None:
    unknown = [op("write", number, number, 0, None, UNKNOWN) for number in range(500)]
    reads = [op("read", None, 1_000 + number, 1_000 + number, 7) for number in range(500)]
    assert check_registers([*unknown, *reads]) == []


# --- The others ------------------------------------------------------------------------------------------------


def insert(key: int, start: int, end: int, outcome: Outcome = DONE) -> Operation:
    return op("insert", None, start, end, None, outcome, key)


def look_up(key: int, start: int, end: int, found: bool) -> Operation:
    return op("look up", None, start, end, found, DONE, key)


def test_sets() -> None:
    history = [insert(1, 0, 1), insert(2, 0, 1, UNKNOWN), insert(3, 0, 1, REFUSED), look_up(1, 2, 3, True)]
    assert check_set(history, {"ALL": {1}, "QUORUM": {1, 2}}) == []
    assert len(check_set(history, {"ALL": set()})) == 1, "an acknowledged element is lost"
    assert len(check_set(history, {"ALL": {1, 3}})) == 1, "a refused one is there"
    assert len(check_set(history, {"ALL": {1, 9}})) == 1, "one that nobody wrote is there"
    assert len(check_set([*history, look_up(1, 2, 3, False)], {"ALL": {1}})) == 1, "a look-up misses it"
    assert check_set([*history, look_up(1, 0, 3, False)], {"ALL": {1}}) == [], (
        "it began before the insert ended"
    )
    assert len(check_set([*history, look_up(3, 2, 3, True)], {"ALL": {1}})) == 1
    assert len(check_set([insert(1, 5, 6), look_up(1, 2, 3, True)], {"ALL": {1}})) == 1, "seen too early"


def version(number: int, start: int, end: int, outcome: Outcome = DONE) -> Operation:
    return op("write", number, start, end, None, outcome)


def seen(number: int, start: int, end: int) -> Operation:
    return op("read", None, start, end, number)


def test_monotonic_reads() -> None:
    writes = [version(1, 0, 1), version(2, 10, 11), version(3, 20, 0, UNKNOWN)]
    assert check_monotonic([*writes, seen(1, 2, 3), seen(2, 12, 13), seen(3, 25, 26)]) == []
    assert check_monotonic([*writes, seen(2, 25, 26), seen(3, 27, 28)]) == [], "the unknown write came late"
    assert check_monotonic([*writes, seen(3, 25, 28), seen(2, 26, 27)]) == [], "they overlap"
    assert len(check_monotonic([*writes, seen(3, 25, 26), seen(2, 27, 28)])) == 1, "back in time"
    late = [seen(3, 25, 26), seen(2, 24, 28), seen(2, 30, 31)]
    assert len(check_monotonic([*writes, *late])) == 1, (
        "the newest counts, not the one that was complete last"
    )
    assert len(check_monotonic([*writes, seen(1, 12, 13)])) == 1, "behind an acknowledged write"
    assert len(check_monotonic([*writes, seen(2, 5, 6)])) == 1, "before it was written"
    assert len(check_monotonic([*writes, seen(9, 30, 31)])) == 1, "never written"
    assert len(check_monotonic([version(1, 0, 1, REFUSED), seen(1, 2, 3)])) == 1
    assert check_monotonic([seen(0, 0, 1)]) == []


def add(delta: int, outcome: Outcome = DONE) -> Operation:
    return op("add", delta, 0, 1, None, outcome)


@pytest.mark.parametrize(("total", "is_right"), [(2, False), (3, True), (5, True), (8, True), (9, False)])
def test_counters(total: int, is_right: bool) -> None:
    history = [add(5), add(3, UNKNOWN), add(-2, UNKNOWN), add(100, REFUSED)]
    assert (check_counters(history, {0: total}) == []) == is_right


def timed_add(delta: int, start: int, end: int, outcome: Outcome = DONE) -> Operation:
    return op("add", delta, start, end, None, outcome)


@pytest.mark.parametrize(
    ("total", "start", "end", "is_right"),
    [
        (4, 12, 13, False),
        (5, 12, 13, True),
        (5, 8, 13, True),
        (4, 8, 13, True),
        (-1, 8, 13, False),
        (0, 2, 3, True),
        (5, 6, 8, True),
        (6, 6, 8, False),
        (2, 21, 22, False),
        (3, 21, 22, True),
        (12, 21, 22, True),
        (13, 21, 22, False),
        (10, 31, 32, False),
        (11, 31, 32, True),
    ],
)
def test_reads_of_counters(total: int, start: int, end: int, is_right: bool) -> None:
    history = [
        timed_add(5, 5, 10),
        timed_add(100, 5, 10, REFUSED),
        timed_add(7, 20, 0, UNKNOWN),
        timed_add(-2, 20, 0, UNKNOWN),
        timed_add(8, 30, 30),
        op("read", None, 0, 0, None, UNKNOWN),
        op("read", None, start, end, total),
    ]
    assert (check_counter_reads(history) == []) == is_right


def test_reads_of_counters_that_are_taken_from() -> None:
    history = [timed_add(5, 0, 1), timed_add(-3, 10, 12)]

    def problems(total: int, start: int, end: int) -> list[str]:
        return check_counter_reads([*history, op("read", None, start, end, total)])

    assert problems(5, 2, 3) == []
    assert problems(5, 9, 11) == problems(2, 9, 11) == [], "it is under way"
    assert problems(2, 13, 14) == []
    (problem,) = problems(5, 13, 14)
    assert problem.startswith("a counter wasn't read between 2 and 2: ")
    assert len(problems(2, 2, 3)) == 1, "before it began"


def test_convergence() -> None:
    assert check_convergence({"a": {b"k": b"v"}, "b": {b"k": b"v"}}) == []
    assert check_convergence({"a": {b"k": b"v"}, "b": {}, "c": {b"k": b"v"}}) == [], "b is no replica of it"
    (problem,) = check_convergence({"a": {b"k": b"v"}, "b": {b"k": b""}, "c": {}})
    assert problem == "replicas differ in key 6b: a has 76, b has "
    different = {bytes([number]): b"x" for number in range(20)}
    problems = check_convergence({"a": different, "b": dict.fromkeys(different, b"y")})
    assert problems[-1] == "and in 15 more"


def test_availability() -> None:
    second = 1_000_000_000
    history = [
        op("read", None, number * second, number * second + 5, 1, UNKNOWN if number in (3, 4, 8) else DONE)
        for number in range(10)
    ]
    assert success_share(history, [], 0) == (7, 10)
    assert success_share(history, [3 * second], 2 * second) == (7, 8)
    assert success_share(history, [3 * second, 8 * second], second) == (7, 8)
    assert silent_seconds(history, 0, 10 * second) == [3, 4, 8]
    assert silent_seconds(history, 2 * second, 5 * second) == [1, 2]


def test_deletions() -> None:
    def seen(found: bool, start: int, end: int) -> Operation:
        return op("look for", None, start, end, found, key=1)

    history = [op("put", None, 0, 1, key=1), op("delete", None, 2, 5, key=1), op("put", None, 0, 1, key=2)]
    assert check_deletions([*history, seen(True, 3, 6), seen(False, 7, 8)], {"ALL": {2}}) == []
    (problem,) = check_deletions([*history, seen(True, 6, 8)], {"ALL": {2}})
    assert "a deleted element was seen" in problem
    assert len(check_deletions(history, {"ALL": {1, 2}})) == 1, "it is back in the end"
    assert len(check_deletions(history, {"ALL": set()})) == 1, "one is gone that nobody deleted"
    tried = [history[0], op("delete", None, 2, 0, None, UNKNOWN, key=1)]
    assert (
        check_deletions([*tried, seen(True, 6, 8), seen(False, 9, 10)], {"ALL": {1}, "QUORUM": set()}) == []
    )


def test_batches() -> None:
    history = [
        op("batch", None, 0, 1, key=1),
        op("batch", None, 0, 0, None, UNKNOWN, key=2),
        op("batch", None, 0, 1, None, REFUSED, key=3),
    ]
    assert check_batches(history, {"ALL": {1: 3}, "QUORUM": {1: 3, 2: 3}}, 3) == []
    for found, what in (({1: 3, 2: 2}, "in part"), ({}, "is missing"), ({1: 3, 3: 3}, "was refused")):
        (problem,) = check_batches(history, {"ALL": found}, 3)
        assert what in problem


@pytest.mark.parametrize("is_total", [False, True])
def test_lists(is_total: bool) -> None:
    before = "serial " * is_total

    def append(element: int, start: int, end: int, outcome: Outcome = DONE) -> Operation:
        return op(f"{before}append", element, start, end, None, outcome)

    def read(*elements: int, start: int = 10, end: int = 11) -> Operation:
        return op(f"{before}read", None, start, end, elements)

    def problems(*operations: Operation) -> list[str]:
        return check_lists(operations, is_total=is_total)

    appends = [append(1, 0, 1), append(2, 2, 5), append(3, 4, 0, UNKNOWN), append(4, 4, 6, REFUSED)]
    assert problems(*appends, read(1, 2), read(1, 2, 3, start=12, end=13)) == []
    assert problems(*appends, read(1, start=3, end=4), read(1, 2)) == [], "2 is still under way"
    wrong = {
        "an element is missing": [read(1)],
        "there twice": [read(1, 2, 2)],
        "wasn't appended": [read(1, 2, 4)],
        "nobody": [read(1, 2, 9)],
        "an element is missing: 3": [read(1, 2, 3), read(1, 2, start=12, end=13)],
    }
    for what, reads in wrong.items():
        found = problems(*appends, *reads)
        assert found
        assert what in found[0], (what, found)
    early = problems(*appends, read(1, 2, start=0, end=1), read(1, 2))
    assert len(early) == 1, "2 is there before its append began"
    assert len(problems(*appends, read(1, 2, 3), read(1, 3, 2, start=12, end=13))) == 1, "the order changed"
    # Of two that don't overlap the earlier one comes first only where they are serial.
    assert len(problems(*appends, read(2, 1))) == is_total
    # Something new may come in the midst of what was read only where they aren't.
    inserted = problems(*appends, read(1, 2), read(1, 3, 2, start=12, end=13))
    assert len(inserted) == is_total


def test_settlement() -> None:
    def write(value: int, start: int, outcome: Outcome = DONE) -> Operation:
        return op("write", value, start, start + 1, None, outcome)

    def look(value: int | None, start: int, outcome: Outcome = DONE) -> Operation:
        return op("look", None, start, start + 1, value, outcome)

    in_doubt = [write(1, 0), write(2, 2, UNKNOWN)]
    assert check_settled([*in_doubt, look(1, 4), look(None, 5, UNKNOWN), look(1, 6)]) == []
    assert check_settled([*in_doubt, look(2, 4), write(3, 6, REFUSED), look(2, 8)]) == []
    wrong = {
        "it comes late": [*in_doubt, look(1, 4), look(2, 6)],
        "it goes again": [*in_doubt, look(2, 4), look(1, 6)],
        "it comes after the next one": [*in_doubt, look(1, 4), write(3, 6, UNKNOWN), look(2, 8)],
        "what was done is gone": [write(1, 0), look(None, 2)],
        "what was refused is there": [write(1, 0, REFUSED), look(1, 2)],
    }
    for what, history in wrong.items():
        (problem,) = check_settled(history)
        assert "what was settled is changed" in problem, what
