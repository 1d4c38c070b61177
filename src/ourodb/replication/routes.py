"""From a position to the nodes that hold it, who of them can be asked now, and how many must answer.

A ``Route`` is that knowledge for one replica set of one keyspace, as of one moment; a request finds its route
with one bisection and one look into a list. Routes are made when first needed and thrown away together
whenever something they rest on moves: the ring, a keyspace, who is up, who is near. So the hot path never
counts the living.

The coordinator asks the nearest first: itself, then its own data centre by observed latency, then the others.

While rows change hands (``cluster.ring.moves``) the route of a range that does has two sets: one that reads go to, and
another one that writes go to as well. A write then needs its level in each of them by itself.

What goes by a route says as of which epoch it is one, so that a replica which knows better can refuse it. So a route is
good for as long as nothing is waited for: whoever has waited asks ``Routing`` where the rows are by then.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ourodb.cluster.ring.moves import overlaid
from ourodb.cluster.ring.placement import Placement, ReplicaSet
from ourodb.cql.wire.codes import Consistency
from ourodb.errors import RequestError
from ourodb.ports import Link, NodeId
from ourodb.replication.consistency import (
    LOCAL_LEVELS,
    knows_data_centers,
    misuse,
    quorum,
    quorums,
    replicas,
    required,
    unavailable,
)
from ourodb.replication.peers import Peers
from ourodb.schema.model import Keyspace
from ourodb.storage.mutation import Mutation

Distance = Callable[[NodeId], float]
"""How far a live member is; smaller is nearer. Only compared."""


class Need:
    """What one consistency level asks of one route.

    Attributes:
        level: wire code.
        required: acknowledgements.
        counted: only these nodes' count (LOCAL_*); None: everybody's.
        each: acknowledgements per data centre (EACH_QUORUM), else None.
        both: what it asks of each of the two sets of a range that changes hands; None for others.
    """

    __slots__ = ("both", "counted", "each", "level", "required")

    def __init__(
        self,
        level: int,
        required: int,
        counted: frozenset[NodeId] | None = None,
        each: Mapping[str, int] | None = None,
        both: tuple[Need, Need] | None = None,
    ) -> None:
        self.level = level
        self.required = required
        self.counted = counted
        self.each = each
        self.both = both

    def counts(self, node: NodeId) -> bool:
        """Whether the node's acknowledgement counts."""
        return self.counted is None or node in self.counted

    def is_met(self, acked: Sequence[NodeId], data_centers: Mapping[NodeId, str]) -> bool:
        """Whether acknowledgements of these nodes are enough."""
        counted = [node for node in acked if self.counts(node)]
        if self.each is None:
            return len(counted) >= self.required
        return all(
            sum(data_centers[node] == name for node in counted) >= wanted
            for name, wanted in self.each.items()
        )


@dataclass(frozen=True, slots=True)
class Electorate:
    """Who votes on conditional statements.

    Attributes:
        live: replicas that are up, nearest first.
        required: a quorum of all that there should be, up or not.
    """

    live: Sequence[NodeId]
    required: int


