"""How likely it is that a silent node is down: a phi-accrual failure detector.

Instead of one timeout for all, the silences of the recent past are remembered for each node, and the present
one is judged by them:

    phi(t) = -log10(P(a silence that the node survives is longer than t))

with P taken from a normal distribution of the remembered mean and deviation. phi 1 means that the node speaks
again after one in ten such silences, phi 8 after one in 10^8; there it is held to be DOWN, unless it answers when
it is asked, as it is from phi 3 on (``liveness``). Cassandra takes an exponential distribution instead, which
needs only the mean but has so long a tail that it waits for 18 intervals; the normal distribution is the
paper's own and tells a death after three or four. The deviation has a floor, of 2/5 of a round: a busy machine's
hiccup must not pass for a death.

**What a silence is.** Most heartbeats come by rumour, from whoever had them first, so one may arrive long
after it was made, and news of a dead node goes on arriving for a while. So silence is counted from when a
heartbeat was *made*, not from when it came. A heartbeat says how long its process had run by then. The
difference between that and our own clock is the same for all heartbeats of a process, but for the way that
each took; the least of many is that of the quickest way, and dates them all. In a ring of 300 that makes
deaths known everywhere at nearly the same moment, and the age of what is known of a node that lives has a far
thinner tail than the intervals between arrivals have.

A node keeps silences of all others, and in a large ring that is most of what gossip needs, so they are kept as
bare numbers of four bytes.

Any message straight from a node proves that it lives, but only heartbeats teach us its rhythm: else a busy
link would make a tenth of a second of silence suspect.

Sources: Hayashibara, Défago, Yared, Katayama 2004, "The phi accrual failure detector"; Chen, Toueg, Aguilera
2002, "On the quality of service of failure detectors", for dating heartbeats without synchronised clocks;
Apache Cassandra, ``gms/FailureDetector``.
"""

from __future__ import annotations

import math
from array import array

from ourodb.limits import PHI_DEVIATION_MS_MIN, PHI_MAX, PHI_SILENCES_MAX, PHI_SUSPECT

DEVIATION_ROUNDS_MIN = 0.4
SILENCE_ROUNDS_MAX = 4
"""A silence that is longer than expected by more is remembered as this: it was a fault, not the rhythm."""
DEVIATIONS_SUSPECT_MIN = 3
assert -math.log10(0.5 * math.erfc(DEVIATIONS_SUSPECT_MIN / math.sqrt(2.0))) < PHI_SUSPECT
PRIOR_PAIRS = 4
"""What is assumed before anything is known: so many times half a round less and half a round more than expected."""
ROOT_2 = math.sqrt(2.0)


def expected_silence_ms(round_ms: int, nodes: int, peers_per_round: int) -> int:
    """How old what is known of a node gets, about, before something newer is known.

    In each round a rumour is told to as many, and picked up by as many, as each node gossips with; most know it a round
    before all do.
    """
    rounds = math.log(nodes) / math.log(1 + 2 * peers_per_round)
    return int(round_ms * max(1.0, rounds - 1.0))


