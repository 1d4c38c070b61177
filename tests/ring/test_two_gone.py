"""More nodes are gone than a quorum can miss. If these fail, a ring that promises to answer at ONE falls silent, two
sides of a cut tell clients what isn't so, or the copies never become equal again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import cycle, pairwise

import pytest
from cassandra import ConsistencyLevel as Level
from cassandra import Unavailable
from cassandra.cluster import ResponseFuture, Session
from cassandra.metadata import Metadata
from cassandra.query import PreparedStatement
from tests.nodes import NodeProcess
from tests.ring.namespaces import Network
from tests.ring.ring import Ring, connect_to, eventually, new_keyspace, states

KEYS = 60
NODES_OF_SPLIT = 5
TABLE = "CREATE TABLE t (id int PRIMARY KEY, v int)"


class Client:
    """Statements of one session that is with one node."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._insert = session.prepare("INSERT INTO t (id, v) VALUES (?, ?)")
        self._read = session.prepare("SELECT v FROM t WHERE id = ?")

    def write(self, key: int, value: int, level: int) -> None:
        self.write_async(key, value, level).result()

    def read(self, key: int, level: int) -> int | None:
        row = self.read_async(key, level).result().one()
        return None if row is None else row.v

    def write_async(self, key: int, value: int, level: int) -> ResponseFuture:
        return self._send(self._insert, (key, value), level)

    def read_async(self, key: int, level: int) -> ResponseFuture:
        return self._send(self._read, (key,), level)

    def _send(self, statement: PreparedStatement, values: tuple[int, ...], level: int) -> ResponseFuture:
        bound = statement.bind(values)
        bound.consistency_level = level
        return self.session.execute_async(bound)


@pytest.fixture
def session(frail_ring: Ring) -> Iterator[Session]:
    """With the first node, in a keyspace with three copies."""
    session = connect_to(frail_ring.nodes[0])
    session.set_keyspace(new_keyspace(session))
    session.execute(TABLE)
    yield session
    session.cluster.shutdown()


def wait_until_held(node: NodeProcess, keyspace: str, values: Mapping[int, int]) -> None:
    """Until a node has these values by key itself: nobody else is asked."""
    session = connect_to(node, keyspace)
    client = Client(session)
    eventually(
        lambda: all(client.read(key, Level.ONE) == value for key, value in values.items()),
        f"{node.host} has the newest of all {len(values)} keys",
    )
    session.cluster.shutdown()


def unavailable(attempt: Callable[[], object]) -> tuple[int, int]:
    with pytest.raises(Unavailable) as caught:
        attempt()
    return caught.value.required_replicas, caught.value.alive_replicas


@pytest.mark.parametrize("how", ["kill", "pause"])
def test_one_of_three_is_left(frail_ring: Ring, session: Session, how: str) -> None:
    """It answers at ONE all the time; QUORUM is refused; what it took is everywhere once the others are back."""
    gone = frail_ring.nodes[1:]
    client = Client(session)
    for key in range(KEYS):
        client.write(key, 1, Level.ALL)
    for node in gone:
        getattr(node, how)()
    # Nobody knows it yet, and ONE goes on.
    started = time.monotonic()
    for key in range(KEYS):
        client.write(key, 2, Level.ONE)
        assert client.read(key, Level.ONE) == 2
    print(f"{2 * KEYS} requests at ONE took {time.monotonic() - started:.2f} s just after the fault")
    frail_ring.wait_until_down(*gone)
    for key in range(KEYS):
        client.write(key, 3, Level.ONE)
        assert client.read(key, Level.ONE) == 3
        assert unavailable(lambda key=key: client.write(key, 4, Level.QUORUM)) == (2, 1)
        assert unavailable(lambda key=key: client.read(key, Level.QUORUM)) == (2, 1)
    client.write(KEYS, 3, Level.ANY)
    frail_ring.heal()
    for node in frail_ring.nodes:
        wait_until_held(node, session.keyspace, dict.fromkeys(range(KEYS + 1), 3))


def replicas_of(metadata: Metadata, keyspace: str, key: int) -> set[str]:
    """Their hosts, as the driver has them."""
    return {host.address for host in metadata.get_replicas(keyspace, key.to_bytes(4, "big"))}


