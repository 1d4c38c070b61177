"""How evenly data is spread, what one more node moves, how long that takes to compute.

A ring grows node by node, as real ones do, each with the tokens that production chooses for it: one data centre,
three racks in turn, a host for each node. At each size it is looked at, and then one more node joins it. What
that moves is counted exactly, over all ranges of the ring before and after: each copy that is on a node which
had none of it.

Times of computing are asked of the clock that is passed in; all else is the same on any machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final
from uuid import UUID

from ourodb.cluster.ring.allocation import choose_tokens
from ourodb.cluster.ring.model import Member
from ourodb.cluster.ring.placement import Placement, Ring
from ourodb.cluster.ring.tokens import TOKENS, tokens_between
from ourodb.ports import Clock, NodeId
from ourodb.schema.keyspaces import NETWORK_TOPOLOGY
from ourodb.schema.model import Replication
from ourodb.sim.scale.figures import PlacementFigures

RACKS: Final = 3
COPIES: Final = 3
DATA_CENTER: Final = "dc1"
TIMINGS: Final = 5
"""A time is taken so often and the least one counts: whatever else the machine does only adds to it."""


def measure_placement(
    sizes: Sequence[int], clock: Clock, progress: Callable[[str], None]
) -> Iterator[PlacementFigures]:
    """Grow a ring and look at it at these sizes, in ascending order."""
    members: list[Member] = []
    for size in sorted(sizes):
        progress(f"joins up to {size} nodes")
        while len(members) < size:
            members.append(joining(members))
        yield _look(members, clock)


def joining(members: Sequence[Member]) -> Member:
    """One more member of the ring."""
    number = len(members) + 1
    rack, host = f"rack{len(members) % RACKS + 1}", f"host{number}"
    tokens = choose_tokens(members, DATA_CENTER, rack, host)
    address = f"node{number}"
    return Member(
        NodeId(number), UUID(int=number), (address, 7000), (address, 9042), DATA_CENTER, rack, host, tokens
    )


def replication(copies: int) -> Replication:
    return Replication(NETWORK_TOPOLOGY, {DATA_CENTER: str(copies)})


def _look(members: Sequence[Member], clock: Clock) -> PlacementFigures:
    nodes = len(members)
    ring = Ring(members)
    newcomer = joining(members)
    after = Ring([*members, newcomer])
    racks = [sum(member.rack == rack for member in members) for rack in sorted({m.rack for m in members})]
    copies = replication(COPIES)
    choose_seconds, ring_seconds, place_seconds = _computing_seconds(members, copies, clock)
    return PlacementFigures(
        nodes=nodes,
        unevenness_primary=unevenness(ring, replication(1)),
        unevenness_replicated=unevenness(ring, copies),
        unevenness_racks=nodes / len(racks) / min(racks),
        moved=moved(ring.placement(copies), after.placement(copies)) / COPIES,
        moved_ideal=1 / (nodes + 1),
        choose_seconds=choose_seconds,
        ring_seconds=ring_seconds,
        place_seconds=place_seconds,
    )


def unevenness(ring: Ring, copies: Replication) -> float:
    """The greatest share of a node as a multiple of the mean."""
    shares = list(ring.ownership(copies).values())
    return max(shares) * len(shares) / sum(shares)


def moved(before: Placement, after: Placement) -> float:
    """How many copies of all data are on nodes that had none of it before."""
    tokens = 0
    for token_range in after.token_ranges():
        # A join only splits ranges: what is one range now was part of one range before.
        was = before.token_range_of(token_range.end)
        assert was is not None
        had = was.replicas.nodes
        gained = sum(node not in had for node in token_range.replicas.nodes)
        tokens += gained * tokens_between(token_range.start, token_range.end)
    return tokens / TOKENS


def _computing_seconds(
    members: Sequence[Member], copies: Replication, clock: Clock
) -> tuple[float, float, float]:
    """How long it takes to choose tokens for one more, to make a ring of these, and to make its first placement."""
    times_ns = []
    for _ in range(TIMINGS):
        began_ns = clock.monotonic_ns()
        joining(members)
        chosen_ns = clock.monotonic_ns()
        ring = Ring(members)
        made_ns = clock.monotonic_ns()
        ring.placement(copies)
        placed_ns = clock.monotonic_ns()
        times_ns.append((chosen_ns - began_ns, made_ns - chosen_ns, placed_ns - made_ns))
    choose_ns, ring_ns, place_ns = map(min, zip(*times_ns, strict=True))
    return choose_ns / 1e9, ring_ns / 1e9, place_ns / 1e9
