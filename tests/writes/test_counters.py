"""Replicated counters, message by message.

If this fails, increments count twice, or not at all though they were acknowledged, or clients are told something else
of them than the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tests.writes.ring import HOLD, LOSE, PASS, TWICE, Message, Ring, as_int

from ourodb.cql.wire.codes import Consistency
from ourodb.errors import InvalidRequest, Overloaded, Unavailable, WriteFailure, WriteTimeout
from ourodb.peer.messages import Verb

C = "CREATE TABLE ks.c (k int PRIMARY KEY, n counter)"
D = "CREATE TABLE ks.d (k int PRIMARY KEY, n counter, m counter)"
ADD = "UPDATE ks.c SET n = n + 1 WHERE k = 1"


@pytest.fixture
def ring() -> Iterator[Ring]:
    """Four nodes, of which one isn't a replica of a given key; afterwards nothing is left waiting."""
    ring = Ring(4)
    ring.set_up(C, D)
    yield ring
    ring.rest()


def total(ring: Ring, table: str = "c", key: int = 1, column: str = "n") -> int | None:
    reply = ring.done(0, f"SELECT {column} FROM ks.{table} WHERE k = {key}", Consistency.ALL)
    return as_int(reply.cell(column)) if reply.rows else None


def losing(condition: Callable[[Message], bool]) -> Callable[[Message], str]:
    return lambda message: LOSE if condition(message) else PASS


def test_a_batch_adds_to_several_tables_under_one_key(ring: Ring) -> None:
    for index in range(4):
        ring.done(
            index,
            "BEGIN COUNTER BATCH UPDATE ks.c SET n = n + 2 WHERE k = 1; UPDATE ks.d SET n = n + 3, m = m - 4 WHERE"
            " k = 1; UPDATE ks.c SET n = n + 1 WHERE k = 1; UPDATE ks.c SET n = n + 7 WHERE k = 2; APPLY BATCH",
        )
    assert [total(ring, "c", 1), total(ring, "d", 1), total(ring, "d", 1, "m"), total(ring, "c", 2)] == [
        12, 12, -16, 28,
    ]  # fmt: skip


def test_levels_that_increments_don_t_know_are_refused(ring: Ring) -> None:
    for level in (Consistency.ANY, Consistency.SERIAL, Consistency.LOCAL_SERIAL):
        for index in range(4):
            assert isinstance(ring.run(index, ADD, level).error, InvalidRequest)
    assert total(ring) is None


def test_an_answer_that_is_lost_is_no_reason_to_add_again(ring: Ring) -> None:
    (stranger,) = ring.strangers("c", 1)
    ring.fate = losing(lambda message: message.verb == Verb.COUNTER and message.is_reply)
    error = ring.run(stranger, ADD).error
    assert isinstance(error, WriteTimeout)
    assert (error.received, error.required, error.write_type) == (0, 2, "COUNTER")
    ring.rest()
    assert total(ring) == 1


def test_a_leader_that_waits_in_vain_says_how_many_have_it(ring: Ring) -> None:
    (stranger,) = ring.strangers("c", 1)
    ring.fate = losing(lambda message: message.verb == Verb.WRITE)
    for index in (stranger, ring.replicas("c", 1)[0]):
        error = ring.run(index, ADD).error
        assert isinstance(error, WriteTimeout)
        assert (error.received, error.required, error.write_type) == (1, 2, "COUNTER")
    ring.rest()
    assert total(ring) == 2


def test_a_leader_that_dies_before_others_know_has_added_once(ring: Ring) -> None:
    """What it synced is there when it is back, and counts beside what its next run adds."""
    leader = ring.replicas("c", 1)[0]
    ring.done(leader, ADD)
    ring.fate = losing(lambda message: message.verb == Verb.WRITE and message.sender == leader)
    ring.ask(leader, ADD)
    ring.run_for(0.1)
    ring.kill(leader, with_machine=True)
    ring.fate = lambda message: PASS
    ring.start(leader)
    assert total(ring) == 2
    ring.done(leader, ADD)
    assert total(ring) == 3


@pytest.mark.parametrize("sync_period_ms", [None, 60_000])
def test_no_value_leaves_its_leader_before_it_is_on_disk(sync_period_ms: int | None) -> None:
    """Under either durability."""
    ring = Ring(sync_period_ms=sync_period_ms)
    ring.set_up(C)
    ring.machines[0].disk.conditions.sync_us = 200_000
    ring.seen.clear()
    promise = ring.ask(0, ADD, Consistency.ONE)
    ring.run_for(0.1)
    assert not promise.is_kept
    assert ring.seen == []
    ring.reply(promise)
    ring.run_for(0.1)
    assert [seen.verb for seen in ring.seen if not seen.is_reply] == [Verb.WRITE] * 2
    ring.rest()


