"""A cluster of one node that has everything, its snapshot, and a ring to restore into; shared by the tests here."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.restore.commands import snapshots_of
from tests.restore.everything import View, definition, fill, view

from ourodb.testing import cluster
from ourodb.testing.ring import Ring

# What the driver says of nodes that go is no news.
logging.getLogger("cassandra").setLevel(logging.CRITICAL)

names = itertools.count(1)


@dataclass(frozen=True)
class Source:
    """Where the snapshot was made.

    Attributes:
        snapshot: its folder.
        view, definition: of keyspace ``shop``, when it was made.
    """

    ring: Ring
    snapshot: str
    view: View
    definition: str


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Source]:
    """Tests leave keyspace ``shop`` of its node as it is."""
    with cluster(nodes=1) as ring:
        session = ring.session
        fill(session, "shop", "{'class': 'SimpleStrategy', 'replication_factor': 1}")
        before = view(session, "shop")
        (snapshot,) = snapshots_of(ring, "s", tmp_path_factory.mktemp("snapshots"))
        yield Source(ring, snapshot, before, definition(session, "shop"))


@pytest.fixture(scope="session")
def target() -> Iterator[Ring]:
    """Three nodes; tests leave all of them up, and use keyspaces of their own."""
    with cluster(nodes=3) as ring:
        yield ring


@pytest.fixture
def name() -> str:
    """Of a keyspace that is nobody else's."""
    return f"restored_{next(names)}"
