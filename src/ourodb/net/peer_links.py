"""The sending half of the peer port: a link to one peer, its lanes, their connections. ``net.peers`` is the whole.

A link is one-way. Each of its lanes is a TCP connection that this node opens when it first has something to say on it,
and on which it only sends. Messages gather while a pass of the loop runs and leave at its end, one frame for a lane.

**A peer that doesn't keep up** costs a bounded queue. What waits for a lane, the bytes that the kernel hasn't taken
included, is at most ``PEER_QUEUE_BYTES_MAX``; past it ``send`` sheds, and says so. One message may be larger than that
when nothing else waits.

**A peer that isn't there.** Messages wait while their lane connects, and are dropped when it can't. Then one lane tries
again for the whole link, ever less often up to every ``PEER_BACKOFF_MS_MAX``, and once it is connected the others
follow. A peer that connects to us is alive, so then it is tried at once. What was queued on a connection is lost with
it: the process that it was meant for may be gone.

**A link that was cut** without a word is found out by the kernel: bytes, or the probes that it sends on an idle
connection, that stay unacknowledged for ``PEER_UNACKNOWLEDGED_MS_MAX`` reset the connection. Nothing then waits for
the ever longer pauses between the retransmissions of an old connection.

Source: RFC 5482, and the Linux manual's tcp(7), for TCP_USER_TIMEOUT, which also ends a connection whose peer's window
stays shut.
"""

from __future__ import annotations

import asyncio
import socket
from enum import IntEnum
from typing import TYPE_CHECKING, Final, cast

from ourodb import limits
from ourodb.peer.connection import PeerConnection, State
from ourodb.peer.faults import PeerFault
from ourodb.peer.frames import frame_end
from ourodb.peer.handshake import LANES, PeerIdentity
from ourodb.ports import DATA, Address

if TYPE_CHECKING:
    from ourodb.net.peers import PeerTransport

MESSAGE_BYTES: Final = limits.PEER_QUEUED_MESSAGE_BYTES
FRAME_BYTES: Final = limits.PEER_FRAME_BYTES
FRESH_S: Final = 0.1
"""A try younger than this is left alone when its peer turns out to be alive."""
STEADY_S: Final = 1.0
"""A connection that lived longer than this is opened again at once; one that didn't counts as a failure."""
IP_BIND_ADDRESS_NO_PORT: Final = 24
"""Linux: choose the port when connecting, so that connections to different peers may share it."""


class LaneState(IntEnum):
    """Where a lane of a link stands."""

    IDLE = 0
    CONNECTING = 1
    READY = 2


