"""``ouro bench`` as a command: whole runs in processes of their own, the report, and the errors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.bench.servers import responder

from ourodb.bench.options import BenchError
from ourodb.cli.bench import parse_hosts, parse_replication

COMMAND = [sys.executable, "-c", "from ourodb.cli import main; main()", "bench"]
SOURCES = Path(__file__).resolve().parents[2] / "src"
LATENCY_KEYS = {"mean_us", "p50_us", "p99_us", "p99.9_us", "max_us"}


def start(*arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(SOURCES), "COLUMNS": "50"}
    return subprocess.Popen(
        [*COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        process_group=0,
    )


def bench(*arguments: str) -> tuple[int, str, str]:
    process = start(*arguments)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_the_report_has_everything() -> None:
    with responder() as server:
        code, out, err = bench(
            "kv", "--hosts", f"127.0.0.1:{server.port}", "--processes", "2", "--keys", "500",
            "--operations", "1001", "--warm-up", "0", "--json", "-", "--reads", "0.5",
        )  # fmt: skip
    assert code == 0, err
    report: dict[str, Any] = json.loads(out)
    assert report["format"] == 1
    assert report["configuration"]["keys"] == 500
    assert "password" not in report["configuration"]
    assert {"python", "cores", "cpu", "system"} <= set(report["environment"])
    assert report["phases"]["preload"]["operations"] == 500
    measured = report["phases"]["measure"]
    assert measured["operations"] == 1001
    assert measured["errors"] == {}
    assert "closed loop" in report["latency_is"]
    assert sorted(report["kinds"]) == ["insert", "read"]
    for kind in report["kinds"].values():
        for latency in (kind["latency"], kind["latency_measured"]):
            assert set(latency) == LATENCY_KEYS
            assert latency["p50_us"] <= latency["p99_us"] <= latency["p99.9_us"] <= latency["max_us"]
    assert sum(second["operations"] for second in report["series"]) == 1001
    assert sum(kind["operations"] for kind in report["kinds"].values()) == 1001
    assert "op/s" in err
    assert "…" not in err, "the table is cut, though there is no terminal that it would have to fit"


def test_a_fixed_rate_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    with responder() as server:
        code, out, err = bench(
            "kv", "--hosts", f"127.0.0.1:{server.port}", "--no-preload", "--processes", "2", "--rate", "200",
            "--duration", "1", "--warm-up", "0", "--json", str(file),
        )  # fmt: skip
    assert code == 0, err
    report = json.loads(file.read_text())
    assert report["phases"]["measure"]["operations"] == 200
    assert "due by the fixed rate" in report["latency_is"]
    assert "insert" in out


def test_ctrl_c_reports_what_there_is() -> None:
    pressed = []

    def press(server: object, request: object) -> None:
        if not pressed and server.executed > 2_000:  # type: ignore[attr-defined]
            pressed.append(True)
            os.killpg(process.pid, signal.SIGINT)

    with responder(interfere=press) as server:
        process = start(
            "kv", "--hosts", f"127.0.0.1:{server.port}", "--no-preload",
            "--duration", "600", "--warm-up", "0", "--json", "-",
        )  # fmt: skip
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    report = json.loads(out)
    assert report["interrupted"]
    assert report["phases"]["measure"]["operations"] > 2_000
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--hosts", "127.0.0.1:1"], "can't connect to 127.0.0.1:1: Connection refused"),
        (["--hosts", "127.0.0.1:x"], "isn't host or host:port"),
        (["--reads", "7"], "the share of reads must be between 0 and 1"),
        (["--json", "/nowhere/report.json"], "No such file or directory"),
    ],
)
def test_what_can_not_begin_says_so_in_one_line(arguments: list[str], said: str) -> None:
    code, _, err = bench(*arguments)
    assert code == 2
    assert err.startswith("ouro bench: ")
    assert said in err
    assert err.count("\n") == 1


def test_hosts_are_parsed() -> None:
    assert parse_hosts("a,b:1,[::1]:5,::1") == (("a", 9042), ("b", 1), ("::1", 5), ("::1", 9042))
    for wrong in ("", "a:b", "a:70000", "[::1"):
        with pytest.raises(BenchError):
            parse_hosts(wrong)
    assert parse_replication("3") == "{'class': 'SimpleStrategy', 'replication_factor': 3}"
