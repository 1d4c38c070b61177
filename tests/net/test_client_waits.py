"""Clients that wait for long answers.

If this fails, a client that reads everything is cut off because we are slow, or a node goes on reading its whole
store for somebody who has left.
"""

from __future__ import annotations

import asyncio

import pytest
from tests.net.ring import run
from tests.writes.ring import Ring

from ourodb import limits
from ourodb.cql.wire.client import ClientConnection
from ourodb.cql.wire.client_messages import encode_query
from ourodb.cql.wire.codes import QUERY, Consistency
from ourodb.cql.wire.connection import ServerConnection
from ourodb.cql.wire.requests import QueryParameters
from ourodb.net.clients import ClientProtocol, ClientServer
from ourodb.net.loop import Passes
from ourodb.replication.coordinator.read import Read
from ourodb.session.answer import Answer
from ourodb.session.session import Session
from ourodb.storage.row import Pause

READS = limits.REQUESTS_IN_FLIGHT_MAX // limits.LONG_READ_WEIGHT + 1
COUNT = encode_query(5, "SELECT count(*) FROM ks.t", QueryParameters(Consistency.ONE, False, []))


class Socket:
    """A socket whose client reads, or doesn't.

    Attributes:
        is_paused: nothing is read from it.
    """

    def __init__(self) -> None:
        self.is_paused = self.is_aborted = False
        self.received = b""

    def get_extra_info(self, name: str) -> tuple[str, int]:
        return "127.0.0.1", 1

    def set_write_buffer_limits(self, high: int, low: int) -> None: ...

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def is_closing(self) -> bool:
        return self.is_aborted

    def write(self, data: bytes) -> None:
        self.received += data

    def abort(self) -> None:
        self.is_aborted = True

    close = abort


class LongReads:
    """A processor all of whose answers take long."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []

    def query(self, session: Session, request: object, answer: Answer) -> None:
        answer.will_come(limits.LONG_READ_WEIGHT)
        self.answers.append(answer)

    def forget_listener(self, session: Session) -> None: ...


class Door:
    """A server with one client, whose handshake is over.

    Attributes:
        processor: where its requests come.
    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.processor = LongReads()

        def open_session(connection: ServerConnection, peer: tuple[str, int], wake: object) -> Session:
            return Session(connection, peer, self.processor, wake)  # type: ignore[arg-type]

        self.server = ClientServer(loop, Passes(loop), open_session)
        self.protocol, self.socket = ClientProtocol(self.server), Socket()
        self.protocol.connection_made(self.socket)  # type: ignore[arg-type]
        self.client = ClientConnection(5)

    async def open(self) -> Door:
        self.client.start(0)
        self.protocol.data_received(self.client.take_outgoing())
        await asyncio.sleep(0)
        self.client.receive(self.socket.received)
        self.socket.received = b""
        return self

    def asked(self, stream: int) -> bytes:
        """The bytes of one more request."""
        self.client.send(stream, QUERY, COUNT)
        return self.client.take_outgoing()


def test_nothing_is_taken_from_a_client_at_the_end_and_what_was_asked_is_answered() -> None:
    """What is done after the store was marked as stopped in order may be lost without a trace."""

    async def test() -> None:
        door = await Door().open()
        door.protocol.data_received(b"".join(door.asked(stream) for stream in range(READS + 1)))
        assert len(door.processor.answers) == READS
        door.server.end()
        door.protocol.data_received(door.asked(READS + 1))
        for answer in door.processor.answers[:READS]:
            answer.result(b"")
        await asyncio.sleep(0)
        assert len(door.client.receive(door.socket.received)) == READS
        assert len(door.processor.answers) == READS
        door.protocol.connection_lost(None)
        await door.server.stop()

    run(test)


@pytest.mark.parametrize("reads", [True, False])
def test_who_waits_for_us_isnt_cut_off_and_who_doesn_t_read_is(reads: bool) -> None:
    async def test() -> None:
        door = await Door().open()
        server, protocol, socket, processor = door.server, door.protocol, door.socket, door.processor
        whole = b"".join(door.asked(stream) for stream in range(READS + 1))
        following = door.asked(READS + 1)
        # A read of the socket ends in the midst of a message, of which we read no more for now.
        protocol.data_received(whole + following[:20])
        await asyncio.sleep(0)
        assert socket.is_paused
        assert len(processor.answers) == READS
        if not reads:
            protocol.pause_writing()
        server.tick += limits.STUCK_CLIENT_SECONDS_MAX + limits.PARTIAL_MESSAGE_SECONDS_MAX + 1
        assert (protocol.cut_off_reason(server.tick) is None) == reads
        protocol.resume_writing()
        for answer in processor.answers[:READS]:
            answer.result(b"")
        await asyncio.sleep(0)
        # What waited is asked now, and the client is heard again.
        assert len(processor.answers) == READS + 1
        assert not socket.is_paused
        assert protocol.cut_off_reason(server.tick + limits.STUCK_CLIENT_SECONDS_MAX + 1) is None
        protocol.data_received(following[20:])
        assert len(processor.answers) == READS + 2
        protocol.connection_lost(None)
        await server.stop()

    run(test)


def test_a_scan_ends_with_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ROWS_PER_STEP", 1)
    rows = 1_000
    ring = Ring(1)
    ring.set_up("CREATE TABLE ks.t (k int PRIMARY KEY)", factor=1)
    inserts = " ".join(f"INSERT INTO ks.t (k) VALUES ({key});" for key in range(rows))
    ring.done(0, f"BEGIN UNLOGGED BATCH {inserts} APPLY BATCH")
    steps = 0
    step = Read.step

    def counted(read: Read) -> Pause | None:
        nonlocal steps
        steps += 1
        if steps == 3:
            ring._clients[0].close()
        return step(read)

    monkeypatch.setattr(Read, "step", counted)
    promise = ring.ask(0, "SELECT count(*) FROM ks.t", Consistency.ONE)
    ring.run_for(5)
    assert promise.is_kept
    assert 3 <= steps < rows / 2
    assert not ring.node(0).reads.began_before(1 << 60)
