"""Stories of a few machines, told as text: ``goldens/*.txt``. The language is that of ``script``.

Below each ``> command`` is what the machines do; lines that begin with ``#`` are for the reader. ``OURO_ACCEPT=1 pytest
tests/cluster/raft`` writes what they do now into the files; read the difference before committing it: each story says
at its head what must come of it, and what would be broken otherwise.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.cluster.raft.script import Script

STORIES = sorted((Path(__file__).parent / "goldens").glob("*.txt"))


def retold(text: str) -> str:
    """The story with what the machines do now."""
    script = Script()
    lines = []
    with script.bounds:
        for line in text.splitlines():
            if not line or line.startswith("#"):
                lines.append(line)
            elif line.startswith("> "):
                lines += [line, *script.run(line[2:])]
    return "\n".join(lines) + "\n"


def test_stories_are_found() -> None:
    """Without stories the next test would pass for nothing."""
    assert STORIES


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_machines_do_as_told(path: Path) -> None:
    text = path.read_text()
    now = retold(text)
    if os.environ.get("OURO_ACCEPT"):
        path.write_text(now)
    assert now == text or os.environ.get("OURO_ACCEPT")
