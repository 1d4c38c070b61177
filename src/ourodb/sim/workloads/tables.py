"""Tables, writes and SELECTs by chance: what they look like in CQL, and what they mean to the checker.

Values come from small sets, so that writes meet: the same row is inserted, updated, deleted and covered by ranges again
and again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from ourodb.ports import Random
from ourodb.sim.checkers.rows import (
    MARKER,
    Change,
    Clear,
    Column,
    Delete,
    Key,
    Put,
    Shape,
    Slice,
    Value,
    Write,
    type_of,
)
from ourodb.sim.checkers.selects import Select
from ourodb.sim.workloads.stage import KEYSPACE

T = TypeVar("T")

KEYS_PER_CLIENT: Final = 4
"""Partitions of each client in each table."""
VALUES: Final = 5
"""Of a clustering column, and of an element."""
TEXTS: Final = ("", "a", "b", "ba", "ü")
CLIENTS_MAX: Final = 1_000

LONG_TTL_S: Final = 864_000
"""Nobody sees the end of it."""
SHORT_TTL_S_MAX: Final = 3

DEFAULT_GRACE_S: Final = 864_000
SHORT_GRACE_S: Final = 1_800
"""Where tombstones may go within a run of hours; see ``swept``."""

TIMESTAMP_STEP: Final = 10
"""Between timestamps that are drawn one after the other; those between are for writes that come too late."""


def swept(shape: Shape) -> bool:
    """Its tombstones may be purged during a run.

    Every write must be acknowledged by all replicas then, before the next one to the same partition: a replica that
    missed a deletion would bring back what was deleted, and rightly. Nor may a write be older than others before it:
    what should hide it may be gone.
    """
    return shape.gc_grace_seconds < DEFAULT_GRACE_S


class Cql:
    """A statement in the making: text, and values that are literals in it or bound to it."""

    def __init__(self) -> None:
        self._parts: list[str | tuple[Value, str]] = []

    def add(self, *texts: str) -> None:
        self._parts += texts

    def extend(self, other: Cql) -> None:
        self._parts += other._parts

    def value(self, value: Value, type: str) -> None:
        self._parts.append((value, type))

    def equal(self, columns: Sequence[Column], values: Sequence[Value], between: str = " AND ") -> None:
        """``a = 1 AND b = 2``."""
        for index, (column, value) in enumerate(zip(columns, values, strict=True)):
            self.add(between if index else "", f"{column.name} = ")
            self.value(value, column.type)

    def text(self) -> str:
        """With literals."""
        return "".join(part if isinstance(part, str) else literal(*part) for part in self._parts)

    def bound(self) -> tuple[str, list[bytes | None]]:
        """With markers, and the values for them."""
        text = "".join(part if isinstance(part, str) else "?" for part in self._parts)
        return text, [encoded(*part) for part in self._parts if not isinstance(part, str)]


def literal(value: Value, type: str) -> str:
    if value is None:
        return "null"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if type.startswith("set"):
        return "{" + ", ".join(literal(element, "") for element in value) + "}"
    if type.startswith("map"):
        return "{" + ", ".join(f"{literal(key, '')}: {literal(element, '')}" for key, element in value) + "}"
    return str(value)


def encoded(value: Value, type: str) -> bytes | None:
    if value is None:
        return None
    return type_of(type).encode(dict(value) if type.startswith("map") else value)


def choice(random: Random, items: Sequence[T]) -> T:
    return items[random.below(len(items))]


def some(random: Random, items: Sequence[T]) -> list[T]:
    """Any of the items, in their order."""
    return [item for item in items if random.below(2)]


# --- Tables ----------------------------------------------------------------------------------------------------


def draw_shape(random: Random, name: str) -> Shape:
    """A table."""
    partition = [Column("p", choice(random, ["int", "text"]))]
    if random.below(3) == 0:
        partition.append(Column("q", "int"))
    clustering = [
        Column(f"c{number}", choice(random, ["int", "int", "text"])) for number in range(random.below(3))
    ]
    statics = [Column("s", "int")] if clustering and random.below(3) else []
    if statics and random.below(2):
        statics.append(Column("t", "set<int>"))
    regulars = [Column("v", "int"), Column("w", "text")]
    regulars += some(random, [Column("e", "set<int>"), Column("m", "map<text, int>"), Column("x", "bigint")])
    return Shape(
        f"{KEYSPACE}.{name}",
        tuple(partition),
        tuple(clustering),
        tuple(random.below(2) == 1 for _ in clustering),
        tuple(statics),
        tuple(regulars),
        SHORT_GRACE_S if random.below(3) == 0 else DEFAULT_GRACE_S,
    )


def key_of(shape: Shape, client: int, number: int) -> Key:
    """One of a client's own partitions."""
    first = number * CLIENTS_MAX + client
    values: list[Value] = [first if shape.partition[0].type == "int" else f"key {first}"]
    return tuple(values + [number % 2] * (len(shape.partition) - 1))


