"""Rings for tests: one that is shared and left whole, one that is hurt and healed again, and ones of a test's own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cassandra.cluster import Session
from tests.ring.namespaces import Network, need_namespaces
from tests.ring.ring import Ring, connect, new_keyspace

# What the driver says of nodes that are killed is no news.
logging.getLogger("cassandra").setLevel(logging.CRITICAL)


@pytest.fixture(scope="session")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ring]:
    """Three nodes that all tests share: each uses a keyspace of its own and leaves every node up."""
    with Ring(tmp_path_factory.mktemp("ring")) as ring:
        yield ring.start()
        for node in ring.nodes:
            assert node.alive(), f"a shared node died:\n{node.output}"


@pytest.fixture(scope="session")
def session(ring: Ring) -> Iterator[Session]:
    """A driver's session with the shared ring."""
    session = connect(ring.nodes)
    yield session
    session.cluster.shutdown()


@pytest.fixture
def keyspace(session: Session) -> str:
    """A keyspace with three copies in the shared ring."""
    return new_keyspace(session)


@pytest.fixture(scope="session")
def mortal_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ring]:
    """The nodes of ``frail_ring``."""
    with Ring(tmp_path_factory.mktemp("frail")) as ring:
        yield ring.start()


@pytest.fixture
def frail_ring(mortal_nodes: Ring) -> Iterator[Ring]:
    """Three nodes that tests may kill and stop, one test after the other; they are healed between them."""
    mortal_nodes.heal()
    yield mortal_nodes
    mortal_nodes.heal()


@pytest.fixture
def network() -> Iterator[Callable[[int], Network]]:
    """Makes networks whose links can be cut; the test is skipped where there are none."""
    need_namespaces()
    networks: list[Network] = []

    def make(count: int) -> Network:
        networks.append(Network(count))
        return networks[-1]

    yield make
    for network in networks:
        network.close()


@pytest.fixture
def make_ring(tmp_path: Path) -> Iterator[Callable[..., Ring]]:
    """Makes rings of the test's own; what the nodes printed is shown if the test fails."""
    rings: list[Ring] = []

    def make(count: int = 3, **options: Any) -> Ring:
        ring = Ring(tmp_path / f"ring{len(rings) + 1}", count, **options)
        rings.append(ring)
        return ring

    yield make
    for ring in rings:
        ring.close()
        print(ring.output())
