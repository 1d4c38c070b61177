"""INSERT, UPDATE and DELETE, compiled: bound values in, mutations out.

A ``ModificationPlan`` adds what its statement changes to ``Changes``, which gathers the mutations of one
request: one for each partition, however many statements of a batch touch it. The commonest statement of all,
one row of simple columns
bound to markers, has a path of its own: ``fast`` makes its mutation by joining bytes and never builds a cell.

Nothing here reads the store. Statements that need the row as it was (list elements by index) say so
(``reads``), and are given it by whoever executes them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from ourodb import limits
from ourodb.cql.analysis.modifications import Modification, ModificationKind, RowKey
from ourodb.cql.analysis.operations import CellIds, UpdateParameters
from ourodb.cql.analysis.terms import BoundTerm, ColumnSpec, Context, Marker
from ourodb.cql.plan.options import ExecuteOptions
from ourodb.cql.wire.columns import RowsMetadata
from ourodb.cql.wire.primitives import UNSET, Value
from ourodb.errors import InvalidRequest
from ourodb.schema.model import Column, ColumnKind, Table
from ourodb.storage.keys import Slice, TableKeys
from ourodb.storage.mutation import Mutation, MutationBuilder, RowBuilder, row_suffix
from ourodb.storage.record import NEVER, UniformShape
from ourodb.storage.row import LiveRow

TTL_SECONDS_MAX: Final = 20 * 365 * 24 * 3600
KEY_BYTES_MAX: Final = 65_535

_INT = struct.Struct(">i")
_LONG = struct.Struct(">q")

_LENGTHS: Final = tuple(_INT.pack(length) for length in range(4096))
"""[i32 length] of short values, which most are."""

FastPath: TypeAlias = Callable[[Sequence[Value], int, int], Mutation | None]
"""(values, timestamp in us, now in s) to the mutation; None: take the general path, which also tells what's
wrong."""

ReadRow: TypeAlias = Callable[[TableKeys, bytes, bytes | None], LiveRow | None]
"""(keys, position, clustering key or None for the static row) to the live row as it is."""


class CounterDelta:
    """An increment of one counter; ``clustering`` is None for a static one."""

    __slots__ = ("clustering", "column", "delta", "keys", "position")

    def __init__(
        self,
        keys: TableKeys,
        position: bytes,
        clustering: tuple[bytes, ...] | None,
        column: Column,
        delta: int,
    ) -> None:
        self.keys = keys
        self.position = position
        self.clustering = clustering
        self.column = column
        self.delta = delta


class Changes:
    """What one request changes, gathered over its statements.

    Attributes:
        counters: increments, in order.
    """

    __slots__ = ("_builders", "_bytes", "_rows", "counters")

    def __init__(self) -> None:
        self._builders: dict[tuple[bytes, bytes], MutationBuilder] = {}
        self._rows = self._bytes = 0
        """That the IN lists of statements multiply to."""
        self.counters: list[CounterDelta] = []

    def check_room(self, rows: int, size: int = 0) -> None:
        """Called before a statement adds so many rows more, of so many bytes.

        Raises:
            InvalidRequest: they are too many, or too large, for one request.
        """
        if rows == 1:
            # What requests hold is bounded by their length; it is by lists that they grow.
            return
        self._rows += rows
        self._bytes += size
        if self._rows > limits.ROWS_PER_MODIFICATION_MAX:
            raise InvalidRequest(
                f"The IN restrictions of this request multiply to {self._rows} rows; "
                f"at most {limits.ROWS_PER_MODIFICATION_MAX} are allowed"
            )
        if self._bytes > limits.MODIFICATION_BYTES_MAX:
            raise InvalidRequest(
                f"The IN restrictions of this request multiply its values to {self._bytes} bytes; "
                f"at most {limits.MODIFICATION_BYTES_MAX} are allowed"
            )

    def partition(self, keys: TableKeys, position: bytes, timestamp: int, now_s: int) -> MutationBuilder:
        """The builder of a partition, set to this timestamp."""
        builder = self._builders.get((keys.incarnation, position))
        if builder is None:
            builder = MutationBuilder(keys, position, timestamp, now_s)
            self._builders[keys.incarnation, position] = builder
        builder.timestamp = timestamp
        builder.now_s = now_s
        return builder

    def mutations(self) -> list[Mutation]:
        """One for each partition that something was added to, in the order of first touch."""
        built = [builder.build() for builder in self._builders.values()]
        return [mutation for mutation in built if mutation is not None]


class ModificationPlan:
    """One statement, ready to run any number of times.

    Attributes:
        variables: its bind markers.
        partition_key_indexes: which of them make up the partition key; () when not all are markers.
        warnings: for the client that prepares or runs it.
        reads: some operation needs the row as it was.
        fast: the path for plain rows, or None.
    """

    __slots__ = (
        "_clustering_terms",
        "_partition_terms",
        "fast",
        "keys",
        "modification",
        "partition_key_indexes",
        "reads",
        "table",
        "variables",
        "warnings",
    )

    def __init__(self, modification: Modification, keys: TableKeys, context: Context) -> None:
        self.modification = modification
        self.table: Table = modification.table
        self.keys = keys
        self.variables: Sequence[ColumnSpec] = context.bound_variables()
        self.partition_key_indexes = context.partition_key_indexes(self.table)
        self.warnings: Sequence[str] = tuple(context.warnings)
        self.reads = any(operation.reads for operation in modification.operations)
        self.fast = _fast_path(modification, keys)

    @property
    def is_conditional(self) -> bool:
        return self.modification.is_conditional

    @property
    def is_counter(self) -> bool:
        return self.table.is_counter

    def metadata(self, version: int) -> RowsMetadata | None:
        """A modification has no rows; a conditional one's result differs from one execution to the next."""
        return None

    def timestamp(self, values: Sequence[Value], options: ExecuteOptions) -> int:
        """The timestamp of what it writes: of USING, else of the request."""
        term = self.modification.timestamp
        if term is None:
            return options.timestamp_us
        value = term.evaluate(values, options)
        if value is None:
            raise InvalidRequest("Invalid null value of timestamp")
        if value is UNSET:
            return options.timestamp_us
        return timestamp_value(value)  # type: ignore[arg-type]

    def ttl(self, values: Sequence[Value], options: ExecuteOptions) -> int:
        """Seconds, 0 for none: of USING, else the table's default."""
        term = self.modification.ttl
        default = self.table.options.default_time_to_live
        if term is None:
            return default
        value = term.evaluate(values, options)
        if value is None:
            return 0
        if value is UNSET:
            return default
        return ttl_value(value)  # type: ignore[arg-type]

    def positions(self, values: Sequence[Value], options: ExecuteOptions) -> list[bytes]:
        """Of the partitions that it is about."""
        key = self.modification.key
        if key is not None:
            return [self.keys.position(partition_values(self.table, key, values, options))]
        assert self.modification.restrictions is not None
        return [
            self.keys.position(partition)
            for partition in self.modification.restrictions.partition_keys(values, options)
        ]

    def row(self, values: Sequence[Value], options: ExecuteOptions) -> tuple[bytes, ...] | None:
        """The clustering values of the one row that it is about; None for the static row.

        Only for plans with ``modification.key``.
        """
        key = self.modification.key
        assert key is not None
        return clustering_values(self.table, key, values, options)

    def rows(
        self, values: Sequence[Value], options: ExecuteOptions
    ) -> Sequence[tuple[bytes, ...] | None] | None:
        """The clustering values of each row that it names, the same in each partition; None among them is the static
        row. None altogether: it deletes slices, or the partitions.
        """
        if self.modification.key is not None:
            return (self.row(values, options),)
        assert self.modification.restrictions is not None
        return self.modification.restrictions.clustering_rows(values, options)

    def add_to(
        self,
        changes: Changes,
        values: Sequence[Value],
        options: ExecuteOptions,
        list_cell_ids: CellIds,
        read_row: ReadRow,
        timestamp: int | None = None,
        ttl: int | None = None,
    ) -> None:
        """Add what the statement changes.

        Args:
            timestamp, ttl: instead of the statement's own (a batch's, a ballot's).
        Raises:
            InvalidRequest: a value is missing, or wrong.
        """
        modification = self.modification
        at = self.timestamp(values, options) if timestamp is None else timestamp
        parameters = UpdateParameters(
            values, options, self.ttl(values, options) if ttl is None else ttl, list_cell_ids
        )
        positions, rows = self.positions(values, options), self.rows(values, options)
        slices: Sequence[Slice] | None = None
        if rows is None:
            assert modification.restrictions is not None
            slices = modification.restrictions.slices(values, options)
        count = len(positions) * len(rows if rows is not None else slices or (None,))
        changes.check_room(count)
        for position in positions:
            builder = changes.partition(self.keys, position, at, options.now_s)
            if rows is None:
                self._delete_slices(builder, slices)
                continue
            for clustering in rows:
                self._change_row(builder, clustering, parameters, changes, read_row)
                if count > 1:
                    # The others will be as large.
                    changes.check_room(0, count * builder.row_bytes(clustering))
                    count = 1

    def _delete_slices(self, builder: MutationBuilder, slices: Sequence[Slice] | None) -> None:
        if slices is None:
            builder.delete_partition()
            return
        for start, end in slices:
            builder.delete_range(start, end)

    def _change_row(
        self,
        builder: MutationBuilder,
        clustering: tuple[bytes, ...] | None,
        parameters: UpdateParameters,
        changes: Changes,
        read_row: ReadRow,
    ) -> None:
        modification = self.modification
        if modification.kind is ModificationKind.DELETE and not modification.operations:
            if self.table.clustering:
                assert clustering is not None
                builder.row(clustering).delete()
            else:
                builder.delete_partition()
            return
        regular: RowBuilder | None = None
        if modification.kind is ModificationKind.INSERT and clustering is not None:
            regular = builder.row(clustering)
            regular.marker(parameters.ttl)
        for operation in modification.operations:
            static = operation.column.kind is ColumnKind.STATIC
            if operation.reads:
                clustering_key = None if static else self.keys.clustering(clustering or ())
                parameters.prior = read_row(self.keys, builder.position, clustering_key)
            if static:
                operation.execute(builder.static_row(), parameters)
            else:
                if regular is None:
                    regular = builder.row(clustering or ())
                operation.execute(regular, parameters)
            if parameters.counters:
                where = None if static else clustering
                for column, delta in parameters.counters:
                    changes.counters.append(CounterDelta(self.keys, builder.position, where, column, delta))
                parameters.counters.clear()


