"""The pytest plugin: a ring for all tests of a run, and a fresh keyspace for each.

    def test_orders(ouro, ouro_keyspace):
        session = ouro.connect(ouro_keyspace)

It is loaded by every pytest of an environment in which OuroDB is installed, so it does nothing, and imports nothing,
until a test asks for one of its fixtures.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ourodb.testing.ring import Ring

NODES = 3
NAME_LENGTH_MAX = 30

_numbers = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--ouro-nodes``, and ``ouro_nodes`` in pytest's configuration."""
    parser.getgroup("ouro", "OuroDB").addoption(
        "--ouro-nodes",
        type=int,
        metavar="N",
        help=f"Nodes of the ring in fixture `ouro`; {NODES} by default.",
    )
    parser.addini("ouro_nodes", "Nodes of the ring in fixture `ouro`.", default=str(NODES))


@pytest.fixture(scope="session")
def ouro(pytestconfig: pytest.Config) -> Iterator[Ring]:
    """A ring of real nodes that all tests of the run share."""
    from ourodb.testing import cluster

    count = pytestconfig.getoption("--ouro-nodes") or int(pytestconfig.getini("ouro_nodes"))
    with cluster(nodes=count) as ring:
        yield ring


@pytest.fixture
def ouro_keyspace(ouro: Ring, request: pytest.FixtureRequest) -> Iterator[str]:
    """Name of a keyspace of the test's own, with up to three copies of each row.

    Afterwards nodes that the test killed, paused or cut off are brought back, and the keyspace is dropped.
    """
    words = re.sub(r"\W+", "_", request.node.name, flags=re.ASCII).strip("_").lower()
    name = f"{words[:NAME_LENGTH_MAX]}_{next(_numbers)}"
    session = ouro.session
    copies = min(3, len(ouro.nodes))
    session.execute(
        f"CREATE KEYSPACE {name} WITH replication ="
        f" {{'class': 'SimpleStrategy', 'replication_factor': {copies}}}"
    )
    yield name
    ouro.make_whole()
    session.execute(f"DROP KEYSPACE IF EXISTS {name}")
