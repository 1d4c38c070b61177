"""Statements and the syntax trees or errors that they give, as text: ``goldens/*.txt``.

A case is a statement, a line ``----``, and what is expected of it: the tree, or ``!`` and the error's message. An empty
line ends it. Lines that begin with ``#`` are for the reader. ``ACCEPT=1 pytest tests/cql/syntax`` writes what the
parser gives now into the files; read the difference before committing it.

If this fails, statements mean something else to OuroDB than they did, or clients get another error.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.cql.syntax.show import show_statement

from ourodb.cql.syntax.parser import parse
from ourodb.errors import CqlSyntaxError

SCRIPTS = sorted((Path(__file__).parent / "goldens").glob("*.txt"))


def answer(text: str) -> str:
    try:
        return show_statement(parse(text))
    except CqlSyntaxError as error:
        return f"! {error.message}"


def run(script: str) -> str:
    """The script with each case's answer as it is now."""
    blocks = []
    for block in script.strip("\n").split("\n\n"):
        lines = block.splitlines()
        first = next((at for at, line in enumerate(lines) if not line.startswith("#")), len(lines))
        comments, case = lines[:first], "\n".join(lines[first:])
        statement = case.split("\n----", 1)[0]
        blocks.append("\n".join([*comments, statement, "----", answer(statement)] if case else comments))
    return "\n\n".join(blocks) + "\n"


def test_scripts_are_found() -> None:
    """Without scripts the next test would pass for nothing."""
    assert SCRIPTS


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_trees_and_errors(path: Path) -> None:
    script = path.read_text()
    now = run(script)
    if os.environ.get("ACCEPT"):
        path.write_text(now)
    assert now == script or os.environ.get("ACCEPT")
