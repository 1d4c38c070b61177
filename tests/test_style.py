"""Reads the sources and holds the habits that no linter knows.

Each rule is one test; its message says where it is broken. After TigerBeetle's `tidy.zig`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "ourodb"
LINES_MAX = 900

SOURCES = sorted(PACKAGE.rglob("*.py"))
FOLDERS_FORBIDDEN = set("utils util common helpers helper manager managers service impl misc".split())

# The only places that may ask the machine for time or chance; import-linter's contract names the same.
SHELL = (
    "bench",
    "cli",
    "net",
    "daemon.py",
    "testing",
    "observe/dashboard",
    "storage/rocks.py",
    "storage/snapshot.py",
    "storage/wal.py",
)
CLOCKS_AND_DRAWS = set(
    """
    time.time time.time_ns time.monotonic time.monotonic_ns time.perf_counter time.perf_counter_ns time.sleep
    datetime.now datetime.utcnow datetime.today date.today uuid.uuid1 uuid.uuid4 random.random os.urandom
    """.split()
)

TEXT_SUFFIXES = set(".py .toml .txt .md .cfg .ini .yml .yaml .html .js .css .cql .out".split())
TEXT_NAMES = {"Makefile", "run"}
FOLDERS_NOT_OURS = {".git", "__pycache__", "build", "dist", "reports"}
MACHINE_PATH = re.compile(r"(?<![\w.<*])/(?:root|home/[a-z]|Users|work|opt)/")
REGISTRY_HOST = re.compile(r"pypi\.org|pythonhosted|maven\.org|repo\.maven|npmjs\.|crates\.io")


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def in_core(path: Path) -> bool:
    return not path.relative_to(PACKAGE).as_posix().startswith(SHELL)


def trees() -> Iterator[tuple[Path, ast.Module]]:
    for path in SOURCES:
        yield path, ast.parse(path.read_text(), str(path))


def project_texts() -> Iterator[tuple[Path, str]]:
    pending = [ROOT]
    while pending:
        for path in sorted(pending.pop().iterdir()):
            if path.is_dir():
                ours = path.name not in FOLDERS_NOT_OURS and not path.name.endswith(".egg-info")
                if ours and (not path.name.startswith(".") or path.name == ".ci"):
                    pending.append(path)
            elif path.suffix in TEXT_SUFFIXES or path.name in TEXT_NAMES:
                yield path, path.read_text(errors="replace")


def test_sources_are_found() -> None:
    """Without sources every other rule here would pass for nothing."""
    assert SOURCES


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_module_has_one_subject_that_its_docstring_tells(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), f"{named(path)}: the module docstring is the book; write it"
    lines = text.count("\n")
    assert lines <= LINES_MAX, f"{named(path)}: {lines} lines; a file has one subject"


def test_folder_names_are_words_of_the_domain() -> None:
    bad = {
        named(path)
        for path in SOURCES
        if FOLDERS_FORBIDDEN & set(path.relative_to(PACKAGE).with_suffix("").parts)
    }
    assert not bad, f"call them by what they are: {sorted(bad)}"


def test_core_asks_no_clock_and_draws_no_chance() -> None:
    bad = [
        f"{named(path)}:{node.lineno}: {node.value.id}.{node.attr}"
        for path, tree in trees()
        if in_core(path)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and f"{node.value.id}.{node.attr}" in CLOCKS_AND_DRAWS
    ]
    assert not bad, f"time and chance come in through ports.py: {bad}"


def test_core_awaits_nothing() -> None:
    bad = [
        f"{named(path)}:{node.lineno}"
        for path, tree in trees()
        if in_core(path)
        for node in ast.walk(tree)
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith)
    ]
    assert not bad, f"the core is plain functions and state machines: {bad}"


def test_no_exception_is_swallowed_blindly() -> None:
    bad = [
        f"{named(path)}:{node.lineno}"
        for path, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]
    assert not bad, f"name what you catch: {bad}"


def test_no_work_is_left_to_a_reader() -> None:
    bad = [
        f"{named(path)}:{number}"
        for path in SOURCES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r"#.*\b(TODO|FIXME|XXX|HACK)\b", line)
    ]
    assert not bad, f"do it, or open an issue: {bad}"


def test_nothing_names_a_machine_or_a_registry() -> None:
    """The project runs on any machine and installs from whatever registry the reader has."""
    bad = [
        f"{named(path)}:{number}: {line.strip()[:80]}"
        for path, text in project_texts()
        if path != Path(__file__).resolve()
        for number, line in enumerate(text.splitlines(), 1)
        if MACHINE_PATH.search(line) or REGISTRY_HOST.search(line)
    ]
    assert not bad, "\n".join(bad)
