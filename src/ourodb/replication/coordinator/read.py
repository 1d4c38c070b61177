"""Carrying out a SELECT: from a bound command to one page of result rows.

``read_row`` is the way of a read of one row by its whole key from this node's store: one ``get`` and one
encoding.

Everything else is a ``Read``, a small state object that is stepped: each ``step`` does a slice of work and
answers PAUSE, or None when the page is complete, so that a long scan never holds the loop. A read takes a
stream of live rows (of one partition after the other, or of a run of them), drops those that don't pass the
filter, puts groups together, and stops when the page, LIMIT or a bound on bytes is reached. Pages end between
result rows, which with GROUP BY means between groups; the next page goes on after the last row that went into
the page before.

Where rows come from is no matter of this module: from this node's store (``TableRows``), or from as many
replicas as the consistency level asks for (``ReplicatedRows``). While the latter wait for a chunk the stream
pauses too.

A read counts the tombstones that it meets in each partition (``storage.tombstones``): past one bound its client is
warned, past the other it fails, and is told which partition it was.

Promises: the pages of a result, whatever their sizes, are together the rows that the unpaged statement gives,
as long as nobody writes meanwhile. Memory is bounded by ``limits.PAGE_BYTES_MAX``, or ``RESULT_BYTES_MAX``
for what can't be paged.

Sources: Apache Cassandra 5, ``SelectStatement.process``, ``GroupMaker``, ``DataLimits``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias

from ourodb import limits
from ourodb.cql.analysis.selection.selectable import GroupState
from ourodb.cql.plan.options import ExecuteOptions
from ourodb.cql.plan.select import UNLIMITED, ReadCommand, SelectPlan, encode_group
from ourodb.cql.wire.primitives import Value
from ourodb.errors import ProtocolError, ReadFailure
from ourodb.replication.coordinator.paging import INVALID, PagingSeal, PagingState
from ourodb.replication.coordinator.rows import AnyFetch, ReplicatedRows
from ourodb.schema.model import Table
from ourodb.storage.keys import TableKeys, after_row, next_position
from ourodb.storage.row import PAUSE, LivePartition, LiveRow, Pause, Wait
from ourodb.storage.rows import TableRows
from ourodb.storage.tombstones import TombstoneWatch, TooManyTombstones

LOOPBACK: Final = b"\x7f\x00\x00\x01"

READ_TOO_MANY_TOMBSTONES: Final = 0x0001
READ_SIZE: Final = 0x0005
"""Codes of RequestFailureReason."""

PARTITIONS_PER_STEP: Final = 64
"""Partitions that a read opens before it lets others go on."""


ChooseRows: TypeAlias = Callable[[ReadCommand], TableRows | ReplicatedRows]


def rows_wanted(command: ReadCommand) -> int:
    """How many rows a page will look at, where that can be told beforehand, and one more to see whether that's all."""
    if (
        command.test is not None
        or command.sort is not None
        or command.groups is not None
        or command.one_per_partition
        or command.per_partition_limit != UNLIMITED
    ):
        return limits.CHUNK_ROWS_MAX
    page = command.page_size or limits.CHUNK_ROWS_MAX
    return min(page, command.limit, limits.CHUNK_ROWS_MAX - 1) + 1


def read_row(
    plan: SelectPlan, values: Sequence[Value], options: ExecuteOptions, rows: TableRows
) -> bytes | Wait | None:
    """The result row of a plan with ``point``; None when there is no such row.

    Returns:
        Wait: fetch its key, then ask again.
    Raises:
        InvalidRequest: a value is missing or wrong.
    """
    point = plan.point
    assert point is not None
    position, clustering_key = point.key(values, options)
    return encoded_row(plan, rows.get_row(position, clustering_key, options.now_s))


def encoded_row(plan: SelectPlan, row: LiveRow | Wait | None) -> bytes | Wait | None:
    """The result row of a plan with ``point``."""
    assert plan.point is not None
    if row is None or row.__class__ is Wait:
        return row
    return plan.point.encode(row)  # type: ignore[arg-type]


def tombstone_warnings(keys: TableKeys, watch: TombstoneWatch) -> list[str]:
    """What a client is told of the tombstones that its read met."""
    if not watch.most:
        return []
    table, partition = keys.table, keys.partition_text(watch.worst)
    name = f"{table.keyspace}.{table.name}"
    return [f"Read {watch.most} tombstones in the partition {partition} of {name} (see tombstone_warn)"]


