"""One run of a program on a machine: what an operating system's process and its event loop are.

A ``Program`` is what runs: a node. It sees the world through its ``Ports`` and is called by its process, one
*pass* of the loop at a time:

    1. everything that has come up is handled: messages, bytes of clients, timers, what the disk has done
    2. if anything called ``arm``, or a client is to be answered, the program settles
    3. what was sent leaves

A pass takes time, in which other things come up; they are handled together in the next one. So the nodes gather
work under load as they do in production. A paused process (SIGSTOP) has no passes; what comes up waits.

After each step its machine's witness, if there is one, looks at the program from outside.

A process dies between any two of these steps: before or after any message, between settling and sending, and
between two lanes of what it sends (``die_after``). Its timers, its callbacks and what it hadn't settled die
with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from ourodb.cql.wire.connection import Request, ServerConnection
from ourodb.errors import OuroError
from ourodb.ports import Address, Link, Ports
from ourodb.sim.connection import Connection
from ourodb.sim.disk import SimStore
from ourodb.sim.link import SimTransport
from ourodb.sim.tasks import MS, US
from ourodb.sim.trace import FLUSH_BYTES, Kind, pack_event

if TYPE_CHECKING:
    from ourodb.sim.machine import Machine
    from ourodb.sim.stream import ServerEnd

PASS_NS: Final = 20 * US
"""What a pass costs."""
ITEM_NS: Final = 15 * US
"""What each thing that it handles costs."""

Item = tuple[int, Callable[[Any], None], Any, bytes]
"""(kind, action, argument, bytes for the trace)"""

_RECEIVE: Final = int(Kind.RECEIVE)


class Session(Protocol):
    """What a program keeps of one client; see ``session.Session``."""

    def handle(self, request: Request) -> None: ...

    def close(self) -> None: ...


class Program(Protocol):
    """What runs in a process: ``node.Node``, or a toy."""

    @property
    def is_ready(self) -> bool:
        """Whether clients may connect."""
        ...

    def start(self) -> None: ...

    def stop(self) -> None:
        """End in order."""
        ...

    def settle(self) -> None:
        """This pass is over: called when it was armed."""
        ...

    def receive(self, link: Link, message: bytes) -> None:
        """A message from the peer at the end of the link."""
        ...

    def peer_connected(self, address: Address) -> None: ...

    def peer_disconnected(self, address: Address, refused: bool) -> None:
        """``refused``: nobody listens there."""
        ...

    def peer_lane_lost(self, address: Address, lane: int) -> None:
        """What was sent on one lane may never arrive; others go on."""
        ...

    def peer_refused(self, reason: str) -> None:
        """A peer doesn't speak with this program."""
        ...

    def open_session(
        self, connection: ServerConnection, peer: tuple[str, int], wake: Callable[[], None]
    ) -> Session:
        """A client has connected; ``wake`` says that there is something to write to it."""
        ...


@runtime_checkable
class Mover(Protocol):
    """A program of a cluster from which nodes may go, and to which they may come, while it holds data."""

    @property
    def is_moving(self) -> bool:
        """Whether data is on the move, or about to be."""
        ...

    def knows(self, address: Address) -> bool:
        """Whether the node at this address belongs to the cluster."""
        ...

    def send_away(self, address: Address, *, is_dead: bool, is_forced: bool = False) -> bool:
        """Begin to have a node leave; False when it can't now.

        Args:
            is_forced: even if the only copies of some rows go with one that is dead.
        """
        ...

    @property
    def copies(self) -> int:
        """How many copies there are of each row of the workload's tables; 0 when it can't be changed."""
        ...

    def number_of_dead(self, address: Address) -> int:
        """By which number the node at this address can be replaced; 0: it is taken for alive, or is nobody."""
        ...

    def even(self) -> None:
        """Begin to give nodes other tokens, if one owns more than others."""
        ...

    def set_copies(self, count: int) -> None:
        """Begin to have so many, if that can be now."""
        ...


class SimTimer:
    """Implements ``ports.Timer``."""

    __slots__ = ("_process", "callback")

    def __init__(self, process: Process, callback: Callable[[], None]) -> None:
        self._process = process
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None

    def due(self, _: object) -> None:
        """The moment has come: it runs in the process's next pass."""
        if self.callback is not None:
            self._process.take(Kind.TIMER, _run_timer, self)


def _run_timer(timer: SimTimer) -> None:
    callback, timer.callback = timer.callback, None
    if callback is not None:
        callback()


