"""``ouro up``, ``ouro down`` and the commands that look at a ring, on real processes.

Were these to fail, somebody who tries OuroDB would have nodes that don't find each other, that he can't stop, that come
back as strangers, or that die without telling why; and tables that say what isn't so.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cassandra.cluster import Cluster
from tests.cli import COMMAND, environment, free_ports, ouro, refused, said

from ourodb.cli.admin import AdminError, call
from ourodb.cli.local.process import started_at
from ourodb.cli.local.ring import LocalRing

PATIENCE_S = 120
OPTIONS = ("--", "--durability=periodic", "--gossip-ms=200", "--memtable-mb=8", "--cache-mb=8")


def until(condition: Callable[[], object]) -> None:
    limit = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.05)


def ports(numbers: list[int]) -> list[str]:
    names = ("--cql-port", "--peer-port", "--admin-port")
    return [f"{name}={number}" for name, number in zip(names, numbers, strict=True)]


def pids(folder: Path) -> list[int | None]:
    ring = LocalRing.load(folder)
    return [ring.pid(node) for node in ring.nodes]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a ring of three in ``ouro-ring``; every test leaves all of them running."""
    place = tmp_path_factory.mktemp("up")
    try:
        text = said(ouro("up", *ports(free_ports()), *OPTIONS, cwd=place))
        assert "3 nodes are up and agreed" in text
        assert "Contact points  127.0.0.1,127.0.0.2,127.0.0.3, port" in text
        yield place
    finally:
        ouro("down", "--kill", cwd=place)


@pytest.fixture(scope="module")
def folder(place: Path) -> Path:
    return place / "ouro-ring"


@pytest.fixture(scope="module")
def table(folder: Path) -> Iterator[str]:
    """A keyspace with a copy on each node, and a table in it: shop.orders (who int, at date)."""
    ring = LocalRing.load(folder)
    cluster = Cluster([ring.nodes[0].address], port=ring.nodes[0].cql_port, protocol_version=4)
    session = cluster.connect()
    session.execute(
        "CREATE KEYSPACE shop WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}"
    )
    session.execute("CREATE TABLE shop.orders (who int, day date, sum int, PRIMARY KEY ((who, day)))")
    yield "shop.orders"
    cluster.shutdown()


