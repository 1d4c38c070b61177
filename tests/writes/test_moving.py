"""Requests about ranges that change hands, message by message.

If this fails, a write is acknowledged by replicas that lose the range and is nowhere afterwards, is wiped away by one
that gains it, or a coordinator that has missed the change reads where nothing is any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from tests.writes.ring import HOLD, LOSE, PASS, Message, Ring, as_int

from ourodb.cluster.metadata.view import ClusterView
from ourodb.cluster.ring.moves import Stage
from ourodb.cql.wire.codes import Consistency
from ourodb.errors import StoreReadOnly, WriteTimeout
from ourodb.peer.messages import Verb
from ourodb.ports import NodeId
from ourodb.replication.streaming.copying import Copying
from ourodb.replication.streaming.source import Question, StreamRows
from ourodb.sim.ouro import build_unwatched
from ourodb.storage.scan import SKIP_KEYS_MAX

T = "CREATE TABLE ks.t (k int PRIMARY KEY, v int)"
KEYS = range(100)
ROWS_WAIT_S = 60


@pytest.fixture
def ring() -> Iterator[Ring]:
    """Four nodes, three copies of each row."""
    ring = Ring(4)
    ring.set_up(T, "CREATE TABLE ks.c (k int PRIMARY KEY, n counter)")
    for key in KEYS:
        ring.done(key % 4, f"INSERT INTO ks.t (k, v) VALUES ({key}, {key})")
    yield ring
    ring.rest()


def view(ring: Ring, index: int = 0) -> ClusterView:
    return ring.node(index).view


def until(ring: Ring, happened: Callable[[], Any]) -> None:
    assert ring.world.run_until(lambda: bool(happened()), ROWS_WAIT_S)


def begin_to_leave(ring: Ring, index: int, stage: Stage) -> None:
    """The machine's node is leaving, and this stage of it is known to all."""
    ring.machines[index].may_be_refused = True
    ring.node(0).send_away(ring.id(index), is_dead=False)
    for machine in ring.machines:
        until(ring, lambda machine=machine: is_at(machine.program.node.view, stage))


def is_at(known: ClusterView, stage: Stage) -> bool:
    return known.move is not None and known.move.stage is stage


def moving_key(ring: Ring, gaining: int) -> int:
    """A key whose partition this machine gains."""
    keyspace = view(ring).schema.keyspaces["ks"]
    for key in KEYS:
        position = ring.position("t", key)
        for one in view(ring).moved_ranges(keyspace):
            if one.start <= position and (one.end is None or position < one.end):
                if ring.id(gaining) in one.gaining:
                    return key
    raise AssertionError("nothing moves there")


def move_a_key(ring: Ring) -> tuple[list[int], int, int]:
    """A node begins to leave; gives who stays, who of them gains a key's partition, and the key."""
    # One that doesn't vote: no other voter is chosen, so there are no entries of which somebody would learn.
    leaver = next(index for index in range(4) if ring.id(index) not in view(ring).voters)
    begin_to_leave(ring, leaver, Stage.COPYING)
    staying = [index for index in range(4) if index != leaver]
    gaining = next(index for index in staying if ring.id(index) in view(ring).copying)
    key = moving_key(ring, gaining)
    return staying, gaining, key


def miss_the_move(ring: Ring, stale: int) -> ClusterView:
    """The machine's coordinator goes by the view of before the move, and says so in its messages; gives the present."""
    current = view(ring, stale)
    past = ClusterView(
        **{
            name: getattr(current, name)
            for name in ClusterView.__slots__
            if name not in ("move", "next_ring", "epoch")
        },
        epoch=current.move.id - 1 if current.move else 0,
    )
    know(ring, stale, past)
    return current


def know(ring: Ring, index: int, known: ClusterView) -> None:
    """The machine's coordinator goes by this view."""
    node = ring.node(index)
    node.coordinator.view_changed(known)
    node.peers.epoch = known.epoch


@pytest.mark.parametrize("stage", list(Stage))
def test_writes_go_to_both_sets_and_reads_to_one(ring: Ring, stage: Stage) -> None:
    begin_to_leave(ring, 3, stage)
    gaining = next(index for index in range(3) if ring.id(index) in view(ring).copying)
    key = moving_key(ring, gaining)
    ring.seen.clear()
    ring.done(gaining, f"INSERT INTO ks.t (k, v) VALUES ({key}, 7)", Consistency.QUORUM)
    writes = {seen.receiver for seen in ring.seen if seen.verb == Verb.WRITE and not seen.is_reply}
    assert writes | {gaining} == {0, 1, 2, 3}
    route = ring.node(gaining).coordinator.route_of("ks", ring.position("t", key))
    assert (ring.id(gaining) in route.replicas.nodes) == (stage is Stage.SWITCHED)
    assert (ring.id(3) in route.replicas.nodes) == (stage is Stage.COPYING)
    assert as_int(ring.done(gaining, f"SELECT v FROM ks.t WHERE k = {key}").cell("v")) == 7


