"""Terms: literals, bind markers, casts and calls, each checked against the type that it is for.

``prepare(term, receiver, context)`` gives a bound term (``bound``): a constant, a marker, or something to compute at
each execution. Whoever analyses a statement finds all that he needs of terms here.

Source: Apache Cassandra 5, ``Constants``, ``Lists``, ``Sets``, ``Maps``, ``Tuples``, ``UserTypes``, ``Vectors``,
``TypeCast``, ``FunctionCall``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ourodb.cql.analysis.bound import (
    NO_ENVIRONMENT,
    NO_VALUES,
    BoundTerm,
    ColumnSpec,
    Computed,
    Constant,
    Context,
    Evaluate,
    Marker,
    column_spec,
    element_spec,
)
from ourodb.cql.analysis.fitting import (
    Call,
    TermArgument,
    component_spec,
    contains_marker,
    exact_type,
    find_function,
    function_of,
    hinted,
    is_tuple,
    no_list,
    operands,
    receiver_table,
    test,
    test_constant,
    value_spec,
)
from ourodb.cql.analysis.functions.core import (
    Assignment,
    Environment,
    Function,
    argument_name,
    assignment_of_types,
)
from ourodb.cql.syntax import ast
from ourodb.cql.types import native
from ourodb.cql.types.base import CqlType
from ourodb.cql.types.collection import ListType, MapType, SetType
from ourodb.cql.types.composite import TupleType, UserType
from ourodb.cql.types.vector import VectorType
from ourodb.cql.wire.primitives import UNSET, UnsetType, Value
from ourodb.errors import InvalidRequest, NotSupported

__all__ = [
    "Assignment",
    "BoundTerm",
    "Call",
    "ColumnSpec",
    "Computed",
    "Constant",
    "Context",
    "Environment",
    "Evaluate",
    "Marker",
    "TermArgument",
    "column_spec",
    "contains_marker",
    "element_spec",
    "exact_type",
    "find_function",
    "operands",
    "parse_constant",
    "prepare",
    "test",
]

Kind = ast.ConstantKind


def prepare(term: ast.Selectable, receiver: ColumnSpec, context: Context) -> BoundTerm:
    """The term checked and compiled as a value for ``receiver``.

    Raises:
        InvalidRequest: with Cassandra's text, when it can't be one.
    """
    match term:
        case ast.Constant():
            return _prepare_constant(term, receiver)
        case ast.Marker():
            return context.bind(term, receiver)
        case ast.Null():
            if receiver.type.is_counter:
                raise InvalidRequest("Invalid null value for counter increment/decrement")
            return Constant(receiver.type, None)
        case ast.ListLiteral():
            return _prepare_list(term, receiver, context)
        case ast.SetLiteral():
            return _prepare_set(term, receiver, context)
        case ast.MapLiteral():
            return _prepare_map(term, receiver, context)
        case ast.UdtLiteral():
            return _prepare_udt(term, receiver, context)
        case ast.TupleLiteral():
            return _prepare_tuple(term, receiver, context)
        case ast.FunctionCall() | ast.Arithmetic() | ast.Negation():
            return _prepare_call(term, receiver, context)
        case ast.TypeHint():
            return _prepare_type_hint(term, receiver, context)
        case _:
            raise NotSupported(f"{term} as a value")


# --- constants ----------------------------------------------------------------------------------------------


def _prepare_constant(constant: ast.Constant, receiver: ColumnSpec) -> Constant:
    type = receiver.type
    if test_constant(constant, type) is Assignment.NOT:
        raise InvalidRequest(
            f'Invalid {constant.kind} constant ({constant.text}) for "{receiver.name}" of type {type}'
        )
    return Constant(type, parse_constant(constant, type))


def parse_constant(constant: ast.Constant, type: CqlType) -> bytes:
    """Bytes of a literal that is assignable to ``type``."""
    if constant.kind is Kind.HEX:
        digits = constant.text[2:]
        if len(digits) % 2:
            raise InvalidRequest(f"cannot parse '{digits}' as hex bytes")
        return bytes.fromhex(digits)
    if type.is_counter:
        return native.BIGINT.parse(constant.text)
    return type.parse(constant.text)


# --- collections, tuples, user types, vectors ---------------------------------------------------------------


def _check_assignable(
    term: ast.Selectable, spec: ColumnSpec, context: Context, receiver: ColumnSpec, kind: str, part: str
) -> None:
    if test(term, spec, context) is Assignment.NOT:
        raise InvalidRequest(
            f"Invalid {kind} literal for {receiver.name}: {part} {term} is not of type {spec.type}"
        )


def _invalid_literal(kind: str, receiver: ColumnSpec) -> InvalidRequest:
    return InvalidRequest(f"Invalid {kind} literal for {receiver.name} of type {receiver.type}")


def _without_markers(
    term: ast.Selectable, spec: ColumnSpec, context: Context, receiver: ColumnSpec, kind: str
) -> BoundTerm:
    if contains_marker(term):
        raise InvalidRequest(
            f"Invalid {kind} literal for {receiver.name}: bind variables are not supported inside collection literals"
        )
    return prepare(term, spec, context)


def _composed(type: CqlType, parts: Sequence[BoundTerm], join: Callable[[list[Value]], Value]) -> BoundTerm:
    """``join`` of the parts' values: at once when all of them are constants, else at each execution."""
    if all(isinstance(part, Constant) for part in parts):
        joined = join([part.evaluate(NO_VALUES, NO_ENVIRONMENT) for part in parts])
        assert not isinstance(joined, UnsetType)
        return Constant(type, joined)
    evaluators = [part.evaluate for part in parts]

    def evaluate(values: Sequence[Value], environment: Environment) -> Value:
        return join([evaluator(values, environment) for evaluator in evaluators])

    return Computed(type, evaluate)


