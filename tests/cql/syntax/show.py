"""Syntax trees as short, readable text, for goldens."""

from __future__ import annotations

import dataclasses
from enum import Enum

from ourodb.cql.syntax import ast


def show_statement(statement: object) -> str:
    """The statement's class, and a line for each field that isn't at its default."""
    lines = [type(statement).__name__]
    lines += [f"  {name}: {shown}" for name, shown in _fields(statement)]
    return "\n".join(lines)


def show(node: object) -> str:
    if isinstance(node, ast.Constant):
        return f"{node.kind} {node.text!r}" if node.kind == "STRING" else f"{node.kind} {node.text}"
    if isinstance(node, ast.QualifiedName):
        return f"{node.name!r}" if node.keyspace is None else f"{node.keyspace!r}.{node.name!r}"
    if isinstance(node, tuple):
        return f"[{', '.join(map(show, node))}]"
    if isinstance(node, dict):
        return f"{{{', '.join(f'{show(key)}: {show(value)}' for key, value in node.items())}}}"
    if isinstance(node, Enum):
        return node.name
    if not dataclasses.is_dataclass(node):
        return repr(node)
    required = {field.name for field in dataclasses.fields(node) if _is_required(field)}
    shown = [text if name in required else f"{name}={text}" for name, text in _fields(node)]
    return f"{type(node).__name__}({', '.join(shown)})"


def _fields(node: object) -> list[tuple[str, str]]:
    shown = []
    for field in dataclasses.fields(node):  # type: ignore[arg-type]
        value = getattr(node, field.name)
        if _is_required(field) or (value != field.default and value != {}):
            shown.append((field.name, show(value)))
    return shown


def _is_required(field: dataclasses.Field[object]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
