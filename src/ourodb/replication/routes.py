"""From a position to the nodes that hold it, who of them can be asked now, and how many must answer.

A ``Route`` is that knowledge for one replica set of one keyspace, as of one moment; a request finds its route
with one bisection and one look into a list. Routes are made when first needed and thrown away together
whenever something they rest on moves: the ring, a keyspace, who is up, who is near. So the hot path never
counts the living.

The coordinator asks the nearest first: itself, then its own data centre by observed latency, then the others.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping

from ourodb.cluster.ring.placement import Placement, ReplicaSet
from ourodb.cql.wire.codes import Consistency
from ourodb.errors import RequestError
from ourodb.ports import Link, NodeId
from ourodb.replication.consistency import (
    LOCAL_LEVELS,
    knows_data_centers,
    misuse,
    quorums,
    replicas,
    required,
    unavailable,
)
from ourodb.replication.peers import Peers
from ourodb.schema.model import Keyspace

Distance = Callable[[NodeId], float]
"""How far a live member is; smaller is nearer. Only compared."""


class Need:
    """What one consistency level asks of one route.

    Attributes:
        level: wire code.
        required: acknowledgements.
        counted: only these nodes' count (LOCAL_*); None: everybody's.
        each: acknowledgements per data centre (EACH_QUORUM), else None.
    """

    __slots__ = ("counted", "each", "level", "required")

    def __init__(
        self,
        level: int,
        required: int,
        counted: frozenset[NodeId] | None = None,
        each: Mapping[str, int] | None = None,
    ) -> None:
        self.level = level
        self.required = required
        self.counted = counted
        self.each = each


class Route:
    """How to reach one replica set.

    Attributes:
        replicas: the set.
        keyspace: whose.
        local: this node is in it.
        alone: this node is all of it.
        remote: live replicas other than this node with their links, nearest first.
        down: replicas that the failure detector takes for down.
        data_centers: of each node of the set.
    """

    __slots__ = (
        "_needs",
        "_reads",
        "_routes",
        "alone",
        "data_centers",
        "down",
        "keyspace",
        "local",
        "remote",
        "replicas",
    )

    def __init__(self, routes: KeyspaceRoutes, replicas: ReplicaSet) -> None:
        peers, me = routes.peers, routes.peers.me
        self._routes = routes
        self.keyspace = routes.keyspace
        self.replicas = replicas
        self.local = me in replicas.nodes
        self.alone = replicas.nodes == (me,)
        self.data_centers = {node: name for name, nodes in replicas.by_dc.items() for node in nodes}
        up, links = peers.up, peers.links
        live = [node for node in replicas.nodes if node != me and up.get(node) and node in links]
        live.sort(key=routes.distance)
        self.remote: tuple[tuple[NodeId, Link], ...] = tuple((node, links[node]) for node in live)
        self.down = tuple(node for node in replicas.nodes if node != me and node not in live)
        self._needs: dict[int, Need | RequestError] = {}
        self._reads: dict[int, tuple[NodeId, ...] | RequestError] = {}

    @property
    def alive(self) -> int:
        return len(self.remote) + self.local

    def live_nodes(self, local_only: bool = False) -> list[NodeId]:
        """Live replicas, nearest first.

        Args:
            local_only: of this node's data centre.
        """
        nodes = [self._routes.peers.me] if self.local else []
        nodes += [node for node, _ in self.remote]
        if local_only:
            here = self._routes.data_center
            nodes = [node for node in nodes if self.data_centers[node] == here]
        return nodes

    def electorate(self, local_only: bool = False) -> int:
        """How many replicas there should be, up or not: a quorum of them decides.

        Args:
            local_only: of this node's data centre.
        """
        return replicas(self.keyspace, self._routes.data_center if local_only else None)

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
        raise need

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
        raise nodes

    def _need(self, level: int) -> Need | RequestError:
        here = self._routes.data_center
        wanted = required(level, self.keyspace, here)
        if level == Consistency.ANY:
            return Need(level, wanted)
        if level == Consistency.EACH_QUORUM and knows_data_centers(self.keyspace):
            each = quorums(self.keyspace)
            for name, count in each.items():
                alive = sum(self.data_centers[node] == name for node in self.live_nodes())
                if alive < count:
                    return unavailable(level, count, alive, name)
            return Need(level, wanted, each=each)
        local = level in LOCAL_LEVELS
        live = self.live_nodes(local_only=local)
        if len(live) < wanted:
            return unavailable(level, wanted, len(live))
        if not local:
            return Need(level, wanted)
        counted = frozenset(node for node, name in self.data_centers.items() if name == here)
        return Need(level, wanted, counted)

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
        "_routes",
        "_sets",
        "data_center",
        "distance",
        "keyspace",
        "peers",
        "placement",
    )

    def __init__(
        self, keyspace: Keyspace, placement: Placement, peers: Peers, data_center: str, distance: Distance
    ) -> None:
        """
        Args:
            data_center: of this node.
        """
        self.keyspace = keyspace
        self.placement = placement
        self.peers = peers
        self.data_center = data_center
        self.distance = distance
        self._bounds = placement.bounds
        self._sets = placement.sets
        self._routes: list[Route | None] = [None] * len(placement.sets)
        self._made: dict[ReplicaSet, Route] = {}

    def find(self, position: bytes) -> Route:
        """The route of a position; the hot path of every request."""
        index = bisect_right(self._bounds, position)
        route = self._routes[index]
        if route is None:
            route = self._routes[index] = self.of(self._sets[index])
        return route

    def of(self, replicas: ReplicaSet) -> Route:
        """The route of a replica set of the placement."""
        route = self._made.get(replicas)
        if route is None:
            route = self._made[replicas] = Route(self, replicas)
        return route

    def between(self, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes | None, Route]]:
        """The token ranges of [start, end) with their routes, in order; neighbours with the same nodes are one."""
        pending: tuple[bytes, bytes | None, Route] | None = None
        for low, high, nodes in self.placement.ranges_between(start, end):
            route = self.of(nodes)
            if pending is not None and sorted(pending[2].replicas.nodes) == sorted(nodes.nodes):
                pending = (pending[0], high, pending[2])
                continue
            if pending is not None:
                yield pending
            pending = (low, high, route)
        if pending is not None:
            yield pending