def test_a_level_is_met_in_each_set_by_itself(ring: Ring) -> None:
    """Who leaves and who stays are a quorum of those before; not of those after."""
    begin_to_leave(ring, 3, Stage.COPYING)
    gaining = next(index for index in range(3) if ring.id(index) in view(ring).copying)
    key = moving_key(ring, gaining)
    others = [index for index in range(3) if index != gaining]
    # Neither of these answers in time: one of those before, and the one that gains.
    silent = (gaining, others[0])
    coordinator = others[1]

    def fate(message: Message) -> str:
        return HOLD if message.receiver in silent and message.verb == Verb.WRITE else PASS

    ring.fate = fate
    promise = ring.ask(coordinator, f"INSERT INTO ks.t (k, v) VALUES ({key}, 7)", Consistency.QUORUM)
    ring.run_for(0.5)
    assert not promise.is_kept
    ring.fate = lambda message: PASS
    ring.let_in()
    assert ring.reply(promise).error is None


def test_a_node_that_gains_a_range_takes_no_writes_of_it_before_it_knows(ring: Ring) -> None:
    """What it has of the range from earlier times is deleted as soon as it does, and the write would be with it."""
    ring.run_for(2)
    begin_to_leave(ring, 3, Stage.COPYING)
    gaining = next(index for index in range(3) if ring.id(index) in view(ring).copying)
    key = moving_key(ring, gaining)
    node = ring.node(gaining)
    known = node.replica.holds("ks", ring.position("t", key))
    assert known
    answers: list[Exception | None] = []
    node.replica.holds = lambda keyspace, position: False
    found = view(ring).schema.table("ks", "t")
    assert found is not None
    is_taken = node.replica.knows(
        found.incarnation, node.peers.epoch + 1, lambda: answers.append(None), answers.append, b"\x80" * 10
    )
    assert (is_taken, node.replica.parked, answers) == (False, 1, [])
    node.replica.epoch_applied(node.peers.epoch + 1)
    assert answers == [None]


def test_a_coordinator_that_has_missed_the_move_is_refused_and_learns(ring: Ring) -> None:
    """It writes at ONE through a replica that loses the range; the write is there when all is over."""
    staying, gaining, key = move_a_key(ring)
    stale = next(index for index in staying if index != gaining)
    miss_the_move(ring, stale)
    ring.seen.clear()
    ring.done(stale, f"INSERT INTO ks.t (k, v) VALUES ({key}, 8)", Consistency.QUORUM)
    refused = [seen for seen in ring.seen if seen.verb == Verb.WRITE and seen.is_failure]
    assert refused
    until(ring, lambda: view(ring).move is None and len(view(ring).members) == 3)
    assert ring.here(gaining, "t", key) is not None
    values = {as_int(row["v"]) for index in staying if (row := ring.here(index, "t", key))}
    assert values == {8}


@pytest.mark.parametrize(
    "statement", ["INSERT INTO ks.t (k, v) VALUES ({}, 8)", "SELECT v FROM ks.t WHERE k = {}"]
)
def test_who_learns_of_the_move_before_it_is_refused_waits_for_nothing_more(
    ring: Ring, statement: str
) -> None:
    staying, gaining, key = move_a_key(ring)
    stale = next(index for index in staying if index != gaining)
    current = miss_the_move(ring, stale)
    ring.fate = lambda message: HOLD if message.is_failure and message.receiver == stale else PASS
    promise = ring.ask(stale, statement.format(key), Consistency.ALL)
    ring.run_for(0.05)
    know(ring, stale, current)
    ring.fate = lambda message: PASS
    ring.let_in()
    ring.run_for(0.1)
    assert promise.is_kept
    assert ring.reply(promise).error is None


def test_what_one_replica_has_is_not_called_undone_when_it_can_t_be_sent_again(ring: Ring) -> None:
    """The coordinator has written it itself, the others refuse: the range has moved; then they are gone."""
    staying, gaining, key = move_a_key(ring)
    stale = next(index for index in ring.replicas("t", key) if index in staying and index != gaining)
    current = miss_the_move(ring, stale)
    ring.fate = lambda message: HOLD if message.is_failure and message.receiver == stale else PASS
    promise = ring.ask(stale, f"INSERT INTO ks.t (k, v) VALUES ({key}, 8)", Consistency.QUORUM)
    ring.run_for(0.05)
    know(ring, stale, current)
    ring.see(stale, [stale])
    ring.fate = lambda message: PASS
    ring.let_in()
    error = ring.reply(promise).error
    assert isinstance(error, WriteTimeout)
    assert as_int((ring.here(stale, "t", key) or {})["v"]) == 8
    ring.see(stale, range(4))


# What has waited


def begin_meanwhile(ring: Ring, coordinator: int) -> list[int]:
    """Another node begins to leave; gives the keys whose partitions somebody gains."""
    leaver = next(
        index for index in range(4) if ring.id(index) not in view(ring).voters and index != coordinator
    )
    begin_to_leave(ring, leaver, Stage.COPYING)
    return [key for key in KEYS if gaining_of(ring, key)]


