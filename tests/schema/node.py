"""A node for tests of what nodes say of themselves."""

from __future__ import annotations

from uuid import UUID

from ourodb.schema.node_info import NodeInfo

NODE = NodeInfo(
    cluster_name="Test Cluster",
    data_center="datacenter1",
    rack="rack1",
    host_id=UUID("1a8f6a69-1800-4fc1-a37a-b2410636bf3b"),
    tokens=("-4611686018427387904", "0", "4611686018427387904"),
    native_address="127.0.0.2",
    broadcast_address="127.0.0.3",
    listen_address="127.0.0.4",
    generation=1_700_000_000,
)
