"""Lists to which unique elements are appended: none is lost, none comes twice, and all reads agree on the order.

Where an element stands in a list is fixed when it is appended, by a time that its coordinator takes from its clock. So

- an acknowledged element is in every later read, and what one read has every later one has;
- no read has an element twice, or one that nobody appended, that was refused, or before its append began;
- any two reads have the elements that both have in the same order.

No more can be promised of plain appends, not even that of two which don't overlap the earlier one comes first: a node
whose clock is a minute ahead puts elements behind those that others append for a minute, whatever was acknowledged in
between. Conditional appends take their time from their ballots, and these grow. So of them also

- every read is a beginning of every longer one;
- of two that don't overlap the earlier one comes first.

Source: Kingsbury & Alvaro 2020, "Elle: Inferring Isolation Anomalies from Experimental Observations", whose lists tell
the order of writes; without its transactions.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from ourodb.sim.history import Operation, Outcome


def check_lists(history: Iterable[Operation], *, is_total: bool = False) -> list[str]:
    """
    Args:
        history: operations "append", whose argument is the element, and "read", whose result is a tuple of elements; or
            "serial append" and "serial read", which are looked at instead when the order ``is_total``.
    Returns:
        what was wrong.
    """
    before = "serial " * is_total
    appends: dict[int, list[Operation]] = {}
    reads: dict[int, list[Operation]] = {}
    for operation in history:
        if operation.kind == f"{before}append":
            appends.setdefault(operation.key, []).append(operation)
        elif operation.kind == f"{before}read" and operation.outcome is Outcome.DONE:
            reads.setdefault(operation.key, []).append(operation)
    problems = []
    for key, of_key in reads.items():
        problems += _check_key(appends.get(key, []), of_key)
        problems += _check_total(appends.get(key, []), of_key) if is_total else _check_order(of_key)
    return problems


def _check_key(appends: list[Operation], reads: list[Operation]) -> list[str]:
    """What every list promises, but for the order."""
    by_element = {append.argument: append for append in appends}
    problems = []
    for read in reads:
        if len(set(read.result)) < len(read.result):
            problems.append(f"an element is there twice: {read}")
        for element in read.result:
            append = by_element.get(element)
            if append is None or append.outcome is Outcome.REFUSED or append.invoked_ns > read.completed_ns:
                problems.append(
                    f"an element is there that wasn't appended: {element}, {append or 'nobody'}, {read}"
                )
    # What must be there grows, with every append and every read, in the order in which they were complete.
    known = sorted(
        [operation for operation in (*appends, *reads) if operation.outcome is Outcome.DONE],
        key=lambda operation: operation.completed_ns,
    )
    needed: dict[int, Operation] = {}
    index = 0
    for read in sorted(reads, key=lambda operation: operation.invoked_ns):
        while index < len(known) and known[index].completed_ns < read.invoked_ns:
            operation = known[index]
            found = (operation.argument,) if operation.kind.endswith("append") else operation.result
            for element in found:
                needed.setdefault(element, operation)
            index += 1
        missing = [element for element in needed if element not in set(read.result)]
        problems += [f"an element is missing: {element} of {needed[element]}, {read}" for element in missing]
    return problems


def _check_order(reads: list[Operation]) -> list[str]:
    """Whether each read has what it has in common with the longest one in the same order."""
    longest = max(reads, key=lambda read: len(read.result))
    places = {element: place for place, element in enumerate(longest.result)}
    problems = []
    for read in reads:
        found = [places[element] for element in read.result if element in places]
        if found != sorted(found):
            problems.append(f"two reads don't agree on the order: {read}, {longest}")
    return problems


def _check_total(appends: list[Operation], reads: list[Operation]) -> list[str]:
    """Whether reads are beginnings of each other, and the order that of time."""
    problems = []
    by_length = sorted(reads, key=lambda read: len(read.result))
    for shorter, longer in pairwise(by_length):
        if longer.result[: len(shorter.result)] != shorter.result:
            problems.append(f"a read is no beginning of another: {shorter}, {longer}")
    by_element = {append.argument: append for append in appends}
    latest: Operation | None = None
    for element in by_length[-1].result:
        append = by_element.get(element)
        if append is None:
            continue
        if latest is not None and append.completed_ns < latest.invoked_ns:
            problems.append(f"an element stands behind a later one: {append}, {latest}")
        if latest is None or append.invoked_ns > latest.invoked_ns:
            latest = append
    return problems
