"""Responses as cassandra-driver decodes them. A failure here means wrong results, or the wrong error, at clients."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from cassandra import WriteType
from cassandra.cqltypes import lookup_casstype
from hypothesis import given
from hypothesis import strategies as st
from tests.cql.wire.ends import Driver

from ourodb import errors
from ourodb.cluster.metadata.submissions import InDoubt
from ourodb.cql.wire import client_messages, columns, responses
from ourodb.cql.wire.client_messages import decode_response
from ourodb.cql.wire.codes import (
    AUTH_CHALLENGE,
    AUTH_SUCCESS,
    AUTHENTICATE,
    ERROR,
    EVENT,
    RESULT,
    SUPPORTED,
)
from ourodb.cql.wire.columns import ColumnSpec, RowsMetadata
from ourodb.cql.wire.frames import pack_header
from ourodb.cql.wire.responses import SchemaChange
from ourodb.errors import ProtocolError

VERSIONS = pytest.mark.parametrize("version", [3, 4, 5])
TEXT, INT, DURATION, DATE = b"\x00\x0d", b"\x00\x09", b"\x00\x15", b"\x00\x11"
LIST_OF_MAP = b"\x00\x20\x00\x21" + INT + DURATION
TUPLE = b"\x00\x31\x00\x02" + DATE + TEXT
UDT = b"\x00\x30\x00\x02ks\x00\x01u\x00\x01\x00\x01f" + DURATION
CUSTOM = b"\x00\x00\x00\x2corg.apache.cassandra.db.marshal.DurationType"
ADDRESS = bytes((10, 0, 0, 7))


def by_driver(version: int, opcode: int, body: bytes, flags: int = 0) -> Any:
    envelope = pack_header(0x80 | version, flags, 1, opcode, len(body)) + body
    return Driver(version, "").decode(envelope, framed=False)[0][1]


ERRORS: list[errors.RequestError] = [
    errors.ServerError("boom"),
    errors.ProtocolError("wrong"),
    errors.BadCredentials("who?"),
    errors.Unavailable(6, 3, 1),
    errors.Overloaded("full"),
    errors.IsBootstrapping("wait"),
    errors.TruncateError("no"),
    errors.WriteTimeout(4, 1, 2, "BATCH_LOG"),
    errors.WriteTimeout(4, 1, 2, "CAS", contentions=7),
    errors.ReadTimeout(4, 1, 2, True),
    errors.ReadFailure(4, 1, 2, {ADDRESS: 1, bytes(16): 0}, False),
    errors.WriteFailure(4, 1, 2, {ADDRESS: 3}, "SIMPLE"),
    errors.FunctionFailure("ks", "f", ["int", "list<text>"], "division by zero"),
    errors.CasWriteUnknown(8, 1, 2),
    errors.CqlSyntaxError("line 1:0 no viable alternative"),
    errors.Unauthorized("no"),
    errors.InvalidRequest("bad"),
    errors.NotSupported("that"),
    errors.ConfigurationException("bad option"),
    errors.AlreadyExists("ks", "t"),
    errors.AlreadyExists("ks"),
    errors.Unprepared(bytes(range(16))),
]


@VERSIONS
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: f"{type(error).__name__}-{error.message[:12]}")
def test_errors_as_the_driver_reads_them(version: int, error: errors.RequestError) -> None:
    message = by_driver(version, ERROR, responses.encode_error(version, error))
    assert message.message == error.message
    info = message.info
    older = {
        errors.CasWriteUnknown: (5, errors.ErrorCode.WRITE_TIMEOUT),
        errors.ReadFailure: (4, errors.ErrorCode.READ_TIMEOUT),
        errors.WriteFailure: (4, errors.ErrorCode.WRITE_TIMEOUT),
        errors.FunctionFailure: (4, errors.ErrorCode.INVALID),
    }
    since, replacement = older.get(type(error), (3, error.code))
    assert message.code == (error.code if version >= since else replacement)
    if version < since:
        return
    if isinstance(error, errors.Unavailable):
        assert info == {"consistency": 6, "required_replicas": 3, "alive_replicas": 1}
    elif isinstance(
        error, errors.ReadTimeout | errors.WriteTimeout | errors.ReadFailure | errors.WriteFailure
    ):
        assert (info["consistency"], info["received_responses"], info["required_responses"]) == (4, 1, 2)
        if isinstance(error, errors.ReadTimeout | errors.ReadFailure):
            assert info["data_retrieved"] == error.data_present
        else:
            assert WriteType.value_to_name[info["write_type"]] == error.write_type
        if isinstance(error, errors.ReadFailure | errors.WriteFailure):
            assert info["failures"] == len(error.reasons)
            if version == 5:
                assert list(info["error_code_map"].values()) == list(error.reasons.values())
    elif isinstance(error, errors.FunctionFailure):
        assert info == {"keyspace": "ks", "function": "f", "arg_types": ["int", "list<text>"]}
    elif isinstance(error, errors.AlreadyExists):
        assert info == {"keyspace": "ks", "table": error.table}
    elif isinstance(error, errors.Unprepared):
        assert info == error.statement_id


@VERSIONS
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: f"{type(error).__name__}-{error.message[:12]}")
def test_errors_as_our_client_reads_them(version: int, error: errors.RequestError) -> None:
    read = decode_response(version, ERROR, 0, responses.encode_error(version, error)).message
    assert isinstance(read, errors.RequestError)
    assert read.message == str(read) == error.message
    if version == 5 and type(error) is not errors.NotSupported:
        assert type(read) is type(error)
        assert vars(read) == vars(error)


@VERSIONS
def test_an_error_of_a_narrower_class_has_the_fields_of_its_kind(version: int) -> None:
    """A change of the schema that is in doubt: without fields, drivers give up the connection."""
    error = InDoubt(2, "Changing the schema is in doubt")
    body = responses.encode_error(version, error)
    assert by_driver(version, ERROR, body).info["required_responses"] == 2
    read = decode_response(version, ERROR, 0, body).message
    assert type(read) is errors.WriteTimeout
    assert vars(read) == vars(error)


def test_an_endless_error_text_is_cut() -> None:
    """A statement of a megabyte, quoted in an error, must not break the connection."""
    body = responses.encode_error(4, errors.InvalidRequest("x" * 1_000_000))
    assert by_driver(4, ERROR, body).message == "x" * 65_535


SPECS = [
    ColumnSpec("ks", "t", "k", INT),
    ColumnSpec("ks", "t", "größe", TEXT),
    ColumnSpec("ks", "t", "d", DATE),
    ColumnSpec("ks", "t", "m", LIST_OF_MAP),
    ColumnSpec("ks", "t", "p", TUPLE),
    ColumnSpec("ks", "t", "u", UDT),
]
CELLS = [(7).to_bytes(4, "big"), "ö".encode(), None, None, None, None]


@VERSIONS
def test_rows_as_the_driver_reads_them(version: int) -> None:
    metadata = RowsMetadata(SPECS, version)
    row = columns.encode_row(CELLS)
    read = by_driver(version, RESULT, metadata.rows(2, [row, row]))
    assert read.column_names == [spec.name for spec in SPECS]
    assert read.parsed_rows == [(7, "ö", None, None, None, None)] * 2
    assert read.paging_state is None
    assert [spec[:2] for spec in read.column_metadata] == [("ks", "t")] * 6
    types = [spec[3].cql_parameterized_type() for spec in read.column_metadata]
    assert types[:5] == [
        "int",
        "varchar",
        "date",
        "list<map<int, duration>>",
        "frozen<tuple<date, varchar>>",
    ]


def test_columns_of_several_tables() -> None:
    specs = [ColumnSpec("ks", "a", "k", INT), ColumnSpec("ks", "b", "k", INT)]
    read = by_driver(4, RESULT, RowsMetadata(specs, 4).rows(0, []))
    assert [spec[:3] for spec in read.column_metadata] == [("ks", "a", "k"), ("ks", "b", "k")]


@VERSIONS
def test_pages_skipped_and_changed_metadata(version: int) -> None:
    """In v5 a client whose metadata are outdated would misread every column if the flag or the order were wrong."""
    metadata = RowsMetadata(SPECS[:2], version)
    row = columns.encode_row(CELLS[:2])
    body = metadata.rows_page(1, [row], skip_metadata=True, paging_state=b"next")
    rows = decode_response(version, RESULT, 0, body).message
    assert rows.metadata == (2, None, b"next", b"")
    assert rows.rows == [CELLS[:2]]
    assert metadata.rows_page(1, [row], skip_metadata=True) == metadata.rows(1, [row], True)
    assert metadata.rows_page(1, [row]) == metadata.rows(1, [row])
    if version == 5:
        body = metadata.rows_page(1, [row], skip_metadata=True, paging_state=b"next", changed=True)
        read = by_driver(version, RESULT, body)
        assert read.result_metadata_id == metadata.id
        assert read.paging_state == b"next"
        assert read.parsed_rows == [(7, "ö")]
        assert decode_response(5, RESULT, 0, body).message.metadata.new_id == metadata.id


def test_metadata_id_tells_results_apart() -> None:
    ids = {columns.result_metadata_id(SPECS[:count]) for count in range(7)}
    renamed = [SPECS[0]._replace(name="k2")]
    retyped = [SPECS[0]._replace(type_option=TEXT)]
    ids |= {columns.result_metadata_id(renamed), columns.result_metadata_id(retyped)}
    assert len(ids) == 9
    assert {len(digest) for digest in ids} == {16}
    assert columns.result_metadata_id(SPECS[:1]).hex() == RowsMetadata(SPECS[:1], 5).id.hex()


def test_types_of_later_versions_become_custom_types() -> None:
    """An old driver refuses the whole result over a type id that it doesn't know."""
    assert columns.type_option_for(5, LIST_OF_MAP) == LIST_OF_MAP
    assert columns.type_option_for(4, LIST_OF_MAP) == b"\x00\x20\x00\x21" + INT + CUSTOM
    assert columns.type_option_for(4, UDT) == UDT[:-2] + CUSTOM
    assert columns.type_option_for(4, TUPLE) == TUPLE
    assert columns.type_option_for(4, CUSTOM) == CUSTOM
    date = b"org.apache.cassandra.db.marshal.SimpleDateType"
    assert columns.type_option_for(3, TUPLE) == b"\x00\x31\x00\x02\x00\x00\x00\x2e" + date + TEXT
    assert lookup_casstype(date.decode()).typename == "date"


