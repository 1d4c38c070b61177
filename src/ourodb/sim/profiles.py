"""What a seed stands for where nobody says otherwise: the profile of a run.

A sweep is to look into many corners, so each seed brings its own workload, size, layout, faults and pace. All of
that is drawn from the seed, so that the seed alone replays the run. Each trait comes from a stream of its own:
what is said explicitly leaves the others as they were. Choices from lists that grow are made by bids, so that a new
workload or kind of fault takes some seeds over and leaves the rest as they were.

Traits that contradict each other aren't drawn: a store that syncs by itself loses plain writes with the power, as
it says it does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, Final

from ourodb.sim.chance import Chance
from ourodb.sim.faults import FAULTS
from ourodb.sim.run import Plan
from ourodb.sim.workloads import WORKLOADS

SECONDS: Final = (2.0, 3.0, 4.0, 6.0)
QUIET_SECONDS: Final = 4.0
GAPS_MS_MAX: Final = (500, 1_500, 4_000)
SYNC_PERIOD_MS: Final = 1_000

HARMLESS_TO_UNSYNCED: Final = (
    "kill", "pause", "partition", "one-way", "flap", "reset", "disk", "stall", "cpu", "clock"
)  # fmt: skip
"""Faults that leave a disk what it was told, synced or not."""


def drawn(seed: int, *, workloads: Sequence[str] = tuple(WORKLOADS), **said: Any) -> Plan:
    """The plan of a seed.

    Args:
        workloads: of which one is drawn.
        said: fields of ``Plan`` that aren't drawn.
    """
    profile = Chance.of_seed(seed).child("profile")
    traits: dict[str, Any] = {
        "workload": profile.child("workload").bid(workloads),
        "nodes": profile.child("nodes").choice((3, 3, 3, 4, 5, 6)),
        "data_centers": profile.child("data centres").choice((1, 1, 1, 2)),
        "racks": profile.child("racks").choice((1, 1, 2, 3)),
        "clients": profile.child("clients").between(2, 4),
        "seconds": profile.child("seconds").choice(SECONDS),
        "quiet_seconds": QUIET_SECONDS,
        "gap_ms_max": profile.child("gap").choice(GAPS_MS_MAX),
        "sync_period_ms": SYNC_PERIOD_MS if profile.child("sync").one_in(6) else None,
    }
    traits |= said
    if "faults" not in traits:
        traits["faults"] = _faults(profile.child("faults"), traits["sync_period_ms"] is not None)
    return Plan(seed, **traits)


def command(plan: Plan) -> str:
    """The command line that replays a plan."""
    usual = drawn(plan.seed)
    # Which faults are drawn depends on it; whoever replays the run has it, drawn or said.
    usual = replace(usual, faults=drawn(plan.seed, sync_period_ms=plan.sync_period_ms).faults)
    options = [f"--seed {plan.seed}"]
    for field, option in OPTIONS.items():
        value = getattr(plan, field)
        if value != getattr(usual, field):
            options.append(f"{option} {_shown(field, value)}")
    return " ".join(["python -m ourodb.sim", *options])


def _shown(field: str, value: Any) -> str:
    if field == "strikes":
        return "all" if value is None else ",".join(map(str, value)) or "none"
    if field == "faults":
        return "all" if set(value) == set(FAULTS) else ",".join(value) or "none"
    if field == "sync_period_ms":
        return "none" if value is None else str(value)
    return str(value)


OPTIONS: Final = {
    field.name: f"--{field.name.replace('_', '-')}"
    for field in fields(Plan)
    if field.name not in ("seed", "story")
} | {"data_centers": "--dcs"}
"""Of the command line, by field of ``Plan``."""


def _faults(chance: Chance, keeps_to_unsynced: bool) -> tuple[str, ...]:
    kinds = tuple(HARMLESS_TO_UNSYNCED if keeps_to_unsynced else FAULTS)
    drawn = chance.child("how many").below(8)
    if drawn == 0:
        return ()
    if drawn < 4:
        return kinds
    return tuple(kind for kind in kinds if chance.child(kind).one_in(3)) or kinds
