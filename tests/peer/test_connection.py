"""Both ends of a connection between nodes, without sockets. A failure here means that somebody who doesn't know the
cluster's secret gets in or learns something, that nodes of two clusters mix, or that nodes can't speak at all."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

import msgspec
import pytest
from tests.peer.ends import (
    ANN,
    BOB,
    NONCES,
    SECRET,
    initiator,
    pair,
    renamed,
    responder,
    shake_hands,
)

from ourodb.limits import PEER_HANDSHAKE_MESSAGE_BYTES_MAX, PEER_UNAUTHENTICATED_BYTES_MAX
from ourodb.peer.connection import TRANSITIONS, PeerConnection, State
from ourodb.peer.faults import (
    BrokenBytes,
    LocalFault,
    NotAdmitted,
    OtherCluster,
    OwnReflection,
    Refused,
    RemoteFault,
    VersionMismatch,
    WrongSecret,
)
from ourodb.peer.handshake import (
    HEADER,
    MAGIC,
    Kind,
    PeerIdentity,
    Role,
    Transcript,
    decode_hello,
    decode_introduction,
    encode_hello,
    encode_introduction,
)
from ourodb.ports import BULK, DATA, URGENT


def outcome(connection: PeerConnection) -> tuple[State, str]:
    return connection.state, type(connection.error).__name__


def flights_of_handshake() -> list[tuple[int, bytes]]:
    """(who speaks: 0 the initiator, bytes) of a whole handshake and a frame."""
    ends = (initiator(), responder())
    flights = []
    for turn in range(6):
        data = ends[turn % 2].take_outgoing()
        ends[1 - turn % 2].receive(data)
        flights.append((turn % 2, data))
    flights.append((0, ends[0].encode([b"a message"])))
    assert ends[1].state is State.READY
    return flights


FLIGHTS = flights_of_handshake()
BYTES = [(flight, place) for flight, (_, data) in enumerate(FLIGHTS) for place in range(len(data))]


# --- What should work ---


@pytest.mark.parametrize("lane", [URGENT, DATA, BULK])
def test_nodes_of_one_cluster_meet_and_speak(lane: int) -> None:
    sender, receiver = pair(lane)
    assert (sender.peer, receiver.peer) == (BOB, ANN)
    assert (sender.lane, receiver.lane) == (lane, lane)
    assert sender.version == receiver.version == 1
    for messages in ([b"first", b""], [b"x" * 100_000], [b"last"]):
        assert receiver.receive(sender.encode(messages)) == messages
    assert sender.error is None
    assert receiver.error is None
    assert receiver.buffered_bytes == 0


def test_golden_handshake() -> None:
    """The bytes on the wire are for ever: nodes of two versions speak with each other during an upgrade."""
    said = shake_hands(initiator(), responder())
    assert tuple(hashlib.sha256(data).hexdigest() for data in said) == (
        "f1da550355347c06ba486ea933697aeffa20f452aa424263fd00a271721667f4",
        "a6d3059a375584bbf05109d57bea6c4bb437a5729700051814f5a380fcc37aba",
    )


def test_seals_are_what_the_handshake_says_that_they_are() -> None:
    """Written down a second time, with the standard library alone."""
    key = hmac.digest(SECRET, b"OuroDB peer handshake 1", "sha256")
    so_far = b""
    for speaker, data in FLIGHTS[:6]:
        kind = data[5]
        if kind != Kind.HELLO:
            so_far += data[:-32]
            role = b"\x01" if speaker == 0 else b"\x02"
            assert data[-32:] == hmac.digest(key, role + hashlib.sha256(so_far).digest(), "sha256")
            so_far += data[-32:]
        else:
            so_far += data


def test_both_ends_say_little_before_they_know_each_other() -> None:
    """What a node takes from a stranger is bounded; an honest peer must stay well below the bound."""
    longest = replace(ANN, address=("a" * 255, 65535), cluster_name="c" * 255)
    sender, receiver = initiator(longest), responder(renamed(BOB, "c" * 255, BOB.cluster_id))
    said = shake_hands(sender, receiver)
    assert sender.state is receiver.state is State.READY
    assert max(map(len, said)) < PEER_UNAUTHENTICATED_BYTES_MAX // 2


@pytest.mark.parametrize(
    ("ours", "theirs", "agreed"), [((1, 1), (1, 3), 1), ((1, 3), (2, 5), 3), ((2, 9), (1, 2), 2)]
)
def test_the_greatest_version_that_both_speak_is_taken(
    ours: tuple[int, int], theirs: tuple[int, int], agreed: int
) -> None:
    sender, receiver = initiator(versions=ours), responder(versions=theirs)
    shake_hands(sender, receiver)
    assert sender.state is receiver.state is State.READY
    assert sender.version == receiver.version == agreed


def test_who_has_not_joined_yet_knows_no_cluster_id() -> None:
    """Else nobody could ever join."""
    newcomer = renamed(ANN, "flights", None)
    for one, other in ((newcomer, BOB), (BOB, newcomer), (newcomer, renamed(BOB, "flights", None))):
        sender, receiver = initiator(one), responder(other)
        shake_hands(sender, receiver)
        assert sender.state is receiver.state is State.READY
        assert receiver.peer == one


def test_what_later_versions_add_is_skipped() -> None:
    """Else a cluster couldn't be upgraded node by node."""
    introduction = msgspec.msgpack.decode(encode_introduction(ANN, DATA))
    introduction["mood"] = {"good": [1, 2]}
    assert decode_introduction(msgspec.msgpack.encode(introduction)) == (ANN, DATA)
    nonce = bytes(32)
    assert decode_hello(encode_hello((1, 2), nonce) + b"more") == ((1, 2), nonce)


