"""Nodes that gossip, message by message: ``goldens/*.txt``.

A block is commands (the methods of ``script.Ring``), a line ``----``, and what they did: messages as they
were delivered, and who was found UP or DOWN. A file is one story. ``node@generation.beat/version`` is what is
known of a node. ``ACCEPT=1 pytest tests/cluster/gossip`` writes what happens now into the files; read the
difference before committing it.

If this fails, nodes say something else to each other than they did: a cluster of mixed versions may not
understand itself, or a node goes DOWN or UP at another time.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.cluster.gossip.script import run

SCRIPTS = sorted((Path(__file__).parent / "goldens").glob("*.txt"))


def test_scripts_are_found() -> None:
    """Without scripts the next test would pass for nothing."""
    assert SCRIPTS


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_stories(path: Path) -> None:
    script = path.read_text()
    now = run(script)
    if os.environ.get("ACCEPT"):
        path.write_text(now)
    assert now == script or os.environ.get("ACCEPT")
