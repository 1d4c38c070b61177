"""Whether serial operations settle what was in doubt before them: a workload and its checker.

A client that is told that nobody knows whether its conditional update was applied asks with a serial read. What that
answers must last: an update that it doesn't show will never be applied. Linearizability alone doesn't ask for that: an
update in doubt may take effect at any later moment. It is what empty proposals are for: the ballot of a read, or of a
failed condition, kills whatever was accepted by a minority under an older one.

Nobody else touches the key of a client here, or the next update would settle what its reads left open.

Source: CASSANDRA-12126.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ourodb.cql.wire.codes import Consistency
from ourodb.sim.history import Operation, Outcome
from ourodb.sim.workloads.register import CREATE, NO_VALUE, READ, WRITE
from ourodb.sim.workloads.stage import NeverDone, Reply, Script, Stage, bigint, from_bigint, set_up_tables

LOOKS: Final = 10
"""Reads after an update that was in doubt."""
CONNECTIONS: Final = 6
"""That a client looks by, in turn."""
ATTEMPTS_MAX: Final = 1_000


class SettlementWorkload:
    """See the module."""

    name = "settlement"

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._last: dict[int, int] = {}

    def set_up(self) -> Script[None]:
        yield from set_up_tables(self._stage, [CREATE])

    def run_client(self, number: int) -> Script[None]:
        stage, client = self._stage, self._stage.client(number)
        while not stage.is_over:
            value = self._last[number] = self._last.get(number, 0) + 1
            operation = stage.history.invoke(number, "write", number, value)
            reply: Reply = yield client.execute(WRITE, (bigint(value), bigint(number), bigint(NO_VALUE)))
            stage.history.complete(operation, reply.outcome, None, reply.error_name)
            if reply.outcome is Outcome.UNKNOWN:
                for _ in range(LOOKS):
                    yield from self._look(number)
            yield stage.sleep(stage.random.below(40) / 1000)

    def finish(self) -> Script[None]:
        for number in sorted(self._last):
            yield from self._look(number)

    def problems(self) -> list[str]:
        return check_settled(self._stage.history)

    def _look(self, number: int) -> Script[None]:
        """Read until it succeeds, each time by another connection: some lead to who doesn't know of the update."""
        stage = self._stage
        operation = stage.history.invoke(number, "read", number)
        for attempt in range(ATTEMPTS_MAX):
            client = stage.client((number + 1) * CONNECTIONS + attempt % CONNECTIONS)
            reply: Reply = yield client.execute(READ, (bigint(number),), consistency=Consistency.SERIAL)
            if reply.error is None:
                value = from_bigint(reply.cell("value")) if reply.rows else None
                stage.history.complete(operation, Outcome.DONE, value)
                return
            yield stage.sleep(0.05)
        raise NeverDone(f"{READ}: {reply.error_name}")


def check_settled(history: Iterable[Operation]) -> list[str]:
    """
    Args:
        history: operations "write" and "read"; each key has one client, which writes ascending numbers.
    Returns:
        what was wrong.
    """
    shown: dict[int, Operation] = {}
    """The last read of each key since its last write."""
    problems = []
    for operation in history:
        if operation.kind == "write":
            shown.pop(operation.key, None)
            continue
        before = shown.get(operation.key, operation)
        if before.result != operation.result:
            problems.append(f"what was settled is changed: {before}; {operation}")
        shown[operation.key] = operation
    return problems