def status(place: Path, *arguments: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(said(ouro("status", "--json", *arguments, cwd=place)))
    return report


def test_the_nodes_are_on_their_own(folder: Path) -> None:
    """They aren't children of the command, nor in its session, and only their owner reads the secret."""
    ring = LocalRing.load(folder)
    for node, pid in zip(ring.nodes, pids(folder), strict=True):
        assert pid is not None
        assert os.getsid(pid) == pid
        assert b"--data=" + os.fsencode(ring.data(node)) in Path(f"/proc/{pid}/cmdline").read_bytes().split(
            b"\0"
        )
    assert stat.S_IMODE((folder / "secret").stat().st_mode) == 0o600


def test_up_again_leaves_them_alone(place: Path, folder: Path) -> None:
    before = pids(folder)
    assert "3 nodes are up; all ran already." in said(ouro("up", cwd=place))
    assert pids(folder) == before


def test_a_node_that_died_is_started_again_as_the_one_that_it_was(place: Path, folder: Path) -> None:
    before = {member["cql"]: member["host_id"] for member in status(place)["members"]}
    first, second, third = pids(folder)
    assert "killed node2" in said(ouro("down", "--node", 2, "--kill", cwd=place))
    assert started_at(second or 0) is None
    assert pids(folder) == [first, None, third]
    text = said(ouro("up", cwd=place))
    assert text.count("ran already") == 2
    assert pids(folder)[::2] == [first, third]
    assert {member["cql"]: member["host_id"] for member in status(place)["members"]} == before


def test_a_stranger_with_the_id_of_a_node_is_left_alone(place: Path, folder: Path) -> None:
    ring = LocalRing.load(folder)
    pid_file = ring.pid_file(ring.nodes[2])
    kept = pid_file.read_text()
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    try:
        pid_file.write_text(f"{stranger.pid} {(started_at(stranger.pid) or 0) - 1}\n")
        assert "nothing ran" in said(ouro("down", "--node", 3, "--kill", cwd=place))
        assert stranger.poll() is None
    finally:
        pid_file.write_text(kept)
        stranger.kill()
        stranger.wait()


def test_status(place: Path, folder: Path, table: str) -> None:
    report = status(place)
    assert [member["state"] for member in report["members"]] == ["UP"] * 3
    assert sum(member["owns"] for member in report["members"]) == pytest.approx(1)
    assert report["warnings"] == []
    assert sum(member["is_leader"] for member in report["members"]) == 1
    text = said(ouro("status", "shop", "--data", folder, cwd=place))
    assert text.count("100.0%") == 3
    assert "leader" in text
    assert "rack1" in text


def test_status_warns_of_copies_that_have_no_node(place: Path, folder: Path) -> None:
    ring = LocalRing.load(folder)
    cluster = Cluster([ring.nodes[0].address], port=ring.nodes[0].cql_port, protocol_version=4)
    try:
        session = cluster.connect()
        session.execute(
            "CREATE KEYSPACE wide WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 5}"
        )
        try:
            warnings = status(place)["warnings"]
        finally:
            session.execute("DROP KEYSPACE wide")
    finally:
        cluster.shutdown()
    assert warnings == ["keyspace wide asks for 5 copies, but the ring has nodes for 3 only"]


def test_ring(place: Path, table: str) -> None:
    text = said(ouro("ring", cwd=place))
    report = json.loads(said(ouro("ring", "--json", cwd=place)))
    ends = [one["end"] for one in report["ranges"]]
    assert len(ends) == 48
    assert all(end in text for end in ends)
    assert "█" in text
    whole = json.loads(said(ouro("ring", "shop", "--json", cwd=place)))
    assert all(len(one["secondaries"]) == 2 for one in whole["ranges"])


def test_ring_says_where_a_key_is_and_why(place: Path, folder: Path, table: str) -> None:
    """The token is the one that a driver computes, and the replicas those that it would ask."""
    ring = LocalRing.load(folder)
    cluster = Cluster([ring.nodes[0].address], port=ring.nodes[0].cql_port, protocol_version=4)
    try:
        session = cluster.connect()
        statement = session.prepare("SELECT sum FROM shop.orders WHERE who = ? AND day = ?")
        key = statement.bind((-7, "2013-07-04")).routing_key
        token = cluster.metadata.token_map.token_class.from_key(key)
        replicas = {host.address for host in cluster.metadata.get_replicas("shop", key)}
    finally:
        cluster.shutdown()
    asked = ("ring", "shop", "orders", "-7", "2013-07-04")
    found = json.loads(said(ouro(*asked, "--json", cwd=place)))
    one = found["key"]
    assert one["token"] == str(token.value)
    assert one["partition_key"] == key.hex()
    named = [found["nodes"][str(id)]["cql"].split(":")[0] for id in (one["primary"], *one["secondaries"])]
    assert set(named) == replicas
    text = said(ouro(*asked, cwd=place))
    assert one["token"] in text
    assert text.index(named[0]) < text.index(named[1]) < text.index(named[2])
    assert "who = -7, day = 2013-07-04" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("status", "nowhere"), "there is no keyspace nowhere"),
        (("ring", "nowhere"), "there is no keyspace nowhere"),
        (("ring", "system"), "isn't replicated"),
        (("ring", "shop", "nothing", "1"), "there is no table shop.nothing"),
        (("ring", "shop", "orders"), "which key of shop.orders"),
        (("ring", "shop", "orders", "1"), "the partition key of shop.orders is (who, day)"),
        (("ring", "shop", "orders", "one", "2013-07-04"), "Unable to make int from 'one'"),
        (("status", "--admin", "nonsense"), "'nonsense' isn't HOST:PORT"),
        (("status", "--admin", "127.0.0.1:1"), "no node answers on 127.0.0.1:1"),
        (("gossip", "--data", "nothing"), "there is no ring in nothing"),
        (("metadata", "recover", "--yes"), "leads the metadata log: there is nothing to recover"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_takes_one_line(
    place: Path, table: str, arguments: tuple[str, ...], words: str
) -> None:
    assert words in refused(ouro(*arguments, cwd=place))


def test_nobody_cuts_a_node_off_that_wasnt_started_for_it(folder: Path) -> None:
    ring = LocalRing.load(folder)
    with pytest.raises(AdminError, match="404"):
        call(ring.nodes[0].admin, "/faults", {"cut": [ring.nodes[1].peer]})


def test_gossip_and_metadata(place: Path, folder: Path) -> None:
    ring = LocalRing.load(folder)
    text = said(ouro("gossip", cwd=place))
    assert text.count(" UP ") == 3
    heard = json.loads(said(ouro("gossip", "--json", "--admin", ring.nodes[1].admin, cwd=place)))
    assert {node["address"] for node in heard["nodes"]} == {node.peer for node in ring.nodes}
    text = said(ouro("metadata", cwd=place))
    assert "leader" in text
    assert "add_member" in text
    report = json.loads(said(ouro("metadata", "--json", cwd=place)))
    assert report["entries"][-1]["is_applied"]
    assert len(report["voters"]) == 3


def test_a_lost_majority_is_told_and_given_up_only_when_confirmed(
    place: Path, folder: Path, table: str
) -> None:
    ring = LocalRing.load(folder)
    admin = ring.nodes[0].admin
    for number in (2, 3):
        said(ouro("down", "--node", number, "--kill", cwd=place))
    # The first node of the ring that answers is asked, here the only one.
    until(lambda: sum(member["state"] == "DOWN" for member in status(place)["members"]) == 2)
    until(lambda: json.loads(said(ouro("metadata", "--json", cwd=place)))["leader"] == 0)
    text = said(ouro("status", cwd=place))
    assert "1 of 3 voters are up, no majority" in text
    assert "keyspace shop: QUORUM can't be had for 100% of its rows" in text
    drawing = said(ouro("ring", "shop", cwd=place))
    assert "▓" in drawing
    line = refused(ouro("metadata", "recover", "--admin", admin, cwd=place))
    assert "Confirm to go on with --yes" in line
    report = json.loads(said(ouro("metadata", "recover", "--yes", "--json", "--admin", admin, cwd=place)))
    assert len(report["voters"]) == 1
    until(lambda: json.loads(said(ouro("metadata", "--json", cwd=place)))["leader"] == report["voters"][0])
    said(ouro("up", cwd=place))
    until(lambda: not status(place)["warnings"])


def test_up_with_other_ports_is_refused(place: Path) -> None:
    assert "which can't be changed" in refused(ouro("up", "--cql-port", 1, cwd=place))
    assert "has 3 nodes; to have fewer, let one leave: ouro decommission" in refused(
        ouro("up", "--nodes", 2, cwd=place)
    )
    assert "has nodes 1 to 3" in refused(ouro("down", "--node", 4, cwd=place))


def test_a_port_that_is_taken_is_told_with_who_has_it(tmp_path: Path) -> None:
    numbers = free_ports()
    with socket.create_server(("127.0.0.2", numbers[0])):
        line = refused(ouro("up", *ports(numbers), cwd=tmp_path))
    assert f"127.0.0.2:{numbers[0]} (--cql-port) is taken by process {os.getpid()} (" in line
    assert not (tmp_path / "ouro-ring" / "node1").exists()


def test_a_node_that_cannot_start_is_told_with_its_last_words(tmp_path: Path) -> None:
    folder = tmp_path / "ouro-ring"
    folder.mkdir()
    (folder / "node2").write_text("no folder")
    process = ouro("up", "--nodes", 2, *ports(free_ports()), cwd=tmp_path)
    assert process.returncode == 1
    assert "node2 ended (exit code 2); the end of ouro-ring/node2.log:" in process.stderr
    assert "    ouro serve: " in process.stderr
    assert pids(folder) == [None, None]


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("--num-tokens=0", "after --: --num-tokens: 0 is not between 1 and 1024"),
        ("--no-such", "after --: unrecognized arguments: --no-such"),
        ("--cql-port=1", "after --: --cql-port is what ouro up says to each node by itself"),
    ],
)
def test_an_option_that_no_node_takes_is_refused_before_anything_is_kept(
    place: Path, tmp_path: Path, option: str, told: str
) -> None:
    assert told in refused(ouro("up", "--nodes", 2, *ports(free_ports()), "--", option, cwd=tmp_path))
    assert not (tmp_path / "ouro-ring").exists()
    kept = (place / "ouro-ring" / "ring.json").read_bytes()
    assert told in refused(ouro("up", "--", option, cwd=place))
    assert (place / "ouro-ring" / "ring.json").read_bytes() == kept


