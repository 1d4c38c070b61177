"""CQL means on three nodes, with three copies of each row, what it means on one: what Apache Cassandra 5 recorded.

If this fails, a statement that is right on one node is wrong when it is coordinated by any of three, at QUORUM or ALL:
its rows, its pages, its errors or its warnings.

Left out are the scripts about definitions, which show their keyspace's replication factor of one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cassandra import ConsistencyLevel
from tests.goldens import script

from ourodb.testing import cluster
from ourodb.testing.ring import Ring

GOLDENS = Path(script.__file__).resolve().parent
DEFINITIONS = ("ddl_", "describe", "system_schema", "errors_syntax")
SCRIPTS = sorted(path for path in GOLDENS.glob("*.cql") if not path.stem.startswith(DEFINITIONS))
SLOW = ("ttl", "types_clustering")
"""Scripts that are run at one level only."""
CASES = [
    pytest.param(path, level, id=f"{path.stem}-{ConsistencyLevel.value_to_name[level]}")
    for path in SCRIPTS
    for level in (ConsistencyLevel.QUORUM, ConsistencyLevel.ALL)
    if level == ConsistencyLevel.QUORUM or path.stem not in SLOW
]


@pytest.fixture(scope="module")
def ring() -> Iterator[Ring]:
    with cluster(nodes=3) as found:
        yield found


@pytest.mark.parametrize(("path", "level"), CASES)
def test_answers_as_cassandra_does(
    path: Path, level: int, ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    three = "{'class': 'SimpleStrategy', 'replication_factor': 3}"
    monkeypatch.setattr(script, "KEYSPACE_OPTIONS", three)
    host, port = ring.nodes[0].address, ring.nodes[0].port
    runner = script.Runner(host, port, script.keyspace_of(path))
    runner._cluster.profile_manager.default.consistency_level = level
    try:
        assert len(runner._cluster.metadata.all_hosts()) == 3, "each statement goes to another node"
        answers = [(statement, runner.answer(statement)) for statement in script.parse(path.read_text())]
    finally:
        runner.close()
    wrong = [
        f"> {statement.text}\n  Cassandra: {want}\n  OuroDB:    {got}"
        for want, (statement, got) in zip(script.recorded(path.with_suffix(".out")), answers, strict=True)
        if want != got and "differs" not in statement.directives
    ]
    if wrong:
        pytest.fail(f"{len(wrong)} of {len(answers)} answers differ\n\n" + "\n\n".join(wrong), pytrace=False)
