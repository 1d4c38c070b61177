"""Who belongs to a ring. If these fail, nodes of two clusters mix, rows end up where nobody looks for them, or a node
that moved to another address is lost.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import HTTPError

import pytest
from cassandra import ConsistencyLevel as Level
from cassandra.query import SimpleStatement
from tests.nodes import NodeProcess, free_port
from tests.ring.ring import (
    CQL_PORT,
    PEER_PORT,
    SECRET,
    Ring,
    connect,
    connect_to,
    eventually,
    loopback_hosts,
    new_keyspace,
)

REFUSED_SECONDS_MAX = 90


def newcomer(folder: Path, seed: NodeProcess, *options: str, secret: str = SECRET) -> NodeProcess:
    """A node that would like to join, not started."""
    host = loopback_hosts(1)[0]
    join = ("--join", seed.address, "--secret", secret, "--host-id", "new")
    return NodeProcess(
        folder / "new", *join, *options, port=CQL_PORT, host=host, peer_port=PEER_PORT, admin_port=7070
    )


def refusal(node: NodeProcess) -> str:
    """What a node says that isn't let in; it ends by itself, with exit code 2, and without a traceback."""
    node.launch()
    assert node.process is not None
    try:
        code = node.process.wait(timeout=REFUSED_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        node.kill()
        raise AssertionError(f"it neither joined nor ended:\n{node.output}") from None
    assert code == 2, node.output
    assert "Traceback" not in node.output
    return node.output.splitlines()[-1]


def members(node: NodeProcess) -> set[str]:
    return {member["address"] for member in node.admin("status")["members"]}


@pytest.fixture
def crowd(ring: Ring) -> Iterator[set[str]]:
    """The members of the shared ring; they are the same afterwards."""
    before = members(ring.nodes[0])
    yield before
    assert members(ring.nodes[0]) == before


@pytest.mark.usefixtures("crowd")
def test_wrong_secret(ring: Ring, tmp_path: Path) -> None:
    said = refusal(newcomer(tmp_path, ring.nodes[0], secret="something else"))
    assert "secret" in said
    assert ring.nodes[0].address in said


@pytest.mark.usefixtures("crowd")
def test_no_secret(ring: Ring, tmp_path: Path) -> None:
    node = newcomer(tmp_path, ring.nodes[0])
    node.options = ("--join", ring.nodes[0].address)
    assert "--secret" in refusal(node)


@pytest.mark.usefixtures("crowd")
def test_other_cluster_name(ring: Ring, tmp_path: Path) -> None:
    said = refusal(newcomer(tmp_path, ring.nodes[0], "--cluster-name", "Elsewhere"))
    assert "Elsewhere" in said
    assert "OuroDB" in said


@pytest.mark.usefixtures("crowd")
def test_in_the_place_of_one_that_is_up_or_of_nobody(ring: Ring, tmp_path: Path) -> None:
    up = ring.nodes[0].admin("status")["members"][1]["id"]
    said = refusal(newcomer(tmp_path, ring.nodes[0], "--replace", str(up)))
    assert f"node {up} is up: only a node that is gone for good can be replaced" in said
    (again := tmp_path / "again").mkdir()
    said = refusal(newcomer(again, ring.nodes[0], "--replace", "99"))
    assert "there is no node 99 to replace" in said


@pytest.mark.usefixtures("crowd")
def test_node_of_another_cluster(ring: Ring, tmp_path: Path) -> None:
    """One that has founded a cluster of its own, of the same name and with the same secret, and is told to join."""
    node = newcomer(tmp_path, ring.nodes[0])
    options = node.options
    node.options = ("--secret", SECRET)
    node.start()
    session = connect_to(node)
    new_keyspace(session)
    session.cluster.shutdown()
    node.stop()
    node.options = options
    node.launch()
    try:
        # It is a member of its own cluster already, and stays one; it mixes with nobody.
        node.wait_until_ready()
        assert members(node) == {node.address}
    except RuntimeError:
        assert "Traceback" not in node.output
    finally:
        if node.alive():
            node.stop()


def test_a_member_that_is_told_to_be_elsewhere_says_that_it_can_t(make_ring: Callable[..., Ring]) -> None:
    """Its copies were placed by its rack: silently taken for what it was, two copies would be in one."""
    ring = make_ring(3).start()
    moved = ring.nodes[1]
    moved.stop()
    options = moved.options
    for option in ("--dc", "--rack"):
        moved.options = (*options, option, "elsewhere")
        assert f"{option} elsewhere: this node joined with {option} " in refusal(moved)
    moved.options = options
    moved.start()
    ring.wait_until_whole()


def test_whoever_is_told_to_leave_hears_at_once_that_it_can_t_be_decided(
    make_ring: Callable[..., Ring],
) -> None:
    ring = make_ring(3).start()
    asked, *others = ring.nodes
    for node in others:
        node.kill()
    with pytest.raises(HTTPError) as caught:
        asked.admin("decommission", {})
    assert "Changing the ring is" in caught.value.read().decode()


def test_nobody_there(tmp_path: Path) -> None:
    """A node whose seeds don't answer says so, and goes on trying until it is stopped."""
    host = loopback_hosts(1)[0]
    seed = NodeProcess(tmp_path / "seed", host=host, peer_port=free_port())
    node = newcomer(tmp_path, seed)
    node.launch()
    eventually(lambda: seed.address in node.output, "it says whom it asks")
    assert node.stop() == 0
    assert "Traceback" not in node.output


def test_another_address(make_ring: Callable[..., Ring]) -> None:
    """A node that comes back at another address, with other ports, is the same node: it has its rows, gets its hints,
    and drivers find it."""
    ring = make_ring(3).start()
    session = connect(ring.nodes)
    keyspace = new_keyspace(session)
    session.execute(f"CREATE TABLE {keyspace}.t (id int PRIMARY KEY, v int)")

    def write(key: int, level: int) -> None:
        statement = f"INSERT INTO {keyspace}.t (id, v) VALUES ({key}, {key})"
        session.execute(SimpleStatement(statement, consistency_level=level))

    write(1, Level.ALL)
    moved = ring.nodes[2]
    before = {node.admin("status")["host_id"] for node in ring.nodes}
    moved.stop()
    ring.wait_until_down(moved)
    write(2, Level.QUORUM)
    move(moved)
    moved.start()
    ring.wait_until_whole()
    assert {node.admin("status")["host_id"] for node in ring.nodes} == before
    for node in ring.nodes:
        assert members(node) == {one.address for one in ring.nodes}
    # Straight to it: rows from before, and what it missed.
    away = connect_to(moved, keyspace, port=moved.port)
    for key in (1, 2):
        query = SimpleStatement(f"SELECT v FROM t WHERE id = {key}", consistency_level=Level.ONE)
        eventually(lambda query=query: away.execute(query).one(), "it has what it missed")
    away.cluster.shutdown()
    write(3, Level.ALL)
    local = connect_to(ring.nodes[0])
    eventually(
        lambda: (
            (moved.host, moved.port)
            in {
                (str(row.native_address), row.native_port)
                for row in local.execute("SELECT native_address, native_port FROM system.peers_v2")
            }
        ),
        "drivers are told the new address",
    )
    local.cluster.shutdown()
    session.cluster.shutdown()
    # And once more from cold: all are stopped, and find each other again, the moved one, too.
    for node in ring.nodes:
        node.stop()
    ring.heal()
    session = connect_to(moved, keyspace, port=moved.port)
    query = SimpleStatement("SELECT id FROM t", consistency_level=Level.ALL)
    assert {row.id for row in session.execute(query)} == {1, 2, 3}
    session.cluster.shutdown()


def move(node: NodeProcess) -> None:
    """Let a node that doesn't run start elsewhere."""
    node.host = loopback_hosts(1)[0]
    node.port, node.peer_port, node.admin_port = (free_port() for _ in range(3))


def test_who_has_moved_and_is_the_first_to_come_back_tells_it_when_there_is_somebody_to_tell(
    make_ring: Callable[..., Ring],
) -> None:
    """Power is back where it was lost: a node that can't be told to anybody yet mustn't stay at its old address."""
    ring = make_ring(3).start()
    for node in ring.nodes:
        node.stop()
    first, second, moved = ring.nodes
    move(moved)
    moved.start()
    eventually(lambda: "doesn't know this node's new" in moved.output, "that nobody could be told")
    first.launch()
    second.launch()
    first.wait_until_ready()
    second.wait_until_ready()
    ring.wait_until_whole(60)
    eventually(
        lambda: moved.address in [member["address"] for member in first.admin("status")["members"]],
        "the new address is in the log",
    )


def test_drivers_hear_of_another_address(make_ring: Callable[..., Ring]) -> None:
    """A driver that is connected while a node moves finds it again by itself."""
    ring = make_ring(3).start()
    session = connect(ring.nodes)
    moved = ring.nodes[2]
    moved.stop()
    ring.wait_until_down(moved)
    move(moved)
    moved.start()
    ring.wait_until_whole()
    eventually(
        lambda: moved.host in {host.address for host in session.cluster.metadata.all_hosts()},
        "the driver knows the new address",
        10,
    )
    session.cluster.shutdown()


def test_all_are_killed_at_once(make_ring: Callable[..., Ring]) -> None:
    """The whole ring loses its power: it comes back with its members, its schema and all that was acknowledged."""
    ring = make_ring(3).start()
    session = connect(ring.nodes)
    keyspace = new_keyspace(session)
    session.execute(f"CREATE TABLE {keyspace}.t (id int PRIMARY KEY, v int)")
    insert = session.prepare(f"INSERT INTO {keyspace}.t (id, v) VALUES (?, ?)")
    insert.consistency_level = Level.QUORUM
    for key in range(300):
        session.execute(insert, (key, key))
    session.cluster.shutdown()
    for node in ring.nodes:
        node.kill()
    ring.heal()
    session = connect(ring.nodes)
    query = SimpleStatement(f"SELECT id FROM {keyspace}.t", consistency_level=Level.QUORUM)
    assert {row.id for row in session.execute(query)} == set(range(300))
    new_keyspace(session)
    session.cluster.shutdown()


def test_who_leads_is_known_to_all(make_ring: Callable[..., Ring]) -> None:
    """Nodes that have no vote in the metadata log know its leader as well, from their start on."""
    ring = make_ring(5).start()
    without_vote = [
        node
        for node in ring.nodes
        if not next(one for one in node.admin("status")["members"] if one["is_this_node"])["is_voter"]
    ]
    for node in without_vote:
        node.kill()
    ring.heal()
    for node in ring.nodes:
        eventually(lambda node=node: node.admin("status")["leader"], f"{node.host} knows the leader", 5)
        assert node.admin("status")["warnings"] == []
