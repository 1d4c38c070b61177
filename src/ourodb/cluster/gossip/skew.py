"""How far other nodes' clocks are from ours, and how far away they are.

A PING leaves at t0 by our clock, reaches the peer at t1 and is answered at t2 by the peer's, and the answer
is here at t3. If both ways take equally long, the peer's clock is ahead by ((t1 - t0) + (t2 - t3)) / 2;
whatever the ways take, that is wrong by half the round trip at most. A round trip that waited in no queue is
the shortest and errs least, so of the last few measurements the one with the shortest counts.

When a clock was stepped, ours or the peer's, measurements before and after contradict each other by more than
both can err; then the old ones are forgotten, so that a step shows at once.

The times of round trips are also kept as such: they tell which peers are near.

Source: RFC 5905 (NTP version 4), sections 8 and 10.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from ourodb.limits import (
    CLOCK_PING_MS,
    CLOCK_PINGS_PER_ROUND,
    CLOCK_SAMPLE_MS_MAX,
    CLOCK_SAMPLES_MAX,
    CLOCK_SKEW_WARNING_MS,
    ROUND_TRIPS_MAX,
)
from ourodb.ports import NodeId

WEIGHT = 0.125
"""Of a new round trip in the mean; TCP's (RFC 6298)."""


NEVER_MS = -(1 << 62)


@dataclass(frozen=True, slots=True)
class Offset:
    """Attributes:
    ahead_us: by how much the peer's clock is ahead of ours; negative when it is behind.
    error_us: ``ahead_us`` is wrong by no more than this.
    measured_ms: when; monotonic.
    """

    ahead_us: int
    error_us: int
    measured_ms: int

    def is_beyond(self, limit_ms: int) -> bool:
        """Whether the clocks are certainly farther apart than this."""
        return abs(self.ahead_us) - self.error_us > limit_ms * 1_000

    def contradicts(self, other: Offset) -> bool:
        return abs(self.ahead_us - other.ahead_us) > self.error_us + other.error_us


@dataclass(slots=True)
class Measured:
    """What is known of one peer.

    Attributes:
        asked_ms: when it was last asked; monotonic.
        mean_us: of the round trips.
        is_warned: its clock is far off, and that was told.
    """

    offsets: deque[Offset] = field(default_factory=lambda: deque(maxlen=CLOCK_SAMPLES_MAX))
    round_trips_us: deque[int] = field(default_factory=lambda: deque(maxlen=ROUND_TRIPS_MAX))
    mean_us: float = 0.0
    asked_ms: int = NEVER_MS
    is_warned: bool = False


class Skews:
    """The peers of one node."""

    __slots__ = ("_measured",)

    def __init__(self) -> None:
        self._measured: dict[NodeId, Measured] = {}

    def due(self, now_ms: int, nodes: Iterable[NodeId]) -> list[NodeId]:
        """Which of these should get a PING in this round: a few, those first who have waited longest.

        Args:
            now_ms: monotonic.
        """
        waiting = []
        for node in nodes:
            known = self._measured.setdefault(node, Measured())
            if len(known.offsets) < CLOCK_SAMPLES_MAX or now_ms - known.asked_ms >= CLOCK_PING_MS:
                waiting.append((known.asked_ms, node))
        due = [node for _, node in sorted(waiting)[:CLOCK_PINGS_PER_ROUND]]
        for node in due:
            self._measured[node].asked_ms = now_ms
        return due

    def measured(
        self, node: NodeId, now_ms: int, t0_us: int, t1_us: int, t2_us: int, t3_us: int
    ) -> int | None:
        """A PING was answered.

        Args:
            now_ms: monotonic.
            t0_us, t3_us: when it was sent and the answer came, by our wall clock.
            t1_us, t2_us: when the peer got it and answered, by its wall clock; equal if it knows only one of them.
        Returns:
            By how much the peer's clock is ahead, in microseconds, if that is worth a warning: it is certainly
            farther off than ``CLOCK_SKEW_WARNING_MS``, and was not before.
        """
        round_trip_us = (t3_us - t0_us) - (t2_us - t1_us)
        if round_trip_us < 0 or t2_us < t1_us:
            return None  # A clock was stepped meanwhile.
        known = self._measured.setdefault(node, Measured())
        offset = Offset(((t1_us - t0_us) + (t2_us - t3_us)) // 2, (round_trip_us + 1) // 2, now_ms)
        while known.offsets and now_ms - known.offsets[0].measured_ms > CLOCK_SAMPLE_MS_MAX:
            known.offsets.popleft()
        if any(offset.contradicts(earlier) for earlier in known.offsets):
            known.offsets.clear()
        known.offsets.append(offset)
        known.mean_us += (round_trip_us - known.mean_us) * (WEIGHT if known.round_trips_us else 1.0)
        known.round_trips_us.append(round_trip_us)
        was_warned = known.is_warned
        best = min(known.offsets, key=lambda offset: offset.error_us)
        known.is_warned = best.is_beyond(CLOCK_SKEW_WARNING_MS)
        return best.ahead_us if known.is_warned and not was_warned else None

    def offset(self, node: NodeId) -> Offset | None:
        """Of the peer's clock; None when it was never measured."""
        known = self._measured.get(node)
        if known is None or not known.offsets:
            return None
        return min(known.offsets, key=lambda offset: offset.error_us)

    def warnings(self, limit_ms: int = CLOCK_SKEW_WARNING_MS) -> list[tuple[NodeId, Offset]]:
        """Peers whose clocks are certainly farther from ours than this, by id."""
        found = []
        for node in sorted(self._measured):
            offset = self.offset(node)
            if offset is not None and offset.is_beyond(limit_ms):
                found.append((node, offset))
        return found

    def latency_ms(self, node: NodeId) -> float:
        """Mean of the round trips, the recent ones foremost; 0 when it was never measured: it is worth a try."""
        known = self._measured.get(node)
        return known.mean_us / 1_000 if known is not None else 0.0

    def percentile_us(self, percent: float, node: NodeId | None = None) -> int | None:
        """So many of the recent round trips, to this peer or to all, took no longer; None when there were none."""
        of = self._measured.values() if node is None else filter(None, (self._measured.get(node),))
        round_trips_us = sorted(time_us for known in of for time_us in known.round_trips_us)
        if not round_trips_us:
            return None
        rank = math.ceil(len(round_trips_us) * percent / 100)
        return round_trips_us[max(0, rank - 1)]

    def keep(self, nodes: Iterable[NodeId]) -> None:
        """Forget all others."""
        self._measured = {node: self._measured[node] for node in nodes if node in self._measured}
