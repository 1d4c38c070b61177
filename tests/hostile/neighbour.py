"""A well-behaved client, in a process of its own: writes and reads through a stock driver, and checks what it reads.

It runs until its standard input is closed, then prints how many requests it made and what failed, as JSON.
"""

from __future__ import annotations

import json
import select
import sys
import time

from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.policies import FallthroughRetryPolicy, RoundRobinPolicy

KEYS = 500
PAUSE_S = 0.01
REQUEST_TIMEOUT_S = 20.0
FAILURES_KEPT = 10


def told_to_stop() -> bool:
    return bool(select.select([sys.stdin], [], [], 0)[0])


def main(host: str, port: int) -> None:
    profile = ExecutionProfile(
        load_balancing_policy=RoundRobinPolicy(),
        retry_policy=FallthroughRetryPolicy(),
        request_timeout=REQUEST_TIMEOUT_S,
    )
    cluster = Cluster(
        [host],
        port=port,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        schema_metadata_enabled=False,
        connect_timeout=REQUEST_TIMEOUT_S,
    )
    session = cluster.connect()
    session.execute(
        "CREATE KEYSPACE neighbour WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}"
    )
    session.execute("CREATE TABLE neighbour.t (k int PRIMARY KEY, v bigint)")
    insert = session.prepare("INSERT INTO neighbour.t (k, v) VALUES (?, ?)")
    select_one = session.prepare("SELECT v FROM neighbour.t WHERE k = ?")
    expected: dict[int, int] = {}
    requests = 0
    slowest_s = 0.0
    failures: list[str] = []
    print("ready", flush=True)
    while not told_to_stop():
        key = requests // 2 % KEYS
        began = time.monotonic()
        try:
            requests += 1
            session.execute(insert, (key, requests))
            expected[key] = requests
            requests += 1
            other = requests * 7 % KEYS
            rows = session.execute(select_one, (other,)).all()
            read = rows[0].v if rows else None
            if read != expected.get(other):
                failures.append(f"key {other}: read {read}, wrote {expected.get(other)}")
        except Exception as error:
            expected.pop(key, None)
            failures.append(f"{type(error).__name__}: {error}")
        slowest_s = max(slowest_s, time.monotonic() - began)
        time.sleep(PAUSE_S)
    cluster.shutdown()
    report = {
        "requests": requests,
        "failed": len(failures),
        "failures": failures[:FAILURES_KEPT],
        "slowest_s": round(slowest_s, 2),
    }
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
