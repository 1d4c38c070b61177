"""Links between nodes, on real sockets. A failure here means that messages are lost while both nodes are well, come
twice or in another order, that a link doesn't come back, or that a slow peer or a stranger can hurt a node."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from dataclasses import replace
from uuid import uuid4

import pytest
from tests.net.ring import Node, RawCaller, RawPeer, run, until

from ourodb import limits
from ourodb.errors import ConfigurationProblem
from ourodb.peer.faults import LocalFault, NotAdmitted, OtherCluster, OwnReflection, Refused, WrongSecret
from ourodb.peer.handshake import PeerIdentity
from ourodb.ports import BULK, DATA, URGENT, Link

LANES = (URGENT, DATA, BULK)


def test_messages_arrive_in_order_on_every_lane() -> None:
    """From the very first one on, which is sent before there is any connection."""

    async def test() -> None:
        ann, bob = await Node("127.0.0.1").start(), await Node("127.0.0.2").start()
        link = ann.transport.link(bob.address)
        for number in range(3000):
            assert link.send(number % 3, b"%d %d" % (number % 3, number))
            if number % 7 == 0:
                await asyncio.sleep(0)
        await until(lambda: len(bob.received) == 3000)
        for lane in LANES:
            numbers = [int(m.split()[1]) for m in bob.messages if m.startswith(b"%d " % lane)]
            assert numbers == list(range(lane, 3000, 3))
        assert ann.transport.messages_out == bob.transport.messages_in == 3000
        assert ann.transport.bytes_out > 3000
        await ann.stop()
        await bob.stop()

    run(test)


def test_an_answer_goes_by_the_link_to_the_sender() -> None:
    """``receive`` gives the very link that ``link`` gives for the sender's own address, whatever port it came from."""

    async def test() -> None:
        ann, bob = await Node("127.0.0.1").start(), await Node("127.0.0.2").start()
        bob.transport.receive = lambda link, message: (
            bob.received.append((link, message)) or link.send(DATA, b"re: " + message)
        )
        ann.transport.link(bob.address).send(DATA, b"hello")
        await until(lambda: ann.messages == [b"re: hello"])
        assert ann.received[0][0] is ann.transport.link(bob.address)
        assert bob.received[0][0] is bob.transport.link(ann.address)
        assert ann.transport.link(bob.address).peer == bob.transport.identity
        # Each end opened one connection, and sends on no other.
        assert (ann.transport.connections, bob.transport.connections) == (1, 1)
        await ann.stop()
        await bob.stop()

    run(test)


def test_messages_of_one_pass_leave_together_and_after_it_has_settled() -> None:
    """One write for all, and none before the store has what they acknowledge."""

    async def test() -> None:
        ann, bob = await Node("127.0.0.1").start(), await Node("127.0.0.2").start()
        link = ann.transport.link(bob.address)
        link.send(DATA, b"first")
        await until(lambda: bob.messages == [b"first"])
        sent_at_settle: list[int] = []
        ann.passes.settle = lambda: sent_at_settle.append(ann.transport.messages_out)
        before = ann.transport.bytes_out
        for _ in range(10):
            link.send(DATA, b"x" * 20)
        assert ann.transport.messages_out == 1
        await until(lambda: len(bob.received) == 11)
        assert sent_at_settle[0] == 1
        assert ann.transport.bytes_out - before == 16 + 10 * 24
        await ann.stop()
        await bob.stop()

    run(test)


def test_what_arrives_is_followed_by_the_end_of_a_pass() -> None:
    """Else what a message wrote would stay unsettled until somebody speaks."""

    async def test() -> None:
        ann, bob = await Node("127.0.0.1").start(), await Node("127.0.0.2").start()
        settled: list[int] = []
        bob.passes.settle = lambda: settled.append(len(bob.received))
        ann.transport.link(bob.address).send(DATA, b"x")
        await until(lambda: settled)
        assert settled[0] == 1
        await ann.stop()
        await bob.stop()

    run(test)


