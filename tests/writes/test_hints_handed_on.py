"""Hints that are handed on to those who hold a partition now: each once, a few at a time, until they are where they
belong.

If this fails, hints multiply while a range moves until there is no room for any, or some are forgotten on disk and what
a node missed never reaches it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
from tests.writes.bench import Bench
from tests.writes.ring import LOSE, PASS, Message, Ring, as_int, everything_passes
from tests.writes.test_hints import messages

from ourodb import limits
from ourodb.cql.wire.codes import Consistency
from ourodb.errors import Overloaded, StoreError
from ourodb.peer.messages import Verb
from ourodb.ports import NodeId
from ourodb.storage.apply import UnknownIncarnation
from ourodb.storage.families import HINTS
from ourodb.storage.mutation import Mutation

TWO, THREE = NodeId(2), NodeId(3)


class Owners:
    """Who holds the partitions now: takes what is handed on, and answers when the test says so.

    Attributes:
        failing: those who acknowledge nothing, and for whom a hint is left.
        handed_on: (mutation, told) of what is under way.
        count: of all that was handed on.
    """

    def __init__(self, bench: Bench) -> None:
        self.failing: tuple[NodeId, ...] = ()
        self.handed_on: list[tuple[Mutation, int, Callable[[bool], None]]] = []
        self.count = 0
        self._hints = bench.hints
        bench.hints.hand_on = self._hand_on
        bench.hints.is_for = lambda node, mutation: False

    def _hand_on(self, mutation: Mutation, written_at_us: int, over: Callable[[bool], None]) -> None:
        self.count += 1
        self.handed_on.append((mutation, written_at_us, over))

    def answer(self) -> None:
        """To all that is under way."""
        handed_on, self.handed_on = self.handed_on, []
        for mutation, written_at_us, over in handed_on:
            hinted = [self._hints.add(node, mutation, written_at_us) for node in self.failing]
            over(all(hinted))


def add(bench: Bench, node: NodeId, count: int, first: int = 0) -> None:
    for value in range(first, first + count):
        assert bench.hints.add(node, bench.mutation(value, value))
    bench.settle()


def check_counts(bench: Bench, expected: int) -> None:
    kept = [value for _, value in bench.store.scan(HINTS, b"", b"\xff" * 13)]
    assert (bench.hints.total, bench.hints.bytes) == (len(kept), sum(map(len, kept)))
    assert len(kept) == expected


def leave(bench: Bench, node: NodeId) -> None:
    """The node is no member any more."""
    del bench.peers.links[node]
    del bench.peers.up[node]
    bench.hints.forget(node)


# One run at a time


def test_rounds_of_gossip_wait_for_what_is_handed_on() -> None:
    """It takes longer than a round. Handed on again, each would be counted off again, and others be forgotten."""
    bench = Bench()
    owners = Owners(bench)
    add(bench, TWO, 3)
    for _ in range(3):
        bench.hints.deliver()
        bench.settle()
    assert owners.count == 3
    add(bench, TWO, 3, first=3)
    owners.answer()
    bench.settle()
    check_counts(bench, 3)
    bench.hints.is_for = lambda node, mutation: True
    bench.hints.deliver()
    assert len(messages(bench)) == 1


def test_no_more_than_a_batch_is_handed_on_at_once() -> None:
    bench = Bench()
    owners = Owners(bench)
    count = 3 * limits.HINT_BATCH_MUTATIONS_MAX
    add(bench, TWO, count)
    bench.hints.deliver()
    bench.settle()
    while owners.handed_on:
        assert len(owners.handed_on) <= limits.HINT_BATCH_MUTATIONS_MAX
        owners.answer()
        bench.settle()
    assert owners.count == bench.hints.delivered == count
    check_counts(bench, 0)


def test_what_is_for_others_and_what_is_for_it_go_in_one_run() -> None:
    bench = Bench()
    owners = Owners(bench)
    bench.hints.is_for = lambda node, mutation: mutation.writes[0][1][-1] % 2 == 0
    add(bench, TWO, 10)
    bench.hints.deliver()
    assert len(owners.handed_on) == 5
    ((_, request, _),) = messages(bench)
    bench.answer(2, request)
    bench.settle()
    bench.hints.deliver()
    assert (owners.count, len(messages(bench))) == (5, 1)
    owners.answer()
    bench.settle()
    check_counts(bench, 0)


def test_a_hint_that_can_t_be_handed_on_is_kept_and_the_run_ends() -> None:
    bench = Bench()
    tried = 0

    def hand_on(mutation: Mutation, written_at_us: int, over: Callable[[bool], None]) -> None:
        nonlocal tried
        tried += 1
        raise Overloaded("no room")

    Owners(bench)
    bench.hints.hand_on = hand_on
    add(bench, TWO, 1)
    for rounds in (1, 2):
        bench.hints.deliver()
        bench.settle()
        assert tried == rounds
    check_counts(bench, 1)


# Whoever goes without


def test_handing_on_in_vain_makes_no_more_hints() -> None:
    """Whom the hint is for may be the one who doesn't acknowledge, and he may not be the only one."""
    bench = Bench()
    owners = Owners(bench)
    owners.failing = (TWO, THREE)
    add(bench, TWO, 10)
    for _ in range(10):
        bench.hints.deliver()
        bench.settle()
        owners.answer()
        bench.settle()
        check_counts(bench, 20)
        assert bench.hints.waiting(TWO) == bench.hints.waiting(THREE) == 10
    owners.failing = ()
    for _ in range(2):
        bench.hints.deliver()
        bench.settle()
        owners.answer()
        bench.settle()
    check_counts(bench, 0)


