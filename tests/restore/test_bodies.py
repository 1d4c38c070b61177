"""Bodies that a node refuses, message by message: rows that no snapshot has, and keyspaces that it couldn't make.

The nodes are real, on virtual time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from tests.restore.test_schema import app
from tests.writes.ring import Ring

from ourodb import limits
from ourodb.cql.wire.codes import Consistency
from ourodb.errors import ConfigurationException, InvalidRequest, OuroError
from ourodb.restoring import BringKeyspace, Restoring, encode_keyspace, encode_rows
from ourodb.schema.restoration import definition_of
from ourodb.storage.keys import single_position
from ourodb.storage.mutation import Mutation
from ourodb.storage.record import LIVE, Row, encode_element, encode_range, encode_row

KEY = (1).to_bytes(4, "big")
POSITION = single_position((KEY,))
GOOD = encode_row(Row(None, None, {1: (5, LIVE, 0, KEY, 0)}))


@pytest.fixture(scope="module")
def ring() -> Iterator[Ring]:
    """Three nodes; tests leave table ``ks.t`` empty."""
    ring = Ring(3)
    ring.set_up("CREATE TABLE ks.t (k int PRIMARY KEY, v int)")
    yield ring
    ring.rest()


def restoring(ring: Ring) -> Restoring:
    node = ring.node(0)
    ports = node.ports
    return Restoring(node.metadata, node.rows, node.coordinator, node.peers, ports.clock, ports.scheduler)


def sent(ring: Ring, *mutations: Mutation) -> dict[str, Any] | OuroError:
    """What is answered to a batch."""
    heard: list[dict[str, Any] | OuroError] = []
    body = encode_rows(int(Consistency.QUORUM), [mutation.encode() for mutation in mutations])
    restoring(ring).write_rows(body, heard.append)
    assert ring.world.run_until(lambda: bool(heard), 20)
    (answer,) = heard
    return answer


NONSENSE = {
    "no position": (b"", b"\x40", GOOD),
    "a short position": (b"1234", b"\x40", GOOD),
    "another key's token": (bytes(8) + POSITION[8:], b"\x40", GOOD),
    "another key's length": (POSITION[:8] + b"\x00\x09" + KEY, b"\x40", GOOD),
    "a key of another type": (single_position((b"k",)), b"\x40", GOOD),
    "no suffix": (POSITION, b"", GOOD),
    "an unknown kind of key": (POSITION, b"\x50", GOOD),
    "a key that goes on": (POSITION, b"\x40more", GOOD),
    "a row under a header's key": (POSITION, b"\x10", GOOD),
    "a row under an element's key": (POSITION, b"\x40\x01\x00\x01", GOOD),
    "an element of no collection": (POSITION, b"\x40\x01\x00\x01", encode_element((5, LIVE, 0, KEY, 0))),
    "no record": (POSITION, b"\x40", b""),
    "an unknown format": (POSITION, b"\x40", b"\x09" + GOOD[1:]),
    "a row that ends too early": (POSITION, b"\x40", GOOD[:-1]),
    "a row that goes on": (POSITION, b"\x40", GOOD + b"x"),
    "a row of nonsense": (POSITION, b"\x40", b"\x01\x00" + b"\x01" * 38),
    "a range that ends before it begins": (POSITION, b"\x30b", encode_range(b"a", (5, 5))),
}


@pytest.mark.parametrize("what", NONSENSE)
def test_rows_that_no_snapshot_has(ring: Ring, what: str) -> None:
    """Broken, one of them is acknowledged, and from then on every scan of the table fails."""
    position, suffix, record = NONSENSE[what]
    incarnation = ring.node(0).view.schema.keyspaces["ks"].tables["t"].incarnation
    answer = sent(ring, Mutation(incarnation, position, [(suffix, record)]))
    assert isinstance(answer, InvalidRequest)
    assert "can't be read" in answer.message
    assert ring.done(1, "SELECT * FROM ks.t").rows == []


def test_rows_that_a_snapshot_has(ring: Ring) -> None:
    """Broken, the test above shows nothing."""
    incarnation = ring.node(0).view.schema.keyspaces["ks"].tables["t"].incarnation
    assert sent(ring, Mutation(incarnation, POSITION, [(b"\x40", GOOD)])) == {"mutations": 1}
    assert len(ring.done(1, "SELECT * FROM ks.t").rows) == 1
    ring.done(0, "DELETE FROM ks.t WHERE k = 1")


def asked(ring: Ring, definition: bytes) -> dict[str, Any] | OuroError:
    """Whether the keyspace could be made."""
    heard: list[dict[str, Any] | OuroError] = []
    replication = {"class": "SimpleStrategy", "replication_factor": "3"}
    body = BringKeyspace(definition, "QUORUM", replication, check_only=True)
    restoring(ring).bring_keyspace(encode_keyspace(body), heard.append)
    (answer,) = heard
    return answer


@pytest.mark.parametrize(
    ("limit", "value", "why"),
    [
        ("TABLES_MAX", 2, "more than 2 tables"),
        ("KEYSPACES_MAX", 1, "more than 1 keyspaces"),
        ("RAFT_ENTRY_BYTES_MAX", 100, "too large"),
    ],
)
def test_a_keyspace_that_could_not_be_made(
    ring: Ring, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, why: str
) -> None:
    """Broken, a restore reads all of the snapshot, and may have made other keyspaces, before it is told."""
    assert isinstance(asked(ring, definition_of(app())), dict)
    monkeypatch.setattr(limits, limit, value)
    answer = asked(ring, definition_of(app()))
    assert isinstance(answer, InvalidRequest)
    assert why in answer.message


def test_a_keyspace_whose_tables_are_there_under_another_name(ring: Ring) -> None:
    """As above."""
    known = ring.node(0).view.schema.keyspaces["ks"].tables["t"]
    keyspace = app()
    tables = {"t": replace(keyspace.tables["t"], id=known.id)}
    answer = asked(ring, definition_of(replace(keyspace, tables=tables)))
    assert isinstance(answer, ConfigurationException)
    assert "already that of ks.t" in answer.message
