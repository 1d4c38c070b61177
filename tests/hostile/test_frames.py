"""Bytes that aren't the protocol: each gets its error or the door, and never more memory than it is worth."""

from __future__ import annotations

import socket
import struct
from typing import Any

import lz4.block
import pytest
from tests.hostile.raw import Raw, bound, envelope

from ourodb import limits
from ourodb.cql.wire.client_messages import decode_response, encode_query, encode_startup
from ourodb.cql.wire.codes import ERROR, FLAG_COMPRESSED, OPTIONS, QUERY, STARTUP
from ourodb.cql.wire.frames import HEADER_BYTES, pack_header, unpack_header
from ourodb.cql.wire.primitives import write_string_map
from ourodb.cql.wire.segments import encode_segment
from ourodb.errors import InvalidRequest, ProtocolError

Address = tuple[str, int]
QUERY_BODY = encode_query(4, "SELECT * FROM system.local", bound())


def farewell(client: Raw) -> Any:
    """The error that comes before the node closes the connection."""
    data = client.rest()
    _, flags, _, opcode, length = unpack_header(data)
    assert opcode == ERROR
    assert len(data) == HEADER_BYTES + length
    return decode_response(4, opcode, flags, data[HEADER_BYTES:]).message


@pytest.mark.parametrize("version", [3, 4, 5])
@pytest.mark.parametrize("opcode", [0x04, 0x11, 0x7F, 0xFF])
def test_unknown_opcode(address: Address, version: int, opcode: int) -> None:
    with Raw(address, version) as client:
        answer = client.ask(opcode, b"body")
        assert isinstance(answer, ProtocolError)
        assert str(opcode) in str(answer)
        assert client.lives()


@pytest.mark.parametrize("version", [3, 4, 5])
@pytest.mark.parametrize("opcode", [0x00, 0x02, 0x08, 0x0C])
def test_opcode_of_a_response(address: Address, version: int, opcode: int) -> None:
    with Raw(address, version) as client:
        assert isinstance(client.ask(opcode, b""), ProtocolError)
        assert client.lives()


@pytest.mark.parametrize("compression", ["", "lz4"])
@pytest.mark.parametrize("where", ["header", "payload"])
def test_bad_checksum(address: Address, where: str, compression: str) -> None:
    with Raw(address, 5, compression) as client:
        header, payload, trailer = encode_segment(envelope(5, OPTIONS, b""), True, bool(compression))
        if where == "header":
            header = header[:-1] + bytes((header[-1] ^ 1,))
        else:
            payload = bytes((payload[0] ^ 1,)) + payload[1:]
        client.socket.sendall(header + payload + trailer)
        assert isinstance(client.message(), ProtocolError)
        assert client.cut_off()


@pytest.mark.parametrize("version", [3, 4, 5])
def test_truncated_frames(address: Address, version: int) -> None:
    """A frame may end anywhere when the client hangs up."""
    with Raw(address, version) as whole:
        whole.wire.send(0, QUERY, encode_query(version, "SELECT * FROM system.local", bound()))
        data = whole.wire.take_outgoing()
    for length in range(0, len(data), 3):
        with Raw(address, version) as client:
            client.socket.sendall(data[:length])
            client.socket.shutdown(socket.SHUT_WR)
            client.cut_off()


@pytest.mark.parametrize("version", [3, 4, 5])
def test_truncated_bodies(address: Address, version: int) -> None:
    """A body that ends before its fields do, in a frame that is whole."""
    body = encode_query(version, "SELECT * FROM system.local WHERE key = ?", bound([b"local"]))
    with Raw(address, version) as client:
        for length in range(len(body)):
            answer = client.ask(QUERY, body[:length])
            assert isinstance(answer, ProtocolError), length
        assert client.lives()


@pytest.mark.parametrize("version", [3, 4, 5])
def test_oversized_frame(address: Address, version: int) -> None:
    """It is skipped as it comes, and the connection goes on."""
    body = bytes(limits.FRAME_BYTES_MAX + 1)
    with Raw(address, version) as client:
        answer = client.ask(QUERY, body)
        assert isinstance(answer, InvalidRequest)
        assert "too big" in str(answer)
        assert client.lives()


@pytest.mark.parametrize("length", [limits.UNAUTHENTICATED_MESSAGE_BYTES_MAX + 1, 2**31 - 1])
def test_length_that_nobody_may_claim_before_startup(address: Address, length: int) -> None:
    with Raw(address, 4, start=False) as client:
        client.socket.sendall(pack_header(4, 0, 0, STARTUP, length))
        assert "too big" in str(farewell(client))


@pytest.mark.parametrize("version", [3, 4])
def test_length_of_two_gib(address: Address, version: int) -> None:
    with Raw(address, version) as client:
        client.socket.sendall(pack_header(version, 0, 1, QUERY, 2**31 - 1) + bytes(1 << 20))
        assert isinstance(client.message(), InvalidRequest)


def test_length_of_two_gib_in_segments(address: Address) -> None:
    with Raw(address, 5) as client:
        piece = pack_header(5, 0, 1, QUERY, 2**31 - 1) + bytes(100_000)
        client.socket.sendall(b"".join(encode_segment(piece, False, False)))
        assert isinstance(client.message(), InvalidRequest)
        for _ in range(200):
            client.socket.sendall(b"".join(encode_segment(bytes(100_000), False, False)))


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("length", [-1, -(2**31)])
@pytest.mark.parametrize("start", [False, True])
def test_length_below_zero(address: Address, version: int, length: int, start: bool) -> None:
    with Raw(address, version, start=start) as client:
        client.socket.sendall(struct.pack(">BBhBi", version, 0, 1, OPTIONS, length))
        assert str(length) in str(farewell(client))


