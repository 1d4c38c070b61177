"""Real nodes of which one is killed for good: the others give it up, and an operator sees what happens.

If this fails, a ring that has lost a machine stays one copy short until somebody does something, or loses rows when it
heals, or lets the dead node back in with rows that are out of date.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from cassandra import ConsistencyLevel
from tests.nodes import NodeProcess
from tests.ring.moving import members, number_of
from tests.ring.ring import Ring, connect, connect_to, eventually, new_keyspace

from ourodb.limits import REBALANCE_RATIO_MAX

HEAL_SECONDS = 8
HEALED_SECONDS_MAX = 90
ROWS = 3_000

pytestmark = pytest.mark.timeout(400)


def ouro(node: NodeProcess, *words: str, code: int = 0) -> str:
    """What a command prints that ends with this code."""
    command = [sys.executable, "-c", "from ourodb.cli import main; main()", *words]
    done = subprocess.run(
        [*command, "--admin", f"{node.host}:{node.admin_port}"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == code, done.stderr
    return done.stdout


def operations(node: NodeProcess) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = node.admin("operations")["ended"]
    return found


def test_a_node_that_is_killed_for_good_is_healed_away(make_ring: Callable[..., Ring]) -> None:
    ring = make_ring(4, options=("--heal-after", str(HEAL_SECONDS)))
    ring.start()
    session = connect(ring.nodes)
    keyspace = new_keyspace(session)
    session.execute(f"CREATE TABLE {keyspace}.t (k int PRIMARY KEY, v text)")
    insert = session.prepare(f"INSERT INTO {keyspace}.t (k, v) VALUES (?, ?)")
    insert.consistency_level = ConsistencyLevel.QUORUM
    for start in range(0, ROWS, 500):
        for future in [session.execute_async(insert, (key, f"v{key}")) for key in range(start, start + 500)]:
            future.result()
    dead = ring.nodes.pop()
    number = number_of(ring, dead)
    witness = ring.nodes[0]
    dead.kill()
    try:
        eventually(lambda: members_down(witness) == [number], "it is known to be down")
        shown = ouro(witness, "status")
        assert f"node {number} at {dead.host} has been down for" in shown
        assert "its ranges get new replicas" in shown
        eventually(
            lambda: number not in [one["id"] for one in members(witness)],
            "it is given up",
            HEALED_SECONDS_MAX,
        )
        (ended,) = operations(witness)
        assert (ended["kind"], ended["nodes"], ended["is_done"]) == ("heal", [number], True)
        assert ended["rows"] > 0
        (line,) = [line for line in ouro(witness, "operations").splitlines() if "heal" in line]
        assert line.rstrip().endswith("done")
        owned = {one["id"]: one["owns"] for one in witness.admin("status", {"keyspace": keyspace})["members"]}
        assert set(owned.values()) == {1.0}
        # One of three copies may be missing now: if healing had lost some, these would show it.
        ring.nodes[-1].pause()
        eventually(lambda: len(members_down(witness)) == 1, "one more is missing")
        there = connect_to(witness)
        again = there.prepare(f"SELECT v FROM {keyspace}.t WHERE k = ?")
        again.consistency_level = ConsistencyLevel.QUORUM
        for start in range(0, ROWS, 500):
            found = [there.execute_async(again, (key,)) for key in range(start, start + 500)]
            assert [future.result().one().v for future in found] == [
                f"v{key}" for key in range(start, start + 500)
            ]
        there.cluster.shutdown()
        ring.nodes[-1].resume()
        dead.launch()
        eventually(lambda: not dead.alive(), "the one that was given up ends")
        assert "was removed from the cluster" in dead.story
        assert "empty its data folder" in dead.story
    finally:
        session.cluster.shutdown()
        if dead.alive():
            dead.kill()


def members_down(node: NodeProcess) -> list[object]:
    return [one["id"] for one in members(node) if one["state"] == "DOWN"]


def test_an_operator_pauses_heals_and_evens(make_ring: Callable[..., Ring]) -> None:
    """Three nodes with three copies have nobody to spare; four have, when they are told so."""
    ring = make_ring(4, options=("--heal-after", "600"))
    ring.start()
    session = connect(ring.nodes)
    keyspace = new_keyspace(session)
    session.execute(f"CREATE TABLE {keyspace}.t (k int PRIMARY KEY)")
    for key in range(100):
        session.execute(f"INSERT INTO {keyspace}.t (k) VALUES ({key})")
    session.cluster.shutdown()
    witness = ring.nodes[0]
    assert "no node is down" in ouro(witness, "heal", "--now")
    assert "healing is paused" in ouro(witness, "heal", "--pause")
    eventually(lambda: "healing is paused" in ouro(ring.nodes[1], "status"), "all know it")
    assert "down for 600 s is given up" in ouro(witness, "heal", "--resume")
    dead = ring.nodes.pop()
    number = number_of(ring, dead)
    dead.kill()
    eventually(lambda: members_down(witness) == [number], "it is known to be down")
    assert json.loads(ouro(witness, "heal", "--now", "--json")) == {"nodes": [number], "obstacles": {}}
    assert number not in [one["id"] for one in members(witness)]
    answer = json.loads(ouro(witness, "rebalance", "--json"))
    assert answer["is_done"] is (answer["ratio"] > REBALANCE_RATIO_MAX)
    assert "nothing to do" in ouro(witness, "rebalance")
    owned = [one["owns"] for one in members(witness)]
    assert max(owned) * len(owned) < REBALANCE_RATIO_MAX
    assert {one["kind"] for one in operations(witness) if one["is_done"]} <= {"heal", "rebalance"}
    second = ring.nodes.pop()
    number = number_of(ring, second)
    second.kill()
    eventually(lambda: members_down(witness) == [number], "it is known to be down")
    shown = ouro(witness, "heal", "--now", code=1)
    assert f"node {number} isn't healed" in shown
    assert "3 copies, and 2 nodes" in shown
    assert "isn't healed" in ouro(witness, "status")


def test_what_the_dead_one_and_one_other_had(make_ring: Callable[..., Ring]) -> None:
    """Writes at QUORUM that one replica missed, whose coordinator, another replica, dies with the hints: only the third
    one has them. Whoever takes the dead one's place gets them all the same.
    """
    ring = make_ring(4, options=("--heal-after", "600"))
    ring.start()
    dead, behind, *others = ring.nodes
    session = connect_to(dead)
    keyspace = new_keyspace(session)
    session.execute(f"CREATE TABLE {keyspace}.t (k int PRIMARY KEY, v text)")
    insert = session.prepare(f"INSERT INTO {keyspace}.t (k, v) VALUES (?, ?)")
    insert.consistency_level = ConsistencyLevel.QUORUM
    holders: dict[str, list[int]] = {node.host: [] for node in others}
    metadata = session.cluster.metadata
    for key in range(ROWS):
        hosts = {one.address for one in metadata.get_replicas(keyspace, key.to_bytes(4, "big"))}
        third = hosts - {dead.host, behind.host}
        if len(third) == 1:
            holders[third.pop()].append(key)
    behind.pause()
    number = number_of(ring, dead)
    for keys in holders.values():
        assert len(keys) > 100
        for start in range(0, len(keys), 200):
            chunk = keys[start : start + 200]
            for future in [session.execute_async(insert, (key, f"v{key}")) for key in chunk]:
                future.result()
    session.cluster.shutdown()
    dead.kill()
    behind.resume()
    ring.nodes.remove(dead)
    witness = others[0]
    eventually(lambda: members_down(witness) == [number], "the dead one is known to be down, it alone")
    assert json.loads(ouro(witness, "heal", "--now", "--json"))["nodes"] == [number]
    assert number not in [one["id"] for one in members(witness)]
    for holder in others:
        # The two that are left have to have them: the one that missed them, and the new replica.
        holder.pause()
        there = connect_to(next(node for node in others if node is not holder))
        read = there.prepare(f"SELECT v FROM {keyspace}.t WHERE k = ?")
        read.consistency_level = ConsistencyLevel.QUORUM
        keys = holders[holder.host]
        for start in range(0, len(keys), 200):
            chunk = keys[start : start + 200]
            found = [there.execute_async(read, (key,)) for key in chunk]
            assert [one.result().one() for one in found] == [(f"v{key}",) for key in chunk]
        there.cluster.shutdown()
        holder.resume()
        ring.wait_until_whole()
