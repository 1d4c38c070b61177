"""One node, put together. Read this first.

``Node`` makes every part of a node and hands each what it depends on; no part reaches for another by itself.
From the
bottom up: the store, the metadata log and the schema it amounts to, the rows, the coordinator of writes,
conditional writes, counters and reads, the processor of statements, and the server that clients connect to.
``run`` is what ``ouro serve`` calls: it makes the event loop, starts a node, says so in one line, and waits
for a signal.
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
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import asdict, replace
from typing import Any

import structlog
import uvloop

from ourodb import __version__
from ourodb.cluster.identity import load_identity, mark_clean_stop
from ourodb.cluster.metadata.log import MetadataLog
from ourodb.config import Config
from ourodb.cql.analysis.operations import ListCellIds
from ourodb.cql.syntax.parser import parse
from ourodb.cql.wire.connection import ServerConnection
from ourodb.errors import ConfigurationProblem, InvalidRequest, OuroError
from ourodb.net.admin import AdminServer
from ourodb.net.clients import ClientServer
from ourodb.net.loop import LoopScheduler, SystemClock, SystemRandom
from ourodb.observe.log import configure_logging
from ourodb.replication.coordinator.cas import ConditionalWrites
from ourodb.replication.coordinator.counter import Counters
from ourodb.replication.coordinator.paging import PagingSeal
from ourodb.replication.replica.writes import Writes
from ourodb.replication.timestamps import Timestamps
from ourodb.schema.describe import describe
from ourodb.schema.model import Schema, Table
from ourodb.schema.node_info import NodeInfo
from ourodb.schema.snapshot import encode_schema
from ourodb.schema.virtual import ClientInfo
from ourodb.session.processor import QueryProcessor
from ourodb.session.reads import Reads
from ourodb.session.session import Session
from ourodb.session.virtual_tables import VirtualTables
from ourodb.storage.families import DATA
from ourodb.storage.purge import purge
from ourodb.storage.rocks import RocksStore
from ourodb.storage.row import Pause
from ourodb.storage.rows import Rows
from ourodb.storage.snapshot import MANIFEST, STORE, check_name, read_manifest, seal
from ourodb.storage.upkeep import Upkeep

log = structlog.get_logger()

SNAPSHOTS = "snapshots"
"""Folder in the data folder."""

LAST_KEY = b"\xff" * 5
"""After every key of DATA."""

GC_ALLOCATIONS = 50_000
"""Objects more between two collections of the youngest; requests leave no cycles, so there is little to find."""

SWITCH_INTERVAL_S = 0.0005
"""How soon the thread that waits for an fsync gets the interpreter back beside a busy loop."""


class Node:
    """A node and its parts.

    Attributes:
        cql_port, admin_port: where it listens, once started.
    """

    def __init__(self, config: Config, loop: asyncio.AbstractEventLoop) -> None:
        """Open the store and recover what the node knew; nothing listens yet.

        Raises:
            StoreError: the store can't be opened; the message is for the operator.
        """
        self.config = config
        self.cql_port = config.cql_port
        self.admin_port = config.admin_port
        self.clock = SystemClock()
        self.random = SystemRandom()
        self.scheduler = LoopScheduler(loop)
        self.store = RocksStore(
            config.data_path,
            self.scheduler,
            memtable_bytes=config.memtable_mb << 20,
            cache_bytes=config.cache_mb << 20,
            sync_period_ms=config.sync_period_ms if config.durability == "periodic" else None,
        )
        try:
            self._compose(loop)
        except BaseException:
            self.store.close()
            raise

    def _compose(self, loop: asyncio.AbstractEventLoop) -> None:
        config, store, clock, random = self.config, self.store, self.clock, self.random
        self.identity = load_identity(store, random)
        self.metadata = MetadataLog(store, self._node_info())
        view = self.metadata.recover()
        self.rows = Rows(store)
        tables = stored_tables(view.schema)
        for table in tables:
            self.rows.of(table)
        self._sweep({table.incarnation for table in tables})
        self.clients = ClientServer(loop, self._open_session)
        self.writes = Writes(
            self.rows, store, group=config.durability == "group", arm=self.clients.arm_end_of_pass
        )
        self.clients.settle = self.writes.settle
        self.reads = Reads(
            self.rows,
            store,
            VirtualTables(view, self._settings(), self._client_infos),
            self.scheduler,
            PagingSeal(self.identity.paging_key),
        )
        list_cell_ids = ListCellIds(clock, random.below(1 << 48), random.below(1 << 14))
        self.processor = QueryProcessor(
            self.metadata,
            self.rows,
            self.writes,
            ConditionalWrites(self.rows, list_cell_ids),
            Counters(self.rows, clock, self.identity.host_id.bytes, self.identity.counter_incarnation),
            self.reads,
            clock,
            random,
            Timestamps(clock),
            (config.listen, config.cql_port),
        )
        self.upkeep = Upkeep(self._purge, self._check_disk, self.scheduler, clock)
        self.admin = AdminServer(
            {
                ("GET", "/status"): self._status,
                ("POST", "/snapshot"): self._snapshot,
                ("GET", "/snapshots"): self._snapshots,
            },
            self._metrics,
        )

    async def start(self) -> None:
        """Listen.

        Raises:
            ConfigurationProblem: a port is taken.
        """
        config = self.config
        self.admin_port = self.admin.take_port(config.listen, config.admin_port)
        self.cql_port = await self.clients.start(config.listen, config.cql_port)
        if self.cql_port != config.cql_port:
            self.metadata.update_node(replace(self.metadata.view.node, native_port=self.cql_port))
        if not ipaddress.ip_address(config.listen).is_loopback:
            log.warning(
                "anybody who reaches this node can read and change everything: it listens beyond this machine,"
                " and asks nobody for a password",
                address=config.listen,
            )
        self.upkeep.start()

    async def stop(self) -> None:
        """Answer what was asked, close connections, bring the store to rest."""
        self.upkeep.stop()
        await self.admin.stop()
        await self.clients.stop()
        try:
            mark_clean_stop(self.store)
        except OuroError as error:
            # A store that is read-only keeps what it has; its counters begin a new incarnation.
            log.warning("not marked as stopped in order", reason=str(error))
        self.store.close()

    def _sweep(self, known: Set[int]) -> None:
        """Delete rows of tables that are gone: a crash may have come between a DROP and the deletion of its rows."""
        start = b""
        while (first := next(self.store.scan(DATA, start, LAST_KEY), None)) is not None:
            incarnation = int.from_bytes(first[0][:4], "big")
            if incarnation not in known:
                self.rows.drop(incarnation)
            start = (incarnation + 1).to_bytes(4, "big")

    # What parts ask of the whole

    def _open_session(
        self, connection: ServerConnection, peer: tuple[str, int], wake: Callable[[], None]
    ) -> Session:
        return Session(connection, peer, self.processor, wake)

    def _node_info(self) -> NodeInfo:
        config = self.config
        return NodeInfo(
            cluster_name=config.cluster_name,
            data_center=config.dc,
            rack=config.rack,
            host_id=self.identity.host_id,
            tokens=self.identity.tokens,
            native_address=config.listen,
            native_port=config.cql_port,
            broadcast_address=config.listen,
            broadcast_port=config.peer_port,
            listen_address=config.listen,
            listen_port=config.peer_port,
            generation=self.clock.wall_us() // 1_000_000,
        )

    def _settings(self) -> dict[str, str]:
        return {name: str(value) for name, value in asdict(self.config).items()}

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

    def _purge(self, now_s: int) -> Iterator[Pause]:
        tables = {table.incarnation: table for table in stored_tables(self.processor.schema)}
        return purge(self.rows, tables, now_s)

    def _check_disk(self) -> None:
        usage = shutil.disk_usage(self.config.data_path)
        self.store.check_disk(usage.free, usage.total)

    def _status(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "version": __version__,
            "cluster_name": self.config.cluster_name,
            "host_id": str(self.identity.host_id),
            "address": f"{self.config.listen}:{self.cql_port}",
            "data": str(self.config.data_path.resolve()),
            "schema_version": str(self.processor.schema.version),
            "epoch": self.processor.schema.epoch,
            "clients": self.clients.connections,
            "read_only": self.store.read_only,
        }

    async def _snapshot(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Copy the store as it is now, and seal the copy on a thread while requests go on."""
        name = check_name(body.get("name"))
        final = self.config.data_path / SNAPSHOTS / name
        partial = final.with_name(f".{name}.partial")
        if final.exists():
            raise InvalidRequest(f"there is a snapshot {name} already: {final}")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        self.store.checkpoint(partial / STORE)
        view = self.metadata.view
        (partial / "schema.bin").write_bytes(encode_schema(view.schema))
        statements = describe(parse("DESCRIBE SCHEMA"), view.schema, None, view.node)  # type: ignore[arg-type]
        text = "\n\n".join((row[3] or b"").decode() for row in statements.rows)
        (partial / "schema.cql").write_text(text + "\n")
        facts = {
            "version": __version__,
            "cluster_name": self.config.cluster_name,
            "host_id": str(self.identity.host_id),
            "tokens": list(self.identity.tokens),
            "schema_epoch": view.epoch,
        }
        manifest = await asyncio.get_running_loop().run_in_executor(
            None, seal, partial, final, name, self.clock.wall_us(), facts
        )
        size = sum(entry.size for entry in manifest.files)
        return {"name": name, "path": str(final.resolve()), "files": len(manifest.files), "bytes": size}

    def _snapshots(self, body: Mapping[str, Any]) -> dict[str, Any]:
        folder = self.config.data_path / SNAPSHOTS
        paths = sorted(folder.glob(f"*/{MANIFEST}")) if folder.is_dir() else []
        found = []
        for path in paths:
            manifest = read_manifest(path.parent)
            size = sum(entry.size for entry in manifest.files)
            found.append({"name": manifest.name, "created_us": manifest.created_us, "bytes": size})
        return {"snapshots": found}

    def _metrics(self) -> dict[str, tuple[str, str, float]]:
        return {
            "ouro_client_connections": ("Connected clients.", "gauge", self.clients.connections),
            "ouro_clients_refused": ("Connections closed as they came.", "counter", self.clients.refused),
            "ouro_clients_cut_off": ("Clients cut off for not keeping up.", "counter", self.clients.cut_off),
            "ouro_requests": (
                "Requests of the clients that are connected now.",
                "gauge",
                sum(session.requests for session in self.clients.sessions()),
            ),
            "ouro_prepared_statements": ("Prepared statements kept.", "gauge", len(self.processor.prepared)),
            "ouro_prepared_evicted": (
                "Prepared statements forgotten for want of room.",
                "counter",
                self.processor.prepared.evicted,
            ),
            "ouro_store_puts": ("Keys written.", "counter", self.store.puts),
            "ouro_store_syncs": ("Fsyncs of the write-ahead log.", "counter", self.store.syncs),
            "ouro_store_damaged_reads": ("Reads that met damage on disk.", "counter", self.store.damaged),
            "ouro_store_read_only": (
                "1 while writes are refused.",
                "gauge",
                self.store.read_only is not None,
            ),
            "ouro_purge_slices": ("Slices of purging done.", "counter", self.upkeep.purge_slices),
        }


