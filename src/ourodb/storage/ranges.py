"""Range tombstones of one partition, kept as fragments that never overlap.

A fragment says: rows between these two bounds are deleted as of that timestamp. Where ranges overlap only the newest
is kept, since it shadows all that the others do. So a read meets at most one fragment per row, and finds the one that
covers a row with one seek.

Source: Cassandra's ``RangeTombstoneList``; RocksDB's fragmented range tombstones.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from operator import itemgetter

from ourodb.ports import Store
from ourodb.storage.families import DATA
from ourodb.storage.record import NEVER, Deletion, decode_range

Fragment = tuple[bytes, bytes, Deletion]
"""(start bound, end bound, deletion): shadows the clustering keys in [start, end)."""

_start, _end = itemgetter(0), itemgetter(1)


def add(fragments: list[Fragment], start: bytes, end: bytes, deletion: Deletion) -> None:
    """Make fragments say one more range besides what they say.

    Args:
        fragments: in order, without overlaps; changed.
    """
    if start >= end:
        return
    first = bisect_right(fragments, start, key=_end)
    last = bisect_left(fragments, end, first, key=_start)
    pieces: list[Fragment] = []
    cursor = start
    for low, high, known in fragments[first:last]:
        if low < start:
            pieces.append((low, start, known))
            low = start
        if cursor < low:
            pieces.append((cursor, low, deletion))
        cursor = min(high, end)
        pieces.append((low, cursor, max(known, deletion)))
        if high > end:
            pieces.append((end, high, known))
    if cursor < end:
        pieces.append((cursor, end, deletion))
    # With the neighbours, which may go on in them.
    before, after = max(first - 1, 0), last + 1
    fragments[before:after] = _joined([*fragments[before:first], *pieces, *fragments[last:after]])


def _joined(pieces: Iterable[Fragment]) -> list[Fragment]:
    """Neighbours with the same deletion made one."""
    found: list[Fragment] = []
    for piece in pieces:
        if found and found[-1][1] == piece[0] and found[-1][2] == piece[2]:
            found[-1] = (found[-1][0], piece[1], piece[2])
        else:
            found.append(piece)
    return found


def overlapping(store: Store, base: bytes, start: bytes, end: bytes) -> Iterator[Fragment]:
    """The stored fragments that overlap [start, end), in order.

    Args:
        base: the partition's prefix with the kind byte of range tombstones.
    """
    size = len(base)
    first = base + start + b"\x00"
    for key, record in store.scan(DATA, base, first, reverse=True):
        high, deletion = decode_range(record)
        if high > start:
            yield key[size:], high, deletion
        break
    for key, record in store.scan(DATA, first, base + end):
        high, deletion = decode_range(record)
        yield key[size:], high, deletion


def covering(store: Store, base: bytes, clustering_key: bytes) -> int:
    """The timestamp of the fragment that covers a row, NEVER when there is none."""
    for _, record in store.scan(DATA, base, base + clustering_key + b"\x00", reverse=True):
        high, (timestamp, _) = decode_range(record)
        return timestamp if clustering_key < high else NEVER
    return NEVER


class RangeCursor:
    """Answers ``covering`` for rows that come in order, or all in reverse."""

    __slots__ = ("_current", "_fragments", "_reverse")

    def __init__(self, fragments: Iterable[Fragment], reverse: bool = False) -> None:
        """
        Args:
            fragments: in the order in which the rows will come.
        """
        self._fragments = iter(fragments)
        self._reverse = reverse
        self._current = next(self._fragments, None)

    def covering(self, clustering_key: bytes) -> int:
        """As the function ``covering``."""
        current = self._current
        if self._reverse:
            while current is not None and clustering_key < current[0]:
                current = self._current = next(self._fragments, None)
        else:
            while current is not None and current[1] <= clustering_key:
                current = self._current = next(self._fragments, None)
        if current is not None and current[0] <= clustering_key < current[1]:
            return current[2][0]
        return NEVER