def test_what_is_known_of_hints_that_are_handed_on_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HINTS_HANDED_ON_MAX", 4)
    bench = Bench()
    owners = Owners(bench)
    owners.failing = (TWO,)
    add(bench, TWO, 10)
    for _ in range(3):
        bench.hints.deliver()
        bench.settle()
        owners.answer()
        bench.settle()
        check_counts(bench, 10)


# What crosses a run


def test_a_node_that_leaves_while_hints_are_on_their_way_to_it() -> None:
    """They are handed on only when it is known what became of them."""
    bench = Bench()
    owners = Owners(bench)
    bench.hints.is_for = lambda node, mutation: True
    add(bench, TWO, 3)
    bench.hints.deliver()
    ((_, request, _),) = messages(bench)
    leave(bench, TWO)
    bench.hints.deliver()
    bench.settle()
    assert owners.count == 0
    bench.answer(2, request)
    bench.settle()
    check_counts(bench, 0)
    bench.hints.deliver()
    bench.settle()
    assert owners.count == 0


def test_a_node_that_leaves_without_an_answer() -> None:
    bench = Bench()
    owners = Owners(bench)
    bench.hints.is_for = lambda node, mutation: True
    add(bench, TWO, 3)
    bench.hints.deliver()
    leave(bench, TWO)
    bench.pass_ms(6_000)
    bench.hints.deliver()
    bench.settle()
    owners.answer()
    bench.settle()
    assert owners.count == 3
    check_counts(bench, 0)


def test_a_node_that_leaves_while_its_hints_are_handed_on() -> None:
    bench = Bench()
    owners = Owners(bench)
    add(bench, TWO, 3)
    bench.hints.deliver()
    leave(bench, TWO)
    bench.hints.deliver()
    bench.settle()
    assert owners.count == 3
    owners.answer()
    bench.settle()
    check_counts(bench, 0)