def draw_value(random: Random, type: str) -> Value:
    """A value, or None one time in six."""
    if random.below(6) == 0:
        return None
    if type == "text":
        return choice(random, TEXTS)
    if type.startswith("set"):
        return tuple(some(random, range(VALUES)))
    if type.startswith("map"):
        return tuple((key, random.below(100)) for key in some(random, TEXTS))
    return random.below(100) - 50 if type == "int" else random.below(1 << 40) - (1 << 39)


def draw_part(random: Random, column: Column) -> Value:
    """A value of a clustering column."""
    return choice(random, TEXTS) if column.type == "text" else random.below(VALUES) - 1


def draw_row(random: Random, shape: Shape) -> Key:
    return tuple(draw_part(random, column) for column in shape.clustering)


def draw_slice(random: Random, shape: Shape, *, may_list: bool) -> Slice:
    """Of a table with clustering columns; never all rows, and never one by its whole key."""
    prefix: Key = ()
    if len(shape.clustering) > 1 and random.below(2):
        prefix = (draw_part(random, shape.clustering[0]),)
        if random.below(3) == 0:
            return Slice(prefix)
    column = shape.clustering[len(prefix)]
    if may_list and random.below(4) == 0:
        return Slice(prefix, among=tuple(sorted({draw_part(random, column) for _ in range(3)})))
    low, high = (
        (draw_part(random, column), random.below(2) == 1) if random.below(3) else None for _ in range(2)
    )
    if low is None and high is None:
        low = (draw_part(random, column), True)
    return Slice(prefix, low, high)


def add_slice(cql: Cql, shape: Shape, rows: Slice) -> None:
    """`` AND c0 = 1 AND c1 > 2``."""
    for column, value in zip(shape.clustering, rows.prefix, strict=False):
        cql.add(f" AND {column.name} = ")
        cql.value(value, column.type)
    if len(rows.prefix) == len(shape.clustering):
        return
    column = shape.clustering[len(rows.prefix)]
    for bound, sign in ((rows.low, ">"), (rows.high, "<")):
        if bound is not None:
            cql.add(f" AND {column.name} {sign}{'=' * bound[1]} ")
            cql.value(bound[0], column.type)
    if rows.among is not None:
        cql.add(f" AND {column.name} IN (")
        for index, value in enumerate(rows.among):
            cql.add(", " if index else "")
            cql.value(value, column.type)
        cql.add(")")