@pytest.mark.parametrize("length", [-1, -(2**31)])
def test_length_below_zero_in_a_segment(address: Address, length: int) -> None:
    with Raw(address, 5) as client:
        header = struct.pack(">BBhBi", 5, 0, 1, OPTIONS, length)
        client.socket.sendall(b"".join(encode_segment(header, True, False)))
        assert isinstance(client.message(), ProtocolError)
        assert client.cut_off()


@pytest.mark.parametrize("claimed", [2**31 - 1, 2**32 - 1, limits.FRAME_BYTES_MAX + 1, 1 << 20])
def test_lz4_bomb(address: Address, claimed: int) -> None:
    """A small body that claims to be a large one, or is."""
    block = lz4.block.compress(bytes(64 << 20), store_size=False)
    with Raw(address, 4, "lz4") as client:
        packed = (
            pack_header(4, FLAG_COMPRESSED, 1, QUERY, len(block) + 4) + struct.pack(">I", claimed) + block
        )
        client.socket.sendall(packed)
        assert isinstance(client.message(), ProtocolError)
        assert client.lives()


@pytest.mark.parametrize("claimed", [2**32 - 1, 2**31 - 1, limits.FRAME_BYTES_MAX + 1, 1 << 20])
def test_snappy_bomb(address: Address, claimed: int) -> None:
    length = bytearray()
    rest = claimed
    while rest >= 0x80:
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    length.append(rest)
    copies = b"\x00a" + b"\xfe\x01\x00" * 100_000
    with Raw(address, 4, "snappy") as client:
        body = bytes(length) + copies
        client.socket.sendall(pack_header(4, FLAG_COMPRESSED, 1, QUERY, len(body)) + body)
        assert isinstance(client.message(), ProtocolError)
        assert client.lives()


def test_segment_bomb(address: Address) -> None:
    """A compressed v5 segment whose payload isn't as long as its header says."""
    with Raw(address, 5, "lz4") as client:
        header, payload, trailer = encode_segment(bytes(100_000), True, True)
        bomb = lz4.block.compress(bytes(16 << 20), store_size=False)[: len(payload)]
        client.socket.sendall(header + bomb + trailer)
        assert isinstance(client.message(), ProtocolError)
        assert client.cut_off()


@pytest.mark.parametrize("version", [3, 4, 5])
def test_query_before_startup(address: Address, version: int) -> None:
    with Raw(address, version, start=False) as client:
        answer = client.ask(QUERY, encode_query(version, "SELECT * FROM system.local", bound()))
        assert isinstance(answer, ProtocolError)
        assert str(answer) == "Unexpected message QUERY, expecting STARTUP or OPTIONS"


@pytest.mark.parametrize("version", [3, 4, 5])
def test_startup_twice(address: Address, version: int) -> None:
    with Raw(address, version) as client:
        answer = client.ask(STARTUP, encode_startup({}))
        assert isinstance(answer, ProtocolError)
        assert client.lives()


@pytest.mark.parametrize("keys", [limits.STARTUP_KEYS_MAX, 65_535])
def test_startup_with_many_keys(address: Address, keys: int) -> None:
    """65,535 is the most that its [short] can say; a hundred thousand would be read as 34,464."""
    body = write_string_map({"CQL_VERSION": "3.0.0", **{f"k{key}": "" for key in range(keys - 1)}})
    with Raw(address, 4, start=False) as client:
        client.push(envelope(4, STARTUP, body))
        if keys == limits.STARTUP_KEYS_MAX:
            assert client.message() is None
        else:
            assert isinstance(farewell(client), ProtocolError)


def test_startup_with_a_hundred_thousand_keys(address: Address) -> None:
    body = struct.pack(">H", 100_000 % 65_536) + b"\x00\x01k\x00\x00" * 100_000
    with Raw(address, 4, start=False) as client:
        client.push(envelope(4, STARTUP, body))
        assert isinstance(farewell(client), ProtocolError)


def test_startup_that_only_claims_many_keys(address: Address) -> None:
    with Raw(address, 4, start=False) as client:
        assert isinstance(client.ask(STARTUP, b"\xff\xff" + b"\x00\x01k\x00\x00" * 100), ProtocolError)


def test_plain_http(address: Address) -> None:
    with Raw(address, 4, start=False) as client:
        client.socket.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n")
        assert isinstance(farewell(client), ProtocolError)


@pytest.mark.parametrize(
    "first", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"\x00" * 100, b"\xff" * 100, b"\x84" * 50]
)
def test_other_protocols(address: Address, first: bytes) -> None:
    with Raw(address, 4, start=False) as client:
        client.socket.sendall(first)
        assert isinstance(farewell(client), ProtocolError)


@pytest.mark.parametrize("version", [1, 2])
def test_versions_of_old(address: Address, version: int) -> None:
    """Answered in their own form of header, then the door."""
    with Raw(address, 4, start=False) as client:
        client.socket.sendall(struct.pack(">BBbBI", version, 0, 7, OPTIONS, 0))
        data = client.rest()
        assert data[:4] == bytes((0x80 | version, 0, 7, ERROR))


@pytest.mark.parametrize("version", [6, 65, 127])
def test_versions_to_come(address: Address, version: int) -> None:
    with Raw(address, 4, start=False) as client:
        client.socket.sendall(pack_header(version, 0, 0, OPTIONS, 0))
        assert "unsupported protocol version" in str(farewell(client))


def test_another_version_in_the_middle(address: Address) -> None:
    with Raw(address, 4) as client:
        client.socket.sendall(envelope(3, OPTIONS, b""))
        assert isinstance(farewell(client), ProtocolError)
