"""The value of a counter: one shard per (node, incarnation), each with a clock and a count.

A node adds only to its own shard: it reads it, adds, and writes it with a greater clock. Merging two values takes for
each shard the one with the greater clock, so replicas that saw different increments agree once they have exchanged
their shards. The counter is the sum of the counts.

A deletion takes the shards that were counted up last before it, one by one: those of a cell may have been counted by
several nodes, some before and some after it, and a replica that hears of it late must end with what others have. So a
shard's clock never falls behind the timestamp of its mutation either.

After an unclean stop a node takes a new incarnation: it may not know its last increments, and a shard that goes back
in time would lose them everywhere.

A value is the shards in order of (node, incarnation), 36 bytes each: ``node (16) | incarnation (u32) | clock (i64) |
count (i64)``.

Source: Cassandra's ``CounterContext`` ("global" shards), CASSANDRA-6504.
"""

from __future__ import annotations

import struct
from typing import Final

SHARD_BYTES: Final = 36

_SHARD = struct.Struct(">16sIqq")
_CLOCK = struct.Struct(">q")
_TOTAL = struct.Struct(">q")
_COUNT_MASK = (1 << 64) - 1
_COUNT_SIGN = 1 << 63


def total(value: bytes) -> bytes:
    """The counter as clients see it: 8 bytes; wraps around like Cassandra's."""
    if len(value) == SHARD_BYTES:
        return value[28:]
    return _TOTAL.pack(_wrap(sum(count for _, _, _, count in _SHARD.iter_unpack(value))))


def increment(value: bytes | None, node: bytes, incarnation: int, clock: int, delta: int) -> bytes:
    """This node's shard after adding ``delta``, the only one that the mutation carries.

    Args:
        value: all shards as stored, None when there is no counter yet.
        clock: microseconds, the timestamp of the mutation at least; a shard's clock never falls behind it, and always
            grows.
    """
    count = 0
    if value is not None:
        for shard_node, shard_incarnation, shard_clock, shard_count in _SHARD.iter_unpack(value):
            if shard_node == node and shard_incarnation == incarnation:
                clock = max(clock, shard_clock + 1)
                count = shard_count
    return _SHARD.pack(node, incarnation, clock, _wrap(count + delta))


def merge_shards(left: bytes, right: bytes) -> bytes:
    """For each (node, incarnation) the shard with the greater clock, then the greater count."""
    if left == right:
        return left
    shards: dict[tuple[bytes, int], tuple[int, int]] = {}
    for node, incarnation, clock, count in _SHARD.iter_unpack(left):
        shards[node, incarnation] = (clock, count)
    for node, incarnation, clock, count in _SHARD.iter_unpack(right):
        known = shards.get((node, incarnation))
        if known is None or known < (clock, count):
            shards[node, incarnation] = (clock, count)
    return b"".join([_SHARD.pack(*key, *shards[key]) for key in sorted(shards)])


def surviving(value: bytes, deleted: int) -> bytes:
    """The shards that were counted up after a deletion with this timestamp; empty: none."""
    kept = [
        value[at : at + SHARD_BYTES]
        for at in range(0, len(value), SHARD_BYTES)
        if _CLOCK.unpack_from(value, at + 20)[0] > deleted
    ]
    return value if len(kept) * SHARD_BYTES == len(value) else b"".join(kept)


def _wrap(count: int) -> int:
    """Into a signed 64-bit number."""
    count &= _COUNT_MASK
    return count - (1 << 64) if count & _COUNT_SIGN else count