# --- Writes ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Scribe:
    """Draws the writes to one partition, one after the other.

    Attributes:
        may_expire: whether something may be made to expire soon.
    """

    shape: Shape
    key: Key
    random: Random
    may_expire: bool = True
    _newest: int = TIMESTAMP_STEP
    _used: set[int] = field(default_factory=set)

    def draw(self, number: int) -> tuple[Write, Cql]:
        """The next write; ``number`` is that of no other write of the run."""
        cql = Cql()
        changes: list[tuple[int, Change]] = []
        count = 1 if self.random.below(10) else 2 + self.random.below(3)
        if count > 1:
            cql.add(f"BEGIN {'UNLOGGED ' * self.random.below(2)}BATCH ")
        for _ in range(count):
            timestamp = self._timestamp()
            changes += [(timestamp, change) for change in self._statement(cql, timestamp)]
            cql.add("; " if count > 1 else "")
        if count > 1:
            cql.add("APPLY BATCH")
        return Write(number, self.shape.name, self.key, tuple(changes), cql.text()), cql

    def _timestamp(self) -> int:
        """Mostly the newest; some are as of writes that came late. None is used twice."""
        may_be_late = not swept(self.shape) and self._newest > 20 * TIMESTAMP_STEP
        if may_be_late and self.random.below(6) == 0:
            timestamp = self._newest - self.random.below(20 * TIMESTAMP_STEP)
            # What a collection is cleared with is one less than the write's own.
            if not self._used & {timestamp - 1, timestamp, timestamp + 1}:
                self._used.add(timestamp)
                return timestamp
        self._newest += TIMESTAMP_STEP
        self._used.add(self._newest)
        self._used.difference_update([old for old in self._used if old < self._newest - 30 * TIMESTAMP_STEP])
        return self._newest

    def _statement(self, cql: Cql, timestamp: int) -> list[Change]:
        drawn = self.random.below(12)
        if drawn < 4:
            return self._insert(cql, timestamp)
        if drawn < 8:
            return self._update(cql, timestamp)
        return self._delete(cql, timestamp)

    def _expires(self) -> bool:
        """Whether a statement's cells expire soon.

        Static ones never do: they are in many rows of a result, and could expire between two of its pages.
        """
        return self.may_expire and self.random.below(16) == 0

    def _using(self, cql: Cql, timestamp: int, expires: bool) -> None:
        cql.add(" USING TIMESTAMP ")
        cql.value(timestamp, "bigint")
        if expires or self.random.below(16) == 0:
            cql.add(" AND TTL ")
            cql.value(1 + self.random.below(SHORT_TTL_S_MAX) if expires else LONG_TTL_S, "int")

    def _insert(self, cql: Cql, timestamp: int) -> list[Change]:
        shape, random = self.shape, self.random
        expires = self._expires()
        statics = [] if expires else some(random, shape.statics)
        is_static = bool(statics) and random.below(4) == 0
        row = None if is_static else draw_row(random, shape)
        chosen = [*statics, *([] if is_static else some(random, shape.regulars))]
        keys = [*shape.partition, *(() if row is None else shape.clustering)]
        columns = [*zip(keys, [*self.key, *(row or ())], strict=True)]
        columns += [(column, draw_value(random, column.type)) for column in chosen]
        cql.add(f"INSERT INTO {shape.name} ({', '.join(column.name for column, _ in columns)}) VALUES (")
        for index, (column, value) in enumerate(columns):
            cql.add(", " if index else "")
            cql.value(value, column.type)
        cql.add(")")
        self._using(cql, timestamp, expires)
        changes: list[Change] = [] if row is None else [Put(row, MARKER, None, True, expires)]
        for column, value in columns[len(keys) :]:
            changes += overwritten(None if column in shape.statics else row, column, value, expires)
        return changes

    def _update(self, cql: Cql, timestamp: int) -> list[Change]:
        shape, random = self.shape, self.random
        expires = self._expires()
        columns = some(random, [*(() if expires else shape.statics), *shape.regulars]) or [
            choice(random, shape.regulars)
        ]
        is_static = all(column in shape.statics for column in columns)
        row = None if is_static else draw_row(random, shape)
        cql.add(f"UPDATE {shape.name}")
        self._using(cql, timestamp, expires)
        cql.add(" SET ")
        changes: list[Change] = []
        for index, column in enumerate(columns):
            cql.add(", " if index else "")
            changes += self._assign(cql, None if column in shape.statics else row, column, expires)
        cql.add(" WHERE ")
        self._where(cql, row)
        return changes

    def _assign(self, cql: Cql, row: Key | None, column: Column, expires: bool) -> list[Change]:
        random, name = self.random, column.name
        drawn = random.below(3) if column.is_collection else 0
        value = draw_value(random, column.type)
        if drawn == 0:
            cql.add(f"{name} = ")
            cql.value(value, column.type)
            return overwritten(row, column, value, expires)
        if drawn == 1:
            cql.add(f"{name} = {name} + ")
            cql.value(value or (), column.type)
            return elements(row, column, value or (), expires)
        if column.type.startswith("map"):
            key, element = choice(random, TEXTS), draw_value(random, "int")
            cql.add(f"{name}[")
            cql.value(key, "text")
            cql.add("] = ")
            cql.value(element, "int")
            return [Put(row, name, key, element, expires)]
        cql.add(f"{name} = {name} - ")
        cql.value(value or (), column.type)
        return [Put(row, name, element, None) for element in value or ()]

    def _delete(self, cql: Cql, timestamp: int) -> list[Change]:
        shape, random = self.shape, self.random
        drawn = random.below(12)
        row: Key | None = draw_row(random, shape)
        changes: list[Change] = []
        rows: Slice | None = None
        cql.add("DELETE ")
        if drawn < 4:
            columns = some(random, shape.regulars) or [choice(random, shape.regulars)]
            if shape.statics and random.below(4) == 0:
                columns, row = list(shape.statics), None
            for index, column in enumerate(columns):
                cql.add(", " if index else "", column.name)
                changes.append(self._delete_column(cql, row, column))
            cql.add(" ")
        elif drawn < 8 and shape.clustering:
            changes.append(Delete(row))
        elif drawn < 11 and shape.clustering:
            row, rows = None, draw_slice(random, shape, may_list=False)
            changes.append(Delete(rows))
        else:
            row = None
            changes.append(Delete(None))
        cql.add(f"FROM {shape.name} USING TIMESTAMP ")
        cql.value(timestamp, "bigint")
        cql.add(" WHERE ")
        self._where(cql, row)
        if rows is not None:
            add_slice(cql, shape, rows)
        return changes

    def _delete_column(self, cql: Cql, row: Key | None, column: Column) -> Change:
        if not column.is_collection:
            return Put(row, column.name, None, None)
        if self.random.below(2):
            return Clear(row, column.name)
        is_map = column.type.startswith("map")
        element = choice(self.random, TEXTS) if is_map else self.random.below(VALUES)
        cql.add("[")
        cql.value(element, "text" if is_map else "int")
        cql.add("]")
        return Put(row, column.name, element, None)

    def _where(self, cql: Cql, row: Key | None) -> None:
        cql.equal(self.shape.partition, self.key)
        if row:
            cql.add(" AND ")
            cql.equal(self.shape.clustering, row)


