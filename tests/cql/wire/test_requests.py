"""Requests as cassandra-driver encodes them. A failure here means statements that run with wrong values or options."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from cassandra.protocol import (
    _UNSET_VALUE,
    BatchMessage,
    ExecuteMessage,
    PrepareMessage,
    QueryMessage,
    RegisterMessage,
)
from cassandra.query import BatchType
from hypothesis import given
from hypothesis import strategies as st
from tests.cql.wire.ends import Driver

from ourodb.cql.wire import client_messages, requests
from ourodb.cql.wire.codes import QUERY_NAMES, SERIAL
from ourodb.cql.wire.primitives import UNSET, UnsetType, Value
from ourodb.cql.wire.requests import Batch, BatchStatement, QueryParameters
from ourodb.errors import ProtocolError

VERSIONS = pytest.mark.parametrize("version", [3, 4, 5])
ID = bytes(range(16))
METADATA_ID = bytes(range(16, 32))

KINDS = [BatchType.LOGGED, BatchType.UNLOGGED, BatchType.COUNTER]

values = st.lists(st.none() | st.binary(max_size=12), max_size=6)


def body(version: int, message: Any) -> bytes:
    return Driver(version, "").encode(message, 1, framed=False)[9:]


def fields(parameters: QueryParameters) -> dict[str, Any]:
    return {name: getattr(parameters, name) for name in QueryParameters.__slots__}


def with_defaults(**given: Any) -> dict[str, Any]:
    return {**fields(QueryParameters(1, False, [])), **given}


@VERSIONS
@given(
    bound=values,
    consistency=st.integers(0, 10),
    serial=st.sampled_from([None, 8, 9]),
    fetch=st.integers(1, 2**31 - 1) | st.none(),
    state=st.binary(min_size=1, max_size=20) | st.none(),
    timestamp=st.integers(0, 2**63 - 1) | st.none(),
)
def test_execute_of_the_driver(
    version: int,
    bound: list[bytes | None],
    consistency: int,
    serial: int | None,
    fetch: int | None,
    state: bytes | None,
    timestamp: int | None,
) -> None:
    message = ExecuteMessage(
        ID, bound, consistency, serial, fetch, state, timestamp, result_metadata_id=METADATA_ID
    )
    sent = body(version, message)
    execute = requests.decode_execute(version, sent)
    assert execute.statement_id == ID
    assert execute.result_metadata_id == (METADATA_ID if version == 5 else b"")
    expected = with_defaults(
        consistency=consistency,
        values=bound,
        serial_consistency=serial or SERIAL,
        page_size=fetch or -1,
        paging_state=state,
        timestamp_us=timestamp,
    )
    assert fields(execute.parameters) == expected
    scanned = requests.scan_execute(version, sent)
    assert (scanned is None) == (serial is not None or state is not None)
    if scanned is not None:
        statement_id, metadata_id, level, skip, offset, count, end, page_size, stamp = scanned
        assert (statement_id, metadata_id) == (ID, execute.result_metadata_id)
        assert (level, skip, page_size, stamp) == (consistency, False, fetch or -1, timestamp)
        assert sent[offset:end] == client_messages.encode_values(bound)
        assert requests.read_values(version, sent, offset, count) == (bound, end)


@VERSIONS
def test_unset_is_not_null(version: int) -> None:
    """Null deletes, unset leaves alone; v3 knows no unset."""
    sent = body(version, ExecuteMessage(ID, [None, _UNSET_VALUE, b""], 1, result_metadata_id=METADATA_ID))
    bound = requests.decode_execute(version, sent).parameters.values
    assert bound[0] is None
    assert bound[1] is (None if version == 3 else UNSET)
    assert bound[2] == b""


@VERSIONS
def test_query_and_prepare_of_the_driver(version: int) -> None:
    keyspace = "other" if version == 5 else None
    query = requests.decode_query(version, body(version, QueryMessage("SELECT ☃", 6, keyspace=keyspace)))
    assert query.statement == "SELECT ☃"
    assert fields(query.parameters) == with_defaults(consistency=6, keyspace=keyspace)
    prepare = requests.decode_prepare(version, body(version, PrepareMessage("SELECT ?", keyspace)))
    assert (prepare.statement, prepare.keyspace) == ("SELECT ?", keyspace)


@VERSIONS
@given(
    bound=st.lists(values, min_size=1, max_size=4),
    kind=st.sampled_from(KINDS),
)
def test_batch_of_the_driver(version: int, bound: list[list[bytes | None]], kind: BatchType) -> None:
    queries = [(number % 2 == 1, ID if number % 2 else "INSERT", row) for number, row in enumerate(bound)]
    message = BatchMessage(kind, queries, 2, 9, 77)
    batch = requests.decode_batch(version, body(version, message))
    assert batch.kind == kind.value
    assert [statement.values for statement in batch.statements] == bound
    for prepared, what, statement in zip(
        (query[0] for query in queries), (query[1] for query in queries), batch.statements, strict=True
    ):
        assert (statement.statement_id if prepared else statement.statement) == what
        assert (statement.statement if prepared else statement.statement_id) is None
    assert fields(batch.parameters) == with_defaults(consistency=2, serial_consistency=9, timestamp_us=77)


def test_register_of_the_driver() -> None:
    sent = body(4, RegisterMessage(["SCHEMA_CHANGE", "STATUS_CHANGE"]))
    assert requests.decode_register(sent) == ["SCHEMA_CHANGE", "STATUS_CHANGE"]
    with pytest.raises(ProtocolError, match="Invalid value 'LUNCH' for Type"):
        requests.decode_register(body(4, RegisterMessage(["LUNCH"])))


all_values = st.lists(st.none() | st.just(UNSET) | st.binary(max_size=9), max_size=5)


@st.composite
def parameters(draw: st.DrawFn, version: int) -> QueryParameters:
    bound: list[Value] = draw(all_values)
    if version < 4:
        bound = [None if isinstance(value, UnsetType) else value for value in bound]
    named = bool(bound) and draw(st.booleans())
    newer = version >= 5
    return QueryParameters(
        consistency=draw(st.integers(0, 10)),
        skip_metadata=draw(st.booleans()),
        values=bound,
        names=[draw(st.text(max_size=5)) for _ in bound] if named else None,
        page_size=draw(st.just(-1) | st.integers(1, 2**31 - 1)),
        paging_state=draw(st.none() | st.binary(max_size=9)),
        serial_consistency=draw(st.sampled_from([8, 9])),
        timestamp_us=draw(st.none() | st.integers(-(2**63) + 1, 2**63 - 1)),
        keyspace=draw(st.none() | st.text(max_size=9)) if newer else None,
        now_s=draw(st.none() | st.integers(0, 2**32 - 1)) if newer else None,
    )


@VERSIONS
@given(data=st.data())
def test_what_our_client_encodes_is_what_the_server_decodes(version: int, data: st.DataObject) -> None:
    """Covers what the driver never sends: names, skip-metadata, now, keyspace with EXECUTE."""
    sent = data.draw(parameters(version))
    query = requests.decode_query(version, client_messages.encode_query(version, "Q", sent))
    assert fields(query.parameters) == fields(sent)
    encoded = client_messages.encode_execute(version, ID, METADATA_ID, sent)
    execute = requests.decode_execute(version, encoded)
    assert fields(execute.parameters) == fields(sent)
    bound = [] if sent.names else sent.values
    sent.values, sent.names = [], None
    statements = [BatchStatement("S", None, bound), BatchStatement(None, ID, [])]
    batch = requests.decode_batch(version, client_messages.encode_batch(version, Batch(1, statements, sent)))
    assert fields(batch.parameters) == fields(sent)
    assert [statement.values for statement in batch.statements] == [bound, []]


@VERSIONS
@given(data=st.data(), garbage=st.binary(max_size=12))
def test_the_fast_and_the_thorough_way_agree(version: int, data: st.DataObject, garbage: bytes) -> None:
    """Bytes after the last field are ignored, also where they look like a tail."""
    sent = data.draw(parameters(version))
    encoded = client_messages.encode_execute(version, ID, METADATA_ID, sent) + garbage
    assert fields(requests.decode_execute(version, encoded).parameters) == fields(sent)


DECODERS = [requests.decode_execute, requests.decode_query, requests.decode_prepare, requests.decode_batch]


@VERSIONS
@given(data=st.data())
def test_cut_or_damaged_bodies_raise_only_protocol_errors(version: int, data: st.DataObject) -> None:
    sent = data.draw(parameters(version))
    encoded = data.draw(
        st.sampled_from(
            [
                client_messages.encode_execute(version, ID, METADATA_ID, sent),
                client_messages.encode_query(version, "SELECT", sent),
                client_messages.encode_prepare(version, "SELECT"),
                client_messages.encode_batch(
                    version, Batch(0, [BatchStatement("S", None, sent.values)], sent)
                ),
            ]
        )
    )
    damaged = bytearray(encoded[: data.draw(st.integers(0, len(encoded)))])
    for _ in range(data.draw(st.integers(0, 3))):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    for decode in DECODERS:
        with contextlib.suppress(ProtocolError):
            decode(version, bytes(damaged))


@VERSIONS
@given(data=st.data())
def test_a_body_cut_anywhere_is_refused(version: int, data: st.DataObject) -> None:
    """Else a value cut short would be stored as if it were whole."""
    sent = data.draw(parameters(version))
    encoded = client_messages.encode_execute(version, ID, METADATA_ID, sent)
    cut = encoded[: data.draw(st.integers(0, len(encoded) - 1))]
    with pytest.raises(ProtocolError):
        requests.decode_execute(version, cut)


def execute_body(consistency: bytes = b"\x00\x01", flags: int = 1, rest: bytes = b"\x00\x00") -> bytes:
    return b"\x00\x10" + ID + consistency + bytes((flags,)) + rest


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (execute_body(consistency=b"\x00\x63"), "Unknown code 99 for a consistency level"),
        (execute_body(rest=b"\x00\x01\xff\xff\xff\xfd"), "Invalid ByteBuf length -3"),
        (execute_body(rest=b"\x00\x01\x7f\xff\xff\xff"), "Not enough bytes"),
        (execute_body(rest=b"\xff\xff"), "Not enough bytes"),
        (execute_body(flags=0x20, rest=b"\x80" + bytes(7)), r"Out of bound timestamp, must be in \[-92"),
        (execute_body(flags=0x21, rest=b"\x00\x00\x80" + bytes(7)), "Out of bound timestamp"),
        (execute_body(flags=0x10, rest=b"\x00\x0b"), "Unknown code 11 for a consistency level"),
        (execute_body(flags=0x01 | QUERY_NAMES, rest=b"\x00\x01\x00\x05ab"), "2 bytes length"),
    ],
)
def test_refusals_of_execute(sent: bytes, expected: str) -> None:
    with pytest.raises(ProtocolError, match=expected):
        requests.decode_execute(4, sent)


def test_as_many_values_as_the_count_can_say() -> None:
    sent = execute_body(rest=b"\xff\xff" + b"\xff\xff\xff\xff" * 65_535)
    assert requests.decode_execute(4, sent).parameters.values == [None] * 65_535


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"\x03\x00\x00", "Invalid BATCH message type 3"),
        (b"\x00\x00\x01\x02", "Invalid query kind in BATCH messages. Must be 0 or 1 but got 2"),
        (b"\x00\xff\xff", "Not enough bytes"),
    ],
)
def test_refusals_of_batch(sent: bytes, expected: str) -> None:
    with pytest.raises(ProtocolError, match=expected):
        requests.decode_batch(4, sent)


@VERSIONS
def test_template_is_the_same_execute(version: int) -> None:
    """The load generator would measure something else than it says."""
    sent = QueryParameters(4, True, [], page_size=100, timestamp_us=5)
    template = client_messages.ExecuteTemplate(version, ID, METADATA_ID, 2, sent)
    envelope = template.envelope(9, client_messages.encode_values([b"a", None]))
    sent.values = [b"a", None]
    expected = client_messages.encode_execute(version, ID, METADATA_ID, sent)
    assert envelope == bytes((version, 0, 0, 9, 10)) + len(expected).to_bytes(4, "big") + expected
