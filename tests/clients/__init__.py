"""Real clients against a real node: Apache's and Scylla's drivers for Python, cqlengine, and cqlsh.

What these tests see is what an application sees: if one fails, a program written for Apache Cassandra meets
something else here.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from cassandra.cluster import Cluster, Session
from tests.nodes import NodeProcess

ROOT = Path(__file__).resolve().parents[2]

WAYS = [
    pytest.param((version, compression), id=f"v{version}-{compression or 'plain'}")
    for version in (4, 5)
    for compression in (None, "lz4")
]
REPLICATION = "{'class': 'SimpleStrategy', 'replication_factor': 1}"

names = itertools.count()


def new_keyspace(session: Session, prefix: str = "clients") -> str:
    """A keyspace that no other test uses."""
    name = f"{prefix}_{next(names)}"
    session.execute(f"CREATE KEYSPACE {name} WITH replication = {REPLICATION}")
    return name


def cluster_of(node: NodeProcess, version: int, compression: str | None, **options: Any) -> Cluster:
    """Apache's driver, set to speak just this version and compression."""
    return Cluster(
        [node.host],
        port=node.port,
        protocol_version=version,
        compression=compression or False,
        allow_beta_protocol_version=False,
        schema_event_refresh_window=0,
        topology_event_refresh_window=0,
        status_event_refresh_window=0,
        **options,
    )
