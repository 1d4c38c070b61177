"""Selectors and the encoding of result rows.

If this fails, clients get wrong values, wrong column names or misplaced nulls.
"""

from __future__ import annotations

import contextlib
import struct
from decimal import Decimal

import pytest
from tests.cql.plan.selecting import NOW_S, Bench, int_bytes, ints, options, split_row
from tests.storage.tables import NORMALIZING, PLAIN, WIDE, table

from ourodb.cql.types.base import CqlType
from ourodb.cql.types.native import BIGINT, DECIMAL, INT, TEXT
from ourodb.cql.types.timeuuid import timeuuid_to_millis
from ourodb.errors import FunctionFailure, InvalidRequest
from ourodb.storage.mutation import MutationBuilder

SCRAMBLED = table([("p", INT)], [("c", INT, False)], [], [("z", TEXT), ("a", INT), ("m", INT)], 1600)
"""Column ids in another order than names, so that ``SELECT *`` isn't the order of the record."""

KEY = [int_bytes(1), int_bytes(2)]
ROW = [int_bytes(3), int_bytes(4)]


def wide() -> Bench:
    bench = Bench(WIDE)
    bench.put(KEY, None, {"s": int_bytes(7)}, elements={"sm": [(b"x", int_bytes(1))]})
    bench.put(KEY, ROW, {"v": int_bytes(5)}, timestamp=100)
    bench.put(
        KEY,
        ROW,
        {"w": int_bytes(6)},
        elements={
            "m": [(b"a", int_bytes(1)), (b"b", int_bytes(2))],
            "e": [(int_bytes(9), b""), (int_bytes(8), b"")],
            "u": [(b"\0\1", b"text")],
        },
        timestamp=200,
        ttl=50,
        marker=False,
    )
    return bench


WHERE = "WHERE p = 1 AND q = 2 AND c = 3 AND d = 4"


def one(selectors: str, bench: Bench | None = None) -> tuple[list[bytes | None], list[str], list[CqlType]]:
    bench = bench or wide()
    text = f"SELECT {selectors} FROM t {WHERE}"
    (row,) = bench.select(text)
    specs = bench.plan(text).specs
    return row, [spec.name for spec in specs], [spec.type for spec in specs]


@pytest.mark.parametrize(
    ("selector", "name", "expected"),
    [
        ("v", "v", 5),
        ("v AS x", "x", 5),
        ("m", "m", [("a", 1), ("b", 2)]),
        ("e", "e", [8, 9]),
        ("u", "u", {"a": None, "b": "text"}),
        ("u.b", "u.b", "text"),
        ("m['b']", "m['b']", 2),
        ("m['b'..]", "m['b'..]", [("b", 2)]),
        ("e[8]", "e[8]", 8),
        ("writetime(v)", "writetime(v)", 100),
        ("writetime(w)", "writetime(w)", 200),
        ("writetime(m)", "writetime(m)", [200, 200]),
        ("writetime(m['a'])", "writetime(m['a'])", 200),
        ("maxwritetime(m)", "maxwritetime(m)", 200),
        ("ttl(w)", "ttl(w)", 50),
        ("ttl(m['a'])", "ttl(m['a'])", 50),
        ("ttl(e)", "ttl(e)", [50, 50]),
        ("v + w", "v + w", 11),
        ("v * 2 - (w)", "v * 2 - (w)", 4),
        ("cast(v AS text)", "cast(v as text)", "5"),
        ("cast(v AS int)", "v", 5),
        ("int_as_blob(v)", "system.int_as_blob(v)", int_bytes(5)),
        ("(bigint) 5", "(bigint)5", 5),
        ("collection_sum(e)", "system.collection_sum(e)", 17),
        ("map_keys(m)", "system.map_keys(m)", ["a", "b"]),
        ("[v, 2]", "[v, 2]", [5, 2]),
        ("(v, u.b)", "(v, u.b)", (5, "text")),
        ("count(*)", "count", 1),
        ("count(1)", "count", 1),
        ("count(l)", "system.count(l)", 0),
        ("max(v)", "system.max(v)", 5),
        ("sum(v) + 1", "system.sum(v) + 1", 6),
    ],
)
def test_selectors(selector: str, name: str, expected: object) -> None:
    (value,), names, (type,) = one(selector)
    assert names == [name]
    assert value is not None
    assert type.decode(value) == expected


@pytest.mark.parametrize("selector", ["l", "writetime(l)", "ttl(v)", "m['zz']", "u.a", "e[1]", "min(l)"])
def test_selectors_without_a_value_are_null(selector: str) -> None:
    (value,), _, _ = one(selector)
    assert value is None


def test_statics_stand_beside_every_row() -> None:
    (row,) = wide().select(f"SELECT s, v FROM t {WHERE}")
    assert ints(row) == (7, 5)
    ((value,),) = wide().select("SELECT sm FROM t WHERE p = 1 AND q = 2")
    assert value is not None
    assert WIDE.columns["sm"].type.decode(value) == [("x", 1)]


