"""WHERE, DISTINCT, GROUP BY and ORDER BY: what is refused, and in which words.

The texts are Apache Cassandra 5's; drivers' users search for them.
"""

from __future__ import annotations

import pytest
from tests.cql.plan.selecting import Bench, int_bytes
from tests.storage.tables import PLAIN, WIDE, table

from ourodb import limits
from ourodb.cql.analysis.restrictions.statement import NEEDS_FILTERING
from ourodb.cql.types.native import INT, TEXT
from ourodb.cql.wire.primitives import UNSET
from ourodb.errors import InvalidRequest

DECLARED_ORDER = (
    "Order by currently only supports the ordering of columns following "
    "their declared order in the PRIMARY KEY"
)

KEYED_BY_TEXT = table([("p", TEXT)], [("c", INT, False)], [], [("v", INT)], 1500)


def refused(text: str, bench: Bench | None = None) -> str:
    with pytest.raises(InvalidRequest) as caught:
        (bench or Bench(WIDE)).plan(text)
    return caught.value.message


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("x = 1", "Undefined column name x in table ks.t"),
        ("p = 1", NEEDS_FILTERING),
        ("p > 1 AND q = 1", NEEDS_FILTERING),
        ("v = 1", NEEDS_FILTERING),
        ("c = 1", NEEDS_FILTERING),
        ("p = 1 AND q = 1 AND v = 1", NEEDS_FILTERING),
        ("p = 1 AND p = 2", "p cannot be restricted by more than one relation if it includes an Equal"),
        ("p IN (1, 2) AND p = 2", "p cannot be restricted by more than one relation if it includes a IN"),
        (
            "p = 1 AND q = 1 AND d = 1",
            'PRIMARY KEY column "d" cannot be restricted as preceding column "c" is not restricted',
        ),
        (
            "p = 1 AND q = 1 AND c > 1 AND d = 1",
            'Clustering column "d" cannot be restricted (preceding column "c" is restricted by a non-EQ relation)',
        ),
        (
            "p = 1 AND q = 1 AND d = 1 AND c > 1",
            'PRIMARY KEY column "d" cannot be restricted (preceding column "c" is restricted by a non-EQ relation)',
        ),
        (
            "p = 1 AND q = 1 AND c > 1 AND c >= 2",
            "More than one restriction was found for the start bound on c",
        ),
        ("p = 1 AND q = 1 AND c < 1 AND c < 2", "More than one restriction was found for the end bound on c"),
        (
            "p = 1 AND q = 1 AND c > 1 AND c = 2",
            'Column "c" cannot be restricted by both an equality and an inequality relation',
        ),
        ("p = 1 AND q = 1 AND c != 1", 'Unsupported "!=" relation: c != 1'),
        (
            "p = 1 AND q = 1 AND (d, c) = (1, 2)",
            "Clustering columns must appear in the PRIMARY KEY order in multi-column relations: (d, c) = (1, 2)",
        ),
        (
            "p = 1 AND q = 1 AND (c, v) = (1, 2)",
            "Multi-column relations can only be applied to clustering columns but was applied to: v",
        ),
        ("p = 1 AND q = 1 AND (c, d) = (1)", "Expected 2 elements in value tuple, but got 1: (1)"),
        (
            "token(p) > 1",
            "The token() function must be applied to all partition key components or none of them",
        ),
        ("token(q, p) > 1", "The token function arguments must be in the partition key order: p, q"),
        (
            "token(p, q) > 1 AND token(p, q) > 2",
            "More than one restriction was found for the start bound on p, q",
        ),
        ("v CONTAINS 1", "Cannot use CONTAINS on non-collection column v"),
        ("e CONTAINS KEY 1", "Cannot use CONTAINS KEY on non-map column e"),
        ("e = {1}", "Collection column 'e' (set<int>) cannot be restricted by a '=' relation"),
        ("u = {a: 1}", "Non-frozen UDT column 'u' (u) cannot be restricted by any relation"),
        ("m['a'] > 1", "Only EQ relations are supported on map entries"),
        ("l[0] = 1", "Indexes on list entries (l[index] = value) are not currently supported."),
        ("v = 'x'", 'Invalid STRING constant (x) for "v" of type int'),
    ],
)
def test_where_is_refused(where: str, message: str) -> None:
    assert refused(f"SELECT * FROM t WHERE {where}") == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "SELECT DISTINCT v FROM t",
            "SELECT DISTINCT queries must only request partition key columns and/or static columns (not v)",
        ),
        (
            "SELECT DISTINCT p, s FROM t",
            "SELECT DISTINCT queries must request all the partition key columns (missing q)",
        ),
        (
            "SELECT DISTINCT p, q FROM t WHERE p = 1 AND q = 1 AND c = 1",
            "SELECT DISTINCT with WHERE clause only supports restriction by partition key and/or static columns.",
        ),
        (
            "SELECT DISTINCT p, q FROM t PER PARTITION LIMIT 1",
            "PER PARTITION LIMIT is not allowed with SELECT DISTINCT queries",
        ),
        (
            "SELECT count(*) FROM t PER PARTITION LIMIT 1",
            "PER PARTITION LIMIT is not allowed with aggregate queries.",
        ),
        (
            "SELECT s FROM t WHERE p = 1 AND q = 1 AND c = 1",
            "Cannot restrict clustering columns when selecting only static columns",
        ),
        (
            "SELECT * FROM t ORDER BY c",
            "ORDER BY is only supported when the partition key is restricted by an EQ or an IN.",
        ),
        (
            "SELECT * FROM t WHERE p = 1 AND q = 1 ORDER BY v",
            "Order by is currently only supported on the clustered columns of the PRIMARY KEY, got v",
        ),
        (
            "SELECT * FROM t WHERE p = 1 AND q = 1 ORDER BY d",
            DECLARED_ORDER,
        ),
        ("SELECT * FROM t WHERE p = 1 AND q = 1 ORDER BY c, d", "Unsupported order by relation"),
        (
            "SELECT p, count(*) FROM t GROUP BY p",
            "Group by is not supported on only a part of the partition key",
        ),
        (
            "SELECT p, count(*) FROM t GROUP BY p, q, v",
            "Group by is currently only supported on the columns of the PRIMARY KEY, got v",
        ),
        (
            "SELECT p, count(*) FROM t GROUP BY q",
            "Group by currently only support groups of columns following their declared order in the PRIMARY KEY",
        ),
        ("SELECT nope(v) FROM t", "Unknown function 'nope'"),
        (
            "SELECT sum(max(v)) FROM t",
            "aggregate functions cannot be used as arguments of aggregate functions",
        ),
        ("SELECT writetime(c) FROM t", "Cannot use selection function writetime on PRIMARY KEY part c"),
        ("SELECT l[0] FROM t", "Element selection is only allowed on sets and maps, but l is a list"),
        ("SELECT v.a FROM t", "Invalid field selection: v of type int is not a user type"),
        ("SELECT u.z FROM t", "u of type u has no field z"),
        (
            "SELECT ? FROM t",
            "Cannot infer type for term ? in selection clause (try using a cast to force a type)",
        ),
        ("SELECT JSON v FROM t", "SELECT JSON is not supported yet"),
    ],
)
def test_select_is_refused(text: str, message: str) -> None:
    assert refused(text) == message


