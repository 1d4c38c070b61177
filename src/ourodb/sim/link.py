"""Links between nodes, as a process sees them: ``ports.Transport`` and ``ports.Link`` in the simulator.

It behaves as ``net.peer_links`` does with sockets, whose bounds and pauses it uses. A link is one-way. Each of
its lanes is a connection that this process opens when it first has something to say on it; messages gather
while a pass runs and leave at its end. Messages wait, bounded, while their lane connects, and are dropped when
it can't. Then one lane tries again for the whole link, ever less often, and once it is connected the others
follow; a peer that calls us is tried at once.

All this happens in passes of the process: one that is paused notices nothing.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

from ourodb.limits import (
    PEER_BACKOFF_MS_MAX,
    PEER_BACKOFF_MS_MIN,
    PEER_CONNECT_MS_MAX,
    PEER_HANDSHAKE_MS_MAX,
    PEER_MESSAGE_BYTES_MAX,
    PEER_QUEUE_BYTES_MAX,
)
from ourodb.ports import BULK, DATA, URGENT, Address
from ourodb.sim.connection import Connection
from ourodb.sim.network import Network
from ourodb.sim.tasks import MS, S
from ourodb.sim.trace import Kind

if TYPE_CHECKING:
    from ourodb.sim.machine import Machine
    from ourodb.sim.process import Process, SimTimer

LANES: Final = (URGENT, DATA, BULK)
FRESH_NS: Final = 100 * MS
"""A try younger than this is left alone when its peer turns out to be alive."""
STEADY_NS: Final = 1 * S
"""A connection that lived longer than this is opened again at once; one that didn't counts as a failure."""


class LaneState(IntEnum):
    """Where a lane of a link stands."""

    IDLE = 0
    CONNECTING = 1
    READY = 2


class Call:
    """One try to open a connection for a lane."""

    __slots__ = ("_is_reached", "_lane", "_network")

    def __init__(self, network: Network, lane: Lane) -> None:
        self._network = network
        self._lane = lane
        self._is_reached = False
        process = lane.process
        target = network.machines.get(lane.link.address)
        if target is not None:
            network.loop.after(network.delay_ns(process.index, target.index), self._knock, target)
        process.scheduler.after(PEER_CONNECT_MS_MAX, self._on_no_answer)
        process.scheduler.after(PEER_HANDSHAKE_MS_MAX, self._on_no_handshake)

    def _knock(self, target: Machine) -> None:
        """The call has arrived at the far end's machine."""
        network, source = self._network, self._lane.process.index
        if not network.is_open(source, target.index):
            return
        receiver = target.process
        if receiver is None:
            network.loop.after(network.delay_ns(target.index, source), self._on_refusal, target)
        else:
            self._is_reached = True
            receiver.post(Kind.CALLED, self._accept, receiver)

    def _accept(self, receiver: Process) -> None:
        """In a pass of the far end: shake hands."""
        lane, network = self._lane, self._network
        source = lane.process.index
        if not lane.is_called_by(self) or not network.is_open(receiver.index, source):
            return
        refusal = receiver.refusal_of(lane.process)
        if refusal is not None:
            network.loop.after(
                network.delay_ns(receiver.index, source), self._on_rebuff, (receiver.index, refusal)
            )
            return
        connection = Connection(network, lane, receiver)
        receiver.accept(connection, (lane.process.address, lane.number))
        network.loop.after(network.delay_ns(receiver.index, source), self._on_answer, connection)

    def _on_answer(self, connection: Connection) -> None:
        network, process = self._network, self._lane.process
        if self._lane.is_called_by(self) and network.is_open(connection.receiver.index, process.index):
            process.post(Kind.CONNECTED, self._connected, connection)
        else:
            connection.abandon()

    def _connected(self, connection: Connection) -> None:
        """In a pass of this end."""
        if not self._lane.is_called_by(self):
            connection.abandon()
        elif self._lane.process.refusal_of(connection.receiver) is not None:
            connection.abandon()
            self._fail(refused=False)
        elif connection.is_open:
            self._lane.connected(connection)
        else:
            # It broke as soon as it was there.
            self._fail(refused=False)

    def _on_rebuff(self, rebuff: tuple[int, str]) -> None:
        """Somebody is there, and won't speak with us."""
        place, reason = rebuff
        process = self._lane.process
        if self._lane.is_called_by(self) and self._network.is_open(place, process.index):
            process.post(Kind.DISCONNECTED, self._rebuffed, reason)

    def _rebuffed(self, reason: str) -> None:
        self._fail(refused=False)
        self._lane.process.program.peer_refused(reason)

    def _on_refusal(self, target: Machine) -> None:
        if self._network.is_open(target.index, self._lane.process.index):
            self._lane.process.post(Kind.DISCONNECTED, self._refused, None)

    def _refused(self, _: object) -> None:
        self._fail(refused=True)

    def _on_no_answer(self) -> None:
        if not self._is_reached:
            self._fail(refused=False)

    def _on_no_handshake(self) -> None:
        self._fail(refused=False)

    def _fail(self, *, refused: bool) -> None:
        if self._lane.is_called_by(self):
            self._lane.failed(refused=refused)


