"""The simulated disk against a model.

If this fails, crashes in the simulator lose what was promised, or keep what a real disk would lose, and what is
concluded from runs with crashes is worth nothing.
"""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.sim.talkers import Talker, talkers

from ourodb.errors import Overloaded, StoreError, StoreReadOnly
from ourodb.ports import LATER, Later, Write
from ourodb.sim.world import World
from ourodb.storage.families import DATA, LOG

Content = dict[tuple[int, bytes], bytes]

KEYS = [bytes([letter]) for letter in b"abcdef"]
WRITES = st.lists(
    st.tuples(st.sampled_from([DATA, LOG]), st.sampled_from(KEYS), st.none() | st.binary(max_size=2)),
    min_size=1,
    max_size=4,
)


def written(content: Content, writes: list[Write]) -> Content:
    content = dict(content)
    for family, key, value in writes:
        content.pop((family, key), None)
        if value is not None:
            content[family, key] = value
    return content


class DiskMachine(RuleBasedStateMachine):
    """One machine's store, and the states that it went through."""

    @initialize(seed=st.integers(0, 1 << 32))
    def begin(self, seed: int) -> None:
        self.world, _ = talkers(seed, 1)
        self.states: list[Content] = [{}]
        """After each ``apply``; the first is what certainly is on disk."""
        self.settled = 0
        self.ends = [0]
        self.synced = 0
        self.answers: list[Exception | None] = []

    @property
    def store(self):  # type: ignore[no-untyped-def]
        process = self.world.machines[0].process
        assert process is not None
        return process.store

    def content(self) -> Content:
        disk = self.world.machines[0].disk.content
        return {
            (family, key): value for family in (DATA, LOG) for key, value in disk.scan(family, b"", b"\xff")
        }

    @rule(writes=WRITES)
    def apply(self, writes: list[Write]) -> None:
        self.store.apply(writes)
        self.states.append(written(self.states[-1], writes))

    @rule(start=st.sampled_from(KEYS), end=st.sampled_from(KEYS))
    def delete_range(self, start: bytes, end: bytes) -> None:
        self.store.delete_range(DATA, start, end)
        gone: list[Write] = [(DATA, key, None) for key in KEYS if start <= key < end]
        self.states.append(written(self.states[-1], gone))

    @rule()
    def settle(self) -> None:
        self.store.settle()
        self.settled = len(self.states) - 1
        self.ends.append(self.settled)

    @rule(then_waits=st.booleans())
    def sync(self, then_waits: bool) -> None:
        self.store.sync(self.answers.append)
        self.settled = len(self.states) - 1
        self.ends.append(self.settled)
        if then_waits:
            promised, waiting = self.settled, len(self.answers) + 1
            self.world.run_until(lambda: len(self.answers) >= waiting, 10)
            assert self.answers[-1] is None
            # Syncs that were asked for before are over as well.
            self.world.run_for(1)
            self.synced = promised

    @rule(family=st.sampled_from([DATA, LOG]))
    def scan(self, family: int) -> None:
        """As in RocksDB, what was applied before is written first."""
        pairs = [(key, value) for (one, key), value in self.states[-1].items() if one == family]
        assert list(self.store.scan(family, b"", b"\xff")) == sorted(pairs)
        self.settled = len(self.states) - 1
        self.ends.append(self.settled)
        assert list(self.store.scan(family, b"", b"\xff", reverse=True)) == sorted(pairs)[::-1]

    @rule(family=st.sampled_from([DATA, LOG]), key=st.sampled_from(KEYS))
    def fetch(self, family: int, key: bytes) -> None:
        fetched: list[bytes | None | Exception] = []
        self.store.fetch(family, key, fetched.append)
        assert not fetched, "a fetch never answers at once"
        # What is applied meanwhile may be in the answer.
        self.world.run_until(lambda: bool(fetched), 10)
        assert fetched == [self.states[-1].get((family, key))]
        assert self.store.get(family, key) == fetched[0], "what was fetched is there"

    @rule()
    def kill(self) -> None:
        self.world.machines[0].kill()
        self._now_is(self.settled)
        self._restart()

    @rule()
    def lose_power(self) -> None:
        self.world.machines[0].lose_power()
        content = self.content()
        # The latest of the states that it may be: others with the same content make no difference.
        kept = [n for n in range(self.synced, self.settled + 1) if self.states[n] == content]
        assert kept, "a crash must leave one of the states between the last sync and the last settle"
        self._now_is(kept[-1])
        self.states = [content]
        self.settled = self.synced = 0
        self.ends = [0]
        self._restart()

    def _now_is(self, number: int) -> None:
        del self.states[number + 1 :]
        assert self.content() == self.states[number]

    def _restart(self) -> None:
        self.answers = []
        self.world.run_for(0.01)
        self.world.start(self.world.machines)

    @invariant()
    def reads_see_what_was_applied(self) -> None:
        if not hasattr(self, "world"):
            return
        assert self.content() == self.states[-1]
        for family in (DATA, LOG):
            for key in KEYS:
                value = self.store.get(family, key)
                assert isinstance(value, Later) or value == self.states[-1].get((family, key))


