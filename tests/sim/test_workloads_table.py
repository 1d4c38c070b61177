"""The table workload on production nodes without faults: what its model says is what they answer.

If this fails, either the model misunderstands CQL or the nodes do; and no violation that the workload reports under
faults can be trusted. That the model finds what is wrong is tested with histories by hand.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ourodb import limits
from ourodb.node import Node
from ourodb.ports import Ports
from ourodb.sim.checkers.rows import (
    MARKER,
    Change,
    Clear,
    Column,
    Delete,
    Key,
    Put,
    Shape,
    Slice,
    Write,
)
from ourodb.sim.checkers.selects import ResultRow, Select
from ourodb.sim.checkers.tables import Judgement, check_tables
from ourodb.sim.faults.kinds import FAULTS
from ourodb.sim.history import NEVER, Operation, Outcome
from ourodb.sim.machine import Machine
from ourodb.sim.ouro import OuroProgram, build_node, inspect
from ourodb.sim.run import Plan, SimStage, run
from ourodb.sim.workloads import table
from ourodb.sim.workloads.table import TableWorkload
from ourodb.sim.workloads.tables import draw_shape
from ourodb.sim.world import World
from ourodb.storage import expiry, upkeep

DONE, REFUSED, UNKNOWN = Outcome.DONE, Outcome.REFUSED, Outcome.UNKNOWN

SHAPE = Shape(
    "t",
    (Column("p", "int"),),
    (Column("c", "int"), Column("d", "text")),
    (False, True),
    (Column("s", "int"),),
    (Column("v", "int"), Column("e", "set<int>"), Column("m", "map<text, int>")),
)
COLUMNS = ("c", "d", "s", "v")


@pytest.mark.parametrize("seed", range(2))
def test_nodes_without_faults_answer_as_the_model_says(seed: int) -> None:
    verdict = run(Plan(seed, "table", seconds=3, quiet_seconds=1, clients=3), build_node, inspect)
    assert verdict.is_ok, "\n".join([*verdict.problems, verdict.line()])
    assert set(verdict.operations) == {"done"}


def test_most_reads_are_judged() -> None:
    world = World(5)
    world.start(world.add_machines(3, build_node))
    stage = SimStage(world)
    workload = TableWorkload(stage)
    world.carry_out(workload.set_up(), 20)
    clients = [world.spawn(workload.run_client(number)) for number in range(3)]
    world.run_for(3)
    stage.is_over = True
    assert world.run_until(lambda: all(client.is_kept for client in clients), 10)
    world.carry_out(workload.finish(), 60)
    reads = [operation for operation in stage.history if operation.kind != "write"]
    assert workload.problems() == workload.stale() == []
    assert workload.judgement().judged > len(reads) * 9 // 10


@pytest.mark.parametrize("seed", range(2))
def test_purging_in_the_midst_changes_no_answer(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tombstones go after two seconds, while faults strike; but no clocks jump, on which the age of a hint depends.

    Replicas aren't compared: for a second after its time a tombstone counts on one of them and not on another.
    """
    monkeypatch.setattr(expiry, "HOUR_S", 1)
    monkeypatch.setattr(upkeep, "PURGE_EVERY_MS", 300)
    # A slice for each partition, for more to happen between them.
    monkeypatch.setattr(limits, "PURGE_PARTITION_KEYS", limits.PURGE_SLICE_KEYS)
    monkeypatch.setattr(table, "draw_shape", lambda *some: replace(draw_shape(*some), gc_grace_seconds=2))
    nodes: list[Node] = []

    def build(machine: Machine, ports: Ports) -> OuroProgram:
        program = OuroProgram(machine, ports)
        nodes.append(program.node)
        return program

    faults = tuple(fault for fault in FAULTS if fault != "clock")
    verdict = run(Plan(seed, "table", seconds=6, quiet_seconds=3, clients=3, faults=faults), build)
    assert verdict.is_ok, "\n".join([*verdict.problems, verdict.line()])
    assert sum(node.upkeep.purge_slices for node in nodes) > 100