def test_a_home_of_nobody_is_a_folder_like_others(tmp_path: Path) -> None:
    line = refused(ouro("status", "--data", "~nosuchuser/ring", cwd=tmp_path))
    assert "there is no ring in ~nosuchuser/ring" in line


def test_a_start_that_fails_leaves_no_node_running(tmp_path: Path) -> None:
    (tmp_path / "ouro-ring" / "node2.log").mkdir(parents=True)
    line = refused(ouro("up", "--nodes", 2, *ports(free_ports()), cwd=tmp_path))
    assert "node2 can't be started: Is a directory" in line
    assert not (tmp_path / "ouro-ring" / "node1.pid").exists()


@pytest.mark.parametrize(
    "option", ["--nodes=0", "--dcs=0", "--racks=0", "--cql-port=0", "--admin-port=70000"]
)
def test_numbers_that_make_no_ring_are_refused(tmp_path: Path, option: str) -> None:
    assert "it takes 1 or more" in refused(ouro("up", option, cwd=tmp_path))
    assert not (tmp_path / "ouro-ring").exists()


def test_down_ends_all_in_order_and_up_brings_the_same_ring(tmp_path: Path) -> None:
    said(ouro("up", "--nodes", 2, "--data", "two", *ports(free_ports()), *OPTIONS, cwd=tmp_path))
    before = status(tmp_path, "--data", "two")
    running = pids(tmp_path / "two")
    assert "stopped node1, node2" in said(ouro("down", "--data", "two", cwd=tmp_path))
    assert [started_at(pid or 0) for pid in running] == [None, None]
    try:
        assert "2 nodes are up and agreed" in said(ouro("up", "--data", "two", cwd=tmp_path))
        after = status(tmp_path, "--data", "two")
        assert after["cluster_id"] == before["cluster_id"]
        assert {one["host_id"] for one in after["members"]} == {one["host_id"] for one in before["members"]}
        assert "3 nodes are up" in said(ouro("up", "--data", "two", "--nodes", 3, cwd=tmp_path))
        assert status(tmp_path, "--data", "two")["cluster_id"] == before["cluster_id"]
    finally:
        ouro("down", "--kill", "--data", "two", cwd=tmp_path)


