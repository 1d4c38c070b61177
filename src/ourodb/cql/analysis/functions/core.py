"""Functions, and which of several overloads a call means.

An overload is chosen as Cassandra does: an argument may match a parameter's type exactly or weakly, a call in which all
match exactly wins at once, and otherwise exactly one overload must be possible.

Source: Apache Cassandra 5, ``FunctionResolver``, ``FunctionFactory``, ``AbstractType.testAssignment``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Protocol, TypeAlias

from ourodb.cql.types import native
from ourodb.cql.types.base import CqlType
from ourodb.cql.types.collection import ListType, MapType, SetType
from ourodb.cql.types.composite import TupleType, UserType
from ourodb.cql.types.vector import VectorType
from ourodb.errors import FunctionFailure, InvalidRequest
from ourodb.ports import Clock, Random

SYSTEM = "system"


class Environment(Protocol):
    """What a function may ask of the world."""

    clock: Clock
    random: Random
    now_s: int


class Assignment(IntEnum):
    """How well a value fits a type."""

    EXACT = 0
    WEAK = 1
    NOT = 2


class Argument(Protocol):
    """An argument of a call that is being resolved."""

    def test(self, type: CqlType) -> Assignment:
        """How well the argument fits ``type``."""
        ...

    def exact_type(self) -> CqlType | None:
        """Its type, where it has but one."""
        ...

    def compatible_type(self) -> CqlType | None:
        """Its type, or the one that it would best be taken for."""
        ...

    @property
    def is_marker(self) -> bool:
        """Whether it is or contains a bind marker."""
        ...


Execute: TypeAlias = Callable[[Sequence[bytes | None], Environment], bytes | None]


class Function:
    """A scalar function.

    Attributes:
        name: without its keyspace, which is always ``system``.
        execute: from the arguments' bytes to the result's; nulls included.
        is_pure: the same arguments always give the same result.
        column_name: the name of a result column, from the arguments' names.
    """

    __slots__ = ("argument_types", "column_name", "execute", "is_pure", "name", "return_type")

    def __init__(
        self,
        name: str,
        argument_types: Sequence[CqlType],
        return_type: CqlType,
        execute: Execute,
        *,
        is_pure: bool = True,
        column_name: Callable[[Sequence[str]], str] | None = None,
    ) -> None:
        self.name = name
        self.argument_types = tuple(argument_types)
        self.return_type = return_type
        self.execute = execute
        self.is_pure = is_pure
        self.column_name = column_name or (lambda names: f"{SYSTEM}.{name}({', '.join(names)})")

    @property
    def qualified_name(self) -> str:
        return f"{SYSTEM}.{self.name}"

    def __str__(self) -> str:
        return signature(self)


class AggregateState(Protocol):
    """What an aggregate has seen so far; of bounded size."""

    def add(self, arguments: Sequence[bytes | None]) -> None: ...

    def result(self) -> bytes | None: ...


class Aggregate:
    """An aggregate function; each group gets a state of its own."""

    __slots__ = ("argument_types", "column_name", "name", "new_state", "return_type")

    is_pure = True

    def __init__(
        self,
        name: str,
        argument_types: Sequence[CqlType],
        return_type: CqlType,
        new_state: Callable[[], AggregateState],
        *,
        column_name: Callable[[Sequence[str]], str] | None = None,
    ) -> None:
        self.name = name
        self.argument_types = tuple(argument_types)
        self.return_type = return_type
        self.new_state = new_state
        self.column_name = column_name or (lambda names: f"{SYSTEM}.{name}({', '.join(names)})")

    @property
    def qualified_name(self) -> str:
        return f"{SYSTEM}.{self.name}"

    def __str__(self) -> str:
        return signature(self)


AnyFunction: TypeAlias = Function | Aggregate


class Factory:
    """Functions for infinitely many types: makes the one for the types at hand.

    Attributes:
        parameters: how each parameter reads in messages, ``numeric_set_or_list``.
        accepts: per parameter, whether a type will do.
        infer: per parameter, the type of an argument that doesn't tell its own, from the receiver's type; or None.
        wants: per parameter, for the message ``Function f requires <wants> argument``.
    """

    __slots__ = ("accepts", "infer", "is_aggregate", "make", "name", "parameters", "wants")

    def __init__(
        self,
        name: str,
        parameters: Sequence[str],
        make: Callable[[Sequence[CqlType]], AnyFunction],
        *,
        accepts: Callable[[CqlType], bool] = lambda type: True,
        wants: str = "an",
        infer: Callable[[CqlType | None], CqlType | None] = lambda receiver: None,
        is_aggregate: bool = False,
    ) -> None:
        self.name = name
        self.is_aggregate = is_aggregate
        self.parameters = tuple(parameters)
        self.make = make
        self.accepts = accepts
        self.wants = wants
        self.infer = infer

    def __str__(self) -> str:
        return f"{SYSTEM}.{self.name}({', '.join(self.parameters)})"

    def function_for(self, arguments: Sequence[Argument], receiver: CqlType | None) -> AnyFunction:
        """
        Raises:
            InvalidRequest: wrong number of arguments, or types that can't be told or won't do.
        """
        if len(arguments) != len(self.parameters):
            if self.is_aggregate:
                raise _wrong_count(f"{SYSTEM}.{self.name}", len(self.parameters), len(arguments))
            raise InvalidRequest(f"Invalid number of arguments for function {self}")
        types: list[CqlType] = []
        for argument in arguments:
            type = argument.compatible_type() or self.infer(receiver)
            if type is None:
                raise InvalidRequest(
                    f"Cannot infer type of argument {argument} in call to function {self}: "
                    "use type casts to disambiguate"
                )
            if not self.accepts(type):
                raise InvalidRequest(
                    f"Function {SYSTEM}.{self.name} requires {self.wants} argument, "
                    f"but found argument {argument} of type {type}"
                )
            types.append(type)
        return self.make(types)


Candidate: TypeAlias = Function | Aggregate | Factory


def signature(function: AnyFunction) -> str:
    """As messages list overloads: ``system.f : (int, text) -> text``."""
    arguments = ", ".join(str(type) for type in function.argument_types)
    return f"{function.qualified_name} : ({arguments}) -> {function.return_type}"


def argument_name(function: AnyFunction, index: int) -> str:
    """Name of the receiver of an argument, as clients see it when the argument is a marker."""
    return f"arg{index}({function.qualified_name.lower()})"


# --- how types fit types ------------------------------------------------------------------------------------


def assignment_of_types(provided: CqlType, receiver: CqlType) -> Assignment:
    """How well any value of type ``provided`` fits ``receiver``; frozen or not makes no difference."""
    provided = provided.frozen()
    receiver = receiver.frozen()
    if provided == receiver:
        return Assignment.EXACT
    return Assignment.WEAK if _value_compatible(receiver, provided) else Assignment.NOT


def _value_compatible(receiver: CqlType, provided: CqlType) -> bool:
    if receiver == provided:
        return True
    if receiver is native.BLOB:
        return True
    accepted = _accepted_values().get(receiver)
    if accepted is not None:
        return provided in accepted
    if isinstance(receiver, ListType) and isinstance(provided, ListType):
        return _value_compatible(receiver.element, provided.element)
    if isinstance(receiver, SetType) and isinstance(provided, SetType):
        return _value_compatible(receiver.element, provided.element)
    if isinstance(receiver, MapType) and isinstance(provided, MapType):
        return _value_compatible(receiver.key, provided.key) and _value_compatible(
            receiver.element, provided.element
        )
    if isinstance(receiver, VectorType) and isinstance(provided, VectorType):
        return receiver.dimension == provided.dimension and _value_compatible(
            receiver.element, provided.element
        )
    if isinstance(receiver, UserType) or isinstance(provided, UserType):
        return False
    if isinstance(receiver, TupleType) and isinstance(provided, TupleType):
        return len(receiver.components) >= len(provided.components) and all(
            _value_compatible(*pair) for pair in zip(receiver.components, provided.components, strict=False)
        )
    return False


def _accepted_values() -> dict[CqlType, tuple[CqlType, ...]]:
    """Types beside itself whose bytes are also values of a type."""
    return {
        native.TEXT: (native.ASCII,),
        native.VARINT: (native.INT, native.BIGINT),
        native.BIGINT: (native.TIMESTAMP,),
        native.TIMESTAMP: (native.BIGINT,),
        native.UUID: (native.TIMEUUID,),
        native.TIME: (native.BIGINT,),
    }


# --- overloads ----------------------------------------------------------------------------------------------


def _match_arguments(function: AnyFunction, arguments: Sequence[Argument]) -> Assignment:
    if len(arguments) != len(function.argument_types):
        return Assignment.NOT
    worst = Assignment.EXACT
    for argument, type in zip(arguments, function.argument_types, strict=True):
        found = argument.test(type)
        if found > worst:
            worst = found
            if worst is Assignment.NOT:
                break
    return worst


def _wrong_count(name: str, required: int, provided: int) -> InvalidRequest:
    return InvalidRequest(
        f"Invalid number of arguments in call to function {name}: {required} required but {provided} provided"
    )


def _check_types(function: AnyFunction, arguments: Sequence[Argument]) -> None:
    required = len(function.argument_types)
    if len(arguments) != required:
        raise _wrong_count(function.qualified_name, required, len(arguments))
    for index, (argument, type) in enumerate(zip(arguments, function.argument_types, strict=True)):
        if argument.test(type) is Assignment.NOT:
            raise InvalidRequest(
                f"Type error: {argument} cannot be passed as argument {index} of function "
                f"{function.qualified_name} of type {type}"
            )


def _returns(function: AnyFunction, receiver: CqlType | None) -> bool:
    return receiver is None or assignment_of_types(function.return_type, receiver) is not Assignment.NOT


def resolve(
    name: str, candidates: Sequence[Candidate], arguments: Sequence[Argument], receiver: CqlType | None
) -> AnyFunction:
    """The overload that a call means.

    Args:
        name: the function's name without its keyspace.
        candidates: all functions of that name; at least one.
        receiver: the type that the result is for, or None when it's free.
    Raises:
        InvalidRequest: none fits, or several do.
    """
    functions: list[AnyFunction] = [
        candidate.function_for(arguments, receiver) if isinstance(candidate, Factory) else candidate
        for candidate in candidates
    ]
    if len(functions) == 1:
        _check_types(functions[0], arguments)
        return functions[0]
    possible = []
    for function in functions:
        if _returns(function, receiver):
            match = _match_arguments(function, arguments)
            if match is Assignment.EXACT:
                return function
            if match is Assignment.WEAK:
                possible.append(function)
    if not possible:
        known = ", ".join(map(signature, functions))
        raise InvalidRequest(
            f"Invalid call to function {SYSTEM}.{name}, none of its type signatures match "
            f"(known type signatures: {known})"
        )
    if len(possible) > 1:
        known = ", ".join(map(signature, possible))
        raise InvalidRequest(
            f"Ambiguous call to function {SYSTEM}.{name} "
            f"(can be matched by following signatures: {known}): use type casts to disambiguate"
        )
    return possible[0]


def resolve_operation(
    operator: str, candidates: Sequence[Function], arguments: Sequence[Argument], receiver: CqlType | None
) -> Function:
    """As ``resolve``, for an arithmetic operator and its two operands, or a negation and its one.

    Source: ``FunctionResolver.pickBestMatch``, which words these errors differently.
    """
    possible = []
    for function in candidates:
        if _returns(function, receiver):
            match = _match_arguments(function, arguments)
            if match is Assignment.EXACT:
                return function
            if match is Assignment.WEAK:
                possible.append(function)
    if len(possible) == 1:
        return possible[0]
    if len(arguments) == 1:
        if not possible:
            known = ", ".join(map(signature, candidates))
            raise InvalidRequest(
                f"Invalid call to function {SYSTEM}._negate, none of its type signatures match "
                f"(known type signatures: {known})"
            )
        raise InvalidRequest("Ambiguous negation: use type casts to disambiguate")
    if not possible:
        raise InvalidRequest(
            f"the '{operator}' operation is not supported between {arguments[0]} and {arguments[1]}"
        )
    if receiver is not None and not any(argument.is_marker for argument in arguments):
        for function in possible:
            if function.argument_types == (receiver, receiver):
                return function
    raise InvalidRequest(
        f"Ambiguous '{operator}' operation with args {arguments[0]} and {arguments[1]}: "
        "use type hint to disambiguate, example '(int) ?'"
    )


def null_on_null(compute: Callable[..., bytes | None]) -> Execute:
    """A function of the arguments' bytes that isn't called when one of them is null."""

    def execute(arguments: Sequence[bytes | None], environment: Environment) -> bytes | None:
        if None in arguments:
            return None
        return compute(*arguments)

    return execute


def failure(function: str, argument_types: Sequence[CqlType], message: str) -> FunctionFailure:
    """A native function that couldn't compute its result."""
    return FunctionFailure(SYSTEM, function, [str(type) for type in argument_types], message)
