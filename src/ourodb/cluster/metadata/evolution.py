"""How the cluster evolves: ``apply`` carries out one entry of the metadata log.

A pure function of its arguments: no clock, no draw, no order of a set. Every node that applies the same entries has an
equal view, down to the ids of members and their tokens: those are chosen here, in the order of the log, so that nodes
that join at the same time can't get the same ones.

A command that doesn't fit when its turn comes is refused by every node alike: the entry leaves nothing behind but its
epoch and, in ``ClusterView.recent``, the refusal.

As long as there are no user tables, nodes come and go at once. Then rows have to move: a node that joins is a member
without tokens at first, and *wishes* to have some; ``BeginMove`` grants wishes, ``NodeCopied`` and ``AdvanceMove``
carry the move through its stages (``cluster.ring.moves``), ``AbortMove`` undoes it. One move is under way at a time.
Another replication of a keyspace that has tables is a wish, too: the schema shows it when its move is over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from types import MappingProxyType
from typing import Any
from uuid import UUID

from ourodb import limits
from ourodb.cluster.metadata.commands import (
    AbortMove,
    AddMember,
    AdvanceMove,
    BeginMove,
    ChangeSchema,
    Command,
    FoundCluster,
    Heal,
    Leave,
    NewMember,
    NodeCopied,
    PauseHealing,
    Rebalance,
    RemoveMember,
    Suspect,
    UpdateMember,
    decode_proposal,
)
from ourodb.cluster.metadata.operations import followed
from ourodb.cluster.metadata.refusals import encode_refusal
from ourodb.cluster.metadata.view import ClusterView, by_id
from ourodb.cluster.raft.messages import Entry, EntryKind, decode_voters
from ourodb.cluster.ring.allocation import choose_tokens
from ourodb.cluster.ring.model import Member
from ourodb.cluster.ring.moves import (
    ALTER,
    HEAL,
    JOIN,
    LEAVE,
    REBALANCE,
    REMOVE,
    REPLACE,
    Move,
    Stage,
    Wish,
    moved_ranges,
    ring_after,
)
from ourodb.cluster.ring.placement import NOBODY, Ring
from ourodb.cluster.ring.rebalancing import evened
from ourodb.cluster.ring.strategies import copies
from ourodb.errors import InvalidRequest, Overloaded, ProtocolError, RequestError, StoreDamaged
from ourodb.ports import Address, NodeId
from ourodb.schema.changes import AlterKeyspace, Change, SchemaChangeEvent, decode_change
from ourodb.schema.evolution import apply as apply_change
from ourodb.schema.keyspaces import NETWORK_TOPOLOGY, SIMPLE
from ourodb.schema.model import Keyspace, Replication, Schema
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
    after, events = _CARRIERS[type(command)](view, command)
    if after.move is not view.move:
        operations = followed(
            after.operations,
            view.move,
            after.move,
            at_ms=getattr(command, "at_ms", 0),
            reason=command.reason if isinstance(command, AbortMove) else None,
            rows=command.rows if isinstance(command, NodeCopied) else 0,
            bytes=command.bytes if isinstance(command, NodeCopied) else 0,
        )
        after = replace(after, operations=operations)
    return after, events


def check_change(view: ClusterView, change: Change) -> tuple[ClusterView, tuple[SchemaChangeEvent, ...]]:
    """``carry_out`` of a change of the schema that isn't encoded yet."""
    schema, events = apply_change(view.schema, change)
    if schema is view.schema:
        return view, ()
    schema, new_wishes = _put_off(view, schema)
    move = view.move
    if move is not None and move.keyspace and move.keyspace not in schema.keyspaces:
        move = replace(move, keyspace="", replication=None)
    wishes = tuple(
        wish for wish in (*view.wishes, *new_wishes) if not wish.keyspace or wish.keyspace in schema.keyspaces
    )
    return replace(view, schema=schema, wishes=wishes, move=move), events


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
    if len(view.members) >= limits.MEMBERS_MAX:
        raise InvalidRequest(f"a cluster can't have more than {limits.MEMBERS_MAX} members")
    if not 1 <= new.token_count <= limits.TOKENS_PER_NODE_MAX:
        raise InvalidRequest(
            f"a member has between 1 and {limits.TOKENS_PER_NODE_MAX} tokens, not {new.token_count}"
        )
    _check_addresses(view, new.host_id, new.peer, new.native)
    if new.replaces:
        return _replace(view, new, NodeId(new.replaces)), ()
    if _moves_at_once(view):
        return _with_member(view, new), ()
    waiting = _with_member(view, new, tokens=())
    wish = Wish(view.next_node, JOIN, new.token_count)
    return replace(waiting, wishes=(*view.wishes, wish)), ()


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
    if _moves_at_once(view) or not (member.tokens or _is_moving(view, member)):
        return _without_member(view, member), ()
    return _wish_to_go(view, member, REMOVE), ()


