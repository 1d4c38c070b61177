"""How the cluster evolves: ``apply`` carries out one entry of the metadata log.

A pure function of its arguments: no clock, no draw, no order of a set. Every node that applies the same entries has an
equal view, down to the ids of members and their tokens: those are chosen here, in the order of the log, so that nodes
that join at the same time can't get the same ones.

A command that doesn't fit when its turn comes is refused by every node alike: the entry leaves nothing behind but its
epoch and, in ``ClusterView.recent``, the refusal.

Until rows can move, what would need them to is refused once there are user tables: another member, one member less,
and on a ring of several members another replication of a keyspace that has tables.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from types import MappingProxyType
from typing import Any
from uuid import UUID

from ourodb import limits
from ourodb.cluster.metadata.commands import (
    AddMember,
    ChangeSchema,
    Command,
    FoundCluster,
    NewMember,
    RemoveMember,
    UpdateMember,
    decode_proposal,
)
from ourodb.cluster.metadata.refusals import encode_refusal
from ourodb.cluster.metadata.view import ClusterView, by_id
from ourodb.cluster.raft.messages import Entry, EntryKind, decode_voters
from ourodb.cluster.ring.allocation import choose_tokens
from ourodb.cluster.ring.model import Member
from ourodb.cluster.ring.placement import Ring
from ourodb.errors import InvalidRequest, Overloaded, ProtocolError, RequestError, StoreDamaged
from ourodb.ports import Address, NodeId
from ourodb.schema.changes import Change, SchemaChangeEvent, decode_change
from ourodb.schema.evolution import apply as apply_change
from ourodb.schema.model import Schema
from ourodb.schema.names import is_system_keyspace
from ourodb.schema.snapshot import decode_schema

_Events = tuple[SchemaChangeEvent, ...]
_Step = tuple[ClusterView, _Events]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one entry.

    Attributes:
        proposal: its id; empty for an entry that is no command, and for one whose proposal was settled before.
        events: what clients are told of the schema, the statement's own event last.
        error: why the command was refused, by every node alike.
    """

    proposal: bytes = b""
    events: _Events = ()
    error: RequestError | None = None


def apply(view: ClusterView, entry: Entry) -> tuple[ClusterView, Outcome]:
    """The view after the entry, and what became of it.

    Raises:
        StoreDamaged: the entry can't be read; the node must not go on without it.
    """
    assert entry.index == view.epoch + 1, f"entry {entry.index} doesn't follow epoch {view.epoch}"
    if entry.kind is EntryKind.NOOP:
        return replace(view, epoch=entry.index), Outcome()
    try:
        if entry.kind is EntryKind.VOTERS:
            voters = tuple(sorted(decode_voters(entry.payload)))
            return replace(view, epoch=entry.index, voters=voters), Outcome()
        proposal = decode_proposal(entry.payload)
        if proposal.id in view.recent:
            return replace(view, epoch=entry.index), Outcome()
        try:
            if entry.index - proposal.since > limits.METADATA_RECENT_MAX:
                raise Overloaded(
                    "the change came too late to tell whether it was carried out before; look, and try again"
                )
            after, events = carry_out(view, proposal.command)
            refusal = None
        except RequestError as error:
            after, events, refusal = view, (), error
    except (StoreDamaged, ProtocolError) as error:
        raise StoreDamaged(f"Entry {entry.index} of the metadata log can't be applied: {error}") from error
    settled = b"" if refusal is None else encode_refusal(refusal)
    recent = _with_recent(after, proposal.id, settled)
    return replace(after, epoch=entry.index, recent=recent), Outcome(proposal.id, events, refusal)


def carry_out(view: ClusterView, command: Command) -> tuple[ClusterView, tuple[SchemaChangeEvent, ...]]:
    """The view after the command, its epoch unchanged, and what clients are told of the schema.

    A command that has nothing to do gives ``view`` itself.

    Raises:
        RequestError: it doesn't fit.
        StoreDamaged: what is inside it can't be read.
    """
    return _CARRIERS[type(command)](view, command)


def check_change(view: ClusterView, change: Change) -> tuple[ClusterView, tuple[SchemaChangeEvent, ...]]:
    """``carry_out`` of a change of the schema that isn't encoded yet."""
    schema, events = apply_change(view.schema, change)
    if schema is view.schema:
        return view, ()
    if len(view.members) > 1:
        _check_replication(view.schema, schema)
    return replace(view, schema=schema), events


def schema_events(before: Schema, after: Schema) -> tuple[SchemaChangeEvent, ...]:
    """What clients are told when a node takes over a schema without having seen the changes that led to it."""
    events = []
    for name in sorted(before.keyspaces.keys() | after.keyspaces.keys()):
        old, new = before.keyspaces.get(name), after.keyspaces.get(name)
        if old is new:
            continue
        if new is None:
            events.append(SchemaChangeEvent("DROPPED", "KEYSPACE", name))
            continue
        if old is None:
            events.append(SchemaChangeEvent("CREATED", "KEYSPACE", name))
        elif (old.replication, old.durable_writes) != (new.replication, new.durable_writes):
            events.append(SchemaChangeEvent("UPDATED", "KEYSPACE", name))
        events += _part_events("TYPE", name, old.types if old else {}, new.types)
        events += _part_events("TABLE", name, old.tables if old else {}, new.tables)
    return tuple(events)


def _part_events(target: str, keyspace: str, before: Any, after: Any) -> list[SchemaChangeEvent]:
    events = []
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old != new:
            what = "CREATED" if old is None else "DROPPED" if new is None else "UPDATED"
            events.append(SchemaChangeEvent(what, target, keyspace, name))
    return events


