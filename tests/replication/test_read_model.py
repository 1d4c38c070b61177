"""SELECT gives what a naive evaluation over plain Python rows gives, whole and in pages of any size.

If this fails, slices, filters, orders, limits, groups or paging states find too much, too little, or the wrong order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby, product
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cql.plan.selecting import Bench, int_bytes, ints
from tests.storage.tables import table

from ourodb.cql.types.murmur3 import token
from ourodb.cql.types.native import INT
from ourodb.storage.keys import composite

TABLE = table(
    [("p", INT), ("q", INT)],
    [("a", INT, False), ("b", INT, True), ("c", INT, False)],
    [("s", INT)],
    [("v", INT), ("w", INT)],
    incarnation=2000,
)

small = st.integers(0, 2)
Key = tuple[int, ...]


@dataclass
class ModelRow:
    """A row of the result before anything is selected; clustering None where a partition has only statics."""

    key: Key
    clustering: Key | None
    columns: dict[str, int | None]

    def __getitem__(self, name: str) -> int | None:
        return self.columns.get(name)


Data = dict[Key, tuple[int | None, dict[Key, dict[str, int]]]]


def random_data(seed: int) -> Data:
    """Some partitions: full, sparse, with statics alone. Drawn by a seed, so that most are large."""
    draw = Random(seed)
    found: Data = {}
    for key in product(range(3), range(2)):
        static = draw.choice([None, None, 0, 1, 2])
        rows: dict[Key, dict[str, int]] = {}
        for clustering in draw.sample(list(product(range(3), repeat=3)), draw.choice([0, 0, 1, 3, 8, 14])):
            rows[clustering] = {name: draw.randrange(3) for name in "vw" if draw.random() < 0.8}
        if static is not None or rows:
            found[key] = (static, rows)
    return found


data = st.builds(random_data, st.integers(0, 1 << 32))


def load(model: Data) -> Bench:
    bench = Bench(TABLE)
    for key, (static, rows) in model.items():
        partition = [int_bytes(part) for part in key]
        if static is not None:
            bench.put(partition, None, {"s": int_bytes(static)})
        for clustering, values in rows.items():
            bench.put(
                partition,
                [int_bytes(part) for part in clustering],
                {name: int_bytes(value) for name, value in values.items()},
            )
    return bench


def token_of(key: Key) -> int:
    return token(composite([int_bytes(part) for part in key]))


def storage_order(clustering: Key) -> Key:
    a, b, c = clustering
    return a, -b, c


def all_rows(model: Data, keys: list[Key], reverse: bool, static_alone: bool) -> list[ModelRow]:
    found = []
    for key in keys:
        static, rows = model.get(key, (None, {}))
        base: dict[str, int | None] = {"p": key[0], "q": key[1], "s": static}
        for clustering in sorted(rows, key=storage_order, reverse=reverse):
            columns = base | dict(zip("abc", clustering, strict=True)) | rows[clustering]
            found.append(ModelRow(key, clustering, columns))
        if not rows and static is not None and static_alone:
            found.append(ModelRow(key, None, base))
    return found


Predicate = Callable[[ModelRow], bool]


@dataclass
class Query:
    """A SELECT and what it means."""

    where: list[str]
    predicates: list[Predicate]
    keys: list[Key] | None
    """In order; None for all, by token."""
    tokens: Callable[[int], bool]
    key_is_in: bool
    restricts_rows: bool
    filtering: bool
    reverse: bool
    order: str
    limit: int | None
    per_partition: int | None
    distinct: bool
    group: int
    """Of GROUP BY p, q and so many clustering columns; -1: none."""

    def text(self) -> str:
        if self.distinct:
            columns = "DISTINCT p, q, s"
        elif self.group >= 0:
            columns = "p, q, a, v, count(*), sum(w), min(c)"
        else:
            columns = "p, q, a, b, c, s, w, v"
        parts = [f"SELECT {columns} FROM t"]
        if self.where:
            parts.append("WHERE " + " AND ".join(self.where))
        if self.group >= 0:
            parts.append("GROUP BY " + ", ".join("pqabc"[: 2 + self.group]))
        if self.order:
            parts.append(self.order)
        if self.per_partition is not None:
            parts.append(f"PER PARTITION LIMIT {self.per_partition}")
        if self.limit is not None:
            parts.append(f"LIMIT {self.limit}")
        if self.filtering:
            parts.append("ALLOW FILTERING")
        return " ".join(parts)

    def answer(self, model: Data) -> list[tuple[int | None, ...]]:
        keys = self.keys
        if keys is None:
            keys = [key for key in sorted(model, key=token_of) if self.tokens(token_of(key))]
        rows = [
            row
            for row in all_rows(model, keys, self.reverse, not self.restricts_rows)
            if all(test(row) for test in self.predicates)
        ]
        results: list[tuple[int | None, ...]] = []
        for _, of_partition in groupby(rows, lambda row: row.key):
            results += self._of_partition(list(of_partition))[: self.per_partition]
        if self.key_is_in and self.order:
            # Rows of several partitions, sorted by the clustering columns; those without come last.
            sign = -1 if self.reverse else 1

            def order(result: tuple[int | None, ...]) -> tuple[bool, int]:
                return result[2] is None, 0 if result[2] is None else sign * result[2]

            results.sort(key=order)
        return results[: self.limit]

    def _of_partition(self, rows: list[ModelRow]) -> list[tuple[int | None, ...]]:
        if self.distinct:
            return [(rows[0]["p"], rows[0]["q"], rows[0]["s"])]
        if self.group < 0:
            return [tuple(row[name] for name in ("p", "q", "a", "b", "c", "s", "w", "v")) for row in rows]
        found = []
        for _, group in groupby(rows, lambda row: (row.clustering or ())[: self.group]):
            first, *_ = members = list(group)
            cs = [row["c"] for row in members if row["c"] is not None]
            found.append(
                (
                    *(first[name] for name in ("p", "q", "a", "v")),
                    len(members),
                    sum(row["w"] or 0 for row in members),
                    min(cs, default=None),
                )
            )
        return found


def compare(op: str, left: object, right: object) -> bool:
    if left is None:
        return False
    tests: dict[str, bool] = {
        "=": left == right,
        "<": left < right,  # type: ignore[operator]
        "<=": left <= right,  # type: ignore[operator]
        ">": left > right,  # type: ignore[operator]
        ">=": left >= right,  # type: ignore[operator]
    }
    return tests[op]


def of_column(name: str, op: str, value: int) -> tuple[str, Predicate]:
    return f"{name} {op} {value}", lambda row: compare(op, row[name], value)


def one_of(name: str, values: list[int]) -> tuple[str, Predicate]:
    return f"{name} IN ({', '.join(map(str, values))})", lambda row: row[name] in values


def of_tuple(names: str, op: str, values: Key) -> tuple[str, Predicate]:
    def test(row: ModelRow) -> bool:
        found = tuple(row[name] for name in names)
        return None not in found and compare(op, found, values)

    return f"({', '.join(names)}) {op} ({', '.join(map(str, values))})", test


@st.composite
def clustering_relations(draw: st.DrawFn) -> list[tuple[str, Predicate]]:
    """Those that find rows by key: equalities and INs, then perhaps slices, of one column or several."""
    found = []
    equal = draw(st.sampled_from([0, 0, 0, 1, 1, 2, 3]))
    for name in "abc"[:equal]:
        if draw(st.booleans()):
            found.append(of_column(name, "=", draw(small)))
        else:
            found.append(one_of(name, draw(st.lists(small, min_size=0, max_size=4))))
    rest = "abc"[equal:]
    if rest:
        for ops in ([">", ">="], ["<", "<="]):
            shape = draw(st.sampled_from(["none", "none", "single", "tuple"]))
            op = draw(st.sampled_from(ops))
            if shape == "single":
                found.append(of_column(rest[0], op, draw(small)))
            elif shape == "tuple":
                names = rest[: draw(st.integers(1, len(rest)))]
                found.append(of_tuple(names, op, tuple(draw(small) for _ in names)))
    return found


@st.composite
def queries(draw: st.DrawFn) -> Query:
    query = Query([], [], None, lambda token: True, False, False, False, False, "", None, None, False, -1)
    by = draw(st.sampled_from(["key", "in", "all", "token"]))
    if by == "key":
        p, q = draw(st.integers(0, 2)), draw(st.integers(0, 1))
        query.where, query.keys = [f"p = {p}", f"q = {q}"], [(p, q)]
    elif by == "in":
        ps, qs = (draw(st.lists(st.integers(0, 2), min_size=2, max_size=3)) for _ in "pq")
        query.where = [one_of("p", ps)[0], one_of("q", qs)[0]]
        query.keys = sorted({(p, q) for p in ps for q in qs})
        query.key_is_in = True
    elif by == "token":
        near = token_of((draw(st.integers(0, 2)), draw(st.integers(0, 2))))
        op = draw(st.sampled_from(["<", "<=", ">", ">=", "="]))
        query.where = [f"token(p, q) {op} {near}"]
        query.tokens = lambda token: compare(op, token, near)
    kind = draw(st.sampled_from(["rows", "rows", "distinct", "group"]))
    query.distinct = kind == "distinct"
    if not query.distinct:
        relations = draw(clustering_relations())
        query.restricts_rows = bool(relations)
        # Rows in a range of partitions are looked for one by one, which must be allowed.
        query.filtering = bool(relations) and query.keys is None
        if draw(st.integers(0, 3)) == 3:
            relations.append(of_column(draw(st.sampled_from("vw")), "=", draw(small)))
            query.restricts_rows = query.filtering = True
        query.where += [text for text, _ in relations]
        query.predicates = [test for _, test in relations]
        if query.keys is not None and draw(st.booleans()):
            descending = draw(st.booleans())
            query.order = f"ORDER BY a {'DESC' if descending else 'ASC'}"
            query.reverse = descending
        query.per_partition = draw(st.none() | st.integers(1, 3))
    if kind == "group":
        query.group = draw(st.integers(0, 3))
    query.limit = draw(st.none() | st.integers(1, 12))
    return query


@settings(max_examples=300)
@given(data, queries())
def test_select_is_what_it_means(model: Data, query: Query) -> None:
    bench = load(model)
    text = query.text()
    expected = query.answer(model)
    assert [ints(row) for row in bench.select(text)] == expected, text
    if query.key_is_in and query.order:
        return  # such a statement can't be paged
    for page_size in (1, 2, 3, 7):
        paged = [ints(row) for row in bench.select(text, page_size=page_size)]
        assert paged == expected, (text, page_size)


@settings(max_examples=60)
@given(data, st.tuples(st.integers(0, 2), st.integers(0, 2)), st.tuples(small, small, small))
def test_the_fast_path_reads_the_same_row(model: Data, key: Key, clustering: Key) -> None:
    bench = load(model)
    values = [int_bytes(part) for part in (*key, *clustering)]
    for columns in ("*", "p, q, a, b, c, v, w", "w, v", "v", "s, v, c"):
        text = f"SELECT {columns} FROM t WHERE p = ? AND q = ? AND a = ? AND b = ? AND c = ?"
        assert bench.plan(text).point is not None
        row = bench.point(text, values)
        assert bench.select(text, values) == ([] if row is None else [row]), columns
