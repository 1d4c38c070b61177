"""Which nodes hold the copies of each token range: the replication strategies.

A strategy divides the members into *zones*, each with a number of copies to place: SimpleStrategy makes one zone of
the whole ring, NetworkTopologyStrategy one of each data centre that its options name. LocalStrategy has none: each
node keeps its own data to itself.

Within a zone, stand at the end of a token range and look along the ring. The *nearest* node of a rack is the one
whose token comes first. The copies go to

1. the nearest node of each rack, the nearest racks first (NetworkTopologyStrategy only);
2. when copies are left, the nearest node of each host that has none;
3. when copies are left, the nearest nodes that have none.

So failures cost as few copies as can be: no two in one rack while another rack is free, and within that none on one
host while another host is free. A zone with fewer nodes than copies has a copy on each node. The replicas of a range
are then listed in the order in which they come along the ring, all zones together; the first is the primary.

Where each member has a host to itself, rules 1 and 3 give what Cassandra's walk along the ring gives, node for node
and in the same order, and so what drivers compute; they know of no hosts. Where members share a host, rule 2 may
choose others than drivers expect, which costs them a hop. Should a host appear in several racks, the racks say
little about what fails together: then rule 2 comes before rule 1.

All ranges are placed in one pass against the ring's direction. Each rule keeps its domains in the order in which
they were last met, which is a dict whose entries move to its end, so the nearest ones are read off it from behind,
and a range costs no more than the number of its copies, however unequal the racks.

Source: Apache Cassandra 5, ``SimpleStrategy`` and ``NetworkTopologyStrategy.calculateNaturalReplicas``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

from ourodb.cluster.ring.model import Member
from ourodb.ports import NodeId
from ourodb.schema.keyspaces import LOCAL, NETWORK_TOPOLOGY, SIMPLE
from ourodb.schema.model import Replication


def copies(text: str) -> int:
    """The number of copies that an option asks for; "3/1" is three, of which one may be transient.

    Raises:
        ValueError: it isn't a number.
    """
    return int(text.partition("/")[0])


class Zone:
    """Members among which a number of copies is placed.

    Feed it the tokens of its members against the ring's direction; ``nearest`` then says who holds the copies of the
    range that ends at the last one.

    Attributes:
        members: their ids.

    Args:
        members: each has a token at least.
        copies: how many to place; more than there are members means all of them.
        domains: what each rule goes by, the first rule first: for each member its rack, say. A last rule that takes
            node by node is always there.
    """

    __slots__ = ("_copies", "_domains", "_last_met", "members")

    def __init__(
        self, members: Sequence[Member], copies: int, domains: Sequence[Mapping[NodeId, str]] = ()
    ) -> None:
        self.members = tuple(member.id for member in members)
        self._copies = copies
        self._domains: list[Mapping[NodeId, str | NodeId]] = []
        for domain_of in domains:
            # With one domain in all, or one for each member, a rule says nothing that the last one doesn't.
            if 1 < len({domain_of[member.id] for member in members}) < len(members):
                self._domains.append(domain_of)
        self._domains.append({member.id: member.id for member in members})
        self._last_met: list[dict[str | NodeId, NodeId]] = [{} for _ in self._domains]

    def meet(self, node: NodeId) -> None:
        """The next token against the ring's direction is this node's."""
        for domain_of, last_met in zip(self._domains, self._last_met, strict=True):
            domain = domain_of[node]
            last_met.pop(domain, None)
            last_met[domain] = node

    def nearest(self) -> tuple[list[NodeId], bool]:
        """The nodes for the copies, and whether they are in the order in which they come along the ring."""
        chosen = list(islice(reversed(self._last_met[0].values()), self._copies))
        ordered = True
        for domain_of, last_met in zip(self._domains[1:], self._last_met[1:], strict=True):
            left = self._copies - len(chosen)
            if left <= 0:
                break
            taken = {domain_of[node] for node in chosen}
            free = (node for domain, node in reversed(last_met.items()) if domain not in taken)
            chosen += islice(free, left)
            ordered = False
        return chosen, ordered


def zones_of(replication: Replication, members: Sequence[Member]) -> list[Zone]:
    """The zones of a strategy; data centres without copies or without members are in none.

    Args:
        members: those that have tokens.
    Raises:
        ValueError: no such strategy, or an option that isn't a number.
    """
    if replication.strategy == LOCAL:
        return []
    host_of = {member.id: member.host for member in members}
    if replication.strategy == SIMPLE:
        factor = copies(replication.options.get("replication_factor", "1"))
        return [Zone(members, factor, (host_of,))] if factor > 0 and members else []
    if replication.strategy != NETWORK_TOPOLOGY:
        raise ValueError(f"no replication strategy {replication.strategy!r}")
    zones = []
    for data_center, text in replication.options.items():
        factor = copies(text)
        local = [member for member in members if member.data_center == data_center]
        if factor > 0 and local:
            rack_of = {member.id: member.rack for member in local}
            spans_racks = len({(member.host, member.rack) for member in local}) > len(
                {member.host for member in local}
            )
            zones.append(Zone(local, factor, (host_of, rack_of) if spans_racks else (rack_of, host_of)))
    return zones


def place(owners: Sequence[NodeId], zones: Sequence[Zone]) -> list[tuple[NodeId, ...]]:
    """The nodes with a copy of each token range, the primary first.

    Args:
        owners: whose token ends each range, in ring order.
        zones: fresh ones; no node is in two.
    Returns:
        As many as there are owners; the first is for the range that wraps around.
    """
    zone_of = {node: zone for zone in zones for node in zone.members}
    next_at: dict[NodeId, int] = {}
    for index in range(len(owners) - 1, -1, -1):
        node = owners[index]
        if node in zone_of:
            zone_of[node].meet(node)
            next_at[node] = index + len(owners)
    # Every zone now knows how its members come along the ring from the first token on, seen from the end of the circle.
    placed: list[tuple[NodeId, ...]] = [()] * len(owners)
    chosen = [zone.nearest() for zone in zones]
    index_of = {zone: index for index, zone in enumerate(zones)}
    replicas = _in_ring_order(chosen, next_at)
    for index in range(len(owners) - 1, -1, -1):
        node = owners[index]
        zone = zone_of.get(node)
        if zone is not None:
            zone.meet(node)
            next_at[node] = index
            chosen[index_of[zone]] = zone.nearest()
            replicas = _in_ring_order(chosen, next_at)
        placed[index] = replicas
    return placed


def _in_ring_order(
    chosen: Sequence[tuple[list[NodeId], bool]], next_at: Mapping[NodeId, int]
) -> tuple[NodeId, ...]:
    if len(chosen) == 1:
        nodes, ordered = chosen[0]
        if ordered:
            return tuple(nodes)
    return tuple(sorted([node for nodes, _ in chosen for node in nodes], key=next_at.__getitem__))
