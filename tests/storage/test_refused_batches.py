"""What the engine refuses is gone, and with it what was believed because of it.

If this fails, a write that a client repeated after a refusal, and was told is done, is undone by a restart or never
purged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from random import Random

import pytest
from tests.storage.refusing import RefusingStore, on_disk, simulated
from tests.storage.tables import GC_GRACE_S, PLAIN

from ourodb.cql.types.native import INT
from ourodb.errors import Overloaded
from ourodb.storage.expiry import HOUR_S
from ourodb.storage.families import DATA
from ourodb.storage.mutation import Mutation, MutationBuilder
from ourodb.storage.purge import purge
from ourodb.storage.rows import Rows

NOW = 1_700_000_000 // HOUR_S * HOUR_S
ONE = INT.encode(1)
END = b"\xff" * 40


class Scene:
    """A partition of a store that now and then refuses a batch."""

    def __init__(self, refusing: RefusingStore) -> None:
        self.store, self.refuse, _ = refusing
        self.all_rows = Rows(self.store)
        self.rows = self.all_rows.register(PLAIN)
        self.position = self.rows.keys.position([ONE])

    def builder(self, timestamp: int) -> MutationBuilder:
        return MutationBuilder(self.rows.keys, self.position, timestamp, NOW)

    def apply(self, builder: MutationBuilder) -> Mutation:
        mutation = builder.build()
        assert mutation is not None
        assert self.rows.apply(mutation, NOW) is None
        return mutation

    def apply_twice(self, builder: MutationBuilder) -> None:
        """Apply it, be refused, and try again."""
        mutation = self.apply(builder)
        self.refuse_batch()
        assert self.rows.apply(mutation, NOW) is None
        self.store.settle()

    def refuse_batch(self) -> None:
        self.refuse(True)
        with pytest.raises(Overloaded):
            self.store.settle()
        self.refuse(False)

    def rows_after_restart(self) -> int:
        return len(list(Rows(self.store).register(PLAIN).read(self.position, NOW)))


@pytest.fixture(params=[on_disk, simulated])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    with request.param(tmp_path) as refusing:
        yield Scene(refusing)


@pytest.mark.parametrize("kind", ["partition", "range"])
def test_deletion_that_was_tried_again_survives_a_restart(scene: Scene, kind: str) -> None:
    builder = scene.builder(5)
    builder.row([ONE]).marker()
    scene.apply(builder)
    scene.store.settle()
    deletion = scene.builder(10)
    if kind == "partition":
        deletion.delete_partition()
    else:
        deletion.delete_range(*scene.rows.keys.slice())
    scene.apply_twice(deletion)
    assert scene.rows_after_restart() == 0


def test_expiring_row_that_was_tried_again_is_purged(scene: Scene) -> None:
    builder = scene.builder(5)
    builder.row([ONE]).marker(60)
    scene.apply_twice(builder)
    for hours in (1, GC_GRACE_S // HOUR_S + 2):
        for _ in purge(scene.all_rows, NOW + hours * HOUR_S):
            pass
        scene.store.settle()
    assert not list(scene.store.scan(DATA, b"", END))


def test_reads_look_for_headers_that_were_written_before_a_refusal(scene: Scene) -> None:
    """The batch that is lost isn't the one with the mark."""
    builder = scene.builder(5)
    builder.row([ONE]).marker()
    scene.apply(builder)
    deletion = scene.builder(10)
    deletion.delete_partition()
    scene.apply(deletion)
    scene.store.settle()
    late = scene.builder(7)
    late.row([ONE]).marker()
    scene.apply(late)
    scene.refuse_batch()
    assert not list(scene.rows.read(scene.position, NOW))


def test_deletion_stays_while_what_it_shadows_may_not_be_gone(scene: Scene) -> None:
    """The rows that a purge removed come back with the batch that is lost."""
    builder = scene.builder(5)
    for number in range(5):
        builder.row([INT.encode(number)]).marker()
    scene.apply(builder)
    deletion = scene.builder(10)
    deletion.delete_partition()
    scene.apply(deletion)
    scene.store.settle()
    later = NOW + GC_GRACE_S + HOUR_S
    run = purge(scene.all_rows, later, keys_per_slice=1)
    assert next(run, None) is not None
    scene.refuse_batch()
    for _ in run:
        scene.store.settle()
    assert scene.rows_after_restart() == 0
    for _ in purge(scene.all_rows, later):
        pass
    assert not list(scene.store.scan(DATA, b"", END))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("store_of", [on_disk, simulated])
def test_a_scan_sees_what_can_t_be_written_now(
    store_of: Callable[[Path], AbstractContextManager[RefusingStore]],
    seed: int,
    reverse: bool,
    tmp_path: Path,
) -> None:
    """A stall of the engine is told to whoever writes, at the end of the pass; nobody who reads has to know of it."""
    random = Random(seed)
    with store_of(tmp_path) as (store, refuse, _):
        keys = [bytes([number]) for number in range(12)]
        stored = dict.fromkeys(random.sample(keys, 6), b"stored")
        store.apply([(DATA, key, value) for key, value in stored.items()])
        store.settle()
        refuse(True)
        changed = {key: random.choice([b"new", None]) for key in random.sample(keys, 6)}
        store.apply([(DATA, key, value) for key, value in changed.items()])
        seen = {key: value for key, value in {**stored, **changed}.items() if value is not None}
        start, end = sorted(random.sample(keys, 2))
        expected = sorted((key, value) for key, value in seen.items() if start <= key < end)
        scan = store.scan(DATA, start, end, reverse=reverse)
        assert list(scan) == (expected[::-1] if reverse else expected)
        with pytest.raises(Overloaded):
            store.settle()
        refuse(False)
        assert list(store.scan(DATA, b"", END)) == sorted(stored.items())


def test_a_range_is_deleted_while_the_engine_stalls(tmp_path: Path) -> None:
    """What was applied before it, and waits, goes with it; what is applied later stays."""
    with on_disk(tmp_path) as (store, refuse, _):
        keys = [bytes([number]) for number in range(4)]
        store.apply([(DATA, keys[0], b"stored"), (DATA, keys[1], b"stored")])
        store.settle()
        refuse(True)
        store.apply([(DATA, keys[2], b"waits"), (DATA, keys[3], b"waits")])
        store.delete_range(DATA, keys[1], keys[3])
        store.apply([(DATA, keys[1], b"later")])
        refuse(False)
        store.settle()
        left = [(keys[0], b"stored"), (keys[1], b"later"), (keys[3], b"waits")]
        assert list(store.scan(DATA, b"", END)) == left
