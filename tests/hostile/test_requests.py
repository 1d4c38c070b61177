"""Requests that are well-formed frames and yet too much, or nonsense: each gets the error that names what is wrong."""

from __future__ import annotations

import os

import pytest
from tests.hostile.raw import Raw

from ourodb import limits
from ourodb.cql.wire.client_messages import Prepared, decode_response, encode_prepare
from ourodb.cql.wire.codes import PREPARE, QUERY
from ourodb.cql.wire.primitives import pack_int, pack_short
from ourodb.errors import InvalidRequest, ProtocolError, ReadFailure, RequestError, ServerError, Unprepared

Address = tuple[str, int]
PREPARED_PASSES = 5
PREPARED_COUNT = (
    1_000_000 if os.environ.get("OURO_FULL") else PREPARED_PASSES * limits.PREPARED_STATEMENTS_MAX
)
PREPARED_AT_ONCE = 500
DELETIONS_AT_ONCE = 2_000
READ_TOO_MANY_TOMBSTONES = 0x0001
FIXED_BYTES = {
    "bigint_": 8,
    "boolean_": 1,
    "date_": 4,
    "double_": 8,
    "float_": 4,
    "int_": 4,
    "smallint_": 2,
    "time_": 8,
    "timestamp_": 8,
    "timeuuid_": 16,
    "tinyint_": 1,
    "uuid_": 16,
}
NESTED = {
    "lists": "INSERT INTO hostile.t (k, f) VALUES (0, " + "[" * 1000 + "]" * 1000 + ")",
    "parentheses": "SELECT * FROM hostile.t WHERE k = " + "(int)" * 1000 + "1",
    "calls": "SELECT " + "max(" * 1000 + "k" + ")" * 1000 + " FROM hostile.t",
    "types": "CREATE TABLE hostile.n (k int PRIMARY KEY, v "
    + "frozen<list<" * 1000
    + "int"
    + ">>" * 1000
    + ")",
    "operators": "SELECT " + "k+" * 1000 + "k FROM hostile.t",
    "signs": "SELECT * FROM hostile.t WHERE k = " + "- " * 1000 + "1",
}


@pytest.mark.parametrize("name", FIXED_BYTES)
def test_value_of_the_wrong_length(address: Address, name: str) -> None:
    insert = f"INSERT INTO hostile.types (k, {name}) VALUES (0, ?)"
    with Raw(address) as client:
        prepared = client.prepare(insert)
        assert isinstance(prepared, Prepared)
        for length in (FIXED_BYTES[name] - 1, FIXED_BYTES[name] + 1, 100):
            if length:
                assert isinstance(client.execute(prepared, [b"\x11" * length]), InvalidRequest), length
                assert isinstance(client.query(insert, [b"\x11" * length]), InvalidRequest), length
        assert client.lives()


@pytest.mark.parametrize("name", ["inet_", "list_", "set_", "map_", "vector_", "duration_", "decimal_"])
def test_value_that_ends_early(address: Address, name: str) -> None:
    with Raw(address) as client:
        prepared = client.prepare(f"INSERT INTO hostile.types (k, {name}) VALUES (0, ?)")
        assert isinstance(client.execute(prepared, [b"\x01\x02\x03"]), InvalidRequest)
        assert client.lives()


def test_text_that_is_not_utf8(address: Address) -> None:
    with Raw(address) as client:
        prepared = client.prepare("INSERT INTO hostile.types (k, text_) VALUES (0, ?)")
        assert isinstance(client.execute(prepared, [b"\xff\xfe"]), InvalidRequest)
        prepared = client.prepare("INSERT INTO hostile.types (k, ascii_) VALUES (0, ?)")
        assert isinstance(client.execute(prepared, ["é".encode()]), InvalidRequest)
        body = pack_int(9) + b"SELECT \xff\xff" + pack_short(1) + pack_int(0)
        assert isinstance(client.ask(QUERY, body), ProtocolError)
        assert client.lives()


