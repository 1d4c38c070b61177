"""What carries the messages, bent: segments, their lengths, flags and checksums, compressed bodies, headers.

Where a checksum says that bytes were damaged on their way, none of them may be taken for a request. Where the checksum
is right and the rest is nonsense, the client gets its error or the door. Every case has a connection of its own; what
was bent is followed by a request that is right and by zeros, which no protocol takes: so every connection ends with an
error.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import zlib
from collections.abc import Callable, Sequence

import lz4.block
import pytest
from hypothesis import given
from tests.hostile.mutations import INTERESTING, SEEDS, always_the_same, cases_of, mutated_bytes, requests
from tests.hostile.raw import Raw, envelope

from ourodb.cql.wire.client_messages import decode_response
from ourodb.cql.wire.codes import ERROR, FLAG_COMPRESSED, OPTIONS
from ourodb.cql.wire.envelopes import Envelope
from ourodb.cql.wire.frames import COMPRESSIONS, HEADER_BYTES
from ourodb.cql.wire.segments import CRC32_INITIAL, crc24
from ourodb.errors import ProtocolError, ServerError

Address = tuple[str, int]
BATCHES = 12
CASES_MIN = 1_000
"""Of each test; eleven tests."""
LENGTH_MAX = (1 << 17) - 1
ZEROS = bytes(LENGTH_MAX + 64)
"""Enough to complete the longest segment that was begun."""
STREAM_MIN = -(1 << 15)
SENTINEL = 20_000
"""Stream of the request that follows."""


class Segment:
    """One segment, each field of which can be wrong."""

    def __init__(self, payload: bytes, self_contained: bool, compressed: bool) -> None:
        self.payload = payload
        self.self_contained = self_contained
        self.compressed = compressed
        self.uncompressed = 0
        if compressed:
            self.uncompressed = len(payload)
            self.payload = lz4.block.compress(payload, store_size=False)
        self.length = len(self.payload)
        self.padding = 0

    def header(self) -> bytes:
        """Without its checksum."""
        if not self.compressed:
            bits = self.length | self.self_contained << 17 | self.padding % 64 << 18
            return bits.to_bytes(3, "little")
        bits = self.length | self.uncompressed << 17 | self.self_contained << 34 | self.padding % 32 << 35
        return bits.to_bytes(5, "little")

    def pack(self) -> bytes:
        """Both checksums are right."""
        header = self.header()
        crc32 = zlib.crc32(self.payload, CRC32_INITIAL)
        return header + crc24(header).to_bytes(3, "little") + self.payload + struct.pack("<I", crc32)


def segments_of(draw: random.Random, envelopes: Sequence[bytes], compressed: bool) -> list[Segment]:
    """The envelopes in one segment, in one each, or in pieces."""
    kind = draw.randrange(3)
    if kind == 0:
        return [Segment(b"".join(envelopes), True, compressed)]
    if kind == 1:
        return [Segment(one, True, compressed) for one in envelopes]
    found = []
    for one in envelopes:
        size = draw.randrange(1, len(one) + 1)
        found += [Segment(one[at : at + size], False, compressed) for at in range(0, len(one), size)]
    return found


def flipped(draw: random.Random, data: bytes) -> bytes:
    """One to three bits: as many as either checksum always notices."""
    result = bytearray(data)
    for bit in draw.sample(range(8 * len(data)), draw.randrange(1, 4)):
        result[bit // 8] ^= 1 << bit % 8
    return bytes(result)


def damaged(draw: random.Random, segment: Segment) -> bytes:
    """A segment as a bad cable leaves it: its header, its payload or a checksum doesn't fit the others."""
    packed = segment.pack()
    header_bytes = len(segment.header()) + 3
    if draw.random() < 0.5:
        return flipped(draw, packed[:header_bytes]) + packed[header_bytes:]
    return packed[:header_bytes] + flipped(draw, packed[header_bytes:])