TestDisk = DiskMachine.TestCase
TestDisk.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_a_crash_keeps_less_and_more_of_what_was_not_synced() -> None:
    """All lengths of the prefix occur, and also cuts in the midst of a settled batch."""
    kept = set()
    for seed in range(120):
        world, _ = talkers(seed, 1)
        machine = world.machines[0]
        assert machine.process is not None
        store = machine.process.store
        for number in range(6):
            store.apply([(DATA, bytes([number]), b"x")])
            if number % 2:
                store.settle()
        machine.lose_power()
        kept.add(len(list(machine.disk.content.scan(DATA, b"", b"\xff"))))
    assert kept == set(range(7))


def test_later_is_answered_and_is_over_after_a_fetch() -> None:
    world, _ = talkers(1, 1)
    machine = world.machines[0]
    assert machine.process is not None
    store = machine.process.store
    store.apply([(DATA, b"k%d" % number, b"v") for number in range(50)])
    assert all(store.get(DATA, b"k%d" % number) == b"v" for number in range(50)), (
        "what was just written is warm"
    )
    store.settle()
    machine.kill()
    world.run_for(0.01)
    world.start([machine])
    store = machine.process.store
    late = [key for key in (b"k%d" % number for number in range(50)) if store.get(DATA, key) is LATER]
    assert 0 < len(late) < 50
    assert store.get(DATA, b"nothing") is None
    fetched: list[object] = []
    for key in late:
        store.fetch(DATA, key, fetched.append)
    world.run_for(1)
    assert fetched == [b"v"] * len(late)
    assert all(store.get(DATA, key) == b"v" for key in late)


def test_syncs_are_shared_and_one_at_a_time() -> None:
    world, _ = talkers(1, 1)
    assert world.machines[0].process is not None
    store = world.machines[0].process.store
    done: list[int] = []
    for number in range(10):
        store.apply([(DATA, b"k", bytes([number]))])
        store.sync(lambda error, number=number: done.append(number))  # type: ignore[misc]
    assert done == []
    world.run_for(1)
    assert done == list(range(10))
    assert store.syncs == 2, "the first goes by itself, the nine that came meanwhile share the next one"


def test_what_is_settled_while_a_sync_is_under_way_is_not_safe_with_it() -> None:
    kept = []
    for seed in range(40):
        world, _ = talkers(seed, 1)
        machine = world.machines[0]
        assert machine.process is not None
        store = machine.process.store
        done: list[Exception | None] = []
        store.apply([(DATA, b"before", b"x")])
        store.sync(done.append)
        store.apply([(DATA, b"after", b"x")])
        store.settle()
        world.run_until(lambda done=done: bool(done), 1)  # type: ignore[misc]
        machine.lose_power()
        assert machine.disk.content.get(DATA, b"before") == b"x"
        kept.append(machine.disk.content.get(DATA, b"after") is not None)
    assert set(kept) == {True, False}


def test_a_store_syncs_by_itself_when_it_is_periodic() -> None:
    world = World(1)
    (machine,) = world.add_machines(1, Talker, sync_period_ms=100)
    world.start([machine])
    assert machine.process is not None
    machine.process.store.apply([(DATA, b"k", b"v")])
    machine.process.store.settle()
    world.run_for(1)
    machine.lose_power()
    assert machine.disk.content.get(DATA, b"k") == b"v"


def test_a_full_disk_refuses_and_keeps_what_it_has() -> None:
    world, _ = talkers(1, 1)
    machine = world.machines[0]
    assert machine.process is not None
    store = machine.process.store
    store.apply([(DATA, b"a", b"1")])
    store.settle()
    store.apply([(DATA, b"b", b"2")])
    machine.disk.conditions.is_full = True
    with pytest.raises(StoreReadOnly):
        store.apply([(DATA, b"c", b"3")])
    with pytest.raises(StoreReadOnly):
        store.settle()
    assert list(store.scan(DATA, b"", b"z")) == [(b"a", b"1")], "what couldn't be settled is gone"
    errors: list[Exception | None] = []
    store.sync(errors.append)
    world.run_for(1)
    machine.disk.conditions.is_full = False
    store.apply([(DATA, b"c", b"3")])
    store.settle()
    assert [key for key, _ in store.scan(DATA, b"", b"z")] == [b"a", b"c"]


def test_an_engine_that_refuses_a_batch_forgets_it() -> None:
    world, _ = talkers(1, 1)
    machine = world.machines[0]
    assert machine.process is not None
    store = machine.process.store
    machine.disk.conditions.refuses_settle_one_in = 1
    store.apply([(DATA, b"a", b"1")])
    with pytest.raises(Overloaded):
        store.settle()
    assert list(store.scan(DATA, b"", b"z")) == []


def test_after_a_failed_fsync_nothing_is_written_any_more() -> None:
    world, _ = talkers(1, 1)
    machine = world.machines[0]
    assert machine.process is not None
    store = machine.process.store
    machine.disk.conditions.fails_syncs = True
    errors: list[Exception | None] = []
    store.apply([(DATA, b"a", b"1")])
    store.sync(errors.append)
    world.run_for(1)
    assert len(errors) == 1
    assert isinstance(errors[0], StoreError)
    with pytest.raises(StoreReadOnly):
        store.apply([(DATA, b"b", b"2")])
    assert machine.disk.settled == 1


def test_a_new_disk_is_empty() -> None:
    world, _ = talkers(1, 1)
    machine = world.machines[0]
    assert machine.process is not None
    machine.process.store.apply([(DATA, b"a", b"1")])
    machine.process.store.settle()
    machine.kill()
    machine.wipe()
    world.run_for(0.01)
    world.start([machine])
    assert list(machine.process.store.scan(DATA, b"", b"z")) == []
