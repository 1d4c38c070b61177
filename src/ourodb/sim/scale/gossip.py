"""How fast changes and deaths become known, what that costs, and who is wrongly held to be DOWN.

One ring goes through everything in turn: it starts, all nodes within a round; it is left alone; a few nodes say
something new; messages are lost; a few nodes pause for ten seconds, and do so again; at last a few machines
vanish. Small rings lose messages and pause for longer, so that each size is watched for about as many hours of
nodes.

A node is *wrongly* DOWN when somebody comes to hold it so while it runs. That it is DOWN while it pauses is
right: a request would wait for it. If the news of that still reaches somebody after it woke, that counts as
wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Final

from ourodb.cluster.gossip.state import EPOCH as EPOCH_FIELD
from ourodb.limits import GOSSIP_ROUND_MS
from ourodb.ports import NodeId
from ourodb.sim.chance import Chance
from ourodb.sim.scale.figures import GossipFigures, Spread
from ourodb.sim.scale.ring import EPOCH, ROUND_NS, GossipRing, Seat

Progress = Callable[[str], None]

START_ROUNDS_MAX: Final = 120
NEWS_ROUNDS_MAX: Final = 120
"""For something to become known everywhere, before it is taken for lost."""
SETTLE_ROUNDS: Final = 4
QUIET_ROUNDS: Final = 60
"""A minute: whom others happen to speak to evens out by then."""
NODE_ROUNDS: Final = 9_000
"""Two and a half node-hours: so long a ring loses messages at least, all nodes taken together."""
FAULT_ROUNDS_MIN: Final = 20
"""A death needs ten to be found."""
LOSS_PPM: Final = 10_000
PAUSE_ROUNDS: Final = 10
WATCH_ROUNDS: Final = 12
"""After a pause; one that woke is UP again and has judged all others by then."""
TEACHERS_PART: Final = 30
TEACHERS_MAX: Final = 5
"""One node in so many, and no more than so many, change, pause, or die together."""


class NeverKnown(AssertionError):
    """Something isn't known everywhere after ``NEWS_ROUNDS_MAX``."""


class Observation:
    """Watches a ring.

    Attributes:
        ups: pairs of which one holds the other to be UP.
        wrong_downs: how often a node that runs was found DOWN.
        heard_ns: when what is awaited was heard, by whomever.
        woke_ns: when nodes woke from their pauses.
        return_ns: the longest that it took from then on until somebody held such a node to be UP again.
    """

    def __init__(self, ring: GossipRing) -> None:
        self._ring = ring
        self.ups = 0
        self.wrong_downs = 0
        self._awaited: dict[tuple[NodeId, NodeId], None] = {}
        self._news: dict[NodeId, dict[NodeId, None]] = {}
        self.heard_ns: list[int] = []
        self.woke_ns: dict[NodeId, int] = {}
        self.return_ns = 0
        ring.on_change = self._on_change
        ring.on_received = self._on_received

    def await_news(self, teachers: list[NodeId]) -> None:
        """Note when each other node hears that these have applied the next epoch."""
        self.heard_ns = []
        self._news = {
            seat.node: dict.fromkeys(node for node in teachers if node != seat.node)
            for seat in self._ring.living()
        }

    def await_deaths(self, nodes: list[NodeId]) -> None:
        """Note when each living node comes to hold these to be DOWN."""
        self.heard_ns = []
        self._awaited = {(seat.node, node): None for seat in self._ring.living() for node in nodes}

    def is_known(self) -> bool:
        """Whether nothing is awaited any more."""
        return not self._awaited and not self._news

    def is_whole(self) -> bool:
        """Whether all hold all to be UP."""
        nodes = len(self._ring.seats)
        return self.ups == nodes * (nodes - 1)

    def wake(self, node: NodeId) -> None:
        self.woke_ns[node] = self._ring.loop.now_ns
        self._ring.resume(node)

    def _on_change(self, observer: NodeId, node: NodeId, is_up: bool) -> None:
        self.ups += 1 if is_up else -1
        seat = self._ring.seats[node]
        if not is_up and seat.gossip is not None and not seat.is_paused:
            self.wrong_downs += 1
        if is_up and node in self.woke_ns:
            self.return_ns = max(self.return_ns, self._ring.loop.now_ns - self.woke_ns[node])
        if not is_up and (observer, node) in self._awaited:
            del self._awaited[observer, node]
            self.heard_ns.append(self._ring.loop.now_ns)

    def _on_received(self, seat: Seat) -> None:
        unknown = self._news.get(seat.node)
        if unknown is None or seat.gossip is None:
            return
        heard = [node for node in unknown if seat.gossip.states[node].epoch > EPOCH]
        for node in heard:
            del unknown[node]
            self.heard_ns.append(self._ring.loop.now_ns)
        if not unknown:
            del self._news[seat.node]


