"""Counters: this node's shards, added to and synced before they are answered for.

An increment isn't idempotent, so nothing inside retries one: it is read, added and applied within one call,
and the only thing that may be repeated is a step that said it had to wait and did nothing.

Source: ``storage.counter``.
"""

from __future__ import annotations

from collections.abc import Sequence

from ourodb.cql.plan.modification import CounterDelta
from ourodb.ports import Clock
from ourodb.schema.model import Column
from ourodb.storage.counter import increment
from ourodb.storage.keys import TableKeys
from ourodb.storage.mutation import Mutation, MutationBuilder
from ourodb.storage.row import Wait
from ourodb.storage.rows import Rows


class Counters:
    """Increments on behalf of one incarnation of one node."""

    def __init__(self, rows: Rows, clock: Clock, node: bytes, incarnation: int) -> None:
        """
        Args:
            node: 16 bytes, the host id.
            incarnation: grows after each unclean stop, since the shard's last value may be lost.
        """
        self._rows = rows
        self._clock = clock
        self._node = node
        self._incarnation = incarnation

    def add(
        self, deltas: Sequence[CounterDelta], others: Sequence[Mutation], timestamp: int, now_s: int
    ) -> Wait | None:
        """Add all deltas and apply the other mutations in one atomic write, or say what it waits for."""
        rows: dict[tuple[bytes, bytes, tuple[bytes, ...] | None], dict[int, tuple[Column, int]]] = {}
        keys: dict[bytes, TableKeys] = {}
        for delta in deltas:
            keys[delta.keys.incarnation] = delta.keys
            row = rows.setdefault((delta.keys.incarnation, delta.position, delta.clustering), {})
            _, sum_so_far = row.get(delta.column.id, (delta.column, 0))
            row[delta.column.id] = (delta.column, sum_so_far + delta.delta)
        builders: dict[tuple[bytes, bytes], MutationBuilder] = {}
        for (incarnation, position, clustering), columns in rows.items():
            table_keys = keys[incarnation]
            clustering_key = None if clustering is None else table_keys.clustering(clustering)
            shards = self._rows.of(table_keys.table).get_shards(position, clustering_key, now_s)
            if isinstance(shards, Wait):
                return shards
            builder = builders.get((incarnation, position))
            if builder is None:
                builder = builders[incarnation, position] = MutationBuilder(
                    table_keys, position, timestamp, now_s
                )
            built = builder.static_row() if clustering is None else builder.row(clustering)
            clock = self._clock.wall_us()
            for column, sum_of_deltas in columns.values():
                stored = shards.get(column.id)
                built.counter(column, increment(stored, self._node, self._incarnation, clock, sum_of_deltas))
        made = [builder.build() for builder in builders.values()]
        return self._rows.apply_many(
            [*others, *(mutation for mutation in made if mutation is not None)], now_s
        )
