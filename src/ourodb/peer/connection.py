"""One connection between two nodes, from either end. No socket.

A node opens a connection for each lane on which it has something to send to a peer, and only it sends on it: the peer's
answers travel on connections that the peer opens. So after the handshake (``handshake``) frames go one way::

    state         initiator gets                      responder gets
    GREETING      HELLO -> PROVING, sends PROOF       HELLO -> PROVING, sends HELLO
    PROVING       INTRODUCTION -> INTRODUCING,        PROOF -> INTRODUCING, sends INTRODUCTION
                  sends INTRODUCTION                  (a wrong one -> CLOSED, sends DENIAL)
                  DENIAL -> CLOSED
    INTRODUCING   WELCOME -> READY                    INTRODUCTION -> READY, sends WELCOME
                  REFUSAL -> CLOSED                   REFUSAL -> CLOSED
    READY         nothing                             frames
    CLOSED        nothing                             nothing

Either end may find that it doesn't want to speak with the other once it knows who that is: because it belongs to
another cluster, is this node itself, or isn't admitted by the owner. It then sends REFUSAL with the reason instead of
its next message. Nothing of that kind is said to, or taken from, an end that hasn't proved that it knows the secret.

``receive`` never raises: what the other end did wrong is in ``error``, and the connection is closed, after what is
outgoing was written. Before it is READY it keeps no more than one message of the handshake.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Final

from ourodb.limits import PEER_HANDSHAKE_MESSAGE_BYTES_MAX
from ourodb.peer.faults import (
    BrokenBytes,
    LocalFault,
    NotAdmitted,
    OtherCluster,
    OwnReflection,
    PeerFault,
    Refused,
    RemoteFault,
    VersionMismatch,
    WrongSecret,
)
from ourodb.peer.frames import FrameDecoder, FrameEncoder
from ourodb.peer.handshake import (
    HEADER,
    HEADER_BYTES,
    KINDS,
    MAGIC,
    SEAL_BYTES,
    UNSEALED,
    VERSIONS,
    Kind,
    PeerIdentity,
    Role,
    Transcript,
    decode_hello,
    decode_introduction,
    decode_refusal,
    encode_hello,
    encode_introduction,
    encode_refusal,
)

Admit = Callable[[PeerIdentity], str | None]
"""Asked once the peer has proved who it is: None when it is welcome, else the reason why not, for both ends to read."""


class State(IntEnum):
    """Where a connection stands."""

    GREETING = 0
    PROVING = 1
    INTRODUCING = 2
    READY = 3
    CLOSED = 4


TRANSITIONS: Final[dict[tuple[Role, State, Kind], State]] = {
    (Role.INITIATOR, State.GREETING, Kind.HELLO): State.PROVING,
    (Role.INITIATOR, State.PROVING, Kind.INTRODUCTION): State.INTRODUCING,
    (Role.INITIATOR, State.PROVING, Kind.DENIAL): State.CLOSED,
    (Role.INITIATOR, State.INTRODUCING, Kind.WELCOME): State.READY,
    (Role.INITIATOR, State.INTRODUCING, Kind.REFUSAL): State.CLOSED,
    (Role.RESPONDER, State.GREETING, Kind.HELLO): State.PROVING,
    (Role.RESPONDER, State.PROVING, Kind.PROOF): State.INTRODUCING,
    (Role.RESPONDER, State.INTRODUCING, Kind.INTRODUCTION): State.READY,
    (Role.RESPONDER, State.INTRODUCING, Kind.REFUSAL): State.CLOSED,
}
"""By what is received. A message that isn't here for its state breaks the protocol."""


def everybody(peer: PeerIdentity) -> str | None:
    """The ``Admit`` of a node that knows no reason against anybody."""
    return None


