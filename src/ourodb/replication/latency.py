"""How long replicas take to answer reads: who is near, and when to ask one more.

For each node an exponentially decaying mean orders replicas by nearness. One that is slow to answer counts as
having taken as long as it was waited for; as it is asked less then, its mean is forgotten bit by bit, so that it is
tried again. Over all answers a histogram in powers of two to the eighth, halved every so often, gives the percentile
that ``speculative_retry = '99p'`` speaks of. What wasn't answered isn't in it: the wait would feed on itself.

Source: Cassandra's ``DynamicEndpointSnitch``, ``PercentileSpeculativeRetryPolicy``; Dean and Barroso 2013,
"The Tail at Scale".
"""

from __future__ import annotations

import math
import re
from typing import Final

from ourodb import limits
from ourodb.ports import NodeId

WEIGHT: Final = 0.1
"""Of a new reading in the mean."""

STEPS: Final = 8
"""Buckets for each doubling."""

BUCKETS: Final = 25 * STEPS
"""From one microsecond to half a minute."""

DECAY_EVERY: Final = 2_000
"""Readings after which old ones count half."""

UNKNOWN_MS: Final = 50
"""Waited where too little was measured."""

READINGS_MIN: Final = 50

NEVER_MS: Final = 1 << 40

_PERCENTILE: Final = re.compile(r"(\d+(?:\.\d+)?)p(?:ercentile)?", re.IGNORECASE)
_MILLISECONDS: Final = re.compile(r"(\d+(?:\.\d+)?)ms", re.IGNORECASE)


class Latencies:
    """Of one coordinator."""

    def __init__(self) -> None:
        self._means: dict[NodeId, float] = {}
        self._heard: dict[NodeId, None] = {}
        """Who was observed since readings were halved last."""
        self._buckets = [0] * BUCKETS
        self._count = 0
        self._until_decay = DECAY_EVERY
        self._policies: dict[str, float | None] = {}
        self._waits: dict[str, int] = {}

    def observe_us(self, node: NodeId, us: int, answered: bool = True) -> None:
        """A node took so long to answer a read, or has taken so far."""
        mean = self._means.get(node)
        self._means[node] = us if mean is None else mean + WEIGHT * (us - mean)
        self._heard[node] = None
        if not answered:
            return
        bucket = int(math.log2(us) * STEPS) if us > 0 else 0
        self._buckets[bucket if bucket < BUCKETS else BUCKETS - 1] += 1
        self._count += 1
        self._until_decay -= 1
        if not self._until_decay:
            self._decay()

    def _decay(self) -> None:
        self._until_decay = DECAY_EVERY
        self._buckets = [count >> 1 for count in self._buckets]
        self._count = sum(self._buckets)
        self._waits.clear()
        for node, mean in self._means.items():
            if node not in self._heard:
                self._means[node] = mean / 2
        self._heard.clear()

    def of_us(self, node: NodeId) -> float:
        """The mean of a node; 0 where nothing is known, so that everybody is tried."""
        return self._means.get(node, 0.0)

    def percentile_us(self, percent: float) -> float | None:
        """None where too little was measured."""
        if self._count < READINGS_MIN:
            return None
        left = self._count * percent / 100
        for bucket, count in enumerate(self._buckets):
            left -= count
            if left <= 0:
                return float(2 ** ((bucket + 1) / STEPS))
        return float(2 ** (BUCKETS / STEPS))

    def speculate_after_ms(self, policy: str) -> int:
        """How long to wait before one more replica is asked, by a table's ``speculative_retry``."""
        wait = self._waits.get(policy)
        if wait is None:
            wait = self._wait(policy)
            if self._count >= READINGS_MIN:
                self._waits[policy] = wait
        return wait

    def _wait(self, policy: str) -> int:
        text = policy.strip().upper()
        if text in ("NONE", "NEVER"):
            return NEVER_MS
        if text == "ALWAYS":
            return 0
        combined = re.fullmatch(r"(MIN|MAX)\((.*),(.*)\)", text)
        if combined is not None:
            choose = min if combined[1] == "MIN" else max
            return choose(self._wait(combined[2]), self._wait(combined[3]))
        fixed = _MILLISECONDS.fullmatch(text)
        if fixed is not None:
            return max(math.ceil(float(fixed[1])), limits.SPECULATE_MS_MIN)
        share = _PERCENTILE.fullmatch(text)
        found = None if share is None else self.percentile_us(float(share[1]))
        if found is None:
            return UNKNOWN_MS
        return max(math.ceil(found / 1000), limits.SPECULATE_MS_MIN)
