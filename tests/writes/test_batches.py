"""Logged batches of real nodes, message by message: in the end all of it is there, or nothing.

If this fails, a batch whose coordinator died stays half done, or never ends, or comes back when it is long over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tests.writes.bench import TABLE, Bench
from tests.writes.ring import HOLD, LOSE, PASS, Fate, Message, Ring, as_int

from ourodb import limits
from ourodb.cql.wire.codes import Consistency
from ourodb.errors import Overloaded, RequestError, Unavailable, WriteTimeout
from ourodb.peer.messages import Verb
from ourodb.ports import NodeId
from ourodb.replication.batches import Batches
from ourodb.replication.replica.replica import encode_mutations

T = "CREATE TABLE ks.t (k int PRIMARY KEY, v int)"
U = "CREATE TABLE ks.u (k int PRIMARY KEY, v int)"
KEYS = range(1, 7)
WAIT_S = 2.5 * limits.BATCH_LOG_REPLAY_MS / 1_000


def batch(value: int = 1, tables: str = "t") -> str:
    inserts = " ".join(
        f"INSERT INTO ks.{table} (k, v) VALUES ({key}, {value});" for key in KEYS for table in tables
    )
    return f"BEGIN BATCH {inserts} APPLY BATCH"


@pytest.fixture
def ring() -> Iterator[Ring]:
    """Six nodes in three racks; afterwards nothing is left waiting, and no batch is kept."""
    ring = Ring(6, racks=3)
    ring.set_up(T, U)
    yield ring
    ring.rest()
    ring.run_for(WAIT_S)
    assert kept(ring) == []
    assert not any(ring.in_flight())


def losing(condition: Callable[[Message], bool]) -> Fate:
    return lambda message: LOSE if condition(message) else PASS


def kept(ring: Ring) -> list[int]:
    """Who keeps batches."""
    return [
        machine.index
        for machine in ring.machines
        if machine.is_ready and ring.node(machine.index).batches.waiting
    ]


def values(ring: Ring, table: str = "t") -> set[int | None]:
    """What is stored of the batch on the replicas that are up, None where something is missing."""
    found: set[int | None] = set()
    for key in KEYS:
        for index in ring.replicas(table, key):
            if ring.machines[index].is_ready:
                row = ring.here(index, table, key)
                found.add(None if row is None else as_int(row["v"]))
    return found


# Storing


def test_it_is_stored_in_other_failure_domains_before_anything_is_written(ring: Ring) -> None:
    for index in range(6):
        ring.seen.clear()
        ring.done(index, batch(index))
        verbs = [seen.verb for seen in ring.seen if not seen.is_reply]
        stores = [seen for seen in ring.seen if seen.verb == Verb.BATCH_STORE and not seen.is_reply]
        assert verbs.index(Verb.WRITE) > max(
            position for position, verb in enumerate(verbs) if verb == Verb.BATCH_STORE
        )
        racks = [ring.machines[seen.receiver].rack for seen in stores]
        assert len(set(racks) | {ring.machines[index].rack}) == 3
        ring.run_for(0.1)
        assert kept(ring) == []
        assert values(ring) == {index}


@pytest.mark.parametrize("sync_period_ms", [None, 60_000])
def test_keepers_have_it_on_disk_before_they_say_so(sync_period_ms: int | None) -> None:
    """Under either durability."""
    ring = Ring(sync_period_ms=sync_period_ms)
    ring.set_up(T)
    ring.machines[1].disk.conditions.sync_us = 200_000
    ring.seen.clear()
    promise = ring.ask(0, batch())
    ring.run_for(0.1)
    answers = [seen.sender for seen in ring.seen if seen.verb == Verb.BATCH_STORE and seen.is_reply]
    assert answers == [2]
    assert Verb.WRITE not in [seen.verb for seen in ring.seen]
    assert ring.reply(promise).error is None
    ring.rest()


@pytest.mark.parametrize("is_reply", [False, True])
def test_nothing_is_written_of_what_couldn_t_be_stored(ring: Ring, is_reply: bool) -> None:
    ring.fate = losing(lambda message: message.verb == Verb.BATCH_STORE and message.is_reply == is_reply)
    error = ring.run(0, batch()).error
    assert isinstance(error, WriteTimeout)
    assert (error.received, error.required, error.write_type) == (0, 2, "BATCH_LOG")
    assert values(ring) == {None}
    assert Verb.WRITE not in [seen.verb for seen in ring.seen]
    # Who has stored it can't know whether the coordinator went on.
    ring.fate = lambda message: PASS
    ring.run_for(WAIT_S)
    assert values(ring) == ({1} if is_reply else {None})


def test_levels_are_checked_before_it_is_stored(ring: Ring) -> None:
    for index in (3, 4, 5):
        ring.kill(index)
    ring.seen.clear()
    assert isinstance(ring.run(0, batch(), Consistency.ALL).error, Unavailable)
    assert ring.seen == []


def test_what_is_stored_is_never_told_as_undone(ring: Ring) -> None:
    """Its level can't be had any more by then; its keepers will write it all the same."""
    ring.fate = lambda message: HOLD if message.verb == Verb.BATCH_STORE and message.is_reply else PASS
    promise = ring.ask(0, batch())
    ring.run_for(0.05)
    ring.see(0, [0])
    ring.fate = lambda message: PASS
    ring.let_in()
    error = ring.reply(promise).error
    assert isinstance(error, WriteTimeout)
    assert (error.received, error.required, error.write_type) == (0, 2, "BATCH")
    ring.see(0, range(6))
    ring.run_for(WAIT_S)
    assert values(ring) == {1}


