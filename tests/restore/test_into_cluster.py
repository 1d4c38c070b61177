"""Snapshots restored into running clusters of other shapes."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from cassandra import ConsistencyLevel
from tests.restore.between import Between, Forward
from tests.restore.commands import answer, into, ouro, refusal, snapshots_of
from tests.restore.conftest import Source
from tests.restore.everything import OLD_WRITES, assert_same, definition, run, view

from ourodb.testing import cluster
from ourodb.testing.ring import Ring

HINTS_SECONDS_MAX = 60


def test_one_node_to_three_and_back(source: Source, tmp_path: Path) -> None:
    """Broken, a backup comes back without some rows, with other times, or with what was deleted."""
    with cluster(nodes=3) as ring:
        report = answer(ouro("restore", source.snapshot, *into(ring), "--replication", "3", "--json"))
        assert report["warnings"] == []
        assert report["keyspaces"]["shop"]["tables"]["wide"]["records"] == 3_000
        assert_same(source.view, view(ring.session, "shop"))
        assert definition(ring.session, "shop") == source.definition
        # One copy of each row: every node has rows that no other has.
        replication = "{'class': 'NetworkTopologyStrategy', 'datacenter1': 1}"
        options = ["--keyspace", "shop=single", "--replication", replication, "--json"]
        answer(ouro("restore", source.snapshot, *into(ring, 1), *options))
        assert_same(source.view, view(ring.session, "single"))
        snapshots = snapshots_of(ring, "t", tmp_path)

    with cluster(nodes=1) as target:
        session = target.session
        sent = report["sent"]
        report = answer(ouro("restore", *snapshots, *into(target), "--replication", "1", "--json"))
        assert report["warnings"] == []
        # Both keyspaces; of one there were three copies, which are sent as one.
        assert report["sent"] == 2 * sent
        assert report["records"] > 1.9 * report["sent"]
        for keyspace in ("shop", "single"):
            assert_same(source.view, view(session, keyspace))
            assert definition(session, keyspace) == source.definition
        # One after the other: each but the first is added to what is there.
        one_by_one = ("--keyspace", "single=again", "--replication", "3", "--consistency", "ONE", "--json")
        for number, snapshot in enumerate(snapshots):
            merge = ["--merge"] if number else []
            report = answer(ouro("restore", snapshot, *into(target), *one_by_one, *merge))
            assert any(re.match(r"\d+% of the rows of keyspace single", one) for one in report["warnings"])
        assert_same(source.view, view(session, "again", ConsistencyLevel.ONE))
        # The deletions have come as well.
        session.set_keyspace("shop")
        for statement in OLD_WRITES:
            run(session, statement)
        assert_same(source.view, view(session, "shop"))


def test_a_keyspace_that_is_there(source: Source, target: Ring, name: str) -> None:
    """Broken, a restore runs into what is there, or can't be repeated."""
    options = ["restore", source.snapshot, *into(target, 0), "--keyspace", f"shop={name}", "--json"]
    assert answer(ouro(*options, "--replication", "3"))["keyspaces"][name]["created"]
    refused = refusal(ouro(*options))
    assert f"has a keyspace {name}" in refused
    assert "--merge" in refused
    report = answer(ouro(*options, "--merge", "--replication", "2"))
    assert not report["keyspaces"][name]["created"]
    assert any("stays as it is" in warning for warning in report["warnings"])
    assert_same(source.view, view(target.session, name))
    run(target.session, f"DROP TABLE {name}.empty")
    assert "has a table" in refusal(ouro(*options, "--merge"))


def test_rows_go_back_into_the_tables_that_they_were_taken_from(source: Source) -> None:
    """Broken, a node that lost rows can't get them back from its own snapshot without counting twice."""
    report = answer(ouro("restore", source.snapshot, *into(source.ring), "--merge", "--json"))
    assert report["records"] > 3_000
    assert_same(source.view, view(source.ring.session, "shop"))