class OutgoingProtocol(asyncio.Protocol):
    """A connection that this node opened: one lane's, for as long as it lasts."""

    __slots__ = ("_deadline", "_is_closed", "_lane", "_transport", "connection")

    def __init__(self, lane: Lane, connection: PeerConnection) -> None:
        self.connection = connection
        self._lane = lane
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._is_closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._is_closed:
            self._transport.abort()
            return
        self._transport.set_write_buffer_limits(
            high=limits.PEER_UNSENT_BYTES_HIGH, low=limits.PEER_UNSENT_BYTES_LOW
        )
        loop = self._lane.link.owner.loop
        self._deadline = loop.call_later(limits.PEER_HANDSHAKE_MS_MAX / 1000, self._expire)
        self._lane.reached(self)
        self.write(self.connection.take_outgoing())

    def data_received(self, data: bytes) -> None:
        connection = self.connection
        was_ready = connection.state is State.READY
        connection.receive(data)
        outgoing = connection.take_outgoing()
        if outgoing:
            self.write(outgoing)
        if connection.state is State.READY:
            if not was_ready:
                self._stop_waiting()
                self._lane.connected(self)
        elif connection.state is State.CLOSED:
            self.close(abort=False)

    def eof_received(self) -> None:
        self.connection.receive_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._lane.lost(self, self.connection.error)

    def pause_writing(self) -> None:
        self._lane.pause()

    def resume_writing(self) -> None:
        self._lane.resume()

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    @property
    def unsent_bytes(self) -> int:
        """Written, but not yet taken by the kernel."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def close(self, *, abort: bool) -> None:
        """Close the socket; unless ``abort``, what was written leaves first."""
        self._is_closed = True
        self._stop_waiting()
        if self._transport is not None:
            if abort:
                self._transport.abort()
            else:
                self._transport.close()

    def _expire(self) -> None:
        self.connection.give_up("its handshake took too long")
        self.close(abort=True)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class Lane:
    """One lane of one link: its queue, and the connection that takes it away.

    Attributes:
        state: see ``LaneState``.
        is_wanted: something was sent on it, so it is kept connected.
        is_paused: the connection doesn't take more now.
        waiting_bytes: of the queue.
        unsent_bytes: written, but not taken by the kernel, while ``is_paused``; else 0.
    """

    __slots__ = (
        "_dialling", "_is_dirty", "_message_bytes_max", "_protocol", "_queue", "_queue_bytes_max", "_since",
        "is_paused", "is_wanted", "link", "number", "state", "unsent_bytes", "waiting_bytes",
    )  # fmt: skip

    def __init__(self, link: PeerLink, number: int) -> None:
        self.link = link
        self.number = number
        self.state = LaneState.IDLE
        self.is_wanted = False
        self.is_paused = False
        self.waiting_bytes = 0
        self.unsent_bytes = 0
        self._queue: list[bytes] = []
        self._queue_bytes_max = limits.PEER_QUEUE_BYTES_MAX[number]
        self._message_bytes_max = limits.PEER_MESSAGE_BYTES_MAX[number]
        self._is_dirty = False
        self._protocol: OutgoingProtocol | None = None
        self._dialling: asyncio.Task[None] | None = None
        self._since = 0.0

    def send(self, message: bytes) -> bool:
        """See ``Link.send``."""
        if self.state is LaneState.IDLE and not self._open():
            return False
        size = len(message)
        before = self.waiting_bytes + self.unsent_bytes
        if (
            before and before + size + MESSAGE_BYTES > self._queue_bytes_max
        ) or size > self._message_bytes_max:
            return self._shed(size)
        self._queue.append(message)
        self.waiting_bytes += size + MESSAGE_BYTES
        if not self._is_dirty:
            self._is_dirty = True
            self.link.owner.mark_dirty(self)
        return True

    def flush(self) -> None:
        """Write what waits, as far as the connection takes it."""
        self._is_dirty = False
        protocol = self._protocol
        if protocol is None or self.state is not LaneState.READY:
            return
        if protocol.connection.state is not State.READY:
            # The peer has hung up, and the loop has yet to say that the connection is lost.
            return
        if self.is_paused:
            self.unsent_bytes = protocol.unsent_bytes
            return
        queue, self._queue = self._queue, []
        if self.waiting_bytes <= FRAME_BYTES:
            self.waiting_bytes = 0
            if queue:
                self._write(protocol, queue)
            return
        start = 0
        while start < len(queue) and not self.is_paused:
            end = frame_end(queue, start)
            frame = queue[start:end]
            self.waiting_bytes -= sum(map(len, frame)) + MESSAGE_BYTES * len(frame)
            self._write(protocol, frame)
            start = end
        self._queue = queue[start:]

    def connect(self) -> None:
        """Try to open the connection now."""
        self.state = LaneState.CONNECTING
        self.is_wanted = True
        loop = self.link.owner.loop
        self._since = loop.time()
        self._dialling = loop.create_task(self._dial())

    def connect_anew(self) -> None:
        """The peer is alive: don't wait, neither before a try nor for one that began when it may not have been."""
        if self.state is LaneState.IDLE:
            if self.is_wanted:
                self.connect()
        elif self._dialling is not None and self.link.owner.loop.time() - self._since > FRESH_S:
            self._dialling.cancel()
            # If it has just succeeded, that counts no more.
            before, self._protocol = self._protocol, None
            if before is not None:
                before.close(abort=True)
            self.connect()

    def reached(self, protocol: OutgoingProtocol) -> None:
        """Somebody listens at the peer's address; the handshake begins."""
        if protocol is self._protocol:
            self._dialling = None

    def connected(self, protocol: OutgoingProtocol) -> None:
        """The handshake succeeded."""
        if protocol is self._protocol:
            self.state = LaneState.READY
            self._since = self.link.owner.loop.time()
            self.link.connected(protocol.connection.peer)
            self.flush()

    def lost(self, protocol: OutgoingProtocol, fault: PeerFault | None) -> None:
        """The connection ended, in its handshake or later."""
        if protocol is not self._protocol:
            return
        was_steady = self.state is LaneState.READY and self.link.owner.loop.time() - self._since > STEADY_S
        self._reset()
        if was_steady:
            self.link.lost(self.number)
        else:
            self.link.failed(self.number, False, fault)

    def pause(self) -> None:
        if self._protocol is not None:
            self.is_paused = True
            self.unsent_bytes = self._protocol.unsent_bytes

    def resume(self) -> None:
        self.is_paused = False
        self.unsent_bytes = 0
        if self._queue and not self._is_dirty:
            self._is_dirty = True
            self.link.owner.mark_dirty(self)

    def close(self) -> OutgoingProtocol | None:
        """Forget what is queued, and the connection: returned, for the caller to close."""
        if self._dialling is not None:
            self._dialling.cancel()
        protocol = self._protocol
        self._reset()
        return protocol

    def _reset(self) -> None:
        self.state = LaneState.IDLE
        self.is_paused = False
        self.waiting_bytes = self.unsent_bytes = 0
        self._queue = []
        self._dialling = None
        self._protocol = None

    def _open(self) -> bool:
        """Begin to connect for a message, unless the peer is known to be away."""
        link = self.link
        if link.is_failing or link.is_forgotten:
            self.is_wanted = True
            link.owner.messages_dropped += 1
            return False
        self.connect()
        return True

    def _shed(self, size: int) -> bool:
        owner = self.link.owner
        owner.messages_shed += 1
        if size > self._message_bytes_max:
            owner.complain("message too large for its lane", lane=self.number, bytes=size)
        return False

    def _write(self, protocol: OutgoingProtocol, messages: list[bytes]) -> None:
        frame = protocol.connection.encode(messages)
        owner = self.link.owner
        owner.messages_out += len(messages)
        owner.bytes_out += len(frame)
        protocol.write(frame)

    async def _dial(self) -> None:
        """One try: reach the peer, then leave the handshake to the protocol."""
        link = self.link
        owner = link.owner
        try:
            async with asyncio.timeout(limits.PEER_CONNECT_MS_MAX / 1000):
                if link.address in owner.cut:
                    await asyncio.get_running_loop().create_future()
                reached = await _reach(owner.loop, link.address, owner.bind_address)
            protocol = self._protocol = OutgoingProtocol(self, owner.call(link.address, self.number))
            await owner.loop.create_connection(lambda: protocol, sock=reached)
        except (OSError, TimeoutError, ValueError) as error:
            # A name that no resolver takes is a ValueError.
            if self._dialling is asyncio.current_task():
                self._reset()
                link.failed(self.number, isinstance(error, ConnectionRefusedError), None)