def _leave(view: ClusterView, command: Leave) -> _Step:
    member = view.member_of_host(command.host_id)
    if member is None:
        raise InvalidRequest(f"no member has the host id {command.host_id}")
    if len(view.members) == 1:
        raise InvalidRequest("the last member of a cluster can't leave")
    if view.voters == (member.id,):
        raise InvalidRequest(
            f"node {member.id} alone decides on the cluster's metadata; it can't leave before there are three members"
        )
    if _moves_at_once(view) or not (member.tokens or _is_moving(view, member)):
        return _without_member(view, member), ()
    return _wish_to_go(view, member, LEAVE), ()


def _suspect(view: ClusterView, command: Suspect) -> _Step:
    node, voter = NodeId(command.node), NodeId(command.by)
    suspecting = view.suspects.get(node, ())
    if node not in view.members or voter not in view.members or (voter in suspecting) is command.is_down:
        return view, ()
    after = {*suspecting, voter} if command.is_down else {*suspecting} - {voter}
    return replace(view, suspects=_suspects({**view.suspects, node: tuple(sorted(after))})), ()


def _suspects(suspects: Mapping[NodeId, tuple[NodeId, ...]]) -> Mapping[NodeId, tuple[NodeId, ...]]:
    return MappingProxyType({node: suspects[node] for node in sorted(suspects) if suspects[node]})


def _pause_healing(view: ClusterView, command: PauseHealing) -> _Step:
    if view.is_healing_paused is command.is_paused:
        return view, ()
    return replace(view, is_healing_paused=command.is_paused), ()


def _heal(view: ClusterView, command: Heal) -> _Step:
    """Give nodes up that most voters take for dead, or that an operator says are."""
    if not command.is_asked and (view.is_healing_paused or view.move is not None or view.wishes):
        raise InvalidRequest("nobody is given up at the moment")
    if not view.has_user_tables:
        raise InvalidRequest("there are no rows that would need other replicas")
    after = view
    for node in map(NodeId, command.nodes):
        member = view.members.get(node)
        if member is None or not member.tokens:
            raise InvalidRequest(f"there is no node {node} that has rows")
        if not command.is_asked and not view.is_taken_for_dead(node):
            raise InvalidRequest(f"most voters don't take node {node} for dead")
        if view.voters == (node,):
            raise InvalidRequest(
                f"node {node} alone decides on the cluster's metadata; ouro metadata recover lets another one decide"
            )
        after = _wish_to_go(after, member, HEAL)
    return after, ()


def _rebalance(view: ClusterView, command: Rebalance) -> _Step:
    if any(wish.kind == REBALANCE for wish in view.wishes) or not view.members:
        return view, ()
    if view.move is not None and view.move.kind == REBALANCE:
        return view, ()
    if _moves_at_once(view):
        tokens = evened(tuple(view.members.values()))
        members = {
            node: replace(one, tokens=tokens.get(node, one.tokens)) for node, one in view.members.items()
        }
        return (_with_members(view, members) if tokens else view), ()
    return replace(view, wishes=(*view.wishes, Wish(NOBODY, REBALANCE))), ()


def _replace(view: ClusterView, new: NewMember, gone: NodeId) -> ClusterView:
    """
    Raises:
        InvalidRequest: there is nobody to replace, or where it was it stood elsewhere.
    """
    member = view.members.get(gone)
    if member is None or not member.tokens:
        raise InvalidRequest(f"there is no node {gone} to replace; ouro status shows all")
    if (member.data_center, member.rack) != (new.data_center, new.rack):
        raise InvalidRequest(
            f"node {gone} was in rack {member.rack} of {member.data_center}; what replaces it must be there, too, not"
            f" in {new.rack} of {new.data_center}"
        )
    if view.move is not None and gone in view.move.tokens:
        raise InvalidRequest(f"node {gone} is joining or leaving already; wait until that is over")
    if any(gone in (wish.node, wish.replaces) for wish in view.wishes):
        raise InvalidRequest(f"node {gone} is being removed or replaced already")
    if view.voters == (gone,):
        raise InvalidRequest(
            f"node {gone} alone decides on the cluster's metadata; ouro metadata recover lets another one decide"
        )
    if _moves_at_once(view):
        return _with_member(_without_member(view, member), new, tokens=member.tokens)
    wish = Wish(view.next_node, REPLACE, replaces=gone)
    return replace(_with_member(view, new, tokens=()), wishes=(*view.wishes, wish))


