"""``CAST(x AS type)`` in a SELECT clause, and the functions ``cast_as_<type>`` behind it.

Source: Apache Cassandra 5, ``CastFcts``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import cache

from ourodb.cql.analysis.functions import time
from ourodb.cql.analysis.functions.core import Execute, Function, null_on_null
from ourodb.cql.analysis.functions.numbers import numeric_types, packer
from ourodb.cql.types import native
from ourodb.cql.types.base import CqlType

_LONG = struct.Struct(">q")


def _number_to_number(source: CqlType, target: CqlType) -> Execute:
    pack = packer(target)
    decode = source.decode

    def convert(value: bytes) -> bytes | None:
        return pack(decode(value)) if value else None

    return null_on_null(convert)


def text_of(type: CqlType, value: bytes) -> str:
    """A value as its literal reads, without the quotes."""
    text = type.literal(value)
    return text[1:-1].replace("''", "'") if text.startswith("'") else text


def _to_text(source: CqlType, target: CqlType) -> Execute:
    return null_on_null(lambda value: target.encode(text_of(source, value)) if value else None)


def _of_time(source: CqlType, pack: Callable[[int], bytes]) -> Execute:
    to_millis = time.MILLIS_OF[source.cql_name]
    return null_on_null(lambda value: pack(to_millis(value)) if value else None)


@cache
def cast(source: CqlType, target: CqlType) -> Function | None:
    """The function that converts, or None where there is no such cast."""
    execute = _execute(source, target)
    if execute is None:
        return None
    return Function(
        f"cast_as_{target}",
        [source],
        target,
        execute,
        # What has the type already isn't cast.
        column_name=lambda names: names[0] if source == target else f"cast({names[0]} as {target})",
    )


def _execute(source: CqlType, target: CqlType) -> Execute | None:
    if source == target:
        return lambda arguments, environment: arguments[0]
    numeric = numeric_types()
    texts = (native.TEXT, native.ASCII)
    if source in numeric and target in numeric and target is not native.COUNTER:
        return _number_to_number(source, target)
    to_text = (
        *numeric, native.BOOLEAN, native.TIMEUUID, native.TIMESTAMP, native.DATE, native.TIME, native.UUID,
        native.INET,
    )  # fmt: skip
    if target in texts and source in to_text:
        return _to_text(source, target)
    if source is native.ASCII and target is native.TEXT:
        return lambda arguments, environment: arguments[0]
    if target is native.TIMESTAMP and source in (native.TIMEUUID, native.DATE):
        return _of_time(source, _LONG.pack)
    if target is native.DATE and source in (native.TIMEUUID, native.TIMESTAMP):
        return _of_time(source, time.date_of_millis)
    return None


def functions() -> Iterator[Function]:
    """Every cast, by its function's name, in both spellings."""
    types = list(dict.fromkeys(native.NATIVE_TYPES.values()))
    for source in types:
        for target in types:
            function = cast(source, target) if source != target else None
            if function is not None:
                yield function
                yield Function(
                    f"castas{target}",
                    function.argument_types,
                    target,
                    function.execute,
                    column_name=function.column_name,
                )
