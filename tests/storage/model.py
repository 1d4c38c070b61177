"""What CQL means, written without regard to how it is stored: a list of facts and questions about them.

Every write adds facts and nothing is ever removed; a read looks at all of them. Clustering values are Python tuples of
ints in CQL order. Rules are Cassandra's, spelt out anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Clustering = tuple[int, ...]
STATIC: Clustering | None = None
Covers = Callable[[Clustering], bool]


@dataclass(frozen=True)
class Written:
    """A cell, an element (with a path) or a row marker (column 0)."""

    timestamp: int
    kind: str  # "live", "expiring", "tombstone"
    expires_at: int = 0
    value: bytes = b""
    ttl: int = 0

    def beats(self, other: Written) -> bool:
        if self.timestamp != other.timestamp:
            return self.timestamp > other.timestamp
        if (self.kind == "live") != (other.kind == "live"):
            return self.kind != "live"
        if (self.kind == "tombstone") != (other.kind == "tombstone"):
            return self.kind == "tombstone"
        if self.kind == "expiring" and self.expires_at != other.expires_at:
            return self.expires_at > other.expires_at
        if self.value != other.value:
            return self.value > other.value
        return self.ttl > other.ttl

    def is_live(self, now: int) -> bool:
        return self.kind == "live" or (self.kind == "expiring" and now < self.expires_at)


@dataclass
class ModelPartition:
    cells: dict[tuple[Clustering | None, int, bytes | None], list[Written]] = field(default_factory=dict)
    increments: dict[tuple[Clustering | None, int], list[tuple[int, int]]] = field(default_factory=dict)
    complex_deletions: dict[tuple[Clustering | None, int], list[int]] = field(default_factory=dict)
    row_deletions: dict[Clustering, list[int]] = field(default_factory=dict)
    ranges: list[tuple[Covers, int]] = field(default_factory=list)
    deletions: list[int] = field(default_factory=list)

    def write(self, row: Clustering | None, column: int, path: bytes | None, written: Written) -> None:
        self.cells.setdefault((row, column, path), []).append(written)

    def deleted_at(self, row: Clustering | None) -> int:
        times = [*self.deletions, -(1 << 63)]
        if row is not None:
            times += self.row_deletions.get(row, [])
            times += [timestamp for covers, timestamp in self.ranges if covers(row)]
        return max(times)

    def rows(self) -> list[Clustering]:
        found = {row for row, _, _ in self.cells} | {row for row, _ in self.increments}
        return [row for row in found if row is not None]

    def row(self, row: Clustering | None, now: int) -> dict[Any, Any] | None:
        """What is live in a row: {0: marker, column: cell, (column, path): element}; None when nothing is."""
        deleted_at = self.deleted_at(row)
        found: dict[Any, Any] = {}
        for (at, column, path), versions in self.cells.items():
            if at != row:
                continue
            shadow = deleted_at
            if path is not None:
                shadow = max([shadow, *self.complex_deletions.get((row, column), [])])
            best: Written | None = None
            for version in versions:
                if version.timestamp > shadow and (best is None or version.beats(best)):
                    best = version
            if best is not None and best.is_live(now):
                key = column if path is None else (column, path)
                found[key] = (best.value, best.timestamp, best.ttl, best.expires_at)
        for (at, column), added in self.increments.items():
            live = [(timestamp, delta) for timestamp, delta in added if timestamp > deleted_at]
            if at == row and live:
                total = sum(delta for _, delta in live)
                found[column] = (total.to_bytes(8, "big", signed=True), max(live)[0], 0, 0)
        return found or None


class Model:
    """One table."""

    def __init__(self, descending: tuple[bool, ...]) -> None:
        self.descending = descending
        self.partitions: dict[Any, ModelPartition] = {}

    def partition(self, key: Any) -> ModelPartition:
        return self.partitions.setdefault(key, ModelPartition())

    def clustering_order(self, row: Clustering) -> tuple[int, ...]:
        return tuple(-value if down else value for value, down in zip(row, self.descending, strict=True))

    def read(
        self, key: Any, now: int, wanted: Covers = lambda row: True, reverse: bool = False
    ) -> list[tuple[Clustering, dict[Any, Any]]]:
        """The live rows of a partition that are wanted, in clustering order or in reverse."""
        partition = self.partition(key)
        rows = sorted(filter(wanted, partition.rows()), key=self.clustering_order, reverse=reverse)
        return [(row, content) for row in rows if (content := partition.row(row, now)) is not None]

    def static(self, key: Any, now: int) -> dict[Any, Any] | None:
        return self.partition(key).row(STATIC, now)
