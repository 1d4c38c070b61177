"""CQL means here what it means in Apache Cassandra 5.

Each script's statements are run through a stock driver and every answer (rows, types, errors, warnings, prepared
variables) is compared with the one recorded from Cassandra. Where we differ on purpose the script says why.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.goldens import script

HERE = Path(__file__).resolve().parent
SCRIPTS = sorted(HERE.glob("*.cql"))


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> tuple[str, int]:
    """Host and port of a running node."""
    try:
        host, port = request.getfixturevalue("ouro_node")
    except pytest.FixtureLookupError:
        pytest.skip("there is no fixture `ouro_node` that starts a node")
    return host, port


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_answers_as_cassandra_does(path: Path, server: tuple[str, int]) -> None:
    expected = script.recorded(path.with_suffix(".out"))
    answers = script.run(path, *server)
    assert len(expected) == len(answers), "the recording is not of this script; record it anew"
    wrong = [
        f"> {statement.text}\n  Cassandra: {want}\n  OuroDB:    {got}"
        for want, (statement, got) in zip(expected, answers, strict=True)
        if want != got and "differs" not in statement.directives
    ]
    if wrong:
        pytest.fail(f"{len(wrong)} of {len(answers)} answers differ\n\n" + "\n\n".join(wrong), pytrace=False)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script_was_recorded_whole(path: Path) -> None:
    """A recording with a driver's failure in it would make that failure the expectation."""
    statements = script.parse(path.read_text())
    answers = script.recorded(path.with_suffix(".out"))
    assert len(answers) == len(statements)
    for statement, answer in zip(statements, answers, strict=True):
        assert "driver error" not in answer, statement.text
        assert "no answer" not in answer, statement.text
        internal = "error 0000" in answer or "error 1100" in answer
        assert not internal or "differs" in statement.directives, statement.text
