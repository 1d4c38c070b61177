"""The handshake's messages, and the proof that both ends know the cluster's secret.

    initiator                                   responder
    HELLO  versions, nonce          ->
                                    <-  HELLO  versions, nonce
    PROOF                           ->
                                    <-  INTRODUCTION  who it is     or DENIAL: the proof is wrong
    INTRODUCTION  who it is, lane   ->                              or REFUSAL: why not
                                    <-  WELCOME                     or REFUSAL: why not

Each message is ``4s magic | u8 role of the sender | u8 kind | u16 body length | body``, big-endian, and all but HELLO
and DENIAL end with a seal of 32 bytes::

    HMAC-SHA256(key, role | SHA-256(every byte that either end has sent so far, this message included))
    key = HMAC-SHA256(secret, "OuroDB peer handshake 1")

So each seal proves that its sender knows the secret and that both ends have seen the same bytes: the nonces, the
range of versions that each offered, and who they say they are. Nothing in it can be replayed (the other end's nonce is
fresh), reflected (the roles differ), moved to another connection or talked down to an older version. A seal is checked,
in constant time, before the body that it covers is read.

The initiator proves itself first, and neither says a word about itself or its cluster before the other has: somebody
who doesn't know the secret learns from a node that it speaks this protocol, and in which versions. Somebody who makes
nodes connect to him gets a seal to try guesses of the secret on, so a secret should not be a word. What is said is not
encrypted; that is what TLS is for.

Bodies that may grow are msgpack maps, whose unknown fields are skipped.

Source: Bellare, Rogaway 1993, "Entity authentication and key distribution" (mutual authentication by MAC, nonces of
both ends and their names under the MAC); RFC 2104 (HMAC).
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Final
from uuid import UUID

import msgspec

from ourodb.limits import CLUSTER_NAME_BYTES_MAX, PEER_HANDSHAKE_MESSAGE_BYTES_MAX
from ourodb.peer.faults import BrokenBytes, LocalFault
from ourodb.ports import BULK, DATA, URGENT, Address

MAGIC: Final = b"OURO"
HEADER: Final = struct.Struct(">4sBBH")
HEADER_BYTES: Final = HEADER.size
NONCE_BYTES: Final = 32
SEAL_BYTES: Final = 32

VERSIONS: Final = (1, 1)
"""Least and greatest version of the protocol that this node speaks."""

LANES: Final = (URGENT, DATA, BULK)

_HELLO: Final = struct.Struct(f">BB{NONCE_BYTES}s")
_KEY_LABEL: Final = b"OuroDB peer handshake 1"
_CHAIN_LABEL: Final = b"frames"
_HOST_LENGTH_MAX: Final = 255


class Role(IntEnum):
    """Who opened the connection, and who accepted it."""

    INITIATOR = 1
    RESPONDER = 2

    @property
    def other(self) -> Role:
        return Role.RESPONDER if self is Role.INITIATOR else Role.INITIATOR


class Kind(IntEnum):
    """What a message of the handshake is."""

    HELLO = 1
    PROOF = 2
    INTRODUCTION = 3
    WELCOME = 4
    REFUSAL = 5
    DENIAL = 6


KINDS: Final = {int(kind): kind for kind in Kind}
UNSEALED: Final = frozenset((Kind.HELLO, Kind.DENIAL))


@dataclass(frozen=True, slots=True)
class PeerIdentity:
    """Who a node says that it is.

    Attributes:
        host_id: names the node for ever.
        address: where it listens for its peers and wants to be reached.
        cluster_name: nodes of clusters with other names never speak with each other.
        cluster_id: None for a node that hasn't joined yet.
    """

    host_id: UUID
    address: Address
    cluster_name: str
    cluster_id: UUID | None = None

    def __str__(self) -> str:
        return f"{self.host_id} at {self.address[0]}:{self.address[1]}"

    @property
    def cluster(self) -> str:
        """For messages."""
        return f"{self.cluster_name!r} (id {self.cluster_id or 'not known yet'})"


_Id = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]


class _Introduction(msgspec.Struct):
    host_id: _Id
    host: Annotated[str, msgspec.Meta(min_length=1, max_length=_HOST_LENGTH_MAX)]
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    cluster_name: Annotated[str, msgspec.Meta(max_length=CLUSTER_NAME_BYTES_MAX)]
    cluster_id: _Id | None = None
    lane: int | None = None


class _Refusal(msgspec.Struct):
    reason: str


_encode = msgspec.msgpack.Encoder().encode
_decode_introduction = msgspec.msgpack.Decoder(_Introduction).decode
_decode_refusal = msgspec.msgpack.Decoder(_Refusal).decode


def encode_hello(versions: tuple[int, int], nonce: bytes) -> bytes:
    assert len(nonce) == NONCE_BYTES
    return _HELLO.pack(*versions, nonce)


def decode_hello(body: bytes) -> tuple[tuple[int, int], bytes]:
    """Least and greatest version, nonce. What a later version adds behind them is skipped.

    Raises:
        BrokenBytes: it is too short.
    """
    if len(body) < _HELLO.size:
        raise BrokenBytes("its first message is too short")
    least, greatest, nonce = _HELLO.unpack_from(body)
    return (least, greatest), nonce


def encode_introduction(identity: PeerIdentity, lane: int | None) -> bytes:
    """Raises:
    LocalFault: it would be refused for its size.
    """
    cluster_id = identity.cluster_id
    body: bytes = _encode(
        _Introduction(
            identity.host_id.bytes,
            *identity.address,
            identity.cluster_name,
            None if cluster_id is None else cluster_id.bytes,
            lane,
        )
    )
    if len(body) > PEER_HANDSHAKE_MESSAGE_BYTES_MAX:
        raise LocalFault(f"the address or the cluster's name is too long: {identity} of {identity.cluster}")
    return body


def decode_introduction(body: bytes) -> tuple[PeerIdentity, int | None]:
    """Who the peer is, and the lane that it opens (None from a responder).

    Raises:
        BrokenBytes: it can't be read.
    """
    try:
        read = _decode_introduction(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BrokenBytes(f"its introduction can't be read: {error}") from error
    if read.lane is not None and read.lane not in LANES:
        raise BrokenBytes(f"there is no lane {read.lane}")
    cluster_id = None if read.cluster_id is None else UUID(bytes=read.cluster_id)
    identity = PeerIdentity(UUID(bytes=read.host_id), (read.host, read.port), read.cluster_name, cluster_id)
    return identity, read.lane


def encode_refusal(reason: str) -> bytes:
    """A reason too long for a message of the handshake loses its end."""
    return _encode(_Refusal(reason[: PEER_HANDSHAKE_MESSAGE_BYTES_MAX // 5]))


def decode_refusal(body: bytes) -> str:
    """Raises:
    BrokenBytes: it can't be read.
    """
    try:
        return _decode_refusal(body).reason
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BrokenBytes(f"its refusal can't be read: {error}") from error


class Transcript:
    """All bytes of one handshake, of both ends in their order, and the seals under them."""

    __slots__ = ("_bytes", "_key")

    def __init__(self, secret: bytes) -> None:
        self._key = hmac.digest(secret, _KEY_LABEL, "sha256")
        self._bytes = hashlib.sha256()

    def add(self, data: bytes) -> None:
        self._bytes.update(data)

    def seal(self, role: Role) -> bytes:
        """The seal of ``role`` under what was added; it counts as added itself."""
        seal = self._mac(bytes((role,)))
        self._bytes.update(seal)
        return seal

    def check(self, role: Role, seal: bytes) -> bool:
        """Whether that is the seal of ``role`` under what was added; it counts as added itself."""
        right = hmac.compare_digest(self._mac(bytes((role,))), seal)
        self._bytes.update(seal)
        return right

    def chain(self) -> int:
        """The checksum that the first frame goes on from."""
        return int.from_bytes(self._mac(_CHAIN_LABEL)[:4], "little")

    def _mac(self, label: bytes) -> bytes:
        return hmac.digest(self._key, label + self._bytes.digest(), "sha256")
