"""The bytes between a client and a node: what TCP is to them.

``ClientEnd`` dials a machine and carries bytes both ways, each way in order and as late as its path is. At the
node's end ``ServerEnd`` puts the wire protocol's ``ServerConnection`` and the program's session to them, as
``net.clients`` does with sockets.

Where a path is cut the stream is doomed: what was sent is lost, and the client is told after ``SILENCE_NS``, as
by a driver's heartbeat. When the process dies the client hears of it at once, unless its machine died as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ourodb.cql.wire.connection import ServerConnection
from ourodb.sim.network import Network
from ourodb.sim.tasks import S
from ourodb.sim.trace import Kind

if TYPE_CHECKING:
    from ourodb.sim.machine import Machine
    from ourodb.sim.process import Process

SILENCE_NS: Final = 5 * S
"""After so long without a sign of the node a client gives the connection up."""


class ClientEnd:
    """A client's end of a stream.

    Attributes:
        is_open: the node has accepted it and it isn't lost, as far as the client knows.
    """

    def __init__(
        self,
        network: Network,
        place: int,
        machine: Machine,
        on_open: Callable[[], None],
        on_bytes: Callable[[bytes], None],
        on_lost: Callable[[], None],
    ) -> None:
        """Dial the machine; ``on_open`` or ``on_lost`` tells what came of it.

        Args:
            place: the client's, in the network.
        """
        self.is_open = False
        self._network = network
        self._place = place
        self._machine = machine
        self._on_open = on_open
        self._on_bytes = on_bytes
        self._on_lost = on_lost
        self._is_over = False
        self._is_doomed = False
        self._server: ServerEnd | None = None
        self._last_up_ns = 0
        self._last_down_ns = 0
        self._up(self._knock, None)

    def send(self, data: bytes) -> None:
        """Send bytes to the node."""
        self._up(self._arrive, data)

    def close(self) -> None:
        """The client hangs up; nothing more is heard from the stream."""
        if not self._is_over:
            self._is_over = True
            self.is_open = False
            self._up(self._hang_up, None)

    # On the way

    def _up(self, action: Callable[[Any], None], argument: Any) -> None:
        network = self._network
        time_ns = network.loop.now_ns + network.delay_ns(self._place, self._machine.index)
        self._last_up_ns = max(time_ns, self._last_up_ns)
        network.loop.at(self._last_up_ns, action, argument)

    def down(self, action: Callable[[Any], None], argument: Any) -> None:
        """From the node to the client."""
        network = self._network
        time_ns = network.loop.now_ns + network.delay_ns(self._machine.index, self._place)
        self._last_down_ns = max(time_ns, self._last_down_ns)
        network.loop.at(self._last_down_ns, action, argument)

    def _passes(self, source: int, target: int) -> bool:
        if not self._is_doomed and not self._network.is_open(source, target):
            self.doom()
        return not self._is_doomed

    def doom(self) -> None:
        """Something was swallowed: this stream won't recover, and the client finds out by itself."""
        if not self._is_doomed:
            self._is_doomed = True
            self._network.loop.after(SILENCE_NS, self._lose)

    # At the node's machine

    def _knock(self, _: object) -> None:
        if not self._passes(self._place, self._machine.index):
            return
        process = self._machine.process
        if process is None:
            self.down(self._lose, None)
        else:
            self._server = ServerEnd(self, process, (f"client{self._place}", self._place))
            process.post(Kind.OPENED, self._server.open, None, self._place.to_bytes(4, "big"))

    def _arrive(self, data: bytes) -> None:
        if self._server is not None and self._passes(self._place, self._machine.index):
            self._server.process.take(Kind.REQUESTED, self._server.receive, data, data)

    def _hang_up(self, _: object) -> None:
        if self._server is not None:
            self._server.process.post(Kind.CLOSED, self._server.close, None)

    # At the client

    def opened(self, _: object) -> None:
        """The node has accepted it."""
        if not self._is_over and self._passes(self._machine.index, self._place):
            self.is_open = True
            self._on_open()

    def answered(self, data: bytes) -> None:
        """The node has sent bytes."""
        if not self._is_over and self._passes(self._machine.index, self._place):
            self._network.trace.note(self._network.loop.now_ns, self._place, Kind.ANSWERED, data)
            self._on_bytes(data)

    def hung_up(self, _: object) -> None:
        """The node has closed it, or is gone."""
        if self._passes(self._machine.index, self._place):
            self._lose(None)

    def _lose(self, _: object) -> None:
        if not self._is_over:
            self._is_over = True
            self.is_open = False
            self._on_lost()


class ServerEnd:
    """The node's end; everything here runs in passes of the process.

    Attributes:
        process: which accepted it.
        connection: the protocol's state.
    """

    def __init__(self, client: ClientEnd, process: Process, peer: tuple[str, int]) -> None:
        self.process = process
        self.connection = ServerConnection()
        self._client = client
        self._peer = peer
        self._is_closed = True

    def open(self, _: object) -> None:
        """Accepted, if the node takes clients by now."""
        program = self.process.program
        if not program.is_ready:
            self._client.down(self._client.hung_up, None)
            return
        self._is_closed = False
        self._session = program.open_session(self.connection, self._peer, self._wake)
        self.process.add_client(self)
        self._client.down(self._client.opened, None)

    def receive(self, data: bytes) -> None:
        """Bytes have arrived."""
        if self._is_closed:
            return
        for request in self.connection.receive(data):
            self._session.handle(request)
        self._wake()

    def flush(self) -> None:
        """The pass is over: write what there is to say."""
        if self._is_closed:
            return
        outgoing = self.connection.take_outgoing()
        if outgoing:
            self._client.down(self._client.answered, outgoing)
        if self.connection.closing:
            self._client.down(self._client.hung_up, None)
            self.close(None)

    def close(self, _: object) -> None:
        """The client has hung up, or is hung up on."""
        if not self._is_closed:
            self._is_closed = True
            self.process.remove_client(self)
            self._session.close()

    def on_process_gone(self, *, with_machine: bool) -> None:
        """The process has ended."""
        self._is_closed = True
        if with_machine:
            self._client.doom()
        else:
            self._client.down(self._client.hung_up, None)

    def _wake(self) -> None:
        if not self._is_closed:
            self.process.answer(self)
