"""What is told of writes in a pass of the loop in which the engine refuses some of them.

If this fails, a write that lasts is told as refused and drivers repeat it, or one that is lost is acknowledged.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.storage.refusing import RefusingStore, on_disk, simulated
from tests.storage.tables import PLAIN

from ourodb.cql.types.native import INT
from ourodb.errors import Overloaded, RequestError
from ourodb.replication.replica.writes import Writes
from ourodb.storage.families import METADATA
from ourodb.storage.mutation import MutationBuilder
from ourodb.storage.rows import Rows

NOW = 1_700_000_000


class Scene:
    """The writes of a node whose engine refuses some.

    Attributes:
        told: of each write by its number, in order, what was told of it.
    """

    def __init__(self, refusing: RefusingStore, group: bool) -> None:
        self.store, self.refuse, self._end_syncs = refusing
        self.all_rows = Rows(self.store)
        self.rows = self.all_rows.register(PLAIN)
        self.writes = Writes(self.all_rows, self.store, group=group, arm=lambda: None)
        self.told: dict[int, list[RequestError | None]] = {}

    def write(self, number: int, *, sync: bool = False, then: Callable[[], None] = lambda: None) -> None:
        """Write the partition of this number; ``then`` is done by whoever hears of it."""
        builder = MutationBuilder(self.rows.keys, self._position(number), 5, NOW)
        builder.row([INT.encode(1)]).cell(PLAIN.columns["v"], INT.encode(number))
        mutation = builder.build()
        assert mutation is not None
        told = self.told[number] = []

        def done(error: RequestError | None) -> None:
            told.append(error)
            then()

        self.writes.run(lambda: self.rows.apply(mutation, NOW), done, sync=sync)

    def scan(self) -> None:
        """Somebody needs what was applied to be written."""
        with suppress(Overloaded):
            list(self.store.scan(METADATA, b"a", b"b"))

    def sync(self) -> None:
        """Somebody else settles."""
        self.store.sync(lambda error: None)

    def end_pass(self) -> None:
        self.writes.settle()
        self._end_syncs()

    def is_stored(self, number: int) -> bool:
        key = self.rows.keys.clustering([INT.encode(1)])
        return self.rows.get_row(self._position(number), key, NOW) is not None

    def check(self) -> None:
        """Each was told once, and what is."""
        for number, told in self.told.items():
            (error,) = told
            assert error is None or isinstance(error, Overloaded)
            assert self.is_stored(number) == (error is None), (number, error)

    def _position(self, number: int) -> bytes:
        return self.rows.keys.position([INT.encode(number)])


@pytest.fixture(params=[on_disk, simulated])
def refusing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RefusingStore]:
    with request.param(tmp_path) as store:
        yield store


@pytest.fixture(params=[True, False], ids=["group", "periodic"])
def scene(refusing: RefusingStore, request: pytest.FixtureRequest) -> Scene:
    return Scene(refusing, request.param)


def test_what_was_written_before_the_engine_refused_is_acknowledged(scene: Scene) -> None:
    scene.write(1)
    scene.scan()
    scene.refuse(True)
    scene.write(2)
    scene.end_pass()
    scene.check()
    assert isinstance(scene.told[2][0], Overloaded)


def test_what_was_lost_when_somebody_else_settled_is_not_acknowledged(scene: Scene) -> None:
    """Consensus, or the sync that comes by itself, in the same pass."""
    scene.write(1)
    scene.refuse(True)
    scene.sync()
    scene.refuse(False)
    scene.write(2)
    scene.end_pass()
    scene.check()
    assert isinstance(scene.told[1][0], Overloaded)
    assert scene.told[2] == [None]


def test_what_waits_for_its_fsync_is_not_refused_with_what_comes_after_it(scene: Scene) -> None:
    scene.write(1, sync=True)

    def write_more() -> None:
        scene.refuse(True)
        scene.write(3)

    scene.write(2, then=write_more)
    scene.end_pass()
    assert scene.told[1] == [None]
    scene.end_pass()
    scene.check()


@pytest.mark.parametrize("seed", range(20))
def test_each_is_told_what_became_of_it(scene: Scene, seed: int) -> None:
    draw = random.Random(seed)
    for number in range(100):
        scene.write(number, sync=draw.random() < 0.3)
        if draw.random() < 0.3:
            scene.scan()
        if draw.random() < 0.2:
            scene.sync()
        if draw.random() < 0.3:
            scene.refuse(draw.random() < 0.5)
        if draw.random() < 0.2:
            scene.end_pass()
    scene.end_pass()
    scene.check()
