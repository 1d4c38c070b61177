"""Statements that change something, as clients of a ring see them: levels, data centres, errors, reads before writes.

If this fails, a level asks for more or less than it says, one data centre depends on the other where it mustn't, or an
error tells something else than what happened.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.writes.ring import LOSE, PASS, Fate, Message, Ring, as_int

from ourodb import limits
from ourodb.cql.types.names import parse_type
from ourodb.cql.wire.client_messages import encode_batch
from ourodb.cql.wire.codes import BATCH, BATCH_UNLOGGED, Consistency
from ourodb.cql.wire.requests import Batch, BatchStatement, QueryParameters
from ourodb.errors import InvalidRequest, Unavailable, WriteFailure, WriteTimeout
from ourodb.peer.messages import Verb
from ourodb.ports import DATA
from ourodb.sim.client import Wire
from ourodb.sim.faults.paths import between

T = "CREATE TABLE ks.t (k int PRIMARY KEY, v int, l list<int>)"
TWO_PARTITIONS = "INSERT INTO ks.t (k, v) VALUES (1, 1); INSERT INTO ks.t (k, v) VALUES (2, 1);"
CONDITIONAL = "BEGIN BATCH UPDATE ks.w SET v = 1 WHERE k = 1 AND c = 3 IF v = null; {} APPLY BATCH"
REQUESTS = (Verb.PAXOS_PREPARE, Verb.PAXOS_PROPOSE)


@pytest.fixture
def ring() -> Iterator[Ring]:
    """Three nodes that are all replicas; afterwards nothing is left waiting."""
    ring = Ring()
    ring.set_up(T)
    yield ring
    ring.rest()


@pytest.fixture
def two() -> Iterator[Ring]:
    """Two data centres of three nodes, each with three copies: dc1 is 0, 2, 4, dc2 is 1, 3, 5."""
    ring = Ring(6, data_centers=2)
    ring.set_up(T, per_data_center=3)
    yield ring
    ring.rest()


def losing_writes_to(*indexes: int) -> Fate:
    return lambda message: (
        LOSE if message.verb == Verb.WRITE and message.receiver in indexes and not message.is_reply else PASS
    )


def elements(ring: Ring, key: int = 1) -> list[int]:
    cell = ring.done(0, f"SELECT l FROM ks.t WHERE k = {key}", Consistency.ALL).cell("l")
    if cell is None:
        return []
    count = int.from_bytes(cell[:4], "big")
    return [int.from_bytes(cell[8 + 8 * at : 12 + 8 * at], "big") for at in range(count)]


# Errors


@pytest.mark.parametrize(
    ("statement", "write_type"),
    [
        ("INSERT INTO ks.t (k, v) VALUES (1, 1)", "SIMPLE"),
        ("DELETE FROM ks.t WHERE k IN (1, 2)", "UNLOGGED_BATCH"),
        (
            "BEGIN BATCH INSERT INTO ks.t (k, v) VALUES (1, 1); UPDATE ks.t SET v = 2 WHERE k = 1; APPLY BATCH",
            "SIMPLE",
        ),
        (f"BEGIN BATCH {TWO_PARTITIONS} APPLY BATCH", "BATCH"),
        (f"BEGIN UNLOGGED BATCH {TWO_PARTITIONS} APPLY BATCH", "UNLOGGED_BATCH"),
    ],
)
def test_timeouts_name_the_kind_of_write_and_count_truly(ring: Ring, statement: str, write_type: str) -> None:
    ring.fate = losing_writes_to(1, 2)
    error = ring.run(0, statement).error
    assert isinstance(error, WriteTimeout)
    assert (error.consistency, error.received, error.required) == (Consistency.QUORUM, 1, 2)
    assert error.write_type == write_type
    ring.rest()
    assert ring.in_flight() == [0, 0, 0]


def test_failures_name_who_refused(ring: Ring) -> None:
    ring.machines[1].disk.conditions.is_full = True
    ring.fate = losing_writes_to(2)
    promise = ring.ask(0, "INSERT INTO ks.t (k, v) VALUES (1, 1)", Consistency.ALL)
    error = ring.reply(promise).error
    assert isinstance(error, WriteFailure)
    assert (error.received, error.required) == (1, 3)
    assert list(error.reasons) == [bytes(map(int, ring.machines[1].address[0].split(".")))]
    ring.machines[1].disk.conditions.is_full = False
    ring.rest()
    assert [ring.here(index, "t", 1) is not None for index in range(3)] == [True] * 3


def test_nothing_is_written_at_a_level_that_can_t_be_had(ring: Ring) -> None:
    ring.kill(1)
    ring.kill(2)
    for statement in ("INSERT INTO ks.t (k, v) VALUES (1, 1)", "UPDATE ks.t SET l[0] = 1 WHERE k = 1"):
        error = ring.run(0, statement).error
        assert isinstance(error, Unavailable)
        assert (error.required, error.alive) == (2, 1)
    assert ring.here(0, "t", 1) is None
    assert ring.node(0).hints.total == 0
    ring.done(0, "INSERT INTO ks.t (k, v) VALUES (1, 1)", Consistency.ONE)
    assert ring.node(0).hints.total == 2


# Data centres


def test_local_levels_never_wait_for_the_other_side(two: Ring) -> None:
    two.fate = losing_writes_to(1, 3, 5)
    for level in (Consistency.LOCAL_QUORUM, Consistency.LOCAL_ONE):
        two.done(0, "INSERT INTO ks.t (k, v) VALUES (1, 1)", level)
    error = two.run(0, "INSERT INTO ks.t (k, v) VALUES (1, 1)", Consistency.EACH_QUORUM).error
    assert isinstance(error, WriteTimeout)
    assert (error.received, error.required) == (2, 4)
    error = two.run(0, "INSERT INTO ks.t (k, v) VALUES (1, 1)", Consistency.QUORUM).error
    assert isinstance(error, WriteTimeout)
    assert (error.received, error.required) == (3, 4)


def test_acknowledgements_of_the_other_side_don_t_count_for_local_levels(two: Ring) -> None:
    two.fate = losing_writes_to(2, 4)
    error = two.run(0, "INSERT INTO ks.t (k, v) VALUES (1, 1)", Consistency.LOCAL_QUORUM).error
    assert isinstance(error, WriteTimeout)
    assert (error.received, error.required) == (1, 2)
    two.done(0, "INSERT INTO ks.t (k, v) VALUES (1, 1)", Consistency.QUORUM)


def test_a_scan_doesn_t_wait_for_what_was_asked_on_a_connection_that_broke(ring: Ring) -> None:
    """The replica is up, and would be waited for until the time is up."""
    ring.fate = lambda message: LOSE if message.verb == Verb.READ_RANGE else PASS
    ring.seen.clear()
    promise = ring.ask(0, "SELECT k, v FROM ks.t")
    ring.run_for(0.05)
    (asked,) = {message.receiver for message in ring.seen if message.verb == Verb.READ_RANGE}
    assert not promise.is_kept
    ring.fate = lambda message: PASS
    process = ring.machines[0].process
    assert process is not None
    for connection in process.transport.connections():
        if connection.receiver.index == asked and connection.lane.number == DATA:
            connection.reset()
    ring.run_for(1)
    assert promise.is_kept
    assert promise.value.error is None


def test_each_side_goes_on_when_the_link_between_them_is_cut(two: Ring) -> None:
    paths = between([0, 2, 4], [1, 3, 5])
    two.world.network.cut(paths)
    assert two.world.run_until(lambda: sum(two.node(0).peers.up.values()) == 3, 30)
    assert two.world.run_until(lambda: sum(two.node(1).peers.up.values()) == 3, 30)
    for index in range(6):
        two.done(index, f"INSERT INTO ks.t (k, v) VALUES ({index}, 1)", Consistency.LOCAL_QUORUM)
        error = two.run(index, "INSERT INTO ks.t (k, v) VALUES (9, 1)", Consistency.EACH_QUORUM).error
        assert isinstance(error, Unavailable)
        assert (error.required, error.alive) == (2, 0)
        error = two.run(index, "INSERT INTO ks.t (k, v) VALUES (9, 1)", Consistency.QUORUM).error
        assert isinstance(error, Unavailable)
        assert (error.required, error.alive) == (4, 3)
        reply = two.run(
            index,
            f"INSERT INTO ks.t (k, v) VALUES ({index + 100}, 1) IF NOT EXISTS",
            Consistency.LOCAL_QUORUM,
            Consistency.LOCAL_SERIAL,
        )
        assert reply.cell("[applied]") == b"\x01"
        error = two.run(index, "INSERT INTO ks.t (k, v) VALUES (9, 1) IF NOT EXISTS").error
        assert isinstance(error, Unavailable)
        assert (error.consistency, error.required, error.alive) == (Consistency.SERIAL, 4, 3)
    two.world.network.heal(paths)
    assert two.world.run_until(two.is_whole, 30)
    two.run_for(5)
    assert [two.here(index, "t", key) is not None for index in range(6) for key in range(6)] == [True] * 36


def test_local_serial_asks_one_side_and_writes_on_both(two: Ring) -> None:
    reply = two.run(
        1,
        "INSERT INTO ks.t (k, v) VALUES (1, 1) IF NOT EXISTS",
        Consistency.LOCAL_QUORUM,
        Consistency.LOCAL_SERIAL,
    )
    assert reply.cell("[applied]") == b"\x01"
    asked = {seen.receiver for seen in two.seen if seen.verb in REQUESTS and not seen.is_reply}
    assert asked == {3, 5}
    two.run_for(1)
    assert [two.here(index, "t", 1) is not None for index in range(6)] == [True] * 6


# Reads before writes


def test_elements_by_index_are_of_the_list_that_the_replicas_hold(ring: Ring) -> None:
    ring.fate = losing_writes_to(2)
    ring.done(0, "INSERT INTO ks.t (k, l) VALUES (1, [10, 20, 30])")
    ring.fate = lambda message: PASS
    ring.done(2, "UPDATE ks.t SET l[1] = 21 WHERE k = 1")
    ring.done(2, "DELETE l[0] FROM ks.t WHERE k = 1")
    assert elements(ring) == [21, 30]
    error = ring.run(1, "UPDATE ks.t SET l[7] = 1 WHERE k = 1").error
    assert "out of bound" in str(error)


def test_a_batch_that_reads_first_is_a_batch(ring: Ring) -> None:
    for key in (1, 2):
        ring.done(0, f"INSERT INTO ks.t (k, l) VALUES ({key}, [1, 2])")
    ring.done(
        1,
        "BEGIN BATCH UPDATE ks.t SET l[0] = 5 WHERE k = 1; UPDATE ks.t SET l[1] = 6 WHERE k = 2;"
        " INSERT INTO ks.t (k, v) VALUES (3, 3); APPLY BATCH",
    )
    assert [elements(ring, key) for key in (1, 2)] == [[5, 2], [1, 6]]
    row = ring.here(2, "t", 3)
    assert row is not None
    assert as_int(row["v"]) == 3
    assert Verb.BATCH_STORE in [seen.verb for seen in ring.seen]
    failing = (
        "BEGIN BATCH UPDATE ks.t SET l[0] = 9 WHERE k = 1; UPDATE ks.t SET l[9] = 6 WHERE k = 2; APPLY BATCH"
    )
    assert "out of bound" in str(ring.run(1, failing).error)
    assert elements(ring) == [5, 2]


def test_a_message_of_nobody_is_let_go(ring: Ring) -> None:
    """Answers that come after their operation is over, and twice."""

    def fate(message: Message) -> str:
        return "twice" if message.is_reply else PASS

    ring.fate = fate
    for index in range(3):
        ring.done(index, "INSERT INTO ks.t (k, v) VALUES (1, 1)")
        assert ring.run(index, "UPDATE ks.t SET v = 2 WHERE k = 1 IF v = 1").error is None


def test_rows_that_must_be_known_first_may_be_none_of_those_in_the_first_chunk(
    ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chunk ends for what a replica looked at in vain."""
    monkeypatch.setattr(limits, "CHUNK_KEYS_PER_PASS", 8)
    ring.done(0, "CREATE TABLE ks.w (k int, c int, l list<int>, PRIMARY KEY (k, c))")
    ring.done(0, "INSERT INTO ks.w (k, c, l) VALUES (1, 39, [1, 2])")
    updates = " ".join(f"UPDATE ks.w SET l = l - [1] WHERE k = 1 AND c = {row};" for row in range(40))
    ring.seen.clear()
    ring.done(0, f"BEGIN UNLOGGED BATCH {updates} APPLY BATCH")
    assert [message.verb for message in ring.seen].count(Verb.READ_SLICES) > 2
    reply = ring.done(0, "SELECT c, l FROM ks.w WHERE k = 1")
    assert [as_int(row[0]) for row in reply.rows] == [39]
    assert parse_type("list<int>").decode(reply.rows[0][1]) == [2]


