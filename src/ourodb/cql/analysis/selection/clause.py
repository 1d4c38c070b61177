"""The SELECT clause: its selectors prepared against a table.

Source: Apache Cassandra 5, ``Selectable``, ``Selection``, ``RawSelector``.
"""

from __future__ import annotations

from collections.abc import Sequence

from ourodb.cql.analysis import type_names
from ourodb.cql.analysis.functions.aggregates import count_rows
from ourodb.cql.analysis.functions.casts import cast
from ourodb.cql.analysis.functions.core import (
    Aggregate,
    AnyFunction,
    Argument,
    Assignment,
    Environment,
    Execute,
    Function,
    assignment_of_types,
)
from ourodb.cql.analysis.row_values import row_value
from ourodb.cql.analysis.selection import cells
from ourodb.cql.analysis.selection.cells import PropertyTarget
from ourodb.cql.analysis.selection.selectable import Selectable, aggregate, call, of_term
from ourodb.cql.analysis.tables import find_column
from ourodb.cql.analysis.terms import (
    Call,
    ColumnSpec,
    Context,
    TermArgument,
    element_spec,
    exact_type,
    find_function,
    operands,
    prepare,
    test,
)
from ourodb.cql.syntax import ast
from ourodb.cql.types import native
from ourodb.cql.types.base import CqlType
from ourodb.cql.types.collection import CollectionType, ListType, MapType, SetType
from ourodb.cql.types.composite import TupleType, UserType
from ourodb.cql.wire.primitives import write_bytes
from ourodb.errors import InvalidRequest, NotSupported
from ourodb.schema.model import Column, ColumnKind, Table

_SELECTION_NODES = (
    ast.ColumnRef,
    ast.FieldSelection,
    ast.ElementSelection,
    ast.SliceSelection,
    ast.CountRows,
    ast.CellPropertySelection,
    ast.Cast,
)


class SelectClause:
    """The selectors of a SELECT, checked.

    Attributes:
        selectables: in order.
        specs: the result's columns as clients see them.
        columns: those that are read, each once.
        plain: the columns selected, when there is nothing but columns; else None.
        is_wildcard: ``SELECT *``.
        is_aggregate: some selector contains an aggregate.
    """

    __slots__ = ("columns", "is_aggregate", "is_wildcard", "plain", "selectables", "specs")

    def __init__(self, selectors: Sequence[ast.Selector], table: Table, context: Context) -> None:
        self.is_wildcard = not selectors
        if selectors:
            self.selectables = [select(each.expression, table, context) for each in selectors]
            names = [
                each.name if selector.alias is None else selector.alias
                for each, selector in zip(self.selectables, selectors, strict=True)
            ]
        else:
            self.selectables = [of_column(column) for column in table.select_order]
            names = [each.name for each in self.selectables]
        self.specs = [
            ColumnSpec(table.keyspace, table.name, name, each.type)
            for name, each in zip(names, self.selectables, strict=True)
        ]
        self.columns: list[Column] = list(
            dict.fromkeys(column for each in self.selectables for column in each.columns)
        )
        plain = [each.column for each in self.selectables if each.column is not None]
        self.plain: list[Column] | None = plain if len(plain) == len(self.selectables) else None
        self.is_aggregate = any(each.is_aggregate for each in self.selectables)

    @property
    def only_statics(self) -> bool:
        """Whether nothing is selected but static columns and the partition key."""
        kinds = [column.kind for column in self.columns]
        return (
            not self.is_wildcard
            and ColumnKind.STATIC in kinds
            and all(kind in (ColumnKind.STATIC, ColumnKind.PARTITION_KEY) for kind in kinds)
        )


def of_column(column: Column) -> Selectable:
    """A column as it is."""
    get = row_value(column)
    return Selectable(column.type, column.name, (column,), lambda values, environment: get, column=column)


