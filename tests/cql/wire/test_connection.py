"""One connection: handshake, framing, and what breaks the protocol.

A failure here means that drivers can't connect, that a broken client isn't told, or that it hurts more than itself.
"""

from __future__ import annotations

import itertools
import struct

import pytest
from cassandra.protocol import (
    AuthResponseMessage,
    ExecuteMessage,
    OptionsMessage,
    QueryMessage,
    RegisterMessage,
    StartupMessage,
)
from tests.cql.wire.ends import WAYS, Driver, pair

from ourodb.cql.wire import codes, responses
from ourodb.cql.wire.client import ClientConnection
from ourodb.cql.wire.client_messages import decode_response, encode_startup
from ourodb.cql.wire.columns import ColumnSpec, RowsMetadata, encode_row
from ourodb.cql.wire.connection import TRANSITIONS, Request, ServerConnection, State, Step
from ourodb.cql.wire.frames import compress_lz4, pack_header, unpack_header
from ourodb.cql.wire.requests import decode_execute, decode_query
from ourodb.cql.wire.segments import encode_segment
from ourodb.errors import ErrorCode, InvalidRequest, ProtocolError, RequestError, Unprepared
from ourodb.limits import FRAME_BYTES_MAX, STARTUP_KEYS_MAX, UNAUTHENTICATED_MESSAGE_BYTES_MAX

EVERY_WAY = pytest.mark.parametrize(("version", "compression"), WAYS)
VERSIONS = pytest.mark.parametrize("version", [3, 4, 5])
STARTUP_BODY = encode_startup({})


def frame(version: int, opcode: int, body: bytes = b"", stream: int = 1, flags: int = 0) -> bytes:
    return pack_header(version, flags, stream, opcode, len(body)) + body


def ready(version: int = 4, compression: str = "") -> ServerConnection:
    return pair(version, compression)[0]


def answers(data: bytes) -> list[tuple[int, int, RequestError | None]]:
    """(version byte, stream, error or None) of each unframed response."""
    read = []
    while data:
        version, flags, stream, opcode, length = unpack_header(data)
        message = decode_response(version & 0x7F, opcode, flags, data[9 : 9 + length]).message
        read.append((version, stream, message if isinstance(message, RequestError) else None))
        data = data[9 + length :]
    return read


def only_error(connection: ServerConnection) -> tuple[int, int, RequestError]:
    [(version, stream, error)] = answers(connection.take_outgoing())
    assert error is not None
    return version, stream, error


@EVERY_WAY
def test_the_driver_connects_and_asks(version: int, compression: str) -> None:
    """The whole way of a stock driver: OPTIONS, STARTUP, requests, in its own framing and compression."""
    driver, connection = Driver(version, compression), ServerConnection()
    assert connection.receive(driver.encode(OptionsMessage(), 3, framed=False)) == []
    [(stream, supported)] = driver.decode(connection.take_outgoing(), framed=False)
    assert stream == 3
    assert "lz4" in supported.options["COMPRESSION"]
    options = {"DRIVER_NAME": "python", "DRIVER_CONFIG": "{" + " " * 20_000 + "}"}
    if compression:
        options["COMPRESSION"] = compression
    startup = StartupMessage("3.4.7", options)
    assert connection.receive(driver.encode(startup, 4, framed=False)) == []
    [(stream, message)] = driver.decode(connection.take_outgoing(), framed=False)
    assert (stream, message.name) == (4, "READY")
    assert connection.options["DRIVER_NAME"] == "python"

    statement = "INSERT INTO t " + "x" * 300_000
    sent = driver.encode(QueryMessage(statement, 1), 5)
    sent += driver.encode(ExecuteMessage(b"i" * 16, [b"v"], 1, result_metadata_id=b"m" * 16), 6)
    sent += driver.encode(RegisterMessage(["SCHEMA_CHANGE"]), 7)
    sent += driver.encode(OptionsMessage(), 8)
    query, execute, register = connection.receive(sent)
    assert query[:2] == (5, codes.QUERY)
    assert decode_query(version, query[3]).statement == statement
    assert execute[:2] == (6, codes.EXECUTE)
    assert decode_execute(version, execute[3]).parameters.values == [b"v"]
    assert register[:2] == (7, codes.REGISTER)

    metadata = RowsMetadata([ColumnSpec("ks", "t", "c", b"\x00\x0d")], version)
    cell = b"y" * 200_000
    connection.send_result(5, metadata.rows(2, [encode_row([cell])] * 2))
    connection.send_void(6)
    connection.send(7, codes.READY, b"")
    connection.send_event(responses.encode_status_change_event("UP", bytes(4), 9042))
    connection.send_error(9, Unprepared(b"id"))
    read = driver.decode(connection.take_outgoing())
    assert [stream for stream, _ in read] == [8, 5, 6, 7, -1, 9]
    assert read[1][1].parsed_rows == [(cell.decode(),)] * 2
    assert read[2][1].kind == codes.RESULT_VOID
    assert read[4][1].event_args["change_type"] == "UP"
    assert read[5][1].info == b"id"
    assert connection.take_outgoing() == b""
    assert not connection.closing
    assert connection.buffered_bytes == 0