@pytest.mark.parametrize(
    "statement", ["UPDATE ks.t SET l[?] = 1 WHERE k = 1", "UPDATE ks.t SET v = 1 WHERE k = 1 IF l[?] = 1"]
)
def test_an_index_that_is_no_number_is_the_clients_error(ring: Ring, statement: str) -> None:
    ring.done(0, "INSERT INTO ks.t (k, v, l) VALUES (1, 1, [1, 2])")
    promise = ring.ask(0, statement, values=(b"",))
    ring.done(0, "UPDATE ks.t SET v = 2 WHERE k = 1 IF v = 1")
    assert isinstance(ring.reply(promise).error, InvalidRequest)


def test_the_least_timestamp_of_all_is_refused(ring: Ring) -> None:
    """Nobody would ever see the row: it stands for no timestamp."""
    error = ring.run(0, f"INSERT INTO ks.t (k, v) VALUES (1, 1) USING TIMESTAMP {-(1 << 63)}").error
    assert isinstance(error, InvalidRequest)
    ring.done(0, f"INSERT INTO ks.t (k, v) VALUES (1, 1) USING TIMESTAMP {1 - (1 << 63)}")
    assert as_int(ring.done(0, "SELECT v FROM ks.t WHERE k = 1").cell("v")) == 1


