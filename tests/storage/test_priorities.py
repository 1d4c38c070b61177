"""Who steps back where processors are short. Broken, clients wait while data files are compacted."""

from __future__ import annotations

import os
from pathlib import Path

from tests.durability.folders import open_store

from ourodb.limits import COMPACTION_NICENESS
from ourodb.storage.rocks import COMPACTING_THREAD


def test_compactions_step_back_and_nobody_else(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    niceness: dict[bool, set[int]] = {True: set(), False: set()}
    for task in Path("/proc/self/task").iterdir():
        compacts = (task / "comm").read_text().startswith(COMPACTING_THREAD)
        niceness[compacts].add(os.getpriority(os.PRIO_PROCESS, int(task.name)))
    store.close()
    mine = os.nice(0)
    assert niceness == {True: {min(mine + COMPACTION_NICENESS, 19)}, False: {mine}}
