"""Every read of a table gives what the writes before it made of the table.

A history of writes, each to one partition, and of SELECTs is gone through in order of time, and the writes are applied
to a model (``checkers.rows``). A read is judged when no write to a partition in its reach was under way at any moment
of it: then there is one thing that it can give, but for cells that are about to expire, which it may see or not. A
client that repeats an unknown write until it is acknowledged has one operation all that time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Final

from ourodb.sim.checkers.rows import Key, RowModel, Shape
from ourodb.sim.checkers.selects import ResultRow, Select
from ourodb.sim.history import NEVER, Operation, Outcome

EXPIRING_MAX: Final = 6
"""A read in whose reach more may expire isn't judged: there are too many things that it may give."""
TOLD_MAX: Final = 5
"""Wrong reads that are told one by one."""


@dataclass(slots=True)
class Judgement:
    """What came of a history.

    Attributes:
        problems: what was wrong.
        stale: what was wrong with reads that needn't be right ("look").
        judged: reads that were compared.
    """

    problems: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    judged: int = 0


@dataclass(slots=True)
class _Table:
    """A table while its history is gone through.

    Attributes:
        busy: how many writes are under way, by partition.
        begun: how many writes have begun so far, by partition.
    """

    model: RowModel
    busy: dict[Key, int] = field(default_factory=dict)
    begun: dict[Key, int] = field(default_factory=dict)

    def begun_in(self, select: Select) -> int | None:
        """Writes begun in the reach of a read; None while one of them is under way."""
        keys = list(self.begun) if select.keys is None else select.keys
        if any(self.busy.get(key) for key in keys):
            return None
        return sum(self.begun.get(key, 0) for key in keys)


def check_tables(history: Iterable[Operation], shapes: Mapping[str, Shape]) -> Judgement:
    """
    Args:
        history: operations "write", whose argument is a ``Write``; "read", "scan" and "look", whose argument is a
            ``Select`` and whose result is its rows.
        shapes: of the tables, by name.
    """
    judgement = Judgement()
    tables = {name: _Table(RowModel(shape)) for name, shape in shapes.items()}
    begun: dict[int, int | None] = {}
    for is_completion, operation in _in_order(history):
        table = tables[operation.argument.table]
        if operation.kind == "write":
            key = operation.argument.key
            if not is_completion:
                table.busy[key] = table.busy.get(key, 0) + 1
                table.begun[key] = table.begun.get(key, 0) + 1
                continue
            table.busy[key] -= 1
            if operation.outcome is Outcome.DONE:
                table.model.apply(operation.argument)
        elif not is_completion:
            begun[id(operation)] = table.begun_in(operation.argument)
        elif operation.outcome is Outcome.DONE:
            before = begun[id(operation)]
            if before is not None and before == table.begun_in(operation.argument):
                _judge(operation, table.model, judgement)
    for told in (judgement.problems, judgement.stale):
        if len(told) > TOLD_MAX:
            told[TOLD_MAX:] = [f"and {len(told) - TOLD_MAX} more reads are wrong"]
    return judgement


def _in_order(history: Iterable[Operation]) -> Iterator[tuple[bool, Operation]]:
    """Beginnings and ends of operations; what happens at one moment overlaps: beginnings go first."""
    events: list[tuple[int, bool, int, Operation]] = []
    for number, operation in enumerate(history):
        events.append((operation.invoked_ns, False, number, operation))
        if operation.completed_ns < NEVER:
            events.append((operation.completed_ns, True, number, operation))
    events.sort(key=lambda event: event[:3])
    for _, is_completion, _, operation in events:
        yield is_completion, operation


def _judge(operation: Operation, model: RowModel, judgement: Judgement) -> None:
    select: Select = operation.argument
    reach = [model.partitions[key] for key in select.reach(model) if key in model.partitions]
    expiring = sorted({expiry for partition in reach for expiry in partition.expiring()})
    if len(expiring) > EXPIRING_MAX:
        return
    judgement.judged += 1
    for count in range(len(expiring) + 1):
        for dead in combinations(expiring, count):
            if select.answer(model, frozenset(dead)) == operation.result:
                return
    told = judgement.stale if operation.kind == "look" else judgement.problems
    told.append(_told(operation, model, bool(expiring)))


def _told(operation: Operation, model: RowModel, is_one_of_several: bool) -> str:
    select: Select = operation.argument
    expected = select.answer(model, frozenset())
    found: list[ResultRow] = operation.result
    parts = [f"a read is wrong: {operation}", f"expected{', for one,' * is_one_of_several} {expected}"]
    parts += [f"missing {row}" for row in expected if row not in found]
    parts += [f"unexpected {row}" for row in found if row not in expected]
    if select.keys is not None and len(select.keys) == 1 and select.keys[0] in model.partitions:
        parts.append("after " + "; ".join(map(str, model.partitions[select.keys[0]].writes)))
    return "\n    ".join(parts)