class Route:
    """How to reach one replica set, or the two of a range that changes hands.

    Attributes:
        epoch: of the metadata log, as of which this is the route: what goes by it says so; who knows better refuses.
        replicas: the set that reads go to.
        other: the one that writes go to besides; None as a rule.
        other_keyspace: the keyspace as it is for that one.
        keyspace: whose, as it is for reads.
        local: this node is in one of them.
        reads_here: this node is in the one that reads go to: it has all there is.
        alone: this node is all of them.
        remote: live replicas of both other than this node with their links, nearest first.
        down: replicas of both that the failure detector takes for down.
        data_centers: of each node of both.
    """

    __slots__ = (
        "_needs",
        "_reads",
        "_routes",
        "alone",
        "data_centers",
        "down",
        "epoch",
        "keyspace",
        "local",
        "other",
        "other_keyspace",
        "reads_here",
        "remote",
        "replicas",
    )

    def __init__(self, routes: KeyspaceRoutes, replicas: ReplicaSet, other: ReplicaSet | None = None) -> None:
        peers, me = routes.peers, routes.peers.me
        self._routes = routes
        self.epoch = routes.epoch
        self.keyspace = routes.keyspace
        self.other_keyspace = routes.other_keyspace
        self.replicas = replicas
        self.other = other
        nodes = replicas.nodes
        self.data_centers = {node: name for name, held in replicas.by_dc.items() for node in held}
        if other is not None:
            nodes = (*nodes, *(node for node in other.nodes if node not in nodes))
            self.data_centers |= {node: name for name, held in other.by_dc.items() for node in held}
        self.local = me in nodes
        self.reads_here = me in replicas.nodes
        self.alone = nodes == (me,)
        up, links = peers.up, peers.links
        live = [node for node in nodes if node != me and up.get(node) and node in links]
        live.sort(key=routes.distance)
        self.remote: tuple[tuple[NodeId, Link], ...] = tuple((node, links[node]) for node in live)
        self.down = tuple(node for node in nodes if node != me and node not in live)
        # Errors that are raised again and again begin with an empty traceback each time, or it would grow.
        self._needs: dict[int, Need | RequestError] = {}
        self._reads: dict[int, tuple[NodeId, ...] | RequestError] = {}

    def has_nodes_of(self, other: Route) -> bool:
        """Whether what goes by the one goes to the same nodes as what goes by the other."""
        return self.replicas.nodes == other.replicas.nodes and (
            None if self.other is None else self.other.nodes
        ) == (None if other.other is None else other.other.nodes)

    @property
    def alive(self) -> int:
        return len(self.remote) + self.local

    def live_nodes(self, local_only: bool = False) -> list[NodeId]:
        """Live replicas that reads go to, nearest first.

        Args:
            local_only: of this node's data centre.
        """
        return self._live(self.replicas, local_only)

    def electorates(self, local_only: bool = False) -> tuple[Electorate, ...]:
        """Those of the set that reads go to, and of the other one if there is one: each decides by itself.

        Args:
            local_only: of this node's data centre.
        """
        first = self._electorate(self.replicas, self.keyspace, local_only)
        if self.other is None:
            return (first,)
        return first, self._electorate(self.other, self.other_keyspace, local_only)

    def _electorate(self, set_: ReplicaSet, keyspace: Keyspace, local_only: bool) -> Electorate:
        factor = replicas(keyspace, self._routes.data_center if local_only else None)
        return Electorate(self._live(set_, local_only), quorum(factor))

    def _live(self, replicas: ReplicaSet, local_only: bool) -> list[NodeId]:
        me = self._routes.peers.me
        nodes = [me] if me in replicas.nodes else []
        nodes += [node for node, _ in self.remote if self.other is None or node in replicas.nodes]
        if local_only:
            here = self._routes.data_center
            nodes = [node for node in nodes if self.data_centers[node] == here]
        return nodes

    def next_without(self, nodes: Sequence[NodeId], level: int) -> list[NodeId]:
        """Who else must have what all of these have, so that as many do as the level asks for among those that will be
        read from once the range has changed hands; best those that are read from now as well.

        Raises:
            Unavailable: too few of them are up.
        """
        if self.other is None or self._routes.reads_after:
            return []
        both = self.write_need(level).both
        assert both is not None
        need = both[1]
        missing = need.required - sum([need.counts(node) for node in nodes])
        live = [node for node in self._live(self.other, False) if need.counts(node) and node not in nodes]
        if len(live) < missing:
            raise unavailable(level, missing, len(live))
        live.sort(key=lambda node: node not in self.replicas.nodes)
        return live[: max(missing, 0)]

    def reads_as(self, other: Route) -> bool:
        """Whether reads of the other one go to the same nodes."""
        return self.other is other.other is None and sorted(self.replicas.nodes) == sorted(
            other.replicas.nodes
        )

    def write_need(self, level: int) -> Need:
        """What a write at this level waits for.

        Raises:
            Unavailable, InvalidRequest: it can't be had.
        """
        need = self._needs.get(level)
        if need is None:
            need = self._needs[level] = misuse(level, write=True) or self._need(level)
        if isinstance(need, Need):
            return need
        raise need.with_traceback(None)

    def read_nodes(self, level: int) -> tuple[NodeId, ...]:
        """Whom a read at this level asks, nearest first.

        Raises:
            Unavailable, InvalidRequest: it can't be had.
        """
        nodes = self._reads.get(level)
        if nodes is None:
            nodes = self._reads[level] = misuse(level, write=False) or self._read_nodes(level)
        if isinstance(nodes, tuple):
            return nodes
        raise nodes.with_traceback(None)

    def _need(self, level: int) -> Need | RequestError:
        first = self._need_of(self.replicas, self.keyspace, level)
        if self.other is None or not isinstance(first, Need) or level == Consistency.ANY:
            return first
        second = self._need_of(self.other, self.other_keyspace, level)
        return Need(level, first.required, both=(first, second)) if isinstance(second, Need) else second

    def _need_of(self, replicas: ReplicaSet, keyspace: Keyspace, level: int) -> Need | RequestError:
        here = self._routes.data_center
        wanted = required(level, keyspace, here)
        if level == Consistency.ANY:
            return Need(level, wanted)
        if level == Consistency.EACH_QUORUM and knows_data_centers(keyspace):
            each = quorums(keyspace)
            for name, count in each.items():
                alive = sum(self.data_centers[node] == name for node in self._live(replicas, False))
                if alive < count:
                    return unavailable(level, count, alive, name)
            return Need(level, wanted, None if self.other is None else frozenset(replicas.nodes), each=each)
        local = level in LOCAL_LEVELS
        live = self._live(replicas, local)
        if len(live) < wanted:
            return unavailable(level, wanted, len(live))
        if not local and self.other is None:
            return Need(level, wanted)
        return Need(
            level,
            wanted,
            frozenset(node for node in replicas.nodes if not local or self.data_centers[node] == here),
        )

    def _read_nodes(self, level: int) -> tuple[NodeId, ...] | RequestError:
        wanted = required(level, self.keyspace, self._routes.data_center)
        live = self.live_nodes(local_only=level in LOCAL_LEVELS)
        if len(live) < wanted:
            return unavailable(level, wanted, len(live))
        return tuple(live[:wanted])


