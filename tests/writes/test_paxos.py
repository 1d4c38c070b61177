"""Conditional statements of real nodes, message by message: what goes wrong by chance once in a million, on purpose.

If this fails, conditional statements aren't linearizable, are told to have failed when they didn't, or are carried out
twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tests.writes.ring import HOLD, LOSE, PASS, TWICE, Fate, Message, Ring, as_int

from ourodb import limits
from ourodb.cql.wire.codes import Consistency
from ourodb.errors import (
    CasWriteUnknown,
    InvalidRequest,
    Overloaded,
    ReadFailure,
    Unavailable,
    WriteFailure,
    WriteTimeout,
)
from ourodb.peer.messages import Verb
from ourodb.replication.paxos.ballots import decode_accepted, decode_propose
from ourodb.sim.network import Latency
from ourodb.sim.workloads.stage import Reply

T = "CREATE TABLE ks.t (k int PRIMARY KEY, v int, l list<int>)"
W = "CREATE TABLE ks.w (k int, c int, v int, s set<int>, PRIMARY KEY (k, c))"
PREPARE, PROPOSE, COMMIT = Verb.PAXOS_PREPARE, Verb.PAXOS_PROPOSE, Verb.PAXOS_COMMIT
PHASES = (PREPARE, PROPOSE, COMMIT)


@pytest.fixture
def ring() -> Iterator[Ring]:
    """Three nodes, all of them replicas; afterwards nothing is left waiting."""
    ring = Ring()
    ring.set_up(T, W)
    yield ring
    ring.rest()


def losing(condition: Callable[[Message], bool]) -> Fate:
    return lambda message: LOSE if condition(message) else PASS


def without(*indexes: int) -> Fate:
    """Nothing of Paxos reaches these nodes."""
    return losing(
        lambda message: message.receiver in indexes and message.verb in PHASES and not message.is_reply
    )


def read(ring: Ring, index: int, key: int = 1) -> int | None:
    """A serial read."""
    reply = ring.run(index, f"SELECT v FROM ks.t WHERE k = {key}", Consistency.SERIAL)
    assert reply.error is None, reply
    return as_int(reply.cell("v")) if reply.rows else None


def is_applied(reply: Reply) -> bool:
    assert reply.error is None, reply
    return reply.cell("[applied]") == b"\x01"


def put(value: int, *, above: int | None = None, key: int = 1) -> str:
    """Set a value if there is none, or another one."""
    condition = "null" if above is None else str(above)
    return f"UPDATE ks.t SET v = {value} WHERE k = {key} IF v = {condition}"


# What has been seen stays seen


@pytest.mark.parametrize("level", [Consistency.ONE, Consistency.QUORUM])
def test_what_one_serial_read_has_seen_the_next_one_sees(ring: Ring, level: int) -> None:
    """Also when the commit has reached only one replica, and the next quorum is without it."""
    ring.fate = losing(lambda message: message.verb == COMMIT)
    promise = ring.ask(0, put(7), level)
    ring.run_for(0.1)
    assert [ring.here(index, "t", 1) is not None for index in range(3)] == [True, False, False]
    ring.fate = without(2)
    assert read(ring, 1) == 7
    ring.fate = without(0)
    assert read(ring, 2) == 7
    ring.reply(promise)


def test_a_refusal_has_its_place_in_the_order_too(ring: Ring) -> None:
    """What refused one statement is there for the next, whoever is asked."""
    ring.fate = losing(lambda message: message.verb == COMMIT)
    promise = ring.ask(0, put(7), Consistency.ONE)
    ring.run_for(0.1)
    ring.fate = without(2)
    assert not is_applied(ring.run(1, put(8)))
    ring.fate = without(0)
    assert not is_applied(ring.run(2, put(9)))
    assert read(ring, 2) == 7
    ring.reply(promise)


def test_a_write_that_a_later_one_rests_on_isn_t_lost(ring: Ring) -> None:
    """Two rows of one partition: the second is written by a quorum that would else be without the first."""
    ring.fate = losing(lambda message: message.verb == COMMIT)
    first = ring.ask(0, "INSERT INTO ks.w (k, c, v) VALUES (1, 1, 1) IF NOT EXISTS", Consistency.ONE)
    ring.run_for(0.1)
    ring.fate = without(2)
    assert is_applied(ring.run(1, "UPDATE ks.w SET v = 2 WHERE k = 1 AND c = 2 IF v = null", Consistency.ONE))
    ring.fate = without(0)
    reply = ring.run(2, "SELECT c, v FROM ks.w WHERE k = 1", Consistency.SERIAL)
    assert [(as_int(row[0]), as_int(row[1])) for row in reply.rows] == [(1, 1), (2, 2)]
    ring.reply(first)


# Proposals that lost


def test_what_may_have_been_accepted_is_finished_first(ring: Ring) -> None:
    """The coordinator dies when one replica has accepted: whoever comes next finds it, or nobody ever does."""
    ring.fate = losing(lambda message: message.verb == PROPOSE and message.receiver == 2)
    held = ring.fate

    def fate(message: Message) -> str:
        return LOSE if message.verb == PROPOSE and message.is_reply else held(message)

    ring.fate = fate
    ring.ask(0, put(7))
    ring.run_for(0.1)
    ring.fate = lambda message: PASS
    ring.kill(0)
    assert read(ring, 2) == 7
    assert not is_applied(ring.run(1, put(8)))


def test_what_nobody_else_accepted_dies_with_the_next_ballot(ring: Ring) -> None:
    ring.fate = losing(lambda message: message.verb == PROPOSE and not message.is_reply)
    promise = ring.ask(0, put(7))
    ring.run_for(0.1)
    ring.fate = without(0)
    assert read(ring, 1) is None
    assert is_applied(ring.run(2, put(8)))
    ring.fate = lambda message: PASS
    assert isinstance(ring.reply(promise).error, CasWriteUnknown)
    assert [read(ring, index) for index in range(3)] == [8, 8, 8]


def test_a_timeout_is_told_as_unknown_and_not_tried_again(ring: Ring) -> None:
    ring.fate = losing(lambda message: message.verb == PROPOSE and message.is_reply)
    error = ring.run(0, put(7)).error
    assert isinstance(error, CasWriteUnknown)
    assert (error.received, error.required) == (1, 2)
    asked = [seen for seen in ring.seen if seen.verb == PROPOSE and not seen.is_reply]
    assert len(asked) == 2
    ring.fate = lambda message: PASS
    assert read(ring, 1) == 7


def test_promises_that_don_t_come_are_a_timeout(ring: Ring) -> None:
    ring.fate = losing(lambda message: message.verb == PREPARE and message.is_reply)
    error = ring.run(0, put(7)).error
    assert isinstance(error, WriteTimeout)
    assert (error.received, error.required, error.write_type) == (1, 2, "CAS")
    ring.fate = lambda message: PASS
    assert read(ring, 1) is None


def test_whoever_was_finished_by_others_is_told_applied_once(ring: Ring) -> None:
    """The first coordinator loses its ballot to the second, which finishes what the first began."""
    ring.fate = lambda message: (
        HOLD if message.verb == PROPOSE and message.sender == 0 and message.receiver == 2 else
        LOSE if message.verb == PROPOSE and message.is_reply and message.receiver == 0 else PASS
    )  # fmt: skip
    first = ring.ask(0, put(7))
    ring.run_for(0.02)
    second = ring.ask(1, put(8, above=7))
    assert is_applied(ring.reply(second))
    ring.let_in()
    ring.fate = lambda message: PASS
    # Its own replica has accepted, a second one refuses, and the answer of the third is lost.
    reply = ring.reply(first)
    assert isinstance(reply.error, CasWriteUnknown) or is_applied(reply)
    assert [read(ring, index) for index in range(3)] == [8, 8, 8]


def test_a_statement_that_others_finished_is_not_carried_out_again() -> None:
    """It lost two ballots; what it proposed under the first is finished by others after it proposed again.

    Under the first ballot one replica has accepted it. Under the second the other two don't know of that, so it is
    decided anew. Then somebody who asks the first and the third finishes the older proposal, and overwrites it.
    """
    ring = Ring(4)
    ring.set_up(T)
    (coordinator,) = ring.strangers("t", 1)
    one, two, three = ring.replicas("t", 1)

    def is_proposal(message: Message) -> bool:
        return message.verb == PROPOSE and not message.is_reply

    ring.fate = lambda message: HOLD if is_proposal(message) and message.receiver != one else PASS
    first = ring.ask(coordinator, "UPDATE ks.t SET v = 7 WHERE k = 1 IF v != -1")
    ring.run_for(0.05)
    # Two and three promise a higher ballot, under which no quorum accepts anything.
    ring.fate = losing(
        lambda message: is_proposal(message) or (message.verb == PREPARE and message.receiver == one)
    )
    overtaking = ring.ask(two, "SELECT v FROM ks.t WHERE k = 1", Consistency.SERIAL)
    ring.run_for(0.05)
    ring.fate = lambda message: (
        LOSE
        if message.verb == PREPARE and message.receiver == one
        else HOLD
        if is_proposal(message)
        else PASS
    )
    ring.let_in()
    ring.run_for(0.2)
    assert [seen.receiver for seen, _ in ring.held] == [two, three, one] or len(ring.held) == 3
    ring.fate = without(two)
    assert is_applied(ring.run(three, put(8, above=7)))
    ring.fate = lambda message: PASS
    ring.let_in()
    assert is_applied(ring.reply(first))
    assert [read(ring, index) for index in range(4)] == [8] * 4
    ring.reply(overtaking)
    ring.rest()


def test_what_was_told_as_refused_is_never_applied() -> None:
    """The first try is accepted by one replica; the second is refused by what was written meanwhile. Whoever asks the
    replica that accepted the first must not finish it any more.
    """
    ring = Ring(4)
    ring.set_up("CREATE TABLE ks.t (k int PRIMARY KEY, v int, w int)")
    (coordinator,) = ring.strangers("t", 1)
    one, two, three = ring.replicas("t", 1)

    def is_proposal(message: Message) -> bool:
        return message.verb == PROPOSE and not message.is_reply

    ring.fate = lambda message: HOLD if is_proposal(message) and message.receiver != one else PASS
    first = ring.ask(coordinator, "UPDATE ks.t SET w = 7 WHERE k = 1 IF v = null")
    ring.run_for(0.05)
    # Two and three promise a higher ballot, under which no quorum accepts anything.
    ring.fate = losing(
        lambda message: is_proposal(message) or (message.verb == PREPARE and message.receiver == one)
    )
    overtaking = ring.ask(two, "SELECT v FROM ks.t WHERE k = 1", Consistency.SERIAL)
    ring.run_for(0.05)
    ring.done(two, "UPDATE ks.t SET v = 5 WHERE k = 1", Consistency.ALL)
    ring.fate = without(one)
    ring.let_in()
    assert not is_applied(ring.reply(first))
    ring.fate = without(two)
    reply = ring.run(three, "SELECT v, w FROM ks.t WHERE k = 1", Consistency.SERIAL)
    assert [as_int(cell) for cell in reply.rows[0]] == [5, None]
    assert [row["w"] for index in (one, two, three) if (row := ring.here(index, "t", 1))] == [None] * 3
    ring.reply(overtaking)
    ring.rest()


def test_a_level_is_kept_also_where_others_finished(ring: Ring) -> None:
    """Told "applied" at QUORUM, a plain read at QUORUM sees it."""
    ring.fate = lambda message: (
        LOSE if message.verb == PROPOSE and message.sender == 1 and message.is_reply else
        HOLD if message.verb == PROPOSE and message.receiver == 2 else PASS
    )  # fmt: skip
    first = ring.ask(0, put(7))
    ring.run_for(0.05)
    # Node 1 finishes it with node 2.
    ring.fate = without(0)
    assert not is_applied(ring.run(1, put(8)))
    assert ring.here(0, "t", 1) is None
    ring.let_in()
    ring.kill(1)
    ring.fate = losing(lambda message: message.verb == COMMIT)
    assert is_applied(ring.reply(first))
    row = ring.here(0, "t", 1)
    assert row is not None
    assert as_int(row["v"]) == 7


def test_two_who_finish_the_same_proposal_don_t_do_so_for_ever(ring: Ring) -> None:
    """Each finds it accepted under the ballot of the other, who is just about to commit it."""
    for source in range(3):
        for target in range(3):
            ring.world.network.set_latency(source, target, Latency(1_000, 0))
        ring.machines[source].disk.conditions.sync_jitter_us = 0
    ring.fate = losing(lambda message: message.verb == COMMIT)
    ring.ask(0, put(7))
    ring.run_for(0.05)
    ring.kill(0)
    ring.fate = lambda message: PASS
    ring.seen.clear()

    def finished() -> int:
        """How many times it was proposed anew to the other replica."""
        proposals = [seen for seen in ring.seen if seen.verb == PROPOSE and not seen.is_reply]
        return sum(bool(decode_propose(seen.body).proposal) for seen in proposals)

    first = ring.ask(1, "SELECT v FROM ks.t WHERE k = 1", Consistency.SERIAL)
    assert ring.world.run_until(lambda: finished() == 1, 1)
    second = ring.ask(1, "SELECT v FROM ks.t WHERE k = 1", Consistency.SERIAL)
    assert [as_int(ring.reply(one).cell("v")) for one in (first, second)] == [7, 7]
    assert finished() <= 3


def test_a_replica_alone_goes_by_the_ballots_of_others() -> None:
    """One copy of the data, coordinated by its holder and by another node at the same time."""
    ring = Ring(3)
    ring.set_up(T, factor=1)
    (holder,) = ring.replicas("t", 1)
    stranger = ring.strangers("t", 1)[0]
    # What was read under a ballot that another one overtook is decided anew.
    ring.fate = lambda message: HOLD if message.verb == PROPOSE else PASS
    first = ring.ask(stranger, put(1))
    ring.run_for(0.05)
    assert is_applied(ring.run(holder, put(2)))
    ring.fate = lambda message: PASS
    ring.let_in()
    assert not is_applied(ring.reply(first))
    # What it has accepted is chosen, also if its coordinator never says so.
    ring.fate = losing(lambda message: message.verb == COMMIT)
    lost = ring.ask(stranger, put(3, above=2))
    ring.run_for(0.05)
    ring.fate = lambda message: PASS
    assert not is_applied(ring.run(holder, put(4, above=2)))
    assert is_applied(ring.run(holder, put(5, above=3)))
    # Its timestamps lie above those of coordinators whose clocks are ahead.
    ring.machines[stranger].jump(60_000_000)
    assert is_applied(ring.run(stranger, put(6, above=5)))
    assert is_applied(ring.run(holder, put(7, above=6)))
    assert [read(ring, index) for index in range(3)] == [7, 7, 7]
    ring.reply(lost)
    ring.rest()


# Messages that come twice, or late


@pytest.mark.parametrize("verb", PHASES)
def test_messages_that_come_twice_do_no_harm(ring: Ring, verb: int) -> None:
    ring.fate = lambda message: TWICE if message.verb == verb else PASS
    assert is_applied(ring.run(0, put(1)))
    assert is_applied(ring.run(1, put(2, above=1)))
    assert not is_applied(ring.run(2, put(3, above=1)))
    assert [read(ring, index) for index in range(3)] == [2, 2, 2]


def test_a_commit_that_comes_late_undoes_nothing(ring: Ring) -> None:
    ring.fate = lambda message: HOLD if message.verb == COMMIT and message.receiver == 2 else PASS
    assert is_applied(ring.run(0, put(1)))
    ring.fate = lambda message: PASS
    assert is_applied(ring.run(1, put(2, above=1)))
    ring.let_in()
    ring.run_for(0.1)
    assert [as_int(row["v"]) for index in range(3) if (row := ring.here(index, "t", 1))] == [2, 2, 2]
    assert read(ring, 2) == 2


def test_a_proposal_that_comes_late_is_refused(ring: Ring) -> None:
    ring.fate = lambda message: HOLD if message.verb == PROPOSE and message.sender == 0 else PASS
    first = ring.ask(0, put(1))
    ring.run_for(0.1)
    ring.fate = without(0)
    assert is_applied(ring.run(1, put(2)))
    ring.fate = lambda message: PASS
    ring.let_in()
    assert not is_applied(ring.reply(first))
    assert [read(ring, index) for index in range(3)] == [2, 2, 2]


# What isn't forgotten


@pytest.mark.parametrize("sync_period_ms", [None, 60_000])
def test_nothing_is_answered_for_before_it_is_on_disk(sync_period_ms: int | None) -> None:
    """Under either durability."""
    ring = Ring(sync_period_ms=sync_period_ms)
    ring.set_up(T)
    ring.machines[1].disk.conditions.sync_us = 200_000
    for verb in PHASES:
        ring.seen.clear()
        promise = ring.ask(0, put(1, above=1) if verb == COMMIT else put(1), Consistency.ALL)
        assert ring.world.run_until(
            lambda verb=verb: any(seen.verb == verb and seen.receiver == 1 for seen in ring.seen), 2
        )
        ring.run_for(0.1)
        assert not any(seen.verb == verb and seen.sender == 1 for seen in ring.seen)
        ring.reply(promise)
        ring.run_for(1)
        assert any(seen.verb == verb and seen.sender == 1 for seen in ring.seen)
    ring.rest()


@pytest.mark.parametrize("with_machine", [False, True])
def test_promises_and_acceptances_survive_their_node(ring: Ring, with_machine: bool) -> None:
    """Node 1 accepts, and dies, with its power or without; node 0, the only other that has accepted, is cut off."""
    ring.fate = lambda message: (
        LOSE if message.verb == PROPOSE and (message.is_reply or message.receiver == 2) else PASS
    )
    first = ring.ask(0, put(7))
    ring.run_for(0.1)
    ring.kill(1, with_machine=with_machine)
    ring.start(1)
    ring.fate = without(0)
    assert read(ring, 2) == 7
    ring.fate = lambda message: PASS
    ring.reply(first)


def test_rows_that_aren_t_in_memory_are_read_and_written_all_the_same(ring: Ring) -> None:
    """What says that it has seen a commit has its data."""
    assert is_applied(ring.run(0, put(1), Consistency.ALL))
    for index in range(3):
        ring.kill(index)
        ring.machines[index].disk.conditions.later_one_in = 1
        ring.start(index)
    assert is_applied(ring.run(0, put(2, above=1), Consistency.ALL))
    assert [as_int(row["v"]) for index in range(3) if (row := ring.here(index, "t", 1))] == [2, 2, 2]


def test_an_old_ballot_is_refused_after_a_restart(ring: Ring) -> None:
    """What a replica promised it remembers, also when it has lost its power meanwhile."""
    ring.fate = lambda message: HOLD if message.verb == PROPOSE and message.sender == 0 else PASS
    first = ring.ask(0, put(1))
    ring.run_for(0.05)
    ring.fate = losing(lambda message: message.verb == PROPOSE or message.receiver == 0)
    ring.ask(1, put(2))
    ring.run_for(0.05)
    proposals = {seen.receiver: decode_propose(seen.body) for seen, _ in ring.held}
    assert sorted(proposals) == [1, 2]
    ring.machines[2].lose_power()
    ring.machines[2].start()
    assert ring.world.run_until(lambda: ring.machines[2].is_ready, 10)
    ring.fate = lambda message: PASS
    ring.let_in()
    ring.run_for(0.02)
    answers = [seen for seen in ring.seen if seen.sender == 2 and seen.verb == PROPOSE and seen.is_reply]
    assert [decode_accepted(seen.body).promised > proposals[2].ballot for seen in answers[:1]] == [True]
    ring.reply(first)


def test_clocks_that_jump_do_no_harm(ring: Ring) -> None:
    """Each statement's timestamp lies above all before it, whatever the coordinator's clock says."""
    value: int | None = None
    for step, (index, jump_s) in enumerate([(0, 60), (1, 0), (2, -60), (0, -120), (1, 30), (2, 0), (0, 0)]):
        ring.machines[index].jump(jump_s * 1_000_000)
        assert is_applied(ring.run(index, put(step, above=value)))
        value = step
        assert [read(ring, other) for other in range(3)] == [step] * 3


# What clients are told


def test_levels_of_commits(ring: Ring) -> None:
    for level in (Consistency.SERIAL, Consistency.LOCAL_SERIAL, Consistency.EACH_QUORUM):
        assert isinstance(ring.run(0, put(1), level).error, InvalidRequest)
    assert read(ring, 0) is None
    for step, level in enumerate((Consistency.ANY, Consistency.ONE, Consistency.QUORUM, Consistency.ALL)):
        assert is_applied(ring.run(step % 3, put(step, above=step - 1 if step else None), level))


def test_two_of_three_are_enough_and_one_is_not(ring: Ring) -> None:
    ring.kill(2)
    assert is_applied(ring.run(0, put(1)))
    ring.kill(1)
    error = ring.run(0, put(2, above=1)).error
    assert isinstance(error, Unavailable)
    assert (error.consistency, error.required, error.alive) == (Consistency.SERIAL, 2, 1)
    ring.start(1)
    assert read(ring, 1) == 1


def test_replicas_that_can_t_promise_are_named(ring: Ring) -> None:
    for index in (1, 2):
        ring.machines[index].disk.conditions.is_full = True
    error = ring.run(0, put(1)).error
    assert isinstance(error, WriteFailure)
    assert (error.required, error.write_type, len(error.reasons)) == (2, "CAS", 2)
    error = ring.run(0, "SELECT v FROM ks.t WHERE k = 1", Consistency.SERIAL).error
    assert isinstance(error, ReadFailure)
    assert (error.required, len(error.reasons)) == (2, 2)
    for index in (1, 2):
        ring.machines[index].disk.conditions.is_full = False
    assert is_applied(ring.run(0, put(1)))


def test_an_error_of_the_second_try_is_told_only_when_the_first_is_dead(ring: Ring) -> None:
    """The first try is accepted by one replica only, and loses; when the statement is decided again, it can't be."""
    ring.done(1, "INSERT INTO ks.t (k, v, l) VALUES (1, 1, [1, 2])")
    ring.fate = lambda message: (
        LOSE if message.verb == PROPOSE and message.sender == 0 and message.receiver == 2 else
        HOLD if message.verb == PROPOSE and message.receiver == 0 and message.is_reply else PASS
    )  # fmt: skip
    first = ring.ask(0, "UPDATE ks.t SET l[1] = 9 WHERE k = 1 IF v = 1")
    ring.run_for(0.05)
    ring.fate = lambda message: PASS
    ring.let_in()
    assert is_applied(ring.reply(first))
    ring.done(1, "UPDATE ks.t SET l = [1] WHERE k = 1")
    ring.run_for(0.1)
    assert isinstance(ring.run(2, "UPDATE ks.t SET l[1] = 9 WHERE k = 1 IF v = 1").error, InvalidRequest)


