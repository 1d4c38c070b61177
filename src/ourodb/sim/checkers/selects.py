"""What a SELECT means, and what it gives from a ``RowModel``."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import islice

from ourodb.sim.checkers.rows import Expiry, Key, RowModel, Slice, Value, Version

ResultRow = tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Select:
    """A SELECT.

    Attributes:
        columns: names, or ``writetime(name)``.
        counts: it is ``count(*)`` instead.
        distinct: one row for each partition.
        keys: of partitions, in order; None: all of them, by token.
        tokens: (least, greatest token) of those.
        rows: which; None: all.
        equals: (a regular column, its value) that rows must have.
        reverse: the order of rows within a partition is turned round.
        sorts: an ORDER BY over several partitions: rows are sorted, whichever partition they are of.
        limit, limit_per_partition: of rows, or None.
        text: for people.
    """

    table: str
    columns: tuple[str, ...]
    counts: bool = False
    distinct: bool = False
    keys: tuple[Key, ...] | None = None
    tokens: tuple[int, int] | None = None
    rows: Slice | None = None
    equals: tuple[str, Value] | None = None
    reverse: bool = False
    sorts: bool = False
    limit: int | None = None
    limit_per_partition: int | None = None
    text: str = ""

    def __str__(self) -> str:
        return self.text

    def reach(self, model: RowModel) -> list[Key]:
        """The partitions that it looks at, in order."""
        if self.keys is not None:
            return list(self.keys)
        tokens = {model.shape.token(key): key for key in model.partitions}
        low, high = self.tokens or (min(tokens, default=0), max(tokens, default=0))
        return [tokens[token] for token in sorted(tokens) if low <= token <= high]

    def answer(self, model: RowModel, dead: AbstractSet[Expiry]) -> list[ResultRow]:
        """What it gives when these have expired and the others haven't."""
        found: list[tuple[Key | None, ResultRow]] = []
        for key in self.reach(model):
            found += islice(self._of_partition(model, key, dead), self.limit_per_partition)
        if self.sorts:
            rows = model.shape.sorted({row for row, _ in found if row is not None}, self.reverse)
            rank = {row: index for index, row in enumerate(rows)}
            # Those of which there is but a static row come last.
            found.sort(key=lambda pair: len(rank) if pair[0] is None else rank[pair[0]])
        if self.counts:
            return [(len(found),)]
        return [result for _, result in found[: self.limit]]

    def _of_partition(
        self, model: RowModel, key: Key, dead: AbstractSet[Expiry]
    ) -> Iterator[tuple[Key | None, ResultRow]]:
        static = model.static(key, dead)
        is_empty = True
        for row, columns in model.rows(key, dead, self.reverse):
            is_empty = False
            if self.rows is not None and not self.rows.covers(row):
                continue
            if self.equals is not None and _value(columns, self.equals[0]) != self.equals[1]:
                continue
            yield row, self._result(model, key, row, static, columns)
            if self.distinct:
                return
        # Static columns alone are a row, where no rows are asked for in particular.
        if is_empty and static is not None and self.rows is None and self.equals is None:
            yield None, self._result(model, key, None, static, {})

    def _result(
        self,
        model: RowModel,
        key: Key,
        row: Key | None,
        static: dict[str, Version] | None,
        columns: dict[str, Version],
    ) -> ResultRow:
        shape = model.shape
        values: dict[str, Value] = {
            column.name: part for column, part in zip(shape.partition, key, strict=True)
        }
        if row is not None:
            values.update({column.name: part for column, part in zip(shape.clustering, row, strict=True)})
        for name, (timestamp, value, _) in ((static or {}) | columns).items():
            values[name] = value
            values[f"writetime({name})"] = timestamp
        return tuple(values.get(name) for name in self.columns)


def _value(columns: dict[str, Version], name: str) -> Value:
    version = columns.get(name)
    return None if version is None else version[1]