def _with_recent(view: ClusterView, proposal: bytes, settled: bytes) -> MappingProxyType[bytes, bytes]:
    recent = view.recent
    surplus = len(recent) + 1 - limits.METADATA_RECENT_MAX
    kept = dict(islice(recent.items(), surplus, None) if surplus > 0 else recent.items())
    kept[proposal] = settled
    return MappingProxyType(kept)


def _found(view: ClusterView, command: FoundCluster) -> _Step:
    if view.members:
        raise InvalidRequest(f"the cluster {view.cluster_name} was founded already")
    schema = decode_schema(command.schema) if command.schema else view.schema
    founded = replace(view, cluster_id=command.cluster_id, cluster_name=command.name, schema=schema)
    after = _with_member(founded, command.member)
    return replace(after, voters=tuple(after.members)), ()


def _add(view: ClusterView, command: AddMember) -> _Step:
    new = command.member
    if view.member_of_host(new.host_id) is not None:
        return view, ()
    if new.host_id in view.removed:
        raise InvalidRequest(
            f"the node with host id {new.host_id} was removed from the cluster {view.cluster_name}, and its rows have"
            " been given to others since; wipe its data folder and join afresh"
        )
    if view.has_user_tables:
        raise InvalidRequest(
            f"joining a ring that holds tables isn't possible yet: the cluster {view.cluster_name} has user tables;"
            " start the node before creating tables"
        )
    if len(view.members) >= limits.MEMBERS_MAX:
        raise InvalidRequest(f"a cluster can't have more than {limits.MEMBERS_MAX} members")
    if not 1 <= new.token_count <= limits.TOKENS_PER_NODE_MAX:
        raise InvalidRequest(
            f"a member has between 1 and {limits.TOKENS_PER_NODE_MAX} tokens, not {new.token_count}"
        )
    _check_addresses(view, new.host_id, new.peer, new.native)
    return _with_member(view, new), ()


def _update(view: ClusterView, command: UpdateMember) -> _Step:
    member = view.member_of_host(command.host_id)
    if member is None:
        raise InvalidRequest(f"no member has the host id {command.host_id}")
    if (member.peer, member.native) == (command.peer, command.native):
        return view, ()
    _check_addresses(view, command.host_id, command.peer, command.native)
    moved = replace(member, peer=command.peer, native=command.native)
    return _with_members(view, {**view.members, member.id: moved}), ()


def _remove(view: ClusterView, command: RemoveMember) -> _Step:
    member = view.member_of_host(command.host_id)
    if member is None:
        raise InvalidRequest(f"no member has the host id {command.host_id}")
    if len(view.members) == 1:
        raise InvalidRequest("the last member of a cluster can't be removed")
    if view.voters == (member.id,):
        raise InvalidRequest(
            f"node {member.id} alone decides on the cluster's metadata; it can't be removed before there are three"
            " members"
        )
    if view.has_user_tables:
        raise InvalidRequest(
            "removing a member from a ring that holds tables isn't possible yet: its rows couldn't be given to others"
        )
    left = {node: other for node, other in view.members.items() if node != member.id}
    removed = (*view.removed, member.host_id)[-limits.REMOVED_HOSTS_MAX :]
    return replace(_with_members(view, left), removed=removed), ()


def _change_schema(view: ClusterView, command: ChangeSchema) -> _Step:
    return check_change(view, decode_change(command.change))


_CARRIERS: dict[type[Command], Callable[[ClusterView, Any], _Step]] = {
    FoundCluster: _found,
    AddMember: _add,
    UpdateMember: _update,
    RemoveMember: _remove,
    ChangeSchema: _change_schema,
}


def _check_replication(before: Schema, after: Schema) -> None:
    """Refuse a change of copies that exist."""
    for name, keyspace in before.keyspaces.items():
        altered = after.keyspaces.get(name)
        if altered is None or altered is keyspace or not keyspace.tables or is_system_keyspace(name):
            continue
        if altered.replication != keyspace.replication:
            raise InvalidRequest(
                f"changing the replication of keyspace {name} isn't possible yet: it has tables, whose rows would"
                " have to move; create a keyspace with the replication that you want"
            )


def _check_addresses(view: ClusterView, host_id: UUID, peer: Address, native: Address) -> None:
    """Refuse an address that another member has. Port 0 is none yet."""
    for other in view.members.values():
        if other.host_id == host_id:
            continue
        for what, address, taken in (("peers", peer, other.peer), ("clients", native, other.native)):
            if address == taken and address[1] != 0:
                raise InvalidRequest(
                    f"the address {address[0]}:{address[1]} for {what} belongs to node {other.id} (host id"
                    f" {other.host_id}); give this node another one, or remove that node first if it is gone for good"
                )


def _with_member(view: ClusterView, new: NewMember) -> ClusterView:
    tokens = new.tokens or choose_tokens(
        tuple(view.members.values()), new.data_center, new.rack, new.host, new.token_count
    )
    member = Member(
        id=view.next_node,
        host_id=new.host_id,
        peer=new.peer,
        native=new.native,
        data_center=new.data_center,
        rack=new.rack,
        host=new.host,
        tokens=tuple(sorted(tokens)),
    )
    grown = replace(view, next_node=NodeId(view.next_node + 1))
    return _with_members(grown, {**view.members, member.id: member})


def _with_members(view: ClusterView, members: dict[NodeId, Member]) -> ClusterView:
    ordered = by_id(members)
    return replace(view, members=ordered, ring=Ring(tuple(ordered.values())))
