"""Makes a failing run smaller: fewer strikes, less time, fewer clients and nodes.

A candidate is a plan that is smaller in one respect; it is taken when it fails with a problem of the same kind.
Candidates come from the boldest to the most timid, and from the start again after each that is taken, until none
is left. Strikes are thinned as delta debugging does it: halves, quarters, eighths, then one after the other.

What is smaller may be another run altogether: with one client less all clients draw differently. That doesn't matter,
as long as it fails alike.

Source: Zeller and Hildebrandt 2002, "Simplifying and Isolating Failure-Inducing Input".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from ourodb.sim.run import NO_PROOF, QUORUM, Plan, Verdict

TRIES_MAX = 300
SECONDS_MIN = 0.5

_VARYING = re.compile(r"0x[0-9a-f]+|'[^']*'|\d+(\.\d+)?|\b[0-9a-f]{8,}\b")
"""What differs between two problems of one kind."""


def shrink(
    failed: Verdict,
    judge: Callable[[Plan], Verdict],
    *,
    tries_max: int = TRIES_MAX,
    on_try: Callable[[Verdict], None] = lambda verdict: None,
) -> Verdict:
    """The verdict of the smallest run found that fails as ``failed`` does; it may be ``failed`` itself.

    Args:
        tries_max: runs at most.
        on_try: is called with each verdict.
    """
    wanted = kinds_of_problems(failed)
    smallest = failed
    tried = {failed.plan}
    while True:
        for plan in smaller(smallest):
            if plan in tried:
                continue
            if len(tried) > tries_max:
                return smallest
            tried.add(plan)
            verdict = judge(plan)
            on_try(verdict)
            if wanted & kinds_of_problems(verdict):
                smallest = verdict
                break
        else:
            return smallest


def kinds_of_problems(verdict: Verdict) -> frozenset[str]:
    """What is wrong, without numbers and names; where there is a violation, that something isn't proved is left out."""
    violations = [problem for problem in verdict.problems if not problem.startswith(NO_PROOF)]
    return frozenset(_kind(problem) for problem in violations or verdict.problems)


def _kind(problem: str) -> str:
    lines = problem.strip().splitlines()
    # Of an exception the last line says what it was.
    telling = lines[-1] if len(lines) > 1 and "Traceback" in problem else lines[0]
    return _VARYING.sub("", telling)[:120]


def smaller(verdict: Verdict) -> Iterator[Plan]:
    """Plans that are smaller in one respect than that of a run, from the boldest to the most timid."""
    plan = verdict.plan
    if plan.faults:
        yield replace(plan, faults=(), strikes=None)
    numbers = tuple(strike.number for strike in verdict.strikes)
    for strikes in thinned(numbers):
        yield replace(plan, strikes=strikes)
    struck = tuple(kind for kind in plan.faults if kind in verdict.struck)
    if plan.strikes is not None and struck != plan.faults:
        yield replace(plan, faults=struck)
    for eighths in (4, 6, 7):
        seconds = round(plan.seconds * eighths / 8, 1)
        if SECONDS_MIN <= seconds < plan.seconds:
            yield replace(plan, seconds=seconds)
    for clients in sorted({1, plan.clients // 2, plan.clients - 1}):
        if 0 < clients < plan.clients:
            yield replace(plan, clients=clients)
    for nodes in sorted({1, 3, plan.nodes - 1}):
        if plan.data_centers <= nodes < plan.nodes:
            yield replace(plan, nodes=nodes)
    if plan.data_centers > 1:
        yield replace(plan, data_centers=1)
    if plan.level != QUORUM:
        yield replace(plan, level=QUORUM)
    if plan.racks > 1:
        yield replace(plan, racks=1)
    if plan.sync_period_ms is not None:
        yield replace(plan, sync_period_ms=None)


def thinned(numbers: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Parts of the numbers, then all but such parts; the parts are halves first and single numbers in the end."""
    parts = 2
    while len(numbers) > 1:
        size = -(-len(numbers) // parts)
        pieces = [numbers[start : start + size] for start in range(0, len(numbers), size)]
        yield from pieces
        if len(pieces) > 2:
            for piece in pieces:
                yield tuple(number for number in numbers if number not in piece)
        if size == 1:
            return
        parts *= 2
