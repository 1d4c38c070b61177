"""Frames between nodes. A failure here means that nodes lose or invent messages, that damage on the wire reaches the
rows, or that a peer can make a node take memory without bound."""

from __future__ import annotations

import random
import struct
import zlib

import lz4.block
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.peer.ends import in_chunks

from ourodb.limits import (
    PEER_COMPRESS_BYTES_MIN,
    PEER_FRAME_BYTES,
    PEER_MESSAGE_BYTES_MAX,
)
from ourodb.peer.frames import HEADER_BYTES, FrameDecoder, FrameEncoder, frame_end
from ourodb.ports import BULK, DATA, URGENT

CHAIN = 0x12345678
lanes = st.sampled_from([URGENT, DATA, BULK])
bodies = st.binary(max_size=300) | st.builds(lambda size: b"ab" * size, st.integers(0, 10_000))
passes = st.lists(st.lists(bodies, min_size=1, max_size=6), max_size=5)
cuts = st.lists(st.integers(0, 200_000), max_size=8)


def forged(body: bytes, *, expanded: int = 0, length: int | None = None, chain: int = CHAIN) -> bytes:
    """A frame whose checksums are right, whatever it claims."""
    lengths = struct.pack("<II", len(body) if length is None else length, expanded)
    header_crc = zlib.crc32(lengths, chain)
    return lengths + struct.pack("<II", header_crc, zlib.crc32(body, header_crc)) + body


def test_golden_frames() -> None:
    """The bytes on the wire are for ever: nodes of two versions speak with each other during an upgrade."""
    encoder = FrameEncoder(DATA, CHAIN)
    assert encoder.encode([b"one", b""]).hex() == "0b00000000000000ce143382a2258f37030000006f6e6500000000"
    assert encoder.encode([b"two"]).hex() == "070000000000000021e2ede6bc0319530300000074776f"
    compressed = bytes.fromhex("12000000ec030000e6a953c556b2e4a65fe8030000780100ffffffd2507878787878")
    assert FrameDecoder(BULK, 0).decode(compressed) == [b"x" * 1000]


@given(lane=lanes, sent=passes, places=cuts)
def test_messages_arrive_whole_and_in_order_however_the_stream_is_cut(
    lane: int, sent: list[list[bytes]], places: list[int]
) -> None:
    encoder, decoder = FrameEncoder(lane, CHAIN), FrameDecoder(lane, CHAIN)
    stream = b"".join(map(encoder.encode, sent))
    read = [message for chunk in in_chunks(stream, places) for message in decoder.decode(chunk)]
    assert read == [message for messages in sent for message in messages]
    assert decoder.error is None
    assert decoder.buffered_bytes == 0


def test_one_byte_at_a_time() -> None:
    messages = [b"", b"x" * 300, b"last"]
    stream = FrameEncoder(DATA, CHAIN).encode(messages)
    decoder = FrameDecoder(DATA, CHAIN)
    assert [message for byte in stream for message in decoder.decode(bytes((byte,)))] == messages


