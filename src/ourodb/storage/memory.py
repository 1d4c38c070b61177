"""A store in memory: for tests, for the simulator, and for small virtual tables."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator
from weakref import WeakSet

from ourodb.errors import OuroError
from ourodb.ports import Later, Write
from ourodb.storage.families import NAMES


class _Family:
    """One ordered map: a dict beside a sorted list of its keys.

    Attributes:
        scans: those that may still read it, and must have what they want before it changes.
    """

    __slots__ = ("keys", "scans", "values")

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.values: dict[bytes, bytes] = {}
        self.scans: WeakSet[_Scan] = WeakSet()

    def before_change(self) -> None:
        if self.scans:
            for scan in list(self.scans):
                scan.take_rest()
            self.scans.clear()


class _Scan(Iterator[tuple[bytes, bytes]]):
    """A family's keys and values at the positions of a range, as they were when the scan began: most scans end after
    a few pairs, so none is copied unless the family changes meanwhile.
    """

    __slots__ = ("__weakref__", "_family", "_positions", "_rest")

    def __init__(self, family: _Family, positions: range) -> None:
        self._family = family
        self._positions = iter(positions)
        self._rest: Iterator[tuple[bytes, bytes]] | None = None
        family.scans.add(self)

    def __next__(self) -> tuple[bytes, bytes]:
        if self._rest is not None:
            return next(self._rest)
        key = self._family.keys[next(self._positions)]
        return key, self._family.values[key]

    def take_rest(self) -> None:
        keys, values = self._family.keys, self._family.values
        self._rest = iter([(keys[position], values[keys[position]]) for position in self._positions])


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
        return _Scan(chosen, range(high - 1, low - 1, -1) if reverse else range(low, high))

    def apply(self, writes: Iterable[Write]) -> None:
        for family, key, value in writes:
            chosen = self._families[family]
            chosen.before_change()
            if value is None:
                if chosen.values.pop(key, None) is not None:
                    del chosen.keys[bisect_left(chosen.keys, key)]
            else:
                if key not in chosen.values:
                    insort(chosen.keys, key)
                chosen.values[key] = value

    def delete_range(self, family: int, start: bytes, end: bytes) -> None:
        chosen = self._families[family]
        chosen.before_change()
        low = bisect_left(chosen.keys, start)
        high = bisect_left(chosen.keys, end)
        for key in chosen.keys[low:high]:
            del chosen.values[key]
        del chosen.keys[low:high]

    def settle(self) -> None:
        """Nothing waits: ``apply`` writes at once."""

    def follow_batches(self, ended: Callable[[OuroError | None], None]) -> None:
        """There are none."""

    def sync(self, done: Callable[[Exception | None], None]) -> None:
        done(None)
