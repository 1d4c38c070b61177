"""A ring for tests, and its nodes: real processes that a test may kill, stop, pause and cut off from each other.

The nodes run with settings for tests: they gossip five times a second, so that a death is known within a second or
two, and don't wait for the disk.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from ourodb.cli.admin import AdminError, call
from ourodb.cli.local import layout
from ourodb.cli.local.agreement import disagreement, look
from ourodb.cli.local.layout import NodePlan
from ourodb.cli.local.process import clean_environment, last_lines
from ourodb.cli.serve import WAS_REMOVED
from ourodb.testing.nursery import NURSERY
from ourodb.testing.places import free_network, new_folder

if TYPE_CHECKING:
    from cassandra.cluster import Session

OPTIONS: Final = (
    "--gossip-ms=200",
    "--durability=periodic",
    "--memtable-mb=8",
    "--cache-mb=8",
    "--faults=on",
)

PATIENCE_S: Final = 120.0
"""After which something that should happen is said not to: far more than it takes, on however busy a machine."""

POLL_S: Final = 0.02
LOG_LINES: Final = 10


class RingError(Exception):
    """A node didn't do what it was told to; the message has the end of its log."""


class RingNode:
    """A node of a ring.

    Attributes:
        number: from 0 on, as in ``Ring.nodes``.
        address, port: where CQL clients connect.
        peer, admin: ADDRESS:PORT for other nodes, and of the admin API.
        data: its folder.
        log_path: of what it prints.
    """

    def __init__(self, ring: Ring, number: int, plan: NodePlan) -> None:
        self.number = number
        self.address = plan.address
        self.port = plan.cql_port
        self.peer = plan.peer
        self.admin = plan.admin
        self.data = ring.folder / plan.name
        self.log_path = ring.folder / f"{plan.name}.log"
        self.plan = plan
        self._ring = ring
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        self._is_paused = False

    def __repr__(self) -> str:
        return f"<node {self.number} at {self.address}:{self.port}>"

    @property
    def pid(self) -> int:
        """Of its process. Raises RingError when it was never started."""
        if self._process is None:
            raise RingError(f"{self} was never started")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has a process; a paused one counts."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """All that it has printed so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def start(self) -> None:
        """Start it, if it doesn't run; returns when it serves clients.

        Raises:
            RingError: it ended instead.
        """
        self.launch()
        self.wait_until_ready()

    def launch(self) -> None:
        """Start it, if it doesn't run, without waiting for it."""
        if self.is_running:
            return
        plan = self._ring.plan
        arguments = ["serve", *plan.options, *plan.arguments(self._ring.folder, self.plan)]
        self._log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
        self._is_paused = False
        self._process = NURSERY.start(arguments, self.log_path, clean_environment(os.environ))

    def wait_until_ready(self) -> None:
        """Wait until it serves clients.

        Raises:
            RingError: it ended, or takes too long.
        """
        until = time.monotonic() + PATIENCE_S
        while b" ready: " not in self._said():
            self.check_alive()
            if time.monotonic() > until:
                raise RingError(f"{self} isn't ready after {PATIENCE_S:.0f} s:\n{self.last_words()}")
            time.sleep(POLL_S)

    def check_alive(self) -> None:
        """Raises RingError when its process has ended."""
        if not self.is_running:
            code = None if self._process is None else self._process.returncode
            raise RingError(f"{self} ended with {code}:\n{self.last_words()}")

    @property
    def has_left(self) -> bool:
        """Whether its process ended because the cluster has gone on without it."""
        return self._process is not None and self._process.poll() == WAS_REMOVED

    def kill(self) -> None:
        """SIGKILL: it dies without a word, as in a crash. Returns when it is gone."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def stop(self) -> int:
        """SIGTERM: it ends in order. Returns its exit code.

        Raises:
            RingError: it hasn't ended after a long time.
        """
        self.resume()
        self._signal(signal.SIGTERM)
        if self._process is None:
            return 0
        try:
            return self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise RingError(f"{self} doesn't stop:\n{self.last_words()}") from None

    def pause(self) -> None:
        """SIGSTOP: it keeps its connections and says nothing, as when a machine hangs."""
        self._signal(signal.SIGSTOP)
        self._is_paused = self.is_running

    def resume(self) -> None:
        """SIGCONT: it goes on after a pause."""
        self._signal(signal.SIGCONT)
        self._is_paused = False

    def status(self, path: str = "/status", body: dict[str, Any] | None = None) -> dict[str, Any]:
        """What it says over its admin API.

        Raises:
            RingError: it doesn't answer.
        """
        try:
            return call(self.admin, path, body, timeout_s=PATIENCE_S)
        except AdminError as error:
            raise RingError(f"{self}: {error}\n{self.last_words()}") from error

    def cut_off_from(self, others: Iterable[RingNode]) -> None:
        """From now on nothing passes between it and these; what was cut before and isn't named is whole again."""
        self.status("/faults", {"cut": [other.peer for other in others if other is not self]})

    def last_words(self) -> str:
        """The end of its log."""
        return "\n".join(last_lines(self.log_path, LOG_LINES, start=self._log_start))

    def _said(self) -> bytes:
        if not self.log_path.exists():
            return b""
        with self.log_path.open("rb") as file:
            file.seek(self._log_start)
            return file.read()

    def _signal(self, number: int) -> None:
        if self.is_running:
            os.kill(self.pid, number)


