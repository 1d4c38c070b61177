"""A node whose keys aren't in memory: all that clients ask of it comes later, and is right.

Broken, a node is right as long as its data are small, and wrong, or stuck, once they outgrow the memory.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.hostile.raw import Raw, bound
from tests.nodes import free_port

from ourodb.config import Config
from ourodb.cql.wire.client_messages import Rows, decode_response, encode_query
from ourodb.cql.wire.codes import QUERY
from ourodb.daemon import Daemon
from ourodb.errors import RequestError

KEYS = 1_500
VALUE_BYTES = 3_000
LARGE_BYTES = 1 << 20
AT_ONCE = 200
STOP_SECONDS_MAX = 60
LATERS_MIN = 5

SCHEMA = (
    "CREATE KEYSPACE c WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
    "CREATE TABLE c.rows (k int PRIMARY KEY, v blob, n int, l list<int>)",
    "CREATE TABLE c.plain (k int PRIMARY KEY, v blob, n int)",
    "CREATE TABLE c.wide (p int, c int, v blob, n int, s int static, PRIMARY KEY (p, c))",
    "CREATE TABLE c.counts (k int PRIMARY KEY, n counter)",
)


class NodeInThread:
    """A node in a thread of this process, so that a test can reach into its store.

    Attributes:
        daemon: once started.
    """

    def __init__(self, data: Path, *, cold: bool) -> None:
        self.config = Config(
            data=str(data), cql_port=free_port(), peer_port=free_port(), admin_port=free_port(), cache_mb=1
        )
        self._cold = cold
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="node")
        self.daemon: Daemon

    def __enter__(self) -> NodeInThread:
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(STOP_SECONDS_MAX)
        assert not self._thread.is_alive()

    @property
    def address(self) -> tuple[str, int]:
        return self.config.listen, self.daemon.cql_port

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as error:
            self._failure = error
        finally:
            self._started.set()
            self._loop.close()

    async def _serve(self) -> None:
        self.daemon = Daemon(self.config, self._loop)
        self.daemon.store.always_cold = self._cold
        try:
            await self.daemon.start()
            self._started.set()
            await self._stop.wait()
        finally:
            await self.daemon.stop()


class Clients:
    """A few connections, each of which has many requests in flight."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._connections = [Raw(address) for _ in range(4)]

    def close(self) -> None:
        for connection in self._connections:
            connection.socket.close()

    def ask(self, statements: Sequence[str | tuple[str, Sequence[bytes]]]) -> list[Any]:
        """All at once, over all connections; the answers in order of the statements."""
        answers: list[Any] = []
        for start in range(0, len(statements), AT_ONCE):
            answers += self._ask(statements[start : start + AT_ONCE])
        return answers

    def _ask(self, statements: Sequence[str | tuple[str, Sequence[bytes]]]) -> list[Any]:
        for number, statement in enumerate(statements):
            text, values = (statement, ()) if isinstance(statement, str) else statement
            wire = self._connections[number % len(self._connections)].wire
            wire.send(number, QUERY, encode_query(5, text, bound(values)))
        found: dict[int, Any] = {}
        for connection in self._connections:
            connection.flush()
        for at, connection in enumerate(self._connections):
            for _ in range(at, len(statements), len(self._connections)):
                stream, opcode, flags, body, _ = connection.next()
                found[stream] = decode_response(5, opcode, flags, body).message
        for number, answer in found.items():
            assert not isinstance(answer, RequestError), f"{statements[number]}: {answer!r}"
        return [found[number] for number in range(len(statements))]

    def rows(self, statement: str) -> list[list[bytes | None]]:
        (answer,) = self.ask([statement])
        assert isinstance(answer, Rows)
        return answer.rows


def number(value: int) -> bytes:
    return value.to_bytes(4, "big")


