"""The peer port: sockets on one side, ``PeerConnection`` and the core on the other.

``PeerTransport`` is the ``Transport`` of a node. It holds the links, by which the node sends (``net.peer_links``), and
accepts the connections on which its peers send to it. What they say is given to ``receive`` with the link *to* the
peer, at the address that the peer has proved to be its own, so that an answer is ``link.send``. Everything that arrived
in one pass of the loop is handled before anything is sent (``net.loop.Passes``).

**Strangers.** Who doesn't finish the handshake in time, or speaks anything else, is closed, counted, and logged once in
a while. Of those in their handshake there may be ``PEER_UNAUTHENTICATED_CONNECTIONS_MAX``, and one more drives out the
oldest: a peer, whose handshake takes milliseconds, gets in between strangers that wait.

A peer that opens a lane again replaces its older connection, whose bytes must not come after newer ones.

**Cut links**, for tests and demonstrations of partitions: to a peer that is cut off there is no connection either way,
and every try takes as long, and ends as silently, as if the network swallowed it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final, cast
from uuid import UUID

import structlog

from ourodb import limits
from ourodb.net.clients import listen
from ourodb.net.loop import Passes
from ourodb.net.peer_links import Lane, PeerLink, watch
from ourodb.peer.connection import PeerConnection, State
from ourodb.peer.faults import PeerFault
from ourodb.peer.handshake import LANES, NONCE_BYTES, PeerIdentity, Role, encode_introduction
from ourodb.ports import Address, Link, Random, Receive

log = structlog.get_logger()

AdmitPeer = Callable[[PeerIdentity, Address | None], str | None]
"""(the peer, the address at which this node called it or None when it called us) -> why we don't want it, or None."""

ANY_LANE: Final = LANES[-1]


