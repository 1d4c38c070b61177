"""Tables of what was measured, in Markdown, for the terminal and for the documentation.

A document has the tables between two marks; what stands around them is written by people and is left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ourodb.sim.scale.figures import (
    BYTES_PER_SECOND_MAX,
    CHANGE_ROUNDS_MAX,
    PLACEMENT_SECONDS_MAX,
    UNEVENNESS_MAX,
    Figures,
    GossipFigures,
    PlacementFigures,
)

DOCUMENT: Final = "README.md"
BEGIN: Final = "<!-- measured -->"
END: Final = "<!-- /measured -->"


def tables(figures: Figures) -> str:
    """All figures, a row for each size."""
    parts = []
    if figures.gossip:
        parts += [_news_table(figures.gossip), _mistakes_table(figures.gossip)]
    if figures.placement:
        parts.append(_placement_table(figures.placement))
    return "\n\n".join(parts) + "\n"


def write(figures: Figures, folder: Path) -> None:
    """Put the tables into the folder's document, between the marks; at its end when it has none."""
    path = folder / DOCUMENT
    text = path.read_text() if path.exists() else "# Sizes\n\n"
    before, mark, rest = text.partition(BEGIN)
    after = rest.partition(END)[2] if mark else "\n"
    path.write_text(f"{before}{BEGIN}\n\n{tables(figures)}\n{END}{after}")


def _news_table(rings: Sequence[GossipFigures]) -> str:
    rows = [
        (
            f"{ring.nodes:,}",
            f"{ring.start.last_rounds:.1f}",
            f"{ring.start.kilobytes:,.0f}",
            f"{ring.change.median_rounds:.1f} / **{ring.change.last_rounds:.1f}**",
            f"{ring.change.kilobytes:,.0f}",
            f"{ring.death.median_rounds:.1f} / **{ring.death.last_rounds:.1f}**",
            f"{ring.death.kilobytes:,.0f}",
            f"{ring.bytes_per_second / 1_000:.1f}",
            f"**{ring.bytes_per_second_busiest / 1_000:.1f}**",
            f"{ring.messages_per_second:.1f}",
        )
        for ring in rings
    ]
    return _table(
        (
            "nodes",
            "all are up, rounds",
            "kB by then",
            f"a change is known, median / last round (≤ {CHANGE_ROUNDS_MAX})",
            "kB by then",
            "a death is known, median / last round",
            "kB by then",
            "a quiet node, kB/s",
            f"the busiest, kB/s (≤ {BYTES_PER_SECOND_MAX // 1_000})",
            "messages/s",
        ),
        rows,
    )


def _mistakes_table(rings: Sequence[GossipFigures]) -> str:
    rows = [
        (
            f"{ring.nodes:,}",
            f"{ring.false_downs_loss:.2f}",
            f"{ring.loss_node_hours:.1f}",
            f"{ring.false_downs_pauses:.2f}",
            f"{ring.pauses} in {ring.pause_node_hours:.1f}",
            f"{ring.return_rounds:.2f}",
        )
        for ring in rings
    ]
    return _table(
        (
            "nodes",
            "false DOWNs per node-hour, 1 % loss",
            "node-hours",
            "false DOWNs per node-hour, 10 s pauses",
            "pauses in node-hours",
            "UP again everywhere, rounds",
        ),
        rows,
    )


def _placement_table(rings: Sequence[PlacementFigures]) -> str:
    rows = [
        (
            f"{ring.nodes:,}",
            f"**{ring.unevenness_primary:.3f}**",
            f"**{ring.unevenness_replicated:.3f}** ({ring.unevenness_racks:.3f})",
            f"{100 * ring.moved:.3f} %",
            f"{100 * ring.moved_ideal:.3f} %",
            f"{1_000 * ring.choose_seconds:,.0f}",
            f"{1_000 * ring.ring_seconds:,.1f}",
            f"**{1_000 * ring.place_seconds:,.1f}**",
        )
        for ring in rings
    ]
    return _table(
        (
            "nodes",
            f"max/mean, RF 1 (≤ {UNEVENNESS_MAX})",
            "max/mean, RF 3 (at best, with these racks)",
            "one more node moves",
            "ideal, 1/(N+1)",
            "its tokens, ms",
            "the ring, ms",
            f"a keyspace, ms (< {1_000 * PLACEMENT_SECONDS_MAX:,.0f})",
        ),
        rows,
    )


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---:"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
