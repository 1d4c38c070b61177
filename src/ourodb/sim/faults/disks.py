"""What befalls disks."""

from __future__ import annotations

from ourodb.sim.disk import Conditions
from ourodb.sim.faults.hand import Hand, Script


def disk(hand: Hand) -> Script:
    """A disk becomes slow."""
    chance = hand.chance
    victim = chance.choice(hand.world.machines)
    conditions = victim.disk.conditions
    slow = {
        "sync_us": chance.between(1_000, 100_000),
        "sync_jitter_us": chance.between(0, 200_000),
        "fetch_us": chance.between(1_000, 50_000),
        "fetch_jitter_us": chance.between(0, 100_000),
        "later_one_in": chance.between(1, 2),
    }
    for name, value in slow.items():
        setattr(conditions, name, value)
    hand.world.tell(victim.name, f"has a slow disk: {slow}")
    yield hand.wait(1_000, 10_000)
    usual = Conditions()
    for name in slow:
        setattr(conditions, name, getattr(usual, name))
    hand.world.tell(victim.name, "has its disk's usual speed")


def full(hand: Hand) -> Script:
    """A disk is full, until there is room again."""
    victim = hand.chance.choice(hand.world.machines)
    # Its disk may be exchanged meanwhile.
    conditions = victim.disk.conditions
    if conditions.is_full:
        return
    conditions.is_full = True
    hand.world.tell(victim.name, "has a full disk")
    yield hand.wait(500, 5_000)
    conditions.is_full = False
    hand.world.tell(victim.name, "has room on its disk")


def fsync(hand: Hand) -> Script:
    """An fsync fails, after which a node writes nothing more until it is started again, and may find that what wasn't
    synced is lost: the kernel keeps no page that it couldn't write.
    """
    victim = hand.take_victim()
    if victim is None:
        return
    hand.world.tell(victim.name, "has a disk whose syncs fail")
    victim.disk.conditions.fails_syncs = True
    yield hand.wait(500, 4_000)
    victim.disk.conditions.fails_syncs = False
    victim.kill()
    hand.world.tell(victim.name, f"finds on its disk: {victim.disk.lose_unsynced()}")
    yield hand.wait(50, 1_000)
    victim.start()
    hand.release(victim)


def stall(hand: Hand) -> Script:
    """A storage engine refuses what it would have to stall for, now and then."""
    victim = hand.chance.choice(hand.world.machines)
    conditions = victim.disk.conditions
    conditions.refuses_settle_one_in = hand.chance.between(2, 20)
    hand.world.tell(victim.name, "has a store that refuses writes now and then")
    yield hand.wait(500, 5_000)
    conditions.refuses_settle_one_in = 0
    hand.world.tell(victim.name, "has a store that takes writes")
