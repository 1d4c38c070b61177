"""How well terms fit types, and which functions calls mean.

``test`` says how well a term would fit a type, without an error when it doesn't; ``exact_type`` what type a term has by
itself. Both are how overloads of functions are chosen, and both ask what a call inside of a term means, so calls are
resolved once for each type that is asked about.

Source: Apache Cassandra 5, ``AssignmentTestable``, ``Constants.Literal``, ``FunctionCall.Raw``.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Final, TypeAlias

from ourodb.cql.analysis import type_names
from ourodb.cql.analysis.bound import ColumnSpec, Context, element_spec
from ourodb.cql.analysis.functions.core import (
    AnyFunction,
    Argument,
    Assignment,
    assignment_of_types,
    resolve_operation,
)
from ourodb.cql.analysis.functions.native import find
from ourodb.cql.analysis.functions.operations import negations, operators
from ourodb.cql.syntax import ast
from ourodb.cql.types import native
from ourodb.cql.types.base import CqlType
from ourodb.cql.types.collection import CollectionType, ListType, MapType, SetType
from ourodb.cql.types.composite import TupleType, UserType
from ourodb.cql.types.vector import VectorType
from ourodb.errors import InvalidRequest
from ourodb.schema.model import Table

Kind = ast.ConstantKind


def test(term: ast.Selectable, receiver: ColumnSpec, context: Context) -> Assignment:
    """How well a term fits ``receiver``, without an error when it doesn't."""
    type = receiver.type
    match term:
        case ast.Constant():
            return test_constant(term, type)
        case ast.Marker():
            return Assignment.WEAK
        case ast.Null():
            return Assignment.WEAK
        case ast.ListLiteral():
            return _test_list(term, receiver, context)
        case ast.SetLiteral():
            if isinstance(type, MapType) and not term.elements:
                return Assignment.WEAK
            if not isinstance(type, SetType):
                return Assignment.NOT
            return _test_all(term.elements, value_spec(receiver, type.element), context)
        case ast.MapLiteral():
            if not isinstance(type, MapType):
                return Assignment.NOT
            key_spec = element_spec(receiver, f"key({receiver.name})", type.key)
            keys = _test_all([key for key, _ in term.entries], key_spec, context)
            entry_spec = value_spec(receiver, type.element)
            return max(keys, _test_all([value for _, value in term.entries], entry_spec, context))
        case ast.UdtLiteral():
            return _test_udt(term, receiver, context)
        case ast.TupleLiteral():
            return _test_tuple(term, receiver, context)
        case ast.TypeHint():
            return assignment_of_types(hinted(term, context), type)
        case ast.FunctionCall() | ast.Arithmetic() | ast.Negation():
            return _test_call(term, receiver, context)
        case _:
            return Assignment.NOT


def _test_all(terms: Sequence[ast.Selectable], spec: ColumnSpec, context: Context) -> Assignment:
    if not terms:
        return Assignment.WEAK
    return max(test(term, spec, context) for term in terms)


def _test_list(literal: ast.ListLiteral, receiver: ColumnSpec, context: Context) -> Assignment:
    type = receiver.type
    if isinstance(type, VectorType):
        if len(literal.elements) != type.dimension:
            return Assignment.NOT
        return _test_all(literal.elements, value_spec(receiver, type.element), context)
    if not isinstance(type, ListType):
        raise no_list(type)
    return _test_all(literal.elements, value_spec(receiver, type.element), context)


def _test_udt(literal: ast.UdtLiteral, receiver: ColumnSpec, context: Context) -> Assignment:
    type = receiver.type
    if not isinstance(type, UserType):
        return Assignment.NOT
    for name, value in literal.fields:
        index = type.field_index(name)
        if index < 0:
            return Assignment.NOT
        spec = element_spec(receiver, f"{receiver.name}.{name}", type.components[index])
        if test(value, spec, context) is Assignment.NOT:
            return Assignment.NOT
    return Assignment.WEAK


