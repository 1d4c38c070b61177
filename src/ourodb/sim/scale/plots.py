"""Pictures of what was measured. They need matplotlib, which nothing else here does.

The number of nodes is on a logarithmic axis; targets are dashed. The pictures carry no date, so figures that are the
same give files that are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from ourodb.errors import OuroError
from ourodb.sim.scale.figures import (
    BYTES_PER_SECOND_MAX,
    CHANGE_ROUNDS_MAX,
    PLACEMENT_SECONDS_MAX,
    UNEVENNESS_MAX,
    Figures,
)

INSTALL: Final = "pip install --require-hashes -r requirements/scale.txt"

# Colours that people who don't tell red from green tell apart (Okabe and Ito 2008).
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"


class NoMatplotlib(OuroError):
    """The pictures can't be drawn here."""


def load() -> Any:
    """matplotlib's ``pyplot``, set to draw into files.

    Raises:
        NoMatplotlib: it isn't installed.
    """
    try:
        import_module("matplotlib").use("Agg")
        return import_module("matplotlib.pyplot")
    except ImportError as error:
        raise NoMatplotlib(f"plots need matplotlib; install it with: {INSTALL}") from error


def draw(figures: Figures, folder: Path) -> list[Path]:
    """All pictures, into the folder.

    Raises:
        NoMatplotlib: it isn't installed.
    """
    pyplot = load()
    pictures: list[tuple[str, Callable[[Any, Figures], None]]] = []
    if figures.gossip:
        pictures += [("news", _news), ("bytes", _bytes)]
    if figures.placement:
        pictures += [("balance", _balance), ("moved", _moved), ("computing", _computing)]
    paths = []
    for name, picture in pictures:
        figure, axes = pyplot.subplots(figsize=(7.2, 4.4), dpi=150, layout="constrained")
        picture(axes, figures)
        axes.grid(visible=True, which="major", color="#DDDDDD", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        path = folder / f"{name}.png"
        figure.savefig(path, metadata={"Software": None})
        pyplot.close(figure)
        paths.append(path)
    return paths


def _news(axes: Any, figures: Figures) -> None:
    sizes = [ring.nodes for ring in figures.gossip]
    for label, colour, spreads in (
        ("a change", BLUE, [ring.change for ring in figures.gossip]),
        ("a death", ORANGE, [ring.death for ring in figures.gossip]),
    ):
        median = [spread.median_rounds for spread in spreads]
        last = [spread.last_rounds for spread in spreads]
        axes.fill_between(sizes, median, last, color=colour, alpha=0.12, linewidth=0)
        axes.plot(sizes, last, color=colour, marker="o", label=f"{label}: the last node knows")
        axes.plot(
            sizes, median, color=colour, marker="o", markersize=4, linestyle=":", label=f"{label}: half know"
        )
    _target(axes, CHANGE_ROUNDS_MAX, "target for a change")
    axes.set_ylim(0, CHANGE_ROUNDS_MAX * 1.15)
    _titles(axes, sizes, "How long news takes", "rounds (of a second)")


def _bytes(axes: Any, figures: Figures) -> None:
    sizes = [ring.nodes for ring in figures.gossip]
    mean = [ring.bytes_per_second / 1_000 for ring in figures.gossip]
    busiest = [ring.bytes_per_second_busiest / 1_000 for ring in figures.gossip]
    axes.fill_between(sizes, mean, busiest, color=BLUE, alpha=0.12, linewidth=0)
    axes.plot(sizes, busiest, color=BLUE, marker="o", markersize=4, linestyle=":", label="the busiest node")
    axes.plot(sizes, mean, color=BLUE, marker="o", label="mean of all nodes")
    _target(axes, BYTES_PER_SECOND_MAX / 1_000, "target")
    axes.set_ylim(0, BYTES_PER_SECOND_MAX / 1_000 * 1.15)
    _titles(axes, sizes, "What gossip costs a node, sent and received", "kB a second")


def _balance(axes: Any, figures: Figures) -> None:
    sizes = [ring.nodes for ring in figures.placement]
    primary = [ring.unevenness_primary for ring in figures.placement]
    replicated = [ring.unevenness_replicated for ring in figures.placement]
    at_best = [ring.unevenness_racks for ring in figures.placement]
    axes.plot(sizes, primary, color=BLUE, marker="o", label="RF 1")
    axes.plot(sizes, replicated, color=ORANGE, marker="o", label="RF 3")
    axes.plot(sizes, at_best, color=GREY, linestyle=":", label="RF 3 at best: a rack may be a node short")
    _target(axes, UNEVENNESS_MAX, "target")
    axes.set_ylim(1, 1 + (UNEVENNESS_MAX - 1) * 1.6)
    _titles(axes, sizes, "How evenly data is spread (16 tokens, three racks)", "greatest share / mean share")


def _moved(axes: Any, figures: Figures) -> None:
    sizes = [ring.nodes for ring in figures.placement]
    axes.plot(
        sizes,
        [100 * ring.moved for ring in figures.placement],
        color=BLUE,
        marker="o",
        label="measured, RF 3",
    )
    axes.plot(
        sizes,
        [100 * ring.moved_ideal for ring in figures.placement],
        color=GREY,
        linestyle="--",
        label="ideal: 1/(N + 1)",
    )
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    _titles(axes, sizes, "What one more node moves", "% of all data")


def _computing(axes: Any, figures: Figures) -> None:
    sizes = [ring.nodes for ring in figures.placement]
    for label, colour, seconds in (
        ("tokens of one more node", ORANGE, [ring.choose_seconds for ring in figures.placement]),
        ("replicas of a keyspace", BLUE, [ring.place_seconds for ring in figures.placement]),
        ("the ring of all tokens", GREEN, [ring.ring_seconds for ring in figures.placement]),
    ):
        axes.plot(sizes, [1_000 * each for each in seconds], color=colour, marker="o", label=label)
    _target(axes, 1_000 * PLACEMENT_SECONDS_MAX, "target for a keyspace")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    _titles(axes, sizes, "How long placement takes to compute", "ms")


def _target(axes: Any, value: float, label: str) -> None:
    axes.axhline(value, color=GREY, linestyle="--", linewidth=1, label=label)


def _titles(axes: Any, sizes: Sequence[int], title: str, unit: str) -> None:
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.set_title(title, loc="left")
    axes.set_xlabel("nodes")
    axes.set_ylabel(unit)
