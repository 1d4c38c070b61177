"""Replicas that answer late or not at all. If these fail, one slow machine makes all reads slow.

How long something takes depends on the machine, so only this is asserted: few reads took as long as they would if they
waited for the slow one. What was measured is printed.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from cassandra import ConsistencyLevel as Level
from cassandra.cluster import Session
from tests.ring.namespaces import Network
from tests.ring.ring import Ring, connect_to, new_keyspace

from ourodb import limits

READS = 1_000
LATE_MS = 100
SLOW_SHARE_MAX = 0.05
KEYS = 100


def timed_reads(session: Session, keyspace: str, count: int) -> list[float]:
    """How long each of so many QUORUM reads took, in milliseconds, ascending."""
    read = session.prepare(f"SELECT v FROM {keyspace}.t WHERE id = ?")
    read.consistency_level = Level.QUORUM
    times = []
    for number in range(count):
        started = time.perf_counter()
        assert session.execute(read, (number % KEYS,)).one().v == number % KEYS
        times.append((time.perf_counter() - started) * 1000)
    return sorted(times)


def told(what: str, times: list[float]) -> None:
    p50, p99 = (times[int(len(times) * part)] for part in (0.5, 0.99))
    print(f"{what}: p50 {p50:.1f} ms, p99 {p99:.1f} ms, slowest {times[-1]:.1f} ms")


def filled(session: Session) -> str:
    keyspace = new_keyspace(session)
    session.execute(f"CREATE TABLE {keyspace}.t (id int PRIMARY KEY, v int)")
    insert = session.prepare(f"INSERT INTO {keyspace}.t (id, v) VALUES (?, ?)")
    insert.consistency_level = Level.ALL
    for key in range(KEYS):
        session.execute(insert, (key, key))
    return keyspace


def test_a_late_replica(network: Callable[[int], Network], make_ring: Callable[..., Ring]) -> None:
    """One of three answers 100 ms late: the others are asked instead of it, or as well."""
    ring = make_ring(3, network=network(3)).start()
    assert ring.network is not None
    sessions = [connect_to(node) for node in ring.nodes[:2]]
    keyspace = filled(sessions[0])
    for number, session in enumerate(sessions):
        times = timed_reads(session, keyspace, READS)
        told(f"through node {number + 1}, all well", times)
    ring.network.delay(ring.nodes[2].host, LATE_MS)
    for number, session in enumerate(sessions):
        times = timed_reads(session, keyspace, READS)
        told(f"through node {number + 1}, one {LATE_MS} ms late", times)
        slow = sum(ms >= LATE_MS for ms in times)
        assert slow <= SLOW_SHARE_MAX * READS, f"{slow} of {READS} reads took {LATE_MS} ms and more"
    for session in sessions:
        session.cluster.shutdown()


def test_a_silent_replica(frail_ring: Ring) -> None:
    """One of three says nothing any more: no read waits until it is known to be down, and none fails."""
    session = connect_to(frail_ring.nodes[0])
    keyspace = filled(session)
    told("all well", timed_reads(session, keyspace, READS))
    frail_ring.nodes[2].pause()
    times = timed_reads(session, keyspace, READS)
    told("one silent", times)
    assert times[-1] < limits.READ_TIMEOUT_MS
    slow = sum(ms >= LATE_MS for ms in times)
    assert slow <= SLOW_SHARE_MAX * READS, f"{slow} of {READS} reads took {LATE_MS} ms and more"
    session.cluster.shutdown()
