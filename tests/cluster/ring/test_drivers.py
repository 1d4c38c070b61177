"""Our replicas against those that a driver computes, and against Cassandra's own walk along the ring.

If this fails, drivers send requests to nodes that don't hold the rows: each costs a hop more, or goes to a node of
another rack or data centre.
"""

from __future__ import annotations

import pytest
from cassandra.connection import DefaultEndPoint
from cassandra.metadata import KeyspaceMetadata, Metadata
from cassandra.policies import SimpleConvictionPolicy
from cassandra.pool import Host
from hypothesis import given
from hypothesis import strategies as st
from tests.cluster.ring.rings import member, network, replications, rings

from ourodb.cluster.ring.model import Member
from ourodb.cluster.ring.placement import Ring
from ourodb.schema.keyspaces import SIMPLE
from ourodb.schema.model import Replication
from ourodb.storage.keys import single_position

MURMUR3 = "org.apache.cassandra.dht.Murmur3Partitioner"


class Driver:
    """The driver's view of a ring, made by its own classes from what it would read in the system tables."""

    def __init__(self, members: list[Member], replication: Replication) -> None:
        self._metadata = Metadata()
        self._metadata.keyspaces["ks"] = KeyspaceMetadata(
            "ks", True, replication.strategy, dict(replication.options)
        )
        self._node_of = {}
        all_tokens = {}
        for each in members:
            host = Host(DefaultEndPoint(*each.native), SimpleConvictionPolicy)
            host.set_location_info(each.data_center, each.rack)
            self._node_of[host] = each.id
            all_tokens[host] = [str(token) for token in each.tokens]
        self._metadata.rebuild_token_map(MURMUR3, all_tokens)

    def replicas(self, key: bytes) -> list[int]:
        return [self._node_of[host] for host in self._metadata.get_replicas("ks", key)]


def along_the_ring(members: list[Member], replication: Replication, token: int) -> list[int]:
    """What Cassandra 5 does for one token, step by step; it knows of no hosts.

    Source: ``SimpleStrategy`` and ``NetworkTopologyStrategy.calculateNaturalReplicas``.
    """
    walk = sorted(
        ((each, own) for each in members for own in each.tokens), key=lambda pair: (pair[1] - token) % 2**64
    )
    found: list[int] = []
    if replication.strategy == SIMPLE:
        for each, _ in walk:
            if each.id not in found and len(found) < int(replication.options["replication_factor"]):
                found.append(each.id)
        return found
    left, repeats = {}, {}
    for name, text in replication.options.items():
        local = [each for each in members if each.data_center == name]
        left[name] = min(int(text), len(local))
        repeats[name] = int(text) - len({each.rack for each in local})
    racks = set()
    for each, _ in walk:
        name = each.data_center
        if left.get(name, 0) == 0 or each.id in found:
            continue
        if (name, each.rack) in racks:
            if repeats[name] <= 0:
                continue
            repeats[name] -= 1
        racks.add((name, each.rack))
        found.append(each.id)
        left[name] -= 1
    return found


@given(rings(own_hosts=True), replications)
def test_as_cassandra_node_for_node(members: list[Member], replication: Replication) -> None:
    for token_range in Ring(members).placement(replication).token_ranges():
        expected = along_the_ring(members, replication, token_range.end)
        assert list(token_range.replicas.nodes) == expected


@given(
    rings(own_hosts=True), replications, st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=20)
)
def test_as_the_driver_for_every_key(
    members: list[Member], replication: Replication, some_keys: list[bytes]
) -> None:
    """In the same order within a data centre, with two exceptions that are the driver's.

    With more copies than racks, of which there are several, it puts the first node of each rack first, whereas
    Cassandra keeps to the order of the ring. And then it may count a node with neighbouring tokens twice, and so often
    finds one replica less than there are.
    """
    driver = Driver(members, replication)
    placement = Ring(members).placement(replication)
    by_id = {each.id: each for each in members}
    for key in some_keys:
        ours = placement.replicas_of(single_position([key]))
        theirs = driver.replicas(key)
        if len(set(theirs)) < len(theirs):
            assert set(theirs) <= set(ours.nodes)
            continue
        assert set(theirs) == set(ours.nodes)
        if replication.strategy == SIMPLE:
            assert theirs == list(ours.nodes)
            continue
        for name, nodes in ours.by_dc.items():
            of_theirs = [node for node in theirs if by_id[node].data_center == name]
            racks = {each.rack for each in members if each.data_center == name}
            if len(racks) == 1 or len(racks) >= len(nodes):
                assert of_theirs == list(nodes)
            assert of_theirs[0] == nodes[0]


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_as_the_driver_on_a_ring_as_ours_are(copies: int) -> None:
    """Three racks of two, each node with 16 tokens."""
    members = [
        member(
            number + 1,
            [(token * 6 + number) * (2**64 // 96) - 2**63 + 7 for token in range(16)],
            rack=f"r{number % 3}",
        )
        for number in range(6)
    ]
    driver = Driver(members, network(dc1=copies))
    placement = Ring(members).placement(network(dc1=copies))
    for number in range(500):
        key = b"key %d" % number
        assert driver.replicas(key) == list(placement.replicas_of(single_position([key])).nodes)
