"""Schema changes that race with writes: the checker's judgement, and production nodes before it.

If this fails, tables that were dropped show their rows again, acknowledged changes or rows are lost, nodes end with
different schemas, or nobody would notice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from ourodb.cluster.metadata.metadata import Metadata
from ourodb.cluster.metadata.submissions import Applied, Done, Submissions
from ourodb.schema import evolution
from ourodb.schema.changes import Change, CreateKeyspace, DropKeyspace, DropTable
from ourodb.sim.checkers.schema import EXISTS, MISSING, NO_COLUMN, check_schema
from ourodb.sim.faults.kinds import FAULTS
from ourodb.sim.history import NEVER, Operation, Outcome
from ourodb.sim.ouro import build_node, build_unwatched, inspect
from ourodb.sim.run import Plan, Verdict, run
from ourodb.sim.workloads import WORKLOADS
from ourodb.sim.workloads.schema import SchemaWorkload
from ourodb.storage.rows import Rows

# --- The checker


def done(kind: str, start: int, end: int, argument: Any = None, result: Any = None) -> Operation:
    return Operation(0, kind, 1, argument, start, end, Outcome.DONE, result)


def unknown(kind: str, start: int, argument: Any = None) -> Operation:
    return Operation(0, kind, 1, argument, start, NEVER, Outcome.UNKNOWN)


def of_keyspace(kind: str, start: int, end: int, argument: Any = None, result: Any = None) -> Operation:
    return done(f"{kind} keyspace", start, end, argument, result)


def at(epoch: int, operation: Operation) -> Operation:
    """Its node has applied so much of the metadata log."""
    return replace(operation, epochs=(epoch, epoch))


def refused(kind: str, start: int, end: int, argument: Any = None) -> Operation:
    return Operation(0, kind, 1, argument, start, end, Outcome.REFUSED)


NO_TABLE: None = None
PLAIN: frozenset[str] = frozenset()
VALUE = ("value",)

RIGHT: dict[str, Sequence[Operation]] = {
    "one after the other": [
        done("create", 0, 1),
        done("alter", 2, 3, "c1"),
        done("insert", 4, 5, (1, "c1")),
        done("read", 6, 7, 1, {1: ("c1",)}),
        done("look", 8, 9, None, frozenset({"c1"})),
        done("drop", 10, 11),
        done("look", 12, 13, None, NO_TABLE),
    ],
    "two creates, with a drop that overlaps both": [
        done("create", 0, 10),
        done("create", 1, 11),
        done("drop", 2, 12),
        done("look", 20, 21, None, PLAIN),
    ],
    "a create in doubt that happened": [unknown("create", 0), done("look", 20, 21, None, PLAIN)],
    "a create in doubt that didn't": [unknown("create", 0), done("look", 20, 21, None, NO_TABLE)],
    "a drop in doubt that happens late": [
        done("create", 0, 1),
        unknown("drop", 2),
        done("insert", 10, 11, (1, "value")),
        done("create", 20, 21),
        done("read", 30, 31, 1, {}),
        done("look", 40, 41, None, PLAIN),
    ],
    "a column in doubt": [
        done("create", 0, 1),
        unknown("alter", 2, "c1"),
        done("look", 20, 21, None, frozenset({"c1"})),
    ],
    "a row whose write overlaps the drop": [
        done("create", 0, 1),
        done("insert", 2, 10, (1, "value")),
        done("drop", 5, 6),
        done("create", 7, 8),
        done("read", 20, 21, 1, {1: VALUE}),
    ],
    "a row that is missed after a truncate that overlaps its write": [
        done("create", 0, 1),
        done("insert", 2, 10, (1, "value")),
        done("truncate", 5, 6),
        done("read", 20, 21, 1, {}),
    ],
    "a drop that was refused": [
        done("create", 0, 1),
        done("insert", 2, 3, (1, "value")),
        refused("drop", 4, 5),
        done("read", 20, 21, 1, {1: VALUE}),
        done("look", 22, 23, None, PLAIN),
    ],
    "what doesn't fit": [
        done("drop", 0, 1, None, MISSING),
        done("create", 2, 3),
        done("create", 4, 5, None, EXISTS),
        done("insert", 6, 7, (1, "c9"), NO_COLUMN),
    ],
    "a keyspace with tables, which are gone with it; a table of the same key is another matter": [
        of_keyspace("create", 0, 1),
        done("create", 0, 1),
        of_keyspace("fill", 2, 3, "inside1"),
        of_keyspace("look at", 4, 5, None, frozenset({"inside1"})),
        of_keyspace("drop", 6, 7),
        of_keyspace("alter", 8, 9, "factor=2", MISSING),
        of_keyspace("create", 10, 11),
        of_keyspace("create", 12, 13, None, EXISTS),
        of_keyspace("look at", 20, 21, None, PLAIN),
        done("look", 20, 21, None, PLAIN),
    ],
    "a keyspace that is altered twice at a time": [
        of_keyspace("create", 0, 1),
        of_keyspace("alter", 2, 5, "factor=2"),
        of_keyspace("alter", 3, 4, "factor=3"),
        of_keyspace("look at", 20, 21, None, frozenset({"factor=2"})),
    ],
    "an alteration of a keyspace in doubt that happens late": [
        of_keyspace("create", 0, 1),
        unknown("alter keyspace", 2, "factor=2"),
        of_keyspace("alter", 3, 4, "factor=3"),
        of_keyspace("look at", 20, 21, None, frozenset({"factor=2"})),
    ],
}

WRONG: dict[str, tuple[Sequence[Operation], str]] = {
    "two creates": ([done("create", 0, 1), done("create", 2, 3)], "have no order"),
    "a drop of nothing": ([done("drop", 0, 1)], "have no order"),
    "a table that is lost": ([done("create", 0, 1), done("look", 20, 21, None, NO_TABLE)], "have no order"),
    "a table that comes back": (
        [done("create", 0, 1), done("drop", 2, 3), done("look", 20, 21, None, PLAIN)],
        "have no order",
    ),
    "a column that is lost": (
        [done("create", 0, 1), done("alter", 2, 3, "c1"), done("look", 20, 21, None, PLAIN)],
        "have no order",
    ),
    "a column of a table that was dropped": (
        [
            done("create", 0, 1),
            done("alter", 2, 3, "c1"),
            done("drop", 4, 5),
            done("create", 6, 7),
            done("look", 20, 21, None, frozenset({"c1"})),
        ],
        "have no order",
    ),
    "a change that was refused and happened": (
        [refused("create", 0, 1), done("look", 20, 21, None, PLAIN)],
        "have no order",
    ),
    "a change in doubt that happens twice": (
        [unknown("create", 0), done("drop", 2, 3), done("look", 20, 21, None, PLAIN)],
        "have no order",
    ),
    "a row of a table that was dropped": (
        [
            done("create", 0, 1),
            done("insert", 2, 3, (1, "value")),
            done("drop", 4, 5),
            done("create", 6, 7),
            done("look", 10, 11, None, PLAIN),
            done("read", 20, 21, 1, {1: VALUE}),
        ],
        "seen though its table is gone",
    ),
    "a row of a table that was truncated, in a scan": (
        [
            done("create", 0, 1),
            done("insert", 2, 3, (1, "value")),
            done("truncate", 4, 5),
            done("look", 10, 11, None, PLAIN),
            done("scan", 20, 21, None, {1: VALUE}),
        ],
        "seen though its table is gone",
    ),
    "a row that is missed": (
        [done("create", 0, 1), done("insert", 2, 3, (1, "value")), done("scan", 20, 21, None, {})],
        "is missed",
    ),
    "a row that is missed, of a node that knew of the drop": (
        [
            at(1, done("create", 0, 1)),
            at(2, done("drop", 2, 3)),
            at(3, done("create", 4, 5)),
            at(2, done("insert", 6, 7, (1, "value"))),
            at(3, done("read", 8, 9, 1, {})),
        ],
        "is missed",
    ),
    "a column that is missed": (
        [
            done("create", 0, 1),
            done("alter", 2, 3, "c1"),
            done("insert", 4, 5, (1, "c1")),
            done("read", 20, 21, 1, {1: ()}),
        ],
        "has values in",
    ),
    "a keyspace that keeps what was altered before": (
        [
            of_keyspace("create", 0, 1),
            of_keyspace("alter", 2, 3, "factor=2"),
            of_keyspace("alter", 4, 5, "factor=3"),
            of_keyspace("look at", 20, 21, None, frozenset({"factor=2"})),
        ],
        "of keyspace 1 have no order",
    ),
    "a keyspace that was dropped, with its table": (
        [
            of_keyspace("create", 0, 1),
            of_keyspace("fill", 2, 3, "inside1"),
            of_keyspace("drop", 4, 5),
            of_keyspace("create", 6, 7),
            of_keyspace("look at", 20, 21, None, frozenset({"inside1"})),
        ],
        "of keyspace 1 have no order",
    ),
    "a keyspace that was made twice": (
        [of_keyspace("create", 0, 1), of_keyspace("create", 2, 3)],
        "of keyspace 1 have no order",
    ),
    "a row that was refused": (
        [done("create", 0, 1), refused("insert", 2, 3, (1, "value")), done("read", 20, 21, 1, {1: VALUE})],
        "though it wasn't written",
    ),
}

STALE: dict[str, Sequence[Operation]] = {
    "no table, though there is one": [done("create", 0, 1), done("insert", 2, 3, (1, "value"), MISSING)],
    "no column, though there is one": [
        done("create", 0, 1),
        done("alter", 2, 3, "c1"),
        done("insert", 4, 5, (1, "c1"), NO_COLUMN),
    ],
    "a table, though it was dropped": [
        done("create", 0, 1),
        done("drop", 2, 3),
        done("create", 4, 5, None, EXISTS),
    ],
    "a row for a table that was dropped": [
        done("create", 0, 1),
        done("drop", 2, 3),
        done("insert", 4, 5, (1, "value")),
    ],
    "a row for a table that was dropped, and isn't in the next one": [
        done("create", 0, 1),
        done("drop", 2, 3),
        done("insert", 4, 5, (1, "value")),
        done("create", 6, 7),
        done("read", 8, 9, 1, {}),
    ],
    "a row for a table that was dropped, when the next one is there already": [
        at(1, done("create", 0, 1)),
        at(2, done("drop", 2, 3)),
        at(3, done("create", 4, 5)),
        at(1, done("insert", 6, 7, (1, "value"))),
        at(3, done("read", 8, 9, 1, {})),
        at(3, done("scan", 10, 11, None, {})),
    ],
    "a row of a table that was dropped": [
        done("create", 0, 1),
        done("insert", 2, 3, (1, "value")),
        done("drop", 4, 5),
        done("read", 6, 7, 1, {1: VALUE}),
    ],
    "a row of a table that was dropped, and made anew": [
        done("create", 0, 1),
        done("insert", 2, 3, (1, "value")),
        done("drop", 4, 5),
        done("create", 6, 7),
        done("read", 8, 9, 1, {1: VALUE}),
        done("look", 10, 11, None, PLAIN),
    ],
}


@pytest.mark.parametrize("name", RIGHT)
def test_histories_that_can_be_explained(name: str) -> None:
    assert check_schema(RIGHT[name]) == ([], [])


@pytest.mark.parametrize("name", WRONG)
def test_histories_that_can_not(name: str) -> None:
    operations, told = WRONG[name]
    problems, _ = check_schema(operations)
    assert len(problems) == 1
    assert told in problems[0]


@pytest.mark.parametrize("name", STALE)
def test_answers_of_nodes_that_lag_are_told_apart(name: str) -> None:
    problems, stale = check_schema(STALE[name])
    assert problems == []
    assert len(stale) == 1


def test_a_stale_answer_says_nothing_of_what_is_the_case() -> None:
    """A drop in doubt would explain it, and then the acknowledged insert would have no explanation."""
    operations = [
        done("create", 0, 1),
        unknown("drop", 2),
        unknown("create", 3),
        done("alter", 4, 5, "c1"),
        done("insert", 6, 7, (1, "c1"), NO_COLUMN),
        done("insert", 8, 9, (2, "c1")),
    ]
    assert check_schema(operations) == ([], [])


def test_many_changes_in_doubt_are_judged_fast() -> None:
    operations: list[Operation] = []
    for start in range(0, 600, 6):
        operations += [unknown(("create", "drop")[start // 6 % 2], start), unknown("drop", start + 1)]
        operations.append(done("create", start + 2, start + 5, None, EXISTS))
    operations.append(done("look", 700, 701, None, NO_TABLE))
    assert check_schema(operations)[0] == []


# --- Production nodes


def played(
    seed: int,
    faults: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    build: Any = build_node,
    nodes: int = 3,
) -> tuple[Verdict, SchemaWorkload]:
    """A run, and what its workload saw."""
    workloads: list[SchemaWorkload] = []

    def made(stage: Any) -> SchemaWorkload:
        workloads.append(SchemaWorkload(stage))
        return workloads[-1]

    monkeypatch.setitem(WORKLOADS, "schema", made)
    plan = Plan(seed, "schema", nodes=nodes, seconds=4, quiet_seconds=3, clients=3, faults=faults)
    return run(plan, build, inspect), workloads[0]


@pytest.mark.parametrize("seed", range(2))
def test_one_schema_everywhere_under_all_faults(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    verdict, _ = played(seed, tuple(FAULTS), monkeypatch)
    assert verdict.is_ok, "\n".join([*verdict.problems, verdict.line()])


@pytest.mark.parametrize("faults", [(), ("kill",)], ids=["none", "kill"])
def test_no_answer_is_stale_while_the_network_is_whole(
    faults: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was acknowledged is known through any node that can ask the others."""
    verdict, workload = played(1, faults, monkeypatch)
    assert verdict.is_ok, "\n".join([*verdict.problems, verdict.line()])
    assert workload.stale == []


