"""Were these to fail, ``make demo`` would fail at its first table, its first question, or its data."""

from __future__ import annotations

import re
import sys
from datetime import UTC, date, datetime, time
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from tests.nodes import NodeProcess

from ourodb.cql.analysis.ddl import analyse_ddl
from ourodb.cql.analysis.modifications import analyse_modification
from ourodb.cql.analysis.tables import find_table
from ourodb.cql.analysis.terms import Context
from ourodb.cql.plan.modification import ModificationPlan
from ourodb.cql.plan.select import SelectPlan
from ourodb.cql.syntax import ast
from ourodb.cql.syntax.parser import parse
from ourodb.net.loop import SystemClock, SystemRandom
from ourodb.schema.evolution import apply
from ourodb.schema.model import Schema
from ourodb.schema.system import initial_schema
from ourodb.storage.keys import TableKeys

DEMO = Path(__file__).resolve().parents[2] / "demo"
MONTH = 2
FLIGHTS_OF_MONTH = 24_951
FLIGHTS_LOADED = 8_000
ANSWERED_MIN = 10


@pytest.fixture(autouse=True)
def demo_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo is a script, whose folder is where its modules are found."""
    monkeypatch.syspath_prepend(str(DEMO))
    for name in ("console", "dataset", "death", "flights", "load", "partition", "questions", "ring"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def demo_schema() -> Schema:
    schema = initial_schema()
    text = re.sub(r"(?m)^--.*$", "", (DEMO / "schema.cql").read_text())
    for definition in filter(str.strip, text.split(";")):
        statement: Any = parse(definition)
        checked = analyse_ddl(statement, schema, None, {"dc1": 1}, SystemClock(), SystemRandom())
        assert checked.change is not None
        schema, _ = apply(schema, checked.change)
    return schema


def test_every_question_fits_the_tables() -> None:
    from questions import QUESTIONS  # type: ignore[import-not-found]

    schema = demo_schema()
    assert len(QUESTIONS) >= 12
    for question in QUESTIONS:
        statement = parse(question.cql)
        context = Context(schema, None, statement.markers)
        plan: SelectPlan | ModificationPlan
        if isinstance(statement, ast.Select):
            table = find_table(statement.table, context)
            plan = SelectPlan(statement, table, TableKeys(table), context, question.cql)
        else:
            assert isinstance(statement, ast.Insert)
            modification = analyse_modification(statement, context)
            plan = ModificationPlan(modification, TableKeys(modification.table), context)
        assert len(plan.variables) == len(question.values), question.text


def test_flights_are_read_as_the_file_has_them() -> None:
    import dataset  # type: ignore[import-not-found]

    february = list(dataset.flights((MONTH,)))
    assert len(february) == FLIGHTS_OF_MONTH
    assert {flight.day.month for flight in february} == {2}
    assert sum(flight.departed is None for flight in february) == 1_261
    first = next(dataset.flights((1,)))
    assert first == dataset.Flight(
        origin="EWR",
        destination="IAH",
        day=date(2013, 1, 1),
        planned=time(5, 15),
        departure=datetime(2013, 1, 1, 10, 15, tzinfo=UTC),
        departed=time(5, 17),
        departure_delay=2,
        arrival_delay=11,
        carrier="UA",
        number=1545,
        tail_number="N14228",
        distance_mi=1400,
        minutes_in_air=227,
    )


def test_a_month_of_flights_answers_the_questions(node: NodeProcess) -> None:
    """What ``make demo`` does, with few of the flights: questions about the others find nothing."""
    import dataset
    import flights  # type: ignore[import-not-found]
    import load  # type: ignore[import-not-found]
    from questions import QUESTIONS

    rows = 0

    def told(count: int) -> None:
        nonlocal rows
        rows += count

    cluster = load.connect([node.host], node.port)
    try:
        session = cluster.connect()
        flights.create_schema(cluster, session)
        load.load_small_tables(session, told)
        load._load(session, list(islice(dataset.flights((MONTH,)), FLIGHTS_LOADED)), told)
        assert rows > 2 * FLIGHTS_LOADED
        answered = 0
        for question in QUESTIONS:
            statement = session.prepare(question.cql)
            answer = question.finish(session.execute(statement, question.values))
            answered += bool(answer)
        assert answered >= ANSWERED_MIN
    finally:
        cluster.shutdown()
