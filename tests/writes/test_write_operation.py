"""A write's bookkeeping, in every order of acknowledgements, failures, losses and silence.

If this fails, clients get two answers or none, are told of a write that succeeded that it failed or the other way
round, get wrong counts, or a replica that missed a write never hears of it.
"""

from __future__ import annotations

import traceback
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.writes.bench import ME, Bench

from ourodb import limits
from ourodb.cql.wire.codes import Consistency
from ourodb.errors import (
    InvalidRequest,
    Overloaded,
    RequestError,
    ServerError,
    Unavailable,
    WriteFailure,
    WriteTimeout,
)
from ourodb.peer.messages import Verb
from ourodb.ports import NodeId
from ourodb.replication.coordinator.write import Together, WriteOperation, write_all
from ourodb.replication.messages import Reason
from ourodb.replication.replica.writes import Done

LEVELS = [
    Consistency.ANY,
    Consistency.ONE,
    Consistency.TWO,
    Consistency.THREE,
    Consistency.QUORUM,
    Consistency.ALL,
    Consistency.LOCAL_ONE,
    Consistency.LOCAL_QUORUM,
    Consistency.EACH_QUORUM,
]
LOCAL = (Consistency.LOCAL_ONE, Consistency.LOCAL_QUORUM)
REFUSALS = (Reason.OVERLOADED, Reason.READ_ONLY)
OUTCOMES = ("ack", "unknown", "overloaded", "read only", "gone", "lost", "silent", "unsent", "down")
REASONS = {
    "unknown": Reason.UNKNOWN,
    "overloaded": Reason.OVERLOADED,
    "read only": Reason.READ_ONLY,
    "gone": Reason.INCOMPATIBLE_SCHEMA,
}