class Lane:
    """One lane of one link.

    Attributes:
        process, link, number: whose.
        state: see ``LaneState``.
        is_wanted: something was sent on it, so it is kept connected.
        connection: which takes messages away, while it is READY.
    """

    __slots__ = (
        "_call", "_network", "_queue", "_queue_bytes", "_since_ns", "connection", "is_wanted", "link", "number",
        "process", "state",
    )  # fmt: skip

    def __init__(self, network: Network, process: Process, link: SimLink, number: int) -> None:
        self.process = process
        self.link = link
        self.number = number
        self.state = LaneState.IDLE
        self.is_wanted = False
        self.connection: Connection | None = None
        self._network = network
        self._call: Call | None = None
        self._queue: list[bytes] = []
        self._queue_bytes = 0
        self._since_ns = 0

    def send(self, message: bytes) -> bool:
        """See ``Link.send``."""
        if self.state is LaneState.IDLE:
            self.is_wanted = True
            if self.link.is_failing or self.link.is_forgotten:
                return False
            self.connect()
        size = len(message)
        waiting_bytes = self._queue_bytes
        connection = self.connection
        if connection is not None:
            waiting_bytes += connection.waiting_bytes
        number = self.number
        if waiting_bytes and waiting_bytes + size > PEER_QUEUE_BYTES_MAX[number]:
            return False
        if size > PEER_MESSAGE_BYTES_MAX[number]:
            return False
        queue = self._queue
        queue.append(message)
        self._queue_bytes += size
        if len(queue) == 1:
            self.process.transport.mark(self)
        return True

    def flush(self) -> None:
        """The pass is over: what was sent leaves."""
        if self.connection is not None and self._queue:
            queue, self._queue = self._queue, []
            size, self._queue_bytes = self._queue_bytes, 0
            self.connection.transmit(queue, size)

    def connect(self) -> None:
        """Try to open the connection now."""
        self.state = LaneState.CONNECTING
        self.is_wanted = True
        self._since_ns = self._network.loop.now_ns
        self._call = Call(self._network, self)

    def connect_anew(self) -> None:
        """The peer is alive: don't wait, neither before a try nor for one that began when it may not have been."""
        if self.state is LaneState.IDLE:
            if self.is_wanted:
                self.connect()
        elif self.state is LaneState.CONNECTING and self._age_ns() > FRESH_NS:
            self.connect()

    def is_called_by(self, call: Call) -> bool:
        """Whether this is the try that the lane waits for."""
        return self._call is call and self.process.is_alive

    def connected(self, connection: Connection) -> None:
        """A try succeeded."""
        self.state = LaneState.READY
        self.connection = connection
        self._call = None
        self._since_ns = self._network.loop.now_ns
        self.link.connected()
        self.process.transport.mark(self)

    def failed(self, *, refused: bool) -> None:
        """A try failed."""
        self._reset()
        self.link.failed(self.number, refused)

    def on_lost(self, connection: Connection) -> None:
        """The connection is lost."""
        if connection is not self.connection:
            return
        was_steady = self._age_ns() > STEADY_NS
        self._reset()
        self._network.resets += 1
        if was_steady:
            self.link.lost(self.number)
        else:
            self.link.failed(self.number, False)

    def close(self) -> None:
        """Forget what is queued, and the connection."""
        if self.connection is not None:
            self.connection.abandon()
        self._reset()

    def end(self, *, with_machine: bool) -> None:
        """The process is gone."""
        if self.connection is not None and with_machine:
            self.connection.lose()
            self.connection = None
        self.close()

    def _age_ns(self) -> int:
        return self._network.loop.now_ns - self._since_ns

    def _reset(self) -> None:
        self.state = LaneState.IDLE
        self.connection = None
        self._call = None
        self._queue = []
        self._queue_bytes = 0