@VERSIONS
def test_authentication(version: int) -> None:
    """Nothing but AUTH_RESPONSE gets through before ``authenticated``; in v5 already in segments."""
    driver, connection = Driver(version, ""), ServerConnection(authenticator="org.example.Auth")
    connection.receive(driver.encode(StartupMessage("3.4.7", {}), 1, framed=False))
    [(_, message)] = driver.decode(connection.take_outgoing(), framed=False)
    assert message.authenticator == "org.example.Auth"
    assert connection.receive(driver.encode(QueryMessage("SELECT", 1), 2)) == []
    [(stream, error)] = driver.decode(connection.take_outgoing())
    assert stream == 2
    assert error.message == "Unexpected message QUERY, expecting SASL_RESPONSE"
    [request] = connection.receive(driver.encode(AuthResponseMessage(b"\0user\0password"), 3))
    assert request[:2] == (3, codes.AUTH_RESPONSE)
    connection.send(3, codes.AUTH_SUCCESS, responses.encode_auth_success())
    connection.authenticated()
    assert len(driver.decode(connection.take_outgoing())) == 1
    assert len(connection.receive(driver.encode(QueryMessage("SELECT", 1), 4))) == 1


def test_authenticated_only_once() -> None:
    with pytest.raises(KeyError):
        ready().authenticated()


def test_transitions_end_in_closed() -> None:
    """From each state there is a way out, and none leads out of CLOSED."""
    assert all((state, Step.CLOSED) in TRANSITIONS for state in State)
    assert {after for (before, _), after in TRANSITIONS.items() if before is State.CLOSED} == {State.CLOSED}


@pytest.mark.parametrize("version", [0, 6, 0x41, 0x42, 71])
def test_newer_versions_are_negotiated_down(version: int) -> None:
    """Drivers look for our version in the header and for these words in the text, on the stream that they used."""
    connection = ServerConnection()
    assert connection.receive(frame(version, codes.STARTUP, STARTUP_BODY, stream=77, flags=0x10)) == []
    version_byte, stream, error = only_error(connection)
    assert (version_byte, stream) == (0x85, 77)
    assert error.code == ErrorCode.PROTOCOL_ERROR
    assert error.message == (
        f"Invalid or unsupported protocol version ({version}); supported versions are (3/v3, 4/v4, 5/v5)"
    )
    assert connection.closing
    assert connection.state is State.CLOSED


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("body", [b"", STARTUP_BODY], ids=["OPTIONS", "STARTUP"])
def test_versions_before_3_are_told_in_their_own_header(version: int, body: bytes) -> None:
    connection = ServerConnection()
    connection.receive(struct.pack(">BBbBI", version, 0, 9, 5 if not body else 1, len(body)) + body)
    answer = connection.take_outgoing()
    version_byte, _, stream, opcode, length = struct.unpack_from(">BBbBI", answer)
    assert (version_byte, stream, opcode, length) == (0x80 | version, 9, codes.ERROR, len(answer) - 8)
    assert b"unsupported protocol version" in answer
    assert connection.closing


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03", b"\0" * 20]
)
def test_other_protocols_are_refused_and_cut_off(data: bytes) -> None:
    connection = ServerConnection()
    assert connection.receive(data) == []
    assert b"unsupported protocol version" in connection.take_outgoing()
    assert connection.closing
    assert connection.receive(frame(4, codes.OPTIONS)) == []
    assert connection.take_outgoing() == b""