def value_of(key: int) -> bytes:
    return random.Random(key).randbytes(LARGE_BYTES if key % 500 == 7 else VALUE_BYTES)


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """The folder of a node with more data than its cache holds."""
    with NodeInThread(tmp_path / "data", cold=False) as node:
        clients = Clients(node.address)
        for statement in SCHEMA:
            clients.ask([statement])
        for start in range(0, KEYS, 100):
            keys = range(start, min(start + 100, KEYS))
            for table in ("rows", "plain"):
                insert = f"INSERT INTO c.{table} (k, v) VALUES (?, ?)"
                clients.ask([(insert, [number(key), value_of(key)]) for key in keys])
            insert = "INSERT INTO c.wide (p, c, v) VALUES (?, ?, ?)"
            clients.ask([(insert, [number(key // 10), number(key % 10), value_of(key)]) for key in keys])
            clients.ask([f"UPDATE c.counts SET n = n + 1 WHERE k = {key}" for key in keys])
        clients.close()
    return tmp_path / "data"


def test_everything_comes_later_and_is_right(filled: Path) -> None:
    draw = random.Random(1)
    keys = list(range(KEYS))

    def reads(clients: Clients) -> None:
        for table in ("rows", "plain"):
            draw.shuffle(keys)
            found = clients.ask([f"SELECT v FROM c.{table} WHERE k = {key}" for key in keys])
            assert [answer.rows for answer in found] == [[[value_of(key)]] for key in keys]
        wanted = [f"SELECT v FROM c.wide WHERE p = {key // 10} AND c = {key % 10}" for key in keys]
        found = clients.ask(wanted)
        assert [answer.rows for answer in found] == [[[value_of(key)]] for key in keys]
        missing = clients.ask([f"SELECT v FROM c.plain WHERE k = {-1 - key}" for key in keys])
        assert all(answer.rows == [] for answer in missing)

    def writes_that_merge(clients: Clients) -> None:
        """To many keys, and many to one key, in order of their timestamps or not."""
        draw.shuffle(keys)
        for table in ("rows", "plain"):
            clients.ask([f"UPDATE c.{table} SET n = {key} WHERE k = {key}" for key in keys])
            stamps = list(range(1, 100))
            draw.shuffle(stamps)
            clients.ask(
                [f"UPDATE c.{table} USING TIMESTAMP {stamp} SET n = {stamp} WHERE k = -5" for stamp in stamps]
            )
            assert clients.rows(f"SELECT n FROM c.{table} WHERE k = -5") == [[number(99)]]
        clients.ask([f"UPDATE c.rows SET l = l + [{round_}] WHERE k = 3" for round_ in range(50)])
        (((elements,),)) = clients.rows("SELECT l FROM c.rows WHERE k = 3")
        assert elements is not None
        assert int.from_bytes(elements[:4]) == 50

    def conditional_writes(clients: Clients) -> None:
        """Of many who want the same at once, one gets it."""
        for key in range(0, KEYS, 50):
            taken = clients.ask(
                [f"UPDATE c.plain SET n = {-owner} WHERE k = {key} IF n = {key}" for owner in range(1, 9)]
            )
            assert sum(answer.rows[0][0] == b"\x01" for answer in taken) == 1, key
            existing = clients.ask([f"INSERT INTO c.plain (k, n) VALUES ({key}, 1) IF NOT EXISTS"] * 3)
            assert all(answer.rows[0][0] == b"\x00" for answer in existing)

    def counters(clients: Clients) -> None:
        clients.ask([f"UPDATE c.counts SET n = n + 2 WHERE k = {key}" for key in keys])
        clients.ask(["UPDATE c.counts SET n = n + 1 WHERE k = 42"] * 100)
        found = dict(clients.rows("SELECT k, n FROM c.counts"))
        assert found == {number(key): (103 if key == 42 else 3).to_bytes(8, "big") for key in range(KEYS)}

    def batches(clients: Clients) -> None:
        """Several cold rows each, the large ones among them."""
        for start in range(0, KEYS, 500):
            changes = "".join(
                f"UPDATE c.plain SET n = 77 WHERE k = {key};" for key in range(start, start + 250)
            )
            clients.ask([f"BEGIN BATCH {changes} APPLY BATCH"])
        found = clients.rows("SELECT k FROM c.plain WHERE n = 77 ALLOW FILTERING")
        assert {int.from_bytes(key or b"") for (key,) in found} == {
            key for start in range(0, KEYS, 500) for key in range(start, start + 250)
        }

    def deletions(clients: Clients) -> None:
        clients.ask([f"DELETE FROM c.rows WHERE k = {key}" for key in range(0, KEYS, 3)])
        clients.ask([f"DELETE v FROM c.plain WHERE k = {key}" for key in range(0, KEYS, 3)])
        clients.ask([f"DELETE FROM c.wide WHERE p = {p} AND c >= 5" for p in range(KEYS // 10)])
        clients.ask([f"UPDATE c.wide SET s = {p} WHERE p = {p}" for p in range(KEYS // 10)])
        found = clients.ask([f"SELECT n FROM c.rows WHERE k = {key}" for key in keys])
        assert [bool(answer.rows) for answer in found] == [key % 3 != 0 for key in keys]

    def scans(clients: Clients) -> None:
        rows = dict(clients.rows("SELECT k, v FROM c.rows WHERE k > -1 ALLOW FILTERING"))
        assert rows == {number(key): value_of(key) for key in range(KEYS) if key % 3}
        plain = dict(clients.rows("SELECT k, v FROM c.plain WHERE k > -1 ALLOW FILTERING"))
        assert plain == {number(key): value_of(key) if key % 3 else None for key in range(KEYS)}
        for p in range(KEYS // 10):
            wide = clients.rows(f"SELECT c, s, v FROM c.wide WHERE p = {p}")
            assert wide == [[number(c), number(p), value_of(10 * p + c)] for c in range(5)]

    for act in (reads, writes_that_merge, conditional_writes, counters, batches, deletions):
        with NodeInThread(filled, cold=True) as node:
            clients = Clients(node.address)
            act(clients)
            clients.close()
            print(f"{act.__name__}: {node.daemon.store.laters} keys came later")
            assert node.daemon.store.laters > LATERS_MIN, act.__name__
    for cold in (True, False):
        with NodeInThread(filled, cold=cold) as node:
            clients = Clients(node.address)
            scans(clients)
            clients.close()
