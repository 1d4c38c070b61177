"""Tables and keyspaces that come and go: a name is a register of what it names, and rows belong to their table.

Three things are demanded of a history:

1. **One order of changes.** For each name, the changes that were acknowledged, and any of those that are in doubt, can
   be put in an order that fits their times, in which each CREATE finds nothing and everything else finds a table; and
   what nodes show of it once all is healed is what that order leads to: whether there is a table, and which columns
   were added to it. The same for keyspaces: what is added to one are tables, and settings ("factor=3"), each of which
   takes the place of the one before. Just in time, as ``linearizability`` does it: the set of all states that the name
   may be in, after each completion. Changes in doubt of one kind are alike, so only their number counts.
2. **No row of another life.** A row that was acknowledged before a DROP or TRUNCATE began isn't seen, once all is
   healed, by reads that begin after that was acknowledged, whatever was created since. Before, a side of a partition
   without a majority of the metadata log's voters may go on with the table that it knows.
3. **No row lost.** As long as no DROP or TRUNCATE can have happened since it was written, an acknowledged row is seen
   by each later read, the columns that were just added included, unless it was stale itself (see below), or the write
   was: a node that hasn't heard of the DROP yet takes it for the table that was dropped, not for the one that has its
   name now.

Apart from these, refusals and acknowledgements of reads and writes are held against the order of changes: a node that
says that a table doesn't exist, or lacks a column, though one was acknowledged before it was asked, or takes a row for
a table that was dropped, or shows one of it, hasn't heard of a change. Nodes that are cut off may do so. These answers
are *stale*; they are counted, and whoever runs the checker decides how many are too many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from ourodb.sim.checkers.linearizability import TooTangled
from ourodb.sim.history import NEVER, Operation, Outcome

EXISTS: Final = "exists"
MISSING: Final = "missing"
NO_COLUMN: Final = "no column"
"""Why a statement didn't fit, as ``Operation.result``."""

STATES_MAX: Final = 50_000

Columns = frozenset[str]
Table = Columns | None
"""The columns that were added to it; None: there is none."""

_CHANGES: Final = ("create", "drop", "alter", "truncate")

OF_KEYSPACES: Final = {
    "create keyspace": "create",
    "drop keyspace": "drop",
    "alter keyspace": "alter",
    "fill keyspace": "alter",
    "look at keyspace": "look",
}
"""What is done to a keyspace, and what it would be with a table."""


def check_schema(history: Iterable[Operation]) -> tuple[list[str], list[str]]:
    """
    Args:
        history: "create", "drop", "truncate", "alter" (its argument a column that no other adds), "look" (its result a
            ``Table``), "insert" (its argument (row, column), no two with one row), "read" (its argument a row) and
            "scan", whose results are the columns with a value by row. The key is the table's name. The result of
            what didn't fit the schema, and changed nothing, says why. And of keyspaces, whose names are their own:
            "create keyspace", "drop keyspace", "alter keyspace" (its argument a setting), "fill keyspace" (its argument
            a table that no other makes), "look at keyspace" (as "look").
    Returns:
        what was wrong; answers that were stale.
    Raises:
        TooTangled: it can't be told.
    """
    tables: dict[int, list[Operation]] = {}
    keyspaces: dict[int, list[Operation]] = {}
    for operation in history:
        alike = OF_KEYSPACES.get(operation.kind)
        if alike is None:
            tables.setdefault(operation.key, []).append(operation)
        else:
            keyspaces.setdefault(operation.key, []).append(replace(operation, kind=alike))
    problems: list[str] = []
    stale: list[str] = []
    for operations in tables.values():
        _check_changes("table", operations, problems, stale)
        _check_rows(operations, problems, stale)
    for operations in keyspaces.values():
        _check_changes("keyspace", operations, problems, stale)
    return problems, stale


# --- The order of changes


@dataclass(frozen=True, slots=True)
class _State:
    """One possibility.

    Attributes:
        table: what the name names.
        done: of the operations under way, those that took effect, as bits.
        creates, drops: how many of those in doubt took effect.
        alters: those in doubt that did, as bits.
    """

    table: Table
    done: int = 0
    creates: int = 0
    drops: int = 0
    alters: int = 0


@dataclass(slots=True)
class _InDoubt:
    """What may take effect at any moment from now on.

    Attributes:
        creates, drops: how many.
        alters: by bit.
    """

    creates: int = 0
    drops: int = 0
    alters: dict[int, str] = field(default_factory=dict)


