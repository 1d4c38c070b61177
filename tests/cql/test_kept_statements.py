"""Which compiled statements are kept.

If this fails, statements that are in use are forgotten and prepared anew all the time, or those of one client take all
the memory of a node.
"""

from __future__ import annotations

import pytest
from tests.writes.ring import Ring

from ourodb.cql.wire.client_messages import encode_batch, encode_execute, encode_prepare
from ourodb.cql.wire.codes import BATCH, BATCH_LOGGED, EXECUTE, PREPARE, Consistency
from ourodb.cql.wire.requests import Batch, BatchStatement, QueryParameters
from ourodb.session.statements import PreparedStatement, PreparedStatements, StatementCache, plan_bytes
from ourodb.sim.client import Wire


def prepared(text: str) -> PreparedStatement[str]:
    return PreparedStatement(text.encode(), text, None, text, 1)


def test_prepared_statements_are_bounded_by_what_their_plans_take() -> None:
    """A text of 130 KB may have a plan of 35 MB."""
    kept: PreparedStatements[str] = PreparedStatements(bytes_max=3 * plan_bytes("x" * 100))
    texts = [f"{at:0100}" for at in range(4)]
    for text in texts:
        kept.add(prepared(text))
    assert kept.get(texts[0].encode()) is None
    assert all(kept.get(text.encode()) for text in texts[1:])
    assert kept.evicted == 1
    kept.remove(texts[1].encode())
    kept.add(prepared(texts[0]))
    assert kept.evicted == 1


def test_the_newest_is_kept_however_large() -> None:
    """Its client would prepare it for ever."""
    kept: PreparedStatements[str] = PreparedStatements(bytes_max=plan_bytes("x"))
    kept.add(prepared("a"))
    kept.add(prepared("a long one"))
    assert kept.get(b"a long one")
    assert len(kept) == 1


def test_cached_statements_are_bounded_by_what_their_plans_take() -> None:
    kept: StatementCache[str] = StatementCache(bytes_max=2 * plan_bytes("a"))
    kept.get("a", None, 1)
    for text in "abc":
        for _ in range(2):
            kept.offer(text, None, 1, text)
    assert [kept.get(text, None, 1) for text in "abc"] == [None, "b", "c"]
    kept.get("b", None, 2)
    for text in "de":
        for _ in range(2):
            kept.offer(text, None, 2, text)
    assert [kept.get(text, None, 2) for text in "bcde"] == [None, None, "d", "e"]


@pytest.mark.parametrize("used_by", ["PREPARE", "EXECUTE", "BATCH"])
def test_what_is_used_stays(used_by: str) -> None:
    ring = Ring(1)
    ring.set_up("CREATE TABLE ks.t (k int PRIMARY KEY)", factor=1)
    processor = ring.node(0).processor
    processor.prepared = PreparedStatements(count_max=2)
    first, second, third = (f"INSERT INTO ks.t (k) VALUES ({key})" for key in range(3))
    used = processor.prepare(first, None).id
    processor.prepare(second, None)
    parameters = QueryParameters(Consistency.ONE, False, [])
    bodies = {
        "PREPARE": (PREPARE, encode_prepare(5, first)),
        "EXECUTE": (EXECUTE, encode_execute(5, used, used, parameters)),
        "BATCH": (BATCH, encode_batch(5, Batch(BATCH_LOGGED, [BatchStatement(None, used, [])], parameters))),
    }
    wire = Wire(ring.world, ring.world.new_place(), ring.machines[0], 5, "")
    assert ring.world.run_until(lambda: wire.is_open, 5)
    answer = wire.ask(*bodies[used_by], 5_000_000_000)
    assert ring.world.run_until(lambda: answer.is_kept, 5)
    assert not isinstance(answer.value, Exception)
    processor.prepare(third, None)
    assert processor.prepared.get(used)
