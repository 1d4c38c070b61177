"""Counters: at every read, and in the end, each has all that was acknowledged, and nothing that was never asked for.

An increment that timed out may count or not, but not twice. Clients add and read at QUORUM, or at LOCAL_QUORUM
(``sides``); in the end all is read at that level and at ALL.
"""

from __future__ import annotations

from typing import Final

from ourodb.sim.checkers.counters import check_counter_reads, check_counters
from ourodb.sim.workloads.sides import final_reads, judged, level_of
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
READ_ONE_IN: Final = 4
"""So seldom a client reads instead of adding."""


class CounterWorkload:
    """See the module.

    Attributes:
        totals: in the end, at ALL, by key.
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
            if stage.random.below(READ_ONE_IN):
                delta = stage.random.below(7) - 2
                operation = history.invoke(number, "add", key, delta)
                reply: Reply = yield client.execute(ADD, (bigint(delta), bigint(key)), consistency=level)
                history.complete(operation, reply.outcome, None, reply.error_name)
            else:
                operation = history.invoke(number, "read", key)
                reply = yield client.execute(READ, (bigint(key),), consistency=level)
                history.complete(operation, reply.outcome, _total(reply), reply.error_name)
            yield stage.sleep(stage.random.below(20) / 1000)

    def finish(self) -> Script[None]:
        history = self._stage.history
        for key in range(KEYS):
            for side, level, _ in final_reads(self._stage):
                operation = history.invoke(side.number, "read", key)
                reply = yield from insist(
                    self._stage, READ, (bigint(key),), number=side.number, consistency=level
                )
                history.complete(operation, reply.outcome, _total(reply))
                # The last is at ALL, to which what either side has acknowledged counts.
                self.totals[key] = _total(reply)

    def problems(self) -> list[str]:
        reads = judged(self._stage, lambda seen, _: check_counter_reads(seen), {})
        return reads + check_counters(self._stage.history, self.totals)


def _total(reply: Reply) -> int:
    """0 when there is none."""
    return (from_bigint(reply.cell("total")) if reply.rows else None) or 0
