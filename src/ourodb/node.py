"""One node, put together. Read this first.

``Node`` makes every part of a node and hands each what it depends on; no part reaches for another by itself.
It is deterministic: clocks, chance, timers, the store and the way to other nodes are its ``Ports``. Around it
stands whoever lends it a world: ``daemon`` with sockets and RocksDB, the simulator with virtual ones.

A node has two ages. Until it is a member of a cluster it has only its store, its identity and the metadata
log, by which it founds a cluster, or joins one. Then ``_become_member`` makes the rest, from the bottom up:
rows, the replica's side, the coordinator's side, sessions; and gossip, by which the others hear of it.

Everything that arrives from other nodes comes through ``receive``: the header is read, the clock and the
sender's epoch are noted, and the body goes to whoever handles its verb.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import asdict
from typing import Any, Final
from uuid import UUID

import msgspec
import structlog

from ourodb import limits
from ourodb.cluster.gossip.gossip import Gossip
from ourodb.cluster.gossip.gossip import Output as GossipOutput
from ourodb.cluster.gossip.skew import Skews
from ourodb.cluster.gossip.state import COPYING
from ourodb.cluster.identity import load_identity, mark_clean_stop, renew_counter_incarnation
from ourodb.cluster.metadata.commands import Leave, NewMember, NodeCopied, RemoveMember, UpdateMember
from ourodb.cluster.metadata.healing import lost_with
from ourodb.cluster.metadata.metadata import VERBS as METADATA_VERBS
from ourodb.cluster.metadata.metadata import Metadata
from ourodb.cluster.metadata.view import ClusterView, node_info
from ourodb.cluster.ring.model import Member
from ourodb.config import Config
from ourodb.cql.analysis.operations import ListCellIds
from ourodb.cql.wire.connection import ServerConnection
from ourodb.errors import ConfigurationProblem, InvalidRequest, NodeRemoved, OuroError
from ourodb.peer.messages import HEADER, HEADER_BYTES, REPLY, VERBS, Verb
from ourodb.ports import URGENT, Address, Link, NodeId, Ports, Timer
from ourodb.replication.batches import Batches
from ourodb.replication.coordinator.cas import ConditionalWrites
from ourodb.replication.coordinator.coordinator import Coordinator
from ourodb.replication.coordinator.paging import PagingSeal
from ourodb.replication.counters import Counters, Shards
from ourodb.replication.hints import Hints
from ourodb.replication.latency import Latencies
from ourodb.replication.paxos.acceptor import Acceptor
from ourodb.replication.paxos.context import PaxosContext
from ourodb.replication.peers import Peers
from ourodb.replication.replica.fence import Fence
from ourodb.replication.replica.replica import Handler, Replica
from ourodb.replication.replica.writes import Writes
from ourodb.replication.streaming.copying import Cleaning, Copying
from ourodb.replication.streaming.pace import Pace
from ourodb.replication.streaming.source import StreamSource
from ourodb.replication.timestamps import Timestamps
from ourodb.schema.changes import SchemaChangeEvent
from ourodb.schema.model import Schema, Table
from ourodb.schema.node_info import NodeInfo
from ourodb.schema.virtual import ClientInfo
from ourodb.session.modifications import Modifications
from ourodb.session.processor import QueryProcessor
from ourodb.session.reads import Reads
from ourodb.session.session import Session
from ourodb.session.virtual_tables import VirtualTables
from ourodb.storage.families import DATA
from ourodb.storage.purge import purge
from ourodb.storage.row import Pause
from ourodb.storage.rows import Rows
from ourodb.storage.upkeep import Upkeep

log = structlog.get_logger()

MICROS = 1_000_000

UNREADABLE = (OuroError, msgspec.DecodeError, struct.error, IndexError)
"""What a message that is none of ours raises."""


REMOVED: Final = "this node was removed from the cluster"
"""With this begins the reason for which others refuse it."""


class Node:
    """A node and its parts.

    Attributes:
        config, ports, identity: what it is made of.
        metadata: the replicated log of schema and members.
        is_member: it belongs to a cluster, and can serve.
        requests_in: reads and writes of others for this node's rows, and the like, counted.
        on_member: called once, when it does.
        on_refused: called with the reason when the cluster doesn't take it.
        on_cluster_known: called with the cluster's id as soon as it is known, for handshakes.
        client_infos: who is connected now; set by whoever knows.
        load_bytes: how much the store holds; set by whoever can tell.
        check_disk: looks at the room left on the disk; set by whoever can.
    """

    def __init__(self, config: Config, ports: Ports, peer: Address, native: Address, secret: bytes) -> None:
        """Open what the node knows of itself; nothing is sent yet.

        Args:
            peer, native: where other nodes and clients reach it.
            secret: of the cluster; the states of pages that clients hold are sealed with it.
        Raises:
            StoreError: the store is damaged; the message is for the operator.
        """
        self.config = config
        self.ports = ports
        self.peer = peer
        self.native = native
        self._paging_key = hashlib.blake2s(secret, digest_size=32, person=b"paging").digest()
        self.is_member = False
        self.on_member: Callable[[], None] = lambda: None
        self.on_refused: Callable[[OuroError], None] = lambda error: None
        self.on_cluster_known: Callable[[UUID], None] = lambda cluster_id: None
        self.client_infos: Callable[[], list[ClientInfo]] = list
        self.load_bytes: Callable[[], int] = lambda: 0
        self.check_disk: Callable[[], None] = lambda: None
        self.identity = load_identity(ports.store, ports.random, ports.clock.wall_us() // MICROS)
        self.timestamps = Timestamps(ports.clock)
        self.peers = Peers(ports, self.timestamps)
        self.skews = Skews()
        self.generation = ports.clock.wall_us() // MICROS
        self.gossip: Gossip | None = None
        self.metadata = Metadata(
            ports,
            self.identity.host_id,
            self.peers.links.get,
            lambda node: bool(self.peers.up.get(node)),
            self._send_control,
        )
        self.metadata.listen(self._on_view)
        self._nodes: dict[Address, NodeId] = {}
        self._handlers: dict[int, Handler] = {}
        self._rounds: Timer | None = None
        self._stopped = False
        self._told: set[str] = set()
        self.requests_in = 0

    def start(self) -> None:
        """Take up where the node was, found a cluster, or join one; ``on_member`` follows at once, or later.

        Raises:
            StoreError: the store is damaged.
            ConfigurationProblem: the node isn't what its store says it was.
        """
        config = self.config
        me = NewMember(
            host_id=self.identity.host_id,
            peer=self.peer,
            native=self.native,
            data_center=config.dc,
            rack=config.rack,
            host=config.host_id,
            token_count=config.num_tokens,
            replaces=config.replace,
        )
        view = self.metadata.recover()
        if self.metadata.is_removed:
            raise NodeRemoved(
                "this node was removed from its cluster; to have it back, empty its data folder and join afresh"
            )
        if view.epoch:
            if view.cluster_name != config.cluster_name:
                raise ConfigurationProblem(
                    f"the data folder belongs to the cluster {view.cluster_name!r}, not to {config.cluster_name!r}"
                )
            self._check_place(view)
            self._become_member(view)
            self.metadata.start()
            mine = view.members[self.peers.me]
            if (mine.peer, mine.native) != (self.peer, self.native):
                self._tell_addresses()
        elif config.join:
            self.metadata.join(
                config.seeds,
                me,
                config.cluster_name,
                self._joined,
                progress=self._tell_of_joining,
            )
        else:
            cluster_id = UUID(bytes=self.ports.random.bytes(16), version=4)
            self._become_member(self.metadata.found(config.cluster_name, me, cluster_id))

    def _check_place(self, view: ClusterView) -> None:
        """Raises ConfigurationProblem when this node is told to be elsewhere than where its copies were placed."""
        config, usual = self.config, Config()
        mine = next(member for member in view.members.values() if member.host_id == self.identity.host_id)
        for option, asked, default, present in (
            ("--dc", config.dc, usual.dc, mine.data_center),
            ("--rack", config.rack, usual.rack, mine.rack),
        ):
            if asked not in (default, present):
                raise ConfigurationProblem(
                    f"{option} {asked}: this node joined with {option} {present}, by which copies are placed;"
                    " let it leave, and join afresh"
                )

    def _tell_of_joining(self, text: str) -> None:
        """Whoever is asked again and again answers the same: that is told once."""
        if text not in self._told:
            self._told.add(text)
            log.info("joining", what=text)

    def hand_over(self) -> None:
        """The node will stop in a moment: another one may lead the metadata log."""
        if self.is_member:
            self.metadata.hand_over()

    def stop(self) -> None:
        """Say goodbye, and note that the run ended in order."""
        self._stopped = True
        if self._rounds is not None:
            self._rounds.cancel()
        self.metadata.stop()
        if self.gossip is not None:
            self._gossiped(self.gossip.stop(self.peers.now_ms()))
        if self.is_member:
            self.upkeep.stop()
            self.pace.stop()
            self.peers.stop()
        try:
            mark_clean_stop(self.ports.store)
        except OuroError as error:
            # A store that is read-only keeps what it has; its counters begin a new incarnation.
            log.warning("not marked as stopped in order", reason=str(error))

    def settle(self) -> None:
        """The pass of the loop is over: all that was applied goes to the store, and is acknowledged."""
        if self.is_member:
            self.writes.settle()
        else:
            self.ports.store.settle()

    def open_session(
        self, connection: ServerConnection, client: tuple[str, int], wake: Callable[[], None]
    ) -> Session:
        """A client's session; only once the node is a member."""
        return Session(connection, client, self.processor, wake)

    @property
    def view(self) -> ClusterView:
        """The cluster as this node knows it; only once it is a member."""
        return self.metadata.view

    # What arrives from other nodes

    def receive(self, link: Link, message: bytes) -> None:
        """A message of a peer that has proved that it knows the cluster's secret."""
        if len(message) < HEADER_BYTES or self._stopped:
            return
        verb, flags, request, clock_us, epoch = HEADER.unpack_from(message)
        body = message[HEADER_BYTES:]
        self.timestamps.observe(clock_us)
        node = self._nodes.get(link.address, NodeId(0))
        peers = self.peers
        if epoch > peers.epoch:
            if node:
                self.metadata.on_epoch_seen(node, epoch)
            elif self.is_member:
                self.metadata.on_stranger(epoch)
        if node and self.gossip is not None:
            self.gossip.mark_seen(peers.now_ms(), node)
        if flags & REPLY and verb < Verb.GOSSIP:
            if node:
                try:
                    peers.on_reply(node, request, flags, body)
                except UNREADABLE as error:
                    log.warning("a reply that can't be read", verb=verb, peer=node, reason=str(error))
            return
        handler = self._handlers.get(verb)
        if handler is not None:
            if node:
                self.requests_in += 1
                try:
                    handler(link, node, request, epoch, body)
                except UNREADABLE as error:
                    log.warning("a message that can't be handled", verb=verb, peer=node, reason=str(error))
                    peers.fail(link, verb, request, b"\x00\x00" + str(error).encode()[:1024])
        elif verb == Verb.GOSSIP:
            self._on_gossip(link, node, body)
        elif verb == Verb.PING:
            self._on_ping(link, node, flags, request, body)
        elif VERBS.get(verb) in METADATA_VERBS:
            try:
                self.metadata.receive(link, node or None, VERBS[verb], request, flags, body)
            except OuroError as error:
                log.warning("a message that can't be read", verb=verb, peer=link.address, reason=str(error))

    def admit(self, host_id: UUID, address: Address) -> str | None:
        """Why this node won't speak with a peer that has proved that it knows the secret; None: it will."""
        view = self.metadata.view
        if host_id in view.removed:
            return f"{REMOVED}; to have it back, empty its data folder, and let it join afresh"
        member = view.member_of_host(host_id)
        if member is None:
            there = self._nodes.get(address)
            if there is not None:
                return (
                    f"{address[0]}:{address[1]} is the address of member {there}, which has another host id"
                )
        elif member.id != self.peers.me:
            link = self.peers.links.get(member.id)
            if link is not None and link.address != address:
                if self.peers.up.get(member.id) and link.is_connected:
                    return f"the node with this host id is up at {link.address[0]}:{link.address[1]}"
                self._reach_at(member.id, link, address)
        return None

    def _reach_at(self, node: NodeId, link: Link, address: Address) -> None:
        """A member was started at another address than the log has; it is about to say so, and must hear of others."""
        transport = self.ports.transport
        transport.forget(link.address)
        self._nodes[address] = node
        self.peers.links[node] = transport.link(address)
        self.coordinator.reachability_changed()

    def peer_connected(self, address: Address) -> None:
        """The transport has a connection to a peer."""
        self.metadata.on_connected()
        node = self._nodes.get(address)
        if node is not None and self.gossip is not None:
            self._gossiped(self.gossip.connected(self.peers.now_ms(), node))

    def peer_disconnected(self, address: Address, refused: bool) -> None:
        """Connections to a peer were lost, or couldn't be had.

        Args:
            refused: nobody listens there.
        """
        node = self._nodes.get(address)
        if node is None or self.gossip is None:
            return
        self.peers.lost(node)
        self.coordinator.reachability_changed()
        if refused:
            self._gossiped(self.gossip.convict(self.peers.now_ms(), node))

    def peer_lane_lost(self, address: Address, lane: int) -> None:
        """What was sent to a peer on one lane may never arrive; the others go on."""
        node = self._nodes.get(address)
        if node is not None:
            self.peers.lost(node, lane)

    def _send_control(self, link: Link, verb: int, flags: int, request: int, body: bytes) -> bool:
        return link.send(URGENT, self.peers.message(verb, body, request, flags))

    # Membership

    def _tell_addresses(self) -> None:
        """Tell the cluster where this node is now, however long it takes until there is somebody to tell it to."""
        mine = self.view.members.get(self.peers.me)
        if not self._stopped and mine is not None and (mine.peer, mine.native) != (self.peer, self.native):
            update = UpdateMember(self.identity.host_id, self.peer, self.native)
            self.metadata.submit_member(update, self._told_of_addresses)

    def _told_of_addresses(self, outcome: object) -> None:
        if isinstance(outcome, OuroError):
            log.error("the cluster doesn't know this node's new addresses", reason=str(outcome))
            self.ports.scheduler.after(limits.ADDRESSES_RETRY_MS, self._tell_addresses)

    def recover_metadata(self, *, confirmed: bool) -> dict[str, Any]:
        """Give up a majority of voters that is lost for good; this node decides alone from then on.

        Raises:
            InvalidRequest: there is nothing to recover, it isn't confirmed, or another node knows more.
        """
        view = self.view
        lost = [node for node in view.voters if not self.peers.up.get(node)]
        if not confirmed:
            raise InvalidRequest(
                f"of the voters {list(view.voters)} these are down: {lost}. If they come back, start them and nothing"
                " is lost. If they are lost for good, changes of schema and members that only they had are lost with"
                f" them: what this node knows, up to epoch {view.epoch}, will count. They must never be started again"
                " with their data. Confirm to go on"
            )
        self.metadata.recover_majority()
        return {"epoch": self.metadata.epoch, "voters": list(self.metadata.voters)}

    def send_away(
        self,
        node: NodeId,
        *,
        is_dead: bool,
        is_forced: bool = False,
        done: Callable[[object], None] | None = None,
    ) -> None:
        """Begin to have a member give its ranges to others; it is none any more when that is over.

        Args:
            is_dead: it is down for good, and its ranges are copied from others.
            is_forced: even if rows are lost, of which a dead one has the only copies.
            done: told what became of the decision: an OuroError, or ``Applied``.
        Raises:
            InvalidRequest: there is no such member, it is (not) down, rows would be lost, or too few would remain.
        """
        member = self.view.members.get(node)
        if member is None:
            raise InvalidRequest(f"there is no node {node}; ouro status shows all")
        if is_dead and self.peers.up.get(node):
            raise InvalidRequest(
                f"node {node} ({_place(member)}) is up: let it leave (ouro decommission {node}), or stop it first"
            )
        if not is_dead and not self.peers.up.get(node):
            raise InvalidRequest(
                f"node {node} ({_place(member)}) is down: start it, or remove it if it is gone for good (ouro remove)"
            )
        lost = lost_with(self.view, node) if is_dead and not is_forced else []
        if lost:
            raise InvalidRequest(
                f"node {node} has the only copies of some rows of keyspace {', '.join(lost)}: start it, and raise the"
                f" replication factor; or give these rows up for good (ouro remove {node} --force)"
            )
        command = RemoveMember(member.host_id) if is_dead else Leave(member.host_id)
        self.metadata.check_member(command)
        self.metadata.submit_member(command, done or self._told_of_leaving)

    def _told_of_leaving(self, outcome: object) -> None:
        if isinstance(outcome, OuroError):
            log.error("nodes can't come or go", reason=str(outcome))

    def _joined(self, outcome: ClusterView | OuroError) -> None:
        if isinstance(outcome, OuroError):
            self.on_refused(outcome)
        else:
            self._become_member(outcome)

    def _become_member(self, view: ClusterView) -> None:
        """Make the parts that serve, and start them."""
        config, ports, peers = self.config, self.ports, self.peers
        store, clock, random, scheduler = ports.store, ports.clock, ports.random, ports.scheduler
        me = next(member for member in view.members.values() if member.host_id == self.identity.host_id)
        peers.me = me.id
        peers.up[me.id] = True
        self.on_cluster_known(view.cluster_id)

        self.rows = Rows(store, tombstone_warn=config.tombstone_warn, tombstone_fail=config.tombstone_fail)
        tables = stored_tables(view.schema)
        for table in tables:
            self.rows.register(table)
        self._sweep({table.incarnation for table in tables}, view.schema.next_incarnation)
        self.writes = Writes(self.rows, store, group=config.durability == "group", arm=ports.arm)
        self.replica = Replica(self.rows, store, self.writes, peers, clock)
        self.fence = self.replica.fence = Fence(view)
        self.hints = Hints(store, peers, clock, ports.arm)
        self.hints.recover()
        self.latencies = Latencies()
        self.coordinator = Coordinator(view, peers, store, self.writes, self.hints, clock, self.latencies)
        self.replica.holds = lambda keyspace, position: self.coordinator.route_of(keyspace, position).local
        self.acceptor = Acceptor(self.rows, store, self.writes, peers, clock, self.replica)
        self.paxos = PaxosContext(
            peers,
            self.acceptor,
            self.coordinator.writing,
            clock,
            random,
            scheduler,
            self.timestamps,
            self.generation,
        )
        self.pace = Pace(clock, scheduler)
        self.stream_source = StreamSource(
            lambda: self.view, self.rows, store, self.acceptor, peers, clock, self.pace
        )
        self.copying = Copying(
            self.rows,
            store,
            self.writes,
            self.acceptor,
            peers,
            clock,
            scheduler,
            self.pace,
            lambda: shards.renew(renew_counter_incarnation(store, clock.wall_us() // MICROS)),
            self._tell_copied,
            config.stream_bytes_per_s,
        )
        self.cleaning = Cleaning(
            self.rows, store, self.acceptor, peers, scheduler, lambda epoch: self.reads.began_before(epoch)
        )
        shards = Shards(self.rows, clock, self.identity.host_id.bytes, self.identity.counter_incarnation)
        self.counters = Counters(shards, self.coordinator.writing, self.rows, self.replica)
        self.batches = Batches(
            self.coordinator.writing,
            self.rows,
            store,
            clock,
            random,
            scheduler,
            self._keepers_of_batches,
        )
        self.batches.recover()
        self.reads = Reads(
            self.rows,
            store,
            VirtualTables(view.schema, self._settings(), self.infos, lambda: self.client_infos()),
            scheduler,
            PagingSeal(self._paging_key),
            self.coordinator,
            self.paxos,
            peers.packed_address(me.id),
        )
        list_cell_ids = ListCellIds(clock, random.below(1 << 48), random.below(1 << 14))
        modifications = Modifications(
            self.rows,
            self.writes,
            self.coordinator,
            ConditionalWrites(self.rows, list_cell_ids),
            self.paxos,
            self.counters,
            self.batches,
            clock,
        )
        self.processor = QueryProcessor(
            self.metadata,
            self.rows,
            self.coordinator,
            modifications,
            self.reads,
            clock,
            random,
            self.timestamps,
            self.native,
            self.infos,
        )
        for part in (self.replica, self.acceptor, self.counters, self.batches, self.stream_source):
            self._handlers.update(part.handlers())
        self.upkeep = Upkeep(self._purge, lambda: self.check_disk(), scheduler, clock)
        self.upkeep.start()
        self.gossip = Gossip(me.id, self.generation, peers.now_ms(), random, round_ms=config.gossip_ms)
        self.metadata.follow_moves(self._applied_epoch, self._hints_of)
        self.metadata.heal_after(config.heal_after)
        self.is_member = True
        self._follow_members(view)
        self._follow_moves(view)
        self.on_member()

    def _on_view(self, view: ClusterView, events: Sequence[SchemaChangeEvent]) -> None:
        """The metadata log moved."""
        if not self.is_member:
            return
        self.peers.epoch = view.epoch
        if not self.metadata.is_removed:
            # Before anything is read or written by the new view.
            self.fence.view_changed(view)
        if self.metadata.is_removed:
            log.error("this node was removed from the cluster")
            self.on_refused(
                NodeRemoved("this node was removed from its cluster; to have it back, empty its data folder")
            )
            return
        members_changed = self._members is not view.members
        self.coordinator.view_changed(view)
        self.processor.view_changed(view, events)
        if members_changed:
            self._follow_members(view)
        self._follow_moves(view)
        assert self.gossip is not None
        self.gossip.update(epoch=view.epoch)
        self.replica.epoch_applied(view.epoch)

    def _follow_members(self, view: ClusterView) -> None:
        """Who belongs to the cluster has changed: links, gossip, and clients that want to know."""
        before = getattr(self, "_members", {})
        self._members = view.members
        peers, transport = self.peers, self.ports.transport
        peers.epoch = view.epoch
        for node, member in before.items():
            current = view.members.get(node)
            if node != peers.me and (current is None or current.peer != member.peer):
                link = peers.links.pop(node, None)
                for address in dict.fromkeys(
                    (member.peer, link.address if link is not None else member.peer)
                ):
                    if current is None or address != current.peer:
                        self._nodes.pop(address, None)
                        transport.forget(address)
                if current is None:
                    peers.up.pop(node, None)
                    self.hints.forget(node)
                    self.processor.tell_topology("REMOVED_NODE", member)
            if node != peers.me and current is not None and current.native != member.native:
                # Clients know a node by its address.
                self.processor.tell_topology("REMOVED_NODE", member)
                self.processor.tell_topology("NEW_NODE", current)
                self.processor.tell_status(bool(peers.up.get(node)), current)
        for node, member in view.members.items():
            peers.addresses[node] = member.peer[0]
            if node != peers.me and node not in peers.links:
                self._nodes[member.peer] = node
                peers.links[node] = transport.link(member.peer)
                peers.up.setdefault(node, False)
            if before and node != peers.me and member.tokens:
                was = before.get(node)
                if was is None or not was.tokens:
                    # One that doesn't own anything yet is nobody's business.
                    self.processor.tell_topology("NEW_NODE", member)
        self.coordinator.view_changed(view)
        assert self.gossip is not None
        self.skews.keep(view.members)
        self.gossip.update(epoch=view.epoch)
        self._gossiped(self.gossip.set_members(peers.now_ms(), list(view.members)))
        if len(view.members) > 1 and self._rounds is None:
            self._rounds = self.ports.scheduler.after(self.config.gossip_ms, self._round)

    # Moves

    def _follow_moves(self, view: ClusterView) -> None:
        try:
            self.copying.view_changed(view)
            self.cleaning.view_changed(view)
        except OuroError as error:
            log.error("rows can't move to this node", reason=str(error))

    def _applied_epoch(self, node: NodeId) -> int:
        state = None if self.gossip is None else self.gossip.states.get(node)
        return 0 if state is None else state.epoch

    def _hints_of(self, node: NodeId) -> int:
        if node == self.peers.me:
            return self.hints.total
        state = None if self.gossip is None else self.gossip.states.get(node)
        return 0 if state is None else state.hints

    def _tell_copied(self, move: int) -> None:
        def done(outcome: object) -> None:
            current = self.view.move
            if isinstance(outcome, OuroError) and current is not None and current.id == move:
                self.ports.scheduler.after(limits.STREAM_RETRY_MS, lambda: self._tell_copied(move))

        if not self._stopped:
            progress = self.copying.progress
            copied = NodeCopied(move, self.peers.me, progress.rows, progress.bytes)
            self.metadata.submit_member(copied, done)

    # Rounds

    def _round(self) -> None:
        """Once every gossip round."""
        gossip, peers = self.gossip, self.peers
        assert gossip is not None
        self._rounds = None
        if self._stopped or len(self._members) < 2:
            return
        self._rounds = self.ports.scheduler.after(self.config.gossip_ms, self._round)
        peers.epoch = self.metadata.epoch
        self.replica.epoch_applied(peers.epoch)
        gossip.update(epoch=peers.epoch, hints=self.hints.total, load_bytes=self.load_bytes())
        if self.copying.progress.move or gossip.states[peers.me].text(COPYING):
            gossip.update(**{COPYING: self.copying.progress.text()})
        self._tell_who_leads(gossip)
        self._gossiped(gossip.tick(peers.now_ms(), self.ports.clock.wall_us()))
        self.coordinator.reachability_changed()
        self.hints.deliver()
        self._ping()

    def _tell_who_leads(self, gossip: Gossip) -> None:
        """The leader of the metadata log says that it is; nodes without a vote hear it only from there.

        Voters know better: what gossip says of a leader may be a second old, and there may be none meanwhile.
        """
        metadata, states = self.metadata, gossip.states
        if metadata.leads or states[self.peers.me].leads:
            gossip.update(leads=metadata.leads)
        if self.peers.me in metadata.voters:
            return
        leading = [node for node in metadata.voters if self.peers.up.get(node) and states[node].leads]
        if leading:
            metadata.hint_leader(max(leading, key=lambda node: states[node].leads))

    def _on_gossip(self, link: Link, node: NodeId, body: bytes) -> None:
        if self.gossip is None or not node:
            return
        try:
            output = self.gossip.receive(self.peers.now_ms(), node, body)
        except OuroError as error:
            log.warning("gossip that can't be read", peer=node, reason=str(error))
            return
        self._gossiped(output)
        state = self.gossip.states.get(node)
        if state is not None and state.epoch > self.peers.epoch:
            self.metadata.on_epoch_seen(node, state.epoch)

    def _gossiped(self, output: GossipOutput) -> None:
        for node, is_up in output.changes:
            self._reachable(node, is_up)
        for node, body in output.sends:
            link = self.peers.links.get(node)
            if link is not None:
                link.send(URGENT, self.peers.message(Verb.GOSSIP, body))

    def _reachable(self, node: NodeId, is_up: bool) -> None:
        """Somebody went up or down."""
        self.peers.up[node] = is_up
        self.coordinator.reachability_changed()
        self.metadata.on_reachable()
        member = self._members[node]
        log.info(
            "node is up" if is_up else "node is down", node=node, address=f"{member.peer[0]}:{member.peer[1]}"
        )
        if is_up:
            self.ports.scheduler.soon(self.hints.deliver)
        else:
            self.peers.lost(node)
        self.processor.tell_status(is_up, member)

    def _ping(self) -> None:
        """Measure the skew between this node's clock and those of the others, a few each round."""
        peers = self.peers
        body = self.ports.clock.wall_us().to_bytes(8, "big")
        others = [node for node, up in peers.up.items() if up and node in peers.links]
        for node in self.skews.due(peers.now_ms(), others):
            peers.links[node].send(URGENT, peers.message(Verb.PING, body))

    def _on_ping(self, link: Link, node: NodeId, flags: int, request: int, body: bytes) -> None:
        now_us = self.ports.clock.wall_us()
        if not flags & REPLY:
            reply = body[:8] + now_us.to_bytes(8, "big") * 2
            link.send(URGENT, self.peers.message(Verb.PING, reply, request, REPLY))
        elif node and len(body) >= 24:
            sent_us, received_us, answered_us = (
                int.from_bytes(body[start : start + 8], "big") for start in (0, 8, 16)
            )
            ahead_us = self.skews.measured(
                node, self.peers.now_ms(), sent_us, received_us, answered_us, now_us
            )
            if ahead_us is not None:
                log.warning(
                    "clocks differ: the newest write may not win", peer=node, peer_ahead_ms=ahead_us // 1000
                )

    # What parts ask of the whole

    def _keepers_of_batches(self) -> list[NodeId]:
        """The live nodes of this data centre that may keep a logged batch, best first: two of other racks and hosts
        than this one and each other, if there are any. This node comes last.
        """
        me = self._members[self.peers.me]
        live = [
            member
            for node, member in self._members.items()
            if node != me.id and self.peers.up.get(node) and member.data_center == me.data_center
        ]
        if not live:
            return [me.id]
        start = self.ports.random.below(len(live))
        live = live[start:] + live[:start]
        live.sort(key=lambda member: (member.rack == me.rack, member.host == me.host))
        first = live[0]
        others = sorted(live[1:], key=lambda member: (member.rack == first.rack, member.host == first.host))
        return [first.id, *(member.id for member in others), me.id]

    def infos(self) -> tuple[NodeInfo, list[NodeInfo]]:
        """What this node and the others say of themselves in the system tables."""
        view = self.view
        infos = {
            node: node_info(view, member, generation=self._generation_of(node), listen=member.peer)
            for node, member in view.members.items()
            if member.tokens or node == self.peers.me
        }
        return infos.pop(self.peers.me), list(infos.values())

    def _generation_of(self, node: NodeId) -> int:
        state = None if self.gossip is None else self.gossip.states.get(node)
        return self.generation if state is None else state.generation

    def _settings(self) -> dict[str, str]:
        hidden = {"secret": "***"}
        return {name: hidden.get(name, str(value)) for name, value in asdict(self.config).items()}

    def _purge(self, now_s: int) -> Iterator[Pause]:
        return purge(self.rows, now_s)

    def _sweep(self, known: Set[int], next_incarnation: int) -> None:
        """Delete rows of tables that are gone: a crash may have come between a DROP and the deletion of its rows.

        Args:
            next_incarnation: tables from this one on are only not known yet.
        """
        store = self.ports.store
        start = b""
        end = next_incarnation.to_bytes(4, "big")
        while (first := next(store.scan(DATA, start, end), None)) is not None:
            incarnation = int.from_bytes(first[0][:4], "big")
            if incarnation not in known:
                self.rows.drop(incarnation)
            start = (incarnation + 1).to_bytes(4, "big")


def stored_tables(schema: Schema) -> list[Table]:
    """The tables whose rows are in the store, those of the system included."""
    return [
        table
        for keyspace in schema.keyspaces.values()
        for table in keyspace.tables.values()
        if not table.virtual
    ]


def _place(member: Member) -> str:
    return f"{member.peer[0]}:{member.peer[1]}"
