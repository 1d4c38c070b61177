"""The rows of the tables of one node: the way in for planners and replicas.

``Rows`` is made once with the store; ``Rows.of(table)`` gives the ``TableRows`` through which a compiled statement
reads and writes. What must be known per incarnation, whichever version of the ``Table`` a statement was compiled for,
is shared between them.

Writing: ``apply`` merges each record of a mutation into what is stored and writes all keys in one atomic batch, with
the entries of the purge index. Reading: ``get_row`` (one row, one ``Store.get`` in plain tables), ``read`` (slices of
one partition), ``scan`` (a run of partitions). Point reads and writes may answer ``Wait``; streams never do.

A stream sees the store as it was when each of its slices began, and resolves everything at the ``now_s`` it was given.
"""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterator, Sequence, Set

from ourodb import limits
from ourodb.cql.types.composite import TupleType
from ourodb.errors import OuroError
from ourodb.ports import LATER, Later, Store
from ourodb.schema.model import ColumnKind, Table
from ourodb.storage.apply import TableUse, UnknownIncarnation, apply_all, apply_plain
from ourodb.storage.families import DATA, METADATA, PAXOS, TABLE_USE
from ourodb.storage.keys import (
    ALL_ROWS,
    HEADER_BYTE,
    LAST,
    RANGE_TOMBSTONE_BYTE,
    ROW_BYTE,
    STATIC_ELEMENT_BYTE,
    Slice,
    TableKeys,
    position_end,
)
from ourodb.storage.mutation import Mutation
from ourodb.storage.ranges import Fragment, RangeCursor, covering, overlapping
from ourodb.storage.record import NEVER, ROW_FORMAT, decode_header, decode_row
from ourodb.storage.resolve import (
    StoredElement,
    live_shards,
    open_partition,
    resolve_group,
    resolve_record,
)
from ourodb.storage.row import PAUSE, LivePartition, LiveRow, Pause, Wait
from ourodb.storage.scan import SKIP_KEYS_MAX, ScanView, scan_partitions
from ourodb.storage.tombstones import UNWATCHED, TombstoneWatch

_INCARNATION = struct.Struct(">I")
_COLUMN = struct.Struct(">H")


class Rows:
    """The rows of all tables.

    Attributes:
        refusal: why nothing is applied now, or None.
        batches_lost: by the store, counted; whoever writes in several passes may have lost a part.
    """

    def __init__(
        self,
        store: Store,
        *,
        tombstone_warn: int = limits.TOMBSTONES_WARN,
        tombstone_fail: int = limits.TOMBSTONES_FAIL,
    ) -> None:
        """
        Args:
            tombstone_warn: past so many tombstones in one partition the client of a read is warned.
            tombstone_fail: past so many it fails.
        """
        self.store = store
        self.refusal: OuroError | None = None
        self.batches_lost = 0
        self._tables: dict[int, TableRows] = {}
        self._tombstone_warn = tombstone_warn
        self._tombstone_fail = tombstone_fail
        store.follow_batches(self._batch_ended)

    def of(self, table: Table) -> TableRows:
        """The rows of a table; the same object for the same ``Table``, if it is the registered one.

        Whoever has waited may come with a table that was altered meanwhile, or is gone: he sees its rows as he
        knows it, and nobody else does.
        """
        known = self._tables.get(table.incarnation)
        if known is not None and known.table is table:
            return known
        use = self._new_use(table) if known is None else known.use
        return TableRows(self.store, table, use, self._tombstone_warn, self._tombstone_fail)

    def register(self, table: Table) -> TableRows:
        """This is the table with its incarnation from now on: mutations and requests of others go by it."""
        known = self._tables.get(table.incarnation)
        if known is not None and known.table is table:
            return known
        gc_grace_s = table.options.gc_grace_seconds
        if known is None:
            use = self._new_use(table)
        else:
            use = known.use
            use.gc_grace_s = gc_grace_s
        rows = self._tables[table.incarnation] = TableRows(
            self.store, table, use, self._tombstone_warn, self._tombstone_fail
        )
        return rows

    def apply(self, mutation: Mutation, now_s: int) -> Wait | None:
        """Apply a mutation, whichever table it is for. As ``TableRows.apply``.

        Raises:
            UnknownIncarnation: the table was dropped, or isn't registered yet.
            OuroError: ``refusal``.
        """
        if self.refusal is not None:
            raise self.refusal.with_traceback(None)
        return self.known(mutation.incarnation).apply(mutation, now_s)

    def apply_many(self, mutations: Sequence[Mutation], now_s: int) -> Wait | None:
        """Apply all, or none, in one atomic write. As ``apply``."""
        self.check_open()
        changes = [(self.known(mutation.incarnation).use, mutation) for mutation in mutations]
        return apply_all(self.store, changes, now_s)

    def check_open(self) -> None:
        """For whoever applies something else that goes with the rows.

        Raises:
            OuroError: ``refusal``.
        """
        if self.refusal is not None:
            raise self.refusal.with_traceback(None)

    def drop(self, incarnation: int) -> None:
        """Delete the rows of a dropped or truncated table; its entries in the purge index die when they are due."""
        self._tables.pop(incarnation, None)
        start = _INCARNATION.pack(incarnation)
        end = _INCARNATION.pack(incarnation + 1)
        self.store.delete_range(DATA, start, end)
        self.store.delete_range(METADATA, PAXOS + start, PAXOS + end)
        self.store.apply(((METADATA, TABLE_USE + start, None),))

    def known(self, incarnation: int) -> TableRows:
        """The rows of the table with this incarnation.

        Raises:
            UnknownIncarnation: as for ``apply``.
        """
        rows = self._tables.get(incarnation)
        if rows is None:
            raise UnknownIncarnation(f"no table has the incarnation {incarnation}")
        return rows

    def _new_use(self, table: Table) -> TableUse:
        return TableUse(self.store, _INCARNATION.pack(table.incarnation), table.options.gc_grace_seconds)

    def _batch_ended(self, error: OuroError | None) -> None:
        if error is not None:
            self.batches_lost += 1
            for rows in self._tables.values():
                rows.use.batch_lost()