def test_shapes_are_of_many_kinds() -> None:
    world = World(1)
    shapes = [draw_shape(world.chance, "t") for _ in range(100)]
    assert len({shape.create() for shape in shapes}) > 50
    assert {len(shape.clustering) for shape in shapes} == {0, 1, 2}
    assert {len(shape.partition) for shape in shapes} == {1, 2}
    assert any(shape.statics for shape in shapes)


# --- Histories by hand -----------------------------------------------------------------------------------------


class Script:
    """A history in the making; every operation takes one nanosecond, and the next begins one later."""

    def __init__(self) -> None:
        self.history: list[Operation] = []
        self.now_ns = 0

    def _add(self, kind: str, argument: Any, outcome: Outcome, result: Any, takes_ns: int = 1) -> Operation:
        end = NEVER if outcome is UNKNOWN else self.now_ns + takes_ns
        operation = Operation(0, kind, 0, argument, self.now_ns, end, outcome, result)
        self.history.append(operation)
        self.now_ns += 2
        return operation

    def write(self, timestamp: int, *changes: Change, key: Key = (1,), outcome: Outcome = DONE) -> Operation:
        number = len(self.history) + 1
        return self._add(
            "write", Write(number, "t", key, tuple((timestamp, one) for one in changes)), outcome, None
        )

    def read(
        self, *rows: ResultRow, columns: tuple[str, ...] = COLUMNS, kind: str = "read", **select: Any
    ) -> None:
        select.setdefault("keys", ((1,),))
        self._add(kind, Select("t", columns, **select), DONE, list(rows))

    def judge(self) -> Judgement:
        return check_tables(self.history, {"t": SHAPE})


def insert(c: int, d: str, v: int | None = None, expires: bool = False) -> list[Change]:
    return [Put((c, d), MARKER, None, True, expires), Put((c, d), "v", None, v, expires)]


def test_rows_come_in_their_order_with_their_newest_values() -> None:
    script = Script()
    script.write(20, *insert(1, "a", 5))
    script.write(10, *insert(1, "a", 7))
    script.write(30, *insert(1, "b"), Put(None, "s", None, 9))
    script.write(31, *insert(0, "x", 1))
    script.read((0, "x", 9, 1), (1, "b", 9, None), (1, "a", 9, 5))
    script.read((1, "a", 9, 5), (1, "b", 9, None), (0, "x", 9, 1), reverse=True)
    script.read((0, "x", 9, 1), (1, "b", 9, None), limit=2)
    script.read((1, "b", 9, None), rows=Slice((1,), low=("a", False)))
    script.read((20,), columns=("writetime(v)",), rows=Slice((1, "a")))
    script.read((3,), columns=("count",), counts=True)
    script.read((1, 9), columns=("p", "s"), distinct=True, keys=None)
    assert script.judge().problems == []
    assert script.judge().judged == 7


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([(1, "a", None, 1)], id="a row is missing"),
        pytest.param([(1, "a", None, 1), (2, "a", None, 1)], id="a value is older"),
        pytest.param([(2, "a", None, 2), (1, "a", None, 1)], id="the order is wrong"),
        pytest.param([(1, "a", None, 1), (2, "a", None, 2), (3, "a", None, 3)], id="a deleted row is back"),
        pytest.param([(1, "a", None, 1), (1, "a", None, 1), (2, "a", None, 2)], id="a row comes twice"),
        pytest.param([], id="there is nothing"),
    ],
)
@pytest.mark.parametrize("keys", [((1,),), None])
def test_a_wrong_read_is_found(rows: list[ResultRow], keys: tuple[Key, ...] | None) -> None:
    script = Script()
    for c, v in ((1, 1), (2, 1), (3, 3)):
        script.write(c, *insert(c, "a", v))
    script.write(10, Put((2, "a"), "v", None, 2))
    script.write(11, Delete((3, "a")))
    script.read((1, "a", None, 1), (2, "a", None, 2), keys=keys)
    assert script.judge().problems == []
    script.read(*rows, keys=keys)
    (problem,) = script.judge().problems
    assert "a read is wrong" in problem