def test_token_of_the_partition_key() -> None:
    (value,), names, (type,) = one("token(p, q)")
    assert names == ["system.token(p, q)"]
    assert type is BIGINT
    assert value is not None


def test_select_star_is_in_cassandras_order() -> None:
    _, names, _ = one("*")
    assert names == ["p", "q", "c", "d", "s", "sm", "e", "l", "m", "u", "v", "w"]


def test_values_are_taken_from_records_whatever_their_columns_and_order() -> None:
    """UNIFORM records with all columns, some, and none, and one that isn't UNIFORM, read alike."""
    bench = Bench(SCRAMBLED)
    texts = ("*", "z, a, m", "a, m, z", "m", "p, c, z, a, m", "c, z", "m, p")
    rows: dict[int, dict[str, bytes]] = {
        0: {"z": b"zed", "a": int_bytes(1), "m": int_bytes(2)},
        1: {"m": int_bytes(3)},
        2: {},
        3: {"z": b"", "a": int_bytes(4)},
    }
    for c, values in rows.items():
        bench.put([int_bytes(1)], [int_bytes(c)], values)
    # Two writes of different times: no longer UNIFORM.
    bench.put([int_bytes(1)], [int_bytes(4)], {"z": b"old"})
    bench.put([int_bytes(1)], [int_bytes(4)], {"a": int_bytes(5)}, marker=False)
    rows[4] = {"z": b"old", "a": int_bytes(5)}
    bench.put([int_bytes(1)], [int_bytes(5)], {"z": b"ttl"}, ttl=9)
    rows[5] = {"z": b"ttl"}
    for text in texts:
        plan = bench.plan(f"SELECT {text} FROM t WHERE p = 1")
        names = [spec.name for spec in plan.specs]
        found, _ = bench.page(plan, [])
        expected = [
            [{"p": int_bytes(1), "c": int_bytes(c), **values}.get(name) for name in names]
            for c, values in rows.items()
        ]
        assert found == expected, text
        for c in rows:
            point = bench.point(f"SELECT {text} FROM t WHERE p = 1 AND c = ?", [int_bytes(c)])
            assert point == expected[c], text


def test_equal_clustering_keys_come_back_as_they_were_written() -> None:
    bench = Bench(NORMALIZING)
    written = DECIMAL.parse("1.50")
    bench.put([int_bytes(1)], [written], {"v": int_bytes(1)})
    asked = DECIMAL.parse("1.5")
    assert bench.point("SELECT c, v FROM t WHERE p = 1 AND c = ?", [asked]) == [written, int_bytes(1)]
    assert bench.select("SELECT c, v FROM t WHERE p = 1") == [[written, int_bytes(1)]]


def test_aggregates_over_nothing() -> None:
    row = Bench(PLAIN).select("SELECT count(*), count(v), sum(v), avg(v), min(v), max(v), v, (int) 4 FROM t")
    assert [ints(each) for each in row] == [(0, 0, 0, 0, None, None, None, 4)]
    assert Bench(PLAIN).select("SELECT p, count(*) FROM t GROUP BY p") == []


def test_sums_wrap_as_javas_do() -> None:
    bench = Bench(PLAIN)
    bench.put([int_bytes(1)], [int_bytes(1)], {"v": int_bytes(2**31 - 1)})
    bench.put([int_bytes(1)], [int_bytes(2)], {"v": int_bytes(1)})
    ((total, mean),) = bench.select("SELECT sum(v), avg(v) FROM t WHERE p = 1")
    assert total == int_bytes(-(2**31))
    assert mean == int_bytes(2**30)


def test_a_statement_that_aggregates_everything_says_so() -> None:
    bench = Bench(PLAIN)
    assert bench.plan("SELECT count(*) FROM t").warnings == ["Aggregation query used without partition key"]
    assert bench.plan("SELECT count(*) FROM t WHERE p IN (1, 2)").warnings == [
        "Aggregation query used on multiple partition keys (IN restriction)"
    ]
    assert bench.plan("SELECT count(*) FROM t WHERE p = 1").warnings == []


@pytest.mark.parametrize(
    "text",
    [
        "SELECT v FROM t WHERE p = 1 AND c = 1 LIMIT ?",
        "SELECT DISTINCT p FROM t WHERE p = 1",
        "SELECT v FROM t WHERE p = 1",
        "SELECT v FROM t WHERE p = 1 AND c IN (1, 2)",
        "SELECT v FROM t WHERE p = 1 AND c = 1 AND v = 2 ALLOW FILTERING",
        "SELECT writetime(v) FROM t WHERE p = 1 AND c = 1",
        "SELECT count(*) FROM t WHERE p = 1 AND c = 1",
    ],
)
def test_what_is_more_than_a_row_has_no_fast_path(text: str) -> None:
    assert Bench(PLAIN).plan(text).point is None


def test_now_differs_from_row_to_row_but_not_its_moment() -> None:
    bench = Bench(PLAIN)
    for c in range(2):
        bench.put([int_bytes(1)], [int_bytes(c)])
    (first,), (second,) = bench.select("SELECT now() FROM t WHERE p = 1")
    assert first is not None
    assert second is not None
    assert first != second
    assert timeuuid_to_millis(first) == timeuuid_to_millis(second)


