"""Bodies of the requests and replies about the metadata log, msgpack maps to which fields can be added.

==============  ===================================================  ==================================================
verb            asks                                                 answers
==============  ===================================================  ==================================================
PROPOSE         append this proposal                                 when it is applied: ``Settled``; or who leads
PULL            the entries after mine                               ``Pulled``: entries, or a snapshot
AWAIT_EPOCH     tell when you have applied this, for good            ``AwaitEpoch`` again, once it is so
JOIN            make me a member                                     ``Joined``: the log to start from; or why not
==============  ===================================================  ==================================================

RAFT, which wants no reply, is in ``consensus``.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar
from uuid import UUID

import msgspec

from ourodb.cluster.metadata.commands import NewMember
from ourodb.cluster.raft.messages import Entry
from ourodb.errors import ProtocolError


class Propose(msgspec.Struct, frozen=True, omit_defaults=True):
    """Attributes: payload, of the entry to be."""

    payload: bytes


class Settled(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of a proposal.

    Attributes:
        epoch, term: the entry before which it was settled; 0 when it wasn't appended.
        refusal: encoded (``refusals``); empty when it was carried out.
        leader: whom to ask instead; 0 when the sender doesn't know.
        may_be_in: the sender did append it, and doesn't lead any more.
    """

    epoch: int = 0
    term: int = 0
    refusal: bytes = b""
    leader: int = 0
    may_be_in: bool = False


class Pull(msgspec.Struct, frozen=True, omit_defaults=True):
    """Attributes:
    after, term: the last entry that the sender has applied.
    cluster_id, recoveries: as in its view.
    """

    after: int
    term: int
    cluster_id: UUID
    recoveries: int = 0


class Pulled(msgspec.Struct, frozen=True, omit_defaults=True):
    """Attributes:
    epoch: the sender's.
    leader: as far as it knows.
    snapshot: ``entries.encode_snapshot``, in place of entries.
    """

    epoch: int
    leader: int = 0
    entries: tuple[Entry, ...] = ()
    snapshot: bytes = b""


class AwaitEpoch(msgspec.Struct, frozen=True, omit_defaults=True):
    """Attributes: epoch, term: an entry that is committed."""

    epoch: int
    term: int = 0


class Join(msgspec.Struct, frozen=True, omit_defaults=True):
    """Attributes: cluster_id: the one that it must be, if the node knows."""

    cluster_name: str
    member: NewMember
    cluster_id: UUID | None = None


class Joined(msgspec.Struct, frozen=True, omit_defaults=True):
    """Attributes:
    snapshot: ``entries.encode_snapshot``; the view in it has the new member.
    refusal: why the node can't be a member as it is.
    later: why it can't be one just now.
    """

    snapshot: bytes = b""
    refusal: str = ""
    later: str = ""


Body = TypeVar("Body", Propose, Settled, Pull, Pulled, AwaitEpoch, Join, Joined)

_BODIES: Final = (Propose, Settled, Pull, Pulled, AwaitEpoch, Join, Joined)
_decoders: Final[dict[type, msgspec.msgpack.Decoder[Any]]] = {
    kind: msgspec.msgpack.Decoder(kind) for kind in _BODIES
}
encode_body: Final = msgspec.msgpack.Encoder().encode


def decode_body(kind: type[Body], body: bytes) -> Body:
    """The body of a message of this kind.

    Raises:
        ProtocolError: it isn't one.
    """
    try:
        decoded: Body = _decoders[kind].decode(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ProtocolError(f"a body that can't be read ({kind.__name__}): {error}") from error
    return decoded
