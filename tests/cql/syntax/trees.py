"""Strategies for syntax trees as the parser could have built them."""

from __future__ import annotations

import dataclasses
from typing import Any

from hypothesis import strategies as st

from ourodb.cql.syntax import ast
from ourodb.cql.syntax.ast import ConstantKind
from ourodb.cql.syntax.lexer import NATIVE_TYPES

names = st.one_of(
    st.sampled_from(
        "a b key type ttl count token select Case list text infinity true expr p1d as byte".split()
    ),
    st.text(min_size=1, max_size=4),
)
tables = st.builds(ast.QualifiedName, st.none() | names, names)

natives = st.builds(ast.NativeTypeName, st.sampled_from(NATIVE_TYPES))
user_types = st.builds(ast.UserTypeName, st.none() | names, names)


def _parametrized(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    freezable = inner.filter(lambda of: not isinstance(of, ast.NativeTypeName | ast.CustomTypeName))
    return st.one_of(
        st.builds(ast.ListTypeName, inner),
        st.builds(ast.SetTypeName, inner),
        st.builds(ast.MapTypeName, inner, inner),
        st.builds(ast.TupleTypeName, st.lists(inner, min_size=1, max_size=3).map(tuple)),
        st.builds(ast.VectorTypeName, inner, st.integers(-9, 9)),
        st.builds(ast.FrozenTypeName, freezable),
    )


types = st.recursive(natives | user_types | st.builds(ast.CustomTypeName, st.text(max_size=3)), _parametrized)
hint_types = types.filter(lambda of: not isinstance(of, ast.CustomTypeName))


def _constants(kind: ConstantKind, texts: str) -> st.SearchStrategy[ast.Constant]:
    return st.builds(ast.Constant, st.just(kind), st.sampled_from(texts.split()))


constants = st.one_of(
    st.builds(ast.Constant, st.just(ConstantKind.STRING), st.text(max_size=5)),
    st.builds(ast.Constant, st.just(ConstantKind.INTEGER), st.integers().map(str)),
    _constants(ConstantKind.FLOAT, "1.5 -0.1e10 1. 2E-3 NaN Infinity -Infinity"),
    _constants(ConstantKind.BOOLEAN, "true FALSE"),
    _constants(ConstantKind.DURATION, "1h2m -3mo P1Y2M P3W PT5S -P0001-01-01T01:01:01 7us"),
    _constants(ConstantKind.UUID, "5b6962dd-3f90-4c93-8f61-eabfa4a803e2"),
    _constants(ConstantKind.HEX, "0x 0xCAFE"),
)
markers = st.builds(ast.Marker, st.just(0), st.none() | names)
leaves = constants | st.builds(ast.Null) | markers

function_names = st.builds(ast.QualifiedName, st.none() | names, names)


def _tuples_of(item: st.SearchStrategy[Any], at_least: int) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(item, min_size=at_least, max_size=3).map(tuple)


def _literals(item: st.SearchStrategy[Any]) -> list[st.SearchStrategy[Any]]:
    return [
        st.builds(ast.ListLiteral, _tuples_of(item, 0)),
        st.builds(ast.SetLiteral, _tuples_of(item, 0)),
        st.builds(ast.UdtLiteral, _tuples_of(st.tuples(names, item), 1)),
        st.builds(ast.TupleLiteral, _tuples_of(item, 1)),
        st.builds(ast.FunctionCall, function_names, _tuples_of(item, 0)),
    ]


def _is_simple(node: Any) -> bool:
    return not isinstance(node, ast.Arithmetic | ast.Negation)


def _arithmetic(operand: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Two operands and an operator; what binds less than the operator is put in parentheses."""

    def build(op: str, left: Any, right: Any) -> ast.Arithmetic:
        loose = "+-" if op in "*/%" else ""
        if isinstance(left, ast.Arithmetic) and left.op in loose:
            left = ast.TupleLiteral((left,))
        if isinstance(right, ast.Arithmetic) and (right.op in loose or (right.op in "+-") == (op in "+-")):
            right = ast.TupleLiteral((right,))
        return ast.Arithmetic(op, left, right)

    return st.builds(build, st.sampled_from("+-*/%"), operand, operand)


def _more_terms(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    simple = inner.filter(_is_simple)
    return st.one_of(
        *_literals(inner),
        st.builds(ast.MapLiteral, _tuples_of(st.tuples(inner, inner), 1)),
        st.builds(ast.TypeHint, hint_types, simple),
        st.builds(ast.Cast, simple, natives),
        st.builds(ast.Negation, simple),
        _arithmetic(inner),
    )


terms = st.recursive(leaves, _more_terms, max_leaves=8)

columns = st.builds(ast.ColumnRef, names)


def _is_simple_selectable(node: Any) -> bool:
    taken_from = ast.FieldSelection | ast.ElementSelection | ast.SliceSelection
    return _is_simple(node) and not isinstance(node, taken_from)


def _more_selectables(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    simple = inner.filter(_is_simple_selectable)
    # `(a)[1]` is a hint at a list, and `3.a` no number.
    modifiable = inner.filter(
        lambda node: _is_simple(node) and not isinstance(node, ast.Constant | ast.TupleLiteral)
    )
    of_column = st.recursive(columns, _taken_from, max_leaves=3)
    some_keys = st.tuples(leaves, inner)
    return st.one_of(
        *_literals(inner),
        st.builds(ast.MapLiteral, _tuples_of(some_keys, 1)),
        st.builds(ast.TypeHint, hint_types, simple),
        st.builds(ast.Cast, inner, natives),
        st.builds(ast.Negation, inner.filter(lambda node: not isinstance(node, ast.Arithmetic))),
        st.builds(ast.CellPropertySelection, st.sampled_from(ast.CellProperty), of_column),
        _taken_from(modifiable),
        _arithmetic(inner),
    )


def _taken_from(operand: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.builds(ast.FieldSelection, operand, names),
        st.builds(ast.ElementSelection, operand, terms),
        st.builds(ast.SliceSelection, operand, terms, st.none() | terms),
        st.builds(ast.SliceSelection, operand, st.none(), terms),
    )


selectables = st.recursive(leaves | columns | st.builds(ast.CountRows), _more_selectables, max_leaves=8)

tuple_refs = st.builds(ast.TupleRef, _tuples_of(names, 1))
token_refs = st.builds(ast.TokenRef, _tuples_of(names, 1))
element_refs = st.builds(ast.ElementRef, names, terms)
comparisons = st.sampled_from([ast.Operator(op) for op in ("=", "<", "<=", ">", ">=", "!=")])
tuple_values = markers | st.builds(ast.TupleLiteral, _tuples_of(terms, 1))
relations = st.one_of(
    st.builds(ast.Relation, columns, st.sampled_from(ast.Operator), terms),
    st.builds(ast.Relation, token_refs | element_refs, comparisons, terms),
    st.builds(ast.Relation, tuple_refs, comparisons, tuple_values),
    st.builds(ast.InRelation, columns, markers | _tuples_of(terms, 0), st.booleans()),
    st.builds(ast.InRelation, tuple_refs, markers | _tuples_of(tuple_values, 0), st.booleans()),
    st.builds(ast.BetweenRelation, columns | token_refs, terms, terms),
    st.builds(ast.BetweenRelation, tuple_refs, tuple_values, tuple_values),
    st.builds(ast.NotNullRelation, columns),
    st.builds(ast.IndexExpression, names, terms),
)

assignments = st.one_of(
    st.builds(ast.SetColumn, names, terms),
    st.builds(ast.AddToColumn, names, terms),
    st.builds(ast.SubtractFromColumn, names, terms),
    st.builds(ast.PrependToColumn, names, terms),
    st.builds(ast.SetElement, names, terms, terms),
    st.builds(ast.SetField, names, names, terms),
)


def renumbered(node: Any) -> Any:
    """The tree with its markers numbered in order."""
    count = 0

    def walk(node: Any) -> Any:
        nonlocal count
        if isinstance(node, ast.Marker):
            count += 1
            return ast.Marker(count - 1, node.name)
        if isinstance(node, tuple):
            return tuple(walk(item) for item in node)
        if not dataclasses.is_dataclass(node):
            return node
        return type(node)(*(walk(getattr(node, field.name)) for field in dataclasses.fields(node)))

    return walk(node)
