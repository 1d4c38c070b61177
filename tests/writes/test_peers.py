"""Requests to peers and their numbers.

If this fails, answers reach the wrong operation or none, operations wait for ever, or a node forgets to time out.
"""

from __future__ import annotations

import pytest
from tests.writes.bench import Bench

from ourodb import limits
from ourodb.cql.wire.codes import Consistency
from ourodb.errors import Overloaded, RequestError
from ourodb.ports import BULK, DATA, URGENT, NodeId
from ourodb.replication.coordinator.write import write_all
from ourodb.replication.peers import MASK, STEP, TIMEOUTS_MS, RequestClass


class Waiting:
    """An operation that notes what it hears.

    Attributes:
        wanted: answers after which it is done.
    """

    def __init__(self, wanted: int = 1) -> None:
        self.started_ms = 0
        self.wanted = wanted
        self.heard: list[object] = []

    def on_reply(self, node: NodeId, flags: int, body: bytes) -> bool:
        self.heard.append((node, flags, body))
        return len(self.heard) >= self.wanted

    def on_expired(self) -> None:
        self.heard.append("expired")

    def on_lost(self, node: NodeId) -> bool:
        self.heard.append(f"lost {node}")
        return True

    def on_tick(self, waited_ms: int) -> bool:
        return False


@pytest.mark.parametrize("kind", list(RequestClass))
def test_each_class_waits_as_long_as_it_says(kind: RequestClass) -> None:
    bench = Bench()
    operation = Waiting()
    request = bench.peers.begin(kind, operation)
    bench.pass_ms(TIMEOUTS_MS[kind] - 20)
    assert operation.heard == []
    assert bench.peers.in_flight == 1
    bench.pass_ms(100)
    assert operation.heard == ["expired"]
    assert (bench.peers.in_flight, bench.peers.expired) == (0, 1)
    bench.answer(2, request)
    assert operation.heard == ["expired"]
    # Nothing waits, so nothing ticks.
    assert bench.scheduler.timers == []


def test_an_answer_finds_its_operation_and_ends_it() -> None:
    bench = Bench()
    operations = [Waiting(2) for _ in range(50)]
    requests = [bench.peers.begin(RequestClass(index % 6), one) for index, one in enumerate(operations)]
    assert len(set(requests)) == 50
    for operation, request in reversed(list(zip(operations, requests, strict=True))):
        bench.answer(2, request)
        bench.answer(3, request)
        bench.answer(3, request)
        assert [heard[0] for heard in operation.heard] == [2, 3]  # type: ignore[index]
    assert bench.peers.in_flight == 0


def test_no_request_has_the_number_that_means_none() -> None:
    """Messages that ask for no answer are answered all the same: with number 0, which must be nobody's."""
    bench = Bench()
    bench.peers._number = MASK & ~(STEP - 1)
    requests = [bench.peers.begin(RequestClass.WRITE, Waiting()) for _ in range(3)]
    assert 0 not in requests
    bench.peers.end(0)
    assert bench.peers.in_flight == 3


def test_numbers_wrap_around_those_that_still_wait() -> None:
    bench = Bench()
    first = [Waiting() for _ in range(10)]
    bench.peers._number = MASK - 5 * STEP & ~(STEP - 1)
    requests = [bench.peers.begin(RequestClass.READ, one) for one in first]
    bench.peers._number = MASK - 5 * STEP & ~(STEP - 1)
    again = [bench.peers.begin(RequestClass.READ, Waiting()) for _ in range(10)]
    assert not set(requests) & set(again)
    assert bench.peers.in_flight == 20


