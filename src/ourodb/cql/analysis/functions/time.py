"""Functions of time and uuids.

Bytes of time: a timestamp is a signed 64-bit count of milliseconds since 1970, a date an unsigned 32-bit count of days
with 2**31 at 1970-01-01, a time a signed 64-bit count of nanoseconds since midnight.

Source: Apache Cassandra 5, ``TimeFcts``, ``UuidFcts``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence

from ourodb.cql.analysis.functions.core import Environment, Function, null_on_null
from ourodb.cql.types import native
from ourodb.cql.types.base import CqlType
from ourodb.cql.types.timeuuid import max_timeuuid, min_timeuuid, timeuuid, timeuuid_to_millis
from ourodb.errors import InvalidRequest

_LONG = struct.Struct(">q")
_DATE = struct.Struct(">I")

_EPOCH_DAY = 1 << 31
_DAY_MS = 86_400_000
_DAY_US = _DAY_MS * 1000
_MULTICAST = 1 << 40
"""Set in a version 1 UUID's node when it is no network card's address (RFC 4122, 4.5)."""


def new_timeuuid(environment: Environment) -> bytes:
    """A version 1 UUID of this moment, unlike all others: 61 of its bits are drawn."""
    drawn = int.from_bytes(environment.random.bytes(8), "big")
    return timeuuid(
        environment.clock.wall_us() * 10, drawn & 0x3FFF, (drawn >> 14) & 0xFFFFFFFFFFFF | _MULTICAST
    )


def random_uuid(environment: Environment) -> bytes:
    """A version 4 UUID."""
    drawn = bytearray(environment.random.bytes(16))
    drawn[6] = drawn[6] & 0x0F | 0x40
    drawn[8] = drawn[8] & 0x3F | 0x80
    return bytes(drawn)


def date_of_millis(millis: int) -> bytes:
    """The date of a moment; dates outside of the type's range are refused."""
    day = millis // _DAY_MS + _EPOCH_DAY
    if not 0 <= day < 1 << 32:
        raise InvalidRequest(f"Input milliseconds out of bounds for type date: {millis}")
    return _DATE.pack(day)


def millis_of_date(value: bytes) -> int:
    return (int(_DATE.unpack(value)[0]) - _EPOCH_DAY) * _DAY_MS


def _millis_of_timestamp(value: bytes) -> int:
    return int(_LONG.unpack(value)[0])


MILLIS_OF: dict[str, Callable[[bytes], int]] = {
    "timeuuid": timeuuid_to_millis,
    "timestamp": _millis_of_timestamp,
    "date": millis_of_date,
}
"""By the type's name: milliseconds since 1970 of a (non-empty) value."""


def _of_now(
    compute: Callable[[Environment], bytes],
) -> Callable[[Sequence[bytes | None], Environment], bytes]:
    return lambda arguments, environment: compute(environment)


def _conversions(
    names: Sequence[str], sources: Sequence[CqlType], target: CqlType, pack: Callable[[int], bytes]
) -> Iterator[Function]:
    for name in names:
        for source in sources:
            to_millis = MILLIS_OF[source.cql_name]

            def convert(value: bytes, to_millis: Callable[[bytes], int] = to_millis) -> bytes | None:
                return pack(to_millis(value)) if value else None

            yield Function(name, [source], target, null_on_null(convert))


def _bound(compute: Callable[[int], bytes]) -> Callable[[bytes], bytes | None]:
    return lambda value: compute(_millis_of_timestamp(value)) if value else None


def functions() -> Iterator[Function]:
    """now(), uuid(), current_*(), min_/max_timeuuid(), to_date(), to_timestamp(), to_unix_timestamp()."""
    timeuuid_type, timestamp, date = native.TIMEUUID, native.TIMESTAMP, native.DATE

    def timestamp_now(environment: Environment) -> bytes:
        return _LONG.pack(environment.clock.wall_us() // 1000)

    def date_now(environment: Environment) -> bytes:
        return date_of_millis(environment.clock.wall_us() // 1000)

    def time_now(environment: Environment) -> bytes:
        return _LONG.pack(environment.clock.wall_us() % _DAY_US * 1000)

    for name in ("now", "current_timeuuid", "currenttimeuuid"):
        yield Function(name, [], timeuuid_type, _of_now(new_timeuuid), is_pure=False)
    yield Function("uuid", [], native.UUID, _of_now(random_uuid), is_pure=False)
    for name in ("current_timestamp", "currenttimestamp"):
        yield Function(name, [], timestamp, _of_now(timestamp_now), is_pure=False)
    for name in ("current_date", "currentdate"):
        yield Function(name, [], date, _of_now(date_now), is_pure=False)
    for name in ("current_time", "currenttime"):
        yield Function(name, [], native.TIME, _of_now(time_now), is_pure=False)
    for name in ("min_timeuuid", "mintimeuuid"):
        yield Function(name, [timestamp], timeuuid_type, null_on_null(_bound(min_timeuuid)))
    for name in ("max_timeuuid", "maxtimeuuid"):
        yield Function(name, [timestamp], timeuuid_type, null_on_null(_bound(max_timeuuid)))
    yield from _conversions(("to_date", "todate"), (timeuuid_type, timestamp), date, date_of_millis)
    yield from _conversions(("to_timestamp", "totimestamp"), (timeuuid_type, date), timestamp, _LONG.pack)
    yield from _conversions(
        ("to_unix_timestamp", "tounixtimestamp"), (timeuuid_type, timestamp, date), native.BIGINT, _LONG.pack
    )
