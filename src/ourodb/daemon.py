"""The process of a node: a world of sockets, RocksDB, clocks and signals around ``node.Node``.

``run`` is what ``ouro serve`` calls. Ports are taken first, so that one that is taken is told before anything
else happens; then the store is opened and the node recovers, founds its cluster or joins one; once it is a
member clients are heard, and one line says so. SIGTERM and SIGINT end it in order.
"""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import resource
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog
import uvloop

from ourodb import __version__
from ourodb.config import Config, expanded
from ourodb.cql.syntax.parser import parse
from ourodb.cql.wire.connection import ServerConnection
from ourodb.errors import ConfigurationProblem, InvalidRequest, NodeRemoved, OuroError, StoreError
from ourodb.net.admin import AdminServer
from ourodb.net.clients import ClientServer
from ourodb.net.loop import LoopScheduler, Passes, SystemClock, SystemRandom
from ourodb.net.peers import PeerTransport
from ourodb.node import REMOVED, Node
from ourodb.observe.log import configure_logging
from ourodb.operations import heal, healing_report, operations_report, rebalance
from ourodb.peer.faults import Refused
from ourodb.peer.handshake import PeerIdentity
from ourodb.ports import Address, NodeId, Ports
from ourodb.reports import gossip_report, metadata_report, moves_report, ring_report, status_report
from ourodb.restoring import Done as RestoreDone
from ourodb.restoring import Outcome as RestoreOutcome
from ourodb.restoring import Restoring
from ourodb.schema.describe import describe
from ourodb.schema.snapshot import encode_schema
from ourodb.schema.virtual import ClientInfo
from ourodb.secret import make_secret, read_secret
from ourodb.session.session import Session
from ourodb.storage.rocks import RocksStore
from ourodb.storage.snapshot import (
    MANIFEST,
    PARTIAL,
    SCHEMA,
    STORE,
    check_name,
    read_manifest,
    seal,
)

log = structlog.get_logger()

SNAPSHOTS = "snapshots"
"""Folder in the data folder."""

SECRET = "secret"
"""File in the data folder."""


HEAR_OF_OTHERS_S = 1.0
"""How long a node waits at its start for those that may be down."""

HAND_OVER_S = 0.05
"""Time for the leadership of the metadata log to go to another node, before this one stops."""

GC_ALLOCATIONS = 50_000
"""Objects more between two collections of the youngest; requests leave no cycles, so there is little to find."""

SWITCH_INTERVAL_S = 0.0005
"""How soon the thread that waits for an fsync gets the interpreter back beside a busy loop."""


