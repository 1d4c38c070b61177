"""Counters end within their bounds: all that was acknowledged, and any part of what is unknown, each once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ourodb.sim.history import Operation, Outcome


def check_counters(history: Iterable[Operation], totals: Mapping[int, int]) -> list[str]:
    """
    Args:
        history: operations "add", whose argument is what is added.
        totals: what each counter showed in the end.
    Returns:
        what was wrong.
    """
    least: dict[int, int] = {}
    most: dict[int, int] = {}
    for operation in history:
        if operation.kind != "add" or operation.outcome is Outcome.REFUSED:
            continue
        key, delta = operation.key, operation.argument
        is_known = operation.outcome is Outcome.DONE
        least[key] = least.get(key, 0) + (delta if is_known else min(delta, 0))
        most[key] = most.get(key, 0) + (delta if is_known else max(delta, 0))
    return [
        f"counter {key} ended at {total}, not between {least.get(key, 0)} and {most.get(key, 0)}"
        for key, total in totals.items()
        if not least.get(key, 0) <= total <= most.get(key, 0)
    ]