def measure_gossip(
    nodes: int, seed: int, progress: Progress, *, node_rounds: int = NODE_ROUNDS
) -> GossipFigures:
    """Take one ring through everything.

    Args:
        progress: is told what comes next.
        node_rounds: so long messages are lost, and about so long nodes pause, all nodes taken together.
    Raises:
        NeverKnown: a change or a death isn't known everywhere in the end.
    """
    ring = GossipRing(nodes, seed)
    watch = Observation(ring)
    chance = Chance.of_seed(seed).child("teachers")
    count = min(TEACHERS_MAX, max(1, nodes // TEACHERS_PART))
    some = chance.sample(list(ring.seats), 2 * count)
    changing, dying = some[:count], some[count:]

    progress("start")
    start = _start(ring, watch)
    ring.run(SETTLE_ROUNDS)

    progress("quiet")
    before = [(seat.bytes_sent + seat.bytes_received, seat.messages_sent) for seat in ring.seats.values()]
    ring.run(QUIET_ROUNDS)
    spent = [
        (seat.bytes_sent + seat.bytes_received - carried, seat.messages_sent - sent)
        for seat, (carried, sent) in zip(ring.seats.values(), before, strict=True)
    ]
    seconds = QUIET_ROUNDS * GOSSIP_ROUND_MS / 1_000

    progress("a change")
    for node in changing:
        gossip = ring.seats[node].gossip
        assert gossip is not None
        gossip.update(**{EPOCH_FIELD: EPOCH + 1})
    watch.await_news(changing)
    change = _spread(ring, watch)

    rounds = max(FAULT_ROUNDS_MIN, node_rounds // nodes)
    progress(f"{rounds} rounds with lost messages")
    wrong_before = watch.wrong_downs
    ring.loss_ppm = LOSS_PPM
    ring.run(rounds)
    ring.loss_ppm = 0
    loss_hours = _node_hours(nodes, rounds)
    false_downs_loss = (watch.wrong_downs - wrong_before) / loss_hours
    ring.run(SETTLE_ROUNDS)

    waves = max(1, node_rounds // nodes // (PAUSE_ROUNDS + WATCH_ROUNDS))
    progress(f"{waves} times {count} pauses")
    wrong_before = watch.wrong_downs
    returns_ns = [_pause(ring, watch, chance, count) for _ in range(waves)]
    pause_hours = _node_hours(nodes, waves * (PAUSE_ROUNDS + WATCH_ROUNDS))
    false_downs_pauses = (watch.wrong_downs - wrong_before) / pause_hours

    progress("deaths")
    for node in dying:
        ring.kill(node)
    watch.await_deaths(dying)
    death = _spread(ring, watch)
    return GossipFigures(
        nodes=nodes,
        start=start,
        quiet_rounds=QUIET_ROUNDS,
        bytes_per_second=sum(carried for carried, _ in spent) / nodes / seconds,
        bytes_per_second_busiest=max(carried for carried, _ in spent) / seconds,
        messages_per_second=sum(sent for _, sent in spent) / nodes / seconds,
        change=change,
        death=death,
        loss_node_hours=loss_hours,
        false_downs_loss=false_downs_loss,
        pause_node_hours=pause_hours,
        pauses=waves * count,
        false_downs_pauses=false_downs_pauses,
        return_rounds=max(returns_ns) / ROUND_NS,
    )


def _start(ring: GossipRing, watch: Observation) -> Spread:
    """All start; how long until pairs see each other."""
    pairs = len(ring.seats) * (len(ring.seats) - 1)
    half_ns = 0
    ring.start_all()
    if ring.run_until(lambda: watch.ups >= pairs // 2, START_ROUNDS_MAX):
        half_ns = ring.loop.now_ns
    if not ring.run_until(watch.is_whole, START_ROUNDS_MAX):
        raise NeverKnown(f"{pairs - watch.ups} pairs of {pairs} don't see each other")
    return Spread(half_ns / ROUND_NS, ring.loop.now_ns / ROUND_NS, _kilobytes(ring, 0))


def _spread(ring: GossipRing, watch: Observation) -> Spread:
    """Until what is awaited is known everywhere."""
    since_ns, carried = ring.loop.now_ns, ring.bytes_carried()
    if not ring.run_until(watch.is_known, NEWS_ROUNDS_MAX):
        raise NeverKnown(f"not known everywhere after {NEWS_ROUNDS_MAX} rounds")
    rounds = [(heard_ns - since_ns) / ROUND_NS for heard_ns in watch.heard_ns]
    return Spread(median(rounds), max(rounds), _kilobytes(ring, carried))


def _pause(ring: GossipRing, watch: Observation, chance: Chance, count: int) -> int:
    """So many nodes pause, each from a moment of its own, and wake.

    Returns:
        Nanoseconds from the end of a pause until all hold the node to be UP again; the longest.
    """
    loop = ring.loop
    watch.woke_ns.clear()
    watch.return_ns = 0
    for node in chance.sample(list(ring.seats), count):
        delay_ns = chance.below(ROUND_NS)
        loop.after(delay_ns, ring.pause, node)
        loop.after(delay_ns + PAUSE_ROUNDS * ROUND_NS, watch.wake, node)
    ring.run(PAUSE_ROUNDS + WATCH_ROUNDS)
    if not watch.is_whole():
        raise NeverKnown(f"a node that woke is not UP everywhere after {WATCH_ROUNDS} rounds")
    return watch.return_ns


def _kilobytes(ring: GossipRing, before_bytes: int) -> float:
    """What a node sent and received since then: each frame is sent by one and received by another."""
    return 2 * (ring.bytes_carried() - before_bytes) / len(ring.seats) / 1_000


def _node_hours(nodes: int, rounds: int) -> float:
    return nodes * rounds * GOSSIP_ROUND_MS / 3_600_000