def overwritten(row: Key | None, column: Column, value: Value, expires: bool) -> list[Change]:
    """A column gets a value, or none."""
    if not column.is_collection:
        return [Put(row, column.name, None, value, expires)]
    return [Clear(row, column.name, before=True), *elements(row, column, value or (), expires)]


def elements(row: Key | None, column: Column, value: Value, expires: bool) -> list[Change]:
    """Elements are added to a collection."""
    if column.type.startswith("map"):
        return [Put(row, column.name, key, element, expires) for key, element in value]
    return [Put(row, column.name, element, True, expires) for element in value]


# --- SELECTs ---------------------------------------------------------------------------------------------------


def draw_select(random: Random, shape: Shape, keys: Sequence[Key]) -> tuple[Select, Cql]:
    """A SELECT of some partitions.

    Args:
        keys: different ones; several are asked for in one list.
    """
    # A list of keys gives them in the order of their values.
    chosen = sorted(keys)
    cql = Cql()
    if len(chosen) == 1:
        cql.equal(shape.partition, chosen[0])
    else:
        chosen = _add_lists(cql, shape, chosen)
    rows: Slice | None = None
    reverse = sorts = False
    distinct = random.below(8) == 0
    if shape.clustering and not distinct:
        drawn = random.below(4)
        if drawn == 0:
            rows = Slice(draw_row(random, shape))
        elif drawn == 1:
            rows = draw_slice(random, shape, may_list=True)
        if rows is not None:
            add_slice(cql, shape, rows)
        if random.below(3) == 0:
            reverse = random.below(2) == 1
            sorts = len(chosen) > 1
            cql.add(f" ORDER BY {shape.order(reverse)}")
    return _finished(random, shape, cql, " WHERE ", tuple(chosen), None, rows, reverse, sorts, distinct)