@pytest.mark.parametrize("lane", LANES)
def test_large_messages_arrive_and_larger_ones_are_refused(lane: int) -> None:
    async def test() -> None:
        ann, bob = await Node("127.0.0.1").start(), await Node("127.0.0.2").start()
        link = ann.transport.link(bob.address)
        largest = bytes(limits.PEER_MESSAGE_BYTES_MAX[lane])
        assert not link.send(lane, largest + b"x")
        assert ann.transport.messages_shed == 1
        assert link.send(lane, largest)
        await until(lambda: bob.received)
        assert link.send(lane, b"small")
        await until(lambda: len(bob.received) == 2)
        assert bob.messages == [largest, b"small"]
        await ann.stop()
        await bob.stop()

    run(test)


def test_connections_come_from_the_nodes_own_address() -> None:
    """Several nodes on one machine: a rule that cuts one off must cut its calls, too."""

    async def test() -> None:
        bob = await RawPeer("127.0.0.2").start()
        ann = await Node("127.0.0.5").start()
        ann.transport.link(bob.identity.address).send(DATA, b"x")
        await until(lambda: bob.sources)
        assert bob.sources == ["127.0.0.5"]
        await ann.stop()
        bob.stop()

    run(test)


def test_nodes_may_live_at_addresses_of_ipv6() -> None:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 here")

    async def test() -> None:
        ann, bob = await Node("::1").start(), await Node("::1").start()
        ann.transport.link(bob.address).send(DATA, b"x")
        await until(lambda: bob.messages == [b"x"])
        assert bob.received[0][0].address == ann.address
        await ann.stop()
        await bob.stop()

    run(test)


def test_a_port_that_is_taken_is_told_in_one_line() -> None:
    async def test() -> None:
        ann = await Node().start()
        with pytest.raises(ConfigurationProblem, match="--peer-port"):
            await Node().start(ann.address[1])
        await ann.stop()

    run(test)


def test_an_identity_too_long_to_be_told_is_refused_at_once() -> None:
    async def test() -> None:
        ann = Node()
        with pytest.raises(LocalFault):
            ann.transport.identity = replace(ann.transport.identity, cluster_name="c" * 2000)
        await ann.stop()

    run(test)


# --- Peers that come and go ---


def test_who_is_not_there_is_reported_and_found_once_it_is() -> None:
    """Messages to it are dropped, and said to be; nothing needs to be sent for the link to come up."""

    async def test() -> None:
        bob = Node("127.0.0.2")
        await bob.start()
        await bob.stop()
        ann = await Node("127.0.0.1").start()
        link = ann.transport.link(bob.address)
        assert not link.is_connected
        assert link.send(DATA, b"lost")
        await until(lambda: ann.events)
        assert ann.events[0] == ("disconnected", bob.address, True)
        await until(lambda: not link.send(DATA, b"lost"))
        assert ann.transport.messages_dropped
        returned = await Node("127.0.0.2").start(bob.address[1])
        await until(lambda: link.is_connected)
        assert ann.events[-1] == ("connected", bob.address)
        assert returned.messages == []
        assert link.send(DATA, b"found")
        await until(lambda: returned.messages == [b"found"])
        await ann.stop()
        await returned.stop()

    run(test)


def test_a_peer_that_restarts_is_found_again_on_every_lane() -> None:
    async def test() -> None:
        ann, bob = await Node("127.0.0.1").start(), await Node("127.0.0.2").start()
        link = ann.transport.link(bob.address)
        for lane in LANES:
            link.send(lane, b"before")
        await until(lambda: len(bob.received) == 3)
        await bob.stop()
        await until(lambda: not link.is_connected)
        assert ("disconnected", bob.address, False) in ann.events
        returned = await Node("127.0.0.2").start(bob.address[1])
        await until(lambda: returned.transport.connections == 3)
        assert returned.messages == []
        for lane in LANES:
            assert link.send(lane, b"after")
        await until(lambda: len(returned.received) == 3)
        assert ann.events[-1] == ("connected", bob.address)
        assert link.peer == returned.transport.identity
        await ann.stop()
        await returned.stop()

    run(test)


