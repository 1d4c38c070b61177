"""Registers under compare-and-set: every history of every key is linearizable.

All operations are serial: reads at SERIAL, writes and compare-and-sets as conditional updates. A plain write is
an update whose condition always holds. Keys are left behind after a while, so that the history of each stays
short enough to be checked.
"""

from __future__ import annotations

from typing import Final

from ourodb.cql.wire.codes import Consistency
from ourodb.sim.checkers.linearizability import check_registers
from ourodb.sim.history import Operation, Outcome
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

CREATE: Final = f"CREATE TABLE IF NOT EXISTS {KEYSPACE}.registers (id bigint PRIMARY KEY, value bigint)"
READ: Final = f"SELECT value FROM {KEYSPACE}.registers WHERE id = ?"
WRITE: Final = f"UPDATE {KEYSPACE}.registers SET value = ? WHERE id = ? IF value != ?"
COMPARE_AND_SET: Final = f"UPDATE {KEYSPACE}.registers SET value = ? WHERE id = ? IF value = ?"

NO_VALUE: Final = -1
"""A value that is never written."""
KEYS: Final = 3
OPERATIONS_PER_KEY: Final = 120


class RegisterWorkload:
    """See the module."""

    name = "register"

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._values = 0
        self._started = 0
        self._seen: dict[int, int | None] = {}
        """What somebody saw of a key lately; compare-and-sets expect it."""

    def set_up(self) -> Script[None]:
        yield from set_up_tables(self._stage, [CREATE])

    def run_client(self, number: int) -> Script[None]:
        stage = self._stage
        while not stage.is_over:
            self._started += 1
            generation = self._started // (KEYS * OPERATIONS_PER_KEY)
            key = generation * KEYS + stage.random.below(KEYS)
            drawn = stage.random.below(10)
            if drawn < 4:
                yield from self._read(number, key)
            elif drawn < 7:
                yield from self._write(number, key)
            else:
                yield from self._compare_and_set(number, key)
            yield stage.sleep(stage.random.below(30) / 1000)

    def finish(self) -> Script[None]:
        """Every key is read once more, and must answer."""
        for key in sorted(self._seen):
            operation = self._stage.history.invoke(0, "read", key)
            reply = yield from insist(self._stage, READ, (bigint(key),), consistency=Consistency.SERIAL)
            self._complete_read(operation, reply)

    def problems(self) -> list[str]:
        return check_registers(self._stage.history)

    def _read(self, number: int, key: int) -> Script[None]:
        operation = self._stage.history.invoke(number, "read", key)
        client = self._stage.client(number)
        reply = yield client.execute(READ, (bigint(key),), consistency=Consistency.SERIAL)
        self._complete_read(operation, reply)

    def _complete_read(self, operation: Operation, reply: Reply) -> None:
        value = from_bigint(reply.cell("value")) if reply.rows else None
        self._stage.history.complete(operation, reply.outcome, value, reply.error_name)
        if reply.outcome is Outcome.DONE:
            self._seen[operation.key] = value

    def _write(self, number: int, key: int) -> Script[None]:
        value = self._new_value()
        operation = self._stage.history.invoke(number, "write", key, value)
        reply: Reply = yield self._stage.client(number).execute(
            WRITE, (bigint(value), bigint(key), bigint(NO_VALUE))
        )
        self._stage.history.complete(operation, reply.outcome, None, reply.error_name)
        if reply.outcome is Outcome.DONE:
            assert reply.cell("[applied]") == b"\x01", reply
            self._seen[key] = value

    def _compare_and_set(self, number: int, key: int) -> Script[None]:
        """Its result is (whether it was applied, what was there instead)."""
        expected, value = self._seen.get(key), self._new_value()
        operation = self._stage.history.invoke(number, "cas", key, (expected, value))
        condition = None if expected is None else bigint(expected)
        reply: Reply = yield self._stage.client(number).execute(
            COMPARE_AND_SET, (bigint(value), bigint(key), condition)
        )
        if reply.outcome is not Outcome.DONE:
            self._stage.history.complete(operation, reply.outcome, None, reply.error_name)
            return
        applied = reply.cell("[applied]") == b"\x01"
        found = from_bigint(reply.cell("value"))
        self._stage.history.complete(operation, Outcome.DONE, (applied, found))
        self._seen[key] = value if applied else found

    def _new_value(self) -> int:
        self._values += 1
        return self._values