def draw_scan(random: Random, shape: Shape, near: Callable[[], Key]) -> tuple[Select, Cql]:
    """A SELECT of all partitions, or of those with some tokens.

    Args:
        near: gives keys, at whose tokens bounds are.
    """
    cql = Cql()
    low, high = -(1 << 63), (1 << 63) - 1
    names = ", ".join(column.name for column in shape.partition)
    before = " WHERE "
    for is_low in (True, False):
        if random.below(3) == 0:
            bound, is_in = shape.token(near()), random.below(2) == 1
            cql.add(before, f"token({names}) {'>' if is_low else '<'}{'=' * is_in} ")
            cql.value(bound, "bigint")
            before = " AND "
            if is_low:
                low = bound + (not is_in)
            else:
                high = bound - (not is_in)
    distinct = random.below(6) == 0
    equals: tuple[str, Value] | None = None
    if not distinct and random.below(6) == 0:
        equals = ("w", choice(random, TEXTS))
        cql.add(before, "w = ")
        cql.value(equals[1], "text")
    return _finished(
        random,
        shape,
        cql,
        "",
        None,
        (low, high),
        None,
        False,
        False,
        distinct,
        equals,
        filters=equals is not None,
    )


def _add_lists(cql: Cql, shape: Shape, keys: Sequence[Key]) -> list[Key]:
    """``p IN (1, 2) AND q = 3``; gives those of the keys that it asks for, which agree in all but the first column."""
    alike = [key for key in keys if key[1:] == keys[0][1:]]
    cql.add(f"{shape.partition[0].name} IN (")
    for index, key in enumerate(alike):
        cql.add(", " if index else "")
        cql.value(key[0], shape.partition[0].type)
    cql.add(")")
    for column, value in zip(shape.partition[1:], keys[0][1:], strict=True):
        cql.add(f" AND {column.name} = ")
        cql.value(value, column.type)
    return alike


def _finished(
    random: Random,
    shape: Shape,
    where: Cql,
    before: str,
    keys: tuple[Key, ...] | None,
    tokens: tuple[int, int] | None,
    rows: Slice | None,
    reverse: bool,
    sorts: bool,
    distinct: bool,
    equals: tuple[str, Value] | None = None,
    *,
    filters: bool = False,
) -> tuple[Select, Cql]:
    """What is selected, and the limits, around the rest."""
    counts = not distinct and not sorts and random.below(12) == 0
    columns: list[str] = [column.name for column in shape.partition]
    if distinct:
        columns += [column.name for column in shape.statics]
    else:
        cells = [*shape.statics, *shape.regulars]
        columns += [column.name for column in shape.clustering]
        columns += [column.name for column in (cells if random.below(2) else some(random, cells))]
        columns += [
            f"writetime({column.name})" for column in cells if not column.is_collection and random.below(2)
        ]
    cql = Cql()
    shown = "count(*)" if counts else ", ".join(columns)
    cql.add(f"SELECT {'DISTINCT ' * distinct}{shown} FROM {shape.name}", before)
    cql.extend(where)
    per_partition = limit = None
    if not distinct and not counts and random.below(4) == 0:
        per_partition = 1 + random.below(3)
        cql.add(" PER PARTITION LIMIT ")
        cql.value(per_partition, "int")
    if not counts and random.below(4) == 0:
        limit = 1 + random.below(8)
        cql.add(" LIMIT ")
        cql.value(limit, "int")
    cql.add(" ALLOW FILTERING" * filters)
    select = Select(
        shape.name,
        ("count",) if counts else tuple(columns),
        counts,
        distinct,
        keys,
        tokens,
        rows,
        equals,
        reverse,
        sorts,
        limit,
        per_partition,
        cql.text(),
    )
    return select, cql