@VERSIONS
def test_order_of_messages(version: int) -> None:
    connection = ServerConnection()
    assert connection.receive(frame(version, codes.QUERY, b"....", stream=5)) == []
    version_byte, stream, error = only_error(connection)
    assert (version_byte, stream) == (0x80 | version, 5)
    assert error.message == "Unexpected message QUERY, expecting STARTUP or OPTIONS"
    assert not connection.closing
    assert connection.receive(frame(version, codes.STARTUP, STARTUP_BODY)) == []
    assert connection.state is State.READY
    connection.take_outgoing()
    second = frame(version, codes.STARTUP, STARTUP_BODY, stream=6)
    if version == 5:
        second = b"".join(encode_segment(second, True, False))
    assert connection.receive(second) == []
    [(stream, error)] = Driver(version, "").decode(connection.take_outgoing())
    assert stream == 6
    assert error.message == "Unexpected message STARTUP, the connection is already initialized"
    assert not connection.closing


@pytest.mark.parametrize(
    ("version", "options", "expected"),
    [
        (4, {"COMPRESSION": "zstd"}, "Unknown compression algorithm: zstd"),
        (5, {"COMPRESSION": "snappy"}, "Snappy compression is not supported in protocol V5"),
        (4, {"CQL_VERSION": "2.0.0"}, "CQL version 2.0.0 is not supported by the binary protocol"),
        (4, {"CQL_VERSION": "new"}, "Invalid version value: new"),
    ],
)
def test_refused_startup_may_be_tried_again(version: int, options: dict[str, str], expected: str) -> None:
    connection = ServerConnection()
    connection.receive(frame(version, codes.STARTUP, encode_startup(options)))
    assert only_error(connection)[2].message.startswith(expected)
    assert connection.state is State.STARTING
    connection.receive(frame(version, codes.STARTUP, STARTUP_BODY))
    assert connection.state is State.READY


def test_startup_without_cql_version() -> None:
    connection = ServerConnection()
    connection.receive(frame(4, codes.STARTUP, b"\x00\x00"))
    assert only_error(connection)[2].message == "Missing value CQL_VERSION in STARTUP message"


def test_startup_keys_are_read_in_any_case() -> None:
    connection = ServerConnection()
    connection.receive(frame(4, codes.STARTUP, encode_startup({"compression": "LZ4", "no_compact": "true"})))
    assert connection.compression == "lz4"
    assert connection.options["NO_COMPACT"] == "true"


def test_startup_of_many_keys() -> None:
    """100,000 keys don't fit in a count of 16 bits; what fits is bounded by number and size."""
    connection = ServerConnection()
    connection.receive(frame(4, codes.STARTUP, b"\xff\xff" + b"\x00\x01k\x00\x00" * 5000))
    assert f"at most {STARTUP_KEYS_MAX}" in only_error(connection)[2].message
    connection.receive(frame(4, codes.STARTUP, b"\xff\xff" + b"\x00\x01k\x00\x00" * 100_000))
    assert "Request is too big" in only_error(connection)[2].message
    assert connection.closing


@pytest.mark.parametrize("length", [UNAUTHENTICATED_MESSAGE_BYTES_MAX + 1, 2**31 - 1])
def test_strangers_may_send_little(length: int) -> None:
    """The header alone decides: nothing is buffered for a message that will be refused."""
    connection = ServerConnection()
    connection.receive(pack_header(4, 0, 1, codes.STARTUP, length))
    assert "Request is too big" in only_error(connection)[2].message
    assert connection.closing
    assert connection.buffered_bytes == 0


@pytest.mark.parametrize("started", [False, True])
def test_negative_length_is_fatal(started: bool) -> None:
    connection = ready() if started else ServerConnection()
    connection.receive(pack_header(4, 0, 1, codes.OPTIONS, 2**32 - 5))
    message = only_error(connection)[2].message
    assert message == "Invalid value for envelope header body length field: -5"
    assert connection.closing


@pytest.mark.parametrize("version", [3, 4])
def test_oversized_request_is_skipped(version: int) -> None:
    """Cassandra answers on the stream and goes on; buffering it would let one client take all memory."""
    connection = ready(version)
    length = FRAME_BYTES_MAX + 1
    data = pack_header(version, 0, 3, codes.QUERY, length) + bytes(length) + frame(version, codes.QUERY, b"q")
    received: list[Request] = []
    for start in range(0, len(data), 1 << 20):
        received += connection.receive(data[start : start + (1 << 20)])
        assert connection.buffered_bytes <= 9
    _, stream, error = only_error(connection)
    assert (stream, type(error)) == (3, InvalidRequest)
    assert error.message == (
        f"Request is too big: length {length} exceeds maximum allowed length {FRAME_BYTES_MAX}."
    )
    assert [request[3] for request in received] == [b"q"]


