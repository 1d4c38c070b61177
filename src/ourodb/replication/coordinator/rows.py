"""The rows of a table as its replicas have them: what ``TableRows`` is for this node, at any consistency
level.

``read`` and ``scan`` give the same streams of live rows. Behind them chunks of stored records are fetched
from replicas, merged, and resolved by the very code that reads the local store. While a chunk is on its way
the stream gives PAUSE, and ``waiting`` is the fetch that whoever steps the stream should wait for.

A scan goes along the ring in token order, one token range after the other; as long as ranges give few rows,
the next ones are fetched at the same time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TypeAlias

from ourodb import limits
from ourodb.replication.coordinator.fetch import Fetch, FetchContext
from ourodb.replication.paxos.proposer import SerialFetch
from ourodb.replication.replica.reads import RangeCommand, ReadCommand, SlicesCommand
from ourodb.replication.routes import KeyspaceRoutes, Route
from ourodb.storage.chunk import Chunk, beyond, covered, rows_of
from ourodb.storage.keys import ALL_ROWS, Slice, after_row, next_position
from ourodb.storage.row import PAUSE, LivePartition, LiveRow, Pause
from ourodb.storage.rows import TableRows

AnyFetch: TypeAlias = Fetch | SerialFetch

FirstFetch = Callable[[SlicesCommand, Route], SerialFetch]
"""Begins the first chunk of a read in another way than the others."""


class ReplicatedRows:
    """The rows of one table, for one read.

    Attributes:
        waiting: the fetch that the stream waits for, or None when it can go on.
        fetched: chunks, counted.
    """

    def __init__(
        self,
        context: FetchContext,
        routes: KeyspaceRoutes,
        rows: TableRows,
        level: int,
        rows_max: int = limits.CHUNK_ROWS_MAX,
        first: FirstFetch | None = None,
    ) -> None:
        """
        Args:
            rows: the table's on this node.
            rows_max: how many rows the reader will want at most, as far as it knows.
            first: for a serial read: its first chunk goes through Paxos, which makes sure that what was agreed before
                is on a quorum.
        """
        self.waiting: AnyFetch | None = None
        self.fetched = 0
        self.keys = rows.keys
        self._context = context
        self._routes = routes
        self._rows = rows
        self._level = level
        self._rows_max = min(rows_max, limits.CHUNK_ROWS_MAX)
        self._first = first
        self._started: dict[bytes, AnyFetch] = {}
        """Fetches of whole partitions that were begun before their turn."""

    def expect(self, positions: Sequence[bytes], now_s: int, slices: Sequence[Slice], reverse: bool) -> None:
        """These partitions will be read one after the other: begin with several at once.

        Raises:
            Unavailable, InvalidRequest: as ``read``.
        """
        for position in positions:
            if len(self._started) >= limits.RANGES_AT_ONCE_MAX:
                return
            if position not in self._started:
                command = SlicesCommand(
                    self._rows, position, slices, now_s, reverse=reverse, rows_max=self._rows_max
                )
                self._started[position] = self._start(command, self._routes.find(position))

    def read(
        self,
        position: bytes,
        now_s: int,
        slices: Sequence[Slice] = ALL_ROWS,
        *,
        reverse: bool = False,
        static_alone: bool = False,
        pause_every: int = 0,
    ) -> Iterator[LiveRow | Pause]:
        """As ``TableRows.read``."""
        return self._read(position, now_s, slices, reverse, static_alone, None, False)

    def _read(
        self,
        position: bytes,
        now_s: int,
        slices: Sequence[Slice],
        reverse: bool,
        static_alone: bool,
        partition: LivePartition | None,
        any_row: bool,
    ) -> Iterator[LiveRow | Pause]:
        """Read a partition, of which rows may have been given already."""
        route = self._routes.find(position)
        while True:
            fetch: AnyFetch | None = self._started.pop(position, None)
            if fetch is None:
                command = SlicesCommand(
                    self._rows, position, slices, now_s, reverse=reverse, rows_max=self._rows_max
                )
                if self._first is not None:
                    fetch = self._first(command, route)
                    self._first = None
                else:
                    fetch = self._start(command, route)
            chunk = yield from self._await(fetch)
            bound = None if chunk.end is None else chunk.end[1]
            rest = beyond(slices, bound, reverse=reverse)
            found = rows_of(self._rows, chunk.partitions)
            for row in found.read(
                position,
                now_s,
                covered(slices, bound, reverse=reverse),
                reverse=reverse,
                static_alone=static_alone and not any_row and not rest,
            ):
                assert isinstance(row, LiveRow)
                if partition is None:
                    partition = row.partition
                else:
                    # It is one partition to the reader, whatever chunks it came in.
                    row.partition = partition
                any_row = any_row or row.clustering_key is not None
                yield row
                if partition.done:
                    return
            if not rest:
                return
            slices = rest

    def scan(
        self,
        now_s: int,
        start: bytes = b"",
        end: bytes | None = None,
        slices: Sequence[Slice] = ALL_ROWS,
        *,
        resume_after: bytes | None = None,
        static_alone: bool = False,
        pause_every: int = 256,
    ) -> Iterator[LiveRow | Pause]:
        """As ``TableRows.scan``."""
        if resume_after is not None:
            rest = after_row(slices, resume_after)
            yield from self._read(start, now_s, rest, False, False, None, True)
            start = next_position(start)
        ranges = self._routes.between(start, end)
        begun: deque[tuple[bytes, bytes | None, Route, Fetch]] = deque()
        window = 1
        while True:
            while len(begun) < window:
                following = next(ranges, None)
                if following is None:
                    break
                low, high, route = following
                begun.append((low, high, route, self._start(self._range(low, high, slices, now_s), route)))
            if not begun:
                return
            low, high, route, fetch = begun.popleft()
            rows = yield from self._scan_range(low, high, slices, now_s, static_alone, route, fetch)
            if rows < self._rows_max:
                window = min(window * 2, limits.RANGES_AT_ONCE_MAX)

    def _scan_range(
        self,
        low: bytes,
        high: bytes | None,
        slices: Sequence[Slice],
        now_s: int,
        static_alone: bool,
        route: Route,
        fetch: Fetch,
    ) -> Generator[LiveRow | Pause, None, int]:
        """The rows of one token range; returns how many."""
        count = 0
        while True:
            chunk = yield from self._await(fetch)
            found = rows_of(self._rows, chunk.partitions)
            end = chunk.end
            partial = None if end is None or end[1] is None else end[0]
            stop = high
            if end is not None:
                stop = end[0] if partial is not None else next_position(end[0])
            for row in found.scan(now_s, low, stop, slices, static_alone=static_alone, pause_every=0):
                count += 1
                yield row
            if end is None:
                return count
            if partial is not None:
                for row in self._scan_partial(found, chunk, slices, now_s, static_alone):
                    if row is not PAUSE:
                        count += 1
                    yield row
            low = next_position(end[0])
            fetch = self._start(self._range(low, high, slices, now_s), route)

    def _scan_partial(
        self, found: TableRows, chunk: Chunk, slices: Sequence[Slice], now_s: int, static_alone: bool
    ) -> Iterator[LiveRow | Pause]:
        """The partition in whose midst a chunk ended: what the chunk has of it, then the rest."""
        assert chunk.end is not None
        position, bound = chunk.end
        partition: LivePartition | None = None
        for row in found.read(position, now_s, covered(slices, bound)):
            assert isinstance(row, LiveRow)
            partition = row.partition
            yield row
            if partition.done:
                return
        rest = beyond(slices, bound)
        if rest:
            yield from self._read(
                position, now_s, rest, False, static_alone, partition, partition is not None
            )

    def _range(self, low: bytes, high: bytes | None, slices: Sequence[Slice], now_s: int) -> RangeCommand:
        return RangeCommand(self._rows, low, high, slices, now_s, rows_max=self._rows_max)

    def _start(self, command: ReadCommand, route: Route) -> Fetch:
        self.fetched += 1
        return Fetch(self._context, command, route, self._level, route.read_nodes(self._level)).start()

    def _await(self, fetch: AnyFetch) -> Generator[Pause, None, Chunk]:
        while not fetch.is_done:
            self.waiting = fetch
            yield PAUSE
        self.waiting = None
        if fetch.error is not None:
            raise fetch.error
        assert fetch.chunk is not None
        return fetch.chunk
