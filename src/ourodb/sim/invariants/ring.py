"""The promises of placement: every position has an owner, and its copies are as far apart as can be.

Checked when a node takes a view with another ring, or a keyspace that replicates otherwise. What is demanded is counted
from the members and the replication alone, not by the rules by which ``ring.strategies`` places: of RF copies none is
missing while a node is free, no two are on one host while another host is free, nor (NetworkTopologyStrategy) in one
rack of a data centre while another rack is free. The range that ends at a token belongs to that token's node first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from ourodb.cluster.metadata.view import ClusterView
from ourodb.cluster.ring.model import Member
from ourodb.cluster.ring.placement import Placement, Ring
from ourodb.ports import NodeId
from ourodb.schema.keyspaces import LOCAL, SIMPLE
from ourodb.schema.model import Replication
from ourodb.sim.machine import InvariantBroken


class RingWatch:
    """One life of one node. See the module."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._ring: Ring | None = None
        self._replications: dict[str, Replication] = {}

    def look(self, view: ClusterView) -> None:
        """The node has taken this view.

        Raises:
            InvariantBroken: something doesn't hold.
        """
        if view.ring is not self._ring:
            self._ring = view.ring
            self._replications.clear()
            self._tell(ring_problems(view))
        for name, keyspace in view.schema.keyspaces.items():
            replication = keyspace.replication
            if self._replications.get(name) is not replication:
                self._replications[name] = replication
                self._tell(placement_problems(view.ring, replication))

    def _tell(self, problems: list[str]) -> None:
        if problems:
            raise InvariantBroken(f"{self._name}: {'; '.join(problems[:3])}")


def ring_problems(view: ClusterView) -> list[str]:
    """What is wrong with the tokens."""
    ring = view.ring
    expected = sorted((token, member.id) for member in view.members.values() for token in member.tokens)
    if list(zip(ring.tokens, ring.owners, strict=True)) != expected:
        return ["the ring's tokens aren't those of the members"]
    return [f"two nodes have the token {one}" for one, other in pairwise(ring.tokens) if one == other]


def placement_problems(ring: Ring, replication: Replication) -> list[str]:
    """What is wrong with where copies are."""
    if replication.strategy == LOCAL:
        return []
    placement = ring.placement(replication)
    problems = _bounds_problems(placement)
    zones = _zones(ring, replication)
    zone_of = {member.id: number for number, (members, _, _) in enumerate(zones) for member in members}
    for index, (token, owner) in enumerate(zip(ring.tokens, ring.owners, strict=True)):
        nodes = placement.sets[index].nodes
        where = f"the range that ends at token {token} ({replication.strategy} {dict(replication.options)})"
        if owner in zone_of and nodes[:1] != (owner,):
            problems.append(f"{where} isn't first with its owner, node {owner}: {nodes}")
        if len(set(nodes)) < len(nodes) or any(node not in zone_of for node in nodes):
            problems.append(f"{where} has nodes twice, or nodes that mustn't hold it: {nodes}")
            continue
        for number, (members, copies, with_racks) in enumerate(zones):
            chosen = [ring.members[node] for node in nodes if zone_of[node] == number]
            problems += [
                f"{where} {problem}" for problem in _domain_problems(members, chosen, copies, with_racks)
            ]
    return problems


def _bounds_problems(placement: Placement) -> list[str]:
    problems = [
        f"positions from {one.hex()} on have two owners"
        for one, other in pairwise(placement.bounds)
        if one >= other
    ]
    if len(placement.sets) != len(placement.bounds) + 1:
        problems.append(f"{len(placement.bounds) + 1} ranges of positions have {len(placement.sets)} owners")
    return problems


def _zones(ring: Ring, replication: Replication) -> list[tuple[list[Member], int, bool]]:
    """(members, copies, whether racks count) for each part of the ring in which copies are counted by themselves."""
    able = [member for member in ring.members.values() if member.tokens]
    options = replication.options
    if replication.strategy == SIMPLE:
        return [(able, _copies(options, "replication_factor"), False)]
    zones = []
    for data_center in options:
        local = [member for member in able if member.data_center == data_center]
        if local and _copies(options, data_center):
            zones.append((local, _copies(options, data_center), True))
    return zones


def _copies(options: Mapping[str, str], name: str) -> int:
    return int(options.get(name, "1").partition("/")[0])


def _domain_problems(
    members: Sequence[Member], chosen: Sequence[Member], copies: int, with_racks: bool
) -> list[str]:
    problems = []
    nodes: list[NodeId] = [member.id for member in chosen]
    wanted = min(copies, len(members))
    if len(chosen) != wanted:
        problems.append(f"has {len(chosen)} copies where there should be {wanted}: {nodes}")
    hosts = len({member.host for member in members})
    if len({member.host for member in chosen}) != min(wanted, hosts):
        problems.append(f"has two copies on one host though another is free: {nodes}")
    racks = {member.rack for member in members}
    spans = len({(member.host, member.rack) for member in members}) > hosts
    if with_racks and not spans and len({member.rack for member in chosen}) != min(wanted, len(racks)):
        problems.append(f"has two copies in one rack though another is free: {nodes}")
    return problems