def test_of_a_lane_that_is_lost_alone_is_told_too() -> None:
    """What was asked on it would be waited for in vain."""

    async def test() -> None:
        ann, bob = await Node("127.0.0.1").start(), await RawPeer("127.0.0.2").start()
        address = bob.identity.address
        link = ann.transport.link(address)
        for lane in (URGENT, DATA):
            link.send(lane, b"before")
            await until(lambda lane=lane: lane in bob.received)
        bob.break_lane(DATA)
        await until(lambda: ("lane lost", address, DATA) in ann.events)
        assert not [event for event in ann.events if event[0] == "disconnected"]
        link.send(URGENT, b"after")
        await bob.read(URGENT, 2)
        await ann.stop()
        bob.stop()

    run(test)


def test_a_peer_that_calls_is_called_back_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the node would wait for hours before it tried again by itself."""
    monkeypatch.setattr(limits, "PEER_BACKOFF_MS_MIN", 10_000_000)
    monkeypatch.setattr(limits, "PEER_BACKOFF_MS_MAX", 10_000_000)

    async def test() -> None:
        bob = await Node("127.0.0.2").start()
        await bob.stop()
        ann = await Node("127.0.0.1").start()
        link = ann.transport.link(bob.address)
        link.send(DATA, b"lost")
        await until(lambda: link.is_failing)
        returned = await Node("127.0.0.2").start(bob.address[1])
        returned.transport.link(ann.address).send(URGENT, b"I am back")
        await until(lambda: ann.messages == [b"I am back"])
        await until(lambda: link.is_connected)
        assert link.send(DATA, b"welcome")
        await until(lambda: returned.messages == [b"welcome"])
        await ann.stop()
        await returned.stop()

    run(test)


def test_a_peer_that_opens_a_lane_again_replaces_its_older_connection() -> None:
    """What is still unread on the old one must not come after what the new one brought."""

    async def test() -> None:
        bob = await Node("127.0.0.2").start()
        ann = PeerIdentity(uuid4(), ("127.0.0.1", 7), "flights")
        older = await RawCaller(bob.address, ann, DATA).connect()
        older.send(b"older")
        await until(lambda: bob.messages == [b"older"])
        newer = await RawCaller(bob.address, ann, DATA).connect()
        other_lane = await RawCaller(bob.address, ann, URGENT).connect()
        await older.closed()
        newer.send(b"newer")
        other_lane.send(b"urgent")
        await until(lambda: len(bob.received) == 3)
        assert sorted(bob.messages) == [b"newer", b"older", b"urgent"]
        assert bob.transport.connections == 2
        assert bob.transport.connections_broken == 0
        await bob.stop()
        newer.stop()
        other_lane.stop()

    run(test)


def test_a_forgotten_peer_is_neither_sent_to_nor_heard() -> None:
    async def test() -> None:
        ann, bob = await Node("127.0.0.1").start(), await Node("127.0.0.2").start()
        link = ann.transport.link(bob.address)
        link.send(DATA, b"x")
        bob.transport.link(ann.address).send(DATA, b"y")
        await until(lambda: ann.received and bob.received)
        ann.transport.forget(bob.address)
        assert not link.is_connected
        assert not link.send(DATA, b"z")
        await until(lambda: ("disconnected", ann.address, False) in bob.events)
        await until(lambda: bob.transport.connections == 0)
        assert ann.transport.links() == [] or ann.transport.links()[0] is not link
        assert bob.messages == [b"x"]
        # Asked for again, it is another link.
        again = ann.transport.link(bob.address)
        assert again is not link
        assert again.send(DATA, b"anew")
        await until(lambda: bob.messages == [b"x", b"anew"])
        await ann.stop()
        await bob.stop()

    run(test)


def test_a_peer_that_is_forgotten_while_it_is_called_is_not_reached() -> None:
    """Else a removed node would get a connection that nobody knows of."""

    async def test() -> None:
        ann, bob = await Node("127.0.0.1").start(), await Node("127.0.0.2").start()
        for passes in range(8):
            # At each step of connecting.
            ann.transport.link(bob.address).send(DATA, b"to be lost")
            for _ in range(passes):
                await asyncio.sleep(0)
            ann.transport.forget(bob.address)
            connected_before = list(ann.events)
            await until(lambda: bob.transport.strangers == 0)
            assert ann.events == connected_before
        ann.events.clear()
        ann.transport.link(bob.address).send(DATA, b"kept")
        await until(lambda: b"kept" in bob.messages)
        assert ann.events == [("connected", bob.address)]
        await until(lambda: bob.transport.connections == 1 and bob.transport.strangers == 0)
        await ann.stop()
        await bob.stop()

    run(test)


def test_a_node_that_stopped_sends_nothing_more() -> None:
    async def test() -> None:
        ann, bob = await Node("127.0.0.1").start(), await Node("127.0.0.2").start()
        link = ann.transport.link(bob.address)
        link.send(DATA, b"x")
        await until(lambda: bob.received)
        link.send(DATA, b"the last")
        await ann.stop()
        await until(lambda: bob.messages == [b"x", b"the last"])
        assert not link.send(DATA, b"y")
        assert not ann.transport.link(("127.0.0.3", 1)).send(DATA, b"y")
        await bob.stop()

    run(test)


def test_many_short_lives_of_a_peer_leave_nothing_behind() -> None:
    """Reconnecting must not leak sockets, tasks, or timers."""

    async def test() -> None:
        ann, bob = await Node("127.0.0.1").start(), await Node("127.0.0.2").start()
        address = bob.address
        link = ann.transport.link(address)
        for life in range(8):
            for lane in LANES:
                link.send(lane, b"%d" % life)
            await until(lambda bob=bob: bob.transport.connections == 3)
            await bob.stop()
            bob = await Node("127.0.0.2").start(address[1])
        await until(lambda: bob.transport.connections == 3)
        await bob.stop()
        await ann.stop()
        await until(lambda: len(asyncio.all_tasks()) == 1)
        assert ann.transport.queued_bytes(DATA) == 0

    run(test)


# --- Peers that don't keep up ---


@pytest.mark.parametrize("lane", LANES)
def test_what_a_peer_does_not_read_is_shed_and_the_rest_arrives_in_order(
    lane: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped peer must never grow this node's memory; what was accepted comes once it goes on."""
    monkeypatch.setattr(limits, "PEER_UNACKNOWLEDGED_MS_MAX", 10 * 60_000)

    async def test() -> None:
        bob = await RawPeer().start()
        ann = await Node("127.0.0.1").start()
        link = ann.transport.link(bob.identity.address)
        accepted = 0
        room = limits.PEER_QUEUE_BYTES_MAX[lane]
        padding = random.Random(3).randbytes(16_000)
        shed = False
        while not shed:
            for _ in range(20):
                shed = not link.send(lane, b"%08d" % accepted + padding)
                assert ann.transport.queued_bytes(lane) <= room
                if shed:
                    break
                accepted += 1
            # Passes of the loop: what the kernel takes, leaves.
            await asyncio.sleep(0)
            # Nothing waits that isn't counted: counting anew doesn't find more.
            counted = ann.transport.queued_bytes(lane)
            link.lanes[lane].flush()
            assert ann.transport.queued_bytes(lane) <= counted
        assert ann.transport.messages_shed == 1
        assert ann.transport.queued_bytes(lane) > room - 2 * len(padding)
        # The other lanes don't suffer.
        other = (lane + 1) % 3
        assert link.send(other, b"x")
        await until(lambda: other in bob.received)
        await bob.read(other, 1)
        await bob.read(lane, accepted)
        assert [int(message[:8]) for message in bob.received[lane]] == list(range(accepted))
        await until(lambda: ann.transport.queued_bytes(lane) == 0)
        assert link.send(lane, b"goes on")
        await bob.read(lane, accepted + 1)
        await ann.stop()
        bob.stop()

    run(test)


