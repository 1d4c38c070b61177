"""Statements that are under way while their table is altered or dropped.

If this fails, a node goes by the table of before the change once such a statement has ended: it keeps deletions for too
short, gives its peers rows without their collections, or takes writes of a table that is gone.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.writes.ring import HOLD, LOSE, PASS, Ring, as_int

from ourodb.cql.wire.codes import Consistency
from ourodb.peer.messages import Verb
from ourodb.schema.model import Table
from ourodb.storage.apply import UnknownIncarnation


@pytest.fixture
def ring() -> Iterator[Ring]:
    """Three nodes, all of them replicas; afterwards nothing is left waiting."""
    ring = Ring()
    ring.set_up(
        "CREATE TABLE ks.t (k int PRIMARY KEY, v int) WITH gc_grace_seconds = 60",
        "INSERT INTO ks.t (k, v) VALUES (1, 1)",
    )
    yield ring
    ring.rest()


def table_of(ring: Ring) -> Table:
    table = ring.node(0).view.schema.table("ks", "t")
    assert table is not None
    return table


def change_under_way(ring: Ring, *changes: str) -> None:
    """Node 0 is in the midst of a conditional statement meanwhile."""
    ring.fate = lambda message: (
        HOLD if message.verb == Verb.PAXOS_PREPARE and message.receiver == 0 and message.is_reply else PASS
    )
    promise = ring.ask(0, "UPDATE ks.t SET v = 2 WHERE k = 1 IF v = 1")
    assert ring.world.run_until(lambda: len(ring.held) >= 2, 1)
    for change in changes:
        ring.done(1, change)
    ring.fate = lambda message: PASS
    ring.let_in()
    ring.reply(promise)


def test_what_is_altered_stays_altered(ring: Ring) -> None:
    change_under_way(
        ring, "ALTER TABLE ks.t WITH gc_grace_seconds = 864000", "ALTER TABLE ks.t ADD l list<int>"
    )
    rows = ring.node(0).rows.known(table_of(ring).incarnation)
    assert rows.table is table_of(ring)
    assert rows.use.gc_grace_s == 864_000
    # Acknowledged by 0 and 2; 1 never gets it, and asks 0.
    ring.fate = lambda message: LOSE if message.receiver == 1 and not message.is_reply else PASS
    ring.done(2, "INSERT INTO ks.t (k, v, l) VALUES (2, 2, [1, 2])", Consistency.QUORUM)
    ring.fate = lambda message: LOSE if 2 in (message.sender, message.receiver) else PASS
    ring.see(1, [0, 1])
    reply = ring.done(1, "SELECT v, l FROM ks.t WHERE k = 2", Consistency.QUORUM)
    assert as_int(reply.cell("v")) == 2
    assert reply.cell("l") is not None
    ring.see(1, range(3))


def test_what_is_dropped_stays_dropped(ring: Ring) -> None:
    incarnation = table_of(ring).incarnation
    change_under_way(ring, "DROP TABLE ks.t")
    with pytest.raises(UnknownIncarnation):
        ring.node(0).rows.known(incarnation)
