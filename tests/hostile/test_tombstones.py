"""What clients hear of tombstones. Broken, nobody learns why reads are slow, or a queue stalls a node."""

from __future__ import annotations

import pytest
from cassandra import ReadFailure
from cassandra.cluster import Cluster
from tests.nodes import NodeProcess

WARN, FAIL = 50, 100
CLUSTERING = FAIL + 50


def test_a_client_is_warned_and_then_refused(own_node: NodeProcess) -> None:
    own_node.options = ("--tombstone-warn", str(WARN), "--tombstone-fail", str(FAIL))
    own_node.start()
    with Cluster([own_node.host], port=own_node.port) as cluster:
        session = cluster.connect()
        session.execute(
            "CREATE KEYSPACE s WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}"
        )
        session.execute("CREATE TABLE s.t (p int, c int, e set<int>, PRIMARY KEY (p, c))")
        for p, tombstones in ((1, WARN), (2, WARN + 1), (3, FAIL + 1)):
            numbers = range(tombstones)
            for number in numbers:
                session.execute(f"DELETE FROM s.t WHERE p = {p} AND c = {number}")
            removed = ", ".join(map(str, numbers))
            session.execute(f"UPDATE s.t SET e = e - {{{removed}}} WHERE p = {p} AND c = {CLUSTERING}")
            session.execute(f"UPDATE s.t SET e = e + {{-1}} WHERE p = {p} AND c = {CLUSTERING}")
        of_rows = f"SELECT * FROM s.t WHERE p = %s AND c < {CLUSTERING}"
        of_elements = f"SELECT * FROM s.t WHERE p = %s AND c = {CLUSTERING}"
        for statement in (of_rows, of_elements):
            quiet = session.execute_async(statement, (1,))
            quiet.result()
            assert not quiet.warnings
            warned = session.execute_async(statement, (2,))
            warned.result()
            (warning,) = warned.warnings
            assert f"{WARN + 1} tombstones" in warning
            assert "p = 2" in warning
            with pytest.raises(ReadFailure) as refused:
                session.execute(statement, (3,))
            assert "p = 3" in str(refused.value)
            assert [int(code) for code in refused.value.error_code_map.values()] == [1]
