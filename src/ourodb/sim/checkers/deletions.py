"""What was deleted stays so: after an acknowledged deletion nobody sees its element, and nothing else is gone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet

from ourodb.sim.history import Operation, Outcome


def check_deletions(history: Iterable[Operation], found: Mapping[str, AbstractSet[int]]) -> list[str]:
    """
    Args:
        history: operations "put" and "delete", each at most once for a key and one after the other, and "look for" with
            the result whether it was there; the key is the element.
        found: the elements that each of the final reads gave, by its name.
    Returns:
        what was wrong.
    """
    operations = list(history)
    deletions = {
        operation.key: operation
        for operation in operations
        if operation.kind == "delete" and operation.outcome is Outcome.DONE
    }
    problems = [
        f"a deleted element was seen: {deletions[look.key]}, {look}"
        for look in operations
        if look.kind == "look for"
        and look.result
        and look.key in deletions
        and deletions[look.key].completed_ns < look.invoked_ns
    ]
    deleted_or_tried = {operation.key for operation in operations if operation.kind == "delete"}
    for name, elements in found.items():
        problems += [
            f"the final read at {name} has a deleted element: {deletions[key]}"
            for key in sorted(elements & deletions.keys())
        ]
        problems += [
            f"the final read at {name} misses an element: {operation}"
            for operation in operations
            if operation.kind == "put"
            and operation.outcome is Outcome.DONE
            and operation.key not in deleted_or_tried
            and operation.key not in elements
        ]
    return problems