class IncomingProtocol(asyncio.Protocol):
    """A connection that a peer, or a stranger, opened.

    Attributes:
        source: where from, for the log.
        link: to the peer, once it has proved who it is.
    """

    __slots__ = ("_deadline", "_owner", "_transport", "connection", "link", "source")

    _transport: asyncio.Transport

    def __init__(self, owner: PeerTransport) -> None:
        self.connection = owner.answer()
        self.link: PeerLink | None = None
        self.source = "?"
        self._owner = owner
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        name = transport.get_extra_info("peername")
        if name:
            self.source = f"{name[0]}:{name[1]}"
        owner = self._owner
        self._deadline = owner.loop.call_later(
            limits.PEER_HANDSHAKE_MS_MAX / 1000, self.give_up, "its handshake took too long"
        )
        owner.let_in(self)

    def data_received(self, data: bytes) -> None:
        connection = self.connection
        messages = connection.receive(data)
        link = self.link
        if link is None:
            link = self._shake_hands()
        if link is not None:
            self._owner.bytes_in += len(data)
            if messages:
                self._owner.deliver(link, messages)
        if connection.state is State.CLOSED:
            self._transport.close()

    def eof_received(self) -> None:
        self.connection.receive_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self.connection.receive_eof()
        self._owner.part(self)

    def give_up(self, reason: str) -> None:
        """Speak no more with this stranger."""
        self.connection.give_up(reason)
        self._transport.abort()

    def close(self) -> None:
        """Hear nothing more; not for want of anything on the other side."""
        self.connection.close()
        self._transport.abort()

    def _shake_hands(self) -> PeerLink | None:
        """Answer; the link once the handshake is done."""
        connection = self.connection
        outgoing = connection.take_outgoing()
        if outgoing:
            self._transport.write(outgoing)
        if connection.state is not State.READY or connection.peer is None:
            return None
        self._stop_waiting()
        self.link = self._owner.introduce(self, connection.peer, connection.lane)
        return self.link

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class PeerTransport:
    """``Transport`` on sockets.

    Attributes:
        receive: given every message that arrives; what it raises is logged, and the next message goes on.
        admit: asked about each peer, on both ends, when it has proved who it is.
        on_connected: called with a peer's address when the first lane of the link to it is connected.
        on_disconnected: called with a peer's address when the last lane's connection was lost, and after each try to
            connect that failed while none is; ``True`` when the host answered that nobody listens: the process is gone.
        on_lane_lost: called with a peer's address and a lane when that lane's connection was lost, or a try to make it
            failed, while others go on: what was sent on it may never arrive.
        on_fault: called with a peer's address and what was wrong when a handshake with it failed.
        messages_in, bytes_in, messages_out, bytes_out: arrived and sent, on wires that were ready.
        messages_shed: not queued because their peer doesn't keep up, or too large.
        messages_dropped: not queued because their peer is away.
        handshakes_refused: connections of others that came to nothing.
        connections_broken: of peers, ended by bytes that weren't frames.
        receive_failures: messages whose handling raised.
        cut: the peers that are cut off.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        passes: Passes,
        random: Random,
        secret: bytes,
        identity: PeerIdentity,
        *,
        bind_address: str | None = None,
    ) -> None:
        """A node's transport; it neither listens nor connects yet.

        Args:
            secret: of the cluster.
            identity: of this node; its address is the one at which others reach it, and may be set after ``start``.
            bind_address: where outgoing connections come from; None leaves it to the system.
        Raises:
            LocalFault: the identity is too long.
        """
        self.loop = loop
        self.random = random
        self.bind_address = bind_address
        self.receive: Receive = _ignore
        self.admit: AdmitPeer = lambda peer, called: None
        self.on_connected: Callable[[Address], None] = lambda address: None
        self.on_disconnected: Callable[[Address, bool], None] = lambda address, refused: None
        self.on_lane_lost: Callable[[Address, int], None] = lambda address, lane: None
        self.on_fault: Callable[[Address, PeerFault], None] = lambda address, fault: None
        self.messages_in = self.bytes_in = 0
        self.messages_out = self.bytes_out = 0
        self.messages_shed = self.messages_dropped = 0
        self.handshakes_refused = 0
        self.connections_broken = 0
        self.receive_failures = 0
        self.cut: dict[Address, None] = {}
        self._passes = passes
        self._secret = secret
        self.identity = identity
        self._links: dict[Address, PeerLink] = {}
        self._dirty: list[Lane] = []
        self._strangers: dict[IncomingProtocol, None] = {}
        self._incoming: dict[tuple[UUID, int], IncomingProtocol] = {}
        self._complaints: dict[str, tuple[float, int]] = {}
        self._server: asyncio.Server | None = None
        self._is_stopped = False
        passes.add_flusher(self.flush)

    @property
    def identity(self) -> PeerIdentity:
        """Of this node, for the handshakes that begin from now on."""
        return self._identity

    @identity.setter
    def identity(self, identity: PeerIdentity) -> None:
        encode_introduction(identity, ANY_LANE)
        self._identity = identity

    async def start(self, address: str, port: int) -> int:
        """Listen; returns the port (which matters when 0 was asked for).

        Raises:
            ConfigurationProblem: the address or the port can't be had.
        """
        self._server = await listen(self.loop, lambda: IncomingProtocol(self), address, port, "--peer-port")
        for listening in self._server.sockets:
            watch(listening)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop listening, send what is queued as far as the kernel takes it, close every connection."""
        if self._server is not None:
            self._server.close()
        self.flush()
        self._is_stopped = True
        outgoing = [protocol for link in self._links.values() for protocol in link.forget()]
        for protocol in outgoing:
            protocol.close(abort=False)
        for incoming in (*self._strangers, *self._incoming.values()):
            incoming.close()
        await asyncio.sleep(0)
        for protocol in outgoing:
            protocol.close(abort=True)

    def link(self, address: Address) -> PeerLink:
        """See ``Transport.link``."""
        link = self._links.get(address)
        if link is None:
            link = self._links[address] = PeerLink(self, address)
            if self._is_stopped:
                link.forget()
        return link

    def forget(self, address: Address) -> None:
        """See ``Transport.forget``. What the peer has open to this node is closed as well."""
        link = self._links.pop(address, None)
        if link is None:
            return
        for protocol in link.forget():
            protocol.close(abort=True)
        for incoming in [incoming for incoming in self._incoming.values() if incoming.link is link]:
            incoming.close()

    def cut_off(self, addresses: Iterable[Address]) -> None:
        """Part this node from these peers and no others: connections end now, and new ones don't come about."""
        self.cut = dict.fromkeys(addresses)
        for address in self.cut:
            link = self._links.get(address)
            if link is not None:
                link.sever()
        for incoming in [incoming for incoming in self._incoming.values() if incoming.link is not None]:
            assert incoming.link is not None
            if incoming.link.address in self.cut:
                incoming.close()

    def links(self) -> list[PeerLink]:
        """All links, in the order in which they were first asked for."""
        return list(self._links.values())

    def queued_bytes(self, lane: int) -> int:
        """What waits to be sent on that lane of all links."""
        lanes = (link.lanes[lane] for link in self._links.values())
        return sum(one.waiting_bytes + one.unsent_bytes for one in lanes)

    @property
    def strangers(self) -> int:
        """Accepted connections that are in their handshake."""
        return len(self._strangers)

    @property
    def connections(self) -> int:
        """Accepted connections of peers."""
        return len(self._incoming)

    def flush(self) -> None:
        """Write what was sent in this pass; ``Passes`` calls it at the end."""
        dirty, self._dirty = self._dirty, []
        for lane in dirty:
            lane.flush()

    # What links and connections ask of the whole

    def mark_dirty(self, lane: Lane) -> None:
        self._dirty.append(lane)
        self._passes.arm()

    def call(self, address: Address, lane: int) -> PeerConnection:
        """The initiator's end of a connection to that address."""
        return PeerConnection(
            Role.INITIATOR,
            self._identity,
            self._secret,
            self.random.bytes(NONCE_BYTES),
            lane=lane,
            admit=lambda peer: self.admit(peer, address),
        )

    def answer(self) -> PeerConnection:
        """The responder's end of a connection."""
        return PeerConnection(
            Role.RESPONDER,
            self._identity,
            self._secret,
            self.random.bytes(NONCE_BYTES),
            admit=lambda peer: self.admit(peer, None),
        )

    def let_in(self, stranger: IncomingProtocol) -> None:
        """A connection was accepted."""
        if self._is_stopped:
            stranger.close()
            return
        if len(self._strangers) >= limits.PEER_UNAUTHENTICATED_CONNECTIONS_MAX:
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            oldest.give_up("too many others began a handshake after it")
        self._strangers[stranger] = None

    def introduce(self, incoming: IncomingProtocol, peer: PeerIdentity, lane: int) -> PeerLink | None:
        """A stranger has turned out to be a peer: the link to it; None when it is cut off."""
        self._strangers.pop(incoming, None)
        if peer.address in self.cut:
            incoming.close()
            return None
        older = self._incoming.get((peer.host_id, lane))
        if older is not None:
            older.close()
        self._incoming[peer.host_id, lane] = incoming
        link = self.link(peer.address)
        link.heard(peer)
        return link

    def part(self, incoming: IncomingProtocol) -> None:
        """An accepted connection ended."""
        self._strangers.pop(incoming, None)
        connection = incoming.connection
        peer = connection.peer
        if peer is not None and self._incoming.get((peer.host_id, connection.lane)) is incoming:
            del self._incoming[peer.host_id, connection.lane]
        fault = connection.error
        if fault is None:
            return
        if incoming.link is None:
            self.handshakes_refused += 1
            self.complain("peer refused", fault, source=incoming.source)
        else:
            self.connections_broken += 1
            self.complain("connection of a peer broken", fault, source=incoming.source, peer=str(peer))

    def deliver(self, link: PeerLink, messages: list[bytes]) -> None:
        """Hand over what arrived."""
        self.messages_in += len(messages)
        self._passes.arm()
        receive = self.receive
        for message in messages:
            try:
                receive(link, message)
            except Exception as error:
                # One message that we can't handle must not cost the peer those behind it.
                self.receive_failures += 1
                self.complain("message of a peer failed", error, peer=str(link.peer), exc_info=error)

    def complain(self, event: str, error: Exception | None = None, **fields: Any) -> None:
        """Log, but each kind of complaint only once in a while; the next one says how many were left out."""
        kind = f"{event}: {type(error).__name__}"
        last_s, unsaid = self._complaints.get(kind, (-limits.PEER_COMPLAINTS_INTERVAL_S, 0))
        now_s = self.loop.time()
        if now_s - last_s < limits.PEER_COMPLAINTS_INTERVAL_S:
            self._complaints[kind] = (last_s, unsaid + 1)
            return
        self._complaints[kind] = (now_s, 0)
        if error is not None:
            fields["reason"] = str(error)
        if unsaid:
            fields["more_since"] = unsaid
        log.warning(event, **fields)


def _ignore(link: Link, message: bytes) -> None:
    """What a node does with messages before it has said what to do with them."""
