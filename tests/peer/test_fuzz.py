"""Any bytes, in any chunks, at any moment. A failure here means that a stranger, or a peer with a bug, can crash a node
or make it remember more than it may, or that what bytes mean depends on how the network cut them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.peer.ends import SECRET, in_chunks, initiator, pair, responder, shake_hands

from ourodb.limits import PEER_UNAUTHENTICATED_BYTES_MAX
from ourodb.peer.connection import PeerConnection, State
from ourodb.peer.faults import BrokenBytes, RemoteFault
from ourodb.peer.handshake import (
    HEADER,
    MAGIC,
    Kind,
    Role,
    decode_hello,
    decode_introduction,
    decode_refusal,
)

cuts = st.lists(st.integers(0, 2000), max_size=10)
headers = st.builds(
    HEADER.pack,
    st.just(MAGIC) | st.binary(min_size=4, max_size=4),
    st.integers(0, 3),
    st.integers(0, 7),
    st.integers(0, 80) | st.integers(0, 65535),
)
streams = st.lists(headers | st.binary(max_size=100), max_size=8).map(b"".join)


def honest(role: Role) -> tuple[bytes, list[bytes]]:
    """What an end of that role says in a whole connection, and the messages in it."""
    sender, receiver = initiator(), responder()
    said = shake_hands(sender, receiver)
    messages = [b"first", b"x" * 300, b"", b"last"]
    frames = sender.encode(messages[:2]) + sender.encode(messages[2:])
    return (said[0] + frames, messages) if role is Role.INITIATOR else (said[1], [])


def fresh(role: Role, secret: bytes = SECRET) -> PeerConnection:
    return initiator(secret=secret) if role is Role.INITIATOR else responder(secret=secret)


def feed(connection: PeerConnection, chunks: list[bytes]) -> tuple[list[bytes], bytes, State, str]:
    """Messages, what is answered, where the connection stands, why."""
    received: list[bytes] = []
    answered = []
    for chunk in chunks:
        received += connection.receive(chunk)
        answered.append(connection.take_outgoing())
        if connection.state is not State.READY:
            assert connection.buffered_bytes <= PEER_UNAUTHENTICATED_BYTES_MAX
        assert connection.error is None or isinstance(connection.error, RemoteFault)
    return received, b"".join(answered), connection.state, str(connection.error)


roles = st.sampled_from(list(Role))


@given(roles, cuts)
def test_every_way_of_cutting_an_honest_stream_is_the_same(role: Role, places: list[int]) -> None:
    stream, messages = honest(role)
    received, _, state, _ = feed(fresh(role.other), in_chunks(stream, places))
    assert state is State.READY
    assert received == messages


def test_one_byte_at_a_time() -> None:
    for role in Role:
        stream, messages = honest(role)
        received, _, state, _ = feed(fresh(role.other), [bytes((byte,)) for byte in stream])
        assert state is State.READY
        assert received == messages


@settings(max_examples=400)
@given(roles, streams, cuts)
def test_any_bytes_from_a_stranger(role: Role, stream: bytes, places: list[int]) -> None:
    whole = feed(fresh(role), [stream])
    assert whole[0] == []
    assert whole[2] is not State.READY
    assert feed(fresh(role), in_chunks(stream, places)) == whole


@settings(max_examples=400)
@given(roles, st.data(), cuts)
def test_honest_streams_with_anything_changed(role: Role, data: st.DataObject, places: list[int]) -> None:
    """Bytes changed, left out, repeated; and messages only ever from an end that said all of its handshake right."""
    stream, messages = honest(role)
    changed = bytearray(stream)
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(changed)))
        end = data.draw(st.integers(start, min(start + 40, len(changed))))
        changed[start:end] = data.draw(st.binary(max_size=40))
    whole = feed(fresh(role.other), [bytes(changed)])
    assert feed(fresh(role.other), in_chunks(bytes(changed), places)) == whole
    assert whole[0] == messages[: len(whole[0])]


@settings(max_examples=300)
@given(st.binary(max_size=400), cuts)
def test_any_bytes_from_a_peer(stream: bytes, places: list[int]) -> None:
    receivers = [pair()[1], pair()[1]]
    whole = feed(receivers[0], [stream])
    assert whole[0] == []
    assert feed(receivers[1], in_chunks(stream, places)) == whole


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_any_body_of_the_handshake(body: bytes) -> None:
    """Behind the seal: only who knows the secret gets here."""
    for decode in (decode_hello, decode_introduction, decode_refusal):
        try:
            decode(body)
        except BrokenBytes:
            continue


def test_kinds_are_for_ever() -> None:
    assert [kind.value for kind in Kind] == [1, 2, 3, 4, 5, 6]