def test_a_peer_that_reads_nothing_for_long_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped process: what waits for it is let go, and it is reported to be away."""
    monkeypatch.setattr(limits, "PEER_UNACKNOWLEDGED_MS_MAX", 300)

    async def test() -> None:
        bob = await RawPeer().start()
        ann = await Node("127.0.0.1").start()
        link = ann.transport.link(bob.identity.address)
        noise = random.Random(4).randbytes(100_000)
        while ("disconnected", link.address, False) not in ann.events:
            link.send(DATA, noise)
            await asyncio.sleep(0.001)
        assert ann.transport.queued_bytes(DATA) == 0
        await ann.stop()
        bob.stop()

    run(test)


def test_what_a_peer_does_not_read_at_its_end_is_not_lost_by_a_pause() -> None:
    """A queue that was paused is written from again without a new message to wake it."""

    async def test() -> None:
        bob = await RawPeer().start()
        ann = await Node("127.0.0.1").start()
        link = ann.transport.link(bob.identity.address)
        noise = random.Random(5).randbytes(1_000_000)
        for _ in range(16):
            assert link.send(DATA, noise)
        await until(lambda: DATA in bob.received)
        await bob.read(DATA, 16)
        assert bob.received[DATA] == [noise] * 16
        await ann.stop()
        bob.stop()

    run(test)


# --- Strangers, and peers that aren't what they should be ---


async def spoken_to(node: Node, data: bytes) -> bytes:
    """Say something to the node's port; what it answers before it closes."""
    reader, writer = await asyncio.open_connection(*node.address)
    writer.write(data)
    answer = b""
    async with asyncio.timeout(60):
        with contextlib.suppress(ConnectionError):
            answer = await reader.read()
    writer.transport.abort()
    return answer


