"""How rows change hands: a *move* leads from the ring as it is to the ring as it will be.

Nodes that join, leave, replace others, or are removed, change who holds which positions, and so does another
replication of a keyspace. For each range where that differs there are the replicas *before* and the replicas *after*;
who is only among the latter *gains* the range, who is only among the former *loses* it. A move has two stages, between
which the whole ring steps at once:

=========  ==========================  ========  ===================================================
stage      writes go to                reads go  ends when
=========  ==========================  ========  ===================================================
COPYING    before and after            before    all that gain something have copied it
SWITCHED   before and after            after     everybody reads from those after
=========  ==========================  ========  ===================================================

In both stages a write, and each phase of a conditional statement, meets its consistency level separately among the
replicas before and among those after. So whatever was acknowledged is where the next stage looks for it.

**From whom to copy.** The n-th node of a data centre that gains a range takes the place of the n-th there that loses
it, and copies from that one: then it holds whatever that one held, and every quorum after, of all replicas or of a data
centre, has as many copies of each write as a quorum before had. Where nobody there loses the range, or that node is
down, it merges what a quorum's complement and one more of those before hold, of its data centre and of all: one of them
has each write that a quorum acknowledged. So does, when a keyspace gets fewer copies, each that stays (it *merges*): of
three copies a quorum may have missed the very one that is kept.

Source: DESIGN of transactional metadata in Cassandra (CEP-21), ``MovementMap``, ``UniformRangePlacement``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import lru_cache
from typing import Final

from ourodb.cluster.ring.model import Member
from ourodb.cluster.ring.placement import NOBODY, Placement, ReplicaSet, Ring
from ourodb.cluster.ring.tokens import FIRST_BOUND
from ourodb.ports import NodeId
from ourodb.schema.model import Keyspace, Replication

JOIN: Final = "join"
LEAVE: Final = "leave"
REMOVE: Final = "remove"
REPLACE: Final = "replace"
ALTER: Final = "alter"
HEAL: Final = "heal"
REBALANCE: Final = "rebalance"


class Stage(IntEnum):
    """How far a move is."""

    COPYING = 1
    SWITCHED = 2


@dataclass(frozen=True, slots=True)
class Wish:
    """A node that is to come or to go, or a keyspace to get another replication, as soon as no other move is under
    way.

    Attributes:
        node: NOBODY for a keyspace, and for REBALANCE.
        kind: JOIN, LEAVE, REMOVE, REPLACE, HEAL, REBALANCE or ALTER.
        token_count: for one that joins.
        replaces: whose tokens one gets that replaces another.
        keyspace, replication: which one, and what it gets; for ALTER.
    """

    node: NodeId
    kind: str
    token_count: int = 0
    replaces: NodeId = NOBODY
    keyspace: str = ""
    replication: Replication | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """A move that is under way.

    Attributes:
        id: index of the log's entry that began it.
        kind: JOIN, LEAVE, REMOVE, REPLACE, HEAL, REBALANCE or ALTER.
        tokens: of the nodes that come or go, or get others, as they will be.
        stage, since: the stage, and the index of the entry that began it.
        copied: nodes that have copied all that they gain or merge, ascending.
        keyspace, replication: which one gets another replication, and that one.
    """

    id: int
    kind: str
    tokens: Mapping[NodeId, tuple[int, ...]]
    stage: Stage
    since: int
    copied: tuple[NodeId, ...] = ()
    keyspace: str = ""
    replication: Replication | None = None

    def replication_after(self, keyspace: Keyspace) -> Replication:
        """How a keyspace is replicated when the move is over."""
        return (
            self.replication if self.replication and self.keyspace == keyspace.name else keyspace.replication
        )


def gone_for_good(move: Move) -> tuple[NodeId, ...]:
    """Those that a move is about because they are dead: what they alone held is lost."""
    if move.kind not in (REMOVE, REPLACE, HEAL):
        return ()
    return tuple(node for node, tokens in move.tokens.items() if not tokens)


def ring_after(members: Mapping[NodeId, Member], move: Move) -> Ring:
    """The ring as the move will leave it."""
    return Ring(
        tuple(
            replace(member, tokens=move.tokens.get(node, member.tokens)) for node, member in members.items()
        )
    )


@dataclass(frozen=True, slots=True)
class MovedRange:
    """The positions [start, end), whose replicas change; an end of None is the end of all positions."""

    start: bytes
    end: bytes | None
    before: ReplicaSet
    after: ReplicaSet

    @property
    def gaining(self) -> tuple[NodeId, ...]:
        return tuple(node for node in self.after.nodes if node not in self.before.nodes)

    @property
    def losing(self) -> tuple[NodeId, ...]:
        return tuple(node for node in self.before.nodes if node not in self.after.nodes)

    @property
    def merging(self) -> tuple[NodeId, ...]:
        """Who keeps the range and has to merge what others hold: a quorum before may have missed one after, of all
        replicas or of those of its data centre.
        """
        staying = [node for node in self.after.nodes if node in self.before.nodes]
        if _may_miss(self.before.nodes, self.after.nodes):
            return tuple(staying)
        before = self.before.by_dc
        return tuple(
            node
            for name, there in self.after.by_dc.items()
            if _may_miss(before.get(name, ()), there)
            for node in staying
            if node in there
        )

    def is_lost(self, gone: Collection[NodeId]) -> bool:
        """Whether all that held the range are gone for good, so that nobody can copy it."""
        return bool(self.before.nodes) and all(node in gone for node in self.before.nodes)

    def sources(
        self, node: NodeId, live: Collection[NodeId], gone: Collection[NodeId] = ()
    ) -> tuple[NodeId, ...] | None:
        """Whom a node copies the range from that gains or merges it: all of these; None when too few of them are live.

        Nobody at all when nobody holds the range yet.

        Args:
            gone: those that are given up. What only those of a data centre held that are gone, all of them, is lost.
        """
        before, near = self.before.nodes, self._near(node, self.before)
        if node not in before:
            displaced = self._displaced_by(node)
            if displaced in live:
                return (displaced,)
        there = [other for other in near if other in live and other != node]
        found = [
            *there,
            *(other for other in before if other in live and other != node and other not in near),
        ]
        # It may be one of them itself.
        own = node in before
        near_wanted = 0 if all(other in gone for other in near) else _complement(near) - own
        wanted = _complement(before) - own
        if len(found) < wanted or len(there) < near_wanted:
            return None
        return tuple(found[: max(wanted, near_wanted)])

    def _displaced_by(self, node: NodeId) -> NodeId:
        """Whose place in its data centre a node takes that gains the range; 0 when it has to merge what others hold."""
        before, after = self._near(node, self.before), self._near(node, self.after)
        losing = [other for other in before if other in self.losing]
        number = [other for other in after if other in self.gaining].index(node)
        shrinks = len(after) < len(before) or self.after.total < self.before.total
        return NOBODY if shrinks or number >= len(losing) else losing[number]

    def _near(self, node: NodeId, replicas: ReplicaSet) -> tuple[NodeId, ...]:
        """Those in the data centre in which this replica is, or will be."""
        name = next(name for name, there in self.after.by_dc.items() if node in there)
        return replicas.by_dc.get(name, ())


def _complement(replicas: Collection[NodeId]) -> int:
    """One more than a quorum of them may have missed: one of so many has each write that was acknowledged."""
    return len(replicas) - (len(replicas) // 2 + 1) + 1 if replicas else 0


def _may_miss(before: Collection[NodeId], after: Collection[NodeId]) -> bool:
    """Whether a quorum of those after may have nobody of a quorum of those before, when some lose the range."""
    return len(after) < len(before) and bool(after) and _complement(before) - 1 >= len(after) // 2 + 1


def overlaid(
    before: Placement, after: Placement
) -> Iterator[tuple[bytes, bytes | None, ReplicaSet, ReplicaSet]]:
    """(start, end, replicas before, replicas after) in position order, without gaps."""
    starts = sorted({FIRST_BOUND, *before.bounds, *after.bounds})
    for start, end in zip(starts, [*starts[1:], None], strict=True):
        yield start, end, before.replicas_of(start), after.replicas_of(start)


@lru_cache(maxsize=64)
def moved_ranges(before: Placement, after: Placement) -> tuple[MovedRange, ...]:
    """The ranges whose replicas are other nodes after, in position order; neighbours that move alike are one.

    Remembered for the placements that were asked about last: a move is looked at often, and stays the same.
    """
    found: list[MovedRange] = []
    for start, end, old, new in overlaid(before, after):
        if sorted(old.nodes) == sorted(new.nodes):
            continue
        last = found[-1] if found else None
        if last is not None and last.end == start and (last.before, last.after) == (old, new):
            found[-1] = replace(last, end=end)
        else:
            found.append(MovedRange(start, end, old, new))
    return tuple(found)
