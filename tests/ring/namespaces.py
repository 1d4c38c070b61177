"""A small network of network namespaces, whose links can be cut and slowed while programs run.

Each host is a namespace with one interface, wired to a router, which is a namespace, too; so is this process, by an
interface of its own that has two addresses: one for clients that faults may cut off, and one for a *witness*, which
still reaches every host when the others don't.

    host 1 ──┐
    host 2 ──┤ router ── clients, witness (this process)
    host 3 ──┘

A cut is a rule of the router's, "from this address to that one: blackhole": packets of that direction vanish without
a word, as in a broken network, and nothing at either end is told. Nothing but iproute2 is needed. A delay leads the
packets of a host through a tun device, whose other end keeps them for a while.

Addresses are taken from 198.18.0.0/15, which is set aside for tests of networks (RFC 2544), in a part that no route
leads to yet. All names begin with ``ouro-``. Namespaces are removed when the context ends, when the process ends, and,
if it is killed, by its guard.
"""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import heapq
import os
import random
import select
import shutil
import struct
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

import pytest
from tests.nodes.guard import GUARD

CLONE_NEWNET = 0x4000_0000
TUNSETIFF = 0x4004_54CA
IFF_TUN = 0x0001
IFF_NO_PI = 0x1000
TUN = "late"
TUN_TABLE = 77
"""Routing table of packets that are delayed."""
CUT_PRIORITY = 100
DELAY_PRIORITY = 200
PACKET_BYTES_MAX = 65_536
LINK_NAME_LENGTH_MAX = 15
TRIES = 50


def why_not() -> str | None:
    """Why namespaces can't be had on this machine; None when they can."""
    if os.geteuid() != 0:
        return "network namespaces take root"
    if shutil.which("ip") is None:
        return "network namespaces take iproute2's ip"
    name = f"ouro-try-{os.getpid()}"
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if tried.returncode:
        return f"no network namespaces here: {tried.stderr.strip()}"
    try:
        for command in (
            ["link", "add", "one", "type", "veth", "peer", "name", "two"],
            ["rule", "add", "from", "198.18.0.1", "to", "198.18.0.2", "blackhole"],
        ):
            tried = subprocess.run(["ip", "-n", name, *command], capture_output=True, text=True, check=False)
            if tried.returncode:
                return f"ip {' '.join(command)}: {tried.stderr.strip()}"
    finally:
        subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
    return None


