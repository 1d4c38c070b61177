"""What a node knows of the cluster at one epoch, as one immutable object.

A ``ClusterView`` is what the entries of the metadata log amount to: nodes that have applied the same entries have equal
views. It holds what the data plane reads (schema, members, ring) and what the log itself needs to stay exact (voters,
the next node's number, the proposals that were settled lately), so that a snapshot of it can stand for the entries that
led to it.

Two counters are near each other and differ: ``ClusterView.epoch`` is the index of the last entry applied, whatever it
was about; ``Schema.epoch`` counts changes of the schema alone, and makes ``schema_version``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final
from uuid import UUID

from ourodb.cluster.metadata.operations import Operation
from ourodb.cluster.ring.model import Member
from ourodb.cluster.ring.moves import Move, MovedRange, Wish, moved_ranges
from ourodb.cluster.ring.placement import Placement, Ring
from ourodb.ports import NodeId
from ourodb.schema.keyspaces import LOCAL
from ourodb.schema.model import Keyspace, Schema
from ourodb.schema.names import is_system_keyspace
from ourodb.schema.node_info import NodeInfo
from ourodb.schema.system import initial_schema

NO_CLUSTER: Final = UUID(int=0)


@dataclass(frozen=True, slots=True)
class ClusterView:
    """Schema, members and voters as of one epoch.

    Attributes:
        epoch: index of the last entry of the metadata log that was applied.
        cluster_id: drawn when the cluster was founded; all zero before.
        members: by id, ascending.
        voters: who decides on entries, ascending.
        next_node: the id that the next member gets; only grows.
        removed: host ids of members that were removed, oldest first; they can't come back with the data they have.
        recent: the proposals settled last, oldest first: their id, and the encoded refusal or nothing. A proposal that
            is sent again after its leader was lost is carried out once.
        move: that is under way.
        wishes: nodes that are to come or go after it, in the order of their asking. One that is to join is a member
            without tokens until then.
        moved: index of the entry that ended the last move; 0: there was none.
        recoveries: how often a lost majority was given up (``ouro metadata recover``). Entries and votes from before
            mean nothing after.
        ring: placement over ``members``; one object for as long as they stay the same.
        next_ring: as ``move`` will leave it; None without one.
        suspects: members that voters take for dead: who does, ascending.
        is_healing_paused: they are left alone all the same.
        operations: moves that have ended, and that which is under way; oldest first.
    """

    epoch: int
    cluster_id: UUID
    cluster_name: str
    schema: Schema
    members: Mapping[NodeId, Member]
    voters: tuple[NodeId, ...]
    next_node: NodeId
    removed: tuple[UUID, ...]
    recent: Mapping[bytes, bytes]
    recoveries: int
    ring: Ring = field(compare=False, repr=False)
    move: Move | None = None
    wishes: tuple[Wish, ...] = ()
    moved: int = 0
    next_ring: Ring | None = field(default=None, compare=False, repr=False)
    suspects: Mapping[NodeId, tuple[NodeId, ...]] = field(default_factory=lambda: MappingProxyType({}))
    is_healing_paused: bool = False
    operations: tuple[Operation, ...] = ()

    def member_of_host(self, host_id: UUID) -> Member | None:
        """The member with this host id."""
        return next((member for member in self.members.values() if member.host_id == host_id), None)

    def placements(self, keyspace: Keyspace) -> tuple[Placement, Placement | None]:
        """Who holds what of a keyspace now, and after the move that is under way."""
        before = self.ring.placement(keyspace.replication)
        if self.move is None or self.next_ring is None:
            return before, None
        return before, self.next_ring.placement(self.move.replication_after(keyspace))

    def moved_ranges(self, keyspace: Keyspace) -> tuple[MovedRange, ...]:
        """What changes hands of a keyspace in the move that is under way."""
        if keyspace.replication.strategy == LOCAL:
            return ()
        before, after = self.placements(keyspace)
        return () if after is None else moved_ranges(before, after)

    @property
    def copying(self) -> tuple[NodeId, ...]:
        """The nodes that gain or merge ranges in the move that is under way, ascending."""
        copying = {
            node
            for keyspace in self.schema.keyspaces.values()
            for one in self.moved_ranges(keyspace)
            for node in (*one.gaining, *one.merging)
        }
        return tuple(sorted(copying))

    def is_taken_for_dead(self, node: NodeId) -> bool:
        """Whether most voters take a member for dead."""
        suspecting = sum(voter in self.suspects.get(node, ()) for voter in self.voters)
        return 2 * suspecting > len(self.voters)

    @property
    def has_user_tables(self) -> bool:
        """Whether there are rows that a change of the ring would have to move."""
        return any(
            keyspace.tables and not is_system_keyspace(keyspace.name)
            for keyspace in self.schema.keyspaces.values()
        )


def by_id(members: Mapping[NodeId, Member]) -> Mapping[NodeId, Member]:
    """An unchangeable copy, ascending."""
    return MappingProxyType({node: members[node] for node in sorted(members)})


def blank_view() -> ClusterView:
    """Before the first entry: no cluster, no members, the system's keyspaces."""
    members = by_id({})
    return ClusterView(
        epoch=0,
        cluster_id=NO_CLUSTER,
        cluster_name="",
        schema=initial_schema(),
        members=members,
        voters=(),
        next_node=NodeId(1),
        removed=(),
        recent=MappingProxyType({}),
        recoveries=0,
        ring=Ring(tuple(members.values())),
    )


def node_info(view: ClusterView, member: Member, *, generation: int, listen: tuple[str, int]) -> NodeInfo:
    """What ``system.local`` and ``system.peers`` show of a member.

    Args:
        generation: seconds since the epoch at which it started, as gossip tells.
        listen: what it is bound to; for others than this node, their peer address.
    """
    return NodeInfo(
        cluster_name=view.cluster_name,
        data_center=member.data_center,
        rack=member.rack,
        host_id=member.host_id,
        tokens=tuple(map(str, member.tokens)),
        native_address=member.native[0],
        native_port=member.native[1],
        broadcast_address=member.peer[0],
        broadcast_port=member.peer[1],
        listen_address=listen[0],
        listen_port=listen[1],
        generation=generation,
    )