@VERSIONS
@pytest.mark.parametrize("selects", [True, False], ids=["select", "insert"])
def test_prepared_as_the_driver_reads_it(version: int, selects: bool) -> None:
    result = RowsMetadata(SPECS, version) if selects else None
    statement_id = bytes(range(16))
    body = responses.encode_prepared(version, statement_id, SPECS[:3], [2, 0], result)
    read = by_driver(version, RESULT, body)
    assert read.query_id == statement_id
    assert [column.name for column in read.bind_metadata] == ["k", "größe", "d"]
    assert read.pk_indexes == ([2, 0] if version >= 4 else None)
    assert len(read.column_metadata or ()) == (6 if selects else 0)
    if version == 5:
        assert read.result_metadata_id == (result.id if result else columns.EMPTY_METADATA_ID)
    ours = decode_response(version, RESULT, 0, body).message
    assert ours.statement_id == statement_id
    assert len(ours.markers) == 3
    assert ours.partition_key_indexes == ((2, 0) if version >= 4 else ())
    if selects and version == 5:
        assert ours.result.columns == tuple(SPECS)


CHANGES = [
    SchemaChange("CREATED", "KEYSPACE", "ks"),
    SchemaChange("UPDATED", "TABLE", "ks", "t"),
    SchemaChange("DROPPED", "TYPE", "ks", "u"),
    SchemaChange("CREATED", "FUNCTION", "ks", "f", ("int", "text")),
    SchemaChange("CREATED", "AGGREGATE", "ks", "a", ()),
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.target)
def test_schema_changes_as_the_driver_reads_them(change: SchemaChange) -> None:
    result = by_driver(4, RESULT, responses.encode_schema_change(change)).schema_change_event
    event = by_driver(4, EVENT, responses.encode_schema_change_event(change))
    assert event.event_type == "SCHEMA_CHANGE"
    assert str(event.event_args) == str(result)
    assert (result["change_type"], result["target_type"], result["keyspace"]) == change[:3]
    if change.target in ("TABLE", "TYPE"):
        assert result[change.target.lower()] == change.name
    elif change.target != "KEYSPACE":
        described = result[change.target.lower()]
        assert described.name == change.name
        assert tuple(described.argument_types) == change.argument_types
    assert decode_response(4, EVENT, 0, responses.encode_schema_change_event(change)).message == change
    assert decode_response(4, RESULT, 0, responses.encode_schema_change(change)).message == change


