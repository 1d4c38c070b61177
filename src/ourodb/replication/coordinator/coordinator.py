"""What a coordinator does with a statement that is bound: find the replicas, ask them, count.

Any node coordinates. ``Coordinator`` knows the routes of each keyspace as of the present view of the cluster
and of who can be reached; whoever goes on after he has waited asks for them anew (``routing``). Keyspaces that aren't
replicated (LocalStrategy) are this node's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from ourodb.cluster.metadata.view import ClusterView
from ourodb.cluster.ring.moves import Stage
from ourodb.cql.wire.codes import Consistency
from ourodb.errors import InvalidRequest, StoreError
from ourodb.ports import Clock, NodeId, Store
from ourodb.replication.coordinator.fetch import Fetch, FetchContext
from ourodb.replication.coordinator.rows import FirstFetch, ReplicatedRows
from ourodb.replication.coordinator.write import Over, WriteContext, WriteOperation, write_all
from ourodb.replication.hints import Hints
from ourodb.replication.latency import Latencies
from ourodb.replication.peers import Peers
from ourodb.replication.replica.reads import ReadCommand
from ourodb.replication.replica.writes import Done, Writes
from ourodb.replication.routes import KeyspaceRoutes, Route, Routing
from ourodb.schema.keyspaces import LOCAL
from ourodb.schema.model import Table
from ourodb.storage.mutation import Mutation
from ourodb.storage.rows import TableRows

MICROS = 1_000_000


class Coordinator:
    """The coordinating side of one node.

    Attributes:
        routing: where rows are now.
        fetches, writing: what all reads and all writes share.
    """

    def __init__(
        self,
        view: ClusterView,
        peers: Peers,
        store: Store,
        writes: Writes,
        hints: Hints,
        clock: Clock,
        latencies: Latencies,
    ) -> None:
        self.peers = peers
        self.routing = Routing(self.routes)
        self.writing = WriteContext(peers, self.routing, writes, hints, clock)
        self.fetches = FetchContext(
            peers, self.routing, store, writes, clock, latencies.speculate_after_ms, latencies.observe_us
        )
        peers.caught_up(view.epoch)
        self._view = view
        self._writes = writes
        self._clock = clock
        self._latencies = latencies
        self._routes: dict[str, KeyspaceRoutes] = {}
        hints.hand_on = self._hand_on
        hints.is_for = self._is_for

    # The cluster as it is now

    def view_changed(self, view: ClusterView) -> None:
        """The metadata log moved."""
        self._view = view
        self._routes.clear()
        self.peers.caught_up(view.epoch)

    def reachability_changed(self) -> None:
        """Somebody went up or down, or the order of nearness may be another one."""
        self._routes.clear()

    def routes(self, keyspace: str) -> KeyspaceRoutes:
        """The routes of a keyspace that exists."""
        routes = self._routes.get(keyspace)
        if routes is None:
            view, me = self._view, self.peers.me
            found = view.schema.keyspaces.get(keyspace)
            if found is None:
                raise InvalidRequest(f"Keyspace {keyspace} does not exist")
            after = None
            if found.replication.strategy == LOCAL:
                placement = view.ring.local(me)
            else:
                placement, after = view.placements(found)
            member = view.members[me]
            routes = self._routes[keyspace] = KeyspaceRoutes(
                found,
                placement,
                self.peers,
                member.data_center,
                self._distance,
                after,
                None if view.move is None else replace(found, replication=view.move.replication_after(found)),
                reads_after=view.move is not None and view.move.stage is Stage.SWITCHED,
                epoch=view.epoch,
            )
        return routes

    def _distance(self, node: NodeId) -> float:
        """Nodes of other data centres are farther than any of this one."""
        member, other = self._view.members[self.peers.me], self._view.members[node]
        latency = self._latencies.of_us(node)
        return latency if member.data_center == other.data_center else latency + 1e9

    # Writes

    def write(self, keyspace: str, mutation: Mutation, level: int, now_s: int, done: Done) -> None:
        """Write one partition; the hot path.

        Args:
            now_s: this node's time, seconds.
        Raises:
            Unavailable, InvalidRequest, Overloaded: nothing was written.
        """
        routes = self._routes.get(keyspace)
        if routes is None:
            routes = self.routes(keyspace)
        route = routes.find(mutation.position)
        need = route.write_need(level)
        if route.alone:
            again = partial(self.write, keyspace, mutation, level, now_s, done)
            self._writes.write(mutation, now_s, done, again)
            return
        self.peers.check_room()
        WriteOperation(self.writing, mutation, route, need, "SIMPLE", done).start(now_s)

    def write_all(
        self, changes: Sequence[tuple[str, Mutation]], level: int, write_type: str, now_s: int, done: Done
    ) -> None:
        """Write several partitions, of (keyspace, mutation). Raises as ``write``."""
        self.peers.check_room()
        routes = [self.routes(keyspace).find(mutation.position) for keyspace, mutation in changes]
        mutations = [mutation for _, mutation in changes]
        write_all(self.writing, mutations, routes, level, write_type, now_s, done)

    def check_write(self, keyspace: str, positions: Sequence[bytes], level: int) -> None:
        """Raises what a write of these partitions at this level would."""
        routes = self.routes(keyspace)
        for position in positions:
            routes.find(position).write_need(level)

    def _hand_on(self, mutation: Mutation, written_at_us: int, over: Over) -> None:
        """Write what a node missed that has left, or is about to lose it, to those who own the partition now.

        Raises:
            UnknownIncarnation: its table is gone.
            StoreError: this node doesn't know its table yet.
        """
        if mutation.incarnation >= self._view.schema.next_incarnation:
            raise StoreError("its table isn't known here yet")
        table = self._writes.rows.known(mutation.incarnation).table
        route = self.routes(table.keyspace).find(mutation.position)
        need = route.write_need(Consistency.ANY)
        operation = WriteOperation(
            self.writing, mutation, route, need, "SIMPLE", lambda error: None, over, written_at_us
        )
        operation.start(self._clock.wall_us() // MICROS)

    def _is_for(self, node: NodeId, mutation: Mutation) -> bool:
        """Whether a hint is for the node still: it holds the partition, and nobody else is about to."""
        table = self._writes.rows.known(mutation.incarnation).table
        route = self.routes(table.keyspace).find(mutation.position)
        return route.other is None and node in route.replicas.nodes

    # Reads

    def reads_here(self, table: Table, level: int, position: bytes) -> bool:
        """Whether this node alone answers a read of a partition at this level.

        Raises:
            Unavailable, InvalidRequest: the level can't be had.
        """
        routes = self._routes.get(table.keyspace)
        if routes is None:
            routes = self.routes(table.keyspace)
        return routes.find(position).read_nodes(level) == (self.peers.me,)

    def fetch(self, table: Table, command: ReadCommand, position: bytes, level: int) -> Fetch:
        """Read records of one partition. Raises as ``reads_here``."""
        self.peers.check_room()
        route = self.routes(table.keyspace).find(position)
        return Fetch(self.fetches, command, route, level, route.read_nodes(level)).start()

    def rows(
        self, rows: TableRows, level: int, rows_max: int, first: FirstFetch | None = None
    ) -> ReplicatedRows:
        """The table's rows as its replicas have them; arguments as of ``ReplicatedRows``."""
        self.peers.check_room()
        return ReplicatedRows(self.fetches, rows, level, rows_max, first)

    def route_of(self, keyspace: str, position: bytes) -> Route:
        return self.routes(keyspace).find(position)


def read_level_of(level: int) -> int:
    """The level at which a write reads what it must know first: its own, where reads know it.

    Source: ``UpdateStatement`` with list operations; Cassandra reads at the statement's level.
    """
    if level == Consistency.ANY:
        return Consistency.ONE
    return Consistency.QUORUM if level == Consistency.EACH_QUORUM else level