class SimLink:
    """Implements ``ports.Link``.

    Attributes:
        address, is_connected: see there.
        is_failing: the last try to connect failed, or a connection didn't last; ``send`` drops.
        is_forgotten: nothing will be sent any more.
    """

    __slots__ = (
        "_failures",
        "_network",
        "_process",
        "_timer",
        "address",
        "is_connected",
        "is_forgotten",
        "lanes",
    )

    def __init__(self, network: Network, process: Process, address: Address) -> None:
        self.address = address
        self.is_connected = False
        self.is_forgotten = False
        self.lanes = tuple(Lane(network, process, self, number) for number in LANES)
        self._network = network
        self._process = process
        self._failures = 0
        self._timer: SimTimer | None = None

    @property
    def is_failing(self) -> bool:
        return self._failures > 0

    def send(self, lane: int, message: bytes) -> bool:
        return self.lanes[lane].send(message)

    def connected(self) -> None:
        """A lane got through."""
        is_first = sum(lane.state is LaneState.READY for lane in self.lanes) == 1
        self._recover()
        if is_first:
            self._process.program.peer_connected(self.address)

    def lost(self, lane: int) -> None:
        """A lane's connection ended after it had served for a while."""
        self._judge()
        self._tell_lost(lane, False)
        self._try_again(0)

    def failed(self, lane: int, refused: bool) -> None:
        """A lane couldn't connect, or couldn't stay connected."""
        self._failures += 1
        self._judge()
        self._tell_lost(lane, refused)
        doublings = min(self._failures - 1, 10)
        delay_ms = min(PEER_BACKOFF_MS_MIN << doublings, PEER_BACKOFF_MS_MAX)
        self._try_again(delay_ms - self._network.chance.below(delay_ms // 2))

    def heard(self) -> None:
        """The peer has just connected to this node, so it can be reached."""
        self._recover()

    def forget(self) -> None:
        """Send nothing any more."""
        self.is_forgotten = True
        self.is_connected = False
        if self._timer is not None:
            self._timer.cancel()
        for lane in self.lanes:
            lane.close()

    def _recover(self) -> None:
        self._failures = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for lane in self.lanes:
            lane.connect_anew()
        self._judge()

    def _tell_lost(self, lane: int, refused: bool) -> None:
        program = self._process.program
        if self._is_any_ready():
            program.peer_lane_lost(self.address, lane)
        else:
            program.peer_disconnected(self.address, refused)

    def _try_again(self, delay_ms: int) -> None:
        if self._timer is None and not self.is_forgotten:
            self._timer = self._process.scheduler.after(delay_ms, self._retry)

    def _retry(self) -> None:
        """All lanes that are wanted connect when one is connected already, else the first of them tries for all."""
        self._timer = None
        states = [lane.state for lane in self.lanes]
        wanted = [lane for lane in self.lanes if lane.is_wanted and lane.state is LaneState.IDLE]
        if LaneState.READY not in states:
            wanted = [] if LaneState.CONNECTING in states else wanted[:1]
        for lane in wanted:
            lane.connect()

    def _is_any_ready(self) -> bool:
        return any(lane.state is LaneState.READY for lane in self.lanes)

    def _judge(self) -> None:
        is_ready = self.lanes[DATA].state is LaneState.READY
        self.is_connected = is_ready or (not self._failures and self._is_any_ready())


class SimTransport:
    """Implements ``ports.Transport`` for one run of a process.

    Attributes:
        links: by address.
        marked: lanes that may have something to send at the end of this pass.
    """

    __slots__ = ("_network", "_process", "links", "marked")

    def __init__(self, network: Network, process: Process) -> None:
        self._network = network
        self._process = process
        self.links: dict[Address, SimLink] = {}
        self.marked: list[Lane] = []

    def link(self, address: Address) -> SimLink:
        link = self.links.get(address)
        if link is None:
            link = self.links[address] = SimLink(self._network, self._process, address)
        return link

    def forget(self, address: Address) -> None:
        link = self.links.pop(address, None)
        if link is not None:
            link.forget()
            self._process.close_incoming(address)

    def mark(self, lane: Lane) -> None:
        """The lane may have something to send at the end of this pass."""
        self.marked.append(lane)
        if not self._process.is_settling:
            self._process.arm()

    def take_marked(self) -> list[Lane]:
        """The lanes that were marked, in order."""
        marked, self.marked = self.marked, []
        return marked

    def connections(self) -> list[Connection]:
        """Those that this process opened and hasn't noticed to be lost."""
        lanes = (lane for link in self.links.values() for lane in link.lanes)
        return [lane.connection for lane in lanes if lane.connection is not None]

    def end(self, *, with_machine: bool) -> None:
        """The process is gone."""
        for link in self.links.values():
            for lane in link.lanes:
                lane.end(with_machine=with_machine)
