"""The ring reshapes itself: a fourth node joins, one of the first three is gone for good, and nobody does anything.

A stock driver goes on reading and writing at QUORUM all the while, and looks for every row that was acknowledged.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from console import PATIENCE_S, console, heading
from death import MISSING_SHOWN_MAX, Passengers

from ourodb.cli.local import layout
from ourodb.cli.operations import rendered
from ourodb.cli.status import told
from ring import HEAL_AFTER_S, DemoRing

WITNESS = 1
VICTIM = 2


def act(ring: DemoRing) -> None:
    """The whole act; needs the table of passengers."""
    heading("A fourth node joins, and another is gone for good")
    cluster = ring.connect()
    try:
        session = cluster.connect()
        passengers = Passengers(session)
        passengers.start()
        try:
            newcomer = _grow(ring, passengers)
            _shrink(ring, passengers)
        finally:
            passengers.stop()
        found = {
            (row.gate, row.number) for row in session.execute("SELECT gate, number FROM boarding.passengers")
        }
    finally:
        cluster.shutdown()
    missing = passengers.lost + [row for row in passengers.acknowledged if row not in found]
    if missing:
        raise RuntimeError(f"{len(missing)} acknowledged rows were not found: {missing[:MISSING_SHOWN_MAX]}")
    console.print("\n[cyan]ouro operations[/]\n")
    console.print(rendered(ring.ask(WITNESS, "/operations")))
    console.print(
        f"\nAll {len(passengers.acknowledged):,} rows that were acknowledged meanwhile are there. {newcomer} has its"
        " part of the ring, and every row has three copies again."
    )


def _grow(ring: DemoRing, passengers: Passengers) -> str:
    """A new node joins; gives its address."""
    local = ring.local
    local.plan = local.plan.grown(1)
    layout.save(local.folder, local.plan)
    newcomer = local.nodes[-1]
    local.start(newcomer)
    _watch(
        ring,
        passengers,
        f"[green]{newcomer.address} is started, and told to join[/]",
        lambda status: any(one["tokens"] and one["address"] == newcomer.peer for one in status["members"]),
    )
    ring.show_status(WITNESS)
    return newcomer.address


def _shrink(ring: DemoRing, passengers: Passengers) -> None:
    """A node dies, and isn't started again."""
    local = ring.local
    victim = local.nodes[VICTIM - 1]
    console.print(
        f"\n{victim.address} is about to die for good. After {HEAL_AFTER_S} s the others give it up (here; ten minutes"
        " unless told otherwise), and its ranges get new copies on the nodes that are left.\n"
    )
    ring.kill(VICTIM)
    _watch(
        ring,
        passengers,
        f"[red]{victim.address} got SIGKILL[/]",
        lambda status: all(one["address"] != victim.peer for one in status["members"]),
    )
    # It is no member any more, and would be refused.
    local.plan = replace(local.plan, nodes=tuple(node for node in local.nodes if node is not victim))
    layout.save(local.folder, local.plan)


def _watch(
    ring: DemoRing, passengers: Passengers, what: str, happened: Callable[[dict[str, Any]], bool]
) -> None:
    """Print what each second brings, until it has happened and no rows are on the move."""
    console.print("[dim]second   reads  writes  failed[/]")
    until = time.monotonic() + PATIENCE_S
    second = 0
    while True:
        second += 1
        counts = passengers.second()
        status = ring.ask(WITNESS, "/status")
        move = status["move"]
        what = what or (told(move) if move else "".join(one["text"] for one in status["healing"]["nodes"]))
        failed = f"[red]{counts['failed']:>6}[/]" if counts["failed"] else f"{0:>6}"
        console.print(f"{second:>6}  {counts['reads']:>6,}  {counts['writes']:>6,}  {failed}   {what}")
        what = ""
        if move is None and happened(status):
            break
        if time.monotonic() > until:
            raise TimeoutError(f"after {PATIENCE_S} s the ring hasn't reshaped itself: {move}")