def gaining_of(ring: Ring, key: int) -> set[int]:
    """The machines that gain the partition of a key."""
    position = ring.position("t", key)
    return {
        ring.index(node)
        for one in view(ring).moved_ranges(view(ring).schema.keyspaces["ks"])
        if one.start <= position and (one.end is None or position < one.end)
        for node in one.gaining
    }


def receivers(ring: Ring, verb: Verb, key: int) -> set[int]:
    """The machines that were sent something about the partition of a key."""
    position = ring.position("t", key)
    return {
        seen.receiver
        for seen in ring.seen
        if seen.verb == verb and not seen.is_reply and position in seen.body
    }


def coordinator_of(ring: Ring) -> int:
    """One that votes, and so doesn't leave."""
    return next(index for index in range(4) if ring.id(index) in view(ring).voters)


def test_a_statement_that_waited_for_its_turn_asks_those_who_vote_now(ring: Ring) -> None:
    """The one before it was chosen before rows began to move."""
    coordinator = coordinator_of(ring)
    ring.fate = lambda message: (
        HOLD
        if message.verb == Verb.PAXOS_COMMIT and message.is_reply and message.receiver == coordinator
        else PASS
    )
    promises = [
        ring.ask(coordinator, f"UPDATE ks.t SET v = {value} WHERE k = {key} IF EXISTS")
        for key in KEYS
        for value in (1001, 1002)
    ]
    ring.run_for(0.05)
    ring.seen.clear()
    moving = begin_meanwhile(ring, coordinator)
    assert moving
    ring.fate = lambda message: PASS
    ring.let_in()
    for promise in promises:
        assert ring.reply(promise).error is None
    for key in moving:
        assert gaining_of(ring, key) <= receivers(ring, Verb.PAXOS_PROPOSE, key) | {coordinator}
        assert gaining_of(ring, key) <= receivers(ring, Verb.PAXOS_COMMIT, key) | {coordinator}


def test_a_batch_that_was_being_stored_is_written_to_those_who_hold_its_rows_now(ring: Ring) -> None:
    coordinator = coordinator_of(ring)
    ring.fate = lambda message: HOLD if message.verb == Verb.BATCH_STORE and message.is_reply else PASS
    parts = " ".join(f"INSERT INTO ks.t (k, v) VALUES ({key}, 8);" for key in KEYS)
    promise = ring.ask(coordinator, f"BEGIN BATCH {parts} APPLY BATCH")
    ring.run_for(0.01)
    ring.seen.clear()
    moving = begin_meanwhile(ring, coordinator)
    assert moving
    ring.fate = lambda message: PASS
    ring.let_in()
    assert ring.reply(promise).error is None
    for key in moving:
        assert gaining_of(ring, key) <= receivers(ring, Verb.WRITE, key) | {coordinator}


def test_a_counter_that_was_being_synced_is_sent_to_those_who_hold_it_now(ring: Ring) -> None:
    coordinator = coordinator_of(ring)
    store = ring.node(coordinator).ports.store
    sync, waiting = store.sync, []
    store.sync = waiting.append  # type: ignore[method-assign]
    promises = [ring.ask(coordinator, f"UPDATE ks.c SET n = n + 1 WHERE k = {key}") for key in KEYS]
    ring.run_for(0.01)
    store.sync = sync  # type: ignore[method-assign]
    assert waiting
    ring.seen.clear()
    moving = begin_meanwhile(ring, coordinator)
    for synced in waiting:
        synced(None)
    led = [key for key in moving if coordinator in ring.replicas("c", key)]
    assert led
    for promise in promises:
        assert ring.reply(promise).error is None
    for key in led:
        assert gaining_of(ring, key) <= receivers(ring, Verb.WRITE, key) | {coordinator}


def hold_the_disk(
    ring: Ring, index: int
) -> tuple[Callable[..., None], list[tuple[Any, ...]], Callable[[], None]]:
    """The machine has nothing in memory, and its disk answers nothing.

    Returns:
        (fetches a row after all, given one of what waits; what waits; lets the disk answer what comes from then on)
    """
    if ring.machines[index].is_ready:
        ring.kill(index)
    ring.start(index)
    conditions, store = ring.machines[index].disk.conditions, ring.node(index).ports.store
    fetch: Callable[..., None] = store.fetch
    waiting: list[tuple[Any, ...]] = []
    conditions.later_one_in = 1
    store.fetch = lambda *arguments: waiting.append(arguments)  # type: ignore[method-assign]

    def go_on() -> None:
        store.fetch, conditions.later_one_in = fetch, 0  # type: ignore[method-assign]

    return fetch, waiting, go_on