def test_node_events_as_the_driver_reads_them() -> None:
    status = by_driver(4, EVENT, responses.encode_status_change_event("UP", ADDRESS, 9042))
    assert (status.event_type, status.event_args) == (
        "STATUS_CHANGE",
        {"change_type": "UP", "address": ("10.0.0.7", 9042)},
    )
    body = responses.encode_topology_change_event("NEW_NODE", bytes(15) + b"\x01", 9043)
    topology = by_driver(5, EVENT, body)
    assert topology.event_args == {"change_type": "NEW_NODE", "address": ("::1", 9043)}
    assert decode_response(5, EVENT, 0, body).message == (
        "TOPOLOGY_CHANGE", "NEW_NODE", bytes(15) + b"\x01", 9043,
    )  # fmt: skip


def test_handshake_answers_as_the_driver_reads_them() -> None:
    supported = by_driver(4, SUPPORTED, responses.encode_supported())
    assert supported.cql_versions == ["3.4.7"]
    assert supported.options == {
        "COMPRESSION": ["snappy", "lz4"],
        "PROTOCOL_VERSIONS": ["3/v3", "4/v4", "5/v5"],
    }
    authenticate = by_driver(4, AUTHENTICATE, responses.encode_authenticate("org.example.Auth"))
    assert authenticate.authenticator == "org.example.Auth"
    assert by_driver(4, AUTH_CHALLENGE, responses.encode_auth_challenge(b"\x01?")).challenge == b"\x01?"
    assert by_driver(4, AUTH_SUCCESS, responses.encode_auth_success(b"token")).token == "token"
    assert decode_response(4, AUTH_SUCCESS, 0, responses.encode_auth_success()).message is None
    assert by_driver(4, RESULT, responses.encode_set_keyspace("ks")).new_keyspace == "ks"
    assert by_driver(4, RESULT, responses.VOID).kind == 1


