"""Bytes of gossip: if they are wrong, nodes don't understand each other, or a peer's garbage harms a node."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cluster.gossip.network import Draw

from ourodb.cluster.gossip.columns import Column, pack, unpack
from ourodb.cluster.gossip.gossip import Gossip
from ourodb.cluster.gossip.messages import Ack, Ack2, Digest, MalformedGossip, Syn, decode, encode
from ourodb.cluster.gossip.state import Delta
from ourodb.limits import GOSSIP_BODY_BYTES_MAX, GOSSIP_DIGEST_NODES_MAX, GOSSIP_NUMBER_MAX
from ourodb.ports import NodeId

NUMBERS = st.integers(0, GOSSIP_NUMBER_MAX) | st.integers(0, 300)
OWN = Delta(1, 1_000, 5, 0, 2, {"stopping": (1, 0), "epoch": (2, 7)})
ENTRIES = [(1, 1_000, 5, 2), (2, 1_001, 70_000, 1 << 20), (900, 0, 0, 0)]
MESSAGES = [
    Syn(1, 123, OWN, Digest.of(ENTRIES)),
    Ack(1, 123, OWN, Digest.of(ENTRIES[:1]), [Delta(2, 1_001, 9, 0, 4, {"words": (4, "x")})], Digest.of([])),
    Ack2(1, [OWN]),
]


@given(st.lists(NUMBERS, max_size=50))
def test_a_column_gives_back_its_values(values: list[int]) -> None:
    assert unpack(pack(values), len(values)) == values


@pytest.mark.parametrize(
    ("least", "span", "size"),
    [
        (9, 0, 0),
        (9, 255, 1),
        (9, 256, 2),
        (9, 65_535, 2),
        (9, 65_536, 4),
        (9, (1 << 32) - 1, 4),
        (9, 1 << 32, 8),
    ],
)
def test_a_column_is_as_wide_as_its_values_differ(least: int, span: int, size: int) -> None:
    """A digest of a thousand nodes is mostly this."""
    column = pack([least, least + span])
    assert len(column.data) == 2 * size
    assert unpack(column, 2) == [least, least + span]


@pytest.mark.parametrize(
    "column",
    [
        Column(0, 1, b"\x00"),
        Column(0, 3, bytes(6)),
        Column(0, -1, b""),
        Column(GOSSIP_NUMBER_MAX, 1, b"\x00\x01"),
        Column(0, 8, b"\xff" * 16),
    ],
)
def test_a_column_that_is_none_is_refused(column: Column) -> None:
    with pytest.raises(ValueError):
        unpack(column, 2)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_messages_survive_the_wire(message: Syn | Ack | Ack2) -> None:
    assert decode(encode(message)) == message


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_what_a_later_version_adds_is_skipped(message: Syn | Ack | Ack2) -> None:
    """Versions must be able to mix while a cluster is upgraded."""
    body = encode(message)
    elements = msgspec.msgpack.decode(body[1:])
    assert decode(body[:1] + msgspec.msgpack.encode([*elements, {"more": [1, 2]}])) == message
    assert decode(b"\x2a" + body[1:]) is None


@pytest.mark.parametrize(
    "message",
    [
        Ack2(1, [Delta(2, 1, 0, 5, 4, {})]),
        Ack2(1, [Delta(2, 1, 0, 0, 4, {"epoch": (5, 1)})]),
        Ack2(1, [Delta(2, 1, 0, 3, 4, {"epoch": (3, 1)})]),
        Ack2(1, [Delta(2, -1, 0, 0, 4, {})]),
        Ack2(1, [Delta(2, GOSSIP_NUMBER_MAX + 1, 0, 0, 4, {})]),
        Ack2(1, [Delta(2, 1, 0, 0, 4, {"epoch": (1, "x" * 300)})]),
        Ack2(1, [Delta(2, 1, 0, 0, 40, {f"f{number}": (1, 1) for number in range(40)})]),
        Syn(1, 0, Delta(1, 1, 0, 1, 1, {}), Digest.of([])),
        Syn(1, -1, OWN, Digest.of([])),
    ],
)
def test_states_that_can_not_be_are_refused(message: Syn | Ack2) -> None:
    with pytest.raises(MalformedGossip):
        decode(encode(message))


def test_a_body_out_of_bounds_is_refused_before_it_is_read() -> None:
    for body in (b"", b"\x01", b"\x01" + bytes(GOSSIP_BODY_BYTES_MAX)):
        with pytest.raises(MalformedGossip):
            decode(body)


def test_a_digest_is_bounded() -> None:
    """A few bytes must not make a node allocate for a million entries."""
    entry = Digest(GOSSIP_DIGEST_NODES_MAX + 1, Column(), Column(), Column(), Column())
    with pytest.raises(MalformedGossip):
        decode(encode(Syn(1, 0, OWN, entry)))


def hearer() -> Gossip:
    gossip = Gossip(NodeId(2), 1_000, 0, Draw(1))
    gossip.set_members(0, [NodeId(1), NodeId(2), NodeId(3)])
    return gossip


@given(st.binary(max_size=60), st.integers(1, 3))
def test_garbage_raises_one_error_and_changes_nothing(body: bytes, kind: int) -> None:
    gossip = hearer()
    before = {node: (state.generation, state.beat, state.version) for node, state in gossip.states.items()}
    with pytest.raises(MalformedGossip):
        gossip.receive(1, NodeId(1), bytes([kind]) + b"\xc1" + body)
    assert gossip.refusals["malformed"] == 1
    assert {node: (s.generation, s.beat, s.version) for node, s in gossip.states.items()} == before


@given(st.sampled_from(MESSAGES), st.data())
def test_damaged_messages_raise_nothing_else(message: Syn | Ack | Ack2, data: st.DataObject) -> None:
    """Checksums and the handshake keep damage away; were they to fail, a node must not die of it."""
    body = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(1, len(body)))
    gossip = hearer()
    try:
        gossip.receive(1, NodeId(1), bytes(body[:cut]))
    except MalformedGossip:
        assert gossip.refusals["malformed"] == 1
    gossip.tick(1_000)


def test_a_digest_whose_columns_do_not_fit_is_refused_whole() -> None:
    """Nothing of a message may be taken before all of it was read."""
    gossip = hearer()
    good = Digest.of([(3, 1_000, 7, 0)])
    bad = Digest(2, Column(0, 1, b"\x01"), Column(), Column(), Column())
    for message in (Syn(1, 0, OWN, bad), Ack(1, 0, OWN, good, [], bad), Ack(1, 0, OWN, bad, [], good)):
        with pytest.raises(MalformedGossip):
            gossip.receive(1, NodeId(1), encode(message))
    assert not gossip.is_up(NodeId(1))
    assert gossip.states[NodeId(1)].generation == 0
