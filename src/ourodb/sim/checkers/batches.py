"""Logged batches are there as a whole or not at all once everything is done, and those that were acknowledged are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ourodb.sim.history import Operation, Outcome


def check_batches(
    history: Iterable[Operation], found: Mapping[str, Mapping[int, int]], parts: int
) -> list[str]:
    """
    Args:
        history: operations "batch"; the key is the batch.
        found: how many rows each of the final reads gave of each batch, by its name.
        parts: rows of a batch.
    Returns:
        what was wrong.
    """
    batches = {operation.key: operation for operation in history if operation.kind == "batch"}
    problems = []
    for name, counts in found.items():
        for batch, operation in batches.items():
            count = counts.get(batch, 0)
            if count not in (0, parts):
                problems.append(f"at {name} a batch is there in part, {count} of {parts}: {operation}")
            elif not count and operation.outcome is Outcome.DONE:
                problems.append(f"at {name} an acknowledged batch is missing: {operation}")
            elif count and operation.outcome is Outcome.REFUSED:
                problems.append(f"at {name} a batch is there that was refused: {operation}")
    return problems