def test_a_write_that_waited_for_its_row_is_refused_once_the_row_moves(ring: Ring) -> None:
    """What was copied from there doesn't have it."""
    coordinator = coordinator_of(ring)
    waits = next(index for index in range(4) if ring.id(index) not in view(ring).voters)
    fetch, waiting, go_on = hold_the_disk(ring, waits)
    promises = [
        ring.ask(coordinator, f"UPDATE ks.t SET v = 8 WHERE k = {key}", Consistency.ALL) for key in KEYS
    ]
    ring.run_for(0.01)
    go_on()
    assert waiting
    moving = [key for key in begin_meanwhile(ring, coordinator) if waits in receivers(ring, Verb.WRITE, key)]
    assert moving
    ring.seen.clear()
    for arguments in waiting:
        fetch(*arguments)
    for promise in promises:
        assert ring.reply(promise).error is None
    for key in moving:
        assert gaining_of(ring, key) <= receivers(ring, Verb.WRITE, key) | {coordinator}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ks.t SET v = 8 WHERE k = {}",
        "UPDATE ks.t SET v = 8 WHERE k = {} IF v = {}",
        "BEGIN UNLOGGED BATCH UPDATE ks.t SET v = 8 WHERE k = {}; UPDATE ks.t SET v = 8 WHERE k = {} APPLY BATCH",
        "UPDATE ks.c SET n = n + 8 WHERE k = {}",
    ],
)
def test_what_the_only_holder_waited_to_do_reaches_those_who_take_over(statement: str) -> None:
    ring = Ring(4)
    ring.set_up(T, "CREATE TABLE ks.c (k int PRIMARY KEY, n counter)", factor=1)
    table, column = ("c", "n") if "ks.c" in statement else ("t", "v")
    for key in KEYS:
        ring.done(0, f"INSERT INTO ks.t (k, v) VALUES ({key}, {key})")
        ring.done(0, f"UPDATE ks.c SET n = n + 0 WHERE k = {key}")
    holder = next(index for index in range(4) if ring.id(index) not in view(ring).voters)
    fetch, waiting, go_on = hold_the_disk(ring, holder)
    held = [key for key in KEYS if ring.replicas("t", key) == [holder]]
    promises = [ring.ask(holder, statement.format(key, key)) for key in held]
    ring.run_for(0.01)
    go_on()
    assert len(waiting) == len(held)
    begin_to_leave(ring, holder, Stage.COPYING)
    until(ring, lambda: view(ring).move is None or view(ring).move.copied)
    for arguments in waiting:
        fetch(*arguments)
    for promise in promises:
        assert ring.reply(promise).error is None
    until(ring, lambda: len(view(ring).members) == 3)
    for key in held:
        reply = ring.done(0, f"SELECT {column} FROM ks.{table} WHERE k = {key}")
        assert as_int(reply.cell(column)) == 8
    ring.rest()


def test_a_counter_that_waited_over_a_whole_move_is_added_where_it_is_now(ring: Ring) -> None:
    """Its leader has nothing of it any more: its shard would begin anew, and what it had added before be lost."""
    leader = next(index for index in range(4) if ring.id(index) not in view(ring).voters)
    led = [key for key in KEYS if leader in ring.replicas("c", key)]
    for key in led:
        ring.done(leader, f"UPDATE ks.c SET n = n + 1 WHERE k = {key}")
    # After a clean stop it adds to the same shard.
    ring.machines[leader].stop()
    until(ring, lambda: not ring.machines[leader].is_ready and ring.is_whole())
    fetch, waiting, go_on = hold_the_disk(ring, leader)
    promises = [ring.ask(leader, f"UPDATE ks.c SET n = n + 8 WHERE k = {key}") for key in led]
    ring.run_for(0.01)
    go_on()
    assert len(waiting) == len(led)
    (newcomer,) = ring.world.add_machines(1, ring.machines[0].build)
    newcomer.start()
    until(
        ring, lambda: all(one.tokens for one in view(ring).members.values()) and len(view(ring).members) == 5
    )
    until(ring, lambda: view(ring).move is None)
    ring.run_for(6)
    lost = [key for key in led if leader not in ring.replicas("c", key)]
    assert lost
    assert not any(ring.here(leader, "c", key) for key in lost)
    for arguments in waiting:
        fetch(*arguments)
    for promise in promises:
        assert ring.reply(promise).error is None
    for key in led:
        reply = ring.done(0, f"SELECT n FROM ks.c WHERE k = {key}", Consistency.ALL)
        assert as_int(reply.cell("n")) == 9


def test_a_scan_whose_ranges_move_on_is_divided_anew(ring: Ring) -> None:
    staying, gaining, _ = move_a_key(ring)
    stale = next(index for index in staying if index != gaining)
    current = miss_the_move(ring, stale)
    ring.fate = lambda message: HOLD if message.is_failure and message.receiver == stale else PASS
    promise = ring.ask(stale, "SELECT k, v FROM ks.t")
    ring.run_for(0.05)
    assert ring.held
    know(ring, stale, current)
    ring.fate = lambda message: PASS
    ring.let_in()
    reply = ring.reply(promise)
    assert reply.error is None
    assert sorted(as_int(row[0]) or 0 for row in reply.rows) == list(KEYS)


