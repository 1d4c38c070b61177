"""``make demo`` from its first line to its last, with the flights of one month.

Were this to fail, the first thing that somebody sees of the project would be broken: the ring that is started, the
node that dies and comes back with every row, or the partition after which both sides agree again.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from ourodb.cli.local.ring import LocalRing

DEMO = Path(__file__).resolve().parents[2] / "demo" / "flights.py"
SECONDS_MAX = 280


def test_the_demo_tells_its_whole_story(tmp_path: Path) -> None:
    folder = tmp_path / "ring"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OURO_")}
    process = subprocess.run(
        [sys.executable, DEMO, "--data", folder, "--months", "1"],
        capture_output=True,
        text=True,
        env={**environment, "COLUMNS": "100"},
        cwd=tmp_path,
        timeout=SECONDS_MAX,
        check=False,
    )
    told = process.stdout
    assert process.returncode == 0, told + process.stderr
    assert "3 nodes are up and agreed" in told
    # Each node's primary and secondary ranges.
    assert len(re.findall(r"127\.0\.0\.[123]:\d+ +[█░]{24,64} ", told)) == 3
    assert "15. Can somebody else have the code UA?" in told
    # The node dies, reads and writes go on, hints wait and are delivered.
    before = told.partition("A fourth node joins")[0]
    seconds = re.findall(r"^ +\d+ +([\d,]+) +([\d,]+) +(\d+) +([\d,]+) *(.*)$", before, re.MULTILINE)
    assert len(seconds) >= 12
    dead = seconds[4:9]
    assert any(reads != "0" for reads, *_ in dead)
    assert any(writes != "0" for _, writes, *_ in dead)
    assert max(int(hints.replace(",", "")) for *_, hints, _ in seconds) > 0
    assert seconds[-1][3] == "0"
    assert "DOWN" in told
    assert "127.0.0.3 has all" in told
    # The partition: one side refuses to decide, both go on with what may differ, and then agree.
    assert "refused: Cannot achieve consistency level" in told
    assert told.count("see 40 pictures, and 7,500 cents") == 2
    # Nobody looks, so nothing is left running.
    ring = LocalRing.load(folder)
    # The ring has reshaped itself.
    assert re.search(r"All [\d,]+ rows that were acknowledged meanwhile are there", told)
    assert [node.name for node in ring.nodes] == ["node1", "node3", "node4"]
    assert [ring.pid(node) for node in ring.nodes] == [None, None, None]
