"""The rows of a table as its replicas have them: what ``TableRows`` is for this node, at any consistency
level.

``read`` and ``scan`` give the same streams of live rows. Behind them chunks of stored records are fetched
from replicas, merged, and resolved by the very code that reads the local store. While a chunk is on its way
the stream gives PAUSE, and ``waiting`` is the fetch that whoever steps the stream should wait for.

A first chunk is no longer than what the reader wants. Where that doesn't do, as much of it was deleted or filtered, the
following ones grow.

A scan goes along the ring in token order, one token range after the other; as long as ranges give few rows,
the next ones are fetched at the same time. Where rows move meanwhile, what is left of a range is divided anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Final, TypeAlias

from ourodb import limits
from ourodb.replication.coordinator.fetch import Fetch, FetchContext
from ourodb.replication.paxos.serial_fetch import SerialFetch
from ourodb.replication.replica.reads import RangeCommand, ReadCommand, SlicesCommand
from ourodb.replication.routes import KeyspaceRoutes, Route
from ourodb.storage.chunk import Chunk, beyond, covered, rows_of
from ourodb.storage.keys import ALL_ROWS, RANGE_TOMBSTONE, ROW, Slice, after_row, next_position
from ourodb.storage.row import PAUSE, LivePartition, LiveRow, Pause
from ourodb.storage.rows import TableRows
from ourodb.storage.tombstones import TombstoneWatch

AnyFetch: TypeAlias = Fetch | SerialFetch

GROWTH: Final = 4
"""So much longer is the next chunk of a read that isn't over with the first."""

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
        self._rows = rows
        self._level = level
        self._rows_max = min(rows_max, limits.CHUNK_ROWS_MAX)
        self._first = first
        self._started: dict[bytes, AnyFetch] = {}
        """Fetches of whole partitions that were begun before their turn."""
        self._visited_unpaused = 0
        """What this node looked at without a pause, for chunks that it needed nobody else for."""

    def _routes(self) -> KeyspaceRoutes:
        return self._context.routing.of(self._rows.table.keyspace)

    def watch(self) -> TombstoneWatch:
        """As ``TableRows.watch``."""
        return self._rows.watch()

    def expect(self, positions: Sequence[bytes], now_s: int, slices: Sequence[Slice], reverse: bool) -> None:
        """These partitions will be read one after the other: begin with several at once.

        Raises:
            Unavailable, InvalidRequest: as ``read``.
        """
        for position in positions:
            if len(self._started) >= limits.RANGES_AT_ONCE_MAX or self._is_pause_due():
                return
            if position not in self._started:
                asked, _ = _next_slices(slices, reverse)
                command = SlicesCommand(
                    self._rows, position, asked, now_s, reverse=reverse, rows_max=self._rows_max
                )
                self._started[position] = self._start(command, self._routes().find(position))

    def read(
        self,
        position: bytes,
        now_s: int,
        slices: Sequence[Slice] = ALL_ROWS,
        *,
        reverse: bool = False,
        static_alone: bool = False,
        pause_every: int = 0,
        watch: TombstoneWatch | None = None,
    ) -> Iterator[LiveRow | Pause]:
        """As ``TableRows.read``."""
        return self._read(position, now_s, slices, reverse, static_alone, watch or self.watch(), None, False)

    def _read(
        self,
        position: bytes,
        now_s: int,
        slices: Sequence[Slice],
        reverse: bool,
        static_alone: bool,
        watch: TombstoneWatch,
        partition: LivePartition | None,
        any_row: bool,
    ) -> Iterator[LiveRow | Pause]:
        """Read a partition, of which rows may have been given already."""
        rows_max = self._rows_max
        while True:
            asked, later = _next_slices(slices, reverse)
            fetch: AnyFetch | None = self._started.pop(position, None)
            if fetch is None:
                command = SlicesCommand(
                    self._rows, position, asked, now_s, reverse=reverse, rows_max=rows_max
                )
                route = self._routes().find(position)
                if self._first is not None:
                    fetch = self._first(command, route)
                    self._first = None
                else:
                    fetch = self._start(command, route)
            chunk = yield from self._await(fetch)
            bound = None if chunk.end is None else chunk.end[1]
            left = beyond(asked, bound, reverse=reverse)
            rest = [*later, *left] if reverse else [*left, *later]
            found = rows_of(self._rows, chunk.partitions)
            for row in found.read(
                position,
                now_s,
                covered(asked, bound, reverse=reverse),
                reverse=reverse,
                static_alone=static_alone and not any_row and not rest,
                watch=watch,
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
            if not reverse:
                self._meet_unread_ranges(watch, position, chunk)
            slices = rest
            rows_max = min(rows_max * GROWTH, limits.CHUNK_ROWS_MAX)

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
        watch: TombstoneWatch | None = None,
    ) -> Iterator[LiveRow | Pause]:
        """As ``TableRows.scan``."""
        watch = watch or self.watch()
        if resume_after is not None:
            rest = after_row(slices, resume_after)
            if rest:
                yield from self._read(start, now_s, rest, False, False, watch, None, True)
            start = next_position(start)
        routes = self._routes()
        ranges = routes.between(start, end)
        begun: deque[tuple[bytes, bytes | None, Route, Fetch]] = deque()
        window, moves = 1, 0
        while True:
            while len(begun) < window and not (begun and self._is_pause_due()):
                following = next(ranges, None)
                if following is None:
                    break
                low, high, route = following
                command = self._range(low, high, slices, now_s, self._rows_max)
                begun.append((low, high, route, self._start(command, route)))
            if not begun:
                return
            part = _Scan(now_s, slices, static_alone, watch, *begun.popleft())
            rows = yield from self._scan_range(part)
            if not part.is_over:
                # Its rows, and maybe those of what comes after it, are elsewhere now.
                moves += 1
                if moves > limits.BEHIND_TRIES_MAX and part.fetch.error is not None:
                    raise part.fetch.error
                begun.clear()
                routes = self._routes()
                ranges = routes.between(part.low, end)
            elif routes.epoch != self._routes().epoch and part.high is not None:
                begun.clear()
                routes = self._routes()
                ranges = routes.between(part.high, end)
            if rows < self._rows_max:
                window = min(window * 2, limits.RANGES_AT_ONCE_MAX)

    def _scan_range(self, scan: _Scan) -> Generator[LiveRow | Pause, None, int]:
        """The rows of one token range, or those of its beginning if it moves meanwhile; returns how many."""
        now_s, slices = scan.now_s, scan.slices
        rows_max = self._rows_max
        count = 0
        while True:
            yield from self._wait_for(scan.fetch)
            if scan.fetch.has_moved:
                return count
            chunk = self._chunk_of(scan.fetch)
            found = rows_of(self._rows, chunk.partitions)
            end = chunk.end
            stop = scan.high
            if end is not None:
                stop = next_position(end[0]) if end[1] is None else end[0]
            for row in found.scan(
                now_s,
                scan.low,
                stop,
                slices,
                static_alone=scan.static_alone,
                pause_every=0,
                watch=scan.watch,
            ):
                count += 1
                yield row
            if end is None:
                scan.is_over = True
                return count
            if end[1] is not None:
                for row in self._scan_partial(scan, chunk, found, end[0], end[1]):
                    count += row is not PAUSE
                    yield row
            scan.low = next_position(end[0])
            if scan.high is not None and scan.low >= scan.high:
                scan.is_over = True
                return count
            if self._routes().epoch != scan.route.epoch:
                return count
            rows_max = min(rows_max * GROWTH, limits.CHUNK_ROWS_MAX)
            scan.fetch = self._start(self._range(scan.low, scan.high, slices, now_s, rows_max), scan.route)

    def _scan_partial(
        self, scan: _Scan, chunk: Chunk, found: TableRows, position: bytes, bound: bytes
    ) -> Iterator[LiveRow | Pause]:
        """The partition in whose midst a chunk ended: what the chunk has of it, then the rest."""
        partition: LivePartition | None = None
        for row in found.read(position, scan.now_s, covered(scan.slices, bound), watch=scan.watch):
            assert isinstance(row, LiveRow)
            partition = row.partition
            yield row
            if partition.done:
                return
        self._meet_unread_ranges(scan.watch, position, chunk)
        yield from self._read(
            position,
            scan.now_s,
            beyond(scan.slices, bound),
            False,
            scan.static_alone,
            scan.watch,
            partition,
            partition is not None,
        )

    def _meet_unread_ranges(self, watch: TombstoneWatch, position: bytes, chunk: Chunk) -> None:
        """Count the range tombstones that come after the last row of a chunk: nobody has looked at them. Who reads in
        reverse looks at all of them first.
        """
        if not chunk.partitions or chunk.partitions[-1].position != position:
            return
        writes = chunk.partitions[-1].writes
        ranges = [suffix[1:] for suffix, _ in writes if suffix[0] == RANGE_TOMBSTONE]
        if not ranges:
            return
        rows = [suffix[1:] for suffix, _ in writes if suffix[0] == ROW]
        unread = sum(start > rows[-1] for start in ranges) if rows else len(ranges)
        watch.meet(self.keys, position, unread)

    def _range(
        self, low: bytes, high: bytes | None, slices: Sequence[Slice], now_s: int, rows_max: int
    ) -> RangeCommand:
        return RangeCommand(self._rows, low, high, slices, now_s, rows_max=rows_max)

    def _start(self, command: ReadCommand, route: Route) -> Fetch:
        self.fetched += 1
        nodes = route.read_nodes(self._level)
        fetch = Fetch(self._context, command, route, self._level, nodes).start()
        if fetch.chunk is not None:
            self._visited_unpaused += fetch.chunk.visited
        return fetch

    def _await(self, fetch: AnyFetch) -> Generator[Pause, None, Chunk]:
        yield from self._wait_for(fetch)
        return self._chunk_of(fetch)

    def _wait_for(self, fetch: AnyFetch) -> Iterator[Pause]:
        if fetch.is_done and self._is_pause_due():
            self._visited_unpaused = 0
            yield PAUSE
        while not fetch.is_done:
            self._visited_unpaused = 0
            self.waiting = fetch
            yield PAUSE
        self.waiting = None

    def _chunk_of(self, fetch: AnyFetch) -> Chunk:
        if fetch.error is not None:
            raise fetch.error
        assert fetch.chunk is not None
        return fetch.chunk

    def _is_pause_due(self) -> bool:
        return self._visited_unpaused > limits.ROWS_PER_STEP


def _next_slices(slices: Sequence[Slice], reverse: bool) -> tuple[Sequence[Slice], Sequence[Slice]]:
    """(those that the next chunk is asked for, those that come later)."""
    most = limits.CHUNK_SLICES_MAX
    return (slices[-most:], slices[:-most]) if reverse else (slices[:most], slices[most:])


class _Scan:
    """One token range on its way through a scan.

    Attributes:
        low, high: what is left of it.
        fetch: of the next chunk.
        is_over: nothing is left.
        watch: counts tombstones.
    """

    __slots__ = ("fetch", "high", "is_over", "low", "now_s", "route", "slices", "static_alone", "watch")

    def __init__(
        self,
        now_s: int,
        slices: Sequence[Slice],
        static_alone: bool,
        watch: TombstoneWatch,
        low: bytes,
        high: bytes | None,
        route: Route,
        fetch: Fetch,
    ) -> None:
        self.now_s = now_s
        self.slices = slices
        self.static_alone = static_alone
        self.watch = watch
        self.low = low
        self.high = high
        self.route = route
        self.fetch = fetch
        self.is_over = False
