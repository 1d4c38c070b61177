"""What a node says of itself: the row that it is in ``system.local`` or ``system.peers_v2``."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

RELEASE_VERSION = "5.0.0"
"""The Apache Cassandra release whose behaviour clients may expect."""

CQL_VERSION = "3.4.7"
PARTITIONER = "org.apache.cassandra.dht.Murmur3Partitioner"


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """One node.

    Attributes:
        native_address, native_port: where clients connect (``rpc_address``).
        broadcast_address, broadcast_port: where the other nodes connect.
        listen_address, listen_port: what it is bound to.
        tokens: decimal strings, as clients see them.
        generation: seconds since the epoch at which the node started.
        addresses: all in text form, IPv4 or IPv6.
    """

    cluster_name: str
    data_center: str
    rack: str
    host_id: UUID
    tokens: tuple[str, ...]
    native_address: str = "127.0.0.1"
    native_port: int = 9042
    broadcast_address: str = "127.0.0.1"
    broadcast_port: int = 7000
    listen_address: str = "127.0.0.1"
    listen_port: int = 7000
    release_version: str = RELEASE_VERSION
    cql_version: str = CQL_VERSION
    native_protocol_version: str = "5"
    partitioner: str = PARTITIONER
    generation: int = 0
