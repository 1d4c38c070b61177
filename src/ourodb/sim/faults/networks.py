"""What befalls the network between nodes, and between them and clients."""

from __future__ import annotations

from collections.abc import Sequence

from ourodb.sim.faults.hand import Hand, Script
from ourodb.sim.faults.paths import PARTITIONS, around, between, one_way_paths, shown
from ourodb.sim.network import Impairment, Latency, Path


def partition(hand: Hand) -> Script:
    """The network falls apart."""
    paths = hand.chance.choice(PARTITIONS)(hand.places(), hand.chance)
    yield from _cut(hand, paths, 300, 8_000)


def one_way(hand: Hand) -> Script:
    """Paths are cut one way only."""
    yield from _cut(hand, one_way_paths(hand.places(), hand.chance), 300, 8_000)


def flap(hand: Hand) -> Script:
    """A partition comes and goes."""
    paths = hand.chance.choice(PARTITIONS)(hand.places(), hand.chance)
    for _ in range(hand.chance.between(3, 10)):
        yield from _cut(hand, paths, 20, 1_500)
        yield hand.wait(20, 1_500)


def clients(hand: Hand) -> Script:
    """Clients don't see a node that the other nodes see."""
    seen = hand.world.client_places()
    victim = hand.chance.choice(hand.world.machines)
    some = hand.chance.sample(seen, hand.chance.between(1, len(seen))) if seen else []
    paths = between([victim.index], some)
    if hand.chance.one_in(3):
        # Only the answers are lost.
        paths = [path for path in paths if path[0] == victim.index]
    yield from _cut(hand, paths, 300, 6_000)


def dc(hand: Hand) -> Script:
    """The link of a data centre is cut, or bad; of a machine, where there is only one data centre."""
    machines, chance = hand.world.machines, hand.chance
    here = chance.choice(sorted({machine.data_center for machine in machines}))
    inside = [machine.index for machine in machines if machine.data_center == here]
    outside = [machine.index for machine in machines if machine.data_center != here]
    if not outside:
        inside, outside = inside[:1], inside[1:]
    paths = between(inside, outside)
    drawn = chance.below(4)
    if drawn < 2:
        yield from _cut(hand, paths, 300, 8_000)
    elif drawn == 2:
        yield from _impair(hand, paths, _slowness(hand))
    else:
        yield from _impair(hand, paths, Impairment(lost_permille=chance.between(50, 400)))


def slow(hand: Hand) -> Script:
    """Paths become slow, and some messages very late."""
    paths = around(hand.places(), hand.chance)
    yield from _impair(hand, paths, _slowness(hand))


def loss(hand: Hand) -> Script:
    """Packets are lost, some or most: what they carried comes late, or not at all and the connection breaks."""
    lost = Impairment(lost_permille=hand.chance.choice((10, 50, 200, 500, 800)))
    yield from _impair(hand, around(hand.places(), hand.chance), lost)


def clog(hand: Hand) -> Script:
    """Little passes: all stands behind what was sent before, whatever connection it is of."""
    narrow = Impairment(bytes_per_second=hand.chance.choice((1_000, 5_000, 20_000, 100_000)))
    yield from _impair(hand, around(hand.places(), hand.chance), narrow)


def reset(hand: Hand) -> Script:
    """Connections break, now this one and then that one."""
    for _ in range(hand.chance.between(1, 20)):
        connections = hand.world.network.connections()
        if connections:
            hand.chance.choice(connections).reset()
        yield hand.wait(10, 500)


def _slowness(hand: Hand) -> Impairment:
    base_us = hand.chance.choice((1_000, 20_000, 150_000))
    return Impairment(slowness=Latency(base_us, base_us, 20, 4 * base_us, 3))


def _impair(hand: Hand, paths: Sequence[Path], impairment: Impairment) -> Script:
    network = hand.world.network
    hand.world.tell("network", f"impaired: {shown(paths)} by {impairment}")
    network.impair(paths, impairment)
    yield hand.wait(500, 8_000)
    hand.disturb()
    network.mend(paths, impairment)
    hand.world.tell("network", f"mended: {shown(paths)}")


def _cut(hand: Hand, paths: Sequence[Path], least_ms: int, most_ms: int) -> Script:
    if not paths:
        return
    network = hand.world.network
    hand.world.tell("network", f"cut: {shown(paths)}")
    network.cut(paths)
    yield hand.wait(least_ms, most_ms)
    hand.disturb()
    network.heal(paths)
    hand.world.tell("network", f"healed: {shown(paths)}")
