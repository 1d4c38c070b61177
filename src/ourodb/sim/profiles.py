"""What a seed stands for where nobody says otherwise: the profile of a run.

A sweep is to look into many corners, so each seed brings its own workload, size, layout, faults and pace. All of
that is drawn from the seed, so that the seed alone replays the run. Each trait comes from a stream of its own:
what is said explicitly leaves the others as they were. Choices from lists that grow are made by bids, so that a new
workload or kind of fault takes some seeds over and leaves the rest as they were.

Traits that contradict each other aren't drawn: a store that syncs by itself loses plain writes with the power, as
it says it does. Clients keep to one of two data centres, at LOCAL_QUORUM, only in workloads that know what it
promises, and where most data centres have three nodes, so that there is a quorum when one is gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Final

from ourodb.sim.chance import Chance
from ourodb.sim.faults.kinds import FAULTS
from ourodb.sim.machine import HEAL_AFTER_S
from ourodb.sim.run import LOCAL_QUORUM, QUORUM, Plan
from ourodb.sim.workloads import WORKLOADS
from ourodb.sim.workloads.sides import TO_SIDES

SECONDS: Final = (2.0, 3.0, 4.0, 6.0)
QUIET_SECONDS: Final = 4.0
GAPS_MS_MAX: Final = (500, 1_500, 4_000)
HEAL_SOON_S: Final = 20
"""Longer than faults keep a machine away that are to be survived."""
SYNC_PERIOD_MS: Final = 1_000
NODES_OF_DATA_CENTERS: Final = (4, 5, 6, 6)

HARMFUL_TO_UNSYNCED: Final = ("power", "blackout", "new-disk", "fsync", "leave", "death", "replace")
"""Faults after which what a disk was told and hadn't synced may be gone; after a failed fsync nobody can say. A node
that leaves or dies may come back, if its cluster kept it.
"""

HARMLESS_TO_UNSYNCED: Final = tuple(kind for kind in FAULTS if kind not in HARMFUL_TO_UNSYNCED)
"""Faults that leave a disk what it was told, synced or not: a full or stalling disk refuses what is new, and a process
that is restarted in order syncs before it ends.
"""


def drawn(seed: int, *, workloads: Sequence[str] = tuple(WORKLOADS), **said: Any) -> Plan:
    """The plan of a seed.

    Args:
        workloads: of which one is drawn.
        said: fields of ``Plan`` that aren't drawn.
    Raises:
        ValueError: none of the workloads can be run at the level that was said.
    """
    is_local = said.get("level") == LOCAL_QUORUM
    if is_local:
        workloads = [name for name in workloads if name in TO_SIDES]
        if not workloads:
            raise ValueError(f"at {LOCAL_QUORUM} there are the workloads {', '.join(TO_SIDES)}")
    profile = Chance.of_seed(seed).child("profile")
    traits: dict[str, Any] = {
        "workload": profile.child("workload").bid(workloads),
        "nodes": profile.child("nodes").choice((3, 3, 3, 4, 5, 6)),
        "data_centers": 2 if is_local else profile.child("data centres").choice((1, 1, 1, 2)),
        "racks": profile.child("racks").choice((1, 1, 2, 3)),
        "clients": profile.child("clients").between(2, 4),
        "seconds": profile.child("seconds").choice(SECONDS),
        "quiet_seconds": QUIET_SECONDS,
        "gap_ms_max": profile.child("gap").choice(GAPS_MS_MAX),
        "heal_after_s": HEAL_SOON_S if profile.child("healing").one_in(3) else HEAL_AFTER_S,
        "sync_period_ms": SYNC_PERIOD_MS if profile.child("sync").one_in(6) else None,
    }
    traits |= said
    if "level" not in said:
        knows = traits["workload"] in TO_SIDES and traits["data_centers"] > 1
        traits["level"] = LOCAL_QUORUM if knows and profile.child("level").one_in(2) else QUORUM
    if traits["level"] == LOCAL_QUORUM and "nodes" not in said:
        traits["nodes"] = profile.child("nodes of data centres").choice(NODES_OF_DATA_CENTERS)
    if "faults" not in traits:
        traits["faults"] = _faults(profile.child("faults"), traits["sync_period_ms"] is not None)
    return Plan(seed, **traits)


def command(plan: Plan) -> str:
    """The command line that replays a plan."""
    usual = drawn(plan.seed)
    said: dict[str, Any] = {}
    # What is drawn of other traits depends on these; whoever replays the run has them, drawn or said.
    for field in ("workload", "data_centers", "level", "sync_period_ms"):
        if getattr(plan, field) != getattr(usual, field):
            said[field] = getattr(plan, field)
            usual = drawn(plan.seed, workloads=[plan.workload], **said)
    options = [f"--seed {plan.seed}"]
    for field, option in OPTIONS.items():
        value = getattr(plan, field)
        if field in said or value != getattr(usual, field):
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