def _test_tuple(literal: ast.TupleLiteral, receiver: ColumnSpec, context: Context) -> Assignment:
    type = receiver.type
    if not is_tuple(type):
        return test(literal.elements[0], receiver, context) if len(literal.elements) == 1 else Assignment.NOT
    assert isinstance(type, TupleType)
    if len(literal.elements) > len(type.components):
        return Assignment.NOT
    for index, element in enumerate(literal.elements):
        spec = component_spec(receiver, index, type.components[index])
        if test(element, spec, context) is Assignment.NOT:
            return Assignment.NOT
    return Assignment.WEAK


def _test_call(call: Call, receiver: ColumnSpec, context: Context) -> Assignment:
    # Whether the arguments are right is told when the call itself is prepared; here only its result counts.
    try:
        function = function_of(call, receiver.type, receiver_table(receiver, context), context)
    except InvalidRequest:
        return Assignment.WEAK
    if function is None:
        return Assignment.WEAK
    return assignment_of_types(function.return_type, receiver.type)


def exact_type(term: ast.Selectable, context: Context, table: Table | None) -> CqlType | None:
    """The type of a term that can have but one, else None."""
    match term:
        case ast.TypeHint():
            return hinted(term, context)
        case ast.FunctionCall() | ast.Arithmetic() | ast.Negation():
            try:
                function = function_of(term, None, table, context)
            except InvalidRequest:
                return None
            return None if function is None else function.return_type
        case ast.TupleLiteral():
            types = [exact_type(element, context, table) for element in term.elements]
            known = [type for type in types if type is not None]
            if len(known) < len(types):
                return None
            return known[0] if len(known) == 1 else TupleType(tuple(known))
        case ast.ListLiteral() | ast.SetLiteral():
            for element in term.elements:
                type = exact_type(element, context, table)
                if type is not None:
                    made = ListType if isinstance(term, ast.ListLiteral) else SetType
                    return made(type, frozen=True)
            return None
        case ast.MapLiteral():
            for key, value in term.entries:
                key_type = exact_type(key, context, table)
                value_type = exact_type(value, context, table)
                if key_type is not None and value_type is not None:
                    return MapType(key_type, value_type, frozen=True)
            return None
        case _:
            return None


# --- constants ----------------------------------------------------------------------------------------------


@cache
def _weakly_assignable(kind: Kind) -> frozenset[str]:
    names = {
        Kind.STRING: "ascii text inet date time timestamp",
        Kind.INTEGER: "bigint counter date decimal double duration float int smallint time timestamp tinyint varint",
        Kind.UUID: "uuid timeuuid",
        Kind.FLOAT: "decimal double float",
        Kind.BOOLEAN: "boolean",
        Kind.HEX: "blob",
        Kind.DURATION: "duration",
    }
    return frozenset(names[kind].split())


LONG_DIGITS_MAX: Final = 20
"""Characters of the longest bigint, its sign included. Python converts no number of some thousand digits."""


def preferred_type(constant: ast.Constant) -> CqlType:
    """The type that a literal has where nothing else tells."""
    text = constant.text
    match constant.kind:
        case Kind.STRING:
            return native.ASCII if text.isascii() else native.TEXT
        case Kind.INTEGER:
            if len(text) > LONG_DIGITS_MAX:
                return native.VARINT
            number = int(text)
            if -(1 << 31) <= number < 1 << 31:
                return native.INT
            return native.BIGINT if -(1 << 63) <= number < 1 << 63 else native.VARINT
        case Kind.UUID:
            return native.TIMEUUID if text[14:15] == "1" else native.UUID
        case Kind.FLOAT:
            try:
                number_is_double = "n" in text.lower() or Decimal(repr(float(text))) == Decimal(text)
            except InvalidOperation:
                number_is_double = True
            return native.DOUBLE if number_is_double else native.DECIMAL
        case Kind.BOOLEAN:
            return native.BOOLEAN
        case Kind.HEX:
            return native.BLOB
        case _:
            return native.DURATION


def _is_native(type: CqlType) -> bool:
    return type.cql_name in native.NATIVE_TYPES


def test_constant(constant: ast.Constant, type: CqlType) -> Assignment:
    if isinstance(type, (CollectionType, UserType, VectorType)):
        return Assignment.NOT
    if not _is_native(type):
        return Assignment.WEAK
    if type == preferred_type(constant):
        return Assignment.EXACT
    return Assignment.WEAK if type.cql_name in _weakly_assignable(constant.kind) else Assignment.NOT


