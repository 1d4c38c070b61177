"""Registers are linearizable: each operation took effect at one moment between its invocation and its completion.

Each key is judged by itself (linearizability is local). Just in time: the completions are gone through in order
of time, and with them the set of all *configurations* that are still possible: what the register holds, and
which of the operations that are under way have already taken effect. When an operation completes it must have
taken effect; where it hasn't, every order in which others that are under way may have gone before it is tried.
When no configuration is left, there is no explanation.

What keeps the set small: an operation that only looks takes effect as soon as it can, for it changes nothing;
and a write whose outcome is unknown is left out when nobody ever saw its value, for then nothing can depend on
it.

Source: Wing & Gong 1993, "Testing and verifying concurrent objects"; Lowe 2017, "Testing for linearizability".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from ourodb.sim.history import NEVER, Operation, Outcome

Value = int | None

_ILLEGAL: Final = object()
"""As the state after an operation: it can't have happened here."""

CONFIGURATIONS_MAX: Final = 200_000
"""More of them than this for one key, and the history is too tangled to be judged."""


class TooTangled(Exception):
    """A history has too many explanations to go through."""


def check_registers(history: Iterable[Operation]) -> list[str]:
    """
    Args:
        history: operations "read" (its result the value or None), "write" (its argument the value), and "cas"
        (its argument
            (expected, value), its result (whether it was applied, the value found where it wasn't)).
    Returns:
        what was wrong.
    Raises:
        TooTangled: it can't be told.
    """
    by_key: dict[int, list[Operation]] = {}
    for operation in history:
        by_key.setdefault(operation.key, []).append(operation)
    problems = []
    for key, operations in by_key.items():
        unexplained = first_unexplained(operations)
        if unexplained is not None:
            operation, held = unexplained
            around = [
                other
                for other in operations
                if other.invoked_ns <= operation.completed_ns and other.completed_ns >= operation.invoked_ns
            ]
            problems.append(
                f"key {key} isn't linearizable: {operation}, when it can only hold {' or '.join(map(str, held))};"
                f" meanwhile: {'; '.join(str(other) for other in around if other is not operation)}"
            )
    return problems


def first_unexplained(operations: Iterable[Operation]) -> tuple[Operation, list[Value]] | None:
    """The first completed operation of one register that can't be explained, and what the register could hold then.

    Returns:
        None: all can be explained.
    Raises:
        TooTangled: it can't be told.
    """
    relevant = _relevant(operations)
    events: list[tuple[int, int, int]] = []
    for number, operation in enumerate(relevant):
        # What happens at one moment overlaps: invocations go first.
        events.append((operation.invoked_ns, 0, number))
        if operation.completed_ns < NEVER:
            events.append((operation.completed_ns, 1, number))
    events.sort()
    pending: dict[int, Operation] = {}
    configurations: dict[tuple[Value, int], None] = {(None, 0): None}
    for _, is_completion, number in events:
        if not is_completion:
            pending[number] = relevant[number]
            continue
        possible: dict[tuple[Value, int], None] = {}
        for configuration in configurations:
            _explain(configuration, number, pending, possible)
        if not possible:
            return relevant[number], sorted({held for held, _ in configurations}, key=str)
        if len(possible) > CONFIGURATIONS_MAX:
            raise TooTangled(f"{len(possible)} explanations of key {relevant[number].key}")
        del pending[number]
        configurations = possible
    return None


def _explain(
    configuration: tuple[Value, int],
    number: int,
    pending: dict[int, Operation],
    possible: dict[tuple[Value, int], None],
) -> None:
    """Add to ``possible`` what may be the case once the operation has taken effect."""
    bit = 1 << number
    start = _looked(configuration, pending)
    if start[1] & bit:
        possible[start[0], start[1] ^ bit] = None
        return
    seen = {start}
    stack = [start]
    while stack:
        held, effective = stack.pop()
        for other, operation in pending.items():
            other_bit = 1 << other
            if effective & other_bit:
                continue
            after = _step(held, operation)
            if after is _ILLEGAL:
                continue
            reached = _looked((after, effective | other_bit), pending)
            if reached in seen:
                continue
            seen.add(reached)
            if reached[1] & bit:
                possible[reached[0], reached[1] ^ bit] = None
            else:
                stack.append(reached)
        if len(seen) > CONFIGURATIONS_MAX:
            raise TooTangled(f"{len(seen)} explanations of key {pending[number].key}")


def _looked(configuration: tuple[Value, int], pending: dict[int, Operation]) -> tuple[Value, int]:
    """The same, after all who only look and find what they were told."""
    held, effective = configuration
    for number, operation in pending.items():
        if not effective >> number & 1 and _only_looks(operation) and _step(held, operation) is not _ILLEGAL:
            effective |= 1 << number
    return held, effective


def _only_looks(operation: Operation) -> bool:
    return operation.kind == "read" or (
        operation.kind == "cas" and operation.outcome is Outcome.DONE and not operation.result[0]
    )


def _step(held: Value, operation: Operation) -> Any:
    """What the register holds after the operation; ``_ILLEGAL``: the client would have been told something else."""
    if operation.kind == "read":
        return held if operation.result == held else _ILLEGAL
    if operation.kind == "write":
        return operation.argument
    assert operation.kind == "cas", operation.kind
    expected, value = operation.argument
    if operation.outcome is Outcome.DONE and not operation.result[0]:
        return held if held != expected and operation.result[1] == held else _ILLEGAL
    return value if held == expected else _ILLEGAL


def _relevant(operations: Iterable[Operation]) -> list[Operation]:
    """Those that have to be explained, or that may explain others."""
    told: list[Operation] = []
    unknown: list[Operation] = []
    for operation in operations:
        if operation.outcome is Outcome.DONE:
            told.append(operation)
        elif operation.outcome is Outcome.UNKNOWN and operation.kind != "read":
            unknown.append(operation)
    seen: set[Value] = set()
    for operation in told:
        if operation.kind == "read":
            seen.add(operation.result)
        elif operation.kind == "cas":
            applied, found = operation.result
            seen.add(operation.argument[0] if applied else found)
    # An unknown compare-and-set whose value was seen may have seen another unknown one's.
    while True:
        needed = [operation for operation in unknown if _written(operation) in seen]
        expected = {operation.argument[0] for operation in needed if operation.kind == "cas"}
        if expected <= seen:
            break
        seen |= expected
    relevant = [*told, *needed]
    relevant.sort(key=lambda operation: operation.invoked_ns)
    return relevant


def _written(operation: Operation) -> Value:
    written: Value = operation.argument if operation.kind == "write" else operation.argument[1]
    return written
