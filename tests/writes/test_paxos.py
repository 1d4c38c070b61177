"""Conditional statements of real nodes, message by message: what goes wrong by chance once in a million runs, on purpose.

If this fails, conditional statements aren't linearizable, are told to have failed when they didn't, or are carried out
twice.
"""

from __future__ import annotations

from tests.writes.ring import LOSE, PASS, Message, Ring, as_int

from ourodb.cql.wire.codes import Consistency
from ourodb.peer.messages import Verb

TABLE = "CREATE TABLE ks.t (k int PRIMARY KEY, v int)"
PHASES = (Verb.PAXOS_PREPARE, Verb.PAXOS_PROPOSE, Verb.PAXOS_COMMIT)


def value(ring: Ring, index: int, key: int) -> int | None:
    """A serial read."""
    reply = ring.run(index, f"SELECT v FROM ks.t WHERE k = {key}", Consistency.SERIAL)
    assert reply.error is None, reply
    return as_int(reply.cell("v")) if reply.rows else None


def without(*indexes: int):
    """Nothing of Paxos reaches these nodes."""

    def fate(message: Message) -> str:
        return LOSE if message.receiver in indexes and message.verb in PHASES and not message.is_reply else PASS

    return fate


def test_what_one_serial_read_has_seen_the_next_one_sees() -> None:
    """Also when the commit has reached only one replica, and the next quorum is without it."""
    ring = Ring()
    ring.set_up(TABLE)
    ring.fate = lambda message: LOSE if message.verb == Verb.PAXOS_COMMIT else PASS
    ring.done(0, "INSERT INTO ks.t (k, v) VALUES (1, 7) IF NOT EXISTS", Consistency.ONE)
    assert [ring.here(index, "t", 1) is not None for index in range(3)] == [True, False, False]
    ring.fate = without(2)
    assert value(ring, 1, 1) == 7
    ring.fate = without(0)
    assert value(ring, 2, 1) == 7
