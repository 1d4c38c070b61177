"""Were these to fail, every latency that ``ouro bench`` reports would be wrong."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ourodb.bench.histogram import BUCKETS, VALUE_MAX, Histogram, bounds_of, bucket_of

PRECISION = 1 / 128


def exact_percentile(values: list[int], percent: float) -> int:
    return sorted(values)[max(math.ceil(percent * len(values) / 100), 1) - 1]


def of(values: list[int]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram


def test_buckets_follow_each_other_without_gap_or_overlap() -> None:
    end = -1
    for bucket in range(BUCKETS):
        least, greatest = bounds_of(bucket)
        assert least == end + 1
        assert bucket_of(least) == bucket_of(greatest) == bucket
        assert greatest - least <= least * PRECISION
        end = greatest
    assert end == VALUE_MAX


@settings(max_examples=100)
@given(
    st.lists(st.integers(0, VALUE_MAX), min_size=1, max_size=300),
    st.sampled_from([1.0, 50.0, 90.0, 99.0, 99.9, 100.0]),
)
def test_percentile_is_the_exact_one_to_the_buckets_precision(values: list[int], percent: float) -> None:
    exact = exact_percentile(values, percent)
    found = of(values).percentile(percent)
    assert exact <= found <= exact * (1 + PRECISION)


def test_percentiles_of_a_long_tail() -> None:
    random = Random(7)
    values = [int(random.lognormvariate(13, 1.5)) for _ in range(50_000)]
    histogram = of(values)
    for percent in (50, 99, 99.9):
        assert histogram.percentile(percent) == pytest.approx(
            exact_percentile(values, percent), rel=PRECISION
        )
    assert histogram.greatest == max(values) == histogram.percentile(100)
    assert histogram.mean() == pytest.approx(sum(values) / len(values), rel=PRECISION)


def test_what_processes_counted_apart_adds_up() -> None:
    together, apart = Histogram(), [Histogram(), Histogram()]
    for number, value in enumerate([1, 1, 500, 70_000, 10**9, 10**9, 3]):
        together.record(value)
        apart[number % 2].record(value)
    merged = Histogram()
    for histogram in apart:
        merged.add(histogram.take())
        assert (histogram.total, histogram.greatest, histogram.sparse()) == (0, 0, ({}, 0))
    assert merged.sparse() == together.sparse()
    assert merged.total == together.total


def test_values_out_of_range_are_counted_at_the_bounds() -> None:
    histogram = of([-5, VALUE_MAX + 10])
    assert histogram.total == 2
    assert histogram.percentile(50) == 0
    assert histogram.greatest == VALUE_MAX + 10


def test_empty() -> None:
    histogram = Histogram()
    assert (histogram.percentile(99), histogram.mean(), histogram.total) == (0, 0, 0)


@settings(max_examples=50)
@given(st.integers(1, 10**6), st.lists(st.integers(0, 10**8), min_size=1, max_size=20))
def test_correction_adds_what_a_closed_loop_left_out(interval: int, values: list[int]) -> None:
    values = [min(value, interval * 1000) for value in values]
    histogram = of(values)
    corrected = histogram.corrected(interval)
    # A bucket counts as its greatest value, so that is what the omitted ones are counted down from.
    expected = list(values)
    for value in values:
        omitted = min(bounds_of(bucket_of(value))[1], histogram.greatest) - interval
        while omitted >= interval:
            expected.append(omitted)
            omitted -= interval
    assert corrected.sparse() == of(expected).sparse()


def test_a_stall_shows_after_the_correction() -> None:
    """One stream at 1 ms a request for 9 s, then one stall of 1 s: a tenth of the time nothing worked."""
    histogram = of([1_000_000] * 9_000 + [1_000_000_000])
    assert histogram.percentile(99) < 1_010_000
    corrected = histogram.corrected(histogram.percentile(50))
    assert corrected.total == pytest.approx(10_000, rel=0.01)
    assert corrected.percentile(95) == pytest.approx(500_000_000, rel=0.02)
