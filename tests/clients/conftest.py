"""Sessions of Apache's driver, for each version of the protocol and with and without compression."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cassandra.cluster import Cluster, Session
from tests.clients import WAYS, cluster_of, new_keyspace
from tests.nodes import NodeProcess


@pytest.fixture(scope="package", params=WAYS)
def way(request: pytest.FixtureRequest) -> tuple[int, str | None]:
    """A version of the protocol and a compression."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="package")
def cluster(node: NodeProcess, way: tuple[int, str | None]) -> Iterator[Cluster]:
    cluster = cluster_of(node, *way)
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="package")
def shared_session(cluster: Cluster) -> Session:
    return cluster.connect()


@pytest.fixture(scope="package")
def keyspace(shared_session: Session) -> str:
    """A keyspace that the tests of one way share; each has tables of its own."""
    return new_keyspace(shared_session)


@pytest.fixture(scope="package")
def session(shared_session: Session, keyspace: str) -> Session:
    """A session that is in the shared keyspace."""
    shared_session.set_keyspace(keyspace)
    return shared_session
