"""The rows of the tables of one node: the way in for planners and replicas.

``Rows`` is made once with the store; ``Rows.of(table)`` gives the ``TableRows`` through which a compiled statement
reads and writes. What must be known per incarnation, whichever version of the ``Table`` a statement was compiled for,
is shared between them.

Writing: ``apply`` merges each record of a mutation into what is stored and writes all keys in one atomic batch, with
the entries of the purge index. Reading: ``get_row`` (one row, one ``Store.get`` in plain tables), ``read`` (slices of
one partition), ``scan`` (a run of partitions). Point reads and writes may answer ``Wait``; streams never do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ourodb.ports import Store
from ourodb.schema.model import Table
from ourodb.storage.keys import ALL_ROWS, Slice, TableKeys
from ourodb.storage.mutation import Mutation
from ourodb.storage.row import LivePartition, LiveRow, Pause, Wait


class Rows:
    """The rows of all tables."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def of(self, table: Table) -> TableRows:
        """The rows of a table; the same object for the same ``Table``."""
        raise NotImplementedError

    def apply(self, mutation: Mutation, now_s: int) -> Wait | None:
        """Apply a mutation, whichever table it is for. As ``TableRows.apply``."""
        raise NotImplementedError

    def apply_many(self, mutations: Sequence[Mutation], now_s: int) -> Wait | None:
        """Apply all, or none, in one atomic write. As ``TableRows.apply``."""
        raise NotImplementedError

    def drop(self, incarnation: int) -> None:
        """Delete the rows of a dropped or truncated table."""
        raise NotImplementedError


class TableRows:
    """The rows of one table.

    Attributes:
        keys: positions, clustering keys and bounds of the table.
    """

    def __init__(self, table: Table, keys: TableKeys) -> None:
        self.table = table
        self.keys = keys

    def apply(self, mutation: Mutation, now_s: int) -> Wait | None:
        """Merge a mutation into the store, all or nothing.

        Args:
            now_s: this node's time, seconds: what tombstones age from.
        Returns:
            None: it is applied. Wait: nothing was; fetch the key and call again.
        Raises:
            Overloaded, StoreReadOnly: from the store.
        """
        raise NotImplementedError

    def get_row(self, position: bytes, clustering_key: bytes, now_s: int) -> LiveRow | Wait | None:
        """One row, None when nothing in it is live.

        Args:
            clustering_key: ``keys.clustering(values)``; b"" where the table has no clustering columns.
            now_s: as of when, seconds.
        """
        raise NotImplementedError

    def get_partition(self, position: bytes, now_s: int) -> LivePartition | Wait:
        """The partition with its static row, without rows."""
        raise NotImplementedError

    def get_shards(
        self, position: bytes, clustering_key: bytes | None, now_s: int
    ) -> dict[int, bytes] | Wait:
        """The shards of a row's (None: the static row's) live counters by column id, for ``counter.increment``."""
        raise NotImplementedError

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
        """The live rows of one partition in clustering order, or in reverse.

        Args:
            slices: in order and without overlaps (``keys.slice``, ``keys.tuple_slices``, ``union``), also when
                reversed; for a next page ``after_row(slices, last clustering key, reverse)``.
            static_alone: give the static row where it is live and no row is: a row with no clustering key.
            pause_every: give PAUSE after so many stored keys; 0 never.
        """
        raise NotImplementedError

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
        """The live rows of the partitions in [start, end), in order of position and then of clustering.

        ``row.partition`` changes where the next partition begins.

        Args:
            start, end: position bounds (``token_start``, ``token_end``, ``next_position``) or positions; end None is
                the end of the table.
            slices: the rows wanted of every partition.
            resume_after: the clustering key after which to go on in the partition whose position is ``start``; b"" with
                ``static_alone`` given already skips nothing but the static row.
            static_alone: as for ``read``, in each partition.
        """
        raise NotImplementedError
