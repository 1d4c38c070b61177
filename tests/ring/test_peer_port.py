"""Strangers and impostors at the peer port of a working ring. If these fail, whoever reaches that port can read or
change data, bring nodes down, or make them believe lies about each other.
"""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from uuid import UUID, uuid4

import pytest
from cassandra import ConsistencyLevel as Level
from cassandra.cluster import Session
from cassandra.query import SimpleStatement
from tests.nodes import NodeProcess
from tests.ring.impostor import Impostor, exchange
from tests.ring.ring import PEER_PORT, SECRET, Ring, connect, eventually, new_keyspace, states

from ourodb import limits
from ourodb.cluster.gossip.messages import NOBODY, Syn, encode
from ourodb.cluster.gossip.state import Delta
from ourodb.peer.connection import PeerConnection
from ourodb.peer.faults import OtherCluster, Refused, WrongSecret
from ourodb.peer.handshake import HEADER, MAGIC, NONCE_BYTES, Kind, PeerIdentity, Role
from ourodb.peer.messages import Verb
from ourodb.ports import DATA, Address

HELLO_BYTES = HEADER.size + 2 + NONCE_BYTES
MEMORY_MIB_MAX = 64
"""More than before, after the worst of garbage."""
DAY_S = 86_400


def peer_address(node: NodeProcess) -> Address:
    return node.host, node.peer_port


class Steady:
    """Writes and reads at QUORUM all the time; what failed is told at the end."""

    def __init__(self, session: Session) -> None:
        keyspace = new_keyspace(session)
        session.execute(f"CREATE TABLE {keyspace}.t (id int PRIMARY KEY, v int)")
        self.count = 0
        self.failures: list[Exception] = []
        self._write = session.prepare(f"INSERT INTO {keyspace}.t (id, v) VALUES (?, ?)")
        self._read = session.prepare(f"SELECT v FROM {keyspace}.t WHERE id = ?")
        self._write.consistency_level = self._read.consistency_level = Level.QUORUM
        self._session = session
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._stopped.wait(0.01):
            try:
                self._session.execute(self._write, (self.count % 10, self.count))
                row = self._session.execute(self._read, (self.count % 10,)).one()
                assert row.v == self.count
            except Exception as error:
                self.failures.append(error)
            self.count += 1


@pytest.fixture
def unharmed(ring: Ring, session: Session) -> Iterator[None]:
    """Clients notice nothing, no node dies or grows, all stay up for each other, and the schema still changes."""
    before = [node.memory_mib() for node in ring.nodes]
    steady = Steady(session)
    yield
    count = steady.count
    eventually(lambda: steady.count > count + 20, "clients go on")
    steady.stop()
    assert steady.failures == []
    for node, memory_mib in zip(ring.nodes, before, strict=True):
        assert node.alive(), node.output
        assert all(states(node).values())
        assert node.memory_mib() < memory_mib + MEMORY_MIB_MAX
        assert "Traceback" not in node.output
    new_keyspace(session)


def garbage(draw: random.Random) -> Iterator[bytes]:
    """What strangers send."""
    yield b""
    yield b"GET / HTTP/1.1\r\nHost: ring\r\n\r\n"
    yield b"\x04\x00\x00\x00\x05\x00\x00\x00\x00"
    yield b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + draw.randbytes(500)
    yield MAGIC * 1000
    yield draw.randbytes(1 << 20)
    hello = PeerConnection(
        Role.INITIATOR, PeerIdentity(uuid4(), ("127.0.0.9", 1), "x"), b"", draw.randbytes(NONCE_BYTES)
    ).take_outgoing()
    assert len(hello) == HELLO_BYTES
    for _ in range(60):
        changed = bytearray(hello)
        for _ in range(draw.randrange(1, 4)):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        yield bytes(changed)
    for end in range(1, HELLO_BYTES, 5):
        yield hello[:end]
    for kind in Kind:
        for role in Role:
            yield HEADER.pack(MAGIC, role, kind, 40) + draw.randbytes(72)
            yield hello + HEADER.pack(MAGIC, role, kind, 40) + draw.randbytes(72)
            yield HEADER.pack(MAGIC, role, kind, 0xFFFF) + draw.randbytes(0xFFFF)