@VERSIONS
def test_prefix_as_the_driver_reads_it(version: int) -> None:
    """Trace id, warnings, payload, in this order and nothing of the latter two before v4."""
    trace, payload = bytes(range(16)), {"key": b"value", "none": None}
    flags, prefix = responses.response_prefix(version, trace, ["careful", "very"], payload)
    read = by_driver(version, RESULT, prefix + responses.VOID, flags)
    assert read.kind == 1
    assert read.trace_id.bytes == trace
    assert read.warnings == (["careful", "very"] if version >= 4 else None)
    assert read.custom_payload == (payload if version >= 4 else None)
    ours = decode_response(version, RESULT, flags, prefix + responses.VOID)
    assert ours.tracing_id == trace
    assert ours.message is None
    assert ours.warnings == (["careful", "very"] if version >= 4 else [])
    assert responses.response_prefix(version) == (0, b"")


@given(
    st.sampled_from([ERROR, SUPPORTED, RESULT, EVENT, AUTHENTICATE, AUTH_CHALLENGE, AUTH_SUCCESS]),
    st.integers(3, 5),
    st.sampled_from([0, 2, 8, 14]),
    st.binary(max_size=80)
    | st.builds(lambda kind, rest: kind.to_bytes(4, "big") + rest, st.integers(0, 5), st.binary(max_size=60)),
)
def test_our_client_survives_any_server(opcode: int, version: int, flags: int, body: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        decode_response(version, opcode, flags, body)


def test_error_code_without_decoding() -> None:
    body = responses.encode_error(4, errors.Unprepared(b"id"))
    assert client_messages.error_code(body) == errors.ErrorCode.UNPREPARED
