"""Clustering order against the answers that a Cassandra 5 gave (``goldens/types_clustering.out``)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ourodb.cql.types import CqlType, parse_type

GOLDEN = Path(__file__).resolve().parents[2] / "goldens" / "types_clustering.out"

_TABLE = re.compile(r"(\w+) \(k int, c (.*?), v int, PRIMARY KEY .* ORDER BY \(c (ASC|DESC)\)")
_ROW = re.compile(r"VALUES \(1, (.*), (\d+)\);?\n")
_ANSWER = re.compile(r"> SELECT c, v FROM \w+ WHERE k = 1\n.*\n((?:.* \| \d+\n)*)\(")


def tables() -> Iterator[tuple[str, str, bool, dict[int, str], list[int]]]:
    """Name, type, whether descending, literal by row, and the rows in the order in which they came back."""
    for block in GOLDEN.read_text().split("> CREATE TABLE ")[1:]:
        table, answer = _TABLE.match(block), _ANSWER.search(block)
        if table is not None and answer is not None:
            literals = {int(row): literal for literal, row in _ROW.findall(block)}
            rows = [int(line.rsplit(" | ", 1)[1]) for line in answer[1].splitlines()]
            yield table[1], table[2], table[3] == "DESC", literals, rows


def value_of(type_: CqlType, literal: str) -> bytes:
    if literal[0] == "'":
        return type_.parse(literal[1:-1].replace("''", "'"))
    if literal.startswith("0x"):
        return type_.parse(literal[2:])
    if literal == "{}":
        return type_.encode([])
    if literal[0] in "[{(":
        return type_.encode(ast.literal_eval(literal.replace("null", "None")))
    return type_.parse(literal)


def test_the_recording_is_there() -> None:
    assert len(list(tables())) >= 40


@pytest.mark.parametrize(("name", "type_name", "descending", "literals", "rows"), list(tables()))
def test_rows_sort_as_in_cassandra(
    name: str, type_name: str, descending: bool, literals: dict[int, str], rows: list[int]
) -> None:
    type_ = parse_type(type_name)
    encode = type_.encode_ordered_desc if descending else type_.encode_ordered
    # A later row with an equal value is the same row.
    row_of = {encode(value_of(type_, literal)): row for row, literal in literals.items()}
    assert [row_of[form] for form in sorted(row_of)] == rows, name