def test_who_knows_of_a_commit_and_has_no_rows_yet_hides_nothing(ring: Ring) -> None:
    """A node that gains a range takes over what is known of conditional statements before it copies the rows."""
    leaver = next(index for index in range(4) if ring.id(index) not in view(ring).voters)
    key = next(key for key in KEYS if leaver in ring.replicas("t", key))
    coordinator, other = (index for index in ring.replicas("t", key) if index != leaver)
    table = view(ring).schema.table("ks", "t")
    assert table is not None
    position = ring.position("t", key)
    unheard = [Verb.HINT, Verb.WRITE, Verb.PAXOS_COMMIT]

    def asks_for_the_row(message: Message) -> bool:
        if message.verb != Verb.STREAM or message.is_reply:
            return False
        question = msgspec.msgpack.decode(message.body, type=Question)
        return (
            isinstance(question, StreamRows)
            and question.incarnation == table.incarnation
            and question.start <= position
            and (question.end is None or position < question.end)
        )

    def fate(message: Message) -> str:
        if message.verb in unheard and message.sender == leaver and not message.is_reply:
            return LOSE
        return HOLD if asks_for_the_row(message) else PASS

    ring.fate = fate
    # Accepted by all, committed by the one that is about to leave; that is enough for ONE.
    first = ring.run(leaver, f"UPDATE ks.t SET v = 1000 WHERE k = {key} IF v = {key}", Consistency.ONE)
    assert first.cell("[applied]") == b"\x01"
    begin_to_leave(ring, leaver, Stage.COPYING)
    (gaining,) = gaining_of(ring, key)
    ring.run_for(2)
    assert ring.here(gaining, "t", key) is None

    def without_leaver(message: Message) -> str:
        if message.verb == Verb.PAXOS_PREPARE and message.receiver == leaver:
            return LOSE
        if message.verb == Verb.PAXOS_PREPARE and message.is_reply and message.sender == other:
            return HOLD
        return fate(message)

    ring.fate = without_leaver
    second = ring.ask(coordinator, f"UPDATE ks.t SET v = 2000 WHERE k = {key} IF v = {key}")
    ring.run_for(0.05)
    ring.fate = fate
    ring.held = [held for held in ring.held if not asks_for_the_row(held[0])]
    assert ring.held
    ring.let_in()
    assert ring.reply(second).cell("[applied]") == b"\x00"
    unheard.clear()
    ring.fate = lambda message: PASS
    until(ring, lambda: len(view(ring).members) == 3)


def test_a_new_leader_of_the_metadata_log_moves_no_rows(ring: Ring) -> None:
    """Its first entry is a new epoch, of which no route knows: a scan that mends replicas must not wait for one."""
    ring.fate = lambda message: LOSE if message.verb in (Verb.WRITE, Verb.HINT) else PASS
    for key in KEYS:
        ring.run(key % 4, f"INSERT INTO ks.t (k, v) VALUES ({key}, 9)", Consistency.ANY)
    ring.fate = lambda message: PASS
    leader = next(index for index in range(4) if ring.node(index).metadata.leader == ring.id(index))
    before = ring.node((leader + 1) % 4).peers.epoch
    ring.kill(leader)
    other = (leader + 1) % 4
    until(ring, lambda: ring.node(other).peers.epoch > before)
    reply = ring.done(other, "SELECT k, v FROM ks.t", Consistency.QUORUM)
    assert {as_int(row[0]) for row in reply.rows} == set(KEYS)
    ring.start(leader)


def test_who_has_missed_a_move_waits_for_news_though_there_is_a_new_leader(ring: Ring) -> None:
    """A new leader's first entry is an epoch, but no news: what was refused would only be refused again."""
    ring.fate = lambda message: LOSE if message.verb == Verb.STREAM else PASS
    staying, gaining, key = move_a_key(ring)
    stale = next(index for index in staying if index != gaining)
    current = miss_the_move(ring, stale)
    ring.node(stale).peers.epoch = current.epoch + 1
    promise = ring.ask(stale, f"INSERT INTO ks.t (k, v) VALUES ({key}, 9)", Consistency.ALL)
    ring.run_for(0.1)
    assert not promise.is_kept
    ring.fate = lambda message: PASS
    know(ring, stale, current)
    assert ring.reply(promise).error is None
    assert as_int(ring.done(gaining, f"SELECT v FROM ks.t WHERE k = {key}", Consistency.ALL).cell("v")) == 9
    until(ring, lambda: view(ring).move is None and len(view(ring).members) == 3)


