"""One acceptor, whatever it is asked in whatever order.

If this fails, a replica breaks a promise, and two different proposals can be chosen.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tests.writes.bench import TABLE, Bench

from ourodb.errors import RequestError
from ourodb.replication.paxos.acceptor import Acceptor
from ourodb.replication.paxos.ballots import (
    NO_BALLOT,
    Ballot,
    Commit,
    Prepare,
    Promise,
    Propose,
    decode_accepted,
    decode_promise,
)
from ourodb.replication.replica.reads import SlicesCommand
from ourodb.replication.replica.replica import Replica
from ourodb.storage.chunk import decode_chunk
from ourodb.storage.keys import ALL_ROWS


class Asked:
    """An acceptor on a store in memory; it is made anew, as by a restart, before each request."""

    def __init__(self) -> None:
        self.bench = Bench()
        self.position = self.bench.mutation().position

    def acceptor(self) -> Acceptor:
        bench = self.bench
        replica = Replica(bench.rows, bench.store, bench.writes, bench.peers, bench.clock)
        return Acceptor(bench.rows, bench.store, bench.writes, bench.peers, bench.clock, replica)

    def _answer(self, outcomes: list[bytes | RequestError]) -> bytes:
        self.bench.settle()
        (outcome,) = outcomes
        assert isinstance(outcome, bytes), outcome
        return outcome

    def prepare(self, ballot: Ballot) -> Promise:
        outcomes: list[bytes | RequestError] = []
        read = SlicesCommand(self.bench.rows.register(TABLE), self.position, ALL_ROWS, 0).body(digest=False)
        self.acceptor().prepare(Prepare(ballot, TABLE.incarnation, self.position, read), outcomes.append)
        return decode_promise(self._answer(outcomes))

    def propose(self, ballot: Ballot, value: int | None) -> Ballot:
        outcomes: list[bytes | RequestError] = []
        request = Propose(ballot, TABLE.incarnation, self.position, self.proposal(value, ballot), ballot)
        self.acceptor().propose(request, outcomes.append)
        return decode_accepted(self._answer(outcomes)).promised

    def commit(self, ballot: Ballot, value: int) -> None:
        outcomes: list[bytes | RequestError] = []
        proposal = self.proposal(value, ballot)
        self.acceptor().commit(
            Commit(ballot, TABLE.incarnation, self.position, proposal, (ballot,)), outcomes.append
        )
        self._answer(outcomes)

    def proposal(self, value: int | None, ballot: Ballot) -> bytes:
        return b"" if value is None else self.bench.mutation(1, value, ballot[0]).encode()


ballots = st.tuples(st.integers(1, 6), st.integers(1, 3))
steps = st.lists(
    st.tuples(st.sampled_from(["prepare", "propose", "propose nothing", "commit"]), ballots), max_size=25
)


@given(steps)
def test_promises_are_kept(requests: list[tuple[str, Ballot]]) -> None:
    asked = Asked()
    promised = NO_BALLOT
    accepted: tuple[Ballot, bytes] = NO_BALLOT, b""
    committed: dict[Ballot, int] = {}
    for step, ballot in requests:
        value = ballot[0] * 10 + ballot[1]
        if step == "prepare":
            promise = asked.prepare(ballot)
            # A ballot's microseconds are a timestamp: no two that are promised may share it.
            if ballot != promised and ballot[0] <= promised[0]:
                assert promise == Promise(promised)
                continue
            promised = ballot
            assert promise.promised == ballot
            assert (promise.accepted, promise.proposal or b"") == accepted
            assert promise.committed == max(committed, default=NO_BALLOT)
            rows = decode_chunk(promise.chunk).partitions
            assert bool(rows) == bool(committed)
        elif step == "commit":
            asked.commit(ballot, value)
            committed[ballot] = value
            promised = max(promised, ballot)
            if accepted[0] <= ballot:
                accepted = ballot, asked.proposal(value, ballot)
        else:
            proposed = None if step == "propose nothing" else value
            answer = asked.propose(ballot, proposed)
            if ballot < promised or ballot <= max(committed, default=NO_BALLOT):
                assert answer != ballot or ballot in committed
                continue
            assert answer == ballot
            promised = ballot
            accepted = ballot, asked.proposal(proposed, ballot)


def test_a_commit_keeps_what_a_replica_that_missed_it_needs() -> None:
    asked = Asked()
    asked.prepare((10, 1))
    asked.propose((10, 1), 7)
    asked.commit((10, 1), 7)
    promise = asked.prepare((20, 1))
    assert (promise.committed, promise.accepted) == ((10, 1), (10, 1))
    assert promise.proposal == asked.proposal(7, (10, 1))
    assert (promise.history, promise.origin) == (((10, 1),), (10, 1))


def test_a_table_that_isn_t_known_is_an_error_and_nothing_is_promised() -> None:
    asked = Asked()
    outcomes: list[bytes | RequestError] = []
    asked.acceptor().propose(Propose((10, 1), 4711, asked.position, b"", (10, 1)), outcomes.append)
    asked.bench.settle()
    assert isinstance(outcomes[0], RequestError)