def test_counting_goes_on_in_the_midst_of_it(source: Source, name: str) -> None:
    """Broken, increments of the node that made the snapshot take the place of the counts that are restored."""
    session = source.ring.session
    old = {(row.p, row.c): (row.n, row.s) for row in run(session, "SELECT * FROM shop.counts")}
    counted = []

    def count_first(number: int, forward: Forward) -> tuple[int, bytes]:
        if number == 1:
            run(session, f"UPDATE {name}.counts SET n = n + 1000 WHERE p = 1 AND c = 3")
            run(session, f"UPDATE {name}.counts SET s = s + 1000 WHERE p = 1")
            counted.append(number)
        return forward()

    with Between(source.ring.nodes[0].admin, count_first) as between:
        answer(
            ouro("restore", source.snapshot, "--into", between.admin, "--keyspace", f"shop={name}", "--json")
        )
    assert counted == [1]
    run(session, f"UPDATE {name}.counts SET n = n + 1 WHERE p = 1 AND c = 3")
    new = {(row.p, row.c): (row.n, row.s) for row in run(session, f"SELECT * FROM {name}.counts")}
    assert new == {(p, c): (n + (1001 if c == 3 else 0), s + 1000) for (p, c), (n, s) in old.items()}


def test_answers_that_are_lost(source: Source, target: Ring, name: str) -> None:
    """Broken, a bad network costs rows, or ends a restore that could go on."""

    def lose(number: int, forward: Forward) -> tuple[int, bytes] | None:
        if number % 4 == 1:
            return 503, json.dumps({"error": "not now"}).encode()
        answer = forward()
        return None if number % 4 == 3 else answer

    with Between(target.nodes[0].admin, lose) as between:
        options = ["--into", between.admin, "--keyspace", f"shop={name}", "--replication", "3", "--json"]
        report = answer(ouro("restore", source.snapshot, *options))
        assert report["retries"] > 2
        assert between.batches > report["retries"]
    assert_same(source.view, view(target.session, name))


def test_a_restore_that_broke_off_goes_on_where_it_ended(source: Source, target: Ring, name: str) -> None:
    """Broken, an interruption costs all that was done before, or the rows that were on their way."""
    options = ["--keyspace", f"shop={name}", "--replication", "3", "--json"]

    def break_off(number: int, forward: Forward) -> tuple[int, bytes]:
        return forward() if number < 5 else (400, json.dumps({"error": "enough"}).encode())

    with Between(target.nodes[0].admin, break_off) as between:
        refused = refusal(ouro("restore", source.snapshot, "--into", between.admin, *options))
    assert "enough" in refused
    found = re.search(r"--resume-at (\S+)$", refused)
    assert found is not None, refused
    report = answer(
        ouro("restore", source.snapshot, *into(target), *options[:2], "--resume-at", found[1], "--json")
    )
    whole = sum(len(rows) for rows in source.view.rows.values())
    assert 0 < report["records"] < whole
    assert_same(source.view, view(target.session, name))


def test_a_cluster_that_takes_nothing(source: Source, target: Ring, name: str) -> None:
    """Broken, a restore that can't go on hangs for ever, or doesn't say how to go on later."""
    not_now = json.dumps({"error": "not now"}).encode()
    with Between(target.nodes[0].admin, lambda number, forward: (503, not_now)) as between:
        options = ["--into", between.admin, "--keyspace", f"shop={name}", "--replication", "3"]
        refused = refusal(ouro("restore", source.snapshot, *options, "--patience", "1"))
    assert "nothing has arrived for 1 s" in refused
    assert "not now" in refused
    assert f"--resume-at {name}.Quoted:" in refused