GARBAGE = [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    bytes(100_000),
    b"OURO" * 30_000,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\x05\x00\x00\x01\x05\x00\x00\x00\x00",
]


def test_garbage_is_closed_and_counted_and_does_no_harm() -> None:
    async def test() -> None:
        ann, bob = await Node("127.0.0.1").start(), await Node("127.0.0.2").start()
        bob.transport.link(ann.address).send(DATA, b"before")
        await until(lambda: ann.received)
        for garbage in GARBAGE:
            assert await spoken_to(ann, garbage) == b""
        await until(lambda: ann.transport.handshakes_refused == len(GARBAGE))
        bob.transport.link(ann.address).send(DATA, b"after")
        await until(lambda: ann.messages == [b"before", b"after"])
        assert ann.transport.strangers == 0
        assert ann.transport.connections == 1
        await ann.stop()
        await bob.stop()

    run(test)


def test_who_sends_broken_frames_is_closed_and_may_come_again() -> None:
    async def test() -> None:
        bob = await Node("127.0.0.2").start()
        identity = PeerIdentity(uuid4(), ("127.0.0.1", 7), "flights")
        caller = await RawCaller(bob.address, identity, DATA).connect()
        caller.send(b"right")
        caller.writer.write(bytes(1000))
        await caller.closed()
        await until(lambda: bob.transport.connections == 0)
        assert bob.messages == [b"right"]
        assert (bob.transport.connections_broken, bob.transport.handshakes_refused) == (1, 0)
        again = await RawCaller(bob.address, identity, DATA).connect()
        again.send(b"again")
        await until(lambda: bob.messages == [b"right", b"again"])
        again.stop()
        await bob.stop()

    run(test)


def test_strangers_that_wait_keep_no_peer_out() -> None:
    """One more than there may be drives out the one that has waited longest."""

    async def test() -> None:
        ann, bob = await Node("127.0.0.1").start(), await Node("127.0.0.2").start()
        most = limits.PEER_UNAUTHENTICATED_CONNECTIONS_MAX
        waiting = [await asyncio.open_connection(*ann.address) for _ in range(most + 10)]
        await until(lambda: ann.transport.handshakes_refused >= 10)
        assert ann.transport.strangers == most
        for reader, _ in waiting[:10]:
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        bob.transport.link(ann.address).send(DATA, b"x")
        await until(lambda: ann.received)
        assert ann.transport.strangers <= most
        for _, writer in waiting:
            writer.transport.abort()
        await until(lambda: ann.transport.strangers == 0)
        await ann.stop()
        await bob.stop()

    run(test)


