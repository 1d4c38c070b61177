"""Quorum reads never go back in time.

Each key has versions that grow from 1 on, written by one client one after the other. A read must give at least
the version that any read gave, or any write was acknowledged for, that was complete before the read began; and
at most the latest version whose write had begun when the read was complete. Reads that overlap may differ
either way.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from ourodb.sim.history import Operation, Outcome


def check_monotonic(history: Iterable[Operation]) -> list[str]:
    """
    Args:
        history: operations "write", whose argument is the version, and "read", whose result is one or 0.
    Returns:
        what was wrong.
    """
    by_key: dict[int, list[Operation]] = {}
    for operation in history:
        by_key.setdefault(operation.key, []).append(operation)
    problems = []
    for operations in by_key.values():
        problems += _check_key(operations)
    return problems


def _check_key(operations: list[Operation]) -> list[str]:
    known = sorted(
        (operation for operation in operations if operation.outcome is Outcome.DONE),
        key=lambda operation: operation.completed_ns,
    )
    completions = [operation.completed_ns for operation in known]
    newest: list[Operation] = []
    """Of the operations completed up to each, the one with the greatest version."""
    for operation in known:
        newest.append(operation if not newest or _version(operation) > _version(newest[-1]) else newest[-1])
    writes = {operation.argument: operation for operation in operations if operation.kind == "write"}
    problems = []
    for read in known:
        if read.kind != "read":
            continue
        before = bisect_left(completions, read.invoked_ns)
        if before and read.result < _version(newest[before - 1]):
            problems.append(f"a read went back in time: {read} after {newest[before - 1]}")
        write = writes.get(read.result)
        if read.result and (
            write is None or write.outcome is Outcome.REFUSED or write.invoked_ns > read.completed_ns
        ):
            problems.append(f"a read gave a version that nobody had written: {read}")
    return problems


def _version(operation: Operation) -> int:
    version: int = operation.result if operation.kind == "read" else operation.argument
    return version
