"""What a machine wants done, in the order in which it must be.

Within one ``Output`` the order is always: at most one ``Persist``, at most one ``Restore``, any number of ``Send``, at
most one ``Apply``. So nothing is said to others, and nothing is shown to the state machine, before it is on disk.

The driver carries out one effect after another, one output after another, and waits for the fsync of each ``Persist``.
Meanwhile it may hand the machine further events; what these lead to queues up behind. A driver that stops at any point,
in the midst of an output too, loses nothing that anyone relies on. If a ``Persist`` fails, nobody knows what is on
disk: drop the machine with all that is queued, and start it again from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from ourodb.cluster.raft.messages import Entry, Message, Snapshot
from ourodb.ports import NodeId


@dataclass(frozen=True, slots=True)
class Persist:
    """Put on disk, all or nothing, and fsync.

    Attributes:
        term, vote: replace those on disk.
        truncate_from: first delete all entries on disk from this index on.
        entries: then add these; they continue what is left.
        snapshot: replaces the one on disk.
        keep_from: with a snapshot: entries below this index are needed no more. They may be deleted now, later or
            never; None: there are none.
    """

    term: int
    vote: NodeId | None
    truncate_from: int | None
    entries: tuple[Entry, ...]
    snapshot: Snapshot | None
    keep_from: int | None = None


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message, which may get lost."""

    to: NodeId
    message: Message


@dataclass(frozen=True, slots=True)
class Apply:
    """These entries are committed: apply them. Ascending and gapless from one Apply or Restore to the next."""

    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Restore:
    """The state machine is as this snapshot says; what it was is replaced."""

    snapshot: Snapshot


Effect: TypeAlias = Persist | Send | Apply | Restore


@dataclass(frozen=True, slots=True)
class Output:
    """All that comes of one event, to be carried out in order."""

    effects: list[Effect]
