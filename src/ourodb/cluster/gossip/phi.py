"""How likely it is that a silent node is down: the phi-accrual failure detector.

A node's heartbeats reach us at intervals that depend on the network, the size of the ring and how busy the
machines are. Instead of one timeout for all, the intervals of the recent past are remembered for each node,
and silence is judged by them:

    phi(t) = -log10(P(the next heartbeat comes later than t after the last))

with P taken from a normal distribution of the remembered mean and deviation. phi 1 means that one in ten such
silences is followed by a heartbeat after all, phi 8 one in 10^8; there the node is held to be DOWN. Cassandra
takes an exponential distribution instead, which needs only the mean but has so long a tail that it waits for
18 intervals; our heartbeats are far more regular, and the normal distribution, which is the paper's own,
tells a death after three or four.

Any message from a node proves that it lives, but only heartbeats are counted as intervals: else a busy link
would teach us that a tenth of a second of silence is suspect. Nor does a machine's short hiccup tell much:
the deviation has a floor, of 2/5 of a round.

Source: Hayashibara, Défago, Yared, Katayama 2004, "The phi accrual failure detector"; Apache Cassandra,
``gms/FailureDetector``, for the handling of pauses of our own.
"""

from __future__ import annotations

import math
from collections import deque

from ourodb.limits import PHI_DEVIATION_MS_MIN, PHI_INTERVALS_MAX, PHI_MAX

DEVIATION_ROUNDS_MIN = 0.4
INTERVAL_ROUNDS_MAX = 4
"""A longer interval is remembered as this: it was a fault, not the rhythm."""
PRIOR_INTERVALS = 8
"""What is assumed before anything is known: half and one and a half rounds in turn."""
ROOT_2 = math.sqrt(2.0)


class ArrivalWindow:
    """The heartbeats of one node as they arrived here.

    Attributes:
        heard_ms: when it last gave a sign of life; monotonic.
    """

    __slots__ = (
        "_beat_ms",
        "_deviation_ms_min",
        "_interval_ms_max",
        "_intervals",
        "_sum",
        "_sum_squares",
        "heard_ms",
    )

    def __init__(self, now_ms: int, round_ms: int) -> None:
        """A node heard of just now.

        Args:
            now_ms: monotonic clock, milliseconds, as everywhere here.
            round_ms: from one heartbeat of the node to the next.
        """
        self.heard_ms = now_ms
        self._beat_ms = now_ms
        self._interval_ms_max = INTERVAL_ROUNDS_MAX * round_ms
        self._deviation_ms_min = max(PHI_DEVIATION_MS_MIN, DEVIATION_ROUNDS_MIN * round_ms)
        self._intervals: deque[int] = deque()
        self._sum = 0
        self._sum_squares = 0
        for at in range(PRIOR_INTERVALS):
            self._remember(round_ms // 2 if at % 2 else round_ms * 3 // 2)

    def beat(self, now_ms: int) -> None:
        """A heartbeat that was not known before has arrived."""
        self._remember(min(now_ms - self._beat_ms, self._interval_ms_max))
        self._beat_ms = now_ms
        self.heard_ms = now_ms

    def resume(self, now_ms: int) -> None:
        """The node is back after it was DOWN: the silence between was not its rhythm."""
        self._beat_ms = now_ms
        self.heard_ms = now_ms

    def excuse(self, now_ms: int, pause_ms: int) -> None:
        """Don't count so much of the silence: we ourselves did not listen."""
        self._beat_ms = min(now_ms, self._beat_ms + pause_ms)
        self.heard_ms = min(now_ms, self.heard_ms + pause_ms)

    def phi(self, now_ms: int) -> float:
        """Suspicion that the node is down, in [0, PHI_MAX]; higher is more certain.

        Args:
            now_ms: never before the last sign of life.
        """
        count = len(self._intervals)
        mean = self._sum / count
        variance = self._sum_squares / count - mean * mean
        deviation = max(self._deviation_ms_min, math.sqrt(max(0.0, variance)))
        later = 0.5 * math.erfc((now_ms - self.heard_ms - mean) / (deviation * ROOT_2))
        return min(PHI_MAX, -math.log10(later)) if later > 0.0 else PHI_MAX

    def _remember(self, interval_ms: int) -> None:
        intervals = self._intervals
        intervals.append(interval_ms)
        self._sum += interval_ms
        self._sum_squares += interval_ms * interval_ms
        if len(intervals) > PHI_INTERVALS_MAX:
            oldest = intervals.popleft()
            self._sum -= oldest
            self._sum_squares -= oldest * oldest