def test_oversized_request_in_segments_is_skipped() -> None:
    connection = ready(5)
    length = FRAME_BYTES_MAX + 1
    data = pack_header(5, 0, 3, codes.QUERY, length) + bytes(length)
    for start in range(0, len(data), 131_071):
        piece = data[start : start + 131_071]
        assert connection.receive(b"".join(encode_segment(piece, False, False))) == []
        assert connection.buffered_bytes == 0
    [(stream, error)] = Driver(5, "").decode(connection.take_outgoing())
    assert stream == 3
    assert error.message.startswith("Request is too big")
    last = frame(5, codes.QUERY, b"q")
    assert len(connection.receive(b"".join(encode_segment(last, True, False)))) == 1


@pytest.mark.parametrize(
    ("opcode", "expected"),
    [
        (0x63, "Unknown opcode 99"),
        (0x04, "Unknown opcode 4"),
        (codes.RESULT, "Wrong protocol direction (expected RESPONSE, got REQUEST) for opcode 8 (RESULT)"),
        (codes.AUTH_RESPONSE, "Unexpected message AUTH_RESPONSE, the connection is already initialized"),
    ],
)
def test_wrong_opcodes_cost_only_their_stream(opcode: int, expected: str) -> None:
    connection = ready()
    received = connection.receive(frame(4, opcode, b"xx", stream=8) + frame(4, codes.QUERY, b"q", stream=9))
    _, stream, error = only_error(connection)
    assert (stream, error.message) == (8, expected)
    assert [request[0] for request in received] == [9]
    assert not connection.closing


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (frame(5, codes.QUERY), "Invalid message version. Got 5/v5 but previous messages"),
        (frame(0x84, codes.QUERY), "Wrong protocol direction (expected REQUEST, got RESPONSE)"),
        (frame(0x47, codes.QUERY), "Invalid message version. Got 71/v71"),
    ],
)
def test_foreign_headers_end_the_connection(data: bytes, expected: str) -> None:
    connection = ready()
    received = connection.receive(frame(4, codes.QUERY, b"q") + data + frame(4, codes.QUERY, b"q"))
    assert len(received) == 1
    assert only_error(connection)[2].message.startswith(expected)
    assert connection.closing


def test_negative_streams_are_the_servers() -> None:
    connection = ready()
    received = connection.receive(frame(4, codes.QUERY, b"abc", stream=-2) + frame(4, codes.QUERY, b"q"))
    assert only_error(connection)[1] == -2
    assert len(received) == 1


def test_flags_and_custom_payload() -> None:
    payload = b"\x00\x01\x00\x01k\x00\x00\x00\x01v"
    connection = ready(4)
    [tracing, custom, beta] = connection.receive(
        frame(4, codes.QUERY, b"q", flags=codes.FLAG_TRACING)
        + frame(4, codes.QUERY, payload + b"q", flags=codes.FLAG_CUSTOM_PAYLOAD)
        + frame(4, codes.QUERY, b"q", flags=codes.FLAG_USE_BETA | 0xE0)
    )
    assert tracing[2] & codes.FLAG_TRACING
    assert tracing[3:] == (b"q", None)
    assert custom[3:] == (b"q", {"k": b"v"})
    assert beta[3:] == (b"q", None)
    assert connection.receive(frame(4, codes.QUERY, payload[:-3], flags=codes.FLAG_CUSTOM_PAYLOAD)) == []
    assert "Not enough bytes" in only_error(connection)[2].message
    older = ready(3)
    assert older.receive(frame(3, codes.QUERY, payload, flags=codes.FLAG_CUSTOM_PAYLOAD)) == []
    assert "CUSTOM_PAYLOAD flag" in only_error(older)[2].message