def length_is_wrong(draw: random.Random, segment: Segment) -> None:
    segment.length = draw.choice([0, 1, segment.length - 1, segment.length + 1, LENGTH_MAX])
    segment.length = max(segment.length, 0)


def uncompressed_length_is_wrong(draw: random.Random, segment: Segment) -> None:
    if segment.compressed:
        right = segment.uncompressed
        segment.uncompressed = draw.choice([0, 1, right - 1, right + 1, LENGTH_MAX]) & LENGTH_MAX


def flag_is_wrong(draw: random.Random, segment: Segment) -> None:
    segment.self_contained = not segment.self_contained


def padding_is_set(draw: random.Random, segment: Segment) -> None:
    segment.padding = draw.randrange(1, 64)


def payload_is_bent(draw: random.Random, segment: Segment) -> None:
    """Of a compressed segment this is the LZ4 block; of another the envelopes with their headers."""
    segment.payload = mutated_bytes(draw, segment.payload)
    segment.length = len(segment.payload)


def payload_is_noise(draw: random.Random, segment: Segment) -> None:
    segment.payload = draw.randbytes(draw.randrange(300))
    segment.length = len(segment.payload)


def payload_is_empty(draw: random.Random, segment: Segment) -> None:
    segment.payload = b""
    segment.length = 0


Bend = Callable[[random.Random, Segment], None]
BENDS: list[Bend] = [
    length_is_wrong,
    uncompressed_length_is_wrong,
    flag_is_wrong,
    padding_is_set,
    payload_is_bent,
    payload_is_bent,
    payload_is_noise,
    payload_is_empty,
]


def bent_header(draw: random.Random, packed: bytes) -> bytes:
    """An envelope one field of whose header is something else."""
    at, size = draw.choice([(0, 1), (1, 1), (2, 2), (4, 1), (5, 4)])
    odd = draw.choice([draw.randbytes(size), *(value[:size].ljust(size, b"\xff") for value in INTERESTING)])
    return packed[:at] + odd + packed[at + size :]


def answers(client: Raw, data: bytes, *, hang_up: bool) -> list[Envelope]:
    """What the node answers until it closes the connection."""
    client.push(data)
    if hang_up:
        with contextlib.suppress(OSError):
            client.socket.shutdown(socket.SHUT_WR)
    # An error goes back on the stream that it came on, whichever that is.
    client.wire._decoder.stream_min = STREAM_MIN
    found = client.wire.receive(client.rest())
    assert client.wire.error is None, f"the node broke the protocol: {client.wire.error}"
    return found


def errors_of(version: int, found: Sequence[Envelope], case: object) -> list[tuple[int, object]]:
    """Streams and errors among the answers; all are the client's."""
    errors = []
    for stream, opcode, flags, body, _ in found:
        if opcode == ERROR:
            error = decode_response(version, opcode, flags, body).message
            if isinstance(error, ServerError):
                pytest.fail(f"an error of the node's own: {error}\nfor {case!r}", pytrace=False)
            errors.append((stream, error))
    return errors


def envelopes_of(draw: random.Random, version: int, bodies: Sequence[tuple[int, bytes]]) -> list[bytes]:
    """Some requests, on streams 1, 2, ..."""
    chosen = [draw.choice(bodies) for _ in range(draw.randrange(1, 4))]
    return [envelope(version, opcode, body, at + 1) for at, (opcode, body) in enumerate(chosen)]


