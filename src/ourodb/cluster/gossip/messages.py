"""The three messages of an exchange, and their bytes.

    u8 kind | msgpack array, read by position

SYN says what its sender knows of everybody: a digest. The generations, beats and versions in it are already
all that the receiver needs to move its beats on, so in a quiet ring heartbeats travel in digests alone. ACK
answers with the beats and the deltas that the SYN's sender lacks, and asks for those that its own sender
lacks; ACK2 brings them, and is left out when nothing was asked for. SYN and ACK also carry all that their
sender says of itself, so that whoever hears a node knows it.

A kind that isn't known is skipped, as are elements after the last known one, so that versions can mix.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final

import msgspec

from ourodb.cluster.gossip.columns import Column, Number, pack, unpack
from ourodb.cluster.gossip.state import Delta
from ourodb.errors import OuroError
from ourodb.limits import GOSSIP_BODY_BYTES_MAX, GOSSIP_DIGEST_NODES_MAX

Entry = tuple[int, int, int, int]
"""(node, generation, beat, version); a generation of 0: nothing is known of the node."""


class MalformedGossip(OuroError):
    """A peer sent what is no gossip message."""


class Digest(msgspec.Struct, array_like=True, frozen=True):
    """What is known of some nodes, by column."""

    count: Annotated[int, msgspec.Meta(ge=0, le=GOSSIP_DIGEST_NODES_MAX)]
    nodes: Column
    generations: Column
    beats: Column
    versions: Column

    @classmethod
    def of(cls, entries: list[Entry]) -> Digest:
        if not entries:
            return NOBODY
        nodes, generations, beats, versions = zip(*entries, strict=True)
        return cls(len(entries), pack(nodes), pack(generations), pack(beats), pack(versions))

    def entries(self) -> Iterable[Entry]:
        """Raises ValueError: the columns are not of ``count`` values."""
        count = self.count
        return zip(
            unpack(self.nodes, count),
            unpack(self.generations, count),
            unpack(self.beats, count),
            unpack(self.versions, count),
            strict=True,
        )


NOBODY: Final = Digest(0, Column(), Column(), Column(), Column())
Millis = Annotated[int, msgspec.Meta(ge=0)]


class Syn(msgspec.Struct, array_like=True, frozen=True):
    """Attributes:
    sender: who sent this.
    asked_ms: the sender's own clock, which ACK gives back.
    own: all that the sender says of itself.
    digest: what it knows; the answer is about these nodes alone.
    """

    sender: Number
    asked_ms: Millis
    own: Delta
    digest: Digest


class Ack(msgspec.Struct, array_like=True, frozen=True):
    """Attributes:
    asked_ms: of the SYN.
    newer: nodes of whose generation ACK's sender knows a greater beat. (The versions don't matter.)
    deltas: what the SYN's sender lacks.
    wanted: of which generation and version on ACK's sender lacks fields. (The beats don't matter.)
    """

    sender: Number
    asked_ms: Millis
    own: Delta
    newer: Digest
    deltas: list[Delta]
    wanted: Digest


class Ack2(msgspec.Struct, array_like=True, frozen=True):
    """Attributes:
    deltas: what the ACK asked for.
    """

    sender: Number
    deltas: list[Delta]


Message = Syn | Ack | Ack2
KINDS: Final[dict[type[Message], bytes]] = {Syn: b"\x01", Ack: b"\x02", Ack2: b"\x03"}
ENCODER: Final = msgspec.msgpack.Encoder()
DECODERS: Final[dict[int, msgspec.msgpack.Decoder[Message]]] = {
    1: msgspec.msgpack.Decoder(Syn),
    2: msgspec.msgpack.Decoder(Ack),
    3: msgspec.msgpack.Decoder(Ack2),
}


def encode(message: Message) -> bytes:
    """The message's bytes."""
    return KINDS[type(message)] + ENCODER.encode(message)


def decode(body: bytes) -> Message | None:
    """The message, or None when it is of a kind that this version doesn't know.

    Raises:
        MalformedGossip: it is none.
    """
    if not 1 < len(body) <= GOSSIP_BODY_BYTES_MAX:
        raise MalformedGossip(f"a gossip message of {len(body)} bytes")
    decoder = DECODERS.get(body[0])
    if decoder is None:
        return None
    try:
        message = decoder.decode(memoryview(body)[1:])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedGossip(f"a gossip message that can't be read: {error}") from error
    deltas = [] if isinstance(message, Syn) else message.deltas
    if not all(delta.is_sound() for delta in deltas):
        raise MalformedGossip("a gossip message with fields newer than the state that they are of")
    if not isinstance(message, Ack2) and (message.own.since or not message.own.is_sound()):
        raise MalformedGossip("a gossip message whose sender does not say all of itself")
    return message


def encoded_bytes(delta: Delta) -> int:
    """What the delta adds to a message."""
    return len(ENCODER.encode(delta))