# --- Mistakes on purpose


def assert_found(
    monkeypatch: pytest.MonkeyPatch, told: str, faults: tuple[str, ...] = (), build: Any = build_unwatched
) -> None:
    for seed in range(5):
        verdict, _ = played(seed, faults, monkeypatch, build)
        if any(told in problem for problem in verdict.problems):
            return
    pytest.fail("not found in 5 seeds")


def test_rows_of_a_table_that_was_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next table of the name gets the incarnation of the one before, and nobody deletes rows."""
    create = evolution.apply
    incarnations: dict[tuple[str, str], int] = {}

    def apply(schema: Any, change: Change) -> Any:
        after, events = create(schema, change)
        name = (getattr(change, "keyspace", ""), getattr(change, "table", ""))
        table = after.table(*name)
        if table is not None and not isinstance(change, DropTable):
            incarnation = incarnations.setdefault(name, table.incarnation)
            keyspace = after.keyspaces[name[0]].with_table(replace(table, incarnation=incarnation))
            after = after.with_keyspace(keyspace)
        return after, events

    monkeypatch.setattr("ourodb.cluster.metadata.evolution.apply_change", apply)
    monkeypatch.setattr(Rows, "drop", lambda self, incarnation: None)
    assert_found(monkeypatch, "seen though its table is gone")


def test_changes_that_are_acknowledged_before_they_are_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = Submissions.submit_change

    def submit(self: Submissions, change: Change, done: Done) -> None:
        begin(self, change, lambda outcome: None)
        done(Applied(self._consensus.view, ()))

    monkeypatch.setattr(Submissions, "submit_change", submit)
    assert_found(monkeypatch, "have no order", ("partition", "kill"))


def test_a_keyspace_that_takes_up_what_was_in_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    create = evolution.apply
    before: dict[str, Any] = {}

    def apply(schema: Any, change: Change) -> Any:
        after, events = create(schema, change)
        if isinstance(change, DropKeyspace):
            before[change.keyspace] = schema.keyspaces[change.keyspace]
        if isinstance(change, CreateKeyspace) and events and change.keyspace in before:
            after = after.with_keyspace(before[change.keyspace])
        return after, events

    monkeypatch.setattr("ourodb.cluster.metadata.evolution.apply_change", apply)
    assert_found(monkeypatch, "the changes of keyspace")


def test_nodes_that_nobody_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without waiting and without asking, nodes answer by the schema that they happen to know; those without a vote
    learn of a change late.
    """
    monkeypatch.setattr(Metadata, "inquire", lambda self, done: False)
    spread = Submissions._spread

    def told_at_once(self: Submissions, submission: Any, events: Any) -> None:
        submission.spreads = False
        spread(self, submission, events)

    monkeypatch.setattr(Submissions, "_spread", told_at_once)
    assert any(played(seed, (), monkeypatch, nodes=6)[1].stale for seed in range(5))
