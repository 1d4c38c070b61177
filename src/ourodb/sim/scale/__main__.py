"""``python -m ourodb.sim.scale``: gossip and placement in rings of ten to a thousand nodes, on virtual time.

Prints tables, and what it is doing meanwhile on standard error. ``--write FOLDER`` also puts the figures, the tables
and pictures there, the figures of each ring as soon as it is measured; those of other sizes, and of what ``--only``
leaves out, stay if they are of the same seed.
``--draw FOLDER`` makes the tables and pictures anew of the figures that are there. The exit code is 0, or 1
when a target is missed.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from ourodb.net.loop import SystemClock
from ourodb.sim.scale import plots, report
from ourodb.sim.scale.figures import GossipFigures, NoFigures, PlacementFigures, load, load_or_none, save
from ourodb.sim.scale.gossip import measure_gossip
from ourodb.sim.scale.placement import measure_placement

SIZES: Final = (10, 30, 100, 300, 1_000)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; returns the exit code."""
    parser = argparse.ArgumentParser("python -m ourodb.sim.scale", description=__doc__)
    parser.add_argument("--sizes", type=_sizes, default=SIZES, help="numbers of nodes, with commas between")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=("gossip", "placement"), help="measure only this")
    parser.add_argument(
        "--write", type=Path, metavar="FOLDER", help="keep figures, tables and pictures there"
    )
    parser.add_argument(
        "--draw", type=Path, metavar="FOLDER", help="measure nothing; tables and pictures anew"
    )
    chosen = parser.parse_args(arguments)
    folder = chosen.draw or chosen.write
    try:
        if folder is not None:
            plots.load()  # Rather now than after a quarter of an hour.
        if chosen.draw:
            figures = load(chosen.draw)
        else:
            figures = load_or_none(chosen.write, chosen.seed)
            for ring in measure(chosen.sizes, chosen.seed, chosen.only):
                if chosen.write:  # Meanwhile others may have measured other sizes.
                    figures = load_or_none(chosen.write, chosen.seed)
                figures = figures.with_ring(ring)
                if chosen.write:
                    save(figures, chosen.write)
        if folder is not None:
            report.write(figures, folder)
            plots.draw(figures, folder)
    except (plots.NoMatplotlib, NoFigures) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(report.tables(figures))
    missed = figures.missed()
    sys.stdout.write("\n" + "\n".join(f"missed: {each}" for each in missed or ["nothing"]) + "\n")
    return 1 if missed else 0


def measure(
    sizes: Sequence[int], seed: int, only: str | None = None
) -> Iterator[GossipFigures | PlacementFigures]:
    """Rings of these sizes, one by one: their placement, then their gossip, or ``only`` one of the two."""
    clock = SystemClock()
    began_ns = clock.monotonic_ns()

    def progress(what: str) -> None:
        seconds = (clock.monotonic_ns() - began_ns) / 1e9
        sys.stderr.write(f"{seconds:7.1f} s  {what}\n")
        sys.stderr.flush()

    if only != "gossip":
        yield from measure_placement(sizes, clock, partial(_tell, progress, "placement"))
    if only != "placement":
        for size in sorted(sizes):
            # Millions of small objects that are in no cycle: looking for cycles among them would take half of the time.
            gc.disable()
            try:
                measured = measure_gossip(size, seed, partial(_tell, progress, f"gossip of {size} nodes"))
            finally:
                gc.enable()
            yield measured
            gc.collect()
    progress("done")


def _tell(progress: Callable[[str], None], of: str, what: str) -> None:
    progress(f"{of}: {what}")


def _sizes(text: str) -> tuple[int, ...]:
    sizes = tuple(sorted({int(size) for size in text.split(",")}))
    if sizes[0] < 3:
        raise argparse.ArgumentTypeError("a ring has three nodes at least")
    return sizes


if __name__ == "__main__":
    sys.exit(main())
