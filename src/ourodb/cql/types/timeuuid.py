"""Version 1 UUIDs: making them from a time, and finding their time.

Ticks are 100 ns since the Unix epoch.

Source: RFC 4122, 4.2; Cassandra's ``TimeUUID``.
"""

from __future__ import annotations


def timeuuid(unix_ticks: int, clock_seq: int, node: int) -> bytes:
    """The version 1 UUID of a moment: 14 bits of ``clock_seq``, 48 bits of ``node``."""
    raise NotImplementedError


def min_timeuuid(timestamp_ms: int) -> bytes:
    """``minTimeuuid()``: sorts before every timeuuid made in that millisecond."""
    raise NotImplementedError


def max_timeuuid(timestamp_ms: int) -> bytes:
    """``maxTimeuuid()``: sorts after every timeuuid made in that millisecond."""
    raise NotImplementedError


def timeuuid_to_ticks(value: bytes) -> int:
    """Unix ticks of a 16-byte version 1 UUID."""
    raise NotImplementedError


def timeuuid_to_millis(value: bytes) -> int:
    """Milliseconds since the Unix epoch of a 16-byte version 1 UUID."""
    raise NotImplementedError
