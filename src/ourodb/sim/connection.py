"""One connection between two nodes: what TCP is to them, one way.

Segments (what one pass sent) arrive in order, however late each is. When a path is cut they stall; when it
heals soon they are sent again; when it doesn't, the sender gives up after ``PEER_UNACKNOWLEDGED_MS_MAX``, as
its kernel is told to do, and whatever hasn't arrived is lost. So it is with a connection on which nothing is
sent: its probes stay unanswered.

What is lost is always a tail. Whoever lost a connection doesn't know how long that tail is: what had arrived,
or what still does, counts as lost to a sender that wasn't told. A process that dies closes its connections, and
its peers hear of it, unless the machine died as well: then they hear nothing, or, once it is back, that nobody
knows the connection.

All that is here happens between processes, in the kernels and on the wire. ``link`` is what processes know of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ourodb.limits import PEER_IDLE_PROBE_SECONDS, PEER_UNACKNOWLEDGED_MS_MAX
from ourodb.sim.network import Network
from ourodb.sim.tasks import MS, S
from ourodb.sim.trace import Kind

if TYPE_CHECKING:
    from ourodb.sim.link import Lane
    from ourodb.sim.process import Process

GIVE_UP_NS: Final = (PEER_UNACKNOWLEDGED_MS_MAX * MS, PEER_UNACKNOWLEDGED_MS_MAX * MS * 5 // 4)
"""A sender gives up when nothing was acknowledged for a time between these."""
RETRANSMIT_NS: Final = (1 * MS, PEER_UNACKNOWLEDGED_MS_MAX * MS // 2)
"""What stalled is sent again so long after the path has healed."""

Segment = tuple[int, list[bytes], int]
"""(number, messages, bytes)"""


class Connection:
    """One connection.

    Attributes:
        lane: the sender's.
        receiver: the process that accepted it.
        is_open: the sender's kernel hasn't given it up.
        waiting_bytes: sent and not known to have been handled.
    """

    __slots__ = (
        "_arrived", "_cut", "_early", "_handled_bytes", "_is_dropped", "_is_probing", "_is_watched", "_late",
        "_network", "_sent", "_source", "_stalled", "_target", "_troubles", "is_open", "lane", "receiver",
        "waiting_bytes",
    )  # fmt: skip

    def __init__(self, network: Network, lane: Lane, receiver: Process) -> None:
        self.lane = lane
        self.receiver = receiver
        self.is_open = True
        self.waiting_bytes = 0
        self._network = network
        self._source = lane.process.index
        self._target = receiver.index
        self._sent = 0
        self._arrived = 0
        """Segments before this one have arrived in order."""
        self._early: dict[int, Segment] = {}
        """Segments that arrived before their turn."""
        self._cut: int | None = None
        """Segments from this one on never arrive."""
        self._late: list[Segment] = []
        """Segments that were sent while the path was impaired."""
        self._stalled: list[Segment] = []
        """Segments that were swallowed by a cut path."""
        self._handled_bytes = 0
        """Handled, but the acknowledgement was swallowed."""
        self._is_probing = False
        self._is_dropped = False
        self._is_watched = False
        self._troubles = 0
        network.register(self, self._source, self._target)

    # The sender's end

    def transmit(self, messages: list[bytes], size: int) -> None:
        """Send one segment of so many bytes."""
        self.waiting_bytes += size
        segment = (self._sent, messages, size)
        self._sent += 1
        self._launch(segment)

    def reset(self) -> None:
        """Something between both ends breaks it: a random tail is lost, and the sender hears of it."""
        self._lose_tail()
        network = self._network
        network.loop.after(network.delay_ns(self._target, self._source), self._on_reset)

    def abandon(self) -> None:
        """The sender's process has closed it, or is gone; its machine goes on sending, up to a point."""
        self._lose_tail()
        self._end()

    def lose(self) -> None:
        """The sender's machine gives it up; what is on its way may still arrive, up to a point."""
        self._lose_tail()
        self._stalled.clear()
        self._end()

    def _end(self) -> None:
        self.is_open = False
        self._network.unregister(self, self._source, self._target)

    def _lose_tail(self) -> None:
        if self._cut is None:
            self._cut = self._network.chance.between(self._arrived, self._sent)

    def _on_reset(self, _: object) -> None:
        if self.is_open:
            self.lose()
            self.lane.process.post(Kind.DISCONNECTED, self.lane.on_lost, self)

    def _launch(self, segment: Segment) -> None:
        network = self._network
        source, target = self._source, self._target
        if network.is_whole or network.is_open(source, target):
            delay_ns = network.delay_ns(source, target, segment[2])
            network.loop.after(delay_ns, self._arrive, segment)
            if network.is_impaired and network.is_path_impaired(source, target):
                self._late.append(segment)
                if delay_ns > GIVE_UP_NS[0]:
                    network.loop.after(network.chance.between(*GIVE_UP_NS), self._overdue, segment)
        else:
            self._stall(segment)

    def _overdue(self, segment: Segment) -> None:
        """It wasn't acknowledged in time, whether it arrives in the end or not."""
        if segment[0] >= self._arrived:
            self._on_reset(None)

    def on_mended(self) -> None:
        """The path is as usual: what is still on its way is sent again, and whichever of the two is later ignored."""
        late, self._late = self._late, []
        for segment in late:
            if segment[0] >= self._arrived:
                self._launch(segment)

    def _stall(self, segment: Segment) -> None:
        self._stalled.append(segment)
        self._watch()

    def _watch(self) -> None:
        """See that the sender gives up if this goes on."""
        network = self._network
        network.trouble(self)
        if not self._is_watched:
            self._is_watched = True
            network.loop.after(network.chance.between(*GIVE_UP_NS), self._give_up, self._troubles)

    def _give_up(self, troubles: int) -> None:
        if troubles == self._troubles:
            self._on_reset(None)

    def on_cut(self) -> None:
        """A path of it was cut: probes will tell, if nothing else does."""
        self._network.loop.after(PEER_IDLE_PROBE_SECONDS * S, self._probe)

    def _probe(self, _: object) -> None:
        if not self.is_open:
            return
        if not self._is_through():
            self._is_probing = True
            self._watch()
        elif not self.receiver.is_alive:
            self.refuse()

    def _is_through(self) -> bool:
        network = self._network
        return network.is_open(self._source, self._target) and network.is_open(self._target, self._source)

    def look_again(self) -> None:
        """Something healed in the network."""
        network = self._network
        if self._handled_bytes and network.is_open(self._target, self._source):
            self.waiting_bytes -= self._handled_bytes
            self._handled_bytes = 0
        if self._is_probing and self._is_through():
            self._is_probing = False
            # The next probe may find that the machine knows nothing of it any more.
            wait_ns = network.chance.below(PEER_IDLE_PROBE_SECONDS * S)
            network.loop.after(wait_ns, self._probe)
        if self._stalled and network.is_open(self._source, self._target):
            network.loop.after(network.chance.between(*RETRANSMIT_NS), self._retransmit)
        self._calm_down()

    def _retransmit(self, _: object) -> None:
        stalled, self._stalled = self._stalled, []
        for segment in stalled:
            self._launch(segment)
        self._calm_down()

    def _calm_down(self) -> None:
        """Nobody gives up any more, unless something is still stuck."""
        if self._stalled or self._handled_bytes or self._is_probing:
            self._network.trouble(self)
        elif self._is_watched:
            self._is_watched = False
            self._troubles += 1

    # The receiver's end

    def fence(self) -> None:
        """The receiver has closed it: nothing more is taken from it."""
        self._cut = self._arrived
        self._stalled.clear()
        self._is_dropped = True

    def refuse(self) -> None:
        """The receiver's machine tells the sender that nobody knows this connection."""
        network = self._network
        if network.is_open(self._target, self._source):
            network.loop.after(network.delay_ns(self._target, self._source), self._on_refusal)

    def _on_refusal(self, _: object) -> None:
        if self._network.is_open(self._target, self._source):
            self._on_reset(None)

    def _arrive(self, segment: Segment) -> None:
        network = self._network
        if not network.is_whole and not network.is_open(self._source, self._target):
            self._stall(segment)
            return
        if self._is_dropped or not self.receiver.is_alive:
            self.refuse()
            return
        number, messages, _ = segment
        early = self._early
        if number != self._arrived:
            if number > self._arrived:
                early[number] = segment
            return
        cut = self._cut
        if cut is not None and number >= cut:
            return
        self._arrived = number = number + 1
        if early:
            messages = messages[:]
            while number in early and (cut is None or number < cut):
                messages += early.pop(number)[1]
                self._arrived = number = number + 1
        self.receiver.take_messages(self._receive, messages)

    def _receive(self, message: bytes) -> None:
        """In a pass of the receiver's."""
        if self._is_dropped:
            return
        receiver, transport = self.receiver, self.receiver.transport
        address = self.lane.process.address
        receiver.program.receive(transport.links.get(address) or transport.link(address), message)
        network = self._network
        if network.is_whole or network.is_open(self._target, self._source):
            self.waiting_bytes -= len(message)
        elif self.is_open:
            self._handled_bytes += len(message)
            self._watch()