@pytest.mark.parametrize(
    ("statement", "after"),
    [
        ("UPDATE ks.w SET l[0] = 9 WHERE k IN (1, 2) AND c IN (1, 2)", [[9, 2]] * 4),
        ("DELETE l[1] FROM ks.w WHERE k = 1 AND c IN (1, 2)", [[1], [1], [1, 2], [1, 2]]),
        (
            CONDITIONAL.format("UPDATE ks.w SET l[0] = 9 WHERE k = 1 AND c IN (1, 2)"),
            [[9, 2], [9, 2], [1, 2], [1, 2]],
        ),
    ],
)
def test_elements_by_index_of_rows_in_lists_of_keys(
    ring: Ring, statement: str, after: list[list[int]]
) -> None:
    ring.done(0, "CREATE TABLE ks.w (k int, c int, v int, l list<int>, PRIMARY KEY (k, c))")
    for key in (1, 2):
        for row in (1, 2):
            ring.done(0, f"INSERT INTO ks.w (k, c, l) VALUES ({key}, {row}, [1, 2])")
    ring.done(0, statement)
    found = ring.done(0, "SELECT l FROM ks.w WHERE k IN (1, 2) AND c IN (1, 2)").rows
    assert [parse_type("list<int>").decode(cell or b"") for (cell,) in found] == after