@pytest.mark.usefixtures("unharmed")
def test_garbage(ring: Ring) -> None:
    """Gets nothing but a HELLO at most, which names neither node nor cluster, and a DENIAL."""
    refused = ring.nodes[0].metrics()["ouro_peer_handshakes_refused"]
    answers = [
        exchange(peer_address(node), data, close_after=True)
        for data in garbage(random.Random(3))
        for node in ring.nodes[:1]
    ]
    for answer in answers:
        assert len(answer) <= HELLO_BYTES + HEADER.size, answer
        assert not answer or answer.startswith(MAGIC)
        for node in ring.nodes:
            assert node.host.encode() not in answer
        assert b"OuroDB" not in answer
    assert ring.nodes[0].metrics()["ouro_peer_handshakes_refused"] > refused


def test_many_who_say_nothing(frail_ring: Ring) -> None:
    """Connections that are held open don't keep nodes from each other, and are closed one day."""
    node = frail_ring.nodes[1]
    count = 4 * limits.PEER_UNAUTHENTICATED_CONNECTIONS_MAX
    silent = [socket.create_connection(peer_address(node)) for _ in range(count)]
    # A node that restarts meanwhile is let in all the same.
    frail_ring.nodes[2].stop()
    frail_ring.heal()
    for one in silent:
        one.settimeout(limits.PEER_HANDSHAKE_MS_MAX / 1000 + 10)
        with suppress(ConnectionResetError):
            assert one.recv(100) == b""
        one.close()


@pytest.mark.usefixtures("unharmed")
def test_without_the_secret(ring: Ring) -> None:
    """Whoever doesn't know it is told so, and nothing else, whomever he claims to be."""
    members = ring.nodes[0].admin("status")["members"]
    for secret in ("", SECRET.upper(), SECRET + " "):
        for host_id in (uuid4(), UUID(members[1]["host_id"])):
            stranger = Impostor(peer_address(ring.nodes[0]), secret, host_id, ("127.0.0.1", 7))
            assert not stranger.is_welcome
            assert isinstance(stranger.connection.error, WrongSecret)
            assert len(stranger.received) == HELLO_BYTES + HEADER.size
            stranger.close()


@pytest.mark.usefixtures("unharmed")
def test_of_another_cluster(ring: Ring) -> None:
    """A node of a cluster of the same secret with another name, or another id, is told why it isn't welcome."""
    for name, id in (("Other", None), ("OuroDB", uuid4())):
        stranger = Impostor(
            *(peer_address(ring.nodes[0]), SECRET, uuid4(), ("127.0.0.1", 7)),
            cluster_name=name,
            cluster_id=id,
        )
        assert not stranger.is_welcome
        assert isinstance(stranger.connection.error, OtherCluster | Refused)
        assert "cluster" in str(stranger.connection.error)
        stranger.close()


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize(
    "what",
    [
        "its address, another id",
        "its id, another address",
    ],
)
def test_forged_host_ids(ring: Ring, what: str) -> None:
    """Even with the secret: nobody takes the place of a node that is up, by its address or by its id."""
    victim = ring.nodes[2]
    status = ring.nodes[0].admin("status")
    host_id = next(UUID(one["host_id"]) for one in status["members"] if one["address"] == victim.address)
    before = ring.nodes[0].admin("gossip")
    claimed = {
        "its address, another id": (uuid4(), peer_address(victim)),
        "its id, another address": (host_id, (victim.host[:-1] + "9", PEER_PORT)),
    }[what]
    stranger = Impostor(
        *(peer_address(ring.nodes[0]), SECRET, *claimed), cluster_id=UUID(status["cluster_id"])
    )
    stranger.close()
    assert not stranger.is_welcome
    after = ring.nodes[0].admin("gossip")
    generations = [{node["id"]: node["generation"] for node in one["nodes"]} for one in (before, after)]
    assert generations[0] == generations[1]