@pytest.mark.parametrize("seed", range(4))
def test_a_node_that_lost_what_others_have_seen_of_it_loses_nothing_that_it_adds_then(seed: int) -> None:
    """A read spreads an increment that isn't synced yet; then the power goes, and the clock is set back."""
    ring = Ring(3, seed=seed)
    ring.set_up(C)
    leader, other = ring.replicas("c", 1)[:2]
    ring.done(leader, ADD)
    ring.machines[leader].disk.conditions.sync_us = 1_000_000
    ring.ask(leader, ADD)
    ring.run_for(0.05)
    seen = as_int(ring.done(other, "SELECT n FROM ks.c WHERE k = 1", Consistency.ALL).cell("n"))
    ring.kill(leader, with_machine=True)
    ring.machines[leader].disk.conditions.sync_us = 100
    ring.machines[leader].jump(-60_000_000)
    ring.start(leader)
    for _ in range(3):
        ring.done(leader, ADD)
    assert seen == 2
    assert total(ring) in (4, 5)
    ring.rest()


def test_a_value_that_arrives_twice_counts_once(ring: Ring) -> None:
    ring.fate = lambda message: TWICE if message.verb == Verb.WRITE and not message.is_reply else PASS
    for index in range(4):
        ring.done(index, ADD)
    assert total(ring) == 4


def test_values_that_overtake_each_other_do_no_harm(ring: Ring) -> None:
    leader, *others = ring.replicas("c", 1)
    ring.fate = lambda message: HOLD if message.verb == Verb.WRITE and message.receiver == others[0] else PASS
    ring.done(leader, ADD)
    ring.fate = lambda message: PASS
    ring.done(leader, ADD)
    ring.let_in()
    ring.run_for(1)
    assert total(ring) == 2


def test_a_leader_whose_disk_is_full_has_done_nothing(ring: Ring) -> None:
    (stranger,) = ring.strangers("c", 1)
    for index in ring.replicas("c", 1):
        ring.machines[index].disk.conditions.is_full = True
    for index in (stranger, ring.replicas("c", 1)[0]):
        assert isinstance(ring.run(index, ADD).error, Overloaded)
    for machine in ring.machines:
        machine.disk.conditions.is_full = False
    assert total(ring) is None


def test_a_leader_that_doesn_t_know_whether_its_disk_has_it_says_so(ring: Ring) -> None:
    """OVERLOADED would be leave to repeat it."""
    (stranger,) = ring.strangers("c", 1)
    for index in ring.replicas("c", 1):
        ring.machines[index].disk.conditions.refuses_settle_one_in = 1
    for index in (stranger, ring.replicas("c", 1)[0]):
        error = ring.run(index, ADD).error
        assert isinstance(error, WriteTimeout), error
        assert error.write_type == "COUNTER"
    for machine in ring.machines:
        machine.disk.conditions.refuses_settle_one_in = 0


def test_a_part_of_a_batch_that_is_refused_doesn_t_make_it_repeatable(ring: Ring) -> None:
    """Another part has been added."""
    key = next(key for key in range(2, 50) if ring.strangers("c", key) != ring.strangers("c", 1))
    (coordinator,) = ring.strangers("c", key)
    for index in ring.replicas("c", 1):
        ring.machines[index].disk.conditions.is_full = True
    batch = f"BEGIN COUNTER BATCH {ADD}; UPDATE ks.c SET n = n + 1 WHERE k = {key}; APPLY BATCH"
    error = ring.run(coordinator, batch, Consistency.ONE).error
    assert isinstance(error, WriteTimeout), error
    for machine in ring.machines:
        machine.disk.conditions.is_full = False
    ring.run_for(1)
    assert (total(ring, key=1), total(ring, key=key)) == (None, 1)


def test_a_part_of_a_batch_that_is_unavailable_doesn_t_make_it_repeatable() -> None:
    """Another part has been added: drivers repeat what was Unavailable elsewhere, and it would be added again."""
    ring = Ring(6)
    ring.set_up("CREATE TABLE ks.c (k int PRIMARY KEY, n counter)", factor=2)
    pairs = [(one, other) for one in range(50) for other in range(50)]
    one, other = next(
        pair for pair in pairs if not {*ring.replicas("c", pair[0])} & {*ring.replicas("c", pair[1])}
    )
    alone = ring.replicas("c", other)
    coordinator = next(index for index in range(6) if index not in [*ring.replicas("c", one), *alone])
    for leader in alone:
        ring.see(leader, [leader, coordinator])
    batch = (
        f"BEGIN COUNTER BATCH UPDATE ks.c SET n = n + 1 WHERE k = {one};"
        f" UPDATE ks.c SET n = n + 1 WHERE k = {other}; APPLY BATCH"
    )
    assert isinstance(ring.run(coordinator, batch).error, WriteTimeout)
    for leader in alone:
        ring.see(leader, range(6))
    ring.run_for(1)
    reply = ring.done(coordinator, f"SELECT n FROM ks.c WHERE k = {one}", Consistency.ALL)
    assert as_int(reply.cell("n")) == 1
    ring.rest()