def stored_tables(schema: Schema) -> list[Table]:
    """The tables whose rows are in the store, those of the system included."""
    return [
        table
        for keyspace in schema.keyspaces.values()
        for table in keyspace.tables.values()
        if not table.virtual
    ]


def run(config: Config) -> int:
    """Run a node until SIGTERM or SIGINT; returns the exit code.

    Raises:
        ConfigurationProblem, StoreError: it can't start as it was asked to.
    """
    configure_logging(config.log_level, config.log_format)
    config = replace(config, listen=_resolved(config.listen))
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    _raise_file_limit()
    return uvloop.run(_serve(config))


async def _serve(config: Config) -> int:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    node = Node(config, loop)
    try:
        await node.start()
        # What was made until now stays; the collector need not look at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_ALLOCATIONS)
        sys.stdout.write(
            f"OuroDB {__version__} ready: CQL on {config.listen}:{node.cql_port},"
            f" admin on {config.listen}:{node.admin_port}, data in {config.data_path.resolve()}\n"
        )
        sys.stdout.flush()
        node.admin.start()
        await stopped.wait()
    finally:
        await node.stop()
    return 0


def _resolved(address: str) -> str:
    """The address of a host name; clients are told addresses only.

    Raises:
        ConfigurationProblem: there is no such host.
    """
    try:
        return str(socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise ConfigurationProblem(f"--listen {address} names no host: {error.strerror}") from error


def _raise_file_limit() -> None:
    """As many open files as the system lets this process have: a connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