def _moves_at_once(view: ClusterView) -> bool:
    """Whether there are no rows to move."""
    return not view.has_user_tables and view.move is None and not view.wishes


def _is_moving(view: ClusterView, member: Member) -> bool:
    """Whether the move that is under way is about what this node gains or gives up: without it, it would be another."""
    return view.move is not None and member.id in view.move.tokens


def _wish_to_go(view: ClusterView, member: Member, kind: str) -> ClusterView:
    """
    Raises:
        InvalidRequest: too few would remain.
    """
    if any(wish.node == member.id for wish in view.wishes):
        return view
    if _is_moving(view, member):
        raise InvalidRequest(f"node {member.id} is joining or leaving already; wait until that is over")
    if any(wish.replaces == member.id for wish in view.wishes):
        raise InvalidRequest(f"node {member.id} is about to be replaced; wait until that is over")
    going = {wish.node for wish in view.wishes if wish.kind != JOIN} | {member.id}
    if view.move is not None:
        going |= {node for node, tokens in view.move.tokens.items() if not tokens}
    remaining = [other for node, other in view.members.items() if other.tokens and node not in going]
    for keyspace in view.schema.keyspaces.values():
        if not keyspace.tables or is_system_keyspace(keyspace.name):
            continue
        short = _too_few(keyspace.replication, remaining)
        if short:
            raise InvalidRequest(
                f"without node {member.id} there would be too few nodes for keyspace {keyspace.name}: {short}; let"
                " another node join first, or lower the replication factor"
            )
    return replace(view, wishes=(*view.wishes, Wish(member.id, kind)))


def _too_few(replication: Replication, members: list[Member]) -> str:
    """What is missing for all copies of a keyspace; empty when nothing is."""
    if replication.strategy == SIMPLE:
        wanted = copies(replication.options.get("replication_factor", "1"))
        return "" if len(members) >= wanted else f"{wanted} copies, and {len(members)} nodes"
    if replication.strategy == NETWORK_TOPOLOGY:
        for name, text in replication.options.items():
            there = sum(member.data_center == name for member in members)
            if there < copies(text):
                return f"{copies(text)} copies in {name}, and {there} nodes there"
    return ""


def _begin(view: ClusterView, command: BeginMove) -> _Step:
    """Grant the wish that is oldest; all that wish to join do so together."""
    if view.move is not None or not view.wishes:
        return view, ()
    kind = view.wishes[0].kind
    together = kind in (JOIN, HEAL)
    granted = [wish for wish in view.wishes if wish.kind == kind] if together else [view.wishes[0]]
    tokens: dict[NodeId, tuple[int, ...]] = {}
    if kind == REBALANCE:
        tokens = dict(evened(tuple(view.members.values())))
        if not tokens:
            return replace(view, wishes=view.wishes[1:]), ()
        return _begun(view, kind, tokens, view.wishes[:1]), ()
    members = dict(view.members)
    for wish in granted:
        if kind == ALTER:
            break
        member = members[wish.node]
        if kind == JOIN:
            others = tuple(members.values())
            chosen = choose_tokens(others, member.data_center, member.rack, member.host, wish.token_count)
            members[wish.node] = replace(member, tokens=tuple(sorted(chosen)))
            tokens[wish.node] = members[wish.node].tokens
        elif kind == REPLACE:
            tokens[wish.node] = members[wish.replaces].tokens
            tokens[wish.replaces] = ()
        else:
            tokens[wish.node] = ()
    return _begun(view, kind, tokens, granted), ()


def _begun(
    view: ClusterView, kind: str, tokens: dict[NodeId, tuple[int, ...]], granted: Sequence[Wish]
) -> ClusterView:
    index = view.epoch + 1
    move = Move(
        index,
        kind,
        MappingProxyType(tokens),
        Stage.COPYING,
        index,
        keyspace=granted[0].keyspace,
        replication=granted[0].replication,
    )
    wishes = tuple(wish for wish in view.wishes if wish not in granted)
    return replace(view, wishes=wishes, move=move, next_ring=ring_after(view.members, move))


def _copied(view: ClusterView, command: NodeCopied) -> _Step:
    move, node = view.move, NodeId(command.node)
    if move is None or move.id != command.move or node in move.copied:
        return view, ()
    return replace(view, move=replace(move, copied=tuple(sorted((*move.copied, node))))), ()