def _all_set(elements: list[Value], where: str) -> list[bytes] | None:
    """The elements, or None when one isn't set."""
    found: list[bytes] = []
    for element in elements:
        if element is None:
            raise InvalidRequest(f"null is not supported inside {where}")
        if isinstance(element, UnsetType):
            return None
        found.append(element)
    return found


def _prepare_list(literal: ast.ListLiteral, receiver: ColumnSpec, context: Context) -> BoundTerm:
    type = receiver.type
    if isinstance(type, VectorType):
        return _prepare_vector(literal, receiver, type, context)
    if not isinstance(type, ListType):
        raise no_list(type)
    spec = value_spec(receiver, type.element)
    for element in literal.elements:
        _check_assignable(element, spec, context, receiver, "list", "value")
    parts = [_without_markers(element, spec, context, receiver, "list") for element in literal.elements]

    def join(elements: list[Value]) -> Value:
        found = _all_set(elements, "collections")
        return UNSET if found is None else type.join(found)

    return _composed(type, parts, join)


def _prepare_vector(
    literal: ast.ListLiteral, receiver: ColumnSpec, type: VectorType, context: Context
) -> BoundTerm:
    if len(literal.elements) != type.dimension:
        raise InvalidRequest(
            f"Invalid vector literal for {receiver.name} of type {type}; "
            f"expected {type.dimension} elements, but given {len(literal.elements)}"
        )
    spec = value_spec(receiver, type.element)
    for element in literal.elements:
        _check_assignable(element, spec, context, receiver, "vector", "value")
    parts = [prepare(element, spec, context) for element in literal.elements]

    def join(elements: list[Value]) -> Value:
        found = _all_set(elements, "vectors")
        return UNSET if found is None else type.join(found)

    return _composed(type, parts, join)


def _prepare_set(literal: ast.SetLiteral, receiver: ColumnSpec, context: Context) -> BoundTerm:
    type = receiver.type
    if isinstance(type, MapType) and not literal.elements:
        return Constant(type, type.join([]))
    if not isinstance(type, SetType):
        raise _invalid_literal("set", receiver)
    spec = value_spec(receiver, type.element)
    for element in literal.elements:
        _check_assignable(element, spec, context, receiver, "set", "value")
    parts = [_without_markers(element, spec, context, receiver, "set") for element in literal.elements]

    def join(elements: list[Value]) -> Value:
        found = _all_set(elements, "collections")
        return UNSET if found is None else type.in_type_order(type.join(found))

    return _composed(type, parts, join)


def _prepare_map(literal: ast.MapLiteral, receiver: ColumnSpec, context: Context) -> BoundTerm:
    type = receiver.type
    if not isinstance(type, MapType):
        raise _invalid_literal("map", receiver)
    key_spec = element_spec(receiver, f"key({receiver.name})", type.key)
    entry_spec = value_spec(receiver, type.element)
    for key, value in literal.entries:
        _check_assignable(key, key_spec, context, receiver, "map", "key")
        _check_assignable(value, entry_spec, context, receiver, "map", "value")
    parts = []
    for key, value in literal.entries:
        parts.append(_without_markers(key, key_spec, context, receiver, "map"))
        parts.append(_without_markers(value, entry_spec, context, receiver, "map"))

    def join(elements: list[Value]) -> Value:
        found = _all_set(elements, "collections")
        if found is None:
            return UNSET
        return type.in_type_order(type.join(list(zip(found[::2], found[1::2], strict=True))))

    return _composed(type, parts, join)


def _prepare_udt(literal: ast.UdtLiteral, receiver: ColumnSpec, context: Context) -> BoundTerm:
    type = receiver.type
    if not isinstance(type, UserType):
        raise _invalid_literal("user type", receiver)
    given = dict(literal.fields)
    parts: list[BoundTerm] = []
    for name, field_type in zip(type.field_names, type.components, strict=True):
        value = given.pop(name, None)
        if value is None:
            parts.append(Constant(field_type, None))
            continue
        spec = element_spec(receiver, f"{receiver.name}.{name}", field_type)
        if test(value, spec, context) is Assignment.NOT:
            raise InvalidRequest(
                f"Invalid user type literal for {receiver.name}: field {name} is not of type {field_type}"
            )
        parts.append(prepare(value, spec, context))
    if given:
        raise InvalidRequest(f"Unknown field '{next(iter(given))}' in value of user defined type {type.name}")

    def join(elements: list[Value]) -> Value:
        return type.join([_set_field(type, index, element) for index, element in enumerate(elements)])

    return _composed(type, parts, join)


