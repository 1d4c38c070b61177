"""The hybrid logical clock: timestamps of writes that clients don't stamp themselves.

A coordinator's stamps only grow, whatever its clock does: each is the wall clock's time or, where that has
not moved on, one microsecond more than the last. The header of every message between nodes carries the
sender's clock, and whoever receives it stamps later than that from then on; so a write that is caused by
another one, seen through any chain of nodes, has the later timestamp.

A peer's clock may push ours ahead of the wall clock by ``limits.CLOCK_AHEAD_MAX_US`` at most: one node whose
clock is set to another year must not take the cluster along. Timestamps of cells never advance it at all, for
the same reason.

Source: Kulkarni et al. 2014, "Logical Physical Clocks and Consistent Snapshots in Globally Distributed
Databases".
"""

from __future__ import annotations

from ourodb import limits
from ourodb.ports import Clock


class Timestamps:
    """The clock of one node, in microseconds since the epoch.

    Attributes:
        refused: readings of peers that were too far ahead, counted.
    """

    __slots__ = ("_clock", "_last_us", "refused")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last_us = 0
        self.refused = 0

    def next_us(self) -> int:
        """A stamp later than all before it, and than all that was observed."""
        now_us = self._clock.wall_us()
        self._last_us = now_us if now_us > self._last_us else self._last_us + 1
        return self._last_us

    def now_us(self) -> int:
        """The clock's reading, for the header of a message; no stamp is used up."""
        now_us = self._clock.wall_us()
        return max(self._last_us, now_us)

    def observe(self, us: int) -> None:
        """A peer's clock was read from a message's header."""
        if us > self._last_us:
            bound = self._clock.wall_us() + limits.CLOCK_AHEAD_MAX_US
            if us > bound:
                self.refused += 1
                us = max(bound, self._last_us)
            self._last_us = us
