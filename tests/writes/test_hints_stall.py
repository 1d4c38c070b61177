"""Hints in a store that stalls: what it doesn't give or take for a moment is tried again with the next round.

If this fails, a node that was back doesn't get what it missed before the one that has its hints is started anew.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.writes.bench import Bench, Store
from tests.writes.test_hints import messages
from tests.writes.test_hints_handed_on import THREE, TWO, Owners, add, check_counts, leave

from ourodb import limits
from ourodb.errors import Overloaded
from ourodb.storage.families import HINTS


class StallingStore(Store):
    """A store that first writes what is pending when it is scanned, as RocksDB's does, and can't while it stalls."""

    def scan(
        self, family: int, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        if self.refuses_settle and self._unsettled:
            raise Overloaded("the store can't take writes this fast; try again")
        return super().scan(family, start, end, reverse=reverse)


@pytest.mark.parametrize("leaves", [False, True])
def test_a_store_that_can_t_be_read_ends_no_delivery_for_good(leaves: bool) -> None:
    bench = Bench(store=StallingStore())
    owners = Owners(bench)
    bench.hints.is_for = lambda node, mutation: True
    add(bench, TWO, 1)
    if leaves:
        leave(bench, TWO)
    # Another hint waits in memory, and is tried again with each round before anything is read.
    bench.store.refuses_settle = True
    bench.hints.add(TWO, bench.mutation(2, 2))
    bench.settle()
    for _ in range(2):
        bench.hints.deliver()
        bench.settle()
    assert (bench.hints.total, len(messages(bench)), owners.count) == (2, 0, 0)
    bench.store.refuses_settle = False
    bench.hints.deliver()
    bench.settle()
    assert owners.count == 2 if leaves else len(messages(bench)) == 1


def test_a_store_that_stalls_when_a_batch_is_acknowledged() -> None:
    """The batch is over once, and not again when its time is up."""
    bench = Bench(store=StallingStore())
    count = (limits.HINTS_IN_FLIGHT_MAX + 1) * limits.HINT_BATCH_MUTATIONS_MAX
    add(bench, TWO, count)
    bench.hints.deliver()
    sent = messages(bench)
    bench.store.refuses_settle = True
    for _, request, _ in sent:
        bench.answer(2, request)
    bench.settle()
    bench.store.refuses_settle = False
    bench.pass_ms(6_000)
    assert bench.peers.in_flight == 0
    # What couldn't be deleted is there still, and goes once more.
    check_counts(bench, count)
    while bench.hints.total:
        bench.hints.deliver()
        for _, request, _ in messages(bench):
            bench.answer(2, request)
        bench.settle()
    check_counts(bench, 0)


def test_room_isn_t_looked_for_in_a_store_that_can_t_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever leaves a hint in the midst of something else hears no, and goes on."""
    bench = Bench(store=StallingStore())
    add(bench, TWO, 1)
    monkeypatch.setattr(limits, "HINT_BYTES_MAX", 2 * bench.hints.bytes)
    assert bench.hints.add(TWO, bench.mutation(2, 2))
    bench.store.refuses_settle = True
    assert not bench.hints.add(THREE, bench.mutation(3, 3))
    assert bench.hints.dropped == 1


def test_hints_whose_deletion_failed_are_counted_still() -> None:
    bench = Bench()
    add(bench, TWO, 3)
    bench.hints.deliver()
    bench.store.refuses_settle = True
    bench.answer(2, messages(bench)[0][1])
    bench.settle()
    bench.store.refuses_settle = False
    check_counts(bench, 3)
    bench.hints.deliver()
    bench.answer(2, messages(bench)[1][1])
    bench.settle()
    check_counts(bench, 0)


def test_hints_that_are_gone_though_their_deletion_failed_are_not_waited_for() -> None:
    bench = Bench()
    add(bench, TWO, 3)
    bench.store.apply([(HINTS, key, None) for key, _ in bench.store.scan(HINTS, b"", b"\xff" * 13)])
    bench.settle()
    bench.hints.deliver()
    bench.settle()
    check_counts(bench, 0)


def test_a_copy_that_the_store_didn_t_take_is_no_copy() -> None:
    bench = Bench()
    owners = Owners(bench)
    owners.failing = (THREE,)
    add(bench, TWO, 1)
    bench.hints.deliver()
    bench.store.refuses_settle = True
    owners.answer()
    bench.settle()
    # The hint for node 3 waits in memory. The other one wasn't deleted either.
    assert (bench.hints.waiting(TWO), bench.hints.waiting(THREE), bench.hints.total) == (1, 0, 2)
    bench.store.refuses_settle = False
    bench.peers.up[THREE] = False
    bench.hints.deliver()
    bench.settle()
    owners.answer()
    bench.settle()
    assert bench.hints.waiting(TWO) == 0
    assert bench.hints.waiting(THREE) > 0
