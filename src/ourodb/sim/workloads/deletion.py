"""Elements that are inserted, deleted, and never seen again.

Both have timestamps of their own, so that the deletion is the later one whatever the clocks of the nodes say.
They work at QUORUM, or at LOCAL_QUORUM (``sides``).
"""

from __future__ import annotations

from typing import Final

from ourodb.sim.checkers.deletions import check_deletions
from ourodb.sim.history import Outcome
from ourodb.sim.workloads.sides import final_reads, judged, level_of
from ourodb.sim.workloads.stage import (
    KEYSPACE,
    Reply,
    Script,
    Stage,
    bigint,
    from_bigint,
    read_all,
    set_up_tables,
)

CREATE: Final = f"CREATE TABLE IF NOT EXISTS {KEYSPACE}.deleted (id bigint PRIMARY KEY, value bigint)"
INSERT: Final = f"INSERT INTO {KEYSPACE}.deleted (id, value) VALUES (?, ?) USING TIMESTAMP 1"
DELETE: Final = f"DELETE FROM {KEYSPACE}.deleted USING TIMESTAMP 2 WHERE id = ?"
LOOK_UP: Final = f"SELECT id FROM {KEYSPACE}.deleted WHERE id = ?"
READ_ALL: Final = f"SELECT id FROM {KEYSPACE}.deleted"

REMEMBERED: Final = 200
"""Elements deleted last, among which clients look for one that came back."""


class DeletionWorkload:
    """Each element is inserted once, and then deleted, by the same client. Once the deletion is acknowledged nobody
    may see the element again.

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
        yield from set_up_tables(self._stage, [CREATE])

    def run_client(self, number: int) -> Script[None]:
        stage, history = self._stage, self._stage.history
        client, level = stage.client(number), level_of(stage)
        inserted: list[int] = []
        while not stage.is_over:
            drawn = stage.random.below(3)
            if drawn == 0 or not inserted:
                element, self._next = self._next, self._next + 1
                operation = history.invoke(number, "put", element)
                values = (bigint(element), bigint(number))
                reply: Reply = yield client.execute(INSERT, values, consistency=level)
                history.complete(operation, reply.outcome, None, reply.error_name)
                inserted.append(element)
            elif drawn == 1:
                element = inserted.pop(stage.random.below(len(inserted)))
                operation = history.invoke(number, "delete", element)
                reply = yield client.execute(DELETE, (bigint(element),), consistency=level)
                history.complete(operation, reply.outcome, None, reply.error_name)
                if reply.outcome is Outcome.DONE:
                    self._deleted.append(element)
            else:
                recent = self._deleted[-REMEMBERED:]
                element = recent[stage.random.below(len(recent))] if recent else inserted[0]
                operation = history.invoke(number, "look for", element)
                reply = yield client.execute(LOOK_UP, (bigint(element),), consistency=level)
                history.complete(operation, reply.outcome, bool(reply.rows), reply.error_name)
            yield stage.sleep(stage.random.below(20) / 1000)

    def finish(self) -> Script[None]:
        for side, level, name in final_reads(self._stage):
            _, rows = yield from read_all(self._stage, READ_ALL, consistency=level, number=side.number)
            self.found[name] = {element for row in rows if (element := from_bigint(row[0])) is not None}

    def problems(self) -> list[str]:
        return judged(self._stage, check_deletions, self.found)