def _check_changes(what: str, operations: list[Operation], problems: list[str], stale: list[str]) -> None:
    """
    Args:
        what: the operations are about, all of one name: a table or a keyspace.
    """
    shown = {
        column for one in operations if one.kind == "look" and one.result is not None for column in one.result
    }
    relevant = [one for one in operations if _matters(one, shown)]
    events: list[tuple[int, int, int]] = []
    for number, operation in enumerate(relevant):
        events.append((operation.invoked_ns, 0, number))
        if operation.completed_ns < NEVER:
            events.append((operation.completed_ns, 1, number))
    events.sort()
    pending: dict[int, Operation] = {}
    in_doubt = _InDoubt()
    states = {_State(None): None}
    for _, is_completion, number in events:
        operation = relevant[number]
        if is_completion:
            after = _explained(states, number, pending, in_doubt)
            del pending[number]
            if after and not _is_misfit(operation):
                states = after
                continue
            if not after and operation.kind in (*_CHANGES, "look") and not _is_misfit(operation):
                problems.append(_unexplained(what, operation, states, relevant))
                return
            if not after:
                stale.append(_told_of(what, operation))
            # What may be stale says nothing of what is the case.
            states = {_without(state, 1 << number): None for state in states}
        elif operation.completed_ns < NEVER:
            pending[number] = operation
        elif operation.kind == "alter":
            in_doubt.alters[len(in_doubt.alters)] = operation.argument
        else:
            in_doubt.creates += operation.kind == "create"
            in_doubt.drops += operation.kind == "drop"


def _told_of(what: str, operation: Operation) -> str:
    return f"of a {what}: {operation}"


def _is_misfit(operation: Operation) -> bool:
    return operation.result in (EXISTS, MISSING, NO_COLUMN)


def _matters(operation: Operation, shown: set[str]) -> bool:
    if operation.outcome is not Outcome.UNKNOWN:
        return operation.outcome is Outcome.DONE
    # A change in doubt that nobody can have seen needs no explanation and gives none.
    return operation.kind in ("create", "drop") or (operation.kind == "alter" and operation.argument in shown)


def _without(state: _State, bit: int) -> _State:
    return _State(state.table, state.done & ~bit, state.creates, state.drops, state.alters)


def _explained(
    states: dict[_State, None], number: int, pending: dict[int, Operation], in_doubt: _InDoubt
) -> dict[_State, None]:
    """What may be the case once this operation has taken effect, without its bit."""
    bit = 1 << number
    found: dict[_State, None] = {}
    for first in states:
        start = _looked(first, pending)
        seen = {start}
        stack = [start]
        while stack:
            state = stack.pop()
            if state.done & bit:
                found[_without(state, bit)] = None
                continue
            for step in _steps(state, pending, in_doubt):
                reached = _looked(step, pending)
                if reached not in seen:
                    seen.add(reached)
                    stack.append(reached)
            if len(seen) > STATES_MAX:
                raise TooTangled(f"{len(seen)} states of table {pending[number].key}")
    return _without_dominated(found)


def _looked(state: _State, pending: dict[int, Operation]) -> _State:
    """The same after all who only look, and find what they were told: they change nothing, so the sooner the better."""
    done = state.done
    for number, operation in pending.items():
        if not done >> number & 1 and _change_of(operation) is None and _fits(operation, state.table):
            done |= 1 << number
    return (
        state if done == state.done else _State(state.table, done, state.creates, state.drops, state.alters)
    )


def _steps(state: _State, pending: dict[int, Operation], in_doubt: _InDoubt) -> Iterator[_State]:
    """What may happen next."""
    table, done = state.table, state.done
    for number, operation in pending.items():
        change = _change_of(operation)
        if change is not None and not done >> number & 1 and _fits(operation, table):
            changed = change(table, operation.argument)
            yield _State(changed, done | 1 << number, state.creates, state.drops, state.alters)
    if table is None:
        if state.creates < in_doubt.creates:
            yield _State(frozenset(), done, state.creates + 1, state.drops, state.alters)
        return
    if state.drops < in_doubt.drops:
        yield _State(None, done, state.creates, state.drops + 1, state.alters)
    for bit, column in in_doubt.alters.items():
        if not state.alters >> bit & 1:
            yield _State(_added(table, column), done, state.creates, state.drops, state.alters | 1 << bit)


def _added(table: Table, column: str) -> Table:
    assert table is not None
    setting, is_setting, _ = column.partition("=")
    replaced = {other for other in table if is_setting and other.startswith(f"{setting}=")}
    return (table - replaced) | {column}


_CHANGED: Final[dict[str, Callable[[Table, str], Table]]] = {
    "create": lambda table, _: frozenset(),
    "drop": lambda table, _: None,
    "alter": _added,
}


def _change_of(operation: Operation) -> Callable[[Table, str], Table] | None:
    """What it does to the table; None: it only looks, as what doesn't fit does, and TRUNCATE."""
    return None if _is_misfit(operation) else _CHANGED.get(operation.kind)


def _fits(operation: Operation, table: Table) -> bool:
    """Whether its client can have been told what it was told, if it took effect now."""
    if operation.result == NO_COLUMN:
        missing: str = operation.argument[1]
        return table is None or missing not in table
    if _is_misfit(operation):
        is_there: bool = operation.result == EXISTS
        return is_there == (table is not None)
    if operation.kind == "look":
        shown: Table = operation.result
        return shown == table
    if operation.kind == "insert":
        column: str = operation.argument[1]
        return table is not None and (column == "value" or column in table)
    return (table is None) == (operation.kind == "create")


