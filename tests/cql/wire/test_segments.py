"""Segments of protocol v5. A failure here means that v5 clients can't talk to us at all, or that damage goes unseen."""

from __future__ import annotations

import io
import zlib

import pytest
from cassandra.segment import SegmentCodec, compute_crc24
from hypothesis import given
from hypothesis import strategies as st
from tests.cql.wire.ends import Driver, in_chunks

from ourodb.cql.wire.segments import (
    CRC32_INITIAL,
    SegmentDecoder,
    crc24,
    encode_segment,
    encode_segments,
)
from ourodb.limits import SEGMENT_PAYLOAD_BYTES_MAX

COMPRESSED = pytest.mark.parametrize("compressed", [False, True], ids=["plain", "lz4"])


def codec(compressed: bool) -> SegmentCodec:
    return Driver(5, "lz4" if compressed else "").codec


def one(payload: bytes, self_contained: bool, compressed: bool) -> bytes:
    return b"".join(encode_segment(payload, self_contained, compressed))


def test_golden_segments() -> None:
    """Recorded from cassandra-driver 3.29: a slip in both the loop and the tables would show here."""
    assert one(b"hello", True, False).hex() == "05000219999a68656c6c6f74800eb6"
    assert one(b"hello", True, True).hex() == "0500000004e4ab8e68656c6c6f74800eb6"
    assert (crc24(bytes(3)), crc24(bytes(5))) == (0x7DE777, 0xAAAC0A)


@given(st.binary(min_size=5, max_size=5))
def test_tables_agree_with_the_loop(header: bytes) -> None:
    assert crc24(header[:3]) == compute_crc24(int.from_bytes(header[:3], "little"), 3)
    assert crc24(header) == compute_crc24(int.from_bytes(header, "little"), 5)


@COMPRESSED
@given(payload=st.binary(max_size=300), self_contained=st.booleans())
def test_driver_reads_our_segments(compressed: bool, payload: bytes, self_contained: bool) -> None:
    buffer = io.BytesIO(one(payload, self_contained, compressed))
    reader = codec(compressed)
    segment = reader.decode(buffer, reader.decode_header(buffer))
    assert segment.payload == payload
    assert segment.is_self_contained == self_contained
    assert buffer.read() == b""


@COMPRESSED
@given(data=st.lists(st.binary(max_size=300), max_size=5), cuts=st.lists(st.integers(0, 5000), max_size=8))
def test_we_read_the_drivers_segments_in_any_chunks(
    compressed: bool, data: list[bytes], cuts: list[int]
) -> None:
    buffer = io.BytesIO()
    for payload in data:
        codec(compressed).encode(buffer, payload)
    decoder = SegmentDecoder(compressed)
    read = [pair for chunk in in_chunks(buffer.getvalue(), cuts) for pair in decoder.decode(chunk)]
    assert read == [(payload, True) for payload in data]
    assert decoder.error is None
    assert decoder.buffered_bytes == 0


@COMPRESSED
def test_incompressible_payload_is_stored(compressed: bool) -> None:
    payload = bytes(range(256))
    header = 8 if compressed else 6
    assert one(payload, True, compressed)[header:-4] == payload
    assert SegmentDecoder(compressed).decode(one(payload, True, compressed)) == [(payload, True)]


@COMPRESSED
@given(place=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_every_flipped_bit_is_seen(compressed: bool, place: int, bit: int) -> None:
    """Else damaged requests would be executed."""
    segment = bytearray(one(b"a payload that compresses, compresses, compresses " * 4, True, compressed))
    segment[place % len(segment)] ^= 1 << bit
    decoder = SegmentDecoder(compressed)
    assert decoder.decode(bytes(segment)) == []
    assert decoder.error is not None
    assert decoder.error.fatal
    assert decoder.decode(one(b"later", True, compressed)) == []


@COMPRESSED
def test_what_precedes_the_damage_is_delivered(compressed: bool) -> None:
    damaged = bytearray(one(b"second", True, compressed))
    damaged[-1] ^= 1
    decoder = SegmentDecoder(compressed)
    assert decoder.decode(one(b"first", True, compressed) + bytes(damaged)) == [(b"first", True)]
    assert decoder.error is not None


@pytest.mark.parametrize("claimed", [1, 200, 131_071])
def test_false_uncompressed_length_is_refused(claimed: int) -> None:
    """Else a client could make us hand garbage, or a bomb, to the decoder of envelopes."""
    block = one(b"x" * 1000, True, True)[8:-4]
    bits = len(block) | claimed << 17 | 1 << 34
    header = bits.to_bytes(5, "little")
    segment = header + crc24(header).to_bytes(3, "little") + block
    segment += zlib.crc32(block, CRC32_INITIAL).to_bytes(4, "little")
    decoder = SegmentDecoder(True)
    assert decoder.decode(segment) == []
    assert decoder.error is not None


@COMPRESSED
def test_envelopes_of_one_pass_share_segments(compressed: bool) -> None:
    """The point of packing: few segments; and the order and the bounds of envelopes kept."""
    small = [bytes((number,)) * 40_000 for number in range(5)]
    large = bytes(range(256)) * 1200
    data = encode_segments([*small, large, b"last"], compressed)
    decoded = SegmentDecoder(compressed).decode(data)
    contained = [payload for payload, self_contained in decoded if self_contained]
    pieces = [payload for payload, self_contained in decoded if not self_contained]
    assert contained == [b"".join(small[:3]), b"".join(small[3:]), b"last"]
    assert b"".join(pieces) == large
    assert [len(piece) for piece in pieces] == [SEGMENT_PAYLOAD_BYTES_MAX, SEGMENT_PAYLOAD_BYTES_MAX, 45_058]
    assert [self_contained for _, self_contained in decoded] == [True, True, False, False, False, True]