class ArrivalWindow:
    """The heartbeats of one process as they arrived here.

    Attributes:
        alive_ms: until when it is known to have lived; monotonic, our clock.
    """

    __slots__ = (
        "_arrivals",
        "_beat_ms",
        "_deviation_ms_min",
        "_offset_before_ms",
        "_offset_ms",
        "_silence_ms_max",
        "_silences",
        "_sum",
        "_sum_squares",
        "alive_ms",
    )

    def __init__(self, now_ms: int, round_ms: int, expected_ms: int) -> None:
        """A node of which nothing was heard before.

        Args:
            now_ms: our monotonic clock, milliseconds, as everywhere here.
            round_ms: from one heartbeat of the node to the next.
            expected_ms: see ``expected_silence_ms``.
        """
        self.alive_ms = now_ms
        self._beat_ms = now_ms
        self._offset_ms: int | None = None
        self._offset_before_ms: int | None = None
        self._arrivals = 0
        self._silence_ms_max = expected_ms + SILENCE_ROUNDS_MAX * round_ms
        self._deviation_ms_min = max(PHI_DEVIATION_MS_MIN, DEVIATION_ROUNDS_MIN * round_ms)
        less_ms, more_ms = expected_ms - round_ms // 2, expected_ms + round_ms // 2
        self._silences = array("I", (less_ms, more_ms) * PRIOR_PAIRS)
        self._sum = PRIOR_PAIRS * (less_ms + more_ms)
        self._sum_squares = PRIOR_PAIRS * (less_ms * less_ms + more_ms * more_ms)

    def beat(self, now_ms: int, uptime_ms: int) -> None:
        """A heartbeat that was not known before has arrived.

        Args:
            uptime_ms: how long the node's process had run, by its own clock, when it made this heartbeat.
        """
        # Called for each other node in each round: plain comparisons cost half of what min and max do.
        silence_ms = now_ms - self._beat_ms
        if silence_ms < 0:
            silence_ms = 0
        elif silence_ms > self._silence_ms_max:
            silence_ms = self._silence_ms_max
        silences = self._silences
        silences.append(silence_ms)
        self._sum += silence_ms
        self._sum_squares += silence_ms * silence_ms
        if len(silences) > PHI_SILENCES_MAX:
            oldest_ms = silences.pop(0)
            self._sum -= oldest_ms
            self._sum_squares -= oldest_ms * oldest_ms
        offset_ms = now_ms - uptime_ms
        if self._offset_ms is None or offset_ms < self._offset_ms:
            self._offset_ms = offset_ms
        least_ms = self._offset_ms
        if self._offset_before_ms is not None and self._offset_before_ms < least_ms:
            least_ms = self._offset_before_ms
        self._arrivals += 1
        if self._arrivals == PHI_SILENCES_MAX:
            # Clocks drift: the quickest way of long ago dates nothing any more.
            self._arrivals = 0
            self._offset_before_ms, self._offset_ms = self._offset_ms, None
        made_ms = least_ms + uptime_ms
        if made_ms > self._beat_ms:
            self._beat_ms = made_ms
        if made_ms > self.alive_ms:
            self.alive_ms = made_ms

    def resume(self, now_ms: int, uptime_ms: int) -> None:
        """It is back after it was DOWN: the silence between was not its rhythm, and its clock may have stood still."""
        self._offset_ms = now_ms - uptime_ms
        self._offset_before_ms = None
        self._arrivals = 0
        self._beat_ms = now_ms
        self.alive_ms = now_ms

    def excuse(self, now_ms: int, pause_ms: int) -> None:
        """Don't count so much of the silence: we ourselves did not listen."""
        self._beat_ms = min(now_ms, self._beat_ms + pause_ms)
        self.alive_ms = min(now_ms, self.alive_ms + pause_ms)

    def suspicion(self, now_ms: int) -> float:
        """``phi`` where it is at least ``PHI_SUSPECT``; 0 where it is less."""
        # Most are heard of in time: phi is below that until it is later than the mean by three deviations.
        late_ms = now_ms - self.alive_ms - DEVIATIONS_SUSPECT_MIN * self._deviation_ms_min
        if late_ms * len(self._silences) <= self._sum:
            return 0.0
        phi = self.phi(now_ms)
        return phi if phi >= PHI_SUSPECT else 0.0

    def phi(self, now_ms: int) -> float:
        """Suspicion that the node is down, in [0, PHI_MAX]; higher is more certain."""
        count = len(self._silences)
        mean = self._sum / count
        variance = self._sum_squares / count - mean * mean
        deviation = max(self._deviation_ms_min, math.sqrt(max(0.0, variance)))
        longer = 0.5 * math.erfc((now_ms - self.alive_ms - mean) / (deviation * ROOT_2))
        return min(PHI_MAX, -math.log10(longer)) if longer > 0.0 else PHI_MAX