@pytest.mark.parametrize("name", NESTED)
def test_nesting_of_a_thousand(address: Address, name: str) -> None:
    with Raw(address) as client:
        for answer in (client.query(NESTED[name]), client.prepare(NESTED[name])):
            assert isinstance(answer, RequestError)
            assert not isinstance(answer, ServerError)
        assert client.lives()


def test_bind_values(address: Address) -> None:
    """65,536 of them can't be counted in a [short]; 65,535 for one marker are too many."""
    with Raw(address) as client:
        answer = client.query("SELECT * FROM hostile.t WHERE k = ?", [bytes(4)] * limits.BIND_VALUES_MAX)
        assert isinstance(answer, InvalidRequest)
        markers = ", ".join("?" * (limits.BIND_VALUES_MAX + 1))
        answer = client.prepare(f"SELECT * FROM hostile.t WHERE k IN ({markers})")
        assert isinstance(answer, RequestError)
        assert not isinstance(answer, ServerError)
        assert client.lives()


def test_statement_of_ten_mib(address: Address) -> None:
    with Raw(address) as client:
        statement = "SELECT * FROM hostile.t WHERE k = 0 -- " + "x" * (10 << 20)
        assert isinstance(client.query(statement), InvalidRequest)
        assert isinstance(client.prepare(statement), InvalidRequest)
        assert client.lives()


@pytest.mark.timeout(1800)
def test_distinct_prepared_statements(address: Address) -> None:
    """Old ones are forgotten and told so; one in use is kept."""
    with Raw(address) as client:
        first = client.prepare("SELECT v FROM hostile.t WHERE k = -1")
        prepare_distinct(address, PREPARED_COUNT, "k")
        assert isinstance(client.execute(first, []), Unprepared)


def prepare_distinct(address: Address, count: int, name: str) -> None:
    """Prepare so many statements beside one in use.

    Args:
        name: what makes them others than those of another caller.
    """
    with Raw(address) as client, Raw(address) as user:
        used = user.prepare("INSERT INTO hostile.types (k, int_) VALUES (?, ?)")
        for start in range(0, count, PREPARED_AT_ONCE):
            for stream in range(PREPARED_AT_ONCE):
                text = f"SELECT v AS {name} FROM hostile.t WHERE k = {start + stream}"
                client.wire.send(stream, PREPARE, encode_prepare(5, text))
            client.flush()
            for _ in range(PREPARED_AT_ONCE):
                _, opcode, flags, body, _ = client.next()
                assert isinstance(decode_response(5, opcode, flags, body).message, Prepared)
            assert user.execute(used, [bytes(4), bytes(4)]) is None


def test_read_of_a_partition_full_of_tombstones(address: Address) -> None:
    """A queue in one partition: reads of it fail, reads beside it don't, and slices that meet few don't."""
    deletions = limits.TOMBSTONES_FAIL + 1
    with Raw(address) as client:
        client.run(["CREATE TABLE hostile.queue (q text, n int, PRIMARY KEY (q, n))"])
        for start in range(0, deletions, DELETIONS_AT_ONCE):
            numbers = range(start, min(start + DELETIONS_AT_ONCE, deletions))
            rows = "".join(f"DELETE FROM hostile.queue WHERE q = 'jobs' AND n = {n};" for n in numbers)
            client.run([f"BEGIN UNLOGGED BATCH {rows} APPLY BATCH"])
        client.run(
            [f"INSERT INTO hostile.queue (q, n) VALUES ('{q}', {deletions})" for q in ("jobs", "other")]
        )
        for statement in (
            "SELECT * FROM hostile.queue WHERE q = 'jobs'",
            "SELECT * FROM hostile.queue WHERE q = 'jobs' ORDER BY n DESC",
            "SELECT count(*) FROM hostile.queue",
        ):
            answer = client.query(statement)
            assert isinstance(answer, ReadFailure), answer
            assert list(answer.reasons.values()) == [READ_TOO_MANY_TOMBSTONES]
            assert "q = 'jobs'" in str(answer)
        for statement in (
            "SELECT * FROM hostile.queue WHERE q = 'other'",
            f"SELECT * FROM hostile.queue WHERE q = 'jobs' AND n > {deletions // 2}",
        ):
            assert len(client.query(statement).rows) == 1