class Ring:
    """Some nodes that belong together.

    Attributes:
        nodes: in the order in which they were started.
        folder: their data and logs; removed when the ring is closed.
    """

    def __init__(self, nodes: int = 3, *, dcs: int = 1, racks: int = 1, options: Sequence[str] = ()) -> None:
        """Find a place for the ring; nothing runs yet.

        Raises:
            LayoutError, NoPlaceError: there is none.
        """
        address, ports = free_network(nodes)
        self.plan = layout.spread(
            nodes, dcs=dcs, racks=racks, first_address=address, ports=ports, options=(*OPTIONS, *options)
        )
        self.folder = new_folder()
        self.nodes = [RingNode(self, number, plan) for number, plan in enumerate(self.plan.nodes)]
        self._clusters: list[Any] = []
        self._session: Session | None = None

    @property
    def contact_points(self) -> list[str]:
        """The addresses of all nodes, for drivers."""
        return [node.address for node in self.nodes]

    @property
    def port(self) -> int:
        """For CQL; the same on all nodes."""
        return self.nodes[0].port

    def start(self) -> None:
        """Start all nodes that don't run; returns when all of them see each other.

        Raises:
            RingError: one ended.
        """
        layout.make_secret(self.folder)
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            node.wait_until_ready()
        self.wait_until_all_up()
        self.plan = self.plan.formed()

    def wait_until_all_up(self) -> None:
        """Wait until every node sees every other UP, and all have applied the same changes of schema and members.

        Raises:
            RingError: a node doesn't run, or it takes too long.
        """
        if len(self.nodes) == 1:
            self.nodes[0].wait_until_ready()
            return
        until = time.monotonic() + PATIENCE_S
        while missing := disagreement(self.plan.nodes, look(self.plan.nodes)):
            for node in self.nodes:
                node.check_alive()
            if time.monotonic() > until:
                what = "; ".join(f"{name} {text}" for name, text in missing.items())
                raise RingError(f"after {PATIENCE_S:.0f} s: {what}")
            time.sleep(POLL_S)

    def add(self, count: int = 1) -> list[RingNode]:
        """Start more nodes, together; returns when they serve clients, each with its part of the rows.

        Raises:
            RingError: one ended, or the rows aren't there in time.
        """
        known = len(self.nodes)
        self.plan = self.plan.grown(count)
        added = [RingNode(self, known + number, plan) for number, plan in enumerate(self.plan.nodes[known:])]
        self.nodes += added
        for node in added:
            node.launch()
        for node in added:
            node.wait_until_ready()
        self.wait_until_all_up()
        self.wait_until_moved()
        return added

    def wait_until_moved(self) -> None:
        """Wait until no rows are on the move, and every node has some.

        Raises:
            RingError: it takes too long.
        """
        until = time.monotonic() + PATIENCE_S
        while True:
            report = next(node for node in self.nodes if node.is_running).status()
            moves = report["move"] is not None or not all(one["tokens"] for one in report["members"])
            if not moves:
                return
            if time.monotonic() > until:
                raise RingError(f"after {PATIENCE_S:.0f} s rows are still on the move: {report['move']}")
            time.sleep(POLL_S)

    def split(self, *sides: Sequence[int]) -> None:
        """Cut the ring in parts between which nothing passes: ``ring.split([0, 1], [2])``.

        Nodes that are on no side see all the others. Connections of clients are left alone.
        """
        for side in sides:
            others = [self.nodes[number] for other in sides if other is not side for number in other]
            for number in side:
                self.nodes[number].cut_off_from(others)

    def heal(self) -> None:
        """Take back every cut."""
        for node in self.nodes:
            if node.is_running:
                node.cut_off_from(())

    def make_whole(self) -> None:
        """Take back whatever a test has done to the nodes, and wait until all of them see each other again.

        Nodes that have left the cluster join it afresh.
        """
        for node in self.nodes:
            node.resume()
            node.launch()
        has_come_back = False
        while True:
            try:
                for node in self.nodes:
                    node.wait_until_ready()
                self.heal()
                self.wait_until_all_up()
                break
            except RingError:
                # Some find out only from the others that they have left.
                left = [node for node in self.nodes if node.has_left]
                if not left:
                    raise
                has_come_back = True
                for node in left:
                    shutil.rmtree(node.data)
                    node.launch()
        if has_come_back:
            self.wait_until_moved()

    def connect(self, keyspace: str | None = None, *, node: int | None = None, **options: Any) -> Session:
        """A session of cassandra-driver (or of another that is called ``cassandra``); closed with the ring.

        It works at QUORUM unless told otherwise, so that a test reads what it has written.

        Args:
            node: talk to this one only.
            options: for the driver's ``Cluster``.
        Raises:
            RingError: no driver is installed.
        """
        try:
            from cassandra import ConsistencyLevel
            from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
            from cassandra.policies import (
                ConstantReconnectionPolicy,
                RoundRobinPolicy,
                TokenAwarePolicy,
                WhiteListRoundRobinPolicy,
            )
        except ImportError as error:
            raise RingError("Ring.connect needs a driver: pip install cassandra-driver") from error
        if node is None:
            points, policy = self.contact_points, TokenAwarePolicy(RoundRobinPolicy())
        else:
            points = [self.nodes[node].address]
            policy = WhiteListRoundRobinPolicy(points)
        profile = ExecutionProfile(
            load_balancing_policy=policy,
            consistency_level=ConsistencyLevel.QUORUM,
            request_timeout=PATIENCE_S,
        )
        settings: dict[str, Any] = {
            "protocol_version": 4,
            "execution_profiles": {EXEC_PROFILE_DEFAULT: profile},
            "reconnection_policy": ConstantReconnectionPolicy(0.2, None),
            "connect_timeout": PATIENCE_S,
            # So that the driver finds out soon that a node is paused; nothing else tells it.
            "idle_heartbeat_interval": 2,
            "idle_heartbeat_timeout": 10,
        }
        driver = Cluster(points, port=self.port, **{**settings, **options})
        self._clusters.append(driver)
        return driver.connect(keyspace)

    @property
    def session(self) -> Session:
        """A session that is opened when it is first asked for, and then stays."""
        if self._session is None:
            self._session = self.connect()
        return self._session

    def close(self) -> None:
        """End everything, and remove the folder."""
        drivers, self._clusters, self._session = self._clusters, [], None
        try:
            for driver in drivers:
                driver.shutdown()
        finally:
            for node in self.nodes:
                node.kill()
            shutil.rmtree(self.folder, ignore_errors=True)
