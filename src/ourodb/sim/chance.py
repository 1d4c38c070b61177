"""Every draw of a run, from its one seed.

A ``Chance`` is a stream of bits: SHAKE-128 over its key and a counter. ``child`` makes another stream whose key
is its parent's and a name, so that what one user draws never shifts what another gets: a new fault in the
middle of a run leaves the latencies of the network as they were. Only whole numbers are drawn; floating point
could differ from machine to machine.

It is ``ports.Random`` as well, so that a node draws from a stream of its own.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import Final, TypeVar

T = TypeVar("T")

DRAWS_PER_BLOCK: Final = 512
_unpack = struct.Struct(f"<{DRAWS_PER_BLOCK}Q").unpack
_WORD: Final = 1 << 64


class Chance:
    """One stream of draws."""

    __slots__ = ("_block", "_draws", "_key")

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._block = 0
        self._draws: list[int] = []

    @classmethod
    def of_seed(cls, seed: int) -> Chance:
        """The stream from which all others of a run come."""
        return cls(hashlib.blake2b(str(seed).encode(), digest_size=32).digest())

    def child(self, name: str) -> Chance:
        """A stream of its own; the same name always gives the same one, whatever was drawn before."""
        return Chance(hashlib.blake2b(self._key + name.encode(), digest_size=32).digest())

    def word(self) -> int:
        """64 random bits."""
        draws = self._draws
        if not draws:
            block = hashlib.shake_128(self._key + self._block.to_bytes(8, "big")).digest(8 * DRAWS_PER_BLOCK)
            self._block += 1
            draws += _unpack(block)
        return draws.pop()

    def bytes(self, count: int) -> bytes:
        words = -(-count // 8)
        return b"".join([self.word().to_bytes(8, "big") for _ in range(words)])[:count]

    def below(self, bound: int) -> int:
        """A whole number in [0, bound); ``bound`` is at least 1."""
        assert bound > 0
        if bound <= 0xFFFF_FFFF:
            # Lemire's multiplication; the bias is below one in 2**32.
            return self.word() * bound >> 64
        number = 0
        limit = bound << 64
        span = 1
        while span < limit:
            number = number * _WORD + self.word()
            span *= _WORD
        return number % bound

    def between(self, least: int, most: int) -> int:
        """A whole number in [least, most]."""
        return least + self.below(most - least + 1)

    def one_in(self, count: int) -> bool:
        """True once in ``count`` draws; never for 0."""
        return count > 0 and self.below(count) == 0

    def choice(self, items: Sequence[T]) -> T:
        return items[self.below(len(items))]

    def bid(self, names: Sequence[str]) -> str:
        """One of the names. Each bids from a stream of its own: another name more changes only what it wins."""
        return max(names, key=lambda name: self.child(name).word())

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """A copy in random order."""
        shuffled = list(items)
        for index in range(len(shuffled) - 1, 0, -1):
            other = self.below(index + 1)
            shuffled[index], shuffled[other] = shuffled[other], shuffled[index]
        return shuffled

    def sample(self, items: Sequence[T], count: int) -> list[T]:
        """``count`` of the items, in random order."""
        return self.shuffled(items)[:count]
