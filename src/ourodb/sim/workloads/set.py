"""A set that only grows: nothing that was acknowledged is ever missing.

Clients insert unique elements at QUORUM, and now and then look for one that was acknowledged before, at QUORUM:
it must be there at once. At the end all elements are read, at QUORUM and at ALL. Or at LOCAL_QUORUM (``sides``).
"""

from __future__ import annotations

from typing import Final

from ourodb.sim.checkers.sets import check_set
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

CREATE: Final = f"CREATE TABLE IF NOT EXISTS {KEYSPACE}.elements (id bigint PRIMARY KEY, writer bigint)"
INSERT: Final = f"INSERT INTO {KEYSPACE}.elements (id, writer) VALUES (?, ?)"
LOOK_UP: Final = f"SELECT id FROM {KEYSPACE}.elements WHERE id = ?"
READ_ALL: Final = f"SELECT id FROM {KEYSPACE}.elements"


class SetWorkload:
    """See the module.

    Attributes:
        found: at the end, by the name of the final read.
    """

    name = "set"

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._next = 0
        self._acknowledged: list[int] = []
        self.found: dict[str, set[int]] = {}

    def set_up(self) -> Script[None]:
        yield from set_up_tables(self._stage, [CREATE])

    def run_client(self, number: int) -> Script[None]:
        stage, history = self._stage, self._stage.history
        client, level = stage.client(number), level_of(stage)
        while not stage.is_over:
            if self._acknowledged and stage.random.below(4) == 0:
                element = self._acknowledged[stage.random.below(len(self._acknowledged))]
                operation = history.invoke(number, "look up", element)
                reply: Reply = yield client.execute(LOOK_UP, (bigint(element),), consistency=level)
                history.complete(operation, reply.outcome, bool(reply.rows), reply.error_name)
            else:
                element, self._next = self._next, self._next + 1
                operation = history.invoke(number, "insert", element)
                values = (bigint(element), bigint(number))
                reply = yield client.execute(INSERT, values, consistency=level)
                history.complete(operation, reply.outcome, None, reply.error_name)
                if reply.outcome is Outcome.DONE:
                    self._acknowledged.append(element)
            yield stage.sleep(stage.random.below(20) / 1000)

    def finish(self) -> Script[None]:
        for side, level, name in final_reads(self._stage):
            _, rows = yield from read_all(self._stage, READ_ALL, consistency=level, number=side.number)
            elements = [from_bigint(row[0]) for row in rows]
            self.found[name] = {element for element in elements if element is not None}

    def problems(self) -> list[str]:
        return judged(self._stage, check_set, self.found)