@pytest.mark.parametrize(
    "said", [b"", b"OURO", b"OURO\x01\x01\x00\x22"], ids=["nothing", "a word", "a header"]
)
def test_who_does_not_finish_the_handshake_is_closed(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PEER_HANDSHAKE_MS_MAX", 50)

    async def test() -> None:
        ann = await Node("127.0.0.1").start()
        assert await spoken_to(ann, said) == b""
        await until(lambda: ann.transport.handshakes_refused == 1)
        assert ann.transport.strangers == 0
        await ann.stop()

    run(test)


def test_whoever_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped process still accepts connections: its kernel does. The link must not wait for it for ever."""
    monkeypatch.setattr(limits, "PEER_HANDSHAKE_MS_MAX", 50)

    async def test() -> None:
        silent = socket.create_server(("127.0.0.2", 0))
        ann = await Node("127.0.0.1").start()
        link = ann.transport.link(silent.getsockname())
        assert link.send(DATA, b"lost")
        await until(lambda: link.is_failing)
        assert ann.events[0] == ("disconnected", link.address, False)
        assert "took too long" in str(link.fault)
        assert ann.transport.queued_bytes(DATA) == 0
        await ann.stop()
        silent.close()

    run(test)


def test_nodes_that_do_not_belong_together_say_why() -> None:
    """The reason is on the link that ``ouro serve --join`` waits for, and nothing of either comes through."""

    async def test() -> None:
        ann = await Node("127.0.0.1").start()
        stranger = await Node("127.0.0.2", secret=b"a guess").start()
        trains = await Node("127.0.0.3", cluster="trains").start()
        for other, fault in ((stranger, WrongSecret), (trains, OtherCluster)):
            link = other.transport.link(ann.address)
            link.send(DATA, b"let me in")
            await until(lambda link=link: link.fault is not None)
            assert isinstance(link.fault, fault)
            assert isinstance(other.faults[0], fault)
            assert not link.is_connected
        assert ann.transport.handshakes_refused >= 2
        assert ann.received == []
        for node in (ann, stranger, trains):
            await node.stop()

    run(test)


def test_a_node_that_calls_itself_is_told() -> None:
    async def test() -> None:
        ann = await Node("127.0.0.1").start()
        link = ann.transport.link(ann.address)
        link.send(DATA, b"hello, me")
        await until(lambda: link.fault is not None)
        assert isinstance(link.fault, OwnReflection)
        assert ann.received == []
        await ann.stop()

    run(test)


def test_the_owner_decides_whom_to_speak_with() -> None:
    """It knows who was removed, and who should be at which address."""

    async def test() -> None:
        ann, bob = await Node("127.0.0.1").start(), await Node("127.0.0.2").start()
        asked: list[tuple[object, object]] = []
        ann.transport.admit = lambda peer, called: asked.append((peer, called)) or "you were removed"
        link = bob.transport.link(ann.address)
        link.send(DATA, b"x")
        await until(lambda: isinstance(link.fault, Refused))
        assert str(link.fault) == "you were removed"
        assert asked[0] == (bob.transport.identity, None)
        asked.clear()
        back = ann.transport.link(bob.address)
        back.send(DATA, b"y")
        await until(lambda: isinstance(back.fault, NotAdmitted))
        assert (bob.transport.identity, bob.address) in asked
        assert ann.received == bob.received == []
        ann.transport.admit = lambda peer, called: None
        await until(lambda: link.is_connected)
        await ann.stop()
        await bob.stop()

    run(test)


def test_a_message_that_cannot_be_handled_costs_only_itself() -> None:
    async def test() -> None:
        ann, bob = await Node("127.0.0.1").start(), await Node("127.0.0.2").start()

        def receive(link: Link, message: bytes) -> None:
            if message == b"bad":
                raise ValueError(message)
            bob.received.append((link, message))

        bob.transport.receive = receive
        link = ann.transport.link(bob.address)
        for message in (b"one", b"bad", b"two"):
            link.send(DATA, message)
        await until(lambda: bob.messages == [b"one", b"two"])
        assert bob.transport.receive_failures == 1
        assert bob.transport.connections == 1
        await ann.stop()
        await bob.stop()

    run(test)


def test_a_flood_of_strangers_is_no_flood_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    """A log that a stranger can fill is a disk that a stranger can fill."""

    async def test() -> None:
        ann = await Node("127.0.0.1").start()
        for _ in range(50):
            await spoken_to(ann, b"GET / HTTP/1.1")
        await until(lambda: ann.transport.handshakes_refused == 50)
        await ann.stop()

    run(test)
    captured = capsys.readouterr()
    assert 1 <= (captured.out + captured.err).count("peer refused") <= 7
