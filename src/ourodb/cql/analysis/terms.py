"""Terms: literals, bind markers, casts and calls, each checked against the type that it is for.

``prepare(term, receiver, context)`` gives a *bound term*, which is one of three:

- ``Constant``: its bytes are known now (None is null).
- ``Marker``: one bound value; ``index`` and ``type`` let a plan read it straight from the list of values.
- ``Computed``: must be evaluated at each execution: tuples with markers inside, now(), ``? + 1``.

All three have ``type`` and ``evaluate(values, environment)``, which gives bytes, None for null, or UNSET, validated and
in the order in which frozen sets and maps are kept. Whether null or UNSET is allowed is for the place where the term
stands: ``evaluate`` refuses them only inside collections and calls, as Cassandra does.

``Context`` gathers what one statement's terms have in common; above all ``variables``, the bind markers in order, which
a client gets to see as the metadata of a PREPARED.

``test`` and ``TermArgument`` tell how well a term would fit a type, which is how overloads of functions are chosen.

Source: Apache Cassandra 5, ``Constants``, ``Lists``, ``Sets``, ``Maps``, ``Tuples``, ``UserTypes``, ``Vectors``,
``TypeCast``, ``FunctionCall``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any, NamedTuple, TypeAlias

from ourodb.cql.analysis import type_names
from ourodb.cql.analysis.functions.core import (
    AnyFunction,
    Argument,
    Assignment,
    Environment,
    Function,
    argument_name,
    assignment_of_types,
    resolve_operation,
)
from ourodb.cql.analysis.functions.native import find
from ourodb.cql.analysis.functions.operations import negations, operators
from ourodb.cql.syntax import ast
from ourodb.cql.types import native
from ourodb.cql.types.base import CqlType, Validator
from ourodb.cql.types.collection import CollectionType, ListType, MapType, SetType
from ourodb.cql.types.composite import TupleType, UserType
from ourodb.cql.types.vector import VectorType
from ourodb.cql.wire import columns as wire_columns
from ourodb.cql.wire.primitives import UNSET, UnsetType, Value
from ourodb.errors import InvalidRequest, NotSupported
from ourodb.schema.model import Column, ColumnKind, Schema, Table

__all__ = [
    "Assignment",
    "BoundTerm",
    "ColumnSpec",
    "Computed",
    "Constant",
    "Context",
    "Environment",
    "Evaluate",
    "Marker",
    "TermArgument",
    "column_spec",
    "prepare",
    "test",
]

Kind = ast.ConstantKind


class ColumnSpec(NamedTuple):
    """A place that a value is for, or comes from: a column, a bind marker, an element of a collection, ..."""

    keyspace: str
    table: str
    name: str
    type: CqlType

    def wire(self) -> wire_columns.ColumnSpec:
        """As clients see it."""
        return wire_columns.ColumnSpec(self.keyspace, self.table, self.name, self.type.option)


Evaluate: TypeAlias = Callable[[Sequence[Value], Environment], Value]


class Context:
    """One statement under analysis.

    Attributes:
        schema: to find tables, user types.
        keyspace: for names that have none, or None.
        variables: a spec for each marker met so far, named as clients see it; None where none was met yet.
        warnings: for the client.
    """

    __slots__ = ("_receivers", "keyspace", "schema", "variables", "warnings")

    def __init__(self, schema: Schema, keyspace: str | None = None, markers: ast.Markers = ()) -> None:
        self.schema = schema
        self.keyspace = keyspace
        self.variables: list[ColumnSpec | None] = [None] * len(markers)
        self.warnings: list[str] = []
        self._receivers: list[ColumnSpec | None] = [None] * len(markers)

    def bind(self, marker: ast.Marker, receiver: ColumnSpec) -> Marker:
        """Note that ``marker`` stands for ``receiver``."""
        missing = marker.index + 1 - len(self.variables)
        if missing > 0:
            self.variables.extend([None] * missing)
            self._receivers.extend([None] * missing)
        self._receivers[marker.index] = receiver
        self.variables[marker.index] = (
            receiver if marker.name is None else receiver._replace(name=marker.name)
        )
        return Marker(receiver.type, marker.index)

    def bound_variables(self) -> list[ColumnSpec]:
        """Every marker's spec, once the whole statement has been analysed."""
        variables = [spec for spec in self.variables if spec is not None]
        assert len(variables) == len(self.variables)
        return variables

    def partition_key_indexes(self, table: Table) -> tuple[int, ...]:
        """Which markers make up the partition key, in its order; () when a component isn't a marker."""
        found: dict[str, int] = {}
        for index, receiver in enumerate(self._receivers):
            if receiver is not None and receiver.table == table.name and receiver.keyspace == table.keyspace:
                column = table.columns.get(receiver.name)
                if column is not None and column.kind is ColumnKind.PARTITION_KEY:
                    found[column.name] = index
        if len(found) < len(table.partition_key):
            return ()
        return tuple(found[column.name] for column in table.partition_key)


