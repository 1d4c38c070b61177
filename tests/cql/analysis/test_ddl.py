"""Definitions: what is refused, what is filled in, what clients are warned of.

The answers of a real Cassandra to some two hundred definitions are held in ``tests/schema``; here is what one node of
Cassandra can't show.
"""

from __future__ import annotations

import pytest
from tests.schema.script import SIMPLE, CountingRandom, Script, SteppingClock

from ourodb.cql.analysis.ddl import NO_KEYSPACE, UNSUPPORTED, analyse_ddl
from ourodb.cql.analysis.type_names import resolve_type
from ourodb.cql.syntax import ast
from ourodb.cql.syntax.parser import parse
from ourodb.errors import (
    AlreadyExists,
    ConfigurationException,
    CqlSyntaxError,
    InvalidRequest,
    NotSupported,
    Unauthorized,
)
from ourodb.schema import changes
from ourodb.schema.changes import Change

FROZEN = "frozen<> is only allowed on collections, tuples, and user-defined types"
NESTED = "Non-frozen collections are not allowed inside collections"
ELSEWHERE = (
    "Statement on keyspace app cannot refer to a user type in keyspace other; user types can only be used in the "
    "keyspace they are defined in"
)


@pytest.fixture
def script() -> Script:
    script = Script()
    for statement in (
        f"CREATE KEYSPACE app WITH replication = {SIMPLE}",
        "USE app",
        "CREATE TYPE point (x int, y int)",
        "CREATE TABLE t (k int, c int, v int, PRIMARY KEY (k, c))",
    ):
        script.execute(statement)
    return script


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("CREATE INDEX ON t (v)", "CREATE INDEX"),
        ("CREATE CUSTOM INDEX i ON t (v) USING 'sai'", "CREATE INDEX"),
        (
            "CREATE MATERIALIZED VIEW m AS SELECT * FROM t WHERE k IS NOT NULL AND c IS NOT NULL PRIMARY KEY (c, k)",
            "CREATE MATERIALIZED VIEW",
        ),
        ("ALTER MATERIALIZED VIEW m WITH comment = 'x'", "ALTER MATERIALIZED VIEW"),
        ("CREATE TRIGGER g ON t USING 'x'", "CREATE TRIGGER"),
        (
            "CREATE FUNCTION f (a int) CALLED ON NULL INPUT RETURNS int LANGUAGE java AS 'return a;'",
            "CREATE FUNCTION",
        ),
        ("CREATE AGGREGATE g (int) SFUNC f STYPE int", "CREATE AGGREGATE"),
        ("CREATE TABLE copy LIKE t", "CREATE TABLE LIKE"),
        ("CREATE TABLE n (k int PRIMARY KEY, v int) WITH COMPACT STORAGE", "COMPACT STORAGE"),
        ("CREATE TABLE n (k int PRIMARY KEY, v int MASKED WITH DEFAULT)", "MASKED WITH"),
        ("ALTER TABLE t ADD w int MASKED WITH DEFAULT", "MASKED WITH"),
        ("ALTER TABLE t ALTER v MASKED WITH DEFAULT", "MASKED WITH"),
    ],
)
def test_what_is_missing_is_said_to_be_missing(script: Script, statement: str, what: str) -> None:
    """A silent success here loses an index, a rule or a mask that someone counts on."""
    before = script.schema
    with pytest.raises(NotSupported, match=f"^{what} is not supported yet$"):
        script.execute(statement)
    assert script.schema is before


def test_every_definition_of_the_grammar_is_known() -> None:
    """A statement that isn't would fall through as a KeyError."""
    handled = {
        ast.CreateKeyspace,
        ast.AlterKeyspace,
        ast.DropKeyspace,
        ast.CreateTable,
        ast.AlterTable,
        ast.DropTable,
        ast.CreateType,
        ast.AlterType,
        ast.DropType,
        ast.DropIndex,
        ast.DropView,
        ast.DropTrigger,
        ast.DropFunction,
        ast.DropAggregate,
    }
    definitions = {
        node
        for name, node in vars(ast).items()
        if name.startswith(("Create", "Alter", "Drop"))
        and isinstance(node, type)
        and name not in ("AlterColumnType", "AlterFieldType", "AlterColumnMask", "AlterColumnConstraints")
        and name not in ("DropColumns", "DropCompactStorage")
        and not name.endswith(("Role", "Identity"))
    }
    assert definitions == handled | set(UNSUPPORTED)


