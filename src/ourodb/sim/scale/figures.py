"""What was measured, and the targets that it is measured against.

A round is a second in a ring that isn't configured otherwise, so rounds are seconds here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec

from ourodb.errors import OuroError

CHANGE_ROUNDS_MAX: Final = 20
"""A change is known everywhere within so many."""
BYTES_PER_SECOND_MAX: Final = 50_000
"""What gossip may cost a node, sent and received together."""
PLACEMENT_SECONDS_MAX: Final = 1.0
"""All replicas of a keyspace are found in less."""
UNEVENNESS_MAX: Final = 1.15
"""The greatest share of a node, as a multiple of the mean, where racks are equal."""

FILE: Final = "figures.json"


class NoFigures(OuroError):
    """There are no figures to draw, or they are of another version of the program."""


@dataclass(frozen=True, slots=True)
class Spread:
    """How long nodes took to learn something, over all nodes and all things to learn.

    Attributes:
        median_rounds, last_rounds: of all observers.
        kilobytes: that a node sent and received until the last one knew, gossip as a whole.
    """

    median_rounds: float
    last_rounds: float
    kilobytes: float


@dataclass(frozen=True, slots=True)
class GossipFigures:
    """Gossip in one ring.

    Attributes:
        start: all nodes start at once, until each holds all others to be UP.
        bytes_per_second: that a node sends and receives in a ring that is left alone, and ``messages_per_second`` that
            it sends; the mean. There are heartbeats, and the loads of some nodes, which grow.
        bytes_per_second_busiest: of the node with the most, over ``quiet_rounds``.
        change: a few nodes say something new of themselves.
        death: a few machines vanish.
        false_downs_loss: how often in an hour a node that runs is held to be DOWN by anybody, with 1 % of all
            messages lost; over ``loss_node_hours``.
        false_downs_pauses: the same while some nodes pause for ten seconds now and then, not counting that these
            are held to be DOWN while they pause; over ``pause_node_hours``.
        return_rounds: from the end of a pause until everybody holds the node to be UP again; the last.
    """

    nodes: int
    start: Spread
    quiet_rounds: int
    bytes_per_second: float
    bytes_per_second_busiest: float
    messages_per_second: float
    change: Spread
    death: Spread
    loss_node_hours: float
    false_downs_loss: float
    pause_node_hours: float
    pauses: int
    false_downs_pauses: float
    return_rounds: float


@dataclass(frozen=True, slots=True)
class PlacementFigures:
    """Who holds what, in one ring of three racks with RF 3.

    Attributes:
        unevenness_primary, unevenness_replicated: greatest share / mean share, at RF 1 and RF 3.
        unevenness_racks: what the RF 3 one is at best, since a rack that is a node short holds as much as the others.
        moved: the part of all copies that is somewhere else after one more node has joined.
        moved_ideal: 1 / (nodes + 1).
        choose_seconds: to find the tokens of one more node.
        ring_seconds, place_seconds: to sort all tokens, and to find the replicas of all ranges of a keyspace.
    """

    nodes: int
    unevenness_primary: float
    unevenness_replicated: float
    unevenness_racks: float
    moved: float
    moved_ideal: float
    choose_seconds: float
    ring_seconds: float
    place_seconds: float


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything of one run; the sizes ascend."""

    seed: int
    gossip: tuple[GossipFigures, ...]
    placement: tuple[PlacementFigures, ...]

    def with_ring(self, ring: GossipFigures | PlacementFigures) -> Figures:
        """These, and one more ring's; it takes the place of an earlier one of its size."""
        if isinstance(ring, GossipFigures):
            gossip = {each.nodes: each for each in (*self.gossip, ring)}
            return replace(self, gossip=tuple(gossip[nodes] for nodes in sorted(gossip)))
        placement = {each.nodes: each for each in (*self.placement, ring)}
        return replace(self, placement=tuple(placement[nodes] for nodes in sorted(placement)))

    def missed(self) -> list[str]:
        """Targets that were not met, as sentences."""
        found = []
        for ring in self.gossip:
            if ring.change.last_rounds > CHANGE_ROUNDS_MAX:
                found.append(
                    f"{ring.nodes} nodes: a change took {ring.change.last_rounds:.1f} rounds,"
                    f" more than {CHANGE_ROUNDS_MAX}"
                )
            if ring.bytes_per_second_busiest > BYTES_PER_SECOND_MAX:
                found.append(
                    f"{ring.nodes} nodes: gossip cost a node {ring.bytes_per_second_busiest:.0f} bytes a second,"
                    f" more than {BYTES_PER_SECOND_MAX}"
                )
        for placed in self.placement:
            if placed.place_seconds >= PLACEMENT_SECONDS_MAX:
                found.append(f"{placed.nodes} nodes: placement took {placed.place_seconds:.2f} s")
            for copies, unevenness, at_best in (
                (1, placed.unevenness_primary, 1.0),
                (3, placed.unevenness_replicated, placed.unevenness_racks),
            ):
                if unevenness > UNEVENNESS_MAX * at_best:
                    found.append(
                        f"{placed.nodes} nodes: max/mean of shares at RF {copies} is {unevenness:.3f},"
                        f" more than {UNEVENNESS_MAX * at_best:.3f}"
                    )
        return found


def save(figures: Figures, folder: Path) -> None:
    """Into the folder's ``figures.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    text = msgspec.json.format(msgspec.json.encode(figures), indent=2).decode()
    (folder / FILE).write_text(text + "\n")


def load_or_none(folder: Path | None, seed: int) -> Figures:
    """What the folder has of this seed; none at all, if it has none or there is no folder."""
    if folder is not None:
        try:
            earlier = load(folder)
        except NoFigures:
            pass
        else:
            if earlier.seed == seed:
                return earlier
    return Figures(seed, (), ())


def load(folder: Path) -> Figures:
    """What ``save`` wrote.

    Raises:
        NoFigures: there is nothing that can be read.
    """
    path = folder / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Figures)
    except (OSError, msgspec.MsgspecError) as error:
        raise NoFigures(f"{path}: {error}") from error
