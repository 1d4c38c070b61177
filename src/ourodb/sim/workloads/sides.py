"""Clients that keep to one data centre each, and what they may conclude.

At LOCAL_QUORUM a write is acknowledged by a quorum of the copies in the coordinator's data centre, and a read asks only
these. So clients that keep to one data centre see each other's writes as at QUORUM: they are a *side*. To another side
a write is in doubt, whatever its own client was told: it comes late, and until then it is seen or not; once seen, it
stays. So each side has a history of its own, in which what the others did has no known outcome, and checkers judge
that, knowing nothing of data centres.

In the end each side reads at LOCAL_QUORUM, and then at ALL, where nothing may be missing that either has acknowledged.
Where clients don't keep to a data centre there is one side, and it works at QUORUM.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from ourodb.cql.wire.codes import Consistency
from ourodb.sim.history import NEVER, Operation, Outcome
from ourodb.sim.workloads.stage import Stage

F = TypeVar("F")

TO_SIDES: Final = ("set", "monotonic", "counter", "deletion", "batch")
"""Workloads whose clients may keep to one data centre each."""


@dataclass(frozen=True, slots=True)
class Side:
    """Clients that see each other's writes.

    Attributes:
        number: of the first of them.
        name: of its data centre; empty if there is one side.
        level: at which it works.
    """

    number: int
    name: str
    level: Consistency

    def final_read(self, level: Consistency) -> str:
        """What its read at the end is called."""
        return f"{level.name} in {self.name}" if self.name else level.name


def sides_of(stage: Stage) -> list[Side]:
    """All sides; client n is on that of n modulo their number."""
    names = list(stage.data_centers)
    if not names:
        return [Side(0, "", Consistency.QUORUM)]
    return [Side(number, name, Consistency.LOCAL_QUORUM) for number, name in enumerate(names)]


def level_of(stage: Stage) -> Consistency:
    """At which clients read and write."""
    return sides_of(stage)[0].level


def final_reads(stage: Stage) -> Iterator[tuple[Side, Consistency, str]]:
    """Who is to read everything in the end, at what level, and the name of that read, in order.

    All sides read at their own level before one reads at ALL, which gives every replica what it lacks.
    """
    sides = sides_of(stage)
    for level in (sides[0].level, Consistency.ALL):
        for side in sides:
            yield side, level, side.final_read(level)


def judged(
    stage: Stage,
    check: Callable[[Sequence[Operation], Mapping[str, F]], list[str]],
    found: Mapping[str, F],
) -> list[str]:
    """What a checker finds wrong on each side.

    Args:
        check: is given the history of a side, and what its own final reads have found.
        found: by the name of the final read.
    """
    problems = []
    sides = sides_of(stage)
    for side in sides:
        seen = [
            _seen(operation, operation.process % len(sides) == side.number) for operation in stage.history
        ]
        names = [side.final_read(level) for level in (side.level, Consistency.ALL)]
        told = check(seen, {name: found[name] for name in names if name in found})
        problems += [f"in {side.name}: {problem}" if side.name else problem for problem in told]
    return problems


def _seen(operation: Operation, is_own: bool) -> Operation:
    """An operation as a side sees it that did it, or didn't."""
    if is_own or operation.outcome is not Outcome.DONE:
        return operation
    return replace(operation, completed_ns=NEVER, outcome=Outcome.UNKNOWN, result=None)