def select(
    expression: ast.Selectable, table: Table, context: Context, expected: CqlType | None = None
) -> Selectable:
    """One selector.

    Args:
        expected: the type wanted, where the selector is an argument of a call.
    Raises:
        InvalidRequest: with Cassandra's text.
    """
    match expression:
        case ast.ColumnRef():
            return of_column(find_column(table, expression.name))
        case ast.CountRows():
            return aggregate(count_rows(), ())
        case ast.CellPropertySelection():
            return _select_property(expression, table, context)
        case ast.FieldSelection():
            operand = select(expression.operand, table, context)
            type, index = _field(operand, expression.field)
            return cells.field(operand, type, expression.field, index)
        case ast.ElementSelection():
            return _select_element(expression, table, context)
        case ast.SliceSelection():
            return _select_slice(expression, table, context)
        case ast.Cast():
            return _select_cast(expression, table, context)
        case ast.TypeHint() if _has_selection(expression):
            return _select_hinted(expression, table, context)
        case ast.FunctionCall() | ast.Arithmetic() | ast.Negation():
            return _select_call(expression, table, context)
        case ast.ListLiteral() | ast.SetLiteral() | ast.MapLiteral() if _has_selection(expression):
            return _select_collection(expression, table, context, expected)
        case ast.TupleLiteral() if len(expression.elements) > 1 and _has_selection(expression):
            return _select_tuple(expression, table, context)
        case ast.TupleLiteral() if len(expression.elements) == 1:
            inner = select(expression.elements[0], table, context, expected)
            inner.name = f"({inner.name})"
            return inner
        case _:
            return _select_term(expression, table, context, expected)


def _has_selection(expression: ast.Selectable) -> bool:
    """Whether there is something in it that only a row can give."""
    match expression:
        case ast.ListLiteral() | ast.SetLiteral() | ast.TupleLiteral():
            return any(map(_has_selection, expression.elements))
        case ast.MapLiteral():
            return any(_has_selection(key) or _has_selection(value) for key, value in expression.entries)
        case ast.UdtLiteral():
            return any(_has_selection(value) for _, value in expression.fields)
        case ast.FunctionCall():
            return any(map(_has_selection, expression.arguments))
        case ast.TypeHint() | ast.Negation():
            return _has_selection(expression.operand)
        case ast.Arithmetic():
            return _has_selection(expression.left) or _has_selection(expression.right)
        case _:
            return isinstance(expression, _SELECTION_NODES)


def _select_term(
    term: ast.Selectable, table: Table, context: Context, expected: CqlType | None
) -> Selectable:
    if _has_selection(term):
        raise NotSupported(f"{term} in a SELECT clause")
    type = exact_type(term, context, table) or expected
    if type is None:
        raise _cannot_infer(term)
    spec = ColumnSpec(table.keyspace, table.name, "[selection]", type)
    if isinstance(term, ast.TypeHint):
        # The marker in ``(int) ?`` takes the hint's type; elsewhere a hint is checked against its receiver.
        if test(term.operand, spec, context) is Assignment.NOT:
            raise InvalidRequest(f"Cannot assign value {term.operand} to [selection] of type {type}")
        return of_term(prepare(term.operand, spec, context), str(term))
    return of_term(prepare(term, spec, context), str(term))


def _select_hinted(hint: ast.TypeHint, table: Table, context: Context) -> Selectable:
    type = type_names.resolve_type(hint.type, context.keyspace or "", context.schema)
    operand = select(hint.operand, table, context, type)
    if assignment_of_types(operand.type, type) is Assignment.NOT:
        raise InvalidRequest(f"Cannot assign value {hint.operand} to {operand.name} of type {type}")
    return Selectable(
        type,
        f"({hint.type}){operand.name}",
        operand.columns,
        None if operand.is_aggregate else operand.bind,
        operand.group if operand.is_aggregate else None,
    )


# --- calls ---------------------------------------------------------------------------------------------------------


class _SelectedArgument:
    """An argument that has a type of its own, because it is made of columns."""

    __slots__ = ("expression", "type")

    is_marker = False

    def __init__(self, expression: ast.Selectable, type: CqlType) -> None:
        self.expression = expression
        self.type = type

    def test(self, type: CqlType) -> Assignment:
        return assignment_of_types(self.type, type)

    def exact_type(self) -> CqlType | None:
        return self.type

    def compatible_type(self) -> CqlType | None:
        return self.type

    def __str__(self) -> str:
        return str(self.expression)


