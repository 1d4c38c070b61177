"""What a tree is written as reads back as the same tree.

If this fails, DESCRIBE and error messages show CQL that means something else, or the parser misreads what they show.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cql.syntax import trees

from ourodb.cql.syntax import ast
from ourodb.cql.syntax.format import quote_identifier, quote_string
from ourodb.cql.syntax.parser import parse


@settings(max_examples=150, deadline=None)
@given(trees.terms)
def test_terms(term: Any) -> None:
    statement = parse(f"INSERT INTO t (a) VALUES ({term})")
    assert isinstance(statement, ast.Insert)
    assert statement.values == (trees.renumbered(term),)


@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@settings(max_examples=150, deadline=None)
@given(st.lists(st.builds(ast.Selector, trees.selectables, st.none() | trees.names), min_size=1, max_size=3))
def test_selectors(selectors: list[ast.Selector]) -> None:
    statement = parse(f"SELECT {', '.join(map(str, selectors))} FROM t")
    assert isinstance(statement, ast.Select)
    assert statement.selectors == trees.renumbered(tuple(selectors))


@settings(max_examples=150, deadline=None)
@given(st.lists(trees.relations, min_size=1, max_size=3))
def test_relations(relations: list[Any]) -> None:
    statement = parse(f"SELECT * FROM t WHERE {' AND '.join(map(str, relations))}")
    assert isinstance(statement, ast.Select)
    assert statement.where == trees.renumbered(tuple(relations))


@settings(max_examples=150, deadline=None)
@given(trees.assignments)
def test_assignments(assignment: Any) -> None:
    statement = parse(f"UPDATE t SET {assignment} WHERE k = 1")
    assert isinstance(statement, ast.Update)
    assert statement.assignments == (trees.renumbered(assignment),)


@settings(max_examples=100, deadline=None)
@given(trees.names, trees.types, trees.tables)
def test_types_and_names(name: str, of: Any, table: ast.QualifiedName) -> None:
    statement = parse(
        f"CREATE TABLE {table} ({quote_identifier(name)} {of}, PRIMARY KEY ({quote_identifier(name)}))"
    )
    assert isinstance(statement, ast.CreateTable)
    assert statement.table == table
    assert statement.columns == (ast.ColumnDefinition(name, of),)
    assert statement.primary_keys == (ast.PrimaryKey((name,)),)


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_strings(text: str) -> None:
    statement = parse(f"INSERT INTO t JSON {quote_string(text)}")
    assert isinstance(statement, ast.InsertJson)
    assert statement.value == ast.Constant(ast.ConstantKind.STRING, text)
