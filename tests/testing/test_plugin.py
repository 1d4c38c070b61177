"""The pytest plugin, as a project that uses OuroDB has it: pytest in a process of its own, in a folder of its own.

Were these to fail, the test in the README wouldn't run, tests would see each other's rows, or every pytest run beside
an installed OuroDB would pay for it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from ourodb.testing.places import PREFIX

README = Path(__file__).resolve().parents[2] / "README.md"
SECONDS_MAX = 280
HEAVY = (
    "aiohttp",
    "asyncio",
    "cassandra",
    "msgspec",
    "rich",
    "rocksdict",
    "structlog",
    "typer",
    "uvloop",
    "urllib.request",
)

SUITE = """
import pytest

seen = []


def test_a_keyspace_is_empty(ouro, ouro_keyspace):
    session = ouro.connect(ouro_keyspace)
    session.execute("CREATE TABLE rows (id int PRIMARY KEY)")
    session.execute("INSERT INTO rows (id) VALUES (1)")
    seen.append((ouro, ouro_keyspace))
    ouro.nodes[1].kill()
    ouro.nodes[0].pause()


@pytest.mark.parametrize("what", ["A name / with: all sorts", "2"])
def test_the_next_one_is_too(ouro, ouro_keyspace, what):
    ring, before = seen[-1]
    assert ring is ouro
    assert before != ouro_keyspace
    session = ouro.connect(ouro_keyspace)
    keyspaces = {row.keyspace_name for row in session.execute("SELECT keyspace_name FROM system_schema.keyspaces")}
    assert ouro_keyspace in keyspaces
    assert before not in keyspaces
    session.execute("CREATE TABLE rows (id int PRIMARY KEY)")
    assert session.execute("SELECT * FROM rows").one() is None
    assert all(node.is_running for node in ouro.nodes)
    seen.append((ouro, ouro_keyspace))
"""


def run_pytest(folder: Path, *arguments: str) -> str:
    process = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    assert not list(folder.glob(f"{PREFIX}*"))
    return process.stdout


def test_the_test_in_the_readme_runs_as_it_stands_there(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (text,) = [block for block in blocks if block.startswith("def test_")]
    assert len(text.splitlines()) <= 10
    (tmp_path / "test_readme.py").write_text(text)
    assert "1 passed" in run_pytest(tmp_path)


def test_each_test_has_a_keyspace_of_its_own_and_a_whole_ring(tmp_path: Path) -> None:
    (tmp_path / "test_two.py").write_text(SUITE)
    assert "3 passed" in run_pytest(tmp_path, "--ouro-nodes=2")


def test_the_plugin_costs_nothing_until_it_is_used() -> None:
    code = (
        "import sys, pytest; before = set(sys.modules); import ourodb.testing.plugin, ourodb.testing;"
        "print(*sorted(set(sys.modules) - before))"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = process.stdout.split()
    assert "ourodb.testing.plugin" in imported
    assert [name for name in imported if name in HEAVY] == []
    assert [name for name in imported if name.startswith("ourodb")] == [
        "ourodb",
        "ourodb.testing",
        "ourodb.testing.plugin",
    ]
