"""Lists to which clients append unique elements and which they read as a whole.

Some lists are appended to by plain updates and read at QUORUM; others by conditional updates whose condition always
holds, and read at SERIAL. What each may promise is told in ``checkers.lists``. Lists are left behind after a while, so
that they stay short.
"""

from __future__ import annotations

from typing import Final

from ourodb.cql.types.names import parse_type
from ourodb.cql.wire.codes import Consistency
from ourodb.sim.checkers.lists import check_lists
from ourodb.sim.history import Operation, Outcome
from ourodb.sim.workloads.stage import KEYSPACE, Reply, Script, Stage, bigint, insist, set_up_tables

CREATE: Final = (
    f"CREATE TABLE IF NOT EXISTS {KEYSPACE}.lists (id bigint PRIMARY KEY, last bigint, elements list<bigint>)"
)
APPEND: Final = f"UPDATE {KEYSPACE}.lists SET elements = elements + ? WHERE id = ?"
SERIAL_APPEND: Final = (
    f"UPDATE {KEYSPACE}.lists SET elements = elements + ?, last = ? WHERE id = ? IF last != ?"
)
READ: Final = f"SELECT elements FROM {KEYSPACE}.lists WHERE id = ?"

NOBODY: Final = -1
"""An element that is never appended."""
LISTS: Final = 4
"""At a time; every other one is serial."""
APPENDS_PER_LIST: Final = 40

_LIST: Final = parse_type("list<bigint>")


class AppendWorkload:
    """See the module."""

    name = "append"

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._elements = 0
        self._keys: dict[int, None] = {}

    def set_up(self) -> Script[None]:
        yield from set_up_tables(self._stage, [CREATE])

    def run_client(self, number: int) -> Script[None]:
        stage = self._stage
        while not stage.is_over:
            generation = self._elements // (LISTS * APPENDS_PER_LIST)
            key = generation * LISTS + stage.random.below(LISTS)
            self._keys[key] = None
            if stage.random.below(3):
                yield from self._append(number, key)
            else:
                yield from self._read(number, key)
            yield stage.sleep(stage.random.below(30) / 1000)

    def finish(self) -> Script[None]:
        for key in sorted(self._keys):
            # A serial read completes what was begun; afterwards a plain one at any level must have it too.
            for level in (Consistency.SERIAL if is_serial(key) else Consistency.QUORUM, Consistency.ALL):
                operation = self._stage.history.invoke(0, kind_of("read", key), key)
                reply = yield from insist(self._stage, READ, (bigint(key),), consistency=level)
                self._complete_read(operation, reply)

    def problems(self) -> list[str]:
        history = self._stage.history
        return check_lists(history) + check_lists(history, is_total=True)

    def _append(self, number: int, key: int) -> Script[None]:
        self._elements += 1
        element = self._elements
        values = [_LIST.encode([element]), bigint(key)]
        if is_serial(key):
            values = [values[0], bigint(element), values[1], bigint(NOBODY)]
        operation = self._stage.history.invoke(number, kind_of("append", key), key, element)
        reply: Reply = yield self._stage.client(number).execute(
            SERIAL_APPEND if is_serial(key) else APPEND, values
        )
        self._stage.history.complete(operation, reply.outcome, None, reply.error_name)
        if reply.outcome is Outcome.DONE and is_serial(key):
            assert reply.cell("[applied]") == b"\x01", reply

    def _read(self, number: int, key: int) -> Script[None]:
        operation = self._stage.history.invoke(number, kind_of("read", key), key)
        level = Consistency.SERIAL if is_serial(key) else Consistency.QUORUM
        reply = yield self._stage.client(number).execute(READ, (bigint(key),), consistency=level)
        self._complete_read(operation, reply)

    def _complete_read(self, operation: Operation, reply: Reply) -> None:
        cell = reply.cell("elements") if reply.rows else None
        elements = () if cell is None else tuple(_LIST.decode(cell))
        self._stage.history.complete(operation, reply.outcome, elements, reply.error_name)


def is_serial(key: int) -> bool:
    """Whether a list is appended to on condition."""
    return key % 2 == 1


def kind_of(kind: str, key: int) -> str:
    return f"serial {kind}" if is_serial(key) else kind