# --- Who must stay outside ---


def test_who_does_not_know_the_secret_is_denied_and_learns_nothing() -> None:
    sender, receiver = initiator(secret=b"a guess"), responder()
    said, heard = shake_hands(sender, receiver)
    assert outcome(receiver) == (State.CLOSED, "WrongSecret")
    assert outcome(sender) == (State.CLOSED, "WrongSecret")
    assert sender.peer is None
    assert receiver.peer is None
    # Two greetings, a seal, and a refusal without a word.
    assert len(heard) == len(initiator().take_outgoing()) + HEADER.size
    for secret_or_name in (SECRET, b"flights", BOB.host_id.bytes, BOB.address[0].encode()):
        assert secret_or_name not in heard
    for name in (b"flights", ANN.host_id.bytes, ANN.address[0].encode()):
        assert name not in said


def test_a_node_that_is_called_learns_nothing_without_the_secret() -> None:
    """An impostor at a peer's address: it can't make its own proof, so the caller doesn't introduce itself."""
    caller = initiator()
    said = caller.take_outgoing()
    impostor = responder(secret=b"a guess")
    impostor.receive(said)
    caller.receive(impostor.take_outgoing())
    said += caller.take_outgoing()
    forged = encode_introduction(BOB, None)
    caller.receive(HEADER.pack(MAGIC, Role.RESPONDER, Kind.INTRODUCTION, len(forged)) + forged + bytes(32))
    said += caller.take_outgoing()
    assert outcome(caller) == (State.CLOSED, "WrongSecret")
    for name in (b"flights", ANN.host_id.bytes, ANN.address[0].encode()):
        assert name not in said


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_a_handshake_with_any_byte_changed_never_comes_to_anything(mask: int) -> None:
    """Names, nonces, versions, lanes, addresses: nothing can be changed on the way."""
    assert len(BYTES) > 450
    for flight, place in BYTES:
        ends = (initiator(), responder())
        received: list[bytes] = []
        for turn in range(6):
            data = bytearray(ends[turn % 2].take_outgoing())
            if turn == flight:
                if place >= len(data):
                    break
                data[place] ^= mask
            received += ends[1 - turn % 2].receive(bytes(data))
        if ends[0].state is State.READY:
            # Only the frame is left to be changed.
            assert flight == 6
            frame = bytearray(ends[0].encode([b"a message"]))
            frame[place] ^= mask
            received += ends[1].receive(bytes(frame))
        assert received == []
        assert any(end.error is not None or end.buffered_bytes for end in ends), (flight, place)


