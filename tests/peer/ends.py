"""Both ends of a connection between nodes, wired together in memory."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from ourodb.peer.connection import Admit, PeerConnection, State, everybody
from ourodb.peer.handshake import VERSIONS, PeerIdentity, Role
from ourodb.ports import DATA

SECRET = b"a secret of the cluster's"
CLUSTER_ID = UUID(int=77)
ANN = PeerIdentity(UUID(int=1), ("127.0.0.1", 7000), "flights", CLUSTER_ID)
BOB = PeerIdentity(UUID(int=2), ("127.0.0.2", 7000), "flights", CLUSTER_ID)
NONCES = {Role.INITIATOR: bytes(range(32)), Role.RESPONDER: bytes(range(100, 132))}


def initiator(
    identity: PeerIdentity = ANN,
    secret: bytes = SECRET,
    lane: int = DATA,
    admit: Admit = everybody,
    versions: tuple[int, int] = VERSIONS,
    nonce: bytes = NONCES[Role.INITIATOR],
) -> PeerConnection:
    return PeerConnection(Role.INITIATOR, identity, secret, nonce, lane=lane, admit=admit, versions=versions)


def responder(
    identity: PeerIdentity = BOB,
    secret: bytes = SECRET,
    admit: Admit = everybody,
    versions: tuple[int, int] = VERSIONS,
    nonce: bytes = NONCES[Role.RESPONDER],
) -> PeerConnection:
    return PeerConnection(Role.RESPONDER, identity, secret, nonce, admit=admit, versions=versions)


def renamed(identity: PeerIdentity, name: str, cluster_id: UUID | None) -> PeerIdentity:
    return replace(identity, cluster_name=name, cluster_id=cluster_id)


def shake_hands(one: PeerConnection, other: PeerConnection) -> tuple[bytes, bytes]:
    """Carry bytes to and fro until both are silent; returns what each has said."""
    said: tuple[list[bytes], list[bytes]] = ([], [])
    silent = 0
    ends = (one, other)
    turn = 0
    while silent < 2:
        data = ends[turn].take_outgoing()
        silent = 0 if data else silent + 1
        said[turn].append(data)
        received = ends[1 - turn].receive(data) if data else []
        assert received == []
        turn = 1 - turn
    return b"".join(said[0]), b"".join(said[1])


def pair(lane: int = DATA) -> tuple[PeerConnection, PeerConnection]:
    """An initiator and a responder that are ready."""
    sender, receiver = initiator(lane=lane), responder()
    shake_hands(sender, receiver)
    assert sender.state is receiver.state is State.READY
    return sender, receiver


def in_chunks(data: bytes, places: list[int]) -> list[bytes]:
    """The data, cut at the given places (modulo its length)."""
    cuts = sorted({place % (len(data) + 1) for place in places})
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
