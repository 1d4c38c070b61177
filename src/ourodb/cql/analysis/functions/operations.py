"""``+ - * / %`` between numbers, ``+`` between texts, and times plus or minus durations; and negation.

The result's type follows from the operands': a floating one if either is, wide enough for both. Integers wrap.

Source: Apache Cassandra 5, ``OperationFcts``, ``NumberType``, ``TemporalType``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import cache

from ourodb.cql.analysis.functions import calendar
from ourodb.cql.analysis.functions.core import Execute, Function, failure, null_on_null
from ourodb.cql.analysis.functions.numbers import (
    EXACT,
    FLOATING,
    Number,
    divide_decimals,
    numeric_types,
    packer,
    to_decimal,
)
from ourodb.cql.types import native
from ourodb.cql.types.base import CqlType
from ourodb.errors import RequestError

NAMES = {"+": "_add", "-": "_substract", "*": "_multiply", "/": "_divide", "%": "_modulo"}
"""Cassandra's names of the functions behind the operators, its spelling included."""

_UNBOUNDED = 1 << 16


def _size(type: CqlType) -> int:
    return 8 if type is native.COUNTER else type.fixed_length or _UNBOUNDED


def _result_type(left: CqlType, right: CqlType) -> CqlType:
    size = max(_size(left), _size(right))
    if left.cql_name in FLOATING or right.cql_name in FLOATING:
        return {4: native.FLOAT, 8: native.DOUBLE}.get(size, native.DECIMAL) if size > 2 else native.FLOAT
    by_size = {1: native.TINYINT, 2: native.SMALLINT, 4: native.INT, 8: native.BIGINT}
    return by_size.get(size, native.VARINT)


def _whole_quotient(left: int, right: int) -> int:
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def _integers(op: str) -> Callable[[int, int], int]:
    return {
        "+": lambda a, b: a + b,
        "-": lambda a, b: a - b,
        "*": lambda a, b: a * b,
        "/": _whole_quotient,
        "%": lambda a, b: a - b * _whole_quotient(a, b),
    }[op]


def _divide_floats(left: float, right: float) -> float:
    if right:
        return left / right
    if not left or math.isnan(left):
        return math.nan
    return math.copysign(math.inf, left) * math.copysign(1.0, right)


def _modulo_floats(left: float, right: float) -> float:
    return math.fmod(left, right) if right and not math.isinf(left) else math.nan


def _floats(op: str) -> Callable[[float, float], float]:
    return {
        "+": lambda a, b: a + b,
        "-": lambda a, b: a - b,
        "*": lambda a, b: a * b,
        "/": _divide_floats,
        "%": _modulo_floats,
    }[op]


def _decimals(op: str) -> Callable[[Decimal, Decimal], Decimal]:
    return {
        "+": EXACT.add,
        "-": EXACT.subtract,
        "*": EXACT.multiply,
        "/": divide_decimals,
        "%": EXACT.remainder,
    }[op]


def _numbers(op: str, left: CqlType, right: CqlType, result: CqlType) -> Execute:
    pack = packer(result)
    decode_left, decode_right = left.decode, right.decode
    compute: Callable[[Number, Number], Number]
    if result is native.DECIMAL:
        of_decimals = _decimals(op)

        def compute(a: Number, b: Number) -> Number:
            return of_decimals(to_decimal(a), to_decimal(b))

    elif result.cql_name in FLOATING:
        of_floats = _floats(op)

        def compute(a: Number, b: Number) -> Number:
            return of_floats(float(a), float(b))

    else:
        of_integers = _integers(op)

        def compute(a: Number, b: Number) -> Number:
            return of_integers(int(a), int(b))

    def execute(value_left: bytes, value_right: bytes) -> bytes | None:
        if not value_left or not value_right:
            return None
        try:
            return pack(compute(decode_left(value_left), decode_right(value_right)))
        except (ArithmeticError, ValueError):
            reason = "/ by zero" if result.cql_name not in FLOATING else "Division undefined"
            raise _failed(op, left, right, reason) from None

    return null_on_null(execute)


def _failed(op: str, left: CqlType, right: CqlType, reason: str) -> RequestError:
    return failure(NAMES[op], (left, right), f"the operation '{left} {op} {right}' failed: {reason}")


def _texts(left: CqlType, right: CqlType) -> Execute:
    return null_on_null(lambda a, b: a + b)


def _times(op: str, source: CqlType) -> Execute:
    sign = 1 if op == "+" else -1
    decode = native.DURATION.decode
    shift = calendar.SHIFT[source.cql_name]

    def compute(value: bytes, duration: bytes) -> bytes | None:
        if not value or not duration:
            return None
        decoded = decode(duration)
        assert decoded is not None
        months, days, nanos = decoded
        try:
            return shift(value, sign * months, sign * days, sign * nanos)
        except ValueError as error:
            raise _failed(op, source, native.DURATION, str(error)) from None

    return null_on_null(compute)


def _operator(op: str, left: CqlType, right: CqlType, result: CqlType, execute: Execute) -> Function:
    def column_name(names: Sequence[str]) -> str:
        return f"{names[0]} {op} {names[1]}"

    return Function(NAMES[op], (left, right), result, execute, column_name=column_name)


@cache
def operators(op: str) -> tuple[Function, ...]:
    """All meanings of a binary operator."""
    numeric = numeric_types()
    found = []
    for left in numeric:
        for right in numeric:
            result = _result_type(left, right)
            found.append(_operator(op, left, right, result, _numbers(op, left, right, result)))
    if op == "+":
        texts = (native.TEXT, native.ASCII)
        for left in texts:
            for right in texts:
                result = native.ASCII if left is right is native.ASCII else native.TEXT
                found.append(_operator(op, left, right, result, _texts(left, right)))
    if op in "+-":
        found += [
            _operator(op, source, native.DURATION, source, _times(op, source))
            for source in (native.TIMESTAMP, native.DATE)
        ]
    return tuple(found)


@cache
def negations() -> tuple[Function, ...]:
    """All meanings of a minus before one operand."""
    found = []
    for type in numeric_types():
        pack, decode = packer(type), type.decode

        def negate(
            value: bytes,
            pack: Callable[[Number], bytes] = pack,
            decode: Callable[[bytes], Number] = decode,
        ) -> bytes | None:
            return pack(-decode(value)) if value else None

        found.append(
            Function("_negate", [type], type, null_on_null(negate), column_name=lambda names: f"-{names[0]}")
        )
    return tuple(found)
