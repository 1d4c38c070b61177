"""Terms: which literals fit which types, what they become, and Cassandra's words where they don't.

Texts are those of Apache Cassandra 5's classes ``Constants``, ``Lists``, ``Sets``, ``Maps``, ``Tuples``, ``UserTypes``.
"""

from __future__ import annotations

import pytest
from tests.cql.plan.selecting import CountingRandom, FixedClock, int_bytes, options, schema_of
from tests.storage.tables import PLAIN

from ourodb.cql.analysis.terms import ColumnSpec, Computed, Constant, Context, Marker, prepare
from ourodb.cql.syntax import ast
from ourodb.cql.syntax.parser import parse
from ourodb.cql.types import native
from ourodb.cql.types.base import CqlType
from ourodb.cql.types.collection import ListType, MapType, SetType
from ourodb.cql.types.composite import TupleType, UserType
from ourodb.cql.types.vector import VectorType
from ourodb.cql.wire.primitives import UNSET, Value
from ourodb.errors import FunctionFailure, InvalidRequest, RequestError

UDT = UserType("ks", "u", ("a", "b"), (native.INT, native.TEXT))
PAIR = TupleType((native.INT, native.TEXT))


def bound(text: str, type: CqlType) -> tuple[Constant | Marker | Computed, Context]:
    """The term prepared for a column ``v`` of that type."""
    statement = parse(f"INSERT INTO ks.t (v) VALUES ({text})")
    assert isinstance(statement, ast.Insert)
    context = Context(schema_of(PLAIN), "ks", statement.markers)
    return prepare(statement.values[0], ColumnSpec("ks", "t", "v", type), context), context


def value_of(text: str, type: CqlType, values: list[Value] | None = None) -> Value:
    term, _ = bound(text, type)
    return term.evaluate(values or [], options())


@pytest.mark.parametrize(
    ("text", "type", "expected"),
    [
        ("5", native.INT, 5),
        ("5", native.VARINT, 5),
        ("5", native.DOUBLE, 5.0),
        ("'abc'", native.TEXT, "abc"),
        ("TRUE", native.BOOLEAN, True),
        ("[3, 1]", ListType(native.INT), [3, 1]),
        ("{3, 1, 3}", SetType(native.INT), [1, 3]),
        ("{2: 'b', 1: 'a', 2: 'c'}", MapType(native.INT, native.TEXT), [(1, "a"), (2, "c")]),
        ("{}", MapType(native.INT, native.TEXT), []),
        ("(1, 'x')", PAIR, (1, "x")),
        ("(1, null)", PAIR, (1, None)),
        ("{a: 1}", UDT, {"a": 1, "b": None}),
        ("[1, 2, 3]", VectorType(native.FLOAT, 3), [1.0, 2.0, 3.0]),
        ("(int) 7", native.INT, 7),
        ("(7)", native.INT, 7),
        ("1 + 2 * 3", native.INT, 7),
        ("-(4)", native.INT, -4),
        ("7 / 2", native.INT, 3),
        ("-7 % 4", native.INT, -3),
        ("int_as_blob(1)", native.BLOB, b"\0\0\0\1"),
        ("blobAsInt(0x00000009)", native.INT, 9),
    ],
)
def test_literals_become_values(text: str, type: CqlType, expected: object) -> None:
    term, _ = bound(text, type)
    assert isinstance(term, Constant), "what needs no bound value is computed once"
    assert term.value is not None
    assert type.decode(term.value) == expected


