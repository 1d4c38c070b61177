"""Versions that only grow: quorum reads never go back in time.

Each key has one writer, which writes the versions 1, 2, 3, ... at QUORUM with its own timestamps, whatever
became of the one before. Everybody reads, at QUORUM, by whatever node. Or at LOCAL_QUORUM (``sides``): then the reads
of each data centre never go back in time, those of what another one writes included.
"""

from __future__ import annotations

from typing import Final

from ourodb.sim.checkers.monotonic import check_monotonic
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

CREATE: Final = f"CREATE TABLE IF NOT EXISTS {KEYSPACE}.versions (id bigint PRIMARY KEY, version bigint)"
WRITE: Final = f"UPDATE {KEYSPACE}.versions USING TIMESTAMP ? SET version = ? WHERE id = ?"
READ: Final = f"SELECT version FROM {KEYSPACE}.versions WHERE id = ?"


class MonotonicWorkload:
    """See the module. Client n writes key n."""

    name = "monotonic"

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._versions: dict[int, int] = {}

    def set_up(self) -> Script[None]:
        yield from set_up_tables(self._stage, [CREATE])

    def run_client(self, number: int) -> Script[None]:
        stage, history = self._stage, self._stage.history
        client, level = stage.client(number), level_of(stage)
        self._versions[number] = 0
        while not stage.is_over:
            if stage.random.below(3) == 0:
                version = self._versions[number] = self._versions[number] + 1
                operation = history.invoke(number, "write", number, version)
                values = (bigint(version), bigint(version), bigint(number))
                reply: Reply = yield client.execute(WRITE, values, consistency=level)
                history.complete(operation, reply.outcome, None, reply.error_name)
            else:
                keys = sorted(self._versions)
                key = keys[stage.random.below(len(keys))]
                operation = history.invoke(number, "read", key)
                reply = yield client.execute(READ, (bigint(key),), consistency=level)
                history.complete(operation, reply.outcome, _version(reply), reply.error_name)
            yield stage.sleep(stage.random.below(20) / 1000)

    def finish(self) -> Script[None]:
        history = self._stage.history
        for key in sorted(self._versions):
            for side, level, _ in final_reads(self._stage):
                operation = history.invoke(side.number, "read", key)
                reply = yield from insist(
                    self._stage, READ, (bigint(key),), number=side.number, consistency=level
                )
                history.complete(operation, reply.outcome, _version(reply))

    def problems(self) -> list[str]:
        return judged(self._stage, lambda seen, _: check_monotonic(seen), {})


def _version(reply: Reply) -> int:
    """0 when there is none."""
    return (from_bigint(reply.cell("version")) if reply.rows else None) or 0
