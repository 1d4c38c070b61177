"""Data files with many keys. Broken, each key that is looked up costs reading the file's whole filter and index."""

from __future__ import annotations

from pathlib import Path

from tests.durability.folders import HandScheduler

from ourodb.errors import Overloaded
from ourodb.storage.families import DATA
from ourodb.storage.rocks import BLOCK_BYTES, RocksStore

KEYS = 1_000_000
AT_ONCE = 20_000
LOOKED_UP = 500
CACHE_BYTES = 2 << 20


def test_a_key_costs_a_few_blocks_however_many_keys_its_file_has(tmp_path: Path) -> None:
    store = RocksStore(tmp_path, HandScheduler())
    for first in range(0, KEYS, AT_ONCE):
        store.apply([(DATA, key(number), b"%d" % number) for number in range(first, first + AT_ONCE)])
        _settle(store)
    store._columns[DATA].compact_range(None, None)
    store.close()

    store = RocksStore(tmp_path, HandScheduler(), cache_bytes=CACHE_BYTES)
    before = bytes_read()
    for number in range(0, KEYS, KEYS // LOOKED_UP):
        assert store.get(DATA, key(number)) == b"%d" % number
        assert store.get(DATA, key(number) + b"\x00") is None
    assert bytes_read() - before < LOOKED_UP * 4 * BLOCK_BYTES
    store.close()


def key(number: int) -> bytes:
    return number.to_bytes(8, "big")


def bytes_read() -> int:
    """By this process, files in the page cache included."""
    return int(Path("/proc/self/io").read_text().split()[1])


def _settle(store: RocksStore) -> None:
    """Memory may be written out more slowly than this fills it."""
    while True:
        try:
            store._write_pending()
        except Overloaded:
            continue
        return