@pytest.mark.parametrize(
    ("text", "type", "message"),
    [
        ("'abc'", native.INT, 'Invalid STRING constant (abc) for "v" of type int'),
        ("1.5", native.INT, 'Invalid FLOAT constant (1.5) for "v" of type int'),
        ("0x01", native.INT, 'Invalid HEX constant (0x01) for "v" of type int'),
        ("1", native.TEXT, 'Invalid INTEGER constant (1) for "v" of type text'),
        ("true", native.TEXT, 'Invalid BOOLEAN constant (true) for "v" of type text'),
        ("1", ListType(native.INT), 'Invalid INTEGER constant (1) for "v" of type list<int>'),
        ("['a']", ListType(native.INT), "Invalid list literal for v: value 'a' is not of type int"),
        ("{1}", ListType(native.INT), "Invalid set literal for v of type list<int>"),
        ("[1]", native.INT, "Unexpected receiver type 'int'; only list and vector are expected"),
        ("{'a'}", SetType(native.INT), "Invalid set literal for v: value 'a' is not of type int"),
        ("{1: 2}", SetType(native.INT), "Invalid map literal for v of type set<int>"),
        (
            "{'a': 1}",
            MapType(native.INT, native.INT),
            "Invalid map literal for v: key 'a' is not of type int",
        ),
        (
            "{1: 'a'}",
            MapType(native.INT, native.INT),
            "Invalid map literal for v: value 'a' is not of type int",
        ),
        (
            "[?]",
            ListType(native.INT),
            "Invalid list literal for v: bind variables are not supported inside collection literals",
        ),
        ("[null]", ListType(native.INT), "null is not supported inside collections"),
        (
            "(1, 'a', 2)",
            PAIR,
            "Invalid tuple literal for v: too many elements. Type frozen<tuple<int, text>> expects 2 but got 3",
        ),
        ("('a', 'b')", PAIR, "Invalid tuple literal for v: component 0 is not of type int"),
        ("(1, 2)", native.INT, "Invalid tuple type literal for v of type int"),
        ("{a: 'x'}", UDT, "Invalid user type literal for v: field a is not of type int"),
        ("{z: 1}", UDT, "Unknown field 'z' in value of user defined type u"),
        ("{a: 1}", native.INT, "Invalid user type literal for v of type int"),
        (
            "[1, 2]",
            VectorType(native.FLOAT, 3),
            "Invalid vector literal for v of type vector<float, 3>; expected 3 elements, but given 2",
        ),
        ("(text) 1", native.TEXT, "Cannot cast value 1 to type text"),
        ("(int) 1", native.TEXT, "Cannot assign value (int)1 to v of type text"),
        ("nope(1)", native.INT, "Unknown function nope called"),
        (
            "uuid()",
            native.INT,
            "Type error: cannot assign result of function system.uuid (type uuid) to v (type int)",
        ),
        (
            "now(1)",
            native.TIMEUUID,
            "Invalid number of arguments in call to function system.now: 0 required but 1 provided",
        ),
        (
            "int_as_blob('x')",
            native.BLOB,
            "Type error: 'x' cannot be passed as argument 0 of function system.int_as_blob of type int",
        ),
        (
            "? + 1",
            native.INT,
            "Ambiguous '+' operation with args ? and 1: use type hint to disambiguate, example '(int) ?'",
        ),
        ("count(1)", native.BIGINT, "Aggregation function are not supported in the where clause"),
        ("'a' - 'b'", native.TEXT, "the '-' operation is not supported between 'a' and 'b'"),
        ("0x123", native.BLOB, "cannot parse '123' as hex bytes"),
    ],
)
def test_misfits_are_refused_in_cassandras_words(text: str, type: CqlType, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        bound(text, type)
    assert caught.value.message == message


def test_division_by_zero_is_a_failed_function() -> None:
    with pytest.raises(FunctionFailure) as caught:
        bound("1 / 0", native.INT)
    assert caught.value.message == "the operation 'int / int' failed: / by zero"


def test_markers_are_validated_and_put_in_order() -> None:
    term, context = bound("?", SetType(native.INT, frozen=True))
    assert isinstance(term, Marker)
    assert term.index == 0
    unsorted = (2).to_bytes(4, "big") + b"".join(b"\0\0\0\4" + int_bytes(n) for n in (9, 1))
    ordered = (2).to_bytes(4, "big") + b"".join(b"\0\0\0\4" + int_bytes(n) for n in (1, 9))
    assert term.evaluate([unsorted], options()) == ordered
    assert term.evaluate([None], options()) is None
    assert term.evaluate([UNSET], options()) is UNSET
    with pytest.raises(RequestError):
        term.evaluate([b"\0\0\0\1"], options())
    assert [spec.name for spec in context.bound_variables()] == ["v"]


def test_markers_are_named_for_what_they_are_inside_of() -> None:
    term, context = bound("(?, :second)", PAIR)
    assert isinstance(term, Computed)
    assert [spec.name for spec in context.bound_variables()] == ["v[0]", "second"]
    value = term.evaluate([int_bytes(4), b"x"], options())
    assert isinstance(value, bytes)
    assert PAIR.decode(value) == (4, "x")
    with pytest.raises(InvalidRequest, match="Invalid unset value for tuple field number 1"):
        term.evaluate([int_bytes(4), UNSET], options())


def test_an_argument_that_is_not_set_is_refused() -> None:
    term, context = bound("int_as_blob(?)", native.BLOB)
    assert [spec.name for spec in context.bound_variables()] == ["arg0(system.int_as_blob)"]
    assert term.evaluate([int_bytes(3)], options()) == int_bytes(3)
    with pytest.raises(
        InvalidRequest, match=r"Invalid unset value for argument in call to function system\.int_as_blob"
    ):
        term.evaluate([UNSET], options())


def test_now_and_uuid_come_from_the_ports() -> None:
    """Else a run of the simulator couldn't be repeated."""
    first, second = (value_of("now()", native.TIMEUUID) for _ in range(2))
    assert first == second
    shared = options()
    term, _ = bound("uuid()", native.UUID)
    one, other = term.evaluate([], shared), term.evaluate([], shared)
    assert one != other
    assert isinstance(one, bytes)
    assert one[6] >> 4 == 4
    timestamp = value_of("to_timestamp(now())", native.TIMESTAMP)
    assert timestamp == (FixedClock().wall_us() // 1000).to_bytes(8, "big")
    assert CountingRandom().bytes(2) == b"\0\1"
