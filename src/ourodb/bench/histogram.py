"""Latencies in logarithmic buckets: any number of values in a bounded list of counters.

A bucket is as wide as 1/128 of its values (2**7 buckets for each doubling), so that every percentile is true to 0.8 %
from a nanosecond to over an hour. Histograms add up: processes count apart and the parent merges.

Source: Gil Tene's HdrHistogram; the correction is its ``copyCorrectedForCoordinatedOmission``.
"""

from __future__ import annotations

from typing import Final

_BITS: Final = 7
_EXACT: Final = 1 << _BITS + 1
VALUE_MAX: Final = (1 << 42) - 1
"""Greatest value that is told apart, in nanoseconds: 73 minutes."""
BUCKETS: Final = ((42 - _BITS - 1) << _BITS) + _EXACT

Sparse = tuple[dict[int, int], int]
"""(counts of the buckets that aren't empty, greatest value): how a histogram travels."""


def bucket_of(value: int) -> int:
    """The bucket of a value between 0 and ``VALUE_MAX``."""
    shift = value.bit_length() - _BITS - 1
    return value if shift <= 0 else (shift << _BITS) + (value >> shift)


def bounds_of(bucket: int) -> tuple[int, int]:
    """Least and greatest value of a bucket."""
    if bucket < _EXACT:
        return bucket, bucket
    shift = (bucket >> _BITS) - 1
    least = (bucket - (shift << _BITS)) << shift
    return least, least + (1 << shift) - 1


class Histogram:
    """Counts of values, in nanoseconds.

    Attributes:
        total: number of values.
        greatest: the greatest of them, exactly.
    """

    __slots__ = ("_counts", "greatest", "total")

    def __init__(self) -> None:
        self._counts = [0] * BUCKETS
        self.greatest = 0
        self.total = 0

    def record(self, value: int) -> None:
        """Count one value; what is out of range counts as the nearest bound."""
        if value > self.greatest:
            self.greatest = value
        if value > VALUE_MAX:
            value = VALUE_MAX
        elif value < 0:
            value = 0
        shift = value.bit_length() - _BITS - 1
        self._counts[value if shift <= 0 else (shift << _BITS) + (value >> shift)] += 1
        self.total += 1

    def sparse(self) -> Sparse:
        """What was counted."""
        return {bucket: count for bucket, count in enumerate(self._counts) if count}, self.greatest

    def take(self) -> Sparse:
        """What was counted since the last time; the histogram is empty afterwards."""
        taken = self.sparse()
        for bucket in taken[0]:
            self._counts[bucket] = 0
        self.greatest = self.total = 0
        return taken

    def add(self, sparse: Sparse) -> None:
        """Count what another histogram took."""
        counts, greatest = sparse
        for bucket, count in counts.items():
            self._counts[bucket] += count
            self.total += count
        self.greatest = max(self.greatest, greatest)

    def percentile(self, percent: float) -> int:
        """The least value that ``percent`` of all values don't exceed, rounded up to its bucket's end; 0 when empty."""
        rank = max(-int(-percent * self.total // 100), 1)
        seen = 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if seen >= rank:
                return min(bounds_of(bucket)[1], self.greatest)
        return self.greatest

    def mean(self) -> float:
        """Arithmetic mean, to the buckets' precision; 0 when empty."""
        total = sum(count * sum(bounds_of(bucket)) / 2 for bucket, count in enumerate(self._counts) if count)
        return total / self.total if self.total else 0.0

    def corrected(self, interval: int) -> Histogram:
        """With the values that a closed loop omitted.

        Args:
            interval: nanoseconds between two requests of a stream when nothing stalls.
        """
        result = Histogram()
        result.add(self.sparse())
        if interval <= 0:
            return result
        for bucket, count in enumerate(self._counts):
            value = min(bounds_of(bucket)[1], self.greatest)
            if count and value >= 2 * interval:
                result._add_omitted(value, interval, count)
        return result

    def _add_omitted(self, value: int, interval: int, count: int) -> None:
        """Count value - interval, value - 2 interval, ... down to interval, bucket by bucket."""
        steps_max = value // interval - 1
        step = 1
        while step <= steps_max:
            bucket = bucket_of(min(value - step * interval, VALUE_MAX))
            last = min((value - bounds_of(bucket)[0]) // interval, steps_max)
            last = max(last, step)
            self._counts[bucket] += count * (last - step + 1)
            self.total += count * (last - step + 1)
            step = last + 1
