"""What clients asked and what they saw: the one thing that checkers look at.

An operation is invoked at one moment and completed at a later one; it took effect at some moment between, if at
all. One whose outcome is UNKNOWN may take effect at any moment after its invocation, even long after its client
gave up, or never. So it has no completion: ``completed_ns`` is ``NEVER``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

NEVER: Final = 1 << 62
"""A moment after all others."""


class Outcome(Enum):
    """What became of an operation.

    DONE: it took effect.
    REFUSED: it didn't and never will.
    UNKNOWN: nobody can say.
    """

    DONE = "done"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(slots=True, eq=False)
class Operation:
    """One operation of one client.

    Attributes:
        process: whose; it has one operation at a time.
        kind: read, write, cas, insert, add, ...
        key: on what.
        argument: with what; by kind.
        outcome: UNKNOWN until it is completed.
        result: what the client was told, when DONE; by kind.
        error: name of the error that it got, for statistics.
        epochs: as of ``Reply``, where somebody asks for them.
    """

    process: int
    kind: str
    key: int
    argument: Any
    invoked_ns: int
    completed_ns: int = NEVER
    outcome: Outcome = Outcome.UNKNOWN
    result: Any = None
    error: str = ""
    epochs: tuple[int, int] = (0, 0)

    def __str__(self) -> str:
        argument = "" if self.argument is None else f" {self.argument}"
        end = "?" if self.completed_ns == NEVER else f"{self.completed_ns / 1e9:.6f}"
        return (
            f"[{self.invoked_ns / 1e9:.6f}..{end}] client {self.process}: {self.kind} key {self.key}{argument} ->"
            f" {self.outcome.value if self.outcome is not Outcome.DONE else _in_order(self.result)}"
        )


def _in_order(result: Any) -> Any:
    """A set in an order of its own: what is printed, and hashed, doesn't depend on PYTHONHASHSEED."""
    return sorted(result) if isinstance(result, set | frozenset) else result


class History:
    """The operations of a run, in the order of their invocation.

    Attributes:
        on_complete: is told of each operation that is completed.
    """

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self.operations: list[Operation] = []
        self.on_complete: Callable[[Operation], None] = lambda operation: None

    def __iter__(self) -> Iterator[Operation]:
        return iter(self.operations)

    def __len__(self) -> int:
        return len(self.operations)

    def invoke(self, process: int, kind: str, key: int, argument: Any = None) -> Operation:
        """An operation begins now."""
        operation = Operation(process, kind, key, argument, self._now_ns())
        self.operations.append(operation)
        return operation

    def complete(self, operation: Operation, outcome: Outcome, result: Any = None, error: str = "") -> None:
        """Its client was told now, or gave up."""
        operation.outcome = outcome
        operation.result = result
        operation.error = error
        if outcome is not Outcome.UNKNOWN:
            operation.completed_ns = self._now_ns()
        self.on_complete(operation)

    def counts(self) -> Counter[str]:
        """Operations by outcome."""
        return Counter(operation.outcome.value for operation in self.operations)

    def done_by_kind(self) -> dict[str, int]:
        """Successes of each kind that was tried."""
        counts: dict[str, int] = {}
        for operation in self.operations:
            done = operation.outcome is Outcome.DONE
            counts[operation.kind] = counts.get(operation.kind, 0) + done
        return counts

    def errors(self) -> Counter[str]:
        """Errors by name."""
        return Counter(operation.error for operation in self.operations if operation.error)
