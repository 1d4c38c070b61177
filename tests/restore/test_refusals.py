"""What can't be restored is told in one line, and nothing is changed."""

from __future__ import annotations

import http.client
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.durability.folders import data_files, flip
from tests.restore.commands import answer, into, ouro, ouro_here, refusal
from tests.restore.conftest import Source
from tests.restore.everything import run

from ourodb import limits
from ourodb.cql.wire.codes import Consistency
from ourodb.restoring import BringKeyspace, encode_keyspace, encode_rows
from ourodb.schema.restoration import definition_of
from ourodb.schema.snapshot import decode_schema, encode_schema
from ourodb.schema.system import initial_schema
from ourodb.storage.mutation import Mutation
from ourodb.storage.snapshot import MANIFEST, SCHEMA, STORE, digest
from ourodb.testing.ring import Ring


@pytest.fixture
def copy(source: Source, tmp_path: Path) -> Path:
    """A copy of the snapshot, to be damaged."""
    folder = tmp_path / "copy"
    shutil.copytree(source.snapshot, folder)
    return folder


@pytest.fixture(autouse=True)
def nothing_changes(target: Ring) -> Iterator[None]:
    """Whatever is refused leaves the cluster as it was."""
    before = keyspaces(target)
    yield
    assert keyspaces(target) == before


def keyspaces(target: Ring) -> list[str]:
    rows = run(target.session, "SELECT keyspace_name FROM system_schema.keyspaces", level=1)
    return sorted(row.keyspace_name for row in rows)


def flip_data(folder: Path) -> None:
    victim = data_files(folder / STORE)[0]
    flip(victim, victim.stat().st_size // 2)


def flip_unseen(folder: Path) -> None:
    """The manifest agrees: what was copied was damaged already."""
    flip_data(folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    for entry in manifest["files"]:
        entry["sha256"] = digest(folder / entry["path"])
    (folder / MANIFEST).write_text(json.dumps(manifest))


def lose_data(folder: Path) -> None:
    data_files(folder / STORE)[0].unlink()


def flip_schema(folder: Path) -> None:
    flip(folder / SCHEMA, 100)


def flip_manifest(folder: Path) -> None:
    flip(folder / MANIFEST, 0)


@pytest.mark.parametrize("damage", [flip_data, flip_unseen, lose_data, flip_schema, flip_manifest])
def test_a_damaged_snapshot(target: Ring, copy: Path, damage: Callable[[Path], None]) -> None:
    """Broken, damage in a backup becomes damage in the database, or half of it is restored."""
    damage(copy)
    assert "damaged" in refusal(ouro("restore", str(copy), *into(target), "--replication", "3"))


def test_a_snapshot_stays_as_it_was(source: Source, target: Ring) -> None:
    """Broken, looking at a backup is what destroys it."""
    before = contents(Path(source.snapshot))
    refusal(
        ouro_here("restore", source.snapshot, *into(target), "--replication", "3", "--consistency", "SERIAL")
    )
    answer(ouro("restore", source.snapshot, *into(source.ring), "--merge", "--json"))
    assert contents(Path(source.snapshot)) == before


def contents(folder: Path) -> dict[str, tuple[int, str]]:
    return {
        str(path): (path.stat().st_mtime_ns, digest(path)) for path in folder.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--keyspace", "nothing"], "has no keyspace nothing; it has"),
        (["--keyspace", "system_traces"], "has no keyspace system_traces"),
        (["--keyspace", "shop=a b"], "alphanumeric"),
        (["--keyspace", "shop=system_auth"], "belongs to the system"),
        (["--keyspace", "shop=x", "--keyspace", "shop=x"], "both be called x"),
        (["--replication", "{'class': 'NetworkTopologyStrategy', 'nowhere': 1}"], "nowhere"),
        (["--replication", "{'class': 'NoSuchStrategy'}"], "NoSuchStrategy"),
        (["--replication", "many"], "isn't a map of CREATE KEYSPACE"),
        (["--replication", "{'class': 'SimpleStrategy'} AND durable_writes = false"], "isn't a map"),
        (["--consistency", "MOST"], "'MOST' is no consistency level"),
        (["--consistency", "SERIAL"], "conditional"),
        (["--replication", "5", "--consistency", "ALL"], "3 of 5 replicas are up"),
        (["--resume-at", "shop"], "isn't KEYSPACE.TABLE:TOKEN"),
        (["--resume-at", "shop.counts:²"], "isn't KEYSPACE.TABLE:TOKEN"),
        (["--resume-at", f"shop.counts:{'9' * 5_000}"], "isn't KEYSPACE.TABLE:TOKEN"),
        (["--resume-at", "shop.nothing:1"], "no table shop.nothing"),
        (["--resume-at", "shop.counts:1", "--replication", "3"], "no keyspace shop"),
        (["--replication", "²"], "isn't a map of CREATE KEYSPACE"),
    ],
)
def test_what_does_not_fit(source: Source, target: Ring, options: list[str], why: str) -> None:
    """Broken, a mistake is told after half of the work, by a traceback, or not at all."""
    assert why in refusal(ouro_here("restore", source.snapshot, *into(target), *options))


def test_who_is_asked(source: Source, target: Ring, tmp_path: Path) -> None:
    """As above, of addresses and folders."""
    ring = target.nodes[0]
    nobody = "127.0.0.1:1"
    for arguments, why in [
        ([source.snapshot, "--into", nobody], "no node answers"),
        ([source.snapshot, "--into", "here"], "isn't HOST:PORT"),
        ([source.snapshot, "--into", f"{ring.address}:{ring.port}"], "is no admin port"),
        ([source.snapshot, *into(target), *into(source.ring)], "different clusters"),
        ([str(tmp_path), *into(target)], "is no snapshot"),
        ([source.snapshot], "say where to"),
        ([source.snapshot, *into(target), "--data", str(tmp_path / "new")], "say where to"),
        ([source.snapshot, source.snapshot, "--data", str(tmp_path / "new")], "takes one snapshot"),
    ]:
        assert why in refusal(ouro_here("restore", *arguments)), why


def post(target: Ring, path: str, body: bytes, length: int | None = None) -> tuple[int, dict[str, Any]]:
    host, _, port = target.nodes[0].admin.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    try:
        connection.putrequest("POST", path)
        connection.putheader("Content-Length", str(len(body) if length is None else length))
        connection.endheaders()
        connection.send(body)
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())
    finally:
        connection.close()


