"""What the bar of a move says.

If this fails, whoever waits for one can't see how far it is, or how long it will take.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ourodb.cli import move_bar
from ourodb.cli.move_bar import MoveBar, pace


def move(done: int, copied: int, stage: str = "copying") -> dict[str, Any]:
    one = {
        "ranges": 40,
        "ranges_done": done,
        "rows": 5 * copied,
        "bytes": copied,
        "waits": "",
        "is_over": False,
    }
    return {"kind": "join", "nodes": [4], "keyspace": None, "stage": stage, "copying": {"4": one}}


def test_pace() -> None:
    assert pace(2.0, ranges_left=30, ranges=10, bytes_=4_000_000) == "1.9 MiB/s, 6 s left"
    assert pace(2.0, ranges_left=40, ranges=0, bytes_=2_048) == "1.0 KiB/s"
    assert pace(0.0, ranges_left=40, ranges=0, bytes_=0) == ""


def test_a_bar_tells_ranges_rows_bytes_rate_and_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = iter((10.0, 12.0))
    monkeypatch.setattr(move_bar, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    monkeypatch.setenv("COLUMNS", "160")
    bar = MoveBar("node 4 waits for its turn")
    bar.show(move(10, 1_000_000))
    bar.show(move(20, 5_000_000))
    with bar:
        pass
    shown = " ".join(capsys.readouterr().err.split())
    assert "node 4 is joining: 20 of 40 ranges, 25,000,000 rows" in shown
    assert "1.9 MiB/s, 4 s left" in shown
    bar.show(move(40, 9_000_000, stage="switched"))
    with bar:
        pass
    assert "reads go to the new replicas" in capsys.readouterr().err