# --- parts of terms -----------------------------------------------------------------------------------------


def value_spec(receiver: ColumnSpec, type: CqlType) -> ColumnSpec:
    return element_spec(receiver, f"value({receiver.name})", type)


def component_spec(receiver: ColumnSpec, index: int, type: CqlType) -> ColumnSpec:
    return element_spec(receiver, f"{receiver.name}[{index}]", type)


def is_tuple(type: CqlType) -> bool:
    return isinstance(type, TupleType) and not isinstance(type, UserType)


def no_list(type: CqlType) -> InvalidRequest:
    return InvalidRequest(f"Unexpected receiver type '{type}'; only list and vector are expected")


def contains_marker(term: ast.Selectable | None) -> bool:
    """Whether there is a bind marker anywhere in the term."""
    match term:
        case ast.Marker():
            return True
        case ast.ListLiteral() | ast.SetLiteral() | ast.TupleLiteral():
            return any(map(contains_marker, term.elements))
        case ast.MapLiteral():
            return any(contains_marker(key) or contains_marker(value) for key, value in term.entries)
        case ast.UdtLiteral():
            return any(contains_marker(value) for _, value in term.fields)
        case ast.FunctionCall():
            return any(map(contains_marker, term.arguments))
        case ast.TypeHint() | ast.Cast() | ast.Negation():
            return contains_marker(term.operand)
        case ast.Arithmetic():
            return contains_marker(term.left) or contains_marker(term.right)
        case _:
            return False


# --- calls --------------------------------------------------------------------------------------------------


def hinted(hint: ast.TypeHint, context: Context) -> CqlType:
    return type_names.resolve_type(hint.type, context.keyspace or "", context.schema)


class TermArgument:
    """A term as an argument of a call that is being resolved."""

    __slots__ = ("context", "table", "term")

    def __init__(self, term: ast.Selectable, context: Context, table: Table | None) -> None:
        self.term = term
        self.context = context
        self.table = table

    def test(self, type: CqlType) -> Assignment:
        keyspace = self.table.keyspace if self.table is not None else ""
        name = self.table.name if self.table is not None else ""
        return test(self.term, ColumnSpec(keyspace, name, "argument", type), self.context)

    def exact_type(self) -> CqlType | None:
        return exact_type(self.term, self.context, self.table)

    def compatible_type(self) -> CqlType | None:
        if isinstance(self.term, ast.Constant):
            return preferred_type(self.term)
        return self.exact_type()

    @property
    def is_marker(self) -> bool:
        return contains_marker(self.term)

    def __str__(self) -> str:
        return str(self.term)


Call: TypeAlias = ast.FunctionCall | ast.Arithmetic | ast.Negation


def operands(call: Call) -> Sequence[ast.Selectable]:
    """What a call or operator is applied to."""
    if isinstance(call, ast.FunctionCall):
        return call.arguments
    if isinstance(call, ast.Negation):
        return (call.operand,)
    return (call.left, call.right)


def find_function(
    call: Call, arguments: Sequence[Argument], receiver: CqlType | None, table: Table | None
) -> AnyFunction | None:
    """The function behind a call or an operator."""
    if isinstance(call, ast.FunctionCall):
        return find(call.name, arguments, receiver, table)
    if isinstance(call, ast.Negation):
        return resolve_operation("-", negations(), arguments, receiver)
    return resolve_operation(call.op, operators(call.op), arguments, receiver)


def function_of(
    call: Call, receiver: CqlType | None, table: Table | None, context: Context
) -> AnyFunction | None:
    key = (id(call), receiver)
    if key not in context.calls:
        arguments = [TermArgument(operand, context, table) for operand in operands(call)]
        try:
            context.calls[key] = find_function(call, arguments, receiver, table)
        except InvalidRequest as error:
            context.calls[key] = error
    found = context.calls[key]
    if isinstance(found, InvalidRequest):
        raise found
    return found


def receiver_table(receiver: ColumnSpec, context: Context) -> Table | None:
    return context.schema.table(receiver.keyspace, receiver.table)
