"""The CQL port: sockets on one side, ``ServerConnection`` and ``Session`` on the other.

Everything that arrived in one pass of the loop is handled before anything is answered: requests of all
connections run, their writes settle in the store as one batch, and each connection is then written to once,
at the end of the pass (``net.loop.Passes``).

A client can hurt only itself. Once the answers to one pass of its requests are large, or too many are still
to come, the rest of its requests wait and nothing more is read from it. One that doesn't read its answers is cut
off when it stays so; one that waits for ours isn't, however long they take. One that leaves a message half sent,
or doesn't finish its handshake, is cut off after a while; more connections than ``connections_max`` are closed as
they come. These ages are counted in ticks of one second, which run while there are connections.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable

import structlog

from ourodb import limits
from ourodb.cql.wire.connection import Request, ServerConnection, State
from ourodb.errors import ConfigurationProblem
from ourodb.net.loop import Passes
from ourodb.session.session import Session

log = structlog.get_logger()

TICK_S = 1
BACKLOG = 4096

OpenSession = Callable[[ServerConnection, tuple[str, int], Callable[[], None]], Session]


class ClientProtocol(asyncio.Protocol):
    """One client's socket.

    Attributes:
        idle_since: tick at which the handshake, or the message that is half received, last moved on by a
        whole message.
        partial_bytes: of a large message that is half received.
        held: nothing is read from the client until other large messages are complete.
        is_paused: nothing is read from the client: its answers pile up, or too many are still to come.
        is_ending: nothing more is taken from the client; what it has asked is still answered.
        unread_since: tick since which the client leaves its answers unread, or None.
    """

    __slots__ = (
        "_server", "_transport", "_waiting", "connection", "dirty", "held", "idle_since", "is_ending",
        "is_paused", "partial_bytes", "session", "unread_since",
    )  # fmt: skip

    _transport: asyncio.Transport
    session: Session

    def __init__(self, server: ClientServer) -> None:
        self._server = server
        self.connection = ServerConnection()
        self.dirty = False
        self.idle_since = server.tick
        self.is_paused = self.is_ending = False
        self.unread_since: int | None = None
        self.partial_bytes = 0
        self.held = False
        self._waiting: list[Request] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "pause_reading")
        self._transport = transport  # type: ignore[assignment]
        peer = transport.get_extra_info("peername") or ("?", 0)
        self.session = self._server.open_session(self.connection, (peer[0], peer[1]), self.mark_dirty)
        self._transport.set_write_buffer_limits(
            high=limits.OUTGOING_BYTES_HIGH, low=limits.OUTGOING_BYTES_LOW
        )
        if not self._server.admit(self):
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self.is_ending:
            return
        requests = self.connection.receive(data)
        if requests:
            self.idle_since = self._server.tick
            if self._waiting:
                self._waiting += requests
            else:
                self._handle(requests)
        buffered = self.connection.buffered_bytes
        if buffered > limits.LARGE_MESSAGE_BYTES or self.partial_bytes:
            self._server.note_partial(self, buffered if buffered > limits.LARGE_MESSAGE_BYTES else 0)
        if self.connection.outgoing_bytes > limits.OUTGOING_BYTES_HIGH:
            # What the connection answers by itself counts as well.
            self._stop_reading()
        if not self.dirty:
            self.mark_dirty()

    def connection_lost(self, exc: Exception | None) -> None:
        self._waiting = []
        self._server.forget(self)
        self.session.close()

    def pause_writing(self) -> None:
        self.unread_since = self._server.tick
        self._stop_reading()

    def resume_writing(self) -> None:
        self.unread_since = None
        self._go_on_reading()

    def mark_dirty(self) -> None:
        """Something is to be written at the end of this pass."""
        if not self.dirty:
            self.dirty = True
            self._server.mark_dirty(self)

    def flush(self) -> None:
        """Write what is outgoing; once a pass."""
        self.dirty = False
        transport = self._transport
        if transport.is_closing():
            return
        outgoing = self.connection.take_outgoing()
        if outgoing:
            transport.write(outgoing)
        if self.connection.closing:
            transport.close()
        elif self.is_paused:
            self._go_on_reading()

    def hold(self) -> None:
        """Read no more of a large message for now."""
        self.held = True
        if not self.is_paused:
            self._transport.pause_reading()

    def release(self) -> None:
        """Read on."""
        self.held = False
        self.idle_since = self._server.tick
        if not self.is_paused and not self._transport.is_closing():
            self._transport.resume_reading()

    def cut_off_reason(self, tick: int) -> str | None:
        """Why this client is to be cut off now, or None."""
        if self.unread_since is not None and tick - self.unread_since > limits.STUCK_CLIENT_SECONDS_MAX:
            return "it doesn't read its answers"
        if self.held or self.is_paused:
            return None
        idle = tick - self.idle_since
        if self.connection.state is not State.READY:
            return "its handshake isn't finished" if idle > limits.HANDSHAKE_SECONDS_MAX else None
        if not self.connection.buffered_bytes:
            self.idle_since = tick
            return None
        return "its message isn't finished" if idle > limits.PARTIAL_MESSAGE_SECONDS_MAX else None

    def end(self) -> None:
        """Take nothing more from the client."""
        self.is_ending = True
        self._waiting = []
        self._stop_reading()

    def cut_off(self) -> None:
        self._transport.abort()

    def close(self) -> None:
        """Write what is outgoing and close."""
        self.connection.close()
        self.flush()
        self._transport.close()

    def _handle(self, requests: list[Request]) -> None:
        """Run requests until there is enough to write or to wait for; the others wait.

        A request of 50 bytes may have an answer of megabytes, and one pass brings thousands of them.
        """
        session, connection = self.session, self.connection
        handle = session.handle
        rest = iter(requests)
        for request in rest:
            handle(request)
            if (
                connection.outgoing_bytes > limits.OUTGOING_BYTES_HIGH
                or session.in_flight > limits.REQUESTS_IN_FLIGHT_MAX
            ):
                self._waiting = list(rest)
                self._stop_reading()
                return

    def _stop_reading(self) -> None:
        if not self.is_paused:
            self.is_paused = True
            if not self.held:
                self._transport.pause_reading()

    def _go_on_reading(self) -> None:
        if not self.is_paused or self.unread_since is not None or self._transport.is_closing():
            return
        if self.is_ending:
            return
        if self.session.in_flight > limits.REQUESTS_IN_FLIGHT_MAX // 2:
            return
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._handle(waiting)
            self.mark_dirty()
        if not self._waiting:
            self.is_paused = False
            self.idle_since = self._server.tick
            if not self.held:
                self._transport.resume_reading()


class ClientServer:
    """The listening socket and all that it accepted.

    Attributes:
        tick: seconds counted while there are connections.
        partial_bytes: of large messages that are half received, all clients together.
        open_session: makes the session of a new connection; given the connection, the peer's address and a
        callback
            that says "there is something to write".
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, passes: Passes, open_session: OpenSession) -> None:
        self.open_session = open_session
        self.tick = 0
        self.refused = 0
        self.cut_off = 0
        self._loop = loop
        self._connections: dict[ClientProtocol, None] = {}
        self._dirty: list[ClientProtocol] = []
        self.partial_bytes = 0
        self._partial = 0
        self._held: dict[ClientProtocol, None] = {}
        self._passes = passes
        self._timer: asyncio.TimerHandle | None = None
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None
        passes.add_flusher(self._flush)

    @property
    def connections(self) -> int:
        return len(self._connections)

    def take_port(self, address: str, port: int) -> int:
        """Bind; returns the port (which matters when 0 was asked for). Nobody is heard before ``start``.

        Raises:
            ConfigurationProblem: the address or the port can't be had.
        """
        self._socket = bind(address, port, "--cql-port")
        return int(self._socket.getsockname()[1])

    async def start(self) -> None:
        """Listen."""
        assert self._socket is not None, "take_port comes first"
        self._server = await self._loop.create_server(
            lambda: ClientProtocol(self), sock=self._socket, backlog=BACKLOG
        )

    def end(self) -> None:
        """Take no more clients, and nothing more from those that are there."""
        if self._server is not None:
            self._server.close()
        for protocol in self._connections:
            protocol.end()

    async def stop(self) -> None:
        """Stop listening and close every connection, what is outgoing included."""
        self.end()
        if self._timer is not None:
            self._timer.cancel()
        for protocol in list(self._connections):
            protocol.close()
        await asyncio.sleep(0)
        for protocol in list(self._connections):
            protocol.cut_off()

    def sessions(self) -> list[Session]:
        return [protocol.session for protocol in self._connections]

    def admit(self, protocol: ClientProtocol) -> bool:
        if len(self._connections) >= limits.CONNECTIONS_MAX:
            self.refused += 1
            return False
        self._connections[protocol] = None
        if self._timer is None:
            self._timer = self._loop.call_later(TICK_S, self._on_tick)
        return True

    def forget(self, protocol: ClientProtocol) -> None:
        self._connections.pop(protocol, None)
        if protocol.partial_bytes or protocol.held:
            protocol.held = False
            self._held.pop(protocol, None)
            self.note_partial(protocol, 0)

    def note_partial(self, protocol: ClientProtocol, size: int) -> None:
        """So much of a large message of this client is in memory. Past the bound only one client is read on."""
        self.partial_bytes += size - protocol.partial_bytes
        self._partial += bool(size) - bool(protocol.partial_bytes)
        protocol.partial_bytes = size
        read_on = self._partial - len(self._held)
        if self.partial_bytes > limits.PARTIAL_MESSAGES_BYTES_MAX and read_on:
            if size and not protocol.held and read_on > 1:
                self._held[protocol] = None
                protocol.hold()
        elif self._held:
            released = next(iter(self._held))
            del self._held[released]
            released.release()

    def mark_dirty(self, protocol: ClientProtocol) -> None:
        self._dirty.append(protocol)
        self._passes.arm()

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for protocol in dirty:
            protocol.flush()

    def _on_tick(self) -> None:
        self.tick += TICK_S
        for protocol in list(self._connections):
            reason = protocol.cut_off_reason(self.tick)
            if reason is not None:
                self.cut_off += 1
                log.warning("client cut off", client=protocol.session.peer, reason=reason)
                protocol.cut_off()
        self._timer = self._loop.call_later(TICK_S, self._on_tick) if self._connections else None


