"""Ranges that are deleted. If this fails, rows stay that a node has lost, or empty ranges slow its reads down."""

from __future__ import annotations

from ourodb.errors import StoreDamaged
from ourodb.storage.clearing import clear
from ourodb.storage.families import DATA
from ourodb.storage.memory import MemoryStore


class Watched(MemoryStore):
    """Notes the ranges that are deleted; may be damaged."""

    is_damaged = False

    def __init__(self) -> None:
        super().__init__()
        self.deleted: list[tuple[bytes, bytes]] = []

    def scan(self, family, start, end, *, reverse=False):  # type: ignore[no-untyped-def]
        if self.is_damaged:
            raise StoreDamaged("a block can't be read")
        return super().scan(family, start, end, reverse=reverse)

    def delete_range(self, family: int, start: bytes, end: bytes) -> None:
        self.deleted.append((start, end))
        super().delete_range(family, start, end)


def test_what_is_there_is_deleted_and_nothing_is_written_where_nothing_is() -> None:
    store = Watched()
    store.apply([(DATA, b"b", b"1"), (DATA, b"c", b"2"), (DATA, b"d", b"3")])
    clear(store, DATA, b"b", b"d")
    assert list(store.scan(DATA, b"a", b"z")) == [(b"d", b"3")]
    clear(store, DATA, b"b", b"d")
    clear(store, DATA, b"e", b"z")
    assert store.deleted == [(b"b", b"d")]


def test_a_damaged_range_goes_all_the_same() -> None:
    store = Watched()
    store.is_damaged = True
    clear(store, DATA, b"b", b"d")
    assert store.deleted == [(b"b", b"d")]