def _advance(view: ClusterView, command: AdvanceMove) -> _Step:
    move, index = view.move, view.epoch + 1
    if move is None or move.id != command.move or move.stage != command.stage:
        return view, ()
    if move.stage is Stage.COPYING:
        lacking = [node for node in view.copying if node not in move.copied]
        if lacking:
            raise InvalidRequest(f"nodes {lacking} haven't copied what they are to hold")
        return replace(view, move=replace(move, stage=Stage.SWITCHED, since=index)), ()
    moved = {
        node: replace(member, tokens=move.tokens.get(node, member.tokens))
        for node, member in view.members.items()
    }
    after = replace(_with_members(view, moved), move=None, next_ring=None, moved=index)
    for node, tokens in move.tokens.items():
        if not tokens:
            after = _without_member(after, after.members[node])
    if move.replication is None:
        return after, ()
    altered = AlterKeyspace(move.keyspace, move.replication.strategy, dict(move.replication.options))
    schema, events = apply_change(view.schema, altered)
    return replace(after, schema=schema), events


def _abort(view: ClusterView, command: AbortMove) -> _Step:
    move = view.move
    if move is None or move.id != command.move:
        return view, ()
    if move.stage is not Stage.COPYING:
        raise InvalidRequest("a move can't be undone once reads go to the new replicas")
    after = replace(view, move=None, next_ring=None, moved=view.epoch + 1)
    replaced = next((node for node, tokens in move.tokens.items() if not tokens), NOBODY)
    for node, tokens in move.tokens.items():
        member = after.members.get(node)
        if member is None or member.tokens:
            continue
        if not command.blamed or node == command.blamed:
            after = _without_member(after, member)
        elif move.kind == REPLACE:
            after = replace(after, wishes=(*after.wishes, Wish(node, REPLACE, replaces=replaced)))
        else:
            after = replace(after, wishes=(*after.wishes, Wish(node, JOIN, len(tokens))))
    return after, ()


def _without_member(view: ClusterView, member: Member) -> ClusterView:
    left = {node: other for node, other in view.members.items() if node != member.id}
    removed = (*view.removed, member.host_id)[-limits.REMOVED_HOSTS_MAX :]
    wishes = tuple(wish for wish in view.wishes if wish.node != member.id)
    suspects = _suspects(
        {
            node: tuple(voter for voter in suspecting if voter != member.id)
            for node, suspecting in view.suspects.items()
            if node != member.id
        }
    )
    return replace(_with_members(view, left), removed=removed, wishes=wishes, suspects=suspects)


def _change_schema(view: ClusterView, command: ChangeSchema) -> _Step:
    return check_change(view, decode_change(command.change))


_CARRIERS: dict[type[Command], Callable[[ClusterView, Any], _Step]] = {
    FoundCluster: _found,
    AddMember: _add,
    UpdateMember: _update,
    RemoveMember: _remove,
    Leave: _leave,
    Suspect: _suspect,
    PauseHealing: _pause_healing,
    Heal: _heal,
    Rebalance: _rebalance,
    BeginMove: _begin,
    NodeCopied: _copied,
    AdvanceMove: _advance,
    AbortMove: _abort,
    ChangeSchema: _change_schema,
}


def _put_off(view: ClusterView, schema: Schema) -> tuple[Schema, list[Wish]]:
    """The schema but for changes of copies that exist; those become wishes.

    Raises:
        InvalidRequest: the copies of a keyspace are being changed already.
    """
    wishes = []
    for name, keyspace in view.schema.keyspaces.items():
        altered = schema.keyspaces.get(name)
        if altered is None or altered.replication == keyspace.replication or not _must_move(view, altered):
            continue
        if any(name == one.keyspace for one in (view.move, *view.wishes) if one is not None):
            raise InvalidRequest(
                f"keyspace {name} is getting another replication already; ouro status shows when that is over"
            )
        wishes.append(Wish(NOBODY, ALTER, keyspace=name, replication=altered.replication))
        kept = replace(altered, replication=keyspace.replication)
        if kept == keyspace:
            return view.schema, wishes
        schema = replace(schema, keyspaces=MappingProxyType({**schema.keyspaces, name: kept}))
    return schema, wishes


def _must_move(view: ClusterView, altered: Keyspace) -> bool:
    """Whether rows of a keyspace would be elsewhere."""
    keyspace = view.schema.keyspaces[altered.name]
    if not keyspace.tables or is_system_keyspace(keyspace.name) or len(view.members) == 1:
        return False
    if view.move is not None or view.wishes:
        return True
    before, after = (view.ring.placement(one.replication) for one in (keyspace, altered))
    return bool(moved_ranges(before, after))


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


def _with_member(view: ClusterView, new: NewMember, tokens: tuple[int, ...] | None = None) -> ClusterView:
    """
    Args:
        tokens: none at all for one that is to get them later; None: they are chosen now.
    """
    if tokens is None:
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
    next_ring = None if view.move is None else ring_after(ordered, view.move)
    return replace(view, members=ordered, ring=Ring(tuple(ordered.values())), next_ring=next_ring)