def test_a_first_node_without_its_data_founds_no_second_cluster(tmp_path: Path) -> None:
    said(ouro("up", "--nodes", 2, *ports(free_ports()), *OPTIONS, cwd=tmp_path))
    try:
        before = status(tmp_path)
        said(ouro("down", "--node", 1, "--kill", cwd=tmp_path))
        shutil.rmtree(tmp_path / "ouro-ring" / "node1")
        process = ouro("up", cwd=tmp_path)
        assert process.returncode == 1
        assert "which has another host id" in process.stderr
        first, second = pids(tmp_path / "ouro-ring")
        assert first is None
        assert second is not None
        assert status(tmp_path)["cluster_id"] == before["cluster_id"]
    finally:
        ouro("down", "--kill", cwd=tmp_path)


def test_a_node_that_has_left_is_not_started_again(tmp_path: Path) -> None:
    said(ouro("up", *ports(free_ports()), *OPTIONS, cwd=tmp_path))
    folder = tmp_path / "ouro-ring"
    try:
        (third,) = [one for one in status(tmp_path)["members"] if one["address"].startswith("127.0.0.3:")]
        said(ouro("decommission", third["id"], cwd=tmp_path))
        until(lambda: pids(folder)[2] is None)
        text = said(ouro("up", cwd=tmp_path))
        assert "2 nodes are up" in text
        assert "the cluster has gone on without: node3" in text
        assert "2 nodes are up; all ran already" in said(ouro("up", cwd=tmp_path))
        assert "3 nodes are up" in said(ouro("up", "--nodes", 3, cwd=tmp_path))
        assert [pid is not None for pid in pids(folder)] == [True, True, True]
        assert sorted(one["address"].partition(":")[0] for one in status(tmp_path)["members"]) == [
            "127.0.0.1", "127.0.0.2", "127.0.0.4",
        ]  # fmt: skip
        said(ouro("down", cwd=tmp_path))
        shutil.rmtree(folder / "node3")
        assert "4 nodes are up" in said(ouro("up", cwd=tmp_path))
        assert len(status(tmp_path)["members"]) == 4
    finally:
        ouro("down", "--kill", cwd=tmp_path)


def test_up_that_is_interrupted_says_how_to_go_on(tmp_path: Path) -> None:
    command = [*COMMAND, "up", "--nodes", "2", *ports(free_ports()), "--", "--gossip-ms=60000"]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True)
    until(lambda: (tmp_path / "ouro-ring" / "node2.pid").exists())
    process.send_signal(signal.SIGINT)
    _, words = process.communicate(timeout=PATIENCE_S)
    try:
        assert process.returncode in (0, 130)
        assert process.returncode == 0 or "no node runs" in words
        assert process.returncode == 0 or not list((tmp_path / "ouro-ring").glob("*.pid"))
    finally:
        ouro("down", "--kill", cwd=tmp_path)