@pytest.mark.parametrize("lane", [URGENT, DATA, BULK])
def test_what_compresses_is_compressed_and_what_does_not_is_not(lane: int) -> None:
    """Hints and streams cross the network as a fraction; random bytes don't pay for a try."""
    size = PEER_COMPRESS_BYTES_MIN[lane]
    noise = random.Random(1).randbytes(size)
    assert len(FrameEncoder(lane, CHAIN).encode([b"x" * size])) < size // 8
    assert len(FrameEncoder(lane, CHAIN).encode([noise])) == HEADER_BYTES + 4 + size
    assert len(FrameEncoder(lane, CHAIN).encode([b"x" * (size // 2)])) == HEADER_BYTES + 4 + size // 2


@pytest.mark.parametrize("lane", [DATA, BULK])
def test_the_largest_message_arrives(lane: int) -> None:
    message = bytes(PEER_MESSAGE_BYTES_MAX[lane])
    stream = FrameEncoder(lane, CHAIN).encode([message])
    assert FrameDecoder(lane, CHAIN).decode(stream) == [message]


@given(place=st.integers(0, 10_000), bit=st.integers(0, 7), compressible=st.booleans())
def test_every_flipped_bit_is_seen(place: int, bit: int, compressible: bool) -> None:
    """Else a damaged mutation would be stored, and spread."""
    message = b"x" * 600 if compressible else random.Random(2).randbytes(600)
    encoder = FrameEncoder(BULK, CHAIN)
    frame = bytearray(encoder.encode([message, b"more"]))
    frame[place % len(frame)] ^= 1 << bit
    decoder = FrameDecoder(BULK, CHAIN)
    assert decoder.decode(bytes(frame)) == []
    assert decoder.error is not None
    assert decoder.decode(encoder.encode([b"later"])) == []
    assert decoder.buffered_bytes == 0


@pytest.mark.parametrize("order", [[1], [0, 2], [0, 0], [1, 0], [0, 1, 1]])
def test_a_frame_that_is_lost_repeated_or_swapped_is_seen(order: list[int]) -> None:
    """Messages of a lane arrive in order, each at most once."""
    encoder = FrameEncoder(DATA, CHAIN)
    frames = [encoder.encode([bytes((number,))]) for number in range(3)]
    decoder = FrameDecoder(DATA, CHAIN)
    right = 0
    while right < len(order) and order[right] == right:
        right += 1
    stream = b"".join(frames[number] for number in order)
    assert decoder.decode(stream) == [bytes((number,)) for number in range(right)]
    assert decoder.error is not None


def test_a_frame_of_another_connection_is_seen() -> None:
    decoder = FrameDecoder(DATA, CHAIN)
    assert decoder.decode(FrameEncoder(DATA, CHAIN + 1).encode([b"x"])) == []
    assert decoder.error is not None


def test_what_precedes_the_damage_is_delivered() -> None:
    encoder = FrameEncoder(DATA, CHAIN)
    first, second = encoder.encode([b"first"]), bytearray(encoder.encode([b"second"]))
    second[-1] ^= 1
    decoder = FrameDecoder(DATA, CHAIN)
    assert decoder.decode(first + bytes(second)) == [b"first"]
    assert decoder.error is not None


@pytest.mark.parametrize("lane", [URGENT, DATA, BULK])
@pytest.mark.parametrize("expanded", [False, True])
def test_a_frame_that_claims_too_much_is_refused_by_its_header(lane: int, expanded: bool) -> None:
    """Before a byte of its body is waited for, or a byte of memory is taken for it."""
    too_much = PEER_MESSAGE_BYTES_MAX[lane] + 5
    claim = forged(b"", length=too_much // 2, expanded=too_much) if expanded else forged(b"", length=too_much)
    decoder = FrameDecoder(lane, CHAIN)
    assert decoder.decode(claim) == []
    assert decoder.error is not None
    assert decoder.buffered_bytes == 0


def test_a_bomb_is_refused_before_it_is_expanded() -> None:
    """64 MiB of memory for 40 bytes: no block of LZ4 expands so far, so its claim is false."""
    block = lz4.block.compress(bytes(1000), store_size=False)
    decoder = FrameDecoder(BULK, CHAIN)
    assert decoder.decode(forged(block, expanded=PEER_MESSAGE_BYTES_MAX[BULK])) == []
    assert "too large" in str(decoder.error)


@pytest.mark.parametrize("claimed", [1, 4, 1003, 1005, 2000])
def test_a_false_expanded_length_is_refused(claimed: int) -> None:
    block = lz4.block.compress(struct.pack("<I", 1000) + bytes(1000), store_size=False)
    decoder = FrameDecoder(DATA, CHAIN)
    assert decoder.decode(forged(block, expanded=claimed)) == []
    assert decoder.error is not None
    right = FrameDecoder(DATA, CHAIN)
    assert right.decode(forged(block, expanded=1004)) == [bytes(1000)]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0",
        b"\0\0\0",
        struct.pack("<I", 1),
        struct.pack("<I", 0) + b"x",
        struct.pack("<I", 2) + b"x",
        struct.pack("<I", 0xFFFFFFFF) + b"x",
        struct.pack("<I", 1) + b"x" + struct.pack("<I", 9) + b"yy",
    ],
    ids=bytes.hex,
)
def test_messages_that_do_not_fill_their_frame_are_refused_all(body: bytes) -> None:
    decoder = FrameDecoder(DATA, CHAIN)
    assert decoder.decode(forged(body)) == []
    assert decoder.error is not None


@given(body=st.binary(max_size=60), expanded=st.integers(0, 300), places=cuts)
def test_any_body_with_right_checksums_does_no_harm(body: bytes, expanded: int, places: list[int]) -> None:
    """A peer of a later version, or a wicked one. The way in which the stream is cut changes nothing."""
    stream = forged(body, expanded=expanded)
    whole = FrameDecoder(DATA, CHAIN)
    read = whole.decode(stream)
    cut = FrameDecoder(DATA, CHAIN)
    assert [message for chunk in in_chunks(stream, places) for message in cut.decode(chunk)] == read
    assert (cut.error is None) == (whole.error is None)


@given(st.lists(st.integers(0, PEER_FRAME_BYTES * 3 // 2), min_size=1, max_size=12))
def test_messages_of_one_pass_are_cut_into_frames_of_the_right_size(sizes: list[int]) -> None:
    """So that the first needn't wait for the last, and none is left out."""
    messages = [bytes(size) for size in sizes]
    start = 0
    while start < len(messages):
        end = frame_end(messages, start)
        assert end > start
        body_bytes = sum(4 + size for size in sizes[start:end])
        assert body_bytes <= PEER_FRAME_BYTES or end == start + 1
        if end < len(messages):
            assert body_bytes + 4 + sizes[end] > PEER_FRAME_BYTES
        start = end
    assert start == len(messages)