def test_allow_filtering_permits_it() -> None:
    bench = Bench(PLAIN)
    for c in range(4):
        bench.put([int_bytes(1)], [int_bytes(c)], {"v": int_bytes(c % 2)})
    rows = bench.select("SELECT c FROM t WHERE v = 1 ALLOW FILTERING")
    assert rows == [[int_bytes(1)], [int_bytes(3)]]


@pytest.mark.parametrize(
    ("text", "values", "message"),
    [
        ("SELECT v FROM t WHERE p = ? AND c = 1", [None], "Invalid null value in condition for column p"),
        ("SELECT v FROM t WHERE p = ? AND c = 1", [UNSET], "Invalid unset value for column p"),
        ("SELECT v FROM t WHERE p = 1 AND c = ?", [None], "Invalid null value in condition for column c"),
        ("SELECT v FROM t WHERE p = 1 AND c > ?", [UNSET], "Invalid unset value for column c"),
        ("SELECT v FROM t WHERE p = 1 AND c IN ?", [None], "Invalid null value for column c"),
        ("SELECT v FROM t WHERE p IN (1, ?)", [None], "Invalid null value in condition for column p"),
        ("SELECT v FROM t WHERE token(p) > ?", [None], "Invalid null token value"),
        ("SELECT v FROM t WHERE v = ? ALLOW FILTERING", [None], "Unsupported null value for column v"),
        ("SELECT v FROM t WHERE v = ? ALLOW FILTERING", [UNSET], "Unsupported unset value for column v"),
        ("SELECT v FROM t LIMIT ?", [None], "Invalid null value of limit"),
        ("SELECT v FROM t LIMIT ?", [int_bytes(0)], "LIMIT must be strictly positive"),
        ("SELECT v FROM t LIMIT 0", [], "LIMIT must be strictly positive"),
        ("SELECT v FROM t LIMIT ?", [b"\1"], "Invalid limit value"),
        ("SELECT v FROM t WHERE p = ?", [b""], "Key may not be empty"),
    ],
)
def test_bound_values_are_refused(text: str, values: list[object], message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Bench(PLAIN).select(text, values)
    assert caught.value.message == message


def test_a_limit_that_is_not_set_is_no_limit() -> None:
    bench = Bench(PLAIN)
    for c in range(3):
        bench.put([int_bytes(1)], [int_bytes(c)])
    assert len(bench.select("SELECT c FROM t LIMIT ?", [UNSET])) == 3


def test_partition_keys_have_a_greatest_length() -> None:
    bench = Bench(KEYED_BY_TEXT)
    assert bench.select("SELECT v FROM t WHERE p = ?", [b"x" * 65_535]) == []
    with pytest.raises(InvalidRequest, match="Key length of 65536 is longer than maximum of 65535"):
        bench.select("SELECT v FROM t WHERE p = ?", [b"x" * 65_536])
    assert bench.select("SELECT v FROM t WHERE p IN ('a', ?)", [b"b"]) == []


def test_in_lists_cannot_multiply_without_bound() -> None:
    """Two short lists must not make the node build millions of slices."""
    several = ", ".join("?" * 300)
    text = f"SELECT v FROM t WHERE p IN ({several}) AND q IN ({several})"
    values = [int_bytes(n) for n in range(600)]
    with pytest.raises(InvalidRequest, match=f"multiply to 90000 keys; at most {limits.KEYS_PER_SELECT_MAX}"):
        Bench(WIDE).select(text, values)


def test_partitions_of_an_in_come_in_order_of_their_keys_each_once() -> None:
    bench = Bench(PLAIN)
    for p in (3, -1, 2):
        bench.put([int_bytes(p)], [int_bytes(0)])
    rows = bench.select("SELECT p FROM t WHERE p IN (3, 2, -1, 3, 9)")
    assert rows == [[int_bytes(-1)], [int_bytes(2)], [int_bytes(3)]]


@pytest.mark.parametrize(
    ("text", "names", "key"),
    [
        ("SELECT v FROM t WHERE p = ? AND c = ?", ["p", "c"], (0,)),
        ("SELECT v FROM t WHERE c > ? AND p = :key LIMIT ?", ["c", "key", "[limit]"], (1,)),
        ("SELECT v FROM t WHERE p IN ?", ["in(p)"], ()),
        ("SELECT v FROM t WHERE token(p) > ?", ["partition key token"], ()),
        ("SELECT v FROM t WHERE p = 1 AND (c) IN ?", ["in(c)"], ()),
        ("SELECT v FROM t PER PARTITION LIMIT ?", ["[per_partition_limit]"], ()),
        ("SELECT (int) ? FROM t", ["[selection]"], ()),
    ],
)
def test_markers_have_the_names_that_clients_rely_on(
    text: str, names: list[str], key: tuple[int, ...]
) -> None:
    plan = Bench(PLAIN).plan(text)
    assert [spec.name for spec in plan.variables] == names
    assert plan.partition_key_indexes == key
