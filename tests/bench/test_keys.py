"""Were these to fail, a "Zipf" load would have another skew than it says."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from ourodb.bench.keys import UniformKeys, ZipfKeys

DRAWS = 60_000


@pytest.mark.parametrize("exponent", [0.5, 0.99, 1.0, 1.5, 2.5])
@pytest.mark.parametrize("key_count", [1, 2, 50])
def test_zipf_draws_have_zipfs_frequencies(exponent: float, key_count: int) -> None:
    drawn = Counter(ZipfKeys(key_count, exponent, Random(3)).draw(DRAWS))
    weights = [(rank + 1) ** -exponent for rank in range(key_count)]
    # Chi-square; the bound is far beyond what chance gives with 49 degrees of freedom, and the seed is fixed anyway.
    chi_square = 0.0
    for key, weight in enumerate(weights):
        expected = DRAWS * weight / sum(weights)
        chi_square += (drawn[key] - expected) ** 2 / expected
    assert set(drawn) <= set(range(key_count))
    assert chi_square < 2 * key_count + 20


def test_zipf_reaches_far_and_stays_inside() -> None:
    keys = ZipfKeys(10**9, 0.99, Random(1)).draw(20_000)
    assert 0 <= min(keys) < 10
    assert 10**8 < max(keys) < 10**9


def test_uniform_draws_are_uniform() -> None:
    drawn = Counter(UniformKeys(20, Random(5)).draw(DRAWS))
    assert sorted(drawn) == list(range(20))
    assert sum((count - DRAWS / 20) ** 2 / (DRAWS / 20) for count in drawn.values()) < 60


def test_the_same_seed_draws_the_same_keys() -> None:
    assert ZipfKeys(1000, 0.99, Random(9)).draw(50) == ZipfKeys(1000, 0.99, Random(9)).draw(50)
