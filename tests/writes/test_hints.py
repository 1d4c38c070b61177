"""Hints: what a replica missed reaches it, once it is back, unless it is too old.

If this fails, replicas stay without writes that were promised to them, deleted rows come back, or hints fill the disk
or hold up everything else.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.storage.tables import GC_GRACE_S
from tests.writes.bench import TABLE, Bench
from tests.writes.ring import LOSE, PASS, Message, Ring, as_int

from ourodb import limits
from ourodb.cql.wire.codes import Consistency
from ourodb.peer.messages import Verb
from ourodb.ports import BULK, NodeId
from ourodb.replication.hints import Hints
from ourodb.replication.replica.replica import decode_mutations
from ourodb.storage.families import HINTS

TWO = NodeId(2)
HOUR_MS = 3_600_000


@pytest.fixture
def ring() -> Iterator[Ring]:
    """Three nodes that are all replicas; afterwards nothing is left waiting."""
    ring = Ring()
    ring.set_up("CREATE TABLE ks.t (k int PRIMARY KEY, v int)")
    yield ring
    ring.rest()


def stored(bench: Bench) -> int:
    return len(list(bench.store.scan(HINTS, b"", b"\xff" * 13)))


def messages(bench: Bench, node: int = 2) -> list[tuple[int, int, bytes]]:
    """(lane, request, body) of the hints that were sent."""
    return [
        (lane, request, body)
        for lane, verb, request, body in bench.links[NodeId(node)].messages
        if verb == Verb.HINT
    ]


def restarted(bench: Bench) -> Hints:
    hints = Hints(bench.store, bench.peers, bench.clock, lambda: None)
    hints.follow(bench.writes)
    hints.recover()
    return hints


# Delivery


def test_hints_go_in_order_on_the_bulk_lane_and_are_deleted_when_acknowledged() -> None:
    bench = Bench()
    made = [bench.mutation(value, value) for value in range(10)]
    for mutation in made:
        assert bench.hints.add(TWO, mutation)
    bench.settle()
    assert (bench.hints.waiting(TWO), bench.hints.total, stored(bench)) == (10, 10, 10)
    bench.hints.deliver()
    ((lane, request, body),) = messages(bench)
    assert lane == BULK
    assert [mutation.encode() for mutation in decode_mutations(body)] == [
        mutation.encode() for mutation in made
    ]
    assert stored(bench) == 10
    bench.answer(2, request)
    bench.settle()
    assert (bench.hints.waiting(TWO), bench.hints.bytes, stored(bench)) == (0, 0, 0)
    assert bench.hints.delivered == 10
    assert bench.peers.in_flight == 0


@pytest.mark.parametrize("how", ["failed", "lost", "silent", "unsent"])
def test_hints_that_weren_t_acknowledged_are_sent_again(how: str) -> None:
    bench = Bench()
    bench.hints.add(TWO, bench.mutation())
    bench.settle()
    bench.links[TWO].takes = how != "unsent"
    bench.hints.deliver()
    if how == "failed":
        bench.answer(2, messages(bench)[0][1], failure=b"\x00\x00")
    elif how == "lost":
        bench.peers.lost(TWO)
    bench.pass_ms(6_000)
    assert (bench.hints.waiting(TWO), bench.peers.in_flight) == (1, 0)
    bench.links[TWO].takes = True
    bench.hints.deliver()
    bench.answer(2, messages(bench)[-1][1])
    bench.settle()
    assert stored(bench) == 0


def test_few_messages_are_under_way_and_none_is_large() -> None:
    bench = Bench()
    for value in range(2_000):
        bench.hints.add(TWO, bench.mutation(value, value))
    bench.settle()
    bench.hints.deliver()
    bench.hints.deliver()
    sent = 0
    while len(messages(bench)) > sent:
        under_way = messages(bench)[sent:]
        assert len(under_way) <= limits.HINTS_IN_FLIGHT_MAX
        for _, request, body in under_way:
            assert len(decode_mutations(body)) <= limits.HINT_BATCH_MUTATIONS_MAX
            sent += 1
            bench.answer(2, request)
            bench.settle()
    assert stored(bench) == 0
    assert bench.hints.delivered == 2_000


def test_hints_that_are_made_during_a_delivery_go_with_the_next() -> None:
    bench = Bench()
    for value in range(2):
        bench.hints.add(TWO, bench.mutation(value, value))
        bench.settle()
        bench.hints.deliver()
    assert len(messages(bench)) == 1
    bench.answer(2, messages(bench)[0][1])
    bench.hints.deliver()
    bench.answer(2, messages(bench)[1][1])
    bench.settle()
    assert [len(decode_mutations(body)) for _, _, body in messages(bench)] == [1, 1]
    assert stored(bench) == 0


def test_nodes_that_are_down_get_nothing() -> None:
    bench = Bench()
    bench.peers.up[TWO] = False
    bench.hints.add(TWO, bench.mutation())
    bench.settle()
    bench.hints.deliver()
    assert messages(bench) == []
    bench.peers.up[TWO] = True
    bench.hints.deliver()
    assert len(messages(bench)) == 1


# Age


def test_a_restart_doesn_t_make_hints_young() -> None:
    bench = Bench()
    bench.hints.add(TWO, bench.mutation())
    bench.settle()
    bench.pass_ms(limits.HINT_AGE_MS_MAX - HOUR_MS)
    hints = restarted(bench)
    assert hints.waiting(TWO) == 1
    bench.pass_ms(HOUR_MS + 1)
    hints.deliver()
    bench.settle()
    assert messages(bench) == []
    assert (hints.waiting(TWO), hints.dropped, hints.bytes, stored(bench)) == (0, 1, 0, 0)


@pytest.mark.parametrize("gc_grace_s", [0, 60, GC_GRACE_S])
def test_no_hint_outlives_the_tombstones_of_its_table(gc_grace_s: int) -> None:
    bench = Bench()
    bench.rows.register(TABLE).use.gc_grace_s = gc_grace_s
    assert bench.hints.add(TWO, bench.mutation()) == (gc_grace_s > 0)
    bench.settle()
    bench.pass_ms(59_000)
    bench.hints.deliver()
    assert len(messages(bench)) == (gc_grace_s > 0)
    bench.pass_ms(6_000)
    bench.hints.deliver()
    assert len(messages(bench)) == (2 if gc_grace_s > 60 else gc_grace_s > 0)
    assert bench.hints.waiting(TWO) == (gc_grace_s > 60)


def test_age_counts_from_when_the_mutation_was_written() -> None:
    """Not from when it was handed on, or found in a batch log."""
    bench = Bench()
    written_at_us = bench.clock.now_us - (limits.HINT_AGE_MS_MAX - HOUR_MS) * 1_000
    assert bench.hints.add(TWO, bench.mutation(), written_at_us)
    assert not bench.hints.add(TWO, bench.mutation(), written_at_us - 2 * HOUR_MS * 1_000)
    bench.settle()
    bench.pass_ms(HOUR_MS + 1)
    bench.hints.deliver()
    assert (messages(bench), bench.hints.dropped) == ([], 1)


def test_what_is_too_old_goes_in_small_steps_and_what_follows_is_delivered() -> None:
    bench = Bench()
    count = 5 * limits.HINT_BATCH_MUTATIONS_MAX
    for value in range(count):
        bench.hints.add(TWO, bench.mutation(value, value))
    bench.settle()
    bench.pass_ms(limits.HINT_AGE_MS_MAX)
    young = bench.mutation(count, count)
    bench.hints.add(TWO, young)
    bench.settle()
    bench.hints.deliver()
    # Other work comes between the steps.
    assert stored(bench) == 1 + count - limits.HINT_BATCH_MUTATIONS_MAX
    bench.settle()
    ((_, _, body),) = messages(bench)
    assert body == young.encode()
    assert (stored(bench), bench.hints.dropped) == (1, count)


def test_old_hints_of_a_node_that_stays_down_go_too() -> None:
    bench = Bench()
    bench.peers.up[TWO] = False
    for value in range(10):
        bench.hints.add(TWO, bench.mutation(value, value))
    bench.settle()
    bench.pass_ms(limits.HINT_AGE_MS_MAX)
    bench.hints.deliver()
    bench.settle()
    assert (bench.hints.dropped, bench.hints.bytes, stored(bench)) == (10, 0, 0)


# Room


def test_there_is_a_bound_and_what_is_too_old_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    bench.peers.up[TWO] = False
    size = 8 + len(bench.mutation().encode())
    monkeypatch.setattr(limits, "HINT_BYTES_MAX", 10 * size)
    added = [bench.hints.add(TWO, bench.mutation(value, value)) for value in range(12)]
    assert added == [True] * 10 + [False] * 2
    bench.settle()
    assert (bench.hints.dropped, bench.hints.bytes) == (2, 10 * size)
    bench.pass_ms(limits.HINT_AGE_MS_MAX)
    assert bench.hints.add(NodeId(3), bench.mutation(99, 99))
    assert bench.hints.waiting(TWO) == 0


@pytest.mark.parametrize("refusal", ["refuses_apply", "refuses_settle"])
def test_hints_that_the_store_didn_t_take_are_tried_again(refusal: str) -> None:
    bench = Bench()
    setattr(bench.store, refusal, True)
    bench.peers.up[TWO] = False
    for value in range(3):
        bench.hints.add(TWO, bench.mutation(value, value))
    bench.settle()
    assert (bench.hints.waiting(TWO), bench.hints.bytes, bench.hints.total, stored(bench)) == (0, 0, 3, 0)
    bench.hints.deliver()
    bench.settle()
    assert (bench.hints.total, stored(bench)) == (3, 0)
    setattr(bench.store, refusal, False)
    bench.hints.deliver()
    bench.settle()
    assert (stored(bench), bench.hints.waiting(TWO), bench.hints.total) == (3, 3, 3)
    assert bench.hints.dropped == 0


def test_what_waits_in_memory_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    bench.store.refuses_apply = True
    monkeypatch.setattr(limits, "HINT_UNKEPT_BYTES_MAX", 1_000)
    for value in range(100):
        bench.hints.add(TWO, bench.mutation(value, value))
    assert 0 < bench.hints.total < 100
    assert bench.hints.total + bench.hints.dropped == 100


# Ranges that change hands


def test_a_hint_that_is_handed_on_in_vain_waits_for_the_next_run() -> None:
    """The node whom it was for may be among those who get it now, and not take it."""
    bench = Bench()
    handed_on = []

    def hand_on(mutation, written_at_us, over):  # type: ignore[no-untyped-def]
        handed_on.append(mutation.encode())
        assert len(handed_on) < 10, "for ever"
        over(bench.hints.add(TWO, mutation, written_at_us))

    bench.hints.hand_on = hand_on
    bench.hints.is_for = lambda node, mutation: False
    bench.hints.add(TWO, bench.mutation(1, 1))
    bench.settle()
    for runs in (1, 2):
        bench.hints.deliver()
        bench.settle()
        assert (len(handed_on), stored(bench)) == (runs, 1)


# Who has left


def test_what_a_node_missed_that_left_is_handed_on() -> None:
    bench = Bench()
    handed_on = []

    def hand_on(mutation, written_at_us, over):  # type: ignore[no-untyped-def]
        handed_on.append((mutation.encode(), written_at_us))
        over(len(handed_on) != 2)

    bench.hints.hand_on = hand_on
    made_at_us = bench.clock.now_us
    made = [bench.mutation(value, value) for value in range(3)]
    for mutation in made:
        bench.hints.add(TWO, mutation)
    bench.settle()
    bench.pass_ms(1_000)
    del bench.peers.links[TWO]
    bench.peers.up.pop(TWO)
    bench.hints.forget(TWO)
    bench.hints.deliver()
    bench.settle()
    assert handed_on == [(mutation.encode(), made_at_us) for mutation in made]
    # The second one wasn't complete: it is tried again.
    assert (stored(bench), bench.hints.waiting(TWO)) == (1, 1)
    bench.hints.deliver()
    bench.settle()
    assert (stored(bench), bench.hints.total) == (0, 0)
    assert handed_on[3] == handed_on[1]


@given(st.lists(st.sampled_from(["add 2", "add 3", "deliver", "ack", "fail", "lose", "restart"])))
def test_counts_agree_with_what_is_stored(steps: list[str]) -> None:
    bench = Bench()
    hints = bench.hints
    value = 0
    for step in steps:
        if step.startswith("add"):
            value += 1
            hints.add(NodeId(int(step[-1])), bench.mutation(value, value))
        elif step == "deliver":
            hints.deliver()
        elif step == "lose":
            bench.peers.lost(TWO)
        elif step == "restart":
            bench.settle()
            hints = restarted(bench)
        else:
            for node in (2, 3):
                for _, request, _ in messages(bench, node)[-1:]:
                    bench.answer(node, request, failure=b"\x00\x00" if step == "fail" else None)
        bench.settle()
        kept = list(bench.store.scan(HINTS, b"", b"\xff" * 13))
        if hints is bench.hints:
            assert hints.total == len(kept)
            assert hints.bytes == sum(len(value) for _, value in kept)
    bench.pass_ms(6_000)
    assert bench.peers.in_flight == 0


# A ring


def test_a_node_that_was_down_has_everything_when_it_is_back(ring: Ring) -> None:
    ring.kill(2)
    for key in range(20):
        ring.done(key % 2, f"INSERT INTO ks.t (k, v) VALUES ({key}, {key})", Consistency.ONE)
    assert ring.node(0).hints.waiting(ring.id(1)) == 0
    ring.start(2)
    ring.run_for(3)
    assert [as_int(row["v"]) for key in range(20) if (row := ring.here(2, "t", key))] == list(range(20))
    assert [ring.node(index).hints.total for index in range(2)] == [0, 0]


def test_a_replica_that_didn_t_answer_has_it_in_the_end(ring: Ring) -> None:
    ring.fate = lambda message: LOSE if message.verb == Verb.WRITE and message.receiver == 2 else PASS
    ring.done(0, "INSERT INTO ks.t (k, v) VALUES (1, 1)")
    assert ring.here(2, "t", 1) is None
    ring.run_for(1)
    assert ring.node(0).hints.total == 0
    ring.run_for(4)
    assert ring.here(2, "t", 1) is not None
    assert ring.node(0).hints.total == 0


def test_hints_outlive_the_process_that_made_them(ring: Ring) -> None:
    ring.kill(2)
    ring.done(0, "INSERT INTO ks.t (k, v) VALUES (1, 1)")
    ring.kill(0)
    ring.start(2)
    assert ring.here(2, "t", 1) is None
    ring.start(0)
    ring.run_for(3)
    assert ring.here(2, "t", 1) is not None


def test_hints_that_were_synced_outlive_a_blackout(ring: Ring) -> None:
    """Acknowledged at ANY, a hint is all that there is of a write."""
    ring.kill(1)
    ring.kill(2)
    ring.machines[0].disk.conditions.is_full = False
    ring.done(0, "INSERT INTO ks.t (k, v) VALUES (1, 1)", Consistency.ANY)
    ring.machines[0].lose_power()
    ring.machines[0].start()
    for index in (1, 2):
        ring.machines[index].start()
    assert ring.world.run_until(ring.is_whole, 30)
    ring.run_for(3)
    assert [ring.here(index, "t", 1) is not None for index in range(3)] == [True] * 3


def test_hints_of_a_dropped_table_die_on_arrival(ring: Ring) -> None:
    ring.done(0, "CREATE TABLE ks.gone (k int PRIMARY KEY, v int)")
    ring.kill(2)
    ring.done(0, "INSERT INTO ks.gone (k, v) VALUES (1, 1)")
    ring.done(0, "INSERT INTO ks.t (k, v) VALUES (1, 1)")
    ring.done(0, "DROP TABLE ks.gone")
    ring.start(2)
    ring.run_for(3)
    assert ring.here(2, "t", 1) is not None
    assert ring.node(0).hints.total == 0


def test_a_hint_carries_the_timestamp_of_its_write(ring: Ring) -> None:
    """What was written later, while the hint waited, stays."""

    def fate(message: Message) -> str:
        return LOSE if message.verb == Verb.WRITE and message.receiver == 2 and message.sender == 0 else PASS

    ring.fate = fate
    ring.done(0, "INSERT INTO ks.t (k, v) VALUES (1, 1)")
    ring.done(1, "INSERT INTO ks.t (k, v) VALUES (1, 2)")
    ring.fate = lambda message: PASS
    ring.run_for(5)
    assert [as_int(row["v"]) for index in range(3) if (row := ring.here(index, "t", 1))] == [2, 2, 2]
    hints = [seen for seen in ring.seen if seen.verb == Verb.HINT and not seen.is_reply]
    assert len(hints) == 1