def test_what_somebody_still_reads_is_not_cleaned_away() -> None:
    """A node that holds everything alone reads its own rows, and looks at no route while it does."""
    ring = Ring(1)
    ring.set_up("CREATE TABLE ks.w (k int, c int, PRIMARY KEY (k, c))", factor=1)
    for key in KEYS:
        for row in range(SKIP_KEYS_MAX + 2):
            ring.done(0, f"INSERT INTO ks.w (k, c) VALUES ({key}, {row})", Consistency.ONE)
    reads = ring.node(0).reads
    scheduler, waiting = reads._scheduler, []  # type: ignore[var-annotated]
    reads._scheduler = SimpleNamespace(soon=waiting.append)  # type: ignore[assignment]
    promise = ring.ask(0, "SELECT k, c FROM ks.w PER PARTITION LIMIT 1", Consistency.ONE)
    ring.run_for(0.1)
    reads._scheduler = scheduler
    (go_on,) = waiting
    (newcomer,) = ring.world.add_machines(1, ring.machines[0].build)
    newcomer.start()
    until(
        ring, lambda: all(one.tokens for one in view(ring).members.values()) and len(view(ring).members) == 2
    )
    until(ring, lambda: view(ring).move is None)
    ring.run_for(8)
    scheduler.soon(go_on)
    reply = ring.reply(promise)
    assert reply.error is None
    assert sorted(as_int(row[0]) or 0 for row in reply.rows) == list(KEYS)
    lost = [key for key in KEYS if ring.replicas("w", key) != [0]]
    until(ring, lambda: not any(ring.here(0, "w", key) for key in lost))


def test_what_is_mended_while_a_range_changes_hands_is_on_enough_of_those_who_will_hold_it(
    ring: Ring,
) -> None:
    """One of those that stay had it alone when the others were copied; with the one that leaves it is a quorum."""
    staying, gaining, key = move_a_key(ring)
    until(ring, lambda: ring.id(gaining) in view(ring).move.copied if view(ring).move else True)
    (leaver,) = {0, 1, 2, 3} - set(staying)
    holder = next(index for index in staying if index != gaining)
    ring.fate = lambda message: LOSE if message.verb in (Verb.WRITE, Verb.HINT) else PASS
    ring.done(holder, f"INSERT INTO ks.t (k, v) VALUES ({key}, 8)", Consistency.ONE)
    assert view(ring, holder).move is not None
    ring.see(holder, [holder, leaver, gaining])
    assert as_int(ring.done(holder, f"SELECT v FROM ks.t WHERE k = {key}").cell("v")) == 8
    assert is_at(view(ring, holder), Stage.COPYING)
    assert as_int((ring.here(gaining, "t", key) or {})["v"]) == 8
    ring.see(holder, range(4))


def test_another_one_votes_before_a_voter_leaves(ring: Ring) -> None:
    """Else one that dies right after it would be one too many. The leader itself leaves."""
    leader = next(index for index in range(4) if ring.id(index) == ring.node(0).metadata.leader)
    witness = (leader + 1) % 4
    staying = sorted(ring.id(index) for index in range(4) if index != leader)
    ring.machines[leader].may_be_refused = True
    ring.node(witness).send_away(ring.id(leader), is_dead=False)
    until(ring, lambda: len(view(ring, witness).members) == 3)
    assert list(view(ring, witness).voters) == staying


def test_who_leaves_must_leave_enough_behind(ring: Ring) -> None:
    ring.machines[3].may_be_refused = True
    ring.node(0).send_away(ring.id(3), is_dead=False)
    ring.run_for(0.1)
    with pytest.raises(Exception, match="too few nodes"):
        ring.node(0).send_away(ring.id(2), is_dead=False)
    until(ring, lambda: len(view(ring).members) == 3)
    with pytest.raises(Exception, match="there is no node 99"):
        ring.node(0).send_away(NodeId(99), is_dead=False)


def test_the_only_copies_are_given_up_on_purpose_alone(ring: Ring) -> None:
    ring.done(
        0, "CREATE KEYSPACE one WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}"
    )
    ring.done(0, "CREATE TABLE one.t (k int PRIMARY KEY)")
    dead, number = ring.machines[3], ring.id(3)
    dead.may_be_refused = True
    ring.world.remove(dead)
    until(ring, lambda: not ring.node(0).peers.up.get(number))
    with pytest.raises(
        Exception, match=f"only copies of some rows of keyspace one.*ouro remove {number} --force"
    ):
        ring.node(0).send_away(number, is_dead=True)
    ring.node(0).send_away(number, is_dead=True, is_forced=True)
    until(ring, lambda: len(view(ring).members) == 3)