class Constant:
    """A term whose bytes are known; None is null."""

    __slots__ = ("evaluate", "type", "value")

    def __init__(self, type: CqlType, value: bytes | None) -> None:
        self.type = type
        self.value = value
        self.evaluate: Evaluate = lambda values, environment: value


class Marker:
    """A bind marker.

    Attributes:
        index: into the list of values.
        validator: to call with bytes that were bound, or None when any are fine.
        ordered: ``type.in_type_order`` where what is bound may have to be put in order, else None.
    """

    __slots__ = ("evaluate", "index", "ordered", "type", "validator")

    def __init__(self, type: CqlType, index: int) -> None:
        self.type = type
        self.index = index
        self.validator: Validator | None = type.validator
        self.ordered: Callable[[bytes], bytes] | None = type.in_type_order if type.needs_ordering else None
        self.evaluate: Evaluate = _marker_evaluator(index, self.validator, self.ordered)


def _marker_evaluator(
    index: int, validator: Validator | None, ordered: Callable[[bytes], bytes] | None
) -> Evaluate:
    def unchecked(values: Sequence[Value], environment: Environment) -> Value:
        return values[index]

    if validator is None and ordered is None:
        return unchecked

    def checked(values: Sequence[Value], environment: Environment) -> Value:
        value = values[index]
        if value is None or isinstance(value, UnsetType):
            return value
        if validator is not None:
            validator(value)
        return value if ordered is None else ordered(value)

    return checked


class Computed:
    """A term that each execution computes anew."""

    __slots__ = ("evaluate", "type")

    def __init__(self, type: CqlType, evaluate: Evaluate) -> None:
        self.type = type
        self.evaluate = evaluate


BoundTerm: TypeAlias = Constant | Marker | Computed

NO_VALUES: Sequence[Value] = ()


class _NoEnvironment:
    """For constants, which ask nothing of it."""

    clock: Any = None
    random: Any = None
    now_s: Any = None


_NO_ENVIRONMENT = _NoEnvironment()


def column_spec(table: Table, column: Column) -> ColumnSpec:
    """The spec of a column."""
    return ColumnSpec(table.keyspace, table.name, column.name, column.type)


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


def preferred_type(constant: ast.Constant) -> CqlType:
    """The type that a literal has where nothing else tells."""
    text = constant.text
    match constant.kind:
        case Kind.STRING:
            return native.ASCII if text.isascii() else native.TEXT
        case Kind.INTEGER:
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


def _test_constant(constant: ast.Constant, type: CqlType) -> Assignment:
    if isinstance(type, (CollectionType, UserType, VectorType)):
        return Assignment.NOT
    if not _is_native(type):
        return Assignment.WEAK
    if type == preferred_type(constant):
        return Assignment.EXACT
    return Assignment.WEAK if type.cql_name in _weakly_assignable(constant.kind) else Assignment.NOT


def _prepare_constant(constant: ast.Constant, receiver: ColumnSpec) -> Constant:
    type = receiver.type
    if _test_constant(constant, type) is Assignment.NOT:
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


def element_spec(receiver: ColumnSpec, name: str, type: CqlType) -> ColumnSpec:
    """The spec of a part of ``receiver``: ``value(l)``, ``key(m)``, ``idx(l)``, ``t[0]``, ``u.field``."""
    return ColumnSpec(receiver.keyspace, receiver.table, name, type)