@pytest.mark.parametrize(
    ("compression", "body"),
    [
        ("lz4", b"\x7f\xff\xff\xff" + b"\x00" * 40),
        ("lz4", (FRAME_BYTES_MAX + 1).to_bytes(4, "big") + b"\x00" * 40),
        ("lz4", (10_000).to_bytes(4, "big") + compress_lz4(b"x" * 9_999)[4:]),
        ("lz4", (9_000).to_bytes(4, "big") + compress_lz4(b"x" * 9_999)[4:]),
        ("lz4", (1_000_000).to_bytes(4, "big") + b"\x00" * 40),
        ("lz4", b"\x00\x00"),
        ("lz4", b"\x00\x00\x00\x05"),
        ("snappy", b"\xff\xff\xff\xff\x0f" + b"\x00" * 40),
        ("snappy", b"\x80\x80\x80\x04\x00"),
        ("snappy", b"\x05abc"),
        ("", compress_lz4(b"x" * 500)),
    ],
)
def test_false_compression_costs_only_its_stream(compression: str, body: bytes) -> None:
    """Bombs and garbage: refused by what they claim, before anything is allocated."""
    connection = ready(4, compression)
    data = frame(4, codes.QUERY, body, flags=codes.FLAG_COMPRESSED) + frame(4, codes.QUERY, b"q", stream=2)
    assert [request[0] for request in connection.receive(data)] == [2]
    assert isinstance(only_error(connection)[2], ProtocolError)
    assert not connection.closing


def test_compressed_nothing_is_nothing() -> None:
    for compression in ("lz4", "snappy"):
        connection = ready(4, compression)
        [request] = connection.receive(frame(4, codes.REGISTER, b"", flags=codes.FLAG_COMPRESSED))
        assert request[3] == b""


def test_damaged_segment_ends_the_connection() -> None:
    """Cassandra closes too: which requests were in it can't be known."""
    connection = ready(5)
    good = b"".join(encode_segment(frame(5, codes.QUERY, b"q"), True, False))
    damaged = bytearray(good)
    damaged[-1] ^= 1
    assert len(connection.receive(good + bytes(damaged) + good)) == 1
    [(_, error)] = Driver(5, "").decode(connection.take_outgoing())
    assert "unrecoverable CRC mismatch" in error.message
    assert connection.closing


CUT = frame(5, codes.QUERY, b"0123456789")


@pytest.mark.parametrize(
    "segments",
    [
        [(CUT[:-1], True)],
        [(CUT[:5], True)],
        [(CUT[:12], False), (CUT, True)],
        [(CUT[:12], False), (CUT[12:] + CUT, False)],
        [(frame(5, codes.QUERY, b"")[:-4] + b"\x7f\xff\xff\xff", True)],
    ],
    ids=["cut body", "cut header", "interrupted", "overrun", "length beyond the segment"],
)
def test_envelopes_that_disagree_with_their_segments(segments: list[tuple[bytes, bool]]) -> None:
    connection = ready(5)
    data = b"".join(b"".join(encode_segment(piece, contained, False)) for piece, contained in segments)
    assert connection.receive(data) == []
    assert connection.take_outgoing() != b""
    assert connection.closing


@pytest.mark.parametrize("sizes", [(3, 6, 10), (9, 10), (19,), (0, 18, 1)])
def test_a_message_may_span_segments_in_any_sizes(sizes: tuple[int, ...]) -> None:
    connection = ready(5)
    ends = list(itertools.accumulate(sizes))
    pieces = [CUT[end - size : end] for end, size in zip(ends, sizes, strict=True)]
    received = [
        request
        for piece in pieces
        for request in connection.receive(b"".join(encode_segment(piece, False, False)))
    ]
    assert [request[3] for request in received] == [b"0123456789"]
    assert connection.buffered_bytes == 0


def test_startup_and_segments_in_one_chunk() -> None:
    """A client may pipeline before it has seen READY: the framing changes in the middle of a chunk."""
    connection = ServerConnection()
    query = b"".join(encode_segment(frame(5, codes.QUERY, b"q"), True, False))
    received = connection.receive(frame(5, codes.STARTUP, STARTUP_BODY) + query)
    assert [request[3] for request in received] == [b"q"]
    connection.send_void(1)
    outgoing = connection.take_outgoing()
    assert outgoing[:9] == pack_header(0x85, 0, 1, codes.READY, 0)
    assert len(Driver(5, "").decode(outgoing[9:])) == 1


def test_ready_goes_out_before_segments_also_when_taken_alone() -> None:
    connection = ServerConnection()
    connection.receive(frame(5, codes.STARTUP, STARTUP_BODY))
    assert connection.take_outgoing() == pack_header(0x85, 0, 1, codes.READY, 0)
    assert connection.take_outgoing() == b""