class TableRows:
    """The rows of one table.

    Attributes:
        keys: positions, clustering keys and bounds of the table.
    """

    __slots__ = (
        "_get",
        "_incarnation",
        "_known",
        "_multicell",
        "_static_multicell",
        "_tombstone_fail",
        "_tombstone_warn",
        "keys",
        "store",
        "table",
        "use",
    )

    def __init__(
        self,
        store: Store,
        table: Table,
        use: TableUse,
        tombstone_warn: int,
        tombstone_fail: int,
        keys: TableKeys | None = None,
    ) -> None:
        self.store = store
        self.table = table
        self.use = use
        self.keys = keys or TableKeys(table)
        self._tombstone_warn = tombstone_warn
        self._tombstone_fail = tombstone_fail
        self._get = store.get
        self._incarnation = use.incarnation
        self._known: Set[int] | None = table.by_id.keys() if table.dropped else None
        # A dropped column may have left elements behind; of a user type only the tuple is on record.
        self._multicell = table.has_multicell or any(
            column.type.is_multicell or isinstance(column.type, TupleType)
            for column in table.dropped.values()
            if column.kind is ColumnKind.REGULAR
        )
        self._static_multicell = table.has_static_multicell

    def over(self, store: Store, use: TableUse) -> TableRows:
        """The same table, its rows in another store."""
        return TableRows(store, self.table, use, self._tombstone_warn, self._tombstone_fail, self.keys)

    @property
    def is_multicell(self) -> bool:
        """Rows may have elements: keys of their own after the row's."""
        return self._multicell

    # Writing

    def apply(self, mutation: Mutation, now_s: int) -> Wait | None:
        """Merge a mutation into the store, all or nothing.

        Args:
            now_s: this node's time, seconds: what tombstones age from.
        Returns:
            None: it is applied. Wait: nothing was; fetch the key and call again.
        Raises:
            Overloaded, StoreReadOnly: from the store.
        """
        writes = mutation.writes
        if len(writes) == 1:
            suffix, record = writes[0]
            # UNIFORM with or without MARKER, and nothing else.
            if (record[1] == 3 or record[1] == 1) and record[0] == ROW_FORMAT:
                return apply_plain(self.store, self.use, mutation.position, suffix, record)
        return apply_all(self.store, ((self.use, mutation),), now_s)

    def watch(self) -> TombstoneWatch:
        """Give it to all the streams of one read, and ask it what they met."""
        return TombstoneWatch(self._tombstone_warn, self._tombstone_fail)

    # Reading one row

    def get_row(
        self, position: bytes, clustering_key: bytes, now_s: int, watch: TombstoneWatch | None = None
    ) -> LiveRow | Wait | None:
        """One row, None when nothing in it is live.

        Args:
            clustering_key: ``keys.clustering(values)``; b"" where the table has no clustering columns.
            now_s: as of when, seconds.
            watch: who counts tombstones; it makes a difference only where the table has multicell columns.
        Raises:
            TooManyTombstones: the row has too many dead elements.
        """
        if self._multicell:
            return self._get_group(position, clustering_key, now_s, watch or self.watch())
        partition = LivePartition(self.keys, position)
        shadowed = NEVER
        if self.use.has_headers:
            wait = self._read_header(partition, now_s)
            if wait is not None:
                return wait
            shadowed = self._shadowed(partition, clustering_key)
        key = b"%b%b\x40%b" % (self._incarnation, position, clustering_key)
        record = self._get(DATA, key)
        if record is None:
            return None
        if record is LATER:
            return Wait(key)
        assert not isinstance(record, Later)
        return resolve_record(partition, clustering_key, record, shadowed, now_s, self._known)

    def resolve(self, position: bytes, clustering_key: bytes, record: bytes, now_s: int) -> LiveRow | None:
        """A row of which this record is all that there is; None when nothing in it is live."""
        partition = LivePartition(self.keys, position)
        return resolve_record(partition, clustering_key, record, NEVER, now_s, self._known)

    def _get_group(
        self, position: bytes, clustering_key: bytes, now_s: int, watch: TombstoneWatch
    ) -> LiveRow | Wait | None:
        partition = LivePartition(self.keys, position, watch)
        if self.use.has_headers:
            wait = self._read_header(partition, now_s)
            if wait is not None:
                return wait
        slices = ((clustering_key, clustering_key + LAST),)
        for row in self._groups(partition, slices, False, now_s, 0):
            assert not isinstance(row, Pause)
            return row
        return None

    def get_partition(self, position: bytes, now_s: int) -> LivePartition | Wait:
        """The partition with its static row, without rows.

        Raises:
            TooManyTombstones: the static row has too many dead elements.
        """
        watch = self.watch() if self._static_multicell else UNWATCHED
        partition = LivePartition(self.keys, position, watch)
        if self.use.has_headers:
            wait = self._read_header(partition, now_s)
            if wait is not None:
                return wait
        return partition

    def get_shards(
        self, position: bytes, clustering_key: bytes | None, now_s: int
    ) -> dict[int, bytes] | Wait:
        """The shards of a row's (None: the static row's) live counters by column id, for ``counter.increment``."""
        partition = LivePartition(self.keys, position)
        shadowed = NEVER
        if self.use.has_headers:
            wait = self._read_header(partition, now_s)
            if wait is not None:
                return wait
            shadowed = partition.deleted
            if clustering_key is not None:
                shadowed = self._shadowed(partition, clustering_key)
        if clustering_key is None:
            key = self._incarnation + position + HEADER_BYTE
        else:
            key = self.keys.row_key(position, clustering_key)
        record = self._get(DATA, key)
        if record is None:
            return {}
        if record is LATER:
            return Wait(key)
        assert not isinstance(record, Later)
        row = decode_header(record).static if clustering_key is None else decode_row(record)
        return live_shards(row, shadowed)

    def _shadowed(self, partition: LivePartition, clustering_key: bytes) -> int:
        """Timestamp of the newest deletion above a row."""
        if not partition.has_ranges:
            return partition.deleted
        base = self._incarnation + partition.position + RANGE_TOMBSTONE_BYTE
        return max(partition.deleted, covering(self.store, base, clustering_key))

    # Headers

    def _read_header(self, partition: LivePartition, now_s: int) -> Wait | None:
        key = self._incarnation + partition.position + HEADER_BYTE
        record = self._get(DATA, key)
        if record is LATER:
            return Wait(key)
        assert not isinstance(record, Later)
        if record is not None or self._static_multicell:
            elements = self._static_elements(partition.position)
            open_partition(partition, record, elements, now_s, self._known)
        return None

    def _header_in_stream(self, partition: LivePartition, now_s: int) -> None:
        """As ``_read_header``, where nobody can wait."""
        key = self._incarnation + partition.position + HEADER_BYTE
        record = self._get(DATA, key)
        if record is LATER:
            record = next((value for _, value in self.store.scan(DATA, key, key + b"\x00")), None)
        assert not isinstance(record, Later)
        if record is not None or self._static_multicell:
            elements = self._static_elements(partition.position)
            open_partition(partition, record, elements, now_s, self._known)

    def _static_elements(self, position: bytes) -> list[StoredElement]:
        if not self._static_multicell:
            return []
        base = self._incarnation + position + STATIC_ELEMENT_BYTE
        size = len(base)
        return [
            (_COLUMN.unpack_from(key, size)[0], key[size + 2 :], record)
            for key, record in self.store.scan(DATA, base, base + LAST)
        ]

    # Reading many rows

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
        """The live rows of one partition in clustering order, or in reverse.

        Args:
            slices: in order and without overlaps (``keys.slice``, ``keys.tuple_slices``, ``union``), also when
                reversed; for a next page ``after_row(slices, last clustering key, reverse)``.
            static_alone: give the static row where it is live and no row is: a row whose ``clustering_key`` is None
                and that has no cells, but ``row.partition.static``.
            pause_every: give PAUSE after so many stored keys, a slice counting as one; 0 never.
            watch: who counts tombstones; None: this stream by itself.
        Raises:
            TooManyTombstones: while iterating.
        """
        partition = LivePartition(self.keys, position, watch or self.watch())
        if self.use.has_headers:
            self._header_in_stream(partition, now_s)
        any_row = False
        stream = self._groups if self._multicell else self._plain_rows
        for row in stream(partition, slices, reverse, now_s, pause_every):
            if row is not PAUSE:
                any_row = True
            yield row
            if partition.done:
                return
        if static_alone and not any_row and partition.static is not None:
            yield LiveRow(partition, None, None, {})

    def _ranges(
        self, partition: LivePartition, start: bytes, end: bytes, reverse: bool
    ) -> RangeCursor | None:
        if not partition.has_ranges:
            return None
        base = self._incarnation + partition.position + RANGE_TOMBSTONE_BYTE
        fragments: Iterator[Fragment] | list[Fragment] = _met(
            partition, overlapping(self.store, base, start, end)
        )
        if reverse:
            fragments = list(fragments)[::-1]
        return RangeCursor(fragments, reverse)

    def _plain_rows(
        self,
        partition: LivePartition,
        slices: Sequence[Slice],
        reverse: bool,
        now_s: int,
        pause_every: int,
    ) -> Iterator[LiveRow | Pause]:
        """The live rows of slices in a table without multicell columns."""
        base = self._incarnation + partition.position + ROW_BYTE
        size = len(base)
        shadowed = deleted = partition.deleted
        known = self._known
        pause_in = pause_every
        for start, end in reversed(slices) if reverse else slices:
            ranges = self._ranges(partition, start, end, reverse)
            for key, record in self.store.scan(DATA, base + start, base + end, reverse=reverse):
                clustering_key = key[size:]
                if ranges is not None:
                    shadowed = max(deleted, ranges.covering(clustering_key))
                row = resolve_record(partition, clustering_key, record, shadowed, now_s, known)
                if row is not None:
                    yield row
                if pause_every:
                    pause_in -= 1
                    if pause_in <= 0:
                        pause_in = pause_every
                        yield PAUSE
            # Another slice costs a seek, and may have no key at which to pause.
            pause_in -= 1
            if pause_every and pause_in <= 0:
                pause_in = pause_every
                yield PAUSE

    def _groups(
        self,
        partition: LivePartition,
        slices: Sequence[Slice],
        reverse: bool,
        now_s: int,
        pause_every: int,
    ) -> Iterator[LiveRow | Pause]:
        """The live rows of slices in a table with multicell columns: a row's keys are one run."""
        base = self._incarnation + partition.position + ROW_BYTE
        size = len(base)
        clustering_end = self.keys.clustering_end
        pause_in = pause_every
        for start, end in reversed(slices) if reverse else slices:
            ranges = self._ranges(partition, start, end, reverse)
            clustering_key: bytes | None = None
            row_prefix = b""
            record: bytes | None = None
            elements: list[StoredElement] = []
            for key, value in self.store.scan(DATA, base + start, base + end, reverse=reverse):
                if clustering_key is None or not key.startswith(row_prefix):
                    if clustering_key is not None:
                        row = self._resolve_group(
                            partition, clustering_key, record, elements, reverse, ranges, now_s
                        )
                        if row is not None:
                            yield row
                        if pause_every and pause_in <= 0:
                            pause_in = pause_every
                            yield PAUSE
                        record = None
                        elements = []
                    row_end = clustering_end(key, size)
                    row_prefix = key[:row_end]
                    clustering_key = key[size:row_end]
                at = len(row_prefix)
                if len(key) == at:
                    record = value
                else:
                    elements.append((_COLUMN.unpack_from(key, at + 1)[0], key[at + 3 :], value))
                pause_in -= 1
            if clustering_key is not None:
                row = self._resolve_group(partition, clustering_key, record, elements, reverse, ranges, now_s)
                if row is not None:
                    yield row
            pause_in -= 1
            if pause_every and pause_in <= 0:
                pause_in = pause_every
                yield PAUSE

    def _resolve_group(
        self,
        partition: LivePartition,
        clustering_key: bytes,
        record: bytes | None,
        elements: list[StoredElement],
        reverse: bool,
        ranges: RangeCursor | None,
        now_s: int,
    ) -> LiveRow | None:
        if reverse:
            elements.reverse()
        shadowed = partition.deleted
        if ranges is not None:
            shadowed = max(shadowed, ranges.covering(clustering_key))
        return resolve_group(partition, clustering_key, record, elements, shadowed, now_s, self._known)

    # Reading many partitions

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
        """The live rows of the partitions in [start, end), in order of position and then of clustering.

        ``row.partition`` is another object where the next partition begins.

        Args:
            start, end: bounds (``token_start``, ``token_end``, ``next_position``) or positions; end None is the end
                of the table.
            slices: the rows wanted of every partition, in order and without overlaps.
            resume_after: go on after this clustering key in the partition whose position is ``start``.
            static_alone: as for ``read``, in each partition but the one that is resumed.
            pause_every: give PAUSE after so many stored keys; 0 never.
            watch: as for ``read``.
        Raises:
            TooManyTombstones: while iterating.
        """
        watch = watch or self.watch()
        key = self._incarnation + start
        stop = self.keys.end if end is None else self._incarnation + end
        plain = tuple(slices) == ALL_ROWS and resume_after is None and not self._multicell
        if plain:
            key = yield from self._scan_plain(key, stop, now_s, pause_every, watch)
        if key < stop:
            view = ScanView(self.keys, self._known, self._multicell, now_s, slices, static_alone, watch)
            yield from scan_partitions(self.store, view, key, stop, resume_after, pause_every)

    def _scan_plain(
        self, first: bytes, stop: bytes, now_s: int, pause_every: int, watch: TombstoneWatch
    ) -> Generator[LiveRow | Pause, None, bytes]:
        """Scan keys as long as each is a row; returns where that is over."""
        keys = self.keys
        known = self._known
        pause_in = pause_every
        # Looked at again after each seek: a new pass over the keys may see headers.
        while first < stop and not self.use.has_headers:
            seek = stop
            # No key that comes begins with it.
            prefix = keys.end
            size = skipped = 0
            partition = LivePartition(keys, b"")
            for key, record in self.store.scan(DATA, first, stop):
                if not key.startswith(prefix):
                    size = position_end(key)
                    prefix = key[:size]
                    partition = LivePartition(keys, prefix[4:], watch)
                    size += 1
                    pause_in -= skipped
                    skipped = 0
                elif partition.done:
                    skipped += 1
                    if skipped > SKIP_KEYS_MAX:
                        seek = prefix + b"\xff"
                        break
                    continue
                row = resolve_record(partition, key[size:], record, NEVER, now_s, known)
                if row is not None:
                    yield row
                if pause_every:
                    pause_in -= 1
                    if pause_in <= 0:
                        pause_in = pause_every
                        yield PAUSE
            pause_in -= skipped
            first = seek
        return first


def _met(partition: LivePartition, fragments: Iterator[Fragment]) -> Iterator[Fragment]:
    """The fragments, each counted as it is met."""
    for fragment in fragments:
        partition.met(1)
        yield fragment