def needed(level: int, centers: dict[int, str], acked: list[int]) -> bool:
    """Whether these acknowledgements are what the level asks for: said once more, in other words."""
    here = [node for node in centers if centers[node] == "dc1"]
    counted = len([node for node in acked if node in here]) if level in LOCAL else len(acked)
    half = len(centers) // 2 + 1
    if level == Consistency.EACH_QUORUM:
        names = sorted(set(centers.values()))
        sizes = {name: list(centers.values()).count(name) for name in names}
        return all(sum(centers[node] == name for node in acked) >= sizes[name] // 2 + 1 for name in names)
    required = {
        Consistency.ANY: 1,
        Consistency.ONE: 1,
        Consistency.TWO: 2,
        Consistency.THREE: 3,
        Consistency.QUORUM: half,
        Consistency.ALL: len(centers),
        Consistency.LOCAL_ONE: 1,
        Consistency.LOCAL_QUORUM: len(here) // 2 + 1,
    }[Consistency(level)]
    return counted >= required


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    nodes = draw(st.lists(st.integers(1, 7), min_size=1, max_size=6, unique=True))
    centers = {node: draw(st.sampled_from(["dc1", "dc2"])) for node in nodes}
    outcomes = {
        node: draw(st.sampled_from(("ack", "overloaded", "unknown", "silent") if node == ME else OUTCOMES))
        for node in nodes
    }
    return {
        "centers": centers,
        "outcomes": outcomes,
        "order": draw(st.permutations(nodes)),
        "level": draw(st.sampled_from(LEVELS)),
        "write_type": draw(st.sampled_from(["SIMPLE", "BATCH", "CAS", "COUNTER"])),
        "early": draw(st.booleans()),
        "no_room": draw(st.integers(0, 4)) == 0,
    }


@settings(max_examples=400)
@given(cases())
def test_every_order_gives_one_true_answer_and_leaves_nobody_without(case: dict[str, Any]) -> None:
    centers: dict[int, str] = case["centers"]
    outcomes: dict[int, str] = case["outcomes"]
    level: int = case["level"]
    bench = Bench(range(1, 8))
    for node, outcome in outcomes.items():
        if outcome == "down":
            bench.peers.up[NodeId(node)] = False
        elif outcome == "unsent":
            bench.links[NodeId(node)].takes = False
    factors = {name: list(centers.values()).count(name) for name in set(centers.values())}
    route = bench.route(centers, factors=factors)
    alive = [node for node in centers if outcomes[node] != "down"]
    if level != Consistency.ANY and not needed(level, centers, alive):
        with pytest.raises(Unavailable) as caught:
            route.write_need(level)
        if level != Consistency.EACH_QUORUM:
            counted = [node for node in alive if level not in LOCAL or centers[node] == "dc1"]
            assert caught.value.alive == len(counted)
        assert caught.value.alive < caught.value.required
        return
    need = route.write_need(level)
    bench.store.refuses_apply = case["no_room"]

    answers: list[RequestError | None] = []
    overs: list[bool] = []
    here: list[Done] = []
    mutation = bench.mutation()
    operation = WriteOperation(
        bench.context, mutation, route, need, case["write_type"], answers.append, overs.append
    )
    refusal = Overloaded("no room") if outcomes.get(ME) == "overloaded" else ServerError("broken")

    def write_here(done: Done) -> None:
        here.append(done)
        if case["early"] and outcomes[ME] in ("overloaded", "unknown"):
            done(refusal)

    operation.send_as(Verb.WRITE, mutation.encode(), write_here)
    acked: list[int] = []
    silent = [node for node in alive if outcomes[node] == "silent"]
    bench.settle()
    request = next((link.messages[0][2] for link in bench.links.values() if link.messages), 0)
    for node in case["order"]:
        outcome = outcomes[node]
        was_answered = bool(answers)
        if node == ME:
            if outcome == "ack":
                acked.append(node)
                here[0](None)
            elif outcome != "silent" and not case["early"]:
                here[0](refusal)
        elif outcome == "ack":
            acked.append(node)
            bench.answer(node, request)
            # A second answer of the same node counts for nothing.
            bench.answer(node, request)
        elif outcome in REASONS:
            bench.answer(node, request, REASONS[outcome].to_bytes(2, "big"))
        elif outcome == "lost":
            bench.peers.lost(NodeId(node))
        bench.settle()
        if not was_answered and level != Consistency.ANY:
            assert (None in answers) == needed(level, centers, acked)
    bench.pass_ms(limits.WRITE_TIMEOUT_MS + 100)
    if ME in silent:
        here[0](None)
    bench.settle()

    assert len(answers) == 1
    assert bench.peers.in_flight == 0
    answer = answers[0]
    hinted = [node for node in centers if bench.hints.waiting(NodeId(node))]
    put_aside = [int(node) for node, _ in bench.hints._unkept]
    assert ME not in hinted
    if level == Consistency.ANY:
        assert (answer is None) == bool(acked or hinted)
    else:
        assert (answer is None) == needed(level, centers, acked)
    if isinstance(answer, WriteTimeout | WriteFailure):
        assert answer.received < answer.required == need.required
        assert answer.write_type == case["write_type"]
    if isinstance(answer, Overloaded) and not route.alone:
        # Nothing was done, and nothing will be.
        assert not acked
        assert not hinted
        assert not put_aside
        assert {outcomes[node] for node in alive} <= {"overloaded", "read only"}
        assert len(alive) == len(centers)
    else:
        owed = [node for node in centers if node != ME and node not in acked and outcomes[node] != "gone"]
        assert sorted(put_aside if case["no_room"] else hinted) == sorted(owed)
        assert all(bench.hints.waiting(NodeId(node)) == 1 for node in hinted)
    has_all = all(
        node in acked or node in hinted or (node != ME and outcomes[node] == "gone") for node in centers
    )
    assert overs == [has_all]


@pytest.mark.parametrize("level", [Consistency.SERIAL, Consistency.LOCAL_SERIAL])
def test_serial_levels_are_for_conditions(level: int) -> None:
    bench = Bench()
    with pytest.raises(InvalidRequest):
        bench.route({1: "dc1", 2: "dc1", 3: "dc1"}).write_need(level)


def test_each_quorum_counts_only_what_it_asks_for() -> None:
    """Three acknowledgements of one data centre, where two are asked for, and none of the other: two received."""
    bench = Bench(range(1, 7))
    centers = {1: "dc1", 2: "dc1", 3: "dc1", 4: "dc2", 5: "dc2", 6: "dc2"}
    route = bench.route(centers, factors={"dc1": 3, "dc2": 3})
    answers: list[RequestError | None] = []
    write_all(
        bench.context, [bench.mutation()], [route], Consistency.EACH_QUORUM, "SIMPLE", 0, answers.append
    )
    request = bench.links[NodeId(2)].messages[0][2]
    bench.settle()
    for node in (2, 3):
        bench.answer(node, request)
    bench.pass_ms(limits.WRITE_TIMEOUT_MS + 100)
    (error,) = answers
    assert isinstance(error, WriteTimeout)
    assert (error.received, error.required) == (2, 4)


def test_unavailable_names_the_data_centre_that_lacks_replicas() -> None:
    bench = Bench(range(1, 7))
    for node in (5, 6):
        bench.peers.up[NodeId(node)] = False
    centers = {1: "dc1", 2: "dc1", 3: "dc1", 4: "dc2", 5: "dc2", 6: "dc2"}
    route = bench.route(centers, factors={"dc1": 3, "dc2": 3})
    with pytest.raises(Unavailable, match="Cannot achieve consistency level EACH_QUORUM in DC dc2") as caught:
        route.write_need(Consistency.EACH_QUORUM)
    assert (caught.value.required, caught.value.alive) == (2, 1)
    assert route.write_need(Consistency.LOCAL_QUORUM).required == 2
    with pytest.raises(Unavailable) as caught:
        bench.route(centers, here="dc2", factors={"dc1": 3, "dc2": 3}).write_need(Consistency.LOCAL_QUORUM)
    assert (caught.value.required, caught.value.alive) == (2, 1)


@pytest.mark.parametrize("way", ["write_need", "read_nodes"])
def test_what_can_t_be_had_keeps_nothing_of_those_who_asked(way: str) -> None:
    """A route remembers the error; its traceback would hold each request that met it, for as long as a node is down."""
    bench = Bench((1,))
    route = bench.route({1: "dc1"}, factors={"dc1": 3})
    lengths = set()
    for _ in range(20):
        with pytest.raises(Unavailable) as caught:
            getattr(route, way)(Consistency.QUORUM)
        lengths.add(len(list(traceback.walk_tb(caught.value.__traceback__))))
    assert len(lengths) == 1


def test_the_replication_factor_counts_and_not_how_many_nodes_there_are() -> None:
    bench = Bench((1,))
    route = bench.route({1: "dc1"}, factors={"dc1": 3})
    assert route.alone
    with pytest.raises(Unavailable) as caught:
        route.write_need(Consistency.QUORUM)
    assert (caught.value.required, caught.value.alive) == (2, 1)


def test_any_is_content_with_a_hint_that_is_on_disk_and_not_with_less() -> None:
    for refuses in (False, True):
        bench = Bench()
        for node in (2, 3):
            bench.peers.up[NodeId(node)] = False
        answers: list[RequestError | None] = []
        route = bench.route({2: "dc1", 3: "dc1"})
        write_all(bench.context, [bench.mutation()], [route], Consistency.ANY, "SIMPLE", 0, answers.append)
        bench.store.refuses_settle = refuses
        bench.settle()
        assert len(answers) == 1
        assert (answers[0] is None) is not refuses


def test_a_batch_is_answered_once_by_its_first_error() -> None:
    answers: list[RequestError | None] = []
    together = Together(3, answers.append, WriteTimeout(1, 0, 1, "BATCH"))
    together(None)
    together(ServerError("first"))
    together(ServerError("second"))
    assert [str(answer) for answer in answers] == ["first"]
    answers.clear()
    together = Together(2, answers.append, WriteTimeout(1, 0, 1, "BATCH"))
    together(None)
    assert answers == []
    together(None)
    assert answers == [None]


def test_a_part_that_was_refused_doesn_t_say_that_nothing_was_done() -> None:
    answers: list[RequestError | None] = []
    together = Together(2, answers.append, WriteTimeout(1, 0, 1, "BATCH"))
    together(Overloaded("no room"))
    assert isinstance(answers[0], WriteTimeout)