def test_conditions_about_more_rows_than_a_chunk_holds(ring: Ring) -> None:
    """Each row is large; what lies beyond a chunk isn't taken for absent."""
    elements = ", ".join(map(str, range(900)))
    for row in range(3):
        ring.done(0, f"INSERT INTO ks.w (k, c, v, s) VALUES (1, {row}, 1, {{{elements}}})")
    statements = " ".join(f"UPDATE ks.w SET v = 2 WHERE k = 1 AND c = {row} IF v = 1;" for row in range(3))
    assert is_applied(ring.run(1, f"BEGIN BATCH {statements} APPLY BATCH"))
    assert not is_applied(ring.run(2, "INSERT INTO ks.w (k, c, v) VALUES (1, 2, 3) IF NOT EXISTS"))
    ring.done(0, f"UPDATE ks.t SET l = [{elements}] WHERE k = 5")
    ring.done(1, "UPDATE ks.t SET l[899] = 7 WHERE k = 5", Consistency.QUORUM)


def test_contention_is_borne(ring: Ring) -> None:
    """Thirty statements on one row at once, from all nodes, without a fault: each is applied or refused."""
    promises = [ring.ask(index % 3, put(index, key=9)) for index in range(30)]
    replies = [ring.reply(promise) for promise in promises]
    assert [reply.error for reply in replies] == [None] * 30
    assert sum(is_applied(reply) for reply in replies) == 1


