"""Clients of a ring are warned of partitions full of tombstones, and refused past a bound, at every level.

If this fails, a queue kept in one partition slows down a whole ring without anybody knowing which it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from cassandra import ConsistencyLevel, ReadFailure
from cassandra.cluster import Session
from cassandra.query import SimpleStatement

from ourodb.testing import cluster

LEVELS = [ConsistencyLevel.ONE, ConsistencyLevel.QUORUM, ConsistencyLevel.ALL]
READS = [
    "SELECT v FROM ks.t WHERE p = {p}",
    "SELECT v FROM ks.t WHERE p = {p} ORDER BY c DESC",
    "SELECT count(*) FROM ks.t WHERE p = {p} AND c > 3",
    "SELECT v FROM ks.t WHERE p IN ({p}, 77)",
    "SELECT m FROM ks.maps WHERE p = {p}",
    "SELECT p, m FROM ks.maps WHERE token(p) = token({p})",
]
FEW, MANY, TOO_MANY = 1, 2, 3
"""Partitions with so many tombstones."""


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    options = ["--tombstone-warn=20", "--tombstone-fail=100"]
    with cluster(nodes=3, options=options) as ring:
        made = ring.session
        made.execute(
            "CREATE KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}"
        )
        made.execute("CREATE TABLE ks.t (p int, c int, v int, PRIMARY KEY (p, c))")
        made.execute("CREATE TABLE ks.maps (p int PRIMARY KEY, m map<int, int>)")
        for p, count in ((FEW, 15), (MANY, 60), (TOO_MANY, 120)):
            for c in range(count):
                run(made, f"DELETE FROM ks.t WHERE p = {p} AND c = {c}", ConsistencyLevel.QUORUM)
            run(made, f"INSERT INTO ks.t (p, c, v) VALUES ({p}, 1000, 1)", ConsistencyLevel.QUORUM)
            keys = ", ".join(map(str, range(count)))
            run(made, f"DELETE m[0] FROM ks.maps WHERE p = {p}", ConsistencyLevel.QUORUM)
            run(made, f"UPDATE ks.maps SET m = m - {{{keys}}} WHERE p = {p}", ConsistencyLevel.QUORUM)
            run(made, f"UPDATE ks.maps SET m[-1] = 1 WHERE p = {p}", ConsistencyLevel.QUORUM)
        yield made


def run(session: Session, text: str, level: int) -> list[str]:
    """The warnings that came with it."""
    future: Any = session.execute_async(SimpleStatement(text, consistency_level=level))
    future.result()
    return list(future.warnings or ())


@pytest.mark.parametrize("level", LEVELS, ids=ConsistencyLevel.value_to_name.get)
@pytest.mark.parametrize("text", READS)
def test_warned_and_refused(session: Session, text: str, level: int) -> None:
    assert run(session, text.format(p=FEW), level) == []
    (warning,) = run(session, text.format(p=MANY), level)
    assert "tombstones in the partition p = 2 of ks." in warning
    with pytest.raises(ReadFailure) as refused:
        run(session, text.format(p=TOO_MANY), level)
    assert "tombstones met in the partition p = 3" in str(refused.value)