def _without_dominated(states: dict[_State, None]) -> dict[_State, None]:
    """Whoever is in the same place having used less of what is in doubt can do all that the other can."""
    kept: dict[tuple[Table, int], list[_State]] = {}
    for state in states:
        group = kept.setdefault((state.table, state.done), [])
        if not any(_uses_less(other, state) for other in group):
            group[:] = [other for other in group if not _uses_less(state, other)]
            group.append(state)
    return {state: None for group in kept.values() for state in group}


def _uses_less(one: _State, other: _State) -> bool:
    return (
        one.creates <= other.creates and one.drops <= other.drops and one.alters & other.alters == one.alters
    )


def _unexplained(what: str, operation: Operation, states: Iterable[_State], relevant: list[Operation]) -> str:
    held = sorted({_shown(state.table, what) for state in states})
    around = [
        str(other)
        for other in relevant
        if other.kind in _CHANGES and other is not operation and other.invoked_ns <= operation.completed_ns
    ]
    return (
        f"the changes of {what} {operation.key} have no order: {operation}, when there can only be"
        f" {' or '.join(held)}; changes before: {'; '.join(around[-12:])}"
    )


def _shown(table: Table, what: str) -> str:
    return f"no {what}" if table is None else f"one with {sorted(table)} added"


# --- Rows


def _check_rows(operations: list[Operation], problems: list[str], stale: list[str]) -> None:
    healed_ns = min((one.invoked_ns for one in operations if one.kind == "look"), default=NEVER)
    late = set(stale)
    written = {one.argument[0]: one for one in operations if one.kind == "insert"}
    endings = [
        one
        for one in operations
        if one.kind in ("drop", "truncate") and one.outcome is not Outcome.REFUSED and not _is_misfit(one)
    ]
    for read in operations:
        if read.kind not in ("read", "scan") or read.outcome is not Outcome.DONE or _is_misfit(read):
            continue
        for row, columns in read.result.items():
            write = written.get(row)
            problem = _seen_problem(read, row, columns, write)
            if problem:
                problems.append(problem)
                continue
            assert write is not None
            ending = _ending_between(write, read, endings)
            if ending is None:
                continue
            if read.invoked_ns >= healed_ns:
                problems.append(
                    f"row {row} is seen though its table is gone: {_told(read)}; {write}; {ending}"
                )
            elif _told_of("table", read) not in stale:
                stale.append(_told_of("table", read))
        asked = written if read.kind == "scan" else [read.argument]
        for row in asked:
            write = written.get(row)
            # What was taken for a table that was dropped already isn't looked for in the next one of its name.
            if write is None or row in read.result or _told_of("table", write) in late:
                continue
            missed = _missed_problems(read, write, endings)
            if missed and any(_is_unheard_of(one, write) for one in endings):
                late.add(_told_of("table", write))
                stale.append(_told_of("table", write))
            else:
                problems += missed


def _seen_problem(read: Operation, row: int, columns: tuple[str, ...], write: Operation | None) -> str:
    """What is wrong with a row that a read found, whatever became of its table; empty when nothing is."""
    is_written = write is not None and write.outcome is not Outcome.REFUSED and not _is_misfit(write)
    if write is None or not is_written or write.invoked_ns > read.completed_ns:
        return f"row {row} is seen though it wasn't written: {_told(read)}; {write}"
    if columns != (write.argument[1],):
        return f"row {row} has values in {columns} and not in {write.argument[1]}: {_told(read)}; {write}"
    return ""


def _ending_between(write: Operation, read: Operation, endings: list[Operation]) -> Operation | None:
    """A DROP or TRUNCATE that came after the write and before the read."""
    between = (
        one for one in endings if write.completed_ns < one.invoked_ns and one.completed_ns < read.invoked_ns
    )
    return next(between, None)


def _is_unheard_of(ending: Operation, write: Operation) -> bool:
    """Whether the node that took the write may not have known of a DROP or TRUNCATE that was acknowledged before."""
    return ending.completed_ns <= write.invoked_ns and write.epochs[0] < ending.epochs[1]


def _missed_problems(read: Operation, write: Operation, endings: list[Operation]) -> list[str]:
    if write.outcome is not Outcome.DONE or _is_misfit(write) or write.completed_ns >= read.invoked_ns:
        return []
    if any(one.invoked_ns <= read.completed_ns and one.completed_ns >= write.invoked_ns for one in endings):
        return []
    return [f"row {write.argument[0]} is missed: {_told(read)}; {write}"]


def _told(read: Operation) -> str:
    """A scan without all that it found."""
    return str(read) if read.kind == "read" else f"the scan of table {read.key} at the end"