def test_statements_of_one_coordinator_don_t_contend(ring: Ring) -> None:
    """They form a queue for each partition; those about other partitions don't wait for it."""
    promises = [ring.ask(0, put(number, key=9)) for number in range(20)]
    other = ring.ask(0, put(1, key=10))
    replies = [ring.reply(promise) for promise in promises]
    assert [is_applied(reply) for reply in replies] == [True, *[False] * 19]
    assert is_applied(ring.reply(other))
    assert ring.node(0).paxos.contentions == 0


def test_those_who_wait_in_vain_are_told_so_in_time(ring: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CAS_QUEUE_MAX", 10)
    ring.fate = without(1, 2)
    begun_ns = ring.world.loop.now_ns
    promises = [ring.ask(0, put(number, key=9)) for number in range(12)]
    errors = [ring.reply(promise).error for promise in promises]
    assert [type(error) for error in errors] == [WriteTimeout] * 10 + [Overloaded] * 2
    assert ring.world.loop.now_ns - begun_ns <= (limits.CAS_TIMEOUT_MS + limits.PAXOS_TIMEOUT_MS) * 1_100_000
    # The queue is gone with them.
    ring.fate = lambda message: PASS
    assert is_applied(ring.run(0, put(1, key=9)))


def test_what_was_chosen_is_not_told_as_unavailable(ring: Ring) -> None:
    """A quorum has accepted it; then a node is found to be down, so that the commit can't be had at ALL."""
    gone = ring.id(2)
    ring.machines[2].kill()
    ring.run_for(1.5)
    assert ring.node(0).peers.up[gone]
    ring.fate = lambda message: (
        HOLD if message.verb == PROPOSE and message.is_reply and message.receiver == 0 else PASS
    )
    promise = ring.ask(0, "UPDATE ks.t SET v = 7 WHERE k = 1 IF v = null", Consistency.ALL)
    ring.run_for(0.05)
    assert ring.world.run_until(lambda: not ring.node(0).peers.up[gone], 1.8)
    assert not promise.is_kept
    ring.fate = lambda message: PASS
    ring.let_in()
    assert isinstance(ring.reply(promise).error, WriteTimeout)
    # It was written all the same, before anybody had to finish it.
    assert [ring.here(index, "t", 1) is not None for index in (0, 1)] == [True, True]
    assert ring.node(0).hints.waiting(gone) == 1
    assert read(ring, 1) == 7


def test_a_commit_that_is_old_doesn_t_bring_back_what_was_deleted(ring: Ring) -> None:
    """A replica had the row by a hint, and doesn't know that it was committed; the row was deleted, and its tombstone
    purged."""
    grace_s = limits.PAXOS_SETTLED_S_MIN
    ring.done(0, f"CREATE TABLE ks.g (k int PRIMARY KEY, v int) WITH gc_grace_seconds = {grace_s}")
    ring.fate = losing(lambda message: message.verb == COMMIT and message.receiver == 2)
    assert ring.run(0, "INSERT INTO ks.g (k, v) VALUES (1, 7) IF NOT EXISTS").error is None
    ring.run_for(6)
    ring.fate = lambda message: PASS
    assert [ring.here(index, "g", 1) is not None for index in range(3)] == [True] * 3
    ring.done(0, "DELETE FROM ks.g WHERE k = 1", Consistency.ALL)
    for machine in ring.machines:
        machine.jump((grace_s + 7_200) * 1_000_000)
    ring.run_for(1)
    for machine in ring.machines:
        node = machine.program.node
        for _ in node._purge(node.ports.clock.wall_us() // 1_000_000):
            pass
        node.settle()
    ring.run_for(1)
    select = "SELECT v FROM ks.g WHERE k = 1"
    assert ring.done(0, select, Consistency.ALL).rows == []
    # A quorum with the replica that lacks the commit.
    ring.fate = without(1)
    assert ring.run(0, select, Consistency.SERIAL).rows == []
    ring.fate = lambda message: PASS
    assert ring.done(0, select, Consistency.ALL).rows == []
    # What was committed a moment ago is brought to those who lack it still.
    ring.fate = losing(lambda message: message.verb in (COMMIT, Verb.HINT) and message.receiver == 2)
    assert ring.run(0, "INSERT INTO ks.g (k, v) VALUES (1, 8) IF NOT EXISTS").cell("[applied]") == b"\x01"
    ring.fate = without(1)
    assert as_int(ring.run(0, select, Consistency.SERIAL).cell("v")) == 8
    assert ring.here(2, "g", 1) is not None