def test_nobody_leads_who_is_no_replica(ring: Ring) -> None:
    """A coordinator with an old view of the ring may ask one."""
    (stranger,) = ring.strangers("c", 1)
    leader = ring.replicas("c", 1)[0]
    caught: list[Message] = []

    def fate(message: Message) -> str:
        if message.verb == Verb.COUNTER and not message.is_reply:
            caught.append(message)
            return LOSE
        return PASS

    ring.fate = fate
    promise = ring.ask(stranger, ADD)
    ring.run_for(0.1)
    ring.fate = lambda message: PASS
    asked = ring.node(leader).peers
    message = asked.message(Verb.COUNTER, caught[0].body, 77 << 3)
    asked.links[ring.id(stranger)].send(1, message)
    ring.run_for(1)
    answers = [seen for seen in ring.seen if seen.verb == Verb.COUNTER and seen.is_reply]
    assert [(answer.receiver, answer.is_failure) for answer in answers] == [(leader, True)]
    assert isinstance(ring.reply(promise).error, WriteTimeout)
    assert total(ring) is None


def test_a_leader_that_doesn_t_know_the_table_is_not_asked_again(ring: Ring) -> None:
    (stranger,) = ring.strangers("c", 1)
    ring.fate = lambda message: HOLD if message.verb == Verb.COUNTER and not message.is_reply else PASS
    promise = ring.ask(stranger, ADD)
    ring.run_for(0.1)
    ring.fate = lambda message: PASS
    ring.done(0, "DROP TABLE ks.c")
    ring.let_in()
    error = ring.reply(promise).error
    assert isinstance(error, WriteFailure)
    assert error.write_type == "COUNTER"


def test_a_deleted_counter_is_gone_everywhere(ring: Ring) -> None:
    for index in range(4):
        ring.done(index, ADD)
    # Clocks differ by milliseconds, and only clients tie these statements together.
    ring.run_for(0.1)
    ring.done(2, "DELETE FROM ks.c WHERE k = 1")
    assert total(ring) is None
    assert [ring.here(index, "c", 1) for index in range(4)] == [None] * 4


@pytest.mark.parametrize("deletion", ["k = 1", "k = 1 AND c = 1", "k = 1 AND c > 0"])
def test_what_others_counted_before_a_deletion_stays_deleted_when_one_counts_on(
    ring: Ring, deletion: str
) -> None:
    """Each leader has a shard of its own: that of another one mustn't come back with the first increment after it."""
    ring.done(0, "CREATE TABLE ks.w (k int, c int, n counter, PRIMARY KEY (k, c))")
    add = "UPDATE ks.w SET n = n + {} WHERE k = 1 AND c = 1"
    leaders = ring.replicas("w", 1)
    for leader in leaders:
        ring.done(leader, add.format(10), Consistency.ALL)
    assert total(ring, "w") == 30
    late = leaders[2]
    ring.fate = losing(lambda message: message.receiver == late and message.verb == Verb.WRITE)
    ring.done(leaders[0], f"DELETE FROM ks.w WHERE {deletion}", Consistency.QUORUM)
    ring.done(leaders[0], add.format(1), Consistency.QUORUM)
    ring.fate = lambda message: PASS
    ring.done(leaders[1], add.format(2), Consistency.ALL)
    ring.run_for(10)
    assert total(ring, "w") == 3
    for leader in leaders:
        row = ring.here(leader, "w", 1)
        assert row is not None
        assert as_int(row["n"]) == 3


def test_another_one_leads_when_the_first_reaches_too_few(ring: Ring) -> None:
    """It has done nothing, so the increment counts once."""
    (stranger,) = ring.strangers("c", 1)
    leader = leader_of(ring, stranger)
    ring.see(leader, [leader, stranger])
    ring.seen.clear()
    ring.done(stranger, ADD)
    asked = [seen.receiver for seen in ring.seen if seen.verb == Verb.COUNTER and not seen.is_reply]
    assert asked[0] == leader
    assert len(asked) == 2
    ring.see(leader, range(4))
    assert total(ring) == 1


def test_another_one_leads_when_the_first_has_no_room(ring: Ring) -> None:
    """Be it the coordinator itself or whom it asks; the increments count once."""
    (stranger,) = ring.strangers("c", 1)
    full = leader_of(ring, stranger)
    ring.machines[full].disk.conditions.is_full = True
    for index in (full, stranger):
        ring.done(index, ADD)
    ring.machines[full].disk.conditions.is_full = False
    assert total(ring) == 2


def test_a_counter_none_of_whose_leaders_reaches_enough_others_is_unavailable(ring: Ring) -> None:
    (stranger,) = ring.strangers("c", 1)
    replicas = ring.replicas("c", 1)
    for leader in replicas:
        ring.see(leader, [leader, stranger])
    error = ring.run(stranger, ADD).error
    assert isinstance(error, Unavailable)
    assert (error.consistency, error.required) == (Consistency.QUORUM, 2)
    for leader in replicas:
        ring.see(leader, range(4))
    assert total(ring) is None


def leader_of(ring: Ring, coordinator: int) -> int:
    """Whom this coordinator asks to lead increments of key 1."""
    route = ring.node(coordinator).coordinator.route_of("ks", ring.position("c", 1))
    return ring.index(route.remote[0][0])