def _value_spec(receiver: ColumnSpec, type: CqlType) -> ColumnSpec:
    return element_spec(receiver, f"value({receiver.name})", type)


def _check_assignable(
    term: ast.Selectable, spec: ColumnSpec, context: Context, receiver: ColumnSpec, kind: str, part: str
) -> None:
    if test(term, spec, context) is Assignment.NOT:
        raise InvalidRequest(
            f"Invalid {kind} literal for {receiver.name}: {part} {term} is not of type {spec.type}"
        )


def _invalid_literal(kind: str, receiver: ColumnSpec) -> InvalidRequest:
    return InvalidRequest(f"Invalid {kind} literal for {receiver.name} of type {receiver.type}")


def _no_list(type: CqlType) -> InvalidRequest:
    return InvalidRequest(f"Unexpected receiver type '{type}'; only list and vector are expected")


def _without_markers(
    term: ast.Selectable, spec: ColumnSpec, context: Context, receiver: ColumnSpec, kind: str
) -> BoundTerm:
    if contains_marker(term):
        raise InvalidRequest(
            f"Invalid {kind} literal for {receiver.name}: bind variables are not supported inside collection literals"
        )
    return prepare(term, spec, context)


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


def _composed(type: CqlType, parts: Sequence[BoundTerm], join: Callable[[list[Value]], Value]) -> BoundTerm:
    """``join`` of the parts' values: at once when all of them are constants, else at each execution."""
    if all(isinstance(part, Constant) for part in parts):
        joined = join([part.evaluate(NO_VALUES, _NO_ENVIRONMENT) for part in parts])
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
        raise _no_list(type)
    spec = _value_spec(receiver, type.element)
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
    spec = _value_spec(receiver, type.element)
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
    spec = _value_spec(receiver, type.element)
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
    value_spec = _value_spec(receiver, type.element)
    for key, value in literal.entries:
        _check_assignable(key, key_spec, context, receiver, "map", "key")
        _check_assignable(value, value_spec, context, receiver, "map", "value")
    parts = []
    for key, value in literal.entries:
        parts.append(_without_markers(key, key_spec, context, receiver, "map"))
        parts.append(_without_markers(value, value_spec, context, receiver, "map"))

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


def _component_spec(receiver: ColumnSpec, index: int, type: CqlType) -> ColumnSpec:
    return element_spec(receiver, f"{receiver.name}[{index}]", type)


def _prepare_tuple(literal: ast.TupleLiteral, receiver: ColumnSpec, context: Context) -> BoundTerm:
    type = receiver.type
    if len(literal.elements) == 1 and not _is_tuple(type):
        return prepare(literal.elements[0], receiver, context)
    if not _is_tuple(type):
        raise InvalidRequest(f"Invalid tuple type literal for {receiver.name} of type {type}")
    assert isinstance(type, TupleType)
    if len(literal.elements) > len(type.components):
        raise InvalidRequest(
            f"Invalid tuple literal for {receiver.name}: too many elements. Type {type} expects "
            f"{len(type.components)} but got {len(literal.elements)}"
        )
    specs = [_component_spec(receiver, index, part) for index, part in enumerate(type.components)]
    for index, (element, spec) in enumerate(zip(literal.elements, specs, strict=False)):
        if test(element, spec, context) is Assignment.NOT:
            raise InvalidRequest(
                f"Invalid tuple literal for {receiver.name}: component {index} is not of type {spec.type}"
            )
    parts = [prepare(element, spec, context) for element, spec in zip(literal.elements, specs, strict=False)]

    def join(elements: list[Value]) -> Value:
        return type.join([_set_component(index, element) for index, element in enumerate(elements)])

    return _composed(type, parts, join)


def _is_tuple(type: CqlType) -> bool:
    return isinstance(type, TupleType) and not isinstance(type, UserType)


def _set_component(index: int, value: Value) -> bytes | None:
    if isinstance(value, UnsetType):
        raise InvalidRequest(f"Invalid unset value for tuple field number {index}")
    return value


