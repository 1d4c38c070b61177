"""Lists that conditional statements write have their elements in the order in which the statements took effect.

If this fails, what was appended later stands before what was acknowledged earlier, wherever the clocks of two
coordinators differ.
"""

from __future__ import annotations

import pytest
from tests.writes.ring import Ring

from ourodb.cql.analysis.operations import BallotCellIds
from ourodb.cql.types import native
from ourodb.cql.types.names import parse_type
from ourodb.cql.wire.codes import Consistency

T = "CREATE TABLE ks.t (k int PRIMARY KEY, v int, l list<int>)"
LIST = parse_type("list<int>")
MINUTE_US = 60_000_000


@pytest.fixture
def ring() -> Ring:
    """Three nodes whose clocks are minutes apart."""
    ring = Ring()
    ring.set_up(T)
    for index, minutes in enumerate((2, -2, 0)):
        ring.machines[index].jump(minutes * MINUTE_US)
    return ring


def run(ring: Ring, index: int, text: str) -> None:
    reply = ring.run(index, text)
    assert reply.error is None, reply
    assert reply.cell("[applied]") == b"\x01", reply


def elements(ring: Ring, index: int = 0) -> list[int]:
    reply = ring.run(index, "SELECT l FROM ks.t WHERE k = 1", Consistency.SERIAL)
    assert reply.error is None, reply
    cell = reply.cell("l")
    assert cell is not None
    found: list[int] = LIST.decode(cell)
    return found


def test_appends_through_any_node_come_one_after_the_other(ring: Ring) -> None:
    for number in range(9):
        run(ring, number % 3, f"UPDATE ks.t SET l = l + [{number}] WHERE k = 1 IF v = null")
    assert [elements(ring, index) for index in range(3)] == [[*range(9)]] * 3


def test_prepends_through_any_node_come_one_before_the_other(ring: Ring) -> None:
    for number in range(9):
        run(ring, number % 3, f"UPDATE ks.t SET l = [{number}, {-number}] + l WHERE k = 1 IF v = null")
    assert elements(ring) == [signed for number in reversed(range(9)) for signed in (number, -number)]


def test_many_elements_of_one_statement_stay_together_and_in_order(ring: Ring) -> None:
    for number in range(3):
        some = [*range(100 * number, 100 * number + 100)]
        run(ring, number, f"UPDATE ks.t SET l = l + {some} WHERE k = 1 IF v = null")
    assert elements(ring) == [*range(300)]


def test_the_statements_of_a_batch_follow_each_other(ring: Ring) -> None:
    run(
        ring,
        1,
        "BEGIN BATCH UPDATE ks.t SET l = l + [1] WHERE k = 1 IF v = null; UPDATE ks.t SET l = l + [2] WHERE k = 1;"
        " UPDATE ks.t SET l = [0] + l WHERE k = 1; UPDATE ks.t SET l = [-1] + l WHERE k = 1 APPLY BATCH",
    )
    run(ring, 0, "UPDATE ks.t SET l = l + [3] WHERE k = 1 IF v = null")
    run(ring, 2, "UPDATE ks.t SET l = [-2] + l WHERE k = 1 IF v = null")
    assert elements(ring) == [-2, -1, 0, 1, 2, 3]


def test_names_are_in_order_however_many_there_are() -> None:
    order = native.TIMEUUID.encode_ordered
    ids, later = BallotCellIds(1_000), BallotCellIds(1_001)
    appended = [*ids.appended(20_000), *ids.appended(1), *later.appended(1)]
    assert sorted(appended, key=order) == appended
    assert len(set(appended)) == len(appended)
    first, second, third = ids.prepended(20_000), ids.prepended(2), later.prepended(1)
    prepended = [*third, *second, *first]
    assert sorted(prepended, key=order) == prepended
    assert len(set(prepended)) == len(prepended)