class KeyspaceRoutes:
    """The routes of one keyspace."""

    __slots__ = (
        "_bounds",
        "_made",
        "_others",
        "_routes",
        "_sets",
        "data_center",
        "distance",
        "epoch",
        "keyspace",
        "other_keyspace",
        "peers",
        "reads_after",
    )

    def __init__(
        self,
        keyspace: Keyspace,
        placement: Placement,
        peers: Peers,
        data_center: str,
        distance: Distance,
        after: Placement | None = None,
        keyspace_after: Keyspace | None = None,
        *,
        reads_after: bool = False,
        epoch: int = 0,
    ) -> None:
        """
        Args:
            epoch: see ``Route``.
            data_center: of this node.
            after: where everything will be when the move that is under way is over.
            keyspace_after: the keyspace as it will be then; None: as it is.
            reads_after: reads go there already.
        """
        self.epoch = epoch
        self.reads_after = reads_after
        pair = keyspace, keyspace_after or keyspace
        self.keyspace, self.other_keyspace = pair[::-1] if reads_after else pair
        self.peers = peers
        self.data_center = data_center
        self.distance = distance
        self._bounds = placement.bounds
        self._sets = placement.sets
        self._others: list[ReplicaSet | None] | None = None
        if after is not None:
            self._overlay(placement, after, reads_after=reads_after)
        self._routes: list[Route | None] = [None] * len(self._sets)
        self._made: dict[tuple[ReplicaSet, ReplicaSet | None], Route] = {}

    def _overlay(self, placement: Placement, after: Placement, *, reads_after: bool) -> None:
        self._bounds, self._sets, self._others = [], [], []
        for start, _, old, new in overlaid(placement, after):
            if start:
                self._bounds.append(start)
            read, other = (new, old) if reads_after else (old, new)
            self._sets.append(read)
            self._others.append(None if sorted(old.nodes) == sorted(new.nodes) else other)

    def find(self, position: bytes) -> Route:
        """The route of a position; the hot path of every request."""
        index = bisect_right(self._bounds, position)
        route = self._routes[index]
        return self._at(index) if route is None else route

    def all(self) -> Iterator[Route]:
        """The routes of all ranges."""
        for index in range(len(self._sets)):
            yield self._at(index)

    def between(self, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes | None, Route]]:
        """The token ranges of [start, end) with their routes, in order; neighbours with the same nodes are one."""
        pending: tuple[bytes, bytes | None, Route] | None = None
        for low, high, route in self._ranges(start, end):
            if pending is not None and pending[2].reads_as(route):
                pending = (pending[0], high, pending[2])
                continue
            if pending is not None:
                yield pending
            pending = (low, high, route)
        if pending is not None:
            yield pending

    def _ranges(self, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes | None, Route]]:
        index = bisect_right(self._bounds, start)
        while end is None or start < end:
            bound = self._bounds[index] if index < len(self._bounds) else None
            if bound is None or (end is not None and end <= bound):
                yield start, end, self._at(index)
                return
            yield start, bound, self._at(index)
            start = bound
            index += 1

    def _at(self, index: int) -> Route:
        route = self._routes[index]
        if route is None:
            key = self._sets[index], None if self._others is None else self._others[index]
            route = self._made.get(key)
            if route is None:
                route = self._made[key] = Route(self, *key)
            self._routes[index] = route
        return route


class Routing:
    """Where the rows are now: for whoever begins, and for whoever has waited since he began.

    Attributes:
        of: the routes of a keyspace, by its name. Raises InvalidRequest: there is none.
    """

    __slots__ = ("of",)

    def __init__(self, of: Callable[[str], KeyspaceRoutes]) -> None:
        self.of = of

    def find(self, keyspace: str, position: bytes) -> Route:
        """The route of a partition. Raises as ``of``."""
        return self.of(keyspace).find(position)

    def present(self, route: Route, position: bytes) -> Route:
        """The route of the partition that had this one. Raises as ``of``."""
        return self.find(route.keyspace.name, position)

    def all_present(self, routes: Sequence[Route], mutations: Sequence[Mutation]) -> list[Route]:
        """The routes of mutations that had these. Raises as ``of``."""
        return [
            self.present(route, mutation.position) for route, mutation in zip(routes, mutations, strict=True)
        ]

    def is_outdated(self, route: Route) -> bool:
        """Whether routes of its keyspace are of a later epoch now: one range may have become several."""
        try:
            return self.of(route.keyspace.name).epoch != route.epoch
        except RequestError:
            return False

    def has_moved(self, route: Route, position: bytes) -> bool:
        """Whether a partition that had this route has other replicas now. One whose keyspace is gone hasn't."""
        try:
            return not self.present(route, position).has_nodes_of(route)
        except RequestError:
            return False
