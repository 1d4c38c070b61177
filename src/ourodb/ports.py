"""What the deterministic core asks of the world: time, randomness, storage, timers, peers.

``net`` and ``storage.rocks`` implement these for production, ``storage.memory`` and the simulator for tests. The core
takes them as arguments and never reaches around them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NewType, Protocol

from ourodb.errors import OuroError

Micros = NewType("Micros", int)
Millis = NewType("Millis", int)
Seconds = NewType("Seconds", int)

NodeId = NewType("NodeId", int)
"""A member of the cluster: a small number, handed out once by the metadata log and never again. 0 is nobody."""

Address = tuple[str, int]
"""(address in text form, port) at which a node listens for its peers; names it before it is a member."""


class Later:
    """The one value (``LATER``) by which a store says: not in memory; ask me through ``when_ready``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "LATER"


LATER: Final = Later()


class Clock(Protocol):
    """Time."""

    def wall_us(self) -> int:
        """Microseconds since the Unix epoch; may jump."""
        ...

    def monotonic_ns(self) -> int:
        """Nanoseconds that never go back."""
        ...


class Random(Protocol):
    """Randomness; seeded in the simulator."""

    def bytes(self, count: int) -> bytes: ...

    def below(self, bound: int) -> int:
        """A whole number in [0, bound)."""
        ...


class Timer(Protocol):
    """Something scheduled."""

    def cancel(self) -> None: ...


class Scheduler(Protocol):
    """The loop that drives the core."""

    def soon(self, callback: Callable[[], None]) -> None:
        """Run after the present pass of the loop."""
        ...

    def after(self, delay_ms: int, callback: Callable[[], None]) -> Timer: ...


Write = tuple[int, bytes, bytes | None]
"""(family, key, value); a value of None deletes the key."""


class Store(Protocol):
    """An ordered map of bytes to bytes in a few families, with atomic batches and shared syncs.

    Families are small numbers (``storage.families``): DATA, METADATA, LOG, HINTS, EXPIRY.
    What ``apply`` wrote is seen by the next ``get`` and ``scan``; it survives a crash of the process once ``settle``
    returned and a crash of the machine once the ``sync`` that followed ended. A store may gather what is applied in one
    pass of the loop and write it at ``settle``, so nothing may be acknowledged before ``settle`` returned.

    What it has gathered is a *batch*, which is written or lost as a whole. One may end in the midst of a pass: where a
    scan needs it written, and where somebody else settles.
    """

    def get(self, family: int, key: bytes) -> bytes | None | Later:
        """The value, None when there is none, or LATER when answering would wait for the disk."""
        ...

    def fetch(self, family: int, key: bytes, done: Callable[[bytes | None | Exception], None]) -> None:
        """What LATER asks for: read off the loop, then ``done`` with the value, or the error, on the loop.

        The value is as of some moment before ``done``: writes to the key wait until it was called.
        """
        ...

    def scan(
        self, family: int, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Keys in [start, end) in order (or in reverse) with their values, as of now; also while the engine stalls."""
        ...

    def apply(self, writes: Iterable[Write]) -> None:
        """All or nothing, in order.

        Raises:
            StoreReadOnly: the disk is nearly full.
            StoreDamaged: damage was found that writing would make worse.
        """
        ...

    def settle(self) -> None:
        """Write what was applied since the last call. The owner calls it at the end of each pass of the loop.

        Raises:
            Overloaded: the engine would have to stall.
            StoreReadOnly, StoreDamaged: as for ``apply``.
            Whatever is raised, the batch is lost; what was written before it in this pass isn't.
        """
        ...

    def follow_batches(self, ended: Callable[[OuroError | None], None]) -> None:
        """Have ``ended`` called whenever a batch has been written, or lost: with the reason. It only takes note."""
        ...

    def delete_range(self, family: int, start: bytes, end: bytes) -> None:
        """Delete the keys in [start, end)."""
        ...

    def sync(self, done: Callable[[Exception | None], None]) -> None:
        """Call ``done`` on the loop once all that was applied before is on disk, or with the reason why it isn't.

        Settles first. Many share one fsync.
        """
        ...


# Lanes of a link: each is a connection of its own, so that one can't hold up another.
URGENT: Final = 0
"""Gossip, consensus, everything small that others wait for."""
DATA: Final = 1
"""Reads, writes and their replies."""
BULK: Final = 2
"""Hints, streams: may wait, may be throttled."""


class Link(Protocol):
    """The way to one peer. Messages of one lane arrive in order, each at most once, or not at all.

    Attributes:
        address: whose.
        is_connected: whether messages of the DATA lane have any chance of arriving now.
    """

    address: Address
    is_connected: bool

    def send(self, lane: int, message: bytes) -> bool:
        """Queue a message; it leaves with others at the end of this pass.

        Returns:
            False: it was dropped, since the peer isn't connected or doesn't keep up.
        """
        ...


class Transport(Protocol):
    """All links of a node. What arrives is given to ``Receive``."""

    def link(self, address: Address) -> Link:
        """The link to a peer, the same object each time; connects when something is sent, and again after losses."""
        ...

    def forget(self, address: Address) -> None:
        """Close the link; nothing will be sent there any more."""
        ...


Receive = Callable[[Link, bytes], None]
"""(the link to the sender, message). The sender has proved that it knows the cluster's secret."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The world of one node.

    Attributes:
        arm: makes sure that this pass of the loop ends with ``Node.settle``, before anything is sent.
    """

    clock: Clock
    random: Random
    scheduler: Scheduler
    store: Store
    transport: Transport
    arm: Callable[[], None]
