"""Two ends of a connection that have shaken hands, and Apache's Python driver as the third opinion."""

from __future__ import annotations

import io
import itertools
from typing import Any

from cassandra.connection import locally_supported_compressions
from cassandra.protocol import _ProtocolHandler
from cassandra.segment import SegmentCodec

from ourodb.cql.wire.client import ClientConnection
from ourodb.cql.wire.connection import ServerConnection, State
from ourodb.cql.wire.frames import unpack_header

WAYS = [(3, ""), (3, "lz4"), (3, "snappy"), (4, ""), (4, "lz4"), (4, "snappy"), (5, ""), (5, "lz4")]
"""(version, compression) of every kind of connection."""


def pair(version: int, compression: str = "") -> tuple[ServerConnection, ClientConnection]:
    """Both ends of a connection that is ready."""
    server, client = ServerConnection(), ClientConnection(version, compression)
    client.start(0)
    assert server.receive(client.take_outgoing()) == []
    assert len(client.receive(server.take_outgoing())) == 1
    assert server.state is State.READY
    assert client.state is State.READY
    return server, client


class Driver:
    """Encodes requests and decodes responses with cassandra-driver's pure Python code."""

    def __init__(self, version: int, compression: str) -> None:
        self.version = version
        self.compress, self.decompress = locally_supported_compressions.get(compression, (None, None))
        self.codec = SegmentCodec(self.compress, self.decompress)

    def encode(self, message: Any, stream: int, framed: bool = True) -> bytes:
        compress = self.compress if framed else None
        envelope = _ProtocolHandler.encode_message(message, stream, self.version, compress, False)
        if self.version < 5 or not framed:
            return bytes(envelope)
        buffer = io.BytesIO()
        self.codec.encode(buffer, envelope)
        return buffer.getvalue()

    def decode(self, data: bytes, framed: bool = True) -> list[tuple[int, Any]]:
        """(stream, message) of each response in ``data``, which must hold whole ones."""
        if self.version >= 5 and framed:
            data = self._unsegment(data)
        decoded = []
        while data:
            version, flags, stream, opcode, length = unpack_header(data)
            assert version & 0x7F == self.version
            body, data = data[9 : 9 + length], data[9 + length :]
            assert len(body) == length
            message = _ProtocolHandler.decode_message(
                self.version, {}, stream, flags, opcode, body, self.decompress, None
            )
            decoded.append((stream, message))
        return decoded

    def _unsegment(self, data: bytes) -> bytes:
        buffer = io.BytesIO(data)
        payloads = []
        while buffer.tell() < len(data):
            header = self.codec.decode_header(buffer)
            payloads.append(self.codec.decode(buffer, header).payload)
        return b"".join(payloads)


def in_chunks(data: bytes, cuts: list[int]) -> list[bytes]:
    """``data`` cut at the given places."""
    places = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]