def _set_field(type: UserType, index: int, value: Value) -> bytes | None:
    if isinstance(value, UnsetType):
        raise InvalidRequest(
            f"Invalid unset value for field '{type.field_names[index]}' of user defined type {type.name}"
        )
    return value


def _prepare_tuple(literal: ast.TupleLiteral, receiver: ColumnSpec, context: Context) -> BoundTerm:
    type = receiver.type
    if len(literal.elements) == 1 and not is_tuple(type):
        return prepare(literal.elements[0], receiver, context)
    if not is_tuple(type):
        raise InvalidRequest(f"Invalid tuple type literal for {receiver.name} of type {type}")
    assert isinstance(type, TupleType)
    if len(literal.elements) > len(type.components):
        raise InvalidRequest(
            f"Invalid tuple literal for {receiver.name}: too many elements. Type {type} expects "
            f"{len(type.components)} but got {len(literal.elements)}"
        )
    specs = [component_spec(receiver, index, part) for index, part in enumerate(type.components)]
    for index, (element, spec) in enumerate(zip(literal.elements, specs, strict=False)):
        if test(element, spec, context) is Assignment.NOT:
            raise InvalidRequest(
                f"Invalid tuple literal for {receiver.name}: component {index} is not of type {spec.type}"
            )
    parts = [prepare(element, spec, context) for element, spec in zip(literal.elements, specs, strict=False)]

    def join(elements: list[Value]) -> Value:
        return type.join([_set_component(index, element) for index, element in enumerate(elements)])

    return _composed(type, parts, join)


def _set_component(index: int, value: Value) -> bytes | None:
    if isinstance(value, UnsetType):
        raise InvalidRequest(f"Invalid unset value for tuple field number {index}")
    return value


# --- type hints and calls -----------------------------------------------------------------------------------


def _prepare_type_hint(hint: ast.TypeHint, receiver: ColumnSpec, context: Context) -> BoundTerm:
    spec = ColumnSpec(receiver.keyspace, receiver.table, str(hint), hinted(hint, context))
    if test(hint.operand, spec, context) is Assignment.NOT:
        raise InvalidRequest(f"Cannot cast value {hint.operand} to type {hint.type}")
    if test(hint, receiver, context) is Assignment.NOT:
        raise InvalidRequest(f"Cannot assign value {hint} to {receiver.name} of type {receiver.type}")
    # The marker of ``(int) ?`` is for the receiver, as in Cassandra.
    return prepare(hint.operand, receiver, context)


def _prepare_call(call: Call, receiver: ColumnSpec, context: Context) -> BoundTerm:
    table = receiver_table(receiver, context)
    function = function_of(call, receiver.type, table, context)
    if function is None:
        assert isinstance(call, ast.FunctionCall)
        raise InvalidRequest(f"Unknown function {call.name} called")
    if not isinstance(function, Function):
        raise InvalidRequest("Aggregation function are not supported in the where clause")
    if assignment_of_types(function.return_type, receiver.type) is Assignment.NOT:
        if isinstance(call, ast.Arithmetic):
            what = f"operation {call.op}"
        else:
            what = f"function {function.qualified_name}"
        raise InvalidRequest(
            f"Type error: cannot assign result of {what} (type {function.return_type}) to "
            f"{receiver.name} (type {receiver.type})"
        )
    parts = []
    for index, (operand, type) in enumerate(zip(operands(call), function.argument_types, strict=True)):
        name = argument_name(function, index)
        parts.append(prepare(operand, ColumnSpec(receiver.keyspace, receiver.table, name, type), context))
    return _call(function, parts)


def _call(function: Function, parts: Sequence[BoundTerm]) -> BoundTerm:
    execute = function.execute
    if function.is_pure and all(isinstance(part, Constant) for part in parts):
        constants = [part.value for part in parts if isinstance(part, Constant)]
        return Constant(function.return_type, execute(constants, NO_ENVIRONMENT))
    evaluators = [part.evaluate for part in parts]
    name = function.qualified_name

    def evaluate(values: Sequence[Value], environment: Environment) -> Value:
        arguments: list[bytes | None] = []
        for evaluator in evaluators:
            value = evaluator(values, environment)
            if isinstance(value, UnsetType):
                raise InvalidRequest(f"Invalid unset value for argument in call to function {name}")
            arguments.append(value)
        return execute(arguments, environment)

    return Computed(function.return_type, evaluate)