@pytest.mark.parametrize(
    ("deletion", "is_left"),
    [
        (Delete(None), False),
        (Delete((1, "b")), False),
        (Delete((1, "a")), True),
        (Delete(Slice((1,))), False),
        (Delete(Slice(low=(1, True))), False),
        (Delete(Slice(low=(1, False))), True),
        (Delete(Slice((1,), high=("b", True))), False),
        (Delete(Slice((1,), high=("b", False))), True),
        (Put((1, "b"), "v", None, None), True),
    ],
)
def test_a_deletion_hides_what_isnt_newer(deletion: Change, is_left: bool) -> None:
    for at, hides in ((9, False), (10, True), (11, True)):
        script = Script()
        script.write(at, deletion)
        script.write(10, Put((1, "b"), MARKER, None, True))
        script.read(*[(1, "b", None, None)] * (is_left or not hides))
        assert script.judge().problems == [], (at, hides)


def test_collections_are_cells_of_their_own() -> None:
    script = Script()
    row = (1, "a")
    script.write(10, Clear(row, "e", before=True), Put(row, "e", 1, True), Put(row, "m", "k", 4))
    script.write(20, Put(row, "e", 2, True), Put(row, "m", "l", 5))
    script.read(((1, 2), (("k", 4), ("l", 5))), columns=("e", "m"))
    script.write(15, Clear(row, "m"), Put(row, "e", 1, None))
    script.read(((2,), (("l", 5),)), columns=("e", "m"))
    script.write(30, Clear(row, "e"), Clear(row, "m"))
    script.read()
    assert script.judge().problems == []


def test_static_columns_alone_are_a_row_where_no_rows_are_asked_for() -> None:
    script = Script()
    script.write(10, Put(None, "s", None, 3))
    script.read((None, None, 3, None))
    script.read(rows=Slice((1,)))
    script.write(20, Delete((1, "a")))
    script.read((None, None, 3, None))
    script.write(30, *insert(1, "a"))
    script.read((1, "a", 3, None))
    assert script.judge().problems == []


def test_what_expires_soon_may_be_there_or_not_but_only_as_a_whole() -> None:
    for rows, is_right in (([(1, "a", None, 6)], True), ([], True), ([(1, "a", None, None)], False)):
        script = Script()
        script.write(5, *insert(1, "a", 5))
        script.write(10, *insert(1, "a", 6, expires=True))
        script.read(*rows)
        assert (script.judge().problems == []) is is_right, rows
    script = Script()
    script.write(10, *insert(1, "a", 6, expires=True))
    script.write(20, *insert(1, "a", 7))
    script.read()
    assert len(script.judge().problems) == 1, "what was written over it doesn't expire"


def test_only_reads_with_one_possible_answer_are_judged() -> None:
    script = Script()
    script.write(10, *insert(1, "a", 1))
    write = script.write(20, *insert(1, "a", 2))
    write.completed_ns = 100
    script.read()
    script.read(keys=None)
    script.read(keys=((2,),))
    assert (script.judge().problems, script.judge().judged) == ([], 1)
    script.now_ns = 102
    script.read()
    assert len(script.judge().problems) == 1


def test_unknown_writes_leave_their_partition_unjudged_and_refused_ones_change_nothing() -> None:
    script = Script()
    script.write(10, *insert(1, "a", 1), outcome=REFUSED)
    script.write(10, *insert(1, "a", 1), outcome=UNKNOWN, key=(2,))
    script.read()
    script.read(keys=((2,),))
    assert (script.judge().problems, script.judge().judged) == ([], 1)


def test_reads_that_may_be_stale_are_told_apart() -> None:
    script = Script()
    script.write(10, *insert(1, "a", 1))
    script.read(kind="look")
    assert (script.judge().problems, len(script.judge().stale)) == ([], 1)


def test_of_many_wrong_reads_some_are_told() -> None:
    script = Script()
    for _ in range(20):
        script.read((1, "a", 1, 1))
    assert script.judge().problems[-1] == "and 15 more reads are wrong"
