"""Any bytes, in any chunks. A failure here means that a stranger can crash a connection, or that what a request means
depends on how the network cut it."""

from __future__ import annotations

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cql.wire.ends import WAYS, in_chunks, pair

from ourodb.cql.wire import requests
from ourodb.cql.wire.client_messages import encode_startup
from ourodb.cql.wire.codes import BATCH, EXECUTE, OPCODE_NAMES, PREPARE, QUERY, REGISTER, STARTUP
from ourodb.cql.wire.connection import Request, ServerConnection
from ourodb.cql.wire.frames import compress_lz4, compress_snappy, pack_header
from ourodb.cql.wire.segments import encode_segment
from ourodb.errors import ProtocolError
from ourodb.limits import FRAME_BYTES_MAX

DECODERS = {
    QUERY: requests.decode_query,
    PREPARE: requests.decode_prepare,
    EXECUTE: requests.decode_execute,
    BATCH: requests.decode_batch,
}

ways = st.sampled_from(WAYS)
cuts = st.lists(st.integers(0, 10_000), max_size=10)
lengths = st.integers(0, 60) | st.sampled_from([2**31 - 1, 2**31, 2**32 - 1, FRAME_BYTES_MAX + 1, 70_000])


@st.composite
def frames(draw: st.DrawFn, version: int, compression: str) -> bytes:
    """An envelope that is mostly right."""
    body = draw(st.binary(max_size=60))
    flags = draw(st.just(0) | st.integers(0, 255))
    opcode = draw(st.sampled_from(sorted(OPCODE_NAMES)) | st.integers(0, 255))
    stream = draw(st.integers(0, 9) | st.integers(-32768, 32767))
    if opcode == STARTUP:
        body = encode_startup({})
    if flags & 1 and compression and draw(st.booleans()):
        body = compress_lz4(body) if compression == "lz4" else compress_snappy(body)
    length = len(body) if draw(st.integers(0, 9)) else draw(lengths)
    if not draw(st.integers(0, 19)):
        version = draw(st.integers(0, 255))
    return pack_header(version, flags, stream, opcode, length) + body


@st.composite
def streams(draw: st.DrawFn) -> tuple[int, str, bytes]:
    """A way of connecting and the bytes that arrive on a connection that is ready."""
    version, compression = draw(ways)
    envelopes = draw(st.lists(frames(version, compression), max_size=6))
    if version == 5:
        pieces = []
        for envelope in envelopes:
            contained = draw(st.booleans())
            places = [] if contained else draw(st.lists(st.integers(0, 99), max_size=2))
            split = in_chunks(envelope, places)
            pieces += [b"".join(encode_segment(piece, contained, bool(compression))) for piece in split]
        envelopes = pieces
    data = bytearray(b"".join(envelopes))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 3]))):
        if data:
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return version, compression, bytes(data)


def feed(connection: ServerConnection, chunks: list[bytes]) -> tuple[list[Request], bytes, bool]:
    """Requests, what is answered, whether it closes."""
    received, answered = [], []
    for chunk in chunks:
        received += connection.receive(chunk)
        answered.append(connection.take_outgoing())
        assert connection.buffered_bytes <= FRAME_BYTES_MAX + 131_071 + 20
    for _, opcode, _, body, _ in received:
        decode = DECODERS.get(opcode)
        with contextlib.suppress(ProtocolError):
            if decode is not None:
                decode(connection.version, body)
            elif opcode == REGISTER:
                requests.decode_register(body)
            else:
                requests.decode_auth_response(body)
    return received, b"".join(answered), connection.closing


@settings(max_examples=300)
@given(st.binary(max_size=200), cuts, st.booleans())
def test_any_bytes_before_startup(data: bytes, places: list[int], authenticates: bool) -> None:
    authenticator = "A" if authenticates else None
    whole = feed(ServerConnection(authenticator=authenticator), [data])
    assert feed(ServerConnection(authenticator=authenticator), in_chunks(data, places)) == whole


@settings(max_examples=300)
@given(st.sampled_from([3, 4, 5]), st.data(), cuts)
def test_any_messages_before_startup(version: int, data: st.DataObject, places: list[int]) -> None:
    sent = b"".join(data.draw(st.lists(frames(version, ""), max_size=5)))
    whole = feed(ServerConnection(), [sent])
    chunked = feed(ServerConnection(), in_chunks(sent, places))
    assert chunked[0] == whole[0]
    assert chunked[2] == whole[2]
    if version < 5:
        assert chunked[1] == whole[1]


@settings(max_examples=600)
@given(streams(), cuts)
def test_any_messages_when_ready(stream: tuple[int, str, bytes], places: list[int]) -> None:
    version, compression, data = stream
    whole = feed(pair(version, compression)[0], [data])
    chunked = feed(pair(version, compression)[0], in_chunks(data, places))
    assert chunked[0] == whole[0]
    assert chunked[2] == whole[2]
    if version < 5:
        assert chunked[1] == whole[1]


@settings(max_examples=200)
@given(ways, st.binary(max_size=200), cuts)
def test_our_client_takes_any_bytes(way: tuple[int, str], data: bytes, places: list[int]) -> None:
    ends = [pair(*way)[1] for _ in range(2)]
    read = ends[0].receive(data)
    assert [r for chunk in in_chunks(data, places) for r in ends[1].receive(chunk)] == read
    assert (ends[0].error is None) == (ends[1].error is None)


def test_one_byte_at_a_time() -> None:
    """The slowest client: the same requests, and no more work than bytes."""
    for version, compression in WAYS:
        server, client = pair(version, compression)
        bodies = [b"x" * size for size in (0, 1, 200, 3000)]
        for stream, body in enumerate(bodies):
            client.send(stream, QUERY, body)
        data = client.take_outgoing()
        received = [request for byte in data for request in server.receive(bytes((byte,)))]
        assert [request[3] for request in received] == bodies