def tombstone_failure(
    table: Table, error: TooManyTombstones, consistency: int, address: bytes
) -> ReadFailure:
    """Why a read was given up.

    Args:
        address: this node's, packed.
    """
    return _failure(table, READ_TOO_MANY_TOMBSTONES, str(error), consistency, address)


def _failure(table: Table, reason: int, message: str, consistency: int, address: bytes) -> ReadFailure:
    text = f"Read on table {table.keyspace}.{table.name} failed: {message}"
    return ReadFailure(consistency, 0, 1, {address: reason}, False, text)


class Read:
    """One page of a SELECT in the making.

    Attributes:
        rows: the result rows so far, encoded; after ``step`` gave None, the page.
        paging_state: sealed, when there may be more pages.
    """

    __slots__ = (
        "_address",
        "_bytes_left",
        "_command",
        "_consistency",
        "_group",
        "_group_of",
        "_in_partition",
        "_last",
        "_limit_left",
        "_page_left",
        "_partition",
        "_plan",
        "_resumed",
        "_seal",
        "_sorted",
        "_stream",
        "_table_rows",
        "_watch",
        "paging_state",
        "rows",
    )

    def __init__(
        self,
        plan: SelectPlan,
        values: Sequence[Value],
        options: ExecuteOptions,
        choose_rows: ChooseRows,
        seal: PagingSeal,
        address: bytes = LOOPBACK,
    ) -> None:
        """
        Args:
            choose_rows: where the rows of the command are to be read; may refuse.
            address: this node's, packed; a failure names it.
        Raises:
            InvalidRequest: a value is missing or wrong.
            ProtocolError: the paging state isn't of this statement.
        """
        command = plan.bind(values, options)
        self.rows: list[bytes] = []
        self.paging_state: bytes | None = None
        self._plan = plan
        self._command = command
        self._table_rows = choose_rows(command)
        self._watch = self._table_rows.watch()
        self._seal = seal
        self._address = address
        self._consistency = options.consistency
        self._limit_left = command.limit
        self._in_partition = command.per_partition_limit
        """Result rows that PER PARTITION LIMIT still allows in the present partition."""
        self._resumed: PagingState | None = None
        self._partition: LivePartition | None = None
        self._last: LiveRow | None = None
        self._group: list[GroupState] | None = None
        self._group_of: tuple[bytes, tuple[bytes, ...]] | None = None
        self._sorted: list[tuple[bytes, bytes]] = []
        paged = command.page_size > 0 and command.sort is None
        self._page_left = command.page_size if paged else UNLIMITED
        self._bytes_left = limits.PAGE_BYTES_MAX if paged else limits.RESULT_BYTES_MAX
        state = None
        if command.paging_state is not None:
            state = seal.open(command.paging_state, plan.hash)
            self._limit_left = min(self._limit_left, state.remaining)
        self._stream = self._open(command, state)

    @property
    def waiting(self) -> AnyFetch | None:
        """What the read waits for; None when it can be stepped on."""
        rows = self._table_rows
        return rows.waiting if isinstance(rows, ReplicatedRows) else None

    @property
    def warnings(self) -> list[str]:
        """For the client, once the page is complete."""
        return tombstone_warnings(self._table_rows.keys, self._watch)

    @property
    def row_count(self) -> int:
        return len(self.rows)

    def step(self) -> Pause | None:
        """Do a slice of work; None when the page is complete.

        Raises:
            ReadFailure: a bound was reached.
        """
        command = self._command
        try:
            if command.groups is not None:
                return self._step_groups(command)
            if (
                command.test is None
                and command.sort is None
                and command.per_partition_limit == UNLIMITED
                and not command.one_per_partition
            ):
                return self._step_plain(command)
            return self._step_rows(command)
        except TooManyTombstones as error:
            raise tombstone_failure(self._plan.table, error, self._consistency, self._address) from None

    # Streams

    def _open(self, command: ReadCommand, state: PagingState | None) -> Iterator[LiveRow | Pause]:
        if command.positions is not None:
            return self._open_partitions(command, command.positions, state)
        if command.range is None:
            return iter(())
        start, end = command.range
        resume_after = None
        if state is not None:
            if state.position < start or (end is not None and state.position >= end):
                raise ProtocolError(INVALID)
            start = state.position
            if state.partition_done or state.clustering_key is None:
                start = next_position(start)
            else:
                resume_after = state.clustering_key
                self._resumed = state
        return self._table_rows.scan(
            command.now_s,
            start,
            end,
            command.slices,
            resume_after=resume_after,
            static_alone=command.static_alone,
            pause_every=limits.ROWS_PER_STEP,
            watch=self._watch,
        )

    def _open_partitions(
        self, command: ReadCommand, positions: list[bytes], state: PagingState | None
    ) -> Iterator[LiveRow | Pause]:
        slices = command.slices
        static_alone = command.static_alone
        if state is not None:
            if state.position not in positions:
                raise ProtocolError(INVALID)
            index = positions.index(state.position)
            if state.partition_done or state.clustering_key is None:
                positions = positions[index + 1 :]
            else:
                rest = after_row(slices, state.clustering_key, command.reverse)
                self._resumed = state
                first = self._table_rows.read(
                    state.position,
                    command.now_s,
                    rest,
                    reverse=command.reverse,
                    pause_every=limits.ROWS_PER_STEP,
                    watch=self._watch,
                )
                return self._chained(first, positions[index + 1 :])
        if len(positions) == 1:
            return self._table_rows.read(
                positions[0],
                command.now_s,
                slices,
                reverse=command.reverse,
                static_alone=static_alone,
                pause_every=limits.ROWS_PER_STEP,
                watch=self._watch,
            )
        return self._chained(iter(()), positions)

    def _chained(
        self, first: Iterator[LiveRow | Pause], positions: Sequence[bytes]
    ) -> Iterator[LiveRow | Pause]:
        command = self._command
        yield from first
        opened = 0
        rows = self._table_rows
        for index, position in enumerate(positions):
            if isinstance(rows, ReplicatedRows):
                following = positions[index : index + limits.RANGES_AT_ONCE_MAX]
                rows.expect(following, command.now_s, command.slices, command.reverse)
            yield from self._table_rows.read(
                position,
                command.now_s,
                command.slices,
                reverse=command.reverse,
                static_alone=command.static_alone,
                pause_every=limits.ROWS_PER_STEP,
                watch=self._watch,
            )
            opened += 1
            if opened == PARTITIONS_PER_STEP:
                opened = 0
                yield PAUSE

    # Rows

    def _step_plain(self, command: ReadCommand) -> Pause | None:
        """Nothing but limits and bytes to look at: made for speed."""
        encode = command.encode
        assert encode is not None
        append = self.rows.append
        bytes_left = self._bytes_left
        left = allowed = min(self._page_left, self._limit_left)
        row: LiveRow | Pause | None = None
        answer: Pause | None = None
        last: LiveRow | None = self._last
        for row in self._stream:
            if row is PAUSE:
                answer = PAUSE
                break
            encoded = encode(row)  # type: ignore[arg-type]
            append(encoded)
            last = row  # type: ignore[assignment]
            left -= 1
            bytes_left -= len(encoded)
            if left <= 0 or bytes_left <= 0:
                break
        taken = allowed - left
        self._last = last
        self._limit_left -= taken
        self._page_left -= taken
        self._bytes_left = bytes_left
        if answer is None and (left <= 0 or bytes_left <= 0):
            self._end_page()
        return answer

    def _step_rows(self, command: ReadCommand) -> Pause | None:
        encode = command.encode
        test = command.test
        sort = command.sort
        limited = command.per_partition_limit != UNLIMITED
        assert encode is not None
        for row in self._stream:
            if isinstance(row, Pause):
                if self._page_is_full():
                    self._more_pages()
                    return None
                return PAUSE
            partition = row.partition
            if partition is not self._partition:
                self._enter(partition)
            if test is not None and not test(row):
                continue
            if self._page_is_full():
                self._more_pages()
                return None
            if limited and self._in_partition <= 0:
                partition.done = True
                continue
            encoded = encode(row)
            if sort is not None:
                self._sorted.append((sort.of(row), encoded))
            else:
                self.rows.append(encoded)
            self._took(row, len(encoded))
            if command.one_per_partition or self._in_partition <= 0:
                partition.done = True
            if self._limit_left <= 0 and sort is None:
                return None
        self._sort_out(command.limit)
        return None

    def _enter(self, partition: LivePartition) -> None:
        """The next rows are of this partition, of which the page before may have given rows."""
        self._partition = partition
        self._in_partition = self._command.per_partition_limit
        resumed = self._resumed
        if resumed is not None:
            self._resumed = None
            if resumed.position == partition.position:
                self._in_partition = min(self._in_partition, resumed.remaining_in_partition)

    def _took(self, row: LiveRow, size: int) -> None:
        """A result row was made, of which ``row`` is the last."""
        self._last = row
        self._page_left -= 1
        self._limit_left -= 1
        self._in_partition -= 1
        self._bytes_left -= size
        if self._bytes_left <= 0 and not self._pages_end():
            raise self._too_large()

    # Groups

    def _step_groups(self, command: ReadCommand) -> Pause | None:
        test = command.test
        prefix = command.group_prefix
        for row in self._stream:
            if isinstance(row, Pause):
                return PAUSE
            partition = row.partition
            if test is not None and not test(row):
                continue
            if prefix >= 0:
                of = _group_of(row, prefix)
                if self._group is not None and of != self._group_of:
                    self._end_group(command)
                    if self._limit_left <= 0 and command.sort is None:
                        return None
                    if self._page_is_full():
                        self._more_pages()
                        return None
                if partition is not self._partition:
                    self._enter(partition)
                if self._in_partition <= 0:
                    partition.done = True
                    continue
                self._group_of = of
            self._add_to_group(row, command)
            self._last = row
            if command.one_per_partition:
                partition.done = True
        if self._group is not None:
            self._end_group(command)
        elif prefix < 0:
            assert command.groups is not None
            self.rows.append(encode_group([new_state().result() for new_state in command.groups]))
        self._sort_out(command.limit)
        return None

    def _add_to_group(self, row: LiveRow, command: ReadCommand) -> None:
        group = self._group
        if group is None:
            assert command.groups is not None
            group = self._group = [new_state() for new_state in command.groups]
            if command.sort is not None:
                self._sorted.append((command.sort.of(row), b""))
        for state in group:
            state.add(row)

    def _end_group(self, command: ReadCommand) -> None:
        group = self._group
        assert group is not None
        assert self._last is not None
        encoded = encode_group([state.result() for state in group])
        self._group = None
        if command.sort is not None:
            self._sorted[-1] = (self._sorted[-1][0], encoded)
        else:
            self.rows.append(encoded)
        self._took(self._last, len(encoded))

    # The end of a page

    def _pages_end(self) -> bool:
        """Whether this read may stop early, because the client will ask for the next page."""
        return self._command.page_size > 0 and self._command.sort is None

    def _page_is_full(self) -> bool:
        return self._page_left <= 0 or self._bytes_left <= 0

    def _end_page(self) -> None:
        """The page is full, and LIMIT may be: is there another row?"""
        if self._limit_left <= 0:
            return
        if next(self._stream, None) is None:
            return
        if not self._pages_end():
            raise self._too_large()
        self._more_pages()

    def _more_pages(self) -> None:
        last = self._last
        assert last is not None
        limited = self._command.per_partition_limit != UNLIMITED
        of_this_partition = self._partition is None or self._partition is last.partition
        in_partition = self._in_partition if of_this_partition else 0
        state = PagingState(
            last.partition.position,
            last.clustering_key,
            last.partition.done or (limited and in_partition <= 0),
            self._limit_left,
            max(in_partition, 0) if limited else UNLIMITED,
        )
        self.paging_state = self._seal.seal(state, self._plan.hash)

    def _sort_out(self, limit: int) -> None:
        if self._command.sort is not None:
            self._sorted.sort(key=_key_of)
            self.rows += [encoded for _, encoded in self._sorted[:limit]]
            self._sorted = []

    def _too_large(self) -> ReadFailure:
        text = f"the result has more than {limits.RESULT_BYTES_MAX:,} bytes and isn't paged; set a page size"
        return _failure(self._plan.table, READ_SIZE, text, self._consistency, self._address)


def _group_of(row: LiveRow, prefix: int) -> tuple[bytes, tuple[bytes, ...]]:
    """What is the same of all rows of a group; values that differ in bytes may be equal."""
    partition = row.partition
    if not prefix:
        return partition.position, ()
    if partition.keys.normalizes and row.clustering_key is not None:
        return partition.position, partition.keys.canonical_clustering(row.clustering_key)[:prefix]
    return partition.position, row.clustering[:prefix]


def _key_of(pair: tuple[bytes, bytes]) -> bytes:
    return pair[0]
