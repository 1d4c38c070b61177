"""Which key comes next: uniformly drawn, or by Zipf's law.

Under Zipf's law key k (from 0) is drawn with a probability proportional to 1 / (k + 1) ** exponent: a few keys get
most of the requests. The draws are exact for any number of keys and any exponent above 0, and need no table:
rejection-inversion inverts the integral of the smooth curve and throws away the little by which it exceeds the steps.

Source: Hörmann and Derflinger 1996, "Rejection-inversion to generate variates from monotone discrete distributions".
"""

from __future__ import annotations

from math import exp, expm1, log, log1p
from random import Random
from typing import Protocol


class Keys(Protocol):
    """An endless source of keys."""

    def draw(self, count: int) -> list[int]:
        """The next ``count`` keys, each in [0, number of keys)."""
        ...


class UniformKeys:
    """All keys alike."""

    def __init__(self, key_count: int, random: Random) -> None:
        self._key_count = key_count
        self._random = random.random

    def draw(self, count: int) -> list[int]:
        """See ``Keys``."""
        random, key_count = self._random, self._key_count
        return [int(random() * key_count) for _ in range(count)]


class ZipfKeys:
    """Key 0 is the most frequent one."""

    def __init__(self, key_count: int, exponent: float, random: Random) -> None:
        assert key_count > 0
        assert exponent > 0
        self._key_count = key_count
        self._exponent = exponent
        self._random = random.random
        self._start = self._integral(1.5) - 1.0
        self._span = self._integral(key_count + 0.5) - self._start
        self._sure = 2.0 - self._inverse(self._integral(2.5) - self._density(2.0))

    def draw(self, count: int) -> list[int]:
        """See ``Keys``."""
        random, start, span, sure, key_count = (
            self._random, self._start, self._span, self._sure, self._key_count,
        )  # fmt: skip
        inverse, integral, density = self._inverse, self._integral, self._density
        keys: list[int] = []
        while len(keys) < count:
            area = start + random() * span
            x = inverse(area)
            rank = min(max(int(x + 0.5), 1), key_count)
            if rank - x <= sure or area >= integral(rank + 0.5) - density(rank):
                keys.append(rank - 1)
        return keys

    def _density(self, x: float) -> float:
        return exp(-self._exponent * log(x))

    def _integral(self, x: float) -> float:
        """Antiderivative of the density: (x ** (1 - s) - 1) / (1 - s), and log(x) where s is 1."""
        log_x = log(x)
        return _expm1_ratio((1.0 - self._exponent) * log_x) * log_x

    def _inverse(self, area: float) -> float:
        scaled = max(area * (1.0 - self._exponent), -1.0)
        return exp(_log1p_ratio(scaled) * area)


def _expm1_ratio(x: float) -> float:
    """(e**x - 1) / x, also near 0."""
    return expm1(x) / x if abs(x) > 1e-8 else 1.0 + x / 2.0 * (1.0 + x / 3.0)


def _log1p_ratio(x: float) -> float:
    """log(1 + x) / x, also near 0."""
    return log1p(x) / x if abs(x) > 1e-8 else 1.0 - x * (0.5 - x / 3.0)