def _run_soon(callback: Callable[[], None]) -> None:
    callback()


class SimScheduler:
    """Implements ``ports.Scheduler``; its timers go as fast as the machine's clock."""

    __slots__ = ("_process",)

    def __init__(self, process: Process) -> None:
        self._process = process

    def soon(self, callback: Callable[[], None]) -> None:
        self._process.post(Kind.SOON, _run_soon, callback)

    def after(self, delay_ms: int, callback: Callable[[], None]) -> SimTimer:
        process = self._process
        timer = SimTimer(process, callback)
        process.world.loop.after(process.machine.clock.real_ns(delay_ms * MS), timer.due)
        return timer


class Process:
    """One run.

    Attributes:
        machine, index, address: where it runs, and how others find it.
        number: of this run among the machine's.
        program: what runs, from the first pass on.
        ports, scheduler, store, transport: its ports.
        is_built: there is a program.
        is_alive: it hasn't died.
        is_paused: it has no passes.
        is_settling: the program settles, and what it sends leaves right after that.
        slowness: passes take so many times as long.
    """

    def __init__(self, machine: Machine, number: int) -> None:
        world = machine.world
        self.machine = machine
        self.world = world
        self.index = machine.index
        self.address = machine.address
        self.number = number
        self.is_alive = True
        self.is_paused = False
        self.is_settling = False
        self.slowness = 1
        self.program: Program
        self.is_built = False
        self._loop = world.loop
        self._trace = world.trace
        self._inbox: list[Item] = []
        self._is_planned = False
        self._is_in_pass = False
        self._busy_until_ns = world.loop.now_ns
        self._is_armed = False
        self._steps_left: int | None = None
        self._dies_with_machine = False
        self._incoming: dict[tuple[Address, int], Connection] = {}
        self._clients: dict[ServerEnd, None] = {}
        self._unanswered: dict[ServerEnd, None] = {}
        self.transport = SimTransport(world.network, self)
        self.store = SimStore(
            machine.disk, self, world.loop, world.trace, self.index, sync_period_ms=machine.sync_period_ms
        )
        self.scheduler: SimScheduler = SimScheduler(self)
        self.ports = Ports(
            clock=machine.clock,
            random=world.chance.child(f"node {self.index} run {number}"),
            scheduler=self.scheduler,
            store=self.store,
            transport=self.transport,
            arm=self.arm,
        )
        self.post(Kind.START, self._start, None, number.to_bytes(4, "big"))

    def _start(self, _: object) -> None:
        try:
            self.program = self.machine.build(self.machine, self.ports)
            self.is_built = True
            self.program.start()
        except OuroError as error:
            # It says why it can't start, and ends.
            self.machine.on_start_failed(error)

    @property
    def is_ready(self) -> bool:
        """Whether clients may connect."""
        return self.is_built and self.program.is_ready

    # Passes

    def post(self, kind: int, action: Callable[[Any], None], argument: Any, data: bytes = b"") -> None:
        """Have ``action(argument)`` run in a pass; nothing happens when the process has died.

        Args:
            data: for the trace.
        """
        if self.is_alive:
            self._inbox.append((kind, action, argument, data))
            if not self._is_planned:
                self._plan()

    def take(self, kind: int, action: Callable[[Any], None], argument: Any, data: bytes = b"") -> None:
        """``post`` for events of the loop, which are never within a pass: an idle process begins one at once."""
        if self.is_alive:
            self._inbox.append((kind, action, argument, data))
            if not self._is_planned:
                if self._loop.now_ns >= self._busy_until_ns:
                    self._pass(None)
                else:
                    self._plan()

    def take_messages(self, action: Callable[[bytes], None], messages: list[bytes]) -> None:
        """``take`` for messages of a peer, all of which are there; they arm the pass."""
        if self.is_alive:
            inbox = self._inbox
            for message in messages:
                inbox.append((_RECEIVE, action, message, message))
            self._is_armed = True
            if not self._is_planned:
                if self._loop.now_ns >= self._busy_until_ns:
                    self._pass(None)
                else:
                    self._plan()

    def arm(self) -> None:
        """See that this pass ends with ``Program.settle``."""
        if not self._is_armed:
            self._is_armed = True
            if not self._is_planned:
                self._plan()

    def _plan(self) -> None:
        if not self._is_in_pass and not self.is_paused:
            self._is_planned = True
            self._loop.at(max(self._loop.now_ns, self._busy_until_ns), self._pass)

    def _pass(self, _: object) -> None:
        self._is_planned = False
        if self.is_paused or not self.is_alive:
            return
        self._is_in_pass = True
        self.world.running = self
        inbox, self._inbox = self._inbox, []
        now_ns = self._loop.now_ns
        index = self.index
        machine, buffer = self.machine, self._trace.buffer
        for kind, action, argument, data in inbox:
            if self._steps_left is not None and not self._may_step():
                return
            buffer += pack_event(now_ns, index, kind, len(data))
            if data:
                buffer += data
            action(argument)
            if not self.is_alive:
                return
            if machine.witness is not None:
                machine.witness.after_step(index)
        if self._is_armed or self._unanswered:
            self._is_armed = False
            if self._steps_left is not None and not self._may_step():
                return
            self.is_settling = True
            self.program.settle()
            self.is_settling = False
            if not self.is_alive:
                return
            if machine.witness is not None:
                machine.witness.after_step(index)
        if self.transport.marked or self._unanswered:
            self._send()
            if not self.is_alive:
                return
        if len(buffer) >= FLUSH_BYTES:
            self._trace.flush()
        self.world.running = None
        self._is_in_pass = False
        self._busy_until_ns = now_ns + (PASS_NS + ITEM_NS * len(inbox)) * self.slowness
        if self._inbox or self._is_armed or self._unanswered:
            self._plan()

    def _send(self) -> None:
        """What was sent in this pass leaves."""
        for lane in self.transport.take_marked():
            if self._steps_left is not None and not self._may_step():
                return
            lane.flush()
        if self._unanswered:
            unanswered, self._unanswered = self._unanswered, {}
            for client in unanswered:
                if self._steps_left is not None and not self._may_step():
                    return
                client.flush()

    def _may_step(self) -> bool:
        """False: the process has died, now at the latest."""
        if self._steps_left is not None:
            self._steps_left -= 1
            if self._steps_left < 0:
                self._steps_left = None
                if self._dies_with_machine:
                    self.machine.lose_power()
                else:
                    self.machine.kill()
        return self.is_alive

    def die_after(self, steps: int, *, with_machine: bool = False) -> None:
        """Die after so many more steps, in the midst of whatever pass that is.

        Args:
            with_machine: it loses its power; else the process is killed.
        """
        self._steps_left = steps
        self._dies_with_machine = with_machine

    # Clients and peers

    def refusal_of(self, other: Process) -> str | None:
        """Why the program doesn't speak with that of another process; nobody speaks for one that isn't built yet."""
        refuses = self.machine.refuses
        if refuses is None or not self.is_built or not other.is_built:
            return None
        return refuses(self.program, other.program, other.address)

    def accept(self, connection: Connection, lane: tuple[Address, int]) -> None:
        """A peer has connected a lane of its link to us; an older connection of it is done with."""
        older = self._incoming.get(lane)
        if older is not None:
            older.fence()
        self._incoming[lane] = connection
        self.transport.link(lane[0]).heard()

    def close_incoming(self, address: Address) -> None:
        """Hear nothing more from that peer."""
        for lane in [lane for lane in self._incoming if lane[0] == address]:
            connection = self._incoming.pop(lane)
            connection.fence()
            connection.refuse()

    def add_client(self, client: ServerEnd) -> None:
        self._clients[client] = None

    def remove_client(self, client: ServerEnd) -> None:
        self._clients.pop(client, None)
        self._unanswered.pop(client, None)

    def answer(self, client: ServerEnd) -> None:
        """There is something to write to this client at the end of the pass."""
        self._unanswered[client] = None
        if not self._is_planned:
            self._plan()

    # Life and death

    def pause(self) -> None:
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False
        self._busy_until_ns = max(self._busy_until_ns, self._loop.now_ns)
        if not self._is_planned and (self._inbox or self._is_armed or self._unanswered):
            self._plan()

    def end(self, *, with_machine: bool) -> None:
        """The process is gone.

        Args:
            with_machine: nobody is left to tell its peers and clients.
        """
        self.is_alive = False
        self.world.running = None
        self._inbox.clear()
        self.transport.end(with_machine=with_machine)
        if not with_machine:
            for connection in self._incoming.values():
                connection.refuse()
        for client in list(self._clients):
            client.on_process_gone(with_machine=with_machine)
        self._clients.clear()