def timestamp_value(value: bytes) -> int:
    """A bound USING TIMESTAMP."""
    if len(value) != 8:
        raise InvalidRequest("Invalid timestamp value")
    timestamp: int = _LONG.unpack(value)[0]
    if timestamp == NEVER:
        raise InvalidRequest(f"Out of bound timestamp, must be in [{NEVER + 1}, {-NEVER - 1}]")
    return timestamp


def ttl_value(value: bytes) -> int:
    """A bound USING TTL."""
    if len(value) != 4:
        raise InvalidRequest("Invalid TTL value")
    ttl: int = _INT.unpack(value)[0]
    if ttl < 0:
        raise InvalidRequest(f"A TTL must be greater or equal to 0, but was {ttl}")
    if ttl > TTL_SECONDS_MAX:
        raise InvalidRequest(f"ttl is too large. requested ({ttl}) maximum ({TTL_SECONDS_MAX})")
    return ttl


def partition_values(
    table: Table, key: RowKey, values: Sequence[Value], options: ExecuteOptions
) -> tuple[bytes, ...]:
    """The values of the partition key, checked."""
    found = _key_values(table.partition_key, key.partition, values, options)
    size = len(found[0]) if len(found) == 1 else sum(len(value) + 3 for value in found)
    if size == 0:
        raise InvalidRequest("Key may not be empty")
    if size > KEY_BYTES_MAX:
        raise InvalidRequest(f"Key length of {size} is longer than maximum of {KEY_BYTES_MAX}")
    return found


