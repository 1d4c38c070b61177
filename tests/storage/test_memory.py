"""The store in memory: an ordered map with snapshots for scans, as the port asks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ourodb.storage.families import DATA, LOG
from ourodb.storage.memory import MemoryStore

keys = st.binary(max_size=2)


@given(st.lists(st.tuples(keys, st.none() | st.binary(max_size=1)), max_size=20), keys, keys)
def test_it_is_a_sorted_dict(writes: list[tuple[bytes, bytes | None]], start: bytes, end: bytes) -> None:
    store = MemoryStore()
    expected: dict[bytes, bytes] = {}
    store.apply([(DATA, key, value) for key, value in writes])
    for key, value in writes:
        if value is None:
            expected.pop(key, None)
        else:
            expected[key] = value
    inside = sorted((key, value) for key, value in expected.items() if start <= key < end)
    assert list(store.scan(DATA, start, end)) == inside
    assert list(store.scan(DATA, start, end, reverse=True)) == inside[::-1]
    assert all(store.get(DATA, key) == expected.get(key) for key, _ in writes)
    store.delete_range(DATA, start, end)
    kept = sorted((key, value) for key, value in expected.items() if not start <= key < end)
    assert list(store.scan(DATA, b"", b"\xff" * 9)) == kept


def test_scan_sees_the_store_as_it_was() -> None:
    store = MemoryStore.of(DATA, [(b"a", b"1"), (b"b", b"2")])
    scan = store.scan(DATA, b"", b"z")
    store.apply([(DATA, b"b", None), (DATA, b"c", b"3"), (LOG, b"a", b"x")])
    assert list(scan) == [(b"a", b"1"), (b"b", b"2")]
    assert list(store.scan(DATA, b"", b"z")) == [(b"a", b"1"), (b"c", b"3")]
    assert list(store.scan(LOG, b"", b"z")) == [(b"a", b"x")]
