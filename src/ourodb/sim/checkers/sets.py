"""A set that only grows, written by inserts of unique elements and read by look-ups and at the end.

Wrong is: an acknowledged element that a later look-up or a final read misses; an element that was seen though
it was refused, or was never inserted, or before its insert began.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet

from ourodb.sim.history import NEVER, Operation, Outcome


def check_set(history: Iterable[Operation], found: Mapping[str, AbstractSet[int]]) -> list[str]:
    """
    Args:
        history: operations "insert", and "look up" with the result whether it was there; the key is the element.
        found: the elements that each of the final reads gave, by its name.
    Returns:
        what was wrong.
    """
    operations = list(history)
    inserts = {operation.key: operation for operation in operations if operation.kind == "insert"}
    problems = []
    for operation in operations:
        if operation.kind != "look up" or operation.outcome is not Outcome.DONE:
            continue
        insert = inserts.get(operation.key)
        if operation.result:
            if insert is None or insert.outcome is Outcome.REFUSED:
                problems.append(f"an element that was never inserted is there: {operation}")
            elif insert.invoked_ns > operation.completed_ns:
                problems.append(f"an element is there before it was inserted: {operation}")
        elif _is_acknowledged(insert) and insert.completed_ns < operation.invoked_ns:  # type: ignore[union-attr]
            problems.append(f"an acknowledged element isn't found: {insert}, {operation}")
    for name, elements in found.items():
        for element, insert in inserts.items():
            if _is_acknowledged(insert) and element not in elements:
                problems.append(f"an acknowledged element is missing from the final read at {name}: {insert}")
        for element in sorted(elements):
            insert = inserts.get(element)
            if insert is None or insert.outcome is Outcome.REFUSED:
                problems.append(f"the final read at {name} has an element that was never inserted: {element}")
    return problems


def _is_acknowledged(insert: Operation | None) -> bool:
    return insert is not None and insert.outcome is Outcome.DONE and insert.completed_ns < NEVER