def test_where_no_keeper_has_room_nothing_happens(ring: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BATCH_LOG_BYTES_MAX", 10)
    assert isinstance(ring.run(0, batch()).error, Overloaded)
    assert values(ring) == {None}
    ring.run_for(WAIT_S)
    assert values(ring) == {None}


def test_a_keeper_that_hears_nobody_is_replaced() -> None:
    """Nobody notices that it is gone, since it still speaks. The coordinator stands in, and nobody waits for long."""
    ring = Ring()
    ring.set_up(T)
    ring.fate = losing(lambda message: message.receiver == 2)
    ring.seen.clear()
    begun = ring.world.loop.now_ns
    assert ring.run(0, batch(), Consistency.QUORUM).error is None
    assert ring.world.loop.now_ns - begun < 2 * limits.BATCH_KEEPER_LATE_MS * 1_000_000
    ring.run_for(0.1)
    assert kept(ring) == []


def test_a_keeper_whose_link_breaks_is_replaced(ring: Ring) -> None:
    ring.fate = losing(lambda message: message.verb == Verb.BATCH_STORE and not message.is_reply)
    promise = ring.ask(0, batch())
    ring.run_for(0.01)
    keepers = [ring.id(message.receiver) for message in ring.seen if message.verb == Verb.BATCH_STORE]
    assert len(keepers) == 2
    ring.fate = lambda message: PASS
    ring.node(0).peers.lost(keepers[0])
    ring.node(0).peers.lost(keepers[1])
    assert ring.reply(promise).error is None
    assert values(ring) == {1}


# Replaying


def test_a_batch_whose_coordinator_died_is_finished_by_others(ring: Ring) -> None:
    ring.fate = losing(lambda message: message.verb == Verb.WRITE and message.sender == 0)
    ring.ask(0, batch())
    ring.run_for(0.5)
    ring.kill(0)
    assert len(kept(ring)) == 2
    assert None in values(ring)
    ring.fate = lambda message: PASS
    ring.run_for(WAIT_S)
    assert values(ring) == {1}
    assert kept(ring) == []
    ring.start(0)
    ring.run_for(3)
    assert values(ring) == {1}


def test_keepers_that_lost_their_power_finish_it_all_the_same(ring: Ring) -> None:
    ring.fate = losing(lambda message: message.verb == Verb.WRITE and message.sender == 0)
    ring.ask(0, batch())
    ring.run_for(0.5)
    keepers = kept(ring)
    for index in (0, *keepers):
        ring.machines[index].lose_power()
    ring.run_for(1)
    for index in keepers:
        ring.machines[index].start()
    ring.fate = lambda message: PASS
    ring.run_for(WAIT_S)
    assert values(ring) == {1}
    ring.machines[0].start()
    assert ring.world.run_until(ring.is_whole, 30)
    ring.run_for(3)
    assert values(ring) == {1}


def test_it_is_kept_until_all_of_it_is_acknowledged(ring: Ring) -> None:
    """One partition times out at the client's level: the client is told, and the batch comes to its end."""
    victim = ring.replicas("t", 3)[:2]
    ring.fate = losing(lambda message: message.verb == Verb.WRITE and message.receiver in victim)
    error = ring.run(0, batch()).error
    assert isinstance(error, WriteTimeout)
    assert error.write_type == "BATCH"
    assert len(kept(ring)) == 2
    ring.fate = lambda message: PASS
    ring.run_for(WAIT_S)
    assert (values(ring), kept(ring)) == ({1}, [])


def test_a_replay_that_comes_late_undoes_nothing(ring: Ring) -> None:
    ring.fate = losing(lambda message: message.verb == Verb.BATCH_REMOVE)
    ring.done(0, batch(1))
    ring.done(1, "INSERT INTO ks.t (k, v) VALUES (2, 9)")
    ring.done(1, "DELETE FROM ks.t WHERE k = 3")
    assert len(kept(ring)) == 2
    ring.run_for(WAIT_S)
    assert kept(ring) == []
    rows = {key: [ring.here(index, "t", key) for index in ring.replicas("t", key)] for key in (1, 2, 3)}
    assert [as_int(row["v"]) for row in rows[1] if row] == [1, 1, 1]
    assert [as_int(row["v"]) for row in rows[2] if row] == [9, 9, 9]
    assert rows[3] == [None, None, None]


def test_replicas_that_are_down_get_hints_from_the_keepers(ring: Ring) -> None:
    ring.fate = losing(lambda message: message.verb == Verb.WRITE and message.sender == 0)
    ring.ask(0, batch())
    ring.run_for(0.5)
    ring.kill(0)
    keepers = kept(ring)
    down = next(index for key in KEYS for index in ring.replicas("t", key) if index not in (0, *keepers))
    ring.kill(down)
    ring.fate = lambda message: PASS
    ring.run_for(WAIT_S)
    assert kept(ring) == []
    for index in (down, 0):
        ring.start(index)
    ring.run_for(3)
    assert values(ring) == {1}


def test_a_table_that_is_gone_drops_out(ring: Ring) -> None:
    ring.fate = losing(lambda message: message.verb == Verb.WRITE and message.sender == 0)
    ring.ask(0, batch(1, "tu"))
    ring.run_for(0.5)
    ring.kill(0)
    ring.fate = lambda message: PASS
    ring.done(1, "DROP TABLE ks.u")
    ring.run_for(WAIT_S)
    assert (values(ring), kept(ring)) == ({1}, [])


def test_clocks_of_keepers_may_be_set(ring: Ring) -> None:
    ring.fate = losing(lambda message: message.verb == Verb.WRITE and message.sender == 0)
    ring.ask(0, batch())
    ring.run_for(0.5)
    first, second = kept(ring)
    ring.machines[first].jump(-3_600_000_000)
    ring.machines[second].jump(3_600_000_000)
    ring.kill(0)
    ring.fate = lambda message: PASS
    ring.run_for(WAIT_S)
    assert (values(ring), kept(ring)) == ({1}, [])


def test_a_node_alone_in_its_data_centre_keeps_its_own() -> None:
    ring = Ring(3, data_centers=2)
    ring.set_up(T)
    alone = 1
    assert [machine.data_center for machine in ring.machines] == ["dc1", "dc2", "dc1"]
    ring.fate = lambda message: HOLD if message.verb == Verb.WRITE and message.sender == alone else PASS
    ring.ask(alone, batch())
    ring.run_for(0.5)
    assert kept(ring) == [alone]
    ring.kill(alone, with_machine=True)
    assert values(ring) == {None}
    ring.fate = lambda message: PASS
    ring.start(alone)
    ring.run_for(WAIT_S)
    assert (values(ring), kept(ring)) == ({1}, [])


# A keeper alone


class Keeper:
    """A node that keeps batches and replays them to nobody but itself."""

    def __init__(self) -> None:
        self.bench = Bench((1,))
        self.batches = self.start()

    def start(self) -> Batches:
        bench = self.bench
        batches = Batches(
            bench.context,
            bench.rows,
            bench.store,
            bench.clock,
            bench.ports.random,
            bench.scheduler,
            lambda: [NodeId(1)],
        )
        batches.recover()
        return batches

    def keep(self, number: int, epoch: int = 0) -> RequestError | None:
        answers: list[RequestError | None] = []
        body = number.to_bytes(16, "big") + encode_mutations([self.bench.mutation(number, number)])
        self.batches._keep(body, epoch, answers.append)
        self.bench.settle()
        (answer,) = answers
        return answer

    def count(self) -> int:
        """Rows that were written."""
        return len(list(self.bench.rows.register(TABLE).scan(0)))


def test_what_is_older_than_tombstones_live_isn_t_replayed() -> None:
    """A batch that a dead disk kept for weeks would bring back what was deleted."""
    keeper = Keeper()
    assert keeper.keep(1) is None
    keeper.bench.scheduler.timers.clear()
    keeper.bench.pass_ms(TABLE.options.gc_grace_seconds * 1_000)
    batches = keeper.start()
    keeper.bench.pass_ms(limits.BATCH_LOG_REPLAY_MS)
    assert (keeper.count(), batches.waiting, batches.kept) == (0, 0, 0)


def test_batches_of_tables_without_tombstones_are_finished_while_they_are_young() -> None:
    keeper = Keeper()
    keeper.bench.rows.register(TABLE).use.gc_grace_s = 0
    keeper.keep(1)
    keeper.bench.pass_ms(2 * limits.BATCH_LOG_REPLAY_MS)
    assert (keeper.count(), keeper.batches.waiting) == (1, 0)


def test_a_keeper_that_lags_behind_the_metadata_waits() -> None:
    """It may not know the table yet."""
    keeper = Keeper()
    keeper.keep(1, epoch=7)
    keeper.bench.pass_ms(3 * limits.BATCH_LOG_REPLAY_MS)
    assert (keeper.count(), keeper.batches.waiting) == (0, 1)
    keeper.bench.peers.epoch = 7
    keeper.bench.pass_ms(limits.BATCH_LOG_REPLAY_MS)
    assert (keeper.count(), keeper.batches.waiting) == (1, 0)


def test_what_can_t_be_written_now_is_tried_again() -> None:
    keeper = Keeper()
    keeper.keep(1)
    keeper.bench.store.refuses_apply = True
    keeper.bench.pass_ms(3 * limits.BATCH_LOG_REPLAY_MS)
    assert (keeper.count(), keeper.batches.waiting) == (0, 1)
    keeper.bench.store.refuses_apply = False
    keeper.bench.pass_ms(limits.BATCH_LOG_REPLAY_MS)
    assert (keeper.count(), keeper.batches.waiting, keeper.batches.kept) == (1, 0, 0)


def test_many_are_replayed_one_after_the_other() -> None:
    keeper = Keeper()
    count = 5 * limits.BATCH_REPLAYS_AT_ONCE_MAX
    for number in range(count):
        assert keeper.keep(number) is None
    keeper.bench.pass_ms(2 * limits.BATCH_LOG_REPLAY_MS)
    assert (keeper.count(), keeper.batches.waiting, keeper.batches.replayed) == (count, 0, count)


def test_a_store_that_refuses_a_batch_keeps_none() -> None:
    for refusal in ("refuses_apply", "refuses_settle"):
        keeper = Keeper()
        setattr(keeper.bench.store, refusal, True)
        assert isinstance(keeper.keep(1), Overloaded)
        assert (keeper.batches.waiting, keeper.batches.kept) == (0, 0)


def test_there_is_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = Keeper()
    monkeypatch.setattr(limits, "BATCH_LOG_BYTES_MAX", 1_000)
    answers = [keeper.keep(number) for number in range(50)]
    assert answers[0] is None
    assert isinstance(answers[-1], Overloaded)
    assert keeper.batches.kept <= 1_000