def test_metadata_has_the_columns_of_the_result() -> None:
    plan = Bench(PLAIN).plan("SELECT v AS x, c FROM t WHERE p = 1")
    body = plan.metadata(5).rows(0, ())
    kind, flags, count = struct.unpack_from(">iii", body)
    assert (kind, flags & 1, count) == (2, 1, 2)
    assert b"\0\2ks\0\1t\0\1x\0\x09\0\1c\0\x09" in body
    assert plan.metadata(5) is plan.metadata(5)


def test_ttl_counts_from_the_requests_now() -> None:
    bench = wide()
    at = options()
    at.now_s = NOW_S + 20
    plan = bench.plan(f"SELECT ttl(w) FROM t {WHERE}")
    encode = plan.bind([], at).encode
    row = bench.rows.get_row(bench.rows.keys.position(KEY), bench.rows.keys.clustering(ROW), at.now_s)
    assert encode is not None
    assert split_row(encode(row)) == [int_bytes(30)]  # type: ignore[arg-type]


def test_elements_that_are_not_set_or_null_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="Invalid null value for element selection on m"):
        wide().select(f"SELECT m[?] FROM t {WHERE}", [None])


@pytest.mark.parametrize(
    "text",
    [
        f"SELECT {'[' * 60}v{']' * 60} FROM t",
        f"SELECT {'(v, ' * 60}v{')' * 60} FROM t",
        f"SELECT {'abs(' * 60}v{')' * 60} FROM t",
        f"SELECT v FROM t WHERE v = {'1 + (' * 60}(int) ?{')' * 60} ALLOW FILTERING",
        f"SELECT v FROM t WHERE v = {'abs(' * 60}?{')' * 60} ALLOW FILTERING",
    ],
)
def test_what_is_deep_is_analysed_once(text: str) -> None:
    """If each level were looked at twice by the one above, this would never end."""
    with contextlib.suppress(InvalidRequest):
        Bench(PLAIN).plan(text)


def test_a_row_that_was_deleted_and_inserted_again_has_its_values() -> None:
    """The record of such a row holds its deletion before the cells."""
    bench = Bench(SCRAMBLED)
    builder = MutationBuilder(bench.rows.keys, bench.rows.keys.position([int_bytes(1)]), 5, NOW_S)
    builder.row([int_bytes(2)]).delete()
    mutation = builder.build()
    assert mutation is not None
    bench.rows.apply(mutation, NOW_S)
    bench.put([int_bytes(1)], [int_bytes(2)], {"z": b"z", "a": int_bytes(8), "m": int_bytes(9)}, timestamp=6)
    for selectors, expected in (
        ("*", [int_bytes(1), int_bytes(2), int_bytes(8), int_bytes(9), b"z"]),
        ("m, z", [int_bytes(9), b"z"]),
        ("a", [int_bytes(8)]),
    ):
        assert bench.select(f"SELECT {selectors} FROM t") == [expected]
        assert bench.point(f"SELECT {selectors} FROM t WHERE p = 1 AND c = 2") == expected


@pytest.mark.parametrize("function", ["sum", "avg"])
@pytest.mark.parametrize("exponents", [(20_000,), (999_999_999, 1_000_000_000), (2_000_000_000,)])
def test_decimals_with_too_many_digits_fail_as_a_function(function: str, exponents: tuple[int, ...]) -> None:
    """A sum is rounded where it can't be exact, and so fits more often."""
    numbers = table([("p", INT)], [("c", INT, False)], [], [("v", DECIMAL)], 1602)
    bench = Bench(numbers)
    for number, exponent in enumerate(exponents):
        bench.put([int_bytes(1)], [int_bytes(number)], {"v": struct.pack(">iB", -exponent, 9)})
    text = f"SELECT {function}(v) FROM t WHERE p = 1"
    if function == "sum" and exponents == (20_000,):
        assert bench.select(text)
        return
    with pytest.raises(FunctionFailure, match=rf"system\.{function}\[decimal\]"):
        bench.select(text)


@pytest.mark.parametrize("page_size", [0, 1])
def test_equal_clustering_values_are_one_group_however_written(page_size: int) -> None:
    decimals = table([("p", INT)], [("c", DECIMAL, False), ("d", INT, False)], [], [("v", INT)], 1603)
    bench = Bench(decimals)
    for number, text in enumerate(("1.0", "1.00", "1.0", "2", "2.0")):
        clustering = [DECIMAL.encode(Decimal(text)), int_bytes(number)]
        bench.put([int_bytes(1)], clustering, {"v": int_bytes(1)})
    found = bench.select("SELECT count(*) FROM t WHERE p = 1 GROUP BY c", page_size=page_size)
    assert found == [[BIGINT.encode(3)], [BIGINT.encode(2)]]
    found = bench.select("SELECT count(*) FROM t WHERE p = 1 GROUP BY c, d", page_size=page_size)
    assert found == [[BIGINT.encode(1)]] * 5