def _select_call(expression: Call, table: Table, context: Context) -> Selectable:
    given: Sequence[ast.Selectable] = operands(expression)
    if isinstance(expression, ast.FunctionCall) and _counts_rows(expression):
        return aggregate(count_rows(), ())
    prepared: list[Selectable | None] = []
    arguments: list[Argument] = []
    for each in given:
        # Calls and columns tell their types; literals and markers take what the function wants.
        known = select(each, table, context) if _has_selection(each) or _is_call(each) else None
        prepared.append(known)
        arguments.append(
            TermArgument(each, context, table) if known is None else _SelectedArgument(each, known.type)
        )
    function: AnyFunction | None = find_function(expression, arguments, None, table)
    if function is None:
        assert isinstance(expression, ast.FunctionCall)
        raise InvalidRequest(f"Unknown function '{expression.name}'")
    selected = [
        known if known is not None else select(each, table, context, type)
        for known, each, type in zip(prepared, given, function.argument_types, strict=True)
    ]
    if isinstance(function, Aggregate):
        return aggregate(function, selected)
    return call(function, selected)


def _is_call(expression: ast.Selectable) -> bool:
    return isinstance(expression, (ast.FunctionCall, ast.Arithmetic, ast.Negation))


def _counts_rows(expression: ast.FunctionCall) -> bool:
    return (
        expression.name.name == "count"
        and expression.name.keyspace in (None, "system")
        and len(expression.arguments) == 1
        and isinstance(expression.arguments[0], ast.Constant)
    )


def _select_cast(expression: ast.Cast, table: Table, context: Context) -> Selectable:
    operand = select(expression.operand, table, context)
    target = native.NATIVE_TYPES.get(expression.type.name)
    function = None if target is None else cast(operand.type, target)
    if function is None:
        raise InvalidRequest(f"{expression.operand} cannot be cast to {target or expression.type}")
    return call(function, [operand])


# --- collections and tuples of what rows hold ----------------------------------------------------------------------


def _cannot_infer(expression: ast.Selectable) -> InvalidRequest:
    return InvalidRequest(
        f"Cannot infer type for term {expression} in selection clause (try using a cast to force a type)"
    )


class _Part:
    """An element of a collection or tuple: prepared at once where it has a type of its own, so that nested ones aren't
    prepared again and again.
    """

    __slots__ = ("expression", "prepared", "type")

    def __init__(self, expression: ast.Selectable, table: Table, context: Context) -> None:
        self.expression = expression
        self.prepared: Selectable | None = None
        if _has_selection(expression):
            self.prepared = select(expression, table, context)
            self.type: CqlType | None = self.prepared.type.frozen()
        else:
            self.type = exact_type(expression, context, table)

    def select(self, type: CqlType, table: Table, context: Context) -> Selectable:
        return self.prepared or select(self.expression, table, context, type)


def _first_type(parts: Sequence[_Part]) -> CqlType | None:
    return next((part.type for part in parts if part.type is not None), None)


def _select_collection(
    expression: ast.ListLiteral | ast.SetLiteral | ast.MapLiteral,
    table: Table,
    context: Context,
    expected: CqlType | None,
) -> Selectable:
    type: CqlType | None = expected
    if isinstance(expression, ast.MapLiteral):
        flat = [_Part(part, table, context) for entry in expression.entries for part in entry]
        key = _first_type(flat[::2])
        value = _first_type(flat[1::2])
        if key is not None and value is not None:
            type = MapType(key, value)
    else:
        flat = [_Part(part, table, context) for part in expression.elements]
        element = _first_type(flat)
        if element is not None:
            type = ListType(element) if isinstance(expression, ast.ListLiteral) else SetType(element)
    if not isinstance(type, CollectionType):
        raise _cannot_infer(expression)
    if isinstance(type, MapType):
        count = len(flat) // 2
        wanted = [type.key, type.element] * count
    else:
        count = len(flat)
        wanted = [type.element] * count
    head = count.to_bytes(4, "big")
    in_type_order = type.in_type_order

    def execute(values: Sequence[bytes | None], environment: Environment) -> bytes:
        return in_type_order(head + b"".join(map(write_bytes, values)))

    return _composed(expression, type, flat, wanted, execute, table, context)


def _select_tuple(expression: ast.TupleLiteral, table: Table, context: Context) -> Selectable:
    parts = [_Part(part, table, context) for part in expression.elements]
    known = [part.type for part in parts if part.type is not None]
    if len(known) < len(parts):
        raise _cannot_infer(expression)
    type = TupleType(tuple(known))

    def execute(values: Sequence[bytes | None], environment: Environment) -> bytes:
        return type.join(list(values))

    return _composed(expression, type, parts, known, execute, table, context)