class Daemon:
    """A node and its world.

    Attributes:
        cql_port, admin_port, peer_port: where it listens.
        restoring: takes in what a snapshot holds; once the node is a member.
        ended: set when the node can't go on, with the reason.
    """

    def __init__(self, config: Config, loop: asyncio.AbstractEventLoop) -> None:
        """Take the ports and open the store; nobody is heard yet.

        Raises:
            ConfigurationProblem: a port is taken, or the configuration contradicts itself.
            StoreError: the store can't be opened; the message is for the operator.
        """
        self.config = config
        self.loop = loop
        self.ended: asyncio.Future[None] = loop.create_future()
        self.admin_port = config.admin_port
        self.peer_port = config.peer_port
        self.passes = Passes(loop)
        self.scheduler = LoopScheduler(loop)
        self.clients = ClientServer(loop, self.passes, self._open_session)
        self.cql_port = self.clients.take_port(config.listen, config.cql_port)
        self.admin = AdminServer(
            {
                ("GET", "/status"): self._status,
                ("POST", "/status"): self._status,
                ("GET", "/ring"): lambda body: ring_report(self.node, body),
                ("POST", "/ring"): lambda body: ring_report(self.node, body),
                ("GET", "/gossip"): lambda body: gossip_report(self.node),
                ("GET", "/metadata"): lambda body: metadata_report(self.node),
                ("POST", "/metadata/recover"): self._recover_metadata,
                ("GET", "/moves"): lambda body: moves_report(self.node),
                ("POST", "/decommission"): lambda body: self._send_away(body, is_dead=False),
                ("POST", "/remove"): lambda body: self._send_away(body, is_dead=True),
                ("GET", "/heal"): lambda body: healing_report(self.node),
                ("POST", "/heal"): lambda body: self._answered(lambda done: heal(self.node, body, done)),
                ("POST", "/rebalance"): lambda body: self._answered(lambda done: rebalance(self.node, done)),
                ("GET", "/operations"): lambda body: operations_report(self.node),
                ("POST", "/snapshot"): self._snapshot,
                ("GET", "/snapshots"): self._snapshots,
                **({("POST", "/faults"): self._make_faults} if config.faults == "on" else {}),
            },
            self._metrics,
            {
                "/restore/keyspace": lambda body: self._restore(self.restoring.bring_keyspace, body),
                "/restore/rows": lambda body: self._restore(self.restoring.write_rows, body),
            },
        )
        self.admin_port = self.admin.take_port(config.listen, config.admin_port)
        self.store = RocksStore(
            config.data_path,
            self.scheduler,
            memtable_bytes=config.memtable_mb << 20,
            cache_bytes=config.cache_mb << 20,
            sync_period_ms=config.sync_period_ms if config.durability == "periodic" else None,
        )
        self._stopping = False
        self._sealing: set[str] = set()
        """Names of snapshots that are being made."""
        for left in (config.data_path / SNAPSHOTS).glob(PARTIAL.format("*")):
            # It was being made when the node was killed.
            shutil.rmtree(left, ignore_errors=True)

    async def start(self) -> None:
        """Bring the node to life; returns when it serves clients.

        Raises:
            ConfigurationProblem: the peer port is taken, or the cluster refuses this node.
            StoreError: the store is damaged.
        """
        config = self.config
        address = config.advertise or config.listen
        random = SystemRandom()
        # Known by its address only: who it is, the store says.
        identity = PeerIdentity(UUID(int=0), (address, config.peer_port), config.cluster_name)
        secret = load_secret(config)
        self.transport = PeerTransport(
            self.loop,
            self.passes,
            random,
            secret,
            identity,
            bind_address=None if ipaddress.ip_address(config.listen).is_unspecified else config.listen,
        )
        self.peer_port = await self.transport.start(config.listen, config.peer_port)
        peer: Address = (address, self.peer_port)
        ports = Ports(SystemClock(), random, self.scheduler, self.store, self.transport, self.passes.arm)
        self.node = node = Node(config, ports, peer, (address, self.cql_port), secret)
        node.check_disk = self._check_disk
        node.load_bytes = self.store.size_bytes
        node.client_infos = self._client_infos
        member: asyncio.Future[None] = self.loop.create_future()

        def joined(error: OuroError | None = None) -> None:
            if member.done():
                if error is not None:
                    self._end(error)
            elif error is None:
                member.set_result(None)
            else:
                member.set_exception(error)

        node.on_member = joined
        node.on_refused = joined
        node.on_cluster_known = self._know_cluster
        self.transport.identity = replace(identity, host_id=node.identity.host_id, address=peer)
        self.transport.receive = node.receive
        self.transport.admit = lambda peer, called: node.admit(peer.host_id, peer.address)
        self.transport.on_connected = node.peer_connected
        self.transport.on_disconnected = node.peer_disconnected
        self.transport.on_lane_lost = node.peer_lane_lost
        self.transport.on_fault = self._on_peer_fault
        self.passes.settle = node.settle
        self._warn_of_openness()
        node.start()
        if not member.done():
            log.info("joining", seeds=config.join)
        await member
        self.restoring = Restoring(
            node.metadata, node.rows, node.coordinator, node.peers, ports.clock, self.scheduler
        )
        await self._hear_of_others()
        await self.clients.start()

    async def _hear_of_others(self) -> None:
        """A node that has just started takes all others for down: clients come when it has heard of them, or soon."""
        node = self.node
        deadline_s = self.loop.time() + HEAR_OF_OTHERS_S
        while self.loop.time() < deadline_s:
            if all(node.peers.up.get(other) for other in node.view.members):
                return
            await asyncio.sleep(HEAR_OF_OTHERS_S / 50)

    async def stop(self) -> None:
        """Answer what was asked, close connections, bring the store to rest."""
        self._stopping = True
        if hasattr(self, "node"):
            if self.node.is_member and len(self.node.view.members) > 1:
                self.node.hand_over()
                await asyncio.sleep(HAND_OVER_S)
            # The store is marked as stopped in order: nothing that anybody asks may be done after it.
            self.clients.end()
            self.node.stop()
            if hasattr(self, "restoring"):
                self.restoring.stop()
            self.passes.arm()
            await asyncio.sleep(0)
        await self.clients.stop()
        await self.admin.stop()
        if hasattr(self, "transport"):
            await self.transport.stop()
        self.store.close()

    def _open_session(self, connection: ServerConnection, peer: Address, wake: Any) -> Session:
        return self.node.open_session(connection, peer, wake)

    def _know_cluster(self, cluster_id: UUID) -> None:
        self.transport.identity = replace(self.transport.identity, cluster_id=cluster_id)

    def _on_peer_fault(self, address: Address, fault: Exception) -> None:
        if isinstance(fault, Refused) and REMOVED in str(fault):
            # It was away when that was decided, so its own log can't tell.
            self.node.on_refused(NodeRemoved(str(fault)))
            return
        if not self.node.is_member and address in self.config.seeds:
            self.node.on_refused(
                ConfigurationProblem(f"can't join through {address[0]}:{address[1]}: {fault}")
            )

    def _end(self, reason: OuroError) -> None:
        """The node can't go on: the cluster has gone on without it."""
        if not self.ended.done():
            self.ended.set_exception(reason)

    def _warn_of_openness(self) -> None:
        if not ipaddress.ip_address(self.config.listen).is_loopback:
            log.warning(
                "anybody who reaches this node can read and change everything: it listens beyond this machine,"
                " and asks nobody for a password",
                address=self.config.listen,
            )

    # What the node asks of its world

    def _client_infos(self) -> list[ClientInfo]:
        infos = []
        for session in self.clients.sessions():
            options = session.connection.options
            infos.append(
                ClientInfo(
                    session.peer[0],
                    session.peer[1],
                    session.peer[0],
                    protocol_version=session.connection.version,
                    driver_name=options.get("DRIVER_NAME"),
                    driver_version=options.get("DRIVER_VERSION"),
                    keyspace_name=session.keyspace,
                    request_count=session.requests,
                    client_options=options,
                )
            )
        return infos

    def _check_disk(self) -> None:
        usage = shutil.disk_usage(self.config.data_path)
        self.store.check_disk(usage.free, usage.total)

    # The admin API

    def _status(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return {
            **status_report(self.node, body, read_only=self.store.read_only),
            "healing": healing_report(self.node),
            "version": __version__,
            "data": str(self.config.data_path.resolve()),
            "clients": self.clients.connections,
            "read_only": self.store.read_only,
        }

    def _recover_metadata(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return self.node.recover_metadata(confirmed=body.get("confirm") is True)

    async def _send_away(self, body: Mapping[str, Any], *, is_dead: bool) -> dict[str, Any]:
        """``{"node": ID, "force": bool}``; without a node, this one. Answered once it is decided."""
        node = body.get("node", int(self.node.peers.me))
        if type(node) is not int:
            raise InvalidRequest("a node is named by its number; ouro status shows all")
        is_forced = body.get("force") is True

        def begin(done: RestoreDone) -> None:
            def decided(outcome: object) -> None:
                done(outcome if isinstance(outcome, OuroError) else {"node": node})

            self.node.send_away(NodeId(node), is_dead=is_dead, is_forced=is_forced, done=decided)

        return await self._answered(begin)

    def _make_faults(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """For tests and demonstrations: ``{"cut": ["ADDRESS:PEER-PORT", ...]}`` parts this node from those alone."""
        addresses = []
        for text in body.get("cut", ()):
            host, _, port = str(text).rpartition(":")
            if not host or not port.isdecimal():
                raise InvalidRequest(f"'{text}' isn't ADDRESS:PEER-PORT")
            addresses.append((host, int(port)))
        self.transport.cut_off(addresses)
        return {"cut": [f"{host}:{port}" for host, port in self.transport.cut]}

    async def _snapshot(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Copy the store as it is now, and seal the copy on a thread while requests go on."""
        name = check_name(body.get("name"))
        final = self.config.data_path / SNAPSHOTS / name
        partial = final.with_name(PARTIAL.format(name))
        if name in self._sealing:
            raise InvalidRequest(f"a snapshot {name} is being made")
        if final.exists():
            raise InvalidRequest(f"there is a snapshot {name} already: {final}")
        self._sealing.add(name)
        try:
            facts = self._fill(partial)
            manifest = await self.loop.run_in_executor(
                None, seal, partial, final, name, self.node.ports.clock.wall_us(), facts
            )
        except Exception as error:
            shutil.rmtree(partial, ignore_errors=True)
            if isinstance(error, OSError):
                raise StoreError(f"the snapshot {name} can't be made: {error}") from error
            raise
        finally:
            self._sealing.discard(name)
        size = sum(entry.size for entry in manifest.files)
        return {"name": name, "path": str(final.resolve()), "files": len(manifest.files), "bytes": size}

    def _fill(self, partial: Path) -> dict[str, Any]:
        """The store and the schema into a new folder; what else a manifest says."""
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        self.store.checkpoint(partial / STORE)
        node = self.node
        view = node.view
        (partial / SCHEMA).write_bytes(encode_schema(view.schema))
        info, _ = node.infos()
        statements = describe(parse("DESCRIBE SCHEMA"), view.schema, None, info)  # type: ignore[arg-type]
        text = "\n\n".join((row[3] or b"").decode() for row in statements.rows)
        (partial / "schema.cql").write_text(text + "\n", encoding="utf-8")
        return {
            "version": __version__,
            "cluster_name": view.cluster_name,
            "cluster_id": str(view.cluster_id),
            "host_id": str(node.identity.host_id),
            "tokens": list(info.tokens),
            "members": [
                {
                    "host_id": str(member.host_id),
                    "data_center": member.data_center,
                    "rack": member.rack,
                    "host": member.host,
                    "tokens": list(member.tokens),
                }
                for member in view.members.values()
            ],
            "schema_epoch": view.schema.epoch,
        }

    async def _restore(self, act: Callable[[bytes, RestoreDone], None], body: bytes) -> dict[str, Any]:
        """Have rows, or a keyspace, of a snapshot taken in."""
        return await self._answered(lambda done: act(body, done))

    async def _answered(self, act: Callable[[RestoreDone], None]) -> dict[str, Any]:
        """What ``act`` tells the function that it is given, once."""
        answered: asyncio.Future[RestoreOutcome] = self.loop.create_future()
        act(lambda outcome: None if answered.done() else answered.set_result(outcome))
        outcome = await answered
        if isinstance(outcome, OuroError):
            raise outcome
        return outcome

    def _snapshots(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """All that have a name, with ``error`` in place of what a manifest that can't be read doesn't say."""
        found: list[dict[str, Any]] = []
        for path in sorted((self.config.data_path / SNAPSHOTS).glob(f"[!.]*/{MANIFEST}")):
            try:
                manifest = read_manifest(path.parent)
            except StoreError as error:
                found.append({"name": path.parent.name, "error": str(error)})
                continue
            size = sum(entry.size for entry in manifest.files)
            found.append({"name": manifest.name, "created_us": manifest.created_us, "bytes": size})
        return {"snapshots": found}

    def _metrics(self) -> dict[str, tuple[str, str, float]]:
        node, transport = self.node, self.transport
        processor, fetches, copying = node.processor, node.coordinator.fetches, node.copying.progress
        up = sum(bool(node.peers.up.get(one)) for one in node.view.members)
        return {
            "ouro_client_connections": ("Connected clients.", "gauge", self.clients.connections),
            "ouro_clients_refused": ("Connections closed as they came.", "counter", self.clients.refused),
            "ouro_clients_cut_off": ("Clients cut off for not keeping up.", "counter", self.clients.cut_off),
            "ouro_requests": (
                "Requests of the clients that are connected now.",
                "gauge",
                sum(session.requests for session in self.clients.sessions()),
            ),
            "ouro_prepared_statements": ("Prepared statements kept.", "gauge", len(processor.prepared)),
            "ouro_prepared_evicted": (
                "Prepared statements forgotten for want of room.",
                "counter",
                processor.prepared.evicted,
            ),
            "ouro_store_puts": ("Keys written.", "counter", self.store.puts),
            "ouro_store_syncs": ("Fsyncs of the write-ahead log.", "counter", self.store.syncs),
            "ouro_store_damaged_reads": ("Reads that met damage on disk.", "counter", self.store.damaged),
            "ouro_store_read_only": (
                "1 while writes are refused.",
                "gauge",
                self.store.read_only is not None,
            ),
            "ouro_purge_slices": ("Slices of purging done.", "counter", node.upkeep.purge_slices),
            "ouro_members": ("Members of the cluster.", "gauge", len(node.view.members)),
            "ouro_members_up": ("Members that this node takes for up.", "gauge", up),
            "ouro_epoch": ("Entries of the metadata log that are applied.", "gauge", node.view.epoch),
            "ouro_peer_requests": ("Operations that wait for peers.", "gauge", node.peers.in_flight),
            "ouro_peer_timeouts": ("Operations whose time was up.", "counter", node.peers.expired),
            "ouro_peer_requests_in": ("Requests of peers about rows.", "counter", node.requests_in),
            "ouro_peer_messages_in": ("Messages of peers.", "counter", transport.messages_in),
            "ouro_peer_messages_out": ("Messages to peers.", "counter", transport.messages_out),
            "ouro_peer_messages_shed": (
                "Messages dropped because a peer doesn't keep up.",
                "counter",
                transport.messages_shed,
            ),
            "ouro_peer_handshakes_refused": (
                "Connections to the peer port that came to nothing.",
                "counter",
                transport.handshakes_refused,
            ),
            "ouro_move_ranges": ("Ranges that this node copies.", "gauge", copying.ranges),
            "ouro_move_ranges_done": ("Of these, those that are here.", "gauge", copying.ranges_done),
            "ouro_move_rows": ("Rows copied for them.", "gauge", copying.rows),
            "ouro_move_bytes": ("Bytes copied for them.", "gauge", copying.bytes),
            "ouro_moves_waiting": ("Moves that wait for their turn.", "gauge", len(node.view.wishes)),
            "ouro_healing_nodes": (
                "Members that are down, and given up if they stay so.",
                "gauge",
                len(node.metadata.prospects()),
            ),
            "ouro_hints": ("Hints kept for peers.", "gauge", node.hints.total),
            "ouro_hint_bytes": ("Bytes of hints kept.", "gauge", node.hints.bytes),
            "ouro_hints_delivered": ("Hints delivered.", "counter", node.hints.delivered),
            "ouro_hints_dropped": ("Hints dropped.", "counter", node.hints.dropped),
            "ouro_read_mismatches": ("Reads whose digests differed.", "counter", fetches.mismatches),
            "ouro_read_repairs": ("Replicas repaired by reads.", "counter", fetches.repairs),
            "ouro_read_speculations": ("Reads sent to one more replica.", "counter", fetches.speculations),
            "ouro_paxos_contentions": ("Ballots lost to others.", "counter", node.paxos.contentions),
            "ouro_batches_replayed": ("Logged batches replayed.", "counter", node.batches.replayed),
        }


def load_secret(config: Config) -> bytes:
    """The cluster's secret: configured, kept from before, or made for a new cluster.

    Raises:
        ConfigurationProblem: it can't be read or written, or a node that joins has none.
    """
    if config.secret:
        if not config.secret.startswith("@"):
            return config.secret.encode()
        path = expanded(config.secret[1:])
        return read_secret(path)
    path = config.data_path / SECRET
    if path.exists():
        return read_secret(path)
    if config.join:
        raise ConfigurationProblem(
            "joining a cluster takes its secret: --secret @FILE. The cluster's first node keeps it in its data folder,"
            f" in the file '{SECRET}'"
        )
    try:
        return make_secret(path)
    except OSError as error:
        raise ConfigurationProblem(f"can't write the secret {path}: {error.strerror}") from error


def run(config: Config) -> int:
    """Run a node until SIGTERM or SIGINT; returns the exit code.

    Raises:
        ConfigurationProblem, StoreError: it can't start as it was asked to.
    """
    configure_logging(config.log_level, config.log_format)
    config = replace(
        config,
        listen=_resolved(config.listen, "--listen"),
        advertise=_resolved(config.advertise, "--advertise") if config.advertise else "",
        host_id=config.host_id or socket.gethostname(),
    )
    if ipaddress.ip_address(config.advertise or config.listen).is_unspecified:
        raise ConfigurationProblem(
            f"--listen {config.listen} is every address of this machine; say with --advertise at which of them others"
            " reach it"
        )
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    raise_file_limit()
    return uvloop.run(_serve(config))


async def _serve(config: Config) -> int:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    daemon = Daemon(config, loop)
    try:
        starting = asyncio.ensure_future(daemon.start())
        waiting = asyncio.ensure_future(stopped.wait())
        await asyncio.wait((starting, waiting), return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            return 0
        waiting.cancel()
        starting.result()
        # What was made until now stays; the collector need not look at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_ALLOCATIONS)
        sys.stdout.write(
            f"OuroDB {__version__} ready: CQL on {config.listen}:{daemon.cql_port},"
            f" peers on {config.listen}:{daemon.peer_port}, admin on {config.listen}:{daemon.admin_port},"
            f" data in {config.data_path.resolve()}\n"
        )
        sys.stdout.flush()
        daemon.admin.start()
        waiting = asyncio.ensure_future(stopped.wait())
        await asyncio.wait((waiting, daemon.ended), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if daemon.ended.done():
            daemon.ended.result()
    finally:
        await daemon.stop()
    return 0


def _resolved(address: str, option: str) -> str:
    """The address of a host name; clients are told addresses only.

    Raises:
        ConfigurationProblem: there is no such host.
    """
    try:
        return str(socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise ConfigurationProblem(f"{option} {address} names no host: {error.strerror}") from error


def raise_file_limit() -> None:
    """As many open files as the system lets this process have: a connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
