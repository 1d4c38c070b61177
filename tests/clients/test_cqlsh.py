"""cqlsh, Cassandra's shell: what a person types, and what it prints.

It has no option for compression: its shell takes LZ4 when that is offered, and the workers of COPY take none.
"""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.clients import REPLICATION
from tests.nodes import NodeProcess

CQLSH = Path(sys.executable).with_name("cqlsh")
RUN_SECONDS_MAX = 120
ROWS = 1000

Shell = Callable[..., str]


@pytest.fixture(scope="module", params=[4, 5], ids=["v4", "v5"])
def version(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def shell(node: NodeProcess, version: int, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """Runs a script in cqlsh; returns what it prints. What goes to standard error fails the test, unless asked for."""
    assert CQLSH.exists(), "cqlsh is missing: run `make setup`"
    home = tmp_path_factory.mktemp("home")

    def run(script: str, *options: str, errors: bool = False) -> str:
        path = home / "script.cql"
        path.write_text(script)
        command = [
            str(CQLSH),
            node.host,
            str(node.port),
            f"--protocol-version={version}",
            "-f",
            str(path),
            *options,
        ]
        environment = {**os.environ, "HOME": str(home), "COLUMNS": "200", "PYTHONWARNINGS": "ignore"}
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=RUN_SECONDS_MAX, check=False
        )
        if errors:
            return done.stderr
        assert done.returncode == 0, done.stdout + done.stderr
        assert not done.stderr, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def keyspace(shell: Shell, version: int) -> str:
    """A keyspace with a type, a table of a bit of everything, and some rows."""
    name = f"cqlsh_{version}"
    shell(f"""
        CREATE KEYSPACE {name} WITH replication = {REPLICATION};
        USE {name};
        CREATE TYPE address (street text, zip int);
        CREATE TABLE people (
            id int, at timestamp, name text static, tags set<text>, phones map<text, bigint>, home address, photo blob,
            PRIMARY KEY (id, at)
        ) WITH CLUSTERING ORDER BY (at DESC) AND comment = 'who';
        INSERT INTO people (id, at, name, tags, phones, home, photo)
            VALUES (1, '2031-02-03 04:05:06.789+0000', 'Zoë',
                {{'b', 'a'}}, {{'x': 5}}, {{street: 'Main', zip: 1}}, 0xff00);
        INSERT INTO people (id, at) VALUES (2, '2001-01-01');
        CREATE TABLE many (k int PRIMARY KEY, a text, b double, c boolean, d list<int>);
    """)
    return name


def test_describe_lists(shell: Shell, keyspace: str) -> None:
    printed = shell(f"DESCRIBE KEYSPACES; USE {keyspace}; DESCRIBE TABLES; DESCRIBE TYPES; DESCRIBE CLUSTER;")
    words = set(printed.split())
    assert {keyspace, "system", "system_schema", "system_virtual_schema"} <= words
    assert {"people", "many", "address"} <= words
    assert re.search(r"Cluster: \S+", printed)
    assert "Partitioner: Murmur3Partitioner" in printed
    assert "Range ownership" in printed


def test_describe_is_cql_that_makes_it_again(shell: Shell, keyspace: str, tmp_path: Path) -> None:
    assert f"CREATE TYPE {keyspace}.address" in shell(f"DESCRIBE TYPE {keyspace}.address;")
    table = shell(f"DESCRIBE TABLE {keyspace}.people;")
    assert f"CREATE TABLE {keyspace}.people" in table
    assert "CLUSTERING ORDER BY (at DESC)" in table
    assert "comment = 'who'" in table
    described = shell(f"DESCRIBE KEYSPACE {keyspace};")
    assert described in shell("DESCRIBE SCHEMA;")
    assert f"CREATE KEYSPACE {keyspace}" in described
    assert table.strip() in described
    # SOURCE of what was described, under another name, makes the same.
    again = tmp_path / "again.cql"
    again.write_text(described.replace(keyspace, f"{keyspace}_again"))
    shell(f"SOURCE '{again}';")
    remade = shell(f"DESCRIBE KEYSPACE {keyspace}_again;")
    assert remade.replace(f"{keyspace}_again", keyspace) == described


def test_select_and_expand(shell: Shell, keyspace: str) -> None:
    printed = shell(f"SELECT * FROM {keyspace}.people WHERE id = 1;")
    for text in (
        "2031-02-03 04:05:06.789000+0000",
        "Zoë",
        "{'a', 'b'}",
        "{'x': 5}",
        "{street: 'Main', zip: 1}",
        "0xff00",
    ):
        assert text in printed
    assert "(1 rows)" in printed
    printed = shell(f"EXPAND ON; SELECT id, name, tags FROM {keyspace}.people;")
    assert "EXPAND set to ON" in printed
    assert "@ Row 1" in printed
    assert re.search(r"name +\| Zoë", printed)
    assert re.search(r"tags +\| null", printed)
    assert "(2 rows)" in printed


def test_options_of_the_command(shell: Shell, keyspace: str) -> None:
    assert "\x1b[" in shell("SELECT id FROM people;", "-C", "-k", keyspace)
    assert "\x1b[" not in shell("SELECT id FROM people;", "--no-color", "-k", keyspace)


def test_tracing(shell: Shell, keyspace: str) -> None:
    printed = shell(f"TRACING ON; SELECT id FROM {keyspace}.people WHERE id = 1; TRACING OFF;")
    assert "TRACING set to ON" in printed
    assert "Tracing session: " in printed
    assert "Execute CQL3 query" in printed
    assert "Request complete" in printed
    assert "TRACING set to OFF" in printed


def test_consistency(shell: Shell, keyspace: str) -> None:
    printed = shell(
        f"CONSISTENCY; CONSISTENCY QUORUM; SELECT id FROM {keyspace}.people; SERIAL CONSISTENCY LOCAL_SERIAL;"
    )
    assert "Current consistency level is ONE." in printed
    assert "Consistency level set to QUORUM." in printed
    assert "Serial consistency level set to LOCAL_SERIAL." in printed
    assert "(2 rows)" in printed
    # More replicas than there are.
    assert "Cannot achieve consistency level TWO" in shell(
        f"CONSISTENCY TWO; SELECT id FROM {keyspace}.people WHERE id = 1;", errors=True
    )


def test_show_and_login_free_commands(shell: Shell, version: int) -> None:
    printed = shell("SHOW VERSION; SHOW HOST;")
    assert f"Native protocol v{version}" in printed
    assert re.search(r"\[cqlsh [\d.]+ \| Cassandra \d+\.\d+\S* \| CQL spec 3\.4\.\d", printed)
    assert "Connected to " in printed


def test_errors_are_printed(shell: Shell, keyspace: str) -> None:
    printed = shell(f"SELECT * FROM {keyspace}.nothing; SELEC 1;", errors=True)
    assert 'message="table nothing does not exist"' in printed
    assert "SyntaxException: line 1:0 no viable alternative at input 'SELEC'" in printed


def test_copy_and_paging(shell: Shell, keyspace: str, tmp_path: Path) -> None:
    """A thousand rows from a CSV, to a CSV, and on the screen in pages."""
    source, copied = tmp_path / "source.csv", tmp_path / "copied.csv"
    rows = [
        [str(k), f"name, {k} – 'quoted'", repr(k / 4), str(k % 2 == 0), f"[{k}, {k + 1}]"]
        for k in range(ROWS)
    ]
    with source.open("w", newline="") as file:
        csv.writer(file).writerows([["k", "a", "b", "c", "d"], *rows])
    options = "HEADER = true AND NUMPROCESSES = 1"
    printed = shell(
        f"COPY {keyspace}.many (k, a, b, c, d) FROM '{source}' WITH {options};\n"
        f"COPY {keyspace}.many (k, a, b, c, d) TO '{copied}' WITH {options};\n"
        f"PAGING 300;\nSELECT k FROM {keyspace}.many;\nPAGING OFF;\nSELECT count(*) FROM {keyspace}.many WHERE k < 500"
        " ALLOW FILTERING;\n"
    )
    assert f"{ROWS} rows imported from 1 files" in printed
    assert f"{ROWS} rows exported to 1 files" in printed
    assert "Page size: 300" in printed
    assert f"({ROWS} rows)" in printed
    assert "PAGING set to OFF" in printed
    with copied.open(newline="") as file:
        header, *got = list(csv.reader(file))
    assert header == ["k", "a", "b", "c", "d"]
    assert sorted([int(k), a, float(b), c, d] for k, a, b, c, d in got) == [
        [int(k), a, float(b), c, d] for k, a, b, c, d in rows
    ]