def test_a_join_that_needs_a_node_that_is_down_waits_for_it_without_standing_in_the_way(ring: Ring) -> None:
    """It is undone after a while, so that others may come and go, and tries again until that node is back."""
    ring.done(
        0, "CREATE KEYSPACE one WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}"
    )
    ring.done(0, "CREATE TABLE one.t (k int PRIMARY KEY)")
    for key in range(50):
        ring.done(0, f"INSERT INTO one.t (k) VALUES ({key})")
    number = ring.id(3)
    ring.machines[3].lose_power()
    until(ring, lambda: not ring.node(0).peers.up.get(number))
    (newcomer,) = ring.world.add_machines(1, ring.machines[0].build)
    newcomer.start()
    undone = lambda: [one.reason for one in view(ring).operations if one.is_over and not one.is_done]  # noqa: E731
    until(ring, lambda: bool(undone()))
    assert "is down, and too few others have what is to be copied" in undone()[0]
    assert len(view(ring).members) == 5
    ring.run_for(65)
    # Each try gives the node as long as the first one: the log isn't filled with tries.
    assert len(undone()) in (2, 3)
    ring.machines[3].start()
    until(ring, lambda: all(one.tokens for one in view(ring).members.values()) and view(ring).move is None)
    assert len(ring.done(4, "SELECT k FROM one.t").rows) == 50


def test_all_is_there_when_a_node_has_left_and_another_has_come(ring: Ring) -> None:
    for _ in range(3):
        ring.done(0, "UPDATE ks.c SET n = n + 1 WHERE k = 1")
    ring.done(1, "INSERT INTO ks.t (k, v) VALUES (500, 1) IF NOT EXISTS")
    (newcomer,) = ring.world.add_machines(1, ring.machines[0].build)
    newcomer.start()
    until(ring, lambda: newcomer.is_ready and len(view(ring).ring.members) == 5 and not view(ring).move)
    until(ring, lambda: all(member.tokens for member in view(ring).members.values()) and not view(ring).move)
    leaver = ring.machines[1]
    leaver.may_be_refused = True
    ring.node(0).send_away(ring.id(1), is_dead=False)
    until(ring, lambda: len(view(ring).members) == 4)
    ring.world.remove(leaver)
    until(ring, ring.is_whole)
    for level in (Consistency.ONE, Consistency.QUORUM, Consistency.ALL):
        rows = ring.done(0, "SELECT k, v FROM ks.t", level).rows
        assert {as_int(row[0]) for row in rows} == {*KEYS, 500}
    assert as_int(ring.done(0, "SELECT n FROM ks.c WHERE k = 1", Consistency.ALL).cell("n")) == 3
    # Paxos state has moved with its partition.
    refused = ring.done(0, "INSERT INTO ks.t (k, v) VALUES (500, 2) IF NOT EXISTS")
    assert refused.rows[0][0] == b"\x00"
    # What nobody holds any more is deleted.
    ring.run_for(6)
    for machine in ring.machines:
        node = machine.program.node
        placement = node.view.ring.placement(node.view.schema.keyspaces["ks"].replication)
        table = node.view.schema.table("ks", "t")
        for key in KEYS:
            position = ring.position("t", key)
            held = bool(list(node.rows.register(table).read(position, 0)))
            assert held == (node.peers.me in placement.replicas_of(position).nodes)