class Steady:
    """Writes and reads at one level, so many a second whatever becomes of those before, until it is stopped.

    Attributes:
        done_s: when one was done.
        sent: how many there were.
    """

    def __init__(self, client: Client, keys: list[int], level: int) -> None:
        self.done_s: list[float] = []
        self.sent = 0
        self._client = client
        self._keys = cycle(keys)
        self._level = level
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()
        self.done_s.sort()

    def _work(self) -> None:
        while not self._stopped.wait(0.02):
            key = next(self._keys)
            for future in (
                self._client.write_async(key, 0, self._level),
                self._client.read_async(key, self._level),
            ):
                self.sent += 1
                future.add_callbacks(self._note, lambda error: None)

    def _note(self, rows: object) -> None:
        self.done_s.append(time.monotonic())


def test_both_sides_of_a_cut(network: Callable[[int], Network], make_ring: Callable[..., Ring]) -> None:
    """Five nodes, cut in three and two: each side serves at ONE what it has a copy of, says the right numbers at
    QUORUM, and takes anything at ANY; in the end every copy is the newest."""
    ring = make_ring(NODES_OF_SPLIT, network=network(NODES_OF_SPLIT)).start()
    assert ring.network is not None
    sides = [ring.nodes[:3], ring.nodes[3:]]
    sessions = [connect_to(side[0]) for side in sides]
    keyspace = new_keyspace(sessions[0])
    for session in sessions:
        session.set_keyspace(keyspace)
    sessions[0].execute(TABLE)
    clients = [Client(session) for session in sessions]
    hosts = [{node.host for node in side} for side in sides]
    metadata = sessions[0].cluster.metadata
    keys: list[list[int]] = [[] for _ in range(4)]
    """By how many of their copies are on the first side."""
    for key in range(KEYS):
        replicas = replicas_of(metadata, keyspace, key)
        assert len(replicas) == 3
        keys[len(replicas & hosts[0])].append(key)
        clients[0].write(key, 0, Level.ALL)
    # With three nodes on one side no key has all its copies on the other.
    assert all(keys[count] for count in (1, 2, 3)), keys

    served = [keys[1] + keys[2] + keys[3], keys[1] + keys[2]]
    steady = [Steady(client, some, Level.ONE) for client, some in zip(clients, served, strict=True)]
    time.sleep(0.5)
    struck_s = time.monotonic()
    ring.network.split([node.host for node in sides[0]], [node.host for node in sides[1]])
    for side, other in (sides, sides[::-1]):
        for node in side:
            eventually(
                lambda node=node, other=other: all(
                    not up for host, up in states(node).items() if host in {one.host for one in other}
                ),
                f"{node.host} knows that the other side is gone",
            )
    known_s = time.monotonic()
    time.sleep(1)
    for one in steady:
        one.stop()
    print(f"the cut was known everywhere after {known_s - struck_s:.1f} s")
    for one in steady:
        times = [struck_s + 1, *(done for done in one.done_s if done > struck_s + 1), known_s + 1]
        longest_s = max(late - early for early, late in pairwise(times))
        print(
            f"{len(one.done_s)} of {one.sent} were done; the longest time without one was {longest_s:.2f} s"
        )
        assert longest_s < 2

    for number, client in enumerate(clients):
        for count, some in enumerate(keys):
            alive = count if number == 0 else 3 - count
            for key in some:
                if alive:
                    client.write(key, 1000 + number, Level.ONE)
                    assert client.read(key, Level.ONE) == 1000 + number
                else:
                    assert unavailable(lambda k=key, c=client: c.write(k, 0, Level.ONE)) == (1, 0)
                    assert unavailable(lambda k=key, c=client: c.read(k, Level.ONE)) == (1, 0)
                if alive >= 2:
                    client.write(key, 2000 + number, Level.QUORUM)
                    assert client.read(key, Level.QUORUM) == 2000 + number
                else:
                    assert unavailable(lambda k=key, c=client: c.write(k, 0, Level.QUORUM)) == (2, alive)
                    assert unavailable(lambda k=key, c=client: c.read(k, Level.QUORUM)) == (2, alive)
    # The newest value of all is one that the smaller side took, with or without a copy of its own.
    for key in range(KEYS):
        clients[1].write(key, 3000 + key, Level.ANY)
    ring.network.heal()
    ring.wait_until_whole()
    for node in ring.nodes:
        mine = [key for key in range(KEYS) if node.host in replicas_of(metadata, keyspace, key)]
        wait_until_held(node, keyspace, {key: 3000 + key for key in mine})
    for session in sessions:
        session.cluster.shutdown()
