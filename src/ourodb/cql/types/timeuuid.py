"""Version 1 UUIDs: making them from a time, and finding their time.

Ticks are 100 ns since the Unix epoch.

Source: RFC 4122, 4.1 and 4.2; Cassandra's ``TimeUUID``.
"""

from __future__ import annotations

import struct
from typing import Final

TICKS_PER_MILLI: Final = 10_000

GREGORIAN_TICKS: Final = 0x01B2_1DD2_1381_4000
"""From 1582-10-15, where UUIDs count from, to the Unix epoch."""

_UUID: Final = struct.Struct(">IHHQ")
_TIME: Final = struct.Struct(">IHH")
_TICKS_MASK: Final = (1 << 60) - 1

# The least and the greatest eight last bytes in the order of timeuuid, which compares them signed.
_LEAST_NODE: Final = 0x8080_8080_8080_8080
_GREATEST_NODE: Final = 0x7F7F_7F7F_7F7F_7F7F


def timeuuid(unix_ticks: int, clock_seq: int, node: int) -> bytes:
    """The version 1 UUID of a moment: 14 bits of ``clock_seq``, 48 bits of ``node``."""
    return _pack(unix_ticks, 0x8000_0000_0000_0000 | (clock_seq & 0x3FFF) << 48 | node & 0xFFFF_FFFF_FFFF)


def min_timeuuid(timestamp_ms: int) -> bytes:
    """``minTimeuuid()``: no timeuuid made in that millisecond sorts before it. It isn't a valid UUID."""
    return _pack(timestamp_ms * TICKS_PER_MILLI, _LEAST_NODE)


def max_timeuuid(timestamp_ms: int) -> bytes:
    """``maxTimeuuid()``: no timeuuid made in that millisecond sorts after it. It isn't a valid UUID."""
    return _pack((timestamp_ms + 1) * TICKS_PER_MILLI - 1, _GREATEST_NODE)


def timeuuid_to_ticks(value: bytes) -> int:
    """Unix ticks of a 16-byte version 1 UUID."""
    low, middle, high = _TIME.unpack_from(value)
    ticks: int = (high & 0x0FFF) << 48 | middle << 32 | low
    return ticks - GREGORIAN_TICKS


def timeuuid_to_millis(value: bytes) -> int:
    """Milliseconds since the Unix epoch of a 16-byte version 1 UUID."""
    return timeuuid_to_ticks(value) // TICKS_PER_MILLI


def _pack(unix_ticks: int, clock_seq_and_node: int) -> bytes:
    # Before 1582 and after 5236 the ticks wrap around, as they do in Cassandra.
    ticks = (unix_ticks + GREGORIAN_TICKS) & _TICKS_MASK
    return _UUID.pack(ticks & 0xFFFF_FFFF, (ticks >> 32) & 0xFFFF, ticks >> 48 | 0x1000, clock_seq_and_node)