def need_namespaces() -> None:
    """Skip the test, with the reason, where there are none."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)


class Network:
    """Hosts that reach each other, until they are cut off.

    Attributes:
        hosts: the address of each.
        client, witness: addresses of this process.
    """

    def __init__(self, count: int) -> None:
        """Make the namespaces.

        Raises:
            subprocess.CalledProcessError: it can't be done; what was made is removed.
        """
        self._draw = random.Random()
        self._tag = f"{os.getpid():x}{self._draw.randrange(1 << 16):04x}"
        self._base = _free_part(self._draw)
        self._router = f"ouro-{self._tag}-r"
        self._link = f"ouro{self._tag}"[:LINK_NAME_LENGTH_MAX]
        self._names = [f"ouro-{self._tag}-{number}" for number in range(1, count + 1)]
        self._made: list[str] = []
        self._cuts: set[tuple[str, str]] = set()
        self._tun: _Tun | None = None
        self.client, self.witness = self._address(0, 2), self._address(0, 3)
        self.hosts = [self._address(number, 2) for number in range(1, count + 1)]
        atexit.register(self.close)
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Network:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def inside(self, host: str) -> list[str]:
        """The words before a command that let it run on a host."""
        return ["ip", "netns", "exec", self._names[self.hosts.index(host)]]

    def close(self) -> None:
        """Remove all of it; programs that still run in it reach nobody. Can be called again."""
        if self._tun is not None:
            self._tun.close()
            self._tun = None
        if self._made:
            subprocess.run(["ip", "link", "delete", self._link], capture_output=True, check=False)
            GUARD.link_is_gone(self._link)
        while self._made:
            name = self._made.pop()
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
            GUARD.namespace_is_gone(name)
        atexit.unregister(self.close)

    # Faults

    def cut(self, some: Sequence[str], others: Sequence[str], *, one_way: bool = False) -> None:
        """Packets between these addresses vanish.

        Args:
            one_way: only those from the first to the second.
        """
        pairs = {(one, other) for one in some for other in others if one != other}
        if not one_way:
            pairs |= {(other, one) for one, other in pairs}
        self._ip_batch(
            f"rule add priority {CUT_PRIORITY} from {one} to {other} blackhole"
            for one, other in sorted(pairs - self._cuts)
        )
        self._cuts |= pairs

    def isolate(self, host: str) -> None:
        """Cut a host off from all others and from the clients; the witness still reaches it."""
        self.cut([host], [*self.hosts, self.client])

    def split(self, *sides: Sequence[str]) -> None:
        """Cut hosts off from each other; each side gets along within itself, and clients reach all."""
        for number, side in enumerate(sides):
            for other in sides[number + 1 :]:
                self.cut(side, other)

    def heal(self) -> None:
        """All reach all again, without delay."""
        self._ip_batch(
            f"rule delete priority {CUT_PRIORITY} from {one} to {other} blackhole"
            for one, other in sorted(self._cuts)
        )
        self._cuts.clear()
        if self._tun is not None:
            self._ip_batch(f"rule delete priority {DELAY_PRIORITY} from {host}" for host in self._tun.delayed)
            self._tun.delayed.clear()

    def delay(self, host: str, milliseconds: int) -> None:
        """All that a host sends arrives so much later.

        Raises:
            OSError: there are no tun devices here.
        """
        if self._tun is None:
            self._tun = _Tun(self._router)
            self._ip(
                f"link set {TUN} up",
                f"route add default dev {TUN} table {TUN_TABLE}",
            )
        self._tun.delay_s = milliseconds / 1000
        self._tun.delayed.append(host)
        number = self.hosts.index(host) + 1
        self._ip(f"rule add priority {DELAY_PRIORITY} from {host} iif n{number} lookup {TUN_TABLE}")

    # Making it

    def _build(self) -> None:
        for name in [self._router, *self._names]:
            GUARD.namespace(name)
            _run("ip", "netns", "add", name)
            self._made.append(name)
        ours = self._link
        GUARD.link(ours)
        _run("ip", "link", "add", ours, "type", "veth", "peer", "name", "clients", "netns", self._router)
        whole = f"{self._base}.0/24"
        _batch(
            [],
            [
                f"address add {self.client}/28 dev {ours}",
                f"address add {self.witness}/28 dev {ours}",
                f"link set {ours} up",
                f"route add {whole} via {self._address(0, 1)} src {self.client}",
            ],
        )
        self._ip("link set lo up", f"address add {self._address(0, 1)}/28 dev clients", "link set clients up")
        for number, (name, host) in enumerate(zip(self._names, self.hosts, strict=True), 1):
            gateway = self._address(number, 1)
            _run("ip", "-n", name, "link", "add", "net", "type", "veth", "peer", "name", f"n{number}",
                 "netns", self._router)  # fmt: skip
            _batch(
                ["-n", name],
                [
                    "link set lo up",
                    f"address add {host}/28 dev net",
                    "link set net up",
                    f"route add default via {gateway}",
                ],
            )
            self._ip(f"address add {gateway}/28 dev n{number}", f"link set n{number} up")
        for setting in ("ip_forward=1", "conf.all.rp_filter=0", "conf.default.rp_filter=0"):
            _run("ip", "netns", "exec", self._router, "sysctl", "-qw", f"net.ipv4.{setting}")

    def _address(self, number: int, last: int) -> str:
        return f"{self._base}.{16 * number + last}"

    def _ip(self, *commands: str) -> None:
        _batch(["-n", self._router], commands)

    def _ip_batch(self, commands: Iterator[str]) -> None:
        self._ip(*commands)


class _Tun:
    """Where delayed packets go, and from where they come back later.

    Attributes:
        delay_s: for how long they are kept.
        delayed: whose packets come here.
    """

    def __init__(self, namespace: str) -> None:
        self.delay_s = 0.0
        self.delayed: list[str] = []
        with _inside(namespace):
            self._file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            try:
                wanted = struct.pack("16sH22x", TUN.encode(), IFF_TUN | IFF_NO_PI)
                fcntl.ioctl(self._file, TUNSETIFF, wanted)
            except OSError:
                os.close(self._file)
                raise
        self._wake, self._wake_end = os.pipe()
        self._thread = threading.Thread(target=self._carry, name="late packets", daemon=True)
        self._thread.start()

    def close(self) -> None:
        os.close(self._wake_end)
        self._thread.join()
        os.close(self._file)
        os.close(self._wake)

    def _carry(self) -> None:
        kept: list[tuple[float, int, bytes]] = []
        count = 0
        while True:
            wait_s = max(0.0, kept[0][0] - time.monotonic()) if kept else None
            readable, _, _ = select.select([self._file, self._wake], [], [], wait_s)
            if self._wake in readable:
                return
            with suppress(BlockingIOError):
                while self._file in readable:
                    packet = os.read(self._file, PACKET_BYTES_MAX)
                    count += 1
                    heapq.heappush(kept, (time.monotonic() + self.delay_s, count, packet))
            now = time.monotonic()
            while kept and kept[0][0] <= now:
                # A device that is full loses packets, as a network does.
                with suppress(OSError):
                    os.write(self._file, heapq.heappop(kept)[2])


@contextmanager
def _inside(namespace: str) -> Iterator[None]:
    """This thread is in a namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with (
        Path("/proc/thread-self/ns/net").open("rb") as own,
        Path(f"/run/netns/{namespace}").open("rb") as other,
    ):
        if libc.setns(other.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"can't enter {namespace}")
        try:
            yield
        finally:
            if libc.setns(own.fileno(), CLONE_NEWNET):
                raise SystemExit("can't leave a network namespace")


def _free_part(draw: random.Random) -> str:
    """The first three bytes of a part of 198.18.0.0/15 that no route leads to."""
    routes = _run("ip", "-4", "route", "show", "table", "all") + _run("ip", "-4", "address")
    for _ in range(TRIES):
        part = f"198.{draw.choice((18, 19))}.{draw.randrange(256)}"
        if f"{part}." not in routes:
            return part
    raise RuntimeError("all of 198.18.0.0/15 is in use")


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def _batch(options: Sequence[str], commands: Sequence[str]) -> None:
    if not commands:
        return
    done = subprocess.run(
        ["ip", *options, "-batch", "-"],
        input="\n".join(commands),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{'; '.join(commands)}: {done.stderr.strip()}")
