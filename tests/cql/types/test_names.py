"""Names of types. If these fail, schemas can't be read back, or drivers misread the types of columns."""

from __future__ import annotations

import io

import pytest
from cassandra.cqltypes import lookup_casstype
from cassandra.protocol import ResultMessage
from hypothesis import given, settings
from tests.cql.types.values import types

from ourodb.cql.types import (
    DURATION,
    FLOAT,
    INT,
    NATIVE_TYPES,
    TEXT,
    CqlType,
    CustomType,
    ListType,
    MapType,
    SetType,
    TupleType,
    UserType,
    VectorType,
    build,
    parse_class_name,
    parse_type,
)
from ourodb.errors import InvalidRequest


def user_types_in(type_: CqlType) -> dict[str, UserType]:
    found = {}
    if isinstance(type_, UserType):
        found[type_.name] = (
            type_
            if type_.is_multicell
            else UserType(type_.keyspace, type_.name, type_.field_names, type_.components)
        )
    for part in getattr(type_, "components", ()):
        found |= user_types_in(part)
    for attribute in ("key", "element"):
        if hasattr(type_, attribute):
            found |= user_types_in(getattr(type_, attribute))
    return found


@given(types())
@settings(max_examples=300, deadline=None)
def test_types_read_back_from_their_names(type_: CqlType) -> None:
    user_types = user_types_in(type_)
    assert parse_type(type_.cql_name, lambda _, name: user_types.get(name)) == type_


def test_a_user_type_may_have_the_name_of_a_simple_one() -> None:
    odd = UserType("ks", "int", ["f"], [INT])
    assert odd.cql_name == '"int"'
    assert parse_type(ListType(odd.frozen()).cql_name, lambda _, name: {"int": odd}.get(name)) == ListType(
        odd.frozen()
    )


@given(types())
@settings(max_examples=300, deadline=None)
def test_drivers_read_our_classes_and_we_read_them_back(type_: CqlType) -> None:
    assert lookup_casstype(type_.class_name) is not None
    # Inside what is frozen, class names don't say again what is frozen.
    assert parse_class_name(type_.class_name).class_name == type_.class_name


@given(types())
@settings(max_examples=300, deadline=None)
def test_drivers_read_our_options(type_: CqlType) -> None:
    for version in (3, 4, 5):
        buf = io.BytesIO(type_.option_for(version))
        driver_type = ResultMessage.read_type(buf, {})
        assert buf.read() == b""
        assert driver_type is not None


def test_options() -> None:
    cases = [
        (INT, 5, "0009"),
        (TEXT, 5, "000d"),
        (DURATION, 5, "0015"),
        (ListType(INT), 3, "00200009"),
        (SetType(INT, frozen=True), 4, "00220009"),
        (MapType(TEXT, INT), 5, "0021000d0009"),
        (TupleType([INT, TEXT]), 5, "003100020009000d"),
        (UserType("ks", "t", ["f"], [INT]), 5, "003000026b7300017400010001660009"),
    ]
    for type_, version, option in cases:
        assert type_.option_for(version).hex() == option
    assert DURATION.option_for(4) == b"\0\0\0\x2corg.apache.cassandra.db.marshal.DurationType"
    for name, since in (("date", 4), ("time", 4), ("smallint", 4), ("tinyint", 4), ("duration", 5)):
        for version in (3, 4, 5):
            assert (NATIVE_TYPES[name].option_for(version)[:2] == b"\0\0") == (version < since)
    assert VectorType(FLOAT, 3).option[:2] == b"\0\0"


NAMES = [
    ("int", "int"),
    ("VarChar", "text"),
    ("map<text,list<int>>", "map<text, list<int>>"),
    ("frozen<map<text, list<set<int>>>>", "frozen<map<text, frozen<list<frozen<set<int>>>>>>"),
    ("tuple<int, list<text>>", "frozen<tuple<int, frozen<list<text>>>>"),
    ("frozen<tuple<int>>", "frozen<tuple<int>>"),
    (" vector < float , 3 > ", "vector<float, 3>"),
    ("vector<list<int>, 2>", "vector<frozen<list<int>>, 2>"),
    ("set<frozen<address>>", "set<frozen<address>>"),
    ("Address", "address"),
    ("ks.address", "address"),
    ('frozen<ks."Odd ""one""">', 'frozen<"Odd ""one""">'),
    ("'com.example.Odd'", "'com.example.Odd'"),
    ("'org.apache.cassandra.db.marshal.Int32Type'", "int"),
    ('"table"', '"table"'),
]


