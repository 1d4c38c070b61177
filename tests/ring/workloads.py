"""Workloads beside those of the simulator, for the same stage: what is deleted stays so, and batches are whole or not
there at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Final

from ourodb.cql.wire.codes import Consistency
from ourodb.sim.history import Operation, Outcome
from ourodb.sim.workloads.stage import KEYSPACE, Script, Stage, bigint, from_bigint, read_all, set_up_tables

CREATE_DELETED: Final = f"CREATE TABLE IF NOT EXISTS {KEYSPACE}.deleted (id bigint PRIMARY KEY, value bigint)"
INSERT: Final = f"INSERT INTO {KEYSPACE}.deleted (id, value) VALUES (?, ?)"
DELETE: Final = f"DELETE FROM {KEYSPACE}.deleted WHERE id = ?"
LOOK_UP: Final = f"SELECT id FROM {KEYSPACE}.deleted WHERE id = ?"
READ_ALL: Final = f"SELECT id FROM {KEYSPACE}.deleted"

CREATE_BATCHES: Final = (
    f"CREATE TABLE IF NOT EXISTS {KEYSPACE}.batched (id bigint PRIMARY KEY, number bigint)"
)
INSERT_PART: Final = f"INSERT INTO {KEYSPACE}.batched (id, number) VALUES (?, ?);"
PARTS: Final = 3
BATCH: Final = f"BEGIN BATCH {INSERT_PART * PARTS} APPLY BATCH"
READ_BATCHES: Final = f"SELECT id, number FROM {KEYSPACE}.batched"

KEPT_DELETED: Final = 200
"""Of each client, among which it looks for one that came back."""
REPLAY_SECONDS_MAX: Final = 60
"""After the last fault, all batches must be whole within this."""


class DeletionWorkload:
    """Each element is inserted once, and then deleted, at QUORUM, by the same client. Once the deletion is
    acknowledged nobody may see the element again.

    Attributes:
        found: the elements that each of the final reads gave, by its name.
    """

    name = "deletion"

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._next = 0
        self._deleted: list[int] = []
        self.found: dict[str, set[int]] = {}

    def set_up(self) -> Script[None]:
        yield from set_up_tables(self._stage, [CREATE_DELETED])

    def run_client(self, number: int) -> Script[None]:
        stage, history = self._stage, self._stage.history
        client = stage.client(number)
        inserted: list[int] = []
        while not stage.is_over:
            drawn = stage.random.below(3)
            if drawn == 0 or not inserted:
                element, self._next = self._next, self._next + 1
                operation = history.invoke(number, "put", element)
                reply = yield client.execute(INSERT, (bigint(element), bigint(number)))
                history.complete(operation, reply.outcome, None, reply.error_name)
                inserted.append(element)
            elif drawn == 1:
                element = inserted.pop(stage.random.below(len(inserted)))
                operation = history.invoke(number, "delete", element)
                reply = yield client.execute(DELETE, (bigint(element),))
                history.complete(operation, reply.outcome, None, reply.error_name)
                if reply.outcome is Outcome.DONE:
                    self._deleted.append(element)
            else:
                recent = self._deleted[-KEPT_DELETED:]
                element = recent[stage.random.below(len(recent))] if recent else inserted[0]
                operation = history.invoke(number, "look for", element)
                reply = yield client.execute(LOOK_UP, (bigint(element),))
                history.complete(operation, reply.outcome, bool(reply.rows), reply.error_name)
            yield stage.sleep(stage.random.below(20) / 1000)

    def finish(self) -> Script[None]:
        for level in (Consistency.QUORUM, Consistency.ALL):
            _, rows = yield from read_all(self._stage, READ_ALL, consistency=level)
            self.found[level.name] = {element for row in rows if (element := from_bigint(row[0])) is not None}

    def problems(self) -> list[str]:
        return check_deletions(self._stage.history, self.found)


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


class BatchWorkload:
    """Logged batches of rows in different partitions.

    Attributes:
        found: in the end, how many rows there are of each batch, by the name of the final read.
    """

    name = "batch"

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._next = 0
        self.found: dict[str, dict[int, int]] = {}

    def set_up(self) -> Script[None]:
        yield from set_up_tables(self._stage, [CREATE_BATCHES])

    def run_client(self, number: int) -> Script[None]:
        stage, history = self._stage, self._stage.history
        client = stage.client(number)
        while not stage.is_over:
            batch, self._next = self._next, self._next + 1
            operation = history.invoke(number, "batch", batch)
            values = [bigint(value) for part in range(PARTS) for value in (batch * PARTS + part, batch)]
            reply = yield client.execute(BATCH, values)
            history.complete(operation, reply.outcome, None, reply.error_name)
            yield stage.sleep(stage.random.below(40) / 1000)

    def finish(self) -> Script[None]:
        """What was left half done is replayed when it is old enough; until then it is waited for."""
        for _ in range(REPLAY_SECONDS_MAX):
            # A scan isn't one moment: it may meet a batch that is being replayed.
            yield from self._look("QUORUM", Consistency.QUORUM)
            yield from self._look("ALL", Consistency.ALL)
            if not check_batches(self._stage.history, self.found):
                break
            yield self._stage.sleep(1.0)

    def problems(self) -> list[str]:
        return check_batches(self._stage.history, self.found)

    def _look(self, name: str, level: Consistency) -> Script[None]:
        _, rows = yield from read_all(self._stage, READ_BATCHES, consistency=level)
        counts: dict[int, int] = {}
        for row in rows:
            batch = from_bigint(row[1])
            assert batch is not None, row
            counts[batch] = counts.get(batch, 0) + 1
        self.found[name] = counts


def check_batches(history: Iterable[Operation], found: Mapping[str, Mapping[int, int]]) -> list[str]:
    """
    Args:
        history: operations "batch"; the key is the batch.
        found: how many rows each of the final reads gave of each batch, by its name.
    Returns:
        what was wrong.
    """
    batches = {operation.key: operation for operation in history if operation.kind == "batch"}
    problems = []
    for name, counts in found.items():
        for batch, operation in batches.items():
            count = counts.get(batch, 0)
            if count not in (0, PARTS):
                problems.append(f"at {name} a batch is there in part, {count} of {PARTS}: {operation}")
            elif not count and operation.outcome is Outcome.DONE:
                problems.append(f"at {name} an acknowledged batch is missing: {operation}")
            elif count and operation.outcome is Outcome.REFUSED:
                problems.append(f"at {name} a batch is there that was refused: {operation}")
    return problems
