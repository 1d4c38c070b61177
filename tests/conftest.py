"""Fixtures that tests of all packages share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from tests.nodes import NodeProcess

# A timing is never asserted: a busy machine must not fail a property.
settings.register_profile("ourodb", deadline=None)
settings.load_profile("ourodb")


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """A node that all tests share; each uses keyspaces of its own and leaves the node alive."""
    process = NodeProcess(tmp_path_factory.mktemp("node") / "data").start()
    yield process
    died = not process.alive()
    if not died:
        process.stop()
    assert not died, f"the shared node died:\n{process.output}"


@pytest.fixture(scope="session")
def ouro_node(node: NodeProcess) -> tuple[str, int]:
    """Host and port of the shared node."""
    return node.host, node.port


@pytest.fixture
def own_node(tmp_path: Path) -> Iterator[NodeProcess]:
    """A node of the test's own, not started yet."""
    process = NodeProcess(tmp_path / "data")
    yield process
    if process.alive():
        process.kill()
