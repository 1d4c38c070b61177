"""``count``, ``min``, ``max``, ``sum``, ``avg``: states of constant size, whatever they are fed.

Sums and averages keep their column's type, so that integers wrap as Java's do; float sums are compensated (Kahan) so
that their result hardly depends on the order of rows. Over nothing, count, sum and avg are 0 and min and max null.

Source: Apache Cassandra 5, ``AggregateFcts``.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Sequence
from decimal import ROUND_HALF_EVEN, Decimal

from ourodb.cql.analysis.functions.core import Aggregate, AggregateState, Candidate, Factory, failure
from ourodb.cql.analysis.functions.numbers import EXACT, FLOATING, Number, numeric_types, packer
from ourodb.cql.types import native
from ourodb.cql.types.base import CqlType
from ourodb.errors import FunctionFailure

_LONG = struct.Struct(">q")


class _CountRows:
    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def add(self, arguments: Sequence[bytes | None]) -> None:
        self.count += 1

    def result(self) -> bytes:
        return _LONG.pack(self.count)


class _CountValues(_CountRows):
    __slots__ = ()

    def add(self, arguments: Sequence[bytes | None]) -> None:
        if arguments[0] is not None:
            self.count += 1


class _Extreme:
    """min (``sign`` -1) or max (1) in the type's own order."""

    __slots__ = ("best", "compare", "sign")

    def __init__(self, type: CqlType, sign: int) -> None:
        self.best: bytes | None = None
        self.compare = type.compare
        self.sign = sign

    def add(self, arguments: Sequence[bytes | None]) -> None:
        value = arguments[0]
        if value is not None and (self.best is None or self.compare(value, self.best) == self.sign):
            self.best = value

    def result(self) -> bytes | None:
        return self.best


class _ExactSum:
    """Sum or average of whole numbers and decimals.

    Raises:
        FunctionFailure: from its methods; a decimal has more digits than are computed with.
    """

    __slots__ = ("average", "count", "pack", "total", "type")

    def __init__(self, type: CqlType, pack: Callable[[Number], bytes], average: bool) -> None:
        self.type = type
        self.pack = pack
        self.average = average
        self.count = 0
        self.total: int | Decimal = Decimal(0) if type.cql_name == "decimal" else 0

    def add(self, arguments: Sequence[bytes | None]) -> None:
        if arguments[0]:
            self.count += 1
            number = self.type.decode(arguments[0])
            if isinstance(number, Decimal):
                try:
                    self.total = EXACT.add(Decimal(self.total), number)
                except ArithmeticError:
                    raise self._failed() from None
            else:
                self.total += number

    def result(self) -> bytes:
        total = self.total
        if not self.average or self.count == 0:
            return self.pack(total)
        if isinstance(total, Decimal):
            exponent = min(int(total.as_tuple().exponent), 0)
            try:
                quotient = EXACT.divide(total, Decimal(self.count))
                return self.pack(quotient.quantize(Decimal((0, (1,), exponent)), ROUND_HALF_EVEN, EXACT))
            except ArithmeticError:
                raise self._failed() from None
        quotient_whole = abs(total) // self.count
        return self.pack(quotient_whole if total >= 0 else -quotient_whole)

    def _failed(self) -> FunctionFailure:
        name = "avg" if self.average else "sum"
        text = f"execution of 'system.{name}[{self.type}]' failed: the result has too many digits"
        return failure(name, (self.type,), text)


class _FloatSum:
    """Sum or average of binary floats, with Neumaier's compensation.

    The plain sum is kept beside it: once infinities are met, the compensated one is NaN where the plain one is right.
    """

    __slots__ = ("average", "compensation", "count", "decode", "pack", "plain", "total", "wide")

    def __init__(self, type: CqlType, pack: Callable[[Number], bytes], average: bool) -> None:
        self.decode = type.decode
        self.pack = pack
        self.average = average
        self.count = 0
        self.total = 0.0
        self.compensation = 0.0
        self.plain = 0.0
        self.wide: Decimal | None = None

    def add(self, arguments: Sequence[bytes | None]) -> None:
        if not arguments[0]:
            return
        number: float = self.decode(arguments[0])
        self.count += 1
        self.plain += number
        if self.wide is not None and math.isfinite(number):
            self.wide = EXACT.add(self.wide, Decimal(number))
        total = self.total + number
        if (
            self.average
            and self.wide is None
            and math.isinf(total)
            and math.isfinite(number + 0 * self.total)
        ):
            # An average of finite numbers is finite, though their sum needn't be.
            self.wide = EXACT.add(Decimal(self.total), Decimal(number))
        if abs(self.total) >= abs(number):
            self.compensation += (self.total - total) + number
        else:
            self.compensation += (number - total) + self.total
        self.total = total

    def result(self) -> bytes:
        if self.average and self.wide is not None:
            return self.pack(float(EXACT.divide(self.wide, Decimal(self.count))))
        total = self.total + self.compensation
        if math.isnan(total) and math.isinf(self.plain):
            total = self.plain
        return self.pack(total / self.count if self.average and self.count else total)


def _summing(type: CqlType, *, average: bool) -> Callable[[], AggregateState]:
    pack = packer(type)
    if type.cql_name in FLOATING and type.cql_name != "decimal":
        return lambda: _FloatSum(type, pack, average)
    return lambda: _ExactSum(type, pack, average)


def count_rows() -> Aggregate:
    """``count(*)`` and ``count(1)``."""
    return Aggregate("count", [], native.BIGINT, _CountRows, column_name=lambda names: "count")


def summing(name: str, type: CqlType) -> Aggregate:
    """``sum`` or ``avg`` of a numeric type."""
    return Aggregate(name, [type], type, _summing(type, average=name == "avg"))


def _count_values(types: Sequence[CqlType]) -> Aggregate:
    return Aggregate("count", types, native.BIGINT, _CountValues)


def _extreme(name: str, sign: int) -> Callable[[Sequence[CqlType]], Aggregate]:
    def make(types: Sequence[CqlType]) -> Aggregate:
        type = types[0].frozen()
        return Aggregate(name, [type], type, lambda: _Extreme(type, sign))

    return make


def functions() -> Iterator[Candidate]:
    yield Factory("count", ["any"], _count_values, is_aggregate=True)
    yield Factory("min", ["any"], _extreme("min", -1), is_aggregate=True)
    yield Factory("max", ["any"], _extreme("max", 1), is_aggregate=True)
    for name in ("sum", "avg"):
        for type in numeric_types():
            yield summing(name, type)