@pytest.mark.parametrize("fails", ["deleting", "the batch with the mark"])
def test_who_can_t_delete_what_it_held_before_takes_no_writes_until_it_can(
    ring: Ring, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """Or what it acknowledged would be deleted with the rest, once it can."""
    leaver = next(index for index in range(4) if ring.id(index) not in view(ring).voters)
    ring.machines[leaver].may_be_refused = True
    is_broken = True
    refused: list[Copying] = []
    empty = Copying._empty

    def broken(copying: Copying, *arguments: Any) -> None:
        if not is_broken:
            empty(copying, *arguments)
            return
        refused.append(copying)
        if fails == "deleting":
            raise StoreReadOnly("the disk is full")
        empty(copying, *arguments)
        machine = next(one for one in ring.machines if one.program.node.copying is copying)
        machine.disk.conditions.refuses_settle_one_in = 1

    monkeypatch.setattr(Copying, "_empty", broken)
    ring.node(0).send_away(ring.id(leaver), is_dead=False)
    staying = [index for index in range(4) if index != leaver]
    until(ring, lambda: len({id(copying) for copying in refused}) == 3)
    ring.run_for(0.1)
    for machine in ring.machines:
        machine.disk.conditions.refuses_settle_one_in = 0
    gaining = next(index for index in staying if ring.id(index) in view(ring).copying)
    key = moving_key(ring, gaining)
    assert "can't be deleted" in ring.node(gaining).copying.progress.waits
    reply = ring.run(gaining, f"INSERT INTO ks.t (k, v) VALUES ({key}, 7)", Consistency.ALL)
    assert reply.error is not None
    assert ring.here(gaining, "t", key) is None
    is_broken = False
    until(ring, lambda: not any(ring.node(index).rows.refusal for index in staying))
    ring.done(gaining, f"INSERT INTO ks.t (k, v) VALUES ({key}, 8)", Consistency.ALL)
    until(ring, lambda: len(view(ring).members) == 3)
    ring.world.remove(ring.machines[leaver])
    until(ring, ring.is_whole)
    for index in staying:
        assert as_int(ring.done(index, f"SELECT v FROM ks.t WHERE k = {key}").cell("v")) == 8
    assert len(ring.done(staying[0], "SELECT k FROM ks.t", Consistency.ALL).rows) == len(KEYS)


def test_a_newcomer_that_dies_is_given_up(ring: Ring) -> None:
    before = view(ring).ring.owners
    (guest,) = ring.world.add_machines(1, build_unwatched, apart=True)
    guest.may_be_refused = True
    guest.start()
    until(ring, lambda: view(ring).move is not None)
    ring.world.remove(guest)
    # Nobody waits for it meanwhile.
    ring.done(0, "INSERT INTO ks.t (k, v) VALUES (1, 9)", Consistency.QUORUM)
    until(ring, lambda: view(ring).move is None)
    assert view(ring).ring.owners == before
    assert len(view(ring).members) == 4
    ring.done(0, "INSERT INTO ks.t (k, v) VALUES (2, 9)", Consistency.ALL)


# Other replications


def altered(ring: Ring, factor: int) -> None:
    """ks has so many copies, and all the rows have moved."""
    alter = f"{{'class': 'SimpleStrategy', 'replication_factor': {factor}}}"
    ring.done(0, f"ALTER KEYSPACE ks WITH replication = {alter}")
    until(ring, lambda: factor_of(ring) == factor and view(ring).move is None)


def factor_of(ring: Ring) -> int:
    return int(view(ring).schema.keyspaces["ks"].replication.options["replication_factor"])


@pytest.mark.parametrize("factors", [(1, 3), (2, 4), (4, 1, 3)])
def test_all_is_there_with_another_number_of_copies(ring: Ring, factors: tuple[int, ...]) -> None:
    ring.done(1, "INSERT INTO ks.t (k, v) VALUES (500, 1) IF NOT EXISTS")
    for factor in factors:
        ring.done(2, "UPDATE ks.c SET n = n + 1 WHERE k = 1", Consistency.QUORUM)
        altered(ring, factor)
        assert as_int(
            ring.done(0, "SELECT n FROM ks.c WHERE k = 1", Consistency.ONE).cell("n")
        ) == 1 + factors.index(factor)
        refused = ring.done(0, "INSERT INTO ks.t (k, v) VALUES (500, 2) IF NOT EXISTS")
        assert refused.rows[0][0] == b"\x00"
        for level in (Consistency.ONE, Consistency.QUORUM, Consistency.ALL):
            rows = ring.done(0, "SELECT k, v FROM ks.t", level).rows
            assert {as_int(row[0]) for row in rows} == {*KEYS, 500}
        # As many nodes hold each row as there are copies.
        ring.run_for(6)
        table = view(ring).schema.table("ks", "t")
        nodes = [machine.program.node for machine in ring.machines]
        for key in KEYS:
            position = ring.position("t", key)
            assert sum(bool(list(node.rows.register(table).read(position, 0))) for node in nodes) == factor


def test_the_copy_that_stays_gets_what_it_missed(ring: Ring) -> None:
    """A quorum of three had the write; of one, nobody would."""
    key = 7
    placement = view(ring).ring.placement(view(ring).schema.keyspaces["ks"].replication)
    stays = placement.replicas_of(ring.position("t", key)).nodes[0]
    machine = next(index for index in range(4) if ring.id(index) == stays)

    def fate(message: Message) -> str:
        return LOSE if message.receiver == machine and message.verb in (Verb.WRITE, Verb.HINT) else PASS

    ring.fate = fate
    ring.done((machine + 1) % 4, f"INSERT INTO ks.t (k, v) VALUES ({key}, 70)", Consistency.QUORUM)
    table = view(ring).schema.table("ks", "t")
    alter = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
    ring.done(0, f"ALTER KEYSPACE ks WITH replication = {alter}")
    until(ring, lambda: factor_of(ring) == 1 and view(ring).move is None)
    assert table is not None
    assert as_int(ring.done(machine, f"SELECT v FROM ks.t WHERE k = {key}", Consistency.ONE).cell("v")) == 70


def test_while_copies_are_made_a_level_is_met_among_the_old_and_among_the_new(ring: Ring) -> None:
    altered(ring, 1)
    ring.done(0, "ALTER KEYSPACE ks WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}")
    until(ring, lambda: all(is_at(machine.program.node.view, Stage.COPYING) for machine in ring.machines))
    route = ring.node(0).coordinator.route_of("ks", ring.position("t", 7))
    need = route.write_need(Consistency.QUORUM)
    assert need.both is not None
    assert [one.required for one in need.both] == [1, 2]
    assert [one.required for one in route.electorates()] == [1, 2]
    until(ring, lambda: all(is_at(machine.program.node.view, Stage.SWITCHED) for machine in ring.machines))
    route = ring.node(0).coordinator.route_of("ks", ring.position("t", 7))
    need = route.write_need(Consistency.QUORUM)
    assert need.both is not None
    assert [one.required for one in need.both] == [2, 1]
    assert len(route.read_nodes(Consistency.QUORUM)) == 2
