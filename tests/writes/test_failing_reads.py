"""Reads that fail in a later pass of the loop than that in which they came.

If this fails, a client waits for an answer that never comes; and as the read counts as under way for ever, a node never
deletes again what it has lost in a move.
"""

from __future__ import annotations

from typing import Any

import pytest
from tests.writes.ring import Ring

from ourodb.cql.wire.codes import Consistency
from ourodb.errors import FunctionFailure, ServerError
from ourodb.session import reads
from ourodb.sim.disk import Conditions
from ourodb.storage.row import Wait


def fails(*arguments: Any) -> None:
    raise ZeroDivisionError("a bug")


def fails_with_a_row(plan: Any, row: Any) -> Any:
    return row if isinstance(row, Wait) else fails()


def ring_of(nodes: int) -> Ring:
    ring = Ring(nodes)
    ring.set_up("CREATE TABLE ks.t (k int PRIMARY KEY, d decimal)", factor=nodes)
    ring.done(0, "INSERT INTO ks.t (k, d) VALUES (1, 1E+20000)", Consistency.ALL)
    return ring


def test_a_read_that_fails_in_a_later_step_is_answered() -> None:
    ring = ring_of(3)
    assert isinstance(ring.run(0, "SELECT avg(d) FROM ks.t").error, FunctionFailure)
    assert not ring.node(0).reads._under_way
    ring.rest()


def test_a_bug_in_a_later_step_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = ring_of(3)
    step = reads.Read.step
    monkeypatch.setattr(reads.Read, "step", lambda read: fails() if read.waiting else step(read))
    error = ring.run(0, "SELECT count(*) FROM ks.t").error
    assert isinstance(error, ServerError)
    assert "ZeroDivisionError" in error.message
    assert not ring.node(0).reads._under_way
    ring.rest()


def test_a_bug_once_the_replicas_have_answered_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = ring_of(3)
    monkeypatch.setattr(reads, "encoded_row", fails)
    error = ring.run(0, "SELECT d FROM ks.t WHERE k = 1").error
    assert isinstance(error, ServerError)
    assert "ZeroDivisionError" in error.message
    ring.rest()


def test_a_bug_once_the_disk_has_answered_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = ring_of(1)
    monkeypatch.setattr(reads, "encoded_row", fails_with_a_row)
    machine = ring.machines[0]
    machine.disk.conditions = Conditions(sync_stall_one_in=0, later_one_in=1)
    machine.program.node.ports.store._warm.clear()
    error = ring.run(0, "SELECT d FROM ks.t WHERE k = 1").error
    assert isinstance(error, ServerError)
    assert "ZeroDivisionError" in error.message
    assert machine.program.node.ports.store.laters
    ring.rest()