def test_closed_by_its_owner() -> None:
    connection = ready()
    connection.receive(frame(4, codes.QUERY, b"q")[:-1])
    connection.close()
    connection.close()
    assert connection.closing
    assert connection.buffered_bytes == 0
    assert connection.receive(b"q" + frame(4, codes.QUERY, b"q")) == []
    connection.send_void(1)
    assert connection.take_outgoing() != b""


def test_small_responses_are_not_compressed() -> None:
    connection = ready(4, "lz4")
    connection.send_result(1, b"\0\0\0\3" + b"a" * 20)
    assert connection.take_outgoing()[1] == 0
    connection.send_result(1, b"\0\0\0\3" + b"a" * 2000)
    sent = connection.take_outgoing()
    assert sent[1] == codes.FLAG_COMPRESSED
    assert len(sent) < 100


@EVERY_WAY
def test_our_client_and_our_server(version: int, compression: str) -> None:
    """The load generator's end: large and small messages in both directions, events, errors."""
    server, client = pair(version, compression)
    bodies = [b"", b"x" * 10, b"y" * 400_000, bytes(range(256)) * 10]
    for stream, body in enumerate(bodies):
        client.send(stream, codes.QUERY, body)
    assert [(r[0], r[3]) for r in server.receive(client.take_outgoing())] == list(enumerate(bodies))
    for stream, body in enumerate(bodies):
        server.send_result(stream, body)
    server.send_event(b"event")
    server.send_error(7, InvalidRequest("no"), *responses.response_prefix(version, bytes(16)))
    server.send(8, codes.READY, b"")
    read = client.receive(server.take_outgoing())
    assert [(r[0], r[3]) for r in read[:4]] == list(enumerate(bodies))
    assert read[4][:2] == (-1, codes.EVENT)
    assert decode_response(version, read[5][1], read[5][2], read[5][3]).message.message == "no"
    assert read[6][:2] == (8, codes.READY)
    assert client.error is None


def test_our_client_is_told_the_version() -> None:
    client, server = ClientConnection(5), ServerConnection()
    client.start(1)
    server.receive(bytes((6,)) + client.take_outgoing()[1:])
    client.version = 6
    [answer] = client.receive(server.take_outgoing())
    assert answer[1] == codes.ERROR
    assert client.server_version == 5
    assert client.state is State.STARTING


@pytest.mark.parametrize(
    "data",
    [
        frame(4, codes.RESULT, b"\0\0\0\1"),
        frame(0x85, codes.RESULT, b"\0\0\0\1"),
        pack_header(0x84, 0, 1, codes.RESULT, 2**31 - 1),
        frame(0x84, codes.RESULT, b"\0\0\0\1", stream=-5),
        frame(0x84, codes.RESULT, b"\0\0\0\1", flags=codes.FLAG_COMPRESSED),
    ],
)
def test_our_client_gives_up_on_a_broken_server(data: bytes) -> None:
    client = pair(4)[1]
    assert client.receive(data) == []
    assert client.error is not None
    assert client.state is State.CLOSED


@pytest.mark.parametrize("compression", ["lz4", "snappy"])
def test_our_client_takes_a_compressed_ready(compression: str) -> None:
    """Cassandra compresses from the answer to STARTUP on."""
    client = ClientConnection(4, compression)
    client.start(0)
    client.take_outgoing()
    [ready] = client.receive(frame(0x84, codes.READY, b"", flags=codes.FLAG_COMPRESSED, stream=0))
    assert ready[:2] == (0, codes.READY)
    assert client.state is State.READY


def test_our_client_authenticates() -> None:
    server, client = ServerConnection(authenticator="A"), ClientConnection(5, "lz4")
    client.options(0)
    client.start(1, {"DRIVER_NAME": "bench"})
    server.receive(client.take_outgoing())
    assert [r[1] for r in client.receive(server.take_outgoing())] == [codes.SUPPORTED, codes.AUTHENTICATE]
    client.send(2, codes.AUTH_RESPONSE, b"\0\0\0\1t")
    assert len(server.receive(client.take_outgoing())) == 1
    server.send(2, codes.AUTH_SUCCESS, responses.encode_auth_success())
    server.authenticated()
    client.receive(server.take_outgoing())
    assert client.state is State.READY
    assert server.options["DRIVER_NAME"] == "bench"
