"""Mistakes planted in lightweight transactions, which the simulator has to find.

If this fails, it is blind to statements that were acknowledged and are lost, or applied on what nobody should have
seen, and a clean run of registers says less than it seems to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest
from tests.sim.planted.hunt import hunt

from ourodb.errors import RequestError
from ourodb.replication import routes
from ourodb.replication.paxos.acceptor import Acceptor, Answer
from ourodb.replication.paxos.ballots import Prepare
from ourodb.replication.paxos.proposer import Phase, Proposer
from ourodb.sim.workloads.monotonic import READ, MonotonicWorkload
from ourodb.sim.workloads.register import NO_VALUE
from ourodb.sim.workloads.stage import KEYSPACE, Reply, Script, bigint, from_bigint
from ourodb.storage.row import Wait

WRITE: Final = f"UPDATE {KEYSPACE}.versions SET version = ? WHERE id = ? IF version != ?"


def quorum_off_by_one(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(routes, "quorum", lambda factor: max(1, factor // 2))


def test_a_quorum_of_paxos_that_is_one_too_small() -> None:
    hunt(quorum_off_by_one, "isn't linearizable", "register", seconds=1)


class _Forgetful:
    """A store that takes no promises."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def apply(self, writes: Any) -> None:
        """Nothing of it is kept."""


def promise_not_kept(patch: pytest.MonkeyPatch) -> None:
    prepare = Acceptor.prepare

    def forgets(self: Acceptor, request: Prepare, answer: Answer) -> None:
        store = self._store
        self._store = _Forgetful(store)
        try:
            prepare(self, request, answer)
        finally:
            self._store = store

    patch.setattr(Acceptor, "prepare", forgets)


def test_a_ballot_that_is_promised_and_not_kept() -> None:
    hunt(promise_not_kept, "isn't linearizable", "register", seconds=1)


def ballot_not_persisted(patch: pytest.MonkeyPatch) -> None:
    """Promises, acceptances and commits wait for a sync only where all writes do."""

    def run(
        self: Acceptor,
        step: Callable[[], Wait | None],
        reply: Callable[[], bytes],
        answer: Answer,
        again: Callable[[], None] | None = None,
    ) -> None:
        self._writes.run(step, lambda error: answer(reply() if error is None else error), again=again)

    patch.setattr(Acceptor, "_run", run)


def test_a_ballot_that_is_answered_for_before_it_is_on_disk() -> None:
    hunt(ballot_not_persisted, "isn't linearizable", "register", ("blackout",), sync_period_ms=1_000)


def in_doubt_not_finished(patch: pytest.MonkeyPatch) -> None:
    """Whoever prepares and finds a proposal that was accepted but not committed goes on as if there were none."""
    promised = Proposer._promised

    def overlooks(self: Proposer) -> None:
        for promise in self._promises.values():
            if promise.accepted > promise.committed:
                promise.accepted, promise.proposal = promise.committed, b""
        promised(self)

    patch.setattr(Proposer, "_promised", overlooks)


def test_a_commit_that_is_lost_between_propose_and_commit() -> None:
    hunt(in_doubt_not_finished, "isn't linearizable", "register", seconds=1)


def commit_never_sent(patch: pytest.MonkeyPatch) -> None:
    """The client is answered as soon as its update is chosen; whoever comes next may commit it."""
    commit = Proposer._commit

    def leave_it(self: Proposer, level: int, then: Callable[[RequestError | None], None]) -> None:
        if self._phase is Phase.FINISHING:
            commit(self, level, then)
        else:
            then(None)

    patch.setattr(Proposer, "_commit", leave_it)


class CommittedWorkload(MonotonicWorkload):
    """Versions that are written by conditional updates, and read at QUORUM."""

    name = "committed"

    def run_client(self, number: int) -> Script[None]:
        stage, history = self._stage, self._stage.history
        client = stage.client(number)
        self._versions[number] = 0
        while not stage.is_over:
            version = self._versions[number] = self._versions[number] + 1
            operation = history.invoke(number, "write", number, version)
            values = (bigint(version), bigint(number), bigint(NO_VALUE))
            reply: Reply = yield client.execute(WRITE, values)
            history.complete(operation, reply.outcome, None, reply.error_name)
            operation = history.invoke(number, "read", number)
            reply = yield client.execute(READ, (bigint(number),))
            found = from_bigint(reply.cell("version")) if reply.rows else None
            history.complete(operation, reply.outcome, found or 0, reply.error_name)
            yield stage.sleep(stage.random.below(20) / 1000)


def test_a_commit_that_is_never_sent() -> None:
    hunt(commit_never_sent, "went back in time", CommittedWorkload, seconds=1)
