"""A store in memory: for tests, for the simulator, and for small virtual tables."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator

from ourodb.ports import Later, Write
from ourodb.storage.families import NAMES


class _Family:
    """One ordered map: a dict beside a sorted list of its keys."""

    __slots__ = ("keys", "values")

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.values: dict[bytes, bytes] = {}


class MemoryStore:
    """Implements ``ports.Store``; nothing survives the object."""

    def __init__(self) -> None:
        self._families = tuple(_Family() for _ in NAMES)

    @classmethod
    def of(cls, family: int, pairs: Iterable[tuple[bytes, bytes]]) -> MemoryStore:
        """A store that begins with these keys and values, given in order of key."""
        store = cls()
        chosen = store._families[family]
        chosen.values.update(pairs)
        chosen.keys.extend(chosen.values)
        return store

    def get(self, family: int, key: bytes) -> bytes | None | Later:
        return self._families[family].values.get(key)

    def fetch(self, family: int, key: bytes, done: Callable[[bytes | None | Exception], None]) -> None:
        done(self._families[family].values.get(key))

    def scan(
        self, family: int, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        chosen = self._families[family]
        low = bisect_left(chosen.keys, start)
        high = bisect_left(chosen.keys, end)
        values = chosen.values
        # As of now: what is written during the scan isn't seen.
        pairs = [(key, values[key]) for key in chosen.keys[low:high]]
        return iter(pairs[::-1] if reverse else pairs)

    def apply(self, writes: Iterable[Write]) -> None:
        for family, key, value in writes:
            chosen = self._families[family]
            if value is None:
                if chosen.values.pop(key, None) is not None:
                    del chosen.keys[bisect_left(chosen.keys, key)]
            else:
                if key not in chosen.values:
                    insort(chosen.keys, key)
                chosen.values[key] = value

    def delete_range(self, family: int, start: bytes, end: bytes) -> None:
        chosen = self._families[family]
        low = bisect_left(chosen.keys, start)
        high = bisect_left(chosen.keys, end)
        for key in chosen.keys[low:high]:
            del chosen.values[key]
        del chosen.keys[low:high]

    def settle(self) -> None:
        """Nothing waits: ``apply`` writes at once."""

    def sync(self, done: Callable[[Exception | None], None]) -> None:
        done(None)
