"""What must hold through all that the other modules of this folder do. Runs last: pytest takes files in order."""

from __future__ import annotations

from tests.hostile.conftest import Memory, Neighbour

MEMORY_MIB_MAX = 300


def test_nobody_else_suffered(neighbour: Neighbour) -> None:
    report = neighbour.report()
    print(report)
    assert report["failed"] == 0, report
    assert report["requests"] > 0


def test_memory_stayed_bounded(memory: Memory) -> None:
    print(f"the node took {memory.mib_max} MiB at most")
    assert memory.mib_max < MEMORY_MIB_MAX
