"""How many tombstones a read may meet in a partition, and who hears of it.

A partition in which much was deleted or expired costs every read of it, until gc grace lets the tombstones go: a queue
kept in one partition is the classic. So a read counts what it meets: past one bound its client is warned, past the
other the read fails, and names the partition.

What counts is what Cassandra counts: each cell or element that is a tombstone or has expired, each row that is gone
with no such cell in it, each range tombstone. What a deletion or an overwrite above it shadows isn't counted: it is
dead weight too, but one who deletes a large partition must be able to read it. Unlike Cassandra a scan counts each
partition by itself, so that a table isn't refused for many that are harmless each.

Source: ``ReadCommand.withMetricsRecording`` of Apache Cassandra 5, its ``tombstone_warn_threshold`` and
``tombstone_failure_threshold``.
"""

from __future__ import annotations

from typing import Final

from ourodb.errors import StoreError
from ourodb.storage.keys import TableKeys


class TooManyTombstones(StoreError):
    """A read met more tombstones in one partition than it was allowed to.

    Attributes:
        position: of the partition.
        tombstones: how many it had met.
    """

    def __init__(self, position: bytes, tombstones: int, name: str) -> None:
        """
        Args:
            name: the partition's key as CQL has it.
        """
        super().__init__(f"{tombstones} tombstones met in the partition {name}")
        self.position = position
        self.tombstones = tombstones


class TombstoneWatch:
    """Counts what one read meets, however many streams it takes.

    Attributes:
        position: the partition in which it met tombstones last; b"" before.
        met: how many there so far.
        most: the most that it met in one partition, where that is past the bound for a warning; else 0.
        worst: that partition.
    """

    __slots__ = ("fail_past", "met", "most", "position", "warn_past", "worst")

    def __init__(self, warn_past: int, fail_past: int) -> None:
        self.warn_past = min(warn_past, fail_past)
        self.fail_past = fail_past
        self.position = b""
        self.met = 0
        self.most = 0
        self.worst = b""

    def meet(self, keys: TableKeys, position: bytes, count: int) -> None:
        """Count tombstones of a partition.

        Raises:
            TooManyTombstones: there are too many in it.
        """
        if position != self.position:
            self.position = position
            self.met = 0
        self.met += count
        if self.met <= self.warn_past:
            return
        if self.met > self.most:
            self.most = self.met
            self.worst = position
        if self.met > self.fail_past:
            raise TooManyTombstones(position, self.met, keys.partition_text(position))


_NO_BOUND: Final = 1 << 62

UNWATCHED: Final = TombstoneWatch(_NO_BOUND, _NO_BOUND)
"""Lets everything pass: for reads that can't meet many."""
