"""Counters show what was acknowledged, and any part of what is unknown, each once.

A read has all that was acknowledged before it began, and nothing that began after its end. An addition that was under
way, or whose fate nobody knows, counts or not, at one read and perhaps not at the next. So what is read lies between
two sums: both have what must count, the one with all negative numbers that may count as well, the other one with all
positive ones.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from itertools import accumulate

from ourodb.sim.history import NEVER, Operation, Outcome


def check_counters(history: Iterable[Operation], totals: Mapping[int, int]) -> list[str]:
    """
    Args:
        history: operations "add", whose argument is what is added.
        totals: what each counter showed in the end.
    Returns:
        what was wrong.
    """
    bounds = _Bounds(history)
    problems = []
    for key, total in totals.items():
        least, most = bounds.between(key, NEVER, NEVER)
        if not least <= total <= most:
            problems.append(f"counter {key} ended at {total}, not between {least} and {most}")
    return problems


def check_counter_reads(history: Iterable[Operation]) -> list[str]:
    """
    Args:
        history: operations "add", as of ``check_counters``, and "read".
    Returns:
        what was wrong with reads.
    """
    operations = list(history)
    bounds = _Bounds(operations)
    problems = []
    for operation in operations:
        if operation.kind != "read" or operation.outcome is not Outcome.DONE:
            continue
        least, most = bounds.between(operation.key, operation.invoked_ns, operation.completed_ns)
        if not least <= operation.result <= most:
            problems.append(f"a counter wasn't read between {least} and {most}: {operation}")
    return problems


class _Bounds:
    """Between what a counter may be read at any time."""

    def __init__(self, history: Iterable[Operation]) -> None:
        acknowledged: dict[int, list[tuple[int, int]]] = {}
        begun: dict[int, list[tuple[int, int]]] = {}
        for operation in history:
            if operation.kind != "add" or operation.outcome is Outcome.REFUSED:
                continue
            begun.setdefault(operation.key, []).append((operation.invoked_ns, operation.argument))
            if operation.outcome is Outcome.DONE:
                acknowledged.setdefault(operation.key, []).append(
                    (operation.completed_ns, operation.argument)
                )
        self._acknowledged = {key: _Sums(added) for key, added in acknowledged.items()}
        self._begun = {key: _Sums(added) for key, added in begun.items()}

    def between(self, key: int, invoked_ns: int, completed_ns: int) -> tuple[int, int]:
        """The least and the most that a read may give."""
        sure = self._acknowledged.get(key, _NOTHING).before(invoked_ns)
        possible = self._begun.get(key, _NOTHING).before(completed_ns)
        return sure[0] + possible[1], possible[0] + sure[1]


class _Sums:
    """What was added up to each moment: the positive and the negative numbers by themselves."""

    def __init__(self, added: Iterable[tuple[int, int]]) -> None:
        """
        Args:
            added: moments and numbers.
        """
        ordered = sorted(added)
        self._moments_ns = [moment_ns for moment_ns, _ in ordered]
        self._positive = [0, *accumulate(max(number, 0) for _, number in ordered)]
        self._negative = [0, *accumulate(min(number, 0) for _, number in ordered)]

    def before(self, moment_ns: int) -> tuple[int, int]:
        """The sums of what was added before a moment, positive and negative."""
        count = bisect_left(self._moments_ns, moment_ns)
        return self._positive[count], self._negative[count]


_NOTHING = _Sums([])
