"""Conditional updates in doubt, and whether what is asked next settles them.

A client that is told that nobody knows whether its conditional update was applied looks what there is, by serial reads
and by updates whose condition never holds. What it is shown must last (see the checker). It looks many times, through
nodes that have accepted the update and through others.

Nobody else touches the key of a client, or the next update would settle what its looks left open. When a client is told
nothing at all, the coordinator may still be at work on the update, and could rightly propose it later; then the client
leaves the key behind.
"""

from __future__ import annotations

from typing import Final

from ourodb.cql.wire.codes import Consistency
from ourodb.sim.checkers.settlement import check_settled
from ourodb.sim.history import Operation, Outcome
from ourodb.sim.workloads.stage import (
    KEYSPACE,
    NoAnswer,
    Reply,
    Script,
    Stage,
    bigint,
    from_bigint,
    insist,
    set_up_tables,
)

CREATE: Final = f"CREATE TABLE IF NOT EXISTS {KEYSPACE}.settled (id bigint PRIMARY KEY, value bigint)"
READ: Final = f"SELECT value FROM {KEYSPACE}.settled WHERE id = ?"
WRITE: Final = f"UPDATE {KEYSPACE}.settled SET value = ? WHERE id = ? IF value != ?"
FAIL: Final = f"UPDATE {KEYSPACE}.settled SET value = ? WHERE id = ? IF value = ?"

NO_VALUE: Final = -1
"""A value that is never written."""
LOOKS: Final = 10
"""After an update that is in doubt."""
PATIENCE_S: Final = 8.0
"""A coordinator says sooner that it has given an update up."""
LOOKERS: Final = 6
"""Connections by which a client looks, each to a node of its own choice."""
LOOKERS_FROM: Final = 1_000
"""They are numbered from here on, after those of all clients."""


class SettlementWorkload:
    """See the module."""

    name = "settlement"

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._keys = 0

    def set_up(self) -> Script[None]:
        yield from set_up_tables(self._stage, [CREATE])

    def run_client(self, number: int) -> Script[None]:
        stage, client = self._stage, self._stage.client(number)
        key, value = self._new_key(), 0
        while not stage.is_over:
            value += 1
            operation = stage.history.invoke(number, "write", key, value)
            reply: Reply = yield client.execute(
                WRITE, (bigint(value), bigint(key), bigint(NO_VALUE)), timeout_s=PATIENCE_S
            )
            stage.history.complete(operation, reply.outcome, None, reply.error_name)
            looks = LOOKS if reply.outcome is Outcome.UNKNOWN else 1
            if isinstance(reply.error, NoAnswer):
                key, value, looks = self._new_key(), 0, 1
            for _ in range(looks):
                yield from self._look(number, key)

    def finish(self) -> Script[None]:
        """Every key is looked at once more, and must answer."""
        for key in range(self._keys):
            operation = self._stage.history.invoke(0, "look", key)
            reply = yield from insist(self._stage, READ, (bigint(key),), consistency=Consistency.SERIAL)
            self._complete_look(operation, reply)

    def problems(self) -> list[str]:
        return check_settled(self._stage.history)

    def _look(self, number: int, key: int) -> Script[None]:
        """Look until it succeeds, or the stage is over."""
        stage = self._stage
        outcome = Outcome.UNKNOWN
        while outcome is not Outcome.DONE and not stage.is_over:
            looker = LOOKERS_FROM + number * LOOKERS + stage.random.below(LOOKERS)
            client = stage.client(looker)
            operation = stage.history.invoke(looker, "look", key)
            reply: Reply
            if stage.random.below(2):
                reply = yield client.execute(READ, (bigint(key),), consistency=Consistency.SERIAL)
            else:
                reply = yield client.execute(FAIL, (bigint(NO_VALUE), bigint(key), bigint(NO_VALUE)))
                assert reply.error is not None or reply.cell("[applied]") == b"\x00", reply
            self._complete_look(operation, reply)
            outcome = reply.outcome
            yield stage.sleep(stage.random.below(40) / 1000)

    def _complete_look(self, operation: Operation, reply: Reply) -> None:
        value = from_bigint(reply.cell("value")) if reply.rows else None
        self._stage.history.complete(operation, reply.outcome, value, reply.error_name)

    def _new_key(self) -> int:
        self._keys += 1
        return self._keys - 1
