"""Rings of real nodes, and stock drivers that speak with them.

``Ring`` starts ``ouro serve`` processes that join each other: on addresses of loopback of their own (127.x.y.1,
127.x.y.2, ...), or each in a namespace of a ``Network`` that can be cut. It ends them whatever happens.
"""

from __future__ import annotations

import itertools
import random
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from cassandra.cluster import (
    EXEC_PROFILE_DEFAULT,
    Cluster,
    ExecutionProfile,
    Session,
)
from cassandra.connection import Connection
from cassandra.policies import (
    ConstantReconnectionPolicy,
    FallthroughRetryPolicy,
    LoadBalancingPolicy,
    RoundRobinPolicy,
    WhiteListRoundRobinPolicy,
)
from tests.nodes import NodeProcess
from tests.ring.namespaces import Network

CQL_PORT = 9042
PEER_PORT = 7000
ADMIN_PORT = 7070
SECRET = "a secret that only this ring knows"
WAIT_SECONDS_MAX = 30
VOTERS_MAX = 3
SIMPLE_3 = "'class': 'SimpleStrategy', 'replication_factor': 3"

names = itertools.count(1)


def eventually(happened: Callable[[], Any], what: str, seconds: float = WAIT_SECONDS_MAX) -> Any:
    """What ``happened`` returns as soon as that is true.

    Raises:
        AssertionError: it never happened.
    """
    deadline = time.monotonic() + seconds
    while True:
        outcome = happened()
        if outcome:
            return outcome
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.05)


class Ring:
    """Nodes that belong together.

    Attributes:
        nodes: in the order in which they joined.
        network: that they are in; None on loopback.
    """

    def __init__(
        self,
        folder: Path,
        count: int = 3,
        *,
        network: Network | None = None,
        locations: Sequence[tuple[str, str]] | None = None,
        options: Sequence[str] = (),
        environment: Callable[[int], Mapping[str, str]] = lambda number: {},
    ) -> None:
        """Nothing is started yet.

        Args:
            locations: data centre and rack of each node.
            options: of ``ouro serve``, for all.
            environment: variables of each node, by its number from 1 on.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.network = network
        hosts = loopback_hosts(count) if network is None else network.hosts[:count]
        self.nodes = []
        for number, host in enumerate(hosts, 1):
            where = () if locations is None else locations[number - 1]
            located = () if not where else ("--dc", where[0], "--rack", where[1])
            join = () if number == 1 else ("--join", f"{hosts[0]}:{PEER_PORT}")
            self.nodes.append(
                NodeProcess(
                    folder / f"n{number}",
                    *("--secret", SECRET, "--host-id", f"h{number}"),
                    *(*located, *join, *options),
                    port=CQL_PORT,
                    host=host,
                    peer_port=PEER_PORT,
                    admin_port=ADMIN_PORT,
                    inside=() if network is None else network.inside(host),
                    environment=environment(number),
                )
            )

    def __enter__(self) -> Ring:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> Ring:
        """Start all, and wait until all see each other and any one of them can be missed."""
        first, *others = self.nodes
        first.start()
        for node in others:
            node.launch()
        for node in others:
            node.wait_until_ready()
        self.wait_until_whole()
        return self

    def close(self) -> None:
        """Kill what runs."""
        for node in self.nodes:
            if node.alive():
                node.kill()

    def heal(self) -> None:
        """All links stand, all nodes run and see each other."""
        if self.network is not None:
            self.network.heal()
        for node in self.nodes:
            if not node.alive():
                node.launch()
            elif node.is_paused:
                node.resume()
        for node in self.nodes:
            node.wait_until_ready()
        self.wait_until_whole()

    def wait_until_whole(self, seconds: float = WAIT_SECONDS_MAX) -> None:
        """Until every node knows that all are up, and the metadata log has as many voters as it should."""
        for node in self.nodes:
            eventually(lambda node=node: self._is_whole(node), f"{node.host} sees all", seconds)

    def wait_until_down(self, *gone: NodeProcess, seconds: float = WAIT_SECONDS_MAX) -> None:
        """Until all others know that these are down."""
        hosts = {node.host for node in gone}
        for node in self.nodes:
            if node not in gone:
                eventually(
                    lambda node=node: hosts <= {host for host, up in states(node).items() if not up},
                    f"{node.host} knows that {sorted(hosts)} are down",
                    seconds,
                )

    def live(self) -> list[NodeProcess]:
        """Those that run and aren't paused."""
        return [node for node in self.nodes if node.alive() and not node.is_paused]

    def leader(self) -> NodeProcess | None:
        """Who leads the metadata log, as far as those that run know."""
        for node in self.live():
            try:
                report = node.admin("metadata")
            except OSError:
                continue
            described = report["nodes"].get(str(report["leader"]))
            if described is not None:
                return next(one for one in self.nodes if described["address"] == one.address)
        return None

    def output(self) -> str:
        """What all nodes printed, for people."""
        return "\n".join(f"--- {node.host}\n{node.story}" for node in self.nodes)

    def is_whole(self) -> bool:
        """Whether every node knows that all are up."""
        return all(node.alive() and self._is_whole(node) for node in self.nodes)

    def _is_whole(self, node: NodeProcess) -> bool:
        try:
            status = node.admin("status")
        except OSError:
            return False
        members = status["members"]
        voters = sum(member["is_voter"] for member in members)
        return (
            len(members) == len(self.nodes)
            and all(member["state"] == "UP" for member in members)
            and voters >= min(len(self.nodes), VOTERS_MAX)
            and (
                bool(status["leader"]) or not any(one["is_this_node"] and one["is_voter"] for one in members)
            )
        )


