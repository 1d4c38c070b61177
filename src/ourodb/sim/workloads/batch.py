"""Logged batches of rows in different partitions: each is there as a whole, or not at all.

What a coordinator that died left half done is replayed by whoever keeps the batch, once it is old enough; until then
the workload waits at the end. Clients work at QUORUM, or at LOCAL_QUORUM (``sides``).
"""

from __future__ import annotations

from typing import Final

from ourodb.cql.wire.codes import Consistency
from ourodb.sim.checkers.batches import check_batches
from ourodb.sim.workloads.sides import Side, final_reads, judged, level_of
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

CREATE: Final = f"CREATE TABLE IF NOT EXISTS {KEYSPACE}.batched (id bigint PRIMARY KEY, number bigint)"
INSERT: Final = f"INSERT INTO {KEYSPACE}.batched (id, number) VALUES (?, ?);"
PARTS: Final = 3
BATCH: Final = f"BEGIN BATCH {INSERT * PARTS} APPLY BATCH"
READ_ALL: Final = f"SELECT id, number FROM {KEYSPACE}.batched"

REPLAY_SECONDS_MAX: Final = 60
"""After the last fault, all batches must be whole within this."""


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
        yield from set_up_tables(self._stage, [CREATE])

    def run_client(self, number: int) -> Script[None]:
        stage, history = self._stage, self._stage.history
        client, level = stage.client(number), level_of(stage)
        while not stage.is_over:
            batch, self._next = self._next, self._next + 1
            operation = history.invoke(number, "batch", batch)
            values = [bigint(value) for part in range(PARTS) for value in (batch * PARTS + part, batch)]
            reply: Reply = yield client.execute(BATCH, values, consistency=level)
            history.complete(operation, reply.outcome, None, reply.error_name)
            yield stage.sleep(stage.random.below(40) / 1000)

    def finish(self) -> Script[None]:
        """What was left half done is replayed when it is old enough; until then it is waited for."""
        for _ in range(REPLAY_SECONDS_MAX):
            # A scan isn't one moment: it may meet a batch that is being replayed.
            for side, level, name in final_reads(self._stage):
                yield from self._look(side, level, name)
            if not self.problems():
                break
            yield self._stage.sleep(1.0)

    def problems(self) -> list[str]:
        return judged(self._stage, lambda seen, found: check_batches(seen, found, PARTS), self.found)

    def _look(self, side: Side, level: Consistency, name: str) -> Script[None]:
        _, rows = yield from read_all(self._stage, READ_ALL, consistency=level, number=side.number)
        counts: dict[int, int] = {}
        for row in rows:
            batch = from_bigint(row[1])
            assert batch is not None, row
            counts[batch] = counts.get(batch, 0) + 1
        self.found[name] = counts