def test_a_recorded_handshake_cannot_be_replayed() -> None:
    """Neither to a node that accepts, nor to one that calls: its nonce is new each time."""
    said = b"".join(data for speaker, data in FLIGHTS if speaker == 0)
    heard = b"".join(data for speaker, data in FLIGHTS if speaker == 1)
    accepting = responder(nonce=bytes(32))
    assert accepting.receive(said) == []
    assert outcome(accepting) == (State.CLOSED, "WrongSecret")
    calling = initiator(nonce=bytes(32))
    calling.receive(heard)
    assert outcome(calling) == (State.CLOSED, "WrongSecret")


def test_a_frame_cannot_be_moved_to_another_connection() -> None:
    (one, _), (_, other) = pair(), pair(BULK)
    assert other.receive(one.encode([b"x"])) == []
    assert outcome(other) == (State.CLOSED, "BrokenBytes")


def test_a_seal_of_one_role_is_no_seal_of_the_other() -> None:
    """Else a node's own seal, sent back to it, would let in whoever sent it."""
    one, other = Transcript(SECRET), Transcript(SECRET)
    seal = one.seal(Role.INITIATOR)
    assert not other.check(Role.RESPONDER, seal)


def test_a_node_that_reaches_itself_notices() -> None:
    """TCP can connect a socket to itself, and a list of contact points may name the node that reads it."""
    echoed = initiator()
    echoed.receive(echoed.take_outgoing())
    assert outcome(echoed) == (State.CLOSED, "OwnReflection")
    mirrored = initiator()
    hello = bytearray(mirrored.take_outgoing())
    hello[4] = Role.RESPONDER
    mirrored.receive(bytes(hello))
    assert outcome(mirrored) == (State.CLOSED, "OwnReflection")


@pytest.mark.parametrize(
    "other",
    [ANN, replace(BOB, host_id=ANN.host_id), replace(BOB, address=ANN.address)],
    ids=["itself", "copied data folder", "same address"],
)
def test_a_peer_that_claims_to_be_this_node_is_refused(other: PeerIdentity) -> None:
    sender, receiver = initiator(ANN), responder(other)
    shake_hands(sender, receiver)
    assert outcome(sender) == (State.CLOSED, "OwnReflection")
    assert outcome(receiver) == (State.CLOSED, "Refused")


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (renamed(BOB, "trains", BOB.cluster_id), "'trains'"),
        (renamed(BOB, "trains", None), "'trains'"),
        (renamed(BOB, "flights", UUID(int=99)), str(UUID(int=99))),
    ],
)
def test_nodes_of_two_clusters_never_mix(other: PeerIdentity, told: str) -> None:
    """Both operators read which cluster is which."""
    for one, two in ((ANN, other), (other, ANN)):
        sender, receiver = initiator(one), responder(two)
        shake_hands(sender, receiver)
        assert outcome(sender) == (State.CLOSED, "OtherCluster")
        assert outcome(receiver) == (State.CLOSED, "Refused")
        for error in (sender.error, receiver.error):
            assert told in str(error)
            assert "'flights'" in str(error)


@pytest.mark.parametrize(("ours", "theirs"), [((1, 1), (2, 3)), ((4, 5), (1, 3))])
def test_nodes_without_a_common_version_say_so(ours: tuple[int, int], theirs: tuple[int, int]) -> None:
    sender, receiver = initiator(versions=ours), responder(versions=theirs)
    shake_hands(sender, receiver)
    assert outcome(sender) == outcome(receiver) == (State.CLOSED, "VersionMismatch")
    assert f"{theirs[0]} to {theirs[1]}" in str(sender.error)
    assert f"{ours[0]} to {ours[1]}" in str(receiver.error)


