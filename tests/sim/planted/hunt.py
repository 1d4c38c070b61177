"""The hunt for a mistake that was planted in production code.

A mistake is a function that patches the code of nodes. ``hunt`` runs one seed after the other with it until one finds
it, and asks for two things more: that it was found for the right reason, and that the same run is clean without it.
A mistake that only raises, because the code that it patches has changed, is no mistake of the kind that was meant.
Where a run needs circumstances of its own (small chunks, a short patience), these are patched in both.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any, Final

import pytest

from ourodb.sim.machine import Build
from ourodb.sim.ouro import build_node, inspect
from ourodb.sim.run import NO_PROOF, Inspect, Plan, Verdict, run
from ourodb.sim.workloads import WORKLOADS
from ourodb.sim.workloads.stage import Workload

IS_FULL: Final = bool(os.environ.get("OURO_FULL"))

SEEDS: Final = 20
"""Tried in a usual run of the tests. Each test is made so that nearly every seed finds its mistake."""
SEEDS_FULL: Final = 200
"""Within so many the simulator has to find any mistake."""

SHORT: Final[dict[str, Any]] = {"seconds": 4, "quiet_seconds": 2, "clients": 4, "success_percent_min": 0}
"""A run of the usual kind here. It isn't asked how many operations succeed: faults may be as dense as they like."""

INTERNAL: Final = "Internal error: "
"""So a client is told that a node has raised."""
_FRAME: Final = re.compile(r'File "(.+)", line \d+, in ')
"""Of a traceback; the innermost is the last."""

Mistake = Callable[[pytest.MonkeyPatch], None]
"""Patches it in."""


def hunt(
    mistake: Mistake,
    telling: str | tuple[str, ...],
    workload: str | type[Workload],
    faults: tuple[str, ...] = (),
    *,
    look: Inspect = inspect,
    build: Build = build_node,
    circumstances: Mistake | None = None,
    **plan: Any,
) -> int:
    """The first seed that finds the mistake.

    Args:
        telling: some problem of that run says one of these, or it was found for a wrong reason.
        workload: its name, or the class of one that is only for this.
        look: at the healed cluster.
        circumstances: patches them in, for the run with the mistake and for the one without.
        plan: what else ``Plan`` takes.
    """
    for seed in range(SEEDS_FULL if IS_FULL else SEEDS):
        options: dict[str, Any] = {**SHORT, **plan}
        name = workload if isinstance(workload, str) else workload.name
        planned = Plan(seed, name, faults=faults, **options)
        with pytest.MonkeyPatch.context() as patch:
            _prepare(patch, workload, circumstances)
            mistake(patch)
            wrong = run(planned, build, look)
        violations = [problem for problem in wrong.problems if not problem.startswith(NO_PROOF)]
        if not violations:
            continue
        raised = [problem for problem in violations if _is_raised_by(mistake, problem)]
        if raised and all(problem in raised or INTERNAL in problem for problem in violations):
            pytest.fail(f"the mistake itself raises: {_shown(wrong)}")
        words = (telling,) if isinstance(telling, str) else telling
        told = any(word in problem for problem in violations for word in words)
        assert told, f"wrong reason: {_shown(wrong)}"
        with pytest.MonkeyPatch.context() as patch:
            _prepare(patch, workload, circumstances)
            right = run(planned, build, look)
        assert right.is_ok, f"not clean without the mistake: {_shown(right)}"
        print(f"found by seed {seed}, {seed + 1} tried: {mistake.__name__}, {name}")
        return seed
    pytest.fail("the mistake wasn't found")


def _prepare(
    patch: pytest.MonkeyPatch, workload: str | type[Workload], circumstances: Mistake | None
) -> None:
    if not isinstance(workload, str):
        patch.setitem(WORKLOADS, workload.name, workload)
    if circumstances is not None:
        circumstances(patch)


def _is_raised_by(mistake: Mistake, problem: str) -> bool:
    """Whether a problem is an exception of the mistake's own code, or of a call of it that doesn't fit."""
    frames = _FRAME.findall(problem)
    if not frames:
        return False
    last = problem.strip().splitlines()[-1]
    is_called_wrong = "TypeError" in last and f"{mistake.__name__}.<locals>." in last
    return frames[-1] == mistake.__code__.co_filename or is_called_wrong


def _shown(verdict: Verdict) -> str:
    return "\n".join([*verdict.problems[:10], verdict.line()])