class PeerConnection:
    """The protocol of one connection.

    Attributes:
        role: which end this is.
        state: see ``State``.
        error: why the connection is closed; None while it isn't, and when the owner closed it.
        peer: who the other end is; None before it has proved it.
        lane: known from the start to the initiator, to the responder once it is READY; -1 before.
        version: of the protocol, 0 before both have said which they speak.
    """

    __slots__ = (
        "_admit", "_decoder", "_encoder", "_identity", "_introduction", "_nonce", "_outgoing", "_partial",
        "_transcript", "_versions", "error", "lane", "peer", "role", "state", "version",
    )  # fmt: skip

    def __init__(
        self,
        role: Role,
        identity: PeerIdentity,
        secret: bytes,
        nonce: bytes,
        *,
        lane: int = -1,
        admit: Admit = everybody,
        versions: tuple[int, int] = VERSIONS,
    ) -> None:
        """An initiator's first message is outgoing at once.

        Args:
            identity: of this end.
            nonce: 32 bytes, never used before and not to be guessed.
            lane: that the initiator opens.
            versions: least and greatest of the protocol that this end speaks.
        Raises:
            LocalFault: the identity is too long to be told.
        """
        self.role = role
        self.state = State.GREETING
        self.error: PeerFault | None = None
        self.peer: PeerIdentity | None = None
        self.lane = lane
        self.version = 0
        self._identity = identity
        self._introduction = encode_introduction(identity, lane if role is Role.INITIATOR else None)
        self._nonce = nonce
        self._admit = admit
        self._versions = versions
        self._transcript = Transcript(secret)
        self._partial = b""
        self._outgoing: list[bytes] = []
        self._encoder: FrameEncoder | None = None
        self._decoder: FrameDecoder | None = None
        if role is Role.INITIATOR:
            self._send(Kind.HELLO, encode_hello(versions, nonce))

    # --- What arrives ---

    def receive(self, data: bytes) -> list[bytes]:
        """Take in bytes; returns the peer's messages that they complete."""
        decoder = self._decoder
        if decoder is not None:
            messages = decoder.decode(data)
            if decoder.error is not None:
                self._fail(decoder.error)
            return messages
        if self.state is State.CLOSED:
            return []
        self._partial = self._shake_hands(self._partial + data if self._partial else data)
        return self._begin() if self._partial else []

    @property
    def buffered_bytes(self) -> int:
        """Bytes received that don't yet make a message."""
        return len(self._partial) + (0 if self._decoder is None else self._decoder.buffered_bytes)

    def receive_eof(self) -> None:
        """The other end will send nothing more."""
        if self.state not in (State.READY, State.CLOSED):
            self._fail(RemoteFault("it closed the connection in the middle of the handshake"))
        self.close()

    def give_up(self, reason: str) -> None:
        """Close for a reason of the owner's: the other end takes too long, or too much."""
        if self.state is not State.CLOSED:
            self._fail(RemoteFault(reason))

    def close(self) -> None:
        """Receive nothing more."""
        self.state = State.CLOSED
        self._decoder = None
        self._encoder = None
        self._partial = b""

    # --- What leaves ---

    def encode(self, messages: Sequence[bytes]) -> bytes:
        """One frame, to be written after all that went before.

        Raises:
            LocalFault: this end may not send now.
        """
        if self._encoder is None:
            raise LocalFault(f"nothing may be sent by the {self.role.name} in state {self.state.name}")
        return self._encoder.encode(messages)

    def take_outgoing(self) -> bytes:
        """Messages of the handshake that are to be written; b"" when there are none."""
        data = b"".join(self._outgoing)
        self._outgoing.clear()
        return data

    # --- The handshake ---

    def _shake_hands(self, data: bytes) -> bytes:
        """Follow the messages in ``data``; returns what is left of it: part of a message, or frames."""
        while self.state < State.READY and len(data) >= HEADER_BYTES:
            magic, role, number, length = HEADER.unpack_from(data)
            kind = KINDS.get(number)
            if magic != MAGIC:
                return self._fail(BrokenBytes("it doesn't speak the protocol of OuroDB's nodes"))
            if role == self.role:
                return self._fail(OwnReflection("it sends back what this node says: it is this node itself"))
            if role != self.role.other or kind is None or (self.role, self.state, kind) not in TRANSITIONS:
                return self._fail(
                    BrokenBytes(f"message {number} of {role} isn't expected in {self.state.name}")
                )
            if length > PEER_HANDSHAKE_MESSAGE_BYTES_MAX:
                return self._fail(BrokenBytes(f"a message of {length} bytes is too large for the handshake"))
            body_end = HEADER_BYTES + length
            end = body_end if kind in UNSEALED else body_end + SEAL_BYTES
            if len(data) < end:
                break
            self._transcript.add(data[:body_end])
            if end > body_end and not self._transcript.check(self.role.other, data[body_end:end]):
                if self.role is Role.RESPONDER:
                    self._send(Kind.DENIAL, b"")
                return self._fail(WrongSecret("it doesn't know this cluster's secret"))
            try:
                self._follow(kind, data[HEADER_BYTES:body_end])
            except RemoteFault as fault:
                return self._fail(fault)
            data = data[end:]
        return data

    def _begin(self) -> list[bytes]:
        """What came behind the handshake's last message, if that has come."""
        if self.state is not State.READY:
            return []
        rest, self._partial = self._partial, b""
        if self._decoder is not None:
            return self.receive(rest)
        self._fail(BrokenBytes("it speaks on a connection on which it may only listen"))
        return []

    def _follow(self, kind: Kind, body: bytes) -> None:
        """Act on one message whose seal is right.

        Raises:
            RemoteFault: the connection can't go on.
        """
        initiates = self.role is Role.INITIATOR
        if kind is Kind.HELLO:
            versions, nonce = decode_hello(body)
            if nonce == self._nonce:
                raise OwnReflection("it sends back this node's own nonce")
            if not initiates:
                self._send(Kind.HELLO, encode_hello(self._versions, self._nonce))
            self.version = _agreed(self._versions, versions)
            if initiates:
                self._send(Kind.PROOF, b"")
        elif kind is Kind.PROOF:
            self._send(Kind.INTRODUCTION, self._introduction)
        elif kind is Kind.INTRODUCTION:
            self._meet(body)
            if initiates:
                self._send(Kind.INTRODUCTION, self._introduction)
            else:
                self._send(Kind.WELCOME, b"")
                self._decoder = FrameDecoder(self.lane, self._transcript.chain())
        elif kind is Kind.WELCOME:
            self._encoder = FrameEncoder(self.lane, self._transcript.chain())
        elif kind is Kind.REFUSAL:
            raise Refused(decode_refusal(body))
        else:
            raise WrongSecret("it says that this node doesn't know its cluster's secret")
        self.state = TRANSITIONS[self.role, self.state, kind]

    def _meet(self, body: bytes) -> None:
        """Learn who the other end is, and whether to speak with it.

        Raises:
            RemoteFault: not; it is told why.
        """
        peer, lane = decode_introduction(body)
        if self.role is Role.RESPONDER:
            if lane is None:
                raise BrokenBytes("it doesn't say which lane it opens")
            self.lane = lane
        self.peer = peer
        objection = _objection(self._identity, peer)
        if objection is None:
            reason = self._admit(peer)
            objection = None if reason is None else (NotAdmitted(reason), reason)
        if objection is not None:
            fault, told = objection
            self._send(Kind.REFUSAL, encode_refusal(told))
            raise fault

    def _send(self, kind: Kind, body: bytes) -> None:
        message = HEADER.pack(MAGIC, self.role, kind, len(body)) + body
        self._transcript.add(message)
        if kind not in UNSEALED:
            message += self._transcript.seal(self.role)
        self._outgoing.append(message)

    def _fail(self, fault: PeerFault) -> bytes:
        self.error = fault
        self.close()
        return b""


