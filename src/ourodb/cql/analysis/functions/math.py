"""``abs``, ``exp``, ``log``, ``log10``, ``round`` of any number, in its own type.

Source: Apache Cassandra 5, ``MathFcts`` and the number types' own methods.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from decimal import ROUND_HALF_UP, Context, Decimal

from ourodb.cql.analysis.functions.core import Execute, Function, null_on_null
from ourodb.cql.analysis.functions.numbers import Number, numeric_types, packer
from ourodb.cql.types.base import CqlType

_DECIMAL32 = Context(prec=32)


def _abs(number: Number) -> Number:
    return number if number >= 0 else -number


def _exp(number: Number) -> Number:
    if isinstance(number, Decimal):
        return number.exp(_DECIMAL32)
    try:
        return math.exp(number)
    except OverflowError:
        return math.inf


def _log(number: Number) -> Number:
    if isinstance(number, Decimal):
        return number.ln(_DECIMAL32)
    if number > 0:
        return math.log(number)
    return -math.inf if number == 0 else math.nan


def _log10(number: Number) -> Number:
    if isinstance(number, Decimal):
        return number.log10(_DECIMAL32)
    if math.isfinite(number) and number > 0:
        # Rounded right, as Java's is; the C library may be off by one bit.
        return float(Decimal(number).log10(_DECIMAL32))
    if number > 0:
        return math.inf
    return -math.inf if number == 0 else math.nan


def _round(number: Number) -> Number:
    if isinstance(number, Decimal):
        return number.quantize(Decimal(1), rounding=ROUND_HALF_UP)
    if isinstance(number, float):
        # Math.round: half up, also below zero.
        return number if not math.isfinite(number) else float(math.floor(number + 0.5))
    return number


def _in_own_type(type: CqlType, compute: Callable[[Number], Number]) -> Execute:
    pack = packer(type)
    decode = type.decode
    return null_on_null(lambda value: pack(compute(decode(value))) if value else None)


def functions() -> Iterator[Function]:
    named: tuple[tuple[str, Callable[[Number], Number]], ...] = (
        ("abs", _abs),
        ("exp", _exp),
        ("log", _log),
        ("log10", _log10),
        ("round", _round),
    )
    for name, compute in named:
        for type in numeric_types():
            yield Function(name, [type], type, _in_own_type(type, compute))