def refused(script: Script, statement: str, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        script.execute(statement)
    assert str(caught.value) == text
    assert type(caught.value) is error


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE t (k int PRIMARY KEY)",
        "ALTER TABLE t ADD v int",
        "DROP TABLE IF EXISTS t",
        "TRUNCATE t",
        "CREATE TYPE x (a int)",
        "ALTER TYPE x ADD a int",
        "DROP TYPE IF EXISTS x",
        "DROP INDEX IF EXISTS i",
    ],
)
def test_unqualified_names_need_a_keyspace_in_use(statement: str) -> None:
    refused(Script(), statement, InvalidRequest, NO_KEYSPACE)


def test_system_keyspaces_are_protected(script: Script) -> None:
    for statement in (
        "DROP KEYSPACE system_schema",
        "DROP TABLE system.local",
        "ALTER TABLE system_views.settings WITH comment = 'x'",
        "CREATE TYPE system_virtual_schema.x (a int)",
        "DROP INDEX IF EXISTS system.x",
    ):
        keyspace = statement.rpartition(".")[0].rpartition(" ")[2] or "system_schema"
        refused(script, statement, Unauthorized, f"{keyspace} keyspace is not user-modifiable.")
    refused(
        script, "TRUNCATE system.local", InvalidRequest, "Truncation is not supported by table system.local"
    )
    assert script.execute("TRUNCATE system_traces.events") == "ok"


def replication(script: Script) -> dict[str, str]:
    return dict(script.schema.keyspaces["wide"].replication.options)


def create(script: Script, options: str) -> str:
    return script.run(f"CREATE KEYSPACE wide WITH replication = {options}")


def test_a_factor_for_all_data_centres_becomes_one_for_each(script: Script) -> None:
    """Placement reads factors by data centre; a shorthand that stayed would place nothing."""
    script.datacenters = {"east": 3, "west": 3}
    assert create(script, "{'class': 'NetworkTopologyStrategy', 'replication_factor': 3}").startswith(
        "schema"
    )
    assert replication(script) == {"east": "3", "west": "3"}


def test_what_a_data_centre_has_is_left_when_others_are_added(script: Script) -> None:
    script.datacenters = {"east": 3, "west": 3}
    create(script, "{'class': 'NetworkTopologyStrategy', 'east': 1}")
    assert replication(script) == {"east": "1"}
    alter = (
        "ALTER KEYSPACE wide WITH replication = {'class': 'NetworkTopologyStrategy', 'replication_factor': 2}"
    )
    script.execute(alter)
    assert replication(script) == {"east": "1", "west": "2"}
    script.execute(
        "ALTER KEYSPACE wide WITH replication = {'class': 'NetworkTopologyStrategy', 'west': 3, 'east': 0}"
    )
    assert replication(script) == {"west": "3"}


def test_unknown_data_centres_are_refused(script: Script) -> None:
    """Copies placed where there is no node are copies that don't exist."""
    script.datacenters = {"east": 1}
    assert create(script, "{'class': 'NetworkTopologyStrategy', 'east': 1, 'atlantis': 1}") == (
        "error 2300 ConfigurationException: Unrecognized strategy option {atlantis} passed to NetworkTopologyStrategy "
        "for keyspace wide"
    )


def test_more_copies_than_nodes_and_more_copies_than_before_are_warned_of(script: Script) -> None:
    script.datacenters = {"east": 2, "west": 1}
    assert create(script, "{'class': 'NetworkTopologyStrategy', 'east': 2, 'west': 2}").splitlines()[1:] == [
        "warning: Your replication factor 2 for keyspace wide is higher than the number of nodes 1 for datacenter west"
    ]
    answer = script.run(f"ALTER KEYSPACE wide WITH replication = {SIMPLE.replace('1', '9')}")
    assert answer.splitlines()[1:] == [
        "warning: Your replication factor 9 for keyspace wide is higher than the number of nodes 3",
        "warning: When increasing replication factor you need to run a full (-full) repair to distribute the data.",
    ]


def test_nothing_to_do_is_no_change(script: Script) -> None:
    """Such a statement must not take a place in the log, or every IF NOT EXISTS at start of an app would."""
    made = len(script.changes)
    for statement in (
        "CREATE TABLE IF NOT EXISTS t (k nosuchtype PRIMARY KEY)",
        "ALTER TABLE IF EXISTS nope ADD v int",
        "ALTER TABLE t ADD IF NOT EXISTS v int",
        "ALTER TABLE t DROP IF EXISTS nope",
        "ALTER TABLE t WITH comment = ''",
        "ALTER TYPE IF EXISTS nope ADD a int",
        "ALTER TYPE point ADD IF NOT EXISTS x int",
        "DROP TYPE IF EXISTS nope",
        "DROP TABLE IF EXISTS nope",
        "DROP KEYSPACE IF EXISTS nope",
        "DROP FUNCTION IF EXISTS nope",
        "DROP AGGREGATE IF EXISTS nope",
        "DROP MATERIALIZED VIEW IF EXISTS nope",
        "DROP TRIGGER IF EXISTS nope ON t",
        "ALTER KEYSPACE app WITH durable_writes = true",
    ):
        assert script.execute(statement) == "ok", statement
    assert len(script.changes) == made