# --- type hints and calls -----------------------------------------------------------------------------------


def _hinted(hint: ast.TypeHint, context: Context) -> CqlType:
    return type_names.resolve_type(hint.type, context.keyspace or "", context.schema)


def _prepare_type_hint(hint: ast.TypeHint, receiver: ColumnSpec, context: Context) -> BoundTerm:
    spec = ColumnSpec(receiver.keyspace, receiver.table, str(hint), _hinted(hint, context))
    if test(hint.operand, spec, context) is Assignment.NOT:
        raise InvalidRequest(f"Cannot cast value {hint.operand} to type {hint.type}")
    if test(hint, receiver, context) is Assignment.NOT:
        raise InvalidRequest(f"Cannot assign value {hint} to {receiver.name} of type {receiver.type}")
    # The marker of ``(int) ?`` is for the receiver, as in Cassandra.
    return prepare(hint.operand, receiver, context)


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


def _function_of(
    call: Call, receiver: CqlType | None, table: Table | None, context: Context
) -> AnyFunction | None:
    arguments = [TermArgument(operand, context, table) for operand in operands(call)]
    return find_function(call, arguments, receiver, table)


def _receiver_table(receiver: ColumnSpec, context: Context) -> Table | None:
    return context.schema.table(receiver.keyspace, receiver.table)


def _prepare_call(call: Call, receiver: ColumnSpec, context: Context) -> BoundTerm:
    table = _receiver_table(receiver, context)
    function = _function_of(call, receiver.type, table, context)
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
        return Constant(function.return_type, execute(constants, _NO_ENVIRONMENT))
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


# --- how terms fit types ------------------------------------------------------------------------------------


def test(term: ast.Selectable, receiver: ColumnSpec, context: Context) -> Assignment:
    """How well a term fits ``receiver``, without an error when it doesn't."""
    type = receiver.type
    match term:
        case ast.Constant():
            return _test_constant(term, type)
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
            return _test_all(term.elements, _value_spec(receiver, type.element), context)
        case ast.MapLiteral():
            if not isinstance(type, MapType):
                return Assignment.NOT
            key_spec = element_spec(receiver, f"key({receiver.name})", type.key)
            keys = _test_all([key for key, _ in term.entries], key_spec, context)
            value_spec = _value_spec(receiver, type.element)
            return max(keys, _test_all([value for _, value in term.entries], value_spec, context))
        case ast.UdtLiteral():
            return _test_udt(term, receiver, context)
        case ast.TupleLiteral():
            return _test_tuple(term, receiver, context)
        case ast.TypeHint():
            return assignment_of_types(_hinted(term, context), type)
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
        return _test_all(literal.elements, _value_spec(receiver, type.element), context)
    if not isinstance(type, ListType):
        raise _no_list(type)
    return _test_all(literal.elements, _value_spec(receiver, type.element), context)


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
    if not _is_tuple(type):
        return test(literal.elements[0], receiver, context) if len(literal.elements) == 1 else Assignment.NOT
    assert isinstance(type, TupleType)
    if len(literal.elements) > len(type.components):
        return Assignment.NOT
    for index, element in enumerate(literal.elements):
        spec = _component_spec(receiver, index, type.components[index])
        if test(element, spec, context) is Assignment.NOT:
            return Assignment.NOT
    return Assignment.WEAK


def _test_call(call: Call, receiver: ColumnSpec, context: Context) -> Assignment:
    # Whether the arguments are right is told when the call itself is prepared; here only its result counts.
    try:
        function = _function_of(call, receiver.type, _receiver_table(receiver, context), context)
    except InvalidRequest:
        return Assignment.WEAK
    if function is None:
        return Assignment.WEAK
    return assignment_of_types(function.return_type, receiver.type)


def exact_type(term: ast.Selectable, context: Context, table: Table | None) -> CqlType | None:
    """The type of a term that can have but one, else None."""
    match term:
        case ast.TypeHint():
            return _hinted(term, context)
        case ast.FunctionCall() | ast.Arithmetic() | ast.Negation():
            try:
                function = _function_of(term, None, table, context)
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