def known(keyspace: str | None, name: str) -> UserType | None:
    assert keyspace in (None, "ks")
    return UserType("ks", name, ["f"], [INT]) if name in ("address", 'Odd "one"', "table") else None


def test_names() -> None:
    for text, name in NAMES:
        assert parse_type(text, known).cql_name == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "list",
        "list<>",
        "list<int",
        "list<int>>",
        "list<int, int>",
        "map<int>",
        "int<text>",
        "frozen<int>",
        "vector<int>",
        "vector<int, x>",
        "vector<int, 0>",
        "vector<int, 99999999999999999999999999>",
        "unknown",
        "ks.unknown",
        "ks.",
        "tuple<>",
        "'",
        "int int",
        "a-b",
        "list<int;>",
        "list<" * 500 + "int" + ">" * 500,
    ],
)
def test_names_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_type(text, known)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "(",
        "ListType",
        "ListType(",
        "Foo(Int32Type)",
        "UserType(ks)",
        "UserType(ks,zz)",
        "VectorType(Int32Type)",
        "FrozenType(Int32Type,Int32Type)",
        "Int32Type)",
    ],
)
def test_class_names_refused(text: str) -> None:
    if text == "ListType":
        assert isinstance(parse_class_name(text), CustomType)
        return
    with pytest.raises(InvalidRequest):
        parse_class_name(text)


def test_class_names() -> None:
    prefix = "org.apache.cassandra.db.marshal."
    address = UserType("ks", "address", ["street"], [ListType(TEXT)])
    assert ListType(INT).class_name == f"{prefix}ListType({prefix}Int32Type)"
    assert (
        ListType(ListType(INT), frozen=True).class_name
        == f"{prefix}FrozenType({prefix}ListType({prefix}ListType({prefix}Int32Type)))"
    )
    assert VectorType(FLOAT, 3).class_name == f"{prefix}VectorType({prefix}FloatType , 3)"
    assert (
        address.class_name
        == f"{prefix}UserType(ks,61646472657373,737472656574:{prefix}ListType({prefix}UTF8Type))"
    )
    assert parse_class_name(address.class_name) == address
    assert parse_class_name(f"{prefix}ReversedType({prefix}Int32Type)") is INT
    assert parse_class_name("Int32Type") is INT


def test_freezing_goes_all_the_way_down() -> None:
    address = UserType("ks", "address", ["zips"], [SetType(INT)])
    type_ = MapType(TEXT, ListType(address))
    assert type_.is_multicell
    assert not type_.frozen().is_multicell
    assert type_.frozen().cql_name == "frozen<map<text, frozen<list<frozen<address>>>>>"
    assert type_.frozen() == MapType(TEXT, ListType(address), frozen=True)
    frozen = type_.frozen()
    assert frozen.frozen() is frozen
    inner = type_.frozen().element.element  # type: ignore[attr-defined]
    assert inner.components[0].cql_name == "frozen<set<int>>"


def test_types_are_equal_by_structure() -> None:
    assert ListType(INT) == ListType(INT)
    assert hash(ListType(INT)) == hash(ListType(INT))
    assert ListType(INT) != SetType(INT)
    assert ListType(INT) != ListType(INT, frozen=True)
    assert UserType("a", "t", ["f"], [INT]) != UserType("b", "t", ["f"], [INT])
    assert UserType("a", "t", ["f"], [INT]) != UserType("a", "t", ["g"], [INT])
    assert TupleType([INT]) != UserType("a", "t", ["f"], [INT])
    assert VectorType(FLOAT, 2) != VectorType(FLOAT, 3)
    assert len({ListType(INT), ListType(INT), INT}) == 2


def test_what_types_mention() -> None:
    address = UserType("ks", "address", ["since"], [DURATION])
    type_ = MapType(TEXT, TupleType([VectorType(address, 2)]))
    assert type_.references_udt("ks", "address")
    assert not type_.references_udt("other", "address")
    assert type_.references_duration
    assert not type_.references_counter
    assert ListType(NATIVE_TYPES["counter"]).references_counter
    assert address.field_index("since") == 0
    assert address.field_index("until") == -1


def test_build() -> None:
    assert build("map", [TEXT, INT]) == MapType(TEXT, INT)
    assert build("vector", [FLOAT], 3) == VectorType(FLOAT, 3)
    assert build("frozen", [ListType(INT)]) == ListType(INT, frozen=True)
    with pytest.raises(
        InvalidRequest, match="frozen<> is only allowed on collections, tuples, and user-defined types"
    ):
        build("frozen", [INT])
    with pytest.raises(InvalidRequest, match="vectors may only have positive dimensions; given 0"):
        build("vector", [FLOAT], 0)
