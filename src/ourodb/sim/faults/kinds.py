"""All kinds of faults."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ourodb.sim.faults import disks, machines, membership, networks
from ourodb.sim.faults.hand import Hand, Script

FAULTS: Final[dict[str, Callable[[Hand], Script]]] = {
    "kill": machines.kill,
    "power": machines.power,
    "blackout": machines.blackout,
    "restart": machines.restart,
    "new-disk": machines.new_disk,
    "stranger": membership.stranger,
    "join": membership.join,
    "leave": membership.leave,
    "copies": membership.copies,
    "death": membership.death,
    "replace": membership.replace,
    "even": membership.even,
    "pause": machines.pause,
    "partition": networks.partition,
    "one-way": networks.one_way,
    "flap": networks.flap,
    "clients": networks.clients,
    "dc": networks.dc,
    "slow": networks.slow,
    "loss": networks.loss,
    "clog": networks.clog,
    "reset": networks.reset,
    "disk": disks.disk,
    "full": disks.full,
    "fsync": disks.fsync,
    "stall": disks.stall,
    "cpu": machines.cpu,
    "clock": machines.clock,
}
"""Kinds of faults by name."""


def kinds_of(text: str) -> tuple[str, ...]:
    """The kinds that "all", "none" or a list with commas names.

    Raises:
        ValueError: there is no such kind.
    """
    if text in ("all", "none"):
        return tuple(FAULTS) if text == "all" else ()
    kinds = tuple(part.strip() for part in text.split(","))
    for kind in kinds:
        if kind not in FAULTS:
            raise ValueError(f"no fault is called '{kind}'; there are {', '.join(FAULTS)}, all and none")
    return kinds