def test_what_raises_doesn_t_stop_the_clock_for_others() -> None:
    bench = Bench()

    class Broken(Waiting):
        def on_expired(self) -> None:
            raise ZeroDivisionError

    bench.peers.begin(RequestClass.WRITE, Broken())
    others = [Waiting(), Waiting()]
    for other in others:
        bench.peers.begin(RequestClass.WRITE, other)
    with pytest.raises(ZeroDivisionError):
        bench.pass_ms(limits.WRITE_TIMEOUT_MS + 100)
    bench.pass_ms(100)
    assert [other.heard for other in others] == [["expired"], ["expired"]]
    assert bench.peers.in_flight == 0


def test_an_operation_that_another_ended_doesn_t_hear_that_its_time_is_up() -> None:
    bench = Bench()
    other = Waiting()

    class Ending(Waiting):
        def on_expired(self) -> None:
            bench.peers.end(request)

    bench.peers.begin(RequestClass.READ, Ending())
    request = bench.peers.begin(RequestClass.READ, other)
    bench.pass_ms(limits.READ_TIMEOUT_MS + 100)
    assert other.heard == []
    assert bench.peers.in_flight == 0


def test_an_operation_may_begin_another_when_its_time_is_up() -> None:
    bench = Bench()
    second = Waiting()

    class Trying(Waiting):
        def on_expired(self) -> None:
            bench.peers.begin(RequestClass.WRITE, second)

    bench.peers.begin(RequestClass.PAXOS, Trying())
    bench.pass_ms(limits.PAXOS_TIMEOUT_MS + 50)
    assert (bench.peers.in_flight, second.heard) == (1, [])
    bench.pass_ms(limits.WRITE_TIMEOUT_MS + 50)
    assert (bench.peers.in_flight, second.heard) == (0, ["expired"])


def test_what_travels_on_a_lost_lane_hears_of_it() -> None:
    bench = Bench()
    operations = {kind: Waiting() for kind in RequestClass}
    for kind, operation in operations.items():
        bench.peers.begin(kind, operation)
    bench.peers.lost(NodeId(2), URGENT)
    assert bench.peers.in_flight == len(RequestClass)
    bench.peers.lost(NodeId(2), BULK)
    assert [kind for kind in RequestClass if operations[kind].heard] == [
        RequestClass.HINT,
        RequestClass.STREAM,
    ]
    bench.peers.lost(NodeId(2), DATA)
    assert all(operation.heard == ["lost 2"] for operation in operations.values())
    assert bench.peers.in_flight == 0


def test_all_that_was_asked_of_a_lost_node_hears_of_it() -> None:
    bench = Bench()
    operations = [Waiting() for _ in RequestClass]
    for kind, operation in zip(RequestClass, operations, strict=True):
        bench.peers.begin(kind, operation)
    bench.peers.lost(NodeId(2))
    assert [operation.heard for operation in operations] == [["lost 2"]] * len(operations)
    assert bench.peers.in_flight == 0


def test_what_is_under_way_when_a_node_stops_is_left_to_others_as_hints() -> None:
    bench = Bench()
    route = bench.route({1: "dc1", 2: "dc1", 3: "dc1"})
    answers: list[RequestError | None] = []
    write_all(bench.context, [bench.mutation()], [route], Consistency.QUORUM, "SIMPLE", 0, answers.append)
    bench.settle()
    bench.answer(2, bench.links[NodeId(2)].messages[0][2])
    assert answers == [None]
    bench.peers.stop()
    bench.settle()
    assert [bench.hints.waiting(NodeId(node)) for node in (2, 3)] == [0, 1]
    assert (answers, bench.peers.in_flight, bench.scheduler.timers) == ([None], 0, [])


def test_there_is_a_bound() -> None:
    bench = Bench()
    operations = [Waiting() for _ in range(limits.PEER_REQUESTS_MAX + 1)]
    for operation in operations:
        bench.peers.check_room()
        bench.peers.begin(RequestClass.WRITE, operation)
    with pytest.raises(Overloaded):
        bench.peers.check_room()
    bench.pass_ms(limits.WRITE_TIMEOUT_MS + 50)
    assert all(operation.heard == ["expired"] for operation in operations)
    bench.peers.check_room()
