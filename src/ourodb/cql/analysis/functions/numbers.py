"""Numbers between their bytes and Python's: widths, wrapping and rounding as Java has them.

``int`` stands for the five integer types, ``float`` for the two binary ones, ``Decimal`` for decimal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import TypeAlias

from ourodb.cql.types import native
from ourodb.cql.types.base import CqlType

Number: TypeAlias = int | float | Decimal

EXACT = Context(prec=10_000, Emax=999_999_999, Emin=-999_999_999)
"""Cassandra's bound of precision for decimals."""

INTEGER_BITS: dict[str, int] = {"tinyint": 8, "smallint": 16, "int": 32, "bigint": 64, "counter": 64}
INTEGERS = ("tinyint", "smallint", "int", "bigint", "counter", "varint")
FLOATING = ("float", "double", "decimal")
NUMERIC = (*INTEGERS, *FLOATING)


def numeric_types() -> list[CqlType]:
    return [native.NATIVE_TYPES[name] for name in NUMERIC]


def is_numeric(type: CqlType) -> bool:
    return type.cql_name in NUMERIC


def wrap(number: int, bits: int) -> int:
    """The low ``bits`` of a whole number as a signed one, as Java's narrowing does."""
    half = 1 << bits - 1
    return (number + half & (half << 1) - 1) - half


def packer(type: CqlType) -> Callable[[Number], bytes]:
    """From a number to the bytes of ``type``: integers wrap, floats go to infinity, decimals keep what they have."""
    bits = INTEGER_BITS.get(type.cql_name)
    if bits is not None:
        length = bits // 8
        mask = (1 << bits) - 1
        return lambda number: (to_integer(number, bits) & mask).to_bytes(length, "big")
    if type.cql_name == "varint":
        return lambda number: type.encode(to_integer(number, None))
    if type.cql_name == "decimal":
        return lambda number: type.encode(to_decimal(number))
    if type.cql_name == "float":
        return lambda number: type.encode(_to_float32(float(number)))
    return lambda number: type.encode(_to_double(number))


def to_integer(number: Number, bits: int | None) -> int:
    """Java's ``Number.intValue`` and its like: whole numbers wrap; binary floats are cut and saturate."""
    if isinstance(number, float):
        if math.isnan(number):
            return 0
        if bits is None:
            return int(number) if math.isfinite(number) else 0
        width = max(bits, 32)  # byteValue() and shortValue() of a float go by way of int
        low, high = -(1 << width - 1), (1 << width - 1) - 1
        whole = low if number <= low else high if number >= high else int(number)
        return wrap(whole, bits)
    whole = int(number)
    return whole if bits is None else wrap(whole, bits)


def to_decimal(number: Number) -> Decimal:
    if isinstance(number, float):
        # BigDecimal.valueOf(double) takes the shortest text, not the exact binary value.
        return Decimal(repr(number))
    return Decimal(number)


def _to_float32(number: float) -> float:
    limit = 3.4028235677973366e38  # from here on a float is infinite
    return math.copysign(math.inf, number) if abs(number) >= limit else number


def _to_double(number: Number) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def divide_decimals(left: Decimal, right: Decimal) -> Decimal:
    """``DecimalType.divide``: at least 32 significant digits, a scale of at most 1000, half up."""
    quotient_first_digit = (_precision(left) - _scale(left)) - (_precision(right) - _scale(right))
    scale = max(32 - quotient_first_digit, _scale(left), _scale(right), 32)
    scale = min(scale, 1000)
    quotient = EXACT.divide(left, right)
    rounded = quotient.quantize(Decimal((0, (1,), -scale)), rounding=ROUND_HALF_UP, context=EXACT)
    return strip_zeros(rounded)


def strip_zeros(number: Decimal) -> Decimal:
    return number.normalize(EXACT) if number else Decimal(0)


def _precision(number: Decimal) -> int:
    return len(number.as_tuple().digits)


def _scale(number: Decimal) -> int:
    return -int(number.as_tuple().exponent)
