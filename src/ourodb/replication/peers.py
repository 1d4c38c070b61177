"""Requests to other nodes, their replies, and how long one waits for them.

A request is one message: the header of ``peer.messages`` and a body. The same bytes go to every node that is
asked; each reply names the request, and the operation that made it hears ``on_reply`` for each node once. An
operation is a small object that counts. It stays in its class's table until it says that it is done, so that
the tables are in order of age and one shared tick finds what is due without looking at the rest. Nothing here
makes a timer for a request.

``Peers`` also knows the way to each member, whether the failure detector takes it for up, and puts this
node's clock and epoch into the headers of all that leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from functools import partial
from ipaddress import ip_address
from typing import Final, Protocol

from ourodb import limits
from ourodb.errors import Overloaded
from ourodb.peer.messages import FAILED, HEADER, REPLY
from ourodb.ports import BULK, DATA, Link, NodeId, Ports, Timer
from ourodb.replication.timestamps import Timestamps

MASK: Final = 0xFFFF_FFFF
STEP: Final = 8
"""Classes share the request numbers: the low three bits are the class."""


class RequestClass(IntEnum):
    """Requests that wait equally long."""

    WRITE = 0
    READ = 1
    RANGE = 2
    PAXOS = 3
    COUNTER = 4
    HINT = 5
    BATCH = 6
    STREAM = 7


TIMEOUTS_MS: Final[Mapping[RequestClass, int]] = {
    RequestClass.WRITE: limits.WRITE_TIMEOUT_MS,
    RequestClass.READ: limits.READ_TIMEOUT_MS,
    RequestClass.RANGE: limits.RANGE_TIMEOUT_MS,
    RequestClass.PAXOS: limits.PAXOS_TIMEOUT_MS,
    RequestClass.COUNTER: limits.COUNTER_TIMEOUT_MS,
    RequestClass.HINT: limits.HINT_TIMEOUT_MS,
    RequestClass.BATCH: limits.WRITE_TIMEOUT_MS,
    RequestClass.STREAM: limits.STREAM_TIMEOUT_MS,
}


ON_BULK: Final = (RequestClass.HINT, RequestClass.STREAM)
"""Classes whose requests travel on the BULK lane; all others do on DATA."""


class Operation(Protocol):
    """Something that waits for replies.

    Attributes:
        started_ms: monotonic, set by ``Peers.begin``.
    """

    started_ms: int

    def on_reply(self, node: NodeId, flags: int, body: bytes) -> bool:
        """A node answered; True: nothing more is waited for."""
        ...

    def on_expired(self) -> None:
        """The time is up; called at most once, and nothing after it."""
        ...

    def on_lost(self, node: NodeId) -> bool:
        """The failure detector or the connection says that this node won't answer; True: done, as above."""
        ...

    def on_tick(self, waited_ms: int) -> bool:
        """Time passed (only classes that are watched); False: too young, and so are all after it."""
        ...


WATCHED: Final = (RequestClass.READ, RequestClass.RANGE, RequestClass.BATCH)
"""Classes whose operations hear ``on_tick``: they may ask one more node."""