def bind(address: str, port: int, option: str) -> socket.socket:
    """A socket that has the port, and doesn't listen yet.

    Args:
        option: the command line's name of the port, for the message.
    Raises:
        ConfigurationProblem: the address or the port can't be had.
    """
    try:
        family = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0][0]
        taken = socket.socket(family, socket.SOCK_STREAM)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((address, port))
        # Who else wants the port is told so at once, and not only when this node begins to serve.
        taken.listen(BACKLOG)
        taken.setblocking(False)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = f"port {port} on {address} is taken by another process; choose another one with {option}"
        else:
            reason = f"can't listen on {address}:{port}: {error.strerror or error}"
        raise ConfigurationProblem(reason) from error
    except (ValueError, OverflowError) as error:
        raise ConfigurationProblem(f"can't listen on {address}:{port}: {error}") from error
    return taken


async def listen(
    loop: asyncio.AbstractEventLoop,
    protocol: Callable[[], asyncio.Protocol],
    address: str,
    port: int,
    option: str,
) -> asyncio.Server:
    """A listening server.

    Args:
        option: the command line's name of the port, for the message.
    Raises:
        ConfigurationProblem: the address or the port can't be had.
    """
    try:
        return await loop.create_server(protocol, address, port, backlog=BACKLOG, reuse_address=True)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = f"port {port} on {address} is taken by another process; choose another one with {option}"
        else:
            reason = f"can't listen on {address}:{port}: {error.strerror or error}"
        raise ConfigurationProblem(reason) from error
    except (socket.gaierror, ValueError, OverflowError) as error:
        raise ConfigurationProblem(f"can't listen on {address}:{port}: {error}") from error