def test_lies_about_nodes(frail_ring: Ring) -> None:
    """A member that lies: of whom a message is, or which generation a node is of. It is refused, counted, and the node
    that it lied about is up as soon as it is back.
    """
    honest, other, dead = frail_ring.nodes
    status = honest.admin("status")
    members = {member["address"]: member for member in status["members"]}
    dead.kill()
    frail_ring.wait_until_down(dead)
    member = members[dead.address]
    liar = Impostor(
        *(peer_address(honest), SECRET, UUID(member["host_id"]), peer_address(dead)),
        cluster_id=UUID(status["cluster_id"]),
    )
    assert liar.is_welcome
    now_s = int(time.time())
    epoch = status["epoch"]

    def syn(sender: int, generation: int) -> bytes:
        own = Delta(sender, generation, 1, 0, 1, {"epoch": (1, epoch)})
        return encode(Syn(sender, 0, own, NOBODY))

    victim = members[other.address]["id"]
    generations = {node["id"]: node["generation"] for node in honest.admin("gossip")["nodes"]}
    lies = [
        syn(victim, now_s + 100),
        syn(99, now_s),
        syn(member["id"], now_s + 2 * limits.GENERATION_AHEAD_SECONDS_MAX),
        syn(member["id"], 1 << 47),
    ]
    liar.send(Verb.GOSSIP, lies)
    liar.send(Verb.GOSSIP, [os.urandom(200), b"", b"\x01", b"\x09abc"])
    eventually(lambda: sum(honest.admin("gossip")["refusals"].values()) >= len(lies), "all lies are refused")
    refusals = honest.admin("gossip")["refusals"]
    assert refusals["wrong sender"] >= 1
    assert refusals["future generation"] >= 2
    after = {node["id"]: node["generation"] for node in honest.admin("gossip")["nodes"]}
    assert after == generations
    liar.close()
    frail_ring.heal()
    session = connect(frail_ring.nodes)
    keyspace = new_keyspace(session)
    session.execute(f"CREATE TABLE {keyspace}.t (id int PRIMARY KEY)")
    query = SimpleStatement(f"INSERT INTO {keyspace}.t (id) VALUES (1)", consistency_level=Level.ALL)
    eventually(lambda: session.execute(query) is not None, "all replicas take writes")
    session.cluster.shutdown()


def test_a_member_that_talks_nonsense(frail_ring: Ring) -> None:
    """Every verb with bodies that make no sense, from somebody who is admitted: nobody dies of it."""
    honest, _, dead = frail_ring.nodes
    status = honest.admin("status")
    (member,) = (member for member in status["members"] if member["address"] == dead.address)
    dead.kill()
    frail_ring.wait_until_down(dead)
    draw = random.Random(5)
    bodies = [b"", b"\x00", b"\xff" * 64, draw.randbytes(20), draw.randbytes(1000), b"\x80", b"\xc1"]
    for lane in (DATA, 0, 2):
        liar = Impostor(
            *(peer_address(honest), SECRET, UUID(member["host_id"]), peer_address(dead)),
            cluster_id=UUID(status["cluster_id"]),
            lane=lane,
        )
        assert liar.is_welcome
        for verb in [*Verb, 0, 99, 255]:
            liar.send(verb, bodies, epoch=status["epoch"])
        liar.send(Verb.GOSSIP, [b"x"], epoch=(1 << 32) - 1, clock_us=(1 << 64) - 1)
        liar.close()
    time.sleep(1)
    assert honest.alive()
    assert "Traceback" not in honest.output, honest.output
    frail_ring.heal()
    session = connect(frail_ring.nodes)
    new_keyspace(session)
    session.cluster.shutdown()