def test_the_owner_of_either_end_may_refuse_a_peer() -> None:
    """A node that was removed, or one found at an address where another should be."""
    asked = []

    def refuse(peer: PeerIdentity) -> str:
        asked.append(peer)
        return "you were removed on Tuesday; join again with an empty data folder"

    sender, receiver = initiator(), responder(admit=refuse)
    shake_hands(sender, receiver)
    assert (outcome(sender)[1], outcome(receiver)[1]) == ("Refused", "NotAdmitted")
    assert "on Tuesday" in str(sender.error)
    sender, receiver = initiator(admit=refuse), responder()
    shake_hands(sender, receiver)
    assert (outcome(sender)[1], outcome(receiver)[1]) == ("NotAdmitted", "Refused")
    assert "on Tuesday" in str(receiver.error)
    assert asked == [ANN, BOB]


def test_nobody_is_asked_about_who_does_not_know_the_secret() -> None:
    asked: list[PeerIdentity] = []
    sender = initiator(secret=b"a guess")
    receiver = responder(admit=lambda peer: asked.append(peer))
    shake_hands(sender, receiver)
    assert asked == []


def test_a_reason_of_any_length_is_told() -> None:
    sender, receiver = initiator(), responder(admit=lambda peer: "ü" * 10_000)
    shake_hands(sender, receiver)
    assert outcome(sender) == (State.CLOSED, "Refused")
    assert "üüü" in str(sender.error)


# --- Who breaks the protocol ---


def at(role: Role, state: State) -> PeerConnection:
    """A connection that honest messages have brought to that state."""
    ends = {Role.INITIATOR: initiator(), Role.RESPONDER: responder()}
    speaker = Role.INITIATOR
    while ends[role].state is not state:
        ends[speaker.other].receive(ends[speaker].take_outgoing())
        speaker = speaker.other
    ends[role].take_outgoing()
    return ends[role]


REACHED = [(role, state) for role in Role for state in State if state is not State.CLOSED]


@pytest.mark.parametrize(("role", "state"), REACHED, ids=lambda value: value.name)
def test_a_message_out_of_place_closes(role: Role, state: State) -> None:
    """Straight from the table: whatever isn't in it, nothing is done for."""
    moves = 0
    for kind in Kind:
        if (role, state, kind) in TRANSITIONS:
            moves += 1
            continue
        connection = at(role, state)
        assert connection.receive(HEADER.pack(MAGIC, role.other, kind, 0) + bytes(80)) == []
        assert outcome(connection) == (State.CLOSED, "BrokenBytes")
        assert connection.take_outgoing() == b""
    assert moves == sum((role, state) == move[:2] for move in TRANSITIONS)


@pytest.mark.parametrize(("role", "state"), REACHED[:3] + REACHED[4:7], ids=lambda value: value.name)
@pytest.mark.parametrize(
    "header",
    [
        b"GET / HT",
        bytes(8),
        HEADER.pack(b"OURP", 2, 1, 34),
        HEADER.pack(MAGIC, 0, 1, 34),
        HEADER.pack(MAGIC, 3, 1, 34),
        HEADER.pack(MAGIC, 1, 99, 34),
        HEADER.pack(MAGIC, 2, 99, 34),
    ],
    ids=bytes.hex,
)
def test_who_speaks_something_else_is_closed_at_its_first_eight_bytes(
    role: Role, state: State, header: bytes
) -> None:
    connection = at(role, state)
    assert connection.receive(header[:7]) == []
    assert connection.state is state
    assert connection.receive(header[7:]) == []
    assert connection.state is State.CLOSED
    assert isinstance(connection.error, BrokenBytes | OwnReflection)
    assert connection.receive(b"more") == []
    assert connection.buffered_bytes == 0


@pytest.mark.parametrize(("role", "state", "kind"), TRANSITIONS, ids=lambda value: value.name)
def test_a_stranger_cannot_make_a_node_wait_for_much(role: Role, state: State, kind: Kind) -> None:
    for length in (PEER_HANDSHAKE_MESSAGE_BYTES_MAX + 1, 65535):
        connection = at(role, state)
        connection.receive(HEADER.pack(MAGIC, role.other, kind, length))
        assert outcome(connection) == (State.CLOSED, "BrokenBytes")