def clustering_values(
    table: Table, key: RowKey, values: Sequence[Value], options: ExecuteOptions
) -> tuple[bytes, ...] | None:
    """The clustering values, checked; None when the statement is about the static row."""
    if key.clustering is None:
        return None
    found = _key_values(table.clustering, key.clustering, values, options)
    size = sum(len(value) for value in found)
    if size > KEY_BYTES_MAX:
        raise InvalidRequest(
            f"The sum of all clustering columns is too long (max {KEY_BYTES_MAX}, was {size})"
        )
    return found


def _key_values(
    columns: Sequence[Column], terms: Sequence[BoundTerm], values: Sequence[Value], options: ExecuteOptions
) -> tuple[bytes, ...]:
    found = []
    for column, term in zip(columns, terms, strict=True):
        value = term.evaluate(values, options)
        if value is None:
            raise InvalidRequest(f"Invalid null value in condition for column {column.name}")
        if value is UNSET:
            raise InvalidRequest(f"Invalid unset value for column {column.name}")
        found.append(value)
    return tuple(found)  # type: ignore[arg-type]


def _fast_path(modification: Modification, keys: TableKeys) -> FastPath | None:
    """The path for one row whose key and simple columns are all bound to markers, or None when it isn't that.

    Values that are null, unset or empty keys are left to the general path.
    """
    table = modification.table
    key = modification.key
    if (
        modification.kind is ModificationKind.DELETE
        or modification.is_conditional
        or table.is_counter
        or modification.timestamp is not None
        or modification.ttl is not None
        or key is None
        or key.clustering is None
        or keys.normalizes
    ):
        return None
    cells: list[tuple[int, Marker]] = []
    for operation in modification.operations:
        term = operation.term
        if operation.column.kind is not ColumnKind.REGULAR or not isinstance(term, Marker) or term.ordered:
            return None
        cells.append((operation.column.id, term))
    markers = [*key.partition, *key.clustering]
    if not all(isinstance(term, Marker) and not term.ordered for term in markers):
        return None
    cells.sort(key=lambda cell: cell[0])
    shape = UniformShape([id for id, _ in cells], marker=modification.kind is ModificationKind.INSERT)
    return _compile_fast_path(
        [term for term in key.partition if isinstance(term, Marker)],
        [term for term in key.clustering if isinstance(term, Marker)],
        [term for _, term in cells],
        shape,
        keys,
        table.options.default_time_to_live,
    )


