"""Keys that aren't in memory. Broken, a read gives what was overwritten or never there, or waits for ever."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.durability.folders import HandScheduler, sync
from tests.storage.tables import PLAIN

from ourodb import limits
from ourodb.cql.types.native import INT
from ourodb.ports import LATER, Later
from ourodb.storage.families import DATA
from ourodb.storage.mutation import Mutation, MutationBuilder
from ourodb.storage.rocks import RocksStore
from ourodb.storage.rows import Rows

CACHE_BYTES = 64 << 10
KEYS = [b"key-%03d" % number for number in range(200)]
NOW = 1_700_000_000


class ColdStore:
    """A store on disk that was just opened, with hardly any cache."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.scheduler = HandScheduler()
        self.open()

    def open(self) -> None:
        self.store = RocksStore(self.path, self.scheduler, cache_bytes=CACHE_BYTES)
        self.store.always_cold = True
        self.store.check_disk(1 << 40, 1 << 40)

    def put(self, values: dict[bytes, bytes]) -> None:
        self.store.apply([(DATA, key, value) for key, value in values.items()])
        sync(self.store)

    def write_out(self) -> None:
        """Into data files: no longer in memory."""
        self.store._columns[DATA].flush()

    def restart(self) -> None:
        self.store.close()
        self.open()

    def fetch(self, key: bytes) -> bytes | None | Exception:
        heard: list[bytes | None | Exception] = []
        self.store.fetch(DATA, key, heard.append)
        self.scheduler.run_until(lambda: bool(heard))
        return heard[0]


@pytest.fixture
def cold(tmp_path: Path) -> Iterator[ColdStore]:
    store = ColdStore(tmp_path / "store")
    yield store
    store.store.close()


def test_a_value_that_no_cache_holds_is_there_once_it_was_fetched(cold: ColdStore) -> None:
    large = random.Random(1).randbytes(3 << 20)
    cold.put({b"large": large, b"small": b"value"})
    cold.restart()
    assert cold.store.get(DATA, b"large") is LATER
    assert cold.fetch(b"large") == large
    assert cold.store.get(DATA, b"large") == large
    assert cold.store.laters == 1


def test_many_keys_are_there_once_all_were_fetched(cold: ColdStore) -> None:
    """More than fit into the cache."""
    draw = random.Random(2)
    values = {key: draw.randbytes(9_000) for key in KEYS}
    cold.put(values)
    cold.restart()
    for key in KEYS:
        assert cold.fetch(key) == values[key]
    assert {key: cold.store.get(DATA, key) for key in KEYS} == values


def test_a_key_has_its_value_or_comes_later(cold: ColdStore) -> None:
    """Over restarts with data files, indexes and filters in every state between memory and disk."""
    draw = random.Random(8)
    values: dict[bytes, bytes] = {}
    answered = later = 0
    for _ in range(20):
        for key in draw.sample(KEYS, len(KEYS)):
            found = cold.store.get(DATA, key)
            if found is not LATER:
                answered += 1
                assert found == values.get(key)
                continue
            later += 1
            if later % 10 == 0:
                assert cold.fetch(key) == values.get(key)
        changed = {key: draw.randbytes(draw.choice([1, 100, 3_000])) for key in draw.sample(KEYS, 30)}
        values.update(changed)
        cold.put(changed)
        if draw.random() < 0.5:
            cold.write_out()
        if draw.random() < 0.7:
            cold.restart()
    assert answered
    assert later


def test_what_is_kept_is_bounded(cold: ColdStore) -> None:
    draw = random.Random(3)
    value = draw.randbytes(1 << 20)
    count = limits.FETCHED_BYTES_MAX // len(value) + 3
    cold.put({KEYS[number]: value for number in range(count)})
    cold.restart()
    for key in KEYS[:count]:
        cold.fetch(key)
    assert cold.store.get(DATA, KEYS[count - 1]) == value
    assert cold.store.get(DATA, KEYS[0]) is LATER


def test_a_missing_key_is_missing(cold: ColdStore) -> None:
    cold.put(dict.fromkeys(KEYS[::2], b"value"))
    cold.restart()
    for key in KEYS[1::2]:
        if isinstance(cold.store.get(DATA, key), Later):
            assert cold.fetch(key) is None
        assert cold.store.get(DATA, key) is None


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize("how", ["put", "delete", "delete range"])
def test_a_write_overtakes_what_is_being_fetched(cold: ColdStore, how: str, settled: bool) -> None:
    """The reader thread has the old value, and it isn't delivered yet."""
    old, new = random.Random(4).randbytes(3 << 20), random.Random(5).randbytes(3 << 20)
    cold.put({b"key": old})
    cold.restart()
    heard: list[bytes | None | Exception] = []
    cold.store.fetch(DATA, b"key", heard.append)
    cold.store.fetch(DATA, b"key", heard.append)
    cold.scheduler.wait_for_handed(2)
    expected = new if how == "put" else None
    if how == "delete range":
        cold.store.delete_range(DATA, b"a", b"z")
    else:
        cold.store.apply([(DATA, b"key", expected)])
    if settled:
        sync(cold.store)
        cold.write_out()
    cold.scheduler.run_until(lambda: len(heard) == 2)
    found = cold.store.get(DATA, b"key")
    if found is LATER:
        assert cold.fetch(b"key") == expected
        found = cold.store.get(DATA, b"key")
    assert found == expected


@pytest.mark.parametrize("how", ["put", "delete", "delete range"])
def test_a_write_overtakes_what_was_fetched(cold: ColdStore, how: str) -> None:
    old, new = random.Random(6).randbytes(3 << 20), random.Random(7).randbytes(3 << 20)
    cold.put({b"key": old})
    cold.restart()
    assert cold.fetch(b"key") == old
    expected = new if how == "put" else None
    if how == "delete range":
        cold.store.delete_range(DATA, b"a", b"z")
    else:
        cold.store.apply([(DATA, b"key", expected)])
    sync(cold.store)
    cold.write_out()
    found = cold.store.get(DATA, b"key")
    if found is LATER:
        assert cold.fetch(b"key") == expected
        found = cold.store.get(DATA, b"key")
    assert found == expected


def test_a_batch_of_cold_rows_waits_a_few_times_only(cold: ColdStore) -> None:
    """Once for each row would read the batch anew for each."""
    rows = Rows(cold.store).register(PLAIN)

    def mutation(number: int, timestamp: int, name: str) -> Mutation:
        builder = MutationBuilder(rows.keys, rows.keys.position([INT.encode(number)]), timestamp, NOW)
        row = builder.row([INT.encode(number)])
        row.cell(PLAIN.columns[name], INT.encode(number))
        built = builder.build()
        assert built is not None
        return built

    count = 5 * limits.FETCHES_AT_ONCE_MAX
    for number in range(count):
        assert rows.apply(mutation(number, 10, "v"), NOW) is None
    cold.restart()
    everything = Rows(cold.store)
    rows = everything.register(PLAIN)
    batch = [mutation(number, 20, "w") for number in range(count)]
    waits = 0
    while (wait := everything.apply_many(batch, NOW)) is not None:
        cold.fetch(wait.key)
        waits += 1
    assert 1 <= waits <= 2 * count // limits.FETCHES_AT_ONCE_MAX
    for number in range(count):
        at, key = rows.keys.position([INT.encode(number)]), rows.keys.clustering([INT.encode(number)])
        row = rows.get_row(at, key, NOW)
        assert row is not None
        assert set(row.cells) == {1, 2}  # type: ignore[union-attr]