def test_an_initiator_may_not_be_spoken_to() -> None:
    """Connections are one-way: the peer's messages come on its own."""
    sender, _ = pair()
    assert sender.receive(b"x") == []
    assert outcome(sender) == (State.CLOSED, "BrokenBytes")


def test_damaged_frames_close() -> None:
    sender, receiver = pair()
    frame = bytearray(sender.encode([b"x"]))
    frame[-1] ^= 1
    assert receiver.receive(sender.encode([b"y"])) == []
    assert outcome(receiver) == (State.CLOSED, "BrokenBytes")


def test_sending_out_of_turn_is_this_ends_own_fault() -> None:
    """A caller's mistake must not look like a peer's."""
    sender, receiver = pair()
    for connection in (receiver, initiator(), responder()):
        with pytest.raises(LocalFault):
            connection.encode([b"x"])
    sender.close()
    with pytest.raises(LocalFault):
        sender.encode([b"x"])
    assert not issubclass(LocalFault, RemoteFault)


def test_an_identity_too_long_to_be_told_is_this_ends_own_fault() -> None:
    with pytest.raises(LocalFault):
        responder(replace(ANN, cluster_name="c" * 2000))


def test_an_end_in_the_middle_of_the_handshake_is_a_fault_and_a_later_one_is_not() -> None:
    for role, state in REACHED:
        connection = at(role, state)
        connection.receive_eof()
        assert connection.state is State.CLOSED
        assert (connection.error is None) == (state is State.READY)


def test_an_owner_that_gives_up_says_why() -> None:
    waiting = responder()
    waiting.give_up("too slow")
    assert str(waiting.error) == "too slow"
    waiting.give_up("again")
    assert str(waiting.error) == "too slow"


@pytest.mark.parametrize(
    "change",
    [
        lambda fields: fields.pop("host_id"),
        lambda fields: fields.update(host_id=b"short"),
        lambda fields: fields.update(host_id="text"),
        lambda fields: fields.update(port=0),
        lambda fields: fields.update(port=65536),
        lambda fields: fields.update(host=""),
        lambda fields: fields.update(host="h" * 256),
        lambda fields: fields.update(lane=3),
        lambda fields: fields.update(lane=-1),
        lambda fields: fields.update(lane=None),
        lambda fields: fields.update(cluster_id=b"x"),
        lambda fields: fields.update(cluster_name=7),
    ],
)
def test_a_peer_that_introduces_itself_wrongly_is_refused(
    change: Callable[[dict[str, object]], object],
) -> None:
    """It knows the secret, and has a bug."""
    fields = msgspec.msgpack.decode(encode_introduction(ANN, DATA))
    change(fields)
    body = msgspec.msgpack.encode(fields)
    receiver = responder()
    transcript = Transcript(SECRET)

    def said(kind: Kind, body: bytes) -> bytes:
        message = HEADER.pack(MAGIC, Role.INITIATOR, kind, len(body)) + body
        transcript.add(message)
        return message if kind is Kind.HELLO else message + transcript.seal(Role.INITIATOR)

    receiver.receive(said(Kind.HELLO, encode_hello((1, 1), NONCES[Role.INITIATOR])))
    transcript.add(receiver.take_outgoing())
    receiver.receive(said(Kind.PROOF, b""))
    transcript.add(receiver.take_outgoing())
    receiver.receive(said(Kind.INTRODUCTION, body))
    assert outcome(receiver) == (State.CLOSED, "BrokenBytes")


def test_every_fault_is_told_apart() -> None:
    """``ouro serve --join`` and the metrics go by the class."""
    kinds = (BrokenBytes, NotAdmitted, OtherCluster, OwnReflection, Refused, VersionMismatch, WrongSecret)
    assert all(issubclass(kind, RemoteFault) for kind in kinds)
    assert not any(issubclass(a, b) for a in kinds for b in kinds if a is not b)