@pytest.mark.parametrize("moves", [False, True])
def test_hints_that_grow_too_old_on_their_way_are_counted_once(
    moves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room is wanted meanwhile, and what is too old makes room."""
    bench = Bench()
    owners = Owners(bench)
    bench.hints.is_for = lambda node, mutation: not moves
    add(bench, TWO, 3)
    bench.hints.deliver()
    monkeypatch.setattr(limits, "HINT_BYTES_MAX", bench.hints.bytes)
    bench.clock.now_us += limits.HINT_AGE_MS_MAX * 1_000
    bench.hints.add(THREE, bench.mutation(9, 9))
    bench.settle()
    for _, request, _ in messages(bench):
        bench.answer(2, request)
    owners.answer()
    bench.settle()
    assert bench.hints.waiting(TWO) == 0
    check_counts(bench, bench.hints.waiting(THREE))


# A ring


class Moving(NamedTuple):
    """Four nodes, three copies of each row. One leaves and nothing is copied, so that its ranges move for long; another
    one is down and has missed writes.

    Attributes:
        coordinator: it has the hints.
        away: the machine that is down.
        slow: the one that stays besides.
        waiting: hints for the one that is down.
    """

    ring: Ring
    coordinator: int
    away: int
    slow: int
    waiting: int

    def pass_except_from(self, *silent: int) -> None:
        """From now on writes by these are not acknowledged."""

        def fate(message: Message) -> str:
            is_lost = message.verb == Verb.WRITE and message.is_reply and message.sender in silent
            return LOSE if is_lost or message.verb == Verb.STREAM else PASS

        self.ring.fate = fate

    def on_disk(self) -> dict[int, int]:
        """Hints that the coordinator has, by machine; they are counted right."""
        node = self.ring.node(self.coordinator)
        hints: dict[int, int] = {}
        for key, _ in node.ports.store.scan(HINTS, b"", b"\xff" * 13):
            machine = self.ring.index(NodeId(int.from_bytes(key[:4], "big")))
            hints[machine] = hints.get(machine, 0) + 1
        assert sum(hints.values()) == node.hints.total
        return hints


@pytest.fixture
def moving() -> Iterator[Moving]:
    ring = Ring(4)
    ring.set_up("CREATE TABLE ks.t (k int PRIMARY KEY, v int)")
    leaver = next(index for index in range(4) if ring.id(index) not in ring.node(0).view.voters)
    coordinator, away, slow = [index for index in range(4) if index != leaver]
    away_id = ring.id(away)
    ring.kill(away)
    for key in range(100):
        ring.done(coordinator, f"UPDATE ks.t SET v = 7 WHERE k = {key}", Consistency.ONE)
    moving = Moving(ring, coordinator, away, slow, ring.node(coordinator).hints.waiting(away_id))
    moving.pass_except_from()
    ring.machines[leaver].may_be_refused = True
    ring.node(coordinator).send_away(ring.id(leaver), is_dead=False)
    ring.run_for(3)
    assert ring.node(coordinator).view.move is not None
    assert moving.waiting
    yield moving
    ring.fate = everything_passes
    assert ring.world.run_until(lambda: ring.node(coordinator).view.move is None, 60)
    ring.rest()


def test_hints_don_t_multiply_while_a_range_moves_and_a_replica_is_slow(moving: Moving) -> None:
    moving.pass_except_from(moving.slow)
    moving.ring.start(moving.away)
    for _ in range(12):
        moving.ring.run_for(1)
        assert sum(moving.on_disk().values()) <= 2 * moving.waiting
    assert moving.away not in moving.on_disk()
    moving.pass_except_from()
    moving.ring.run_for(5)
    assert moving.on_disk() == {}
    for key in range(100):
        row = moving.ring.here(moving.away, "t", key)
        assert moving.away not in moving.ring.replicas("t", key) or (
            row is not None and as_int(row["v"]) == 7
        )


def test_a_table_that_isn_t_known_yet_is_not_taken_for_gone() -> None:
    """As when a node starts again, and hasn't heard yet up to where its log is decided: the hint stays."""
    ring = Ring(1)
    node = ring.node(0)
    hand_on = node.coordinator._hand_on
    with pytest.raises(StoreError) as unknown:
        hand_on(Mutation(node.view.schema.next_incarnation, b"", []), 0, lambda is_over: None)
    assert not isinstance(unknown.value, UnknownIncarnation)
    with pytest.raises(UnknownIncarnation):
        hand_on(Mutation(node.view.schema.next_incarnation - 1, b"", []), 0, lambda is_over: None)


def test_hints_don_t_multiply_while_a_range_moves_and_nobody_acknowledges(moving: Moving) -> None:
    moving.pass_except_from(moving.away, moving.slow)
    moving.ring.start(moving.away)
    for _ in range(12):
        moving.ring.run_for(1)
        assert max(moving.on_disk().values()) <= moving.waiting
    moving.pass_except_from()
    moving.ring.run_for(8)
    assert moving.on_disk() == {}
