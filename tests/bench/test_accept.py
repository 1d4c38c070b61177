"""Were these to fail, ``make accept`` would call a figure short of its target a pass, or compare unlike rows."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from ourodb.cql.types.murmur3 import token
from ourodb.storage.keys import token_of

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "accept.py"


@pytest.fixture(scope="module")
def accept() -> ModuleType:
    spec = importlib.util.spec_from_file_location("accept", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["accept"] = module
    spec.loader.exec_module(module)
    return module


def test_verdicts(accept: ModuleType) -> None:
    least, most = accept.FIGURES["inserts"], accept.FIGURES["idle_mib"]
    assert accept.verdict(least, 40_000) == "PASS"
    assert accept.verdict(least, 30_000) == "short by 25%"
    assert accept.verdict(most, 80) == "PASS"
    assert accept.verdict(most, 100) == "over by 25%"
    assert accept.verdict(accept.FIGURES["bare_puts"], 1) == ""


def test_the_report_takes_medians(accept: ModuleType) -> None:
    facts = {
        "cpu": "C", "cores_used": 2, "cores": 4, "memory_mib": 8000, "system": "L", "python": "3", "load_average": 0.1,
        "runs": 3, "seconds": 8.0,
    }  # fmt: skip
    text, as_json = accept.report({"inserts": [10_000.0, 50_000.0, 45_000.0], "bare_puts": [1.0]}, facts)
    assert as_json["figures"]["inserts"]["median"] == 45_000
    assert as_json["figures"]["inserts"]["met"] is True
    assert "met" not in as_json["figures"]["bare_puts"]
    assert (
        "| Prepared single-row inserts, `periodic` | 45,000/s | (10,000 to 50,000) | at least 40,000/s | PASS |"
        in text
    )


def test_the_engine_gets_the_rows_that_the_node_would_store(
    accept: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accept, "LOAD", accept.replace(accept.LOAD, keys=50))
    rows, drawn = accept.stored_rows(200)
    assert len({key for key, _ in rows}) == 50
    assert set(drawn) <= {key for key, _ in rows}
    key, record = rows[7]
    assert len(key) == 4 + 10 + 8 + 1
    assert token_of(key[4:]) == token((7).to_bytes(8, "big"))
    assert key.endswith((7).to_bytes(8, "big") + b"\x40")
    assert len(record) > accept.LOAD.row_bytes


def test_the_statement_that_is_timed_has_ten_literals_and_compiles(accept: ModuleType) -> None:
    schema = accept.schema_of(
        "CREATE KEYSPACE bench WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
        accept.TEN,
    )
    plan = accept.compile_modification(accept.LITERALS, schema)
    assert len(plan.table.columns) == 10
    assert not plan.variables