def _composed(
    expression: ast.Selectable,
    type: CqlType,
    parts: Sequence[_Part],
    wanted: Sequence[CqlType],
    execute: Execute,
    table: Table,
    context: Context,
) -> Selectable:
    name = str(expression)
    made = Function(name, wanted, type, execute, column_name=lambda names: name)
    selected = [part.select(part_type, table, context) for part, part_type in zip(parts, wanted, strict=True)]
    return call(made, selected)


# --- inside of cells -----------------------------------------------------------------------------------------------


def _field(operand: Selectable, name: str) -> tuple[UserType, int]:
    type = operand.type
    if not isinstance(type, UserType):
        raise InvalidRequest(f"Invalid field selection: {operand.name} of type {type} is not a user type")
    index = type.field_index(name)
    if index < 0:
        raise InvalidRequest(f"{operand.name} of type {type} has no field {name}")
    return type, index


def _collection(operand: Selectable, what: str) -> CollectionType:
    type = operand.type
    if not isinstance(type, CollectionType):
        if what == "Element":
            raise InvalidRequest(
                f"Invalid element selection: {operand.name} is of type {type} is not a collection"
            )
        raise InvalidRequest(f"Invalid slice selection: {operand.name} of type {type} is not a collection")
    if isinstance(type, ListType):
        raise InvalidRequest(
            f"{what} selection is only allowed on sets and maps, but {operand.name} is a list"
        )
    return type


def _key_spec(operand: Selectable, type: CollectionType, table: Table) -> ColumnSpec:
    part = "key" if isinstance(type, MapType) else "value"
    receiver = ColumnSpec(table.keyspace, table.name, operand.name, type)
    return element_spec(receiver, f"{part}({operand.name})", cells.key_type(type))


def _select_element(expression: ast.ElementSelection, table: Table, context: Context) -> Selectable:
    operand = select(expression.operand, table, context)
    type = _collection(operand, "Element")
    key = prepare(expression.key, _key_spec(operand, type, table), context)
    return cells.element(operand, type, key, str(expression.key))


def _select_slice(expression: ast.SliceSelection, table: Table, context: Context) -> Selectable:
    operand = select(expression.operand, table, context)
    type = _collection(operand, "Slice")
    spec = _key_spec(operand, type, table)
    low = None if expression.low is None else prepare(expression.low, spec, context)
    high = None if expression.high is None else prepare(expression.high, spec, context)
    low_text = "" if expression.low is None else str(expression.low)
    high_text = "" if expression.high is None else str(expression.high)
    return cells.piece(operand, type, low, high, f"[{low_text}..{high_text}]")


def _select_property(expression: ast.CellPropertySelection, table: Table, context: Context) -> Selectable:
    property, operand = expression.property, expression.operand
    selected = select(operand, table, context)
    target = _property_target(operand, table, context)
    column = target.column
    if column.kind in (ColumnKind.PARTITION_KEY, ColumnKind.CLUSTERING):
        raise InvalidRequest(f"Cannot use selection function {property} on PRIMARY KEY part {column.name}")
    return cells.cell_property(property, target, selected.name, _now_s)


def _now_s(environment: Environment) -> int:
    now_s: int = environment.now_s
    return now_s


def _property_target(operand: ast.Selectable, table: Table, context: Context) -> PropertyTarget:
    match operand:
        case ast.ColumnRef():
            return PropertyTarget(find_column(table, operand.name))
        case ast.ElementSelection(ast.ColumnRef(name), key):
            column = find_column(table, name)
            spec = _key_spec(of_column(column), _collection(of_column(column), "Element"), table)
            return PropertyTarget(column, key=prepare(key, spec, context))
        case ast.SliceSelection(ast.ColumnRef(name), low, high):
            column = find_column(table, name)
            spec = _key_spec(of_column(column), _collection(of_column(column), "Slice"), table)
            return PropertyTarget(
                column,
                low=None if low is None else prepare(low, spec, context),
                high=None if high is None else prepare(high, spec, context),
                is_slice=True,
            )
        case ast.FieldSelection(ast.ColumnRef(name), field):
            column = find_column(table, name)
            _, index = _field(of_column(column), field)
            return PropertyTarget(column, field=index)
        case _:
            raise NotSupported(f"A write time or TTL of {operand}")