def _agreed(ours: tuple[int, int], theirs: tuple[int, int]) -> int:
    """The greatest version that both speak.

    Raises:
        VersionMismatch: there is none.
    """
    version = min(ours[1], theirs[1])
    if version < max(ours[0], theirs[0]):
        raise VersionMismatch(
            f"it speaks versions {theirs[0]} to {theirs[1]} of the protocol between nodes,"
            f" this node {ours[0]} to {ours[1]}"
        )
    return version


def _objection(own: PeerIdentity, peer: PeerIdentity) -> tuple[RemoteFault, str] | None:
    """Why a node shouldn't speak with that peer, as this end and as the other end should read it."""
    if peer.host_id == own.host_id:
        return (
            OwnReflection(f"it is this node itself, or has its host id ({own}): was the data folder copied?"),
            f"it has your host id ({own}), or is you: was the data folder copied?",
        )
    if peer.address == own.address:
        place = f"{own.address[0]}:{own.address[1]}"
        return (
            OwnReflection(f"node {peer.host_id} gives this node's address, {place}, as its own"),
            f"node {own.host_id} has the address {place} that you give as yours",
        )
    if peer.cluster_name != own.cluster_name or (
        peer.cluster_id is not None and own.cluster_id is not None and peer.cluster_id != own.cluster_id
    ):
        return (
            OtherCluster(f"it belongs to cluster {peer.cluster}, this node to {own.cluster}"),
            f"it belongs to cluster {own.cluster}, not to {peer.cluster}",
        )
    return None