def keys(count: int) -> bytes:
    """A bound list of ints."""
    return count.to_bytes(4, "big") + b"".join(
        (4).to_bytes(4, "big") + at.to_bytes(4, "big") for at in range(count)
    )


@pytest.mark.parametrize(
    ("statement", "lists", "values"),
    [
        ("UPDATE ks.w SET v = 0x WHERE k IN ? AND c IN ? AND d = 1", [200, 200], []),
        ("DELETE FROM ks.w WHERE k IN ? AND c IN ? AND d = 1", [200, 200], []),
        ("DELETE FROM ks.w WHERE k IN ? AND c IN ?", [200, 200], []),
        ("DELETE FROM ks.w WHERE k = 1 AND c IN ?", [20_000], []),
        ("UPDATE ks.w SET v = ? WHERE k = 1 AND c IN ? AND d = 1", [200], [bytes(100_000)]),
        ("UPDATE ks.w SET m[0] = ? WHERE k IN ? AND c = 1 AND d = 1", [200], [bytes(100_000)]),
        ("UPDATE ks.w SET s = ? WHERE k IN ?", [200], [bytes(100_000)]),
    ],
)
def test_what_lists_of_keys_multiply_to_is_bounded(
    ring: Ring, statement: str, lists: list[int], values: list[bytes]
) -> None:
    """A short request mustn't keep a node from others for long, or take all its memory."""
    ring.done(
        0,
        "CREATE TABLE ks.w (k int, c int, d int, v blob, m map<int, blob>, s blob static, "
        "PRIMARY KEY (k, c, d))",
    )
    error = ring.reply(ring.ask(0, statement, values=[*values, *map(keys, lists)])).error
    assert isinstance(error, InvalidRequest)
    assert "IN restrictions of this request multiply" in str(error)
    assert ring.reply(ring.ask(0, statement, values=[*values, *[keys(3) for _ in lists]])).error is None


def test_the_texts_of_a_batch_are_bounded_together(ring: Ring) -> None:
    """They are compiled in one go: 15 MB of them kept everybody else waiting for half a minute."""
    wire = Wire(ring.world, ring.world.new_place(), ring.machines[0], 5, "")
    assert ring.world.run_until(lambda: wire.is_open, 5)
    text = f"INSERT INTO ks.t (k, v) VALUES (1, 1) -- {'x' * 100_000}"
    for count, is_refused in ((limits.STATEMENT_BYTES_MAX // len(text), False), (11, True)):
        statements = [BatchStatement(text, None, []) for _ in range(count)]
        batch = Batch(BATCH_UNLOGGED, statements, QueryParameters(Consistency.ONE, False, []))
        answer = wire.ask(BATCH, encode_batch(5, batch), 5_000_000_000)
        assert ring.world.run_until(lambda answer=answer: answer.is_kept, 5)
        assert isinstance(answer.value, InvalidRequest) == is_refused, answer.value
