"""Several connections write, the node is killed at a random moment, starts again, and has every acknowledged write."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from pathlib import Path

import pytest
from tests.nodes import NodeProcess

from ourodb.bench.client import Client
from ourodb.bench.options import BenchError

KILLS = 50
KILLS_WHILE_STARTING = 5
CLIENTS = 4
LOCKS = 1_000_000

SCHEMA = (
    "CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
    "CREATE TABLE k.rows (client int, n int, v text, PRIMARY KEY (client, n))",
    "CREATE TABLE k.latest (client int PRIMARY KEY, version int)",
    "CREATE TABLE k.counts (client int PRIMARY KEY, c counter)",
    "CREATE TABLE k.locks (n int PRIMARY KEY, owner int)",
)


class Writer:
    """One client, through all lives of the node.

    Attributes:
        rows: n to the text that is there for sure, None when it was deleted for sure.
        in_doubt: n to the two things that may be there: its statement had no answer when the node died.
        counted, versions: acknowledged, and asked for at most.
        won: locks that this client was told it has.
        checked: rows before this n were read after an earlier restart.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.rows: dict[int, str | None] = {}
        self.in_doubt: dict[int, tuple[str | None, str | None]] = {}
        self.counted = [0, 0]
        self.versions = [0, 0]
        self.won: list[int] = []
        self.next = 0
        self.checked = 0
        self.acknowledged = 0
        self.surprise: BaseException | None = None

    def write(self, client: Client, seed: str) -> None:
        """Until the node dies."""
        draw = random.Random(seed)
        try:
            while True:
                self._write_one(client, draw)
                self.acknowledged += 1
        except BenchError:
            pass
        except BaseException as error:
            self.surprise = error
        finally:
            client.close()

    def _write_one(self, client: Client, draw: random.Random) -> None:
        kind = draw.random()
        me = self.number
        if kind < 0.6:
            n, text = self.next, draw.randbytes(draw.randrange(1, 300)).hex()
            self.next += 1
            self._change(client, n, text, f"INSERT INTO k.rows (client, n, v) VALUES ({me}, {n}, '{text}')")
        elif kind < 0.7 and self.next > self.checked:
            n = draw.randrange(self.checked, self.next)
            self._change(client, n, None, f"DELETE FROM k.rows WHERE client = {me} AND n = {n}")
        elif kind < 0.8:
            self.versions[1] += 1
            client.query(f"INSERT INTO k.latest (client, version) VALUES ({me}, {self.versions[1]})")
            self.versions[0] = self.versions[1]
        elif kind < 0.9:
            self.counted[1] += 1
            client.query(f"UPDATE k.counts SET c = c + 1 WHERE client = {me}")
            self.counted[0] += 1
        else:
            n = draw.randrange(LOCKS)
            ((applied, *_),) = client.query(
                f"INSERT INTO k.locks (n, owner) VALUES ({n}, {me}) IF NOT EXISTS"
            )
            if applied == b"\x01":
                self.won.append(n)

    def _change(self, client: Client, n: int, text: str | None, statement: str) -> None:
        before = self.rows.pop(n, None)
        self.in_doubt[n] = (before, text)
        client.query(statement)
        del self.in_doubt[n]
        self.rows[n] = text

    def check(self, client: Client, *, everything: bool) -> None:
        """All that was acknowledged is there; what is in doubt is settled by what is found."""
        me, since = self.number, 0 if everything else self.checked
        cells = client.query(f"SELECT n, v FROM k.rows WHERE client = {me} AND n >= {since}")
        found = {int.from_bytes(n): v.decode() for n, v in cells}
        for n, choices in self.in_doubt.items():
            assert found.get(n) in choices
            self.rows[n] = found.get(n)
        self.in_doubt.clear()
        expected = {n: text for n, text in self.rows.items() if n >= since and text is not None}
        missing = [n for n in expected if n not in found]
        assert found == expected, f"acknowledged rows {missing} of client {me} are gone or changed"
        self.checked = self.next

        for bounds, statement in (
            (self.versions, f"SELECT version FROM k.latest WHERE client = {me}"),
            (self.counted, f"SELECT c FROM k.counts WHERE client = {me}"),
        ):
            cells = client.query(statement)
            value = int.from_bytes(cells[0][0]) if cells else 0
            assert bounds[0] <= value <= bounds[1], f"{statement} gives {value}, not one of {bounds}"
            bounds[0] = bounds[1] = value

        for n in self.won if everything else self.won[-20:]:
            assert client.query(f"SELECT owner FROM k.locks WHERE n = {n}") == [[me.to_bytes(4)]]


@pytest.mark.timeout(600)
def test_acknowledged_writes_survive_kill(tmp_path: Path) -> None:
    """Broken, a client was told that its write is safe, and it is gone after a crash of the process."""
    draw = random.Random(2026)
    # Small memtables, so that kills meet data files being written, too.
    node = NodeProcess(tmp_path / "data", "--durability", "group", "--memtable-mb", "1").start()
    try:
        _create(node)
        writers = [Writer(number) for number in range(CLIENTS)]
        for kill in range(KILLS):
            _write_until_killed(node, writers, kill, draw)
            if kill % (KILLS // KILLS_WHILE_STARTING) == 0:
                _kill_while_starting(node, draw)
            node.start()
            _check(node, writers, everything=kill == KILLS - 1)
        acknowledged = sum(writer.acknowledged for writer in writers)
        assert acknowledged > KILLS * CLIENTS
        print(f"{acknowledged} acknowledged writes over {KILLS} kills")
        assert node.stop() == 0
    finally:
        if node.alive():
            node.kill()


def _create(node: NodeProcess) -> None:
    client = Client((node.host, node.port))
    for statement in SCHEMA:
        client.query(statement)
    client.close()


def _write_until_killed(node: NodeProcess, writers: list[Writer], kill: int, draw: random.Random) -> None:
    threads = [
        threading.Thread(
            target=writer.write, args=(Client((node.host, node.port)), f"{kill} {writer.number}")
        )
        for writer in writers
    ]
    for thread in threads:
        thread.start()
    time.sleep(draw.uniform(0.01, 0.4))
    node.kill()
    for thread in threads:
        thread.join()
    for writer in writers:
        if writer.surprise is not None:
            raise writer.surprise


def _kill_while_starting(node: NodeProcess, draw: random.Random) -> None:
    process = subprocess.Popen(node.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(draw.uniform(0.2, 1.0))
    process.kill()
    process.wait()


def _check(node: NodeProcess, writers: list[Writer], *, everything: bool) -> None:
    client = Client((node.host, node.port))
    for writer in writers:
        writer.check(client, everything=everything)
    client.close()