def test_an_operator_who_has_waited_enough(source: Source, target: Ring, name: str) -> None:
    """Broken, Ctrl-C ends in a traceback, and nobody knows what has been restored."""
    begun, over = threading.Event(), threading.Event()

    def hold(number: int, forward: Forward) -> None:
        begun.set()
        over.wait(60)

    with Between(target.nodes[0].admin, hold) as between:
        options = ["--into", between.admin, "--keyspace", f"shop={name}", "--replication", "3"]
        command = [
            sys.executable,
            "-c",
            "from ourodb.cli import main; main()",
            "restore",
            source.snapshot,
            *options,
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert begun.wait(60)
            process.send_signal(signal.SIGINT)
            out, lines = process.communicate(timeout=60)
        over.set()
    assert (process.returncode, out) == (2, "")
    (line,) = lines.splitlines()
    assert line.startswith("ouro restore: interrupted")
    assert f"--resume-at {name}.Quoted:" in line


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_node_goes_in_the_midst_of_it(source: Source, target: Ring, name: str, how: str) -> None:
    """Broken, the loss of the node that is spoken to stops a restore, or it never gets what it missed; or a node that
    is told to stop waits for the restore.
    """
    node = target.nodes[2]
    end = threading.Thread(target=getattr(node, how))

    def end_it(number: int, forward: Forward) -> tuple[int, bytes]:
        if number == 1:
            end.start()
        return forward()

    def wait_for_it(number: int, forward: Forward) -> tuple[int, bytes]:
        return forward() if end.ident is not None else (503, json.dumps({"error": "not yet"}).encode())

    first, second = Between(node.admin, end_it), Between(target.nodes[0].admin, wait_for_it)
    try:
        with first, second:
            options = ["--into", first.admin, "--into", second.admin, "--keyspace", f"shop={name}"]
            answer(ouro("restore", source.snapshot, *options, "--replication", "3", "--json"))
        end.join()
        assert not node.is_running
    finally:
        target.make_whole()
    # Its own rows alone: hints bring what it missed, sooner or later.
    session = target.connect(node=2)
    until = time.monotonic() + HINTS_SECONDS_MAX
    while view(session, name, ConsistencyLevel.ONE).rows != source.view.rows and time.monotonic() < until:
        time.sleep(0.1)
    assert_same(source.view, view(session, name, ConsistencyLevel.ONE))


def wait_for_leader(ring: Ring) -> None:
    """Until one of the nodes that run leads the metadata log: the one that was killed may have led it."""
    deadline = time.monotonic() + 60
    while True:
        status = ring.nodes[0].status()
        up = {member["id"] for member in status["members"] if member["state"] == "UP"}
        if len(up) < len(ring.nodes) and status["leader"] in up:
            return
        assert time.monotonic() < deadline, status
        time.sleep(0.1)


def test_a_node_that_is_down_from_the_start(source: Source, target: Ring, name: str) -> None:
    """Broken, all nodes must be up for a restore to begin."""
    target.nodes[2].kill()
    wait_for_leader(target)
    try:
        options = ["--keyspace", f"shop={name}", "--replication", "3", "--json"]
        report = answer(ouro("restore", source.snapshot, *into(target), *options))
        assert any("no node answers" in warning for warning in report["warnings"])
    finally:
        target.make_whole()
    assert_same(source.view, view(target.session, name))


def test_what_was_dropped_or_emptied_since_stays_away(source: Source, tmp_path: Path, name: str) -> None:
    """Broken, of two snapshots the older one brings back what the newer one knows to be gone."""
    session = source.ring.session
    run(
        session,
        f"CREATE KEYSPACE {name} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}",
    )
    for table in ("kept", "emptied", "anew", "gone"):
        run(session, f"CREATE TABLE {name}.{table} (k int PRIMARY KEY)")
        run(session, f"INSERT INTO {name}.{table} (k) VALUES (1)")
    older = snapshots_of(source.ring, f"older_{name}", tmp_path)
    run(session, f"TRUNCATE {name}.emptied")
    run(session, f"DROP TABLE {name}.gone")
    run(session, f"DROP TABLE {name}.anew")
    run(session, f"CREATE TABLE {name}.anew (k int PRIMARY KEY)")
    for table in ("kept", "emptied", "anew"):
        run(session, f"INSERT INTO {name}.{table} (k) VALUES (2)")
    newer = snapshots_of(source.ring, f"newer_{name}", tmp_path)
    copy = f"{name}_copy"
    report = answer(
        ouro("restore", *older, *newer, *into(source.ring), "--keyspace", f"{name}={copy}", "--json")
    )
    assert [one for one in report["warnings"] if "left out" in one] == [
        f"rows of {name}.{table} in {older[0]} are left out: the table was truncated or made anew since"
        for table in ("anew", "emptied")
    ]
    found = {
        table: sorted(row.k for row in run(session, f"SELECT k FROM {copy}.{table}"))
        for table in report["keyspaces"][copy]["tables"]
    }
    assert found == {"kept": [1, 2], "emptied": [2], "anew": [2]}
