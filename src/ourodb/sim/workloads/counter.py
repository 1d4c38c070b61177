"""Counters: in the end each has everything that was acknowledged, and nothing that was never asked for.

An increment that timed out may count or not, but not twice. Clients add at QUORUM, or at LOCAL_QUORUM (``sides``).
"""

from __future__ import annotations

from typing import Final

from ourodb.cql.wire.codes import Consistency
from ourodb.sim.checkers.counters import check_counters
from ourodb.sim.workloads.sides import level_of
from ourodb.sim.workloads.stage import (
    KEYSPACE,
    Reply,
    Script,
    Stage,
    bigint,
    from_bigint,
    insist,
    set_up_tables,
)

CREATE: Final = f"CREATE TABLE IF NOT EXISTS {KEYSPACE}.counters (id bigint PRIMARY KEY, total counter)"
ADD: Final = f"UPDATE {KEYSPACE}.counters SET total = total + ? WHERE id = ?"
READ: Final = f"SELECT total FROM {KEYSPACE}.counters WHERE id = ?"
KEYS: Final = 5


class CounterWorkload:
    """See the module.

    Attributes:
        totals: at the end, by key.
    """

    name = "counter"

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.totals: dict[int, int] = {}

    def set_up(self) -> Script[None]:
        yield from set_up_tables(self._stage, [CREATE])

    def run_client(self, number: int) -> Script[None]:
        stage, history = self._stage, self._stage.history
        client, level = stage.client(number), level_of(stage)
        while not stage.is_over:
            key = stage.random.below(KEYS)
            delta = stage.random.below(7) - 2
            operation = history.invoke(number, "add", key, delta)
            reply: Reply = yield client.execute(ADD, (bigint(delta), bigint(key)), consistency=level)
            history.complete(operation, reply.outcome, None, reply.error_name)
            yield stage.sleep(stage.random.below(20) / 1000)

    def finish(self) -> Script[None]:
        for key in range(KEYS):
            reply = yield from insist(self._stage, READ, (bigint(key),), consistency=Consistency.ALL)
            self.totals[key] = (from_bigint(reply.cell("total")) if reply.rows else None) or 0

    def problems(self) -> list[str]:
        return check_counters(self._stage.history, self.totals)