def loopback_hosts(count: int) -> list[str]:
    """Addresses of loopback on which nobody listens at the ports of a ring."""
    draw = random.Random()
    while True:
        base = f"127.{draw.randrange(1, 255)}.{draw.randrange(1, 255)}"
        hosts = [f"{base}.{number}" for number in range(1, count + 1)]
        if all(_is_free(host, port) for host in hosts for port in (CQL_PORT, PEER_PORT, ADMIN_PORT)):
            return hosts


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def states(node: NodeProcess) -> dict[str, bool]:
    """Whether each member is up, by its host, as a node sees it."""
    return {
        member["address"].rpartition(":")[0]: member["state"] == "UP"
        for member in node.admin("status")["members"]
    }


# Drivers


def profile(policy: LoadBalancingPolicy | None = None, **options: Any) -> ExecutionProfile:
    """How a session runs statements: once, never again by itself."""
    return ExecutionProfile(
        load_balancing_policy=policy or RoundRobinPolicy(),
        **{"retry_policy": FallthroughRetryPolicy(), "request_timeout": 10, **options},
    )


def connect(nodes: Iterable[NodeProcess], keyspace: str | None = None, **options: Any) -> Session:
    """A session of Apache's driver that goes round all nodes that it hears of.

    It asks a connection that is quiet twice a second whether it is still there. Shut it down with
    ``session.cluster.shutdown()``.
    """
    cluster = Cluster(
        [node.host for node in nodes],
        **{
            "port": CQL_PORT,
            "protocol_version": 5,
            "execution_profiles": {EXEC_PROFILE_DEFAULT: profile()},
            "reconnection_policy": ConstantReconnectionPolicy(0.5, None),
            "idle_heartbeat_interval": 0.5,
            "idle_heartbeat_timeout": 0.5,
            "connect_timeout": 2,
            "control_connection_timeout": 2,
            "prepare_on_all_hosts": False,
            "reprepare_on_up": False,
            **options,
        },
    )
    session = cluster.connect(keyspace)
    # The driver is content with one connection at first, and makes the others in the background.
    wanted = len(cluster.contact_points)
    eventually(lambda: len(session.get_pools()) >= wanted, f"connections with {wanted} nodes")
    return session


def connect_to(
    node: NodeProcess, keyspace: str | None = None, *, source: str | None = None, **options: Any
) -> Session:
    """A session that asks one node and no other.

    Args:
        source: the address that it comes from.
    """
    return connect(
        [node],
        keyspace,
        **{
            "execution_profiles": {EXEC_PROFILE_DEFAULT: profile(WhiteListRoundRobinPolicy([node.host]))},
            "idle_heartbeat_interval": 0,
            **({} if source is None else {"connection_class": _coming_from(source)}),
            **options,
        },
    )


def _coming_from(source: str) -> type[Connection]:
    """Connections of the driver whose own end has this address."""

    class Sockets:
        @staticmethod
        def socket(*arguments: Any) -> socket.socket:
            made = socket.socket(*arguments)
            made.bind((source, 0))
            return made

    class Sourced(Cluster.connection_class):  # type: ignore[misc, name-defined]
        _socket_impl = Sockets

    return Sourced


def new_keyspace(session: Session, replication: str = SIMPLE_3) -> str:
    """A keyspace that no other test uses."""
    name = f"ring_{next(names)}"
    session.execute(f"CREATE KEYSPACE {name} WITH replication = {{{replication}}}")
    return name