def change_of(script: Script, statement: str) -> Change:
    random = CountingRandom()
    random.drawn = 1_000
    checked = analyse_ddl(
        parse(statement), script.schema, script.keyspace, {"datacenter1": 1}, SteppingClock(), random
    )
    assert checked.change is not None
    return checked.change


def test_changes_hold_what_was_drawn_and_read_from_the_clock(script: Script) -> None:
    """Nodes that replay the log draw and read nothing."""
    dropped = change_of(script, "ALTER TABLE t DROP v")
    assert isinstance(dropped, changes.DropColumns)
    assert dropped.dropped_at == 1_700_000_000_001_000
    given = change_of(script, "ALTER TABLE t DROP v USING TIMESTAMP 42")
    assert isinstance(given, changes.DropColumns)
    assert given.dropped_at == 42
    created = change_of(script, "CREATE TABLE u (k int PRIMARY KEY)")
    assert isinstance(created, changes.CreateTable)
    assert created.id.version == 1
    assert created == change_of(script, "CREATE TABLE u (k int PRIMARY KEY)")


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("varchar", "text"),
        ("frozen<list<set<int>>>", "frozen<list<frozen<set<int>>>>"),
        ("list<frozen<point>>", "list<frozen<point>>"),
        ("tuple<int, point>", "frozen<tuple<int, frozen<point>>>"),
        (
            "map<frozen<point>, tuple<int, list<int>>>",
            "map<frozen<point>, frozen<tuple<int, frozen<list<int>>>>>",
        ),
        ("vector<float, 3>", "vector<float, 3>"),
        ("list<vector<int, 2>>", "list<vector<int, 2>>"),
        ("app.point", "point"),
        ("'org.apache.cassandra.db.marshal.Int32Type'", "int"),
    ],
)
def test_types_are_frozen_as_cassandra_freezes_them(script: Script, written: str, kept: str) -> None:
    """What is frozen is one cell, what isn't is many: another choice is another table on disk and on the wire."""
    statement = parse(f"ALTER TABLE t ADD w {written}")
    assert isinstance(statement, ast.AlterTable)
    assert isinstance(statement.alteration, ast.AddColumns)
    [column] = statement.alteration.columns
    assert resolve_type(column.type, "app", script.schema).cql_name == kept


@pytest.mark.parametrize(
    ("written", "error", "text"),
    [
        ("frozen<int>", CqlSyntaxError, f"{FROZEN} (got int)"),
        ("list<frozen<text>>", CqlSyntaxError, f"{FROZEN} (got text)"),
        ("list<point>", InvalidRequest, "Non-frozen UDTs are not allowed inside collections: list<point>"),
        ("map<set<int>, int>", InvalidRequest, f"{NESTED}: map<set<int>, int>"),
        (
            "frozen<set<counter>>",
            InvalidRequest,
            "Counters are not allowed inside collections: frozen<set<counter>>",
        ),
        ("tuple<counter>", InvalidRequest, "Counters are not allowed inside tuples"),
        ("vector<int, -1>", InvalidRequest, "vectors may only have positive dimensions; given -1"),
        ("other.point", InvalidRequest, ELSEWHERE),
    ],
)
def test_types_that_cannot_be_are_told(
    script: Script, written: str, error: type[Exception], text: str
) -> None:
    refused(script, f"ALTER TABLE t ADD w {written}", error, text)


def test_types_of_a_keyspace_that_is_not_there(script: Script) -> None:
    with pytest.raises(ConfigurationException, match="Keyspace nope doesn't exist"):
        resolve_type(ast.NativeTypeName("int"), "nope", script.schema)


def test_create_table_tells_of_an_existing_one_before_it_looks_at_types(script: Script) -> None:
    with pytest.raises(AlreadyExists) as caught:
        script.execute("CREATE TABLE t (k nosuchtype PRIMARY KEY)")
    assert (caught.value.keyspace, caught.value.table) == ("app", "t")
