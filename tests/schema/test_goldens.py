"""Definitions and DESCRIBE answered as Apache Cassandra 5.0.9 answered them.

The scripts are in ``goldens``; each ``.out`` holds the answers of a real node. If one differs, a client, a migration
tool or an ORM that knows Cassandra reads something else from us: an error class, a text, or a CREATE statement.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.schema.script import SIMPLE, Script

HERE = Path(__file__).parent
RECORDED = HERE / "goldens"
SHARED = HERE.parent / "goldens"

DIFFERS = {
    # COMPACT STORAGE is refused altogether.
    "CREATE TABLE t (k int PRIMARY KEY) WITH COMPACT STORAGE",
}
# Where the grammar stops, and how that is told, is held by the parser's own tests.
SYNTAX = "error 2000 SyntaxException: line "
NOT_HERE = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|BEGIN)\b", re.IGNORECASE)


def answers(path: Path) -> list[tuple[str, str]]:
    """(statement, answer) pairs of a recorded script."""
    pairs = []
    for block in re.split(r"\n\n(?=> )", path.read_text().strip()):
        lines = block.splitlines()
        statement = "\n".join(
            line[2:] for line in lines if line.startswith("> ") and not line.startswith("> --")
        )
        answer = "\n".join(line for line in lines if not line.startswith("> "))
        pairs.append((statement, answer))
    return pairs


@pytest.mark.parametrize(
    "path",
    [
        *sorted(RECORDED.glob("*.out")),
        *(SHARED / f"{name}.out" for name in ("ddl_alter", "ddl_keyspace", "ddl_table", "ddl_types")),
    ],
    ids=lambda path: path.stem,
)
def test_definitions_are_answered_as_by_cassandra(path: Path) -> None:
    keyspace = f"g_{path.stem}"
    script = Script()
    script.execute(f"CREATE KEYSPACE {keyspace} WITH replication = {SIMPLE}")
    script.execute(f"USE {keyspace}")
    wrong = []
    answered = 0
    for statement, answer in answers(path):
        if NOT_HERE.match(statement) or statement in DIFFERS:
            continue
        if statement.startswith("USE") and answer.startswith("error"):
            continue
        got = script.run(statement)
        answered += 1
        if got.startswith(SYNTAX) and answer.startswith(SYNTAX):
            continue
        if got != answer:
            wrong.append(f"{statement}\n  Cassandra: {answer}\n  here:      {got}")
    assert not wrong, "\n\n".join(wrong)
    assert answered > 20, "the script wasn't read"
