"""Timestamps of writes that clients don't stamp themselves.

A coordinator's stamps only grow, whatever its clock does: each is the wall clock's time or, where that has
not moved on, one microsecond more than the last. In the ring, headers of peers' messages will advance it as
well (a hybrid logical clock); timestamps of cells never do, or one cell from the year 2100 would poison a
cluster.

Source: Kulkarni et al. 2014, "Logical Physical Clocks".
"""

from __future__ import annotations

from ourodb.ports import Clock


class Timestamps:
    """The stamps of one coordinator, in microseconds since the epoch."""

    __slots__ = ("_clock", "_last_us")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last_us = 0

    def next_us(self) -> int:
        """A stamp later than all before it."""
        now_us = self._clock.wall_us()
        self._last_us = now_us if now_us > self._last_us else self._last_us + 1
        return self._last_us