@pytest.mark.parametrize("compression", ["", "lz4"])
def test_damaged_segments(address: Address, compression: str) -> None:
    """Broken, a flipped bit on the way becomes another row, or another query."""
    with Raw(address) as client:
        bodies = requests(client)
    cases = 0

    @always_the_same(BATCHES)
    @given(SEEDS)
    def batch(seed_of_batch: int) -> None:
        nonlocal cases
        for seed in cases_of(seed_of_batch):
            cases += 1
            draw = random.Random(seed)
            before = [envelope(5, OPTIONS, b"", 1)] if draw.random() < 0.5 else []
            first = b"".join(Segment(one, True, bool(compression)).pack() for one in before)
            damage = draw.choice(segments_of(draw, envelopes_of(draw, 5, bodies), bool(compression)))
            after = Segment(envelope(5, OPTIONS, b"", SENTINEL), True, bool(compression)).pack()
            data = first + damaged(draw, damage) + after + ZEROS
            with Raw(address, 5, compression) as client:
                found = answers(client, data, hang_up=False)
                errors = errors_of(5, found, (seed, data[:1000]))
                assert len(found) == len(before) + 1, (seed, found)
                assert len(errors) == 1, (seed, found)
                assert "CRC mismatch" in str(errors[0][1]), (seed, errors)

    batch()
    assert cases >= CASES_MIN


@pytest.mark.parametrize("compression", ["", "lz4"])
@pytest.mark.parametrize("what", ["segment", "envelope"])
def test_segments_that_are_nonsense(address: Address, compression: str, what: str) -> None:
    """Their checksums are right."""
    with Raw(address) as client:
        bodies = requests(client)
    cases = in_sync = 0

    @always_the_same(2 * BATCHES)
    @given(SEEDS)
    def batch(seed_of_batch: int) -> None:
        nonlocal cases, in_sync
        for seed in cases_of(seed_of_batch):
            cases += 1
            draw = random.Random(seed)
            envelopes = envelopes_of(draw, 5, bodies)
            if what == "envelope":
                at = draw.randrange(len(envelopes))
                envelopes[at] = bent_header(draw, envelopes[at])
            segments = segments_of(draw, envelopes, bool(compression))
            if what == "segment":
                draw.choice(BENDS)(draw, draw.choice(segments))
            packed = [segment.pack() for segment in segments]
            if draw.random() < 0.1:
                draw.shuffle(packed)
            packed.append(Segment(envelope(5, OPTIONS, b"", SENTINEL), True, bool(compression)).pack())
            data = b"".join(packed) + ZEROS
            with Raw(address, 5, compression) as client:
                found = answers(client, data, hang_up=False)
                errors = errors_of(5, found, (seed, data[:1000]))
                assert any(isinstance(error, ProtocolError) for _, error in errors), (seed, found)
                in_sync += any(stream == SENTINEL for stream, *_ in found)

    batch()
    assert cases >= CASES_MIN
    assert 0 < in_sync < cases


@pytest.mark.parametrize(
    ("version", "compression"), [(3, ""), (3, "lz4"), (4, ""), (4, "lz4"), (4, "snappy")]
)
def test_frames_that_are_nonsense(address: Address, version: int, compression: str) -> None:
    """Before v5 nothing is protected by checksums: whatever arrives is taken as it is."""
    with Raw(address, version) as client:
        bodies = requests(client)
    cases = in_sync = 0

    @always_the_same(BATCHES)
    @given(SEEDS)
    def batch(seed_of_batch: int) -> None:
        nonlocal cases, in_sync
        for seed in cases_of(seed_of_batch):
            cases += 1
            draw = random.Random(seed)
            opcode, body = draw.choice(bodies)
            flags = 0
            if compression:
                flags = FLAG_COMPRESSED
                body = COMPRESSIONS[compression][0](body)
            packed = envelope(version, opcode, body, 1, flags)
            kind = draw.randrange(3)
            if kind == 0:
                packed = bent_header(draw, packed)
            elif kind == 1:
                # A body that is bent, in a header that fits it.
                packed = envelope(version, opcode, mutated_bytes(draw, packed[HEADER_BYTES:]), 1, flags)
            else:
                packed = mutated_bytes(draw, packed)
            data = packed + envelope(version, OPTIONS, b"", SENTINEL)
            with Raw(address, version, compression) as client:
                # A length may claim any number of bytes, so what follows can't end every case.
                found = answers(client, data, hang_up=True)
                errors_of(version, found, (seed, data))
                in_sync += any(stream == SENTINEL for stream, *_ in found)

    batch()
    assert cases >= CASES_MIN
    assert in_sync
