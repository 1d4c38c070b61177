"""``map_keys``, ``map_values``, ``collection_count``, ``_min``, ``_max``, ``_sum``, ``_avg``.

Source: Apache Cassandra 5, ``CollectionFcts``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence

from ourodb.cql.analysis.functions.aggregates import summing
from ourodb.cql.analysis.functions.core import Execute, Factory, Function, null_on_null
from ourodb.cql.analysis.functions.numbers import is_numeric
from ourodb.cql.types import native
from ourodb.cql.types.base import CqlType
from ourodb.cql.types.collection import CollectionType, ListType, MapType, SetType

_INT = struct.Struct(">i")


def _is_map(type: CqlType) -> bool:
    return isinstance(type, MapType)


def _is_collection(type: CqlType) -> bool:
    return isinstance(type, CollectionType)


def _is_sequence(type: CqlType) -> bool:
    return isinstance(type, (ListType, SetType))


def _is_numeric_sequence(type: CqlType) -> bool:
    return isinstance(type, (ListType, SetType)) and is_numeric(type.element)


def _map_keys(types: Sequence[CqlType]) -> Function:
    source = types[0]
    assert isinstance(source, MapType)
    target = SetType(source.key)
    split = source.split
    return Function(
        "map_keys", types, target, null_on_null(lambda value: target.join([key for key, _ in split(value)]))
    )


def _map_values(types: Sequence[CqlType]) -> Function:
    source = types[0]
    assert isinstance(source, MapType)
    target = ListType(source.element)
    split = source.split
    return Function(
        "map_values",
        types,
        target,
        null_on_null(lambda value: target.join([item for _, item in split(value)])),
    )


def _count(types: Sequence[CqlType]) -> Function:
    def count(value: bytes) -> bytes:
        return value[:4] if value else _INT.pack(0)

    return Function("collection_count", types, native.INT, null_on_null(count))


def _extreme(name: str, sign: int) -> Callable[[Sequence[CqlType]], Function]:
    def make(types: Sequence[CqlType]) -> Function:
        source = types[0]
        assert isinstance(source, (ListType, SetType))
        compare = source.element.compare
        split = source.split

        def compute(value: bytes) -> bytes | None:
            best = None
            for element in split(value) if value else ():
                if best is None or compare(element, best) == sign:
                    best = element
            return best

        return Function(name, types, source.element, null_on_null(compute))

    return make


def _summing(name: str, aggregate: str) -> Callable[[Sequence[CqlType]], Function]:
    def make(types: Sequence[CqlType]) -> Function:
        source = types[0]
        assert isinstance(source, (ListType, SetType))
        total = summing(aggregate, source.element)
        split = source.split

        def compute(value: bytes) -> bytes | None:
            state = total.new_state()
            for element in split(value) if value else ():
                state.add((element,))
            return state.result()

        execute: Execute = null_on_null(compute)
        return Function(name, types, total.return_type, execute)

    return make


def functions() -> Iterator[Factory]:
    yield Factory("map_keys", ["map"], _map_keys, accepts=_is_map, wants="a map")
    yield Factory("map_values", ["map"], _map_values, accepts=_is_map, wants="a map")
    yield Factory("collection_count", ["collection"], _count, accepts=_is_collection, wants="a collection")
    for name, sign in (("collection_min", -1), ("collection_max", 1)):
        yield Factory(
            name, ["set_or_list"], _extreme(name, sign), accepts=_is_sequence, wants="a set or list"
        )
    for name, aggregate in (("collection_sum", "sum"), ("collection_avg", "avg")):
        yield Factory(
            name,
            ["numeric_set_or_list"],
            _summing(name, aggregate),
            accepts=_is_numeric_sequence,
            wants="a numeric set/list",
        )