class Peers:
    """The members other than this node, from its point of view.

    Attributes:
        me: this node; 0 until it is a member.
        epoch: of the metadata log, as applied here; in every header.
        links: to every other member.
        addresses: of every member, in text form.
        up: what the failure detector says of each member, this node included.
        timestamps: the hybrid logical clock.
        in_flight: operations that wait.
        expired: operations whose time was up, counted.
    """

    def __init__(self, ports: Ports, timestamps: Timestamps) -> None:
        self.me = NodeId(0)
        self.epoch = 0
        self.links: dict[NodeId, Link] = {}
        self.addresses: dict[NodeId, str] = {}
        self.up: dict[NodeId, bool] = {}
        self.timestamps = timestamps
        self.expired = 0
        self._clock = ports.clock
        self._scheduler = ports.scheduler
        self._tables: tuple[dict[int, Operation], ...] = tuple({} for _ in range(STEP))
        # A reply to a request of this node's life before must not be taken for one of this life.
        self._number = int.from_bytes(ports.random.bytes(4), "big") & ~(STEP - 1)
        self._timer: Timer | None = None
        self._view_epoch = 0
        """Of the last entry of the log that changed anything: a new leader's first one doesn't."""
        self._behind: dict[int, Callable[[], None]] = {}
        self._behind_count = 0

    @property
    def in_flight(self) -> int:
        return sum(map(len, self._tables))

    def now_ms(self) -> int:
        """Monotonic."""
        return self._clock.monotonic_ns() // 1_000_000

    # Sending

    def message(
        self, verb: int, body: bytes, request: int = 0, flags: int = 0, epoch: int | None = None
    ) -> bytes:
        """A message as it is sent; the same for every receiver.

        Args:
            epoch: as of which its receivers were chosen; None: the present one.
        """
        if epoch is None:
            epoch = self.epoch
        return HEADER.pack(verb, flags, request, self.timestamps.now_us(), epoch) + body

    def reply(self, link: Link, verb: int, request: int, body: bytes = b"", lane: int = DATA) -> None:
        link.send(lane, HEADER.pack(verb, REPLY, request, self.timestamps.now_us(), self.epoch) + body)

    def fail(self, link: Link, verb: int, request: int, body: bytes, lane: int = DATA) -> None:
        """Reply with an error."""
        flags = REPLY | FAILED
        link.send(lane, HEADER.pack(verb, flags, request, self.timestamps.now_us(), self.epoch) + body)

    def later(self, callback: Callable[[], None]) -> None:
        """Run after the present pass: for what must not happen in the midst of a call."""
        self._scheduler.soon(callback)

    def when_caught_up(self, epoch: int, callback: Callable[[], None]) -> None:
        """A peer has said that this node was behind: run once it has applied more of the metadata log, or a little
        later anyway.

        Args:
            epoch: as of which what was refused was sent.
        """
        if self._view_epoch > epoch:
            # While the refusal was on its way.
            self._scheduler.soon(callback)
            return
        self._behind_count += 1
        number = self._behind_count
        self._behind[number] = callback
        self._scheduler.after(limits.BEHIND_MS_MAX, lambda: self._caught_up(number))

    def caught_up(self, epoch: int) -> None:
        """This node has applied more of the metadata log: an entry that changed something."""
        self._view_epoch = epoch
        for number in list(self._behind):
            self._scheduler.soon(partial(self._caught_up, number))

    def _caught_up(self, number: int) -> None:
        callback = self._behind.pop(number, None)
        if callback is not None:
            callback()

    def packed_address(self, node: NodeId) -> bytes:
        """The node's address in 4 or 16 bytes, as the reasons of a failure name it."""
        address = self.addresses.get(node, "0.0.0.0")
        return ip_address(address).packed

    # Operations

    def check_room(self) -> None:
        """Called before something new is begun.

        Raises:
            Overloaded: as much waits as may wait.
        """
        if self.in_flight > limits.PEER_REQUESTS_MAX:
            raise Overloaded("too many requests wait for other nodes")

    def begin(self, kind: RequestClass, operation: Operation) -> int:
        """Give an operation its request number, which is never 0; it waits from now on."""
        table = self._tables[kind]
        number = self._number = (self._number + STEP) & MASK
        number |= kind
        # 0 stands in messages that ask for no reply, and in operations that wait for none.
        while number in table or not number:
            number = (number + STEP) & MASK
        operation.started_ms = self._clock.monotonic_ns() // 1_000_000
        table[number] = operation
        if self._timer is None:
            self._timer = self._scheduler.after(limits.REQUEST_TICK_MS, self._on_tick)
        return number

    def end(self, request: int) -> None:
        """The operation waits no longer."""
        self._tables[request & (STEP - 1)].pop(request, None)

    def on_reply(self, node: NodeId, request: int, flags: int, body: bytes) -> None:
        """A reply arrived; one that nobody waits for is late, and dropped."""
        table = self._tables[request & (STEP - 1)]
        operation = table.get(request)
        if operation is not None and operation.on_reply(node, flags, body):
            table.pop(request, None)

    def lost(self, node: NodeId, lane: int | None = None) -> None:
        """Nothing that was asked of this node will be answered.

        Args:
            lane: only what was asked on this one; None: whatever it was.
        """
        for kind in RequestClass:
            if lane is not None and lane != (BULK if kind in ON_BULK else DATA):
                continue
            table = self._tables[kind]
            for request, operation in list(table.items()):
                if operation.on_lost(node):
                    table.pop(request, None)

    def stop(self) -> None:
        """This node stops, in order: everybody hears that the time is up, so that what others may have missed of writes
        is left to them as hints.
        """
        for table in self._tables:
            operations = list(table.values())
            table.clear()
            for operation in operations:
                operation.on_expired()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_tick(self) -> None:
        now_ms = self.now_ms()
        try:
            for kind, timeout_ms in TIMEOUTS_MS.items():
                table = self._tables[kind]
                self._expire(table, now_ms - timeout_ms)
                if kind in WATCHED:
                    for operation in list(table.values()):
                        if not operation.on_tick(now_ms - operation.started_ms):
                            break
        finally:
            # Whatever one of them does, the others must not wait for ever.
            waiting = any(self._tables)
            self._timer = self._scheduler.after(limits.REQUEST_TICK_MS, self._on_tick) if waiting else None

    def _expire(self, table: dict[int, Operation], horizon_ms: int) -> None:
        """Tell what was begun before the horizon, oldest first, that its time is up."""
        if not table or next(iter(table.values())).started_ms > horizon_ms:
            return
        for request, operation in list(table.items()):
            if operation.started_ms > horizon_ms:
                return
            # One that expired may have ended others.
            if table.pop(request, None) is not None:
                self.expired += 1
                operation.on_expired()
