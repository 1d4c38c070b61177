"""What a conditional statement has shown lasts: no older update that was in doubt is applied any more.

Linearizability alone doesn't ask for that: an update in doubt may take effect at any later moment. Here a client has
been told that it is in doubt, so nobody is at work on it any more; it was chosen, or is with a minority. The next
statement that is answered, be it a read or one whose condition failed, decides which: if it doesn't show the update,
the update never happens. That is what empty proposals are for.

Source: CASSANDRA-12126.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ourodb.sim.history import Operation, Outcome


def check_settled(history: Iterable[Operation]) -> list[str]:
    """
    Args:
        history: operations "write", whose argument is the value, and "look", whose result is one or None. Those on a
            key come one after the other. After a write of which its client was told nothing, and whose coordinator may
            still be at work on it, there is one look at the key at most, and no write.
    Returns:
        what was wrong.
    """
    settling: dict[int, Operation] = {}
    """By key: the last operation that was done."""
    in_doubt: dict[int, list[Any]] = {}
    """By key: values that were written since, and perhaps weren't."""
    problems = []
    for operation in history:
        key, before = operation.key, settling.get(operation.key)
        if operation.outcome is Outcome.DONE:
            doubts = in_doubt.pop(key, [])
            if operation.kind == "look" and operation.result not in (_value(before), *doubts):
                problems.append(f"what was settled is changed: {before or 'nothing was there'}; {operation}")
            settling[key] = operation
        elif operation.kind == "write" and operation.outcome is Outcome.UNKNOWN:
            in_doubt.setdefault(key, []).append(operation.argument)
    return problems


def _value(operation: Operation | None) -> Any:
    """What was there after it."""
    if operation is None:
        return None
    return operation.argument if operation.kind == "write" else operation.result