def test_bodies_that_are_nonsense(source: Source, target: Ring) -> None:
    """Broken, whoever speaks to the admin port by mistake changes something, or ends the node."""
    shop = decode_schema((Path(source.snapshot) / SCHEMA).read_bytes()).keyspaces["shop"]
    definition = definition_of(shop)
    quorum = int(Consistency.QUORUM)
    system = Mutation(1, bytes(8) + b"\x00\x01k", [(b"\x40", b"\x01" * 40)])
    unknown = Mutation(1_000_000_000, bytes(8) + b"\x00\x01k", [(b"\x40", b"\x01" * 40)])
    good = encode_rows(quorum, [])
    for path, body, status, why in [
        ("/restore/keyspace", b"", 400, "can't be read"),
        ("/restore/keyspace", b"{}", 400, "can't be read"),
        ("/restore/keyspace", encode_keyspace(BringKeyspace(b"", "QUORUM")), 400, "can't be read"),
        (
            "/restore/keyspace",
            encode_keyspace(BringKeyspace(definition[:-9], "QUORUM")),
            400,
            "can't be read",
        ),
        (
            "/restore/keyspace",
            encode_keyspace(BringKeyspace(encode_schema(initial_schema()), "QUORUM")),
            400,
            "can't be read",
        ),
        ("/restore/rows", b"", 400, "isn't a batch"),
        ("/restore/rows", b"\x02" + good[1:], 400, "isn't a batch"),
        ("/restore/rows", good + b"x", 400, "damaged on its way"),
        ("/restore/rows", encode_rows(quorum, [b"x" * 9]), 400, "can't be read"),
        ("/restore/rows", encode_rows(quorum, [system.encode()]), 400, "belongs to the system"),
        ("/restore/rows", encode_rows(quorum, [unknown.encode()]), 503, "hasn't heard of the table"),
    ]:
        found, reply = post(target, path, body)
        assert (found, why in reply["error"]) == (status, True), (path, body[:20], found, reply)
    assert post(target, "/restore/rows", good) == (200, {"mutations": 0})
    status, _ = post(target, "/restore/rows", b"", limits.RESTORE_UPLOAD_BYTES_MAX + 1)
    assert status == 413


def test_more_at_a_time_than_a_node_takes(target: Ring) -> None:
    """Broken, many restores at a time take all the memory of a node."""
    host, _, port = target.nodes[0].admin.rpartition(":")
    waiting = [
        http.client.HTTPConnection(host, int(port), timeout=60) for _ in range(limits.RESTORE_UPLOADS_MAX)
    ]
    for connection in waiting:
        connection.putrequest("POST", "/restore/rows")
        connection.putheader("Content-Length", "100")
        connection.endheaders()
        connection.send(b"some")
    # The node may not have read all of their heads yet; soon there is no room left.
    enough = threading.Event()
    while post(target, "/restore/rows", encode_rows(int(Consistency.ONE), []))[0] != 503:
        enough.wait(0.05)
    for connection in waiting:
        connection.close()
    while post(target, "/restore/rows", encode_rows(int(Consistency.ONE), []))[0] != 200:
        enough.wait(0.05)
