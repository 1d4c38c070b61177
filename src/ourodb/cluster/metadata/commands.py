"""What a command of the metadata log says: data alone, drawn and read from clocks before it was proposed.

The payload of a COMMAND entry is a proposal: an id of 16 bytes that its submitter drew, his epoch, and one command. The
proposal stays the same when it is sent again to another leader, so that it is carried out once.

Encoding: msgpack maps, keys by name, defaults left out, so that fields can be added. Tags and field names are for ever.
A change of the schema is within as its own encoding (``schema.changes``).
"""

from __future__ import annotations

from typing import Final, TypeAlias
from uuid import UUID

import msgspec

from ourodb.errors import StoreDamaged
from ourodb.ports import Address
from ourodb.schema.changes import decode_change

PROPOSAL_ID_BYTES: Final = 16


class NewMember(msgspec.Struct, frozen=True, omit_defaults=True):
    """A node that wants to be a member; attributes as in ``cluster.ring.model.Member``.

    Attributes:
        token_count: how many tokens the cluster is to choose for it.
        tokens: signed 64-bit; chosen already, instead. Only for the first member.
        replaces: number of a member that is gone for good, whose tokens it is to get; 0: nobody.
    """

    host_id: UUID
    peer: Address
    native: Address
    data_center: str
    rack: str
    host: str
    token_count: int = 16
    tokens: tuple[int, ...] = ()
    replaces: int = 0


class _Command(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="command"):
    """What the encodings of all commands have in common."""


class FoundCluster(_Command, frozen=True, tag="found_cluster"):
    """The first entry of a log.

    Attributes:
        schema: that the cluster begins with (``schema.snapshot``); without it, the system's keyspaces.
    """

    cluster_id: UUID
    name: str
    member: NewMember
    schema: bytes = b""


class AddMember(_Command, frozen=True, tag="add_member"):
    member: NewMember


class UpdateMember(_Command, frozen=True, tag="update_member"):
    """A member has other addresses since it was started again."""

    host_id: UUID
    peer: Address
    native: Address


class RemoveMember(_Command, frozen=True, tag="remove_member"):
    host_id: UUID


class Leave(_Command, frozen=True, tag="leave"):
    """A live member gives its ranges to others, and then is no member any more."""

    host_id: UUID


class Suspect(_Command, frozen=True, tag="suspect"):
    """A voter takes a member for dead, or no longer does.

    Attributes: node: of whom. by: the voter.
    """

    node: int
    by: int
    is_down: bool = True


class PauseHealing(_Command, frozen=True, tag="pause_healing"):
    """Whether nodes that died are left alone until further notice."""

    is_paused: bool


class Heal(_Command, frozen=True, tag="heal"):
    """Members that are gone for good are given up; their ranges get other replicas.

    Attributes: is_asked: by an operator, whatever the voters think.
    """

    nodes: tuple[int, ...]
    is_asked: bool = False


class Rebalance(_Command, frozen=True, tag="rebalance"):
    """Some members get other tokens, so that all own equal shares."""


class BeginMove(_Command, frozen=True, tag="begin_move"):
    """Nodes that wish to come or go do.

    Attributes: at_ms: wall clock of whoever says so, since 1970; for the history. So in the others.
    """

    at_ms: int = 0


class NodeCopied(_Command, frozen=True, tag="node_copied"):
    """A node has all that it gains in a move.

    Attributes: move: its id. rows, bytes: that it copied.
    """

    move: int
    node: int
    rows: int = 0
    bytes: int = 0


class AdvanceMove(_Command, frozen=True, tag="advance_move"):
    """The next stage of a move, or its end.

    Attributes: stage: that ends.
    """

    move: int
    stage: int
    at_ms: int = 0


class AbortMove(_Command, frozen=True, tag="abort_move"):
    """Everything stays as it was before a move. Only while nobody reads from the new replicas.

    Attributes:
        blamed: the member that is down; the others that were to join, or to replace one, try again. 0: nobody does.
    """

    move: int
    reason: str
    at_ms: int = 0
    blamed: int = 0


class ChangeSchema(_Command, frozen=True, tag="change_schema"):
    """Attributes: change, encoded (``schema.changes.encode_change``)."""

    change: bytes


Command: TypeAlias = (
    FoundCluster
    | AddMember
    | UpdateMember
    | RemoveMember
    | Leave
    | Suspect
    | PauseHealing
    | Heal
    | Rebalance
    | BeginMove
    | NodeCopied
    | AdvanceMove
    | AbortMove
    | ChangeSchema
)


class Proposal(msgspec.Struct, frozen=True):
    """A command on its way into the log.

    Attributes:
        id: PROPOSAL_ID_BYTES, drawn by whoever submitted it.
        since: the submitter's epoch then. An entry so much later that the log may have forgotten an earlier one with
            the same id is refused.
    """

    id: bytes
    since: int
    command: Command


def summary(command: Command) -> str:
    """The command in a few words, for operators: ``create_table app.t``, ``add_member 10.0.0.3:7000``."""
    if isinstance(command, ChangeSchema):
        change = decode_change(command.change)
        parts = [getattr(change, name, "") for name in ("keyspace", "table", "type")]
        return f"{change.__struct_config__.tag} {'.'.join(part for part in parts if part)}"
    tag = str(command.__struct_config__.tag)
    if isinstance(command, FoundCluster):
        return f"{tag} {command.name}"
    if isinstance(command, RemoveMember | Leave):
        return f"{tag} {command.host_id}"
    if isinstance(command, BeginMove | Rebalance):
        return tag
    if isinstance(command, Suspect):
        return f"{tag} {command.node} by {command.by}: {'down' if command.is_down else 'up again'}"
    if isinstance(command, PauseHealing):
        return tag if command.is_paused else "resume_healing"
    if isinstance(command, Heal):
        return f"{tag} {', '.join(map(str, command.nodes))}"
    if isinstance(command, NodeCopied):
        return f"{tag} {command.node} in move {command.move}"
    if isinstance(command, AdvanceMove):
        return f"{tag} {command.move} after stage {command.stage}"
    if isinstance(command, AbortMove):
        return f"{tag} {command.move}: {command.reason}"
    peer = command.member.peer if isinstance(command, AddMember) else command.peer
    return f"{tag} {peer[0]}:{peer[1]}"


_encoder = msgspec.msgpack.Encoder(order="deterministic")
_decoder = msgspec.msgpack.Decoder(Proposal)


def encode_proposal(proposal: Proposal) -> bytes:
    """The payload of an entry; equal proposals give equal bytes."""
    return _encoder.encode(proposal)


def decode_proposal(payload: bytes) -> Proposal:
    """Inverse of ``encode_proposal``.

    Raises:
        StoreDamaged: the bytes are no proposal, or one that a newer version of OuroDB made.
    """
    try:
        proposal: Proposal = _decoder.decode(payload)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise StoreDamaged(
            f"it can't be read ({error}); a newer version of OuroDB may have made it"
        ) from error
    if len(proposal.id) != PROPOSAL_ID_BYTES:
        raise StoreDamaged(f"its id has {len(proposal.id)} bytes instead of {PROPOSAL_ID_BYTES}")
    return proposal