def _compile_fast_path(
    partition: Sequence[Marker],
    clustering: Sequence[Marker],
    cells: Sequence[Marker],
    shape: UniformShape,
    keys: TableKeys,
    ttl: int,
) -> FastPath:
    """The function, unrolled for its columns: a loop over them would cost as much as all the rest.

    Only indexes and names made here enter the source; nothing of the statement's text does.
    """
    names: dict[str, object] = {
        "Mutation": Mutation,
        "position": keys.position,
        "clustering": keys.clustering,
        "row_suffix": row_suffix,
        "record": shape.record,
        "expiring_record": shape.expiring_record,
        "incarnation": keys.table.incarnation,
        "LENGTHS": _LENGTHS,
        "pack": _INT.pack,
    }
    lines = ["def fast(values, timestamp, now_s):"]

    def take(name: str, term: Marker, may_be_empty: bool) -> None:
        lines.append(f"    {name} = values[{term.index}]")
        test = f"{name}.__class__ is not bytes"
        lines.append(f"    if {test}{'' if may_be_empty else f' or not {name}'}: return None")
        if term.validator is not None:
            names[f"check_{name}"] = term.validator
            lines.append(f"    check_{name}({name})")

    for i, term in enumerate(partition):
        take(f"p{i}", term, may_be_empty=len(partition) > 1)
    for i, term in enumerate(clustering):
        take(f"c{i}", term, may_be_empty=True)
    for i, term in enumerate(cells):
        take(f"v{i}", term, may_be_empty=True)
    sizes = " + ".join(f"len(p{i}) + 3" for i in range(len(partition)))
    lines.append(f"    if {sizes} > {KEY_BYTES_MAX}: return None")
    if clustering:
        lines.append(
            f"    if {' + '.join(f'len(c{i})' for i in range(len(clustering)))} > {KEY_BYTES_MAX}: return None"
        )
    pieces = []
    for i in range(len(cells)):
        lines.append(f"    n{i} = len(v{i})")
        pieces += [f"LENGTHS[n{i}] if n{i} < {len(_LENGTHS)} else pack(n{i})", f"v{i}"]
    joined = f"b''.join(({', '.join(pieces)},))" if pieces else "b''"
    row_values = ", ".join(f"c{i}" for i in range(len(clustering)))
    suffix = f"row_suffix(clustering(({row_values},)))" if clustering else "row_suffix(b'')"
    made = (
        f"expiring_record(timestamp, {ttl}, now_s + {ttl}, {joined})"
        if ttl
        else f"record(timestamp, {joined})"
    )
    key_values = ", ".join(f"p{i}" for i in range(len(partition)))
    lines.append(f"    return Mutation(incarnation, position(({key_values},)), [({suffix}, {made})])")
    # The source holds only names and numbers made above.
    exec(compile("\n".join(lines), "<fast path of a modification>", "exec"), names)  # noqa: S102
    fast: FastPath = names["fast"]  # type: ignore[assignment]
    return fast