class PeerLink:
    """``Link`` on sockets.

    Attributes:
        address, is_connected: see ``Link``.
        is_failing: the last try to connect failed, or a connection didn't last; ``send`` drops.
        is_forgotten: nothing will be sent any more.
        peer: who was last found at the address, once somebody was.
        fault: what went wrong in the last handshake; None when nothing did, or when none took place.
    """

    __slots__ = (
        "_failures", "_timer", "address", "fault", "is_connected", "is_forgotten", "lanes", "owner", "peer",
    )  # fmt: skip

    def __init__(self, owner: PeerTransport, address: Address) -> None:
        self.owner = owner
        self.address = address
        self.is_connected = False
        self.is_forgotten = False
        self.peer: PeerIdentity | None = None
        self.fault: PeerFault | None = None
        self.lanes = tuple(Lane(self, number) for number in LANES)
        self._failures = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_failing(self) -> bool:
        return self._failures > 0

    def send(self, lane: int, message: bytes) -> bool:
        """See ``Link.send``; a message above ``PEER_MESSAGE_BYTES_MAX`` is never sent."""
        return self.lanes[lane].send(message)

    def connected(self, peer: PeerIdentity | None) -> None:
        """A lane got through."""
        self.peer = peer
        self.fault = None
        is_first = sum(lane.state is LaneState.READY for lane in self.lanes) == 1
        self._recover()
        if is_first:
            self.owner.on_connected(self.address)

    def lost(self, lane: int) -> None:
        """A lane's connection ended after it had served for a while."""
        self._judge()
        self._tell_lost(lane, False)
        self._try_again(0)

    def failed(self, lane: int, refused: bool, fault: PeerFault | None) -> None:
        """A lane couldn't connect, or couldn't stay connected."""
        self._failures += 1
        self.fault = fault
        self._judge()
        if fault is not None:
            self.owner.complain("no connection to peer", fault, peer=f"{self.address[0]}:{self.address[1]}")
            self.owner.on_fault(self.address, fault)
        self._tell_lost(lane, refused)
        doublings = min(self._failures - 1, 10)
        delay_ms = min(limits.PEER_BACKOFF_MS_MIN << doublings, limits.PEER_BACKOFF_MS_MAX)
        self._try_again(delay_ms - self.owner.random.below(delay_ms // 2))

    def heard(self, peer: PeerIdentity) -> None:
        """The peer has just connected to this node, so it can be reached."""
        self.peer = peer
        self._recover()

    def sever(self) -> None:
        """Lose all connections, those that are being made included."""
        for lane in self.lanes:
            if (protocol := lane.close()) is not None:
                protocol.close(abort=True)
        self.failed(DATA, False, None)

    def forget(self) -> list[OutgoingProtocol]:
        """Send nothing any more; returns the connections, for the caller to close."""
        self.is_forgotten = True
        self.is_connected = False
        if self._timer is not None:
            self._timer.cancel()
        return [protocol for lane in self.lanes if (protocol := lane.close()) is not None]

    def _recover(self) -> None:
        self._failures = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for lane in self.lanes:
            lane.connect_anew()
        self._judge()

    def _tell_lost(self, lane: int, refused: bool) -> None:
        if self._any_ready():
            self.owner.on_lane_lost(self.address, lane)
        else:
            self.owner.on_disconnected(self.address, refused)

    def _try_again(self, delay_ms: int) -> None:
        if self._timer is None and not self.is_forgotten:
            self._timer = self.owner.loop.call_later(delay_ms / 1000, self._retry)

    def _retry(self) -> None:
        """All lanes that are wanted connect when one is connected already, else the first of them tries for all."""
        self._timer = None
        states = [lane.state for lane in self.lanes]
        wanted = [lane for lane in self.lanes if lane.is_wanted and lane.state is LaneState.IDLE]
        if LaneState.READY not in states:
            wanted = [] if LaneState.CONNECTING in states else wanted[:1]
        for lane in wanted:
            lane.connect()

    def _any_ready(self) -> bool:
        return any(lane.state is LaneState.READY for lane in self.lanes)

    def _judge(self) -> None:
        data = self.lanes[DATA]
        self.is_connected = data.state is LaneState.READY or (not self._failures and self._any_ready())


def watch(listening_or_own: socket.socket) -> None:
    """Let the kernel send at once, and find out a link that was cut; what a listening socket accepts inherits it."""
    set_option = listening_or_own.setsockopt
    set_option(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    set_option(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limits.PEER_UNACKNOWLEDGED_MS_MAX)
    set_option(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, limits.PEER_IDLE_PROBE_SECONDS)
    set_option(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, limits.PEER_IDLE_PROBE_SECONDS)
    set_option(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


async def _reach(
    loop: asyncio.AbstractEventLoop, address: Address, bind_address: str | None
) -> socket.socket:
    """A socket connected to that address, from ``bind_address``.

    Raises:
        OSError: nobody is there; ConnectionRefusedError: the host is, the process isn't.
    """
    found = await loop.getaddrinfo(*address, type=socket.SOCK_STREAM)
    family, _, _, _, target = found[0]
    reached = socket.socket(family, socket.SOCK_STREAM)
    try:
        reached.setblocking(False)
        watch(reached)
        if bind_address is not None:
            reached.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET:
                reached.setsockopt(socket.SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            reached.bind((bind_address, 0))
        await loop.sock_connect(reached, target)
        if reached.getsockname() == reached.getpeername():
            # A port of one's own host where nobody listens may be chosen as the source's: TCP connects it to itself.
            raise ConnectionRefusedError("nobody listens there")
    except BaseException:
        reached.close()
        raise
    return reached
