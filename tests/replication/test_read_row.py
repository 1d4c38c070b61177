"""A point read of what isn't in memory waits for the store, and goes on with what was fetched.

If this fails, a cold row is answered as missing, or freezes the node.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.cql.plan.selecting import NOW_S, int_bytes, options, schema_of, split_row
from tests.storage.tables import PLAIN

from ourodb.cql.analysis.terms import Context
from ourodb.cql.plan.select import SelectPlan
from ourodb.cql.syntax.parser import parse
from ourodb.ports import LATER, Later
from ourodb.replication.coordinator.read import read_row
from ourodb.storage.memory import MemoryStore
from ourodb.storage.mutation import MutationBuilder
from ourodb.storage.row import Wait
from ourodb.storage.rows import Rows


class ColdStore(MemoryStore):
    """Answers LATER for every key that wasn't fetched before."""

    def __init__(self) -> None:
        super().__init__()
        self.is_cold = False
        self.warm: list[bytes] = []

    def get(self, family: int, key: bytes) -> bytes | None | Later:
        if self.is_cold and key not in self.warm:
            return LATER
        return super().get(family, key)

    def fetch(self, family: int, key: bytes, done: Callable[[bytes | None | Exception], None]) -> None:
        self.warm.append(key)
        super().fetch(family, key, done)


def test_a_cold_row_is_waited_for() -> None:
    store = ColdStore()
    rows = Rows(store).register(PLAIN)
    builder = MutationBuilder(rows.keys, rows.keys.position([int_bytes(1)]), 1, NOW_S)
    row = builder.row([int_bytes(2)])
    row.marker()
    row.cell(PLAIN.columns["v"], int_bytes(3))
    mutation = builder.build()
    assert mutation is not None
    assert rows.apply(mutation, NOW_S) is None
    text = "SELECT v FROM t WHERE p = ? AND c = ?"
    statement = parse(text)
    plan = SelectPlan(statement, PLAIN, rows.keys, Context(schema_of(PLAIN), "ks", statement.markers), text)
    values = [int_bytes(1), int_bytes(2)]
    store.is_cold = True
    waits = 0
    found = read_row(plan, values, options(), rows)
    while isinstance(found, Wait):
        waits += 1
        store.fetch(0, found.key, lambda value: None)
        found = read_row(plan, values, options(), rows)
    assert waits >= 1
    assert found is not None
    assert split_row(found) == [int_bytes(3)]
