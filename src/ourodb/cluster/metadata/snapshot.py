"""A whole view as bytes: what a node starts from, and what one that is far behind is sent.

Format: one byte of version, then msgpack, deflated; the schema is within as ``schema.snapshot`` writes it. Fields may
be added with defaults; anything else is a new version.
"""

from __future__ import annotations

import zlib
from dataclasses import astuple
from types import MappingProxyType
from typing import Final
from uuid import UUID

import msgspec

from ourodb import limits
from ourodb.cluster.metadata.operations import Operation
from ourodb.cluster.metadata.view import ClusterView, by_id
from ourodb.cluster.ring.model import Member
from ourodb.cluster.ring.moves import Move, Stage, Wish, ring_after
from ourodb.cluster.ring.placement import Ring
from ourodb.errors import StoreDamaged
from ourodb.ports import Address, NodeId
from ourodb.schema.model import Replication
from ourodb.schema.snapshot import decode_schema, encode_schema

VERSION: Final = 1


class _Member(msgspec.Struct, frozen=True):
    id: int
    host_id: UUID
    peer: Address
    native: Address
    data_center: str
    rack: str
    host: str
    tokens: tuple[int, ...]


class _Replication(msgspec.Struct, frozen=True):
    strategy: str
    options: dict[str, str]


class _Wish(msgspec.Struct, frozen=True):
    node: int
    kind: str
    token_count: int = 0
    replaces: int = 0
    keyspace: str = ""
    replication: _Replication | None = None


class _Move(msgspec.Struct, frozen=True):
    id: int
    kind: str
    tokens: list[tuple[int, tuple[int, ...]]]
    stage: int
    since: int
    copied: list[int]
    keyspace: str = ""
    replication: _Replication | None = None


class _Operation(msgspec.Struct, frozen=True, omit_defaults=True):
    move: int
    kind: str
    nodes: tuple[int, ...]
    began_ms: int = 0
    switched_ms: int = 0
    ended_ms: int = 0
    is_over: bool = False
    is_done: bool = False
    reason: str = ""
    rows: int = 0
    bytes: int = 0
    keyspace: str = ""


class _View(msgspec.Struct, frozen=True, omit_defaults=True):
    epoch: int
    cluster_id: UUID
    cluster_name: str
    schema: bytes
    members: list[_Member]
    voters: list[int]
    next_node: int
    removed: list[UUID]
    recent: list[tuple[bytes, bytes]]
    recoveries: int
    move: _Move | None = None
    wishes: list[_Wish] = []
    moved: int = 0
    suspects: list[tuple[int, tuple[int, ...]]] = []
    is_healing_paused: bool = False
    operations: list[_Operation] = []


_encoder = msgspec.msgpack.Encoder(order="deterministic")
_decoder = msgspec.msgpack.Decoder(_View)


def encode_view(view: ClusterView) -> bytes:
    """Views that the same entries led to give equal bytes, on nodes of one version."""
    members = [
        _Member(
            member.id,
            member.host_id,
            member.peer,
            member.native,
            member.data_center,
            member.rack,
            member.host,
            member.tokens,
        )
        for member in view.members.values()
    ]
    written = _View(
        view.epoch,
        view.cluster_id,
        view.cluster_name,
        encode_schema(view.schema),
        members,
        list(view.voters),
        view.next_node,
        list(view.removed),
        list(view.recent.items()),
        view.recoveries,
        None if view.move is None else _written_move(view.move),
        [
            _Wish(
                wish.node,
                wish.kind,
                wish.token_count,
                wish.replaces,
                wish.keyspace,
                _written_replication(wish.replication),
            )
            for wish in view.wishes
        ],
        view.moved,
        suspects=sorted(view.suspects.items()),
        is_healing_paused=view.is_healing_paused,
        operations=[_Operation(*astuple(operation)) for operation in view.operations],
    )
    return bytes([VERSION]) + zlib.compress(_encoder.encode(written), 1)


def _written_move(move: Move) -> _Move:
    return _Move(
        move.id,
        move.kind,
        sorted(move.tokens.items()),
        int(move.stage),
        move.since,
        list(move.copied),
        move.keyspace,
        _written_replication(move.replication),
    )


def _written_replication(replication: Replication | None) -> _Replication | None:
    return None if replication is None else _Replication(replication.strategy, dict(replication.options))


def _read_replication(replication: _Replication | None) -> Replication | None:
    if replication is None:
        return None
    return Replication(replication.strategy, MappingProxyType(replication.options))


def _read_move(move: _Move) -> Move:
    tokens = {NodeId(node): tokens for node, tokens in move.tokens}
    copied = tuple(NodeId(node) for node in move.copied)
    return Move(
        move.id,
        move.kind,
        MappingProxyType(tokens),
        Stage(move.stage),
        move.since,
        copied,
        move.keyspace,
        _read_replication(move.replication),
    )


def decode_view(encoded: bytes) -> ClusterView:
    """Inverse of ``encode_view``.

    Raises:
        StoreDamaged: the bytes are no view, or one of a newer format.
    """
    if not encoded or encoded[0] != VERSION:
        found = encoded[0] if encoded else "nothing"
        raise StoreDamaged(
            f"The snapshot of the metadata log has format {found}; this version of OuroDB reads format {VERSION}. "
            "Start the version that wrote it, or restore a snapshot of this node's data."
        )
    try:
        inflater = zlib.decompressobj()
        plain = inflater.decompress(encoded[1:], limits.METADATA_VIEW_BYTES_MAX)
        if not inflater.eof:
            raise ValueError("it is cut short or too long")
        read = _decoder.decode(plain)
    except (msgspec.MsgspecError, zlib.error, ValueError) as error:
        raise StoreDamaged(
            f"The snapshot of the metadata log can't be read: {error}. Restore a snapshot of this node's data."
        ) from error
    members = by_id(
        {
            NodeId(member.id): Member(
                NodeId(member.id),
                member.host_id,
                member.peer,
                member.native,
                member.data_center,
                member.rack,
                member.host,
                member.tokens,
            )
            for member in read.members
        }
    )
    move = None if read.move is None else _read_move(read.move)
    return ClusterView(
        epoch=read.epoch,
        cluster_id=read.cluster_id,
        cluster_name=read.cluster_name,
        schema=decode_schema(read.schema),
        members=members,
        voters=tuple(NodeId(voter) for voter in read.voters),
        next_node=NodeId(read.next_node),
        removed=tuple(read.removed),
        recent=MappingProxyType(dict(read.recent)),
        recoveries=read.recoveries,
        ring=Ring(tuple(members.values())),
        move=move,
        wishes=tuple(
            Wish(
                NodeId(wish.node),
                wish.kind,
                wish.token_count,
                NodeId(wish.replaces),
                wish.keyspace,
                _read_replication(wish.replication),
            )
            for wish in read.wishes
        ),
        moved=read.moved,
        next_ring=None if move is None else ring_after(members, move),
        suspects=MappingProxyType(
            {NodeId(node): tuple(map(NodeId, voters)) for node, voters in read.suspects}
        ),
        is_healing_paused=read.is_healing_paused,
        operations=tuple(
            Operation(**{**msgspec.structs.asdict(operation), "nodes": tuple(map(NodeId, operation.nodes))})
            for operation in read.operations
        ),
    )
